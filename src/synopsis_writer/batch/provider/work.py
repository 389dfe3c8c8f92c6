"""What submitting, fetching and cancelling have in common: record, prices and the way to the provider."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Done
from synopsis_writer.batch.provider.requests import RequestMaker, write_shards
from synopsis_writer.batch.provider.returns import Returns
from synopsis_writer.batch.provider.sending import Post
from synopsis_writer.batch.provider.server import ASK_SECONDS, open_batch_server
from synopsis_writer.batch.provider.shards import Shards
from synopsis_writer.batch.provider.tables import Asked, Shard
from synopsis_writer.batch.reading import reading
from synopsis_writer.batch.record import BatchRecord
from synopsis_writer.batch.varied import for_gate
from synopsis_writer.client.budget import Budget, Spent, check_prices
from synopsis_writer.client.chain import limits_of
from synopsis_writer.client.choice import ADDRESS, Choice, choose
from synopsis_writer.client.dialect_store import DIALECTS_FILE, DialectStore
from synopsis_writer.client.pricing import HostedPricer, load_prices
from synopsis_writer.client.retry import RetryPolicy
from synopsis_writer.desk import Desk, load_desk
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evaluation.runner import folder_hash
from synopsis_writer.settings import Settings

Say = Callable[[str], None]
FOLDER = "provider"  # in the batch's folder: files on their way
# OpenAI's limits of a file. 200 MB are taken as the smaller of two readings.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
_OURS = re.compile(r"([0-9a-f]{16})\.|\.synopsis-")  # a shard's, or one that a kill left half written
_SOMEWHERE = "http://localhost/v1"  # no provider: list prices are none of its


@dataclass(frozen=True)
class Terms:
    """What a provider takes, and how patient we are with it.

    Attributes:
        most_requests: requests in a file at most.
        most_bytes: bytes of a file at most.
        settle: seconds after which a batch that was made stands in the provider's list.
        first_look: seconds to the second look at an open batch; each further wait is half as long again.
        longest_look: seconds between two looks at most.
        ask_seconds: seconds to wait for one answer; a file has longer.
        first_wait: seconds before a call is tried again, about; each further wait doubles.
    """

    most_requests: int = MOST_REQUESTS
    most_bytes: int = MOST_BYTES
    settle: float = 30.0
    first_look: float = 5.0
    longest_look: float = 60.0
    ask_seconds: float = ASK_SECONDS
    first_wait: float = RetryPolicy.first_wait


TERMS = Terms()


@dataclass(frozen=True)
class Work:
    """What submitting and fetching have in common."""

    record: BatchRecord
    shards: Shards
    returns: Returns
    desk: Desk
    choice: Choice
    settings: Settings
    pricer: HostedPricer
    say: Say

    def budget(self) -> Budget:
        """Return a ledger of what was spent, and of what open shards may still come to."""
        counts = self.record.counts()
        spent = Spent(counts.cost, counts.usage.prompt_tokens + counts.usage.completion_tokens)
        out = [shard.worst for shard in self.shards.open()]
        settings = self.settings
        return Budget(settings.budget, settings.max_tokens_total, spent=spent, reserved=out)

    def write(
        self, rows: Iterable[tuple[BatchRow, Asked]], folder: Path, server: str, terms: Terms
    ) -> Iterator[Shard]:
        """Write the requests of rows into shards; raises as `write_shards`."""
        budget = self.budget()
        check_prices(budget, self.pricer, self.choice.model)
        dialects = DialectStore(self.settings.cache / DIALECTS_FILE)
        maker = RequestMaker(
            self.desk,
            self.shards,
            self.choice.model,
            limits_of(self.settings),
            dialects.find(self.choice.server or "", self.choice.model),
            self.pricer,
            budget,
            self.say,
        )
        requests = maker.requests(rows)
        return write_shards(requests, self.shards, folder, server, terms.most_requests, terms.most_bytes)


def hosted(settings: Settings, environment: Mapping[str, str], *, is_elsewhere: bool) -> Choice:
    """Return the chosen model, which must be a server's.

    Args:
        settings: all settings.
        environment: where key and address may stand.
        is_elsewhere: nothing is sent: a model that is named needs neither key nor address.

    Raises:
        SettingsError: no model is there, or it is one of this machine.
    """
    if is_elsewhere and settings.model is not None:
        address = settings.base_url or environment.get(ADDRESS) or _SOMEWHERE
        return Choice("hosted", settings.model, "named with --model or in the settings", address)
    choice = choose(settings, environment)
    if choice.kind != "hosted":
        raise SettingsError(
            f"the model '{choice.model}' runs on this machine, which has no batch interface: "
            "use synopsis batch run, or name a hosted model with --model"
        )
    return choice


def as_begun(folder: Path, settings: Settings) -> Settings:
    """Return the settings with the model that a batch was begun with, unless a flag names one.

    Raises:
        FileError: the folder holds no batch.
    """
    with reading(folder) as database:
        found = database.execute("SELECT value FROM facts WHERE name = 'model'").fetchone()
    if not found or settings.is_flag("model"):
        return settings
    return settings.model_copy(update={"model": found[0]})


def examples_of(settings: Settings) -> dict[str, str]:
    """Return the fact of which examples prompts show: a mended row must be shown those of its first round.

    Raises:
        FileError: the folder of examples is none.
    """
    pool = folder_hash(settings.examples) if settings.examples else "the house's"
    pinned = f", pinned {', '.join(settings.pinned)}" if settings.pinned else ""
    return {"examples": f"{pool}, {settings.example_tokens} tokens{pinned}"}


def open_work(
    record: BatchRecord,
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,
    made: Callable[[Done, bool], None],
) -> Work:
    """Return what works on a record.

    Raises:
        InputError: the table of prices, an example, a template or the profile is broken.
    """
    settings = for_gate(settings)
    shards = Shards(record)
    end_beyond(shards, settings, say)
    pricer = HostedPricer(choice.model, choice.base_url, load_prices(settings, environment), is_batch=True)
    return Work(
        record, shards, Returns(record, shards, made), load_desk(settings, say), choice, settings, pricer, say
    )


def end_beyond(shards: Shards, settings: Settings, say: Say) -> None:
    """Let rows wait no more that have had all their rounds, and say so."""
    if count := shards.end_beyond(settings.attempts):
        say(
            f"{count} rows that were to be mended stay refused, for --attempts is {settings.attempts} now: "
            "--retry refused makes them anew"
        )


def sweep(out: Path, shards: Shards) -> None:
    """Remove the files in a batch's folder that belong to no open shard; one that cannot be removed stays."""
    keys = {shard.key for shard in shards.open()}
    with contextlib.suppress(OSError):
        for path in (out / FOLDER).iterdir():
            found = _OURS.match(path.name)
            if found and found[1] not in keys:
                path.unlink()


@contextlib.asynccontextmanager
async def open_post(
    out: Path,
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str],
    shards: Shards,
    returns: Returns,
    say: Say,
    terms: Terms,
) -> AsyncIterator[Post]:
    """Connect with the provider, and make the folder of the files on their way; what a kill left there goes.

    Raises:
        InputError: the folder cannot be made, or the address cannot be used.
    """
    path = out / FOLDER
    try:
        path.mkdir(mode=0o700, exist_ok=True)  # briefs and answers are not for everybody
    except OSError as error:
        raise FileError(f"cannot make {os_reason(error, path)}: see to its folder") from error
    sweep(out, shards)
    retry = RetryPolicy(settings.max_retries, settings.retry_seconds, terms.first_wait)
    async with open_batch_server(choice, settings, environment, retry, say, terms.ask_seconds) as server:
        yield Post(server, shards, returns, path, terms.settle, say)
