"""What is corrupted, and the small tools that all corruptions share."""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example, Pool, load_pool
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder
from synopsis_writer.show import Show, find_show, generic_show

_TEXTS = Path(__file__).parent.parent / "damage_texts"
_TITLES = frozenset({"Dr.", "Prof."})
HALVES = ("A", "B")


@dataclass(frozen=True)
class Draft:
    """A synopsis for the gate, in the parts that a corruption may change.

    The thresholds were set on the texts of half A; those of half B were held out.
    """

    half: str
    text: str
    brief: Brief
    show: Show
    title: str
    people: tuple[str, ...]
    truncated: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.people, *self.brief.characters)))

    def pick(self, name: str, count: int = 1) -> str:
        """Return hand-written passages of one file; the two halves get different ones."""
        return " ".join(dice(self.text).sample(passages(name)[HALVES.index(self.half) :: 2], count))


Change = Callable[[Draft], Draft]
TextChange = Callable[[str], str]


@cache
def pool() -> Pool:
    return load_pool([folder("examples")])


def half_of(name: str) -> str:
    return HALVES[hashlib.sha256(name.encode("utf-8")).digest()[0] % 2]


def draft_of(example: Example) -> Draft:
    show = find_show(pool().shows, example.brief.show) or generic_show(example.brief.show)
    people = tuple(person.name for person in example.synopsis.characters)
    half = half_of(example.id)
    return Draft(half, example.synopsis.text, example.brief, show, example.synopsis.title, people)


def on_text(change: TextChange) -> Change:
    return lambda draft: replace(draft, text=change(draft.text))


def dice(text: str) -> Random:
    """Return random numbers that depend only on the text, on every machine and in every order."""
    return Random(zlib.crc32(text.encode("utf-8")))


@cache
def passages(name: str) -> tuple[str, ...]:
    """Return the passages of a file of hand-written text, separated by blank lines."""
    return tuple((_TEXTS / f"{name}.txt").read_text(encoding="utf-8").strip().split("\n\n"))


@cache
def lines(name: str) -> tuple[str, ...]:
    return tuple((_TEXTS / f"{name}.txt").read_text(encoding="utf-8").splitlines())


def paragraphs(text: str) -> list[str]:
    return text.split("\n\n")


def joined(parts: Iterable[str]) -> str:
    return "\n\n".join(parts)


def sentences(text: str) -> list[str]:
    return [sentence.text for sentence in analyse(text).sentences]


def each_sentence(text: str, change: Callable[[int, str], str]) -> str:
    """Change each sentence, given its number; what is between them stays."""
    parts, end = [], 0
    for number, sentence in enumerate(analyse(text).sentences):
        parts += [text[end : sentence.span.start], change(number, sentence.text)]
        end = sentence.span.end
    return "".join([*parts, text[end:]])


def each_word(text: str, pattern: str, change: TextChange, every: int = 1) -> str:
    """Change every `every`-th word that the pattern matches whole."""
    number = 0

    def counted(match: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return match[0] if number % every else change(match[0])

    return re.sub(rf"\b(?:{pattern})\b", counted, text)


def insert(text: str, passage: str) -> str:
    """Insert a passage after a paragraph that is not the last, so that beginning and end stay intact.

    A text of one paragraph gets it between two sentences.
    """
    parts = paragraphs(text)
    if len(parts) == 1:
        told = sentences(text)
        place = 1 + dice(text).randrange(max(1, len(told) - 1))
        return " ".join([*told[:place], passage, *told[place:]])
    place = dice(text).randrange(len(parts) - 1)
    return joined([*parts[:place], f"{parts[place]} {passage}", *parts[place + 1 :]])


def inserting(name: str, count: int = 1) -> Change:
    """Insert `count` hand-written passages of one file into the text."""
    return lambda draft: replace(draft, text=insert(draft.text, draft.pick(name, count)))


def before(name: str) -> Change:
    """Put a hand-written passage before the text."""
    return lambda draft: replace(draft, text=joined([draft.pick(name), draft.text]))


def behind(name: str) -> Change:
    """Put a hand-written passage after the text."""
    return lambda draft: replace(draft, text=joined([draft.text, draft.pick(name)]))


def replacing(name: str) -> Change:
    """Replace the text with a hand-written one."""
    return on_text(lambda _: joined(passages(name)))


def renamed(text: str, old: Sequence[str], new: Sequence[str]) -> str:
    """Swap names in a text: first name for first name, last for last, genitives too."""
    swaps: dict[str, str] = {}
    for known, invented in zip(old, new, strict=False):
        parts = [part for part in known.split() if part not in _TITLES]
        swaps = {parts[-1]: invented.split()[-1], parts[0]: invented.split()[0]} | swaps
    pattern = "|".join(map(re.escape, sorted(swaps, key=len, reverse=True)))
    return re.sub(rf"\b({pattern})(?=s?\b)", lambda match: swaps[match[1]], text)
