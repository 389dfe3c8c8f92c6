"""A real HTTP server on 127.0.0.1 that speaks OpenAI's files and batches, with the faults of its life."""

import http.server
import json
import random
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self

from tests.support.loopback import Fault, Reply, Request

_POLL = 0.01
_PART = re.compile(rb'name="(\w+)"(?:; filename="[^"]*")?(?:\r\nContent-Type: [^\r]*)?\r\n\r\n', re.IGNORECASE)
_MADE, _DAY = 1_700_000_000, 86_400
Ask = Mapping[str, Any]


@dataclass(frozen=True)
class Unasked:
    """What becomes of a request whose turn does not come: `batch_expired`, or `batch_cancelled`."""

    code: str = "batch_expired"


Outcome = Reply | Fault | Unasked


@dataclass
class Batch:
    """A batch as the server has it.

    Attributes:
        id: its name.
        file: the name of its file of requests.
        metadata: what it was made with.
        status: as OpenAI calls it.
        requests: the lines of its file.
        output, errors: the lines that it gives, in no order.
        problems: what the check found, where it failed.
    """

    id: str
    file: str
    metadata: dict[str, str]
    status: str = "validating"
    requests: list[Ask] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def end(self, status: str, answer: Callable[[Ask], Outcome], rng: random.Random) -> None:
        """Complete the batch: the results are there, in random order."""
        self.status = status
        for ask in self.requests:
            self._result(ask, answer(ask["body"]))
        rng.shuffle(self.output)
        rng.shuffle(self.errors)

    def contents(self) -> dict[str, bytes]:
        """Return the files of results by name; empty ones are left out."""
        kinds = {"output": self.output, "errors": self.errors}
        return {f"{self.id}_{kind}": "".join(lines).encode() for kind, lines in kinds.items() if lines}

    def _result(self, ask: Ask, outcome: Outcome) -> None:
        line: dict[str, Any] = {"id": f"batch_req_{ask['custom_id']}", "custom_id": ask["custom_id"]}
        match outcome:
            case Reply():
                body = outcome.as_data(f"{ask['body']['model']}-2026")
                line |= {"response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}
                self.output.append(json.dumps(line) + "\n")
                return
            case Fault():
                reported = outcome.as_data()
                line |= {"response": {"status_code": outcome.status, "body": reported}, "error": None}
            case Unasked():
                words = "This request could not be executed before the batch ended."
                line |= {"response": None, "error": {"code": outcome.code, "message": words}}
        self.errors.append(json.dumps(line) + "\n")

    def as_data(self) -> dict[str, Any]:
        """Return what the server reports about it."""
        files = self.contents() if self.status not in {"validating", "in_progress", "cancelling"} else {}
        names = {kind: name for kind in ("output", "errors") if (name := f"{self.id}_{kind}") in files}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": names.get("output"),
            "error_file_id": names.get("errors"),
            "errors": {"object": "list", "data": self.problems} if self.problems else None,
            "created_at": _MADE,
            "expires_at": _MADE + _DAY,
            "request_counts": {"total": len(self.requests), "completed": len(self.output), "failed": len(self.errors)},
            "metadata": self.metadata,
        }


class BatchServer:
    """Serves `/v1/files`, `/v1/batches` and `/v1/chat/completions` on a free port, in a `with` block.

    Args:
        answer: gives what becomes of a request, by the body that asks; also of a live one.
        ends: the status that each batch comes to, in order, the last one for all further: `completed`,
            `expired`, `cancelled`, `failed`, or `in_progress` for one that never ends.
        looks: how often a batch is looked at before it has come there, or has ended when it was cancelled.
        problems: what the check of a failed batch says: dicts with `code`, `message` and `line`.
        faults: what happens to a call, by method and path (`POST /files`, `POST /batches`,
            `GET /batches`, `GET /batches/ID`, `GET /files/ID`, `GET /files/ID/content`,
            `POST /batches/ID/cancel`), in turn; None lets one through. A text is a fault of the line:
            `hangup` before anything is done, `lost` after it is done, `cut` in the middle of the answer,
            `slow` after it is done, when the client waits no more.
        seen: is told of each call before anything is done.
        page: batches in one page of the list.
        unlisted: how often the list is asked for before a new batch stands in it.
        seed: of the order in which results come.

    Attributes:
        batches: all batches, in order.
        files: the content of all files, by their names.
        requests: all calls, in order.
        odd: what is told of all batches in the place of what is so, by the names of fields.
        file_sizes: what is told of a file's bytes in the place of what is so, by its name.
    """

    def __init__(
        self,
        answer: Callable[[Ask], Outcome],
        *,
        ends: Sequence[str] = ("completed",),
        looks: int = 0,
        problems: Sequence[Mapping[str, Any]] = (),
        faults: Mapping[str, Sequence[Fault | str | None]] | None = None,
        seen: Callable[[Request], None] = lambda _: None,
        page: int = 100,
        unlisted: int = 0,
        seed: int = 1,
    ) -> None:
        self._answer = answer
        self._ends = tuple(ends)
        self._looks = looks
        self._problems = [dict(problem) for problem in problems]
        self._faults = {name: list(some) for name, some in (faults or {}).items()}
        self._seen = seen
        self._page = page
        self._unlisted = unlisted
        self._listed: dict[str, int] = {}
        self._rng = random.Random(seed)
        self._looked: dict[str, int] = {}
        self._lock = threading.RLock()
        self.batches: list[Batch] = []
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.odd: dict[str, Any] = {}
        self.file_sizes: dict[str, int] = {}
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL,), daemon=True)

    @property
    def base_url(self) -> str:
        """The address, ending in /v1."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def chats(self) -> list[Request]:
        """The live requests for a completion, in order."""
        return [request for request in self.requests if request.path == "/v1/chat/completions"]

    def __enter__(self) -> Self:
        """Start to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def fault(self, name: str) -> Fault | str | None:
        """Return what happens to a call, and take it from the list."""
        with self._lock:
            waiting = self._faults.get(name) or self._faults.get(re.sub(r"/(batch|file)_\w+", "/ID", name))
            return waiting.pop(0) if waiting else None

    def do(self, method: str, request: Request) -> tuple[int, Any]:
        """Do what a call asks; return status and body: bytes, or JSON."""
        path = request.path.partition("?")[0].removeprefix("/v1/")
        with self._lock:
            match method, path.split("/"):
                case "POST", ["chat", "completions"]:
                    found = self._live(request.body)
                case "POST", ["files"]:
                    found = self._upload(request.body)
                case "POST", ["batches"]:
                    found = self._create(request.body)
                case "GET", ["batches"]:
                    found = self._list(request.path)
                case "GET", ["files", name, *content] if name in self.files:
                    found = 200, self.files[name] if content else self._file(name)
                case _, ["batches", name, *cancel]:
                    found = self._batch(name, is_cancelled=bool(cancel))
                case _:
                    found = _missing(path)
            return found

    def note(self, request: Request) -> None:
        """Record a call."""
        self._seen(request)
        with self._lock:
            self.requests.append(request)

    def end(self, batch: Batch, status: str) -> None:
        """Bring a batch to its end."""
        if status == "failed":
            batch.status, batch.problems = status, self._problems
            return
        batch.end(status, self._answer, self._rng)
        self.files.update(batch.contents())

    def _live(self, body: Ask) -> tuple[int, Any]:
        outcome = self._answer(body)
        if isinstance(outcome, Reply):
            return 200, outcome.as_data(f"{body['model']}-2026")
        return (outcome.status, outcome.as_data()) if isinstance(outcome, Fault) else (500, {})

    def _upload(self, raw: bytes) -> tuple[int, Any]:
        parts = _PART.split(raw)
        fields = {
            name.decode(): part.rpartition(b"\r\n--")[0] for name, part in zip(parts[1::2], parts[2::2], strict=True)
        }
        name = f"file_{len(self.files) + 1}"
        self.files[name] = fields["file"]
        return 200, self._file(name)

    def _file(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "file",
            "bytes": self.file_sizes.get(name, len(self.files[name])),
            "purpose": "batch",
        }

    def _create(self, body: Ask) -> tuple[int, Any]:
        name = str(body["input_file_id"])
        if name not in self.files:
            return 400, Fault(400, message=f"Cannot find file {name}").as_data()
        batch = Batch(f"batch_{len(self.batches) + 1}", name, dict(body.get("metadata") or {}))
        batch.requests = [json.loads(line) for line in self.files[name].decode().split("\n") if line]
        self.batches.append(batch)
        return 200, self._data(batch)

    def _data(self, batch: Batch) -> dict[str, Any]:
        return {**batch.as_data(), **self.odd}

    def _list(self, path: str) -> tuple[int, Any]:
        newest = [batch for batch in reversed(self.batches) if self._is_listed(batch)]
        after = re.search(r"after=(\w+)", path)
        names = [batch.id for batch in newest]
        first = names.index(after[1]) + 1 if after else 0
        found = newest[first : first + self._page]
        data = [self._data(batch) for batch in found]
        return 200, {"object": "list", "data": data, "has_more": first + len(found) < len(newest)}

    def _is_listed(self, batch: Batch) -> bool:
        self._listed[batch.id] = self._listed.get(batch.id, 0) + 1
        return self._listed[batch.id] > self._unlisted

    def _batch(self, name: str, *, is_cancelled: bool) -> tuple[int, Any]:
        batch = next((batch for batch in self.batches if batch.id == name), None)
        if batch is None:
            return _missing(name)
        if is_cancelled and batch.status not in {"validating", "in_progress"}:
            return 409, Fault(409, message=f"Cannot cancel a batch that is {batch.status}").as_data()
        if is_cancelled:
            batch.status, self._looked[name] = "cancelling", 0
        else:
            self._advance(batch)
        return 200, self._data(batch)

    def _advance(self, batch: Batch) -> None:
        if batch.status == "cancelling":
            looked = self._looked[batch.id] = self._looked[batch.id] + 1
            if looked > self._looks:
                self.end(batch, "cancelled")
            return
        if batch.status not in {"validating", "in_progress"}:
            return
        looked = self._looked[batch.id] = self._looked.get(batch.id, 0) + 1
        place = min(self.batches.index(batch), len(self._ends) - 1)
        if looked > self._looks and self._ends[place] != "in_progress":
            self.end(batch, self._ends[place])
        else:
            batch.status = "in_progress"


def _missing(path: str) -> tuple[int, Any]:
    return 404, Fault(404, message=f"no such thing: {path}").as_data()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, server: BatchServer, *connection: Any) -> None:
        self._batches = server
        super().__init__(*connection)

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        pass

    def _serve(self, method: str) -> None:
        try:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            is_json = "json" in headers.get("content-type", "")
            request = Request(self.path, headers, json.loads(raw) if raw and is_json else raw)
            self._batches.note(request)
            fault = self._batches.fault(f"{method} {self.path.partition('?')[0].removeprefix('/v1')}")
            if fault == "hangup":
                return
            if isinstance(fault, Fault):
                self._send(fault.status, fault.as_data(), headers=fault.headers)
                return
            status, body = self._batches.do(method, request)
            if fault == "slow":
                self.connection.recv(1)  # comes back when the other side has gone
            elif fault != "lost":
                self._send(status, body, is_cut=fault == "cut")
        except OSError:
            self.close_connection = True  # the other side has gone

    def _send(
        self, status: int, body: Any, *, is_cut: bool = False, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if is_cut else content)
