"""The check of lengths: a text tells the story of another one, and contradicts it in nothing."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from synopsis_writer.gate.cast import full_names, nominative, occupation, owners, parse_name, person_after
from synopsis_writer.gate.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.gate.lexicon import TITLES, own_words, stem, word_lists
from synopsis_writer.gate.text import NAME, Span, Text, Word, analyse, is_noun, lower_words, word_parts
from synopsis_writer.synopsis import Character, Synopsis

_LIMIT = "names, roles and numbers of the story, and no mere cut of it"
_MOST_PROBLEMS = 5  # in one message
_LARGEST_VAGUE = 12  # up to which a number may count what the story lists

_Problems = Iterator[tuple[str, Span | None]]


class _Story:
    """What the story says, and who is who in both texts."""

    def __init__(self, subject: Subject, story: Synopsis) -> None:
        self.people, self.text = story.characters, analyse(story.text)
        declared = {parse_name(person.name) for person in self.people}
        self.full_names = {*(each.name for each in full_names(self.text, declared)), *declared}
        self.owners = owners(self.full_names)
        roles = (f"{person.name}: {person.role}" for person in self.people)
        brief = (subject.brief.theme, subject.brief.notes or "") if subject.brief else ()
        self.all = "\n".join((story.text, story.title, story.logline, *roles, *brief))
        show = (subject.show.name, subject.show.place, *subject.show.aliases)
        words = frozenset(lower_words("\n".join((self.all, *show))))
        self.words = words.union(*(word.split("-") for word in words))
        self.stems = frozenset(map(stem, self.words))

    def knows(self, word: str) -> bool:
        """Whether it has a lower-case word, in any inflection or at the end of a compound."""
        known = nominative(word, self.words) in self.words or stem(word) in self.stems
        return known or any(other.endswith(word) for other in self.words)

    def person(self, name: str) -> Character | None:
        """Return the one person whom a name, or a part of it, means."""
        parts = {*lower_words(name)} - TITLES
        known = [(person, {*lower_words(person.name)} - TITLES) for person in self.people]
        fitting = [person for person, whole in known if parts <= whole or whole <= parts]
        return fitting[0] if len(fitting) == 1 else None


def lengths(subject: Subject) -> Finding | None:
    """A text told from a story in another length has its names, roles and numbers, and is no cut of it."""
    if subject.story is None:
        return None
    story, text = _Story(subject, subject.story), subject.text
    problems = [*_names(subject, story), *_roles(subject, story), *_numbers(text, story), *_cut(text, story)]
    messages = list(dict.fromkeys(message for message, _ in problems))
    if not messages:
        return passed("lengths", 0, _LIMIT, "The text agrees with its story.")
    spans = [span for _, span in problems if span is not None]
    return failed("lengths", len(messages), _LIMIT, " ".join(messages[:_MOST_PROBLEMS]), spans)


def _contradiction(here: str, there: str) -> str:
    return f"The text says „{here}“, its story „{there}“: keep to the story."


def _names(subject: Subject, story: _Story) -> _Problems:
    """Find names that the story does not have, or has otherwise."""
    text, reported = subject.text, set[str]()

    def problem(name: str, span: Span | None) -> tuple[str, Span | None]:
        parts = {*lower_words(name)}
        reported.update(parts)
        people = [person.name for person in story.people]
        alike = [other for other in people if not parts.isdisjoint(lower_words(other))]
        return f"The text names „{name}“, its story {quoted(alike or people)}: keep to the story.", span

    own = {parse_name(person.name) for person in subject.characters}
    for name, span in full_names(text, {*own, *story.full_names}):
        both = {story.owners.get(part, "") for part in name} - {""}
        lasts = {known.last for known in story.full_names if known.first == name.first and known.last}
        if not all(map(story.knows, name)) or len(both) > 1 or (lasts and name.last not in lasts):
            yield problem(text.raw[span.start : span.end], span)
    for person in subject.characters:
        parts = [word for word in lower_words(person.name) if word not in TITLES]
        if not all(map(story.knows, parts)) and reported.isdisjoint(parts):
            yield problem(person.name, None)
    for index, word in enumerate(text.words):
        is_new = word.form[0].isupper() and word.lower not in reported and not story.knows(word.lower)
        if is_new and _is_name(text, index):
            yield problem(word.form, word.span)


_DETERMINERS = frozenset("ART ADJA PPOSAT PDAT PIAT APPRART".split())


def _is_name(text: Text, index: int) -> bool:
    """Whether a capitalised word is a first name, or the text itself makes it a name."""
    word = text.words[index]
    if word.lower in own_words("first names"):
        return text.tags[index] == NAME or not index or text.tags[index - 1] not in _DETERMINERS
    return word.lower in text.names and not (is_noun(word.lower) or _calling(word.lower))


def _roles(subject: Subject, story: _Story) -> _Problems:
    """Find roles that the story does not give to a person."""
    told: defaultdict[str, dict[str, str]] = defaultdict(dict)  # by person and word, how it is put
    for person in story.people:
        words = [word for word in lower_words(person.role) if _calling(word)]
        name = " ".join(filter(None, parse_name(person.name)))
        told[story.owners.get(name.split()[0], name)] |= dict.fromkeys(words, f"{person.name}: {person.role}")
    for who, word, put in callings(story.text, story.owners):
        told[who].setdefault(word.lower, put)
    for person in subject.characters:
        known = story.person(person.name)
        nouns = {stem(word.lower()) for word in word_parts(person.role) if word[0].isupper()}
        if known and not nouns.issubset(stem(word.lower()) for word in word_parts(known.role)):
            yield _contradiction(f"{person.name}: {person.role}", f"{known.name}: {known.role}"), None
    for who, word, put in callings(subject.text, story.owners):
        own, here = told[who], _calling(word.lower)
        if any(other.endswith(word.lower) or stem(other) == stem(word.lower) for other in own):
            continue
        rival = next((other for other in own if _is_occupation(other) == _is_occupation(word.lower)), None)
        related = any(_calling(other) == here for other in story.words) and not _is_occupation(word.lower)
        if story.knows(word.lower) or related:  # of somebody else; a brother is a sister's
            if rival is not None and _is_occupation(rival):
                yield _contradiction(put, own[rival]), word.span
        elif own:
            yield _contradiction(put, own[rival or next(iter(own))]), word.span
        else:
            yield f"The text says „{put}“, of which its story says nothing: keep to the story.", word.span


def _is_occupation(word: str) -> bool:
    return occupation(word) is not None


@cache
def _calling(word: str) -> object:
    """Return what kind of occupation or kin a lower-case noun names; None for others."""
    kin = {
        other: number
        for number, line in enumerate(word_lists("occupations")["kin"])
        for other in line.split()
    }
    cuts = range(max(1, len(word) - 2))
    return occupation(word) or next((kin[word[cut:]] + 1 for cut in cuts if word[cut:] in kin), None)


# `Gesa, die junge Ärztin`, `Gesa arbeitet als Ärztin`, up to the last word
_BEFORE = re.compile(
    r"(?:(?P<first>[^\W\d_]+) )?(?P<name>[^\W\d_]+)"
    r"(?:, (?:als )?| \(|,? (?:ist|war|wird|bleibt|arbeitet) (?:als )?)"
    r"(?:(?!unter|über|hinter|neben|aber|oder)(?:(?:m|s)?ein|ihr|[a-zäöüß]+e[rns]?) )*$"
)


def callings(text: Text, people: Mapping[str, str]) -> Iterator[tuple[str, Word, str]]:
    """Yield a person, an occupation or kin that the text gives to that person, and both in its words."""
    for index, word in enumerate(text.words):
        if not word.form[0].isupper() or word.quoted or _calling(word.lower) is None:
            continue
        if who := person_after(text, index, people):
            after = text.words[index + 1 :]
            last = next(each for each in after if people.get(nominative(each.lower, people)) == who)
            yield who, word, text.raw[word.span.start : last.span.end]
            continue
        start = text.sentences[word.sentence].span.start
        before = _BEFORE.search(text.raw[start : word.span.start])
        for group in ("first", "name") if before else ():
            if before and (who := people.get(nominative((before[group] or "-").lower(), people), "")):
                yield who, word, text.raw[start + before.start(group) : word.span.end]
                break


class _Number(NamedTuple):
    """A number in digits or words, and the stem of what it counts; empty where that is not clear."""

    value: float
    unit: str
    is_exact: bool
    span: Span


def _numbers(text: Text, story: _Story) -> _Problems:
    """Find numbers that the story has otherwise, and exact ones that it does not have."""
    known = list(read_numbers(story.all))
    for number in read_numbers(text.raw):
        same_unit = [other for other in known if number.unit and other.unit == number.unit]
        if any(other.value == number.value for other in same_unit or ([] if number.unit else known)):
            continue
        if number.unit in _DAYS:
            spans = [other for other in known if other.unit in _DAYS]
            if any(other.value * _DAYS[other.unit] == number.value * _DAYS[number.unit] for other in spans):
                continue  # 21 days are three weeks
            same_unit = same_unit or [other for other in spans if other.value == number.value]
        here = text.raw[number.span.start : number.span.end]
        if same_unit:
            there = same_unit[0].span
            yield _contradiction(here, story.all[there.start : there.end]), number.span
        elif number.is_exact and all(other.value != number.value for other in known):
            yield f"The text says „{here}“, of which its story says nothing: keep to the story.", number.span


_SPACED = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:,\d+)?(?!\d)"
_TOKEN = re.compile(_SPACED + r"|\d+(?:[.,:]\d+)*(?:\.(?= [A-ZÄÖÜ]))?|[€%]|[^\W\d_]+|[.!?,;:–()„“”»«\n]")
_THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_DAYS = {
    stem(unit): days
    for unit, days in (("stunde", 1 / 24), ("tag", 1), ("woche", 7), ("monat", 30.5), ("jahr", 366))
}
_SIGNS = {"€": "euro", "%": stem("prozent")}
_MULTIPLES = {"tausend": 1e3, "million": 1e6, "millionen": 1e6, "milliarde": 1e9, "milliarden": 1e9}
_COUNTING = re.compile(r"(.*?)((?:jähr|täg|wöch|stünd|monat|köpf|stöck)ig\w*|mal(?:s|ig\w*)?)")
_FARTHEST = 4  # tokens from a number to what it counts


def read_numbers(raw: str) -> Iterator[_Number]:
    """Yield the numbers of a text, in digits or words, with what they count."""
    tokens = list(_TOKEN.finditer(raw))
    for index, token in enumerate(tokens):
        value, unit = number_value(token[0])
        is_multiple = token[0].lower() in _MULTIPLES and index and tokens[index - 1][0][0].isdigit()
        if value is None or is_multiple:
            continue
        last = token
        for following in tokens[index + 1 : index + 1 + _FARTHEST] if not unit else ():
            word = following[0].lower()
            counted = _COUNTING.fullmatch(word)
            if word in _MULTIPLES:
                value, last = value * _MULTIPLES[word], following
            elif word in _SIGNS or counted or following[0][0].isupper():
                unit = _SIGNS.get(word) or stem(counted[2] if counted and not counted[1] else word)
                last = following
                break
            elif not word[0].isalpha():
                break
        is_exact = token[0][0].isdigit() or value > _LARGEST_VAGUE
        yield _Number(value, unit, is_exact, Span(token.start(), last.end()))


def number_value(token: str) -> tuple[float | None, str]:
    """Return the number that a token is, and what it counts where it says so, as `siebzehnjährige` does."""
    if token[0].isdigit():
        digits = re.sub(r"\s", "", token).rstrip(".").replace(":", ".")
        digits = digits.replace(".", "") if _THOUSANDS.fullmatch(digits) else digits
        try:
            return float(digits.replace(",", ".")), ""
        except ValueError:
            return None, ""  # a date
    word = token.lower().replace("dreissig", "dreißig")
    unit = ""
    if (match := _COUNTING.fullmatch(word)) and match[1]:
        word, unit = match[1], stem(match[2])
    head, thousand, rest = word.partition("tausend")
    known = _number_words()
    if thousand:
        parts = known.get(head, None if head else 1), known.get(rest.removeprefix("und"), None if rest else 0)
        return (None if None in parts else (parts[0] or 0) * 1000 + (parts[1] or 0)), unit
    return known.get(word), unit


_ONES = (
    "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
).split()
_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
_ODD_ORDINALS = {"dritt": 3, "siebt": 7, "acht": 8}


@cache
def _number_words() -> Mapping[str, int]:
    """Return the numbers from 2 to 999 by their German words, ordinals among them; 1 is an article."""
    words = {word: number for number, word in enumerate(_ONES, 1)}
    for ten, word in zip(range(20, 100, 10), _TENS, strict=True):
        words |= {f"{one}und{word}": ten + digit for digit, one in enumerate(_ONES[:9], 1)}
        words[word] = ten
    below = {"": 0, **words}
    for digit, one in (*enumerate(_ONES[:9], 1), (1, "")):
        words |= {f"{one}hundert{word}": digit * 100 + number for word, number in below.items()}
    del words["ein"]
    roots = {f"{word}{'t' if word in _ONES else 'st'}": number for word, number in words.items()}
    roots = {root: number for root, number in roots.items() if number not in _ODD_ORDINALS.values()}
    ordinals = (roots | _ODD_ORDINALS).items()
    return {**{root + end: number for root, number in ordinals for end in "e en er es em".split()}, **words}


def _cut(text: Text, story: _Story) -> _Problems:
    """Find a text all whose sentences are the story's own, or the beginnings of them."""
    sentences = [sentence.text.rstrip(" .!?…“”") for sentence in text.sentences]
    if sentences and all(sentence in story.text.raw for sentence in sentences):
        yield "All its sentences are those of the story: write it anew for its length.", None
