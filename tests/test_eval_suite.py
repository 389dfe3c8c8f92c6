import shutil
from pathlib import Path

import pytest

from synopsis_writer.errors import ExampleError, FileError, SettingsError
from synopsis_writer.evals.metrics import METRICS
from synopsis_writer.evals.results import unmet_thresholds
from synopsis_writer.evals.statistics import Group, Interval
from synopsis_writer.evals.suite import Suite, load_cases, load_suite
from synopsis_writer.house.house import built_in_house

FORMS = tuple(built_in_house().forms)

EVALS = Path(__file__).resolve().parent.parent / "evals"


def suite_in(folder: Path, text: str) -> Path:
    (folder / "cases").mkdir()
    shutil.copy(EVALS / "cases" / "bis-neun.md", folder / "cases")
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_programs_suite_has_twenty_cases_in_all_forms_and_a_smoke_group() -> None:
    suite = load_suite(EVALS / "suite.yaml", METRICS)
    assert len(suite.cases) >= 20
    assert {case.brief.form for case in suite.cases} == set(FORMS)
    assert len({case.brief.show for case in suite.cases}) >= 4
    smoke = suite.select(["smoke"])
    assert len(smoke) <= 6
    assert {case.brief.form for case in smoke} == set(FORMS)
    assert suite.select([]) == suite.cases


@pytest.mark.parametrize(
    ("patterns", "found"),
    [(["bis-*"], {"bis-neun"}), (["abtrift", "elf-*"], {"abtrift", "elf-meter"}), (["week"], {"week"})],
)
def test_cases_are_named_by_pattern_or_form(patterns: list[str], found: set[str]) -> None:
    cases = load_suite(EVALS, METRICS).select(patterns)
    assert found in ({case.id for case in cases}, {str(case.brief.form) for case in cases})


def test_a_pattern_that_matches_none_is_reported_with_the_cases() -> None:
    with pytest.raises(ExampleError, match="no case fits 'nein': the cases are abtrift, "):
        load_suite(EVALS, METRICS).select(["nein"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thresholds: {beauty: {min: 1}}", "no metric 'beauty': the metrics are passed_first"),
        ("watched: [beauty]", "no metric 'beauty'"),
        ("watched: [length_ratio]", "watched: neither side of 'length_ratio' is better: leave it out"),
        ("thresholds: {passed: {min: .nan}}", "'.nan' cannot be used as a number"),
        ("thresholds: {passed: {max: .inf}}", "'.inf' cannot be used as a number"),
        ("thresholds: {passed: {}}", "says neither min nor max"),
        ("thresholds: {passed: {min: 2, max: 1}}", "min 2 is above max 1"),
        ("groups: {smoke: [bis-zehn]}", "group 'smoke': no case fits 'bis-zehn'"),
        ("groups: {smoke: []}", "groups.smoke"),
        ("weather: fine", "weather"),
        ("a: [", "suite.yaml"),
    ],
)
def test_a_broken_suite_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_suite(suite_in(tmp_path, text), METRICS)
    assert str(caught.value).startswith(str(tmp_path / "suite.yaml"))
    assert "\n" not in str(caught.value)


def test_a_missing_suite_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        load_suite(tmp_path / "none.yaml", METRICS)


def test_a_case_without_reference_is_reported(tmp_path: Path) -> None:
    text = (EVALS / "cases" / "bis-neun.md").read_text(encoding="utf-8")
    (tmp_path / "leer.md").write_text(text[: text.rindex("---") + 4], encoding="utf-8")
    with pytest.raises(ExampleError, match=r"leer\.md.*has no reference"):
        load_cases(tmp_path)


def test_two_cases_of_one_id_are_reported(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(EVALS / "cases" / "bis-neun.md", tmp_path / folder)
    with pytest.raises(ExampleError, match=r"the id 'bis-neun' is taken by .*a/bis-neun\.md: rename one"):
        load_cases(tmp_path)


@pytest.mark.parametrize(("old", "new"), [("facts:", "facts: [1]\nx:"), ("facts:", "same_story: eins\nx:")])
def test_a_value_that_is_not_a_list_is_reported_with_its_line(tmp_path: Path, old: str, new: str) -> None:
    text = (EVALS / "cases" / "bis-neun.md").read_text(encoding="utf-8")
    (tmp_path / "falsch.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ExampleError, match=r"falsch\.md:\d+: '.*' must be a list of"):
        load_cases(tmp_path)


def test_an_empty_or_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ExampleError, match="holds no case"):
        load_cases(tmp_path)
    with pytest.raises(FileError, match="no such folder"):
        load_cases(tmp_path / "none")


def group(*, is_demo: bool = False, **means: float | None) -> Group:
    metrics = {name: None if mean is None else Interval(mean, mean, mean, 1) for name, mean in means.items()}
    return Group("m", "prompts", is_demo, 4, 4, 4, 0, 0, metrics, {})


def test_a_missed_threshold_is_reported_and_an_unscored_metric_misses_its_own() -> None:
    suite = Suite.model_validate(
        {
            "thresholds": {"passed": {"min": 0.8}, "delta": {"max": 1.5}},
            "demo_thresholds": {"chrf": {"min": 30}},
        }
    )
    assert unmet_thresholds(suite, [group(passed=0.8, delta=1.5), group(is_demo=True, chrf=30)]) == []
    assert unmet_thresholds(suite, [group(passed=0.75, delta=None), group(is_demo=True, chrf=29.95)]) == [
        "m with prompts: passed is 0.75, at least 0.8 is required",
        "m with prompts: delta is unscored, at most 1.5 is required",
        "m with prompts: chrf is 29.9, at least 30 is required",
    ]
