"""A rate limit applies in total, from the first minute on."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.models.limits import RateLimitedClient, estimate_tokens
from synopsis_writer.testing import ScriptedClient

MESSAGES = [Message("user", "Hallo")]
WINDOW = 0.5  # seconds


class Jumping(selectors.DefaultSelector):
    """Does not wait: where a loop would, its clock jumps ahead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += (timeout or 0.0) + 1e-6  # as in life, no two things happen at the same time
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds take no time, so that they are exact on a busy machine, too."""

    def __init__(self) -> None:
        self._jumping = Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def on_a_jumping_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(test(*arguments, **named))

    return run


async def asked_within_a_window(rpm: float | None, tpm: float | None) -> int:
    client = ScriptedClient(["ja"] * 1000)
    paced = RateLimitedClient(client, rpm, tpm)

    async def ask() -> None:
        while True:
            await paced.complete(MESSAGES, None, Limits(max_tokens=100))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(8))), WINDOW)
    return len(client.calls)


@on_a_jumping_loop
async def test_the_first_minute_has_no_burst() -> None:
    # 1,200 a minute are ten in half a second; one more may stand at the window's edge
    assert 10 <= await asked_within_a_window(1200, None) <= 11


@on_a_jumping_loop
async def test_a_request_larger_than_a_second_of_tokens_waits_for_all_of_them() -> None:
    tokens = estimate_tokens(MESSAGES, None) + 100
    # a second holds less than one request; eight ask at once, and two requests' worth of tokens come
    assert await asked_within_a_window(None, 60 * tokens * 0.9) <= 2


async def test_without_a_rate_limit_nothing_waits() -> None:
    client = ScriptedClient(["ja"])
    assert (await RateLimitedClient(client, None, None).complete(MESSAGES, None, Limits())).text == "ja"


@on_a_jumping_loop
async def test_a_wait_is_logged_with_its_length(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    paced = RateLimitedClient(ScriptedClient(["ja"] * 3), 30, None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(paced.complete(MESSAGES, None, Limits()) for _ in range(3))), 0.1)
    # the first is asked at once; the second and third wait for their turns, two seconds apart
    assert caplog.messages == ["--rpm is reached; asking in 2.0 s", "--rpm is reached; asking in 4.0 s"]


class Busy(ScriptedClient):
    """Counts the calls that run at once."""

    running = most = 0

    async def complete(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits) -> Answer:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        return await super().complete(messages, schema, limits)


async def test_no_more_calls_run_at_once_than_may() -> None:
    client = Busy(["ja"] * 9)
    paced = RateLimitedClient(client, None, None, calls=3)
    await asyncio.gather(*(paced.complete(MESSAGES, None, Limits()) for _ in range(9)))
    assert (client.most, len(client.calls)) == (3, 9)


@on_a_jumping_loop
async def test_the_first_request_says_how_long_its_own_tokens_take(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    tokens = estimate_tokens(MESSAGES, None) + 100
    paced = RateLimitedClient(ScriptedClient(["ja"]), None, 60 * tokens / 10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(paced.complete(MESSAGES, None, Limits(max_tokens=100)), 0.05)
    assert caplog.messages == ["--tpm is reached; asking in 9.0 s"]
