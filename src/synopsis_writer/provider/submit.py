"""Rows out to a provider: requests, files, batches; and calling them back."""

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from synopsis_writer.batch.briefs import BatchRow, read_briefs
from synopsis_writer.batch.run import Order, facts_of, put_aside
from synopsis_writer.batch.store import Asked, BatchRecord, Counts, Done, Shard, reading
from synopsis_writer.batch.variety import for_gate
from synopsis_writer.drafting import longer
from synopsis_writer.errors import (
    BudgetSpentError,
    FileError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    os_reason,
)
from synopsis_writer.models.base import Limits
from synopsis_writer.models.hosted import CAPABILITIES_FILE, CapabilityStore, ServerCapabilities, chat_request
from synopsis_writer.models.limits import Budget, check_prices, worst_case
from synopsis_writer.models.pricing import HostedPricer, Pricer, load_prices
from synopsis_writer.models.resolve import ADDRESS, ResolvedModel, limits_of, resolve_model
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.provider.api import (
    ASK_SECONDS,
    BatchServer,
    RemoteBatch,
    found_batch,
    id_of,
    made_batch,
    open_batch_server,
    request_line,
)
from synopsis_writer.provider.shards import Returns, Shards, end_beyond, new_key
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import replacing
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Spent
from synopsis_writer.writer import Desk, load_desk

# OpenAI's limits of a file. 200 MB are taken as the smaller of two readings.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000


@dataclass(frozen=True)
class Terms:
    """What a provider takes, and how patient we are with it.

    Attributes:
        most_requests: requests in a file at most.
        most_bytes: bytes of a file at most.
        settle: seconds after which a batch that was made stands in the provider's list.
        first_look: seconds to the second look at an open batch; each further wait is half as long again.
        longest_look: seconds between two looks at most.
        ask_seconds: seconds to wait for one answer; a file has longer.
        first_wait: seconds before a call is tried again, about; each further wait doubles.
    """

    most_requests: int = MOST_REQUESTS
    most_bytes: int = MOST_BYTES
    settle: float = 30.0
    first_look: float = 5.0
    longest_look: float = 60.0
    ask_seconds: float = ASK_SECONDS
    first_wait: float = RetryPolicy.first_wait


TERMS = Terms()

Say = Callable[[str], None]


async def submit_batch(
    order: Order,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    begun: Callable[[Counts], None] = lambda _: None,
    to_folder: Path | None = None,
    terms: Terms = TERMS,
) -> Counts:
    """Send the rows that are pending, and those that wait to be mended, to the provider.

    Args:
        order: what is to be made; `concurrency`, `rpm`, `tpm`, `workers` and `variety` mean nothing here.
        settings: all settings.
        environment: where the key stands.
        say: is told of each shard.
        begun: is told how far the batch is before anything is sent.
        to_folder: write the files into it and send nothing: somebody else runs them.
        terms: what the provider takes.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the provider does not take it, or the budget is spent; what was sent before is out.
    """
    choice = hosted(settings, environment, is_elsewhere=to_folder is not None)
    facts = facts_of(order, settings, choice) | examples_of(settings)
    if order.fresh:
        put_aside(order, say)
    with BatchRecord(order.out, facts) as record:
        record.fill(read_briefs(order.briefs))
        record.again(order.retry)
        begun(record.counts())
        work = open_work(record, choice, settings, environment, say, lambda *_: None)
        rows = islice(chain(work.shards.waiting(), firsts(record.pending())), order.limit)
        if to_folder is not None:
            for shard in work.write(rows, to_folder, "", terms):
                say(f"shard {shard.number}: {shard.requests} requests in {shard_file(to_folder, shard.key)}")
            return record.counts()
        async with open_post(
            order.out, choice, settings, environment, work.shards, work.returns, say, terms
        ) as post:
            for shard in post.unsent():
                await post.send(shard)
            for shard in work.write(rows, post.folder, post.server.server, terms):
                await post.send(shard)
        return record.counts()


@dataclass(frozen=True)
class Request:
    """One request: whose it is, its body, and what it may take at most."""

    asked: Asked
    body: Mapping[str, Any]
    worst: Spent


@dataclass(frozen=True)
class RequestMaker:
    """Makes the requests of rows, the same as live calls make.

    Attributes:
        desk: pool and templates.
        shards: knows the answers that are to be mended.
        model: the model's name.
        limits: bounds of one answer.
        dialect: what the server takes.
        pricer: knows what it costs.
        budget: the ledger; each request is set aside in it.
        say: is told of unknown shows.
    """

    desk: Desk
    shards: Shards
    model: str
    limits: Limits
    dialect: ServerCapabilities
    pricer: Pricer
    budget: Budget
    say: Callable[[str], None]

    def requests(self, rows: Iterable[tuple[BatchRow, Asked]]) -> Iterator[Request]:
        """Yield the request of each row.

        Raises:
            BudgetSpentError: the next one could pass the budget.
        """
        schema = wire_schema(Synopsis)
        for row, asked in rows:
            show = self.desk.find_show(row.brief.show, self.say)
            prompt = self.desk.synopsis_prompt(row.brief.model_copy(update={"show": show.name}), show)
            last = self.shards.last(row.id, asked)
            messages = prompt.messages
            if last is not None and last.text:
                messages = self.desk.prompts.repair(prompt, last.text, last.problems)
            limits = longer(self.limits) if asked.flaw == "cut" else self.limits
            body = chat_request(self.model, messages, schema, limits, self.dialect, stream=False)
            del body["timeout"]  # the SDK's, not the server's
            worst = worst_case(self.pricer, messages, schema, limits)
            self.budget.reserve(worst)
            yield Request(asked, body, worst)


def write_shards(
    requests: Iterator[Request],
    shards: Shards,
    folder: Path,
    server: str,
    most_requests: int,
    most_bytes: int,
) -> Iterator[Shard]:
    """Write requests into files within a provider's limits; yield each as a shard that is taken down.

    Args:
        requests: what is asked; one is taken when there is room for it.
        shards: where a shard is taken down when its file is whole.
        folder: where the files are written.
        server: whom they are for; empty: somebody else runs them.
        most_requests: requests in a file at most.
        most_bytes: bytes of a file at most; a request that alone has more gets a file of its own.

    Raises:
        BudgetSpentError: the budget lets no more requests through; what it let through was yielded.
        FileError: a file cannot be written.
    """
    request = next(requests, None)
    spent: BudgetSpentError | None = None
    while request is not None:
        key, digest, size = new_key(), hashlib.sha256(), 0
        asked: list[Asked] = []
        worst = Spent()
        with replacing(shard_file(folder, key)) as file:
            while request is not None:
                line = request_line(id_of(key, request.asked), request.body)
                if asked and (len(asked) == most_requests or size + len(line) > most_bytes):
                    break
                file.write(line)
                digest.update(line)
                size += len(line)
                asked.append(request.asked)
                worst += request.worst
                try:
                    request = next(requests, None)
                except BudgetSpentError as error:
                    request, spent = None, error
        yield shards.begin(Shard(0, key, server, digest.hexdigest(), len(asked), worst), asked)
    if spent is not None:
        raise spent


def shard_file(folder: Path, key: str) -> Path:
    """Return the file of a shard's requests."""
    return folder / f"{key}.jsonl"


def is_whole(path: Path, shard: Shard) -> bool:
    """Whether the file is there as it was written."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.digest
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: see to its folder") from error


def firsts(rows: Iterable[BatchRow]) -> Iterator[tuple[BatchRow, Asked]]:
    """Yield rows with what is asked of a first draft."""
    return ((row, Asked(row.place)) for row in rows)


# What a provider's check says of a file, in OpenAI's words: the same file would be refused again. All else,
# as a full queue (`token_limit_exceeded`) or an empty account, is no fault of its rows.
_OF_THE_FILE = frozenset(
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


@dataclass(frozen=True)
class Post:
    """Takes shards to one provider, and back.

    Attributes:
        server: the provider.
        shards: where each step is taken down.
        returns: takes rows back.
        folder: where the files lie.
        settle: seconds after which a batch that was made stands in the provider's list.
        say: is told of each step.
    """

    server: BatchServer
    shards: Shards
    returns: Returns
    folder: Path
    settle: float
    say: Callable[[str], None]

    def open(self) -> list[Shard]:
        """Return the open shards, but those that somebody else runs.

        Raises:
            SettingsError: one of them lies at another provider.
        """
        found = [shard for shard in self.shards.open() if shard.server]
        for shard in found:
            if shard.server != self.server.server:
                raise SettingsError(
                    f"shard {shard.number} lies at {shard.server}, not at {self.server.server}: "
                    "name its server with --base-url"
                )
        return found

    def unsent(self) -> list[Shard]:
        """Return the open shards that a kill or a fault left on their way."""
        return [shard for shard in self.open() if shard.batch is None]

    async def send(self, shard: Shard) -> None:
        """Upload a shard and make its batch, from the last step that is known.

        Raises:
            ModelError: the provider does not take it; the same again goes on with it.
            FileError: its file cannot be read.
        """
        path = shard_file(self.folder, shard.key)
        if shard.file is None:
            if not is_whole(path, shard):
                count = self.returns.close(shard)
                self.say(
                    f"shard {shard.number}: {path} is not what was written: {count} rows are pending again"
                )
                return
            shard = self.shards.note(shard, file=await self.server.upload(path))
        file = shard.file or ""

        def note(tried: float | None) -> None:
            # A file that was refused may be gone there: it is uploaded anew.
            self.shards.note(shard, **({"tried": tried} if tried else {"tried": None, "file": None}))

        remote = await made_batch(self.server, shard.key, file, shard.tried, note, self.settle)
        self._note(shard, remote, batch=remote.id)
        path.unlink(missing_ok=True)
        self.say(
            f"shard {shard.number}: {shard.requests} requests in batch {remote.id} at {self.server.host}"
        )

    async def look(self, shard: Shard) -> RemoteBatch:
        """Ask how a shard stands, and take it down."""
        batch = shard.batch or ""
        remote = await self.server.look(batch, self._missing(shard, batch))
        self._note(shard, remote)
        return remote

    async def cancel(self, shard: Shard) -> bool:
        """Ask for the end of a shard's batch; return whether there is one."""
        if shard.batch is None:
            remote = None
            if shard.tried is not None and shard.file is not None:
                server, settle = self.server, self.settle
                remote = await found_batch(server, shard.key, shard.file, shard.tried, settle)
            if remote is None:
                return False
            self._note(shard, remote, batch=remote.id)
            shard = replace(shard, batch=remote.id)
        remote = await self.look(shard)
        if remote.is_open and remote.status != "cancelling":
            batch = shard.batch or ""
            try:
                self._note(shard, await self.server.cancel(batch, self._missing(shard, batch)))
            except RequestRefusedError:
                remote = await self.look(shard)
                if remote.is_open and remote.status != "cancelling":
                    raise  # else it came to its end meanwhile
        return True

    def _missing(self, shard: Shard, name: str) -> str:
        return (
            f"{self.server.host}: knows no '{name}' of shard {shard.number}: use the key and the project it "
            f"was made with, or let it go with synopsis batch cancel --forget {shard.number}"
        )

    def _note(self, shard: Shard, remote: RemoteBatch, **values: str) -> None:
        self.shards.note(
            shard,
            status=remote.status,
            done=remote.done,
            failed=remote.failed,
            expires=remote.expires_at,
            **values,
        )

    async def bring(self, shard: Shard, remote: RemoteBatch) -> list[Path]:
        """Return the files of what came of a batch; one that is there is not brought again."""
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
        said = "; ".join(f"line {line}: {text}" if line else text for line, _, text in problems[:3])
        said = said or "it does not say why"
        failed = 0
        with self.returns.record.together():
            for line, _, text in problems:
                found = self.shards.at_line(shard, line) if line else None
                if found is not None:
                    self.shards.mark_read(shard, found[1])
                    self.returns.fail(found[0], f"the provider refused it: {text}")
                    failed += 1
            if not failed and any(code in _OF_THE_FILE for _, code, _ in problems):
                for row, asked in self.shards.unread(shard):
                    self.shards.mark_read(shard, asked)
                    self.returns.fail(row, f"the provider refused the whole batch: {said}")
                    failed += 1
            count = self.returns.close(shard)
        self.say(
            f"shard {shard.number}: batch {remote.id} was refused: {said}: {failed} rows failed, "
            f"{count} are pending again"
        )
        return failed > 0


async def cancel_batch(
    out: Path,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    forget: Collection[int] = (),
    terms: Terms = TERMS,
) -> None:
    """Ask for the end of all open batches; what is done by then is fetched all the same.

    Shards that were never sent, or that somebody else runs, are let go at once.

    Args:
        out: the batch's folder.
        settings: all settings.
        environment: where the key stands.
        say: is told of each shard.
        forget: let the shards of these numbers go without asking the provider, and no others; what it still
            makes of them is paid and lost.
        terms: how patient we are.

    Raises:
        InputError: the folder holds no batch, or no such shard.
        ModelError: the provider failed for good, after all other shards were seen to.
    """
    settings = as_begun(out, settings)
    with BatchRecord(out, {}) as record:
        shards = Shards(record)
        returns = Returns(record, shards, lambda *_: None)

        def let_go(shard: Shard) -> None:
            count = returns.close(shard)
            sweep(out, shards)
            say(f"shard {shard.number}: let go: {count} rows are pending again")

        for shard in _chosen(shards.open(), forget):
            if forget or not shard.server or (shard.batch is None and shard.tried is None):
                let_go(shard)
        if forget or not shards.open():
            if waiting := shards.count_waiting():
                say(f"{waiting} rows wait to be mended: batch submit sends them, batch run mends them live")
            return
        choice = hosted(settings, environment, is_elsewhere=False)
        async with open_post(out, choice, settings, environment, shards, returns, say, terms) as post:
            await _end_all(post, let_go, say)


async def _end_all(post: Post, let_go: Callable[[Shard], None], say: Say) -> None:
    """Ask for the end of each batch; a fault at one is raised when all were asked."""
    faults: list[ModelError] = []
    for shard in post.open():
        try:
            if await post.cancel(shard):
                say(f"shard {shard.number}: its batch is asked to end: fetch what is done by then")
            else:
                let_go(shard)
        except ModelError as error:
            faults.append(error)
    for fault in faults[1:]:
        say(str(fault))
    if faults:
        raise faults[0]


def _chosen(found: list[Shard], numbers: Collection[int]) -> list[Shard]:
    known = {shard.number: shard for shard in found}
    for number in numbers:
        if number not in known:
            others = ", ".join(map(str, known)) or "none"
            raise SettingsError(f"shard {number} is not open: name one that is ({others})")
    return [known[number] for number in dict.fromkeys(numbers)] or found


FOLDER = "provider"  # in the batch's folder: files on their way

_OURS = re.compile(r"([0-9a-f]{16})\.|\.synopsis-")  # a shard's, or one that a kill left half written

_SOMEWHERE = "http://localhost/v1"  # no provider: list prices are none of its


@dataclass(frozen=True)
class Work:
    """What submitting and fetching have in common."""

    record: BatchRecord
    shards: Shards
    returns: Returns
    desk: Desk
    choice: ResolvedModel
    settings: Settings
    pricer: HostedPricer
    say: Say

    def budget(self) -> Budget:
        """Return a ledger of what was spent, and of what open shards may still come to."""
        counts = self.record.counts()
        spent = Spent(counts.cost, counts.usage.prompt_tokens + counts.usage.completion_tokens)
        out = [shard.worst for shard in self.shards.open()]
        settings = self.settings
        return Budget(settings.budget, settings.max_tokens_total, spent=spent, reserved=out)

    def write(
        self, rows: Iterable[tuple[BatchRow, Asked]], folder: Path, server: str, terms: Terms
    ) -> Iterator[Shard]:
        """Write the requests of rows into shards; raises as `write_shards`."""
        budget = self.budget()
        check_prices(budget, self.pricer, self.choice.model)
        dialects = CapabilityStore(self.settings.cache / CAPABILITIES_FILE)
        maker = RequestMaker(
            self.desk,
            self.shards,
            self.choice.model,
            limits_of(self.settings),
            dialects.find(self.choice.server or "", self.choice.model),
            self.pricer,
            budget,
            self.say,
        )
        requests = maker.requests(rows)
        return write_shards(requests, self.shards, folder, server, terms.most_requests, terms.most_bytes)


def hosted(settings: Settings, environment: Mapping[str, str], *, is_elsewhere: bool) -> ResolvedModel:
    """Return the chosen model, which must be a server's.

    Args:
        settings: all settings.
        environment: where key and address may stand.
        is_elsewhere: nothing is sent: a model that is named needs neither key nor address.

    Raises:
        SettingsError: no model is there, or it is one of this machine.
    """
    if is_elsewhere and settings.model is not None:
        address = settings.base_url or environment.get(ADDRESS) or _SOMEWHERE
        return ResolvedModel("hosted", settings.model, "named with --model or in the settings", address)
    choice = resolve_model(settings, environment)
    if choice.kind != "hosted":
        raise SettingsError(
            f"the model '{choice.model}' runs on this machine, which has no batch interface: "
            "use synopsis batch run, or name a hosted model with --model"
        )
    return choice


def as_begun(folder: Path, settings: Settings) -> Settings:
    """Return the settings with the model that a batch was begun with, unless a flag names one.

    Raises:
        FileError: the folder holds no batch.
    """
    with reading(folder) as database:
        found = database.execute("SELECT value FROM facts WHERE name = 'model'").fetchone()
    if not found or settings.is_flag("model"):
        return settings
    return settings.model_copy(update={"model": found[0]})


def examples_of(settings: Settings) -> dict[str, str]:
    """Return the fact of which examples prompts show: a mended row must be shown those of its first round.

    Raises:
        FileError: the folder of examples is none.
    """
    pool = folder_hash(settings.examples) if settings.examples else "the house's"
    pinned = f", pinned {', '.join(settings.pinned)}" if settings.pinned else ""
    return {"examples": f"{pool}, {settings.example_tokens} tokens{pinned}"}


def open_work(
    record: BatchRecord,
    choice: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,
    made: Callable[[Done, bool], None],
) -> Work:
    """Return what works on a record.

    Raises:
        InputError: the table of prices, an example, a template or the profile is broken.
    """
    settings = for_gate(settings)
    shards = Shards(record)
    end_beyond(shards, settings, say)
    pricer = HostedPricer(choice.model, choice.base_url, load_prices(settings, environment), is_batch=True)
    return Work(
        record, shards, Returns(record, shards, made), load_desk(settings, say), choice, settings, pricer, say
    )


def sweep(out: Path, shards: Shards) -> None:
    """Remove the files in a batch's folder that belong to no open shard; one that cannot be removed stays."""
    keys = {shard.key for shard in shards.open()}
    with contextlib.suppress(OSError):
        for path in (out / FOLDER).iterdir():
            found = _OURS.match(path.name)
            if found and found[1] not in keys:
                path.unlink()


@contextlib.asynccontextmanager
async def open_post(
    out: Path,
    choice: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    shards: Shards,
    returns: Returns,
    say: Say,
    terms: Terms,
) -> AsyncIterator[Post]:
    """Connect with the provider, and make the folder of the files on their way; what a kill left there goes.

    Raises:
        InputError: the folder cannot be made, or the address cannot be used.
    """
    path = out / FOLDER
    try:
        path.mkdir(mode=0o700, exist_ok=True)  # briefs and answers are not for everybody
    except OSError as error:
        raise FileError(f"cannot make {os_reason(error, path)}: see to its folder") from error
    sweep(out, shards)
    retry = RetryPolicy(settings.max_retries, settings.retry_seconds, terms.first_wait)
    async with open_batch_server(choice, settings, environment, retry, say, terms.ask_seconds) as server:
        yield Post(server, shards, returns, path, terms.settle, say)
