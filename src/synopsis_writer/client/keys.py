"""The key for a server: from the environment, or from the system's keyring."""

import importlib.util
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

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
