"""Exports of a run, read back as their readers do; the viewer of Inspect is the real one."""

import csv
import io
import json
import math
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.document import format_yaml
from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.evals.metrics import Scored
from synopsis_writer.evals.record import AttemptLine, Row, RunInfo
from synopsis_writer.evals.report import as_csv, as_jsonl, as_junit, write_inspect_logs
from synopsis_writer.evals.suite import Case, load_cases
from synopsis_writer.formats.reading import plain_text
from synopsis_writer.storage.files import write_file
from tests.browser.run_data import results_of

CASES = Path(__file__).parent.parent / "evals" / "cases"
NAMES = ("abtrift", "bis-neun")
BAD = "Absatz 2 nennt \x1b[31m<Weg> & \x00 ]]> \ufffe\U0001f600"
BREAKS = ("=1+1", "+49 30", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1")
SCORES = {"passed_first": 1.0, "seconds": 3.5, "chrf": 54.25, "delta": None}


@cache
def cases() -> tuple[Case, ...]:
    return tuple(case for case in load_cases(CASES) if case.id in NAMES)


def case_of(name: str) -> Case:
    return next(case for case in cases() if case.id == name)


def run(*models: str, repeats: int = 2) -> RunInfo:
    prompts = {"haus": "abc", "schlechter": "def"}
    return RunInfo(
        "lauf-1", "2026-11-21T08:00:00+00:00", "0.1.0", models, prompts, dict.fromkeys(NAMES, "1"), repeats, 3
    )


def row(case: str = "abtrift", **changed: Any) -> Row:
    reference = case_of(case if case in NAMES else NAMES[0]).reference
    attempts = (AttemptLine(number=1, passed=True, problems=(), checks=(), answer="{}", synopsis=reference),)
    fields = {"case": case, "model": "m-1.5", "prompt": "haus", "repeat": 0, "outcome": "accepted"}
    used = {"prompt_tokens": 900, "cached_tokens": 100, "completion_tokens": 500, "seconds": 3.5}
    cost = {"amount": Decimal("1E-7"), "currency": "USD"}
    rest = {"attempts": attempts, "best": 0, "answered": "m-1.5-2026", "created": "2026-11-21T08:01:00+00:00"}
    return Row.model_validate({**fields, **used, **cost, **rest, **changed})


def refused(**changed: Any) -> Row:
    bad = AttemptLine(
        number=1,
        passed=False,
        problems=("form: zu kurz", f"words: {BAD}"),
        checks=("form", "words"),
        answer="{",
        synopsis=None,
    )
    return row(outcome="refused", attempts=[bad], best=None, **changed)


def failed(**changed: Any) -> Row:
    nothing: dict[str, Any] = {"amount": None, "currency": "", "seconds": 0.0, "prompt_tokens": 0, "cached_tokens": 0}
    fields = {"attempts": [], "best": None, "error": f"weg: {BAD}"} | nothing | changed
    return row(outcome="failed", **fields)


def whole(row: Row) -> Scored:
    if row.outcome == "failed":
        return Scored(row, dict.fromkeys(SCORES) | {"passed_first": 0.0})
    return Scored(row, SCORES)


def some() -> list[Scored]:
    """Rows out of order: one model and prompt version complete, of the other only one row."""
    rows = [
        row("bis-neun", prompt="schlechter"),
        row("bis-neun", repeat=1),
        failed(repeat=1),
        refused(),
        row("bis-neun"),
    ]
    return [whole(each) for each in rows]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_line_of_json_holds_a_row_with_its_scores() -> None:
    lines = [json.loads(line) for line in as_jsonl(results_of(run("m-1.5"), some(), cases()))]
    keys = [(line["case"], line["prompt"], line["repeat"]) for line in lines]
    assert keys == [
        ("abtrift", "haus", 0),
        ("abtrift", "haus", 1),
        ("bis-neun", "haus", 0),
        ("bis-neun", "haus", 1),
        ("bis-neun", "schlechter", 0),
    ]
    made, case = lines[2], case_of("bis-neun")
    assert (made["title"], made["text"]) == (case.reference.title, case.reference.text)
    assert (made["show"], made["form"]) == (case.brief.show, case.brief.form)
    assert (made["cost"], made["currency"], made["attempts"]) == ("0.0000001", "USD", 1)
    assert made["scores"] == SCORES
    assert (made["is_demo"], made["error"]) == (False, None)
    assert [line["outcome"] for line in lines[:2]] == ["refused", "failed"]
    assert lines[1]["title"] is lines[1]["text"] is lines[1]["cost"] is lines[1]["scores"]["chrf"] is None
    assert lines[1]["error"] == f"weg: {BAD}"


def test_a_metric_that_a_row_lacks_is_null_in_it() -> None:
    rows = [Scored(row(), {"chrf": 1.0}), Scored(row("bis-neun"), {"delta": 2.0})]
    scores = [json.loads(line)["scores"] for line in as_jsonl(results_of(run("m-1.5"), rows, cases()))]
    assert scores == [{"chrf": 1.0, "delta": None}, {"chrf": None, "delta": 2.0}]


def test_a_row_whose_case_is_gone_is_still_exported() -> None:
    rows = [whole(row("weg"))]
    (line,) = [json.loads(line) for line in as_jsonl(results_of(run("m-1.5"), rows, cases()))]
    assert (line["case"], line["show"], line["form"]) == ("weg", None, None)
    (record,) = table("".join(as_csv(results_of(run("m-1.5"), rows, cases()))))
    assert (record["case"], record["show"]) == ("weg", "")
    suite = fromstring(as_junit(results_of(run("m-1.5"), rows, cases())))
    assert suite.find(".//testcase[@name='weg[0]']") is not None


def test_the_table_holds_a_row_with_its_metrics_as_columns() -> None:
    records = table("".join(as_csv(results_of(run("m-1.5"), some(), cases()))))
    assert [record["case"] for record in records] == ["abtrift", "abtrift", *["bis-neun"] * 3]
    made = records[2]
    assert made["text"] == case_of("bis-neun").reference.text
    assert (made["score_chrf"], made["score_delta"], made["is_demo"]) == ("54.25", "", "false")
    assert (made["seconds"], made["score_seconds"], made["cost"]) == ("3.5", "3.5", "0.0000001")
    assert (records[1]["cost"], records[1]["score_chrf"], records[1]["error"]) == ("", "", f"weg: {BAD}")


def test_json_and_table_agree_on_a_row() -> None:
    lines = [json.loads(line) for line in as_jsonl(results_of(run("m-1.5"), some(), cases()))]
    records = table("".join(as_csv(results_of(run("m-1.5"), some(), cases()))))
    for line, record in zip(lines, records, strict=True):
        flat = {**line, **{f"score_{name}": value for name, value in line.pop("scores").items()}}
        del flat["scores"]
        assert list(flat) == list(record)
        told = {name: "" if value is None else str(value) for name, value in flat.items()}
        assert told | {"is_demo": told["is_demo"].lower()} == record


@pytest.mark.parametrize("text", BREAKS)
def test_a_spreadsheet_runs_no_text_of_the_table(text: str) -> None:
    rows = [whole(failed(answered=text, model=text))]
    (record,) = table("".join(as_csv(results_of(run(text), rows, cases()))))
    assert record["answered"] == record["model"]
    assert record["answered"].startswith("'")
    assert plain_text(record["answered"]) == text


def test_a_row_without_a_text_is_exported_with_its_group() -> None:
    rows = [whole(row("bis-neun", words_by_model=7)), whole(failed()), whole(failed(model="n"))]
    info = run("m-1.5", "n")
    found = results_of(info, rows, cases())
    lines = [json.loads(line)["is_demo"] for line in as_jsonl(found)]
    records = [record["is_demo"] for record in table("".join(as_csv(found)))]
    properties = fromstring(as_junit(found)).iterfind(".//property[@name='is_demo']")
    assert lines == [True, True, False]
    assert records == [each.get("value") for each in properties] == ["true", "true", "false"]


def test_a_negative_number_stays_one_in_the_table() -> None:
    (record,) = table("".join(as_csv(results_of(run("m-1.5"), [Scored(row(), {"chrf": -1.5})], cases()))))
    assert record["score_chrf"] == "-1.5"


def test_the_table_of_a_run_without_rows_has_its_header() -> None:
    assert table("".join(as_csv(results_of(run("m-1.5"), [], cases())))) == []
    assert "".join(as_csv(results_of(run("m-1.5"), [], cases()))).startswith("case,model,prompt,repeat,")
    assert list(as_jsonl(results_of(run("m-1.5"), [], cases()))) == []


def test_junit_counts_what_happened() -> None:
    root = fromstring(as_junit(results_of(run("m-1.5"), some(), cases())).encode("utf-8"))
    assert root.attrib == {
        "name": "lauf-1", "tests": "8", "failures": "1", "errors": "1", "skipped": "3", "time": "14.000",
    }  # fmt: skip
    house, worse = root.findall("testsuite")
    counts = {"tests": "4", "failures": "1", "errors": "1", "skipped": "0", "time": "10.500"}
    assert counts.items() <= house.attrib.items()
    assert (house.get("name"), house.get("timestamp")) == ("m-1.5 · haus", "2026-11-21T08:00:00+00:00")
    assert [worse.get(name) for name in ("tests", "skipped", "time")] == ["4", "3", "3.500"]


def test_a_row_is_a_test_in_junit() -> None:
    root = fromstring(as_junit(results_of(run("m-1.5"), some(), cases())))
    first, second, third, _ = root.findall("testsuite")[0].findall("testcase")
    clean = BAD.translate({0: "\ufffd", 0x1B: "\ufffd", 0xFFFE: "\ufffd"})
    failure, error = first.find("failure"), second.find("error")
    assert failure is not None
    assert error is not None
    assert (failure.get("type"), failure.get("message")) == ("refused", f"form: zu kurz; words: {clean}")
    assert failure.text == f"form: zu kurz\nwords: {clean}"
    assert (error.get("type"), error.text) == ("failed", f"weg: {clean}")
    form = case_of("bis-neun").brief.form
    assert third.attrib == {"classname": f"m-1.5 · haus · {form}", "name": "bis-neun[0]", "time": "3.500"}
    assert third.findtext("system-out") == "{0.title}\n\n{0.text}".format(case_of("bis-neun").reference)
    properties = {each.get("name"): each.get("value") for each in third.findall("properties/property")}
    assert properties == {
        "is_demo": "false", "passed_first": "1.0", "seconds": "3.5", "chrf": "54.25", "delta": "unscored",
    }  # fmt: skip


def test_junit_has_only_what_its_readers_know() -> None:
    known = {
        "testsuites": {"testsuite"},
        "testsuite": {"properties", "testcase"},
        "properties": {"property"},
        "testcase": {"properties", "skipped", "error", "failure", "system-out"},
    }
    root = fromstring(as_junit(results_of(run("m-1.5", "n"), some(), cases())))
    for element in root.iter():
        assert {child.tag for child in element} <= known.get(element.tag, set())
    tests = [(test.get("classname"), test.get("name")) for test in root.iter("testcase")]
    assert max(Counter(tests).values()) == 1


@given(text=st.text(st.characters(exclude_categories=[])))
def test_junit_is_well_formed_whatever_a_text_holds(text: str) -> None:
    bad = failed(model=text, error=text)
    info = run(text)
    root = fromstring(as_junit(results_of(info, [whole(bad)], cases())).encode("utf-8"))
    error = root.find(".//error")
    assert error is not None
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    assert (error.text or "") == re.sub("\r\n?", "\n", kept)  # as every XML reader reads line ends


def test_a_file_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "neu" / "lauf.csv"
    for text in ("alt\r\n", "größer\r\n"):
        write_file(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "datei").write_text("bleibt", encoding="utf-8")
    (tmp_path / "ordner").mkdir()
    for path in (tmp_path / "datei" / "lauf.csv", tmp_path / "ordner"):
        with pytest.raises(FileError, match="name another file"):
            write_file(path, "x")
    assert {entry.name for entry in tmp_path.iterdir()} == {"datei", "ordner"}
    assert (tmp_path / "datei").read_text(encoding="utf-8") == "bleibt"


def test_without_inspect_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'synopsis-writer[inspect]'")):
        write_inspect_logs(results_of(run("m-1.5"), some(), cases()), tmp_path / "logs")
    assert not list(tmp_path.iterdir())


@contextmanager
def viewer(logs: Path, home: Path) -> Iterator[str]:
    """Start Inspect's viewer; it says so once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(Path(sys.executable).parent / "inspect"), "view", "start", "--log-dir", str(logs)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", port],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "NO_COLOR": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=home,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            assert any("Running on" in line for line in iter(process.stdout.readline, ""))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def fetch(address: str) -> str:
    with urlopen(address, timeout=120) as answer:
        text: str = answer.read().decode("utf-8")
    return text


@pytest.mark.slow
@pytest.mark.skipif(find_spec("inspect_ai") is None, reason="needs the extra 'inspect' (inspect-ai)")
class TestInspect:
    def test_a_log_gives_all_rows_and_scores_back(self, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log

        paths = write_inspect_logs(results_of(run("m-1.5"), some(), cases()), tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(paths)
        log = read_eval_log(str(paths[0]))
        assert (log.status, log.eval.model, log.eval.task) == ("success", "m-1.5", "haus")
        samples = {(sample.id, sample.epoch): sample for sample in log.samples}
        assert set(samples) == {(name, epoch) for name in NAMES for epoch in (1, 2)}
        case, sample = case_of("bis-neun"), samples["bis-neun", 1]
        assert sample.input == format_yaml(case.brief.as_data())
        whole_text = f"{case.reference.title}\n\n{case.reference.text}"
        assert sample.target == sample.output.completion == sample.messages[-1].text == whole_text
        values = {name: score.value for name, score in sample.scores.items()}
        assert math.isnan(values.pop("delta"))
        assert values == {name: value for name, value in SCORES.items() if value is not None}
        usage = sample.model_usage["m-1.5"]
        assert (usage.input_tokens, usage.input_tokens_cache_read, usage.total_tokens) == (800, 100, 1400)
        assert samples["abtrift", 1].metadata["problems"] == ["form: zu kurz", f"words: {BAD}"]
        assert samples["abtrift", 1].output.completion == "{"
        assert samples["abtrift", 2].error.message == f"weg: {BAD}"

    def test_means_are_of_cases_and_say_what_is_unscored(self, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log

        rows = [
            Scored(row(), {"chrf": 10.0, "delta": None}),
            Scored(row(repeat=1), {"chrf": 20.0, "delta": None}),
            Scored(row("bis-neun"), {"chrf": 30.0, "delta": None}),
            Scored(row("bis-neun", repeat=1), {"chrf": None, "delta": None}),
        ]
        path, _ = write_inspect_logs(results_of(run("m-1.5"), rows, cases()), tmp_path)
        scores = {score.name: score for score in read_eval_log(str(path)).results.scores}
        mean = scores["chrf"].metrics["mean"]
        assert (mean.value, mean.metadata) == (22.5, {"low": 15.0, "high": 30.0, "cases": 2})
        assert (scores["chrf"].scored_samples, scores["chrf"].unscored_samples) == (3, 1)
        assert scores["delta"].metrics == {}

    def test_demo_drafts_have_a_separate_mean(self, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log

        rows = [Scored(row(), {"chrf": 10.0}), Scored(row("bis-neun", model="n", words_by_model=7), {"chrf": 30.0})]
        paths = write_inspect_logs(results_of(run("m-1.5", "n", repeats=1), rows, cases()), tmp_path)
        real, demo = (read_eval_log(str(path)) for path in (paths[0], paths[2]))
        for log, mean in ((real, {"mean": 10.0}), (demo, {"mean of demo drafts": 30.0})):
            assert {name: metric.value for name, metric in log.results.scores[0].metrics.items()} == mean
        assert ("demo drafts" in real.eval.tags, "demo drafts" in demo.eval.tags) == (False, True)

    def test_a_log_of_an_incomplete_run_says_so(self, tmp_path: Path) -> None:
        from inspect_ai.log import read_eval_log

        paths = write_inspect_logs(results_of(run("m-1.5", "m-2"), some(), cases()), tmp_path)
        logs = [read_eval_log(str(path)) for path in paths]
        assert [log.status for log in logs] == ["success", "cancelled", "cancelled", "cancelled"]
        assert [log.eval.metadata["missing_rows"] for log in logs] == [0, 3, 4, 4]
        assert [log.results.total_samples for log in logs] == [4, 4, 4, 4]
        assert len({log.eval.task_id for log in logs}) == 4  # of logs with one id the viewer shows the last

    def test_an_export_again_replaces_the_logs(self, tmp_path: Path) -> None:
        first = write_inspect_logs(results_of(run("m-1.5"), some()[:2], cases()), tmp_path)
        assert write_inspect_logs(results_of(run("m-1.5"), some(), cases()), tmp_path) == first
        assert sorted(tmp_path.iterdir()) == sorted(first)

    def test_a_folder_that_cannot_be_made_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "datei").write_text("x", encoding="utf-8")
        with pytest.raises(FileError, match="name another folder"):
            write_inspect_logs(results_of(run("m-1.5"), some(), cases()), tmp_path / "datei")

    def test_its_viewer_shows_our_samples(self, tmp_path: Path) -> None:
        paths = write_inspect_logs(results_of(run("m-1.5"), some(), cases()), tmp_path / "logs")
        with viewer(tmp_path / "logs", tmp_path) as address:
            assert "<title>Inspect View</title>" in fetch(address)
            listed = json.loads(fetch(f"{address}/api/logs"))["files"]
            assert sorted(Path(each["name"]).name for each in listed) == sorted(path.name for path in paths)
            assert {each["task"] for each in listed} == {"haus", "schlechter"}
            name = next(each["name"] for each in listed if each["task"] == "haus")
            log = json.loads(fetch(f"{address}/api/logs/{quote(name, safe='')}"))
        assert log["eval"]["viewer"]["trust_content"] is False
        told = {(sample["id"], sample["epoch"]): sample for sample in log["samples"]}
        assert set(told) == {(case, epoch) for case in NAMES for epoch in (1, 2)}
        output = told["bis-neun", 2]["output"]["choices"][0]["message"]["content"]
        assert case_of("bis-neun").reference.text in output
        assert told["bis-neun", 2]["scores"]["chrf"]["value"] == 54.25
