"""A process that has written a text once, and forks into a command whenever it is asked: it starts at once.

`tests.support.forked` starts this process and asks it.
"""

import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import socket
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

from synopsis_writer import cli
from tests.support.loopback import LoopbackServer, Reply
from tests.support.once import patch_readers
from tests.support.terminal import ANSWER, ORDER, Terminal

PACKAGES = ("batch", "cli", "evals", "models", "page", "provider")  # all of whose modules are loaded


def _become(order: dict[str, Any], files: list[int]) -> None:
    """Take over what a new process is given."""
    if order["start_new_session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if order["is_screen"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(order["cwd"])
    if (size := order["file_size"]) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if order["is_unprivileged"]:
        version, no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(version, no_capabilities) == 0
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["arguments"]
    # As Python opens them, unless it is told not to buffer.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115


def _serve(asked: socket.socket) -> bool:
    """Fork for each request; return whether this process is a command now, or False after the last request.

    Between this process and the command is one that waits for its end and reports it.
    """
    while True:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that report
        message, files, _, _ = socket.recv_fds(asked, 1 << 20, 4)
        if not message:
            return False
        if os.fork():
            for file in files:
                os.close(file)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked.close()
        report, standard = files[0], list(files[1:])
        if not (pid := os.fork()):
            os.close(report)
            _become(json.loads(message), standard)
            return True
        for file in standard:
            os.close(file)
        with suppress(BrokenPipeError):
            os.write(report, b"%d\n" % pid)
            os.write(report, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)


if __name__ == "__main__":
    patch_readers(setattr)
    for name in [name for name in os.environ if name.startswith("SYNOPSIS_")]:
        del os.environ[name]  # of the test that happens to be the first
    with tempfile.TemporaryDirectory() as place, LoopbackServer([Reply(ANSWER)]) as server:
        os.environ.update(dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"), place))
        assert Terminal(Path(place))("write", *ORDER, server=server).code == 0
    for name in PACKAGES:
        package = importlib.import_module(f"synopsis_writer.{name}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    if _serve(socket.socket(fileno=0)):
        cli.main()
