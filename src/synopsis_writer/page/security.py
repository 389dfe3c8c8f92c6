"""Who may ask the page's server: a browser that was given the address with its token, and our page in it."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def _secret() -> str:
    return secrets.token_urlsafe(32)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """Where the server listens, and its three secrets, new at each start.

    Attributes:
        token: is in the first address, for which a browser gets the cookie.
        page_token: is in the page; each changing request sends it.
    """

    host: str
    port: int
    token: str = field(default_factory=_secret, repr=False)
    cookie: str = field(default_factory=_secret, repr=False)
    page_token: str = field(default_factory=_secret, repr=False)

    @property
    def address(self) -> str:
        """The first address, with its token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self.token}"

    @property
    def cookie_name(self) -> str:
        """The cookie's name: cookies do not tell ports apart."""
        return f"synopsis-{self.port}"

    def refusal(self, request: Request) -> str:
        """Return why a request is refused; empty if it may pass."""
        host, headers = request.headers.get("host", ""), request.headers
        if not self._is_ours(host):  # another name for this machine: DNS rebinding
            return f"'{host[:80]}' is not this server's name: {_WAY_IN}"
        if _is_same(request.query_params.get("token"), self.token) and _is_entry(request):
            return ""
        if not _is_same(request.cookies.get(self.cookie_name), self.cookie):
            return _WAY_IN
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            return f"another page asked: {_WAY_IN}"
        is_own = headers.getlist("origin") == [f"http://{host}"]
        is_own = is_own and _is_same(",".join(headers.getlist(TOKEN_HEADER)), self.page_token)
        if request.method not in {"GET", "HEAD"} and not is_own:
            return f"only the page itself may change anything: {_WAY_IN}"
        return ""

    def entry(self, request: Request) -> Response | None:
        """Return the answer to the first address, which sets the cookie; None for any other request."""
        if not (_is_entry(request) and "token" in request.query_params):
            return None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie_name, self.cookie, path="/", httponly=True, samesite="strict")
        return answer

    def _is_ours(self, header: str) -> bool:
        name, _, port = header.rpartition(":")
        if port != str(self.port):
            return False
        name = name.removeprefix("[").removesuffix("]").lower()
        if name in {"127.0.0.1", "localhost", "::1", self.host.lower()}:
            return True
        return not is_loopback(self.host) and (_is_number(name) or name == socket.gethostname().lower())


def _is_number(name: str) -> bool:
    """Whether a name is an IP address: no name server can point it here."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_entry(request: Request) -> bool:
    return request.method == "GET" and request.url.path == "/"


def _is_same(given: str | None, secret: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), secret.encode("ascii"))


class Guard:
    """Refuses what `Access` refuses, and gives each answer the headers that keep it private."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_private(message: Message) -> None:
            if message["type"] == "http.response.start":
                _make_private(message)
            await send(message)

        request = Request(scope)
        reason = self._access.refusal(request)
        answer = PlainTextResponse(f"{reason}\n", 403) if reason else self._access.entry(request)
        await (answer or self._app)(scope, receive, send_private)


def _make_private(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        headers[name] = value
