"""Completions of any server, whole or streamed, read into answers."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from synopsis_writer.models.base import Answer, Finish
from synopsis_writer.models.retry import InvalidResponseError, is_transient_status
from synopsis_writer.usage import Usage

# OpenAI's `finish_reason`; any other is a stop.
FINISH: dict[Any, Finish] = {"length": "length", "content_filter": "filter"}


def whole(text: str) -> str:
    """Join and replace surrogates: a lone one can be neither sent, printed nor saved."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def joined(value: Any) -> Any:
    """Join the texts of a content in parts, its thoughts and pictures left out; return all else as it is."""
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        return value
    texts = [part.get("text") for part in value if part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _whole_text(value: Any) -> Any:
    text = joined(value)
    return whole(text) if isinstance(text, str) else text


_Text = Annotated[str, BeforeValidator(_whole_text)]


class _Message(BaseModel):
    content: _Text | None = None
    refusal: _Text | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    model: str | None = None


# Far more than any call can have; a figure past 64 bits could not be saved.
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
    usage = usage_in(data.get("usage"))
    if not data.get("choices"):
        if data.get("error"):
            raise reported(data["error"], "the server failed", usage)
        raise InvalidResponseError("the answer holds no choice", is_transient=True, usage=usage)
    completion = _read(_Completion, data, "completion", usage)
    choice = completion.choices[0]
    refusal = choice.message.refusal
    return Answer(
        text=refusal or choice.message.content or "",
        finish="refusal" if refusal else FINISH.get(choice.finish_reason, "stop"),
        usage=usage,
        seconds=seconds,
        model=completion.model or model,
    )


def read_models(body: bytes, media_type: str) -> list[str]:
    """Return the names in the body of a list of models, sorted.

    Raises:
        InvalidResponseError: the body holds no such list.
    """
    return sorted(model.id for model in _read(_Models, _json(body, media_type), "list of models").data)


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


def _read(shape: type[_Shape], data: dict[str, Any], what: str, usage: Usage | None = None) -> _Shape:
    try:
        return shape.model_validate(data)
    except ValidationError:
        said = f"the answer has not the shape of a {what}"
        raise InvalidResponseError(said, usage=usage) from None


def usage_in(data: Any) -> Usage:
    """Return the usage in what a server sends as such; one that cannot be read must not lose the text."""
    try:
        usage = _Usage.model_validate(data or {})
    except ValidationError:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)


def reported(error: Any, what: str, usage: Usage | None = None) -> InvalidResponseError:
    """Return the fault that a server reports in an answer, where a status is too late.

    Args:
        error: what it says under `error`.
        what: what happened, in a few words.
        usage: the tokens that it counted.
    """
    said = (error.get("code"), error.get("type"), error.get("status")) if isinstance(error, dict) else ()
    if "insufficient_quota" in said:
        return InvalidResponseError("the account's quota is used up", usage=usage, is_quota=True)
    status = next((int(one) for one in said if isinstance(one, int | str) and str(one).isdecimal()), 500)
    is_transient = is_transient_status(status)
    mend = "try again later" if is_transient else "check model and parameters"
    return InvalidResponseError(what, is_transient=is_transient, mend=mend, usage=usage)


_DONE = b"[DONE]"


def _text_or_none(value: Any) -> Any:
    """Take any string: half a character may come in one piece and its other half in the next."""
    text = joined(value)
    if text is not None and not isinstance(text, str):
        raise ValueError("no text")
    return text


_Piece = Annotated[Any, AfterValidator(_text_or_none)]


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
    """Takes the bytes of an event stream, and gives the data of each event that is whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take some bytes; a line may end in LF, CR or both."""
        self._rest += piece
        # A CR at the end may be half of a CRLF, which must not count as two ends.
        held = b"\r" if self._rest.endswith(b"\r") else b""
        ended = self._rest.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = ended.split(b"\n")
        self._rest = rest + held
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not line and self._data:
                yield self._flush()

    def end(self) -> Iterator[bytes]:
        """Give an event whose closing blank line never came."""
        yield from self.feed(b"\n\n")

    def _flush(self) -> bytes:
        data, self._data = b"\n".join(self._data), []
        return data


@dataclass
class GrowingAnswer:
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
        """Return the answer, now that nothing more comes; the arguments are those of `read_answer`.

        Raises:
            InvalidResponseError: it broke off, or there was none.
        """
        with contextlib.suppress(InvalidResponseError):  # half an event
            for data in self._events.end():
                self._take(data)
        if self._raw is not None and ("event-stream" not in media_type or self._raw.lstrip()[:1] == b"{"):
            return read_answer(self._raw, media_type, seconds, model)  # the server did not stream
        if not self.is_finished and not (self.is_done and (self.text or self._refusal)):
            raise InvalidResponseError("the answer broke off", is_transient=True, usage=self.usage)
        return Answer(
            text=whole(self._refusal or self.text),
            finish="refusal" if self._refusal else FINISH.get(self._finish, "stop"),
            usage=self.usage,
            seconds=seconds,
            model=self._model or model,
        )

    def _take(self, data: bytes) -> None:
        self._raw = None
        if self.is_done:
            return
        if data.strip() == _DONE:
            self.is_done = True
            return
        chunk = _event(data)
        if chunk.get("usage"):
            self.usage = usage_in(chunk["usage"])
        if chunk.get("error"):
            raise reported(chunk["error"], "the server failed in the middle of the answer")
        try:
            read = _Chunk.model_validate(chunk)
        except ValidationError:
            raise InvalidResponseError("a piece of the answer has not the shape of one") from None
        self._model = read.model or self._model
        for choice in read.choices or ():
            if choice.index == 0:
                self._grow(choice)

    def _grow(self, choice: _ChunkChoice) -> None:
        if choice.delta is not None:
            self.text += choice.delta.content or ""
            self._refusal += choice.delta.refusal or ""
        if choice.finish_reason:
            self._finish, self.is_finished = choice.finish_reason, True


def _event(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidResponseError("a piece of the answer is broken JSON", is_transient=True) from None
    if not isinstance(event, dict):
        raise InvalidResponseError("a piece of the answer has not the shape of one")
    return event
