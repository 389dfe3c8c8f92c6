import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from synopsis_writer.cli.console import STDERR, live_text, status, story
from synopsis_writer.testing import synopsis_json
from tests.support.loopback import LoopbackServer, Reply

TEXT = "Klara findet den Schlüssel im Garten und schweigt.\n\nAm Abend steht Jonas vor der Tür."
ANSWER = synopsis_json(TEXT, title="Der weiße Hund")
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("", ""),
        ("Gern!", ""),
        ("[1, 2", ""),
        ('{"tit', ""),
        ('{"title": "Der we', "Der we"),
        ('```json\n{"title": "Der we', "Der we"),
        ('{"title": "A", "paragraphs": [{"storyline": "A", "text": "Ein Sa', "A\n\nEin Sa"),
        ('{"title": "A", "paragraphs": [{"text": "Eins."}, {"text": "Zw\\u00e4i', "A\n\nEins.\n\nZwäi"),
        ('{"title": "A", "paragraphs": [{"text": "Eins."}, {"te', "A\n\nEins."),
        ('{"title": 7, "paragraphs": {"text": "x"', ""),
        ('{"title": null, "paragraphs": ["x", {"text": 3}, {"text": "y', "y"),
        ('{"title": "A"} und mehr', "A"),
        ('{"title": "Hund \\ud83d', "Hund"),
    ],
)
def test_the_text_in_an_unfinished_answer_is_found(answer: str, shown: str) -> None:
    assert story(answer) == shown


@pytest.mark.parametrize("length", range(0, len(ANSWER) + 1, 7))
def test_a_truncated_answer_shows_the_beginning_of_the_whole_one(length: int) -> None:
    assert story(ANSWER).startswith(story(ANSWER[:length]))


@given(st.text())
def test_no_answer_breaks_the_reader(answer: str) -> None:
    assert isinstance(story(answer) + story("{" + answer), str)


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    with STDERR.installed():
        yield


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def screen(width: int, height: int = 8) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=height, markup=False, color_system=None)
    return console, out


@pytest.mark.parametrize("width", [20, 200])
def test_the_last_lines_that_fit_are_shown_wrapped(width: int) -> None:
    console, out = screen(width)
    live_text(console, Clock())(ANSWER[:-4])
    lines = out.getvalue().replace("\r", "").split("\n")
    assert len(lines) <= 8
    assert all(len(line.replace(HIDE_CURSOR, "").strip()) <= width for line in lines)
    assert " ".join(TEXT.split()).endswith(" ".join(" ".join(lines).split()[-4:]))
    STDERR.clear()
    assert out.getvalue().count(SHOW_CURSOR) == 1


def test_no_more_than_ten_pictures_a_second_are_drawn() -> None:
    console, out = screen(40)
    clock = iter([0.0, 0.05, 0.09, 0.11])
    text = live_text(console, lambda: next(clock))
    sizes = []
    for length in (60, 80, 100, 120):
        text(ANSWER[:length])
        sizes.append(len(out.getvalue()))
    assert sizes[0] == sizes[1] == sizes[2] < sizes[3]


def test_a_text_cannot_steer_the_terminal() -> None:
    console, out = screen(60)
    live_text(console, Clock())('{"title": "a\\u001b[2Jb\\u202ec [bold]d[/bold] :dog:')
    assert r"a\x1b[2Jb\u202ec [bold]d[/bold] :dog:" in out.getvalue()


def test_a_whole_answer_and_a_line_of_status_take_the_text_away(capsys: pytest.CaptureFixture[str]) -> None:
    console, out = screen(60)
    text = live_text(console, Clock())
    text(ANSWER[:60])
    text(ANSWER)
    assert out.getvalue().count(SHOW_CURSOR) == 1
    text(ANSWER[:60])
    status("the server answered 503")
    assert out.getvalue().count(HIDE_CURSOR) == out.getvalue().count(SHOW_CURSOR) == 2
    assert capsys.readouterr().err == "the server answered 503\n"


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_has_gone_costs_no_answer() -> None:
    text = live_text(Console(file=Gone(), force_terminal=True, width=40, height=9), Clock())
    text(ANSWER[:60])
    text(ANSWER[:80])
    status("weiter")


def test_nothing_is_drawn_where_stderr_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert STDERR.screen() is None
    monkeypatch.setattr(sys, "stderr", None)
    assert STDERR.screen() is None


PROGRAM = """
import asyncio, logging, sys
from synopsis_writer.cli.console import STDERR, live_text, status
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.hosted import HostedClient

async def work(show):
    if show is not None and sys.argv[2] == "wait":
        show(open(sys.argv[3], encoding="utf-8").read())
        await asyncio.sleep(3600)
    client = HostedClient("m", sys.argv[1], on_text=show)
    answer = await client.complete([Message("user", "?")], None, Limits())
    status("done")
    await client.close()
    print(answer.text)

with STDERR.installed():
    if sys.argv[2] == "quiet":
        STDERR.setLevel(logging.WARNING)
    console = STDERR.screen()
    if console is None:
        STDERR.setLevel(logging.WARNING)
    asyncio.run(work(live_text(console) if console else None))
"""


class Terminal:
    """A pseudo terminal of a given width, and what has been written to it."""

    def __init__(self, width: int) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.seen = ""

    def read_until(self, message: str | None) -> None:
        """Read on until `message` was seen; None: until all processes have closed the terminal."""
        end = time.monotonic() + 120
        while message is None or message not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 1)[0]:
                try:
                    piece = os.read(self.master, 65536)
                except OSError:  # all have gone
                    return
                self.seen += piece.decode("utf-8", "replace")


@contextmanager
def program(terminal: Terminal, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal.slave,
        env={**environment, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **more},
        encoding="utf-8",
    ) as running:
        os.close(terminal.slave)
        try:
            yield running
        finally:
            running.kill()
            os.close(terminal.master)


@pytest.mark.parametrize("width", [20, 200])
def test_ctrl_c_gives_the_terminal_back(width: int, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text(ANSWER[:-4], encoding="utf-8")
    terminal = Terminal(width)
    with program(terminal, "-", "wait", str(answer)) as running:
        terminal.read_until("der Tür")
        assert HIDE_CURSOR in terminal.seen
        assert SHOW_CURSOR not in terminal.seen
        running.send_signal(signal.SIGINT)
        terminal.read_until(None)
    assert SHOW_CURSOR in terminal.seen
    assert HIDE_CURSOR not in terminal.seen.partition(SHOW_CURSOR)[2]


def test_after_the_answer_stdout_has_the_text_and_the_terminal_only_the_status() -> None:
    terminal = Terminal(80)
    with LoopbackServer([Reply(ANSWER)]) as server, program(terminal, server.base_url, "show") as running:
        out, _ = running.communicate(timeout=120)
        terminal.read_until(None)
    assert json.loads(out) == json.loads(ANSWER)
    assert terminal.seen.rstrip().endswith("done")
    assert terminal.seen.count(HIDE_CURSOR) == terminal.seen.count(SHOW_CURSOR)


@pytest.mark.parametrize("how", ["quiet", "dumb"])
def test_with_quiet_or_on_a_dumb_terminal_nothing_grows(how: str) -> None:
    terminal = Terminal(80)
    more = {"TERM": "dumb"} if how == "dumb" else {}
    with LoopbackServer([Reply(ANSWER)]) as server, program(terminal, server.base_url, how, **more) as running:
        out, _ = running.communicate(timeout=120)
        terminal.read_until(None)
    assert json.loads(out) == json.loads(ANSWER)
    assert terminal.seen == ""


def test_with_stderr_in_a_file_nothing_grows(tmp_path: Path) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server, (tmp_path / "err").open("wb") as err:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.base_url, "show"],
            stdout=subprocess.PIPE,
            stderr=err,
            env={**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
            check=True,
        )
    assert json.loads(done.stdout) == json.loads(ANSWER)
    assert (tmp_path / "err").read_bytes() == b""
    assert server.chats[0].body.get("stream") is None
