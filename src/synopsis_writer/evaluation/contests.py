"""Contests: groups of rows held against each other, case by case."""

from collections.abc import Iterator, Sequence

from synopsis_writer.evaluation.opened import OpenedRun
from synopsis_writer.evaluation.report import Contest, group_name
from synopsis_writer.evaluation.scored import Group
from synopsis_writer.evaluation.scoring import ALL_METRICS, JUDGE_METRICS
from synopsis_writer.evaluation.statistics import compare

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
