import asyncio
import email.utils
import json
import re
import shutil
import ssl
import subprocess
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from synopsis_writer.cli.app import run
from synopsis_writer.errors import (
    ConnectionFailedError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    UnavailableError,
)
from synopsis_writer.models.base import Answer, Limits, Message, Schema
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.resolve import resolve_model
from synopsis_writer.models.retry import RetryBudget, RetryPolicy, retry_after
from synopsis_writer.settings import load_settings
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Usage
from tests.support.clock import Clock
from tests.support.loopback import (
    Body,
    BrokenJson,
    CutBody,
    Drip,
    Fault,
    Hangup,
    Html,
    LoopbackServer,
    Redirect,
    Reply,
    Request,
    Silence,
    Step,
    closed_port,
)

KEY = "sk-secret-0123456789"
DONE = "data: [DONE]\n\n"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)
LIMITS = Limits(timeout=10)


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")


class Waits:
    """Records the waits instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

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
    limits: Limits = LIMITS,
    schema: Schema | None = SCHEMA,
) -> Answer:
    policy = RetryPolicy(retries, budget, sleep=waits.sleep)
    server.on_silence = Clock().forward
    client = HostedClient("test-model", server.base_url, key, retry=policy)
    try:
        for _ in range(times - 1):
            await client.complete(ASK, schema, limits)
        return await client.complete(ASK, schema, limits)
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
    assert sent.body["max_tokens"] == LIMITS.max_tokens
    assert "temperature" not in sent.body


async def test_a_given_transport_answers_the_requests() -> None:
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if len(requests) == 1:
            return httpx2.Response(503)
        return httpx2.Response(200, json=Reply("Ja.").as_data("m"))

    waits = Waits()
    client = HostedClient(
        "m",
        "https://llm.example.org/v1",
        KEY,
        retry=RetryPolicy(sleep=waits.sleep),
        transport=httpx2.MockTransport(answer),
    )
    assert (await client.complete(ASK, SCHEMA, LIMITS)).text == "Ja."
    await client.close()
    assert [str(request.url) for request in requests] == ["https://llm.example.org/v1/chat/completions"] * 2
    assert requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(requests[0].content)["model"] == "m"
    assert len(waits.seconds) == 1


@pytest.mark.parametrize("end", [DONE, ""])
async def test_a_given_transport_may_stream(end: str) -> None:
    texts: list[str] = []
    piece = {"choices": [{"index": 0, "delta": {"content": "Ja."}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(piece)}\n\n{end}"
    reply = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    transport = httpx2.MockTransport(lambda _: reply)
    client = HostedClient("m", "https://llm.example.org/v1", KEY, on_text=texts.append, transport=transport)
    answer = await client.complete(ASK, None, LIMITS)
    await client.close()
    assert (answer.text, texts) == ("Ja.", ["Ja."])


async def test_a_temperature_is_sent_where_one_is_set() -> None:
    with LoopbackServer([Reply("Ja.")]) as server:
        client = HostedClient("m", server.base_url)
        await client.complete(ASK, None, Limits(temperature=0.0))
        await client.close()
    assert server.requests[0].body["temperature"] == 0.0
    assert "response_format" not in server.requests[0].body


@pytest.mark.parametrize(
    ("reply", "finish", "text"),
    [
        (Reply("halb", finish="length"), "length", "halb"),
        (Reply("", finish="content_filter"), "filter", ""),
        (Reply("", refusal="Das schreibe ich nicht."), "refusal", "Das schreibe ich nicht."),
        (Reply(""), "stop", ""),
    ],
)
async def test_unusable_answers_keep_text_and_usage(reply: Reply, finish: str, text: str) -> None:
    with LoopbackServer([reply]) as server:
        answer = await ask(server, Waits())
    assert (answer.finish, answer.text) == (finish, text)
    assert answer.usage.prompt_tokens == 100


TOO_LONG = "lower example_tokens or max_tokens, or give the server a larger context"
PASSING: Sequence[Step] = (
    Fault(408), Fault(409), Fault(429), Fault(502), Fault(503), Fault(529),
    BrokenJson(), BrokenJson("["*100_000), BrokenJson(""), CutBody(), Hangup(), Silence(), Drip(),
    Body({"choices": []}), Body({"error": {"message": "upstream"}}),
)  # fmt: skip


def name_of(value: object) -> str:
    return str(value)[:60]


@pytest.mark.parametrize("fault", PASSING, ids=name_of)
async def test_transient_errors_are_retried(fault: Step, caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits()
    with LoopbackServer([fault, fault, Reply("Ja.")]) as server:
        assert (await ask(server, waits)).text == "Ja."
    assert len(server.requests) == 3
    assert len(waits.seconds) == 2
    assert all("trying again in" in line for line in caplog.messages)


@pytest.mark.parametrize("fault", PASSING, ids=name_of)
async def test_errors_that_persist_end_after_the_last_retry(fault: Step) -> None:
    with LoopbackServer([fault]) as server, pytest.raises(ModelError) as caught:
        await ask(server, Waits(), retries=2)
    assert len(server.requests) == 3
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        (Fault(400), "check model, key and parameters"),
        (Fault(401), "set OPENAI_API_KEY"),
        (Fault(403), "choose another with --model"),
        (Fault(404), "check --model and --base-url"),
        (Fault(413), "the prompt is too long"),
        (Fault(422), "check model and parameters"),
        (Fault(429, code="insufficient_quota"), "quota is used up"),
        (Fault(402), "quota is used up"),
        (Fault(501), "check model and parameters"),
        (Fault(400, body={"error": {"type": {}, "code": []}}), "check model, key and parameters"),
        (Fault(400, body="nein"), "check model, key and parameters"),
        (Fault(400, code="context_length_exceeded"), TOO_LONG),
        (Fault(400, message="the request exceeds the available context size"), TOO_LONG),
        (Fault(413, message="prompt does not fit the context window"), TOO_LONG),
        (Fault(422, message="context window"), TOO_LONG),
        (Body({"error": {"code": "insufficient_quota"}}), "quota is used up"),
        (Body({"error": {"code": 400}}), "the server failed: check model and parameters"),
        (Body([]), "a page or text, not a completion"),
        (Body({"choices": [{}]}), "not have the shape of a completion"),
        (Body({"choices": [None]}), "not have the shape of a completion"),
        (Body({"choices": {"a": 1}}), "not have the shape of a completion"),
        (Body({"choices": [{"message": "Ja."}]}), "not have the shape of a completion"),
        (Html(), "a page or text, not a completion"),
        (Html(status=404), "it often ends in /v1"),
    ],
    ids=name_of,
)
async def test_permanent_errors_are_reported_at_once(
    fault: Step, reported: str, caplog: pytest.LogCaptureFixture
) -> None:
    waits = Waits()
    with LoopbackServer([fault]) as server, pytest.raises(ModelError, match=reported):
        await ask(server, waits, schema=None)
    assert len(server.requests) == 1
    assert waits.seconds == []
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ("many", Usage()),
        ({"prompt_tokens": None, "completion_tokens": 3}, Usage(0, 3)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": None}}, Usage(7)),
        ({"prompt_tokens": -1}, Usage()),
        ({"prompt_tokens": 10**30}, Usage()),
        ({"prompt_tokens_details": {"cached_tokens": 2**63}}, Usage()),
    ],
)
async def test_malformed_usage_does_not_lose_the_text(usage: Any, expected: Usage) -> None:
    body = {"choices": [{"message": {"content": "Ja."}}], "usage": usage}
    with LoopbackServer([Body(body)]) as server:
        answer = await ask(server, Waits())
    assert (answer.text, answer.usage, answer.model) == ("Ja.", expected, "test-model")


async def test_half_a_character_is_replaced_so_that_the_text_can_be_sent_on() -> None:
    with LoopbackServer([Reply("Hund \ud83d."), Reply("\U0001f436")]) as server:
        assert (await ask(server, Waits())).text == "Hund \ufffd."
        assert (await ask(server, Waits())).text == "\U0001f436"


async def test_no_retries_means_none() -> None:
    with LoopbackServer([Fault(503)]) as server, pytest.raises(ConnectionFailedError):
        await ask(server, Waits(), retries=0)
    assert len(server.requests) == 1


async def test_an_unreachable_server_is_reported() -> None:
    waits = Waits()
    with closed_port() as address:
        client = HostedClient("m", address, retry=RetryPolicy(1, sleep=waits.sleep))
        with pytest.raises(ConnectionFailedError, match="no connection: check --base-url"):
            await client.complete(ASK, None, LIMITS)
        await client.close()
    assert len(waits.seconds) == 1


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "12500"}, 12.5),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "inf"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "Mon, 1 Jan 99999 00:00:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "90", "retry-after-ms": "1500"}, 1.5),
    ],
)
async def test_the_servers_retry_after_is_honoured(headers: dict[str, str], least: float) -> None:
    waits = Waits()
    with LoopbackServer([Fault(429, headers), Reply("Ja.")]) as server:
        await ask(server, waits, budget=10_000)
    assert least <= waits.seconds[0] <= max(least + 200, 2)
    assert (retry_after(headers) or 0) >= least


async def test_a_date_to_wait_for_is_honoured() -> None:
    waits = Waits()
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    with LoopbackServer([Fault(429, {"retry-after": date}), Reply("Ja.")]) as server:
        await ask(server, waits, budget=10_000)
    assert 3500 <= waits.seconds[0] <= 3700


async def test_a_wait_beyond_the_retry_time_is_not_started() -> None:
    waits = Waits()
    with LoopbackServer([Fault(429, {"retry-after": "600"})]) as server, pytest.raises(UnavailableError):
        await ask(server, waits, budget=60)
    assert waits.seconds == []
    assert len(server.requests) == 1


HOURS = 7200
LONG_WAITS: Sequence[Fault | Body] = (
    Fault(429, {"retry-after": "7200"}),
    Fault(429, {"Retry-After": "7200.5"}),
    Fault(429, {"retry-after": "7200s"}),
    Fault(429, {"retry-after": "2h"}),
    Fault(429, {"retry-after": "2 hours"}),
    Fault(429, {"retry-after": "120 min"}),
    Fault(503, {"retry-after": "7200"}),
    Fault(429, {"retry-after-ms": "7200000"}),
    Fault(429, {"x-ms-retry-after-ms": "7200000"}),
    Fault(429, {"retry-after": "soon", "x-ratelimit-reset-tokens": "2h0m0s"}),
    Fault(429, {"x-ratelimit-reset-requests": "2h", "x-ratelimit-remaining-requests": "0"}),
    Fault(429, {"x-ratelimit-reset-requests": "12ms", "x-ratelimit-reset-tokens": "119m59.9s"}),
    Fault(429, {"X-RateLimit-Reset-Requests": "7200"}),
    Fault(429, body={"error": {"details": [{"retryDelay": "7200s"}]}}),
    Fault(429, message="Rate limit reached. Please try again in 2h0m0.5s. Visit the limits page."),
    Fault(429, {"retry-after": "PT2H"}),
    Fault(429, {"retry-after": "7200, 7200"}),
    Fault(429, body={"error": {"message": "limit", "retry_after": 7200}}),
    Fault(429, body={"error": {"type": "usage_limit_reached", "resets_in_seconds": 7200}}),
    Fault(429, message="Quota exceeded. Resets in 2 hours."),
    Fault(503, message="Please wait 7200 seconds before trying again."),
    Fault(429, {"retry-after": "1h60m"}),
    Fault(429, {"retry-after": "pt1h60m"}),
    Fault(429, {"retry-after": "P0DT2H"}),
    Fault(429, {"retry-after": '"7200"'}),
    Fault(429, {"retry-after": "1 hour and 60 minutes"}),
    Fault(429, {"retry-after": "2 Stunden"}),
    Fault(429, {"retry-after": "7200000 milliseconds"}),
    Fault(429, {"x-retry-after": "7200"}),
    Fault(429, {"x-rate-limit-reset": "7200", "x-rate-limit-remaining": "0"}),
    Fault(429, {"RateLimit": "limit=100, remaining=0, reset=7200"}),
    Fault(429, {"RateLimit": '"minute";r=9;t=30, "day";r=0;t=7200'}),
    Fault(429, body={"retry_after_ms": 7_200_000}),
    Fault(429, body={"error": {"retryAfter": "PT2H"}}),
    Fault(429, body={"error": {"details": [{"retryDelay": {"seconds": 7200, "nanos": 0}}]}}),
    Fault(429, body={"error": {"details": [{"metadata": {"quotaResetDelay": "1h60m0.5s"}}]}}),
    Fault(429, body={"try_again_in": "2 hours", "limit": 60}),
    Fault(429, message="Come back after 2 hours."),
    Fault(429, message="Try again in 1 hour and 60 minutes."),
    Body({"error": {"code": 429, "message": "Rate limited: try again in 2h"}}),
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", LONG_WAITS, ids=name_of)
async def test_a_wait_of_hours_in_any_spelling_ends_the_call_and_says_until_when(
    fault: Fault | Body, stream: bool
) -> None:
    waits = Waits()
    with LoopbackServer([fault]) as server:
        retry = RetryPolicy(0 if fault == Fault(503, {"retry-after": "7200"}) else 3, sleep=waits.sleep)
        client = HostedClient("m", server.base_url, retry=retry, on_text=print if stream else None)
        for _ in range(2):  # the second call does not even ask
            with pytest.raises(UnavailableError) as caught:
                await client.complete(ASK, None, LIMITS)
        await client.close()
    assert (len(server.requests), waits.seconds, caught.value.is_transient) == (1, [], False)
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+: takes no more requests until (\d{4}-\d\d-\d\d )?\d\d:\d\d \(in 2\.0 h\): "
        "run the same command again then",
        str(caught.value),
    )


@pytest.mark.parametrize(
    "date",
    [
        email.utils.formatdate(4e9, usegmt=True),
        "2096-10-02T07:06:40Z",
        "2096-10-02T07:06:40",
        "4000000000",
        "4000000000000",
    ],
)
def test_dates_in_every_spelling_mean_the_same(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "synopsis_writer.models.retry.time", SimpleNamespace(time=lambda: 4e9 - HOURS, monotonic=lambda: 0)
    )
    assert retry_after({"retry-after": date}) == pytest.approx(HOURS, abs=1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, {"x-ratelimit-reset-tokens": "2h", "x-ratelimit-remaining-tokens": "70"}),
        Fault(502, {"x-ratelimit-reset-requests": "2h"}),
        Fault(429, {"retry-after": "0", "x-ratelimit-reset-requests": "2h"}),
        Fault(429, {"retry-after": "1e300"}),
        Fault(429, {"retry-after": "2h from now or so"}),
        Fault(429, body={"max_retries": 7200, "available": 7200, "retryable": 7200}),
        Fault(429, {"RateLimit": "limit=100, remaining=7, reset=7200"}),
        Fault(429, message="100 requests are allowed in 2 hours."),
        Fault(429, message="Limit 3 / min. Your plan resets monthly; see 7200 seconds of video."),
    ],
    ids=name_of,
)
async def test_a_reset_of_what_is_not_used_up_and_nonsense_are_no_wait(fault: Fault) -> None:
    waits = Waits()
    with LoopbackServer([fault, Reply("Ja.")]) as server:
        assert (await ask(server, waits)).text == "Ja."
    assert waits.seconds[0] < 2


async def test_no_call_asks_before_the_time_that_the_server_named_to_another() -> None:
    asked: list[float] = []
    has_refused = asyncio.Event()

    class Timed(LoopbackServer):
        def answer(self, request: Request) -> Step:
            asked.append(time.monotonic())
            return super().answer(request)

    async def sleep(seconds: float) -> None:
        has_refused.set()
        await asyncio.sleep(seconds)

    with Timed([Fault(429, {"retry-after-ms": "400"}), Reply("Ja.")]) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(sleep=sleep))
        first = asyncio.create_task(client.complete(ASK, None, LIMITS))
        await has_refused.wait()
        await asyncio.gather(first, *(client.complete(ASK, None, LIMITS) for _ in range(6)))
        await client.close()
    assert len(asked) == 8
    assert all(moment - asked[0] >= 0.4 for moment in asked[1:])


async def test_after_five_calls_without_a_connection_the_error_is_one_that_ends_the_work() -> None:
    errors = []
    with closed_port() as address:
        client = HostedClient("m", address, retry=RetryPolicy(1, sleep=Waits().sleep))
        for _ in range(6):
            with pytest.raises(ModelError, match="no connection: check --base-url") as caught:
                await client.complete(ASK, None, LIMITS)
            errors.append(caught.value)
        await client.close()
    assert [error.is_transient for error in errors] == [True] * 4 + [False] * 2
    assert "5 calls in a row failed like this: run the same command again once it works" in str(errors[4])


async def test_an_answer_begins_the_count_of_calls_without_a_connection_anew() -> None:
    steps: list[Step] = [Hangup(), Hangup(), Hangup(), Hangup(), Reply("Ja."), Hangup()]
    with LoopbackServer(steps) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(0))
        for step in steps:
            if step == Hangup():
                with pytest.raises(ConnectionFailedError):
                    await client.complete(ASK, None, LIMITS)
            else:
                await client.complete(ASK, None, LIMITS)
        await client.close()


async def test_no_try_begins_with_less_time_than_an_earlier_one_took() -> None:
    with LoopbackServer([Silence(60)]) as server, pytest.raises(ConnectionFailedError, match="raise timeout"):
        await ask(server, Waits(), budget=0.5, limits=Limits(timeout=0.3))
    assert len(server.requests) == 1


def count_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time for retries go by the loop's clock, which a test puts forward."""
    loop = asyncio.get_running_loop()

    def monotonic() -> float:
        return loop.time()

    clock = SimpleNamespace(time=time.time, monotonic=monotonic)
    monkeypatch.setattr("synopsis_writer.models.retry.time", clock)


async def test_a_try_after_a_quick_fault_has_as_much_time_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    count_in_the_loop(monkeypatch)
    clock = Clock()

    class Slow(LoopbackServer):
        def answer(self, request: Request) -> Step:
            step = super().answer(request)
            if isinstance(step, Reply):
                clock.forward(1500)
            return step

    async def sleep(seconds: float) -> None:
        clock.forward(seconds)
        await asyncio.sleep(0.01)

    with Slow([Fault(429, {"retry-after": "1200"}), Reply("Ja.")]) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(3, 1800, sleep=sleep))
        assert (await client.complete(ASK, None, Limits(timeout=9000))).text == "Ja."
        await client.close()


@pytest.mark.parametrize(
    ("retries", "seconds", "requests", "kind", "said"),
    [
        (1, 200.0, 2, ConnectionFailedError, "answered 503 every time"),
        (50, 200.0, 4, UnavailableError, "takes no more requests until"),
    ],
)
async def test_attempts_and_time_are_both_bounded(
    monkeypatch: pytest.MonkeyPatch, retries: int, seconds: float, requests: int, kind: type[ModelError], said: str
) -> None:
    now = 1000.0

    async def sleep(wait: float) -> None:
        nonlocal now
        now += wait

    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("synopsis_writer.models.retry.time", clock)
    monkeypatch.setattr("tenacity.time", clock)
    policy = RetryPolicy(retries, seconds, first_wait=0.001, sleep=sleep)
    with LoopbackServer([Fault(503, {"retry-after": "55"})]) as server:
        client = HostedClient("m", server.base_url, retry=policy)
        with pytest.raises(kind, match=said):
            await client.complete(ASK, None, LIMITS)
        await client.close()
    assert len(server.requests) == requests
    assert now - 1000 == pytest.approx(55 * (requests - 1), abs=1)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault(429, {"retry-after": "7"}), "the server answered 429; trying again in 7.0 s"),
        (Silence(), "the server did not answer in time; trying again in "),
        (Hangup(), "no connection to the server; trying again in "),
        (BrokenJson(), "the answer is broken JSON; trying again in "),
    ],
    ids=name_of,
)
async def test_a_wait_is_logged_with_its_reason(fault: Step, line: str, caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits()
    with LoopbackServer([fault, Reply("Ja.")]) as server:
        await ask(server, waits)
    (record,) = caplog.records
    assert record.getMessage().startswith(line)
    assert vars(record)["reason"] == line.partition(";")[0]
    assert [vars(record)["wait"]] == waits.seconds


async def test_waits_grow() -> None:
    waits = Waits()
    with LoopbackServer([Fault(500)]) as server, pytest.raises(ConnectionFailedError):
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
async def test_the_fallback_from_json_schema_is_remembered(refuses: list[str], formats: list[str | None]) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=refuses) as server:
        await ask(server, Waits(), times=2)
    assert [request.body.get("response_format", {}).get("type") for request in server.requests] == formats


@pytest.mark.parametrize("status", [400, 422, 501])
@pytest.mark.parametrize("reported", ["response format `json_schema`", "response_format.type", "json_object"])
async def test_each_way_of_refusing_the_format_leads_to_a_fallback(status: int, reported: str) -> None:
    with LoopbackServer([Fault(status, message=reported), Reply("Ja.")]) as server:
        assert (await ask(server, Waits())).text == "Ja."
    assert server.requests[1].body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    "fault",
    [Fault(401, message="response_format"), Fault(429, message="response_format", code="insufficient_quota")],
    ids=name_of,
)
async def test_other_refusals_leave_the_format_alone(fault: Step) -> None:
    with LoopbackServer([fault]) as server, pytest.raises(RequestRefusedError):
        await ask(server, Waits())
    assert len(server.requests) == 1


async def test_a_server_that_refuses_each_format_ends() -> None:
    with LoopbackServer([Fault(400, message="response_format")]) as server, pytest.raises(RequestRefusedError):
        await ask(server, Waits())
    assert len(server.requests) == 3


async def test_concurrent_calls_go_down_one_step_together() -> None:
    with LoopbackServer([Reply("Ja.")], refuses=["json_schema"]) as server:
        client = HostedClient("m", server.base_url)
        await asyncio.gather(*(client.complete(ASK, SCHEMA, Limits()) for _ in range(4)))
        await client.close()
    asked = [request.body["response_format"]["type"] for request in server.requests]
    assert asked.count("json_object") == 4


@pytest.mark.parametrize("step", [Fault(503), Silence(600)], ids=name_of)
async def test_a_cancelled_call_or_wait_ends_at_once(step: Step) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(600)
        pytest.fail("waited to the end")

    with LoopbackServer([step]) as server:
        policy = RetryPolicy(5, 1000, sleep=sleep)
        client = HostedClient("m", server.base_url, KEY, retry=policy)
        task = asyncio.create_task(client.complete(ASK, None, Limits()))
        while not (waits if step == Fault(503) else server.requests):
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
        await client.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [*PASSING, Fault(401), Fault(400, message=f"bad key {KEY}"), Fault(503, message=KEY), Html(KEY), BrokenJson(KEY)],
    ids=name_of,
)
async def test_the_key_is_in_no_message_and_no_traceback(fault: Step, caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits()
    with LoopbackServer([fault], key="another" if fault == Fault(401) else None) as server:
        try:
            await ask(server, waits, retries=1)
        except ModelError as error:
            reported = "".join(traceback.format_exception(error)) + caplog.text
        else:
            pytest.fail("the fault passed")
    assert KEY not in reported


async def test_a_servers_models_are_listed() -> None:
    with LoopbackServer([Reply("x")], models=["b", "a"]) as server:
        client = HostedClient("m", server.base_url, KEY)
        assert list(await client.models()) == ["a", "b"]
        await client.close()


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ([{"id": "b"}, {"id": "a"}], ["a", "b"]),
        (["b", "a"], ["a", "b"]),
        ({"object": "list", "data": None}, []),
        (None, []),
        ([], []),
    ],
    ids=str,
)
async def test_a_list_of_models_may_be_bare_or_null(data: Any, names: list[str]) -> None:
    with LoopbackServer([], models=Body(data)) as server:
        client = HostedClient("m", server.base_url, KEY)
        assert list(await client.models()) == names
        await client.close()


@pytest.mark.parametrize(
    ("step", "reported"),
    [
        (Html(), "a page or text"),
        (BrokenJson(), "broken JSON"),
        (Body({}), "not have the shape of a list of models"),
        (Body({"data": [{"id": None}]}), "not have the shape of a list of models"),
        (Fault(401), "set OPENAI_API_KEY"),
        (Hangup(), "no connection"),
    ],
    ids=name_of,
)
async def test_a_server_that_cannot_list_its_models_is_reported(step: Step, reported: str) -> None:
    with LoopbackServer([], models=step) as server:
        client = HostedClient("m", server.base_url, KEY)
        with pytest.raises(ModelError, match=reported):
            await client.models()
        await client.close()


@pytest.mark.parametrize(
    "address",
    ["nowhere", "htp://host/v1", "localhost:8000/v1", "http://", "http://[::1", "http://host:abc", "http://h:0",
     "http://host:99999/v1", "http://ex ample/v1", "http://a\x00b/v1", "me:hunter2@host/v1"],
)  # fmt: skip
def test_an_invalid_address_is_refused_before_any_request(address: str) -> None:
    with pytest.raises(SettingsError, match="write base_url as in") as caught:
        HostedClient("m", address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-schlüssel", "sk-1\nsk-2", "sk-1 sk-2", "“sk-1”"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="OPENAI_API_KEY") as caught:
        HostedClient("m", "http://127.0.0.1:1/v1", key)
    assert "sk-" not in str(caught.value)


async def test_spaces_around_a_key_are_removed() -> None:
    with LoopbackServer([Reply("Ja.")], key=KEY) as server:
        assert (await ask(server, Waits(), key=f" {KEY}\n")).text == "Ja."


async def test_a_password_in_the_address_is_not_shown() -> None:
    with LoopbackServer([Fault(404)]) as server:
        client = HostedClient("m", server.base_url.replace("127", "me:hunter2@127"))
        with pytest.raises(RequestRefusedError, match=r"^127\.0\.0\.1:") as caught:
            await client.complete(ASK, None, LIMITS)
        await client.close()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_redirect_is_reported_and_not_followed(status: int, stream: bool) -> None:
    with LoopbackServer([Reply("Ja.")]) as other:
        target = other.base_url.replace("127.0.0.1", "localhost")
        with LoopbackServer([Redirect(f"{target}/chat/completions", status)]) as server:
            client = HostedClient("m", server.base_url, KEY, on_text=print if stream else None)
            with pytest.raises(RequestRefusedError, match="redirects to http://localhost: set base_url") as caught:
                await client.complete(ASK, None, LIMITS)
            await client.close()
    assert (len(server.requests), other.requests) == (1, [])
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("target", ["/elsewhere", "https://[::1", ""])
async def test_a_redirect_without_a_target_is_reported_too(target: str) -> None:
    with LoopbackServer([Redirect(target)]) as server, pytest.raises(RequestRefusedError, match="another address"):
        await ask(server, Waits())


OPEN = [
    "http://example.org/v1", "http://localhost.evil.com/v1", "http://127.0.0.1.evil.com", "http://10.0.0.7:8000/v1",
    "HTTP://EXAMPLE.ORG/v1", "http://me:hunter2@example.org/v1", "http://127.0.0.1@example.org", "http://[fe80::1]/v1",
    "http://localhost\\@example.org", "http://evillocalhost/v1", "http://0.0.0.0/v1", "http://localhost..",
]  # fmt: skip
SAFE = [
    "http://localhost/v1", "http://LOCALHOST.:80/v1", "http://api.localhost/v1", "http://127.0.0.1/v1",
    "http://127.1.2.3:8/v1", "http://[::1]:8000/v1", "http://me:hunter2@127.0.0.1/v1", "https://example.org/v1",
    "HTTPS://EXAMPLE.ORG", "https://10.0.0.7/v1",
]  # fmt: skip


@pytest.mark.parametrize("address", OPEN)
async def test_plain_http_to_another_machine_is_refused_and_warned_of_where_it_is_allowed(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SettingsError, match="use https, or allow it with --insecure") as caught:
        HostedClient("m", address, KEY)
    await HostedClient("m", address, KEY, insecure=True).close()
    (line,) = caplog.messages
    assert line.endswith(": plain http: key and text can be read on the way")
    assert "hunter2" not in line + str(caught.value)


@pytest.mark.parametrize("address", SAFE)
async def test_https_and_this_machine_need_no_permission(address: str, caplog: pytest.LogCaptureFixture) -> None:
    await HostedClient("m", address, KEY).close()
    assert caplog.messages == []


NO_ADDRESS = ["http://[::1", "http://[", "http://a]b/v1", "http://loc\u2100host/v1"]


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_a_broken_address_is_reported_before_anything_is_read_from_it(address: str) -> None:
    for flags in ({"base_url": address}, {"base_url": address, "model": "m"}):
        with pytest.raises(SettingsError, match="write base_url as in"):
            resolve_model(load_settings(flags, {}), {})
    with pytest.raises(SettingsError, match="write base_url as in"):
        resolve_model(load_settings({}, {}), {"OPENAI_BASE_URL": address})


@pytest.mark.parametrize("command", [["write", "--show", "AWZ", "--theme", "Ein Fest"], ["models"]])
@pytest.mark.parametrize("more", [[], ["--model", "m"], ["--model", "packaged"]])
def test_a_broken_address_ends_the_command_with_one_line(
    command: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--base-url", "http://[::1", *more]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_no_proxy_gets_what_goes_over_plain_http_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with LoopbackServer([Reply("Ja.")]) as server, LoopbackServer([Reply("Nein.")]) as proxy:
        monkeypatch.setenv(variable, proxy.base_url.removesuffix("/v1"))
        assert (await ask(server, Waits())).text == "Ja."
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTPS_PROXY", "gopher://127.0.0.1:9"),
     ("SSL_CERT_FILE", "/nonexistent/ca.pem")],
)  # fmt: skip
def test_an_unusable_environment_is_reported(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match="check HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"):
        HostedClient("m", "https://example.org/v1", KEY)
    HostedClient("m", "http://127.0.0.1:1/v1", KEY)


async def test_the_parts_of_a_content_are_joined() -> None:
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "J"}, {"type": "text", "text": "a."}]
    with LoopbackServer([Body({"choices": [{"message": {"content": parts}}]})]) as server:
        assert (await ask(server, Waits())).text == "Ja."


@pytest.mark.parametrize("parts", [[7], 7])
async def test_content_of_another_shape_is_not_an_answer(parts: Any) -> None:
    step = Body({"choices": [{"message": {"content": parts}}]})
    with LoopbackServer([step]) as server, pytest.raises(ConnectionFailedError, match="not have the shape of a comp"):
        await ask(server, Waits())


@pytest.mark.parametrize(
    ("fault", "transient"),
    [(Fault(status), False) for status in (401, 402, 403, 404)]
    + [(Fault(status), True) for status in (400, 413, 422, 501)]
    + [
        (Redirect("/"), False),
        (Fault(429, code="insufficient_quota"), False),
        (Body({"error": {"type": "insufficient_quota"}}), False),
        (Fault(400, code="context_length_exceeded"), True),
    ],
    ids=name_of,
)
async def test_a_refusal_says_whether_anything_else_will_work(fault: Step, transient: bool) -> None:
    with LoopbackServer([fault]) as server, pytest.raises(RequestRefusedError) as caught:
        await ask(server, Waits())
    assert caught.value.is_transient is transient


async def test_retries_are_counted_over_all_that_a_server_refuses() -> None:
    refused = Fault(400, message="response_format")
    steps = [Fault(503), refused, Fault(503), refused, Fault(503)]
    with LoopbackServer(steps) as server, pytest.raises(ConnectionFailedError, match="answered 503 every time"):
        await ask(server, Waits(), retries=2)
    assert len(server.requests) == 5


async def test_the_time_of_a_call_bounds_each_request_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    count_in_the_loop(monkeypatch)
    reported = "raise timeout or retry_seconds"
    with LoopbackServer([Silence(60)]) as server, pytest.raises(ConnectionFailedError, match=reported):
        await ask(server, Waits(), budget=3600, limits=Limits(timeout=1e9))
    assert len(server.requests) == 1


async def test_the_time_that_is_left_is_one_for_all_requests_of_a_call() -> None:
    retry_budget = RetryBudget(RetryPolicy(3, 300.0))
    assert 180 < retry_budget.seconds_left <= 300  # a slow call has its whole time-out
    spent = RetryBudget(RetryPolicy(3, 0.0))
    assert (spent.retries_left, spent.seconds_left) == (3, 0.0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate that signs itself, for 127.0.0.1."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl here")
    path = tmp_path / "both.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "2", "-subj", "/CN=house",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    parts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("key.pem", "cert.pem")]
    path.write_text("".join(parts), encoding="utf-8")
    return path


@pytest.mark.parametrize("stream", [False, True])
async def test_an_untrusted_certificate_is_reported_at_once_and_the_suggested_fix_works(
    certificate: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(Reply("Ja.").as_data("m")).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    waits = Waits()

    async def ask_once(address: str) -> Answer:
        retry = RetryPolicy(3, sleep=waits.sleep)
        client = HostedClient("m", address, KEY, retry=retry, on_text=(lambda _: None) if stream else None)
        try:
            return await client.complete(ASK, None, LIMITS)
        finally:
            await client.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(ConnectionFailedError, match="its certificate is not trusted: set SSL_CERT_FILE"):
            await ask_once(address)
        assert waits.seconds == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert (await ask_once(address)).text == "Ja."
