"""Batches through the real command, against a real server: made, resumed, interrupted."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.forked import ENDING, Forked, read_until, wait_for
from tests.support.loopback import Body, Fault, Hangup, LoopbackServer, Reply, Silence, Step
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, Run, Terminal


def briefs(folder: Path, rows: int) -> Path:
    path = folder / "briefs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "show", "theme", "form"])
        writer.writerows([f"row-{number}", "Rote Rosen", GOOD.brief.theme, "portrait"] for number in range(rows))
    return path


ONE_BY_ONE = ("--concurrency", "1", "--max-retries", "0", "--attempts", "1", "--variety", "off")


def run(terminal: Terminal, steps: list[Step], *flags: str) -> Run:
    with LoopbackServer(steps, repeat_last=False) as server:
        return terminal("batch", "run", "briefs.csv", "--out", "out", *ONE_BY_ONE, *flags, server=server)


def statuses(folder: Path) -> list[str]:
    database = sqlite3.connect(folder / "out" / "batch.sqlite3")
    found = [row[0] for row in database.execute("SELECT status FROM rows ORDER BY place")]
    database.close()
    return found


def test_every_row_is_written_and_saved_once(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 3)
    done = run(terminal, [Reply(ANSWER)] * 3)
    assert (done.code, done.out) == (
        0,
        "3 rows: 3 accepted, 0 refused, 0 failed, 0 pending\n300 + 150 tokens, unpriced\n",
    )
    assert statuses(tmp_path) == ["accepted"] * 3
    again = run(terminal, [])
    assert (again.code, again.out) == (0, done.out)


def test_refused_and_failed_rows_are_made_again_on_request(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 3)
    first = run(terminal, [Reply(CLOSED), Hangup(), Reply(ANSWER)])
    assert (first.code, statuses(tmp_path)) == (3, ["refused", "failed", "accepted"])
    told = json.loads(terminal("batch", "status", "out", "--json").out)
    assert told["reasons"]["row-0"].startswith("hook: ")
    assert "no connection" in told["reasons"]["row-1"]
    assert run(terminal, []).code == 3
    failed = run(terminal, [Reply(ANSWER)], "--retry", "failed")
    assert (failed.code, statuses(tmp_path)) == (1, ["refused", "accepted", "accepted"])
    refused = run(terminal, [Reply(ANSWER)], "--retry", "refused")
    assert (refused.code, statuses(tmp_path)) == (0, ["accepted"] * 3)
    assert "400 + 200 tokens" in refused.out  # the refused answer was paid, too


def test_a_fatal_error_keeps_what_was_made(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 3)
    broken = run(terminal, [Reply(ANSWER), Fault(401)])
    assert (broken.code, statuses(tmp_path)) == (3, ["accepted", "pending", "pending"])
    assert "set OPENAI_API_KEY" in broken.err
    assert run(terminal, [Reply(ANSWER)] * 2).code == 0


def test_a_limit_and_a_budget_end_a_run_that_can_be_continued(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 3)
    assert run(terminal, [Reply(ANSWER)], "--limit", "1").code == 0
    assert statuses(tmp_path) == ["accepted", "pending", "pending"]
    spent = run(terminal, [Reply(ANSWER, prompt_tokens=9000)], "--max-tokens-total", "20000")
    assert (spent.code, statuses(tmp_path)) == (3, ["accepted", "accepted", "pending"])
    assert "raise --max-tokens-total" in spent.err


def test_a_batch_that_was_started_differently_is_refused_unless_fresh(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    run(terminal, [Reply(ANSWER)] * 2)
    changed = run(terminal, [], "--disable", "hook")
    assert changed.code == 2
    assert "disabled checks changed from none to hook since this batch began" in changed.err
    briefs(tmp_path, 3)
    assert "briefs changed" in run(terminal, []).err
    fresh = run(terminal, [Reply(ANSWER)] * 3, "--fresh")
    assert (fresh.code, statuses(tmp_path)) == (0, ["accepted"] * 3)
    assert "the old record is now out/batch-1.sqlite3" in fresh.err


def test_a_second_process_says_who_holds_the_batch(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    with LoopbackServer([Silence(600)]) as server:
        first = start(tmp_path, server)
        wait_for(lambda: server.chats, first)
        second = terminal("batch", "run", "briefs.csv", "--out", "out", *ONE_BY_ONE, server=server)
        first.kill()
        first.communicate()
    assert second.code == 2
    assert f"process {first.pid} is using this batch" in second.err


def start(folder: Path, server: LoopbackServer, *flags: str) -> subprocess.Popen[bytes]:
    return Forked[bytes](
        [COMMAND, "batch", "run", "briefs.csv", "--out", "out", "--variety", "off", *flags],
        cwd=folder,
        env={**os.environ, "OPENAI_BASE_URL": server.base_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_once_ends_in_order(tmp_path: Path) -> None:
    briefs(tmp_path, 40)
    with LoopbackServer([Reply(ANSWER)]) as server:
        server.allow(16)
        process = start(tmp_path, server, "--concurrency", "4")
        wait_for(lambda: len(server.chats) == 20, process)
        process.send_signal(signal.SIGINT)
        read_until(process, ENDING)
        server.allow()
        _, message = process.communicate(timeout=120)
        asked = len(server.chats)
    assert process.returncode == 130
    assert b"Traceback" not in message
    assert statuses(tmp_path).count("accepted") == asked == 20


def test_ctrl_c_twice_ends_at_once(tmp_path: Path) -> None:
    briefs(tmp_path, 20)
    with LoopbackServer([Reply(ANSWER)] * 5 + [Silence(600)]) as server:
        process = start(tmp_path, server, "--concurrency", "1")
        wait_for(lambda: len(server.chats) == 6, process)
        process.send_signal(signal.SIGINT)
        read_until(process, "Ctrl-C again ends at once")
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in message
    assert statuses(tmp_path).count("accepted") == 5


def test_a_text_that_another_row_has_is_refused_with_that_rows_id(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    flags = ("--concurrency", "1", "--attempts", "1", "--cache", "off")
    with LoopbackServer([Reply(ANSWER)]) as server:
        done = terminal("batch", "run", "briefs.csv", "--out", "out", *flags, server=server)
    assert (done.code, statuses(tmp_path)) == (1, ["accepted", "refused"])
    reasons = json.loads(terminal("batch", "status", "out", "--json").out)["reasons"]
    assert "variety_copy: " in reasons["row-1"]
    assert "row row-0" in reasons["row-1"]
    assert "variety_title: " in reasons["row-1"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_accepted_texts_are_exported(terminal: Terminal, tmp_path: Path, kind: str) -> None:
    briefs(tmp_path, 2)
    run(terminal, [Reply(ANSWER)] * 2)
    done = terminal("batch", "export", "out", "--format", kind, "-o", "told")
    assert (done.code, done.err) == (0, "written: told (2 texts)\n")
    assert GOOD.synopsis.title.encode() in (tmp_path / "told").read_bytes()


def test_exported_markdown_is_a_pool_of_examples(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    run(terminal, [Reply(ANSWER)] * 2)
    assert terminal("batch", "export", "out", "--format", "md", "-o", "texts").code == 0
    assert len(list((tmp_path / "texts").rglob("*.md"))) == 2
    assert "row-0" in terminal("examples", "list", "--examples", "texts").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.csv", "--out", "out"], "none.csv"),
        (["run", "wrong.csv", "--out", "out"], "weather"),
        (["status", "none"], "none: is not a batch"),
        (["export", "none", "--format", "csv", "-o", "x"], "none: is not a batch"),
    ],
)
def test_bad_input_exits_2_with_one_line(
    terminal: Terminal, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "wrong.csv").write_text("show,theme,weather\nAWZ,Eis,gut\n", encoding="utf-8")
    done = terminal("batch", *arguments, SYNOPSIS_BASE_URL="http://127.0.0.1:9/v1")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert message in done.err


def test_checks_in_separate_processes_give_the_same(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    done = run(terminal, [Reply(ANSWER), Reply(CLOSED)], "--workers", "1")
    assert (done.code, statuses(tmp_path)) == (1, ["accepted", "refused"])
    assert "hook: " in terminal("batch", "status", "out").out


def test_a_folder_that_cannot_be_written_is_reported(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    (tmp_path / "out").write_text("", encoding="utf-8")
    done = run(terminal, [])
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "name another --out" in done.err


def test_answers_before_a_fatal_error_are_saved_and_counted(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 2)
    broken = run(terminal, [Reply(CLOSED), Fault(401)], "--attempts", "2")
    assert (broken.code, statuses(tmp_path)) == (3, ["pending", "pending"])
    database = sqlite3.connect(tmp_path / "out" / "batch.sqlite3")
    assert database.execute("SELECT row, number, passed FROM answers").fetchall() == [("row-0", 1, 0)]
    database.close()
    assert "100 + 50 tokens" in terminal("batch", "status", "out").out
    assert "1 of the pending rows wait to be repaired" in terminal("batch", "status", "out").out
    done = run(terminal, [Reply(ANSWER)] * 2, "--attempts", "2")
    assert (done.code, statuses(tmp_path)) == (0, ["accepted"] * 2)
    assert "300 + 150 tokens" in done.out


def test_tokens_of_a_call_that_failed_for_good_are_counted(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    empty = {"choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 7}}
    failed = run(terminal, [Body(empty)])
    assert (failed.code, statuses(tmp_path)) == (3, ["failed"])
    assert "700 + 7 tokens, unpriced" in terminal("batch", "status", "out").out


def test_tokens_of_failed_calls_survive_a_further_try_that_fails_at_once(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    empty = {"choices": [], "usage": {"prompt_tokens": 700, "completion_tokens": 7}}
    run(terminal, [Body(empty)])
    run(terminal, [Fault(401)], "--retry", "failed")
    assert statuses(tmp_path) == ["pending"]
    assert "800 + 57 tokens" in run(terminal, [Reply(ANSWER)]).out


def test_a_fresh_start_that_fails_leaves_the_record(terminal: Terminal, tmp_path: Path) -> None:
    briefs(tmp_path, 1)
    run(terminal, [Reply(ANSWER)])
    for flags in (["--profile", "none.yaml"], ["--engine", "local", "--address", "auto"]):
        assert run(terminal, [], "--fresh", *flags).code == 2
    (tmp_path / "briefs.csv").write_text("show,theme,weather\nAWZ,Eis,gut\n", encoding="utf-8")
    assert run(terminal, [], "--fresh").code == 2
    assert "1 row: 1 accepted" in terminal("batch", "status", "out").out


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--profile", "none.yaml"], "none.yaml"), (["--address", "auto"], "--address is a cluster's: add --engine ray")],
)
def test_senseless_flags_are_reported_before_anything_is_made(
    terminal: Terminal, tmp_path: Path, flags: list[str], message: str
) -> None:
    briefs(tmp_path, 1)
    done = run(terminal, [], *flags)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert message in done.err
    assert "cannot print" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_row_of_a_length_that_no_demo_draft_has_fails_alone(terminal: Terminal, tmp_path: Path) -> None:
    rows = "id,show,theme,words\na,Rote Rosen,Ein Koch lügt,60-90\nb,Rote Rosen,Ein Koch lügt,900-990\n"
    (tmp_path / "briefs.csv").write_text(rows, encoding="utf-8")
    done = terminal("batch", "run", "briefs.csv", "--out", "out")
    assert (done.code, statuses(tmp_path)) == (3, ["failed", "failed"])
    status = terminal("batch", "status", "out").out
    assert "a: a demo draft's length is its own" in status
    assert "asked for is 900 to 990 words" in status
