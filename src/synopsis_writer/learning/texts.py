"""The texts of a house as an editor has them, with show, form and theme, and their measurements."""

import logging
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

from synopsis_writer.brief import LEAST_WORDS
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError
from synopsis_writer.examples import Example
from synopsis_writer.formats import reading
from synopsis_writer.formats.reading import Source, paragraphs, title_and_text
from synopsis_writer.gate import cast, form, language, story
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.lexicon import GERMAN_WORDS, classify, commonness, is_function_word, is_known, own_words
from synopsis_writer.gate.text import NAME, NOUN, Span, Text, analyse, is_noun
from synopsis_writer.house import Ending, built_in_house
from synopsis_writer.show import generic_show
from synopsis_writer.storage.files import real_path

_log = logging.getLogger(__name__)

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_SHORTEST_PARAGRAPH = 10  # characters, as an example allows
_LONGEST_TITLE, _LONGEST_SHOW, _LONGEST_PERSON = 90, 120, 80  # the same
_NAME_PARTS, _LONGEST_FORM = re.compile(r"[^\W_]+(?:_[^\W_]+)*"), 60  # of the name of a form
_LINE_TITLES = frozenset({".txt", ".docx", ".htm", ".html"})  # files whose title is a line of the text
_SHORTEST = 3  # letters of a name
_LEAST_VERBS = 8  # fewer do not show a tense
_LEAST_SENTENCES = 5  # fewer do not show a deviation
_GERMAN_WORD_SHARE = 0.1  # of the distinct words; a text with fewer may be foreign
_FOREIGN = 0.9  # probability
ENDINGS: tuple[Ending, ...] = ("question", "ellipsis", "closed")
_TITLES = re.compile(r"^(?:(?:Dr|Prof)\. )+")
_PARTICLES = re.compile(r"^(?:[a-z]+ )+")
_BEFORE_THINGS = frozenset("in im aus nach bei bis um am an auf vor zum zur vom beim".split())
_ARTICLES = frozenset("der die das den dem des ein eine einer".split())
_MOST_PEOPLE = 14  # of an example

_LIKE_A_FORM = re.compile(
    r"(?i)^(?:episode|teaser|special|week|portr[aäe]\w*|folgen?|wochen?)$"
    "|kurz|lang|inhalt|vorschau|texte?$|epg|presse"
)

# Up to how many words in the text in the middle texts may be of a form, its name and its purpose.
_SUGGESTIONS = (
    (45, "kurz", "Kurztext für Programmhinweise: worum es in der Folge geht, in wenigen Sätzen."),
    (160, "vorschau", "Vorschau auf eine Folge: wer vor welchem Konflikt steht, und was daraus wird."),
    (320, "inhalt", "Inhaltsangabe einer Folge: was geschieht, wen es trifft, und wie es ausgeht."),
    (math.inf, "lang", "Ausführliche Inhaltsangabe einer Folge mit ihren Nebensträngen."),
)

_MOST_FORMS = 4
_FEWEST_OF_A_FORM = 3
_APART = math.log(1.8)  # between the means of two forms
_SPREAD = 0.6  # within k forms at most, times the 1 / k² of the variance within k parts of an even spread
_MOST_GAPS = 12  # where cuts are tried


def measure(text: Text, title: str = "") -> dict[str, float]:
    """Return the values of one text, by the names of the limits."""
    return {
        "words": len(text.words),
        "paragraphs": len(text.paragraphs),
        "sentence_mean": text.mean_length,
        "sentence_deviation": text.deviation,
        "sentence_longest": max(text.lengths, default=0),
        "questions": text.question_share,
        "speech": form.speech_share(text, title),
        "exclamations": text.raw.count("!"),
        "phrases": len(language.stock_phrases(text)),
        "variety": story.moving_variety(text.words),
        "preterite": form.preterite_share(text),
    }


@dataclass(frozen=True)
class OwnText:
    """A text of a house: what is known of it, and what is measured in it once."""

    id: str  # the file below the folder, with the line of a CSV's row
    source: Source
    show: str  # empty where nobody named one, as form and theme
    form: str
    theme: str
    title: str
    people: tuple[str, ...]  # whom its brief or its list of characters names
    text: Text
    has_headline: bool | None = None  # as a line of the file; None where it has another place for it
    has_theme: bool = True  # whether its theme is more than its first sentence
    given: Mapping[str, Any] = field(default_factory=dict)  # by its brief: air date, notes …

    @cached_property
    def values(self) -> Mapping[str, float]:
        """The values of `measure` that so short a text shows, and the number of characters."""
        values = {**measure(self.text, self.title), "characters": form.count_characters(self.text.raw)}
        if len(form.tensed_verbs(self.text)) < _LEAST_VERBS:
            del values["preterite"]
        if len(self.text.lengths) < _LEAST_SENTENCES:
            del values["sentence_deviation"]
        return values

    @cached_property
    def endings(self) -> frozenset[Ending]:
        """The endings that the gate sees in it."""
        house, show = built_in_house(), generic_show("-")
        any_form = house.form(None).model_copy(update={"questions": (0.0, 1.0)})
        forms = (any_form.model_copy(update={"ending": ending}) for ending in ENDINGS)
        return frozenset(each.ending for each in forms if form.hook(Subject(self.text, each, show, house)).passed)

    @cached_property
    def is_past(self) -> bool:
        """Whether it is told in the preterite."""
        return form.preterite_share(self.text) > 1 / 2

    @cached_property
    def unknown(self) -> frozenset[str]:
        """The words that no list knows, as they are written."""
        return language.unknown_words(self.text)

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The people whom it names, without titles, and the calling or kinship before the name, if any."""
        text, given = self.text, own_words("first names")
        actors = [Span(*match.span()) for match in form.find_actors(text.raw)]
        found = {without_titles(name): "" for name in (*self.people, *self.played)}
        for full, span in cast.full_names(text, {cast.parse_name(name) for name in found}):
            if not any(actor.contains(span.start) for actor in actors):
                name = text.raw[slice(*span)]
                found.setdefault(name if name.lower().endswith(full.last) else name.rstrip("s").rstrip("’'"), "")
        parts = {part.lower() for name in found for part in name.split()}
        known = {*parts, *text.counts, *given}
        for index, word in enumerate(text.words):
            name, base = cast.nominative(word.lower, known), word.lower.removesuffix("s")
            if word.lower not in given and any(after.form[0].isupper() for after in text.words[index + 1 : index + 2]):
                name = max(base, name, key=commonness)  # Nepomuks Sehne
            if text.tags[index] != NAME or not word.form[0].isupper() or len(name) < _SHORTEST or name in parts:
                continue
            is_first = index == text.sentences[word.sentence].first
            is_thing = not is_first and text.words[index - 1].lower in _BEFORE_THINGS | _ARTICLES
            is_common = is_noun(name) or cast.is_calling(name) or (is_first and is_known(name))
            is_actor = any(actor.contains(word.span.start) for actor in actors)
            if not is_thing and (name in given or not is_common) and not is_actor:
                found.setdefault(word.form[: len(name)], "")
        for name in found:
            before = r"(\w*) ?\b([A-ZÄÖÜ][a-zäöüß-]+)(?<!ung) (?:(?:Dr|Prof)\. )*"
            role = re.search(rf"{before}{re.escape(name)}\b", text.raw)
            if role and cast.is_calling(role[2].lower()) and role[1].lower() not in _BEFORE_THINGS:
                found[name] = role[2]
        return found

    @property
    def characters(self) -> list[str]:
        """Whom it names as `Name: Rolle`, at most fourteen; without names the first calling, or noun."""
        named = [f"{name}: {role}" for name, role in self.named.items()][:_MOST_PEOPLE]
        nouns = [word.form for word, tag in zip(self.text.words, self.text.tags, strict=True) if tag == NOUN]
        callings = (noun for noun in nouns if cast.is_calling(noun.lower()))
        return named or [next(callings, (nouns or ["Niemand"])[0])]

    @cached_property
    def played(self) -> tuple[str, ...]:
        """The people behind whom an actor's name stands in brackets."""
        names = (self._name_before(match.start()) for match in form.find_actors(self.text.raw))
        return tuple(filter(None, dict.fromkeys(names)))

    def _name_before(self, position: int) -> str:
        """Return the name that ends there, without a calling before it; empty for a calling alone."""
        words, tags, name, given = self.text.words, self.text.tags, "", own_words("first names")
        index = bisect_right(words, position, key=lambda word: word.span.start) - 1
        while index >= 0 and self.text.raw[words[index].span.end : position] in {" ", ""}:
            word = words[index]
            is_given = word.form[0].isupper() and word.lower in given
            is_common = cast.is_calling(word.lower) or (tags[index] == NOUN and is_known(word.lower))
            is_particle = name and word.form in own_words("particles")
            is_name = tags[index] in {NAME, NOUN} and not is_function_word(word.lower) and not (name and is_common)
            if not (is_given or is_particle or is_name):
                break
            index, position, name = index - 1, word.span.start, f"{word.form} {name}".rstrip()
        name = _PARTICLES.sub("", name)  # die Kinder von Petra
        return "" if " " not in name and cast.is_calling(name.lower()) else name


def without_titles(name: str) -> str:
    """Return a name without `Dr.` and `Prof.`."""
    return _TITLES.sub("", name)


def read_texts(folder: Path, given: Mapping[str, str], *, skip: Path | None = None) -> list[OwnText]:
    """Read the texts of a folder, each once; `given` show, form and theme go before all others.

    Next come a CSV's columns, then the front matter, then the names of the folders. What is below `skip` is
    no text. Raises InputError with file and line for what cannot be read, is not German, or holds no text.
    """
    if not folder.exists():
        raise FileError(f"{folder}: no such folder: name one that holds texts")
    root = folder if folder.is_dir() else folder.parent
    paths = reading.text_files(folder)
    paths = [path for path in paths if skip is None or not real_path(path).is_relative_to(real_path(skip))]
    folders = [path.relative_to(root).parts[:-1] for path in paths]
    levels = _meanings(folders)
    texts: dict[str, OwnText] = {}
    for path, parts in zip(paths, folders, strict=True):
        for source in reading.read_sources(path):
            above = dict(zip(levels, parts, strict=False))
            own = _own_text(source, root, {**above, **_front_matter(source), **source.fields, **given})
            if len(own.text.words) < LEAST_WORDS:
                _log.warning("%s: has fewer than %d words: left out", own.id, LEAST_WORDS)
            elif own.text.raw in texts:
                _log.warning("%s: is the same text as %s: left out", own.id, texts[own.text.raw].id)
            else:
                texts[own.text.raw] = own
    if not texts:
        raise FileError(f"{folder}: holds no text: put {', '.join(sorted(reading.READERS))} files into it")
    return list(texts.values())


def _own_text(source: Source, root: Path, fields: Mapping[str, str]) -> OwnText:
    document = source.document
    body = document.text.translate(_INVISIBLE)
    heading, rest = ("", body) if "title" in document.meta else title_and_text(body)
    parts = paragraphs(rest)
    for index in range(len(parts) - 1, 0, -1):
        if len(parts[index]) < _SHORTEST_PARAGRAPH:  # "Wer?" goes to the paragraph before
            parts[index - 1] += f" {parts.pop(index)}"
    text = analyse("\n\n".join(parts))
    if foreign := _foreign(text):
        reason = f"is not German but {foreign}: take it out, for a house has one language"
        raise FileError(f"{source.where}: {reason}")
    if len(fields.get("show", "")) > _LONGEST_SHOW:
        reason = f"the show's name is over {_LONGEST_SHOW} characters: give the name alone"
        raise FileError(f"{source.where}: {reason}")
    has_line = document.path.suffix.lower() in _LINE_TITLES and ("title",) not in document.lines
    brief = document.meta.get("brief")
    wanted, listed = (
        [*found] if isinstance(found := fields.get("characters"), list) else []
        for fields in (brief if isinstance(brief, dict) else {}, document.meta)
    )
    given_names = [*wanted, *(person.get("name") for person in listed if isinstance(person, dict))]
    names = [clean_name(name, _LONGEST_PERSON).partition(":")[0].strip() for name in given_names]
    title = str(document.meta.get("title") or heading or " ".join(text.raw.split()[:5]))
    return OwnText(
        source.where.removeprefix(f"{root}/"),
        replace(source, document=replace(document, text=text.raw)),
        show=fields.get("show", ""),
        form="-".join(_NAME_PARTS.findall(fields.get("form", "")))[:_LONGEST_FORM],
        theme=fields.get("theme", ""),
        title=title[:_LONGEST_TITLE],
        people=tuple(dict.fromkeys(name for name in names if len(name) > 1)),
        text=text,
        has_headline=bool(heading or "title" in document.meta) if has_line else None,
        given={"air_date": fields["air_date"]} if fields.get("air_date") else {},
    )


def people_of(source: Source) -> list[str]:
    """Return whom a text names, or else whom it is about, as `Name: Rolle`; at most fourteen."""
    return _own_text(source, source.document.path.parent, {}).characters


def own_text(example: Example) -> OwnText:
    """Return an example as a text of its house."""
    brief, synopsis = example.brief, example.synopsis
    source = Source(Document(example.path, {}, synopsis.text), str(example.path), {})
    facts = (brief.show, brief.form, brief.theme, synopsis.title, brief.characters)
    given = brief.model_dump(include={"air_date", "notes", "beats", "before"})
    return OwnText(example.id, source, *facts, analyse(synopsis.text), given=given)


def _foreign(text: Text) -> str | None:
    """Return the code of the language that half of the sentences or more are in, unless it is German."""
    foreign: list[str] = []
    for sentence in text.sentences:
        words = {word.lower for word in text.words_of(sentence)}
        if words and len(words & GERMAN_WORDS) / len(words) < _GERMAN_WORD_SHARE:
            name, probability = classify(sentence.text)
            foreign += [name] * (name != "de" and probability >= _FOREIGN)
    return foreign[0] if len(foreign) * 2 >= max(1, len(text.sentences)) else None


def _front_matter(source: Source) -> dict[str, str]:
    meta = {str(key).lower(): value for key, value in source.document.meta.items()}
    brief = front if isinstance(front := meta.get("brief"), dict) else {}
    wanted = ("show", "form", "theme")
    found = {name: meta[key] for name in wanted for key in reversed(reading.COLUMNS[name]) if meta.get(key)}
    found |= {name: brief[name] for name in (*wanted, "air_date") if brief.get(name)}
    return {name: str(value) for name, value in found.items()}


def _meanings(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what the levels of folders name, by how many names of each are like a form's."""
    first, second = ({parts[level] for parts in folders if len(parts) > level} for level in range(2))
    forms = [sum(_LIKE_A_FORM.search(name) is not None for name in names) for names in (first, second)]
    if not second:
        return ("form",) if first and forms[0] == len(first) else ("show",)
    is_first = (-forms[0] / len(first), len(first)) < (-forms[1] / len(second), len(second))
    return ("form", "show") if is_first else ("show", "form")


def suggested_form(texts: Sequence[OwnText]) -> tuple[str, str]:
    """Return the name and the purpose of the form that the length of the texts suggests."""
    middle = sorted(len(own.text.words) for own in texts)[len(texts) // 2]
    return next((name, purpose) for most, name, purpose in _SUGGESTIONS if middle <= most)


def with_forms(texts: Sequence[OwnText]) -> list[OwnText]:
    """Return the texts; those without a form are grouped by length into at most four, with suggested names."""
    names: dict[str, str] = {}
    for group in _parted(sorted((own for own in texts if not own.form), key=lambda own: len(own.text.words))):
        suggested, _ = suggested_form(group)
        number = sum(name.startswith(suggested) for name in set(names.values()))
        names |= {own.id: f"{suggested}-{number + 1}" if number else suggested for own in group}
    return [own if own.form else replace(own, form=names[own.id]) for own in texts]


def _parted(texts: Sequence[OwnText]) -> list[Sequence[OwnText]]:
    """Group texts by length, in order, as Fisher does in "On Grouping for Maximum Homogeneity", 1958."""
    logs = [math.log(len(own.text.words)) for own in texts]
    gaps = sorted(range(1, len(logs)), key=lambda index: logs[index - 1] - logs[index])[:_MOST_GAPS]
    for count in range(_MOST_FORMS, 1, -1):
        within: dict[tuple[int, ...], float] = {}
        for cuts in combinations(sorted(gaps), count - 1):
            groups = [logs[start:end] for start, end in pairwise((0, *cuts, len(logs)))]
            means = [fmean(group) for group in groups]
            is_large = min(map(len, groups)) >= _FEWEST_OF_A_FORM
            if is_large and all(b - a >= _APART for a, b in pairwise(means)):
                within[cuts] = sum(pvariance(group) * len(group) for group in groups) / len(logs)
        best = min(within, key=lambda cuts: within[cuts], default=())
        if best and within[best] <= _SPREAD / count**2 * pvariance(logs):
            return [texts[start:end] for start, end in pairwise((0, *best, len(logs)))]
    return [texts] if texts else []
