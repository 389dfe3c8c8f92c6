"""Draft, check, repair: from a brief to an accepted synopsis or its refusal, and the same for an outline."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from synopsis_writer.brief import Brief
from synopsis_writer.document import format_yaml, read_fields
from synopsis_writer.errors import ExampleError, GateRefusedError, ModelError, RequestRefusedError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.prompts.templates import Prompt, Prompts
from synopsis_writer.result import NO_STRUCTURE, Attempt, Result
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Outline, Synopsis, parse, wire_schema

_log = logging.getLogger(__name__)

_MOST_QUOTED = 200  # characters of a refusal

_LONGER = 2  # how many times the tokens an answer may have that was cut before


class Author(Protocol):
    """Something that drafts answers to one brief: a model with a prompt, or the demo's scaffold."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:
        """Draft attempt `number`, or repair `previous`; another seed gives another draft; raises ModelError.

        This is one draft, as a rule; a truncated one may be followed by a longer one. None is judged yet.
        """
        ...


@dataclass(frozen=True)
class ModelAuthor:
    """Asks a model with a few-shot prompt, and repairs with what was wrong."""

    client: ModelClient
    prompts: Prompts
    prompt: Prompt
    limits: Limits

    @property
    def name(self) -> str:
        """The model's name."""
        return self.client.name

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:
        """Ask with the base prompt, or with the previous answer and its problems; once more if truncated."""
        messages = tuple(self.prompt.messages)
        if previous is not None and previous.answer.text and not withheld_because(previous.answer):
            messages = tuple(self.prompts.repair(self.prompt, previous.answer.text, previous.problems))
        limits = replace(self.limits, sample=self.limits.sample + seed)
        answer = await self.client.complete(messages, wire_schema(Synopsis), limits)
        yield Attempt(number, answer, messages, limits.sample)
        if answer.finish == "length":
            try:
                answer = await self.client.complete(messages, wire_schema(Synopsis), longer(limits))
            except RequestRefusedError:
                return  # the server gives no longer answers: the repair asks for a shorter one
            yield Attempt(number, answer, messages, limits.sample, is_longer=True)


def longer(limits: Limits) -> Limits:
    """Return the limits for an answer that was cut."""
    return replace(limits, max_tokens=limits.max_tokens * _LONGER)


class Recorder(Protocol):
    """Something that records attempts as they come."""

    def answered(self, attempt: Attempt) -> int:
        """Record an answer as soon as it is there, for it was paid; return its index."""
        ...

    def judged(self, index: int, attempt: Attempt) -> None:
        """Record its findings."""
        ...


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
    previous: Attempt | None = None,
    recorder: Recorder | None = None,
) -> Result:
    """Draft, check, and repair until the gate holds or the attempts are used up.

    Args:
        brief: what is asked for.
        show: the series.
        author: who drafts.
        gate: what a synopsis must pass.
        attempts: attempts at most, 1 or more.
        best_of: drafts of the first attempt; the best by the gate goes on.
        previous: an earlier attempt to go on from; its number counts, the result holds only new attempts.
        recorder: is given each answer as soon as it is there, and each attempt as soon as it is judged.

    Raises:
        ModelError: the model failed for good before any attempt was made.
    """
    made: list[Attempt] = []
    best = previous
    begun = previous.number if previous is not None else 0

    async def draft(number: int, seed: int) -> None:
        async for drafted in author.drafts(number, seed, best):
            index = recorder.answered(drafted) if recorder else 0
            try:
                judged = await judge(drafted, brief, show, gate)
            except ModelError as error:  # gates in other processes may be killed; the answer was paid
                made.append(replace(drafted, problem=str(error)))
                raise
            made.append(judged)
            if recorder:
                recorder.judged(index, judged)

    for number in range(begun + 1, attempts + 1):
        _log.info("attempt %d of %d: asking %s", number, attempts, author.name)
        before = begun + len(made)
        ends = await asyncio.gather(
            *(draft(number, before + index) for index in range(best_of if number == 1 else 1)),
            return_exceptions=True,
        )
        errors = [end for end in ends if isinstance(end, ModelError)]
        _raise_others(ends)
        if not made:
            raise errors[0]
        best = min(reversed(made), key=_badness)  # of equals the newest
        for error in dict.fromkeys(map(str, errors)):
            _log.info("attempt %d of %d: a draft failed: %s", number, attempts, error)
        if best.passed:
            _log.info("attempt %d of %d: accepted", number, attempts)
            break
        if len(errors) == len(ends):
            return Result(brief, show, tuple(made), best, errors[0])
        _log.info("attempt %d of %d: refused; %s", number, attempts, " ".join(best.problems))
    return Result(brief, show, tuple(made), best)


def _raise_others(ends: Sequence[BaseException | None]) -> None:
    """Raise what is not a ModelError: a bug, or Ctrl-C."""
    for end in ends:
        if end is not None and not isinstance(end, ModelError):
            raise end


async def judge(attempt: Attempt, brief: Brief, show: Show, gate: Examiner) -> Attempt:
    """Parse an answer, and check it with the gate."""
    if withheld := withheld_because(attempt.answer):
        return replace(attempt, problem=withheld)
    parsed = parse(attempt.answer.text, Synopsis)
    if parsed.value is None:
        return replace(attempt, problem=f"{NO_STRUCTURE}: {parsed.problem}")
    examined = gate.examine(parsed.value, brief, show, truncated=attempt.answer.finish == "length")
    findings = examined if isinstance(examined, tuple) else await examined
    return replace(attempt, synopsis=parsed.value, problem="", findings=findings)


def withheld_because(answer: Answer) -> str:
    """Return why an answer is a refusal, or was filtered by the server; empty where it is an answer."""
    if answer.finish == "refusal":
        return f"the model refused: {' '.join(answer.text.split())[:_MOST_QUOTED]}"
    return "the server's content filter withheld the answer" if answer.finish == "filter" else ""


def _badness(attempt: Attempt) -> tuple[bool, int]:
    return attempt.synopsis is None, len(attempt.problems)


class _OutlineFile(Outline):
    brief: Brief


async def plan(
    client: ModelClient,
    prompts: Prompts,
    prompt: Prompt,
    limits: Limits,
    *,
    attempts: int,
    recorder: Recorder | None = None,
) -> Outline:
    """Ask for an outline, and again with what was wrong, `attempts` times at most.

    Raises:
        GateRefusedError: no answer had the structure of an outline.
        ModelError: the model failed for good.
    """
    messages: Sequence[Message] = prompt.messages
    for number in range(1, attempts + 1):
        _log.info("attempt %d of %d: asking %s for an outline", number, attempts, client.name)
        asked = replace(limits, sample=number - 1)
        for bounds in (asked, longer(asked)):
            answer = await client.complete(messages, wire_schema(Outline), bounds)
            outline, problem = _read(answer)
            if recorder:
                recorder.answered(
                    Attempt(
                        number,
                        answer,
                        tuple(messages),
                        bounds.sample,
                        is_longer=bounds is not asked,
                        problem=problem,
                    )
                )
            if outline is not None:
                return outline
            if answer.finish != "length":
                break
        _log.info("attempt %d of %d: refused; %s", number, attempts, problem)
        has_words = answer.text and not withheld_because(answer)
        messages = prompts.repair(prompt, answer.text, [problem]) if has_words else prompt.messages
    raise GateRefusedError(f"no answer had the structure of an outline: {problem}")


def _read(answer: Answer) -> tuple[Outline | None, str]:
    """Return the outline in an answer, or None and why it holds none."""
    if withheld := withheld_because(answer):
        return None, withheld
    parsed = parse(answer.text, Outline)
    return parsed.value, "" if parsed.value is not None else f"{NO_STRUCTURE}: {parsed.problem}"


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
