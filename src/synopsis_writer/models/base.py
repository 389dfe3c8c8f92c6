"""The model client: one small protocol, and the values that cross it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from synopsis_writer.answers import is_closed, without_thoughts
from synopsis_writer.characters import count_of
from synopsis_writer.usage import Cost, Usage, format_cost, sums_data, total_cost, usage_data

Finish = Literal["stop", "length", "refusal", "filter"]
Schema = Mapping[str, Any]  # the JSON schema of an answer
MOST_ANSWER = 8_000_000  # bytes of one answer, after decompression


@dataclass(frozen=True)
class Message:
    """One turn of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Answer:
    """What a model answered."""

    text: str  # as it came, or the words of a refusal
    finish: Finish = "stop"  # why it ended; `length`: at its limit of tokens
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0  # wall time without waits for retries
    model: str = ""  # as the server names it
    words_by_model: int | None = None  # of the text, in the guided strategy; None: all
    cost: Cost | None = None  # None if the price is not known
    is_cached: bool = False  # it came out of the cache, and took no tokens
    service_tier: str = ""  # that the server reports, which sets the price; empty: none

    @cached_property  # it is asked for several times
    def content(self) -> str:
        """The text without the model's thoughts."""
        return without_thoughts(self.text, is_cut=self.finish == "length")

    @property
    def is_truncated(self) -> bool:
        """Whether it ended at its limit, and its JSON is not closed."""
        return self.finish == "length" and not is_closed(self.content)

    @property
    def is_spent_on_thinking(self) -> bool:
        """Whether it ended at its limit before any text."""
        return self.finish == "length" and not self.content.strip()


@dataclass(frozen=True)
class Limits:
    """Bounds of one call."""

    max_tokens: int = 4000  # of the answer
    timeout: float = 180.0  # seconds
    temperature: float | None = None  # 0 to 2; None leaves it to the server
    sample: int = 0  # which of several answers to the same prompt is asked for; a cache keeps them apart
    reasoning_effort: str | None = None  # this and the next two: OpenAI's; None leaves it to the server
    verbosity: str | None = None
    service_tier: str | None = None
    stable: int = 0  # messages at the beginning that other prompts share: a cache of them is worth its price


class ModelClient(Protocol):
    """Something that answers messages."""

    @property
    def name(self) -> str:
        """The model's name, as files and messages show it."""

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Answer `messages`, by `schema` if the model can; raises ModelError if it failed for good."""

    async def close(self) -> None:
        """Free what the client holds: connections, memory."""


class ClientWrapper:
    """Base of a `ModelClient` that asks another one: it has the other's name, and closes it."""

    def __init__(self, client: ModelClient) -> None:
        self._client, self.name = client, client.name

    async def close(self) -> None:
        """Close the client that is asked."""
        await self._client.close()


def bill(answers: Sequence[Answer], reviews: int = 0) -> str:
    """Return a line of what answers took, refused ones too; `reviews` of them are no attempts."""
    usage, cost, seconds = _sums(answers)
    counts = {"attempt": len(answers) - reviews, "review": reviews}
    number = ", ".join(count_of(count, name) for name, count in counts.items() if count)
    if cached := sum(answer.is_cached for answer in answers):
        number += f" ({cached} from the cache)"
    parts = {"cached": usage.cached_tokens, "written to the cache": usage.written_tokens}
    prompt = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
    tokens = f"{usage.prompt_tokens}{f' ({prompt})' if prompt else ''} + {usage.completion_tokens}"
    if usage.thinking_tokens:
        tokens += f" ({usage.thinking_tokens} thinking)"
    return f"{number or '0 attempts'}, {tokens} tokens, {seconds:.1f} s, {format_cost(cost)}"


def bill_data(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what all answers took, as files and `--json` hold it."""
    return sums_data(len(answers), *_sums(answers))


def _sums(answers: Sequence[Answer]) -> tuple[Usage, Cost | None, float]:
    usage = sum((answer.usage for answer in answers), Usage())
    return usage, total_cost(answer.cost for answer in answers), sum(answer.seconds for answer in answers)


def answer_data(answer: Answer) -> dict[str, Any]:
    """Return what one answer took."""
    spent = {**usage_data(answer.usage), "cost": format_cost(answer.cost)}
    return {**spent, "seconds": round(answer.seconds, 2), "from_cache": answer.is_cached}
