"""The check of the cast: the brief's people turn up, nobody from elsewhere, and all stay who they are."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.names import (
    TITLES,
    FullName,
    Name,
    brief_names,
    brief_words,
    full_names,
    given_words,
    known_names,
    nominative,
    parse_name,
)
from synopsis_writer.style.roles import Calling, calling
from synopsis_writer.style.text import Span, Text, Word

NAMED_SHARE = 0.8  # share of the brief's people that must turn up
MOST_UNDECLARED = 3  # full names that neither brief nor cast nor answer gives
_LIMIT = (
    f"at least {NAMED_SHARE:.0%} of the brief's people, nobody of another show, "
    f"at most {MOST_UNDECLARED} unknown full names"
)


class _Fault(NamedTuple):
    message: str
    spans: Sequence[Span]


def cast(subject: Subject) -> Finding:
    """The brief's people turn up, no other show's, few unknown ones, and nobody changes name or calling."""
    share, missing = named(subject)
    if share < NAMED_SHARE:
        message = f"People of the brief do not turn up: {quoted(missing)}."
        return failed("cast", share, _LIMIT, message)
    declared = {parse_name(full) for full in known_names(subject)}
    found = full_names(subject.text, declared)
    fault = (
        _strangers(subject, declared)
        or _renamed(subject, found, declared)
        or _other_callings(subject, found, declared)
        or _undeclared(subject, found)
    )
    if fault is not None:
        return failed("cast", share, _LIMIT, fault.message, fault.spans)
    return passed("cast", share, _LIMIT, "The people are those of brief and show.")


def named(subject: Subject) -> tuple[float, list[str]]:
    """Return the share of the brief's people whom the text names, and those whom it does not.

    A last name alone will do unless two people share it; so will a first name, and every genitive.
    """
    wanted = brief_names(subject)
    names = [parse_name(full) for full in wanted]
    everyone = {parse_name(full) for full in known_names(subject)}
    words = set(subject.text.counts)
    missing = [
        full
        for full, name in zip(wanted, names, strict=True)
        if full not in subject.text.raw
        and not _turns_up(name.first, words)
        and (_is_shared(name.last, everyone) or not _turns_up(name.last, words))
    ]
    return (1 - len(missing) / len(wanted) if wanted else 1.0), missing


def _turns_up(name: str, words: Collection[str]) -> bool:
    return bool(name) and any(name + ending in words for ending in ("", "s", "’s", "'s", "es", "’", "'"))


def _is_shared(last: str, everyone: Collection[Name]) -> bool:
    return len({name.first for name in everyone if name.last == last and name.first}) > 1


def _strangers(subject: Subject, declared: Collection[Name]) -> _Fault | None:
    """Find people of another show: full names, and a doctor's last name behind the title.

    The brief may ask for a guest; an answer may not, though it may have a Dr. Moreau of its own.
    """
    text, invited = subject.text, brief_words(subject)
    strangers = {parse_name(full): "Dr." in full for full in subject.strangers}
    uninvited = {name: is_doctor for name, is_doctor in strangers.items() if not invited.issuperset(name)}
    own_lasts = {name.last for name in declared if name not in strangers}
    full = {name for name in uninvited if name.first and name.last}
    doctors = {name.last for name, is_doctor in uninvited.items() if is_doctor} - own_lasts
    lasts = {name.last for name in full} | doctors
    spans = [
        Span(first.span.start, last.span.end)
        for first, last in pairwise(text.words)
        if (base := nominative(last.lower, lasts)) in lasts
        and (Name(first.lower, base) in full or (base in doctors and first.lower in TITLES))
    ]
    if not spans:
        return None
    return _Fault(f"The text names people of another show: {_said(text, spans)}.", spans)


def _renamed(subject: Subject, found: Sequence[FullName], declared: Collection[Name]) -> _Fault | None:
    """Find a first name that goes with two last names, unless these are two declared people."""
    own = {parse_name(full) for full in (*brief_names(subject), *subject.people)}
    told = {mention.name for mention in found} | {name for name in own if name.first and name.last}
    for mention in found:
        others = [name for name in told if name.first == mention.name.first and name != mention.name]
        if mention.name not in declared and others:
            twins = [mention, *(other for other in found if other.name in others)]
            spans = [twin.span for twin in twins]
            message = f"A person changes the last name: {_said(subject.text, spans)}."
            return _Fault(message, spans)
    return None


def _other_callings(subject: Subject, found: Sequence[FullName], declared: Collection[Name]) -> _Fault | None:
    """Find a person who is given callings of two fields, or a man's and a woman's, right before the name."""
    text = subject.text
    seen: dict[str, tuple[Calling, Word]] = {}
    roles = {" ".join(parse_name(member.name)): member.role.lower() for member in subject.show.cast}
    people = _people(found, declared)
    for place, word in enumerate(text.words):
        own = calling(word.lower) if word.form[0].isupper() and not word.quoted else None
        person = _person_behind(text, place, people) if own else ""
        if own is None or not person or _is_past(text, place):
            continue
        before, first = seen.setdefault(person, (own, word))
        if before != own and not (first.lower in (role := roles.get(person, "")) and word.lower in role):
            message = f"A person changes the calling: {quoted([first.form, word.form])}."
            return _Fault(message, [first.span, word.span])
    return None


def _undeclared(subject: Subject, found: Sequence[FullName]) -> _Fault | None:
    """Find more than a few full names that nobody gave."""
    known = given_words(subject)
    new = {m.name: m.span for m in reversed(found) if m.name.first not in known and m.name.last not in known}
    spans = sorted(new.values())
    if len(spans) <= MOST_UNDECLARED:
        return None
    return _Fault(
        f"The text names {len(spans)} people whom nobody declared: {_said(subject.text, spans)}.", spans
    )


def _people(found: Sequence[FullName], declared: Collection[Name]) -> Mapping[str, str]:
    """Return whom each single name means; names of several people are left out."""
    names = {*declared, *(mention.name for mention in found)}
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for first, last in names:
        for word in filter(None, (first, last)):
            owners[word].add(f"{first} {last}")
    return {word: next(iter(own)) for word, own in owners.items() if len(own) == 1}


def _person_behind(text: Text, place: int, people: Mapping[str, str]) -> str:
    """Return whom the words right behind a calling name, titles skipped; empty when nobody."""
    following = place + 1
    words = text.words
    while following < len(words) and words[following].lower in TITLES:
        following += 1
    if following >= len(words) or words[following].sentence != words[place].sentence:
        return ""
    between = text.raw[words[place].span.end : words[following].span.start]
    if any(mark in between for mark in ",;:–„"):
        return ""
    for word in words[following : following + 2]:
        person = people.get(nominative(word.lower, people))
        if person is not None:
            return person
    return ""


_PAST = re.compile(
    r"(?:früher|ehemalig|einstig|gelernt|angehend|künftig|werdend|zukünftig|falsch|angeblich|vermeintlich)"
)


def _is_past(text: Text, place: int) -> bool:
    return place > 0 and _PAST.match(text.words[place - 1].lower) is not None


def _said(text: Text, spans: Sequence[Span]) -> str:
    return quoted([text.raw[span.start : span.end] for span in spans])
