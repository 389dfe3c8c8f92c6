"""The sentences of a demo draft's form, with placeholders and people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synopsis_writer.brief import Brief
from synopsis_writer.document import read_fields
from synopsis_writer.errors import TemplateError
from synopsis_writer.gate.lexicon import ADDRESSES, TITLES
from synopsis_writer.gate.text import word_parts
from synopsis_writer.show import CastMember, Show
from synopsis_writer.synopsis import Storyline

_TOKEN = re.compile(r"(\{\w+\}|\[\w+\])")
_LETTERS = "pstu"  # protagonist, second person, and the people of the storylines B and C

_PLACEHOLDERS = frozenset(
    {"show", "theme", "title", "dated", "here", "Here", "rest"}
    | {letter + ending for letter in _LETTERS for ending in ("", "_full", "_intro")}
)

GAPS = ("fear", "worry", "hope")

Variants = Annotated[tuple[str, ...], Field(min_length=2)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Slot(_Data):
    """One position in a paragraph.

    Attributes:
        any: the variants; one of them is chosen.
        thread: instead of variants, the side story whose next part goes here.
        plan: whether beats of the brief may go here instead.
        needs: the placeholder that must have a value, or the slot stays empty.
    """

    any: Variants | None = None
    thread: str | None = None
    plan: bool = False
    needs: Literal["rest"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.any is None) == (self.thread is None):
            raise ValueError("needs either 'any' with two or more variants, or 'thread'")
        return self


class Paragraph(_Data):
    """A paragraph: its storyline and its slots."""

    storyline: Storyline
    sentences: Annotated[tuple[Slot, ...], Field(min_length=1)]


class Scaffold(_Data):
    """The data of one form; `threads` has the variants of each side story, each a list of parts in order."""

    titles: Variants
    loglines: Variants
    threads: dict[str, Annotated[tuple[tuple[str, ...], ...], Field(min_length=2)]] = {}
    paragraphs: Annotated[tuple[Paragraph, ...], Field(min_length=3)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for text in self.texts():
            for token in _TOKEN.findall(text):
                name = token[1:-1]
                if token.startswith("{") and name not in _PLACEHOLDERS:
                    known = ", ".join(sorted(_PLACEHOLDERS))
                    raise ValueError(f"unknown placeholder {token}: one of {known}")
                if token.startswith("[") and name not in GAPS:
                    raise ValueError(f"unknown gap {token}: one of {', '.join(GAPS)}")
        for name, variants in self.threads.items():
            used = sum(slot.thread == name for part in self.paragraphs for slot in part.sentences)
            if any(len(parts) != used for parts in variants):
                raise ValueError(f"thread '{name}' is used in {used} slots: give each variant as many parts")
        slots = [slot for part in self.paragraphs for slot in part.sentences]
        if unknown := {slot.thread for slot in slots if slot.thread} - set(self.threads):
            raise ValueError(f"thread '{min(unknown)}' is used and not defined: add it under 'threads'")
        opening = [slot.any or ("",) for slot in self.paragraphs[0].sentences]
        if not any(all("{theme}" in variant for variant in variants) for variants in opening):
            raise ValueError("no slot of the first paragraph holds {theme} in all its variants")
        return self

    def texts(self) -> Iterator[str]:
        """Yield every sentence of the scaffold, as it is in the file."""
        yield from (*self.titles, *self.loglines)
        for variants in self.threads.values():
            yield from (text for parts in variants for text in parts)
        for paragraph in self.paragraphs:
            for slot in paragraph.sentences:
                yield from slot.any or ()

    @property
    def people(self) -> int:
        """How many people appear in the text."""
        whole = " ".join(self.texts())
        used = set(re.findall(r"\{([pstu])[_}]", whole))
        return max(number for number, letter in enumerate(_LETTERS, 1) if letter in used)


@dataclass(frozen=True)
class Gap:
    """Text that the model adds, of one of the kinds in `GAPS`."""

    kind: str


Piece = str | Gap


@dataclass(frozen=True)
class Plan:
    """A scaffold with every choice made but the gaps; `beats` are the sentences of its plan slots."""

    title: str
    logline: str
    beats: tuple[str, ...]
    paragraphs: tuple[tuple[Storyline, tuple[Piece, ...]], ...]


def load_scaffold(form: str, folder: Path) -> Scaffold:
    """Read `<folder>/<form>.yaml`; raises TemplateError, which names file and line, or FileError."""
    path = folder / f"{form}.yaml"
    if not path.is_file():
        raise TemplateError(f"{path}: a demo draft of the form '{form}' needs it: write one, or name a model")
    return read_fields(path, Scaffold, TemplateError)


def compose(scaffold: Scaffold, values: Mapping[str, str], beats: Sequence[str], rng: Random) -> Plan:
    """Choose variants with `rng`, put `beats` into the plan slots in order, and fill the placeholders."""
    title = rng.choice(scaffold.titles)
    filled = {**values, "title": title}
    threads = {name: iter(rng.choice(variants)) for name, variants in scaffold.threads.items()}
    shares = _shares(beats, sum(slot.plan for part in scaffold.paragraphs for slot in part.sentences))
    paragraphs: list[tuple[Storyline, tuple[Piece, ...]]] = []
    planned: list[str] = []
    for paragraph in scaffold.paragraphs:
        pieces: list[Piece] = []
        for slot in paragraph.sentences:
            share = next(shares, []) if slot.plan else []
            if share:
                chosen: list[Piece] = [" ".join(share)]
            elif slot.thread:
                chosen = _pieces(next(threads[slot.thread]), filled)
            elif slot.any and not (slot.needs and not filled[slot.needs]):
                chosen = _pieces(rng.choice(slot.any), filled)
            else:
                continue
            if slot.plan:
                planned += share or ["".join(str(piece) for piece in chosen)]
            pieces += [" ", *chosen]
        paragraphs.append((paragraph.storyline, tuple(pieces[1:])))
    logline = "".join(str(piece) for piece in _pieces(rng.choice(scaffold.loglines), filled))
    return Plan(title, logline, tuple(planned), tuple(paragraphs))


@dataclass(frozen=True)
class Person:
    """A person of the text.

    Attributes:
        name: the whole name.
        short: how the text calls the person from then on: `Arzu`, `Dr. Heilmann`.
        role: what the person is, as a German noun phrase; empty when unknown.
    """

    name: str
    short: str
    role: str = ""

    @property
    def introduction(self) -> str:
        """The name, followed by the role between commas."""
        return f"{self.name}, {self.role}," if self.role else self.name


def placeholder_values(
    show: str, place: str, theme: str, air_date: str | None, people: Sequence[Person], rest: Sequence[str]
) -> dict[str, str]:
    """Return the value of each placeholder but `{title}`."""
    here = locative(place)
    values = {
        "show": show,
        "theme": _as_sentence(theme),
        "dated": f" ({air_date})" if air_date else "",
        "here": here,
        "Here": here[:1].upper() + here[1:],
        "rest": " und ".join(filter(None, [", ".join(rest[:-1]), *rest[-1:]])),
    }
    for letter, person in zip(_LETTERS, people, strict=False):
        full, intro = f"{letter}_full", f"{letter}_intro"
        values |= {letter: person.short, full: person.name, intro: person.introduction}
    return values


_QUOTED = re.compile('["“»]([^"“”»«]*)["”«]')


def _as_sentence(theme: str) -> str:
    """Return the theme as a sentence: a capital first, no full stop, the house's quotation marks."""
    plain = _QUOTED.sub(r"„\1“", theme)
    return plain[:1].upper() + plain[1:].rstrip(". ")


def locative(place: str) -> str:
    """Return where: `in der Sachsenklinik` for `die Sachsenklinik`; `hier` for a place without an article."""
    article, _, rest = place.partition(" ")
    before = {"die": "in der", "der": "im", "das": "im"}.get(article)
    if before is None or not rest:
        return "hier"
    adjectives = re.match(r"(?:[a-zäöüß]+e )*", rest)
    count = adjectives.end() if adjectives else 0
    return f"{before} {rest[:count].replace('e ', 'en ')}{rest[count:]}"


def _pieces(template: str, values: Mapping[str, str]) -> list[Piece]:
    pieces: list[Piece] = []
    for token in _TOKEN.split(template):
        if token.startswith("["):
            pieces.append(Gap(token[1:-1]))
        elif token.startswith("{"):
            pieces.append(values[token[1:-1]])
        elif token.startswith(".") and pieces and str(pieces[-1]).endswith(("!", "?", "…")):
            pieces.append(token[1:])  # a theme may end a sentence by itself
        elif token:
            pieces.append(token)
    return pieces


def _shares(beats: Sequence[str], slots: int) -> Iterator[list[str]]:
    """Yield the beats of each plan slot, in order: one each, or several if beats outnumber slots."""
    sentences = [
        beat[:1].upper() + beat[1:] + ("" if beat.endswith((".", "!", "?", "…", "“")) else ".")
        for beat in beats
    ]
    least, more = divmod(len(sentences), slots) if slots else (0, 0)
    start = 0
    for index in range(slots):
        size = least + (index < more)
        yield sentences[start : start + size]
        start += size


_TITLE = re.compile(rf"(?:(?:{'|'.join(sorted(TITLES | {'dipl'}))})\.\s*)+", re.IGNORECASE)

# What precedes a last name in German fiction, in addition to the gate's list.
_ADDRESSES = ADDRESSES | {"oberschwester", "pastor", "pater", "baron", "graf", "gräfin"}
_LEAST_LETTERS = 4  # of a significant word
_CHILD = re.compile(r"(?:Tochter|Sohn|Kind|Enkel\w*) ")


def choose_people(
    brief: Brief, show: Show, invented: Sequence[str], count: int, rng: Random
) -> tuple[list[Person], list[str]]:
    """Return `count` people, the protagonist first, and the names of the brief that do not appear.

    Without characters in the brief, theme and beats choose the protagonist: by a name of the cast, then by a
    role (`Chirurg`); where they name none, the seed does.
    """
    roles = {member.name: member.role for member in show.cast}
    names = list(brief.characters)
    adults = [member for member in show.cast if not _CHILD.match(member.role)]
    if not names:
        names = _named(adults, " ".join((brief.theme, *brief.beats)))
    if not names and (fitting := _with_role(adults, brief.theme)):
        names = [rng.choice(fitting).name]
    known = {_short_name(name) for name in names}
    for pool in ([member.name for member in adults], list(invented)):
        rng.shuffle(pool)
        for name in pool:
            if len(names) < count and not known & {_short_name(name)} and name not in names:
                names.append(name)
                known.add(_short_name(name))
    shorts = [_short_name(name) for name in names]
    people = [
        Person(name, short if shorts.count(short) == 1 else name, roles.get(name, ""))
        for name, short in zip(names, shorts, strict=True)
    ]
    return people[:count], names[count:]


def _named(cast: Sequence[CastMember], text: str) -> list[str]:
    """Return the names of the cast that are in `text`, in the order of the text."""
    words = _significant(text)
    positions: dict[str, list[int]] = {}
    for member in cast:
        parts = significant_words(_TITLE.sub("", member.name))
        positions[member.name] = [position for position, word in enumerate(words) if word in parts]
    return sorted(filter(positions.get, positions), key=lambda name: positions[name][0])


def _with_role(cast: Sequence[CastMember], theme: str) -> list[CastMember]:
    """Return the members whose role the theme names, else those whose role is a compound of it."""
    words = significant_words(theme)
    exact = [member for member in cast if words & significant_words(member.role)]
    return exact or [
        member
        for member in cast
        if any(long.endswith(word) for long in significant_words(member.role) for word in words)
    ]


def significant_words(text: str) -> set[str]:
    """Return the words of four letters or more, case-folded."""
    return set(_significant(text))


def _significant(text: str) -> list[str]:
    return [word.casefold() for word in word_parts(text) if len(word) >= _LEAST_LETTERS]


def _short_name(name: str) -> str:
    """Return the short form: the first name, or title and last name."""
    title = _TITLE.match(name)
    given, _, last = name[title.end() if title else 0 :].partition(" ")
    if title:
        return f"Dr. {last or given}" if "Dr." in title[0] else name
    return name if given.lower() in _ADDRESSES else given
