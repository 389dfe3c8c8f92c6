"""Addresses and keys of servers: what is safe to send where."""

import importlib.util
import ipaddress
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
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


KEY_VARIABLE = "OPENAI_API_KEY"

SERVICE = "synopsis-writer"

# A locked keyring asks for its password: a person needs a minute for that, a program without one never ends.
_PERSON_SECONDS = 60.0

_ALONE_SECONDS = 5.0


@dataclass(frozen=True)
class FoundKey:
    """A key, or why there is none; its text form never holds the key.

    Attributes:
        value: the key; None where there is none.
        hint: what is wrong with the keyring, in a few words; empty where nothing is.
    """

    value: str | None = field(default=None, repr=False)
    hint: str = ""


def find_key(server_host: str, environment: Mapping[str, str]) -> str | None:
    """Return the key for a server, given by host and port, or None; see `look_up_key`."""
    return look_up_key(server_host, environment).value


def look_up_key(server_host: str, environment: Mapping[str, str]) -> FoundKey:
    """Return the key for a server: `OPENAI_API_KEY`, else the keyring's, where `keyring` is installed.

    Args:
        server_host: host, and port where the address names one; the user's name in the keyring, whose
            service is `synopsis-writer`.
        environment: where the variable stands.
    """
    if value := environment.get(KEY_VARIABLE, "").strip():
        return FoundKey(value)
    if importlib.util.find_spec("keyring") is None:
        return FoundKey()
    answers: queue.SimpleQueue[FoundKey] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_from_keyring(server_host)), daemon=True).start()
    has_person = sys.stdin is not None and sys.stdin.isatty()
    try:
        return answers.get(timeout=_PERSON_SECONDS if has_person else _ALONE_SECONDS)
    except queue.Empty:
        return FoundKey(hint="the keyring did not answer: it may be locked")


def _from_keyring(server_host: str) -> FoundKey:
    try:
        import keyring

        return FoundKey(keyring.get_password(SERVICE, server_host) or None)
    except Exception as error:  # noqa: BLE001 - a backend is anyone's code, and may raise anything
        return FoundKey(hint=f"the keyring cannot be read: {type(error).__name__}")
