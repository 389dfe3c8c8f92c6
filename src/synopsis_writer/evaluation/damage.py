"""Damages: good texts spoilt by code, in ways a reader notices, to see whether a judge does."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal

from synopsis_writer.evaluation.case import Case
from synopsis_writer.kinds import Form
from synopsis_writer.style.names import TITLES
from synopsis_writer.style.text import analyse
from synopsis_writer.synopsis import Paragraph, Synopsis

Change = Callable[[Case, Sequence[Case], Random], Synopsis | None]


@dataclass(frozen=True)
class Kind:
    """One kind of damage.

    Attributes:
        name: what is wrong with the text, in a few words.
        gate: whether the style gate refuses such texts, too: `yes` 90 % of them or more, `no` less than 15 %,
            `partly` what lies between; a test holds it on all cases of `evals/`.
        change: makes a damaged text of a case's reference; is given the other cases and the dice; None where
            it finds nothing to damage.
    """

    name: str
    gate: Literal["no", "partly", "yes"]
    change: Change


def damaged(kind: Kind, case: Case, cases: Sequence[Case], seed: int) -> Synopsis | None:
    """Return the case's reference, spoilt; None where this kind finds nothing to damage.

    The same seed gives the same text, whatever other kinds and cases there are to be done.
    """
    dice = Random(f"{seed}\n{kind.name}\n{case.id}")  # noqa: S311 - a choice, no secret
    text = kind.change(case, [other for other in cases if other.id != case.id], dice)
    return None if text is None or text.paragraphs == case.reference.paragraphs else text


def _told(synopsis: Synopsis, paragraphs: Sequence[Paragraph]) -> Synopsis:
    return Synopsis(**{**dict(synopsis), "paragraphs": tuple(paragraphs)})


def _sentences(synopsis: Synopsis) -> list[list[str]]:
    return [
        [sentence.text for sentence in analyse(paragraph.text).sentences] for paragraph in synopsis.paragraphs
    ]


def _refilled(synopsis: Synopsis, sentences: Sequence[Sequence[str]]) -> Synopsis:
    """Return the synopsis with other sentences in its paragraphs; one without any is left out."""
    parts = zip(synopsis.paragraphs, sentences, strict=True)
    return _told(
        synopsis, [Paragraph(storyline=old.storyline, text=" ".join(new)) for old, new in parts if new]
    )


def _shuffled(case: Case, _: Sequence[Case], dice: Random) -> Synopsis:
    """Shuffle the sentences over the whole text; the last one stays, so that the ending is of its kind."""
    told = _sentences(case.reference)
    *mixed, last = [sentence for paragraph in told for sentence in paragraph]
    dice.shuffle(mixed)
    drawn = iter([*mixed, last])
    return _refilled(case.reference, [[next(drawn) for _ in paragraph] for paragraph in told])


_PLAIN = {"Herr", "Frau", "von"}


def _parts(name: str) -> tuple[str, ...]:
    return tuple(
        part for part in name.split() if part.rstrip(".").lower() not in TITLES and part not in _PLAIN
    )


def _names_swapped(case: Case, _: Sequence[Case], __: Random) -> Synopsis | None:
    """Let two people trade names in the second half, so that each does what the other did.

    They are the two with equally many names whom that half names most.
    """
    paragraphs = case.reference.paragraphs
    half = len(paragraphs) // 2
    people = [_parts(person.name) for person in case.reference.characters]
    words = re.findall(r"\w+", " ".join(paragraph.text for paragraph in paragraphs[half:]))

    def named(person: Sequence[str]) -> int:
        return max((sum(word in {part, part + "s"} for word in words) for part in person), default=0)

    pairs = [(a, b) for a, b in combinations(people, 2) if len(a) == len(b) and named(a) and named(b)]
    if not pairs:
        return None
    one, other = max(pairs, key=lambda pair: min(map(named, pair)))
    swaps = {**dict(zip(other, one, strict=True)), **dict(zip(one, other, strict=True))}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, swaps))})(?=s?\b)")
    traded = [
        Paragraph(storyline=part.storyline, text=pattern.sub(lambda match: swaps[match[1]], part.text))
        for part in paragraphs[half:]
    ]
    return _told(case.reference, [*paragraphs[:half], *traded])


def _ending_cut_off(case: Case, _: Sequence[Case], __: Random) -> Synopsis | None:
    """Leave out the last paragraph."""
    rest = case.reference.paragraphs[:-1]
    return _told(case.reference, rest) if rest else None


def _foreign_paragraph(case: Case, others: Sequence[Case], dice: Random) -> Synopsis | None:
    """Put in a paragraph of another story in the same tense, of the same series where there is one."""
    alike = [other for other in others if _is_past(other) == _is_past(case)]
    near = [other for other in alike if other.brief.show == case.brief.show] or alike
    if not near:
        return None
    paragraphs = case.reference.paragraphs
    half = (len(paragraphs) + 1) // 2
    stray = dice.choice(dice.choice(near).reference.paragraphs)
    return _told(case.reference, [*paragraphs[:half], stray, *paragraphs[half:]])


def _is_past(case: Case) -> bool:
    return case.brief.form == Form.SPECIAL


def _facts_left_out(case: Case, _: Sequence[Case], dice: Random) -> Synopsis | None:
    """Leave out, for half of the facts, the sentence that is most like each; never the last sentence."""
    from rapidfuzz import fuzz

    told = _sentences(case.reference)
    free = {place: told[place[0]][place[1]] for place in _places(told)[:-1]}
    for fact in dice.sample(case.facts, (len(case.facts) + 1) // 2):
        if free:
            del free[max(free, key=lambda place: fuzz.token_set_ratio(fact, free[place]))]
    kept = {*free, _places(told)[-1]}
    return _refilled(
        case.reference,
        [
            [sentence for column, sentence in enumerate(paragraph) if (row, column) in kept]
            for row, paragraph in enumerate(told)
        ],
    )


def _places(told: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    return [(row, column) for row, paragraph in enumerate(told) for column in range(len(paragraph))]


# They say nothing of any story, and hold in every one.
_HOLLOW = (
    "Manchmal schreibt das Leben eben seine ganz eigenen Geschichten.",
    "Für alle Beteiligten ist das wahrlich keine leichte Zeit.",
    "Doch jedes Ende birgt bekanntlich auch einen neuen Anfang.",
    "Große Gefühle und schwere Entscheidungen liegen hier dicht beieinander.",
    "Am Ende zählt schließlich nur, was wirklich von Herzen kommt.",
    "Hoffnung und Verzweiflung sind dabei oft nur einen Schritt voneinander entfernt.",
    "Wahre Freundschaft bewährt sich erst in solchen Stunden.",
    "Nichts ist eben so beständig wie der Wandel.",
    "Mut bedeutet in solchen Augenblicken vor allem, sich selbst treu zu bleiben.",
    "Jede Begegnung hinterlässt bekanntlich ihre Spuren.",
    "Wer liebt, der muss zuweilen auch loslassen können.",
    "Das Schicksal geht ja meist seine eigenen Wege.",
)


def _hollow_sentences(case: Case, _: Sequence[Case], dice: Random) -> Synopsis:
    """End all paragraphs but the last with a sentence that says nothing."""
    *told, last = _sentences(case.reference)
    hollow = dice.sample(_HOLLOW, len(_HOLLOW))
    padded = [[*paragraph, hollow[row % len(hollow)]] for row, paragraph in enumerate(told)]
    return _refilled(case.reference, [*padded, last])


def _words_swapped(case: Case, _: Sequence[Case], dice: Random) -> Synopsis:
    """Swap two neighbouring words in every second sentence."""
    told = _sentences(case.reference)
    return _refilled(
        case.reference,
        [
            [
                _two_swapped(sentence, dice) if column % 2 == 0 else sentence
                for column, sentence in enumerate(paragraph)
            ]
            for paragraph in told
        ],
    )


_PLAIN_WORD = re.compile(r"[^\W\d_]+")


def _two_swapped(sentence: str, dice: Random) -> str:
    words = sentence.split(" ")
    places = [
        place
        for place in range(1, len(words) - 1)
        if _PLAIN_WORD.fullmatch(words[place]) and _PLAIN_WORD.fullmatch(words[place + 1])
    ]
    if places:
        place = dice.choice(places)
        words[place : place + 2] = words[place + 1], words[place]
    return " ".join(words)


def _another_story(case: Case, others: Sequence[Case], dice: Random) -> Synopsis | None:
    """Hand in the reference of another case of the same form."""
    alike = [other.reference for other in others if other.brief.form == case.brief.form]
    return dice.choice(alike) if alike else None


def _told_twice(case: Case, _: Sequence[Case], dice: Random) -> Synopsis:
    """Tell one paragraph again right behind itself."""
    paragraphs = case.reference.paragraphs
    place = dice.randrange(len(paragraphs))
    return _told(case.reference, [*paragraphs[: place + 1], *paragraphs[place:]])


KINDS = (
    Kind("sentences shuffled", "no", _shuffled),
    Kind("words swapped", "no", _words_swapped),
    Kind("hollow sentences", "no", _hollow_sentences),
    Kind("foreign paragraph", "partly", _foreign_paragraph),
    Kind("names swapped", "partly", _names_swapped),
    Kind("facts left out", "partly", _facts_left_out),
    Kind("ending cut off", "partly", _ending_cut_off),
    Kind("paragraph told twice", "yes", _told_twice),
    Kind("another story", "yes", _another_story),
)
