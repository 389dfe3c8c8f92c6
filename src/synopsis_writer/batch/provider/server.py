"""A provider's files and batches: tried again where that is safe, never where it is paid twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from synopsis_writer.batch.provider.remote import RemoteBatch, RemoteBatches, RemoteFile, read_remote
from synopsis_writer.client.address import DEFAULT_BASE_URL, host_of, server_of
from synopsis_writer.client.choice import Choice
from synopsis_writer.client.faults import failure
from synopsis_writer.client.hosted import open_sdk
from synopsis_writer.client.keys import look_up_key
from synopsis_writer.client.retry import BrokenBody, Effort, RetryPolicy, is_server_fault, retrying
from synopsis_writer.errors import ModelError, RequestRefused
from synopsis_writer.settings import Settings
from synopsis_writer.store import replacing

if TYPE_CHECKING:
    import openai

METADATA = "synopsis_shard"  # the name that a shard's key has there
_PAGE = 100
ASK_SECONDS = 60.0
_MOVE_SECONDS = 3600.0  # for a file of 200 MB over a line of 0.5 MBit/s
_NOT_FOUND = 404
# Said by something on the way that gave up waiting, or of a request that is still under way.
_UNCLEAR = frozenset({408, 409})
_T = TypeVar("_T")


class Unclear(Exception):
    """A batch may have been made, or not: the answer was lost."""


@dataclass(frozen=True)
class BatchServer:
    """One provider.

    Attributes:
        sdk: the connection.
        server: host, port and path.
        model: the model, for messages.
        retry: the retry policy.
        announce: is told of each wait.
        key_hint: why there may be no key.
        ask_seconds: seconds to wait for one answer; a file has longer.
    """

    sdk: "openai.AsyncOpenAI"
    server: str
    model: str
    retry: RetryPolicy
    announce: Callable[[str], None]
    key_hint: str = ""
    ask_seconds: float = ASK_SECONDS

    @property
    def host(self) -> str:
        """The server's host and port, for messages."""
        return self.server.partition("/")[0]

    async def upload(self, path: Path) -> str:
        """Upload a file of requests, and return its id; a second copy of it harms nobody.

        Raises:
            ModelError: it did not come about; so do all that follow.
        """

        async def ask() -> str:
            with path.open("rb") as file:
                raw = await self.sdk.files.with_raw_response.create(
                    file=(path.name, file, "application/jsonl"), purpose="batch", timeout=_MOVE_SECONDS
                )
            return read_remote(RemoteFile, raw.content).id

        missing = f"{self.host}: has no batch interface: use synopsis batch run, or --to-files"
        return await self._repeat(ask, _MOVE_SECONDS, missing)

    async def create(self, file: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Make a batch of an uploaded file: asked once, for a second one would be paid, too.

        Raises:
            Unclear: no answer came, so that it may have been made.
            ModelError: it was not made.
        """
        import openai

        try:
            async with asyncio.timeout(self.ask_seconds):
                raw = await self.sdk.batches.with_raw_response.create(
                    input_file_id=file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata=dict(metadata),
                )
            return read_remote(RemoteBatch, raw.content)
        except (openai.APIError, TimeoutError, BrokenBody) as error:
            fault: BaseException = error
        status = fault.status_code if isinstance(fault, openai.APIStatusError) else None
        if status is None or status in _UNCLEAR or is_server_fault(status):
            raise Unclear(str(self._failure(fault)))
        raise self._failure(fault)

    async def find(self, key: str, file: str) -> RemoteBatch | None:
        """Return the batch that was made of a shard, by its key or its file; None: there is none."""
        after: str | None = None
        while True:
            page = await self._page(after)
            known = [batch for batch in page.data if batch is not None]
            for batch in known:
                if (batch.metadata or {}).get(METADATA) == key or batch.input_file_id == file:
                    return batch
            if not page.has_more or not page.data or (known and known[-1].id == after):
                return None
            if not known:  # where it goes on does not stand there
                raise self._failure(BrokenBody("its list of batches cannot be read", passing=False))
            after = known[-1].id

    async def _page(self, after: str | None) -> RemoteBatches:
        import openai

        async def ask() -> RemoteBatches:
            raw = await self.sdk.batches.with_raw_response.list(limit=_PAGE, after=after or openai.omit)
            return read_remote(RemoteBatches, raw.content)

        return await self._repeat(ask)

    async def look(self, batch: str, missing: str) -> RemoteBatch:
        """Return how a batch stands; `missing`, as of what follows: what is said where nobody knows it."""

        async def ask() -> RemoteBatch:
            return read_remote(
                RemoteBatch, (await self.sdk.batches.with_raw_response.retrieve(batch)).content
            )

        return await self._repeat(ask, missing=missing)

    async def cancel(self, batch: str, missing: str) -> RemoteBatch:
        """Ask for the end of a batch; what is done by then comes back all the same."""

        async def ask() -> RemoteBatch:
            return read_remote(RemoteBatch, (await self.sdk.batches.with_raw_response.cancel(batch)).content)

        return await self._repeat(ask, missing=missing)

    async def download(self, file: str, path: Path, missing: str) -> None:
        """Bring a file, whole or not at all.

        Raises:
            FileError: it cannot be written.
            ModelError: it did not come.
        """
        import httpx2

        async def ask() -> None:
            info = read_remote(RemoteFile, (await self.sdk.files.with_raw_response.retrieve(file)).content)
            size = 0
            with replacing(path) as target:
                try:
                    async with self.sdk.files.with_streaming_response.content(file) as response:
                        async for piece in response.iter_bytes():
                            size += target.write(piece)
                except httpx2.HTTPError:
                    raise BrokenBody("the file broke off", passing=True) from None
                if info.bytes is not None and size != info.bytes:
                    raise BrokenBody(f"the file has {size} of {info.bytes} bytes", passing=True)

        await self._repeat(ask, _MOVE_SECONDS, missing)

    async def _repeat(
        self, ask: Callable[[], Awaitable[_T]], within: float | None = None, missing: str = ""
    ) -> _T:
        import openai

        within = within or self.ask_seconds
        effort = Effort(replace(self.retry, seconds=max(self.retry.seconds, within)))
        try:
            async for attempt in retrying(effort, self.announce):
                with attempt:
                    async with asyncio.timeout(within):
                        return await ask()
        except (openai.APIError, TimeoutError, BrokenBody) as error:
            fault: BaseException = error
        # Out here, for the SDK's error may quote the key, and would go along as the context.
        if missing and isinstance(fault, openai.APIStatusError) and fault.status_code == _NOT_FOUND:
            raise RequestRefused(missing)
        raise self._failure(fault)

    def _failure(self, fault: BaseException) -> ModelError:
        return failure(fault, self.host, self.model, self.key_hint)


@contextlib.asynccontextmanager
async def open_batch_server(
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str],
    retry: RetryPolicy,
    announce: Callable[[str], None],
    ask_seconds: float = ASK_SECONDS,
) -> AsyncIterator[BatchServer]:
    """Connect with the provider of the chosen model; it has `ask_seconds` for one answer.

    Raises:
        SettingsError: its address cannot be used, or the key cannot be sent.
    """
    address = choice.base_url or DEFAULT_BASE_URL
    key = look_up_key(host_of(address), environment)
    sdk = open_sdk(address, key.value, announce, insecure=settings.insecure)
    try:
        yield BatchServer(sdk, server_of(address), choice.model, retry, announce, key.hint, ask_seconds)
    finally:
        await sdk.close()
