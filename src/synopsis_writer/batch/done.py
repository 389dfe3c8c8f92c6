"""What becomes of the rows of a batch: values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synopsis_writer.client import NO_COST, Cost, Usage
from synopsis_writer.errors import ModelError
from synopsis_writer.synopsis import Synopsis

Status = Literal["accepted", "refused", "failed", "pending"]


@dataclass(frozen=True)
class Answered:
    """One answer to a row: its round, its words, whether it passed, and what was wrong with it."""

    number: int
    text: str
    passed: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a row.

    Attributes:
        id: the row's.
        status: accepted, refused by the gate, failed at model or network, or pending: still to be made.
        reason: why it was not accepted; empty otherwise.
        synopsis: the best text; None when there is none.
        origin: how the text came about, as data: what the front matter of a saved file holds.
        answers: all that came.
        usage: their tokens.
        cost: their cost; None where a price is not known.
        seconds: the model's time.
        fault: why the batch cannot go on, once this row is saved; None where it can.
    """

    id: str
    status: Status
    reason: str = ""
    synopsis: Synopsis | None = None
    origin: Mapping[str, Any] | None = None
    answers: tuple[Answered, ...] = ()
    usage: Usage = Usage()  # noqa: RUF009 - a frozen value
    cost: Cost | None = NO_COST
    seconds: float = 0.0
    fault: ModelError | None = None


@dataclass(frozen=True)
class Counts:
    """How far a batch is: rows by status, and what all attempts took; `cost` None: a part is unpriced."""

    pending: int
    accepted: int
    refused: int
    failed: int
    usage: Usage
    cost: Cost | None
    seconds: float

    @property
    def rows(self) -> int:
        """All rows."""
        return self.pending + self.accepted + self.refused + self.failed
