"""OpenAI-compatible servers: requests, what each server takes, and retries."""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer.errors import ModelError, SettingsError
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.models.responses import GrowingAnswer, read_answer, read_models, whole
from synopsis_writer.models.retry import (
    Announce,
    InvalidResponseError,
    RetryBudget,
    RetryPolicy,
    failure,
    is_quota,
    retrying,
)
from synopsis_writer.models.server import (
    DEFAULT_BASE_URL,
    check_address,
    host_of,
    is_open,
    is_plain_loopback,
    server_of,
)
from synopsis_writer.usage import Usage

if TYPE_CHECKING:
    import openai

_NO_KEY = "no-key"  # servers of one's own take any; the SDK wants one

_LIST_SECONDS = 10.0

# What a stream may still take when the text is whole: for the usage, and for the connection's reuse.
_USAGE_SECONDS, _CLOSE_SECONDS = 5.0, 0.2


@dataclass(frozen=True)
class ServerCapabilities:
    """What is sent to one model of one server.

    Attributes:
        answer_format: how the answer's shape is asked for; `plain` is not at all.
        limit_field: the name of the field that bounds the answer.
        cache_key: whether `prompt_cache_key` is sent.
        temperature: whether `temperature` is sent; reasoning models refuse it.
        streaming: a stream with the usage at its end, one without, or none.
    """

    answer_format: Literal["json_schema", "json_object", "plain"] = "json_schema"
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    cache_key: bool = True
    temperature: bool = True
    streaming: Literal["usage", "bare", "none"] = "usage"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: str
    model: str
    since: float
    dialect: ServerCapabilities


@dataclass(frozen=True)
class CapabilityStore:
    """Dialects by server and model, in one JSON file; an entry is forgotten 30 days after it was learned.

    A file that cannot be read or written costs a request, and nothing else.

    Attributes:
        path: the file; None remembers nothing.
        clock: the time in seconds since 1970.
    """

    path: Path | None = None
    clock: Callable[[], float] = field(default=time.time)

    def find(self, server: str, model: str) -> ServerCapabilities:
        """Return what is known, or the dialect to begin with.

        Args:
            server: host, port and path, without what an address may hold of names and passwords.
            model: the model's name.
        """
        for entry in self._read():
            if (entry.server, entry.model) == (server, model):
                return entry.dialect
        return initial_capabilities(server)

    def learn(self, server: str, model: str, before: ServerCapabilities, after: ServerCapabilities) -> None:
        """Note what changed from `before` to `after`, beside what others noted meanwhile."""
        if self.path is None or before == after:
            return
        others = [entry for entry in self._read() if (entry.server, entry.model) != (server, model)]
        known = learned(before, after, self.find(server, model))
        entry = _Entry(server=server, model=model, since=self.clock(), dialect=known)
        with contextlib.suppress(OSError):
            _replace(self.path, _File(dialects=[*others, entry]).model_dump(mode="json"))

    def _read(self) -> list[_Entry]:
        if self.path is None:
            return []
        try:
            content = _File.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return []
        now = self.clock()
        return [entry for entry in content.dialects if 0 <= now - entry.since < _KEEP_SECONDS]


class HostedClient:
    """Asks one model of one OpenAI-compatible server; redirects are not followed.

    Args:
        model: the model's name on the server.
        base_url: the server's address, as a rule ending in /v1.
        api_key: the key; never shown, logged or saved.
        retry: the retry policy.
        announce: is told of each wait, in one line.
        grown: is given the whole answer so far after each piece of it; a retry starts over. None: the
            answer comes at once.
        dialects: where it is remembered what the server takes.
        insecure: let key and text go over plain http to another machine.
        key_hint: why there may be no key, for the message that the server wants one.

    Raises:
        SettingsError: the address is none of the web or not safe, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        announce: Announce = lambda _: None,
        grown: Callable[[str], None] | None = None,
        dialects: CapabilityStore | None = None,
        insecure: bool = False,
        key_hint: str = "",
    ) -> None:
        self._model = model
        self._base_url = base_url or DEFAULT_BASE_URL
        self._sdk = open_sdk(self._base_url, api_key, announce, insecure=insecure)
        self._retry = retry or RetryPolicy()
        self._announce = announce
        self._grown = grown
        self._key_hint = key_hint
        self._dialects = dialects or CapabilityStore()
        self._dialect = self._dialects.find(server_of(self._base_url), model)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def server(self) -> str:
        """The server's host and port, for messages."""
        return host_of(self._base_url)

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Answer `messages`; the usage has the tokens of those tries that led to no answer, too.

        Raises:
            ConnectionFailedError: no whole answer came within the retry policy.
            RequestRefusedError: the server will not do this.
        """
        import openai

        retry_budget = RetryBudget(self._retry)
        first = dialect = self._dialect
        tried = {first}
        while True:
            request = chat_request(
                self._model, messages, schema, limits, dialect, stream=self._grown is not None
            )
            try:
                answer = await self._with_retries(request, limits, retry_budget)
            except (openai.APIError, TimeoutError, InvalidResponseError) as error:
                fault: BaseException = error
            else:
                # Noted only now: what led to no answer is not worth remembering.
                self._dialect = learned(first, dialect, self._dialect)
                self._dialects.learn(server_of(self._base_url), self._model, first, dialect)
                return replace(answer, usage=retry_budget.wasted + answer.usage)
            other = (
                without_refused(dialect, fault, request) if isinstance(fault, openai.APIStatusError) else None
            )
            if other is None or other in tried:
                # Out here, for the SDK's error may quote the key, and would go along as the context.
                raise self._failure(fault, retry_budget.wasted)
            if dialect.temperature and not other.temperature:
                self._announce(f"{self._model} takes no temperature: asking without one")
            dialect = other
            tried.add(dialect)

    async def _with_retries(
        self, request: Mapping[str, Any], limits: Limits, retry_budget: RetryBudget
    ) -> Answer:
        async for attempt in retrying(retry_budget, self._announce):
            with attempt:
                within = min(limits.timeout, retry_budget.seconds_left)
                try:
                    if "stream" in request and self._grown is not None:
                        return await self._stream(request, within, self._grown, retry_budget)
                    return await self._call(request, within)
                except InvalidResponseError as fault:
                    retry_budget.wasted += fault.usage
                    raise
        raise AssertionError("tenacity re-raises the last fault")  # pragma: no cover

    async def _call(self, request: Mapping[str, Any], within: float) -> Answer:
        started = time.perf_counter()
        # The SDK's time-out begins anew with each byte, and some servers send blanks while they queue.
        async with asyncio.timeout(within):
            raw = await self._sdk.chat.completions.with_raw_response.create(**sdk_arguments(request))
        seconds = time.perf_counter() - started
        return read_answer(raw.content, raw.headers.get("content-type", ""), seconds, self._model)

    async def _stream(
        self,
        request: Mapping[str, Any],
        within: float,
        grown: Callable[[str], None],
        retry_budget: RetryBudget,
    ) -> Answer:
        import httpx2

        growing = GrowingAnswer()
        media_type = ""
        started = time.perf_counter()
        now = asyncio.get_running_loop().time
        end = now() + within
        create = self._sdk.chat.completions.with_streaming_response.create
        try:
            async with (
                asyncio.timeout_at(end) as bound,
                create(**sdk_arguments(request)) as response,
            ):
                media_type = response.headers.get("content-type", "")
                async for piece in response.iter_bytes():
                    if growing.feed(piece):
                        grown(whole(growing.text))
                    if growing.is_finished or growing.is_done:
                        end = min(end, now() + (_CLOSE_SECONDS if growing.is_done else _USAGE_SECONDS))
                        bound.reschedule(end)
        except (httpx2.HTTPError, TimeoutError, InvalidResponseError) as fault:
            if not (growing.is_finished or growing.is_done):
                retry_budget.wasted += growing.usage
                raise _plain(fault) from None
        return growing.answer(media_type, time.perf_counter() - started, self._model)

    async def models(self) -> list[str]:
        """Return the models the server offers, sorted.

        Raises:
            ModelError: it does not answer, or not with a list.
        """
        import openai

        try:
            async with asyncio.timeout(_LIST_SECONDS):
                raw = await self._sdk.models.with_raw_response.list()
            return read_models(raw.content, raw.headers.get("content-type", ""))
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault = error
        raise self._failure(fault, Usage())

    def _failure(self, fault: BaseException, wasted: Usage) -> ModelError:
        error = failure(fault, self.server, self._model, self._key_hint)
        error.usage = None if wasted == Usage() else wasted
        return error

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()


def open_sdk(
    address: str, api_key: str | None, announce: Announce, *, insecure: bool
) -> "openai.AsyncOpenAI":
    """Return the SDK's client: it retries nothing, and follows no redirect.

    Raises:
        SettingsError: the address is none of the web or not safe, or the key cannot be sent.
    """
    check_address(address)
    key = _checked_key(api_key or "")
    if is_open(address):
        _allow_open(host_of(address), announce, insecure=insecure)
    import openai

    return openai.AsyncOpenAI(api_key=key, base_url=address, max_retries=0, http_client=_transport(address))


def _transport(address: str) -> "openai.DefaultAsyncHttpxClient":
    """Return what connects; the environment may name a proxy and certificates for it."""
    import openai

    try:
        # The SDK would follow a redirect and take the text, and within a host the key, wherever it leads.
        uses_environment = not is_plain_loopback(address)
        return openai.DefaultAsyncHttpxClient(follow_redirects=False, trust_env=uses_environment)
    except (ImportError, ValueError, OSError):
        raise SettingsError(
            "a proxy or a file of certificates in the environment cannot be used: "
            "check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"
        ) from None


def _allow_open(server: str, announce: Announce, *, insecure: bool) -> None:
    if not insecure:
        raise SettingsError(
            f"{server}: plain http to another machine shows key and text to everyone on the way: "
            "use https, or allow it with --insecure"
        )
    announce(f"{server}: plain http: key and text can be read on the way")


def _checked_key(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("the key holds a character that no key has: copy it into OPENAI_API_KEY again")
    return key or _NO_KEY


def _plain(fault: BaseException) -> BaseException:
    """Return what the retry policy knows: the SDK lets its transport's faults through in a stream."""
    import httpx2

    if isinstance(fault, httpx2.TimeoutException):
        return TimeoutError()
    if isinstance(fault, httpx2.HTTPError):
        return InvalidResponseError("the answer broke off", is_transient=True)
    return fault


def chat_request(
    model: str,
    messages: Sequence[Message],
    schema: Mapping[str, Any] | None,
    limits: Limits,
    dialect: ServerCapabilities,
    *,
    stream: bool,
) -> dict[str, Any]:
    """Return the arguments for the SDK's `chat.completions.create`.

    Args:
        model: the model's name on the server.
        messages: the prompt.
        schema: the answer's shape; None is free text.
        limits: bounds of the call.
        dialect: what the server takes of all this.
        stream: ask for the answer in pieces, where the dialect has that.
    """
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        dialect.limit_field: limits.max_tokens,
        "timeout": limits.timeout,
    }
    if limits.temperature is not None and dialect.temperature:
        request["temperature"] = limits.temperature
    if dialect.cache_key and messages and messages[0].role == "system":
        request["prompt_cache_key"] = _cache_key(messages[0].content)
    if schema is not None and dialect.answer_format != "plain":
        request["response_format"] = _response_format(dialect.answer_format, schema)
    if stream and dialect.streaming != "none":
        request["stream"] = True
        if dialect.streaming == "usage":
            request["stream_options"] = {"include_usage": True}
    return request


def sdk_arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with its large fields as the SDK's `extra_body`, which is sent as it is.

    The SDK looks each message through for what it would have to rename, and finds nothing: a quarter of the
    time that a call takes.
    """
    large = {field: request[field] for field in ("messages", "response_format") if field in request}
    small = {field: value for field, value in request.items() if field not in large}
    return {**small, "messages": [], "extra_body": large}


def _cache_key(stable: str) -> str:
    """Return what leads prompts with one beginning to one cache at the provider, and holds no text."""
    return hashlib.sha256(stable.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _response_format(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}


_REFUSED = frozenset({400, 422, 501})

# The field of a request, and what servers call it; the cheapest to do without first.
_NAMES = {
    "prompt_cache_key": re.compile(r"prompt.?cache.?key", re.IGNORECASE),
    "stream_options": re.compile(r"stream.?options|include.?usage", re.IGNORECASE),
    "temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
    "response_format": re.compile(
        r"response.?format|json.?schema|json.?object|structured.?output", re.IGNORECASE
    ),
    "max_completion_tokens": re.compile(r"max.?completion.?tokens", re.IGNORECASE),
    "max_tokens": re.compile(r"max.?tokens", re.IGNORECASE),
    "stream": re.compile(r"\bstream(ing)?\b", re.IGNORECASE),
}

# A limit that is too high is no unknown field: another name for it would not help.
_TOO_MUCH = re.compile(r"too (large|long|many|high)|maximum|at most|less than|context.?length", re.IGNORECASE)

# What is changed where a field is refused; `max_tokens` is, by a new model behind an old name.
_WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "prompt_cache_key": {"cache_key": False},
    "stream_options": {"streaming": "bare"},
    "temperature": {"temperature": False},
    "max_completion_tokens": {"limit_field": "max_tokens"},
    "max_tokens": {"limit_field": "max_completion_tokens"},
    "stream": {"streaming": "none"},
}

# Their reasoning models refuse `max_tokens`; most others ignore `max_completion_tokens` without a word.
_NEW_NAME = re.compile(
    r"^([^/]*\.)?(api\.openai\.com|openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)"
    r"\.?(:\d+)?(/|$)",
    re.IGNORECASE,
)


def initial_capabilities(server: str) -> ServerCapabilities:
    """Return the dialect to begin with at a server, given by host, port and path."""
    return (
        ServerCapabilities(limit_field="max_completion_tokens")
        if _NEW_NAME.search(server)
        else ServerCapabilities()
    )


def without_refused(
    dialect: ServerCapabilities, fault: "openai.APIStatusError", request: Mapping[str, Any]
) -> ServerCapabilities | None:
    """Return the dialect to try after `fault`, or None where the fault has nothing to do with it.

    Args:
        dialect: the one that was refused.
        fault: what the server said; it must name the field.
        request: what was sent: only a field in it can have been refused.
    """
    if fault.status_code not in _REFUSED or is_quota(fault):
        return None
    named = fault.param if isinstance(fault.param, str) and fault.param else None
    said = f"{fault.message} {fault.body}"
    for parameter, name in _NAMES.items():
        if parameter in request and name.search(named or said):
            too_much = "tokens" in parameter and _TOO_MUCH.search(said)
            return None if too_much else _without(dialect, parameter)
    return None


def _without(dialect: ServerCapabilities, field: str) -> ServerCapabilities:
    if field == "response_format":
        return replace(
            dialect, answer_format="json_object" if dialect.answer_format == "json_schema" else "plain"
        )
    return replace(dialect, **_WITHOUT[field])


def learned(
    before: ServerCapabilities, after: ServerCapabilities, current: ServerCapabilities
) -> ServerCapabilities:
    """Return `current` with what changed from `before` to `after`; others may have learned besides."""
    old, new = asdict(before), asdict(after)
    return replace(current, **{field: value for field, value in new.items() if value != old[field]})


CAPABILITIES_FILE = "dialects.json"

_KEEP_SECONDS = 30 * 24 * 3600.0  # servers get updated: what one refused last month it may take now


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dialects: list[_Entry] = []


def _replace(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
