"""The command group batch."""

import contextlib
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from logging import WARNING
from pathlib import Path
from typing import Any, Literal

import typer

from synopsis_writer.characters import clean_name, count_of, format_json
from synopsis_writer.cli import console, lazily, options
from synopsis_writer.cli.console import INTERRUPTED, STDERR, Output, print_error, print_result
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import FileError, GateRefusedError, ModelError, SettingsError

with lazily():
    import asyncio

    from synopsis_writer import cluster, result, usage
    from synopsis_writer.batch import export as formats
    from synopsis_writer.batch import run as batches
    from synopsis_writer.batch import store
    from synopsis_writer.provider import api
    from synopsis_writer.provider import batch as provider
    from synopsis_writer.storage import files

app = typer.Typer(help="Many briefs from a file, each text saved exactly once.", no_args_is_help=True)

_MOST_LISTED = 20  # rows that a message names
_OUTCOMES = ("accepted", "refused", "failed")
_SHARD = ("number", "key", "server", "batch", "status", "requests", "done", "failed")  # as --json has it
_DIR = argument("The batch's folder.", "DIR")


class _Retry(StrEnum):  # Typer knows no lists of literals
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class _RowFlags:
    briefs: Path = argument("CSV, JSONL, YAML or Parquet with a brief per row.", "BRIEFS")
    out: Path = option("The batch's folder; the same command again continues it.", "FOLDER", default=...)
    limit: int | None = number("Rows to make this time.", min=1)
    retry: list[_Retry] = option("Make such rows again; repeatable.", "refused|failed", default=[])
    fresh: bool = switch("Start over; the old record is archived, not deleted.")

    def order(self, **more: Any) -> "batches.Order":
        """Return the order that the flags make; `more` are its other attributes."""
        return batches.Order(**{**vars(self), "retry": tuple(each.value for each in self.retry)}, **more)


@dataclass(frozen=True)
class _WorkFlags:
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
    engine: Literal["local", "ray"] = option("Who makes rows: this process, or a Ray cluster.", default="local"),
    address: str | None = option("The cluster: auto, HOST:PORT or ray://HOST:PORT.", "ADDRESS"),
    flags: options.RunFlags,
    json: bool = options.JSON,
) -> int:
    """Write every brief of a file; the same command again makes the rows that are still to be made.

    Exits 1 when rows were refused, 3 when rows failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    settings = options.settings_from(flags)
    order = rows.order(rpm=rpm, tpm=tpm, arc=arc, log=not flags.no_log, **work.fields)
    if json:
        STDERR.failure_data = partial(_data, rows.out)
    with _progress(as_json=json) as hooks:
        made_by = None
        if engine == "ray":
            os.environ.update(cluster.ray_environment(address, os.environ))
            made_by = cluster.RayEngine(address, os.environ)
        elif address is not None:
            raise SettingsError("--address is a cluster's: add --engine ray, or leave it out")
        counts = asyncio.run(batches.run_batch(order, settings, os.environ, hooks, made_by))
    code = INTERRUPTED if hooks.stop.is_set else _exit_code(counts)
    if not json:
        print_result(_lines(rows.out)[0])
    elif code != INTERRUPTED:  # else it is printed as that of every interrupted command
        parts = {"failed": counts.failed, "refused": counts.refused}
        what = "; ".join(f"{name}: {count_of(count, 'row')}" for name, count in parts.items() if count)
        unfinished = {"error": f"{what}: see 'reasons'", "exit_code": code} if code else {}
        console.print_json({**_data(rows.out), **unfinished})
    return code


@contextlib.contextmanager
def _progress(*, as_json: bool = False) -> Iterator["batches.Hooks"]:
    """Yield the hooks of a batch; print answers that cannot be saved, as they have been paid for."""
    unsaved: list[result.RowResult] = []

    def begun(counts: "store.Counts") -> None:
        shown.planned, shown.before = counts.rows, counts.rows - counts.pending

    def made(row: "result.RowResult", is_final: bool) -> None:
        shown.add(row.outcome if is_final else None, row.usage, row.cost)

    try:
        with console.Progress(0) as shown:
            yield batches.Hooks(begun, made, unsaved.append, _stop_on_ctrl_c())
    finally:
        for row in unsaved:
            answers = [attempt.answer.text for attempt in row.attempts]
            line = format_json({"id": row.id, "status": row.outcome, "answers": answers})
            if as_json:  # one object goes to stdout
                STDERR.print_line(line, WARNING, math.inf)
            else:
                with contextlib.suppress(OSError):  # stdout is on the same full disk
                    print_result(line, is_saved=False)
        if unsaved:
            rows = count_of(len(unsaved), "row")
            print_error(f"{rows} cannot be saved: their answers are printed, a line of JSON a row")


def _stop_on_ctrl_c() -> "batches.Stop":
    """Return a stop for Ctrl-C: the first lets rows in flight finish, and says so; the second cancels them."""

    class CtrlC(batches.Stop):
        @contextlib.contextmanager
        def listening(self) -> Iterator[None]:
            """Handle Ctrl-C while the block runs, if the loop can."""
            loop, task = asyncio.get_running_loop(), asyncio.current_task()

            def interrupt() -> None:
                if not self.is_set:
                    self.is_set = True
                    console.status("ending: the rows in flight are still made and saved; Ctrl-C again ends at once")
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
            """Put off Ctrl-C; processes started meanwhile never get it."""
            from multiprocessing import resource_tracker

            with contextlib.ExitStack() as stack:
                if (mask := getattr(signal, "pthread_sigmask", None)) is not None:  # Windows has none
                    resource_tracker.ensure_running()  # which lets Ctrl-C through when it has begun
                    stack.callback(mask, signal.SIG_SETMASK, mask(signal.SIG_BLOCK, {signal.SIGINT}))
                yield

    return CtrlC()


@app.command("status")
def show_status(folder: Path = _DIR) -> Output:
    """Show how far a batch is, and why rows were refused or failed."""
    data = _data(folder)
    return Output(data, [*_lines(folder), *(f"  {row}: {reason}" for row, reason in data["reasons"].items())])


def _data(folder: Path) -> dict[str, Any]:
    with store.read_batch(folder) as reader:
        counts = reader.counts()
        return {
            **{name: getattr(counts, name) for name in ("rows", "pending", *_OUTCOMES)},
            **usage.usage_data(counts.usage),
            "cost": usage.format_cost(counts.cost),
            "seconds": round(counts.seconds, 1),
            "shards": [
                {name: getattr(shard, name) for name in _SHARD}
                | {"batch": shard.batch and clean_name(shard.batch)}
                | {"expires": shard.expires and _time(shard.expires)}
                for shard in reader.shards()
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
    if export_format == "md" and output == files.STDOUT:
        raise FileError("md is a folder of files, which stdout is not: name a folder with --output")
    if output != files.STDOUT and store.is_of_batch(output, folder):
        raise FileError(f"{output}: belongs to the batch itself: name another file or folder")
    lost: list[int] = []
    with store.read_batch(folder) as reader:
        count = getattr(formats, f"export_{export_format}")(reader.readable(lost), output)
    console.status(f"written: {'stdout' if output == files.STDOUT else output} ({count_of(count, 'text')})")
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
    settings = options.settings_from(request, gate)
    asyncio.run(provider.submit_batch(rows.order(), settings, os.environ, to_folder=to_folder))
    print_result(*_lines(rows.out))


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
    settings = options.settings_from(flags)
    order = provider.Fetch(folder, wait, live_below, from_file=from_file, log=not flags.no_log, **work.fields)
    with _progress() as hooks:
        counts = asyncio.run(provider.fetch_batch(order, settings, os.environ, hooks))
    lines = _lines(folder)
    print_result(*lines)
    if wait and counts.pending and len(lines) == 1:
        print_error(f"nobody works on {count_of(counts.pending, 'pending row')}: submit the batch again")
        return ModelError.exit_code
    return _exit_code(counts)


@app.command("cancel")
def cancel(
    *,
    folder: Path = _DIR,
    forget: list[int] = number(
        "Give up only this one, without asking; what is still made is lost; repeatable.", default=[], metavar="SHARD"
    ),
    server: options.ServerFlags,
    max_retries: int | None = options.MAX_RETRIES,
    _output: options.OutputFlags,
) -> None:
    """Ask the provider to end the open batches of a folder; 'batch fetch' then brings what is done."""
    settings = options.settings_from(server, max_retries=max_retries)
    asyncio.run(provider.cancel_batch(folder, settings, os.environ, forget=forget))


def _lines(folder: Path) -> list[str]:
    """Return how far a batch is: its rows, then each open shard, and the rows that wait for a repair."""
    with store.read_batch(folder) as reader:
        counts, waiting, open_shards = reader.counts(), reader.count_waiting(), reader.shards()
    took = counts.usage
    cached = f" ({took.cached_tokens} cached)" if took.cached_tokens else ""
    outcomes = ", ".join(f"{getattr(counts, name)} {name}" for name in (*_OUTCOMES, "pending"))
    tokens = f"{took.prompt_tokens}{cached} + {took.completion_tokens} tokens"
    rows = f"{count_of(counts.rows, 'row')}: {outcomes}"
    lines = [f"{rows}\n{tokens}, {usage.format_cost(counts.cost)}"]
    for shard in open_shards:
        asked = f"shard {shard.number}: {count_of(shard.requests, 'request')}"
        name, host = api.shortened(shard.batch), shard.server.partition("/")[0]
        state = f"{shard.status}, {shard.done} done, {shard.failed} failed when it was last asked"
        if not shard.server:
            lines.append(f"{asked} in a file: give its results to batch fetch --from-file")
        elif shard.batch is None:
            lines.append(f"{asked}, not sent yet: batch fetch goes on with it")
        else:
            ends = f"; ends {_time(shard.expires)} at the latest" if shard.expires else ""
            lines.append(f"{asked} in batch {name} at {host}: {state}{ends}")
    if waiting:
        way = "batch fetch or submit sends them, batch run repairs them by live calls"
        lines.append(f"{waiting} of the pending rows wait to be repaired: {way}")
    return lines


def _exit_code(counts: "store.Counts") -> int:
    return ModelError.exit_code if counts.failed else GateRefusedError.exit_code if counts.refused else 0


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
    except (ValueError, OverflowError, OSError):  # the provider's value is not a time
        return "at a time that no calendar has"
