"""Files of JSON lines: one object a line, added as they come; a kill may leave one half written."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synopsis_writer.errors import FileError, os_reason


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Give the number and the object of each line that is not empty; None for a line that holds none.

    A file that is not there has no lines.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: make it readable, or move it away") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(line)


def as_json_line(data: Mapping[str, Any]) -> str:
    """Return an object as one line."""
    return json.dumps(data, ensure_ascii=False) + "\n"


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Append an object as one line; a half line before it is closed.

    Raises:
        FileError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("\n" + as_json_line(data))
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: make room, and run again") from error


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
