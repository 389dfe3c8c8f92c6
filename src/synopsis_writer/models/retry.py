"""Which failures are transient, how long to wait before a retry, and which error a failure becomes."""

import asyncio
import email.utils
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import tenacity

from synopsis_writer.errors import ConnectionFailedError, ModelError, RequestRefusedError
from synopsis_writer.usage import Usage

if TYPE_CHECKING:
    import openai

_log = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0  # seconds


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on with one call."""

    retries: int = 5
    seconds: float = 300.0  # for the call and its retries together
    first_wait: float = 0.5  # seconds before the first retry, about; each further wait doubles
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class InvalidResponseError(Exception):
    """The body of a response is not what was asked for."""

    def __init__(
        self,
        message: str,
        *,
        is_transient: bool = False,
        fix: str = "check --base-url (it often ends in /v1)",
        usage: Usage | None = None,  # that the server counted nevertheless
        is_quota: bool = False,  # the account is out of money
    ) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        self.fix = fix
        self.usage = usage or Usage()
        self.is_quota = is_quota


class RetryBudget:
    """What is left for one call, over all its retries and whatever the server refuses on the way."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.retries_left = policy.retries
        self.wasted = Usage()  # tokens that the server counted for responses that were no answer
        self._end = time.monotonic() + policy.seconds

    @property
    def seconds_left(self) -> float:
        """Seconds that the call may still take; 0 at least."""
        return max(0.0, self._end - time.monotonic())


def retrying(budget: RetryBudget) -> tenacity.AsyncRetrying:
    """Return tenacity's loop for one request of a call; it logs each wait, and re-raises the last fault."""
    first = budget.policy.first_wait
    backoff = tenacity.wait_exponential(multiplier=first, max=_LONGEST_WAIT) + tenacity.wait_random(0, first)
    stop_by_count = tenacity.stop_after_attempt(budget.retries_left + 1)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        response = getattr(fault, "response", None)
        return max(backoff(state), retry_after(response.headers) if response is not None else 0.0)

    def before_sleep(state: tenacity.RetryCallState) -> None:
        budget.retries_left -= 1
        fault = state.outcome.exception() if state.outcome else None
        if fault is not None:
            log_wait(_log, _reason(fault), "trying again", state.upcoming_sleep)

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=stop_by_count | tenacity.stop_before_delay(budget.seconds_left),
        wait=wait,
        before_sleep=before_sleep,
        sleep=budget.policy.sleep,
        reraise=True,
    )


def log_wait(log: logging.Logger, reason: str, then: str, seconds: float) -> None:
    """Log that a call waits; the record's `wait` holds the seconds, and its `reason` why."""
    log.info("%s; %s in %.1f s", reason, then, seconds, extra={"wait": seconds, "reason": reason})


def is_transient(fault: BaseException) -> bool:
    """Whether the next try may succeed."""
    import openai

    if isinstance(fault, InvalidResponseError):
        return fault.is_transient
    if isinstance(fault, openai.APIStatusError):
        return not is_quota(fault) and is_transient_status(fault.status_code)
    return isinstance(fault, openai.APIConnectionError | TimeoutError) and not _is_untrusted(fault)


def _is_untrusted(fault: BaseException) -> bool:
    """Whether the connection failed because the server's certificate is not trusted."""
    cause: BaseException | None = fault
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def is_transient_status(status: int) -> bool:
    """Whether the next try may succeed after this HTTP status."""
    return status in {408, 409, 429} or is_server_fault(status)


def is_server_fault(status: int) -> bool:
    """Whether an HTTP status says that the server failed, and not that it cannot do this at all."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED


def is_quota(fault: "openai.APIStatusError") -> bool:
    """Whether the account is out of money: a 402, or a 429 with a code, which is never transient."""
    codes = (fault.code, fault.type)  # either may be any JSON, so nothing hashable
    return fault.status_code == HTTPStatus.PAYMENT_REQUIRED or "insufficient_quota" in codes


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds a server asks to wait: from `retry-after-ms`, or `retry-after`, number or date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        parsed = email.utils.parsedate_tz(value) if value else None
        return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else 0.0
    except (ValueError, OverflowError):  # a date no calendar has
        return 0.0


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and number < float("inf") else None


def _reason(fault: BaseException) -> str:
    """Return what happened in a few words; never a header, a key or a body."""
    import openai

    if isinstance(fault, openai.APIStatusError):
        return f"the server answered {fault.status_code}"
    if isinstance(fault, openai.APITimeoutError | TimeoutError):
        return "the server did not answer in time"
    if isinstance(fault, InvalidResponseError):
        return str(fault)
    return "no connection to the server"


_REDIRECTS = range(300, 400)
_FIXES = {
    400: "it does not take this request: check model, key and parameters",
    401: "the key is wrong or missing: set OPENAI_API_KEY",
    403: "the key may not use this model: choose another with --model",
    404: "it does not know this model or address: check --model and --base-url (it often ends in /v1)",
    413: "the prompt is too long for it: lower example_tokens",
    422: "it does not take this request: check model and parameters",
    429: "too many requests: try again later",
}

# No other request to this server with this key and model will succeed either.
_FINAL_STATUS = frozenset({401, 402, 403, 404, *_REDIRECTS})
_QUOTA = "the account's quota is used up: top it up or use another key"

# OpenAI and vLLM say context length, llama.cpp context size, others context window.
_TOO_LONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)
_TOO_LONG_FIX = (
    "prompt and answer are longer than its context: lower example_tokens or max_tokens, "
    "or give the server a larger context"
)


def model_error(fault: BaseException, server: str, model: str, key_hint: str = "") -> ModelError:
    """Return the error for a fault that no retry got past; `key_hint` says why there may be no key."""
    import openai

    if isinstance(fault, openai.APIStatusError):
        return _status_error(fault, server, model, key_hint)
    if isinstance(fault, InvalidResponseError):
        if fault.is_quota:
            return RequestRefusedError(f"{server}: {_QUOTA}")
        return ConnectionFailedError(f"{server}: {fault}: {fault.fix}")
    if isinstance(fault, openai.APITimeoutError | TimeoutError):
        message = "did not answer in time: raise timeout or retry_seconds, or try again"
    elif _is_untrusted(fault):
        message = "its certificate is not trusted: set SSL_CERT_FILE to your house's CA"
    else:
        message = "no connection: check --base-url, and that the server runs"
    return ConnectionFailedError(f"{server}: {message}")


def _status_error(fault: "openai.APIStatusError", server: str, model: str, key_hint: str) -> ModelError:
    status = fault.status_code
    if is_quota(fault):
        return RequestRefusedError(f"{server}: {_QUOTA}")
    if is_server_fault(status):
        return ConnectionFailedError(f"{server}: answered {status} every time: try again later")
    if status in _REDIRECTS:
        target = _redirect_target(fault)
        return RequestRefusedError(f"{server}: redirects to {target}: set base_url to where it moved")
    fix = _FIXES.get(status, "check model and parameters")
    if fault.code == "context_length_exceeded" or _TOO_LONG.search(f"{fault.message} {fault.body}"):
        fix = _TOO_LONG_FIX if status in {400, 413} else fix
    if status == HTTPStatus.UNAUTHORIZED and key_hint:
        fix = f"{fix} ({key_hint})"
    message = f"{server}: answered {status} for model '{model}': {fix}"
    return RequestRefusedError(message, is_transient=status not in _FINAL_STATUS)


def _redirect_target(fault: "openai.APIStatusError") -> str:
    """Return scheme and host of a redirect's target; the rest is the server's to choose."""
    try:
        parts = urlsplit(fault.response.headers.get("location", ""))
    except ValueError:
        return "another address"
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another address"
