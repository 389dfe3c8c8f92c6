"""Sending shards to a provider, asking how they stand, and bringing what came of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from synopsis_writer.batch.provider.making import found_batch, made_batch
from synopsis_writer.batch.provider.remote import RemoteBatch
from synopsis_writer.batch.provider.requests import is_whole, shard_file
from synopsis_writer.batch.provider.returns import Returns
from synopsis_writer.batch.provider.server import BatchServer
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Shard
from synopsis_writer.errors import RequestRefused, SettingsError

# What a provider's check says of a file, in OpenAI's words: the same file would be refused again. All else,
# as a full queue (`token_limit_exceeded`) or an empty account, is no fault of its rows.
_OF_THE_FILE = frozenset(
    {
        "duplicate_custom_id",
        "empty_batch",
        "empty_file",
        "invalid_custom_id",
        "invalid_json_line",
        "invalid_method",
        "invalid_request",
        "invalid_url",
        "missing_required_parameter",
        "model_mismatch",
        "model_not_found",
        "too_many_tasks",
        "url_mismatch",
    }
)


@dataclass(frozen=True)
class Post:
    """Takes shards to one provider, and back.

    Attributes:
        server: the provider.
        shards: where each step is taken down.
        returns: takes rows back.
        folder: where the files lie.
        settle: seconds after which a batch that was made stands in the provider's list.
        say: is told of each step.
    """

    server: BatchServer
    shards: Shards
    returns: Returns
    folder: Path
    settle: float
    say: Callable[[str], None]

    def open(self) -> list[Shard]:
        """Return the open shards, but those that somebody else runs.

        Raises:
            SettingsError: one of them lies at another provider.
        """
        found = [shard for shard in self.shards.open() if shard.server]
        for shard in found:
            if shard.server != self.server.server:
                raise SettingsError(
                    f"shard {shard.number} lies at {shard.server}, not at {self.server.server}: "
                    "name its server with --base-url"
                )
        return found

    def unsent(self) -> list[Shard]:
        """Return the open shards that a kill or a fault left on their way."""
        return [shard for shard in self.open() if shard.batch is None]

    async def send(self, shard: Shard) -> None:
        """Upload a shard and make its batch, from the last step that is known.

        Raises:
            ModelError: the provider does not take it; the same again goes on with it.
            FileError: its file cannot be read.
        """
        path = shard_file(self.folder, shard.key)
        if shard.file is None:
            if not is_whole(path, shard):
                count = self.returns.close(shard)
                self.say(
                    f"shard {shard.number}: {path} is not what was written: {count} rows are pending again"
                )
                return
            shard = self.shards.note(shard, file=await self.server.upload(path))
        file = shard.file or ""

        def note(tried: float | None) -> None:
            # A file that was refused may be gone there: it is uploaded anew.
            self.shards.note(shard, **({"tried": tried} if tried else {"tried": None, "file": None}))

        remote = await made_batch(self.server, shard.key, file, shard.tried, note, self.settle)
        self._note(shard, remote, batch=remote.id)
        path.unlink(missing_ok=True)
        self.say(
            f"shard {shard.number}: {shard.requests} requests in batch {remote.id} at {self.server.host}"
        )

    async def look(self, shard: Shard) -> RemoteBatch:
        """Ask how a shard stands, and take it down."""
        batch = shard.batch or ""
        remote = await self.server.look(batch, self._missing(shard, batch))
        self._note(shard, remote)
        return remote

    async def cancel(self, shard: Shard) -> bool:
        """Ask for the end of a shard's batch; return whether there is one."""
        if shard.batch is None:
            remote = None
            if shard.tried is not None and shard.file is not None:
                server, settle = self.server, self.settle
                remote = await found_batch(server, shard.key, shard.file, shard.tried, settle)
            if remote is None:
                return False
            self._note(shard, remote, batch=remote.id)
            shard = replace(shard, batch=remote.id)
        remote = await self.look(shard)
        if remote.is_open and remote.status != "cancelling":
            batch = shard.batch or ""
            try:
                self._note(shard, await self.server.cancel(batch, self._missing(shard, batch)))
            except RequestRefused:
                remote = await self.look(shard)
                if remote.is_open and remote.status != "cancelling":
                    raise  # else it came to its end meanwhile
        return True

    def _missing(self, shard: Shard, name: str) -> str:
        return (
            f"{self.server.host}: knows no '{name}' of shard {shard.number}: use the key and the project it "
            f"was made with, or let it go with synopsis batch cancel --forget {shard.number}"
        )

    def _note(self, shard: Shard, remote: RemoteBatch, **values: str) -> None:
        self.shards.note(
            shard,
            status=remote.status,
            done=remote.done,
            failed=remote.failed,
            expires=remote.expires_at,
            **values,
        )

    async def bring(self, shard: Shard, remote: RemoteBatch) -> list[Path]:
        """Return the files of what came of a batch; one that is there is not brought again."""
        paths: list[Path] = []
        for kind, file in (("output", remote.output_file_id), ("errors", remote.error_file_id)):
            if file:
                path = self.folder / f"{shard.key}.{kind}.jsonl"
                if not path.exists():
                    await self.server.download(file, path, self._missing(shard, file))
                paths.append(path)
        return paths

    def refuse(self, shard: Shard, remote: RemoteBatch) -> bool:
        """Be done with a shard that the provider's check refused; return whether others may be sent.

        A row that the provider names has failed, and so have all where it names none and the file is at
        fault: it would be refused again. Else they are pending again, and others would be refused, too.
        """
        problems = remote.problems
        said = "; ".join(f"line {line}: {text}" if line else text for line, _, text in problems[:3])
        said = said or "it does not say why"
        failed = 0
        with self.returns.record.together():
            for line, _, text in problems:
                found = self.shards.at_line(shard, line) if line else None
                if found is not None:
                    self.shards.mark_read(shard, found[1])
                    self.returns.fail(found[0], f"the provider refused it: {text}")
                    failed += 1
            if not failed and any(code in _OF_THE_FILE for _, code, _ in problems):
                for row, asked in self.shards.unread(shard):
                    self.shards.mark_read(shard, asked)
                    self.returns.fail(row, f"the provider refused the whole batch: {said}")
                    failed += 1
            count = self.returns.close(shard)
        self.say(
            f"shard {shard.number}: batch {remote.id} was refused: {said}: {failed} rows failed, "
            f"{count} are pending again"
        )
        return failed > 0
