"""A model server for benchmarks that takes next to no CPU time: asyncio, raw HTTP, ready answers.

    python -m benchmarks.batch_stub SECONDS FIRST LAST

It answers a request after so many seconds with the text whose number stands in its brief, from FIRST up to,
not including, LAST; all are made before it serves. It prints its port, and `GET /tally` gives what came.
"""

import asyncio
import json
import sys
import time
from typing import cast

from benchmarks.batch_texts import MARK, written

_DIGITS = 7  # of a text's number in its brief
_MARK = f"{MARK} ".encode()
_LENGTH = b"content-length: "
_USAGE = {"prompt_tokens": 5500, "completion_tokens": 700, "total_tokens": 6200}


class Stub(asyncio.Protocol):
    """One connection, kept alive."""

    def __init__(self, answers: dict[bytes, bytes], seconds: float, came: list[float]) -> None:
        self._answers, self._seconds, self._came = answers, seconds, came
        self._waiting = bytearray()
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for the answers."""
        self._way = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each whole request: the next one comes only when this one is answered."""
        self._waiting += data
        body = self._waiting.find(b"\r\n\r\n") + 4
        if body < 4:
            return
        place = self._waiting[:body].lower().find(_LENGTH)
        if place < 0:
            self._waiting.clear()
            self._way.write(_response(json.dumps(self._came).encode()))
            return
        start = place + len(_LENGTH)
        length = int(self._waiting[start : self._waiting.find(b"\r", start)])
        if len(self._waiting) < body + length:
            return
        start = self._waiting.rfind(_MARK) + len(_MARK)
        number = bytes(self._waiting[start : start + _DIGITS])
        self._waiting.clear()
        self._came.append(time.time())
        self._loop.call_later(self._seconds, self._way.write, self._answers[number])


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer(number: int) -> bytes:
    message = {"role": "assistant", "content": written(number).synopsis.as_json()}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    told = {"object": "chat.completion", "created": 0, "model": "stub", "choices": [choice], "usage": _USAGE}
    return _response(json.dumps({"id": str(number), **told}, ensure_ascii=False).encode())


async def _serve(seconds: float, first: int, last: int) -> None:
    answers = {f"{number:0{_DIGITS}}".encode(): _answer(number) for number in range(first, last)}
    came: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(answers, seconds, came), "127.0.0.1", backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
