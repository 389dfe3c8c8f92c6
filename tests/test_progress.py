"""A long run says how far it is, and what it waits for."""

import pickle

import pytest

from synopsis_writer.cli.console import Progress
from synopsis_writer.models.retry import Wait
from synopsis_writer.usage import Usage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def add(progress: Progress, outcome: str | None = "accepted") -> None:
    progress.add(outcome, Usage(100, 50), None)


def test_a_pipe_gets_a_plain_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(100, 10, is_terminal=False, clock=clock)
    for _ in range(30):
        clock.now += 1
        add(progress)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "20 of 100 rows; 10 accepted; 60.0 a minute; 1500 tokens; unpriced; about 80 s left".replace(
            "80 s", "1 min"
        )
    )
    assert len(said) == 3


def test_a_wait_is_said_at_once_and_the_next_of_its_reason_in_the_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(100, is_terminal=False, clock=clock)
    for seconds in (5.0, 20.0, 30.0):
        progress.say(Wait("the server answered 429", "trying again", seconds))
    assert capsys.readouterr().err == "the server answered 429; trying again in 5.0 s\n"
    clock.now += 10
    add(progress)
    assert "1 accepted; 2 waiting, 20 s at most: the server answered 429; 6.0 a minute" in (
        capsys.readouterr().err
    )
    clock.now += 30
    add(progress)
    assert "waiting" not in capsys.readouterr().err


def test_a_terminal_has_one_line_that_waits_renew(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(100, is_terminal=True, clock=clock)
    progress.say("unknown show 'X'")
    progress.say(Wait("--rpm is reached", "asking", 5.0))
    progress.say(Wait("--rpm is reached", "asking", 6.0))
    progress.say("a line")
    said = capsys.readouterr().err
    assert said.startswith(
        "unknown show 'X'\n--rpm is reached; asking in 5.0 s\n\r\x1b[K0 of 100 rows; 2 waiting"
    )
    assert said.endswith("\r\x1b[Ka line\n")


def test_a_row_that_is_still_to_be_mended_counts_its_tokens_alone(clock: Clock) -> None:
    progress = Progress(10, is_terminal=False, clock=clock)
    add(progress, None)
    assert progress.line().startswith("0 of 10 rows; 0.0 a minute; 150 tokens")


def test_a_quiet_run_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(10, is_quiet=True, is_terminal=True, clock=clock)
    for _ in range(2):
        progress.say(Wait("the server answered 500", "trying again", 5.0))
        add(progress)
    progress.end()
    assert capsys.readouterr().err == ""


def test_a_wait_goes_to_another_process_whole() -> None:
    wait = Wait("the server answered 503", "trying again", 2.5)
    copy = pickle.loads(pickle.dumps(wait))
    assert (copy, copy.reason, copy.seconds) == (wait, wait.reason, 2.5)


def test_the_last_line_is_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2, is_terminal=False, clock=clock)
    for _ in range(2):
        clock.now += 10
        add(progress)
    progress.end()
    assert len(capsys.readouterr().err.splitlines()) == 2
    add(progress)
    progress.end()
    assert capsys.readouterr().err.startswith("3 of 2 rows")
