"""The gate: all checks, in the order in which people want to read their findings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.formats.reading import title_and_text
from synopsis_writer.gate import cast, consistency, form, language, lexicon, story
from synopsis_writer.gate.finding import Finding, Language, Subject, worded
from synopsis_writer.gate.form import find_actors
from synopsis_writer.gate.sources import CopyIndex, Source, SourceEmbeddings
from synopsis_writer.gate.text import MOST_CHARACTERS, analyse
from synopsis_writer.house import CHECK_NAMES, House
from synopsis_writer.show import Show, foreign_cast
from synopsis_writer.synopsis import Synopsis

Check = Callable[[Subject], Finding | None]

_MODULES = (form, language, story, cast, consistency)
_FUNCTIONS: dict[str, Check] = {
    name: value
    for module in _MODULES
    for name, value in vars(module).items()
    if getattr(value, "__module__", "") == module.__name__
}
ALL_CHECKS: Mapping[str, Check] = {name: _FUNCTIONS[name] for name in CHECK_NAMES if name in _FUNCTIONS}
# They apply only where the embeddings of the sources are given, and `lengths` only to a story retold in another length.
SEMANTIC_CHECKS = {name: ALL_CHECKS[name] for name in ("paraphrase", "closeness")}
CHECKS = {name: ALL_CHECKS[name] for name in ALL_CHECKS if name not in (*SEMANTIC_CHECKS, "lengths")}


@dataclass(frozen=True)
class Gate:
    """All checks but the disabled ones, with what they check a text against."""

    house: House
    sources: CopyIndex | None = None
    disabled: frozenset[str] = frozenset()
    shows: tuple[Show, ...] = ()  # whose people must not turn up in each other
    embeddings: SourceEmbeddings | None = None
    lang: Language = "en"

    def warm_up(self) -> None:
        """Load word lists and models."""
        lexicon.classify("")
        lexicon.commonness("haus")
        form.tensed_verbs(analyse("Er geht."))

    def examine(
        self,
        synopsis: Synopsis,
        brief: Brief,
        show: Show,
        *,
        truncated: bool = False,
        is_ordered: bool = False,
        exclude_source: str = "",
        story: Synopsis | None = None,
    ) -> tuple[Finding, ...]:
        """Check a synopsis against its brief, all sources but itself, and the story that it retells."""
        people = tuple(person.name for person in synopsis.characters)
        subject = self.subject(synopsis.text, brief.form, show, brief, synopsis.title, people)
        subject = replace(subject, truncated=truncated, is_ordered=is_ordered, exclude_source=exclude_source)
        return self.judge(replace(subject, characters=synopsis.characters, story=story))

    def subject(
        self,
        raw: str,
        form: str | None,
        show: Show,
        brief: Brief | None = None,
        title: str = "",
        people: tuple[str, ...] = (),
    ) -> Subject:
        """Analyse a text, and add what it is checked against; BriefError where the house has no such form."""
        asked = self.house.form(form)
        asked = asked.with_length(*brief.length) if brief else asked
        if asked.headline != "no" and not title and (heading := title_and_text(raw))[0]:
            title, rest = heading
            raw = rest.rjust(len(raw.rstrip()))  # blanks for the headline, so that spans stay
        if asked.actors_in_brackets != "no":
            people = (*people, *(match[1] for match in find_actors(raw)))
        subject = Subject(analyse(raw), asked, show, self.house, brief, title, people, self.sources)
        strangers = tuple(foreign_cast(self.shows, show))
        return replace(subject, strangers=strangers, embeddings=self.embeddings, raw=raw[:MOST_CHARACTERS])

    def as_form(self, subject: Subject, form: str) -> Subject:
        """Return the same text as another form."""
        length = subject.brief.length if subject.brief else (None, None)
        return replace(subject, form=self.house.form(form).with_length(*length))

    def judge(self, subject: Subject) -> tuple[Finding, ...]:
        """Run all checks that apply and are neither disabled nor off; one finding per check."""
        findings: list[Finding] = []
        for name, check in ALL_CHECKS.items():
            level = subject.form.level(name)
            if name not in self.disabled and level != "off" and (finding := check(subject)) is not None:
                finding = replace(finding, level=level) if level == "warning" else finding
                findings.append(worded(finding, subject.text, self.lang))
        return tuple(findings)


def failures(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that refuse the text."""
    return tuple(each for each in findings if not each.passed and each.level == "error" and not each.waived)


def warnings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that are reported and do not refuse the text."""
    return tuple(each for each in findings if not each.passed and each.level == "warning" and not each.waived)


def copy_sources(examples: Sequence[Example], more: Mapping[str, str] | None = None) -> list[Source]:
    """Return what must not be copied: the examples, and `more` texts by id."""
    sources = [
        Source(each.id, each.synopsis.text, [person.name for person in each.synopsis.characters], each.brief.theme)
        for each in examples
    ]
    return sources + [Source(name, text) for name, text in (more or {}).items()]
