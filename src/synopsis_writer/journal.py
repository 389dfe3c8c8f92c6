"""One run's notes in the log; a log that fails costs the notes, never the text."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from synopsis_writer.errors import FileError, GateRefused, SynopsisError
from synopsis_writer.kinds import Outcome
from synopsis_writer.runlog import Entry, Run, RunLog
from synopsis_writer.writer import Attempt, Draft

UNJUDGED = "not judged yet"


class Journal:
    """Notes a run, in a `with` block: its beginning, each attempt, and how it ended.

    Args:
        log: where it is noted.
        run: the run.
        say: is told, once, when the log fails.
    """

    def __init__(self, log: RunLog, run: Run, say: Callable[[str], None]) -> None:
        self._log, self._run, self._say = log, run, say
        self._open = True
        self._places: dict[int, int] = {}  # of answers that are not judged yet, by the draft they came in
        self.entries: list[Entry] = []

    def __enter__(self) -> Self:
        """Note that the run begins."""
        self._quietly(lambda: self._log.begin(self._run))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the error that ended the run, where one did."""
        if error is None:
            return
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self.end(Outcome.INTERRUPTED)
            if self.entries and self._open and self._log.is_kept:
                self._say(f"what was answered so far is kept: synopsis log show {self._run.id}")
        else:
            # Only our own errors are known to hold no secret.
            said = str(error) if isinstance(error, SynopsisError) else type(error).__name__
            self.end(Outcome.REFUSED if isinstance(error, GateRefused) else Outcome.FAILED, said)

    def answered(self, number: int, draft: Draft) -> None:
        """Note an answer that is not judged yet."""
        self._places[id(draft)] = len(self.entries)
        self.note(_entry(number, draft, passed=False, problems=(UNJUDGED,)))

    def attempt(self, attempt: Attempt) -> None:
        """Note what the gate said of an answer."""
        findings = tuple(finding.as_data() for finding in attempt.findings)
        entry = _entry(
            attempt.number,
            attempt.draft,
            passed=attempt.passed,
            problems=attempt.problems,
            findings=findings,
        )
        place = self._places.pop(id(attempt.draft))
        self.entries[place] = entry
        self._quietly(lambda: self._log.judged(self._run.id, place, entry))

    def note(self, entry: Entry) -> None:
        """Note an attempt."""
        self.entries.append(entry)
        self._quietly(lambda: self._log.add(self._run.id, entry))

    def end(self, outcome: Outcome, error: str | None = None) -> None:
        """Note what became of the run."""
        self._quietly(lambda: self._log.end(self._run.id, outcome, error))

    def _quietly(self, write: Callable[[], None]) -> None:
        if not self._open:
            return
        try:
            write()
        except FileError as error:
            self._open = False
            self._say(str(error))


def _entry(
    number: int,
    draft: Draft,
    *,
    passed: bool,
    problems: tuple[str, ...],
    findings: tuple[dict[str, Any], ...] = (),
) -> Entry:
    return Entry(
        number, draft.messages, draft.answer, passed, problems, findings, draft.repeat, draft.is_longer
    )
