"""The command groups log and cache."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import OVERWRITTEN_LATER, print_json, print_result, printable, status
from synopsis_writer.errors import FileError, InputError

if TYPE_CHECKING:
    from synopsis_writer.log import Listed, Run, RunLog
    from synopsis_writer.result import Attempt

app = typer.Typer(
    help="What was done: briefs, prompts, answers, verdicts, tokens and cost.", no_args_is_help=True
)

_AT_WORK = timedelta(days=1)  # no run takes longer; one that still says so was killed

_THEME = 60  # characters of a theme in the list

_RUN = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a part of it, or 'last'.")]


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Maximum runs.")] = 20,
    json: options.Json = False,
) -> None:
    """List the newest runs, the newest first."""
    with _log_to_read() as log:
        found = [_read(log, run.id) for run in log.listed(limit)]
    if json:
        print_json(
            {"runs": [_unread_data(run) if isinstance(run, _Unread) else _run_data(*run) for run in found]}
        )
        return
    if not found:
        status("the log is empty")
    for run in found:
        print_result(_unread_line(run) if isinstance(run, _Unread) else _line(*run))


@app.command("show")
def show_run(
    run: _RUN = "last",
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Print the messages of each attempt, too.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show one run: its brief, each attempt with its answer, and what was wrong with it."""
    from synopsis_writer.document import format_yaml
    from synopsis_writer.models.base import bill

    with _log_to_read() as log:
        found = log.find(run)
        attempts = log.attempts(found.id)
    if json:
        history = [_attempt_data(attempt) for attempt in attempts]
        print_json({**_run_data(found, attempts), "history": history})
        return
    fields = _run_data(found, attempts)
    print_result(
        printable(format_yaml({key: value for key, value in fields.items() if value not in (None, [])}))
    )
    for position, attempt in enumerate(attempts, start=1):
        verdict = "accepted" if attempt.passed else "refused; " + " ".join(attempt.problems)
        took = bill([attempt.answer])
        print_result(printable(f"\n--- attempt {position} (round {attempt.number}): {verdict} ({took})"))
        for message in attempt.messages if prompts else ():
            print_result(printable(f"\n[{message.role}]\n{message.content}"))
        if prompts:
            print_result("\n[answer]")
        print_result(printable(attempt.answer.text))


@app.command("rm")
def remove_runs(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids, or parts of them.")
    ] = None,
    older_than: Annotated[
        int | None, typer.Option("--older-than", min=0, metavar="DAYS", help="All runs older than this.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All runs.")] = False,
) -> None:
    """Delete runs with their prompts and answers; saved files stay.

    --all leaves out a run that is running, unless it began more than a day ago: then it was killed.
    """
    if sum((bool(runs), older_than is not None, every)) != 1:
        raise InputError("say what to delete: runs by their ids, or --older-than DAYS, or --all")
    now = datetime.now(UTC)
    with _log() as log:
        left = 0
        if older_than is not None:
            end = now - timedelta(days=older_than)
            gone = [run.id for run in log.listed() if run.created is not None and run.created < end]
        elif every:
            listed = log.listed()
            gone = [run.id for run in listed if not _is_at_work(run, now)]
            left = len(listed) - len(gone)
        else:
            gone = list(dict.fromkeys(log.find_id(name) for name in runs or []))
        is_overwritten = log.remove(gone)
    status(
        f"removed {_count(len(gone))}"
        + (f"; left {_count(left)} at work: give the id to remove it" if left else "")
    )
    if not is_overwritten:
        status(f"another program reads the log: {OVERWRITTEN_LATER}")


def _is_at_work(run: "Listed", now: datetime) -> bool:
    return run.outcome == "running" and run.created is not None and run.created > now - _AT_WORK


def _count(runs: int) -> str:
    return f"{runs} run{'s' if runs != 1 else ''}"


def _log() -> "contextlib.closing[RunLog]":
    from synopsis_writer.log import RunLog
    from synopsis_writer.settings import load_settings

    return contextlib.closing(RunLog(load_settings({}).log))


def _log_to_read() -> "contextlib.closing[RunLog]":
    from synopsis_writer.log import RunLog
    from synopsis_writer.settings import load_settings
    from synopsis_writer.storage.sqlite import read_database

    return contextlib.closing(RunLog(load_settings({}).log, read_database))


@dataclass(frozen=True)
class _Unread:
    id: str
    error: str


def _read(log: "RunLog", run: str) -> "tuple[Run, list[Attempt]] | _Unread":
    try:
        return log.find(run), log.attempts(run)
    except FileError as error:
        return _Unread(run, str(error))


def _unread_line(run: _Unread) -> str:
    return printable(f"{run.id}  unreadable: remove it with synopsis log rm {run.id}")


def _unread_data(run: _Unread) -> dict[str, Any]:
    return {"run": run.id, "outcome": "unreadable", "error": run.error}


def _line(run: "Run", attempts: "list[Attempt]") -> str:
    from synopsis_writer.models.base import bill

    theme = run.brief.theme if len(run.brief.theme) <= _THEME else run.brief.theme[: _THEME - 1] + "…"
    about = f"{run.brief.show} ({run.brief.form}): {theme}"
    took = bill([attempt.answer for attempt in attempts])
    return printable(f"{run.id}  {run.command} {run.stored_outcome}  {about}  [{run.model}; {took}]")


def _run_data(run: "Run", attempts: "list[Attempt]") -> dict[str, Any]:
    from synopsis_writer.models.base import bill_data

    return {
        "run": run.id,
        "command": run.command,
        "created": run.created.isoformat(),
        "outcome": run.stored_outcome,
        "error": run.error,
        "path": run.path,
        "model": run.model,
        "server": run.server,
        "brief": run.brief.as_data(),
        "outline": run.outline.model_dump(mode="json") if run.outline else None,
        "prompt": run.prompt and {"name": run.prompt, "version": run.version, "hash": run.prompt_hash},
        "examples": list(run.examples),
        **bill_data([attempt.answer for attempt in attempts]),
    }


def _attempt_data(attempt: "Attempt") -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in attempt.messages]
    data = attempt.as_data()
    first = {name: data.pop(name) for name in ("number", "passed", "problems", "findings")}
    return {**first, "messages": messages, "answer": data.pop("answer"), **data}


cache_app = typer.Typer(help="Kept answers: 'write --cache read' gives them again.", no_args_is_help=True)


@cache_app.command("info")
def show_info(json: options.Json = False) -> None:
    """Say where answers are kept, how many there are, and what they may take."""
    from datetime import UTC, datetime

    from synopsis_writer.models.cache import ResponseCache
    from synopsis_writer.models.resolve import CACHE_FILE
    from synopsis_writer.settings import load_settings
    from synopsis_writer.storage.sqlite import read_database

    settings = load_settings({})
    with contextlib.closing(ResponseCache(settings.cache / CACHE_FILE, open_file=read_database)) as cache:
        size = cache.size()
    oldest = datetime.fromtimestamp(size.oldest, UTC).replace(microsecond=0) if size.answers else None
    data = {
        "path": str(settings.cache / CACHE_FILE),
        "answers": size.answers,
        "bytes": size.bytes,
        "oldest": oldest and oldest.isoformat(),
        "cache_megabytes": settings.cache_megabytes,
        "cache_days": settings.cache_days,
    }
    if json:
        print_json(data)
        return
    print_result(f"path:     {data['path']}")
    print_result(
        f"answers:  {size.answers} ({size.bytes / 1e6:.1f} of at most {settings.cache_megabytes:g} MB)"
    )
    print_result(f"oldest:   {data['oldest'] or 'none'} (kept for {settings.cache_days:g} days)")


@cache_app.command("clear")
def clear_cache() -> None:
    """Forget all kept answers; a file that cannot be used is deleted."""
    from synopsis_writer.models.resolve import CACHE_FILE, open_cache
    from synopsis_writer.settings import load_settings
    from synopsis_writer.storage.sqlite import is_held, remove_database

    settings = load_settings({})
    try:
        with contextlib.closing(open_cache(settings)) as cache:
            count = cache.size().answers
            is_overwritten = cache.clear()
    except FileError as error:
        if is_held(error.__cause__):
            raise
        remove_database(settings.cache / CACHE_FILE)
        status(f"{settings.cache / CACHE_FILE} could not be used, and was deleted")
        return
    status(f"removed {count} answer{'s' if count != 1 else ''}")
    if not is_overwritten:
        status(f"another program reads the cache: {OVERWRITTEN_LATER}")
