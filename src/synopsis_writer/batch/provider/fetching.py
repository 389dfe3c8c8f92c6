"""Fetching what a provider made of a batch, and mending what the gate refuses."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.authors import open_authors
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Counts, Done
from synopsis_writer.batch.local import Stop, run_local
from synopsis_writer.batch.maker import RowMaker
from synopsis_writer.batch.provider.remote import RemoteBatch
from synopsis_writer.batch.provider.results import Reader
from synopsis_writer.batch.provider.sending import Post
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Asked, Shard
from synopsis_writer.batch.provider.work import (
    TERMS,
    Say,
    Terms,
    Work,
    as_begun,
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


@dataclass(frozen=True)
class Fetch:
    """What is ordered of a fetch.

    Attributes:
        out: the batch's folder.
        wait: whether to go on until nothing is open any more.
        live_below: so many rows that are to be mended, or fewer, are mended by live calls; 0: none.
        concurrency: live calls in flight.
        workers: processes that check texts; 0 checks in this one.
        variety: whether a text is held against the batch's others.
        from_file: results that somebody else made, as `vllm run-batch` does; None asks the provider.
    """

    out: Path
    wait: bool = False
    live_below: int = 20
    concurrency: int = 8
    workers: int = 0
    variety: bool = True
    from_file: Path | None = None


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
        ModelError: the provider failed for good; what was saved stays, and the same again goes on.
    """
    settings = as_begun(fetch.out, settings)
    choice = hosted(settings, environment, is_elsewhere=fetch.from_file is not None)
    with BatchRecord(fetch.out, made_with(settings, choice)) as record:
        counts = record.counts()
        begun(counts)
        if not Shards(record).open() and not Shards(record).count_waiting():
            say("no row lies at a provider")
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
                await _take_in_file(work, reader, fetch.from_file, fetch.workers)
            else:
                async with open_post(
                    fetch.out, choice, settings, environment, work.shards, work.returns, say, terms
                ) as post:
                    await Round(work, post, reader, fetch, environment, terms, unsaved).run()
        return record.counts()


@dataclass(frozen=True)
class Round:
    """Looks at the open shards until there is nothing to wait for.

    Attributes:
        work: the record and what works on it.
        post: the way to the provider.
        reader: reads what came back.
        fetch: what was ordered.
        environment: where the key stands.
        terms: how patient we are.
        unsaved: is given each row that was mended by a live call and cannot be saved.
    """

    work: Work
    post: Post
    reader: Reader
    fetch: Fetch
    environment: Mapping[str, str]
    terms: Terms
    unsaved: Callable[[Done], None]

    async def run(self) -> None:
        """Take in what is done, and send what is to be mended; with `wait` until nothing is open."""
        pause = self.terms.first_look
        while True:
            await self.post.finish()
            for shard in self.post.open():
                remote = await self.post.look(shard)
                if remote.is_open:
                    self.work.say(_told(shard, remote))
                else:
                    await self._take_in(shard, remote)
                    pause = self.terms.first_look
            await self._mend()
            if not self.fetch.wait or not self.post.open():
                return
            self.work.say(f"looking again in {pause:.0f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self.terms.longest_look)

    async def _take_in(self, shard: Shard, remote: RemoteBatch) -> None:
        if remote.status == "failed":
            self.post.refuse(shard, remote)
            return
        paths = await self.post.bring(shard, remote)
        for path in paths:
            await self.reader.read(path, {shard.key: shard}, _at_once(self.fetch.workers))
        count = self.work.returns.close(shard, f"the batch is {remote.status}")
        for path in paths:
            path.unlink(missing_ok=True)  # all of it is saved
        left = f"; {count} rows are pending again" if count else ""
        self.work.say(f"shard {shard.number}: batch {remote.id} is {remote.status}{left}")

    async def _mend(self) -> None:
        """Send what waits as a further shard; few rows are mended by live calls when all others are in."""
        work, count = self.work, self.work.shards.count_waiting()
        if count > self.fetch.live_below:
            work.say(f"{count} rows go out again, to be mended")
            rows = work.shards.waiting()
            for shard in work.write(rows, self.post.folder, self.post.server.server, self.terms):
                await self.post.send(shard)
        elif count and not self.post.open():
            work.say(f"{count} rows are mended by live calls")
            await self._mend_live()

    async def _mend_live(self) -> None:
        work = self.work
        asked = {row.id: one for row, one in work.shards.waiting()}
        rows = iter([row for row, _ in work.shards.waiting()])

        def save(row: BatchRow, done: Done) -> Answered | None:
            try:
                with work.record.together():
                    last = self.reader.saver.save(row, done)
                    if done.fault is None:
                        work.shards.settle(row.place)
                    if last is not None:
                        work.shards.wait(Asked(row.place, last.number + 1))
            except FileError:
                self.unsaved(done)
                raise
            return last

        async with open_authors(
            work.choice, work.settings, self.environment, work.desk, work.budget(), work.say
        ) as authors:
            maker = RowMaker(authors, work.desk, self.reader.gate, work.settings.attempts, work.say)

            async def make(row: BatchRow, last: Answered | None) -> Done:
                return await maker.make(row, last or work.shards.last(row.id, asked[row.id]))

            stop = Stop(work.say)
            with stop.listening():
                await run_local(rows, make, save, concurrency=self.fetch.concurrency, stop=stop)
        if stop.is_set:
            raise KeyboardInterrupt


async def _take_in_file(work: Work, reader: Reader, path: Path, workers: int) -> None:
    """Take in what somebody else made of shards; their rows that are not in it are pending again."""
    known = {shard.key: shard for shard in work.shards.open() if not shard.server}
    await reader.read(path, known, _at_once(workers))
    found = [shard for shard in known.values() if shard.number in reader.numbers]
    if not found:
        raise FileError(f"{path}: holds no result of this batch's open files: name the file of its results")
    for shard in found:
        count = work.returns.close(shard, f"{path.name} does not hold it")
        left = f"; {count} rows are pending again" if count else ""
        work.say(f"shard {shard.number}: {path.name} is read{left}")
    if waiting := work.shards.count_waiting():
        work.say(f"{waiting} rows are to be mended: the next submit sends or writes them, too")


def _at_once(workers: int) -> int:
    return max(1, 2 * workers)  # so that no worker waits for its next text


def _told(shard: Shard, remote: RemoteBatch) -> str:
    counts = remote.request_counts
    done = f": {counts.completed} of {counts.total} done, {counts.failed} failed" if counts else ""
    return f"shard {shard.number}: batch {remote.id} is {remote.status}{done}"
