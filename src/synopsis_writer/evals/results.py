"""An eval run read, scored, compared with its baseline, and held against the suite."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.judge import (
    JUDGED_FILE,
    Judged,
    judge_metrics,
    judged_text,
    last_judged,
    row_digest,
)
from synopsis_writer.evals.metrics import METRICS, Metric, Yardstick, make_yardstick, score
from synopsis_writer.evals.record import (
    RESULTS_FILE,
    RUN_FILE,
    Group,
    Key,
    Row,
    RunInfo,
    Scored,
    as_json_line,
    read_info,
    read_lines,
    read_rows,
    run_json,
)
from synopsis_writer.evals.statistics import Contest, GroupKey, compare, group_name, grouped, summarise
from synopsis_writer.evals.suite import Case, LoadedSuite, case_hash, missed
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import slug, write_file
from synopsis_writer.writer import Desk, load_desk

Say = Callable[[str], None]


@dataclass(frozen=True)
class OpenedRun:
    """A run that was read.

    Attributes:
        folder: where it lies.
        info: what it is.
        suite: the suite it is held against.
        scored: its rows with their scores.
        judged: what the judge said that was run last; its metrics are among the scores.
        groups: the summary, one a model and prompt version.
    """

    folder: Path
    info: RunInfo
    suite: LoadedSuite
    scored: tuple[Scored, ...]
    judged: Judged
    groups: tuple[Group, ...]

    @property
    def missing(self) -> int:
        """How many rows are still to be made."""
        info = self.info
        planned = {Key(*key) for key in product(info.cases, info.models, info.prompts, range(info.repeats))}
        return len(planned - {scored.row.key for scored in self.scored})

    @property
    def failed(self) -> int:
        """How many rows a model or network failed at."""
        return sum(scored.row.outcome == "failed" for scored in self.scored)

    def rows_of(self, group: Group) -> list[Scored]:
        """Return the scored rows of one group."""
        return grouped(self.scored).get(GroupKey(group.model, group.prompt, group.is_demo), [])


def open_run(folder: Path, suite: LoadedSuite, settings: Settings, say: Say) -> OpenedRun:
    """Read a run, score what is not scored yet, and sum it up.

    `say` is told of cases that are not as they were, of lines that cannot be read, and of scores not kept.

    Raises:
        FileError: the folder holds no run of this version.
        InputError: pool or profile cannot be loaded.
    """
    info = read_info(folder)
    rows = list(read_rows(folder, say).values())
    for line in _changes(info, suite):
        say(f"{folder}: {line}")
    judged = last_judged(folder, say)
    plain = score_run(folder, rows, suite.cases, load_desk(settings, say), say)
    scored = tuple(with_judged(one, judged) for one in plain)
    return OpenedRun(folder, info, suite, scored, judged, tuple(summarise(info, scored)))


def _changes(info: RunInfo, suite: LoadedSuite) -> list[str]:
    """Say how many cases of a run are no longer what they were."""
    now = {case.id: case for case in suite.cases}
    gone = info.cases.keys() - now.keys()
    changed = [name for name, was in info.cases.items() if name in now and case_hash(now[name]) != was]
    found = []
    if changed:
        found.append(
            f"{len(changed)} cases have changed since the run: their scores are by today's references"
        )
    if gone:
        found.append(f"{len(gone)} of its cases are not in this suite: name the suite with --suite")
    return found


def baseline_folder(suite: LoadedSuite, model: str) -> Path:
    """Return where the baseline of a model lies."""
    # The digits keep two names apart that are one file name, as a/x-1 and a/x.1 are.
    return suite.baselines / f"{slug(model)}-{hashlib.sha256(model.encode('utf-8')).hexdigest()[:6]}"


def bless(run: OpenedRun, prompt: str | None) -> list[Path]:
    """Make a run the baseline of each of its models; return the folders.

    Args:
        run: the run.
        prompt: the version of the prompts that counts; None where there is only one.

    Raises:
        SettingsError: there are several versions and none is named, or the named one is not there; or the
            run is incomplete.
        FileError: the baselines cannot be written.
    """
    names = ", ".join(run.info.prompts)
    if prompt is None and len(run.info.prompts) > 1:
        raise SettingsError(f"{run.folder}: holds {names}: say which one with --prompt")
    chosen = prompt or names
    if chosen not in run.info.prompts:
        raise SettingsError(f"{run.folder}: holds no prompt version '{chosen}': it holds {names}")
    if run.missing or run.failed:
        raise SettingsError(
            f"{run.folder}: {run.missing} rows are missing and {run.failed} failed: "
            "run the same command again first"
        )
    return [_bless_model(run, model, chosen) for model in run.info.models]


def _bless_model(run: OpenedRun, model: str, prompt: str) -> Path:
    folder = baseline_folder(run.suite, model)
    info = replace(run.info, models=(model,), prompts={prompt: run.info.prompts[prompt]})
    rows = [one.row for one in run.scored if (one.row.model, one.row.prompt) == (model, prompt)]
    write_file(folder / RUN_FILE, run_json(info))
    write_file(folder / RESULTS_FILE, "".join(row.as_line() for row in _ordered(rows)))
    _keep_judged(folder / JUDGED_FILE, judged_text(run.judged, _ordered(rows)))
    return folder


def _keep_judged(path: Path, text: str) -> None:
    if text:
        write_file(path, text)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {os_reason(error, path)}: make the folder writable") from error


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.key)


def read_baseline(suite: LoadedSuite, model: str, settings: Settings, say: Say) -> OpenedRun | None:
    """Return a model's baseline; None where no run was blessed.

    Raises:
        FileError: it is broken.
        InputError: pool or profile cannot be loaded.
    """
    folder = baseline_folder(suite, model)
    return open_run(folder, suite, settings, say) if folder.exists() else None


SCORES_FILE = "scores.jsonl"

SCORING = 1  # another number when a metric comes to other values: what was kept is then scored anew

_Scores = Mapping[str, float | None]


def _unjudged(_row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Leave the row unscored: only a judge can say."""
    return None


JUDGE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "judge_coherence": Metric(_unjudged, 1, "judge: coherence, 1 to 5"),
        "judge_theme": Metric(_unjudged, 1, "judge: theme, 1 to 5"),
        "judge_style": Metric(_unjudged, 1, "judge: style, 1 to 5"),
        "judge_language": Metric(_unjudged, 1, "judge: language, 1 to 5"),
        "judge_facts": Metric(_unjudged, 1, "judge: facts told, 0 to 1"),
        "judge_preference": Metric(_unjudged, 1, "judge: preferred to the reference, 0 to 1"),
    }
)

ALL_METRICS: Mapping[str, Metric] = MappingProxyType({**METRICS, **JUDGE_METRICS})


def score_run(folder: Path, rows: Sequence[Row], cases: Sequence[Case], desk: Desk, say: Say) -> list[Scored]:
    """Score rows, and keep the scores; what was scored before, by the same yardstick, is not again.

    Args:
        folder: the run's folder.
        rows: its rows.
        cases: the suite.
        desk: pool and profile, which the yardstick is made of.
        say: is told when the scores cannot be kept.
    """
    known = {case.id: case for case in cases}
    measure = _measure(cases, desk)
    digests = [_digest(row, known.get(row.case), measure) for row in rows]
    kept = _kept(folder / SCORES_FILE)
    made: Yardstick | None = None
    scores: list[_Scores] = []
    for row, digest in zip(rows, digests, strict=True):
        if digest not in kept:
            made = made or make_yardstick(desk, cases)
            kept[digest] = score(row, known.get(row.case), made).scores
        scores.append(kept[digest])
    if made is not None:
        _save_scores(folder / SCORES_FILE, digests, scores, say)
    return [Scored(row, found) for row, found in zip(rows, scores, strict=True)]


def with_judged(scored: Scored, judged: Judged) -> Scored:
    """Return the row with what a judge said of it, where one did."""
    judgement = judged.judgements.get(row_digest(scored.row))
    return scored if judgement is None else Scored(scored.row, {**scored.scores, **judge_metrics(judgement)})


def forget_scores(folder: Path) -> None:
    """Forget the scores, so that the next scoring computes all of them anew.

    Raises:
        FileError: they cannot be removed.
    """
    path = folder / SCORES_FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {os_reason(error, path)}: make the folder writable") from error


def _measure(cases: Sequence[Case], desk: Desk) -> str:
    """Return digits that change when what all rows are measured against does."""
    digest = hashlib.sha256(f"{SCORING} {sorted(METRICS)} {desk.gate.house!r} {desk.pool.shows!r}".encode())
    for case in cases:
        digest.update(f"{case.id} {case.brief.form} {case.reference!r}\0".encode("utf-8", "surrogatepass"))
    for example in desk.pool.examples:
        digest.update(f"{example.id} {example.synopsis!r}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _digest(row: Row, case: Case | None, measure: str) -> str:
    told = "" if case is None else f"{case.brief!r}{case.reference!r}{case.facts!r}"
    text = f"{row_digest(row)} {measure} {told}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _kept(path: Path) -> dict[str, _Scores]:
    """Return the scores by their digests; what cannot be read is left out, and so scored anew."""
    try:
        lines = [data for _, data in read_lines(path) if data is not None]
    except FileError:
        return {}
    return {
        str(data["row"]): data["scores"] for data in lines if "row" in data and _is_scores(data.get("scores"))
    }


def _is_scores(found: object) -> bool:
    """Whether `found` holds all metrics, each a number or unscored."""
    return (
        isinstance(found, dict)
        and found.keys() == METRICS.keys()
        and all(value is None or type(value) in {int, float} for value in found.values())
    )


def _save_scores(path: Path, digests: Sequence[str], scores: Sequence[_Scores], say: Say) -> None:
    lines = [
        as_json_line({"row": digest, "scores": found}) for digest, found in zip(digests, scores, strict=True)
    ]
    try:
        write_file(path, "".join(lines))
    except FileError as error:
        say(f"the scores are not kept: {error}")


# What a contest is about where the suite does not say: the texts, not what they took.
TEXT_METRICS = tuple(
    name
    for name, metric in ALL_METRICS.items()
    if metric.direction and name not in {"tokens", "cost", "seconds"}
)


def between(a: OpenedRun, b: OpenedRun, metrics: Sequence[str] = TEXT_METRICS) -> list[Contest]:
    """Hold each group of `b` against its like in `a`: the same model and prompt version, else the same model.

    Where `a` has a single group of the same kind, that is the like of every group of `b`.
    """
    return [_contest(a, rival, b, group, metrics) for group in b.groups for rival in _likes(a, group)]


def within(run: OpenedRun, metrics: Sequence[str] = TEXT_METRICS) -> list[Contest]:
    """Hold each group of a run against its model's first prompt version, and its prompts' first model."""
    return [
        _contest(run, rival, run, group, metrics) for group in run.groups for rival in _firsts(run, group)
    ]


def _firsts(run: OpenedRun, group: Group) -> Iterator[Group]:
    same_kind = [other for other in run.groups if other.is_demo == group.is_demo]
    same_model = next(other for other in same_kind if other.model == group.model)
    same_prompt = next(other for other in same_kind if other.prompt == group.prompt)
    yield from (other for other in (same_model, same_prompt) if other is not group)


def _likes(run: OpenedRun, group: Group) -> Iterator[Group]:
    same_kind = [other for other in run.groups if other.is_demo == group.is_demo and other.rows]
    same_model = [other for other in same_kind if other.model == group.model]
    same_prompt = [other for other in same_model if other.prompt == group.prompt]
    alone = same_kind if len(same_kind) == 1 else []
    yield from (same_prompt or same_model or alone)


def _contest(a: OpenedRun, rival: Group, b: OpenedRun, subject: Group, metrics: Sequence[str]) -> Contest:
    theirs, ours = a.rows_of(rival), b.rows_of(subject)
    # Two judges are two rulers: what one says is not held against what the other does.
    fit = [name for name in metrics if name not in JUDGE_METRICS or a.judged.judge == b.judged.judge]
    differences = [compare(theirs, ours, name, ALL_METRICS[name].direction) for name in fit]
    scored = tuple(found for found in differences if found.difference is not None)
    return Contest(_name(a, rival, b), _name(b, subject, a), scored)


def _name(run: OpenedRun, group: Group, other: OpenedRun) -> str:
    name = group_name(group)
    return name if run is other else f"{run.info.name}: {name}"


def worse_than(contests: Sequence[Contest]) -> list[str]:
    """Say, a sentence each, by which metrics the second ones are significantly worse."""
    return [
        f"{contest.second}: {found.metric} is worse than with {contest.first}: "
        f"{found.difference.mean:+.3g} [{found.difference.low:+.3g}, {found.difference.high:+.3g}]"
        for contest in contests
        for found in contest.differences
        if found.verdict == "worse" and found.difference is not None
    ]


def shortcomings(run: OpenedRun, settings: Settings, say: Callable[[str], None]) -> list[str]:
    """Say what is missing, which thresholds are missed, and which baselines are significantly better.

    Raises:
        InputError: a baseline cannot be scored.
    """
    return incompleteness(run) + missed(run.suite.suite, run.groups) + _behind(run, settings, say)


def incompleteness(run: OpenedRun) -> list[str]:
    """Say how many rows are missing, and how many failed; the same command again makes them."""
    found = []
    if run.missing > 0:
        found.append(f"incomplete: {run.missing} of {run.info.planned} rows are missing; run the same again")
    if run.failed:
        found.append(f"incomplete: {run.failed} rows failed; run the same again to make them anew")
    return found


def _behind(run: OpenedRun, settings: Settings, say: Callable[[str], None]) -> list[str]:
    watched = run.suite.suite.watched or TEXT_METRICS
    found: list[str] = []
    for model in run.info.models:
        try:
            baseline = read_baseline(run.suite, model, settings, say)
        except FileError as error:
            found.append(f"the baseline of {model} cannot be read: {error}")
            continue
        if baseline is not None:
            own = replace(run, groups=tuple(group for group in run.groups if group.model == model))
            found += [f"the baseline of {model} is {problem}" for problem in incompleteness(baseline)]
            found += worse_than(between(baseline, own, watched))
    return found
