"""A text analysed once: sentences, words, parts of speech."""

import gzip
import math
import pickle
import re
import struct
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import attrgetter, itemgetter
from pathlib import Path
from statistics import fmean, pstdev
from string import ascii_letters
from typing import Any, NamedTuple

import numpy as np

from synopsis_writer.gate.lexicon import cache_path, commonness, is_known, own_words, pattern
from synopsis_writer.storage.arrays import cached_value

MOST_CHARACTERS = 50_000  # what is analysed; thirty times the longest synopsis is enough to say "too long"


class Span(NamedTuple):
    """A part of the text: from `start` up to, not including, `end`, in characters."""

    start: int
    end: int

    def contains(self, position: int) -> bool:
        """Whether it holds the character at `position`."""
        return self.start <= position < self.end


class Word(NamedTuple):  # quicker than a dataclass
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
        """Number of words; actors in brackets are no part of the sentence."""
        return self.last - self.first - sum(len(match[1].split()) for match in pattern("actor").finditer(self.text))

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

    def find(self, expression: re.Pattern[str]) -> list[Span]:
        """Return the spans of what an expression matches."""
        return [Span(*match.span()) for match in expression.finditer(self.raw)]

    def words_of(self, sentence: Sentence) -> tuple[Word, ...]:
        """Return the words of a sentence."""
        return self.words[sentence.first : sentence.last]

    @property
    def opening(self) -> Sentence | None:
        """The first sentence with words, if any."""
        return next((sentence for sentence in self.sentences if sentence.length), None)

    @property
    def ending(self) -> Sentence | None:
        """The last sentence with words, if any."""
        return next((sentence for sentence in reversed(self.sentences) if sentence.length), None)

    @cached_property
    def lengths(self) -> list[int]:
        """Words in each sentence that has any."""
        return [sentence.length for sentence in self.sentences if sentence.length]

    @property
    def mean_length(self) -> float:
        """Mean number of words in a sentence."""
        return fmean(self.lengths or [0])

    @property
    def deviation(self) -> float:
        """Standard deviation of the number of words in a sentence."""
        return pstdev(self.lengths or [0])

    @property
    def question_share(self) -> float:
        """Share of the sentences that ask, 0 to 1."""
        return fmean([sentence.is_question for sentence in self.sentences] or [0])

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The part of speech of each word, as `tag` names them; of words beyond the first 2,000 unknown."""
        tags: list[str] = []
        for sentence in self.sentences:
            words = self.words_of(sentence)
            if not words or sentence.first >= _MOST_WORDS:
                tags += [UNKNOWN] * len(words)
                continue
            tokens = list(_TOKEN.finditer(self.raw, words[0].span.start, words[-1].span.end))
            tagged = tag([token[0] for token in tokens])
            tags += [each for token, each in zip(tokens, tagged, strict=True) if token[1]]
        return tuple(tags)

    @cached_property
    def names(self) -> frozenset[str]:
        """What follows a title, address, calling or first name, or is spelt unlike German; genitives, too."""
        first_names, particles = own_words("first names"), own_words("particles")
        introduces = pattern("introduces a name")
        found: set[str] = set()
        for index, word in enumerate(self.words):
            if not word.form[0].isupper():
                continue
            if _FOREIGN.search(word.form):
                found.add(word.lower)
            for other in reversed(self.words[self.sentences[word.sentence].first : index]):
                if other.lower in particles or len(other.form) == 1:
                    continue  # Karl M. von Weiss
                if self.raw[other.span.end : word.span.start].strip(" ." + ascii_letters):
                    break
                if other.lower in first_names and other.form[0].isupper():
                    found |= {other.lower, word.lower}
                elif introduces.search(other.lower):
                    found.add(word.lower)
                break
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


@lru_cache(maxsize=16)  # a text is judged, and then compared with others
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
            has_quotes = any(quote.start < span.end and span.start < quote.end for quote in quotes)
            for match in _WORD.finditer(text, *span):
                form, quoted = match[0], has_quotes and is_quoted(match.start())
                words.append(Word(form, form.lower(), Span(*match.span()), len(sentences), quoted))
            sentences.append(Sentence(text[span.start : span.end], span, index, first, len(words)))
    return Text(text, paragraphs, tuple(sentences), tuple(words), quotes)


def _paragraphs(text: str) -> Iterator[Span]:
    """Blank lines separate paragraphs; in a text without any, line ends after a sentence do."""
    separator = _BLANK_LINE if _BLANK_LINE.search(text.strip()) else _LINE_END
    start = 0
    for end, following in [*(match.span() for match in separator.finditer(text)), (len(text), len(text))]:
        if text[start:end].strip():
            yield _stripped(text, start, end)
        start = following


def _stripped(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return Span(end - len(piece.lstrip()), start + len(piece.rstrip()))


# "in der 3. Staffel" is no end of a sentence, nor is "Friedrich II. in Öl"; "um 20.15." and "um 8." are.
_ORDINAL = re.compile(r"(?<![\d.:])(?<!\b[Uu]m )\b\d{1,2}\.\s*$")
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
    last = next((end for end in range(len(line), 0, -1) if line[end - 1].isalnum()), 0)
    start = 0
    for end in sorted(ends):
        piece = line[start:end]
        if _ORDINAL.search(piece, max(0, len(piece) - _TAIL)) and end < len(line):
            continue
        if last <= end < len(line):
            continue  # what is left closes quotations: ‚Willst du?‘“
        if piece.strip():
            yield _stripped(text, paragraph.start + start, paragraph.start + end)
        start = end


def word_spans(text: str) -> list[Span]:
    """Return the spans of the words of `text`, as `analyse` finds them."""
    return [Span(*match.span()) for match in _WORD.finditer(text)]


def lower_words(text: str) -> list[str]:
    """Return the words of `text` in lower case, the same as `analyse` finds."""
    return [word.lower() for word in _WORD.findall(text)]


def word_parts(text: str) -> list[str]:
    """Return the runs of letters in `text` as they are written: words, split at hyphens and apostrophes."""
    return _PART.findall(text)


def folded(word: str) -> str:
    """Return `word` in lower case, composed: for comparing what a person typed with what a model wrote."""
    return unicodedata.normalize("NFC", word).casefold()


NOUN, NAME, NUMBER, UNKNOWN = "NN", "NE", "CARD", "XY"
DETERMINERS = frozenset(("ART", "PPOSAT", "PDAT", "PIAT", "APPRART"))
_CUTOFF = 5.0  # natural logarithm: a reading that much less likely than the best one is dropped
_BEAM, _MORPHEME_BEAM = 5, 3  # paths followed from word to word, and within a word

# Letters: longer words are taken for nouns; hardly a finite verb is longer (`entgegenstreckte`).
_LONGEST_UNLISTED, _LONGEST_ANALYSED, _LONGEST_NAME = 8, 16, 20  # in no frequency list; in one; capitalised
_MOST_TOKENS = 150  # of a sentence; one that long is refused by the rhythm check anyway
_DEAD_END = -50.0  # log probability of a transition the model never saw
_MOST_WORDS = 2_000  # that are tagged; a brief cannot ask for more
_TOKEN = re.compile(rf"({_WORD.pattern})|\d+|[^\w\s]")

_START = (0, 1)  # the tags before a sentence, and before a word's morphemes
_END = 2  # the tag at the end of a sentence
_Pair = tuple[int, int]  # the last two tags
_Path = tuple[float, _Pair, Any]  # score, last two tags, and the path before it
_Scores = Mapping[int, float]  # by tag


class _Model(NamedTuple):
    """HanTa's German model, as far as tags need it: tags are numbers, and all scores log probabilities."""

    numbers: Mapping[str, int]  # of the tags, by their names
    names: Mapping[int, str]
    cases: Mapping[int, Sequence[float]]  # of a small and of a capital initial, given the word's tag
    shares: _Scores  # of the tags of words
    follow: Sequence[float]  # of a word's tag, given the two before it: a row for each pair of tags
    rows: Mapping[_Pair, int]  # where the rows begin; the first is for pairs never seen
    inner: Mapping[_Pair, _Scores]  # of a morpheme's tag, given the two before it
    last: Mapping[_Pair, _Scores]  # of the word's tag, given those of its last two morphemes
    lengths: Mapping[int, Sequence[float]]  # of an unknown morpheme's length, given its tag
    endings: Mapping[str, _Scores]  # of its last letters, up to four
    words: Mapping[str, bytes]  # the readings of 23,000 words, packed
    morphemes: Mapping[str, bytes]


_READING = struct.Struct("<hd")  # a tag and its score


@cache
def _model() -> _Model:
    """Load HanTa's German model, by private parts of version 1.2, to which pyproject.toml holds it."""

    def build() -> list[Any]:
        import HanTa

        with gzip.open(Path(HanTa.__file__).with_name("morphmodel_ger.pgz")) as file:
            parts = pickle.load(file)  # noqa: S301 - as HanTa does
        numbers, names, endings, lengths, unknown, rare, moves, known = parts[:8]
        follow, shares, cases, words = parts[9], parts[10], parts[11], parts[-1]
        table = np.full((len(follow) + 1, max(cases) + 1), _DEAD_END, np.float32)
        for row, scores in zip(table[1:], follow.values(), strict=True):
            row[list(scores)] = list(scores.values())
        morphemes: defaultdict[str, bytes] = defaultdict(bytes)
        for tag, scores in known.items():
            for morpheme, score in scores.items():
                morphemes[morpheme] += _READING.pack(tag, score)
        return [
            numbers,
            names,
            {tag: (scores[False], scores[True]) for tag, scores in cases.items()},
            shares,
            table.tobytes(),
            {pair: number * table.shape[1] for number, pair in enumerate(follow, 1)},
            {pair: {tag: score for tag, score in each.items() if tag > 0} for pair, each in moves.items()},
            {pair: {-tag: score for tag, score in each.items() if tag < 0} for pair, each in moves.items()},
            {tag: [unknown + score + each for each in lengths[tag]] for tag, score in rare.items()},
            {ending: {tag: endings[tag][ending] for tag in rare} for ending in endings[min(rare)]},
            {word: b"".join(_READING.pack(*each) for each in readings) for word, readings in words.items()},
            dict(morphemes),
        ]

    model = _Model(*cached_value(cache_path("HanTa"), build))
    return model._replace(follow=memoryview(model.follow).cast("f"))  # type: ignore[arg-type]


def tag(tokens: Sequence[str]) -> list[str]:
    """Return the most likely tag of each token of a sentence: STTS, verbs as `VV(FIN)` and the like.

    Source: Wartena, "A Probabilistic Morphology Model for German Lemmatization", 2019.
    """
    model = _model()
    rows, follow = model.rows, model.follow
    paths: Collection[_Path] = [(0.0, _START, None)]
    for index, token in enumerate(tokens[:_MOST_TOKENS]):
        found = readings(token.lower(), index > 0 and token[0].isupper(), index > 0)
        longer: dict[_Pair, _Path] = {}
        for path in sorted(paths, key=itemgetter(0), reverse=True)[:_BEAM] if len(paths) > _BEAM else paths:
            before, pair, _ = path
            row, last = rows.get(pair, 0), pair[1]
            for number, score in found:
                total, following = before + follow[row + number] + score, (last, number)
                if following not in longer or total > longer[following][0]:
                    longer[following] = (total, following, path)
        paths = longer.values()
    step: Any = max(paths, key=lambda path: path[0] + follow[rows.get(path[1], 0) + _END])
    tags: list[str] = []
    while step[2] is not None:
        tags.append(model.names[step[1][1]])
        step = step[2]
    return tags[::-1] + [UNKNOWN] * (len(tokens) - len(tags))


@lru_cache(maxsize=100_000)
def readings(word: str, is_capital: bool, case_counts: bool) -> Sequence[tuple[int, float]]:
    """Return the tags of a lower-case word, each with the log probability of the word, given the tag."""
    model = _model()
    if word[0].isdigit():
        return [(model.numbers[NUMBER], 0.0)]
    # A capital within a sentence marks a noun or a name, and the context tells which.
    is_long = len(word) > (_LONGEST_ANALYSED if commonness(word) else _LONGEST_UNLISTED)
    if word not in model.words and (is_capital or is_long):
        return [(model.numbers[NOUN], 0.0), (model.numbers[NAME], 0.0)]
    found = _readings(word)
    least = -math.inf if word in model.words else max(score for _, score in found) - _CUTOFF
    return [
        (tag, score + (model.cases[tag][is_capital] if case_counts else 0.0) - model.shares[tag])
        for tag, score in found
        if score >= least
    ]


_SHORT_WORD, _SHORTEST_UNKNOWN = 4, 3  # letters: in a longer word no unknown morpheme is shorter
_LONGEST_ENDING, _LONGEST_COUNTED = 4, 24  # letters
_WHOLE_WORD = 4.6  # what makes one unknown morpheme less likely as the whole word
_LIKELIEST_GUESS = -19.0  # no unknown morpheme scores more
_HOPELESS = 8.0  # a path that much below a whole one leads to no reading


@lru_cache(maxsize=20_000)
def _readings(word: str) -> Sequence[tuple[int, float]]:
    """Return the tags of a lower-case word out of context; one the model has not is split into morphemes."""
    model, letters = _model(), len(word)
    if (packed := model.words.get(word)) is not None:
        return list(_READING.iter_unpack(packed))
    steps: list[dict[_Pair, float]] = [{_START: 0.0}, *({} for _ in word)]
    bound = -math.inf
    for start, paths in enumerate(steps[:-1]):
        best = sorted(paths.values(), reverse=True)[: _MORPHEME_BEAM + 1]
        least = max(bound, best[-1] - 1 if len(best) > _MORPHEME_BEAM else bound)
        likely = [pair for pair in paths if paths[pair] >= least and pair in model.inner]
        followed = [(pair[1], paths[pair], model.inner[pair]) for pair in likely]
        is_guessed = bool(best) and best[0] + _LIKELIEST_GUESS > bound
        for end in range(start + 1, letters + 1) if followed else ():
            scores = _morpheme(word[start:end], letters, is_guessed=is_guessed)
            step = steps[end]
            for last, before, following in followed if scores else ():
                for tag in following.keys() & scores.keys():
                    total = before + following[tag] + scores[tag]
                    if total > step.get((last, tag), bound):
                        step[last, tag] = total
        if not start:
            bound = max(_ends(steps[-1]).values(), default=bound) - _HOPELESS
    found: dict[int, float] = {}
    for (_, tag), score in _ends(steps[-1]).items():
        other = found.get(tag, -math.inf)
        found[tag] = max(score, other) + math.log1p(math.exp(-abs(score - other)))
    return list(found.items()) or [(model.numbers[UNKNOWN], 0.0)]


def _morpheme(morpheme: str, letters: int, *, is_guessed: bool) -> _Scores:
    """Return the scores of a part of a word of so many letters, by tag; of an unknown one as a guess."""
    model, size = _model(), len(morpheme)
    known = dict(_READING.iter_unpack(packed)) if (packed := model.morphemes.get(morpheme)) else {}
    if not is_guessed or (letters >= _SHORT_WORD and size < _SHORTEST_UNKNOWN):
        return known
    cut = max(1, size - _LONGEST_ENDING)
    while morpheme[cut:] not in model.endings:
        cut += 1
    guessed = _guess(morpheme[cut:], min(size, _LONGEST_COUNTED), is_whole=size == letters)
    return guessed | known if known else guessed


@lru_cache(maxsize=20_000)
def _guess(ending: str, letters: int, *, is_whole: bool) -> dict[int, float]:
    lengths, whole = _model().lengths, _WHOLE_WORD if is_whole else 0.0
    return {tag: lengths[tag][letters] + score - whole for tag, score in _model().endings[ending].items()}


def _ends(paths: Mapping[_Pair, float]) -> Mapping[_Pair, float]:
    """Return the scores of whole words, by the tags of the last morpheme and of the word."""
    found: dict[_Pair, float] = {}
    for pair, score in paths.items():
        for tag, step in _model().last.get(pair, {}).items():
            found[pair[1], tag] = max(score + step, found.get((pair[1], tag), -math.inf))
    return found


@lru_cache(maxsize=20_000)
def is_noun(word: str) -> bool:
    """Whether a capitalised word, given in lower case, is rather a common noun than a name, context aside."""
    if len(word) > _LONGEST_NAME:
        return True
    model = _model()
    tag, _ = max(_readings(word), key=lambda reading: reading[1] + model.cases[reading[0]][True])
    return model.names[tag] == NOUN


_INFLECTED = re.compile(r"(?:en|er?|em|es|e?t|ung|lich|ig|isch|heit|keit)$")


@lru_cache(maxsize=20_000)
def is_german(word: str) -> bool:
    """Whether a lower-case word is a word of the language rather than a name or an acronym."""
    if word in own_words("acronyms"):
        return False
    model = _model()
    if word in model.words:
        tag, _ = max(_readings(word), key=itemgetter(1))
        return model.names[tag] not in {NAME, "FM"}
    return is_known(word) and _INFLECTED.search(word) is not None
