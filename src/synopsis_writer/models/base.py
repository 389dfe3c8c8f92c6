"""The model client: one small protocol, and the values that cross it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from synopsis_writer.answers import is_closed, without_thoughts
from synopsis_writer.usage import Cost, Usage, _usage_data, format_cost, sums_data, total_cost

Role = Literal["system", "user", "assistant"]

Finish = Literal["stop", "length", "refusal", "filter"]


@dataclass(frozen=True)
class Message:
    """One turn of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: the answer as it came, or the words of a refusal.
        finish: why it ended; `length`: at its limit of tokens.
        usage: tokens of this call.
        seconds: wall time of this call without waits for retries.
        model: the model that answered, as the server names it.
        words_by_model: in the guided strategy, how many words of the text the model wrote; None: all.
        cost: what it costs; None if the price is not known.
        is_cached: it came out of the cache, and took no tokens.
    """

    text: str
    finish: Finish = "stop"
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    model: str = ""
    words_by_model: int | None = None
    cost: Cost | None = None
    is_cached: bool = False

    @property
    def content(self) -> str:
        """The text without the model's thoughts."""
        return without_thoughts(self.text, is_cut=self.finish == "length")

    @property
    def is_truncated(self) -> bool:
        """Whether it ended at its limit, and its JSON is not closed."""
        return self.finish == "length" and not is_closed(self.content)

    @property
    def is_spent_on_thinking(self) -> bool:
        """Whether it ended at its limit before it said anything."""
        return self.finish == "length" and not self.content.strip()


@dataclass(frozen=True)
class Limits:
    """Bounds of one call.

    Attributes:
        max_tokens: tokens of the answer at most.
        timeout: seconds to wait for it.
        temperature: 0 to 2; None leaves it to the server.
        sample: which of several answers to the same prompt is asked for; a cache keeps them apart.
    """

    max_tokens: int = 4000
    timeout: float = 180.0
    temperature: float | None = None
    sample: int = 0


class ModelClient(Protocol):
    """Something that answers messages."""

    @property
    def name(self) -> str:
        """The model's name, as files and messages show it."""
        ...

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Answer `messages`, by `schema` if the model can; raises ModelError if it failed for good."""
        ...

    async def close(self) -> None:
        """Free what the client holds: connections, memory."""
        ...


class ClientWrapper:
    """What a `ModelClient` that asks another one has in common: the other's name, and closing it."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client

    @property
    def name(self) -> str:
        """The model's name."""
        return self._client.name

    async def close(self) -> None:
        """Close the client that is asked."""
        await self._client.close()


def bill(answers: Sequence[Answer]) -> str:
    """Return a line with the number of answers, their tokens, seconds and cost; refused ones count, too."""
    usage = sum((answer.usage for answer in answers), Usage())
    cached = sum(answer.is_cached for answer in answers)
    parts = {"cached": usage.cached_tokens, "written to the cache": usage.written_tokens}
    prompt = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
    return (
        f"{len(answers)} attempt{'s' if len(answers) != 1 else ''}"
        + (f" ({cached} from the cache)" if cached else "")
        + f", {usage.prompt_tokens}"
        + (f" ({prompt})" if prompt else "")
        + f" + {usage.completion_tokens}"
        + (f" ({usage.thinking_tokens} thinking)" if usage.thinking_tokens else "")
        + f" tokens, {sum(answer.seconds for answer in answers):.1f} s, "
        + format_cost(total_cost(answer.cost for answer in answers))
    )


def bill_data(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what all answers took, as files and `--json` hold it."""
    return sums_data(
        len(answers),
        sum((answer.usage for answer in answers), Usage()),
        total_cost(answer.cost for answer in answers),
        sum(answer.seconds for answer in answers),
    )


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return what one answer took."""
    return {
        **_usage_data(answer.usage),
        "cost": format_cost(answer.cost),
        "seconds": round(answer.seconds, 2),
        "from_cache": answer.is_cached,
    }
