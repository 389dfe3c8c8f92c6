from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.errors import BudgetSpentError, ConnectionFailedError, FileError, GateRefusedError, ModelError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.text import Span
from synopsis_writer.models.base import Answer
from synopsis_writer.result import UNJUDGED, Attempt, Result, RowResult
from synopsis_writer.show import generic_show
from synopsis_writer.synopsis import Synopsis, parse
from synopsis_writer.testing import synopsis_json
from synopsis_writer.usage import NO_COST, Usage

BRIEF = make_brief(show="Rote Rosen", theme="Eine Ärztin verpasst die letzte Fähre")
SYNOPSIS = parse(synopsis_json("Klara verpasst die Fähre. Am Kai liegt ein Mann."), Synopsis).value
ANSWER = Answer(synopsis_json("Klara verpasst die Fähre. Am Kai liegt ein Mann."), usage=Usage(10, 20))
SHORT = Finding("length", False, 9, "250-400", "The text has 9 words.", (Span(0, 5), Span(7, 9)))
CLOSED = Finding("hook", False, "", "", "The text ends closed.", (Span(9, 12),))
HELD = Finding("rhythm", True, 3, "5", "The sentences vary.")
ACCEPTED = Attempt(2, ANSWER, synopsis=SYNOPSIS, problem="", findings=(HELD,))
REFUSED = replace(ACCEPTED, number=1, findings=(HELD, SHORT, CLOSED))


def made(*attempts: Attempt, error: ModelError | None = None) -> Result:
    best = attempts[-1] if attempts else None
    return Result(BRIEF, generic_show("Rote Rosen"), attempts, best, error, run="r1")


def test_an_attempt_is_not_judged_at_first() -> None:
    attempt = Attempt(1, ANSWER)
    assert (attempt.passed, attempt.problems, attempt.synopsis) == (False, (UNJUDGED,), None)


def test_an_attempt_names_the_checks_that_refuse_it() -> None:
    assert REFUSED.checks == ("length", "hook")
    assert REFUSED.problems == ("length: The text has 9 words.", "hook: The text ends closed.")
    assert REFUSED.spans == ((0, 5), (7, 9), (9, 12))
    assert (ACCEPTED.passed, ACCEPTED.checks, ACCEPTED.problems) == (True, (), ())


@pytest.mark.parametrize(
    "attempt",
    [
        ACCEPTED,
        REFUSED,
        Attempt(1, ANSWER),
        Attempt(1, Answer("{"), problem="structure: the JSON is cut off"),
        Attempt(1, Answer("Nein."), problem="the model refused: Nein: das geht nicht."),
    ],
)
def test_an_attempt_recorded_with_its_verdict_alone_has_it_again(attempt: Attempt) -> None:
    again = Attempt.recorded(attempt.number, attempt.answer, attempt.problems, synopsis=attempt.synopsis)
    for name in ("number", "passed", "problems", "checks", "synopsis"):
        assert getattr(again, name) == getattr(attempt, name)


def test_an_attempt_that_was_recorded_whole_is_the_same_again() -> None:
    findings = [Finding.from_data(finding.as_data()) for finding in REFUSED.findings]
    assert Attempt.recorded(1, ANSWER, REFUSED.problems, findings, synopsis=SYNOPSIS) == REFUSED


def test_a_refused_synopsis_is_not_saved_among_the_good_ones(tmp_path: Path) -> None:
    result = made(REFUSED)
    with pytest.raises(GateRefusedError, match="nothing to save: length: The text has 9 words"):
        result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert result.save_refused(tmp_path) == tmp_path / "der-schluessel.md"


def test_an_answer_without_structure_is_saved_as_received(tmp_path: Path) -> None:
    result = made(Attempt(1, Answer("Gern!"), problem="structure: the answer holds no JSON object"))
    path = result.save_refused(tmp_path, "json")
    assert path == tmp_path / "antwort-ohne-struktur.txt"
    assert path.read_text(encoding="utf-8") == "Gern!\n"
    assert (result.text, result.as_data()["text"]) == ("", None)
    assert made().save_refused(tmp_path) is None


def test_a_folder_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="cannot save into"):
        made(ACCEPTED).save(tmp_path / "file")


def test_a_row_is_what_its_result_is() -> None:
    row = RowResult.of("7", made(REFUSED, ACCEPTED))
    assert (row.id, row.outcome, row.reason, row.synopsis) == ("7", "accepted", "", SYNOPSIS)
    assert row.provenance is not None
    assert row.provenance["run"] == "r1"
    assert (row.attempts, row.usage, row.cost) == ((REFUSED, ACCEPTED), Usage(20, 40), None)
    assert RowResult.of("8", made(REFUSED)).reason == "length: The text has 9 words. hook: The text ends closed."


def test_a_transient_error_fails_the_row_and_any_other_ends_the_work() -> None:
    gone, spent = ConnectionFailedError("server: gone"), BudgetSpentError("the budget is spent")
    rows = [RowResult.of("7", made(REFUSED, error=error)) for error in (gone, spent)]
    assert [(row.outcome, row.reason, row.error) for row in rows] == [
        ("failed", "server: gone", None),
        ("pending", "the budget is spent", spent),
    ]
    early = [RowResult.failed("7", error) for error in (gone, spent)]
    assert [(row.outcome, row.error, row.cost, row.attempts) for row in early] == [
        ("failed", None, NO_COST, ()),
        ("pending", spent, NO_COST, ()),
    ]


def test_what_a_failed_call_took_is_counted() -> None:
    gone = ConnectionFailedError("server: gone")
    gone.usage = Usage(7)
    row = RowResult.failed("7", gone)
    assert (row.usage, row.cost) == (Usage(7), None)
    assert made(REFUSED, error=gone).usage == Usage(17, 20)
