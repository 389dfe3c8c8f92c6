"""A long run reports its progress, and what it is waiting for."""

import io
import logging
import pickle
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue

import pytest
from rich.console import Console

from synopsis_writer.cli.console import STDERR, Progress, status, warn
from synopsis_writer.models.retry import log_wait
from synopsis_writer.usage import Usage

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    with STDERR.installed():
        yield


def wait(reason: str, seconds: float, then: str = "asking") -> None:
    log_wait(logging.getLogger("synopsis_writer.models"), reason, then, seconds)


def add(progress: Progress, outcome: str | None = "accepted") -> None:
    progress.add(outcome, Usage(100, 50), None)


def test_a_pipe_gets_a_plain_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, 10, None, clock) as progress:
        for _ in range(30):
            clock.now += 1
            add(progress)
        printed = capsys.readouterr().err.splitlines()
    assert printed[0] == (
        "20 of 100 rows; 10 accepted; 60.0 a minute; 1500 tokens; unpriced; about 80 s left".replace("80 s", "1 min")
    )
    assert len(printed) == 3


def test_a_wait_is_printed_at_once_and_the_next_of_its_reason_in_the_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(100, 0, None, clock) as progress:
        for seconds in (5.0, 20.0, 30.0):
            wait("the server answered 429", seconds, "trying again")
        assert capsys.readouterr().err == "the server answered 429; trying again in 5.0 s\n"
        clock.now += 10
        add(progress)
        assert capsys.readouterr().err == (
            "1 of 100 rows; 1 accepted; 6.0 a minute; 150 tokens; unpriced; about 16 min left; "
            "2 waiting, 20 s at most: the server answered 429\n"
        )
        clock.now += 30
        add(progress)
        assert "waiting" not in capsys.readouterr().err


def test_a_terminal_has_one_line_that_waits_update(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with Progress(100, 0, Console(file=out, force_terminal=True, width=81, height=9), clock) as progress:
        status("unknown show 'X'")
        wait("--rpm is reached", 5.0)
        assert out.getvalue() == ""
        wait("--rpm is reached", 6.0)
        # as wide as the terminal: what does not fit is cut off at the wait
        assert "0 tokens; no cost; 2 waiting, 6 s at most: --rpm is…" in out.getvalue()
        clock.now += 1
        add(progress)
        assert "1 accepted; 60.0 a minute; 150 tokens; unpriced; about 2 min left…" in out.getvalue()
        assert out.getvalue().count(HIDE_CURSOR) == 1
        status("a line")
        assert out.getvalue().count(SHOW_CURSOR) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("unknown show 'X'\n--rpm is reached; asking in 5.0 s\na line\n1 of 100 rows")


def test_a_row_that_is_still_to_be_repaired_counts_only_its_tokens(clock: Clock) -> None:
    progress = Progress(10, 0, None, clock)
    add(progress, None)
    assert progress.line().startswith("0 of 10 rows; 0.0 a minute; 150 tokens")


def test_a_quiet_run_prints_warnings_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    STDERR.setLevel(logging.WARNING)
    with Progress(10, clock=clock) as progress:
        for _ in range(2):
            wait("the server answered 500", 5.0)
            clock.now += 20
            add(progress)
        assert capsys.readouterr().err == ""
        warn("a demo draft")
    assert capsys.readouterr().err == "a demo draft\n"


def test_a_wait_goes_to_another_process_whole(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopsis_writer")
    log_wait(logging.getLogger("synopsis_writer"), "the server answered 503", "trying again", 2.5)
    (record,) = caplog.records
    copy = pickle.loads(pickle.dumps(QueueHandler(SimpleQueue()).prepare(record)))
    assert copy.getMessage() == "the server answered 503; trying again in 2.5 s"
    assert (copy.wait, copy.reason) == (2.5, "the server answered 503")


def test_the_last_line_is_printed_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, 0, None, clock) as progress:
        for _ in range(2):
            clock.now += 10
            add(progress)
    assert len(capsys.readouterr().err.splitlines()) == 2
    with progress:
        add(progress)
    assert capsys.readouterr().err.startswith("3 of 3 rows")


def test_a_line_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    status("a\x1b[2Jb")
    assert capsys.readouterr().err == "a\\x1b[2Jb\n"


def test_nothing_is_left_of_the_handler_after_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("synopsis_writer.other")
    logger.info("printed")
    with STDERR.installed():
        pass
    logger.info("not printed")
    assert capsys.readouterr().err == "printed\n"
