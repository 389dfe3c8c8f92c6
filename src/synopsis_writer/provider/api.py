"""Files and batches of an OpenAI-compatible provider: its wire shapes, its calls, the lines of its files."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pydantic
from pydantic import AliasPath, BaseModel, BeforeValidator, Field, OnErrorOmit, WrapValidator

from synopsis_writer.answers import read_json
from synopsis_writer.batch.store import NextAttempt
from synopsis_writer.characters import join_surrogates
from synopsis_writer.errors import ModelError, RequestRefusedError
from synopsis_writer.models import retry
from synopsis_writer.models.base import MOST_ANSWER, Answer
from synopsis_writer.models.responses import read_answer
from synopsis_writer.models.retry import InvalidResponseError
from synopsis_writer.models.server import proxy_of, secrets_of
from synopsis_writer.storage.files import replacing

if TYPE_CHECKING:
    import openai

_log = logging.getLogger(__name__)

METADATA = "synopsis_shard"  # the name that a shard's key has there

_FILE_SECONDS = 3600.0  # for a file of 200 MB over a line of 0.5 MBit/s
_LAST_SECOND = 253_402_300_799  # of the year 9999: what is more has another unit
_MOST_COUNTED = 10**12  # far more than any batch can have, and less than what cannot be recorded
_LONGEST_STATUS, _LONGEST_ID, _UNKNOWN = 40, 60, "unknown"


def _or_none(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except pydantic.ValidationError:
        return None


def _clean(value: Any) -> str:
    """Return a text without halves of characters, a number as text, and nothing for anything else."""
    return join_surrogates(str(value)) if type(value) in {str, int} else ""


def _status(value: Any) -> str:
    words = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(filter(str.isprintable, join_surrogates(words)))[:_LONGEST_STATUS] or _UNKNOWN


# What is not of its kind, and nobody needs, makes nothing fail.
_Maybe = WrapValidator(_or_none)
_Number = Annotated[Annotated[int, Field(ge=0, le=_MOST_COUNTED)] | None, _Maybe]
_Text = Annotated[str, BeforeValidator(_clean)]


class _Problem(BaseModel):
    code: _Text = ""
    message: _Text = ""
    line: _Number = None  # from 1

    @property
    def text(self) -> str:
        return " ".join((self.message or self.code).split())


class RemoteBatch(BaseModel):
    """A batch as the provider describes it: all but id and status may be missing, for it is paid all the same."""

    id: _Text = ""
    status: Annotated[str, BeforeValidator(_status)] = _UNKNOWN
    input_file_id: _Text = ""
    output_file_id: _Text = ""
    error_file_id: _Text = ""
    problems: Annotated[list[OnErrorOmit[_Problem]] | None, _Maybe] = Field(
        None, validation_alias=AliasPath("errors", "data")
    )
    total: _Number = Field(None, validation_alias=AliasPath("request_counts", "total"))
    completed: _Number = Field(None, validation_alias=AliasPath("request_counts", "completed"))
    failed: _Number = Field(None, validation_alias=AliasPath("request_counts", "failed"))
    key: _Text = Field("", validation_alias=AliasPath("metadata", METADATA))
    expires_at: Annotated[Annotated[float, Field(ge=0, le=_LAST_SECOND)] | None, _Maybe] = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> "RemoteBatch":
        if not self.id and self.status == _UNKNOWN:
            raise ValueError("names neither id nor status")
        return self

    @property
    def is_open(self) -> bool:
        """Whether the provider still works on it; an unknown status counts as that."""
        return self.status not in {"completed", "failed", "expired", "cancelled"}

    @property
    def done(self) -> int:
        """Requests that were answered, by its own count; 0 where it does not say."""
        completed = self.completed or 0
        # Some count those that failed as completed, too.
        return min(completed, self.total - (self.failed or 0)) if completed and self.total else completed


class _Created(RemoteBatch):
    id: Annotated[_Text, Field(min_length=1)]


class _Page(BaseModel):
    data: list[Annotated[RemoteBatch | None, _Maybe]]  # None: not a batch as we know them
    has_more: Annotated[bool | None, _Maybe] = False


class _File(BaseModel):
    id: Annotated[_Text, Field(min_length=1)]
    bytes: _Number = None


_Result = TypeVar("_Result")
_Shape = TypeVar("_Shape", bound=BaseModel)


def _parse(shape: type[_Shape], body: bytes) -> _Shape:
    try:
        return shape.model_validate(read_json(body))
    except ValueError:
        raise InvalidResponseError("the answer is not one of a batch interface", is_transient=True) from None


class UnclearError(Exception):
    """A batch may have been made, or not: the answer was lost."""


@dataclass(frozen=True)
class Limits:
    """A provider's limits, and how long to wait for it, in seconds."""

    # OpenAI's limits of a file, where 200 MB are taken as the smaller of two readings. A request that alone
    # has more bytes gets a file of its own.
    requests: int = 50_000
    file_bytes: int = 200_000_000
    settle_seconds: float = 30.0  # after which a batch that was made appears in the provider's list
    first_look: float = 5.0  # to the second look at an open batch; each further wait is half as long again
    longest_look: float = 60.0  # between two looks at most
    answer_seconds: float = 60.0  # to wait for one answer; a file has longer
    first_wait: float = retry.RetryPolicy.first_wait  # before a call is retried, about; then twice as long


LIMITS = Limits()


@dataclass(frozen=True)
class BatchServer:
    """The batch interface of one provider; its calls raise ModelError where they fail for good."""

    sdk: "openai.AsyncOpenAI"
    server: str  # host, port and path
    model: str  # for messages
    policy: retry.RetryPolicy
    key_hint: str  # why there may be no key
    limits: Limits
    state: retry.ServerState = field(default_factory=retry.ServerState)

    @property
    def host(self) -> str:
        """The server's host and port, for messages."""
        return self.server.partition("/")[0]

    async def upload(self, path: Path) -> str:
        """Upload a file of requests, and return its id; a second copy of it does no harm."""

        async def ask() -> Any:
            with path.open("rb") as file:
                return await self.sdk.files.with_raw_response.create(
                    file=(path.name, file, "application/jsonl"), purpose="batch", timeout=_FILE_SECONDS
                )

        missing = f"{self.host}: has no batch interface: use synopsis batch run, or --to-files"
        return (await self._ask(_File, ask, _FILE_SECONDS, missing)).id

    async def create(self, key: str, file: str) -> RemoteBatch:
        """Make a batch of an uploaded file; asked once. Raises UnclearError where it may have been made."""
        import openai

        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                raw = await self._batches.create(
                    input_file_id=file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={METADATA: key},
                )
            return _parse(_Created, raw.content)
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault: BaseException = error
        status = fault.status_code if isinstance(fault, openai.APIStatusError) else 0
        # 408 is of something on the way that gave up waiting, 409 of a request that is still under way.
        if status in {0, 408, 409} or retry.is_server_fault(status):
            raise UnclearError(str(self._failure(fault)))
        raise self._failure(fault)

    async def find(self, key: str, file: str, tried: float) -> RemoteBatch | None:
        """Return the batch that may have been made of a shard by `tried`, a Unix time; None: it never will be."""
        # Only a look that begins after that time counts; no wait is longer, whatever a clock was set to.
        settle = self.limits.settle_seconds
        left = min(tried + settle - time.time(), self.limits.answer_seconds + settle)
        batch = await self._listed(key, file)
        if batch is None and left > 0:
            _log.info("unclear whether the batch was made: looking again in %.0f s", left)
            await self.policy.sleep(left)
            batch = await self._listed(key, file)
        return batch

    async def _listed(self, key: str, file: str) -> RemoteBatch | None:
        import openai

        after: Any = openai.omit
        for _ in range(_MOST_PAGES):
            page = await self._ask(_Page, partial(self._batches.list, limit=100, after=after))
            for batch in filter(None, page.data):
                if key == batch.key or (file and file == batch.input_file_id):
                    if not batch.id:  # it must not be made a second time
                        raise self._failure(InvalidResponseError("it lists the batch without an id"))
                    return batch
            last = next((batch.id for batch in reversed(page.data) if batch and batch.id), "")
            if not page.has_more or not page.data or last == after:
                break
            if not last:  # the page does not say where the next one begins
                raise self._failure(InvalidResponseError("its list of batches cannot be read"))
            after = last
        return None

    async def look(self, batch: str, missing: str, *, cancel: bool = False) -> RemoteBatch:
        """Return the state of a batch, perhaps after asking for its end; `missing` is reported where it is unknown."""
        ask = self._batches.cancel if cancel else self._batches.retrieve
        return await self._ask(RemoteBatch, partial(ask, batch), missing=missing)

    @property
    def _batches(self) -> Any:
        return self.sdk.batches.with_raw_response

    async def download(self, file: str, path: Path, missing: str, requests: int) -> None:
        """Download the results of some requests, whole; of more than is offered the lines that lie within it."""
        import httpx2

        async def ask() -> None:
            info = _parse(_File, (await self.sdk.files.with_raw_response.retrieve(file)).content)
            most = min((info.bytes or MOST_BYTES) * _SLACK, requests * _LONGEST_RESULT)
            size = whole = 0  # bytes, of all and of whole lines
            with replacing(path, private=True) as target:
                try:
                    async with self.sdk.files.with_streaming_response.content(file) as response:
                        async for piece in response.iter_bytes():
                            whole = size + piece.rindex(b"\n") + 1 if b"\n" in piece else whole
                            size += target.write(piece)
                            if size > most:
                                target.truncate(whole)
                                _log.warning("the results are more than %s bytes: the rest is left", f"{most:,.0f}")
                                return
                except httpx2.HTTPError:
                    raise InvalidResponseError("the file broke off", is_transient=True) from None
                if info.bytes is not None and size != info.bytes:
                    raise InvalidResponseError(f"the file has {size} of {info.bytes} bytes", is_transient=True)

        await self._retried(ask, _FILE_SECONDS, missing)

    async def _ask(
        self, shape: type[_Shape], ask: Callable[[], Awaitable[Any]], seconds: float = 0, missing: str = ""
    ) -> _Shape:
        async def parsed() -> _Shape:
            return _parse(shape, (await ask()).content)

        return await self._retried(parsed, seconds, missing)

    async def _retried(self, ask: Callable[[], Awaitable[_Result]], seconds: float, missing: str) -> _Result:
        import httpx2
        import openai

        seconds = seconds or self.limits.answer_seconds
        budget = retry.RetryBudget(replace(self.policy, seconds=max(self.policy.seconds, seconds)))
        try:
            async for attempt in retry.retrying(budget, self.state):
                with attempt:
                    async with asyncio.timeout(seconds):
                        return await ask()
        except (ValueError, httpx2.InvalidURL):  # of a name that no address can hold
            raise RequestRefusedError(missing or f"{self.host}: a name of it fits no address") from None
        except (openai.APIError, TimeoutError, InvalidResponseError, retry.LongWaitError) as error:
            fault: BaseException = error
        # Out here, for the SDK's error may quote the key, and would go along as the context.
        if missing and isinstance(fault, openai.NotFoundError):
            raise RequestRefusedError(missing)
        raise self._failure(fault)

    def _failure(self, fault: BaseException) -> ModelError:
        address = str(self.sdk.base_url)
        secrets = [*secrets_of(address, self.sdk.api_key), *map(str, self.sdk.default_query.values())]
        proxy = proxy_of(address)
        return retry.model_error(fault, self.host, self.model, self.key_hint, secrets=secrets, proxy=proxy)


_ID = re.compile(r"([0-9a-f]{16})-(\d{1,12})-(\d{1,3})")
_OK = 200
_UNDONE = re.compile("batch_(?:expired|cancelled)")  # OpenAI's words: it ended before its turn
_LONGEST_REASON = 200  # characters of a server's message
LONGEST_LINE = 2 * MOST_ANSWER  # bytes: an answer has some thousand
_LONGEST_RESULT = LONGEST_LINE + 100_000
_SLACK = 1.01  # of what a file is said to have
_MOST_PAGES = 1_000  # of 100 batches
MOST_BYTES = 4_000_000_000  # of a file of results


@dataclass(frozen=True)
class ResultLine:
    """What a line of a result file reports of a request."""

    id: str  # the request's
    key: str  # the shard's
    place: int  # the row's
    number: int  # of its attempt
    body: bytes | None  # of a completion
    reason: str = ""  # why there is none, in one line
    is_transient: bool = False  # whether the same request may fare better later

    def answer(self, model: str) -> Answer:
        """Return the answer of the model that was asked; raises InvalidResponseError where there is none."""
        if self.body is None:
            raise InvalidResponseError(self.reason, is_transient=self.is_transient)
        return read_answer(self.body, "application/json", 0.0, model)


def request_line(key: str, attempt: NextAttempt, body: Mapping[str, Any]) -> bytes:
    """Return the line that asks for a completion; its id is safe and short, whatever the row's is made of."""
    name = f"{key}-{attempt.place}-{attempt.number}"
    line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


UNREADABLE = "the line cannot be read"


def read_result(line: bytes) -> ResultLine | str:
    """Return what a line reports, or in a few words why it reports nothing."""
    try:
        data = read_json(line)
    except ValueError:
        return UNREADABLE if line else f"{UNREADABLE}: it is too long"
    name = data.get("custom_id") if isinstance(data, dict) else None
    match = _ID.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return f"{UNREADABLE}: unknown request id {shortened(name, _LONGEST_REASON)!r}"
    request = match[0], match[1], int(match[2]), int(match[3])
    response, error = data.get("response"), data.get("error")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if status == _OK and isinstance(body, dict) and not error:
        return ResultLine(*request, json.dumps(body).encode())
    status = status if isinstance(status, int) else 0
    report = retry.read_report(status, error or (body if isinstance(body, dict) else ""))
    if report.meaning in retry.ENDS:  # the model has answered, as in a live call
        choice = {"message": {"content": report.generated}, "finish_reason": retry.ENDS[report.meaning]}
        return ResultLine(*request, json.dumps({"choices": [choice]}).encode())
    undone = _UNDONE.search(report.text)
    message = shortened(report.message, _LONGEST_REASON) or (undone and undone[0])
    outcome = f"the provider answered {status}" if status not in {0, _OK} else "no answer"
    reason = ": ".join(filter(None, (outcome, message)))
    return ResultLine(*request, None, reason, undone is not None or retry.is_transient_status(status))


def shortened(value: Any, most: int = _LONGEST_ID) -> str:
    """Return a provider's name or message in one line, for ours."""
    words = "" if value is None else " ".join(join_surrogates(str(value)).split())
    return words if len(words) <= most else words[: most - 1] + "…"
