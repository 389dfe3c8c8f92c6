"""Authors for many briefs: a model on one client, or the packaged one, opened once."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from synopsis_writer.brief import Brief
from synopsis_writer.client import ModelClient
from synopsis_writer.client.budget import Budget
from synopsis_writer.client.chain import limits_of, open_chain
from synopsis_writer.client.choice import Choice
from synopsis_writer.client.pace import PacedClient
from synopsis_writer.desk import Desk
from synopsis_writer.prompts import Prompt
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.writer import Author, ModelAuthor

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
    choice: Choice,
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
    """Open what drafts with the chosen model; raises as `open_chain`.

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
    async with open_chain(choice, settings, environment, say, budget=budget) as client:
        yield _model_authors(PacedClient(client, rpm, tpm, say, calls=calls), settings, desk)


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
        limits = replace(limits_of(settings), repeat=repeat * _DRAFTS)
        return ModelAuthor(client, desk.prompts, prompt, limits), prompt

    return author


def _demo_authors(settings: Settings, desk: Desk) -> Authors:
    """Draft with the packaged model; a name's repeat always has the same seed."""
    from synopsis_writer.guided.demo import demo_author

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
