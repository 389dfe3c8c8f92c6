"""The index of texts that must not be copied: hashed runs of six words, in sorted arrays."""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synopsis_writer.style.text import Span, Text, analyse

RUN = 6  # words a shingle
Hashes = npt.NDArray[np.uint64]
# Odd multipliers, one a word of the run: a multiply-and-add hash over 64 bits (Dietzfelbinger et al., 1997).
_MULTIPLIERS = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1)) % 2**64 | 1 for i in range(RUN)], dtype=np.uint64)
_NAME = 0x5BF0_3635  # stands for any name, so that a copy with other names is still a copy


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
    """Sources by their runs of six words.

    Attributes:
        ids: the sources' ids.
        texts: the sources' texts, by id.
        hashes: the hash of each run, sorted; shape (runs,).
        places: for each hash the run's number among all runs of all sources; shape (runs,).
        starts: the number of each source's first run; shape (sources + 1,).
    """

    ids: tuple[str, ...]
    texts: Mapping[str, str]
    hashes: Hashes
    places: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.uint32]

    def matches(self, text: Text, names: Collection[str]) -> list[Match]:
        """Return the longest runs, of six words or more, that `text` shares with a source.

        `names` are folded single words that count as names in `text`.
        """
        wanted = run_hashes([word.lower for word in text.words], names)
        left = np.searchsorted(self.hashes, wanted, side="left")
        right = np.searchsorted(self.hashes, wanted, side="right")
        hits: dict[int, set[int]] = {
            int(position): {int(place) for place in self.places[left[position] : right[position]]}
            for position in np.flatnonzero(right > left)
        }
        return [self._match(text, first, place, length) for first, place, length in _runs(hits)]

    def _match(self, text: Text, first: int, place: int, length: int) -> Match:
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        source, words = self.ids[number], length + RUN - 1
        begin = place - int(self.starts[number])
        span = Span(text.words[first].span.start, text.words[first + words - 1].span.end)
        original = analyse(self.texts[source]).words
        return Match(
            source, words, span, Span(original[begin].span.start, original[begin + words - 1].span.end)
        )


def _runs(hits: Mapping[int, set[int]]) -> Iterable[tuple[int, int, int]]:
    """Chain hits at consecutive places: (first position, first place, number of shingles)."""
    for position in sorted(hits):
        for place in sorted(hits[position]):
            if place - 1 in hits.get(position - 1, ()):
                continue
            length = 1
            while place + length in hits.get(position + length, ()):
                length += 1
            yield position, place, length


def run_hashes(words: Sequence[str], names: Collection[str]) -> Hashes:
    """Return one 64-bit hash for each run of six words, names folded into one; shape (words - 5,)."""
    if len(words) < RUN:
        return np.empty(0, dtype=np.uint64)
    codes = [_NAME if word in names else zlib.crc32(word.encode("utf-8")) for word in words]
    numbers = np.array(codes, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, RUN)
    hashes: Hashes = (windows * _MULTIPLIERS).sum(axis=1, dtype=np.uint64)
    return hashes


def name_words(names: Iterable[str]) -> frozenset[str]:
    """Return the folded words of full names, and their genitives."""
    words = {word.lower for name in names for word in analyse(name).words}
    return frozenset(words | {word + "s" for word in words})


def build_index(sources: Mapping[str, tuple[str, Collection[str]]]) -> CopyIndex:
    """Build the index from sources: id → (text, names of its people)."""
    runs = [
        run_hashes([word.lower for word in analyse(text).words], name_words(names))
        for text, names in sources.values()
    ]
    starts = np.concatenate([[0], np.cumsum([len(found) for found in runs])]).astype(np.uint32)
    hashes = np.concatenate(runs) if runs else np.empty(0, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    texts = {source: text for source, (text, _) in sources.items()}
    return CopyIndex(tuple(sources), texts, hashes[order], order.astype(np.uint32), starts)
