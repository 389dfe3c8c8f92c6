"""The arc of a season: what earlier rows establish, told to the later ones, in order."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, RootModel

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.brief import MOST_BEATS, MOST_BEFORE, Beat, Brief
from synopsis_writer.desk import Desk
from synopsis_writer.document import read_fields
from synopsis_writer.errors import BriefError


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Id = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class _ArcFile(RootModel[dict[_Id, Annotated[tuple[Beat, ...], BeforeValidator(_listed)]]]):
    model_config = ConfigDict(frozen=True)


class Arc:
    """Tells each row what the rows before it, of its show, have established.

    A row is asked to tell its own facts, as further beats. Later rows are told them whatever became of the
    row, and title and logline of its text once it is accepted. Where that is too much for a brief, the
    loglines of the earliest rows are left out; facts never are.

    Args:
        path: the arc file.
        record: the batch.
        desk: the shows.

    Raises:
        BriefError: the file is none, names a row that the batch has not, or holds more than a brief can.
        FileError: it cannot be read.
    """

    def __init__(self, path: Path, record: BatchRecord, desk: Desk) -> None:
        self._facts = _read_facts(path)
        self._record = record
        self._desk = desk
        rows = [_row(record, name, path) for name in self._facts]
        self._rows = sorted(((row, self._show(row.brief)) for row in rows), key=lambda pair: pair[0].place)
        self._check(path)

    def _check(self, path: Path) -> None:
        counts: Counter[str] = Counter()
        for row, show in self._rows:
            if len(beats := self._beats(row)) > MOST_BEATS:
                raise BriefError(
                    f"{path}: row '{row.id}' has {len(beats)} beats and facts, at most {MOST_BEATS} are "
                    "allowed: tell its part in fewer facts"
                )
            counts[show] += len(self._facts[row.id])
            if counts[show] > MOST_BEFORE:
                raise BriefError(
                    f"{path}: more than {MOST_BEFORE} facts of '{show}' up to row '{row.id}': keep those "
                    "that later rows need"
                )

    def told(self, row: BatchRow) -> BatchRow:
        """Return the row with its own facts to tell, and what was before."""
        show = self._show(row.brief)
        facts = {
            earlier.place: self._facts[earlier.id]
            for earlier, its_show in self._rows
            if earlier.place < row.place and its_show == show
        }
        texts = self._texts(row.place, show, MOST_BEFORE - sum(map(len, facts.values())))
        before = [
            line
            for place in sorted({*facts, *texts})
            for line in (*texts.get(place, ()), *facts.get(place, ()))
        ]
        return replace(
            row, brief=row.brief.model_copy(update={"beats": self._beats(row), "before": tuple(before)})
        )

    def _beats(self, row: BatchRow) -> tuple[str, ...]:
        own = (fact for fact in self._facts.get(row.id, ()) if fact not in row.brief.beats)
        return (*row.brief.beats, *own)

    def _show(self, brief: Brief) -> str:
        return self._desk.find_show(brief.show).name

    def _texts(self, place: int, show: str, most: int) -> dict[int, tuple[str]]:
        """Return title and logline of the show's latest accepted rows before a place."""
        saved = (one for one in self._record.accepted_before(place) if self._show(one.brief) == show)
        return {
            one.place: (f"„{one.synopsis.title}“: {one.synopsis.logline}",) for one in islice(saved, most)
        }


def _read_facts(path: Path) -> Mapping[str, tuple[str, ...]]:
    return read_fields(path, _ArcFile, BriefError).root


def _row(record: BatchRecord, name: str, path: Path) -> BatchRow:
    row = record.row(name)
    if row is None:
        raise BriefError(f"{path}: the batch has no row '{name}': name rows by their column 'id'")
    return row
