"""One command's worth of work: choose the model, load the desk, write, note the run, and close."""

import contextlib
import importlib
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synopsis_writer.brief import Brief
from synopsis_writer.client.bill import bill
from synopsis_writer.client.chain import limits_of, open_chain
from synopsis_writer.client.choice import Choice, choose
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.errors import ReplayError
from synopsis_writer.journal import Journal
from synopsis_writer.kinds import Outcome
from synopsis_writer.outline import plan
from synopsis_writer.replay import ReplayAuthor, ReplayClient, differences
from synopsis_writer.runlog import Run, RunLog
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.store import Origin, new_origin
from synopsis_writer.synopsis import Outline
from synopsis_writer.writer import Author, ModelAuthor, Result
from synopsis_writer.writer import write as write_synopsis

if TYPE_CHECKING:
    from synopsis_writer.guided.demo import DemoAuthor

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
class Session:
    """A result, and the run it came from."""

    result: Result
    origin: Origin


@dataclass(frozen=True)
class _Table:
    """What is laid out before the first request."""

    choice: Choice
    desk: Desk
    order: Order
    show: Show


def _lay(settings: Settings, environment: Mapping[str, str], order: Order, say: Say) -> _Table:
    choice = choose(settings, environment)
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
) -> Session:
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
    async with _author(table, settings, environment, say, grown) as (author, origin):
        if table.choice.kind == "hosted":
            # While the server writes; beside an embedded model there is no room for it.
            threading.Thread(target=table.desk.gate.warm_up, daemon=True).start()
        with Journal(log, _run("write", table, author.name, origin, settings), say) as journal:
            result = await write_synopsis(
                table.order.brief,
                table.show,
                author,
                table.desk.gate,
                attempts=settings.attempts,
                best_of=order.best_of,
                watch=say,
                notes=journal,
            )
            journal.end(_outcome(result), str(result.error) if result.error else None)
    return Session(result, origin)


async def outline_once(
    settings: Settings, environment: Mapping[str, str], order: Order, log: RunLog, *, say: Say
) -> tuple[Brief, Outline]:
    """Plan one synopsis; raises as `write_once`, and GateRefused when no answer is an outline."""
    table = _lay(settings, environment, order, say)
    if table.choice.kind == "packaged":
        return table.order.brief, _demo_author(table, settings, say).plan()
    async with open_chain(table.choice, settings, environment, say) as client:
        prompt = table.desk.outline_prompt(table.order.brief, table.show)
        run = _run("outline", table, client.name, new_origin(prompt), settings)
        with Journal(log, run, say) as journal:
            try:
                outline = await plan(
                    client,
                    table.desk.prompts,
                    prompt,
                    limits_of(settings),
                    attempts=settings.attempts,
                    watch=say,
                    record=journal.note,
                )
            finally:
                say(bill([entry.answer for entry in journal.entries]))
            journal.end(Outcome.DONE)
    return table.order.brief, outline


async def replay_once(settings: Settings, name: str, log: RunLog, *, say: Say) -> Session:
    """Go through a logged run again: the same prompt, the answers of then, the verdicts of today.

    Raises:
        InputError: there is no such run, it cannot be replayed, or the desk cannot be loaded.
    """
    run = log.find(name)
    entries = log.entries(run.id)
    if run.command != "write" or not entries:
        raise ReplayError(f"run {run.id} holds no answer to a write: synopsis log show {run.id}")
    desk = load_desk(settings, say)
    show = desk.find_show(run.brief.show, say)
    author: Author = ReplayAuthor(run, entries)
    prompt = None
    if run.prompt is not None:
        prompt = desk.synopsis_prompt(run.brief, show, run.outline)
        author = ModelAuthor(
            ReplayClient(run, entries, settings.max_tokens), desk.prompts, prompt, limits_of(settings)
        )
    result = await write_synopsis(
        run.brief, show, author, desk.gate, attempts=run.rounds, best_of=run.best_of, watch=say
    )
    changes = differences(entries, result.attempts)
    say(f"replayed {run.id}: " + (" ".join(changes) or "same prompt, same answers, same verdicts."))
    return Session(result, Origin(run.id, run.created, prompt))


def _run(command: str, table: _Table, model: str, origin: Origin, settings: Settings) -> Run:
    prompt, order = origin.prompt, table.order
    return Run(
        origin.run,
        command,
        origin.created,
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


def _outcome(result: Result) -> Outcome:
    if result.error is not None:
        return Outcome.FAILED
    return Outcome.DONE if result.accepted else Outcome.REFUSED


@contextlib.asynccontextmanager
async def _author(
    table: _Table,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,
    grown: Callable[[str], None] | None,
) -> AsyncIterator[tuple[Author, Origin]]:
    if table.choice.kind == "packaged":
        yield _demo_author(table, settings, say), new_origin()
        return
    async with open_chain(table.choice, settings, environment, say, grown) as client:
        order = table.order
        prompt = table.desk.synopsis_prompt(order.brief, table.show, order.outline)
        yield ModelAuthor(client, table.desk.prompts, prompt, limits_of(settings)), new_origin(prompt)


def _demo_author(table: _Table, settings: Settings, say: Say) -> "DemoAuthor":
    from synopsis_writer.guided.demo import demo_author

    brief, seed = table.order.brief, table.order.seed
    first_seed = secrets.randbelow(_MOST_SEEDS) if seed is None else seed
    say(f"demo draft (seed {first_seed}): a scaffold, and a few words by a small model")
    if brief.words or brief.notes:
        say("a demo draft has a length of its own and reads no notes: --words and --notes have no effect")
    return demo_author(settings, brief, table.order.outline, table.show, table.desk.pool.shows, first_seed)
