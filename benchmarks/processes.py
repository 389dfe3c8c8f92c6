"""Whole processes, measured as their user sees them."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SYNOPSIS = str(Path(sys.executable).with_name("synopsis"))


@dataclass(frozen=True)
class Sample:
    """One run of a process: seconds of wall time, and megabytes at its peak."""

    seconds: float
    megabytes: float


def measure(command: Sequence[str], runs: int, **environment: str) -> list[Sample]:
    """Run a command several times, after one run that does not count."""
    samples = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, _, usage = os.wait4(process.pid, 0)
        samples.append(Sample(time.perf_counter() - started, usage.ru_maxrss / 1024))
    return samples[1:]


def median(samples: Sequence[Sample]) -> str:
    """Return median and range of the seconds."""
    seconds = [sample.seconds for sample in samples]
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}–{max(seconds):.2f})"
