"""SIGTERM and SIGHUP end every command as Ctrl-C does: its own code, one line, nothing lost, nothing left."""

import fcntl
import json
import os
import pty
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.forked import ENDING, Forked, read_until, wait_for
from tests.support.kills import Corpus, processes, write_briefs
from tests.support.loopback import LoopbackServer, Reply, Silence, StalledStream
from tests.support.provider import BatchServer
from tests.support.terminal import ANSWER, CLOSED, COMMAND, ORDER, Terminal

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
ENDS = {
    signal.SIGINT: (130, "synopsis: interrupted: run the same command again"),
    signal.SIGTERM: (143, "synopsis: terminated: run the same command again"),
    signal.SIGHUP: (129, "synopsis: hung up: run the same command again"),
}


def start(
    folder: Path, *command: str, server: LoopbackServer | BatchServer | None = None, **environment: str
) -> subprocess.Popen[str]:
    address = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-secret"} if server else {}
    start_process = Forked if command[0] == COMMAND else subprocess.Popen
    return start_process(
        command,
        cwd=folder,
        env={**os.environ, **address, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_end(process: subprocess.Popen[str], kind: signal.Signals) -> str:
    """Check how a process ended that got a signal; return what it printed."""
    out, err = process.communicate(timeout=120)
    code, line = ENDS[kind]
    assert "Traceback" not in err, err
    assert (process.returncode, err.splitlines()[-1]) == (code, line), err
    return out


def statuses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "out" / "batch.sqlite3")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [status for (status,) in database.execute("SELECT status FROM rows ORDER BY place")]


SLOW = """
import pathlib, sys, time

class Slow:
    def find_spec(self, name, *_):
        if name == MODULE:
            pathlib.Path("loading").touch()
            time.sleep(600)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("check", "-"), signal.SIGTERM),
        (("log", "list"), signal.SIGHUP),
        (("models", "pull", "qwen3-8b"), signal.SIGTERM),
    ],
)
def test_a_command_that_still_loads(tmp_path: Path, command: tuple[str, ...], kind: signal.Signals) -> None:
    process = _start_slowly(tmp_path, "synopsis_writer.settings", *command)
    process.send_signal(kind)
    assert check_end(process, kind) == ""


@pytest.mark.parametrize("kind", ENDS)
def test_a_command_that_has_loaded_nothing_yet_prints_json(tmp_path: Path, kind: signal.Signals) -> None:
    process = _start_slowly(tmp_path, "synopsis_writer.cli.app", "check", "--json", "-")
    process.send_signal(kind)
    code, line = ENDS[kind]
    assert json.loads(check_end(process, kind)) == {"error": line.removeprefix("synopsis: "), "exit_code": code}


def _start_slowly(folder: Path, module: str, *command: str) -> subprocess.Popen[str]:
    """Start a command, and return it when it loads a module, which takes ten minutes."""
    (folder / "slow").mkdir()
    slow = f"MODULE = {module!r}\n{SLOW}"
    (folder / "slow" / "sitecustomize.py").write_text(slow, encoding="utf-8")
    path = os.pathsep.join([str(folder / "slow"), *sys.path])
    process = start(folder, sys.executable, COMMAND, *command, PYTHONPATH=path, PYTHONUNBUFFERED="")
    wait_for((folder / "loading").exists, process)
    return process


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("module", ["openai", "sentencex"])
def test_a_write_whose_packages_or_gate_still_load(tmp_path: Path, module: str, kind: signal.Signals) -> None:
    (tmp_path / "slow").mkdir()
    slow = "import pathlib, time; pathlib.Path('loading').touch(); time.sleep(600)"
    (tmp_path / "slow" / f"{module}.py").write_text(slow, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "slow"), *sys.path])
    with LoopbackServer([Silence(600)]) as server:
        process = start(tmp_path, sys.executable, COMMAND, "write", *ORDER, server=server, PYTHONPATH=path)
        wait_for((tmp_path / "loading").exists, process)
        process.send_signal(kind)
        assert check_end(process, kind) == ""


UNHEARD = """
import asyncio, signal, threading
from synopsis_writer import Writer

def send():  # to this thread, which wakes no other, as a signal does that comes just before a loop waits
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

with Writer(model="m", base_url="http://127.0.0.1:9/v1") as writer:
    threading.Timer(0.5, send).start()
    writer.run(asyncio.sleep(600))
"""


def test_a_signal_that_does_not_wake_the_loop_is_heard_soon() -> None:
    done = subprocess.run([sys.executable, "-c", UNHEARD], capture_output=True, text=True, timeout=120, check=False)
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("write", *ORDER), signal.SIGTERM),
        pytest.param(("outline", *ORDER), signal.SIGHUP, marks=pytest.mark.slow),
        (("eval", "run", "--out", "run", "--model", "m", "--no-log"), signal.SIGTERM),
        pytest.param(("eval", "judge-check", "--judge", "m"), signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_command_that_waits_for_a_model(tmp_path: Path, command: tuple[str, ...], kind: signal.Signals) -> None:
    with LoopbackServer([Silence(600)]) as server:
        process = start(tmp_path, COMMAND, *command, server=server)
        wait_for(lambda: server.chats, process)
        process.send_signal(kind)
        assert check_end(process, kind) == ""
    assert not list(tmp_path.rglob("*.md"))


def test_a_write_keeps_what_was_answered(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(CLOSED), Silence(600)]) as server:
        process = start(tmp_path, COMMAND, "write", *ORDER, server=server)
        wait_for(lambda: len(server.chats) == 2, process)
        process.send_signal(signal.SIGTERM)
        check_end(process, signal.SIGTERM)
    assert '"outcome": "interrupted"' in terminal("log", "show", "--json").out


@pytest.mark.parametrize(
    ("kind", "workers"), [(signal.SIGTERM, "0"), pytest.param(signal.SIGHUP, "1", marks=pytest.mark.slow)]
)
def test_a_batch_finishes_the_rows_in_flight(
    terminal: Terminal, tmp_path: Path, kind: signal.Signals, workers: str
) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", 40)
    order = ["batch", "run", "briefs.csv", "--out", "out", "--attempts", "1", "--variety", "off"]
    with Corpus(themes, 0.01) as server:
        server.allow(4)
        flags = ["--concurrency", "4", "--workers", workers]
        process = start(tmp_path, COMMAND, *order, *flags, server=server)
        wait_for(lambda: len(server.chats) > 4, process)
        process.send_signal(kind)
        read_until(process, ENDING)
        server.allow()
        out = check_end(process, kind)
        asked = len(server.chats)
        assert statuses(tmp_path).count("accepted") == asked < 40
        assert statuses(tmp_path).count("pending") == 40 - asked
        assert out.startswith(f"40 rows: {asked} accepted")
        assert processes(tmp_path) == ()
        assert terminal(*order, server=server).code == 0
    assert len(server.chats) == 40


def test_a_second_signal_ends_a_batch_at_once(tmp_path: Path) -> None:
    write_briefs(tmp_path / "briefs.csv", 4)
    with LoopbackServer([Silence(600)]) as server:
        order = ("batch", "run", "briefs.csv", "--out", "out", "--variety", "off")
        process = start(tmp_path, COMMAND, *order, server=server)
        wait_for(lambda: len(server.chats) == 4, process)
        process.send_signal(signal.SIGTERM)
        read_until(process, ENDING)
        process.send_signal(signal.SIGTERM)
        check_end(process, signal.SIGTERM)
    assert statuses(tmp_path) == ["pending"] * 4


@pytest.mark.slow
def test_a_signal_for_the_workers_too_loses_no_row(terminal: Terminal, tmp_path: Path) -> None:
    themes = write_briefs(tmp_path / "briefs.csv", 40)
    order = ["batch", "run", "briefs.csv", "--out", "out", "--attempts", "1", "--variety", "off"]
    with Corpus(themes, 0.01) as server:
        server.allow(8)
        process = Forked(
            [COMMAND, *order, "--concurrency", "4", "--workers", "2"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: len(server.chats) > 8, process)
        os.killpg(process.pid, signal.SIGTERM)  # as a service's manager does
        read_until(process, ENDING)
        server.allow()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 143, err
        assert "Traceback" not in err
        assert set(statuses(tmp_path)) == {"accepted", "pending"}
        assert processes(tmp_path) == ()
        assert terminal(*order, server=server).code == 0


@pytest.mark.parametrize(
    ("command", "kind"), [("submit", signal.SIGTERM), pytest.param("fetch", signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_providers_batch_is_found_again(
    terminal: Terminal, tmp_path: Path, kind: signal.Signals, command: str
) -> None:
    write_briefs(tmp_path / "briefs.csv", 2)
    submit = ("batch", "submit", "briefs.csv", "--out", "out", "--model", "m")
    fetch = ("batch", "fetch", "out", "--variety", "off")
    slow = {"POST /files": ["slow"]} if command == "submit" else {"GET /batches/ID": ["slow"]}
    with BatchServer(lambda _: Reply(ANSWER), faults=slow) as server:
        if command == "fetch":
            assert terminal(*submit, server=server).code == 0
        asked = len(server.requests)
        process = start(tmp_path, COMMAND, *(submit if command == "submit" else fetch), server=server)
        wait_for(lambda: len(server.requests) > asked, process)
        process.send_signal(kind)
        assert check_end(process, kind) == ""
        assert statuses(tmp_path) == ["pending"] * 2
        if command == "submit":
            assert terminal(*submit, server=server).code == 0
        terminal(*fetch, server=server)
        assert len(server.batches) == 1
    assert "pending" not in statuses(tmp_path)


@contextmanager
def screen(folder: Path, *command: str, environment: Mapping[str, str]) -> Iterator[tuple[Forked[bytes], list[int]]]:
    """Run a command whose terminal is a new pseudo-terminal; yield it and the terminal's other end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = Forked[bytes](
        command,
        cwd=folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        is_screen=True,
    )
    os.close(slave)
    ends = [master]
    try:
        yield process, ends
    finally:
        process.kill()
        process.wait()
        for end in ends:
            os.close(end)


def see(master: int, text: str | None) -> str:
    """Read a terminal until `text` was seen; None: until nobody writes there any more."""
    seen = ""
    end = time.monotonic() + 120
    while text is None or text not in seen:
        assert time.monotonic() < end, seen
        if select.select([master], [], [], 1)[0]:
            try:
                seen += os.read(master, 65536).decode("utf-8", "replace")
            except OSError:  # all have gone
                break
    return seen


@pytest.mark.parametrize("kind", ENDS)
def test_the_cursor_is_back_after_a_signal_while_the_text_grows(tmp_path: Path, kind: signal.Signals) -> None:
    with (
        LoopbackServer([StalledStream(ANSWER)]) as server,
        screen(tmp_path, COMMAND, "write", *ORDER, environment={"OPENAI_BASE_URL": server.base_url}) as (
            process,
            (master,),
        ),
    ):
        seen = see(master, HIDE_CURSOR)
        process.send_signal(kind)
        seen += see(master, None)
        code = process.wait()
    assert code == ENDS[kind][0]
    assert HIDE_CURSOR not in seen.rpartition(SHOW_CURSOR)[2]
    assert ENDS[kind][1] in seen.rpartition(SHOW_CURSOR)[2]


def test_a_terminal_that_is_closed_ends_the_command_with_129(tmp_path: Path) -> None:
    with (
        LoopbackServer([StalledStream(ANSWER)]) as server,
        screen(tmp_path, COMMAND, "write", *ORDER, environment={"OPENAI_BASE_URL": server.base_url}) as (process, ends),
    ):
        see(ends[0], HIDE_CURSOR)
        os.close(ends.pop())
        assert process.wait() == 129


@pytest.mark.parametrize(
    "command", [("write", *ORDER), pytest.param(("batch", "run", "briefs.csv", "--out", "out"), marks=pytest.mark.slow)]
)
def test_in_a_scripts_background_where_ctrl_c_is_ignored_sigterm_is_not(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    write_briefs(tmp_path / "briefs.csv", 2)
    with LoopbackServer([StalledStream(ANSWER), Silence(1)]) as server:
        ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh", COMMAND, *command)
        process = start(tmp_path, *ignoring, server=server)
        wait_for(lambda: server.chats, process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        if command[0] == "batch":
            read_until(process, ENDING)
            process.send_signal(signal.SIGTERM)
        check_end(process, signal.SIGTERM)


@pytest.mark.slow
def test_with_nohup_sighup_ends_nothing(tmp_path: Path) -> None:
    with LoopbackServer([Silence(600)]) as server:
        ignoring = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh", COMMAND, "write", *ORDER)
        process = start(tmp_path, *ignoring, server=server)
        wait_for(lambda: server.chats, process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        check_end(process, signal.SIGTERM)
