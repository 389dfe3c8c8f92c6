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
from synopsis_writer.batch.variety import MIGRATION as VARIETY
from synopsis_writer.brief import Brief
from synopsis_writer.client import Cost, Usage
from synopsis_writer.database import open_database
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
)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a batch's record to read it, while it is being made, too.

    Raises:
        FileError: there is none, or it is damaged.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise FileError(f"{folder}: holds no batch: name a folder that 'synopsis batch run' wrote")
    database = open_database(path, MIGRATIONS)
    try:
        yield database
    except sqlite3.Error as error:
        raise FileError(f"{path}: {error}: the record is damaged") from error
    finally:
        database.close()


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
        yield Saved(
            name,
            place,
            Brief.model_validate_json(brief),
            _synopsis(synopsis),
            json.loads(origin or "{}"),
        )


def _synopsis(text: str) -> Synopsis:
    """Return a text of the record as it stands: it was validated when it was saved."""
    data = json.loads(text)
    return Synopsis.model_construct(
        title=data["title"],
        logline=data["logline"],
        characters=tuple(Character.model_construct(**person) for person in data["characters"]),
        paragraphs=tuple(Paragraph.model_construct(**part) for part in data["paragraphs"]),
    )


def count(database: sqlite3.Connection) -> Counts:
    """Return how far a batch is."""
    statuses = dict(database.execute("SELECT status, count(*) FROM rows GROUP BY status").fetchall())
    sums = """
        SELECT sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(seconds),
        max(is_unpriced), max(currency) FROM rows
    """
    prompt, completion, cached, seconds, unpriced, currency = database.execute(sums).fetchone()
    amounts = database.execute("SELECT amount FROM rows WHERE amount IS NOT NULL")
    total = sum((Decimal(amount) for (amount,) in amounts), Decimal(0))
    return Counts(
        statuses.get("pending", 0),
        statuses.get("accepted", 0),
        statuses.get("refused", 0),
        statuses.get("failed", 0),
        Usage(prompt or 0, completion or 0, cached or 0),
        None if unpriced else Cost(total, currency or ""),
        seconds or 0.0,
    )
