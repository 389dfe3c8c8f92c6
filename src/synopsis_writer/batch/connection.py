"""The connection to a Ray cluster: found within seconds, and without a word of Ray's own."""

import contextlib
import io
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from synopsis_writer.errors import SettingsError

LOCAL = "local"  # Ray's word for a cluster that is started, and not looked for
_CLIENT_PORT = 10001
_SECONDS = 5.0  # to reach a cluster; Ray itself would try for minutes
_TRIES = ("RAY_gcs_server_port_wait_time_s", "3")  # a second each; Ray's are 20, also with a wrong token
_STORE_BYTES = 80_000_000  # Ray's least is 75 MB; rows and answers are a few kB each
_STDERR = 2
# The HTTP/2 greeting and a frame of no settings: a gRPC server, as Ray's are, answers with its own settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME, _KIND, _SETTINGS = 9, 3, 4


@contextlib.contextmanager
def connected(ray: Any, address: str) -> Iterator[Callable[[], None]]:
    """Be connected to a cluster while the block runs; Ray says nothing on stdout and stderr.

    The block is given what checks that the cluster's head answers, and raises a ConnectionError where not.

    Raises:
        SettingsError: there is none, or it does not take this process.
    """
    handler = signal.getsignal(signal.SIGTERM)
    with _stderr_kept() as kept:
        try:
            place = _start(ray) if address == LOCAL else _join(ray, address)
        except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
            raise SettingsError(_said(address, _reason(error, kept()))) from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process with a traceback
    with contextlib.redirect_stdout(_OwnThread(sys.stdout)):
        try:
            yield lambda: _reach(place)
        finally:
            ray.shutdown()


def _start(ray: Any) -> tuple[str, int]:
    """Start a cluster of this machine; return where its head is."""
    # A token of its own: Ray would leave one in the home folder, and nodes that are started later would
    # then demand it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _init(ray, LOCAL, include_dashboard=False, object_store_memory=_STORE_BYTES)
    return _host_and_port(ray.get_runtime_context().gcs_address)


def _join(ray: Any, address: str) -> tuple[str, int]:
    """Connect to a cluster that runs; return where it was reached."""
    place = _place(address)
    _reach(place)
    name, tries = _TRIES
    is_ours = name not in os.environ
    os.environ.setdefault(name, tries)
    try:
        _init(ray, address)
    finally:
        if is_ours:
            del os.environ[name]
    return place


def _init(ray: Any, address: str, **options: Any) -> None:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)


def _said(address: str, reason: str) -> str:
    if address == LOCAL:
        return f"cannot start Ray here: {reason}: see RAY_TMPDIR"
    return (
        f"no Ray cluster at '{address}': {reason}: start it, or mend --address and the token (RAY_AUTH_MODE)"
    )


def _reason(error: Exception, log: str) -> str:
    """Return why, in a few words: Ray's log knows more than its error, which names what nobody gave."""
    lines = [line for line in log.splitlines() if "RPC error: " in line]
    told = lines[-1].rpartition(": ")[2] if lines else first_sentence(str(error))
    return told[:1].lower() + told[1:] or type(error).__name__


def first_sentence(text: str) -> str:
    """Return the first sentence of a text's first line, without its full stop."""
    return text.strip().partition("\n")[0].partition(". ")[0].rstrip(".")


@contextlib.contextmanager
def _stderr_kept() -> Iterator[Callable[[], str]]:
    """Keep what is written to stderr while the block runs, by a library in C++, too; give it on demand."""
    with tempfile.TemporaryFile() as file:

        def kept() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            terminal = os.dup(_STDERR)
        except OSError:  # it is closed: nobody hears anything
            yield kept
            return
        os.dup2(file.fileno(), _STDERR)
        try:
            yield kept
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)


class _OwnThread(io.TextIOBase):
    """A stdout for this thread alone: on others Ray prints the deaths of nodes, log_to_driver or not."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return self._stdout.write(text) if threading.get_ident() == self._thread else len(text)

    def flush(self) -> None:
        if threading.get_ident() == self._thread:
            self._stdout.flush()


def _place(address: str) -> tuple[str, int]:
    """Return host and port of an address, as Ray finds them.

    Raises:
        ConnectionError: `auto` finds none.
        ValueError: it is no address.
    """
    from ray._private.services import canonicalize_bootstrap_address  # `auto` has no public way

    _, scheme, rest = address.rpartition("://")
    if scheme and ":" not in rest:
        return rest, _CLIENT_PORT
    return _host_and_port(rest if scheme else canonicalize_bootstrap_address(address) or "")


def _host_and_port(found: str) -> tuple[str, int]:
    host, _, port = found.rpartition(":")
    return host.strip("[]"), int(port)


def _reach(place: tuple[str, int]) -> None:
    """Check within seconds that a server of Ray's is there.

    Raises:
        ConnectionError: it is not.
    """
    try:
        with socket.create_connection(place, timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") in {None, "", "0"}:
                connection.sendall(_GREETING)
                _check_greeting(connection.recv(_FRAME, socket.MSG_WAITALL))
    except TimeoutError as error:
        raise ConnectionError(f"no answer in {_SECONDS:.0f} s") from error
    except OSError as error:
        raise ConnectionError((error.strerror or str(error)).lower()) from error


def _check_greeting(frame: bytes) -> None:
    if len(frame) < _FRAME or frame[_KIND] != _SETTINGS:
        raise ConnectionError("what answers there is no cluster")
