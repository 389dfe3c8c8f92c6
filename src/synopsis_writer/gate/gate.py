"""The gate: all checks, in the order in which a person wants to read their findings."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example
from synopsis_writer.gate import cast, form, language, lexicon, markup, semantic, story
from synopsis_writer.gate.copies import CopyIndex, Source
from synopsis_writer.gate.embeddings import SourceEmbeddings
from synopsis_writer.gate.finding import Finding, Subject
from synopsis_writer.gate.lexicon import UNCACHED, LanguageClassifier
from synopsis_writer.gate.text import analyse
from synopsis_writer.house.house import House
from synopsis_writer.kinds import Form
from synopsis_writer.show import Show, foreign_cast
from synopsis_writer.synopsis import Synopsis

Check = Callable[[Subject], Finding | None]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "length": form.length,
        "paragraphs": form.paragraphs,
        "rhythm": form.rhythm,
        "language": language.language,
        "ending": form.ending,
        "markup": markup.markup,
        "meta_talk": markup.meta_talk,
        "exclamations": form.exclamations,
        "person": language.person,
        "dialogue": form.dialogue,
        "tense": form.tense,
        "umlauts": language.umlauts,
        "spelling": language.spelling,
        "agreement": language.agreement,
        "copy": story.copy,
        "repetition": story.repetition,
        "theme": story.theme,
        "cast": cast.cast,
        "hook": form.hook,
        "dates": story.dates,
    }
)

# They apply only where the sources' embeddings are given.
SEMANTIC_CHECKS: Mapping[str, Check] = MappingProxyType(
    {"paraphrase": semantic.paraphrase, "closeness": semantic.closeness}
)

ALL_CHECKS: Mapping[str, Check] = MappingProxyType({**CHECKS, **SEMANTIC_CHECKS})


@dataclass(frozen=True)
class Gate:
    """All checks with what they hold a text against.

    Attributes:
        house: its limits.
        sources: the texts that must not be copied; None skips the check.
        disabled: names of checks to leave out.
        shows: the known series, whose casts must not turn up in each other.
        embeddings: the sources' vectors; None leaves out the semantic checks.
        classify: names the language of a text.
    """

    house: House
    sources: CopyIndex | None = None
    disabled: frozenset[str] = frozenset()
    shows: tuple[Show, ...] = ()
    embeddings: SourceEmbeddings | None = None
    classify: LanguageClassifier = UNCACHED

    def warm_up(self) -> None:
        """Load word lists and models; the garbage collector would look at a million objects in vain."""
        collects = gc.isenabled()
        gc.disable()
        try:
            self.classify.load()
            language.is_english("house")
            lexicon.commonness("haus")
            form.tensed_verbs(analyse("Er geht."))
        finally:
            if collects:
                gc.enable()

    def examine(
        self,
        synopsis: Synopsis,
        brief: Brief,
        show: Show,
        *,
        truncated: bool = False,
        exclude_source: str = "",
    ) -> tuple[Finding, ...]:
        """Hold a synopsis against its brief; `exclude_source` is the example it is itself, if it is one."""
        people = tuple(person.name for person in synopsis.characters)
        subject = self.subject(synopsis.text, brief.form, show, brief, synopsis.title, people)
        return self.judge(replace(subject, truncated=truncated, exclude_source=exclude_source))

    def subject(
        self,
        raw: str,
        form: Form,
        show: Show,
        brief: Brief | None = None,
        title: str = "",
        people: tuple[str, ...] = (),
    ) -> Subject:
        """Analyse a text, and say what it is held against; without a brief some checks do not apply."""
        limits, strangers = self.house.forms[form], tuple(foreign_cast(self.shows, show))
        subject = Subject(analyse(raw), form, limits, show, brief, title, people, self.sources)
        return replace(subject, strangers=strangers, embeddings=self.embeddings, classify=self.classify)

    def as_form(self, subject: Subject, form: Form) -> Subject:
        """Return the same text, held against another form."""
        return replace(subject, form=form, limits=self.house.forms[form])

    def judge(self, subject: Subject) -> tuple[Finding, ...]:
        """Run all checks that apply and are not disabled; one finding a check."""
        findings = (check(subject) for name, check in ALL_CHECKS.items() if name not in self.disabled)
        return tuple(finding for finding in findings if finding is not None)


def failures(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that refuse the text."""
    return tuple(finding for finding in findings if not finding.passed)


def copy_sources(examples: Sequence[Example], more: Mapping[str, str] | None = None) -> list[Source]:
    """Return what must not be copied: the examples, and `more` texts by id."""
    own = [
        Source(example.id, example.synopsis.text, [person.name for person in example.synopsis.characters])
        for example in examples
    ]
    return own + [Source(source, text) for source, text in (more or {}).items()]
