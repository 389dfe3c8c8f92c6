"""The client for OpenAI-compatible servers: the SDK, our retries, and the way down from json_schema."""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from synopsis_writer.client import Answer, Limits, Message
from synopsis_writer.client.completion import read_answer, read_models
from synopsis_writer.client.retry import Announce, BrokenBody, RetryPolicy, failure, is_quota, retrying
from synopsis_writer.errors import SettingsError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # servers of one's own take any; the SDK wants one
# From strict to plain: what a server refuses is not asked for again.
_FORMATS = ("json_schema", "json_object", "plain")
_REFUSED_FORMAT = frozenset({400, 422, 501})
_NAMES_FORMAT = re.compile(r"response.?format|json.?schema|json.?object|structured.?output", re.IGNORECASE)
_LIST_SECONDS = 10.0


class HostedClient:
    """Asks one model of one OpenAI-compatible server.

    Args:
        model: the model's name on the server.
        base_url: the server's address, as a rule ending in /v1.
        api_key: the key; never shown, logged or saved.
        retry: the retry policy.
        announce: is told of each wait, in one line.

    Raises:
        SettingsError: the address is none of the web, or the key cannot be sent.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        announce: Announce = lambda _: None,
    ) -> None:
        import openai

        self._model = model
        self._base_url = _checked_address(base_url or DEFAULT_BASE_URL)
        self._retry = retry or RetryPolicy()
        self._announce = announce
        self._format = 0
        self._sdk = openai.AsyncOpenAI(
            api_key=_checked_key(api_key or ""), base_url=self._base_url, max_retries=0
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def server(self) -> str:
        """The server's host and port, for messages; an address may hold a password, so no more of it."""
        return urlsplit(self._base_url).netloc.rpartition("@")[2]

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Answer `messages`.

        Raises:
            ConnectionFailed: no whole answer came within the retry policy.
            RequestRefused: the server will not do this.
        """
        import openai

        while True:
            asked = self._format
            wanted = None if schema is None else _response_format(_FORMATS[asked], schema)
            try:
                return await self._with_retries(messages, wanted, limits)
            except openai.APIStatusError as fault:
                if wanted is None or not _refuses_format(fault):
                    raise failure(fault, self.server, self._model) from None
                # Another call may have gone down meanwhile: one step below what this one asked for, at least.
                self._format = max(self._format, asked + 1)
            except (openai.APIError, TimeoutError, BrokenBody) as fault:
                raise failure(fault, self.server, self._model) from None

    async def _with_retries(
        self, messages: Sequence[Message], wanted: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        async for attempt in retrying(self._retry, self._announce):
            with attempt:
                return await self._call(messages, wanted, limits)
        raise AssertionError("tenacity re-raises the last fault")  # pragma: no cover

    async def _call(
        self, messages: Sequence[Message], wanted: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_completion_tokens": limits.max_tokens,
            "timeout": limits.timeout,
        }
        if limits.temperature is not None:
            request["temperature"] = limits.temperature
        if wanted is not None:
            request["response_format"] = wanted
        started = time.perf_counter()
        # The SDK's time-out begins anew with each byte, and some servers send blanks while they queue.
        async with asyncio.timeout(limits.timeout):
            raw = await self._sdk.chat.completions.with_raw_response.create(**request)
        seconds = time.perf_counter() - started
        return read_answer(raw.content, raw.headers.get("content-type", ""), seconds, self._model)

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
        except (openai.APIError, TimeoutError, BrokenBody) as fault:
            raise failure(fault, self.server, self._model) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()


def _checked_address(address: str) -> str:
    import httpx2

    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx2.URL(address)
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable or " " in address:
        raise SettingsError(
            "the server's address is none of the web: write base_url as in http://localhost:8000/v1"
        )
    return address


def _checked_key(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError("the key holds a character that no key has: copy it into OPENAI_API_KEY again")
    return key or _NO_KEY


def _response_format(kind: str, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if kind == "plain":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}


def _refuses_format(fault: Any) -> bool:
    said = f"{fault.message} {fault.body}"
    return fault.status_code in _REFUSED_FORMAT and not is_quota(fault) and bool(_NAMES_FORMAT.search(said))
