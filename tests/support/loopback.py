"""A real HTTP server on 127.0.0.1 that speaks OpenAI's protocol from a script: answers, faults, silence."""

import http.server
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

_PIECE = 7  # characters an event; no multiple of anything, so that words and escapes are cut
_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_DRIP = 0.02
_POLL = 0.01


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
        message: the message's fields in place of all these, such as `{"content": None, "reasoning": "…"}`.
        pause: seconds before each event of a stream.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 100
    completion_tokens: int = 50
    cached_tokens: int = 0
    refusal: str | None = None
    message: Mapping[str, Any] | None = None
    pause: float = 0.0

    def as_data(self, model: str) -> dict[str, Any]:
        """Return the body of `/v1/chat/completions`, given by `model`."""
        content = None if self.refusal is not None else self.text
        message = self.message or {"role": "assistant", "content": content, "refusal": self.refusal}
        return {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": model,
            "choices": [{"index": 0, "finish_reason": self.finish, "logprobs": None, "message": message}],
            "usage": self._usage(),
        }

    def as_events(self, model: str, *, usage: bool) -> list[str]:
        """Return the events of a stream, the closing `[DONE]` included.

        Args:
            model: who gives it.
            usage: put the tokens into the last event but one, as `stream_options` asks for.
        """
        field, text = ("content", self.text) if self.refusal is None else ("refusal", self.refusal)
        pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
        chunks = [
            self._chunk(model, [{"index": 0, "delta": delta, "finish_reason": None}])
            for delta in (
                {"role": "assistant", "content": ""},
                *([self.message] if self.message else ({field: piece} for piece in pieces)),
            )
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
    """Any JSON with status 200 that is not a completion."""

    data: Any


@dataclass(frozen=True)
class Html:
    """A web page, as from a wrong address or a login page."""

    page: str = "<!doctype html><title>Willkommen</title>"
    status: int = 200


@dataclass(frozen=True)
class BrokenJson:
    """Text with status 200 that claims to be JSON and is not."""

    text: str = '{"choices": [{"message": '


@dataclass(frozen=True)
class CutBody:
    """An answer that promises 1000 bytes more than it sends."""

    text: str = '{"id": "chatcmpl-'


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
        pause: seconds before each event.
    """

    text: str = "Ein Satz, der nicht zu Ende"
    message: str = "a scripted fault"
    code: str | int | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class StalledStream:
    """A stream that is silent after half of `text`; a request without `stream` gets a Silence.

    Attributes:
        text: the answer, half of which is sent.
        seconds: how long the silence is; ends early when the server is closed.
        filler: what is sent every 20 ms meanwhile, such as a comment that keeps the connection open.
        pause: seconds before each event.
    """

    text: str = "Ein Satz, der nicht zu Ende"
    seconds: float = 60.0
    filler: str = ""
    pause: float = 0.0


@dataclass(frozen=True)
class Outage:
    """The connection is closed without an answer, and further ones are refused for `seconds`."""

    seconds: float


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
    | StalledStream
    | Outage
)


@dataclass(frozen=True)
class Request:
    """A request as received: path, headers by lower-case name, and the JSON body (None: it had none)."""

    path: str
    headers: dict[str, str]
    body: Any


class Script(Protocol):
    """What knows the step for a request; `stopping` ends the steps that wait, `on_silence` is told of them."""

    stopping: threading.Event
    on_silence: Callable[[], object]

    def answer(self, request: Request) -> Step:
        """Record a request, and return what it gets."""
        ...


class Player(http.server.BaseHTTPRequestHandler):
    """Reads one request, and plays one step."""

    def __init__(self, loopback: Script, *connection: Any) -> None:
        self._loopback = loopback
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Play the step for a GET."""
        self._play()

    def do_POST(self) -> None:
        """Play the step for a POST."""
        self._play()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""

    def _play(self) -> None:
        try:
            request = self._request()
            self._do(self._loopback.answer(request), request)
        except OSError:
            self.close_connection = True  # the other side has gone

    def _request(self) -> Request:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.path, headers, json.loads(raw) if raw else None)

    def _do(self, step: Step, request: Request) -> None:
        body = request.body if isinstance(request.body, dict) else {}
        match step:
            case Reply() | CutStream() | FailingStream() | StalledStream() if body.get("stream"):
                self._stream(step, body)
            case Events():
                self._send_events([step.text], promise=1000 if step.is_cut else 0)
            case Silence() | StalledStream():
                self._loopback.on_silence()
                self._loopback.stopping.wait(step.seconds)
            case Drip():
                self._drip(step.seconds)
            case Hangup() | Outage():
                pass
            case _:
                self._answer(step, str(body.get("model")))

    def _stream(self, step: Reply | CutStream | FailingStream | StalledStream, body: Mapping[str, Any]) -> None:
        asked = body.get("stream_options") or {}
        model = f"{body['model']}-2026"
        if isinstance(step, Reply):
            events = step.as_events(model, usage=bool(asked.get("include_usage")))
            self._send_events(events, pause=step.pause)
            return
        begun = Reply(step.text[: len(step.text) // 2]).as_events(model, usage=False)[:-2]
        if isinstance(step, CutStream):
            self._send_events(begun, promise=1000)
        elif isinstance(step, StalledStream):
            self._send_events(begun, promise=1_000_000, pause=step.pause)
            end = time.monotonic() + step.seconds
            while time.monotonic() < end and not self._loopback.stopping.wait(_DRIP):
                self.wfile.write(step.filler.encode())
        else:
            error = {"message": step.message, "type": "server_error", "code": step.code}
            self._send_events([*begun, event({"error": error})], pause=step.pause)

    def _send_events(self, events: Sequence[str], promise: int = 0, pause: float = 0.0) -> None:
        """Send one event a packet, as a model that writes does."""
        pieces = [one.encode() for one in events]
        self.send_response(200)
        self.send_header("Content-Type", _EVENTS)
        self.send_header("Content-Length", str(sum(map(len, pieces)) + promise))
        self.end_headers()
        for piece in pieces:
            if pause:
                self._loopback.stopping.wait(pause)
            self.wfile.write(piece)

    def _answer(self, step: Step, model: str) -> None:
        match step:
            case Reply():
                self._send(200, step.as_data(f"{model}-2026"))
            case Fault():
                self._send(step.status, step.as_data(), headers=step.headers)
            case FailingStream():
                self._send(500, Fault(500, message=step.message).as_data())
            case Redirect():
                self._send(step.status, {}, headers={"Location": step.location})
            case Body():
                self._send(200, step.data)
            case Html():
                self._send(step.status, step.page, kind="text/html; charset=utf-8")
            case BrokenJson():
                self._send(200, step.text)
            case CutBody():
                self._send(200, step.text, promise=1000)
            case CutStream():
                self._send(200, CutBody.text, promise=1000)

    def _send(
        self,
        status: int,
        body: Any,
        *,
        kind: str = _JSON,
        promise: int = 0,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Send JSON, or a text as it is; `promise` is how many more bytes the header claims."""
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + promise))
        self.end_headers()
        self.wfile.write(content)

    def _drip(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.send_response(200)
        self.send_header("Content-Type", _JSON)
        self.end_headers()
        self._loopback.on_silence()
        while time.monotonic() < end and not self._loopback.stopping.wait(_DRIP):
            self.wfile.write(b" ")


class LoopbackServer:
    """Serves `/v1/chat/completions` from a script, and `/v1/models`, on a free port, in a `with` block.

    Args:
        steps: what each chat request gets, in order.
        repeat_last: give the last step to all further requests; without it they get a 400, and leaving the
            `with` block raises an AssertionError.
        refuses: what it answers 400 to: types of `response_format` (`json_schema`, `json_object`), and
            names of fields, such as `max_completion_tokens`, `temperature`, `prompt_cache_key`, `stream` or
            `stream_options`, `system` (a message), `whole` (not streamed); such a request takes no step.
        refusal: what such a request gets in place of a 400 that names what is refused.
        key: the key it demands; any other one gets a 401 and takes no step.
        models: the models it lists, or a step to give to that request.

    Attributes:
        requests: all requests, in order.
        on_silence: called when Silence or Drip begins, such as a clock's `forward`.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        repeat_last: bool = True,
        refuses: Iterable[str] = (),
        refusal: Step | None = None,
        key: str | None = None,
        models: Sequence[str] | Step = ("loopback-model",),
    ) -> None:
        self._steps = tuple(steps)
        self._repeat_last = repeat_last
        self._refuses = frozenset(refuses)
        self._refused_with = refusal
        self._key = key
        self._models = models
        self._taken = 0
        self._lock = threading.Lock()
        self._allowed = math.inf
        self._more_allowed = threading.Condition()
        self.requests: list[Request] = []
        self.on_silence: Callable[[], object] = lambda: None
        self.stopping = threading.Event()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Player, self))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._outage = 0.0

    @property
    def base_url(self) -> str:
        """The address, ending in /v1."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def chats(self) -> list[Request]:
        """The requests for a completion, in order."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving.

        Raises:
            AssertionError: more was asked than the script holds.
        """
        self.stopping.set()
        self.allow()
        with self._lock:
            http = self._http
        http.shutdown()
        self._thread.join()
        http.server_close()
        if error is None and self._taken > len(self._steps) and not self._repeat_last:
            raise AssertionError(
                f"{self._taken} completions were asked of a script with {len(self._steps)} steps: "
                "add a step, or find out who asks once more"
            )

    def _serve(self) -> None:
        """Serve until this is closed; after an outage on the same port."""
        while not self.stopping.is_set():
            self._http.serve_forever(_POLL)
            if self._outage:
                self._http.server_close()
                with socket.socket() as port:  # which nobody else gets meanwhile
                    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    port.bind(self._http.server_address[:2])
                    self.stopping.wait(self._outage)
                self._outage = 0.0
                with self._lock:
                    if not self.stopping.is_set():
                        self._http = http.server.ThreadingHTTPServer(
                            self._http.server_address[:2], partial(Player, self)
                        )

    def allow(self, chats: float = math.inf) -> None:
        """Answer so many requests for a completion in all; further ones wait until more are allowed, or for the end.

        A test that says what is in flight does not depend on who is first.
        """
        with self._more_allowed:
            self._allowed = chats
            self._more_allowed.notify_all()

    def answer(self, request: Request) -> Step:
        """Record a request, and return what it gets."""
        with self._lock:
            self.requests.append(request)
            place = len(self.chats)
        if request.path == "/v1/chat/completions":
            with self._more_allowed:
                self._more_allowed.wait_for(lambda: place <= self._allowed)
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            return Fault(401, message="Incorrect API key provided", code="invalid_api_key")
        if request.path == "/v1/models":
            return self._list()
        if request.path == "/v1/chat/completions":
            return self._refusal(request) or self._next()
        return Fault(404, message=f"Unknown request URL: {request.path}", code="unknown_url")

    def _list(self) -> Step:
        if not isinstance(self._models, Sequence):
            return self._models
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "you"} for name in self._models]
        return Body({"object": "list", "data": models})

    def _refusal(self, request: Request) -> Step | None:
        body = request.body if isinstance(request.body, dict) else {}
        asked = body.get("response_format")
        kind = asked.get("type") if isinstance(asked, dict) else None
        shape = [message.get("role") for message in body.get("messages", ())]
        shape += [] if body.get("stream") else ["whole"]
        refused = next((name for name in (*body, kind, *shape) if name in self._refuses), None)
        if refused is None or self._refused_with is not None:
            return self._refused_with if refused else None
        if refused in body:
            said = f"Unsupported parameter: '{refused}' is not supported with this model"
            return Fault(400, message=said, code="unsupported_parameter", param=refused)
        said = {"system": "System role not supported", "whole": "This model only supports streaming"}.get(
            refused, f"Invalid parameter: 'response_format' of type '{kind}' is not supported"
        )
        return Fault(400, message=said)

    def _next(self) -> Step:
        with self._lock:
            self._taken += 1
            place = self._taken - 1
        if place >= len(self._steps) and not (self._repeat_last and self._steps):
            return Fault(400, message=f"the script of {len(self._steps)} steps is used up")
        step = self._steps[min(place, len(self._steps) - 1)]
        if isinstance(step, Outage):
            self._outage = step.seconds
            self._http.shutdown()
        return step


@contextmanager
def closed_port() -> Iterator[str]:
    """Have a port on which nobody listens, and nobody else can, during the block; the address ends in /v1."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{port.getsockname()[1]}/v1"
