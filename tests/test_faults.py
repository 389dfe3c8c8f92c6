"""What servers say in errors: as providers word it, each in its own shape."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from synopsis_writer.errors import ModelError, RequestRefusedError
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.retry import RetryPolicy, quote, read_report
from synopsis_writer.synopsis import Synopsis, wire_schema
from tests.support.loopback import Body, Events, Fault, LoopbackServer, Reply, Step, event
from tests.support.terminal import ORDER, Terminal

KEY = "sk-proj-Zx81LmQw93_abcdefgh"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)


def openai_error(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


CASES = yaml.safe_load((Path(__file__).parent / "cases" / "refusals.yaml").read_text(encoding="utf-8"))


async def refused(step: Step, key: str = KEY, *, stream: bool = False) -> tuple[ModelError, int]:
    """Return the error of one call, and how many requests it took."""
    with LoopbackServer([step]) as server:
        client = HostedClient(
            "m",
            server.base_url,
            key,
            retry=RetryPolicy(1, first_wait=0.001),
            on_text=(lambda _: None) if stream else None,
        )
        with pytest.raises(ModelError) as caught:
            await client.complete(ASK, SCHEMA, Limits(timeout=10))
        await client.close()
    return caught.value, len(server.chats)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES["too_long"].values(), ids=CASES["too_long"])
async def test_a_prompt_that_is_too_long_is_recognized_and_not_sent_again(case: dict[str, Any], stream: bool) -> None:
    error, calls = await refused(Fault(case["status"], body=json.dumps(case["body"])), stream=stream)
    assert isinstance(error, RequestRefusedError)
    assert "lower example_tokens or max_tokens" in str(error)
    assert (calls, error.is_transient) == (1, True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", CASES["filter"].values(), ids=CASES["filter"])
async def test_a_prompt_that_a_filter_stops_is_recognized_and_not_sent_again(
    case: dict[str, Any], stream: bool
) -> None:
    error, calls = await refused(Fault(case["status"], body=json.dumps(case["body"])), stream=stream)
    assert "its content filter refused the prompt: change theme, beats or notes" in str(error)
    assert (calls, error.is_transient) == (1, True)


PHRASES = [(meaning, message) for meaning, messages in CASES["phrases"].items() for message in messages]


@pytest.mark.parametrize(("meaning", "message"), PHRASES)
def test_the_words_of_a_message_are_understood(meaning: str, message: str) -> None:
    assert read_report(400, {"error": {"message": message, "type": "invalid_request_error"}}).meaning == meaning


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "Rate limit reached: please reduce the length of your prompt or try again in 2 s"),
        (401, "Your request was blocked by an invalid key"),
    ],
)
def test_words_about_pace_and_key_are_not_about_the_prompt(status: int, message: str) -> None:
    assert read_report(status, openai_error(message)).meaning == "other"


@pytest.mark.parametrize("message", CASES["options"]["system_role"])
async def test_a_system_role_is_refused_in_many_words(message: str) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=["system"], refusal=Fault(400, message=message)) as server:
        assert await answered(server) == "Ja."
    assert [turn["role"] for turn in server.chats[1].body["messages"]] == ["user"]


@pytest.mark.parametrize("message", CASES["options"]["whole_answers"])
async def test_a_whole_answer_is_refused_in_many_words(message: str) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=["whole"], refusal=Fault(400, message=message)) as server:
        assert await answered(server) == "Ja."
    assert server.chats[1].body["stream"]


async def answered(server: LoopbackServer) -> str:
    client = HostedClient("m", server.base_url)
    answer = await client.complete(ASK, SCHEMA, Limits(timeout=10))
    await client.close()
    assert len(server.chats) == 2
    return answer.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (openai_error("No such\n\tparameter"), "No such parameter"),
        ({"error": "plain"}, "plain"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra"}, {"msg": "two"}]}, "body.seed: extra; two"),
        ({"object": "error", "message": {"detail": [{"msg": "mistral"}]}}, "mistral"),
        ({"timestamp": 1, "error": "Bad Request", "message": "spring"}, "spring"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"error":{"message":"up"}}'}}},
         "Provider returned error: up"),
        ('[{"error": {"message": "gemini"}}]', "gemini"),
        ("<html><head><title>413 &amp; more</title></head><body>nginx</body></html>", "413 & more"),
        ("upstream\u202e connect\x1b]52;c;aGk=\x07 error", "upstream connect]52;c;aGk= error"),
        ({"error": {"message": "a" * 500}}, "a" * 199 + "…"),
        ({"Message": "capital"}, "capital"),
        ({"error_code": 336, "error_msg": "Baidu"}, "Baidu"),
        ({"fault": {"faultstring": "Apigee"}}, "Apigee"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_the_servers_words_stand_behind_ours(body: Any, said: str, stream: bool) -> None:
    error, _ = await refused(Fault(400, body=body), stream=stream)
    assert str(error).endswith(f"check model, key and parameters; the server says: {said}")


@pytest.mark.parametrize(
    "step",
    [
        Fault(401, message="said"), Fault(402, message="said"), Fault(403, message="said"),
        Fault(404, message="said"), Fault(413, message="said"), Fault(422, message="said"),
        Fault(429, message="said"), Fault(429, message="said", code="insufficient_quota"),
        Fault(500, message="said"), Fault(503, message="said"), Fault(529, message="said"),
        Body({"error": {"message": "said"}}), Body({"error": "said"}),
        Events(event({"error": {"message": "said", "code": 502}})),
    ],
    ids=str,
)  # fmt: skip
async def test_every_kind_of_error_quotes_the_server(step: Step) -> None:
    error, _ = await refused(step, stream=isinstance(step, Events))
    assert str(error).endswith("; the server says: said")


@pytest.mark.parametrize("body", ["", "{}", "[]", "null", '{"error": {}}', '{"error": {"message": 7}}', "[" * 5000])
async def test_a_server_that_says_nothing_readable_is_not_quoted_with_nothing(body: str) -> None:
    error, _ = await refused(Fault(400, body=body))
    assert "\n" not in str(error)
    assert not str(error).endswith("says: ")


LOGIN = base64.b64encode(b"me:hunter2").decode()


@pytest.mark.parametrize(
    "message",
    [
        f"Incorrect API key provided: {KEY}.",
        f"bad header 'Authorization: Bearer {KEY}'",
        f"key={KEY.upper()}",
        f"key {KEY[:14]} is not known",
        f"ends with {KEY[-9:]}",
        f"x{KEY}y" * 40,
        "a" * 190 + KEY,
        json.dumps({"nested": {"key": KEY}}),
        "provided: sk-pr***********efgh",
        f"provided: {KEY[:12]}...{KEY[-4:]}",
    ],
)
async def test_the_key_is_cut_out_of_what_the_server_says(message: str) -> None:
    for body in (openai_error(message), message):
        error, _ = await refused(Fault(400, body=body))
        shown = str(error).lower()
        runs = (KEY[start : start + 8].lower() for start in range(len(KEY) - 7))
        assert not any(run in shown for run in runs)
        assert "sk-pr*" not in shown
        assert ".efgh" not in shown
        assert len(str(error)) < 400


def test_short_secrets_are_cut_out_as_words() -> None:
    assert quote("the ollama at ollamas is bad", ["ollama"]) == "the … at ollamas is bad"
    assert quote(f"Basic {LOGIN} of hunter2", [LOGIN, "hunter2"]) == "Basic … of …"
    assert quote("x" * 300, [""]) == "x" * 199 + "…"


@pytest.mark.parametrize("command", ["write", "outline"])
def test_the_command_prints_the_reason_in_its_one_line(terminal: Terminal, command: str) -> None:
    with LoopbackServer([Fault(400, message=f"no\nway \x1b[2J{KEY}")]) as server:
        run = terminal(command, *ORDER, "-q", server=server, OPENAI_API_KEY=KEY)
    assert run.code == 3
    assert run.err.endswith("check model, key and parameters; the server says: no way [2J…\n")
    assert len(run.err.splitlines()) == 1
