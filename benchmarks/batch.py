"""Measure how fast a batch is: the real command against a stub, compared with the bare SDK; prints one table.

    python -m benchmarks.batch

The stub (`benchmarks/batch_stub.py`) is a process of its own that answers each brief with a text of its own
after a set time. The batch does all that it does by default: selection, prompt, gate, variety, saving, and
keeping the answers in the cache. The bare loop sends the same prompts by `AsyncOpenAI`, as many side by side,
and does nothing with the answers. Rates are rows a second from the first request up to the end of the
process; and, without ramp and end, from the 65th request up to the 65th last.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.batch_texts import ROOT, written
from benchmarks.processes import SYNOPSIS
from benchmarks.table import Row, print_table

IN_FLIGHT = 64
LATENCY, SLOW_ROWS, SINGLE_ROWS = 2.0, 3200, 640
QUICK, QUICK_ROWS = 0.05, 1500
LEAST_SHARE, LEAST_RATE = 0.95, 60.0
WORKERS = 2
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """The result of a run.

    Attributes:
        rows: rows that were made.
        seconds: from the first request up to the end of the process.
        steady: rows a second between the ramp at the start and the one at the end.
        cpu: milliseconds of CPU time a row, of the process itself.
        calls: requests that came.
        accepted: rows that passed gate and variety.
        megabytes: resident memory of the process at its most.
    """

    rows: int
    seconds: float
    steady: float
    cpu: float
    calls: int
    accepted: int = 0
    megabytes: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second over the whole run."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class Server:
    """The stub, as seen from outside."""

    base_url: str
    process: subprocess.Popen[str]

    def came(self) -> list[float]:
        """Return when each request came, in seconds since the epoch."""
        with urllib.request.urlopen(self.base_url + "/tally") as answer:
            times: list[float] = json.load(answer)
        return times


@contextmanager
def stub(seconds: float, first: int, last: int) -> Iterator[Server]:
    """Run the stub in a separate process."""
    command = [sys.executable, "-m", "benchmarks.batch_stub", str(seconds), str(first), str(last)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", process)
        finally:
            process.terminate()


def write_briefs(path: Path, first: int, last: int) -> None:
    """Write the briefs of the texts as a file of a batch."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(first, last):
            brief = {"id": f"row-{number}", **written(number).brief.as_data()}
            file.write(json.dumps(brief, ensure_ascii=False) + "\n")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def command_of(server: Server) -> list[str]:
    """Return the real command, for a folder with `briefs.jsonl`; every row is asked for once."""
    command = [SYNOPSIS, "batch", "run", "briefs.jsonl", "--out", "out", "--base-url", server.base_url]
    return [*command, "--model", "stub", "--attempts", "1", "--concurrency", str(IN_FLIGHT)]


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment of a run: cached answers and the like are in the folder."""
    return {**os.environ, "SYNOPSIS_CACHE": str(folder / "cache"), "OPENAI_API_KEY": "none"}


def batch(folder: Path, server: Server, rows: int, *flags: str) -> Run:
    """Run the real command on the briefs in a folder."""
    run = followed([*command_of(server), *flags], folder, server, rows)
    told = subprocess.run([SYNOPSIS, "batch", "status", "out", "--json"], cwd=folder, capture_output=True, check=True)
    counts = json.loads(told.stdout)
    if counts["pending"] or counts["failed"]:
        raise SystemExit(f"rows were left out: {counts['pending']} pending, {counts['failed']} failed")
    return Run(rows, run.seconds, run.steady, run.cpu, run.calls, counts["accepted"], run.megabytes)


def followed(command: list[str], folder: Path, server: Server, rows: int) -> Run:
    """Run a command to its end, and measure it every tenth of a second."""
    cpu = most = 0.0
    environment = environment_of(folder) | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None:
            time.sleep(0.1)
            try:
                cpu, most = cpu_seconds(process.pid), max(most, resident(process.pid))
            except (OSError, StopIteration):  # it has just ended
                break
        _, said = process.communicate()
        ended = time.time()
    came = server.came()
    if process.returncode not in (0, 1) or len(came) < rows:
        raise SystemExit(f"{' '.join(command)}: {said.decode()}")
    inner = came[IN_FLIGHT:-IN_FLIGHT]
    steady = (len(inner) - 1) / (inner[-1] - inner[0])
    return Run(rows, ended - came[0], steady, cpu * 1000 / rows, len(came), megabytes=most)


def bare(folder: Path, server: Server, rows: int) -> Run:
    """Run the bare SDK loop on the same prompts."""
    command = [sys.executable, "-m", "benchmarks.batch", "bare", server.base_url]
    return followed(command, folder, server, rows)


async def bare_loop(base_url: str) -> None:
    """Send the prompts of the briefs by the SDK alone, as many at once as the batch has in flight."""
    import openai

    from synopsis_writer.batch.briefs import read_briefs
    from synopsis_writer.settings import load_settings
    from synopsis_writer.synopsis import Synopsis, wire_schema
    from synopsis_writer.writer import Writer

    writer = Writer(load_settings({}, os.environ))
    prompts = [writer.prompt(row.brief) for row in read_briefs(Path("briefs.jsonl"))]
    schema = {"name": "answer", "strict": True, "schema": wire_schema(Synopsis)}
    waiting = iter([[{"role": one.role, "content": one.content} for one in prompt.messages] for prompt in prompts])
    async with openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0) as sdk:

        async def work() -> None:
            for messages in waiting:
                request: dict[str, Any] = {"model": "stub", "messages": messages, "max_tokens": 4000}
                request["response_format"] = {"type": "json_schema", "json_schema": schema}
                await sdk.chat.completions.create(**request)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


@contextmanager
def fresh(first: int, last: int) -> Iterator[Path]:
    """Yield a folder with the briefs of some texts, and a separate cache."""
    with tempfile.TemporaryDirectory() as place:
        write_briefs(Path(place) / "briefs.jsonl", first, last)
        yield Path(place)


def gate_rows() -> list[Row]:
    """Measure the gate on the texts, checked one after the other in a separate process."""
    command = [sys.executable, "-m", "benchmarks.batch", "gate"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [
        Row(f"the gate alone on these {QUICK_ROWS:,} texts, median", f"{told['milliseconds']:.1f} ms"),
        Row("words of a text", f"{told['words']:.0f}"),
        Row("of its distinct words in none of the texts before: in the first 50, in the last 500", told["new"]),
    ]


def judge_all() -> dict[str, Any]:
    """Judge the texts of the quick run, and return what that took."""
    from synopsis_writer.gate.text import lower_words
    from synopsis_writer.settings import load_settings
    from synopsis_writer.workspace import open_workspace

    workspace = open_workspace(load_settings({}, os.environ))
    workspace.gate.warm_up()
    seen: set[str] = set()
    seconds, lengths, new = [], [], []
    for one in map(written, range(QUICK_ROWS)):
        show, words = workspace.find_show(one.brief.show), lower_words(one.synopsis.text)
        started = time.perf_counter()
        workspace.gate.examine(one.synopsis, one.brief, show)
        seconds.append(time.perf_counter() - started)
        lengths.append(len(words))
        new.append(len(set(words) - seen) / len(set(words)))
        seen.update(words)
    return {
        "milliseconds": statistics.median(seconds) * 1000,
        "words": statistics.fmean(lengths),
        "new": f"{statistics.fmean(new[:50]):.0%}, {statistics.fmean(new[-500:]):.1%}",
    }


def slow_rows() -> list[Row]:
    """Measure 64 in flight against a server that takes two seconds."""
    ideal = IN_FLIGHT / LATENCY
    least = f"≥ {LEAST_SHARE:.0%}"
    with stub(LATENCY, 0, SLOW_ROWS) as server, fresh(0, SLOW_ROWS) as folder:
        alone = bare(folder, server, SLOW_ROWS)
    with stub(LATENCY, 0, SLOW_ROWS) as server, fresh(0, SLOW_ROWS) as folder:
        made = batch(folder, server, SLOW_ROWS, "--workers", str(WORKERS))
    with stub(LATENCY, 0, SINGLE_ROWS) as server, fresh(0, SINGLE_ROWS) as folder:
        single = batch(folder, server, SINGLE_ROWS)
    return [
        Row(f"{IN_FLIGHT} in flight, {LATENCY:g} s an answer, {SLOW_ROWS:,} rows: the ideal", f"{ideal:g} rows/s"),
        Row("the bare SDK loop, whole and steady", rates(alone)),
        Row(f"the batch, gate in {WORKERS} processes, whole and steady", rates(made)),
        Row("its whole rate, of the ideal", f"{held(made.rate / ideal, LEAST_SHARE):.1%}", least),
        Row("its whole rate, of the bare loop's", f"{made.rate / alone.rate:.2f}"),
        Row("rows that gate and variety refused", f"{1 - made.accepted / made.rows:.1%}"),
        Row(f"the same, all in one process, {SINGLE_ROWS} rows, whole and steady", rates(single)),
    ]


def quick_rows() -> list[Row]:
    """Measure the ceiling: the server is so fast that only this machine is measured."""
    with stub(QUICK, 0, QUICK_ROWS) as server, fresh(0, QUICK_ROWS) as folder:
        alone = bare(folder, server, QUICK_ROWS)
    with stub(QUICK, 0, QUICK_ROWS) as server, fresh(0, QUICK_ROWS) as folder:
        made = batch(folder, server, QUICK_ROWS, "--workers", str(WORKERS))
    return [
        Row(f"{QUICK:g} s an answer, {QUICK_ROWS:,} rows: the bare SDK loop, whole and steady", rates(alone)),
        Row(f"the batch, gate in {WORKERS} processes, whole and steady", rates(made)),
        Row("its steady rate", f"{held(made.steady, LEAST_RATE):.1f} rows/s", f"≥ {LEAST_RATE:g}"),
        Row("its steady rate, of the bare loop's", f"{made.steady / alone.steady:.2f}"),
        Row("CPU time a row: the bare loop, the batch without its gate", f"{alone.cpu:.1f}, {made.cpu:.1f} ms"),
        Row("rows that gate and variety refused", f"{1 - made.accepted / made.rows:.1%}"),
        Row("resident memory of the batch without its gate", f"{made.megabytes:.0f} MB", "≤ 250 MB"),
    ]


def rates(run: Run) -> str:
    """Return a run's rates as text."""
    return f"{run.rate:.1f}, {run.steady:.1f} rows/s"


broken: list[float] = []


def held(measured: float, least: float) -> float:
    """Return what was measured, and note when it is below its limit."""
    if measured < least:
        broken.append(measured)
    return measured


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        asyncio.run(bare_loop(sys.argv[2]))
    elif sys.argv[1:2] == ["gate"]:
        print(json.dumps(judge_all()))
    else:
        print_table((gate_rows, slow_rows, quick_rows))
        sys.exit(1 if broken else 0)
