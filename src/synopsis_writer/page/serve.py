"""Listening and serving, until a signal ends it."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn

from synopsis_writer.errors import InputError
from synopsis_writer.page.app import Page

_GRACE = 1  # seconds for what is still being answered at the end


class _Server(uvicorn.Server):
    """A server that says when it listens, and leaves signals to the command."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; a port of 0 is any free one; raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = "name another with --port, or 0 for any free one"
        raise InputError(f"cannot listen on {host}, port {port}: {reason.lower()}: {hint}") from error
    return listening


async def serve(page: Page, listening: socket.socket, on_start: Callable[[], None]) -> None:
    """Serve the page until this is cancelled, as a signal does; then end all that is at work."""
    config = uvicorn.Config(
        page.app(),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config, on_start)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(running)
    finally:
        page.stop()
        server.should_exit = True
        await running
