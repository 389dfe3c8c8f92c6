"""The run log: what was asked, answered and judged, what it took, and where it was saved."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from synopsis_writer.database import FAULTS, OpenFile, fault, open_database, overwrite, transaction
from synopsis_writer.errors import FileError
from synopsis_writer.kinds import Outcome
from synopsis_writer.logged import (
    Entry,
    Listed,
    Run,
    entry_row,
    messages_hash,
    messages_json,
    read_entry,
    read_listed,
    read_run,
    run_row,
)

__all__ = ["Entry", "Listed", "Run", "RunLog", "messages_hash"]

_MIGRATIONS = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, command TEXT NOT NULL, created TEXT NOT NULL, outcome TEXT NOT NULL,
        error TEXT, path TEXT, brief TEXT NOT NULL, outline TEXT, model TEXT NOT NULL, server TEXT,
        rounds INTEGER NOT NULL, best_of INTEGER NOT NULL,
        prompt TEXT, version TEXT, prompt_hash TEXT, examples TEXT NOT NULL
    );
    CREATE TABLE prompts (hash TEXT PRIMARY KEY, messages TEXT NOT NULL);
    CREATE TABLE attempts (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, place INTEGER NOT NULL,
        number INTEGER NOT NULL, messages TEXT REFERENCES prompts, answer TEXT NOT NULL,
        finish TEXT NOT NULL, model TEXT NOT NULL, passed INTEGER NOT NULL, problems TEXT NOT NULL,
        findings TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, amount TEXT, currency TEXT,
        is_kept INTEGER NOT NULL, words_by_model INTEGER,
        PRIMARY KEY (run, place)
    );
    CREATE INDEX attempts_by_messages ON attempts (messages)
    """,
    """
    ALTER TABLE attempts ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN is_longer INTEGER NOT NULL DEFAULT 0
    """,
)


class RunLog:
    """The log in one SQLite file.

    Args:
        path: the file; None keeps the log in memory, for who wants none.
        open_file: opens it; `read_database` where it is only looked into.

    Raises:
        FileError: it cannot be opened.
    """

    def __init__(self, path: Path | None, open_file: OpenFile = open_database) -> None:
        self._path = path
        self._database = open_file(path, _MIGRATIONS)

    @property
    def is_kept(self) -> bool:
        """Whether it is still there when the program has ended."""
        return self._path is not None

    def begin(self, run: Run) -> None:
        """Write a run down, before its first request."""
        fields = run_row(run)
        columns = f"INSERT INTO runs ({', '.join(fields)}) VALUES ({_marks(fields)})"  # noqa: S608 - our own names
        self._do([(columns, tuple(fields.values()))])

    def add(self, run: str, entry: Entry) -> None:
        """Write an attempt down, as soon as it is judged."""
        fields = entry_row(entry)
        place = "(SELECT count(*) FROM attempts WHERE run = ?)"
        columns = f"run, place, {', '.join(fields)}"
        statements = [
            (
                f"INSERT INTO attempts ({columns}) VALUES (?, {place}, {_marks(fields)})",  # noqa: S608 - our own names
                (run, run, *fields.values()),
            )
        ]
        if entry.messages:
            asked = (fields["messages"], messages_json(entry.messages))
            statements.insert(0, ("INSERT OR IGNORE INTO prompts VALUES (?, ?)", asked))
        self._do(statements)

    def judged(self, run: str, place: int, entry: Entry) -> None:
        """Write down what the gate said of the attempt at a place, from 0."""
        row = entry_row(entry)
        values = (row["passed"], row["problems"], row["findings"], run, place)
        statement = "UPDATE attempts SET passed = ?, problems = ?, findings = ? WHERE run = ? AND place = ?"
        self._do([(statement, values)])

    def end(self, run: str, outcome: Outcome, error: str | None = None) -> None:
        """Write down what became of a run."""
        self._do([("UPDATE runs SET outcome = ?, error = ? WHERE id = ?", (outcome, error, run))])

    def saved(self, run: str, path: Path) -> None:
        """Write down where a run's text lies."""
        self._do([("UPDATE runs SET path = ? WHERE id = ?", (str(path.absolute()), run))])

    def runs(self, most: int = -1) -> list[Run]:
        """Return the newest runs, the newest first; -1 is all of them.

        Raises:
            FileError: one of them cannot be read.
        """
        return [read_run(row) for row in self._newest("*", most)]

    def listed(self, most: int = -1) -> list[Listed]:
        """Return what can be said of the newest runs without reading them, the newest first."""
        return [read_listed(row) for row in self._newest("id, created, outcome", most)]

    def find(self, name: str) -> Run:
        """Return the run that `find_id` names.

        Raises:
            FileError: there is none, or there are several, or it cannot be read.
        """
        (row,) = self._rows("SELECT * FROM runs WHERE id = ?", (self.find_id(name),))
        return read_run(row)

    def find_id(self, name: str) -> str:
        """Return the only id that `name` is a part of; `last` is the newest run's.

        Raises:
            FileError: there is none, or there are several.
        """
        if name == "last":
            found = [run.id for run in self.listed(1)]
        else:
            escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            query = "SELECT id FROM runs WHERE id LIKE ? ESCAPE '\\'"
            found = [row["id"] for row in self._rows(query, (f"%{escaped}%",))] if name else []
        if len(found) == 1 or name in found:
            return name if name in found else found[0]
        several = f"{len(found)} runs are called so: give more of the id" if found else "no such run"
        raise FileError(f"run '{name}': {several}: synopsis log list names them")

    def entries(self, run: str) -> list[Entry]:
        """Return the attempts of a run, in order; raises FileError where one cannot be read."""
        query = """
            SELECT attempts.*, prompts.messages AS asked FROM attempts
            LEFT JOIN prompts ON prompts.hash = attempts.messages WHERE run = ? ORDER BY place
        """
        return [read_entry(row) for row in self._rows(query, (run,))]

    def remove(self, runs: Iterable[str]) -> bool:
        """Delete runs with all they hold.

        Return whether nothing of their texts is left in the file; False where another program reads it:
        then they are overwritten when the log is opened next.
        """
        gone = "DELETE FROM prompts WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE messages = hash)"
        self._do([*(("DELETE FROM runs WHERE id = ?", (run,)) for run in runs), (gone, ())])
        return overwrite(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _do(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        try:
            with transaction(self._database):
                for statement, values in statements:
                    self._database.execute(statement, values)
        except FAULTS as error:
            said = fault(error, "clear it up")
            raise FileError(f"run log {self._path}: {said}, or go on with --no-log") from error

    def _newest(self, columns: str, most: int) -> list[dict[str, Any]]:
        query = f"SELECT {columns} FROM runs ORDER BY created DESC, rowid DESC LIMIT ?"  # noqa: S608 - our own
        return self._rows(query, (most,))

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            cursor = self._database.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except FAULTS as error:
            raise FileError(f"run log {self._path}: {fault(error, 'move it away, it is damaged')}") from error


def _marks(fields: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join("?" for _ in fields)
