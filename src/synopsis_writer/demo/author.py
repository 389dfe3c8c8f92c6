"""Demo drafts without a key: a scaffold, and a few words by a small model."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from synopsis_writer.brief import MOST_CHARACTERS, Brief
from synopsis_writer.demo.gaps import Completer, Filling, fill_gap, load_gap_rules, read_lines
from synopsis_writer.demo.scaffold import (
    Gap,
    Person,
    Plan,
    Scaffold,
    choose_people,
    compose,
    load_scaffold,
    placeholder_values,
    significant_words,
)
from synopsis_writer.models.base import Answer
from synopsis_writer.models.download import MODEL_NAME, packaged_weights
from synopsis_writer.models.embedded import Engine
from synopsis_writer.result import Attempt
from synopsis_writer.settings import Settings, folder
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Character, Outline, Paragraph, Synopsis
from synopsis_writer.usage import NO_COST, Usage

SLOTS = 4  # completions of a gap, decoded side by side

CONTEXT = 3072  # tokens of all slots together: a prompt with the longest theme takes 600, an answer 36


@dataclass(frozen=True)
class DemoAuthor:
    """Drafts from a scaffold; a repair is another draft, from the next seed.

    The model is loaded for a draft and given back before the gate loads its word lists: both at once would
    take 700 MB.
    """

    brief: Brief
    show: Show
    prompts: Path
    weights: Path
    banned: tuple[str, ...]
    threads: int
    first_seed: int
    outline: Outline | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one model in memory, whatever --best-of asks

    @property
    def name(self) -> str:
        """The packaged model's name."""
        return MODEL_NAME

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:  # noqa: ARG002 - it cannot repair
        """Write the draft of `first_seed + seed`."""
        async with self.turn:
            answer = await self._draft(seed)
        yield Attempt(number, answer)

    async def _draft(self, seed: int) -> Answer:
        scaffold = load_scaffold(self.brief.form, self.prompts)
        engine = Engine(self.weights, name=MODEL_NAME, slots=SLOTS, context=CONTEXT, threads=self.threads)
        try:
            guided = GuidedAuthor(engine, self.brief, self.show, scaffold, self.prompts, self.banned)
            answer = await guided.draft(self.first_seed + seed)
        finally:
            engine.close()
        return (
            answer if self.outline is None else replace(answer, text=_as_planned(answer.text, self.outline))
        )

    def plan(self) -> Outline:
        """Return the outline of the first draft."""
        scaffold = load_scaffold(self.brief.form, self.prompts)
        return guided_outline(self.brief, self.show, scaffold, self.prompts, self.first_seed)


def _as_planned(text: str, outline: Outline) -> str:
    """Give a draft the outline's title, logline and people; further people of the draft stay."""
    drafted = Synopsis.model_validate_json(text)
    names = {person.name for person in outline.characters}
    people = (*outline.characters, *(person for person in drafted.characters if person.name not in names))
    planned = {"title": outline.title, "logline": outline.logline, "characters": people}
    return drafted.model_copy(update=planned).as_json()


def demo_author(
    settings: Settings,
    brief: Brief,
    outline: Outline | None,
    show: Show,
    shows: Sequence[Show],
    first_seed: int,
) -> DemoAuthor:
    """Return the author for one brief; an outline's beats and characters go before the brief's own.

    Raises:
        EngineError: the packaged model cannot be put together.
    """
    if outline is not None:
        people = tuple(person.name for person in outline.characters)[:MOST_CHARACTERS]
        brief = brief.model_copy(update={"beats": outline.beats, "characters": people})
    return DemoAuthor(
        brief,
        show,
        (settings.prompts or folder("prompts")) / "guided",
        packaged_weights(settings.cache),
        tuple(member.name for other in shows if other.name != show.name for member in other.cast),
        settings.threads,
        first_seed,
        outline,
    )


_ROLES = ("Hauptfigur", "Gegenüber der Hauptfigur", "Nebenfigur", "Nebenfigur")

_ROLE_ELSE = "Nebenfigur"


class GuidedAuthor:
    """Writes demo drafts with a base model that cannot follow instructions.

    Args:
        engine: the model.
        brief: what is asked for; `notes` and `words` have no effect here.
        show: the brief's show.
        scaffold: the sentences of the brief's form.
        folder: where `gaps.yaml`, `blocked.txt` and `names.txt` lie.
        banned: names of people that belong to other shows.

    Raises:
        TemplateError: a file in `folder` breaks its format.
        FileError: a file in `folder` cannot be read.
    """

    def __init__(
        self,
        engine: Completer,
        brief: Brief,
        show: Show,
        scaffold: Scaffold,
        folder: Path,
        banned: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._brief = brief
        self._show = show
        self._scaffold = scaffold
        self._rules = load_gap_rules(folder)
        self._invented = read_lines(folder / "names.txt")
        self._banned = significant_words(" ".join(banned))

    async def draft(self, seed: int) -> Answer:
        """Write one draft; the same seed gives the same text.

        Raises:
            EngineError: the engine failed.
        """
        start = time.monotonic()
        layout = lay_out(self._brief, self._show, self._scaffold, self._invented, seed)
        plan, people, rng = layout.plan, layout.people, layout.rng
        fillings: list[Filling] = []
        paragraphs: list[Paragraph] = []
        for storyline, pieces in plan.paragraphs:
            text = ""
            for piece in pieces:
                if isinstance(piece, Gap):
                    fillings.append(await self._fill(piece.kind, people, fillings, rng))
                    text += fillings[-1].text
                else:
                    text += piece
            paragraphs.append(Paragraph(storyline=storyline, text=text))
        synopsis = Synopsis(
            title=plan.title,
            logline=plan.logline,
            characters=layout.characters,
            paragraphs=tuple(paragraphs),
        )
        return Answer(
            text=synopsis.as_json(),
            usage=sum((filling.usage for filling in fillings), Usage()),
            seconds=time.monotonic() - start,
            model=self._engine.name,
            words_by_model=sum(filling.words_by_model for filling in fillings),
            cost=NO_COST,
        )

    async def _fill(
        self, kind: str, people: Sequence[Person], before: Sequence[Filling], rng: Random
    ) -> Filling:
        protagonist, second = people[:2]
        # The second person worries about the protagonist; one does not fear or hope for oneself.
        role = "" if kind == "worry" else protagonist.role or _subject(self._brief.theme)
        return await fill_gap(
            self._engine,
            self._rules,
            kind,
            theme=self._brief.theme,
            name=(second if kind == "worry" else protagonist).short,
            unwanted=self._banned | significant_words(role),
            taken=[filling.text for filling in before],
            rng=rng,
        )


class Layout(NamedTuple):
    """Everything of a draft but what the model adds; `rng` goes on with the choices."""

    plan: Plan
    people: Sequence[Person]
    characters: tuple[Character, ...]
    rng: Random


def lay_out(brief: Brief, show: Show, scaffold: Scaffold, invented: Sequence[str], seed: int) -> Layout:
    """Choose people and sentences; the same seed chooses the same."""
    rng = Random(f"{seed}\n{brief.show}\n{brief.form}\n{brief.theme}")  # noqa: S311 - a choice, no secret
    people, rest = choose_people(brief, show, invented, scaffold.people, rng)
    values = placeholder_values(brief.show, show.place, brief.theme, brief.air_date, people, rest)
    return Layout(compose(scaffold, values, brief.beats, rng), people, _characters(people, rest, show), rng)


def guided_outline(brief: Brief, show: Show, scaffold: Scaffold, folder: Path, seed: int) -> Outline:
    """Return the plan of the draft with this seed; it needs no model."""
    layout = lay_out(brief, show, scaffold, read_lines(folder / "names.txt"), seed)
    plan = layout.plan
    return Outline(title=plan.title, logline=plan.logline, characters=layout.characters, beats=plan.beats)


def _subject(theme: str) -> str:
    """Return whom the theme is about, where it begins so: `Polizist` for `Ein Polizist deckt …`."""
    match = re.match(r"eine? (\w+)", theme, re.IGNORECASE)
    return match[1] if match else ""


def _characters(people: Sequence[Person], rest: Sequence[str], show: Show) -> tuple[Character, ...]:
    roles = {member.name: member.role for member in show.cast}
    main = [
        Character(name=person.name, role=person.role or role)
        for person, role in zip(people, _ROLES, strict=False)
    ]
    return (*main, *(Character(name=name, role=roles.get(name, _ROLE_ELSE)) for name in rest))
