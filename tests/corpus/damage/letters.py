"""Corruptions of letters and words: encodings, spellings, articles."""

import re
from random import Random

from tests.corpus.damage.draft import dice, each_sentence, each_word, lines

_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
_LONG_WORD = r"[a-zäöüß]{6,}"
_NOUN = r"(?<=[a-zß,] )[A-ZÄÖÜ][a-zäöüß]{3,}"
_DIALECT = (
    (r"\bnicht\b", "net"),
    (r"\bist\b", "isch"),
    (r"\bund\b", "ond"),
    (r"\bauf\b", "uff"),
    (r"\bauch\b", "au"),
    (r"\bein(e?)\b", "a"),
    (r"\bkein(e?)\b", "koi"),
    (r"\bdas\b", "des"),
    (r"\b([a-zäöüß]{4,})en\b", r"\1a"),
    (r"(?<=[a-zäöüß])st(?=[a-zäöüß])", "scht"),
    (r"(?<=[a-zäöüß])ei(?=[a-zäöüß])", "oi"),
)
_ARTICLES = {
    "der": "das", "die": "der", "das": "die", "den": "das", "dem": "die",
    "ein": "eine", "eine": "ein", "einen": "eine", "einem": "einer", "einer": "einem",
}  # fmt: skip
_SYLLABLES = "bra dul fen gim kor lat mob nust pirg quol sef trim wok zel".split()


def umlauts_spelt_out(text: str) -> str:
    return text.translate(_SPELT)


def sharp_s_spelt(text: str) -> str:
    return text.replace("ß", "ss")


def mojibake(text: str) -> str:
    return text.encode("utf-8").decode("cp1252", errors="replace")


def lost_letters(text: str) -> str:
    return text.encode("cp1252", errors="replace").decode("utf-8", errors="replace")


def sentence_in_capitals(text: str) -> str:
    return each_sentence(text, lambda number, sentence: sentence.upper() if number == 3 else sentence)


def garbled(text: str) -> str:
    """Shuffle the letters of every third long word."""
    throw = dice(text)
    return each_word(text, _LONG_WORD, lambda word: "".join(throw.sample(word, len(word))), every=3)


def typos(text: str) -> str:
    """Mistype every sixth long word: two letters swapped, one dropped or one doubled."""
    throw = dice(text)
    return each_word(text, _LONG_WORD, lambda word: _slip(word, throw), every=6)


def _slip(word: str, throw: Random) -> str:
    at = throw.randrange(1, len(word) - 2)
    middle = throw.choice((word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1]))
    return word[:at] + middle + word[at + 2 :]


def dialect(text: str) -> str:
    for pattern, spoken in _DIALECT:
        text = re.sub(pattern, spoken, text)
    return text


def nonsense_words(text: str) -> str:
    """Replace every fourth noun with an invented word."""
    throw = dice(text)
    return each_word(text, _NOUN, lambda _: "".join(throw.sample(_SYLLABLES, 3)).capitalize(), every=4)


def one_noun_for_all(text: str) -> str:
    return each_word(text, _NOUN, lambda _: "Sache")


def wrong_articles(text: str, every: int = 2) -> str:
    """Give every `every`-th article before a noun another gender."""
    article = "|".join(_ARTICLES)
    return each_word(text, rf"(?:{article})(?= [A-ZÄÖÜ])", lambda word: _ARTICLES[word], every)


def other_tense(text: str, *, to_present: bool) -> str:
    """Turn the commonest verbs from present to preterite, or back."""
    pairs = [(line.split()[0], (line.split() * 2)[1]) for line in lines("verbs")]
    pairs = [(present, past if past != present else present + "e") for present, past in pairs]
    swaps = {past: present for present, past in pairs} if to_present else dict(pairs)
    return each_word(text, "|".join(swaps), lambda word: swaps[word])
