"""A pace: no more requests and tokens a minute than a server allows, shared by all calls of a process."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiolimiter import AsyncLimiter

from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.client.budget import most_tokens
from synopsis_writer.client.retry import Announce, Wait

_MINUTE = 60.0
_LONG = 1.0  # seconds: a shorter wait is not worth a word
_ANSWER = 900  # tokens of an answer, about: a synopsis has 350 words


class PacedClient:
    """A `ModelClient` that asks another one, never faster than its pace, and evenly all the minute.

    Args:
        client: who is asked; `close` closes it.
        rpm: requests a minute, also a part of one; None: no bound.
        tpm: tokens a minute, prompts (estimated) and answers together; None: no bound.
        announce: is told of waits of a second or more.
        calls: calls at once; None: no bound.
    """

    def __init__(
        self,
        client: ModelClient,
        rpm: float | None,
        tpm: float | None,
        announce: Announce = lambda _: None,
        *,
        calls: int | None = None,
    ) -> None:
        self._client = client
        self._announce = announce
        self._calls = asyncio.Semaphore(calls) if calls else contextlib.nullcontext()
        # A limiter that holds a whole minute would let twice as much through in the first one.
        self._requests = _Queue("--rpm", AsyncLimiter(1, _MINUTE / rpm)) if rpm else None
        self._tokens = _Queue("--tpm", AsyncLimiter(tpm / _MINUTE, 1)) if tpm else None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._client.name

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Wait for the pace, then ask; raises as the client does."""
        if self._requests is not None:
            await self._requests.acquire(1, self._announce)
        if self._tokens is not None:
            wanted = most_tokens(messages, schema) + min(_ANSWER, limits.max_tokens)
            await self._tokens.acquire(wanted, self._announce)
        async with self._calls:
            return await self._client.complete(messages, schema, limits)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


class _Queue:
    """A limiter, and when it will be free again: a request may want more than it holds at once."""

    def __init__(self, flag: str, limiter: AsyncLimiter) -> None:
        self._flag = flag
        self._limiter = limiter
        self._free_at = 0.0

    async def acquire(self, amount: float, announce: Announce) -> None:
        now = asyncio.get_running_loop().time()
        a_unit = self._limiter.time_period / self._limiter.max_rate  # seconds
        begins = max(now, self._free_at)
        self._free_at = begins + amount * a_unit
        seconds = begins - now + max(0.0, amount - self._limiter.max_rate) * a_unit
        if seconds >= _LONG:
            announce(Wait(f"{self._flag} is reached", "asking", seconds))
        while amount > 0:
            part = min(amount, self._limiter.max_rate)
            await self._limiter.acquire(part)
            amount -= part
