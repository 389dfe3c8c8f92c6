"""What is known of single words: how common they are, their stems, and whether they carry meaning."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Protocol


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802 - the library's name


def commonness(word: str) -> float:
    """Return the Zipf frequency of a German word: 0 unknown, 3 once in a million words, 6 a function word."""
    frequency = _frequencies().get(word.casefold())
    if frequency is None:
        return 0.0 if word.isalpha() else _commonness_of_parts(word)
    return frequency


def _commonness_of_parts(word: str) -> float:
    """Return what wordfreq says of a word with marks within, without its second copy of the list.

    Source: wordfreq 3.1, `word_frequency`: 1 / f = 1 / f1 + 1 / f2 + … over the parts.
    """
    from wordfreq import lossy_tokenize, zipf_to_freq
    from wordfreq.numbers import digit_freq, smash_numbers

    rarity = 0.0
    for part in lossy_tokenize(word, "de"):
        listed = smash_numbers(part)  # digits stand as zeros in the list
        known = _frequencies().get(listed)
        if known is None:
            return 0.0
        rarity += 1 / (zipf_to_freq(known) * (digit_freq(part) if listed != part else 1.0))
    return max(0.0, round(9 - math.log10(rarity), 2)) if rarity else 0.0


@cache
def _frequencies() -> Mapping[str, float]:
    """Return the Zipf frequency of each of 630,000 German words; `ß` is written `ss` there."""
    from wordfreq import cB_to_zipf, get_frequency_list

    words: dict[str, float] = {}
    for centibels, bucket in enumerate(get_frequency_list("de", "best")):
        words.update(dict.fromkeys(bucket, cB_to_zipf(-centibels)))
    return words


LONGEST_WORD = 60  # letters; a longer word is no German word, and costly to look up


def is_listed(word: str) -> bool:
    """Whether the frequency list knows a word at all, once in a hundred million words or more."""
    return len(word) <= LONGEST_WORD and commonness(word) > 0


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


_LISTED = 1.5  # Zipf frequency: rarer words of the list are as often its sources' typing errors
_PART = 2.5  # the same for a part of a compound
_SHORT_PART = 3.5  # the same for a part of three letters: these fit by chance
_LEAST_PART = 3  # letters
_BASE = 2.0  # the same for a base form behind an ending
_LEAST_BASE = 5  # letters
_LINKS = ("", "s", "es", "n", "en", "er", "e")
_ENDINGS = ("e", "en", "em", "er", "es", "s", "n", "st", "t")
_DIGITS = "ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|sech|sieb|zwan"
_NUMBER = re.compile(rf"(?:{_DIGITS}|hundert|tausend|und|zig|ßig)+(?:(?:s?t|jährig|mal|fach)(?:e[nmrs]?)?)?")


@lru_cache(maxsize=200_000)
def is_known(word: str) -> bool:
    """Whether a lower-case word is listed, inflects a listed word or a compound, is a compound, or counts."""
    if len(word) < _LEAST_PART:
        return True
    if len(word) > LONGEST_WORD:
        return False
    return (
        commonness(word) >= _LISTED
        or any(commonness(base) >= _BASE or is_compound(base) for base in _bases(word))
        or is_compound(word)
        or _NUMBER.fullmatch(word) is not None
    )


def _bases(word: str) -> Iterator[str]:
    """Yield what is left of a word without each ending it has."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_BASE:
            yield word[: -len(ending)]


def is_compound(word: str, most_parts: int = 3) -> bool:
    """Whether a word splits into two to `most_parts` known parts, with linking letters between them."""
    return any(
        _is_part(word[cut:])
        and any(
            _is_part(head) or (most_parts > 2 and is_compound(head, most_parts - 1))  # noqa: PLR2004 - a pair
            for head in _heads(word[:cut])
        )
        for cut in range(_LEAST_PART, len(word) - _LEAST_PART + 1)
    )


def is_compound_with(part: str, head: str) -> bool:
    """Whether `part` is a known first part of a compound with `head`; before a short head a common one."""
    least = _PART if len(head) > _LEAST_PART else _SHORT_PART
    return any(
        commonness(stem) >= max(least, _SHORT_PART * (len(stem) <= _LEAST_PART)) for stem in _heads(part)
    )


def _heads(part: str) -> Iterator[str]:
    """Yield a first part without each linking element it may end in."""
    for link in _LINKS:
        if part.endswith(link) and len(part) - len(link) >= _LEAST_PART:
            yield part[: len(part) - len(link)]


def _is_part(part: str) -> bool:
    return commonness(part) >= (_PART if len(part) > _LEAST_PART else _SHORT_PART)
