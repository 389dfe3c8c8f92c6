"""An event loop's clock that a test puts forward: a time-out is over at once, and no busy machine makes one."""

import asyncio

HOURS = 100_000.0  # seconds, longer than any time-out


class Clock:
    """The clock of the running loop, and of no other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0
        time = self._loop.time
        setattr(self._loop, "time", lambda: time() + self._ahead)  # noqa: B010 - mypy forbids to assign a method

    def forward(self, seconds: float = HOURS) -> None:
        """Let so many seconds pass, from any thread."""
        self._loop.call_soon_threadsafe(self._pass, seconds)

    def _pass(self, seconds: float) -> None:
        self._ahead += seconds
