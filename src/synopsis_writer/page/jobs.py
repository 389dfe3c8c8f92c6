"""Jobs, a model's work that goes on while the page does something else, and the journal of their texts."""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from synopsis_writer.answers import parts_so_far
from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, GateRefusedError, InputError
from synopsis_writer.gate.finding import status_line
from synopsis_writer.gate.gate import failures
from synopsis_writer.page.routing import AnswerError, Json, Sent, failure_of, route
from synopsis_writer.page.texts import Part, Text, text_of
from synopsis_writer.result import NO_STRUCTURE, Attempt, Result
from synopsis_writer.storage.files import read_input, write_file
from synopsis_writer.usage import Usage, format_cost, total_cost
from synopsis_writer.writer import Writer

_MOST_RUNNING, _MOST_FINISHED = 8, 100  # jobs
_PICTURE_SECONDS = 0.1  # between two previews of a growing text: nobody reads faster
_SILENCE = 15.0  # seconds after which a stream shows that it is open
_LONGEST_DRAFT, _DRAFTS_LAST = 20_000_000, timedelta(days=30)  # bytes, and time
_LAST_EVENTS = frozenset({"done", "failed", "stopped"})
_log = logging.getLogger(__name__)
_Made = list[tuple[Result, Text]]
_job: ContextVar["Job | None"] = ContextVar("job", default=None)


class Draft(Sent):
    """What the journal holds of a text; `made` is the text as a model wrote it, if one did."""

    draft: str
    at: datetime
    text: Text
    made: Text | None = None


@dataclass
class Journal:
    """What was typed or written and is not saved, a file each, which only its owner may read."""

    folder: Path

    def path(self, draft: str) -> Path:
        """Return the file of a draft; raises InputError for what is no id."""
        if not re.fullmatch(r"d-[0-9a-f]{4,32}", draft):
            raise InputError(f"'{draft[:40]}' is no draft's id: write d- and 4 to 32 hex digits")
        return self.folder / f"{draft}.json"

    @route("PUT /journal/{draft}", at_once=True)
    def write(self, text: Text, *, made: Text | None = None) -> dict[str, Any]:
        """Write a draft; what a model made of it before stays known; raises FileError."""
        path, now = self.path(text.draft), datetime.now(UTC)
        if made is None:
            with contextlib.suppress(FileError):
                made = self.read(text.draft).made
        write_file(path, Draft(draft=text.draft, at=now, text=text, made=made).model_dump_json(), private=True)
        return {"at": now}

    @route("GET /journal/{draft}", at_once=True)
    def _read(self, draft: str) -> Text:
        return self.read(draft).text

    def read(self, draft: str) -> Draft:
        """Return a draft; raises FileError."""
        path = self.path(draft)
        if not path.is_file():
            raise AnswerError(404, f"no draft {draft}: it was saved or deleted")
        try:
            return Draft.model_validate_json(read_input(path, _LONGEST_DRAFT))
        except ValidationError as error:
            raise FileError(f"{path}: is damaged: look at it in an editor") from error

    @route("DELETE /journal/{draft}", at_once=True)
    def delete(self, draft: str) -> None:
        """Delete a draft, if it is there; raises FileError."""
        try:
            self.path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot delete draft {draft}: {error.strerror}") from error

    def entries(self) -> list[Draft]:
        """Return the drafts that can be read, the newest first; those that are too old are deleted."""
        found = []
        for path in self.folder.glob("d-*.json") if self.folder.is_dir() else ():
            with contextlib.suppress(InputError):
                draft = self.read(path.stem)
                if datetime.now(UTC) - draft.at > _DRAFTS_LAST:
                    self.delete(path.stem)
                else:
                    found.append(draft)
        return sorted(found, key=lambda draft: draft.at, reverse=True)


@contextlib.contextmanager
def logged_errors() -> Iterator[None]:
    """Log what goes wrong with a file beside the text itself, which must not be lost by it."""
    try:
        yield
    except FileError as error:
        _log.warning("%s", error)


@dataclass(eq=False)
class Job:
    """A model's work, and its events, numbered from 1; of what grows there is the last one only."""

    brief: dict[str, Any]
    id: str = field(default_factory=lambda: f"j-{secrets.token_hex(8)}")
    events: list[tuple[int, str, Any]] = field(default_factory=list)
    task: asyncio.Task[None] = field(init=False)
    _answer: str = ""
    _count: int = 0
    _shown: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Whether no event follows."""
        return bool(self.events) and self.events[-1][1] in _LAST_EVENTS

    def add(self, kind: str, data: Any) -> None:
        """Add an event."""
        if kind == "growing":
            self.events = [event for event in self.events if event[1] != kind]
        self._count += 1
        self.events.append((self._count, kind, data))
        self._changed.set()
        self._changed = asyncio.Event()

    def grow(self, answer: str) -> None:
        """Show title and paragraphs of an answer as far as it has come."""
        self._answer, now = answer or self._answer, time.monotonic()
        if now - self._shown >= _PICTURE_SECONDS and (text := self.text):
            self._shown = now
            self.add("growing", {"title": text.title, "paragraphs": text.paragraphs})

    @property
    def text(self) -> Text | None:
        """The last answer as far as it has come; None where nothing of it can be read yet."""
        title, parts = parts_so_far(self._answer)
        paragraphs = tuple(Part(text=part) for part in parts)
        return Text(title=title, paragraphs=paragraphs, brief=self.brief) if title or parts else None

    def attempted(self, attempt: Attempt, brief: Brief) -> None:
        """Show an attempt that was judged."""
        findings = [{"check": each.check, "message": each.message} for each in failures(attempt.findings)]
        if attempt.problem:
            findings = [{"check": NO_STRUCTURE, "message": attempt.problem}]
        cost, usage = format_cost(attempt.answer.cost), attempt.answer.usage
        tokens = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
        judged = {"number": attempt.number, "form": brief.form, "passed": attempt.passed}
        self.add("attempt", {**judged, "usage": tokens, "cost": cost, "findings": findings})

    async def stream(self, last: int) -> AsyncIterator[bytes]:
        """Yield the events after the one of a number, as server-sent events, until the job has ended."""
        while True:
            changed = self._changed
            for number, kind, data in [event for event in self.events if event[0] > last]:
                last = number
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), Json(data).body)
            if self.has_ended:
                return
            try:
                await asyncio.wait_for(changed.wait(), _SILENCE)
            except TimeoutError:
                yield b": waiting\n\n"


class Jobs(logging.Handler):
    """The jobs of a server; each reports what its work logs: the attempt it is at, what it waits for."""

    def __init__(self, writer: Writer, journal: Journal) -> None:
        super().__init__(logging.INFO)
        self._writer, self._journal = writer, journal
        self._jobs: dict[str, Job] = {}
        logging.getLogger("synopsis_writer").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Add an event to the job in whose context this was logged."""
        job = _job.get()
        if job is not None and not job.has_ended:
            with contextlib.suppress(RuntimeError):  # logged in another thread
                asyncio.get_running_loop()
                job.add("status", {"message": status_line(record, self._writer.workspace.gate.lang)})

    @route("POST /write")
    async def _write(self, brief: dict[str, Any], best_of: int = 1) -> dict[str, Any]:
        text = Text(brief=brief)
        asked = make_brief(**text.asked)

        async def work(job: Job) -> _Made:
            on_text, on_attempt = job.grow if best_of == 1 else None, job.attempted
            result = await self._writer.write(asked, best_of=best_of, on_text=on_text, on_attempt=on_attempt)
            return [(result, _text_of(result))]

        return self._start(text, work)

    @route("POST /revise")
    async def _revise(
        self, text: Text, note: str = "", paragraphs: Sequence[int] = (), variants: int = 1
    ) -> dict[str, Any]:
        document = self._document(text)
        wish: Any = {"note": note or None, "paragraphs": paragraphs, "variants": variants}

        async def work(job: Job) -> _Made:
            on_text, on_attempt = job.grow if variants == 1 else None, job.attempted
            revised = await self._writer.revise(document, on_text=on_text, on_attempt=on_attempt, **wish)
            same = {"id": text.id, "hash": text.hash, "request": dict(revised.request)}
            numbered = enumerate(revised.results)
            return [(each, _text_of(each, revised.version(index), **same)) for index, each in numbered]

        return self._start(text, work)

    @route("POST /lengths")
    async def _tell_lengths(self, text: Text, forms: Sequence[str] = ()) -> dict[str, Any]:
        document = self._document(text)

        async def work(job: Job) -> _Made:
            results = await self._writer.lengths(document, forms, on_attempt=job.attempted)
            return [(result, _text_of(result, beside=text.id or "")) for result in results]

        return self._start(text, work)

    @route("GET /jobs/{job}/events", at_once=True)
    async def _stream(self, request: Request) -> Response:
        job, known = self._find(request.path_params["job"]), request.headers.get("last-event-id", "")
        last = int(known) if known.isascii() and known.isdigit() else 0
        if job.has_ended and job.events[-1][0] <= last:
            return Response(status_code=204)  # a browser does not ask again then
        return StreamingResponse(job.stream(last), media_type="text/event-stream")

    @route("POST /jobs/{job}/stop", at_once=True)
    async def _stop(self, job: str) -> None:
        self._find(job).task.cancel()

    async def stop(self) -> None:
        """Stop all jobs, and wait until each has recorded what it was answered."""
        logging.getLogger("synopsis_writer").removeHandler(self)
        tasks = [job.task for job in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, name: str) -> Job:
        if name not in self._jobs:
            raise AnswerError(404, f"no job {name[:40]}: the server was restarted, or it ended long ago")
        return self._jobs[name]

    def _document(self, text: Text) -> Document:
        folder = self._writer.settings.out
        path = folder / text.id if text.id else self._journal.path(text.draft)
        return text.document(path, text.origin, self._writer)

    def _start(self, text: Text, work: Callable[[Job], Awaitable[_Made]]) -> dict[str, Any]:
        ended = [name for name, job in self._jobs.items() if job.has_ended]
        if len(self._jobs) - len(ended) >= _MOST_RUNNING:
            raise InputError(f"{_MOST_RUNNING} jobs are running: wait for one, or stop it")
        for name in ended[:-_MOST_FINISHED]:
            del self._jobs[name]
        job = Job(text.brief)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        return {"job": job.id}

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[_Made]]) -> None:
        _job.set(job)
        try:
            made = await work(job)
            texts, results = [await self._saved(text) for _, text in made], [result for result, _ in made]
            result = results[0]
            if result.accepted is None and len(results) == 1 and texts[0].beside is None:
                error = result.error or GateRefusedError(f"refused by the gate: {result.reason}")
                job.add("failed", {**failure_of(error), "text": texts[0]})
                return
            attempts = {id(attempt): attempt for each in results for attempt in each.attempts}.values()
            usage = sum((attempt.answer.usage for attempt in attempts), Usage())
            cost = format_cost(total_cost(attempt.answer.cost for attempt in attempts))
            tokens = usage.prompt_tokens + usage.completion_tokens
            job.add("done", {"texts": texts, "cost": cost, "tokens": tokens})
        except asyncio.CancelledError:
            job.add("stopped", {})
        except Exception as error:  # noqa: BLE001 - ours, and any other
            job.add("failed", {**failure_of(error), "text": job.text and await self._saved(job.text)})

    async def _saved(self, text: Text) -> Text:
        """Put a text that a model wrote into the journal; a full disk does not cost it."""
        text = text.model_copy(update={"draft": f"d-{secrets.token_hex(8)}"})
        with logged_errors():
            await asyncio.to_thread(self._journal.write, text, made=text)
        return text


def _text_of(result: Result, document: Document | None = None, **more: Any) -> Text:
    text = text_of(document or Document(Path("text"), result.front_matter(), result.text), **more)
    if result.synopsis is None and result.best is not None:  # paid, though it is no synopsis
        text = text.model_copy(update={"paragraphs": (Part(text=result.best.answer.text),)})
    return text
