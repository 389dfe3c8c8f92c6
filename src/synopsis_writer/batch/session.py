"""One batch command's worth of work: record, model, gates and engine put together."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from synopsis_writer.authors import open_authors
from synopsis_writer.batch.arc import Arc
from synopsis_writer.batch.briefs import BatchRow, digest_of, read_briefs
from synopsis_writer.batch.done import Answered, Counts, Done, Status
from synopsis_writer.batch.gates import GatePool
from synopsis_writer.batch.local import Stop, run_local
from synopsis_writer.batch.maker import RowMaker
from synopsis_writer.batch.reading import RECORD_FILE
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.saving import Saver
from synopsis_writer.batch.varied import VariedGate
from synopsis_writer.batch.variety import Variety
from synopsis_writer.client.budget import Budget, Spent
from synopsis_writer.client.choice import Choice, choose
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.evaluation.runner import folder_hash
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
        concurrency: rows in flight.
        rpm, tpm: requests and tokens a minute at most; None: no bound.
        limit: rows to make this time at most; None: all.
        workers: processes that check texts; 0 checks in this one.
        retry: what is made again: refused rows, failed ones.
        variety: whether a text is held against the batch's others.
        arc: the file of what rows establish; None: rows know nothing of each other.
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


def facts_of(order: Order, settings: Settings, choice: Choice) -> dict[str, str]:
    """Return what the rows are made of; a batch that was begun with others is not gone on with."""
    profile = settings.profile
    return {
        "briefs": digest_of(order.briefs)[:12],
        "model": choice.model,
        "prompts": folder_hash(settings.prompts or folder("prompts")),
        "profile": hashlib.sha256(profile.read_bytes()).hexdigest()[:12] if profile else "the house's",
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
) -> tuple[Counts, bool]:
    """Make the rows that are pending; return the counts at the end, and whether Ctrl-C ended it.

    Args:
        order: what is to be made.
        settings: all settings.
        environment: where the key stands.
        say: is told of waits, and of unknown shows.
        begun: is told how far the batch is before anything is made.
        made: is told of each row that was saved, and whether it is done with.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the work cannot go on; what was made is saved.
    """
    choice = choose(settings, environment)
    with BatchRecord(order.out, facts_of(order, settings, choice)) as record:
        record.fill(read_briefs(order.briefs))
        record.again(order.retry)
        counts = record.counts()
        begun(counts)
        if not counts.pending:
            return counts, False
        desk = load_desk(settings, say)
        arc = Arc(order.arc, record, desk) if order.arc else None
        variety = _variety(record, desk) if order.variety else None
        saver = Saver(record, desk, variety, settings.attempts, made)
        budget = _budget(settings, counts)
        rows = islice(record.pending(), order.limit)
        stop = Stop(say)
        async with (
            open_authors(
                choice, settings, environment, desk, budget, say, rpm=order.rpm, tpm=order.tpm
            ) as authors,
            _gate(desk, settings, order) as gate,
        ):
            examiner = VariedGate(gate, variety) if variety else gate
            maker = RowMaker(authors, desk, examiner, settings.attempts, say)
            side_by_side = order.concurrency if choice.kind == "hosted" and arc is None else 1

            async def make(row: BatchRow, last: Answered | None) -> Done:
                return await maker.make(arc.told(row) if arc else row, last)

            with stop.listening():
                await run_local(rows, make, saver.save, concurrency=side_by_side, stop=stop)
        return record.counts(), stop.is_set


def _variety(record: BatchRecord, desk: Desk) -> Variety:
    """Return the index of the accepted texts, with those taken in that a kill has left out."""
    variety = Variety(record.database, record.text)
    variety.load((saved.id, saved.synopsis, desk.find_show(saved.brief.show)) for saved in record.unindexed())
    return variety


def _budget(settings: Settings, counts: Counts) -> Budget:
    """Return a ledger that begins with what the batch has spent before."""
    usage = counts.usage
    spent = Spent(counts.cost, usage.prompt_tokens + usage.completion_tokens)
    return Budget(settings.budget, settings.max_tokens_total, spent=spent)


@contextlib.asynccontextmanager
async def _gate(desk: Desk, settings: Settings, order: Order) -> AsyncIterator[Examiner]:
    if not order.workers:
        yield desk.gate
        return
    async with GatePool(settings, order.workers) as pool:
        yield pool


def begin_anew(out: Path) -> Path | None:
    """Put the record of a batch aside, so that the next run begins anew; return where it lies now."""
    record = out / RECORD_FILE
    if not record.exists():
        return None
    number = 1
    while (aside := out / f"batch-{number}.sqlite3").exists():
        number += 1
    with BatchRecord(out, {}):
        pass  # nobody else is at it, and the log of SQLite is folded into the file
    return record.rename(aside)
