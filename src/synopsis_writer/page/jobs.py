"""Jobs: a model's work that goes on while the page does something else, and what it says meanwhile."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synopsis_writer.answers import parts_so_far
from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, GateRefusedError, InputError
from synopsis_writer.gate.features import features_of
from synopsis_writer.page.calls import as_json, failure_of
from synopsis_writer.page.texts import Journal, NotFoundError, Part, Text, findings_data, text_of
from synopsis_writer.result import Attempt, Result
from synopsis_writer.usage import Usage, format_cost, total_cost
from synopsis_writer.writer import Writer

MOST_RUNNING, _MOST_KEPT = 8, 100  # jobs
_PICTURE_SECONDS = 0.1  # between two pictures of what grows: more often no eye can read
_SILENCE = 15.0  # seconds after which a stream shows that it is open

_job: ContextVar["Job | None"] = ContextVar("job", default=None)


@dataclass(eq=False)
class Job:
    """A model's work, and the events that tell of it, numbered from 1.

    Of what grows only the last event is kept: each shows all of it.
    """

    id: str = field(default_factory=lambda: f"j-{secrets.token_hex(8)}")
    events: deque[tuple[int, str, Any]] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    has_ended: bool = False
    base: Text = field(default_factory=Text)
    _answer: str = ""
    _count: int = 0
    _shown: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, kind: str, data: Any) -> None:
        """Add an event."""
        if kind == "growing":
            self.events = deque(event for event in self.events if event[1] != kind)
        self._count += 1
        self.events.append((self._count, kind, data))
        self._wake()

    def end(self) -> None:
        """End the streams of events."""
        self.has_ended = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def grow(self, answer: str) -> None:
        """Show title and paragraphs of an answer as far as it has come."""
        self._answer, now = answer or self._answer, time.monotonic()
        if now - self._shown >= _PICTURE_SECONDS and (text := self.text):
            self._shown = now
            paragraphs = [part.text for part in text.paragraphs]
            self.tell("growing", {"title": text.title, "paragraphs": paragraphs})

    @property
    def text(self) -> Text | None:
        """The last answer as far as it has come; None where nothing of it can be read yet."""
        title, parts = parts_so_far(self._answer)
        if not (title or parts):
            return None
        paragraphs = tuple(Part(text=part) for part in parts)
        return self.base.model_copy(update={"title": title, "paragraphs": paragraphs})

    def attempted(self, attempt: Attempt, brief: Brief) -> None:
        """Show an attempt that was judged."""
        body = attempt.synopsis.text if attempt.synopsis else ""
        findings = findings_data(attempt.findings, body)
        if attempt.problem:
            findings = [{"check": "structure", "level": "error", "message": attempt.problem, "spans": []}]
        answer = attempt.answer
        self.tell(
            "attempt",
            {
                "number": attempt.number,
                "form": brief.form,
                "passed": attempt.passed,
                "findings": findings,
                "fixed": dict(attempt.fixed),
                "usage": {
                    "prompt": answer.usage.prompt_tokens,
                    "completion": answer.usage.completion_tokens,
                },
                "cost": format_cost(answer.cost),
            },
        )

    async def stream(self, last: int) -> AsyncIterator[bytes]:
        """Yield the events after the one of a number, as server-sent events, until the job has ended."""
        while True:
            changed = self._changed
            for number, kind, data in [event for event in self.events if event[0] > last]:
                last = number
                yield f"id: {number}\nevent: {kind}\ndata: {as_json(data)}\n\n".encode("utf-8", "replace")
            if self.has_ended:
                return
            try:
                await asyncio.wait_for(changed.wait(), _SILENCE)
            except TimeoutError:
                yield b": waiting\n\n"


class _Teller(logging.Handler):
    """Tells a job what its work logs: which attempt it is at, and what it waits for."""

    def emit(self, record: logging.LogRecord) -> None:
        """Add an event to the job in whose context this was logged."""
        job = _job.get()
        if job is not None and not job.has_ended:
            with contextlib.suppress(RuntimeError):  # logged in another thread
                asyncio.get_running_loop()
                job.tell("status", {"message": record.getMessage()})


class Jobs:
    """The jobs of a server."""

    def __init__(self, writer: Writer, journal: Journal) -> None:
        self._writer, self._journal = writer, journal
        self._jobs: dict[str, Job] = {}
        self._teller = _Teller(logging.INFO)
        logging.getLogger("synopsis_writer").addHandler(self._teller)

    def find(self, name: str) -> Job:
        """Return a job; raises NotFoundError."""
        if name not in self._jobs:
            raise NotFoundError(f"no job {name[:40]}: the server was started anew, or it is long done")
        return self._jobs[name]

    def stop(self) -> None:
        """Stop all jobs."""
        logging.getLogger("synopsis_writer").removeHandler(self._teller)
        for job in self._jobs.values():
            if job.task is not None:
                job.task.cancel()

    def start(self, base: Text, work: Callable[[Job], Awaitable[None]]) -> Job:
        """Begin a job; raises InputError where too many are running."""
        running = [job for job in self._jobs.values() if not job.has_ended]
        if len(running) >= MOST_RUNNING:
            raise InputError(f"{len(running)} jobs are running: wait for one, or stop it")
        done = [name for name, job in self._jobs.items() if job.has_ended]
        for name in done[: max(0, len(self._jobs) - _MOST_KEPT)]:
            del self._jobs[name]
        job = Job(base=Text(brief=base.brief))
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        return job

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> None:
        _job.set(job)
        try:
            await work(job)
        except asyncio.CancelledError:
            job.tell("stopped", {})
        except Exception as error:  # noqa: BLE001 - ours, and any other
            text = job.text
            text = None if text is None else await self._kept(text)
            job.tell("failed", {**failure_of(error), "text": text})
        finally:
            job.end()

    async def _kept(self, text: Text) -> Text:
        """Put a text that a model wrote into the journal; a full disk does not cost it."""
        text = text.model_copy(update={"draft": f"d-{secrets.token_hex(8)}"})
        try:
            await asyncio.to_thread(self._journal.write, text.draft, text, text)
        except FileError as error:
            logging.getLogger(__name__).warning("%s", error)
        return text

    def write(self, text: Text, best_of: int) -> Job:
        """Write a text for the brief of one."""
        brief = make_brief(**text.asked)

        async def work(job: Job) -> None:
            on_text = job.grow if best_of == 1 else None
            result = await self._writer.write(
                brief, best_of=best_of, on_text=on_text, on_attempt=job.attempted
            )
            await self._end(job, [result], [])

        return self.start(text, work)

    def revise(self, text: Text, wish: dict[str, Any]) -> Job:
        """Revise a text as a person wishes."""
        document = self._document(text)

        async def work(job: Job) -> None:
            on_text = job.grow if wish.get("variants", 1) == 1 else None
            revised = await self._writer.revise(document, on_text=on_text, on_attempt=job.attempted, **wish)
            documents = [revised.version(index) for index, _ in enumerate(revised.results)]
            same: dict[str, Any] = {"id": text.id, "hash": text.hash, "request": dict(revised.request)}
            await self._end(job, revised.results, documents, **same)

        return self.start(text, work)

    def lengths(self, text: Text, forms: Sequence[str]) -> Job:
        """Tell a text in other lengths."""
        document = self._document(text)

        async def work(job: Job) -> None:
            results = await self._writer.lengths(document, forms, on_attempt=job.attempted)
            await self._end(job, results, [], beside=text.id, are_lengths=True)

        return self.start(text, work)

    def _document(self, text: Text) -> Document:
        folder = self._writer.settings.out
        path = folder / text.id if text.id else self._journal.path(text.draft)
        return text.document(path, text.origin, self._writer)

    async def _end(
        self,
        job: Job,
        results: Sequence[Result],
        documents: Sequence[Document],
        *,
        are_lengths: bool = False,
        **more: Any,
    ) -> None:
        """Put what came of a job into the journal, and tell of it."""
        documents = documents or [
            Document(Path("text"), result.front_matter(), result.text) for result in results
        ]
        texts = []
        for result, document in zip(results, documents, strict=True):
            text = text_of(document, **more)
            if result.synopsis is None and result.best is not None:  # paid, though it is no synopsis
                answer = Part(text=result.best.answer.text)
                text = text.model_copy(update={"paragraphs": (answer,)})
            texts.append(await self._kept(text))
        result, *others = results
        if result.accepted is None and not others and not are_lengths:
            error = result.error or GateRefusedError(f"refused by the gate: {result.reason}")
            job.tell("failed", {**failure_of(error), "text": texts[0]})
            return
        attempts = {id(each): each for result in results for each in result.attempts}.values()
        usage = sum((attempt.answer.usage for attempt in attempts), Usage())
        differences = [features_of(each.synopsis).as_data() if each.synopsis else {} for each in results]
        job.tell(
            "done",
            {
                "texts": texts,
                "reasons": [each.reason for each in results],
                "cost": format_cost(total_cost(attempt.answer.cost for attempt in attempts)),
                "tokens": usage.prompt_tokens + usage.completion_tokens,
                "differences": differences if others and not are_lengths else [],
            },
        )
