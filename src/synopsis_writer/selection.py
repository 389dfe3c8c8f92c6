"""Which examples go into a prompt: same show and form first, then closeness of theme, within a budget."""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.prompts import brief_block, estimate_tokens

MOST_EXAMPLES = 3
TOKEN_BUDGET = 6000
_STEM = 6  # letters kept of a word: "Chirurgin", "Chirurgen" and "chirurgisch" meet in "chirur"
_K1, _B = 1.2, 0.75  # Okapi BM25's usual constants


def select(
    examples: Sequence[Example],
    brief: Brief,
    *,
    most: int = MOST_EXAMPLES,
    token_budget: int = TOKEN_BUDGET,
    without: Collection[str] = (),
) -> list[Example]:
    """Return the examples for `brief`, the best last: what stands next to the brief weighs most.

    Args:
        examples: the pool.
        brief: what is asked for.
        most: the largest number of examples.
        token_budget: what all of them may take together, in estimated tokens.
        without: ids that must not be shown.
    """
    candidates = [example for example in examples if example.id not in without]
    closeness = theme_closeness(brief.theme, [_theme_text(example) for example in candidates])
    order = sorted(
        range(len(candidates)),
        key=lambda i: (_tier(candidates[i], brief), -closeness[i], candidates[i].id),
    )
    chosen: list[Example] = []
    for index in order:
        if len(chosen) == most:
            break
        cost = _tokens(candidates[index])
        if cost <= token_budget:
            chosen.append(candidates[index])
            token_budget -= cost
    return chosen[::-1]


def _tier(example: Example, brief: Brief) -> int:
    same_show, same_form = example.brief.show == brief.show, example.brief.form == brief.form
    return (0 if same_show else 1) if same_form else (2 if same_show else 3)


def _theme_text(example: Example) -> str:
    return f"{example.brief.theme} {example.synopsis.logline}"


def _tokens(example: Example) -> int:
    return estimate_tokens(brief_block(example.brief) + example.synopsis.as_json())


def _stems(text: str) -> Counter[str]:
    return Counter(word[:_STEM] for word in re.findall(r"\w{4,}", text.lower()))


def theme_closeness(theme: str, texts: Sequence[str]) -> list[float]:
    """Return each text's BM25 score (0 and up) for the theme's word stems.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, eq. 3.15.
    """
    documents = [_stems(text) for text in texts]
    lengths = [sum(document.values()) for document in documents]
    mean = sum(lengths) / len(lengths) if lengths else 1.0
    holders = {stem: sum(stem in document for document in documents) for stem in _stems(theme)}
    weights = {stem: math.log(1 + (len(texts) - held + 0.5) / (held + 0.5)) for stem, held in holders.items()}
    return [
        sum(
            weight * document[stem] * (_K1 + 1) / (document[stem] + _K1 * (1 - _B + _B * length / mean))
            for stem, weight in weights.items()
        )
        for document, length in zip(documents, lengths, strict=True)
    ]
