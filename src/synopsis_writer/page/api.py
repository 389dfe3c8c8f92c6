"""What the page can ask for: each method answers one kind of request, with what the commands use."""

import asyncio
import contextlib
import inspect
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import create_model
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from synopsis_writer.batch.store import RECORD_FILE, read_batch
from synopsis_writer.batch.store import read_brief as batch_brief
from synopsis_writer.batch.store import read_synopsis as batch_synopsis
from synopsis_writer.brief import make_brief
from synopsis_writer.characters import clean_name, join_surrogates
from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import FileError, InputError, SettingsError, SynopsisError
from synopsis_writer.evals.metrics import ALL_METRICS
from synopsis_writer.evals.ratings import Rater
from synopsis_writer.evals.record import RUN_FILE, read_rows
from synopsis_writer.evals.results import open_results, pair_parts
from synopsis_writer.evals.suite import default_suite, load_suite
from synopsis_writer.formats.reading import READERS, parse_sources
from synopsis_writer.formats.sheets import SHEETS, export
from synopsis_writer.gate.messages import Language, check_names
from synopsis_writer.house.house import accept_words, open_house
from synopsis_writer.log import word_diff
from synopsis_writer.page.jobs import Jobs
from synopsis_writer.page.library import Journal, Library
from synopsis_writer.page.texts import Sent, Text, as_json, check, fix, text_of
from synopsis_writer.storage.files import slug
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Writer

_MOST_SENT, _MOST_IMPORTED = 8_000_000, 2_000_000  # bytes of a request's body
_LONGEST_COMPARED = 50_000  # characters
_MOST_ROWS = 1_000  # of a batch or a run
_SAMPLE = "Er geht nach Hause, und sie bleibt."  # checked at the start: all of the gate is loaded then
_WAYS_OUT = (
    {"kind": "embedded", "command": "pip install 'synopsis-writer[local]'"},
    {"kind": "key", "command": "OPENAI_API_KEY=… synopsis page"},
    {"kind": "server", "command": "synopsis page --base-url http://127.0.0.1:8080/v1 --model NAME"},
)
_DIFFERENCES = {"=": "same", "-": "out", "+": "in"}


class TooLargeError(InputError):
    """A request's body is larger than anything that is a text."""

    status = 413


_ROUTES: list[tuple[str, type[Any], Callable[..., Any], bool]] = []


def _route(line: str, *, at_once: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have a method of `Api` answer a kind of request.

    Its parameters are read from path, query and JSON body together, by their annotations; a single `Text` is
    the body itself, and a `Request` comes as it is. A method that is no coroutine runs in a thread. All but
    those `at_once` wait until the house is loaded.
    """

    def add(method: Callable[..., Any]) -> Callable[..., Any]:
        _, *parameters = inspect.signature(method).parameters.values()
        kinds = [each.annotation for each in parameters]
        fields: Any = {
            each.name: (each.annotation, ... if each.default is each.empty else each.default)
            for each in parameters
        }
        shape = kinds[0] if kinds in ([Text], [Request]) else create_model(line, __base__=Sent, **fields)
        _ROUTES.append((line, shape, method, at_once))
        return method

    return add


async def _body(request: Request, most: int = _MOST_SENT) -> bytes:
    """Return what a request sends; raises TooLargeError before more than that is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"what was sent is larger than {most // 1_000_000} MB: that is no synopsis")
        parts.append(part)
    return b"".join(parts)


def _parse(body: bytes, fields: Mapping[str, str], shape: type[Sent]) -> Any:
    try:
        data = _clean(json.loads(body or b"{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"what was sent is no JSON: {str(error)[:100]}") from error
    if not isinstance(data, dict):
        raise InputError("the request holds no object: send one as JSON")
    return shape.read({**data, **fields})


def _clean(value: Any) -> Any:
    """Return JSON's data with half characters and NULs replaced, and one kind of line end."""
    if isinstance(value, str):
        text = join_surrogates(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    return {_clean(name): _clean(each) for name, each in value.items()} if isinstance(value, dict) else value


class Api:
    """Answers the page's requests with one `Writer`, open for as long as the server runs."""

    def __init__(self, writer: Writer, on_warm: Callable[[], None]) -> None:
        self.writer, self._on_warm = writer, on_warm
        self.journal = Journal(writer.settings.log.parent / "drafts")
        self.library = Library(writer, self.journal)
        self.jobs = Jobs(writer, self.journal)
        self._checking = asyncio.Lock()
        self._newest: dict[str, Text] = {}  # of each draft, to check
        self._raters: dict[tuple[str, ...], Rater] = {}
        self.router = Router([self._as_route(*route) for route in _ROUTES], redirect_slashes=False)

    def _as_route(self, line: str, shape: type[Any], method: Callable[..., Any], at_once: bool) -> Route:
        verb, path = line.split()

        async def answer(request: Request) -> Response:
            if not at_once:
                await self._ready(request)
            asked = [request]
            if shape is not Request:
                fields = {**request.query_params, **request.path_params}
                sent = await asyncio.to_thread(_parse, await _body(request), fields, shape)
                asked = [sent] if shape is Text else [getattr(sent, name) for name in shape.model_fields]
            is_coroutine = inspect.iscoroutinefunction(method)
            data = await (method(self, *asked) if is_coroutine else asyncio.to_thread(method, self, *asked))
            if isinstance(data, Response):
                return data
            return Response(await asyncio.to_thread(as_json, data), media_type="application/json")

        return Route(path, answer, methods=[verb])

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the model's connection open, and load in the background what the first requests need."""
        async with self.writer:
            self._warm = asyncio.create_task(self._warm_up())
            self._warm.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                yield
            finally:
                self._warm.cancel()
                await self.jobs.stop()
        self.writer.close()

    async def _warm_up(self) -> None:
        await self.writer.check(_SAMPLE)
        self._on_warm()

    async def _ready(self, request: Request) -> None:
        """Wait until the house is loaded, which may raise InputError; findings are in the page's language."""
        await asyncio.shield(self._warm)
        language = request.headers.get("accept-language", "")[:2].lower()
        if language in get_args(Language) and language != self.writer.workspace.gate.lang:
            self._change_gate(lang=language)

    def _change_gate(self, **changes: Any) -> None:
        workspace = self.writer.workspace
        self.writer.workspace = replace(workspace, gate=replace(workspace.gate, **changes))

    @_route("GET /state")
    def _state(self) -> dict[str, Any]:
        workspace, budget = self.writer.workspace, self.writer.budget
        limits = {"amount": budget.amount and str(budget.amount), "tokens": budget.tokens}
        forms = []
        for form in workspace.house.forms.values():
            length, unit = form.length
            limited = {"name": form.name, "purpose": form.purpose, "paragraphs": form.paragraphs}
            forms.append({**limited, unit: length})
        is_own = self.writer.settings.house is not None
        return {
            "house": {"name": workspace.house.name, "is_own": is_own, "forms": forms},
            "shows": [
                {"name": show.name, "aliases": show.aliases, "cast": show.cast}
                for show in workspace.pool.shows
            ],
            "model": self._model(),
            "budget": limits if any(limits.values()) else None,
            "formats": [name for name in SHEETS if name != "docx" or find_spec("docx")],
            "words": {f"check_{name}": words for name, words in check_names().items()},
            "empty": Text(),
        }

    def _model(self) -> dict[str, Any]:
        try:
            name, kind, why = self.writer.model_name, "server", ""
            with contextlib.suppress(SettingsError):  # a client was given
                why = self.writer.model.why
                kind = {"packaged": "packaged", "file": "local"}.get(self.writer.model.kind, kind)
        except SynopsisError as error:
            name, kind, why = "", "none", str(error)
        can = {"can_write": kind != "none", "can_revise": kind in {"local", "server"}}
        return {"name": name, "kind": kind, "why": why, **can, "ways_out": () if name else _WAYS_OUT}

    @_route("GET /texts", at_once=True)
    def _list_texts(self, query: str = "", state: str = "") -> dict[str, Any]:
        return {**self.library.listed(query, state), **self._list_drafts()}

    @_route("GET /texts/{id:path}/hash", at_once=True)
    def _hash_text(self, id: str) -> dict[str, Any]:
        return {"hash": self.library.read(self.library.path(id))[0].hash}

    @_route("GET /texts/{id:path}/versions", at_once=True)
    def _list_versions(self, id: str) -> dict[str, Any]:
        versions = [
            {
                "id": f"{version.text}.{version.number}",
                "at": version.created,
                **{name: getattr(version, name) for name in ("maker", "model", "request")},
                "words": None if version.content is None else len(version.document.text.split()),
            }
            for version in self.library.versions(id)
        ]
        return {"versions": versions}

    @_route("GET /versions/{id}", at_once=True)
    def _open_version(self, id: str) -> Text:
        return self.library.version(id)

    @_route("GET /texts/{id:path}", at_once=True)
    def _open_text(self, id: str) -> dict[str, Any]:
        return self.library.opened(id)

    @_route("POST /texts")
    async def _save_new_text(self, text: Text) -> Any:
        return await self._save_text(text.model_copy(update={"id": None}))

    @_route("PUT /texts/{id:path}")
    async def _save_text(self, text: Text) -> Any:
        """Save a text, with the verdicts of a check; one that cannot be checked is saved all the same."""
        report = None
        with contextlib.suppress(InputError):
            report = await self.writer.check(text.as_source(), **text.given)
        return await asyncio.to_thread(self.library.save, text, report.findings if report else None)

    @_route("GET /journal", at_once=True)
    def _list_drafts(self) -> dict[str, Any]:
        rows = []
        for each in self.library.drafts():
            row = {"draft": each.draft, "at": each.at, "show": each.text.brief.get("show")}
            rows.append({**row, "id": each.text.id, "title": each.text.title})
        return {"drafts": rows}

    @_route("GET /journal/{draft}", at_once=True)
    def _open_draft(self, draft: str) -> Text:
        return self.journal.read(draft).text

    @_route("PUT /journal/{draft}", at_once=True)
    def _write_draft(self, text: Text) -> dict[str, Any]:
        return {"at": self.journal.write(text.draft, text)}

    @_route("DELETE /journal/{draft}", at_once=True)
    def _delete_draft(self, draft: str) -> dict[str, Any]:
        self.journal.delete(draft)
        return {}

    @_route("POST /check")
    async def _check(self, text: Text) -> dict[str, Any]:
        """Return what the gate finds in a text; nothing where the same draft was sent anew meanwhile."""
        self._newest[text.draft] = text
        async with self._checking:
            if text.draft and self._newest.get(text.draft) is not text:
                return {"superseded": True}
            self._newest.pop(text.draft, None)
            return await check(self.writer, text)

    @_route("POST /fix")
    async def _fix(self, text: Text) -> dict[str, Any]:
        return await fix(self.writer, text)

    @_route("POST /words")
    def _add_word(self, word: str) -> dict[str, Any]:
        accept_words(self.writer.settings, [word.strip()])
        self._change_gate(house=open_house(self.writer.settings))
        return {}

    @_route("POST /prompt")
    def _show_prompt(self, text: Text) -> dict[str, Any]:
        """Return what a model would be asked for a brief, and the examples in it; asks none."""
        brief = make_brief(**text.asked)
        prompt, chosen = self.writer.prompt(brief), self.writer.select(brief)
        examples = [{"title": each.example.synopsis.title, "reason": each.why} for each in chosen]
        return {"messages": [asdict(message) for message in prompt.messages], "examples": examples}

    @_route("POST /write")
    async def _write(self, brief: dict[str, Any], best_of: int = 1) -> dict[str, Any]:
        return {"job": self.jobs.write(Text(brief=brief), best_of).id}

    @_route("POST /revise")
    async def _revise(
        self, text: Text, note: str = "", paragraphs: Sequence[int] = (), variants: int = 1
    ) -> dict[str, Any]:
        return {"job": self.jobs.revise(text, note=note, paragraphs=paragraphs, variants=variants).id}

    @_route("POST /lengths")
    async def _tell_lengths(self, text: Text, forms: Sequence[str] = ()) -> dict[str, Any]:
        return {"job": self.jobs.lengths(text, forms).id}

    @_route("GET /jobs/{job}/events", at_once=True)
    async def _stream_job(self, request: Request) -> Response:
        """Return the events of a job, from the one after the last that is known."""
        job, known = self.jobs.find(request.path_params["job"]), request.headers.get("last-event-id", "")
        last = int(known) if known.isascii() and known.isdigit() else 0
        if job.has_ended and not any(number > last for number, *_ in job.events):
            return Response(status_code=204)  # a browser does not ask again then
        return StreamingResponse(job.stream(last), media_type="text/event-stream")

    @_route("POST /jobs/{job}/stop", at_once=True)
    async def _stop_job(self, job: str) -> dict[str, Any]:
        self.jobs.find(job).stop()
        return {}

    @_route("POST /diff", at_once=True)
    def _compare(self, old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
        """Return the words that two texts share, and those that only one has, a list for each paragraph.

        It is one list where one text has more paragraphs than the other.
        """
        if max(sum(map(len, old)), sum(map(len, new))) > _LONGEST_COMPARED:
            raise InputError(f"a text has over {_LONGEST_COMPARED:,} characters: that is no synopsis")
        if len(old) != len(new):
            old, new = ["\n\n".join(old)], ["\n\n".join(new)]
        pieces = [
            [{"kind": _DIFFERENCES[kind], "text": words} for kind, words in word_diff(before, after)]
            for before, after in zip(old, new, strict=True)
        ]
        return {"pieces": pieces}

    @_route("POST /release")
    def _release(self, id: str, hash: str, by: str, waivers: Mapping[str, str] = {}) -> Text:
        return self.library.release(id, hash, by, waivers)

    @_route("GET /export")
    def _export(self, id: str, format: str) -> Response:
        """Return a saved text as a file for a receiver."""
        document = read_document(self.library.path(id))
        content = export([document], format, self.writer.workspace.house.orthography)
        name = f"{slug(document.path.stem)}.{format}"
        head = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, headers=head, media_type="application/octet-stream")

    @_route("POST /import", at_once=True)
    async def _import_file(self, request: Request) -> dict[str, Any]:
        """Return the texts of a file that was dropped on the page; they are not saved."""
        body, name = await _body(request, _MOST_IMPORTED), request.query_params.get("name", "")
        path = Path(clean_name(name.replace("\\", "/").rpartition("/")[2]) or "text")
        if path.suffix.lower() not in READERS:
            raise InputError(f"{path}: is no kind of file that is read: {', '.join(sorted(READERS))} are")
        sources = await asyncio.to_thread(parse_sources, body, path)
        texts = []
        for source in sources:
            text = text_of(source.document, draft=f"d-{secrets.token_hex(8)}", release=None, state="draft")
            fields = {name: value for name, value in source.fields.items() if name in text.brief and value}
            texts.append(text.model_copy(update={"brief": {**text.brief, **fields}}))
        dropped = dict.fromkeys(each for source in sources for each in source.dropped)
        return {"texts": texts, "messages": list(dropped)}

    @_route("GET /folder", at_once=True)
    def _open_folder(self, path: str = "") -> dict[str, Any]:
        """Return the rows of a batch or an eval run below the working directory."""
        folder, kind, rows = _below(path), "batch", list[tuple[str, str, str | None, Any, Synopsis | None]]()
        if (folder / RECORD_FILE).is_file():
            sql = "SELECT id, status, reason, brief, synopsis FROM rows ORDER BY place LIMIT ?"
            with read_batch(folder) as batch:
                for name, status, reason, asked, answer in batch.query(sql, _MOST_ROWS):
                    text = batch_synopsis(name, answer) if answer else None
                    rows.append((str(name), status, reason, batch_brief(name, asked).as_data(), text))
                count = batch.counts().rows
        elif (folder / RUN_FILE).is_file():
            kind, run = "eval", read_rows(folder)
            for row in islice(run.values(), _MOST_ROWS):
                rows.append(("/".join(map(str, row.id)), row.outcome, row.reason, None, row.synopsis))
            count = len(run)
        else:
            raise FileError(f"{path[:80]}: holds neither a batch nor an eval run: name another folder")
        listed = []
        for key, state, reason, brief, synopsis in rows:
            front = {"brief": brief, **(synopsis.front_matter() if synopsis else {})}
            document = Document(Path("text"), front, synopsis.text if synopsis else "")
            opened = text_of(document) if brief or synopsis else None
            listed.append({"key": key, "state": state, "reason": reason or "", "text": opened})
        return {"kind": kind, "rows": listed, "more": count - len(listed)}

    @_route("POST /rate")
    def _rate(
        self, run: str, rater: str, other: str = "", suite: str = "", pair: str | None = None,
        choice: Literal[0, 1, 2] = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Record which text of a pair is better, if a pair is named; return the next one."""
        asked = (run, other, suite, rater)
        if asked not in self._raters:
            cases = load_suite(Path(suite) if suite else default_suite(), ALL_METRICS)
            runs = [open_results(_below(each), cases, self.writer.workspace) for each in (run, other) if each]
            texts = [(first.rows, second.rows) for first, second in pair_parts(*runs)]
            self._raters[asked] = Rater(_below(run), rater, texts, cases.cases)
        ratings = self._raters[asked]
        if pair is not None:
            ratings.rate(pair, choice)
        shown: dict[str, Any] = {"done": ratings.done, "pairs": len(ratings.pairs), "id": None}
        if (drawn := ratings.next()) is not None:
            synopses = (drawn.first.synopsis, drawn.second.synopsis, drawn.case.reference)
            shown |= {"id": drawn.id, "texts": synopses, "brief": drawn.case.brief}
        return shown


def _below(path: str) -> Path:
    """Return a folder below the working directory; raises InputError for any other."""
    here = Path.cwd().resolve()
    if "\0" in path or not (here / path).resolve().is_relative_to(here):
        raise InputError(f"{path[:80]!a}: is no folder below {here}: start the page where it is")
    return here / path
