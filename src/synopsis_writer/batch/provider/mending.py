"""Rows that wait to be mended, when live calls do it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Asked
from synopsis_writer.batch.saving import Saver
from synopsis_writer.errors import FileError


@dataclass(frozen=True)
class Mending:
    """Knows what a waiting row goes on from, and keeps it waiting until that is saved.

    Attributes:
        shards: the record's shards.
        saver: saves rows.
    """

    shards: Shards
    saver: Saver

    def rows(self) -> Iterator[BatchRow]:
        """Yield the rows that wait, in order."""
        return (row for row, _ in self.shards.waiting())

    def last(self, row: BatchRow) -> Answered | None:
        """Return the answer that a row is to go on from; None for one that does not wait."""
        asked = self.shards.waits(row.place)
        return self.shards.last(row.id, asked) if asked else None

    def save(self, row: BatchRow, done: Done) -> Answered | None:
        """Save what became of a row, as `Saver.save`; one that waits does so no more once it is done with."""
        if self.shards.waits(row.place) is None:
            return self.saver.save(row, done)
        try:
            with self.saver.record.together():
                last = replace(self.saver, unsaved=lambda _: None).save(row, done)
                newest = last or (done.answers[-1] if done.fault and done.answers else None)
                if newest is not None:
                    self.shards.wait(Asked(row.place, newest.number + 1))
                elif done.fault is None:
                    self.shards.settle(row.place)
        except FileError:
            self.saver.unsaved(done)
            raise
        return last
