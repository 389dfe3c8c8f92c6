"""A text analysed once: sentences, words, parts of speech."""

import gzip
import marshal
import pickle
import re
import unicodedata
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from statistics import fmean, pstdev
from string import ascii_letters
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from synopsis_writer.gate.lexicon import cached, commonness, is_known, own_words, pattern
from synopsis_writer.storage.arrays import Arrays

MOST_CHARACTERS = 50_000  # what is analysed; thirty times the longest synopsis is enough to say "too long"


class Span(NamedTuple):
    """A part of the text: from `start` up to, not including, `end`, in characters."""

    start: int
    end: int

    def contains(self, position: int) -> bool:
        """Whether `position` is within it."""
        return self.start <= position < self.end


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it is written; `sentence` is an index, `quoted` says it is inside „ “."""

    form: str
    lower: str
    span: Span
    sentence: int
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence; its words are `words[first:last]` of the text."""

    text: str
    span: Span
    paragraph: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """Number of words."""
        return self.last - self.first

    @property
    def is_question(self) -> bool:
        """Whether it ends in a question mark, ignoring quotation marks and brackets."""
        return self.text.rstrip("“”‘’\"')»«›‹ ").endswith("?")


@dataclass(frozen=True)
class Text:
    """A text, analysed."""

    raw: str  # composed (NFC); lone surrogates are replaced, so that its length and all spans stay
    paragraphs: tuple[Span, ...]
    sentences: tuple[Sentence, ...]
    words: tuple[Word, ...]  # numbers are not words
    quotes: tuple[Span, ...]  # quotations, their marks within

    def is_quoted(self, position: int) -> bool:
        """Whether a character is inside a quotation."""
        before = bisect_right(self.quotes, position, key=attrgetter("start")) - 1
        return before >= 0 and self.quotes[before].contains(position)

    def words_of(self, sentence: Sentence) -> tuple[Word, ...]:
        """Return the words of a sentence."""
        return self.words[sentence.first : sentence.last]

    @cached_property
    def lengths(self) -> list[int]:
        """Words in each sentence that has any."""
        return [sentence.length for sentence in self.sentences if sentence.length]

    @cached_property
    def mean_length(self) -> float:
        """Mean number of words in a sentence."""
        return fmean(self.lengths) if self.lengths else 0.0

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the number of words in a sentence."""
        return pstdev(self.lengths) if self.lengths else 0.0

    @cached_property
    def question_share(self) -> float:
        """Share of the sentences that ask, 0 to 1."""
        asking = sum(sentence.is_question for sentence in self.sentences)
        return asking / len(self.sentences) if self.sentences else 0.0

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The part of speech of each word, as `tag` names them; of words beyond the first 2,000 unknown."""
        tags: list[str] = []
        for sentence in self.sentences:
            words = self.words_of(sentence)
            if sentence.first >= _MOST_WORDS:
                tags += [UNKNOWN] * len(words)
                continue
            tokens: list[str] = []  # the words, with the numbers and marks between them
            indices: list[int] = []  # of the words among these
            end = words[0].span.start if words else 0
            for word in words:
                tokens += _BETWEEN.findall(self.raw, end, word.span.start)
                indices.append(len(tokens))
                tokens.append(word.form)
                end = word.span.end
            tagged = tag(tokens)
            tags += [tagged[index] for index in indices]
        return tuple(tags)

    @cached_property
    def names(self) -> frozenset[str]:
        """The words that the text itself makes names, in lower case, and their genitives.

        They follow a title, an address, a calling or a first name, or are spelt as no German word is.
        """
        first_names, particles = own_words("first names"), own_words("particles")
        introduces = pattern("introduces a name")
        found: set[str] = set()
        for index, word in enumerate(self.words):
            if not word.form[0].isupper():
                continue
            if _FOREIGN.search(word.form):
                found.add(word.lower)
            before = index - 1  # skip particles and initials: Karl M. von Weiss
            while before >= 0 and (
                self.words[before].lower in particles or len(self.words[before].form) == 1
            ):
                before -= 1
            if before < self.sentences[word.sentence].first:
                continue
            other = self.words[before]
            between = self.raw[other.span.end : word.span.start]
            if between.strip(" ." + ascii_letters):
                continue
            if other.lower in first_names and other.form[0].isupper():
                found |= {other.lower, word.lower}
            elif introduces.search(other.lower):
                found.add(word.lower)
        return frozenset(found | {name + "s" for name in found})

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each lower-case word occurs."""
        return Counter(word.lower for word in self.words)


_FOREIGN = re.compile(r"[^A-Za-zÄÖÜäöüßẞ'’‐‑-]")

_LETTERS = r"[^\W\d_]+"
_WORD = re.compile(rf"{_LETTERS}(?:[-’'‐‑]{_LETTERS})*")
_PART = re.compile(_LETTERS)
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LINE_END = re.compile(r"(?<=[.!?…“\"])[ \t]*\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTE = re.compile(
    "„[^„“]{0,2000}“|‚[^‚‘\n]{0,2000}‘|›[^›‹\n]{0,2000}‹|‹[^›‹\n]{0,2000}›|“[^“”]{0,2000}”"
    r'|»[^»«]{0,2000}«|«[^»«]{0,2000}»|"[^"\n]{0,2000}"'
)


def analyse(raw: str) -> Text:
    """Analyse a text in its composed form (NFC); of one longer than `MOST_CHARACTERS` the beginning."""
    text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", raw[:MOST_CHARACTERS]))
    paragraphs = tuple(_paragraphs(text))
    quotes = tuple(Span(*match.span()) for match in _QUOTE.finditer(text))
    is_quoted = Text(text, paragraphs, (), (), quotes).is_quoted
    sentences: list[Sentence] = []
    words: list[Word] = []
    for index, paragraph in enumerate(paragraphs):
        for span in _sentences(text, paragraph):
            first = len(words)
            for match in _WORD.finditer(text, *span):
                form, quoted = match[0], is_quoted(match.start())
                words.append(Word(form, form.lower(), Span(*match.span()), len(sentences), quoted))
            sentences.append(Sentence(text[span.start : span.end], span, index, first, len(words)))
    return Text(text, paragraphs, tuple(sentences), tuple(words), quotes)


def _paragraphs(text: str) -> Iterator[Span]:
    """Blank lines separate paragraphs; in a text without any, line ends after a sentence do."""
    separator = _BLANK_LINE if _BLANK_LINE.search(text.strip()) else _LINE_END
    start = 0
    for end, following in [*(match.span() for match in separator.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            yield Span(start + lead, start + len(piece.rstrip()))
        start = following


# "in der 3. Staffel" is no end of a sentence, nor is "Friedrich II. in Öl"; "um 20.15." and "um 8." are.
_ORDINAL = re.compile(r"(?<![\d.:])(?<!\b[Uu]m )\b\d{1,2}\.\s*$")
_DIGIT = re.compile(r"\d")
_TAIL = 12  # characters that hold an ordinal, what is before it, and the space after it

# German words and names that sentencex takes for English abbreviations.
_NOT_ABBREVIATED = re.compile(
    r"\b(?:Al|Art|Bart|Gen|Ida|Jan|Kath|Ken|Mag|May|[Mm]ich|Mo|OP|Penn)\.[“)]?\s+(?=[A-ZÄÖÜ„])"
)


def _sentences(text: str, paragraph: Span) -> Iterator[Span]:
    import sentencex

    # Replaced one by one, so that spans stay: a line end inside a sentence does not end it.
    line = text[paragraph.start : paragraph.end].replace("\n", " ")
    ends = {boundary["end_index"] for boundary in sentencex.get_sentence_boundaries("de", line)}
    ends |= {match.end() for match in _NOT_ABBREVIATED.finditer(line)}
    start = 0
    for end in sorted(ends):
        piece = line[start:end]
        if _ORDINAL.search(piece, max(0, len(piece) - _TAIL)) and end < len(line):
            continue
        if end < len(line) and not _WORD.search(line, end) and not _DIGIT.search(line, end):
            continue  # what is left closes quotations: ‚Willst du?‘“
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            yield Span(paragraph.start + start + lead, paragraph.start + start + len(piece.rstrip()))
        start = end


def word_spans(text: str) -> list[Span]:
    """Return the spans of the words of `text`, as `analyse` finds them, and nothing else."""
    return [Span(*match.span()) for match in _WORD.finditer(text)]


def lower_words(text: str) -> list[str]:
    """Return the words of `text` in lower case, the same as `analyse` finds."""
    return [word.lower() for word in _WORD.findall(text)]


def word_parts(text: str) -> list[str]:
    """Return the runs of letters in `text` as they are written: words, parted at hyphens and apostrophes."""
    return _PART.findall(text)


def folded(word: str) -> str:
    """Return `word` in lower case, composed: for comparing what a person typed with what a model wrote."""
    return unicodedata.normalize("NFC", word).casefold()


NOUN, NAME, NUMBER, UNKNOWN = "NN", "NE", "CARD", "XY"
DETERMINERS = frozenset(("ART", "PPOSAT", "PDAT", "PIAT", "APPRART"))
_CUTOFF = 5.0  # natural logarithm: a reading that much less likely than the best one is dropped
_BEAM = 5  # paths followed from word to word

# Letters: an analysis costs their square, so longer words are taken for nouns, up to the second limit only
# where no frequency list knows them. Hardly a finite verb is longer (`entgegenstreckte`).
_LONGEST_UNLISTED, _LONGEST_ANALYSED = 8, 16
_LONGEST_NAME = 20  # letters
_MOST_TOKENS = 150  # of a sentence; one that long is refused by the rhythm check anyway
_DEAD_END = -50.0  # log probability of a transition the model never saw
_NOTHING: Mapping[int, float] = MappingProxyType({})
_MOST_WORDS = 2_000  # that are tagged; a brief cannot ask for more
_BETWEEN = re.compile(r"\d+|[^\w\s]")


_Path = tuple[float, int, Any]  # score, last tag, and the path before it


@cache
def _model() -> Any:
    """Load HanTa's German model, by private parts of version 1.2, to which pyproject.toml holds it.

    Its tags are numbers, and all scores log probabilities.
    """
    from HanTa import HanoverTagger

    class Tagger(HanoverTagger.HanoverTagger):  # type: ignore[misc]
        def reachable(self) -> None:
            """Leave out what takes most of the time to load, and only lemmas need."""
            self.reachability: dict[int, frozenset[int]] = {}

    def build() -> Arrays:
        with gzip.open(Path(HanoverTagger.__file__).with_name("morphmodel_ger.pgz")) as file:
            parts = list(pickle.load(file))  # noqa: S301 - as HanTa does
        parts[_STEMS] = {}
        # Tuples, which the garbage collector leaves alone: with these 23,000 lists it takes twice as long.
        parts[-1] = {
            word: tuple((tag, float(score)) for tag, score in found) for word, found in parts[-1].items()
        }
        data = marshal.dumps(parts, 4)  # format 4: every Python reads it
        return {"parts": np.frombuffer(data, np.uint8), "checksum": np.array([zlib.crc32(data)])}

    arrays = cached("HanTa", build, lambda arrays: zlib.crc32(arrays["parts"].data) == arrays["checksum"][0])
    model = Tagger("", marshal.loads(arrays["parts"].data))  # noqa: S302 - of the user's own cache
    model.strict = False  # as it is for its own model
    return model


_STEMS = 8  # which of the model's parts are for lemmas alone
_EMPTY, _START, _END = range(3)  # HanTa's tags before, at the start and at the end of a sentence


def tag(tokens: Sequence[str]) -> list[str]:
    """Return the most likely tag of each token of a sentence: STTS, verbs as `VV(FIN)` and the like.

    This is the second-order Viterbi search of HanTa's `tag_sent`, over each word's own readings only.
    Source: Wartena, "A Probabilistic Morphology Model for German Lemmatization", 2019.
    """
    model = _model()
    follow = model.LP_trans_word
    paths: dict[tuple[int, int], _Path] = {(_EMPTY, _START): (0.0, _START, None)}
    for index, token in enumerate(tokens[:_MOST_TOKENS]):
        scores = readings(token.lower(), index > 0 and token[0].isupper(), index > 0).items()
        longer: dict[tuple[int, int], _Path] = {}
        if len(paths) > _BEAM:
            paths = dict(sorted(paths.items(), key=_score, reverse=True)[:_BEAM])
        for state, path in paths.items():
            likely, before, last = follow.get(state, _NOTHING), path[0], state[1]
            for number, score in scores:
                total = before + likely.get(number, _DEAD_END) + score
                if (known := longer.get((last, number))) is None or total > known[0]:
                    longer[last, number] = (total, number, path)
        paths = longer
    step: Any = paths[
        max(paths, key=lambda state: paths[state][0] + follow.get(state, _NOTHING).get(_END, _DEAD_END))
    ]
    tags: list[str] = []
    while step[2] is not None:
        tags.append(model.int2tag[step[1]])
        step = step[2]
    return tags[::-1] + [UNKNOWN] * (len(tokens) - len(tags))


def _score(item: tuple[tuple[int, int], _Path]) -> float:
    return item[1][0]


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
        scores = dict(model.cache[word])
    elif (
        is_capital
        or len(word) > _LONGEST_ANALYSED
        or (len(word) > _LONGEST_UNLISTED and not commonness(word))
    ):
        return {model.tag2int[NOUN]: 0.0, model.tag2int[NAME]: 0.0}
    else:
        ranked = model.analyze_forward(word)
        scores = {number: score for number, score in ranked if score >= ranked[0][1] - _CUTOFF}
    return {
        number: float(score)
        + (model.LP_case_t[number][is_capital] if case_counts else 0.0)
        - model.LP_wtag[number]
        for number, score in scores.items()
        if number in model.LP_case_t
    } or {model.tag2int[UNKNOWN]: 0.0}


@lru_cache(maxsize=20_000)
def is_noun(word: str) -> bool:
    """Whether a capitalised word, given in lower case, is rather a common noun than a name, context aside."""
    return len(word) > _LONGEST_NAME or _model().tag_word(word.capitalize())[0][0] == NOUN


_INFLECTED = re.compile(r"(?:en|er?|em|es|e?t|ung|lich|ig|isch|heit|keit)$")


@lru_cache(maxsize=20_000)
def is_german(word: str) -> bool:
    """Whether a lower-case word is a word of the language rather than a name or an acronym."""
    if word in own_words("acronyms"):
        return False
    model = _model()
    if word in model.cache:
        best = max(model.cache[word], key=lambda reading: reading[1])[0]
        return model.int2tag[best] not in {NAME, "FM"}
    return is_known(word) and _INFLECTED.search(word) is not None
