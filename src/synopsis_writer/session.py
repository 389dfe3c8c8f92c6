"""One command's worth of work: choose the model, load the desk, write, and close."""

import contextlib
import importlib
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synopsis_writer.brief import Brief
from synopsis_writer.client import Limits, ModelClient
from synopsis_writer.client.choice import Choice, choose, open_client
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.outline import plan
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
class Session:
    """A result, and the run it came from."""

    result: Result
    origin: Origin


@dataclass(frozen=True)
class _Table:
    """What is laid out before the first request."""

    choice: Choice
    desk: Desk
    brief: Brief
    show: Show


def _lay(settings: Settings, environment: Mapping[str, str], brief: Brief, say: Say) -> _Table:
    choice = choose(settings, environment)
    if choice.kind == "hosted":
        # The SDK's import is most of the time to the first request: begin it now, beside the loading.
        threading.Thread(target=importlib.import_module, args=("openai",), daemon=True).start()
    desk = load_desk(settings, say)
    show = desk.find_show(brief.show, say)
    say(f"model: {choice.model} ({choice.why})")
    return _Table(choice, desk, brief.model_copy(update={"show": show.name}), show)


async def write_once(
    settings: Settings,
    environment: Mapping[str, str],
    brief: Brief,
    outline: Outline | None,
    *,
    best_of: int,
    seed: int | None,
    say: Say,
) -> Session:
    """Write one synopsis with the model that settings and environment choose.

    Raises:
        InputError: nothing to work with: no model, a broken example, template or profile.
        ModelError: the model failed for good before any answer.
    """
    table = _lay(settings, environment, brief, say)
    async with _author(table, settings, environment, outline, seed, say) as (author, origin):
        if table.choice.kind == "hosted":
            # While the server writes; beside an embedded model there is no room for it.
            threading.Thread(target=table.desk.gate.warm_up, daemon=True).start()
        result = await write_synopsis(
            table.brief,
            table.show,
            author,
            table.desk.gate,
            attempts=settings.attempts,
            best_of=best_of,
            watch=say,
        )
    return Session(result, origin)


async def outline_once(
    settings: Settings, environment: Mapping[str, str], brief: Brief, *, seed: int | None, say: Say
) -> tuple[Brief, Outline]:
    """Plan one synopsis; raises as `write_once`, and GateRefused when no answer is an outline."""
    table = _lay(settings, environment, brief, say)
    if table.choice.kind == "packaged":
        return table.brief, _demo_author(table, settings, None, seed, say).plan()
    async with _client(table.choice, settings, environment, say) as client:
        prompt = table.desk.outline_prompt(table.brief, table.show)
        outline = await plan(
            client, table.desk.prompts, prompt, _limits(settings), attempts=settings.attempts, watch=say
        )
    return table.brief, outline


@contextlib.asynccontextmanager
async def _author(
    table: _Table,
    settings: Settings,
    environment: Mapping[str, str],
    outline: Outline | None,
    seed: int | None,
    say: Say,
) -> AsyncIterator[tuple[Author, Origin]]:
    if table.choice.kind == "packaged":
        yield _demo_author(table, settings, outline, seed, say), new_origin()
        return
    async with _client(table.choice, settings, environment, say) as client:
        prompt = table.desk.synopsis_prompt(table.brief, table.show, outline)
        yield ModelAuthor(client, table.desk.prompts, prompt, _limits(settings)), new_origin(prompt)


def _demo_author(
    table: _Table, settings: Settings, outline: Outline | None, seed: int | None, say: Say
) -> "DemoAuthor":
    from synopsis_writer.guided.demo import demo_author

    first_seed = secrets.randbelow(_MOST_SEEDS) if seed is None else seed
    say(f"demo draft (seed {first_seed}): a scaffold, and a few words by a small model")
    if table.brief.words or table.brief.notes:
        say("a demo draft has a length of its own and reads no notes: --words and --notes have no effect")
    return demo_author(settings, table.brief, outline, table.show, table.desk.pool.shows, first_seed)


@contextlib.asynccontextmanager
async def _client(
    choice: Choice, settings: Settings, environment: Mapping[str, str], say: Say
) -> AsyncIterator[ModelClient]:
    client = open_client(choice, settings, environment, say)
    try:
        yield client
    finally:
        await client.close()


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_tokens, settings.timeout, settings.temperature)
