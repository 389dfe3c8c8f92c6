import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from synopsis_writer import testing
from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.errors import ConnectionFailed
from synopsis_writer.examples import load_example
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.testing import (
    Body,
    CutStream,
    Events,
    FailingStream,
    Fault,
    LoopbackServer,
    Redirect,
    Reply,
    ScriptedClient,
    Step,
    event,
    synopsis_json,
)

CORPUS = Path(__file__).parent / "corpus" / "good"
GOOD = load_example(CORPUS / "rote-rosen" / "der-weisse-hund.md")
ASK = [Message("user", "Schreibe.")]


def call(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.loads(answer.read())


def chat(server: LoopbackServer, **headers: str) -> Any:
    return call(f"{server.base_url}/chat/completions", {"model": "m", "messages": []}, **headers)


async def test_a_scripted_client_answers_in_order_and_remembers_what_it_was_asked() -> None:
    whole = Answer("halb", finish="length")
    client = ScriptedClient(["Ja.", whole, ConnectionFailed("fort")], name="m")
    as_protocol: ModelClient = client
    first = await as_protocol.complete(ASK, {"type": "object"}, Limits(max_tokens=7))
    assert (first.text, first.finish, first.model, first.usage.completion_tokens) == ("Ja.", "stop", "m", 50)
    assert await client.complete(ASK, None, Limits()) is whole
    with pytest.raises(ConnectionFailed, match="fort"):
        await client.complete(ASK, None, Limits())
    assert [one.messages for one in client.calls] == [tuple(ASK)] * 3
    assert (client.calls[0].schema, client.calls[0].limits.max_tokens) == ({"type": "object"}, 7)
    assert client.left == 0


async def test_a_script_that_is_used_up_says_so() -> None:
    client = ScriptedClient(["Ja."])
    await client.complete(ASK, None, Limits())
    with pytest.raises(AssertionError, match="call 2 to 'scripted', but its script has 1 answers"):
        await client.complete(ASK, None, Limits())
    assert not client.closed
    await client.close()
    assert client.closed


@pytest.mark.parametrize("story", [GOOD, GOOD.synopsis])
def test_an_example_makes_its_own_answer(story: Any) -> None:
    assert parse(synopsis_json(story), Synopsis).value == GOOD.synopsis


def test_a_text_makes_a_valid_answer_with_the_fields_that_are_given() -> None:
    made = parse(synopsis_json("Der erste Absatz.\n\n\n\nDer zweite Absatz.\n", title="Zwei"), Synopsis).value
    assert made is not None
    assert made.title == "Zwei"
    assert [paragraph.text for paragraph in made.paragraphs] == ["Der erste Absatz.", "Der zweite Absatz."]
    with pytest.raises(ValueError, match="paragraphs"):
        synopsis_json("")


@pytest.mark.parametrize("reply", [Reply("Ja."), Reply("", "content_filter"), Reply("", refusal="Nein.")])
def test_a_reply_is_a_completion_by_the_sdks_own_model(reply: Reply) -> None:
    with LoopbackServer([reply]) as server:
        completion = ChatCompletion.model_validate(chat(server))
    assert completion.choices[0].message.refusal == reply.refusal
    assert completion.choices[0].message.content == (None if reply.refusal else reply.text)
    assert completion.usage is not None
    assert completion.usage.total_tokens == 150


def test_a_server_gives_its_steps_in_order_and_repeats_the_last() -> None:
    with LoopbackServer([Body(1), Body(2)]) as server:
        assert [chat(server) for _ in range(4)] == [1, 2, 2, 2]
        assert call(f"{server.base_url}/models")["data"][0]["id"] == "loopback-model"
    assert len(server.chats) == 4
    assert len(server.requests) == 5
    assert server.chats[0].path == "/v1/chat/completions"
    assert server.chats[0].body == {"model": "m", "messages": []}


def asked_too_often(server: LoopbackServer) -> None:
    with server:
        chat(server)
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            chat(server)
        caught.value.close()


def test_a_server_that_does_not_repeat_complains_of_one_request_too_many() -> None:
    with pytest.raises(AssertionError, match="2 completions were asked of a script with 1 steps"):
        asked_too_often(LoopbackServer([Body(1)], repeat_last=False))


def test_an_error_in_the_with_block_is_not_hidden() -> None:
    with pytest.raises(urllib.error.HTTPError) as caught, LoopbackServer([], repeat_last=False) as server:
        chat(server)
    caught.value.close()


@pytest.mark.parametrize(
    ("key", "path", "status", "code"),
    [
        ("other", "chat/completions", 401, "invalid_api_key"),
        ("mine", "completions", 404, "unknown_url"),
        ("mine", "chat/completions", 429, "insufficient_quota"),
    ],
)
def test_key_path_and_fault_are_refused_as_openai_does(key: str, path: str, status: int, code: str) -> None:
    fault = Fault(429, {"Retry-After": "2"}, code="insufficient_quota")
    with (
        LoopbackServer([fault], key="mine") as server,
        pytest.raises(urllib.error.HTTPError) as caught,
    ):
        call(f"{server.base_url}/{path}", {}, Authorization=f"Bearer {key}")
    with caught.value as error:
        assert error.code == status
        assert json.loads(error.read())["error"]["code"] == code
        assert error.headers["Retry-After"] == ("2" if status == 429 else None)


def raw_chat(server: LoopbackServer, **fields: Any) -> tuple[str, str]:
    body = json.dumps({"model": "m", "messages": [], **fields}).encode()
    with urllib.request.urlopen(f"{server.base_url}/chat/completions", body) as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_a_reply_is_streamed_to_whom_asks_for_it_with_the_usage_if_wanted() -> None:
    with LoopbackServer([Reply("Ein Hund bellt.", "length")]) as server:
        kind, bare = raw_chat(server, stream=True)
        _, counted = raw_chat(server, stream=True, stream_options={"include_usage": True})
        assert json.loads(raw_chat(server, stream=False)[1])["object"] == "chat.completion"
    assert kind.startswith("text/event-stream")
    assert bare.endswith("data: [DONE]\n\n")
    assert '"usage"' not in bare
    chunks = [json.loads(one.removeprefix("data: ")) for one in counted.strip().split("\n\n")[:-1]]
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in said) == "Ein Hund bellt."
    assert said[-1]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["total_tokens"] == 150


def test_events_are_sent_as_they_are_and_a_failing_stream_says_so_in_its_middle() -> None:
    with LoopbackServer([Events("x: y\n\n"), FailingStream("Ein Hund bellt.", code=503)]) as server:
        assert raw_chat(server)[1] == "x: y\n\n"
        *begun, failed, end = raw_chat(server, stream=True)[1].split("\n\n")
        with pytest.raises(urllib.error.HTTPError, match="500") as caught:
            raw_chat(server)
        caught.value.close()
    assert end == ""
    assert f"{failed}\n\n" == event(
        {"error": {"message": "a scripted fault", "type": "server_error", "code": 503}}
    )
    assert len(begun) > 1


@pytest.mark.parametrize(("step", "fields"), [(CutStream(), {"stream": True}), (CutStream(), {}),
                                              (Events("", is_cut=True), {})])  # fmt: skip
def test_what_is_cut_breaks_off(step: Step, fields: dict[str, Any]) -> None:
    with LoopbackServer([step]) as server, pytest.raises(http.client.IncompleteRead):
        raw_chat(server, **fields)


@pytest.mark.parametrize("field", ["temperature", "max_tokens", "stream_options"])
def test_a_field_that_is_refused_is_named_as_openai_does_and_takes_no_step(field: str) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=[field], repeat_last=False) as server:
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            raw_chat(server, **{field: 1})
        with caught.value as error:
            said = json.loads(error.read())["error"]
        assert (said["param"], said["code"]) == (field, "unsupported_parameter")
        assert "Ja." in raw_chat(server)[1]


def test_a_redirect_leads_to_where_it_says() -> None:
    with LoopbackServer([Reply("Ja.")]) as server:
        target = f"{server.base_url}/models"
        with LoopbackServer([Redirect(target, 303)]) as moved:
            assert call(f"{moved.base_url}/chat/completions", {})["data"][0]["id"] == "loopback-model"


def test_the_exported_names_are_these() -> None:
    assert testing.__all__ == [
        "Batch", "BatchServer", "Body", "BrokenJson", "Call", "CutBody", "CutStream", "Drip", "Events",
        "FailingStream", "Fault", "Hangup", "Html", "LoopbackServer", "Redirect", "Reply", "Request",
        "ScriptedClient", "Silence", "Step", "Unasked", "event", "synopsis_json",
    ]  # fmt: skip
    assert all(hasattr(testing, name) for name in testing.__all__)
