"""Checks of what does not belong into prose: markup, and talk about the text itself."""

import re

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.text import Span

_PATTERNS = (
    ("a list", r"^[ \t]*(?:[-*•·‣▪–][ \t]+\S|\d{1,2}[.)][ \t]+[A-ZÄÖÜ„])"),
    ("a heading", r"^[ \t]*#{1,6}[ \t]+\S"),
    ("bold or code marks", r"\*\*[^*\n]+\*\*|__[^_\n]+__|(?<![\w*])\*[^*\s][^*\n]*\*(?!\w)|`[^`\n]+`|```|~~"),
    ("HTML", r"</?[a-zA-Z][^<>\n]{0,200}>|&(?:[a-z]{2,8}|#\d+);|<!--"),
    ("JSON", r"[{}]|\[\s*\"|\"\s*:\s*[\"\[{]|\\[nu\"]"),
    ("a speaker label", r"^[ \t]*(?:[A-ZÄÖÜ][\w.-]*(?: [A-ZÄÖÜ][\w.-]*){0,2}|[A-ZÄÖÜ .]{3,30})(?: \([^)]{1,40}\))?:[ \t]+[„\"A-ZÄÖÜ]"),
    ("a script direction", r"^[ \t]*(?:INT|EXT|INNEN|AUSSEN|AUßEN)[ ./].*$|^[ \t]*\([^()\n]+\)[ \t]*$"),
    ("an emoji or symbol", "[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u20e3]"),
    ("a hashtag", r"(?<!\w)#\w+"),
    ("a link", r"(?<!\w)@\w+|https?://\S+|www\.\S+|\b\w+\.(?:de|com|org|net)\b|\[[^\]\n]*\]\([^)\n]*\)"),
    ("an invisible or control character", "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ue000-\uf8ff\ufff9-\uffff]"),
    ("quotation marks other than „ “", r"“[^“”„\n]*”|(?<!\w)\"|\"(?!\w)|(?<!\w)'(?=\w)|»|«"),
    ("a rule or table", r"^[ \t]*[-–—_=*]{3,}[ \t]*$|\|.*\|"),
)  # fmt: skip
_MARKUP = tuple((name, re.compile(pattern, re.MULTILINE)) for name, pattern in _PATTERNS)


def markup(subject: Subject) -> Finding:
    """The text is plain prose: no lists, headings, tags, labels, symbols, links, or invisible characters."""
    found: list[tuple[str, Span]] = [
        (name, Span(*match.span()))
        for name, pattern in _MARKUP
        for match in pattern.finditer(subject.text.raw)
    ]
    if not found:
        return passed("markup", 0, "none", "The text is plain prose.")
    names = " and ".join(list(dict.fromkeys(name for name, _ in found))[:3])
    return failed(
        "markup",
        len(found),
        "none",
        f"The text holds {names}: write plain prose.",
        [span for _, span in found],
    )


_META = (
    # talk about the text
    r"\bin (?:dieser|der heutigen|der nächsten|der kommenden) (?:Folge|Episode|Inhaltsangabe|Zusammenfassung|Vorschau)\b",
    r"\bdie(?:se|ser|sen|sem)? (?:Synopsis|Inhaltsangabe|Zusammenfassung|Episode|Textentwurf|Logline)\b",
    r"\b(?:dieser|der folgende|mein|ein möglicher) Text\b",
    r"\b(?:Die|Den|Unsere[rn]?) Zuschauer(?:innen)?\b",
    # talk about the writer
    r"\b(?:als|bin) (?:eine? )?(?:KI|Sprachmodell|künstliche Intelligenz|Assistent(?:in)?)\b",
    r"\b(?:Hier (?:ist|sind|kommt|folgt)|Gerne?[!,]|Natürlich[!,]|Selbstverständlich[!,]|Klar[!,])(?=.{0,60}(?:Synopsis|Inhaltsangabe|Text|Vorschau|Entwurf|Zusammenfassung|Teaser|Porträt))",
    r"\bIch hoffe,? (?:der Text|das|die|dies)\b|\bLass(?:en Sie)? (?:es )?mich wissen\b|\bgefällt (?:dir|Ihnen)\b",
    r"\b(?:Anmerkung|Hinweis|Notiz|Note) ?:",
    r"\b(?:wie gewünscht|wunschgemäß|laut Auftrag|gemäß (?:dem )?Auftrag|der Auftrag lautet)\b",
    # words of the prompt
    r"\b(?:Serie|Thema|Titel|Figuren|Logline|Form|Szenen|Wörter|Strang [ABC]|Storyline|Charaktere|Genre|Setting|Beispiel \d+) ?:",
    r"</?auftrag>|\bstorylines?\b|\bparagraphs\b|\bJSON\b|\b(?:der|den|dem|im|diese[rmn]) (?-i:Prompt)\b",
    r"<\|?[a-z_]+\|?>|\[/?INST\]|<</?SYS>>|^(?:system|user|assistant)\b:?",
)  # fmt: skip
_META_TALK = re.compile("|".join(_META), re.IGNORECASE | re.MULTILINE)


def meta_talk(subject: Subject) -> Finding:
    """The text speaks of its story, never of itself, its writer or its prompt."""
    found = list(_META_TALK.finditer(subject.text.raw))
    if not found:
        return passed("meta_talk", 0, "none", "The text speaks of nothing but its story.")
    said = quoted([match[0].strip() for match in found])
    message = f"The text talks about itself or its prompt: {said}."
    return failed("meta_talk", len(found), "none", message, [Span(*match.span()) for match in found])
