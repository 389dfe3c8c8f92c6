"""Addresses of servers: what one is called in messages and files, and whether the way to it is safe."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from synopsis_writer.errors import SettingsError

DEFAULT_BASE_URL = "https://api.openai.com/v1"


def host_of(address: str) -> str:
    """Return host and port in lower case; an address may hold a password, so no more of it.

    Raises:
        SettingsError: the address cannot be taken apart.
    """
    return _parts(address).netloc.rpartition("@")[2].lower()


def server_of(address: str) -> str:
    """Return host, port and path: what tells one server from another, without name, password and query.

    Raises:
        SettingsError: the address cannot be taken apart.
    """
    return host_of(address) + _parts(address).path.rstrip("/")


def _parts(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # a bracket without its other half, or a letter that normalizes to a slash
        raise _no_address() from None


def _no_address() -> SettingsError:
    return SettingsError(
        "the server's address is none of the web: write base_url as in http://localhost:8000/v1"
    )


def check_address(address: str) -> None:
    """Check that `address` is one of the web.

    Raises:
        SettingsError: it is not.
    """
    import httpx2

    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx2.URL(address)
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable or " " in address:
        raise _no_address()


def is_open(address: str) -> bool:
    """Whether key and text go to `address` for everyone on the way to read: http to another machine."""
    import httpx2

    url = httpx2.URL(address)  # as it is read by the library that will connect
    return url.scheme != "https" and not _is_loopback(url.host)


def is_plain_loopback(address: str) -> bool:
    """Whether `address` is plain http to this machine: a proxy on that way would read key and text."""
    import httpx2

    url = httpx2.URL(address)
    return url.scheme != "https" and _is_loopback(url.host)


def _is_loopback(host: str) -> bool:
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761: never another machine
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
