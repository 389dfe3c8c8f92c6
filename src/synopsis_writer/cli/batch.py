"""The command group batch."""

import contextlib
import json as jsonlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    INTERRUPTED,
    Progress,
    print_error,
    print_json,
    print_result,
    status,
    warn,
)
from synopsis_writer.errors import GateRefusedError, ModelError, SettingsError
from synopsis_writer.kinds import BatchFormat, Engine, Retry, Switch

if TYPE_CHECKING:
    from types import TracebackType

    from synopsis_writer.batch.run import Stop
    from synopsis_writer.batch.store import BatchReader, Counts, SavedRow
    from synopsis_writer.cluster.cluster import RayEngine
    from synopsis_writer.provider.shards import Shard
    from synopsis_writer.result import RowResult

app = typer.Typer(help="Many briefs from a file, each text saved exactly once.", no_args_is_help=True)


class _BatchProgress(Progress):
    """The progress of a batch; at its end it prints answers that cannot be saved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.unsaved: list[RowResult[str]] = []

    def begun(self, counts: "Counts") -> None:
        """Record how far the batch is before anything is made."""
        self.planned, self.before = counts.rows, counts.rows - counts.pending

    def made(self, result: "RowResult[str]", is_final: bool) -> None:
        """Count a row that was saved, and what it took."""
        self.add(result.outcome if is_final else None, result.usage, result.cost)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Log how far the batch came, and print what would be lost: it was paid."""
        super().__exit__(kind, error, trace)
        for result in self.unsaved:
            answers = [attempt.answer.text for attempt in result.attempts]
            data = {"id": result.id, "status": result.outcome, "answers": answers}
            line = jsonlib.dumps(data, ensure_ascii=False)
            try:
                print_result(line)
                sys.stdout.flush()
            except OSError:  # stdout is on the same full disk
                warn(line)
        if self.unsaved:
            print_error(
                f"{len(self.unsaved)} rows cannot be saved: their answers are printed, a line of JSON a row"
            )


_DIR = Annotated[Path, typer.Argument(metavar="DIR", help="The batch's folder.")]


@app.command("run")
def run(
    briefs: Annotated[
        Path, typer.Argument(metavar="BRIEFS", help="CSV, JSONL, YAML or Parquet with a brief a row.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The batch's folder; the same command again goes on with it.")
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=1024, help="Rows in flight, on a server.")
    ] = 8,
    rpm: Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute at most.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute at most.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=0, max=64, help="Processes that check texts, 0: this one; with ray: make rows."
        ),
    ] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rows to make this time.")] = None,
    retry: Annotated[
        list[Retry] | None, typer.Option("--retry", help="Make rows again that were this; repeatable.")
    ] = None,
    variety: Annotated[
        Switch, typer.Option("--variety", help="Whether a text is compared with the batch's others.")
    ] = Switch.ON,
    arc: Annotated[
        Path | None,
        typer.Option("--arc", help="YAML: what rows establish; later rows are told, one after the other."),
    ] = None,
    engine: Annotated[
        Engine, typer.Option("--engine", help="Where rows are made: this process, or a Ray cluster.")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="A", help="The cluster: auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; the old record is archived, not deleted.")
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
    cache: options.Cache = None,
    _quiet: options.Quiet = False,
) -> int:
    """Write every brief of a file; the same command again makes the rows that are still to be made.

    Exits 1 when rows were refused, 3 when rows failed, 130 after Ctrl-C.
    """
    import asyncio

    from synopsis_writer.batch.run import Order, run_batch
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
    order = Order(
        briefs,
        out,
        concurrency,
        rpm,
        tpm,
        limit,
        workers,
        tuple(row_status.value for row_status in retry or []),
        variety is Switch.ON,
        arc,
        fresh,
    )
    with _BatchProgress(0) as shown:
        stop = _stop_on_ctrl_c()
        counts = asyncio.run(
            run_batch(
                order,
                settings,
                os.environ,
                say=status,
                begun=shown.begun,
                made=shown.made,
                unsaved=shown.unsaved.append,
                engine=_engine(engine, address),
                stop=stop,
            )
        )
    print_result(summary(counts))
    if stop.is_set:
        warn("run the same command again to go on")
        return INTERRUPTED
    return ModelError.exit_code if counts.failed else GateRefusedError.exit_code if counts.refused else 0


def _engine(engine: Engine, address: str | None) -> "RayEngine | None":
    """Return what makes the rows, where that is not this process."""
    if engine is Engine.RAY:
        from synopsis_writer.cluster.cluster import RayEngine, ray_environment

        os.environ.update(ray_environment(address, os.environ))
        return RayEngine(address, os.environ, status)
    if address is not None:
        raise SettingsError("--address is a cluster's: add --engine ray, or leave it out")
    return None


def _stop_on_ctrl_c() -> "Stop":
    """Return a stop for Ctrl-C: the first lets what is in flight end, and says so, the second cancels it."""
    import asyncio

    from synopsis_writer.batch.run import Stop

    class CtrlC(Stop):
        @contextlib.contextmanager
        def listening(self) -> Iterator[None]:
            """Take Ctrl-C over while the block runs; where the loop cannot, it stays as it was."""
            loop, task = asyncio.get_running_loop(), asyncio.current_task()

            def interrupt() -> None:
                if not self.is_set:
                    self.is_set = True
                    status("ending: the rows in flight are still made and saved; Ctrl-C again ends at once")
                elif task is not None:
                    task.cancel()

            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(signal.SIGINT, interrupt)
            try:
                yield
            except asyncio.CancelledError:
                if self.is_set:
                    raise KeyboardInterrupt from None  # the second Ctrl-C
                raise
            finally:
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    loop.remove_signal_handler(signal.SIGINT)

        @contextlib.contextmanager
        def shielded(self) -> Iterator[None]:
            """Ignore Ctrl-C, which processes that are started meanwhile go on doing."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, handler)

    return CtrlC()


@app.command("status")
def show_status(folder: _DIR, json: options.Json = False) -> None:
    """Say how far a batch is, and why rows were refused or failed."""
    from synopsis_writer.batch.store import read_batch
    from synopsis_writer.usage import format_cost

    with read_batch(folder) as reader:
        counts, reasons = reader.counts(), reader.reasons()
        shards, out = shards_data(reader), shard_lines(reader)
    if json:
        print_json(
            {
                "rows": counts.rows,
                "pending": counts.pending,
                "accepted": counts.accepted,
                "refused": counts.refused,
                "failed": counts.failed,
                "prompt_tokens": counts.usage.prompt_tokens,
                "cached_tokens": counts.usage.cached_tokens,
                "completion_tokens": counts.usage.completion_tokens,
                "cost": format_cost(counts.cost),
                "seconds": round(counts.seconds, 1),
                "shards": shards,
                "reasons": reasons,
            }
        )
        return
    print_result("\n".join([summary(counts), *out]))
    for row, reason in reasons.items():
        print_result(f"  {row}: {reason}")


@app.command("export")
def export(
    folder: _DIR,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; for md, the folder of its files.")
    ],
    export_format: Annotated[BatchFormat, typer.Option("--format", help="What to write.")],
) -> None:
    """Write the accepted texts of a batch for people or other programs."""
    from synopsis_writer.batch.export import export_csv, export_jsonl, export_md, export_parquet
    from synopsis_writer.batch.store import read_batch

    write: dict[BatchFormat, Callable[[Iterable[SavedRow], Path], int]] = {
        BatchFormat.MARKDOWN: export_md,
        BatchFormat.JSONL: export_jsonl,
        BatchFormat.CSV: export_csv,
        BatchFormat.PARQUET: export_parquet,
    }
    with read_batch(folder) as reader:
        count = write[export_format](reader.accepted(), output)
    status(f"written: {output} ({count} texts)")


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
        bool, typer.Option("--fresh", help="Begin anew; the old record is archived, not deleted.")
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
    _quiet: options.Quiet = False,
) -> None:
    """Send the rows that are still to be made to the provider's batch interface: half the price, in a day.

    'synopsis batch fetch' brings the answers.
    """
    import asyncio

    from synopsis_writer.batch.run import Order
    from synopsis_writer.provider.submit import submit_batch
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
    order = Order(
        briefs, out, limit=limit, retry=tuple(row_status.value for row_status in retry or []), fresh=fresh
    )
    counts = asyncio.run(submit_batch(order, settings, os.environ, say=status, to_folder=to_folder))
    _give(counts, out)


app.command("submit")(submit)


def fetch(
    folder: _DIR,
    wait: Annotated[bool, typer.Option("--wait", help="Go on until everything is in.")] = False,
    live_below: Annotated[
        int,
        typer.Option("--live-below", min=0, help="So many rows or fewer are repaired by live calls."),
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
        Switch, typer.Option("--variety", help="Whether a text is compared with the batch's others.")
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
    _quiet: options.Quiet = False,
) -> int:
    """Bring what the provider has made, save what passes, and send what is to be repaired.

    Give it the flags that 'batch submit' was given; the model is known.
    Exits 1 when rows were refused; 3 when rows failed, or after --wait are pending and nobody works on them.
    """
    import asyncio

    from synopsis_writer.provider.fetch import Fetch, fetch_batch
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
    with _BatchProgress(0) as shown:
        counts = asyncio.run(
            fetch_batch(
                order,
                settings,
                os.environ,
                say=status,
                begun=shown.begun,
                made=shown.made,
                unsaved=shown.unsaved.append,
                stop=_stop_on_ctrl_c(),
            )
        )
    is_out = _give(counts, folder)
    if wait and counts.pending and not is_out:
        print_error(f"{counts.pending} rows are pending, and nobody works on them: submit them again")
        return ModelError.exit_code
    return ModelError.exit_code if counts.failed else GateRefusedError.exit_code if counts.refused else 0


app.command("fetch")(fetch)


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
    _quiet: options.Quiet = False,
) -> None:
    """Ask the provider to end the open batches of a folder; 'batch fetch' then brings what is done."""
    import asyncio

    from synopsis_writer.provider.submit import cancel_batch
    from synopsis_writer.settings import load_settings

    settings = load_settings(
        {
            "base_url": base_url,
            "insecure": insecure,
            "max_retries": max_retries,
        }
    )
    asyncio.run(cancel_batch(folder, settings, os.environ, say=status, forget=forget or ()))


app.command("cancel")(cancel)


def summary(counts: "Counts") -> str:
    """Return how far a batch is, in two lines: rows, and what they took."""
    from synopsis_writer.usage import format_cost

    usage = counts.usage
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    return (
        f"{counts.rows} rows: {counts.accepted} accepted, {counts.refused} refused, {counts.failed} failed, "
        f"{counts.pending} pending\n"
        f"{usage.prompt_tokens}{cached} + {usage.completion_tokens} tokens, {format_cost(counts.cost)}"
    )


def _give(counts: "Counts", folder: Path) -> bool:
    """Print how far a batch is; return whether any of it is out, or waits to be mended."""
    from synopsis_writer.batch.store import read_batch

    with read_batch(folder) as reader:
        shards = shard_lines(reader)
    print_result("\n".join([summary(counts), *shards]))
    return bool(shards)


def shard_lines(reader: "BatchReader") -> list[str]:
    """Return a line for each open shard, and one for the rows that wait to be mended."""
    from synopsis_writer.provider.shards import open_shards

    lines = [_shard_line(shard) for shard in open_shards(reader)]
    if waiting := reader.count_waiting():
        way = "batch fetch or submit sends them, batch run repairs them by live calls"
        lines.append(f"{waiting} of the pending rows wait to be repaired: {way}")
    return lines


def _shard_line(shard: "Shard") -> str:
    asked = f"shard {shard.number}: {shard.requests} requests"
    if not shard.server:
        return f"{asked} in a file: give its results to batch fetch --from-file"
    if shard.batch is None:
        return f"{asked}, not sent yet: batch fetch goes on with it"
    done = f"{shard.done} done, {shard.failed} failed"
    ends = f"; ends {_time(shard.expires)} at the latest" if shard.expires else ""
    host = shard.server.partition("/")[0]
    return f"{asked} in batch {shard.batch} at {host}: {shard.status}, {done} when it was last asked{ends}"


def shards_data(reader: "BatchReader") -> list[dict[str, object]]:
    """Return the open shards as `--json` gives them."""
    from synopsis_writer.provider.shards import open_shards

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
        for shard in open_shards(reader)
    ]


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):  # the provider's value is not a time
        return "at a time that no calendar has"
