"""Workers on a Ray cluster: what they do, and what happens when one dies."""

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from logging.handlers import QueueHandler
from typing import Any

from synopsis_writer import __version__
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.run import made_with, make_row
from synopsis_writer.errors import BudgetSpentError, EngineError, SettingsError, SynopsisError
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.models.server import KEY_VARIABLE
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import Settings
from synopsis_writer.workspace import pool_folders
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Job:
    """What a worker is given to work with; limits and budget are its part, and its repr holds no key."""

    resolved: ResolvedModel
    settings: Mapping[str, Any]  # those that were given: the node's own defaults, as its cache, hold besides
    environment: Mapping[str, str] = field(repr=False)  # key, address, proxies and certificates
    budget: Budget
    rpm: float | None
    tpm: float | None
    facts: Mapping[str, str]  # what must be the same on all nodes


@dataclass(frozen=True)
class Started:
    """How a worker started: on which node, and why it cannot work, if so."""

    node: str
    error: SynopsisError | None = None


@dataclass(frozen=True)
class Timeouts:
    """How long a pool waits, in seconds."""

    cpu: float = 60.0  # without any worker, until the batch ends
    restart: float = 1.0  # before a dead worker is replaced
    look: float = 5.0  # between two checks of the cluster's head
    # Without an answer of the head, until the batch ends; twice that, and nothing in flight is waited for:
    # Ray would end this process after 60.
    head: float = 20.0


TIMEOUTS = Timeouts()


@dataclass(eq=False)
class _Worker:
    """A worker: its actor, the node it is on once it has started, and the rows it has in hand."""

    actor: Any
    node: str = ""
    rows: int = 0


class WorkerPool:
    """`size` workers that make rows while the pool is `running`, `concurrency` at most of all together.

    `ray` is the package, connected to a cluster; `reach` raises a ConnectionError while the cluster's head,
    the node that all others depend on, does not answer.
    """

    def __init__(
        self,
        ray: Any,
        job: Job,
        size: int,
        concurrency: int,
        reach: Callable[[], None],
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        self._ray, self._job, self._reach, self._timeouts = ray, job, reach, timeouts
        self._size = self._slots = size
        self._leaving = asyncio.Event()
        self._head_lost = asyncio.Event()  # nothing in flight is waited for
        self._all: list[_Worker] = []
        self._up: list[_Worker] = []  # those whose process runs
        self._ready: list[_Worker] = []  # those that can make rows
        self._changed = asyncio.Event()  # there is a ready worker, or there will be none
        self._fault: SynopsisError | None = None
        self._relayed: set[str] = set()
        # Retries are ours, not Ray's. The job, which holds the key, is passed by call, not by constructor,
        # because the head node stores constructor arguments.
        options = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")
        # Three calls more than rows: start, records, and Ray's own.
        self._class = options(RowWorker).options(max_concurrency=concurrency + 3)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the workers while the block runs."""
        try:
            async with asyncio.TaskGroup() as group:
                slots = [group.create_task(self._fill_slot()) for _ in range(self._size)]
                monitor = group.create_task(self._watch_head())
                try:
                    yield
                finally:
                    monitor.cancel()
                    self._leaving.set()
                    for worker in list(self._all):
                        self._remove(worker)  # ends what is still awaited of it
                    _, waiting = await asyncio.wait(slots, timeout=self._timeouts.restart)
                    for slot in waiting:
                        slot.cancel()
        except ExceptionGroup as others:
            raise others.exceptions[0] from None

    async def _watch_head(self) -> None:
        """Check the cluster's head, and end the batch when it is silent for too long."""
        now = asyncio.get_running_loop().time
        answered = now()
        while not self._head_lost.is_set():
            await asyncio.sleep(self._timeouts.look)
            if await self._head_answers():
                answered = now()
            elif now() - answered >= 2 * self._timeouts.head:
                self._head_lost.set()
            elif now() - answered >= self._timeouts.head:
                self._end(EngineError(_NO_HEAD))

    async def _head_answers(self) -> bool:
        try:
            await asyncio.to_thread(self._reach)
        except ConnectionError:
            return False
        return True

    async def make(self, row: BatchRow, previous: Attempt | None) -> RowResult[str]:
        """Have a row written, or its `previous` answer repaired, by the worker with the fewest rows.

        A row that is lost with its worker is handed to another one, three times at most; then it failed.

        Raises:
            ModelError: the work cannot go on, or there is no worker any more.
            SettingsError: a node cannot work as it is.
        """
        for _ in range(_DEATHS):
            while self._fault is None and not self._ready:
                await self._changed.wait()
            if self._fault is not None:
                raise self._fault
            worker = min(self._ready, key=lambda ready: ready.rows)
            worker.rows += 1
            try:
                return await self._make(worker, row, previous)
            except self._ray.exceptions.RayTaskError:
                raise  # a mistake in the program
            except self._ray.exceptions.RayError:
                self._bury(worker)
            finally:
                worker.rows -= 1
        return RowResult(
            row.id, "failed", f"{_DEATHS} workers died over this row: is there memory enough on the nodes?"
        )

    async def _make(self, worker: _Worker, row: BatchRow, previous: Attempt | None) -> RowResult[str]:
        call: asyncio.Future[Any] = asyncio.ensure_future(worker.actor.make.remote(row, previous))
        lost = asyncio.ensure_future(self._head_lost.wait())
        try:
            await asyncio.wait({call, lost}, return_when=asyncio.FIRST_COMPLETED)
            outcome: RowResult[str] | SynopsisError = call.result() if call.done() else EngineError(_NO_HEAD)
        finally:
            call.cancel()
            lost.cancel()
        if isinstance(outcome, SynopsisError):
            raise outcome
        if not isinstance(outcome.error, BudgetSpentError) or self._size == 1:
            return outcome
        error = BudgetSpentError(
            f"{outcome.error}; that is the part of one worker of {self._size}: the same command again "
            "divides what is left, and with --workers 1 nothing is divided"
        )
        return replace(outcome, error=error)

    def _relay(self, record: logging.LogRecord) -> None:
        """Log what a worker logs; what several report, as an unknown show, comes once."""
        message = record.getMessage()
        if hasattr(record, "wait") or message not in self._relayed:
            self._relayed.add(message)
            logging.getLogger(record.name).handle(record)

    async def _fill_slot(self) -> None:
        """Have a worker in one slot, and another when it dies."""
        failed = 0
        while self._fault is None and not self._leaving.is_set():
            if not await self._head_answers() or self._leaving.is_set():
                # Making an actor would block, and everything else with it.
                await asyncio.sleep(self._timeouts.restart)
                continue
            worker = _Worker(self._class.remote())
            self._all.append(worker)
            try:
                await self._start(worker)
                failed = 0
                while True:
                    for record in await worker.actor.records.remote():
                        self._relay(record)
            except self._ray.exceptions.RayTaskError as error:  # its class or its job cannot be read there
                self._end(EngineError(_NOT_UP.format(_cause(error))))
            except self._ray.exceptions.RayError as error:
                if self._leaving.is_set():
                    return
                self._bury(worker)
                failed += not worker.node
                if failed == _DEATHS:
                    self._give_up_slot(EngineError(_NOT_UP.format(_cause(error))))
                    return
                # Nobody knows what a dead worker had spent of its part of a budget.
                budget = self._job.budget
                if worker.node and (budget.amount is not None or budget.tokens is not None):
                    self._give_up_slot(BudgetSpentError(_PARTS_UNKNOWN))
                    return
                await asyncio.sleep(self._timeouts.restart)
            finally:
                self._remove(worker)

    def _give_up_slot(self, fault: SynopsisError) -> None:
        """Leave a slot empty; without any, the batch ends."""
        self._slots -= 1
        if self._slots:
            _log.info("a worker less, %d are left: %s", self._slots, fault)
        else:
            self._end(fault)

    async def _start(self, worker: _Worker) -> None:
        """Wait until a worker can make rows; one that must not ends the batch."""
        up: asyncio.Future[Any] = asyncio.ensure_future(worker.actor.__ray_ready__.remote())
        try:
            while not (await asyncio.wait({up}, timeout=self._timeouts.cpu))[0]:
                if not self._up:
                    self._end(EngineError(_NO_CPU.format(self._timeouts.cpu)))
            await up
        finally:
            up.cancel()
        self._up.append(worker)
        started: Started = await worker.actor.start.remote(self._job)
        if started.error is not None:
            self._end(SettingsError(f"node {started.node}: {started.error}"))
            return
        worker.node = started.node
        self._ready.append(worker)
        self._changed.set()

    def _bury(self, worker: _Worker) -> None:
        """Log, once, that a worker died."""
        if worker in self._ready:
            _log.info("a worker on %s died: its %d rows are handed to others", worker.node, worker.rows)
        self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        """Take a worker out, and end it if it should still run: nobody listens to it any more."""
        for workers in (self._all, self._up, self._ready):
            if worker in workers:
                workers.remove(worker)
        if not self._ready and self._fault is None:
            self._changed.clear()
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)

    def _end(self, fault: SynopsisError) -> None:
        """End the batch: what is in flight is made, and then this is raised."""
        self._fault = self._fault or fault
        self._changed.set()


def _cause(error: Exception) -> str:
    """Return the first sentence of the last line of Ray's message, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return first_sentence(lines[-1]) if lines else type(error).__name__


def first_sentence(text: str) -> str:
    """Return the first sentence of a text's first line, without its full stop."""
    return text.strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def facts_here(settings: Settings, resolved: ResolvedModel) -> dict[str, str]:
    """Return what the rows are made of on this machine."""
    examples = [folder_hash(path) for path in pool_folders(settings) if path.is_dir()]
    return {
        "synopsis-writer": __version__,
        **made_with(settings, resolved),
        "examples": " ".join(examples),
    }


class RowWorker:
    """Makes rows in a process of its own; errors are returned as values, for the driver to raise."""

    def __init__(self) -> None:
        self._records: asyncio.Queue[logging.LogRecord] = asyncio.Queue()
        self._writer: Writer | None = None

    async def start(self, job: Job) -> Started:
        """Load pool, templates and gate, and open the client."""
        node = platform.node()
        # This is the worker's own process: proxies and certificates are read from its environment. The key
        # is not, and stays out of it.
        os.environ.update({name: value for name, value in job.environment.items() if name != KEY_VARIABLE})
        logger = logging.getLogger("synopsis_writer")
        logger.setLevel(logging.INFO)
        logger.addHandler(_Forwarder(self._records))
        logging.getLogger("synopsis_writer.drafting").setLevel(logging.WARNING)  # the steps of each text
        try:
            settings = Settings.model_validate(job.settings)
            _compare(job.facts, facts_here(settings, job.resolved))
            writer = Writer(
                settings,
                environment=job.environment,
                budget=job.budget,
                log=False,
                rpm=job.rpm,
                tpm=job.tpm,
            )
            writer.model = job.resolved
            writer.workspace.gate.warm_up()
            self._writer = await writer.__aenter__()  # open as long as this process runs
        except SynopsisError as error:
            return Started(node, error)
        return Started(node)

    async def make(self, row: BatchRow, previous: Attempt | None) -> RowResult[str] | SynopsisError:
        """Write a row's brief, or repair its `previous` answer; return the error where work cannot go on."""
        if self._writer is None:
            raise RuntimeError("a worker that has not started")
        try:
            result = await make_row(self._writer, row, previous)
        except SynopsisError as error:
            return error
        # Prompts are long, and the driver needs none.
        attempts = tuple(replace(attempt, messages=()) for attempt in result.attempts)
        return replace(result, attempts=attempts)

    async def records(self) -> list[logging.LogRecord]:
        """Wait for records of the log; return those that are there."""
        records = [await self._records.get()]
        while not self._records.empty():
            records.append(self._records.get_nowait())
        return records


class _Forwarder(QueueHandler):
    """Puts records, from any thread, into a queue of the loop, ready to be pickled."""

    def __init__(self, queue: Any) -> None:
        super().__init__(queue)
        self._loop = asyncio.get_running_loop()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Add a record."""
        self._loop.call_soon_threadsafe(self.queue.put_nowait, record)


def _compare(driver: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raise SettingsError where a version, or what is in a folder, differs from the driver's."""
    for name, value in driver.items():
        if here[name] != value:
            raise SettingsError(
                f"synopsis-writer {here[name]}, not {value}: install the same everywhere"
                if name == "synopsis-writer"
                else f"{name} differ from those where the batch was begun: copy them here"
            )
