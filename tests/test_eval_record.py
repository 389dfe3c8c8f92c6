import json
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.errors import FileError
from synopsis_writer.evals.record import RESULTS_FILE, RUN_FILE, Row, RunFolder, RunInfo, read_info, read_rows
from tests.conftest import Warned

pytestmark = pytest.mark.usefixtures("warned")

INFO = RunInfo(
    "run", "2026-11-21T08:00:00+00:00", "0.1.0", ("m",), {"prompts": "abc"}, {"eins": "1", "zwei": "2"}, 2, 3
)


def row(case: str = "eins", repeat: int = 0, error: str | None = None) -> Row:
    outcome = "failed" if error else "refused"
    return Row.model_validate(
        {"case": case, "model": "m", "prompt": "prompts", "repeat": repeat, "outcome": outcome}
        | {"attempts": [], "best": None, "error": error, "seconds": 1.5}
    )


def test_rows_come_back_as_they_were_added(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", INFO) as folder:
        folder.add(row())
        folder.add(row("zwei", 1))
    assert read_info(tmp_path / "run") == INFO
    assert list(read_rows(tmp_path / "run").values()) == [row(), row("zwei", 1)]
    with RunFolder(tmp_path / "run", INFO) as folder:
        assert set(folder.rows) == {row().id, row("zwei", 1).id}


SYNOPSIS: dict[str, object] = {
    "title": "Der Auerhahn",
    "logline": "Ein Hahn balzt im Foyer.",
    "characters": [{"name": "Alfons", "role": "Portier"}],
    "paragraphs": [{"storyline": "A", "text": "Im Foyer balzt ein Hahn."}],
}


def attempt(number: int, *problems: str, **fields: object) -> dict[str, object]:
    checks = [problem.partition(":")[0] for problem in problems]
    plain = {"number": number, "passed": not problems, "problems": problems, "checks": checks, "spans": []}
    return plain | {"answer": f"Antwort {number}", "synopsis": SYNOPSIS} | fields


NO_JSON = attempt(1, "title: Field required", checks=["structure"], synopsis=None)
REFUSED = attempt(2, "cast: nobody turns up", "words: 20, at least 90", spans=[[0, 5], [9, 14]])
METERED = {"prompt_tokens": 900, "cached_tokens": 100, "completion_tokens": 300, "seconds": 2.25}
PRICED = {"amount": "0.0125", "currency": "EUR", "answered": "m-2026", "run": "r-1", "created": "2026-11-21"}


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "accepted", "attempts": [NO_JSON, REFUSED, attempt(3)], "best": 2, **METERED, **PRICED},
        {"outcome": "refused", "attempts": [NO_JSON, REFUSED], "best": 1, **METERED},
        {"outcome": "refused", "attempts": [NO_JSON, NO_JSON], "best": 1, **METERED, **PRICED},
        {"outcome": "failed", "attempts": [REFUSED], "best": 0, "error": "server: gone", **METERED},
        {"outcome": "failed", "attempts": [], "best": None, "error": "server: gone", "run": "r-1"},
        {"outcome": "accepted", "attempts": [attempt(1)], "best": 0, "kept": 1, "amount": "0", "seconds": 0},
        {"outcome": "accepted", "attempts": [attempt(1)], "best": 0, "words_by_model": 30, "amount": "0"},
    ],
)
def test_a_line_of_a_run_comes_back_as_it_was(tmp_path: Path, fields: dict[str, object]) -> None:
    line = Row.model_validate({"case": "eins", "model": "m", "prompt": "p", "repeat": 0} | fields).model_dump_json()
    (tmp_path / RESULTS_FILE).write_text(line + "\n", encoding="utf-8")
    (made,) = read_rows(tmp_path).values()
    assert str(made) == line + "\n"


def test_a_row_is_on_the_disk_before_the_next_one_is_made(tmp_path: Path) -> None:
    with RunFolder(tmp_path, INFO) as folder:
        folder.add(row())
        assert read_rows(tmp_path) == {row().id: row()}


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    with RunFolder(tmp_path, INFO) as folder:
        folder.add(row(error="weg"))
        folder.add(row("zwei"))
        folder.add(row())
    assert read_rows(tmp_path) == {each.id: each for each in (row("zwei"), row())}


def test_a_truncated_line_is_reported_and_left_and_its_row_made_again(tmp_path: Path, warned: Warned) -> None:
    with RunFolder(tmp_path, INFO) as folder:
        folder.add(row())
        folder.add(row("zwei"))
    path = tmp_path / RESULTS_FILE
    half = path.read_bytes()[:-25]
    path.write_bytes(half)
    with RunFolder(tmp_path, INFO) as folder:
        assert list(folder.rows) == [row().id]
        folder.add(row("zwei"))
    (message,) = warned.take()
    assert message.startswith(f"{path}:2: truncated, left out: its row")
    assert path.read_bytes().startswith(half + b"\n")
    assert list(read_rows(tmp_path)) == [row().id, row("zwei").id]
    assert len(warned.take()) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(INFO, models=("m", "n")), "models changed from m to m, n"),
        (replace(INFO, repeats=3), "repeats changed from 2 to 3"),
        (replace(INFO, prompts={"prompts": "xyz"}), r"prompts changed \(prompts\)"),
        (replace(INFO, cases={"eins": "1", "drei": "3"}), r"cases changed \(drei, zwei\)"),
    ],
)
def test_another_run_is_not_mixed_into_a_folder(tmp_path: Path, changed: RunInfo, message: str) -> None:
    with RunFolder(tmp_path, INFO) as folder:
        folder.add(row())
    with pytest.raises(FileError, match=message + " since this run began: name another --out"):
        RunFolder(tmp_path, changed)
    with RunFolder(tmp_path, replace(INFO, created="later", version="9")):
        pass


def test_a_batch_that_made_nothing_does_not_fix_its_settings(tmp_path: Path) -> None:
    with RunFolder(tmp_path, INFO):
        pass
    other = replace(INFO, models=("n",))
    with RunFolder(tmp_path, other):
        pass
    assert read_info(tmp_path) == other


def test_results_without_their_run_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / RESULTS_FILE).write_text(str(row()), encoding="utf-8")
    with pytest.raises(FileError, match=r"has results\.jsonl but no run\.json: name another --out"):
        RunFolder(tmp_path, INFO)
    assert [path.name for path in tmp_path.glob("*.json*")] == [RESULTS_FILE]


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder(tmp_path, INFO), pytest.raises(FileError, match="is using this run"):
        RunFolder(tmp_path, INFO)
    with RunFolder(tmp_path, INFO):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no run"),
        ("{", "is broken"),
        ("[]", "is broken"),
        ('{"format": 1}', "is broken"),
        ('{"format": 2, "version": "9.0.0"}', "has the format 2, not 1: read it with version 9.0.0"),
    ],
)
def test_a_folder_without_a_run_of_this_version_is_reported(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / RUN_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(FileError, match=message):
        read_info(tmp_path)


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="name another --out"):
        RunFolder(tmp_path / "file" / "run", INFO)


def test_run_json_is_for_people_too(tmp_path: Path) -> None:
    with RunFolder(tmp_path, INFO):
        pass
    data = json.loads((tmp_path / RUN_FILE).read_text(encoding="utf-8"))
    assert (data["format"], data["models"], data["repeats"]) == (1, ["m"], 2)
    assert INFO.planned == 4
