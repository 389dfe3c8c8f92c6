"""What the rows of a batch must not have in common, drawn from one text: titles, openings, names and runs."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from synopsis_writer.batch.marks import Marks, marks_of
from synopsis_writer.brief import Brief
from synopsis_writer.shows import Show
from synopsis_writer.style.copies import name_words, run_hashes
from synopsis_writer.style.lexicon import stem
from synopsis_writer.style.names import Name, parse_name
from synopsis_writer.style.names import name_words as plain_words
from synopsis_writer.style.text import Span, analyse, folded, lower_words
from synopsis_writer.synopsis import Synopsis

OPENING = 4  # words with content: two shared ones occur once in 82 good texts, three never
_LEAST_OPENING = 3  # words: two texts may both begin with `Es regnet.`
_SHORTEST = 4  # letters of a word with content
# The German words of four letters or more with a Zipf frequency of 5.9 or more in wordfreq 3.1: what
# `lexicon.is_content` leaves out. Written down, because its word list takes 90 MB and the driver of a batch
# needs no more of it than these.
FUNCTION_WORDS = frozenset(
    """
    aber alle alles also auch beim damit dann dass denn diese dieser doch durch eine einem einen einer eines
    einfach etwas ganz gegen geht gibt habe haben hatte hier ihre immer jetzt kann kein keine können machen
    mehr mein meine mich muss nach nicht noch oder ohne schon sehr sein seine seit selbst sich sind soll
    unter viel waren weil wenn werden wieder will wird wurde zeit zwei über
    """.split()
)


@dataclass(frozen=True)
class Traits:
    """What is held against the other rows.

    Attributes:
        title: folded: lower case, without marks and a leading article.
        opening: how the text begins, as stems; empty when its first sentence is too short to tell.
        people: the full names the answer declares.
        guests: those beyond the cast and its families, where a last name is known.
        marks: hashes of some of the text's runs of six words, sorted; shape (about words / 8,).
    """

    title: str
    opening: str
    people: tuple[str, ...]
    guests: tuple[Name, ...]
    marks: Marks


@lru_cache(maxsize=64)  # a text is looked at when it comes, once more when it is saved, and then taken in
def traits_of(synopsis: Synopsis, show: Show) -> Traits:
    """Draw from a synopsis what is held against the other rows."""
    people = tuple(person.name for person in synopsis.characters)
    names = name_words((*people, *cast_names(show)))
    return Traits(
        folded_title(synopsis.title),
        opening_key(synopsis, show, names),
        people,
        guests(people, show),
        marks_of(run_hashes(lower_words(synopsis.text), names)),
    )


def cast_names(show: Show) -> tuple[str, ...]:
    """Return the full names of the show's cast."""
    return tuple(member.name for member in show.cast)


def own_words(passage: str, show: Show, names: Collection[str]) -> int:
    """Return how many words of a passage are neither `names` nor the show's name, which rows may share."""
    series = "|".join(r"\W+".join(map(re.escape, lower_words(name))) for name in (show.name, *show.aliases))
    return sum(word not in names for word in lower_words(re.sub(rf"\b(?:{series})\b", " ", passage.lower())))


_ARTICLE = re.compile(r"(?:der|die|das|ein|eine) (?=.)")


def folded_title(title: str) -> str:
    """Return a title in lower case, without marks and without its article: `Das Spiel!` is `spiel`."""
    return _ARTICLE.sub("", re.sub(r"[\W_]+", " ", folded(title)).strip(), count=1)


def first_sentence(synopsis: Synopsis) -> Span:
    """Return where the first sentence stands in the text."""
    sentences = analyse(synopsis.paragraphs[0].text).sentences
    return sentences[0].span if sentences else Span(0, 0)


def opening_key(synopsis: Synopsis, show: Show, names: Iterable[str]) -> str:
    """Return the stems of the first four words with content, or of all words where there are fewer.

    The words of `names` and of the show's own name do not count: forms such as `week` begin with these.
    """
    span = first_sentence(synopsis)
    left_out = name_words((show.name, *show.aliases)).union(names)
    sentence = synopsis.paragraphs[0].text[span.start : span.end]
    words = [word for word in lower_words(sentence) if word not in left_out]
    content = [word for word in words if len(word) >= _SHORTEST and word not in FUNCTION_WORDS]
    kept = content[:OPENING] if len(content) >= OPENING else words
    return " ".join(map(stem, kept)) if len(kept) >= _LEAST_OPENING else ""


def guests(people: Iterable[str], show: Show) -> tuple[Name, ...]:
    """Return the people with a last name that nobody of the cast has; a family of the cast belongs to it."""
    families = {parse_name(name).last for name in cast_names(show)}
    names = dict.fromkeys(map(parse_name, people))
    return tuple(name for name in names if name.last and name.last not in families)


def is_asked_for(name: Name, brief: Brief) -> bool:
    """Whether any field of the brief names the person, by the last name at least."""
    lines = (brief.theme, brief.notes or "", *brief.characters, *brief.beats, *brief.before)
    return any(word in {name.last, name.last + "s"} for line in lines for word in plain_words(line))
