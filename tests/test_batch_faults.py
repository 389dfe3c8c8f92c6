"""Batches through the real command on real folders, when kills, disks, signals, people and files go wrong."""

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synopsis_writer.batch.briefs import read_briefs
from synopsis_writer.formats.reading import plain_text
from tests.support.forked import ENDING, Forked, read_until, wait_for
from tests.support.kills import Corpus, kill_often, processes, write_briefs
from tests.support.loopback import Fault, LoopbackServer, Reply, Request, Silence, Step, closed_port
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, PATH, Run, Terminal

ROWS = 12
RUN = ("batch", "run", "briefs.csv", "--out", "out", "--attempts", "1")
OFF = ("--variety", "off")
QUICK = ("--variety", "off", "--cache", "off")


@pytest.fixture
def corpus(tmp_path: Path) -> Iterator[Corpus]:
    with Corpus(write_briefs(tmp_path / "briefs.csv", ROWS), 0.01) as server:
        yield server


def start(folder: Path, server: LoopbackServer, *flags: str, is_unprivileged: bool = False) -> Forked[bytes]:
    """Start a batch in a new process group, as a terminal does."""
    return Forked(
        [COMMAND, *RUN, *flags],
        is_unprivileged=is_unprivileged,
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> Run:
    out, err = process.communicate(timeout=120)
    assert b"Traceback" not in err, err.decode()
    return Run(process.returncode, out.decode(), err.decode())


def statuses(folder: Path, out: str = "out") -> list[str]:
    with sqlite3.connect(folder / out / "batch.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = [status for (status,) in database.execute("SELECT status FROM rows ORDER BY place")]
    database.close()
    return found


def answers(folder: Path, out: str = "out") -> list[str]:
    with sqlite3.connect(folder / out / "batch.sqlite3") as database:
        found = [row for (row,) in database.execute("SELECT row FROM answers")]
    database.close()
    return found


def last_line(run: Run) -> str:
    return run.err.splitlines()[-1]


# Kills


@pytest.mark.parametrize(("rows", "kills"), [(80, 10), pytest.param(200, 25, marks=pytest.mark.slow)])
def test_kills_lose_no_row_save_none_twice_and_pay_twice_for_no_more_than_was_in_flight(
    tmp_path: Path, rows: int, kills: int
) -> None:
    toll = kill_often(tmp_path, rows=rows, kills=kills, in_flight=4, flags=OFF)
    assert (toll.code, toll.statuses) == (0, {"accepted": rows}), toll.messages
    assert len(toll.answers) == rows
    assert toll.saved_twice == 0
    assert toll.is_whole
    assert all(0 <= killed.lost <= 4 for killed in toll.kills)
    assert toll.calls == rows + sum(killed.lost for killed in toll.kills)
    assert toll.last.lost == 0
    assert sum(killed.in_log for killed in toll.kills) >= 0.4 * kills


def test_kills_leave_no_process_behind_and_the_index_of_variety_whole(tmp_path: Path) -> None:
    toll = kill_often(tmp_path, rows=24, kills=2, in_flight=4, flags=("--workers", "1", "--disable", "variety"), seed=2)
    assert (toll.code, toll.statuses) == (0, {"accepted": 24}), toll.messages
    assert (len(toll.answers), toll.saved_twice, toll.is_whole) == (24, 0, True)
    assert all(0 <= killed.lost <= 6 for killed in toll.kills)  # four calls, and two rows that are checked
    assert [killed.orphans for killed in (*toll.kills, toll.last)] == [()] * 3
    with sqlite3.connect(tmp_path / "out" / "batch.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM variety_texts").fetchone() == (24,)
    database.close()


def test_a_row_that_was_being_repaired_at_a_kill_is_made_by_the_next_start(terminal: Terminal, tmp_path: Path) -> None:
    write_alike(tmp_path / "briefs.csv", 2)
    flags = ("--attempts", "2", "--concurrency", "2", "--cache", "off")
    with Same(2) as server:  # of two rows that came to the same one is saved, and the other is to be repaired
        process = start(tmp_path, server, *flags)
        wait_for(lambda: len(server.chats) > 2, process)
        process.kill()
        process.communicate()
    assert sorted(statuses(tmp_path)) == ["accepted", "pending"]
    with LoopbackServer([Reply(CLOSED)]) as server:
        done = terminal(*RUN, *flags, server=server)
    assert (done.code, sorted(statuses(tmp_path))) == (1, ["accepted", "refused"])


def write_alike(path: Path, rows: int, head: str = "id,show,theme,form") -> None:
    asked = f'Rote Rosen,"{GOOD.brief.theme}",portrait'
    path.write_text("\n".join([head, *(f"row-{number},{asked}" for number in range(rows))]), encoding="utf-8")


class Same(LoopbackServer):
    """Gives so many calls, once they are all there, the same answer, and none to any other."""

    def __init__(self, count: int, step: Step | None = None) -> None:
        super().__init__([])
        self._count = count
        self._step = step or Reply(ANSWER)

    def answer(self, request: Request) -> Step:
        super().answer(request)
        place = len(self.chats)
        while len(self.chats) < self._count and not self.stopping.wait(0.005):
            pass
        return self._step if place <= self._count else Silence(60)


# A server that wants to be left alone, or is not there

LONG_WAIT = "takes no more requests until "


def test_a_wait_of_hours_ends_a_batch_and_leaves_the_other_rows_pending(terminal: Terminal, tmp_path: Path) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", ROWS)
    with LoopbackServer([Reply(ANSWER)] * 2 + [Fault(429, {"retry-after": "7200"})]) as server:
        done = terminal(*RUN, *OFF, "--concurrency", "2", server=server)
        asked = len(server.chats)
    assert (done.code, done.out) == (3, "")
    assert LONG_WAIT in last_line(done)
    assert last_line(done).endswith("(in 2.0 h): run the same command again then")
    assert asked <= 4  # two answers, and a fault for each of two in flight
    assert set(statuses(tmp_path)) <= {"accepted", "refused", "pending"}
    assert statuses(tmp_path).count("pending") == ROWS - 2
    with Corpus(themes, 0.01) as server:
        assert terminal(*RUN, *OFF, "--retry", "refused", server=server).code == 0
    assert statuses(tmp_path) == ["accepted"] * ROWS


def test_five_rows_in_a_row_without_a_connection_end_a_batch(terminal: Terminal, tmp_path: Path) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", ROWS)
    with closed_port() as address:
        flags = ("--concurrency", "1", "--max-retries", "0", "--base-url", address)
        done = terminal(*RUN, *OFF, *flags)
    assert (done.code, done.out) == (3, "")
    assert "no connection: check --base-url" in last_line(done)
    assert last_line(done).endswith("5 calls in a row failed like this: run the same command again once it works")
    assert statuses(tmp_path) == ["failed"] * 4 + ["pending"] * (ROWS - 4)
    with Corpus(themes, 0.01) as corpus:
        assert terminal(*RUN, *OFF, "--retry", "failed", server=corpus).code == 0
    assert statuses(tmp_path) == ["accepted"] * ROWS


# A full disk


def run_limited(folder: Path, server: LoopbackServer, kilobytes: int, *arguments: str) -> Run:
    """Run the command where no file grows beyond a size, as on a full disk."""
    process = Forked[bytes](
        [COMMAND, *arguments],
        file_size=kilobytes * 1024,
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return ended(process)


def check_full(folder: Path, full: Run, server: Corpus, out: str) -> None:
    """Check what a full disk must not lose: the record is intact, and each answer saved or printed."""
    assert full.code == 2, full.err
    assert "what is saved stays; make room, and run the same again" in last_line(full)
    printed = [json.loads(line) for line in full.out.splitlines()]
    saved = answers(folder, out)
    assert saved
    assert printed
    assert len({*saved, *(line["id"] for line in printed)}) == len(saved) + len(printed) == len(server.chats)
    assert all(line["status"] == "accepted" and "title" in json.loads(line["answers"][0]) for line in printed)
    reported = f"{len(printed)} rows cannot be saved: their answers are printed, a line of JSON a row"
    assert reported in full.err
    assert statuses(folder, out).count("accepted") == len(saved)


def test_a_full_disk_keeps_what_was_saved_and_prints_what_was_paid(terminal: Terminal, tmp_path: Path) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", 32)
    assert terminal("check", str(PATH)).code == 0  # unpacks a model, which the limit would not let it do
    with Corpus(themes, 0.01) as server:
        full = run_limited(tmp_path, server, 220, *RUN, *QUICK, "--concurrency", "4")
        check_full(tmp_path, full, server, "out")
        again = terminal(*RUN, *QUICK, server=server)
    assert again.code == 0, again.err
    assert statuses(tmp_path) == ["accepted"] * 32
    assert len(set(answers(tmp_path))) == len(answers(tmp_path)) == 32


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root; the limit of a file's size is tested besides")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_batch_on_a_disk_that_fills_up_continues_when_there_is_room(
    terminal: Terminal, tmp_path: Path, small_disk: Path
) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", 48)
    order = ("batch", "run", "briefs.csv", "--out", "disk/out", "--attempts", "1", *QUICK)
    with Corpus(themes, 0.01) as server:
        full = terminal(*order, "--concurrency", "4", server=server)
        check_full(tmp_path, full, server, "disk/out")
        told = terminal("batch", "status", "disk/out")
        assert (told.code, "48 rows: " in told.out) == (0, True)
        for kind in ("jsonl", "csv", "md", "parquet"):
            before = sorted(small_disk.rglob("*"))
            exported = terminal("batch", "export", "disk/out", "--format", kind, "-o", "disk/told")
            assert (exported.code, exported.out) == (2, "")
            assert "no space left on device: name another" in exported.err
            assert sorted(small_disk.rglob("*")) == before
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
        again = terminal(*order, server=server)
    assert again.code == 0, again.err
    assert statuses(tmp_path, "disk/out") == ["accepted"] * 48


def test_a_disk_that_is_full_from_the_start_is_reported_and_the_same_command_continues(
    terminal: Terminal, tmp_path: Path, corpus: Corpus
) -> None:
    for kilobytes in (0, 60):
        full = run_limited(tmp_path, corpus, kilobytes, *RUN, *QUICK)
        assert (full.code, full.out) == (2, "")
        assert "disk" in last_line(full)
        assert not corpus.chats
    assert terminal(*RUN, *QUICK, server=corpus).code == 0
    assert statuses(tmp_path) == ["accepted"] * ROWS


@pytest.mark.parametrize("kind", ["jsonl", "csv", "md", "parquet"])
def test_an_export_that_a_full_disk_ends_leaves_nothing_half_written(begun: Path, corpus: Corpus, kind: str) -> None:
    (begun / "told").mkdir() if kind == "md" else (begun / "told").write_text("before", encoding="utf-8")
    before = sorted(begun.iterdir())
    full = run_limited(begun, corpus, 2, "batch", "export", "out", "--format", kind, "-o", "told")
    assert (full.code, full.out, len(full.err.splitlines())) == (2, "", 1)
    assert "told" in full.err
    assert sorted(begun.iterdir()) == before
    assert not any((begun / "told").iterdir()) if kind == "md" else (begun / "told").read_text("utf-8") == "before"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of which three rows are made."""
    folder = tmp_path_factory.mktemp("begun")
    with Corpus(write_briefs(folder / "briefs.csv", ROWS), 0.01) as server:
        done = Terminal(folder)(*RUN, *OFF, "--limit", "3", server=server)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def begun(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, as a folder to work in."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


# A folder that cannot be written


@pytest.fixture
def bound(terminal: Terminal) -> Callable[..., Run]:
    """Run the command as a user to whom file permissions apply: to root they do not."""

    def run(*arguments: str, server: LoopbackServer) -> Run:
        process = Forked[bytes](
            [COMMAND, *arguments],
            is_unprivileged=True,
            cwd=terminal.folder,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return ended(process)

    return run


@pytest.fixture
def closing(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Make the folder `out` read-only, and writable again at the end."""
    yield lambda: (tmp_path / "out").chmod(0o500)
    (tmp_path / "out").chmod(0o700)


def test_a_read_only_folder_is_reported_can_be_read_and_is_continued_later(
    begun: Path, corpus: Corpus, bound: Callable[..., Run], closing: Callable[[], None]
) -> None:
    closing()
    before = sorted((begun / "out").iterdir())
    for flags in ((), ("--fresh",)):
        refused = bound(*RUN, *OFF, *flags, server=corpus)
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (2, "", 1)
        assert any(reported in refused.err for reported in ("cannot be written", "permission denied"))
    told = bound("batch", "status", "out", server=corpus)
    assert (told.code, told.out.splitlines()[0]) == (
        0,
        f"{ROWS} rows: 3 accepted, 0 refused, 0 failed, {ROWS - 3} pending",
    )
    for kind in ("jsonl", "csv", "md", "parquet"):
        exported = bound("batch", "export", "out", "--format", kind, "-o", f"told.{kind}", server=corpus)
        assert (exported.code, exported.err) == (0, f"written: told.{kind} (3 texts)\n")
    assert sorted((begun / "out").iterdir()) == before
    (begun / "out").chmod(0o700)
    assert bound(*RUN, *OFF, server=corpus).code == 0
    assert statuses(begun) == ["accepted"] * ROWS


def test_a_folder_in_which_none_can_be_made_is_reported(
    begun: Path, corpus: Corpus, bound: Callable[..., Run], closing: Callable[[], None]
) -> None:
    closing()
    refused = bound("batch", "run", "briefs.csv", "--out", "out/deeper", server=corpus)
    assert refused.err == "synopsis: cannot write out/deeper: permission denied: name another --out\n"
    assert (refused.code, (begun / "out" / "deeper").exists()) == (2, False)


def test_a_folder_that_cannot_be_written_any_more_keeps_a_run_and_is_read_with_what_a_kill_left(
    tmp_path: Path, bound: Callable[..., Run], closing: Callable[[], None], terminal: Terminal
) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", 30)
    with Corpus(themes, 0.01) as server:
        server.allow(6)
        process = start(tmp_path, server, *OFF, "--concurrency", "2", is_unprivileged=True)
        wait_for(lambda: len(server.chats) == 8, process)
        closing()
        server.allow(12)
        wait_for(lambda: len(server.chats) == 14, process)
        process.kill()
        process.communicate()
        told = bound("batch", "status", "out", server=server)
        assert told.code == 0, told.err
        made = int(told.out.split(" rows: ")[1].split(" accepted")[0])
        assert made > 6
        exported = bound("batch", "export", "out", "--format", "csv", "-o", "x.csv", server=server)
        assert exported.err == f"written: x.csv ({made} texts)\n"
        (tmp_path / "out").chmod(0o700)
        asked = len(server.chats)
        process = start(tmp_path, server, *OFF, is_unprivileged=True)
        wait_for(lambda: len(server.chats) > asked, process)
        closing()
        server.allow()
        done = ended(process)
        assert (done.code, done.out.splitlines()[0]) == (0, "30 rows: 30 accepted, 0 refused, 0 failed, 0 pending")
    (tmp_path / "out").chmod(0o700)
    assert terminal(*RUN, *OFF, server=server).out == done.out
    assert len(answers(tmp_path)) == 30


# Signals and closed pipes


# The command; it waits at a function of the package until it may go on.
HELD = """
import pathlib, sys, time
from synopsis_writer.batch import run, store
from synopsis_writer.cli import main

module, name = sys.argv.pop(1).split(".")
held = getattr(globals()[module], name)

def hold(*arguments):
    pathlib.Path("held").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return held(*arguments)

setattr(globals()[module], name, hold)
main()
"""


@pytest.mark.parametrize("moment", ["store.FolderLock", "run.end_repairs", "run.GatePool"])
def test_ctrl_c_before_the_first_row_ends_before_anything_is_asked(tmp_path: Path, corpus: Corpus, moment: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, moment, *RUN, "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "OPENAI_BASE_URL": corpus.base_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for((tmp_path / "held").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    (tmp_path / "go").touch()
    done = ended(process)
    assert (done.code, last_line(done)) == (130, "synopsis: interrupted: run the same command again")
    assert not corpus.chats
    assert processes(tmp_path) == ()


def test_ctrl_c_with_checks_in_other_processes_saves_what_is_in_flight_and_leaves_none_behind(
    tmp_path: Path, corpus: Corpus
) -> None:
    corpus.allow(0)
    process = start(tmp_path, corpus, "--workers", "2", "--concurrency", "4")
    wait_for(lambda: corpus.chats, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too, while they load
    read_until(process, ENDING)
    corpus.allow()
    done = ended(process)
    assert done.code == 130
    assert "run the same command again" in done.err
    assert statuses(tmp_path).count("accepted") == len(corpus.chats) < ROWS
    assert processes(tmp_path) == ()


def test_ctrl_c_twice_ends_the_wait_of_a_retry_at_once(tmp_path: Path) -> None:
    write_briefs(tmp_path / "briefs.csv", 2)
    with Same(2, Fault(429, {"retry-after": "250"})) as server:
        process = start(tmp_path, server, *OFF)
        read_until(process, "trying again")
        os.killpg(process.pid, signal.SIGINT)
        read_until(process, "Ctrl-C again")
        os.killpg(process.pid, signal.SIGINT)
        done = ended(process)  # which gives it less time than the retry would wait
    assert (done.code, last_line(done)) == (130, "synopsis: interrupted: run the same command again")
    assert len(server.chats) == 2
    assert statuses(tmp_path) == ["pending"] * 2


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        ("2>&1 | head -n 1", 141),
        pytest.param("| head -c 0", 141, marks=pytest.mark.slow),
        pytest.param(">&- 2>&-", 0, marks=pytest.mark.slow),
        (">/dev/full", 2),
    ],
)
def test_output_that_nobody_reads_ends_no_work(begun: Path, corpus: Corpus, redirected: str, code: int) -> None:
    # Shows that are not known, so that there is something to say from the first row on.
    (begun / "out" / "batch.sqlite3").unlink()
    write_alike(begun / "briefs.csv", 3)
    briefs = (begun / "briefs.csv").read_text(encoding="utf-8").replace("Rote Rosen", "Neue Serie")
    (begun / "briefs.csv").write_text(briefs, encoding="utf-8")
    order = f"{COMMAND} {' '.join(RUN)} {' '.join(OFF)} --disable cast {redirected}"
    done = subprocess.run(
        ["bash", "-c", f"{order}\nexit ${{PIPESTATUS[0]}}"],
        cwd=begun,
        env={**os.environ, "OPENAI_BASE_URL": corpus.base_url},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stdout + done.stderr
    assert "pending" not in statuses(begun)
    assert done.returncode in {code, 1}  # 1 where the gate refused a row and that could be told


# Two at once


def test_while_a_run_is_active_others_read_and_do_not_write(terminal: Terminal, begun: Path, corpus: Corpus) -> None:
    with LoopbackServer([Silence(60)]) as silent:
        process = start(begun, silent, *OFF)
        wait_for(lambda: silent.chats, process)
        told = terminal("batch", "status", "out")
        assert (told.code, told.out.splitlines()[0]) == (
            0,
            f"{ROWS} rows: 3 accepted, 0 refused, 0 failed, {ROWS - 3} pending",
        )
        exported = terminal("batch", "export", "out", "--format", "jsonl", "-o", "told")
        assert (exported.code, exported.err) == (0, "written: told (3 texts)\n")
        before = sorted((begun / "out").iterdir())
        fresh = terminal(*RUN, *OFF, "--fresh", server=corpus)
        assert (fresh.code, fresh.err) == (
            2,
            f"synopsis: out: process {process.pid} is using this batch: wait for it, or name another --out\n",
        )
        assert sorted((begun / "out").iterdir()) == before
        process.kill()
        process.communicate()
    assert (begun / "out" / "batch.holder").exists()  # of the killed one: nobody is kept out by it
    assert terminal(*RUN, *OFF, server=corpus).code == 0
    assert statuses(begun) == ["accepted"] * ROWS
    assert not (begun / "out" / "batch.holder").exists()


def test_of_two_that_start_at_one_moment_one_makes_all_rows(tmp_path: Path, corpus: Corpus) -> None:
    corpus.allow(0)  # so that the first is at work when the second comes, however late
    both = [start(tmp_path, corpus, *OFF) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.005)
    corpus.allow()
    codes = {(done := ended(process)).code: done for process in both}
    assert sorted(codes) == [0, 2], codes
    assert " is using this batch: wait for it" in codes[2].err
    assert len(corpus.chats) == ROWS
    assert statuses(tmp_path) == ["accepted"] * ROWS


# Formulas

FORMULA = '=HYPERLINK("http://x.example";A1)'


def test_no_cell_of_an_exported_table_runs_and_its_columns_are_briefs_again(terminal: Terminal, tmp_path: Path) -> None:
    row = {
        "id": "@SUM(A1)",
        "show": "-2+3",
        "theme": FORMULA,
        "form": "episode",
        "character": "+49 | =B1",
        "beat": "=1+1 ist zwei | =C1 auch",
        "notes": "-1;=2+5;\t@A\n=3+4",
    }
    names = list(row)
    with (tmp_path / "briefs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerow(row.values())
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal(*RUN, server=server).code in {0, 1}
    evil = json.loads(ANSWER) | {"title": "=cmd|' /C calc'!A0", "logline": "+1 und dann"}
    evil["characters"] = [{"name": "=D1", "role": "@E1"}]
    evil["paragraphs"][0]["text"] = "-1;=2+5\n=7"
    with sqlite3.connect(tmp_path / "out" / "batch.sqlite3") as database:
        database.execute("UPDATE rows SET status = 'accepted', synopsis = ?", (json.dumps(evil),))
    database.close()
    assert terminal("batch", "export", "out", "--format", "csv", "-o", "told.csv").code == 0
    with (tmp_path / "told.csv").open(encoding="utf-8", newline="") as file:
        (told,) = csv.DictReader(file)
    for cell in told.values():
        # As a spreadsheet of another country parts them, which takes no notice of our quotes.
        parts = [part for line in cell.splitlines() for piece in line.split(";") for part in piece.split("\t")]
        assert not any(part.startswith(tuple("=+-@")) for part in parts), cell
    assert plain_text(told["title"]) == evil["title"]
    with (tmp_path / "again.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerow([told[name] for name in names])
    asked, again = read_briefs(tmp_path / "briefs.csv"), read_briefs(tmp_path / "again.csv")
    assert next(asked) == (read := next(again))
    assert read.brief.theme == FORMULA


# Checks of variety that are left out


def test_a_check_of_variety_is_left_out_by_name_and_belongs_to_batches_alone(
    terminal: Terminal, tmp_path: Path
) -> None:
    write_alike(tmp_path / "briefs.csv", 2)
    names = ("variety_copy", "variety_opening", "variety_title")
    without = [part for name in names for part in ("--disable", name)]
    with LoopbackServer([Reply(ANSWER)]) as server:
        flags = ("--concurrency", "1", "--workers", "1")
        done = terminal(*RUN, *flags, *without, server=server)
    assert (done.code, statuses(tmp_path)) == (1, ["accepted", "refused"])
    told = terminal("batch", "status", "out").out
    assert "variety_names: " in told
    assert not any(name in told for name in names)
    with LoopbackServer([Reply(ANSWER)]) as server:
        changed = terminal(*RUN, "--disable", "variety_copy", server=server)
        assert "disabled checks changed from variety_copy, variety_opening, variety_title" in changed.err
        wrong = terminal("write", "--show", "a", "--theme", "b", "--disable", "variety_names", server=server)
    assert (wrong.code, "no check 'variety_names' to disable" in wrong.err) == (2, True)


# Damaged records


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"xyz" * (path.stat().st_size // 4))


def newer(path: Path) -> None:
    execute(path, "PRAGMA user_version = 99")


def execute(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("Liebes Tagebuch", encoding="utf-8"), "file is not a database"),
        pytest.param(lambda path: os.truncate(path, 20_000), "malformed", marks=pytest.mark.slow),
        (overwrite, "malformed"),
        (newer, "was written by a newer version of this program: update synopsis-writer"),
    ],
)
def test_an_unusable_record_is_reported_stays_as_it_is_and_is_archived_by_fresh(
    begun: Path, corpus: Corpus, damage: Callable[[Path], object], message: str
) -> None:
    path = begun / "out" / "batch.sqlite3"
    damage(path)
    before = path.read_bytes()
    terminal = Terminal(begun)
    for arguments in (RUN, ("batch", "status", "out"), ("batch", "export", "out", "--format", "csv", "-o", "x")):
        done = terminal(*arguments, server=corpus)
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done
        assert message in done.err
        assert path.read_bytes() == before
    assert not (begun / "x").exists()
    assert not corpus.chats
    fresh = terminal(*RUN, *OFF, "--fresh", "--limit", "1", server=corpus)
    assert fresh.code == 0, fresh.err
    assert (begun / "out" / "batch-1.sqlite3").read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "commands"),
    [
        ("UPDATE rows SET brief = '{broken' WHERE place = 4", ["run"]),
        ("UPDATE rows SET amount = 'viel' WHERE place = 2", ["run", "status"]),
    ],
)
def test_a_damaged_row_is_named_and_nothing_is_made_or_written(
    begun: Path, corpus: Corpus, statement: str, commands: list[str]
) -> None:
    path = begun / "out" / "batch.sqlite3"
    execute(path, statement)
    before = path.read_bytes()
    orders = {"run": (*RUN, *OFF), "status": ("batch", "status", "out")}
    for command in commands:
        done = Terminal(begun)(*orders[command], server=corpus)
        assert (done.code, done.out) == (2, "")
        assert "the record is damaged" in last_line(done)
        assert ("row 'row-" in done.err) != ("amount" in statement)
    assert path.read_bytes() == before
    assert not corpus.chats


# Odd briefs


@pytest.mark.parametrize(
    ("name", "content", "code", "reported"),
    [
        ("a.csv", b"\xef\xbb\xbfid;show;theme;form\r\nx;Rote Rosen;Ein Hund;portrait\r\n", 0, "1 row: "),
        ("a.csv", b"id,show,theme\n", 2, "holds no brief: write one a row"),
        ("a.csv", b"theme\nEin Hund\n", 2, "show: field required"),
        ("a.csv", b"show,theme\nAWZ,Eis\nAWZ,Eis\n", 2, "row 2 asks for the same as row 1"),
        ("a.csv", b"show,theme,notes\nAWZ,Eis," + b"x" * 1_000_000 + b"\n", 2, "longer than 1 MB"),
        ("a.csv", b"show,theme\nAWZ,Ei\0s\n", 2, "NUL byte"),
        ("a.yaml", b"- show: Rote Rosen\n  theme: Ein Hund\n  air-date: 2025-04-22\n", 0, "1 row: "),
    ],
)
def test_odd_briefs_are_accepted_or_reported_in_one_line(
    terminal: Terminal, tmp_path: Path, name: str, content: bytes, code: int, reported: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with LoopbackServer([Reply(ANSWER)]) as server:
        order = ("batch", "run", name, "--out", "out", "--attempts", "1")
        done = terminal(*order, server=server)
        asked = len(server.chats)
    assert done.code == code, done.err
    assert reported in (done.err if code else done.out)
    assert asked == (not code)
    assert not code or len(done.err.splitlines()) == 1
