"""The check of agreement: the article or pronoun before a noun has its gender, and its preposition's case."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.nouns import Gender, gender
from synopsis_writer.style.tagger import NOUN
from synopsis_writer.style.text import Span, Text, Word

MOST_WRONG = 2  # pairs; the rule errs about once in twenty texts
_DETERMINERS = frozenset(("ART", "PPOSAT", "PDAT", "PIAT", "APPRART"))
_ADJECTIVE = "ADJ(A)"
_MOST_ADJECTIVES = 2
_ENDINGS = {"der": "er", "die": "e", "das": "es", "dem": "em", "den": "en", "des": "s"}
_RELATIVE = frozenset(_ENDINGS) - {"des"}
_LIKE_DER = re.compile(r"(?:dies|jen|jed|welch|manch|solch)(er|en|em|es|e)")
_LIKE_EIN = re.compile(r"(?:ein|kein|mein|dein|sein|ihr|unser|unsr|euer|eur)(er|en|em|es|e|)")
_MERGED = (
    {"zur": "e"}
    | dict.fromkeys("im am vom zum beim".split(), "em")
    | dict.fromkeys("ins ans fürs".split(), "es")
)
# The endings a word like `der` and a word like `ein` may have before a noun in its base form.
_STRONG: dict[Gender, frozenset[str]] = {
    "m": frozenset({"er", "en", "em"}),
    "f": frozenset({"e", "er"}),
    "n": frozenset({"es", "em"}),
}
_MIXED: dict[Gender, frozenset[str]] = {
    "m": frozenset({"", "en", "em"}),
    "f": frozenset({"e", "er"}),
    "n": frozenset({"", "em"}),
}
_SAME_IN_PLURAL = re.compile(r"(?:er|el|en|chen|lein)$")  # der Fahrer, die Fahrer
# Articles that never stand behind a preposition of the dative, and of the accusative.
_WRONG_CASE = dict.fromkeys("bei mit von".split(), frozenset("die eine".split())) | dict.fromkeys(
    "durch für gegen".split(), frozenset("dem des einem eines einer".split())
)
_GENITIVE_AS_BASE = re.compile(r"[szxß]$")


class Pair(NamedTuple):
    """A determiner, the noun it belongs to, and the lower-case word before them."""

    before: str
    determiner: Word
    noun: Word

    @property
    def fits(self) -> bool:
        """Whether the determiner can stand before the noun and behind the preposition."""
        word = self.determiner.lower
        return word not in _WRONG_CASE.get(self.before, ()) and agrees(word, self.noun.lower)


def agreement(subject: Subject) -> Finding:
    """Fewer than three articles or pronouns are of another gender or case than their noun."""
    wrong = [pair for pair in pairs(subject.text) if not pair.fits]
    limit = f"at most {MOST_WRONG} wrong pairs"
    if len(wrong) <= MOST_WRONG:
        return passed("agreement", len(wrong), limit, f"{len(wrong)} articles do not fit their noun.")
    said = quoted([f"{pair.determiner.form} … {pair.noun.form}" for pair in wrong])
    message = f"{len(wrong)} articles do not fit their noun: {said}."
    spans = [Span(pair.determiner.span.start, pair.noun.span.end) for pair in wrong]
    return failed("agreement", len(wrong), limit, message, spans)


def pairs(text: Text) -> Iterator[Pair]:
    """Yield each determiner with the noun that follows it, at most two adjectives between them."""
    words, tags = text.words, text.tags
    for place, (word, tag) in enumerate(zip(words, tags, strict=True)):
        before = words[place - 1].lower if place > text.sentences[word.sentence].first else ""
        if tag not in _DETERMINERS or before in _ENDINGS or _may_be_relative(text, word):
            continue  # `das eine Wort`
        following = place + 1
        while (
            following <= place + _MOST_ADJECTIVES and following < len(words) and tags[following] == _ADJECTIVE
        ):
            following += 1
        if (
            following < len(words)
            and tags[following] == NOUN
            and _is_one_phrase(text, word, words[following])
        ):
            yield Pair(before, word, words[following])


def _may_be_relative(text: Text, word: Word) -> bool:
    """Whether a word such as `der` stands behind a comma, and so may begin a clause rather than a phrase."""
    start = word.span.start
    return word.lower in _RELATIVE and "," in text.raw[max(0, start - 2) : start]


def _is_one_phrase(text: Text, first: Word, last: Word) -> bool:
    between = text.raw[first.span.end : last.span.start]
    return last.form[0].isupper() and all(char.isalpha() or char in " -" for char in between)


def agrees(determiner: str, noun: str) -> bool:
    """Whether a determiner can stand before a noun, both in lower case; True where the rule knows nothing."""
    kind = gender(noun)
    if kind is None or determiner == "ihr" or (determiner, noun) == ("ein", "uhr"):
        return True  # `gab ihr Kraft`; `um ein Uhr`
    like_ein = _LIKE_EIN.fullmatch(determiner)
    like_der = _LIKE_DER.fullmatch(determiner)
    found = like_ein or like_der
    ending = found[1] if found else _ENDINGS.get(determiner) or _MERGED.get(determiner)
    if ending is None or ending in (_MIXED if like_ein else _STRONG)[kind]:
        return True
    if kind == "f":
        return False
    if ending in {"s", "es"}:
        return (
            _GENITIVE_AS_BASE.search(noun) is not None
        )  # `des Verlusts` shows its ending, `des Kreuz` might not
    return _is_plural(determiner, ending, noun)


def _is_plural(determiner: str, ending: str, noun: str) -> bool:
    """Whether the pair may be a plural without an ending of its own: die Fahrer, den Becken."""
    if determiner.startswith("ein") or determiner in _MERGED or not _SAME_IN_PLURAL.search(noun):
        return False
    return ending in {"e", "er"} or (ending == "en" and noun.endswith("n"))
