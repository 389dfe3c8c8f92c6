"""Work side by side: so many pieces at once, and what is begun is ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from synopsis_writer.errors import SynopsisError

Piece = TypeVar("Piece")


async def side_by_side(
    pieces: Iterator[Piece],
    do: Callable[[Piece], Awaitable[None]],
    count: int,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do pieces of work, `count` at once; one is taken when there is a worker for it.

    The first error lets what is in flight come to its end, for it is paid, and is then raised.

    Raises:
        SynopsisError: what `do`, or the reading of the next piece, raised first.
    """
    faults: list[SynopsisError] = []

    async def work() -> None:
        try:
            while not faults and not is_stopped() and (piece := next(pieces, None)) is not None:
                await do(piece)
        except SynopsisError as error:
            faults.append(error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except ExceptionGroup as others:
        raise others.exceptions[0] from None
    if faults:
        raise faults[0]
