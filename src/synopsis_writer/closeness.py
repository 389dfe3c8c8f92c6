"""Closeness of theme: a BM25 index over the examples, beside what else selecting needs of each."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.prompts import brief_block, estimate_tokens

if TYPE_CHECKING:
    from bm25s import BM25

Whole = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

# Letters kept of a word: "Chirurgin", "Chirurgen" and "chirurgisch" meet in "chirur". On 61 briefs with theme
# and text, judged by sentence embeddings of the whole texts, this finds as well as Snowball stems do.
STEM = 6
_WORD = re.compile(r"\w{4,}")
# Words that say nothing of a theme, and that bm25s does not leave out.
_COUNTING = frozenset("beide beiden zwei drei vier fünf sechs sieben acht neun zehn zwölf".split())
K1, B = 1.2, 0.75  # Okapi BM25's usual constants


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
