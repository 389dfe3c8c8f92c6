"""The client for OpenAI-compatible servers: the SDK, our retries, and the way down from json_schema."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synopsis_writer.client import Answer, Finish, Limits, Message, Usage
from synopsis_writer.client.retry import Announce, BrokenBody, RetryPolicy, failure, is_quota, retrying

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # servers of one's own take any; the SDK wants one
_FINISH: dict[str, Finish] = {"length": "length", "content_filter": "filter"}
# From strict to plain: what a server refuses is not asked for again.
_FORMATS = ("json_schema", "json_object", "plain")
_REFUSED_FORMAT = frozenset({400, 422, 501})


class HostedClient:
    """Asks one model of one OpenAI-compatible server.

    Args:
        model: the model's name on the server.
        base_url: the server's address, as a rule ending in /v1.
        api_key: the key; never shown, logged or saved.
        retry: the retry policy.
        announce: is told of each wait, in one line.
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
        self._base_url = base_url or DEFAULT_BASE_URL
        self._retry = retry or RetryPolicy()
        self._announce = announce
        self._format = 0
        self._sdk = openai.AsyncOpenAI(api_key=api_key or _NO_KEY, base_url=self._base_url, max_retries=0)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model

    @property
    def server(self) -> str:
        """The server's host and port, for messages; an address may hold a password, so no more of it."""
        parts = urlsplit(self._base_url)
        return parts.netloc.rpartition("@")[2] or self._base_url.split("?")[0]

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
            try:
                return await self._with_retries(messages, schema, limits)
            except openai.APIStatusError as fault:
                wanted_less = fault.status_code in _REFUSED_FORMAT and schema is not None
                if wanted_less and self._format < len(_FORMATS) - 1 and "format" in _said(fault):
                    self._format += 1
                    continue
                raise failure(fault, self.server, self._model) from None
            except (openai.APIError, BrokenBody) as fault:
                raise failure(fault, self.server, self._model) from None

    async def _with_retries(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        async for attempt in retrying(self._retry, self._announce):
            with attempt:
                started = time.perf_counter()
                completion = await self._call(messages, schema, limits)
                return _answer(completion, time.perf_counter() - started, self._model)
        raise AssertionError("tenacity re-raises the last fault")  # pragma: no cover

    async def _call(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> "ChatCompletion":
        from openai.types.chat import ChatCompletion

        request: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_completion_tokens": limits.max_tokens,
            "timeout": limits.timeout,
        }
        if limits.temperature is not None:
            request["temperature"] = limits.temperature
        if schema is not None and _FORMATS[self._format] != "plain":
            request["response_format"] = _response_format(_FORMATS[self._format], schema)
        try:
            completion = await self._sdk.chat.completions.create(**request)
        except ValueError as fault:
            raise BrokenBody("the answer is broken JSON", passing=True) from fault
        # A page comes back as its text, whatever the types say.
        if not isinstance(completion, ChatCompletion):
            raise BrokenBody("the answer is a page or text, not a completion", passing=False)
        if not completion.choices:
            raise BrokenBody("the answer holds no choice", passing=True)
        return completion

    async def models(self) -> list[str]:
        """Return the models the server offers, sorted.

        Raises:
            ModelError: it does not answer, or not with a list.
        """
        import openai

        try:
            page = await self._sdk.models.list(timeout=10)
            return sorted(model.id for model in page.data)
        except (openai.APIError, AttributeError, TypeError, ValueError) as fault:
            raise failure(fault, self.server, self._model) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._sdk.close()


def _response_format(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)}}


def _said(fault: Any) -> str:
    """What a server said of a request, to see whether it refuses the response format."""
    return "" if is_quota(fault) else f"{fault.message} {fault.body}".lower()


def _answer(completion: "ChatCompletion", seconds: float, model: str) -> Answer:
    choice = completion.choices[0]
    usage = completion.usage
    cached = usage.prompt_tokens_details.cached_tokens if usage and usage.prompt_tokens_details else None
    finish = _FINISH.get(choice.finish_reason, "stop")
    refusal = getattr(choice.message, "refusal", None)
    return Answer(
        text=refusal or choice.message.content or "",
        finish="refusal" if refusal else finish,
        usage=Usage(usage.prompt_tokens, usage.completion_tokens, cached or 0) if usage else Usage(),
        seconds=seconds,
        model=completion.model or model,
    )
