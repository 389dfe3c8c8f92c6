"""What a command works with, loaded once: the pool, the templates and the gate."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from synopsis_writer.brief import Brief
from synopsis_writer.closeness import ExampleIndex
from synopsis_writer.closeness_store import kept_examples
from synopsis_writer.errors import ExampleError, SettingsError
from synopsis_writer.examples import Example, Pool, load_pool
from synopsis_writer.prompts import Prompt, Prompts, load_prompts
from synopsis_writer.resources import folder
from synopsis_writer.selection import Chosen, select
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show, find_show, generic_show, nearest_shows
from synopsis_writer.style.classifier import Classifier
from synopsis_writer.style.copy_store import kept_index
from synopsis_writer.style.gate import ALL_CHECKS, Gate, copy_sources
from synopsis_writer.style.meaning_store import kept_meanings
from synopsis_writer.style.meanings import E5Embedder, Meanings
from synopsis_writer.style.profile import house_profile, load_profile
from synopsis_writer.synopsis import Outline

_LIKE = 0.4  # of difflib's ratio: an example's name without its show is like enough


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
            self.index, brief, token_budget=self.example_tokens, without=without, pinned=self.pinned
        )

    @cached_property
    def index(self) -> ExampleIndex:
        """The index that examples are selected by, built when it is first asked for."""
        return kept_examples(self.pool.examples, self.cache / "selection")


def pool_folders(settings: Settings) -> list[Path]:
    """Return the folders examples are read from: the named one, or the program's and the user's own."""
    if settings.examples is not None:
        return [settings.examples]
    own = settings.own_examples
    return [folder("examples"), *([own] if any(own.glob("*/*.md")) else [])]


def load_desk(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Desk:
    """Load pool, templates and gate; `say` is told what takes long.

    Raises:
        InputError: an example, a template or the profile is missing or broken, a pinned id is unknown, or
            the semantic checks are wanted and their package is not there.
    """
    pool = load_pool(pool_folders(settings))
    if not pool.shows and not pool.examples:
        raise ExampleError("no examples: name a folder that holds some with --examples")
    _check_pinned(settings.pinned, pool)
    prompts = load_prompts(settings.prompts or folder("prompts"))
    profile = load_profile(settings.profile) if settings.profile else house_profile()
    if unknown := sorted(set(settings.disable) - set(ALL_CHECKS)):
        raise SettingsError(f"no check '{unknown[0]}' to disable: the checks are {', '.join(ALL_CHECKS)}")
    sources = copy_sources(pool.examples, prompts.copy_sources())
    index = kept_index(sources, settings.cache / "copies")
    meanings = _meanings(settings, pool.examples, say) if settings.semantic else None
    classify = Classifier(settings.cache / "languages")
    gate = Gate(profile, index, frozenset(settings.disable), pool.shows, meanings, classify)
    return Desk(pool, prompts, gate, settings.example_tokens, settings.cache, settings.pinned)


def _check_pinned(pinned: Sequence[str], pool: Pool) -> None:
    known = [example.id for example in pool.examples]
    for name in pinned:
        if name not in known:
            near = get_close_matches(name, known, cutoff=_LIKE)
            hint = f"did you mean {' or '.join(near)}?" if near else "synopsis examples list names them."
            raise SettingsError(f"no example '{name}' to pin: {hint}")


def _meanings(settings: Settings, examples: Sequence[Example], say: Callable[[str], None]) -> Meanings:
    embedder = E5Embedder(settings.threads)
    return kept_meanings(copy_sources(examples), embedder, settings.cache / "meanings", say)
