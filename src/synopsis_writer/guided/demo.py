"""The guided strategy as an author: the packaged model, loaded for one draft."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from synopsis_writer.brief import MOST_CHARACTERS, Brief
from synopsis_writer.client import Answer
from synopsis_writer.client.engine import Engine
from synopsis_writer.client.weights import MODEL_NAME, packaged_weights
from synopsis_writer.guided.author import GuidedAuthor, guided_outline
from synopsis_writer.guided.scaffold import load_scaffold
from synopsis_writer.resources import folder
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.synopsis import Outline, Synopsis
from synopsis_writer.writer import Attempt, Draft

SLOTS = 4  # completions of a gap, decoded side by side
CONTEXT = 3072  # tokens of all slots together: a prompt with the longest theme takes 600, an answer 36


@dataclass(frozen=True)
class DemoAuthor:
    """Drafts from a scaffold; a repair is another draft, from the next seed.

    The model is loaded for a draft and given back before the gate loads its word lists: both at once would
    take 700 MB.
    """

    brief: Brief
    show: Show
    prompts: Path
    weights: Path
    banned: tuple[str, ...]
    threads: int
    first_seed: int
    outline: Outline | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one model in memory, whatever --best-of asks

    @property
    def name(self) -> str:
        """The packaged model's name."""
        return MODEL_NAME

    async def drafts(self, seed: int, last: Attempt | None) -> AsyncIterator[Draft]:  # noqa: ARG002 - it cannot be told what was wrong
        """Write the draft of `first_seed + seed`."""
        async with self.turn:
            answer = await self._draft(seed)
        yield Draft(answer)

    async def _draft(self, seed: int) -> Answer:
        scaffold = load_scaffold(self.brief.form, self.prompts)
        engine = Engine(self.weights, name=MODEL_NAME, slots=SLOTS, context=CONTEXT, threads=self.threads)
        try:
            guided = GuidedAuthor(engine, self.brief, self.show, scaffold, self.prompts, self.banned)
            answer = await guided.draft(self.first_seed + seed)
        finally:
            engine.close()
        return (
            answer if self.outline is None else replace(answer, text=_as_planned(answer.text, self.outline))
        )

    def plan(self) -> Outline:
        """Return the outline of the first draft."""
        scaffold = load_scaffold(self.brief.form, self.prompts)
        return guided_outline(self.brief, self.show, scaffold, self.prompts, self.first_seed)


def _as_planned(text: str, outline: Outline) -> str:
    """Give a draft the outline's title, logline and people; further people of the draft stay."""
    drafted = Synopsis.model_validate_json(text)
    names = {person.name for person in outline.characters}
    people = (*outline.characters, *(person for person in drafted.characters if person.name not in names))
    planned = {"title": outline.title, "logline": outline.logline, "characters": people}
    return drafted.model_copy(update=planned).as_json()


def demo_author(
    settings: Settings,
    brief: Brief,
    outline: Outline | None,
    show: Show,
    shows: Sequence[Show],
    first_seed: int,
) -> DemoAuthor:
    """Return the author for one brief; an outline's beats and characters go before the brief's own.

    Raises:
        EngineError: the packaged model cannot be put together.
    """
    if outline is not None:
        people = tuple(person.name for person in outline.characters)[:MOST_CHARACTERS]
        brief = brief.model_copy(update={"beats": outline.beats, "characters": people})
    return DemoAuthor(
        brief,
        show,
        (settings.prompts or folder("prompts")) / "guided",
        packaged_weights(settings.cache),
        tuple(member.name for other in shows if other.name != show.name for member in other.cast),
        settings.threads,
        first_seed,
        outline,
    )
