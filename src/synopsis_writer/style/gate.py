"""The gate: all checks, in the order in which a person wants to read their findings."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from synopsis_writer.style import form, language, markup, originality, story
from synopsis_writer.style.finding import Finding, Subject

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
        "umlauts": language.umlauts,
        "copy": originality.copy,
        "repetition": originality.repetition,
        "theme": story.theme,
        "hook": form.hook,
        "dates": story.dates,
    }
)


def examine(subject: Subject, *, disabled: Collection[str] = ()) -> tuple[Finding, ...]:
    """Run all checks that apply and are not disabled; one finding a check."""
    findings = (check(subject) for name, check in CHECKS.items() if name not in disabled)
    return tuple(finding for finding in findings if finding is not None)


def failures(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings that refuse the text."""
    return tuple(finding for finding in findings if not finding.passed)
