"""What commands print: results to stdout, everything else to stderr."""

import contextlib
import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from synopsis_writer import cli
from synopsis_writer.characters import format_json, printable
from synopsis_writer.errors import SettingsError, SynopsisError, os_reason

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from synopsis_writer.usage import Cost, Usage

INTERRUPTED = 130  # the exit code after Ctrl-C
FAULT = 70  # the exit code of an error that is ours
_LONGEST_LINE = 4_000  # characters of a line on stderr

_log = logging.getLogger(__name__)


def print_result(*lines: str, is_saved: bool = True) -> None:
    """Print a result to stdout, escaped: no text can steer a terminal.

    Where stdout cannot be written, a text that is not saved goes to stderr: it is the only copy.
    """
    text = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    try:
        sys.stdout.write(printable(text))
        if not is_saved:
            sys.stdout.flush()
    except OSError:
        if not is_saved:
            STDERR.print_line(text, logging.WARNING, len(text))
        raise


def print_json(data: Mapping[str, Any], *, indent: int | None = 2, is_saved: bool = True) -> None:
    """Print one JSON object to stdout, as `print_result`."""
    print_result(format_json(data, indent), is_saved=is_saved)
    STDERR.expects_json = False


def print_output(data: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result as one object, or for a person."""
    if as_json:
        print_json(data)
    else:
        print_result(*lines)


def print_written(paths: Iterable[Path], *, as_json: bool) -> None:
    """Say which files were written."""
    names = [str(path) for path in paths]
    for name in names:
        status(f"written: {name}")
    print_output({"written": names}, (), as_json=as_json)


def print_error(message: str) -> None:
    """Print an error to stderr, in one line."""
    STDERR.print_line(message, logging.ERROR)


def fail(message: str, code: int, **more: object) -> int:
    """Print the error that ends a command, with --json as an object, too; return its exit code."""
    if cli.is_signalled():  # whatever failed because of it
        code = cli.interruption()[0]
    if STDERR.expects_json:
        data: Mapping[str, Any] = {}
        with contextlib.suppress(SynopsisError):
            data = STDERR.failure_data()
        print_json({**data, "error": message, "exit_code": code}, indent=None)
    STDERR.hints = ()
    STDERR.print_line(message, logging.ERROR, _LONGEST_LINE, **more)
    return code


def failure_of(error: Exception) -> tuple[str, int]:
    """Return the message of an error that ends a command, and its exit code: 70 for one of the program's own.

    The message of such a one leaves out its words, for they may hold a key; --debug prints all of it.
    """
    if isinstance(error, SynopsisError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:  # as a name that is too long
        return f"{os_reason(error, error.filename)}: name another", SettingsError.exit_code
    if STDERR.is_debugging:
        for lines in traceback.format_exception(error):
            STDERR.print_line(lines.rstrip())
    return (
        f"this is a mistake in the program ({type(error).__name__}): please report it with what "
        "'synopsis --debug …' prints: https://pypi.org/project/synopsis-writer/"
    ), FAULT


def status(line: str) -> None:
    """Log a line of status; it is not printed with --quiet."""
    _log.info(line)


def warn(line: str) -> None:
    """Log a line that is printed with --quiet, too."""
    _log.warning(line)


class StderrHandler(logging.Handler):
    """Prints the package's log on stderr: INFO is a line of status, WARNING is printed with --quiet, too.

    ERROR is printed as the error that ends a command. It also draws what grows or counts on a terminal, and
    takes that away before it prints a line. A terminal that has gone ends no work.
    """

    log_format: str | None = None  # `json`: a line is an object for programs; None: no flag or setting says
    expects_json = False  # stdout must get one JSON object, and has not got it yet
    failure_data: Callable[[], Mapping[str, Any]] = staticmethod(dict)  # what that has besides in a failure
    hints: tuple[str, ...] = ()  # lines for the end of a command, unless it fails
    _live: "Live | None" = None
    is_debugging = False  # --debug was given

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Print the package's log for the time of a `with` block."""
        logger = logging.getLogger("synopsis_writer")
        level, last_resort = logger.level, logging.lastResort
        logging.lastResort = self  # what libraries log goes to a terminal, too
        self.is_debugging = False
        self.setLevel(logging.INFO)
        self.log_format, self.expects_json, self.failure_data = None, False, dict
        self.hints = tuple[str, ...]()
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            self.clear()
            for hint in self.hints:
                _log.info(hint)
            logger.removeHandler(self)
            logger.setLevel(level)
            logging.lastResort = last_resort

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        more = {name: getattr(record, name) for name in ("wait", "reason") if hasattr(record, name)}
        self.print_line(record.getMessage(), record.levelno, **more)

    def print_line(
        self, line: str, level: int = logging.INFO, most: float = _LONGEST_LINE, **more: object
    ) -> None:
        """Print a line, above what is drawn: escaped, cut after `most` characters, an error in one line.

        `more` are fields of its object.
        """
        if len(line) > most:
            line = f"{line[: int(most)]}… ({len(line) - int(most):,} more characters)"
        if level >= logging.ERROR:
            line = " ".join(line.split())
        if self.log_format == "json":
            line = _as_object(line, level, more)
        elif level >= logging.ERROR:
            line = f"synopsis: {line}"
        self.clear()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(printable(line) + "\n")
            sys.stderr.flush()

    def screen(self) -> "Console | None":
        """Return rich's console on stderr; None with --quiet, or where stderr cannot be drawn on."""
        is_plain = self.level > logging.INFO or self.log_format == "json"
        if is_plain or sys.stderr is None or not sys.stderr.isatty():
            return None
        from rich.console import Console

        console = Console(file=sys.stderr, force_terminal=True, highlight=False, markup=False, emoji=False)
        return None if console.is_dumb_terminal else console

    def draw(self, console: "Console", picture: "RenderableType") -> None:
        """Draw `picture` at the bottom of the terminal, in the place of the last one."""
        from rich.live import Live

        self.acquire()
        try:
            if self._live is None:
                # Nothing is redirected: results go to stdout as they are, lines are printed after `clear`.
                self._live = Live(
                    console=console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()
            self._live.update(picture, refresh=True)
        except (OSError, ValueError):
            pass
        finally:
            self.release()

    def clear(self) -> None:
        """Take away what is drawn, and show the cursor again."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError, ValueError):
                live.stop()


def _as_object(message: str, level: int, more: Mapping[str, object]) -> str:
    from synopsis_writer.log import RUN  # not needed for --help

    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    name = logging.getLevelName(level).lower()
    return json.dumps({"time": now, "level": name, "run": RUN.get(), "message": message, **more})


STDERR = StderrHandler()
_PICTURE_SECONDS = 0.1  # between two pictures: more often no eye can read
_LINE_SECONDS = 10.0  # between two plain lines
_MINUTE = 60


@dataclass
class Progress:
    """Counts rows in a `with` block, and shows how far a run is: in a line on a terminal, else now and then.

    `planned` are rows of the whole run, `before` those that were there already; `clock` gives seconds.
    """

    planned: int
    before: int = 0
    console: "Console | None" = field(default_factory=STDERR.screen)
    clock: Callable[[], float] = time.monotonic
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost: "Cost | None" = field(init=False)

    def __post_init__(self) -> None:
        from synopsis_writer.usage import NO_COST

        self.cost = NO_COST
        self._started = self._shown = self.clock()
        self._logged_rows = 0
        self._waits: dict[str, list[float]] = {}  # reason: when each wait ends

    def __enter__(self) -> Self:
        STDERR.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        STDERR.removeFilter(self)
        STDERR.clear()
        if self._rows > self._logged_rows:
            self._log_line()

    def add(self, outcome: str | None, usage: "Usage", cost: "Cost | None") -> None:
        """Count a row and what it took; an outcome of None: the row is still to be repaired."""
        from synopsis_writer.usage import total_cost

        if outcome is not None:
            self.outcomes[outcome] += 1
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.cost = total_cost([self.cost, cost])
        if self.clock() - self._shown >= (_LINE_SECONDS if self.console is None else _PICTURE_SECONDS):
            self._show()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let pass all but each text's steps, and waits for a reason that was reported: they are counted."""
        if record.name == "synopsis_writer.drafting":
            return False
        seconds = getattr(record, "wait", None)
        if seconds is None:
            return True
        reason = getattr(record, "reason", "")
        is_new = reason not in self._waits
        self._waits.setdefault(reason, []).append(self.clock() + seconds)
        if self.console is not None and not is_new:
            self._show()
        return is_new

    def _show(self) -> None:
        self._shown = self.clock()
        if self.console is None:
            self._log_line()
        else:
            from rich.text import Text

            line = Text(printable(self.line()), no_wrap=True, overflow="ellipsis")
            STDERR.draw(self.console, line)

    def _log_line(self) -> None:
        self._logged_rows = self._rows
        _log.info(self.line())

    def line(self) -> str:
        """Return the line: done, outcomes, rate, tokens, cost, time left, and waits (cut off first)."""
        from synopsis_writer.models.retry import duration
        from synopsis_writer.usage import format_cost

        rows = self._rows
        done = self.before + rows
        seconds = max(self.clock() - self._started, 1e-9)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        parts = [f"{done} of {self.planned} rows", counts, f"{rows * _MINUTE / seconds:.1f} a minute"]
        parts += [f"{self.tokens} tokens", format_cost(self.cost)]
        if done < self.planned and rows:
            parts.append(f"about {duration((self.planned - done) * seconds / rows)} left")
        return "; ".join(part for part in (*parts, *self._waiting()) if part)

    @property
    def _rows(self) -> int:
        return self.outcomes.total()

    def _waiting(self) -> Iterator[str]:
        now = self.clock()
        for reason, ends in self._waits.items():
            ends[:] = [end for end in ends if end > now]
            if ends:
                yield f"{len(ends)} waiting, {max(ends) - now:.0f} s at most: {reason}"


class LiveText:
    """Shows on a terminal the last lines of an answer while it is written; `clock` gives seconds."""

    def __init__(self, console: "Console", clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._drawn = float("-inf")

    def show(self, answer: str) -> None:
        """Show title and paragraphs of an answer that is still being written; a whole one is taken away."""
        from rich.console import Group
        from rich.text import Text

        now = self._clock()
        with contextlib.suppress(Exception):  # no picture may cost the answer
            if _is_whole(answer):
                STDERR.clear()
            elif now - self._drawn >= _PICTURE_SECONDS and (text := story(answer)):
                self._drawn = now
                width, height = self._console.size
                lines = Text(printable(text), tab_size=4).wrap(self._console, width, tab_size=4)
                STDERR.draw(self._console, Group(*lines[-max(1, height - 2) :]))  # two lines are left free


def story(answer: str) -> str:
    """Return title and paragraphs that stand in an unfinished JSON answer; empty where there are none yet."""
    from synopsis_writer.answers import parts_so_far

    title, parts = parts_so_far(answer)
    return "\n\n".join(filter(None, [title, *parts]))


def _is_whole(answer: str) -> bool:
    from synopsis_writer.answers import is_closed, without_thoughts

    return answer.rstrip().endswith(("}", "`")) and is_closed(without_thoughts(answer, is_cut=True))
