"""YAML in block style, letter by letter as PyYAML writes it, but twice as quick: an export writes 100,000."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# What no reader can take for anything but text: begins with a letter, holds no mark of YAML's.
_PLAIN = re.compile(r"[A-Za-zÀ-ɏ](?:[0-9A-Za-zÀ-ɏ_ ,.()/;!?“„–’'-]*[0-9A-Za-zÀ-ɏ_,.()/;!?“„–’'-])?")
_WORDS = frozenset("true false null yes no on off y n".split())  # read as something else, in any case
_LONGEST_KEY = 100  # letters; PyYAML marks longer ones
_NESTED = frozenset({dict, list})
_DECIMAL = re.compile(r"-?\d+\.\d+")


class _NotPlainError(Exception):
    """The data are not of the plain kind."""


def format_yaml(data: Mapping[str, Any]) -> str:
    """Return `data` as YAML a person likes to read: order kept, umlauts as they are, long lines whole."""
    try:
        return "".join(_lines(data, "")) if data else _dumped({})
    except _NotPlainError:
        return _dumped(dict(data))


def _lines(data: Mapping[str, Any] | list[Any], indent: str) -> list[str]:
    lines: list[str] = []
    if type(data) is list:
        for value in data:
            if type(value) in _NESTED and value:
                inner = _lines(value, indent + "  ")
                inner[0] = f"{indent}- {inner[0].lstrip(' ')}"
                lines += inner
            else:
                lines.append(f"{indent}- {_scalar(value)}\n")
    elif isinstance(data, Mapping):
        for key, value in data.items():
            if type(value) in _NESTED and value:
                # A list stands as far left as its key, a mapping two letters further right.
                inner = _lines(value, indent if type(value) is list else indent + "  ")
                lines += (f"{indent}{_key(key)}:\n", *inner)
            else:
                lines.append(f"{indent}{_key(key)}: {_scalar(value)}\n")
    return lines


@lru_cache(maxsize=1_000)
def _key(key: Any) -> str:
    if not isinstance(key, str) or not key.isascii() or not 0 < len(key) <= _LONGEST_KEY:
        raise _NotPlainError
    return _text(key)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if type(value) is int:
        return str(value)
    if type(value) is float and _DECIMAL.fullmatch(found := repr(value)):
        return found
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) in _NESTED:  # an empty one
        return "[]" if type(value) is list else "{}"
    raise _NotPlainError


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and "  " not in text and text.lower() not in _WORDS:
        return text
    return _other_text(text)


@lru_cache(maxsize=1_000)
def _other_text(text: str) -> str:
    """Return a text as PyYAML writes it, quoted where it must be; one of several lines is not plain."""
    if not text.isprintable():
        raise _NotPlainError
    return _dumped(text).removesuffix("...\n").removesuffix("\n")


def _dumped(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)
    return text
