"""A real HTTP server on 127.0.0.1 that speaks OpenAI's protocol from a script."""

import http.server
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self

from synopsis_writer.testing.steps import (
    Body,
    BrokenJson,
    CutBody,
    Drip,
    Fault,
    Hangup,
    Html,
    Reply,
    Silence,
    Step,
)

__all__ = ["LoopbackServer", "Request", "Step"]

_JSON = "application/json"
_POLL = 0.01
_DRIP = 0.02


@dataclass(frozen=True)
class Request:
    """A request as it came: path, headers by lower-case name, and the JSON body (None: it had none)."""

    path: str
    headers: dict[str, str]
    body: Any


class LoopbackServer:
    """Serves `/v1/chat/completions` from a script, and `/v1/models`, on a free port, in a `with` block.

    Args:
        steps: what each chat request gets, in order.
        repeat_last: give the last step to all further requests; without it they get a 400, and leaving the
            `with` block raises an AssertionError.
        refuses: the types of `response_format` it answers 400 to, `json_schema` or `json_object`; such a
            request takes no step.
        key: the key it demands; any other one gets a 401 and takes no step.
        models: the models it lists, or a step to give to that request.

    Attributes:
        requests: all requests, in order.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        repeat_last: bool = True,
        refuses: Iterable[str] = (),
        key: str | None = None,
        models: Sequence[str] | Step = ("loopback-model",),
    ) -> None:
        self._steps = tuple(steps)
        self._repeat_last = repeat_last
        self._refuses = frozenset(refuses)
        self._key = key
        self._models = models
        self._taken = 0
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL,), daemon=True)

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
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        if error is None and self._taken > len(self._steps) and not self._repeat_last:
            raise AssertionError(
                f"{self._taken} completions were asked of a script with {len(self._steps)} steps: "
                "add a step, or find out who asks once more"
            )

    def answer(self, request: Request) -> Step:
        """Record a request, and return what it gets."""
        self.requests.append(request)
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

    def _refusal(self, request: Request) -> Fault | None:
        asked = request.body.get("response_format") if isinstance(request.body, dict) else None
        kind = asked.get("type") if isinstance(asked, dict) else None
        if kind not in self._refuses:
            return None
        return Fault(400, message=f"Invalid parameter: 'response_format' of type '{kind}' is not supported")

    def _next(self) -> Step:
        with self._lock:
            self._taken += 1
            place = self._taken - 1
        if place < len(self._steps):
            return self._steps[place]
        if self._repeat_last and self._steps:
            return self._steps[-1]
        return Fault(400, message=f"the script of {len(self._steps)} steps is used up")


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads one request, and plays one step."""

    def __init__(self, loopback: LoopbackServer, *connection: Any) -> None:
        self._loopback = loopback
        super().__init__(*connection)

    def do_GET(self) -> None:
        self._play()

    def do_POST(self) -> None:
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
        match step:
            case Reply():
                self._send(200, step.as_data(f"{request.body['model']}-2026"))
            case Fault():
                self._send(step.status, step.as_data(), headers=step.headers)
            case Body():
                self._send(200, step.data)
            case Html():
                self._send(step.status, step.page, kind="text/html; charset=utf-8")
            case BrokenJson():
                self._send(200, step.text)
            case CutBody():
                self._send(200, '{"id": "chatcmpl-', promise=1000)
            case Silence():
                self._loopback.stopping.wait(step.seconds)
            case Drip():
                self._drip(step.seconds)
            case Hangup():
                pass

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
        while time.monotonic() < end and not self._loopback.stopping.wait(_DRIP):
            self.wfile.write(b" ")
