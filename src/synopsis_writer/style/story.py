"""Checks of the story: the brief's theme turns up, and no date that the brief does not give."""

import re

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.lexicon import LONGEST_WORD, is_content, stem
from synopsis_writer.style.text import Span, analyse

THEME_SHARE = 0.5  # share of the theme's content words that must turn up
_SHORTEST_STEM = 4


def theme(subject: Subject) -> Finding | None:
    """The content words of the brief's theme turn up, inflected or in compounds."""
    if subject.brief is None:
        return None
    wanted = theme_words(subject.brief.theme)
    stems = {stem(word) for word in subject.text.counts if len(word) <= LONGEST_WORD}
    found = [word for word in wanted if _turns_up(stem(word), stems)]
    share = len(found) / len(wanted) if wanted else 1.0
    limit = f"at least {THEME_SHARE:.0%} of the theme's words"
    if share >= THEME_SHARE:
        return passed("theme", share, limit, f"{len(found)} of {len(wanted)} words of the theme turn up.")
    missing = [word for word in wanted if word not in found]
    return failed("theme", share, limit, f"The theme is hardly told: {quoted(missing)} are missing.")


def theme_words(line: str) -> list[str]:
    """Return the distinct content words of a theme, in lower case; all words when none carries content."""
    words = list(dict.fromkeys(word.lower for word in analyse(line).words))
    return [word for word in words if is_content(word)] or words


def _turns_up(wanted: str, stems: set[str]) -> bool:
    """Whether a stem stands alone, within a compound, or as a part of the wanted compound."""
    if wanted in stems:
        return True
    if len(wanted) < _SHORTEST_STEM:
        return False
    return any(
        wanted in other or (len(other) > _SHORTEST_STEM and wanted.startswith(other)) for other in stems
    )


_MONTHS = "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
_DAYS = (
    "ersten|zweiten|dritten|siebten|achten|(?:vier|fünf|sechs|neun|zehn|elf|zwölf|drei|sieb|sech|acht)(?:zehn)?ten"
    "|(?:ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun)?(?:und)?(?:zwanzig|dreißig)sten"
)
_CHANNELS = (
    r"ARD|ZDF(?:neo|info)?|MDR|NDR|WDR|SWR|RBB|ORF|SRF|3sat|RTL ?(?:ZWEI|II|\+)?|S[Aa][Tt]\.? ?1|V(?:OX|ox)"
    r"|ProSieben|Kabel eins|ServusTV|Das Erste|im Ersten(?! [A-Z])"
    r"|Netflix|Joyn|TVNOW|Disney\+|Prime Video|YouTube"
)
_ABOUT = "Anfang|Mitte|Ende|Frühjahr|Frühling|Sommer|Herbst|Winter|Advent|Jahre?|[Ss]eit"
_YEAR = re.compile(rf"(?:{_ABOUT}) (\d{{4}})")
_DATES = re.compile(
    rf"\b\d{{1,2}}\.\s?(?:(?:{_MONTHS})\b|\d{{1,2}}\.(?:\s?\d{{2,4}})?)(?:\s\d{{4}})?"
    rf"|\b(?:{_DAYS}) (?:{_MONTHS})\b|\b(?:{_MONTHS}) (?:19|20)\d\d\b|\b\d{{4}}-\d{{2}}-\d{{2}}\b"
    rf"|\b(?:{_ABOUT}) (?:19|20)\d\d\b"
    r"|\b(?:KW|Kalenderwoche) ?\d{1,2}\b"
    r"|\b(?:Folge|Episode|Staffel) \d+\b|\b\d+\.? (?:Folge|Staffel|Episode)\b"
    rf"|\b(?:{_CHANNELS})(?!\w)|\b\w{{0,30}}[Mm]ediathek\b"
    r"|\b(?:Staffel|Serien)(?:finale|start|auftakt)s?\b|\b(?:Erst|TV-)ausstrahlung\b|\bDoppelfolgen?\b"
    r"|\bStaffel (?:eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn)\b"
)


def dates(subject: Subject) -> Finding | None:
    """No date, channel, season or episode number that the brief does not give."""
    if subject.brief is None:
        return None
    given = " ".join(str(value) for value in subject.brief.as_data().values())
    found = [match for match in _DATES.finditer(subject.text.raw) if not _is_given(match[0], given)]
    if not found:
        return passed("dates", 0, "none but the brief's", "The text names no date or channel of its own.")
    message = f"The brief gives no such date, channel or number: {quoted([match[0] for match in found])}."
    return failed(
        "dates", len(found), "none but the brief's", message, [Span(*match.span()) for match in found]
    )


def _is_given(found: str, given: str) -> bool:
    """Whether the brief gives a date; of `Sommer 1975` the year is enough."""
    year = _YEAR.fullmatch(found)
    return found in given or (year is not None and year[1] in given)
