"""The record of a batch: one SQLite file in its folder, in which each row is saved exactly once."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.brief import Brief
from synopsis_writer.errors import FileError, ModelError, os_reason
from synopsis_writer.storage.files import held, let_go
from synopsis_writer.storage.sqlite import error_code, fault, open_database, read_database, transaction
from synopsis_writer.synopsis import Character, Paragraph, Synopsis
from synopsis_writer.usage import NO_COST, Cost, Spent, Usage, sums_data

Status = Literal["accepted", "refused", "failed", "pending"]


@dataclass(frozen=True)
class Answered:
    """One answer to a row: its round, its words, whether it passed, and what was wrong with it."""

    number: int
    text: str
    passed: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a row.

    Attributes:
        id: the row's.
        status: accepted, refused by the gate, failed at model or network, or pending: still to be made.
        reason: why it was not accepted; empty otherwise.
        synopsis: the best text; None when there is none.
        origin: how the text came about, as data: what the front matter of a saved file holds.
        answers: all that came.
        usage: their tokens.
        cost: their cost; None where a price is not known.
        seconds: the model's time.
        fault: why the batch cannot go on, once this row is saved; None where it can.
    """

    id: str
    status: Status
    reason: str = ""
    synopsis: Synopsis | None = None
    origin: Mapping[str, Any] | None = None
    answers: tuple[Answered, ...] = ()
    usage: Usage = Usage()  # noqa: RUF009 - a frozen value
    cost: Cost | None = NO_COST
    seconds: float = 0.0
    fault: ModelError | None = None


@dataclass(frozen=True)
class Counts:
    """How far a batch is: rows by status, and what all attempts took; `cost` None: a part is unpriced."""

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


_CHUNK = 1000  # rows read or written at a time


@dataclass(frozen=True)
class Saved:
    """One row of a batch with its text.

    Attributes:
        id, place, brief: as in `BatchRow`.
        synopsis: the text.
        meta: how it came about, as `store.provenance` gives it; what JSON can hold.
    """

    id: str
    place: int
    brief: Brief
    synopsis: Synopsis
    meta: Mapping[str, Any]


class BatchRecord:
    """The record in a folder, in a `with` block; one process holds it at a time.

    Args:
        folder: the batch's folder; made when it is missing.
        facts: what the rows are made with (model, prompts, profile …): a folder begun with others is refused.

    Raises:
        FileError: the folder cannot be written, another process is at it, or it was begun with other facts.
    """

    def __init__(self, folder: Path, facts: Mapping[str, str]) -> None:
        self._folder = folder
        self._lock = held(folder)
        try:
            self._database = open_database(folder / RECORD_FILE, MIGRATIONS)
            self._check(facts)
        except FileError:
            let_go(folder, self._lock)
            raise

    def __enter__(self) -> Self:
        """Hold the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the folder go."""
        self._database.close()
        let_go(self._folder, self._lock)

    @property
    def database(self) -> sqlite3.Connection:
        """The record's own connection, for tables that are kept beside its rows."""
        return self._database

    def _check(self, facts: Mapping[str, str]) -> None:
        if not self._is_begun():
            with self._writing():  # briefs that were mended before anything was made are no change
                self._database.execute("DELETE FROM rows")
                self._database.execute("DELETE FROM facts")
        begun = dict(self._rows("SELECT name, value FROM facts", ()))
        changed = [name for name, value in facts.items() if name in begun and begun[name] != value]
        if changed:
            name = changed[0]
            self._database.close()
            raise FileError(
                f"{self._folder}: {name} changed from {begun[name]} to {facts[name]} since this batch began: "
                "go on as it began, or begin anew with --fresh"
            )
        with self._writing():
            rows = [(name, value) for name, value in facts.items() if name not in begun]
            self._database.executemany("INSERT INTO facts VALUES (?, ?)", rows)

    def _is_begun(self) -> bool:
        """Whether anything was made yet."""
        query = """
            SELECT EXISTS (SELECT 1 FROM rows WHERE status IN ('accepted', 'refused', 'failed'))
            OR EXISTS (SELECT 1 FROM answers) OR EXISTS (SELECT 1 FROM shards)
            OR EXISTS (SELECT 1 FROM rows WHERE prompt_tokens + completion_tokens > 0)
        """
        return bool(self._rows(query, ())[0][0])

    def fill(self, rows: Iterable[BatchRow]) -> None:
        """Take the briefs in, whole or not at all; does nothing when they are there."""
        if self._rows("SELECT EXISTS (SELECT 1 FROM rows)", ())[0][0]:
            return
        with self._writing():
            self._database.executemany(
                "INSERT INTO rows (place, id, brief) VALUES (?, ?, ?)",
                ((row.place, row.id, _json(row.brief.as_data())) for row in rows),
            )

    def again(self, statuses: Iterable[Status]) -> None:
        """Make rows pending that were refused, or failed; their tokens stay counted."""
        with self._writing():
            for status in statuses:
                self._database.execute("UPDATE rows SET status = 'pending' WHERE status = ?", (status,))

    def pending(self) -> Iterator[BatchRow]:
        """Yield the rows that are to be made, in order, each once; those that lie at a provider are not."""
        last = -1
        query = (
            "SELECT place, id, brief FROM rows WHERE status = 'pending' AND place > ? "  # noqa: S608 - a constant of ours
            f"AND {NOT_OUT} ORDER BY place LIMIT ?"
        )
        while found := self._rows(query, (last, _CHUNK)):
            for place, name, brief in found:
                yield BatchRow(name, place, read_brief(name, brief))
            last = found[-1][0]

    def row(self, name: str) -> BatchRow | None:
        """Return a row by its id; None: there is none."""
        for place, brief in self._rows("SELECT place, brief FROM rows WHERE id = ?", (name,)):
            return BatchRow(name, place, read_brief(name, brief))
        return None

    def accepted_before(self, place: int) -> Iterator[Saved]:
        """Yield the accepted rows before a place, the latest first."""
        return read_saved(self._database, f"AND place < {place:d}", "DESC")

    def save(self, done: Done) -> None:
        """Save a row; an accepted one stays as it is.

        What the attempts took is added in any case: it was paid. The text's origin tells the sums of the row.
        """
        usage, cost = done.usage, done.cost
        text = done.synopsis and done.synopsis.model_dump_json()
        with self._writing():
            row = self._database.execute(
                "SELECT status, amount FROM rows WHERE id = ?", (done.id,)
            ).fetchone()
            if row is None:
                raise FileError(f"{self._folder}: there is no row '{done.id}'")
            amount = Decimal(row[1] or 0) + (cost.amount if cost else 0)
            sums = self._database.execute(
                """
                UPDATE rows SET attempts = attempts + ?, prompt_tokens = prompt_tokens + ?,
                cached_tokens = cached_tokens + ?, completion_tokens = completion_tokens + ?,
                seconds = seconds + ?, amount = ?, currency = coalesce(nullif(?, ''), currency),
                is_unpriced = is_unpriced OR ? WHERE id = ?
                RETURNING attempts, prompt_tokens, completion_tokens, cached_tokens, seconds, currency,
                is_unpriced
                """,
                (
                    len(done.answers),
                    usage.prompt_tokens,
                    usage.cached_tokens,
                    usage.completion_tokens,
                    done.seconds,
                    str(amount),
                    cost.currency if cost else "",
                    cost is None,
                    done.id,
                ),
            ).fetchone()
            self._database.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
                ((done.id, one.number, one.passed, _json(one.problems), one.text) for one in done.answers),
            )
            if row[0] == "accepted":
                return
            origin = _json({**done.origin, **_took(amount, *sums)}) if done.origin else None
            self._database.execute(
                "UPDATE rows SET status = ?, reason = ?, synopsis = ?, origin = ? WHERE id = ?",
                (done.status, done.reason, text, origin, done.id),
            )

    def reopen(self, row: str) -> None:
        """Make a row pending that is still to be mended: a kill before that leaves it to the next start."""
        with self._writing():
            query = "UPDATE rows SET status = 'pending' WHERE id = ? AND status <> 'accepted'"
            self._database.execute(query, (row,))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Save all of a block, or nothing of it."""
        with self._writing():
            yield

    def text(self, row: str) -> str:
        """Return the text of an accepted row."""
        found = self._rows("SELECT synopsis FROM rows WHERE id = ?", (row,))
        return read_synopsis(row, found[0][0]).text

    def unindexed(self) -> Iterator[Saved]:
        """Yield the accepted rows that the index of variety does not hold, in order; while it grows."""
        # By that index alone: the rows themselves lie among their texts, all over the file.
        query = """
            SELECT place FROM rows INDEXED BY rows_by_figures
            WHERE status = 'accepted' AND id NOT IN (SELECT row FROM variety_texts) ORDER BY place
        """
        for (place,) in self._rows(query, ()):
            yield from read_saved(self._database, f"AND place = {place:d}")

    def counts(self) -> Counts:
        """Return how far the batch is."""
        with self._reported():
            return count(self._database)

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._reported():
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        whole = contextlib.nullcontext() if self._database.in_transaction else transaction(self._database)
        with self._reported(), whole:
            yield

    def _reported(self) -> contextlib.AbstractContextManager[None]:
        return reported(self._folder / RECORD_FILE)


def _took(
    amount: Decimal,
    attempts: int,
    prompt: int,
    completion: int,
    cached: int,
    seconds: float,
    currency: str | None,
    is_unpriced: int,
) -> dict[str, Any]:
    cost = None if is_unpriced else Cost(amount, currency or "")
    return sums_data(attempts, Usage(prompt, completion, cached), cost, seconds)


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


RECORD_FILE = "batch.sqlite3"

VARIETY_TABLES = """
    CREATE TABLE variety_texts (
        number INTEGER PRIMARY KEY, row TEXT NOT NULL UNIQUE, show TEXT NOT NULL, title TEXT NOT NULL,
        opening TEXT NOT NULL, people TEXT NOT NULL, marks BLOB NOT NULL
    );
    CREATE INDEX variety_by_show ON variety_texts (show);
    CREATE INDEX variety_by_title ON variety_texts (title);
    CREATE INDEX variety_by_opening ON variety_texts (opening);
    CREATE TABLE variety_names (
        name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)
    ) WITHOUT ROWID
"""

# `asked` holds the rows of the open shards, `waiting` the rows that are to be mended in a further round.
PROVIDER_TABLES = """
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
    VARIETY_TABLES,
    PROVIDER_TABLES,
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


DAMAGE_MEND = "put a copy of it in its place, or begin anew with --fresh"

_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@contextlib.contextmanager
def reported(record: Path | str = "the batch's record") -> Iterator[None]:
    """Say a fault of the record, and the mend.

    Raises:
        FileError: SQLite failed within the block.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise FileError(_told(record, error)) from error


def _told(record: Path | str, error: sqlite3.Error) -> str:
    code = error_code(error)
    if code in _NO_ROOM:
        return f"{record}: {error}: what is saved stays; make room, and run the same again"
    if code == sqlite3.SQLITE_READONLY:
        return f"{record}: {error}: what is saved stays; let the folder be written, and run the same again"
    return f"{record}: {fault(error, DAMAGE_MEND)}"


def begin_anew(out: Path) -> Path | None:
    """Put the record of a batch aside, so that the next run begins anew; return where it lies now.

    Raises:
        FileError: another process is at it, a part of it lies at a provider, or the folder cannot be written.
    """
    record = out / RECORD_FILE
    if not record.exists():
        return None
    lock = held(out)
    try:
        if shards := _open_shards(record):
            is_paid = any(shard.server for shard in shards)
            where = "lies at a provider, and is paid" if is_paid else "is in files"
            raise FileError(
                f"{out}: a part of this batch {where}: bring it with synopsis batch fetch, or let it go with "
                "synopsis batch cancel"
            )
        number = 1
        while (aside := out / f"batch-{number}.sqlite3").exists():
            number += 1
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                record.with_name(record.name + end).rename(aside.with_name(aside.name + end))
    except OSError as error:
        raise FileError(f"cannot put aside {os_reason(error, record)}: name another --out") from error
    finally:
        let_go(out, lock)
    return aside


WRITTEN = "written"  # before the provider has a state of its own for it


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


def _open_shards(record: Path) -> list[Shard]:
    """Return the open shards; a record that nobody can read any more tells of none."""
    try:
        database = open_database(record, MIGRATIONS)  # and folds the log of SQLite into the file
    except FileError:
        return []
    with contextlib.closing(database), contextlib.suppress(FileError, sqlite3.Error):
        return open_shards(database)
    return []


Flaw = Literal["", "cut", "withheld"]

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
