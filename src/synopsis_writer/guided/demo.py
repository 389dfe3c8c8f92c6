"""The guided strategy as an author: the packaged model, opened for one brief."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from synopsis_writer.brief import Brief
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


@dataclass(frozen=True)
class DemoAuthor:
    """Drafts from a scaffold; a repair is another draft, from the next seed."""

    guided: GuidedAuthor
    first_seed: int

    @property
    def name(self) -> str:
        """The packaged model's name."""
        return MODEL_NAME

    async def draft(self, seed: int, last: Attempt | None) -> Answer:  # noqa: ARG002 - it cannot be told what was wrong
        """Write the draft of `first_seed + seed`."""
        return await self.guided.draft(self.first_seed + seed)


@contextlib.contextmanager
def open_demo(
    settings: Settings,
    brief: Brief,
    outline: Outline | None,
    show: Show,
    shows: Sequence[Show],
    first_seed: int,
    say: Callable[[str], None],
) -> Iterator[DemoAuthor]:
    """Load the packaged model, and close it in the end.

    An outline's beats and characters go before the brief's own.

    Raises:
        EngineError: the model cannot be put together or loaded.
        TemplateError: a scaffold breaks its format.
    """
    prompts = (settings.prompts or folder("prompts")) / "guided"
    if outline is not None:
        people = tuple(person.name for person in outline.characters)[:12]
        brief = brief.model_copy(update={"beats": outline.beats, "characters": people})
    say(f"demo draft with {MODEL_NAME} (seed {first_seed}): a scaffold with a few words of the model's")
    scaffold = load_scaffold(brief.form, prompts)
    banned = [member.name for other in shows if other.name != show.name for member in other.cast]
    engine = Engine(packaged_weights(settings.cache), name=MODEL_NAME, slots=SLOTS, threads=settings.threads)
    try:
        yield DemoAuthor(GuidedAuthor(engine, brief, show, scaffold, prompts, banned), first_seed)
    finally:
        engine.close()
