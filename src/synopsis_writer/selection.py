"""Which examples go into a prompt, and why: the stable ones first, then the one the theme chooses."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synopsis_writer.brief import Brief
from synopsis_writer.closeness import ExampleIndex, Scores
from synopsis_writer.examples import Example

# Five: the one that the theme chooses, and a cache must read anew, is then a sixth of the prompt.
MOST_EXAMPLES = 5
TOKEN_BUDGET = 6000
CLOSENESS = 0.7  # against variety; docs/examples.md says how it was chosen
_CONSIDERED = 30  # of a tier; the 31st closest is not close
_LONGER = 1.08  # than the others' mean, at most: the last example and the brief then take less than a fifth
_NAMED_WORDS = 3
_NO_TIER = np.int8(9)
_TIERS = ("same show and form", "same form", "same show", "another show and form")

_Rows = npt.NDArray[np.intp]
_Keys = npt.NDArray[Any]


@dataclass(frozen=True)
class Chosen:
    """An example in a prompt.

    Attributes:
        example: the example.
        tokens: about how many tokens it takes.
        why: why it was chosen, in a few English words.
    """

    example: Example
    tokens: int
    why: str


@dataclass
class _Tray:
    """What is chosen so far, and what can still be."""

    index: ExampleIndex
    tiers: npt.NDArray[np.int8]
    free: npt.NDArray[np.bool_]
    left: int
    chosen: list[int] = field(default_factory=list)
    seen: dict[int, frozenset[str]] = field(default_factory=dict)

    def stems(self, row: int) -> frozenset[str]:
        """Return the stems of a row, looked up once."""
        return self.seen.get(row) or self.seen.setdefault(row, self.index.stems(row))

    def nearest_tier(self) -> _Rows:
        """Return the rows of the best tier that has any, of those that are free and fit the tokens left."""
        tiers = np.where(self.free & (self.index.costs <= self.left), self.tiers, _NO_TIER)
        best = tiers.min(initial=_NO_TIER)
        return np.flatnonzero((tiers == best) & (tiers != _NO_TIER))

    def take(self, row: int, reason: str) -> Chosen:
        """Choose a row; the reason says what its tier does not."""
        tokens = int(self.index.costs[row])
        self.chosen.append(row)
        self.free[row] = False
        self.left -= tokens
        why = ", ".join(part for part in (_TIERS[self.tiers[row]], reason) if part)
        return Chosen(self.index.examples[row], tokens, why)


def select(
    index: ExampleIndex,
    brief: Brief,
    *,
    most: int = MOST_EXAMPLES,
    token_budget: int = TOKEN_BUDGET,
    without: Collection[str] = (),
    pinned: Sequence[str] = (),
) -> list[Chosen]:
    """Return the examples for `brief`, in the order of the prompt: what never changes first.

    For one show, form and budget all but the last are the same whatever the theme, so that a cache of the
    prompt's beginning holds: the pinned ones, then the nearest tiers' (same show and form before same form
    before same show), each as unlike the others as there is. The last is the one closest in theme within the
    best tier that is left, if it is not much longer than the others. The prompt ends with it: what stands
    next to the brief weighs most.

    Args:
        index: the pool.
        brief: what is asked for.
        most: the largest number of examples; the pinned ones count, and are never cut.
        token_budget: what all of them may take together, in estimated tokens; the pinned ones count.
        without: ids that must not be shown: an eval's reference, or another text of the same story.
        pinned: ids that are always shown, in this order; each must be in the pool.
    """
    free = np.ones(len(index.examples), dtype=np.bool_)
    free[[index.rows[name] for name in without if name in index.rows]] = False
    tray = _Tray(index, index.tiers(brief), free, token_budget)
    first = _pinned(tray, [index.rows[name] for name in pinned])
    places = min(most - len(first), tray.left // index.usual_cost)
    stable = _stable(tray, places - 1)
    last = _closest(tray, brief.theme) if len(first) < most else []
    return [*first, *reversed(stable), *last]


def _pinned(tray: _Tray, rows: Sequence[int]) -> list[Chosen]:
    taken: list[Chosen] = []
    for row in rows:
        if tray.free[row]:
            chosen = tray.take(row, "")
            why = "pinned" if tray.left >= 0 else "pinned, beyond the token budget"
            taken.append(replace(chosen, why=why))
    return taken


def _stable(tray: _Tray, places: int) -> list[Chosen]:
    """Take the best tiers' examples, each the least like those already chosen."""
    taken: list[Chosen] = []
    rows = tray.nearest_tier()
    while len(rows) and len(taken) < places:
        few = _first(rows, tray.index.order[rows])
        row = _best(tray, few, np.zeros(len(few), dtype=np.float32), 0.0)
        taken.append(tray.take(row, "for variety" if tray.chosen and len(rows) > 1 else ""))
        rows = tray.nearest_tier()
    return taken


def _closest(tray: _Tray, theme: str) -> list[Chosen]:
    """Take the example closest to the theme in the best tier that is left: one, or none that fits."""
    rows = _fair(tray, tray.nearest_tier())
    if not len(rows):
        return []
    scores = tray.index.scores(theme)
    few = _first(rows, -scores[rows])
    row = _best(tray, few, scores[few] / max(scores[few].max(), np.float32(1e-9)), CLOSENESS)
    words = tray.index.shared_words(theme, row)[:_NAMED_WORDS]
    return [tray.take(row, f"close in theme: {', '.join(words)}" if words else "for variety")]


def _fair(tray: _Tray, rows: _Rows) -> _Rows:
    """Return the rows not much longer than what is chosen already: a cache must read the last one anew."""
    if not tray.chosen:
        return rows
    mean = tray.index.costs[tray.chosen].mean()
    fair = rows[tray.index.costs[rows] <= _LONGER * mean]
    return fair if len(fair) else rows


def _first(rows: _Rows, key: _Keys) -> _Rows:
    """Return the rows with the smallest keys, as many as are considered."""
    if len(rows) <= _CONSIDERED:
        return rows
    return rows[np.argpartition(key, _CONSIDERED)[:_CONSIDERED]]


def _best(tray: _Tray, rows: _Rows, closeness: Scores, weight: float) -> int:
    """Return the row of the greatest marginal relevance; of equals the first in the index's order.

    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", 1998: weight times closeness
    (0 to 1) less the rest times the likeness to what is chosen already.
    """
    held = [tray.stems(row) for row in tray.chosen]
    worth = {
        int(row): weight * float(near) - (1 - weight) * _likeness(tray.stems(int(row)), held)
        for row, near in zip(rows, closeness, strict=True)
    }
    return max(worth, key=lambda row: (worth[row], -int(tray.index.order[row])))


def _likeness(stems: frozenset[str], others: Sequence[frozenset[str]]) -> float:
    """Return the greatest cosine of `stems` to any of `others`, 0 to 1."""
    return max(
        (len(stems & other) / math.sqrt(len(stems) * len(other)) for other in others if stems and other),
        default=0.0,
    )
