"""Checks of what does not belong into prose: markup, and talk about the text itself."""

import re

from synopsis_writer.gate.finding import Finding, Subject, failed, passed, quoted, shortened
from synopsis_writer.gate.text import Sentence, Span, Text

_PATTERNS = (
    ("a list", r"^[ \t]*(?:[-*•·‣▪–][ \t]+\S|\d{1,2}[.)][ \t]+[A-ZÄÖÜ„])"),
    ("a heading", r"^[ \t]*#{1,6}[ \t]+\S"),
    ("a heading", r"(?:\A|(?<=\n\n))(?=.*\w)[^\n]{1,80}(?<![\s.!?…“”\"»«):;,])(?=[ \t]*\n[ \t]*\n)"),
    ("bold or code marks", r"\*\*[^*\n]+\*\*|__[^_\n]+__|(?<![\w*])\*[^*\s][^*\n]*\*(?!\w)|`[^`\n]+`|```|~~"),
    ("HTML", r"</?[a-zA-Z][^<>\n]{0,200}>|&(?:[a-z]{2,8}|#\d+);|<!--"),
    ("JSON", r"[{}]|\[\s*\"|\"\s*:\s*[\"\[{]|\\[nu\"]"),
    ("a speaker label", r"^[ \t]*(?:[A-ZÄÖÜ][\w.-]*(?: [A-ZÄÖÜ][\w.-]*){0,2}|[A-ZÄÖÜ .]{3,30})(?: \([^)]{1,40}\))?:[ \t]+[„\"A-ZÄÖÜ]"),
    ("a script direction", r"^[ \t]*(?:INT|EXT|INNEN|AUSSEN|AUßEN)[ ./].*$|^[ \t]*\([^()\n]+\)[ \t]*$"),
    ("an emoji or symbol", "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u20e3]"),
    ("a hashtag", r"(?<!\w)#\w+"),
    ("a link", r"(?<!\w)@\w+|https?://\S+|www\.\S+|\b\w+\.(?:de|com|org|net)\b|\[[^\[\]\n]*\]\([^()\n]*\)"),
    ("an invisible or control character", "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ue000-\uf8ff\ufff9-\uffff]"),
    ("a rule or table", r"^[ \t]*[-–—_=*]{3,}[ \t]*$|\|.*\|"),
)  # fmt: skip

_MARKUP = tuple((name, re.compile(pattern, re.MULTILINE)) for name, pattern in _PATTERNS)

# By the house's quotation marks: all others, and these the wrong way round. A word may begin with an apostrophe.
_STRAIGHT = r"(?<!\w)\"|\"(?!\w)"
_OTHER_MARKS = {
    marks: (f"quotation marks other than {marks[0]} {marks[1]}", re.compile(rf"{others}|(?<!\w)'(?=\w)"))
    for marks, others in {
        "„“": rf"“[^“”„\n]*”|{_STRAIGHT}|»|«",
        "»«": rf"[„“”]|{_STRAIGHT}|«(?=\w)|(?<=[\w.!?…,])»",
        "«»": rf"[„“”]|{_STRAIGHT}|»(?=\w)|(?<=[\w.!?…,])«",
        "“”": rf"[„»«]|{_STRAIGHT}",
        '""': r"[„“”»«]",
    }.items()
}


def markup(subject: Subject) -> Finding:
    """The text is plain prose: no lists, headings, tags, labels, symbols, links, or invisible characters."""
    patterns = (*_MARKUP, _OTHER_MARKS[subject.house.quotation_marks])
    matches = [(name, match) for name, pattern in patterns for match in pattern.finditer(subject.text.raw)]
    if not matches:
        return passed("markup", 0, "none", "The text is plain prose.")
    names = " and ".join(list(dict.fromkeys(name for name, _ in matches))[:3])
    spans = [Span(*match.span()) for _, match in matches]
    return failed("markup", len(spans), "none", f"The text holds {names}: write plain prose.", spans)


_WRITING = r"(?:Inhaltsangabe|Zusammenfassung|Synopsis|Text|Fassung|Variante|Vorschau|Entwurf|Teaser|Porträt)"

_META = (
    # talk about the text
    r"\bin (?:dieser|der heutigen|der nächsten|der kommenden) (?:Folge|Episode|Vorschau)\b",
    r"\b(?:Inhaltsangabe|Synopsis|Textentwurf|Logline)\b|\bdie(?:se|ser|sen|sem)? (?:folgende |obige )?(?:Zusammenfassung|Episode)\b",
    r"\b(?:dieser|der folgende|ein möglicher) Text\b",
    r"\bZuschauerinnen und Zuschauer|\b(?:unsere|liebe)[rn]? Zuschauer|\bZuschauer (?:dürfen|erwartet|erfahren|können sich)\b",
    r"\A[^\n]{1,200}:[ \t]*$",
    r"^[^\w\n]{0,2}(?:Ende|Fin|The End|Fortsetzung folgt)[^\w\n]{0,3}$",
    r"\b(?:Präsens|Präteritum|Wortzahl|Wortanzahl|Anzahl der Wörter|\d+ Wörter)\b",
    # talk about the writer
    r"\b(?:als|bin) (?:eine? )?(?:KI|Sprachmodell|künstliche Intelligenz|Assistent(?:in)?)\b",
    rf"\b(?:Hier (?:ist|sind|kommt|folgt)|Gerne?[!,]|Natürlich[!,]|Selbstverständlich[!,]|Klar[!,])(?=.{{0,60}}{_WRITING})",
    r"\bIch hoffe,? (?:der Text|das|die|dies)\b|\bLass(?:en Sie)? (?:es )?mich wissen\b|\bgefällt (?:dir|Ihnen)\b",
    r"\b(?:wie gewünscht|wunschgemäß|laut Auftrag|gemäß (?:dem )?Auftrag|der Auftrag lautet|Vorgaben (?:erfüllt|eingehalten|berücksichtigt))\b",
    # words of the prompt
    r"^[^\w\n]*(?:Serie|Thema|Titel|Figuren|Logline|Form|Szenen|Wörter|Strang [ABC]|Storyline|Charaktere|Genre|Setting|Beispiel \d+)\W{0,3}:",
    r"^[^\w\n]*(?:Anmerkung|Hinweis|Notiz|Note)\W{0,3}:",
    r"</?auftrag>|\bstorylines?\b|\bparagraphs\b|\bJSON\b|\b(?:der|den|dem|im|diese[rmn]) (?-i:Prompt)\b",
    r"<[/|]?[a-z_]+\|?>|\[/?INST\]|<</?SYS>>|^(?:system|user|assistant|model)(?::|[ \t]*$)|^#+ ?(?:Response|Instruction|Input|Output|Antwort)\b",
)  # fmt: skip

_META_TALK = re.compile("|".join(_META), re.IGNORECASE | re.MULTILINE)

# A writer who says "ich", "mir" or "Sie" outside quotations, and speaks of the task.
_WRITER = re.compile(
    r"\b(?:[Ii]ch|[Mm]ir|[Mm]ich|[Mm]eine?[nrms]?|[Ww]ir)\b|(?<=[\w,] )(?:Sie|Ihnen|Ihre[nrm]?)\b"
)

_TASK = re.compile(
    rf"\b(?:{_WRITING}|Version|Vorschlag|Vorgaben|Aufgabe|Anfrage|Angaben|Richtlinien|Mängel|Folge|Serie)\b"
    r"|\b(?:KI|Assistent|Sprachmodell|Wissensstand)\b|\b(?:verfass|formulier|weiterhelf)\w+|\b[Gg]erne? \w+ ich\b"
)


def meta_talk(subject: Subject) -> Finding:
    """The text speaks of its story, never of itself, its writer or its prompt."""
    text = subject.text
    spans = [Span(*match.span()) for match in _META_TALK.finditer(text.raw)]
    spans += [sentence.span for sentence in text.sentences if _is_writers(text, sentence)]
    if not spans:
        return passed("meta_talk", 0, "none", "The text speaks of nothing but its story.")
    passages = quoted([shortened(text.raw[start:end].strip()) for start, end in spans])
    message = f"The text talks about itself or its prompt: {passages}."
    return failed("meta_talk", len(spans), "none", message, spans)


def _is_writers(text: Text, sentence: Sentence) -> bool:
    return _TASK.search(sentence.text) is not None and any(
        not text.is_quoted(sentence.span.start + match.start()) for match in _WRITER.finditer(sentence.text)
    )
