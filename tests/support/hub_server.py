"""A small Hugging Face hub on loopback: metadata and redirect on one host name, the bytes on another.

As the hub does it: `HEAD` and `GET /owner/repo/resolve/<revision>/<file>` answer 302 with `X-Repo-Commit`,
`X-Linked-Size` and `X-Linked-ETag` (the sha256), to a link on another origin that knows `Range`.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    range: str | None
    authorization: str | None
    user_agent: str | None


@dataclass
class Hub:
    """What the hub has, the faults it is set to have, and the requests it has seen."""

    files: dict[str, bytes] = field(default_factory=dict)  # "owner/repo:file" to its bytes
    wrong: dict[str, bytes] = field(default_factory=dict)  # sent in place of the bytes the sum is of
    renamed: dict[str, str] = field(default_factory=dict)  # repositories, and what they are called now
    drops: list[int] = field(default_factory=list)  # bytes to send before the next answers break off
    status: int = 0  # answer every question with this
    error_code: str = ""
    error_message: str = ""
    knows_ranges: bool = True
    omit: frozenset[str] = frozenset()  # header names to leave out
    pause: float = 0.0  # seconds between two kilobytes
    held_at: int = 0  # bytes after which answers come no further
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def loads(self) -> list[Seen]:
        """Return the requests for bytes."""
        return [one for one in self.seen if one.path.startswith("/cdn/")]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that closing waits for them
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        hub = self.served
        path = unquote(urlsplit(self.path).path)
        head = self.headers
        hub.seen.append(Seen(self.command, path, head["Range"], head["Authorization"], head["User-Agent"]))
        if path.startswith("/cdn/"):
            self._send_bytes(path.removeprefix("/cdn/"))
            return
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        name = f"{repo}:{rest.partition('/')[2]}"
        if repo in hub.renamed:
            self.send_response(307)
            self.send_header("Location", f"/{hub.renamed[repo]}/resolve/{rest}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif hub.status:
            self._refuse(hub.status, hub.error_code, hub.error_message)
        elif name in hub.files:
            self._point(name, hub.files[name])
        elif any(known.startswith(f"{repo}:") for known in hub.files):
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            self._refuse(401, "", "Invalid username or password.")  # so the hub answers a stranger

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _point(self, name: str, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{sha256}"',
            "X-Xet-Hash": "f" * 64,
            "Link": f'<{self.served.url}/xet-token>; rel="xet-auth"',
            "Location": f"http://localhost:{self.served.port}/cdn/{name}",
            "Content-Length": "0",
        }
        self.send_response(302)
        for header, value in headers.items():
            if header not in self.served.omit:
                self.send_header(header, value)
        self.end_headers()

    def _send_bytes(self, name: str) -> None:
        hub = self.served
        data = hub.wrong.get(name, hub.files[name])
        start = 0
        if self.headers["Range"] and hub.knows_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + hub.drops.pop(0) if hub.drops else len(data)
        for at in range(start, min(end, len(data)), 1024):
            self.wfile.write(data[at : min(at + 1024, end)])
            if hub.pause and hub.stopping.wait(hub.pause):
                return
            if hub.held_at and at >= hub.held_at and hub.stopping.wait():
                return
        self.close_connection = True
