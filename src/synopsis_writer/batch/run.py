"""Rows of a batch made concurrently, saved as they come, repaired, and stopped by Ctrl-C."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from synopsis_writer.batch.briefs import BatchRow, digest_of, read_briefs
from synopsis_writer.batch.store import BatchStore, Counts, Flaw, NextAttempt, archive, rows_are
from synopsis_writer.batch.variety import Arc, Variety, for_gate
from synopsis_writer.brief import Brief
from synopsis_writer.drafting import withheld_because
from synopsis_writer.errors import BriefError, EngineError, FileError, ModelError, SynopsisError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import Gate, failures
from synopsis_writer.house import open_house
from synopsis_writer.log import BATCH
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.result import Attempt, Outcome, RowResult
from synopsis_writer.settings import HOUSE_FILE, Environment, Settings, folder
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import open_workspace
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

MakeRow = Callable[[BatchRow, Attempt | None], Awaitable[RowResult]]
"""Writes a row's brief, or repairs the answer that is given."""


@dataclass(frozen=True)
class Order:
    """What is ordered of a batch."""

    briefs: Path
    out: Path  # the batch's folder
    concurrency: int = 8  # calls in flight; with `workers`, half as many rows more may wait for their checks
    rpm: int | None = None  # maximum requests a minute
    tpm: int | None = None  # maximum tokens a minute
    limit: int | None = None  # maximum rows to make this time
    workers: int = 0  # processes that check texts; on a cluster those that make rows, 0: as many as fit
    retry: tuple[Outcome, ...] = ()  # rows that are made again: refused ones, failed ones
    variety: bool = True  # whether a text is compared with the batch's others
    arc: Path | None = None  # the file of what rows establish; None: rows know nothing of each other
    fresh: bool = False  # archive the existing record, and start over
    log: bool = True  # whether each row is recorded in the run log, too


Engine = Callable[[Order, Writer], AbstractAsyncContextManager[MakeRow]]
"""Opens what makes rows elsewhere than in this process, without variety; raises SettingsError at once."""


class Stop:
    """Ends a batch early: once `is_set`, no further row is begun; the command's listens for Ctrl-C."""

    is_set = False
    listening: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)  # while rows are made
    shielded: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)  # while processes start


@dataclass(frozen=True)
class Hooks:
    """How a caller follows a batch, and ends it early."""

    begun: Callable[[Counts], None] = lambda _: None  # called with the progress before anything is made
    # Called with each row that was saved, and whether it is done with, and not to be made or repaired.
    made: Callable[[RowResult, bool], None] = lambda *_: None
    unsaved: Callable[[RowResult], None] = lambda _: None  # with each row that cannot be saved: its answers are paid
    stop: Stop = field(default_factory=Stop)


def facts_of(order: Order, settings: Settings, resolved: ResolvedModel) -> dict[str, str]:
    """Return the facts that all rows depend on; a batch that was begun with others is refused."""
    arc = "given" if order.arc else "not given"  # what it says may grow with the season
    return {"briefs": digest_of(order.briefs)[:12], "arc": arc, **made_with(settings, resolved)}


def made_with(settings: Settings, resolved: ResolvedModel) -> dict[str, str]:
    """Return the facts that the briefs do not contain."""
    named = settings.profile or (settings.house and settings.house / HOUSE_FILE)
    return {
        "model": resolved.model,
        "prompts": folder_hash(settings.own_prompts or folder("prompts")),
        "profile": digest_of(named)[:12] if named else "the house's",
        "disabled checks": ", ".join(sorted(settings.disable)) or "none",
        "review": (settings.review_model or resolved.model) if settings.review else "off",
    }


async def run_batch(
    order: Order, settings: Settings, environment: Environment, hooks: Hooks, engine: Engine | None = None
) -> Counts:
    """Make the pending rows, in this process unless an `engine` does; return the counts at the end.

    Raises InputError, and ModelError where the work cannot go on; what was made is saved.
    """
    pace: dict[str, Any] = {"rpm": order.rpm, "tpm": order.tpm, "calls": order.concurrency}
    writer = Writer(for_gate(settings), environment=environment, log=order.log, command=BATCH, **pace)
    opened = engine(order, writer) if engine is not None else None
    with open_store(order, settings, facts_of(order, settings, writer.model)) as store:
        counts = store.counts()
        hooks.begun(counts)
        if counts.pending <= _held(store, order.out):
            return counts
        writer.budget = Budget(settings.budget, settings.max_tokens_total, spent=counts.spent)
        writer.is_varied = order.variety
        arc = Arc(order.arc, store, writer) if order.arc else None
        variety = open_variety(store, writer, settings.disable) if order.variety else None
        saver = RowSaver(store, writer, variety, hooks, records=engine is not None)
        async with contextlib.AsyncExitStack() as stack:
            make: MakeRow = partial(make_row, writer)
            if opened is not None:
                make = await stack.enter_async_context(opened)
            else:
                await stack.enter_async_context(writer)
                await stack.enter_async_context(open_gate(writer, order.workers, variety, hooks.stop))

            due = islice(store.due(), order.limit)
            rows = ((arc.continued(row) if arc else row, attempt) for row, attempt in due)
            concurrency = 1 if writer.is_local or arc else order.concurrency
            if concurrency > 1 and order.workers and engine is None:
                concurrency += concurrency // 2  # while some rows are checked in other processes
            await make_rows(rows, make, saver, concurrency)
        writer.close()
        return store.counts()


def end_repairs(store: BatchStore, settings: Settings) -> None:
    """Give up on queued repairs that have no attempts left: the rows stay refused."""
    with store.transaction():
        beyond = "status = 'pending' AND place IN (SELECT place FROM waiting WHERE round > ?)"
        store.execute(f"UPDATE rows SET status = 'refused' WHERE {beyond}", settings.attempts)  # noqa: S608
        count = store.execute("DELETE FROM waiting WHERE round > ?", settings.attempts).rowcount
    if count:
        reason = f"no longer repaired, for --attempts is {settings.attempts} now"
        _log.info("%s: --retry refused makes them again", rows_are(count, reason))


def _held(store: BatchStore, folder: Path) -> int:
    """Return how many pending rows are being worked on elsewhere, and log where."""
    at_provider, in_files = store.held()
    if at_provider:
        _log.info("%s: synopsis batch fetch %s", rows_are(at_provider, "at a provider, and left to it"), folder)
    if in_files:
        left = rows_are(in_files, "in files of requests, and left to whoever runs them")
        _log.info("%s: synopsis batch fetch %s --from-file RESULTS, or synopsis batch cancel %s", left, folder, folder)
    return at_provider + in_files


@contextlib.contextmanager
def open_store(order: Order, settings: Settings, facts: Mapping[str, str]) -> Iterator[BatchStore]:
    """Open the store of an order with its briefs; with `fresh` the record that was there is archived."""
    house = open_house(settings)
    if order.fresh:
        for _ in read_briefs(order.briefs, house):  # it is sure that the briefs can begin another
            pass
        if (archived := archive(order.out)) is not None:
            _log.info("the old record is now %s", archived)
    with BatchStore(order.out, facts) as store:
        store.fill(read_briefs(order.briefs, house))
        for status in order.retry:  # their tokens stay counted
            store.execute("UPDATE rows SET status = 'pending' WHERE status = ?", status)
        end_repairs(store, settings)
        yield store


def open_variety(store: BatchStore, writer: Writer, disabled: Collection[str] = ()) -> Variety:
    """Return the index of the accepted texts, completed where a kill left some out."""
    variety = Variety(store.database, store.text, disabled)
    variety.load((row.id, row.synopsis, writer.workspace.find_show(row.brief.show)) for row in store.unindexed())
    return variety


_gate: list[Gate] = []  # of a worker process: loaded once


class GatePool(ProcessPoolExecutor):
    """Examines texts as a gate does, in processes of about 220 MB each."""

    def __init__(self, settings: Settings, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take over locks and connections
        super().__init__(workers, context, initializer=_begin, initargs=(settings,))
        for _ in range(workers):
            self.submit(os.getpid)  # any call starts a worker, which loads while the first answers come

    async def examine(self, synopsis: Synopsis, brief: Brief, show: Show, **more: Any) -> tuple[Finding, ...]:
        """Check a synopsis against its brief."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self, partial(_examine, synopsis, brief, show, **more))
        except BrokenProcessPool as error:
            raise EngineError(
                "a process that checks texts was ended from outside: is there memory enough? Run it again"
            ) from error


def _begin(settings: Settings) -> None:
    for name in ("SIGINT", "SIGHUP"):  # a terminal's, for all processes; Windows has no SIGHUP
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _gate.append(open_workspace(settings).gate)
    _gate[0].warm_up()


def _end_with_driver() -> None:
    """End this process when the driver has ended: after a kill nobody else does."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _examine(synopsis: Synopsis, brief: Brief, show: Show, **more: Any) -> tuple[Finding, ...]:
    return _gate[0].examine(synopsis, brief, show, **more)


@contextlib.asynccontextmanager
async def open_gate(writer: Writer, workers: int, variety: Variety | None, stop: Stop) -> AsyncIterator[None]:
    """Let a writer's texts be examined with variety, and in so many processes of their own, if any."""
    async with contextlib.AsyncExitStack() as stack:
        if workers:
            with stop.shielded():
                pool = GatePool(writer.settings, workers)
            stack.callback(pool.shutdown, cancel_futures=True)  # nothing waits for the remaining texts
            writer.examiner = pool.examine
        if variety:
            writer.finders.append(variety.find)
        yield


async def make_row(writer: Writer, row: BatchRow, previous: Attempt | None = None) -> RowResult:
    """Write or repair a row; an error of the model fails it, but one that would meet every row ends the batch."""
    try:
        return RowResult.of(row.id, await writer.write(row.brief, seed=row.id, previous=previous))
    except ModelError as error:
        return RowResult.failed(row.id, error)
    except BriefError as error:  # no demo draft has such a form or length
        return RowResult(row.id, "failed", str(error))


async def make_rows(
    rows: Iterator[tuple[BatchRow, NextAttempt]], make: MakeRow, saver: "RowSaver", concurrency: int
) -> None:
    """Make rows concurrently, each saved before its worker takes the next; raises as `run_concurrently`."""

    async def finish(due: tuple[BatchRow, NextAttempt]) -> None:
        row, attempt = due
        result = await make(row, saver.store.previous(row, attempt))
        while (previous := saver.save(row, result)) is not None:
            result = await make(row, previous)
        if result.error is not None:
            raise result.error

    with saver.hooks.stop.listening():
        await asyncio.sleep(0)  # a Ctrl-C during loading ends it here, before the model is asked anything
        await run_concurrently(rows, finish, concurrency, saver.hooks.stop)


@dataclass(frozen=True)
class RowSaver:
    """Saves rows, and decides which are to be repaired."""

    store: BatchStore
    writer: Writer  # knows the shows, and how many attempts a row has
    variety: Variety | None  # the accepted texts; None: a text is not compared with them
    hooks: Hooks
    records: bool = False  # whether rows are still to be recorded in the run log

    def save(self, row: BatchRow, result: RowResult) -> Attempt | None:
        """Save a row's result; queue it for repair while it has attempts left, and return the answer to repair then.

        Rows in flight do not see each other: of two similar texts, the one saved first stays.
        """
        previous, attempts = None, self.writer.settings.attempts
        try:
            with self.store.transaction():
                result = self._compared(row, result)
                self.store.save(result)
                newest = result.attempts[-1] if result.attempts else None
                if result.outcome == "refused" and newest and newest.number < attempts:
                    previous = newest
                goes_on = newest if result.error and newest and not newest.passed else previous
                if goes_on is not None:
                    flaw: Flaw = "cut" if goes_on.answer.is_truncated else ""
                    flaw = "withheld" if withheld_because(goes_on.answer) else flaw
                    self.store.reopen(row, NextAttempt(row.place, min(goes_on.number + 1, attempts), flaw))
                elif result.error is None:
                    self.store.settle(row.place)
        except FileError:
            self.hooks.unsaved(result)
            raise
        if self.records:
            self.writer.record(row.brief, result)
        self.hooks.made(result, previous is None and result.outcome != "pending")
        return previous

    def _compared(self, row: BatchRow, result: RowResult) -> RowResult:
        """Add an accepted text to the others, or refuse the row and its answer where another is similar."""
        if self.variety is None or result.outcome != "accepted" or result.synopsis is None:
            return result
        show = self.writer.workspace.find_show(row.brief.show)
        refusals = failures(self.variety.find(result.synopsis, show, row.brief))
        if not refusals:
            self.variety.load([(result.id, result.synopsis, show)])
            return result
        attempts = tuple(
            replace(attempt, findings=(*attempt.findings, *refusals)) if attempt.passed else attempt
            for attempt in result.attempts
        )
        reason = " ".join(f"{finding.check}: {finding.sentence}" for finding in refusals)
        return replace(result, outcome="refused", reason=reason, attempts=attempts)


Item = TypeVar("Item")


async def run_concurrently(
    items: Iterator[Item], work: Callable[[Item], Awaitable[None]], count: int, stop: Stop | None = None
) -> None:
    """Work on items, `count` at once; after the first error, work in flight is finished, as it has been paid for."""
    errors: list[SynopsisError] = []

    async def take() -> None:
        try:
            while not (errors or (stop and stop.is_set)) and (item := next(items, None)) is not None:
                await work(item)
        except SynopsisError as error:
            errors.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(take())
    except ExceptionGroup as others:
        raise others.exceptions[0] from None
    if errors:
        raise errors[0]
