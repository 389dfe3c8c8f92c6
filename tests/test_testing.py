import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.errors import ConnectionFailed
from synopsis_writer.examples import load_example
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.testing import Body, Fault, LoopbackServer, Reply, ScriptedClient, synopsis_json

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
