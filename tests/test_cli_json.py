"""What programs read: the object of --json in every failure, and stderr as one JSON object a line."""

import json
import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import ENDING, Forked, read_until, wait_for
from tests.support.loopback import Fault, Hangup, Html, LoopbackServer, Reply, Silence, Step
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, ORDER, Terminal

BRIEFS = "show;theme;form\n" + "".join(f"Rote Rosen;{GOOD.brief.theme} {n};portrait\n" for n in range(3))


def only_object(text: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(text)  # raises for two
    return data


@pytest.mark.parametrize(
    ("arguments", "code", "reported"),
    [
        (["write"], 2, "no show"),
        (["write", "--show", "AWZ", "--theme", ""], 2, "theme: is empty"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--form", "sonett"], 2, "no form 'sonett'"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--attempts", "0"], 2, "attempts"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--model", "gpt-9"], 2, "needs a server"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--examples", "none"], 2, "none: no such file"),
        (["write", "--shwo", "AWZ"], 2, "No such option: --shwo"),
        (["write", "--replay", "nothing"], 2, "no such run"),
        (["outline", *ORDER], 2, "--json"),
        (["prompt"], 2, "no show"),
        (["check", "none.md"], 2, "none.md: no such file"),
        (["check", "--profile", "none.yaml", "none.md"], 2, "none.yaml"),
        (["examples", "list", "--show", "none"], 2, "unknown show 'none'"),
        (["models", "--base-url", "ftp://x"], 2, "http(s)"),
        (["models", "--base-url", "http://127.0.0.1:9/v1"], 3, "no connection"),
        (["log", "list", "--limit", "0"], 2, "--limit"),
        (["log", "show", "nothing"], 2, "no such run"),
        (["log", "search"], 2, "WORD"),
        (["batch", "status", "none"], 2, "none"),
        (["batch", "run", "none.csv", "--out", "o", "--model", "packaged"], 2, "none.csv"),
        (["batch", "run", "--out", "o"], 2, "BRIEFS"),
        (["wirte"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_prints_the_object_with_error_and_code(
    terminal: Terminal, arguments: list[str], code: int, reported: str
) -> None:
    run = terminal(*arguments, "--json")
    data = only_object(run.out)
    assert (run.code, data["exit_code"]) == (code, code)
    assert reported in data["error"]
    assert "\n" not in data["error"]
    assert "synopsis: " in run.err


def test_a_broken_setting_prints_the_object(terminal: Terminal) -> None:
    for command in (["cache", "info"], ["log", "list"], ["prompt", *ORDER], ["check", "x.md"]):
        run = terminal(*command, "--json", SYNOPSIS_ATTEMPTS="0")
        assert (run.code, only_object(run.out)["exit_code"]) == (2, 2)
        assert "attempts" in only_object(run.out)["error"]


@pytest.mark.parametrize(
    ("steps", "code", "reported"),
    [
        ([Fault(401)], 3, "set OPENAI_API_KEY"),
        ([Fault(429, code="insufficient_quota")], 3, "quota"),
        ([Fault(503)], 3, "503"),
        ([Html()], 3, "/v1"),
        ([Hangup()], 3, "no connection"),
        ([Silence()], 3, "did not answer in time"),
        ([Reply(CLOSED)], 1, "refused by the gate: hook"),
        ([Reply("Gern!")], 1, "refused by the gate: structure"),
        ([Reply(CLOSED), Fault(401)], 3, "set OPENAI_API_KEY"),
        ([Reply("", refusal="Nein.")], 1, "the model refused"),
    ],
    ids=["401", "quota", "503", "page", "hangup", "silence", "hook", "prose", "later", "refusal"],
)
@pytest.mark.parametrize("command", ["write", "batch"])
def test_a_failing_model_prints_the_object(
    terminal: Terminal, tmp_path: Path, command: str, steps: list[Step], code: int, reported: str
) -> None:
    (tmp_path / "b.csv").write_text(BRIEFS, "utf-8")
    arguments = ["write", *ORDER] if command == "write" else ["batch", "run", "b.csv", "--out", "o"]
    timeout = "0.5" if Silence() in steps else "60"
    with LoopbackServer(steps) as server:
        run = terminal(
            *arguments, "--json", "--max-retries", "0", "--attempts", "2", server=server, SYNOPSIS_TIMEOUT=timeout
        )
    data = only_object(run.out)
    assert data["exit_code"] == run.code
    if command == "write":
        assert run.code == code
        assert reported in data["error"]
        return
    assert run.code in {1, 3}
    assert data["rows"] == 3
    reasons = " ".join(data["reasons"].values())
    assert reported.removeprefix("refused by the gate: ") in data["error"] + reasons


def test_a_text_that_cannot_be_saved_is_in_the_object_with_the_reason(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--out", "taken", "--json", server=server)
    data = only_object(run.out)
    assert (run.code, data["exit_code"], data["text"]) == (2, 2, GOOD.synopsis.text)
    assert "cannot save into taken" in data["error"]


def test_what_is_done_has_no_error(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("".join(BRIEFS.splitlines(keepends=True)[:2]), "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("batch", "run", "b.csv", "--out", "o", "--json", server=server)
    assert run.code == 0
    assert only_object(run.out) == only_object(terminal("batch", "status", "o", "--json").out)
    assert {"rows", "accepted", "prompt_tokens", "cost", "reasons"} <= set(only_object(run.out))
    assert "error" not in only_object(run.out)


def test_a_file_that_cannot_be_read_is_a_line_among_those_of_the_others(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(GOOD.path.read_text("utf-8"), "utf-8")
    run = terminal("check", "a.md", "none.md", "a.md", "--format", "json")
    lines = [json.loads(line) for line in run.out.splitlines()]
    assert [line["file"] for line in lines] == ["a.md", "none.md", "a.md"]
    assert (run.code, lines[1]["exit_code"]) == (2, 2)
    assert "no such file" in lines[1]["error"]


@pytest.mark.parametrize("command", ["write", "batch"])
def test_ctrl_c_prints_the_object(tmp_path: Path, command: str) -> None:
    (tmp_path / "b.csv").write_text(BRIEFS, "utf-8")
    arguments = ["write", *ORDER] if command == "write" else ["batch", "run", "b.csv", "--out", "o"]
    with LoopbackServer([Silence(600)]) as server:
        process = Forked[bytes](
            [COMMAND, *arguments, "--json"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: server.chats, process)
        process.send_signal(signal.SIGINT)
        if command == "batch":
            read_until(process, ENDING)
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    data = only_object(out.decode())
    assert (data["error"], data["exit_code"]) == ("interrupted: run the same command again", 130)
    assert command == "write" or data["pending"] == 3


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["write", "batch"])
def test_a_signal_prints_the_object_with_the_code_of_the_process(
    tmp_path: Path, command: str, kind: signal.Signals
) -> None:
    (tmp_path / "b.csv").write_text(BRIEFS, "utf-8")
    arguments = ["write", *ORDER] if command == "write" else ["batch", "run", "b.csv", "--out", "o"]
    with LoopbackServer([Hangup()]) as server:
        server.allow(0)
        process = Forked[bytes](
            [COMMAND, *arguments, "--json", "--max-retries", "0"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: server.chats, process)
        process.send_signal(kind)
        if command == "batch":
            read_until(process, ENDING)
            server.allow()
        out, _ = process.communicate(timeout=120)
    data = only_object(out.decode())
    assert process.returncode == data["exit_code"] == 128 + kind
    assert data["error"]


def test_an_outage_and_a_signal_have_the_signals_code_in_the_object_too(tmp_path: Path) -> None:
    rows = (f"Rote Rosen;{GOOD.brief.theme} {n};portrait\n" for n in range(9))
    (tmp_path / "b.csv").write_text("show;theme;form\n" + "".join(rows), "utf-8")
    with LoopbackServer([Hangup()]) as server:
        server.allow(0)
        process = Forked[bytes](
            [COMMAND, "batch", "run", "b.csv", "--out", "o", "--json", "--max-retries", "1"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: server.chats, process)
        process.send_signal(signal.SIGTERM)
        read_until(process, ENDING)
        server.allow()
        out, _ = process.communicate(timeout=120)
    assert process.returncode == only_object(out.decode())["exit_code"] == 143


WAYS = {
    "before the command": (["--log-format", "json"], [], {}),
    "behind it": ([], ["--log-format=json"], {}),
    "environment": ([], [], {"SYNOPSIS_LOG_FORMAT": "json"}),
    "config": ([], [], {"SYNOPSIS_CONFIG": "config.toml"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_log_may_be_one_object_a_line(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "config.toml").write_text('log_format = "json"\n', "utf-8")
    before, behind, environment = WAYS[way]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    started = datetime.now(UTC)
    with LoopbackServer([Fault(503, {"retry-after-ms": "1"}), Reply(CLOSED)]) as server:
        run = terminal(*before, "write", *ORDER, "--attempts", "1", *behind, server=server)
    assert run.code == 1
    lines = [json.loads(line) for line in run.err.splitlines()]
    assert {"time", "level", "run", "message"} <= set.intersection(*map(set, lines))
    for line in lines:
        assert line["time"].endswith("Z")
        assert started.replace(microsecond=0) <= datetime.fromisoformat(line["time"]) <= datetime.now(UTC)
    (logged,) = json.loads(terminal("log", "list", "--json").out)["runs"]
    by_level = {line["level"]: line for line in lines}
    assert set(by_level) == {"info", "error"}
    assert by_level["error"]["message"].startswith("refused by the gate: ")
    assert by_level["error"]["run"] == logged["run"]
    attempts = [line for line in lines if line["message"].startswith("attempt ")]
    assert {line["run"] for line in attempts} == {logged["run"]}
    assert any(isinstance(line.get("wait"), float) for line in lines)
    assert run.err.isascii()


def test_an_error_before_anything_is_read_is_an_object_too(terminal: Terminal) -> None:
    for arguments in (["write", "--shwo"], ["wirte"], ["write"], ["log", "show", "x"]):
        (line,) = terminal("--log-format", "json", *arguments).err.splitlines()
        assert json.loads(line)["level"] == "error"
    run = terminal("write", SYNOPSIS_LOG_FORMAT="xml")
    assert (run.code, "log_format" in run.err) == (2, True)
    assert terminal("--log-format", "xml", "log", "list").code == 2


def test_each_row_of_a_batch_is_logged_under_its_run(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(BRIEFS, "utf-8")
    with LoopbackServer([Fault(503, {"retry-after-ms": "1"}), Reply(CLOSED)]) as server:
        run = terminal("batch", "run", "b.csv", "--out", "o", "--attempts", "1", "--log-format", "json", server=server)
    lines = [json.loads(line) for line in run.err.splitlines()]
    runs = {line["run"] for line in json.loads(terminal("log", "list", "--json").out)["runs"]}
    assert len(runs) == 3
    waits = [line for line in lines if "wait" in line]
    assert waits
    assert {line["run"] for line in waits} <= runs
