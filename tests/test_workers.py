"""What was started concurrently is finished, because it is paid for."""

import asyncio
from collections.abc import Iterator

import pytest

from synopsis_writer.batch.run import Stop, run_concurrently
from synopsis_writer.errors import FileError


async def test_after_the_first_error_the_others_finish_and_nothing_new_starts() -> None:
    begun, ended = [], []

    async def do(piece: int) -> None:
        begun.append(piece)
        if piece == 1:
            raise FileError("full")
        await asyncio.sleep(0.01)
        ended.append(piece)

    with pytest.raises(FileError, match="full"):
        await run_concurrently(iter(range(9)), do, 3)
    assert begun == [0, 1]
    assert ended == [0]


async def test_an_item_that_cannot_be_read_lets_those_in_flight_finish() -> None:
    ended = []

    def pieces() -> Iterator[int]:
        yield from (0, 1)
        raise FileError("damaged")

    async def do(piece: int) -> None:
        await asyncio.sleep(0.01)
        ended.append(piece)

    with pytest.raises(FileError, match="damaged"):
        await run_concurrently(pieces(), do, 3)
    assert sorted(ended) == [0, 1]


async def test_nothing_is_taken_once_it_is_stopped() -> None:
    done: list[int] = []

    stop = Stop()

    async def do(piece: int) -> None:
        done.append(piece)
        stop.is_set = len(done) == 4

    await run_concurrently(iter(range(9)), do, 1, stop)
    assert done == [0, 1, 2, 3]
