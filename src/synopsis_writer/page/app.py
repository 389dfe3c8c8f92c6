"""The page's server: its routes, and how errors become answers."""

import asyncio
import contextlib
import gzip
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from synopsis_writer import __version__
from synopsis_writer.errors import ModelError, SynopsisError
from synopsis_writer.page.calls import Call, TooLargeError, as_json, failure_of, read_call
from synopsis_writer.page.security import Access, Guard

if TYPE_CHECKING:
    from synopsis_writer.page.api import Api
    from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)


_TEXT = "/api/texts/{id:path}"
_ROUTES = (  # each with the method of `Api` that answers it
    ("GET", "/api/state", "state"),
    ("GET", "/api/texts", "list_texts"),
    ("POST", "/api/texts", "save_text"),
    ("GET", f"{_TEXT}/hash", "hash_text"),
    ("GET", f"{_TEXT}/versions", "list_versions"),
    ("GET", "/api/versions/{version}", "open_version"),
    ("GET", _TEXT, "open_text"),
    ("PUT", _TEXT, "save_text"),
    ("GET", "/api/journal", "list_drafts"),
    ("GET", "/api/journal/{draft}", "open_draft"),
    ("PUT", "/api/journal/{draft}", "write_draft"),
    ("DELETE", "/api/journal/{draft}", "delete_draft"),
    ("POST", "/api/check", "check"),
    ("POST", "/api/fix", "fix"),
    ("POST", "/api/words", "add_word"),
    ("POST", "/api/prompt", "show_prompt"),
    ("POST", "/api/write", "write"),
    ("POST", "/api/revise", "revise"),
    ("POST", "/api/lengths", "tell_lengths"),
    ("GET", "/api/jobs/{job}/events", "stream_job"),
    ("POST", "/api/jobs/{job}/stop", "stop_job"),
    ("POST", "/api/diff", "compare"),
    ("POST", "/api/release", "release"),
    ("GET", "/api/export", "export"),
    ("POST", "/api/import", "import_file"),
    ("GET", "/api/folder", "open_folder"),
)


@dataclass
class Page:
    """What all requests share; the writer is opened beside the server, which answers meanwhile."""

    access: Access
    open_writer: "Callable[[], Writer]"
    lang: str = "de"
    on_warm: Callable[[], None] = lambda: None  # once the house is loaded
    _api: "asyncio.Future[Api] | None" = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Open the writer and warm it up in the background; close it at the end."""
        async with contextlib.AsyncExitStack() as stack:

            async def opening() -> "Api":
                api = await asyncio.to_thread(self._make)
                await stack.enter_async_context(api.opened())
                return api

            self._api = api = asyncio.ensure_future(opening())
            api.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                yield
            finally:
                api.cancel()

    def _make(self) -> "Api":
        from synopsis_writer.page.api import Api

        return Api(self.open_writer(), self.on_warm)

    def stop(self) -> None:
        """End what would keep the server from ending: its jobs, and the streams of their events."""
        api = self._api
        if api is not None and api.done() and not api.cancelled() and api.exception() is None:
            api.result().stop()

    async def api(self) -> "Api":
        """Return what texts are worked on with; raises as the writer's opening did."""
        if self._api is None:
            raise RuntimeError("the server has not begun")
        return await asyncio.shield(self._api)

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/", self.show),
                Route("/static/{name}", _static),
                *(Route(path, self._endpoint(name), methods=[method]) for method, path, name in _ROUTES),
            ],
            middleware=[Middleware(Guard, access=self.access)],
            exception_handlers={HTTPException: _unknown},
            lifespan=self.lifespan,
        )

    async def show(self, _: Request) -> Response:
        """Return the page itself."""
        page = _template().render(token=self.access.page_token, lang=self.lang, version=__version__)
        return HTMLResponse(page)

    def _endpoint(self, name: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                call = await read_call(request)
                api = await self.api()
                work: Callable[[Call], Any] = getattr(api, name)
                if asyncio.iscoroutinefunction(work):
                    return await asyncio.to_thread(_answer, await work(call))
                return await asyncio.to_thread(lambda: _answer(work(call)))
            except Exception as error:  # noqa: BLE001 - ours, and any other: nobody is shown a traceback
                return _failure(error)

        return answer


async def _static(request: Request) -> Response:
    name: str = request.path_params["name"]
    kind, file = _TYPES.get(PurePath(name).suffix), files(__package__) / "static" / name
    if kind is None or not name.isascii() or not file.is_file():
        raise HTTPException(404)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.read_bytes(), media_type=kind)
    return Response(gzip.compress(file.read_bytes()), media_type=kind, headers={"Content-Encoding": "gzip"})


# As `mimetypes` has them, but for what a system's registry says.
_TYPES = {".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".svg": "image/svg+xml"}


def _answer(data: Any) -> Response:
    return data if isinstance(data, Response) else _json(data)


def _json(data: Any, status: int = 200) -> Response:
    content = as_json(data).encode("utf-8", "replace")
    return Response(content, status, media_type="application/json")


def _failure(error: Exception) -> Response:
    """Return the answer to a request that failed: the error's line, and what goes with it."""
    from synopsis_writer.page.texts import ConflictError, NotFoundError
    from synopsis_writer.releasing import NotReleasedError

    more: dict[str, Any] = {}
    if not isinstance(error, SynopsisError):
        _log.error("this is a mistake in the program (%s)", type(error).__name__)
        return _json({"error": failure_of(error)}, 500)
    status = 400
    match error:
        case ConflictError():
            status, more = 409, {"current": error.current}
        case NotFoundError():
            status = 404
        case TooLargeError():
            status = 413
        case ModelError():
            status = 502
        case NotReleasedError():
            from synopsis_writer.page.texts import findings_data

            more = {"findings": findings_data(error.report.findings, error.report.text)}
        case _:
            pass
    return _json({"error": failure_of(error), **more}, status)


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _json({"error": {"message": "the page's server has no such address", "code": 2}}, status)


@cache
def _template() -> Any:
    from jinja2 import Environment

    source = (files(__package__) / "templates" / "page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
