"""Writer: opens house, templates, gate and model once, to write, plan, revise, check and replay."""

import asyncio
import contextlib
import gc
import hashlib
import importlib
import logging
import os
import secrets
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack

from synopsis_writer import drafting, errors, revising
from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, parse_document
from synopsis_writer.drafting import Author, Examine, Find, Findings, Judge, ModelAuthor, Shape
from synopsis_writer.examples import read_brief
from synopsis_writer.formats.reading import Source, read_source, replace_text
from synopsis_writer.gate.features import LAST_TEXTS, Avoid, avoid_of, repeated
from synopsis_writer.gate.finding import worded
from synopsis_writer.gate.text import analyse
from synopsis_writer.log import BATCH, Lost, OnAttempt, Recording, Replay, Run, RunLog, Version, differences
from synopsis_writer.models.base import Limits, ModelClient
from synopsis_writer.models.limits import Budget, RateLimitedClient
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_client, resolve_model
from synopsis_writer.models.server import KEY_VARIABLE
from synopsis_writer.prompts.selection import Chosen, select
from synopsis_writer.prompts.templates import Prompt
from synopsis_writer.result import Attempt, FileFormat, Result, RowResult, bill_of, new_run
from synopsis_writer.revising import Reviewer, Revised, Reviser
from synopsis_writer.settings import Environment, Settings, load_settings
from synopsis_writer.show import Show, find_show, generic_show
from synopsis_writer.storage.files import write_file
from synopsis_writer.synopsis import Outline, Synopsis
from synopsis_writer.usage import Usage, total_cost
from synopsis_writer.workspace import UNKNOWN, Report, Workspace, check_pool, open_workspace

if TYPE_CHECKING:
    from synopsis_writer.demo import DemoAuthor

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Path = TypeVar("_Path", Path, Path | None)
_P = ParamSpec("_P")
_MOST_DRAFTS = 16  # of the first attempt
_new_thread = partial(ThreadPoolExecutor, 1, thread_name_prefix="synopsis-gate")
_DRAFTS = 100  # seeds that a sample has for itself: attempts are 10 at most, drafts of the first one 16


class BriefFields(TypedDict, total=False):
    """The fields of a brief, as keywords; see `Brief`."""

    show: str
    theme: str
    form: str
    characters: Sequence[str]
    beats: Sequence[str]
    before: Sequence[str]
    words: str | tuple[int, int] | None
    character_count: str | tuple[int, int] | None
    air_date: str | None
    notes: str | None


@dataclass(eq=False)
class _Connection:
    """A client that stays open in one event loop."""

    entries: int = 1  # of the blocks that hold it open
    clients: dict[ResolvedModel | None, ModelClient] = field(default_factory=dict)  # None: the writer's
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


def _sync(
    method: Callable[Concatenate["Writer", _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate["Writer", _P], _T]:

    @wraps(method)
    def run(writer: "Writer", /, *args: _P.args, **more: _P.kwargs) -> _T:
        return writer.run(method(writer, *args, **more))

    return run


class Writer(contextlib.AbstractContextManager["Writer"]):
    """Writes, plans and checks synopses; pool, templates, gate and model are opened once, when needed.

    In an `async with` block, and between `_sync` calls, connections stay open, and `rpm`, `tpm` and `calls`
    hold for all calls together; else each call has a connection of its own. The gate has its own thread.
    """

    def __init__(  # noqa: PLR0913 - all but the first are keywords
        self,
        settings: Settings | None = None,  # None: those of environment and config file, after `given`
        *,
        key: str | None = None,  # the server's; None takes the environment's or the keyring's
        client: ModelClient | None = None,  # asked instead of the model that the settings name; stays open
        budget: Budget | Decimal | str | None = None,  # money, or a ledger that is shared with others
        log: RunLog | bool = True,  # where runs are recorded: True is the file in the settings
        command: str = "write",  # what the log calls a run
        rpm: float | None = None, tpm: float | None = None,  # requests and tokens a minute; None: no bound
        calls: int | None = None,  # at once
        environment: Environment | None = None,  # variables to read instead of this process's
        **given: Any,  # settings by their names, such as `model`, `base_url`, `house`, `prompts`
    ) -> None:  # fmt: skip
        self.environment = dict(os.environ if environment is None else environment)
        if key is not None:
            self.environment[KEY_VARIABLE] = key
        if not isinstance(budget, Budget | None):
            given["budget"] = budget
        if settings is not None and given:
            raise errors.SettingsError("settings are given whole, and some by name: leave one of both out")
        self.settings = settings or load_settings(given, self.environment)
        bounds = self.settings.budget, self.settings.max_tokens_total
        self.budget = budget if isinstance(budget, Budget) else Budget(*bounds)
        self.examiner: Examine | None = None  # instead of `examine`
        self.finders: list[Find] = []  # find in each text what the gate does not look for
        self.is_varied = command in {"write", BATCH}  # a prompt says what of the last texts not to repeat
        self._last_texts: deque[tuple[Brief, Synopsis]] | None = None  # the newest first
        self._client, self._command, self._log = client, command, log
        self._pace: dict[str, Any] = {"rpm": rpm, "tpm": tpm, "calls": calls}
        self._connections: dict[asyncio.AbstractEventLoop, _Connection] = {}
        self._thread = _new_thread()
        self._runner: asyncio.Runner | None = None
        self._finalizer: Callable[[], object] = lambda: None
        self._turn = threading.RLock()  # of the `_sync` methods
        self._is_open = self._is_warm = self._is_reported = False

    @cached_property
    def workspace(self) -> Workspace:
        """Pool, templates and gate; what is asked of the gate itself is judged in the calling thread."""
        return open_workspace(self.settings)

    @cached_property
    def model(self) -> ResolvedModel:
        """The model that is asked; raises SettingsError where there is none."""
        return resolve_model(self.settings, self.environment)

    @property
    def model_name(self) -> str:
        """The name of the model that is asked."""
        return self._client.name if self._client is not None else self.model.model

    @property
    def is_local(self) -> bool:
        """Whether the model runs in this process, and so answers one call after the other."""
        return self._client is None and self.model.kind != "hosted"

    def variant(self, command: str, budget: Budget, **changes: Any) -> "Writer":
        """Return a writer with some other settings, with the key, limits and run log of this one."""
        same: Any = {"client": self._client, "environment": self.environment, **self._pace}
        settings = self.settings.model_copy(update=changes)
        return Writer(settings, budget=budget, log=self._log and self.log, command=command, **same)

    def resolve(self, brief: Brief) -> tuple[Brief, Show]:
        """Return the brief with its form and its show's canonical name, and the show; raises BriefError."""
        show, form = self.workspace.find_show(brief.show), self.workspace.house.form(brief.named_form)
        return brief.model_copy(update={"show": show.name, "form": form.name}), show

    def prompt(
        self, brief: Brief, outline: Outline | None = None, *, exclude: Collection[str] = (), avoid: Avoid | None = None
    ) -> Prompt:
        """Return the request for a synopsis, with examples whose ids are not in `exclude`; asks no model."""
        examples = [chosen.example for chosen in self.select(brief, exclude=exclude)]
        return self.workspace.prompts.synopsis(*self.resolve(brief), examples, outline, avoid)

    def avoid(self, brief: Brief) -> Avoid | None:
        """Return what a text must not repeat of the house's last texts, in the log and by this writer."""
        brief, _ = self.resolve(brief)
        is_off = "variety" in self.settings.disable or self._variety_level(brief) == "off"
        if not self.is_varied or is_off or self.settings.responses == "read":
            return None
        if self._last_texts is None:
            self._last_texts = deque(maxlen=LAST_TEXTS)
            try:
                if self._has_log:
                    self._last_texts.extend(self.log.last_texts(self.workspace.house.name))
            except errors.FileError as error:
                _log.warning("%s", error)
        return avoid_of(self._last_texts, brief, self.workspace.pool.shows)

    def _variety_level(self, brief: Brief) -> Any:
        checks = self.workspace.house.form(brief.form).checks
        return checks.get("variety", "error" if self._command == BATCH else "warning")

    def outline_prompt(self, brief: Brief, *, exclude: Collection[str] = ()) -> Prompt:
        """Return the request for an outline; asks no model."""
        examples = [chosen.example for chosen in self.select(brief, exclude=exclude)]
        return self.workspace.prompts.outline(*self.resolve(brief), examples)

    def select(self, brief: Brief, *, exclude: Collection[str] = ()) -> list[Chosen]:
        """Return the examples that a prompt for the brief shows, each with its reason."""
        brief, _ = self.resolve(brief)
        if not self.workspace.pool.examples:
            return []
        tokens, pinned = self.settings.example_tokens, self.settings.pinned
        return select(self.workspace.index, brief, token_budget=tokens, exclude=exclude, pinned=pinned)

    async def warm_up(self) -> None:
        """Load now what the first calls would load: house, templates, word lists, the model's library."""
        await self._open()
        await self._in_thread(self.workspace.gate.warm_up)
        self._is_warm = True
        if asyncio.get_running_loop() in self._connections and not self._is_demo:
            async with self._connected():
                pass
        gc.collect()  # now, not in the middle of a write: a full pass over all that was loaded takes 60 ms

    async def write(
        self,
        brief: Brief | None = None,  # None: `fields` make it, such as `show`, `theme` and `form`
        *,
        outline: Outline | None = None,  # the plan to follow
        best_of: int = 1,  # drafts of the first attempt, 1 to 16
        seed: int | str | None = None,  # of a demo draft; a text stands for a number; None draws one
        previous: Attempt | None = None,  # an earlier attempt to go on from; its number counts
        exclude: Collection[str] = (),  # ids of examples that the prompt must not show
        sample: int = 0,  # which of several texts for one brief this is: each has drafts of its own
        on_text: Callable[[str], None] | None = None,  # called with the whole answer so far while it grows
        on_attempt: OnAttempt = None,  # called with each attempt that was judged, and its brief
        **fields: Unpack[BriefFields],
    ) -> Result:
        """Draft, check and repair a synopsis; raises InputError, and ModelError before any answer."""
        if not 1 <= best_of <= _MOST_DRAFTS:
            raise errors.InputError(f"best_of is {best_of}: give a number from 1 to {_MOST_DRAFTS}")
        brief, show = await self._open_for(brief, fields)
        avoid = None if self._is_demo else await self._in_thread(partial(self.avoid, brief))
        limits = replace(limits_of(self.settings), sample=sample * _DRAFTS)
        async with contextlib.AsyncExitStack() as stack:
            if self._is_demo:
                author: Author = self._demo_author(brief, show, outline, seed, limits.sample)
            else:
                client = await stack.enter_async_context(self._connected(on_text))
                render = partial(self.prompt, brief, outline, exclude=exclude, avoid=avoid)
                author = await self._model_author(client, render, limits)
            more = {"outline": outline, "best_of": best_of, "avoid": avoid}
            recording = self._recording(self._command, brief, author, on_attempt, **more)
            result = await self._write(recording, author, self._judge(brief, show, avoid), previous=previous)
        if result.accepted is not None and self._last_texts is not None:
            self._last_texts.appendleft((brief, result.accepted))
        return result

    def _judge(self, brief: Brief, show: Show, avoid: Avoid | None = None, **more: Any) -> Judge:
        """Return the judge of answers to a brief: by the gate, and by what they repeat of the last texts."""

        def find_repeated(last: Avoid, synopsis: Synopsis, _show: Show, _brief: Brief) -> Findings:
            finding = repeated(synopsis, last)
            if finding.level == "error":
                finding = replace(finding, level=self._variety_level(brief))
            return (worded(finding, analyse(synopsis.text), self.settings.lang),)

        own: list[Find] = [partial(find_repeated, avoid)] if avoid is not None else []
        marks = self.workspace.house.quotation_marks
        return Judge(brief, show, self.examiner or self.examine, marks, [*self.finders, *own], **more)

    async def _write(
        self, recording: Recording, author: Author, judge: Judge, *,
        previous: Attempt | None = None, is_reviewed: bool = True,
    ) -> Result:  # fmt: skip
        run, prompt, client = recording.run, None, None
        if isinstance(author, ModelAuthor):
            prompt, client = author.prompt, author.client
        is_wanted = client.is_reviewed if isinstance(client, Replay) else self.settings.review
        if is_wanted and client is None:
            _log.info("a demo draft is not reviewed")
        asked: Any = {"previous": previous, "attempts": run.attempts, "best_of": run.best_of}
        is_reviewed = is_reviewed and is_wanted and client is not None
        with recording:
            async with self._reviewer(client) if is_reviewed else contextlib.nullcontext() as reviewer:
                result = await drafting.write(author, judge, recording, **asked)
                if reviewer is not None:
                    result = await reviewer.finish(result, author, judge, recording)
                recording.end(result.outcome, str(result.error) if result.error else None)
        return replace(result, prompt=prompt, run=recording.id, created=run.created)

    async def outline(
        self, brief: Brief | None = None, *, seed: int | str | None = None, **fields: Unpack[BriefFields]
    ) -> Outline:
        """Plan a synopsis for `write`; raises as that, and GateRefusedError where no answer is a plan."""
        brief, show = await self._open_for(brief, fields)
        if self._is_demo:
            return self._demo_author(brief, show, None, seed).plan()
        async with self._connected() as client:
            render = partial(self.outline_prompt, brief)
            author = await self._model_author(client, render, limits_of(self.settings), Outline)
            with self._recording("outline", brief, author) as recording:
                try:
                    outline = await author.plan(self.settings.attempts, recording)
                finally:
                    _log.info(bill_of(recording.attempts))
                recording.end("accepted")
        return outline

    async def lengths(
        self, source: Document | Result, forms: Sequence[str], *, on_attempt: OnAttempt = None
    ) -> tuple[Result, ...]:
        """Retell an accepted story in other forms, in one answer if possible; return a result per form."""
        await self._open()
        story, brief, link = self._story_of(source)
        names = self.other_forms(brief.form, forms)
        house, prompts, limits = self.workspace.house, self.workspace.prompts, limits_of(self.settings)
        # Fields of one text, which the other lengths of its story do not share.
        own = {"words": None, "character_count": None, "characters": (), "beats": (), "before": ()}
        briefs = {name: self.resolve(brief.model_copy(update={"form": name, **own})) for name in names}
        longest = briefs[max(names, key=lambda name: house.form(name).most_words)][0]
        async with self._connected() as client:
            asked = brief if brief.form in house.forms else longest
            base = await self._in_thread(partial(self.prompt, asked))
            parts: dict[str, Attempt] = {}
            if len(names) > 1 and not self.is_local:
                together = ModelAuthor(client, prompts, prompts.lengths(base, story, names), limits)
                try:
                    parts = await together.parts(names)
                except errors.ModelError:
                    with self._recording("lengths", longest, together):
                        raise

            async def retell(name: str) -> Result:
                author = ModelAuthor(client, prompts, prompts.lengths(base, story, [name]), limits)
                author.part = parts.get(name)
                brief, show = briefs[name]
                recording = self._recording("lengths", brief, author, on_attempt)
                try:
                    result = await self._write(recording, author, self._judge(brief, show, story=story))
                except errors.ModelError as error:
                    run = recording.run
                    result = Result(brief, show, (), None, error, author.prompt, recording.id, run.created)
                return replace(result, story=link)

            results = await asyncio.gather(*map(retell, names))
        failures = [result.error for result in results if result.error and not result.attempts]
        if len(failures) == len(results):
            raise failures[0]
        return tuple(results)

    def _story_of(self, source: Document | Result) -> tuple[Synopsis, Brief, str]:
        """Return a synopsis, its brief, and what all lengths of its story share; raises InputError."""
        if isinstance(source, Document):
            brief = read_brief(source)
            with contextlib.suppress(errors.BriefError):  # its form may be of another house
                brief, _ = self.resolve(brief)
            show = self.workspace.find_show(brief.show)
            story = revising.read_base(Source(source, str(source.path), {}), brief, show, (), revising.Wish())
            link = str(source.meta.get("story") or source.meta.get("run") or "")
        elif source.accepted is None:
            raise errors.InputError(f"a refused text has no other lengths: {source.reason}")
        else:
            story, brief, link = source.accepted, source.brief, source.story or source.run
        digest = hashlib.sha256(story.text.encode("utf-8", "surrogatepass")).hexdigest()
        return story, brief, link or digest[:12]

    def other_forms(self, own: str | None, forms: Sequence[str]) -> list[str]:
        """Return the forms, each once, in which a story of the form `own` can be retold; raises InputError."""
        if self._is_demo:
            reason = "the packaged model fills gaps in a scaffold and cannot tell a story in another length"
            raise errors.SettingsError(f"{reason}: name a server's model or a GGUF file with --model")
        names = [self.workspace.house.form(name).name for name in dict.fromkeys(forms)]
        if not names or own in names:
            reason = f"the text has the form '{own}' already" if names else "no form is named"
            raise errors.BriefError(f"{reason}: name others, of {', '.join(self.workspace.house.forms)}")
        return names

    async def replay(self, run: str = "last") -> Result:
        """Go through a logged run again: its prompt and answers, today's verdicts; raises InputError."""
        then = self.log.find(run)
        answered = self.log.attempts(then.id)
        attempts = [attempt for attempt in answered if not attempt.is_review]
        if then.command != "write" or not attempts:
            raise errors.ReplayError(f"run {then.id} holds no answer to a write: synopsis log show {then.id}")
        await self._in_thread(lambda: self.workspace)
        author: Author = (client := Replay(then, answered))
        if then.prompt is not None:
            prompt = await self._in_thread(partial(self.prompt, then.brief, then.outline, avoid=then.avoid))
            author = ModelAuthor(client, self.workspace.prompts, prompt, limits_of(self.settings))
        judge = self._judge(then.brief, self.workspace.find_show(then.brief.show), then.avoid)
        result = await self._write(Recording(None, then), author, judge)
        changes = " ".join(differences(attempts, result.attempts))
        _log.info("replayed %s: %s", then.id, changes or "same prompt, same answers, same verdicts.")
        return replace(result, run=then.id)

    async def revise(
        self,
        text: str | Path | Document,  # the text, its file, or a document; front matter may hold its brief
        note: str | None = None,  # at most 2,000 characters; it is data, and changes no rule of the house
        *,
        paragraphs: Sequence[int] = (),  # from 1, those to rewrite; the others stay to the letter
        keep: Sequence[str] = (),  # words that must stay as they are
        only: Literal["title", "logline"] | None = None,  # the only part to rewrite
        variants: int = 1,  # 1 to 5, asked for together; openings, endings and the first person differ
        people: Sequence[str] = (),  # of a text that lists none, each as `Name: Rolle`
        on_text: Callable[[str], None] | None = None, on_attempt: OnAttempt = None,  # as in `write`
        **fields: Unpack[BriefFields],  # of the brief: what changes, or what the text does not say
    ) -> Revised:  # fmt: skip
        """Have the model write a new version, for `save_revised`; it is repaired, and raises, as `write`."""
        wish = revising.make_wish(note=note, paragraphs=paragraphs, keep=keep, only=only, variants=variants)
        changes = {name: fields[name] for name in ("form", "words", "character_count") if fields.get(name)}
        request = {**wish.model_dump(mode="json", exclude_defaults=True), **changes}
        if not request.keys() - {"keep"}:
            hint = "say what with --note, or change --form, --words or --characters"
            raise errors.InputError(f"revise: nothing is asked for: {hint}")
        if self._is_demo:
            reason = "the packaged model only fills gaps of a scaffold, and cannot revise"
            hint = "name one with --model or --base-url, or set OPENAI_API_KEY"
            raise errors.SettingsError(f"{reason}: {hint}")
        if isinstance(text, str):
            text = _as_document(text)
        source = read_source(text) if isinstance(text, Path) else Source(text, str(text.path), {})
        await self._open()
        brief, show = self.resolve(revising.changed_brief(source, **fields))
        base = revising.read_base(source, brief, show, people, wish)
        self._touch(source.document)
        # A text that became an example is neither shown nor a copy of itself.
        itself = [each.id for each in self.workspace.pool.examples if each.synopsis.text == base.text]
        examine = partial(self.examiner or self.examine, exclude_source="".join(itself[:1]))
        marks = self.workspace.house.quotation_marks
        reviser = Reviser(base, wish, self.settings.lang, brief, show, examine, marks)
        limits = limits_of(self.settings)
        limits = replace(limits, max_tokens=limits.max_tokens * variants)

        def render() -> Prompt:
            plain = self.prompt(brief, exclude=itself)
            wished = {"Wunsch": wish.note, "Unverändert": list(wish.keep)}
            wished = {label: value for label, value in wished.items() if value}
            parts: Any = {"paragraphs": wish.paragraphs, "only": only, "variants": variants}
            return self.workspace.prompts.revision(plain, brief, base, wished, **parts)

        async with self._connected(on_text) as client:
            author = await self._model_author(client, render, limits, wish.shape)
            is_whole_text = only is None and variants == 1
            if self.settings.review and not is_whole_text:
                _log.info("review: variants, a title or a logline alone are not reviewed")
            recording = self._recording("revise", brief, author, on_attempt)
            result = await self._write(recording, author, reviser, is_reviewed=is_whole_text)
        parts = result.best.variants if result.best is not None else ()
        return Revised(source.document, request, tuple(replace(result, best=part) for part in parts) or (result,))

    def _touch(self, text: Document | Path) -> Version | None:
        """Return the version that a text is, recorded now if it is new; None where it cannot be recorded."""
        if not self._log:
            return None
        try:
            document = read_source(text).document if isinstance(text, Path) else text
            version = self.log.touch(document, begin=True)
        except errors.FileError as error:
            hint = "; it stays, and the new one is saved beside it" if isinstance(text, Path) else ""
            _log.warning("%s%s", error, hint)
            return None
        return version if self.log.is_in_file else None

    async def judge(self, brief: Brief, attempt: Attempt) -> Result:
        """Return the result of an answer that came from elsewhere, such as a provider's batch."""
        brief, show = self.resolve(brief)
        judged = await self._judge(brief, show)(attempt)
        return Result(brief, show, (judged,), judged, prompt=self.prompt(brief))

    def record(self, brief: Brief, row: RowResult) -> None:
        """Record in the run log a row that was made elsewhere, without its prompts."""
        with self._recording(self._command, brief, self.model_name) as recording:
            for attempt in row.attempts:
                recording.answered(attempt)
            answered = sum((attempt.answer.usage for attempt in row.attempts), Usage())
            if row.usage != answered:
                priced, paid = total_cost(attempt.answer.cost for attempt in row.attempts), row.cost
                cost = paid + replace(priced, amount=-priced.amount) if paid and priced else None
                recording.lost(Lost(row.usage - answered, cost))
            recording.end(row.outcome, row.reason or None)

    async def examine(self, *args: Any, **more: Any) -> Findings:
        """Return what `Gate.examine` does, called in the gate's thread."""
        return await self._in_thread(partial(self.workspace.gate.examine, *args, **more))

    async def check(
        self, text: str | Document, *, fix: bool = False, review: bool = False, **fields: Unpack[BriefFields]
    ) -> Report:
        """Check a text, fixed first if `fix`, read by a model if `review`; `fields` override the front matter's."""
        document = _as_document(text) if isinstance(text, str) else text
        checked = self.workspace.fix if fix else self.workspace.check
        report = await self._in_thread(partial(checked, document, **fields))
        if review:
            report = await self._review(document, report, fields)
        is_file = isinstance(text, Document) and document.path.suffix != ".csv"  # which may hold many texts
        if is_file and self._has_log:
            try:
                self.log.touch(document)  # an edit by hand is noticed
            except errors.FileError as error:
                _log.info("%s", error)
        return report

    async def _review(self, document: Document, report: Report, fields: BriefFields) -> Report:
        stored = read_brief(document).as_data() if "brief" in document.meta else {}
        known = {name: value for name, value in {**stored, **fields}.items() if value}
        lengths = {"words": None, "character_count": None}  # which a review does not mind
        brief = make_brief(**{"show": UNKNOWN, "theme": UNKNOWN, **known, **lengths, "form": report.form})
        show = find_show(self.workspace.pool.shows, brief.show) or generic_show(brief.show)
        async with self._reviewer() as reviewer:
            with self._recording("check", brief, reviewer.client.name) as recording:
                page = revising.Page.of(replace(document, text=report.text))
                answers = await reviewer.read(page, brief, show, recording)
                findings = (*report.findings, *(answers[-1].findings if answers else ()))
                reviews = tuple(attempt.answer for attempt in answers)
                report = replace(report, findings=findings, reviews=reviews)
                recording.end("accepted" if report.passed else "refused")
        return report

    def check_pool(self) -> tuple[int, list[str]]:
        """Return the number of examples in the pool, and its problems, a line each; raises InputError."""
        return check_pool(self.settings)

    def save(
        self, result: Result, folder: str | Path | None = None, file_format: FileFormat = "md", *, force: bool = False
    ) -> Path:
        """Save an accepted text into `folder`, or the settings' one; record it; raises as `Result.save`."""
        to_folder = partial(result.save, folder or self.settings.out, file_format)
        return self.save_with(to_folder, result, force=force)

    def save_with(
        self, save: Callable[..., _Path], result: Result, *, force: bool = False, recorded: bool = True
    ) -> _Path:
        """Save a result by one of its methods; record it if `recorded`, and what `force` replaces."""
        replaced: Version | None = None

        def record_old(path: Path) -> bool:
            nonlocal replaced
            replaced = self._touch(path) if path.exists() else None
            return replaced is not None

        path = save(force=record_old if force and self._log else force)
        if path is not None and (recorded or replaced):
            self._record_saved(result, path, replaced, {})
        return path

    def _record_saved(self, result: Result, path: Path, parent: Version | None, request: Mapping[str, Any]) -> None:
        """Record where a result was saved, and its text as a version; a log that fails is reported."""
        if not (result.run and self._log and result.best is not None):
            return
        model, run = result.best.answer.model, result.run
        try:
            self.log.saved(run, path)
            if result.text:
                document = read_source(path).document
                self.log.add_version(document, "model", parent=parent, model=model, run=run, request=request)
        except Exception as error:  # noqa: BLE001 - a log never costs a text
            _log.error("%s", errors.message_of(error))

    def save_revised(self, revised: Revised, folder: Path | None = None) -> list[Path | None]:
        """Save and record the versions that were accepted; return the path of each, None for a refused one.

        One takes the file of the old one, if that is in the log. Variants, and what cannot be recorded, are
        saved beside it, or in `folder`. Raises FileError, and leaves all as it was then.
        """
        paths: list[Path | None] = [None] * len(revised.results)
        old, is_one = revised.document, len(revised.results) == 1
        for index, result in enumerate(revised.results):
            if result.accepted is None:
                continue
            parent = self._touch(old)
            in_place = parent is not None and is_one and folder is None
            if in_place and old.path.exists():  # a person may have edited it while the model wrote
                in_place = self._touch(old.path) is not None
            if is_one and folder is None and not in_place:
                _log.info("the old version is not in the log: it stays, and the new one is saved beside it")
            new, name = revised.version(index), "" if is_one else f"{old.path.stem} variant {index + 1}"
            path = paths[index] = revising.save_version(new, in_place=in_place, folder=folder, name=name)
            if parent is not None:
                variant = {} if is_one else {"variant": index + 1}
                self._record_saved(result, path, parent, {**revised.request, **variant})
        return paths

    def save_fixed(self, document: Document, report: Report) -> None:
        """Put a text that `check` has fixed into its file, both versions into the log; raises FileError."""
        _, content = replace_text(document, report.text)
        parent = self._touch(document)
        if self._log and parent is None:
            hint = "name another log with SYNOPSIS_LOG"
            raise errors.FileError(f"{document.path}: stays as it is, for it cannot be recorded: {hint}")
        write_file(document.path, content)
        if parent is not None:
            new, request = replace(document, text=report.text), {"fixed": list(report.fixed)}
            self.log.add_version(new, "person", parent=parent, request=request)

    write_sync = _sync(write)
    revise_sync = _sync(revise)
    outline_sync = _sync(outline)
    lengths_sync = _sync(lengths)
    replay_sync = _sync(replay)
    check_sync = _sync(check)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run one of the asynchronous methods in the loop that all `_sync` methods share, one at a time."""
        if _is_in_loop():
            work.close()
            call = f"await writer.{getattr(work, '__name__', '…')}(…)"
            raise RuntimeError(f"an event loop is running here: use '{call}' instead")
        with self._turn:
            if self._runner is None:
                self._runner = asyncio.Runner()
                self._connections[self._runner.get_loop()] = _Connection()
                _wake(self._runner.get_loop())
                self._finalizer = weakref.finalize(self, _end, self._runner, self._connections)
            return self._runner.run(work)

    @property
    def _has_log(self) -> bool:
        return isinstance(self._log, RunLog) or (self._log and self.settings.log.exists())

    @cached_property
    def log(self) -> RunLog:
        """The run log; one in memory where none is to be kept, or where its file cannot be used."""
        try:
            return self._log if isinstance(self._log, RunLog) else RunLog(self.settings.log if self._log else None)
        except errors.FileError as error:
            _log.error("%s; this run is not logged", error)
            return RunLog(None)

    async def __aenter__(self) -> Self:
        self._connections.setdefault(asyncio.get_running_loop(), _Connection(0)).entries += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        connection = self._connections[asyncio.get_running_loop()]
        connection.entries -= 1
        if not connection.entries:
            del self._connections[asyncio.get_running_loop()]
            await connection.stack.aclose()
        if not self._connections:
            self.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what the `_sync` methods opened; the writer can go on being used."""
        with self._turn:
            if self._runner is not None:
                self._finalizer()
                self._runner = None
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = _new_thread()
            if (log := vars(self).pop("log", None)) is not None and log is not self._log:
                log.close()

    @property
    def _is_demo(self) -> bool:
        return self._client is None and self.model.kind == "packaged"

    async def _open(self) -> None:
        if self._is_open:
            return
        is_hosted = self._client is None and self.model.kind == "hosted"
        slow = ("openai", "genai_prices") if is_hosted else ()  # imported while the workspace loads
        # Not by `to_thread`: the loop waits for its threads, also where Ctrl-C ends it.
        imports = asyncio.wrap_future(_new_thread().submit(lambda: [*map(importlib.import_module, slow)]))
        await asyncio.gather(self._in_thread(lambda: self.workspace), imports)
        if not self._is_demo and self.workspace.pool.examples:
            await self._in_thread(lambda: self.workspace.index)
        self._is_open = True

    async def _open_for(self, brief: Brief | None, fields: BriefFields) -> tuple[Brief, Show]:
        """Open what is not open yet, report the model once, and return the brief as `resolve` does."""
        if brief is None:
            brief = make_brief(**fields)
        elif fields:
            field = next(iter(fields))
            raise errors.BriefError(f"a whole brief is given, and '{field}' besides: leave one out")
        await self._open()
        resolved = self.resolve(brief)
        if not self._is_reported and self._client is None:
            _log.info("model: %s (%s)", self.model.model, self.model.why)
        self._is_reported = True
        return resolved

    def _in_thread(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _recording(
        self, command: str, brief: Brief, author: Author | str, on_attempt: OnAttempt = None, **more: Any
    ) -> Recording:
        """Return the recording of a run by an author, or by a model of this name that is asked elsewhere."""
        name, created = new_run()
        if isinstance(author, ModelAuthor):
            prompt = author.prompt
            more |= {"prompt": prompt.name, "version": prompt.version, "prompt_hash": prompt.hash}
            more["examples"] = tuple(prompt.example_ids)
        model = author if isinstance(author, str) else author.name
        server = self.model.server if self._client is None else None
        more |= {"attempts": self.settings.attempts, "house": self.workspace.house.name}
        run = Run(name, command, created, brief, model, server, **more)
        return Recording(self.log if self._log else None, run, on_attempt)

    async def _model_author(
        self, client: ModelClient, render: Callable[[], Prompt], limits: Limits, shape: Shape = Synopsis
    ) -> ModelAuthor:
        """Return the author that asks a model; the gate loads meanwhile, unless an embedded model needs the memory."""
        prompt = await self._in_thread(render)
        if not self._is_warm and not self.is_local and self.examiner is None:
            self._is_warm = True
            self._thread.submit(self.workspace.gate.warm_up)
        return ModelAuthor(client, self.workspace.prompts, prompt, limits, shape)

    def _demo_author(
        self, brief: Brief, show: Show, outline: Outline | None, seed: int | str | None, sample: int = 0
    ) -> "DemoAuthor":
        from synopsis_writer.demo import DemoAuthor

        if isinstance(seed, str):
            seed = int(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:6], 16)
        else:
            seed = secrets.randbelow(2**31) if seed is None else seed
            _log.info("demo draft (seed %d): a scaffold, and a few words by a small model", seed)
            if brief.notes:
                _log.info("a demo draft reads no notes: --notes has no effect")
        shows, house = self.workspace.pool.shows, self.workspace.house
        return DemoAuthor(self.settings, brief, outline, show, shows, house, seed + sample)

    @contextlib.asynccontextmanager
    async def _reviewer(self, client: ModelClient | None = None) -> AsyncIterator[Reviewer]:
        """Yield the reviewer: outside replays the model named for it, else a client, else the writer's."""
        settings, named = self.settings, None
        if settings.review_model and not isinstance(client, Replay):
            changed = settings.model_copy(update={"model": settings.review_model})
            named = resolve_model(changed, self.environment)
        if named.kind == "packaged" if named else client is None and self._is_demo:
            hint = "name a server's model or a GGUF file with --review-model"
            raise errors.SettingsError(f"the packaged model cannot review a text: {hint}")
        async with contextlib.AsyncExitStack() as stack:
            if named is not None or client is None:
                client = await stack.enter_async_context(self._connected(model=named))
            yield Reviewer(client, self.workspace.prompts, settings)

    @contextlib.asynccontextmanager
    async def _connected(
        self, on_text: Callable[[str], None] | None = None, model: ResolvedModel | None = None
    ) -> AsyncIterator[ModelClient]:
        shared = self._connections.get(asyncio.get_running_loop()) if on_text is None else None
        connection = shared or _Connection()
        async with contextlib.nullcontext() if shared else connection.stack:
            async with connection.opening:
                if model not in connection.clients:
                    client = self._client if model is None else None
                    if client is None:
                        named = model or self.model
                        opened = open_client(named, self.settings, self.environment, on_text, self.budget)
                        client = await connection.stack.enter_async_context(opened)
                    connection.clients[model] = RateLimitedClient(client, **self._pace)
            yield connection.clients[model]


def _as_document(text: str) -> Document:
    return parse_document(text.encode("utf-8", "surrogatepass"), Path("text"))


def _end(runner: asyncio.Runner, connections: dict[asyncio.AbstractEventLoop, _Connection]) -> None:
    if _is_in_loop():  # collected inside another loop, where no second one can run
        thread = threading.Thread(target=_end, args=(runner, connections))
        thread.start()
        thread.join()
        return
    runner.run(connections.pop(runner.get_loop()).stack.aclose())
    runner.close()


def _wake(loop: asyncio.AbstractEventLoop) -> None:
    """Wake a loop each second: a signal that comes just before it begins to wait, or to another thread, does not."""
    loop.call_later(1.0, _wake, loop)


def _is_in_loop() -> bool:
    try:
        return bool(asyncio.get_running_loop())
    except RuntimeError:
        return False
