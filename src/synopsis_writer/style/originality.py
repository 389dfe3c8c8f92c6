"""Checks of originality: nothing copied from a source, nothing said twice."""

from collections import Counter
from itertools import combinations

from synopsis_writer.style.copies import RUN, name_words
from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted, shortened
from synopsis_writer.style.names import known_names
from synopsis_writer.style.text import Sentence, Span, Text, Word

COPIED_RUN = 10  # words: the shortest shared run that counts as copied
COPIED_SHARE = 0.01  # share of the text's runs of six words that may stand in sources


def copy(subject: Subject) -> Finding | None:
    """No run of ten words, and at most 1 % of the runs of six, stand in an example or the prompt."""
    if subject.sources is None:
        return None
    found = subject.sources.matches(subject.text, name_words(known_names(subject)))
    matches = [match for match in found if match.source != subject.own_source]
    longest = max(matches, key=lambda match: match.words, default=None)
    limit = f"runs under {COPIED_RUN} words, at most {COPIED_SHARE:.0%} shared"
    if longest is None:
        return passed("copy", 0, limit, "Nothing is shared with an example.")
    covered = sum(match.words - RUN + 1 for match in matches)
    share = min(1.0, covered / max(1, len(subject.text.words) - RUN + 1))
    if longest.words < COPIED_RUN and share <= COPIED_SHARE:
        return passed(
            "copy", longest.words, limit, f"At most {longest.words} words in a row stand in an example."
        )
    place = f"{longest.source}, characters {longest.source_span.start} to {longest.source_span.end}"
    message = f"{longest.words} words in a row are copied from {place}; {share:.0%} of the text is shared."
    spans = [match.span for match in sorted(matches, key=lambda match: -match.words)]
    return failed("copy", longest.words, limit, message, spans)


NEAR_EQUAL = 85.0  # rapidfuzz ratio, 0 to 100, from which on two sentences say the same
REPEATED_SHARE = 0.03  # share of the runs of four words that stand more than once
_SHORTEST_COMPARED = 5  # words; shorter sentences may recur
_RUN = 4
_WINDOW = 50
_SAME_OPENINGS = 3
_MOST_COMPARED = 150  # sentences; a longer text is refused for its length anyway


def repetition(subject: Subject) -> Finding:
    """No sentence twice, few runs of four words twice, a varied vocabulary, varied sentence openings."""
    text = subject.text
    least = subject.bands.variety[0]
    limit = f"no near-equal sentences, repeated runs ≤ {REPEATED_SHARE:.0%}, variety ≥ {least:g}"
    twins = near_equal(text)
    if twins:
        first, second, ratio = twins[0]
        message = f"Two sentences say the same: {quoted([shortened(first.text), shortened(second.text)])}."
        return failed(
            "repetition",
            ratio / 100,
            limit,
            message,
            [span for a, b, _ in twins for span in (a.span, b.span)],
        )
    share, spans = repeated_runs(text)
    if share > REPEATED_SHARE:
        message = (
            f"{share:.0%} of the runs of four words stand more than once: {quoted(_forms(text, spans))}."
        )
        return failed("repetition", share, limit, message, spans)
    variety = moving_variety(text.words)
    if variety < least:
        common = [word for word, _ in text.counts.most_common() if len(word) > _RUN][:3]
        message = f"The vocabulary is poor ({variety:.2f} of 1); it keeps using {quoted(common)}."
        return failed("repetition", variety, limit, message)
    same = same_openings(text)
    if same:
        opening = text.words[same[0].first].form
        message = f"Three sentences in a row begin with „{opening}“: begin one of them otherwise."
        return failed("repetition", variety, limit, message, [sentence.span for sentence in same])
    return passed("repetition", variety, limit, "Nothing is said twice.")


def near_equal(text: Text) -> list[tuple[Sentence, Sentence, float]]:
    """Return the pairs of sentences that are equal but for small changes, with their ratio."""
    from rapidfuzz import fuzz

    compared = [s for s in text.sentences[:_MOST_COMPARED] if s.length >= _SHORTEST_COMPARED]
    plain = [" ".join(word.lower for word in text.words_of(sentence))[:400] for sentence in compared]
    return [
        (compared[i], compared[j], ratio)
        for i, j in combinations(range(len(compared)), 2)
        if (ratio := fuzz.ratio(plain[i], plain[j], score_cutoff=NEAR_EQUAL))
    ]


def repeated_runs(text: Text) -> tuple[float, list[Span]]:
    """Return the share of runs of four words that stand more than once, and the later ones' spans."""
    words = text.words
    seen: Counter[tuple[str, ...]] = Counter()
    spans: list[Span] = []
    total = max(1, len(words) - _RUN + 1)
    for start in range(len(words) - _RUN + 1):
        run = words[start : start + _RUN]
        key = tuple(word.lower for word in run)
        seen[key] += 1
        if seen[key] > 1:
            spans.append(Span(run[0].span.start, run[-1].span.end))
    return len(spans) / total, spans


def moving_variety(words: tuple[Word, ...], window: int = _WINDOW) -> float:
    """Return the mean share of distinct words in moving windows, 0 to 1; 1 for a text without words.

    Source: Covington and McFall, "Cutting the Gordian Knot: The Moving-Average Type–Token Ratio", 2010.
    """
    if not words:
        return 1.0
    width = min(window, len(words))
    counts = Counter(word.lower for word in words[:width])
    shares = [len(counts) / width]
    for old, new in zip(words, words[width:], strict=False):
        counts[new.lower] += 1
        counts[old.lower] -= 1
        if not counts[old.lower]:
            del counts[old.lower]
        shares.append(len(counts) / width)
    return sum(shares) / len(shares)


def same_openings(text: Text) -> list[Sentence]:
    """Return the first three sentences in a row that begin with the same word, or none."""
    sentences = [sentence for sentence in text.sentences if sentence.length]
    for i in range(len(sentences) - _SAME_OPENINGS + 1):
        three = sentences[i : i + _SAME_OPENINGS]
        if len({text.words[sentence.first].lower for sentence in three}) == 1:
            return three
    return []


def _forms(text: Text, spans: list[Span]) -> list[str]:
    return [text.raw[span.start : span.end] for span in spans]
