"""Cleans text where it enters the program, and escapes it where it is printed."""

import json
import re
import unicodedata
from typing import Any

LONGEST_NAME = 200  # characters of a name that a server gives


def join_surrogates(text: str) -> str:
    """Join pairs of surrogates and replace lone ones, which can be neither sent, printed nor saved."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_name(value: object, most: int = LONGEST_NAME) -> str:
    """Return a name as one harmless line of at most `most` characters; empty for anything but text."""
    line = " ".join(value[: 4 * most].split())[:most] if isinstance(value, str) else ""
    shown = (char.isprintable() or unicodedata.category(char) in {"Cs", "Zs"} for char in line)
    return join_surrogates("".join(char if ok else "\ufffd" for char, ok in zip(line, shown, strict=True)))


_PRINTED_AS_IS = re.compile(r"[\n\t\u00a0\u00ad\u2009\u200c\u200d\u202f]")  # joiners: within emoji


def printable(text: str) -> str:
    """Return `text` with control, direction and half characters escaped: no text can steer a terminal."""
    if _PRINTED_AS_IS.sub("", text).isprintable():  # quick, and usually so
        return text
    return "".join(char if char.isprintable() or _PRINTED_AS_IS.match(char) else repr(char)[1:-1] for char in text)


def format_json(data: Any, indent: int | None = None) -> str:
    """Return data as JSON, in which whatever could steer a terminal is escaped as JSON has it."""
    text = json.dumps(data, ensure_ascii=False, indent=indent, default=str)
    if printable(text) == text:
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def count_of(number: int, noun: str) -> str:
    """Return `1 case`, `21 cases`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
