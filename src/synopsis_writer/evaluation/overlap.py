"""Overlap of a text with its reference: of character runs, and of words in order."""

from collections.abc import Sequence
from functools import cache
from typing import Any


def chrf(text: str, reference: str) -> float:
    """Return chrF, the F2 score of shared runs of one to six characters, 0 to 100; 100 is equality.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015, by sacrebleu 2.6
    (`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`).
    """
    return float(_chrf().sentence_score(text, [reference]).score)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def rouge_l(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return ROUGE-L, the F1 score of the longest common subsequence of words, 0 to 1; 1 is equality.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.1, with beta 1.
    """
    from rapidfuzz.distance import LCSseq

    if not words or not reference:
        return 0.0
    return 2 * LCSseq.similarity(words, reference) / (len(words) + len(reference))
