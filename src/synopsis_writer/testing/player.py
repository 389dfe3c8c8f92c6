"""What plays the steps of a script on one HTTP connection."""

import http.server
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from synopsis_writer.testing.steps import (
    Body,
    BrokenJson,
    CutBody,
    CutStream,
    Drip,
    Events,
    FailingStream,
    Fault,
    Hangup,
    Html,
    Redirect,
    Reply,
    Silence,
    Step,
    event,
)

_JSON = "application/json"
_EVENTS = "text/event-stream; charset=utf-8"
_DRIP = 0.02


@dataclass(frozen=True)
class Request:
    """A request as it came: path, headers by lower-case name, and the JSON body (None: it had none)."""

    path: str
    headers: dict[str, str]
    body: Any


class Script(Protocol):
    """What knows the step for a request; `stopping` ends the steps that wait."""

    stopping: threading.Event

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
            case Reply() | CutStream() | FailingStream() if body.get("stream"):
                self._stream(step, body)
            case Events():
                self._send_events([step.text], promise=1000 if step.is_cut else 0)
            case Silence():
                self._loopback.stopping.wait(step.seconds)
            case Drip():
                self._drip(step.seconds)
            case Hangup():
                pass
            case _:
                self._answer(step, str(body.get("model")))

    def _stream(self, step: Reply | CutStream | FailingStream, body: Mapping[str, Any]) -> None:
        asked = body.get("stream_options") or {}
        model = f"{body['model']}-2026"
        if isinstance(step, Reply):
            self._send_events(step.as_events(model, usage=bool(asked.get("include_usage"))))
            return
        begun = Reply(step.text[: len(step.text) // 2]).as_events(model, usage=False)[:-2]
        if isinstance(step, CutStream):
            self._send_events(begun, promise=1000)
        else:
            error = {"message": step.message, "type": "server_error", "code": step.code}
            self._send_events([*begun, event({"error": error})])

    def _send_events(self, events: Sequence[str], promise: int = 0) -> None:
        """Send one event a packet, as a model that writes does."""
        pieces = [one.encode() for one in events]
        self.send_response(200)
        self.send_header("Content-Type", _EVENTS)
        self.send_header("Content-Length", str(sum(map(len, pieces)) + promise))
        self.end_headers()
        for piece in pieces:
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
            case CutBody() | CutStream():
                self._send(200, '{"id": "chatcmpl-', promise=1000)

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
