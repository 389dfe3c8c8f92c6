"""Checks of the story: it tells the brief's theme, has no air dates, and nothing is copied or repeated."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import combinations, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synopsis_writer.gate import lexicon
from synopsis_writer.gate.finding import FEWEST_CASES, Finding, Level, Subject, judged, say, shortened
from synopsis_writer.gate.lexicon import own_words, pattern
from synopsis_writer.gate.sources import RUN, embedded_sentences, lines_of, name_forms
from synopsis_writer.gate.text import Sentence, Span, Text, Word, lower_words, word_parts

TOLD_SHARE = 0.33  # of the theme's weight, in a text of 330 words
REFUSED_SHARE = 0.1  # of what must be told, from which on down no other words are a reason
ORDERED_SHARE = 0.3  # the same for a text that was written for its theme
THESAURUS_MARGIN = 0.02  # by which strange texts gain from a thesaurus
_FULL_LENGTH = 330  # words; in a shorter text fewer of the theme's words can turn up
_BY_LENGTH = 0.6  # exponent: strange texts of 60, 120 and 220 words score as this says
_SHORTEST_REFUSED = 200  # words; of shorter ones one in ten tells its theme in none of its words
_CERTAIN = 0.9  # probability of another language; none of 325 German themes is taken for one
_SHORTEST_JUDGED = 40  # words; in fewer any story can be told without a word of its theme

CLOSENESS = 4.5  # of words and meanings together, in standard deviations
LIKENESS = 0.28  # mean cosine of sentences to their nearest in the source, -1 to 1
LEAD = 0.06  # by which the nearest source is nearer than the next
ORDERED_LEAD = 0.10  # the same for the brief's beats
FEWEST_SOURCES = 5  # with fewer embedded sources there is no field to stand out from
_SHORTEST_THEME = 4  # content words
_NEAREST = 3  # sentences that are shown
_LEAST_DEVIATION = 0.03  # of cosines to a theme: in a few texts it may be less by chance
_WORDS = 2.0  # what a text that tells enough in words has beside one standard deviation

# How much a word of the theme is told by a word of the text.
_SAME = 1.0  # also inflected
_DERIVED = 0.9  # Operation, operieren
_WITHIN = 0.8  # Schwester, Zwillingsschwester
_ABLAUT = 0.7  # verschweigt, verschwieg
_PART = 0.45  # Zwillingsschwester, Schwester
_SYNONYM = 0.4  # Klinik, Krankenhaus
_SYNONYM_OF_PART = 0.2

_NOUN = 1.6  # weight of a noun beside other words
_NAME = 0.3  # weight of a name of the show: its people are in every text
_EVERYDAY = 0.4  # weight of a word that is in most stories of such shows
_RARITY = (1.0, 6.5)  # least and most weight of a word by its frequency
_RAREST = 7.5  # Zipf frequency at which the weight would be 0
_UNKNOWN = 5.0  # weight of a word that no list knows

_FOLD = str.maketrans("äöüß", "aous")
_SUFFIXES = re.compile(  # behind three letters at least
    r"(?<=\w{3})(?:ierung(?:en)?|ation(?:en)?|ionen|iert(?:en?)?|ieren?|(?:ung|heit|keit|schaft|igkeit)(?:en)?"
    r"|erin(?:nen)?|(?<=\w{4})innen|(?:lich|(?<!e)ig)(?:en?|t|ten?)?|isch(?:e)?|bare?|los|(?<!e)ist(?:in|en)?|end(?:e|en)?"
    r"|er(?:ns?|s|t|ten?)|ler|er|in|en|et|es|em|te|ten|(?<!s)st|n|e|s|t)$"
)
_GENITIVE = re.compile(r"(?<=\w{4}[bcdfghklmnprtvwxz])s$")
_SHORTEST_ROOT = 3
_LEAST_ROOT = 4  # letters of a root that tells something
_BORDER = 3  # letters that a part of a compound leaves at least before it, or at most behind it
_VOWELS = re.compile(r"[aeiouy]+")
_CASES = ("", "em", "en", "er", "es", "e", "n", "s", "in")

# In the format of MyThes, read where Debian's packages put them.
THESAURI = tuple(Path(f"/usr/share/mythes/th_de_{country}_v2") for country in ("DE", "CH"))
_ENTRY = re.compile(r"\([^)]*\)")
_NO_SYNONYM = ("(Oberbegriff)", "(Unterbegriff)", "(Assoziation)", "(Antonym)")


class _Told(NamedTuple):
    words: Collection[str]
    by_key: Mapping[str | int, list[str]]  # by root, skeleton, and number of a group of synonyms
    folded: Mapping[str, str]  # each word without umlauts, and as it is


def theme(subject: Subject) -> Finding | None:
    """The theme's words turn up: inflected, derived, in compounds, or as synonyms; rare ones count more."""
    # A text may tell its theme in quite other words: it is refused only where next to none turn up.
    if subject.brief is None or not subject.brief.theme:
        return None
    share, missing = told_share(subject)
    least = least_share(len(subject.text.words))
    closeness = closeness_of(subject)
    if closeness is not None and closeness >= CLOSENESS:
        least = min(least, share)  # words and meanings together say enough
    if share < least:
        language, certainty = lexicon.classify(subject.brief.theme)
        if language != "de" and certainty > _CERTAIN:  # its words are not those of a German text
            return None
    refused = ORDERED_SHARE if subject.is_ordered else REFUSED_SHARE
    refused *= len(subject.text.words) >= _SHORTEST_REFUSED
    problem = say("theme", words=missing) if share < least else None
    level: Level = "error" if share < least * refused or not problem else "warning"
    return judged("theme", share, say("limit theme", least=least), problem, level=level)


def closeness(subject: Subject) -> Finding | None:
    """The brief's theme is what the text tells, in whatever words; short themes are left to `theme`."""
    value = closeness_of(subject)
    if value is None:
        return None
    problem = None if value >= CLOSENESS else say("closeness", value=value)
    return judged("closeness", value, say("limit closeness", least=CLOSENESS), problem)


def paraphrase(subject: Subject) -> Finding | None:
    """The text is not one example's story in other words, unless the brief's beats ask for that story."""
    embeddings, lines = subject.embeddings, lines_of(subject.text)
    if embeddings is None or not lines or len(embeddings.ids) < FEWEST_SOURCES:
        return None
    vectors = embeddings.embed(lines)
    is_itself = np.array([source == subject.exclude_source for source in embeddings.ids])
    nearest, likeness, lead = _foremost(np.where(is_itself, -1.0, embeddings.similarities(vectors)))
    source, figures = embeddings.ids[nearest], say("figures", likeness=likeness, lead=lead)
    limit = say("limit paraphrase", likeness=LIKENESS, lead=LEAD, figures=figures)
    if likeness < LIKENESS or lead < LEAD:
        return judged("paraphrase", likeness, limit)
    if subject.brief and subject.brief.beats:  # do they tell the nearest source's story?
        ordered, _, its_lead = _foremost(embeddings.coverage(embeddings.embed(subject.brief.beats)))
        if ordered == nearest and its_lead >= ORDERED_LEAD:
            return judged("paraphrase", likeness, limit, held=say("asked for", source=source))
    best = embeddings.cosines(vectors, nearest).max(axis=1)
    sentences = embedded_sentences(subject.text)
    spans = [sentences[number].span for number in np.argsort(-best)[:_NEAREST].tolist()]
    return judged("paraphrase", likeness, limit, say("paraphrase", source=source, figures=figures), spans)


def _foremost(values: npt.NDArray[np.float64]) -> tuple[int, float, float]:
    second, first = np.argsort(values, kind="stable")[-2:].tolist()
    return first, float(values[first]), float(values[first] - values[second])


def least_share(words: int) -> float:
    """Return how much of its theme a text of so many words must tell, 0 to 1."""
    if words < _SHORTEST_JUDGED:
        return 0.0
    full = TOLD_SHARE + (THESAURUS_MARGIN if _thesaurus() else 0.0)
    return float(full * min(1.0, words / _FULL_LENGTH) ** _BY_LENGTH)


def closeness_of(subject: Subject) -> float | None:
    """Return how much closer a text and its theme, no mere title, are than either is to the sources, if known."""
    # In standard deviations, of the theme to the sources' texts and of the text to their themes; twice what is told
    # in words, as a share of what must be told, is added.
    embeddings, lines = subject.embeddings, lines_of(subject.text)
    if embeddings is None or not lines or len(embeddings.ids) < FEWEST_SOURCES:
        return None
    if subject.brief is None or len(theme_words(subject.brief.theme)) < _SHORTEST_THEME:
        return None
    wanted, vectors = embeddings.embed([subject.brief.theme]), embeddings.embed(lines)
    others = [number for number, id_ in enumerate(embeddings.ids) if id_ != subject.exclude_source]
    texts = [_nearer_half(each) for each in (embeddings.cosines(wanted, number) for number in others) if each.size]
    themes = [_nearer_half(each) for each in embeddings.to_themes(vectors)[others]]
    cosine, share = _nearer_half(wanted @ vectors.T), told_share(subject)[0]
    leads = ((cosine - float(np.mean(each))) / max(float(np.std(each)), _LEAST_DEVIATION) for each in (texts, themes))
    return sum(leads) + _WORDS * share / least_share(max(len(subject.text.words), _SHORTEST_JUDGED))


def _nearer_half(cosines: npt.NDArray[np.float32]) -> float:
    """Return the mean cosine of the nearer half of a text's sentences."""
    return float(np.sort(cosines, axis=None)[cosines.size // 2 :].mean())


def told_share(subject: Subject) -> tuple[float, list[str]]:
    """Return the share of the theme's weight that the text tells, 0 to 1, and the words that it does not."""
    if subject.brief is None:
        return 1.0, []
    told = _told(subject.text)
    names = {word for member in subject.show.cast for word in lower_words(member.name)}
    total = share = 0.0
    missing: list[str] = []
    for word in theme_words(subject.brief.theme):
        lower = word.lower()
        factor = (_NOUN if word[0].isupper() else 1.0) * (_NAME if lower.removesuffix("s") in names else 1.0)
        match = _match(lower, told)
        total += factor * _weight(lower)
        share += factor * match
        missing += [lower] * (not match)
    return (share / total if total else 1.0), missing


def theme_words(line: str) -> list[str]:
    """Return the distinct content words of a theme, as they are written; or all words."""
    words = list(dict.fromkeys(word_parts(line)))
    light = _listed("light")
    return [word for word in words if lexicon.is_content(word.lower()) and word.lower() not in light] or words


def _match(word: str, told: _Told) -> float:
    """Return how much of its weight a theme word is told: at most what the word of the text weighs."""
    weight = _weight(word)
    if word in told.words:
        return _SAME * weight
    key = root(word)
    keys: list[tuple[float, str | int]] = [(_DERIVED, key), (_ABLAUT, _skeleton(word))]
    keys += ((_SYNONYM, synonym) for synonym in (*_groups().get(key, ()), *_synonyms(word)))
    found = [(_WITHIN, word) for other, word in told.folded.items() if _holds(other, key)]
    for part in lexicon.compound_parts(word):
        short = root(part)
        if short in told.by_key or any(_holds(other, short) for other in told.folded):
            found.append((_PART, part))
        keys += ((_SYNONYM_OF_PART, group) for group in _groups().get(short, ()))
    found += ((grade, other) for grade, key in keys for other in told.by_key.get(key, ()))
    return max((grade * min(weight, _weight(other)) for grade, other in found), default=0.0)


def _holds(word: str, key: str) -> bool:
    """Whether a word begins or ends with a root: Brandschutz with Schutz, but not bringt with Ring."""
    found = word.find(key) if len(key) >= _LEAST_ROOT else -1
    return found == 0 or (found >= _BORDER and len(word) - found - len(key) <= _BORDER)


def _told(text: Text) -> _Told:
    words = {part for part in word_parts(" ".join(text.counts)) if len(part) <= lexicon.LONGEST_WORD}
    content = words - _listed("light")
    telling = [word for word in content if len(word) >= _SHORTEST_ROOT and not lexicon.is_function_word(word)]
    by_key: defaultdict[str | int, list[str]] = defaultdict(list)
    for word in telling:
        for key in _keys(word):
            by_key[key].append(word)
    by_key.pop("", None)
    return _Told(words, by_key, {word.translate(_FOLD): word for word in telling})


@lru_cache(maxsize=100_000)
def _keys(word: str) -> tuple[str | int, ...]:
    roots = root(word), *map(root, lexicon.compound_parts(word))
    return roots[0], _skeleton(word), *(group for key in roots for group in _groups().get(key, ()))


@lru_cache(maxsize=100_000)
def root(word: str) -> str:
    """Return a lower-case word without endings: oper for Operation and operieren."""
    return _SUFFIXES.sub("", _SUFFIXES.sub("", _GENITIVE.sub("", word.translate(_FOLD))))


def _skeleton(word: str) -> str:
    """Return the consonants of a word with at least four: -vrschwg for verschweigt and verschwieg."""
    consonants = _VOWELS.sub("", root(word))
    return f"-{consonants}" if len(consonants) >= _LEAST_ROOT else ""


def _bases(word: str) -> set[str]:
    return {word.removesuffix(ending) for ending in _CASES} | {word.removesuffix("t") + "en"}


@lru_cache(maxsize=100_000)
def _weight(word: str) -> float:
    """Return how much a lower-case word tells: rare ones most, those of every such story little."""
    bases = (base for base in _bases(word) if len(base) >= lexicon.SHORTEST_CONTENT or base == word)
    frequency = max(map(lexicon.commonness, bases))
    weight = min(max(_RAREST - frequency, _RARITY[0]), _RARITY[1]) if frequency else _UNKNOWN
    return weight * (_EVERYDAY if root(word) in _listed("everyday") else 1.0)


@cache
def _listed(heading: str) -> frozenset[str]:
    """Return the words below a heading of `gate/data/synonyms.txt`; of everyday words the roots."""
    words = (word for line in lexicon.word_lists("synonyms")[heading] for word in line.split())
    return frozenset(words if heading == "light" else map(root, words))


@cache
def _groups() -> Mapping[str, set[int]]:
    groups: defaultdict[str, set[int]] = defaultdict(set)
    for number, line in enumerate(lexicon.word_lists("synonyms")["groups"]):
        for word in line.split():
            groups[root(word)].add(number)
    return dict(groups)


@cache
def _thesaurus() -> tuple[Path, str, Mapping[str, int]] | None:
    """Return an installed, sound thesaurus's file, its encoding, and where its words begin, in bytes."""
    for path in THESAURI:
        with contextlib.suppress(OSError, ValueError, LookupError):
            raw = path.with_suffix(".idx").read_bytes()
            encoding = raw.split(b"\n", 1)[0].decode("ascii").strip()
            pairs = (line.rpartition("|") for line in raw.decode(encoding).splitlines()[2:])
            offsets = {word: int(offset) for word, mark, offset in pairs if mark}
            return path.with_suffix(".dat"), encoding, offsets
    return None


@lru_cache(maxsize=20_000)
def _synonyms(word: str) -> frozenset[str]:
    """Return the roots of the single words that an installed thesaurus has as synonyms of a word."""
    path, encoding, known = _thesaurus() or (Path(), "", {})
    terms: list[str] = []
    for offset in {known[base] for base in (*_bases(word), word + "n") if base in known}:
        with contextlib.suppress(OSError, ValueError, IndexError), path.open("rb") as file:
            file.seek(offset)
            count = int(file.readline().decode(encoding).rsplit("|", 1)[1])
            lines = [file.readline().decode(encoding) for _ in range(count)]
            terms += (term for line in lines for term in line.strip().split("|")[1:])
    plain = [_ENTRY.sub("", term).strip().lower() for term in terms if not any(map(term.count, _NO_SYNONYM))]
    return frozenset(root(term) for term in plain if term and " " not in term)


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
