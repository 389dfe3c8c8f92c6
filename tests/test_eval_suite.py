import logging
import shutil
from collections import Counter
from pathlib import Path

import pytest

from synopsis_writer.errors import ExampleError, FileError, SettingsError
from synopsis_writer.evals.metrics import METRICS, Group, Interval
from synopsis_writer.evals.results import unmet_thresholds
from synopsis_writer.evals.suite import Suite, case_hash, load_case, load_cases, load_suite
from synopsis_writer.examples import load_pool
from synopsis_writer.gate.gate import failures
from synopsis_writer.house import built_in_house
from synopsis_writer.settings import load_settings
from synopsis_writer.workspace import open_workspace
from tests.houses.corpora import HOUSES
from tests.houses.corpora import load as load_corpus

FORMS = tuple(built_in_house().forms)

EVALS = Path(__file__).resolve().parent.parent / "evals"
SUITE = load_suite(EVALS, METRICS)


def suite_in(folder: Path, text: str) -> Path:
    (folder / "cases").mkdir()
    shutil.copy(EVALS / "cases" / "bis-neun.md", folder / "cases")
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_programs_suite_has_sixty_cases_of_three_houses_and_a_smoke_group() -> None:
    suite = load_suite(EVALS / "suite.yaml", METRICS)
    own = [case for case in suite.cases if case.house is None]
    assert len(suite.cases) >= 60
    assert len({case.brief.show for case in own}) >= 8
    houses = Counter(case.house.name for case in suite.cases if case.house)
    assert houses.keys() == {"presse", "schweiz"}
    assert min(houses.values()) >= 12
    smoke = suite.select(["smoke"])
    assert len(smoke) <= 6
    assert {case.brief.form for case in smoke} == set(FORMS)
    assert {case.split for case in smoke} == {"tuning"}


# A case never changes sides: what was tuned on or looked at cannot be held out afterwards.
SPLITS = {
    "tuning": """
        am-kurzen-band brueckenbau das-brot-des-inspektors das-fehlende-nicken das-rechte-pedal
        der-letzte-fall der-rote-stift der-zweite-sprung die-blaue-von-katernberg die-botin
        die-frau-gegenueber die-letzte-kartei die-stimme-im-erker die-zweite-stimme
        die-zweite-strophe dreiunddreissig-meter eine-stunde-am-morgen einer-mehr
        fuenf-runden-glace fuenfzig-sommer hellwach maerzen platz-fuer-einen stimmrecht
        vierzehn-komma-fuenf zwei-unterschriften zwei-vaeter
    """,
    "validation": """
        abtrift angelus bis-neun das-elfte-kind das-fremde-gesicht die-bodmerin
        die-offene-stelle die-streichholzprobe dreisatz ein-einziger-ton elf-meter gaense
        im-namen-des-volkes linie-23 madeira ohne reihe-fuenf-platz-elf vier-meter-breit
        wer-kaut-schiesst-nicht wider-willen
    """,
    "held-out": """
        anderthalb-minuten angekettet der-gegner-vom-donnerstag der-zweite-schlag
        die-fremde-unter-der-strasse die-verstorbene doppelt ein-vollstaendiges-gestaendnis
        herr-schroeder heumilch im-grossen-moos nicht-abgegeben nur-das-rechte-ohr regen
        vier-sekunden vom-buefett wasserstand
    """,
}


def test_no_case_changes_its_split() -> None:
    assert {case.split for case in SUITE.cases} == SPLITS.keys()
    for split, ids in SPLITS.items():
        assert sorted(case.id for case in SUITE.cases if case.split == split) == ids.split()


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_every_form_and_every_house(split: str) -> None:
    chosen = SUITE.select([split])
    assert {case.brief.form for case in chosen} == {*FORMS, "vorschau", "folge"}
    assert len({case.brief.show for case in chosen}) >= 8


def test_references_are_of_many_lengths_in_each_form() -> None:
    for form in FORMS:
        lengths = [len(case.reference.text.split()) for case in SUITE.cases if case.brief.form == form]
        assert max(lengths) >= 1.6 * min(lengths)


@pytest.mark.parametrize(
    ("patterns", "held_out"),
    [([], False), (["week"], False), (["*"], False), (["held-out"], True), (["doppelt"], True)],
)
def test_held_out_cases_are_asked_for_by_name(patterns: list[str], held_out: bool) -> None:
    chosen = SUITE.select(patterns)
    assert chosen
    assert {case.split == "held-out" for case in chosen} == {held_out}


def test_that_cases_are_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert len(SUITE.select([])) == len(SUITE.cases) - len(SPLITS["held-out"].split())
    assert caplog.messages == ["17 held-out cases are left out: --cases held-out asks for them"]


def test_the_split_is_no_part_of_what_a_run_was_made_with(tmp_path: Path) -> None:
    text = (EVALS / "cases" / "bis-neun.md").read_text(encoding="utf-8")
    hashes = []
    for split in ("", "split: tuning\n", "split: validation\n"):
        path = tmp_path / "bis-neun.md"
        path.write_text(text.replace("split: validation\n", split), encoding="utf-8")
        hashes.append(case_hash(load_case(path)))
    assert hashes[0] == "f0de1178dcb9"  # as it was before there were splits
    assert len(set(hashes)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("split: test", r"falsch\.md:2: split: input should be 'tuning', 'validation' or 'held-out'"),
        ("split: [tuning]", r"falsch\.md:2: split: input should be "),
        ("house: ../anderswo", r"falsch\.md:2: no folder '\.\./anderswo': give the path of a house"),
        ("house: 3", r"falsch\.md:2: house: input is not a valid path"),
    ],
)
def test_a_wrong_split_or_house_is_reported_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    text = (EVALS / "cases" / "bis-neun.md").read_text(encoding="utf-8")
    (tmp_path / "falsch.md").write_text(text.replace("split: validation", line, 1), encoding="utf-8")
    with pytest.raises(ExampleError, match=message):
        load_cases(tmp_path)


@pytest.mark.parametrize("house", [None, "presse", "schweiz"])
def test_references_pass_the_gate_of_their_house_with_their_brief(house: str | None) -> None:
    folder = EVALS / "houses" / house if house else None
    workspace = open_workspace(load_settings({}, {})).of_house(folder)
    cases = [case for case in SUITE.cases if case.house == folder]
    refused = [
        case.id
        for case in cases
        if failures(workspace.gate.examine(case.reference, case.brief, workspace.find_show(case.brief.show)))
    ]
    assert refused == (["einer-mehr"] if house == "schweiz" else [])  # its house learnt less speech


def test_the_other_houses_are_as_learnt_from_the_halves_to_learn_from() -> None:
    for house in set(HOUSES) - {"epg"}:
        known = {text.text for text in load_corpus(house).learn}
        examples = load_pool([EVALS / "houses" / house]).examples
        assert {example.synopsis.text for example in examples} == known


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


@pytest.mark.parametrize(
    ("old", "new"), [("facts:", "facts: [1]\nx:"), ("facts:", "facts: [' ']\nx:"), ("facts:", "same_story: eins\nx:")]
)
def test_a_value_that_is_not_a_list_is_reported_with_its_line(tmp_path: Path, old: str, new: str) -> None:
    text = (EVALS / "cases" / "bis-neun.md").read_text(encoding="utf-8")
    (tmp_path / "falsch.md").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(
        ExampleError, match=r"falsch\.md:\d+: (facts\.0: is (not a text|empty)|same_story: is not a list)"
    ):
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
        {"thresholds": {"passed": {"min": 0.8}, "delta": {"max": 1.5}}, "demo_thresholds": {"chrf": {"min": 30}}}
    )
    assert unmet_thresholds(suite, [group(passed=0.8, delta=1.5), group(is_demo=True, chrf=30)]) == []
    assert unmet_thresholds(suite, [group(passed=0.75, delta=None), group(is_demo=True, chrf=29.95)]) == [
        "m with prompts: passed is 0.75, at least 0.8 is required",
        "m with prompts: delta is unscored, at most 1.5 is required",
        "m with prompts: chrf is 29.9, at least 30 is required",
    ]
