"""The index of texts that must not be copied: hashed runs of six words, in sorted arrays."""

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synopsis_writer.style.text import Span, Text, lower_words, word_spans

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


def name_words(names: Iterable[str]) -> frozenset[str]:
    """Return the folded words of full names, and their genitives."""
    words = {word for name in names for word in lower_words(name)}
    return frozenset(words | {word + "s" for word in words})


def build_index(sources: Sequence[Source], read: Callable[[str], str]) -> CopyIndex:
    """Build the index in memory: 12 bytes a word, and under half a millisecond a text of 350 words."""
    names = name_words({name for source in sources for name in source.names})
    codes = _Codes(names)
    runs = [_hashes(lower_words(source.text), codes) for source in sources]
    starts = np.cumsum([0, *map(len, runs)], dtype=np.uint32)
    hashes = np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    return CopyIndex([source.id for source in sources], read, names, hashes[order], order, starts)
