"""Making one batch of a shard: never a second one, whatever became of the answer."""

import time
from collections.abc import Callable

from synopsis_writer.batch.provider.remote import RemoteBatch
from synopsis_writer.batch.provider.server import METADATA, BatchServer, Unclear
from synopsis_writer.errors import ConnectionFailed, ModelError

_MOST_TRIES = 2  # in one command


async def found_batch(
    server: BatchServer, key: str, file: str, tried: float, settle: float
) -> RemoteBatch | None:
    """Return the batch that was perhaps made of a shard; None: it was not, and will not be.

    Args:
        server: the provider.
        key: the shard's.
        file: the uploaded file's id.
        tried: when the request to make it was over at the latest, in seconds since the epoch.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: the provider does not say.
    """
    # Only a look that begins after that time counts; no wait is longer, whatever a clock was set to.
    left = min(tried + settle - time.time(), server.ask_seconds + settle)
    found = await server.find(key, file)
    if found is None and left > 0:
        server.announce(f"unclear whether the batch was made: looking again in {left:.0f} s")
        await server.retry.sleep(left)
        found = await server.find(key, file)
    return found


async def made_batch(
    server: BatchServer,
    key: str,
    file: str,
    tried: float | None,
    note: Callable[[float | None], None],
    settle: float,
) -> RemoteBatch:
    """Return the batch of an uploaded shard: the one that was made before, or a new one.

    Args:
        server: the provider.
        key: the shard's.
        file: the uploaded file's id.
        tried: when the last request to make it was over at the latest, in seconds since the epoch; None:
            there was none, or the provider said no.
        note: takes that time down; None where it said no.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: it was not made, or that is still unclear.
    """
    if tried is not None and (found := await found_batch(server, key, file, tried, settle)) is not None:
        return found
    said = ""
    for _ in range(_MOST_TRIES if tried is None else 1):
        note(time.time() + server.ask_seconds)  # before it is asked: a kill from here on leaves it unclear
        try:
            return await server.create(file, {METADATA: key})
        except Unclear as error:
            said = str(error)
        except ModelError:
            note(None)
            raise
        over = time.time()
        note(over)
        if (found := await found_batch(server, key, file, over, settle)) is not None:
            return found
    raise ConnectionFailed(f"{said}; no batch of it is there up to now: run the same again")
