"""Told facts: which of a case's facts a text tells, as far as words can say."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import takewhile

from synopsis_writer.evaluation.case import Case
from synopsis_writer.style.copies import name_words
from synopsis_writer.style.lexicon import LONGEST_WORD, commonness, is_content, stem
from synopsis_writer.style.text import Text, analyse, lower_words

# Chosen together on the data of docs/metrics.md.
WINDOW = 3  # sentences in a row in which a fact's words must meet
TOLD = 0.4  # share of a fact's weight from which on it is told
_NAME = 0.5  # what a name weighs of other words: another story about the same people tells no fact
_COMMON, _RARE = 7.0, 2.0  # Zipf frequencies: of a word that would weigh nothing, and of the heaviest
_SHORTEST_PREFIX, _PREFIX_SHARE = 4, 0.7  # letters that two stems of one family share, and of the shorter one
_LEAD = re.compile(r"^(?:Am Ende )?(?:Offen (?:bleibt|ist))\b[, ]*")  # words about the text, not in it

Fact = tuple[tuple[str, float], ...]  # stems with their weights


def told_facts(case: Case, text: Text) -> float | None:
    """Return the share of the case's facts that a text tells, 0 to 1.

    A fact is told when words of two fifths of its weight meet within three sentences. Only those facts count
    that the reference itself tells by this rule: the others it says in words of its own, and no count of
    words can find them. None when no fact counts.
    """
    facts = _countable(case)
    if not facts:
        return None
    sentences = _stems(text)
    return sum(_share(fact, sentences) >= TOLD for fact in facts) / len(facts)


@lru_cache(maxsize=256)
def _countable(case: Case) -> tuple[Fact, ...]:
    people = (*case.brief.characters, *(person.name for person in case.reference.characters))
    names = name_words(people)
    reference = _stems(analyse(case.reference.text))
    facts = (_fact(line, names) for line in case.facts)
    return tuple(fact for fact in facts if fact and _share(fact, reference) >= TOLD)


def _fact(line: str, names: Collection[str]) -> Fact:
    words = dict.fromkeys(lower_words(_LEAD.sub("", line)))
    return tuple(
        (stem(word), _weight(word) * (_NAME if word in names else 1.0))
        for word in words
        if is_content(word) and len(word) <= LONGEST_WORD
    )


def _weight(word: str) -> float:
    return _COMMON - max(_RARE, commonness(word))


def _stems(text: Text) -> list[frozenset[str]]:
    return [
        frozenset(
            stem(word.lower)
            for word in text.words_of(sentence)
            if is_content(word.lower) and len(word.lower) <= LONGEST_WORD
        )
        for sentence in text.sentences
    ]


def _share(fact: Fact, sentences: Sequence[frozenset[str]]) -> float:
    """Return the largest share of a fact's weight that turns up within the window, 0 to 1."""
    met = [{wanted for wanted, _ in fact if _turns_up(wanted, stems)} for stems in sentences]
    windows = (set().union(*met[start : start + WINDOW]) for start in range(len(met)))
    total = sum(weight for _, weight in fact)
    return (
        max((sum(weight for wanted, weight in fact if wanted in own) for own in windows), default=0.0) / total
    )


def _turns_up(wanted: str, stems: Collection[str]) -> bool:
    beginning = wanted[:_SHORTEST_PREFIX]
    return any(
        wanted in other or (other.startswith(beginning) and _begin_alike(wanted, other)) for other in stems
    )


@lru_cache(maxsize=20_000)
def _begin_alike(one: str, other: str) -> bool:
    """Whether two stems are of one family: a compound and its first part, a verb and its noun."""
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return alike >= max(_SHORTEST_PREFIX, _PREFIX_SHARE * min(len(one), len(other)))
