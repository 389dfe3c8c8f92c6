import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from synopsis_writer.errors import ConnectionFailedError, ModelError
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.models.download import is_packaged_available
from synopsis_writer.models.embedded import EmbeddedClient, Engine
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.responses import EventReader, StreamedAnswer
from synopsis_writer.models.retry import InvalidResponseError, RetryPolicy
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Usage
from tests.support.clock import Clock
from tests.support.loopback import (
    Body,
    BrokenJson,
    CutBody,
    CutStream,
    Drip,
    Events,
    FailingStream,
    Fault,
    Hangup,
    Html,
    LoopbackServer,
    Reply,
    Silence,
    StalledStream,
    Step,
    event,
)

ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
SCHEMA = wire_schema(Synopsis)
LIMITS = Limits(timeout=10)
TEXT = '{"title": "Der weiße Hund 🐶", "paragraphs": []}'
DONE = "data: [DONE]\n\n"


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")


class Ears:
    """Records the texts of a growing answer."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.heard: Callable[[str], None] = self.texts.append

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0


async def ask(
    server: LoopbackServer, ears: Ears, *, retries: int = 2, limits: Limits = LIMITS, stream: bool = True
) -> Answer:
    server.on_silence = Clock().forward
    client = HostedClient(
        "m", server.base_url, retry=RetryPolicy(retries, sleep=ears.sleep), on_text=ears.heard if stream else None
    )
    try:
        return await client.complete(ASK, SCHEMA, limits)
    finally:
        await client.close()


def piece(text: str, finish: str | None = None, **more: Any) -> str:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


def name_of(value: object) -> str:
    return str(value)[:70]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(TEXT, prompt_tokens=900, completion_tokens=3, cached_tokens=800),
        Reply("halb", finish="length"),
        Reply("", finish="content_filter"),
        Reply("", refusal="Das schreibe ich nicht."),
        Reply(""),
    ],
    ids=name_of,
)
async def test_a_streamed_answer_is_the_same_as_a_whole_one(reply: Reply) -> None:
    with LoopbackServer([reply]) as server:
        streamed, whole = await ask(server, Ears()), await ask(server, Ears(), stream=False)
    assert streamed == replace(whole, seconds=streamed.seconds)
    assert streamed.seconds > 0
    assert [request.body.get("stream") for request in server.chats] == [True, None]


@pytest.mark.parametrize(
    "fault",
    [
        CutStream(),
        FailingStream(),
        FailingStream(code=503),
        FailingStream(code="429"),
        FailingStream(code="server_error"),
        Events(piece("Ein ")),
        Events(piece("Ein ") + "data: {"),
        Events(piece("Ein ") + "data: {\n\n"),
        Events(piece("Ein ") + "data: " + "[" * 100_000 + "\n\n"),
        Events(piece("Ein "), is_cut=True),
        Events(""),
        Events(DONE),
        Events(": still here\n\n"),
        Events(b"data: \xe4\n\n".decode("latin-1")),
        Events(event({"error": {"message": "upstream", "code": 502}, "choices": [
            {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]})),
        Fault(503), Fault(429), BrokenJson(), CutBody(), Hangup(), Silence(), Drip(),
        Body({"error": {"message": "upstream"}}),
    ],
    ids=name_of,
)  # fmt: skip
async def test_a_stream_that_fails_is_asked_for_again_and_nothing_is_doubled(
    fault: Step, caplog: pytest.LogCaptureFixture
) -> None:
    ears = Ears()
    with LoopbackServer([fault, fault, Reply(TEXT)]) as server:
        answer = await ask(server, ears)
    assert (answer.text, answer.usage) == (TEXT, Usage(100, 50))
    assert ears.texts[-1] == TEXT
    assert len(server.chats) == 3
    assert len(caplog.messages) == 2
    assert all("; trying again in " in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (CutStream(), "the answer broke off"),
        (FailingStream(), "the server failed in the middle of the answer: try again later"),
        (Events(piece("Ein ") + "data: {\n\n"), "a piece of the answer is broken JSON"),
    ],
    ids=name_of,
)
async def test_a_stream_that_fails_each_time_is_reported(fault: Step, message: str) -> None:
    with LoopbackServer([fault]) as server, pytest.raises(ConnectionFailedError, match=message) as caught:
        await ask(server, Ears())
    assert len(server.chats) == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (FailingStream(code="insufficient_quota"), "quota is used up: top it up"),
        (FailingStream(code=400), "the server failed in the middle of the answer: check model and parameters"),
        (Events(event({"choices": {"a": 1}})), "not have the shape of a completion"),
        (Events(event({"choices": [{"delta": {"content": 7}}]})), "not have the shape of a completion"),
        (Html(), "a page or text, not a completion"),
        (Body([]), "a page or text, not a completion"),
        (Fault(401), "set OPENAI_API_KEY"),
    ],
    ids=name_of,
)
async def test_a_permanent_stream_error_is_reported_at_once(
    fault: Step, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    ears = Ears()
    with LoopbackServer([fault]) as server, pytest.raises(ModelError, match=message):
        await ask(server, ears)
    assert len(server.chats) == 1
    assert caplog.messages == []


async def test_a_stream_that_flows_is_not_cut_by_the_total_time() -> None:
    reply = Reply(TEXT, pause=0.5)
    thoughts = Reply("", message={"reasoning_content": "Hm.", "content": TEXT}, pause=0.9)
    limits = Limits(timeout=4)
    with LoopbackServer([reply, thoughts]) as server:
        answers = await asyncio.gather(*(ask(server, Ears(), limits=limits) for _ in range(2)))
    assert [(answer.text, answer.finish) for answer in answers] == [(TEXT, "stop")] * 2
    assert all(answer.seconds > limits.timeout for answer in answers)


@pytest.mark.parametrize("filler", ["", ": still here\n\n", "\n", piece("")], ids=name_of)
async def test_a_stream_that_stalls_is_cut_after_the_silence_and_asked_for_again(filler: str) -> None:
    ears, clock = Ears(), Clock()

    def grown(text: str) -> None:
        if text == TEXT[: len(TEXT) // 2]:  # all that comes, and it is read
            clock.forward()

    ears.heard = grown
    with LoopbackServer([StalledStream(TEXT, filler=filler), Reply(TEXT)]) as server:
        answer = await ask(server, ears)
    assert answer.text == TEXT
    assert len(server.chats) == 2


@pytest.mark.parametrize("kind", ["plain", "event-stream"])
async def test_a_server_that_does_not_stream_is_understood(kind: str) -> None:
    reply = Reply(TEXT, cached_tokens=8)
    data = reply.as_data("model")
    step: Step = Body(data) if kind == "plain" else Events(json.dumps(data, indent=1))
    with LoopbackServer([step]) as server:
        answer = await ask(server, Ears())
    assert (answer.text, answer.usage.cached_tokens, answer.model) == (TEXT, 8, "model")


@pytest.mark.parametrize("refused", ["stream_options", "stream"])
async def test_a_server_that_refuses_to_stream_or_to_count_is_asked_without(refused: str) -> None:
    with LoopbackServer([Reply(TEXT)], refuses=[refused]) as server:
        answer = await ask(server, Ears())
    assert answer.text == TEXT
    assert len(server.chats) == 2
    assert answer.usage == (Usage() if refused == "stream_options" else Usage(100, 50))


@pytest.mark.parametrize(
    ("stream", "usage"),
    [
        (piece("Ja.", "stop"), Usage()),
        (piece("Ja.") + DONE, Usage()),
        (piece("Ja.", "stop") + event({"choices": [], "usage": {"prompt_tokens": 7}}), Usage(7)),
        (piece("Ja.", "stop", usage={"prompt_tokens": 7}) + DONE, Usage(7)),
        (piece("Ja.", usage={"completion_tokens": 1}) + piece("", "stop", usage={"completion_tokens": 2}),
         Usage(0, 2)),
        (piece("Ja.", "stop", usage="many") + DONE, Usage()),
        (piece("Ja.", "stop") + "data: {\n\n", Usage()),
        (piece("Ja.", "stop") + event({"error": {"message": "late"}}), Usage()),
        (piece("Ja.", "stop") + 'data: {"choices": [], "usage": {"prompt_tokens": 7}}', Usage(7)),
        (piece("Ja.", "stop") + DONE + piece(" Nein."), Usage()),
        ("event: message\nid: 1\n" + piece("Ja.", "stop") + DONE, Usage()),
        (": hello\n\n" + piece("Ja.", "stop").replace("data: ", "data:") + "data:[DONE]\n\n", Usage()),
        ((piece("Ja.", "stop") + DONE).replace("\n", "\r\n"), Usage()),
        ((piece("Ja.", "stop") + DONE).replace("\n", "\r"), Usage()),
        (piece("Ja.").replace(', "finish', ',\ndata: "finish') + DONE, Usage()),
        (event({"choices": None, "model": "m2"}) + event({"choices": [{"delta": None}]})
         + piece("Ja.", "stop") + DONE, Usage()),
        (event({"choices": [{"index": 1, "delta": {"content": "Nein."}}]}) + piece("Ja.", "stop"), Usage()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_cut", [False, True])
async def test_an_unusual_stream_with_a_whole_text_gives_the_text(stream: str, usage: Usage, is_cut: bool) -> None:
    ears = Ears()
    with LoopbackServer([Events(stream, is_cut=is_cut)], repeat_last=False) as server:
        answer = await ask(server, ears)
    assert (answer.text, answer.finish, answer.usage) == ("Ja.", "stop", usage)
    assert set(ears.texts) <= {"Ja."}


COUNTED = {"prompt_tokens": 7, "completion_tokens": 2}


@pytest.mark.parametrize(
    "fault",
    [
        Events(piece("Ja", usage=COUNTED)),
        Events(piece("Ja", usage=COUNTED), is_cut=True),
        Events(piece("Ja", usage=COUNTED) + "data: {\n\n"),
        Events(event({"error": {"message": "late"}, "usage": COUNTED})),
        Body({"choices": [], "usage": COUNTED}),
        Body({"error": {"message": "late"}, "usage": COUNTED}),
    ],
    ids=name_of,
)
async def test_the_tokens_of_a_stream_that_fails_are_counted_once_each_time(fault: Step) -> None:
    with LoopbackServer([fault, Reply(TEXT), fault]) as server:
        assert (await ask(server, Ears())).usage == Usage(107, 52)
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(server, Ears(), retries=2)
    assert caught.value.usage == Usage(21, 6)


@pytest.mark.parametrize("text", [TEXT, "Ja.", "Ha ha ha. Ha.", TEXT * 300], ids=len)
async def test_a_stream_that_sends_the_whole_text_so_far_in_each_event_doubles_nothing(text: str) -> None:
    growing = [piece(text[:end]) for end in range(1, len(text), max(2, len(text) // 80))]
    ears = Ears()
    streams = [Events("".join(growing) + piece(text, "stop") + DONE), Events(piece(text) + piece(text, "stop"))]
    normal = "".join(map(piece, re.findall(r".{1,7}", text)))
    message = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    streams[1:] = [Events(normal + event(message))] if len(text) > 32 else []
    with LoopbackServer(streams, repeat_last=False) as server:
        for _ in streams:
            assert (await ask(server, ears)).text == text
    assert all(text.startswith(shown) for shown in ears.texts)


async def test_the_parts_of_a_content_are_joined_in_a_stream() -> None:
    first = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "J"}]
    stream = event({"choices": [{"delta": {"content": first}}]}) + piece("a.", "stop") + DONE
    with LoopbackServer([Events(stream)]) as server:
        assert (await ask(server, Ears())).text == "Ja."


async def test_unicode_line_ends_in_a_text_end_no_line() -> None:
    message = "a\u2028b\u0085c\u2029d"
    raw = "data: " + json.dumps({"choices": [{"delta": {"content": message}}]}, ensure_ascii=False) + "\n\n"
    with LoopbackServer([Events(raw + DONE)]) as server:
        assert (await ask(server, Ears())).text == message


async def test_the_halves_of_a_character_are_joined_across_pieces() -> None:
    ears = Ears()
    stream = piece("Hund \ud83d") + piece("\udc36.") + piece(" \ud83d", "stop") + DONE
    with LoopbackServer([Events(stream)]) as server:
        answer = await ask(server, ears)
    assert answer.text == "Hund 🐶. \ufffd"
    assert ears.texts[-1] == answer.text
    assert all(text.encode() for text in ears.texts)


class OpenStream:
    """A server that sends one event, the others when it may, and waits for the client to go."""

    def __init__(self, *sent: str) -> None:
        self.sent = sent
        self.may_go_on = asyncio.Event()
        self.client_has_gone = asyncio.Event()

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.client_has_gone.wait(), 120)
        self.server.close()
        await self.server.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n")
        for sent in self.sent:
            writer.write(sent.encode())
            await writer.drain()
            if sent != self.sent[-1]:
                await self.may_go_on.wait()
        while await reader.read(65536):
            pass
        writer.close()
        self.client_has_gone.set()


async def test_the_text_is_shown_before_it_is_whole() -> None:
    stream = OpenStream(piece("Ja, "), piece("gern.", "stop") + DONE)
    texts: list[str] = []

    def grown(text: str) -> None:
        texts.append(text)
        stream.may_go_on.set()

    async with stream as address:
        client = HostedClient("m", address, on_text=grown)
        answer = await asyncio.wait_for(client.complete(ASK, None, Limits(timeout=3600)), 60)
        await client.close()
    assert texts == ["Ja, ", "Ja, gern."]
    assert answer.text == "Ja, gern."


@pytest.mark.parametrize("end", ["", DONE])
async def test_a_connection_that_stays_open_after_the_text_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("synopsis_writer.models.hosted._USAGE_SECONDS", 0.05)
    async with OpenStream(piece("Ja.", "stop") + end) as address:
        client = HostedClient("m", address, on_text=print)
        answer = await asyncio.wait_for(client.complete(ASK, None, Limits(timeout=3600)), 60)
        await client.close()
    assert (answer.text, answer.finish) == ("Ja.", "stop")


async def test_a_stalled_stream_times_out() -> None:
    async with OpenStream(piece("Ja")) as address:
        client = HostedClient("m", address, on_text=print, retry=RetryPolicy(0))
        with pytest.raises(ConnectionFailedError, match="did not answer in time"):
            await client.complete(ASK, None, Limits(timeout=1))
        await client.close()


async def test_a_cancelled_stream_closes_the_connection() -> None:
    begun = asyncio.Event()
    async with OpenStream(piece("Ja")) as address:
        client = HostedClient("m", address, on_text=lambda _: begun.set())
        task = asyncio.create_task(client.complete(ASK, None, Limits(timeout=3600)))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 9), st.sampled_from("\n \r\n \r".split(" ")))
def test_however_the_bytes_are_cut_the_text_is_the_same(text: str, size: int, end: str) -> None:
    raw = (piece(text) + piece("", "stop") + DONE).replace("\n", end).encode()
    streamed = StreamedAnswer()
    for start in range(0, len(raw), size):
        streamed.feed(raw[start : start + size])
    answer = streamed.answer("text/event-stream", 1.0, "m")
    assert (answer.text, streamed.is_done) == (text, True)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_give_another_error_than_a_broken_body(raw: bytes, size: int) -> None:
    streamed = StreamedAnswer()
    try:
        for start in range(0, len(raw), size):
            streamed.feed(b"data: " + raw[start : start + size])
        streamed.answer("text/event-stream", 1.0, "m")
    except InvalidResponseError:
        return
    assert streamed.is_done or streamed.is_finished


def test_an_event_without_data_is_ignored() -> None:
    reader = EventReader()
    assert list(reader.feed(b"id: 3\n\n: x\n\nretry: 1\n\ndata\n\n")) == [b""]


@pytest.mark.parametrize("reply", [Reply(TEXT), Reply("", refusal="Nein.")])
def test_a_streamed_reply_is_made_of_chunks_by_the_sdks_own_model(reply: Reply) -> None:
    *events, done = reply.as_events("m", usage=True)
    chunks = [ChatCompletionChunk.model_validate_json(one.removeprefix("data: ")) for one in events]
    message = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join((delta.content or "") + (delta.refusal or "") for delta in message) == (reply.refusal or TEXT)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 150
    assert done == DONE


@pytest.mark.skipif(not is_packaged_available(), reason="the extra `local` is not installed")
@pytest.mark.embedded
async def test_the_embedded_engine_shows_its_text_growing_in_the_callers_thread(packaged_model: Path) -> None:
    texts: list[str] = []
    threads: set[int] = set()

    def grown(text: str) -> None:
        texts.append(text)
        threads.add(threading.get_ident())

    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    client = EmbeddedClient(Engine(packaged_model, context=512, chat_template=template), grown)
    answer = await client.complete([Message("user", "Der Hund")], None, Limits(max_tokens=12))
    await client.close()
    assert texts[-1] == answer.text
    assert len(texts) > 1
    assert all(answer.text.startswith(text) for text in texts)
    assert threads == {threading.get_ident()}
