"""The command group batch."""

import contextlib
import json as jsonlib
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    INTERRUPTED,
    STDERR,
    Progress,
    format_json,
    print_error,
    print_json,
    print_result,
    status,
)
from synopsis_writer.cli.options import option
from synopsis_writer.errors import FileError, GateRefusedError, ModelError, SettingsError

if TYPE_CHECKING:
    from synopsis_writer.batch.run import Order, Stop
    from synopsis_writer.batch.store import BatchReader, Counts
    from synopsis_writer.cluster.cluster import RayEngine
    from synopsis_writer.provider.shards import Shard
    from synopsis_writer.result import RowResult

app = typer.Typer(help="Many briefs from a file, each text saved exactly once.", no_args_is_help=True)


@dataclass
class _BatchProgress(Progress):
    """The progress of a batch; at its end it prints answers that cannot be saved: they were paid."""

    unsaved: "list[RowResult[str]]" = field(default_factory=list)
    is_stdout_free: bool = True  # else one object goes there

    @property
    def callbacks(self) -> dict[str, Any]:
        """What a batch calls while it works."""
        return {"begun": self.begun, "made": self.made, "unsaved": self.unsaved.append}

    def begun(self, counts: "Counts") -> None:
        """Record how far the batch is before anything is made."""
        self.planned, self.before = counts.rows, counts.rows - counts.pending

    def made(self, result: "RowResult[str]", is_final: bool) -> None:
        """Count a row that was saved, and what it took."""
        self.add(result.outcome if is_final else None, result.usage, result.cost)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for result in self.unsaved:
            answers = [attempt.answer.text for attempt in result.attempts]
            data = {"id": result.id, "status": result.outcome, "answers": answers}
            with contextlib.suppress(OSError):  # stdout is on the same full disk
                if self.is_stdout_free:
                    print_result(format_json(data))
                    sys.stdout.flush()
                    continue
            STDERR.print_line(jsonlib.dumps(data), logging.WARNING, math.inf)
        if self.unsaved:
            print_error(
                f"{len(self.unsaved)} rows cannot be saved: their answers are printed, a line of JSON a row"
            )


Engine = Literal["local", "ray"]
Format = Literal["md", "jsonl", "csv", "parquet"]

_MOST_LISTED = 20  # rows that a message names
_OUTCOMES = ("accepted", "refused", "failed")

_DIR = Annotated[Path, typer.Argument(metavar="DIR", help="The batch's folder.")]


class _Retry(StrEnum):  # Typer knows no lists of literals
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class _RowFlags:
    """Which rows are made, and where they are saved."""

    briefs: Annotated[
        Path, typer.Argument(metavar="BRIEFS", help="CSV, JSONL, YAML or Parquet with a brief per row.")
    ]
    out: Annotated[
        Path, option("--out", "The batch's folder; run the same command again to continue it.", "FOLDER")
    ]
    limit: Annotated[int | None, option("--limit", "Rows to make this time.", "N", min=1)] = None
    retry: Annotated[
        list[_Retry] | None, option("--retry", "Make such rows again; repeatable.", "refused|failed")
    ] = None
    fresh: Annotated[bool, option("--fresh", "Start over; the old record is archived, not deleted.")] = False

    def order(self, **more: Any) -> "Order":
        """Return what is ordered of a batch; `more` are its other attributes."""
        from synopsis_writer.batch.run import Order

        retry: Any = tuple(retry.value for retry in self.retry or ())
        return Order(self.briefs, self.out, limit=self.limit, retry=retry, fresh=self.fresh, **more)


@dataclass(frozen=True)
class _WorkFlags:
    """How rows are made and compared."""

    concurrency: Annotated[
        int, option("--concurrency", "Rows in flight, on a server.", "N", min=1, max=1024)
    ] = 8
    workers: Annotated[
        int, option("--workers", "Processes that check texts; 0: this one does.", "N", min=0, max=64)
    ] = 0
    variety: Annotated[
        Literal["on", "off"], option("--variety", "Whether a text is compared with the batch's others.")
    ] = "on"

    @property
    def fields(self) -> dict[str, Any]:
        """The attributes of an order that the flags set."""
        return {**vars(self), "variety": self.variety == "on"}


@app.command("run")
@options.grouped
def run(
    *,
    rows: _RowFlags,
    work: _WorkFlags,
    rpm: Annotated[int | None, option("--rpm", "Maximum requests per minute.", "N", min=1)] = None,
    tpm: Annotated[int | None, option("--tpm", "Maximum tokens per minute.", "N", min=1)] = None,
    arc: Annotated[
        Path | None, option("--arc", "YAML: facts that rows establish, and later rows are given.", "FILE")
    ] = None,
    engine: Annotated[
        Engine,
        option("--engine", "Where rows are made: in this process, or by --workers workers of a Ray cluster."),
    ] = "local",
    address: Annotated[
        str | None, option("--address", "The cluster: auto, HOST:PORT or ray://HOST:PORT.", "ADDRESS")
    ] = None,
    flags: options.RunFlags,
    json: options.Json = False,
) -> int:
    """Write every brief of a file; the same command again makes the rows that are still to be made.

    Exits 1 when rows were refused, 3 when rows failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    import asyncio

    from synopsis_writer.batch.run import run_batch

    settings = options.settings_from(flags)
    order = rows.order(rpm=rpm, tpm=tpm, arc=arc, log=not flags.no_log, **work.fields)
    if json:
        STDERR.failure_data = partial(_data, rows.out)
    with _BatchProgress(0, is_stdout_free=not json) as shown:
        stop, made_by = _stop_on_ctrl_c(), _engine(engine, address)
        counts = asyncio.run(
            run_batch(order, settings, os.environ, **shown.callbacks, engine=made_by, stop=stop)
        )
    code = INTERRUPTED if stop.is_set else _exit_code(counts)
    if json and code != INTERRUPTED:  # else it is printed as that of every interrupted command
        unfinished = {"error": _unfinished(counts), "exit_code": code} if code else {}
        print_json({**_data(rows.out), **unfinished})
    elif not json:
        print_result(summary(counts))
    return code


def _engine(engine: Engine, address: str | None) -> "RayEngine | None":
    """Return what makes the rows, where that is not this process."""
    if engine == "ray":
        from synopsis_writer.cluster.cluster import RayEngine, ray_environment

        os.environ.update(ray_environment(address, os.environ))
        return RayEngine(address, os.environ)
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

            with contextlib.ExitStack() as stack:
                with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                    loop.add_signal_handler(signal.SIGINT, interrupt)
                    stack.callback(loop.remove_signal_handler, signal.SIGINT)
                try:
                    yield
                except asyncio.CancelledError:
                    if self.is_set:
                        raise KeyboardInterrupt from None  # the second Ctrl-C
                    raise

        @contextlib.contextmanager
        def shielded(self) -> Iterator[None]:
            """Ignore Ctrl-C, which processes that are started meanwhile go on doing."""
            with contextlib.ExitStack() as stack:
                if threading.current_thread() is threading.main_thread():
                    stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
                yield

    return CtrlC()


@app.command("status")
@options.grouped
def show_status(folder: _DIR, json: options.Json = False) -> None:
    """Show how far a batch is, and why rows were refused or failed."""
    from synopsis_writer.batch.store import read_batch

    if json:
        print_json(_data(folder))
        return
    with read_batch(folder) as reader:
        counts, reasons, lines = reader.counts(), reader.reasons(), shard_lines(reader)
    print_result("\n".join([summary(counts), *lines]))
    for row, reason in reasons.items():
        print_result(f"  {row}: {reason}")


def _data(folder: Path) -> dict[str, Any]:
    """Return how far a batch is, as `--json` prints it."""
    from synopsis_writer.batch.store import read_batch
    from synopsis_writer.provider.shards import open_shards
    from synopsis_writer.usage import format_cost, usage_data

    with read_batch(folder) as reader:
        counts = reader.counts()
        return {
            **{name: getattr(counts, name) for name in ("rows", "pending", *_OUTCOMES)},
            **usage_data(counts.usage),
            "cost": format_cost(counts.cost),
            "seconds": round(counts.seconds, 1),
            "shards": [_shard_data(shard) for shard in open_shards(reader)],
            "reasons": reader.reasons(),
        }


@app.command("export")
@options.grouped
def export(
    folder: _DIR,
    output: Annotated[
        Path, option("--output", "The file to write, - is stdout; for md, the folder.", "PATH", short="-o")
    ],
    export_format: Annotated[Format, option("--format", "What to write.")],
) -> int:
    """Write the accepted texts of a batch for people or other programs."""
    from synopsis_writer.batch.export import export_csv, export_jsonl, export_md, export_parquet
    from synopsis_writer.batch.store import is_of_batch, read_batch
    from synopsis_writer.storage.files import STDOUT

    if export_format == "md" and output == STDOUT:
        raise FileError("md is a folder of files, which stdout is not: name a folder with --output")
    if output != STDOUT and is_of_batch(output, folder):
        raise FileError(f"{output}: belongs to the batch itself: name another file or folder")
    write = {"md": export_md, "jsonl": export_jsonl, "csv": export_csv, "parquet": export_parquet}
    lost: list[int] = []
    with read_batch(folder) as reader:
        count = write[export_format](reader.readable(lost), output)
    status(f"written: {'stdout' if output == STDOUT else output} ({count} texts)")
    if lost:
        rows = ", ".join(map(str, lost[:_MOST_LISTED])) + ", …" * (len(lost) > _MOST_LISTED)
        print_error(
            f"{folder}: the record is damaged, {len(lost)} rows cannot be read and are left out: {rows}"
        )
    return FileError.exit_code if lost else 0


@app.command("submit")
@options.grouped
def submit(
    *,
    rows: _RowFlags,
    to_folder: Annotated[
        Path | None, option("--to-files", "Write the requests there, and send nothing.", "FOLDER")
    ] = None,
    request: options.RequestFlags,
    gate: options.GateFlags,
) -> None:
    """Send the rows that are still to be made to the provider's batch API: half the price, within a day.

    'synopsis batch fetch' brings the answers.
    """
    import asyncio

    from synopsis_writer.provider.submit import submit_batch

    settings = options.settings_from(request, gate)
    counts = asyncio.run(submit_batch(rows.order(), settings, os.environ, to_folder=to_folder))
    _print_counts(counts, rows.out)


@app.command("fetch")
@options.grouped
def fetch(
    *,
    folder: _DIR,
    wait: Annotated[bool, option("--wait", "Continue until everything has come back.")] = False,
    live_below: Annotated[
        int, option("--live-below", "Repair that many rows or fewer by live calls.", "N", min=0)
    ] = 20,
    from_file: Annotated[
        Path | None, option("--from-file", "Read results that 'vllm run-batch' made.", "FILE")
    ] = None,
    work: _WorkFlags,
    flags: options.RunFlags,
) -> int:
    """Fetch what the provider has made, save what passes, and send what needs a repair.

    Use the flags that 'batch submit' had; the model is known.
    Exits 1 when rows were refused; 3 when rows failed, or after --wait are pending and nobody works on them.
    """
    import asyncio

    from synopsis_writer.provider.fetch import Fetch, fetch_batch

    settings = options.settings_from(flags)
    order = Fetch(folder, wait, live_below, from_file=from_file, log=not flags.no_log, **work.fields)
    with _BatchProgress(0) as shown:
        stop = _stop_on_ctrl_c()
        counts = asyncio.run(fetch_batch(order, settings, os.environ, **shown.callbacks, stop=stop))
    is_out = _print_counts(counts, folder)
    if wait and counts.pending and not is_out:
        print_error(f"{counts.pending} rows are pending, and nobody works on them: submit them again")
        return ModelError.exit_code
    return _exit_code(counts)


@app.command("cancel")
@options.grouped
def cancel(
    *,
    folder: _DIR,
    forget: Annotated[
        list[int] | None,
        option(
            "--forget",
            "Give up only this one, without asking: what the provider still makes is lost; repeatable.",
            "SHARD",
        ),
    ] = None,
    server: options.ServerFlags,
    max_retries: options.MaxRetries = None,
    _output: options.OutputFlags,
) -> None:
    """Ask the provider to end the open batches of a folder; 'batch fetch' then brings what is done."""
    import asyncio

    from synopsis_writer.provider.submit import cancel_batch

    settings = options.settings_from(server, max_retries=max_retries)
    asyncio.run(cancel_batch(folder, settings, os.environ, forget=forget or ()))


def summary(counts: "Counts") -> str:
    """Return how far a batch is, in two lines: rows, and what they took."""
    from synopsis_writer.usage import format_cost

    usage = counts.usage
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    outcomes = ", ".join(f"{getattr(counts, name)} {name}" for name in (*_OUTCOMES, "pending"))
    return (
        f"{counts.rows} rows: {outcomes}\n"
        f"{usage.prompt_tokens}{cached} + {usage.completion_tokens} tokens, {format_cost(counts.cost)}"
    )


def _unfinished(counts: "Counts") -> str:
    parts = {"failed": counts.failed, "were refused": counts.refused}
    return "; ".join(f"{count} rows {what}" for what, count in parts.items() if count) + ": see 'reasons'"


def _exit_code(counts: "Counts") -> int:
    return ModelError.exit_code if counts.failed else GateRefusedError.exit_code if counts.refused else 0


def _print_counts(counts: "Counts", folder: Path) -> bool:
    """Print how far a batch is; return whether any of it is out, or waits for a repair."""
    from synopsis_writer.batch.store import read_batch

    with read_batch(folder) as reader:
        lines = shard_lines(reader)
    print_result("\n".join([summary(counts), *lines]))
    return bool(lines)


def shard_lines(reader: "BatchReader") -> list[str]:
    """Return a line for each open shard, and one for the rows that wait for a repair."""
    from synopsis_writer.provider.shards import open_shards

    lines = [_shard_line(shard) for shard in open_shards(reader)]
    if waiting := reader.count_waiting():
        way = "batch fetch or submit sends them, batch run repairs them by live calls"
        lines.append(f"{waiting} of the pending rows wait to be repaired: {way}")
    return lines


def _shard_line(shard: "Shard") -> str:
    from synopsis_writer.provider.api import short_id

    asked = f"shard {shard.number}: {shard.requests} requests"
    if not shard.server:
        return f"{asked} in a file: give its results to batch fetch --from-file"
    if shard.batch is None:
        return f"{asked}, not sent yet: batch fetch goes on with it"
    state = f"{shard.status}, {shard.done} done, {shard.failed} failed when it was last asked"
    ends = f"; ends {_time(shard.expires)} at the latest" if shard.expires else ""
    return f"{asked} in batch {short_id(shard.batch)} at {shard.server.partition('/')[0]}: {state}{ends}"


def _shard_data(shard: "Shard") -> dict[str, object]:
    names = ("number", "key", "server", "batch", "status", "requests", "done", "failed")
    expires = _time(shard.expires) if shard.expires else None
    return {**{name: getattr(shard, name) for name in names}, "expires": expires}


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):  # the provider's value is not a time
        return "at a time that no calendar has"
