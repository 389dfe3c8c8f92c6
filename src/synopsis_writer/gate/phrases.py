"""The check of phrases that models write far more often than people; `gate/data/floskeln.txt` has them."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from synopsis_writer.gate.finding import Finding, Subject, judged, say
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.gate.text import Sentence, Span, Text

_BEFORE, _BEHIND = 12, 7  # words between a phrase and its verb: `stellt …`, and `… gestellt hat`
_PARTICLE = 12  # words between the two parts of a separated verb: `holt sie an diesem Morgen ein`
_GAP = 3  # words that `…` stands for, at most
_ENDINGS = ("", "e", "en", "em", "er", "es", "s", "n", "ste", "sten", "ster")
_UNSTRESSED = ("be", "er", "ver", "zer", "ent", "emp", "über", "umsp", "eskal")  # without ge- as participles
_WORD_LISTS = frozenset({"verbs", "ABSTRACT", "DET"})  # headings of words, not of patterns


class Phrase(NamedTuple):
    """A phrase in a text: where, what to write instead, in German, and the pattern that it fits."""

    span: Span
    way_out: str
    pattern: str


@dataclass(frozen=True)
class _Pattern:
    source: str
    regex: str
    way_out: str
    is_raw: bool = False  # whether it is for the sentence itself; else for its words in lower case
    from_second: bool = False  # whether it counts only from the second in a text on
    anchors: frozenset[str] = frozenset()  # one of these words stands in it, if there are any
    verbs: frozenset[str] = frozenset()  # of a verb before or behind it, of one with a particle in one word
    parted: frozenset[str] = frozenset()  # forms of one whose particle is a word of its own
    particle: str = ""

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """What it is compiled to, when a text has one of its anchors."""
        return re.compile(self.regex)

    def find(self, text: Text, sentence: Sentence) -> Iterator[Span]:
        """Yield where a sentence has it."""
        if self.is_raw:
            for match in self.expression.finditer(sentence.text):
                yield Span(sentence.span.start + match.start(), sentence.span.start + match.end())
            return
        tokens = text.words_of(sentence)
        words = [word.lower for word in tokens]
        line = f" {' '.join(words)} {'? ' if sentence.is_question else ''}"
        for match in self.expression.finditer(line):
            start = line.count(" ", 0, match.start() + 1) - 1
            end = min(start + len(match[0].split()), len(words))  # a question mark is no word
            if (verb := self._verb(words, start, end)) is not None:
                first, last = min(start, verb), max(end - 1, verb)
                yield Span(tokens[first].span.start, tokens[last].span.end)

    def _verb(self, words: Sequence[str], start: int, end: int) -> int | None:
        """Return the index of the verb nearest to the words from `start` to `end`; `start` if it has none."""
        if not self.verbs:
            return start
        before = range(start - 1, max(-1, start - _BEFORE - 1), -1)
        near = [*before, *range(start, min(len(words), end + _BEHIND))]
        verbs = [index for index in near if words[index] in self.verbs]
        if self.parted:  # the particle is behind the verb
            parted = [index for index in near if words[index] in self.parted]
            verbs += [index for index in parted if self.particle in words[max(end, index + 1) :][:_PARTICLE]]
        return min(verbs, key=near.index, default=None)


def floskel(subject: Subject) -> Finding:
    """The text has no more stock phrases than its house allows."""
    raw, most = subject.text.raw, int(subject.form.phrases[1])
    found = stock_phrases(subject.text)
    named = {" ".join(raw[slice(*phrase.span)].split()): phrase.way_out for phrase in found}
    words = ", ".join(f"„{words}“ ({way_out.rstrip('.')})" for words, way_out in named.items())
    problem = say("floskel", n=len(found), words=words) if len(found) > most else None
    limit = say("limit floskel" if most else "limit no floskel", most=most)
    return judged("floskel", len(found), limit, problem, [phrase.span for phrase in found])


def stock_phrases(text: Text) -> list[Phrase]:
    """Return the stock phrases of a text in order; of two that overlap the longer one."""
    found: list[Phrase] = []
    seen: set[int] = set()
    patterns, anchored = _patterns()
    for sentence in text.sentences:
        words = {"", *(word.lower for word in text.words_of(sentence))}
        for number in sorted({number for word in words for number in anchored.get(word, ())}):
            pattern = patterns[number]
            for span in pattern.find(text, sentence):
                if not pattern.from_second or number in seen:
                    found.append(Phrase(span, pattern.way_out, pattern.source))
                seen.add(number)
    chosen: list[Phrase] = []
    for phrase in sorted(found, key=lambda phrase: (phrase.span.start - phrase.span.end, phrase.span.start)):
        start, end = phrase.span
        if all(end <= other.span.start or other.span.end <= start for other in chosen):
            chosen.append(phrase)
    return sorted(chosen)


@cache
def _patterns() -> tuple[Sequence[_Pattern], Mapping[str, Sequence[int]]]:
    """Return the patterns, and their numbers by the words that they need; below "" those that need none."""
    lists = word_lists("floskeln")
    lines = (line for kind, lines in lists.items() if kind not in _WORD_LISTS for line in lines)
    patterns = [_compiled(*line.split(" | ")[:2]) for line in lines]
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, pattern in enumerate(patterns):
        for word in pattern.anchors or {""}:
            numbers[word].append(number)
    return patterns, numbers


def _compiled(source: str, way_out: str) -> _Pattern:
    plain = source.removeprefix("2× ")
    from_second = plain != source
    if plain.startswith("/"):
        return _Pattern(source, plain.strip("/"), way_out, True, from_second)
    verbs: frozenset[str] = frozenset()
    parted = anchors = verbs
    particle = ""
    pieces: list[str] = []
    for part in plain.split():
        if part.startswith("@"):
            for verb in part[1:].split("/"):
                head, _, base = verb.rpartition("|")
                forms = _forms(base)
                verbs |= {head + form for form in {*forms, f"zu{base}"}} if head else forms
                parted, particle = (forms, head) if head else (parted, particle)
        elif part == "?":
            pieces.append(r"\?\s")
        elif part == "^":
            pieces.append("^\\s")
        elif part.startswith("…"):
            pieces.append(rf"(?:\S+\s){{0,{part[1:] or _GAP}}}?")
        elif part == "_":
            pieces.append(r"\w\S*\s")
        else:
            words = frozenset().union(*map(_words, part.removesuffix("?").split("/")))
            any_of = "|".join(map(re.escape, sorted(words)))
            pieces.append(rf"(?:(?:{any_of})\s){'?' if part.endswith('?') else ''}")
            if not part.endswith("?") and min(map(len, words)) > min(map(len, anchors), default=0):
                anchors = words
    regex = "".join(pieces)
    regex = regex if regex.startswith("^") else rf"(?<=\s){regex}"
    return _Pattern(source, regex, way_out, False, from_second, anchors, verbs, parted, particle)


def _words(source: str) -> frozenset[str]:
    if source in _WORD_LISTS:
        return frozenset(word for line in word_lists("floskeln")[source] for word in line.split())
    if source.startswith("<"):
        return _forms(source.strip("<>"))
    if source.endswith("*"):
        return frozenset(source[:-1] + ending for ending in _ENDINGS)
    return frozenset([source])


@cache
def _strong_verbs() -> Mapping[str, Sequence[str]]:
    return {line.split()[0]: line.split()[1:] for line in word_lists("floskeln")["verbs"]}


def _forms(verb: str) -> frozenset[str]:
    """Return the forms of a verb without a particle: regular ones unless the list has others."""
    stem = re.sub("e?n$", "", verb)
    if (forms := _strong_verbs().get(verb)) is not None:
        plural = f"{forms[1].removesuffix('e')}en"
        return frozenset({verb, f"{stem}e", plural, *forms})
    linked = f"{stem}e" if stem.endswith(("t", "d", "fn", "gn", "chn")) else stem
    participle = f"{linked}t" if verb.startswith(_UNSTRESSED) else f"ge{linked}t"
    return frozenset((verb, f"{stem}e", participle, *(linked + end for end in ("t", "te", "ten", "st"))))
