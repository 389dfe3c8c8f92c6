"""Reworks a finished text: to a person's wish, or to the copy desk's remarks."""

import contextlib
import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from synopsis_writer.brief import Brief, Note, Words, make_brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document
from synopsis_writer.drafting import Author, Findings, Judge, ModelAuthor, read_answer, write
from synopsis_writer.errors import BriefError, ExampleError, InputError, ModelError, explain
from synopsis_writer.examples import listed_people, named_members, read_brief, read_people
from synopsis_writer.formats.reading import Source, paragraphs, title_and_text
from synopsis_writer.gate.cast import parse_name
from synopsis_writer.gate.features import Features, features_of, kind_wording
from synopsis_writer.gate.finding import Finding, Language, Level, Wording, judged, quoted, say, worded
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, SHORTEST_CONTENT, pattern, stem
from synopsis_writer.gate.text import Span, lower_words
from synopsis_writer.house import REVIEW
from synopsis_writer.log import Recording
from synopsis_writer.models.base import Answer, ModelClient
from synopsis_writer.models.resolve import limits_of
from synopsis_writer.prompts.templates import Prompts
from synopsis_writer.result import Attempt, FileFormat, Result, render
from synopsis_writer.settings import Settings
from synopsis_writer.show import Show
from synopsis_writer.storage.files import save, write_file
from synopsis_writer.synopsis import Character, Logline, Paragraph, Paragraphs, Synopsis, Title, Variants
from synopsis_writer.usage import NO_COST, Usage

_log = logging.getLogger(__name__)
_MOST_PARAGRAPHS, _LONGEST_PARAGRAPH = 40, 4000  # of a text that is revised; as of a synopsis
_REPLACED = frozenset({".md", ".markdown", ".json"})  # what this program writes; anything else stays as it is
_OUTDATED = frozenset({"draft", "release", "variant"})  # fields that are not true of the next version

# Of two sentences' stems of content words, shared by both: first sentences of 83 independent texts share 0.28
# at most, last ones 0.23; a sentence of which every third word was replaced still shares 0.5.
ALIKE = 0.4
_FIRST_WORDS = 3  # no two of the 83 texts begin with the same

KINDS = ("Schritt", "Wissen", "Name", "Rolle", "Beziehung", "Zahl", "Zeit", "Bezug", "Sprache", "Thema")
_MOST_REMARKS, _LONGEST = 12, 300  # of the copy desk; characters of each part of a remark
_LIMIT, _UNREAD = say("limit review"), "unread"
_Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(lambda n: tuple(sorted({*n})))]


class Wish(BaseModel, frozen=True, extra="forbid"):
    """What a person wants of a text."""

    note: Note | None = None  # the wish in words, at most 2,000 characters; None: the brief has changed
    paragraphs: _Numbers = ()  # to rewrite; empty: all
    keep: Annotated[tuple[Words, ...], Field(max_length=20)] = ()  # words that must stay as they are
    only: Literal["title", "logline"] | None = None  # the only part to rewrite
    variants: Annotated[int, Field(ge=1, le=5)] = 1  # how many versions, which must differ

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
    stored = read_brief(source.document).as_data() if "brief" in source.document.meta else {}
    given = {name: value for name, value in given.items() if value}
    # Another form, or a length in the other unit, takes the place of the length that was asked for before.
    if given.get("form", stored.get("form")) != stored.get("form") or {"words", "character_count"} & set(given):
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
    # Unchecked: what is not rewritten stays to the letter.
    pairs = zip(letters, parts, strict=False)
    written = [Paragraph.model_construct(storyline=letter, text=part) for letter, part in pairs]
    fields: Any = {"title": title, "logline": logline, "characters": tuple(characters)}
    return Synopsis.model_construct(**fields, paragraphs=tuple(written))


def _in_one_line(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


class Reviser(Judge):
    """Reads a model's answers to a wish as versions of a text, and judges them by gate and wish."""

    is_ordered = False  # the text may be a person's

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
            return replace(attempt, problem=f"structure: {what} has {len(entries)} entries: give {wanted}")
        is_whole = self._wish.shape in {Synopsis, Variants}
        parts = [await self.examine(text, attempt, is_whole=is_whole) for text in self._texts(answer)]
        if self._wish.variants == 1:
            return parts[0]
        alike = compare([features_of(each.synopsis) for each in parts if each.synopsis is not None])
        for index, finding in enumerate(alike):
            findings = (*parts[index].findings, worded(finding, None, self._lang))
            parts[index] = replace(parts[index], findings=findings)
        numbered = enumerate(parts, start=1)
        whole = tuple(self._of_variant(number, each) for number, part in numbered for each in part.findings)
        return replace(parts[0], findings=whole, variants=tuple(parts))

    async def _find(self, synopsis: Synopsis, attempt: Attempt) -> Findings:
        by_wish = (worded(finding, None, self._lang) for finding in self._by_wish(synopsis))
        return (*await super()._find(synopsis, attempt), *by_wish)

    def _of_variant(self, number: int, finding: Finding) -> Finding:
        message = f"{'Variante' if self._lang == 'de' else 'variant'} {number}: {finding.message}"
        repair = f"Variante {number}: {finding.repair or worded(finding, None, 'de').sentence}"
        return replace(finding, message=message, repair=repair, spans=(), fixes=())

    def _texts(self, answer: BaseModel) -> list[Synopsis]:
        if isinstance(answer, Synopsis | Variants):
            return list(answer.variants) if isinstance(answer, Variants) else [answer]
        update = answer.model_dump()
        if isinstance(answer, Paragraphs):
            new, old = dict(zip(self._wish.paragraphs, answer.paragraphs, strict=True)), self._base.paragraphs
            update = {"paragraphs": tuple(new.get(number, part) for number, part in enumerate(old, start=1))}
        return [self._base.model_copy(update=update)]

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
            found.append(judged("keep", len(lost), say("limit keep"), say("keep", words=lost) if lost else None))
        return found


def _is_like(one: str, other: str) -> bool:
    """Whether a sentence is too like another: the same first words, or too many shared ones."""
    mine, theirs = lower_words(one), lower_words(other)
    own, others = _stems(mine), _stems(theirs)
    return mine[:_FIRST_WORDS] == theirs[:_FIRST_WORDS] or len(own & others) > ALIKE * len(own | others)


def _stems(words: Sequence[str], least: int = 1) -> set[str]:
    return {stem(word) for word in words if len(word) >= least and word not in FUNCTION_WORDS}


def compare(variants: Sequence[Features]) -> list[Finding]:
    """Return a finding per variant: whether opening, point of view and ending differ from those before it."""
    views = [parse_name(each.view) for each in variants]
    enough = len(set(views)) >= min(len(views), max(len(each.people) for each in variants))
    faults: list[list[Wording]] = [[] for _ in variants]
    kinds: list[list[Wording]] = [[] for _ in variants]
    for (index, one), (later, two) in combinations(enumerate(variants), 2):
        for end in ("opening", "ending"):
            sentence, kind = getattr(one, end), getattr(one, f"{end}_kind")
            if _is_like(sentence, getattr(two, end)):
                faults[later].append(say(f"same {end}", n=index + 1, sentence=sentence))
            elif kind == getattr(two, f"{end}_kind"):
                kinds[later].append(say(f"same kind of {end}", n=index + 1, kind=kind_wording(kind)))
        if not enough and views[index] == views[later]:
            faults[later].append(say("same view", n=index + 1, name=one.view))
    limit = say("limit variants", share=ALIKE)
    found = []
    for wrong, same in zip(faults, kinds, strict=True):
        problem = say("variants", faults=[*wrong, *same]) if wrong or same else None
        level: Level = "error" if wrong or not same else "warning"
        found.append(judged("variants", len(wrong) + len(same), limit, problem, level=level))
    return found


@dataclass(frozen=True)
class Revised:
    """The result of a wish."""

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
    """Save a version, over the last one if `in_place`, else in `folder` or beside it; return its path."""
    old = new.path
    file_format: FileFormat = "json" if old.suffix.lower() == ".json" else "md"
    content = render(new.meta, new.text, file_format)
    if in_place and old.suffix.lower() in _REPLACED:
        write_file(old, content)
        return old
    return save(content, folder or old.parent, name or old.stem, file_format)


class Event(BaseModel, extra="forbid"):
    """What happens in a paragraph, by its number from 1."""

    number: int
    event: str


class Remark(BaseModel, extra="forbid"):
    """One fault: the words of the text, the kind of fault, what is wrong, and a way out."""

    quote: str
    kind: str = Field(json_schema_extra={"enum": list(KINDS)})
    wrong: str
    way_out: str

    def __str__(self) -> str:
        parts = (self.quote.strip("\"'„“”‚‘’«»‹›` \n\t"), self.wrong, self.way_out)
        quote, wrong, way_out = (clean_name(each, _LONGEST) for each in parts)
        return f"„{quote}“ ({self.kind.strip().capitalize()}: {wrong} → {way_out})"


class Review(BaseModel, extra="forbid"):
    """An answer of the copy desk: what happens, which shows that the text was read, and the remarks."""

    events: list[Event]
    remarks: list[Remark]


@dataclass(frozen=True)
class Page:
    """What the copy desk is given of a text."""

    text: str
    paragraphs: tuple[str, ...]
    title: str = ""
    logline: str = ""
    people: tuple[str, ...] = ()  # each as `Name: Rolle`

    @classmethod
    def of(cls, source: Synopsis | Document) -> "Page":
        """Return the page of a synopsis, or of a file in which a title and people may be missing."""
        if isinstance(source, Synopsis):
            source = Document(Path(), source.front_matter(), source.text)
        people = tuple(f"{person.name}: {person.role}" for person in listed_people(source))
        title, logline = (str(source.meta.get(name) or "") for name in ("title", "logline"))
        return cls(source.text, tuple(paragraphs(source.text)), title, logline, people)

    def as_data(self) -> dict[str, object]:
        """Return what is known, under German labels."""
        numbered = {str(number): part for number, part in enumerate(self.paragraphs, start=1)}
        fields = {"Titel": self.title, "Logline": self.logline, "Figuren": list(self.people)}
        return {**{label: value for label, value in fields.items() if value}, "Absätze": numbered}

    @property
    def orders(self) -> list[str]:
        """The passages that address whoever judges the text, instead of telling its story."""
        expression = pattern("words to a judge", re.IGNORECASE | re.MULTILINE)
        lines = (self.title, self.logline, *self.people, self.text)
        return [match[0] for line in lines for match in expression.finditer(line)]

    def find(self, quote: str) -> list[Span] | None:
        """Return where the text has a quotation; empty: in title, logline or people; None: nowhere."""
        if span := find_quotation(quote, self.text):
            return [span]
        around = "\n".join((self.title, self.logline, *self.people))
        return None if find_quotation(quote, around) is None else []


def find_quotation(quotation: str, text: str) -> Span | None:
    """Return where a text has the words of a quotation, ignoring case and what is between them."""
    words = re.findall(r"\w+", unicodedata.normalize("NFC", quotation))
    expression = r"(?<!\w)" + r"\W+".join(words) + r"(?!\w)"
    match = re.search(expression, unicodedata.normalize("NFC", text), re.IGNORECASE) if words else None
    return Span(*match.span()) if match else None


def faults(review: Review, page: Page) -> tuple[list[tuple[Remark, list[Span]]], list[str]]:
    """Return the remarks that count, with what they mark, and in a sentence each why others do not."""
    counted, dropped = list[tuple[Remark, list[Span]]](), list[str]()
    praise = pattern("nothing to change", re.IGNORECASE)
    for remark in review.remarks[:_MOST_REMARKS]:
        spans, quote = page.find(remark.quote), clean_name(remark.quote)
        words, wrong, way_out = map(lower_words, (remark.quote, remark.wrong, remark.way_out))
        if spans is None:
            dropped.append(f"it quotes what is not in the text: „{quote}“")
        elif remark.kind.strip().capitalize() not in KINDS:
            dropped.append(f"„{clean_name(remark.kind)}“ is no kind of fault")
        elif len(words) == 1 and lower_words(page.text).count(words[0]) > 1:
            dropped.append(f"„{quote}“ stands in the text more than once")
        elif not wrong or way_out in ([], words) or any(map(praise.search, (remark.wrong, remark.way_out))):
            dropped.append(f"it has nothing to change in „{quote}“")
        else:
            counted.append((remark, spans))
    return counted, dropped


def unread(review: Review, page: Page) -> str:
    """Return why an answer shows that the text was not read, or followed its orders; empty where it was."""
    events = {event.number: event.event for event in review.events}
    if sorted(events) != list(range(1, len(page.paragraphs) + 1)):
        return f"it tells {len(events)} of {len(page.paragraphs)} paragraphs"
    pairs = ((events[number], part) for number, part in enumerate(page.paragraphs, start=1))
    stems = ([_stems(lower_words(text), SHORTEST_CONTENT) for text in pair] for pair in pairs)
    near = sum(not event.isdisjoint(part) for event, part in stems)
    if 2 * near < len(page.paragraphs):
        return "it does not say what happens in the text"
    if page.orders and not review.remarks:
        return f"it remarks nothing, though the text speaks to its reader: {quoted(page.orders)}"
    return ""


@dataclass(frozen=True)
class Reviewer:
    """Has a model read texts; one that fails, or answers anything else, leaves a text unreviewed."""

    client: ModelClient
    prompts: Prompts
    settings: Settings

    async def finish(self, result: Result, author: Author, judge: Judge, recording: Recording) -> Result:
        """Read an accepted text; what is remarked is repaired once, and read again if that is no worse."""
        attempts, reviews = list(result.attempts), list[Attempt]()

        async def read(attempt: Attempt, synopsis: Synopsis) -> Attempt:
            answers = await self.read(Page.of(synopsis), result.brief, result.show, recording, attempt.number)
            reviews.extend(answers)
            findings = answers[-1].findings if answers else ()
            reviewed = replace(attempt, findings=(*attempt.findings, *findings))
            recording.judged(attempt, reviewed)
            attempts[:] = [reviewed if each is attempt else each for each in attempts]
            return reviewed

        if result.accepted is None or result.best is None or not result.attempts:
            return result
        best = await read(result.best, result.accepted)
        if remarks(best):
            _log.info("review: asking for a repair; %s", " ".join((*best.problems, *best.warnings)))
            try:
                repaired = await write(author, judge, recording, attempts=best.number + 1, previous=best)
            except ModelError as error:
                _log.warning("review: the repair failed, the text stays as it was: %s", error)
            else:
                attempts += repaired.attempts
                if repaired.accepted is not None and repaired.best is not None:
                    best = min(await read(repaired.best, repaired.accepted), best, key=remarks)
                else:
                    _log.info("review: the repair is refused, the text stays as it was")
        return replace(result, attempts=tuple(attempts), best=best, reviews=tuple(reviews))

    async def read(self, page: Page, brief: Brief, show: Show, recording: Recording, number: int = 1) -> list[Attempt]:
        """Return the answers on attempt `number`, none where the check is off; the last has what is found."""
        level = self.prompts.house.form(brief.form).level(REVIEW)
        if level == "off" or REVIEW in self.settings.disable:
            return []
        prompt = self.prompts.review(brief, show, page.as_data())
        author = ModelAuthor(self.client, self.prompts, prompt, limits_of(self.settings), Review)
        answers: list[Attempt] = []
        _log.info("review: %s reads the text", self.client.name)
        try:
            async for draft in author.drafts(number, 0, None):
                asked = replace(draft, is_review=True)
                recording.answered(asked)
                answers.append(replace(asked, problem="", findings=(self._finding(asked, page, level),)))
                recording.judged(asked, answers[-1])
        except ModelError as error:
            recording.failed(error)
            paid = Answer("", usage=error.usage or Usage(), cost=error.cost if error.usage else NO_COST)
            answers.append(Attempt(number, paid, is_review=True, problem="", findings=(self._unread(error),)))
        if (finding := answers[-1].findings[0]).value == _UNREAD:
            _log.warning("review: %s", finding.sentence)
        return answers

    def _finding(self, asked: Attempt, page: Page, level: Level) -> Finding:
        review, problem = read_answer(asked, Review)
        if review is None or (problem := unread(review, page)):
            return self._unread(f"the answer is no review: {problem}")
        counted, dropped = faults(review, page)
        for reason in dropped:
            _log.info("review: a remark is dropped: %s", reason)
        remarks = "; ".join(str(remark) for remark, _ in counted)
        spans = [span for _, marked in counted for span in marked]
        fault = say("review", remarks=remarks) if counted else None
        finding = worded(judged(REVIEW, len(counted), _LIMIT, fault, spans, level=level), None, self.settings.lang)
        repair = f"Anmerkungen der Schlussredaktion; ändere nur, was sie betreffen: {remarks}."
        return replace(finding, repair=repair) if counted else finding

    def _unread(self, reason: object) -> Finding:
        problem = say("not reviewed", reason=clean_name(str(reason), _LONGEST))
        return worded(judged(REVIEW, _UNREAD, _LIMIT, problem, level="warning"), None, self.settings.lang)


def remarks(attempt: Attempt) -> int:
    """Return how many remarks of the copy desk an attempt has; none where it was not read."""
    values = [finding.value for finding in attempt.findings if finding.check == REVIEW]
    return sum(int(value) for value in values if not isinstance(value, str))
