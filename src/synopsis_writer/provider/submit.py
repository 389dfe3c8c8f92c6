"""Rows out to a provider: requests, files, batches; and calling them back."""

import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from synopsis_writer.batch.briefs import BatchRow, digest_of
from synopsis_writer.batch.run import Order, facts_of, open_store
from synopsis_writer.batch.store import Counts, NextAttempt, read_batch, rows_are
from synopsis_writer.batch.variety import for_gate
from synopsis_writer.characters import count_of
from synopsis_writer.drafting import longer, repair_messages
from synopsis_writer.errors import (
    BudgetSpentError,
    FileError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    os_reason,
)
from synopsis_writer.log import BATCH
from synopsis_writer.models.hosted import CapabilityStore, chat_request, open_sdk
from synopsis_writer.models.limits import Budget, check_prices, worst_case
from synopsis_writer.models.pricing import HostedPricer, load_prices
from synopsis_writer.models.resolve import ADDRESS, SERVERS, ResolvedModel, limits_of, resolve_model
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.models.server import CAPABILITIES_FILE, DEFAULT_BASE_URL, host_of, look_up_key, server_of
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.provider.api import (
    LIMITS,
    BatchServer,
    ProviderLimits,
    RemoteBatch,
    request_line,
    short_id,
)
from synopsis_writer.provider.shards import Shard, ShardStore, open_shards
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import replacing
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Spent
from synopsis_writer.writer import Writer

_OURS = re.compile(r"([0-9a-f]{16})\.|\.synopsis-")  # a shard's, or one that a kill left half written

# A provider's codes for a faulty file, in OpenAI's words: the same file would be refused again. All else, as
# a full queue (`token_limit_exceeded`) or an empty account, is no fault of its rows.
_FILE_FAULTS = """
    duplicate_custom_id empty_batch empty_file invalid_custom_id invalid_json_line invalid_method
    invalid_request invalid_url missing_required_parameter model_mismatch model_not_found too_many_tasks
    url_mismatch
""".split()

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class ProviderBatch:
    """A batch of which parts are at a provider: writes, sends, looks after and takes back its shards.

    `server` is there while `connected`; `log` records rows in the run log, too.
    """

    out: Path
    store: ShardStore
    resolved: ResolvedModel
    settings: Settings
    environment: Mapping[str, str]
    limits: ProviderLimits = LIMITS
    log: bool = False
    server: BatchServer = field(init=False)

    def __post_init__(self) -> None:
        self.settings = for_gate(self.settings)
        self.writer = Writer(self.settings, environment=self.environment, log=self.log, command=BATCH)
        self.writer.model = self.resolved
        self.folder = self.out / "provider"  # files on their way
        self._base_url = self.resolved.base_url or DEFAULT_BASE_URL
        self._address = server_of(self._base_url)

    @cached_property
    def pricer(self) -> HostedPricer:
        """The prices of the provider's batches; raises InputError where the table of prices is broken."""
        prices = load_prices(self.settings, self.environment)
        return HostedPricer(self.resolved.model, self.resolved.base_url, prices, is_batch=True)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be connected to the provider in the block, with a folder for the files on their way."""
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)  # briefs and answers are not for everybody
        except OSError as error:
            raise FileError(f"cannot make {os_reason(error, self.folder)}: see to its folder") from error
        if self.folder.is_symlink():
            raise FileError(f"{self.folder}: is a link: move it away, for what is sent and read goes there")
        self.sweep()
        retry = RetryPolicy(self.settings.max_retries, self.settings.retry_seconds, self.limits.first_wait)
        key = look_up_key(host_of(self._base_url), self.environment)
        async with open_sdk(self._base_url, key.value, insecure=self.settings.insecure) as sdk:
            model = self.resolved.model
            self.server = BatchServer(sdk, self._address, model, retry, key.hint, self.limits)
            yield

    def sweep(self) -> None:
        """Remove the files that belong to no open shard; one that cannot be removed stays."""
        keys = {shard.key for shard in open_shards(self.store)}
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                match = _OURS.match(path.name)
                if match and match[1] not in keys:
                    path.unlink()

    def budget(self) -> Budget:
        """Return a ledger of what was spent, and of the most that open shards may cost."""
        spent, reserved = self.store.counts().spent, [shard.worst for shard in open_shards(self.store)]
        return Budget(self.settings.budget, self.settings.max_tokens_total, spent=spent, reserved=reserved)

    def write(
        self, rows: Iterable[tuple[BatchRow, NextAttempt]], folder: Path | None = None
    ) -> Iterator[Shard]:
        """Write the requests of rows into files within the provider's limits; yield each as a recorded shard.

        They are for the provider, or in `folder` for somebody else to run.

        Raises:
            BudgetSpentError: the budget allows no more requests; what it allowed was yielded.
            SettingsError: it cannot be held with the prices that are known.
        """
        requests = self._requests(rows)
        request = next(requests, None)
        while isinstance(request, tuple):
            key, digest, size = secrets.token_hex(8), hashlib.sha256(), 0
            attempts: list[NextAttempt] = []
            worst = Spent()
            with replacing(shard_file(folder or self.folder, key), private=True) as file:
                while isinstance(request, tuple):
                    attempt, body, cost = request
                    line = request_line(key, attempt, body)
                    is_full = len(attempts) == self.limits.requests
                    if attempts and (is_full or size + len(line) > self.limits.file_bytes):
                        break
                    file.write(line)
                    digest.update(line)
                    size += len(line)
                    attempts.append(attempt)
                    worst += cost
                    request = next(requests, None)
            server = "" if folder else self._address
            yield self.store.begin(key, server, digest.hexdigest(), worst, attempts)
        if request is not None:
            raise request

    def _requests(
        self, rows: Iterable[tuple[BatchRow, NextAttempt]]
    ) -> Iterator[tuple[NextAttempt, dict[str, Any], Spent] | BudgetSpentError]:
        """Yield body and highest cost of each row's request, the same as a live call's, once it is reserved.

        Where the next one could exceed the budget, the last is that error.
        """
        budget, model = self.budget(), self.resolved.model
        check_prices(budget, self.pricer, model)
        store = CapabilityStore(self.settings.cache / CAPABILITIES_FILE)
        capabilities = store.find(self.resolved.server or "", model)
        schema = wire_schema(Synopsis)
        for row, attempt in rows:
            prompt, previous = self.writer.prompt(row.brief), self.store.previous(row.id, attempt)
            messages = repair_messages(self.writer.workspace.prompts, prompt, previous)
            limits = replace(limits_of(self.settings), service_tier=None)  # a batch is a tier of its own
            for _ in range(attempt.number - 1 if attempt.flaw == "cut" else 0):
                limits = longer(limits)
            worst = worst_case(self.pricer, messages, schema, limits)
            try:
                budget.reserve(worst)
            except BudgetSpentError as error:
                yield error
                return
            yield attempt, chat_request(model, messages, schema, limits, capabilities, stream=False), worst

    def open(self) -> list[Shard]:
        """Return the open shards, except those that somebody else runs; none may be at another provider."""
        shards = [shard for shard in open_shards(self.store) if shard.server]
        for shard in shards:
            if shard.server != self._address:
                raise SettingsError(
                    f"shard {shard.number} is at {shard.server}, not at {self._address}: "
                    "name its server with --base-url"
                )
        return shards

    def unsent(self) -> list[Shard]:
        """Return the open shards that a kill or a fault left on their way."""
        return [shard for shard in self.open() if shard.batch is None]

    async def send(self, shard: Shard) -> None:
        """Upload a shard and make its batch, from the last step that is recorded."""
        path = shard_file(self.folder, shard.key)
        if shard.file is None:
            if not path.exists() or digest_of(path) != shard.digest:
                count = self.store.close_shard(shard)
                message = "shard %d: %s is not what was written: %s"
                _log.info(message, shard.number, path, rows_are(count, "pending again"))
                return
            shard = self.store.record(shard, file=await self.server.upload(path))

        def record(tried: float | None) -> None:
            # A file that was refused may be gone there: it is uploaded again.
            self.store.record(shard, **({"tried": tried} if tried else {"tried": None, "file": None}))

        remote = await self.server.ensure(shard.key, shard.file or "", shard.tried, record)
        self._update(shard, remote, batch=remote.id)
        path.unlink(missing_ok=True)
        requests, batch = count_of(shard.requests, "request"), short_id(remote.id)
        _log.info("shard %d: %s in batch %s at %s", shard.number, requests, batch, self.server.host)

    async def look(self, shard: Shard) -> RemoteBatch:
        """Ask for the state of a shard's batch, and record it."""
        batch = shard.batch or ""
        remote = await self.server.look(batch, self._missing(shard, batch))
        self._update(shard, remote)
        return remote

    async def cancel(self, shard: Shard) -> bool:
        """Ask for the end of a shard's batch; return whether there is one."""
        if shard.batch is None:
            remote = None
            if shard.tried is not None and shard.file is not None:
                remote = await self.server.find(shard.key, shard.file, shard.tried)
            if remote is None:
                return False
            shard = self._update(shard, remote, batch=remote.id)
        if (await self.look(shard)).is_being_worked_off:
            batch = shard.batch or ""
            try:
                self._update(shard, await self.server.cancel(batch, self._missing(shard, batch)))
            except RequestRefusedError:
                if (await self.look(shard)).is_being_worked_off:
                    raise  # else it came to its end meanwhile
        return True

    def _missing(self, shard: Shard, name: str) -> str:
        return (
            f"{self.server.host}: does not know '{short_id(name)}' of shard {shard.number}: use the key and "
            f"the project it was made with, or let it go with synopsis batch cancel --forget {shard.number}"
        )

    def _update(self, shard: Shard, remote: RemoteBatch, **more: str) -> Shard:
        counts = {"done": remote.done, "failed": remote.failed or 0}
        return self.store.record(shard, status=remote.status, expires=remote.expires_at, **counts, **more)

    async def download(self, shard: Shard, remote: RemoteBatch) -> list[Path]:
        """Return the result files of a batch; one that is there is not downloaded again."""
        paths: list[Path] = []
        for kind, file in (("output", remote.output_file_id), ("errors", remote.error_file_id)):
            if file:
                path = self.folder / f"{shard.key}.{kind}.jsonl"
                if not path.exists():
                    await self.server.download(file, path, self._missing(shard, file), shard.requests)
                paths.append(path)
        return paths

    def refuse(self, shard: Shard, remote: RemoteBatch) -> bool:
        """Be done with a shard that the provider's check refused; return whether others may be sent.

        A row that the provider names has failed, and so have all where it names none and the file is at
        fault: it would be refused again. Else they are pending again, and others would be refused, too.
        """
        problems = remote.problems or []
        reasons = (f"line {each.line}: {each.text}" if each.line else each.text for each in problems[:3])
        reason = "; ".join(reasons) or "it does not say why"
        with self.store.transaction():
            named = [(each, self.store.row_at(shard, each.line)) for each in problems if each.line]
            failures = [(row, f"the provider refused it: {each.text}") for each, row in named if row]
            if not failures and any(each.code in _FILE_FAULTS for each in problems):
                text = f"the provider refused the whole batch: {reason}"
                failures = [(row, text) for row, _ in self.store.unread(shard)]
            for row, text in failures:
                self.store.mark_read(shard, row.place)
                self.store.fail(row, text)
            count = self.store.close_shard(shard)
        failed = f"{count_of(len(failures), 'row')} failed, {rows_are(count, 'pending again')}"
        _log.info(
            "shard %d: batch %s was refused: %s: %s", shard.number, short_id(shard.batch), reason, failed
        )
        return bool(failures)

    def release(self, shard: Shard) -> None:
        """Let a shard go: its rows are pending again."""
        count = self.store.close_shard(shard)
        self.sweep()
        _log.info("shard %d: released: %s", shard.number, rows_are(count, "pending again"))


async def submit_batch(
    order: Order,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    to_folder: Path | None = None,
    limits: ProviderLimits = LIMITS,
) -> Counts:
    """Send the rows that are pending, and those that wait to be repaired, to the provider.

    Of the order, `concurrency`, `rpm`, `tpm`, `workers` and `variety` mean nothing here. With `to_folder` the
    files are written into it and nothing is sent: somebody else runs them.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the provider does not take it, or the budget is spent; what was sent before is out.
    """
    resolved = hosted(settings, environment, is_elsewhere=to_folder is not None)
    facts = facts_of(order, settings, resolved) | examples_fact(settings)
    with open_store(ShardStore, order, settings, facts) as store:
        batch = ProviderBatch(order.out, store, resolved, settings, environment, limits)
        first_drafts = ((row, NextAttempt(row.place)) for row in store.pending())
        rows = islice(chain(store.waiting(), first_drafts), order.limit)
        if to_folder is not None:
            for shard in batch.write(rows, to_folder):
                requests, path = count_of(shard.requests, "request"), shard_file(to_folder, shard.key)
                _log.info("shard %d: %s in %s", shard.number, requests, path)
            return store.counts()
        async with batch.connected():
            for shard in chain(batch.unsent(), batch.write(rows)):
                await batch.send(shard)
        return store.counts()


async def cancel_batch(
    out: Path,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    forget: Collection[int] = (),
    limits: ProviderLimits = LIMITS,
) -> None:
    """Ask for the end of all open batches; what is done by then is fetched all the same.

    Shards that were never sent, or that somebody else runs, are released at once. With `forget`, the shards
    of these numbers are, and no others: what the provider still makes of them is paid and lost.

    Raises:
        InputError: the folder holds no batch, or no such shard.
        ModelError: the provider failed for good, after all other shards were seen to.
    """
    settings = as_begun(out, settings)
    with ShardStore(out, {}) as store:
        known = {shard.number: shard for shard in open_shards(store)}
        if missing := [number for number in forget if number not in known]:
            others = ", ".join(map(str, known)) or "none"
            raise SettingsError(f"shard {missing[0]} is not open: name one that is ({others})")
        is_asked = any(map(_is_at_provider, known.values()))
        resolved = hosted(settings, environment, is_elsewhere=bool(forget) or not is_asked)
        batch = ProviderBatch(out, store, resolved, settings, environment, limits)
        for shard in known.values():
            if shard.number in forget or not (forget or _is_at_provider(shard)):
                batch.release(shard)
        if forget or not open_shards(store):
            if waiting := store.count_waiting():
                way_out = "to be repaired: by batch submit, or live by batch run"
                _log.info("%s", rows_are(waiting, way_out))
            return
        faults: list[ModelError] = []
        async with batch.connected():
            for shard in batch.open():
                try:
                    if not await batch.cancel(shard):
                        batch.release(shard)
                        continue
                    _log.info("shard %d: its batch is asked to end: fetch what is done by then", shard.number)
                except ModelError as error:
                    faults.append(error)
        raise_first(faults)


def raise_first(faults: Collection[ModelError]) -> None:
    """Raise the first of some faults, if there is any, and log the others."""
    if faults:
        first, *others = faults
        for fault in others:
            _log.warning("%s", fault)
        raise first


def _is_at_provider(shard: Shard) -> bool:
    """Whether a provider may work on it."""
    return bool(shard.server) and (shard.batch is not None or shard.tried is not None)


def shard_file(folder: Path, key: str) -> Path:
    """Return the file of a shard's requests."""
    return folder / f"{key}.jsonl"


def hosted(settings: Settings, environment: Mapping[str, str], *, is_elsewhere: bool) -> ResolvedModel:
    """Return the chosen model, which must be a server's.

    Where nothing is sent, for it is made elsewhere, a model that is named needs neither key nor address.
    """
    if is_elsewhere and settings.model is not None:
        address = settings.base_url or environment.get(ADDRESS) or "http://localhost/v1"  # has no list prices
        return ResolvedModel(
            "hosted", settings.model.removeprefix(SERVERS), "named with --model or in the settings", address
        )
    resolved = resolve_model(settings, environment)
    if resolved.kind != "hosted":
        raise SettingsError(
            f"the model '{resolved.model}' runs on this machine, which has no batch interface: "
            "use synopsis batch run, or name a hosted model with --model"
        )
    return resolved


def as_begun(folder: Path, settings: Settings) -> Settings:
    """Return the settings with the model and the examples' tokens that a batch was begun with.

    A flag goes before the model, and tokens that are set before the tokens: only a default may have changed.
    """
    with read_batch(folder) as reader:
        facts = dict(reader.query("SELECT name, value FROM facts"))
    changes: dict[str, Any] = {}
    if "model" in facts and not settings.is_flag("model"):
        changes["model"] = facts["model"]
    tokens = re.search(r", (\d+) tokens", facts.get("examples", ""))
    if tokens and settings.example_tokens == Settings.model_fields["example_tokens"].default:
        changes["example_tokens"] = int(tokens[1])
    return settings.model_copy(update=changes)


def examples_fact(settings: Settings) -> dict[str, str]:
    """Return which examples prompts show: a repair must be shown those of the row's first attempt."""
    named = settings.examples or settings.house
    pool = folder_hash(named) if named else "the house's"
    pinned = f", pinned {', '.join(settings.pinned)}" if settings.pinned else ""
    return {"examples": f"{pool}, {settings.example_tokens} tokens{pinned}"}
