"""The author of the guided strategy: brief in, a synopsis as JSON out, most of it written beforehand."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from synopsis_writer.brief import Brief
from synopsis_writer.client import NO_COST, Answer, Usage
from synopsis_writer.guided.gaps import Completer, Filling, fill_gap, load_gap_rules, read_lines
from synopsis_writer.guided.people import Person, choose_people, significant_words
from synopsis_writer.guided.scaffold import Gap, Plan, Scaffold, compose, placeholder_values
from synopsis_writer.shows import Show
from synopsis_writer.synopsis import Character, Outline, Paragraph, Synopsis

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
