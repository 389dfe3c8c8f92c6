"""A pace: no more requests and tokens a minute than a server allows, shared by all calls of a process."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiolimiter import AsyncLimiter

from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.client.budget import most_tokens

_MINUTE = 60.0
_ANSWER = 900  # tokens of an answer, about: a synopsis has 350 words


class PacedClient:
    """A `ModelClient` that asks another one, never faster than its pace.

    Args:
        client: who is asked; `close` closes it.
        rpm: requests a minute; None: no bound.
        tpm: tokens a minute, prompts (estimated) and answers together; None: no bound.
    """

    def __init__(self, client: ModelClient, rpm: int | None, tpm: int | None) -> None:
        self._client = client
        self._requests = AsyncLimiter(rpm, _MINUTE) if rpm else None
        self._tokens = AsyncLimiter(tpm, _MINUTE) if tpm else None

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
            wanted = most_tokens(messages, schema) + min(_ANSWER, limits.max_tokens)
            await self._tokens.acquire(min(wanted, self._tokens.max_rate))  # more than all of it never comes
        return await self._client.complete(messages, schema, limits)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()
