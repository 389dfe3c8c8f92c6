import asyncio
import email.utils
import time
import traceback
from collections.abc import Sequence

import pytest

from synopsis_writer.client import Answer, Limits, Message, Usage
from synopsis_writer.client.hosted import HostedClient
from synopsis_writer.client.retry import RetryPolicy, retry_after
from synopsis_writer.errors import ConnectionFailed, ModelError, RequestRefused
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.testing import (
    BrokenJson,
    CutBody,
    Fault,
    Hangup,
    Html,
    LoopbackServer,
    Reply,
    Silence,
)
from synopsis_writer.testing.server import Step

KEY = "sk-secret-0123456789"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)
QUICK = Limits(timeout=0.3)


class Waits:
    """Takes down the waits instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.lines: list[str] = []

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def ask(
    server: LoopbackServer,
    waits: Waits,
    *,
    times: int = 1,
    retries: int = 3,
    budget: float = 300.0,
    key: str = KEY,
) -> Answer:
    policy = RetryPolicy(retries, budget, sleep=waits.sleep)
    client = HostedClient("test-model", server.base_url, key, retry=policy, announce=waits.lines.append)
    try:
        for _ in range(times - 1):
            await client.complete(ASK, SCHEMA, QUICK)
        return await client.complete(ASK, SCHEMA, QUICK)
    finally:
        await client.close()


async def test_an_answer_comes_with_its_usage() -> None:
    with LoopbackServer([Reply("Ja.", prompt_tokens=900, completion_tokens=3, cached_tokens=800)]) as server:
        answer = await ask(server, Waits())
    assert (answer.text, answer.finish, answer.usage) == ("Ja.", "stop", Usage(900, 3, 800))
    assert answer.model == "test-model-2026"
    assert answer.seconds > 0
    sent = server.requests[0]
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.body["messages"] == [{"role": one.role, "content": one.content} for one in ASK]
    assert sent.body["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("reply", "finish", "text"),
    [
        (Reply("halb", finish="length"), "length", "halb"),
        (Reply("", finish="content_filter"), "filter", ""),
        (Reply("", refusal="Das schreibe ich nicht."), "refusal", "Das schreibe ich nicht."),
        (Reply(""), "stop", ""),
    ],
)
async def test_answers_that_are_none_keep_text_and_usage(reply: Reply, finish: str, text: str) -> None:
    with LoopbackServer([reply]) as server:
        answer = await ask(server, Waits())
    assert (answer.finish, answer.text) == (finish, text)
    assert answer.usage.prompt_tokens == 100


PASSING: Sequence[Step] = (
    Fault(408), Fault(409), Fault(429), Fault(500), Fault(502), Fault(503), Fault(529),
    BrokenJson(), CutBody(), Hangup(), Silence(1.0),
)  # fmt: skip


@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_faults_that_may_pass_are_retried(fault: Step) -> None:
    waits = Waits()
    with LoopbackServer([fault, fault, Reply("Ja.")]) as server:
        assert (await ask(server, waits)).text == "Ja."
    assert len(server.requests) == 3
    assert len(waits.seconds) == 2
    assert all("trying again in" in line for line in waits.lines)


@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_faults_that_do_not_pass_end_after_the_last_retry(fault: Step) -> None:
    with LoopbackServer([fault]) as server, pytest.raises(ModelError) as caught:
        await ask(server, Waits(), retries=2)
    assert len(server.requests) == 3
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(400), "check model and parameters"),
        (Fault(401), "set OPENAI_API_KEY"),
        (Fault(403), "choose another with --model"),
        (Fault(404), "check --model and --base-url"),
        (Fault(413), "the prompt is too long"),
        (Fault(422), "check model and parameters"),
        (Fault(429, code="insufficient_quota"), "quota is used up"),
        (Html(), "a page or text, not a completion"),
        (Html(status=404), "it often ends in /v1"),
    ],
    ids=str,
)
async def test_faults_that_never_pass_are_said_at_once(fault: Step, said: str) -> None:
    waits = Waits()
    with LoopbackServer([fault]) as server, pytest.raises(ModelError, match=said):
        await ask(server, waits)
    assert len(server.requests) == 1
    assert waits.seconds == []


async def test_no_retries_means_none() -> None:
    with LoopbackServer([Fault(503)]) as server, pytest.raises(ConnectionFailed):
        await ask(server, Waits(), retries=0)
    assert len(server.requests) == 1


async def test_a_server_that_is_not_there_is_said() -> None:
    with LoopbackServer([Reply("x")]) as server:
        pass
    waits = Waits()
    with pytest.raises(ConnectionFailed, match="no connection: check --base-url"):
        await ask(server, waits, retries=1)
    assert len(waits.seconds) == 1


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "12500"}, 12.5),
        ({"retry-after": email.utils.formatdate(time.time() + 3600, usegmt=True)}, 3500),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "inf"}, 0),
    ],
)
async def test_the_servers_wish_to_wait_is_honoured(headers: dict[str, str], least: float) -> None:
    waits = Waits()
    with LoopbackServer([Fault(429, headers), Reply("Ja.")]) as server:
        await ask(server, waits, budget=10_000)
    assert least <= waits.seconds[0] <= max(least + 200, 2)
    assert retry_after(headers) >= least


async def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    waits = Waits()
    with LoopbackServer([Fault(429, {"retry-after": "600"})]) as server, pytest.raises(RequestRefused):
        await ask(server, waits, budget=60)
    assert waits.seconds == []


async def test_waits_grow() -> None:
    waits = Waits()
    with LoopbackServer([Fault(500)]) as server, pytest.raises(ConnectionFailed):
        await ask(server, waits, retries=6)
    assert waits.seconds[-1] > 4 * waits.seconds[0]


@pytest.mark.parametrize(
    ("refuses", "formats"),
    [
        ([], ["json_schema", "json_schema"]),
        (["json_schema"], ["json_schema", "json_object", "json_object"]),
        (["json_schema", "json_object"], ["json_schema", "json_object", None, None]),
    ],
)
async def test_the_way_down_from_json_schema_is_remembered(
    refuses: list[str], formats: list[str | None]
) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=refuses) as server:
        await ask(server, Waits(), times=2)
    assert [request.body.get("response_format", {}).get("type") for request in server.requests] == formats


async def test_a_cancelled_wait_ends_at_once() -> None:
    policy = RetryPolicy(5, 1000, first_wait=30)
    with LoopbackServer([Fault(503)]) as server:
        client = HostedClient("m", server.base_url, KEY, retry=policy)
        task = asyncio.create_task(client.complete(ASK, None, QUICK))
        await asyncio.sleep(0.5)
        started = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()
    assert time.perf_counter() - started < 1
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault", [*PASSING, Fault(401), Fault(400, message=f"bad key {KEY}"), Html()], ids=str
)
async def test_the_key_is_in_no_message_and_no_traceback(fault: Step) -> None:
    waits = Waits()
    with LoopbackServer([fault], key="another" if fault == Fault(401) else None) as server:
        try:
            await ask(server, waits, retries=1)
        except ModelError as error:
            said = "".join(traceback.format_exception(error)) + "".join(waits.lines)
        else:
            pytest.fail("the fault passed")
    assert KEY not in said


async def test_a_servers_models_are_listed() -> None:
    with LoopbackServer([Reply("x")], models=["b", "a"]) as server:
        client = HostedClient("m", server.base_url, KEY)
        assert await client.models() == ["a", "b"]
        await client.close()
