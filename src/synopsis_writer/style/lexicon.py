"""What is known of single words: how common they are, their stems, and whether they carry meaning."""

from functools import cache, lru_cache
from typing import Protocol


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802 - the library's name


@lru_cache(maxsize=100_000)
def commonness(word: str) -> float:
    """Return the Zipf frequency of a German word: 0 unknown, 3 once in a million words, 6 a function word."""
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "de"))


@cache
def _stemmer() -> _Stemmer:
    import snowballstemmer

    stemmer: _Stemmer = snowballstemmer.stemmer("german")
    return stemmer


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return the Snowball stem of a lower-case German word; umlauts are folded."""
    return _stemmer().stemWord(word)


_FUNCTION_WORD = 5.9  # Zipf frequency from which on a German word carries grammar rather than content
_SHORTEST = 4


def is_content(word: str) -> bool:
    """Whether a lower-case word carries content: four letters or more, and not among the commonest."""
    return len(word) >= _SHORTEST and commonness(word) < _FUNCTION_WORD
