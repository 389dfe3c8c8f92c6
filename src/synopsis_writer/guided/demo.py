"""The guided strategy as an author: the packaged model, loaded for one draft."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.brief import MOST_CHARACTERS, Brief
from synopsis_writer.client import Answer
from synopsis_writer.client.engine import Engine
from synopsis_writer.client.weights import MODEL_NAME, packaged_weights
from synopsis_writer.guided.author import GuidedAuthor
from synopsis_writer.guided.scaffold import load_scaffold
from synopsis_writer.resources import folder
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.synopsis import Outline
from synopsis_writer.writer import Attempt

SLOTS = 4  # completions of a gap, decoded side by side
CONTEXT = 1024  # tokens of all slots together: a gap's prompt takes 400 to 600, its answers 4 × 36


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

    @property
    def name(self) -> str:
        """The packaged model's name."""
        return MODEL_NAME

    async def draft(self, seed: int, last: Attempt | None) -> Answer:  # noqa: ARG002 - it cannot be told what was wrong
        """Write the draft of `first_seed + seed`."""
        scaffold = load_scaffold(self.brief.form, self.prompts)
        engine = Engine(self.weights, name=MODEL_NAME, slots=SLOTS, context=CONTEXT, threads=self.threads)
        try:
            guided = GuidedAuthor(engine, self.brief, self.show, scaffold, self.prompts, self.banned)
            return await guided.draft(self.first_seed + seed)
        finally:
            engine.close()


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
    )
