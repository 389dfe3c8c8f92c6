"""A review: the gate on a text of any origin, a person's own, too."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.desk import Desk
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError
from synopsis_writer.examples import read_brief
from synopsis_writer.kinds import Form
from synopsis_writer.style.finding import Finding, Subject
from synopsis_writer.style.gate import failures

UNKNOWN = "unbekannt"  # the show of a text of which nobody said one


@dataclass(frozen=True)
class Review:
    """What the gate said of one text.

    Attributes:
        source: the file, or `-`.
        text: what was judged.
        first_line: the line of the file on which the text begins, from 1.
        form: the form it was held against.
        guessed: nobody named the form: it is the one that fits best.
        findings: one a check that applied.
    """

    source: str
    text: str
    first_line: int
    form: Form
    guessed: bool
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check refuses the text."""
        return not self.refused

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that refuse the text."""
        return failures(self.findings)

    def place(self, finding: Finding) -> tuple[int, int]:
        """Return line and column, from 1, of a finding's first spot in the file, or of the text."""
        start = finding.spans[0].start if finding.spans else 0
        above = self.text[:start]
        return self.first_line + above.count("\n"), start - (above.rfind("\n") + 1) + 1

    def as_data(self) -> dict[str, Any]:
        """Return the review as JSON holds it."""
        return {
            "file": self.source,
            "passed": self.passed,
            "form": self.form.value,
            "form_guessed": self.guessed,
            "findings": [finding.as_data() for finding in self.findings],
        }


def review(
    document: Document, desk: Desk, *, show: str | None, theme: str | None, form: Form | None
) -> Review:
    """Judge a text by its front matter's brief, or by what is given here; what is given goes first.

    Raises:
        InputError: the text is empty, or a field of the brief breaks a rule.
    """
    if not document.text:
        raise FileError(f"{document.path}: holds no text: write one, or name another file")
    brief = _brief(document, show, theme, form)
    known = desk.find_show(brief.show if brief else show or UNKNOWN, say=lambda _: None)
    subject = desk.gate.subject(
        document.text,
        brief.form if brief else form or Form.EPISODE,
        known,
        brief,
        str(document.meta.get("title", "")),
        _people(document.meta),
    )
    strangers = () if known.name == UNKNOWN else subject.strangers
    subject = replace(subject, own_source=_own_source(document.path, desk), strangers=strangers)
    guessed = form is None and "brief" not in document.meta
    if guessed:
        subject = _best_fitting(subject, desk)
    findings = desk.gate.judge(subject)
    return Review(str(document.path), document.text, document.first_line, subject.form, guessed, findings)


def _brief(document: Document, show: str | None, theme: str | None, form: Form | None) -> Brief | None:
    given = {
        name: value for name, value in (("show", show), ("theme", theme), ("form", form)) if value is not None
    }
    if "brief" in document.meta:
        return make_brief(**{**read_brief(document).as_data(), **given})
    if theme is not None:
        return make_brief(**{"show": UNKNOWN, **given})
    return None


def _people(meta: dict[str, Any]) -> tuple[str, ...]:
    people = meta.get("characters")
    if not isinstance(people, list):
        return ()
    return tuple(str(person["name"]) for person in people if isinstance(person, dict) and "name" in person)


def _own_source(path: Path, desk: Desk) -> str:
    here = path.resolve()
    return next((example.id for example in desk.pool.examples if example.path.resolve() == here), "")


def _best_fitting(subject: Subject, desk: Desk) -> Subject:
    candidates = [desk.gate.as_form(subject, form) for form in Form]
    return min(candidates, key=lambda candidate: len(failures(desk.gate.judge(candidate))))
