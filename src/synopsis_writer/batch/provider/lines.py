"""The lines of a provider's files: a request each on the way there, a result each on the way back."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synopsis_writer.batch.provider.tables import Asked
from synopsis_writer.client.retry import status_passes
from synopsis_writer.errors import FileError, os_reason

ENDPOINT = "/v1/chat/completions"
_ID = re.compile(r"([0-9a-f]{16})-(\d{1,12})-(\d{1,3})")
_OK = 200
# OpenAI's words for requests of a batch that ended before their turn.
_UNDONE = frozenset({"batch_expired", "batch_cancelled"})
_MOST_SAID = 200  # characters of what a server says
_LONGEST = 10_000_000  # bytes of a line: an answer has some thousand


@dataclass(frozen=True)
class Result:
    """What a line says became of a request.

    Attributes:
        key: the shard's.
        place, round: the row's.
        body: the body of a completion; None where there is none.
        reason: why there is none, in one line.
        passes: whether the same request may fare better later.
    """

    key: str
    place: int
    round: int
    body: bytes | None
    reason: str = ""
    passes: bool = False


def id_of(key: str, asked: Asked) -> str:
    """Return what a request is called: safe and short, whatever the row's id is made of."""
    return f"{key}-{asked.place}-{asked.round}"


def request_line(name: str, body: Mapping[str, Any]) -> bytes:
    """Return the line that asks for a completion."""
    line = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that are not blank, one by one.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST):
                if line.strip():
                    yield line
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: name another file") from error


def read_result(line: bytes) -> Result | str:
    """Return what a line says, or why it says nothing: in a few words."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return "a line is no JSON"
    name = data.get("custom_id") if isinstance(data, dict) else None
    found = _ID.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return f"unknown request id {_short(name)!r}"
    key, place, number = found[1], int(found[2]), int(found[3])
    response, error = data.get("response"), data.get("error")
    response = response if isinstance(response, dict) else {}
    status, body = response.get("status_code"), response.get("body")
    if status == _OK and isinstance(body, dict) and not error:
        return Result(key, place, number, json.dumps(body).encode())
    code, said = _said(error or (body.get("error") if isinstance(body, dict) else None))
    passes = code in _UNDONE or (isinstance(status, int) and status_passes(status))
    told = f"the provider answered {status}" if isinstance(status, int) and status != _OK else "no answer"
    return Result(key, place, number, None, ": ".join(filter(None, (told, said or code))), passes)


def _said(error: Any) -> tuple[str, str]:
    """Return code and message; vLLM gives a text, or an error in an error."""
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if isinstance(error, dict):
        return _short(error.get("code")), _short(error.get("message"))
    return "", _short(error)


def _short(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())[:_MOST_SAID]
