"""OpenAI-compatible servers: the client, its requests, and each server's capabilities."""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import httpx2
import openai
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from synopsis_writer.errors import FileError, ModelError, SettingsError
from synopsis_writer.models import retry as retries
from synopsis_writer.models import server
from synopsis_writer.models.base import MOST_ANSWER, Answer, Limits, Message, Schema
from synopsis_writer.models.responses import MOST_ERROR, MOST_STREAM, StreamedAnswer, read_bounded, read_models
from synopsis_writer.models.retry import SERVERS, InvalidResponseError, Report, RetryPolicy
from synopsis_writer.storage.files import read_input, write_file
from synopsis_writer.usage import Usage

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 30.0  # a firewall that drops packets would take all the time of a call
# What a stream may still take once the text is complete: for the usage, and to reuse the connection.
_USAGE_SECONDS, _CLOSE_SECONDS = 5.0, 0.2
_KEEP_SECONDS = 30 * 24 * 3600.0  # servers get updated: what one refused last month it may accept now
_FORMATS = frozenset({"json_schema", "json_object"})
FILE_TYPE = "application/binary"  # what the SDK asks for when it downloads a file
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_MARKS = {mark["mark"]: mark["value"] for mark in SERVERS["marks"]}
_OPTIONS: Sequence[Mapping[str, Any]] = SERVERS["options"]  # what servers may refuse, as explained there
_REFUSED = frozenset({400, 404, 405, 415, 422, 500, 501})  # what servers answer to what they do not support
_TOO_HIGH = re.compile(SERVERS["completion_tokens"]["too_high"], re.IGNORECASE | re.DOTALL)
_BUSY_TIER, _REFUSAL, _UNKNOWN = (
    re.compile(SERVERS["unnamed"][name], re.IGNORECASE) for name in ("busy_tier", "refusal", "parameter")
)


@dataclass(frozen=True)
class ServerCapabilities:
    """What one model of one server accepts."""

    omitted: frozenset[str] = frozenset()  # options of a request that it refuses, by their names in SERVERS
    doubted: frozenset[str] = frozenset()  # of these: left out with others, perhaps without need
    cache_mark: Literal["", "prompt_cache_breakpoint", "cache_control"] = ""  # of a cached beginning
    has_answered_format: bool = False  # has answered a request with `response_format`
    is_doubtful: bool = False  # has once answered 500, and then the same request without something

    @property
    def answer_format(self) -> Literal["json_schema", "json_object", "plain"]:
        """How to ask for JSON; plain: any shape."""
        if "json_object" in self.omitted:
            return "plain"
        return "json_object" if "json_schema" in self.omitted else "json_schema"

    def with_format(self, other: "ServerCapabilities") -> "ServerCapabilities":
        """Return these with the answer format of `other`."""
        return replace(self, omitted=self.omitted - _FORMATS | other.omitted & _FORMATS)

    def updated(self, before: "ServerCapabilities", after: "ServerCapabilities") -> "ServerCapabilities":
        """Return these with what changed from `before` to `after`; other calls may have learned more."""
        old = asdict(before)
        changes = {name: value for name, value in asdict(after).items() if value != old[name]}
        for name in ("omitted", "doubted"):
            mine, first, last = (getattr(each, name) for each in (self, before, after))
            changes[name] = (mine - (first - last)) | (last - first)
        return replace(self, **changes)


class _Entry(BaseModel):
    server: str
    model: str
    since: float
    capabilities: ServerCapabilities = Field(alias="dialect")

    @field_validator("capabilities", mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("omitted", []), list):
            return data
        options = [option for option in _OPTIONS if "before" in option]
        names = [option["name"] for option in options if option["before"].items() <= data.items()]
        return data | ({"omitted": [*data.get("omitted", []), *names]} if names else {})


_ENTRIES = TypeAdapter(dict[Literal["dialects"], list[_Entry]])


@dataclass(frozen=True)
class CapabilityStore:
    """Capabilities by server and model, in one JSON file that may be lost; an entry expires after 30 days."""

    path: Path | None = None
    clock: Callable[[], float] = field(default=time.time)  # seconds since 1970

    def find(self, server: str, model: str) -> ServerCapabilities:
        """Return a model's known capabilities, or initial ones; `server` as `server_of` returns it."""
        entries = (entry for entry in self._read() if (entry.server, entry.model) == (server, model))
        return next((entry.capabilities for entry in entries), initial_capabilities(server, model))

    def learn(self, server: str, model: str, before: ServerCapabilities, after: ServerCapabilities) -> None:
        """Save what changed from `before` to `after`, with what others have saved meanwhile."""
        if self.path is None or before == after:
            return
        others = [entry for entry in self._read() if (entry.server, entry.model) != (server, model)]
        known = self.find(server, model).updated(before, after)
        entry = _Entry(server=server, model=model, since=self.clock(), dialect=known)
        content = _ENTRIES.dump_json({"dialects": [*others, entry]}, by_alias=True, indent=1)
        with contextlib.suppress(FileError):
            write_file(self.path, content.decode())

    def _read(self) -> list[_Entry]:
        entries: list[_Entry] = []
        if self.path is not None:
            with contextlib.suppress(FileError, ValidationError):
                entries = _ENTRIES.validate_json(read_input(self.path)).get("dialects", [])
        return [entry for entry in entries if 0 <= self.clock() - entry.since < _KEEP_SECONDS]


class HostedClient:
    """A `ModelClient` for a model of an OpenAI-compatible server; SettingsError for its address or key."""

    def __init__(
        self,
        model: str,  # its name on the server
        base_url: str | None = None,  # the server's address, usually ending in /v1; None is OpenAI's
        api_key: str | None = None,  # never shown, logged or saved
        *,
        retry: RetryPolicy | None = None,
        on_text: Callable[[str], None] | None = None,  # given the whole answer so far; a retry starts over
        capabilities: CapabilityStore | None = None,  # records what the server accepts
        insecure: bool = False,  # allow plain http to another machine, where all can be read on the way
        key_hint: str = "",  # why there may be no key, for the message that the server wants one
        transport: httpx2.AsyncBaseTransport | None = None,  # httpx2.MockTransport in a test
    ) -> None:
        self.name = model
        self._base_url = server.DEFAULT_BASE_URL if base_url is None else base_url
        self._sdk = open_sdk(self._base_url, api_key, insecure=insecure, transport=transport)
        self._retry, self._server = retry or RetryPolicy(), retries.ServerState()
        self._on_text, self._key_hint = on_text, key_hint
        self._store = capabilities or CapabilityStore()
        self._capabilities = self._store.find(server.server_of(self._base_url), model)
        self._has_answered_format = False  # in this process: a server may have got another model since
        self._has_reported_tier = False

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Answer `messages`; the usage counts tries that led to no answer, too; raises ModelError."""
        known = self._capabilities
        returned = frozenset(sorted(known.doubted)[:1])
        asked = replace(known, omitted=known.omitted - returned, doubted=known.doubted - returned)
        budget = retries.RetryBudget(self._retry)
        call = _Call(messages, schema, limits, budget, known, asked, returned)
        try:
            async for attempt in retries.retrying(budget, self._server):
                with attempt:
                    call.suspicious = None
                    answer = await self._ask_for_less(call)
        except (openai.APIError, httpx2.HTTPError, TimeoutError, InvalidResponseError) as error:
            fault: BaseException = error
            if not isinstance(fault, retries.LongWaitError):
                self._server.unreached = (self._server.unreached + 1) * retries.fault_of(fault).is_unreached
        else:
            self._server.unreached = 0
            self._learn(call)  # only now: what led to no answer is not worth remembering
            return replace(answer, usage=budget.wasted + answer.usage)
        # Outside the `except` block: the SDK's error may quote the key, and must not be the context.
        raise self._error(fault, budget.wasted)

    async def _ask_for_less(self, call: "_Call") -> Answer:
        """Ask, and ask again without what the server refuses; raises as `_ask`."""
        while True:
            try:
                return await self._ask(call)
            except (openai.APIStatusError, InvalidResponseError) as error:
                report = retries.fault_of(error).report
                if report.meaning in retries.ENDS:  # what the model wrote is its answer
                    return Answer(report.generated, retries.ENDS[report.meaning], model=self.name)
                if not self._has_less(call, error):
                    if call.suspicious is not None and report.status in _REFUSED:
                        raise call.suspicious from None
                    raise

    def _has_less(self, call: "_Call", error: Exception) -> bool:
        """Leave out what an error may mean; return whether there is anything."""
        known, fault = call.capabilities, retries.fault_of(error)
        report, is_500 = fault.report, fault.report.status == HTTPStatus.INTERNAL_SERVER_ERROR
        is_limited = report.status == HTTPStatus.TOO_MANY_REQUESTS and call.limits.service_tier == "flex"
        if is_limited and _BUSY_TIER.search(report.text):
            if not self._has_reported_tier:
                _log.info("%s has no room in the service tier flex now: asking for the usual one", self.name)
            self._has_reported_tier = True
            call.limits = replace(call.limits, service_tier=None)
            return True
        if (option := _refused_option(report, self._request(call))) is not None:
            without = known.omitted - {option.get("replaces")} | {option["name"]}
            if self._try(call, replace(known, omitted=without), is_500=is_500):
                return True
        is_refusal = report.status in _REFUSED and report.meaning == "other"
        if is_refusal and not fault.wait and self._may_be_the_schema(call, report):
            call.suspicious, call.before = error, known
            call.is_after_fault |= is_500
            call.capabilities = replace(known, omitted=known.omitted | {"json_object"})
            return True
        if call.suspicious is not None and known.answer_format == "plain":  # in vain
            call.capabilities = known.with_format(call.before)
            call.may_be_the_schema = report.status not in _REFUSED
        return is_refusal and _UNKNOWN.search(report.text) is not None and self._guess(call, is_500=is_500)

    def _may_be_the_schema(self, call: "_Call", report: Report) -> bool:
        """Whether a refusal in whatever words may mean the schema: no such request was answered before."""
        known = call.capabilities
        if call.schema is None or known.answer_format == "plain" or self._has_answered_format:
            return False
        if call.suspicious is not None or not call.may_be_the_schema or _TOO_HIGH.search(report.text):
            return False
        if report.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        # A 500 passes, as a rule. Where the server has answered by a schema before, it is retried as it is;
        # so is the one that would confirm a doubt, once.
        is_first = call.budget.retries_left == call.budget.policy.retries > 0
        return not known.has_answered_format and not (known.is_doubtful and is_first)

    def _guess(self, call: "_Call", *, is_500: bool) -> bool:
        """Leave out what an unnamed option may be: each alone, then more and more; return whether it does."""
        known = call.capabilities
        base = replace(known, omitted=known.omitted - {*call.guess})
        present = _present(self._request(call, base))
        names = [option["name"] for option in present if option.get("is_optional", True)]
        names.sort(key=lambda name: name not in call.returned)
        for guess in (*([name] for name in names), *(names[:count] for count in range(2, len(names) + 1))):
            if self._try(call, replace(base, omitted=base.omitted | {*guess}), is_500=is_500):
                call.guess = guess
                return True
        return False

    def _try(self, call: "_Call", reduced: ServerCapabilities, *, is_500: bool) -> bool:
        """Go on with `reduced`, unless the same was asked already; return whether it does."""
        if self._request(call, reduced) in call.sent:
            return False
        # Templates that know no system role fail with a 500, in words that nothing else has.
        call.is_after_fault |= is_500 and "system" not in reduced.omitted - call.capabilities.omitted
        call.capabilities = reduced
        return True

    def _learn(self, call: "_Call") -> None:
        """Record what the server accepted in a call, and log new capabilities once."""
        first, current, known = call.first, call.capabilities, self._capabilities
        current = replace(current, doubted=current.doubted | {*call.guess[:-1]})
        if call.is_after_fault and current != first and not first.is_doubtful:
            # A 500 passes, as a rule: only the same again, in a later call, teaches anything.
            current = replace(first, is_doubtful=True)
        elif call.schema is not None and current.answer_format != "plain":
            self._has_answered_format = True
            current = replace(current, has_answered_format=True, is_doubtful=False)
            # It also refutes what a call beside it learnt from a fault that passed.
            first = replace(first.with_format(known), is_doubtful=known.is_doubtful)
        if self._has_answered_format and current.answer_format == "plain":  # another call has had an answer
            current = replace(current.with_format(first), is_doubtful=False)
        self._capabilities = known.updated(first, current)
        self._store.learn(server.server_of(self._base_url), self.name, first, current)
        refused, was_refused = (each.omitted - each.doubted for each in (self._capabilities, known))
        for option in _OPTIONS:
            if "notice" in option and option["name"] in refused - was_refused:
                _log.info("%s %s", self.name, option["notice"])

    def _request(self, call: "_Call", capabilities: ServerCapabilities | None = None) -> dict[str, Any]:
        capabilities = capabilities or call.capabilities
        stream = self._on_text is not None or "whole" in capabilities.omitted
        return chat_request(self.name, call.messages, call.schema, call.limits, capabilities, stream=stream)

    async def _ask(self, call: "_Call") -> Answer:
        """Send the request once; raises the SDK's errors, TimeoutError, or InvalidResponseError."""
        streamed, media_type = StreamedAnswer(self._on_text), ""
        fault: Exception | None = None
        seconds = min(call.limits.timeout, call.budget.policy.seconds)
        now = asyncio.get_running_loop().time
        started, end = now(), now() + seconds
        # The SDK would search every message for names that it has to convert: the body is sent as it is.
        body = self._request(call)
        call.sent.append(body)
        items = sorted(body.items(), key=lambda item: (item[0] == "response_format", item[0]))
        sending = self._sdk.chat.completions.with_streaming_response.create(
            model=self.name,
            messages=[],
            extra_body=dict(items),
            timeout=httpx2.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        )
        try:
            # The SDK's time-out restarts with each byte, and some servers send blanks while they queue.
            async with asyncio.timeout_at(end) as deadline, sending as response:
                media_type = response.headers.get("content-type", "")
                async for piece in response.iter_bytes():
                    length = streamed.length
                    streamed.feed(piece)
                    if streamed.is_finished or streamed.is_done:
                        end = min(end, now() + (_CLOSE_SECONDS if streamed.is_done else _USAGE_SECONDS))
                    elif streamed.length > length:  # blanks and comments only keep a connection open
                        end = now() + seconds
                    deadline.reschedule(end)
        # The SDK lets the transport's own errors through while a body is read. What came may be whole.
        except (httpx2.HTTPError, TimeoutError, InvalidResponseError) as error:
            fault = error
        try:
            return streamed.answer(media_type, now() - started, self.name)
        except InvalidResponseError as error:
            call.budget.wasted += streamed.usage
            raise fault or error from None

    async def models(self) -> Mapping[str, date | None]:
        """Return the models the server offers, sorted, and when each is shut down; raises ModelError."""
        try:
            async with asyncio.timeout(10):
                raw = await self._sdk.models.with_raw_response.list()
            return read_models(raw.content, raw.headers.get("content-type", ""))
        except (openai.APIError, TimeoutError, InvalidResponseError) as error:
            fault = error
        raise self._error(fault, Usage())

    def _error(self, fault: BaseException, wasted: Usage) -> ModelError:
        address, secrets = self._base_url, server.secrets_of(self._base_url, self._sdk.api_key)
        host, proxy, unreached = server.host_of(address), server.proxy_of(address), self._server.unreached
        error = retries.model_error(fault, host, self.name, self._key_hint, unreached, secrets, proxy)
        error.usage = None if wasted == Usage() else wasted
        return error

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()


def open_sdk(
    address: str, api_key: str | None, *, insecure: bool, transport: httpx2.AsyncBaseTransport | None = None
) -> openai.AsyncOpenAI:
    """Return the SDK's client, which retries nothing and follows no redirects; raises as `HostedClient`."""
    server.check_address(address)
    key = server.check_header(server.KEY_VARIABLE, api_key or "") or "no-key"  # some servers take any
    server.proxy_of(address)
    if is_open := server.is_open(address):
        if not insecure:
            raise SettingsError(
                f"{server.host_of(address)}: plain http to another machine shows key and text to everyone on "
                "the way: use https, or allow it with --insecure"
            )
        _log.warning("%s: plain http: key and text can be read on the way", server.host_of(address))
    url = httpx2.URL(address)
    try:
        # A client of our own, for the SDK's would follow a redirect, and take the text and within a host the
        # key wherever it leads; and it would send what goes to this machine through a proxy.
        http_client = openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=url.scheme != "http" or is_open,
            transport=transport,
            headers={"Accept-Encoding": "gzip, deflate"},
            event_hooks={"response": [_bound_body]},
        )
    except (ImportError, ValueError, OSError, httpx2.InvalidURL):
        raise SettingsError(
            "a proxy or a file of certificates in the environment cannot be used: "
            "check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"
        ) from None
    base_url, _, query = address.partition("?")  # the SDK would put the path behind it
    fields = parse_qsl(query.partition("#")[0], keep_blank_values=True)
    if len(dict(fields)) < len(fields):
        raise SettingsError("the server's address has a field twice behind the '?': write it once")
    sdk = openai.AsyncOpenAI(
        api_key=key, base_url=base_url, default_query=dict(fields), max_retries=0, http_client=http_client
    )
    is_openai = f".{url.host}".endswith(".api.openai.com")
    # The SDK would send them to any server.
    for attribute, name in (("organization", "OPENAI_ORG_ID"), ("project", "OPENAI_PROJECT_ID")):
        value = server.check_header(name, os.environ.get(name, "")) if is_openai else ""
        setattr(sdk, attribute, value or None)
    headers = [(name, text if isinstance(text, str) else "") for name, text in sdk.default_headers.items()]
    if not all(_HEADER.fullmatch(name) and text.isascii() and text.isprintable() for name, text in headers):
        raise SettingsError("OPENAI_CUSTOM_HEADERS holds a character that cannot be sent: write it in ASCII")
    return sdk


async def _bound_body(response: httpx2.Response) -> None:
    """Let no body take more memory than its limit, however small it is compressed."""
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        return
    body = response.stream
    # It is decompressed here, a piece at a time: the library would do it without a limit.
    encoding = response.headers.pop("content-encoding", "").strip().lower()
    is_stream = "event-stream" in response.headers.get("content-type", "")
    most: float = MOST_ERROR if response.is_error else MOST_STREAM if is_stream else MOST_ANSWER
    if response.request.headers.get("accept") == FILE_TYPE and response.is_success:
        most = float("inf")  # who asks for a file knows its size

    class Bounded(httpx2.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return read_bounded(body, encoding, most, is_error=response.is_error)

        async def aclose(self) -> None:
            await body.aclose()

    response.stream = Bounded()


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
    omitted = capabilities.omitted
    turns = [dict(vars(one)) for one in (_without_system(messages) if "system" in omitted else messages)]
    limit_field = "max_completion_tokens" if "max_tokens" in omitted else "max_tokens"
    request = {"model": model, "messages": turns, limit_field: limits.max_tokens}
    if capabilities.cache_mark and not omitted & {"cache_mark", "system"}:
        request |= _mark_stable(turns, limits.stable, capabilities.cache_mark)
    options = ("temperature", "reasoning_effort", "verbosity", "service_tier")
    request |= {name: value for name in options if (value := getattr(limits, name)) is not None}
    if messages and messages[0].role == "system":
        # Leads prompts with the same beginning to the same cache at the provider, and reveals no text.
        digest = hashlib.sha256(messages[0].content.encode("utf-8", "surrogatepass"))
        request["prompt_cache_key"] = digest.hexdigest()[:16]
    if schema is not None and capabilities.answer_format == "json_object":
        request["response_format"] = {"type": "json_object"}
    elif schema is not None and capabilities.answer_format == "json_schema":
        shape = {"name": "answer", "strict": True, "schema": dict(schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": shape}
    if stream and "stream" not in omitted:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in request.items() if name not in omitted}


def _mark_stable(messages: list[dict[str, Any]], stable: int, mark: str) -> dict[str, Any]:
    """Mark the end of what prompts share, in the user's turn behind it; return what the request has then."""
    for turn in messages[stable : stable + 1] if stable else ():
        first, newline, rest = turn["content"].partition("\n")  # the template's line
        if turn["role"] == "user" and rest:
            marked = {"type": "text", "text": first + newline, mark: _MARKS[mark]}
            turn["content"] = [marked, {"type": "text", "text": rest}]
            if mark == "prompt_cache_breakpoint":  # nothing behind it need be written, at a price
                return {"prompt_cache_options": {"mode": "explicit"}}
    return {}


def _without_system(messages: Sequence[Message]) -> list[Message]:
    system = [message.content for message in messages if message.role == "system"]
    turns = [message for message in messages if message.role != "system"]
    if turns and turns[0].role == "user":
        system.append(turns.pop(0).content)
    return [Message("user", "\n\n".join(system)), *turns]


def initial_capabilities(server: str, model: str = "") -> ServerCapabilities:
    """Return what to begin with for a model of a server, which is given by host, port and path."""
    is_new = re.search(SERVERS["completion_tokens"]["host"], server, re.IGNORECASE)
    marks = (mark["mark"] for mark in SERVERS["marks"] if re.match(mark["model"], f"{server} {model}"))
    return ServerCapabilities(frozenset({"max_tokens"} if is_new else ()), cache_mark=next(marks, ""))


def _present(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    format_type = request.get("response_format", {}).get("type", "")
    roles = {message["role"] for message in request["messages"]}
    present = {*request, *roles, format_type, "" if "stream" in request else "whole"}
    if any(isinstance(message["content"], list) for message in request["messages"]):
        present.add("cache_mark")
    return [option for option in _OPTIONS if option["name"] in present]


def _refused_option(report: Report, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what of `request` a report names; None if it names nothing."""
    # An error with status 200 may have no other: then its words must be a refusal's.
    is_refusal = report.status in _REFUSED or (report.status == 0 and _REFUSAL.search(report.text))
    if not is_refusal or report.meaning != "other":
        return None
    for option in _present(request):
        # OpenAI names the field of the role, others all messages.
        is_about_all = option["name"] == "system" and report.parameter.startswith("messages")
        named = report.text if is_about_all or not report.parameter else report.parameter
        if re.search(option["pattern"], named, re.IGNORECASE | re.DOTALL):
            return None if "tokens" in option["name"] and _TOO_HIGH.search(report.text) else option
    return None


@dataclass
class _Call:
    messages: Sequence[Message]
    schema: Schema | None
    limits: Limits
    budget: retries.RetryBudget
    first: ServerCapabilities  # what was known of the server
    capabilities: ServerCapabilities  # what to ask with
    returned: frozenset[str]  # what was left out before, and is sent again to see whether it may be
    sent: list[dict[str, Any]] = field(default_factory=list)  # the requests so far
    guess: Sequence[str] = ()  # what is left out by guess; all but the last perhaps without need
    may_be_the_schema: bool = True  # the schema has not been left out in vain
    suspicious: Exception | None = None  # the refusal after which the schema was left out, in this try
    before: ServerCapabilities = field(default_factory=ServerCapabilities)  # then
    is_after_fault: bool = False  # something was left out after a 500, which may have been chance
