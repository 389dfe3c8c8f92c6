"""Exports: a run's rows for other programs, as JSON lines or as a table."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.row import Key, Row
from synopsis_writer.evaluation.scored import RunInfo, Scored
from synopsis_writer.evaluation.summary import grouped
from synopsis_writer.spreadsheet import csv_record

_METRIC = "score_"  # before a metric's column: some are called as a field of the row is
_Field = Callable[[Row, Case | None], Any]
# What the flat exports tell of a row; show and form are None where the suite has its case no more.
_FIELDS: Mapping[str, _Field] = {
    "case": lambda row, _: row.case,
    "model": lambda row, _: row.model,
    "prompt": lambda row, _: row.prompt,
    "repeat": lambda row, _: row.repeat,
    "show": lambda _, case: case and case.brief.show,
    "form": lambda _, case: case and case.brief.form.value,
    "outcome": lambda row, _: row.outcome,
    "is_demo": lambda row, _: row.is_demo,
    "title": lambda row, _: row.synopsis and row.synopsis.title,
    "text": lambda row, _: row.synopsis and row.synopsis.text,
    "attempts": lambda row, _: len(row.attempts),
    "prompt_tokens": lambda row, _: row.prompt_tokens,
    "cached_tokens": lambda row, _: row.cached_tokens,
    "completion_tokens": lambda row, _: row.completion_tokens,
    "cost": lambda row, _: None if row.amount is None else f"{row.amount:f}",
    "currency": lambda row, _: row.currency,
    "seconds": lambda row, _: row.seconds,
    "answered": lambda row, _: row.answered,
    "created": lambda row, _: row.created,
    "error": lambda row, _: row.error,
}


@dataclass(frozen=True)
class Part:
    """What one model made with one version of the prompts.

    Attributes:
        model, prompt: the model, and the version of the prompts.
        scored: the rows that are there: those of a case side by side, its repeats in order.
        missing: the keys of rows that the run has not made yet.
    """

    model: str
    prompt: str
    scored: tuple[Scored, ...]
    missing: tuple[Key, ...]


def parts(info: RunInfo, scored: Sequence[Scored]) -> list[Part]:
    """Return the run's parts, in its own order; rows that it never planned come last."""
    rows = {each.row.key: each for each in scored}
    planned = [
        Key(case, model, prompt, repeat)
        for model in info.models
        for prompt in info.prompts
        for case in info.cases
        for repeat in range(info.repeats)
    ]
    grouped: dict[tuple[str, str], list[Key]] = {}
    for key in [*planned, *sorted(rows.keys() - set(planned))]:
        grouped.setdefault((key.model, key.prompt), []).append(key)
    return [
        Part(
            model,
            prompt,
            tuple(rows[key] for key in keys if key in rows),
            tuple(key for key in keys if key not in rows),
        )
        for (model, prompt), keys in grouped.items()
    ]


def metric_names(scored: Sequence[Scored]) -> list[str]:
    """Return the metrics that any row has, in the order they come."""
    return list(dict.fromkeys(name for each in scored for name in each.scores))


def as_jsonl(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield a line of JSON a row: key, outcome, text, what it took, and `scores`; null is unscored."""
    names = metric_names(scored)
    for each, fields in _told(info, scored, cases):
        scores = {name: each.scores.get(name) for name in names}
        yield json.dumps(fields | {"scores": scores}, ensure_ascii=False) + "\n"


def as_csv(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield the header, then a record a row, with a column `score_…` a metric; empty is unscored.

    No cell of it runs as a formula: see `csv_record`.
    """
    names = metric_names(scored)
    yield csv_record([*_FIELDS, *(_METRIC + name for name in names)])
    for each, fields in _told(info, scored, cases):
        yield csv_record([*fields.values(), *(each.scores.get(name) for name in names)])


def _told(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]
) -> Iterator[tuple[Scored, dict[str, Any]]]:
    known, demos = {case.id: case for case in cases}, demo_keys(scored)
    for part in parts(info, scored):
        for each in part.scored:
            fields = {name: field(each.row, known.get(each.row.case)) for name, field in _FIELDS.items()}
            yield each, fields | {"is_demo": each.row.key in demos}


def demo_keys(scored: Sequence[Scored]) -> frozenset[Key]:
    """Return the keys of the rows that are summed up as demo drafts."""
    return frozenset(
        each.row.key for group, rows in grouped(scored).items() if group.is_demo for each in rows
    )


def problems_of(row: Row) -> list[str]:
    """Return what is wrong with the row's best answer, or its last one, and the fault that ended the work."""
    shown = row.attempts[-1 if row.best is None else row.best] if row.attempts else None
    return [*(shown.problems if shown else ()), *([row.error] if row.error else [])]
