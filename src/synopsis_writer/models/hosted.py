"""OpenAI-compatible servers: the client, its requests, and what each server has refused."""

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synopsis_writer.errors import FileError, ModelError, SettingsError
from synopsis_writer.models.base import Answer, Limits, Message, Schema
from synopsis_writer.models.responses import (
    StreamedAnswer,
    is_cut_message,
    read_answer,
    read_models,
    repair_surrogates,
)
from synopsis_writer.models.retry import (
    InvalidResponseError,
    LongWaitError,
    RetryBudget,
    RetryPolicy,
    ServerState,
    is_quota,
    model_error,
    retrying,
)
from synopsis_writer.models.server import DEFAULT_BASE_URL, check_address, host_of, is_loopback, server_of
from synopsis_writer.storage.files import replacing
from synopsis_writer.usage import Usage

if TYPE_CHECKING:
    import httpx2
    import openai

_log = logging.getLogger(__name__)

_LIST_SECONDS = 10.0

# A server accepts a connection at once; a firewall that drops packets would take all the time of a call.
_CONNECT_SECONDS = 30.0

# What a stream may still take once the text is complete: for the usage, and to reuse the connection.
_USAGE_SECONDS, _CLOSE_SECONDS = 5.0, 0.2


@dataclass(frozen=True)
class ServerCapabilities:
    """What one model of one server accepts."""

    answer_format: Literal["json_schema", "json_object", "plain"] = "json_schema"  # plain: any shape
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    cache_key: bool = True  # takes `prompt_cache_key`
    temperature: bool = True  # reasoning models refuse it
    streaming: Literal["usage", "bare", "none"] = "usage"  # bare: without the usage at the end

    def updated(self, before: "ServerCapabilities", after: "ServerCapabilities") -> "ServerCapabilities":
        """Return these with what changed from `before` to `after`; other calls may have learned more."""
        old = asdict(before)
        return replace(self, **{name: value for name, value in asdict(after).items() if value != old[name]})


class _StoredCapabilities(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: str
    model: str
    since: float
    capabilities: ServerCapabilities = Field(alias="dialect")


class _CapabilitiesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dialects: list[_StoredCapabilities] = []


CAPABILITIES_FILE = "dialects.json"
_KEEP_SECONDS = 30 * 24 * 3600.0  # servers get updated: what one refused last month it may accept now


@dataclass(frozen=True)
class CapabilityStore:
    """Capabilities by server and model, in one JSON file; an entry expires 30 days after it was learned.

    A file that cannot be read or written costs a request, and nothing else; without one nothing is learned.
    """

    path: Path | None = None
    clock: Callable[[], float] = field(default=time.time)  # seconds since 1970

    def find(self, server: str, model: str) -> ServerCapabilities:
        """Return what is known of a model, or what to begin with; `server` as `server_of` returns it."""
        for entry in self._read():
            if (entry.server, entry.model) == (server, model):
                return entry.capabilities
        return initial_capabilities(server)

    def learn(self, server: str, model: str, before: ServerCapabilities, after: ServerCapabilities) -> None:
        """Save what changed from `before` to `after`, with what others have saved meanwhile."""
        if self.path is None or before == after:
            return
        others = [entry for entry in self._read() if (entry.server, entry.model) != (server, model)]
        known = self.find(server, model).updated(before, after)
        entry = _StoredCapabilities(server=server, model=model, since=self.clock(), dialect=known)
        content = _CapabilitiesFile(dialects=[*others, entry])
        with contextlib.suppress(FileError), replacing(self.path) as file:
            file.write(content.model_dump_json(by_alias=True, indent=1).encode())

    def _read(self) -> list[_StoredCapabilities]:
        if self.path is None:
            return []
        try:
            content = _CapabilitiesFile.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return []
        now = self.clock()
        return [entry for entry in content.dialects if 0 <= now - entry.since < _KEEP_SECONDS]


class HostedClient:
    """A `ModelClient` for one model of an OpenAI-compatible server; it follows no redirects.

    Waits and what the server refuses are logged.

    Args:
        model: the model's name on the server.
        base_url: the server's address, usually ending in /v1; None is OpenAI's.
        api_key: the key; never shown, logged or saved.
        retry: the retry policy.
        on_text: is given the whole answer so far after each piece of it; a retry starts over. None: the
            answer comes at once.
        capabilities: remembers what the server accepts.
        insecure: allow plain http to another machine, where key and text can be read on the way.
        key_hint: why there may be no key, for the message that the server wants one.
        transport: sends the requests; `httpx2.MockTransport` answers them in a test. None is the network.

    Raises:
        SettingsError: the address is not an http(s) URL or not safe, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        on_text: Callable[[str], None] | None = None,
        capabilities: CapabilityStore | None = None,
        insecure: bool = False,
        key_hint: str = "",
        transport: "httpx2.AsyncBaseTransport | None" = None,
    ) -> None:
        self._model = model
        self._base_url = base_url or DEFAULT_BASE_URL
        self._sdk = open_sdk(self._base_url, api_key, insecure=insecure, transport=transport)
        self._retry = retry or RetryPolicy()
        self._server = ServerState()
        self._on_text = on_text
        self._key_hint = key_hint
        self._store = capabilities or CapabilityStore()
        self._capabilities = self._store.find(server_of(self._base_url), model)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Answer `messages`; the usage includes the tokens of tries that led to no answer.

        Raises:
            ConnectionFailedError: no complete answer came within the retry policy.
            RequestRefusedError: the server will not do this.
            UnavailableError: the server named a time too far off, or several calls in a row did not reach it.
        """
        import openai

        budget = RetryBudget(self._retry)
        first = current = self._capabilities
        tried = {first}
        stream = self._on_text is not None
        while True:
            request = chat_request(self._model, messages, schema, limits, current, stream=stream)
            try:
                answer = await self._with_retries(request, limits, budget)
            except (openai.APIError, TimeoutError, InvalidResponseError, LongWaitError) as error:
                fault: BaseException = error
                self._server.record(fault)
            else:
                self._server.record(None)
                # Only now: what led to no answer is not worth remembering.
                self._capabilities = self._capabilities.updated(first, current)
                self._store.learn(server_of(self._base_url), self._model, first, current)
                return replace(answer, usage=budget.wasted + answer.usage)
            reduced = None
            if isinstance(fault, openai.APIStatusError):
                if is_cut_message(f"{fault.message} {fault.body}"):
                    return Answer("", "length", budget.wasted, model=self._model)
                reduced = reduced_capabilities(current, fault, request)
            if reduced is None or reduced in tried:
                # Outside the `except` block: the SDK's error may quote the key, and must not be the context.
                raise self._error(fault, budget.wasted)
            if current.temperature and not reduced.temperature:
                _log.info("%s does not accept a temperature: asking without one", self._model)
            current = reduced
            tried.add(current)

    async def _with_retries(self, request: Mapping[str, Any], limits: Limits, budget: RetryBudget) -> Answer:
        timeout = min(limits.timeout, budget.policy.seconds)
        async for attempt in retrying(budget, self._server):
            with attempt:
                try:
                    if "stream" in request and self._on_text is not None:
                        return await self._stream(request, timeout, self._on_text, budget)
                    return await self._call(request, timeout)
                except InvalidResponseError as fault:
                    budget.wasted += fault.usage
                    raise
        raise AssertionError("tenacity re-raises the last fault")  # pragma: no cover

    async def _call(self, request: Mapping[str, Any], seconds: float) -> Answer:
        started = time.perf_counter()
        create = self._sdk.chat.completions.with_raw_response.create
        # The SDK's time-out restarts with each byte, and some servers send blanks while they queue.
        async with asyncio.timeout(seconds):
            raw = await create(**_sdk_arguments(request, seconds))
        media_type = raw.headers.get("content-type", "")
        return read_answer(raw.content, media_type, time.perf_counter() - started, self._model)

    async def _stream(
        self, request: Mapping[str, Any], seconds: float, show: Callable[[str], None], budget: RetryBudget
    ) -> Answer:
        import httpx2

        streamed = StreamedAnswer()
        media_type = ""
        started = time.perf_counter()
        now = asyncio.get_running_loop().time
        end = now() + seconds
        arguments = _sdk_arguments(request, seconds)
        create = self._sdk.chat.completions.with_streaming_response.create
        try:
            async with asyncio.timeout_at(end) as deadline, create(**arguments) as response:
                media_type = response.headers.get("content-type", "")
                async for piece in response.iter_bytes():
                    length = streamed.length
                    if streamed.feed(piece):
                        show(repair_surrogates(streamed.text))
                    if streamed.is_finished or streamed.is_done:
                        end = min(end, now() + (_CLOSE_SECONDS if streamed.is_done else _USAGE_SECONDS))
                    elif streamed.length > length:  # blanks and comments only keep a connection open
                        end = now() + seconds
                    deadline.reschedule(end)
        # The SDK lets the transport's own errors through while a stream is read.
        except (httpx2.HTTPError, TimeoutError, InvalidResponseError) as error:
            if not (streamed.is_finished or streamed.is_done):
                budget.wasted += streamed.usage
                if isinstance(error, InvalidResponseError | TimeoutError):
                    raise
                if isinstance(error, httpx2.TimeoutException):
                    raise TimeoutError from None
                raise InvalidResponseError("the answer broke off", is_transient=True) from None
        return streamed.answer(media_type, time.perf_counter() - started, self._model)

    async def models(self) -> list[str]:
        """Return the models the server offers, sorted; raises ModelError."""
        import openai

        try:
            async with asyncio.timeout(_LIST_SECONDS):
                raw = await self._sdk.models.with_raw_response.list()
            return read_models(raw.content, raw.headers.get("content-type", ""))
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault = error
        raise self._error(fault, Usage())

    def _error(self, fault: BaseException, wasted: Usage) -> ModelError:
        host, unreached = host_of(self._base_url), self._server.unreached
        error = model_error(fault, host, self._model, self._key_hint, unreached)
        error.usage = None if wasted == Usage() else wasted
        return error

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()


def open_sdk(
    address: str, api_key: str | None, *, insecure: bool, transport: "httpx2.AsyncBaseTransport | None" = None
) -> "openai.AsyncOpenAI":
    """Return the SDK's client, which retries nothing and follows no redirects; raises as `HostedClient`."""
    check_address(address)
    key = (api_key or "").strip() or "no-key"  # the SDK wants one, and servers of one's own take any
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("the key holds a character that no key has: copy it into OPENAI_API_KEY again")
    import httpx2

    url = httpx2.URL(address)  # as it is read by the library that will connect
    is_plain, is_here = url.scheme != "https", is_loopback(url.host)
    if is_plain and not is_here:
        if not insecure:
            raise SettingsError(
                f"{host_of(address)}: plain http to another machine shows key and text to everyone on the "
                "way: use https, or allow it with --insecure"
            )
        _log.warning("%s: plain http: key and text can be read on the way", host_of(address))
    import openai

    try:
        # A client of our own, for the SDK's would follow a redirect, and take the text and within a host the
        # key wherever it leads; and it would send what goes to this machine through a proxy.
        http_client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=not (is_plain and is_here), transport=transport
        )
    except (ImportError, ValueError, OSError):
        raise SettingsError(
            "a proxy or a file of certificates in the environment cannot be used: "
            "check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"
        ) from None
    return openai.AsyncOpenAI(api_key=key, base_url=address, max_retries=0, http_client=http_client)


def chat_request(
    model: str,
    messages: Sequence[Message],
    schema: Schema | None,
    limits: Limits,
    capabilities: ServerCapabilities,
    *,
    stream: bool,
) -> dict[str, Any]:
    """Return the body of a request for a chat completion, of what the server accepts of all this."""
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        capabilities.limit_field: limits.max_tokens,
    }
    if limits.temperature is not None and capabilities.temperature:
        request["temperature"] = limits.temperature
    if capabilities.cache_key and messages and messages[0].role == "system":
        # Leads prompts with the same beginning to the same cache at the provider, and reveals no text.
        digest = hashlib.sha256(messages[0].content.encode("utf-8", "surrogatepass"))
        request["prompt_cache_key"] = digest.hexdigest()[:16]
    if schema is not None and capabilities.answer_format == "json_object":
        request["response_format"] = {"type": "json_object"}
    elif schema is not None and capabilities.answer_format == "json_schema":
        shape = {"name": "answer", "strict": True, "schema": dict(schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": shape}
    if stream and capabilities.streaming != "none":
        request["stream"] = True
        if capabilities.streaming == "usage":
            request["stream_options"] = {"include_usage": True}
    return request


def _sdk_arguments(request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return a request with its large fields as the SDK's `extra_body`, which is sent as it is.

    The SDK searches every message for names it would have to convert, and finds none: a quarter of the time
    that a call takes.
    """
    large = {name: request[name] for name in ("messages", "response_format") if name in request}
    small = {name: value for name, value in request.items() if name not in large}
    import httpx2

    seconds = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
    return {**small, "messages": [], "extra_body": large, "timeout": seconds}


# Their reasoning models refuse `max_tokens`; most others ignore `max_completion_tokens` without a word.
_TAKES_COMPLETION_TOKENS = re.compile(
    r"^([^/]*\.)?(api\.openai\.com|openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)"
    r"\.?(:\d+)?(/|$)",
    re.IGNORECASE,
)


def initial_capabilities(server: str) -> ServerCapabilities:
    """Return what to begin with at a server, given by host, port and path."""
    is_new = _TAKES_COMPLETION_TOKENS.search(server)
    return ServerCapabilities(limit_field="max_completion_tokens" if is_new else "max_tokens")


# The field of a request, what servers call it, and what changes when it is refused; the cheapest comes first.
_REFUSABLE: Mapping[str, tuple[re.Pattern[str], Mapping[str, Any]]] = {
    name: (re.compile(pattern, re.IGNORECASE), change)
    for name, pattern, change in (
        ("prompt_cache_key", r"prompt.?cache.?key", {"cache_key": False}),
        ("stream_options", r"stream.?options|include.?usage", {"streaming": "bare"}),
        ("temperature", r"\btemperature\b", {"temperature": False}),
        ("response_format", r"response.?format|json.?schema|json.?object|structured.?output", {}),
        ("max_completion_tokens", r"max.?completion.?tokens", {"limit_field": "max_tokens"}),
        ("max_tokens", r"max.?tokens", {"limit_field": "max_completion_tokens"}),
        ("stream", r"\bstream(ing)?\b", {"streaming": "none"}),
    )
}

# A limit that is too high is not an unknown field: another name for it would not help.
_TOO_HIGH = re.compile(r"too (large|long|many|high)|maximum|at most|less than|context.?length", re.IGNORECASE)


def reduced_capabilities(
    current: ServerCapabilities, fault: "openai.APIStatusError", request: Mapping[str, Any]
) -> ServerCapabilities | None:
    """Return `current` without the field of `request` that `fault` names; None if it names none."""
    if fault.status_code not in {400, 422, 501} or is_quota(fault):
        return None
    parameter = fault.param if isinstance(fault.param, str) and fault.param else None
    message = f"{fault.message} {fault.body}"
    for name, (pattern, change) in _REFUSABLE.items():
        if name not in request or not pattern.search(parameter or message):
            continue
        if "tokens" in name and _TOO_HIGH.search(message):
            return None
        if name == "response_format":
            is_strict = current.answer_format == "json_schema"
            return replace(current, answer_format="json_object" if is_strict else "plain")
        return replace(current, **change)
    return None
