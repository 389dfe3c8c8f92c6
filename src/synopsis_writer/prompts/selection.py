"""Which examples a prompt shows, and why."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

from synopsis_writer import __version__
from synopsis_writer.brief import Brief
from synopsis_writer.document import read_text
from synopsis_writer.examples import Example
from synopsis_writer.gate import features
from synopsis_writer.gate.features import Features, features_of
from synopsis_writer.prompts.templates import brief_block, estimate_tokens
from synopsis_writer.storage.arrays import FEWEST_CACHED, Arrays, cached_arrays, cached_value, digest

# Six: the one that the theme chooses, and a cache must read again with the brief, is a seventh of the prompt.
MOST_EXAMPLES = 6
TOKEN_BUDGET = 7000
CLOSENESS = 0.7  # against variety; docs/examples.md says how it was chosen
K1, B = 1.2, 0.75  # Okapi BM25's usual constants

# How many letters of a word count: "Chirurgin", "Chirurgen" and "chirurgisch" meet in "chirur". On 61 briefs with
# theme and text, judged by sentence embeddings of the whole texts, this finds as well as Snowball stems do.
STEM = 6
_WORD = re.compile(r"\w{4,}")  # words of a theme, numbers such as years among them
_STOP_WORDS = frozenset(
    Path(__file__).with_name("stopwords.txt").read_text(encoding="utf-8").partition("\n")[2].split()
)
_CONSIDERED = 30  # of a tier; the 31st closest is not close
# Of a prompt whose beginning is cached, at most: the last example and the brief. The system message has about
# 600 tokens, the brief 60 and more.
_REREAD, _SYSTEM, _BRIEF = 0.15, 600, 70
_FEWEST = 3  # examples that the theme chooses from
_TIER = 0.15  # of the greatest closeness in theme: so much closer is an example of a farther tier
_NAMED_WORDS = 3
_NO_TIER = np.int8(9)
_TIERS = ("same show and form", "same form", "same show", "another show and form")
_VERSION = 2  # of the arrays on the disk
_MOST_CACHED = 300  # examples whose features are cached: a large pool asks for those of a few
Rows = npt.NDArray[np.intp]
Integers = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chosen:
    """An example in a prompt: about how many tokens it takes, and why it is there, in a few English words."""

    example: Example
    tokens: int
    why: str


@dataclass(frozen=True)
class ExampleIndex:
    """All examples, by row, with a BM25 index over theme and logline; the arrays may be mapped files."""

    examples: Sequence[Example]  # of each row
    numbers: Mapping[str, int]  # of each show and form
    shows: Integers  # the number of each row's show; shape (rows,), as forms, costs and order
    forms: Integers
    costs: Integers  # tokens in a prompt, estimated
    order: Integers  # each row's rank in an order that depends on the ids alone, yet mixes shows
    vocabulary: npt.NDArray[np.str_]  # all stems, sorted; shape (stems,)
    starts: npt.NDArray[np.int64]  # the number of each stem's first entry, and of all; shape (stems + 1,)
    entries: Integers  # the rows that hold a stem, stem by stem; shape (entries,)
    weights: Scores  # their BM25 scores; shape (entries,)
    cache: Path | None = None  # of the texts' features; named after all examples

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each id."""
        return {example.id: row for row, example in enumerate(self.examples)}

    @cached_property
    def _features(self) -> Sequence[Features]:
        """The features of each row's text, from the cache; in a large pool, or without a cache, none."""
        if not self.cache or len(self.examples) > _MOST_CACHED:
            return ()
        names = ("features.py", "text.py", "data/features.txt")
        code = (read_text(Path(features.__file__).parent / name) for name in names)
        path = self.cache.with_name(digest([self.cache.name, __version__, *code]))
        found = cached_value(path, lambda: [vars(features_of(example.synopsis)) for example in self.examples])
        return [Features(**each) for each in found]

    def features(self, row: int) -> Features:
        """Return the features of a row's text."""
        return self._features[row] if self._features else features_of(self.examples[row].synopsis)

    @cached_property
    def usual_cost(self) -> int:
        """The median of the costs, at least 1."""
        return max(1, int(np.median(self.costs))) if len(self.costs) else 1

    def scores(self, theme: str) -> Scores:
        """Return each row's BM25 score for a theme, 0 and up; shape (rows,)."""
        scores = np.zeros(len(self.examples), dtype=np.float32)
        wanted = np.array(sorted(stems(theme)), dtype="U")
        for stem, number in zip(wanted, np.searchsorted(self.vocabulary, wanted), strict=True):
            if number < len(self.vocabulary) and self.vocabulary[number] == stem:
                entries = slice(self.starts[number], self.starts[number + 1])
                scores[self.entries[entries]] += self.weights[entries]
        return scores

    def tiers(self, brief: Brief) -> npt.NDArray[np.int8]:
        """Return each row's nearness: 0 same show and form, 1 same form, 2 same show, 3 neither."""
        other_show = self.shows != self.numbers.get(brief.show, -1)
        other_form = self.forms != self.numbers.get(brief.form, -1)
        return np.asarray(other_show + np.int8(2) * other_form, dtype=np.int8)

    def likeness(self, row: int, other: int) -> float:
        """Return how alike two rows are, 0 to 1: by theme and logline, and by the features of their texts."""
        one, two = self.examples[row], self.examples[other]
        first, second = stems(_theme_text(one)), stems(_theme_text(two))
        cosine = len(first & second) / math.sqrt(max(1, len(first) * len(second)))
        return (cosine + self.features(row).likeness(self.features(other))) / 2

    def shared_words(self, theme: str, row: int) -> list[str]:
        """Return the theme's words whose stems the row holds, as they are written, each stem once."""
        words = {word[:STEM].lower(): word for word in reversed(_WORD.findall(theme))}
        shared = stems(_theme_text(self.examples[row])) & stems(theme)
        return [word for stem, word in reversed(words.items()) if stem in shared]


def select(
    index: ExampleIndex,
    brief: Brief,
    *,
    most: int = MOST_EXAMPLES,  # the pinned ones count, and are never cut
    token_budget: int = TOKEN_BUDGET,  # for all of them together, estimated; the pinned ones count
    exclude: Collection[str] = (),  # ids: an eval's reference, or another text of the same story
    pinned: Sequence[str] = (),  # ids that are always shown, in this order; each must be in the pool
) -> list[Chosen]:
    """Return the examples for `brief`, in the order of the prompt: what never changes first.

    All but the last are the same whatever the theme, so that a cache of the prompt's beginning holds: the
    pinned ones, then the nearest tiers', each as unlike the others as there is; one more than `most` if all
    that is left is long. The last is the one closest in theme, near tiers first, of those so short that
    a cache reads at most 15 % of the prompt again; what stands next to the brief weighs most.
    """
    selection = _Selection(index, brief, token_budget, exclude)
    first = selection.pinned([index.rows[name] for name in pinned])
    room = min(most - len(first), selection.left // index.usual_cost)
    stable = selection.varied(room - 1)
    needs_another = selection.left >= 2 * index.usual_cost and len(selection.short()) < _FEWEST
    if len(stable) == most - len(first) - 1 > 0 and needs_another:
        stable += selection.varied(1)
    last = selection.closest() if len(first) < most else []
    return [*first, *reversed(stable), *last]


class _Selection:
    """What is chosen so far, and what still can be."""

    def __init__(self, index: ExampleIndex, brief: Brief, left: int, exclude: Collection[str]) -> None:
        self.index, self.theme, self.left = index, brief.theme, left
        self.tiers = index.tiers(brief)
        self.free = np.ones(len(index.examples), dtype=np.bool_)
        self.free[[index.rows[name] for name in exclude if name in index.rows]] = False
        self.chosen: list[int] = []

    def pinned(self, rows: Sequence[int]) -> list[Chosen]:
        """Take these rows, as far as they are free."""
        why = {False: "pinned", True: "pinned, beyond the token budget"}
        return [self._take(row, why[bool(self.index.costs[row] > self.left)]) for row in rows if self.free[row]]

    def varied(self, room: int) -> list[Chosen]:
        """Take up to `room` of the best tiers' rows, each the least like those already chosen."""
        taken: list[Chosen] = []
        while len(taken) < room and len(rows := self._nearest_tier()):
            few = _smallest(rows, self.index.order[rows])
            row = self._best(few, np.zeros(len(few), dtype=np.float32), 0.0)
            variety = ["for variety"] if self.chosen and len(rows) > 1 else []
            taken.append(self._take(row, _TIERS[self.tiers[row]], *variety))
        return taken

    def closest(self) -> list[Chosen]:
        """Take the row closest to the theme in the best tier that is left: one, or none that fits."""
        rows = self.short()
        if not len(rows) and not len(rows := self._nearest_tier()):  # with few examples a cache saves little
            return []
        scores = self.index.scores(self.theme)
        few = _smallest(rows, self.tiers[rows] * np.float32(_TIER) - scores[rows])
        near = scores[few] / max(scores[few].max(), np.float32(1e-9)) - self.tiers[few] * np.float32(_TIER)
        row = self._best(few, near, CLOSENESS)
        words = self.index.shared_words(self.theme, row)[:_NAMED_WORDS]
        why = f"close in theme: {', '.join(words)}" if words else "for variety"
        return [self._take(row, _TIERS[self.tiers[row]], why)]

    def short(self) -> Rows:
        """Return the free rows that are short enough to be the last."""
        cached = _SYSTEM + int(self.index.costs[self.chosen].sum())
        most = (_REREAD * (cached + _BRIEF) - _BRIEF) / (1 - _REREAD)
        return np.flatnonzero(self.free & (self.index.costs <= min(self.left, most)))

    def _nearest_tier(self) -> Rows:
        tiers = np.where(self.free & (self.index.costs <= self.left), self.tiers, _NO_TIER)
        return np.flatnonzero((tiers == tiers.min(initial=_NO_TIER)) & (tiers != _NO_TIER))

    def _take(self, row: int, *why: str) -> Chosen:
        tokens = int(self.index.costs[row])
        self.chosen.append(row)
        self.free[row] = False
        self.left -= tokens
        return Chosen(self.index.examples[row], tokens, ", ".join(why))

    def _best(self, rows: Rows, closeness: Scores, weight: float) -> int:
        """Return the row of the greatest marginal relevance; of equals the first in the index's order.

        Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", 1998: weight times
        closeness (0 to 1) less the rest times the greatest likeness to a chosen row.
        """

        def worth(row: int, near: float) -> tuple[float, int]:
            likeness = max((self.index.likeness(row, other) for other in self.chosen), default=0.0)
            return weight * near - (1 - weight) * likeness, -int(self.index.order[row])

        pairs = zip(rows.tolist(), closeness.tolist(), strict=True)
        return int(max(pairs, key=lambda pair: worth(*pair))[0])


def _smallest(rows: Rows, keys: Integers | Scores) -> Rows:
    return rows if len(rows) <= _CONSIDERED else rows[np.argpartition(keys, _CONSIDERED)[:_CONSIDERED]]


def index_examples(examples: Sequence[Example], folder: Path | None = None) -> ExampleIndex:
    """Index `examples`, one at least; a large index is cached below `folder`, if there is one."""
    names = {example.brief.show for example in examples} | {example.brief.form for example in examples}
    numbers = {name: number for number, name in enumerate(sorted(names))}

    def build() -> Arrays:
        ids = [example.id for example in examples]
        by_id = sorted(range(len(ids)), key=lambda row: (crc32(ids[row].encode()), ids[row]))
        costs = [estimate_tokens(brief_block(e.brief) + e.synopsis.as_json()) for e in examples]
        return {
            "shows": np.array([numbers[example.brief.show] for example in examples], dtype=np.int32),
            "forms": np.array([numbers[example.brief.form] for example in examples], dtype=np.int32),
            "costs": np.array(costs, dtype=np.int32),
            "order": np.argsort(by_id).astype(np.int32),
            **_bm25([_stem_list(_theme_text(example)) for example in examples]),
        }

    data = (part for e in examples for part in (e.id, e.brief.model_dump_json(), e.synopsis.model_dump_json()))
    key = digest([f"{_VERSION} {STEM} {K1} {B}", *data])
    path = folder / key if folder and len(examples) >= FEWEST_CACHED else None
    cache = folder and folder.with_name("features") / key
    return ExampleIndex(examples, numbers, **cached_arrays(path, build), cache=cache)


def _bm25(texts: Sequence[Sequence[str]]) -> Arrays:
    """Return vocabulary, starts, entries and weights of texts, each a list of its stems.

    Source: Kamphuis et al., "Which BM25 Do You Mean?", 2020: the variant of Lucene.
    """
    vocabulary = sorted({stem for text in texts for stem in text})
    numbers = {stem: number for number, stem in enumerate(vocabulary)}
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    words = np.array([numbers[stem] for text in texts for stem in text], dtype=np.int64)
    cells = words * len(texts) + np.repeat(np.arange(len(texts)), lengths)
    cells, times = np.unique(cells, return_counts=True)
    owners, entries = np.divmod(cells, len(texts))
    frequencies = np.bincount(owners, minlength=len(vocabulary))
    lengths = np.maximum(lengths, 1)
    idf = np.log(1 + (len(texts) - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
    weights = idf[owners] * (times / (K1 * (1 - B + B * lengths[entries] / lengths.mean()) + times))
    return {
        "vocabulary": np.array(vocabulary, dtype=f"U{STEM}"),
        "starts": np.concatenate([[0], np.cumsum(frequencies)]).astype(np.int64),
        "entries": entries.astype(np.int32),
        "weights": weights.astype(np.float32),
    }


def _theme_text(example: Example) -> str:
    return f"{example.brief.theme} {example.synopsis.logline}"


def _stem_list(text: str) -> list[str]:
    return [word[:STEM] for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


@lru_cache(maxsize=10_000)
def stems(text: str) -> frozenset[str]:
    """Return the first letters of the words that carry content; short and stop words are left out."""
    return frozenset(_stem_list(text))
