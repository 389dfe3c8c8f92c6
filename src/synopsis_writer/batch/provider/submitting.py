"""Submitting a batch to a provider."""

from collections.abc import Callable, Mapping
from itertools import chain, islice
from pathlib import Path

from synopsis_writer.batch.briefs import read_briefs
from synopsis_writer.batch.done import Counts
from synopsis_writer.batch.provider.requests import firsts, shard_file
from synopsis_writer.batch.provider.work import TERMS, Say, Terms, examples_of, hosted, open_post, open_work
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.session import Order, facts_of, put_aside
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
    facts = facts_of(order, settings, choice) | examples_of(settings)
    if order.fresh:
        put_aside(order, say)
    with BatchRecord(order.out, facts) as record:
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
            for shard in post.unsent():
                await post.send(shard)
            for shard in work.write(rows, post.folder, post.server.server, terms):
                await post.send(shard)
        return record.counts()
