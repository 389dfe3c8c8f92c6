"""The HTML report and the terminal tables of an eval run."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synopsis_writer.evals.metrics import Metric, Scored
from synopsis_writer.evals.record import PromptTexts, Row, RunInfo
from synopsis_writer.evals.statistics import (
    MIN_CASES,
    Comparison,
    Group,
    GroupKey,
    Interval,
    group_name,
    group_rows,
)
from synopsis_writer.evals.suite import Case
from synopsis_writer.log import word_diff
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import NO_COST, Cost, format_cost

_HERE = Path(__file__).parent
_MAX_ANSWER = 6000  # characters shown of an answer that has no structure; results.jsonl has the rest
_MAX_TEMPLATE = 20_000  # characters shown and compared of a template; prompts.json has the rest

Passage = tuple[str, tuple[tuple[str, bool], ...]]  # storyline, and pieces that are highlighted or not


@dataclass(frozen=True)
class ShownRow:
    """A row with its group's name and kind, and the id of its element in the page."""

    id: str
    scored: Scored
    group: str
    is_demo: bool


@dataclass(frozen=True)
class Section:
    """A case with its results; `case` is None where the suite no longer has it."""

    id: str
    name: str
    case: Case | None
    results: tuple[ShownRow, ...]


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt version and what it is compared with; per file name, status and the parts of `word_diff`."""

    name: str
    base: str
    unsaved: str  # whose templates were not saved; empty: none's
    files: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]


def render_report(  # noqa: PLR0913 - a page of many parts
    info: RunInfo,
    groups: Sequence[Group],
    scored: Sequence[Scored],
    cases: Sequence[Case],
    metrics: Mapping[str, Metric],
    comparisons: Sequence[Comparison] = (),
    judge: str = "",
    problems: Sequence[str] | None = None,
    against: Sequence[tuple[str, Group]] = (),
    *,
    prompts: Sequence[ShownPrompt] = (),
) -> str:
    """Return the report of a run as one HTML page.

    Args:
        info: what was run.
        groups: a summary per model and prompt version.
        scored: the rows with their scores.
        cases: the suite; a row whose case is not there is shown without brief and reference.
        metrics: in the order they are shown; those that no group has are not.
        comparisons: what was compared case by case; no winner is named otherwise.
        judge: who judged, and how far to trust it.
        problems: what the run misses, in sentences; None: it was not checked.
        against: groups of another run, with their names; they are in the charts, too.
        prompts: the templates, from `compare_prompts`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown = {name: metrics[name] for name in metrics if any(name in each.metrics for each in groups)}
    sections = sorted(_sections(scored, cases), key=_trouble, reverse=True)
    rows = [each.row for each in scored]
    shares = [number / group.rows for group in groups if group.rows for number in group.findings.values()]
    return environment.get_template("report.html.j2").render(
        **_policy(),
        info=info,
        groups=groups,
        label=group_name,
        metrics=shown,
        decimals={
            name: decimals(each.mean for group in groups if (each := group.metrics.get(name)))
            for name in shown
        },
        row_decimals={name: _row_decimals([each.scores.get(name) for each in scored]) for name in shown},
        bounds=_axes([*groups, *(group for _, group in against)], shown),
        charted=[*((group_name(group), group) for group in groups), *against],
        verdict=problems,
        prompts=prompts,
        major=("facts", "judge_preference"),  # columns for which a phone has room
        most_findings=max(shares, default=1),
        sections=sections,
        results=[result for section in sections for result in section.results],
        idle=sorted(set(info.cases) - {row.id.case for row in rows}),
        rows=rows,
        held_out=sum(case.id in info.cases and case.split == "held-out" for case in cases),
        demo=sum(group.rows for group in groups if group.is_demo),
        fewest=MIN_CASES,
        briefs={case.id: case.brief for case in cases},
        comparisons=comparisons,
        judge=judge,
        count_of=count_of,
        format_cost=format_cost,
        format_duration=format_duration,
        format_interval=format_interval,
        format_number=format_number,
        format_outcomes=format_outcomes,
        format_time=format_time,
        format_total=format_total,
        highlight=highlight,
        max_answer=_MAX_ANSWER,
    )


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
    """Yield a section per case that has results, in the suite's order, then those the suite does not know."""
    known = {case.id: case for case in cases}
    by_case: dict[str, list[tuple[GroupKey, Scored]]] = {name: [] for name in known}
    for key, members in group_rows(scored).items():
        for each in members:
            by_case.setdefault(each.row.id.case, []).append((key, each))
    numbers = count(1)
    for position, (name, members_of_case) in enumerate(by_case.items(), start=1):
        members_of_case.sort(key=lambda pair: (pair[0].is_demo, *pair[1].row.id))
        results = tuple(
            ShownRow(f"r{next(numbers)}", each, group_name(key), key.is_demo) for key, each in members_of_case
        )
        if results:
            yield Section(f"c{position}", name, known.get(name), results)


def compare_prompts(
    info: RunInfo, texts: PromptTexts, before: tuple[RunInfo, PromptTexts] | None = None
) -> Iterator[ShownPrompt]:
    """Yield each version: beside that of its name before, or each before; else beside the run's first one."""
    first = next(iter(info.prompts), "")
    for name in info.prompts:
        bases, saved, run = ([] if name == first else [first]), texts, ""
        if before is not None:
            bases, saved, run = list(before[0].prompts), before[1], f"{before[0].name}: "
            bases = [name] if name in bases else bases
        for base in bases or [""]:
            unsaved = [
                each
                for each, kept in ((name, name in texts), (run + base, base in saved))
                if each and not kept
            ]
            files = tuple(_compared(texts.get(name, {}), saved.get(base))) if name in texts else ()
            yield ShownPrompt(name, run + base, " and ".join(unsaved), files)


def _compared(
    new: Mapping[str, str], old: Mapping[str, str] | None
) -> Iterator[tuple[str, str, tuple[tuple[str, str], ...]]]:
    for name in dict.fromkeys([*new, *(old or ())]):
        after, earlier = (each.get(name, "").rstrip() for each in (new, new if old is None else old))
        status = "" if old is None else "unchanged" if after == earlier else "changed"
        if old is not None and (name in old) != (name in new):
            status = "removed" if name in old else "added"
        if max(len(after), len(earlier)) > _MAX_TEMPLATE:
            status = f"{status} (its first {_MAX_TEMPLATE:,} characters; prompts.json has all)".strip()
        after, earlier = after[:_MAX_TEMPLATE], earlier[:_MAX_TEMPLATE]
        yield name, status, (("=", after),) if after == earlier else tuple(word_diff(earlier, after))


def _trouble(section: Section) -> tuple[float, float]:
    """Return the shares of a case's results that failed, and that were refused."""
    outcomes = Counter(each.scored.row.outcome for each in section.results)
    return outcomes["failed"] / len(section.results), outcomes["refused"] / len(section.results)


def _row_decimals(values: Sequence[float | None]) -> int:
    """Return the decimals of a metric in single results: none where all are whole numbers."""
    return 0 if all(value is None or value.is_integer() for value in values) else decimals(values)


def _axes(groups: Sequence[Group], metrics: Mapping[str, Metric]) -> dict[str, tuple[float, float] | None]:
    """Return the ends of each metric's chart: metrics of one range, as `0 to 1`, have a common axis."""
    axes: dict[str, tuple[float, float]] = {}
    bounds = {name: _bounds(groups, name) for name in metrics}
    kinds = {name: metrics[name].label.partition(", ")[2] or name for name in metrics}
    for name, ends in bounds.items():
        if ends is not None:
            low, high = axes.get(kinds[name], ends)
            axes[kinds[name]] = min(low, ends[0]), max(high, ends[1])
    return {name: axes[kinds[name]] if bounds[name] else None for name in metrics}


def _bounds(groups: Sequence[Group], name: str) -> tuple[float, float] | None:
    """Return the values at both ends of a metric's chart; None where no group has one.

    Where all values are equal the chart reaches from them to zero, so that their size can be seen.
    """
    intervals = [interval for group in groups if (interval := group.metrics.get(name)) is not None]
    if not intervals:
        return None
    low, high = min(each.low for each in intervals), max(each.high for each in intervals)
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12):
        low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low > 1e-12 else (0.0, 1.0)  # noqa: PLR2004 - what rounding alone makes


_MINUTE = 60


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals show three digits of the largest value, or two of one below 1; 0 to 5."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    digits = 3 if largest >= 1 else 2
    return min(5, max(0, digits - 1 - math.floor(math.log10(largest))))


def format_number(value: float | None, places: int) -> str:
    """Return a number with thousands separators, a true minus sign and `places` decimals; None: unscored."""
    if value is None:
        return "unscored"
    shown = f"{value:,.{places}f}"
    if shown.startswith("-"):
        return shown[1:] if not shown.strip("-0.,") else f"−{shown[1:]}"
    return shown


def format_interval(interval: Interval, places: int) -> str:
    """Return `0.52 (0.41 to 0.63)`."""
    mean, low, high = (format_number(each, places) for each in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})"


def format_duration(seconds: float) -> str:
    """Return a time: `3.4 s`, `5 min 20 s`, `2 h 05 min`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // _MINUTE} h {minutes % _MINUTE:02} min"


def format_time(created: str) -> str:
    """Return `2026-11-21 08:15 UTC` for an ISO 8601 time, and anything else as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def format_total(rows: Sequence[Row]) -> str:
    """Return what rows cost together, a sum per currency, and how many of them are unpriced."""
    sums: dict[str, Decimal] = {}
    for row in rows:
        if row.cost is not None:
            sums[row.cost.currency] = sums.get(row.cost.currency, Decimal(0)) + row.cost.amount
    paid = [format_cost(Cost(amount, currency)) for currency, amount in sums.items() if currency]
    known = " and ".join(paid) or (format_cost(NO_COST) if sums else "")
    unpriced = sum(row.cost is None for row in rows)
    if not unpriced:
        return known or format_cost(NO_COST)
    return f"{known}, and {unpriced:,} of {len(rows):,} results unpriced" if known else "unpriced"


def count_of(number: int, noun: str) -> str:
    """Return `1 case`, `21 cases`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_outcomes(rows: Iterable[Row]) -> str:
    """Return how many rows had which outcome, as in `3 accepted, 1 refused`."""
    counts = Counter(row.outcome for row in rows)
    shown = [f"{counts[name]:,} {name}" for name in ("accepted", "refused", "failed") if counts[name]]
    return ", ".join(shown) or "no results"


def highlight(synopsis: Synopsis, spans: Sequence[tuple[int, int]]) -> tuple[Passage, ...]:
    """Cut the paragraphs where spans in `synopsis.text` begin and end; overlapping ones become one."""
    passages: list[Passage] = []
    merged, start = merge_spans(spans), 0
    for paragraph in synopsis.paragraphs:
        text, pieces, position = paragraph.text, [], 0
        for low, high in merged:
            first, last = max(0, low - start), min(len(text), high - start)
            if first < last:
                pieces += [(text[position:first], False), (text[first:last], True)]
                position = last
        pieces.append((text[position:], False))
        passages.append((paragraph.storyline, tuple(piece for piece in pieces if piece[0])))
        start += len(text) + len("\n\n")
    return tuple(passages)


def merge_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that touch or overlap as one, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


_NAME_WIDTH = 17  # letters of the longest metric's name, and a space


def groups_table(
    groups: Sequence[Group],
    metrics: Mapping[str, Metric],
    judge: str = "",
    style: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> str:
    """Return a block per group: rows, judge if any, each metric's mean with its interval, and style."""
    blocks = []
    for group in groups:
        figures = style.get(group_name(group), {}).items()
        beside = ", ".join(f"{name} {format_number(value, decimals([value]))}" for name, value in figures)
        lines = [*_group_lines(group, metrics, judge), *([f"  beside the score: {beside}"] if beside else [])]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _group_lines(group: Group, metrics: Mapping[str, Metric], judge: str) -> Iterator[str]:
    count = str(group.rows) if group.rows == group.planned else f"{group.rows} of {group.planned}"
    note = "" if group.rows == group.planned else ", INCOMPLETE"
    yield group_name(group)
    yield (f"  {count} rows{note}: {group.accepted} accepted, {group.refused} refused, {group.failed} failed")
    if judge and any(name.startswith("judge_") for name in group.metrics):
        yield f"  judge: {judge}"
    for name in metrics:
        if name not in group.metrics:
            continue
        interval = group.metrics[name]
        if interval is None:
            value = f"unscored ({group.rows})" if group.rows else "unscored"
        else:
            value = _columns(interval) + (f"  ({interval.unscored} unscored)" if interval.unscored else "")
        yield f"  {name:{_NAME_WIDTH}}{value}"
    if group.findings:
        yield "  refused for: " + ", ".join(f"{check} {number}" for check, number in group.findings.items())


def comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """Return a block per comparison: each metric's difference, interval, cases won, and verdict."""
    return "\n\n".join("\n".join(_comparison_lines(comparison)) for comparison in comparisons)


def _comparison_lines(comparison: Comparison) -> Iterator[str]:
    yield comparison.second
    yield f"  against {comparison.first}"
    for each in comparison.differences:
        if each.difference is not None:
            cases = f"{each.wins} won, {each.ties} tied, {each.losses} lost"
            yield f"  {each.metric:{_NAME_WIDTH}}{_columns(each.difference)}  {cases}: {each.verdict}"
    if not comparison.differences:
        yield "  they share no case"
    yield f"  winner: {comparison.winner}"


def _columns(interval: Interval) -> str:
    values = (interval.mean, interval.low, interval.high)
    mean, low, high = (format_number(value, decimals(values)) for value in values)
    return f"{mean:>8}  [{low}, {high}]"
