"""Calling a batch back from a provider."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from synopsis_writer.batch.provider.returns import Returns
from synopsis_writer.batch.provider.sending import Post
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Shard
from synopsis_writer.batch.provider.work import TERMS, Say, Terms, as_begun, hosted, open_post, sweep
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.errors import ModelError, SettingsError
from synopsis_writer.settings import Settings


async def cancel_batch(
    out: Path,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    say: Say,
    forget: Collection[int] = (),
    terms: Terms = TERMS,
) -> None:
    """Ask for the end of all open batches; what is done by then is fetched all the same.

    Shards that were never sent, or that somebody else runs, are let go at once.

    Args:
        out: the batch's folder.
        settings: all settings.
        environment: where the key stands.
        say: is told of each shard.
        forget: let the shards of these numbers go without asking the provider, and no others; what it still
            makes of them is paid and lost.
        terms: how patient we are.

    Raises:
        InputError: the folder holds no batch, or no such shard.
        ModelError: the provider failed for good, after all other shards were seen to.
    """
    settings = as_begun(out, settings)
    with BatchRecord(out, {}) as record:
        shards = Shards(record)
        returns = Returns(record, shards, lambda *_: None)

        def let_go(shard: Shard) -> None:
            count = returns.close(shard)
            sweep(out, shards)
            say(f"shard {shard.number}: let go: {count} rows are pending again")

        for shard in _chosen(shards.open(), forget):
            if forget or not shard.server or (shard.batch is None and shard.tried is None):
                let_go(shard)
        if forget or not shards.open():
            if waiting := shards.count_waiting():
                say(f"{waiting} rows wait to be mended: batch submit sends them, batch run mends them live")
            return
        choice = hosted(settings, environment, is_elsewhere=False)
        async with open_post(out, choice, settings, environment, shards, returns, say, terms) as post:
            await _end_all(post, let_go, say)


async def _end_all(post: Post, let_go: Callable[[Shard], None], say: Say) -> None:
    """Ask for the end of each batch; a fault at one is raised when all were asked."""
    faults: list[ModelError] = []
    for shard in post.open():
        try:
            if await post.cancel(shard):
                say(f"shard {shard.number}: its batch is asked to end: fetch what is done by then")
            else:
                let_go(shard)
        except ModelError as error:
            faults.append(error)
    for fault in faults[1:]:
        say(str(fault))
    if faults:
        raise faults[0]


def _chosen(found: list[Shard], numbers: Collection[int]) -> list[Shard]:
    known = {shard.number: shard for shard in found}
    for number in numbers:
        if number not in known:
            others = ", ".join(map(str, known)) or "none"
            raise SettingsError(f"shard {number} is not open: name one that is ({others})")
    return [known[number] for number in dict.fromkeys(numbers)] or found
