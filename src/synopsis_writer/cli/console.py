"""What commands print: results to stdout, everything else to stderr."""

import contextlib
import functools
import json
import logging
import shutil
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from synopsis_writer import cli
from synopsis_writer.characters import format_json, printable
from synopsis_writer.errors import SettingsError, SynopsisError, os_reason

with cli.lazily():
    from rich import console as screens
    from rich import live, text

    from synopsis_writer import answers, usage
    from synopsis_writer import log as runlog
    from synopsis_writer.models import retry

INTERRUPTED = 130  # the exit code after Ctrl-C
FAULT = 70  # the exit code of an error that is ours
_LONGEST_LINE = 4_000  # characters of a line on stderr
_PICTURE_SECONDS = 0.1  # between two frames: nobody reads faster
_LINE_SECONDS = 10.0  # between two plain lines
_MINUTE = 60
_LEAST_COLUMN = 20  # cells for the last column of a table

_log = logging.getLogger(__name__)
status = _log.info  # prints a line on stderr, unless --quiet is given
warn = _log.warning  # prints a line on stderr, even with --quiet


def print_result(*lines: str, is_saved: bool = True) -> None:
    """Print a result to stdout, escaped; where that fails, a text that is not saved goes to stderr."""
    result = "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)
    try:
        sys.stdout.write(printable(result))
        if not is_saved:
            sys.stdout.flush()
    except OSError:
        if not is_saved:
            STDERR.print_line(result, logging.WARNING, len(result))
        raise


def print_json(data: Mapping[str, Any], *, indent: int | None = 2, is_saved: bool = True) -> None:
    """Print one JSON object to stdout, as `print_result`."""
    print_result(format_json(data, indent), is_saved=is_saved)
    STDERR.expects_json = False


@dataclass(frozen=True)
class Output:
    """What a command prints: lines for a person, or with --json an object; then problems, to stderr."""

    data: Mapping[str, Any]
    lines: Iterable[str] = ()
    problems: Sequence[str] = ()
    code: int = 0  # the exit code

    def print(self, *, as_json: bool) -> int:
        """Print it; return the exit code."""
        if as_json:
            print_json(self.data)
        else:
            print_result(*self.lines)
        for problem in self.problems:
            print_error(problem)
        return self.code


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> Iterator[str]:
    """Yield aligned lines, numbers to the right; where they are wider than the terminal, a block of lines a row."""
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    *columns, _ = zip(heads, *rows, strict=True)
    sizes = [max(len(str(cell)) for cell in column) for column in columns]
    wrap: Any = functools.partial(textwrap.wrap, width=width, break_on_hyphens=False)
    if sum(sizes) + 2 * len(sizes) + _LEAST_COLUMN > width:
        for first, *cells in rows:
            named = ", ".join(f"{head} {cell}" for head, cell in zip(heads[1:], cells, strict=True) if cell != "")
            yield from (str(first), *wrap(named, initial_indent="  ", subsequent_indent="  "))
        return
    is_number = [all(isinstance(cell, int) for cell in column[1:]) for column in columns]
    for *cells, last in (heads, *rows):
        columns_of_row = zip(map(str, cells), sizes, is_number, strict=True)
        start = "".join(f"{cell:{'>' if right else '<'}{size}}  " for cell, size, right in columns_of_row)
        yield from wrap(str(last), initial_indent=start, subsequent_indent=" " * len(start)) or [start.rstrip()]


def written(paths: Iterable[Path]) -> Output:
    """Say which files were written."""
    names = [str(path) for path in paths]
    for name in names:
        status(f"written: {name}")
    return Output({"written": names})


def print_error(message: str) -> None:
    """Print an error to stderr, in one line."""
    STDERR.print_line(message, logging.ERROR)


def fail(message: str, code: int, **more: object) -> int:
    """Print the error that ends a command, with --json as an object, too; return its exit code."""
    if cli.is_signalled():  # which explains any failure
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
    """Return an error's message, without words that may hold a key, and its exit code: 70 for a mistake of ours."""
    if isinstance(error, SynopsisError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:  # as a name that is too long
        return f"{os_reason(error, error.filename)}: name another file or folder", SettingsError.exit_code
    if STDERR.is_debugging:
        for lines in traceback.format_exception(error):
            STDERR.print_line(lines.rstrip())
    return (
        f"this is a mistake in the program ({type(error).__name__}): please report it with what "
        "'synopsis --debug …' prints: https://pypi.org/project/synopsis-writer/"
    ), FAULT


class StderrHandler(logging.Handler):
    """Prints the package's log on stderr, an ERROR as the error that ends a command.

    It also draws previews and progress on a terminal, and clears them before it prints a line. A terminal
    that has gone ends no work.
    """

    log_format: str | None = None  # `json`: a line is an object for programs; None: no flag or setting says
    expects_json = False  # stdout must get one JSON object, and has not got it yet
    failure_data: Callable[[], Mapping[str, Any]] = staticmethod(dict)  # what else that object has after a failure
    hints: tuple[str, ...] = ()  # lines for the end of a command, unless it fails
    is_debugging = False  # --debug was given
    _live: "live.Live | None" = None

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Print the package's log for the time of a `with` block."""
        logger = logging.getLogger("synopsis_writer")
        level, last_resort = logger.level, logging.lastResort
        logging.lastResort = self  # what libraries log goes to a terminal, too
        self.setLevel(logging.INFO)
        self.log_format, self.hints, self.failure_data = None, tuple[str, ...](), dict
        self.expects_json = self.is_debugging = False
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            self.clear()
            for hint in self.hints:
                status(hint)
            logger.removeHandler(self)
            logger.setLevel(level)
            logging.lastResort = last_resort

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        more = {name: getattr(record, name) for name in ("wait", "reason") if hasattr(record, name)}
        self.print_line(record.getMessage(), record.levelno, **more)

    def print_line(self, line: str, level: int = logging.INFO, most: float = _LONGEST_LINE, **more: object) -> None:
        """Print a line, escaped, cut after `most` characters, an error in one line; its object has `more`."""
        if len(line) > most:
            line = f"{line[: int(most)]}… ({len(line) - int(most):,} more characters)"
        if level >= logging.ERROR:
            line = " ".join(line.split())
        if self.log_format == "json":
            now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            name, run = logging.getLevelName(level).lower(), runlog.RUN.get()
            line = json.dumps({"time": now, "level": name, "run": run, "message": line, **more})
        elif level >= logging.ERROR:
            line = f"synopsis: {line}"
        self.clear()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(printable(line) + "\n")
            sys.stderr.flush()

    def screen(self) -> "screens.Console | None":
        """Return rich's console on stderr; None with --quiet, or where stderr cannot be drawn on."""
        is_plain = self.level > logging.INFO or self.log_format == "json"
        if is_plain or sys.stderr is None or not sys.stderr.isatty():
            return None
        console = screens.Console(file=sys.stderr, force_terminal=True, highlight=False)
        return None if console.is_dumb_terminal else console

    def draw(self, console: "screens.Console", picture: "text.Text") -> None:
        """Draw `picture` at the bottom of the terminal, in the place of the last one."""
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            if self._live is None:
                # Nothing is redirected: results go to stdout as they are, lines are printed after `clear`.
                plain: dict[str, Any] = {"redirect_stdout": False, "redirect_stderr": False}
                self._live = live.Live(console=console, auto_refresh=False, transient=True, **plain)
                self._live.start()
            self._live.update(picture, refresh=True)

    def clear(self) -> None:
        """Clear what is drawn, and show the cursor again."""
        drawn, self._live = self._live, None
        if drawn is not None:
            with contextlib.suppress(OSError, ValueError):
                drawn.stop()


STDERR = StderrHandler()


@dataclass
class Progress:
    """Counts rows in a `with` block, and shows the progress: live on a terminal, else in a line now and then."""

    planned: int
    before: int = 0
    console: "screens.Console | None" = field(default_factory=STDERR.screen)
    clock: Callable[[], float] = time.monotonic
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.spent = usage.Spent()
        self._started = self._shown = self.clock()
        self._logged_rows = 0
        self._waits: dict[str, list[float]] = {}  # reason: when each wait ends

    def __enter__(self) -> Self:
        STDERR.addFilter(self)
        return self

    def __exit__(self, *_: object) -> None:
        STDERR.removeFilter(self)
        STDERR.clear()
        if self.outcomes.total() > self._logged_rows:
            status(self.line())

    def add(self, outcome: str | None, tokens: "usage.Usage", cost: "usage.Cost | None") -> None:
        """Count a row and what it took; an outcome of None: the row is still to be repaired."""
        if outcome is not None:
            self.outcomes[outcome] += 1
        self.spent += usage.Spent(cost, tokens.prompt_tokens + tokens.completion_tokens)
        if self.clock() - self._shown >= (_LINE_SECONDS if self.console is None else _PICTURE_SECONDS):
            self._show()

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the steps of each text, and waits for a reason that was reported before: they are counted instead."""
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
            self._logged_rows = self.outcomes.total()
            status(self.line())
        else:
            STDERR.draw(self.console, text.Text(printable(self.line()), no_wrap=True, overflow="ellipsis"))

    def line(self) -> str:
        """Return the line: done, outcomes, rate, tokens, cost, time left, and waits (cut off first)."""
        now, rows = self.clock(), self.outcomes.total()
        done, seconds = self.before + rows, max(now - self._started, 1e-9)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        parts = [f"{done} of {self.planned} rows", counts, f"{rows * _MINUTE / seconds:.1f} a minute"]
        parts += [f"{self.spent.tokens} tokens", usage.format_cost(self.spent.cost)]
        if done < self.planned and rows:
            parts.append(f"about {retry.duration((self.planned - done) * seconds / rows)} left")
        for reason, ends in self._waits.items():
            ends[:] = [end for end in ends if end > now]
            if ends:
                parts.append(f"{len(ends)} waiting, {max(ends) - now:.0f} s at most: {reason}")
        return "; ".join(filter(None, parts))


def live_text(console: "screens.Console", clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """Return a function that shows the last lines of an answer while it grows, and clears a complete one."""
    drawn = float("-inf")

    def show(answer: str) -> None:
        nonlocal drawn
        with contextlib.suppress(Exception):  # a failed preview must not cost the answer
            now, may_be_whole = clock(), answer.rstrip().endswith(("}", "`"))
            if may_be_whole and answers.is_closed(answers.without_thoughts(answer, is_cut=True)):
                STDERR.clear()
            elif now - drawn >= _PICTURE_SECONDS and (shown := story(answer)):
                drawn = now
                width, height = console.size
                lines = text.Text(printable(shown), tab_size=4).wrap(console, width, tab_size=4)
                last = lines[-max(1, height - 2) :]  # two lines are left free
                STDERR.draw(console, text.Text("\n").join(last))

    return show


def story(answer: str) -> str:
    """Return title and paragraphs of an unfinished JSON answer; empty where there are none yet."""
    title, parts = answers.parts_so_far(answer)
    return "\n\n".join(filter(None, [title, *parts]))
