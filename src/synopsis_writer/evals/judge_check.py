"""A judge measured on texts damaged by code."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from random import Random
from typing import Literal, NamedTuple

from synopsis_writer.evals.judge import Judge
from synopsis_writer.evals.suite import Case
from synopsis_writer.gate.lexicon import TITLES
from synopsis_writer.gate.text import analyse
from synopsis_writer.kinds import Form
from synopsis_writer.synopsis import Paragraph, Synopsis

_Z = 1.959964  # the normal distribution's 97.5th percentile: an interval of 95 %


class Share(NamedTuple):
    """A share with its 95 % interval, all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """How a judge did on one kind of damage.

    Attributes:
        kind: the damage's name, or what the tallies it sums up have in common.
        gate: whether the style gate sees it, too: no, partly or yes; empty for a sum.
        wins: pairs in which it preferred the good text in both orders.
        ties: pairs in which the orders disagreed, or it said equal.
        losses: pairs in which it preferred the spoilt text in both orders.
        unscored: pairs of which an answer could not be read.
    """

    kind: str
    gate: str
    wins: int = 0
    ties: int = 0
    losses: int = 0
    unscored: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sum, under this one's name."""
        return Tally(
            self.kind,
            self.gate,
            self.wins + other.wins,
            self.ties + other.ties,
            self.losses + other.losses,
            self.unscored + other.unscored,
        )

    @property
    def scored(self) -> int:
        """Pairs that count."""
        return self.wins + self.ties + self.losses

    @property
    def agreement(self) -> Share | None:
        """The share of wins in the scored pairs, a tie being none; None when there are no such pairs."""
        return wilson(self.wins, self.scored) if self.scored else None


def wilson(successes: int, trials: int) -> Share:
    """Return a share with Wilson's 95 % score interval; `trials` is 1 or more.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927), 209-212; without correction for continuity.
    """
    share = successes / trials
    spread = _Z * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    middle, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return Share(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


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


async def check(
    judge: Judge,
    cases: Sequence[Case],
    kinds: Sequence[Kind],
    seed: int,
    *,
    concurrency: int = 4,
    done: Callable[[int, int], None] = lambda _, __: None,
    found: list[Tally] | None = None,
) -> list[Tally]:
    """Have a judge compare each case's reference with itself spoilt: two calls a pair.

    Args:
        judge: who compares.
        cases: whose references are spoilt; also where foreign paragraphs come from.
        kinds: the damages, one pair each for every case that can be damaged so.
        seed: of the damages' dice.
        concurrency: pairs under way at once.
        done: is told how many pairs of how many are done.
        found: gets a tally a pair as they come, so that they are there after a fault, too.

    Returns:
        One tally a kind, in their order.

    Raises:
        ModelError: the model failed for good; what is under way is called off.
    """
    pairs = [
        (kind, case, spoilt)
        for kind in kinds
        for case in cases
        if (spoilt := damaged(kind, case, cases, seed)) is not None
    ]
    free = asyncio.Semaphore(concurrency)
    compared: list[Tally] = [] if found is None else found

    async def compare(kind: Kind, case: Case, spoilt: Synopsis) -> None:
        async with free:
            preference = await judge.prefer(case, spoilt)
        compared.append(_one(kind, preference))
        done(len(compared), len(pairs))

    tasks = [asyncio.create_task(compare(*pair)) for pair in pairs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return by_kind(kinds, compared)


def by_kind(kinds: Sequence[Kind], found: Sequence[Tally]) -> list[Tally]:
    """Return one tally a kind, in their order, from those of the pairs."""
    return [
        sum_of(kind.name, kind.gate, [tally for tally in found if tally.kind == kind.name]) for kind in kinds
    ]


def _one(kind: Kind, preference: float | None) -> Tally:
    return Tally(
        kind.name,
        kind.gate,
        wins=preference == 0.0,
        ties=preference == 0.5,  # noqa: PLR2004 - a tie, as `Judge.prefer` says
        losses=preference == 1.0,
        unscored=preference is None,
    )


def sum_of(name: str, gate: str, tallies: Sequence[Tally]) -> Tally:
    """Return the sum of tallies under one name."""
    return sum(tallies, Tally(name, gate))


_WIDTHS = "{:<22} {:<7} {:>5} {:>5} {:>7} {:>9}   {}"


def table(tallies: Sequence[Tally]) -> str:
    """Return the tallies as lines to print, the sum last."""
    head = _WIDTHS.format("damage", "gate", "wins", "ties", "losses", "unscored", "prefers the good text")
    lines = [
        _WIDTHS.format(
            tally.kind,
            tally.gate,
            tally.wins,
            tally.ties,
            tally.losses,
            tally.unscored,
            _said(tally.agreement),
        )
        for tally in [*tallies, sum_of("all", "", tallies)]
    ]
    return "\n".join([head, *lines])


def _said(agreement: Share | None) -> str:
    if agreement is None:
        return "unscored"
    return f"{agreement.value:.0%} ({agreement.low:.0%} to {agreement.high:.0%})"


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
