"""Rows of a batch made side by side, saved as they come, repaired, and stopped by Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from synopsis_writer.batch.briefs import BatchRow, digest_of, read_briefs
from synopsis_writer.batch.make import GatePool, RowMaker, made_with
from synopsis_writer.batch.store import Answered, Asked, BatchRecord, Counts, Done, Status, begin_anew
from synopsis_writer.batch.variety import Arc, VariedGate, Variety, for_gate
from synopsis_writer.drafting import Examiner
from synopsis_writer.errors import FileError, SettingsError, SynopsisError
from synopsis_writer.gate.gate import failures
from synopsis_writer.kinds import Engine
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel, resolve_model
from synopsis_writer.provider.shards import Shards, end_beyond
from synopsis_writer.settings import Settings
from synopsis_writer.usage import Spent
from synopsis_writer.writer import Desk, load_desk, open_authors

Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is ordered of a batch.

    Attributes:
        briefs: the file of the briefs.
        out: the batch's folder.
        concurrency: calls in flight; with `workers`, half as many rows more may wait for their checks.
        rpm, tpm: requests and tokens a minute at most; None: no bound.
        limit: rows to make this time at most; None: all.
        workers: processes that check texts, 0 checks in this one; on a cluster, those that make rows, 0: as
            many as fit.
        retry: what is made again: refused rows, failed ones.
        variety: whether a text is held against the batch's others.
        arc: the file of what rows establish; None: rows know nothing of each other.
        fresh: put the record that is there aside, and begin anew.
        engine: where rows are made.
        address: the cluster's; None: `RAY_ADDRESS`, else one is started.
    """

    briefs: Path
    out: Path
    concurrency: int = 8
    rpm: int | None = None
    tpm: int | None = None
    limit: int | None = None
    workers: int = 0
    retry: tuple[Status, ...] = ()
    variety: bool = True
    arc: Path | None = None
    fresh: bool = False
    engine: Engine = Engine.LOCAL
    address: str | None = None


def facts_of(order: Order, settings: Settings, choice: ResolvedModel) -> dict[str, str]:
    """Return what the rows are made of; a batch that was begun with others is not gone on with."""
    arc = "given" if order.arc else "not given"  # what it says may grow with the season
    return {"briefs": digest_of(order.briefs)[:12], "arc": arc, **made_with(settings, choice)}


async def run_batch(
    order: Order,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    begun: Callable[[Counts], None],
    made: Callable[[Done, bool], None],
    unsaved: Callable[[Done], None],
) -> tuple[Counts, bool]:
    """Make the rows that are pending; return the counts at the end, and whether Ctrl-C ended it.

    Args:
        order: what is to be made.
        settings: all settings.
        environment: where the key stands.
        say: is told of waits, and of unknown shows.
        begun: is told how far the batch is before anything is made.
        made: is told of each row that was saved, and whether it is done with.
        unsaved: is given each row that was made and cannot be saved.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the work cannot go on; what was made is saved.
    """
    choice = resolve_model(settings, environment)
    _check_engine(order, choice)
    facts = facts_of(order, settings, choice)
    if order.fresh:
        put_aside(order, say)
    with BatchRecord(order.out, facts) as record:
        record.fill(read_briefs(order.briefs))
        record.again(order.retry)
        shards = Shards(record)
        end_beyond(shards, settings, say)
        counts = record.counts()
        begun(counts)
        if counts.pending <= _left_to_others(shards, order.out, say):
            return counts, False
        disabled, settings = settings.disable, for_gate(settings)
        desk = load_desk(settings, say)
        arc = Arc(order.arc, record, desk) if order.arc else None
        variety = open_variety(record, desk, disabled) if order.variety else None
        mending = Mending(shards, Saver(record, desk, variety, settings.attempts, made, unsaved))
        budget = _budget(settings, counts)
        rows = islice(chain(mending.rows(), record.pending()), order.limit)
        stop = Stop(say)
        async with _open_maker(order, choice, settings, environment, desk, variety, budget, say) as maker:
            side_by_side = _rows_at_once(order) if choice.kind == "hosted" and arc is None else 1

            async def make(row: BatchRow, last: Answered | None) -> Done:
                return await maker(arc.told(row) if arc else row, last or mending.last(row))

            with stop.listening():
                await run_local(rows, make, mending.save, concurrency=side_by_side, stop=stop)
        return record.counts(), stop.is_set


def _left_to_others(shards: Shards, out: Path, say: Say) -> int:
    """Return how many pending rows somebody else works on, and say where they lie."""
    at_provider, in_files = shards.rows_out()
    if at_provider:
        say(f"{at_provider} rows lie at a provider, and are left to it: synopsis batch fetch {out}")
    if in_files:
        say(
            f"{in_files} rows lie in files of requests, and are left to whoever runs them: "
            f"synopsis batch fetch {out} --from-file RESULTS, or synopsis batch cancel {out}"
        )
    return at_provider + in_files


def _rows_at_once(order: Order) -> int:
    """Return how many rows are made side by side: while some are checked elsewhere, others are asked for."""
    is_checked_elsewhere = order.workers > 0 and order.engine is Engine.LOCAL
    return order.concurrency * 3 // 2 if is_checked_elsewhere else order.concurrency


def _check_engine(order: Order, choice: ResolvedModel) -> None:
    if order.engine is Engine.RAY:
        from synopsis_writer.cluster.cluster import ray_package

        ray_package(choice)
    elif order.address is not None:
        raise SettingsError("--address is a cluster's: add --engine ray, or leave it out")


def put_aside(order: Order, say: Say) -> None:
    """Put the record aside, once it is sure that the briefs can begin another.

    Raises:
        InputError: the briefs cannot be used, or the record cannot be put aside; it stays.
    """
    for _ in read_briefs(order.briefs):
        pass
    if (aside := begin_anew(order.out)) is not None:
        say(f"the old record lies in {aside}")


@contextlib.asynccontextmanager
async def _open_maker(
    order: Order,
    choice: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    desk: Desk,
    variety: Variety | None,
    budget: Budget,
    say: Say,
) -> AsyncIterator[Callable[[BatchRow, Answered | None], Awaitable[Done]]]:
    """Open what makes rows: this process, or workers on a cluster; those do not see variety."""
    if order.engine is Engine.RAY:
        from synopsis_writer.cluster.cluster import Terms, open_crew

        async with open_crew(
            choice,
            settings,
            environment,
            budget,
            Terms(order.address, order.concurrency, order.workers, order.rpm, order.tpm),
            say,
        ) as crew:
            yield crew.make
        return
    async with (
        open_authors(
            choice,
            settings,
            environment,
            desk,
            budget,
            say,
            rpm=order.rpm,
            tpm=order.tpm,
            calls=order.concurrency,
        ) as authors,
        open_gate(desk, settings, order.workers) as gate,
    ):
        examiner = VariedGate(gate, variety) if variety else gate
        once = lru_cache(say)  # an unknown show is said once, not at each of its rows
        yield RowMaker(authors, desk, examiner, settings.attempts, once).make


def open_variety(record: BatchRecord, desk: Desk, disabled: Collection[str] = ()) -> Variety:
    """Return the index of the accepted texts, with those taken in that a kill has left out."""
    variety = Variety(record.database, record.text, disabled)
    variety.load((saved.id, saved.synopsis, desk.find_show(saved.brief.show)) for saved in record.unindexed())
    return variety


def _budget(settings: Settings, counts: Counts) -> Budget:
    """Return a ledger that begins with what the batch has spent before."""
    usage = counts.usage
    spent = Spent(counts.cost, usage.prompt_tokens + usage.completion_tokens)
    return Budget(settings.budget, settings.max_tokens_total, spent=spent)


@contextlib.asynccontextmanager
async def open_gate(desk: Desk, settings: Settings, workers: int) -> AsyncIterator[Examiner]:
    """Open the desk's gate, or gates in so many processes of their own."""
    if not workers:
        yield desk.gate
        return
    async with GatePool(settings, workers) as pool:
        yield pool


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


@dataclass(frozen=True)
class Saver:
    """Saves rows in the record, and says which are to be mended.

    Attributes:
        record: where they are saved.
        desk: the shows.
        variety: the accepted texts; None: a text is not held against them.
        attempts: rounds a row has.
        made: is told of each row that was saved, and whether it is done with: not when it is to be mended,
            or still to be made.
        unsaved: is given each row that cannot be saved, for its words are paid; nobody where they lie
            elsewhere, too.
    """

    record: BatchRecord
    desk: Desk
    variety: Variety | None
    attempts: int
    made: Callable[[Done, bool], None]
    unsaved: Callable[[Done], None] = lambda _: None

    def save(self, row: BatchRow, done: Done) -> Answered | None:
        """Save what became of a row; return the answer that is to be mended, where it has rounds left.

        Rows in flight do not see each other: of two that came to the same, the one saved first stays.

        Raises:
            FileError: the record cannot be written.
        """
        try:
            done = self._checked(row, done)
            last = self._kept(done)
        except FileError:
            self.unsaved(done)
            raise
        if done.status == "accepted" and done.synopsis is not None and self.variety is not None:
            # After the saving: a kill between the two leaves a row that the next start takes in.
            self.variety.add(done.id, done.synopsis, self.desk.find_show(row.brief.show))
        self.made(done, last is None and done.status != "pending")
        return last

    def _kept(self, done: Done) -> Answered | None:
        """Save the row; it stays pending while it has an answer that is to be mended, which is returned."""
        last = done.answers[-1] if done.status == "refused" and done.answers else None
        with self.record.together():
            self.record.save(done)
            if last is None or last.number >= self.attempts:
                return None
            self.record.reopen(done.id)
        return last

    def _checked(self, row: BatchRow, done: Done) -> Done:
        """Return the row refused, and its answer with what is wrong, where another is alike by now."""
        if self.variety is None or done.status != "accepted" or done.synopsis is None:
            return done
        show = self.desk.find_show(row.brief.show)
        found = failures(self.variety.find(done.synopsis, show, row.brief))
        if not found:
            return done
        problems = tuple(f"{finding.check}: {finding.message}" for finding in found)
        answers = tuple(
            replace(one, passed=False, problems=problems) if one.passed else one for one in done.answers
        )
        return replace(done, status="refused", reason=" ".join(problems), answers=answers)


@dataclass(frozen=True)
class Mending:
    """Knows what a waiting row goes on from, and keeps it waiting until that is saved.

    Attributes:
        shards: the record's shards.
        saver: saves rows.
    """

    shards: Shards
    saver: Saver

    def rows(self) -> Iterator[BatchRow]:
        """Yield the rows that wait, in order."""
        return (row for row, _ in self.shards.waiting())

    def last(self, row: BatchRow) -> Answered | None:
        """Return the answer that a row is to go on from; None for one that does not wait."""
        asked = self.shards.waits(row.place)
        return self.shards.last(row.id, asked) if asked else None

    def save(self, row: BatchRow, done: Done) -> Answered | None:
        """Save what became of a row, as `Saver.save`; one that waits does so no more once it is done with."""
        if self.shards.waits(row.place) is None:
            return self.saver.save(row, done)
        try:
            with self.saver.record.together():
                last = replace(self.saver, unsaved=lambda _: None).save(row, done)
                newest = last or (done.answers[-1] if done.fault and done.answers else None)
                if newest is not None:
                    self.shards.wait(Asked(row.place, newest.number + 1))
                elif done.fault is None:
                    self.shards.settle(row.place)
        except FileError:
            self.saver.unsaved(done)
            raise
        return last


Piece = TypeVar("Piece")


async def side_by_side(
    pieces: Iterator[Piece],
    do: Callable[[Piece], Awaitable[None]],
    count: int,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do pieces of work, `count` at once; one is taken when there is a worker for it.

    The first error lets what is in flight come to its end, for it is paid, and is then raised.

    Raises:
        SynopsisError: what `do`, or the reading of the next piece, raised first.
    """
    faults: list[SynopsisError] = []

    async def work() -> None:
        try:
            while not faults and not is_stopped() and (piece := next(pieces, None)) is not None:
                await do(piece)
        except SynopsisError as error:
            faults.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except ExceptionGroup as others:
        raise others.exceptions[0] from None
    if faults:
        raise faults[0]
