"""The command in a process of its own that starts at once."""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, AnyStr

COMMAND = str(Path(sys.executable).with_name("synopsis"))
_ROOT = Path(__file__).parents[2]


class _Warm:
    """The process that forks into commands, started when the first is wanted."""

    _asked: socket.socket | None = None

    @classmethod
    def ask(cls, order: dict[str, Any], files: Sequence[int]) -> None:
        if cls._asked is None:
            cls._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-m", "tests.support.warm"]
                process = subprocess.Popen(command, stdin=theirs.fileno(), cwd=_ROOT)
            atexit.register(process.wait)
            atexit.register(cls._asked.close)
        socket.send_fds(cls._asked, [json.dumps(order).encode()], files)


class Forked(subprocess.Popen[AnyStr]):
    """`subprocess.Popen` for the command alone: forked from a process that has loaded what commands load.

    It is a process like any other, but for its parent. Tests of how the program loads, and of the shell's
    redirections, need `subprocess.Popen` itself.

    Args:
        is_screen: make stdin, a terminal, the one that controls the new session.
        file_size: bytes beyond which no file grows, as on a full disk.
        is_unprivileged: have file permissions apply also to root.
    """

    _report: int

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        is_screen: bool = False,
        file_size: int | None = None,
        is_unprivileged: bool = False,
        **options: Any,
    ) -> None:
        assert arguments[0] == COMMAND
        self._more = {"is_screen": is_screen, "file_size": file_size, "is_unprivileged": is_unprivileged}
        super().__init__(arguments, start_new_session=options.pop("start_new_session", is_screen), **options)

    # The only private parts: what `subprocess` would do with files and variables, in Python 3.11 to 3.14.
    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        cwd, env, pipes, start_new_session = given[4], given[5], given[9:15], given[-2]
        order = {
            "arguments": list(args),
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "start_new_session": start_new_session,
            **self._more,
        }
        self._report, report = os.pipe()
        standard: list[int] = [
            number if file == -1 else file for number, file in enumerate((pipes[0], pipes[3], pipes[5]))
        ]
        _Warm.ask(order, [report, *standard])
        os.close(report)
        getattr(self, "_close_pipe_fds")(*pipes)  # noqa: B009 - it has no type
        self.pid = int(self._line())

    def _line(self) -> str:
        """Return the next line of the report: the process's number, then what it exited with."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._report, 1) or b"70\n"
        return line.decode()

    def poll(self) -> int | None:
        """Return what it exited with, or None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return what it exited with.

        Raises:
            TimeoutExpired: it still runs after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            os.close(self._report)
        return self.returncode


ENDING = "the rows in flight are still made and saved"  # what the first of two signals makes a batch print


def wait_for(happens: Callable[[], object], process: "subprocess.Popen[Any]") -> None:
    """Wait until something happens while a process runs."""
    while not happens():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def read_until(process: "subprocess.Popen[Any]", words: str) -> str:
    """Read stderr up to a line with these words, and not a byte more: `communicate` returns the rest."""
    assert process.stderr is not None
    read = b""
    while not (read.endswith(b"\n") and words.encode() in read):
        byte = os.read(process.stderr.fileno(), 1)
        assert byte, read.decode()
        read += byte
    return read.decode()
