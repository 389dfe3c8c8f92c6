"""The certificates of the web's authorities, which each HTTP client takes 25 ms of CPU to read, read once."""

import functools
import os
import ssl
from collections.abc import Callable

import httpcore2

_read = httpcore2.default_ssl_context
_shared = functools.cache(_read)


def shared_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    """Return one context for all clients, but for those of a user who names certificates."""
    is_named = _trust_env and not {"SSL_CERT_FILE", "SSL_CERT_DIR"}.isdisjoint(os.environ)
    read: Callable[..., ssl.SSLContext] = _read if is_named else _shared
    return read(_trust_env=_trust_env)
