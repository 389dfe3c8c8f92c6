"""Fetching what a provider made of a batch, and mending what the gate refuses."""

from collections.abc import Callable, Mapping
from pathlib import Path

from synopsis_writer.batch.done import Counts, Done
from synopsis_writer.batch.provider.results import Reader
from synopsis_writer.batch.provider.rounds import Fetch, Round
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.work import (
    TERMS,
    Say,
    Terms,
    Work,
    as_begun,
    examples_of,
    hosted,
    open_post,
    open_work,
)
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.saving import Saver
from synopsis_writer.batch.session import made_with, open_gate, open_variety
from synopsis_writer.batch.varied import VariedGate
from synopsis_writer.errors import FileError
from synopsis_writer.settings import Settings


async def fetch_batch(
    fetch: Fetch,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    begun: Callable[[Counts], None] = lambda _: None,
    made: Callable[[Done, bool], None] = lambda *_: None,
    unsaved: Callable[[Done], None] = lambda _: None,
    terms: Terms = TERMS,
) -> Counts:
    """Take in what came back, and send what is to be mended; return how far the batch is then.

    Args:
        fetch: what is to be done.
        settings: all settings; without a model it is the one the batch was begun with.
        environment: where the key stands.
        say: is told how shards stand.
        begun: is told how far the batch is before anything is read.
        made: is told of each row that was saved, and whether it is done with.
        unsaved: is given each row that was mended by a live call and cannot be saved.
        terms: how patient we are.

    Raises:
        InputError: the folder holds no batch, or one that was begun otherwise.
        ModelError: the provider failed for good at a shard, or the budget is spent; all else was seen to
            before, and the same again goes on.
    """
    settings = as_begun(fetch.out, settings)
    choice = hosted(settings, environment, is_elsewhere=fetch.from_file is not None)
    with BatchRecord(fetch.out, made_with(settings, choice) | examples_of(settings)) as record:
        counts = record.counts()
        begun(counts)
        if not Shards(record).open() and not Shards(record).count_waiting():
            say("no row lies at a provider, and none waits to be mended")
            return counts
        work = open_work(record, choice, settings, environment, say, made)
        variety = open_variety(record, work.desk, settings.disable) if fetch.variety else None
        saver = Saver(record, work.desk, variety, settings.attempts, made)
        async with open_gate(work.desk, work.settings, fetch.workers) as gate:
            examiner = VariedGate(gate, variety) if variety else gate
            reader = Reader(
                work.shards, saver, work.returns, work.desk, examiner, work.pricer, choice.model, say
            )
            if fetch.from_file is not None:
                await _take_in_file(work, reader, fetch.from_file, fetch.at_once)
            else:
                async with open_post(
                    fetch.out, choice, settings, environment, work.shards, work.returns, say, terms
                ) as post:
                    await Round(work, post, reader, fetch, environment, terms, unsaved).run()
        return record.counts()


async def _take_in_file(work: Work, reader: Reader, path: Path, at_once: int) -> None:
    """Take in what somebody else made of shards; their rows that are not in it are pending again."""
    known = {shard.key: shard for shard in work.shards.open() if not shard.server}
    answers = await reader.read([path], known, at_once)
    found = [shard for shard in known.values() if shard.number in answers]
    if not found:
        raise FileError(f"{path}: holds no result of this batch's open files: name the file of its results")
    for shard in found:
        count = work.returns.close(shard, f"{path.name} does not hold it")
        left = f"; {count} rows are pending again" if count else ""
        work.say(f"shard {shard.number}: {path.name} is read{left}")
    if waiting := work.shards.count_waiting():
        work.say(
            f"{waiting} rows are to be mended: the next submit sends or writes them, a run mends them live"
        )
