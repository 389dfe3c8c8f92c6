"""What judges said of a run's rows, kept beside its results: a line a judgement."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from synopsis_writer.evaluation.judge import Judge
from synopsis_writer.evaluation.judgement import Judgement
from synopsis_writer.evaluation.lines import append_line, as_json_line, read_lines
from synopsis_writer.evaluation.row import Row

JUDGED_FILE = "judged.jsonl"

Say = Callable[[str], None]


class JudgeId(NamedTuple):
    """Who judged.

    Attributes:
        judge: the model, as it was asked for.
        templates: 12 hex digits that change when one of its templates does.
    """

    judge: str
    templates: str


class _Line(BaseModel):
    """A line of the file; without a row it says that the judge was run, and had nothing to judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    templates: str
    row: str | None = None
    judgement: Judgement | None = None


@dataclass(frozen=True)
class Judged:
    """What one judge said of a run.

    Attributes:
        judge: who; None where no judge was asked.
        judgements: by the digests of the rows.
    """

    judge: JudgeId | None
    judgements: Mapping[str, Judgement]

    @property
    def name(self) -> str:
        """The judge's model; empty where there is none."""
        return self.judge.judge if self.judge else ""


def judge_id(judge: Judge) -> JudgeId:
    """Return who a judge is: another model, or changed templates, are another judge."""
    hashes = "".join(judge.templates[name].hash for name in sorted(judge.templates))
    return JudgeId(judge.client.name, hashlib.sha256(hashes.encode("utf-8")).hexdigest()[:12])


def row_digest(row: Row) -> str:
    """Return 24 hex digits that stand for a row with all it holds.

    What is as it would be without saying is left out, so that a row keeps its digest when rows get a field.
    """
    return hashlib.sha256(row.model_dump_json(exclude_defaults=True).encode("utf-8")).hexdigest()[:24]


def read_judged(folder: Path, say: Say) -> dict[JudgeId, dict[str, Judgement]]:
    """Return each judge's judgements by the digests of their rows; the judge that was run last stands last.

    A line that cannot be read, as one that a kill cut, is said and left out.

    Raises:
        FileError: the file cannot be read.
    """
    path = folder / JUDGED_FILE
    found: dict[JudgeId, dict[str, Judgement]] = {}
    for number, data in read_lines(path):
        try:
            line = _Line.model_validate(data)
        except ValueError:
            say(f"{path}:{number}: half written, left out: the row is judged again")
            continue
        judge = JudgeId(line.judge, line.templates)
        found[judge] = found.pop(judge, {})
        if line.row is not None and line.judgement is not None:
            found[judge][line.row] = line.judgement
    return found


def last_judged(folder: Path, say: Say) -> Judged:
    """Return what the judge that was run last said; raises as `read_judged`."""
    found = read_judged(folder, say)
    last = next(reversed(found), None)
    return Judged(last, found[last] if last else {})


def name_judge(folder: Path, judge: JudgeId) -> None:
    """Note that a judge was run, though it may have had nothing to judge; raises FileError."""
    append_line(folder / JUDGED_FILE, _data(_Line(**judge._asdict())))


def add_judged(folder: Path, judge: JudgeId, row: Row, judgement: Judgement) -> None:
    """Append a judgement; raises FileError."""
    line = _Line(**judge._asdict(), row=row_digest(row), judgement=judgement)
    append_line(folder / JUDGED_FILE, _data(line))


def judged_text(judged: Judged, rows: Sequence[Row]) -> str:
    """Return the text of a file with one judge's judgements of some rows; empty where there are none."""
    if judged.judge is None:
        return ""
    lines = [
        _Line(**judged.judge._asdict(), row=name, judgement=judged.judgements[name])
        for name in map(row_digest, rows)
        if name in judged.judgements
    ]
    return "".join(as_json_line(_data(line)) for line in lines)


def _data(line: _Line) -> dict[str, object]:
    return line.model_dump(mode="json", exclude_none=line.row is None)
