"""Making one row of a batch: its brief is written, and all that was answered is taken down."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from synopsis_writer.authors import Authors
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.client import NO_COST, Answer, Usage
from synopsis_writer.desk import Desk
from synopsis_writer.errors import ModelError
from synopsis_writer.prompts import Prompt
from synopsis_writer.store import new_origin, provenance
from synopsis_writer.writer import Attempt, Draft, Examiner, Result, write

_UNLOGGED = "run"  # of the run log, which holds no batches


@dataclass(frozen=True)
class RowMaker:
    """Makes rows with one model and one desk.

    Attributes:
        authors: who drafts.
        desk: pool and shows.
        gate: what a text must pass: the desk's gate, or gates in processes of their own.
        attempts: rounds at most.
        say: is told of unknown shows.
    """

    authors: Authors
    desk: Desk
    gate: Examiner
    attempts: int
    say: Callable[[str], None]

    async def make(self, row: BatchRow, last: Answered | None = None) -> Done:
        """Write the row's brief, or mend its `last` answer.

        A fault of the model that another request may escape becomes a row that failed. One that no request
        escapes leaves it pending, with what was answered before, and says that the batch cannot go on.
        """
        show = self.desk.find_show(row.brief.show, self.say)
        brief = row.brief.model_copy(update={"show": show.name})
        author, prompt = self.authors(row.id, brief, show)
        try:
            result = await write(
                brief, show, author, self.gate, attempts=self.attempts, last=_attempt(last) if last else None
            )
        except ModelError as error:
            usage = error.usage or Usage()
            cost = NO_COST if error.usage is None else error.cost
            return _faulted(Done(row.id, "failed", str(error), usage=usage, cost=cost), error)
        return _faulted(outcome(row.id, result, prompt), result.error)


def _faulted(done: Done, error: ModelError | None) -> Done:
    return done if error is None or not error.is_final else replace(done, status="pending", fault=error)


def outcome(row: str, result: Result, prompt: Prompt | None) -> Done:
    """Return what a result comes to as a row, and how its text came about."""
    fields = provenance(result, result.best, new_origin(prompt)) if result.best else {}
    return done(row, result, {name: value for name, value in fields.items() if name != _UNLOGGED})


def _attempt(answered: Answered) -> Attempt:
    """Return an answer of earlier work as what a repair goes on from: its words, and what was wrong."""
    return Attempt(answered.number, Draft(Answer(answered.text)), None, " ".join(answered.problems))


def done(row: str, result: Result, origin: dict[str, object]) -> Done:
    """Return what a result comes to as a row."""
    best, accepted = result.best, result.accepted
    reason = str(result.error) if result.error else " ".join(best.problems) if best else ""
    return Done(
        row,
        "accepted" if accepted else "failed" if result.error else "refused",
        "" if accepted else reason,
        best.synopsis if best else None,
        origin,
        tuple(
            Answered(made.number, made.answer.text, made.passed, made.problems) for made in result.attempts
        ),
        result.usage,
        result.cost,
        result.seconds,
    )
