"""Figures as people read them: numbers with a sensible precision, costs, times and dates."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from synopsis_writer.client import Cost
from synopsis_writer.client.pricing import format_cost
from synopsis_writer.evaluation.row import Row

UNSCORED = "unscored"
_MOST_DECIMALS = 5
_MINUTE = 60


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals show three digits of the largest value, or two of one below 1; 0 to 5."""
    most = max((abs(value) for value in values if value is not None), default=0.0)
    if most == 0 or not math.isfinite(most):
        return 0
    digits = 3 if most >= 1 else 2
    return min(_MOST_DECIMALS, max(0, digits - 1 - math.floor(math.log10(most))))


def figure(value: float | None, places: int) -> str:
    """Return a number with thousands set apart, a true minus sign and `places` decimals; None is unscored."""
    if value is None:
        return UNSCORED
    shown = f"{value:,.{places}f}"
    if shown.startswith("-"):
        return shown[1:] if not shown.strip("-0.,") else f"−{shown[1:]}"
    return shown


def duration(seconds: float) -> str:
    """Return a time: `3.4 s`, `5 min 20 s`, `2 h 05 min`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // _MINUTE} h {minutes % _MINUTE:02} min"


def moment(created: str) -> str:
    """Return `2026-11-21 08:15 UTC` for an ISO 8601 time, and anything else as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def spent(rows: Sequence[Row]) -> str:
    """Return what rows cost together, a sum a currency, and how many of them are unpriced."""
    sums: dict[str, Decimal] = {}
    for row in rows:
        if row.amount is not None:
            sums[row.currency] = sums.get(row.currency, Decimal(0)) + row.amount
    paid = [format_cost(Cost(amount, currency)) for currency, amount in sums.items() if currency]
    known = " and ".join(paid) or (format_cost(Cost(Decimal(0), "")) if sums else "")
    unpriced = sum(row.amount is None for row in rows)
    if not unpriced:
        return known or format_cost(Cost(Decimal(0), ""))
    return f"{known}, and {unpriced:,} of {len(rows):,} results unpriced" if known else "unpriced"


def counted(number: int, what: str) -> str:
    """Return `1 case`, `21 cases`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def outcomes(rows: Iterable[Row]) -> str:
    """Return how many rows came out how, as in `3 accepted, 1 refused`."""
    counts = Counter(row.outcome for row in rows)
    shown = [f"{counts[name]:,} {name}" for name in ("accepted", "refused", "failed") if counts[name]]
    return ", ".join(shown) or "no results"
