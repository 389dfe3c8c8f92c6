"""Rows that come back from a provider without an answer: they are nobody's fault, and go out again."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Done
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Asked, Shard
from synopsis_writer.batch.record import BatchRecord

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
