import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from synopsis_writer.errors import ModelError, RequestRefusedError
from synopsis_writer.models.base import Limits, Message, Schema
from synopsis_writer.models.hosted import (
    CapabilityStore,
    HostedClient,
    ServerCapabilities,
    chat_request,
    initial_capabilities,
)
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.models.server import server_of
from synopsis_writer.synopsis import Synopsis, wire_schema
from tests.support.loopback import Body, Events, Fault, LoopbackServer, Reply, Step, event
from tests.support.terminal import Terminal

KEY = "sk-secret-0123456789"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)
WARM = Limits(timeout=10, temperature=0.5)
DAY = 24 * 3600.0
WITHOUT_KEY = ServerCapabilities(omitted=frozenset({"prompt_cache_key"}))
WITHOUT_TEMPERATURE = ServerCapabilities(omitted=frozenset({"temperature"}))


async def ask(
    server: LoopbackServer,
    store: CapabilityStore | None = None,
    *,
    model: str = "m",
    limits: Limits = WARM,
    schema: Schema | None = SCHEMA,
    stream: bool = True,
) -> str:
    """Ask once with a new client, as another process would."""
    client = HostedClient(
        model,
        server.base_url.replace("//", "//me:hunter2@"),
        KEY,
        retry=RetryPolicy(0),
        on_text=(lambda _: None) if stream else None,
        capabilities=store,
    )
    try:
        return (await client.complete(ASK, schema, limits)).text
    finally:
        await client.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def fields(server: LoopbackServer, place: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = server.chats[place].body
    return body


@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        ("max_tokens", {"max_completion_tokens": 4000, "stream": True}),
        ("temperature", {"max_tokens": 4000}),
        ("prompt_cache_key", {"temperature": 0.5}),
        ("stream_options", {"stream": True}),
        ("stream", {"temperature": 0.5}),
        ("json_schema", {"response_format": {"type": "json_object"}}),
        ("system", {"messages": [{"role": "user", "content": "Du schreibst.\n\nSchreibe."}]}),
    ],
)
async def test_a_field_that_is_refused_is_left_out_from_then_on_by_other_processes_too(
    refused: str, instead: dict[str, Any], tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "new" / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=[refused]) as server:
        assert await ask(server, store) == "Ja."
        assert len(server.chats) == 2
        assert await ask(server, store) == "Ja."
        assert len(server.chats) == 3
    assert refused not in fields(server)
    assert instead.items() <= fields(server).items()


async def test_an_old_server_that_refuses_all_options_is_finally_asked_in_its_own_way() -> None:
    refused = ["max_tokens", "temperature", "prompt_cache_key", "stream_options", "stream",
               "json_schema", "json_object"]  # fmt: skip
    with LoopbackServer([Reply("Ja.")], refuses=refused) as server:
        assert await ask(server) == "Ja."
    assert set(fields(server)) == {"model", "messages", "max_completion_tokens"}
    assert len(server.chats) == 7  # without `stream` there are no `stream_options`


async def test_an_omitted_temperature_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    with LoopbackServer([Reply("Ja.")], refuses=["temperature"]) as server:
        await ask(server)
    assert caplog.messages == ["m does not accept a temperature: asking without one"]


async def test_words_about_reasoning_models_do_not_cost_the_effort(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    refusal = Fault(400, message="temperature is not supported for reasoning models")
    with LoopbackServer([Reply("Ja.")], refuses=["temperature"], refusal=refusal) as server:
        assert await ask(server, limits=replace(WARM, reasoning_effort="low")) == "Ja."
    assert fields(server)["reasoning_effort"] == "low"
    assert caplog.messages == ["m does not accept a temperature: asking without one"]


async def test_a_new_model_behind_an_old_name_is_noticed(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=["max_tokens"]) as server:
        await ask(server, store)
    port = server.base_url.rpartition(":")[2].partition("/")[0]
    content = store.path.read_text(encoding="utf-8") if store.path else ""
    with LoopbackServer([Reply("Ja.")], refuses=["max_completion_tokens"]) as renewed:
        other = renewed.base_url.rpartition(":")[2].partition("/")[0]
        (tmp_path / "dialects.json").write_text(content.replace(port, other), encoding="utf-8")
        assert await ask(renewed, store) == "Ja."
        await ask(renewed, store)
    assert ["max_tokens" in request.body for request in renewed.chats] == [False, True, True]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, message="max_tokens is too large: 4000. The maximum is 2048"),
        Fault(400, message="This model's maximum context length is 4096 tokens: temperature"),
        Fault(400, message="prompt flagged: temperature", code="content_filter"),
        Fault(403, message="temperature"),
        Fault(402, message="temperature"),
        Fault(429, message="prompt_cache_key", code="insufficient_quota"),
    ],
    ids=str,
)
async def test_a_refusal_that_is_not_about_a_field_is_reported_at_once_and_not_remembered(
    fault: Step, tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([fault]) as server, pytest.raises(RequestRefusedError):
        await ask(server, store)
    assert len(server.chats) == 1
    assert names_in(tmp_path) == []


async def test_options_that_led_to_no_answer_are_not_remembered(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Fault(400, message="temperature")]) as server, pytest.raises(RequestRefusedError):
        await ask(server, store, schema=None)
    assert len(server.chats) == 2
    assert names_in(tmp_path) == []


async def test_a_refusal_of_a_field_that_was_not_sent_is_raised_at_once() -> None:
    with LoopbackServer([Fault(400, message="temperature")]) as server, pytest.raises(RequestRefusedError):
        await ask(server, limits=Limits(timeout=10), schema=None)
    assert len(server.chats) == 1


FORMATS = ["json_schema", "json_object"]
# What servers, gateways and wrong words say; none names the format.
UNCLEAR: Sequence[Fault] = (
    Fault(400, message="Bad Request"),
    Fault(400, body=""),
    Fault(400, body={"detail": "unexpected keyword argument"}),
    Fault(404, message="No endpoints found that can handle the requested parameters."),
    Fault(404, body="Not Found"),
    Fault(405, body="Method Not Allowed"),
    Fault(415, message="Unsupported Media Type"),
    Fault(400, body='"this request cannot be handled"'),
    Fault(422, body={"detail": [{"loc": ["body"], "msg": "extra fields not permitted"}]}),
    Fault(500, message="list index out of range"),
    Fault(500, body=""),
    Fault(501, message="Not Implemented"),
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refusal", UNCLEAR, ids=str)
async def test_a_schema_that_is_refused_in_other_words_is_left_out_and_that_is_told_once(
    refusal: Fault, stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=FORMATS, refusal=refusal) as server:
        assert [await ask(server, store, stream=stream) for _ in range(3)] == ["Ja."] * 3
    # A 500 passes, as a rule: only the second one teaches.
    schemas = [True, False, True, False, False] if refusal.status == 500 else [True, False, False, False]
    assert ["response_format" in chat.body for chat in server.chats] == schemas
    (line,) = caplog.messages
    assert line.startswith("m does not accept a format for the answer: asking without one")
    assert "synopsis cache clear" in line


@pytest.mark.parametrize("body", [{"code": 400, "message": "Provider returned error"}, {"status": 422}], ids=str)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_that_comes_with_status_200_counts_as_one(body: Any, stream: bool) -> None:
    refusal: Step = Events(event({"error": body})) if stream else Body({"error": body})
    with LoopbackServer([Reply("Ja.")], refuses=FORMATS, refusal=refusal) as server:
        assert await ask(server, stream=stream) == "Ja."
    assert len(server.chats) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        "Error: response_format is not supported",
        {"error": "response_format is not supported by this model"},
        {"error": {"message": "json_schema: not implemented", "type": "invalid_request_error"}},
        {"detail": "structured output is not available"},
        {"object": "error", "message": "unknown field: response_format"},
    ],
    ids=str,
)
async def test_a_schema_that_is_refused_in_the_body_of_a_200_is_left_out(body: Any, stream: bool) -> None:
    with LoopbackServer([Reply("Ja.")], refuses=FORMATS, refusal=Body(body)) as server:
        assert await ask(server, stream=stream) == "Ja."
    assert "response_format" not in fields(server)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("words", ["stream closed by upstream", "system overloaded: temperature too high"])
async def test_an_error_in_a_200_that_is_no_refusal_is_retried_as_it_is(
    words: str, stream: bool, tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Body({"error": words}), Reply("Ja.")]) as server:
        client = HostedClient(
            "m",
            server.base_url,
            retry=RetryPolicy(1, sleep=no_sleep),
            on_text=print if stream else None,
            capabilities=store,
        )
        await client.complete(ASK, None, WARM)
        await client.close()
    first, second = (chat.body for chat in server.chats)
    assert first == second


UNNAMED = ["Unknown parameter", "unexpected keyword argument", "Extra inputs are not permitted",
           "One or more parameters are not supported by this model", "Illegal parameter"]  # fmt: skip
OPTIONAL = {"prompt_cache_key", "verbosity", "reasoning_effort", "stream_options", "temperature"}


@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize("message", UNNAMED)
@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("prompt_cache_key", {"verbosity", "reasoning_effort", "stream_options", "temperature"}),
        ("reasoning_effort", {"prompt_cache_key", "verbosity", "stream_options", "temperature"}),
        ("temperature", {"prompt_cache_key", "verbosity", "reasoning_effort", "stream_options"}),
    ],
)
async def test_a_parameter_that_is_refused_without_its_name_is_found_in_order(
    refused: str, left: set[str], message: str, schema: Schema | None, tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    limits = replace(WARM, reasoning_effort="low", verbosity="low")
    with LoopbackServer([Reply("Ja.")], refuses=[refused], refusal=Fault(400, message=message)) as server:
        assert await ask(server, store, limits=limits, schema=schema) == "Ja."
        before = len(server.chats)
        assert await ask(server, store, limits=limits, schema=schema) == "Ja."
    assert len(server.chats) == before + 1  # it is learnt
    assert left <= fields(server).keys()
    assert ("response_format" in fields(server)) is (schema is not None)


@pytest.mark.parametrize(
    "refused",
    [
        ["verbosity", "temperature"],
        ["prompt_cache_key", "stream_options"],
        ["verbosity", "stream_options", "temperature"],
        sorted(OPTIONAL),
    ],
)
async def test_of_several_refused_without_their_names_the_innocent_are_sent_again(
    refused: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    store = CapabilityStore(tmp_path / "dialects.json")
    limits = replace(WARM, reasoning_effort="low", verbosity="low")
    words = Fault(400, message="Unknown parameter")
    with LoopbackServer([Reply("Ja.")], refuses=refused, refusal=words) as server:
        for _ in range(6):
            assert await ask(server, store, limits=limits) == "Ja."
        before = len(server.chats)
        await ask(server, store, limits=limits)
    assert len(server.chats) == before + 1
    assert fields(server).keys() & OPTIONAL == OPTIONAL - {*refused}
    reported = {"verbosity", "temperature", "reasoning effort"} & {name.replace("_", " ") for name in refused}
    assert sorted(name for line in caplog.messages for name in reported if name in line) == sorted(reported)
    assert len(caplog.messages) == len(reported)


async def test_an_unnamed_parameter_in_a_single_500_teaches_nothing(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    fault = Fault(500, message="got an unexpected keyword argument")
    with LoopbackServer([fault, Reply("Ja.")]) as server:
        for _ in range(2):
            await ask(server, store, schema=None)
    assert ["prompt_cache_key" in chat.body for chat in server.chats] == [True, False, True]


async def test_a_refusal_that_nothing_helps_against_ends() -> None:
    with (
        LoopbackServer([Fault(400, message="Unknown parameter")]) as server,
        pytest.raises(RequestRefusedError, match="the server says: Unknown parameter"),
    ):
        await ask(server)
    assert len(server.chats) < 8


BUSY = [
    Fault(429, message="Resource unavailable", code="resource_unavailable"),
    Fault(429, message="Flex processing has no capacity now: try again later."),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("busy", BUSY, ids=str)
async def test_a_service_tier_without_room_is_asked_for_at_the_usual_one_and_that_is_told_once(
    busy: Fault, stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=["service_tier"], refusal=busy) as server:
        client = HostedClient(
            "m", server.base_url, retry=RetryPolicy(0), on_text=print if stream else None, capabilities=store
        )
        for _ in range(2):
            await client.complete(ASK, None, replace(WARM, service_tier="flex"))
        await client.close()
    assert ["service_tier" in chat.body for chat in server.chats] == [True, False] * 2
    assert caplog.messages == ["m has no room in the service tier flex now: asking for the usual one"]


async def test_another_429_of_a_service_tier_is_waited_for() -> None:
    steps: list[Step] = [Fault(429, message="Rate limit reached for requests"), Reply("Ja.")]
    with LoopbackServer(steps) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(1, sleep=no_sleep))
        await client.complete(ASK, None, replace(WARM, service_tier="flex"))
        await client.close()
    assert all("service_tier" in chat.body for chat in server.chats)


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422, 500, 501])
async def test_nothing_is_learnt_where_the_request_without_a_schema_fails_too(status: int, tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with (
        LoopbackServer([Fault(status, message="first"), Fault(status)]) as server,
        pytest.raises(ModelError, match="the server says: first"),
    ):
        await ask(server, store)
    assert ["response_format" in chat.body for chat in server.chats] == [True, False]
    assert names_in(tmp_path) == []


async def test_a_busy_server_leaves_open_whether_it_takes_a_schema() -> None:
    async def sleep(_: float) -> None:
        pass

    steps: list[Step] = [Fault(400), Fault(503), Fault(400), Reply("Ja.")]
    with LoopbackServer(steps, repeat_last=False) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(1, sleep=sleep))
        assert (await client.complete(ASK, SCHEMA, WARM)).text == "Ja."
        await client.close()
    assert ["response_format" in chat.body for chat in server.chats] == [True, False, True, False]


@pytest.mark.parametrize("status", [400, 500])
async def test_a_server_that_has_answered_by_a_schema_is_asked_for_it_again(status: int, tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja."), Fault(status)]) as server:
        client = HostedClient("m", server.base_url, retry=RetryPolicy(0), capabilities=store)
        await client.complete(ASK, SCHEMA, WARM)
        with pytest.raises(ModelError):
            await client.complete(ASK, SCHEMA, WARM)
        await client.close()
    assert len(server.chats) == 2


async def test_an_answer_by_a_schema_refutes_what_a_call_beside_it_has_learnt(tmp_path: Path) -> None:
    has_learnt = asyncio.Event()
    asked: list[bool] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(b"response_format" in request.content)
        if asked == [True]:
            return httpx2.Response(400)
        if asked[-1]:
            await has_learnt.wait()
        return httpx2.Response(200, json=Reply("Ja.").as_data("m"))

    store = CapabilityStore(tmp_path / "dialects.json")
    transport = httpx2.MockTransport(answer)
    client = HostedClient("m", "https://llm.example.org/v1", KEY, capabilities=store, transport=transport)
    first, second = (asyncio.create_task(client.complete(ASK, SCHEMA, WARM)) for _ in range(2))
    await first
    assert store.find("llm.example.org/v1", "m").answer_format == "plain"
    has_learnt.set()
    await second
    await client.complete(ASK, SCHEMA, WARM)
    await client.close()
    assert asked[-1]
    assert store.find("llm.example.org/v1", "m").answer_format == "json_schema"


async def test_a_single_500_teaches_nothing_neither_here_nor_in_another_process(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Fault(500), *[Reply("Ja.")] * 3, Fault(500), Reply("Ja.")]) as server:
        for _ in range(3):
            await ask(server, store)
        with pytest.raises(ModelError):  # it has answered by a schema, so this one is retried as it is
            await ask(server, store)
    assert ["response_format" in chat.body for chat in server.chats] == [True, False, True, True, True]
    assert store.find(server_of(server.base_url), "m").answer_format == "json_schema"


async def no_sleep(_: float) -> None:
    pass


NAMED = Fault(500, message="response_format could not be handled")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("steps", "schemas"),
    [
        # Two calls meet a 500 by chance: the second one's next try gets through.
        ([Fault(500), Reply("Ja."), Fault(500), Reply("Ja.")], [True, False, True, True, True]),
        # All requests at the beginning fail: that is not about the schema.
        ([Fault(500), Fault(500), Reply("Ja.")], [True, False, True, True, True]),
        # Words in a 500 are no better: for this call alone the format is left out.
        ([NAMED, Reply("Ja.")], [True, True, True, True]),
        ([NAMED, NAMED, Reply("Ja.")], [True, True, False, True, True]),
        # A second call that meets it twice, and is answered without the schema, is no coincidence.
        ([Fault(500), Reply("Ja."), Fault(500), Fault(500), Reply("Ja.")], [True, False, True, True, False, False]),
    ],
)
async def test_500s_that_pass_teach_nothing(
    steps: list[Step], schemas: list[bool], stream: bool, tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer(steps) as server:
        for _ in range(3):
            client = HostedClient(
                "m",
                server.base_url,
                retry=RetryPolicy(2, sleep=no_sleep),
                on_text=(lambda _: None) if stream else None,
                capabilities=store,
            )
            assert (await client.complete(ASK, SCHEMA, WARM)).text == "Ja."
            await client.close()
    assert ["response_format" in chat.body for chat in server.chats] == schemas
    learnt = store.find(server_of(server.base_url), "m")
    assert (learnt.answer_format == "plain") is not schemas[-1]
    assert learnt.has_answered_format is schemas[-1]


async def test_a_500_of_a_server_that_answered_another_process_by_a_schema_is_just_a_500(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja."), Fault(500)]) as server:
        await ask(server, store)
        with pytest.raises(ModelError):
            await ask(server, store)
    assert len(server.chats) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            Fault(
                400,
                body={
                    "error": {
                        "message": "Failed to generate JSON. See 'failed_generation' for more details.",
                        "type": "invalid_request_error",
                        "code": "json_validate_failed",
                        "failed_generation": '{"title": ',
                    }
                },
            ),
            '{"title": ',
        ),
        (Fault(400, message="Failed to validate JSON", code="json_validate_failed"), ""),
        (Fault(422, message="The model generated invalid JSON"), ""),
        (Fault(500, message="failed to parse model output: could not produce valid JSON"), ""),
    ],
    ids=str,
)
async def test_bad_json_of_a_model_is_an_answer_and_no_refusal(
    fault: Fault, text: str, stream: bool, tmp_path: Path
) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([fault, Reply("Ja.")]) as server:
        assert [await ask(server, store, stream=stream) for _ in range(2)] == [text, "Ja."]
    assert all(chat.body["response_format"]["type"] == "json_schema" for chat in server.chats)


@pytest.mark.parametrize(
    "said",
    [
        "This model only support stream mode, please enable the stream parameter to access the model.",
        "Stream must be set to true",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "'stream' is required to be true for this model",
        "stream=false is not allowed",
    ],
)
async def test_a_model_that_only_streams_is_streamed_to(said: str, tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    refusal = Fault(400, message=said)
    with LoopbackServer([Reply("Ja.")], refuses=["whole"], refusal=refusal) as server:
        assert [await ask(server, store, stream=False) for _ in range(2)] == ["Ja.", "Ja."]
    assert ["stream" in chat.body for chat in server.chats] == [False, True, True]


async def test_a_model_that_streams_without_being_asked_to_is_understood() -> None:
    with LoopbackServer([Events("".join(Reply("Ja.").as_events("m", usage=True)))]) as server:
        assert await ask(server, stream=False) == "Ja."


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, message="System role not supported"),
        Fault(400, message="Unsupported value: 'messages[0].role' does not support 'system' with this model.",
              param="messages[0].role"),
        Fault(400, message="Developer instruction is not enabled for models/gemma-3-27b-it"),
        Fault(500, message="Error rendering prompt with jinja template: Only user and assistant roles are"
              " supported!"),
        Fault(422, message="This model doesn't support system messages. Try again without system messages."),
        Fault(400, message="Conversation roles must alternate user/assistant/user/assistant/..."),
        Fault(422, message="invalid role: must be one of user, assistant"),
    ],
    ids=str,
)  # fmt: skip
async def test_a_model_without_a_system_role_gets_it_in_the_first_turn_of_the_user(
    fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    with LoopbackServer([Reply("Ja.")], refuses=["system"], refusal=fault) as server:
        client = HostedClient("m", server.base_url)
        messages = [*ASK, Message("assistant", "So?"), Message("user", "Anders.")]
        await client.complete(messages, None, Limits())
        await client.complete(messages, None, Limits())
        await client.close()
    assert [(turn["role"], turn["content"]) for turn in fields(server)["messages"]] == [
        ("user", "Du schreibst.\n\nSchreibe."),
        ("assistant", "So?"),
        ("user", "Anders."),
    ]
    assert len(server.chats) == 3
    assert len(caplog.messages) == 1


def test_what_was_learnt_of_servers_is_forgotten_with_the_cache(tmp_path: Path, terminal: Terminal) -> None:
    store = CapabilityStore(tmp_path / "cache" / "dialects.json")
    store.learn("a", "m", ServerCapabilities(), WITHOUT_KEY)
    run = terminal("cache", "clear", SYNOPSIS_CACHE=str(tmp_path / "cache"))
    assert run.err.splitlines()[0] == "forgot what servers accept"
    assert store.find("a", "m") == ServerCapabilities()


async def test_concurrent_calls_learn_from_each_other() -> None:
    with LoopbackServer([Reply("Ja.")], refuses=["json_schema", "temperature"]) as server:
        client = HostedClient("m", server.base_url)
        await asyncio.gather(
            client.complete(ASK, SCHEMA, Limits()), client.complete(ASK, None, Limits(temperature=0.1))
        )
        before = len(server.chats)
        await client.complete(ASK, SCHEMA, Limits(temperature=0.1))
        await client.close()
    assert len(server.chats) == before + 1


def test_entries_of_others_stay_and_are_added_to(tmp_path: Path) -> None:
    path = tmp_path / "dialects.json"
    one, two = CapabilityStore(path, lambda: 10.0), CapabilityStore(path, lambda: 10.0)
    one.learn("a:1/v1", "m", ServerCapabilities(), WITHOUT_KEY)
    two.learn("b:1/v1", "m", ServerCapabilities(), WITHOUT_TEMPERATURE)
    two.learn("a:1/v1", "m", ServerCapabilities(), WITHOUT_TEMPERATURE)
    assert one.find("a:1/v1", "m") == ServerCapabilities(omitted=frozenset({"prompt_cache_key", "temperature"}))
    assert one.find("b:1/v1", "m") == WITHOUT_TEMPERATURE
    assert one.find("a:1/v1", "other") == one.find("a:1/v2", "m") == initial_capabilities("a:1/v1")


@pytest.mark.parametrize(("days", "kept"), [(0, True), (29.9, True), (30, False), (400, False), (-1, False)])
def test_what_was_learnt_expires_after_thirty_days(tmp_path: Path, days: float, kept: bool) -> None:
    path = tmp_path / "dialects.json"
    begun = 1000 * DAY
    CapabilityStore(path, lambda: begun).learn("a", "m", ServerCapabilities(), WITHOUT_KEY)
    later = CapabilityStore(path, lambda: begun + days * DAY)
    assert (later.find("a", "m") == WITHOUT_KEY) is kept
    later.learn("b", "m", ServerCapabilities(), WITHOUT_TEMPERATURE)
    assert len(json.loads(path.read_text(encoding="utf-8"))["dialects"]) == (2 if kept else 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"dialects": [{"server": "a"}]}',
     b'{"dialects": [{"server": "a", "model": "m", "since": 1, "dialect": {"answer_format": "xml"}}]}',
     b'{"dialects": [{"server": "a", "model": "m", "since": NaN, "dialect": {"omitted": ["a"]}}]}'],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dialects.json"
    path.write_bytes(content)
    store = CapabilityStore(path, lambda: 2.0)
    assert store.find("a", "m") == ServerCapabilities()
    store.learn("a", "m", ServerCapabilities(), WITHOUT_KEY)
    assert store.find("a", "m") == WITHOUT_KEY


@pytest.mark.parametrize("place", ["file/dialects.json", "folder"])
async def test_a_path_that_cannot_be_written_costs_a_request_and_nothing_else(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x", encoding="utf-8")
    store = CapabilityStore(tmp_path / place)
    with LoopbackServer([Reply("Ja.")], refuses=["prompt_cache_key"]) as server:
        assert [await ask(server, store) for _ in range(2)] == ["Ja.", "Ja."]
    assert len(server.chats) == 4
    assert names_in(tmp_path) == ["file", "folder", "inside"]


async def test_the_file_holds_neither_key_nor_password_nor_prompt(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=["json_schema"]) as server:
        await ask(server, store)
    entry = json.loads((tmp_path / "dialects.json").read_text(encoding="utf-8"))["dialects"][0]
    assert entry["server"] == server.base_url.removeprefix("http://")
    assert set(entry) == {"server", "model", "since", "dialect"}
    assert all(word not in str(entry) for word in (KEY, "hunter2", "Du schreibst"))


async def test_the_cache_key_is_the_same_for_the_same_beginning_and_reveals_nothing() -> None:
    with LoopbackServer([Reply("Ja.")]) as server:
        client = HostedClient("m", server.base_url)
        for system, reported in (("Eins.", "a"), ("Eins.", "b"), ("Zwei.", "a")):
            await client.complete([Message("system", system), Message("user", reported)], None, Limits())
        await client.complete([Message("user", "a")], None, Limits())
        await client.close()
    first, second, third, none = (request.body.get("prompt_cache_key") for request in server.chats)
    assert first == second != third
    assert len(first) == len(third) == 16
    assert none is None


@pytest.mark.parametrize(
    ("server", "field"),
    [
        ("api.openai.com/v1", "max_completion_tokens"),
        ("eu.api.openai.com:443/v1", "max_completion_tokens"),
        ("house.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("house.services.ai.azure.com/openai/v1", "max_completion_tokens"),
        ("127.0.0.1:11434/v1", "max_tokens"),
        ("notapi.openai.com.example.org/v1", "max_tokens"),
        ("example.org/api.openai.com", "max_tokens"),
        ("example.org/x.api.openai.com/v1", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_bounds_the_answer_at_this_server(server: str, field: str) -> None:
    request = chat_request("m", ASK, None, Limits(), initial_capabilities(server), stream=False)
    assert field in request


async def test_what_is_learnt_does_not_change_the_name_of_the_limit(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=["temperature"]) as server:
        for _ in range(2):
            await ask(server, store)
    assert ["max_tokens" in request.body for request in server.chats] == [True, True, True]


TODAY = Limits(reasoning_effort="low", verbosity="medium", service_tier="flex", stable=1)


async def test_todays_parameters_are_sent_as_they_are_set() -> None:
    with LoopbackServer([Reply("x")]) as server:
        client = HostedClient("m", server.base_url, "key")
        await client.complete([Message("user", "x")], None, TODAY)
        await client.complete([Message("user", "x")], None, Limits())
        await client.close()
    first, second = (request.body for request in server.requests)
    names = ("reasoning_effort", "verbosity", "service_tier")
    assert [first[name] for name in names] == ["low", "medium", "flex"]
    assert not set(names) & set(second)


@pytest.mark.parametrize("name", ["reasoning_effort", "verbosity", "service_tier"])
async def test_a_parameter_that_is_refused_is_left_out_and_reported(
    name: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    refusal = Fault(400, message=f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
    with LoopbackServer([refusal, Reply("x"), Reply("y")]) as server:
        for _ in range(2):
            store = CapabilityStore(tmp_path / "known.json")
            client = HostedClient("m", server.base_url, "key", capabilities=store)
            await client.complete([Message("user", "x")], None, TODAY)
            await client.close()
    assert [name in request.body for request in server.requests] == [True, False, False]
    others = {"reasoning_effort", "verbosity", "service_tier"} - {name}
    assert all(others <= set(request.body) for request in server.requests)
    assert sum("asking" in record.getMessage() for record in caplog.records) == 1


PROMPT = [
    Message("system", "Du schreibst."),
    Message("user", "<auftrag>\n{1}\n</auftrag>"),
    Message("assistant", "{}"),
    Message("user", "<auftrag>\n{2}\n</auftrag>"),
    Message("assistant", "{}"),
    Message("user", "<auftrag>\n{3}\n</auftrag>"),
]


@pytest.mark.parametrize(
    ("server", "model", "mark"),
    [
        ("api.openai.com/v1", "gpt-5.6-luna", {"prompt_cache_breakpoint": {"mode": "explicit"}}),
        ("api.openai.com/v1", "gpt-6.1-terra", {"prompt_cache_breakpoint": {"mode": "explicit"}}),
        ("api.openai.com/v1", "gpt-5.4-mini", None),
        ("openrouter.ai/api/v1", "anthropic/claude-sonnet-5", {"cache_control": {"type": "ephemeral"}}),
        ("openrouter.ai/api/v1", "mistralai/ministral-8b", None),
        ("openrouter.ai.example.org/v1", "anthropic/claude-sonnet-5", None),
        ("127.0.0.1:8000/v1", "gpt-6-luna", None),
    ],
)
def test_the_end_of_what_prompts_share_is_marked_where_the_server_takes_marks(
    server: str, model: str, mark: dict[str, Any] | None
) -> None:
    known = initial_capabilities(server, model)
    sent = chat_request(model, PROMPT, None, Limits(stable=3), known, stream=False)["messages"]
    request = chat_request(model, PROMPT, None, Limits(stable=3), known, stream=False)
    is_openais = mark is not None and "prompt_cache_breakpoint" in mark
    assert request.get("prompt_cache_options") == ({"mode": "explicit"} if is_openais else None)
    assert "prompt_cache_options" not in chat_request(model, PROMPT, None, Limits(), known, stream=False)
    contents = [message["content"] for message in sent]
    if mark is None:
        assert contents == [message.content for message in PROMPT]
        return
    assert contents.pop(3) == [
        {"type": "text", "text": "<auftrag>\n", **mark},
        {"type": "text", "text": "{2}\n</auftrag>"},
    ]
    assert contents == [message.content for message in PROMPT if "{2}" not in message.content]


async def test_a_mark_that_is_refused_is_left_out(tmp_path: Path) -> None:
    refusal = Fault(400, message="Unknown parameter: 'messages[3].content[0].prompt_cache_breakpoint'.")
    with LoopbackServer([refusal, Reply("x")]) as server:
        store = CapabilityStore(tmp_path / "known.json")
        before = ServerCapabilities()
        store.learn(server_of(server.base_url), "m", before, replace(before, cache_mark="cache_control"))
        client = HostedClient("m", server.base_url, "key", capabilities=store)
        assert (await client.complete(PROMPT, None, Limits(stable=3))).text == "x"
        await client.close()
    kinds = [type(request.body["messages"][3]["content"]) for request in server.requests]
    assert kinds == [list, str]
