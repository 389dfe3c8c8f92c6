"""The summary: one group per model and prompt version, demo drafts separate, nothing hidden."""

from collections.abc import Mapping
from typing import Literal

import pytest

from synopsis_writer.evals.metrics import METRICS, Group, Scored, summarise
from synopsis_writer.evals.record import AttemptLine, Row, RunInfo
from synopsis_writer.synopsis import Character, Paragraph, Synopsis

INFO = RunInfo(
    name="run",
    created="2026-01-05T10:00:00+00:00",
    version="0.1",
    models=("zeta", "alpha"),
    prompts={"v1": "aa", "v2": "bb"},
    cases={"a": "1", "b": "2"},
    repeats=2,
    attempts=3,
)
SYNOPSIS = Synopsis(
    title="Der Auerhahn",
    logline="Ein Hahn balzt im Foyer.",
    characters=(Character(name="Alfons", role="Portier"),),
    paragraphs=(Paragraph(storyline="A", text="Im Foyer balzt ein Hahn."),),
)


def made(*checks: str) -> AttemptLine:
    text = None if checks == ("structure",) else SYNOPSIS
    return AttemptLine(
        number=1,
        passed=not checks,
        problems=tuple(f"{each}: no" for each in checks),
        checks=checks,
        answer="",
        synopsis=text,
    )


def scored(
    case: str = "a",
    model: str = "zeta",
    prompt: str = "v1",
    *,
    outcome: Literal["accepted", "refused", "failed"] = "accepted",
    attempts: tuple[AttemptLine, ...] | None = None,
    words_by_model: int | None = None,
    scores: Mapping[str, float | None] | None = None,
) -> Scored:
    tries = (made(),) if attempts is None else attempts
    best = next((place for place, each in enumerate(tries) if each.synopsis), None)
    row = Row(
        case=case,
        model=model,
        prompt=prompt,
        repeat=0,
        outcome=outcome,
        attempts=tries,
        best=best,
        words_by_model=words_by_model,
    )
    return Scored(row, scores or {})


def groups(*rows: Scored) -> dict[tuple[str, str, bool], Group]:
    return {(group.model, group.prompt, group.is_demo): group for group in summarise(INFO, rows)}


def test_every_model_with_every_prompt_is_a_group_in_the_order_of_the_run_even_without_a_row() -> None:
    found = summarise(INFO, [scored(model="alpha", prompt="v2"), scored()])
    assert [(group.model, group.prompt, group.rows, group.planned) for group in found] == [
        ("zeta", "v1", 1, 4),
        ("zeta", "v2", 0, 4),
        ("alpha", "v1", 0, 4),
        ("alpha", "v2", 1, 4),
    ]
    assert set(found[1].metrics.values()) == {None}


def test_outcomes_are_counted() -> None:
    rows = [scored(), scored("b"), scored(outcome="refused"), scored(outcome="failed", attempts=())]
    group = groups(*rows)["zeta", "v1", False]
    assert (group.rows, group.accepted, group.refused, group.failed) == (4, 2, 1, 1)


def test_a_metric_has_its_mean_over_cases_and_its_unscored_rows() -> None:
    rows = [
        scored("a", scores={"chrf": 40.0}),
        scored("a", scores={"chrf": 50.0}),
        scored("b", scores={"chrf": 35.0}),
        scored("b", scores={"chrf": None}),
    ]
    group = groups(*rows)["zeta", "v1", False]
    interval = group.metrics["chrf"]
    assert interval is not None
    assert (interval.mean, interval.cases, interval.unscored) == (40.0, 2, 1)
    assert interval.low == pytest.approx(35.0)
    assert group.metrics["cost"] is None


def test_judge_metrics_come_after_the_others() -> None:
    group = groups(scored(scores={"judge_theme": 4.0, "chrf": 40.0}))["zeta", "v1", False]
    assert list(group.metrics) == [*METRICS, "judge_theme"]


def test_a_row_without_a_text_goes_with_the_demo_drafts_of_its_model() -> None:
    lost = scored("b", outcome="failed", attempts=())
    demo = groups(scored("a", words_by_model=30), lost)["zeta", "v1", True]
    assert (demo.rows, demo.failed, demo.planned) == (2, 1, 4)
    assert groups(scored("a"), lost)["zeta", "v1", False].failed == 1
    assert groups(lost)["zeta", "v1", False].failed == 1


def test_findings_count_the_checks_that_refused_an_answer_most_frequent_first() -> None:
    rows = [
        scored(attempts=(made("hook", "length"), made("hook"), made())),
        scored("b", outcome="refused", attempts=(made("structure"), made("hook"))),
    ]
    findings = groups(*rows)["zeta", "v1", False].findings
    assert list(findings.items()) == [("hook", 3), ("length", 1), ("structure", 1)]


def test_a_check_that_found_two_spots_in_one_answer_refused_it_once() -> None:
    assert groups(scored(attempts=(made("hook", "hook"),)))["zeta", "v1", False].findings == {"hook": 1}
