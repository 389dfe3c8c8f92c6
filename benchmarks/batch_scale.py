"""Measure 100,000 rows: memory, the start of a resume, exports; prints one table. Takes 15 minutes.

    python -m benchmarks.batch_scale [ROWS]

Most rows are put into the record as the engine does it, by `BatchStore.save` and `Variety.add`, without
asking anybody; the real command makes the first one, 300 at a tenth and 300 at half of the rows, and the last
tenth, and is looked at meanwhile.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import NamedTuple

from benchmarks.batch import IN_FLIGHT, WORKERS, Server, command_of, environment_of, held, resident, stub
from benchmarks.batch_texts import written
from benchmarks.processes import SYNOPSIS
from benchmarks.table import Row, print_table
from synopsis_writer.batch.store import BatchStore, read_batch
from synopsis_writer.batch.variety import Variety
from synopsis_writer.brief import Brief
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import load_settings
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import NO_COST, Usage
from synopsis_writer.workspace import open_workspace

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
TRIED = min(300, ROWS // 50)  # rows that the real command makes where only its memory is looked at
MOST_MEGABYTES, MOST_SECONDS, LEAST_RATE = 250, 3.0, 5000
QUICK = 0.01  # seconds that the stub takes
_CHUNK = 500


class Look(NamedTuple):
    """What a run of the real command looked like: seconds up to its first request, and megabytes."""

    start: float
    first: float
    last: float
    most: float
    rate: float


def scale_rows() -> Iterator[Row]:
    """Fill a record step by step, and run the real command in between."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = make_texts(folder)
        yield Row(f"making {ROWS:,} texts and their briefs", f"{made:.0f} s")
        looks = []
        for done in (0, ROWS // 10, ROWS // 2):
            fill(folder, done)
            looks.append(look(folder, done, TRIED if done else 1))
        seconds = fill(folder, ROWS - ROWS // 10)
        yield Row("saving a row and taking it into the index of variety", f"{seconds * 1000:.2f} ms")
        rest = look(folder, ROWS - ROWS // 10, None)
        sizes = [f"{one.most:.0f}" for one in looks[1:]]
        most = max(one.most for one in (*looks, rest))
        yield Row(f"resident memory with {ROWS // 10:,} and {ROWS // 2:,} rows saved", f"{' and '.join(sizes)} MB")
        yield Row(
            f"from {ROWS - ROWS // 10:,} to {ROWS:,} rows: at the start, at the end, at the most",
            f"{rest.first:.0f}, {rest.last:.0f}, {-held(-most, -MOST_MEGABYTES):.0f} MB",
            f"≤ {MOST_MEGABYTES} MB",
        )
        yield Row("these rows by the real command", f"{rest.rate:.1f} rows/s")
        yield Row(
            f"from the command to its first request, {ROWS - ROWS // 10:,} rows done",
            f"{-held(-rest.start, -MOST_SECONDS):.2f} s",
            f"≤ {MOST_SECONDS:g} s",
        )
        yield Row("the same with no row done", f"{looks[1].start:.2f} s with {ROWS // 10:,}, {looks[0].start:.2f} s")
        size = (folder / "out" / "batch.sqlite3").stat().st_size / 1e6
        yield Row("size of the record", f"{size:.0f} MB")
        yield from exports(folder)


def make_texts(folder: Path) -> float:
    """Write all briefs and texts, one line each, in two processes; return the seconds."""
    started = time.perf_counter()
    with (
        ProcessPoolExecutor(2) as pool,
        (folder / "briefs.jsonl").open("w", encoding="utf-8") as briefs,
        (folder / "texts.jsonl").open("w", encoding="utf-8") as texts,
    ):
        for chunk in pool.map(made_texts, range(0, ROWS, _CHUNK)):
            for brief, text in chunk:
                briefs.write(brief + "\n")
                texts.write(text + "\n")
    return time.perf_counter() - started


def made_texts(first: int) -> list[tuple[str, str]]:
    """Return some briefs and texts as JSON."""
    some = map(written, range(first, min(first + _CHUNK, ROWS)))
    return [
        (json.dumps({"id": f"row-{one.number}", **one.brief.as_data()}, ensure_ascii=False), one.synopsis.as_json())
        for one in some
    ]


def fill(folder: Path, upto: int) -> float:
    """Save the pending rows up to a given one, as the engine does; return the seconds per row."""
    if not upto:
        return 0.0
    workspace = open_workspace(load_settings({}))
    with read_batch(folder / "out") as reader:
        origin = next(reader.accepted()).provenance  # what the real command wrote of its row
        kept = {name for (name,) in reader.query("SELECT id FROM rows WHERE status != 'pending'")}
    with (
        BatchStore(folder / "out", {}) as store,
        (folder / "briefs.jsonl").open(encoding="utf-8") as briefs,
        (folder / "texts.jsonl").open(encoding="utf-8") as texts,
    ):
        variety = Variety(store.database, store.text)
        spent, count = 0.0, 0
        for brief_line, text in islice(zip(briefs, texts, strict=True), upto):
            fields = json.loads(brief_line)
            row = fields.pop("id")
            if row in kept:
                continue
            show = workspace.find_show(Brief.model_validate(fields).show)
            synopsis = Synopsis.model_validate_json(text)
            done = RowResult(
                row,
                "accepted",
                "",
                synopsis,
                origin,
                (Attempt(1, Answer(text.strip()), problem=""),),
                Usage(5500, 700),
                NO_COST,
                2.0,
            )
            started = time.perf_counter()
            store.save(done)
            variety.load([(row, synopsis, show)])
            spent += time.perf_counter() - started
            count += 1
    return spent / max(1, count)


def look(folder: Path, first: int, limit: int | None) -> Look:
    """Run the real command on the rows from a given one on, and measure its memory ten times a second."""
    last = ROWS if limit is None else first + limit + TRIED
    with stub(QUICK, first, min(last, ROWS)) as server:
        flags = ["--workers", str(WORKERS), "--quiet"] + ([] if limit is None else ["--limit", str(limit)])
        return _followed(folder, server, flags)


def _followed(folder: Path, server: Server, flags: list[str]) -> Look:
    megabytes = []
    started = time.time()
    with Popen([*command_of(server), *flags], cwd=folder, env=environment_of(folder), stdout=DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.1)
            try:
                megabytes.append(resident(process.pid))
            except (OSError, StopIteration):  # it has just ended
                break
    came = server.came()
    if process.returncode not in (0, 1) or not came:
        raise SystemExit(f"the command ended with {process.returncode} after {len(came)} requests")
    settled = megabytes[min(len(megabytes) - 1, 50) :]  # after five seconds all is loaded
    rate = (len(came) - IN_FLIGHT) / max(1e-9, came[-1] - came[0]) if len(came) > IN_FLIGHT else 0.0
    return Look(came[0] - started, settled[0], settled[-1], max(megabytes), rate)


def exports(folder: Path) -> Iterator[Row]:
    """Measure the four exports, each as a command."""
    with read_batch(folder / "out") as reader:
        count = reader.counts().accepted
    for kind in ("jsonl", "csv", "parquet", "md"):
        megabytes = [0.0]
        started = time.perf_counter()
        with Popen(
            [SYNOPSIS, "batch", "export", "out", "--format", kind, "-o", f"texts-{kind}"], cwd=folder, stderr=DEVNULL
        ) as process:
            while process.poll() is None:
                time.sleep(0.05)
                try:
                    megabytes.append(resident(process.pid))
                except (OSError, StopIteration):
                    break
        rate = count / (time.perf_counter() - started)
        if process.returncode:
            raise SystemExit(f"the export as {kind} ended with {process.returncode}")
        yield Row(
            f"export as {kind}, whole command; its memory at the most",
            f"{held(rate, LEAST_RATE if ROWS >= 50_000 else 0):,.0f} rows/s; {max(megabytes):.0f} MB",
            f"≥ {LEAST_RATE:,} rows/s",
        )
    yield Row("the bare making of these files, which the disk bounds", f"{bare_files(folder):,.0f} a second")


def bare_files(folder: Path) -> float:
    """Write the files of the md export once more, and return how many per second."""
    spent, count = 0.0, 0
    for path in (folder / "texts-md").glob("*/*.md"):
        content = path.read_bytes()
        copy = folder / "bare" / path.relative_to(folder / "texts-md")
        copy.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with copy.open("xb") as file:
            file.write(content)
        spent += time.perf_counter() - started
        count += 1
    return count / spent


if __name__ == "__main__":
    from benchmarks.batch import broken

    print_table((scale_rows,))
    sys.exit(1 if broken else 0)
