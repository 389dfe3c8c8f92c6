"""A model that scores and compares texts, and the record of its judgements."""

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.brief import Brief
from synopsis_writer.characters import join_surrogates
from synopsis_writer.drafting import longer
from synopsis_writer.errors import SettingsError, TemplateError
from synopsis_writer.evals.metrics import Metric
from synopsis_writer.evals.record import Row, append_line, read_lines, row_digest
from synopsis_writer.evals.suite import Case, LoadedSuite
from synopsis_writer.house.house import built_in_house, open_house
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
from synopsis_writer.settings import Settings
from synopsis_writer.settings import folder as packaged
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.usage import Cost, Spent, Usage, total_cost

JUDGEMENTS_FILE = "judged.jsonl"
_FIRST_BLOCK = "\n<auftrag>\n"  # what precedes it is the rubric: the system message

_VERDICT = re.compile(r"\breasons[\"'”]?\s*:")

_log = logging.getLogger(__name__)


def load_judge_templates(folder: Path) -> dict[str, Template]:
    """Load the judge's templates: those that `folder` has, the packaged ones for the others."""
    templates = {}
    for name, blocks in JUDGE_TEMPLATES.items():
        path = folder / f"{name}.md"
        template = load_template(path if path.is_file() else packaged("prompts") / path.name, blocks)
        if _FIRST_BLOCK not in template.source:
            raise TemplateError(f"{path}: no line '<auftrag>': put the rubric before it, the blocks after it")
        templates[name] = template
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
    """The judge's scores of one text, 1 to 5; `facts`: whether it says each of the `checklist`."""

    facts: tuple[bool, ...]
    reasons: str


class Judgement(_Strict):
    """The judge's opinion of one text, and the usage.

    Attributes:
        scores: by the rubric; None where the answers could not be read.
        preference: 1 the text is better than the reference in both orders, 0 the reference is in both, 0.5
            otherwise; None where an answer could not be read.
        model: who judged, as its server names it.
        prompt: names, versions and hashes of the templates.
        calls: answers in all; `unread` of them could not be read.
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

    @property
    def usage(self) -> Usage:
        """Of all answers."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def cost(self) -> Cost | None:
        """The cost of all answers; None where a price is not known."""
        return None if self.amount is None else Cost(self.amount, self.currency)


AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True)
class Judge:
    """Asks a model for its opinion of texts; several texts may be judged at once.

    Attributes:
        purposes: what forms are for, by their names, where the templates do not say it.
        answers: all answers, so that tokens and costs of unreadable ones count, too.
        unread: those of them that could not be read: refused, truncated, or of another structure.
    """

    client: ModelClient
    templates: Mapping[str, Template]
    limits: Limits
    purposes: Mapping[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    unread: list[Answer] = field(default_factory=list)

    @property
    def id(self) -> "JudgeId":
        """Another model, or changed templates, are another judge."""
        hashes = "".join(self.templates[name].hash for name in sorted(self.templates))
        return JudgeId(self.client.name, hashlib.sha256(hashes.encode("utf-8")).hexdigest()[:12])

    async def judge(self, case: Case, synopsis: Synopsis) -> Judgement:
        """Score a text, and compare it with the case's reference: three calls; raises ModelError."""
        call = replace(self, answers=[], unread=[])
        try:
            scores = await call.score(case, synopsis)
            preference = await call.prefer(case, synopsis)
        finally:
            self.answers.extend(call.answers)
            self.unread.extend(call.unread)
        usage = sum((answer.usage for answer in call.answers), Usage())
        cost = total_cost(answer.cost for answer in call.answers)
        return Judgement(
            scores=scores,
            preference=preference,
            model=call.answers[-1].model or self.client.name,
            prompt=", ".join(f"{each.name} {each.version} {each.hash}" for each in self.templates.values()),
            calls=len(call.answers),
            unread=len(call.unread),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            amount=None if cost is None else cost.amount,
            currency="" if cost is None else cost.currency,
        )

    async def score(self, case: Case, synopsis: Synopsis) -> Scores | None:
        """Return the scores by the rubric; None when no answer could be read; raises ModelError."""
        facts = checklist(case)
        messages = self._messages(
            "judge",
            brief=self._brief_block(case.brief.model_copy(update={"beats": ()})),
            facts=json_block({str(number): fact for number, fact in enumerate(facts, 1)}),
            text=text_block(synopsis),
        )

        def is_complete(answer: ScoreAnswer) -> bool:
            return sorted(fact.number for fact in answer.facts) == list(range(1, len(facts) + 1))

        answer = await self._ask(messages, WireScores, ScoreAnswer, is_complete)
        if answer is None:
            return None
        in_order = sorted(answer.facts, key=lambda fact: fact.number)
        return Scores.model_validate({**answer.model_dump(), "facts": tuple(fact.said for fact in in_order)})

    async def prefer(self, case: Case, synopsis: Synopsis) -> float | None:
        """Compare a text with the reference in both orders, as `Judgement.preference`; raises ModelError."""
        brief, reference, text = (
            self._brief_block(case.brief),
            text_block(case.reference),
            text_block(synopsis),
        )
        better: list[str] = []
        for first, second, names in (
            (reference, text, {"first": "reference", "second": "text"}),
            (text, reference, {"first": "text", "second": "reference"}),
        ):
            messages = self._messages("judge_pair", brief=brief, first=first, second=second)
            answer = await self._ask(messages, WirePreference, PairAnswer, lambda _: True)
            if answer is None:
                return None
            better.append(names.get(answer.better, "equal"))
        if better == ["text", "text"]:
            return 1.0
        return 0.0 if better == ["reference", "reference"] else 0.5

    def _brief_block(self, brief: Brief) -> str:
        return brief_block(brief, purpose=self.purposes.get(brief.form))

    def _messages(self, name: str, **blocks: str) -> tuple[Message, Message]:
        # No block contains a `<`, so the first one begins where the template says, whatever the texts say.
        rubric, line, rest = self.templates[name].render(**blocks).partition(_FIRST_BLOCK)
        return Message("system", rubric), Message("user", (line + rest).strip())

    async def _ask(
        self,
        messages: Sequence[Message],
        wire: type[BaseModel],
        shape: type[AnswerT],
        is_valid: Callable[[AnswerT], bool],
    ) -> AnswerT | None:
        limits = self.limits
        for sample in range(2):  # an answer that cannot be read gets one more chance
            # Another sample, or a cache would give the unreadable answer again.
            limits = replace(limits, sample=self.limits.sample + sample)
            answer = await self.client.complete(messages, wire.model_json_schema(), limits)
            self.answers.append(answer)
            content = answer.content
            # Of two verdicts in an answer one may be quoted from the text that is judged.
            if answer.finish in {"stop", "length"} and len(_VERDICT.findall(content)) <= 1:
                verdict = None if answer.is_truncated else parse(content, shape).value
                if verdict is not None and is_valid(verdict):
                    return verdict
            self.unread.append(answer)
            limits = longer(limits) if answer.is_truncated else limits
        return None


def text_block(synopsis: Synopsis) -> str:
    """Return a text as the judge gets it: JSON that contains no delimiter of any kind."""
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


def _nonempty(text: str) -> str:
    line = " ".join(join_surrogates(text).split())
    if not line:
        raise ValueError("is empty: give reasons before scores")
    return line


_Reasons = Annotated[str, AfterValidator(_nonempty)]


class _Fact(_Strict):
    number: Annotated[int, Field(strict=True)]
    said: Annotated[bool, Field(strict=True)]


class ScoreAnswer(_Scales):
    """An answer with scores, within their ranges."""

    reasons: _Reasons
    facts: tuple[_Fact, ...]


class PairAnswer(WirePreference):
    """An answer with a preference."""

    reasons: _Reasons


_JUDGE_LABELS = {
    "judge_coherence": "judge: coherence, 1 to 5",
    "judge_theme": "judge: theme, 1 to 5",
    "judge_style": "judge: style, 1 to 5",
    "judge_language": "judge: language, 1 to 5",
    "judge_facts": "judge: facts told, 0 to 1",
    "judge_preference": "judge: preferred to the reference, 0 to 1",
}

# None of a row alone: only a judge can score it.
JUDGE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {name: Metric(lambda *_: None, 1, label) for name, label in _JUDGE_LABELS.items()}
)


def judge_metrics(judgement: Judgement) -> dict[str, float | None]:
    """Return the metrics of a judgement; None is unscored.

    `judge_facts` is the share of the checklist that the text says. Source: the rubric in `prompts/judge.md`;
    a pair is asked in both orders as Zheng et al. (2023), arXiv 2306.05685, propose.
    """
    scores = judgement.scores
    facts = scores.facts if scores is not None else ()
    scales = {f"judge_{scale}": getattr(scores, scale, None) for scale in _Scales.model_fields}
    return {
        **{name: None if value is None else float(value) for name, value in scales.items()},
        "judge_facts": sum(facts) / len(facts) if facts else None,
        "judge_preference": judgement.preference,
    }


@asynccontextmanager
async def open_judge(
    model: str, settings: Settings, environment: Mapping[str, str], budget: Budget | None = None
) -> AsyncIterator[Judge]:
    """Open a judge: a model on a server or in a file; `budget` is the one that writers share with it.

    Raises:
        SettingsError, TemplateError: as `resolve_judge`, or the budget cannot be used.
        ModelError: the file cannot be loaded.
    """
    choice, templates = resolve_judge(model, settings, environment)
    async with open_client(choice, settings, environment, budget=budget) as client:
        house = open_house(settings)
        purposes = (
            {} if house == built_in_house() else {name: form.purpose for name, form in house.forms.items()}
        )
        yield Judge(client, templates, limits_of(settings), purposes)


def resolve_judge(
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
    return choice, load_judge_templates(settings.own_prompts or packaged("prompts"))


class JudgeId(NamedTuple):
    """Who judged: the model as it was asked for, and 12 hex digits that change with its templates."""

    judge: str
    templates: str


class _Line(BaseModel):
    """A line of the file; without a row it records that the judge ran, and had nothing to judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    templates: str
    row: str | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True)
class Judgements:
    """One judge's judgements of a run, by the digests of the rows; `judge` is None where none was asked."""

    judge: JudgeId | None
    by_row: Mapping[str, Judgement]

    @property
    def name(self) -> str:
        """The judge's model; empty where there is none."""
        return self.judge.judge if self.judge else ""


async def judge_rows(
    run: Path, rows: Sequence[Row], suite: LoadedSuite, judge: Judge, *, concurrency: int
) -> None:
    """Have the texts judged that this judge has not judged yet, and save each judgement."""
    before = read_judgements(run)
    judged = before.get(judge.id, {})
    cases = {case.id: case for case in suite.cases}
    due = [
        (row, cases[row.id.case], row.synopsis)
        for row in rows
        if row.synopsis is not None and row.id.case in cases and row_digest(row) not in judged
    ]
    finished = 0

    async def judge_row(item: tuple[Row, Case, Synopsis]) -> None:
        nonlocal finished
        row, case, synopsis = item
        append_judgement(run, judge.id, row, await judge.judge(case, synopsis))
        finished += 1
        _log.info("judged %d of %d", finished, len(due))

    await run_concurrently(iter(due), judge_row, concurrency)
    if not due and judge.id != next(reversed(before), None):
        append_judgement(run, judge.id)


def read_judgements(folder: Path, level: int = logging.DEBUG) -> dict[JudgeId, dict[str, Judgement]]:
    """Return each judge's judgements by the digests of their rows; the judge that ran last comes last.

    A line that cannot be read, as one truncated by a kill, is left out, and logged at `level`.
    """
    path = folder / JUDGEMENTS_FILE
    judges: dict[JudgeId, dict[str, Judgement]] = {}
    for number, data in read_lines(path):
        try:
            line = _Line.model_validate_json(data)
        except ValueError:
            _log.log(level, "%s:%d: truncated, left out: the row is judged again", path, number)
            continue
        judge = JudgeId(line.judge, line.templates)
        judges[judge] = judges.pop(judge, {})
        if line.row is not None and line.judgement is not None:
            judges[judge][line.row] = line.judgement
    return judges


def latest_judgements(folder: Path) -> Judgements:
    """Return the judgements of the judge that ran last; raises FileError."""
    judges = read_judgements(folder, logging.WARNING)
    last = next(reversed(judges), None)
    return Judgements(last, judges[last] if last else {})


def append_judgement(
    folder: Path, judge: JudgeId, row: Row | None = None, judgement: Judgement | None = None
) -> None:
    """Record a judgement, or, without one, that a judge ran and had nothing to judge."""
    line = _Line(**judge._asdict(), row=row_digest(row) if row else None, judgement=judgement)
    append_line(folder / JUDGEMENTS_FILE, line.model_dump_json(exclude_none=row is None) + "\n")


def judgements_text(judgements: Judgements, rows: Sequence[Row]) -> str:
    """Return the text of a file with one judge's judgements of some rows; empty where there are none."""
    if judgements.judge is None:
        return ""
    lines = [
        _Line(**judgements.judge._asdict(), row=digest, judgement=judgements.by_row[digest])
        for digest in map(row_digest, rows)
        if digest in judgements.by_row
    ]
    return "".join(f"{line.model_dump_json()}\n" for line in lines)


def run_spending(folder: Path, rows: Iterable[Row]) -> Spent:
    """Return what rows, also failed ones, and all judgements in a run's folder took."""
    judges = read_judgements(folder)
    paid = [(row.usage, row.cost) for row in rows if row.attempts or row.usage != Usage()]
    paid += [(each.usage, each.cost) for judgements in judges.values() for each in judgements.values()]
    usage = sum((usage for usage, _ in paid), Usage())
    try:
        cost = total_cost(cost for _, cost in paid)
    except ValueError:  # two currencies have no sum: as if one had no price
        cost = None
    return Spent(cost, usage.prompt_tokens + usage.completion_tokens)
