"""Files and batches of an OpenAI-compatible provider."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from synopsis_writer.batch.store import Asked
from synopsis_writer.errors import (
    ConnectionFailedError,
    FileError,
    ModelError,
    RequestRefusedError,
    os_reason,
)
from synopsis_writer.models.hosted import open_sdk
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.models.retry import (
    InvalidResponseError,
    RetryBudget,
    RetryPolicy,
    failure,
    is_server_fault,
    is_transient_status,
    retrying,
)
from synopsis_writer.models.server import DEFAULT_BASE_URL, host_of, look_up_key, server_of
from synopsis_writer.settings import Settings
from synopsis_writer.storage.files import replacing

if TYPE_CHECKING:
    import openai

METADATA = "synopsis_shard"  # the name that a shard's key has there

_PAGE = 100

ASK_SECONDS = 60.0

_MOVE_SECONDS = 3600.0  # for a file of 200 MB over a line of 0.5 MBit/s

_NOT_FOUND = 404

# Said by something on the way that gave up waiting, or of a request that is still under way.
_UNCLEAR = frozenset({408, 409})

_T = TypeVar("_T")


class Unclear(Exception):
    """A batch may have been made, or not: the answer was lost."""


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


_Maybe = WrapValidator(_or_none)  # None where it is none of its kind: what nobody needs makes nothing fail


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Counts(_Answer):
    total: Annotated[int | None, _Maybe] = None
    completed: Annotated[int | None, _Maybe] = None
    failed: Annotated[int | None, _Maybe] = None


class _Problem(_Answer):
    code: Annotated[str | None, _Maybe] = None
    message: Annotated[str | None, _Maybe] = None
    line: Annotated[int | None, _Maybe] = None


class _Problems(_Answer):
    data: list[Annotated[_Problem | None, _Maybe]] | None = None


_LAST_SECOND = 253_402_300_799  # of the year 9999: what is more has another unit


class RemoteBatch(_Answer):
    """A batch, as the provider tells of it; `errors` are those of its check before it begins."""

    id: str
    status: str
    input_file_id: Annotated[str | None, _Maybe] = None
    output_file_id: Annotated[str | None, _Maybe] = None
    error_file_id: Annotated[str | None, _Maybe] = None
    errors: Annotated[_Problems | None, _Maybe] = None
    request_counts: Annotated[_Counts | None, _Maybe] = None
    metadata: Annotated[dict[str, Any] | None, _Maybe] = None
    expires_at: Annotated[Annotated[float, Field(ge=0, le=_LAST_SECOND)] | None, _Maybe] = None

    @property
    def is_open(self) -> bool:
        """Whether the provider is still at it; a word that nobody knows is taken for that."""
        return self.status not in {"completed", "failed", "expired", "cancelled"}

    @property
    def problems(self) -> list[tuple[int | None, str, str]]:
        """What the check found: line (from 1), code and message of each."""
        found = self.errors.data if self.errors and self.errors.data else []
        return [
            (one.line, one.code or "", " ".join((one.message or one.code or "").split()))
            for one in found
            if one is not None
        ]

    @property
    def done(self) -> int:
        """Requests that were answered, as it counts them; 0 where it does not say."""
        counts = self.request_counts
        if counts is None or not counts.completed:
            return 0
        # Some count those that failed as completed, too.
        return (
            min(counts.completed, counts.total - (counts.failed or 0)) if counts.total else counts.completed
        )

    @property
    def failed(self) -> int:
        """Requests that have failed, as it counts them."""
        return (self.request_counts.failed or 0) if self.request_counts else 0


class RemoteBatches(_Answer):
    """A page of the list of batches; None for what is no batch as we know them."""

    data: list[Annotated[RemoteBatch | None, _Maybe]]
    has_more: Annotated[bool | None, _Maybe] = False


@dataclass(frozen=True)
class BatchServer:
    """One provider.

    Attributes:
        sdk: the connection.
        server: host, port and path.
        model: the model, for messages.
        retry: the retry policy.
        announce: is told of each wait.
        key_hint: why there may be no key.
        ask_seconds: seconds to wait for one answer; a file has longer.
    """

    sdk: "openai.AsyncOpenAI"
    server: str
    model: str
    retry: RetryPolicy
    announce: Callable[[str], None]
    key_hint: str = ""
    ask_seconds: float = ASK_SECONDS

    @property
    def host(self) -> str:
        """The server's host and port, for messages."""
        return self.server.partition("/")[0]

    async def upload(self, path: Path) -> str:
        """Upload a file of requests, and return its id; a second copy of it harms nobody.

        Raises:
            ModelError: it did not come about; so do all that follow.
        """

        async def ask() -> str:
            with path.open("rb") as file:
                raw = await self.sdk.files.with_raw_response.create(
                    file=(path.name, file, "application/jsonl"), purpose="batch", timeout=_MOVE_SECONDS
                )
            return read_remote(RemoteFile, raw.content).id

        missing = f"{self.host}: has no batch interface: use synopsis batch run, or --to-files"
        return await self._repeat(ask, _MOVE_SECONDS, missing)

    async def create(self, file: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Make a batch of an uploaded file: asked once, for a second one would be paid, too.

        Raises:
            Unclear: no answer came, so that it may have been made.
            ModelError: it was not made.
        """
        import openai

        try:
            async with asyncio.timeout(self.ask_seconds):
                raw = await self.sdk.batches.with_raw_response.create(
                    input_file_id=file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata=dict(metadata),
                )
            return read_remote(RemoteBatch, raw.content)
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault: BaseException = error
        status = fault.status_code if isinstance(fault, openai.APIStatusError) else None
        if status is None or status in _UNCLEAR or is_server_fault(status):
            raise Unclear(str(self._failure(fault)))
        raise self._failure(fault)

    async def find(self, key: str, file: str) -> RemoteBatch | None:
        """Return the batch that was made of a shard, by its key or its file; None: there is none."""
        after: str | None = None
        while True:
            page = await self._page(after)
            known = [batch for batch in page.data if batch is not None]
            for batch in known:
                if (batch.metadata or {}).get(METADATA) == key or batch.input_file_id == file:
                    return batch
            if not page.has_more or not page.data or (known and known[-1].id == after):
                return None
            if not known:  # where it goes on does not stand there
                raise self._failure(InvalidResponseError("its list of batches cannot be read"))
            after = known[-1].id

    async def _page(self, after: str | None) -> RemoteBatches:
        import openai

        async def ask() -> RemoteBatches:
            raw = await self.sdk.batches.with_raw_response.list(limit=_PAGE, after=after or openai.omit)
            return read_remote(RemoteBatches, raw.content)

        return await self._repeat(ask)

    async def look(self, batch: str, missing: str) -> RemoteBatch:
        """Return how a batch stands; `missing`, as of what follows: what is said where nobody knows it."""

        async def ask() -> RemoteBatch:
            return read_remote(
                RemoteBatch, (await self.sdk.batches.with_raw_response.retrieve(batch)).content
            )

        return await self._repeat(ask, missing=missing)

    async def cancel(self, batch: str, missing: str) -> RemoteBatch:
        """Ask for the end of a batch; what is done by then comes back all the same."""

        async def ask() -> RemoteBatch:
            return read_remote(RemoteBatch, (await self.sdk.batches.with_raw_response.cancel(batch)).content)

        return await self._repeat(ask, missing=missing)

    async def download(self, file: str, path: Path, missing: str) -> None:
        """Bring a file, whole or not at all.

        Raises:
            FileError: it cannot be written.
            ModelError: it did not come.
        """
        import httpx2

        async def ask() -> None:
            info = read_remote(RemoteFile, (await self.sdk.files.with_raw_response.retrieve(file)).content)
            size = 0
            with replacing(path) as target:
                try:
                    async with self.sdk.files.with_streaming_response.content(file) as response:
                        async for piece in response.iter_bytes():
                            size += target.write(piece)
                except httpx2.HTTPError:
                    raise InvalidResponseError("the file broke off", is_transient=True) from None
                if info.bytes is not None and size != info.bytes:
                    raise InvalidResponseError(
                        f"the file has {size} of {info.bytes} bytes", is_transient=True
                    )

        await self._repeat(ask, _MOVE_SECONDS, missing)

    async def _repeat(
        self, ask: Callable[[], Awaitable[_T]], within: float | None = None, missing: str = ""
    ) -> _T:
        import openai

        within = within or self.ask_seconds
        retry_budget = RetryBudget(replace(self.retry, seconds=max(self.retry.seconds, within)))
        try:
            async for attempt in retrying(retry_budget, self.announce):
                with attempt:
                    async with asyncio.timeout(within):
                        return await ask()
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault: BaseException = error
        # Out here, for the SDK's error may quote the key, and would go along as the context.
        if missing and isinstance(fault, openai.APIStatusError) and fault.status_code == _NOT_FOUND:
            raise RequestRefusedError(missing)
        raise self._failure(fault)

    def _failure(self, fault: BaseException) -> ModelError:
        return failure(fault, self.host, self.model, self.key_hint)


@contextlib.asynccontextmanager
async def open_batch_server(
    choice: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    retry: RetryPolicy,
    announce: Callable[[str], None],
    ask_seconds: float = ASK_SECONDS,
) -> AsyncIterator[BatchServer]:
    """Connect with the provider of the chosen model; it has `ask_seconds` for one answer.

    Raises:
        SettingsError: its address cannot be used, or the key cannot be sent.
    """
    address = choice.base_url or DEFAULT_BASE_URL
    key = look_up_key(host_of(address), environment)
    sdk = open_sdk(address, key.value, announce, insecure=settings.insecure)
    try:
        yield BatchServer(sdk, server_of(address), choice.model, retry, announce, key.hint, ask_seconds)
    finally:
        await sdk.close()


_Shape = TypeVar("_Shape", bound=BaseModel)


class RemoteFile(_Answer):
    """A file; its size where the provider tells it."""

    id: str
    bytes: Annotated[int | None, _Maybe] = None


def read_remote(shape: type[_Shape], body: bytes) -> _Shape:
    """Return what a body holds; raises InvalidResponseError where it is none of these."""
    try:
        return shape.model_validate_json(body)
    except ValidationError:
        raise InvalidResponseError("the answer is none of a batch interface", is_transient=True) from None


ENDPOINT = "/v1/chat/completions"

_ID = re.compile(r"([0-9a-f]{16})-(\d{1,12})-(\d{1,3})")

_OK = 200

# OpenAI's words for requests of a batch that ended before their turn.
_UNDONE = frozenset({"batch_expired", "batch_cancelled"})

_MOST_SAID = 200  # characters of what a server says

_LONGEST = 10_000_000  # bytes of a line: an answer has some thousand


@dataclass(frozen=True)
class Result:
    """What a line says became of a request.

    Attributes:
        key: the shard's.
        place, round: the row's.
        body: the body of a completion; None where there is none.
        reason: why there is none, in one line.
        passes: whether the same request may fare better later.
    """

    key: str
    place: int
    round: int
    body: bytes | None
    reason: str = ""
    passes: bool = False


def id_of(key: str, asked: Asked) -> str:
    """Return what a request is called: safe and short, whatever the row's id is made of."""
    return f"{key}-{asked.place}-{asked.round}"


def request_line(name: str, body: Mapping[str, Any]) -> bytes:
    """Return the line that asks for a completion."""
    line = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not blank, one by one.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST):
                if line.strip():
                    yield line
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: name another file") from error


def read_result(line: bytes) -> Result | str:
    """Return what a line says, or why it says nothing: in a few words."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return "a line is no JSON"
    name = data.get("custom_id") if isinstance(data, dict) else None
    found = _ID.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return f"unknown request id {_short(name)!r}"
    key, place, number = found[1], int(found[2]), int(found[3])
    response, error = data.get("response"), data.get("error")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if status == _OK and isinstance(body, dict) and not error:
        return Result(key, place, number, json.dumps(body).encode())
    code, said = _said(error or (body.get("error") if isinstance(body, dict) else None))
    passes = code in _UNDONE or (isinstance(status, int) and is_transient_status(status))
    told = f"the provider answered {status}" if isinstance(status, int) and status != _OK else "no answer"
    return Result(key, place, number, None, ": ".join(filter(None, (told, said or code))), passes)


def _said(error: Any) -> tuple[str, str]:
    """Return code and message; vLLM gives a text, or an error in an error."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if isinstance(error, dict):
        return _short(error.get("code")), _short(error.get("message"))
    return "", _short(error)


def _short(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())[:_MOST_SAID]


_MOST_TRIES = 2  # in one command


async def found_batch(
    server: BatchServer, key: str, file: str, tried: float, settle: float
) -> RemoteBatch | None:
    """Return the batch that was perhaps made of a shard; None: it was not, and will not be.

    Args:
        server: the provider.
        key: the shard's.
        file: the uploaded file's id.
        tried: when the request to make it was over at the latest, in seconds since the epoch.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: the provider does not say.
    """
    # Only a look that begins after that time counts; no wait is longer, whatever a clock was set to.
    left = min(tried + settle - time.time(), server.ask_seconds + settle)
    found = await server.find(key, file)
    if found is None and left > 0:
        server.announce(f"unclear whether the batch was made: looking again in {left:.0f} s")
        await server.retry.sleep(left)
        found = await server.find(key, file)
    return found


async def made_batch(
    server: BatchServer,
    key: str,
    file: str,
    tried: float | None,
    note: Callable[[float | None], None],
    settle: float,
) -> RemoteBatch:
    """Return the batch of an uploaded shard: the one that was made before, or a new one.

    Args:
        server: the provider.
        key: the shard's.
        file: the uploaded file's id.
        tried: when the last request to make it was over at the latest, in seconds since the epoch; None:
            there was none, or the provider said no.
        note: takes that time down; None where it said no.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: it was not made, or that is still unclear.
    """
    if tried is not None and (found := await found_batch(server, key, file, tried, settle)) is not None:
        return found
    said = ""
    for _ in range(_MOST_TRIES if tried is None else 1):
        note(time.time() + server.ask_seconds)  # before it is asked: a kill from here on leaves it unclear
        try:
            return await server.create(file, {METADATA: key})
        except Unclear as error:
            said = str(error)
        except ModelError:
            note(None)
            raise
        over = time.time()
        note(over)
        if (found := await found_batch(server, key, file, over, settle)) is not None:
            return found
    raise ConnectionFailedError(f"{said}; no batch of it is there up to now: run the same again")
