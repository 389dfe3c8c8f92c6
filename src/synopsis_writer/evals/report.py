"""The HTML report and the terminal table of an eval run."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from synopsis_writer.evals.metrics import Metric
from synopsis_writer.evals.record import Attempt, Group, Interval, Row, RunInfo, Scored
from synopsis_writer.evals.statistics import FEWEST_CASES, Contest, GroupKey, group_name, grouped
from synopsis_writer.evals.suite import Case
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Cost, format_cost

_HERE = Path(__file__).parent

_MOST_ANSWER = 6000  # characters of an answer that has no structure; the rest stands in results.jsonl

_DIRECTIONS = {1: "higher is better", -1: "lower is better", 0: "for information only"}


@dataclass(frozen=True)
class Measure:
    """A metric as the report calls it: its name, its range and direction in words, and the direction."""

    name: str
    note: str
    direction: int


@dataclass(frozen=True)
class Piece:
    """A part of a paragraph that is marked, or is not."""

    text: str
    is_marked: bool


@dataclass(frozen=True)
class Passage:
    """A paragraph in pieces, and the storyline it tells."""

    storyline: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Told:
    """One attempt as the report tells it.

    Attributes:
        attempt: the attempt.
        same_as: the place, from 1, of an earlier one with the very same answer; None: it is new.
    """

    attempt: Attempt
    same_as: int | None

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The text with its spots marked; empty where the answer has no structure."""
        synopsis = self.attempt.synopsis
        return () if synopsis is None else marked(synopsis, self.attempt.spans)

    @property
    def raw(self) -> str:
        """The answer as it came, at most so much of it as a person reads."""
        return self.attempt.answer[:_MOST_ANSWER]

    @property
    def unshown(self) -> int:
        """How many characters of the answer are left out."""
        return len(self.attempt.answer) - len(self.raw)


@dataclass(frozen=True)
class Result:
    """One row, its group's name and kind, and the id of its spot in the page."""

    id: str
    scored: Scored
    group: str
    is_demo: bool

    @cached_property
    def told(self) -> tuple[Told, ...]:
        """All attempts, in order."""
        seen: dict[str, int] = {}
        told = []
        for place, attempt in enumerate(self.scored.row.attempts, start=1):
            told.append(Told(attempt, seen.get(attempt.answer)))
            seen.setdefault(attempt.answer, place)
        return tuple(told)

    @property
    def best(self) -> Told | None:
        """The attempt whose text is shown; None where no answer has the structure of one."""
        best = self.scored.row.best
        return None if best is None or self.told[best].attempt.synopsis is None else self.told[best]


@dataclass(frozen=True)
class Section:
    """One case with its results; `case` is None where the suite has it no more."""

    id: str
    name: str
    case: Case | None
    results: tuple[Result, ...]


def render_report(
    info: RunInfo,
    groups: Sequence[Group],
    scored: Sequence[Scored],
    cases: Sequence[Case],
    metrics: Mapping[str, Metric],
    comparisons: Sequence[Contest] = (),
) -> str:
    """Return the report of a run as one HTML page.

    Args:
        info: what was run.
        groups: a summary a model and prompt version; of `metrics` those are shown that one of them has.
        scored: the rows with their scores.
        cases: the suite; a row whose case is not there is shown without brief and reference.
        metrics: each metric's name with its label and direction, in the order they are shown.
        comparisons: what was compared case by case; no winner is named otherwise.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown = {
        name: _measure(metrics[name]) for name in metrics if any(name in each.metrics for each in groups)
    }
    sections = tuple(_sections(scored, cases))
    rows = [each.row for each in scored]
    page = environment.get_template("report.html.j2")
    return page.render(
        **_policy(),
        info=info,
        groups=groups,
        name=group_name,
        metrics=shown,
        places=_places(groups, shown),
        row_places=_row_places(scored, shown),
        plots=_plots(groups, shown),
        findings=_findings(groups),
        sections=sections,
        results=[result for section in sections for result in section.results],
        idle=sorted(set(info.cases) - {row.case for row in rows}),
        rows=rows,
        demo=sum(group.rows for group in groups if group.is_demo),
        fewest=FEWEST_CASES,
        briefs={case.id: case.brief for case in cases},
        comparisons=comparisons,
        figures=SimpleNamespace(
            counted=counted, duration=duration, figure=figure, moment=moment, outcomes=outcomes, spent=spent
        ),
        spoken=spoken,
        cost=format_cost,
    )


def _measure(metric: Metric) -> Measure:
    name, _, scale = metric.label.partition(", ")
    way = _DIRECTIONS[metric.direction]
    return Measure(name, f"{scale}; {way}" if scale else way, metric.direction)


def _policy() -> dict[str, Any]:
    """Return style and script with the policy that lets nothing else run or load."""
    from markupsafe import Markup

    style = (_HERE / "report.css").read_text(encoding="utf-8")
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # Both are files of this package: nothing of a row is ever in them.
    return {"policy": policy, "style": Markup(style), "script": Markup(script)}  # noqa: S704


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _sections(scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[Section]:
    """Yield a section a case that has results, in the suite's order, then those the suite does not know."""
    known = {case.id: case for case in cases}
    by_case: dict[str, list[tuple[GroupKey, Scored]]] = {name: [] for name in known}
    for key, some in grouped(scored).items():
        for each in some:
            by_case.setdefault(each.row.case, []).append((key, each))
    numbers = count(1)
    for place, (name, own) in enumerate(by_case.items(), start=1):
        own.sort(key=lambda pair: (pair[0].is_demo, *pair[1].row.key))
        results = tuple(Result(f"r{next(numbers)}", each, group_name(key), key.is_demo) for key, each in own)
        if results:
            yield Section(f"c{place}", name, known.get(name), results)


def _places(groups: Sequence[Group], names: Iterable[str]) -> dict[str, int]:
    """Return each metric's decimals in the summary."""
    found = {name: [group.metrics.get(name) for group in groups] for name in names}
    return {name: decimals(each.mean for each in some if each is not None) for name, some in found.items()}


def _row_places(scored: Sequence[Scored], names: Iterable[str]) -> dict[str, int]:
    """Return each metric's decimals in single results: none where all are whole numbers."""
    found = {name: [each.scores.get(name) for each in scored] for name in names}
    return {
        name: 0 if all(value is None or value.is_integer() for value in some) else decimals(some)
        for name, some in found.items()
    }


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


def _plots(groups: Sequence[Group], names: Iterable[str]) -> dict[str, DotPlot | None]:
    return {
        name: dot_plot([(group_name(group), group.is_demo, group.metrics.get(name)) for group in groups])
        for name in names
    }


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


def _findings(groups: Sequence[Group]) -> list[tuple[Group, Bars | None]]:
    shares = [count / group.rows for group in groups if group.rows for count in group.findings.values()]
    return [
        (group, bars(group.findings, group.rows, max(shares)) if group.findings and group.rows else None)
        for group in groups
    ]


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


_GAP = len("\n\n")  # between two paragraphs of a synopsis's text


def marked(synopsis: Synopsis, spans: Sequence[tuple[int, int]]) -> tuple[Passage, ...]:
    """Cut the paragraphs where spans in `synopsis.text` begin and end; overlapping ones become one."""
    merged, passages, start = merge(spans), [], 0
    for paragraph in synopsis.paragraphs:
        pieces = tuple(_pieces(paragraph.text, start, merged))
        passages.append(Passage(paragraph.storyline, pieces))
        start += len(paragraph.text) + _GAP
    return tuple(passages)


def merge(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that touch or overlap as one, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _pieces(text: str, start: int, merged: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """Yield the pieces of a paragraph that begins at `start` in the whole text."""
    cuts = {0, len(text)}
    inside = [(max(0, low - start), min(len(text), high - start)) for low, high in merged]
    inside = [(low, high) for low, high in inside if low < high]
    for span in inside:
        cuts.update(span)
    for low, high in pairwise(sorted(cuts)):
        yield Piece(text[low:high], any(first <= low and high <= last for first, last in inside))


_NAME = 17  # letters of the longest metric's name, and a space


def groups_table(groups: Sequence[Group], metrics: Mapping[str, Metric], judge: str = "") -> str:
    """Return a block a group: its rows, its judge where one was, and each metric's mean with its interval."""
    return "\n\n".join("\n".join(_group(group, metrics, judge)) for group in groups)


def contests_table(contests: Sequence[Contest]) -> str:
    """Return a block a contest: each metric's difference, interval, cases won, tied and lost, and verdict."""
    return "\n\n".join("\n".join(_contest(contest)) for contest in contests)


def _group(group: Group, metrics: Mapping[str, Metric], judge: str) -> list[str]:
    rows = (
        f"{group.rows} rows"
        if group.rows == group.planned
        else f"{group.rows} of {group.planned} rows, INCOMPLETE"
    )
    lines = [
        group_name(group),
        f"  {rows}: {group.accepted} accepted, {group.refused} refused, {group.failed} failed",
    ]
    if judge and any(name.startswith("judge_") for name in group.metrics):
        lines.append(f"  judge: {judge}")
    lines += [
        f"  {name:{_NAME}}{_value(group.metrics[name], group.rows)}"
        for name in metrics
        if name in group.metrics
    ]
    if group.findings:
        found = ", ".join(f"{check} {count}" for check, count in group.findings.items())
        lines.append(f"  refused for: {found}")
    return lines


def _value(interval: Interval | None, rows: int) -> str:
    if interval is None:
        return f"unscored ({rows})" if rows else "unscored"
    unscored = f"  ({interval.unscored} unscored)" if interval.unscored else ""
    mean, low, high = _figures(interval)
    return f"{mean:>8}  [{low}, {high}]{unscored}"


def _figures(interval: Interval) -> tuple[str, str, str]:
    values = (interval.mean, interval.low, interval.high)
    places = decimals(values)
    return figure(values[0], places), figure(values[1], places), figure(values[2], places)


def _contest(contest: Contest) -> list[str]:
    lines = [contest.second, f"  against {contest.first}"]
    for found in contest.differences:
        difference = found.difference
        if difference is None:
            continue
        mean, low, high = _figures(difference)
        cases = f"{found.wins} won, {found.ties} tied, {found.losses} lost"
        lines.append(f"  {found.metric:{_NAME}}{mean:>8}  [{low}, {high}]  {cases}: {found.verdict}")
    return lines if contest.differences else [*lines, "  they share no case"]
