"""The check of lengths: a text that retells another one's story does not contradict it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from synopsis_writer.gate import cast
from synopsis_writer.gate.cast import Kin, Name, calling, callings, kin, nominative, occupation, parse_name
from synopsis_writer.gate.finding import Finding, Subject, Wording, judged, say
from synopsis_writer.gate.lexicon import TITLES, own_words, stem
from synopsis_writer.gate.numbers import read_numbers
from synopsis_writer.gate.text import DETERMINERS, NAME, Span, Text, analyse, is_noun, lower_words, word_parts
from synopsis_writer.synopsis import Synopsis

_MOST_PROBLEMS = 5  # in one message
_CLOSE = 1 + 1e-9
_LARGEST_VAGUE = 12  # up to which a number may count what the story lists

_Problems = Iterator[tuple[Wording, Span | None]]


class _Story:
    """What the story says, and who is who in both texts."""

    def __init__(self, subject: Subject, story: Synopsis) -> None:
        self.people, self.text = story.characters, analyse(story.text)
        declared = {parse_name(person.name) for person in self.people}
        self.full_names = {*(name for name, _ in cast.full_names(self.text, declared)), *declared}
        known = {part for name in self.full_names for part in name}
        firsts = {word.lower for word in self.text.words if word.form[0].isupper()} & own_words("first names")
        self.full_names |= {Name(first, "") for first in firsts - known}
        self.owners = cast.owners(self.full_names)
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
    problems = [*_names(subject, story), *_roles(subject, story), *_numbers(text, story)]
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


def _names(subject: Subject, story: _Story) -> _Problems:
    """Find names that the story does not have, or has otherwise."""
    text, reported = subject.text, set[str]()

    def problem(name: str, span: Span | None) -> tuple[Wording, Span | None]:
        parts = {*lower_words(name)}
        reported.update(parts)
        people = [person.name for person in story.people]
        alike = [other for other in people if not parts.isdisjoint(lower_words(other))]
        return say("other name", here=name, words=alike or people), span

    own = {parse_name(person.name) for person in subject.characters}
    for name, span in cast.full_names(text, {*own, *story.full_names}):
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


def _roles(subject: Subject, story: _Story) -> _Problems:
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


def _numbers(text: Text, story: _Story) -> _Problems:
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
