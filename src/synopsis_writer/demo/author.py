"""Demo drafts without a key: a scaffold, and a few words by a small model."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Annotated

from pydantic import BaseModel, Field

from synopsis_writer.brief import MOST_CHARACTERS, Brief
from synopsis_writer.demo import scaffold as scaffolds
from synopsis_writer.demo.people import Person, choose_people, significant_words, theme_people
from synopsis_writer.document import read_fields, read_text
from synopsis_writer.errors import BriefError, TemplateError
from synopsis_writer.gate import form
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.text import analyse, word_parts
from synopsis_writer.house import House, built_in_house
from synopsis_writer.models.base import Answer
from synopsis_writer.models.download import MODEL_NAME, packaged_weights
from synopsis_writer.models.embedded import Completion, Engine
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
_TEMPERATURE = 0.6
_CANDIDATES, _ATTEMPTS, _MAX_TOKENS = 4, 3, 36
_SAME_STEM = 4  # letters that two forms of a word share at least
_GOOD_ENOUGH = -1.2  # a candidate this good ends the search
_TOO_BAD = -2.4  # at or below it, the fixed phrase is better


@dataclass
class DemoAuthor:
    """Drafts from a scaffold; a repair is another draft. The model is released before the gate loads: 700 MB."""

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
    """Return the form's scaffold, else the first whose draft fits the limits; raises BriefError."""
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
    """Write a draft, the same for a seed; `folder` has gaps and word lists, `banned` are of other shows."""
    start = time.monotonic()
    plan, people, characters, rng = lay_out(brief, show, scaffold, folder, seed)
    protagonist, second = people[:2]
    callings = " ".join([protagonist.role, *(part.calling for part in theme_people(brief.theme))])
    fill = partial(fill_gap, engine, load_gap_rules(folder), theme=brief.theme, rng=rng)
    taken, words_by_model, usage = list[str](), 0, Usage()
    paragraphs: tuple[Paragraph, ...] = ()
    for storyline, text in plan.paragraphs:
        pieces = text.split(scaffolds.GAP_MARK)  # alternating words and kinds of gaps
        for index in range(1, len(pieces), 2):
            # The second person worries about the protagonist; nobody fears or hopes for themselves.
            is_worry = pieces[index] == "worry"
            name, words = (second if is_worry else protagonist).short, ["" if is_worry else callings, *banned]
            unwanted = significant_words(" ".join(words))
            pieces[index], count, spent = await fill(pieces[index], name=name, unwanted=unwanted, taken=taken)
            words_by_model, usage = words_by_model + count, usage + spent
            taken.append(pieces[index])
        paragraphs += (Paragraph(storyline=storyline, text="".join(pieces)),)
    synopsis = Synopsis(title=plan.title, logline=plan.logline, characters=characters, paragraphs=paragraphs)
    return Answer(
        synopsis.as_json(), usage=usage, seconds=time.monotonic() - start, model=engine.name,
        words_by_model=words_by_model, cost=NO_COST,
    )  # fmt: skip


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


class FewShot(BaseModel, frozen=True, extra="forbid"):
    """A theme and the sentence it led to."""

    theme: str
    sentence: str


class GapKind(BaseModel, frozen=True, extra="forbid"):
    """How gaps of one kind are filled."""

    lead: str  # how each sentence begins; `{name}` stands for the person
    lines: Annotated[tuple[FewShot, ...], Field(min_length=4)]
    grammar: str  # what may follow the lead, as GBNF; the rule `person` is added
    fixed: Annotated[tuple[str, ...], Field(min_length=2)]  # phrases to fall back on


class People(BaseModel, frozen=True, extra="forbid"):
    """People in the genitive: those who `always` fit, and those who fit only `if_named` by the theme."""

    always: Annotated[tuple[str, ...], Field(min_length=2)]
    if_named: tuple[str, ...] = ()


class GapRules(BaseModel, frozen=True, extra="forbid"):
    """The rules for all gaps: the kinds of `scaffold.GAPS`, who may appear, and which prefixes may not."""

    people: People
    fear: GapKind
    worry: GapKind
    hope: GapKind
    blocked: tuple[str, ...] = ()


def load_gap_rules(folder: Path) -> GapRules:
    """Read `gaps.yaml` and `blocked.txt` in `folder`; raises TemplateError or FileError."""
    rules = read_fields(folder / "gaps.yaml", GapRules, TemplateError)
    return rules.model_copy(update={"blocked": tuple(read_words(folder / "blocked.txt"))})


def read_words(path: Path) -> list[str]:
    """Return the lines of a word list, without empty lines and comments."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]


async def fill_gap(
    engine: Engine, rules: GapRules, kind: str, *,
    theme: str, name: str, unwanted: Collection[str], taken: Collection[str], rng: Random,
) -> tuple[str, int, Usage]:  # fmt: skip
    """Return text for a gap, which is not `taken`, how many words are the model's, and their usage."""
    gap: GapKind = getattr(rules, kind)
    shots = "".join(f"Thema: {line.theme}\nSatz: {line.sentence}\n\n" for line in gap.lines)
    fallback = rng.choice([phrase for phrase in gap.fixed if phrase not in taken] or gap.fixed)
    prompt = f"{shots}Thema: {theme}\nSatz: {gap.lead.format(name=name)}"
    words, people = _lower(theme), list[str]()
    for person in (*rules.people.always, *rules.people.if_named):
        noun = person.rpartition(" ")[2].casefold()
        # `Läuferin` by `Eiskunstläuferin`, `Kindes` by `Kind`
        same_gender = [word for word in words if word.endswith("in") == noun.endswith("in")]
        is_named = any(noun in word or noun[:_SAME_STEM] == word[:_SAME_STEM] for word in same_gender)
        if (is_named or person in rules.people.always) and not noun.startswith(tuple(unwanted)):
            people.append(f'"{person}"')
    grammar = f"{gap.grammar}\nperson ::= {' | '.join(people)}"
    ask = partial(engine.complete, prompt, grammar=grammar, n=_CANDIDATES, max_tokens=_MAX_TOKENS)
    usage, best_text, best = Usage(), "", _TOO_BAD
    for _ in range(_ATTEMPTS):
        for candidate in await ask(temperature=_TEMPERATURE, seed=rng.getrandbits(31), logprobs=True):
            usage += candidate.usage
            text = candidate.text.strip().removesuffix(".")
            value = score(candidate, gap, rules, theme=theme, unwanted=unwanted)
            if value > best and text not in taken:
                best_text, best = text, value
        if best >= _GOOD_ENOUGH:
            break
    return best_text or fallback, len(best_text.split()), usage


def score(answer: Completion, gap: GapKind, rules: GapRules, theme: str, unwanted: Collection[str]) -> float:
    """Return how good an answer is: its mean log-probability minus the penalties; 0 would be perfect."""
    if not answer.logprobs:
        return float("-inf")
    from wordfreq import zipf_frequency

    text, lowered, themed = answer.text, _lower(answer.text), _lower(theme)
    shown_words = {word for line in gap.lines for word in word_parts(line.sentence)}
    shown_runs = {run for line in gap.lines for run in _runs(line.sentence)}
    # Rarer than one in a million; the list of rarer words would take 80 MB.
    rare = [word for word in lowered if word not in themed and not zipf_frequency(word, "de", "small")]
    penalties = (
        (2.0, rare),
        (0.8, any(word[0].isupper() for word in shown_words.intersection(word_parts(text)))),
        (3.0, shown_runs & _runs(text)),
        (4.0, any(word.startswith(tuple(map(str.casefold, unwanted))) for word in lowered)),
        (6.0, any(word.startswith(rules.blocked) for word in lowered)),
        (6.0, not text.rstrip().endswith(".")),  # truncated
    )
    return fmean(answer.logprobs) - sum(penalty for penalty, applies in penalties if applies)


def _lower(text: str) -> list[str]:
    return [word.casefold() for word in word_parts(text)]


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _lower(text)
    return {tuple(words[start : start + 4]) for start in range(len(words) - 3)}
