"""Shards: the parts of a batch that are at a provider, recorded in the batch's store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import BatchReader, BatchStore, NextAttempt, read_brief, reported
from synopsis_writer.result import RowResult
from synopsis_writer.usage import Cost, Spent

_MOST_RETURNS = 3  # of one repair, which goes out again by itself: so that it comes to an end

_ATTEMPT = "SELECT place, round, flaw, returns"


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
    tried: float | None = None  # when the last request to make the batch was over at the latest
    batch: str | None = None  # the provider's id of the batch
    status: str = "written"  # the provider's word for its state; this one, before there is any, is ours
    done: int = 0  # requests, by the provider's count
    failed: int = 0
    expires: float | None = None  # when it ends in any case


def open_shards(reader: BatchReader) -> list[Shard]:
    """Return the shards of a batch that are not done with, in order."""
    return _read_shards(reader, "is_open")


def _read_shards(reader: BatchReader, where: str, *values: str) -> list[Shard]:
    names = [each.name for each in fields(Shard) if each.name != "worst"]
    sql = f"SELECT worst_amount, worst_currency, worst_tokens, {', '.join(names)} FROM shards WHERE {where}"  # noqa: S608
    shards = []
    with reported():
        for amount, currency, tokens, *rest in reader.query(f"{sql} ORDER BY number", *values):
            worst = Spent(Cost(Decimal(amount), currency) if amount else None, tokens)
            shards.append(Shard(worst=worst, **dict(zip(names, rest, strict=True))))
    return shards


class ShardStore(BatchStore):
    """A batch's store with its shards, and its rows that come back without an answer."""

    # Called with each row that failed for good, and True: it is done with.
    made: Callable[[RowResult, bool], None] = staticmethod(lambda *_: None)

    def begin(
        self, key: str, server: str, digest: str, worst: Spent, attempts: Sequence[NextAttempt]
    ) -> Shard:
        """Record a shard and its rows before anything of it is sent; return it."""
        cost = worst.cost
        amount, currency = (str(cost.amount), cost.currency) if cost else (None, None)
        values = (key, server, digest, len(attempts), worst.tokens, amount, currency)
        with self.transaction():
            number = self.execute(
                "INSERT INTO shards (key, server, digest, requests, worst_tokens, worst_amount, "
                "worst_currency) VALUES (?, ?, ?, ?, ?, ?, ?)",
                *values,
            ).lastrowid
            self.database.executemany(
                "INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, 0)",
                (
                    (number, attempt.place, line, attempt.number, attempt.flaw, attempt.returns)
                    for line, attempt in enumerate(attempts, 1)
                ),
            )
            for attempt in attempts:
                self.settle(attempt.place)
        return self._shard(key)

    def record(self, shard: Shard, **values: Any) -> Shard:
        """Record what is new of a shard, by its attributes' names; return it so."""
        self.update("shards", "number", shard.number, values)
        return self._shard(shard.key)

    def _shard(self, key: str) -> Shard:
        return _read_shards(self, "key = ?", key)[0]

    def find(self, shard: Shard, place: int) -> tuple[BatchRow, NextAttempt, bool] | None:
        """Return a row of a shard, its attempt, and whether its answer was read; None: it has no such row."""
        sql = (
            f"{_ATTEMPT}, is_read, id, brief FROM asked JOIN rows USING (place) WHERE shard = ? AND place = ?"
        )
        for *attempt, is_read, name, brief in self.query(sql, shard.number, place):
            return BatchRow(name, place, read_brief(name, brief)), NextAttempt(*attempt), bool(is_read)
        return None

    def row_at(self, shard: Shard, line: int) -> BatchRow | None:
        """Return the row of a line of a shard's file, counted from 1; None: there is none."""
        of_line = "JOIN asked USING (place) WHERE shard = ? AND line = ?"
        return next(self.rows(of_line, shard.number, line), None)

    def mark_read(self, shard: Shard, place: int) -> None:
        """Record that a row came back, within the transaction that saves it."""
        self.execute("UPDATE asked SET is_read = 1 WHERE shard = ? AND place = ?", shard.number, place)

    def unread(self, shard: Shard) -> Iterator[tuple[BatchRow, NextAttempt]]:
        """Yield the rows of a shard that did not come back, in order."""
        return self.attempts(
            f"{_ATTEMPT}, id, brief FROM asked JOIN rows USING (place) "
            "WHERE shard = ? AND is_read = 0 AND place > ? ORDER BY place LIMIT ?",
            shard.number,
        )

    def requeue(self, row: BatchRow, attempt: NextAttempt, reason: str = "") -> None:
        """Take a row back that has no answer: a first draft is pending again, a repair waits.

        `reason` is why the provider gave none: a repair without one too often has failed. It is empty where
        the row was never worked on.
        """
        if reason:
            attempt = replace(attempt, returns=attempt.returns + 1)
            if attempt.number > 1 and attempt.returns >= _MOST_RETURNS:
                self.fail(row, f"came back without an answer {_MOST_RETURNS} times: {reason}")
                return
        self.reopen(row.id)
        if attempt.number > 1:
            self.wait(attempt)

    def fail(self, row: BatchRow, reason: str) -> None:
        """Save a row as failed."""
        result = RowResult(row.id, "failed", reason)
        self.save(result)
        self.made(result, True)

    def close_shard(self, shard: Shard, reason: str = "") -> int:
        """Be done with a shard; return how many of its rows come back with it; `reason` as in `requeue`."""
        count = 0
        with self.transaction():
            for row, attempt in self.unread(shard):
                self.requeue(row, attempt, reason)
                count += 1
            self.execute("UPDATE shards SET is_open = 0 WHERE number = ?", shard.number)
            self.execute("DELETE FROM asked WHERE shard = ?", shard.number)
        return count
