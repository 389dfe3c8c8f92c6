"""The tables that hold what of a batch lies at a provider, and what is read of them."""

import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from synopsis_writer.client import Cost
from synopsis_writer.client.budget import Spent

Flaw = Literal["", "cut", "withheld"]
WRITTEN = "written"  # before the provider has a state of its own for it

# `asked` holds the rows of the open shards, `waiting` the rows that are to be mended in a further round.
MIGRATION = """
    CREATE TABLE shards (
        number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, server TEXT NOT NULL, digest TEXT NOT NULL,
        requests INTEGER NOT NULL, worst_tokens INTEGER NOT NULL, worst_amount TEXT, worst_currency TEXT,
        file TEXT, tried REAL, batch TEXT, status TEXT NOT NULL DEFAULT 'written',
        done INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, expires REAL,
        is_open INTEGER NOT NULL DEFAULT 1
    );
    CREATE TABLE asked (
        shard INTEGER NOT NULL, place INTEGER NOT NULL, line INTEGER NOT NULL, round INTEGER NOT NULL,
        flaw TEXT NOT NULL, returns INTEGER NOT NULL, is_read INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (shard, place)
    ) WITHOUT ROWID;
    CREATE INDEX asked_by_place ON asked (place);
    CREATE TABLE waiting (
        place INTEGER PRIMARY KEY, round INTEGER NOT NULL, flaw TEXT NOT NULL, returns INTEGER NOT NULL
    )
"""


# Of the table `rows`: those that are nobody else's to begin.
NOT_OUT = """
    NOT EXISTS (SELECT 1 FROM asked WHERE asked.place = rows.place AND is_read = 0)
    AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.place = rows.place)
"""


@dataclass(frozen=True)
class Asked:
    """One row's request.

    Attributes:
        place: the row's.
        round: 1 for the first draft; what is more mends the round before.
        flaw: what was wrong with the last answer beyond its problems: cut, or withheld.
        returns: how often this round came back without an answer.
    """

    place: int
    round: int = 1
    flaw: Flaw = ""
    returns: int = 0


@dataclass(frozen=True)
class Shard:
    """One file of requests, and what the provider makes of it.

    Attributes:
        number: its number in the batch, from 1.
        key: what it is called everywhere: in file names, request ids and the provider's metadata.
        server: host, port and path of the provider; empty for a file that somebody else runs.
        digest: the SHA-256 of the file.
        requests: how many there are.
        worst: what they may cost at most.
        file: the provider's id of the uploaded file.
        tried: when the last request to make the batch was over at the latest, in seconds since the epoch.
        batch: the provider's id of the batch.
        status: the provider's word for how it stands; `written` is ours.
        done, failed: requests, as the provider counts them.
        expires: when it ends in any case, in seconds since the epoch.
    """

    number: int
    key: str
    server: str
    digest: str
    requests: int
    worst: Spent
    file: str | None = None
    tried: float | None = None
    batch: str | None = None
    status: str = WRITTEN
    done: int = 0
    failed: int = 0
    expires: float | None = None


_SHARD = (
    "SELECT number, key, server, digest, requests, worst_tokens, worst_amount, worst_currency, "
    "file, tried, batch, status, done, failed, expires FROM shards"
)


def open_shards(database: sqlite3.Connection) -> list[Shard]:
    """Return the shards of a record that are not done with, in order."""
    return read_shards(database, "is_open")


def count_waiting(database: sqlite3.Connection) -> int:
    """Return how many rows wait for a further round."""
    return int(database.execute("SELECT count(*) FROM waiting").fetchone()[0])


def rows_out(database: sqlite3.Connection) -> tuple[int, int]:
    """Return how many pending rows lie at a provider, and how many in files that somebody else runs."""
    query = (
        "SELECT server = '', count(*) FROM asked JOIN shards ON number = shard WHERE is_read = 0 GROUP BY 1"
    )
    found = dict(database.execute(query).fetchall())
    return found.get(0, 0), found.get(1, 0)


def read_shards(database: sqlite3.Connection, where: str, *values: str) -> list[Shard]:
    """Return shards, in order; `where` is a condition in SQL."""
    return [_shard(*row) for row in database.execute(f"{_SHARD} WHERE {where} ORDER BY number", values)]


def _shard(
    number: int,
    key: str,
    server: str,
    digest: str,
    requests: int,
    tokens: int,
    amount: str | None,
    currency: str,
    *rest: Any,
) -> Shard:
    worst = Spent(Cost(Decimal(amount), currency) if amount else None, tokens)
    return Shard(number, key, server, digest, requests, worst, *rest)
