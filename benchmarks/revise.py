"""Measure what revising a text takes beside the model, and the gate's part of it; prints one table.

    python -m benchmarks.revise

Each good text of the test corpus is saved, and revised with an answer that is there at once: reading the
file, its versions in the log, the prompt, the answer, the gate and saving are what takes time.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gate import CORPUS
from benchmarks.table import Row, print_table
from synopsis_writer.brief import Brief
from synopsis_writer.document import format_document
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.gate.finding import Finding
from synopsis_writer.log import RunLog
from synopsis_writer.show import Show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.writer import Writer


@dataclass
class TimedGate:
    """A writer's gate, and the seconds it has taken."""

    writer: Writer
    seconds: float = 0.0

    async def examine(self, synopsis: Synopsis, brief: Brief, show: Show, **more: Any) -> tuple[Finding, ...]:
        """Check a synopsis."""
        started = time.perf_counter()
        findings = await self.writer.examine(synopsis, brief, show, **more)
        self.seconds += time.perf_counter() - started
        return findings


def new_version(example: Example) -> str:
    """Return the answer of a model that has changed one sentence."""
    first, *rest = example.synopsis.paragraphs
    changed = first.model_copy(update={"text": f"{first.text} Der Tag geht, und alle schweigen."})
    return example.synopsis.model_copy(update={"paragraphs": (changed, *rest)}).as_json()


async def measure(examples: Sequence[Example], folder: Path) -> tuple[list[float], list[float]]:
    """Return, for each text, the seconds of a whole revision and those of its gate."""
    client = ScriptedClient(map(new_version, examples))
    wholes, gates = [], []
    log = RunLog(folder / "runs.sqlite3")
    async with Writer(client=client, log=log, attempts=1) as writer:
        await writer.warm_up()
        for number, example in enumerate(examples):
            meta = {"brief": example.brief.as_data(), **example.synopsis.front_matter()}
            path = folder / f"{number}.md"
            path.write_text(format_document(meta, example.synopsis.text), encoding="utf-8")
            gate = TimedGate(writer)
            writer.examiner = gate.examine
            started = time.perf_counter()
            revised = await writer.revise(path, "Ein Satz mehr im ersten Absatz")
            if revised.is_accepted:
                writer.save_revised(revised)
            wholes.append(time.perf_counter() - started)
            gates.append(gate.seconds)
    log.close()
    return wholes, gates


def rows() -> list[Row]:
    """Measure each text once."""
    with tempfile.TemporaryDirectory() as folder:
        wholes, gates = asyncio.run(measure(load_pool([CORPUS]).examples, Path(folder)))
    whole, gate = statistics.median(wholes[1:]), statistics.median(gates[1:])
    return [
        Row("a revision beside the model, median", f"{whole * 1000:.1f} ms"),
        Row("the gate's part of it", f"{gate * 1000:.1f} ms"),
        Row("the first divided by the second", f"{whole / gate:.2f}", "≤ 1.5"),
    ]


if __name__ == "__main__":
    print_table([rows])
