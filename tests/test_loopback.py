import http.client
import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from tests.support.loopback import (
    Body,
    CutStream,
    Events,
    FailingStream,
    Fault,
    LoopbackServer,
    Redirect,
    Reply,
    Step,
    event,
)


def call(url: str, body: Any = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.loads(answer.read())


def chat(server: LoopbackServer, **headers: str) -> Any:
    return call(f"{server.base_url}/chat/completions", {"model": "m", "messages": []}, **headers)


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


def test_a_server_that_does_not_repeat_reports_a_request_too_many() -> None:
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
    with LoopbackServer([fault], key="mine") as server, pytest.raises(urllib.error.HTTPError) as caught:
        call(f"{server.base_url}/{path}", {}, Authorization=f"Bearer {key}")
    with caught.value as error:
        assert error.code == status
        assert json.loads(error.read())["error"]["code"] == code
        assert error.headers["Retry-After"] == ("2" if status == 429 else None)


def raw_chat(server: LoopbackServer, **fields: Any) -> tuple[str, str]:
    body = json.dumps({"model": "m", "messages": [], **fields}).encode()
    with urllib.request.urlopen(f"{server.base_url}/chat/completions", body) as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_a_reply_is_streamed_on_request_with_the_usage_if_wanted() -> None:
    with LoopbackServer([Reply("Ein Hund bellt.", "length")]) as server:
        kind, bare = raw_chat(server, stream=True)
        _, counted = raw_chat(server, stream=True, stream_options={"include_usage": True})
        assert json.loads(raw_chat(server, stream=False)[1])["object"] == "chat.completion"
    assert kind.startswith("text/event-stream")
    assert bare.endswith("data: [DONE]\n\n")
    assert '"usage"' not in bare
    chunks = [json.loads(one.removeprefix("data: ")) for one in counted.strip().split("\n\n")[:-1]]
    reported = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in reported) == "Ein Hund bellt."
    assert reported[-1]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["total_tokens"] == 150


def test_events_are_sent_as_they_are_and_a_failing_stream_says_so_in_its_middle() -> None:
    with LoopbackServer([Events("x: y\n\n"), FailingStream("Ein Hund bellt.", code=503)]) as server:
        assert raw_chat(server)[1] == "x: y\n\n"
        *begun, failed, end = raw_chat(server, stream=True)[1].split("\n\n")
        with pytest.raises(urllib.error.HTTPError, match="500") as caught:
            raw_chat(server)
        caught.value.close()
    assert end == ""
    assert f"{failed}\n\n" == event({"error": {"message": "a scripted fault", "type": "server_error", "code": 503}})
    assert len(begun) > 1


@pytest.mark.parametrize(("step", "fields"), [(CutStream(), {"stream": True}), (CutStream(), {}),
                                              (Events("", is_cut=True), {})])  # fmt: skip
def test_what_is_cut_breaks_off(step: Step, fields: dict[str, Any]) -> None:
    with LoopbackServer([step]) as server, pytest.raises(http.client.IncompleteRead):
        raw_chat(server, **fields)


@pytest.mark.parametrize("field", ["temperature", "max_tokens", "stream_options"])
def test_a_refused_field_is_named_as_openai_does_and_uses_no_step(field: str) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=[field], repeat_last=False) as server:
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            raw_chat(server, **{field: 1})
        with caught.value as error:
            reported = json.loads(error.read())["error"]
        assert (reported["param"], reported["code"]) == (field, "unsupported_parameter")
        assert "Ja." in raw_chat(server)[1]


def test_a_redirect_leads_to_where_it_says() -> None:
    with LoopbackServer([Reply("Ja.")]) as server:
        target = f"{server.base_url}/models"
        with LoopbackServer([Redirect(target, 303)]) as moved:
            assert call(f"{moved.base_url}/chat/completions", {})["data"][0]["id"] == "loopback-model"
