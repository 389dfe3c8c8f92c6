"""Kept answers: a model client that gives an answer again instead of asking for it twice."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synopsis_writer.errors import FileError
from synopsis_writer.kinds import CacheUse
from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
from synopsis_writer.storage.sqlite import FAULTS, OpenFile, fault, open_database, overwrite, transaction
from synopsis_writer.usage import NO_COST, Usage

_MIGRATIONS = (
    """
    CREATE TABLE answers (
        key TEXT PRIMARY KEY, kept REAL NOT NULL, bytes INTEGER NOT NULL,
        text TEXT NOT NULL, finish TEXT NOT NULL, model TEXT NOT NULL
    );
    CREATE INDEX answers_by_age ON answers (kept)
    """,
    """
    DROP INDEX answers_by_age;
    CREATE INDEX answers_by_age ON answers (kept, bytes)
    """,
    """
    CREATE TABLE total (bytes INTEGER NOT NULL);
    INSERT INTO total SELECT coalesce(sum(bytes), 0) FROM answers
    """,
)

_DAY = 86_400

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class CacheSize:
    """How much is kept: answers, their bytes, and the seconds since the epoch of the oldest (0: none)."""

    answers: int
    bytes: int
    oldest: float


class ResponseCache:
    """Answers in one SQLite file, the oldest forgotten first.

    Args:
        path: the file.
        megabytes: what all answers may take.
        days: how long an answer is kept.
        clock: gives the seconds since the epoch.
        open_file: opens it; `read_database` where it is only looked into.

    Raises:
        FileError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        megabytes: float = 200,
        days: float = 90,
        clock: Callable[[], float] = time.time,
        open_file: OpenFile = open_database,
    ) -> None:
        self._path, self._most_bytes, self._days, self._clock = path, megabytes * _MEGABYTE, days, clock
        self._database = open_file(path, _MIGRATIONS)

    def get(self, key: str) -> Answer | None:
        """Return the kept answer: it cost nothing, and took no time."""
        query = "SELECT text, finish, model FROM answers WHERE key = ? AND kept > ?"
        rows = self._run(query, (key, self._clock() - self._days * _DAY))
        if not rows or not all(isinstance(value, str) for value in rows[0]):  # a damaged row is none
            return None
        text, finish, model = rows[0]
        return Answer(text, finish, Usage(), 0.0, model, None, NO_COST, is_cached=True)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, and forget what is too old or too much."""
        size = len(answer.text.encode("utf-8", "replace"))
        row = (key, self._clock(), size, answer.text, answer.finish, answer.model)
        try:
            with transaction(self._database):
                gone = self._removed("DELETE FROM answers WHERE key = ? RETURNING bytes", key)
                self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
                oldest = self._clock() - self._days * _DAY
                gone += self._removed("DELETE FROM answers WHERE kept <= ? RETURNING bytes", oldest)
                self._shrink(size - gone)
        except FAULTS as error:
            raise self._fault(error) from error

    def size(self) -> CacheSize:
        """Return how much is kept."""
        count, total, oldest = self._run("SELECT count(*), sum(bytes), min(kept) FROM answers")[0]
        return CacheSize(count, total or 0, oldest or 0.0)

    def clear(self) -> bool:
        """Forget all answers.

        Return whether nothing of their texts is left in the file; False where another program reads it:
        then they are overwritten when the cache is opened next.
        """
        try:
            with transaction(self._database):
                self._database.execute("DELETE FROM answers")
                self._database.execute("UPDATE total SET bytes = 0")
        except FAULTS as error:
            raise self._fault(error) from error
        return overwrite(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _removed(self, removal: str, value: str | float) -> int:
        """Remove answers, and return their bytes."""
        return sum(size for (size,) in self._database.execute(removal, (value,)) if isinstance(size, int))

    def _shrink(self, grown: int) -> None:
        """Note by how many bytes all grew, and forget the oldest where they are too many.

        To add all up again for each answer would take longer than all else, once there are ten thousands.
        """
        total = self._database.execute("SELECT bytes FROM total").fetchone()[0] + grown
        gone: list[tuple[str]] = []
        if total > self._most_bytes:
            for key, size in self._database.execute("SELECT key, bytes FROM answers ORDER BY kept, rowid"):
                gone.append((key,))
                total -= size
                if total <= self._most_bytes:
                    break
            self._database.executemany("DELETE FROM answers WHERE key = ?", gone)
        self._database.execute("UPDATE total SET bytes = ?", (total,))

    def _run(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._database.execute(query, values).fetchall()
        except FAULTS as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> FileError:
        said = fault(error, "empty it with synopsis cache clear")
        return FileError(f"cache {self._path}: {said}, or go on with --cache off")


def request_key(
    server: str, model: str, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
) -> str:
    """Return the hash that stands for a request: all that shapes the answer, and which repeat it is."""
    asked = {
        "server": server,
        "model": model,
        "messages": [asdict(message) for message in messages],
        "schema": schema,
        "max_tokens": limits.max_tokens,
        "temperature": limits.temperature,
        "repeat": limits.sample,
    }
    text = json.dumps(asked, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class CachingClient:
    """A `ModelClient` that keeps what another one answers, and may give it again.

    Only whole answers are kept: a refusal or a cut answer may be another one the next time.

    Args:
        client: who is asked.
        cache: where answers are kept.
        server: what tells apart models of one name: the server's address, or the folder of a file.
        use: READ gives kept answers again, WRITE only keeps them.
        announce: is told, once, when the cache fails; the work goes on without it.
    """

    def __init__(
        self,
        client: ModelClient,
        cache: ResponseCache,
        server: str,
        use: CacheUse,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client, self._cache, self._server, self._use = client, cache, server, use
        self._announce, self._said = announce, ""

    @property
    def name(self) -> str:
        """The model's name."""
        return self._client.name

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Give the kept answer, or ask for one; raises as the client does."""
        key = request_key(self._server, self.name, messages, schema, limits)
        if self._use is CacheUse.READ and (kept := self._kept(key)) is not None:
            return kept
        answer = await self._client.complete(messages, schema, limits)
        if answer.finish == "stop" and answer.text:
            try:
                self._cache.put(key, answer)
            except FileError as error:
                self._say(str(error))
        return answer

    def _kept(self, key: str) -> Answer | None:
        try:
            return self._cache.get(key)
        except FileError as error:
            self._say(str(error))
            return None

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._announce(line)

    async def close(self) -> None:
        """Close the client and the cache."""
        self._cache.close()
        await self._client.close()
