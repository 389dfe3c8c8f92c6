"""Making one batch of a shard: never a second one, whatever became of the answer."""

import time
from collections.abc import Callable

from synopsis_writer.batch.provider.remote import RemoteBatch
from synopsis_writer.batch.provider.server import METADATA, BatchServer, Unclear
from synopsis_writer.errors import ConnectionFailed, ModelError


async def found_batch(
    server: BatchServer, key: str, file: str, tried: float, settle: float
) -> RemoteBatch | None:
    """Return the batch that was perhaps made of a shard; None: it was not, and will not be.

    Args:
        server: the provider.
        key: the shard's.
        file: the uploaded file's id.
        tried: when it was asked to make it, in seconds since the epoch.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: the provider does not say.
    """
    found = await server.find(key, file)
    left = min(settle, tried + settle - time.time())
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
        tried: when it was last asked to make it, in seconds since the epoch; None: never, or it said no.
        note: takes down when it is asked; None where it said no.
        settle: seconds after which a batch that was made stands in the provider's list.

    Raises:
        ModelError: it was not made, or that is still unclear when the retries are used up.
    """
    said = ""
    for _ in range(server.retry.retries + 1):
        if tried is not None and (found := await found_batch(server, key, file, tried, settle)) is not None:
            return found
        tried = time.time()
        note(tried)  # before it is asked: a kill from here on leaves it unclear
        try:
            return await server.create(file, {METADATA: key})
        except Unclear as error:
            said = str(error)
        except ModelError:
            note(None)
            raise
    raise ConnectionFailed(f"{said}; it is unclear whether the batch was made: run the same again")
