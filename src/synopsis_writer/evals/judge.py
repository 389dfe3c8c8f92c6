"""A model that scores and compares texts, and the record of its judgements."""

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.characters import join_surrogates
from synopsis_writer.drafting import longer
from synopsis_writer.errors import SettingsError, TemplateError
from synopsis_writer.evals.metrics import Metric
from synopsis_writer.evals.record import Row, append_line, read_lines, row_digest
from synopsis_writer.evals.suite import Case, LoadedSuite
from synopsis_writer.gate.finding import quoted
from synopsis_writer.gate.lexicon import pattern
from synopsis_writer.gate.text import lower_words
from synopsis_writer.house.house import House, built_in_house, load_house, open_house
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_client, resolve_model
from synopsis_writer.prompts.rules import render_rules
from synopsis_writer.prompts.templates import (
    JUDGE_TEMPLATES,
    Template,
    brief_block,
    json_block,
    load_template,
    template_path,
)
from synopsis_writer.settings import Settings
from synopsis_writer.settings import folder as packaged
from synopsis_writer.synopsis import Synopsis, parse, wire_schema
from synopsis_writer.usage import Cost, Spent, Usage, format_cost, total_cost, usage_data

JUDGEMENTS_FILE = "judged.jsonl"
_FIRST_BLOCK = "\n<auftrag>\n"  # what precedes it is the rubric: the system message

_VERDICT = re.compile(r"\breasons[\"'”]?\s*:")

_log = logging.getLogger(__name__)


def load_judge_templates(folder: Path) -> dict[str, Template]:
    """Load the judge's templates: those that `folder` has, the packaged ones for the others."""
    templates = {}
    for name, blocks in JUDGE_TEMPLATES.items():
        path = template_path(folder, name)
        template = load_template(path, blocks)
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


def _nonempty(text: str) -> str:
    line = " ".join(join_surrogates(text).split())
    if not line:
        raise ValueError("is empty: give reasons before scores")
    return line


_Reasons = Annotated[str, AfterValidator(_nonempty)]


class _Fact(_Strict):
    number: Annotated[int, Field(strict=True)]
    said: Annotated[bool, Field(strict=True)]


class _Answer(_Strict):
    reasons: _Reasons  # first, so that the rest follows from them


class _Told(_Answer):
    facts: tuple[_Fact, ...]


class ScoreAnswer(_Scales, _Told):
    """The answer to a request for scores, within their ranges; its fields are asked for in this order."""


class PairAnswer(_Answer):
    """The answer to a request for a preference."""

    better: Literal["first", "second", "equal"]


AnswerT = TypeVar("AnswerT", bound=_Answer)


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
        problem: why something is unscored.
    """

    scores: Scores | None = None
    preference: Annotated[float, Field(ge=0, le=1)] | None = None
    model: str
    prompt: str
    calls: int = 0
    unread: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount: Decimal | None = None
    currency: str = ""
    problem: str = ""

    @property
    def usage(self) -> Usage:
        """Of all answers."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def cost(self) -> Cost | None:
        """The cost of all answers; None where a price is not known."""
        return None if self.amount is None else Cost(self.amount, self.currency)


class JudgeId(NamedTuple):
    """Who judged: the model as it was asked for, and 12 hex digits that change with its templates."""

    judge: str
    templates: str


@dataclass(frozen=True)
class Judge:
    """Asks a model for its opinion of texts; several texts may be judged at once.

    Attributes:
        house: its forms say what a text is measured by.
        vote: which of several opinions of the same text is asked for; a cache keeps them apart.
        answers: all answers, so that tokens and costs of unreadable ones count, too.
        unread: those of them that could not be read, and why.
    """

    client: ModelClient
    templates: Mapping[str, Template]
    limits: Limits
    house: House = field(default_factory=built_in_house)
    vote: int = 0
    answers: list[Answer] = field(default_factory=list)
    unread: list[tuple[Answer, str]] = field(default_factory=list)

    @property
    def id(self) -> JudgeId:
        """Another model, or changed templates, are another judge."""
        hashes = "".join(self.templates[name].hash for name in sorted(self.templates))
        return JudgeId(self.client.name, hashlib.sha256(hashes.encode("utf-8")).hexdigest()[:12])

    async def judge(self, case: Case, synopsis: Synopsis, vote: int = 0) -> Judgement:
        """Score a text, and compare it with the case's reference: three calls; raises ModelError.

        A text that speaks to its judge is not shown to it.
        """
        prompt = ", ".join(f"{each.name} {each.version} {each.hash}" for each in self.templates.values())
        if orders := words_to_judge(synopsis):
            problem = f"the text speaks to its judge: {quoted(orders)}"
            return Judgement(model=self.client.name, prompt=prompt, problem=problem)
        call = replace(self, vote=vote, answers=[], unread=[])
        try:
            scores = await call.score(case, synopsis)
            preference = await call.prefer(case, synopsis)
        finally:
            self.answers.extend(call.answers)
            self.unread.extend(call.unread)
        usage = sum((answer.usage for answer in call.answers), Usage())
        cost = total_cost(answer.cost for answer in call.answers)
        is_scored = scores is not None and preference is not None
        return Judgement(
            scores=scores,
            preference=preference,
            model=call.answers[-1].model or self.client.name,
            prompt=prompt,
            calls=len(call.answers),
            unread=len(call.unread),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            amount=None if cost is None else cost.amount,
            currency="" if cost is None else cost.currency,
            problem="" if is_scored else "; ".join(dict.fromkeys(problem for _, problem in call.unread)),
        )

    async def score(self, case: Case, synopsis: Synopsis) -> Scores | None:
        """Return the scores by the rubric; None when no answer could be read; raises ModelError."""
        facts = checklist(case)
        messages = self._messages(
            "judge",
            brief=self._brief_block(replace(case, brief=case.brief.model_copy(update={"beats": ()}))),
            facts=json_block({str(number): fact for number, fact in enumerate(facts, 1)}),
            text=text_block(synopsis),
        )

        def fault(answer: ScoreAnswer) -> str:
            numbers = sorted(fact.number for fact in answer.facts)
            return "" if numbers == list(range(1, len(facts) + 1)) else "it did not answer each fact once"

        answer = await self._ask(messages, ScoreAnswer, [synopsis], fault)
        if answer is None:
            return None
        in_order = sorted(answer.facts, key=lambda fact: fact.number)
        return Scores.model_validate({**answer.model_dump(), "facts": tuple(fact.said for fact in in_order)})

    async def prefer(self, case: Case, synopsis: Synopsis, other: Synopsis | None = None) -> float | None:
        """Compare a text with another, or the reference, in both orders, as `Judgement.preference`.

        Raises ModelError.
        """
        other = other or case.reference
        brief, values = self._brief_block(case), set()
        for pair, first_better in (((other, synopsis), 0.0), ((synopsis, other), 1.0)):
            first, second = map(text_block, pair)
            messages = self._messages("judge_pair", brief=brief, first=first, second=second)
            answer = await self._ask(messages, PairAnswer, pair, lambda _: "")
            if answer is None:
                return None
            values.add({"first": first_better, "second": 1.0 - first_better}.get(answer.better, 0.5))
        return values.pop() if len(values) == 1 else 0.5  # a judge that favours a position has none

    def _brief_block(self, case: Case) -> str:
        brief, house = case.brief, load_house(case.house) if case.house else self.house
        if brief.form not in house.forms:
            return brief_block(brief)
        form = house.form(brief.form).with_length(*brief.length)
        return brief_block(brief, rules=render_rules(form, house))

    def _messages(self, name: str, **blocks: str) -> tuple[Message, Message]:
        # No block contains a `<`, so the first one begins where the template says, whatever the texts say.
        rubric, line, rest = self.templates[name].render(**blocks).partition(_FIRST_BLOCK)
        return Message("system", rubric), Message("user", (line + rest).strip())

    async def _ask(
        self,
        messages: Sequence[Message],
        shape: type[AnswerT],
        texts: Sequence[Synopsis],
        fault: Callable[[AnswerT], str],
    ) -> AnswerT | None:
        limits = self.limits
        for chance in range(2):  # an answer that cannot be read gets one more chance
            # Another sample, or a cache would give the unreadable answer again.
            limits = replace(limits, sample=self.limits.sample + 2 * self.vote + chance)
            answer = await self.client.complete(messages, wire_schema(shape), limits)
            self.answers.append(answer)
            verdict, problem = _read(answer, shape)
            if verdict is not None:
                shown = " ".join(message.content for message in messages)
                problem = fault(verdict) or unfounded(verdict.reasons, texts, shown)
                if not problem:
                    return verdict
            self.unread.append((answer, problem))
            limits = longer(limits) if answer.is_truncated else limits
        return None


def _read(answer: Answer, shape: type[AnswerT]) -> tuple[AnswerT | None, str]:
    """Return the verdict that an answer gives, or why it gives none."""
    if answer.finish not in {"stop", "length"}:
        return None, f"it did not answer ({answer.finish})"
    if answer.is_truncated:
        return None, "its answer was cut off"
    # Of two verdicts in an answer one may be quoted from the text that is judged.
    if len(_VERDICT.findall(answer.content)) > 1:
        return None, "its answer holds two verdicts"
    parsed = parse(answer.content, shape)
    return parsed.value, f"its answer is no verdict: {parsed.problem}"


_QUOTATION = re.compile(r'„[^„“”]+[“”]|»[^»«]+«|«[^»«]+»|"[^"]+"|“[^„“”]+”|‚[^‚‘]+‘')
_PROOF, _FOREIGN = 2, 4  # words of a quotation that proves reading, and of one that must be somewhere


def unfounded(reasons: str, texts: Sequence[Synopsis], shown: str) -> str:
    """Return why reasons do not count: they quote what is not there, or nothing of the texts; else nothing.

    `shown` is all that the judge was given: it may quote the brief, too.
    """
    parts = [part for quotation in _QUOTATION.findall(reasons) for part in re.split(r"…|\.\.\.", quotation)]
    proven = False
    for words in filter(None, map(_spaced, parts)):
        count = len(words.split())
        proven |= count >= _PROOF and any(words in _spaced(text_block(text)) for text in texts)
        if count >= _FOREIGN and words not in _spaced(shown):
            return f"it quotes what is not there: {quoted([words.strip()])}"
    return "" if proven else "its reasons quote no words of the text"


def _spaced(text: str) -> str:
    words = lower_words(text)
    return f" {' '.join(words)} " if words else ""


def words_to_judge(synopsis: Synopsis) -> list[str]:
    """Return the passages of a text that speak to who judges it, and not of its story."""
    roles = (f"{person.name}: {person.role}" for person in synopsis.characters)
    orders = pattern("words to a judge", re.IGNORECASE | re.MULTILINE)
    lines = (synopsis.title, synopsis.logline, *roles, synopsis.text)
    return [match[0] for line in lines for match in orders.finditer(line)]


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
        yield Judge(client, templates, limits_of(settings), open_house(settings))


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


class _Line(BaseModel):
    """A line of the file: a judgement, or, without a row, that from here on these judges count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    templates: str
    row: str | None = None
    vote: Annotated[int, Field(ge=0)] = 0
    judgement: Judgement | None = None
    jury: tuple[JudgeId, ...] = ()


@dataclass(frozen=True)
class Judgements:
    """The judgements of a run.

    Attributes:
        jury: whose count: the judges that were asked last; empty where none was.
        votes: of each judge, by the digests of the rows and the numbers of the votes.
    """

    jury: tuple[JudgeId, ...] = ()
    votes: Mapping[JudgeId, Mapping[str, Mapping[int, Judgement]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The jury's models; empty where there is none."""
        return " + ".join(judge.judge for judge in self.jury)

    def bills(self) -> list[dict[str, Any]]:
        """Return what each judge of the jury took, as JSON holds it."""
        given = {
            judge: [vote for votes in self.votes.get(judge, {}).values() for vote in votes.values()]
            for judge in self.jury
        }
        return [
            {
                "judge": judge.judge,
                "judgements": len(votes),
                "unscored": sum(bool(vote.problem) for vote in votes),
                **usage_data(sum((vote.usage for vote in votes), Usage())),
                "cost": format_cost(total_cost(vote.cost for vote in votes)),
            }
            for judge, votes in given.items()
        ]

    def metrics(self, row: str) -> dict[str, float | None]:
        """Return the metrics of a row by its digest, none where nobody judged it.

        Each is the mean over the judges of their means over the votes that could be read; None is unscored:
        a judge of the jury gave no vote that could be read.
        """
        given = [self.votes.get(judge, {}).get(row, {}).values() for judge in self.jury]
        votes = [[judge_metrics(vote) for vote in votes] for votes in given]
        if not any(votes):
            return {}
        return {name: _mean([_read_mean(each, name) for each in votes]) for name in JUDGE_METRICS}


def _read_mean(votes: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    return _mean([value for vote in votes if (value := vote[name]) is not None] or [None])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


async def judge_rows(
    run: Path, rows: Sequence[Row], suite: LoadedSuite, judge: Judge, *, votes: int = 1, concurrency: int
) -> None:
    """Have the texts judged that this judge has not judged yet so often, and save each judgement."""
    judged = read_judgements(run).votes.get(judge.id, {})
    cases = {case.id: case for case in suite.cases}
    due = [
        (row, vote, row.synopsis)
        for vote in range(votes)
        for row in rows
        if row.synopsis is not None and row.id.case in cases and vote not in judged.get(row_digest(row), {})
    ]
    finished = 0

    async def judge_row(item: tuple[Row, int, Synopsis]) -> None:
        nonlocal finished
        row, vote, synopsis = item
        judgement = await judge.judge(cases[row.id.case], synopsis, vote)
        append_judgement(run, judge.id, row, judgement, vote)
        if judgement.problem:
            _log.warning("judge %s: %s is unscored: %s", judge.client.name, row.id.case, judgement.problem)
        finished += 1
        _log.info("judged %d of %d", finished, len(due))

    await run_concurrently(iter(due), judge_row, concurrency)


def name_jury(run: Path, jury: Sequence[JudgeId]) -> None:
    """Record that these judges count, where the file does not say so."""
    if read_judgements(run).jury != tuple(jury):
        line = _Line(**jury[-1]._asdict(), jury=tuple(jury) if len(jury) > 1 else ())
        append_line(run / JUDGEMENTS_FILE, line.model_dump_json(exclude_defaults=True) + "\n")


def read_judgements(folder: Path, level: int = logging.DEBUG) -> Judgements:
    """Return the judgements in a run's folder; raises FileError.

    A line that cannot be read, as one truncated by a kill, is left out, and logged at `level`.
    """
    path = folder / JUDGEMENTS_FILE
    votes: dict[JudgeId, dict[str, dict[int, Judgement]]] = {}
    jury: tuple[JudgeId, ...] = ()
    for number, data in read_lines(path):
        try:
            line = _Line.model_validate_json(data)
        except ValueError:
            _log.log(level, "%s:%d: truncated, left out: the row is judged again", path, number)
            continue
        judge = JudgeId(line.judge, line.templates)
        if line.row is None or judge not in jury:
            jury = line.jury or (judge,)
        if line.row is not None and line.judgement is not None:
            votes.setdefault(judge, {}).setdefault(line.row, {})[line.vote] = line.judgement
    return Judgements(jury, votes)


def append_judgement(folder: Path, judge: JudgeId, row: Row, judgement: Judgement, vote: int = 0) -> None:
    """Record a judgement."""
    line = _Line(**judge._asdict(), row=row_digest(row), vote=vote, judgement=judgement)
    append_line(folder / JUDGEMENTS_FILE, line.model_dump_json(exclude_defaults=True) + "\n")


def judgements_text(judgements: Judgements, rows: Sequence[Row]) -> str:
    """Return the text of a file with the jury's judgements of some rows; empty where there are none."""
    lines = [
        _Line(**judge._asdict(), row=digest, vote=vote, judgement=judgement)
        for judge in judgements.jury
        for digest in map(row_digest, rows)
        for vote, judgement in judgements.votes.get(judge, {}).get(digest, {}).items()
    ]
    if lines and len(judgements.jury) > 1:
        lines.append(_Line(**judgements.jury[-1]._asdict(), jury=judgements.jury))
    return "".join(f"{line.model_dump_json(exclude_defaults=True)}\n" for line in lines)


def run_spending(folder: Path, rows: Iterable[Row]) -> Spent:
    """Return what rows, also failed ones, and all judgements in a run's folder took."""
    judges = read_judgements(folder).votes.values()
    paid = [(row.usage, row.cost) for row in rows if row.attempts or row.usage != Usage()]
    judged = [each for judge in judges for votes in judge.values() for each in votes.values()]
    paid += [(each.usage, each.cost) for each in judged]
    usage = sum((usage for usage, _ in paid), Usage())
    try:
        cost = total_cost(cost for _, cost in paid)
    except ValueError:  # two currencies have no sum: as if one had no price
        cost = None
    return Spent(cost, usage.prompt_tokens + usage.completion_tokens)
