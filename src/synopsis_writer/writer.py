"""The writer: brief in, an accepted synopsis or its refusal out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Cost, Limits, Message, ModelClient, Usage, total_cost
from synopsis_writer.errors import ModelError, RequestRefused
from synopsis_writer.prompts import Prompt, Prompts
from synopsis_writer.shows import Show
from synopsis_writer.style.finding import Finding
from synopsis_writer.style.gate import failures
from synopsis_writer.synopsis import Synopsis, parse, wire_schema

Watch = Callable[[str], None]
_LONGER = 2  # how many times the tokens an answer may have that was cut before


@dataclass(frozen=True)
class Draft:
    """An answer, and what it answers.

    Attributes:
        answer: what the model said.
        messages: what it was asked; none in the guided strategy.
        repeat: which of several answers to the same messages it is.
        is_longer: whether it was asked for because the one before was cut.
    """

    answer: Answer
    messages: tuple[Message, ...] = ()
    repeat: int = 0
    is_longer: bool = False


@dataclass(frozen=True)
class Attempt:
    """One answer of a model and what became of it.

    Attributes:
        number: 1 for the first round; with several drafts a round they share it.
        draft: what the model was asked, and what it said.
        synopsis: the answer within its structure; None when it has none.
        problem: why it has none, in one line; empty otherwise.
        findings: what the gate said; empty without a synopsis.
    """

    number: int
    draft: Draft
    synopsis: Synopsis | None
    problem: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def answer(self) -> Answer:
        """What the model said."""
        return self.draft.answer

    @property
    def passed(self) -> bool:
        """Whether structure and style hold."""
        return self.synopsis is not None and not failures(self.findings)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, in sentences: what a repair is told."""
        if self.synopsis is None:
            return (self.problem,)
        return tuple(f"{finding.check}: {finding.message}" for finding in failures(self.findings))


@dataclass(frozen=True)
class Result:
    """What came of a brief.

    Attributes:
        brief: what was asked for.
        show: the series.
        attempts: all of them, in order.
        best: the accepted attempt, or the one with the fewest problems; None when no model answered.
        error: the fault of the model or network that ended the work after an attempt; None otherwise.
    """

    brief: Brief
    show: Show
    attempts: tuple[Attempt, ...]
    best: Attempt | None
    error: ModelError | None = None

    @property
    def accepted(self) -> Synopsis | None:
        """The synopsis that passed the gate."""
        return self.best.synopsis if self.best is not None and self.best.passed else None

    @property
    def usage(self) -> Usage:
        """The tokens of all attempts, refused ones included, and of the call that failed."""
        lost = self.error.usage if self.error is not None else None
        return sum((attempt.answer.usage for attempt in self.attempts), lost or Usage())

    @property
    def cost(self) -> Cost | None:
        """What all of that is to be paid with; None when the price of any is not known."""
        costs = [attempt.answer.cost for attempt in self.attempts]
        if self.error is not None and self.error.usage is not None:
            costs.append(self.error.cost)
        return total_cost(costs)

    @property
    def seconds(self) -> float:
        """The time the model took for all attempts."""
        return sum(attempt.answer.seconds for attempt in self.attempts)


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
        limits = replace(self.limits, repeat=self.limits.repeat + seed)
        answer = await self.client.complete(messages, wire_schema(Synopsis), limits)
        yield Draft(answer, messages, limits.repeat)
        if answer.finish == "length":
            try:
                answer = await self.client.complete(messages, wire_schema(Synopsis), longer(limits))
            except RequestRefused:
                return  # the server gives no longer answers: the repair asks for a shorter one
            yield Draft(answer, messages, limits.repeat, is_longer=True)


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
        self, synopsis: Synopsis, brief: Brief, show: Show, *, was_cut: bool = False
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
    found = gate.examine(parsed.value, brief, show, was_cut=answer.finish == "length")
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
