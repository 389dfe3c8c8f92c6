"""Texts for benchmarks of batches: any number, all different, and nearly all accepted by the gate.

Each is built of sentences of the good texts of the test corpus and of the evals. Of a sentence only its frame
stays: nouns, adjectives, verbs, adverbs, articles, prepositions and names are replaced by others of the same
form, as often as they are in German, so that the gate meets as many new words as it does in a real batch. The
texts are nonsense in good German: the gate reads them like any other.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random

from wordfreq import get_frequency_dict

from synopsis_writer.brief import Brief
from synopsis_writer.evals.suite import load_cases
from synopsis_writer.examples import load_pool
from synopsis_writer.gate import text
from synopsis_writer.gate.form import _known_forms, tense_of
from synopsis_writer.gate.lexicon import commonness, gender, is_known
from synopsis_writer.gate.text import Sentence, Text, analyse
from synopsis_writer.house import built_in_house
from synopsis_writer.synopsis import Character, Paragraph, Synopsis

FORMS = tuple(built_in_house().forms)

ROOT = Path(__file__).resolve().parent.parent
SHOWS = ("In aller Freundschaft", "Rote Rosen", "Alles was zählt", "Sturm der Liebe", "Gute Zeiten, schlechte Zeiten")
MARK = "Textnummer"  # stands in each brief before the number of its text, and nowhere else in a prompt
_RAREST = 2.0  # Zipf frequency of a word that is put in
_SHORTEST, _LONGEST = 3, 38  # words of a sentence that is used
_SHORTEST_NOUN = 5  # letters
_FEWEST_SENTENCES = 24  # shorter texts would at times fall under 200 words
_FEWEST = 5  # words of a form; where there are fewer, the word stays
_NOT_TOLD = frozenset("meinen text episode folge serie".split())  # the gate takes them for talk
# Words that may stand for each other, whatever their noun: of one case, of one gender, of one construction.
_ALIKE = [
    group.split()
    for group in (
        "der dieser jener jeder mancher",
        "die diese jene manche",
        "das dieses jenes manches",
        "dem diesem jenem jedem manchem",
        "den diesen jenen manchen",
        "des dieses jenes",
        "ein sein ihr kein",
        "eine seine ihre keine",
        "einen seinen ihren keinen",
        "einem seinem ihrem keinem",
        "einer seiner ihrer keiner",
        "eines seines ihres keines",
        "in an auf hinter vor neben über unter",
        "mit bei von aus zu nach",
        "für gegen durch ohne",
        "im am vom beim zum",
        "er sie es",
        "und oder aber doch",
        "weil wenn obwohl solange bevor nachdem",
        "danach davor daneben darüber darunter dahinter trotzdem deshalb seitdem",
        "hat nimmt braucht sucht findet behält verliert zeigt",
        "ist bleibt wird scheint",
        "hatte nahm brauchte suchte fand behielt verlor zeigte",
        "war blieb wurde schien",
        "will kann muss soll darf",
        "wollte konnte musste durfte",
        "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "niemand jemand keiner jeder",
        "wie wo warum wann",
    )
]


@dataclass(frozen=True)
class Written:
    """A brief and the answer to it."""

    number: int
    brief: Brief
    synopsis: Synopsis


@dataclass(frozen=True, eq=False)
class _Frame:
    """A sentence: what precedes each word, the words with the lists they are drawn from, and its end."""

    parts: tuple[tuple[str, str, "_Words | None"], ...]
    end: str


@dataclass(frozen=True)
class _Words:
    """Words that may replace each other, with the running sums of their frequencies."""

    words: Sequence[str]
    sums: Sequence[float]

    def draw(self, dice: Random) -> str:
        """Return one, as often as it is in German."""
        return dice.choices(self.words, cum_weights=self.sums)[0]


def written(number: int) -> Written:
    """Return the text of a number, always the same; two numbers never have a title or a person in common."""
    dice = Random(number)
    form, show = FORMS[number % len(FORMS)], SHOWS[number // len(FORMS) % len(SHOWS)]
    shapes, frames = _frames()[form]
    people = (_person(2 * number), _person(2 * number + 1))
    lasts = [last for _, last in people]
    used: list[_Frame] = []
    paragraphs = []
    for shape in dice.choice(shapes):
        told = [_filled(_drawn(frames[kind], used, dice), lasts, dice) for kind in shape]
        paragraphs.append(" ".join(told))
    nouns = dice.sample(sorted(filter(_is_noun, set(re.findall(r"\w+", " ".join(paragraphs))))), 2)
    return Written(
        number,
        Brief(show=show, theme=f"Ein Streit um {nouns[0]} und {nouns[1]}", form=form, notes=f"{MARK} {number:07}"),
        Synopsis(
            title=" und ".join(dice.choice(_stock()[f"noun {kind}"].words) for kind in "mf"),
            logline=f"Zwischen {nouns[0]} und {nouns[1]} entscheidet sich, was aus {lasts[0]} wird.",
            characters=tuple(Character(name=" ".join(person), role="Gast") for person in people),
            paragraphs=tuple(
                Paragraph(storyline="AABCA"[place % 5], text=text)  # type: ignore[arg-type]
                for place, text in enumerate(paragraphs)
            ),
        ),
    )


def _is_noun(word: str) -> bool:
    return len(word) >= _SHORTEST_NOUN and word.isalpha() and word[0].isupper() and gender(word.lower()) is not None


def _drawn(frames: Sequence[_Frame], used: list[_Frame], dice: Random) -> _Frame:
    """Return a frame that this text does not have yet, and that begins differently from the last one."""
    frame = dice.choice(frames)
    while frame in used or (used and frame.parts[0][1].lower() == used[-1].parts[0][1].lower()):
        frame = dice.choice(frames)
    used.append(frame)
    return frame


def _filled(frame: _Frame, people: Sequence[str], dice: Random) -> str:
    pieces = []
    for before, word, words in frame.parts:
        new = dice.choice(people) if word == "" else words.draw(dice) if words else word
        pieces += [before, new[0].upper() + new[1:] if word[:1].isupper() and new[0].islower() else new]
    text = "".join(pieces) + frame.end
    return text[0].upper() + text[1:]


@cache
def _frames() -> dict[str, tuple[list[list[list[str]]], dict[str, list[_Frame]]]]:
    """Return, for each form, what its texts are shaped like, and frames for each kind of sentence."""
    stock, groups = _stock(), _groups()
    pool = load_pool([ROOT / "tests" / "corpus" / "good"]).examples
    told = [(example.brief.form, example.synopsis) for example in pool]
    told += [(case.brief.form, case.reference) for case in load_cases(ROOT / "evals" / "cases")]
    found: dict[str, tuple[list[list[list[str]]], dict[str, list[_Frame]]]] = {}
    for form, synopsis in told:
        shapes, frames = found.setdefault(form, ([], defaultdict(list)))
        text = analyse(synopsis.text)
        shape: list[list[str]] = [[] for _ in synopsis.paragraphs]
        for sentence in text.sentences:
            kind = "asks" if sentence.is_question else "tells"
            if sentence.paragraph < len(shape):
                shape[sentence.paragraph].append(kind)
            if (frame := _frame(text, sentence, stock, groups)) is not None:
                frames[kind].append(frame)
        if len(text.sentences) >= _FEWEST_SENTENCES:
            shapes.append([kinds for kinds in shape if kinds])
    asking = [frame for _, frames in found.values() for frame in frames["asks"]]
    for _, frames in found.values():
        frames["asks"] = asking
    return found


def _frame(text: Text, sentence: Sentence, stock: Mapping[str, _Words], groups: Mapping[str, _Words]) -> _Frame | None:
    """Return the frame of a sentence; None where it is long, has speech or figures, or names many people."""
    if not _SHORTEST <= sentence.length <= _LONGEST or any(char.isdigit() or char in "„“–:" for char in sentence.text):
        return None
    parts: list[tuple[str, str, _Words | None]] = []
    end, names = sentence.span.start, 0
    for place in range(sentence.first, sentence.last):
        word, tag = text.words[place], text.tags[place]
        before = text.raw[end : word.span.start]
        end = word.span.end
        if tag in {"NE", "XY"}:
            names += 1
            if parts and parts[-1][1] == "":
                continue  # a first name and a last one are one person
            parts.append((before, "", None))
            continue
        words = groups.get(word.form) if place > sentence.first else None  # openings must not come to the same
        words = words or stock.get(_kind(word.lower, tag))
        parts.append((before, word.form, words))
    rest = text.raw[end : sentence.span.end]
    return None if names > 3 or "." in "".join(before for before, _, _ in parts) else _Frame(tuple(parts), rest)


def _kind(word: str, tag: str) -> str:
    """Return what a word can be replaced by: its part of speech, and what of its form must stay."""
    if tag == "NN":
        may_be_plural = word.endswith(("er", "el", "en", "chen", "lein"))
        return f"noun {gender(word) or word[-2:]}{' or more' * may_be_plural}"
    if tag == "ADJ(A)":
        return f"adjective {_ENDING.search(word)[0]}"  # type: ignore[index]
    if tag == "VV(FIN)" and (known := tense_of(word)) is not None:
        return f"{known} {'many' if word.endswith('n') else 'one'}"
    if tag == "VV(PP)":
        return f"participle {word[:2]} {word[-1]}"
    return {"VV(INF)": "infinitive", "ADJ(D)": "adverb", "ADV": "adverb"}.get(tag, "")


_ENDING = re.compile(r"e[mnrs]?$|$")


@cache
def _stock() -> Mapping[str, _Words]:
    """Return the words to put in, by part of speech and form."""
    model = text._model()  # noqa: SLF001 - its words with their parts of speech are a public file
    found: dict[str, set[str]] = defaultdict(set)
    for word in model.words:
        tags = text._readings(word)  # noqa: SLF001
        tag = model.names[tags[0][0]]
        if (kind := _kind(word, tag)) and len(tags) == 1 and "ß" not in word[-2:]:
            found[kind].add(word.capitalize() if tag == "NN" else word)
        if tag == "ADJ(D)":
            for ending in ("e", "en", "er", "es", "em"):
                found[f"adjective {ending}"].add(word + ending)
    for word, tense in _known_forms().items():
        found[f"{tense} {'many' if word.endswith('n') else 'one'}"].add(word)
    for word in get_frequency_dict("de", "best"):
        if commonness(word) >= _RAREST and len(word) >= _SHORTEST_NOUN and gender(word) is not None:
            found[_kind(word, "NN")].add(word.capitalize())
    common = {kind: [word for word in words if _is_common(word.lower())] for kind, words in found.items()}
    return {kind: _words(words) for kind, words in common.items() if len(words) >= _FEWEST}


def _is_common(word: str) -> bool:
    """Whether a word is good German: the frequency list writes `ss` for `ß`, and some umlauts out."""
    return (
        word.isalpha()
        and len(word) > 2
        and word not in _NOT_TOLD
        and not any(letters in word for letters in ("ss", "ae", "oe", "ue"))
        and commonness(word) >= _RAREST
        and is_known(word)
    )


def _words(words: Iterable[str]) -> _Words:
    listed = sorted(words)
    return _Words(listed, list(accumulate(10 ** commonness(word) for word in listed)))


def _groups() -> dict[str, _Words]:
    return {word: _Words(group, list(accumulate([1.0] * len(group)))) for group in reversed(_ALIKE) for word in group}


def _person(number: int) -> tuple[str, str]:
    """Return a first and a last name: no two numbers up to two millions the same, neighbours far apart."""
    lasts = len(_HEADS) * len(_MIDDLES) * len(_TAILS)
    turn, place = divmod(number, lasts)
    place = place * _STRIDE % lasts
    rest, head = divmod(place, len(_HEADS))
    tail, middle = divmod(rest, len(_MIDDLES))
    return _FIRST[(place + turn) % len(_FIRST)], _HEADS[head] + _MIDDLES[middle] + _TAILS[tail]


_STRIDE = 30_011  # a prime number: all last names come before the first comes again
_FIRST = (
    "Anna Jonas Merle Henrik Greta Malte Selma Arne Ilka Veit Thea Bastian Nora Gregor Frieda Lorenz Wiebke "
    "Konrad Sina Ansgar Marlene Ruben Edda Silvan Paula Hauke Rieke Torben Antje Emil"
).split()
# The parts of 70,560 last names.
_HEADS = (
    "Alten Birken Blumen Breiten Buchen Diesen Eber Eichen Erlen Falken Feld Finken Forst Gersten Grau "
    "Grün Hagen Hasel Heiden Herren Hirsch Hohen Hollen Kirsch Klein Koppen Kranich Linden Löwen Moos "
    "Mühlen Neuen Oster Quell Raben Reben Rosen Schwarzen Silber Sommer Stein Tannen Tauben Ulmen Wald "
    "Weiden Winter Wolfs"
).split()
_MIDDLES = (
    "acker aue bach baum beck berg blick born brink bruch brunn burg busch dorn eck feld fels furt gart gras "
    "grund haag hain halm hang hardt haus heim hof holz horst hügel kamp kehr kamm loh moor ried rode sand "
    "see siek stock stadt tal teich wies winkel zell"
).split()
_TAILS = (
    " er ler mann meier müller huber bauer schmidt ner ert olt ing ke el sen hausen heimer stein berger "
    "maier hoff kötter stätter reuter mayr graf vogt wirt köhler"
).split(" ")
