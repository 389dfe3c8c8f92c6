"""What a request to the page's server asks and sends, within limits."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import Request

from synopsis_writer.characters import join_surrogates
from synopsis_writer.errors import InputError, SynopsisError

MOST_JSON, MOST_IMPORT = 8_000_000, 2_000_000  # bytes of a request's body
_FAULT = 70  # the exit code of a mistake in the program
_IMPORT = "/api/import"  # whose body is a file


class TooLargeError(InputError):
    """A request's body is larger than anything that is a text."""


@dataclass(frozen=True)
class Call:
    """What a request asks: path and query by name, what it sends, the last event it knows, `de` or `en`."""

    path: Mapping[str, str]
    query: QueryParams
    data: Any = None
    body: bytes = b""
    last_event: str = ""
    language: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The object that was sent; raises InputError for anything else."""
        if not isinstance(self.data, dict):
            raise InputError("the request holds no object: send one as JSON")
        return self.data

    def text(self, name: str) -> str:
        """Return a field that is a text; raises InputError for anything else."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise InputError(f"'{name}' is no text: send one")
        return value


def as_json(data: Any) -> str:
    """Return an answer's JSON: models as their fields, and times in ISO 8601."""
    return json.dumps(data, ensure_ascii=False, default=plain_value)


def plain_value(value: Any) -> Any:
    """Return what JSON has no place for as something that it has."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.isoformat() if isinstance(value, datetime) else str(value)


def failure_of(error: Exception) -> dict[str, Any]:
    """Return message and exit code of an error; of one that is not ours, which may hold a key, its kind."""
    if isinstance(error, SynopsisError):
        return {"message": str(error), "code": error.exit_code}
    kind = type(error).__name__
    return {"message": f"this is a mistake in the program ({kind}): please report it", "code": _FAULT}


async def read_call(request: Request) -> Call:
    """Read a request; raises InputError for a body that is too large, or no JSON."""
    most = MOST_IMPORT if request.url.path == _IMPORT else MOST_JSON
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"what was sent is larger than {most // 1_000_000} MB: that is no synopsis")
        parts.append(part)
    body, data = b"".join(parts), None
    if body and request.url.path != _IMPORT:
        try:
            data = await asyncio.to_thread(lambda: _clean(json.loads(body.decode("utf-8"))))
        except (ValueError, RecursionError) as error:
            raise InputError(f"what was sent is no JSON: {str(error)[:100]}") from error
    headers = request.headers
    language = headers.get("accept-language", "")[:2].lower()
    known = headers.get("last-event-id", "")
    return Call(request.path_params, request.query_params, data, body, known, language)


def _clean(value: Any) -> Any:
    """Return JSON's data with half characters and NULs replaced, and one kind of line end."""
    if isinstance(value, str):
        text = join_surrogates(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {_clean(name): _clean(each) for name, each in value.items()} if isinstance(value, dict) else value
