"""The check of people: the cast of brief and show, names and occupations."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from synopsis_writer.gate.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.gate.lexicon import ADDRESSES, TITLES
from synopsis_writer.gate.text import NAME, Span, Text, Word, is_noun, lower_words

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


class Name(NamedTuple):
    """A name in lower case; one of the two is empty when only the other is known."""

    first: str
    last: str


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


class FullName(NamedTuple):
    """A first and a last name, side by side in the text, in the nominative."""

    name: Name
    span: Span
    place: int  # the first name's number among the words


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


_GENITIVE_ENDS = frozenset("s'’")

_GENITIVE = re.compile(r"[’']?s$|[’']$")


def parse_name(full: str) -> Name:
    """Return both names of `Prof. Dr. Karin Patzelt`; of `Dr. Bar` the last, of `Fladi` the first."""
    words = lower_words(full)
    plain = [word for word in words if word not in TITLES and word not in ADDRESSES] or words
    if len(plain) > 1:
        return Name(plain[0], plain[-1])
    alone = "".join(plain)
    return Name("", alone) if len(words) > len(plain) else Name(alone, "")


def nominative(word: str, known: Collection[str]) -> str:
    """Return a name without its genitive ending, if that is a known name and the word itself is not."""
    if word in known or word[-1] not in _GENITIVE_ENDS:
        return word
    base = _GENITIVE.sub("", word)
    return base if base in known else word


def known_names(subject: Subject) -> tuple[str, ...]:
    """Return the full names of brief, cast and answer."""
    return (*brief_names(subject), *(member.name for member in subject.show.cast), *subject.people)


def brief_names(subject: Subject) -> tuple[str, ...]:
    """Return the names that must turn up; none without a brief."""
    return subject.brief.characters if subject.brief else ()


def given_words(subject: Subject) -> frozenset[str]:
    """Return all words a text may take from brief, show, answer and title, and their genitives."""
    show = subject.show
    lines = (show.name, show.place, subject.title, *show.aliases, *known_names(subject))
    words = brief_words(subject).union(*map(lower_words, lines))
    parts = words.union(*(word.split("-") for word in words))
    return frozenset(parts | {word + "s" for word in parts})


def brief_words(subject: Subject) -> frozenset[str]:
    """Return the words of all the brief's fields, in lower case; the empty one, too."""
    brief = subject.brief
    if brief is None:
        return frozenset({""})
    lines = (
        brief.show,
        brief.theme,
        brief.notes or "",
        brief.air_date or "",
        *brief.characters,
        *brief.beats,
        *brief.before,
    )
    return frozenset({""}.union(*map(lower_words, lines)))


def full_names(text: Text, people: Collection[Name]) -> list[FullName]:
    """Return the places where a first and a last name stand side by side.

    The words of `people` are names. Others are when the tagger says so and they are not common nouns
    by themselves. Behind a preposition of place they name a town, before a word such as `GmbH` a firm.
    """
    firsts = {name.first for name in people} - {""}
    lasts = {name.last for name in people} - {""}
    found = []
    for place, (first, last) in enumerate(pairwise(text.words)):
        if not (first.form[0].isupper() and last.form[0].isupper()):
            continue
        if text.raw[first.span.end : last.span.start] != " " or _is_place_or_firm(text, place):
            continue
        name = Name(first.lower, nominative(last.lower, lasts if last.lower[:-1] in lasts else text.counts))
        if name.first in lasts - firsts or name.last in firsts - lasts:
            continue  # `Stein Ilay`: two people side by side
        if not (name.first in firsts or _is_new_name(text, place)):
            continue
        if name.last in lasts or _is_new_name(text, place + 1):
            found.append(FullName(name, Span(first.span.start, last.span.end), place))
    return found


def _is_new_name(text: Text, place: int) -> bool:
    word = text.words[place].lower
    return (
        text.tags[place] == NAME
        and word not in TITLES
        and word not in ADDRESSES
        and nominative(word, text.counts) == word
        and not is_noun(word)
    )


_BEFORE_PLACES = frozenset("in aus nach hotel café firma kanzlei klinik straße insel".split())

_BEHIND_FIRMS = frozenset("gmbh ag kg bau klinik hotel stiftung straße platz".split())


def _is_place_or_firm(text: Text, place: int) -> bool:
    before = text.words[place - 1].lower if place else ""
    behind = text.words[place + 2].lower if place + 2 < len(text.words) else ""
    return before in _BEFORE_PLACES or behind in _BEHIND_FIRMS


# Fields that exclude each other; what one person may well be at a time stands in one line.
_CALLINGS = """
arzt chirurg anästhesist internist gynäkologe kardiologe neurologe orthopäde psychiater pathologe
pfleger krankenpfleger krankenschwester altenpfleger hebamme sanitäter rettungssanitäter
anwalt rechtsanwalt staatsanwalt jurist richter notar strafverteidiger
polizist kommissar hauptkommissar kriminalist
lehrer kunstlehrer musiklehrer sportlehrer erzieher schulleiter
schauspieler sänger pianist musiker tänzer geiger cellist dirigent organist
koch küchenchef bäcker konditor kellner wirt gastronom metzger fleischer hotelier unternehmer manager
schreiner tischler schlosser mechaniker maurer dachdecker elektriker klempner zimmermann
goldschmied uhrmacher schneider schuster frisör friseur
bauer winzer schäfer förster gärtner landwirt imker
journalist reporter redakteur fotograf
pfarrer pastor priester seelsorger
eiskunstläufer schwimmer boxer läufer fußballer turner
pilot busfahrer lokführer taxifahrer lastwagenfahrer
"""

_WITH_UMLAUT = {"arzt": "ärztin", "anwalt": "anwältin", "koch": "köchin", "bauer": "bäuerin"}


class Calling(NamedTuple):
    """A field of work, and whether the word for it is a woman's."""

    field: int
    is_woman: bool


def calling(word: str) -> Calling | None:
    """Return the calling of a lower-case noun, compounds of a known one included; None for another noun."""
    known = _callings()
    return next((known[word[cut:]] for cut in range(len(word) - _SHORTEST + 1) if word[cut:] in known), None)


_SHORTEST = 4  # letters: Arzt, Koch, Wirt


@cache
def _callings() -> Mapping[str, Calling]:
    found: dict[str, Calling] = {}
    for field, line in enumerate(_CALLINGS.split("\n")):
        for man in line.split():
            found[man] = Calling(field, is_woman=False)
            found[_as_woman(man)] = Calling(field, is_woman=True)
    women = ("krankenschwester", "hebamme")
    return found | {word: found[word]._replace(is_woman=True) for word in women}


def _as_woman(man: str) -> str:
    """Return Ärztin for Arzt, Unfallchirurgin for Unfallchirurg, Gynäkologin for Gynäkologe."""
    for ending, woman in _WITH_UMLAUT.items():
        if man.endswith(ending):
            return man[: -len(ending)] + woman
    return man.removesuffix("e") + "in"
