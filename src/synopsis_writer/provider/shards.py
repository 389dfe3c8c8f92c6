"""Shards: what of a batch lies at a provider, kept in the batch's record."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import (
    Answered,
    Asked,
    BatchRecord,
    Done,
    Shard,
    count_waiting,
    open_shards,
    read_brief,
    read_shards,
    reported,
    rows_out,
)
from synopsis_writer.settings import Settings

Say = Callable[[str], None]
_ROWS = 1000  # rows read at a time

_ASKED = "SELECT place, round, flaw, returns"


def new_key() -> str:
    """Return a key for a shard: 16 hex digits that no other shard of anybody has."""
    return secrets.token_hex(8)


class Shards:
    """The shards of a record.

    Args:
        record: the batch's record, which is held.

    Raises:
        FileError: the record cannot be read or written; so do all methods.
    """

    def __init__(self, record: BatchRecord) -> None:
        self._record = record
        self._database = record.database

    def open(self) -> list[Shard]:
        """Return the shards that are not done with, in order."""
        with reported():
            return open_shards(self._database)

    def begin(self, shard: Shard, asked: Sequence[Asked]) -> Shard:
        """Take a shard and its rows down, before anything of it is sent; return it with its number."""
        cost = shard.worst.cost
        values = (shard.key, shard.server, shard.digest, shard.requests, shard.worst.tokens)
        amount = (str(cost.amount), cost.currency) if cost else (None, None)
        with self._record.together():
            number = self._database.execute(
                "INSERT INTO shards "
                "(key, server, digest, requests, worst_tokens, worst_amount, worst_currency) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*values, *amount),
            ).lastrowid
            self._database.executemany(
                "INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, 0)",
                (
                    (number, one.place, line, one.round, one.flaw, one.returns)
                    for line, one in enumerate(asked, 1)
                ),
            )
            self._database.executemany(
                "DELETE FROM waiting WHERE place = ?", ((one.place,) for one in asked if one.round > 1)
            )
        return self._shard(shard.key)

    def note(self, shard: Shard, **values: Any) -> Shard:
        """Take down what is new of a shard, by its attributes' names; return it so."""
        names = ", ".join(f"{name} = ?" for name in values)  # of this program alone
        with self._record.together():
            self._database.execute(
                f"UPDATE shards SET {names} WHERE number = ?",  # noqa: S608 - the names are this module's
                (*values.values(), shard.number),
            )
        return self._shard(shard.key)

    def _shard(self, key: str) -> Shard:
        with reported():
            return read_shards(self._database, "key = ?", key)[0]

    def find(self, shard: Shard, place: int) -> tuple[BatchRow, Asked, bool] | None:
        """Return a row of a shard, its request, and whether it was read already; None: it is none of its."""
        query = (
            f"{_ASKED}, is_read, id, brief FROM asked JOIN rows USING (place) WHERE shard = ? AND place = ?"
        )
        for *asked, is_read, name, brief in self._rows(query, shard.number, place):
            return BatchRow(name, place, read_brief(name, brief)), Asked(*asked), bool(is_read)
        return None

    def at_line(self, shard: Shard, line: int) -> tuple[BatchRow, Asked] | None:
        """Return the row whose request stands in a line of a shard's file, counted from 1; None: no row."""
        query = f"{_ASKED}, id, brief FROM asked JOIN rows USING (place) WHERE shard = ? AND line = ?"
        for *asked, name, brief in self._rows(query, shard.number, line):
            return BatchRow(name, asked[0], read_brief(name, brief)), Asked(*asked)
        return None

    def mark_read(self, shard: Shard, asked: Asked) -> None:
        """Note that a row came back, within the transaction that saves it."""
        with self._record.together():
            self._database.execute(
                "UPDATE asked SET is_read = 1 WHERE shard = ? AND place = ?", (shard.number, asked.place)
            )

    def unread(self, shard: Shard) -> Iterator[tuple[BatchRow, Asked]]:
        """Yield the rows of a shard that did not come back, in order."""
        query = (
            f"{_ASKED}, id, brief FROM asked JOIN rows USING (place) "
            "WHERE shard = ? AND is_read = 0 AND place > ? ORDER BY place LIMIT ?"
        )
        return self._paged(query, shard.number)

    def close(self, shard: Shard) -> None:
        """Be done with a shard; rows of it that were not read are nobody's any more."""
        with self._record.together():
            self._database.execute("UPDATE shards SET is_open = 0 WHERE number = ?", (shard.number,))
            self._database.execute("DELETE FROM asked WHERE shard = ?", (shard.number,))

    def wait(self, asked: Asked) -> None:
        """Keep a row, which is pending, for a further round: it is nobody else's to begin anew."""
        values = (asked.place, asked.round, asked.flaw, asked.returns)
        with self._record.together():
            self._database.execute("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", values)

    def waits(self, place: int) -> Asked | None:
        """Return what a row waits for; None: it does not."""
        found = self._rows(f"{_ASKED} FROM waiting WHERE place = ?", place)
        return Asked(*found[0]) if found else None

    def settle(self, place: int) -> None:
        """Note that a row waits for no further round."""
        with self._record.together():
            self._database.execute("DELETE FROM waiting WHERE place = ?", (place,))

    def end_beyond(self, attempts: int) -> int:
        """Let rows wait no more that have no further round of so many: they stay refused; return how many."""
        beyond = "(SELECT place FROM waiting WHERE round > ?)"
        with self._record.together():
            self._database.execute(
                f"UPDATE rows SET status = 'refused' WHERE status = 'pending' AND place IN {beyond}",  # noqa: S608 - the names are this module's
                (attempts,),
            )
            return self._database.execute("DELETE FROM waiting WHERE round > ?", (attempts,)).rowcount

    def waiting(self) -> Iterator[tuple[BatchRow, Asked]]:
        """Yield the rows that wait for a further round, in order."""
        query = (
            f"{_ASKED}, id, brief FROM waiting JOIN rows USING (place) WHERE place > ? ORDER BY place LIMIT ?"
        )
        return self._paged(query)

    def count_waiting(self) -> int:
        """Return how many rows wait for a further round."""
        with reported():
            return count_waiting(self._database)

    def rows_out(self) -> tuple[int, int]:
        """Return how many pending rows lie at a provider, and how many in files that somebody else runs."""
        with reported():
            return rows_out(self._database)

    def last(self, row: str, asked: Asked) -> Answered | None:
        """Return the answer that a request mends; None for a first draft.

        A withheld answer has no words: nobody mends a refusal, so the brief is asked again.
        """
        if asked.round == 1:
            return None
        query = (  # the newest of that round: earlier ones are of a go that was begun anew
            "SELECT number, text, problems FROM answers WHERE row = ? AND number = ? "
            "ORDER BY rowid DESC LIMIT 1"
        )
        for number, text, problems in self._rows(query, row, asked.round - 1):
            words = "" if asked.flaw == "withheld" else text
            return Answered(number, words, passed=False, problems=tuple(json.loads(problems)))
        return None

    def _paged(self, query: str, *values: Any) -> Iterator[tuple[BatchRow, Asked]]:
        last = -1
        while found := self._rows(query, *values, last, _ROWS):
            for *asked, name, brief in found:
                yield BatchRow(name, asked[0], read_brief(name, brief)), Asked(*asked)
            last = found[-1][0]

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with reported():
            return self._database.execute(query, values).fetchall()


MOST_RETURNS = 3  # of one repair, which goes out again by itself: so that it comes to an end


@dataclass(frozen=True)
class Returns:
    """Takes rows back.

    Attributes:
        record: the batch's record.
        shards: its shards.
        made: is told of each row that failed for good, and that it is done with.
    """

    record: BatchRecord
    shards: Shards
    made: Callable[[Done, bool], None]

    def take(self, row: BatchRow, asked: Asked, reason: str) -> None:
        """Take a row back that came without an answer; a repair that did so too often has failed."""
        if asked.round > 1 and asked.returns + 1 >= MOST_RETURNS:
            self.fail(row, f"came back without an answer {MOST_RETURNS} times: {reason}")
            return
        self.keep(row, replace(asked, returns=asked.returns + 1))

    def keep(self, row: BatchRow, asked: Asked) -> None:
        """Take a row back that was never worked on: a first draft is pending again, a repair waits."""
        self.record.reopen(row.id)
        if asked.round > 1:
            self.shards.wait(asked)

    def fail(self, row: BatchRow, reason: str) -> None:
        """Save a row as failed."""
        done = Done(row.id, "failed", reason)
        self.record.save(done)
        self.made(done, True)

    def close(self, shard: Shard, reason: str = "") -> int:
        """Be done with a shard; return how many of its rows come back with it.

        Args:
            shard: the shard.
            reason: why a batch that was worked off has no answer for them; empty: it was not worked off.
        """
        count = 0
        with self.record.together():
            for row, asked in self.shards.unread(shard):
                if reason:
                    self.take(row, asked, reason)
                else:
                    self.keep(row, asked)
                count += 1
            self.shards.close(shard)
        return count


def end_beyond(shards: Shards, settings: Settings, say: Say) -> None:
    """Let rows wait no more that have had all their rounds, and say so."""
    if count := shards.end_beyond(settings.attempts):
        say(
            f"{count} rows that were to be mended stay refused, for --attempts is {settings.attempts} now: "
            "--retry refused makes them anew"
        )
