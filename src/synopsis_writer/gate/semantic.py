"""Two optional checks by meaning: no example's story in other words, and the brief's theme is what is told.

How the limits were measured is in docs/checks.md.
"""

import numpy as np
import numpy.typing as npt

from synopsis_writer.gate.embeddings import embedded_sentences, lines_of
from synopsis_writer.gate.finding import Finding, Subject, failed, passed
from synopsis_writer.gate.theme import CLOSENESS, FEWEST_SOURCES, closeness_of

LIKENESS = 0.28  # mean cosine of sentences to their nearest in the source, -1 to 1
LEAD = 0.06  # by which the nearest source is nearer than the next
ORDERED_LEAD = 0.10  # the same for the brief's beats
_NEAREST = 3  # sentences


def paraphrase(subject: Subject) -> Finding | None:
    """The text is not one example's story in other words, unless the brief's beats ask for that story."""
    embeddings, lines = subject.embeddings, lines_of(subject.text)
    if embeddings is None or not lines or len(embeddings.ids) < FEWEST_SOURCES:
        return None
    vectors = embeddings.embed(lines)
    is_itself = np.array([source == subject.exclude_source for source in embeddings.ids])
    nearest, likeness, lead = _foremost(np.where(is_itself, -1.0, embeddings.similarities(vectors)))
    source = embeddings.ids[nearest]
    limit = f"likeness under {LIKENESS:g}, or under {LEAD:g} over the next example"
    figures = f"likeness {likeness:.2f}, {lead:.2f} over the next example"
    if likeness < LIKENESS or lead < LEAD:
        return passed("paraphrase", likeness, limit, f"No example tells this story ({figures}).")
    beats = subject.brief.beats if subject.brief else ()
    if beats:  # do they tell the nearest source's story? Then it was asked for
        ordered, _, its_lead = _foremost(embeddings.coverage(embeddings.embed(beats)))
        if ordered == nearest and its_lead >= ORDERED_LEAD:
            return passed("paraphrase", likeness, limit, f"The story is that of {source}, as the beats ask.")
    message = f"The story is that of {source} in other words ({figures}): tell another one."
    best = embeddings.cosines(vectors, nearest).max(axis=1)
    sentences = embedded_sentences(subject.text)
    spans = [sentences[number].span for number in np.argsort(-best)[:_NEAREST].tolist()]
    return failed("paraphrase", likeness, limit, message, spans)


def closeness(subject: Subject) -> Finding | None:
    """The brief's theme is what the text tells, in whatever words; short themes are left to `theme`."""
    value = closeness_of(subject)
    if value is None:
        return None
    limit = f"at least {CLOSENESS:g}"
    if value >= CLOSENESS:
        return passed("closeness", value, limit, f"The text tells the theme (closeness {value:.2f}).")
    message = f"The text tells something else than the theme (closeness {value:.2f}): put the theme into it."
    return failed("closeness", value, limit, message)


def _foremost(values: npt.NDArray[np.float64]) -> tuple[int, float, float]:
    """Return the index of the highest value, the value, and its lead over the second."""
    second, first = np.argsort(values, kind="stable")[-2:].tolist()
    return first, float(values[first]), float(values[first] - values[second])
