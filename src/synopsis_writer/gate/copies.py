"""Shared runs of words: the shingle index, for copies of the sources and between texts."""

import contextlib
import hashlib
import json
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synopsis_writer.gate.text import Span, Text, lower_words, word_spans
from synopsis_writer.storage.arrays import FEWEST_KEPT, tidy, write_whole

RUN = 6  # words a shingle

Hashes = npt.NDArray[np.uint64]

Places = npt.NDArray[np.uint32]

# Odd multipliers, one a word of the run: a multiply-and-add hash over 64 bits (Dietzfelbinger et al., 1997).
_MULTIPLIERS = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1)) % 2**64 | 1 for i in range(RUN)], dtype=np.uint64)

_NAME = 0x5BF0_3635  # stands for any name, so that a copy with other names is still a copy


class Source(NamedTuple):
    """A text that must not be copied, and the names of its people."""

    id: str
    text: str
    names: Sequence[str] = ()


class Match(NamedTuple):
    """A run of words that stands in a source, too.

    Attributes:
        source: the id of the source.
        words: its length in words.
        span: where it stands in the text.
        source_span: where it stands in the source.
    """

    source: str
    words: int
    span: Span
    source_span: Span


@dataclass(frozen=True)
class CopyIndex:
    """Sources by their runs of six words; the arrays may lie in files.

    Attributes:
        ids: the sources' ids.
        read: gives a source's text by its id.
        names: folded single words that count as names in all sources.
        hashes: the hash of each run, sorted; shape (runs,).
        places: for each hash the run's number among all runs of all sources; shape (runs,).
        starts: the number of each source's first run, and the number of all runs; shape (sources + 1,).
    """

    ids: Sequence[str]
    read: Callable[[str], str]
    names: frozenset[str]
    hashes: Hashes
    places: Places
    starts: Places

    def matches(self, text: Text, names: Collection[str]) -> list[Match]:
        """Return the longest runs, of six words or more, that `text` shares with a source.

        `names` are folded single words that count as names in `text`, as the sources' own do.
        """
        wanted = run_hashes([word.lower for word in text.words], self.names.union(names))
        left = np.searchsorted(self.hashes, wanted, side="left")
        right = np.searchsorted(self.hashes, wanted, side="right")
        hits: dict[int, set[int]] = {
            int(position): {int(place) for place in self.places[left[position] : right[position]]}
            for position in np.flatnonzero(right > left)
        }
        return [self._match(text, first, place, length) for first, place, length in _runs(hits)]

    def _match(self, text: Text, first: int, place: int, length: int) -> Match:
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        length = min(
            length, int(self.starts[number + 1]) - place
        )  # a run does not go on into the next source
        source, words = self.ids[number], length + RUN - 1
        begin = place - int(self.starts[number])
        span = Span(text.words[first].span.start, text.words[first + words - 1].span.end)
        original = word_spans(self.read(source))
        return Match(source, words, span, Span(original[begin].start, original[begin + words - 1].end))


def _runs(hits: Mapping[int, set[int]]) -> Iterator[tuple[int, int, int]]:
    """Chain hits at consecutive places: (first position, first place, number of shingles)."""
    for position in sorted(hits):
        for place in sorted(hits[position]):
            if place - 1 in hits.get(position - 1, ()):
                continue
            length = 1
            while place + length in hits.get(position + length, ()):
                length += 1
            yield position, place, length


class _Codes(dict[str, int]):
    """The number of each word seen so far: an index has millions of words, and few distinct ones."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(dict.fromkeys(names, _NAME))

    def __missing__(self, word: str) -> int:
        code = self[word] = zlib.crc32(word.encode("utf-8", "replace"))
        return code


def run_hashes(words: Sequence[str], names: Collection[str]) -> Hashes:
    """Return one 64-bit hash for each run of six words, names folded into one; shape (words - 5,)."""
    return _hashes(words, _Codes(names))


def _hashes(words: Sequence[str], codes: _Codes) -> Hashes:
    count = max(0, len(words) - RUN + 1)
    numbers = np.fromiter((codes[word] for word in words), dtype=np.uint64, count=len(words))
    hashes = np.zeros(count, dtype=np.uint64)
    for offset, multiplier in enumerate(_MULTIPLIERS):
        hashes += numbers[offset : offset + count] * multiplier
    return hashes


def name_forms(names: Iterable[str]) -> frozenset[str]:
    """Return the folded words of full names, and their genitives."""
    words = {word for name in names for word in lower_words(name)}
    return frozenset(words | {word + "s" for word in words})


def build_index(sources: Sequence[Source], read: Callable[[str], str]) -> CopyIndex:
    """Build the index in memory: 12 bytes a word, and under half a millisecond a text of 350 words."""
    names = name_forms({name for source in sources for name in source.names})
    codes = _Codes(names)
    runs = [_hashes(lower_words(source.text), codes) for source in sources]
    starts = np.cumsum([0, *map(len, runs)], dtype=np.uint32)
    hashes = np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return CopyIndex([source.id for source in sources], read, names, hashes[order], order, starts)


_VERSION = 1

_WORDS = "words.json"

_ARRAYS = ("hashes", "places", "starts")


def index_key(sources: Sequence[Source]) -> str:
    """Return 24 hex digits that change when any source's id, text or names change."""
    digest = hashlib.sha256(f"{_VERSION} {RUN}".encode())
    for source in sources:
        for part in (source.id, source.text, *source.names):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def cached_index(sources: Sequence[Source], folder: Path) -> CopyIndex:
    """Return the index of `sources`: from `folder` when it is there, else built, and kept when it is large.

    A folder that cannot be written costs time, not the answer: the index is then used as it was built.
    """
    texts = {source.id: source.text for source in sources}
    if len(sources) < FEWEST_KEPT:
        return build_index(sources, texts.__getitem__)
    place = folder / index_key(sources)
    try:
        return open_index(place, texts.__getitem__)
    except ValueError:
        shutil.rmtree(place, ignore_errors=True)
    except OSError:
        pass  # not built yet
    index = build_index(sources, texts.__getitem__)
    with contextlib.suppress(OSError):
        save_index(index, place)
        tidy(place)
        return open_index(place, texts.__getitem__)
    return index


def save_index(index: CopyIndex, place: Path) -> None:
    """Write the index's folder, whole or not at all; another process may have been quicker.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(place, lambda work: _write(index, work))


def _write(index: CopyIndex, work: Path) -> None:
    for name in _ARRAYS:
        np.save(work / f"{name}.npy", getattr(index, name))
    words = {"ids": list(index.ids), "names": sorted(index.names)}
    (work / _WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")


def open_index(place: Path, read: Callable[[str], str]) -> CopyIndex:
    """Open a saved index without loading it: its arrays stay in their files.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged.
    """
    words = json.loads((place / _WORDS).read_text(encoding="utf-8"))
    hashes, places, starts = (np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    if len(starts) != len(words["ids"]) + 1 or not starts[-1] == len(hashes) == len(places):
        raise ValueError(f"{place}: the index is damaged")
    return CopyIndex(words["ids"], read, frozenset(words["names"]), hashes, places, starts)


Fingerprints = npt.NDArray[np.uint32]

WINDOW = 15  # runs of six: of so many side by side the smallest hash is a fingerprint

MOST_SHARING = 100  # texts of a part: what so many share is a fixed phrase, for a copy is not let in

_HALF = np.uint64(32)

_LOWER = np.uint64(2**32 - 1)

_LARGEST = 2**20  # entries of a part: to join two larger ones would halt a batch, and need their memory again


def fingerprints(hashes: Hashes) -> Fingerprints:
    """Return the smallest of every 15 hashes side by side: about one in eight, sorted, in 32 bits.

    Two texts that share 20 words in a row share a mark.
    Source: Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting", 2003.
    """
    short = (hashes >> _HALF).astype(np.uint32)  # of a multiply-and-add hash the upper bits are the better
    if len(short) <= WINDOW:
        return np.sort(short)[:1]
    return np.unique(np.lib.stride_tricks.sliding_window_view(short, WINDOW).min(axis=1))


def hash_texts(texts: Sequence[str], names: Collection[str]) -> list[Hashes]:
    """Return the hashed runs of six words of each text, `names` folded into one; a word is hashed once."""
    words = [lower_words(text) for text in texts]
    hashes = run_hashes([word for some in words for word in some], names)
    ends = list(accumulate(map(len, words)))
    return [
        hashes[end - len(some) : max(end - len(some), end - RUN + 1)]
        for some, end in zip(words, ends, strict=True)
    ]


def shared_runs(runs: Hashes, others: Hashes) -> list[range]:
    """Return which of a text's runs are among the `others`, as ranges, the longest first."""
    shared = np.isin(runs, others)
    edges = np.flatnonzero(np.diff(shared, prepend=False, append=False)).tolist()
    found = [range(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return sorted(found, key=len, reverse=True)


def spans_of_runs(text: str, ranges: Iterable[range]) -> list[Span]:
    """Return where ranges of runs of six words stand in their text."""
    words = word_spans(text)
    return [Span(words[run.start].start, words[run.stop + RUN - 2].end) for run in ranges]


class FingerprintIndex:
    """Which texts have a mark: sorted arrays of (mark, number of the text), 8 bytes an entry."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []

    def add(self, fingerprints: Fingerprints, numbers: npt.ArrayLike) -> None:
        """Take in fingerprints, each with the number of its text, or with one number for all.

        Parts of like size are joined, so that there are few of them, and each entry moves seldom.
        Source: Bentley and Saxe, "Decomposable Searching Problems I: Static-to-Dynamic Transformation", 1980.
        """
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
