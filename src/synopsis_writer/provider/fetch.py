"""Answers in from a provider: judged, saved, repaired."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.run import (
    RowSaver,
    Stop,
    end_repairs,
    made_with,
    make_row,
    make_rows,
    open_gate,
    open_variety,
    run_concurrently,
)
from synopsis_writer.batch.store import Counts, Flaw, NextAttempt, rows_are
from synopsis_writer.characters import count_of
from synopsis_writer.drafting import withheld_because
from synopsis_writer.errors import ConnectionFailedError, FileError, ModelError
from synopsis_writer.models.responses import read_answer
from synopsis_writer.models.retry import InvalidResponseError
from synopsis_writer.provider.api import (
    LIMITS,
    LONGEST_LINE,
    MOST_BYTES,
    UNREADABLE,
    ProviderLimits,
    RemoteBatch,
    ResultLine,
    read_result,
    short_id,
)
from synopsis_writer.provider.shards import Shard, ShardStore, open_shards
from synopsis_writer.provider.submit import ProviderBatch, as_begun, examples_fact, hosted, raise_first
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import input_lines
from synopsis_writer.usage import NO_COST, Usage


@dataclass(frozen=True)
class Fetch:
    """What is ordered of a fetch."""

    out: Path  # the batch's folder
    wait: bool = False  # whether to go on until nothing is open any more
    live_below: int = 20  # so many rows that are to be repaired, or fewer, are repaired by live calls
    concurrency: int = 8  # live calls in flight
    workers: int = 0  # processes that check texts; 0 checks in this one
    variety: bool = True  # whether a text is compared with the batch's others
    from_file: Path | None = None  # results that somebody else made, as `vllm run-batch` does
    log: bool = True  # whether each row is recorded in the run log, too


async def fetch_batch(
    fetch: Fetch,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    begun: Callable[[Counts], None] = lambda _: None,
    made: Callable[[RowResult, bool], None] = lambda *_: None,
    unsaved: Callable[[RowResult], None] = lambda _: None,
    limits: ProviderLimits = LIMITS,
    stop: Stop | None = None,
) -> Counts:
    """Take in what came back, and send what is to be repaired; return how far the batch is then.

    Without a model in the settings it is the one the batch was begun with. `begun`, `made` and `unsaved` are
    called as by `run_batch`, the last one with rows that were repaired by a live call.

    Raises:
        InputError: the folder holds no batch, or one that was begun otherwise.
        ModelError: the provider failed for good at a shard, or the budget is spent; all else was seen to
            before, and the same again goes on.
    """
    stop = stop or Stop()
    settings = as_begun(fetch.out, settings)
    resolved = hosted(settings, environment, is_elsewhere=fetch.from_file is not None)
    with ShardStore(fetch.out, made_with(settings, resolved) | examples_fact(settings)) as store:
        store.made = made
        counts = store.counts()
        begun(counts)
        if not open_shards(store) and not store.count_waiting():
            _log.info("no row is at a provider, and none waits to be repaired")
            return counts
        end_repairs(store, settings)
        parts = (fetch.out, store, resolved, settings, environment, limits, fetch.log)
        batch = _FetchedBatch(*parts, order=fetch, unsaved=unsaved, stop=stop)
        variety = open_variety(store, batch.writer, settings.disable) if fetch.variety else None
        batch.saver = RowSaver(store, batch.writer, variety, made, records=True)
        async with batch.writer, open_gate(batch.writer, fetch.workers, variety, stop):
            if fetch.from_file is not None:
                await batch.read_file(fetch.from_file)
            else:
                async with batch.connected():
                    await batch.run()
        return store.counts()


_log = logging.getLogger(__name__)

_Joined = tuple[Shard, BatchRow, NextAttempt, ResultLine]
_MOST_IGNORED = 5  # lines of a file that belong to no row and are reported one by one
_REPAIRS = 0  # the key of a fault of the repairs: no shard has this number


@dataclass(eq=False, kw_only=True)
class _FetchedBatch(ProviderBatch):
    """Takes in the results of a batch, and sends its repairs; a fault at one shard delays no other."""

    order: Fetch
    unsaved: Callable[[RowResult], None]
    stop: Stop
    saver: RowSaver = field(init=False)
    unreadable: int = 0  # lines of the results that were read last
    faults: dict[int, ModelError] = field(default_factory=dict)  # by shard, which is left alone from then on

    async def read_file(self, path: Path) -> None:
        """Take in results of files that somebody else ran; rows that are not in it are pending again."""
        shards = {shard.key: shard for shard in open_shards(self.store) if not shard.server}
        answers = await self._read([path], shards)
        if not answers:
            problem = "holds no result of this batch's open files"
            raise FileError(f"{path}: {problem}: name the file of its results")
        for shard in shards.values():
            if shard.number in answers:
                count = self.store.close_shard(shard, f"{path.name} does not hold it")
                left = f"; {rows_are(count, 'pending again')}" if count else ""
                _log.info("shard %d: %s is read%s", shard.number, path.name, left)
        if waiting := self.store.count_waiting():
            _log.info("%s", rows_are(waiting, "to be repaired: by the next submit, or live by a run"))

    async def run(self) -> None:
        """Take in what is done, and send what is to be repaired; with `wait` until nothing is open."""
        limits = self.limits
        pause, before = limits.first_look, self._left()
        while True:
            may_send = await self._look()
            if may_send:
                await self._send()
                await self._repair()
            left = self._left()
            is_waiting = bool(left) or (not may_send and self.store.count_waiting() > 0)
            if not self.order.wait or not is_waiting:
                break
            if [shard.number for shard in left] != [shard.number for shard in before]:
                pause, before = limits.first_look, left
            _log.info("looking again in %.0f s", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, limits.longest_look)
        raise_first(self.faults.values())

    def _left(self) -> list[Shard]:
        return [shard for shard in self.open() if shard.number not in self.faults]

    @contextlib.contextmanager
    def _going_on(self, number: int) -> Iterator[None]:
        """Keep a fault until all else was seen to; with `wait`, a failed connection is tried again."""
        try:
            yield
        except ModelError as error:
            if self.order.wait and isinstance(error, ConnectionFailedError):
                _log.info("%s", error)
            else:
                self.faults[number] = error

    async def _look(self) -> bool:
        """Take in what is done; return whether anything may be sent just now."""
        may_send = True
        for shard in self._left():
            if shard.batch is not None:
                with self._going_on(shard.number):
                    remote = await self.look(shard)
                    if remote.is_open:
                        _log.info("shard %d: %s", shard.number, remote.progress)
                    elif remote.status == "failed":
                        may_send = self.refuse(shard, remote) and may_send
                    else:
                        await self._take_in(shard, remote)
        return may_send

    async def _take_in(self, shard: Shard, remote: RemoteBatch) -> None:
        paths = await self.download(shard, remote)
        count = (await self._read(paths, {shard.key: shard})).get(shard.number, 0)
        # A line that cannot be read never can: its row is pending again, or waits to be repaired.
        is_whole = count + self.unreadable >= min(remote.done, shard.requests)
        if is_whole:
            reason = "" if remote.status == "cancelled" else f"the batch is {remote.status}"
            if self.unreadable:
                reason = f"unreadable in its results: {count_of(self.unreadable, 'line')}"
            rows = self.store.close_shard(shard, reason)
            left = f"; {rows_are(rows, 'pending again')}" if rows else ""
            message = f"batch {short_id(shard.batch)} is {remote.status}{left}"
        else:  # the others are paid, too
            message = (
                f"the provider counts {count_of(remote.done, 'answer')} and gave {count}: fetch again, or "
                f"let the others go with synopsis batch cancel --forget {shard.number}"
            )
        for path in paths:
            path.unlink(missing_ok=True)  # all of it is saved
        _log.info("shard %d: %s", shard.number, message)

    async def _send(self) -> None:
        for shard in self.unsent():
            if shard.number not in self.faults:
                with self._going_on(shard.number):
                    await self.send(shard)

    async def _repair(self) -> None:
        """Send repairs as a further shard; a few are made by live calls when all else is in."""
        count = self.store.count_waiting()
        if not count or _REPAIRS in self.faults or self.unsent():
            return
        with self._going_on(_REPAIRS):
            if count > self.order.live_below:
                _log.info("%s", rows_are(count, "to be repaired by a further batch"))
                for shard in self.write(self.store.waiting()):
                    await self.send(shard)
            elif not self.open():
                _log.info("%s", rows_are(count, "repaired by live calls"))
                await self._repair_live()

    async def _repair_live(self) -> None:
        self.writer.budget = self.budget()
        saver = replace(self.saver, unsaved=self.unsaved, records=False)
        rows = (row for row, _ in self.store.waiting())
        with self.stop.listening():
            make = partial(make_row, self.writer)
            await make_rows(rows, make, saver, self.order.concurrency, self.stop)
        if self.stop.is_set:
            raise KeyboardInterrupt

    async def _read(self, paths: Sequence[Path], shards: Mapping[str, Shard]) -> Mapping[int, int]:
        """Save the rows of files; return how many answers they hold of each shard, by its number.

        What was saved before is counted and left alone. A shard that only has lines without answers has 0.
        """
        answers: Counter[int] = Counter()
        self.unreadable = 0
        count = max(1, 2 * self.order.workers)  # so that no worker waits for its next text
        await run_concurrently(self._joined(paths, shards, answers), self._save, count)
        return answers

    def _joined(
        self, paths: Sequence[Path], shards: Mapping[str, Shard], answers: Counter[int]
    ) -> Iterator[_Joined]:
        """Yield each line with its row, once; a transient fault only where its row has no other line."""
        seen: set[tuple[int, int]] = set()
        transient: dict[tuple[int, int], tuple[_Joined, bool]] = {}
        for path in paths:
            ignored = 0
            for number, content in input_lines(path, MOST_BYTES, LONGEST_LINE):
                match = self._find(read_result(content), shards, seen)
                if isinstance(match, str):
                    ignored += 1
                    self.unreadable += match.startswith(UNREADABLE)
                    if ignored <= _MOST_IGNORED:
                        _log.info("%s: line %d is ignored: %s", path.name, number, match)
                    continue
                (shard, _, attempt, line), is_read = match
                answers[shard.number] += line.body is not None
                key = shard.number, attempt.place
                if line.is_transient:
                    transient[key] = match
                    continue
                seen.add(key)
                transient.pop(key, None)
                if not is_read:  # else it was saved before a kill
                    yield match[0]
            if ignored > _MOST_IGNORED:
                _log.info("%s: %d lines in all belong to no row, or to one that was read", path.name, ignored)
        yield from (joined for joined, is_read in transient.values() if not is_read)

    def _find(
        self, line: ResultLine | str, shards: Mapping[str, Shard], seen: AbstractSet[tuple[int, int]]
    ) -> tuple[_Joined, bool] | str:
        """Return a line with its row, and whether that was read already; or why it belongs to none."""
        if isinstance(line, str):
            return line
        shard = shards.get(line.key)
        match = self.store.find(shard, line.place) if shard else None
        if shard is None or match is None or match[1].number != line.number:
            return f"unknown request id '{line.id}'"
        row, attempt, is_read = match
        if (shard.number, line.place) in seen:
            return f"a second result for row {row.id}: the first one stays"
        return (shard, row, attempt, line), is_read

    async def _save(self, joined: _Joined) -> None:
        """Save what a line reports of a row."""
        shard, row, attempt, line = joined
        if line.body is None:
            with self.store.transaction():
                self.store.mark_read(shard, attempt.place)
                if line.is_transient:
                    self.store.requeue(row, attempt, line.reason)
                else:
                    self.store.fail(row, line.reason)
            return
        cost_of = self.pricer.cost
        try:
            answer = read_answer(line.body, "application/json", 0.0, self.resolved.model)
        except InvalidResponseError as fault:
            cost = cost_of(fault.usage) if fault.usage != Usage() else NO_COST  # they are paid
            result = RowResult(row.id, "failed", str(fault), usage=fault.usage, cost=cost)
            with self.store.transaction():
                self.store.mark_read(shard, attempt.place)
                self.store.save(result)
                if fault.is_transient:
                    self.store.requeue(row, attempt, str(fault))
                else:
                    self.saver.made(result, True)
            self.writer.record(row.brief, result)
            return
        answer = replace(answer, cost=cost_of(answer.usage, answer.model))
        judged = await self.writer.judge(
            row.brief, Attempt(attempt.number, answer, max_tokens=self.writer.settings.max_tokens)
        )
        result = RowResult.of(row.id, judged)
        with self.store.transaction():
            self.store.mark_read(shard, attempt.place)
            previous = self.saver.save(row, result)
            if previous is not None:
                flaw: Flaw = "withheld" if withheld_because(answer) else "cut" if answer.is_truncated else ""
                self.store.wait(NextAttempt(attempt.place, previous.number + 1, flaw))
