"""A text, analysed once: paragraphs, sentences, words and quotations that all checks read."""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from statistics import fmean, pstdev
from typing import NamedTuple

MOST_CHARACTERS = 50_000  # what is analysed; thirty times the longest synopsis is enough to say "too long"


class Span(NamedTuple):
    """A stretch of the text: from `start` up to, not including, `end`, in characters."""

    start: int
    end: int

    def holds(self, position: int) -> bool:
        """Whether `position` lies within."""
        return self.start <= position < self.end


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it stands in the text; `sentence` and `paragraph` are indices, `quoted` inside „ “."""

    form: str
    lower: str
    span: Span
    sentence: int
    paragraph: int
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, its place, and which words are its own: `words[first:last]`."""

    text: str
    span: Span
    paragraph: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """Its number of words."""
        return self.last - self.first

    @property
    def is_question(self) -> bool:
        """Whether it ends in a question mark, quotation marks and brackets aside."""
        return self.text.rstrip("“”\"')»« ").endswith("?")


@dataclass(frozen=True)
class Text:
    """What `analyse` found.

    Attributes:
        raw: the text; lone surrogates are replaced, so that its length and all spans stay.
        paragraphs: their spans.
        sentences: in order.
        words: in order; numbers are no words.
        quotes: spans of quotations, their marks within.
    """

    raw: str
    paragraphs: tuple[Span, ...]
    sentences: tuple[Sentence, ...]
    words: tuple[Word, ...]
    quotes: tuple[Span, ...]

    def is_quoted(self, position: int) -> bool:
        """Whether a character stands inside a quotation."""
        before = bisect_right(self.quotes, position, key=_start) - 1
        return before >= 0 and self.quotes[before].holds(position)

    def words_of(self, sentence: Sentence) -> tuple[Word, ...]:
        """Return the words of one sentence."""
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
        """The part of speech of each word, as `tagger.tag` names them."""
        from synopsis_writer.style.tagger import tag_words

        return tag_words(self)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each lower-case word stands in the text."""
        return Counter(word.lower for word in self.words)


_start = attrgetter("start")
_WORD = re.compile(r"[^\W\d_]+(?:[-’'‐‑][^\W\d_]+)*")
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LINE_END = re.compile(r"(?<=[.!?…“\"])[ \t]*\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTE = re.compile('„[^„“]{0,2000}“|“[^“”]{0,2000}”|»[^»«]{0,2000}«|"[^"\n]{0,2000}"')


def analyse(raw: str) -> Text:
    """Analyse a text; of one longer than `MOST_CHARACTERS` the beginning."""
    text = _SURROGATE.sub("\ufffd", raw[:MOST_CHARACTERS])
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
                words.append(Word(form, form.lower(), Span(*match.span()), len(sentences), index, quoted))
            sentences.append(Sentence(text[span.start : span.end], span, index, first, len(words)))
    return Text(text, paragraphs, tuple(sentences), tuple(words), quotes)


def _paragraphs(text: str) -> Iterator[Span]:
    """Blank lines part paragraphs; in a text without any, line ends behind a sentence do."""
    separator = _BLANK_LINE if _BLANK_LINE.search(text.strip()) else _LINE_END
    start = 0
    for end, following in [*(match.span() for match in separator.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            yield Span(start + lead, start + len(piece.rstrip()))
        start = following


_ORDINAL = re.compile(r"\b\d{1,2}\.\s*$")
_TAIL = 8  # characters that hold an ordinal and the space behind it
# German words and names that sentencex takes for English abbreviations.
_NO_ABBREVIATION = re.compile(
    r"\b(?:Al|Art|Bart|Gen|Ida|Jan|Kath|Ken|Mag|May|[Mm]ich|Mo|OP|Penn)\.[“)]?\s+(?=[A-ZÄÖÜ„])"
)


def _sentences(text: str, paragraph: Span) -> Iterator[Span]:
    # One line, one character for each: a line end inside a sentence does not part it, and spans stay.
    line = text[paragraph.start : paragraph.end].replace("\n", " ")
    start = 0
    for end in _ends(line):
        piece = line[start:end]
        if _ORDINAL.search(piece, max(0, len(piece) - _TAIL)) and end < len(line):
            continue  # "in der 3. Staffel" is no end of a sentence
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            yield Span(paragraph.start + start + lead, paragraph.start + start + len(piece.rstrip()))
        start = end


def _ends(line: str) -> list[int]:
    import sentencex

    found = {boundary["end_index"] for boundary in sentencex.get_sentence_boundaries("de", line)}
    return sorted(found | {match.end() for match in _NO_ABBREVIATION.finditer(line)})


def word_spans(text: str) -> list[Span]:
    """Return the spans of the words of `text`, as `analyse` finds them, and nothing else."""
    return [Span(*match.span()) for match in _WORD.finditer(text)]


def lower_words(text: str) -> list[str]:
    """Return the words of `text` in lower case, the same as `analyse` finds."""
    return [word.lower() for word in _WORD.findall(text)]


def folded(word: str) -> str:
    """Return `word` in lower case, composed: for comparing what a person typed with what a model wrote."""
    return unicodedata.normalize("NFC", word).casefold()
