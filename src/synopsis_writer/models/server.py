"""Addresses and keys of servers: what is safe to send where."""

import base64
import contextlib
import importlib.util
import ipaddress
import sys
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

from synopsis_writer.errors import SettingsError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE, SERVICE = "OPENAI_API_KEY", "synopsis-writer"  # of the environment, and of the keyring
CAPABILITIES_FILE = "dialects.json"  # what servers accept
_QUOTES = frozenset("\"'`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a")
# A locked keyring asks for its password: a person needs a minute for that, without one it never answers.
_PERSON_SECONDS, _UNATTENDED_SECONDS = 60.0, 5.0
_NOT_A_URL = "the server's address is not an http(s) URL: write base_url as in http://localhost:8000/v1"


def host_of(address: str) -> str:
    """Return host and port in lower case, without user name and password; raises SettingsError."""
    return _split(address).netloc.rpartition("@")[2].lower()


def server_of(address: str) -> str:
    """Return host, port and path, which identify a server."""
    return host_of(address) + _split(address).path.rstrip("/")


def secrets_of(address: str, key: str) -> list[str]:
    """Return what no message may show: the key, and what an address contains of passwords and keys."""
    parts = _split(address)
    user, password = parts.username or "", unquote(parts.password or "")
    login = base64.b64encode(f"{unquote(user)}:{password}".encode()).decode() if password else ""
    values = [field.partition("=")[2] for field in parts.query.split("&")]
    return [key, password, parts.password or "", login, *values, *map(unquote_plus, values)]


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # a bracket without its other half, or a letter that normalizes to a slash
        raise SettingsError(_NOT_A_URL) from None


def check_address(address: str) -> None:
    """Raise SettingsError unless `address` is an http(s) URL."""
    import httpx2

    is_http = address.lower().startswith(("http:", "https:"))
    with contextlib.suppress(ValueError, httpx2.InvalidURL):
        if is_http and _names_host(address) and httpx2.URL(address):
            return
    raise SettingsError(_NOT_A_URL)


def _names_host(address: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and " " not in address
    return False


def check_header(name: str, value: str) -> str:
    """Return what the variable `name` has for a header, without blanks around it; raises SettingsError."""
    value = value.strip()
    if _QUOTES & {*value}:
        raise SettingsError(f"{name} has quotes in it: set it without them")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise SettingsError(f"{name} holds a character that cannot be sent: copy it again")
    return value


def proxy_of(address: str) -> str:
    """Return host and port of the environment's proxy for an address, if any; raises SettingsError."""
    parts = _split(address)
    is_here = parts.scheme == "http" and is_loopback(parts.hostname or "")
    proxies = {} if is_here or urllib.request.proxy_bypass(host_of(address)) else urllib.request.getproxies()
    name = parts.scheme if parts.scheme in proxies else "all"
    if not (proxy := proxies.get(name, "")):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _names_host(proxy):
        raise SettingsError(
            f"{name.upper()}_PROXY is not the address of a proxy: write it as in http://proxy.example:3128"
        )
    return urlsplit(proxy).netloc.rpartition("@")[2]


def is_open(address: str) -> bool:
    """Whether all on the way can read what is sent to an address: plain http to another machine."""
    import httpx2

    url = httpx2.URL(address)  # as it is read by the library that will connect
    return url.scheme == "http" and not is_loopback(url.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    name = host.lower().removesuffix(".")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761: never another machine


@dataclass(frozen=True)
class ApiKey:
    """A key, or why there is none; its text form never holds the key."""

    value: str | None = field(default=None, repr=False)
    hint: str = ""  # what is wrong with the keyring, in a few words


def look_up_key(host: str, environment: Mapping[str, str]) -> ApiKey:
    """Return the key for a server: `OPENAI_API_KEY`, else that of the user `host` in the keyring, if any."""
    if value := environment.get(KEY_VARIABLE, "").strip():
        return ApiKey(value)
    if importlib.util.find_spec("keyring") is None:
        return ApiKey()
    keys = [ApiKey(hint="the keyring did not answer: it may be locked")]

    def ask() -> None:
        try:
            import keyring

            keys.append(ApiKey(keyring.get_password(SERVICE, host) or None))
        except Exception as error:  # noqa: BLE001 - a backend is anyone's code, and may raise anything
            keys.append(ApiKey(hint=f"the keyring cannot be read: {type(error).__name__}"))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    is_attended = sys.stdin is not None and sys.stdin.isatty()
    thread.join(_PERSON_SECONDS if is_attended else _UNATTENDED_SECONDS)
    return keys[-1]
