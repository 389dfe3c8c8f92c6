"""Eval runs through the real command, against a real server."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.evals.metrics import METRICS
from synopsis_writer.evals.suite import Case, load_suite
from tests.support.forked import Forked
from tests.support.judging import JudgeServer, reply, scores
from tests.support.loopback import Fault, Hangup, LoopbackServer, Reply, Silence, Step
from tests.support.terminal import COMMAND, Run, Terminal

ROOT = Path(__file__).resolve().parent.parent
CASES = load_suite(ROOT / "evals", METRICS).select([])[:7]
GOOD = [Reply(case.reference.as_json(), prompt_tokens=5000, completion_tokens=800) for case in CASES]


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """Seven of the program's cases, in a separate suite."""
    evals = tmp_path / "evals"
    (evals / "cases").mkdir(parents=True)
    for case in CASES:
        shutil.copy(case.path, evals / "cases")
    suite = "groups: {small: [abtrift, bis-neun]}\nthresholds: {passed: {min: 0.5}}\nwatched: [passed, facts]\n"
    (evals / "suite.yaml").write_text(suite, encoding="utf-8")
    return Terminal(tmp_path)


def run(terminal: Terminal, steps: Sequence[Step], *flags: str, out: str = "run") -> Run:
    """Run the suite, one text after the other, against a server that plays exactly `steps`."""
    with JudgeServer(steps, repeat_last=False) as server:
        order = ["eval", "run", "--out", out, "--model", "m", "--concurrency", "1", "--max-retries", "0"]
        return terminal(*order, *flags, server=server)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def make(terminal: Terminal, tmp_path: Path, kept: Path) -> Callable[..., None]:
    """Make a run's folder as `run` does, the first time; then copy it."""

    def made(steps: Sequence[Step], *flags: str, out: str = "run") -> None:
        if (kept / out).exists():
            shutil.copytree(kept / out, tmp_path / out)
        else:
            done = run(terminal, steps, *flags, out=out)
            assert done.code == 0, done.err
            shutil.copytree(tmp_path / out, kept / out)

    return made


def cut(case: Case) -> Reply:
    """A text that the gate refuses, and that tells half of its facts."""
    data = json.loads(case.reference.as_json())
    data["paragraphs"] = data["paragraphs"][:2]
    return Reply(json.dumps(data, ensure_ascii=False))


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


def test_a_run_is_made_scored_and_compared_with_its_thresholds(terminal: Terminal, tmp_path: Path) -> None:
    done = run(terminal, GOOD)
    assert done.code == 0, done.err
    assert "m · prompts\n  7 rows: 7 accepted, 0 refused, 0 failed\n" in done.out
    assert "  facts                1.00  [1.00, 1.00]\n" in done.out
    assert "  cost             unscored (7)\n" in done.out
    assert "7 of 7 rows; 7 accepted" in done.err
    assert len(results(tmp_path / "run")) == 7
    again = run(terminal, [])
    assert (again.code, again.out) == (0, done.out)


def test_a_missed_threshold_exits_4_and_says_which(terminal: Terminal) -> None:
    steps = [step for case in CASES[:4] for step in [cut(case)] * 2] + GOOD[4:]
    done = run(terminal, steps, "--attempts", "2")
    assert done.code == 4
    assert "synopsis: m with prompts: passed is 0.429, at least 0.5 is required" in done.err
    assert "refused for: " in done.out


def test_a_run_that_breaks_off_says_so_and_can_be_continued(terminal: Terminal, tmp_path: Path) -> None:
    broken = run(terminal, [GOOD[0], Hangup(), GOOD[2], Fault(401)])
    assert broken.code == 3
    assert "set OPENAI_API_KEY" in broken.err
    table = terminal("eval", "score", "run")
    assert table.code == 4
    assert "  3 of 7 rows, INCOMPLETE: 2 accepted, 0 refused, 1 failed\n" in table.out
    assert "incomplete: 4 of 7 rows are missing; run the same command again" in table.err
    assert "incomplete: 1 row failed" in table.err
    report = terminal("eval", "report", "run", "-o", "report.html")
    assert report.code == 4
    assert "incomplete" in (tmp_path / "report.html").read_text("utf-8").lower()
    whole = run(terminal, [GOOD[1], *GOOD[3:]])
    assert whole.code == 0, whole.err
    assert "7 rows: 7 accepted" in whole.out


def test_a_wait_of_hours_ends_a_run_which_goes_on_later(terminal: Terminal, tmp_path: Path) -> None:
    ended = run(terminal, [*GOOD[:2], Fault(429, {"x-ratelimit-reset-requests": "2h0m0s"})])
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines()[-1].endswith("(in 2.0 h): run the same command again then")
    assert len(results(tmp_path / "run")) == 2
    assert run(terminal, GOOD[2:]).code == 0


def test_a_wait_of_hours_ends_the_judge(terminal: Terminal) -> None:
    ended = run(terminal, [GOOD[0], Fault(429, {"retry-after": "7200"})], "--judge", "j", "--cases", CASES[0].id)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines()[-1].endswith("(in 2.0 h): run the same command again then")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_an_ended_run_loses_at_most_what_was_in_flight(terminal: Terminal, tmp_path: Path, end: signal.Signals) -> None:
    with LoopbackServer([*GOOD[:3], Silence(600)]) as server:
        process = Forked[bytes](
            [COMMAND, "eval", "run", "--out", "run", "--model", "m", "--concurrency", "1"],
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while len(server.chats) < 4:
            time.sleep(0.01)
        process.send_signal(end)
        _, said = process.communicate(timeout=120)
    assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL)
    assert b"Traceback" not in said
    assert len(results(tmp_path / "run")) == 3
    done = run(terminal, GOOD[3:], "--max-retries", "5")
    assert done.code == 0, done.err
    assert len(results(tmp_path / "run")) == 7


def test_a_worse_prompt_is_reported_as_worse(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "prompts", tmp_path / "worse")
    template = tmp_path / "worse" / "synopsis.md"
    template.write_text(template.read_text("utf-8") + "\nFasse dich kurz.\n", "utf-8")
    first = run(terminal, GOOD, out="first")
    assert first.code == 0
    blessed = terminal("eval", "bless", "first")
    assert (blessed.code, blessed.err) == (0, "baseline: evals/baselines/m-62c66a\n")
    baseline = tmp_path / "evals" / "baselines" / "m-62c66a"
    assert (baseline / "prompts.json").read_text("utf-8") == (tmp_path / "first" / "prompts.json").read_text("utf-8")
    second = run(terminal, [cut(case) for case in CASES], "--attempts", "1", "--prompt", "worse", out="second")
    assert second.code == 4
    assert "second: m · worse: facts is worse than with first: m · prompts: -" in second.err
    assert "passed is 0, at least 0.5 is required" in second.err
    compared = terminal("eval", "compare", "first", "second")
    assert compared.code == 0
    assert "second: m · worse\n  against first: m · prompts\n" in compared.out
    (facts,) = [line for line in compared.out.splitlines() if line.startswith("  facts ")]
    assert re.search(r" 0 won, [01] tied, [67] lost: worse$", facts)
    same = terminal("eval", "compare", "first", "first").out
    assert "worse" not in same
    assert "better" not in same
    better = terminal("eval", "compare", "second", "first").out
    assert "7 won, 0 tied, 0 lost: better" in better
    assert terminal("eval", "report", "second", "--against", "first", "-o", "report.html").code == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Fasse dich kurz.</ins>" in page
    assert page.count('<span class="note">changed</span>') == 1


def test_several_models_and_prompts_are_separate_groups(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "prompts", tmp_path / "andere")
    flags = ("--cases", "small", "--model", "n", "--prompt", "andere", "--prompt", str(ROOT / "prompts"))
    small = [reply for reply, case in zip(GOOD, CASES, strict=True) if case.id in ("abtrift", "bis-neun")]
    done = run(terminal, small * 4, *flags)
    groups = [line for line in done.out.splitlines() if " · " in line]
    assert groups == ["m · andere", "m · prompts", "n · andere", "n · prompts"]
    refused = terminal("eval", "bless", "run")
    assert (refused.code, "choose one with --prompt" in refused.err) == (2, True)
    assert terminal("eval", "bless", "run", "--prompt", "andere").code == 0
    assert sorted(path.name for path in (tmp_path / "evals" / "baselines").iterdir()) == ["m-62c66a", "n-1b16b1"]


def test_a_judge_reads_each_text_once(terminal: Terminal, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.id == "bis-neun")
    second, facts = reply("second"), len(case.brief.beats + case.facts)
    steps = [GOOD[CASES.index(case)], scores(facts), second, second]
    done = run(terminal, steps, "--cases", "bis-neun", "--judge", "judge-model")
    assert done.code == 0, done.err
    assert "0 failed\n  judge: judge-model, not checked against people\n" in done.out
    assert "  judge_theme          4.00  [4.00, 4.00]\n" in done.out
    assert "  judge_preference     0.50  [0.50, 0.50]\n" in done.out
    assert "judge: 3 attempts, 300 + 150 tokens" in done.err
    again = run(terminal, [], "--cases", "bis-neun", "--judge", "judge-model")
    assert again.out == done.out
    assert len((tmp_path / "run" / "judged.jsonl").read_text("utf-8").split()) > 0


def test_one_budget_covers_texts_and_judge_however_often_the_run_is_continued(
    terminal: Terminal, tmp_path: Path
) -> None:
    flags = ("--cases", "bis-neun", "--max-tokens-total", "20000")
    (good,) = [reply for reply, case in zip(GOOD, CASES, strict=True) if case.id == "bis-neun"]
    assert run(terminal, [replace(good, prompt_tokens=19_000)], *flags).code == 0
    judged = run(terminal, [], *flags, "--judge", "judge-model")
    assert judged.code == 3
    assert "the next call could pass the budget of 20000 tokens: 19800 tokens spent" in judged.err
    assert "judge: 0 attempts" in judged.err
    assert not (tmp_path / "run" / "judged.jsonl").exists()


def test_runs_are_listed_with_their_verdicts(terminal: Terminal, tmp_path: Path) -> None:
    for name, steps in (("runs/a", GOOD), ("runs/b", [cut(case) for case in CASES])):
        run(terminal, steps, "--attempts", "1", out=name)
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "run.json").write_text("{", "utf-8")
    done = terminal("eval", "list")
    assert done.code == 0
    assert done.err == "runs/c/run.json: is broken: name another run, or make it again\n"
    shown = {line.split("  ")[1]: line.split("  ")[2:] for line in done.out.splitlines()}
    assert shown == {
        "runs/a": ["m · prompts", "7 of 7 accepted", "passed"],
        "runs/b": [
            *("m · prompts", "0 of 7 accepted"),
            "1 problem: m with prompts: passed is 0, at least 0.5 is required",
        ],
    }
    data = json.loads(terminal("eval", "list", "--json").out)["runs"]
    assert {each["run"]: len(each["problems"]) for each in data} == {"runs/a": 0, "runs/b": 1}


def test_a_suite_of_ones_own_is_made_and_runs(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert terminal("eval", "init", "evals").err == "written: evals/suite.yaml\nwritten: evals/cases/bis-neun.md\n"
    (good,) = [reply for reply, case in zip(GOOD, CASES, strict=True) if case.id == "bis-neun"]
    done = run(terminal, [good])
    assert (done.code, "1 row: 1 accepted" in done.out) == (0, True)
    again = terminal("eval", "init", "evals")
    assert (again.code, "is there already: name another folder" in again.err) == (2, True)


@pytest.mark.parametrize("command", ["score", "compare", "bless", "report", "export", "list"])
def test_every_command_prints_json(terminal: Terminal, make: Callable[..., None], command: str) -> None:
    models = [step for case in CASES for step in (Reply(case.reference.as_json()),)]
    make(models * 2, "--model", "n", out="runs/a")
    more = {"report": ["-o", "r.html"], "export": ["-o", "x.csv", "--format", "csv"], "bless": ["--suite", "evals"]}
    named = ["runs"] if command == "list" else ["runs/a"]
    done = terminal("eval", command, *named, *more.get(command, []), "--json")
    assert done.code == 0, done.err
    assert isinstance(json.loads(done.out), dict)


def test_style_is_shown_beside_the_score(terminal: Terminal) -> None:
    done = run(terminal, GOOD)
    (line,) = [line for line in done.out.splitlines() if line.startswith("  beside the score: ")]
    assert all(name in line for name in ("compression ratio", "self-repetition", "floskeln per 1,000 words"))


def test_a_run_is_named_after_its_folder(terminal: Terminal, tmp_path: Path) -> None:
    done = run(terminal, GOOD[:1], "--cases", CASES[0].id, out=".")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["name"] == tmp_path.name


def test_runs_with_nothing_in_common_cannot_be_compared(terminal: Terminal) -> None:
    for place, out in enumerate(("first", "second")):
        assert run(terminal, [GOOD[place]], "--cases", CASES[place].id, out=out).code == 0
    done = terminal("eval", "compare", "first", "second")
    assert (done.code, done.out) == (2, "")
    assert "first and second have no model, kind of text or case in common: name others" in done.err


def test_no_baseline_is_written_into_the_program(tmp_path: Path) -> None:
    done = Terminal(tmp_path)("eval", "bless", "run")
    assert done.code == 2
    assert "name a suite of your own with --suite" in done.err


def test_scores_in_a_folder_that_holds_no_run_stay(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text("mine", "utf-8")
    assert terminal("eval", "score", ".").code == 2
    assert (tmp_path / "scores.jsonl").read_text("utf-8") == "mine"


def test_an_interrupted_judge_check_reports_results_and_cost_so_far(terminal: Terminal) -> None:
    with JudgeServer([*[reply("first")] * 22, Fault(401)]) as server:
        order = ("eval", "judge-check", "--judge", "j", "--concurrency", "1")
        done = terminal(*order, server=server)
    assert done.code == 3
    (total,) = [line for line in done.out.splitlines() if line.startswith("all ")]
    assert total.split()[1:4] == ["0", "11", "0"]
    assert "compared 10 of " in done.err
    assert "compared 9 of " not in done.err
    assert "22 attempts, 2200 + 1100 tokens" in done.err


def test_a_judge_is_measured_on_corrupted_references(terminal: Terminal) -> None:
    with JudgeServer([reply("first")]) as server:
        done = terminal("eval", "judge-check", "--judge", "j", "--cases", "small", server=server)
    assert done.code == 0, done.err
    assert "sentences shuffled" in done.out
    assert "attempts, " in done.err


@pytest.mark.parametrize("kind", ["jsonl", "csv", "junit"])
def test_a_run_is_exported(terminal: Terminal, make: Callable[..., None], tmp_path: Path, kind: str) -> None:
    make(GOOD)
    done = terminal("eval", "export", "run", "--format", kind, "-o", "told")
    assert (done.code, done.err) == (0, "written: told\n")
    text = (tmp_path / "told").read_text("utf-8")
    assert all(case.id in text for case in CASES)


def test_a_report_is_written(terminal: Terminal, make: Callable[..., None], tmp_path: Path) -> None:
    make(GOOD)
    done = terminal("eval", "report", "run", "-o", "report.html", "--against", "run")
    assert done.code == 0, done.err
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert CASES[0].reference.title in page
    assert "were not saved" not in page
    saved = json.loads((tmp_path / "run" / "prompts.json").read_text("utf-8"))
    assert saved["prompts"]["system.md"] == (ROOT / "prompts" / "system.md").read_text("utf-8")
    assert "judge.md" not in saved["prompts"]


@pytest.mark.parametrize("content", [None, "{", '{"prompts": 1}', '{"prompts": {"a.md": "\\ud800"}}'])
def test_an_old_run_gives_a_report_without_its_prompts(
    terminal: Terminal, make: Callable[..., None], tmp_path: Path, content: str | None
) -> None:
    make(GOOD)
    path = tmp_path / "run" / "prompts.json"
    path.unlink()
    if content is not None:
        path.write_text(content, "utf-8")
    done = terminal("eval", "report", "run", "-o", "report.html")
    assert done.code == 0, done.err
    assert ("prompts.json: is broken" in done.err) == (content is not None)
    assert "The templates of prompts were not saved" in (tmp_path / "report.html").read_text("utf-8")
    assert run(terminal, []).code == 0
    assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "no folder for the run: name one with --out"),
        (["run", "--out", "r", "none"], "none: no such file"),
        (["run", "--out", "r", "--cases", "nein"], "no case fits 'nein'"),
        (["run", "--out", "r", "--model", "m", "--model", "m"], "two of --model have the same name"),
        (["run", "--out", "r", "--model", "m", "--prompt", "none"], "none"),
        (["run", "--out", "r", "--model", ""], "--model is empty: give it a name"),
        (["run", "--out", "r", "--model", "m\udc80"], r"--model 'm\udc80': is not UTF-8"),
        (["run", "--out", "r\udc80", "--model", "m"], r"--out 'r\udc80': is not UTF-8"),
        (["run", "--out", "r", "--model", "m", "--judge", ""], "--judge is empty: give it a name"),
        (["run", "--out", "r", "--model", "packaged", "--judge", "packaged"], "cannot judge"),
        (["score", "none"], "none: holds no run"),
        (["compare", "none", "none"], "none: holds no run"),
        (["compare", "none"], "none: holds no run"),
        (["rate", "none"], "rating needs a terminal"),
        (["run", "--out", "r", "--model", "m", "--judge", "j", "--judge", "j"], "two of --judge have"),
        (["bless", "none"], "none: holds no run"),
        (["report", "none", "-o", "x"], "none: holds no run"),
        (["export", "none", "-o", "x", "--format", "csv"], "none: holds no run"),
        (["judge-check", "--judge", "packaged"], "cannot judge"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_exits_2_with_one_line(terminal: Terminal, arguments: list[str], said: str) -> None:
    done = terminal("eval", *arguments, SYNOPSIS_BASE_URL="http://127.0.0.1:9/v1")
    assert (done.code, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]
    assert len(done.err.splitlines()) == 1
