"""Revise a text: a person's wish becomes the next version of it, or several that differ."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from synopsis_writer.brief import Brief, Note, Words, make_brief
from synopsis_writer.document import Document
from synopsis_writer.drafting import Findings, Judge, read_answer
from synopsis_writer.errors import BriefError, ExampleError, InputError, explain
from synopsis_writer.examples import named_members, read_brief, read_people
from synopsis_writer.formats.reading import Source, paragraphs, title_and_text
from synopsis_writer.gate.cast import parse_name
from synopsis_writer.gate.features import Features, features_of, kind_wording
from synopsis_writer.gate.finding import Finding, Level, judged, worded
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, stem
from synopsis_writer.gate.messages import Language, Wording, say
from synopsis_writer.gate.text import lower_words
from synopsis_writer.result import Attempt, FileFormat, Result, render
from synopsis_writer.show import Show
from synopsis_writer.storage.files import save, write_file
from synopsis_writer.synopsis import Character, Logline, Paragraph, Paragraphs, Synopsis, Title, Variants

MOST_VARIANTS = 5
_MOST_PARAGRAPHS, _LONGEST_PARAGRAPH = 40, 4000  # of a text that is revised; as of a synopsis
_REPLACED = frozenset({".md", ".markdown", ".json"})  # what this program writes; anything else stays as it is
_OUTDATED = frozenset({"draft", "release", "variant"})  # fields that are not true of the next version

# Of two sentences' stems of content words, shared by both: first sentences of 83 independent texts share 0.28
# at most, last ones 0.23; a sentence of which every third word was replaced still shares 0.5.
ALIKE = 0.4
_FIRST_WORDS = 3  # no two of the 83 texts begin with the same


_Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(lambda n: tuple(sorted({*n})))]


class Wish(BaseModel):
    """What a person wants of a text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: Note | None = None  # the wish in words, at most 2,000 characters; None: the brief has changed
    paragraphs: _Numbers = ()  # to write anew; empty: all
    keep: Annotated[tuple[Words, ...], Field(max_length=20)] = ()  # words that must stay as they are
    only: Literal["title", "logline"] | None = None  # the only part to write anew
    variants: Annotated[int, Field(ge=1, le=MOST_VARIANTS)] = 1  # how many versions, which must differ

    @model_validator(mode="after")
    def _check(self) -> "Wish":
        if sum((bool(self.paragraphs), self.only is not None, self.variants > 1)) > 1:
            parts = "some paragraphs, a title, a logline or variants"
            raise ValueError(f"{parts}: ask for one of these at a time")
        return self

    @property
    def shape(self) -> type[BaseModel]:
        """The shape of the answer."""
        if self.only is not None:
            return Title if self.only == "title" else Logline
        return Paragraphs if self.paragraphs else Variants if self.variants > 1 else Synopsis


def make_wish(**fields: Any) -> Wish:
    """Build a wish from a person's input; raises InputError."""
    try:
        return Wish(**fields)
    except ValidationError as error:
        raise InputError(f"revise: {explain(error)}") from error


def changed_brief(source: Source, **given: Any) -> Brief:
    """Return the brief of a text with what is given now; BriefError names the flag that is missing."""
    document = source.document
    stored = read_brief(document).as_data() if "brief" in document.meta else {}
    given = {name: value for name, value in given.items() if value}
    # Another form, or a length in the other unit, takes the place of the length that was asked for before.
    is_another = given.get("form", stored.get("form")) != stored.get("form")
    if is_another or {"words", "character_count"} & set(given):
        stored |= {"words": None, "character_count": None}
    fields = {**source.fields, **stored, **given}
    for name in ("show", "theme"):
        if name not in fields:
            raise BriefError(f"{source.where}: says no {name}: name it with --{name}")
    return make_brief(**fields)


def read_base(source: Source, brief: Brief, show: Show, people: Sequence[str], wish: Wish) -> Synopsis:
    """Return the text to be revised, its words as they stand, with what it lacks; raises InputError."""
    meta, text = source.document.meta, source.document.text
    title, text = (meta["title"], text) if meta.get("title") else title_and_text(text)
    parts = [part.strip() for part in re.split(r"\n[ \t]*\n", text) if part.strip()]
    parts = parts if len(parts) > 1 else paragraphs(text)
    longest = max(map(len, parts), default=0)
    if len(parts) > _MOST_PARAGRAPHS or longest > _LONGEST_PARAGRAPH:
        size = f"has {len(parts)} paragraphs, the longest of {longest:,} characters"
        limit = f"at most {_MOST_PARAGRAPHS} of {_LONGEST_PARAGRAPH:,} are revised"
        raise InputError(f"{source.where}: {size}: that is no synopsis; {limit}")
    if beyond := [number for number in wish.paragraphs if number > len(parts)]:
        raise InputError(f"{source.where}: has no paragraph {beyond[0]}: it has {len(parts)}")
    if missing := [words for words in wish.keep if words not in _in_one_line(text, title)]:
        raise InputError(f"{source.where}: does not contain „{missing[0]}“: copy the words from it")
    listed = {name: value for name, value in meta.items() if isinstance(value, list)}
    letters = [letter for letter in listed.get("storylines", []) if letter in ("A", "B", "C")]
    letters += [letters[-1] if letters else "A"] * len(parts)
    characters = []
    for person in read_people(people) or listed.get("characters", []):
        with contextlib.suppress(ValidationError):
            characters.append(Character.model_validate(person))
    characters = characters or named_members(show, text)
    if not characters and wish.shape in {Paragraphs, Title, Logline}:
        raise ExampleError(f"{source.where}: names no people: give --character 'Name: Rolle'")
    title = str(title or source.document.path.stem.replace("-", " "))
    logline = str(meta.get("logline") or f"{brief.theme.rstrip('.')}.")
    # Unchecked: what is not written anew stays to the letter.
    pairs = zip(letters, parts, strict=False)
    written = [Paragraph.model_construct(storyline=letter, text=part) for letter, part in pairs]
    fields: Any = {"title": title, "logline": logline, "characters": tuple(characters)}
    return Synopsis.model_construct(**fields, paragraphs=tuple(written))


def _in_one_line(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


class Reviser(Judge):
    """Reads a model's answers to a wish as versions of a text, and judges them by gate and wish."""

    def __init__(self, base: Synopsis, wish: Wish, lang: Language, *judge: Any) -> None:
        super().__init__(*judge)
        self._base, self._wish, self._lang = base, wish, lang

    async def __call__(self, attempt: Attempt) -> Attempt:
        """Read an answer, put what is new into the text, and check all of it."""
        answer, problem = read_answer(attempt, self._wish.shape, self.fix)
        if answer is None:
            return replace(attempt, problem=problem)
        what, wanted = self._wish.shape.__name__.lower(), len(self._wish.paragraphs) or self._wish.variants
        entries = getattr(answer, what, None)
        if isinstance(entries, tuple) and len(entries) != wanted:
            miscounted = f"structure: {what} has {len(entries)} entries: give {wanted}"
            return replace(attempt, problem=miscounted)
        is_whole = self._wish.shape in {Synopsis, Variants}
        parts = [await self.examine(text, attempt, is_whole=is_whole) for text in self._texts(answer)]
        if self._wish.variants == 1:
            return parts[0]
        alike = compare([features_of(each.synopsis) for each in parts if each.synopsis is not None])
        for index, finding in enumerate(alike):
            findings = (*parts[index].findings, worded(finding, None, self._lang))
            parts[index] = replace(parts[index], findings=findings)
        numbered = [(number, each) for number, part in enumerate(parts, start=1) for each in part.findings]
        findings = tuple(self._of_variant(*each) for each in numbered)
        return replace(parts[0], findings=findings, variants=tuple(parts))

    async def _find(self, synopsis: Synopsis, attempt: Attempt) -> Findings:
        by_wish = (worded(finding, None, self._lang) for finding in self._by_wish(synopsis))
        return (*await super()._find(synopsis, attempt), *by_wish)

    def _of_variant(self, number: int, finding: Finding) -> Finding:
        message = f"{'Variante' if self._lang == 'de' else 'variant'} {number}: {finding.message}"
        repair = f"Variante {number}: {finding.repair or worded(finding, None, 'de').sentence}"
        return replace(finding, message=message, repair=repair, spans=(), fixes=())

    def _texts(self, answer: BaseModel) -> list[Synopsis]:
        """Return the new versions that an answer makes."""
        match answer:
            case Synopsis():
                return [answer]
            case Variants():
                return list(answer.variants)
            case Paragraphs():
                new = dict(zip(self._wish.paragraphs, answer.paragraphs, strict=True))
                old = enumerate(self._base.paragraphs, start=1)
                parts = tuple(new.get(number, paragraph) for number, paragraph in old)
                return [self._base.model_copy(update={"paragraphs": parts})]
            case _:
                return [self._base.model_copy(update=answer.model_dump())]

    def _by_wish(self, text: Synopsis) -> list[Finding]:
        """Return what only the wish asks for: something has changed, and some words have not."""
        old, wanted = self._base, self._wish.paragraphs
        pairs = enumerate(zip(old.paragraphs, text.paragraphs, strict=False), 1)
        changed = [before.text != after.text for number, (before, after) in pairs if number in wanted]
        changed = changed or [(old.title, old.logline, old.text) != (text.title, text.logline, text.text)]
        value, problem = ("changed", None) if all(changed) else ("unchanged", say("change"))
        found = [judged("change", value, say("limit change"), problem)]
        if self._wish.keep:
            whole = _in_one_line(text.title, text.logline, text.text)
            lost = [words for words in self._wish.keep if words not in whole]
            problem = say("keep", words=lost) if lost else None
            found.append(judged("keep", len(lost), say("limit keep"), problem))
        return found


def _is_like(one: str, other: str) -> bool:
    """Whether a sentence is too like another: the same first words, or too many shared ones."""
    mine, theirs = lower_words(one), lower_words(other)
    if mine[:_FIRST_WORDS] == theirs[:_FIRST_WORDS]:
        return True
    stems = [{stem(word) for word in words if word not in FUNCTION_WORDS} for words in (mine, theirs)]
    return len(stems[0] & stems[1]) > ALIKE * len(stems[0] | stems[1])


def compare(variants: Sequence[Features]) -> list[Finding]:
    """Return a finding a variant: whether it begins, is told and ends otherwise than those before it."""
    views = [parse_name(each.view) for each in variants]
    enough = len(set(views)) >= min(len(views), max(len(each.people) for each in variants))
    faults: list[list[Wording]] = [[] for _ in variants]
    kinds: list[list[Wording]] = [[] for _ in variants]
    for (index, one), (later, two) in combinations(enumerate(variants), 2):
        number = index + 1
        for end in ("opening", "ending"):
            sentence, kind = getattr(one, end), getattr(one, f"{end}_kind")
            if _is_like(sentence, getattr(two, end)):
                faults[later].append(say(f"same {end}", n=number, sentence=sentence))
            elif kind == getattr(two, f"{end}_kind"):
                kinds[later].append(say(f"same kind of {end}", n=number, kind=kind_wording(kind)))
        if not enough and views[index] == views[later]:
            faults[later].append(say("same view", n=number, name=one.view))
    limit = say("limit variants", share=ALIKE)
    found = []
    for wrong, same in zip(faults, kinds, strict=True):
        problem = say("variants", faults=[*wrong, *same]) if wrong or same else None
        level: Level = "error" if wrong or not same else "warning"
        found.append(judged("variants", len(wrong) + len(same), limit, problem, level=level))
    return found


@dataclass(frozen=True)
class Revised:
    """What came of a wish."""

    document: Document  # the text that was revised
    request: Mapping[str, Any]  # what was asked for, by name
    results: tuple[Result, ...]  # one, or one a variant

    @property
    def result(self) -> Result:
        """The first result: the only one unless variants were asked for."""
        return self.results[0]

    @property
    def is_accepted(self) -> bool:
        """Whether the gate accepted all of it."""
        return all(result.accepted for result in self.results)

    def version(self, index: int) -> Document:
        """Return one of the new versions, with what a person had added to the front matter."""
        result = self.results[index]
        meta = result.front_matter() | ({"variant": index + 1} if len(self.results) > 1 else {})
        own = {key: value for key, value in self.document.meta.items() if key not in {*meta, *_OUTDATED}}
        return Document(self.document.path, {**meta, **own}, result.text)


def save_version(new: Document, *, in_place: bool, folder: Path | None = None, name: str = "") -> Path:
    """Save a version, if `in_place` over the last one, which must be in the log; return its path.

    Else it is a file of its own, Markdown or JSON as the last one, in `folder` or beside it.
    """
    old = new.path
    file_format: FileFormat = "json" if old.suffix.lower() == ".json" else "md"
    content = render(new.meta, new.text, file_format)
    if in_place and old.suffix.lower() in _REPLACED:
        write_file(old, content)
        return old
    return save(content, folder or old.parent, name or old.stem, file_format)
