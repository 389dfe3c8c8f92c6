"""One batch command's worth of work: record, model, gates and engine put together."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

from synopsis_writer.authors import open_authors
from synopsis_writer.batch.arc import Arc
from synopsis_writer.batch.aside import begin_anew
from synopsis_writer.batch.briefs import BatchRow, digest_of, read_briefs
from synopsis_writer.batch.done import Answered, Counts, Done, Status
from synopsis_writer.batch.gates import GatePool
from synopsis_writer.batch.local import Stop, run_local
from synopsis_writer.batch.maker import RowMaker
from synopsis_writer.batch.provider.mending import Mending
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.work import end_beyond
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.saving import Saver
from synopsis_writer.batch.varied import VariedGate, for_gate
from synopsis_writer.batch.variety import Variety
from synopsis_writer.client.budget import Budget, Spent
from synopsis_writer.client.choice import Choice, choose
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.errors import SettingsError
from synopsis_writer.evaluation.runner import folder_hash
from synopsis_writer.kinds import Engine
from synopsis_writer.resources import folder
from synopsis_writer.settings import Settings
from synopsis_writer.writer import Examiner

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


def facts_of(order: Order, settings: Settings, choice: Choice) -> dict[str, str]:
    """Return what the rows are made of; a batch that was begun with others is not gone on with."""
    arc = "given" if order.arc else "not given"  # what it says may grow with the season
    return {"briefs": digest_of(order.briefs)[:12], "arc": arc, **made_with(settings, choice)}


def made_with(settings: Settings, choice: Choice) -> dict[str, str]:
    """Return the facts that do not stand in the briefs."""
    return {
        "model": choice.model,
        "prompts": folder_hash(settings.prompts or folder("prompts")),
        "profile": digest_of(settings.profile)[:12] if settings.profile else "the house's",
        "disabled checks": ", ".join(sorted(settings.disable)) or "none",
    }


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
    choice = choose(settings, environment)
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


def _check_engine(order: Order, choice: Choice) -> None:
    if order.engine is Engine.RAY:
        from synopsis_writer.batch.cluster import ray_package

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
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str],
    desk: Desk,
    variety: Variety | None,
    budget: Budget,
    say: Say,
) -> AsyncIterator[Callable[[BatchRow, Answered | None], Awaitable[Done]]]:
    """Open what makes rows: this process, or workers on a cluster; those do not see variety."""
    if order.engine is Engine.RAY:
        from synopsis_writer.batch.cluster import Terms, open_crew

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
