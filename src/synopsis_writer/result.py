"""The result of a brief: its attempts, the best one, and the same as a row of a batch."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

from synopsis_writer.brief import Brief
from synopsis_writer.document import format_document
from synopsis_writer.errors import GateRefusedError, InputError, ModelError
from synopsis_writer.gate.finding import Finding, worded
from synopsis_writer.gate.gate import failures, warnings
from synopsis_writer.gate.text import Span
from synopsis_writer.models.base import Answer, Message, answer_data, bill, bill_data
from synopsis_writer.prompts.templates import Prompt
from synopsis_writer.show import Show
from synopsis_writer.storage.files import Force, save, slug
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import NO_COST, Cost, Usage, total_cost

Outcome = Literal["accepted", "refused", "failed", "interrupted", "running", "pending"]
FileFormat = Literal["md", "json", "txt"]
UNJUDGED = "not judged yet"
NO_STRUCTURE = "structure"  # the check that refuses an answer which is not a synopsis
_LONGEST_NAME, _LONGEST_FORM = 60, 30  # characters of a file's name, and of the form in it
_CHECK = re.compile(r"(?!structure:)([a-z_]+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Attempt:
    """One answer of a model, and what became of it."""

    number: int  # 1 for the first attempt; several drafts of one attempt share it
    answer: Answer  # as it came
    messages: tuple[Message, ...] = ()  # what it was asked; empty for a demo draft
    sample: int = 0  # which of several answers to the same messages it is
    is_longer: bool = False  # asked for because the one before was truncated
    max_tokens: int = 0  # tokens the settings give an answer; 0 where that is not known
    synopsis: Synopsis | None = None  # the answer within its structure; None for one without, or an outline
    problem: str = UNJUDGED  # why it has no structure, in one line; empty otherwise
    findings: tuple[Finding, ...] = ()  # one per check that applied; empty without a synopsis
    fixed: Mapping[str, int] = field(default_factory=dict)  # faults of each kind that code put right in it
    is_review: bool = False  # no text, but a model's review of attempt `number`
    variants: "tuple[Attempt, ...]" = ()  # where several texts were asked for at once: each on its own

    @classmethod
    def recorded(
        cls, number: int, answer: Answer, problems: Sequence[str], found: Sequence[Finding] = (), **more: Any
    ) -> Self:
        """Return an attempt as a file holds it: where nothing is found that refuses it, by its `problems`."""
        problem = ""
        if problems and not failures(found):
            found = [Finding(m[1], False, "", "", m[2]) for m in map(_CHECK.fullmatch, problems) if m]
            if len(found) < len(problems):
                problem, found = " ".join(problems), ()
        return cls(number, answer, problem=problem, findings=tuple(found), **more)

    @property
    def passed(self) -> bool:
        """Whether structure and style hold."""
        return not self.problem and not failures(self.findings)

    @property
    def problems(self) -> tuple[str, ...]:
        """What refuses it, in sentences."""
        found = tuple(f"{finding.check}: {finding.sentence}" for finding in failures(self.findings))
        return (self.problem,) if self.problem else found

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is reported and does not refuse it, in sentences."""
        return tuple(f"{finding.check}: {finding.sentence}" for finding in warnings(self.findings))

    @property
    def repairs(self) -> tuple[str, ...]:
        """What refuses it and what is reported, for the model: always in German."""
        if self.problem:
            return (f"{self.problem} – Gib genau ein JSON-Objekt in der verlangten Form, vollständig.",)
        findings = (*failures(self.findings), *warnings(self.findings))
        return tuple(f"{each.check}: {each.repair or worded(each, None, 'de').sentence}" for each in findings)

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the checks that refuse it; `structure` if it is not a synopsis."""
        return (NO_STRUCTURE,) if self.problem else tuple(each.check for each in failures(self.findings))

    @property
    def spans(self) -> tuple[Span, ...]:
        """The parts of the text that the refusing checks point at."""
        return tuple(span for finding in failures(self.findings) for span in finding.spans)

    @property
    def demo_label(self) -> str | None:
        """The honest label of a demo draft; None for a text that the model wrote itself."""
        if (by_model := self.answer.words_by_model) is None or self.synopsis is None:
            return None
        words = len(self.synopsis.text.split())
        return f"demo draft: {by_model} of {words} words by the model, the rest from a scaffold"

    def as_data(self) -> dict[str, Any]:
        """Return the attempt as `--json` prints it."""
        data: dict[str, Any] = {"number": self.number, "passed": self.passed, "finish": self.answer.finish}
        data |= {"problems": list(self.problems), "answer": self.answer.text}
        data["findings"] = [finding.as_data() for finding in self.findings]
        return {**data, **_given(fixed=dict(self.fixed), review=self.is_review), **answer_data(self.answer)}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def bill_of(attempts: Sequence[Attempt]) -> str:
    """Return a line with the number of attempts and reviews, their tokens, seconds and cost."""
    return bill([each.answer for each in attempts], sum(each.is_review for each in attempts))


def new_run() -> tuple[str, datetime]:
    """Return the id of a run that begins now, which begins with its time, and that time."""
    created = datetime.now(UTC).replace(microsecond=0)
    return f"{created:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", created


@dataclass(frozen=True)
class Result:
    """The result of a brief."""

    brief: Brief
    show: Show
    attempts: tuple[Attempt, ...]  # all of them, in order
    best: Attempt | None  # the accepted one, or the one with the fewest problems; None: no model answered
    error: ModelError | None = None  # of model or network, that ended the work after an attempt
    prompt: Prompt | None = None  # what the first attempt was asked; None for a demo draft
    run: str = ""  # its id in the run log; empty if there is no log
    created: datetime = field(default_factory=lambda: new_run()[1])
    story: str = ""  # what all lengths of one story share; empty for a text that is told in one alone
    reviews: tuple[Attempt, ...] = ()  # what a copy desk answered, where one was asked

    @property
    def answered(self) -> tuple[Attempt, ...]:
        """The attempts, and then the reviews."""
        return (*self.attempts, *self.reviews)

    @property
    def accepted(self) -> Synopsis | None:
        """The synopsis that passed the gate."""
        return self.best.synopsis if self.best is not None and self.best.passed else None

    @property
    def synopsis(self) -> Synopsis | None:
        """The best attempt's synopsis, accepted or refused; None when no answer was one."""
        return self.best.synopsis if self.best is not None else None

    @property
    def text(self) -> str:
        """The text of `synopsis`; empty when there is none."""
        return self.synopsis.text if self.synopsis is not None else ""

    @property
    def outcome(self) -> Outcome:
        """`accepted`, `refused` by the gate, or `failed` at model or network."""
        return "accepted" if self.accepted else "failed" if self.error else "refused"

    @property
    def usage(self) -> Usage:
        """The tokens of all attempts and reviews, refused ones included, and of the call that failed."""
        lost = self.error.usage if self.error is not None else None
        return sum((attempt.answer.usage for attempt in self.answered), lost or Usage())

    @property
    def cost(self) -> Cost | None:
        """The cost of all of that; None when any price is unknown."""
        lost = [self.error.cost] if self.error is not None and self.error.usage is not None else []
        return total_cost([*(attempt.answer.cost for attempt in self.answered), *lost])

    @property
    def seconds(self) -> float:
        """The time that models took for all of that."""
        return sum(attempt.answer.seconds for attempt in self.answered)

    def provenance(self) -> dict[str, Any]:
        """Return how the best attempt came about: model, prompt, tokens and cost of all, findings, run."""
        if self.best is None:
            return {}
        asked: dict[str, Any] = {}
        if (prompt := self.prompt) is not None:
            hashed = {"name": prompt.name, "version": prompt.version, "hash": prompt.hash}
            asked = {"prompt": hashed, "examples": list(prompt.example_ids)}
        took = bill_data([attempt.answer for attempt in self.answered]) | {"attempts": len(self.attempts)}
        asked |= {**took, **_given(reviews=len(self.reviews)), "gate": verdicts(self.best.findings)}
        asked |= _given(fixed=dict(self.best.fixed), run=self.run, story=self.story)
        return {"model": self.best.answer.model, **asked, "created": self.created.isoformat()}

    def front_matter(self) -> dict[str, Any]:
        """Return the front matter of the saved file: the best synopsis' fields, and how it came about."""
        if self.best is None or self.best.synopsis is None:
            return self.provenance()
        written = {"brief": self.brief.as_data(), **self.best.synopsis.front_matter()}
        return {**written, **_given(draft=self.best.demo_label), **self.provenance()}

    def render(self, file_format: FileFormat = "md") -> str:
        """Return the content of the saved file; an answer without structure comes as it is."""
        if self.synopsis is None:
            return self.best.answer.text + "\n" if self.best is not None else ""
        return render(self.front_matter(), self.text, file_format)

    def save(
        self, folder: str | Path, file_format: FileFormat = "md", *, force: Force = False, beside: Path | None = None
    ) -> Path:
        """Save the accepted synopsis in `folder`, numbered where a name is taken; FileError, GateRefusedError."""
        if self.accepted is None:
            raise GateRefusedError(f"nothing to save: {self.reason}")
        title, home, within = self.accepted.title, Path(folder) / self.show.slug, Path(folder)
        if beside is not None:
            form, home, within = slug(self.brief.form, _LONGEST_FORM), beside.parent, beside.parent
            title = f"{slug(beside.stem, _LONGEST_NAME - len(form) - 1)}-{form}"
        return save(self.render(file_format), home, title, file_format, within=within, force=force)

    def save_refused(self, folder: str | Path, file_format: FileFormat = "md", *, force: Force = False) -> Path | None:
        """Save the best attempt as it is straight into `folder`; None when no model answered."""
        if self.best is None:
            return None
        if self.synopsis is None:
            return save(self.render(), Path(folder), "Antwort ohne Struktur", "txt")
        return save(self.render(file_format), Path(folder), self.synopsis.title, file_format, force=force)

    @property
    def reason(self) -> str:
        """Why it was not accepted, in one line; empty when it was."""
        refused = " ".join(self.best.problems) if self.best is not None else "no answer"
        return "" if self.accepted is not None else str(self.error or refused)

    def as_data(self, path: Path | None = None) -> dict[str, Any]:
        """Return the object that `synopsis write --json` prints; `path` is where the text was saved."""
        error, history = str(self.error) if self.error else None, [each.as_data() for each in self.answered]
        outcome = {"passed": self.accepted is not None, "path": str(path) if path else None, "error": error}
        text = {"brief": self.brief.as_data(), **self.front_matter(), "text": self.text or None}
        return {**outcome, **text, "history": history}


def verdicts(findings: Sequence[Finding]) -> dict[str, float | str]:
    """Return what a saved file records of a check: what was measured, or else what was found."""
    levels = ["waived" if each.waived else "refused" if each.level == "error" else each.level for each in findings]
    pairs = zip(findings, levels, strict=True)
    return {each.check: each.value if each.passed else f"{level}: {each.sentence}" for each, level in pairs}


def render(fields: Mapping[str, Any], text: str, file_format: FileFormat) -> str:
    """Return the content of a saved file with `fields` as its front matter; raises InputError."""
    if file_format not in get_args(FileFormat):
        raise InputError(f"no format '{file_format}': the formats are {', '.join(get_args(FileFormat))}")
    if file_format == "json":
        return json.dumps({**fields, "text": text}, ensure_ascii=False, indent=2) + "\n"
    if file_format == "txt":
        label = f"\n({fields['draft']})\n" if "draft" in fields else ""
        return f"{fields['title']}\n\n{text}\n{label}"
    return format_document(fields, text)


@dataclass(frozen=True)
class RowResult:
    """What became of one row of a batch."""

    id: str
    outcome: Outcome  # `accepted`, `refused`, `failed`, or `pending`: it is still to be made
    reason: str = ""  # why it was not accepted; empty otherwise
    synopsis: Synopsis | None = None  # the best text; None when there is none
    provenance: Mapping[str, Any] | None = None  # as `Result.provenance` gives it; None: there is no answer
    attempts: tuple[Attempt, ...] = ()
    usage: Usage = Usage()  # noqa: RUF009 - a frozen value
    cost: Cost | None = NO_COST  # of all attempts; None if a price is unknown
    seconds: float = 0.0  # the model's time
    error: ModelError | None = None  # why the whole work cannot go on; None if it can

    @classmethod
    def of(cls, name: str, result: Result) -> Self:
        """Return the row of a result; pending where its error would meet every other row, too."""
        same = {name: getattr(result, name) for name in ("reason", "synopsis", "attempts", "usage", "cost")}
        error = result.error if result.error is not None and not result.error.is_transient else None
        same |= {"provenance": result.provenance() or None, "seconds": result.seconds, "error": error}
        return cls(name, "pending" if error else result.outcome, **same)

    @classmethod
    def failed(cls, name: str, error: ModelError) -> Self:
        """Return the row of an error before any answer: failed, or pending as in `of`."""
        fatal, usage = None if error.is_transient else error, error.usage or Usage()
        cost = NO_COST if error.usage is None else error.cost
        return cls(name, "pending" if fatal else "failed", str(error), usage=usage, cost=cost, error=fatal)
