"""What the page can ask for: each method answers one kind of request, with what the commands use."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from synopsis_writer import __version__
from synopsis_writer.batch.store import RECORD_FILE, read_batch
from synopsis_writer.batch.store import read_brief as batch_brief
from synopsis_writer.batch.store import read_synopsis as batch_synopsis
from synopsis_writer.brief import make_brief
from synopsis_writer.characters import clean_name, join_surrogates
from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import FileError, InputError, SettingsError, SynopsisError
from synopsis_writer.evals.ratings import Rater
from synopsis_writer.evals.record import RUN_FILE, read_rows
from synopsis_writer.evals.results import ALL_METRICS, open_results, parts_between, parts_within
from synopsis_writer.evals.suite import default_suite, load_suite
from synopsis_writer.formats.reading import READERS, parse_sources
from synopsis_writer.formats.sheets import SHEETS, export
from synopsis_writer.gate.messages import Language, check_names
from synopsis_writer.house.form import Form
from synopsis_writer.house.house import accept_words, open_house
from synopsis_writer.log import word_diff
from synopsis_writer.page.jobs import Jobs
from synopsis_writer.page.library import Journal, Library
from synopsis_writer.page.texts import Sent, Text, check, findings_data, fix, text_of
from synopsis_writer.releasing import NotReleasedError
from synopsis_writer.storage.files import slug
from synopsis_writer.usage import format_cost
from synopsis_writer.writer import Writer

_MOST_SENT, _MOST_IMPORTED = 8_000_000, 2_000_000  # bytes of a request's body
_LONGEST_COMPARED = 50_000  # characters
_MOST_ROWS = 200  # of a batch or a run, at a time
_DEPTH = 3  # folders below the working directory in which batches and runs are looked for
_TYPES = {
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "html": "text/html",
    "jsonld": "application/ld+json",
    "json": "application/json",
    "csv": "text/csv",
}
_SAMPLE = "Er geht nach Hause, und sie bleibt."  # checked at the start: all of the gate is loaded then
_WAYS_OUT = (
    {"kind": "embedded", "command": "pip install 'synopsis-writer[local]'"},
    {"kind": "key", "command": "OPENAI_API_KEY=… synopsis page"},
    {"kind": "server", "command": "synopsis page --base-url http://127.0.0.1:8080/v1 --model NAME"},
)


class TooLargeError(InputError):
    """A request's body is larger than anything that is a text."""

    status = 413


class _RefusedError(NotReleasedError):
    """The gate refuses a release; the answer holds its findings."""

    @property
    def more(self) -> dict[str, Any]:
        """The findings, beside the error's message."""
        return {"findings": findings_data(self.report.findings, [self.report.text])}


class _Write(Sent):
    brief: dict[str, Any]
    best_of: int = 1


class _Wish(Sent):
    text: Text
    note: str | None = None
    paragraphs: Sequence[int] = ()
    keep: Sequence[str] = ()
    variants: int = 1
    only: Literal["title", "logline"] | None = None
    words: str | None = None
    character_count: str | None = None
    form: str | None = None


class _Lengths(Sent):
    text: Text
    forms: Sequence[str] = ()


class _Release(Sent):
    id: str
    hash: str
    by: str
    waivers: Mapping[str, str] = {}


class _Pair(Sent):
    old: Sequence[str]
    new: Sequence[str]


class _Rating(Sent):
    run: str
    other: str = ""
    rater: str
    suite: str = ""
    pair: str | None = None
    choice: Literal[0, 1, 2] = 0


class _Word(Sent):
    word: str


async def _body(request: Request, most: int = _MOST_SENT) -> bytes:
    """Return what a request sends; raises TooLargeError before more than that is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"what was sent is larger than {most // 1_000_000} MB: that is no synopsis")
        parts.append(part)
    return b"".join(parts)


async def _read(request: Request, shape: type[Sent], **more: Any) -> Any:
    """Return what a request sends, and `more` fields; raises InputError."""
    body = await _body(request)

    def parse() -> Any:
        try:
            data = _clean(json.loads(body.decode("utf-8")))
        except (ValueError, RecursionError) as error:
            raise InputError(f"what was sent is no JSON: {str(error)[:100]}") from error
        return shape.read({**data, **more} if isinstance(data, dict) else data)

    return await asyncio.to_thread(parse)


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
        self._warm: asyncio.Task[None] | None = None
        self._checking = asyncio.Lock()
        self._newest: dict[str, Request] = {}  # check of each draft
        self._raters: dict[tuple[str, ...], Rater] = {}

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
        self.writer.close()

    async def _warm_up(self) -> None:
        await self.writer.check(_SAMPLE)
        self._on_warm()

    async def _ready(self, request: Request) -> None:
        """Wait until the house is loaded, which may raise InputError; findings are in the page's language."""
        if self._warm is not None:
            await asyncio.shield(self._warm)
        language = request.headers.get("accept-language", "")[:2].lower()
        if language in get_args(Language) and language != self.writer.workspace.gate.lang:
            self._change_gate(lang=language)

    def _change_gate(self, **changes: Any) -> None:
        workspace = self.writer.workspace
        self.writer.workspace = replace(workspace, gate=replace(workspace.gate, **changes))

    async def state(self, request: Request) -> dict[str, Any]:
        """Return house, shows, model and what else the page shows at its start."""
        await self._ready(request)
        settings, workspace, budget = self.writer.settings, self.writer.workspace, self.writer.budget
        spent = {"spent": format_cost(budget.spent.cost), "spent_tokens": budget.spent.tokens}
        limits = {"amount": budget.amount and str(budget.amount), "tokens": budget.tokens}
        return {
            "version": __version__,
            "lang": workspace.gate.lang,
            "folder": str(settings.out),
            "house": {
                "name": workspace.house.name,
                "is_own": settings.house is not None,
                "forms": [_form_data(form) for form in workspace.house.forms.values()],
            },
            "shows": [
                {"name": show.name, "aliases": show.aliases, "cast": show.cast}
                for show in workspace.pool.shows
            ],
            "model": await asyncio.to_thread(self._model),
            "budget": {**limits, **spent} if any(limits.values()) else None,
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

    async def list_texts(self, request: Request) -> dict[str, Any]:
        """Return the saved texts that a query finds, and what is in the journal."""
        query = request.query_params
        found = await asyncio.to_thread(self.library.listed, query.get("query", ""), query.get("state", ""))
        return {**found, **await self.list_drafts(request)}

    async def open_text(self, request: Request) -> dict[str, Any]:
        """Return a saved text."""
        return await asyncio.to_thread(self.library.opened, request.path_params["id"])

    async def hash_text(self, request: Request) -> dict[str, Any]:
        """Return the hash of a saved text's file."""
        return {"hash": await asyncio.to_thread(self.library.hash, request.path_params["id"])}

    async def save_text(self, request: Request) -> Text:
        """Save a text, with the verdicts of a check; one that cannot be checked is saved all the same."""
        await self._ready(request)
        text = await _read(request, Text, id=request.path_params.get("id"))
        report = None
        with contextlib.suppress(InputError):
            report = await self.writer.check(text.as_source(), **text.given)
        return await asyncio.to_thread(self.library.save, text, report.findings if report else None)

    async def list_drafts(self, _: Request) -> dict[str, Any]:
        """Return what is in the journal."""
        drafts = [
            {
                "draft": each.draft,
                "id": text.id,
                "title": text.title,
                "show": text.brief.get("show"),
                "at": each.at,
            }
            for each in await asyncio.to_thread(self.journal.entries)
            if (text := each.text)
        ]
        return {"drafts": drafts}

    async def open_draft(self, request: Request) -> Text:
        """Return a text of the journal."""
        return (await asyncio.to_thread(self.journal.read, request.path_params["draft"])).text

    async def write_draft(self, request: Request) -> dict[str, Any]:
        """Write a text into the journal."""
        draft = request.path_params["draft"]
        text = await _read(request, Text, draft=draft)
        return {"at": await asyncio.to_thread(self.journal.write, draft, text)}

    async def delete_draft(self, request: Request) -> dict[str, Any]:
        """Delete a text of the journal."""
        await asyncio.to_thread(self.journal.delete, request.path_params["draft"])
        return {}

    async def list_versions(self, request: Request) -> dict[str, Any]:
        """Return the versions that led to a saved text, the newest first."""
        found = await asyncio.to_thread(self.library.versions, request.path_params["id"])
        versions = [
            {
                "id": f"{version.text}.{version.number}",
                "at": version.created,
                "maker": version.maker,
                "model": version.model,
                "request": version.request,
                "words": None if version.content is None else len(version.document.text.split()),
            }
            for version in found
        ]
        return {"versions": versions}

    async def open_version(self, request: Request) -> Text:
        """Return a version of a text."""
        return await asyncio.to_thread(self.library.version, request.path_params["version"])

    async def check(self, request: Request) -> dict[str, Any]:
        """Return what the gate finds in a text; nothing where the same draft was sent anew meanwhile."""
        await self._ready(request)
        text = await _read(request, Text)
        self._newest[text.draft] = request
        async with self._checking:
            if text.draft and self._newest.get(text.draft) is not request:
                return {"superseded": True}
            self._newest.pop(text.draft, None)
            return await check(self.writer, text)

    async def fix(self, request: Request) -> dict[str, Any]:
        """Return a text with all that code can put right."""
        await self._ready(request)
        return await fix(self.writer, await _read(request, Text))

    async def show_prompt(self, request: Request) -> dict[str, Any]:
        """Return what a model would be asked for a brief, and the examples in it; asks none."""
        await self._ready(request)
        brief = make_brief(**(await _read(request, Text)).asked)
        prompt, chosen = await asyncio.to_thread(
            lambda: (self.writer.prompt(brief), self.writer.select(brief))
        )
        return {
            "messages": [asdict(message) for message in prompt.messages],
            "examples": [
                {"id": each.example.id, "title": each.example.synopsis.title, "reason": each.why}
                for each in chosen
            ],
            "hash": prompt.hash,
            "tokens": prompt.tokens,
        }

    async def write(self, request: Request) -> dict[str, Any]:
        """Begin to write a text."""
        await self._ready(request)
        asked = await _read(request, _Write)
        return {"job": self.jobs.write(Text(brief=asked.brief), asked.best_of).id}

    async def revise(self, request: Request) -> dict[str, Any]:
        """Begin to revise a text."""
        await self._ready(request)
        wish = await _read(request, _Wish)
        wished = {name: value for name, value in wish if name != "text" and value}
        return {"job": self.jobs.revise(wish.text, wished).id}

    async def tell_lengths(self, request: Request) -> dict[str, Any]:
        """Begin to tell a text in other lengths."""
        await self._ready(request)
        asked = await _read(request, _Lengths)
        return {"job": self.jobs.lengths(asked.text, asked.forms).id}

    async def stream_job(self, request: Request) -> Response:
        """Return the events of a job, from the one after the last that is known."""
        job, known = self.jobs.find(request.path_params["job"]), request.headers.get("last-event-id", "")
        last = int(known) if known.isascii() and known.isdigit() else 0
        if job.has_ended and not any(number > last for number, *_ in job.events):
            return Response(status_code=204)  # a browser does not ask again then
        return StreamingResponse(job.stream(last), media_type="text/event-stream")

    async def stop_job(self, request: Request) -> dict[str, Any]:
        """Stop a job."""
        job = self.jobs.find(request.path_params["job"])
        if job.task is not None:
            job.task.cancel()
        return {}

    async def compare(self, request: Request) -> dict[str, Any]:
        """Return the words that two texts share, and those that only one has, a list for each paragraph.

        It is one list where one text has more paragraphs than the other.
        """
        pair = await _read(request, _Pair)
        if max(sum(map(len, pair.old)), sum(map(len, pair.new))) > _LONGEST_COMPARED:
            raise InputError(f"a text has over {_LONGEST_COMPARED:,} characters: that is no synopsis")
        texts = zip(pair.old, pair.new, strict=False)
        if len(pair.old) != len(pair.new):
            texts = zip(["\n\n".join(pair.old)], ["\n\n".join(pair.new)], strict=True)
        kinds = {"=": "same", "-": "out", "+": "in"}
        return {
            "pieces": [
                [{"kind": kinds[kind], "text": words} for kind, words in word_diff(old, new)]
                for old, new in texts
            ]
        }

    async def release(self, request: Request) -> Text:
        """Release a saved text."""
        await self._ready(request)
        asked = await _read(request, _Release)
        try:
            return await asyncio.to_thread(
                self.library.release, asked.id, asked.hash, asked.by, asked.waivers
            )
        except NotReleasedError as error:
            raise _RefusedError(error.report) from error

    async def export(self, request: Request) -> Response:
        """Return saved texts as a file for a receiver."""
        await self._ready(request)
        names, kind = request.query_params.getlist("id"), request.query_params.get("format", "")

        def render() -> Response:
            documents = [read_document(self.library.path(name)) for name in names]
            content = export(documents, kind, self.writer.workspace.house.orthography)
            name = documents[0].path.stem if len(documents) == 1 else "synopsen"
            head = {"Content-Disposition": f'attachment; filename="{slug(name)}.{kind}"'}
            return Response(content, headers=head, media_type=_TYPES.get(kind, "text/plain"))

        return await asyncio.to_thread(render)

    async def import_file(self, request: Request) -> dict[str, Any]:
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

    async def add_word(self, request: Request) -> dict[str, Any]:
        """Add a word to those that the house knows."""
        await self._ready(request)
        word, settings = (await _read(request, _Word)).word.strip(), self.writer.settings
        await asyncio.to_thread(accept_words, settings, [word])
        self._change_gate(house=await asyncio.to_thread(open_house, settings))
        return {}

    async def open_folder(self, request: Request) -> dict[str, Any]:
        """Return the rows of a batch or an eval run below the working directory; without a path, which."""
        query = request.query_params
        offset = query.get("offset", "")
        first = int(offset) if offset.isascii() and offset.isdigit() else 0
        return await asyncio.to_thread(_folder, query.get("path", ""), first)

    async def rate(self, request: Request) -> dict[str, Any]:
        """Record which text of a pair is better, if a pair is named; return the next one."""
        await self._ready(request)
        asked = await _read(request, _Rating)

        def rate() -> dict[str, Any]:
            rater = self._rater(asked.run, asked.other, asked.suite, asked.rater)
            if asked.pair is not None:
                rater.rate(asked.pair, asked.choice)
            pair = rater.next()
            texts = pair and (pair.first.synopsis, pair.second.synopsis, pair.case.reference)
            return {"done": rater.done, "pairs": len(rater.pairs), "id": pair and pair.id, "texts": texts,
                    "brief": pair and pair.case.brief}  # fmt: skip

        return await asyncio.to_thread(rate)

    def _rater(self, *asked: str) -> Rater:
        if asked not in self._raters:
            run, other, suite, name = asked
            cases = load_suite(Path(suite) if suite else default_suite(), ALL_METRICS)
            runs = [open_results(_below(each), cases, self.writer.workspace) for each in (run, other) if each]
            parts = parts_between(*runs) if other else parts_within(*runs)
            texts = [(first.rows, second.rows) for first, second in parts]
            self._raters[asked] = Rater(_below(run), name, texts, cases.cases)
        return self._raters[asked]


def _form_data(form: Form) -> Mapping[str, Any]:
    limits, unit = form.length
    return {
        "name": form.name,
        "purpose": form.purpose,
        **{name: limits if name == unit else None for name in ("words", "characters", "bytes")},
        "paragraphs": form.paragraphs,
        "headline": form.headline,
        "strands": form.strands,
    }


def _folder(path: str, first: int) -> dict[str, Any]:
    here = Path.cwd().resolve()
    if not path:
        return {"kind": "none", "folders": sorted(_folders(here)), "rows": []}
    folder = _below(path)
    if (folder / RECORD_FILE).is_file():
        kind, rows = "batch", list(_batch_rows(folder, first))
    elif (folder / RUN_FILE).is_file():
        kind, rows = "eval", list(_run_rows(folder, first))
    else:
        raise FileError(f"{path[:80]}: holds neither a batch nor an eval run: name another folder")
    return {"kind": kind, "rows": rows[:_MOST_ROWS], "more": len(rows) > _MOST_ROWS}


def _below(path: str) -> Path:
    """Return a folder below the working directory; raises InputError for any other."""
    here = Path.cwd().resolve()
    if "\0" in path or not (here / path).resolve().is_relative_to(here):
        raise InputError(f"{path[:80]!a}: is no folder below {here}: start the page where it is")
    return here / path


def _folders(here: Path) -> Iterator[str]:
    for depth in range(1, _DEPTH + 1):
        for name in (RECORD_FILE, RUN_FILE):
            for path in here.glob("/".join(["*"] * depth + [name])):
                yield path.parent.relative_to(here).as_posix()


def _batch_rows(folder: Path, first: int) -> Iterator[dict[str, Any]]:
    sql = "SELECT id, brief, status, reason, synopsis FROM rows ORDER BY place LIMIT ? OFFSET ?"
    with read_batch(folder) as batch:
        for name, asked, status, reason, synopsis in batch.query(sql, _MOST_ROWS + 1, first):
            meta: dict[str, Any] = {"brief": batch_brief(name, asked).as_data()}
            text = batch_synopsis(name, synopsis) if synopsis else None
            meta |= text.front_matter() if text else {}
            yield _row(str(name), status, reason, meta, text.text if text else "")


def _run_rows(folder: Path, first: int) -> Iterator[dict[str, Any]]:
    for row in list(read_rows(folder).values())[first : first + _MOST_ROWS + 1]:
        text = row.synopsis
        meta = text.front_matter() if text else None
        yield _row("/".join(map(str, row.id)), row.outcome, row.reason, meta, text.text if text else "")


def _row(key: str, state: str, reason: str | None, meta: dict[str, Any] | None, body: str) -> dict[str, Any]:
    text = None if meta is None else text_of(Document(Path("text"), meta, body))
    return {
        "key": key,
        "title": text.title if text else "",
        "state": state,
        "reason": reason or "",
        "text": text,
    }
