"""The run log, the cache, replays and budgets, through the real command."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from synopsis_writer.testing import Fault, LoopbackServer, Reply, Silence
from tests.terminal import ANSWER, CLOSED, COMMAND, GOOD, ORDER, Terminal, saved


@pytest.fixture
def synopsis(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


def logged(synopsis: Terminal) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = json.loads(synopsis("log", "list", "--json").out)["runs"]
    return runs


def test_a_run_is_logged_with_prompt_answer_verdict_tokens_and_place(
    synopsis: Terminal, tmp_path: Path
) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(ANSWER, prompt_tokens=900, cached_tokens=700)]) as server:
        assert synopsis("write", *ORDER, server=server).code == 0
    run = json.loads(synopsis("log", "show", "--json").out)
    assert run["outcome"] == "done"
    assert run["path"] == str(tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md")
    assert run["brief"]["theme"] == GOOD.brief.theme
    assert run["usage"] == {"prompt_tokens": 1000, "cached_tokens": 700, "completion_tokens": 100}
    assert (run["attempts"], run["cost"]) == (2, "unpriced")
    first, second = run["history"]
    assert (first["passed"], first["answer"]) == (False, "Gern!")
    assert first["problems"][0].startswith("structure: ")
    assert second["passed"] is True
    assert second["messages"] == server.requests[1].body["messages"]
    assert second["findings"][0]["check"] == "length"
    shown = synopsis("log", "show", "--prompts").out
    assert "[assistant]\nGern!" in shown
    assert "Deine Antwort wird so nicht gedruckt" in shown
    assert run["run"] in synopsis("log", "list").out


@pytest.mark.parametrize(
    ("steps", "code", "outcome"),
    [
        ([Reply(CLOSED)], 1, "refused"),
        ([Fault(401)], 3, "failed"),
        ([Reply(CLOSED), Fault(401)], 3, "failed"),
    ],
    ids=["refused", "failed at once", "failed later"],
)
def test_a_run_that_saved_nothing_is_logged_with_its_reason(
    synopsis: Terminal, steps: list[Reply | Fault], code: int, outcome: str
) -> None:
    with LoopbackServer(steps) as server:
        assert synopsis("write", *ORDER, server=server).code == code
    (run,) = logged(synopsis)
    assert (run["outcome"], run["path"]) == (outcome, None)
    assert ("set OPENAI_API_KEY" in str(run["error"])) == (outcome == "failed")


def test_no_log_leaves_no_log(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert synopsis("write", *ORDER, "--no-log", server=server).code == 0
    assert logged(synopsis) == []


def test_runs_are_removed_one_by_one_by_age_or_all(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        for _ in range(3):
            synopsis("write", *ORDER, server=server)
    newest, *_ = logged(synopsis)
    assert synopsis("log", "rm", str(newest["run"])).err == "removed 1 run\n"
    assert synopsis("log", "rm", "--older-than", "1").err == "removed 0 runs\n"
    assert newest["run"] not in [run["run"] for run in logged(synopsis)]
    refused = synopsis("log", "rm")
    assert (refused.code, "--older-than DAYS, or --all" in refused.err) == (2, True)
    assert synopsis("log", "rm", "--all").err == "removed 2 runs\n"
    assert synopsis("log", "list").err == "the log is empty\n"


def test_a_log_that_cannot_be_used_costs_no_text(synopsis: Terminal, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Das ist keine Datenbank.", "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = synopsis("write", *ORDER, server=server, SYNOPSIS_LOG="log")
    assert run.code == 0
    assert "this run is not logged" in run.err
    assert run.out.startswith(GOOD.synopsis.title)


def test_an_interrupted_run_keeps_what_was_answered(synopsis: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(60)]) as server:
        process = subprocess.Popen(
            [COMMAND, "write", *ORDER],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stderr=subprocess.PIPE,
        )
        while len(server.chats) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"what was answered so far is kept: synopsis log show" in said
    run = json.loads(synopsis("log", "show", "--json").out)
    assert (run["outcome"], run["history"][0]["answer"]) == ("interrupted", CLOSED)


def test_a_killed_run_keeps_what_was_answered(synopsis: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(60)]) as server:
        process = subprocess.Popen(
            [COMMAND, "write", *ORDER],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stderr=subprocess.DEVNULL,
        )
        while len(server.chats) < 2:
            time.sleep(0.01)
        process.kill()
        process.wait()
    run = json.loads(synopsis("log", "show", "--json").out)
    assert (run["outcome"], run["history"][0]["answer"]) == ("running", CLOSED)


def test_a_replay_asks_nobody_and_comes_to_the_same(synopsis: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(CLOSED), Reply(ANSWER)]) as server:
        first = synopsis("write", *ORDER, "--best-of", "2", server=server)
    (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").rename(tmp_path / "first.md")
    again = synopsis("write", "--replay", "last")
    assert (again.code, again.out) == (0, first.out)
    assert "same prompt, same answers, same verdicts" in again.err
    text = (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").read_text("utf-8")
    assert text == (tmp_path / "first.md").read_text("utf-8")
    assert len(logged(synopsis)) == 1


def test_a_replay_of_a_run_that_broke_off_breaks_off_there(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Fault(401)]) as server:
        synopsis("write", *ORDER, server=server)
    run = synopsis("write", "--replay", "last")
    assert (run.code, run.out) == (3, "")
    assert "holds no further answer: it ended there" in run.err
    assert "same prompt, same answers, same verdicts" in run.err


def test_a_replay_says_where_verdicts_or_prompts_have_changed(synopsis: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Reply(ANSWER)]) as server:
        synopsis("write", *ORDER, server=server)
    milder = synopsis("write", "--replay", "last", "--disable", "hook")
    assert milder.code == 0
    assert "Attempt 1: refused (hook: " in milder.err
    assert "then, accepted now." in milder.err
    assert "The log holds 2 attempts, the replay came to 1." in milder.err
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for template in (Path(__file__).parent.parent / "prompts").glob("*.md"):
        (prompts / template.name).write_text(template.read_text("utf-8") + "\nUnd: kurz.\n", "utf-8")
    changed = synopsis("write", "--replay", "last", "--prompts", "prompts")
    assert changed.code == 2
    assert "templates, examples or the gate have changed since" in changed.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay", "last"], "no such run"),
        (["--replay", "none", "--theme", "Eis"], "leave out theme"),
    ],
)
def test_a_replay_that_cannot_be_is_said(synopsis: Terminal, arguments: list[str], said: str) -> None:
    run = synopsis("write", *arguments)
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert said in run.err


def test_kept_answers_are_given_again_only_where_it_is_wished(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Reply(ANSWER)]) as server:
        first = synopsis("write", *ORDER, server=server)
        assert len(server.chats) == 2
        again = synopsis("write", *ORDER, "--cache", "read", server=server)
        assert len(server.chats) == 2
        assert again.out == first.out
        assert "2 attempts (2 from the cache), 0 + 0 tokens" in again.err
        synopsis("write", *ORDER, server=server)
        assert len(server.chats) == 3
        info = json.loads(synopsis("cache", "info", "--json").out)
        assert info["answers"] == 2
        assert synopsis("cache", "clear").err == "removed 2 answers\n"
        synopsis("write", *ORDER, "--cache", "off", server=server)
    assert "answers:  0 (0.0 of at most 200 MB)" in synopsis("cache", "info").out


def test_several_drafts_of_one_prompt_are_several_questions(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Reply("Gern!"), Reply(ANSWER)]) as server:
        run = synopsis("write", *ORDER, "--best-of", "3", "--cache", "read", "--json", server=server)
    assert len(server.chats) == 3
    assert len({attempt["answer"] for attempt in json.loads(run.out)["history"]}) == 3


def test_a_budget_ends_the_work_before_the_call_that_would_break_it(
    synopsis: Terminal, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\n[models."*"]\ninput = 1\noutput = 10\n', "utf-8")
    with LoopbackServer([Reply(CLOSED, prompt_tokens=5000, completion_tokens=1000)]) as server:
        run = synopsis(
            "write",
            *ORDER,
            "--budget",
            "0.06",
            "--keep-rejected",
            "kept",
            server=server,
            SYNOPSIS_PRICES=str(prices),
        )
        assert run.code == 3
        assert len(server.chats) == 1
        assert "1 attempt, 5000 + 1000 tokens" in run.err
        assert "0.0150 EUR" in run.err
        assert "raise --budget" in run.err
        assert saved(tmp_path / "kept") == ["der-weisse-hund.md"]
        run = synopsis("write", *ORDER, "--max-tokens-total", "2000", server=server)
        assert (run.code, len(server.chats)) == (3, 1)
        run = synopsis("write", *ORDER, "--budget", "much", server=server)
        assert (run.code, len(run.err.splitlines())) == (2, 1)


def test_a_cut_answer_is_asked_for_once_more_with_a_larger_limit(synopsis: Terminal) -> None:
    half = Reply(ANSWER[: len(ANSWER) // 2], finish="length")
    with LoopbackServer([half, Reply(ANSWER)]) as server:
        run = synopsis("write", *ORDER, "--json", server=server)
    data = json.loads(run.out)
    assert run.code == 0
    assert [attempt["number"] for attempt in data["history"]] == [1, 1]
    assert data["usage"]["completion_tokens"] == 100
    small, large = (chat.body for chat in server.chats)
    assert small["messages"] == large["messages"]
    assert large["max_completion_tokens"] == 2 * small["max_completion_tokens"]


def test_an_outline_is_logged_and_its_tokens_are_said(synopsis: Terminal) -> None:
    with LoopbackServer([Reply("Gern!")]) as server:
        run = synopsis("outline", *ORDER, "--attempts", "2", server=server)
    assert run.code == 1
    assert "2 attempts, 200 + 100 tokens" in run.err
    (entry,) = logged(synopsis)
    assert (entry["command"], entry["outcome"], entry["attempts"]) == ("outline", "refused", 2)


def test_the_log_is_one_file_that_sqlite_reads(synopsis: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        synopsis("write", *ORDER, server=server)
    path = Path(os.environ["XDG_DATA_HOME"], "synopsis-writer", "runs.sqlite3")
    database = sqlite3.connect(path)
    assert database.execute("SELECT outcome FROM runs").fetchall() == [("done",)]
    database.close()
