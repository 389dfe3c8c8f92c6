"""What is said of a call that failed for good: what happened, at which server, and the mend."""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from synopsis_writer.client.retry import BrokenBody, is_quota, is_server_fault, is_untrusted
from synopsis_writer.errors import ConnectionFailed, ModelError, RequestRefused

if TYPE_CHECKING:
    import openai

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
        return ConnectionFailed(
            f"{server}: did not answer in time: raise timeout or retry_seconds, or try again"
        )
    if isinstance(fault, BrokenBody) and fault.is_quota:
        return RequestRefused(f"{server}: {_QUOTA}")
    if isinstance(fault, BrokenBody):
        return ConnectionFailed(f"{server}: {fault}: {fault.mend}")
    if is_untrusted(fault):
        mend = "set SSL_CERT_FILE to your house's CA"
        return ConnectionFailed(f"{server}: its certificate is not trusted: {mend}")
    return ConnectionFailed(f"{server}: no connection: check --base-url, and that the server runs")


def _refusal(fault: "openai.APIStatusError", server: str, model: str, key_hint: str) -> ModelError:
    status = fault.status_code
    if is_quota(fault):
        return RequestRefused(f"{server}: {_QUOTA}")
    if is_server_fault(status):
        return ConnectionFailed(f"{server}: answered {status} every time: try again later")
    if status in _REDIRECTS:
        return RequestRefused(f"{server}: redirects to {_target(fault)}: set base_url to where it moved")
    mend = _TOO_LONG_MEND if _is_too_long(fault) else _MENDS.get(status, "check model and parameters")
    if status == _UNAUTHORIZED and key_hint:
        mend = f"{mend} ({key_hint})"
    said = f"{server}: answered {status} for model '{model}': {mend}"
    return RequestRefused(said, is_final=status in _FINAL)


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
