"""`kill -9` at random moments of a batch, and what the record and the server show afterwards."""

import csv
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.examples import load_example
from tests.support.forked import Forked
from tests.support.loopback import LoopbackServer, Reply, Request, Step
from tests.support.terminal import COMMAND, CORPUS

_LATEST = 0.05  # seconds after an answer in which most of a row's checks and its saving lie


@dataclass(frozen=True)
class Killed:
    """One run: the calls that the server got from it, the rows it saved, and its orphans.

    Attributes:
        calls: calls of this run.
        saved: rows it saved.
        orphans: processes that it left behind.
        in_log: whether it was killed while SQLite wrote.
    """

    calls: int
    saved: int
    orphans: tuple[str, ...]
    in_log: bool

    @property
    def lost(self) -> int:
        """Calls that were paid and whose rows are not saved: they were in flight."""
        return self.calls - self.saved


@dataclass(frozen=True)
class Toll:
    """What became of a batch.

    Attributes:
        rows: of the batch.
        in_flight: rows side by side.
        statuses: rows by their status, at the end.
        answers: answers kept, by their row.
        kills: the runs that were killed.
        last: the run that ended by itself.
        is_whole: whether SQLite finds no fault in the record after any of the kills.
        code: what the last run exited with.
        messages: what it printed on stderr.
    """

    rows: int
    in_flight: int
    statuses: Counter[str]
    answers: Counter[str]
    kills: tuple[Killed, ...]
    last: Killed
    is_whole: bool
    code: int
    messages: str

    @property
    def calls(self) -> int:
        """All calls."""
        return self.last.calls + sum(killed.calls for killed in self.kills)

    @property
    def saved_twice(self) -> int:
        """Rows that have more than one answer."""
        return sum(count > 1 for count in self.answers.values())


class Corpus(LoopbackServer):
    """Answers each brief with the text of the corpus that belongs to its theme; a call takes a while.

    Args:
        themes: the answer to each theme.
        seconds: how long a call takes.
    """

    def __init__(self, themes: dict[str, str], seconds: float) -> None:
        super().__init__([])
        self._themes, self._seconds = themes, seconds

    def answer(self, request: Request) -> Step:
        """Record a request, and return the text of its theme."""
        step = super().answer(request)
        if not request.path.endswith("/chat/completions"):
            return step
        self.stopping.wait(self._seconds)
        asked = request.body["messages"][-1]["content"]
        return next(Reply(text) for theme, text in self._themes.items() if theme in asked)


def write_briefs(path: Path, rows: int) -> dict[str, str]:
    """Write a table of so many briefs, taken in turn from the corpus; return the answer to each theme."""
    examples = [load_example(found) for found in sorted(CORPUS.glob("*/*.md"))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "show", "theme", "form", "notes"])
        for number in range(rows):
            brief = examples[number % len(examples)].brief
            writer.writerow([f"row-{number}", brief.show, brief.theme, brief.form, brief.notes or ""])
    return {example.brief.theme: example.synopsis.as_json() for example in examples}


def kill_often(
    folder: Path, *, rows: int, kills: int, in_flight: int, flags: Sequence[str] = (), seed: int = 1
) -> Toll:
    """Run a batch that is killed so many times and then ends by itself.

    Every other kill comes at a random moment after an answer; the rest as soon as SQLite's log grows, which
    is while a row is being saved.
    """
    themes = write_briefs(folder / "briefs.csv", rows)
    rng = random.Random(seed)
    runs: list[Killed] = []
    saved, is_whole = 0, True
    for number in range(kills + 1):
        in_log = False
        with Corpus(themes, 0.005) as server:
            process = _start(folder, ["--concurrency", str(in_flight), *flags], server)
            if number < kills:
                # No more is answered, so that rows are left for the other runs however late the kill comes.
                wanted = rng.randint(1, rows // (kills + 1))
                server.allow(wanted - 1)
                while len(server.chats) < wanted and process.poll() is None:
                    time.sleep(0.001)
                log = _log_state(folder)
                server.allow(wanted)
                if number % 2 == 0:
                    in_log = _log_changes(folder, log, process)
                else:
                    time.sleep(rng.random() * _LATEST)
                process.kill()
            code = process.wait(timeout=180)
        orphans = _left_behind(folder)
        is_whole = is_whole and _check(folder)
        before, saved = saved, _statuses(folder)["accepted"]
        runs.append(Killed(len(server.chats), saved - before, orphans, in_log))
    messages = (folder / "message").read_text(encoding="utf-8")
    *killed, last = runs
    return Toll(rows, in_flight, _statuses(folder), _answers(folder), tuple(killed), last, is_whole, code, messages)


def _start(folder: Path, flags: Sequence[str], server: LoopbackServer) -> Forked[bytes]:
    arguments = ["batch", "run", "briefs.csv", "--out", "out", "--attempts", "1", *flags]
    environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-run"}
    with (folder / "message").open("wb") as message:
        return Forked([COMMAND, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=message)


def _log_changes(folder: Path, before: tuple[int, int], process: Forked[bytes]) -> bool:
    """Wait until SQLite writes its log; return False where the run ended instead."""
    while process.poll() is None:
        for _ in range(200):
            if _log_state(folder) != before:
                return True
    return False


def _log_state(folder: Path) -> tuple[int, int]:
    try:
        found = (folder / "out" / "batch.sqlite3-wal").stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _left_behind(folder: Path, seconds: float = 120.0) -> tuple[str, ...]:
    """Return the command lines of processes that a run left behind, once they had time to notice."""
    ends = time.monotonic() + seconds
    while (found := processes(folder)) and time.monotonic() < ends:
        time.sleep(0.01)
    return found


def processes(folder: Path) -> tuple[str, ...]:
    """Return the command lines of the processes that were started in a folder; only on Linux."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.joinpath("cwd").readlink() == folder and (line := place.joinpath("cmdline").read_bytes()):
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has gone, or is another user's
    return tuple(found)


def _read(folder: Path, query: str) -> list[tuple[str, int]]:
    """Ask a copy of the record: what a kill left in SQLite's log is for the next start to find."""
    with tempfile.TemporaryDirectory() as place:
        for found in (folder / "out").glob("batch.sqlite3*"):
            shutil.copy(found, place)
        database = sqlite3.connect(Path(place) / "batch.sqlite3")
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()


def _check(folder: Path) -> bool:
    return [found[0] for found in _read(folder, "PRAGMA integrity_check")] == ["ok"]


def _statuses(folder: Path) -> Counter[str]:
    return Counter(dict(_read(folder, "SELECT status, count(*) FROM rows GROUP BY status")))


def _answers(folder: Path) -> Counter[str]:
    return Counter(dict(_read(folder, "SELECT row, count(*) FROM answers GROUP BY row")))
