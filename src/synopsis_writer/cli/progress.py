"""How far a long run is: a line that renews itself on a terminal, plain lines every few seconds elsewhere."""

import contextlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from synopsis_writer.cli.console import say
from synopsis_writer.client import NO_COST, Cost, Usage, total_cost
from synopsis_writer.client.pricing import format_cost
from synopsis_writer.client.retry import Wait

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
