"""Answers in from a provider: judged, saved, repaired."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.make import RowMaker, made_with, outcome
from synopsis_writer.batch.run import Mending, Saver, Stop, open_gate, open_variety, run_local, side_by_side
from synopsis_writer.batch.store import Answered, Asked, BatchRecord, Counts, Done, Flaw, Shard
from synopsis_writer.batch.variety import VariedGate
from synopsis_writer.drafting import Examiner, judge, withheld_because
from synopsis_writer.errors import ConnectionFailedError, FileError, ModelError
from synopsis_writer.models.base import Answer
from synopsis_writer.models.pricing import Pricer
from synopsis_writer.models.responses import read_answer
from synopsis_writer.models.retry import InvalidResponseError
from synopsis_writer.provider.api import RemoteBatch, read_lines, read_result
from synopsis_writer.provider.api import Result as Line
from synopsis_writer.provider.shards import Returns, Shards
from synopsis_writer.provider.submit import (
    TERMS,
    Post,
    Say,
    Terms,
    Work,
    as_begun,
    examples_of,
    hosted,
    open_post,
    open_work,
)
from synopsis_writer.result import Attempt, Result
from synopsis_writer.settings import Settings
from synopsis_writer.usage import NO_COST, Usage
from synopsis_writer.writer import Desk, open_authors


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


_Joined = tuple[Shard, BatchRow, Asked, Line]


@dataclass(frozen=True)
class Reader:
    """Reads the files of results.

    Attributes:
        shards: the record's shards.
        saver: judges what rows come to, and saves it.
        returns: takes rows without an answer back.
        desk: pool, templates and shows.
        gate: what a text must pass.
        pricer: what tokens cost at the provider.
        model: the model that was asked.
        say: is told of lines that belong to no row.
    """

    shards: Shards
    saver: Saver
    returns: Returns
    desk: Desk
    gate: Examiner
    pricer: Pricer
    model: str
    say: Callable[[str], None]

    async def read(
        self, paths: Sequence[Path], known: Mapping[str, Shard], concurrency: int
    ) -> Mapping[int, int]:
        """Save the rows of files; return how many answers they hold of each shard, by its number.

        What was saved before is counted and left alone. A shard that only lines without answers are of has 0.

        Args:
            paths: the files of results.
            known: the open shards by their keys.
            concurrency: texts that are checked at once.

        Raises:
            FileError: file or record cannot be read or written.
        """
        answers: Counter[int] = Counter()

        async def take(found: _Joined) -> None:
            await self._take(*found)

        await side_by_side(self._joined(paths, known, answers), take, concurrency)
        return answers

    def _joined(
        self, paths: Sequence[Path], known: Mapping[str, Shard], answers: Counter[int]
    ) -> Iterator[_Joined]:
        """Yield each line with its row, once; a line that passes only where no other follows for its row."""
        seen: set[tuple[int, int]] = set()
        passing: dict[tuple[int, int], Line] = {}
        for path in paths:
            strange = 0
            for number, content in enumerate(read_lines(path), 1):
                found = self._find(read_result(content), known, seen)
                if isinstance(found, str):
                    strange += 1
                    if strange <= _MOST_SAID:
                        self.say(f"{path.name}: line {number} is ignored: {found}")
                    continue
                (shard, _, asked, line), is_read = found
                answers[shard.number] += line.body is not None
                if line.passes:
                    passing[shard.number, asked.place] = line
                    continue
                seen.add((shard.number, asked.place))
                if not is_read:  # else it was saved before a kill
                    yield found[0]
            if strange > _MOST_SAID:
                self.say(f"{path.name}: {strange} lines in all belong to no row, or to one that was read")
        for line in passing.values():
            found = self._find(line, known, seen)
            if not isinstance(found, str) and not found[1]:
                yield found[0]

    def _find(
        self, line: Line | str, known: Mapping[str, Shard], seen: AbstractSet[tuple[int, int]]
    ) -> tuple[_Joined, bool] | str:
        """Return a line with its row, and whether that was read already; or why it belongs to none."""
        if isinstance(line, str):
            return line
        shard = known.get(line.key)
        found = self.shards.find(shard, line.place) if shard else None
        if shard is None or found is None or found[1].round != line.round:
            return f"unknown request id '{line.key}-{line.place}-{line.round}'"
        row, asked, is_read = found
        if (shard.number, line.place) in seen:
            return f"a second result for row {row.id}: the first one stays"
        return (shard, row, asked, line), is_read

    async def _take(self, shard: Shard, row: BatchRow, asked: Asked, line: Line) -> None:
        if line.body is None:
            self._without_answer(shard, row, asked, line)
            return
        try:
            answer = read_answer(line.body, "application/json", 0.0, self.model)
        except InvalidResponseError as fault:
            self._broken(shard, row, asked, fault)
            return
        answer = replace(answer, cost=self.pricer.cost(answer.usage, answer.model))
        done = await self._judged(row, asked, answer)
        record = self.returns.record
        with record.together():
            self.shards.mark_read(shard, asked)
            last = self.saver.save(row, done)
            if last is not None:
                self.shards.wait(Asked(asked.place, last.number + 1, _flaw(answer)))

    async def _judged(self, row: BatchRow, asked: Asked, answer: Answer) -> Done:
        show = self.desk.find_show(row.brief.show)
        brief = row.brief.model_copy(update={"show": show.name})
        attempt = await judge(Attempt(asked.round, answer), brief, show, self.gate)
        prompt = self.desk.synopsis_prompt(brief, show)
        return outcome(row.id, Result(brief, show, (attempt,), attempt, prompt=prompt))

    def _without_answer(self, shard: Shard, row: BatchRow, asked: Asked, line: Line) -> None:
        with self.returns.record.together():
            self.shards.mark_read(shard, asked)
            if line.passes:
                self.returns.take(row, asked, line.reason)
            else:
                self.returns.fail(row, line.reason)

    def _broken(self, shard: Shard, row: BatchRow, asked: Asked, fault: InvalidResponseError) -> None:
        """Save the tokens of what is no answer: they are paid."""
        usage = fault.usage
        done = Done(
            row.id,
            "failed",
            str(fault),
            usage=usage,
            cost=self.pricer.cost(usage) if usage != Usage() else NO_COST,
        )
        with self.returns.record.together():
            self.shards.mark_read(shard, asked)
            self.returns.record.save(done)
            if fault.is_transient:
                self.returns.take(row, asked, str(fault))
            else:
                self.returns.made(done, True)


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


_MOST_SAID = 5  # lines that say nothing


def _flaw(answer: Answer) -> Flaw:
    return "withheld" if withheld_because(answer) else "cut" if answer.finish == "length" else ""


_MENDING = 0  # where a fault of it is kept: no shard has this number


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
            if self.fetch.wait and isinstance(error, ConnectionFailedError):
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
