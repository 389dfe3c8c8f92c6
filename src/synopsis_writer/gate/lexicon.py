"""Single words: frequency, stem, gender, language."""

import math
import re
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from synopsis_writer import __version__
from synopsis_writer.storage.arrays import Arrays, cached_arrays

_DATA = Path(__file__).with_name("data")


@cache
def word_lists(name: str) -> Mapping[str, Sequence[str]]:
    """Return the lines of a list of words in `gate/data`, below each of its headings such as `[present]`."""
    lists: dict[str, list[str]] = {}
    for line in (_DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = lists[line.strip("[]")] = []
        elif lists and line and not line.startswith("#"):
            lines.append(line)
    return lists


@cache
def pattern(name: str, flags: int = 0) -> re.Pattern[str]:
    """Return the expression below a heading of `gate/data/patterns.txt`."""
    return re.compile(_expression(name), flags)


def _expression(name: str) -> str:
    lines = word_lists("patterns")[name]
    # One test for the beginning of a word, not one for each alternative, takes a third of the time.
    bordered = "|".join(line.removeprefix(r"\b") for line in lines if line.startswith(r"\b"))
    others = [line for line in lines if not line.startswith(r"\b")]
    joined = "|".join([*others, rf"\b(?=\w)(?:{bordered})"] if bordered else others)
    return re.sub(r"\{([a-z][a-z ]*)\}", lambda match: f"(?:{_expression(match[1])})", joined)


@cache
def own_words(heading: str) -> frozenset[str]:
    """Return our own words below a heading of `gate/data/words.txt`, with `ß` written `ss`."""
    return frozenset(word.casefold() for line in word_lists("words")[heading] for word in line.split())


@lru_cache(maxsize=50_000)
def commonness(word: str) -> float:
    """Return the Zipf frequency of a German word: 0 unknown, 3 once in a million words, 6 a function word."""
    word = word.casefold()  # `ß` is written `ss` in the list
    return max(frequency(word, "de"), _OWN if word in _own_vocabulary() else 0.0)


_OWN = 3.5  # the least of words of our own lists: they inflect, and are parts of compounds


@cache
def _own_vocabulary() -> frozenset[str]:
    return frozenset().union(*map(own_words, ("parts", "medicine", "trade", "de-AT", "de-CH")))


def frequency(word: str, language: Literal["de", "en"]) -> float:
    """Return the Zipf frequency of a lower-case word in wordfreq's list of a language, 0 where it has none.

    Of a hyphenated word, known by its parts alone, it is that of their sequence: 1 / f = 1 / f1 + 1 / f2 + …
    """
    found = _listed(word, language)
    if found or word.isalpha():
        return found
    parts = [_listed(part, language) for part in re.split("[-‐‑]", word.replace("’", "'"))]
    return max(0.0, round(9 - math.log10(sum(10 ** (9 - part) for part in parts)), 2)) if all(parts) else 0.0


def _listed(word: str, language: str) -> float:
    entries, starts = _frequencies()
    key = _entry(word, language)
    bucket = zlib.crc32(key) % _BUCKETS
    _, is_listed, rest = entries[starts[bucket] : starts[bucket + 1]].tobytes().partition(key)
    return int(rest[:3]) / 100 if is_listed else 0.0


_BUCKETS = 2**17


def _entry(word: str, language: str) -> bytes:
    return f"\n{language} {word}\t".encode("utf-8", "replace")


@cache
def _frequencies() -> tuple[memoryview, Sequence[int]]:
    """Return words and frequencies in two arrays that may be mapped: as a dict they take 0.3 s and 90 MB."""

    def build() -> Arrays:
        from wordfreq import get_frequency_list

        buckets: list[list[bytes]] = [[] for _ in range(_BUCKETS)]
        for language, size in (("de", "best"), ("en", "small")):
            for centibels, words in enumerate(get_frequency_list(language, size)):
                for key in (_entry(word, language) for word in words):
                    buckets[zlib.crc32(key) % _BUCKETS] += (key, b"%03d" % (900 - centibels))
        get_frequency_list.cache_clear()
        joined = [b"".join(bucket) for bucket in buckets]
        starts = np.cumsum([0, *map(len, joined)], dtype=np.uint32)
        return {"entries": np.frombuffer(b"".join(joined), dtype=np.uint8), "starts": starts}

    arrays = cached_arrays(cache_path("wordfreq"), build)
    return arrays["entries"].data, arrays["starts"].data


_folders: list[Path] = []


def cache_in(folder: Path) -> None:
    """Have what takes long to unpack cached in a folder; without one it is unpacked in each process."""
    _folders[:] = [folder]


def cache_path(package: str) -> Path | None:
    """Return where what is unpacked from a package's data is cached, if `cache_in` named a folder."""
    return next((folder / package / f"{version(package)}-{__version__}" for folder in _folders), None)


LONGEST_WORD = 60  # letters; a longer word is no German word, and costly to look up


_local = threading.local()  # a stemmer holds the word it is at: each thread has its own


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return the Snowball stem of a lower-case German word; umlauts are folded."""
    if not hasattr(_local, "stem"):
        import snowballstemmer

        _local.stem = snowballstemmer.stemmer("german").stemWord
    return str(_local.stem(word))


SHORTEST_CONTENT = 4  # letters of a word that carries content
_FUNCTION_WORD = 5.9  # Zipf frequency from which on a German word carries grammar rather than content


def is_function_word(word: str) -> bool:
    """Whether a German word is among the commonest."""
    return commonness(word) >= _FUNCTION_WORD


def is_content(word: str) -> bool:
    """Whether a lower-case word carries content: four letters or more, and not among the commonest."""
    return len(word) >= SHORTEST_CONTENT and not is_function_word(word)


FUNCTION_WORDS = own_words("function words")  # of four letters or more
GERMAN_WORDS = own_words("German words")  # a sentence with one of these is German whatever its names are
TITLES = own_words("titles")
ADDRESSES = own_words("addresses")  # and what else may precede a last name, but is no first name
ROMAN_NUMERAL = re.compile(r"[IVXLC]+")

_LISTED = 1.5  # Zipf frequency: rarer words of the list are as often its sources' typing errors
_PART = 2.5  # the same for a part of a compound
_SHORT_PART = 3.5  # the same for a part of three letters: these fit by chance
_LEAST_PART = 3  # letters
_BASE = 2.0  # the same for a base form before an ending
_LEAST_BASE = 5  # letters
_LEAST_SMALL = 4  # letters of a word with a diminutive
_LINKS = ("", "s", "es", "n", "en", "er", "e")
_ENDINGS = ("e", "en", "em", "er", "es", "s", "n", "st", "t")


@lru_cache(maxsize=200_000)
def is_known(word: str) -> bool:
    """Whether a lower-case word is listed, inflects a listed word or a compound, is a compound, or counts."""
    if len(word) < _LEAST_PART:
        return True
    if len(word) > LONGEST_WORD:
        return False
    bases = (word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending))
    return (
        commonness(word) >= _LISTED
        or is_womans(word)
        or _is_small(word)
        or pattern("scientist or number").fullmatch(word) is not None
        or any(commonness(b) >= _BASE or is_compound(b) for b in bases if len(b) >= _LEAST_BASE)
        or commonness(pattern("ending of a verb").sub("en", word)) >= _BASE
        or is_compound(word)
    )


_UMLAUTS = str.maketrans("äöü", "aou")


def _is_small(word: str) -> bool:
    """Whether a word is a diminutive of the south: Krügerl, Milchhäusl, Gläsle, Bergli."""
    base = pattern("diminutive").sub("", word)
    if base == word or len(base) < _LEAST_SMALL:
        return False
    return any(is_known(root) or is_known(root + "e") for root in (base, base.translate(_UMLAUTS)))


def is_womans(word: str) -> bool:
    """Whether a word is a woman's for a known man's: Neurochirurgin, Onkologin, Amtsärztin."""
    man = word.removesuffix("nen").removesuffix("in")
    if len(man) < _LEAST_BASE or not word.endswith(("in", "innen")):
        return False
    return any(is_known(base) for base in (man, man + "e", man.translate(_UMLAUTS)))


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


@lru_cache(maxsize=100_000)
def compound_parts(word: str) -> tuple[str, ...]:
    """Return the parts, of four letters or more, of all splits of a lower-case word into two known ones."""
    cuts = range(_LEAST_PART + 1, len(word) - _LEAST_PART) if len(word) <= LONGEST_WORD else ()
    splits = ((head, word[cut:]) for cut in cuts if _is_part(word[cut:]) for head in _heads(word[:cut]))
    whole = (split for split in splits if len(split[0]) > _LEAST_PART and _is_part(split[0]))
    return tuple(sorted({part for split in whole for part in split}))


def is_compound_with(part: str, head: str) -> bool:
    """Whether `part` is a known first part of a compound with `head`; before a short head a common one."""
    least = _PART if len(head) > _LEAST_PART else _SHORT_PART
    return any(_is_part(stem) and commonness(stem) >= least for stem in _heads(part))


def _heads(part: str) -> Iterator[str]:
    heads = (part.removesuffix(link) for link in _LINKS if part.endswith(link))
    yield from (head for head in heads if len(head) >= _LEAST_PART)


def _is_part(part: str) -> bool:
    return commonness(part) >= (_PART if len(part) > _LEAST_PART else _SHORT_PART)


Gender = Literal["m", "f", "n"]
_FEMININE_ENDINGS = ("ung", "heit", "keit", "schaft", "tät", "enz", "erei", "tion", "sion")
_LEAST_LETTERS = 6  # of a word whose gender its ending tells: Dung and Sprung are masculine
_NO_HEADS = frozenset("eid ende mut samt stern".split())  # Kl-eid, Ar-mut, Gesundheit-s-amt, Schwe-stern


@lru_cache(maxsize=50_000)
def gender(noun: str) -> Gender | None:
    """Return the gender of a lower-case noun in the nominative singular; None for any other form or noun."""
    if len(noun) > LONGEST_WORD:
        return None
    known = _genders()
    if noun in known:
        return known[noun]
    if noun.endswith("in"):
        is_feminine = commonness(noun + "nen") > 0
    else:
        is_feminine = len(noun) >= _LEAST_LETTERS and noun.endswith(_FEMININE_ENDINGS)
    if is_feminine and not noun.endswith("sprung"):
        return "f"
    for cut in range(3, len(noun) - 2):  # the longest head first
        head = noun[cut:]
        if head in known and head not in _NO_HEADS and is_compound_with(noun[:cut], head):
            return known[head]
    return None


@cache
def _genders() -> Mapping[str, Gender]:
    lists = word_lists("nouns")
    return {noun: gender for gender in get_args(Gender) for line in lists[gender] for noun in line.split()}


def classify(text: str) -> tuple[str, float]:
    """Return the code of a text's language, of eight, and its probability, 0 to 1."""
    with _loading:  # of several threads one loads the model, and the others wait for it
        identifier = _identifier()
    name, probability = identifier.classify(text)
    return name, float(probability)


_LANGUAGES = ["de", "en", "fr", "es", "it", "nl", "tr", "pl"]
_loading = threading.Lock()


@cache
def _identifier() -> Any:
    """Return py3langid's identifier, by private parts of version 0.4, to which pyproject.toml holds it."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    names = ("nb_ptc", "nb_pc", "nb_classes", "tk_nextmove", "tk_output", "tk_row")

    def build() -> Arrays:
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        identifier.set_languages(_LANGUAGES)
        return {name: np.asarray(getattr(identifier, name)) for name in names}

    arrays = cached_arrays(cache_path("py3langid"), build)
    table, priors, classes, moves, output, rows = (arrays[name] for name in names)
    # Memory views are quicker than arrays, read number by number.
    parts = (table, priors, classes.tolist(), moves.data, output.tolist())
    return LanguageIdentifier(*parts, norm_probs=True, tk_row=rows.data)
