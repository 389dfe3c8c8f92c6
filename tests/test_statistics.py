"""The statistics: cases count once, intervals cover the truth, and no winner is named without reason."""

import random
from collections.abc import Sequence

import pytest

from synopsis_writer.evals.metrics import MIN_CASES, MIN_PAIRS, Scored, compare, estimate, interval, preferred
from synopsis_writer.evals.record import AttemptLine, Row
from synopsis_writer.synopsis import Character, Paragraph, Synopsis

SYNOPSIS = Synopsis(
    title="Der Auerhahn",
    logline="Ein Hahn balzt im Foyer.",
    characters=(Character(name="Alfons", role="Portier"),),
    paragraphs=(Paragraph(storyline="A", text="Im Foyer balzt ein Hahn."),),
)
METRIC = "rouge_l"
SPREAD = (0.1, 0.3, 0.2, 0.5, 0.4, 0.25, 0.35, 0.15)


def scored(
    case: str, value: float | None, repeat: int = 0, *, metric: str = METRIC, words_by_model: int | None = None
) -> Scored:
    attempt = AttemptLine(number=1, passed=True, problems=(), checks=(), answer="", synopsis=SYNOPSIS)
    row = Row(
        case=case,
        model="m",
        prompt="p",
        repeat=repeat,
        outcome="accepted",
        attempts=(attempt,),
        best=0,
        words_by_model=words_by_model,
    )
    return Scored(row, {metric: value})


def run(values: Sequence[float | None], *, metric: str = METRIC) -> list[Scored]:
    return [scored(f"case-{number:03}", value, metric=metric) for number, value in enumerate(values)]


def test_a_case_with_many_repeats_counts_as_much_as_one_with_one() -> None:
    rows = [*(scored("a", 0.0, repeat) for repeat in range(9)), scored("b", 1.0)]
    found = estimate(rows, METRIC)
    assert found is not None
    assert (found.mean, found.cases) == (0.5, 2)


def test_unscored_rows_are_counted_and_never_zero() -> None:
    found = estimate([scored("a", 0.8), scored("a", None, 1), scored("b", None)], METRIC)
    assert found is not None
    assert (found.mean, found.cases, found.unscored) == (0.8, 1, 2)


def test_a_metric_without_a_value_has_no_interval() -> None:
    assert estimate(run([None, None]), METRIC) is None
    assert estimate(run([0.5]), "an unknown metric") is None
    assert estimate([], METRIC) is None


def test_one_case_has_an_interval_without_width() -> None:
    found = estimate([scored("a", 0.2), scored("a", 0.4, 1)], METRIC)
    assert found is not None
    assert found.low == found.high == found.mean == pytest.approx(0.3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 39.7])
def test_equal_values_have_an_interval_without_width(value: float) -> None:
    found = interval([value] * 21)
    assert (found.low, found.mean, found.high) == (value, value, value)


def test_the_order_of_the_rows_changes_nothing() -> None:
    rng = random.Random(3)
    rows = [scored(f"case-{n}", rng.random(), repeat) for n in range(20) for repeat in range(3)]
    shuffled = rng.sample(rows, len(rows))
    assert estimate(shuffled, METRIC) == estimate(rows, METRIC)
    better = [Scored(row.row, {METRIC: (row.scores[METRIC] or 0.0) + rng.random()}) for row in rows]
    assert compare(shuffled, rng.sample(better, len(better)), METRIC) == compare(rows, better, METRIC)


def test_the_interval_contains_the_true_mean_about_as_often_as_it_says() -> None:
    rng = random.Random(21)
    found = [interval([rng.gauss(5.0, 2.0) for _ in range(21)]) for _ in range(300)]
    share = sum(each.low <= 5.0 <= each.high for each in found) / len(found)
    assert 0.90 <= share <= 0.98
    assert all(each.low < each.mean < each.high for each in found)


def test_more_cases_make_the_interval_narrower() -> None:
    rng = random.Random(4)
    values = [rng.random() for _ in range(400)]
    few, many = interval(values[:20]), interval(values)
    assert many.high - many.low < (few.high - few.low) / 2


def test_no_run_is_better_than_itself() -> None:
    rows = run(SPREAD)
    found = compare(rows, rows, METRIC)
    assert (found.wins, found.ties, found.losses, found.verdict) == (0, 8, 0, "no difference shown")
    assert found.difference is not None
    assert (found.difference.low, found.difference.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [
        ("rouge_l", 0.1, "better"),
        ("rouge_l", -0.1, "worse"),
        ("delta", 0.1, "worse"),
        ("delta", -0.1, "better"),
        ("length_ratio", 0.1, None),
    ],
)
def test_a_difference_is_judged_by_the_direction_of_its_metric(metric: str, shift: float, verdict: str | None) -> None:
    after = [value + shift * (1 + place / 10) for place, value in enumerate(SPREAD)]
    found = compare(run(SPREAD, metric=metric), run(after, metric=metric), metric)
    assert found.verdict == verdict
    assert found.difference is not None
    assert found.difference.mean * shift > 0


def test_wins_and_losses_follow_the_direction() -> None:
    before, after = [1.0, 1.0, 1.0], [2.0, 2.0, 0.5]
    higher = compare(run(before), run(after), METRIC)
    lower = compare(run(before, metric="delta"), run(after, metric="delta"), "delta")
    assert (higher.wins, higher.ties, higher.losses) == (2, 0, 1)
    assert (lower.wins, lower.ties, lower.losses) == (1, 0, 2)


def test_a_metric_of_a_judge_is_compared_by_its_direction() -> None:
    many = SPREAD * MIN_PAIRS
    before, after = run(many, metric="judge_theme"), run([v + 1 for v in many], metric="judge_theme")
    assert compare(before, after, "judge_theme").verdict == "better"


def test_rounding_is_a_tie() -> None:
    found = compare(run(SPREAD), run([value + 1e-12 for value in SPREAD]), METRIC)
    assert (found.ties, found.verdict) == (len(SPREAD), "no difference shown")


def test_cases_that_one_side_lacks_are_named_and_left_out() -> None:
    found = compare(run([0.1, 0.2, None]), [scored("case-001", 0.2), scored("case-999", 0.9)], METRIC)
    assert (found.only_a, found.only_b) == (("case-000",), ("case-999",))
    assert found.difference is not None
    assert (found.difference.mean, found.difference.cases, found.difference.unscored) == (0.0, 1, 1)


def test_runs_without_a_case_in_common_show_no_difference() -> None:
    found = compare([scored("a", 0.1)], [scored("b", 0.9)], METRIC)
    assert (found.difference, found.verdict) == (None, "no difference shown")


def test_few_cases_name_no_winner_however_clear_they_look() -> None:
    for cases in range(1, MIN_CASES + 2):
        found = compare(run([0.1] * cases), run([0.9] * cases), METRIC)
        assert found.verdict == ("better" if cases >= MIN_CASES else "no difference shown")


@pytest.mark.parametrize("metric", ["judge_preference", "people_preference"])
def test_opinions_name_no_winner_under_60_pairs(metric: str) -> None:
    verdicts = [preferred(metric, [1.0] * pairs).verdict for pairs in (MIN_PAIRS - 1, MIN_PAIRS)]
    assert (MIN_PAIRS, verdicts) == (60, ["no difference shown", "better"])


def test_two_runs_of_equal_quality_seldom_differ() -> None:
    rng = random.Random(8)
    verdicts = [
        compare(
            run([rng.gauss(0.5, 0.1) for _ in range(21)]), run([rng.gauss(0.5, 0.1) for _ in range(21)]), METRIC
        ).verdict
        for _ in range(200)
    ]
    assert 0.88 <= verdicts.count("no difference shown") / len(verdicts) <= 0.99
