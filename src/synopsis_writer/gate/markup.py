"""Checks of what does not belong into prose: markup, and talk about the text itself."""

import re
from dataclasses import replace

from synopsis_writer.gate.cast import occupation
from synopsis_writer.gate.copies import name_forms
from synopsis_writer.gate.finding import Finding, Subject, failed, passed, quoted, shortened
from synopsis_writer.gate.fixes import counted, listed
from synopsis_writer.gate.lexicon import own_words
from synopsis_writer.gate.text import Sentence, Span, Text, lower_words

_PATTERNS = (
    ("a list", r"^[ \t]*[-*•·‣▪–][ \t]+\S"),
    ("a list", r"(?:(?<=:\n)|(?<=:\n\n))[ \t]*(?:\d{1,2}[.)]|[a-z]\))[ \t]+[A-ZÄÖÜ„]"),
    ("a list", r"^[ \t]*(?:\d{1,2}[.)]|[a-z]\))[ \t]+[A-ZÄÖÜ„](?=[^\n]*\n\s*(?:\d{1,2}[.)]|[a-z]\))[ \t]+[A-ZÄÖÜ„])"),
    ("a heading", r"^[ \t]*#{1,6}[ \t]+\S"),
    ("a heading", r"(?:\A|(?<=\n\n))(?=.*\w)[^\n]{1,80}(?<![\s.!?…“”\"»«):;,])(?=[ \t]*\n[ \t]*\n)"),
    ("bold or code marks", r"\*\*[^*\n]+\*\*|__[^_\n]+__|(?<![\w*])\*[^*\s][^*\n]*\*(?!\w)|`[^`\n]+`|```|~~"),
    ("HTML", r"</?[a-zA-Z][^<>\n]{0,200}>|&(?:[a-z]{2,8}|#\d+);|<!--"),
    ("JSON", r"[{}]|\[\s*\"|\"\s*:\s*[\"\[{]|\\[nu\"]"),
    ("a speaker label", r"^[ \t]*(?:[A-ZÄÖÜ .]{3,30}|[A-ZÄÖÜ][\w.-]*(?: [A-ZÄÖÜ][\w.-]*){0,2} \([^)]{1,40}\)):[ \t]+[„\"A-ZÄÖÜ]"),
    ("a script direction", r"^[ \t]*(?:INT|EXT|INNEN|AUSSEN|AUßEN)[ ./].*$|^[ \t]*\([^()\n]+\)[ \t]*$"),
    ("an emoji or symbol", "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u20e3]"),
    ("a hashtag", r"(?<!\w)#\w+"),
    ("a link", r"(?<!\w)@\w+|https?://\S+|www\.\S+|\b\w+\.(?:de|com|org|net)\b|\[[^\[\]\n]*\]\([^()\n]*\)"),
    ("an invisible or control character", "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ue000-\uf8ff\ufff9-\uffff]"),
    ("a rule or table", r"^[ \t]*[-–—_=*]{3,}[ \t]*$|\|.*\|"),
)  # fmt: skip

# "Fehlalarm: Im Keller …" is prose; "Bruno: Komm her." and "Arzt: „Nein.“" are lines of a script.
_LABEL = re.compile(
    r"^[ \t]*(?![A-ZÄÖÜ .]{3,30}:)([A-ZÄÖÜ][\w.-]*(?: [A-ZÄÖÜ][\w.-]*){0,2}):[ \t]+(?=([„»«\"])|[A-ZÄÖÜ])",
    re.MULTILINE,
)

_MARKUP = tuple((name, re.compile(pattern, re.MULTILINE)) for name, pattern in _PATTERNS)

# By the house's quotation marks: all others, and these the wrong way round. A word may begin with an apostrophe.
_STRAIGHT = r"(?<!\w)\"|\"(?!\w)"
_OTHER_MARKS = {
    marks: (
        f"quotation marks other than {marks[0]} {marks[1]}",
        re.compile(rf"{others}|(?<!\w)'\w[^'\n]*'(?!\w)"),
    )
    for marks, others in {
        "„“": rf"“[^“”„\n]*”|{_STRAIGHT}|»|«",
        "»«": rf"[„“”]|{_STRAIGHT}|«(?=\w)|(?<=[\w.!?…,])»",
        "«»": rf"[„“”]|{_STRAIGHT}|»(?=\w)|(?<=[\w.!?…,])«",
        "“”": rf"[„»«]|{_STRAIGHT}",
        '""': r"[„“”»«]",
    }.items()
}


def markup(subject: Subject) -> Finding:
    """The text is plain prose: no lists, headings, tags, labels, symbols, links, or invisible characters.

    What code can put right and nothing refuses is a warning.
    """
    patterns = (*_MARKUP, _OTHER_MARKS[subject.house.quotation_marks])
    matches = [(name, match) for name, pattern in patterns for match in pattern.finditer(subject.text.raw)]
    names = name_forms(subject.known_names) | subject.text.names | own_words("first names")
    labels = list(_LABEL.finditer(subject.text.raw))
    for match in labels:
        label = lower_words(match[1])
        if len(labels) > 1 or not names.isdisjoint(label) or (match[2] and occupation(label[-1])):
            matches.append(("a speaker label", match))
    if not matches and not subject.fixes:
        return passed("markup", 0, "none", "The text is plain prose.")
    if not matches:
        message = f"To be put right: {listed(counted(subject.fixes))}."
        finding = failed("markup", len(subject.fixes), "none", message, [fix.span for fix in subject.fixes])
        return replace(finding, level="warning", fixes=subject.fixes)
    kinds = " and ".join(list(dict.fromkeys(name for name, _ in matches))[:3])
    spans = [Span(*match.span()) for _, match in matches]
    finding = failed("markup", len(spans), "none", f"The text holds {kinds}: write plain prose.", spans)
    return replace(finding, fixes=subject.fixes)


_WRITING = r"(?:Inhaltsangabe|Zusammenfassung|Synopsis|Text|Fassung|Variante|Vorschau|Entwurf|Teaser|Porträt)"

# What is said of a text that is meant, not of one in the story.
_OF_TEXTS = (
    r"(?:umfasst|fasst|enthält|beschreibt|schildert|basiert|berücksichtigt|entspricht|erzählt die|hält sich|dient|hat rund"
    r"|wurde (?:von|mit|auf|im)|steht im|ist im|ist als|folgt|erfüllt|gibt einen)"
)

_META = (
    # talk about the text
    r"\bin (?:dieser|der heutigen|der nächsten|der kommenden) (?:Folge|Episode|Vorschau)\b",
    rf"\bdiese[rnms]? (?:{_WRITING}|Textentwurf|Logline) {_OF_TEXTS}\b|\b(?:Logline|Textentwurf):",
    r"\b(?:diese[rnms]?|(?:der|die|den) (?:folgenden?|obigen?|gewünschten?|vorliegenden?)) (?:Inhaltsangabe|Synopsis|Zusammenfassung|Text)\b(?=.{0,80}(?:KI|Folge|Serie|Episode|Vorgabe|Wörter|Auftrag|Präsens))",
    r"\b(?:die|eine|deine|Ihre) (?:folgende|obige|gewünschte) (?:Inhaltsangabe|Synopsis|Zusammenfassung)\b|\b(?:Inhaltsangabe|Synopsis|Zusammenfassung) (?:zur|der|dieser) (?:\w+ )?(?:Folge|Episode|Serie)\b",
    r"\b(?:Ende|Beginn) der (?:Inhaltsangabe|Synopsis|Zusammenfassung)\b|^\W{0,3}(?:Inhaltsangabe|Synopsis|Zusammenfassung|Logline|Textentwurf)\W{0,3}$",
    r"\b(?:diese|die) Episode (?:endet|beginnt|erzählt|handelt|zeigt|dreht sich|spielt|bringt|trägt den|heißt)\b",
    r"\b(?:der folgende|ein möglicher) Text\b",
    r"\bZuschauerinnen und Zuschauer (?:dürfen|erwartet|erfahren|können|werden)|\b(?:unsere|liebe)[rn]? Zuschauer|\bZuschauer (?:dürfen (?:sich|gespannt)|können sich|erwartet (?:eine? )?(?:viel|spannend|emotional|dramatisch|turbulent|packend|aufregend|neue|Folge|Finale|Woche))",
    r"\A[^\n]{1,200}:[ \t]*$",
    r"^[^\w\n]{0,2}(?:Ende|Fin|The End|Fortsetzung folgt)[^\w\n]{0,3}$",
    r"\b(?:im|ins) (?:Präsens|Präteritum)\b|\b(?:Wortzahl|Wortanzahl|Anzahl der Wörter|(?:rund|etwa|circa|ca\.|genau|insgesamt|mit) \d{2,} Wörtern?|\d{3,} Wörter)\b",
    # talk about the writer
    r"\b(?:als|bin) (?:eine? )?(?:KI|Sprachmodell|künstliche Intelligenz|(?:künstlicher?|digitaler?|virtueller?|KI-)[ -]?Assistent(?:in)?)\b",
    rf"\b(?:Hier (?:ist|sind|kommt|folgt)|Gerne?[!,]|Natürlich[!,]|Selbstverständlich[!,]|Klar[!,])(?=.{{0,60}}{_WRITING})",
    r"\bIch hoffe,? (?:der Text|das|die|dies)\b|\bLass(?:en Sie)? (?:es )?mich wissen\b|\bgefällt (?:dir|Ihnen)\b",
    rf"\b{_WRITING}\b[^.!?\n]{{0,60}}\b(?:wie gewünscht|wunschgemäß|(?:laut|gemäß) (?:dem )?Auftrag)\b|\b(?:wie gewünscht|wunschgemäß|(?:laut|gemäß) (?:dem )?Auftrag)\b[^.!?\n]{{0,60}}\b{_WRITING}\b",
    r"\b(?:sind|wurden|werden|habe ich) (?:damit |somit |hier |dabei |nun )?(?:alle|sämtliche) (?:deine |Ihre |genannten )?Vorgaben (?:des Auftrags )?(?:erfüllt|eingehalten|berücksichtigt|umgesetzt)\b",
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
