"""The run log, the cache, replays and budgets, through the real command."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from synopsis_writer.log import RunLog
from synopsis_writer.models.base import Answer
from synopsis_writer.models.limits import ResponseCache
from tests.support.forked import Forked
from tests.support.loopback import Body, Fault, LoopbackServer, Reply, Silence
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, ORDER, Terminal, saved
from tests.test_runlog import REFUSED, RUN, filled


def logged(terminal: Terminal) -> list[dict[str, object]]:
    runs: list[dict[str, object]] = json.loads(terminal("log", "list", "--json").out)["runs"]
    return runs


def test_a_run_is_logged_with_prompt_answer_verdict_tokens_and_path(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(ANSWER, prompt_tokens=900, cached_tokens=700)]) as server:
        assert terminal("write", *ORDER, server=server).code == 0
    run = json.loads(terminal("log", "show", "--json").out)
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
    shown = terminal("log", "show", "--prompts").out
    assert "[assistant]\nGern!" in shown
    assert "Deine Antwort wird so nicht gedruckt" in shown
    assert run["run"] in terminal("log", "list").out


@pytest.mark.parametrize(
    ("steps", "code", "outcome"),
    [([Reply(CLOSED)], 1, "refused"), ([Fault(401)], 3, "failed"), ([Reply(CLOSED), Fault(401)], 3, "failed")],
    ids=["refused", "failed at once", "failed later"],
)
def test_a_run_that_saved_nothing_is_logged_with_its_reason(
    terminal: Terminal, steps: list[Reply | Fault], code: int, outcome: str
) -> None:
    with LoopbackServer(steps) as server:
        assert terminal("write", *ORDER, server=server).code == code
    (run,) = logged(terminal)
    assert (run["outcome"], run["path"]) == (outcome, None)
    assert ("set OPENAI_API_KEY" in str(run["error"])) == (outcome == "failed")


def test_no_log_leaves_no_log(terminal: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, "--no-log", server=server).code == 0
    assert logged(terminal) == []


def test_runs_are_removed_one_by_one_by_age_or_all(terminal: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        for _ in range(3):
            terminal("write", *ORDER, server=server)
    newest, *_ = logged(terminal)
    assert terminal("log", "rm", str(newest["run"])).err == "removed 1 run\n"
    assert terminal("log", "rm", "--older-than", "1").err == "removed 0 runs\n"
    assert newest["run"] not in [run["run"] for run in logged(terminal)]
    refused = terminal("log", "rm")
    assert (refused.code, "--older-than DAYS, or --all" in refused.err) == (2, True)
    assert terminal("log", "rm", "--all", "--yes").err == "removed 2 runs\n"
    assert terminal("log", "list").err == "the log is empty\n"


def test_a_folder_in_the_place_of_log_or_cache_is_refused_in_one_line(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "cache" / "responses.sqlite3").mkdir(parents=True)
    for command in (("log", "list"), ("log", "show"), ("cache", "info")):
        run = terminal(*command, SYNOPSIS_LOG="cache", SYNOPSIS_CACHE="cache")
        assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
        assert run.err.startswith("synopsis: cannot open ")
        assert run.err.endswith(": name another place\n")


def test_a_log_that_cannot_be_used_costs_no_text(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Das ist keine Datenbank.", "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--quiet", server=server, SYNOPSIS_LOG="log")
    assert run.code == 0
    assert run.err.startswith("synopsis: cannot use log: ")
    assert run.err.endswith("; this run is not logged\n")
    assert run.err.count("\n") == 1
    assert run.out.startswith(GOOD.synopsis.title)


def test_an_interrupted_run_keeps_what_was_answered(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(600)]) as server:
        process = Forked[bytes](
            [COMMAND, "write", *ORDER],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stderr=subprocess.PIPE,
        )
        while len(server.chats) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"what was answered so far is kept: synopsis log show" in message
    run = json.loads(terminal("log", "show", "--json").out)
    assert (run["outcome"], run["history"][0]["answer"]) == ("interrupted", CLOSED)


def test_a_killed_run_keeps_what_was_answered(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(600)]) as server:
        process = Forked[bytes](
            [COMMAND, "write", *ORDER],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stderr=subprocess.DEVNULL,
        )
        while len(server.chats) < 2:
            time.sleep(0.01)
        process.kill()
        process.wait()
    run = json.loads(terminal("log", "show", "--json").out)
    assert (run["outcome"], run["history"][0]["answer"]) == ("running", CLOSED)


def test_a_replay_asks_no_model_and_gives_the_same(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(CLOSED), Reply(ANSWER)]) as server:
        first = terminal("write", *ORDER, "--best-of", "2", server=server)
    (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").rename(tmp_path / "first.md")
    again = terminal("write", "--replay", "last")
    assert (again.code, again.out) == (0, first.out)
    assert "same prompt, same answers, same verdicts" in again.err
    text = (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").read_text("utf-8")
    assert text == (tmp_path / "first.md").read_text("utf-8")
    assert len(logged(terminal)) == 1


def test_a_replay_of_a_run_that_broke_off_breaks_off_there(terminal: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Fault(401)]) as server:
        terminal("write", *ORDER, server=server)
    run = terminal("write", "--replay", "last")
    assert (run.code, run.out) == (3, "")
    assert "holds no further answer: it ended there" in run.err
    assert "same prompt, same answers, same verdicts" in run.err


def test_a_replay_says_where_verdicts_or_prompts_have_changed(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Reply(ANSWER)]) as server:
        terminal("write", *ORDER, server=server)
    milder = terminal("write", "--replay", "last", "--disable", "hook")
    assert milder.code == 0
    assert "Attempt 1: refused (hook: " in milder.err
    assert "then, accepted now." in milder.err
    assert "The log holds 2 attempts, the replay came to 1." in milder.err
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    for template in (Path(__file__).parent.parent / "prompts").glob("*.md"):
        (prompts / template.name).write_text(template.read_text("utf-8") + "\nUnd: kurz.\n", "utf-8")
    changed = terminal("write", "--replay", "last", "--prompts", "prompts")
    assert changed.code == 2
    assert "templates, examples, pins or gate have changed since" in changed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--replay", "last"], "no such run"), (["--replay", "none", "--theme", "Eis"], "leave out theme")],
)
def test_an_impossible_replay_is_reported(terminal: Terminal, arguments: list[str], message: str) -> None:
    run = terminal("write", *arguments)
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert message in run.err


def test_cached_answers_are_returned_only_on_request(terminal: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Reply(ANSWER)]) as server:
        first = terminal("write", *ORDER, server=server)
        assert len(server.chats) == 2
        again = terminal("write", *ORDER, "--cache", "read", server=server)
        assert len(server.chats) == 2
        assert again.out == first.out
        assert "2 attempts (2 from the cache), 0 + 0 tokens" in again.err
        terminal("write", *ORDER, server=server)
        assert len(server.chats) == 3
        info = json.loads(terminal("cache", "info", "--json").out)
        assert info["answers"] == 2
        assert terminal("cache", "clear").err.endswith("removed 2 answers\n")
        terminal("write", *ORDER, "--cache", "off", server=server)
    assert "answers:  0 (0.0 of at most 200 MB)" in terminal("cache", "info").out


def test_several_drafts_of_one_prompt_are_separate_requests(terminal: Terminal) -> None:
    with LoopbackServer([Reply(CLOSED), Reply("Gern!"), Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--best-of", "3", "--cache", "read", "--json", server=server)
    assert len(server.chats) == 3
    assert len({attempt["answer"] for attempt in json.loads(run.out)["history"]}) == 3


def test_a_budget_ends_the_work_before_the_call_that_would_break_it(terminal: Terminal, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "EUR"\n[models."*"]\ninput = 1\noutput = 10\n', "utf-8")
    with LoopbackServer([Reply(CLOSED, prompt_tokens=5000, completion_tokens=1000)]) as server:
        run = terminal(
            "write", *ORDER, "--budget", "0.06", "--keep-rejected", "kept", server=server, SYNOPSIS_PRICES=str(prices)
        )
        assert run.code == 3
        assert len(server.chats) == 1
        assert "1 attempt, 5000 + 1000 tokens" in run.err
        assert "0.0150 EUR" in run.err
        assert "raise --budget" in run.err
        assert saved(tmp_path / "kept") == ["der-weisse-hund.md"]
        run = terminal("write", *ORDER, "--max-tokens-total", "2000", server=server)
        assert (run.code, len(server.chats)) == (3, 1)
        run = terminal("write", *ORDER, "--budget", "much", server=server)
        assert (run.code, len(run.err.splitlines())) == (2, 1)


def test_a_truncated_answer_is_asked_for_once_more_with_a_larger_limit(terminal: Terminal) -> None:
    half = Reply(ANSWER[: len(ANSWER) // 2], finish="length")
    with LoopbackServer([half, Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--json", server=server)
    data = json.loads(run.out)
    assert run.code == 0
    assert [attempt["number"] for attempt in data["history"]] == [1, 1]
    assert data["usage"]["completion_tokens"] == 100
    small, large = (chat.body for chat in server.chats)
    assert small["messages"] == large["messages"]
    assert large["max_tokens"] == 2 * small["max_tokens"]


def test_an_outline_is_logged_and_its_tokens_are_reported(terminal: Terminal) -> None:
    with LoopbackServer([Reply("Gern!")]) as server:
        run = terminal("outline", *ORDER, "--attempts", "2", server=server)
    assert run.code == 1
    assert "2 attempts, 200 + 100 tokens" in run.err
    (entry,) = logged(terminal)
    assert (entry["command"], entry["outcome"], entry["attempts"]) == ("outline", "refused", 2)


def test_the_log_is_one_file_that_sqlite_reads(terminal: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        terminal("write", *ORDER, server=server)
    path = Path(os.environ["XDG_DATA_HOME"], "synopsis-writer", "runs.sqlite3")
    database = sqlite3.connect(path)
    assert database.execute("SELECT outcome FROM runs").fetchall() == [("done",)]
    database.close()


def test_a_replay_distinguishes_truncated_drafts_of_one_attempt(terminal: Terminal) -> None:
    half = Reply(ANSWER[:700], finish="length")
    with LoopbackServer([half, half, Reply(CLOSED), Reply(ANSWER)]) as server:
        first = terminal("write", *ORDER, "--best-of", "2", server=server)
    again = terminal("write", "--replay", "last")
    assert (again.code, again.out) == (0, first.out)
    assert "same prompt, same answers, same verdicts" in again.err


def test_an_interrupted_run_that_is_not_logged_does_not_say_it_is(tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(600)]) as server:
        process = Forked[bytes](
            [COMMAND, "write", *ORDER, "--no-log"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stderr=subprocess.PIPE,
        )
        while len(server.chats) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"synopsis log show" not in message


def test_a_refused_or_truncated_outline_is_repeated_as_a_synopsis_is(terminal: Terminal) -> None:
    steps = [Reply("", refusal="Nein."), Reply("Es war", finish="length"), Reply("Gern!")]
    with LoopbackServer(steps) as server:
        run = terminal("outline", *ORDER, "--attempts", "2", server=server)
    assert run.code == 1
    assert "attempt 1 of 2: refused; the model refused: Nein." in run.err
    assert "3 attempts, 300 + 150 tokens" in run.err
    first, second, third = (chat.body for chat in server.chats)
    assert first["messages"] == second["messages"] == third["messages"]
    limits = [body.get("max_tokens") or body["max_completion_tokens"] for body in (first, second, third)]
    assert limits == [limits[0], limits[0], 2 * limits[0]]


def log_file() -> Path:
    return Path(os.environ["XDG_DATA_HOME"], "synopsis-writer", "runs.sqlite3")


def cache_file() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"], "synopsis-writer", "responses.sqlite3")


def damage(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


def test_a_run_that_cannot_be_read_costs_no_other_run(terminal: Terminal) -> None:
    with contextlib.closing(filled(log_file())) as log:
        log.begin(replace(RUN, id="20261121T090000-ffffff"))
    damage(log_file(), "UPDATE runs SET brief = '{}' WHERE id LIKE '%abc123'")
    listed = terminal("log", "list")
    assert (listed.code, listed.err, len(listed.out.splitlines())) == (0, "", 2)
    assert f"{RUN.id}  unreadable: remove it with synopsis log rm {RUN.id}\n" in listed.out
    read, unread = sorted(logged(terminal), key=lambda run: run["outcome"] == "unreadable")
    assert (read["run"], unread["run"]) == ("20261121T090000-ffffff", RUN.id)
    for command in (("log", "show", "abc123"), ("write", "--replay", "abc123")):
        message = terminal(*command)
        assert (message.code, len(message.err.splitlines())) == (2, 1)
        assert f"run {RUN.id} cannot be read: remove it with synopsis log rm {RUN.id}" in message.err
    assert terminal("log", "rm", "0000-abc", RUN.id).err == "removed 1 run\n"  # it is named twice
    assert [run["run"] for run in logged(terminal)] == ["20261121T090000-ffffff"]


def test_all_but_the_active_runs_are_removed(terminal: Terminal) -> None:
    now = datetime.now(UTC)
    with contextlib.closing(filled(log_file())) as log:
        log.end(RUN.id, "accepted")
        log.begin(replace(RUN, id="at-work", created=now - timedelta(hours=1)))
        log.begin(replace(RUN, id="killed", created=now - timedelta(days=2)))
        log.begin(replace(RUN, id="broken", created=now))
    damage(log_file(), "UPDATE runs SET created = 'x' WHERE id = 'broken'")
    message = terminal("log", "rm", "--all", "-y").err
    assert message == "removed 3 runs; left 1 run in progress: give the id to remove it\n"
    assert [run["run"] for run in logged(terminal)] == ["at-work"]
    assert terminal("log", "rm", "at-work").err == "removed 1 run\n"


def test_data_that_another_program_reads_is_reported_as_overwritten_later(terminal: Terminal) -> None:
    later = "what was removed is overwritten in the file when it is opened next"
    with contextlib.closing(filled(log_file())) as log:
        log._database.execute("BEGIN")
        log.runs()
        message = terminal("log", "rm", RUN.id).err
    assert message == f"removed 1 run\nanother program reads the log: {later}\n"
    with contextlib.closing(ResponseCache(cache_file())) as cache:
        cache.put("key", Answer("Ja."))
        cache._database.execute("BEGIN")
        cache.size()
        message = terminal("cache", "clear").err
    assert message == f"removed 1 answer\nanother program reads the cache: {later}\n"


def test_a_damaged_cache_costs_a_line_and_is_deleted_when_it_is_cleared(terminal: Terminal) -> None:
    with contextlib.closing(ResponseCache(cache_file())) as cache:
        cache.put("key", Answer("Ja." * 2000))
    content = cache_file().read_bytes()
    cache_file().write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--cache", "read", server=server)
    assert (run.code, run.out.startswith(GOOD.synopsis.title)) == (0, True)
    assert run.err.count("empty it with synopsis cache clear") == 1
    cleared = terminal("cache", "clear")
    assert cleared.code == 0
    assert cleared.err.endswith(f"{cache_file()} could not be used, and was deleted\n")
    assert not any(cache_file().parent.glob("responses.sqlite3*"))
    cache_file().write_text("Das ist keine Datenbank.", "utf-8")
    assert terminal("cache", "clear").code == 0
    assert json.loads(terminal("cache", "info", "--json").out)["answers"] == 0


def test_log_and_cache_can_be_read_where_nothing_can_be_written(terminal: Terminal) -> None:
    filled(log_file()).close()
    with contextlib.closing(ResponseCache(cache_file())) as cache:
        cache.put("key", Answer("Ja."))
    for path in (log_file(), cache_file()):
        path.with_name(path.name + "-shm").mkdir()  # root may write anywhere, but not into a folder as a file
    assert RUN.id in terminal("log", "list").out
    assert "answers:  1 " in terminal("cache", "info").out
    refused = terminal("log", "rm", "--all", "--yes")
    assert (refused.code, "see whether the disk is full" in refused.err) == (2, True)


def test_no_text_of_the_log_steers_a_terminal(terminal: Terminal) -> None:
    evil = "\x9b31m\u202e\x07\x1b]0;x\U000e0001"
    with contextlib.closing(RunLog(log_file())) as log:
        log.begin(replace(RUN, model=f"m{evil}", error=f"Nein{evil}"))
        log.add(RUN.id, replace(REFUSED, answer=Answer(evil)))
    for command in (("list",), ("show", "--prompts"), ("show", "--json"), ("list", "--json")):
        run = terminal("log", *command)
        assert (run.code, "202e" in run.out) == (0, True)
        assert all(char.isprintable() or char == "\n" for char in run.out), command
    shown = json.loads(terminal("log", "show", "--json").out)
    assert (shown["model"], shown["history"][0]["answer"]) == (f"m{evil}", evil)


def test_a_refused_answer_without_structure_that_cannot_be_saved_is_printed(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with LoopbackServer([Reply("Gern, hier ist sie!")]) as server:
        run = terminal("write", *ORDER, "--attempts", "1", "--keep-rejected", "file/kept", server=server)
    assert (run.code, run.out) == (1, "Gern, hier ist sie!\n")


def test_rows_of_a_batch_are_logged_one_run_each(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        f"show;theme;form\nRote Rosen;{GOOD.brief.theme};portrait\nRote Rosen;Ein Prozess;portrait\n", "utf-8"
    )
    with LoopbackServer([Reply(ANSWER, prompt_tokens=900)]) as server:
        terminal("batch", "run", "b.csv", "--out", "o", "--concurrency", "1", server=server)
        terminal("batch", "run", "b.csv", "--out", "p", "--limit", "1", "--no-log", server=server)
    runs = logged(terminal)
    assert sorted(str(run["command"]) for run in runs) == ["batch"] * len(runs)
    first = next(run for run in runs if run["outcome"] == "done")
    assert first["usage"] == {"prompt_tokens": 900, "cached_tokens": 0, "completion_tokens": 50}
    used = sum(run["usage"]["prompt_tokens"] for run in runs)  # type: ignore[index]
    assert used == json.loads(terminal("batch", "status", "o", "--json").out)["prompt_tokens"]
    shown = json.loads(terminal("log", "show", str(first["run"]), "--json").out)
    assert (shown["history"][0]["answer"], shown["history"][0]["messages"]) == (ANSWER, [])


def test_the_tokens_of_calls_that_failed_are_logged(terminal: Terminal) -> None:
    counted = {"usage": {"prompt_tokens": 700, "completion_tokens": 30}}
    with LoopbackServer([Body({**counted, "choices": []}), Reply(CLOSED), Fault(401)]) as server:
        assert terminal("write", *ORDER, "--max-retries", "0", server=server).code == 3
        assert terminal("write", *ORDER, "--max-retries", "0", server=server).code == 3
    later, first = logged(terminal)
    assert first["failed_calls"] == {
        "prompt_tokens": 700,
        "cached_tokens": 0,
        "completion_tokens": 30,
        "cost": "unpriced",
    }
    assert (first["attempts"], first["usage"]) == (
        0,
        {"prompt_tokens": 700, "cached_tokens": 0, "completion_tokens": 30},
    )
    assert "failed_calls" not in later
    assert "calls that failed: 730 tokens, unpriced" in terminal("log", "list").out


def test_a_draft_that_failed_beside_others_is_counted(terminal: Terminal) -> None:
    counted = {"usage": {"prompt_tokens": 700, "completion_tokens": 30}, "choices": []}
    with LoopbackServer([Reply(ANSWER), Body(counted), Body(counted)]) as server:
        assert terminal("write", *ORDER, "--best-of", "3", "--max-retries", "0", server=server).code == 0
    (run,) = logged(terminal)
    assert run["usage"] == {"prompt_tokens": 1500, "cached_tokens": 0, "completion_tokens": 110}


def test_a_log_is_searched_for_words_in_briefs_answers_and_errors(terminal: Terminal) -> None:
    escaped = json.dumps(json.loads(ANSWER))  # "Schäferin" as "Sch\u00e4ferin"
    with LoopbackServer([Reply(escaped), Fault(401)]) as server:
        terminal("write", *ORDER, server=server)
        terminal("write", "--show", "GZSZ", "--theme", "Ein Prozess um 100% Erbe", server=server)
    newest, oldest = (str(run["run"]) for run in logged(terminal))

    def found(*words: str) -> list[str]:
        return [run["run"] for run in json.loads(terminal("log", "search", *words, "--json").out)["runs"]]

    assert found("schäferin") == [oldest]
    assert found("SCHÄFERIN", "rosen") == [oldest]
    assert found("prozess 100%") == [newest]
    assert found("OPENAI_API_KEY") == [newest]
    assert found("portrait", "Prozess") == []
    assert found("None") == []  # what is not there
    assert found("o") == [newest, oldest]
    assert found("o", "--limit", "1") == [newest]
    assert terminal("log", "search", "Prozess").out.startswith(newest)
    nothing = terminal("log", "search", "Zebra")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no run holds that\n")


@pytest.mark.parametrize(("typed", "left"), [("y", 0), ("ja", 0), ("n", 1), ("", 1)])
def test_removing_all_asks_on_a_terminal(terminal: Terminal, typed: str, left: int) -> None:
    filled(log_file()).close()
    master, slave = os.openpty()
    with Forked[str]([COMMAND, "log", "rm", "--all"], stdin=slave, stderr=subprocess.PIPE, encoding="utf-8") as process:
        os.write(master, f"{typed}\n".encode())
        _, err = process.communicate(timeout=120)
    os.close(master)
    os.close(slave)
    assert err.startswith("delete 1 run with all prompts and answers? [y/N] ")
    assert process.returncode == (2 if left else 0)
    assert len(logged(terminal)) == left


def test_where_nobody_can_be_asked_removing_all_wants_yes(terminal: Terminal) -> None:
    filled(log_file()).close()
    refused = terminal("log", "rm", "--all")
    assert (refused.code, "confirm with --yes" in refused.err) == (2, True)
    assert len(logged(terminal)) == 1
    assert terminal("log", "rm", "--all", "--yes").code == 0
