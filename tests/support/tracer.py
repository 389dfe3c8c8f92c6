"""Which files of the package a value passes through while the program runs."""

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

import synopsis_writer

PACKAGE = Path(synopsis_writer.__file__).parent
_DEEPEST = 5  # levels of containers a value is looked for in


@contextmanager
def traced(text: str) -> Iterator[dict[str, set[str]]]:
    """Record, while the block runs, the functions that are called with `text` in an argument.

    The arguments count, and what they hold: containers, dataclasses, pydantic models. Functions are named
    by their file, relative to the package.
    """
    passed: dict[str, set[str]] = {}

    def on_event(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return
        code = frame.f_code
        file = str(Path(code.co_filename).relative_to(PACKAGE))
        if code.co_name in passed.get(file, ()):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(_holds(frame.f_locals.get(name), text, _DEEPEST) for name in names):
            passed.setdefault(file, set()).add(code.co_name)

    before = sys.getprofile()
    threading.setprofile(on_event)
    sys.setprofile(on_event)
    try:
        yield passed
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def _holds(value: Any, text: str, depth: int) -> bool:
    if isinstance(value, str):
        return text in value
    if depth == 0 or value is None or isinstance(value, int | float | bytes | Path | type):
        return False
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif isinstance(value, BaseModel):
        parts = (getattr(value, name) for name in type(value).model_fields)
    elif is_dataclass(value):
        parts = (getattr(value, field.name, None) for field in fields(value))
    return any(_holds(part, text, depth - 1) for part in parts)
