"""The store of a batch: one SQLite file in its folder, in which each row is saved exactly once.

Shards are the parts of a batch that are at a provider, or in files for somebody else to run.
"""

import contextlib
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.brief import Brief
from synopsis_writer.characters import count_of
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.storage import sqlite
from synopsis_writer.storage.files import FolderLock, real_path
from synopsis_writer.synopsis import AS_SAVED, Synopsis
from synopsis_writer.usage import NO_COST, Cost, Spent, Usage, sums_data

RECORD_FILE = "batch.sqlite3"

_SCRIPTS = sorted(Path(__file__).with_name("migrations").glob("*.sql"))
MIGRATIONS = tuple(path.read_text(encoding="utf-8") for path in _SCRIPTS)

RECOVERY = (
    "put a copy of it in its place, save what can still be read with synopsis batch export, or start over with --fresh"
)

_MOST_TRIED = 1_000_000  # places, where nothing says which there are
_CHUNK = 1000  # rows read at a time
_STATUSES = ("pending", "accepted", "refused", "failed")
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@dataclass(frozen=True)
class Counts:
    """The progress of a batch: rows by status, and what they took; a `cost` of None: some of it is unpriced."""

    pending: int
    accepted: int
    refused: int
    failed: int
    usage: Usage
    cost: Cost | None
    seconds: float

    @property
    def rows(self) -> int:
        """All rows."""
        return self.pending + self.accepted + self.refused + self.failed

    @property
    def spent(self) -> Spent:
        """What they took, for a budget."""
        return Spent(self.cost, self.usage.prompt_tokens + self.usage.completion_tokens)


@dataclass(frozen=True)
class SavedRow(BatchRow):
    """An accepted row with its text, and how it came about, as `Result.provenance` gives it."""

    synopsis: Synopsis
    provenance: Mapping[str, Any]


Flaw = Literal["", "cut", "withheld"]


@dataclass(frozen=True)
class NextAttempt:
    """The next request for the row at `place`."""

    place: int
    number: int = 1  # of the first draft; a later one repairs the attempt before it
    flaw: Flaw = ""  # what was wrong with the previous answer beyond its problems
    returns: int = 0  # how often this attempt came back without an answer


_ATTEMPT = "place, round, flaw, returns, id, brief"


@dataclass(frozen=True)
class Shard:
    """One file of requests, and what the provider makes of it; times are in seconds since the epoch."""

    number: int  # in the batch, from 1
    key: str  # its name in file names, request ids and the provider's metadata
    server: str  # host, port and path of the provider; empty for a file that somebody else runs
    digest: str  # the SHA-256 of the file
    requests: int
    worst: Spent  # the most that they may cost
    file: str | None = None  # the provider's id of the uploaded file
    tried: float | None = None  # by when the last request to create the batch must have ended
    batch: str | None = None  # the provider's id of the batch
    status: str = "written"  # the provider's word for its state; this one, before there is any, is ours
    done: int = 0  # requests, by the provider's count
    failed: int = 0
    expires: float | None = None  # when it ends in any case


class BatchReader:
    """Reads a batch's record; every method raises FileError where the record is damaged."""

    def __init__(self, database: sqlite3.Connection, record: Path) -> None:
        self.database = database
        self._record = record

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Return all rows of a query."""
        with reported(self._record):
            return self.database.execute(sql, values).fetchall()

    def counts(self) -> Counts:
        """Return how many rows the batch has by status, and what they took."""
        statuses = dict(self.query("SELECT status, count(*) FROM rows GROUP BY status"))
        [(*tokens, seconds, unpriced, currency)] = self.query(
            "SELECT sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(seconds), "
            "max(is_unpriced), max(currency) FROM rows"
        )
        amounts = self.query("SELECT amount FROM rows WHERE amount IS NOT NULL")
        with reported(self._record):
            total = sum((Decimal(amount) for (amount,) in amounts), Decimal(0))
            usage = Usage(*(int(count or 0) for count in tokens))
            cost = None if unpriced else Cost(total, str(currency or ""))
            rows = {name: int(statuses.get(name, 0)) for name in _STATUSES}
            return Counts(**rows, usage=usage, cost=cost, seconds=float(seconds or 0))

    def reasons(self) -> dict[str, str]:
        """Return why rows were refused or failed, by their ids."""
        sql = "SELECT id, reason FROM rows WHERE status IN ('refused', 'failed') ORDER BY place"
        return {str(row): str(reason or "") for row, reason in self.query(sql)}

    def accepted(self, where: str = "", *values: Any) -> Iterator[SavedRow]:
        """Yield the accepted rows by their places; `where` is a further condition in SQL."""
        columns = "SELECT id, place, brief, synopsis, origin FROM rows"
        sql = f"{columns} WHERE status = 'accepted' {where} ORDER BY place"
        with reported(self._record):
            for name, place, brief, synopsis, origin in self.database.execute(sql, values):
                text = read_synopsis(name, synopsis)
                with _of_row(name):
                    provenance = dict(json.loads(origin or "{}"))
                    _json(provenance).encode()  # raises ValueError for half a character
                yield SavedRow(str(name), place, read_brief(name, brief), text, provenance)

    def readable(self, lost: list[int]) -> Iterator[SavedRow]:
        """Yield the accepted rows of a record that may be damaged; add the places of the others to `lost`."""
        try:
            places = self.query("SELECT place FROM rows WHERE status = 'accepted' ORDER BY place")
        except FileError:  # the index is damaged
            [(end,)] = self.query("SELECT max(place) FROM rows")
            places = [(place,) for place in range(1, min(int(end), _MOST_TRIED) + 1)]
        for (place,) in places:
            try:
                yield from self.accepted("AND place = ?", place)
            except FileError:
                lost.append(place)

    def held(self) -> tuple[int, int]:
        """Return how many pending rows are at a provider, and how many in files that somebody else runs."""
        unread = "FROM asked JOIN shards ON number = shard WHERE is_read = 0"
        counts = dict(self.query(f"SELECT server = '', count(*) {unread} GROUP BY 1"))
        return counts.get(0, 0), counts.get(1, 0)

    def count_waiting(self) -> int:
        """Return how many rows wait to be repaired."""
        return int(self.query("SELECT count(*) FROM waiting")[0][0])

    def shards(self, where: str = "is_open", *values: str) -> list[Shard]:
        """Return the open shards, or others by a condition in SQL, in order."""
        names = [each.name for each in fields(Shard) if each.name != "worst"]
        columns = f"worst_amount, worst_currency, worst_tokens, {', '.join(names)}"
        rows = self.query(f"SELECT {columns} FROM shards WHERE {where} ORDER BY number", *values)  # noqa: S608
        shards = []
        with reported(self._record):
            for amount, currency, tokens, *rest in rows:
                worst = Spent(Cost(Decimal(amount), currency) if amount else None, tokens)
                shards.append(Shard(worst=worst, **dict(zip(names, rest, strict=True))))
        return shards


class BatchStore(BatchReader):
    """The record in a folder, within `with`: one process has it at a time, with the facts it began with."""

    def __init__(self, folder: Path, facts: Mapping[str, str]) -> None:
        record = folder / RECORD_FILE
        if record.is_symlink():
            raise FileError(f"{record}: is a link: name the folder that holds the record")
        self._lock = FolderLock(folder, "batch")
        try:
            super().__init__(sqlite.open_database(record, MIGRATIONS), record)
            self._opened = record.stat()
            self._check(facts)
        except FileError:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()
        self._lock.release()

    def _check(self, facts: Mapping[str, str]) -> None:
        """Compare the facts with those the batch was begun with, and record new ones."""
        [(is_begun,)] = self.query("""
            SELECT EXISTS (SELECT 1 FROM answers) OR EXISTS (SELECT 1 FROM shards)
            OR EXISTS (SELECT 1 FROM rows WHERE status <> 'pending' OR prompt_tokens + completion_tokens > 0)
        """)
        if not is_begun:
            with self.transaction():  # the briefs may change until anything is made of them
                self.database.execute("DELETE FROM rows")
                self.database.execute("DELETE FROM facts")
        begun = dict(self.query("SELECT name, value FROM facts"))
        for name, value in facts.items():
            if begun.get(name, value) != value:
                self.database.close()
                raise FileError(
                    f"{self._record.parent}: {name} changed from {begun[name]} to {value} since this batch "
                    "began: go on as it began, or start over with --fresh"
                )
        with self.transaction():
            self.database.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Save all of a block's changes or none; blocks may be nested."""
        is_inner = self.database.in_transaction
        outer = contextlib.nullcontext() if is_inner else sqlite.transaction(self.database)
        with reported(self._record), outer:
            yield
            if not is_inner:
                self._check_place()

    def _check_place(self) -> None:
        """Raise FileError if the record's file is gone: SQLite would write to a deleted file."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._opened, self._record.stat()):
                return
        raise FileError(f"{self._record}: was moved or deleted while the batch was running: put it back, and run again")

    def counts(self) -> Counts:
        """Return the counts of a record that is still there."""
        self._check_place()
        return super().counts()

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Change the record, in a transaction of its own unless there is one."""
        with self.transaction():
            return self.database.execute(sql, values)

    def update(self, table: str, key: str, value: str | int, values: Mapping[str, Any]) -> None:
        """Set the columns of the row of a table; all names are this program's."""
        names = ", ".join(f"{name} = ?" for name in values)
        self.execute(f"UPDATE {table} SET {names} WHERE {key} = ?", *values.values(), value)  # noqa: S608

    def fill(self, rows: Iterable[BatchRow]) -> None:
        """Store the briefs, all or none; does nothing if they are already stored."""
        if self.query("SELECT EXISTS (SELECT 1 FROM rows)")[0][0]:
            return
        with self.transaction():
            self.database.executemany(
                "INSERT INTO rows (place, id, brief) VALUES (?, ?, ?)",
                ((row.place, row.id, _json(row.brief.as_data())) for row in rows),
            )

    def _attempts(self, sql: str, *values: Any) -> Iterator[tuple[BatchRow, NextAttempt]]:
        last = -1
        while rows := self.query(f"SELECT {sql} AND place > ? ORDER BY place LIMIT ?", *values, last, _CHUNK):
            for *attempt, name, brief in rows:
                yield BatchRow(name, attempt[0], read_brief(name, brief)), NextAttempt(*attempt)
            last = rows[-1][0]

    def due(self) -> Iterator[tuple[BatchRow, NextAttempt]]:
        """Yield the rows to be made or repaired, in order, each once, except those that are being made elsewhere."""
        return self._attempts(
            """
            place, coalesce(round, 1), coalesce(flaw, ''), coalesce(returns, 0), id, brief
            FROM rows LEFT JOIN waiting USING (place) WHERE status = 'pending'
            AND NOT EXISTS (SELECT 1 FROM asked WHERE asked.place = rows.place AND is_read = 0)
            """
        )

    def waiting(self) -> Iterator[tuple[BatchRow, NextAttempt]]:
        """Yield the rows that wait to be repaired, in order."""
        return self._attempts(f"{_ATTEMPT} FROM waiting JOIN rows USING (place) WHERE true")

    def save(self, result: RowResult) -> None:
        """Save a row, and its text with the sums of what it took; an accepted one only gets the usage."""
        with self.transaction():
            [(status, attempts, seconds, is_unpriced, amount, currency, *tokens)] = self.query(
                "SELECT status, attempts, seconds, is_unpriced, amount, currency, prompt_tokens, "
                "completion_tokens, cached_tokens FROM rows WHERE id = ?",
                result.id,
            )
            usage = replace(result.usage, written_tokens=0, thinking_tokens=0) + Usage(*tokens)
            new = result.cost or NO_COST
            total = Cost(Decimal(amount or 0) + new.amount, new.currency or currency or "")
            values = {
                "attempts": attempts + len(result.attempts),
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
                "seconds": seconds + result.seconds,
                "amount": str(total.amount),
                "currency": total.currency,
                "is_unpriced": bool(is_unpriced) or result.cost is None,
            }
            if status != "accepted":
                paid = None if values["is_unpriced"] else total
                sums = sums_data(values["attempts"], usage, paid, values["seconds"])
                values |= {
                    "status": result.outcome,
                    "reason": result.reason,
                    "synopsis": result.synopsis and result.synopsis.model_dump_json(),
                    "origin": _json({**result.provenance, **sums}) if result.provenance else None,
                }
            self.update("rows", "id", result.id, values)
            for attempt in result.attempts:
                problems = _json(attempt.problems if attempt.problem else attempt.repairs)
                answer = (result.id, attempt.number, attempt.passed, problems, attempt.answer.text)
                self.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", *answer)

    def reopen(self, row: BatchRow, attempt: NextAttempt) -> None:
        """Make a row that is not accepted pending: for a first draft, or in the queue of repairs."""
        with self.transaction():
            self.execute("UPDATE rows SET status = 'pending' WHERE id = ? AND status <> 'accepted'", row.id)
            if attempt.number > 1:
                values = (row.place, attempt.number, attempt.flaw, attempt.returns)
                self.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", *values)

    def settle(self, place: int) -> None:
        """Take a row out of the queue of repairs."""
        self.execute("DELETE FROM waiting WHERE place = ?", place)

    def row(self, name: str) -> BatchRow | None:
        """Return a row by its id; None where there is none."""
        rows = self._attempts("place, 1, '', 0, id, brief FROM rows WHERE id = ?", name)
        return next((row for row, _ in rows), None)

    def previous(self, row: BatchRow, attempt: NextAttempt) -> Attempt | None:
        """Return the answer that an attempt repairs, a withheld one without its words; None for a first draft."""
        # The newest with that number: earlier ones are of a batch that was started over.
        sql = "SELECT text, problems FROM answers WHERE row = ? AND number = ? ORDER BY rowid DESC LIMIT 1"
        number = attempt.number - 1
        for text, problems in self.query(sql, row.id, number):
            return Attempt.recorded(number, Answer("" if attempt.flaw == "withheld" else text), json.loads(problems))
        return None

    def text(self, row: str) -> str:
        """Return the text of an accepted row."""
        return read_synopsis(row, self.query("SELECT synopsis FROM rows WHERE id = ?", row)[0][0]).text

    def unindexed(self) -> Iterator[SavedRow]:
        """Yield the accepted rows that the index of variety does not hold, in order, while it grows."""
        # By that index alone: the rows themselves lie among their texts, all over the file.
        rows = self.query(
            "SELECT place FROM rows INDEXED BY rows_by_figures "
            "WHERE status = 'accepted' AND id NOT IN (SELECT row FROM variety_texts) ORDER BY place"
        )
        for (place,) in rows:
            yield from self.accepted("AND place = ?", place)

    def begin_shard(self, key: str, server: str, digest: str, worst: Spent, attempts: Sequence[NextAttempt]) -> Shard:
        """Record a shard and its rows before any of it is sent; return it."""
        cost = (str(worst.cost.amount), worst.cost.currency) if worst.cost else (None, None)
        with self.transaction():
            number = self.execute(
                "INSERT INTO shards (key, server, digest, requests, worst_tokens, worst_amount, "
                "worst_currency) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(key, server, digest, len(attempts), worst.tokens, *cost),
            ).lastrowid
            for line, attempt in enumerate(attempts, 1):
                values = (number, attempt.place, line, attempt.number, attempt.flaw, attempt.returns)
                self.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, 0)", *values)
                self.settle(attempt.place)
        return self.shards("key = ?", key)[0]

    def update_shard(self, shard: Shard, **values: Any) -> Shard:
        """Record changed attributes of a shard; return the changed shard."""
        self.update("shards", "number", shard.number, values)
        return self.shards("key = ?", shard.key)[0]

    def asked(self, shard: Shard, which: str = "is_read = 0", *values: int) -> Iterator[tuple[BatchRow, NextAttempt]]:
        """Yield the rows of a shard that have not come back, or others by a condition in SQL, in order."""
        rows = f"{_ATTEMPT} FROM asked JOIN rows USING (place) WHERE shard = ?"
        return self._attempts(f"{rows} AND {which}", shard.number, *values)

    def mark_read(self, shard: Shard, place: int) -> None:
        """Record that a row came back, within the transaction that saves it."""
        self.execute("UPDATE asked SET is_read = 1 WHERE shard = ? AND place = ?", shard.number, place)


def is_of_batch(path: Path, folder: Path) -> bool:
    """Whether `path`, by whatever name, is a batch's folder, record or lock, or a file of a shard."""
    try:
        target, home = real_path(path), real_path(folder)
        if home.is_relative_to(target) or target.is_relative_to(home / "provider"):
            return True
        ours = [each for each in home.iterdir() if _OURS.fullmatch(each.name)]
        if target.parent == home and _OURS.fullmatch(target.name):
            return True
        return target.exists() and any(map(target.samefile, ours))
    except (OSError, ValueError):
        return False


_OURS = re.compile(r"batch(-\d+)?\.(sqlite3(-wal|-shm|-journal)?|lock|holder)", re.IGNORECASE)


@contextlib.contextmanager
def read_batch(folder: Path) -> Iterator[BatchReader]:
    """Open a batch's record to read it, also while it is being written, and where nothing can be written."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise FileError(f"{folder}: is not a batch: name a folder that 'synopsis batch run' wrote")
    with contextlib.closing(sqlite.read_database(path, MIGRATIONS)) as database:
        yield BatchReader(database, path)


def rows_are(count: int, what: str) -> str:
    """Return a clause for people: `1 row is pending`."""
    return f"{count_of(count, 'row')} {'is' if count == 1 else 'are'} {what}"


def archive(folder: Path) -> Path | None:
    """Move the record of a batch aside, so that the next run starts over; return its new path."""
    record = folder / RECORD_FILE
    if not record.exists():
        return None
    with FolderLock(folder, "batch"):
        at_provider = in_files = 0
        # Opened to write, which folds SQLite's log into the file; nobody holds rows of one that is damaged.
        with contextlib.suppress(FileError), read_batch(folder) as reader:
            at_provider, in_files = reader.held()
        if at_provider or in_files:
            where = "is at a provider, and paid" if at_provider else "is in files"
            raise FileError(
                f"{folder}: a part of this batch {where}: bring it with synopsis batch fetch, or let it go "
                "with synopsis batch cancel"
            )
        names = (folder / f"batch-{number}.sqlite3" for number in itertools.count(1))
        target = next(path for path in names if not path.exists())
        try:
            for end in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    record.with_name(record.name + end).rename(target.with_name(target.name + end))
        except OSError as error:
            raise FileError(f"cannot move {os_reason(error, record)}: name another --out") from error
    return target


def read_brief(row: str, text: str) -> Brief:
    """Return a brief of the record."""
    with _of_row(row):
        return Brief.model_validate_json(text)


def read_synopsis(row: str, text: str) -> Synopsis:
    """Return a text of the record as it is: limits may be others than those it was saved under."""
    with _of_row(row):
        return Synopsis.model_validate_json(text, context=AS_SAVED)


@contextlib.contextmanager
def _of_row(row: str) -> Iterator[None]:
    try:
        yield
    except sqlite.SQLITE_ERRORS as error:
        raise FileError(f"the record is damaged at row '{row}': {RECOVERY}") from error


@contextlib.contextmanager
def reported(record: Path | str = "the batch's record") -> Iterator[None]:
    """Turn the errors of a damaged record within the block into a FileError that names the way out."""
    try:
        yield
    except sqlite.SQLITE_ERRORS as error:
        message = sqlite.describe(error, RECOVERY)
        if sqlite.error_code(error) in _NO_ROOM:
            message = f"{error}: what is saved stays; make room, and run the same again"
        raise FileError(f"{record}: {message}") from error


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)
