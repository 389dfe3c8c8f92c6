"""The model client: one small protocol, and the values that cross it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "refusal", "filter"]


@dataclass(frozen=True)
class Message:
    """One turn of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens of one or more calls; `cached_tokens` are a part of `prompt_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum of both."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True)
class Cost:
    """An amount of money; `currency` is empty where nothing is ever charged."""

    amount: Decimal
    currency: str

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum; raises ValueError for two currencies."""
        if self.currency and other.currency and self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} cannot be added")
        return Cost(self.amount + other.amount, self.currency or other.currency)


NO_COST = Cost(Decimal(0), "")


def total_cost(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the sum of `costs`; None (unpriced) as soon as one of them is."""
    total = NO_COST
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: the answer as it came; for a refusal the refusal's words.
        finish: why it ended; `length` means it was cut.
        usage: tokens of this call.
        seconds: wall time of this call, waits for retries left out.
        model: the model that answered, as the server names it.
        words_by_model: in the guided strategy, how many words of the text the model wrote; None: all.
        cost: what it is to be paid with; None where the price is not known.
        is_kept: it came out of the cache: nobody was asked, and its usage is none.
    """

    text: str
    finish: Finish = "stop"
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    model: str = ""
    words_by_model: int | None = None
    cost: Cost | None = None
    is_kept: bool = False


@dataclass(frozen=True)
class Limits:
    """Bounds of one call.

    Attributes:
        max_tokens: tokens of the answer at most.
        timeout: seconds to wait for it.
        temperature: 0 to 2; None leaves it to the server.
        repeat: which of several answers to one question this is: a cache keeps them apart.
    """

    max_tokens: int = 4000
    timeout: float = 180.0
    temperature: float | None = None
    repeat: int = 0


class ModelClient(Protocol):
    """Something that answers messages."""

    @property
    def name(self) -> str:
        """The model's name, as files and messages show it."""
        ...

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Answer `messages`, by `schema` where the model can; raises ModelError when it failed for good."""
        ...

    async def close(self) -> None:
        """Give back what the client holds: connections, memory."""
        ...
