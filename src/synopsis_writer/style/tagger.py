"""Parts of speech: HanTa's German model, each distinct word analysed once."""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from synopsis_writer.style.lexicon import is_listed

if TYPE_CHECKING:
    from synopsis_writer.style.text import Text, Word

NOUN, NAME, NUMBER, UNKNOWN = "NN", "NE", "CARD", "XY"
_CUTOFF = 5.0  # natural logarithm: a reading that much less likely than the best one is dropped
_BEAM = 5  # paths followed from word to word
# Letters: an analysis costs their square, so longer words are taken for nouns, up to the second limit only
# where no frequency list knows them. Hardly a finite verb is longer (`entgegenstreckte`).
_LONGEST_UNLISTED, _LONGEST_ANALYSED = 8, 16
_LONGEST_NAME = 20  # letters
_MOST_TOKENS = 150  # of a sentence; one that long is refused by the rhythm check anyway
_DEAD_END = -50.0  # log probability of a transition the model never saw
_NOTHING: Mapping[int, float] = MappingProxyType({})


class _Path(NamedTuple):
    score: float
    tag: int
    before: "_Path | None"


@cache
def _model() -> Any:
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_ger.pgz")


def tag(tokens: Sequence[str]) -> list[str]:
    """Return the most likely tag of each token of a sentence: STTS, verbs as `VV(FIN)` and the like.

    This is the second-order Viterbi search of HanTa's `tag_sent`, over each word's own readings only.
    Source: Wartena, "A Probabilistic Morphology Model for German Lemmatization", 2019.
    """
    names = _model().int2tag
    tags = [names[number] for number in _best(tokens[:_MOST_TOKENS])]
    return tags + [UNKNOWN] * (len(tokens) - len(tags))


def _best(tokens: Sequence[str]) -> list[int]:
    from HanTa.HanoverTagger import EMPTY, END, START

    follows = _model().LP_trans_word
    paths = {(EMPTY, START): _Path(0.0, START, None)}
    for place, token in enumerate(tokens):
        found = readings(token.lower(), place > 0 and token[0].isupper(), place > 0)
        paths = _extend(paths, found, follows)
    ends = {state: follows.get(state, _NOTHING).get(END, _DEAD_END) for state in paths}
    last = max(paths, key=lambda state: paths[state].score + ends[state])
    step: _Path | None = paths[last]
    tags = []
    while step is not None and step.before is not None:
        tags.append(step.tag)
        step = step.before
    return tags[::-1]


def _extend(
    paths: Mapping[tuple[int, int], _Path], found: Mapping[int, float], follows: Any
) -> dict[tuple[int, int], _Path]:
    longer: dict[tuple[int, int], _Path] = {}
    for state, path in sorted(paths.items(), key=lambda item: -item[1].score)[:_BEAM]:
        follow = follows.get(state, _NOTHING)
        for number, score in found.items():
            total = path.score + follow.get(number, _DEAD_END) + score
            key = (state[1], number)
            if key not in longer or total > longer[key].score:
                longer[key] = _Path(total, number, path)
    return longer


@lru_cache(maxsize=100_000)
def readings(word: str, is_capital: bool, case_counts: bool) -> Mapping[int, float]:
    """Return the tags a lower-case word can have, each with the log probability of the word, given the tag.

    A capital within a sentence marks a noun or a name, and the context tells which: only words beyond the
    model's own 23,000 that begin in lower case cost an analysis, about 0.4 ms each.
    """
    model = _model()
    if word[0].isdigit():
        return {model.tag2int[NUMBER]: 0.0}
    if word in model.cache:
        found = dict(model.cache[word])
    elif is_capital or not _is_worth_analysing(word):
        return {model.tag2int[NOUN]: 0.0, model.tag2int[NAME]: 0.0}
    else:
        scores = model.analyze_forward(word)
        found = {number: score for number, score in scores if score >= scores[0][1] - _CUTOFF}
    by_case = model.LP_case_t
    return {
        number: float(score) + (by_case[number][is_capital] if case_counts else 0.0) - model.LP_wtag[number]
        for number, score in found.items()
        if number in by_case
    } or {model.tag2int[UNKNOWN]: 0.0}


def _is_worth_analysing(word: str) -> bool:
    return len(word) <= _LONGEST_UNLISTED or (len(word) <= _LONGEST_ANALYSED and is_listed(word))


@lru_cache(maxsize=20_000)
def is_noun(word: str) -> bool:
    """Whether a capitalised word, given in lower case, is rather a common noun than a name, context aside."""
    if len(word) > _LONGEST_NAME:
        return True
    return bool(_model().tag_word(word.capitalize())[0][0] == NOUN)


_MOST_WORDS = 2_000  # a brief cannot ask for more
_BETWEEN = re.compile(r"\d+|[^\w\s]")


def tag_words(text: "Text") -> tuple[str, ...]:
    """Return the tag of each word of a text; words beyond the first 2,000 stay unknown."""
    tags: list[str] = []
    for sentence in text.sentences:
        words = text.words_of(sentence)
        if sentence.first >= _MOST_WORDS:
            tags += [UNKNOWN] * len(words)
            continue
        tokens, places = _tokens(text.raw, words)
        found = tag(tokens)
        tags += [found[place] for place in places]
    return tuple(tags)


def _tokens(raw: str, words: "Sequence[Word]") -> tuple[list[str], list[int]]:
    """Return words with the numbers and marks between them, and each word's place among these."""
    tokens: list[str] = []
    places: list[int] = []
    end = words[0].span.start if words else 0
    for word in words:
        tokens += _BETWEEN.findall(raw, end, word.span.start)
        places.append(len(tokens))
        tokens.append(word.form)
        end = word.span.end
    return tokens, places
