"""The results of a run: read, scored, compared with its baseline, and checked against the suite."""

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from synopsis_writer.characters import count_of
from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.evals import metrics, record
from synopsis_writer.evals.judge import (
    JUDGEMENTS_FILE,
    PEOPLE,
    Judgements,
    Rater,
    Ratings,
    Trust,
    find_trust,
    judgements_text,
    preferences,
    read_judgements,
    read_ratings,
)
from synopsis_writer.evals.metrics import Comparison, Group, Interval, References, Scored
from synopsis_writer.evals.suite import Case, LoadedSuite, Suite, case_hash
from synopsis_writer.gate.features import measure_variety
from synopsis_writer.gate.language import stock_phrases
from synopsis_writer.storage.files import slug, write_file
from synopsis_writer.workspace import Workspace

_log = logging.getLogger(__name__)

# What runs are compared by where the suite does not say: the texts, not what they took.
_TAKEN = {"tokens", "cost", "seconds"}
TEXT_METRICS = tuple(name for name, each in metrics.ALL_METRICS.items() if each.direction and name not in _TAKEN)

SCORES_FILE = "scores.jsonl"


class _ScoreLine(record.Line):
    """A line of `scores.jsonl`: the digest of a row with all it was measured against, and its scores."""

    row: str
    scores: dict[str, Annotated[float, Field(strict=True)] | None]


@dataclass(frozen=True)
class EvalResults:
    """The results of a run: its rows with their scores, the jury's metrics among them."""

    folder: Path
    info: record.RunInfo
    suite: LoadedSuite
    scored: tuple[Scored, ...]
    judgements: Judgements = Judgements()  # noqa: RUF009 - a frozen value
    ratings: Ratings = field(default_factory=dict)  # people's

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """A summary per model and prompt version."""
        return tuple(metrics.summarise(self.info, self.scored))

    @property
    def missing(self) -> int:
        """How many rows have not been made yet."""
        return self.info.planned - len(self.scored)

    @property
    def failed(self) -> int:
        """How many rows failed at model or network."""
        return sum(scored.row.outcome == "failed" for scored in self.scored)

    @property
    def trust(self) -> Trust:
        """How far people agree with the jury."""
        return find_trust(self.ratings, self.scored)

    @property
    def judge(self) -> str:
        """The jury's models, and how far to trust them; empty where there is none."""
        return f"{self.judgements.name}, {self.trust}" if self.judgements.jury else ""

    def rows_of(self, group: Group) -> list[Scored]:
        """Return the scored rows of one group."""
        return [each for each in self.scored if (each.row.model, each.row.prompt) == (group.model, group.prompt)]

    def style(self, group: Group) -> dict[str, float]:
        """Return how alike and how formulaic the texts are, beside the score; nothing for fewer than two."""
        texts = {str(each.row.id): text for each in self.rows_of(group) if (text := each.row.synopsis)}
        if len(texts) <= 1:
            return {}
        variety = measure_variety(texts)
        openings = variety.counts["opening"]
        endings = variety.counts["open ending"] + variety.counts["closed ending"]
        phrases = sum(len(stock_phrases(metrics.analysed(text.text))) for text in texts.values())
        return {
            "compression ratio": variety.compression,
            "self-repetition": variety.repetition,
            "floskeln per 1,000 words": 1000 * phrases / max(1, variety.words),
            "texts with the commonest opening": max(openings.values(), default=0) / len(texts),
            "texts with the commonest ending": max(endings.values(), default=0) / len(texts),
        }

    def incomplete(self) -> list[str]:
        """Return, as sentences, how many rows are missing and how many failed."""
        again = "run the same command again"
        missing = f"incomplete: {self.missing} of {self.info.planned} rows are missing; {again}"
        failed = f"incomplete: {count_of(self.failed, 'row')} failed; {again} to make them again"
        return [missing] * bool(self.missing) + [failed] * bool(self.failed)


def open_results(run: Path, suite: LoadedSuite, workspace: Workspace, *, again: bool = False) -> EvalResults:
    """Read and score a run, what is scored already only if `again`; raises FileError if there is none."""
    info, rows = record.read_info(run), record.read_rows(run)
    cases = {case.id: case for case in suite.cases}
    changed = sum(name in cases and case_hash(cases[name]) != before for name, before in info.cases.items())
    for number, problem in (
        (changed, "cases have changed since the run; they are scored against the current references"),
        (len(info.cases.keys() - cases), "of its cases are not in this suite: name its suite with --suite"),
    ):
        if number:
            _log.warning("%s: %d %s", run, number, problem)
    judgements = read_judgements(run, logging.WARNING)
    planned = [rows[key] for key in info.keys if key in rows]
    scored = tuple(
        replace(each, scores={**each.scores, **judgements.metrics(each.digest)})
        for each in score_run(run, planned, suite.cases, workspace, again=again)
    )
    return EvalResults(run, info, suite, scored, judgements, read_ratings(run))


def score_run(
    folder: Path, rows: Sequence[record.Row], cases: Sequence[Case], workspace: Workspace, *, again: bool = False
) -> list[Scored]:
    """Score rows, and cache the scores: unless `again`, none is scored twice against the same references."""
    path, known = folder / SCORES_FILE, {case.id: case for case in cases}
    cached: dict[str, Mapping[str, float | None]] = {}
    with contextlib.suppress(FileError):  # what cannot be read is computed again
        lines = record.read_lines(path, _ScoreLine, "it is computed again", logging.DEBUG)
        cached = {} if again else {line.row: line.scores for line in lines}

    @cache
    def references(house: Path | None) -> References:  # a text is measured against those of its own house
        return References(workspace.of_house(house), tuple(case for case in cases if case.house == house))

    scored = {}
    for row in rows:
        case = known.get(row.case)
        own, content = references(case and case.house), case and (case.brief, case.reference, case.facts)
        key = repr((row.digest, own.digest, content or ()))
        digest = hashlib.sha256(key.encode("utf-8")).hexdigest()[:24]
        scored[digest] = Scored(row, cached[digest]) if digest in cached else metrics.score(row, case, own)
    if scored.keys() - cached.keys():
        new = (str(_ScoreLine(row=name, scores=dict(each.scores))) for name, each in scored.items())
        try:
            write_file(path, "".join(new), private=True)
        except FileError as error:
            _log.warning("the scores are not saved: %s", error)
    return list(scored.values())


def baseline_folder(suite: LoadedSuite, model: str) -> Path:
    """Return where a model's baseline is; digits keep apart names with one file name, as a/x-1 and a/x.1."""
    digits = hashlib.sha256(model.encode("utf-8")).hexdigest()[:6]
    return suite.folder / "baselines" / f"{slug(model)}-{digits}"


def bless(run: EvalResults, prompt: str | None) -> list[Path]:
    """Make a run the baseline of each of its models, return the folders; raises SettingsError, FileError."""
    names = ", ".join(run.info.prompts)
    if (chosen := prompt or names) not in run.info.prompts:
        raise SettingsError(f"{run.folder}: has the prompt versions {names}: choose one with --prompt")
    if run.missing or run.failed:
        raise SettingsError(
            f"{run.folder}: is incomplete, {count_of(run.missing, 'row')} missing and {run.failed} failed: "
            "run the same command again first"
        )
    rows = {each.row.id: each.row for each in run.scored}
    prompts = {name: texts for name, texts in record.read_prompts(run.folder).items() if name == chosen}
    folders = [baseline_folder(run.suite, model) for model in run.info.models]
    for folder, model in zip(folders, run.info.models, strict=True):
        info = replace(run.info, models=(model,), prompts={chosen: run.info.prompts[chosen]})
        blessed = [rows[key] for key in sorted(info.keys)]
        write_file(folder / record.RUN_FILE, info.as_json())
        write_file(folder / record.RESULTS_FILE, "".join(map(str, blessed)))
        write_file(folder / JUDGEMENTS_FILE, judgements_text(run.judgements, blessed))
        record.write_prompts(folder, prompts)
    return folders


class Part(NamedTuple):
    """Rows that are compared with others, and what they are called."""

    name: str
    rows: list[Scored]


def pair_parts(a: EvalResults, b: EvalResults | None = None) -> list[tuple[Part, Part]]:
    """Return the parts of two runs, or of one, to be compared, each behind what it is compared with.

    A group of `b` meets those in `a` of its model and prompt, else of its model, else the only one of its kind;
    within a run its model's first prompt and its prompt's first model; in a run of one group samples meet the first.
    """
    if b is None and len(a.groups) == 1:
        name, numbers = a.groups[0].name, range(a.info.repeats)
        samples = [[each for each in a.scored if each.row.repeat == number] for number in numbers]
        parts = [Part(f"{name} · sample {number}", rows) for number, rows in enumerate(samples, 1)]
        return [(parts[0], other) for other in parts[1:]]

    def part(run: EvalResults, group: Group) -> Part:
        return Part(f"{run.info.name}: {group.name}" if b else group.name, run.rows_of(group))

    pairs = []
    for group in (b or a).groups:
        same_kind = [other for other in a.groups if other.is_demo == group.is_demo and (other.rows or not b)]
        same_model = [other for other in same_kind if other.model == group.model]
        same_prompt = [other for other in same_kind if other.prompt == group.prompt]
        others = [other for other in (same_model[:1] + same_prompt[:1]) if other is not group]
        if b:
            same_both = [other for other in same_model if other.prompt == group.prompt]
            others = same_both or same_model or (same_kind if len(same_kind) == 1 else [])
        pairs += [(part(a, other), part(b or a, group)) for other in others]
    return pairs


def compare_runs(a: EvalResults, b: EvalResults | None = None, *, by: Sequence[str] = TEXT_METRICS) -> list[Comparison]:
    """Compare the groups of two runs, or of one, as `pair_parts` pairs them."""
    other = b or a
    # Scores of different judges, or of different rubrics, cannot be compared.
    is_judged = bool(a.judgements.jury) and a.judgements.jury == other.judgements.jury
    ratings = {**a.ratings, **other.ratings}
    trust = find_trust(ratings, [*a.scored, *other.scored]) if is_judged else None
    comparable = [name for name in by if trust or name not in metrics.JUDGE_METRICS]
    return [compare_parts(*parts, comparable, ratings, trust) for parts in pair_parts(a, b)]


def compare_parts(a: Part, b: Part, by: Sequence[str], ratings: Ratings, trust: Trust | None) -> Comparison:
    """Compare two parts by metrics, and by what people and a judge prefer."""
    differences = [metrics.compare(a.rows, b.rows, name) for name in by]
    rated = preferences(ratings, a.rows, b.rows)
    differences += [metrics.preferred(PEOPLE, rated)] if rated else []
    shown = tuple(each for each in differences if each.difference is not None)
    winner = _winner(a.name, b.name, {each.metric: each.difference for each in shown}, trust)
    return Comparison(a.name, b.name, shown, winner)


def _winner(first: str, second: str, found: Mapping[str, Interval | None], trust: Trust | None) -> str:
    missing = ["nobody has rated its pairs ('synopsis eval rate'), and no judge has read its texts (--judge)"]
    for name, who in ((PEOPLE, "people"), ("judge_preference", f"the judge ({trust})")):
        difference = found.get(name)
        if difference is None:
            continue
        if name != PEOPLE and trust is not None and trust.is_untrusted:
            missing.append(f"the judge is {trust}")
        elif difference.cases < metrics.MIN_PAIRS:
            missing.append(f"{who}: {count_of(difference.cases, 'pair')}, {metrics.MIN_PAIRS} are needed")
        elif difference.low <= 0 <= difference.high:
            missing.append(f"{who}: after {difference.cases} pairs chance can still explain the difference")
        else:
            return f"{second if difference.mean > 0 else first}, preferred by {who}"
    return f"none is named: {'; '.join(missing[1:] or missing)}"


def results_data(run: EvalResults) -> dict[str, Any]:
    """Return the summary of a run as JSON holds it."""
    judge = {**trust_data(run.trust), "judges": run.judgements.bills()} if run.judgements.jury else None
    groups = [asdict(group) for group in run.groups]
    style = {group.name: figures for group in run.groups if (figures := run.style(group))}
    return {"run": str(run.folder), "groups": groups, "style": style, "judge": judge}


def list_data(run: EvalResults, workspace: Workspace) -> list[dict[str, Any]]:
    """Return a run's groups as a list of runs holds them, each with what is wrong with the run, in words."""
    problems = find_problems(run, workspace)
    verdict = f"{count_of(len(problems), 'problem')}: {problems[0]}" if problems else "passed"
    shown = ("model", "prompt", "rows", "accepted")
    known = {"run": str(run.folder), "created": run.info.created}
    found = {"verdict": verdict, "problems": problems}
    return [known | {name: getattr(group, name) for name in shown} | found for group in run.groups]


def ratings_data(rater: Rater, runs: Sequence[EvalResults]) -> dict[str, Any]:
    """Return all ratings of a rater's pairs, by everyone, as JSON holds them."""
    ratings = {key: better for run in runs for key, better in run.ratings.items()}
    trust = find_trust(ratings, [each for run in runs for each in run.scored])
    by_rater = Counter(name for name, _ in ratings)
    return {"pairs": len(rater.pairs), "rated": dict(by_rater), "judge": trust_data(trust)}


def trust_data(trust: Trust) -> dict[str, Any]:
    """Return how far to trust a judge as JSON holds it."""
    agreement = asdict(trust.agreement) if trust.agreement else None
    return {"trust": str(trust), "untrusted": trust.is_untrusted, "agreement": agreement}


def unmet_thresholds(suite: Suite, groups: Sequence[Group]) -> list[str]:
    """Return, as sentences, which thresholds the groups do not meet; an unscored metric meets none."""
    problems = []
    for group in groups:
        for name, threshold in (suite.demo_thresholds if group.is_demo else suite.thresholds).items():
            interval = group.metrics.get(name)
            if interval is None or not threshold.holds(interval.mean):
                value = "unscored" if interval is None else f"{interval.mean:.3g}"
                problems.append(f"{group.model} with {group.prompt}: {name} is {value}, {threshold} is required")
    return problems


def find_problems(run: EvalResults, workspace: Workspace) -> list[str]:
    """Return, as sentences, what is missing, which thresholds are unmet, and which baselines are better."""
    problems = [*run.incomplete(), *unmet_thresholds(run.suite.suite, run.groups)]
    for model in run.info.models:
        folder = baseline_folder(run.suite, model)
        if not folder.exists():
            continue
        try:
            baseline = open_results(folder, run.suite, workspace)
        except FileError as error:
            problems.append(f"the baseline of {model} cannot be read: {error}")
            continue
        watched = run.suite.suite.watched or TEXT_METRICS
        problems += [f"the baseline of {model} is {problem}" for problem in baseline.incomplete()]
        rows = tuple(each for each in run.scored if each.row.model == model)
        of_model = replace(run, info=replace(run.info, models=(model,)), scored=rows)
        problems += [
            f"{comparison.second}: {each.metric} is worse than with {comparison.first}: "
            f"{each.difference.mean:+.3g} [{each.difference.low:+.3g}, {each.difference.high:+.3g}]"
            for comparison in compare_runs(baseline, of_model, by=watched)
            for each in comparison.differences
            if each.verdict == "worse" and each.difference is not None
        ]
    return problems
