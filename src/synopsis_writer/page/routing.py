"""Requests: each kind is answered by the method that has its route, with what was sent as its arguments."""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from synopsis_writer.answers import read_json
from synopsis_writer.characters import join_surrogates
from synopsis_writer.document import check_values
from synopsis_writer.errors import FileError, InputError, SynopsisError, explain

_log = logging.getLogger(__name__)
_FAULT = 70  # the exit code of a mistake in the program
_MOST_SENT = 8_000_000  # bytes of a request's body
_Method = TypeVar("_Method", bound=Callable[..., Any])

ROUTES: list[tuple[str, type[Any], Callable[..., Any], bool]] = []
"""Of each kind of request: verb and path, what it sends, who answers, and whether that waits for nothing."""


class Sent(BaseModel):
    """What the page sends; what it does not know is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Json(JSONResponse):
    """An answer's JSON: models as their fields, and times in ISO 8601."""

    def render(self, content: Any) -> bytes:
        """Return the bytes of the JSON."""

        def plain(value: Any) -> Any:
            return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)

        return json.dumps(content, default=plain).encode("ascii")


def failure_of(error: Exception) -> dict[str, Any]:
    """Return message and exit code of an error; of one that is not ours, which may hold a key, its kind."""
    if isinstance(error, SynopsisError):
        return {"message": str(error), "code": error.exit_code}
    message = f"this is a mistake in the program ({type(error).__name__})"
    _log.error(message)
    return {"message": f"{message}: please report it", "code": _FAULT}


class AnswerError(FileError):
    """A request that is answered with another status than 400; `more` goes into the answer, too."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.more = status, more


def route(line: str, *, at_once: bool = False) -> Callable[[_Method], _Method]:
    """Have a method answer a kind of request, in a thread unless it is a coroutine.

    Its positional parameters are read from path, query and JSON body together; a single one that is `Sent`
    is all of these, and a `Request` comes as it is. All but those `at_once` wait until the house is loaded.
    """

    def add(method: _Method) -> _Method:
        _, *named = inspect.signature(method).parameters.values()
        parameters = [each for each in named if each.kind is not each.KEYWORD_ONLY]
        defaults = {each.name: ... if each.default is each.empty else each.default for each in parameters}
        fields: Any = {each.name: (each.annotation, defaults[each.name]) for each in parameters}
        shape = parameters[0].annotation if len(parameters) == 1 else None
        if not (isinstance(shape, type) and issubclass(shape, Sent | Request)):
            shape = create_model(line, __base__=Sent, **fields)
        ROUTES.append((line, shape, method, at_once))
        return method

    return add


def routes_of(owners: Sequence[object], ready: Callable[[Request], Awaitable[None]]) -> list[Route]:
    """Return all routes, each answered by the object whose method has it once it is `ready`."""

    def as_route(line: str, shape: type[Any], method: Callable[..., Any], *, at_once: bool) -> Route:
        verb, path = line.split()
        owner = next(each for each in owners if method in vars(type(each)).values())

        async def answer(request: Request) -> Response:
            if not at_once:
                await ready(request)
            asked = [request]
            if shape is not Request:
                fields = {**request.query_params, **request.path_params}
                sent = await asyncio.to_thread(_parse, await body_of(request), fields, shape)
                asked = [*dict(sent).values()] if shape.__name__ == line else [sent]
            is_coroutine = inspect.iscoroutinefunction(method)
            data = await (method(owner, *asked) if is_coroutine else asyncio.to_thread(method, owner, *asked))
            if isinstance(data, Response):
                return data
            return await asyncio.to_thread(Json, data or {})

        return Route(path, answer, methods=[verb])

    return [as_route(line, shape, method, at_once=at_once) for line, shape, method, at_once in ROUTES]


async def body_of(request: Request, most: int = _MOST_SENT) -> bytes:
    """Return what a request sends; raises AnswerError before more than that is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            size_limit = f"{most // 1_000_000} MB"
            raise AnswerError(413, f"what was sent is larger than {size_limit}: that is no synopsis")
        parts.append(part)
    return b"".join(parts)


def _parse(body: bytes, fields: dict[str, str], shape: type[Sent]) -> Any:
    try:
        data = _clean(read_json(body or b"{}"))
    except ValueError as error:
        raise InputError(f"what was sent is no JSON: {str(error)[:100]}") from error
    if not isinstance(data, dict):
        raise InputError("the request holds no object: send one as JSON")
    try:
        return shape.model_validate(check_values({**data, **fields}))
    except ValueError as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"the request: {reason}") from error


def _clean(value: Any) -> Any:
    """Return JSON's data with half characters and NULs replaced, and one kind of line end."""
    if isinstance(value, str):
        text = join_surrogates(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {_clean(name): _clean(each) for name, each in value.items()} if isinstance(value, dict) else value
