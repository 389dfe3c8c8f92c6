"""Who stands where in a guided text: the brief's characters first, then the cast, then invented names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from synopsis_writer.brief import Brief
from synopsis_writer.shows import CastMember, Show

_TITLES = re.compile(r"(?:(?:Prof|Dr|Dipl|med)\.\s*)+")
_ADDRESSES = {
    "Frau",
    "Herr",
    "Schwester",
    "Pfleger",
    "Oberschwester",
    "Pastor",
    "Pater",
    "Baron",
    "Graf",
    "Gräfin",
}
_WORD = re.compile(r"\w{4,}")
_CHILD = re.compile(r"(?:Tochter|Sohn|Kind|Enkel\w*) ")


@dataclass(frozen=True)
class Person:
    """A person of the text.

    Attributes:
        name: the whole name.
        short: how the text goes on to call the person: `Arzu`, `Dr. Heilmann`.
        role: what the person is, as a German noun phrase; empty when unknown.
    """

    name: str
    short: str
    role: str = ""

    @property
    def introduction(self) -> str:
        """The name, with the role set off by commas behind it."""
        return f"{self.name}, {self.role}," if self.role else self.name


def choose_people(
    brief: Brief, show: Show, invented: Sequence[str], count: int, rng: Random
) -> tuple[list[Person], list[str]]:
    """Return `count` people, the protagonist first, and the names of the brief that found no place.

    Without characters in the brief, theme and beats choose the protagonist: by a name of the cast, then by a
    role (`Chirurg`); where they name none, the seed does.
    """
    roles = {member.name: member.role for member in show.cast}
    names = list(brief.characters)
    adults = [member for member in show.cast if not _CHILD.match(member.role)]
    story = " ".join((brief.theme, *brief.beats))
    if not names:
        names = [member.name for member in _named(adults, story)]
    if not names and (fitting := _fitting(adults, brief.theme)):
        names = [rng.choice(fitting).name]
    known = {_call(name) for name in names}
    for pool in ([member.name for member in adults], list(invented)):
        rng.shuffle(pool)
        for name in pool:
            if len(names) < count and not known & {_call(name)} and name not in names:
                names.append(name)
                known.add(_call(name))
    calls = [_call(name) for name in names]
    people = [
        Person(name, call if calls.count(call) == 1 else name, roles.get(name, ""))
        for name, call in zip(names, calls, strict=True)
    ]
    return people[:count], names[count:]


def _named(cast: Sequence[CastMember], text: str) -> list[CastMember]:
    """Return the members whose name stands in `text`, in the order of the text."""
    words = [word.casefold() for word in _WORD.findall(text)]
    first = {member.name: _first(words, significant_words(_TITLES.sub("", member.name))) for member in cast}
    named = [member for member in cast if first[member.name] < len(words)]
    return sorted(named, key=lambda member: first[member.name])


def _first(words: Sequence[str], wanted: set[str]) -> int:
    return next((index for index, word in enumerate(words) if word in wanted), len(words))


def _fitting(cast: Sequence[CastMember], theme: str) -> list[CastMember]:
    """Return the members whose role the theme names, else those whose role is a compound of it."""
    words = significant_words(theme)
    alike = [member for member in cast if words & significant_words(member.role)]
    return alike or [member for member in cast if _is_compound(significant_words(member.role), words)]


def significant_words(text: str) -> set[str]:
    """Return the words of four letters or more, case-folded."""
    return {word.casefold() for word in _WORD.findall(text)}


def _is_compound(role: set[str], theme: set[str]) -> bool:
    return any(long.endswith(word) for long in role for word in theme)


def _call(name: str) -> str:
    """Return the short form: the first name, or title and last name."""
    title = _TITLES.match(name)
    given, _, last = (name[title.end() :] if title else name).partition(" ")
    if title:
        return f"Dr. {last or given}" if "Dr." in title[0] else name
    return name if given in _ADDRESSES else given
