"""`synopsis batch submit`, `fetch` and `cancel`: the provider's batch interface, at half price."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import complain, give, say, say_nothing
from synopsis_writer.errors import GateRefused, ModelError
from synopsis_writer.kinds import Retry, Switch

if TYPE_CHECKING:
    import sqlite3

    from synopsis_writer.batch.done import Counts
    from synopsis_writer.batch.provider.tables import Shard

_DIR = Annotated[Path, typer.Argument(metavar="DIR", help="The batch's folder.")]


def submit(
    briefs: Annotated[
        Path, typer.Argument(metavar="BRIEFS", help="CSV, JSONL, YAML or Parquet with a brief a row.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The batch's folder; the same command again goes on with it.")
    ],
    to_folder: Annotated[
        Path | None,
        typer.Option("--to-files", metavar="FOLDER", help="Write the requests there, and send nothing."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows to send this time.")] = None,
    retry: Annotated[
        list[Retry] | None, typer.Option("--retry", help="Make rows again that were this; repeatable.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; the old record is put aside, not deleted.")
    ] = False,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    examples: options.Examples = None,
    pin: options.Pin = None,
    prompts: options.Prompts = None,
    profile: options.Profile = None,
    disable: options.Disable = None,
    attempts: options.Attempts = None,
    max_retries: options.MaxRetries = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    quiet: options.Quiet = False,
) -> None:
    """Send the rows that are still to be made to the provider's batch interface: half the price, in a day.

    'synopsis batch fetch' brings the answers.
    """
    import asyncio

    from synopsis_writer.batch.provider.submitting import submit_batch
    from synopsis_writer.batch.session import Order
    from synopsis_writer.settings import load_settings

    settings = load_settings(
        {
            "model": model,
            "base_url": base_url,
            "insecure": insecure,
            "examples": examples,
            "pinned": pin,
            "prompts": prompts,
            "profile": profile,
            "disable": disable,
            "attempts": attempts,
            "max_retries": max_retries,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
        }
    )
    order = Order(briefs, out, limit=limit, retry=tuple(one.value for one in retry or []), fresh=fresh)
    status = say_nothing if quiet else say
    counts = asyncio.run(submit_batch(order, settings, os.environ, say=status, to_folder=to_folder))
    _give(counts, out)


def fetch(
    folder: _DIR,
    wait: Annotated[bool, typer.Option("--wait", help="Go on until everything is in.")] = False,
    live_below: Annotated[
        int,
        typer.Option("--live-below", min=0, help="So many rows or fewer are mended by live calls."),
    ] = 20,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", metavar="FILE", help="Read results that 'vllm run-batch' made."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=1024, help="Live calls in flight.")
    ] = 8,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=64, help="Processes that check texts; 0: this one does.")
    ] = 0,
    variety: Annotated[
        Switch, typer.Option("--variety", help="Whether a text is held against the batch's others.")
    ] = Switch.ON,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    examples: options.Examples = None,
    pin: options.Pin = None,
    prompts: options.Prompts = None,
    profile: options.Profile = None,
    disable: options.Disable = None,
    attempts: options.Attempts = None,
    max_retries: options.MaxRetries = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    cache: options.Cache = None,
    quiet: options.Quiet = False,
) -> int:
    """Bring what the provider has made, save what passes, and send what is to be mended.

    Give it the flags that 'batch submit' was given; the model is known.
    Exits 1 when rows were refused; 3 when rows failed, or after --wait are pending and nobody is at them.
    """
    import asyncio

    from synopsis_writer.batch.provider.fetching import fetch_batch
    from synopsis_writer.batch.provider.rounds import Fetch
    from synopsis_writer.cli.shown import RowsShown
    from synopsis_writer.settings import load_settings

    settings = load_settings(
        {
            "model": model,
            "base_url": base_url,
            "insecure": insecure,
            "examples": examples,
            "pinned": pin,
            "prompts": prompts,
            "profile": profile,
            "disable": disable,
            "attempts": attempts,
            "max_retries": max_retries,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
            "responses": cache,
        }
    )
    order = Fetch(folder, wait, live_below, concurrency, workers, variety is Switch.ON, from_file)
    with RowsShown(is_quiet=quiet) as shown:
        counts = asyncio.run(
            fetch_batch(
                order,
                settings,
                os.environ,
                say=shown.progress.say,
                begun=shown.begun,
                made=shown.made,
                unsaved=shown.lost.append,
            )
        )
    is_out = _give(counts, folder)
    if wait and counts.pending and not is_out:
        complain(f"{counts.pending} rows are pending, and nobody is at them: submit them again")
        return ModelError.exit_code
    return ModelError.exit_code if counts.failed else GateRefused.exit_code if counts.refused else 0


def cancel(
    folder: _DIR,
    forget: Annotated[
        list[int] | None,
        typer.Option(
            "--forget",
            metavar="SHARD",
            help="Let only this one go, and do not ask: what the provider still makes is lost; repeatable.",
        ),
    ] = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    max_retries: options.MaxRetries = None,
    quiet: options.Quiet = False,
) -> None:
    """Ask the provider to end the open batches of a folder; 'batch fetch' then brings what is done."""
    import asyncio

    from synopsis_writer.batch.provider.cancelling import cancel_batch
    from synopsis_writer.settings import load_settings

    settings = load_settings(
        {
            "base_url": base_url,
            "insecure": insecure,
            "max_retries": max_retries,
        }
    )
    status = say_nothing if quiet else say
    asyncio.run(cancel_batch(folder, settings, os.environ, say=status, forget=forget or ()))


def _give(counts: "Counts", folder: Path) -> bool:
    """Print how far a batch is; return whether any of it is out, or waits to be mended."""
    from synopsis_writer.batch.reading import reading
    from synopsis_writer.cli.batch import told

    with reading(folder) as database:
        shards = shards_told(database)
    give("\n".join([told(counts), *shards]))
    return bool(shards)


def shards_told(database: "sqlite3.Connection") -> list[str]:
    """Return a line for each open shard, and one for the rows that wait to be mended."""
    from synopsis_writer.batch.provider.tables import count_waiting, open_shards

    lines = [_told(shard) for shard in open_shards(database)]
    waiting = count_waiting(database)
    mend = "batch fetch or submit sends them, batch run mends them by live calls"
    return [*lines, f"{waiting} of the pending rows wait to be mended: {mend}"] if waiting else lines


def _told(shard: "Shard") -> str:
    asked = f"shard {shard.number}: {shard.requests} requests"
    if not shard.server:
        return f"{asked} in a file: give its results to batch fetch --from-file"
    if shard.batch is None:
        return f"{asked}, not sent yet: batch fetch goes on with it"
    done = f"{shard.done} done, {shard.failed} failed"
    ends = f"; ends {_time(shard.expires)} at the latest" if shard.expires else ""
    host = shard.server.partition("/")[0]
    return f"{asked} in batch {shard.batch} at {host}: {shard.status}, {done} when it was last asked{ends}"


def shards_data(database: "sqlite3.Connection") -> list[dict[str, object]]:
    """Return the open shards as `--json` gives them."""
    from synopsis_writer.batch.provider.tables import open_shards

    return [
        {
            "number": shard.number,
            "key": shard.key,
            "server": shard.server,
            "batch": shard.batch,
            "status": shard.status,
            "requests": shard.requests,
            "done": shard.done,
            "failed": shard.failed,
            "expires": _time(shard.expires) if shard.expires else None,
        }
        for shard in open_shards(database)
    ]


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):  # what a provider said is no time
        return "at a time that no calendar has"
