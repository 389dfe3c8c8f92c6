"""Blind pairs that people rate, and how far a judge agrees with them."""

import json
import logging
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.errors import InputError
from synopsis_writer.evals.judge import (
    RATINGS_FILE,
    Choice,
    JudgeId,
    Pair,
    Rater,
    Trust,
    append_judgement,
    find_trust,
    rated_texts,
    read_ratings,
)
from synopsis_writer.evals.metrics import Scored, wilson_interval
from synopsis_writer.evals.record import Row
from synopsis_writer.evals.results import compare_runs
from synopsis_writer.evals.suite import Case
from synopsis_writer.synopsis import Synopsis
from tests.support.forked import Forked
from tests.support.terminal import COMMAND, Terminal
from tests.test_eval_scoring import ALL, CASES, judgement, opened, row_of, write_run

JUDGE = JudgeId("j", "aaa")


def titled(row: Row, title: str) -> Row:
    """Return a row with another text, to be told from those of the same case."""
    assert row.synopsis is not None
    text = Synopsis.model_validate({**row.synopsis.model_dump(), "title": title})
    return row.model_copy(update={"attempts": (row.attempts[0].model_copy(update={"synopsis": text}),)})


def scored(rows: Sequence[Row]) -> list[Scored]:
    return [Scored(row, {}) for row in rows]


FIRST = [titled(row_of(case), "Eins") for case in CASES]
SECOND = [titled(row_of(case, "n"), "Zwei") for case in CASES]


def rater(folder: Path, name: str = "Ina", first: Sequence[Row] = FIRST, second: Sequence[Row] = SECOND) -> Rater:
    folder.mkdir(exist_ok=True)
    return Rater(folder, name, [(scored(first), scored(second))], CASES)


def choose(pair: Pair, title: str) -> Choice:
    return 1 if pair.first.synopsis and pair.first.synopsis.title == title else 2


def rate_all(one: Rater, better: Sequence[str]) -> None:
    """Rate every pair; `better` has the title that wins, by the suite's order of cases, or an empty one."""
    wanted = dict(zip((case.id for case in CASES), better, strict=False))
    while pair := one.next():
        title = wanted[pair.case.id]
        one.rate(pair.id, choose(pair, title) if title else 0)


def test_each_rater_gets_every_pair_once_in_a_random_order_of_pairs_and_sides(tmp_path: Path) -> None:
    ina, ulf = rater(tmp_path), rater(tmp_path, "Ulf")
    assert [pair.case.id for pair in ina.pairs] != [pair.case.id for pair in ulf.pairs]
    assert sorted(pair.case.id for pair in ina.pairs) == sorted(case.id for case in CASES)
    sides = [pair.first.id.model for one in (ina, ulf) for pair in one.pairs]
    assert set(sides) == {"m", "n"}
    assert ina.pairs == rater(tmp_path).pairs


def test_a_rater_of_any_name_can_rate(tmp_path: Path) -> None:
    one = rater(tmp_path, "I\x1b[2Jna \udcff")
    pair = one.next()
    assert pair is not None
    one.rate(pair.id, 1)
    assert (one.name, rater(tmp_path, "I\x1b[2Jna \udcff").done) == ("I\ufffd[2Jna \ufffd", 1)


def test_ratings_are_saved_as_they_come_and_go_on_where_they_ended(tmp_path: Path) -> None:
    one = rater(tmp_path)
    for expected in (1, 2):
        pair = one.next()
        assert pair is not None
        one.rate(pair.id, 1)
        assert len((tmp_path / RATINGS_FILE).read_text("utf-8").splitlines()) == expected
    again = rater(tmp_path)
    assert (again.done, again.next()) == (2, again.pairs[2])
    assert rater(tmp_path, "Ulf").done == 0


def test_a_file_cut_short_is_read_up_to_the_cut_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rate_all(rater(tmp_path), ["Eins"] * 7)
    path = tmp_path / RATINGS_FILE
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        cut = rater(tmp_path)
    assert (cut.done, caplog.messages) == (6, [f"{path}:7: truncated, left out: rate the pair again"])
    pair = cut.next()
    assert pair is not None
    cut.rate(pair.id, 2)
    assert len(read_ratings(tmp_path)) == 7


def test_the_same_text_twice_makes_no_pair_and_an_unknown_pair_is_refused(tmp_path: Path) -> None:
    one = rater(tmp_path, second=[titled(row_of(case, "n"), "Eins") for case in CASES])
    assert (one.pairs, one.next()) == ([], None)
    with pytest.raises(InputError, match="no pair 'x': the run has changed"):
        one.rate("x", 1)
    with pytest.raises(InputError, match="the rater has no name"):
        rater(tmp_path, " ")


def figures(rows: Sequence[Row], preference: float) -> list[Scored]:
    scales = dict.fromkeys(("judge_coherence", "judge_theme", "judge_style", "judge_language"), 3.0)
    return [Scored(row, {"judge_preference": preference, **scales}) for row in rows]


def test_a_judge_agrees_where_its_order_of_two_texts_is_that_of_most_raters(tmp_path: Path) -> None:
    rate_all(rater(tmp_path), ["Zwei"] * 5 + ["Eins", ""])
    rate_all(rater(tmp_path, "Ulf"), ["Zwei"] * 4 + ["", "Eins", ""])
    rate_all(rater(tmp_path, "Ute"), ["Eins"] * 7)
    ratings = read_ratings(tmp_path)
    found = find_trust(ratings, [*figures(FIRST, 0.0), *figures(SECOND, 1.0)]).agreement
    assert found == wilson_interval(4, 6)  # of the fifth case people say neither
    tied = find_trust(ratings, [*figures(FIRST, 0.5), *figures(SECOND, 0.5)]).agreement
    assert tied == wilson_interval(0, 6)
    assert find_trust(ratings, scored([*FIRST, *SECOND])).agreement is None
    pairs = rated_texts(ratings, [*FIRST, *SECOND], CASES)
    assert sorted(good.title for _, good, _ in pairs) == ["Eins"] * 2 + ["Zwei"] * 4


@pytest.mark.parametrize(
    ("agreed", "pairs", "said"),
    [
        (0, 0, "not checked against people"),
        (12, 20, "untrusted: agrees with people in 60% (39% to 78%) of 20 pairs, 70% are needed"),
        (3, 3, "untrusted: agrees with people in 100% (44% to 100%) of 3 pairs, which chance can explain"),
        (16, 20, "agrees with people in 80% (58% to 92%) of 20 pairs"),
    ],
)
def test_a_judge_under_70_percent_is_untrusted_and_says_how_sure_that_is(agreed: int, pairs: int, said: str) -> None:
    trust = Trust(wilson_interval(agreed, pairs) if pairs else None)
    assert (str(trust), trust.is_untrusted) == (said, said.startswith("untrusted"))


def many(count: int) -> list[Case]:
    """Return so many cases, all of one text."""
    return [replace(CASES[0], id=f"case-{number:03}") for number in range(count)]


@pytest.mark.parametrize(
    ("pairs", "better", "winner"),
    [
        (59, "Zwei", "none is named: people: 59 pairs, 60 are needed"),
        (60, "Zwei", "n · prompts, preferred by people"),
        (60, "Eins", "m · prompts, preferred by people"),
        (60, "both", "none is named: people: after 60 pairs chance can still explain the difference"),
    ],
)
def test_a_winner_needs_60_pairs_and_an_interval_without_zero(
    tmp_path: Path, pairs: int, better: str, winner: str
) -> None:
    cases = many(pairs)
    first = [titled(row_of(case), "Eins") for case in cases]
    second = [titled(row_of(case, "n"), "Zwei") for case in cases]
    path = write_run(tmp_path / "run", [*first, *second], cases)
    one = Rater(path, "Ina", [(scored(first), scored(second))], cases)
    while pair := one.next():
        even = int(pair.case.id[-1]) % 2 == 0
        one.rate(pair.id, choose(pair, better if better != "both" else "Eins" if even else "Zwei"))
    (comparison,) = compare_runs(opened(path))
    assert comparison.winner == winner


def test_a_judge_that_people_contradict_is_marked_wherever_its_numbers_are_shown(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [*FIRST, *SECOND], CASES)
    for rows, preference in ((FIRST, 1.0), (SECOND, 0.0)):
        for row in rows:
            append_judgement(path, JUDGE, row, judgement(preference))
    rate_all(rater(path), ["Zwei"] * 7)
    marked = "untrusted: agrees with people in 0% (0% to 35%) of 7 pairs, 70% are needed"
    run = opened(path)
    assert run.judge == f"j, {marked}"
    (comparison,) = compare_runs(run)
    assert comparison.winner == f"none is named: people: 7 pairs, 60 are needed; the judge is {marked}"
    terminal = Terminal(tmp_path)
    for command in (["score", "run"], ["compare", "run"], ["report", "run", "-o", "r.html"]):
        assert marked in terminal("eval", *command, "--suite", str(ALL.folder)).err
    assert marked in (tmp_path / "r.html").read_text("utf-8")
    for kind in ("jsonl", "csv", "junit"):
        terminal("eval", "export", "run", "--format", kind, "-o", kind, "--suite", str(ALL.folder))
        assert f"j, {marked}" in (tmp_path / kind).read_text("utf-8")
    data = json.loads(terminal("eval", "score", "run", "--suite", str(ALL.folder), "--json").out)
    assert (data["judge"]["untrusted"], data["judge"]["agreement"]["cases"]) == (True, 7)


def test_pairs_of_two_runs_count_where_these_are_compared(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", FIRST), write_run(tmp_path / "b", SECOND)
    rate_all(rater(a), ["Zwei"] * 7)
    (comparison,) = compare_runs(opened(a), opened(b))
    (people,) = [each for each in comparison.differences if each.metric == "people_preference"]
    assert (people.wins, people.ties, people.losses, people.verdict) == (7, 0, 0, "no difference shown")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", [*FIRST, *SECOND], CASES)
    return ALL.folder


def test_what_has_been_rated_is_printed_without_a_terminal(tmp_path: Path, suite: Path) -> None:
    rate_all(rater(tmp_path / "run"), ["Zwei"] * 7)
    order = ("eval", "rate", "run", "--suite", str(suite), "--rater", "Ulf")
    refused = Terminal(tmp_path)(*order)
    assert (refused.code, refused.out, len(refused.err.splitlines())) == (2, "", 1)
    done = Terminal(tmp_path)(*order, "--json")
    data = json.loads(done.out)
    assert (data["pairs"], data["rated"], data["judge"]["trust"]) == (7, {"Ina": 7}, "not checked against people")


def read_until(main: int, end: bytes, process: subprocess.Popen[bytes]) -> str:
    """Return what a terminal shows, up to `end` or the end of the process."""
    shown = b""
    while not shown.rstrip().endswith(end):
        if select.select([main], [], [], 0.2)[0]:
            shown += os.read(main, 65_536)
        elif process.poll() is not None:
            break
    return shown.decode()


def test_pairs_are_rated_on_a_terminal_with_single_keys(tmp_path: Path, suite: Path) -> None:
    main, side = pty.openpty()
    order = [COMMAND, "eval", "rate", "run", "--suite", str(suite), "--rater", "Ina"]
    with Forked[bytes](order, cwd=tmp_path, stdin=side, stdout=side, stderr=side) as process:
        shown = []
        for key in b"r12x0q":
            shown.append(read_until(main, b"q stop", process))
            while termios.tcgetattr(side)[3] & termios.ICANON and process.poll() is None:
                time.sleep(0.01)  # what is typed before it reads keys is thrown away
            os.write(main, bytes([key]))
        last = read_until(main, b"\0", process)
    os.close(side)
    os.close(main)
    assert process.returncode == 0, last
    assert "Reference" in shown[1]
    assert not any(" · prompts" in each for each in shown)
    assert "3 of 7 pairs rated by Ina" in last
    lines = [json.loads(line) for line in (tmp_path / "run" / RATINGS_FILE).read_text("utf-8").splitlines()]
    assert [line["choice"] for line in lines] == [1, 2, 0]
    assert {line["rater"] for line in lines} == {"Ina"}
    known = {row.digest for row in (*FIRST, *SECOND)}
    assert all({line["first"], line["second"]} <= known for line in lines)
