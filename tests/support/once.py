"""What all commands read and build alike, done once a process: it is most of the CPU that a command takes."""

import functools
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpcore2
import typer.main

from synopsis_writer import examples, workspace
from synopsis_writer.examples import Example
from synopsis_writer.gate import sources as copies
from synopsis_writer.gate.sources import CopyIndex, Source
from synopsis_writer.gate.text import lower_words
from synopsis_writer.prompts import selection, templates
from synopsis_writer.prompts.selection import ExampleIndex
from synopsis_writer.settings import folder
from synopsis_writer.show import load_show
from synopsis_writer.storage.arrays import FEWEST_CACHED

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def patch_readers(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Have the program's own templates and examples, their indexes and the certificates read once.

    Args:
        set_attribute: called with a module, a name and what is to stand there.
    """
    own = {folder("examples"), folder("prompts")}

    def once(load: Callable[..., Any]) -> Callable[..., Any]:
        cached = functools.cache(load)

        @functools.wraps(load)
        def loaded(path: Path, *more: Any) -> Any:
            return (cached if {path.parent, path.parent.parent} & own else load)(path, *more)

        return loaded

    set_attribute(examples, "load_example", once(examples.load_example))
    set_attribute(examples, "load_show", once(load_show))
    set_attribute(templates, "load_template", once(templates.load_template))
    set_attribute(copies, "lower_words", functools.lru_cache(1000)(lower_words))
    set_attribute(workspace, "index_sources", _source_indexer(copies.index_sources))
    set_attribute(workspace, "index_examples", _example_indexer(selection.index_examples))
    set_attribute(typer.main, "get_command", functools.cache(typer.main.get_command))
    set_attribute(httpcore2, "default_ssl_context", _context_reader(httpcore2.default_ssl_context))


def _source_indexer(index: Callable[..., CopyIndex]) -> Callable[..., CopyIndex]:
    cached = functools.lru_cache(4)(index)

    def indexed(sources: Sequence[Source], cache: Path | None = None) -> CopyIndex:
        if len(sources) >= FEWEST_CACHED:
            return index(sources, cache)
        return cached(tuple(source._replace(names=tuple(source.names)) for source in sources))

    return indexed


def _example_indexer(index: Callable[..., ExampleIndex]) -> Callable[..., ExampleIndex]:
    known: dict[tuple[int, ...], ExampleIndex] = {}  # by the ids of its examples, which it holds

    def indexed(pool: Sequence[Example], cache: Path | None = None) -> ExampleIndex:
        if len(pool) >= FEWEST_CACHED:
            return index(pool, cache)
        key = tuple(map(id, pool))
        if key not in known:
            known.clear()
            known[key] = index(pool, cache)
        return known[key]

    return indexed


def _context_reader(read: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    """Return a reader of one context for all clients, but for those of a user who names certificates."""
    cached = functools.cache(read)

    def context(*, _trust_env: bool = True) -> ssl.SSLContext:
        is_named = _trust_env and any(name in os.environ for name in _CERTIFICATES)
        return (read if is_named else cached)(_trust_env=_trust_env)

    return context
