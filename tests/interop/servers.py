"""Other projects' servers, each in a separate process on loopback, and the real command to ask them with."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KEY = "sk-right"
COMMAND = str(Path(sys.executable).with_name("synopsis"))
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@contextlib.contextmanager
def running(command: Sequence[str], ready: str, environment: Mapping[str, str], seconds: float = 120) -> Iterator[str]:
    """Start a server, and yield the base URL that its output names; stop it at the end.

    Args:
        command: starts the server.
        ready: a pattern of the line that says it serves; its first group is the address.
        environment: variables to set besides; whatever wants out of the machine finds a closed door.
        seconds: it is stopped, and the test fails, when it does not serve by then.
    """
    shut = {name: CLOSED for word in ("http", "https", "all") for name in (f"{word}_proxy", f"{word.upper()}_PROXY")}
    log: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **shut, "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        patience = threading.Timer(seconds, process.kill)
        patience.start()
        try:
            address = _await(ready, process.stdout, log)
        finally:
            patience.cancel()
        # A server whose output nobody reads stops when the pipe is full.
        reader = threading.Thread(target=log.extend, args=(process.stdout,))
        reader.start()
        try:
            yield f"{address}/v1"
        finally:
            process.terminate()
            reader.join(10)
            process.kill()


def _await(ready: str, lines: Iterator[str], log: list[str]) -> str:
    for line in lines:
        log.append(line)
        if match := re.search(ready, line):
            return match[1]
    raise AssertionError("the server did not start:\n" + "".join(log[-40:]))


@dataclass(frozen=True)
class Run:
    """What a command printed."""

    code: int
    out: str
    err: str


def synopsis(folder: Path, *arguments: str, key: str = KEY, **environment: str) -> Run:
    """Run the real command in `folder`; its output may contain neither a traceback nor the key."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "OPENAI_API_KEY": key, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=180,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert key not in done.stdout + done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


def files(folder: Path) -> list[str]:
    """Return the files in `folder`, including those in its subfolders."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
