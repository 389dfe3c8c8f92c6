"""Bodies of any size and compression are read no further than their limit, in linear time."""

import gzip
import itertools
import json
import subprocess
import sys
import textwrap
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from synopsis_writer.answers import find_objects, parts_so_far, read_json
from synopsis_writer.errors import ModelError
from synopsis_writer.log import RunLog
from synopsis_writer.models.base import MOST_ANSWER, Answer, Limits, Message
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.limits import ResponseCache
from synopsis_writer.models.responses import EventReader, StreamedAnswer, read_bounded
from synopsis_writer.models.retry import InvalidResponseError, RetryPolicy
from synopsis_writer.result import Attempt
from synopsis_writer.synopsis import Synopsis, parse
from tests.support.loopback import event

PIECE = 65_536


class Endless(httpx2.AsyncByteStream):
    """A body of pieces that are counted as they are taken, without an end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece


def same(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def compressed(window: int, piece: bytes) -> Iterator[bytes]:
    deflate = zlib.compressobj(9, zlib.DEFLATED, window)
    while True:
        yield deflate.compress(piece)


def opened(start: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from pieces


MESSAGE = event({"choices": [{"delta": {"content": "x" * 1_000}}]}).encode()
EVENTS = {"content-type": "text/event-stream"}
BODIES: dict[str, tuple[int, dict[str, str], Iterator[bytes], int]] = {
    "blanks": (200, {}, same(b" " * PIECE), 9_000_000),
    "a long answer": (200, {}, opened(b'{"choices": [{"message": {"content": "', same(b"x" * PIECE)), 9_000_000),
    "gzip": (200, {"content-encoding": "gzip"}, compressed(31, b"x" * 1_000_000), 100_000),
    "x-gzip": (200, {"content-encoding": "X-GZIP"}, compressed(31, b"x" * 1_000_000), 100_000),
    "deflate": (200, {"content-encoding": "deflate"}, compressed(15, b"x" * 1_000_000), 100_000),
    "raw deflate": (200, {"content-encoding": "deflate"}, compressed(-15, b"x" * 1_000_000), 100_000),
    "br": (200, {"content-encoding": "br"}, same(b"\x8b" * PIECE), 100_000),
    "zstd": (200, {"content-encoding": "zstd"}, same(b"\x28" * PIECE), 100_000),
    "twice": (200, {"content-encoding": "gzip, gzip"}, compressed(31, b"x" * 1_000_000), 100_000),
    "no gzip": (200, {"content-encoding": "gzip"}, same(b"x" * PIECE), 100_000),
    "error": (400, {}, same(b"x" * PIECE), 1_100_000),
    "error in gzip": (400, {"content-encoding": "gzip"}, compressed(31, b"x" * 1_000_000), 100_000),
    "error in br": (400, {"content-encoding": "br"}, same(b"x" * PIECE), 100_000),
    "fault": (500, {}, same(b"x" * PIECE), 1_100_000),
    "stream": (200, EVENTS, same(MESSAGE), 9_000_000),
    "comments": (200, EVENTS, same(b":" * 1_000 + b"\n"), 65_000_000),
    "an event": (200, EVENTS, opened(b"data: ", same(b"x" * PIECE)), 9_000_000),
    "lines of data": (200, EVENTS, same(b"data: [1,\n" * 1_000), 9_000_000),
    "an event in gzip": (200, EVENTS | {"content-encoding": "gzip"}, compressed(31, b"x" * 1_000_000), 100_000),
}


@pytest.mark.parametrize(("kind", "is_streamed"), [*itertools.product(BODIES, (False, True))])
async def test_a_body_is_read_up_to_its_limit_and_ends_in_one_line(kind: str, is_streamed: bool) -> None:
    status, headers, pieces, most = BODIES[kind]
    if not is_streamed and headers == EVENTS:
        most = 65_000_000  # it is read whole before it is taken apart
    body = Endless(pieces)
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(status, headers={"content-type": "application/json", **headers}, stream=body)
    )
    shown: list[int] = []
    client = HostedClient(
        "m",
        "http://localhost/v1",
        retry=RetryPolicy(0),
        transport=transport,
        on_text=(lambda text: shown.append(len(text))) if is_streamed else None,
    )
    with pytest.raises(ModelError) as error:
        await client.complete([Message("user", "x")], None, Limits(100))
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)
    assert body.taken < most
    assert sum(shown) <= 200 * MOST_ANSWER  # of thousands, if each piece showed the whole text


async def whole(body: bytes, encoding: str, size: int) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    return b"".join([piece async for piece in read_bounded(pieces(), encoding, 10_000_000)])


@pytest.mark.parametrize("size", [1, 7, 1_000, 10_000_000])
async def test_what_is_within_the_limit_comes_as_it_is(size: int) -> None:
    text = json.dumps({"text": "Gesa zählt die Schafe. " * 3_000}).encode()
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    for encoding, body in (
        ("gzip", gzip.compress(text)),
        ("deflate", zlib.compress(text)),
        ("deflate", raw.compress(text) + raw.flush()),
        ("", text),
        ("identity", text),
        ("gzip", gzip.compress(text[:1_000]) + gzip.compress(text[1_000:])),
        ("gzip", gzip.compress(text) + bytes(512)),
    ):
        assert await whole(body, encoding, size) == text


def joined(reader: EventReader, pieces: Iterator[bytes]) -> list[bytes]:
    return [data for piece in pieces for data in reader.feed(piece)]


def test_a_long_line_in_small_pieces_is_joined_once() -> None:
    reader = EventReader()
    assert joined(reader, iter([b"data: ", *[b"x" * 10] * 10_000])) == []
    assert len(reader._line) > 10_000  # nothing was joined on the way
    assert joined(reader, iter([b"\n\n"])) == [b"x" * 100_000]


def test_lines_of_data_that_continue_each_other_are_one_event_and_others_are_several() -> None:
    values = b'{"a": [|{},|{}|]|}|null|{"b":|1}|[DONE]|'
    lines = b"".join(b"data: %s\n" % value for value in values.split(b"|"))
    events = [b'{"a": [\n{},\n{}\n]\n}', b"null", b'{"b":\n1}', b"[DONE]"]
    assert joined(EventReader(), iter([lines])) == events


def test_a_growing_text_is_shown_seldom_enough_to_take_linear_time() -> None:
    shown: list[int] = []
    answer = StreamedAnswer(lambda text: shown.append(len(text)), clock=lambda: 0.0)
    text = "x" * 200_000
    for length in range(1, len(text), 7):
        content = answer._parts["content"]
        content.pieces, content.length = [text[:length]], length
        answer._show()
    assert sum(shown) < 40 * len(text) + 2_000**2
    assert len([length for length in shown if length < 2_000]) == len(range(1, 2_000, 7))


def test_the_parts_of_a_stream_are_joined_when_they_are_asked_for() -> None:
    streamed = StreamedAnswer()
    for _ in range(1_000):
        streamed.feed(event({"choices": [{"delta": {"content": "ab"}}]}).encode())
    assert len(streamed._parts["content"].pieces) == 1_000
    assert streamed.text == "ab" * 1_000
    assert streamed._parts["content"].pieces == ["ab" * 1_000]


@pytest.mark.parametrize("piece", [1_000, 100_000])
def test_a_server_that_does_not_stream_is_bounded_too(piece: int) -> None:
    streamed = StreamedAnswer()
    for _ in range(MOST_ANSWER // piece):
        streamed.feed(b"x" * piece)
    with pytest.raises(InvalidResponseError, match="larger than 8 MB"):
        streamed.feed(b"x" * piece)


def test_an_answer_over_the_limit_is_neither_logged_nor_cached(tmp_path: Path) -> None:
    from tests.test_runlog import RUN

    text = "ä" * (MOST_ANSWER // 2 + 1)
    log = RunLog(tmp_path / "log.sqlite3")
    log.begin(RUN)
    log.add(RUN.id, Attempt(1, Answer(text)))
    log.add(RUN.id, Attempt(2, Answer("short"), (Message("user", text),)))
    assert [attempt.answer.text for attempt in log.attempts(RUN.id)] == ["", "short"]
    log.close()
    assert (tmp_path / "log.sqlite3").stat().st_size < 1_000_000
    cache = ResponseCache(tmp_path / "cache.sqlite3")
    cache.put("key", Answer(text))
    assert cache.get("key") is None
    cache.close()


BOMB = """
import http.server, os, subprocess, sys, threading, zlib

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response({status})
        self.send_header("Content-Type", "{kind}")
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        try:
            for _ in range(4_000):
                self.wfile.write(deflate.compress(b"x" * 1_000_000))
        except OSError:
            pass
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
code = '''
import sys
from synopsis_writer.cli.app import run
code = run(["write", "--show", "AWZ", "--theme", "Eis", "--model", "m", "--max-retries", "0"])
status = open("/proc/self/status").read()
print(code, int(status.partition("VmHWM:")[2].split()[0]) // 1024)
'''
env = {{**os.environ, "OPENAI_BASE_URL": f"http://127.0.0.1:{{server.server_port}}/v1"}}
done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
print(done.stdout)
"""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "text/event-stream"),
        pytest.param(200, "application/json", marks=pytest.mark.slow),
        pytest.param(400, "text/html", marks=pytest.mark.slow),
    ],
)
def test_a_bomb_takes_less_than_500_megabytes(tmp_path: Path, status: int, kind: str) -> None:
    script = textwrap.dedent(BOMB).format(status=status, kind=kind)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    code, megabytes = map(int, done.stdout.split())
    assert code == 3
    assert megabytes < 500


@pytest.mark.parametrize("piece", ['{"a":\'b}', '{"a":"}{', "{'", '{"a":{', '{"a": "x" y}'])
def test_an_answer_of_very_many_broken_objects_is_given_up_after_some(piece: str) -> None:
    assert len(find_objects(piece * 1_000)) <= 100


MANY = {
    "{}": ("", "{}", ""),
    "objects": ("", '{"a": 1} ', ""),
    "numbers": ('{"title": "a", "characters": [', "1,", "1]}"),
    "names": ('{"characters": [', '"a:b",', '""]}'),
    "lists": ('{"paragraphs": [', "[],", "[]]}"),
    "deep lists": ('{"paragraphs": [', "[[[[[]]]]],", "[]]}"),
    "without commas": ("{characters: [", "1 ", "]}"),
    "without quotes": ("{", "a:1 ", "}"),
    "comments": ("{characters: [", "'a'/**/", "]}"),
}


@pytest.mark.parametrize("kind", MANY)
def test_an_answer_of_very_many_values_is_refused_before_they_take_memory(kind: str) -> None:
    head, part, tail = MANY[kind]
    answer = head + part * (1_000_000 // len(part)) + tail
    tracemalloc.start()
    try:
        parsed = parse(Answer(answer).content, Synopsis)
        assert parts_so_far(answer) == ("", [])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert parsed.value is None
    assert len(parsed.problem) < 200
    assert peak < 30 * len(answer)


@pytest.mark.parametrize("body", [b"[%s1]" % (b"1," * 200_000), b'{"a":[%s[]]}' % (b"[]," * 100_000), b"[" * 900_000])
def test_json_of_very_many_values_is_not_read(body: bytes) -> None:
    with pytest.raises(ValueError, match="has more than 100,000 values"):
        read_json(body)
