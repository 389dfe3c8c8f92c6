"""What one check says of one text, in which words, and what it is given."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache, cached_property
from math import comb
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from synopsis_writer.brief import Brief
from synopsis_writer.document import Document
from synopsis_writer.errors import InputError
from synopsis_writer.gate.fixes import Fix, fix
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.gate.sources import CopyIndex, SourceEmbeddings
from synopsis_writer.gate.text import Span, Text, lower_words
from synopsis_writer.house import CHECK_NAMES, Form, House
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Character, Synopsis

Language = Literal["de", "en"]
_LONGEST_QUOTE = 200


@dataclass(frozen=True)
class Wording:
    """What `gate/data/messages.txt` has under a key, with the values of its placeholders."""

    key: str
    values: Mapping[str, object]

    def text(self, language: Language = "en") -> str:
        """Return it in a language."""
        lines = word_lists("messages")[self.key]
        return _Formatter(language).vformat(lines[language == "de"], (), self.values)


def say(key: str, **values: object) -> Wording:
    """Return a wording; a list of words is quoted, a list of wordings joined, numbers are the language's."""
    return Wording(key, values)


class _Formatter(Formatter):
    def __init__(self, language: Language) -> None:
        self._language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        match value:
            case str():
                return value
            case Wording():
                return value.text(self._language)
            case [Wording(), *_]:
                return format_spec.join(each.text(self._language) for each in value)
            case list():
                return quoted(value, self._language)
        text = format(value, format_spec)
        return text.replace(".", ",").replace("%", " %") if self._language == "de" else text


def quoted(words: Sequence[str], language: Language = "en", most: int = 5) -> str:
    """Return `„a“, „b“`: distinct, in order, at most `most` of them."""
    distinct = [f"„{shortened(word, _LONGEST_QUOTE)}“" for word in dict.fromkeys(words)]
    rest = len(distinct) - most
    more = "" if rest <= 0 else f" und {rest} weitere" if language == "de" else f" and {rest} more"
    return ", ".join(distinct[:most]) + more


def shortened(text: str, most: int = 60) -> str:
    """Return `text`, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def status_line(record: logging.LogRecord, language: Language) -> str:
    """Return a log record's message, in German as far as `gate/data/status_de.txt` has it."""
    known = word_lists("status_de").get(str(record.msg)) if language == "de" else None
    return known[0] % record.args if known and record.args else record.getMessage()


@cache
def check_names() -> Mapping[str, tuple[str, str]]:
    """Return what each check is called in German and in English, by its name in the code."""
    rows = (line.split(" | ") for line in word_lists("checks")["names"])
    return {name: (german, english) for name, english, german in rows}


Level = Literal["error", "warning"]
_MOST_SPANS = 20
_LONGEST_MESSAGE = 1_000
_MOST_SENTENCES, _LONGEST_SENTENCE = 3, 160  # quoted in a repair; characters of each


@dataclass(frozen=True)
class Subject:
    """A text, and what it is checked against."""

    text: Text
    form: Form  # with the length that the brief asks for
    show: Show
    house: House
    brief: Brief | None = None  # None: a text of unknown origin
    title: str = ""
    people: tuple[str, ...] = ()  # whom the answer itself declares
    sources: CopyIndex | None = None  # what it must not copy
    exclude_source: str = ""  # the id of the source that the text itself is
    truncated: bool = False  # the model stopped at its token limit
    is_ordered: bool = False  # a model wrote it for the brief, whose theme it has before it
    strangers: tuple[str, ...] = ()  # the people of other shows
    embeddings: SourceEmbeddings | None = None  # of the sources; None leaves out the semantic checks
    raw: str = ""  # the text before its letters were composed
    characters: tuple[Character, ...] = ()  # whom the answer declares, with their roles
    story: Synopsis | None = None  # what it tells in another length

    @cached_property
    def fixes(self) -> tuple[Fix, ...]:
        """What code can put right in the text; blanks around it are no fault of it."""
        raw = self.raw or self.text.raw
        first, last = len(raw) - len(raw.lstrip()), len(raw.rstrip())
        fixes = fix(raw, self.house.quotation_marks, (self.show.name, *self.known_names))[1]
        return tuple(each for each in fixes if first <= each.span.start and each.span.end <= last)

    @property
    def wanted_names(self) -> tuple[str, ...]:
        """The full names that must turn up; none without a brief."""
        return self.brief.characters if self.brief else ()

    @cached_property
    def known_names(self) -> tuple[str, ...]:
        """The full names of brief, cast and answer."""
        return (*self.wanted_names, *(member.name for member in self.show.cast), *self.people)

    @cached_property
    def brief_words(self) -> frozenset[str]:
        """The words of all the brief's fields, in lower case; the empty one, too."""
        if self.brief is None:
            return frozenset({""})
        brief = self.brief
        fields = (brief.show, brief.theme, brief.notes or "", brief.air_date or "")
        lines = (*fields, *brief.characters, *brief.beats, *brief.before)
        return frozenset({""}.union(*map(lower_words, lines)))

    @cached_property
    def given_words(self) -> frozenset[str]:
        """All words a text may take from brief, show, answer and title, and their genitives."""
        lines = (self.show.name, self.show.place, self.title, *self.show.aliases, *self.known_names)
        words = self.brief_words.union(*map(lower_words, (*lines, *self.house.known_words)))
        parts = words.union(*(word.split("-") for word in words))
        return frozenset(parts | {word + "s" for word in parts})


@dataclass(frozen=True)
class Finding:
    """What one check says of one text."""

    check: str
    passed: bool
    value: float | str  # what was measured
    limit: str  # what it was measured against, in words
    message: str  # one sentence a writer understands
    spans: tuple[Span, ...] = ()  # where, in characters of the text; at most 20
    level: Level = "error"  # an error refuses the text, a warning does not
    fixes: tuple[Fix, ...] = ()
    waived: str = ""  # why a person let it pass
    hint: str = ""  # what to do about it
    repair: str = ""  # both for the model, in German, with the sentences it marks
    wordings: tuple[Wording, Wording] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return the finding that `as_data` wrote; raises TypeError for anything else."""
        spans = tuple(Span(*span) for span in data.get("spans", ()))
        fixes = tuple(Fix(Span(*span), *rest) for span, *rest in data.get("fixes", ()))
        return cls(**{**data, "spans": spans, "fixes": fixes})

    def as_data(self) -> dict[str, Any]:
        """Return the finding as JSON holds it."""
        fixes = [[list(span), *rest] for span, *rest in self.fixes]
        data = {**vars(self), "spans": [list(span) for span in self.spans], "fixes": fixes, "wordings": ()}
        optional = ("waived", "hint", "repair", "wordings")
        return {key: value for key, value in data.items() if value or key not in optional}

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, in one line."""
        if not self.hint:
            return self.message
        return f"{self.message}{' ' if self.message.rstrip('“').endswith(('.', '?', '!', '…')) else ': '}{self.hint}"

    def marked_words(self, text: str) -> list[str]:
        """Return the words of `text` that it marks; what was measured where it marks none."""
        marked = [" ".join(text[start:end].split()) for start, end in self.spans]
        return list(dict.fromkeys(marked)) or [str(self.value)]


def _known(check: str) -> str:
    if check not in CHECK_NAMES:
        near = get_close_matches(check, CHECK_NAMES, 1)
        raise ValueError(f"no check '{check[:40]}'" + "".join(f": did you mean '{name}'?" for name in near))
    return check


class Waiver(BaseModel, frozen=True, extra="forbid"):
    """What a person lets pass: a check's findings that mark only `words`, and why."""

    check: Annotated[str, AfterValidator(_known)]
    words: Annotated[
        tuple[Annotated[str, AfterValidator(lambda words: " ".join(words.split()))], ...],
        BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [str(value)]),
    ]
    reason: Annotated[str, Field(min_length=1)]


def waivers_of(document: Document) -> tuple[Waiver, ...]:
    """Return the waivers in a file's front matter; raises InputError with the line of one that is wrong."""
    try:
        return TypeAdapter(tuple[Waiver, ...]).validate_python(document.meta.get("waived") or ())
    except ValidationError as error:
        raise InputError(f"{document.explain(error, 'waived')}: give check, words and reason") from error


def waive(findings: Sequence[Finding], text: str, waivers: Sequence[Waiver]) -> tuple[Finding, ...]:
    """Return findings, with those as waived whose words a waiver names."""
    found = []
    for finding in findings:
        words = set(finding.marked_words(text)) if not finding.passed else {""}
        fitting = (each for each in waivers if each.check == finding.check and words <= set(each.words))
        waiver = next(fitting, None)
        found.append(replace(finding, waived=waiver.reason) if waiver else finding)
    return tuple(found)


def judged(
    check: str,
    value: float | str,
    limit: Wording,
    problem: Wording | None = None,
    spans: Sequence[Span] = (),
    *,
    held: Wording | None = None,
    level: Level = "error",
    fixes: Sequence[Fix] = (),
) -> Finding:
    """Return the finding of a check, in English; one without a problem passes, and says what `held`."""
    message = problem or held or say(f"held {check}", **{**limit.values, "value": value})
    text, _, hint = message.text().partition(" | ")
    value = round(value, 3) if not isinstance(value, str) else shortened(value, _LONGEST_MESSAGE)
    text, places = shortened(text, _LONGEST_MESSAGE), tuple(spans[:_MOST_SPANS]) if problem else ()
    own = (check, problem is None, value, limit.text(), text, places, level, tuple(fixes))
    return Finding(*own, hint=hint, wordings=(limit, message))


def worded(finding: Finding, text: Text | None, language: Language) -> Finding:
    """Return a finding in a language, with its German repair; one that was recorded stays as it is."""
    if finding.wordings is None or (finding.passed and language != "de"):
        return finding
    limit, message = finding.wordings
    german = replace(finding, limit=limit.text("de"), message=say("held").text())
    if finding.passed:
        return german
    own, _, hint = message.text("de").partition(" | ")
    own = shortened(own, _LONGEST_MESSAGE)
    marked = [
        shortened(" ".join(each.text.split()), _LONGEST_SENTENCE)
        for each in (text.sentences if text else ())
        if any(each.span.start < span.end and span.start < each.span.end for span in finding.spans)
    ]
    quotes = [f"„{each}“" for each in list(dict.fromkeys(marked))[:_MOST_SENTENCES] if each not in own]
    repair = " ".join([own, *(["Im Satz:"] if quotes else []), *quotes, *([hint] if hint else [])])
    if language == "de":
        return replace(german, message=own, hint=hint, repair=repair)
    return replace(finding, repair=repair)


FEWEST_CASES = 3  # behind a share that is to prove something
_CHANCE = 0.1  # probability under which so many cases are no chance


def exceeds(cases: int, total: int, share: float) -> bool:
    """Whether three or more of `total` are more than a `share` by chance: one-sided binomial test, p < .1."""
    if cases < FEWEST_CASES or cases <= share * total:
        return False
    tail = range(cases, total + 1)
    return sum(comb(total, k) * share**k * (1 - share) ** (total - k) for k in tail) < _CHANCE
