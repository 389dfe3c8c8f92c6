"""Pool, templates, gate and model opened once, to write, plan, check and replay."""

import contextlib
import hashlib
import importlib
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document
from synopsis_writer.drafting import Author, ModelAuthor, plan
from synopsis_writer.drafting import write as write_synopsis
from synopsis_writer.errors import ExampleError, FileError, InputError, ReplayError, SettingsError
from synopsis_writer.examples import (
    Example,
    Pool,
    example_files,
    load_example,
    load_pool,
    read_brief,
    with_free_id,
)
from synopsis_writer.gate.copies import index_sources
from synopsis_writer.gate.embeddings import E5Embedder, embed_sources
from synopsis_writer.gate.finding import Finding, Subject
from synopsis_writer.gate.gate import ALL_CHECKS, Gate, copy_sources, failures
from synopsis_writer.gate.lexicon import LanguageClassifier
from synopsis_writer.house.house import House, built_in_house, load_house
from synopsis_writer.kinds import Form
from synopsis_writer.log import Journal, ReplayAuthor, ReplayClient, Run, RunLog, differences
from synopsis_writer.models.base import ModelClient, bill
from synopsis_writer.models.limits import Budget, RateLimitedClient
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_client, resolve_model
from synopsis_writer.prompts.selection import Chosen, ExampleIndex, index_examples, select
from synopsis_writer.prompts.templates import Prompt, Prompts, load_prompts
from synopsis_writer.result import Result, new_run
from synopsis_writer.settings import Settings, folder
from synopsis_writer.show import SHOW_FILE, Show, find_show, generic_show, load_show, nearest_shows
from synopsis_writer.synopsis import Outline

if TYPE_CHECKING:
    from synopsis_writer.demo.author import DemoAuthor

Say = Callable[[str], None]

_MOST_SEEDS = 2**31


@dataclass(frozen=True)
class Order:
    """What a person orders.

    Attributes:
        brief: what the text is to be.
        outline: the plan it is to follow.
        best_of: drafts of the first round.
        seed: of the guided strategy; None draws one.
    """

    brief: Brief
    outline: Outline | None = None
    best_of: int = 1
    seed: int | None = None


@dataclass(frozen=True)
class Desk:
    """The pool of examples, the prompt templates, and the gate."""

    pool: Pool
    prompts: Prompts
    gate: Gate
    example_tokens: int
    cache: Path
    pinned: tuple[str, ...] = ()

    def find_show(self, name: str, say: Callable[[str], None] = lambda _: None) -> Show:
        """Return the show with this name; an unknown one is said and goes on as a generic show."""
        show = find_show(self.pool.shows, name)
        if show is not None:
            return show
        near = nearest_shows(self.pool.shows, name)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "synopsis examples list names the known ones."
        )
        say(f"unknown show '{name}': going on without its cast and place; {hint}")
        return generic_show(name)

    def synopsis_prompt(
        self, brief: Brief, show: Show, outline: Outline | None = None, without: Collection[str] = ()
    ) -> Prompt:
        """Select examples, and render the request for a synopsis."""
        examples = [chosen.example for chosen in self.chosen(brief, without)]
        return self.prompts.synopsis(brief, show, examples, outline)

    def outline_prompt(self, brief: Brief, show: Show, without: Collection[str] = ()) -> Prompt:
        """Select examples, and render the request for an outline."""
        examples = [chosen.example for chosen in self.chosen(brief, without)]
        return self.prompts.outline(brief, show, examples)

    def chosen(self, brief: Brief, without: Collection[str] = ()) -> list[Chosen]:
        """Select the examples for a brief, and say why; those of the ids `without` are never among them."""
        return select(
            self.index, brief, token_budget=self.example_tokens, exclude=without, pinned=self.pinned
        )

    @cached_property
    def index(self) -> ExampleIndex:
        """The index that examples are selected by, built when it is first asked for."""
        return index_examples(self.pool.examples, self.cache / "selection")


@dataclass(frozen=True)
class _Table:
    """What is laid out before the first request."""

    choice: ResolvedModel
    desk: Desk
    order: Order
    show: Show


def _lay(settings: Settings, environment: Mapping[str, str], order: Order, say: Say) -> _Table:
    choice = resolve_model(settings, environment)
    if choice.kind == "hosted":
        threading.Thread(target=_import_slow, daemon=True).start()
    desk = load_desk(settings, say)
    show = desk.find_show(order.brief.show, say)
    say(f"model: {choice.model} ({choice.why})")
    brief = order.brief.model_copy(update={"show": show.name})
    return _Table(choice, desk, replace(order, brief=brief), show)


def _import_slow() -> None:
    """Import what takes most of the time to the first request, beside the loading."""
    for name in ("openai", "genai_prices"):
        importlib.import_module(name)


async def write_once(
    settings: Settings,
    environment: Mapping[str, str],
    order: Order,
    log: RunLog,
    *,
    say: Say,
    grown: Callable[[str], None] | None = None,
) -> Result:
    """Write one synopsis with the model that settings and environment choose.

    Args:
        settings: all settings.
        environment: where the key stands.
        order: what is to be written.
        log: where the run is noted, each attempt as soon as it is judged.
        say: is told what happens, in one line each.
        grown: is given the answer so far while it grows; None asks for it whole.

    Raises:
        InputError: nothing to work with: no model, a broken example, template or profile.
        ModelError: the model failed for good before any answer.
    """
    table = _lay(settings, environment, order, say)
    async with _author(table, settings, environment, say, grown) as (author, prompt):
        if table.choice.kind == "hosted":
            # While the server writes; beside an embedded model there is no room for it.
            threading.Thread(target=table.desk.gate.warm_up, daemon=True).start()
        run = _run("write", table, author.name, prompt, settings)
        with Journal(log, run, say) as journal:
            result = await write_synopsis(
                table.order.brief,
                table.show,
                author,
                table.desk.gate,
                attempts=settings.attempts,
                best_of=order.best_of,
                watch=say,
                recorder=journal,
            )
            journal.end(result.outcome, str(result.error) if result.error else None)
    return replace(result, run=run.id, created=run.created, prompt=prompt)


async def outline_once(
    settings: Settings, environment: Mapping[str, str], order: Order, log: RunLog, *, say: Say
) -> tuple[Brief, Outline]:
    """Plan one synopsis; raises as `write_once`, and GateRefusedError when no answer is an outline."""
    table = _lay(settings, environment, order, say)
    if table.choice.kind == "packaged":
        return table.order.brief, _demo_author(table, settings, say).plan()
    async with open_client(table.choice, settings, environment, say) as client:
        prompt = table.desk.outline_prompt(table.order.brief, table.show)
        run = _run("outline", table, client.name, prompt, settings)
        with Journal(log, run, say) as journal:
            try:
                outline = await plan(
                    client,
                    table.desk.prompts,
                    prompt,
                    limits_of(settings),
                    attempts=settings.attempts,
                    watch=say,
                    recorder=journal,
                )
            finally:
                say(bill([attempt.answer for attempt in journal.attempts]))
            journal.end("accepted")
    return table.order.brief, outline


async def replay_once(settings: Settings, name: str, log: RunLog, *, say: Say) -> Result:
    """Go through a logged run again: the same prompt, the answers of then, the verdicts of today.

    Raises:
        InputError: there is no such run, it cannot be replayed, or the desk cannot be loaded.
    """
    run = log.find(name)
    attempts = log.attempts(run.id)
    if run.command != "write" or not attempts:
        raise ReplayError(f"run {run.id} holds no answer to a write: synopsis log show {run.id}")
    desk = load_desk(settings, say)
    show = desk.find_show(run.brief.show, say)
    author: Author = ReplayAuthor(run, attempts)
    prompt = None
    if run.prompt is not None:
        prompt = desk.synopsis_prompt(run.brief, show, run.outline)
        author = ModelAuthor(
            ReplayClient(run, attempts, settings.max_tokens), desk.prompts, prompt, limits_of(settings)
        )
    result = await write_synopsis(
        run.brief, show, author, desk.gate, attempts=run.rounds, best_of=run.best_of, watch=say
    )
    changes = differences(attempts, result.attempts)
    say(f"replayed {run.id}: " + (" ".join(changes) or "same prompt, same answers, same verdicts."))
    return replace(result, run=run.id, created=run.created, prompt=prompt)


def _run(command: str, table: _Table, model: str, prompt: Prompt | None, settings: Settings) -> Run:
    order, (name, created) = table.order, new_run()
    return Run(
        name,
        command,
        created,
        order.brief,
        model,
        server=table.choice.server,
        outline=order.outline,
        rounds=settings.attempts,
        best_of=order.best_of,
        prompt=prompt.name if prompt else None,
        version=prompt.version if prompt else None,
        prompt_hash=prompt.hash if prompt else None,
        examples=tuple(prompt.example_ids) if prompt else (),
    )


@contextlib.asynccontextmanager
async def _author(
    table: _Table,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,
    grown: Callable[[str], None] | None,
) -> AsyncIterator[tuple[Author, Prompt | None]]:
    if table.choice.kind == "packaged":
        yield _demo_author(table, settings, say), None
        return
    async with open_client(table.choice, settings, environment, say, grown) as client:
        order = table.order
        prompt = table.desk.synopsis_prompt(order.brief, table.show, order.outline)
        yield ModelAuthor(client, table.desk.prompts, prompt, limits_of(settings)), prompt


def _demo_author(table: _Table, settings: Settings, say: Say) -> "DemoAuthor":
    from synopsis_writer.demo.author import demo_author

    brief, seed = table.order.brief, table.order.seed
    first_seed = secrets.randbelow(_MOST_SEEDS) if seed is None else seed
    say(f"demo draft (seed {first_seed}): a scaffold, and a few words by a small model")
    if brief.words or brief.notes:
        say("a demo draft has a length of its own and reads no notes: --words and --notes have no effect")
    return demo_author(settings, brief, table.order.outline, table.show, table.desk.pool.shows, first_seed)


_LIKE = 0.4  # of difflib's ratio: an example's name without its show is like enough


def pool_folders(settings: Settings) -> list[Path]:
    """Return the folders examples are read from: the named one, or the program's and the user's own."""
    if settings.examples is not None:
        return [settings.examples]
    own = settings.own_examples
    return [folder("examples"), *([own] if any(own.glob("*/*.md")) else [])]


def load_desk(settings: Settings, _say: Callable[[str], None] = lambda _: None) -> Desk:
    """Load pool, templates and gate.

    Raises:
        InputError: an example, a template or the profile is missing or broken, a pinned id is unknown, or
            the semantic checks are wanted and their package is not there.
    """
    pool = load_pool(pool_folders(settings))
    if not pool.shows and not pool.examples:
        raise ExampleError("no examples: name a folder that holds some with --examples")
    _check_pinned(settings.pinned, pool)
    prompts = load_prompts(settings.prompts or folder("prompts"))
    profile = load_house(settings.profile) if settings.profile else built_in_house()
    if unknown := sorted(set(settings.disable) - set(ALL_CHECKS)):
        raise SettingsError(f"no check '{unknown[0]}' to disable: the checks are {', '.join(ALL_CHECKS)}")
    sources = copy_sources(pool.examples, prompts.copy_sources())
    index = index_sources(sources, settings.cache / "copies")
    embeddings = None
    if settings.semantic:
        embedder = E5Embedder(settings.threads)
        embeddings = embed_sources(copy_sources(pool.examples), embedder, settings.cache / "meanings")
    classify = LanguageClassifier(settings.cache / "languages")
    gate = Gate(profile, index, frozenset(settings.disable), pool.shows, embeddings, classify)
    return Desk(pool, prompts, gate, settings.example_tokens, settings.cache, settings.pinned)


def _check_pinned(pinned: Sequence[str], pool: Pool) -> None:
    known = [example.id for example in pool.examples]
    for name in pinned:
        if name not in known:
            near = get_close_matches(name, known, cutoff=_LIKE)
            hint = f"did you mean {' or '.join(near)}?" if near else "synopsis examples list names them."
            raise SettingsError(f"no example '{name}' to pin: {hint}")


_DRAFTS = 100  # numbers of drafts that a repeat has for itself: attempts are 10 at most


class Authors(Protocol):
    """Gives the author of one brief, and the prompt it drafts with: None in the guided strategy."""

    def __call__(
        self, name: str, brief: Brief, show: Show, *, repeat: int = 0, without: Collection[str] = ()
    ) -> tuple[Author, Prompt | None]:
        """Return the author; `name` and `repeat` tell drafts apart, `without` are examples not to show."""
        ...


@contextlib.asynccontextmanager
async def open_authors(
    choice: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    desk: Desk,
    budget: Budget,
    say: Callable[[str], None],
    *,
    rpm: float | None = None,
    tpm: float | None = None,
    calls: int | None = None,
) -> AsyncIterator[Authors]:
    """Open what drafts with the chosen model; raises as `open_client`.

    Args:
        choice: the model.
        settings: all settings.
        environment: where the key stands.
        desk: pool and templates.
        budget: the ledger of all calls.
        say: is told of waits.
        rpm: requests a minute at most; None: no bound.
        tpm: tokens a minute at most; None: no bound.
        calls: calls at once; None: no bound.
    """
    if choice.kind == "packaged":
        yield _demo_authors(settings, desk)
        return
    async with open_client(choice, settings, environment, say, budget=budget) as client:
        yield _model_authors(RateLimitedClient(client, rpm, tpm, say, calls=calls), settings, desk)


def _model_authors(client: ModelClient, settings: Settings, desk: Desk) -> Authors:
    def author(
        name: str,  # noqa: ARG001 - a server draws its own seed
        brief: Brief,
        show: Show,
        *,
        repeat: int = 0,
        without: Collection[str] = (),
    ) -> tuple[Author, Prompt | None]:
        prompt = desk.synopsis_prompt(brief, show, without=without)
        limits = replace(limits_of(settings), sample=repeat * _DRAFTS)
        return ModelAuthor(client, desk.prompts, prompt, limits), prompt

    return author


def _demo_authors(settings: Settings, desk: Desk) -> Authors:
    """Draft with the packaged model; a name's repeat always has the same seed."""
    from synopsis_writer.demo.author import demo_author

    def author(
        name: str,
        brief: Brief,
        show: Show,
        *,
        repeat: int = 0,
        without: Collection[str] = (),  # noqa: ARG001 - the guided strategy shows no examples
    ) -> tuple[Author, Prompt | None]:
        seed = int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6], 16)
        first_seed = seed + repeat * _DRAFTS
        return demo_author(settings, brief, None, show, desk.pool.shows, first_seed), None

    return author


UNKNOWN = "unbekannt"  # the show of a text of which nobody said one


@dataclass(frozen=True)
class Review:
    """What the gate said of one text.

    Attributes:
        source: the file, or `-`.
        text: what was judged.
        first_line: the line of the file on which the text begins, from 1.
        form: the form it was held against.
        guessed: nobody named the form: it is the one that fits best.
        findings: one a check that applied.
    """

    source: str
    text: str
    first_line: int
    form: Form
    guessed: bool
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check refuses the text."""
        return not self.refused

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that refuse the text."""
        return failures(self.findings)

    def place(self, finding: Finding) -> tuple[int, int]:
        """Return line and column, from 1, of a finding's first spot in the file, or of the text."""
        start = finding.spans[0].start if finding.spans else 0
        above = self.text[:start]
        return self.first_line + above.count("\n"), start - (above.rfind("\n") + 1) + 1

    def as_data(self) -> dict[str, Any]:
        """Return the review as JSON holds it."""
        return {
            "file": self.source,
            "passed": self.passed,
            "form": self.form.value,
            "form_guessed": self.guessed,
            "findings": [finding.as_data() for finding in self.findings],
        }


def review(
    document: Document, desk: Desk, *, show: str | None, theme: str | None, form: Form | None
) -> Review:
    """Judge a text by its front matter's brief, or by what is given here; what is given goes first.

    Raises:
        InputError: the text is empty, or a field of the brief breaks a rule.
    """
    if not document.text:
        raise FileError(f"{document.path}: holds no text: write one, or name another file")
    brief = _brief(document, show, theme, form)
    known = desk.find_show(brief.show if brief else show or UNKNOWN, say=lambda _: None)
    subject = desk.gate.subject(
        document.text,
        brief.form if brief else form or Form.EPISODE,
        known,
        brief,
        str(document.meta.get("title", "")),
        _people(document.meta),
    )
    strangers = () if known.name == UNKNOWN else subject.strangers
    subject = replace(subject, exclude_source=_source_of(document.path, desk), strangers=strangers)
    guessed = form is None and "brief" not in document.meta
    if guessed:
        subject = _best_fitting(subject, desk)
    findings = desk.gate.judge(subject)
    return Review(str(document.path), document.text, document.first_line, subject.form, guessed, findings)


def _brief(document: Document, show: str | None, theme: str | None, form: Form | None) -> Brief | None:
    given = {
        name: value for name, value in (("show", show), ("theme", theme), ("form", form)) if value is not None
    }
    if "brief" in document.meta:
        return make_brief(**{**read_brief(document).as_data(), **given})
    if theme is not None:
        return make_brief(**{"show": UNKNOWN, **given})
    return None


def _people(meta: dict[str, Any]) -> tuple[str, ...]:
    people = meta.get("characters")
    if not isinstance(people, list):
        return ()
    return tuple(str(person["name"]) for person in people if isinstance(person, dict) and "name" in person)


def _source_of(path: Path, desk: Desk) -> str:
    here = path.resolve()
    return next((example.id for example in desk.pool.examples if example.path.resolve() == here), "")


def _best_fitting(subject: Subject, desk: Desk) -> Subject:
    candidates = [desk.gate.as_form(subject, form) for form in Form]
    return min(candidates, key=lambda candidate: len(failures(desk.gate.judge(candidate))))


def faults(folders: Sequence[Path], profile: House, cache: Path) -> tuple[int, list[str]]:
    """Return how many examples there are, and every fault of format, show and style, in one line each.

    Raises:
        InputError: a folder is missing, unreadable or empty.
    """
    found: list[str] = []
    shows: dict[str, Show] = {}
    examples: list[Example] = []
    for place in folders:
        for path in example_files(place):
            try:
                examples.append(with_free_id(load_example(path), [example.id for example in examples]))
            except InputError as error:
                found.append(str(error))
        for path in sorted(place.glob(f"*/{SHOW_FILE}")):
            try:
                shows[path.parent.name] = load_show(path)
            except InputError as error:
                found.append(str(error))
    sources = index_sources(copy_sources(examples), cache / "copies")
    gate = Gate(profile, sources, shows=tuple(shows.values()))
    for example in examples:
        found += _faults_of(example, shows.get(example.path.parent.name), gate)
    return len(examples), found


def _faults_of(example: Example, show: Show | None, gate: Gate) -> list[str]:
    if show is None:
        return [f"{example.path}: {example.path.parent} has no {SHOW_FILE}: write one with the show's name"]
    found = []
    if example.brief.show != show.name:
        found.append(f"{example.path}: the brief's show is not '{show.name}': use the name in {SHOW_FILE}")
    findings = gate.examine(example.synopsis, example.brief, show, exclude_source=example.id)
    return found + [f"{example.path}: {finding.check}: {finding.message}" for finding in failures(findings)]
