"""The real command in a separate folder, and a good answer for it."""

import gc
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from synopsis_writer import cli
from synopsis_writer.examples import load_example
from tests.support.forked import COMMAND as COMMAND  # noqa: PLC0414 - tests take it from here
from tests.support.forked import Forked
from tests.support.loopback import LoopbackServer
from tests.support.provider import BatchServer

CORPUS = Path(__file__).parents[1] / "corpus" / "good"
PATH = CORPUS / "rote-rosen" / "der-weisse-hund.md"
GOOD = load_example(PATH)
ANSWER = GOOD.synopsis.as_json()
ORDER = ["--show", "rote rosen", "--theme", GOOD.brief.theme, "--form", "portrait"]
CLOSED = ANSWER.replace("?", ".")
FILE = "synopsen/rote-rosen/der-weisse-hund.md"  # where `write` saves it


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """Runs the command in a separate folder: in this process, or in a new one."""

    folder: Path

    def __call__(
        self,
        *arguments: str,
        server: LoopbackServer | BatchServer | None = None,
        stdin: bytes = b"",
        **environment: str,
    ) -> Run:
        """Run the command in this process, so that word lists and models are loaded once for all tests.

        What native code writes past Python is caught with the rest.
        """
        with _process_state_kept(), _standard_files(stdin) as (out, err), ExitStack() as stack:
            stack.enter_context(chdir(self.folder))
            stack.enter_context(mock.patch.dict(os.environ, _settings(server, environment)))
            stack.enter_context(mock.patch.object(sys, "argv", [COMMAND, *arguments]))
            try:
                cli.run()
            except SystemExit as end:
                code = end.code
            else:
                code = 0
        assert isinstance(code, int)
        return _checked(code, out.getvalue(), err.getvalue())

    def process(
        self,
        *arguments: str,
        server: LoopbackServer | BatchServer | None = None,
        stdin: bytes = b"",
        **environment: str,
    ) -> Run:
        """Run the command in a new process, for tests in which it would change this one for good."""
        process = Forked[bytes](
            [COMMAND, *arguments],
            cwd=self.folder,
            env={**os.environ, **_settings(server, environment)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = process.communicate(stdin, timeout=120)
        return _checked(process.returncode, out, err)


def _settings(server: LoopbackServer | BatchServer | None, environment: Mapping[str, str]) -> dict[str, str]:
    address = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-secret"} if server else {}
    return {**address, **environment}


def _checked(code: int, out: bytes, err: bytes) -> Run:
    run = Run(code, out.decode(), err.decode())
    assert "Traceback" not in run.err, run.err
    assert "sk-secret" not in run.out + run.err
    return run


@contextmanager
def _standard_files(stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Replace stdin, stdout and stderr with files; yield what is filled in at the end of the block."""
    written = io.BytesIO(), io.BytesIO()
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        for descriptor, file in enumerate(files):
            copy = os.dup(descriptor)
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, descriptor)
            os.dup2(file.fileno(), descriptor)
        given = stack.enter_context(open(0, encoding="utf-8", closefd=False))
        out = stack.enter_context(open(1, "w", encoding="utf-8", closefd=False))
        err = stack.enter_context(open(2, "w", encoding="utf-8", buffering=1, closefd=False))
        stack.enter_context(mock.patch.multiple(sys, stdin=given, stdout=out, stderr=err))
        try:
            yield written
        finally:
            out.flush()
            err.flush()
            for text, file in zip(written, files[1:], strict=True):
                file.seek(0)
                text.write(file.read())


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore what a command may change in its process; send its log where that of a new process goes."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    collects, thresholds = gc.isenabled(), gc.get_threshold()
    with _bare_logging(), warnings.catch_warnings():
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            gc.set_threshold(*thresholds)
            if collects:
                gc.enable()


@contextmanager
def _bare_logging() -> Iterator[None]:
    """Take pytest's handlers away: without any, Python writes warnings and tracebacks to stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


def saved(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
