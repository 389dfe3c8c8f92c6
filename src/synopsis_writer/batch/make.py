"""One row of a batch made, with the gate in this process or in processes of its own."""

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from synopsis_writer.batch.briefs import BatchRow, digest_of
from synopsis_writer.brief import Brief
from synopsis_writer.errors import EngineError, ModelError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import Gate
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import HOUSE_FILE, Settings, folder
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import open_workspace
from synopsis_writer.writer import Writer


async def make_row(writer: Writer, row: BatchRow, previous: Attempt | None = None) -> RowResult[str]:
    """Write a row's brief, or repair its `previous` attempt.

    An error of the model that another request may escape becomes a row that failed. One that would meet every
    row leaves it pending, with what was answered before, and ends the batch.
    """
    try:
        return RowResult.of(row.id, await writer.write(row.brief, seed=row.id, previous=previous))
    except ModelError as error:
        return RowResult.failed(row.id, error)


_gate: list[Gate] = []  # of a worker process: loaded once


class GatePool:
    """Examines texts as a gate does, in processes of about 220 MB each, in an `async with` block."""

    def __init__(self, settings: Settings, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take over locks and connections
        self._pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(settings,))
        self._workers = workers

    def start(self) -> None:
        """Start the workers, which load while the first answers are on their way."""
        for _ in range(self._workers):
            self._pool.submit(os.getpid)  # any call starts a worker

    async def __aenter__(self) -> Self:
        """Return the pool, which may have been started."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; texts that nobody waits for any more are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def examine(
        self, synopsis: Synopsis, brief: Brief, show: Show, *, truncated: bool = False
    ) -> tuple[Finding, ...]:
        """Check a synopsis against its brief."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, _examine, synopsis, brief, show, truncated)
        except BrokenProcessPool as error:
            raise EngineError(
                "a process that checks texts was ended from outside: is there memory enough? Run it again"
            ) from error


def _begin(settings: Settings) -> None:
    for name in ("SIGINT", "SIGHUP"):  # a terminal's, for all processes; Windows has no SIGHUP
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    gate = open_workspace(settings).gate
    gate.warm_up()
    _gate.append(gate)


def _end_with_driver() -> None:
    """End this process when the driver has ended: after a kill nobody else does."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _examine(synopsis: Synopsis, brief: Brief, show: Show, truncated: bool) -> tuple[Finding, ...]:
    return _gate[0].examine(synopsis, brief, show, truncated=truncated)


def made_with(settings: Settings, resolved: ResolvedModel) -> dict[str, str]:
    """Return the facts that do not stand in the briefs."""
    named = settings.profile or (settings.house and settings.house / HOUSE_FILE)
    return {
        "model": resolved.model,
        "prompts": folder_hash(settings.own_prompts or folder("prompts")),
        "profile": digest_of(named)[:12] if named else "the house's",
        "disabled checks": ", ".join(sorted(settings.disable)) or "none",
    }
