"""What commands print: results to stdout, everything else to stderr."""

import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

INTERRUPTED = 130  # the exit code after Ctrl-C
OVERWRITTEN_LATER = "what was removed is overwritten in the file when it is opened next"


def say(line: str) -> None:
    """Print a line of status to stderr; one that cannot be written ends no work."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()


def say_nothing(_line: str) -> None:
    """Take a line of status, and print nothing: what --quiet asks for."""


def complain(line: str) -> None:
    """Print an error to stderr, in one line."""
    say("synopsis: " + " ".join(line.split()))


def give(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def give_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object to stdout, control characters escaped: no text can steer a terminal."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    give("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def printable(text: str) -> str:
    """Return `text` with control characters escaped: no text can steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)
