"""Who stands where in a guided text: the brief's characters first, then the cast, then invented names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from synopsis_writer.brief import Brief
from synopsis_writer.shows import CastMember, Show

_TITLES = re.compile(r"(?:(?:Prof|Dr|Dipl|med)\.\s*)+")
_ADDRESSES = {"Frau", "Herr", "Schwester", "Pfleger", "Oberschwester", "Pastor", "Pater", "Baron", "Graf", "Gräfin"}
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

    Without characters in the brief the theme chooses the protagonist: by a name of the cast, then by a
    role (`Chirurg`), then the seed does.
    """
    roles = {member.name: member.role for member in show.cast}
    names = list(brief.characters)
    adults = [member for member in show.cast if not _CHILD.match(member.role)]
    if not names and (fitting := _fitting(adults, brief.theme)):
        names.append(rng.choice(fitting).name)
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


def _fitting(cast: Sequence[CastMember], theme: str) -> list[CastMember]:
    words = {word.casefold() for word in _WORD.findall(theme)}
    named = [member for member in cast if words & _words(_TITLES.sub("", member.name))]
    alike = [member for member in cast if words & _words(member.role)]
    return named or alike or [member for member in cast if _is_compound(_words(member.role), words)]


def _words(text: str) -> set[str]:
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
