"""Means with intervals, groups of rows, and paired comparisons."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from synopsis_writer.evals.metrics import ALL_METRICS, METRICS, Scored
from synopsis_writer.evals.record import RunInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# With fewer cases a verdict would be wrong too often: where there is no difference, all n cases fall on one
# side, and no draw reaches zero, with a probability of 2 ** (1 - n): 6 % for five cases, 3 % for six.
MIN_CASES = 6

# With 60 pairs a share of 60 % has an interval of ± 12 points. So many are needed where texts are preferred.
MIN_PAIRS = 60

_Z = 1.959964  # the normal distribution's 97.5th percentile: an interval of 95 %

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Interval:
    """A mean over so many cases with its 95 % interval; `unscored` rows had no value."""

    mean: float
    low: float
    high: float
    cases: int
    unscored: int = 0


@dataclass(frozen=True)
class Group:
    """The summary of one model with one prompt version."""

    model: str
    prompt: str
    is_demo: bool  # whether it made demo drafts: no model makes both these and others
    rows: int  # that there are; `planned` that there will be
    planned: int
    accepted: int
    refused: int
    failed: int
    metrics: Mapping[str, Interval | None]  # None where no row could be scored
    findings: Mapping[str, int]  # how often each check refused an answer, most often first

    @property
    def name(self) -> str:
        """Model and prompt version, and whether it is of demo drafts."""
        return f"{self.model} · {self.prompt}" + (" · demo" if self.is_demo else "")


@dataclass(frozen=True)
class MetricComparison:
    """Two groups of rows, compared by one metric over the cases that both have scored."""

    metric: str
    direction: Literal[-1, 0, 1]  # +1 more is better, -1 less is better, 0 neither
    difference: Interval | None  # the second's mean less the first's, case by case; None: they share no case
    wins: int  # cases in which the second is better; for a metric without direction higher
    ties: int
    losses: int
    only_a: tuple[str, ...]  # cases that only the first has scored
    only_b: tuple[str, ...]
    verdict: Verdict | None  # on the second group; None for a metric without direction


@dataclass(frozen=True)
class Comparison:
    """Two groups, compared case by case, by their names."""

    first: str
    second: str
    differences: tuple[MetricComparison, ...]
    winner: str = ""  # who is preferred, or what is missing to say it


def estimate(rows: Sequence[Scored], metric: str) -> Interval | None:
    """Return the mean of a metric over cases with its 95 % interval; None where no row has a value.

    Repeats are averaged per case first, so that each case counts once. The interval is a percentile
    bootstrap over cases (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
    """
    means = case_means(rows, metric)
    return replace(interval(list(means.values())), unscored=_unscored(rows, metric)) if means else None


def compare(a: Sequence[Scored], b: Sequence[Scored], metric: str) -> MetricComparison:
    """Compare `b` with the baseline `a`, case by case."""
    first, second = case_means(a, metric), case_means(b, metric)
    differences = [second[case] - first[case] for case in sorted(first.keys() & second.keys())]
    return replace(
        preferred(metric, differences, ALL_METRICS[metric].direction, _unscored([*a, *b], metric)),
        only_a=tuple(sorted(first.keys() - second.keys())),
        only_b=tuple(sorted(second.keys() - first.keys())),
    )


def preferred(
    metric: str, differences: Sequence[float], sign: Literal[-1, 0, 1] = 1, unscored: int = 0
) -> MetricComparison:
    """Return the comparison that differences make, one of each case: the second's value less the first's.

    The second is better or worse only where the interval excludes zero and there are enough cases: six, or 60
    of opinions.
    """
    differences = [0.0 if abs(each) < 1e-9 else each for each in differences]  # noqa: PLR2004 - rounding
    wins, losses = (sum(each * (sign or 1) * side > 0 for each in differences) for side in (1, -1))
    found = replace(interval(differences), unscored=unscored) if differences else None
    fewest = MIN_PAIRS if metric.startswith(("judge_", "people_")) else MIN_CASES
    verdict: Verdict | None = "no difference shown" if sign else None
    if sign and found and found.cases >= fewest and not found.low <= 0 <= found.high:
        verdict = "better" if found.mean * sign > 0 else "worse"
    ties = len(differences) - wins - losses
    return MetricComparison(metric, sign, found, wins, ties, losses, (), (), verdict)


def case_means(rows: Sequence[Scored], metric: str) -> Mapping[str, float]:
    """Return the mean of each case's scored rows, in the order of the cases' ids."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for each in rows:
        if (value := each.scores.get(metric)) is not None:
            values[each.row.case].append(value)
    return {case: fmean(sorted(values[case])) for case in sorted(values)}


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of one or more values with its 95 % interval; the order of the values matters."""
    import numpy as np

    if min(values) == max(values):
        return Interval(values[0], values[0], values[0], len(values))
    data = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(data[_draws(len(data))].mean(axis=1), (2.5, 97.5))
    return Interval(fmean(values), float(low), float(high), len(values))


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return a share with Wilson's 95 % score interval; `trials` is 1 or more.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927), 209-212; without correction for continuity.
    """
    share = successes / trials
    spread = _Z * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    middle, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return Interval(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale), trials)


@lru_cache(maxsize=4)
def _draws(count: int) -> "npt.NDArray[np.intp]":
    """Return the indexes that each of 2,000 draws takes, with replacement; shape (draws, count)."""
    import numpy as np

    seed = 20_250_422  # any will do; a fixed one gives the same interval for the same data
    return np.random.default_rng(seed).integers(0, count, (2_000, count), dtype=np.intp)


def _unscored(rows: Sequence[Scored], metric: str) -> int:
    return sum(each.scores.get(metric) is None for each in rows)


def summarise(info: RunInfo, scored: Sequence[Scored]) -> list[Group]:
    """Return a group for each model with each prompt version, in the run's order; empty ones, too."""
    rows_of: dict[tuple[str, str], list[Scored]] = {(key.model, key.prompt): [] for key in info.keys}
    for each in scored:
        rows_of[each.row.model, each.row.prompt].append(each)
    groups = []
    for (model, prompt), rows in rows_of.items():
        outcomes = Counter(each.row.outcome for each in rows)
        names = dict.fromkeys((*METRICS, *(name for each in rows for name in each.scores)))
        refused = (attempt for each in rows for attempt in each.row.attempts if not attempt.passed)
        findings = Counter(sorted(check for attempt in refused for check in set(attempt.checks)))
        group = Group(
            model,
            prompt,
            is_demo=any(each.row.is_demo for each in rows),
            rows=len(rows),
            planned=info.planned // len(rows_of),
            accepted=outcomes["accepted"],
            refused=outcomes["refused"],
            failed=outcomes["failed"],
            metrics={name: estimate(rows, name) for name in names},
            findings=dict(findings.most_common()),
        )
        groups.append(group)
    return groups
