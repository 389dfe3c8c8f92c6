"""What commands print: results to stdout, everything else to stderr."""

import contextlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.cells import cell_len

from synopsis_writer.errors import FileError
from synopsis_writer.usage import NO_COST, Cost, Usage, format_cost, total_cost

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from synopsis_writer.batch.store import Counts, Done
    from synopsis_writer.log import RunLog
    from synopsis_writer.settings import Settings

INTERRUPTED = 130  # the exit code after Ctrl-C

OVERWRITTEN_LATER = "what was removed is overwritten in the file when it is opened next"


def say(line: str) -> None:
    """Print a line of status to stderr; one that cannot be written ends no work."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()


def say_nothing(_line: str) -> None:
    """Take a line of status, and print nothing: what --quiet asks for."""


def complain(line: str) -> None:
    """Print an error to stderr, in one line."""
    say("synopsis: " + " ".join(line.split()))


def give(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def give_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object to stdout, control characters escaped: no text can steer a terminal."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    give("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def printable(text: str) -> str:
    """Return `text` with control characters escaped: no text can steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


_EVERY = 10.0  # seconds between plain lines

_MINUTE, _HOUR = 60, 3600


@dataclass
class Progress:
    """Counts rows as they are made, and says so on stderr.

    Attributes:
        planned: rows of the whole run.
        before: rows that were there already.
        is_quiet: whether nothing is said.
        is_terminal: whether stderr is one.
        clock: gives seconds.
    """

    planned: int
    before: int = 0
    is_quiet: bool = False
    is_terminal: bool = field(default_factory=lambda: sys.stderr is not None and sys.stderr.isatty())
    clock: Callable[[], float] = time.monotonic
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: Cost | None = NO_COST

    def __post_init__(self) -> None:
        """Begin to count the time."""
        self._started = self._said = self.clock()
        self._is_shown = False
        self._made_said = 0
        self._waits: dict[str, list[float]] = {}  # by their reason, when they end

    def add(self, outcome: str | None, usage: Usage, cost: Cost | None) -> None:
        """Count a row and what it took, and say how far the run is; None: the row is still to be mended."""
        if outcome is not None:
            self.outcomes[outcome] += 1
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.cost = total_cost([self.cost, cost])
        self._show()

    def _show(self) -> None:
        if self.is_quiet:
            return
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be cleared
            _write(f"\r\x1b[K{self.line()[:width]}")
            self._is_shown = True
        elif self.clock() - self._said >= _EVERY:
            self._said = self.clock()
            self._made_said = self._made
            say(self.line())

    def say(self, line: str) -> None:
        """Print a line of status above the line of progress; waits of one reason become a part of that."""
        from synopsis_writer.models.retry import Wait

        if self.is_quiet:
            return
        if isinstance(line, Wait):
            is_new = line.reason not in self._waits
            self._waits.setdefault(line.reason, []).append(self.clock() + line.seconds)
            if not is_new:
                self._show()
                return
        self._clear()
        say(line)

    def _clear(self) -> None:
        if self.is_terminal and self._is_shown:
            _write("\r\x1b[K")
            self._is_shown = False

    def end(self) -> None:
        """Say how far the run came."""
        self._clear()
        if not self.is_quiet and self._made > self._made_said:
            say(self.line())

    def line(self) -> str:
        """Return the line: done, outcomes, waits, rate, tokens, cost so far, and the time left."""
        made = self._made
        done = self.before + made
        seconds = max(self.clock() - self._started, 1e-9)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        parts = [f"{done} of {self.planned} rows", counts, *self._waiting()]
        parts.append(f"{made * _MINUTE / seconds:.1f} a minute")
        parts += [f"{self.tokens} tokens", format_cost(self.cost)]
        if done < self.planned and made:
            parts.append(f"about {_duration((self.planned - done) * seconds / made)} left")
        return "; ".join(part for part in parts if part)

    @property
    def _made(self) -> int:
        return self.outcomes.total()

    def _waiting(self) -> Iterator[str]:
        now = self.clock()
        for reason, ends in self._waits.items():
            ends[:] = [end for end in ends if end > now]
            if ends:
                yield f"{len(ends)} waiting, {max(ends) - now:.0f} s at most: {reason}"


def _write(text: str) -> None:
    """Write to the terminal; one that has gone ends no work."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


_SECONDS = 0.1  # between two pictures: more often no eye can read

_MARGIN = 2  # lines of the terminal left free


def growing(*, quiet: bool) -> "Growing | None":
    """Return what shows the text, or None where nobody watches: with --quiet, or stderr is no terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(file=sys.stderr, force_terminal=True, highlight=False, markup=False, emoji=False)
    return None if console.is_dumb_terminal else Growing(console)


class Growing:
    """Shows the last lines of a growing answer, in a `with` block, which ends with the terminal as it was.

    Args:
        console: rich's console on a terminal.
        clock: seconds, from anywhere; a picture is drawn ten times a second at most.
    """

    def __init__(self, console: "Console", clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._drawn = float("-inf")

    def __enter__(self) -> Self:
        """Begin; nothing is shown yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take away what is shown, and show the cursor again."""
        self.clear()

    def show(self, answer: str) -> None:
        """Show title and paragraphs of an answer that is still being written; a whole one is taken away."""
        now = self._clock()
        if _is_whole(answer):
            self.clear()
        elif now - self._drawn >= _SECONDS and (text := story(answer)):
            self._drawn = now
            with contextlib.suppress(
                OSError, ValueError
            ):  # a terminal that has gone must not cost the answer
                self._draw(printable(text))

    def say(self, line: str) -> None:
        """Print a line of status; the text that is shown goes out of its way."""
        self.clear()
        say(line)

    def clear(self) -> None:
        """Take away what is shown, if anything."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError, ValueError):
                live.stop()

    def _draw(self, text: str) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        width, height = self._console.size
        lines = Text(text, tab_size=4).wrap(self._console, width, tab_size=4)
        picture = Group(*lines[-max(1, height - _MARGIN) :])
        if self._live is None:
            # Nothing else is redirected: results go to stdout as they are, and `say` clears before it prints.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(picture, refresh=True)


def story(answer: str) -> str:
    """Return title and paragraphs that stand in an unfinished JSON answer; empty where there are none yet."""
    data = _unfinished(answer)
    paragraphs = data.get("paragraphs")
    written = [one for one in paragraphs if isinstance(one, dict)] if isinstance(paragraphs, list) else []
    parts = (data.get("title"), *(paragraph.get("text") for paragraph in written))
    return "\n\n".join(part.strip() for part in parts if isinstance(part, str) and part.strip())


def _unfinished(answer: str) -> dict[str, Any]:
    from pydantic_core import from_json

    start = max(0, answer.find("{"))  # before it there may be prose or a code fence
    try:
        data = from_json(answer[start:], allow_partial="trailing-strings")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _is_whole(answer: str) -> bool:
    from pydantic_core import from_json

    if not answer.rstrip().endswith("}"):
        return False
    try:
        return isinstance(from_json(answer), dict)
    except ValueError:
        return False


_LEAST_WIDTH = 20

_MARK = "~"


def marked(text: str, spans: Sequence[tuple[int, int]], width: int) -> Iterator[str]:
    """Yield the lines of `text`, wrapped at `width` cells, and below a line the marks of its spots."""
    spots = [False] * len(text)
    for start, end in spans:
        spots[start:end] = [True] * len(spots[start:end])
    for start, end in _lines(text, max(_LEAST_WIDTH, width)):
        shown = [printable(char) for char in text[start:end]]
        yield "".join(shown)
        if any(spots[start:end]):
            marks = (
                (_MARK if spot else " ") * cell_len(char)
                for char, spot in zip(shown, spots[start:end], strict=True)
            )
            yield "".join(marks).rstrip()


def _lines(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Yield where the lines begin and end: at line ends, at the last blank before `width`, or at `width`."""
    start = used = 0
    blank = -1
    for position, char in enumerate(text):
        if char == "\n":
            yield start, position
            start, used, blank = position + 1, 0, -1
            continue
        if char == " ":
            blank = position
        used += cell_len(printable(char))
        if used > width and position > start:
            end = blank if blank > start else position
            yield start, end
            start = end + 1 if end == blank else end
            used = sum(cell_len(printable(rest)) for rest in text[start : position + 1])
            blank = -1
    if start < len(text):
        yield start, len(text)


class RowsShown:
    """Shows the progress of a batch, in a `with` block; at its end it prints answers that cannot be saved.

    Attributes:
        progress: the line of progress.
        lost: rows that were made and cannot be saved.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        self.progress = Progress(0, is_quiet=is_quiet)
        self.lost: list[Done] = []

    def begun(self, counts: "Counts") -> None:
        """Take down how far the batch is before anything is made."""
        self.progress.planned, self.progress.before = counts.rows, counts.rows - counts.pending

    def made(self, done: "Done", is_final: bool) -> None:
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


def _give_answers(done: "Done") -> None:
    """Print what was answered to a row as a line of JSON: it was paid."""
    answers = [answer.text for answer in done.answers]
    line = json.dumps({"id": done.id, "status": done.status, "answers": answers}, ensure_ascii=False)
    try:
        give(line)
        sys.stdout.flush()
    except OSError:  # stdout lies on the same full disk
        say(line)


@contextlib.contextmanager
def opened_log(settings: "Settings", *, kept: bool) -> Iterator["RunLog"]:
    """Open the run log; one in memory where none is to be kept, or where the file cannot be used."""
    from synopsis_writer.log import RunLog

    try:
        log = RunLog(settings.log if kept else None)
    except FileError as error:
        complain(f"{error}; this run is not logged")
        log = RunLog(None)
    try:
        yield log
    finally:
        log.close()


def note_path(log: "RunLog", run: str, path: Path) -> None:
    """Note where a run's text was saved."""
    try:
        log.saved(run, path)
    except FileError as error:
        complain(str(error))
