"""What texts share: marks tell which share runs of words at all, and a closer look tells where."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from synopsis_writer.style.copies import RUN, Hashes, run_hashes
from synopsis_writer.style.text import Span, lower_words, word_spans

Marks = npt.NDArray[np.uint32]
WINDOW = 15  # runs of six: of so many side by side the smallest hash is a mark
FORMULA = 100  # texts of a part: what so many share is a fixed phrase, for a copy is not let in
_HALF = np.uint64(32)
_LOWER = np.uint64(2**32 - 1)
_LARGEST = 2**20  # entries of a part: to join two larger ones would halt a batch, and need their memory again


def marks_of(hashes: Hashes) -> Marks:
    """Return the smallest of every 15 hashes side by side: about one in eight, sorted, in 32 bits.

    Two texts that share 20 words in a row share a mark.
    Source: Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting", 2003.
    """
    short = (hashes >> _HALF).astype(np.uint32)  # of a multiply-and-add hash the upper bits are the better
    if len(short) <= WINDOW:
        return np.sort(short)[:1]
    return np.unique(np.lib.stride_tricks.sliding_window_view(short, WINDOW).min(axis=1))


def runs_of(texts: Sequence[str], names: Collection[str]) -> list[Hashes]:
    """Return the hashed runs of six words of each text, `names` folded into one; a word is hashed once."""
    words = [lower_words(text) for text in texts]
    hashes = run_hashes([word for some in words for word in some], names)
    ends = list(accumulate(map(len, words)))
    return [
        hashes[end - len(some) : max(end - len(some), end - RUN + 1)]
        for some, end in zip(words, ends, strict=True)
    ]


def stretches(runs: Hashes, others: Hashes) -> list[range]:
    """Return which of a text's runs are among the `others`, as stretches side by side, the longest first."""
    shared = np.isin(runs, others)
    edges = np.flatnonzero(np.diff(shared, prepend=False, append=False)).tolist()
    found = [range(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return sorted(found, key=len, reverse=True)


def run_spans(text: str, found: Iterable[range]) -> list[Span]:
    """Return where stretches of runs of six words stand in their text."""
    words = word_spans(text)
    return [Span(words[stretch.start].start, words[stretch.stop + RUN - 2].end) for stretch in found]


class MarkIndex:
    """Which texts have a mark: sorted arrays of (mark, number of the text), 8 bytes an entry."""

    def __init__(self) -> None:
        self._parts: list[Hashes] = []

    def add(self, marks: Marks, numbers: npt.ArrayLike) -> None:
        """Take in marks, each with the number of its text, or with one number for all.

        Parts of like size are joined, so that there are few of them, and each entry moves seldom.
        Source: Bentley and Saxe, "Decomposable Searching Problems I: Static-to-Dynamic Transformation", 1980.
        """
        part = np.sort(marks.astype(np.uint64) << _HALF | np.asarray(numbers, dtype=np.uint64))
        while self._parts and len(self._parts[-1]) <= len(part) < _LARGEST:
            part = np.sort(np.concatenate([self._parts.pop(), part]), kind="stable")  # quick on sorted halves
        self._parts.append(part)

    def sharing(self, marks: Marks) -> Counter[int]:
        """Return the numbers of the texts that share marks, and how many; fixed phrases do not count."""
        lowest = marks.astype(np.uint64) << _HALF
        found: Counter[int] = Counter()
        for part in self._parts:
            left = np.searchsorted(part, lowest, side="left")
            right = np.searchsorted(part, lowest | _LOWER, side="right")
            for hit in np.flatnonzero((right > left) & (right - left < FORMULA)):
                found.update((part[left[hit] : right[hit]] & _LOWER).tolist())
        return found
