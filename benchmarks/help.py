"""Measure how soon the command starts, compared with a similar program; prints one table.

    python -m benchmarks.help

The other is `llm`, a well-known command for language models in Python. It is installed with pip into a
virtual environment of its own, which is removed in the end. The two are run in turns, under the same load.
"""

import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.processes import SYNOPSIS, Sample, measure, median
from benchmarks.table import Row, print_table

RUNS = 11


def middle(samples: Sequence[Sample]) -> float:
    """Return the median of the seconds."""
    return statistics.median(sample.seconds for sample in samples)


def import_rows() -> list[Row]:
    """Measure the bare import of this package and of Typer."""
    package = measure([sys.executable, "-c", "import synopsis_writer"], RUNS)
    empty = measure([sys.executable, "-c", "pass"], RUNS)
    typer = measure([sys.executable, "-c", "import typer"], RUNS)
    gap = middle(package) - middle(empty)
    return [
        Row("`import synopsis_writer` beyond the bare interpreter", f"{gap * 1000:.0f} ms", "≤ 50 ms"),
        Row("the bare `import typer`", median(typer)),
    ]


def help_rows() -> list[Row]:
    """Measure `synopsis --help` and `llm --help`."""
    with tempfile.TemporaryDirectory() as folder:
        llm, version = install_llm(Path(folder))
        own: list[Sample] = []
        other: list[Sample] = []
        for _ in range(RUNS):
            own += measure([SYNOPSIS, "--help"], 1)
            other += measure([llm, "--help"], 1, LLM_USER_PATH=folder)
    return [
        Row("`synopsis --help`", median(own), "≤ 0.35 s"),
        Row(f"`llm --help` ({version})", median(other)),
        Row("the first in parts of the second", f"{middle(own) / middle(other):.2f}", "≤ 0.35"),
    ]


def install_llm(folder: Path) -> tuple[str, str]:
    """Install `llm` into a virtual environment in `folder`; return its command and its version."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "llm"]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    llm = str(folder / "bin" / "llm")
    said = subprocess.run([llm, "--version"], check=True, capture_output=True, encoding="utf-8")
    return llm, said.stdout.split()[-1]


SECTIONS: tuple[Callable[[], list[Row]], ...] = (import_rows, help_rows)

if __name__ == "__main__":
    print_table(SECTIONS)
