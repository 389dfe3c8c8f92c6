"""Measure the report of 1,000 results, made from the test corpus's texts; prints one table.

    python -m benchmarks.report

The rows are made as those of the browser tests: about half of them were accepted at once, the others have up
to three answers, each refused one damaged and judged by the gate.
"""

import time

from benchmarks.table import Row, print_table
from synopsis_writer.evals.report import render_report
from tests.browser.run_data import REAL, corpus, info_of, results_of, scored_rows

RESULTS = 1_000
REPEATS = 8


def report_rows() -> list[Row]:
    """Measure rendering, the library's import included, and the size of the page."""
    scored = list(scored_rows(corpus(), REAL, REPEATS))[:RESULTS]
    if len(scored) < RESULTS:
        raise SystemExit(f"{len(scored)} results are too few: raise REPEATS")
    info = info_of(corpus(), REAL, REPEATS)
    run = results_of(info, scored, corpus())
    assert run.groups
    begun = time.perf_counter()
    page = render_report(run)
    seconds = time.perf_counter() - begun
    answers = sum(len(each.row.attempts) for each in scored)
    return [
        Row(f"report of {RESULTS:,} results with {answers:,} answers", f"{seconds:.1f} s", "≤ 5 s"),
        Row("its size", f"{len(page.encode('utf-8')) / 1e6:.1f} MB", "≤ 15 MB"),
    ]


if __name__ == "__main__":
    print_table((report_rows,))
