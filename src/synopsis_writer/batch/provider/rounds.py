"""Rounds of looking at what lies at a provider: take in what is done, send what is to be mended."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from synopsis_writer.authors import open_authors
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.batch.local import Stop, run_local
from synopsis_writer.batch.maker import RowMaker
from synopsis_writer.batch.provider.mending import Mending
from synopsis_writer.batch.provider.remote import RemoteBatch
from synopsis_writer.batch.provider.results import Reader
from synopsis_writer.batch.provider.sending import Post
from synopsis_writer.batch.provider.tables import Shard
from synopsis_writer.batch.provider.work import Terms, Work
from synopsis_writer.errors import ConnectionFailed, ModelError

_MENDING = 0  # where a fault of it is kept: no shard has this number


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

    @property
    def at_once(self) -> int:
        """Texts that are checked side by side, so that no worker waits for its next one."""
        return max(1, 2 * self.workers)


@dataclass(frozen=True)
class Round:
    """Looks at the open shards until there is nothing to wait for; a fault at one keeps no other waiting.

    Attributes:
        work: the record and what works on it.
        post: the way to the provider.
        reader: reads what came back.
        fetch: what was ordered.
        environment: where the key stands.
        terms: how patient we are.
        unsaved: is given each row that was mended by a live call and cannot be saved.
        faults: what went wrong, by shard; such a shard is left alone from then on.
    """

    work: Work
    post: Post
    reader: Reader
    fetch: Fetch
    environment: Mapping[str, str]
    terms: Terms
    unsaved: Callable[[Done], None]
    faults: dict[int, ModelError] = field(default_factory=dict)

    async def run(self) -> None:
        """Take in what is done, and send what is to be mended; with `wait` until nothing is open."""
        pause, before = self.terms.first_look, self._left()
        while True:
            may_send = await self._look()
            if may_send:
                await self._send()
                await self._mend()
            left = self._left()
            held = 0 if may_send else self.work.shards.count_waiting()
            if not self.fetch.wait or not (left or held):
                break
            if [shard.number for shard in left] != [shard.number for shard in before]:
                pause, before = self.terms.first_look, left
            self.work.say(f"looking again in {pause:.0f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self.terms.longest_look)
        faults = list(self.faults.values())
        for fault in faults[1:]:
            self.work.say(str(fault))
        if faults:
            raise faults[0]

    def _left(self) -> list[Shard]:
        return [shard for shard in self.post.open() if shard.number not in self.faults]

    @contextlib.contextmanager
    def _going_on(self, number: int) -> Iterator[None]:
        """Keep a fault until all else was seen to; who waits tries again where no connection came about."""
        try:
            yield
        except ModelError as error:
            if self.fetch.wait and isinstance(error, ConnectionFailed):
                self.work.say(str(error))
            else:
                self.faults[number] = error

    async def _look(self) -> bool:
        """Take in what is done; return whether anything may be sent just now."""
        may_send = True
        for shard in self._left():
            if shard.batch is not None:
                with self._going_on(shard.number):
                    remote = await self.post.look(shard)
                    if remote.is_open:
                        self.work.say(_told(shard, remote))
                    elif remote.status == "failed":
                        may_send = self.post.refuse(shard, remote) and may_send
                    else:
                        await self._take_in(shard, remote)
        return may_send

    async def _take_in(self, shard: Shard, remote: RemoteBatch) -> None:
        paths = await self.post.bring(shard, remote)
        answers = await self.reader.read(paths, {shard.key: shard}, self.fetch.at_once)
        found = answers.get(shard.number, 0)
        if found < remote.done:  # the others are paid, too
            for path in paths:
                path.unlink(missing_ok=True)
            self.work.say(
                f"shard {shard.number}: the provider counts {remote.done} answers and gave {found}: fetch "
                f"again, or let the others go with synopsis batch cancel --forget {shard.number}"
            )
            return
        is_ours = remote.status == "cancelled"
        count = self.work.returns.close(shard, "" if is_ours else f"the batch is {remote.status}")
        for path in paths:
            path.unlink(missing_ok=True)  # all of it is saved
        left = f"; {count} rows are pending again" if count else ""
        self.work.say(f"shard {shard.number}: batch {remote.id} is {remote.status}{left}")

    async def _send(self) -> None:
        for shard in self.post.unsent():
            if shard.number not in self.faults:
                with self._going_on(shard.number):
                    await self.post.send(shard)

    async def _mend(self) -> None:
        """Send what waits as a further shard; few rows are mended by live calls when all others are in."""
        work, count = self.work, self.work.shards.count_waiting()
        if not count or _MENDING in self.faults or self.post.unsent():
            return
        with self._going_on(_MENDING):
            if count > self.fetch.live_below:
                work.say(f"{count} rows go out again, to be mended")
                rows = work.shards.waiting()
                for shard in work.write(rows, self.post.folder, self.post.server.server, self.terms):
                    await self.post.send(shard)
            elif not self.post.open():
                work.say(f"{count} rows are mended by live calls")
                await self._mend_live()

    async def _mend_live(self) -> None:
        work = self.work
        mending = Mending(work.shards, replace(self.reader.saver, unsaved=self.unsaved))
        async with open_authors(
            work.choice, work.settings, self.environment, work.desk, work.budget(), work.say
        ) as authors:
            maker = RowMaker(authors, work.desk, self.reader.gate, work.settings.attempts, work.say)

            async def make(row: BatchRow, last: Answered | None) -> Done:
                return await maker.make(row, last or mending.last(row))

            stop = Stop(work.say)
            with stop.listening():
                rows, side_by_side = mending.rows(), self.fetch.concurrency
                await run_local(rows, make, mending.save, concurrency=side_by_side, stop=stop)
        if stop.is_set:
            raise KeyboardInterrupt


def _told(shard: Shard, remote: RemoteBatch) -> str:
    total = remote.request_counts.total if remote.request_counts else None
    done = f": {remote.done} of {total} done, {remote.failed} failed" if total is not None else ""
    return f"shard {shard.number}: batch {remote.id} is {remote.status}{done}"
