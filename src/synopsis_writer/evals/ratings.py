"""People's opinions of blind pairs of texts, and how far a judge agrees with them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from synopsis_writer.characters import clean_name, count_of
from synopsis_writer.errors import InputError
from synopsis_writer.evals.metrics import Interval, Scored, wilson_interval
from synopsis_writer.evals.record import Line, Row, append_line, read_lines
from synopsis_writer.evals.suite import Case
from synopsis_writer.synopsis import Synopsis

RATINGS_FILE = "ratings.jsonl"
PEOPLE = "people_preference"  # 1 where people prefer the second text, -1 the first one, 0 none

_NEEDED = 0.7  # agreement of a judge with people: the best judges without training reach 73 % (LitBench)
_CHANCE = 0.5

Choice = Literal[0, 1, 2]
Ratings = Mapping[tuple[str, frozenset[str]], str]
"""The digest of the text that is better, empty for a tie, by the rater's name and the digests of the pair."""


RatedText = tuple[Case, Synopsis, Synopsis]
"""A case, the text of it that people prefer, and another."""


class Rating(Line):
    """A line of `ratings.jsonl`: which of two texts a person preferred, 0 for neither."""

    rater: Annotated[str, Field(min_length=1)]
    first: str  # the digest of the row that was shown first
    second: str
    choice: Choice
    at: str  # in ISO 8601


def read_ratings(folder: Path) -> Ratings:
    """Return the ratings in a run's folder; of two of a pair by one person the last counts."""
    return {
        (line.rater, frozenset((line.first, line.second))): ("", line.first, line.second)[line.choice]
        for line in read_lines(folder / RATINGS_FILE, Rating, "rate the pair again")
    }


class Pair(NamedTuple):
    """Two texts of one case, in the order they are shown; nothing tells where they come from."""

    id: str
    case: Case
    first: Row
    second: Row
    digests: frozenset[str]


class Rater:
    """The pairs that one person rates: always in the same random order, each with its sides drawn."""

    def __init__(
        self, folder: Path, name: str, parts: Sequence[tuple[Sequence[Scored], Sequence[Scored]]], cases: Sequence[Case]
    ) -> None:
        self.name, self._folder = clean_name(name), folder
        if not self.name:
            raise InputError("the rater has no name: give one")
        known = {case.id: case for case in cases}
        self.pairs = sorted(
            self._pair(known[case], *rows)
            for first, second in ((_texts(first), _texts(second)) for first, second in parts)
            for case in filter(known.__contains__, first)
            for rows in zip(first[case], second.get(case, ()), strict=False)
            if rows[0].synopsis != rows[1].synopsis
        )
        self._rated = {pair for rater, pair in read_ratings(folder) if rater == self.name}

    def _pair(self, case: Case, *rows: Row) -> Pair:
        (low, first), (high, second) = sorted(((row.digest, row) for row in rows), key=itemgetter(0))
        seed = f"{self.name}\0{low}\0{high}"
        id_ = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        first, second = (first, second) if int(id_, 16) % 2 else (second, first)
        return Pair(id_, case, first, second, frozenset((low, high)))

    @property
    def done(self) -> int:
        """How many pairs are rated."""
        return sum(pair.digests in self._rated for pair in self.pairs)

    def next(self) -> Pair | None:
        """Return a pair that is not rated yet; None where all are."""
        return next((pair for pair in self.pairs if pair.digests not in self._rated), None)

    def rate(self, pair_id: str, choice: Choice) -> None:
        """Record on disk which text is better, 0 for neither; raises InputError for an unknown pair."""
        pair = next((pair for pair in self.pairs if pair.id == pair_id), None)
        if pair is None:
            raise InputError(f"no pair '{pair_id[:40]}': the run has changed; ask for the next one")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = Rating(rater=self.name, first=pair.first.digest, second=pair.second.digest, choice=choice, at=at)
        append_line(self._folder / RATINGS_FILE, str(line))
        self._rated.add(pair.digests)


def _texts(scored: Sequence[Scored]) -> Mapping[str, list[Row]]:
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted((each.row for each in scored), key=lambda row: row.repeat):
        if row.synopsis is not None:
            rows[row.case].append(row)
    return rows


def _votes(ratings: Ratings) -> Mapping[frozenset[str], str]:
    """Return which text of each pair most raters prefer, by its digest; empty: neither."""
    votes: defaultdict[frozenset[str], Counter[str]] = defaultdict(Counter)
    for (_, pair), better in ratings.items():
        votes[pair][better] += 1
    decided = {}
    for pair, counts in votes.items():
        one, other = ((counts[digest], digest) for digest in sorted(pair))
        decided[pair] = "" if one[0] == other[0] else max(one, other)[1]
    return decided


def preferences(ratings: Ratings, first: Sequence[Scored], second: Sequence[Scored]) -> list[float]:
    """Return people's preference between two groups of rows, -1 to 1, of each case that has rated pairs."""
    a, b = ({each.digest: each.row.case for each in rows} for rows in (first, second))
    values: defaultdict[str, list[float]] = defaultdict(list)
    for pair, better in _votes(ratings).items():
        if (case := next((a[digest] for digest in pair if digest in a), None)) and len(pair & b.keys()) == 1:
            values[case].append((better in b) - (better in a))
    return [fmean(values[case]) for case in sorted(values)]


@dataclass(frozen=True)
class Trust:
    """How far a judge agrees with people; `agreement` is None where no pair tells."""

    agreement: Interval | None
    what: str = "agrees with people"

    @property
    def is_untrusted(self) -> bool:
        """Whether it agrees in less than 70 % of the pairs, or, as far as they can tell, by chance."""
        found = self.agreement
        return found is not None and (found.mean < _NEEDED or found.low <= _CHANCE)

    def __str__(self) -> str:
        found = self.agreement
        if found is None:
            return "not checked against people"
        pairs = count_of(found.cases, "pair")
        shown = f"{self.what} in {found.mean:.0%} ({found.low:.0%} to {found.high:.0%}) of {pairs}"
        if found.mean < _NEEDED:
            return f"untrusted: {shown}, {_NEEDED:.0%} are needed"
        return f"untrusted: {shown}, which chance can explain" if self.is_untrusted else shown


def find_trust(ratings: Ratings, scored: Sequence[Scored]) -> Trust:
    """Compare a judge's preferences over the reference, else its mean scores, with people's ratings of pairs."""
    names = ("judge_preference", "judge_coherence", "judge_theme", "judge_style", "judge_language")
    figures: dict[str, tuple[float, float]] = {}
    for each in scored:
        values = [value for name in names if (value := each.scores.get(name)) is not None]
        if len(values) == len(names):
            figures[each.digest] = values[0], fmean(values[1:])
    agreed = [
        max(pair, key=figures.__getitem__) == better and len({figures[digest] for digest in pair}) > 1
        for pair, better in _votes(ratings).items()
        if better and pair <= figures.keys()
    ]
    return Trust(wilson_interval(sum(agreed), len(agreed)) if agreed else None)


def rated_texts(ratings: Ratings, rows: Collection[Row], cases: Sequence[Case]) -> list[RatedText]:
    """Return the pairs of which people prefer one text."""
    known, by_digest = {case.id: case for case in cases}, {row.digest: row for row in rows}
    pairs = []
    for pair, better in _votes(ratings).items():
        if better and pair <= by_digest.keys():
            good, bad = (by_digest[digest] for digest in sorted(pair, key=better.__ne__))
            if good.case in known and good.synopsis and bad.synopsis:
                pairs.append((known[good.case], good.synopsis, bad.synopsis))
    return pairs
