from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.errors import FileError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.text import Span
from synopsis_writer.log import Run, RunLog, messages_hash
from synopsis_writer.models.base import Answer, Message
from synopsis_writer.result import Attempt
from synopsis_writer.synopsis import Outline
from synopsis_writer.usage import Cost, Usage

ASKED = (Message("system", "Du schreibst."), Message("user", "Über eine Fähre."))
OUTLINE = Outline.model_validate(
    {
        "title": "Die letzte Fähre",
        "logline": "Eine Ärztin verpasst die letzte Fähre und findet einen Patienten.",
        "characters": [{"name": "Klara Winter", "role": "Ärztin"}],
        "beats": ["Klara verpasst die Fähre.", "Sie findet einen Mann am Kai.", "Sie bringt ihn heim."],
    }
)
RUN = Run(
    "20261121T080000-abc123",
    "write",
    datetime(2026, 11, 21, 8, tzinfo=UTC),
    make_brief(show="Rote Rosen", theme="Eine Ärztin verpasst die letzte Fähre", words="250-400"),
    "test-model",
    server="127.0.0.1:8000/v1",
    outline=OUTLINE,
    attempts=3,
    best_of=2,
    prompt="synopsis",
    version="system 1, synopsis 1",
    prompt_hash="abcdef",
    examples=("rote-rosen/eins", "rote-rosen/zwei"),
)
REFUSED = Attempt(
    1,
    Answer("{}", "length", Usage(900, 30, 800, 50, 20), 1.5, "test-model-2026", None, Cost(Decimal("0.0021"), "EUR")),
    ASKED,
    problem="",
    findings=(Finding("length", False, 3, "250-400", "The text has 3 words.", (Span(0, 2),)),),
)
BROKEN = Attempt(1, Answer("Gern!"), ASKED, 1, True, problem="structure: the answer holds no JSON object")
TAKEN = Attempt(2, Answer("Ja.", words_by_model=17, is_cached=True), problem="")


def filled(path: Path | None = None) -> RunLog:
    log = RunLog(path)
    log.begin(RUN)
    log.add(RUN.id, REFUSED)
    log.add(RUN.id, TAKEN)
    return log


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    log = filled(tmp_path / "runs.sqlite3")
    log.end(RUN.id, "accepted")
    log.saved(RUN.id, tmp_path / "text.md")
    log.close()
    again = RunLog(tmp_path / "runs.sqlite3")
    assert again.runs() == [replace(RUN, outcome="accepted", path=str(tmp_path / "text.md"))]
    again.add(RUN.id, BROKEN)
    assert again.attempts(RUN.id) == [REFUSED, TAKEN, BROKEN]
    assert again._database.execute("SELECT outcome FROM runs").fetchall() == [("done",)]
    again.close()


def test_an_attempt_is_in_the_file_before_its_run_ends(tmp_path: Path) -> None:
    log = filled(tmp_path / "runs.sqlite3")
    other = RunLog(tmp_path / "runs.sqlite3")  # another process, which may outlive the first
    assert other.find("last").outcome == "running"
    assert len(other.attempts(RUN.id)) == 2
    other.close()
    log.close()


def test_a_prompt_is_stored_once(tmp_path: Path) -> None:
    log = filled(tmp_path / "runs.sqlite3")
    log.add(RUN.id, REFUSED)
    assert log._database.execute("SELECT hash FROM prompts").fetchall() == [(messages_hash(ASKED),)]
    log.close()


@pytest.mark.parametrize("name", ["last", RUN.id, "20261121T08", "0000-abc", "abc123"])
def test_a_run_is_found_by_a_part_of_its_id(name: str) -> None:
    assert filled().find(name).id == RUN.id


@pytest.mark.parametrize(
    ("name", "message"), [("", "no such run"), ("%", "no such run"), ("2026", "2 runs match"), ("x", "log list")]
)
def test_an_id_of_no_run_or_of_several_is_reported(name: str, message: str) -> None:
    log = filled()
    log.begin(replace(RUN, id="20261121T090000-ffffff"))
    with pytest.raises(FileError, match=message):
        log.find(name)


def test_the_newest_run_is_listed_first() -> None:
    log = filled()
    log.begin(replace(RUN, id="later", created=datetime(2026, 11, 22, tzinfo=UTC)))
    log.begin(replace(RUN, id="earlier", created=datetime(2026, 11, 20, tzinfo=UTC)))
    assert [run.id for run in log.runs()] == ["later", RUN.id, "earlier"]
    assert [run.id for run in log.runs(1)] == ["later"]


def test_nothing_of_a_removed_run_stays_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    log = filled(path)
    log.begin(replace(RUN, id="other", brief=make_brief(show="AWZ", theme="Ein Koffer"), outline=None))
    log.remove([RUN.id])
    assert [run.id for run in log.runs()] == ["other"]
    assert log.attempts(RUN.id) == []
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert "Fähre".encode() not in content
        assert b"test-model-2026" not in content
    assert b"Koffer" in path.read_bytes()
    log.close()


def test_a_log_that_cannot_be_written_says_what_to_do() -> None:
    log = filled()
    with pytest.raises(FileError, match="go on with --no-log"):
        log.begin(RUN)  # the id is taken
    with pytest.raises(FileError, match="go on with --no-log"):
        log.add(RUN.id, replace(TAKEN, answer=Answer("half a character: \ud83d")))
    log.close()
    with pytest.raises(FileError):
        log.runs()


def test_a_number_that_sqlite_cannot_store_is_reported() -> None:
    log = filled()
    with pytest.raises(FileError, match=r"too large.*go on with --no-log"):
        log.add(RUN.id, replace(TAKEN, answer=Answer("Ja.", usage=Usage(2**63))))
    assert len(log.attempts(RUN.id)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE runs SET brief = '{}'",
        "UPDATE runs SET brief = x'ff'",
        "UPDATE runs SET outcome = 'paused'",
        "UPDATE runs SET created = 'x'",
        "UPDATE runs SET examples = '3'",
        "UPDATE runs SET outline = '{}'",
        "UPDATE attempts SET amount = 'x'",
        "UPDATE attempts SET problems = 'x'",
        "UPDATE attempts SET problems = '[1]'",
        "UPDATE attempts SET finish = 'x'",
        "UPDATE attempts SET prompt_tokens = 'x'",
        """UPDATE prompts SET messages = '[{"a": 1}]'""",
        "UPDATE prompts SET messages = '[1]'",
    ],
)
def test_an_unreadable_run_is_reported_and_can_be_removed(damage: str) -> None:
    log = filled()
    log._database.execute(damage)
    with pytest.raises(FileError) as caught:
        (log.find("abc123"), log.attempts(RUN.id))
    assert str(caught.value) == (f"run log: run {RUN.id} cannot be read: remove it with synopsis log rm {RUN.id}")
    assert log.ids() == [log.find_id("last")] == [log.find_id("abc123")] == [RUN.id]
    assert log.remove([RUN.id])
    assert log.ids() == []


def test_a_time_without_a_zone_is_taken_as_utc() -> None:
    log = filled()
    log._database.execute("UPDATE runs SET created = '2026-11-21T08:00:00'")
    assert log.ids(before=RUN.created + timedelta(seconds=1)) == [RUN.id]
    assert log.ids(before=RUN.created) == []


def test_what_is_removed_while_another_reads_is_overwritten_when_the_log_is_opened_next(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    log, other = filled(path), RunLog(path)
    other._database.execute("BEGIN")
    assert len(other.runs()) == 1
    assert not log.remove([RUN.id])
    assert any("Fähre".encode() in file.read_bytes() for file in tmp_path.iterdir())
    other._database.execute("COMMIT")  # both stay open, so that no closing tidies up
    RunLog(path).close()
    assert not any("Fähre".encode() in file.read_bytes() for file in tmp_path.iterdir())
    log.close()
    other.close()
