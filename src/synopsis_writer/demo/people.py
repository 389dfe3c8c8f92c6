"""The people of a demo draft: from the brief, the theme and the show's cast, or invented."""

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from random import Random
from typing import Literal, NamedTuple

from synopsis_writer.brief import Brief
from synopsis_writer.gate.cast import occupation
from synopsis_writer.gate.lexicon import ADDRESSES, TITLES, word_lists
from synopsis_writer.gate.text import word_parts
from synopsis_writer.show import CastMember, Show

Gender = Literal["f", "m"]

_TITLE = re.compile(rf"(?:(?:{'|'.join(sorted(TITLES | {'dipl'}))})\.\s*)+", re.IGNORECASE)
_LEAST_LETTERS, _SHORTEST_HEAD = 4, 5  # of a significant word, and of a compound's end
_OTHER_GENDER: Mapping[Gender, str] = {"f": "men", "m": "women"}
_UMLAUTS = str.maketrans("äöü", "aou")
_CHILD = re.compile(r"(?:Tochter|Sohn|Kind|Enkel\w*) ")
_IN_LAW = re.compile(r"(?:ur|groß|schwieger|stief|halb|zwillings|adoptiv|pflege|ex-?)+")
_ENDINGS = ("n", "en", "e", "er", "s", "es", "nen", "")
_WORDS = {heading: frozenset(" ".join(lines).split()) for heading, lines in word_lists("people").items()}
_POSSESSIVE = r"(?:ihr|sein|mein|dein|unser)\w{0,2}"
_ARTICLE = rf"(?:{'|'.join(_WORDS['articles'] | _WORDS['several'])}|{_POSSESSIVE})"
# Article, adjectives and noun; a noun without an article has an empty one.
_PHRASE = re.compile(rf"(?:\b((?i:{_ARTICLE})) )?(?:(?!{_ARTICLE}\b)\b[a-zäöüß]+e[rsn]? )*\b([A-ZÄÖÜ][\w-]+)")


class Person(NamedTuple):
    """A person of the text."""

    name: str
    short: str  # how the text calls the person from then on: `Arzu`, `Dr. Heilmann`
    role: str = ""  # a German noun phrase; empty when unknown


class Part(NamedTuple):
    """A person whom a theme is about."""

    gender: Gender | None  # None where the theme says none
    calling: str = ""  # none for a mother, or one of a team; of a child what it is
    is_one_of_many: bool = False  # one of a group, whose callings say nothing of the others
    is_family: bool = False  # who is named as the other one's relative


def choose_people(
    brief: Brief, show: Show, invented: Sequence[str], count: int, rng: Random
) -> tuple[list[Person], list[str]]:
    """Return `count` people, the protagonist first, and the names of the brief that do not appear.

    Without characters in the brief, theme and beats choose the protagonist: by a name of the cast, or by
    gender and calling (`Chirurg`), for which somebody may be invented; else the seed does.
    """
    roles = {member.name: member.role for member in show.cast}
    adults = [member for member in show.cast if not _CHILD.match(member.role)]
    words = [word.casefold() for text in (brief.theme, *brief.beats) for word in word_parts(text)]
    parts = {member.name: significant_words(_TITLE.sub("", member.name)) for member in adults}
    named = [name for word in words for name, own in parts.items() if word in own]
    names = list(brief.characters or dict.fromkeys(named))
    if not names:
        for part in theme_people(brief.theme):
            cast = [] if part.is_family else _cast_for(part, adults)  # nothing says whose sister she is
            fitting = [member.name for member in cast if member.name not in names]
            wrong = _WORDS[f"first names of {_OTHER_GENDER[part.gender]}"] if part.gender else frozenset()
            free = [one for one in invented if one not in names and one.split()[0].lower() not in wrong]
            if not (choice := fitting or free or invented):
                break
            name = rng.choice(choice)
            if part.is_family and names:
                name = f"{name.split()[0]} {names[0].split()[-1]}"
            if not fitting or part.is_one_of_many:
                roles[name] = part.calling
            names.append(name)
    for pool in ([member.name for member in adults], list(invented)):
        rng.shuffle(pool)
        for name in pool:
            if len(names) < count and _short_name(name) not in map(_short_name, names):
                names.append(name)
    shorts = {name: _short_name(name) for name in names}
    unique = {name: short for name, short in shorts.items() if [*shorts.values()].count(short) == 1}
    people = [Person(name, unique.get(name, name), roles.get(name, "")) for name in names[:count]]
    return people, names[count:]


def _cast_for(part: Part, cast: Sequence[CastMember]) -> list[CastMember]:
    """Return the members of a gender whose role is the calling, or else a compound of it."""
    same = [member for member in cast if part.gender is None or member.gender in {part.gender, None}]
    calling = part.calling.casefold()
    callings = [(member, significant_words(member.role)) for member in same]
    exact = [member for member, words in callings if not calling or calling in words]
    return exact or [member for member, words in callings if any(word.endswith(calling) for word in words)]


def theme_people(theme: str) -> list[Part]:
    """Return the one or two people a theme is about, by its first noun for a person that can be a subject."""
    others: list[Part] = []
    phrases = list(_PHRASE.finditer(theme))
    for phrase, after in zip_longest(phrases, phrases[1:]):
        article = (phrase[1] or "").lower()
        parts = _parts(article, phrase[2])
        if not parts or re.fullmatch(_POSSESSIVE, article):
            if parts and not others:
                others = [Part("f" if article.startswith("ihr") else "m")]
            continue
        if len(parts) == 1 and after and theme[phrase.end() : after.start()] == " und ":
            parts += _parts((after[1] or "").lower(), after[2])[:1]
        is_subject = not article or article in _WORDS["articles of a subject"]
        if is_subject and not (article == "der" and parts[0].gender == "f"):
            return parts
        others = others or parts
    return others


def _parts(article: str, noun: str) -> list[Part]:
    """Return the people that an article and a noun mean: none, one, or of a couple or of several two."""
    word = noun.lower()
    if _is_listed(word, "couples"):
        return [Part("f", is_family=True), Part("m", is_family=True)]
    if _is_listed(word, "groups"):
        return [Part(None, is_one_of_many=True)]
    stems = [word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)]
    singulars = [*stems, *(stem.translate(_UMLAUTS) for stem in stems)]  # Bruder of Brüder, Arzt of Ärzte
    for base in (word, *singulars):
        gender = _gender_of(base, article)
        if gender or base == "kind":
            is_many = article in _WORDS["several"] or (article in {"", "die"} and (base != word or gender == "m"))
            is_family = _IN_LAW.sub("", base) in _WORDS["family"]  # a Tagesmutter is nobody's mother
            is_called = not is_family and base not in _WORDS["no callings"]
            calling = (noun if base == word else base.capitalize()) if is_called else ""
            part = Part(gender, calling, is_family=is_family)
            return [part] * (2 if is_many and (article or base != word) else 1)
    return []


def _gender_of(word: str, article: str) -> Gender | None:
    """Return the gender of the person that a noun in the singular means; None where it means nobody."""
    if word in _WORDS["no people"]:
        return None
    if _is_listed(word.removesuffix("r"), "adjectival"):
        return "f" if article in _WORDS["articles of women"] else "m"
    man = word.removesuffix("in")
    men = {man, man.translate(_UMLAUTS), f"{man}e"} if man != word else set[str]()
    is_woman = article in _WORDS["articles of women"] and word.endswith("in") and not word.endswith("ein")
    if is_woman or _is_listed(word, "women") or any(map(_is_man, men)):
        return None if article in _WORDS["articles of men"] and word != "mädchen" else "f"
    return "m" if _is_man(word) and article not in {"eine", "das"} else None


def _is_man(word: str) -> bool:
    known = occupation(word)
    return _is_listed(word, "men") or (known is not None and not known.is_woman)


def _is_listed(word: str, heading: str) -> bool:
    words = _WORDS[heading]
    heads = tuple(head.lstrip("-") for head in words if len(head) >= _SHORTEST_HEAD)
    return word in words or word.endswith(heads)


def significant_words(text: str) -> set[str]:
    """Return the words of four letters or more, case-folded."""
    return {word.casefold() for word in word_parts(text) if len(word) >= _LEAST_LETTERS}


def _short_name(name: str) -> str:
    title = _TITLE.match(name)
    given, _, last = name[title.end() if title else 0 :].partition(" ")
    if title:
        return f"Dr. {last or given}" if "Dr." in title[0] else name
    return name if given.lower() in ADDRESSES | _WORDS["addresses"] else given
