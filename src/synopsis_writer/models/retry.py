"""What servers report instead of an answer, when to retry, and which error a failure becomes."""

import asyncio
import contextlib
import email.utils
import html
import json
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import tenacity

from synopsis_writer.document import read_toml
from synopsis_writer.errors import ConnectionFailedError, ModelError, RequestRefusedError, UnavailableError
from synopsis_writer.usage import Usage

if TYPE_CHECKING:
    import openai

_log = logging.getLogger(__name__)

Meaning = Literal["quota", "cut", "bad_json", "too_long", "filter", "other"]

_LONGEST_MESSAGE = 200  # characters of a server's words in our messages
_MOST_SEARCHED = 20_000  # characters of a body that are searched: no server says more with a reason
_DEEPEST = 6  # levels of errors in errors

SERVERS: Mapping[str, Any] = read_toml(Path(__file__).with_name("data") / "servers.toml")
_MEANINGS: Mapping[Meaning, str] = {name: "|".join(words) for name, words in SERVERS["meanings"].items()}
# With these statuses the words above are about the key, the account or the pace.
_NOT_OF_THE_PROMPT = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
_SHORTEST_SECRET = 8  # characters: runs of a key that are cut out wherever they stand
_MASKED = re.compile(r"\S*(\*{3}|[\w…]\.{3}\w)\S*|\b(sk|pk|gsk|xai)-[\w-]{6,}")
_LONGEST_WAIT = 60.0  # seconds, where the server names no time
_MOST_UNREACHED = 5  # calls in a row without a connection, after which further ones are not worth their time
# No other request to this server with this key and model will succeed either.
_FINAL_STATUS = frozenset({401, 402, 403, 404, 407, *range(300, 400)})
_FIXES: Mapping[str, str] = SERVERS["fixes"]
_TARGET = re.compile(r"(https?://)(?:[^/?#]*@)?([\w.-]+)", re.IGNORECASE)
_WAITS = SERVERS["waits"]
_PART, _UNITS = _WAITS["part"], _WAITS["units"]
_DURATION = re.compile(f"(?:{_PART})+")
_WAIT_IN_BODY = re.compile(_WAITS["body"].replace("<time>", _WAITS["time"].replace("<part>", _PART)), re.IGNORECASE)
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e11  # a larger number is not a duration but a time
_LONGEST_REQUEST = 366 * 86_400.0  # a longer wait is a mistake
ENDS: dict[str, Literal["length", "stop"]] = {"cut": "length", "bad_json": "stop"}  # of answers reported as errors


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on with one call."""

    retries: int = 5
    seconds: float = 300.0  # within which retries may begin
    first_wait: float = 0.5  # seconds before the first retry, about; each further wait doubles
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class Report:
    """What a server reports of a request that it did not answer."""

    status: int = 0  # of HTTP, or the code of an error that came with status 200
    text: str = ""  # all that it says, for searching
    message: str = ""  # in one line without unprintable characters; it may quote the key
    parameter: str = ""  # the field of the request that it names
    generated: str = ""  # the text of a model that did not write by the schema
    meaning: Meaning = "other"


@dataclass(eq=False)
class InvalidResponseError(Exception):
    """The body of a response is not what was asked for."""

    message: str
    is_transient: bool = False
    fix: str = "check --base-url (it often ends in /v1)"
    usage: Usage = field(default_factory=Usage)  # that the server counted nevertheless
    report: Report = field(default_factory=Report)  # the error in the body


@dataclass(eq=False)
class LongWaitError(TimeoutError):
    """The server wants no request for longer than the call may wait."""

    seconds: float


@dataclass(frozen=True)
class Fault:
    """What the exception that ended a try means."""

    reason: str = ""  # in a few words; never a header, a key or a body
    text: str = ""  # what happened and what to do, for the error that ends the call
    is_transient: bool = False  # the next try may succeed
    is_refusal: bool = False  # the server understood the request, and will not do it
    is_final: bool = False  # no other request will fare better
    is_unreached: bool = False  # there was no connection
    report: Report = field(default_factory=Report)  # what the server reports
    wait: float = 0.0  # seconds for which the server wants no request; 0: it names none
    via: str = ""  # who may have answered instead of the server


@dataclass
class ServerState:
    """What all calls of a client know of their server."""

    not_before: float = 0.0  # when the server may be asked again, by the monotonic clock
    unreached: int = 0  # calls in a row that ended without a connection


class RetryBudget:
    """What is left for one call, over all its retries and whatever the server refuses on the way."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.retries_left = policy.retries
        self.wasted = Usage()  # tokens that the server counted for responses that were no answer
        self.waited_until = 0.0  # the `not_before` that was waited for
        self.try_began = self.longest_try = 0.0  # when, and the seconds of the longest that failed
        self._end = time.monotonic() + policy.seconds

    @property
    def seconds_left(self) -> float:
        """Seconds in which a retry may begin; 0 at least."""
        return max(0.0, self._end - time.monotonic())


def retrying(budget: RetryBudget, server: ServerState) -> tenacity.AsyncRetrying:
    """Return tenacity's loop for one request of a call; raises its last fault, or LongWaitError."""
    first = budget.policy.first_wait
    backoff = tenacity.wait_exponential(multiplier=first, max=_LONGEST_WAIT) + tenacity.wait_random(0, first)

    def named_wait() -> float:
        seconds = server.not_before - time.monotonic()
        if seconds > budget.seconds_left:
            raise LongWaitError(seconds)
        return seconds

    async def before(_: tenacity.RetryCallState) -> None:  # never before the time that any call was named
        while server.not_before > budget.waited_until:
            seconds, budget.waited_until = named_wait(), server.not_before
            if seconds > 0:
                log_wait(_log, "the server wants no requests for now", "asking", seconds)
                await budget.policy.sleep(seconds)
        budget.try_began = time.monotonic()

    def wait(state: tenacity.RetryCallState) -> float:
        now, outcome = time.monotonic(), cast("tenacity.Future", state.outcome)
        fault = fault_of(cast("BaseException", outcome.exception()))
        budget.longest_try = max(budget.longest_try, now - budget.try_began)
        server.not_before = max(server.not_before, now + fault.wait)
        named_wait()
        seconds = max(server.not_before - now, backoff(state))
        # No try begins with less time than an earlier one took.
        if budget.retries_left <= 0 or seconds + budget.longest_try > budget.seconds_left:
            outcome.result()  # raises it
        budget.retries_left -= 1
        budget.waited_until = server.not_before
        log_wait(_log, fault.reason, "trying again", seconds)
        return seconds

    is_transient = tenacity.retry_if_exception(lambda error: fault_of(error).is_transient)
    return tenacity.AsyncRetrying(retry=is_transient, wait=wait, before=before, sleep=budget.policy.sleep)


def log_wait(log: logging.Logger, reason: str, then: str, seconds: float) -> None:
    """Log that a call waits; the record's `wait` holds the seconds, and its `reason` why."""
    log.info("%s; %s in %.1f s", reason, then, seconds, extra={"wait": seconds, "reason": reason})


def is_transient_status(status: int) -> bool:
    """Whether the next try may succeed after this HTTP status."""
    return status in {408, 409, 429} or is_server_fault(status)


def is_server_fault(status: int) -> bool:
    """Whether an HTTP status says that the server failed, and not that it cannot do this at all."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after` or its kin ask to wait; None where none can be read."""
    names = ("retry-after-ms", "x-ms-retry-after-ms", "x-retry-after-ms", "retry-after", "x-retry-after")
    waits = (_seconds(headers.get(name), 0.001 if name.endswith("ms") else 1.0) for name in names)
    return next((seconds for seconds in waits if seconds is not None), None)


def _requested_wait(headers: Mapping[str, str], report: Report) -> float:
    if (seconds := retry_after(headers)) is not None:
        return seconds
    waits = [0.0]
    for name, value in headers.items() if report.status == HTTPStatus.TOO_MANY_REQUESTS else ():
        # Of limits that are used up, as in `x-ratelimit-reset-requests`.
        if re.search("rate-?limit.*reset", name, re.IGNORECASE):
            if not _seconds(headers.get(name.lower().replace("reset", "remaining"))):
                waits.append(_seconds(value) or 0.0)
        elif name.lower() == "ratelimit":  # IETF's, in its older form or its newer one
            used = re.finditer(r"\b(?:remaining|r)=0\b\W+(?:reset|t)=(\d+)", value)
            waits += [float(found[1]) for found in used]
    if report.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        for found in _WAIT_IN_BODY.finditer(report.text):
            unit = 0.001 if found["unit"] else 1.0
            waits.append(_seconds(found["field"] or found["sentence"], unit) or 0.0)
    return max(waits)


def _seconds(text: str | None, unit: float = 1.0) -> float | None:
    text = (text or "").strip(" \t\"'~")
    text = re.sub(r"^PT?(?=\d)|(?<=\d)[,;] .*", "", text, flags=re.IGNORECASE)  # ISO 8601's, a second value
    try:
        if _DURATION.fullmatch(text.lower()):
            seconds = sum(float(count) * _UNITS[name] for count, name in re.findall(_PART, text.lower()))
        elif re.search(r"\d[:-]", text):  # a date as in HTTP, or by ISO 8601
            if parsed := email.utils.parsedate_tz(text):
                seconds = email.utils.mktime_tz(parsed) - time.time()
            else:
                date = datetime.fromisoformat(text)
                seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
        else:
            seconds = float(text) * unit
            if seconds > _EPOCH_SECONDS:
                seconds = seconds / (1000 if seconds > _EPOCH_MILLISECONDS else 1) - time.time()
    except (ValueError, OverflowError):  # a date no calendar has, too
        return None
    return max(0.0, seconds) if seconds < _LONGEST_REQUEST else None


def duration(seconds: float) -> str:
    """Return a duration in a few words."""
    unit = "s" if seconds < _UNITS["m"] else "m" if seconds < _UNITS["h"] else "h"
    return f"{seconds / _UNITS[unit]:.{int(unit == 'h')}f} {'min' if unit == 'm' else unit}"


def read_report(status: int, body: object) -> Report:
    """Return what the body of an error says; it may be anything."""
    details = body
    for _ in range(_DEEPEST):
        if isinstance(details, list) and details:
            details = details[0]  # Gemini's
        elif isinstance(details, dict) and isinstance(details.get("error"), dict | list):
            details = details["error"]
    details = details if isinstance(details, dict) else {}
    try:
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = ""
    text = text[:_MOST_SEARCHED]
    parameter, generated = details.get("param"), details.get("failed_generation")
    codes = [details.get(name) for name in ("code", "type", "status")]  # any JSON, so nothing hashable
    is_quota = status == HTTPStatus.PAYMENT_REQUIRED or "insufficient_quota" in codes
    words = re.sub(r"\\*\"(error|message|msg|detail)\\*\"\s*:", " ", text)  # without the names of fields
    meanings = () if status in _NOT_OF_THE_PROMPT else _MEANINGS.items()
    fitting = (name for name, one in meanings if re.search(one, words, re.IGNORECASE | re.DOTALL))
    message = "".join(filter(str.isprintable, " ".join(_words(body).split())))
    parameter = parameter if isinstance(parameter, str) else ""
    generated = generated if isinstance(generated, str) else json.dumps(generated) if generated else ""
    return Report(status, text, message, parameter, generated, "quota" if is_quota else next(fitting, "other"))


def _words(body: object, depth: int = 0) -> str:
    if depth > _DEEPEST:
        return ""
    if isinstance(body, str):
        text = body.strip()[:_MOST_SEARCHED]
        if text.startswith(("{", "[")):  # an upstream's error, passed on as text
            with contextlib.suppress(ValueError, RecursionError):
                return _words(json.loads(text), depth + 1) or text
        title = re.search(r"<(title|h1)[^>]*>(.*?)</\1", text, re.IGNORECASE | re.DOTALL)
        return html.unescape(title[2] if title else re.sub(r"<[^>]{1,200}>", " ", text))
    if isinstance(body, list):
        return "; ".join(filter(None, (_words(item, depth + 1) for item in body[:3])))
    if not isinstance(body, dict):
        return ""
    body = {str(name).lower(): value for name, value in body.items()}
    words = next(filter(None, (_words(body.get(name), depth + 1) for name in SERVERS["words"]["names"])), "")
    if words and isinstance(field := body.get("loc"), list):  # FastAPI's
        words = f"{'.'.join(map(str, field))}: {words}"
    metadata = body.get("metadata")
    raw = _words(metadata.get("raw"), depth + 1) if isinstance(metadata, dict) else ""  # OpenRouter's
    return ": ".join(filter(None, (words, raw)))


def quote(message: str, secrets: Iterable[str] = ()) -> str:
    """Return the beginning of a server's message, without `secrets`."""
    text, hidden = message[:_MOST_SEARCHED], set[int]()
    for secret in filter(None, secrets):
        size = min(len(secret), _SHORTEST_SECRET)
        runs = "|".join({re.escape(secret[at : at + size]) for at in range(len(secret) - size + 1)})
        pattern = rf"(?=({runs}))" if size == _SHORTEST_SECRET else rf"(?<!\w)({runs})(?!\w)"
        for match in re.finditer(pattern, text, re.IGNORECASE):
            hidden.update(range(*match.span(1)))
    text = re.sub("\0+", "…", "".join("\0" if at in hidden else char for at, char in enumerate(text)))
    text = _MASKED.sub("…", text[: 4 * _LONGEST_MESSAGE])  # all of it would take quadratic time
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def fault_of(error: BaseException, model: str = "", proxy: str = "") -> Fault:
    """Return what the SDK's errors, time-outs and those above mean; any other is an empty fault."""
    import openai

    if isinstance(error, openai.APIStatusError):
        headers: Mapping[str, str] = error.response.headers
        fault = _status_fault(error, model, proxy)
    elif isinstance(error, InvalidResponseError):
        headers, text = {}, f"{error.message}: {error.fix}"
        fault = Fault(error.message, text, error.is_transient, report=error.report)
    else:
        return _connection_fault(error, proxy)
    meaning = fault.report.meaning
    if meaning in _FIXES:
        fault = replace(fault, text=_FIXES[meaning], is_refusal=True, is_final=meaning == "quota")
    return replace(fault, wait=_requested_wait(headers, fault.report))


def _status_fault(error: "openai.APIStatusError", model: str, proxy: str) -> Fault:
    try:
        body: object = json.loads(error.response.content)
    except (ValueError, RecursionError):
        body = error.body
    status, is_refusal = error.status_code, not is_server_fault(error.status_code)
    report = read_report(status, body)
    if not is_refusal:
        text = f"answered {status} every time: try again later"
    elif error.response.has_redirect_location:  # scheme and host: the rest is the server's to choose
        found = _TARGET.match(error.response.headers["location"])
        target = found[1] + found[2] if found else "another address"
        text, report = f"redirects to {target}: set base_url to where it moved", Report()
    else:
        fix = _FIXES.get(str(status), "check model and parameters")
        text = f"answered {status} for model '{model}': {fix}"
    # A proxy of plain http may have answered in the server's place.
    via = f" through the proxy {proxy}" if proxy and error.request.url.scheme == "http" else ""
    is_transient = is_transient_status(status) and report.meaning == "other"
    is_final = status in _FINAL_STATUS
    return Fault(f"the server answered {status}", text, is_transient, is_refusal, is_final, report=report, via=via)


def _connection_fault(error: BaseException, proxy: str) -> Fault:
    import httpx2
    import openai

    cause, origin = error.__cause__, error
    refusal = re.match(r"[1-5]\d\d\b[ \w'-]*", str(cause)) if isinstance(cause, httpx2.ProxyError) else None
    if refusal is not None:
        reason, is_refusal = f"answered {refusal[0].strip()}", refusal[0].startswith("4")
        fix = _FIXES["407" if refusal[0].startswith("407") else "proxy"]
        text = f"the proxy {proxy} {reason}: {fix}"
        return Fault(f"the proxy {reason}", text, not is_refusal, is_refusal, is_final=True)
    while (before := origin.__cause__ or origin.__context__) is not None:
        origin = before
        if isinstance(origin, ssl.SSLCertVerificationError):
            return Fault("", _FIXES["untrusted"], is_unreached=True)
    is_late = isinstance(error, openai.APITimeoutError) and not isinstance(cause, httpx2.ConnectTimeout)
    if is_late or isinstance(error, TimeoutError | httpx2.TimeoutException):
        return Fault("the server did not answer in time", _FIXES["silent"], is_transient=True)
    if isinstance(error, openai.APIConnectionError):  # closed without a word, too
        text = f"no connection through the proxy {proxy}: {_FIXES['proxy']}" if proxy else _FIXES["unreached"]
        return Fault("no connection to the server", text, is_transient=True, is_unreached=True)
    if isinstance(error, httpx2.HTTPError):  # while a body is read
        return fault_of(InvalidResponseError("the answer broke off", is_transient=True))
    return Fault()


def model_error(
    error: BaseException,
    server: str,  # its host, for the message
    model: str,
    key_hint: str = "",
    unreached: int = 0,  # calls in a row that had no connection
    secrets: Iterable[str] = (),  # what a server may have quoted, and the message must not show
    proxy: str = "",
) -> ModelError:
    """Return the error for a fault that no retry got past."""
    if isinstance(error, LongWaitError):
        now = datetime.now(UTC).astimezone()
        then = (now + timedelta(seconds=error.seconds + 59)).astimezone()
        until = f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"
        return UnavailableError(
            f"{server}: takes no more requests until {until} (in {duration(error.seconds)}): "
            "run the same command again then"
        )
    fault = fault_of(error, model, proxy)
    hint = f" ({key_hint})" if key_hint and fault.report.status == HTTPStatus.UNAUTHORIZED else ""
    words = quote(fault.report.message, secrets)
    quoted = f"; the server says: {words}" if words else ""
    message = f"{server}{fault.via}: {fault.text}{hint}{quoted}"
    if fault.is_unreached and unreached >= _MOST_UNREACHED:
        calls = f"{unreached} calls in a row failed like this"
        return UnavailableError(f"{message}; {calls}: run the same command again once it works")
    if fault.is_refusal:
        return RequestRefusedError(message, is_transient=not fault.is_final)
    return ConnectionFailedError(message)
