"""Submitting a batch to a provider, and calling it back."""

from collections.abc import Callable, Mapping
from itertools import chain, islice
from pathlib import Path

from synopsis_writer.batch.briefs import read_briefs
from synopsis_writer.batch.done import Counts
from synopsis_writer.batch.provider.requests import firsts, shard_file
from synopsis_writer.batch.provider.returns import Returns
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Shard
from synopsis_writer.batch.provider.work import TERMS, Say, Terms, as_begun, hosted, open_post, open_work
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.session import Order, facts_of
from synopsis_writer.settings import Settings


async def submit_batch(
    order: Order,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    begun: Callable[[Counts], None] = lambda _: None,
    to_folder: Path | None = None,
    terms: Terms = TERMS,
) -> Counts:
    """Send the rows that are pending, and those that wait to be mended, to the provider.

    Args:
        order: what is to be made; `concurrency`, `rpm`, `tpm`, `workers` and `variety` mean nothing here.
        settings: all settings.
        environment: where the key stands.
        say: is told of each shard.
        begun: is told how far the batch is before anything is sent.
        to_folder: write the files into it and send nothing: somebody else runs them.
        terms: what the provider takes.

    Raises:
        InputError: briefs, settings or the folder cannot be used.
        ModelError: the provider does not take it, or the budget is spent; what was sent before is out.
    """
    choice = hosted(settings, environment, is_elsewhere=to_folder is not None)
    with BatchRecord(order.out, facts_of(order, settings, choice)) as record:
        record.fill(read_briefs(order.briefs))
        record.again(order.retry)
        begun(record.counts())
        work = open_work(record, choice, settings, environment, say, lambda *_: None)
        rows = islice(chain(work.shards.waiting(), firsts(record.pending())), order.limit)
        if to_folder is not None:
            for shard in work.write(rows, to_folder, "", terms):
                say(f"shard {shard.number}: {shard.requests} requests in {shard_file(to_folder, shard.key)}")
            return record.counts()
        async with open_post(
            order.out, choice, settings, environment, work.shards, work.returns, say, terms
        ) as post:
            await post.finish()
            for shard in work.write(rows, post.folder, post.server.server, terms):
                await post.send(shard)
        return record.counts()


async def cancel_batch(
    out: Path,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    forget: bool = False,
    terms: Terms = TERMS,
) -> None:
    """Ask for the end of all open batches; what is done by then is fetched all the same.

    Shards that were never sent, or that somebody else runs, are let go at once.

    Args:
        out: the batch's folder.
        settings: all settings.
        environment: where the key stands.
        say: is told of each shard.
        forget: let all go without asking the provider; what it still makes of them is paid and lost.
        terms: how patient we are.

    Raises:
        InputError: the folder holds no batch.
        ModelError: the provider failed for good.
    """
    settings = as_begun(out, settings)
    with BatchRecord(out, {}) as record:
        shards = Shards(record)
        returns = Returns(record, shards, lambda *_: None)

        def let_go(shard: Shard) -> None:
            count = returns.close(shard, "it was cancelled")
            say(f"shard {shard.number}: let go: {count} rows are pending again")

        for shard in shards.open():
            if forget or not shard.server or (shard.batch is None and shard.tried is None):
                let_go(shard)
        if not shards.open():
            return
        choice = hosted(settings, environment, is_elsewhere=False)
        async with open_post(out, choice, settings, environment, shards, returns, say, terms) as post:
            for shard in post.open():
                if await post.cancel(shard):
                    say(f"shard {shard.number}: its batch is asked to end: fetch what is done by then")
                else:
                    let_go(shard)
