"""Scores and judgements of runs in folders, and what they are compared with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
from pydantic import ValidationError

from synopsis_writer.errors import SettingsError
from synopsis_writer.evals.judge import (
    Judge,
    JudgeId,
    Judgement,
    append_judgement,
    judge_rows,
    judgements_text,
    load_judge_templates,
    name_jury,
    read_judgements,
    run_spending,
)
from synopsis_writer.evals.metrics import ALL_METRICS
from synopsis_writer.evals.record import AttemptLine, Row, RunInfo, read_info, read_rows
from synopsis_writer.evals.report import groups_table
from synopsis_writer.evals.results import (
    EvalResults,
    baseline_folder,
    bless,
    compare_runs,
    find_problems,
    open_results,
    score_run,
)
from synopsis_writer.evals.run import plan
from synopsis_writer.evals.suite import Case, LoadedSuite, load_suite
from synopsis_writer.models.base import Limits
from synopsis_writer.settings import Settings, folder, load_settings
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import Spent
from synopsis_writer.workspace import Workspace, open_workspace
from tests.conftest import Warned

pytestmark = pytest.mark.usefixtures("warned")

ROOT = Path(__file__).resolve().parent.parent
ALL = load_suite(ROOT / "evals", ALL_METRICS)
CASES = ALL.select([])[:7]
FIRST, SECOND = JudgeId("first-judge", "aaa"), JudgeId("second-judge", "bbb")


def settings() -> Settings:
    return load_settings({}, {})


def row_of(case: Case, model: str = "m", prompt: str = "prompts", *, passed: bool = True) -> Row:
    return line_of(case, model, prompt, passed=passed)


def line_of(case: Case, model: str = "m", prompt: str = "prompts", *, passed: bool = True) -> Row:
    made = AttemptLine(
        number=1, passed=passed, problems=(), checks=() if passed else ("words",), answer="",
        synopsis=case.reference,
    )  # fmt: skip
    return Row(
        case=case.id,
        model=model,
        prompt=prompt,
        repeat=0,
        outcome="accepted" if passed else "refused",
        attempts=(made,),
        best=0,
        prompt_tokens=3000,
        completion_tokens=700,
        amount=Decimal("0.01"),
        currency="EUR",
        seconds=8.5,
    )


def write_run(path: Path, rows: Sequence[Row], cases: Sequence[Case] = CASES) -> Path:
    """Write a folder as `eval run` leaves it, over the models and prompts of the rows."""
    models = list(dict.fromkeys(row.id.model for row in rows))
    prompts = dict.fromkeys((row.id.prompt for row in rows), folder("prompts"))
    info = plan(path, cases, models, prompts, 1, 2)
    path.mkdir(parents=True)
    (path / "run.json").write_text(info.as_json(), "utf-8")
    (path / "results.jsonl").write_text("".join(map(str, rows)), "utf-8")
    return path


def suite_in(path: Path, watched: str = "passed") -> LoadedSuite:
    path.mkdir()
    text = f"cases: {ROOT / 'evals' / 'cases'}\nwatched: [{watched}]\n"
    (path / "suite.yaml").write_text(text, "utf-8")
    return load_suite(path, ALL_METRICS)


@cache
def workspace() -> Workspace:
    return open_workspace(settings())


def opened(path: Path, suite: LoadedSuite = ALL) -> EvalResults:
    return open_results(path, suite, workspace())


def judgement(preference: float, reasons: str = "Gut.") -> Judgement:
    scores = {"coherence": 4, "theme": 4, "style": 4, "language": 4, "facts": [True], "reasons": reasons}
    return Judgement.model_validate(
        {
            "scores": scores,
            "preference": preference,
            "model": "j-2025",
            "prompt": "",
            "calls": 3,
            "unread": 0,
            "prompt_tokens": 300,
            "cached_tokens": 0,
            "completion_tokens": 150,
            "amount": "0.5",
            "currency": "EUR",
        }
    )


def preferences(run: EvalResults) -> dict[str, float | None]:
    return {one.row.id.case: one.scores["judge_preference"] for one in run.scored if len(one.scores) > 14}


def test_a_judgement_truncated_by_a_kill_loses_only_its_own_line(tmp_path: Path, warned: Warned) -> None:
    rows = [row_of(case) for case in CASES[:3]]
    path = write_run(tmp_path / "run", rows, CASES[:3])
    for row in rows[:2]:
        append_judgement(path, FIRST, row, judgement(1.0, "Müde Töne."))
    whole = (path / "judged.jsonl").read_bytes()
    (path / "judged.jsonl").write_bytes(whole[: whole.rindex("ö".encode()) + 1])
    append_judgement(path, FIRST, rows[2], judgement(0.0))
    run = opened(path)
    assert preferences(run) == {rows[0].id.case: 1.0, rows[2].id.case: 0.0}
    assert warned.take() == [f"{path / 'judged.jsonl'}:2: truncated, left out: the row is judged again"]


def test_rows_of_several_houses_are_each_measured_against_their_own(tmp_path: Path) -> None:
    cases = [case for case in ALL.cases if case.id in ("bis-neun", "gaense", "madeira")]
    found = opened(write_run(tmp_path / "run", [row_of(case) for case in cases], cases)).scored
    assert len(found) == 3
    for one in found:
        kept = {name: one.scores[name] for name in ("facts", "characters", "ending", "novelty")}
        assert kept == {"facts": 1, "characters": 1, "ending": 1, "novelty": 1}
        assert (one.scores["delta"] or 9) < 1.2


@pytest.mark.parametrize(
    "broken", ['{"row": "ROW", "scores": [1]}', '{"row": "ROW", "scores": {"chrf": "high"}}', "[", "\udc80"]
)
def test_invalid_cached_scores_are_computed_again(tmp_path: Path, broken: str) -> None:
    path = write_run(tmp_path / "run", [row_of(CASES[0])], CASES[:1])
    found = opened(path).scored
    digest = json.loads((path / "scores.jsonl").read_text("utf-8"))["row"]
    text = broken.replace("ROW", digest) + "\n"
    (path / "scores.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert opened(path).scored == found


def _as_it_was(workspace: Workspace, cases: Sequence[Case]) -> tuple[Workspace, Sequence[Case]]:
    return workspace, cases


def _other_reference(workspace: Workspace, cases: Sequence[Case]) -> tuple[Workspace, Sequence[Case]]:
    return workspace, [*cases[:-1], replace(cases[-1], reference=cases[0].reference)]


def _one_example_less(workspace: Workspace, cases: Sequence[Case]) -> tuple[Workspace, Sequence[Case]]:
    return replace(workspace, pool=replace(workspace.pool, examples=workspace.pool.examples[1:])), cases


def _other_profile(workspace: Workspace, cases: Sequence[Case]) -> tuple[Workspace, Sequence[Case]]:
    house = workspace.gate.house.model_copy(update={"name": "x"})
    return replace(workspace, gate=replace(workspace.gate, house=house)), cases


@pytest.mark.parametrize(
    ("change", "kept"),
    [(_as_it_was, True), (_other_reference, False), (_one_example_less, False), (_other_profile, False)],
)
def test_cached_scores_are_valid_as_long_as_the_references(
    tmp_path: Path, change: Callable[[Workspace, Sequence[Case]], tuple[Workspace, Sequence[Case]]], kept: bool
) -> None:
    rows = [row_of(CASES[0])]

    def scored(workspace: Workspace, cases: Sequence[Case]) -> float | None:
        return score_run(tmp_path, rows, cases, workspace)[0].scores["chrf"]

    assert scored(workspace(), CASES) == pytest.approx(100)
    line = json.loads((tmp_path / "scores.jsonl").read_text("utf-8"))
    line["scores"]["chrf"] = 12.5
    (tmp_path / "scores.jsonl").write_text(json.dumps(line), "utf-8")
    assert scored(*change(workspace(), CASES)) == (12.5 if kept else pytest.approx(100))


def test_scores_are_used_though_they_cannot_be_cached(tmp_path: Path, warned: Warned) -> None:
    path = write_run(tmp_path / "run", [row_of(CASES[0])], CASES[:1])
    (path / "scores.jsonl").mkdir()
    assert opened(path).scored[0].scores["chrf"] == pytest.approx(100)
    assert [line.startswith("the scores are not saved: cannot write ") for line in warned.take()] == [True]


def test_answers_from_the_cache_have_no_tokens_cost_or_time(tmp_path: Path) -> None:
    cached = line_of(CASES[0]).model_copy(update={"kept": 1, "prompt_tokens": 0, "completion_tokens": 0})
    silent = line_of(CASES[1]).model_copy(update={"prompt_tokens": 0, "completion_tokens": 0})
    rows = [cached, silent, row_of(CASES[2])]
    run = opened(write_run(tmp_path / "run", rows, CASES[:3]))
    took = [[one.scores[name] for name in ("tokens", "cost", "seconds")] for one in run.scored]
    assert took == [[None, None, None], [None, 0.01, 8.5], [3700.0, 0.01, 8.5]]


def test_a_row_keeps_its_digest_when_rows_get_a_field() -> None:
    line = line_of(CASES[0])
    assert line.digest == line.model_copy(update={"kept": 0}).digest
    assert line.digest != line.model_copy(update={"kept": 1}).digest


@pytest.mark.parametrize("best", [1, -1])
def test_a_row_without_its_best_attempt_is_damaged(tmp_path: Path, best: int, warned: Warned) -> None:
    data = {**line_of(CASES[0]).model_dump(), "best": best}
    with pytest.raises(ValidationError, match=f"best is {best}, and there are 1 attempts"):
        Row.model_validate(data)
    path = write_run(tmp_path / "run", [row_of(CASES[0])])
    (path / "results.jsonl").write_text(json.dumps(data, default=str), "utf-8")
    assert read_rows(path) == {}
    assert len(warned.take()) == 1


def test_only_the_judge_that_was_run_last_counts_and_is_named(tmp_path: Path) -> None:
    rows = [row_of(case) for case in CASES[:2]]
    path = write_run(tmp_path / "run", rows, CASES[:2])
    for row in rows:
        append_judgement(path, FIRST, row, judgement(1.0))
    append_judgement(path, SECOND, rows[0], judgement(0.0))
    run = opened(path)
    assert preferences(run) == {rows[0].id.case: 0.0}
    table = groups_table(run)
    assert "failed\n  judge: second-judge, not checked against people\n  passed_first" in table
    assert "judge:" not in groups_table(opened(write_run(tmp_path / "b", rows)))


async def test_a_changed_judge_judges_again_and_one_that_comes_back_does_not(tmp_path: Path) -> None:
    rows = [row_of(CASES[0])]
    path = write_run(tmp_path / "run", rows, CASES[:1])
    templates = load_judge_templates(folder("prompts"))
    changed = {**templates, "judge": replace(templates["judge"], hash="0" * 12)}
    words = " ".join(CASES[0].reference.text.split()[:3])
    pair = json.dumps({"reasons": f"„{words}“", "better": "equal"})
    asked = []
    for name, its in (("a", templates), ("a", templates), ("b", templates), ("a", templates), ("a", changed)):
        judge = Judge(ScriptedClient(["?", "?", pair, pair], name), its, Limits())
        await judge_rows(path, rows, ALL, judge, concurrency=1)
        name_jury(path, [judge.id])
        assert read_judgements(path).name == name
        asked.append(len(judge.answers))
    assert asked == [4, 0, 4, 0, 4]


async def test_a_jury_counts_by_the_mean_of_its_judges_and_each_by_that_of_its_votes(tmp_path: Path) -> None:
    rows = [row_of(case) for case in CASES[:2]]
    path = write_run(tmp_path / "run", rows, CASES[:2])
    for judge, votes in ((FIRST, (1.0, 0.0, 0.5)), (SECOND, (1.0,))):
        for vote, preference in enumerate(votes):
            append_judgement(path, judge, rows[0], judgement(preference), vote)
    append_judgement(path, FIRST, rows[1], judgement(1.0))
    name_jury(path, [FIRST, SECOND])
    run = opened(path)
    assert run.judgements.name == "first-judge + second-judge"
    assert preferences(run) == {rows[0].id.case: 0.75, rows[1].id.case: None}  # the second has not read it
    bills = run.judgements.bills()
    assert [(bill["judge"], bill["judgements"], bill["cost"]) for bill in bills] == [
        ("first-judge", 4, "2.00 EUR"),
        ("second-judge", 1, "0.5000 EUR"),
    ]
    (tmp_path / "blessed.jsonl").write_text(judgements_text(run.judgements, rows), "utf-8")
    assert (tmp_path / "blessed.jsonl").read_text("utf-8").count('"jury":') == 1


async def test_only_votes_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    rows = [row_of(CASES[0])]
    path = write_run(tmp_path / "run", rows, CASES[:1])
    words = " ".join(CASES[0].reference.text.split()[:3])
    pair = json.dumps({"reasons": f"„{words}“", "better": "equal"})
    samples = []
    for votes in (1, 3, 3):
        client = ScriptedClient(["?", "?", pair, pair] * votes, "a")
        judge = Judge(client, load_judge_templates(folder("prompts")), Limits())
        await judge_rows(path, rows, ALL, judge, votes=votes, concurrency=1)
        samples.append([call.limits.sample for call in client.calls])
    assert samples == [[0, 1, 0, 0], [2, 3, 2, 2, 4, 5, 4, 4], []]  # no sample twice, or a cache would answer


def test_a_run_has_spent_what_its_rows_and_judges_took(tmp_path: Path) -> None:
    lost = Row.model_validate(
        {"case": "x", "model": "m", "prompt": "p", "repeat": 0, "outcome": "failed", "attempts": ()}
        | {"best": None, "amount": 0}
    )
    rows = [row_of(case) for case in CASES[:2]]
    for judge in (FIRST, SECOND):
        append_judgement(tmp_path, judge, rows[0], judgement(1.0))
    price = {"amount": Decimal("0.10"), "currency": "EUR"}
    paid = lost.model_copy(update={"prompt_tokens": 40, "completion_tokens": 10, **price})
    assert run_spending(tmp_path / "none", [lost, paid]) == Spent(paid.cost, 50)
    spent = run_spending(tmp_path, [*rows, lost])
    assert spent.cost is not None
    assert (spent.cost.amount, spent.cost.currency, spent.tokens) == (Decimal("1.02"), "EUR", 8300)
    unpriced = rows[0].model_copy(update={"amount": None})
    assert run_spending(tmp_path, [unpriced]).cost is None
    assert run_spending(tmp_path, [rows[0].model_copy(update={"currency": "USD"})]).cost is None
    assert run_spending(tmp_path / "none", []) == Spent()


def test_a_model_is_compared_only_with_its_own_baseline(tmp_path: Path) -> None:
    suite = suite_in(tmp_path / "suite")
    bless(opened(write_run(tmp_path / "good", [row_of(case) for case in CASES]), suite), None)
    bad = [row_of(case, "n", passed=False) for case in CASES]
    both = opened(write_run(tmp_path / "both", [*(row_of(case) for case in CASES), *bad]), suite)
    assert find_problems(both, workspace()) == []
    worse = [row_of(case, passed=False) for case in CASES]
    (found,) = find_problems(opened(write_run(tmp_path / "worse", worse), suite), workspace())
    assert found.startswith("worse: m · prompts: passed is worse than with good: m · prompts: -1")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", "{", "the baseline of m cannot be read: "),
        ("run.json", None, "the baseline of m cannot be read: "),
        ("results.jsonl", None, "the baseline of m is incomplete: 7 of 7 rows are missing"),
    ],
)
def test_a_broken_baseline_is_reported(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    suite = suite_in(tmp_path / "suite")
    run = opened(write_run(tmp_path / "run", [row_of(case) for case in CASES]), suite)
    (blessed,) = bless(run, None)
    if text is None:
        (blessed / file).unlink()
    else:
        (blessed / file).write_text(text, "utf-8")
    (found,) = find_problems(run, workspace())
    assert found.startswith(message)


def test_two_models_of_one_file_name_have_separate_baselines() -> None:
    models = ["openai/gpt-x", "azure/gpt-x", "openai/gpt.x", "a/../openai/gpt-x"]
    folders = {baseline_folder(ALL, model) for model in models}
    assert len(folders) == 4
    assert {path.parent for path in folders} == {ALL.folder / "baselines"}


def test_a_blessed_run_takes_its_judgements_along(tmp_path: Path) -> None:
    suite, rows = suite_in(tmp_path / "suite"), [row_of(case) for case in CASES]
    path = write_run(tmp_path / "run", rows)
    for row in rows:
        append_judgement(path, FIRST, row, judgement(1.0))
    run = opened(path, suite)
    (blessed,) = bless(run, None)
    baseline = opened(blessed, suite)
    assert baseline.judgements == run.judgements
    assert preferences(baseline) == dict.fromkeys((case.id for case in CASES), 1.0)
    bless(opened(write_run(tmp_path / "plain", rows), suite), None)
    assert not opened(blessed, suite).judgements.jury


def test_rows_of_two_judges_are_not_compared(tmp_path: Path) -> None:
    rows, runs = [row_of(case) for case in CASES], []
    for name, judge in (("a", FIRST), ("b", SECOND), ("c", SECOND)):
        path = write_run(tmp_path / name, rows)
        for row in rows:
            append_judgement(path, judge, row, judgement(1.0))
        runs.append(opened(path))
    metrics = ("passed", "judge_preference")
    found = [[one.metric for one in compare_runs(a, runs[2], by=metrics)[0].differences] for a in runs[:2]]
    assert found == [["passed"], ["passed", "judge_preference"]]


def test_missing_rows_are_counted_against_the_plan(tmp_path: Path) -> None:
    stray = line_of(CASES[0]).model_copy(update={"repeat": 5})
    run = opened(write_run(tmp_path / "run", [row_of(CASES[0]), stray], CASES[:2]))
    assert (run.missing, len(run.scored), run.info.planned) == (1, 1, 2)
    with pytest.raises(SettingsError, match="1 row missing"):
        bless(run, None)


def test_changed_cases_are_reported_once(tmp_path: Path, warned: Warned) -> None:
    path = write_run(tmp_path / "run", [row_of(CASES[0])], CASES[:3])
    info = read_info(path)
    cases = {**info.cases, CASES[1].id: "0" * 12, CASES[2].id: "1" * 12, "gone": "2" * 12}
    changed: RunInfo = replace(info, cases=cases)
    (path / "run.json").write_text(changed.as_json(), "utf-8")
    opened(path)
    assert warned.take() == [
        f"{path}: 2 cases have changed since the run; they are scored against the current references",
        f"{path}: 1 of its cases are not in this suite: name its suite with --suite",
    ]


def test_each_group_is_compared_with_the_first_of_its_model_and_of_its_prompts(tmp_path: Path) -> None:
    rows = [row_of(case, model, prompt) for model in "ab" for prompt in "pq" for case in CASES[:2]]
    comparisons = compare_runs(opened(write_run(tmp_path / "run", rows, CASES[:2])))
    assert [(one.second, one.first) for one in comparisons] == [
        ("a · q", "a · p"),
        ("b · p", "a · p"),
        ("b · q", "b · p"),
        ("b · q", "a · q"),
    ]
