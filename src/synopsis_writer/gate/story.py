"""Checks of the story: no air dates of its own, nothing copied or repeated."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby

from synopsis_writer.gate.finding import FEWEST_CASES, Finding, Subject, judged, say, shortened
from synopsis_writer.gate.lexicon import own_words, pattern
from synopsis_writer.gate.sources import RUN, name_forms
from synopsis_writer.gate.text import Sentence, Span, Text, Word

_AROUND = 60  # characters


def dates(subject: Subject) -> Finding | None:
    """No air date, channel or episode number that the brief does not give; dates of the story are free."""
    if subject.brief is None or not (subject.brief.theme or subject.brief.air_date):
        return None
    given = " ".join(map(str, subject.brief.as_data().values()))
    found = {Span(*match.span()): match[0] for match in _broadcasts(subject.text) if match[0] not in given}
    years = {span: pattern("year").fullmatch(words) for span, words in found.items()}
    spans = sorted(span for span, year in years.items() if not (year and year[1] in given))  # of `Sommer 1975`
    problem = say("dates", words=[found[span] for span in spans]) if spans else None
    return judged("dates", len(spans), say("limit dates"), problem, spans)


def _broadcasts(text: Text) -> Iterator[re.Match[str]]:
    """Yield episode numbers, and the dates and channels of sentences that speak of a broadcast."""
    within = pattern("within the story")  # a season of swimmers, an episode of a podcast
    for match in pattern("episode").finditer(text.raw):
        around = text.raw[max(0, match.start() - _AROUND) : match.end() + _AROUND]
        if not within.search(around):
            yield match
    for sentence in text.sentences if pattern("date or channel").search(text.raw) else ():
        channel = pattern("channel").search(sentence.text)
        airs = pattern("broadcast").search(sentence.text) or pattern("episode").search(sentence.text)
        if channel and not airs:
            airs = pattern("broadcast with a channel").search(sentence.text)
        if channel and not airs and (time := pattern("time of day").search(sentence.text)):
            has_verb = any(tag.endswith("(FIN)") for tag in text.tags[sentence.first : sentence.last])
            airs = pattern("airs").search(sentence.text) if has_verb else time
        if airs and not within.search(sentence.text):
            yield from pattern("date or channel").finditer(text.raw, *sentence.span)


COPIED_RUN = 10  # words: the shortest shared run that counts as copied
COPIED_SHARE = 0.01  # share of the text's runs of six words that may be in sources


def copy(subject: Subject) -> Finding | None:
    """No run of ten words, and at most 1 % of the runs of six, are in an example or the prompt."""
    if subject.sources is None:
        return None
    shared = subject.sources.matches(subject.text, name_forms(subject.known_names))
    matches = [match for match in shared if match.source != subject.exclude_source]
    matches.sort(key=lambda match: -match.words)
    limit = say("limit copy", words=COPIED_RUN, share=COPIED_SHARE)
    if not matches:
        return judged("copy", 0, limit, held=say("nothing shared"))
    longest = matches[0]
    covered = sum(match.words - RUN + 1 for match in matches)
    share = min(1.0, covered / max(1, len(subject.text.words) - RUN + 1))
    is_copied = longest.words >= COPIED_RUN or (share > COPIED_SHARE and covered >= FEWEST_CASES)
    start, end = longest.source_span
    origin = {"n": longest.words, "source": longest.source, "start": start, "end": end, "share": share}
    problem = say("copy", **origin) if is_copied else None
    return judged("copy", longest.words, limit, problem, [match.span for match in matches])


NEAR_EQUAL = 85.0  # rapidfuzz ratio, 0 to 100, from which on two sentences say the same
REPEATED_SHARE = 0.03  # share of the runs of four words that occur more than once
_SHORTEST_COMPARED = 5  # words; shorter sentences may recur
_RUN = 4
_WINDOW = 50
_SAME_OPENINGS = 3
_MOST_COMPARED = 150  # sentences; a longer text is refused for its length anyway


def repetition(subject: Subject) -> Finding:
    """No sentence twice, few runs of four words twice, varied words and sentence openings."""
    text, least = subject.text, subject.form.variety[0]
    limit = say("limit repetition", share=REPEATED_SHARE, least=least)
    if twins := _near_equal(text):
        first, second, ratio = twins[0]
        problem = say("twin sentences", words=[shortened(first.text), shortened(second.text)])
        spans = [sentence.span for a, b, _ in twins for sentence in (a, b)]
        return judged("repetition", ratio / 100, limit, problem, spans)
    share, spans = _repeated_runs(text)
    if share > REPEATED_SHARE and len(spans) >= FEWEST_CASES:
        problem = say("repeated runs", share=share, words=[text.raw[slice(*span)] for span in spans])
        return judged("repetition", share, limit, problem, spans)
    variety = moving_variety(text.words)
    if same := same_openings(text):
        problem = say("same openings", word=" ".join(_opening(text.words_of(same[0]))).capitalize())
        return judged("repetition", variety, limit, problem, [sentence.span for sentence in same])
    if variety < least:
        often = [word for word, count in text.counts.most_common() if count > 1]
        often = [word for word in often if len(word) > _RUN] or often
        problem = say("poor vocabulary", variety=variety, words=often[:3])
        return judged("repetition", variety, limit, problem, level="warning")
    return judged("repetition", variety, limit)


def _near_equal(text: Text) -> list[tuple[Sentence, Sentence, float]]:
    from rapidfuzz import fuzz

    compared = [s for s in text.sentences[:_MOST_COMPARED] if s.length >= _SHORTEST_COMPARED]
    plain = [" ".join(word.lower for word in text.words_of(sentence))[:400] for sentence in compared]
    return [
        (compared[i], compared[j], ratio)
        for i, j in combinations(range(len(compared)), 2)
        if (ratio := fuzz.ratio(plain[i], plain[j], score_cutoff=NEAR_EQUAL))
    ]


def _repeated_runs(text: Text) -> tuple[float, list[Span]]:
    """Return the share of runs of four words that occur more than once, and the later ones' spans."""
    words = [word.lower for word in text.words]
    seen: set[tuple[str, ...]] = set()
    spans: list[Span] = []
    for start, run in enumerate(zip(*(words[index:] for index in range(_RUN)), strict=False)):
        if run in seen:
            spans.append(Span(text.words[start].span.start, text.words[start + _RUN - 1].span.end))
        seen.add(run)
    return len(spans) / max(1, len(words) - _RUN + 1), spans


def moving_variety(words: Sequence[Word]) -> float:
    """Return the mean share of distinct words in moving windows, 0 to 1; 1 for a text without words.

    Source: Covington and McFall, "Cutting the Gordian Knot: The Moving-Average Type–Token Ratio", 2010.
    """
    if not words:
        return 1.0
    width = min(_WINDOW, len(words))
    distinct, following = 0, dict[str, int]()  # of all windows together; where each word is next
    for index in reversed(range(len(words))):  # it counts in the windows that do not reach the next
        word = words[index].lower
        last = min(index, following.get(word, len(words)) - width)
        distinct += max(0, last - max(0, index - width + 1) + 1)
        following[word] = index
    return distinct / (len(words) - width + 1) / width


def same_openings(text: Text) -> list[Sentence]:
    """Return the first three sentences in a row that begin with the same word of weight, or none."""
    sentences = [sentence for sentence in text.sentences if sentence.length]
    for _, group in groupby(sentences, key=lambda sentence: _opening(text.words_of(sentence))):
        if len(same := list(group)) >= _SAME_OPENINGS:
            return same[:_SAME_OPENINGS]
    return []


def _opening(words: Sequence[Word]) -> tuple[str, ...]:
    is_light = words[0].lower in own_words("light openings")
    return tuple(word.lower for word in words[: 1 + is_light])
