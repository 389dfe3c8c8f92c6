"""YAML in block style, letter by letter as PyYAML writes it, but twice as quick: an export writes 100,000."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# What no reader can take for anything but text: begins with a letter, holds no mark of YAML's.
_PLAIN = re.compile(r"[A-Za-zÀ-ɏ](?:[0-9A-Za-zÀ-ɏ_ ,.()/;!?“„–’'-]*[0-9A-Za-zÀ-ɏ_,.()/;!?“„–’'-])?")
_WORDS = frozenset("true false null yes no on off y n".split())  # read as something else, in any case
_LONGEST_KEY = 100  # letters; PyYAML marks longer ones
_DECIMAL = re.compile(r"-?\d+\.\d+")


class _NotPlainError(Exception):
    """The data are not of the plain kind."""


def format_yaml(data: Mapping[str, Any]) -> str:
    """Return `data` as YAML a person likes to read: order kept, umlauts as they are, long lines whole."""
    try:
        return "".join(_lines(data, "")) if data else _dumped({})
    except _NotPlainError:
        return _dumped(dict(data))


def _lines(data: Mapping[str, Any] | Sequence[Any], indent: str) -> list[str]:
    lines: list[str] = []
    if isinstance(data, Mapping):
        for key, value in data.items():
            if not isinstance(key, str) or not key.isascii() or not 0 < len(key) <= _LONGEST_KEY:
                raise _NotPlainError
            # A list stands as far left as its key, a mapping two letters further right.
            deeper = indent if isinstance(value, list) else indent + "  "
            lines += _entry(f"{indent}{_text(key)}:", value, deeper)
        return lines
    for value in data:
        if isinstance(value, list | Mapping) and value:
            inner = _lines(value, indent + "  ")
            inner[0] = f"{indent}- {inner[0].lstrip(' ')}"
            lines += inner
        else:
            lines += _entry(f"{indent}-", value, indent)
    return lines


def _entry(head: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, list | Mapping) and value:
        return [f"{head}\n", *_lines(value, indent)]
    return [f"{head} {_scalar(value)}\n"]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if type(value) is int:
        return str(value)
    if type(value) is float and _DECIMAL.fullmatch(found := repr(value)):
        return found
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | Mapping) and not value:
        return "[]" if isinstance(value, list) else "{}"
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
