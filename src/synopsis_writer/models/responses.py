"""Reads the completions of any server, whole or streamed, into answers; the SDK's stream is too strict."""

import codecs
import contextlib
import io
import json
import re
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from synopsis_writer.answers import is_closed, read_json, without_thoughts
from synopsis_writer.characters import clean_name, join_surrogates
from synopsis_writer.models.base import MOST_ANSWER, Answer, Finish
from synopsis_writer.models.retry import SERVERS, InvalidResponseError, is_transient_status, read_report
from synopsis_writer.usage import Usage

_FINISH: Mapping[Finish | Literal["failed"], str] = SERVERS["finish"]

# Bytes of a body, after decompression. A stream has some 250 bytes around each token.
MOST_ERROR, MOST_STREAM = 1_000_000, 64_000_000
_PIECE_BYTES = 65_536
_EPOCH = 1970  # the year of a number that is no time, such as 0 for never
_NO_COMPLETION = "the answer does not have the shape of a completion"
_NO_JSON = "the answer is a page or text, not a completion"
_GZIP, _ZLIB_OR_GZIP = b"\x1f", zlib.MAX_WBITS + 32
_SHUTDOWN = ("shutdown_date", "deprecation_date", "deprecation", "expiration_date")
_MOMENT = TypeAdapter(datetime)  # of a date, of one with a time, or of seconds since 1970
_MOST_TOKENS = 10**12  # far more than any call can have; a number beyond 64 bits could not be saved
_SHORT_TEXT = 32  # characters: a longer beginning that comes twice is no chance
_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")  # or the same in two of them
# The text is shown again while it is so short, after so large a part, or after so many seconds.
_SHORT, _SHARE, _SECONDS = 2_000, 1 / 32, 0.1


def too_large(most: float, what: str = "the answer") -> InvalidResponseError:
    """Return the fault of a body that is larger than `most` bytes."""
    return InvalidResponseError(
        f"{what} is larger than {most / 1e6:,.0f} MB", fix="lower max_tokens, or check what the server sends"
    )


async def read_bounded(
    body: AsyncIterable[bytes], encoding: str, most: float, *, is_error: bool = False
) -> AsyncIterator[bytes]:
    """Yield a body decompressed, in pieces; above `most` bytes an error ends, and others raise."""
    if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        raise InvalidResponseError(f"the answer is compressed as '{encoding[:40]}', which nobody asked for")
    size, inflater = 0, None
    async for received in body:
        data, piece = received, b""
        while data or len(piece) == _PIECE_BYTES:
            piece, rest = data, b""
            if encoding not in {"", "identity"}:
                if inflater is None or (inflater.eof and data.startswith(_GZIP)):  # for each member of several
                    has_head = encoding != "deflate" or data[0] & 15 == zlib.DEFLATED  # some leave it out
                    inflater = zlib.decompressobj(_ZLIB_OR_GZIP if has_head else -zlib.MAX_WBITS)
                if inflater.eof:
                    break  # padding
                try:
                    piece = inflater.decompress(data, _PIECE_BYTES)
                except zlib.error:
                    raise InvalidResponseError("the answer is damaged", is_transient=True) from None
                rest = inflater.unconsumed_tail or inflater.unused_data
            size, data = size + len(piece), rest
            if size > most and is_error:
                return
            if size > most:
                raise too_large(most)
            yield piece


def read_answer(body: bytes, media_type: str, seconds: float, model: str) -> Answer:
    """Return the answer of the `model` that was asked; raises InvalidResponseError with the body's usage."""
    answer = StreamedAnswer()
    try:
        return answer.read(body, media_type, seconds, model)
    except InvalidResponseError as error:
        error.usage = answer.usage
        raise


def read_models(body: bytes, media_type: str) -> dict[str, date | None]:
    """Return the models in a list, sorted, and when each is shut down; raises InvalidResponseError."""
    data = _load(body, media_type)
    models = data.get("data", data) if isinstance(data, dict) else data  # or bare
    ends: dict[str, date | None] = {}
    for model in [] if models is None else models if isinstance(models, list) else [None]:
        entry = {"id": model} if isinstance(model, str) else _dict(model)
        if not (name := clean_name(entry.get("id"))):
            raise InvalidResponseError("the answer does not have the shape of a list of models")
        ends[name] = None
        moment = next((entry[key] for key in _SHUTDOWN if key in entry), None)
        with contextlib.suppress(ValidationError):
            end = _MOMENT.validate_python(moment).date()
            ends[name] = end if end.year > _EPOCH else None
    return dict(sorted(ends.items()))


def _load(body: bytes, media_type: str) -> Any:
    try:
        return read_json(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        report = read_report(0, "" if text.startswith(("<", "{", "[")) else text)
    if "json" in media_type:
        raise InvalidResponseError("the answer is broken JSON", is_transient=True, report=report)
    raise InvalidResponseError(_NO_JSON, report=report)


def read_usage(data: Any) -> Usage:
    """Return the usage a server sends, under any of its names; a number that cannot be read is missing."""
    details = (f"{kind}_tokens_details" for kind in ("prompt", "input", "completion", "output"))
    data = _snake_case(data)
    parts = (data, *(_snake_case(data.get(name)) for name in details))
    counts = {name: count for part in parts for name, value in part.items() if (count := _count(value))}

    prompt, completion, cached, written, thinking, total = (
        max(counts.get(name, 0) for name in names) for names in SERVERS["usage"].values()
    )
    is_apart = "prompt_tokens" not in counts or cached + written > prompt
    if is_apart and any(name.endswith("_input_tokens") for name in counts):
        prompt += cached + written  # Anthropic's own counts leave them out
    # Some leave out the thoughts, which are paid as the rest.
    if prompt:
        completion = max(completion, total - prompt)
    elif completion:
        prompt = max(0, total - completion)
    if thinking > completion:
        completion += thinking
    return Usage(prompt, completion, cached, written, thinking)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _snake_case(value: Any) -> dict[str, Any]:
    return {re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): data for name, data in _dict(value).items()}


def _count(value: Any) -> int:
    """Return a whole number from 0 up, also one that is written as a text; 0 for anything else."""
    value = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,13}", value) else value
    is_count = type(value) in {int, float} and 0 <= value <= _MOST_TOKENS and value == int(value)
    return int(value) if is_count else 0


class EventReader:
    """Takes the bytes of an event stream, and yields the data of each complete event."""

    def __init__(self) -> None:
        # A CR at the end of a piece may be half of a CRLF, which must not count as two ends.
        latin = codecs.getincrementaldecoder("latin-1")()
        self._decoder = io.IncrementalNewlineDecoder(latin, translate=True)
        self._line: list[str] = []  # the pieces of one that has not ended, a byte a letter
        self._data: list[bytes] = []
        self._size = self._held = 0  # the bytes of both, and of the data

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take some bytes; a line may end in LF, CR or both; raises InvalidResponseError for a huge event."""
        self._line.append(self._decoder.decode(piece))
        self._size += len(piece)
        if self._size > MOST_ANSWER:
            raise too_large(MOST_ANSWER, "an event of the stream")
        if "\n" not in self._line[-1]:
            return
        *lines, rest = "".join(self._line).encode("latin-1").split(b"\n")
        self._line = [rest.decode("latin-1")]
        for line in lines:
            name, _, value = line.removeprefix(codecs.BOM_UTF8).partition(b":")
            if name == b"data":
                # Some leave out the blank line; two values side by side are never one.
                if self._data and self._data[-1].rstrip()[-1:] not in b",[:{" and value.lstrip()[:1] not in b",]}:":
                    yield self._take()
                self._data.append(value.removeprefix(b" "))
                self._held += len(self._data[-1])
            if self._data and (not line or value.strip() == b"[DONE]"):
                yield self._take()
        self._size = self._held + len(rest)

    def _take(self) -> bytes:
        data, self._data, self._held = b"\n".join(self._data), [], 0
        return data


class _Text:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = self._count = 0
        self._may_grow = True  # each piece so far began with the one before

    def add(self, piece: str) -> None:
        """Add a piece; one that begins with all that came before takes its place."""
        if not piece:
            return
        self._count += 1
        if self.pieces:
            is_repeated = self._count > 2  # noqa: PLR2004 - two equal pieces may be a text
            is_longer = len(piece) >= len(self.pieces[-1]) + (not is_repeated)
            self._may_grow = self._may_grow and is_longer and piece.startswith(self.pieces[-1])
            is_whole = len(piece) >= self.length + (not is_repeated) and self.length > _SHORT_TEXT
            has_grown = self._may_grow and len(piece) > _SHORT_TEXT
            if has_grown or (is_whole and piece.startswith(self.joined())):
                self.pieces, self.length = [], 0
        self.pieces.append(piece)
        self.length += len(piece)

    def joined(self) -> str:
        """Return the text so far."""
        if len(self.pieces) > 1:
            is_growing = self._may_grow and len(self.pieces[-1]) > len(self.pieces[0])
            self.pieces = self.pieces[-1:] if is_growing else ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


@dataclass
class StreamedAnswer:
    """An answer that is put together from the bytes of a stream, or of a whole body."""

    # Given the whole text as it grows, so seldom that all showing takes linear time.
    on_text: Callable[[str], None] | None = None
    clock: Callable[[], float] = time.monotonic
    is_finished: bool = False  # the model has ended; only the usage may still come
    is_done: bool = False  # the server announced that nothing follows
    usage: Usage = field(default_factory=Usage)  # that the server has counted so far
    _parts: dict[str, _Text] = field(default_factory=lambda: defaultdict(_Text))
    _finish: str = ""
    _model: str = ""
    _service_tier: str = ""
    _events: EventReader = field(default_factory=EventReader)
    _raw: bytearray | None = field(default_factory=bytearray)  # of a server that does not stream, else None
    _shown: tuple[int, float] = (0, float("-inf"))  # characters, and when

    @property
    def text(self) -> str:
        """The text so far."""
        return self._parts["content"].joined()

    @property
    def length(self) -> int:
        """How many characters came so far, thoughts and the like included."""
        return sum(part.length for part in self._parts.values())

    def feed(self, piece: bytes) -> None:
        """Take some bytes; raises InvalidResponseError."""
        if self._raw is not None:
            self._raw += piece
        for data in self._events.feed(piece):
            self._take(data)
        if self.length > MOST_ANSWER or len(self._raw or b"") > MOST_ANSWER:
            raise too_large(MOST_ANSWER)

    def _take(self, data: bytes) -> None:
        if not data.strip():
            return
        self._raw = None
        self.is_done = self.is_done or data.strip() == b"[DONE]"
        if self.is_done or not data.strip().startswith(b"{"):  # such as `null`: it keeps the connection open
            return
        try:
            event = read_json(data)
        except ValueError:
            raise InvalidResponseError("a piece of the answer is broken JSON", is_transient=True) from None
        self.add(event)

    def answer(self, media_type: str, seconds: float, model: str) -> Answer:
        """Return the answer at the end of the stream; arguments and errors are those of `read_answer`."""
        with contextlib.suppress(InvalidResponseError):  # an event without its blank line, or half of one
            for data in self._events.feed(b"\n\n"):
                self._take(data)
        first = (self._raw or b"").removeprefix(codecs.BOM_UTF8).lstrip()[:1]
        if self._raw is not None and ("event-stream" not in media_type or first == b"{"):
            return self.read(bytes(self._raw), media_type, seconds, model)  # the server did not stream
        is_whole = self.is_finished or (self.is_done and self.length)
        if not is_whole and not is_closed(without_thoughts(self.text, is_cut=True)):
            raise InvalidResponseError("the answer broke off", is_transient=True)
        return self.result(seconds, model)

    def read(self, body: bytes, media_type: str, seconds: float, model: str) -> Answer:
        """Return the answer in a whole body; raises InvalidResponseError."""
        data = _load(body, media_type)
        if not isinstance(data, dict):
            report = read_report(0, data if isinstance(data, str) else "")
            raise InvalidResponseError(_NO_JSON, report=report)
        if data.get("choices"):
            data.pop("error", None)
        elif not data.get("error"):
            self._count(data)
            if not (words := data.get("detail") or data.get("message")):
                raise InvalidResponseError("the answer holds no choice", is_transient=True)
            data["error"] = words
        self.add(data)
        if not any(isinstance(choice.get("message"), dict) for choice in _first_choices(data)):
            raise InvalidResponseError(_NO_COMPLETION)
        return self.result(seconds, model)

    def _count(self, data: dict[str, Any]) -> None:
        """Add what is counted; some count prompt and answer in different events, some inside the choice."""
        for usage in filter(None, [place.get("usage") for place in (data, *_dicts(data.get("choices")))]):
            counted = read_usage(usage)
            self.usage = Usage(*map(max, vars(self.usage).values(), vars(counted).values()))

    def add(self, data: dict[str, Any]) -> None:
        """Add a completion or a piece of one, and show the text; raises InvalidResponseError."""
        self._count(data)
        if error := data.get("error"):
            raise self._reported(error)
        self._model = clean_name(data.get("model")) or self._model
        self._service_tier = clean_name(data.get("service_tier")) or self._service_tier
        for choice in _first_choices(data):
            if message := choice.get("delta") or choice.get("message"):
                self._add_message(message)
            if reason := clean_name(choice.get("finish_reason")):
                self._finish, self.is_finished = reason, True
        self._show()

    def _add_message(self, message: Any) -> None:
        """Add what a message has; some servers put the answer where thoughts or tool calls belong."""
        message = message if isinstance(message, dict) else {"content": 0}
        for name in ("content", "refusal"):
            # A character may be split between two pieces.
            text = _join_parts(message.get(name))
            if text is not None and not isinstance(text, str):
                raise InvalidResponseError(_NO_COMPLETION)
            self._parts[name].add(text or "")
        thoughts = (_join_parts(message.get(name), is_thought=True) for name in _THOUGHTS)
        self._parts["thoughts"].add(next((text for text in thoughts if text and isinstance(text, str)), ""))
        calls = [call.get("function") for call in _dicts(message.get("tool_calls"))]
        for call in (*calls, message.get("function_call")):
            arguments = _dict(call).get("arguments")
            if isinstance(arguments, str | dict):
                whole = arguments if isinstance(arguments, str) else json.dumps(arguments)
                self._parts["arguments"].add(whole)

    def _show(self, *, is_last: bool = False) -> None:
        length, (shown, at) = self._parts["content"].length, self._shown
        if self.on_text is None or length <= shown:
            return
        is_large = length <= _SHORT or length - shown >= length * _SHARE
        if is_last or is_large or self.clock() - at >= _SECONDS:
            self._shown = length, self.clock()
            self.on_text(join_surrogates(self.text))

    def result(self, seconds: float, model: str) -> Answer:
        """Return the answer, wherever the server put it; raises InvalidResponseError if the server failed."""
        self._show(is_last=True)
        found = [name for name, words in _FINISH.items() if re.search(words, self._finish, re.IGNORECASE)]
        finish: Finish | Literal["failed"] = found[0] if found else "stop"
        if finish == "failed":
            raise self._reported({})
        names = ("content", "refusal", "arguments", "thoughts")
        text, refusal, arguments, thoughts = (self._parts[name].joined() for name in names)
        if refusal:
            text, finish = refusal, "refusal"
        elif "{" in arguments and "{" not in text:
            text = arguments
        # Thoughts that were cut hold no answer.
        elif finish == "stop" and "{" in thoughts and not without_thoughts(text, is_cut=True).strip():
            text = thoughts
        text, model, tier = join_surrogates(text), self._model or model, self._service_tier
        return Answer(text, finish, self.usage, seconds, model, service_tier=tier)

    def _reported(self, error: Any) -> InvalidResponseError:
        """Return the fault that a server reports in the field `error`, when it is too late for a status."""
        codes = (str(_dict(error).get(name)) for name in ("code", "type", "status"))
        status = next((int(code) for code in codes if re.fullmatch("[1-5][0-9]{2}", code)), 0)
        report = read_report(HTTPStatus.OK if self.length else status, error)  # what has begun was accepted
        is_transient = report.meaning == "other" and (not status or is_transient_status(status))
        fix = "try again later" if is_transient else "check model and parameters"
        message = f"the server failed{' in the middle of the answer' if self.length else ''}"
        return InvalidResponseError(message, is_transient=is_transient, fix=fix, report=report)


def _join_parts(value: Any, *, is_thought: bool = False) -> Any:
    """Join the texts of a content in parts, without thoughts and pictures; return anything else as it is."""
    parts = [value] if isinstance(value, dict) else value
    if not isinstance(parts, list) or not all(isinstance(part, dict | str) for part in parts):
        return value
    texts = []
    for part in (part if isinstance(part, dict) else {"text": part} for part in parts):
        if is_thought or not (part.get("thought") or _THOUGHT.search(str(part.get("type")))):
            text = part.get("text", part.get("content"))
            texts.append(_dict(text).get("value", text))
    return "".join(text for text in texts if isinstance(text, str))


def _first_choices(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices of number 0, or without one; raises InvalidResponseError."""
    choices = data.get("choices") or []
    if not isinstance(choices, list):
        raise InvalidResponseError(_NO_COMPLETION)
    return [choice for choice in _dicts(choices) if str(choice.get("index") or 0) == "0"]
