"""Charts as places: where dots, intervals, ticks and bars lie; the template draws them as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synopsis_writer.evaluation.figures import UNSCORED, decimals, figure
from synopsis_writer.evaluation.scored import Interval

WIDTH = 340  # of a chart, in its own units: about a pixel each on a phone
_MARGIN = 14
_ROW = 36
_BAR_ROW = 24
_BAR_START, _BAR_END = 104, 262
_TICKS = (4, 3, 2)  # steps of an axis, about: fewer where the numbers are long
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_NOTHING = 1e-12  # what rounding alone makes
_LETTER = 7  # the width of a digit of the axis with some air
_LETTERS = 50  # of a line's label and value together
_CHECK = 15


@dataclass(frozen=True)
class Tick:
    """A spot on the axis with its number."""

    x: float
    text: str


@dataclass(frozen=True)
class Spot:
    """Where the dot and the ends of its interval lie on the axis."""

    x: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One group's line: label and value above, dot and interval below.

    Attributes:
        label, short: the group's name, whole and as it fits.
        text: the value in words.
        y: of dot and interval.
        spot: their places; None where it is unscored.
        is_demo: whether it is drawn as a demo draft.
    """

    label: str
    short: str
    text: str
    y: float
    spot: Spot | None
    is_demo: bool


@dataclass(frozen=True)
class DotPlot:
    """A chart with one line a group over a common axis."""

    height: int
    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]

    @property
    def words(self) -> str:
        """The chart for those who do not see it."""
        return "; ".join(f"{line.label}: {line.text}" for line in self.lines)


@dataclass(frozen=True)
class Bar:
    """A bar with its label and its number; all in the chart's units."""

    label: str
    short: str
    text: str
    y: float
    start: float
    width: float


@dataclass(frozen=True)
class Bars:
    """A chart of bars, the longest first."""

    height: int
    bars: tuple[Bar, ...]

    @property
    def words(self) -> str:
        """The chart for those who do not see it."""
        return "; ".join(f"{bar.label}: {bar.text}" for bar in self.bars)


def axis(low: float, high: float, steps: int) -> tuple[float, ...]:
    """Return round numbers in about `steps` even steps, from `low` or below to `high` or above.

    Where all values are one the axis reaches from it to zero, so that its size can be seen.
    """
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=_NOTHING):
        low, high = (min(low, 0.0), max(high, 0.0)) if abs(low) > _NOTHING else (0.0, 1.0)
    rough = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def dot_plot(groups: Sequence[tuple[str, bool, Interval | None]]) -> DotPlot | None:
    """Return the chart of groups, each with its name, whether it is of demo drafts, and its interval.

    None where no group has a value: there is nothing to draw.
    """
    intervals = [interval for _, _, interval in groups if interval is not None]
    if not intervals:
        return None
    marks, texts = _fitting(min(each.low for each in intervals), max(each.high for each in intervals))
    places = decimals(value for each in intervals for value in (each.low, each.high))
    spread = (WIDTH - 2 * _MARGIN) / (marks[-1] - marks[0])

    def x(value: float) -> float:
        return round(_MARGIN + (value - marks[0]) * spread, 1)

    lines = []
    for number, (label, is_demo, interval) in enumerate(groups):
        y = _ROW * number + 26
        text = UNSCORED if interval is None else spoken(interval, places)
        spot = None if interval is None else Spot(x(interval.mean), x(interval.low), x(interval.high))
        lines.append(Line(label, shortened(label, _LETTERS - len(text)), text, y, spot, is_demo))
    ticks = tuple(Tick(x(mark), text) for mark, text in zip(marks, texts, strict=True))
    return DotPlot(_ROW * len(groups) + 24, tuple(lines), ticks)


def _fitting(low: float, high: float) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Return the axis with the most steps whose numbers fit beside each other, and these numbers."""
    for steps in _TICKS:
        marks = axis(low, high, steps)
        step = marks[1] - marks[0]
        digits = next(many for many in range(20) if math.isclose(round(step, many), step, rel_tol=1e-6))
        texts = tuple(figure(mark, digits) for mark in marks)
        if sum(map(len, texts)) * _LETTER <= WIDTH - 4 * _MARGIN:
            break
    return marks, texts


def spoken(interval: Interval, places: int) -> str:
    """Return `0.52 (0.41 to 0.63)`."""
    low, high = figure(interval.low, places), figure(interval.high, places)
    return f"{figure(interval.mean, places)} ({low} to {high})"


def bars(counts: Mapping[str, int], rows: int, most: float) -> Bars:
    """Return a bar a check: how often it refused an answer, as long as that is in `rows` results.

    Args:
        counts: how often, a check.
        rows: the results they were found in, 1 or more.
        most: the share of the longest bar in any chart beside it, above 0.
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    unit = (_BAR_END - _BAR_START) / most
    made = [
        Bar(
            check,
            shortened(check, _CHECK),
            f"{count:,} ({count / rows:.2f})",
            _BAR_ROW * number,
            _BAR_START,
            round(count / rows * unit, 1),
        )
        for number, (check, count) in enumerate(ordered)
    ]
    return Bars(_BAR_ROW * len(made), tuple(made))


def shortened(text: str, most: int) -> str:
    """Return `text`, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
