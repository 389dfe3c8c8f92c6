"""What the loopback server can do with one request: answer, refuse, break off, or keep silent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PIECE = 7  # characters an event; no multiple of anything, so that words and escapes are cut


@dataclass(frozen=True)
class Reply:
    """A completion; a request with `stream: true` gets it as events of a few characters each.

    Attributes:
        text: what the model says.
        finish: OpenAI's `finish_reason`: stop, length, content_filter.
        prompt_tokens: tokens of the request.
        completion_tokens: tokens of the answer.
        cached_tokens: the part of `prompt_tokens` that came from the provider's cache.
        refusal: the words of a refusal; the message then has no content.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 100
    completion_tokens: int = 50
    cached_tokens: int = 0
    refusal: str | None = None

    def as_data(self, model: str) -> dict[str, Any]:
        """Return the body of `/v1/chat/completions`, given by `model`."""
        content = None if self.refusal is not None else self.text
        return {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": self.finish,
                    "logprobs": None,
                    "message": {"role": "assistant", "content": content, "refusal": self.refusal},
                }
            ],
            "usage": self._usage(),
        }

    def as_events(self, model: str, *, usage: bool) -> list[str]:
        """Return the events of a stream, the closing `[DONE]` included.

        Args:
            model: who gives it.
            usage: put the tokens into the last event but one, as `stream_options` asks for.
        """
        said, text = ("content", self.text) if self.refusal is None else ("refusal", self.refusal)
        pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
        chunks = [
            self._chunk(model, [{"index": 0, "delta": delta, "finish_reason": None}])
            for delta in ({"role": "assistant", "content": ""}, *({said: piece} for piece in pieces))
        ]
        chunks.append(self._chunk(model, [{"index": 0, "delta": {}, "finish_reason": self.finish}]))
        if usage:
            chunks.append({**self._chunk(model, []), "usage": self._usage()})
        return [*(event(chunk) for chunk in chunks), "data: [DONE]\n\n"]

    def _chunk(self, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-loopback",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": model,
            "choices": choices,
        }

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


def event(data: Any) -> str:
    """Return one event of a stream that carries JSON."""
    return f"data: {json.dumps(data)}\n\n"


@dataclass(frozen=True)
class Fault:
    """An error answer.

    Attributes:
        status: the HTTP status, 400 to 599.
        headers: headers to send besides, such as `{"Retry-After": "2"}`, `{"retry-after-ms": "50"}`
            or a `Retry-After` as an HTTP date.
        message: what the error says.
        code: OpenAI's error code, such as `insufficient_quota`.
        param: the field of the request that it names.
        body: a body to send in place of OpenAI's error object: JSON, or text as it is.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "a scripted fault"
    code: str | None = None
    param: str | None = None
    body: Mapping[str, Any] | str | None = None

    def as_data(self) -> Mapping[str, Any] | str:
        """Return the body of the answer."""
        if self.body is not None:
            return self.body
        kind = self.code or "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Body:
    """Any JSON with status 200, for a completion that is none."""

    data: Any


@dataclass(frozen=True)
class Html:
    """A web page, as a wrong address or a login page gives it."""

    page: str = "<!doctype html><title>Willkommen</title>"
    status: int = 200


@dataclass(frozen=True)
class BrokenJson:
    """Text with status 200 that calls itself JSON and is none."""

    text: str = '{"choices": [{"message": '


@dataclass(frozen=True)
class CutBody:
    """An answer that promises 1000 bytes more than it sends."""


@dataclass(frozen=True)
class Silence:
    """No answer for `seconds`, then the connection is closed; ends early when the server is closed."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Drip:
    """A blank every 20 ms for `seconds`, as servers send them to keep a connection, and then a hangup."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Hangup:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Redirect:
    """A redirect to `location`, an absolute address; 307 and 308 ask for the same request there."""

    location: str
    status: int = 307


@dataclass(frozen=True)
class Events:
    """An event stream as it is, for one that is strange; `event` writes an event of it.

    Attributes:
        text: what is sent, whatever was asked for.
        is_cut: promise more than is sent, so that the client sees the connection break.
    """

    text: str
    is_cut: bool = False


@dataclass(frozen=True)
class CutStream:
    """A stream that breaks off in the middle of `text`; a request without `stream` gets a CutBody."""

    text: str = "Ein Satz, der nicht zu Ende"


@dataclass(frozen=True)
class FailingStream:
    """A stream with an error event in the middle of `text`; a request without `stream` gets a 500.

    Attributes:
        text: the answer, half of which is sent.
        message: what the error says.
        code: the error's code, such as 503 or `insufficient_quota`.
    """

    text: str = "Ein Satz, der nicht zu Ende"
    message: str = "a scripted fault"
    code: str | int | None = None


Step = (
    Reply
    | Fault
    | Body
    | Html
    | BrokenJson
    | CutBody
    | Silence
    | Drip
    | Hangup
    | Redirect
    | Events
    | CutStream
    | FailingStream
)
