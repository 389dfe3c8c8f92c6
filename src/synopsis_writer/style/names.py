"""Names: who is known to a text, how names are inflected, and where full names stand."""

import re
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from synopsis_writer.style.finding import Subject
from synopsis_writer.style.tagger import NAME, is_noun
from synopsis_writer.style.text import Span, Text

TITLES = frozenset("dr prof doktor doktorin professor professorin med".split())
_ADDRESSES = frozenset(
    "herr herrn frau schwester pfleger oberarzt oberärztin chefarzt chefärztin von vom van zu de der".split()
)
_NAME_WORD = re.compile(r"[^\W\d_]+(?:[-’'‐‑][^\W\d_]+)*")
_GENITIVE_ENDS = frozenset("s'’")
_GENITIVE = re.compile(r"[’']?s$|[’']$")


class Name(NamedTuple):
    """A name in lower case; one of the two is empty when only the other is known."""

    first: str
    last: str


class FullName(NamedTuple):
    """A first and a last name, side by side in the text, in the nominative."""

    name: Name
    span: Span
    place: int  # the first name's number among the words


def parse_name(full: str) -> Name:
    """Return both names of `Prof. Dr. Karin Patzelt`; of `Dr. Bar` the last, of `Fladi` the first."""
    words = name_words(full)
    plain = [word for word in words if word not in TITLES and word not in _ADDRESSES] or words
    if len(plain) > 1:
        return Name(plain[0], plain[-1])
    alone = "".join(plain)
    return Name("", alone) if len(words) > len(plain) else Name(alone, "")


@lru_cache(maxsize=20_000)
def name_words(full: str) -> tuple[str, ...]:
    """Return the words of a name or line, in lower case."""
    return tuple(match[0].lower() for match in _NAME_WORD.finditer(full))


def nominative(word: str, known: Collection[str]) -> str:
    """Return a name without its genitive ending, if that is a known name and the word itself is not."""
    if word in known or word[-1] not in _GENITIVE_ENDS:
        return word
    base = _GENITIVE.sub("", word)
    return base if base in known else word


def known_names(subject: Subject) -> tuple[str, ...]:
    """Return the full names of brief, cast and answer."""
    return (*brief_names(subject), *(member.name for member in subject.show.cast), *subject.people)


def brief_names(subject: Subject) -> tuple[str, ...]:
    """Return the names that must turn up; none without a brief."""
    return subject.brief.characters if subject.brief else ()


def given_words(subject: Subject) -> frozenset[str]:
    """Return all words a text may take from brief, show, answer and title, and their genitives."""
    show = subject.show
    lines = (show.name, show.place, subject.title, *show.aliases, *known_names(subject))
    words = brief_words(subject).union(*map(name_words, lines))
    parts = words.union(*(word.split("-") for word in words))
    return frozenset(parts | {word + "s" for word in parts})


def brief_words(subject: Subject) -> frozenset[str]:
    """Return the words of all the brief's fields, in lower case; the empty one, too."""
    brief = subject.brief
    if brief is None:
        return frozenset({""})
    lines = (
        brief.show,
        brief.theme,
        brief.notes or "",
        brief.air_date or "",
        *brief.characters,
        *brief.beats,
        *brief.before,
    )
    return frozenset({""}.union(*map(name_words, lines)))


def full_names(text: Text, people: Collection[Name]) -> list[FullName]:
    """Return the places where a first and a last name stand side by side.

    The words of `people` are names. Others are when the tagger says so and they are not common nouns
    by themselves. Behind a preposition of place they name a town, before a word such as `GmbH` a firm.
    """
    firsts = {name.first for name in people} - {""}
    lasts = {name.last for name in people} - {""}
    found = []
    for place, (first, last) in enumerate(pairwise(text.words)):
        if not (first.form[0].isupper() and last.form[0].isupper()):
            continue
        if text.raw[first.span.end : last.span.start] != " " or _is_place_or_firm(text, place):
            continue
        name = Name(first.lower, nominative(last.lower, lasts if last.lower[:-1] in lasts else text.counts))
        if name.first in lasts - firsts or name.last in firsts - lasts:
            continue  # `Stein Ilay`: two people side by side
        if not (name.first in firsts or _is_new_name(text, place)):
            continue
        if name.last in lasts or _is_new_name(text, place + 1):
            found.append(FullName(name, Span(first.span.start, last.span.end), place))
    return found


def _is_new_name(text: Text, place: int) -> bool:
    word = text.words[place].lower
    return (
        text.tags[place] == NAME
        and word not in TITLES
        and word not in _ADDRESSES
        and nominative(word, text.counts) == word
        and not is_noun(word)
    )


_BEFORE_PLACES = frozenset("in aus nach hotel café firma kanzlei klinik straße insel".split())
_BEHIND_FIRMS = frozenset("gmbh ag kg bau klinik hotel stiftung straße platz".split())


def _is_place_or_firm(text: Text, place: int) -> bool:
    before = text.words[place - 1].lower if place else ""
    behind = text.words[place + 2].lower if place + 2 < len(text.words) else ""
    return before in _BEFORE_PLACES or behind in _BEHIND_FIRMS
