"""The page's server: who may ask it, the page itself, and how errors become answers."""

import asyncio
import contextlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from synopsis_writer.errors import InputError, ModelError, SynopsisError
from synopsis_writer.page.routing import Json, failure_of

if TYPE_CHECKING:
    from synopsis_writer.page.api import Api
    from synopsis_writer.writer import Writer

TOKEN_HEADER = "X-Synopsis-Token"  # noqa: S105 - a name
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_WAY_IN = "open the address that 'synopsis page' printed"
_GRACE = 1  # seconds for what is still being answered at the end


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@dataclass(frozen=True)
class Access:
    """Where the server listens, and its three secrets, new at each start."""

    host: str
    port: int
    token: str = field(default_factory=secrets.token_urlsafe, repr=False)  # in the first address
    cookie: str = field(default_factory=secrets.token_urlsafe, repr=False)
    page_token: str = field(default_factory=secrets.token_urlsafe, repr=False)  # for what changes anything

    @property
    def address(self) -> str:
        """The first address, with its token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self.token}"

    def refusal(self, request: Request) -> str:
        """Return why a request is refused; empty if it may pass."""
        headers, host = request.headers, request.headers.get("host", "")
        if not self._is_ours(host):  # another name for this machine: DNS rebinding
            return f"'{host[:80]}' is not this server's name: {_WAY_IN}"
        if _is_entry(request) and _is_same(request.query_params["token"], self.token):
            return ""
        if not _is_same(request.cookies.get(f"synopsis-{self.port}", ""), self.cookie):
            return _WAY_IN
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            return f"another page asked: {_WAY_IN}"
        is_own = headers.getlist("origin") == [f"http://{host}"]
        is_own = is_own and _is_same(",".join(headers.getlist(TOKEN_HEADER)), self.page_token)
        if request.method not in {"GET", "HEAD"} and not is_own:
            return f"only the page itself may change anything: {_WAY_IN}"
        return ""

    def _is_ours(self, header: str) -> bool:
        name, _, port = header.rpartition(":")
        name = name.removeprefix("[").removesuffix("]").lower()
        names = {"127.0.0.1", "localhost", "::1", self.host.lower()}
        if not is_loopback(self.host):
            names.add(socket.gethostname().lower())
            with contextlib.suppress(ValueError):  # no name server can point an address here
                names.add(name if ipaddress.ip_address(name) else "")
        return port == str(self.port) and name in names


def _is_entry(request: Request) -> bool:
    return request.method == "GET" and request.url.path == "/" and "token" in request.query_params


def _is_same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode("ascii"))


def _guarded(app: ASGIApp, access: Access) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answering = app
        if scope["type"] == "http":
            request = Request(scope)
            if reason := access.refusal(request):
                answering = PlainTextResponse(f"{reason}\n", 403)
            elif _is_entry(request):
                answering = entry = RedirectResponse("/", 303)
                name = f"synopsis-{access.port}"  # cookies do not tell ports apart
                entry.set_cookie(name, access.cookie, httponly=True, samesite="strict")
        await answering(scope, receive, send_private)

    return answer


def application(
    access: Access, open_writer: "Callable[[], Writer]", lang: str = "de",
    on_start: Callable[[], None] = lambda: None, on_warm: Callable[[], None] = lambda: None,
) -> Starlette:  # fmt: skip
    """Return the server's application; it opens the writer beside it, and calls `on_warm` after that."""
    from jinja2 import Environment

    source = (files(__package__) / "templates" / "page.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    text = template.render(token=access.page_token, lang=lang)

    def make() -> "Api":
        from synopsis_writer.page.api import Api

        return Api(open_writer(), on_warm)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:

            async def opening() -> "Api":
                api = await asyncio.to_thread(make)
                await stack.enter_async_context(api.opened())
                return api

            app.state.api = api = asyncio.ensure_future(opening())
            api.add_done_callback(lambda done: done.cancelled() or done.exception())
            on_start()
            try:
                yield
            finally:
                api.cancel()

    static = GZipMiddleware(StaticFiles(packages=[(__package__, "static")]))
    show = Route("/", lambda _: Response(text, media_type="text/html"))
    return Starlette(
        routes=[show, Mount("/static", static), Mount("/api", _ask)], lifespan=lifespan,
        middleware=[Middleware(_guarded, access=access)], exception_handlers={HTTPException: _unknown},
    )  # fmt: skip


async def _ask(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        api = await asyncio.shield(scope["app"].state.api)
        await api.router(scope, receive, send)
    except (HTTPException, ClientDisconnect):
        raise
    except Exception as error:  # noqa: BLE001 - ours, and any other: nobody is shown a traceback
        status = 502 if isinstance(error, ModelError) else 400 if isinstance(error, SynopsisError) else 500
        status, more = getattr(error, "status", status), getattr(error, "more", {})
        await Json({"error": failure_of(error), **more}, status)(scope, receive, send)


def _unknown(_: Request, error: Exception) -> Response:
    message = {"message": "the page's server has no such address", "code": 2}
    return Json({"error": message}, getattr(error, "status_code", 500))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; a port of 0 is any free one; raises InputError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        # Without what `create_server` says of the address, which the message names.
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while ")[0].lower()
        hint = "name another with --port, or 0 for any free one"
        raise InputError(f"cannot listen on {host}, port {port}: {reason}: {hint}") from error


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve the page until this is cancelled, as a signal does; then end all that is at work."""
    config = uvicorn.Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="on", log_config=None,
        log_level="critical", access_log=False, proxy_headers=False, server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment] # signals are the command's
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(running)
    finally:
        server.should_exit = True
        await running
