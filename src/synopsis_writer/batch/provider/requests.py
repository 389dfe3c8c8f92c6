"""Requests: what is asked for a row in its round, and the files that hold many of them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.provider.lines import id_of, request_line
from synopsis_writer.batch.provider.shards import Shards, new_key
from synopsis_writer.batch.provider.tables import Asked, Shard
from synopsis_writer.client import Limits
from synopsis_writer.client.budget import Budget, Spent, worst_case
from synopsis_writer.client.dialect import Dialect
from synopsis_writer.client.pricing import Pricer
from synopsis_writer.client.request import chat_request
from synopsis_writer.desk import Desk
from synopsis_writer.errors import BudgetSpent, FileError, os_reason
from synopsis_writer.store import replacing
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.writer import longer


@dataclass(frozen=True)
class Request:
    """One request: whose it is, its body, and what it may take at most."""

    asked: Asked
    body: Mapping[str, Any]
    worst: Spent


@dataclass(frozen=True)
class RequestMaker:
    """Makes the requests of rows, the same as live calls make.

    Attributes:
        desk: pool and templates.
        shards: knows the answers that are to be mended.
        model: the model's name.
        limits: bounds of one answer.
        dialect: what the server takes.
        pricer: knows what it costs.
        budget: the ledger; each request is set aside in it.
        say: is told of unknown shows.
    """

    desk: Desk
    shards: Shards
    model: str
    limits: Limits
    dialect: Dialect
    pricer: Pricer
    budget: Budget
    say: Callable[[str], None]

    def requests(self, rows: Iterable[tuple[BatchRow, Asked]]) -> Iterator[Request]:
        """Yield the request of each row.

        Raises:
            BudgetSpent: the next one could pass the budget.
        """
        schema = wire_schema(Synopsis)
        for row, asked in rows:
            show = self.desk.find_show(row.brief.show, self.say)
            prompt = self.desk.synopsis_prompt(row.brief.model_copy(update={"show": show.name}), show)
            last = self.shards.last(row.id, asked)
            messages = prompt.messages
            if last is not None and last.text:
                messages = self.desk.prompts.repair(prompt, last.text, last.problems)
            limits = longer(self.limits) if asked.flaw == "cut" else self.limits
            body = chat_request(self.model, messages, schema, limits, self.dialect, stream=False)
            del body["timeout"]  # the SDK's, not the server's
            worst = worst_case(self.pricer, messages, schema, limits)
            self.budget.reserve(worst)
            yield Request(asked, body, worst)


def write_shards(
    requests: Iterator[Request],
    shards: Shards,
    folder: Path,
    server: str,
    most_requests: int,
    most_bytes: int,
) -> Iterator[Shard]:
    """Write requests into files within a provider's limits; yield each as a shard that is taken down.

    Args:
        requests: what is asked; one is taken when there is room for it.
        shards: where a shard is taken down when its file is whole.
        folder: where the files are written.
        server: whom they are for; empty: somebody else runs them.
        most_requests: requests in a file at most.
        most_bytes: bytes of a file at most; a request that alone has more gets a file of its own.

    Raises:
        BudgetSpent: the budget lets no more requests through; what it let through was yielded.
        FileError: a file cannot be written.
    """
    request = next(requests, None)
    spent: BudgetSpent | None = None
    while request is not None:
        key, digest, size = new_key(), hashlib.sha256(), 0
        asked: list[Asked] = []
        worst = Spent()
        with replacing(shard_file(folder, key)) as file:
            while request is not None:
                line = request_line(id_of(key, request.asked), request.body)
                if asked and (len(asked) == most_requests or size + len(line) > most_bytes):
                    break
                file.write(line)
                digest.update(line)
                size += len(line)
                asked.append(request.asked)
                worst += request.worst
                try:
                    request = next(requests, None)
                except BudgetSpent as error:
                    request, spent = None, error
        yield shards.begin(Shard(0, key, server, digest.hexdigest(), len(asked), worst), asked)
    if spent is not None:
        raise spent


def shard_file(folder: Path, key: str) -> Path:
    """Return the file of a shard's requests."""
    return folder / f"{key}.jsonl"


def is_whole(path: Path, shard: Shard) -> bool:
    """Whether the file is there as it was written."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == shard.digest
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: see to its folder") from error


def firsts(rows: Iterable[BatchRow]) -> Iterator[tuple[BatchRow, Asked]]:
    """Yield rows with what is asked of a first draft."""
    return ((row, Asked(row.place)) for row in rows)
