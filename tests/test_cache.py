import os
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.errors import ConnectionFailedError, FileError
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.models.limits import CachingClient, ResponseCache, request_key
from synopsis_writer.settings import CacheUse
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import Usage

ASK = [Message("user", "Schreibe über eine Fähre.")]
LIMITS = Limits()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def caching(client: ScriptedClient, path: Path, use: CacheUse = "read") -> CachingClient:
    return CachingClient(client, ResponseCache(path), "127.0.0.1/v1", use)


async def test_the_same_question_is_asked_once_and_costs_nothing_again(tmp_path: Path) -> None:
    client = ScriptedClient(["Ja.", "Nein."])
    first = caching(client, tmp_path / "cache.sqlite3")
    assert await first.complete(ASK, None, LIMITS) == Answer("Ja.", usage=Usage(100, 50), model="scripted")
    await first.close()
    second = caching(client, tmp_path / "cache.sqlite3")
    kept = await second.complete(ASK, None, LIMITS)
    assert (kept.text, kept.usage, kept.is_cached, kept.model) == ("Ja.", Usage(), True, "scripted")
    assert kept.cost is not None
    assert kept.cost.amount == 0
    assert len(client.calls) == 1
    await second.close()


async def test_a_cache_that_is_only_written_asks_every_time(tmp_path: Path) -> None:
    client = ScriptedClient(["Ja.", "Nein."])
    writing = caching(client, tmp_path / "cache.sqlite3", "write")
    assert [(await writing.complete(ASK, None, LIMITS)).text for _ in range(2)] == ["Ja.", "Nein."]
    reading = caching(client, tmp_path / "cache.sqlite3")
    assert (await reading.complete(ASK, None, LIMITS)).text == "Nein."
    await writing.close()
    await reading.close()


@pytest.mark.parametrize(
    "changed",
    [
        request_key("other", "m", ASK, None, LIMITS),
        request_key("s", "other", ASK, None, LIMITS),
        request_key("s", "m", [Message("system", ASK[0].content)], None, LIMITS),
        request_key("s", "m", ASK, {"type": "object"}, LIMITS),
        request_key("s", "m", ASK, None, Limits(temperature=0.5)),
        request_key("s", "m", ASK, None, Limits(max_tokens=99)),
        request_key("s", "m", ASK, None, Limits(sample=1)),
    ],
)
def test_whatever_shapes_the_answer_makes_another_request(changed: str) -> None:
    assert changed != request_key("s", "m", ASK, None, LIMITS)
    assert request_key("s", "m", ASK, None, replace(LIMITS, timeout=1)) == request_key("s", "m", ASK, None, LIMITS)


@pytest.mark.parametrize(
    "answer", [Answer("Nein.", "refusal"), Answer("", "filter"), Answer("halb", "length"), Answer("")]
)
async def test_an_incomplete_answer_is_not_cached(tmp_path: Path, answer: Answer) -> None:
    client = ScriptedClient([answer, "Ja."])
    caches = caching(client, tmp_path / "cache.sqlite3")
    assert await caches.complete(ASK, None, LIMITS) == answer
    assert (await caches.complete(ASK, None, LIMITS)).text == "Ja."
    await caches.close()


async def test_an_error_is_passed_on_and_not_cached(tmp_path: Path) -> None:
    client = ScriptedClient([ConnectionFailedError("weg"), "Ja."])
    caches = caching(client, tmp_path / "cache.sqlite3")
    with pytest.raises(ConnectionFailedError):
        await caches.complete(ASK, None, LIMITS)
    assert (await caches.complete(ASK, None, LIMITS)).text == "Ja."
    await caches.close()
    assert client.closed


def test_old_answers_are_deleted(tmp_path: Path) -> None:
    clock = Clock()
    cache = ResponseCache(tmp_path / "cache.sqlite3", days=2, clock=clock)
    cache.put("old", Answer("alt"))
    clock.now += 86_400
    cache.put("new", Answer("neu"))
    assert cache.get("old") is not None
    clock.now += 86_401
    assert cache.get("old") is None
    assert cache.get("new") is not None
    cache.put("newest", Answer("ganz neu"))
    assert cache.size().answers == 2
    cache.close()


def test_the_oldest_answers_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    clock = Clock()
    cache = ResponseCache(tmp_path / "cache.sqlite3", megabytes=0.003, clock=clock)
    for name in ("eins", "zwei", "drei", "vier"):
        clock.now += 1
        cache.put(name, Answer("ä" * 500))
    assert [cache.get(name) is not None for name in ("eins", "zwei", "drei", "vier")] == [False, True, True, True]
    assert (cache.size().answers, cache.size().bytes) == (3, 3000)
    cache.close()


def test_a_cleared_cache_holds_nothing_of_the_texts(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    cache.put("key", Answer("Die Fähre legt ab."))
    cache.clear()
    assert cache.size().answers == 0
    assert all("Fähre".encode() not in file.read_bytes() for file in tmp_path.iterdir())
    cache.close()


async def test_a_cache_that_cannot_be_written_loses_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    cache._database.execute("PRAGMA query_only=ON")
    client = CachingClient(ScriptedClient(["Ja."]), cache, "s", "write")
    assert (await client.complete(ASK, None, LIMITS)).text == "Ja."
    (line,) = caplog.messages
    assert "--cache off" in line
    await client.close()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    os.close(os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(FileError, match="name another place"):
        ResponseCache(tmp_path / "file" / "cache.sqlite3")


async def test_a_cache_that_cannot_be_read_costs_one_line_and_loses_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    cache._database.execute("DROP TABLE answers")
    client = CachingClient(ScriptedClient(["Ja.", "Nein."]), cache, "s", "read")
    assert [(await client.complete(ASK, None, LIMITS)).text for _ in range(2)] == ["Ja.", "Nein."]
    (line,) = caplog.messages
    assert "empty it with synopsis cache clear, or go on with --cache off" in line
    await client.close()


def test_a_cached_answer_that_is_not_text_is_ignored(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    cache.put("key", Answer("Ja."))
    cache._database.execute("UPDATE answers SET text = x'ff'")
    assert cache.get("key") is None
    cache.close()


def test_half_a_character_is_reported_and_not_cached(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    with pytest.raises(FileError, match="go on with --cache off"):
        cache.put("key", Answer("\ud83d"))
    cache.close()


def test_a_full_cache_reads_no_more_rows_than_it_deletes(tmp_path: Path) -> None:
    clock = Clock()
    cache = ResponseCache(tmp_path / "cache.sqlite3", megabytes=0.01, clock=clock)
    for place in range(1000):
        clock.now += 1
        cache.put(str(place), Answer("0123456789"))
    steps: list[int] = []
    cache._database.set_progress_handler(lambda: steps.append(1), 100)  # hundreds of SQLite's instructions
    cache.put("one more", Answer("0123456789"))
    # The sum takes 3 instructions a row; to read all rows in their order takes several more.
    assert len(steps) * 100 < 5 * 1000
    assert cache.size().answers == 1000
    assert cache.get("0") is None
    cache.close()
