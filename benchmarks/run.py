"""Measure what a user of the command waits for; prints one table.

    python -m benchmarks.run

Times are whole processes (median of the runs), memory is the peak resident set of the process. Each figure
that depends on a library is set beside the bare library in the same run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processes import SYNOPSIS, Sample, measure, median
from benchmarks.table import Row, print_table
from synopsis_writer.examples import load_example
from synopsis_writer.settings import load_settings
from tests.support.loopback import LoopbackServer, Reply

ROOT = Path(__file__).resolve().parent.parent
CASE = ROOT / "tests" / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md"
THEME = "Ein Chirurg verliert nach einem Schlaganfall das Gefühl in der Hand"


def first_request_row() -> list[Row]:
    """Measure from the command to its first request, and the bare import of the SDK."""
    answer = load_example(CASE).synopsis.as_json()
    seconds = []
    with LoopbackServer([Reply(answer)]) as server, tempfile.TemporaryDirectory() as out:
        command = [SYNOPSIS, "write", "--show", "Rote Rosen", "--theme", load_example(CASE).brief.theme]
        command += ["--form", "portrait", "--out", out]
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url}
        for _ in range(6):
            asked = len(server.requests)
            started = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(server.requests) == asked:
                time.sleep(0.001)
            seconds.append(time.perf_counter() - started)
            process.wait()
    samples = [Sample(second, 0) for second in seconds[1:]]
    return [
        Row("from `synopsis write` to its first request", median(samples), "≤ 2 s"),
        Row("the bare `import openai`", median(measure([sys.executable, "-c", "import openai"], 5)), ""),
    ]


def embedded_rows() -> list[Row]:
    """Measure a whole write on the packaged model: alone, and while another process keeps a core busy."""
    cache = str(load_settings({}).cache)
    with tempfile.TemporaryDirectory() as out:
        command = [SYNOPSIS, "write", "--show", "In aller Freundschaft", "--theme", THEME, "--out", out]
        environment = {"SYNOPSIS_MODEL": "packaged", "SYNOPSIS_CACHE": cache}
        quiet = measure(command, 3, **environment)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 2)]
        try:
            loaded = measure(command, 3, **environment)
        finally:
            for process in busy:
                process.kill()
                process.wait()
    peak = max(sample.megabytes for sample in [*quiet, *loaded])
    return [
        Row("`synopsis write` on the packaged model", median(quiet), ""),
        Row("the same, every core busy with another process", median(loaded), "≤ 60 s"),
        Row("its peak memory", f"{peak:.0f} MB", "≤ 600 MB"),
    ]


SECTIONS: tuple[Callable[[], list[Row]], ...] = (first_request_row, embedded_rows)

if __name__ == "__main__":
    print_table(SECTIONS)
