"""A storm of 1,000 writes against a server that fails two calls in five; prints one table.

    python -m benchmarks.storm

Every brief must be saved once, or reported with its reason; the calls beyond one a brief must be no more than
the faults and a twentieth of them.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table
from tests.support.storm import KEY, storm

WRITES = 1000


def storm_rows() -> list[Row]:
    """Run the storm, and count."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        started = time.perf_counter()
        tally = asyncio.run(storm(WRITES, folder))
        seconds = time.perf_counter() - started
        leaks = sum(KEY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    lost = set(range(WRITES)) - set(tally.saved) - set(tally.reported)
    twice = [number for number, count in tally.saved.items() if count > 1 or number in tally.reported]
    return [
        Row(f"briefs of {WRITES} saved once", str(len(tally.saved))),
        Row("reported with their reason", str(len(tally.reported))),
        Row("put off by a limit of hours or an outage, and begun again", str(tally.postponed)),
        Row("lost", str(len(lost)), "0"),
        Row("saved twice, or saved and reported", str(len(twice)), "0"),
        Row("calls, of which faults and bad answers", f"{tally.calls}, {tally.faults}"),
        Row("calls beyond one a brief", str(tally.calls - WRITES), f"≤ {tally.faults * 1.05:.0f}"),
        Row("files and lines that hold the key", str(leaks + sum(KEY in line for line in tally.messages)), "0"),
        Row("time, 16 side by side", f"{seconds:.0f} s"),
    ]


if __name__ == "__main__":
    print_table((storm_rows,))
