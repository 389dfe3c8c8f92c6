"""Measure what a write costs this machine beyond the bare SDK call; prints one table.

    python -m benchmarks.client

A loopback server in another process answers at once, each brief of the test corpus with its own text. All
figures are CPU time a brief, of texts never seen before: the bare SDK calls, the gate alone, and whole writes
with selection, prompt, gate, saving, run log and cache, each in a process of its own that the pool's examples
have warmed up, and that collects garbage as seldom as the command does.
"""

import asyncio
import gc
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

from benchmarks.table import Row, print_table
from synopsis_writer.cli import THRESHOLD
from synopsis_writer.drafting import Judge, ModelAuthor, write
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.log import Recording, Run, RunLog
from synopsis_writer.models.base import Limits, ModelClient
from synopsis_writer.models.resolve import open_client, resolve_model
from synopsis_writer.result import new_run
from synopsis_writer.settings import Settings, load_settings
from synopsis_writer.show import Show
from synopsis_writer.storage.files import save
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.writer import Writer
from tests.support.loopback import LoopbackServer, Reply

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
EXAMPLES = load_pool([CORPUS]).examples
MODEL = "loopback-model"
RUNS = 3


def serve(pipe: Connection) -> None:
    """Answer the examples in turn, until told to end."""
    replies = [Reply(example.synopsis.as_json()) for example in EXAMPLES]
    with LoopbackServer(replies * 20) as server:
        pipe.send(server.base_url)
        pipe.recv()


async def cpu(work: Callable[[Example], Awaitable[object]]) -> float:
    """Return the milliseconds of CPU time that `work` takes per example."""
    started = time.process_time()
    for example in EXAMPLES:
        await work(example)
    return (time.process_time() - started) * 1000 / len(EXAMPLES)


def show_of(writer: Writer, example: Example) -> Show:
    """Return the example's show."""
    return writer.workspace.find_show(example.brief.show)


async def whole_write(example: Example, client: ModelClient, writer: Writer, log: RunLog, out: Path) -> None:
    """Do all that a write does once its writer has loaded its workspace."""
    show, brief = show_of(writer, example), example.brief
    prompt = writer.prompt(brief)
    name, created = new_run()
    author = ModelAuthor(client, writer.workspace.prompts, prompt, Limits())
    with Recording(log, Run(name, "write", created, brief, MODEL)) as recording:
        result = await write(author, Judge(brief, show, writer.workspace.gate.examine), recording, attempts=1)
        best = result.best
        if best is None or best.synopsis is None:
            raise SystemExit("the loopback server gave no answer")
        content = replace(result, run=name, created=created, prompt=prompt).render()
        log.saved(name, save(content, out, best.synopsis.title, "md"))
        recording.end(result.outcome)


def warmed_desk(settings: Settings) -> Writer:
    """Return a writer whose gate has judged the pool's examples."""
    writer = Writer(settings)
    workspace = writer.workspace
    workspace.gate.warm_up()
    for example in workspace.pool.examples:
        workspace.gate.examine(example.synopsis, example.brief, show_of(writer, example))
        writer.prompt(example.brief)  # the first of a form compares its examples with each other
    gc.collect()  # as `Writer.warm_up` does
    return writer


async def bare_calls(writer: Writer, base_url: str) -> float:
    """Measure the SDK's calls alone, with the prompts of the writes."""
    schema = {"name": "answer", "strict": True, "schema": wire_schema(Synopsis)}
    requests: dict[str, dict[str, Any]] = {}
    for example in EXAMPLES:
        prompt = writer.prompt(example.brief)
        requests[example.id] = {
            "model": MODEL,
            "messages": [{"role": one.role, "content": one.content} for one in prompt.messages],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
    async with openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0) as sdk:
        return await cpu(lambda example: sdk.chat.completions.create(**requests[example.id]))


async def gate_alone(writer: Writer) -> float:
    """Measure the gate on the texts that the server answers with."""

    async def examine(example: Example) -> None:
        writer.workspace.gate.examine(example.synopsis, example.brief, show_of(writer, example))

    return await cpu(examine)


async def whole_writes(writer: Writer, settings: Settings, out: Path) -> float:
    """Measure all that a write does."""
    log = RunLog(out / "runs.sqlite3")
    async with open_client(resolve_model(settings, {}), settings, {}) as client:
        taken = await cpu(lambda example: whole_write(example, client, writer, log, out))
    log.close()
    return taken


def measure(what: str, base_url: str, place: str, pipe: Connection) -> None:
    """Measure one of the three in this process, and send the milliseconds."""
    gc.set_threshold(*THRESHOLD)
    settings = load_settings({"base_url": base_url, "model": MODEL, "cache": Path(place) / "cache"}, {})
    writer = warmed_desk(settings)
    if what == "bare":
        taken = asyncio.run(bare_calls(writer, base_url))
    elif what == "gate":
        taken = asyncio.run(gate_alone(writer))
    else:
        taken = asyncio.run(whole_writes(writer, settings, Path(place)))
    pipe.send(taken)


def client_rows() -> list[Row]:
    """Start the server and each measurement in a separate process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    base_url = ours.recv()
    figures: dict[str, list[float]] = {"bare": [], "gate": [], "write": []}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(RUNS):
            for what, found in figures.items():
                inner, outer = context.Pipe()
                process = context.Process(target=measure, args=(what, base_url, place, outer))
                process.start()
                found.append(inner.recv())
                process.join()
    ours.send("end")
    server.join()
    call, gate, whole = (statistics.median(found) for found in figures.values())
    return [
        Row("the bare SDK call, CPU", f"{call:.1f} ms"),
        Row("the gate alone on a text never seen, CPU", f"{gate:.1f} ms"),
        Row("a whole write, CPU", f"{whole:.1f} ms"),
        Row("a write beyond the bare call", f"{(whole - call) / gate:.2f} × the gate", "≤ 1.5 ×"),
    ]


if __name__ == "__main__":
    print_table((client_rows,))
