from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.brief import LEAST_WORDS
from synopsis_writer.document import format_yaml
from synopsis_writer.errors import InputError
from synopsis_writer.examples import load_pool
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import built_in_house, load_house
from synopsis_writer.learning.learn import RULES, as_data, calibrate, shrunk_limits
from synopsis_writer.learning.texts import measure
from synopsis_writer.settings import folder


@given(st.sampled_from(sorted(RULES)), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_learnt_limits_contain_the_middle_of_the_values_and_keep_to_the_rules(name: str, values: list[float]) -> None:
    rule = RULES[name]
    most = min(rule.most, 100)
    scaled = [value * most for value in values]
    low, high = shrunk_limits(name, scaled, (0, most))
    middle = sorted(scaled)[len(scaled) // 2]
    assert low <= max(middle, LEAST_WORDS)
    assert middle <= high <= rule.most
    if name not in {"exclamations", "variety"}:  # none may be the rule of a house; the best is the most
        assert high - low >= min(rule.least_width, most) / 2


def test_one_odd_text_moves_no_limit() -> None:
    usual, built_in = [300.0 + n for n in range(60)], (200, 600)
    assert shrunk_limits("words", [*usual, 1900.0], built_in)[1] < shrunk_limits("words", usual, built_in)[1] + 20


def test_calibration_learns_from_a_folder_and_reads_back(tmp_path: Path) -> None:
    learnt, counts = calibrate(folder("examples"), built_in_house(), "own")
    assert sum(counts.values()) == len(load_pool([folder("examples")]).examples)
    path = tmp_path / "profile.yaml"
    path.write_text(format_yaml(as_data(learnt)), encoding="utf-8")
    assert load_house(path) == learnt
    examples = load_pool([folder("examples")]).examples
    outside = 0  # of the 5th and 95th percentile, with a margin
    for example in examples:
        words = measure(analyse(example.synopsis.text))["words"]
        (low, high), _ = learnt.forms[example.brief.form].length
        outside += not low <= words <= high
    assert outside <= len(examples) / 10


def test_forms_without_a_text_keep_the_houses_limits(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Sie geht. Er bleibt am Ufer und sieht den Schiffen nach.", encoding="utf-8")
    learnt, counts = calibrate(tmp_path, built_in_house(), "own", "week")
    assert counts == {"week": 1}
    assert learnt.forms["teaser"] == built_in_house().forms["teaser"]
    assert learnt.forms["week"] != built_in_house().forms["week"]


def test_a_folder_that_cannot_be_learnt_from_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no text"):
        calibrate(tmp_path, built_in_house(), "own")
    (tmp_path / "a.txt").write_text("Sie geht.", encoding="utf-8")
    with pytest.raises(InputError, match="name one with --form"):
        calibrate(tmp_path, built_in_house(), "own")
