"""Rows are compared with the batch's others when they are saved, and repaired while they have rounds left."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.run import Hooks, RowSaver, end_repairs
from synopsis_writer.batch.store import BatchStore
from synopsis_writer.batch.variety import Variety
from synopsis_writer.errors import EngineError
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import Settings
from synopsis_writer.usage import Usage
from synopsis_writer.writer import Writer
from tests.support.terminal import GOOD

ROWS = [BatchRow(name, place, GOOD.brief) for place, name in enumerate(("first", "second"), 1)]
FIRST = RowResult(
    "first",
    "accepted",
    "",
    GOOD.synopsis,
    {},
    (Attempt(1, Answer(GOOD.synopsis.as_json()), problem=""),),
    Usage(100, 50),
)
SECOND = replace(FIRST, id="second")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(Settings(cache=tmp_path_factory.mktemp("cache")), environment={}, log=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BatchStore]:
    with BatchStore(tmp_path, {}) as opened:
        opened.fill(ROWS)
        yield opened


def saver(store: BatchStore, writer: Writer, made: list[tuple[str, str, bool]]) -> RowSaver:
    def tell(done: RowResult, is_final: bool) -> None:
        made.append((done.id, done.outcome, is_final))

    return RowSaver(store, writer, Variety(store.database, store.text), Hooks(made=tell))


def kept(store: BatchStore) -> list[tuple[str, int]]:
    database: sqlite3.Connection = store.database
    return database.execute("SELECT status, attempts FROM rows ORDER BY place").fetchall()


def test_of_two_similar_rows_the_later_is_to_be_repaired(store: BatchStore, writer: Writer) -> None:
    made: list[tuple[str, str, bool]] = []
    saving = saver(store, writer, made)
    assert saving.save(ROWS[0], FIRST) is None
    last = saving.save(ROWS[1], SECOND)
    assert last is not None
    assert last.answer.text == GOOD.synopsis.as_json()
    assert not last.passed
    assert {problem.split(":")[0] for problem in last.problems} >= {"variety_copy", "variety_title"}
    assert made == [("first", "accepted", True), ("second", "refused", False)]
    assert kept(store) == [("accepted", 1), ("pending", 1)]  # a kill now leaves it to the next start


def test_a_repaired_row_replaces_the_refused_one_and_both_are_counted(store: BatchStore, writer: Writer) -> None:
    saving = saver(store, writer, [])
    saving.save(ROWS[0], FIRST)
    saving.save(ROWS[1], SECOND)
    other = GOOD.synopsis.model_copy(
        update={
            "title": "Ein anderer Tag",
            "characters": (),
            "paragraphs": (GOOD.synopsis.paragraphs[0].model_copy(update={"text": "Ganz etwas Neues."}),),
        }
    )
    repaired = replace(SECOND, synopsis=other, attempts=(Attempt(2, Answer(other.as_json()), problem=""),))
    assert saving.save(ROWS[1], repaired) is None
    assert kept(store) == [("accepted", 1), ("accepted", 2)]
    assert store.counts().usage == Usage(300, 150)


def test_a_row_without_attempts_left_stays_refused(store: BatchStore, writer: Writer) -> None:
    made: list[tuple[str, str, bool]] = []
    settings = writer.settings.model_copy(update={"attempts": 1})
    saving = saver(store, Writer(settings, environment={}, log=False), made)
    saving.save(ROWS[0], FIRST)
    assert saving.save(ROWS[1], SECOND) is None
    assert made[-1] == ("second", "refused", True)


@pytest.mark.parametrize("attempts", [1, 2])
def test_an_answer_that_could_not_be_checked_is_made_again_in_the_same_round_where_it_was_the_last(
    store: BatchStore, writer: Writer, attempts: int
) -> None:
    settings = writer.settings.model_copy(update={"attempts": attempts})
    saving = saver(store, Writer(settings, environment={}, log=False), [])
    killed = EngineError("a process that checks texts was ended from outside")
    unchecked = Attempt(1, Answer(GOOD.synopsis.as_json()), problem=str(killed))
    assert saving.save(ROWS[0], RowResult("first", "pending", attempts=(unchecked,), error=killed)) is None
    end_repairs(store, settings)
    assert [(row.id, attempt.number) for row, attempt in store.due()] == [("first", attempts), ("second", 1)]
