"""Debian's Chromium, and the page of a real `synopsis page` in it."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.forked import Forked
from tests.support.loopback import LoopbackServer, Step
from tests.support.terminal import COMMAND

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
# What Chromium itself writes to the console where a request is refused, or nobody answers.
GONE = {"CONNECTION_REFUSED", "CONNECTION_RESET", "CONNECTION_CLOSED", "EMPTY_RESPONSE", "403"}  # while it is not there
_REFUSED = re.compile(r"Failed to load resource: .*status of (\d+)|Failed to load resource: net::ERR_(\w+)")


class Model(LoopbackServer):
    """A scripted model that other scripts follow on, for a server that stays."""

    def play(self, *steps: Step) -> None:
        """Give these to the next requests, and the last one to all further ones."""
        with self._lock:
            self._steps, self._taken = steps, 0
            self.requests.clear()


@dataclass
class Served:
    """`synopsis page` as a process of its own, in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    flags: tuple[str, ...] = ()
    command: tuple[str, ...] = ("page", "--no-open")
    address: str = ""
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False)

    @property
    def texts(self) -> Path:
        """Where texts are saved."""
        return self.folder / "synopsen"

    def start(self, port: int = 0) -> Self:
        """Start the command, and wait until it prints its address.

        One that is stopped and started again needs a port that nobody else gets meanwhile: `lasting_port`.
        """
        where = ("--port", str(port)) if "page" in self.command else ()
        command = [COMMAND, *self.command, *where, *self.flags]
        self._process = Forked(command, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, encoding="utf-8")
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := re.search(r"http://\S+token=\S+", line):
                self.address = found[0]
                return self
        raise AssertionError("".join(said))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.partition("/?")[0].rpartition(":")[2])

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End the process by a signal, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=120)

    def put(self, source: Path, name: str) -> Path:
        """Put a text into the folder of saved ones."""
        path = self.texts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        return path

    def clear(self) -> None:
        """Remove all texts and drafts."""
        for folder in (self.texts, *self.folder.rglob("drafts")):
            shutil.rmtree(folder, ignore_errors=True)


def lasting_port() -> int:
    """Return a free port below those that Linux and macOS give to whoever asks for any."""
    for port in range(20_000, 30_000):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def environment_of(
    home: Path, model: LoopbackServer | None, languages: Path | None = None, **more: str
) -> dict[str, str]:
    """Return variables for a command that finds no user's settings, and the model.

    `languages` holds the unpacked model of languages; None: it is unpacked anew.
    """
    kept = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    cache = home / "cache" / "synopsis-writer"
    cache.mkdir(parents=True, exist_ok=True)
    if languages is not None and not (cache / "languages").exists():
        (cache / "languages").symlink_to(languages, target_is_directory=True)
    folders = {f"XDG_{name.upper()}_HOME": str(home / name) for name in ("config", "data", "cache", "state")}
    address = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "sk-secret"} if model else {}
    plain = {"HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    return {**kept, **folders, **address, **plain, "SYNOPSIS_LANG": "en", **more}


def _is_setting(name: str) -> bool:
    return name.startswith(("OPENAI_", "SYNOPSIS_", "HF_")) or name.lower().endswith("_proxy")


@contextmanager
def opened(chromium: Any, address: str, *, ready: bool = True, **options: Any) -> Iterator[Any]:
    """Open the page; at the end nothing may have been complained of, refused or fetched from elsewhere.

    `page.refusals` is the set of statuses that a test expects; Chromium writes them to the console.
    """
    size = {"viewport": {"width": 1280, "height": 900}}
    context = chromium.new_context(**(size | {"accept_downloads": True} | options))
    context.set_default_timeout(60_000)  # a busy machine is not a failure
    context.add_init_script(WATCH)
    page = context.new_page()
    page.refusals = set()
    complaints = watch(page, address)
    try:
        page.goto(address)
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        yield page
        complaints += page.evaluate("window.violations")
        assert not complaints, complaints
    finally:
        context.set_offline(True)  # nothing is handed in late, in the middle of the next test
        context.close()


def watch(page: Any, address: str) -> list[str]:
    """Return a list that fills with what the page complains of."""
    complaints: list[str] = []
    origin = address.partition("/?")[0]

    def hear(message: Any) -> None:
        refused = _REFUSED.match(message.text)
        if message.type in {"error", "warning"} and not (refused and refused[refused.lastindex or 0] in page.refusals):
            complaints.append(f"{message.text} {message.location['url']}")

    def asked(request: Any) -> None:
        if not request.url.startswith((origin, "blob:")):
            complaints.append(request.url)

    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(f"{error}\n{error.stack}"))
    page.on("request", asked)
    return complaints
