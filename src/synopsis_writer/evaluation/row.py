"""Rows: what one model made of one case with one version of the prompts, once."""

from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synopsis_writer.client import Cost, Usage
from synopsis_writer.synopsis import Synopsis

Outcome = Literal["accepted", "refused", "failed"]


class Key(NamedTuple):
    """What a row is about; unique in a run.

    Attributes:
        case: the case's id.
        model: the model's name as it was asked for.
        prompt: the version of the prompts: the name of their folder.
        repeat: 0, 1, … of several answers to one question.
    """

    case: str
    model: str
    prompt: str
    repeat: int


class Attempt(BaseModel):
    """One answer: its round, its words, why it was refused, and what it took.

    Attributes:
        number: the round.
        passed: whether it held the gate.
        problems: what was wrong with it, in sentences.
        checks: names of the style checks that refused it; `structure` where it had none.
        spans: character spans in the text of `synopsis`, a pair a spot, that refused checks point at.
        answer: the answer as it came.
        synopsis: the answer within its structure; None when it has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    passed: bool
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    answer: str
    synopsis: Synopsis | None


class Row(BaseModel):
    """One line of `results.jsonl`.

    Attributes:
        case, model, prompt, repeat: the row's key.
        outcome: whether a text was accepted, all were refused, or model or network failed before any.
        attempts: all answers, in order.
        best: the place in `attempts` of the accepted one, or of the one with the fewest problems; None: none.
        error: the fault that ended the work; None otherwise.
        usage: tokens of all attempts.
        amount, currency: what all attempts cost; None where a price is not known.
        seconds: the model's time for all attempts.
        kept: how many of the answers came out of the cache, and so took nothing.
        answered: the model that answered, as its server names it.
        words_by_model: of a demo draft, how many words the model wrote; None for a text of its own.
        created: when it was made, in ISO 8601.
        run: its id in the run log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    model: str
    prompt: str
    repeat: Annotated[int, Field(ge=0)]
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    best: int | None
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount: Decimal | None = None
    currency: str = ""
    seconds: float = 0.0
    kept: Annotated[int, Field(ge=0)] = 0
    answered: str = ""
    words_by_model: int | None = None
    created: str = ""
    run: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.best is not None and not 0 <= self.best < len(self.attempts):
            raise ValueError(f"best is {self.best}, and there are {len(self.attempts)} attempts")
        return self

    @property
    def key(self) -> Key:
        """What the row is about."""
        return Key(self.case, self.model, self.prompt, self.repeat)

    @property
    def synopsis(self) -> Synopsis | None:
        """The best text, accepted or not; None when no answer had the structure of one."""
        return None if self.best is None else self.attempts[self.best].synopsis

    @property
    def usage(self) -> Usage:
        """The tokens of all attempts."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def cost(self) -> Cost | None:
        """What all attempts cost; None: unpriced."""
        return None if self.amount is None else Cost(self.amount, self.currency)

    @property
    def is_demo(self) -> bool:
        """Whether it is a demo draft of the guided strategy, which must not be averaged with others."""
        return self.words_by_model is not None

    def as_line(self) -> str:
        """Return the row as one line of JSON."""
        return self.model_dump_json() + "\n"


def read_row(line: str) -> Row:
    """Return the row of a line; raises ValueError for one that is half written or of another version."""
    return Row.model_validate_json(line)
