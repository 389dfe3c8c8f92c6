"""The checks consistency and lengths: contradictions, within a text and with the story that it retells."""

import calendar
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz.distance import OSA

from synopsis_writer.gate.cast import (
    Kin,
    Name,
    calling,
    callings,
    full_names,
    kin,
    kin_words,
    nominative,
    occupation,
    owners,
    parse_name,
)
from synopsis_writer.gate.finding import Finding, Subject, Wording, judged, say
from synopsis_writer.gate.lexicon import TITLES, commonness, own_words, pattern, stem, word_lists
from synopsis_writer.gate.text import DETERMINERS, NAME, Span, Text, analyse, is_noun, lower_words, word_parts
from synopsis_writer.synopsis import Synopsis

_IN_DAYS: Mapping[str, tuple[float, float]] = {  # at least and at most, by the unit's stem
    "sekund": (1 / 86_400, 1 / 86_400),
    "minut": (1 / 1_440, 1 / 1_440),
    "stund": (1 / 24, 1 / 24),
    "tag": (1, 1),
    "woch": (7, 7),
    "monat": (28, 31),
    "jahr": (360, 366),
}
_ABOUT = {"about": (0.85, 1.15), "more than": (1.0, 1.25), "less than": (0.8, 1.0)}  # `gut` means 42, not 60
_BEFORE = 24  # characters that hold what says that a number is about right
_SIGNS = {"€": "euro", "%": "prozent"}
_MULTIPLES = {"dutzend": 12, "tausend": 1e3, "million": 1e6, "millionen": 1e6}
_MULTIPLES |= {"milliarde": 1e9, "milliarden": 1e9}
_FARTHEST = 4  # tokens from a number to what it counts

_ONES = "ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
_ONES += "dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn".split()
_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
_ODD_ORDINALS = {"dritt": 3, "siebt": 7, "acht": 8}
_CASES = "e en er es em".split()


class Number(NamedTuple):
    """A number that is at least `low` and at most `high`."""

    value: float
    low: float
    high: float
    unit: str  # the stem of what it counts; empty where that is not clear
    span: Span

    @property
    def in_days(self) -> "Number":
        """A duration in days; any other number as it is."""
        least, most = _IN_DAYS.get(self.unit, (1, 1))
        unit = "tag" if self.unit in _IN_DAYS else self.unit
        return self._replace(low=self.low * least, high=self.high * most, unit=unit)


def read_numbers(raw: str) -> Iterator[Number]:
    """Yield the numbers of a text with what they count."""
    tokens = list(pattern("number or word").finditer(raw))
    for index, token in enumerate(tokens):
        value, unit = number_value(token[0])
        is_multiple = token[0].lower() in _MULTIPLES and index
        if value is None or (is_multiple and number_value(tokens[index - 1][0])[0] is not None):
            continue
        last, words = token, {token[0].lower()}
        for following in tokens[index + 1 : index + 1 + _FARTHEST] if not unit else ():
            word = following[0].lower()
            counted = pattern("what is counted").fullmatch(word)
            words.add(word)
            if word in _MULTIPLES:
                value, last = value * _MULTIPLES[word], following
            elif word in _SIGNS or counted or following[0][0].isupper():
                unit = _SIGNS.get(word) or stem(counted[2] if counted and not counted[1] else word)
                last = following
                break
            elif not word[0].isalpha():
                break
        if token[0].lower() not in _fractions() or unit in _IN_DAYS or "dutzend" in words:
            low, high = number_range(value, raw[: token.start()], unit)
            if "dutzend" in words and low == high:
                low, high = (value * end for end in _ABOUT["about"])
            yield Number(value, low, high, unit, Span(token.start(), last.end()))


def number_range(value: float, before: str, unit: str = "") -> tuple[float, float]:
    """Return between what a number lies by the words before it: `gut vierzig` is 40 to 50."""
    near = before[-_BEFORE:]
    low, high = next((ends for name, ends in _ABOUT.items() if pattern(name).search(near)), (1.0, 1.0))
    if unit == "uhr":  # `gegen acht` is half an hour
        return value - 0.5 * (low < 1), value + 0.5 * (high > 1)
    return value * low, value * high


@lru_cache(maxsize=20_000)
def number_value(token: str) -> tuple[float | None, str]:
    """Return the number that a token is, and what it counts where it says so, as `siebzehnjährige` does."""
    if token[0].isdigit():
        digits = re.sub(r"\s", "", token).rstrip(".").replace(":", ".")
        digits = digits.replace(".", "") if pattern("thousands").fullmatch(digits) else digits
        digits = digits.replace(",", ".")
        return (float(digits) if re.fullmatch(r"\d+(?:\.\d+)?", digits) else None), ""  # or it is a date
    word, unit = token.lower().replace("dreissig", "dreißig"), ""
    if (match := pattern("what is counted").fullmatch(word)) and match[1]:
        word, unit = match[1], stem(match[2])
    known = _number_words()
    head, thousand, rest = word.partition("tausend")
    if not thousand or word in known:
        return known.get(word), unit
    parts = known.get(head, None if head else 1), known.get(rest.removeprefix("und"), None if rest else 0)
    return (None if None in parts else (parts[0] or 0) * 1000 + (parts[1] or 0)), unit


@cache
def _number_words() -> Mapping[str, float]:
    """Return halves, and 2 to 999 by their German words, ordinals among them; 1 is an article."""
    words: dict[str, float] = {word: number for number, word in enumerate(_ONES, 1)}
    for ten, word in zip(range(20, 100, 10), _TENS, strict=True):
        words |= {f"{one}und{word}": ten + digit for digit, one in enumerate(_ONES[:9], 1)}
        words[word] = ten
    below = {"": 0.0, **words}
    for digit, one in (*enumerate(_ONES[:9], 1), (1, "")):
        words |= {f"{one}hundert{word}": digit * 100 + number for word, number in below.items()}
    del words["ein"]
    roots = {f"{word}{'t' if word in _ONES else 'st'}": number for word, number in words.items()}
    roots = {root: number for root, number in roots.items() if number not in _ODD_ORDINALS.values()}
    ordinals = (roots | _ODD_ORDINALS).items()
    words |= {root + end: number for root, number in ordinals for end in _CASES} | _fractions()
    return words | {"dutzend": 12}


@cache
def _fractions() -> dict[str, float]:
    """Return halves and the like by their German words; `halb` alone is a time, or nothing to count."""
    halves = {f"{one}einhalb": digit + 0.5 for digit, one in enumerate(_ONES[:9], 1)}
    return {**halves, **{f"halb{end}": 0.5 for end in _CASES}, "anderthalb": 1.5, "dreiviertel": 0.75}


_SHORTEST_NAME = 5  # letters: of shorter ones too many differ by one
_COMMON = 3.0  # Zipf frequency from which on a word that is near a name is a word of its own
_OLDEST = 115  # years

_Problems = Iterator[tuple[Span, str]]  # where it stands, and what contradicts it; empty: it cannot be at all
_NEAR = 20  # characters
_UMLAUTS = str.maketrans("äöü", "aou")

_DAYS = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()
_WEEKDAYS = {name: number for number, name in enumerate(_DAYS)} | {"Sonnabend": 5}
_MONTHS = word_lists("patterns")["month"][0].split("|")
_LEAP_YEAR = 2024  # which has all days
_HALF_DAY = 12 * 60  # minutes: 9 bis 2 Uhr are five hours


class _People:
    """Whom the answer lists, and these with the cast by their roles."""

    def __init__(self, subject: Subject) -> None:
        self.given_words = subject.given_words
        self.listed = {parse_name(full) for full in subject.people}
        cast = {parse_name(member.name): member.role for member in subject.show.cast}
        own = {parse_name(person.name): person.role for person in subject.characters}
        self.roles = dict.fromkeys(self.listed, "") | cast | own
        self.owners = owners(self.roles)  # whom each single name means


def consistency(subject: Subject) -> Finding:
    """Nothing in the text contradicts the list of its people, itself, or the calendar."""
    people, text = _People(subject), subject.text
    found = dict(sorted(problem for find in _FINDERS for problem in find(people, text)))
    pairs = [f"„{text.raw[slice(*span)]}“{f' ≠ „{other}“' if other else ''}" for span, other in found.items()]
    problem = say("consistency", pairs=", ".join(pairs)) if found else None
    return judged("consistency", len(found), say("limit consistency"), problem, list(found))


def _names(people: _People, text: Text) -> _Problems:
    """Find words that are one letter off a name, and a last name with another first name."""
    known: defaultdict[str, set[str]] = defaultdict(set)  # by their first letters
    for part in (part for name in people.roles for part in name if len(part) >= _SHORTEST_NAME):
        known[part[0]].add(part)
    lasts = {name.last for name in people.roles} - {""}
    for index, word in enumerate(text.words):
        if not word.form[0].isupper():
            continue
        if (last := nominative(word.lower, lasts)) in lasts and index:
            yield from _other_first_name(people, text, index - 1, last)
        if word.lower[0] in known and word.lower not in people.given_words:
            near = (name for name in known[word.lower[0]] if _is_misspelt(word.lower, name))
            if name := next(near, None):
                yield word.span, name.title()


def _other_first_name(people: _People, text: Text, index: int, last: str) -> _Problems:
    first, word = text.words[index : index + 2]
    name = Name(first.lower, last)
    namesakes = [other for other in people.listed if other.last == last and other.first]
    is_new = text.tags[index] == NAME and not is_noun(first.lower)
    is_name = first.form[0].isupper() and (is_new or first.lower in own_words("first names"))
    is_clear = len(namesakes) == 1 and name not in people.roles and text.counts[name.first] == 1
    if not is_name or not is_clear or text.raw[first.span.end : word.span.start] != " ":
        return
    sentence = text.sentences[word.sentence]
    around = [*text.words[max(sentence.first, index - 1) : index], *text.words[index + 2 : sentence.last][:1]]
    called = {each.lower for each in around} & {*lower_words(people.roles[namesakes[0]])}
    is_same = called or OSA.distance(first.lower, namesakes[0].first, score_cutoff=1) == 1
    is_second = text.counts[namesakes[0].first] and not is_same
    if not is_second and kin_words().keys().isdisjoint(each.lower for each in text.words_of(sentence)):
        yield Span(first.span.start, word.span.end), " ".join(namesakes[0]).title()


def _is_misspelt(word: str, name: str) -> bool:
    forms = {word, word.removesuffix("s")} - {name.removesuffix("s")}  # the list may have a genitive
    forms = {each for each in forms if OSA.distance(each, name, score_cutoff=1) == 1}
    return any(commonness(each) < _COMMON and each not in own_words("first names") for each in forms)


def _callings(people: _People, text: Text) -> _Problems:
    """Find a person who is called what the role excludes: another field, or a man's calling for a woman's."""
    for who, word, put in callings(text, people.owners):
        before = text.raw[: word.span.start].rpartition(".")[2][-_NEAR:]
        if any(map(pattern("not a calling").search, (put, before))):
            continue
        role, here = people.roles[who], occupation(word.lower)
        listed = [known for part in word_parts(role) if (known := occupation(part.lower()))]
        if here and listed and here not in listed:
            has_other_field = here.field not in {known.field for known in listed}
            if has_other_field or all(known.is_woman != here.is_woman for known in listed):
                yield word.span, role


def _nouns(role: str) -> list[str]:
    return [word for word in word_parts(role) if word[0].isupper()]


def _genders(people: _People, text: Text) -> _Problems:
    """Find a subject with a calling of the other gender than that of the one person who has it."""
    nouns = {word.lower() for role in people.roles.values() for word in _nouns(role)}
    right: dict[tuple[str, str], tuple[str, Name]] = {}  # by the wrong article and calling
    for person, noun in ((each, noun) for each in people.listed for noun in _nouns(people.roles[each])):
        root = noun.lower().removesuffix("in")
        if root != noun.lower():
            article, others = "der", {root, root + "e", root.translate(_UMLAUTS)}
        else:
            article, others = "die", {root.removesuffix("e") + "in"}
        right |= {(article, other): (noun, person) for other in others - nouns}
    for index, (before, word) in enumerate(pairwise(text.words)):
        known = right.get((before.lower, word.lower)) if word.form[0].isupper() else None
        if known is None or before.sentence != word.sentence:
            continue
        (noun, name), sentence = known, text.sentences[word.sentence]
        is_subject = index == sentence.first or text.tags[index - 1].endswith("(FIN)")
        first = text.paragraphs[sentence.paragraph].start
        words = (each for each in text.words[: sentence.last] if each.span.start >= first)
        if is_subject and any(nominative(each.lower, name) in name for each in words):
            yield Span(before.span.start, word.span.end), noun


def _pronouns(people: _People, text: Text) -> _Problems:
    """Find a man at the beginning of a sentence who is `die` in its relative clause."""
    for sentence in text.sentences:
        words = text.words_of(sentence)
        who = people.owners.get(words[0].lower) if len(words) > 1 else None
        if who and text.raw[words[0].span.end : words[1].span.end] == ", die":
            role = people.roles[who]
            if any(pattern("calling of a man").search(noun) for noun in _nouns(role)[:1]):
                yield Span(words[0].span.start, words[1].span.end), role


def _ages(people: _People, text: Text) -> _Problems:
    """Find a person with two ages, in a text that does not go over years."""
    ages: dict[Name, tuple[float, float, str]] = {}
    for sentence in text.sentences if not pattern("years later").search(text.raw) else ():
        for match in pattern("age").finditer(sentence.text):
            name = match["name"] or match["before"]
            if name and match[0].endswith("alt") and name.lower() not in people.owners:
                name = None  # `um einen Titel, zwanzig Jahre alt`
            words = lower_words(name or sentence.text[: match.end()])
            named = {people.owners.get(nominative(word, people.owners)) for word in words} - {None}
            is_clear = len(named) == 1 and (name or kin_words().keys().isdisjoint(words))
            who = next(iter(named)) if is_clear else None
            group = next(group for group in ("age", "aged", "years", "old") if match[group])
            age, _ = number_value(match[group])
            if not who or not age or age >= _OLDEST:
                continue
            low, high = number_range(age, sentence.text[: match.start(group)])
            first = ages.setdefault(who, (low, high, match[0]))
            if not (low <= first[1] and first[0] <= high):
                yield Span(*(sentence.span.start + end for end in match.span())), first[2].strip(", ")


def _counts(_: _People, text: Text) -> _Problems:
    """Find things that are there already, and more of them than before."""
    most: dict[str, tuple[float, str]] = {}  # of each thing
    for match in pattern("number of things").finditer(text.raw):
        noun, start = match["noun"], match.start("number")
        if not (value := number_value(match["number"])[0]) or pattern("measure").fullmatch(noun):
            continue
        before, words = most.get(noun, (0, ""))
        if match["the"] and not match["others"] and 0 < before < value:
            yield Span(start, match.end("noun")), words
        high = number_range(value, text.raw[:start])[1]
        most[noun] = max((before, words), (high, f"{match['number']} {noun}"))


def _dates(_: _People, text: Text) -> _Problems:
    """Find dates and times that cannot be, and those that do not fit their weekday or the day before."""
    for match in pattern("day of a month").finditer(text.raw):
        month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
        year = int(match["year"] or _LEAP_YEAR)
        if not 1 <= day <= calendar.monthrange(year, month)[1]:
            yield Span(*match.span()), ""
        elif match["weekday"] and match["year"]:
            weekday = date(year, month, day).weekday()
            if weekday != _WEEKDAYS[match["weekday"]]:
                yield Span(*match.span()), _DAYS[weekday]
    years = (match for match in pattern("from year to year").finditer(text.raw) if match[1] > match[2])
    for match in (*pattern("impossible time").finditer(text.raw), *years):
        yield Span(*match.span()), ""
    days = list(pattern("name of a day").finditer(text.raw))
    for match in pattern("later day").finditer(text.raw) if days else ():
        later = number_value(match["days"])[0] if match["days"] else 1
        sentence = text.raw.rfind(". ", 0, match.start()) + 1
        before = [day for day in days if day.start() < match.start()]
        before = [day for day in before if day.start() >= sentence] or before
        if len(before) == 1 and later and (_WEEKDAYS[before[0][0]] + later - _WEEKDAYS[match["day"]]) % 7:
            yield Span(*match.span()), before[0][0]


def _durations(_: _People, text: Text) -> _Problems:
    """Find a duration in a sentence that says from when to when, by the clock or by weekdays."""
    for sentence in text.sentences if pattern("lasting").search(text.raw) else ():
        lasting = list(pattern("lasting").finditer(sentence.text))
        clocks = list(pattern("from time to time").finditer(sentence.text))
        weeks = list(pattern("from day to day").finditer(sentence.text))
        value = number_value(lasting[0][1])[0] if len(lasting) == 1 == len(clocks) + len(weeks) else None
        if value is None or (lasting[0][2] == "Tage") != bool(weeks):
            continue
        low, high = number_range(value, sentence.text[: lasting[0].start()])
        if weeks:
            days = _WEEKDAYS[weeks[0][2]] - _WEEKDAYS[weeks[0][1]]
            possible = [float(days + more) for more in (0, 1, 7, 8, 14, 15)]
        else:
            one = 60 if lasting[0][2].startswith("Stunde") else 1
            first, minute, last, last_minute = (int(part or 0) for part in clocks[0].groups())
            minutes = ((last - first) * 60 + last_minute - minute) % _HALF_DAY
            possible = [(minutes + more) / one for more in (0, _HALF_DAY, 2 * _HALF_DAY)]
        if not any(low <= each <= high for each in possible):
            yield Span(*(sentence.span.start + end for end in lasting[0].span())), (*clocks, *weeks)[0][0]


_FINDERS = (_names, _callings, _genders, _pronouns, _ages, _counts, _dates, _durations)


_MOST_PROBLEMS = 5  # in one message
_CLOSE = 1 + 1e-9
_LARGEST_VAGUE = 12  # up to which a number may count what the story lists

_Differences = Iterator[tuple[Wording, Span | None]]


class _Story:
    """What the story says, and who is who in both texts."""

    def __init__(self, subject: Subject, story: Synopsis) -> None:
        self.people, self.text = story.characters, analyse(story.text)
        declared = {parse_name(person.name) for person in self.people}
        self.full_names = {*(name for name, _ in full_names(self.text, declared)), *declared}
        known = {part for name in self.full_names for part in name}
        firsts = {word.lower for word in self.text.words if word.form[0].isupper()} & own_words("first names")
        self.full_names |= {Name(first, "") for first in firsts - known}
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


def lengths(subject: Subject) -> Finding | None:
    """A text told from a story in another length has its names, roles and numbers, and is no cut of it."""
    if subject.story is None:
        return None
    story, text = _Story(subject, subject.story), subject.text
    problems = [*_new_names(subject, story), *_roles(subject, story), *_numbers(text, story)]
    sentences = [sentence.text.rstrip(" .!?…“”") for sentence in text.sentences]
    # Beginnings of the story's sentences are cut out of it, too.
    if sentences and all(sentence in story.text.raw for sentence in sentences):
        problems.append((say("mere cut"), None))
    wordings: list[Wording] = []
    for wording, _ in problems:
        wordings += [wording] * (wording not in wordings)
    problem = say("lengths", problems=wordings[:_MOST_PROBLEMS]) if problems else None
    spans = [span for _, span in problems if span is not None]
    return judged("lengths", len(wordings), say("limit lengths"), problem, spans)


def _new_names(subject: Subject, story: _Story) -> _Differences:
    """Find names that the story does not have, or has otherwise."""
    text, reported = subject.text, set[str]()

    def problem(name: str, span: Span | None) -> tuple[Wording, Span | None]:
        parts = {*lower_words(name)}
        reported.update(parts)
        people = [person.name for person in story.people]
        alike = [other for other in people if not parts.isdisjoint(lower_words(other))]
        return say("other name", here=name, words=alike or people), span

    own = {parse_name(person.name) for person in subject.characters}
    for name, span in full_names(text, {*own, *story.full_names}):
        both = {story.owners.get(part) for part in name} - {None}
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


def _is_name(text: Text, index: int) -> bool:
    """Whether a capitalised word is a first name, or the text itself makes it a name."""
    word = text.words[index]
    if word.lower in own_words("first names"):
        return text.tags[index] == NAME or not index or text.tags[index - 1] not in DETERMINERS
    return word.lower in text.names and not (is_noun(word.lower) or calling(word.lower))


def _roles(subject: Subject, story: _Story) -> _Differences:
    """Find roles that the story does not give to a person."""
    told: defaultdict[Name, dict[str, str]] = defaultdict(dict)  # by person and word, how it is put
    for person in story.people:
        words = [word for word in lower_words(person.role) if calling(word)]
        name = parse_name(person.name)
        who = story.owners.get(name.first or name.last, name)
        told[who] |= dict.fromkeys(words, f"{person.name}: {person.role}")
    for who, word, put in callings(story.text, story.owners):
        told[who].setdefault(word.lower, put)
    for person in subject.characters:
        parts = {*lower_words(person.name)} - TITLES
        wholes = [(each, {*lower_words(each.name)} - TITLES) for each in story.people]
        same = [each for each, whole in wholes if parts <= whole or whole <= parts]
        known = same[0] if len(same) == 1 else None
        nouns = {stem(word.lower()) for word in word_parts(person.role) if word[0].isupper()}
        if known and not nouns.issubset(stem(word.lower()) for word in word_parts(known.role)):
            here, there = (f"{each.name}: {each.role}" for each in (person, known))
            yield say("contradiction", here=here, there=there), None
    for who, word, put in callings(subject.text, story.owners):
        own, here = told[who], word.lower
        if any(other.endswith(here) or stem(other) == stem(here) for other in own):
            continue
        is_occupation = occupation(here) is not None
        rival = next((other for other in own if (occupation(other) is not None) == is_occupation), None)
        is_related = not is_occupation and any(calling(other) == calling(here) for other in story.words)
        if story.knows(here) or is_related:  # of somebody else; a brother is a sister's
            if rival is not None and (is_occupation or _is_turned(here, who, told, story)):
                yield say("contradiction", here=put, there=own[rival]), word.span
        elif own:
            yield say("contradiction", here=put, there=own[rival or next(iter(own))]), word.span
        else:
            yield say("not in the story", here=put), word.span


def _is_turned(word: str, who: Name, told: Mapping[Name, Mapping[str, str]], story: _Story) -> bool:
    """Whether a word makes a child of the story a parent, of whom it has no child, or the other way round."""
    own, named = {kin(other) for other in told[who]}, kin(word)
    if named is None or not named.end or named in own or Kin(named.line, -named.end) not in own:
        return False
    others = (story.words - told[who].keys()).union(*(told[person] for person in told if person != who))
    return all((known := kin(other)) is None or known.end != -named.end for other in others)


def _numbers(text: Text, story: _Story) -> _Differences:
    """Find numbers that the story has otherwise, and exact ones that it does not have."""
    known = [(each, each.in_days) for each in read_numbers(story.all)]
    for number in read_numbers(text.raw):
        here, days = text.raw[slice(*number.span)], number.in_days
        same = [(each, in_days) for each, in_days in known if days.unit and in_days.unit == days.unit]
        rivals = same or (() if number.unit else known)
        if any(days.low <= each.high * _CLOSE and each.low <= days.high * _CLOSE for _, each in rivals):
            continue
        alike = [each for each, _ in same if each.unit == number.unit]
        if not alike:
            alike = [each for each, _ in same if each.value == number.value or each.value % 1 or number.value % 1]
        is_exact = number.low == number.high and (here[0].isdigit() or number.value > _LARGEST_VAGUE)
        if alike:
            there = story.all[slice(*alike[0].span)]
            yield say("contradiction", here=here, there=there), number.span
        elif is_exact and all(each.value != number.value for each, _ in known):
            yield say("not in the story", here=here), number.span
