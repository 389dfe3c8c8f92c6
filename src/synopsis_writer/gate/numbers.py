"""Numbers in a text, in digits or German words, exact or about, and what they count."""

import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from synopsis_writer.gate.lexicon import pattern, stem
from synopsis_writer.gate.text import Span

_DAYS: Mapping[str, tuple[float, float]] = {  # at least and at most, by the unit's stem
    "sekund": (1 / 86_400, 1 / 86_400),
    "minut": (1 / 1_440, 1 / 1_440),
    "stund": (1 / 24, 1 / 24),
    "tag": (1, 1),
    "woch": (7, 7),
    "monat": (28, 31),
    "jahr": (360, 366),
}
_ABOUT = {"about": (0.85, 1.15), "more than": (1.0, 1.25), "less than": (0.8, 1.0)}  # `gut` means 42, not 60
_BEFORE = 24  # characters that hold what says that a number is about right
_SIGNS = {"€": "euro", "%": "prozent"}
_MULTIPLES = {"dutzend": 12, "tausend": 1e3, "million": 1e6, "millionen": 1e6}
_MULTIPLES |= {"milliarde": 1e9, "milliarden": 1e9}
_FARTHEST = 4  # tokens from a number to what it counts

_ONES = "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
_ONES += "dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn".split()
_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
_ODD_ORDINALS = {"dritt": 3, "siebt": 7, "acht": 8}
_CASES = "e en er es em".split()


class Number(NamedTuple):
    """A number that is at least `low` and at most `high`."""

    value: float
    low: float
    high: float
    unit: str  # the stem of what it counts; empty where that is not clear
    span: Span

    @property
    def in_days(self) -> "Number":
        """A duration in days; any other number as it is."""
        least, most = _DAYS.get(self.unit, (1, 1))
        unit = "tag" if self.unit in _DAYS else self.unit
        return self._replace(low=self.low * least, high=self.high * most, unit=unit)


def read_numbers(raw: str) -> Iterator[Number]:
    """Yield the numbers of a text with what they count."""
    tokens = list(pattern("number or word").finditer(raw))
    for index, token in enumerate(tokens):
        value, unit = number_value(token[0])
        is_multiple = token[0].lower() in _MULTIPLES and index
        if value is None or (is_multiple and number_value(tokens[index - 1][0])[0] is not None):
            continue
        last, words = token, {token[0].lower()}
        for following in tokens[index + 1 : index + 1 + _FARTHEST] if not unit else ():
            word = following[0].lower()
            counted = pattern("what is counted").fullmatch(word)
            words.add(word)
            if word in _MULTIPLES:
                value, last = value * _MULTIPLES[word], following
            elif word in _SIGNS or counted or following[0][0].isupper():
                unit = _SIGNS.get(word) or stem(counted[2] if counted and not counted[1] else word)
                last = following
                break
            elif not word[0].isalpha():
                break
        if token[0].lower() not in _fractions() or unit in _DAYS or "dutzend" in words:
            low, high = number_range(value, raw[: token.start()], unit)
            if "dutzend" in words and low == high:
                low, high = (value * end for end in _ABOUT["about"])
            yield Number(value, low, high, unit, Span(token.start(), last.end()))


def number_range(value: float, before: str, unit: str = "") -> tuple[float, float]:
    """Return between what a number lies by the words before it: `gut vierzig` is 40 to 50."""
    near = before[-_BEFORE:]
    low, high = next((ends for name, ends in _ABOUT.items() if pattern(name).search(near)), (1.0, 1.0))
    if unit == "uhr":  # `gegen acht` is half an hour
        return value - 0.5 * (low < 1), value + 0.5 * (high > 1)
    return value * low, value * high


@lru_cache(maxsize=20_000)
def number_value(token: str) -> tuple[float | None, str]:
    """Return the number that a token is, and what it counts where it says so, as `siebzehnjährige` does."""
    if token[0].isdigit():
        digits = re.sub(r"\s", "", token).rstrip(".").replace(":", ".")
        digits = digits.replace(".", "") if pattern("thousands").fullmatch(digits) else digits
        digits = digits.replace(",", ".")
        return (float(digits) if re.fullmatch(r"\d+(?:\.\d+)?", digits) else None), ""  # or it is a date
    word, unit = token.lower().replace("dreissig", "dreißig"), ""
    if (match := pattern("what is counted").fullmatch(word)) and match[1]:
        word, unit = match[1], stem(match[2])
    known = _number_words()
    head, thousand, rest = word.partition("tausend")
    if not thousand or word in known:
        return known.get(word), unit
    parts = known.get(head, None if head else 1), known.get(rest.removeprefix("und"), None if rest else 0)
    return (None if None in parts else (parts[0] or 0) * 1000 + (parts[1] or 0)), unit


@cache
def _number_words() -> Mapping[str, float]:
    """Return halves, and 2 to 999 by their German words, ordinals among them; 1 is an article."""
    words: dict[str, float] = {word: number for number, word in enumerate(_ONES, 1)}
    for ten, word in zip(range(20, 100, 10), _TENS, strict=True):
        words |= {f"{one}und{word}": ten + digit for digit, one in enumerate(_ONES[:9], 1)}
        words[word] = ten
    below = {"": 0.0, **words}
    for digit, one in (*enumerate(_ONES[:9], 1), (1, "")):
        words |= {f"{one}hundert{word}": digit * 100 + number for word, number in below.items()}
    del words["ein"]
    roots = {f"{word}{'t' if word in _ONES else 'st'}": number for word, number in words.items()}
    roots = {root: number for root, number in roots.items() if number not in _ODD_ORDINALS.values()}
    ordinals = (roots | _ODD_ORDINALS).items()
    words |= {root + end: number for root, number in ordinals for end in _CASES} | _fractions()
    return words | {"dutzend": 12}


@cache
def _fractions() -> dict[str, float]:
    """Return halves and the like by their German words; `halb` alone is a time, or nothing to count."""
    halves = {f"{one}einhalb": digit + 0.5 for digit, one in enumerate(_ONES[:9], 1)}
    return {**halves, **{f"halb{end}": 0.5 for end in _CASES}, "anderthalb": 1.5, "dreiviertel": 0.75}
