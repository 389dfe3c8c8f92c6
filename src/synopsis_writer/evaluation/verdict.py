"""The verdict on a run: what keeps it from being good enough, a sentence each."""

from collections.abc import Callable
from dataclasses import replace

from synopsis_writer.errors import FileError
from synopsis_writer.evaluation.contests import TEXT_METRICS, between, worse_than
from synopsis_writer.evaluation.opened import OpenedRun, read_baseline
from synopsis_writer.evaluation.suite import missed
from synopsis_writer.settings import Settings


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
