"""Which examples a prompt shows, and why."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.prompts.templates import brief_block, estimate_tokens
from synopsis_writer.storage.arrays import FEWEST_KEPT, tidy, write_whole

if TYPE_CHECKING:
    from bm25s import BM25

# Five: the one that the theme chooses, and a cache must read anew, is then a sixth of the prompt.
MOST_EXAMPLES = 5

TOKEN_BUDGET = 6000

CLOSENESS = 0.7  # against variety; docs/examples.md says how it was chosen

_CONSIDERED = 30  # of a tier; the 31st closest is not close

_LONGER = 1.08  # than the others' mean, at most: the last example and the brief then take less than a fifth

_NAMED_WORDS = 3

_NO_TIER = np.int8(9)

_TIERS = ("same show and form", "same form", "same show", "another show and form")

_Rows = npt.NDArray[np.intp]

_Keys = npt.NDArray[Any]


@dataclass(frozen=True)
class Chosen:
    """An example in a prompt.

    Attributes:
        example: the example.
        tokens: about how many tokens it takes.
        why: why it was chosen, in a few English words.
    """

    example: Example
    tokens: int
    why: str


Whole = npt.NDArray[np.int32]

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ExampleIndex:
    """All examples, by row; the arrays may lie in files.

    Attributes:
        examples: the example of each row.
        bm25: the index over theme and logline.
        shows: the number of each row's show; shape (rows,).
        forms: the number of each row's form; shape (rows,).
        costs: tokens each takes in a prompt, estimated; shape (rows,).
        order: each row's place in an order that depends on the ids alone, yet mixes shows; shape (rows,).
        show_numbers: the number of each show.
        form_numbers: the number of each form.
    """

    examples: Sequence[Example]
    bm25: "BM25"
    shows: Whole
    forms: Whole
    costs: Whole
    order: Whole
    show_numbers: Mapping[str, int]
    form_numbers: Mapping[str, int]

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each id."""
        return {example.id: row for row, example in enumerate(self.examples)}

    @cached_property
    def usual_cost(self) -> int:
        """The median of the costs, at least 1."""
        return max(1, int(np.median(self.costs))) if len(self.costs) else 1

    def scores(self, theme: str) -> Scores:
        """Return each row's BM25 score for a theme, 0 and up; shape (rows,)."""
        known = self.bm25.get_tokens_ids(sorted(stems(theme)))
        found: Scores = self.bm25.get_scores_from_ids(known)
        return found

    def tiers(self, brief: Brief) -> npt.NDArray[np.int8]:
        """Return each row's nearness: 0 same show and form, 1 same form, 2 same show, 3 neither."""
        other_show = self.shows != self.show_numbers.get(brief.show, -1)
        other_form = self.forms != self.form_numbers.get(brief.form, -1)
        tiers: npt.NDArray[np.int8] = other_show.astype(np.int8) + other_form.astype(np.int8) * np.int8(2)
        return tiers

    def stems(self, row: int) -> frozenset[str]:
        """Return the stems of a row's theme and logline."""
        return stems(theme_text(self.examples[row]))

    def shared_words(self, theme: str, row: int) -> list[str]:
        """Return the theme's words whose stems the row holds, as they are written, each stem once."""
        words = {word[:STEM].lower(): word for word in reversed(_WORD.findall(theme))}
        held = self.stems(row) & stems(theme)
        return [word for stem, word in reversed(words.items()) if stem in held]


@dataclass
class _Tray:
    """What is chosen so far, and what can still be."""

    index: ExampleIndex
    tiers: npt.NDArray[np.int8]
    free: npt.NDArray[np.bool_]
    left: int
    chosen: list[int] = field(default_factory=list)
    seen: dict[int, frozenset[str]] = field(default_factory=dict)

    def stems(self, row: int) -> frozenset[str]:
        """Return the stems of a row, looked up once."""
        return self.seen.get(row) or self.seen.setdefault(row, self.index.stems(row))

    def nearest_tier(self) -> _Rows:
        """Return the rows of the best tier that has any, of those that are free and fit the tokens left."""
        tiers = np.where(self.free & (self.index.costs <= self.left), self.tiers, _NO_TIER)
        best = tiers.min(initial=_NO_TIER)
        return np.flatnonzero((tiers == best) & (tiers != _NO_TIER))

    def take(self, row: int, reason: str) -> Chosen:
        """Choose a row; the reason says what its tier does not."""
        tokens = int(self.index.costs[row])
        self.chosen.append(row)
        self.free[row] = False
        self.left -= tokens
        why = ", ".join(part for part in (_TIERS[self.tiers[row]], reason) if part)
        return Chosen(self.index.examples[row], tokens, why)


def select(
    index: ExampleIndex,
    brief: Brief,
    *,
    most: int = MOST_EXAMPLES,
    token_budget: int = TOKEN_BUDGET,
    without: Collection[str] = (),
    pinned: Sequence[str] = (),
) -> list[Chosen]:
    """Return the examples for `brief`, in the order of the prompt: what never changes first.

    For one show, form and budget all but the last are the same whatever the theme, so that a cache of the
    prompt's beginning holds: the pinned ones, then the nearest tiers' (same show and form before same form
    before same show), each as unlike the others as there is. The last is the one closest in theme within the
    best tier that is left, if it is not much longer than the others. The prompt ends with it: what stands
    next to the brief weighs most.

    Args:
        index: the pool.
        brief: what is asked for.
        most: the largest number of examples; the pinned ones count, and are never cut.
        token_budget: what all of them may take together, in estimated tokens; the pinned ones count.
        without: ids that must not be shown: an eval's reference, or another text of the same story.
        pinned: ids that are always shown, in this order; each must be in the pool.
    """
    free = np.ones(len(index.examples), dtype=np.bool_)
    free[[index.rows[name] for name in without if name in index.rows]] = False
    tray = _Tray(index, index.tiers(brief), free, token_budget)
    first = _pinned(tray, [index.rows[name] for name in pinned])
    places = min(most - len(first), tray.left // index.usual_cost)
    stable = _stable(tray, places - 1)
    last = _closest(tray, brief.theme) if len(first) < most else []
    return [*first, *reversed(stable), *last]


def _pinned(tray: _Tray, rows: Sequence[int]) -> list[Chosen]:
    taken: list[Chosen] = []
    for row in rows:
        if tray.free[row]:
            chosen = tray.take(row, "")
            why = "pinned" if tray.left >= 0 else "pinned, beyond the token budget"
            taken.append(replace(chosen, why=why))
    return taken


def _stable(tray: _Tray, places: int) -> list[Chosen]:
    """Take the best tiers' examples, each the least like those already chosen."""
    taken: list[Chosen] = []
    rows = tray.nearest_tier()
    while len(rows) and len(taken) < places:
        few = _first(rows, tray.index.order[rows])
        row = _best(tray, few, np.zeros(len(few), dtype=np.float32), 0.0)
        taken.append(tray.take(row, "for variety" if tray.chosen and len(rows) > 1 else ""))
        rows = tray.nearest_tier()
    return taken


def _closest(tray: _Tray, theme: str) -> list[Chosen]:
    """Take the example closest to the theme in the best tier that is left: one, or none that fits."""
    rows = _fair(tray, tray.nearest_tier())
    if not len(rows):
        return []
    scores = tray.index.scores(theme)
    few = _first(rows, -scores[rows])
    row = _best(tray, few, scores[few] / max(scores[few].max(), np.float32(1e-9)), CLOSENESS)
    words = tray.index.shared_words(theme, row)[:_NAMED_WORDS]
    return [tray.take(row, f"close in theme: {', '.join(words)}" if words else "for variety")]


def _fair(tray: _Tray, rows: _Rows) -> _Rows:
    """Return the rows not much longer than what is chosen already: a cache must read the last one anew."""
    if not tray.chosen:
        return rows
    mean = tray.index.costs[tray.chosen].mean()
    fair = rows[tray.index.costs[rows] <= _LONGER * mean]
    return fair if len(fair) else rows


def _first(rows: _Rows, key: _Keys) -> _Rows:
    """Return the rows with the smallest keys, as many as are considered."""
    if len(rows) <= _CONSIDERED:
        return rows
    return rows[np.argpartition(key, _CONSIDERED)[:_CONSIDERED]]


def _best(tray: _Tray, rows: _Rows, closeness: Scores, weight: float) -> int:
    """Return the row of the greatest marginal relevance; of equals the first in the index's order.

    Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking", 1998: weight times closeness
    (0 to 1) less the rest times the likeness to what is chosen already.
    """
    held = [tray.stems(row) for row in tray.chosen]
    worth = {
        int(row): weight * float(near) - (1 - weight) * _likeness(tray.stems(int(row)), held)
        for row, near in zip(rows, closeness, strict=True)
    }
    return max(worth, key=lambda row: (worth[row], -int(tray.index.order[row])))


def _likeness(stems: frozenset[str], others: Sequence[frozenset[str]]) -> float:
    """Return the greatest cosine of `stems` to any of `others`, 0 to 1."""
    return max(
        (len(stems & other) / math.sqrt(len(stems) * len(other)) for other in others if stems and other),
        default=0.0,
    )


# Letters kept of a word: "Chirurgin", "Chirurgen" and "chirurgisch" meet in "chirur". On 61 briefs with theme
# and text, judged by sentence embeddings of the whole texts, this finds as well as Snowball stems do.
STEM = 6

_WORD = re.compile(r"\w{4,}")

# Words that say nothing of a theme, and that bm25s does not leave out.
_COUNTING = frozenset("beide beiden zwei drei vier fünf sechs sieben acht neun zehn zwölf".split())

K1, B = 1.2, 0.75  # Okapi BM25's usual constants


def build_index(examples: Sequence[Example]) -> ExampleIndex:
    """Index `examples`, one at least."""
    # A text without a stem counts as one empty stem, which no query has.
    texts = [_stem_list(theme_text(example)) or [""] for example in examples]
    numbers = {stem: number for number, stem in enumerate(sorted({"", *(s for text in texts for s in text)}))}
    bm25 = _bm25s().BM25(k1=K1, b=B, method="lucene")
    bm25.index(([[numbers[stem] for stem in text] for text in texts], numbers), show_progress=False)
    shows = {name: number for number, name in enumerate(sorted({e.brief.show for e in examples}))}
    forms = {name: number for number, name in enumerate(sorted({e.brief.form.value for e in examples}))}
    by_id = sorted(range(len(examples)), key=lambda row: (crc32(examples[row].id.encode()), examples[row].id))
    order = np.empty(len(examples), dtype=np.int32)
    order[by_id] = np.arange(len(examples), dtype=np.int32)
    return ExampleIndex(
        examples,
        bm25,
        np.array([shows[example.brief.show] for example in examples], dtype=np.int32),
        np.array([forms[example.brief.form.value] for example in examples], dtype=np.int32),
        np.array([cost(example) for example in examples], dtype=np.int32),
        order,
        shows,
        forms,
    )


def open_bm25(place: Path) -> "BM25":
    """Open a saved BM25 index without loading it: its arrays stay in their files.

    Raises:
        OSError, ValueError, KeyError, TypeError, EOFError: it is not there, or damaged.
    """
    bm25: BM25 = _bm25s().BM25.load(place, mmap=True, show_progress=False)
    for name in ("data", "indices", "indptr"):
        bm25.scores[name] = np.asarray(bm25.scores[name])  # the same pages; slicing np.memmap is slow
    return bm25


def theme_text(example: Example) -> str:
    """Return what an example is found by."""
    return f"{example.brief.theme} {example.synopsis.logline}"


def cost(example: Example) -> int:
    """Return about how many tokens an example takes in a prompt."""
    return estimate_tokens(brief_block(example.brief) + example.synopsis.as_json())


@lru_cache(maxsize=10_000)
def stems(text: str) -> frozenset[str]:
    """Return the first letters of the words that carry content; short and function words are left out."""
    return frozenset(_stem_list(text))


def _stem_list(text: str) -> list[str]:
    left_out = _function_words()
    return [word[:STEM] for word in _WORD.findall(text.lower()) if word not in left_out]


@lru_cache(maxsize=1)
def _function_words() -> frozenset[str]:
    return _COUNTING.union(_bm25s().stopwords.STOPWORDS_GERMAN)


def _bm25s() -> Any:
    # It would import tqdm, and with that asyncio and half of the network: 50 ms for bars nobody sees.
    os.environ.setdefault("DISABLE_TQDM", "1")
    import bm25s

    return bm25s


_VERSION = 1

_NAMES = "names.json"

_ARRAYS = ("shows", "forms", "costs", "order")

# Not there, cut off, or with other content: what numpy, json and bm25s say of that.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError)


def index_key(examples: Sequence[Example]) -> str:
    """Return 24 hex digits that change when any example changes, or how an index is built."""
    digest = hashlib.sha256(f"{_VERSION} {STEM} {K1} {B}".encode())
    for example in examples:
        for part in (example.id, example.brief.model_dump_json(), example.synopsis.model_dump_json()):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def cached_examples(examples: Sequence[Example], folder: Path) -> ExampleIndex:
    """Return the index of `examples`: from `folder` when it is there, else built, and kept when it is large.

    A folder that cannot be written costs time, not the answer: the index is then used as it was built.
    """
    if len(examples) < FEWEST_KEPT:
        return build_index(examples)
    place = folder / index_key(examples)
    try:
        return open_index(place, examples)
    except _UNUSABLE:
        shutil.rmtree(place, ignore_errors=True)
    index = build_index(examples)
    with contextlib.suppress(OSError):
        save_index(index, place)
        tidy(place)
    return index


def save_index(index: ExampleIndex, place: Path) -> None:
    """Write the index's folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(place, lambda work: _write(index, work))


def _write(index: ExampleIndex, work: Path) -> None:
    index.bm25.save(work, show_progress=False)
    for name in _ARRAYS:
        np.save(work / f"{name}.npy", getattr(index, name))
    names = {"shows": index.show_numbers, "forms": index.form_numbers}
    (work / _NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")


def open_index(place: Path, examples: Sequence[Example]) -> ExampleIndex:
    """Open the saved index of `examples` without loading it: its arrays stay in their files.

    Raises:
        OSError: it is not there.
        ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError: it is damaged.
    """
    names = json.loads((place / _NAMES).read_text(encoding="utf-8"))
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    bm25 = open_bm25(place)
    kept = bm25.scores
    if (
        {len(array) for array in arrays.values()} | {kept["num_docs"]} != {len(examples)}
        or not kept["indptr"][-1] == len(kept["data"]) == len(kept["indices"])
        or len(kept["indptr"]) != len(bm25.vocab_dict) + 1
    ):
        raise ValueError(f"{place}: the index is damaged")
    return ExampleIndex(examples, bm25, **arrays, show_numbers=names["shows"], form_numbers=names["forms"])
