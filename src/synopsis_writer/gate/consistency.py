"""The check of consistency: contradictions in a text that code can find for certain."""

import calendar
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import pairwise

from rapidfuzz.distance import OSA

from synopsis_writer.gate.cast import Name, callings, kin_words, nominative, occupation, owners, parse_name
from synopsis_writer.gate.finding import Finding, Subject, judged, say
from synopsis_writer.gate.lexicon import commonness, own_words, pattern, word_lists
from synopsis_writer.gate.numbers import number_range, number_value
from synopsis_writer.gate.text import NAME, Span, Text, is_noun, lower_words, word_parts

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
