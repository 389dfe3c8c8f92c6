"""Measure what a house costs: learning one from 200 texts, and the gate on short ones; prints one table.

    python -m benchmarks.house

The 200 texts are drawn from the sentences of the examples and of the houses in `tests/houses`: about 90 words
each, of twenty shows. No model is asked. Times are of the processor, so that other work does not count.
"""

import contextlib
import io
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.table import Row, print_table
from synopsis_writer.cli.app import run
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.workspace import open_workspace
from tests.houses.corpora import HOUSES, load

TEXTS, WORDS, SHOWS = 200, 90, 20
RUNS = 9  # of `check`


def sentences() -> list[str]:
    """Return the sentences that texts are drawn from."""
    texts = [path.read_text(encoding="utf-8").split("---\n", 2)[2] for path in folder("examples").glob("*/*-*.md")]
    texts += [text.text for house in HOUSES if house != "schweiz" for half in load(house) for text in half]
    return [sentence.text for text in texts for sentence in analyse(text).sentences if sentence.length > 3]


def write_texts(home: Path) -> None:
    """Write 200 texts of about 90 words."""
    dice, pool = random.Random(1), sentences()
    for number in range(TEXTS):
        told: list[str] = []
        while len(" ".join(told).split()) < WORDS - 8:
            told.append(dice.choice(pool))
        path = home / f"Serie {number % SHOWS}" / f"{number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(told) + "\n", encoding="utf-8")


def learn_rows(home: Path) -> list[Row]:
    """Measure `house learn`, the proof included."""
    write_texts(home / "in")
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(["house", "learn", str(home / "in"), "--out", str(home / "house")])
    taken = time.process_time() - started
    return [
        Row(f"house learn on {TEXTS} texts of {WORDS} words" + " (failed)" * (code != 0), f"{taken:.1f} s", "≤ 60 s")
    ]


def check_rows(home: Path) -> list[Row]:
    """Measure `check` on one file, the whole process from cold."""
    path = min((home / "in").glob("*/*.txt"))
    command = [sys.executable, "-m", "synopsis_writer", "check", "--house", str(home / "house"), str(path)]
    times: list[float] = []
    clock: list[float] = []
    for _ in range(RUNS + 1):  # the first one fills the cache, and does not count
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock.append(time.perf_counter() - started)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    measured = f"{statistics.median(times[1:]):.2f} s ({statistics.median(clock[1:]):.2f} s by the clock)"
    return [Row("check on one file, from cold, median", measured, "≤ 0.6 s")]


def gate_rows(home: Path) -> list[Row]:
    """Measure the gate on short texts that it never saw, as a text of the house."""
    house = home / "house"
    workspace = open_workspace(load_settings({"house": house}))
    workspace.gate.warm_up()
    times: list[float] = []
    for text in load("presse").judge:
        subject = workspace.gate.subject(text.text, None, workspace.find_show(text.show), None, text.title)
        started = time.process_time()
        workspace.gate.judge(replace(subject, text=analyse(text.text)))
        times.append(time.process_time() - started)
    return [Row(f"the gate on a text of {WORDS} words, median", f"{statistics.median(times) * 1000:.1f} ms", "≤ 8 ms")]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        print_table([partial(learn_rows, home), partial(check_rows, home), partial(gate_rows, home)])


if __name__ == "__main__":
    main()
