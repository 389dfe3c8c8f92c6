"""What the batch commands show while rows are made: how far it is, and in the end what cannot be saved."""

import json
import sys
from types import TracebackType
from typing import Self

from synopsis_writer.batch.done import Counts, Done
from synopsis_writer.cli.console import complain, give, say
from synopsis_writer.cli.progress import Progress


class RowsShown:
    """Shows the progress of a batch, in a `with` block; at its end it prints answers that cannot be saved.

    Attributes:
        progress: the line of progress.
        lost: rows that were made and cannot be saved.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        self.progress = Progress(0, is_quiet=is_quiet)
        self.lost: list[Done] = []

    def begun(self, counts: Counts) -> None:
        """Take down how far the batch is before anything is made."""
        self.progress.planned, self.progress.before = counts.rows, counts.rows - counts.pending

    def made(self, done: Done, is_final: bool) -> None:
        """Count a row that was saved, and what it took."""
        self.progress.add(done.status if is_final else None, done.usage, done.cost)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say how far the batch came, and print what would be lost."""
        self.progress.end()
        for done in self.lost:
            _give_answers(done)
        if self.lost:
            complain(
                f"{len(self.lost)} rows cannot be saved: their answers are printed, a line of JSON a row"
            )


def _give_answers(done: Done) -> None:
    """Print what was answered to a row as a line of JSON: it was paid."""
    answers = [answer.text for answer in done.answers]
    line = json.dumps({"id": done.id, "status": done.status, "answers": answers}, ensure_ascii=False)
    try:
        give(line)
        sys.stdout.flush()
    except OSError:  # stdout lies on the same full disk
        say(line)
