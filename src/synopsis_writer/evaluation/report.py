"""The report: a run as one HTML file that needs nothing else, for a screen of any width and for print."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from synopsis_writer.client.pricing import format_cost
from synopsis_writer.evaluation import figures
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.charts import Bars, DotPlot, bars, dot_plot, spoken
from synopsis_writer.evaluation.marks import Passage, marked
from synopsis_writer.evaluation.metrics import Metric
from synopsis_writer.evaluation.row import Attempt
from synopsis_writer.evaluation.scored import Group, RunInfo, Scored
from synopsis_writer.evaluation.statistics import FEWEST_CASES, Comparison
from synopsis_writer.evaluation.summary import GroupKey, grouped

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
class Contest:
    """Two groups or runs, compared case by case.

    Attributes:
        first, second: their names.
        differences: a comparison a metric; its verdict is on the second.
    """

    first: str
    second: str
    differences: tuple[Comparison, ...]


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
        figures=figures,
        spoken=spoken,
        cost=format_cost,
    )


def group_name(group: Group | GroupKey) -> str:
    """Return how a group is called: model and version of the prompts, and whether it is of demo drafts."""
    return f"{group.model} · {group.prompt}" + (" · demo" if group.is_demo else "")


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
    return {
        name: figures.decimals(each.mean for each in some if each is not None) for name, some in found.items()
    }


def _row_places(scored: Sequence[Scored], names: Iterable[str]) -> dict[str, int]:
    """Return each metric's decimals in single results: none where all are whole numbers."""
    found = {name: [each.scores.get(name) for each in scored] for name in names}
    return {
        name: 0 if all(value is None or value.is_integer() for value in some) else figures.decimals(some)
        for name, some in found.items()
    }


def _plots(groups: Sequence[Group], names: Iterable[str]) -> dict[str, DotPlot | None]:
    return {
        name: dot_plot([(group_name(group), group.is_demo, group.metrics.get(name)) for group in groups])
        for name in names
    }


def _findings(groups: Sequence[Group]) -> list[tuple[Group, Bars | None]]:
    shares = [count / group.rows for group in groups if group.rows for count in group.findings.values()]
    return [
        (group, bars(group.findings, group.rows, max(shares)) if group.findings and group.rows else None)
        for group in groups
    ]
