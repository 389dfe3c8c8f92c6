"""Measures the gate on the good texts and on their corruptions, in two halves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from synopsis_writer.examples import Example, example_files, load_example
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.gate import CHECKS, Gate, copy_sources
from synopsis_writer.gate.sources import index_sources
from synopsis_writer.house import built_in_house
from synopsis_writer.prompts.templates import load_prompts
from synopsis_writer.settings import folder
from tests.corpus.damage.draft import HALVES, Draft, draft_of, half_of, pool
from tests.corpus.damage.table import Damage

GOOD = Path(__file__).parent / "good"


@dataclass(frozen=True)
class Row:
    """The result for one corruption: per half, how often its check refused it, of how many; what passed."""

    damage: Damage
    refused: dict[str, int]
    applied: dict[str, int]
    missed: tuple[str, ...]


@cache
def good_texts() -> tuple[Example, ...]:
    return tuple(load_example(path) for path in example_files(GOOD))


@cache
def gate() -> Gate:
    sources = load_prompts(folder("prompts")).copy_sources()
    return Gate(built_in_house(), index_sources(copy_sources(pool().examples, sources)), shows=pool().shows)


def subject_of(draft: Draft) -> Subject:
    subject = gate().subject(draft.text, draft.brief.form, draft.show, draft.brief, draft.title, draft.people)
    return replace(subject, truncated=draft.truncated)


def damaged(damage: Damage) -> Iterator[tuple[str, Draft]]:
    """Yield the id and the corrupted draft of each good text that the corruption applies to."""
    for example in good_texts():
        good = draft_of(example)
        bad = damage.change(good)
        if bad != good:
            yield example.id, bad


def is_refused(damage: Damage, bad: Draft) -> bool:
    """Whether the check that can name the reason refuses the draft."""
    finding = CHECKS[damage.check](subject_of(bad))
    return finding is not None and not finding.passed


def measure(damage: Damage) -> Row:
    applied, refused, missed = dict.fromkeys(HALVES, 0), dict.fromkeys(HALVES, 0), []
    for name, bad in damaged(damage):
        half = half_of(name)
        applied[half] += 1
        if is_refused(damage, bad):
            refused[half] += 1
        else:
            missed.append(name)
    return Row(damage, refused, applied, tuple(missed))


def as_markdown(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table, the last one with the sums."""
    refused = [sum(row.refused[half] for row in rows) for half in HALVES]
    applied = [sum(row.applied[half] for row in rows) for half in HALVES]
    sums = " | ".join(f"{some}/{all_}" for some, all_ in zip(refused, applied, strict=True))
    head = ["| corruption | refused by | half A | half B |", "|---|---|---|---|"]
    return [*head, *map(_line, rows), f"| {len(rows)} kinds | | {sums} |"]


def _line(row: Row) -> str:
    counts = " | ".join(f"{row.refused[half]}/{row.applied[half]}" for half in HALVES)
    return f"| {row.damage.name} | `{row.damage.check}` | {counts} |"
