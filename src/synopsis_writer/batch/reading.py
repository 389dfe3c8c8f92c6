"""Reading a batch's record, also while it is being made."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal

from synopsis_writer.batch.done import Counts
from synopsis_writer.batch.export import Saved
from synopsis_writer.batch.faults import DAMAGE_MEND, reported
from synopsis_writer.batch.provider.tables import MIGRATION as PROVIDER
from synopsis_writer.batch.variety import MIGRATION as VARIETY
from synopsis_writer.brief import Brief
from synopsis_writer.client import Cost, Usage
from synopsis_writer.database import read_database
from synopsis_writer.errors import FileError
from synopsis_writer.synopsis import Character, Paragraph, Synopsis

RECORD_FILE = "batch.sqlite3"
MIGRATIONS = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE rows (
        place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, brief TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending', reason TEXT, synopsis TEXT, origin TEXT,
        attempts INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
        cached_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
        amount TEXT, currency TEXT, seconds REAL NOT NULL DEFAULT 0, is_unpriced INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX rows_by_status ON rows (status, place);
    CREATE TABLE answers (
        row TEXT NOT NULL, number INTEGER NOT NULL, passed INTEGER NOT NULL, problems TEXT NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX answers_by_row ON answers (row)
    """,
    VARIETY,
    PROVIDER,
    # Behind the texts, these columns would cost a start the reading of the whole file.
    """
    CREATE INDEX rows_by_figures ON rows (
        status, id, amount, currency, prompt_tokens, completion_tokens, cached_tokens, seconds, is_unpriced
    )
    """,
)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a batch's record to read it, while it is being made, too, and where nothing can be written.

    Raises:
        FileError: there is none, or it is damaged.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise FileError(f"{folder}: holds no batch: name a folder that 'synopsis batch run' wrote")
    database = read_database(path, MIGRATIONS)
    with contextlib.closing(database), reported(path):
        yield database


def read_brief(row: str, text: str) -> Brief:
    """Return a brief of the record.

    Raises:
        FileError: it is damaged; names the row.
    """
    try:
        return Brief.model_validate_json(text)
    except ValueError as error:
        raise _damaged_row(row) from error


def _damaged_row(row: str) -> FileError:
    return FileError(f"the record is damaged at row '{row}': {DAMAGE_MEND}")


def read_counts(database: sqlite3.Connection) -> tuple[Counts, dict[str, str]]:
    """Return how far a batch is, and why rows were refused or failed, by their ids."""
    query = "SELECT id, reason FROM rows WHERE status IN ('refused', 'failed') ORDER BY place"
    return count(database), dict(database.execute(query).fetchall())


def read_saved(
    database: sqlite3.Connection, where: str = "", order: Literal["ASC", "DESC"] = "ASC"
) -> Iterator[Saved]:
    """Yield the accepted rows, in order of their places; `where` is a further condition in SQL."""
    columns = "SELECT id, place, brief, synopsis, origin FROM rows"
    query = f"{columns} WHERE status = 'accepted' {where} ORDER BY place {order}"
    for name, place, brief, synopsis, origin in database.execute(query):
        text = read_synopsis(name, synopsis)
        try:
            told = json.loads(origin or "{}")
        except ValueError as error:
            raise _damaged_row(name) from error
        yield Saved(name, place, read_brief(name, brief), text, told)


def read_synopsis(row: str, text: str) -> Synopsis:
    """Return a text of the record as it stands: it was validated when it was saved.

    Raises:
        FileError: it is damaged; names the row.
    """
    try:
        data = json.loads(text)
        return Synopsis.model_construct(
            title=data["title"],
            logline=data["logline"],
            characters=tuple(Character.model_construct(**person) for person in data["characters"]),
            paragraphs=tuple(Paragraph.model_construct(**part) for part in data["paragraphs"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged_row(row) from error


def count(database: sqlite3.Connection) -> Counts:
    """Return how far a batch is."""
    statuses = dict(database.execute("SELECT status, count(*) FROM rows GROUP BY status").fetchall())
    sums = """
        SELECT sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(seconds),
        max(is_unpriced), max(currency) FROM rows
    """
    prompt, completion, cached, seconds, unpriced, currency = database.execute(sums).fetchone()
    amounts = database.execute("SELECT amount FROM rows WHERE amount IS NOT NULL")
    try:
        total = sum((Decimal(amount) for (amount,) in amounts), Decimal(0))
    except ArithmeticError as error:
        raise FileError(f"the record is damaged, a cost is no number: {DAMAGE_MEND}") from error
    return Counts(
        statuses.get("pending", 0),
        statuses.get("accepted", 0),
        statuses.get("refused", 0),
        statuses.get("failed", 0),
        Usage(prompt or 0, completion or 0, cached or 0),
        None if unpriced else Cost(total, currency or ""),
        seconds or 0.0,
    )
