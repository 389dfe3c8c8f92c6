"""Reads an answer that comes as server-sent events, and says what a stream that went wrong was."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from synopsis_writer.client import Answer, Usage
from synopsis_writer.client.completion import FINISH, joined, read_answer, reported, usage_in, whole
from synopsis_writer.client.retry import BrokenBody

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


class _Choice(BaseModel):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(BaseModel):
    choices: list[_Choice] | None = None
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
            BrokenBody: an event is broken, or says that the server failed.
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
            BrokenBody: it broke off, or there was none.
        """
        with contextlib.suppress(BrokenBody):  # half an event
            for data in self._events.end():
                self._take(data)
        if self._raw is not None and ("event-stream" not in media_type or self._raw.lstrip()[:1] == b"{"):
            return read_answer(self._raw, media_type, seconds, model)  # the server did not stream
        if not self.is_finished and not (self.is_done and (self.text or self._refusal)):
            raise BrokenBody("the answer broke off", passing=True, usage=self.usage)
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
            raise BrokenBody("a piece of the answer has not the shape of one", passing=False) from None
        self._model = read.model or self._model
        for choice in read.choices or ():
            if choice.index == 0:
                self._grow(choice)

    def _grow(self, choice: _Choice) -> None:
        if choice.delta is not None:
            self.text += choice.delta.content or ""
            self._refusal += choice.delta.refusal or ""
        if choice.finish_reason:
            self._finish, self.is_finished = choice.finish_reason, True


def _event(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        raise BrokenBody("a piece of the answer is broken JSON", passing=True) from None
    if not isinstance(event, dict):
        raise BrokenBody("a piece of the answer has not the shape of one", passing=False)
    return event
