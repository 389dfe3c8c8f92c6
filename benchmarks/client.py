"""Measure what a write costs this machine beyond the bare SDK call; prints one table.

    python -m benchmarks.client

A loopback server in another process answers at once, each brief of the test corpus with its own text. All
figures are CPU time of this process a brief, after a round that does not count: the bare SDK calls, the gate
alone, and whole writes with selection, prompt, gate, saving, run log and cache.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

from benchmarks.table import Row, print_table
from synopsis_writer.client import Limits, ModelClient
from synopsis_writer.client.chain import open_chain
from synopsis_writer.client.choice import choose
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.journal import Journal
from synopsis_writer.kinds import FileFormat, Outcome
from synopsis_writer.runlog import Run, RunLog
from synopsis_writer.settings import Settings, load_settings
from synopsis_writer.shows import Show, find_show, generic_show
from synopsis_writer.store import new_origin, record, render, save
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.testing import LoopbackServer, Reply
from synopsis_writer.writer import ModelAuthor, write

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
EXAMPLES = load_pool([CORPUS]).examples
MODEL = "loopback-model"


def serve(pipe: Connection) -> None:
    """Answer the examples in turn, until told to end."""
    replies = [Reply(example.synopsis.as_json()) for example in EXAMPLES]
    with LoopbackServer(replies * 20) as server:
        pipe.send(server.base_url)
        pipe.recv()


async def cpu(work: Callable[[Example], Awaitable[object]]) -> float:
    """Return the milliseconds of CPU time that `work` takes an example, in its second round."""
    for example in EXAMPLES:
        await work(example)
    started = time.process_time()
    for example in EXAMPLES:
        await work(example)
    return (time.process_time() - started) * 1000 / len(EXAMPLES)


def show_of(desk: Desk, example: Example) -> Show:
    """Return the example's show."""
    return find_show(desk.pool.shows, example.brief.show) or generic_show(example.brief.show)


async def whole_write(example: Example, client: ModelClient, desk: Desk, log: RunLog, out: Path) -> None:
    """Do all that a write does once its desk is loaded."""
    show, brief = show_of(desk, example), example.brief
    prompt = desk.synopsis_prompt(brief, show)
    origin = new_origin(prompt)
    author = ModelAuthor(client, desk.prompts, prompt, Limits())
    with Journal(log, Run(origin.run, "write", origin.created, brief, MODEL), print) as journal:
        result = await write(brief, show, author, desk.gate, attempts=1, notes=journal)
        best = result.best
        if best is None or best.synopsis is None:
            raise SystemExit("the loopback server gave no answer")
        content = render(record(result, best, best.synopsis, origin), best.synopsis, FileFormat.MARKDOWN)
        log.saved(origin.run, save(content, out, best.synopsis.title, FileFormat.MARKDOWN))
        journal.end(Outcome.DONE)


async def measured(settings: Settings, base_url: str, out: Path) -> list[Row]:
    """Measure bare calls, the gate and whole writes, one after the other."""
    desk = load_desk(settings)
    schema = {"name": "answer", "strict": True, "schema": wire_schema(Synopsis)}
    async with openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0) as sdk:

        async def bare(example: Example) -> None:
            prompt = desk.synopsis_prompt(example.brief, show_of(desk, example))
            request: dict[str, Any] = {
                "model": MODEL,
                "messages": [{"role": one.role, "content": one.content} for one in prompt.messages],
                "response_format": {"type": "json_schema", "json_schema": schema},
            }
            started = time.process_time()
            await sdk.chat.completions.create(**request)
            spent.append(time.process_time() - started)

        spent: list[float] = []
        await cpu(bare)
        call = sum(spent[len(EXAMPLES) :]) * 1000 / len(EXAMPLES)

    async def gate(example: Example) -> None:
        desk.gate.examine(example.synopsis, example.brief, show_of(desk, example))

    gated = await cpu(gate)
    log = RunLog(out / "runs.sqlite3")
    async with open_chain(choose(settings, {}), settings, {}) as client:
        whole = await cpu(lambda example: whole_write(example, client, desk, log, out))
    log.close()
    return [
        Row("the bare SDK call, CPU", f"{call:.1f} ms"),
        Row("the gate alone, CPU", f"{gated:.1f} ms"),
        Row("a whole write, CPU", f"{whole:.1f} ms"),
        Row("a write beyond the bare call", f"{(whole - call) / gated:.2f} × the gate", "≤ 1.5 ×"),
    ]


def client_rows() -> list[Row]:
    """Start the server in a process of its own, and measure."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base_url = ours.recv()
    with tempfile.TemporaryDirectory() as place:
        flags = {"base_url": base_url, "model": MODEL, "cache": Path(place) / "cache"}
        rows = asyncio.run(measured(load_settings(flags, {}), base_url, Path(place)))
    ours.send("end")
    server.join()
    return rows


if __name__ == "__main__":
    print_table((client_rows,))
