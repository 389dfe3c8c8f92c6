"""The copy desk measured on texts with one planted slip each, and on the same texts without."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.document import Document, read_fields
from synopsis_writer.errors import InputError
from synopsis_writer.evals.metrics import wilson_interval
from synopsis_writer.gate.text import analyse
from synopsis_writer.house.form import REVIEW
from synopsis_writer.models.base import Answer
from synopsis_writer.settings import folder
from synopsis_writer.synopsis import Character
from synopsis_writer.workspace import Report
from synopsis_writer.writer import Writer

Half = Literal["tuning", "held-out"]
HALVES: tuple[Half, ...] = ("tuning", "held-out")
KINDS = "name first-name role gender relation number age time knowledge step reference language".split()
CODE = "consistency"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Slip(_Strict):
    """A fault to plant: `new` in the place of `old`, which stands in the text once."""

    kind: str
    old: str
    new: str


class ReviewText(_Strict):
    """A text without a fault, its brief and people, and slips, each for a copy of its own."""

    id: str
    show: str
    theme: str
    form: str
    title: str
    logline: str
    characters: tuple[Character, ...]
    text: str
    slips: tuple[Slip, ...]

    def document(self, slip: Slip | None) -> Document:
        """Return the text as a file, with a slip if one is given."""
        brief = {"show": self.show, "theme": self.theme, "form": self.form}
        meta = {"brief": brief, **self.model_dump(include={"title", "logline", "characters"})}
        text = self.text.replace(slip.old, slip.new) if slip else self.text
        return Document(Path(self.id), {**meta, "characters": list(meta["characters"])}, text.strip())


class _File(_Strict):
    texts: Annotated[tuple[ReviewText, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Reading:
    """What one of those who look, `consistency` or `review`, found in one text."""

    by: str
    half: Half
    kind: str  # of its slip; empty without one
    hit: bool | None  # whether the slip's sentence is marked; None: the text was not read
    others: int  # other sentences that are marked
    answers: tuple[Answer, ...] = ()


def load_texts(half: Half) -> tuple[ReviewText, ...]:
    """Return the texts of a half; raises InputError."""
    return read_fields(folder("evals") / "review" / f"{half}.yaml", _File, InputError).texts


async def check_review(
    writer: Writer, halves: Sequence[Half], *, review: bool, concurrency: int, results: list[Reading]
) -> None:
    """Have each text read as it is, and with each of its slips, by code, and by a model if `review`."""
    texts = [(half, text) for half in halves for text in load_texts(half)]
    work = [(half, text, slip) for half, text in texts for slip in (None, *text.slips)]

    async def read(item: tuple[Half, ReviewText, Slip | None]) -> None:
        half, text, slip = item
        report, kind = await writer.check(text.document(slip), review=review), slip.kind if slip else ""
        results.append(Reading(CODE, half, kind, *_marked(report, CODE, slip)))
        if review:
            results.append(Reading(REVIEW, half, kind, *_marked(report, REVIEW, slip), report.reviews))

    await run_concurrently(iter(work), read, concurrency)


def _marked(report: Report, check: str, slip: Slip | None) -> tuple[bool | None, int]:
    """Return whether a check marked a sentence with the slip, and how many other sentences; unread: None."""
    findings = [each for each in report.findings if each.check == check and not each.passed]
    if any(isinstance(each.value, str) for each in findings):
        return None, 0
    start = report.text.find(slip.new) if slip else -1
    planted = range(start, start + len(slip.new)) if slip else range(0)
    spans = [span for each in findings for span in each.spans]
    marked = [
        planted.start < sentence.span.end and sentence.span.start < planted.stop
        for sentence in analyse(report.text).sentences
        if any(span.start < sentence.span.end and sentence.span.start < span.end for span in spans)
    ]
    return any(marked), marked.count(False)


def summary(readings: Sequence[Reading], halves: Sequence[Half]) -> list[dict[str, Any]]:
    """Return, by who looked and half, recall by kind of slip, and false alarms in texts without one."""
    rows: list[dict[str, Any]] = []
    for by, half in product((CODE, REVIEW), halves):
        mine = [each for each in readings if (each.by, each.half) == (by, half)]
        if not mine:
            continue
        read = [each for each in mine if each.hit is not None]
        recall: dict[str, dict[str, Any] | None] = {}
        for kind in ("", *KINDS):
            hits = [bool(each.hit) for each in read if each.kind and kind in {"", each.kind}]
            recall[kind] = None
            if hits:
                share = wilson_interval(sum(hits), len(hits))
                ends = {"low": round(share.low, 3), "high": round(share.high, 3)}
                recall[kind] = {"found": sum(hits), "of": len(hits), **ends}
        clean = [bool(each.others) for each in read if not each.kind]
        rows.append(
            {
                "by": by,
                "half": half,
                "recall": recall,
                "clean_texts": len(clean),
                "clean_texts_marked": sum(clean),
                "other_sentences_marked": sum(each.others for each in mine if each.kind),
                "unread": len(mine) - len(read),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a summary as lines to print."""
    lines = [("kind of slip", *(f"{row['by']}, {row['half']}" for row in rows))]
    for kind in (*KINDS, ""):
        shares = [row["recall"][kind] for row in rows]
        found = [f"{share['found']} of {share['of']}" if share else "–" for share in shares]
        lines.append((kind or "all slips", *found))
    keys = ("clean_texts_marked", "other_sentences_marked", "unread")
    lines += [(key.replace("_", " "), *(str(row[key]) for row in rows)) for key in keys]
    return "\n".join("".join(f"{cell:<24}" for cell in line).rstrip() for line in lines)
