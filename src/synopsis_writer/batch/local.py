"""The local engine: many rows side by side in this process, saved as they come."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.workers import side_by_side

Say = Callable[[str], None]


class Stop:
    """Ctrl-C, once and twice: the first lets what is in flight end, the second cancels it.

    Args:
        say: is told what the first one does.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._task: asyncio.Task[object] | None = None
        self.is_set = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C over while the block runs; where the loop cannot, it stays as it was."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            yield
        except asyncio.CancelledError:
            if self.is_set:
                raise KeyboardInterrupt from None  # the second Ctrl-C
            raise
        finally:
            with suppress(NotImplementedError, ValueError, RuntimeError):
                loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self) -> None:
        if self.is_set and self._task is not None:
            self._task.cancel()
        elif not self.is_set:
            self.is_set = True
            self._say("ending: the rows in flight are still made and saved; Ctrl-C again ends at once")


async def run_local(
    rows: Iterator[BatchRow],
    make: Callable[[BatchRow, Answered | None], Awaitable[Done]],
    save: Callable[[BatchRow, Done], Answered | None],
    *,
    concurrency: int,
    stop: Stop,
) -> None:
    """Make rows, so many side by side, each saved before its worker takes the next.

    Args:
        rows: what is to be made; one is taken when there is a worker for it.
        make: makes one, or mends the answer it is given.
        save: saves one; returns the answer that is to be mended, if any.
        concurrency: rows in flight at most.
        stop: ends the taking of rows.

    Raises:
        ModelError: the work cannot go on; what is in flight is made and saved first: it is paid.
        FileError: a row cannot be saved.
    """

    async def do(row: BatchRow) -> None:
        done = await make(row, None)
        while (last := save(row, done)) is not None:
            done = await make(row, last)
        if done.fault is not None:
            raise done.fault

    await asyncio.sleep(0)  # a Ctrl-C that came while all was loaded ends it here, before anything is asked
    await side_by_side(rows, do, concurrency, is_stopped=lambda: stop.is_set)
