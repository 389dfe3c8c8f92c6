"""Features by which texts are distinguished: beginnings and endings, motifs, people, words."""

import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from pydantic import BaseModel

from synopsis_writer.brief import Brief
from synopsis_writer.characters import count_of
from synopsis_writer.gate.cast import longest_ending, occupation, owners, parse_name
from synopsis_writer.gate.finding import Finding, Level, Wording, judged, say
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, GERMAN_WORDS, stem, word_lists
from synopsis_writer.gate.text import Sentence, Span, Text, analyse, lower_words
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis

_FIRST_WORDS = 3  # of a sentence that tell how it begins
_SHOWN_WORDS = 5  # of a sentence that are quoted
_LEAST_MENTIONS = 3  # of a motif, unless title or last sentence has it and it comes twice
_SHORTEST_STEM = 4  # letters of a word that ends compounds
_MOST_SHARE = {"opening": 1 / 4, "open ending": 1 / 4, "motif": 1 / 6}
_FEWEST_ALIKE = 3  # texts; two may be alike in any pool
_SPOKEN = re.compile(r"[.,!?…]")  # in a quotation, or right behind it: it is no title
_STARTS = ("clause", "place", "new thing", "thing", "pronoun")

_SAME_FORM, _ALL_FORMS = 3, 6  # texts of which the kinds of sentences, and motifs and names, are avoided
LAST_TEXTS = 24  # that are remembered, so that there are some of each form among them
_MOST_LISTED = 12
_FEWEST_REFUSED = 2  # half of the texts that differ enough share one thing by chance, 12–16 % two
_LISTED = 12  # patterns of a kind
_FUNCTION_WORDS = sorted(FUNCTION_WORDS | GERMAN_WORDS)


@dataclass(frozen=True)
class Features:
    """By what a text is compared with others."""

    opening: str = ""  # the first sentence
    opening_kind: str = ""  # how it is made: a number first, a question that begins with its verb, …
    view: str = ""  # the first person that the text names; empty where it names none
    ending: str = ""  # the last sentence
    ending_kind: str = ""
    people: tuple[str, ...] = ()  # whom it declares
    motifs: frozenset[str] = frozenset()  # the things that carry it, in German

    def likeness(self, other: "Features") -> float:
        """Return how alike two texts are, 0 to 1: a third each for opening, ending and motifs."""
        shared = len(self.motifs & other.motifs) / max(1, min(len(self.motifs), len(other.motifs)))
        opens, closes = self.opening_kind == other.opening_kind, self.ending_kind == other.ending_kind
        return (opens + closes + shared) / 3

    def as_data(self) -> dict[str, Any]:
        """Return the features as JSON holds them."""
        data = {name: value for name, value in vars(self).items() if name != "people"}
        return {**data, "motifs": sorted(self.motifs)}


@lru_cache(maxsize=1_000)
def features_of(synopsis: Synopsis) -> Features:
    """Return the features of a text."""
    text = analyse(synopsis.text)
    people = tuple(person.name for person in synopsis.characters)
    first, last = text.opening, text.ending
    if first is None or last is None:
        return Features(people=people)
    names = {parse_name(name): name for name in people}
    whose = {word: names[name] for word, name in owners(names).items()}
    whose = {f"{word}s": name for word, name in whose.items()} | whose  # genitives
    view = next((whose[word.lower] for word in text.words if word.lower in whose), "")
    kinds = _kind_of(text, first, whose), _kind_of(text, last, whose)
    found = _motifs_of(text, synopsis.title, last, whose)
    return Features(first.text, kinds[0], view, last.text, kinds[1], people, found)


def kind_wording(kind: str) -> Wording:
    """Return the name of a kind of sentence."""
    name, *more = kind.split(", ")
    if name != "question":
        return say("a person" if kind == "person" else kind)
    if more[0] in {"verb first", "other", "oder first"}:
        return say(kind)
    return say("question, oder" if more[1:] else "question", word=more[0])


def _kind_of(text: Text, sentence: Sentence, people: Collection[str]) -> str:
    words = [word.lower for word in text.words_of(sentence)]
    start = text.words_of(sentence)[0].span.start
    quote = next((each for each in text.quotes if each.contains(start)), None)
    is_title = quote is not None and not _SPOKEN.search(text.raw, quote.start, quote.end + 1)
    counted = next((word for word in words if word not in _list("before a number")), "")
    near = words[:_FIRST_WORDS]
    kinds = {
        "title": is_title,
        "speech": quote is not None or text.is_quoted(sentence.span.end - 1),
        "question": sentence.is_question,
        "ellipsis": sentence.text.endswith(("…", "...")),
        "number": counted in _list("number") or sentence.text[0].isdigit(),
        "moment": not _list("moment").isdisjoint(near),
        "person": any(word in people for word in near),
        **{kind: words[0] in _list(kind) for kind in _STARTS},
    }
    kind = next((kind for kind, applies in kinds.items() if applies), "bare word")
    return _kind_of_question(words) if kind == "question" else kind


def _kind_of_question(words: Sequence[str]) -> str:
    if words[0] == "oder":
        return "question, oder first"
    first = next((word for word in words if word not in _list("lead-ins")), words[0])
    either = ", oder" if "oder" in words else ""
    asked = next((word for word in words[:_FIRST_WORDS] if word in _list("question word")), "")
    if asked and (first == asked or first in _list("place")):
        return f"question, {asked}{either}"
    if first == "ob":
        return f"question, ob{either}"
    is_verb = not any(first in _list(kind) for kind in ("place", "new thing", "thing", "pronoun", "moment"))
    return f"question, {'verb first' if is_verb else 'other'}{either}"


def _motifs_of(text: Text, title: str, last: Sentence, people: Collection[str]) -> frozenset[str]:
    """Return the things that come three times, or twice and also in the title or the last sentence."""
    left_out = _list("no motif").union(text.names, *map(_list, _STARTS))
    first = {sentence.first for sentence in text.sentences}
    nouns = [word for index, word in enumerate(text.words) if word.form[0].isupper() and index not in first]
    other = {noun.lower for noun in nouns if len(noun.form) >= _SHORTEST_STEM} - left_out
    own = {word for word in other if word not in people and occupation(word) is None}
    by_length = sorted(own, key=lambda word: (-len(word), word))
    labels = {stem(word): word.capitalize() for word in by_length}  # the shortest form in the end

    def motif(word: str) -> str:
        return _motif(word) or (labels.get(stem(word), "") if word in own else "")

    counts = Counter(filter(None, (motif(word.lower) for word in text.words if word.form[0].isupper())))
    framed = {*map(motif, lower_words(title)), *(motif(word.lower) for word in text.words_of(last))}
    return frozenset(name for name, count in counts.items() if count + (name in framed) >= _LEAST_MENTIONS)


@lru_cache(maxsize=50_000)
def _motif(word: str) -> str:
    bases = (word.removesuffix(ending) for ending in ("", "s", "n", "en", "e", "es", "er"))
    found = (_motifs().get(base) or longest_ending(base, _motifs(), _SHORTEST_STEM) for base in bases)
    return next(filter(None, found), "")


@cache
def _motifs() -> Mapping[str, str]:
    lines = (line.partition(": ") for line in word_lists("features")["motifs"])
    return {word: name for name, _, words in lines for word in words.split()}


@cache
def _list(heading: str) -> frozenset[str]:
    return frozenset(word for line in word_lists("features")[heading] for word in line.split())


class Avoid(BaseModel, frozen=True):
    """What the last texts of a house had, and the next one is not to have again."""

    openings: Mapping[str, str] = {}  # the kinds of first sentences, each with the beginning of one
    endings: Mapping[str, str] = {}
    motifs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def avoid_of(texts: Iterable[tuple[Brief, Synopsis]], brief: Brief, shows: Iterable[Show]) -> Avoid | None:
    """Return what a text for a brief is not to have again, of `texts`, the newest first; or None."""
    # What the brief names may come again, and so may names in shows whose cast is not known.
    casts = {show.name: {parse_name(one.name).last for one in show.cast} for show in shows if show.cast}
    wanted = (brief.show, brief.theme, brief.form)
    others = [each for each in texts if (each[0].show, each[0].theme, each[0].form) != wanted]
    same = [features_of(synopsis) for asked, synopsis in others if asked.form == brief.form][:_SAME_FORM]
    lines = (brief.theme, brief.notes or "", *brief.characters, *brief.beats, *brief.before)
    words = {word for line in lines for word in lower_words(line)}
    given = {_motif(word) or stem(word) for word in words}
    motifs: list[str] = []
    names: list[str] = []
    for asked, synopsis in others[:_ALL_FORMS]:
        motifs += sorted(features_of(synopsis).motifs)
        known = {"", *words, *casts.get(asked.show, ())}
        people = features_of(synopsis).people if asked.show in casts else ()
        names += (name for name in people if parse_name(name).last not in known)
    motifs = [each for each in dict.fromkeys(motifs) if given.isdisjoint((each, stem(each.lower())))]
    avoid = Avoid(
        openings={own.opening_kind: " ".join(own.opening.split()[:_SHOWN_WORDS]) for own in same if own.opening},
        endings={one.ending_kind: " ".join(one.ending.split()[:_SHOWN_WORDS]) for one in same if one.ending},
        motifs=tuple(motifs[:_MOST_LISTED]),
        names=tuple(dict.fromkeys(names))[:_MOST_LISTED],
    )
    return avoid if avoid != Avoid() else None


def repeated(synopsis: Synopsis, avoid: Avoid) -> Finding:
    """Return whether a text repeats what it is not to have again; one thing alone is a warning."""
    features = features_of(synopsis)
    last_names = {parse_name(name).last for name in avoid.names}
    what: list[Wording] = []
    spans: list[Span] = []
    start = synopsis.text.rfind(features.ending)
    for name, kind, avoided, span in (
        ("the opening", features.opening_kind, avoid.openings, Span(0, len(features.opening))),
        ("the ending", features.ending_kind, avoid.endings, Span(start, start + len(features.ending))),
    ):
        if kind in avoided:
            what.append(say(name, kind=kind_wording(kind)))
            spans.append(span)
    what += (say("the motif", name=motif) for motif in avoid.motifs if motif in features.motifs)
    names = (name for name in features.people if parse_name(name).last in last_names - {""})
    what += (say("the name", name=name) for name in names)
    problem = say("variety", what=what) if what else None
    level: Level = "error" if len(what) >= _FEWEST_REFUSED else "warning"
    return judged("variety", len(what), say("limit variety"), problem, spans, level=level)


@dataclass(frozen=True)
class PoolVariety:
    """How much the texts of a pool differ."""

    texts: int
    words: int  # of all texts
    counts: Mapping[str, Counter[str]]  # how many texts have each pattern, by `opening`, `motif` and the like
    profile: tuple[float, float]  # the cosine of two texts' shares of function words: mean and greatest
    compression: float  # how many times smaller all texts together become by gzip's method
    repetition: float  # the mean share of a text's runs of four words that another text has, too

    @property
    def faults(self) -> list[str]:
        """What too many texts share, a line each."""
        found = []
        for kind, most in _MOST_SHARE.items():
            total = self.texts if kind == "motif" else self.counts[kind].total()
            for name, count in self.counts[kind].most_common():
                if count >= _FEWEST_ALIKE and count > most * total:
                    found.append(f"{kind} '{name}': {count} of {total}, at most {most:.0%} may share it")
        return found

    @property
    def lines(self) -> list[str]:
        """The figures in words, a line each."""
        lines = [f"{count_of(self.texts, 'text')}, {count_of(self.words, 'word')}"]
        for kind, counts in self.counts.items():
            listed = "; ".join(f"{count} {name}" for name, count in counts.most_common(_LISTED))
            rest = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
            lines.append(f"{kind}s ({counts.total()}): {listed or 'none'}{rest}")
        mean, most = self.profile
        lines.append(f"function words: two texts are {mean:.3f} alike on average, {most:.3f} at most")
        lines.append(f"compression: all texts together become {self.compression:.2f} times smaller")
        repeated = "of the runs of four words stand in another text, too"
        return [*lines, f"self-repetition: {self.repetition:.1%} {repeated}"]


def measure_variety(texts: Mapping[str, Synopsis]) -> PoolVariety:
    """Measure how much texts, by their ids, differ."""
    # The last two figures: Shaib et al., "Standardizing the Measurement of Text Diversity", 2024.
    import numpy as np

    features = [features_of(synopsis) for synopsis in texts.values()]
    words = [lower_words(synopsis.text) for synopsis in texts.values()]
    counts = [Counter(each) for each in words]
    shares = np.array([[each[word] for word in _FUNCTION_WORDS] for each in counts], dtype=float)
    shares = shares.reshape(len(texts), len(_FUNCTION_WORDS))
    shares = shares / np.maximum(np.linalg.norm(shares, axis=1, keepdims=True), 1)
    cosines = (shares @ shares.T)[np.triu_indices(len(texts), 1)]
    runs = [set(zip(*(each[start:] for start in range(4)), strict=False)) for each in words]
    owners = Counter(chain.from_iterable(runs))
    repeated = [sum(owners[run] > 1 for run in own) / max(1, len(own)) for own in runs]
    raw = "\n".join(synopsis.text for synopsis in texts.values()).encode("utf-8")
    endings = [each.ending_kind for each in features]
    open_endings = [kind for kind in endings if kind.startswith(("question", "ellipsis"))]
    patterns = {
        "opening": Counter(each.opening_kind for each in features),
        "open ending": Counter(open_endings),
        "closed ending": Counter(endings) - Counter(open_endings),
        "motif": Counter(chain.from_iterable(sorted(each.motifs) for each in features)),
    }
    alike = (float(cosines.mean()), float(cosines.max())) if cosines.size else (0.0, 0.0)
    compression = len(raw) / max(1, len(zlib.compress(raw, 9)))
    repetition = sum(repeated) / max(1, len(repeated))
    return PoolVariety(len(texts), sum(map(len, words)), patterns, alike, compression, repetition)
