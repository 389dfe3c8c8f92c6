"""The client for OpenAI-compatible servers: the SDK, our retries, and what each server takes."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synopsis_writer.client import Answer, Limits, Message, Usage
from synopsis_writer.client.address import (
    DEFAULT_BASE_URL,
    check_address,
    host_of,
    is_open,
    is_plain_loopback,
    server_of,
)
from synopsis_writer.client.completion import read_answer, read_models, whole
from synopsis_writer.client.dialect import learned, next_dialect
from synopsis_writer.client.dialect_store import DialectStore
from synopsis_writer.client.faults import failure
from synopsis_writer.client.request import chat_request, sdk_arguments
from synopsis_writer.client.retry import Announce, BrokenBody, Effort, RetryPolicy, retrying
from synopsis_writer.client.stream import GrowingAnswer
from synopsis_writer.errors import ModelError, SettingsError

if TYPE_CHECKING:
    import openai

__all__ = ["DEFAULT_BASE_URL", "HostedClient"]

_NO_KEY = "no-key"  # servers of one's own take any; the SDK wants one
_LIST_SECONDS = 10.0
# What a stream may still take when the text is whole: for the usage, and for the connection's reuse.
_USAGE_SECONDS, _CLOSE_SECONDS = 5.0, 0.2


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
        dialects: DialectStore | None = None,
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
        self._dialects = dialects or DialectStore()
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
            ConnectionFailed: no whole answer came within the retry policy.
            RequestRefused: the server will not do this.
        """
        import openai

        effort = Effort(self._retry)
        first = dialect = self._dialect
        tried = {first}
        while True:
            request = chat_request(
                self._model, messages, schema, limits, dialect, stream=self._grown is not None
            )
            try:
                answer = await self._with_retries(request, limits, effort)
            except (openai.APIError, TimeoutError, BrokenBody) as error:
                fault: BaseException = error
            else:
                # Noted only now: what led to no answer is not worth remembering.
                self._dialect = learned(first, dialect, self._dialect)
                self._dialects.learn(server_of(self._base_url), self._model, first, dialect)
                return replace(answer, usage=effort.wasted + answer.usage)
            other = (
                next_dialect(dialect, fault, request) if isinstance(fault, openai.APIStatusError) else None
            )
            if other is None or other in tried:
                # Out here, for the SDK's error may quote the key, and would go along as the context.
                raise self._failure(fault, effort.wasted)
            if dialect.temperature and not other.temperature:
                self._announce(f"{self._model} takes no temperature: asking without one")
            dialect = other
            tried.add(dialect)

    async def _with_retries(self, request: Mapping[str, Any], limits: Limits, effort: Effort) -> Answer:
        async for attempt in retrying(effort, self._announce):
            with attempt:
                within = min(limits.timeout, effort.seconds_left)
                try:
                    if "stream" in request and self._grown is not None:
                        return await self._stream(request, within, self._grown, effort)
                    return await self._call(request, within)
                except BrokenBody as fault:
                    effort.wasted += fault.usage
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
        self, request: Mapping[str, Any], within: float, grown: Callable[[str], None], effort: Effort
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
        except (httpx2.HTTPError, TimeoutError, BrokenBody) as fault:
            if not (growing.is_finished or growing.is_done):
                effort.wasted += growing.usage
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
        except (openai.APIError, TimeoutError, BrokenBody) as error:
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
        return BrokenBody("the answer broke off", passing=True)
    return fault
