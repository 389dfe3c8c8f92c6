"""Measure how long the event loop stalls while 40 texts are written concurrently; prints one table.

    python -m benchmarks.stalls

A task ticks every 5 ms in the loop of one `Writer`, which writes 40 briefs of the test corpus against a
loopback server in another process. A stall is the time between two ticks beyond the 5 ms. The writer is
warmed up before. Python's garbage collector stops all threads now and then, so a round with `gc.freeze()` is
measured besides, as is a loop that has nothing to do.
"""

import asyncio
import gc
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.table import Row, print_table
from synopsis_writer import Example, Writer, load_pool
from tests.support.loopback import LoopbackServer, Reply

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
EXAMPLES = load_pool([CORPUS]).examples
WRITES = 40
TICK = 0.005


def serve(pipe: Connection) -> None:
    """Answer the examples in turn, until told to end."""
    replies = [Reply(example.synopsis.as_json()) for example in EXAMPLES]
    with LoopbackServer(replies * 20) as server:
        pipe.send(server.base_url)
        pipe.recv()


async def ticking(stalls: list[float]) -> None:
    """Record by how many milliseconds each tick is late."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        stalls.append((time.perf_counter() - before - TICK) * 1000)


async def round_of(writer: Writer, examples: list[Example]) -> list[float]:
    """Write all examples concurrently, and return the stalls."""
    stalls: list[float] = []
    task = asyncio.create_task(ticking(stalls))
    await asyncio.gather(*(writer.write(example.brief) for example in examples))
    task.cancel()
    return stalls


async def idle() -> list[float]:
    """Return the stalls of a loop with nothing to do."""
    stalls: list[float] = []
    task = asyncio.create_task(ticking(stalls))
    await asyncio.sleep(1)
    task.cancel()
    return stalls


async def rounds(base_url: str, cache: Path) -> list[list[float]]:
    """Write with one warmed-up writer, and once more with all objects frozen."""
    chosen = (list(EXAMPLES) * WRITES)[: 2 * WRITES]
    async with Writer(model="m", base_url=base_url, cache=cache, attempts=1, responses="off", log=False) as writer:
        await writer.warm_up()
        first = await round_of(writer, chosen[:WRITES])
        gc.collect()
        gc.freeze()
        return [await idle(), first, await round_of(writer, chosen[WRITES:])]


def stall_rows() -> list[Row]:
    """Start the server, and measure."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base_url = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        nothing, first, second = asyncio.run(rounds(base_url, Path(folder)))
    ours.send("end")
    server.join()
    return [
        Row("longest stall of a loop with nothing to do", f"{max(nothing):.0f} ms"),
        Row("longest stall, 40 writes side by side", f"{max(first):.0f} ms", "≤ 50 ms"),
        Row("the 99th percentile of them", f"{statistics.quantiles(first, n=100)[98]:.0f} ms"),
        Row("longest stall, 40 writes after `gc.freeze()`", f"{max(second):.0f} ms", "≤ 50 ms"),
    ]


if __name__ == "__main__":
    print_table((stall_rows,))
