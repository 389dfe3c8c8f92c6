"""Reads the completions of any server, whole or streamed, into answers.

The SDK's own models construct whatever a server sends without validating it, and its stream fails with the
first event that is broken; these are stricter about what is needed, and ignore the rest.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from synopsis_writer.models.base import Answer, Finish
from synopsis_writer.models.retry import InvalidResponseError, is_transient_status
from synopsis_writer.usage import Usage

# OpenAI's `finish_reason`; any other is a stop.
_FINISH: dict[Any, Finish] = {"length": "length", "content_filter": "filter"}


def repair_surrogates(text: str) -> str:
    """Join pairs of surrogates and replace lone ones, which can be neither sent, printed nor saved."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _join_parts(value: Any) -> Any:
    """Join the texts of a content in parts, without thoughts and pictures; return anything else as it is."""
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        return value
    texts = [part.get("text") for part in value if part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _text(value: Any) -> Any:
    text = _join_parts(value)
    return repair_surrogates(text) if isinstance(text, str) else text


_Text = Annotated[str, BeforeValidator(_text)]


class _Message(BaseModel):
    content: _Text | None = None
    refusal: _Text | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    model: str | None = None


# Far more than any call can have; a number beyond 64 bits could not be saved.
_Count = Annotated[int, Field(ge=0, le=10**12)]


class _Details(BaseModel):
    cached_tokens: _Count | None = None


class _Usage(BaseModel):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def read_answer(body: bytes, media_type: str, seconds: float, model: str) -> Answer:
    """Return the answer in the body of a completion.

    Args:
        body: the body as it came.
        media_type: the content type the server gave it.
        seconds: how long it took.
        model: the model that was asked, for servers that do not name one.

    Raises:
        InvalidResponseError: the body holds no answer; it carries the usage that the body has.
    """
    data = _json(body, media_type)
    usage = _usage(data.get("usage"))
    if not data.get("choices"):
        if data.get("error"):
            raise _reported_error(data["error"], "the server failed", usage)
        raise InvalidResponseError("the answer holds no choice", is_transient=True, usage=usage)
    completion = _validate(_Completion, data, "completion", usage)
    choice = completion.choices[0]
    refusal = choice.message.refusal
    return Answer(
        text=refusal or choice.message.content or "",
        finish="refusal" if refusal else _FINISH.get(choice.finish_reason, "stop"),
        usage=usage,
        seconds=seconds,
        model=completion.model or model,
    )


def read_models(body: bytes, media_type: str) -> list[str]:
    """Return the names in the body of a list of models, sorted.

    Raises:
        InvalidResponseError: the body holds no such list.
    """
    return sorted(model.id for model in _validate(_Models, _json(body, media_type), "list of models").data)


def _json(body: bytes, media_type: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        if "json" in media_type:
            raise InvalidResponseError("the answer is broken JSON", is_transient=True) from None
        data = None
    if not isinstance(data, dict):
        raise InvalidResponseError("the answer is a page or text, not a completion")
    return data


_Shape = TypeVar("_Shape", bound=BaseModel)


def _validate(shape: type[_Shape], data: dict[str, Any], what: str, usage: Usage | None = None) -> _Shape:
    try:
        return shape.model_validate(data)
    except ValidationError:
        raise InvalidResponseError(f"the answer does not have the shape of a {what}", usage=usage) from None


def _usage(data: Any) -> Usage:
    """Return the usage a server sends; one that cannot be read must not lose the text."""
    try:
        usage = _Usage.model_validate(data or {})
    except ValidationError:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)


def _reported_error(error: Any, message: str, usage: Usage | None = None) -> InvalidResponseError:
    """Return the fault that a server reports in a body, when it is too late for a status.

    Args:
        error: the value of the field `error`.
        message: what happened, in a few words.
        usage: the tokens that the server counted.
    """
    codes = (error.get("code"), error.get("type"), error.get("status")) if isinstance(error, dict) else ()
    if "insufficient_quota" in codes:
        return InvalidResponseError("the account's quota is used up", usage=usage, is_quota=True)
    numbers = (int(code) for code in codes if isinstance(code, int | str) and str(code).isdecimal())
    is_transient = is_transient_status(next(numbers, HTTPStatus.INTERNAL_SERVER_ERROR))
    fix = "try again later" if is_transient else "check model and parameters"
    return InvalidResponseError(message, is_transient=is_transient, fix=fix, usage=usage)


def _piece(value: Any) -> Any:
    text = _join_parts(value)
    if text is not None and not isinstance(text, str):
        raise ValueError("not a text")
    return text


# Any string, not pydantic's: half a character may come in one piece and its other half in the next.
_Piece = Annotated[Any, AfterValidator(_piece)]


class _Delta(BaseModel):
    content: _Piece = None
    refusal: _Piece = None


class _ChunkChoice(BaseModel):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel):
    choices: list[_ChunkChoice] | None = None
    model: str | None = None


class EventReader:
    """Takes the bytes of an event stream, and yields the data of each complete event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take some bytes; a line may end in LF, CR or both."""
        self._rest += piece
        # A CR at the end may be half of a CRLF, which must not count as two ends.
        pending = b"\r" if self._rest.endswith(b"\r") else b""
        ended = self._rest.removesuffix(pending).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = ended.split(b"\n")
        self._rest = rest + pending
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                yield data


@dataclass
class StreamedAnswer:
    """An answer that is put together from the bytes of a stream.

    Attributes:
        text: the text so far.
        is_finished: the model has ended; only the usage may still come.
        is_done: the server has said that nothing follows.
        usage: the tokens that the server has counted so far.
    """

    text: str = ""
    is_finished: bool = False
    is_done: bool = False
    usage: Usage = field(default_factory=Usage)
    _refusal: str = ""
    _finish: str | None = None
    _model: str | None = None
    _events: EventReader = field(default_factory=EventReader)
    _raw: bytes | None = b""  # for a server that does not stream; None once an event was seen

    def feed(self, piece: bytes) -> bool:
        """Take some bytes; return whether the text has grown.

        Raises:
            InvalidResponseError: an event is broken, or says that the server failed.
        """
        before = len(self.text)
        if self._raw is not None:
            self._raw += piece
        for data in self._events.feed(piece):
            self._take(data)
        return len(self.text) > before

    def answer(self, media_type: str, seconds: float, model: str) -> Answer:
        """Return the answer at the end of the stream; the arguments are those of `read_answer`.

        Raises:
            InvalidResponseError: it broke off, or there was none.
        """
        with contextlib.suppress(
            InvalidResponseError
        ):  # an event without its closing blank line, or half of one
            for data in self._events.feed(b"\n\n"):
                self._take(data)
        if self._raw is not None and ("event-stream" not in media_type or self._raw.lstrip()[:1] == b"{"):
            return read_answer(self._raw, media_type, seconds, model)  # the server did not stream
        if not self.is_finished and not (self.is_done and (self.text or self._refusal)):
            raise InvalidResponseError("the answer broke off", is_transient=True, usage=self.usage)
        return Answer(
            text=repair_surrogates(self._refusal or self.text),
            finish="refusal" if self._refusal else _FINISH.get(self._finish, "stop"),
            usage=self.usage,
            seconds=seconds,
            model=self._model or model,
        )

    def _take(self, data: bytes) -> None:
        self._raw = None
        if self.is_done:
            return
        if data.strip() == b"[DONE]":
            self.is_done = True
            return
        event = _event(data)
        if event.get("usage"):
            self.usage = _usage(event["usage"])
        if event.get("error"):
            raise _reported_error(event["error"], "the server failed in the middle of the answer")
        try:
            chunk = _Chunk.model_validate(event)
        except ValidationError:
            raise InvalidResponseError(_NOT_A_PIECE) from None
        self._model = chunk.model or self._model
        for choice in (choice for choice in chunk.choices or () if choice.index == 0):
            if choice.delta is not None:
                self.text += choice.delta.content or ""
                self._refusal += choice.delta.refusal or ""
            if choice.finish_reason:
                self._finish, self.is_finished = choice.finish_reason, True


_NOT_A_PIECE = "a piece of the answer does not have the shape of one"


def _event(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidResponseError("a piece of the answer is broken JSON", is_transient=True) from None
    if not isinstance(event, dict):
        raise InvalidResponseError(_NOT_A_PIECE)
    return event
