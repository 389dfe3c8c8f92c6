"""Gates in processes of their own: the style checks of many texts at once, beside the calls."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from synopsis_writer.brief import Brief
from synopsis_writer.desk import load_desk
from synopsis_writer.errors import EngineError
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.style.finding import Finding
from synopsis_writer.style.gate import Gate
from synopsis_writer.synopsis import Synopsis

_gate: list[Gate] = []  # of a worker process: loaded once


class GatePool:
    """Examines texts in worker processes, in an `async with` block; the same verdicts as a gate gives.

    Args:
        settings: what the workers load their gate by.
        workers: how many processes; each takes about 220 MB.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take over locks and connections
        self._pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(settings,))
        self._workers = workers

    async def __aenter__(self) -> Self:
        """Start the workers, which load while the first answers are on their way."""
        with _deaf():
            for _ in range(self._workers):
                self._pool.submit(_nothing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; texts that nobody waits for any more are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def examine(
        self, synopsis: Synopsis, brief: Brief, show: Show, *, was_cut: bool = False
    ) -> tuple[Finding, ...]:
        """Hold a synopsis against its brief.

        Raises:
            EngineError: a worker was killed, as by a machine that is out of memory.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, _examine, synopsis, brief, show, was_cut)
        except BrokenProcessPool as error:
            raise EngineError(
                "a process that checks texts was ended from outside: is there memory enough? Run it again"
            ) from error


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C, which is the driver's to answer: processes that start meanwhile go on ignoring it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing() -> None:
    """Do nothing: a worker starts for it."""


def _begin(settings: Settings) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it was not inherited
    threading.Thread(target=_end_with_driver, daemon=True).start()
    gate = load_desk(settings).gate
    gate.warm_up()
    _gate.append(gate)


def _end_with_driver() -> None:
    """End this process when the driver has ended: after a kill nobody else tells it."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _examine(synopsis: Synopsis, brief: Brief, show: Show, was_cut: bool) -> tuple[Finding, ...]:
    return _gate[0].examine(synopsis, brief, show, was_cut=was_cut)
