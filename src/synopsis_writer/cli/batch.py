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
from typing import TYPE_CHECKING, Any, Literal

import typer

from synopsis_writer.characters import count_of, format_json
from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    INTERRUPTED,
    STDERR,
    Progress,
    print_error,
    print_json,
    print_output,
    print_result,
    status,
)
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import FileError, GateRefusedError, ModelError, SettingsError

if TYPE_CHECKING:
    from synopsis_writer.batch.run import Order, Stop
    from synopsis_writer.batch.store import Counts
    from synopsis_writer.cluster.cluster import RayEngine
    from synopsis_writer.provider.shards import Shard
    from synopsis_writer.result import RowResult

app = typer.Typer(help="Many briefs from a file, each text saved exactly once.", no_args_is_help=True)


@dataclass
class _BatchProgress(Progress):
    """The progress of a batch; at its end it prints answers that cannot be saved: they were paid."""

    unsaved: "list[RowResult]" = field(default_factory=list)
    is_stdout_free: bool = True  # else one object goes there

    @property
    def callbacks(self) -> dict[str, Any]:
        """What a batch calls while it works."""
        return {"begun": self.begun, "made": self.made, "unsaved": self.unsaved.append}

    def begun(self, counts: "Counts") -> None:
        """Record how far the batch is before anything is made."""
        self.planned, self.before = counts.rows, counts.rows - counts.pending

    def made(self, result: "RowResult", is_final: bool) -> None:
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
            rows = count_of(len(self.unsaved), "row")
            print_error(f"{rows} cannot be saved: their answers are printed, a line of JSON a row")


_MOST_LISTED = 20  # rows that a message names
_OUTCOMES = ("accepted", "refused", "failed")
_SHARD = ("number", "key", "server", "batch", "status", "requests", "done", "failed")  # as --json has it
_DIR = argument("The batch's folder.", "DIR")


class _Retry(StrEnum):  # Typer knows no lists of literals
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class _RowFlags:
    """Which rows are made, and where they are saved."""

    briefs: Path = argument("CSV, JSONL, YAML or Parquet with a brief per row.", "BRIEFS")
    out: Path = option("The batch's folder; the same command again continues it.", "FOLDER", default=...)
    limit: int | None = number("Rows to make this time.", min=1)
    retry: list[_Retry] = option("Make such rows again; repeatable.", "refused|failed", default=[])
    fresh: bool = switch("Start over; the old record is archived, not deleted.")

    def order(self, **more: Any) -> "Order":
        """Return what is ordered of a batch; `more` are its other attributes."""
        from synopsis_writer.batch.run import Order

        retry: Any = tuple(retry.value for retry in self.retry)
        return Order(self.briefs, self.out, limit=self.limit, retry=retry, fresh=self.fresh, **more)


@dataclass(frozen=True)
class _WorkFlags:
    """How rows are made and compared."""

    concurrency: int = number("Rows in flight, on a server.", default=8, min=1, max=1024)
    workers: int = number("Processes that check texts; 0: this one does.", default=0, min=0, max=64)
    variety: Literal["on", "off"] = option("Compare each text with the batch's others.", default="on")

    @property
    def fields(self) -> dict[str, Any]:
        """The attributes of an order that the flags set."""
        return {**vars(self), "variety": self.variety == "on"}


@app.command("run")
def run(
    *,
    rows: _RowFlags,
    work: _WorkFlags,
    rpm: int | None = number("Maximum requests per minute.", min=1),
    tpm: int | None = number("Maximum tokens per minute.", min=1),
    arc: Path | None = option("YAML: facts that rows establish, and later rows are given.", "FILE"),
    engine: Literal["local", "ray"] = option(
        "Who makes rows: this process, or a Ray cluster.", default="local"
    ),
    address: str | None = option("The cluster: auto, HOST:PORT or ray://HOST:PORT.", "ADDRESS"),
    flags: options.RunFlags,
    json: bool = options.JSON,
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


def _engine(engine: str, address: str | None) -> "RayEngine | None":
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
def show_status(folder: Path = _DIR, json: bool = options.JSON) -> None:
    """Show how far a batch is, and why rows were refused or failed."""
    from synopsis_writer.batch.store import read_batch

    with read_batch(folder) as reader:
        counts = reader.counts()
    data = _data(folder)
    reasons = (f"  {row}: {reason}" for row, reason in data["reasons"].items())
    print_output(data, [summary(counts), *shard_lines(folder), *reasons], as_json=json)


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
            "shards": [
                {
                    **{name: getattr(shard, name) for name in _SHARD},
                    "expires": shard.expires and _time(shard.expires),
                }
                for shard in open_shards(reader)
            ],
            "reasons": reader.reasons(),
        }


@app.command("export")
def export(
    folder: Path = _DIR,
    output: Path = option("The file to write, - is stdout; for md, the folder.", "PATH", "-o", default=...),
    export_format: Literal["md", "jsonl", "csv", "parquet"] = options.FORMAT,
) -> int:
    """Write the accepted texts of a batch for people or other programs."""
    from synopsis_writer.batch import export as formats
    from synopsis_writer.batch.store import is_of_batch, read_batch
    from synopsis_writer.storage.files import STDOUT

    if export_format == "md" and output == STDOUT:
        raise FileError("md is a folder of files, which stdout is not: name a folder with --output")
    if output != STDOUT and is_of_batch(output, folder):
        raise FileError(f"{output}: belongs to the batch itself: name another file or folder")
    write = getattr(formats, f"export_{export_format}")
    lost: list[int] = []
    with read_batch(folder) as reader:
        count = write(reader.readable(lost), output)
    status(f"written: {'stdout' if output == STDOUT else output} ({count_of(count, 'text')})")
    if lost:
        rows = ", ".join(map(str, lost[:_MOST_LISTED])) + ", …" * (len(lost) > _MOST_LISTED)
        count = count_of(len(lost), "row")
        print_error(f"{folder}: the record is damaged, {count} cannot be read and had to be left out: {rows}")
    return FileError.exit_code if lost else 0


@app.command("submit")
def submit(
    *,
    rows: _RowFlags,
    to_folder: Path | None = option("Write the requests there, and send nothing.", "FOLDER", "--to-files"),
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
    print_result(summary(counts), *shard_lines(rows.out))


@app.command("fetch")
def fetch(
    *,
    folder: Path = _DIR,
    wait: bool = switch("Continue until everything has come back."),
    live_below: int = number("Repair that many rows or fewer by live calls.", default=20, min=0),
    from_file: Path | None = option("Read results that 'vllm run-batch' made.", "FILE"),
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
    open_work = shard_lines(folder)
    print_result(summary(counts), *open_work)
    if wait and counts.pending and not open_work:
        pending = count_of(counts.pending, "pending row")
        print_error(f"nobody works on {pending}: submit the batch again")
        return ModelError.exit_code
    return _exit_code(counts)


@app.command("cancel")
def cancel(
    *,
    folder: Path = _DIR,
    forget: list[int] = number(
        "Give up only this one, without asking; what is still made is lost; repeatable.",
        default=[],
        metavar="SHARD",
    ),
    server: options.ServerFlags,
    max_retries: int | None = options.MAX_RETRIES,
    _output: options.OutputFlags,
) -> None:
    """Ask the provider to end the open batches of a folder; 'batch fetch' then brings what is done."""
    import asyncio

    from synopsis_writer.provider.submit import cancel_batch

    settings = options.settings_from(server, max_retries=max_retries)
    asyncio.run(cancel_batch(folder, settings, os.environ, forget=forget))


def summary(counts: "Counts") -> str:
    """Return how far a batch is, in two lines: rows, and what they took."""
    from synopsis_writer.usage import format_cost

    usage = counts.usage
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    outcomes = ", ".join(f"{getattr(counts, name)} {name}" for name in (*_OUTCOMES, "pending"))
    return (
        f"{count_of(counts.rows, 'row')}: {outcomes}\n"
        f"{usage.prompt_tokens}{cached} + {usage.completion_tokens} tokens, {format_cost(counts.cost)}"
    )


def _unfinished(counts: "Counts") -> str:
    parts = {"failed": counts.failed, "refused": counts.refused}
    what = "; ".join(f"{name}: {count_of(count, 'row')}" for name, count in parts.items() if count)
    return f"{what}: see 'reasons'"


def _exit_code(counts: "Counts") -> int:
    return ModelError.exit_code if counts.failed else GateRefusedError.exit_code if counts.refused else 0


def shard_lines(folder: Path) -> list[str]:
    """Return a line for each open shard, and one for the rows that wait for a repair."""
    from synopsis_writer.batch.store import read_batch
    from synopsis_writer.provider.shards import open_shards

    with read_batch(folder) as reader:
        lines = [_shard_line(shard) for shard in open_shards(reader)]
        if waiting := reader.count_waiting():
            way = "batch fetch or submit sends them, batch run repairs them by live calls"
            lines.append(f"{waiting} of the pending rows wait to be repaired: {way}")
    return lines


def _shard_line(shard: "Shard") -> str:
    from synopsis_writer.provider.api import short_id

    asked = f"shard {shard.number}: {count_of(shard.requests, 'request')}"
    if not shard.server:
        return f"{asked} in a file: give its results to batch fetch --from-file"
    if shard.batch is None:
        return f"{asked}, not sent yet: batch fetch goes on with it"
    state = f"{shard.status}, {shard.done} done, {shard.failed} failed when it was last asked"
    ends = f"; ends {_time(shard.expires)} at the latest" if shard.expires else ""
    return f"{asked} in batch {short_id(shard.batch)} at {shard.server.partition('/')[0]}: {state}{ends}"


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):  # the provider's value is not a time
        return "at a time that no calendar has"
