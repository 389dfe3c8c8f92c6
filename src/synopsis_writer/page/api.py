"""What the page can ask for: each method answers one kind of request, with what the commands use."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from starlette.responses import Response, StreamingResponse

from synopsis_writer import __version__
from synopsis_writer.brief import make_brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import read_document
from synopsis_writer.errors import InputError, SettingsError, SynopsisError
from synopsis_writer.formats.reading import READERS, parse_sources
from synopsis_writer.formats.sheets import SHEETS, export
from synopsis_writer.gate.messages import Language
from synopsis_writer.house.form import Form
from synopsis_writer.house.house import accept_words, open_house
from synopsis_writer.log import word_diff
from synopsis_writer.page import folders
from synopsis_writer.page.calls import Call
from synopsis_writer.page.jobs import Jobs
from synopsis_writer.page.texts import Journal, Library, check, fix, read_text, text_of
from synopsis_writer.storage.files import slug
from synopsis_writer.usage import format_cost
from synopsis_writer.writer import Writer

_LONGEST_COMPARED = 50_000  # characters
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


class Api:
    """Answers the page's requests with one `Writer`, open for as long as the server runs."""

    def __init__(self, writer: Writer, on_warm: Callable[[], None]) -> None:
        self.writer, self._on_warm = writer, on_warm
        self.journal = Journal(writer.settings.log.parent / "drafts")
        self.library = Library(writer, self.journal)
        self.jobs = Jobs(writer, self.journal)
        self._warm: asyncio.Task[None] | None = None
        self._checking = asyncio.Lock()
        self._newest: dict[str, Call] = {}  # check of each draft

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

    async def _ready(self, call: Call) -> None:
        """Wait until the house is loaded, and have findings in the request's language.

        Raises InputError where it cannot be loaded.
        """
        if self._warm is not None:
            await asyncio.shield(self._warm)
        if call.language in get_args(Language) and call.language != self.writer.workspace.gate.lang:
            self._change_gate(lang=call.language)

    def stop(self) -> None:
        """End all jobs."""
        self.jobs.stop()

    async def state(self, call: Call) -> dict[str, Any]:
        """Return house, shows, model and what else the page shows at its start."""
        await self._ready(call)
        settings, workspace = self.writer.settings, self.writer.workspace
        house = workspace.house
        return {
            "version": __version__,
            "lang": workspace.gate.lang,
            "folder": str(settings.out),
            "house": {
                "name": house.name,
                "forms": [_form_data(form) for form in house.forms.values()],
                "marks": house.quotation_marks,
            },
            "shows": [
                {
                    "name": show.name,
                    "aliases": show.aliases,
                    "cast": [{"name": member.name, "role": member.role} for member in show.cast],
                }
                for show in workspace.pool.shows
            ],
            "model": await asyncio.to_thread(self._model),
            "budget": self._budget(),
            "formats": [name for name in SHEETS if name != "docx" or find_spec("docx")],
        }

    def _model(self) -> dict[str, Any]:
        try:
            name, is_packaged = self.writer.model_name, False
            why = ""
            with contextlib.suppress(SettingsError):
                why = self.writer.model.why
                is_packaged = self.writer.is_local and self.writer.model.kind == "packaged"
        except SynopsisError as error:
            return {
                "name": None,
                "why": str(error),
                "can_write": False,
                "can_revise": False,
                "ways_out": _WAYS_OUT,
            }
        return {"name": name, "why": why, "can_write": True, "can_revise": not is_packaged, "ways_out": []}

    def _budget(self) -> dict[str, Any] | None:
        budget = self.writer.budget
        if budget.amount is None and budget.tokens is None:
            return None
        amount = None if budget.amount is None else str(budget.amount)
        spent = {"spent": format_cost(budget.spent.cost), "spent_tokens": budget.spent.tokens}
        return {"amount": amount, "tokens": budget.tokens, **spent}

    def list_texts(self, call: Call) -> dict[str, Any]:
        """Return the saved texts that a query finds, and what is in the journal."""
        found = self.library.listed(call.query.get("query", ""), call.query.get("state", ""))
        return {**found, **self.list_drafts(call)}

    def open_text(self, call: Call) -> dict[str, Any]:
        """Return a saved text."""
        return self.library.opened(call.path["id"])

    def hash_text(self, call: Call) -> dict[str, Any]:
        """Return the hash of a saved text's file."""
        return {"hash": self.library.hash(call.path["id"])}

    async def save_text(self, call: Call) -> Any:
        """Save a text, with the verdicts of a check; one that cannot be checked is saved all the same."""
        await self._ready(call)
        text = await asyncio.to_thread(read_text, {**call.fields, "id": call.path.get("id")})
        report = None
        with contextlib.suppress(InputError):
            report = await self.writer.check(text.as_source(), **text.given)
        findings = None if report is None else report.findings
        return await asyncio.to_thread(self.library.save, text, findings)

    def list_drafts(self, _: Call) -> dict[str, Any]:
        """Return what is in the journal."""
        return {
            "drafts": [
                {
                    "draft": draft.draft,
                    "id": draft.text.id,
                    "title": draft.text.title,
                    "show": draft.text.brief.get("show", ""),
                    "at": draft.at,
                }
                for draft in self.journal.entries()
            ]
        }

    def open_draft(self, call: Call) -> Any:
        """Return a text of the journal."""
        return self.journal.read(call.path["draft"]).text

    def write_draft(self, call: Call) -> dict[str, Any]:
        """Write a text into the journal."""
        text = read_text({**call.fields, "draft": call.path["draft"]})
        return {"at": self.journal.write(text.draft, text)}

    def delete_draft(self, call: Call) -> dict[str, Any]:
        """Delete a text of the journal."""
        self.journal.delete(call.path["draft"])
        return {}

    def list_versions(self, call: Call) -> dict[str, Any]:
        """Return the versions that led to a saved text, the newest first."""
        return {
            "versions": [
                {
                    "id": f"{version.text}.{version.number}",
                    "at": version.created,
                    "maker": version.maker,
                    "model": version.model,
                    "request": version.request,
                    "words": None if version.content is None else len(version.document.text.split()),
                }
                for version in self.library.versions(call.path["id"])
            ]
        }

    def open_version(self, call: Call) -> Any:
        """Return a version of a text."""
        return self.library.version(call.path["version"])

    async def check(self, call: Call) -> dict[str, Any]:
        """Return what the gate finds in a text; nothing where the same draft was sent anew meanwhile."""
        await self._ready(call)
        text = await asyncio.to_thread(read_text, call.fields)
        self._newest[text.draft] = call
        async with self._checking:
            if text.draft and self._newest.get(text.draft) is not call:
                return {"superseded": True}
            self._newest.pop(text.draft, None)
            return await check(self.writer, text)

    async def fix(self, call: Call) -> dict[str, Any]:
        """Return a text with all that code can put right."""
        await self._ready(call)
        return await fix(self.writer, await asyncio.to_thread(read_text, call.fields))

    async def show_prompt(self, call: Call) -> dict[str, Any]:
        """Return what a model would be asked for a brief, and the examples in it; asks none."""
        await self._ready(call)
        brief = make_brief(**read_text(call.fields).asked)

        def render() -> dict[str, Any]:
            prompt, chosen = self.writer.prompt(brief), self.writer.select(brief)
            examples = [
                {"id": each.example.id, "title": each.example.synopsis.title, "reason": each.why}
                for each in chosen
            ]
            messages = [asdict(message) for message in prompt.messages]
            return {
                "messages": messages,
                "examples": examples,
                "hash": prompt.hash,
                "tokens": prompt.tokens,
            }

        return await asyncio.to_thread(render)

    async def write(self, call: Call) -> dict[str, Any]:
        """Begin to write a text."""
        await self._ready(call)
        best_of = call.fields.get("best_of", 1)
        return {"job": self.jobs.write(read_text(call.fields), best_of if isinstance(best_of, int) else 1).id}

    async def revise(self, call: Call) -> dict[str, Any]:
        """Begin to revise a text."""
        await self._ready(call)
        names = ("note", "paragraphs", "keep", "variants", "only", "words", "character_count", "form")
        wish = {name: call.fields[name] for name in names if call.fields.get(name)}
        return {"job": self.jobs.revise(read_text(call.fields.get("text")), wish).id}

    async def tell_lengths(self, call: Call) -> dict[str, Any]:
        """Begin to tell a text in other lengths."""
        await self._ready(call)
        forms = call.fields.get("forms")
        names = [str(name) for name in forms] if isinstance(forms, list) else []
        return {"job": self.jobs.lengths(read_text(call.fields.get("text")), names).id}

    async def stream_job(self, call: Call) -> Response:
        """Return the events of a job, from the one after the last that is known."""
        job, known = self.jobs.find(call.path["job"]), call.last_event
        last = int(known) if known.isascii() and known.isdigit() else 0
        if job.has_ended and not any(number > last for number, *_ in job.events):
            return Response(status_code=204)  # a browser does not ask again then
        return StreamingResponse(job.stream(last), media_type="text/event-stream")

    async def stop_job(self, call: Call) -> dict[str, Any]:
        """Stop a job."""
        job = self.jobs.find(call.path["job"])
        if job.task is not None:
            job.task.cancel()
        return {}

    def compare(self, call: Call) -> dict[str, Any]:
        """Return the words that two texts share, and those that only one has."""
        old, new = call.text("from"), call.text("to")
        if max(len(old), len(new)) > _LONGEST_COMPARED:
            raise InputError(f"a text has over {_LONGEST_COMPARED:,} characters: that is no synopsis")
        kinds = {"=": "same", "-": "out", "+": "in"}
        return {"parts": [{"kind": kinds[kind], "text": words} for kind, words in word_diff(old, new)]}

    async def release(self, call: Call) -> Any:
        """Release a saved text."""
        await self._ready(call)
        waivers = call.fields.get("waivers") or {}
        if not isinstance(waivers, dict):
            raise InputError("'waivers' is no object: give the reason of each check")
        waivers = {str(check): str(reason) for check, reason in waivers.items()}
        given = (call.text("id"), call.text("hash"), call.text("by"), waivers)
        return await asyncio.to_thread(self.library.release, *given)

    async def export(self, call: Call) -> Response:
        """Return saved texts as a file for a receiver."""
        await self._ready(call)

        def render() -> Response:
            documents = [read_document(self.library.path(name)) for name in call.query.getlist("id")]
            file_format = call.query.get("format", "")
            content = export(documents, file_format, self.writer.workspace.house.orthography)
            name = documents[0].path.stem if len(documents) == 1 else "synopsen"
            head = {"Content-Disposition": f'attachment; filename="{slug(name)}.{file_format}"'}
            return Response(content, headers=head, media_type=_TYPES.get(file_format, "text/plain"))

        return await asyncio.to_thread(render)

    def import_file(self, call: Call) -> dict[str, Any]:
        """Return the texts of a file that was dropped on the page; they are not saved."""
        path = Path(clean_name(call.query.get("name", "").replace("\\", "/").rpartition("/")[2]) or "text")
        if path.suffix.lower() not in READERS:
            raise InputError(f"{path}: is no kind of file that is read: {', '.join(sorted(READERS))} are")
        sources = parse_sources(call.body, path)
        dropped = dict.fromkeys(each for source in sources for each in source.dropped)
        texts = []
        for source in sources:
            text = text_of(source.document, draft=f"d-{secrets.token_hex(8)}", release=None, state="draft")
            fields = {name: value for name, value in source.fields.items() if name in text.brief and value}
            texts.append(text.model_copy(update={"brief": {**text.brief, **fields}}))
        return {"texts": texts, "messages": list(dropped)}

    def open_folder(self, call: Call) -> dict[str, Any]:
        """Return the rows of a batch or an eval run below the working directory; without a path, which."""
        return folders.rows(call.query.get("path", ""), call.query.get("offset", "0"))

    async def add_word(self, call: Call) -> dict[str, Any]:
        """Add a word to those that the house knows."""
        await self._ready(call)
        settings = self.writer.settings
        await asyncio.to_thread(accept_words, settings, [call.text("word").strip()])
        self._change_gate(house=await asyncio.to_thread(open_house, settings))
        return {}

    def _change_gate(self, **changes: Any) -> None:
        workspace = self.writer.workspace
        self.writer.workspace = replace(workspace, gate=replace(workspace.gate, **changes))


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
