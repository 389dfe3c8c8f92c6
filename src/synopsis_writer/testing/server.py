"""A real HTTP server on loopback that speaks OpenAI's chat completions, with scripted answers and faults."""

import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_OK, _REFUSED, _UNAUTHORISED, _NOT_FOUND = 200, 400, 401, 404


@dataclass(frozen=True)
class Reply:
    """A whole answer; `delay` in seconds."""

    text: str
    finish: str = "stop"
    prompt_tokens: int = 100
    completion_tokens: int = 50
    cached_tokens: int = 0
    refusal: str | None = None
    delay: float = 0.0


@dataclass(frozen=True)
class Fault:
    """An error status with a body; `code` is OpenAI's error code."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = "error"
    message: str = "scripted fault"


@dataclass(frozen=True)
class Html:
    """A web page, as a wrong address gives."""

    status: int = _OK


@dataclass(frozen=True)
class BrokenJson:
    """A body that says it is JSON and is not."""


@dataclass(frozen=True)
class CutBody:
    """A body that ends before its announced length."""


@dataclass(frozen=True)
class Silence:
    """No answer for so many seconds, then a closed connection."""

    seconds: float


@dataclass(frozen=True)
class Hangup:
    """A connection closed without a word."""


Step = Reply | Fault | Html | BrokenJson | CutBody | Silence | Hangup


@dataclass(frozen=True)
class Request:
    """What the server was sent."""

    path: str
    headers: Mapping[str, str]
    body: Any


class LoopbackServer:
    """Serves a script on 127.0.0.1; its last step is repeated.

    Args:
        script: what to answer to each chat completion, in order.
        models: the names that `/v1/models` lists.
        refuses: kinds of `response_format` that are answered with 400.
        key: the key that is demanded; None takes any.

    Attributes:
        requests: what came in, in order.
    """

    def __init__(
        self,
        script: Iterable[Step],
        *,
        models: Iterable[str] = ("test-model",),
        refuses: Iterable[str] = (),
        key: str | None = None,
    ) -> None:
        self.script = list(script)
        self.models = tuple(models)
        self.refuses = frozenset(refuses)
        self.key = key
        self.requests: list[Request] = []
        self._served = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        """The address for `--base-url`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving, and close the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def next_step(self) -> Step:
        """Return the step that is due."""
        with self._lock:
            step = self.script[min(self._served, len(self.script) - 1)]
            self._served += 1
            return step


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    owner: LoopbackServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is a part of the script."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def do_GET(self) -> None:
        self._record(None)
        if self.path.endswith("/models"):
            data = [
                {"id": name, "object": "model", "created": 0, "owned_by": "test"}
                for name in self.server.owner.models
            ]
            self._send(_OK, {"object": "list", "data": data})
        else:
            self._send_error(Fault(_NOT_FOUND))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._record(body)
        owner = self.server.owner
        if owner.key is not None and self.headers["authorization"] != f"Bearer {owner.key}":
            self._send_error(Fault(_UNAUTHORISED, code="invalid_api_key", message="wrong key"))
            return
        wanted = body.get("response_format", {}).get("type", "text")
        if wanted in owner.refuses:
            self._send_error(Fault(_REFUSED, message=f"response_format {wanted} is not supported"))
            return
        self._take(owner.next_step())

    def _record(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.owner.requests.append(Request(self.path, headers, body))

    def _take(self, step: Step) -> None:
        match step:
            case Reply():
                time.sleep(step.delay)
                self._send(_OK, _completion(step))
            case Fault():
                self._send_error(step)
            case Html():
                self._write(step.status, b"<!doctype html><title>Welcome</title>", "text/html")
            case BrokenJson():
                self._write(_OK, b'{"id": "x", "choices": [', "application/json")
            case CutBody():
                self._write(_OK, b'{"id": "x"', "application/json", length=1000)
                self._hang_up()
            case Silence():
                time.sleep(step.seconds)
                self._hang_up()
            case Hangup():
                self._hang_up()

    def _send_error(self, fault: Fault) -> None:
        error = {"message": fault.message, "type": fault.code, "code": fault.code, "param": None}
        self._send(fault.status, {"error": error}, fault.headers)

    def _send(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        self._write(status, json.dumps(data).encode("utf-8"), "application/json", headers=headers)

    def _write(
        self,
        status: int,
        body: bytes,
        kind: str,
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _completion(reply: Reply) -> dict[str, Any]:
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": "test-model-2026",
        "choices": [
            {
                "index": 0,
                "finish_reason": reply.finish,
                "message": {
                    "role": "assistant",
                    "content": None if reply.refusal else reply.text,
                    "refusal": reply.refusal,
                },
            }
        ],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        },
    }
