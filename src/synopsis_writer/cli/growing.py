"""Shows the text growing on stderr while a model writes; what was shown is gone when the answer is there."""

import contextlib
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from synopsis_writer.cli.console import printable, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

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
