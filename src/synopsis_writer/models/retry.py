"""Which failures are transient, how long to wait for the next try, and what a failure is called."""

import asyncio
import email.utils
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import tenacity

from synopsis_writer.errors import ConnectionFailedError, ModelError, RequestRefusedError
from synopsis_writer.usage import Usage

if TYPE_CHECKING:
    import openai

Announce = Callable[[str], None]

_PASSING_STATUS = frozenset({408, 409, 429})

_SERVER_FAULT = 500

_NOT_IMPLEMENTED = 501

_PAYMENT_REQUIRED = 402

_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long to go on.

    Attributes:
        retries: retries a call; 0 means none.
        seconds: what a call and its retries may take together.
        first_wait: seconds before the first retry, about; each further wait doubles.
        sleep: what waits; a test may put in one that does not.
    """

    retries: int = 5
    seconds: float = 300.0
    first_wait: float = 0.5
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


_CHECK_ADDRESS = "check --base-url (it often ends in /v1)"


class Wait(str):
    """A line that says why a call waits, and how long.

    Args:
        reason: why, in a few words.
        then: what happens after it.
        seconds: how long.
    """

    __slots__ = ("reason", "seconds", "then")
    reason: str
    seconds: float
    then: str

    def __new__(cls, reason: str, then: str, seconds: float) -> Self:
        """Put the line together."""
        line = super().__new__(cls, f"{reason}; {then} in {seconds:.1f} s")
        line.reason = reason
        line.then = then
        line.seconds = seconds
        return line

    def __getnewargs__(self) -> tuple[str, str, float]:  # type: ignore[override]
        """Return what it is made of, for a copy in another process."""
        return self.reason, self.then, self.seconds


class InvalidResponseError(Exception):
    """The server's answer was no completion.

    Args:
        what: what was wrong with it, in a few words.
        is_transient: whether the next try may succeed.
        mend: what to do where it is not.
        usage: the tokens that the server counted all the same.
        is_quota: the server said that the account is out of money.
    """

    def __init__(
        self,
        what: str,
        *,
        is_transient: bool = False,
        mend: str = _CHECK_ADDRESS,
        usage: Usage | None = None,
        is_quota: bool = False,
    ) -> None:
        super().__init__(what)
        self.is_transient = is_transient
        self.mend = mend
        self.usage = usage or Usage()
        self.is_quota = is_quota


class RetryBudget:
    """What one call may still take, over all its retries and dialects.

    Attributes:
        wasted: tokens that the server counted for what was no answer.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.wasted = Usage()
        self._policy = policy
        self._retries = policy.retries
        self._end = time.monotonic() + policy.seconds

    @property
    def seconds_left(self) -> float:
        """Seconds that the call may still take; 0 at least."""
        return max(0.0, self._end - time.monotonic())

    @property
    def left(self) -> RetryPolicy:
        """The policy with what is left of its retries and seconds."""
        return replace(self._policy, retries=self._retries, seconds=self.seconds_left)

    def take_retry(self) -> None:
        """Note that a retry is about to be made."""
        self._retries -= 1


def retrying(retry_budget: RetryBudget, announce: Announce) -> tenacity.AsyncRetrying:
    """Return tenacity's loop for one request of a call; it re-raises the last fault."""
    policy = retry_budget.left

    def before_sleep(state: tenacity.RetryCallState) -> None:
        retry_budget.take_retry()
        fault = state.outcome.exception() if state.outcome else None
        if fault is not None:
            announce(Wait(reason(fault), "trying again", state.upcoming_sleep))

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(policy.retries + 1) | tenacity.stop_before_delay(policy.seconds),
        wait=_wait(policy),
        before_sleep=before_sleep,
        sleep=policy.sleep,
        reraise=True,
    )


def is_transient(fault: BaseException) -> bool:
    """Whether a fault may be gone at the next try."""
    import openai

    if isinstance(fault, InvalidResponseError):
        return fault.is_transient
    if isinstance(fault, openai.APIStatusError):
        if is_quota(fault):
            return False
        return is_transient_status(fault.status_code)
    return isinstance(fault, openai.APIConnectionError | TimeoutError) and not is_untrusted(fault)


def is_untrusted(fault: BaseException) -> bool:
    """Whether no connection came about because the server's certificate is not trusted."""
    cause: BaseException | None = fault
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def is_transient_status(status: int) -> bool:
    """Whether what an HTTP status says may be gone at the next try."""
    return status in _PASSING_STATUS or is_server_fault(status)


def is_server_fault(status: int) -> bool:
    """Whether an HTTP status says that the server failed, and not that it cannot do this at all."""
    return status >= _SERVER_FAULT and status != _NOT_IMPLEMENTED


def is_quota(fault: "openai.APIStatusError") -> bool:
    """Whether the account is out of money: it comes as 402, or as 429 with a code, and is never transient."""
    said = (fault.code, fault.type)  # either may be any JSON, so nothing that is hashed
    return fault.status_code == _PAYMENT_REQUIRED or "insufficient_quota" in said


def _wait(policy: RetryPolicy) -> Callable[[tenacity.RetryCallState], float]:
    """Return the wait before a retry: exponential with jitter, never less than the server asked for."""
    first = policy.first_wait
    growing = tenacity.wait_exponential(multiplier=first, max=_LONGEST_WAIT) + tenacity.wait_random(0, first)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        response = getattr(fault, "response", None)
        return max(growing(state), retry_after(response.headers) if response is not None else 0.0)

    return wait


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds a server asks to wait: from `retry-after-ms`, or `retry-after`, number or date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        parsed = email.utils.parsedate_tz(said) if said else None
        return max(0.0, email.utils.mktime_tz(parsed) - time.time()) if parsed else 0.0
    except (ValueError, OverflowError):  # a date no calendar has
        return 0.0


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return number if number is not None and number < float("inf") else None


def reason(fault: BaseException) -> str:
    """Say in a few words what happened; never holds a header, a key or a body."""
    import openai

    if isinstance(fault, openai.APIStatusError):
        return f"the server answered {fault.status_code}"
    if isinstance(fault, openai.APITimeoutError | TimeoutError):
        return "the server did not answer in time"
    if isinstance(fault, InvalidResponseError):
        return str(fault)
    return "no connection to the server"


_UNAUTHORIZED = 401

_REDIRECTS = range(300, 400)

_MENDS = {
    400: "it does not take this request: check model, key and parameters",
    401: "the key is wrong or missing: set OPENAI_API_KEY",
    403: "the key may not use this model: choose another with --model",
    404: "it does not know this model or address: check --model and --base-url (it often ends in /v1)",
    413: "the prompt is too long for it: lower example_tokens",
    422: "it does not take this request: check model and parameters",
    429: "too many requests: try again later",
}

# What nothing else that is asked of this server, with this key and model, will get past either.
_FINAL = frozenset({401, 402, 403, 404, *_REDIRECTS})

_QUOTA = "the account's quota is used up: top it up or use another key"

# OpenAI and vLLM say context length, llama.cpp context size, others context window.
_TOO_LONG_STATUS = frozenset({400, 413})

_TOO_LONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)

_TOO_LONG_MEND = (
    "prompt and answer are longer than its context: lower example_tokens or max_tokens, "
    "or give the server a larger context"
)


def failure(fault: BaseException, server: str, model: str, key_hint: str = "") -> ModelError:
    """Return the error for a fault that did not pass.

    Args:
        fault: what the SDK, or our reading of its answer, raised.
        server: host and port.
        model: the model that was asked.
        key_hint: why there may be no key, for a server that wants one.
    """
    import openai

    if isinstance(fault, openai.APIStatusError):
        return _refusal(fault, server, model, key_hint)
    if isinstance(fault, openai.APITimeoutError | TimeoutError):
        return ConnectionFailedError(
            f"{server}: did not answer in time: raise timeout or retry_seconds, or try again"
        )
    if isinstance(fault, InvalidResponseError) and fault.is_quota:
        return RequestRefusedError(f"{server}: {_QUOTA}")
    if isinstance(fault, InvalidResponseError):
        return ConnectionFailedError(f"{server}: {fault}: {fault.mend}")
    if is_untrusted(fault):
        mend = "set SSL_CERT_FILE to your house's CA"
        return ConnectionFailedError(f"{server}: its certificate is not trusted: {mend}")
    return ConnectionFailedError(f"{server}: no connection: check --base-url, and that the server runs")


def _refusal(fault: "openai.APIStatusError", server: str, model: str, key_hint: str) -> ModelError:
    status = fault.status_code
    if is_quota(fault):
        return RequestRefusedError(f"{server}: {_QUOTA}")
    if is_server_fault(status):
        return ConnectionFailedError(f"{server}: answered {status} every time: try again later")
    if status in _REDIRECTS:
        return RequestRefusedError(f"{server}: redirects to {_target(fault)}: set base_url to where it moved")
    mend = _TOO_LONG_MEND if _is_too_long(fault) else _MENDS.get(status, "check model and parameters")
    if status == _UNAUTHORIZED and key_hint:
        mend = f"{mend} ({key_hint})"
    said = f"{server}: answered {status} for model '{model}': {mend}"
    return RequestRefusedError(said, is_transient=status not in _FINAL)


def _is_too_long(fault: "openai.APIStatusError") -> bool:
    if fault.status_code not in _TOO_LONG_STATUS:
        return False
    return fault.code == "context_length_exceeded" or bool(_TOO_LONG.search(f"{fault.message} {fault.body}"))


def _target(fault: "openai.APIStatusError") -> str:
    """Return where a redirect leads: scheme and host, for the rest is the server's to choose."""
    try:
        parts = urlsplit(fault.response.headers.get("location", ""))
    except ValueError:
        return "another address"
    host = parts.hostname
    return f"{parts.scheme}://{host}" if host else "another address"
