"""The real command: what it prints, saves and exits with."""

import inspect
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest
import typer.main
from shellingham import ShellDetectionFailure, detect_shell

from synopsis_writer import cli
from synopsis_writer.brief import Brief
from synopsis_writer.cli import options
from synopsis_writer.examples import load_example
from synopsis_writer.models.resolve import limits_of
from synopsis_writer.settings import Settings, folder, load_settings
from tests.support.forked import Forked
from tests.support.loopback import Body, Fault, Hangup, Html, LoopbackServer, Reply, Silence, Step
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, ORDER, PATH, Terminal, saved

EXAMPLE = min((folder("examples") / "rote-rosen").glob("*-*.md"))


def test_an_accepted_synopsis_is_printed_and_saved(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, server=server)
    assert run.code == 0
    assert run.out == f"{GOOD.synopsis.title}\n\n{GOOD.synopsis.text}\n"
    assert saved(tmp_path) == ["synopsen/rote-rosen/der-weisse-hund.md"]
    assert "saved as synopsen/rote-rosen/der-weisse-hund.md" in run.err
    example = load_example(tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md")
    assert example.synopsis == GOOD.synopsis
    assert example.brief.show == "Rote Rosen"
    assert terminal("check", "synopsen/rote-rosen/der-weisse-hund.md").code == 0


def test_a_repair_leads_to_a_saved_text(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(CLOSED), Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--json", server=server)
    data = json.loads(run.out)
    assert run.code == 0
    assert data["passed"] is True
    assert [attempt["passed"] for attempt in data["history"]] == [False, False, True]
    assert data["usage"] == {"prompt_tokens": 300, "cached_tokens": 0, "completion_tokens": 150}
    assert data["text"] == GOOD.synopsis.text
    assert Path(tmp_path, data["path"]).exists()
    assert "hook" in server.requests[2].body["messages"][-1]["content"]


@pytest.mark.parametrize(
    "arguments",
    [
        "write --show S --theme T --out=",
        "eval run --out= --model m",
        "eval run --out runs/a --prompt=",
        "batch run briefs.csv --out=",
        "house show --house=",
        "check ''",
        "batch status ''",
        "prompts copy ''",
    ],
)
def test_an_empty_path_is_refused_and_not_taken_for_this_folder(
    terminal: Terminal, tmp_path: Path, arguments: str
) -> None:
    run = terminal(*shlex.split(arguments))
    assert run.code == 2
    assert "is empty: name a file or folder" in run.err
    assert saved(tmp_path) == []


def test_a_refused_text_is_saved_only_where_it_was_asked_for(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED)]) as server:
        run = terminal("write", *ORDER, server=server)
        assert (run.code, run.out, saved(tmp_path)) == (1, "", [])
        assert "refused by the gate: hook: The form portrait ends open" in run.err
        run = terminal("write", *ORDER, "--keep-rejected", "kept", server=server)
    assert run.code == 1
    assert saved(tmp_path) == ["kept/der-weisse-hund.md"]
    assert "refused: The form portrait ends open" in (tmp_path / "kept" / "der-weisse-hund.md").read_text("utf-8")


def test_an_answer_without_structure_is_not_lost(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply("Es war einmal ein Hund.")]) as server:
        run = terminal("write", *ORDER, "--keep-rejected", "kept", "--json", server=server)
    assert run.code == 1
    assert (tmp_path / "kept" / "antwort-ohne-struktur.txt").read_text("utf-8") == "Es war einmal ein Hund.\n"
    assert [attempt["answer"] for attempt in json.loads(run.out)["history"]] == ["Es war einmal ein Hund."] * 3


def test_a_text_that_cannot_be_saved_is_printed(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--out", "taken", server=server)
    assert run.code == 2
    assert run.out.startswith("Der weiße Hund")
    assert "cannot save into taken" in run.err


@pytest.mark.parametrize(
    ("step", "reported"),
    [
        (Fault(401), "set OPENAI_API_KEY"),
        (Fault(404), "check --model and --base-url"),
        (Fault(429, code="insufficient_quota"), "quota is used up"),
        (Fault(503), "answered 503 every time"),
        (Html(), "it often ends in /v1"),
        (Hangup(), "no connection"),
        (Silence(3), "did not answer in time"),
    ],
    ids=str,
)
def test_a_failing_server_exits_3_with_one_line(terminal: Terminal, tmp_path: Path, step: Step, reported: str) -> None:
    with LoopbackServer([step]) as server:
        run = terminal("write", *ORDER, "--max-retries", "0", "-q", server=server, SYNOPSIS_TIMEOUT="0.5")
    assert (run.code, run.out, saved(tmp_path)) == (3, "", [])
    assert reported in run.err
    assert len(run.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (["write"], "no show: name it with --show"),
        (["write", "--show", "AWZ"], "no theme: name it with --theme"),
        (["write", "--show", "AWZ", "--theme", ""], "theme: is empty"),
        (["write", "--show", "AWZ", "--theme", "x" * 100_000], "at most 500"),
        (["write", "--show", "AWZ", "--theme", "a\x1b[2Jb"], "U+001B"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--form", "sonett"], "no form 'sonett'"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--attempts", "0"], "attempts"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--examples", "none"], "none: no such file or directory"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--examples", "."], "holds no example"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--prompts", "."], "no such file or directory"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--model", "gpt-9"], "needs a server"),
        (["write", "--show", "AWZ", "--theme", "Eis", "--model", "no.gguf"], "no such file"),
        (["write", "--outline", "none.yaml"], "none.yaml: no such file"),
        (["write", "--shwo", "AWZ"], "No such option: --shwo"),
        (["wirte"], "No such command 'wirte'"),
        (["check", "none.md"], "none.md: no such file"),
        (["check", "."], ".: holds no text"),
        (["check", "-"], "-: holds no text"),
        (["examples", "show", "none"], "no example 'none'"),
        (["models", "pull", "none"], "is not a model's name"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_exits_2_with_one_line(
    terminal: Terminal, tmp_path: Path, arguments: list[str], reported: str
) -> None:
    run = terminal(*arguments)
    assert (run.code, run.out, saved(tmp_path)) == (2, "", [])
    assert reported in run.err
    assert len(run.err.strip().splitlines()) == 1


def test_an_unknown_show_is_used_as_a_generic_one(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", "--show", "../../Rote Rosn", *ORDER[2:], server=server)
    assert run.code == 0
    assert "unknown show '../../Rote Rosn'" in run.err
    assert "did you mean Rote Rosen?" in run.err
    assert saved(tmp_path) == ["synopsen/rote-rosn/der-weisse-hund.md"]


def test_an_outline_is_written_and_passed_back(terminal: Terminal, tmp_path: Path) -> None:
    plan = {
        "title": "Der weiße Hund",
        "logline": GOOD.synopsis.logline,
        "characters": [{"name": "Gesa Meinecke", "role": "Schäferin"}],
        "beats": ["Der Hund beißt zu.", "Gesa sucht einen Zeugen.", "Ein Brief kommt."],
    }
    with LoopbackServer([Reply("nein"), Reply(json.dumps(plan)), Reply(ANSWER)]) as server:
        run = terminal("outline", *ORDER, server=server)
        assert run.code == 0
        edited = run.out.replace("Ein Brief kommt.", "Ein Brief aus Schweden kommt.")
        (tmp_path / "plan.yaml").write_text(edited, "utf-8")
        assert terminal("write", "--outline", "plan.yaml", server=server).code == 0
    asked = server.requests[-1].body["messages"][-1]["content"]
    assert "Ein Brief aus Schweden kommt." in asked
    (tmp_path / "plan.yaml").write_text(edited.replace("beats:", "beat:"), "utf-8")
    assert "beats: field required" in terminal("write", "--outline", "plan.yaml").err


def test_the_prompt_is_printed_without_a_model(terminal: Terminal) -> None:
    run = terminal("prompt", *ORDER, "--json")
    data = json.loads(run.out)
    assert [message["role"] for message in data["messages"]][:2] == ["system", "user"]
    assert len(data["examples"]) in {6, 7}
    assert data["examples"][-2]["why"] == "same show and form"
    for example in data["examples"]:
        assert f"  {example['id']}: {example['tokens']} tokens; {example['why']}\n" in run.err
    assert data["tokens"] > 2000
    assert terminal("prompt", *ORDER).out.startswith("--- system ---\n")


def test_a_pinned_example_is_shown_first_and_an_unknown_one_is_reported(terminal: Terminal) -> None:
    pinned = terminal("prompt", *ORDER, "--pin", "sturm-der-liebe/elf-torten", "--json")
    assert json.loads(pinned.out)["examples"][0] == {
        "id": "sturm-der-liebe/elf-torten",
        "tokens": 1024,
        "why": "pinned",
    }
    for command in ("prompt", "outline", "write"):
        run = terminal(command, *ORDER, "--pin", "elf-torten", "--quiet", OPENAI_API_KEY="sk-x")
        assert (run.code, run.out) == (2, "")
        assert "no example 'elf-torten' to pin: did you mean sturm-der-liebe/elf-torten" in run.err


def test_check_reads_files_and_pipes(terminal: Terminal) -> None:
    run = terminal("check", str(PATH))
    assert (run.code, run.err) == (0, "")
    assert "passed all" in run.out
    run = terminal("check", "-", "--form", "portrait", stdin=GOOD.synopsis.text.replace("?", "!").encode())
    assert run.code == 1
    assert "hook: The form portrait ends open" in run.out
    assert "~~~~" in run.out
    run = terminal("check", str(PATH), "-", "--json", stdin=b"\xff\xfe")
    assert run.code == 2
    first, second = map(json.loads, run.out.splitlines())
    assert (first["passed"], second["exit_code"]) == (True, 2)
    assert "-: holds no text" in run.err


@pytest.mark.parametrize("width", ["20", "47", "200"])
def test_underlines_are_below_their_words_at_any_width(terminal: Terminal, width: str) -> None:
    text = GOOD.synopsis.text.replace("Gesa", "GESAMEINECKE", 1).replace("Hamburg", "\x1b[31mHamburg")
    run = terminal("check", "-", "--form", "portrait", stdin=text.encode(), COLUMNS=width)
    lines = run.out.splitlines()
    assert "\x1b" not in run.out
    assert max(len(line) for line in lines[2:-4]) <= int(width)
    above = next(line for line in lines if "GESAMEINECKE" in line)
    below = lines[lines.index(above) + 1]
    start = above.index("GESAMEINECKE")
    assert below[start : start + 12] == "~" * 12


def test_examples_are_listed_shown_and_checked(terminal: Terminal) -> None:
    assert "alles-was-zaehlt/die-naht-der-rivalin  week" in terminal("examples", "list", "--form", "week").out
    assert len(json.loads(terminal("examples", "list", "--json").out)["examples"]) >= 24
    assert terminal("examples", "show", "rote-rosen/reine-herztoene").out.startswith("---\nbrief:")
    run = terminal("examples", "check")
    assert run.code == 0
    assert run.out.endswith("all hold\n")


def test_the_users_own_example_is_used(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(GOOD.synopsis.text, "utf-8")
    run = terminal("examples", "add", "text.txt", *ORDER, "--title", "Der Hund")
    assert run.code == 0
    assert load_example(Path(run.out.strip())).synopsis.text == GOOD.synopsis.text
    assert "rote-rosen/der-hund  portrait" in terminal("examples", "list").out


def test_models_says_what_is_asked_and_what_a_server_offers(terminal: Terminal) -> None:
    with LoopbackServer([Reply("x")], models=["m-small", "m-large"]) as server:
        run = terminal("models", server=server)
    assert run.code == 0
    assert "asked:     gpt-5.4-mini (a base URL is set)" in run.out
    assert "offered:   m-large" in run.out
    assert "qwen3-8b" in terminal("models", "known").out


def test_models_exits_3_when_the_server_does_not_answer(terminal: Terminal) -> None:
    with LoopbackServer([Reply("x")]) as server:
        address = server.base_url
    run = terminal("models", "--base-url", address)
    assert run.code == 3
    assert "asked:     gpt-5.4-mini (a base URL is set)" in run.out
    assert run.err.startswith("synopsis: 127.0.0.1:")
    run = terminal("models", "--base-url", address, "--json")
    assert run.code == 3
    assert "no connection: check --base-url" in json.loads(run.out)["error"]


def test_models_lists_the_server_of_the_flag_despite_a_local_model(terminal: Terminal) -> None:
    with LoopbackServer([Reply("x")], models=["m-small"]) as server:
        run = terminal("models", "--json", "--base-url", server.base_url, SYNOPSIS_MODEL="packaged")
        assert (run.code, run.err) == (0, "")
        data = json.loads(run.out)
        assert (data["asked"], data["offered"], data["error"]) == (None, ["m-small"], None)
        assert "runs on this machine" in data["why"]
        run = terminal("write", *ORDER, "--base-url", server.base_url, SYNOPSIS_MODEL="packaged")
        assert run.code == 2
        assert "name a model of the server with --model" in run.err
        assert server.chats == []


@pytest.mark.parametrize("command", ["write", "outline"])
def test_a_wait_of_hours_is_reported_in_one_line(terminal: Terminal, tmp_path: Path, command: str) -> None:
    with LoopbackServer([Fault(429, {"retry-after": "7200"})]) as server:
        run = terminal(command, *ORDER, "--quiet", server=server)
    assert (run.code, run.out, len(run.err.splitlines())) == (3, "", 1)
    assert "takes no more requests until " in run.err
    assert run.err.endswith("(in 2.0 h): run the same command again then\n")
    assert len(server.chats) == 1
    assert saved(tmp_path) == []


@pytest.mark.parametrize("moment", ["while starting", "while asking"])
def test_ctrl_c_ends_at_once_and_leaves_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, moment: str
) -> None:
    log = tmp_path_factory.mktemp("log") / "runs.sqlite3"  # opened before the model is loaded
    with LoopbackServer([Silence(600)]) as server:
        process = Forked(
            [COMMAND, "write", *ORDER],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url, "SYNOPSIS_LOG": str(log)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (log.exists() if moment == "while starting" else server.chats):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (out, saved(tmp_path)) == ("", [])
    assert "Traceback" not in err


def test_ctrl_c_while_the_program_loads_ends_it_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, fullname: str, *_: object) -> None:
            if fullname == "synopsis_writer.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "synopsis_writer.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code == 130
    assert capsys.readouterr().err == "synopsis: interrupted: run the same command again\n"


@pytest.mark.parametrize("step", ["get_command", "get_group"])
def test_ctrl_c_while_the_commands_are_built_ends_it_in_the_same_way(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(typer.main, "get_command", inspect.unwrap(typer.main.get_command))
    monkeypatch.setattr(typer.main, step, interrupted)
    run = terminal("check", "-")
    assert (run.code, run.out, run.err) == (130, "", "synopsis: interrupted: run the same command again\n")


def test_a_closed_pipe_causes_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{COMMAND} examples show rote-rosen/reine-herztoene | head -c 1",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "-"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_text_survives_a_stderr_that_cannot_be_written(tmp_path: Path, stderr: str) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        command = f'{COMMAND} write --show "Rote Rosen" --theme "{GOOD.brief.theme}" --form portrait {stderr}'
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert done.stdout.startswith("Der weiße Hund")
    assert saved(tmp_path) == ["synopsen/rote-rosen/der-weisse-hund.md"]


@pytest.mark.parametrize(("target", "code"), [(">/dev/full", 2), (">&-", 0), ("| (exec <&-; sleep 1)", 141)])
def test_a_stdout_that_cannot_be_written_causes_no_traceback(tmp_path: Path, target: str, code: int) -> None:
    command = f"set -o pipefail; {COMMAND} examples list {target}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_an_example_with_a_taken_name_replaces_nothing(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(GOOD.synopsis.text, "utf-8")
    run = terminal("examples", "add", "text.txt", *ORDER, "--title", "Reine Herztöne")
    assert run.code == 0
    listed = terminal("examples", "list", "--show", "Rote Rosen").out
    assert "rote-rosen/reine-herztoene  portrait" in listed
    assert "rote-rosen/reine-herztoene-2  portrait" in listed
    assert terminal("examples", "check").code == 0


def test_a_text_is_checked_against_a_theme_alone(terminal: Terminal) -> None:
    run = terminal("check", "-", "--theme", "Raketen fliegen zum Mond", stdin=GOOD.synopsis.text.encode())
    assert run.code == 1
    assert "theme: The theme is hardly told" in run.out


def test_without_a_command_help_is_printed(terminal: Terminal) -> None:
    run = terminal()
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("Usage: synopsis")


@pytest.mark.parametrize("group", ["examples", "style", "eval", "batch", "log", "cache"])
def test_a_group_alone_prints_its_help(terminal: Terminal, group: str) -> None:
    run = terminal(group)
    assert (run.code, run.out) == (2, "")
    assert run.err == terminal(group, "--help").out


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("group", [[], ["examples"], ["eval"], ["batch"], ["log"]], ids=" ".join)
def test_a_list_of_commands_cuts_no_sentence(terminal: Terminal, group: list[str], columns: str) -> None:
    listed = terminal(*group, "--help", COLUMNS=columns).out.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "synopsis_writer", "--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"synopsis-writer ")


def test_flags_are_named_as_what_they_set() -> None:
    groups = (options.ServerFlags, options.PromptFlags, options.GateFlags, options.LimitFlags)
    assert {flag.name for group in groups for flag in fields(group)} <= set(Settings.model_fields)
    assert {flag.name for flag in fields(options.BriefFlags)} <= set(Brief.model_fields)


def test_what_is_no_terminal_gets_utf_8_and_plain_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\r\n")
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["synopsis", "examples", "show", f"rote-rosen/{EXAMPLE.stem}"])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert end.value.code == 0
    assert isinstance(sys.stdout, io.TextIOWrapper)
    assert isinstance(sys.stdout.buffer, io.BytesIO)
    written = sys.stdout.buffer.getvalue()
    assert written == EXAMPLE.read_bytes()
    assert "ü" in written.decode()


@pytest.mark.parametrize(("name", "value"), [("LC_ALL", "C"), ("PYTHONIOENCODING", "cp1252")])
def test_a_plan_that_was_redirected_is_read_back(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    plan = {
        "title": "Der weiße Hund",
        "logline": "Gesa zählt die Schafe und findet „Bärlauch“.",
        "characters": [{"name": "Gesa Meinecke", "role": "Schäferin"}],
        "beats": ["Gesa zählt.", "Der Hund fehlt.", "Übermut kommt vor dem Fall."],
    }
    with LoopbackServer([Reply(json.dumps(plan)), Reply(ANSWER)]) as server:
        first = terminal.process("outline", *ORDER, server=server)
        assert first.code == 0
        (tmp_path / "plan.yaml").write_text(first.out, "utf-8")
        second = terminal("write", "--outline", "plan.yaml", server=server)
    assert second.code == 0
    assert "Übermut kommt vor dem Fall." in server.requests[-1].body["messages"][-1]["content"]


@pytest.mark.parametrize("way", ["flag", "environment", "config"])
def test_a_tilde_is_home_in_every_setting_that_is_a_path(way: str) -> None:
    paths = [name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation)]
    assert len(paths) >= 8
    given = {name: f"~/{name}" for name in paths}
    environment, flags = {}, {}
    if way == "flag":
        flags = {name: Path(path) for name, path in given.items()}
    elif way == "environment":
        environment = {f"SYNOPSIS_{name.upper()}": path for name, path in given.items()}
    else:
        (Path.home() / "mine.toml").write_text("".join(f'{name} = "{path}"\n' for name, path in given.items()), "utf-8")
        environment = {"SYNOPSIS_CONFIG": "~/mine.toml"}
    settings = load_settings(flags, environment)
    assert {name: getattr(settings, name) for name in paths} == {name: Path.home() / name for name in paths}


def test_a_tilde_is_home_in_flags_and_arguments_that_are_no_settings(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copy(PATH, Path.home() / "text.md")
    assert terminal("check", "~/text.md").code == 0
    with LoopbackServer([Reply(CLOSED)]) as server:
        terminal("write", *ORDER, "--keep-rejected=~/kept", "--prompts=~nobody-here/prompts", server=server)
        assert terminal("write", *ORDER, "--keep-rejected=~/kept", server=server).code == 1
    assert (Path.home() / "kept" / "der-weisse-hund.md").is_file()
    (Path.home() / "weights.gguf").write_bytes(b"GGUF")
    shown = json.loads(terminal("models", "--model", "~/weights.gguf", "--json").out)
    assert shown["asked"] == str(Path.home() / "weights.gguf")
    assert saved(tmp_path) == []


def has_shell() -> bool:
    try:
        detect_shell()
    except ShellDetectionFailure:
        return False
    return True


@pytest.mark.skipif(not has_shell(), reason="Typer finds the shell among the processes that started this one")
@pytest.mark.parametrize("shell", [[], ["bash"], ["zsh"], ["fish"]], ids=str)
def test_showing_the_completion_ends_with_0(terminal: Terminal, shell: list[str]) -> None:
    run = terminal.process("--show-completion", *shell, SHELL="/bin/bash")
    assert (run.code, "_SYNOPSIS_COMPLETE" in run.out) == (0, True)


def test_flex_is_a_flag_of_batches_and_evals_with_longer_time_outs(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(f"show;theme;form\nRote Rosen;{GOOD.brief.theme};portrait\n", "utf-8")
    flags = ["--service-tier", "flex", "--reasoning-effort", "low", "--verbosity", "high"]
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("batch", "run", "b.csv", "--out", "o", *flags, server=server).code == 0
        assert terminal("write", *ORDER, *flags, server=server).code == 0
        terminal("eval", "run", "--out", "e", "--cases", "portrait", "--attempts", "1", *flags, server=server)
    asked = [request.body for request in server.chats]
    assert len(asked) > 2
    assert {(body["service_tier"], body["reasoning_effort"], body["verbosity"]) for body in asked} == {
        ("flex", "low", "high")
    }
    assert limits_of(Settings(service_tier="flex")).timeout == 900
    assert limits_of(Settings(service_tier="flex", timeout=1200)).timeout == 1200
    assert limits_of(Settings()).timeout == 180


@pytest.mark.parametrize(("days", "expected"), [(61, ""), (60, "in 60 days"), (1, "in 1 day"), (0, "now"), (-9, "now")])
@pytest.mark.parametrize("name", ["shutdown_date", "deprecation"])
def test_a_model_that_is_shut_down_soon_is_reported(terminal: Terminal, name: str, days: int, expected: str) -> None:
    end = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
    listed = {"data": [{"id": "m", name: f"{end}T00:00:00Z"}, {"id": "n", name: None}, {"id": "o", name: 7}]}
    with LoopbackServer([], models=Body(listed)) as server:
        run = terminal("models", "--model", "m", server=server)
        data = json.loads(terminal("models", "--model", "m", "--json", server=server).out)
        other = terminal("models", "--model", "n", server=server)
    assert f"offered:   m (shut down on {end})" in run.out
    assert (f"m is shut down on {end}, {expected}" in run.err) == bool(expected)
    assert data["shutdowns"] == {"m": end}
    assert "is shut down" not in other.err


THREADS = """
import os, sys
from synopsis_writer.cli import main
sys.argv = ["synopsis", "--version"]
try:
    main()
except SystemExit:
    print(os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)
"""


@pytest.mark.parametrize(("own", "used"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_numpy_starts_no_threads_unless_the_user_wants_some(own: dict[str, str], used: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | own
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == f"{used} False"


def test_help_before_a_command_lists_all_commands(terminal: Terminal) -> None:
    assert terminal("--help", "write").out == terminal("--help").out
