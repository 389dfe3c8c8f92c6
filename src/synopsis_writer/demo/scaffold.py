"""The sentences of a demo draft's form, with placeholders and people."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

from synopsis_writer.demo.people import Person
from synopsis_writer.document import read_fields
from synopsis_writer.errors import TemplateError
from synopsis_writer.synopsis import Storyline

GAPS = ("fear", "worry", "hope")
GAP_MARK = "\0"  # around the kind of a gap in a composed text: no brief holds it
_TOKEN = re.compile(r"\[(\w+)\]|\{(\w+)\}(\.?)")
_LETTERS = "pstu"  # protagonist, second person, and the people of the storylines B and C
Variants = Annotated[tuple[str, ...], Field(min_length=2)]


class Slot(BaseModel, frozen=True, extra="forbid"):
    """One position in a paragraph."""

    any: Variants | None = None  # one of them is chosen
    thread: str | None = None  # instead of variants: the side story whose next part goes here
    plan: bool = False  # whether beats of the brief may go here instead
    needs: Literal["rest"] | None = None  # the placeholder that must have a value, or the slot stays empty

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.any is None) == (self.thread is None):
            raise ValueError("needs either 'any' with two or more variants, or 'thread'")
        return self


class Paragraph(BaseModel, frozen=True, extra="forbid"):
    """A paragraph: its storyline and its slots."""

    storyline: Storyline
    sentences: Annotated[tuple[Slot, ...], Field(min_length=1)]


class Scaffold(BaseModel, frozen=True, extra="forbid"):
    """The data of one form; `threads` has the variants of each side story, each a list of parts in order."""

    titles: Variants
    loglines: Variants
    threads: dict[str, Annotated[tuple[tuple[str, ...], ...], Field(min_length=2)]] = {}
    paragraphs: Annotated[tuple[Paragraph, ...], Field(min_length=3)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        people = [Person("", "")] * len(_LETTERS)
        placeholders = {"title", *placeholder_values("", "", "", None, people, ())}
        for gap, name, _ in _TOKEN.findall("\n".join(self.texts())):
            if name and name not in placeholders:
                raise ValueError(f"unknown placeholder {{{name}}}: one of {', '.join(sorted(placeholders))}")
            if gap and gap not in GAPS:
                raise ValueError(f"unknown gap [{gap}]: one of {', '.join(GAPS)}")
        used = Counter(slot.thread for part in self.paragraphs for slot in part.sentences if slot.thread)
        for name, variants in self.threads.items():
            if any(len(parts) != used[name] for parts in variants):
                count = f"thread '{name}' is used in {used[name]} slots"
                raise ValueError(f"{count}: give each variant as many parts")
        if unknown := used.keys() - self.threads.keys():
            raise ValueError(f"thread '{min(unknown)}' is used and not defined: add it under 'threads'")
        opening = [slot.any or ("",) for slot in self.paragraphs[0].sentences]
        if not any(all("{theme}" in variant for variant in variants) for variants in opening):
            raise ValueError("no slot of the first paragraph holds {theme} in all its variants")
        return self

    def texts(self) -> Iterator[str]:
        """Yield every sentence of the scaffold, as it is in the file."""
        yield from (*self.titles, *self.loglines)
        yield from (text for variants in self.threads.values() for parts in variants for text in parts)
        yield from (text for part in self.paragraphs for slot in part.sentences for text in slot.any or ())

    @property
    def people(self) -> int:
        """How many people appear in the text."""
        used = set(re.findall(r"\{([pstu])[_}]", " ".join(self.texts())))
        return max(number for number, letter in enumerate(_LETTERS, 1) if letter in used)


class Plan(NamedTuple):
    """A scaffold with every choice made but the gaps; `beats` are the sentences of its plan slots."""

    title: str
    logline: str
    beats: tuple[str, ...]
    paragraphs: tuple[tuple[Storyline, str], ...]


def load_scaffold(path: Path) -> Scaffold:
    """Read a scaffold; raises TemplateError, which names file and line, or FileError."""
    return read_fields(path, Scaffold, TemplateError)


def compose(scaffold: Scaffold, values: Mapping[str, str], beats: Sequence[str], rng: Random) -> Plan:
    """Choose variants with `rng`, put `beats` into the plan slots in order, and fill the placeholders."""
    title = rng.choice(scaffold.titles)
    filled = {**values, "title": title}
    threads = {name: iter(rng.choice(variants)) for name, variants in scaffold.threads.items()}
    ends = (".", "!", "?", "…", "“")
    given = iter(beat[:1].upper() + beat[1:] + "." * (not beat.endswith(ends)) for beat in beats)
    slots = sum(slot.plan for part in scaffold.paragraphs for slot in part.sentences)
    least, more = divmod(len(beats), slots or 1)  # beats of each plan slot
    sizes = iter([least + 1] * more + [least] * (slots - more))
    paragraphs: list[tuple[Storyline, str]] = []
    planned: list[str] = []
    for paragraph in scaffold.paragraphs:
        sentences: list[str] = []
        for slot in paragraph.sentences:
            share = list(islice(given, next(sizes))) if slot.plan else []
            if share:
                sentence = " ".join(share)
            elif slot.thread:
                sentence = _filled(next(threads[slot.thread]), filled)
            elif slot.any and not (slot.needs and not filled[slot.needs]):
                sentence = _filled(rng.choice(slot.any), filled)
            else:
                continue
            if slot.plan:
                planned += share or [without_gaps(sentence)]
            sentences.append(sentence)
        paragraphs.append((paragraph.storyline, " ".join(sentences)))
    logline = without_gaps(_filled(rng.choice(scaffold.loglines), filled))
    return Plan(title, logline, tuple(planned), tuple(paragraphs))


def without_gaps(text: str) -> str:
    """Return a composed text with words in each gap, as long as a gap's usually are."""
    return re.sub(f"{GAP_MARK}\\w+{GAP_MARK}", "die Nähe der anderen", text)


def placeholder_values(
    show: str, place: str, theme: str, air_date: str | None, people: Sequence[Person], rest: Sequence[str]
) -> dict[str, str]:
    """Return the value of each placeholder but `{title}`."""
    here, quoted = locative(place), re.sub('["“»]([^"“”»«]*)["”«]', r"„\1“", theme)
    values = {
        "show": show,
        "theme": quoted[:1].upper() + quoted[1:].rstrip(". "),
        "dated": f" ({air_date})" if air_date else "",
        "here": here,
        "Here": here[:1].upper() + here[1:],
        "rest": " und ".join(filter(None, [", ".join(rest[:-1]), *rest[-1:]])),
    }
    for letter, person in zip(_LETTERS, people, strict=False):
        intro = f"{person.name}, {person.role}," if person.role else person.name
        values |= {letter: person.short, f"{letter}_full": person.name, f"{letter}_intro": intro}
    return values


def locative(place: str) -> str:
    """Return where: `in der Sachsenklinik` for `die Sachsenklinik`; `hier` for a place without an article."""
    article, _, rest = place.partition(" ")
    before = {"die": "in der", "der": "im", "das": "im"}.get(article)
    if before is None or not rest:
        return "hier"
    adjectives = re.sub(r"^(?:[a-zäöüß]+e )+", lambda found: found[0].replace("e ", "en "), rest)
    return f"{before} {adjectives}"


def _filled(template: str, values: Mapping[str, str]) -> str:
    def fill(token: re.Match[str]) -> str:
        gap, name, stop = token.groups()
        if gap:
            return f"{GAP_MARK}{gap}{GAP_MARK}"
        ends_sentence = values[name].endswith(("!", "?", "…"))  # as a theme may
        return values[name] if ends_sentence else values[name] + stop

    return _TOKEN.sub(fill, template)
