"""How far a judge can be trusted: how often it prefers a good text to the same text spoilt."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.damage import Kind, damaged
from synopsis_writer.evaluation.judge import Judge
from synopsis_writer.synopsis import Synopsis

_Z = 1.959964  # the normal distribution's 97.5th percentile: an interval of 95 %


class Share(NamedTuple):
    """A share with its 95 % interval, all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """How a judge did on one kind of damage.

    Attributes:
        kind: the damage's name, or what the tallies it sums up have in common.
        gate: whether the style gate sees it, too: no, partly or yes; empty for a sum.
        wins: pairs in which it preferred the good text in both orders.
        ties: pairs in which the orders disagreed, or it said equal.
        losses: pairs in which it preferred the spoilt text in both orders.
        unscored: pairs of which an answer could not be read.
    """

    kind: str
    gate: str
    wins: int = 0
    ties: int = 0
    losses: int = 0
    unscored: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sum, under this one's name."""
        return Tally(
            self.kind,
            self.gate,
            self.wins + other.wins,
            self.ties + other.ties,
            self.losses + other.losses,
            self.unscored + other.unscored,
        )

    @property
    def scored(self) -> int:
        """Pairs that count."""
        return self.wins + self.ties + self.losses

    @property
    def agreement(self) -> Share | None:
        """The share of wins in the scored pairs, a tie being none; None when there are no such pairs."""
        return wilson(self.wins, self.scored) if self.scored else None


def wilson(successes: int, trials: int) -> Share:
    """Return a share with Wilson's 95 % score interval; `trials` is 1 or more.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927), 209-212; without correction for continuity.
    """
    share = successes / trials
    spread = _Z * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    middle, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return Share(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


async def check(
    judge: Judge,
    cases: Sequence[Case],
    kinds: Sequence[Kind],
    seed: int,
    *,
    concurrency: int = 4,
    done: Callable[[int, int], None] = lambda _, __: None,
    found: list[Tally] | None = None,
) -> list[Tally]:
    """Have a judge compare each case's reference with itself spoilt: two calls a pair.

    Args:
        judge: who compares.
        cases: whose references are spoilt; also where foreign paragraphs come from.
        kinds: the damages, one pair each for every case that can be damaged so.
        seed: of the damages' dice.
        concurrency: pairs under way at once.
        done: is told how many pairs of how many are done.
        found: gets a tally a pair as they come, so that they are there after a fault, too.

    Returns:
        One tally a kind, in their order.

    Raises:
        ModelError: the model failed for good; what is under way is called off.
    """
    pairs = [
        (kind, case, spoilt)
        for kind in kinds
        for case in cases
        if (spoilt := damaged(kind, case, cases, seed)) is not None
    ]
    free = asyncio.Semaphore(concurrency)
    compared: list[Tally] = [] if found is None else found

    async def compare(kind: Kind, case: Case, spoilt: Synopsis) -> None:
        async with free:
            preference = await judge.prefer(case, spoilt)
        compared.append(_one(kind, preference))
        done(len(compared), len(pairs))

    tasks = [asyncio.create_task(compare(*pair)) for pair in pairs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return by_kind(kinds, compared)


def by_kind(kinds: Sequence[Kind], found: Sequence[Tally]) -> list[Tally]:
    """Return one tally a kind, in their order, from those of the pairs."""
    return [
        sum_of(kind.name, kind.gate, [tally for tally in found if tally.kind == kind.name]) for kind in kinds
    ]


def _one(kind: Kind, preference: float | None) -> Tally:
    return Tally(
        kind.name,
        kind.gate,
        wins=preference == 0.0,
        ties=preference == 0.5,  # noqa: PLR2004 - a tie, as `Judge.prefer` says
        losses=preference == 1.0,
        unscored=preference is None,
    )


def sum_of(name: str, gate: str, tallies: Sequence[Tally]) -> Tally:
    """Return the sum of tallies under one name."""
    return sum(tallies, Tally(name, gate))


_WIDTHS = "{:<22} {:<7} {:>5} {:>5} {:>7} {:>9}   {}"


def table(tallies: Sequence[Tally]) -> str:
    """Return the tallies as lines to print, the sum last."""
    head = _WIDTHS.format("damage", "gate", "wins", "ties", "losses", "unscored", "prefers the good text")
    lines = [
        _WIDTHS.format(
            tally.kind,
            tally.gate,
            tally.wins,
            tally.ties,
            tally.losses,
            tally.unscored,
            _said(tally.agreement),
        )
        for tally in [*tallies, sum_of("all", "", tallies)]
    ]
    return "\n".join([head, *lines])


def _said(agreement: Share | None) -> str:
    if agreement is None:
        return "unscored"
    return f"{agreement.value:.0%} ({agreement.low:.0%} to {agreement.high:.0%})"
