"""The copy desk: a model reads a finished text, and what it remarks must quote the text."""

import logging
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, Field

from synopsis_writer.brief import Brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document
from synopsis_writer.drafting import Author, Judge, ModelAuthor, read_answer, write
from synopsis_writer.errors import ModelError
from synopsis_writer.examples import listed_people
from synopsis_writer.formats.reading import paragraphs
from synopsis_writer.gate.finding import Finding, judged, worded
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, SHORTEST_CONTENT, pattern, stem
from synopsis_writer.gate.messages import Language, quoted, say
from synopsis_writer.gate.text import Span, lower_words
from synopsis_writer.house.form import REVIEW
from synopsis_writer.log import Recording
from synopsis_writer.models.base import Answer, Limits, ModelClient
from synopsis_writer.prompts.templates import Prompts
from synopsis_writer.result import Attempt, Result
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import NO_COST, Usage

_log = logging.getLogger(__name__)

KINDS = ("Schritt", "Wissen", "Name", "Rolle", "Beziehung", "Zahl", "Zeit", "Bezug", "Sprache", "Thema")
_MOST_REMARKS = 12
_LONGEST = 300  # characters of each part of a remark
_LIMIT = say("limit review")
_UNREAD = "unread"


class Event(BaseModel, extra="forbid"):
    """What happens in a paragraph, by its number from 1."""

    number: int
    event: str


class Remark(BaseModel, extra="forbid"):
    """One fault: the words of the text, the kind of fault, what is wrong, and what would do."""

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
        """The passages that speak to whoever judges the text, and not of its story."""
        expression = pattern("words to a judge", re.IGNORECASE | re.MULTILINE)
        lines = (self.title, self.logline, *self.people, self.text)
        return [match[0] for line in lines for match in expression.finditer(line)]

    def find(self, quote: str) -> list[Span] | None:
        """Return where a quotation stands in the text; empty: in title, logline or people; None: nowhere."""
        if span := find_quotation(quote, self.text):
            return [span]
        around = "\n".join((self.title, self.logline, *self.people))
        return None if find_quotation(quote, around) is None else []


def find_quotation(quotation: str, text: str) -> Span | None:
    """Return where the words of a quotation stand in a text, whatever is between them, and their case."""
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
    parts = enumerate(page.paragraphs, start=1)
    near = sum(not _stems(events[number]).isdisjoint(_stems(part)) for number, part in parts)
    if 2 * near < len(page.paragraphs):
        return "it does not say what happens in the text"
    if page.orders and not review.remarks:
        return f"it remarks nothing, though the text speaks to its reader: {quoted(page.orders)}"
    return ""


def _stems(text: str) -> set[str]:
    words = (word for word in lower_words(text) if len(word) >= SHORTEST_CONTENT)
    return {stem(word) for word in words if word not in FUNCTION_WORDS}


@dataclass(frozen=True)
class Reviewer:
    """Has a model read texts; one that fails, or answers anything else, leaves a text unreviewed."""

    client: ModelClient
    prompts: Prompts
    limits: Limits
    disabled: frozenset[str] = frozenset()
    lang: Language = "en"

    async def finish(self, result: Result, author: Author, judge: Judge, recording: Recording) -> Result:
        """Read an accepted text; what is remarked is repaired once, and read again if that is no worse."""
        attempts, reviews = list(result.attempts), list[Attempt]()

        async def read(attempt: Attempt, synopsis: Synopsis) -> Attempt:
            page = Page.of(synopsis)
            answers = await self.read(page, result.brief, result.show, recording, attempt.number)
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
            number = best.number + 1
            try:
                repaired = await write(author, judge, recording, attempts=number, previous=best)
            except ModelError as error:
                _log.warning("review: the repair failed, the text stays as it was: %s", error)
            else:
                attempts += repaired.attempts
                if repaired.accepted is not None and repaired.best is not None:
                    best = min(await read(repaired.best, repaired.accepted), best, key=remarks)
                else:
                    _log.info("review: the repair is refused, the text stays as it was")
        return replace(result, attempts=tuple(attempts), best=best, reviews=tuple(reviews))

    async def read(
        self, page: Page, brief: Brief, show: Show, recording: Recording, number: int = 1
    ) -> list[Attempt]:
        """Return the answers on attempt `number`, none where the check is off; the last has what is found."""
        level = self.prompts.house.form(brief.form).level(REVIEW)
        if level == "off" or REVIEW in self.disabled:
            return []
        prompt = self.prompts.review(brief, show, page.as_data())
        author = ModelAuthor(self.client, self.prompts, prompt, self.limits, Review)
        answers: list[Attempt] = []
        _log.info("review: %s reads the text", self.client.name)
        try:
            async for draft in author.drafts(number, 0, None):
                asked = replace(draft, is_review=True)
                recording.answered(asked)
                finding = self._finding(asked, page)
                finding = replace(finding, level=level) if finding.value != _UNREAD else finding
                answers.append(replace(asked, problem="", findings=(finding,)))
                recording.judged(asked, answers[-1])
        except ModelError as error:
            recording.failed(error)
            paid = Answer("", usage=error.usage or Usage(), cost=error.cost if error.usage else NO_COST)
            answers.append(Attempt(number, paid, is_review=True, problem="", findings=(self._unread(error),)))
        if (finding := answers[-1].findings[0]).value == _UNREAD:
            _log.warning("review: %s", finding.sentence)
        return answers

    def _finding(self, asked: Attempt, page: Page) -> Finding:
        review, problem = read_answer(asked, Review)
        if review is None or (problem := unread(review, page)):
            return self._unread(f"the answer is no review: {problem}")
        counted, dropped = faults(review, page)
        for reason in dropped:
            _log.info("review: a remark is dropped: %s", reason)
        if not counted:
            return worded(judged(REVIEW, 0, _LIMIT), None, self.lang)
        remarks = "; ".join(str(remark) for remark, _ in counted)
        spans = [span for _, marked in counted for span in marked]
        finding = judged(REVIEW, len(counted), _LIMIT, say("review", remarks=remarks), spans)
        repair = f"Anmerkungen der Schlussredaktion; ändere nur, was sie betreffen: {remarks}."
        return replace(worded(finding, None, self.lang), repair=repair)

    def _unread(self, reason: object) -> Finding:
        problem = say("not reviewed", reason=clean_name(str(reason), _LONGEST))
        return worded(judged(REVIEW, _UNREAD, _LIMIT, problem, level="warning"), None, self.lang)


def remarks(attempt: Attempt) -> int:
    """Return how many remarks of the copy desk an attempt has; none where it was not read."""
    values = [finding.value for finding in attempt.findings if finding.check == REVIEW]
    return sum(int(value) for value in values if not isinstance(value, str))
