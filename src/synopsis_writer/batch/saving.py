"""Saving rows as they come: each is held against the batch's others once more, for they may be newer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.variety import Variety
from synopsis_writer.desk import Desk
from synopsis_writer.errors import FileError
from synopsis_writer.style.gate import failures


@dataclass(frozen=True)
class Saver:
    """Saves rows in the record, and says which are to be mended.

    Attributes:
        record: where they are saved.
        desk: the shows.
        variety: the accepted texts; None: a text is not held against them.
        attempts: rounds a row has.
        made: is told of each row that was saved, and whether it is done with: not when it is to be mended,
            or still to be made.
        unsaved: is given each row that cannot be saved, for its words are paid; nobody where they lie
            elsewhere, too.
    """

    record: BatchRecord
    desk: Desk
    variety: Variety | None
    attempts: int
    made: Callable[[Done, bool], None]
    unsaved: Callable[[Done], None] = lambda _: None

    def save(self, row: BatchRow, done: Done) -> Answered | None:
        """Save what became of a row; return the answer that is to be mended, where it has rounds left.

        Rows in flight do not see each other: of two that came to the same, the one saved first stays.

        Raises:
            FileError: the record cannot be written.
        """
        try:
            done = self._checked(row, done)
            last = self._kept(done)
        except FileError:
            self.unsaved(done)
            raise
        if done.status == "accepted" and done.synopsis is not None and self.variety is not None:
            # After the saving: a kill between the two leaves a row that the next start takes in.
            self.variety.add(done.id, done.synopsis, self.desk.find_show(row.brief.show))
        self.made(done, last is None and done.status != "pending")
        return last

    def _kept(self, done: Done) -> Answered | None:
        """Save the row; it stays pending while it has an answer that is to be mended, which is returned."""
        last = done.answers[-1] if done.status == "refused" and done.answers else None
        with self.record.together():
            self.record.save(done)
            if last is None or last.number >= self.attempts:
                return None
            self.record.reopen(done.id)
        return last

    def _checked(self, row: BatchRow, done: Done) -> Done:
        """Return the row refused, and its answer with what is wrong, where another is alike by now."""
        if self.variety is None or done.status != "accepted" or done.synopsis is None:
            return done
        show = self.desk.find_show(row.brief.show)
        found = failures(self.variety.find(done.synopsis, show, row.brief))
        if not found:
            return done
        problems = tuple(f"{finding.check}: {finding.message}" for finding in found)
        answers = tuple(
            replace(one, passed=False, problems=problems) if one.passed else one for one in done.answers
        )
        return replace(done, status="refused", reason=" ".join(problems), answers=answers)
