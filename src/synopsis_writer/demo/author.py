"""Demo drafts without a key: a scaffold, and a few words by a small model."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

from synopsis_writer.brief import MOST_CHARACTERS, Brief
from synopsis_writer.demo import scaffold as scaffolds
from synopsis_writer.demo.gaps import FilledGap, fill_gap, load_gap_rules, read_words
from synopsis_writer.demo.people import Person, choose_people, significant_words, theme_people
from synopsis_writer.errors import BriefError
from synopsis_writer.gate import form
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.text import analyse
from synopsis_writer.house.house import House, built_in_house
from synopsis_writer.models.base import Answer
from synopsis_writer.models.download import MODEL_NAME, packaged_weights
from synopsis_writer.models.embedded import Engine
from synopsis_writer.result import Attempt
from synopsis_writer.settings import Settings, folder
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Character, Outline, Paragraph, Synopsis
from synopsis_writer.usage import NO_COST, Usage

SLOTS = 4  # completions of a gap, decoded in parallel
CONTEXT = 3072  # tokens of all slots together: a prompt with the longest theme takes 600, an answer 36
_TRIED = 3  # seeds, as there are attempts
_OTHER_TENSE = {"present", "preterite"}
_ROLES = ("Hauptfigur", "Gegenüber der Hauptfigur", "Nebenfigur", "Nebenfigur")


@dataclass
class DemoAuthor:
    """Drafts from a scaffold for one brief; a repair is another draft, with the next seed.

    An outline's beats and characters replace the brief's. The model is loaded for a draft and released before
    the gate loads its word lists: both at once would take 700 MB. Raises BriefError, and EngineError.
    """

    settings: Settings
    brief: Brief
    outline: Outline | None
    show: Show
    shows: Sequence[Show]
    house: House
    first_seed: int
    name: str = MODEL_NAME

    def __post_init__(self) -> None:
        if self.outline is not None:
            people = tuple(person.name for person in self.outline.characters)[:MOST_CHARACTERS]
            self.brief = self.brief.model_copy(update={"beats": self.outline.beats, "characters": people})
        guided = (self.settings.own_prompts or folder("prompts")) / "guided"
        scaffold = fitting_scaffold(self.brief, self.show, self.house, guided, self.first_seed)
        self._drawn = self.brief, self.show, scaffold, guided
        self._weights = packaged_weights(self.settings.cache)
        self._lock = asyncio.Lock()  # one model in memory, whatever --best-of asks

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:  # noqa: ARG002 - it cannot repair
        """Write the draft of `first_seed + seed`."""
        threads = self.settings.threads
        banned = [one.name for show in self.shows if show.name != self.show.name for one in show.cast]
        async with self._lock:
            engine = Engine(self._weights, name=MODEL_NAME, slots=SLOTS, context=CONTEXT, threads=threads)
            with contextlib.closing(engine):
                answer = await write_draft(engine, *self._drawn, self.first_seed + seed, banned)
        text = answer.text
        if self.house.orthography == "de-CH":
            text = text.replace("ß", "ss")
        opening, closing = (json.dumps(mark, ensure_ascii=False)[1:-1] for mark in self.house.quotation_marks)
        text = text.translate({ord("„"): opening, ord("“"): closing})
        if (outline := self.outline) is not None:
            draft = Synopsis.model_validate_json(text)
            listed = {person.name for person in outline.characters}
            others = (person for person in draft.characters if person.name not in listed)
            fields = outline.model_dump(include={"title", "logline"})
            people = (*outline.characters, *others)
            text = draft.model_copy(update={**fields, "characters": people}).as_json()
        yield Attempt(number, replace(answer, text=text))

    def plan(self) -> Outline:
        """Return the outline of the first draft."""
        plan, _, characters, _ = lay_out(*self._drawn, self.first_seed)
        return Outline(title=plan.title, logline=plan.logline, characters=characters, beats=plan.beats)


def fitting_scaffold(brief: Brief, show: Show, house: House, folder: Path, seed: int) -> scaffolds.Scaffold:
    """Return the form's scaffold, or else the first whose draft fits the limits; raises BriefError."""
    wanted = house.form(brief.form).with_length(*brief.length)
    paths = [folder / f"{brief.form}.yaml"]
    if not paths[0].is_file():
        tenses = {name: built_in.tense for name, built_in in built_in_house().forms.items()}
        others = (path for path in sorted(folder.glob("*.yaml")) if path.stem != "gaps")
        paths = [each for each in others if {wanted.tense, tenses.get(each.stem)} != _OTHER_TENSE]
    problems = []
    for scaffold, number in product(map(scaffolds.load_scaffold, paths), range(_TRIED)):
        plan, *_ = lay_out(brief, show, scaffold, folder, seed + number)
        text = "\n\n".join(scaffolds.without_gaps(part) for _, part in plan.paragraphs)
        subject = Subject(analyse(text), wanted, show, house, brief, plan.title)
        found = [check(subject) for check in (form.length, form.paragraphs, form.hook)]
        refused = [each for each in found if not each.passed and wanted.level(each.check) == "error"]
        if not refused:
            return scaffold
        problems += refused
    asked = f"{problems[0].check} is its own, here {problems[0].value}; asked for is {problems[0].limit}"
    way_out = "leave out --words and --characters, or name a model with --model"
    raise BriefError(f"a demo draft's {asked}: {way_out}")


async def write_draft(
    engine: Engine, brief: Brief, show: Show, scaffold: scaffolds.Scaffold, folder: Path, seed: int,
    banned: Sequence[str] = (),
) -> Answer:  # fmt: skip
    """Write one draft with a base model that cannot follow instructions; the same seed gives the same text.

    `folder` holds `gaps.yaml`, `blocked.txt` and `names.txt`; `banned` are people of other shows.
    """
    start = time.monotonic()
    rules = load_gap_rules(folder)
    plan, people, characters, rng = lay_out(brief, show, scaffold, folder, seed)
    protagonist, second = people[:2]
    callings = " ".join([protagonist.role, *(part.calling for part in theme_people(brief.theme))])
    filled: list[FilledGap] = []
    paragraphs: tuple[Paragraph, ...] = ()
    for storyline, text in plan.paragraphs:
        pieces = text.split(scaffolds.GAP_MARK)  # words and kinds of gaps by turns
        for index in range(1, len(pieces), 2):
            # The second person worries about the protagonist; nobody fears or hopes for themselves.
            is_worry = pieces[index] == "worry"
            gap = await fill_gap(
                engine,
                rules,
                pieces[index],
                theme=brief.theme,
                name=(second if is_worry else protagonist).short,
                unwanted=significant_words(" ".join([*banned, "" if is_worry else callings])),
                taken=[gap.text for gap in filled],
                rng=rng,
            )
            filled.append(gap)
            pieces[index] = gap.text
        paragraphs += (Paragraph(storyline=storyline, text="".join(pieces)),)
    synopsis = Synopsis(title=plan.title, logline=plan.logline, characters=characters, paragraphs=paragraphs)
    return Answer(
        text=synopsis.as_json(),
        usage=sum((gap.usage for gap in filled), Usage()),
        seconds=time.monotonic() - start,
        model=engine.name,
        words_by_model=sum(gap.words_by_model for gap in filled),
        cost=NO_COST,
    )


def lay_out(
    brief: Brief, show: Show, scaffold: scaffolds.Scaffold, folder: Path, seed: int
) -> tuple[scaffolds.Plan, Sequence[Person], tuple[Character, ...], Random]:
    """Choose people and sentences, the same with the same seed; gaps continue its random numbers."""
    rng = Random(f"{seed}\n{brief.show}\n{brief.form}\n{brief.theme}")  # noqa: S311 - a choice, no secret
    people, rest = choose_people(brief, show, read_words(folder / "names.txt"), scaffold.people, rng)
    values = scaffolds.placeholder_values(brief.show, show.place, brief.theme, brief.air_date, people, rest)
    plan = scaffolds.compose(scaffold, values, brief.beats, rng)
    known = {member.name: member.role for member in show.cast}
    roles = [(person.name, person.role or role) for person, role in zip(people, _ROLES, strict=False)]
    roles += [(name, known.get(name, _ROLES[-1])) for name in rest]
    return plan, people, tuple(Character(name=name, role=role) for name, role in roles), rng
