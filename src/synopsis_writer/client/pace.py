"""A pace: no more requests and tokens a minute than a server allows, shared by all calls of a process."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiolimiter import AsyncLimiter

from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.client.budget import most_tokens

_MINUTE = 60.0
_ANSWER = 900  # tokens of an answer, about: a synopsis has 350 words


class PacedClient:
    """A `ModelClient` that asks another one, never faster than its pace, and evenly all the minute.

    Args:
        client: who is asked; `close` closes it.
        rpm: requests a minute, also a part of one; None: no bound.
        tpm: tokens a minute, prompts (estimated) and answers together; None: no bound.
    """

    def __init__(self, client: ModelClient, rpm: float | None, tpm: float | None) -> None:
        self._client = client
        # A limiter that holds a whole minute would let twice as much through in the first one.
        self._requests = AsyncLimiter(1, _MINUTE / rpm) if rpm else None
        self._tokens = AsyncLimiter(tpm / _MINUTE, 1) if tpm else None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._client.name

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Wait for the pace, then ask; raises as the client does."""
        if self._requests is not None:
            await self._requests.acquire()
        if self._tokens is not None:
            await _acquire(self._tokens, most_tokens(messages, schema) + min(_ANSWER, limits.max_tokens))
        return await self._client.complete(messages, schema, limits)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


async def _acquire(limiter: AsyncLimiter, amount: float) -> None:
    """Wait for an amount that may be more than the limiter holds."""
    while amount > 0:
        part = min(amount, limiter.max_rate)
        await limiter.acquire(part)
        amount -= part
