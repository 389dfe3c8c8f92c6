"""The page's requests besides jobs: each method answers one kind."""

import asyncio
import contextlib
import hashlib
import secrets
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from synopsis_writer.batch import store
from synopsis_writer.brief import make_brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document, format_document, parse_document
from synopsis_writer.errors import FileError, InputError, SettingsError, SynopsisError
from synopsis_writer.evals import metrics, record, results
from synopsis_writer.evals.judge import Rater
from synopsis_writer.evals.suite import default_suite, load_suite
from synopsis_writer.formats.reading import READERS, parse_sources
from synopsis_writer.formats.sheets import SHEETS, export
from synopsis_writer.gate.finding import Language, check_names
from synopsis_writer.gate.form import count_characters
from synopsis_writer.gate.text import word_spans
from synopsis_writer.house import accept_words, open_house
from synopsis_writer.log import Version, word_diff
from synopsis_writer.page.jobs import Draft, Jobs, Journal, logged_errors
from synopsis_writer.page.routing import AnswerError, body_of, route, routes_of
from synopsis_writer.page.texts import Part, Text, findings_data, text_of, usable
from synopsis_writer.releasing import SUFFIXES, release
from synopsis_writer.result import verdicts
from synopsis_writer.storage.files import find_files, read_input, real_path, save, slug, write_file
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Writer

_MOST_IMPORTED, _LONGEST_COMPARED, _MOST_ROWS = 2_000_000, 50_000, 1_000  # bytes, characters, rows
_SAMPLE = "Er geht nach Hause, und sie bleibt."  # checked at the start: all of the gate is loaded then
_WAYS_OUT = (
    {"kind": "embedded", "command": "pip install 'synopsis-writer[local]'"},
    {"kind": "key", "command": "OPENAI_API_KEY=… synopsis page"},
    {"kind": "server", "command": "synopsis page --base-url http://127.0.0.1:8080/v1 --model NAME"},
)
_LONGEST_ID, _MOST_LISTED = 500, 2_000
_PASSING = {"draft", "hash", "request", "state"}  # what of a text is not its content
_DIFFERENCES = {"=": "same", "-": "out", "+": "in"}


class Api:
    """Answers the page's requests with one `Writer`, open for as long as the server runs."""

    def __init__(self, writer: Writer, on_warm: Callable[[], None]) -> None:
        self.writer, self._on_warm = writer, on_warm
        self._folder = writer.settings.out  # of saved texts, each a Markdown file
        self._journal = Journal(writer.settings.log.parent / "drafts")
        self.jobs = Jobs(writer, self._journal)
        self._rows: dict[Path, tuple[int, dict[str, Any], str]] = {}  # of saved texts: time, row, words
        self._lock = threading.Lock()  # from comparing a file to writing it
        self._checking = asyncio.Lock()
        self._newest: dict[str, Text] = {}  # of each draft, to check
        self._raters: dict[tuple[str, ...], Rater] = {}
        self.router = Router(routes_of((self._journal, self.jobs, self), self._ready), redirect_slashes=False)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the model's connection open, and load in the background what the first requests need."""
        async with self.writer:
            self._warm = asyncio.create_task(self.writer.check(_SAMPLE))
            self._warm.add_done_callback(lambda done: done.cancelled() or done.exception() or self._on_warm())
            try:
                yield
            finally:
                self._warm.cancel()
                await self.jobs.stop()
        self.writer.close()

    async def _ready(self, request: Request) -> None:
        """Wait until the house is loaded, which may raise InputError; findings are in the page's language."""
        await asyncio.shield(self._warm)
        language = request.headers.get("accept-language", "")[:2].lower()
        if language in get_args(Language) and language != self.writer.workspace.gate.lang:
            self._change_gate(lang=language)

    def _change_gate(self, **changes: Any) -> None:
        workspace = self.writer.workspace
        self.writer.workspace = replace(workspace, gate=replace(workspace.gate, **changes))

    @route("GET /state")
    def _state(self) -> dict[str, Any]:
        workspace, budget = self.writer.workspace, self.writer.budget
        limits = {"amount": budget.amount and str(budget.amount), "tokens": budget.tokens}
        forms = [
            {**form.model_dump(include={"name", "purpose", "paragraphs"}), form.length[1]: form.length[0]}
            for form in workspace.house.forms.values()
        ]
        is_own = self.writer.settings.house is not None
        return {
            "house": {"name": workspace.house.name, "is_own": is_own, "forms": forms},
            "shows": [show.model_dump(exclude={"place"}) for show in workspace.pool.shows],
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

    def _path(self, name: str) -> Path:
        wrong = "\\" in name or len(name) > _LONGEST_ID or not name.isprintable()
        if wrong or any(not part or part.startswith(".") for part in name.split("/")):
            raise InputError(f"{name[:80]!a}: is no saved text: name a file below the folder of saved texts")
        path = self._folder / name
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{name[:80]}: is no saved text: those are Markdown files (.md)")
        if path.is_symlink() or not real_path(path).is_relative_to(real_path(self._folder)):
            raise InputError(f"{name[:80]}: is a link out of the folder of saved texts: open it where it is")
        if not path.is_file():
            raise AnswerError(404, f"{name[:80]}: no such text: it was moved or deleted")
        return path

    def _read(self, name: str) -> tuple[Text, Document]:
        path = self._path(name)
        data = read_input(path)
        document = parse_document(data, path)
        place = str(path.absolute()).encode("utf-8", "surrogatepass")
        draft = f"d-{hashlib.sha256(place).hexdigest()[:20]}"
        return text_of(document, id=name, draft=draft, hash=hashlib.sha256(data).hexdigest()), document

    @route("GET /texts", at_once=True)
    def _list(self, query: str = "", state: str = "") -> dict[str, Any]:
        files = find_files(self._folder, "**/*") if self._folder.is_dir() else []
        found = [self._row(path) for path in files if path.suffix.lower() in SUFFIXES]
        wanted = query.casefold().split()
        rows = [
            row for row, words in found
            if row and state in {"", row["state"]} and all(word in words for word in wanted)
        ]  # fmt: skip
        rows.sort(key=lambda row: str(row["changed"]), reverse=True)
        more = max(0, len(rows) - _MOST_LISTED)
        return {"texts": rows[:_MOST_LISTED], "more": more, **self._list_drafts()}

    def _row(self, path: Path) -> tuple[dict[str, Any], str]:
        try:
            time = path.stat().st_mtime_ns
            if self._rows.get(path, (0,))[0] != time:
                text, document = self._read(path.relative_to(self._folder).as_posix())
                show, people = str(text.brief["show"]), [person.name for person in text.characters]
                changed = datetime.fromtimestamp(time / 1e9, UTC).isoformat(timespec="seconds")
                row = {"show": show, "form": text.brief["form"], "changed": changed}
                row |= {"title": text.title or path.stem, "words": len(word_spans(document.text))}
                row |= text.model_dump(include={"id", "state", "story"})
                words = "\n".join((text.title, show, *people, text.logline, document.text)).casefold()
                self._rows[path] = time, row, words
        except (OSError, InputError):
            return {}, ""  # `synopsis check` says what is wrong with it
        return self._rows[path][1:]

    @route("GET /journal", at_once=True)
    def _list_drafts(self) -> dict[str, Any]:
        rows = [
            {"draft": each.draft, "at": each.at, "show": each.text.brief.get("show"),
             "id": each.text.id, "title": each.text.title}
            for each in self._drafts()
        ]  # fmt: skip
        return {"drafts": rows}

    def _drafts(self) -> list[Draft]:
        found = []
        for each in self._journal.entries():
            saved = None
            with contextlib.suppress(InputError):
                saved = each.text.id and self._read(each.text.id)[0]
            if saved and saved.model_dump(exclude=_PASSING) == each.text.model_dump(exclude=_PASSING):
                self._journal.delete(each.draft)
            else:
                found.append(each)
        return found

    @route("GET /texts/{id:path}/hash", at_once=True)
    def _hash(self, id: str) -> dict[str, Any]:
        return {"hash": self._read(id)[0].hash}

    @route("GET /texts/{id:path}/versions", at_once=True)
    def _versions(self, id: str) -> dict[str, Any]:
        versions = [
            {
                "id": f"{version.text}.{version.number}",
                "at": version.created,
                **{name: getattr(version, name) for name in ("maker", "model", "request")},
                "words": None if version.content is None else len(version.document.text.split()),
            }
            for version in self.writer.log.versions_of(self._read(id)[1])[::-1]
        ]
        return {"versions": versions}

    @route("GET /versions/{id}", at_once=True)
    def _version(self, id: str) -> Text:
        text, _, number = id.rpartition(".")
        for version in self.writer.log.versions(text):
            if str(version.number) == number:
                return text_of(version.document)
        raise AnswerError(404, f"no version {id[:40]}: it was removed from the log")

    @route("GET /texts/{id:path}", at_once=True)
    def _open(self, id: str) -> dict[str, Any]:
        text = self._read(id)[0]
        typed = next((each for each in self._drafts() if each.text.id == id), None)
        return {**dict(text), "journal": typed and typed.model_dump(mode="json", exclude={"made"})}

    @route("GET /export")
    def _export(self, id: str, format: str) -> Response:
        document = self._read(id)[1]
        content = export([document], format, self.writer.workspace.house.orthography)
        head = {"Content-Disposition": f'attachment; filename="{slug(document.path.stem)}.{format}"'}
        return Response(content, headers=head, media_type="application/octet-stream")

    @route("POST /release")
    def _release(self, id: str, hash: str, by: str, waivers: Mapping[str, str] = {}) -> Text:
        with self._lock:
            release(self._unchanged(id, hash).path, by, waivers=waivers, writer=self.writer)
            return self._read(id)[0]

    def _unchanged(self, name: str, seen: str) -> Document:
        text, document = self._read(name)
        if text.hash != seen:
            raise AnswerError(409, f"{name}: has changed on the disk since it was opened", current=text)
        return document

    @route("POST /texts")
    async def _save_new(self, text: Text) -> Text:
        return await self._save(text.model_copy(update={"id": None}))

    @route("PUT /texts/{id:path}")
    async def _save(self, text: Text) -> Text:
        gate = {}
        with contextlib.suppress(InputError):
            gate = {"gate": verdicts((await text.check(self.writer)).findings)}
        return await asyncio.to_thread(self._write, text, gate)

    def _write(self, text: Text, gate: Mapping[str, Any]) -> Text:
        run, old, parent = text.origin.get("run"), None, None
        # What a model wrote in the same run: the draft of this text, or else the newest.
        entries = [each for each in self._journal.entries() if run and each.made]
        made = [each for each in entries if each.made and each.made.origin.get("run") == run]
        made.sort(key=lambda each: text.draft not in {each.draft, ""})
        with self._lock:
            if text.id is not None:
                old = self._unchanged(text.id, text.hash)
                with logged_errors():
                    parent = self.writer.log.touch(old, begin=True)
            more = text.origin if old is None or text.request is not None else {}
            rest = {**(old.meta if old else {}), **more, **gate}
            document = text.document(old.path if old else Path("text"), rest, self.writer)
            content, path = format_document(document.meta, document.text), document.path
            if old is not None:
                write_file(path, content)
            else:
                title, folder = text.title, self._folder
                if text.beside:
                    first, form = self._path(text.beside), slug(str(text.asked.get("form", "")), 30)
                    title, folder = f"{slug(first.stem, 59 - len(form))}-{form}", first.parent
                elif "brief" in document.meta:
                    show = self.writer.workspace.find_show(str(document.meta["brief"]["show"]))
                    folder /= show.slug
                path = save(content, folder, title, "md", within=self._folder)
            saved, document = self._read(path.relative_to(self._folder).as_posix())
        with logged_errors():
            self._record(document, text, made[0].made if made else None, parent)
        for draft in {text.draft, saved.draft, *(each.draft for each in made)} - {""}:
            self._journal.delete(draft)
        return saved

    def _record(self, document: Document, text: Text, made: Text | None, parent: Version | None) -> None:
        """Record who wrote what: the model's words first, then what a person made of them."""
        log, model, run = self.writer.log, text.origin.get("model"), text.origin.get("run")
        is_model = text.request is not None or (parent is None and model is not None)
        more: dict[str, Any] = {"model": model and str(model), "request": text.request}
        if is_model and made is not None and made.body != text.body:
            words = replace(document, text=made.body)
            parent, is_model = log.add_version(words, "model", parent=parent, **more), False
        if is_model:
            log.add_version(document, "model", parent=parent, **more)
        elif parent is None or parent.content != format_document(document.meta, document.text):
            log.add_version(document, "person", parent=parent)
        if text.id is None and isinstance(run, str):
            log.saved(run, document.path)

    @route("POST /check")
    async def _check(self, text: Text) -> dict[str, Any]:
        """Return what the gate finds in a text; nothing if the same draft was sent again meanwhile."""
        self._newest[text.draft] = text
        async with self._checking:
            if text.draft and self._newest.get(text.draft) is not text:
                return {"superseded": True}
            self._newest.pop(text.draft, None)
            asked, problem = usable(text.asked)
            counts = {"words": 0, "characters": 0, "bytes": 0}
            if not text.body.strip():
                return {"findings": [], "passed": False, "counts": counts, "limits": {}, "problem": problem}
            report = await text.check(self.writer)
        form = self.writer.workspace.house.form(report.form)
        if {"show", "theme"} <= asked.keys():
            form = form.with_length(*make_brief(**asked).length)
        limits, unit = form.length
        whole = [unicodedata.normalize("NFC", text.body), *([text.title] if form.title_counts else [])]
        counts["words"] = sum(len(word_spans(part)) for part in whole)
        counts["characters"] = sum(map(count_characters, whole))
        line = " ".join(" ".join(whole).split())
        counts["bytes"] = len(line.encode(form.encoding or "utf-8", "replace"))
        allowed = {name: limits if name == unit else None for name in counts}
        findings = await asyncio.to_thread(findings_data, report.findings, text)
        found = {"findings": findings, "passed": report.passed, "form": report.form}
        return {**found, "counts": counts, "limits": allowed, "problem": problem}

    @route("POST /fix")
    async def _fix(self, text: Text) -> dict[str, Any]:
        if not (parts := text.parts):
            return {"text": text, "fixed": []}
        whole = text.model_copy(update={"paragraphs": parts})
        report = await whole.check(self.writer, fix=True)
        pairs = zip(parts, report.text.split("\n\n"), strict=True)
        fixed = tuple(Part(storyline=part.storyline, text=piece) for part, piece in pairs)
        return {"text": whole.model_copy(update={"paragraphs": fixed}), "fixed": list(report.fixed)}

    @route("POST /words")
    def _add_word(self, word: str) -> None:
        accept_words(self.writer.settings, [word.strip()])
        self._change_gate(house=open_house(self.writer.settings))

    @route("POST /prompt")
    def _show_prompt(self, text: Text) -> dict[str, Any]:
        brief = make_brief(**text.asked)
        prompt, chosen = self.writer.prompt(brief), self.writer.select(brief)
        examples = [{"title": each.example.synopsis.title, "reason": each.why} for each in chosen]
        return {"messages": [asdict(message) for message in prompt.messages], "examples": examples}

    @route("POST /diff", at_once=True)
    def _compare(self, old: Sequence[str], new: Sequence[str]) -> dict[str, Any]:
        """Return the words that two texts share or only one has, by paragraph if both have as many."""
        if max(sum(map(len, old)), sum(map(len, new))) > _LONGEST_COMPARED:
            raise InputError(f"a text has over {_LONGEST_COMPARED:,} characters: that is no synopsis")
        if len(old) != len(new):
            old, new = ["\n\n".join(old)], ["\n\n".join(new)]
        pieces = [
            [{"kind": _DIFFERENCES[kind], "text": words} for kind, words in word_diff(before, after)]
            for before, after in zip(old, new, strict=True)
        ]
        return {"pieces": pieces}

    @route("POST /import", at_once=True)
    async def _import_file(self, request: Request) -> dict[str, Any]:
        body, name = await body_of(request, _MOST_IMPORTED), request.query_params.get("name", "")
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

    @route("GET /folder", at_once=True)
    def _open_folder(self, path: str = "") -> dict[str, Any]:
        folder, kind = _below(path), "batch"
        if (folder / store.RECORD_FILE).is_file():
            sql = "SELECT id, status, reason, brief, synopsis FROM rows ORDER BY place LIMIT ?"
            with store.read_batch(folder) as batch:
                rows = [
                    _listed(str(name), status, reason, synopsis and store.read_synopsis(name, synopsis),
                         store.read_brief(name, brief).as_data())
                    for name, status, reason, brief, synopsis in batch.query(sql, _MOST_ROWS)
                ]  # fmt: skip
                count = batch.counts().rows
        elif (folder / record.RUN_FILE).is_file():
            kind, run = "eval", record.read_rows(folder)
            first = islice(run.values(), _MOST_ROWS)
            rows = [_listed("/".join(map(str, row.id)), row.outcome, row.reason, row.synopsis) for row in first]
            count = len(run)
        else:
            raise FileError(f"{path[:80]}: holds neither a batch nor an eval run: name another folder")
        return {"kind": kind, "rows": rows, "more": count - len(rows)}

    @route("POST /rate")
    def _rate(
        self, run: str, rater: str, other: str = "", suite: str = "", pair: str | None = None,
        choice: Literal[0, 1, 2] = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Record which text of a pair is better, if a pair is named; return the next one."""
        asked = (run, other, suite, rater)
        if asked not in self._raters:
            cases = load_suite(Path(suite) if suite else default_suite(), metrics.ALL_METRICS)
            workspace, folders = self.writer.workspace, [_below(each) for each in (run, other) if each]
            runs = [results.open_results(each, cases, workspace) for each in folders]
            texts = [(first.rows, second.rows) for first, second in results.pair_parts(*runs)]
            self._raters[asked] = Rater(_below(run), rater, texts, cases.cases)
        ratings = self._raters[asked]
        if pair is not None:
            ratings.rate(pair, choice)
        shown: dict[str, Any] = {"done": ratings.done, "pairs": len(ratings.pairs), "id": None}
        if (drawn := ratings.next()) is not None:
            synopses = (drawn.first.synopsis, drawn.second.synopsis, drawn.case.reference)
            shown |= {"id": drawn.id, "texts": synopses, "brief": drawn.case.brief}
        return shown


def _listed(key: str, state: str, reason: str | None, synopsis: Synopsis | None, brief: Any = None) -> Any:
    front = {"brief": brief, **(synopsis.front_matter() if synopsis else {})}
    document = Document(Path("text"), front, synopsis.text if synopsis else "")
    text = text_of(document) if brief or synopsis else None
    return {"key": key, "state": state, "reason": reason or "", "text": text}


def _below(path: str) -> Path:
    here = Path.cwd().resolve()
    if "\0" in path or not real_path(here / path).is_relative_to(here):
        raise InputError(f"{path[:80]!a}: is no folder below {here}: start the page where it is")
    return here / path
