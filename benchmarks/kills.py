"""Kill a run of 200 rows 25 times at random moments, and count; prints one table.

    python -m benchmarks.kills

Every row must be saved once, and what is paid twice must be no more than what was in flight at a kill.
"""

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table
from tests.support.kills import Toll, kill_often

ROWS, KILLS, IN_FLIGHT = 200, 25, 4


def kill_rows(toll: Toll, seconds: float) -> list[Row]:
    """Return the counts as rows of a table."""
    lost = ROWS - toll.statuses["accepted"]
    paid_twice = toll.calls - ROWS
    most = max(killed.lost for killed in toll.kills)
    in_log = sum(killed.in_log for killed in toll.kills)
    orphans = sum(len(killed.orphans) for killed in (*toll.kills, toll.last))
    return [
        Row("rows", str(ROWS)),
        Row("kills, of which while SQLite wrote", f"{KILLS}, {in_log}"),
        Row("saved once", str(sum(count == 1 for count in toll.answers.values())), str(ROWS)),
        Row("lost", str(lost), "0"),
        Row("saved twice", str(toll.saved_twice), "0"),
        Row("records that SQLite finds a fault in", str(int(not toll.is_whole)), "0"),
        Row("processes left behind", str(orphans), "0"),
        Row("calls", str(toll.calls)),
        Row("paid twice", str(paid_twice), f"≤ {IN_FLIGHT} rows in flight x {KILLS} = {IN_FLIGHT * KILLS}"),
        Row("the most at one kill", str(most), f"≤ {IN_FLIGHT}"),
        Row("time", f"{seconds:.0f} s"),
    ]


def holds(toll: Toll) -> bool:
    """Whether all limits are kept."""
    return (
        toll.statuses == {"accepted": ROWS}
        and len(toll.answers) == ROWS
        and toll.saved_twice == 0
        and toll.is_whole
        and all(0 <= killed.lost <= IN_FLIGHT and not killed.orphans for killed in toll.kills)
    )


def main() -> int:
    """Run the scenario, print the table, and return 1 if a limit is broken."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        toll = kill_often(
            Path(place).resolve(), rows=ROWS, kills=KILLS, in_flight=IN_FLIGHT, flags=("--variety", "off")
        )
        seconds = time.perf_counter() - started
    print_table((lambda: kill_rows(toll, seconds),))
    return 0 if holds(toll) else 1


if __name__ == "__main__":
    sys.exit(main())
