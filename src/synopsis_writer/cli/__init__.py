"""The command line: one module a command group; each command parses, calls and prints."""

import builtins
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

# The word lists are a million permanent objects: each full garbage collection would halt everything for 80 ms.
THRESHOLD = (200_000, 50, 1_000)

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}

_received: list[signal.Signals] = []  # SIGTERM or SIGHUP, in order; see `end_quietly`


def main() -> None:
    """Run the command `synopsis` as this process, which a signal ends at once."""
    try:
        run()
    except SystemExit as end:
        if end.code not in [128 + getattr(signal, name, 0) for name in _WORDS]:
            raise
        with contextlib.suppress(OSError, ValueError, AttributeError, KeyboardInterrupt):
            sys.stdout.flush()
        os._exit(end.code)  # Python would wait for threads that load word lists or import packages


def run() -> None:
    """Run the command, and exit with its code, also where a signal comes while it loads or ends."""
    gc.set_threshold(*THRESHOLD)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to find some, it reads all packages' metadata
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more would start and find too little to do
    _received.clear()
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        with contextlib.suppress(ValueError):  # not in the main thread
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
                signal.signal(number, _interrupt)
    try:
        try:
            from synopsis_writer.cli.app import main as run_app
        except ImportError as error:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"synopsis: cannot load {error.name!a}: install the program again\n")
            sys.exit(70)
        run_app()
    except KeyboardInterrupt:  # where Typer does not handle it
        code, message = interruption()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if "--json" in sys.argv and "synopsis_writer.cli.app" not in sys.modules:
                sys.stdout.write(f'{{"error": "{message}", "exit_code": {code}}}\n')
            sys.stderr.write(f"synopsis: {message}\n")  # the console may not be loaded yet
        sys.exit(code)
    finally:
        gc.freeze()  # else Python would go through all objects twice more at its end
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
        except OSError:  # it has gone; Python must not try again at exit, and end with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _interrupt(number: int, _: FrameType | None) -> None:
    received = signal.Signals(number)
    if received.name == "SIGHUP" and received in _received:
        return  # a shell that hangs up repeats the terminal's signal: nobody is in a hurry
    _received.append(received)
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    else:  # Ctrl-C is ignored, as in a script's background
        raise KeyboardInterrupt


def interruption() -> tuple[int, str]:
    """Return exit code and message of a command that was ended by a signal, by default Ctrl-C's."""
    ended_by = _received[0] if _received else signal.SIGINT
    return 128 + ended_by, f"{_WORDS[ended_by.name]}: run the same command again"


def end_quietly() -> None:
    """Have a command that Ctrl-C ended as it should exit with the signal's code, without a message."""
    if not _received:
        _received.append(signal.SIGINT)


def is_signalled() -> bool:
    """Whether SIGTERM or SIGHUP has come, or Ctrl-C to a command that ends by it."""
    return bool(_received)


class _Module:
    """A module that is imported as soon as something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


@contextlib.contextmanager
def lazily() -> Iterator[None]:
    """Defer the imports in the block, which must be of modules, until one is used: `--help` uses none."""

    def put_off(package: str, _globals: object = None, _locals: object = None, names: Any = (), _level: int = 0) -> Any:
        return SimpleNamespace(**{each: _Module(f"{package}.{each}") for each in names}) if names else _Module(package)

    at_once = builtins.__import__
    vars(builtins)["__import__"] = put_off
    try:
        yield
    finally:
        vars(builtins)["__import__"] = at_once
