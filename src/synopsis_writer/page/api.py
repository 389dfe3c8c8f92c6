"""What the page can ask for besides texts and jobs: each method answers one kind of request."""

import asyncio
import contextlib
import secrets
import unicodedata
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.requests import Request
from starlette.routing import Router

from synopsis_writer.batch import store
from synopsis_writer.brief import make_brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, InputError, SettingsError, SynopsisError
from synopsis_writer.evals import record, results
from synopsis_writer.evals.metrics import ALL_METRICS
from synopsis_writer.evals.ratings import Rater
from synopsis_writer.evals.suite import default_suite, load_suite
from synopsis_writer.formats.reading import READERS, parse_sources
from synopsis_writer.formats.sheets import SHEETS
from synopsis_writer.gate.form import count_characters
from synopsis_writer.gate.messages import Language, check_names
from synopsis_writer.gate.text import word_spans
from synopsis_writer.house.house import accept_words, open_house
from synopsis_writer.log import word_diff
from synopsis_writer.page.jobs import Jobs
from synopsis_writer.page.library import Journal, Library
from synopsis_writer.page.routing import body_of, route, routes_of
from synopsis_writer.page.texts import Part, Text, findings_data, text_of, usable
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Writer

_MOST_IMPORTED = 2_000_000  # bytes
_LONGEST_COMPARED = 50_000  # characters
_MOST_ROWS = 1_000  # of a batch or a run
_SAMPLE = "Er geht nach Hause, und sie bleibt."  # checked at the start: all of the gate is loaded then
_WAYS_OUT = (
    {"kind": "embedded", "command": "pip install 'synopsis-writer[local]'"},
    {"kind": "key", "command": "OPENAI_API_KEY=… synopsis page"},
    {"kind": "server", "command": "synopsis page --base-url http://127.0.0.1:8080/v1 --model NAME"},
)
_DIFFERENCES = {"=": "same", "-": "out", "+": "in"}


class Api:
    """Answers the page's requests with one `Writer`, open for as long as the server runs."""

    def __init__(self, writer: Writer, on_warm: Callable[[], None]) -> None:
        self.writer, self._on_warm = writer, on_warm
        journal = Journal(writer.settings.log.parent / "drafts")
        self.jobs = Jobs(writer, journal)
        self._checking = asyncio.Lock()
        self._newest: dict[str, Text] = {}  # of each draft, to check
        self._raters: dict[tuple[str, ...], Rater] = {}
        owners = (Library(writer, journal), journal, self.jobs, self)
        self.router = Router(routes_of(owners, self._ready), redirect_slashes=False)

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

    @route("GET /state")
    def _state(self) -> dict[str, Any]:
        workspace, budget = self.writer.workspace, self.writer.budget
        limits = {"amount": budget.amount and str(budget.amount), "tokens": budget.tokens}
        forms = [
            {"name": form.name, "purpose": form.purpose, "paragraphs": form.paragraphs, unit: length}
            for form in workspace.house.forms.values()
            for length, unit in [form.length]
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

    @route("POST /check")
    async def _check(self, text: Text) -> dict[str, Any]:
        """Return what the gate finds in a text; nothing where the same draft was sent anew meanwhile."""
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
                    _row(str(name), status, reason, synopsis and store.read_synopsis(name, synopsis),
                         store.read_brief(name, brief).as_data())
                    for name, status, reason, brief, synopsis in batch.query(sql, _MOST_ROWS)
                ]  # fmt: skip
                count = batch.counts().rows
        elif (folder / record.RUN_FILE).is_file():
            kind, run = "eval", record.read_rows(folder)
            first = islice(run.values(), _MOST_ROWS)
            rows = [_row("/".join(map(str, row.id)), row.outcome, row.reason, row.synopsis) for row in first]
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
            cases = load_suite(Path(suite) if suite else default_suite(), ALL_METRICS)
            workspace, folders = self.writer.workspace, [_below(each) for each in (run, other) if each]
            workspace, folders = self.writer.workspace, [_below(each) for each in (run, other) if each]
            workspace, folders = self.writer.workspace, [_below(each) for each in (run, other) if each]
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


def _row(key: str, state: str, reason: str | None, synopsis: Synopsis | None, brief: Any = None) -> Any:
    front = {"brief": brief, **(synopsis.front_matter() if synopsis else {})}
    document = Document(Path("text"), front, synopsis.text if synopsis else "")
    text = text_of(document) if brief or synopsis else None
    return {"key": key, "state": state, "reason": reason or "", "text": text}


def _below(path: str) -> Path:
    here = Path.cwd().resolve()
    if "\0" in path or not (here / path).resolve().is_relative_to(here):
        raise InputError(f"{path[:80]!a}: is no folder below {here}: start the page where it is")
    return here / path
