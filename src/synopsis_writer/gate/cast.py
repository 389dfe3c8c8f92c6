"""The check of people: the cast of brief and show, names and occupations."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

from synopsis_writer.gate import lexicon
from synopsis_writer.gate.finding import Finding, Subject, Wording, judged, say
from synopsis_writer.gate.lexicon import own_words, pattern, word_lists
from synopsis_writer.gate.text import NAME, Span, Text, Word, is_noun, lower_words

NAMED_SHARE = 0.8  # share of the brief's people that must turn up
MOST_UNDECLARED = 3  # full names that neither brief nor cast nor answer gives
_Problem = tuple[Wording, Sequence[Span]]  # of a finding
_Mentions = Sequence[tuple["Name", Span]]  # of people by first and last name
_NO_NAMES = lexicon.TITLES | lexicon.ADDRESSES
_GENITIVE = re.compile(r"[’']?s$|[’']$")
_LISTED = 2.0  # Zipf frequency of a woman's calling that makes its man's one, and of a noun that is no name
Value = TypeVar("Value")


class Name(NamedTuple):
    """A name in lower case; one of the two is empty when only the other is known."""

    first: str
    last: str


def cast(subject: Subject) -> Finding:
    """The brief's people turn up, no other show's, few unknown ones; nobody changes name or occupation."""
    share, missing = named(subject)
    limit = say("limit cast", share=NAMED_SHARE, most=MOST_UNDECLARED)
    if share < NAMED_SHARE:
        return judged("cast", share, limit, say("missing people", words=missing))
    declared = {parse_name(full) for full in subject.known_names}
    mentions = full_names(subject.text, declared)
    people = owners({*declared, *(name for name, _ in mentions)})
    problem = _strangers(subject, declared) or _renamed(subject, mentions, declared)
    problem = problem or _other_occupations(subject, people) or _undeclared(subject, mentions)
    return judged("cast", share, limit, *(problem or ()))


def named(subject: Subject) -> tuple[float, list[str]]:
    """Return the share of the brief's people whom the text names, and those whom it does not."""
    # One of the two names will do, in the genitive as well; a last name only if no two people share it.
    everyone = {parse_name(full) for full in subject.known_names}
    words = subject.text.counts
    missing: list[str] = []
    for full in subject.wanted_names:
        first, last = parse_name(full)
        is_shared = len({name.first for name in everyone if name.last == last and name.first}) > 1
        is_named = _turns_up(first, words) or (_turns_up(last, words) and not is_shared)
        missing += [full] * (not is_named and full not in subject.text.raw)
    return (1 - len(missing) / len(subject.wanted_names) if subject.wanted_names else 1.0), missing


def _turns_up(name: str, words: Collection[str]) -> bool:
    return bool(name) and any(name + ending in words for ending in ("", "s", "’s", "'s", "es", "’", "'"))


def _strangers(subject: Subject, declared: Collection[Name]) -> _Problem | None:
    """Find people of another show, whom only the brief may ask for; of its doctors the last names will do."""
    text = subject.text
    strangers = {parse_name(full): "Dr." in full for full in subject.strangers}
    uninvited = {name for name in strangers if not subject.brief_words.issuperset(name)}
    full = {name for name in uninvited if name.first and name.last}
    doctors = {name.last for name in uninvited if strangers[name]}
    doctors -= {name.last for name in declared if name not in strangers}
    lasts = {name.last for name in full} | doctors
    spans = [
        Span(first.span.start, last.span.end)
        for first, last in pairwise(text.words)
        if (base := nominative(last.lower, lasts)) in lasts
        and (Name(first.lower, base) in full or (base in doctors and first.lower in lexicon.TITLES))
    ]
    problem = say("strangers", words=[text.raw[slice(*span)] for span in spans])
    return (problem, spans) if spans else None


def _renamed(subject: Subject, mentions: _Mentions, declared: Collection[Name]) -> _Problem | None:
    """Find a first name that goes with two last names, unless these are two declared people."""
    given = {parse_name(full) for full in (*subject.wanted_names, *subject.people)}
    names = {name for name, _ in mentions} | {name for name in given if name.first and name.last}
    for name, span in mentions:
        others = [other for other in names if other.first == name.first and other != name]
        if name not in declared and others and not _are_two(subject.text, name, span, others):
            spans = [span, *(its for other, its in mentions if other in others)]
            return say("other last name", words=[subject.text.raw[slice(*each)] for each in spans]), spans
    return None


def _are_two(text: Text, name: Name, span: Span, others: Collection[Name]) -> bool:
    """Whether two last names are two people's: they share a sentence, alternate, or are told apart."""
    sentence = next(s for s in text.sentences if s.span.contains(span.start))
    words, lasts = [word.lower for word in text.words], {other.last for other in others}
    here = words[sentence.first : sentence.last]
    if pattern("namesake").search(sentence.text) or any(_turns_up(last, here) for last in lasts):
        return True
    own = [index for index, word in enumerate(words) if word == name.last]
    return any(word in lasts and own[0] < index < own[-1] for index, word in enumerate(words))


def _other_occupations(subject: Subject, people: Mapping[str, Name]) -> _Problem | None:
    """Find a person with occupations of two fields, or a man's and a woman's, right before the name."""
    text = subject.text
    roles = {parse_name(member.name): member.role.lower() for member in subject.show.cast}
    seen: dict[Name, tuple[Occupation, Word]] = {}
    for index, word in enumerate(text.words):
        known = occupation(word.lower) if word.form[0].isupper() and not word.quoted else None
        person = person_after(text, index, people) if known else None
        before_it = text.words[index - 1].lower if index else ""
        if known is None or person is None or pattern("not now").match(before_it):
            continue
        before, first = seen.setdefault(person, (known, word))
        role = roles.get(person, "")
        if before != known and not (first.lower in role and word.lower in role):
            return say("other calling", words=[first.form, word.form]), [first.span, word.span]
    return None


def _undeclared(subject: Subject, mentions: _Mentions) -> _Problem | None:
    """Find more than a few full names that nobody gave."""
    new = {name: span for name, span in reversed(mentions) if subject.given_words.isdisjoint(name)}
    spans = sorted(new.values())
    problem = say("undeclared people", n=len(spans), words=[subject.text.raw[slice(*span)] for span in spans])
    return (problem, spans) if len(spans) > MOST_UNDECLARED else None


def owners(names: Collection[Name]) -> Mapping[str, Name]:
    """Return whom each single name means; names of several people are left out."""
    counts = Counter(word for name in {*names} for word in {*name})
    return {word: name for name in names for word in name if word and counts[word] == 1}


def person_after(text: Text, index: int, people: Mapping[str, Name]) -> Name | None:
    """Return whom the words right after an occupation name, titles skipped."""
    words = text.words
    following = index + 1
    while following < len(words) and words[following].lower in lexicon.TITLES:
        following += 1
    if following >= len(words) or words[following].sentence != words[index].sentence:
        return None
    between = text.raw[words[index].span.end : words[following].span.start]
    if any(mark in between for mark in ",;:–„"):
        return None
    name = words[following : following + 2]  # `Koch passt. Tina` and `Koch hilft Tina` are two people
    if not name[0].form[0].isupper() or name[-1].sentence != name[0].sentence:
        name = name[:1]
    return next(filter(None, (people.get(nominative(word.lower, people)) for word in name)), None)


def callings(text: Text, people: Mapping[str, Name]) -> Iterator[tuple[Name, Word, str]]:
    """Yield a person, an occupation or kin that the text gives to that person, and both in its words."""
    for index, word in enumerate(text.words):
        if not word.form[0].isupper() or word.quoted or calling(word.lower) is None:
            continue
        if who := person_after(text, index, people):
            after = text.words[index + 1 :]
            last = next(each for each in after if people.get(nominative(each.lower, people)) == who)
            yield who, word, text.raw[word.span.start : last.span.end]
            continue
        start = text.sentences[word.sentence].span.start
        before = pattern("person before a calling").search(text.raw[start : word.span.start])
        for group in ("first", "name") if before else ():
            if before and (who := people.get(nominative((before[group] or "-").lower(), people))):
                yield who, word, text.raw[start + before.start(group) : word.span.end]
                break


@lru_cache(maxsize=20_000)
def parse_name(full: str) -> Name:
    """Return both names of `Prof. Dr. Karin Patzelt`; of `Dr. Bar` the last, of `Fladi` the first."""
    words = lower_words(full)
    plain = [word for word in words if word not in _NO_NAMES] or words
    if len(plain) > 1:
        return Name(plain[0], plain[-1])
    alone = "".join(plain)
    return Name("", alone) if len(words) > len(plain) else Name(alone, "")


def nominative(word: str, known: Collection[str]) -> str:
    """Return a name without its genitive ending, if that is a known name and the word itself is not."""
    if word in known or word[-1] not in "s'’":
        return word
    base = _GENITIVE.sub("", word)
    return base if base in known else word


def full_names(text: Text, people: Collection[Name]) -> _Mentions:
    """Return where a first and a last name, of `people` or tagged so, are side by side in the nominative."""
    # After a preposition of place they name a town, before a word such as `GmbH` a firm.
    firsts = {name.first for name in people} - {""}
    lasts = {name.last for name in people} - {""}
    given = own_words("first names")
    all_firsts, place_or_firm = given | firsts, pattern("around a place or firm")
    found: list[tuple[Name, Span]] = []
    for index, (first, last) in enumerate(pairwise(text.words)):
        if not (first.form[0].isupper() and last.form[0].isupper()):
            continue
        before = text.words[index - 1] if index else first
        after = text.words[index + 2].lower if index + 2 < len(text.words) else ""
        around = f"{before.lower if index else ''}|{after}"
        if text.raw[first.span.end : last.span.start] != " " or place_or_firm.fullmatch(around):
            continue
        if lexicon.ROMAN_NUMERAL.fullmatch(last.form) or min(len(first.form), len(last.form)) == 1:
            continue  # Friedrich II., Peter K.
        base = _GENITIVE.sub("", last.lower)
        is_known = base in lasts or base in text.counts or base in given
        name = Name(first.lower, base if is_known else last.lower)
        if all_firsts.issuperset(name) and (name.first not in firsts or name.last not in lasts):
            continue  # Anna Lena, Tobias Brunos (Jacke): a double first name, or two people side by side
        if index and before.lower in given and text.raw[before.span.end : first.span.start] == " ":
            name = Name(before.lower, name.last)  # Anna Lena Richter
        if name.first in lasts - firsts or name.last in firsts - lasts:
            continue  # `Stein Ilay`: two people side by side
        is_first_name = name.first in firsts or (
            _is_new_name(text, index) and (name.first in given or not is_calling(name.first))
        )
        if is_first_name and (name.last in lasts or _is_new_name(text, index + 1, name.first in given)):
            span = Span(first.span.start, last.span.end)
            if found and found[-1][1].end == first.span.end:  # Nguyễn Thị Lan
                shorter, its_span = found.pop()
                name, span = Name(shorter.first, name.last), Span(its_span.start, span.end)
            found.append((name, span))
    return found


def _is_new_name(text: Text, index: int, after_first_name: bool = False) -> bool:
    word = text.words[index].lower
    if text.tags[index] != NAME or word in _NO_NAMES or nominative(word, text.counts) != word:
        return False
    if not is_noun(word) or word in own_words("first names"):
        return True
    is_common = occupation(word) or lexicon.gender(word) or lexicon.is_compound(word)
    return (after_first_name or lexicon.commonness(word) < _LISTED) and not is_common


def is_calling(word: str) -> bool:
    """Whether a lower-case word before a name says what the person is: Requisiteur, Schwiegervater, Witwe."""
    if lexicon.is_function_word(word):
        return False
    is_listed = occupation(word) or lexicon.gender(word) or lexicon.is_womans(word)
    is_mans = lexicon.commonness(f"{word}in") >= _LISTED
    introduces = pattern("kin").fullmatch(word) or pattern("introduces a name").search(word)
    return bool(is_listed or is_mans or introduces)


class Occupation(NamedTuple):
    """A field of work, and whether the word for it is a woman's."""

    field: int
    is_woman: bool


@lru_cache(maxsize=20_000)
def occupation(word: str) -> Occupation | None:
    """Return the occupation a lower-case noun names, compounds of a known one included; None for others."""
    return longest_ending(word, _occupations(), 4)  # Arzt, Koch, Wirt


def longest_ending(word: str, known: Mapping[str, Value], shortest: int) -> Value | None:
    """Return what is known of a word's longest ending, itself included, of so many letters at least."""
    cuts = range(len(word) - shortest + 1)
    return next((known[word[cut:]] for cut in cuts if word[cut:] in known), None)


@cache
def _occupations() -> Mapping[str, Occupation]:
    lists = word_lists("occupations")
    pairs = [line.split() for line in lists["with umlaut"]]
    found: dict[str, Occupation] = {}
    for field, line in enumerate(lists["occupations"]):
        for word in line.split():
            found[word] = Occupation(field, is_woman=word in lists["women"])
            # Unfallchirurgin for Unfallchirurg, Gynäkologin for Gynäkologe, Ärztin for Arzt
            umlauts = (word.removesuffix(man) + woman for man, woman in pairs if word.endswith(man))
            found[next(umlauts, word.removesuffix("e") + "in")] = Occupation(field, is_woman=True)
    return found


class Kin(NamedTuple):
    """A kind of relation, and which end of it a person is: elder 1, younger -1, neither 0."""

    line: int
    end: int


@lru_cache(maxsize=20_000)
def kin(word: str) -> Kin | None:
    """Return the relation a lower-case noun names, compounds of a known one included; None for others."""
    return longest_ending(word, kin_words(), 3)


@cache
def kin_words() -> Mapping[str, Kin]:
    """Return the relations by the words for who has one."""
    found: dict[str, Kin] = {}
    for line, words in enumerate(word_lists("occupations")["kin"]):
        elder, _, younger = words.partition(" < ")
        found |= dict.fromkeys(elder.split(), Kin(line, 1 if younger else 0))
        found |= dict.fromkeys(younger.split(), Kin(line, -1))
    return found


def calling(word: str) -> Occupation | int | None:
    """Return the occupation that a lower-case noun names, or the number of the kind of kin, from 1."""
    known = kin(word)
    return occupation(word) or (known.line + 1 if known else None)
