"""Cached answers: a SQLite file of what models answered, the oldest deleted first."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.errors import FileError
from synopsis_writer.models.base import MOST_ANSWER, Answer
from synopsis_writer.storage import sqlite
from synopsis_writer.usage import NO_COST, Usage

_MIGRATIONS = Path(__file__).with_name("data").joinpath("cache.sql").read_text(encoding="utf-8").split("\n\n")


@dataclass(frozen=True)
class CacheSize:
    """How much is cached: answers, their bytes, and the seconds since 1970 of the oldest (0: none)."""

    answers: int
    bytes: int
    oldest: float


class ResponseCache:
    """Answers in one SQLite file, each valid for some days; raises FileError if it cannot be opened."""

    def __init__(
        self,
        path: Path,
        *,
        megabytes: float = 200,
        days: float = 90,
        clock: Callable[[], float] = time.time,  # seconds since 1970
        open_file: sqlite.OpenFile = sqlite.open_database,  # `read_database` to only look into the file
    ) -> None:
        self._path, self._most_bytes = path, megabytes * 1_000_000
        self._most_seconds, self._clock = days * 86_400, clock
        self._database = open_file(path, _MIGRATIONS)

    def get(self, key: str) -> Answer | None:
        """Return a cached answer: it costs nothing, and took no time."""
        query = "SELECT text, finish, model FROM answers WHERE key = ? AND kept > ?"
        with self._errors_explained():
            row = self._database.execute(query, (key, self._clock() - self._most_seconds)).fetchone()
        if row is None or not all(isinstance(value, str) for value in row):  # a damaged row
            return None
        text, finish, model = row
        return Answer(text, finish, Usage(), 0.0, model, None, NO_COST, is_cached=True)

    def put(self, key: str, answer: Answer) -> None:
        """Save an answer, and delete what is too old or too much."""
        size = len(answer.text.encode("utf-8", "replace"))
        if size > MOST_ANSWER:
            return
        now = self._clock()
        row = (key, now, size, answer.text, answer.finish, answer.model)
        outdated = "DELETE FROM answers WHERE key = ? OR kept <= ? RETURNING bytes"
        with self._errors_explained(), sqlite.transaction(self._database):
            gone = self._database.execute(outdated, (key, now - self._most_seconds)).fetchall()
            self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            # Adding up ten thousand answers for each new one would take longer than everything else.
            total = self._database.execute("SELECT bytes FROM total").fetchone()[0]
            total += size - sum(freed for (freed,) in gone)
            oldest = self._database.execute("SELECT key, bytes FROM answers ORDER BY kept, rowid")
            while total > self._most_bytes and (found := oldest.fetchone()):
                self._database.execute("DELETE FROM answers WHERE key = ?", found[:1])
                total -= found[1]
            self._database.execute("UPDATE total SET bytes = ?", (total,))

    def size(self) -> CacheSize:
        """Return how much is cached."""
        query = "SELECT count(*), sum(bytes), min(kept) FROM answers"
        with self._errors_explained():
            count, total, oldest = self._database.execute(query).fetchone()
            return CacheSize(count, int(total or 0), min(max(float(oldest or 0), 0.0), self._clock()))

    def clear(self) -> bool:
        """Delete all answers; return whether their texts are overwritten, not later as another reads them."""
        with self._errors_explained(), sqlite.transaction(self._database):
            self._database.execute("DELETE FROM answers")
            self._database.execute("UPDATE total SET bytes = 0")
        return sqlite.overwrite(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite.SQLITE_ERRORS as error:
            reason = sqlite.describe(error, "empty it with synopsis cache clear")
            raise FileError(f"cache {self._path}: {reason}, or go on with --cache off") from error
