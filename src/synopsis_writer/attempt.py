"""What comes of a brief: a draft, the attempt it makes, and the result of them all."""

from dataclasses import dataclass

from synopsis_writer.brief import Brief
from synopsis_writer.errors import ModelError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import failures
from synopsis_writer.models.base import Answer, Message
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Cost, Usage, total_cost


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
