"""Draft, check, repair: from a brief to an accepted synopsis or its refusal, and the same for an outline."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from synopsis_writer.attempt import Attempt, Draft, Result
from synopsis_writer.brief import Brief
from synopsis_writer.document import format_yaml, read_fields
from synopsis_writer.errors import ExampleError, GateRefusedError, ModelError, RequestRefusedError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import failures
from synopsis_writer.log import Entry
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.prompts.templates import Prompt, Prompts
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Outline, Synopsis, parse, wire_schema

Watch = Callable[[str], None]

_LONGER = 2  # how many times the tokens an answer may have that was cut before


class Author(Protocol):
    """Something that drafts answers to one brief: a model with a prompt, or the guided strategy."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def drafts(self, seed: int, last: Attempt | None) -> AsyncIterator[Draft]:
        """Draft an answer, or mend `last`; another seed gives another draft; raises ModelError.

        As a rule this is one draft; where it was cut a longer one may follow.
        """
        ...


@dataclass(frozen=True)
class ModelAuthor:
    """The normal strategy: a few-shot prompt, and repairs that are told what was wrong."""

    client: ModelClient
    prompts: Prompts
    prompt: Prompt
    limits: Limits

    @property
    def name(self) -> str:
        """The model's name."""
        return self.client.name

    async def drafts(self, seed: int, last: Attempt | None) -> AsyncIterator[Draft]:
        """Ask with the base prompt, or with the last answer and its problems; once more when it is cut."""
        messages = tuple(self.prompt.messages)
        if last is not None and last.answer.text and not withheld_because(last.answer):
            messages = tuple(self.prompts.repair(self.prompt, last.answer.text, last.problems))
        limits = replace(self.limits, sample=self.limits.sample + seed)
        answer = await self.client.complete(messages, wire_schema(Synopsis), limits)
        yield Draft(answer, messages, limits.sample)
        if answer.finish == "length":
            try:
                answer = await self.client.complete(messages, wire_schema(Synopsis), longer(limits))
            except RequestRefusedError:
                return  # the server gives no longer answers: the repair asks for a shorter one
            yield Draft(answer, messages, limits.sample, is_longer=True)


def longer(limits: Limits) -> Limits:
    """Return the limits for an answer that was cut."""
    return replace(limits, max_tokens=limits.max_tokens * _LONGER)


class Notes(Protocol):
    """Something that takes down what happens while a text is written."""

    def answered(self, number: int, draft: Draft) -> None:
        """Take down an answer as soon as it is there: it was paid."""
        ...

    def attempt(self, attempt: Attempt) -> None:
        """Take down what the gate said of it."""
        ...


class NoNotes:
    """Takes nothing down."""

    def answered(self, number: int, draft: Draft) -> None:
        """Forget it."""

    def attempt(self, attempt: Attempt) -> None:
        """Forget it."""


NO_NOTES = NoNotes()


class Examiner(Protocol):
    """Something that holds a synopsis against its brief: a gate, or gates in other processes."""

    def examine(
        self, synopsis: Synopsis, brief: Brief, show: Show, *, truncated: bool = False
    ) -> tuple[Finding, ...] | Awaitable[tuple[Finding, ...]]:
        """Return one finding a check."""
        ...


async def write(
    brief: Brief,
    show: Show,
    author: Author,
    gate: Examiner,
    *,
    attempts: int = 3,
    best_of: int = 1,
    last: Attempt | None = None,
    watch: Watch = lambda _: None,
    notes: Notes = NO_NOTES,
) -> Result:
    """Draft, check, and repair until the gate holds or the attempts are used up.

    Args:
        brief: what is asked for.
        show: the series.
        author: who drafts.
        gate: what a synopsis must pass.
        attempts: rounds at most, 1 or more.
        best_of: drafts of the first round; the best by the gate goes on.
        last: an attempt of earlier work to go on from; its rounds count, the result holds only new attempts.
        watch: is told what happens, in one line each.
        notes: is given each answer as soon as it is there, and each attempt as soon as it is judged.

    Raises:
        ModelError: the model failed for good before any attempt was made.
    """
    made: list[Attempt] = []
    best = last
    begun = last.number if last is not None else 0

    async def draft(number: int, seed: int) -> None:
        async for drafted in author.drafts(seed, best):
            notes.answered(number, drafted)
            try:
                judged = await judge(number, drafted, brief, show, gate)
            except ModelError as error:  # gates in other processes may be killed; the answer was paid
                made.append(Attempt(number, drafted, None, str(error)))
                raise
            made.append(judged)
            notes.attempt(judged)

    for number in range(begun + 1, attempts + 1):
        watch(f"attempt {number} of {attempts}: asking {author.name}")
        before = begun + len(made)
        ends = await asyncio.gather(
            *(draft(number, before + place) for place in range(best_of if number == 1 else 1)),
            return_exceptions=True,
        )
        faults = [end for end in ends if isinstance(end, ModelError)]
        _raise_others(ends)
        if not made:
            raise faults[0]
        best = min(reversed(made), key=_badness)  # of equals the newest
        for fault in dict.fromkeys(map(str, faults)):
            watch(f"attempt {number} of {attempts}: a draft failed: {fault}")
        if best.passed:
            watch(f"attempt {number} of {attempts}: accepted")
            break
        if len(faults) == len(ends):
            return Result(brief, show, tuple(made), best, faults[0])
        watch(f"attempt {number} of {attempts}: refused; " + " ".join(best.problems))
    return Result(brief, show, tuple(made), best)


def _raise_others(ends: Sequence[BaseException | None]) -> None:
    """Raise what is no fault of a model: a mistake in the program, or Ctrl-C."""
    for end in ends:
        if end is not None and not isinstance(end, ModelError):
            raise end


async def judge(number: int, draft: Draft, brief: Brief, show: Show, gate: Examiner) -> Attempt:
    """Parse an answer, and hold it against the gate."""
    answer = draft.answer
    if withheld := withheld_because(answer):
        return Attempt(number, draft, None, withheld)
    parsed = parse(answer.text, Synopsis)
    if parsed.value is None:
        return Attempt(number, draft, None, f"structure: {parsed.problem}")
    found = gate.examine(parsed.value, brief, show, truncated=answer.finish == "length")
    findings = found if isinstance(found, tuple) else await found
    return Attempt(number, draft, parsed.value, findings=findings)


def withheld_because(answer: Answer) -> str:
    """Say why an answer is none: a refusal, or the server's filter; nothing where it is one."""
    if answer.finish == "refusal":
        return f"the model refused: {_one_line(answer.text)}"
    return "the server's content filter withheld the answer" if answer.finish == "filter" else ""


_NO_STRUCTURE = 1000


def _badness(attempt: Attempt) -> int:
    return _NO_STRUCTURE if attempt.synopsis is None else len(failures(attempt.findings))


def _one_line(text: str, most: int = 200) -> str:
    return " ".join(text.split())[:most]


class _OutlineFile(Outline):
    brief: Brief


async def plan(
    client: ModelClient,
    prompts: Prompts,
    prompt: Prompt,
    limits: Limits,
    *,
    attempts: int,
    watch: Callable[[str], None],
    record: Callable[[Entry], None] = lambda _: None,
) -> Outline:
    """Ask for an outline, and again with what was wrong, `attempts` times at most.

    Raises:
        GateRefusedError: no answer had the structure of an outline.
        ModelError: the model failed for good.
    """
    messages: Sequence[Message] = prompt.messages
    problem = ""
    for number in range(1, attempts + 1):
        watch(f"attempt {number} of {attempts}: asking {client.name} for an outline")
        asked = replace(limits, sample=number - 1)
        answer = await client.complete(messages, wire_schema(Outline), asked)
        planned, problem = _read(answer)
        record(_entry(number, messages, answer, problem))
        if planned is None and answer.finish == "length":
            answer = await client.complete(messages, wire_schema(Outline), longer(asked))
            planned, problem = _read(answer)
            record(_entry(number, messages, answer, problem))
        if planned is not None:
            return planned
        watch(f"attempt {number} of {attempts}: refused; {problem}")
        has_words = answer.text and not withheld_because(answer)
        messages = prompts.repair(prompt, answer.text, [problem]) if has_words else prompt.messages
    raise GateRefusedError(f"no answer had the structure of an outline: {problem}")


def _read(answer: Answer) -> tuple[Outline | None, str]:
    """Return the outline in an answer, or None and why it holds none."""
    if withheld := withheld_because(answer):
        return None, withheld
    parsed = parse(answer.text, Outline)
    return parsed.value, "" if parsed.value is not None else f"structure: {parsed.problem}"


def _entry(number: int, messages: Sequence[Message], answer: Answer, problem: str) -> Entry:
    return Entry(number, tuple(messages), answer, not problem, (problem,) if problem else ())


def format_outline(brief: Brief, outline: Outline) -> str:
    """Return the YAML a person edits: the brief, and the plan below it."""
    return format_yaml({"brief": brief.as_data(), **outline.model_dump(mode="json")})


def load_outline(path: Path) -> tuple[Brief, Outline]:
    """Read an outline file.

    Raises:
        ExampleError: a field is missing or wrong; names file and line.
        FileError: it cannot be read.
    """
    planned = read_fields(path, _OutlineFile, ExampleError)
    return planned.brief, Outline.model_validate(planned.model_dump(exclude={"brief"}))
