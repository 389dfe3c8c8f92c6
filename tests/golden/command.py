"""Runs `synopsis` in this process, in a separate folder, and records what it did."""

import contextlib
import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from synopsis_writer.cli.app import run as run_command
from tests.golden.servers import BatchServer, LoopbackServer, Request

ROOT = Path(__file__).resolve().parents[2]
_FOREIGN = re.compile(r"OPENAI_|SYNOPSIS_|HF_|XDG_|LC_|LANG|.*_proxy$", re.IGNORECASE)
_PLACEHOLDERS = [
    (re.compile(pattern), placeholder)
    for pattern, placeholder in (
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\b\d{8}T\d{6}-[0-9a-f]{6}\b", "RUN"),
        (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "TIME"),
        (r"(?m)^(  seconds ).*$", r"\1 N"),
        (r'(\\?"?seconds\\?"?: ?)\d+(\.\d+)?(e-?\d+)?', r"\g<1>0"),
        (r"(synopsis-writer )\d+\.\S+", r"\1VERSION"),
        (r"\d+(\.\d+)? a minute", "N a minute"),
        (r"(in|about) \d+(\.\d+)? s\b", r"\1 N s"),
        (r'(time="|name="seconds" value=")[\d.e-]+"', r'\1N"'),
        (r"tokens, \d+\.\d s,", "tokens, N s,"),
        (r"\b([0-9a-f]{16}|[0-9a-f]{24})\b", "KEY"),
        (r'("packaged": )("[^"]*"|null)', r'\1"as installed"'),
    )
]


@dataclass(frozen=True)
class Run:
    """What one command did: its exit code, and what it printed, as it came."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@dataclass
class House:
    """A folder in which commands run, with no settings but its own.

    Attributes:
        folder: where they run; cache, run log and own examples lie in it, too.
        shared: a folder of all houses of a session, for the one large file that the cache unpacks.
        records: what was run, with run ids, times, ports and paths replaced by placeholders.
    """

    folder: Path
    shared: Path
    records: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        *arguments: str,
        server: LoopbackServer | BatchServer | None = None,
        stdin: bytes = b"",
        keep: bool = True,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Run:
        """Run a command; `keep` notes it, with the requests that the server got meanwhile."""
        address = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-secret"} if server else {}
        before = len(server.requests) if server else 0
        self._share_languages()
        done = _run(arguments, self.folder, {**self._settings(), **address, **environment}, stdin)
        assert "Traceback" not in done.err
        assert "sk-secret" not in done.out + done.err
        if keep:
            record = {
                "argv": [self.placeheld(argument) for argument in arguments],
                "code": done.code,
                "out": self.placeheld(done.out).split("\n"),
                "err": self.placeheld(done.err).split("\n"),
            }
            if server is not None:
                record["requests"] = [self._request(request) for request in server.requests[before:]]
            self.records.append(record)
        return done

    def file(self, name: str) -> None:
        """Note the content of a file of the folder."""
        if name.endswith(".csv"):
            with (self.folder / name).open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            self.note(name, [{key: _timeless(key, value) for key, value in row.items()} for row in rows])
            return
        text = (self.folder / name).read_text(encoding="utf-8")
        self.records.append({"file": name, "content": self.placeheld(text).split("\n")})

    def note(self, name: str, value: Any) -> None:
        """Note anything else."""
        text = json.dumps(value, ensure_ascii=False)
        self.records.append({"note": name, "value": json.loads(self.placeheld(text))})

    def placeheld(self, text: str) -> str:
        """Put placeholders in place of what differs from run to run and from machine to machine."""
        for path, name in ((self.folder.resolve(), "DIR"), (self.folder, "DIR"), (ROOT, "ROOT")):
            text = text.replace(str(path), name)
        for pattern, placeholder in _PLACEHOLDERS:
            text = pattern.sub(placeholder, text)
        return re.sub(r"(?<=  refused for: ).*", _in_order, text)

    def _share_languages(self) -> None:
        languages = self.folder / "cache" / "languages"  # 42 MB, which every cache would hold anew
        if not languages.is_symlink():
            languages.parent.mkdir(exist_ok=True)
            languages.symlink_to(self.shared, target_is_directory=True)

    def _settings(self) -> dict[str, str]:
        home = self.folder / "home"
        xdg = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "CACHE", "STATE")}
        prompts = self.folder / "then" / "prompts"  # of old files
        return {
            "HOME": str(home),
            **xdg,
            **({"SYNOPSIS_PROMPTS": str(prompts)} if prompts.is_dir() else {}),
            "SYNOPSIS_CACHE": str(self.folder / "cache"),
            "SYNOPSIS_LOG": str(self.folder / "runs.sqlite3"),
            "SYNOPSIS_OWN_EXAMPLES": str(self.folder / "own-examples"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "LC_ALL": "C.UTF-8",
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "TERMINAL_WIDTH": "100",
            "NO_COLOR": "1",
        }

    def _request(self, request: Request) -> dict[str, Any]:
        """Return a request as JSON, with the order of its fields."""
        headers = {name: request.headers.get(name) for name in ("authorization", "content-type")}
        kind = headers["content-type"]
        if kind and kind.startswith("multipart/form-data"):
            headers["content-type"] = "multipart/form-data"
        body = request.body
        if isinstance(body, bytes):
            body = [re.sub(r"^--[0-9a-f]+", "--BOUNDARY", line) for line in body.decode().split("\r\n")]
        text = json.dumps({"path": request.path, **headers, "body": body}, ensure_ascii=False)
        found: dict[str, Any] = json.loads(self.placeheld(text))
        return found


def _in_order(counts: re.Match[str]) -> str:
    """Sort "check count, check count": equal counts stood in the order of a set, which no run repeats."""
    return ", ".join(sorted(counts[0].split(", "), key=lambda part: (-int(part.split()[-1]), part)))


def _timeless(column: str, value: str) -> str:
    return "0" if column.endswith("seconds") and value else value


def _run(arguments: Sequence[str], folder: Path, environment: dict[str, str], stdin: bytes) -> Run:
    own = {name: value for name, value in os.environ.items() if not _FOREIGN.match(name)}
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, {**own, **environment}, clear=True),
        mock.patch.object(sys, "argv", ["synopsis", *arguments]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
        _captured("stdout") as out,
        _captured("stderr") as err,
    ):
        code = run_command(arguments)
    return Run(code, out.getvalue().decode(), err.getvalue().decode())


@contextlib.contextmanager
def _captured(name: str) -> Iterator[io.BytesIO]:
    held = io.BytesIO()
    stream = io.TextIOWrapper(held, encoding="utf-8", errors="replace", newline="\n", write_through=True)
    with mock.patch.object(sys, name, stream):
        yield held
        stream.flush()
    stream.detach()
