"""A model as the judge of texts, and what people say of them: how far their ratings bear it out."""

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.characters import clean_name, count_of, join_surrogates
from synopsis_writer.drafting import longer
from synopsis_writer.errors import InputError, SettingsError, TemplateError
from synopsis_writer.evals.metrics import JUDGE_METRICS, Interval, Scored, wilson_interval
from synopsis_writer.evals.record import Line, Row, Spending, append_line, read_lines
from synopsis_writer.evals.suite import Case, LoadedSuite
from synopsis_writer.gate.finding import quoted
from synopsis_writer.gate.text import lower_words
from synopsis_writer.house import House, built_in_house, load_house, open_house
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_client, resolve_model
from synopsis_writer.prompts import templates as prompts
from synopsis_writer.prompts.templates import render_rules
from synopsis_writer.revising import Page, find_quotation
from synopsis_writer.settings import Environment, Settings, folder
from synopsis_writer.synopsis import Synopsis, parse, wire_schema
from synopsis_writer.usage import Spent, Usage, format_cost, total_cost, usage_data

JUDGEMENTS_FILE = "judged.jsonl"
_VERDICT = re.compile(r"\breasons[\"'”]?\s*:")
_QUOTATION = re.compile(r'„[^„“”]+[“”]|»[^»«]+«|«[^»«]+»|"[^"]+"|“[^„“”]+”|‚[^‚‘]+‘')
_PROOF, _FOREIGN = 2, 4  # words of a quotation that proves reading, and of one that must be somewhere
_FIRST_BLOCK = "\n<auftrag>\n"  # what precedes it is the rubric: the system message
_Score = Annotated[int, Field(strict=True, ge=1, le=5)]
AnswerT = TypeVar("AnswerT", bound="_Answer")

_log = logging.getLogger(__name__)


def load_judge_templates(folder: Path) -> dict[str, prompts.Template]:
    """Load the judge's templates: those that `folder` has, the packaged ones for the others."""
    templates = {}
    for name, blocks in prompts.JUDGE_TEMPLATES.items():
        path = prompts.template_path(folder, name)
        template = prompts.load_template(path, blocks)
        if _FIRST_BLOCK not in template.source:
            raise TemplateError(f"{path}: no line '<auftrag>': put the rubric before it, the blocks after it")
        templates[name] = template
    return templates


def checklist(case: Case) -> tuple[str, ...]:
    """Return what a text about the case should say, in the order in which the judge is given it."""
    return (*case.brief.beats, *case.facts)


class _Scales(Line):
    coherence: _Score
    theme: _Score
    style: _Score
    language: _Score


class Scores(_Scales):
    """The judge's scores of one text, 1 to 5; `facts`: whether it says each of the `checklist`."""

    facts: tuple[bool, ...]
    reasons: str


class _Fact(Line):
    number: Annotated[int, Field(strict=True)]
    said: Annotated[bool, Field(strict=True)]


class _Answer(Line):
    reasons: Annotated[str, AfterValidator(join_surrogates)]  # first, so that the rest follows from them


class _Checked(_Answer):
    facts: tuple[_Fact, ...]


class ScoreAnswer(_Scales, _Checked):
    """The answer to a request for scores, within their ranges; its fields are asked for in this order."""


class PairAnswer(_Answer):
    """The answer to a request for a preference."""

    better: Literal["first", "second", "equal"]


class _Opinion(Line):
    scores: Scores | None = None  # by the rubric; None where the answers could not be read
    # 1: the text is better than the reference in both orders, 0: the reference is; None: not to be read.
    preference: Annotated[float, Field(ge=0, le=1)] | None = None
    model: str  # who judged, as its server names it
    prompt: str  # names, versions and hashes of the templates
    calls: int = 0  # answers in all
    unread: int = 0  # those of them that could not be read


class Judgement(Spending, _Opinion):  # whose fields come first
    """The judge's opinion of one text, and what it took."""

    problem: str = ""  # why something is unscored

    def metrics(self) -> dict[str, float | None]:
        """Return the metrics of the judge, unscored as None; `judge_facts` is a share of the checklist."""
        scales = {f"judge_{scale}": getattr(self.scores, scale, None) for scale in _Scales.model_fields}
        facts = fmean(self.scores.facts) if self.scores and self.scores.facts else None
        return {**scales, "judge_facts": facts, "judge_preference": self.preference}


class JudgeId(NamedTuple):
    """Who judged: the model as it was asked for, and 12 hex digits that change with its templates."""

    judge: str
    templates: str


@dataclass(frozen=True)
class Judge:
    """Asks a model for its opinion of texts; several texts may be judged at once."""

    client: ModelClient
    templates: Mapping[str, prompts.Template]
    limits: Limits
    house: House = field(default_factory=built_in_house)  # its forms say what a text is measured by
    vote: int = 0  # which opinion of the same text is asked for; a cache keeps them apart
    answers: list[Answer] = field(default_factory=list)  # all, so that unreadable ones are paid for, too
    unread: list[tuple[Answer, str]] = field(default_factory=list)  # those of them not read, and why

    @property
    def id(self) -> JudgeId:
        """Another model, or changed templates, are another judge."""
        hashes = "".join(self.templates[name].hash for name in sorted(self.templates))
        return JudgeId(self.client.name, hashlib.sha256(hashes.encode("utf-8")).hexdigest()[:12])

    async def judge(self, case: Case, synopsis: Synopsis, vote: int = 0) -> Judgement:
        """Return scores and preference, three calls; a text that speaks to its judge is not shown to it."""
        prompt = ", ".join(f"{each.name} {each.version} {each.hash}" for each in self.templates.values())
        if orders := Page.of(synopsis).orders:
            problem = f"the text speaks to its judge: {quoted(orders)}"
            return Judgement(model=self.client.name, prompt=prompt, problem=problem)
        call = replace(self, vote=vote, answers=[], unread=[])
        try:
            scores = await call.score(case, synopsis)
            preference = await call.prefer(case, synopsis)
        finally:
            self.answers.extend(call.answers)
            self.unread.extend(call.unread)
        problems = dict.fromkeys(problem for _, problem in call.unread)
        usage = sum((answer.usage for answer in call.answers), Usage())
        spent: dict[str, Any] = Spending.fields(usage, total_cost(answer.cost for answer in call.answers))
        return Judgement(
            scores=scores, preference=preference, model=call.answers[-1].model or self.client.name,
            prompt=prompt, calls=len(call.answers), unread=len(call.unread),
            problem="; ".join(problems) if scores is None or preference is None else "", **spent,
        )  # fmt: skip

    async def score(self, case: Case, synopsis: Synopsis) -> Scores | None:
        """Return the scores by the rubric; None when no answer could be read; raises ModelError."""
        facts = checklist(case)
        messages = self._messages(
            "judge",
            brief=self._brief_block(replace(case, brief=case.brief.model_copy(update={"beats": ()}))),
            facts=prompts.json_block({str(number): fact for number, fact in enumerate(facts, 1)}),
            text=text_block(synopsis),
        )
        answer = await self._ask(messages, ScoreAnswer, [synopsis], len(facts))
        if answer is None:
            return None
        in_order = sorted(answer.facts, key=lambda fact: fact.number)
        return Scores.model_validate({**answer.model_dump(), "facts": tuple(fact.said for fact in in_order)})

    async def prefer(self, case: Case, synopsis: Synopsis, other: Synopsis | None = None) -> float | None:
        """Compare a text with another, or the reference, as `Judgement.preference`; raises ModelError."""
        other = other or case.reference
        brief, values = self._brief_block(case), set()
        for pair, first_better in (((other, synopsis), 0.0), ((synopsis, other), 1.0)):
            first, second = map(text_block, pair)
            messages = self._messages("judge_pair", brief=brief, first=first, second=second)
            answer = await self._ask(messages, PairAnswer, pair)
            if answer is None:
                return None
            values.add({"first": first_better, "second": 1.0 - first_better}.get(answer.better, 0.5))
        return values.pop() if len(values) == 1 else 0.5  # a judge that favours one position has no preference

    def _brief_block(self, case: Case) -> str:
        brief, house = case.brief, load_house(case.house) if case.house else self.house
        if brief.form not in house.forms:
            return prompts.brief_block(brief)
        form = house.form(brief.form).with_length(*brief.length)
        return prompts.brief_block(brief, rules=render_rules(form, house))

    def _messages(self, name: str, **blocks: str) -> tuple[Message, Message]:
        # No block contains a `<`, so the first one begins where the template says, whatever the texts say.
        rubric, line, rest = self.templates[name].render(**blocks).partition(_FIRST_BLOCK)
        return Message("system", rubric), Message("user", (line + rest).strip())

    async def _ask(
        self, messages: Sequence[Message], shape: type[AnswerT], texts: Sequence[Synopsis], facts: int = 0
    ) -> AnswerT | None:
        shown, limits = " ".join(message.content for message in messages), self.limits
        for chance in range(2):  # an answer that cannot be read gets one more chance
            # Another sample, or a cache would give the unreadable answer again.
            limits = replace(limits, sample=self.limits.sample + 2 * self.vote + chance)
            answer = await self.client.complete(messages, wire_schema(shape), limits)
            self.answers.append(answer)
            parsed = parse(answer.content, shape)
            if answer.finish not in {"stop", "length"}:
                problem = f"it did not answer ({answer.finish})"
            elif answer.is_truncated:
                problem = "its answer was cut off"
            elif len(_VERDICT.findall(answer.content)) > 1:  # one may be quoted from the text that is judged
                problem = "its answer holds two verdicts"
            elif parsed.value is None:
                problem = f"its answer is no verdict: {parsed.problem}"
            elif [*range(1, facts + 1)] != sorted(fact.number for fact in getattr(parsed.value, "facts", ())):
                problem = "it did not answer each fact once"
            elif not (problem := unfounded(parsed.value.reasons, texts, shown)):
                return parsed.value
            self.unread.append((answer, problem))
            limits = longer(limits) if answer.is_truncated else limits
        return None


def unfounded(reasons: str, texts: Sequence[Synopsis], shown: str) -> str:
    """Return why reasons do not count, as they quote what was not `shown`, or nothing of the texts."""
    whole, proven = "\n".join(map(text_block, texts)), False
    for quotation in _QUOTATION.findall(reasons):
        for part in re.split(r"…|\.\.\.", quotation):
            words = lower_words(part)
            proven |= len(words) >= _PROOF and find_quotation(part, whole) is not None
            if len(words) >= _FOREIGN and find_quotation(part, shown) is None:
                return f"it quotes what is not there: {quoted([' '.join(words)])}"
    return "" if proven else "its reasons quote no words of the text"


def text_block(synopsis: Synopsis) -> str:
    """Return a text as the judge gets it: JSON that contains no delimiter of any kind."""
    people = [f"{person.name}: {person.role}" for person in synopsis.characters]
    parts = [paragraph.text for paragraph in synopsis.paragraphs]
    data = {"Titel": synopsis.title, "Logline": synopsis.logline, "Figuren": people, "Absätze": parts}
    return prompts.json_block(data)


@asynccontextmanager
async def open_judge(
    model: str, settings: Settings, environment: Environment, budget: Budget | None = None
) -> AsyncIterator[Judge]:
    """Open a judge, on a budget that writers share with it; raises InputError and ModelError."""
    choice, templates = resolve_judge(model, settings, environment)
    async with open_client(choice, settings, environment, budget=budget) as client:
        yield Judge(client, templates, limits_of(settings), open_house(settings))


def resolve_judge(
    model: str, settings: Settings, environment: Environment
) -> tuple[ResolvedModel, Mapping[str, prompts.Template]]:
    """Return the judge's model and templates; raises SettingsError or TemplateError."""
    choice = resolve_model(settings.model_copy(update={"model": model}), environment)
    if choice.kind == "packaged":
        raise SettingsError("the packaged model cannot judge: give --judge a hosted one, or a GGUF file")
    return choice, load_judge_templates(settings.own_prompts or folder("prompts"))


class _JudgedLine(Line):
    judge: str
    templates: str
    row: str | None = None
    vote: Annotated[int, Field(ge=0)] = 0
    judgement: Judgement | None = None
    jury: tuple[JudgeId, ...] = ()

    def __str__(self) -> str:
        return self.model_dump_json(exclude_defaults=True) + "\n"


@dataclass(frozen=True)
class Judgements:
    """The judgements of a run."""

    jury: tuple[JudgeId, ...] = ()  # whose count: the judges that were asked last
    # By judge and digest of the row, then by the number of the vote.
    votes: Mapping[tuple[JudgeId, str], Mapping[int, Judgement]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The jury's models; empty where there is none."""
        return " + ".join(judge.judge for judge in self.jury)

    def bills(self) -> list[dict[str, Any]]:
        """Return what each judge of the jury took, as JSON holds it."""
        bills = []
        for judge in self.jury:
            votes = [vote for key, votes in self.votes.items() if key[0] == judge for vote in votes.values()]
            unscored = sum(bool(vote.problem) for vote in votes)
            bill = {"judge": judge.judge, "judgements": len(votes), "unscored": unscored}
            cost = format_cost(total_cost(vote.cost for vote in votes))
            bills.append({**bill, **usage_data(sum((vote.usage for vote in votes), Usage())), "cost": cost})
        return bills

    def metrics(self, row: str) -> dict[str, float | None]:  # by the row's digest
        """Return a row's metrics, none unjudged: the means over the judges of their means over the votes."""
        votes_of = (self.votes.get((judge, row), {}).values() for judge in self.jury)
        given = [[vote.metrics() for vote in votes] for votes in votes_of]
        means: dict[str, float | None] = {}
        for name in JUDGE_METRICS if any(given) else ():
            read = [[value for vote in votes if (value := vote[name]) is not None] for votes in given]
            means[name] = fmean(map(fmean, read)) if all(read) else None  # unread by one of them
        return means


async def judge_rows(
    run: Path, rows: Sequence[Row], suite: LoadedSuite, judge: Judge, *, votes: int = 1, concurrency: int
) -> None:
    """Have the texts judged that this judge has not judged yet so often, and save each judgement."""
    judged = read_judgements(run).votes
    cases = {case.id: case for case in suite.cases}
    due = [
        (row, vote, row.synopsis)
        for vote in range(votes)
        for row in rows
        if row.synopsis and row.case in cases and vote not in judged.get((judge.id, row.digest), {})
    ]
    numbers = count(1)

    async def judge_row(item: tuple[Row, int, Synopsis]) -> None:
        row, vote, synopsis = item
        judgement = await judge.judge(cases[row.case], synopsis, vote)
        append_judgement(run, judge.id, row, judgement, vote)
        if judgement.problem:
            _log.warning("judge %s: %s is unscored: %s", judge.client.name, row.case, judgement.problem)
        _log.info("judged %d of %d", next(numbers), len(due))

    await run_concurrently(iter(due), judge_row, concurrency)


def name_jury(run: Path, jury: Sequence[JudgeId]) -> None:
    """Record that these judges count, where the file does not say so."""
    if read_judgements(run).jury != tuple(jury):
        append_line(run / JUDGEMENTS_FILE, str(_jury_line(jury)))


def _jury_line(jury: Sequence[JudgeId]) -> _JudgedLine:
    return _JudgedLine(**jury[-1]._asdict(), jury=tuple(jury) if len(jury) > 1 else ())


def read_judgements(folder: Path, level: int = logging.DEBUG) -> Judgements:
    """Return the judgements in a run's folder; lines that are left out are logged at `level`."""
    votes: dict[tuple[JudgeId, str], dict[int, Judgement]] = {}
    jury: tuple[JudgeId, ...] = ()
    for line in read_lines(folder / JUDGEMENTS_FILE, _JudgedLine, "the row is judged again", level):
        judge = JudgeId(line.judge, line.templates)
        if line.row is None or judge not in jury:
            jury = line.jury or (judge,)
        if line.row is not None and line.judgement is not None:
            votes.setdefault((judge, line.row), {})[line.vote] = line.judgement
    return Judgements(jury, votes)


def append_judgement(folder: Path, judge: JudgeId, row: Row, judgement: Judgement, vote: int = 0) -> None:
    """Record a judgement."""
    line = str(_JudgedLine(**judge._asdict(), row=row.digest, vote=vote, judgement=judgement))
    append_line(folder / JUDGEMENTS_FILE, line)


def judgements_text(judgements: Judgements, rows: Sequence[Row]) -> str:
    """Return the text of a file with the jury's judgements of some rows; empty where there are none."""
    lines = [
        _JudgedLine(**judge._asdict(), row=digest, vote=vote, judgement=judgement)
        for judge in judgements.jury
        for digest in [row.digest for row in rows]
        for vote, judgement in judgements.votes.get((judge, digest), {}).items()
    ]
    return "".join(map(str, [*lines, _jury_line(judgements.jury)] if lines else []))


def run_spending(folder: Path, rows: Iterable[Row]) -> Spent:
    """Return what rows, including failed ones, and all judgements in a run's folder took."""
    paid: list[Spending] = [row for row in rows if row.attempts or row.usage != Usage()]
    paid += [each for votes in read_judgements(folder).votes.values() for each in votes.values()]
    try:
        cost = total_cost(each.cost for each in paid)
    except ValueError:  # two currencies have no sum: they count as unpriced
        cost = None
    return Spent(cost, sum(each.prompt_tokens + each.completion_tokens for each in paid))


RATINGS_FILE = "ratings.jsonl"
PEOPLE = "people_preference"  # 1 where people prefer the second text, -1 the first one, 0 none

_NEEDED = 0.7  # agreement of a judge with people: the best judges without training reach 73 % (LitBench)
_CHANCE = 0.5

Choice = Literal[0, 1, 2]
Ratings = Mapping[tuple[str, frozenset[str]], str]
"""The digest of the text that is better, empty for a tie, by the rater's name and the digests of the pair."""


RatedText = tuple[Case, Synopsis, Synopsis]
"""A case, the text of it that people prefer, and another."""


class Rating(Line):
    """A line of `ratings.jsonl`: which of two texts a person preferred, 0 for neither."""

    rater: Annotated[str, Field(min_length=1)]
    first: str  # the digest of the row that was shown first
    second: str
    choice: Choice
    at: str  # in ISO 8601


def read_ratings(folder: Path) -> Ratings:
    """Return the ratings in a run's folder; of two of a pair by one person the last counts."""
    return {
        (line.rater, frozenset((line.first, line.second))): ("", line.first, line.second)[line.choice]
        for line in read_lines(folder / RATINGS_FILE, Rating, "rate the pair again")
    }


class Pair(NamedTuple):
    """Two texts of one case, in the order they are shown; nothing tells where they come from."""

    id: str
    case: Case
    first: Row
    second: Row
    digests: frozenset[str]


class Rater:
    """The pairs that one person rates: always in the same random order, each with its sides drawn."""

    def __init__(
        self, folder: Path, name: str, parts: Sequence[tuple[Sequence[Scored], Sequence[Scored]]], cases: Sequence[Case]
    ) -> None:
        self.name, self._folder = clean_name(name), folder
        if not self.name:
            raise InputError("the rater has no name: give one")
        known = {case.id: case for case in cases}
        self.pairs = sorted(
            self._pair(known[case], *rows)
            for first, second in ((_texts(first), _texts(second)) for first, second in parts)
            for case in filter(known.__contains__, first)
            for rows in zip(first[case], second.get(case, ()), strict=False)
            if rows[0].synopsis != rows[1].synopsis
        )
        self._rated = {pair for rater, pair in read_ratings(folder) if rater == self.name}

    def _pair(self, case: Case, *rows: Row) -> Pair:
        (low, first), (high, second) = sorted(((row.digest, row) for row in rows), key=itemgetter(0))
        seed = f"{self.name}\0{low}\0{high}"
        id_ = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        first, second = (first, second) if int(id_, 16) % 2 else (second, first)
        return Pair(id_, case, first, second, frozenset((low, high)))

    @property
    def done(self) -> int:
        """How many pairs are rated."""
        return sum(pair.digests in self._rated for pair in self.pairs)

    def next(self) -> Pair | None:
        """Return a pair that is not rated yet; None where all are."""
        return next((pair for pair in self.pairs if pair.digests not in self._rated), None)

    def rate(self, pair_id: str, choice: Choice) -> None:
        """Record on disk which text is better, 0 for neither; raises InputError for an unknown pair."""
        pair = next((pair for pair in self.pairs if pair.id == pair_id), None)
        if pair is None:
            raise InputError(f"no pair '{pair_id[:40]}': the run has changed; ask for the next one")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = Rating(rater=self.name, first=pair.first.digest, second=pair.second.digest, choice=choice, at=at)
        append_line(self._folder / RATINGS_FILE, str(line))
        self._rated.add(pair.digests)


def _texts(scored: Sequence[Scored]) -> Mapping[str, list[Row]]:
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted((each.row for each in scored), key=lambda row: row.repeat):
        if row.synopsis is not None:
            rows[row.case].append(row)
    return rows


def _votes(ratings: Ratings) -> Mapping[frozenset[str], str]:
    """Return which text of each pair most raters prefer, by its digest; empty: neither."""
    votes: defaultdict[frozenset[str], Counter[str]] = defaultdict(Counter)
    for (_, pair), better in ratings.items():
        votes[pair][better] += 1
    decided = {}
    for pair, counts in votes.items():
        one, other = ((counts[digest], digest) for digest in sorted(pair))
        decided[pair] = "" if one[0] == other[0] else max(one, other)[1]
    return decided


def preferences(ratings: Ratings, first: Sequence[Scored], second: Sequence[Scored]) -> list[float]:
    """Return people's preference between two groups of rows, -1 to 1, of each case that has rated pairs."""
    a, b = ({each.digest: each.row.case for each in rows} for rows in (first, second))
    values: defaultdict[str, list[float]] = defaultdict(list)
    for pair, better in _votes(ratings).items():
        if (case := next((a[digest] for digest in pair if digest in a), None)) and len(pair & b.keys()) == 1:
            values[case].append((better in b) - (better in a))
    return [fmean(values[case]) for case in sorted(values)]


@dataclass(frozen=True)
class Trust:
    """How far a judge agrees with people; `agreement` is None where no pair tells."""

    agreement: Interval | None
    what: str = "agrees with people"

    @property
    def is_untrusted(self) -> bool:
        """Whether it agrees in less than 70 % of the pairs, or, as far as they can tell, by chance."""
        found = self.agreement
        return found is not None and (found.mean < _NEEDED or found.low <= _CHANCE)

    def __str__(self) -> str:
        found = self.agreement
        if found is None:
            return "not checked against people"
        pairs = count_of(found.cases, "pair")
        shown = f"{self.what} in {found.mean:.0%} ({found.low:.0%} to {found.high:.0%}) of {pairs}"
        if found.mean < _NEEDED:
            return f"untrusted: {shown}, {_NEEDED:.0%} are needed"
        return f"untrusted: {shown}, which chance can explain" if self.is_untrusted else shown


def find_trust(ratings: Ratings, scored: Sequence[Scored]) -> Trust:
    """Compare a judge's preferences over the reference, else its mean scores, with people's ratings of pairs."""
    names = ("judge_preference", "judge_coherence", "judge_theme", "judge_style", "judge_language")
    figures: dict[str, tuple[float, float]] = {}
    for each in scored:
        values = [value for name in names if (value := each.scores.get(name)) is not None]
        if len(values) == len(names):
            figures[each.digest] = values[0], fmean(values[1:])
    agreed = [
        max(pair, key=figures.__getitem__) == better and len({figures[digest] for digest in pair}) > 1
        for pair, better in _votes(ratings).items()
        if better and pair <= figures.keys()
    ]
    return Trust(wilson_interval(sum(agreed), len(agreed)) if agreed else None)


def rated_texts(ratings: Ratings, rows: Collection[Row], cases: Sequence[Case]) -> list[RatedText]:
    """Return the pairs of which people prefer one text."""
    known, by_digest = {case.id: case for case in cases}, {row.digest: row for row in rows}
    pairs = []
    for pair, better in _votes(ratings).items():
        if better and pair <= by_digest.keys():
            good, bad = (by_digest[digest] for digest in sorted(pair, key=better.__ne__))
            if good.case in known and good.synopsis and bad.synopsis:
                pairs.append((known[good.case], good.synopsis, bad.synopsis))
    return pairs
