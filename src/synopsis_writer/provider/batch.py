"""Sends rows to a provider in shards, takes in their answers, and has them judged, saved and repaired."""

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from synopsis_writer import errors
from synopsis_writer.batch import run
from synopsis_writer.batch.briefs import BatchRow, digest_of
from synopsis_writer.batch.store import BatchStore, Counts, NextAttempt, Shard, read_batch, rows_are
from synopsis_writer.batch.variety import for_gate
from synopsis_writer.characters import count_of
from synopsis_writer.drafting import longer, repair_messages
from synopsis_writer.log import BATCH
from synopsis_writer.models import hosted, pricing, resolve, retry
from synopsis_writer.models.limits import Budget, check_prices, worst_case
from synopsis_writer.models.server import CAPABILITIES_FILE, DEFAULT_BASE_URL, host_of, look_up_key, server_of
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.provider import api
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import Environment, Settings
from synopsis_writer.storage.files import input_lines, replacing
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import NO_COST, Spent, Usage
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

_OURS = re.compile(r"([0-9a-f]{16})\.|\.synopsis-")  # a shard's, or one that a kill left half written

# A provider's codes for a faulty file, in OpenAI's words: the same file would be refused again. All else, as
# a full queue (`token_limit_exceeded`) or an empty account, is no fault of its rows.
_FILE_FAULTS = """
    duplicate_custom_id empty_batch empty_file invalid_custom_id invalid_json_line invalid_method
    invalid_request invalid_url missing_required_parameter model_mismatch model_not_found too_many_tasks
    url_mismatch
""".split()

_Joined = tuple[Shard, BatchRow, NextAttempt, api.ResultLine]
_MOST_RETURNS = 3  # of one repair, which goes out again by itself: so that it comes to an end
_MOST_TRIES = 2  # to make a batch, in one command
_MOST_IGNORED = 5  # lines of a file that belong to no row and are reported one by one
_REPAIRS = 0  # the key of a fault of the repairs: no shard has this number


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


async def submit_batch(
    order: run.Order,
    settings: Settings,
    environment: Environment,
    *,
    to_folder: Path | None = None,
    limits: api.Limits = api.LIMITS,
) -> Counts:
    """Send pending rows, and those to be repaired, to the provider, or write them `to_folder` for somebody else to run.

    Raises InputError, and ModelError where the provider refuses them or the budget is spent; earlier rows are sent.
    """
    resolved = _hosted(settings, environment, is_elsewhere=to_folder is not None)
    facts = run.facts_of(order, settings, resolved) | _examples_fact(settings)
    with run.open_store(order, settings, facts) as store:
        batch = _ProviderBatch(Fetch(order.out, log=False), store, resolved, settings, environment, limits)
        rows = islice(store.due(), order.limit)
        if to_folder is not None:
            for shard in batch.write(rows, to_folder):
                _say(shard, f"{count_of(shard.requests, 'request')} in {to_folder / shard.key}.jsonl")
            return store.counts()
        async with batch.connected():
            for shards in (batch.unsent(), batch.write(rows)):
                for shard in shards:
                    await batch.send(shard)
        return store.counts()


async def fetch_batch(
    fetch: Fetch, settings: Settings, environment: Environment, hooks: run.Hooks, limits: api.Limits = api.LIMITS
) -> Counts:
    """Take in what came back, and send what is to be repaired.

    Raises InputError, and ModelError where the provider failed for good at a shard, or the budget is spent: then
    all other shards were seen to, and the same call again goes on.
    """
    settings = _as_begun(fetch.out, settings)
    resolved = _hosted(settings, environment, is_elsewhere=fetch.from_file is not None)
    with BatchStore(fetch.out, run.made_with(settings, resolved) | _examples_fact(settings)) as store:
        counts = store.counts()
        hooks.begun(counts)
        if not store.shards() and not store.count_waiting():
            _log.info("no row is at a provider, and none waits to be repaired")
            return counts
        run.end_repairs(store, settings)
        batch = _ProviderBatch(fetch, store, resolved, settings, environment, limits, hooks)
        variety = run.open_variety(store, batch.writer, settings.disable) if fetch.variety else None
        fetched = replace(hooks, unsaved=lambda _: None)  # what cannot be saved is still at the provider
        batch.saver = run.RowSaver(store, batch.writer, variety, fetched, records=True)
        async with batch.writer, run.open_gate(batch.writer, fetch.workers, variety, hooks.stop):
            if fetch.from_file is not None:
                await batch.read_file(fetch.from_file)
            else:
                async with batch.connected():
                    await batch.work()
        return store.counts()


async def cancel_batch(
    out: Path,
    settings: Settings,
    environment: Environment,
    *,
    forget: Collection[int] = (),
    limits: api.Limits = api.LIMITS,
) -> None:
    """Ask the provider to end all open batches, and release shards that were never sent or that somebody else runs.

    With `forget`, the shards of these numbers are released at once, and no others: what the provider still makes of
    them is paid and lost. Raises InputError, and ModelError where the provider failed for good, after all other
    shards were seen to.
    """
    settings = _as_begun(out, settings)
    with BatchStore(out, {}) as store:
        known = {shard.number: shard for shard in store.shards()}
        if missing := [number for number in forget if number not in known]:
            others = ", ".join(map(str, known)) or "none"
            raise errors.SettingsError(f"shard {missing[0]} is not open: name one that is ({others})")
        # The others were never sent, or are somebody else's.
        sent = {number for number, shard in known.items() if shard.server and (shard.batch or shard.tried)}
        given_up = set(forget) or known.keys() - sent
        is_elsewhere = bool(forget) or len(given_up) == len(known)
        resolved = _hosted(settings, environment, is_elsewhere=is_elsewhere)
        batch = _ProviderBatch(Fetch(out, log=False), store, resolved, settings, environment, limits)
        for number in sorted(given_up):
            batch.release(known[number])
        if not is_elsewhere:
            async with batch.connected():
                for shard in batch.open():
                    with batch.going_on(shard.number):
                        await batch.cancel(shard)
            batch.raise_first()
        elif waiting := store.count_waiting():
            _log.info("%s", rows_are(waiting, "to be repaired: by batch submit, or live by batch run"))


@dataclass(eq=False)
class _ProviderBatch:
    """A batch of which parts are at a provider; a fault at one shard delays no other."""

    order: Fetch
    store: BatchStore
    resolved: resolve.ResolvedModel
    settings: Settings
    environment: Environment
    limits: api.Limits
    hooks: run.Hooks = field(default_factory=run.Hooks)
    saver: run.RowSaver = field(init=False)
    server: api.BatchServer = field(init=False)
    unreadable: int = 0  # lines of the results that were read last
    faults: dict[int, errors.ModelError] = field(default_factory=dict)  # by shard, which is left alone from then on

    def __post_init__(self) -> None:
        self.settings = for_gate(self.settings)
        self.writer = Writer(self.settings, environment=self.environment, log=self.order.log, command=BATCH)
        self.writer.model = self.resolved
        self.folder = self.order.out / "provider"  # files on their way
        self._base_url = self.resolved.base_url or DEFAULT_BASE_URL
        self._address = server_of(self._base_url)

    @cached_property
    def pricer(self) -> pricing.HostedPricer:
        """The prices of the provider's batches; raises InputError where the table of prices is broken."""
        prices = pricing.load_prices(self.settings, self.environment)
        return pricing.HostedPricer(self.resolved.model, self.resolved.base_url, prices, is_batch=True)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be connected to the provider in the block, with a folder for the files on their way."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)  # briefs and answers are not for everybody
        except OSError as error:
            raise errors.FileError(f"cannot make {errors.os_reason(error, self.folder)}: see to its folder") from error
        if self.folder.is_symlink():
            raise errors.FileError(f"{self.folder}: is a link: move it away, for what is sent and read goes there")
        self._sweep()
        policy = retry.RetryPolicy(self.settings.max_retries, self.settings.retry_seconds, self.limits.first_wait)
        key = look_up_key(host_of(self._base_url), self.environment)
        async with hosted.open_sdk(self._base_url, key.value, insecure=self.settings.insecure) as sdk:
            model = self.resolved.model
            self.server = api.BatchServer(sdk, self._address, model, policy, key.hint, self.limits)
            yield

    def _sweep(self) -> None:
        keys = {shard.key for shard in self.store.shards()}
        with contextlib.suppress(OSError):  # a file that cannot be removed stays
            for path in self.folder.iterdir():
                if (match := _OURS.match(path.name)) and match[1] not in keys:
                    path.unlink()

    def _budget(self) -> Budget:
        spent, reserved = self.store.counts().spent, [shard.worst for shard in self.store.shards()]
        return Budget(self.settings.budget, self.settings.max_tokens_total, spent=spent, reserved=reserved)

    def write(self, rows: Iterable[tuple[BatchRow, NextAttempt]], folder: Path | None = None) -> Iterator[Shard]:
        """Write requests into files within the provider's limits; yield each as a recorded shard.

        Raises BudgetSpentError after what the budget allows, and SettingsError as `check_prices`.
        """
        requests = self._requests(rows)
        request, fault = next(requests, None), None
        while request is not None:
            key, digest, size = secrets.token_hex(8), hashlib.sha256(), 0
            attempts: list[NextAttempt] = []
            worst = Spent()
            with replacing((folder or self.folder) / f"{key}.jsonl", private=True) as file:
                while request is not None:
                    attempt, body, cost = request
                    line = api.request_line(key, attempt, body)
                    is_full = len(attempts) == self.limits.requests
                    if attempts and (is_full or size + len(line) > self.limits.file_bytes):
                        break
                    digest.update(line)
                    size += file.write(line)
                    attempts.append(attempt)
                    worst += cost
                    try:
                        request = next(requests, None)
                    except errors.BudgetSpentError as error:
                        request, fault = None, error
            server = "" if folder else self._address
            yield self.store.begin_shard(key, server, digest.hexdigest(), worst, attempts)
        if fault is not None:
            raise fault

    def _requests(
        self, rows: Iterable[tuple[BatchRow, NextAttempt]]
    ) -> Iterator[tuple[NextAttempt, dict[str, Any], Spent]]:
        budget, model, server = self._budget(), self.resolved.model, self.resolved.server or ""
        check_prices(budget, self.pricer, model)
        capabilities = hosted.CapabilityStore(self.settings.cache / CAPABILITIES_FILE).find(server, model)
        schema = wire_schema(Synopsis)
        for row, attempt in rows:
            prompt, previous = self.writer.prompt(row.brief), self.store.previous(row, attempt)
            messages = repair_messages(self.writer.workspace.prompts, prompt, previous)
            limits = replace(resolve.limits_of(self.settings), service_tier=None)  # a batch has one of its own
            for _ in range(attempt.number - 1 if attempt.flaw == "cut" else 0):
                limits = longer(limits)
            worst = worst_case(self.pricer, messages, schema, limits)
            budget.reserve(worst)
            yield (attempt, hosted.chat_request(model, messages, schema, limits, capabilities, stream=False), worst)

    def open(self) -> list[Shard]:
        """Return the open shards, except those that somebody else runs; none may be at another provider."""
        shards = [shard for shard in self.store.shards() if shard.server]
        for shard in shards:
            if shard.server != self._address:
                raise errors.SettingsError(
                    f"shard {shard.number} is at {shard.server}, not at {self._address}: "
                    "name its server with --base-url"
                )
        return shards

    def unsent(self) -> list[Shard]:
        """Return the open shards that a kill or a fault left on their way."""
        return [shard for shard in self.open() if shard.batch is None]

    async def send(self, shard: Shard) -> None:
        """Upload a shard and make its batch, from the last step that is recorded."""
        path = self.folder / f"{shard.key}.jsonl"
        if shard.file is None:
            if not path.exists() or digest_of(path) != shard.digest:
                _say(shard, f"{path} is not what was written: {rows_are(self._close(shard), 'pending again')}")
                return
            shard = self.store.update_shard(shard, file=await self.server.upload(path))
        remote = await self._ensure(shard)
        self._update(shard, remote, batch=remote.id)
        path.unlink(missing_ok=True)
        requests = count_of(shard.requests, "request")
        _say(shard, f"{requests} in batch {api.shortened(remote.id)} at {self.server.host}")

    async def _ensure(self, shard: Shard) -> api.RemoteBatch:
        """Return the batch of an uploaded shard: the one that was made before, or a new one."""
        reason, file, tried = "", shard.file or "", shard.tried
        for creations_left in range(_MOST_TRIES if tried is None else 1, -1, -1):
            if tried is not None and (batch := await self.server.find(shard.key, file, tried)) is not None:
                return batch
            if creations_left:
                # Before it is asked: a kill from here on is unclear.
                self.store.update_shard(shard, tried=time.time() + self.limits.answer_seconds)
                try:
                    return await self.server.create(shard.key, file)
                except api.UnclearError as error:
                    reason = str(error)
                except errors.ModelError:
                    # A file that was refused may be gone there: it is uploaded again.
                    self.store.update_shard(shard, tried=None, file=None)
                    raise
                tried = time.time()
                self.store.update_shard(shard, tried=tried)
        raise errors.ConnectionFailedError(f"{reason}; the provider lists no such batch so far: run the same again")

    async def _look(self, shard: Shard, *, cancel: bool = False) -> api.RemoteBatch:
        batch = shard.batch or ""
        remote = await self.server.look(batch, self._missing(shard, batch), cancel=cancel)
        self._update(shard, remote)
        return remote

    async def cancel(self, shard: Shard) -> None:
        """Ask for the end of a shard's batch; release the shard where there is none."""
        if shard.batch is None:
            remote = None
            if shard.tried is not None and shard.file is not None:
                remote = await self.server.find(shard.key, shard.file, shard.tried)
            if remote is None:
                self.release(shard)
                return
            shard = self._update(shard, remote, batch=remote.id)
        remote = await self._look(shard)
        if remote.is_open and remote.status != "cancelling":
            try:
                await self._look(shard, cancel=True)
            except errors.RequestRefusedError:
                if (await self._look(shard)).is_open:
                    raise  # else it came to its end meanwhile
        _say(shard, "its batch is asked to end: fetch what is done by then")

    def _missing(self, shard: Shard, name: str) -> str:
        return (
            f"{self.server.host}: does not know '{api.shortened(name)}' of shard {shard.number}: use the key and "
            f"the project it was made with, or let it go with synopsis batch cancel --forget {shard.number}"
        )

    def _update(self, shard: Shard, remote: api.RemoteBatch, **more: str) -> Shard:
        state = {"status": remote.status, "done": remote.done, "failed": remote.failed or 0}
        return self.store.update_shard(shard, **state, expires=remote.expires_at, **more)

    def release(self, shard: Shard) -> None:
        """Release a shard: its rows are pending again."""
        _say(shard, f"released: {rows_are(self._close(shard), 'pending again')}")
        self._sweep()

    def _close(self, shard: Shard, reason: str = "") -> int:
        count = 0
        with self.store.transaction():
            for row, attempt in self.store.asked(shard):
                self._requeue(row, attempt, reason)
                count += 1
            self.store.update_shard(shard, is_open=0)
            self.store.execute("DELETE FROM asked WHERE shard = ?", shard.number)
        return count

    def _requeue(self, row: BatchRow, attempt: NextAttempt, reason: str = "") -> None:
        """Make a row without an answer pending again, for this `reason`; a repair fails when that happens too often."""
        attempt = replace(attempt, returns=attempt.returns + 1) if reason else attempt
        if attempt.number > 1 and attempt.returns >= _MOST_RETURNS:
            self._fail(row, f"came back without an answer {_MOST_RETURNS} times: {reason}")
        else:
            self.store.reopen(row, attempt)

    def _fail(self, row: BatchRow, reason: str) -> None:
        result = RowResult(row.id, "failed", reason)
        self.store.save(result)
        self.hooks.made(result, True)

    async def read_file(self, path: Path) -> None:
        """Take in results of files that somebody else ran; rows that are not in it are pending again."""
        shards = {shard.key: shard for shard in self.store.shards() if not shard.server}
        answers = await self._read([path], shards)
        if not answers:
            raise errors.FileError(f"{path}: holds no result of this batch's open files: name the file of its results")
        for shard in shards.values():
            if shard.number in answers:
                count = self._close(shard, f"{path.name} does not hold it")
                left = f"; {rows_are(count, 'pending again')}" if count else ""
                _say(shard, f"{path.name} is read{left}")
        if waiting := self.store.count_waiting():
            _log.info("%s", rows_are(waiting, "to be repaired: by the next submit, or live by a run"))

    async def work(self) -> None:
        """Take in what is done, and send what is to be repaired; with `wait` until nothing is open."""
        pause, before = self.limits.first_look, self._left()
        while True:
            if may_send := await self._take_in_done():
                for shard in self.unsent():
                    if shard.number not in self.faults:
                        with self.going_on(shard.number):
                            await self.send(shard)
                with self.going_on(_REPAIRS):
                    await self._repair()
            left = self._left()
            is_waiting = bool(left) or (not may_send and self.store.count_waiting() > 0)
            if not self.order.wait or not is_waiting:
                break
            if [shard.number for shard in left] != [shard.number for shard in before]:
                pause, before = self.limits.first_look, left
            _log.info("looking again in %.0f s", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self.limits.longest_look)
        self.raise_first()

    def _left(self) -> list[Shard]:
        return [shard for shard in self.open() if shard.number not in self.faults]

    @contextlib.contextmanager
    def going_on(self, number: int) -> Iterator[None]:
        """Hold back a fault until the other shards are done; with `wait`, a failed connection is tried again."""
        try:
            yield
        except errors.ModelError as error:
            if self.order.wait and isinstance(error, errors.ConnectionFailedError):
                _log.info("%s", error)
            else:
                self.faults[number] = error

    def raise_first(self) -> None:
        """Raise the first of the faults, if there is any, and log the others."""
        if self.faults:
            first, *others = self.faults.values()
            for fault in others:
                _log.warning("%s", fault)
            raise first

    async def _take_in_done(self) -> bool:
        """Return whether anything may be sent just now."""
        may_send = True
        for shard in self._left():
            if shard.batch is not None:
                with self.going_on(shard.number):
                    remote = await self._look(shard)
                    if remote.is_open:
                        counts = f": {remote.done} of {remote.total} done, {remote.failed or 0} failed"
                        state = f"{remote.status}{counts if remote.total is not None else ''}"
                        _say(shard, f"batch {api.shortened(remote.id)} is {state}")
                    elif remote.status == "failed":
                        may_send = self._refuse(shard, remote) and may_send
                    else:
                        await self._take_in(shard, remote)
        return may_send

    def _refuse(self, shard: Shard, remote: api.RemoteBatch) -> bool:
        """Be done with a shard that the provider's check refused; return whether others may be sent."""
        problems = remote.problems or []
        reasons = (f"line {each.line}: {each.text}" if each.line else each.text for each in problems[:3])
        reason = "; ".join(reasons) or "it does not say why"
        with self.store.transaction():
            failures = [
                (row, f"the provider refused it: {each.text}")
                for each in problems
                for row, _ in self.store.asked(shard, "line = ?", each.line or 0)
            ]
            if not failures and any(each.code in _FILE_FAULTS for each in problems):
                text = f"the provider refused the whole batch: {reason}"
                failures = [(row, text) for row, _ in self.store.asked(shard)]
            for row, text in failures:
                self.store.mark_read(shard, row.place)
                self._fail(row, text)
            count = self._close(shard)
        failed = f"{count_of(len(failures), 'row')} failed, {rows_are(count, 'pending again')}"
        _say(shard, f"batch {api.shortened(shard.batch)} was refused: {reason}: {failed}")
        return bool(failures)

    async def _take_in(self, shard: Shard, remote: api.RemoteBatch) -> None:
        paths: list[Path] = []
        for kind, file in (("output", remote.output_file_id), ("errors", remote.error_file_id)):
            if file:
                paths.append(path := self.folder / f"{shard.key}.{kind}.jsonl")
                if not path.exists():
                    await self.server.download(file, path, self._missing(shard, file), shard.requests)
        count = (await self._read(paths, {shard.key: shard})).get(shard.number, 0)
        # A line that cannot be read never can: its row is pending again, or waits to be repaired.
        if count + self.unreadable >= min(remote.done, shard.requests):
            reason = "" if remote.status == "cancelled" else f"the batch is {remote.status}"
            if self.unreadable:
                reason = f"unreadable in its results: {count_of(self.unreadable, 'line')}"
            rows = self._close(shard, reason)
            left = f"; {rows_are(rows, 'pending again')}" if rows else ""
            message = f"batch {api.shortened(shard.batch)} is {remote.status}{left}"
        else:  # the others are paid, too
            message = (
                f"the provider counts {count_of(remote.done, 'answer')} and gave {count}: fetch again, or "
                f"let the others go with synopsis batch cancel --forget {shard.number}"
            )
        for path in paths:
            path.unlink(missing_ok=True)  # all of it is saved
        _say(shard, message)

    async def _repair(self) -> None:
        count = self.store.count_waiting()
        if not count or _REPAIRS in self.faults or self.unsent():
            return
        if count > self.order.live_below:
            _log.info("%s", rows_are(count, "to be repaired by a further batch"))
            for shard in self.write(self.store.waiting()):
                await self.send(shard)
        elif not self.open():
            _log.info("%s", rows_are(count, "repaired by live calls"))
            self.writer.budget = self._budget()
            saver = replace(self.saver, hooks=self.hooks, records=False)
            make = partial(run.make_row, self.writer)
            await run.make_rows(self.store.waiting(), make, saver, self.order.concurrency)
            if self.hooks.stop.is_set:
                raise KeyboardInterrupt

    async def _read(self, paths: Sequence[Path], shards: Mapping[str, Shard]) -> Mapping[int, int]:
        answers: Counter[int] = Counter()
        self.unreadable = 0
        count = max(1, 2 * self.order.workers)  # so that no worker waits for its next text
        await run.run_concurrently(self._joined(paths, shards, answers), self._save, count)
        return answers

    def _joined(self, paths: Sequence[Path], shards: Mapping[str, Shard], answers: Counter[int]) -> Iterator[_Joined]:
        seen: set[tuple[int, int]] = set()
        transient: dict[tuple[int, int], _Joined] = {}
        for path in paths:
            ignored = 0
            for number, content in input_lines(path, api.MOST_BYTES, api.LONGEST_LINE):
                joined = self._find(api.read_result(content), shards, seen)
                if isinstance(joined, str):
                    ignored += 1
                    self.unreadable += joined.startswith(api.UNREADABLE)
                    if ignored <= _MOST_IGNORED:
                        _log.info("%s: line %d is ignored: %s", path.name, number, joined)
                    continue
                shard, row, _, line = joined
                answers[shard.number] += line.body is not None
                key = shard.number, row.place
                if line.is_transient:
                    transient[key] = joined
                else:
                    seen.add(key)
                    transient.pop(key, None)
                    yield joined
            if ignored > _MOST_IGNORED:
                _log.info("%s: %d lines in all belong to no row, or to one that was read", path.name, ignored)
        yield from transient.values()

    def _find(
        self, line: api.ResultLine | str, shards: Mapping[str, Shard], seen: Collection[tuple[int, int]]
    ) -> _Joined | str:
        if isinstance(line, str):
            return line
        shard = shards.get(line.key)
        asked = next(self.store.asked(shard, "place = ?", line.place), None) if shard else None
        if shard is None or asked is None or asked[1].number != line.number:
            return f"unknown request id '{line.id}'"
        if (shard.number, line.place) in seen:
            return f"a second result for row {asked[0].id}: the first one stays"
        return shard, *asked, line

    async def _save(self, joined: _Joined) -> None:
        """Save what a line reports of a row, unless that was done before a kill."""
        shard, row, attempt, line = joined
        if not any(self.store.asked(shard, "is_read = 0 AND place = ?", row.place)):
            return
        try:
            answer = line.answer(self.resolved.model)
        except retry.InvalidResponseError as fault:
            cost = self.pricer.cost(fault.usage) if fault.usage != Usage() else NO_COST  # they are paid
            result = RowResult(row.id, "failed", str(fault), usage=fault.usage, cost=cost)
            with self.store.transaction():
                self.store.mark_read(shard, row.place)
                self.store.save(result)
                if fault.is_transient:
                    self._requeue(row, attempt, str(fault))
                else:
                    self.hooks.made(result, True)
            if line.body is not None:
                self.writer.record(row.brief, result)
            return
        answer = replace(answer, cost=self.pricer.cost(answer.usage, answer.model))
        drafted = Attempt(attempt.number, answer, max_tokens=self.writer.settings.max_tokens)
        judged = await self.writer.judge(row.brief, drafted)
        with self.store.transaction():
            self.store.mark_read(shard, row.place)
            self.saver.save(row, RowResult.of(row.id, judged))


def _say(shard: Shard, message: str) -> None:
    _log.info("shard %d: %s", shard.number, message)


def _hosted(settings: Settings, environment: Environment, *, is_elsewhere: bool) -> resolve.ResolvedModel:
    """Return the chosen model, a server's; where nothing is sent it needs neither key nor address."""
    if is_elsewhere and settings.model is not None:
        address = settings.base_url or environment.get(resolve.ADDRESS) or "http://localhost/v1"  # has no list prices
        model = settings.model.removeprefix(resolve.SERVERS)
        return resolve.ResolvedModel("hosted", model, "named with --model or in the settings", address)
    resolved = resolve.resolve_model(settings, environment)
    if resolved.kind != "hosted":
        raise errors.SettingsError(
            f"the model '{resolved.model}' runs on this machine, which has no batch interface: "
            "use synopsis batch run, or name a hosted model with --model"
        )
    return resolved


def _as_begun(folder: Path, settings: Settings) -> Settings:
    """Return the settings with the model and the tokens of examples that a batch was begun with, unless set."""
    with read_batch(folder) as reader:
        facts = dict(reader.query("SELECT name, value FROM facts"))
    changes: dict[str, Any] = {} if settings.is_flag("model") or "model" not in facts else {"model": facts["model"]}
    tokens = re.search(r", (\d+) tokens", facts.get("examples", ""))
    if tokens and settings.example_tokens == Settings.model_fields["example_tokens"].default:
        changes["example_tokens"] = int(tokens[1])
    return settings.model_copy(update=changes)


def _examples_fact(settings: Settings) -> dict[str, str]:
    """Return which examples prompts show: a repair must be shown those of the row's first attempt."""
    named = settings.examples or settings.house
    pool = folder_hash(named) if named else "the house's"
    pinned = f", pinned {', '.join(settings.pinned)}" if settings.pinned else ""
    return {"examples": f"{pool}, {settings.example_tokens} tokens{pinned}"}
