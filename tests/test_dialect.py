import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.errors import RequestRefusedError
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.hosted import (
    CapabilityStore,
    HostedClient,
    ServerCapabilities,
    initial_capabilities,
)
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.synopsis import Synopsis, wire_schema
from tests.support.loopback import Fault, LoopbackServer, Reply, Step

KEY = "sk-secret-0123456789"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)
WARM = Limits(timeout=10, temperature=0.5)
DAY = 24 * 3600.0


async def ask(
    server: LoopbackServer,
    store: CapabilityStore | None = None,
    *,
    model: str = "m",
    limits: Limits = WARM,
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
        return (await client.complete(ASK, SCHEMA, limits)).text
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
        Fault(400, message="bad value for temperature", param="messages"),
        Fault(400, message="stop is not supported"),
        Fault(404, message="temperature"),
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
        await ask(server, store)
    assert len(server.chats) == 2
    assert names_in(tmp_path) == []


async def test_a_refusal_of_a_field_that_was_not_sent_is_raised_at_once() -> None:
    with (
        LoopbackServer([Fault(400, message="temperature")]) as server,
        pytest.raises(RequestRefusedError),
    ):
        await ask(server, limits=Limits(timeout=10))
    assert len(server.chats) == 1


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
    one.learn("a:1/v1", "m", ServerCapabilities(), ServerCapabilities(cache_key=False))
    two.learn("b:1/v1", "m", ServerCapabilities(), ServerCapabilities(temperature=False))
    two.learn("a:1/v1", "m", ServerCapabilities(), ServerCapabilities(temperature=False))
    assert one.find("a:1/v1", "m") == ServerCapabilities(cache_key=False, temperature=False)
    assert one.find("b:1/v1", "m") == ServerCapabilities(temperature=False)
    assert one.find("a:1/v1", "other") == one.find("a:1/v2", "m") == initial_capabilities("a:1/v1")


@pytest.mark.parametrize(("days", "kept"), [(0, True), (29.9, True), (30, False), (400, False), (-1, False)])
def test_what_was_learnt_expires_after_thirty_days(tmp_path: Path, days: float, kept: bool) -> None:
    path = tmp_path / "dialects.json"
    begun = 1000 * DAY
    CapabilityStore(path, lambda: begun).learn(
        "a", "m", ServerCapabilities(), ServerCapabilities(cache_key=False)
    )
    later = CapabilityStore(path, lambda: begun + days * DAY)
    assert (later.find("a", "m") == ServerCapabilities(cache_key=False)) is kept
    later.learn("b", "m", ServerCapabilities(), ServerCapabilities(temperature=False))
    assert len(json.loads(path.read_text(encoding="utf-8"))["dialects"]) == (2 if kept else 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"dialects": [{"server": "a"}]}',
     b'{"dialects": [{"server": "a", "model": "m", "since": 1, "dialect": {"answer_format": "xml"}}]}',
     b'{"dialects": [{"server": "a", "model": "m", "since": NaN, "dialect": {"cache_key": false}}]}'],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dialects.json"
    path.write_bytes(content)
    store = CapabilityStore(path, lambda: 2.0)
    assert store.find("a", "m") == ServerCapabilities()
    store.learn("a", "m", ServerCapabilities(), ServerCapabilities(cache_key=False))
    assert store.find("a", "m") == ServerCapabilities(cache_key=False)


@pytest.mark.parametrize("place", ["file/dialects.json", "folder"])
async def test_a_path_that_cannot_be_written_costs_a_request_and_nothing_else(
    tmp_path: Path, place: str
) -> None:
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
    assert initial_capabilities(server).limit_field == field


async def test_what_is_learnt_does_not_change_the_name_of_the_limit(tmp_path: Path) -> None:
    store = CapabilityStore(tmp_path / "dialects.json")
    with LoopbackServer([Reply("Ja.")], refuses=["temperature"]) as server:
        for _ in range(2):
            await ask(server, store)
    assert ["max_tokens" in request.body for request in server.chats] == [True, True, True]
