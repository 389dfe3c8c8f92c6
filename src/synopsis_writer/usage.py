"""What model calls take: tokens and money, and their sums."""

import operator
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, read from the provider's cache
    written_tokens: int = 0  # of the prompt, written into it
    thinking_tokens: int = 0  # of the completion

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*map(operator.sub, astuple(self), astuple(other)))

    def shares(self, count: int) -> "list[Usage]":
        """Return `count` parts, about equal, that sum up to it."""
        cuts = [Usage(*(number * index // count for number in astuple(self))) for index in range(count + 1)]
        return [above - below for below, above in pairwise(cuts)]


@dataclass(frozen=True)
class Cost:
    """An amount of money; `currency` is empty where nothing is ever charged."""

    amount: Decimal
    currency: str

    def shares(self, count: int) -> "list[Cost]":
        """Return `count` parts, about equal, that sum up to it."""
        part = (self.amount / count).quantize(Decimal("1e-12"))
        first = self.amount - part * (count - 1)
        return [replace(self, amount=amount) for amount in (first, *[part] * (count - 1))]

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum; raises ValueError for two currencies."""
        if self.currency and other.currency and self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} cannot be added")
        return Cost(self.amount + other.amount, self.currency or other.currency)


def sums_data(attempts: int, usage: Usage, cost: Cost | None, seconds: float) -> dict[str, Any]:
    """Return what so many attempts took together, as files and `--json` hold it; a cost of None: unpriced."""
    sums = {"attempts": attempts, "usage": usage_data(usage), "cost": format_cost(cost)}
    return {**sums, "seconds": round(seconds, 1)}


def usage_data(usage: Usage) -> dict[str, int]:
    """Return tokens as files and `--json` hold them."""
    always = ("prompt_tokens", "cached_tokens", "completion_tokens")
    counts = {name: getattr(usage, name) for name in (*always, "written_tokens", "thinking_tokens")}
    return {name: count for name, count in counts.items() if count or name in always}


NO_COST = Cost(Decimal(0), "")


def total_cost(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the sum of `costs`; None (unpriced) as soon as one of them is."""
    return sum((Spent(cost) for cost in costs), Spent()).cost


@dataclass(frozen=True)
class Spent:
    """Money and tokens, of calls that were made or may be; a cost of None: a part of it is unpriced."""

    cost: Cost | None = NO_COST
    tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Spent(cost, self.tokens + other.tokens)


def format_cost(cost: Cost | None) -> str:
    """Return a cost for people: `0.0123 USD`, `unpriced`, or `no cost`."""
    if cost is None or not cost.currency:
        return "unpriced" if cost is None else "no cost"
    if cost.amount and cost.amount < Decimal("0.0001"):
        return f"less than 0.0001 {cost.currency}"
    amount = f"{cost.amount:.{2 if cost.amount >= 1 else 4}f}" if cost.amount else "0"
    return f"{amount} {cost.currency}"
