"""The HTML report and the terminal tables of an eval run."""

import base64
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from synopsis_writer.characters import count_of
from synopsis_writer.evals.metrics import ALL_METRICS, JUDGE_METRICS, MIN_CASES, Comparison, Group, Interval
from synopsis_writer.evals.record import Row, read_prompts
from synopsis_writer.evals.results import EvalResults
from synopsis_writer.evals.suite import Metric
from synopsis_writer.log import word_diff
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import format_cost, total_cost

_HERE = Path(__file__).parent
_NAME_WIDTH = 17  # letters of the longest metric's name, and a space
_MAX_ANSWER = 6000  # characters shown of an answer that has no structure; results.jsonl has the rest
_MAX_TEMPLATE = 20_000  # characters shown and compared of a template; prompts.json has the rest

_Texts = Mapping[str, str]  # of templates, by their paths
Passage = tuple[str, tuple[tuple[str, bool], ...]]  # storyline, and pieces that are highlighted or not


def render_report(
    run: EvalResults,
    comparisons: Sequence[Comparison] = (),
    problems: Sequence[str] | None = None,  # what the run misses, in sentences; None: it was not checked
    against: EvalResults | None = None,  # its groups are in the charts, and its prompts beside the run's
) -> str:
    """Return the report of a run as one HTML page; without its brief and reference where a case is gone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    times_and_sums = format_cost, format_duration, format_time, format_total
    formatters = (*times_and_sums, count_of, format_number, format_outcomes, highlight)
    environment.globals |= {function.__name__: function for function in formatters}
    info, groups, scored, cases = run.info, run.groups, run.scored, run.suite.cases
    used = {name for each in groups for name in each.metrics}
    shown = {name: metric for name, metric in ALL_METRICS.items() if name in used}
    charted = [(group.name, group) for group in groups]
    charted += [(f"{against.info.name}: {group.name}", group) for group in against.groups] if against else []
    sections = sorted(_sections(run), key=lambda section: section["trouble"], reverse=True)
    shares = [number / group.rows for group in groups if group.rows for number in group.findings.values()]
    style, script = ((_HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") for text in (style, script)
    )
    return environment.get_template("report.html.j2").render(
        # Both are files of this package: nothing of a row is ever in them, and the policy lets no other run.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'",
        info=info, groups=groups, metrics=shown, charted=charted, verdict=problems, sections=sections,
        comparisons=comparisons, judge=run.judge, max_answer=_MAX_ANSWER, fewest=MIN_CASES,
        people=Metric(1, "people: preferred to the other", "−1 to 1"),  # known only for pairs
        decimals={name: decimals(each.mean for group in groups if (each := group.metrics.get(name))) for name in shown},
        row_decimals={name: _row_decimals([each.scores.get(name) for each in scored]) for name in shown},
        bounds=_axes([group for _, group in charted], shown), prompts=list(_prompts(run, against)),
        major=("facts",),  # the column for which a phone has room
        most_findings=max(shares, default=1), rows=[each.row for each in scored],
        results=[result for section in sections for result in section["results"]],
        idle=sorted(set(info.cases) - {each.row.case for each in scored}),
        held_out=sum(case.id in info.cases and case.split == "held-out" for case in cases),
        demo=sum(group.rows for group in groups if group.is_demo), briefs={case.id: case.brief for case in cases},
    )  # fmt: skip


def _sections(run: EvalResults) -> Iterator[dict[str, Any]]:
    """Yield a section per case that has results, in the suite's order, then those the suite does not know."""
    known = {case.id: case for case in run.suite.cases}
    by_case: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    rows = ((each, group) for group in run.groups for each in run.rows_of(group))
    for number, (each, group) in enumerate(rows, 1):
        by_case.setdefault(each.row.case, []).append({"id": f"r{number}", "scored": each, "group": group})
    for number, (name, results) in enumerate(by_case.items(), 1):
        if results:
            outcomes = [each["scored"].row.outcome for each in results]
            trouble = [outcomes.count(outcome) / len(outcomes) for outcome in ("failed", "refused")]
            section = {"id": f"c{number}", "name": name, "case": known.get(name)}
            yield section | {"results": results, "trouble": trouble}


def _prompts(run: EvalResults, against: EvalResults | None) -> Iterator[dict[str, Any]]:
    """Yield each version: beside that of its name before, or each before; else beside the run's first one."""
    texts = saved = read_prompts(run.folder)
    label = ""
    if against is not None:
        saved, label = read_prompts(against.folder), f"{against.info.name}: "
    first = next(iter(run.info.prompts), "")
    for name in run.info.prompts:
        bases = [first] if name != first else [""]
        if against is not None:
            bases = [name] if name in against.info.prompts else [*against.info.prompts]
        for base in bases:
            shown = label + base if base else ""
            unsaved = [name] * (name not in texts) + [shown] * bool(base and base not in saved)
            files = list(_compared(texts[name], saved.get(base))) if name in texts else []
            yield {"name": name, "base": shown, "unsaved": " and ".join(unsaved), "files": files}


def _compared(new: _Texts, old: _Texts | None) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for name in {**new, **(old or {})}:
        after, earlier = (each.get(name, "").rstrip() for each in (new, new if old is None else old))
        status = "" if old is None else "unchanged" if after == earlier else "changed"
        if old is not None and (name in old) != (name in new):
            status = "removed" if name in old else "added"
        if max(len(after), len(earlier)) > _MAX_TEMPLATE:
            status = f"{status} (its first {_MAX_TEMPLATE:,} characters; prompts.json has all)".strip()
        after, earlier = after[:_MAX_TEMPLATE], earlier[:_MAX_TEMPLATE]
        yield name, status, [("=", after)] if after == earlier else list(word_diff(earlier, after))


def _row_decimals(values: Sequence[float | None]) -> int:
    """Return the decimals of a metric in single results: none where all are whole numbers."""
    return 0 if all(value is None or value.is_integer() for value in values) else decimals(values)


def _axes(groups: Sequence[Group], shown: Iterable[str]) -> dict[str, tuple[float, float] | None]:
    """Return the ends of each metric's chart, common to those of one range; None where no group has any."""
    kinds = {name: ALL_METRICS[name].range.replace("or", "to") or name for name in shown}
    scored = {name: [each for group in groups if (each := group.metrics.get(name))] for name in shown}
    values: defaultdict[str, list[float]] = defaultdict(list)
    for name, intervals in scored.items():
        values[kinds[name]] += chain.from_iterable((each.low, each.high) for each in intervals)
    ends: dict[str, tuple[float, float] | None] = dict.fromkeys(shown)
    for name in filter(scored.get, shown):
        low, high = min(values[kinds[name]]), max(values[kinds[name]])
        if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12):  # extended to zero, so that the size can be seen
            low, high = min(low, 0.0), max(high, 0.0)
        ends[name] = (low, high) if high - low > 1e-12 else (0.0, 1.0)  # noqa: PLR2004 - rounding
    return ends


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals show three digits of the largest value, or two of one below 1; 0 to 5."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    digits = 3 if largest >= 1 else 2
    return min(5, max(0, digits - 1 - math.floor(math.log10(largest))))


def format_number(value: float | None, places: int) -> str:
    """Return a number with thousands separators, a true minus sign and `places` decimals; None: unscored."""
    return "unscored" if value is None else f"{value:z,.{places}f}".replace("-", "−")


def format_duration(seconds: float) -> str:
    """Return a time: `3.4 s`, `5 min 20 s`, `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def format_time(created: str) -> str:
    """Return `2026-11-21 08:15 UTC` for an ISO 8601 time, and anything else as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def format_total(rows: Sequence[Row]) -> str:
    """Return what rows cost together, a sum per currency, and how many of them are unpriced."""
    costs = [row.cost for row in rows if row.cost is not None]
    currencies = dict.fromkeys(cost.currency for cost in costs if cost.currency)
    sums = (total_cost(cost for cost in costs if cost.currency == currency) for currency in currencies)
    known, unpriced = " and ".join(map(format_cost, sums)), len(rows) - len(costs)
    if not unpriced:
        return known or "no cost"
    return f"{known}, and {unpriced:,} of {len(rows):,} results unpriced" if known else "unpriced"


def format_outcomes(rows: Iterable[Row]) -> str:
    """Return how many rows had which outcome, as in `3 accepted, 1 refused`."""
    counts = Counter(row.outcome for row in rows)
    shown = [f"{counts[name]:,} {name}" for name in ("accepted", "refused", "failed") if counts[name]]
    return ", ".join(shown) or "no results"


def highlight(synopsis: Synopsis, spans: Sequence[tuple[int, int]]) -> tuple[Passage, ...]:
    """Cut the paragraphs where spans in `synopsis.text` begin and end; overlapping ones become one."""
    covered, start = bytearray(len(synopsis.text)), 0
    for low, high in spans:
        part = slice(max(0, low), max(0, low, high))
        covered[part] = b"\1" * len(covered[part])
    passages: list[Passage] = []
    for paragraph in synopsis.paragraphs:
        marks = groupby(zip(paragraph.text, covered[start:], strict=False), key=itemgetter(1))
        pieces = tuple(("".join(letter for letter, _ in run), bool(mark)) for mark, run in marks)
        passages.append((paragraph.storyline, pieces))
        start += len(paragraph.text) + len("\n\n")
    return tuple(passages)


def groups_table(run: EvalResults) -> str:
    """Return a block per group: rows, judge if any, each metric's mean with its interval, and style."""
    lines: list[str] = []
    for group in run.groups:
        rows = count_of(group.planned, "row")
        rows = rows if group.rows == group.planned else f"{group.rows} of {rows}, INCOMPLETE"
        counts = f"{group.accepted} accepted, {group.refused} refused, {group.failed} failed"
        lines += [*[""] * bool(lines), group.name, f"  {rows}: {counts}"]
        if run.judge and any(name in JUDGE_METRICS for name in group.metrics):
            lines.append(f"  judge: {run.judge}")
        for name in filter(group.metrics.__contains__, ALL_METRICS):
            shown = f"unscored ({group.rows})" if group.rows else "unscored"
            if (value := group.metrics[name]) is not None:
                shown = _columns(value) + (f"  ({value.unscored} unscored)" if value.unscored else "")
            lines.append(f"  {name:{_NAME_WIDTH}}{shown}")
        if group.findings:
            findings = (f"{check} {number}" for check, number in group.findings.items())
            lines.append(f"  refused for: {', '.join(findings)}")
        if figures := run.style(group):
            beside = (f"{name} {format_number(value, decimals([value]))}" for name, value in figures.items())
            lines.append(f"  beside the score: {', '.join(beside)}")
    return "\n".join(lines)


def comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """Return a block per comparison: each metric's difference, interval, cases won, and verdict."""
    lines: list[str] = []
    for comparison in comparisons:
        lines += [*[""] * bool(lines), comparison.second, f"  against {comparison.first}"]
        for each in comparison.differences:
            if each.difference is not None:
                cases = f"{each.wins} won, {each.ties} tied, {each.losses} lost: {each.verdict}"
                lines.append(f"  {each.metric:{_NAME_WIDTH}}{_columns(each.difference)}  {cases}")
        lines += ["  they share no case"] * (not comparison.differences)
        lines.append(f"  winner: {comparison.winner}")
    return "\n".join(lines)


def _columns(interval: Interval) -> str:
    values = (interval.mean, interval.low, interval.high)
    mean, low, high = (format_number(value, decimals(values)) for value in values)
    return f"{mean:>8}  [{low}, {high}]"
