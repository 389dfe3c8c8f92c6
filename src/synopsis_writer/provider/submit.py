"""Rows out to a provider: requests, files, batches; and calling them back."""

import contextlib
import hashlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from synopsis_writer.batch.briefs import BatchRow, read_briefs
from synopsis_writer.batch.run import Order, begin_anew, end_repairs, facts_of
from synopsis_writer.batch.store import BatchStore, Counts, NextAttempt, read_batch
from synopsis_writer.batch.variety import for_gate
from synopsis_writer.drafting import longer, repair_messages
from synopsis_writer.errors import (
    BudgetSpentError,
    FileError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    os_reason,
)
from synopsis_writer.models.hosted import CAPABILITIES_FILE, CapabilityStore, chat_request
from synopsis_writer.models.limits import Budget, check_prices, worst_case
from synopsis_writer.models.pricing import HostedPricer, load_prices
from synopsis_writer.models.resolve import ADDRESS, ResolvedModel, limits_of, resolve_model
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.provider.api import (
    ANSWER_SECONDS,
    BatchServer,
    RemoteBatch,
    open_batch_server,
    request_id,
    request_line,
)
from synopsis_writer.provider.shards import Shard, Shards
from synopsis_writer.result import RowResult
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import replacing
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Spent
from synopsis_writer.writer import Writer

FOLDER = "provider"  # in the batch's folder: files on their way

_OURS = re.compile(r"([0-9a-f]{16})\.|\.synopsis-")  # a shard's, or one that a kill left half written

_NO_PROVIDER = "http://localhost/v1"  # an address without list prices

# What a provider's check says of a file, in OpenAI's words: the same file would be refused again. All else,
# as a full queue (`token_limit_exceeded`) or an empty account, is no fault of its rows.
_FILE_FAULTS = frozenset(
    {
        "duplicate_custom_id",
        "empty_batch",
        "empty_file",
        "invalid_custom_id",
        "invalid_json_line",
        "invalid_method",
        "invalid_request",
        "invalid_url",
        "missing_required_parameter",
        "model_mismatch",
        "model_not_found",
        "too_many_tasks",
        "url_mismatch",
    }
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProviderLimits:
    """What a provider takes, and how long it is waited for.

    Attributes:
        requests: requests in a file at most.
        file_bytes: bytes of a file at most; a request that alone has more gets a file of its own.
        settle_seconds: seconds after which a batch that was made appears in the provider's list.
        first_look: seconds to the second look at an open batch; each further wait is half as long again.
        longest_look: seconds between two looks at most.
        answer_seconds: seconds to wait for one answer; a file has longer.
        first_wait: seconds before a call is retried, about; each further wait doubles.
    """

    # OpenAI's limits of a file. 200 MB are taken as the smaller of two readings.
    requests: int = 50_000
    file_bytes: int = 200_000_000
    settle_seconds: float = 30.0
    first_look: float = 5.0
    longest_look: float = 60.0
    answer_seconds: float = ANSWER_SECONDS
    first_wait: float = RetryPolicy.first_wait


LIMITS = ProviderLimits()


@dataclass(frozen=True)
class Request:
    """One request: what is asked of which row, its body, and the most it may cost."""

    attempt: NextAttempt
    body: Mapping[str, Any]
    worst: Spent


class ProviderBatch:
    """A batch of which parts are at a provider: writes, sends, looks after and takes back its shards.

    `made` is told of each row that failed for good, and that it is done with.
    """

    def __init__(
        self,
        folder: Path,
        store: BatchStore,
        resolved: ResolvedModel,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        made: Callable[[RowResult[str], bool], None] = lambda *_: None,
        limits: ProviderLimits = LIMITS,
    ) -> None:
        self.store, self.resolved, self.limits = store, resolved, limits
        self.settings, self.environment = for_gate(settings), environment
        self.writer = Writer(self.settings, environment=environment, log=False)
        self.shards = Shards(store, made)
        self.folder = folder / FOLDER
        self._server: BatchServer | None = None

    @cached_property
    def pricer(self) -> HostedPricer:
        """The prices of the provider's batches; raises InputError where the table of prices is broken."""
        prices = load_prices(self.settings, self.environment)
        return HostedPricer(self.resolved.model, self.resolved.base_url, prices, is_batch=True)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be connected to the provider in the block, with a folder for the files on their way.

        Raises:
            InputError: the folder cannot be made, or the address cannot be used.
        """
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)  # briefs and answers are not for everybody
        except OSError as error:
            raise FileError(f"cannot make {os_reason(error, self.folder)}: see to its folder") from error
        self.sweep()
        retry = RetryPolicy(self.settings.max_retries, self.settings.retry_seconds, self.limits.first_wait)
        async with open_batch_server(
            self.resolved,
            self.settings,
            self.environment,
            retry,
            answer_seconds=self.limits.answer_seconds,
            settle_seconds=self.limits.settle_seconds,
        ) as self._server:
            yield

    @property
    def server(self) -> BatchServer:
        """The provider, while `connected`."""
        if self._server is None:
            raise RuntimeError("not connected")
        return self._server

    def sweep(self) -> None:
        """Remove the files that belong to no open shard; one that cannot be removed stays."""
        keys = {shard.key for shard in self.shards.open()}
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                match = _OURS.match(path.name)
                if match and match[1] not in keys:
                    path.unlink()

    def budget(self) -> Budget:
        """Return a ledger of what was spent, and of the most that open shards may cost."""
        counts = self.store.counts()
        spent = Spent(counts.cost, counts.usage.prompt_tokens + counts.usage.completion_tokens)
        reserved = [shard.worst for shard in self.shards.open()]
        return Budget(self.settings.budget, self.settings.max_tokens_total, spent=spent, reserved=reserved)

    def requests(self, rows: Iterable[tuple[BatchRow, NextAttempt]]) -> Iterator[Request]:
        """Yield the request of each row, the same as a live call makes; each is reserved in the budget.

        Raises:
            SettingsError: the budget cannot be kept with the prices that are known.
            BudgetSpentError: the next one could exceed the budget.
        """
        budget = self.budget()
        check_prices(budget, self.pricer, self.resolved.model)
        capabilities = CapabilityStore(self.settings.cache / CAPABILITIES_FILE)
        dialect = capabilities.find(self.resolved.server or "", self.resolved.model)
        schema = wire_schema(Synopsis)
        for row, attempt in rows:
            prompt = self.writer.prompt(row.brief)
            previous = self.store.previous(row.id, attempt)
            messages = repair_messages(self.writer.workspace.prompts, prompt, previous)
            limits = limits_of(self.settings)
            for _ in range(attempt.number - 1 if attempt.flaw == "cut" else 0):
                limits = longer(limits)
            body = chat_request(self.resolved.model, messages, schema, limits, dialect, stream=False)
            worst = worst_case(self.pricer, messages, schema, limits)
            budget.reserve(worst)
            yield Request(attempt, body, worst)

    def write(
        self, rows: Iterable[tuple[BatchRow, NextAttempt]], folder: Path | None = None
    ) -> Iterator[Shard]:
        """Write the requests of rows into files within the provider's limits; yield each as a recorded shard.

        Args:
            rows: what is asked; one is taken when there is room for it.
            folder: where the files go for somebody else to run; None writes them for the provider.

        Raises:
            BudgetSpentError: the budget allows no more requests; what it allowed was yielded.
            FileError: a file cannot be written.
        """
        server = self.server.server if folder is None else ""
        requests = self.requests(rows)
        request = next(requests, None)
        spent: BudgetSpentError | None = None
        while request is not None:
            key, digest, size = secrets.token_hex(8), hashlib.sha256(), 0
            attempts: list[NextAttempt] = []
            worst = Spent()
            with replacing(shard_file(folder or self.folder, key)) as file:
                while request is not None:
                    line = request_line(request_id(key, request.attempt), request.body)
                    is_full = len(attempts) == self.limits.requests
                    if attempts and (is_full or size + len(line) > self.limits.file_bytes):
                        break
                    file.write(line)
                    digest.update(line)
                    size += len(line)
                    attempts.append(request.attempt)
                    worst += request.worst
                    try:
                        request = next(requests, None)
                    except BudgetSpentError as error:
                        request, spent = None, error
            shard = Shard(0, key, server, digest.hexdigest(), len(attempts), worst)
            yield self.shards.begin(shard, attempts)
        if spent is not None:
            raise spent

    def open(self) -> list[Shard]:
        """Return the open shards, except those that somebody else runs.

        Raises:
            SettingsError: one of them is at another provider.
        """
        shards = [shard for shard in self.shards.open() if shard.server]
        for shard in shards:
            if shard.server != self.server.server:
                raise SettingsError(
                    f"shard {shard.number} is at {shard.server}, not at {self.server.server}: "
                    "name its server with --base-url"
                )
        return shards

    def unsent(self) -> list[Shard]:
        """Return the open shards that a kill or a fault left on their way."""
        return [shard for shard in self.open() if shard.batch is None]

    async def send(self, shard: Shard) -> None:
        """Upload a shard and make its batch, from the last step that is recorded.

        Raises:
            ModelError: the provider does not take it; the same again goes on with it.
            FileError: its file cannot be read.
        """
        path = shard_file(self.folder, shard.key)
        if shard.file is None:
            if not _is_whole(path, shard):
                count = self.shards.close(shard)
                _log.info(
                    "shard %d: %s is not what was written: %d rows are pending again",
                    shard.number,
                    path,
                    count,
                )
                return
            shard = self.shards.update(shard, file=await self.server.upload(path))

        def record(tried: float | None) -> None:
            # A file that was refused may be gone there: it is uploaded anew.
            self.shards.update(shard, **({"tried": tried} if tried else {"tried": None, "file": None}))

        remote = await self.server.ensure(shard.key, shard.file or "", shard.tried, record)
        self._update(shard, remote, batch=remote.id)
        path.unlink(missing_ok=True)
        _log.info(
            "shard %d: %d requests in batch %s at %s",
            shard.number,
            shard.requests,
            remote.id,
            self.server.host,
        )

    async def look(self, shard: Shard) -> RemoteBatch:
        """Ask for the state of a shard's batch, and record it."""
        batch = shard.batch or ""
        remote = await self.server.look(batch, self._missing(shard, batch))
        self._update(shard, remote)
        return remote

    async def cancel(self, shard: Shard) -> bool:
        """Ask for the end of a shard's batch; return whether there is one."""
        if shard.batch is None:
            if shard.tried is None or shard.file is None:
                return False
            remote = await self.server.find(shard.key, shard.file, shard.tried)
            if remote is None:
                return False
            self._update(shard, remote, batch=remote.id)
            shard = replace(shard, batch=remote.id)
        remote = await self.look(shard)
        if remote.is_being_worked_off:
            batch = shard.batch or ""
            try:
                self._update(shard, await self.server.cancel(batch, self._missing(shard, batch)))
            except RequestRefusedError:
                if (await self.look(shard)).is_being_worked_off:
                    raise  # else it came to its end meanwhile
        return True

    def _missing(self, shard: Shard, name: str) -> str:
        return (
            f"{self.server.host}: does not know '{name}' of shard {shard.number}: use the key and the "
            f"project it was made with, or let it go with synopsis batch cancel --forget {shard.number}"
        )

    def _update(self, shard: Shard, remote: RemoteBatch, **values: str) -> None:
        self.shards.update(
            shard,
            status=remote.status,
            done=remote.done,
            failed=remote.failed,
            expires=remote.expires_at,
            **values,
        )

    async def download(self, shard: Shard, remote: RemoteBatch) -> list[Path]:
        """Return the result files of a batch; one that is there is not downloaded again."""
        paths: list[Path] = []
        for kind, file in (("output", remote.output_file_id), ("errors", remote.error_file_id)):
            if file:
                path = self.folder / f"{shard.key}.{kind}.jsonl"
                if not path.exists():
                    await self.server.download(file, path, self._missing(shard, file))
                paths.append(path)
        return paths

    def refuse(self, shard: Shard, remote: RemoteBatch) -> bool:
        """Be done with a shard that the provider's check refused; return whether others may be sent.

        A row that the provider names has failed, and so have all where it names none and the file is at
        fault: it would be refused again. Else they are pending again, and others would be refused, too.
        """
        problems = remote.problems
        reasons = (f"line {line}: {text}" if line else text for line, _, text in problems[:3])
        reason = "; ".join(reasons) or "it does not say why"
        failures: list[tuple[BatchRow, str]] = []
        with self.store.transaction():
            for line, _, text in problems:
                if line and (match := self.shards.at_line(shard, line)) is not None:
                    failures.append((match[0], f"the provider refused it: {text}"))
            if not failures and any(code in _FILE_FAULTS for _, code, _ in problems):
                text = f"the provider refused the whole batch: {reason}"
                failures += [(row, text) for row, _ in self.shards.unread(shard)]
            for row, text in failures:
                self.shards.mark_read(shard, row.place)
                self.shards.fail(row, text)
            count = self.shards.close(shard)
        _log.info(
            "shard %d: batch %s was refused: %s: %d rows failed, %d are pending again",
            shard.number,
            remote.id,
            reason,
            len(failures),
            count,
        )
        return bool(failures)

    def release(self, shard: Shard) -> None:
        """Let a shard go: its rows are pending again."""
        count = self.shards.close(shard)
        self.sweep()
        _log.info("shard %d: let go: %d rows are pending again", shard.number, count)


async def submit_batch(
    order: Order,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    begun: Callable[[Counts], None] = lambda _: None,
    to_folder: Path | None = None,
    limits: ProviderLimits = LIMITS,
) -> Counts:
    """Send the rows that are pending, and those that wait to be repaired, to the provider.

    Args:
        order: what is to be made; `concurrency`, `rpm`, `tpm`, `workers` and `variety` mean nothing here.
        settings: all settings.
        environment: where the key stands.
        begun: is told how far the batch is before anything is sent.
        to_folder: write the files into it and send nothing: somebody else runs them.
        limits: what the provider takes.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the provider does not take it, or the budget is spent; what was sent before is out.
    """
    resolved = hosted(settings, environment, is_elsewhere=to_folder is not None)
    facts = facts_of(order, settings, resolved) | examples_fact(settings)
    if order.fresh:
        begin_anew(order)
    with BatchStore(order.out, facts) as store:
        store.fill(read_briefs(order.briefs))
        store.retry(order.retry)
        begun(store.counts())
        end_repairs(store, settings)
        batch = ProviderBatch(order.out, store, resolved, settings, environment, limits=limits)
        first_drafts = ((row, NextAttempt(row.place)) for row in store.pending())
        rows = islice(chain(store.waiting(), first_drafts), order.limit)
        if to_folder is not None:
            for shard in batch.write(rows, to_folder):
                path = shard_file(to_folder, shard.key)
                _log.info("shard %d: %d requests in %s", shard.number, shard.requests, path)
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

    Shards that were never sent, or that somebody else runs, are let go at once.

    Args:
        out: the batch's folder.
        settings: all settings.
        environment: where the key stands.
        forget: let the shards of these numbers go without asking the provider, and no others; what it still
            makes of them is paid and lost.
        limits: how long the provider is waited for.

    Raises:
        InputError: the folder holds no batch, or no such shard.
        ModelError: the provider failed for good, after all other shards were seen to.
    """
    settings = as_begun(out, settings)
    with BatchStore(out, {}) as store:
        is_asked = any(_is_at_provider(shard) for shard in Shards(store, lambda *_: None).open())
        resolved = hosted(settings, environment, is_elsewhere=bool(forget) or not is_asked)
        batch = ProviderBatch(out, store, resolved, settings, environment, limits=limits)
        for shard in _chosen(batch.shards.open(), forget):
            if forget or not _is_at_provider(shard):
                batch.release(shard)
        if forget or not batch.shards.open():
            if waiting := store.count_waiting():
                _log.info(
                    "%d rows wait to be repaired: batch submit sends them, batch run repairs them live",
                    waiting,
                )
            return
        faults: list[ModelError] = []
        async with batch.connected():
            for shard in batch.open():
                try:
                    if await batch.cancel(shard):
                        number = shard.number
                        _log.info("shard %d: its batch is asked to end: fetch what is done by then", number)
                    else:
                        batch.release(shard)
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


def _chosen(shards: list[Shard], numbers: Collection[int]) -> list[Shard]:
    known = {shard.number: shard for shard in shards}
    for number in numbers:
        if number not in known:
            others = ", ".join(map(str, known)) or "none"
            raise SettingsError(f"shard {number} is not open: name one that is ({others})")
    return [known[number] for number in dict.fromkeys(numbers)] or shards


def shard_file(folder: Path, key: str) -> Path:
    """Return the file of a shard's requests."""
    return folder / f"{key}.jsonl"


def _is_whole(path: Path, shard: Shard) -> bool:
    """Whether the file is there as it was written."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.digest
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: see to its folder") from error


def hosted(settings: Settings, environment: Mapping[str, str], *, is_elsewhere: bool) -> ResolvedModel:
    """Return the chosen model, which must be a server's.

    Args:
        settings: all settings.
        environment: where key and address may stand.
        is_elsewhere: nothing is sent: a model that is named needs neither key nor address.

    Raises:
        SettingsError: there is no model, or it is one of this machine.
    """
    if is_elsewhere and settings.model is not None:
        address = settings.base_url or environment.get(ADDRESS) or _NO_PROVIDER
        return ResolvedModel("hosted", settings.model, "named with --model or in the settings", address)
    resolved = resolve_model(settings, environment)
    if resolved.kind != "hosted":
        raise SettingsError(
            f"the model '{resolved.model}' runs on this machine, which has no batch interface: "
            "use synopsis batch run, or name a hosted model with --model"
        )
    return resolved


def as_begun(folder: Path, settings: Settings) -> Settings:
    """Return the settings with the model that a batch was begun with, unless a flag names one.

    Raises:
        FileError: the folder holds no batch.
    """
    with read_batch(folder) as reader:
        models = reader.query("SELECT value FROM facts WHERE name = 'model'")
    if not models or settings.is_flag("model"):
        return settings
    return settings.model_copy(update={"model": models[0][0]})


def examples_fact(settings: Settings) -> dict[str, str]:
    """Return which examples prompts show: a repair must be shown those of the row's first attempt.

    Raises:
        FileError: the folder of examples is missing.
    """
    pool = folder_hash(settings.examples) if settings.examples else "the house's"
    pinned = f", pinned {', '.join(settings.pinned)}" if settings.pinned else ""
    return {"examples": f"{pool}, {settings.example_tokens} tokens{pinned}"}
