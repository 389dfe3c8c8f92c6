"""A model that scores and compares texts; its judgements, kept."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from synopsis_writer.errors import SettingsError, TemplateError
from synopsis_writer.evals.record import Row, append_line, as_json_line, read_lines
from synopsis_writer.evals.suite import Case, LoadedSuite
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_client, resolve_model
from synopsis_writer.prompts.templates import (
    JUDGE_TEMPLATES,
    Template,
    brief_block,
    json_block,
    load_template,
)
from synopsis_writer.settings import Settings, folder
from synopsis_writer.settings import folder as packaged
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.usage import Cost, Spent, Usage, total_cost

_ASKED = 2  # times one question is asked: an answer that cannot be read gets one more chance

_FIRST_BLOCK = "\n<auftrag>\n"  # what stands before it is the rubric: the system turn


def load_judge_templates(folder: Path) -> dict[str, Template]:
    """Load the judge's templates: those that `folder` has, the program's own for the others.

    Raises:
        TemplateError: one breaks its format, or has no line `<auftrag>` to part rubric and case.
    """
    own = packaged("prompts")
    paths = {name: folder / f"{name}.md" for name in JUDGE_TEMPLATES}
    templates = {
        name: load_template(path if path.is_file() else own / path.name, JUDGE_TEMPLATES[name])
        for name, path in paths.items()
    }
    for name, template in templates.items():
        if _FIRST_BLOCK not in template.source:
            raise TemplateError(
                f"{paths[name]}: no line '<auftrag>': put the rubric before it, the blocks behind it"
            )
    return templates


def checklist(case: Case) -> tuple[str, ...]:
    """Return what a text about the case should say, in the order in which the judge is given it."""
    return (*case.brief.beats, *case.facts)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Score = Annotated[int, Field(strict=True, ge=1, le=5)]


class _Scales(_Strict):
    coherence: _Score
    theme: _Score
    style: _Score
    language: _Score


class Scores(_Scales):
    """What the judge says of one text.

    Attributes:
        coherence, theme, style, language: 1 to 5; more is better.
        facts: whether the text says each of the `checklist`, in its order.
        reasons: why, in German.
    """

    facts: tuple[bool, ...]
    reasons: str


class Judgement(_Strict):
    """What the judge says of one text, and what that took; `model_dump_json` makes a line of it.

    Attributes:
        scores: by the rubric; None where the answers could not be read.
        preference: 1 the text is better than the reference in both orders, 0 the reference is in both, 0.5
            otherwise; None where an answer could not be read.
        model: who judged, as its server names it.
        prompt: names, versions and hashes of the templates.
        calls: answers in all; `unread` of them could not be read.
        prompt_tokens, cached_tokens, completion_tokens: of all answers.
        amount, currency: what all answers cost; None where a price is not known.
    """

    scores: Scores | None
    preference: Annotated[float, Field(ge=0, le=1)] | None
    model: str
    prompt: str
    calls: int
    unread: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    amount: Decimal | None
    currency: str


Told = TypeVar("Told", bound=BaseModel)


@dataclass(frozen=True)
class Judge:
    """Asks a model what it thinks of texts; several texts may be judged at once.

    Attributes:
        client: the model.
        templates: `judge` and `judge_pair`.
        limits: of each call.
        answers: all answers, so that tokens and costs of unreadable ones count, too.
        unread: those of them that could not be read: refused, cut, or not in the structure asked for.
    """

    client: ModelClient
    templates: Mapping[str, Template]
    limits: Limits
    answers: list[Answer] = field(default_factory=list)
    unread: list[Answer] = field(default_factory=list)

    async def judge(self, case: Case, synopsis: Synopsis) -> Judgement:
        """Score a text, and compare it with the case's reference: three calls; raises ModelError."""
        own = replace(self, answers=[], unread=[])
        try:
            scores = await own.score(case, synopsis)
            preference = await own.prefer(case, synopsis)
        finally:
            self.answers.extend(own.answers)
            self.unread.extend(own.unread)
        return own.sum_up(scores, preference)

    async def score(self, case: Case, synopsis: Synopsis) -> Scores | None:
        """Return the scores by the rubric; None when no answer could be read; raises ModelError."""
        facts = checklist(case)
        messages = self._messages(
            "judge",
            brief=brief_block(case.brief.model_copy(update={"beats": ()})),
            facts=json_block({str(number): fact for number, fact in enumerate(facts, 1)}),
            text=text_block(synopsis),
        )

        def fits(told: ScoreAnswer) -> bool:
            return sorted(fact.number for fact in told.facts) == list(range(1, len(facts) + 1))

        told = await self._ask(messages, WireScores, ScoreAnswer, fits)
        if told is None:
            return None
        said = tuple(fact.said for fact in sorted(told.facts, key=lambda fact: fact.number))
        return Scores.model_validate({**told.model_dump(), "facts": said})

    async def prefer(self, case: Case, synopsis: Synopsis) -> float | None:
        """Compare a text with the reference, which stands first, then second.

        Returns:
            1 when the text is better in both orders, 0 when the reference is, 0.5 when the orders disagree or
            one says equal, None when an answer could not be read.

        Raises:
            ModelError: the model failed for good.
        """
        brief, reference, text = brief_block(case.brief), text_block(case.reference), text_block(synopsis)
        better: list[str] = []
        for first, second, names in (
            (reference, text, {"first": "reference", "second": "text"}),
            (text, reference, {"first": "text", "second": "reference"}),
        ):
            messages = self._messages("judge_pair", brief=brief, first=first, second=second)
            told = await self._ask(messages, WirePreference, PairAnswer, lambda _: True)
            if told is None:
                return None
            better.append(names.get(told.better, "equal"))
        if better == ["text", "text"]:
            return 1.0
        return 0.0 if better == ["reference", "reference"] else 0.5

    def sum_up(self, scores: Scores | None, preference: float | None) -> Judgement:
        """Return the judgement with what all of the judge's answers took."""
        usage = sum((answer.usage for answer in self.answers), Usage())
        cost = total_cost(answer.cost for answer in self.answers)
        return Judgement(
            scores=scores,
            preference=preference,
            model=self.answers[-1].model or self.client.name,
            prompt=", ".join(f"{one.name} {one.version} {one.hash}" for one in self.templates.values()),
            calls=len(self.answers),
            unread=len(self.unread),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            amount=None if cost is None else cost.amount,
            currency="" if cost is None else cost.currency,
        )

    def _messages(self, name: str, **blocks: str) -> tuple[Message, Message]:
        # No block holds a `<`, so the first one begins where the template says, whatever the texts say.
        rubric, line, rest = self.templates[name].render(**blocks).partition(_FIRST_BLOCK)
        return Message("system", rubric), Message("user", (line + rest).strip())

    async def _ask(
        self,
        messages: Sequence[Message],
        wire: type[BaseModel],
        shape: type[Told],
        fits: Callable[[Told], bool],
    ) -> Told | None:
        for chance in range(_ASKED):
            # Another number, or a cache would give the unreadable answer again.
            limits = replace(self.limits, sample=self.limits.sample + chance)
            answer = await self.client.complete(messages, wire.model_json_schema(), limits)
            self.answers.append(answer)
            told = read_verdict(answer, shape)
            if told is not None and fits(told):
                return told
            self.unread.append(answer)
        return None


def text_block(synopsis: Synopsis) -> str:
    """Return a text as the judge gets it: JSON that holds no delimiter of any kind."""
    return json_block(
        {
            "Titel": synopsis.title,
            "Logline": synopsis.logline,
            "Figuren": [f"{person.name}: {person.role}" for person in synopsis.characters],
            "Absätze": [paragraph.text for paragraph in synopsis.paragraphs],
        }
    )


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WireFact(_Wire):
    """Whether the text says one fact, as it goes over the wire."""

    number: int
    said: bool


class WireScores(_Wire):
    """The answer to a request for scores, as it goes over the wire: reasons first."""

    reasons: str
    facts: list[WireFact]
    coherence: int
    theme: int
    style: int
    language: int


class WirePreference(_Wire):
    """The answer to a request for a preference, as it goes over the wire: reasons first."""

    reasons: str
    better: Literal["first", "second", "equal"]


def _given(text: str) -> str:
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())  # no lone surrogates in a file
    if not line:
        raise ValueError("is empty: reasons come before scores")
    return line


_Reasons = Annotated[str, AfterValidator(_given)]


class _Fact(_Strict):
    number: Annotated[int, Field(strict=True)]
    said: Annotated[bool, Field(strict=True)]


class ScoreAnswer(_Scales):
    """An answer to a request for scores, within its ranges."""

    reasons: _Reasons
    facts: tuple[_Fact, ...]


class PairAnswer(_Strict):
    """An answer to a request for a preference."""

    reasons: _Reasons
    better: Literal["first", "second", "equal"]


def judge_metrics(judgement: Judgement) -> dict[str, float | None]:
    """Return the metrics of a judgement: more is better, None is unscored.

    `judge_coherence`, `judge_theme`, `judge_style` and `judge_language` go from 1 to 5; `judge_facts`, the
    share of the checklist that the text says, and `judge_preference` from 0 to 1. Source: the rubric in
    `prompts/judge.md`; a pair is asked in both orders as Zheng et al. (2023), arXiv 2306.05685, propose.
    """
    scores = judgement.scores
    facts = scores.facts if scores is not None else ()
    scales = {f"judge_{scale}": getattr(scores, scale, None) for scale in _Scales.model_fields}
    return {
        **{name: None if value is None else float(value) for name, value in scales.items()},
        "judge_facts": sum(facts) / len(facts) if facts else None,
        "judge_preference": judgement.preference,
    }


def read_verdict(answer: Answer, shape: type[Told]) -> Told | None:
    """Return the one verdict in an answer; of two, one may be quoted from the text under judgement."""
    if answer.finish != "stop" or answer.text.count('"reasons"') > 1:
        return None
    return parse(answer.text, shape).value


Say = Callable[[str], None]


@asynccontextmanager
async def open_judge(
    model: str,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,  # noqa: ARG001 - goes when the callers do without
    budget: Budget | None = None,
) -> AsyncIterator[Judge]:
    """Open a judge: a model on a server or in a file.

    Args:
        model: its name.
        settings: all settings.
        environment: where the key stands.
        say: is told of waits.
        budget: the ledger, where writers share one with the judge; None is one of its own.

    Raises:
        SettingsError, TemplateError: as `choose_judge`, or the budget cannot be used.
        ModelError: the file cannot be loaded.
    """
    choice, templates = choose_judge(model, settings, environment)
    async with open_client(choice, settings, environment, budget=budget) as client:
        yield Judge(client, templates, limits_of(settings))


def choose_judge(
    model: str, settings: Settings, environment: Mapping[str, str]
) -> tuple[ResolvedModel, Mapping[str, Template]]:
    """Return the judge's model, and its templates.

    Raises:
        SettingsError: there is no such model, or it is the packaged one, which cannot judge.
        TemplateError: a template of the judge breaks its format.
    """
    choice = resolve_model(settings.model_copy(update={"model": model}), environment)
    if choice.kind == "packaged":
        raise SettingsError(
            "the packaged model cannot judge: name a hosted model, or a GGUF file, with --judge"
        )
    return choice, load_judge_templates(settings.prompts or folder("prompts"))


async def judge_rows(
    run: Path,
    rows: list[Row],
    suite: LoadedSuite,
    judge: Judge,
    *,
    concurrency: int,
    done: Callable[[int, int], None],
) -> None:
    """Have a judge read the texts that it has not read yet, and keep each judgement.

    Raises:
        ModelError: the judge failed for good; what was judged is kept.
        FileError: a judgement cannot be written.
    """
    judging = judge_id(judge)
    before = read_judged(run, lambda _: None)  # who opens the run is told of half lines
    judged = before.get(judging, {})
    cases = {case.id: case for case in suite.cases}
    todo = [(row, cases[row.case]) for row in rows if _is_due(row, cases, judged)]
    turn, finished = asyncio.Semaphore(concurrency), 0

    async def one(row: Row, case: Case) -> None:
        nonlocal finished
        if row.synopsis is None:
            return
        async with turn:
            judgement = await judge.judge(case, row.synopsis)
        add_judged(run, judging, row, judgement)
        finished += 1
        done(finished, len(todo))

    try:
        async with asyncio.TaskGroup() as group:
            for row, case in todo:
                group.create_task(one(row, case))
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    if not todo and judging != next(reversed(before), None):
        name_judge(run, judging)


def _is_due(row: Row, cases: Mapping[str, Case], judged: Mapping[str, object]) -> bool:
    return row.synopsis is not None and row.case in cases and row_digest(row) not in judged


JUDGED_FILE = "judged.jsonl"


class JudgeId(NamedTuple):
    """Who judged.

    Attributes:
        judge: the model, as it was asked for.
        templates: 12 hex digits that change when one of its templates does.
    """

    judge: str
    templates: str


class _Line(BaseModel):
    """A line of the file; without a row it says that the judge was run, and had nothing to judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    templates: str
    row: str | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True)
class Judged:
    """What one judge said of a run.

    Attributes:
        judge: who; None where no judge was asked.
        judgements: by the digests of the rows.
    """

    judge: JudgeId | None
    judgements: Mapping[str, Judgement]

    @property
    def name(self) -> str:
        """The judge's model; empty where there is none."""
        return self.judge.judge if self.judge else ""


def judge_id(judge: Judge) -> JudgeId:
    """Return who a judge is: another model, or changed templates, are another judge."""
    hashes = "".join(judge.templates[name].hash for name in sorted(judge.templates))
    return JudgeId(judge.client.name, hashlib.sha256(hashes.encode("utf-8")).hexdigest()[:12])


def row_digest(row: Row) -> str:
    """Return 24 hex digits that stand for a row with all it holds.

    What is as it would be without saying is left out, so that a row keeps its digest when rows get a field.
    """
    return hashlib.sha256(row.model_dump_json(exclude_defaults=True).encode("utf-8")).hexdigest()[:24]


def read_judged(folder: Path, say: Say) -> dict[JudgeId, dict[str, Judgement]]:
    """Return each judge's judgements by the digests of their rows; the judge that was run last stands last.

    A line that cannot be read, as one that a kill cut, is said and left out.

    Raises:
        FileError: the file cannot be read.
    """
    path = folder / JUDGED_FILE
    found: dict[JudgeId, dict[str, Judgement]] = {}
    for number, data in read_lines(path):
        try:
            line = _Line.model_validate(data)
        except ValueError:
            say(f"{path}:{number}: half written, left out: the row is judged again")
            continue
        judge = JudgeId(line.judge, line.templates)
        found[judge] = found.pop(judge, {})
        if line.row is not None and line.judgement is not None:
            found[judge][line.row] = line.judgement
    return found


def last_judged(folder: Path, say: Say) -> Judged:
    """Return what the judge that was run last said; raises as `read_judged`."""
    found = read_judged(folder, say)
    last = next(reversed(found), None)
    return Judged(last, found[last] if last else {})


def name_judge(folder: Path, judge: JudgeId) -> None:
    """Note that a judge was run, though it may have had nothing to judge; raises FileError."""
    append_line(folder / JUDGED_FILE, _data(_Line(**judge._asdict())))


def add_judged(folder: Path, judge: JudgeId, row: Row, judgement: Judgement) -> None:
    """Append a judgement; raises FileError."""
    line = _Line(**judge._asdict(), row=row_digest(row), judgement=judgement)
    append_line(folder / JUDGED_FILE, _data(line))


def judged_text(judged: Judged, rows: Sequence[Row]) -> str:
    """Return the text of a file with one judge's judgements of some rows; empty where there are none."""
    if judged.judge is None:
        return ""
    lines = [
        _Line(**judged.judge._asdict(), row=name, judgement=judged.judgements[name])
        for name in map(row_digest, rows)
        if name in judged.judgements
    ]
    return "".join(as_json_line(_data(line)) for line in lines)


def _data(line: _Line) -> dict[str, object]:
    return line.model_dump(mode="json", exclude_none=line.row is None)


def spent_on(folder: Path, rows: Iterable[Row]) -> Spent:
    """Return what rows and all judgements in a run's folder took.

    Raises:
        FileError: the judgements cannot be read.
    """
    judges = read_judged(folder, lambda _: None)  # who opens the run is told of half lines
    made: list[Row | Judgement] = [row for row in rows if row.attempts]
    made += [judgement for told in judges.values() for judgement in told.values()]
    costs = [None if one.amount is None else Cost(one.amount, one.currency) for one in made]
    return Spent(_total(costs), sum(one.prompt_tokens + one.completion_tokens for one in made))


def _total(costs: Iterable[Cost | None]) -> Cost | None:
    try:
        return total_cost(costs)
    except ValueError:  # two currencies have no sum: as if one had no price
        return None
