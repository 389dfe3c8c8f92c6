"""Shared runs of words: one index of shingles, for copies of the sources and between texts."""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synopsis_writer.gate.lexicon import TITLES
from synopsis_writer.gate.text import Span, Text, lower_words, word_spans
from synopsis_writer.storage.arrays import FEWEST_CACHED, Arrays, cached_arrays, digest

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
