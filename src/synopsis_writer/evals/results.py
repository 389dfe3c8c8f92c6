"""The results of a run: read, scored, compared with its baseline, and checked against the suite."""

import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field

from synopsis_writer.characters import count_of
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.judge import (
    JUDGE_METRICS,
    JUDGEMENTS_FILE,
    Judgements,
    judgements_text,
    read_judgements,
)
from synopsis_writer.evals.metrics import (
    METRICS,
    Metric,
    References,
    Scored,
    analysed,
    load_references,
    score,
)
from synopsis_writer.evals.ratings import PEOPLE, Rater, Ratings, Trust, find_trust, preferences, read_ratings
from synopsis_writer.evals.record import (
    PROMPTS_FILE,
    RESULTS_FILE,
    RUN_FILE,
    Row,
    RunInfo,
    read_info,
    read_lines,
    read_prompts,
    read_rows,
    row_line,
    write_prompts,
)
from synopsis_writer.evals.statistics import (
    MIN_PAIRS,
    Comparison,
    Group,
    MetricComparison,
    compare,
    preferred,
    summarise,
)
from synopsis_writer.evals.suite import Case, LoadedSuite, Suite, case_hash
from synopsis_writer.gate.features import measure_variety
from synopsis_writer.gate.phrases import stock_phrases
from synopsis_writer.storage.files import slug, write_file
from synopsis_writer.workspace import Workspace

_log = logging.getLogger(__name__)

ALL_METRICS: Mapping[str, Metric] = MappingProxyType({**METRICS, **JUDGE_METRICS})

# What runs are compared by where the suite does not say: the texts, not what they took.
TEXT_METRICS = tuple(
    name
    for name, metric in ALL_METRICS.items()
    if metric.direction and name not in {"tokens", "cost", "seconds"}
)

SCORES_FILE = "scores.jsonl"
_SCORING = 1  # raised when a metric yields other values: cached scores are then computed again


class _ScoreLine(BaseModel):
    """A line of `scores.jsonl`: the digest of a row with all it was measured against, and its scores."""

    row: str
    scores: dict[str, Annotated[float, Field(strict=True)] | None]


@dataclass(frozen=True)
class EvalResults:
    """The results of a run: its rows with their scores, the jury's metrics among them."""

    folder: Path
    info: RunInfo
    suite: LoadedSuite
    scored: tuple[Scored, ...]
    judgements: Judgements = Judgements()  # noqa: RUF009 - a frozen value
    ratings: Ratings = field(default_factory=dict)  # people's

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """A summary per model and prompt version."""
        return tuple(summarise(self.info, self.scored))

    @property
    def missing(self) -> int:
        """How many rows have not been made yet."""
        return self.info.planned - len(self.scored)

    @property
    def failed(self) -> int:
        """How many rows failed for want of a model or network."""
        return sum(scored.row.outcome == "failed" for scored in self.scored)

    @property
    def trust(self) -> Trust:
        """How far people agree with the jury."""
        return find_trust(self.ratings, self.scored)

    @property
    def judge(self) -> str:
        """The jury's models, and how far to trust them; empty where there is none."""
        return f"{self.judgements.name}, {self.trust}" if self.judgements.jury else ""

    def style(self, group: Group) -> dict[str, float]:
        """Return how alike a group's texts are, and how formulaic: figures beside the score, never in it.

        Empty for fewer than two texts; the longer the texts, the higher are the first two.
        """
        texts = {str(each.row.id): text for each in self.rows_of(group) if (text := each.row.synopsis)}
        if len(texts) <= 1:
            return {}
        variety = measure_variety(texts)
        openings, endings = variety.counts["opening"], variety.counts["open ending"]
        endings = endings + variety.counts["closed ending"]
        phrases = sum(len(stock_phrases(analysed(text.text))) for text in texts.values())
        return {
            "compression ratio": variety.compression,
            "self-repetition": variety.repetition,
            "floskeln per 1,000 words": 1000 * phrases / max(1, variety.words),
            "texts with the commonest opening": max(openings.values(), default=0) / len(texts),
            "texts with the commonest ending": max(endings.values(), default=0) / len(texts),
        }

    def rows_of(self, group: Group) -> list[Scored]:
        """Return the scored rows of one group."""
        names = group.model, group.prompt
        return [each for each in self.scored if (each.row.model, each.row.prompt) == names]

    def incomplete(self) -> list[str]:
        """Return, as sentences, how many rows are missing and how many failed."""
        again = "run the same command again"
        missing = f"incomplete: {self.missing} of {self.info.planned} rows are missing; {again}"
        failed = f"incomplete: {count_of(self.failed, 'row')} failed; {again} to make them again"
        return [missing] * bool(self.missing) + [failed] * bool(self.failed)


def open_results(folder: Path, suite: LoadedSuite, workspace: Workspace) -> EvalResults:
    """Read a run, score what is not scored yet, and summarise it.

    Cases that have changed, lines that cannot be read, and scores not saved are logged.

    Raises:
        FileError: the folder holds no run of this version.
    """
    info, rows = read_info(folder), read_rows(folder)
    _report_changes(folder, info, suite)
    judgements = read_judgements(folder, logging.WARNING)
    planned = [rows[key] for key in info.keys if key in rows]
    scored = tuple(
        replace(each, scores={**each.scores, **judgements.metrics(each.digest)})
        for each in score_run(folder, planned, suite.cases, workspace)
    )
    return EvalResults(folder, info, suite, scored, judgements, read_ratings(folder))


def _report_changes(folder: Path, info: RunInfo, suite: LoadedSuite) -> None:
    """Log how many cases of a run have changed or are gone."""
    cases = {case.id: case for case in suite.cases}
    gone = len(info.cases.keys() - cases.keys())
    changed = sum(name in cases and case_hash(cases[name]) != before for name, before in info.cases.items())
    against = "cases have changed since the run; they are scored against the current references"
    for count, change in (
        (changed, against),
        (gone, "of its cases are not in this suite: name its suite with --suite"),
    ):
        if count:
            _log.warning("%s: %d %s", folder, count, change)


def score_run(folder: Path, rows: Sequence[Row], cases: Sequence[Case], workspace: Workspace) -> list[Scored]:
    """Score rows, and cache the scores; against the same references no row is scored again."""
    known, cached = {case.id: case for case in cases}, _read_scores(folder / SCORES_FILE)

    @cache
    def peers(house: Path | None) -> list[Case]:  # a text is measured against those of its own house
        return [case for case in cases if case.house == house]

    @cache
    def basis(house: Path | None) -> str:
        own = workspace.of_house(house)
        texts = [(case.id, case.brief.form, case.reference) for case in peers(house)]
        examples = [(example.id, example.synopsis) for example in own.pool.examples]
        return _digest(_SCORING, sorted(METRICS), own.gate.house, own.pool.shows, texts, examples)

    @cache
    def references(house: Path | None) -> References:
        return load_references(workspace.of_house(house), peers(house))

    scored = {}
    for row in rows:
        case = known.get(row.case)
        house, content = (case.house, (case.brief, case.reference, case.facts)) if case else (None, ())
        digest = _digest(row.digest, basis(house), content)
        if digest not in cached:
            cached[digest] = score(row, case, references(house)).scores
        scored[digest] = Scored(row, cached[digest])
    if references.cache_info().misses:
        lines = (
            _ScoreLine(row=digest, scores=dict(each.scores)).model_dump_json()
            for digest, each in scored.items()
        )
        try:
            write_file(folder / SCORES_FILE, "".join(f"{line}\n" for line in lines), private=True)
        except FileError as error:
            _log.warning("the scores are not saved: %s", error)
    return list(scored.values())


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8")).hexdigest()[:24]


def _read_scores(path: Path) -> dict[str, Mapping[str, float | None]]:
    """Return the cached scores by their digests; what cannot be read is left out, and so computed again."""
    with contextlib.suppress(FileError):
        lines = read_lines(path, _ScoreLine, "it is computed again", logging.DEBUG)
        return {line.row: line.scores for line in lines if line.scores.keys() == METRICS.keys()}
    return {}


def forget_scores(folder: Path) -> None:
    """Remove the cached scores, so that all of them are computed again; raises FileError."""
    _replace(folder / SCORES_FILE, "")


def _replace(path: Path, text: str) -> None:
    """Write a file, or remove it where there is nothing to write."""
    if text:
        write_file(path, text)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {os_reason(error, path)}: make the folder writable") from error


def baseline_folder(suite: LoadedSuite, model: str) -> Path:
    """Return where a model's baseline is; digits keep apart names with one file name, as a/x-1 and a/x.1."""
    return suite.baselines / f"{slug(model)}-{hashlib.sha256(model.encode('utf-8')).hexdigest()[:6]}"


def bless(run: EvalResults, prompt: str | None) -> list[Path]:
    """Make a run the baseline of each of its models; return the folders.

    Raises:
        SettingsError: `prompt` names no version of the run, or is None where it has several; or the run is
            incomplete.
        FileError: the baselines cannot be written.
    """
    names = ", ".join(run.info.prompts)
    if prompt is None and len(run.info.prompts) > 1:
        raise SettingsError(f"{run.folder}: has the prompt versions {names}: choose one with --prompt")
    chosen = prompt or names
    if chosen not in run.info.prompts:
        raise SettingsError(f"{run.folder}: has no prompt version '{chosen}': name one of {names}")
    if run.missing or run.failed:
        raise SettingsError(
            f"{run.folder}: is incomplete, {count_of(run.missing, 'row')} missing and {run.failed} failed: "
            "run the same command again first"
        )
    folders = []
    for model in run.info.models:
        folder = baseline_folder(run.suite, model)
        info = replace(run.info, models=(model,), prompts={chosen: run.info.prompts[chosen]})
        rows = {each.row.id: each.row for each in run.scored}
        blessed = [rows[key] for key in sorted(info.keys)]
        write_file(folder / RUN_FILE, info.as_json())
        write_file(folder / RESULTS_FILE, "".join(map(row_line, blessed)))
        if texts := read_prompts(run.folder).get(chosen):
            write_prompts(folder, {chosen: texts})
        else:
            _replace(folder / PROMPTS_FILE, "")
        _replace(folder / JUDGEMENTS_FILE, judgements_text(run.judgements, blessed))
        folders.append(folder)
    return folders


def read_baseline(suite: LoadedSuite, model: str, workspace: Workspace) -> EvalResults | None:
    """Return a model's baseline; None where no run was blessed; raises FileError where it is broken."""
    folder = baseline_folder(suite, model)
    return open_results(folder, suite, workspace) if folder.exists() else None


class Part(NamedTuple):
    """Rows that are compared with others, and what they are called."""

    name: str
    rows: list[Scored]


def parts_between(a: EvalResults, b: EvalResults) -> list[tuple[Part, Part]]:
    """Return each group of `b` behind those in `a` of the same model and prompt version, else the same model.

    Where `a` has a single group of the same kind, every group of `b` is compared with it.
    """

    def counterparts(group: Group) -> list[Group]:
        same_kind = [other for other in a.groups if other.is_demo == group.is_demo and other.rows]
        same_model = [other for other in same_kind if other.model == group.model]
        same_prompt = [other for other in same_model if other.prompt == group.prompt]
        return same_prompt or same_model or (same_kind if len(same_kind) == 1 else [])

    def part(run: EvalResults, group: Group) -> Part:
        return Part(f"{run.info.name}: {group.name}", run.rows_of(group))

    return [(part(a, other), part(b, group)) for group in b.groups for other in counterparts(group)]


def parts_within(run: EvalResults) -> list[tuple[Part, Part]]:
    """Return what there is to compare within a run, each with what it is compared with, that first.

    A group is compared with its model's first prompt version and its prompts' first model, the samples of a
    run with a single group with the first one.
    """
    if len(run.groups) == 1:
        samples = [
            Part(
                f"{run.groups[0].name} · sample {repeat + 1}",
                [each for each in run.scored if each.row.repeat == repeat],
            )
            for repeat in range(run.info.repeats)
        ]
        return [(samples[0], sample) for sample in samples[1:]]
    parts = {group.name: Part(group.name, run.rows_of(group)) for group in run.groups}
    found = []
    for group in run.groups:
        same_kind = [other for other in run.groups if other.is_demo == group.is_demo]
        same_model = next(other for other in same_kind if other.model == group.model)
        same_prompt = next(other for other in same_kind if other.prompt == group.prompt)
        others = [other for other in (same_model, same_prompt) if other is not group]
        found += [(parts[other.name], parts[group.name]) for other in others]
    return found


def compare_runs(a: EvalResults, b: EvalResults, metrics: Sequence[str] = TEXT_METRICS) -> list[Comparison]:
    """Compare the groups of two runs, as `parts_between` pairs them."""
    # Scores of different judges, or of different rubrics, cannot be compared.
    same_judge = a.judgements.jury == b.judgements.jury
    ratings = {**a.ratings, **b.ratings}
    trust = find_trust(ratings, [*a.scored, *b.scored]) if same_judge and b.judgements.jury else None
    comparable = [name for name in metrics if trust or name not in JUDGE_METRICS]
    return [compare_parts(*parts, comparable, ratings, trust) for parts in parts_between(a, b)]


def compare_groups(run: EvalResults, metrics: Sequence[str] = TEXT_METRICS) -> list[Comparison]:
    """Compare the groups of a run, or the samples of its only one, as `parts_within` pairs them."""
    trust = run.trust if run.judgements.jury else None
    return [compare_parts(*parts, metrics, run.ratings, trust) for parts in parts_within(run)]


def compare_parts(
    first: Part, second: Part, metrics: Sequence[str], ratings: Ratings, trust: Trust | None
) -> Comparison:
    """Compare two parts by metrics, and by what people and a judge prefer."""
    differences = [compare(first.rows, second.rows, name, ALL_METRICS[name].direction) for name in metrics]
    rated = preferences(ratings, first.rows, second.rows)
    differences += [preferred(PEOPLE, rated)] if rated else []
    shown = tuple(each for each in differences if each.difference is not None)
    return Comparison(first.name, second.name, shown, _winner(first, second, shown, trust))


def _winner(first: Part, second: Part, differences: Sequence[MetricComparison], trust: Trust | None) -> str:
    """Return who is preferred, by people, else by a judge; or in plain words what is missing to say it."""
    missing = ["nobody has rated its pairs ('synopsis eval rate'), and no judge has read its texts (--judge)"]
    known = {each.metric: each.difference for each in differences}
    for name, who in ((PEOPLE, "people"), ("judge_preference", f"the judge ({trust})")):
        difference = known.get(name)
        if difference is None:
            continue
        if name != PEOPLE and trust is not None and trust.is_untrusted:
            missing.append(f"the judge is {trust}")
        elif difference.cases < MIN_PAIRS:
            missing.append(f"{who}: {count_of(difference.cases, 'pair')}, {MIN_PAIRS} are needed")
        elif difference.low <= 0 <= difference.high:
            missing.append(f"{who}: after {difference.cases} pairs chance can still explain the difference")
        else:
            return f"{second.name if difference.mean > 0 else first.name}, preferred by {who}"
    return f"none is named: {'; '.join(missing[1:] or missing)}"


def comparisons_data(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return comparisons as JSON holds them."""
    return {
        "comparisons": [
            {
                **asdict(each),
                "differences": [{**asdict(one), "verdict": one.verdict} for one in each.differences],
            }
            for each in comparisons
        ]
    }


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
    return [
        {
            "run": str(run.folder),
            "created": run.info.created,
            **{name: getattr(group, name) for name in shown},
            "verdict": verdict,
            "problems": problems,
        }
        for group in run.groups
    ]


def ratings_data(rater: Rater, runs: Sequence[EvalResults]) -> dict[str, Any]:
    """Return what has been rated of a rater's pairs, by everyone, as JSON holds it."""
    ratings = {key: better for run in runs for key, better in run.ratings.items()}
    trust = find_trust(ratings, [each for run in runs for each in run.scored])
    by_rater = Counter(name for name, _ in ratings)
    return {"pairs": len(rater.pairs), "rated": dict(by_rater), "judge": trust_data(trust)}


def trust_data(trust: Trust) -> dict[str, Any]:
    """Return how far to trust a judge as JSON holds it."""
    agreement = asdict(trust.agreement) if trust.agreement else None
    return {"trust": str(trust), "untrusted": trust.is_untrusted, "agreement": agreement}


def find_problems(run: EvalResults, workspace: Workspace) -> list[str]:
    """Return, as sentences, what is missing, which thresholds are unmet, and which baselines are better."""
    unmet = unmet_thresholds(run.suite.suite, run.groups)
    return [*run.incomplete(), *unmet, *_worse_than_baseline(run, workspace)]


def unmet_thresholds(suite: Suite, groups: Sequence[Group]) -> list[str]:
    """Return, as sentences, which thresholds the groups do not meet; an unscored metric meets none."""
    problems = []
    for group in groups:
        for name, threshold in (suite.demo_thresholds if group.is_demo else suite.thresholds).items():
            interval = group.metrics.get(name)
            if interval is None or not threshold.holds(interval.mean):
                value = "unscored" if interval is None else f"{interval.mean:.3g}"
                problems.append(
                    f"{group.model} with {group.prompt}: {name} is {value}, {threshold} is required"
                )
    return problems


def _worse_than_baseline(run: EvalResults, workspace: Workspace) -> list[str]:
    problems: list[str] = []
    for model in run.info.models:
        try:
            baseline = read_baseline(run.suite, model, workspace)
        except FileError as error:
            problems.append(f"the baseline of {model} cannot be read: {error}")
            continue
        if baseline is None:
            continue
        problems += [f"the baseline of {model} is {problem}" for problem in baseline.incomplete()]
        rows = tuple(each for each in run.scored if each.row.model == model)
        of_model = replace(run, info=replace(run.info, models=(model,)), scored=rows)
        problems += [
            f"{comparison.second}: {each.metric} is worse than with {comparison.first}: "
            f"{each.difference.mean:+.3g} [{each.difference.low:+.3g}, {each.difference.high:+.3g}]"
            for comparison in compare_runs(baseline, of_model, run.suite.suite.watched or TEXT_METRICS)
            for each in comparison.differences
            if each.verdict == "worse" and each.difference is not None
        ]
    return problems
