"""The workers of a batch on a cluster: rows are handed to them, and those of a dead one to others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.connection import first_sentence
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.batch.head import Head
from synopsis_writer.batch.patience import PATIENCE, Patience
from synopsis_writer.batch.remote import Begun, Job, RowWorker
from synopsis_writer.errors import BudgetSpent, EngineError, SettingsError, SynopsisError

Say = Callable[[str], None]
_DEATHS = 3  # workers that may die over a row, or one after the other before they begin
_NO_CPU = (
    "no node of the cluster had a CPU free in {:.0f} s: start nodes, or wait until others are done, and run "
    "the same command again"
)
_NO_HEAD = "the cluster's head does not answer: start it again, and run the same command again"
_PARTS_UNKNOWN = (
    "workers died, and what they had spent of their parts of the budget is not known: the same command again "
    "goes on with what the saved rows have left of it"
)
_NOT_UP = "no worker comes up on the cluster: {}: are token and versions the same on all nodes?"


@dataclass(eq=False)
class _Worker:
    """A worker: its actor, the node it is on once it has begun, and how many rows it has in hand."""

    actor: Any
    node: str = ""
    rows: int = 0


class Crew:
    """Workers that make rows, in an `async with` block.

    Args:
        ray: the package, connected to a cluster.
        job: what each worker is given.
        size: how many there are.
        concurrency: rows in flight at most, of all together.
        say: is told what workers say, and when one dies.
        reach: raises a ConnectionError while the cluster's head does not answer.
        patience: how long is waited.
    """

    def __init__(
        self,
        ray: Any,
        job: Job,
        size: int,
        concurrency: int,
        say: Say,
        reach: Callable[[], None],
        patience: Patience = PATIENCE,
    ) -> None:
        self._ray = ray
        self._job = job
        self._size = self._places = size
        self._say = say
        self._patience = patience
        self._head = Head(reach, patience.look, patience.head)
        self._leaving = asyncio.Event()
        self._all: list[_Worker] = []
        self._up: list[_Worker] = []  # those whose process runs
        self._ready: list[_Worker] = []  # those that can make rows
        self._turned = asyncio.Event()  # there is a worker, or there will be none
        self._fault: SynopsisError | None = None
        # Ray repeats nothing: what is done again is decided here. The job is no argument of the constructor,
        # for the cluster's head keeps those, and it holds the key; calls go straight to the worker.
        options = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")
        self._class = options(RowWorker).options(max_concurrency=concurrency + 3)  # begin, said, Ray's own

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have the workers while the block runs."""
        try:
            async with asyncio.TaskGroup() as group:
                keepers = [group.create_task(self._keep()) for _ in range(self._size)]
                watcher = group.create_task(self._head.watch(lambda: self._end(EngineError(_NO_HEAD))))
                try:
                    yield
                finally:
                    watcher.cancel()
                    await self._leave(keepers)
        except ExceptionGroup as others:
            raise others.exceptions[0] from None

    async def _leave(self, keepers: list[asyncio.Task[None]]) -> None:
        """End the workers; what is still awaited of them comes to its end by that."""
        self._leaving.set()
        for worker in list(self._all):
            self._remove(worker)
        _, waiting = await asyncio.wait(keepers, timeout=self._patience.place)
        for keeper in waiting:
            keeper.cancel()

    async def make(self, row: BatchRow, last: Answered | None) -> Done:
        """Have a row written, or its `last` answer mended, by the worker with the fewest rows.

        A row that is lost with its worker is handed to another one, three times at most; then it failed.

        Raises:
            ModelError: the work cannot go on, or there is no worker any more.
            SettingsError: a node cannot work as it is.
        """
        for _ in range(_DEATHS):
            worker = await self._free()
            worker.rows += 1
            try:
                return self._outcome(await self._asked(worker, row, last))
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake in the program
            except self._ray.exceptions.RayError:
                self._bury(worker)
            finally:
                worker.rows -= 1
        return Done(
            row.id, "failed", f"{_DEATHS} workers died over this row: is there memory enough on the nodes?"
        )

    async def _asked(self, worker: _Worker, row: BatchRow, last: Answered | None) -> Done | SynopsisError:
        """Return what a worker makes of a row, or the fault of a cluster that nothing comes of any more."""
        call: asyncio.Future[Any] = asyncio.ensure_future(worker.actor.make.remote(row, last))
        ends: set[asyncio.Future[Any]] = {call, self._head.lost}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return call.result() if call.done() else EngineError(_NO_HEAD)
        finally:
            call.cancel()

    def _outcome(self, outcome: Done | SynopsisError) -> Done:
        if isinstance(outcome, SynopsisError):
            raise outcome
        if not isinstance(outcome.fault, BudgetSpent) or self._size == 1:
            return outcome
        fault = BudgetSpent(
            f"{outcome.fault}; that is the part of one worker of {self._size}: the same command again "
            "divides what is left, and with --workers 1 nothing is divided"
        )
        return replace(outcome, fault=fault)

    async def _free(self) -> _Worker:
        while self._fault is None and not self._ready:
            await self._turned.wait()
        if self._fault is not None:
            raise self._fault
        return min(self._ready, key=lambda worker: worker.rows)

    async def _keep(self) -> None:
        """Have a worker at one place, and another when it dies."""
        failed = 0
        while self._fault is None and not self._leaving.is_set():
            if not await self._head.answers() or self._leaving.is_set():
                await asyncio.sleep(self._patience.place)  # making an actor would wait, and all else with it
                continue
            worker = _Worker(self._class.remote())
            self._all.append(worker)
            try:
                await self._begin(worker)
                failed = 0
                while True:
                    for line in await worker.actor.said.remote():
                        self._say(line)
            except self._ray.exceptions.RayTaskError as error:  # its class or its job cannot be read there
                self._end(EngineError(_NOT_UP.format(_told(error))))
            except self._ray.exceptions.RayError as error:
                if self._leaving.is_set():
                    return
                self._bury(worker)
                failed += not worker.node
                if failed == _DEATHS:
                    self._give_up(EngineError(_NOT_UP.format(_told(error))))
                    return
                if worker.node and self._is_bounded:
                    self._give_up(BudgetSpent(_PARTS_UNKNOWN))
                    return
                await asyncio.sleep(self._patience.place)
            finally:
                self._remove(worker)

    @property
    def _is_bounded(self) -> bool:
        """Whether there is a budget; nobody knows what a dead worker had spent of its part."""
        return self._job.budget.amount is not None or self._job.budget.tokens is not None

    def _give_up(self, fault: SynopsisError) -> None:
        """Leave a place empty; without any, the batch ends."""
        self._places -= 1
        if self._places:
            self._say(f"a worker less, {self._places} are left: {fault}")
        else:
            self._end(fault)

    async def _begin(self, worker: _Worker) -> None:
        """Wait until a worker can make rows; one that may not, ends the batch."""
        await self._started(worker)
        self._up.append(worker)
        begun: Begun = await worker.actor.begin.remote(self._job)
        if begun.error is not None:
            self._end(SettingsError(f"node {begun.node}: {begun.error}"))
            return
        worker.node = begun.node
        self._ready.append(worker)
        self._turned.set()

    async def _started(self, worker: _Worker) -> None:
        """Wait for a node with a free CPU; where no worker is up for long, the batch ends."""
        started = asyncio.ensure_future(cast("Awaitable[None]", worker.actor.__ray_ready__.remote()))
        try:
            while not (await asyncio.wait({started}, timeout=self._patience.cpu))[0]:
                if not self._up:
                    self._end(EngineError(_NO_CPU.format(self._patience.cpu)))
            await started
        finally:
            started.cancel()

    def _bury(self, worker: _Worker) -> None:
        """Say, once, that a worker died."""
        if worker in self._ready:
            self._say(f"a worker on {worker.node} died: its {worker.rows} rows are handed to others")
        self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        """Take a worker out, and end it if it should still run: nobody hears it any more."""
        for workers in (self._all, self._up, self._ready):
            if worker in workers:
                workers.remove(worker)
        if not self._ready and self._fault is None:
            self._turned.clear()
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)

    def _end(self, fault: SynopsisError) -> None:
        """End the batch: what is in flight is made, and then this is raised."""
        self._fault = self._fault or fault
        self._turned.set()


def _told(error: Exception) -> str:
    """Return what Ray says of an error: the first sentence of its last line, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_sentence(lines[-1]) if lines else type(error).__name__
