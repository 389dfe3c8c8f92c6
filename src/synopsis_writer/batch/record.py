"""The record of a batch: one SQLite file in its folder, in which each row is saved exactly once."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Counts, Done, Status
from synopsis_writer.batch.export import Saved
from synopsis_writer.batch.faults import reported
from synopsis_writer.batch.holding import held, let_go
from synopsis_writer.batch.provider.tables import NOT_OUT
from synopsis_writer.batch.reading import (
    MIGRATIONS,
    RECORD_FILE,
    count,
    read_brief,
    read_saved,
    read_synopsis,
)
from synopsis_writer.client import Cost, Usage
from synopsis_writer.client.bill import sums_data
from synopsis_writer.database import open_database, transaction
from synopsis_writer.errors import FileError

_CHUNK = 1000  # rows read or written at a time


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
