"""The command groups log and cache."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synopsis_writer.characters import printable
from synopsis_writer.cli import options
from synopsis_writer.cli.console import OVERWRITTEN_LATER, print_json, print_result, status
from synopsis_writer.cli.options import option
from synopsis_writer.errors import FileError, InputError

if TYPE_CHECKING:
    from synopsis_writer.document import Document
    from synopsis_writer.log import Run, RunLog, Version
    from synopsis_writer.result import Attempt

app = typer.Typer(
    help="What was done: briefs, prompts, answers, verdicts, tokens and cost.", no_args_is_help=True
)

_IN_PROGRESS = timedelta(days=1)  # no run takes longer; one that still says so was killed
_MOST_DAYS = 700_000  # the calendar has no more
_THEME = 60  # characters of a theme in the list
_RUN = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a part of it, or 'last'.")]


@app.command("list")
def list_runs(
    limit: Annotated[int, option("--limit", "Maximum runs.", "N", min=1)] = 20,
    json: options.Json = False,
) -> None:
    """List the newest runs, the newest first."""
    with _open_log() as log:
        _print_runs(log, [run.id for run in log.summaries(limit)], json, "the log is empty")


@app.command("search")
def search_runs(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="All of them must stand in a run.")],
    limit: Annotated[int, option("--limit", "Maximum runs.", "N", min=1)] = 20,
    json: options.Json = False,
) -> None:
    """List the newest runs whose brief, answers, problems, error, model or path hold all these words."""
    with _open_log() as log:
        _print_runs(log, log.search(" ".join(words), limit), json, "no run holds that")


@app.command("show")
def show_run(
    run: _RUN = "last",
    prompts: Annotated[bool, option("--prompts", "Print the messages of each attempt, too.")] = False,
    json: options.Json = False,
) -> None:
    """Show one run: its brief, each attempt with its answer, and what was wrong with it."""
    from synopsis_writer.document import format_yaml
    from synopsis_writer.result import bill_of

    with _open_log() as log:
        logged = log.find(run)
        attempts = log.attempts(logged.id)
    if json:
        history = [_attempt_data(attempt) for attempt in attempts]
        print_json({**_run_data(logged, attempts), "history": history})
        return
    fields = {key: value for key, value in _run_data(logged, attempts).items() if value not in (None, [])}
    print_result(format_yaml(fields))
    for position, attempt in enumerate(attempts, start=1):
        verdict = "accepted" if attempt.passed else "refused; " + " ".join(attempt.problems)
        if attempt.is_review:
            verdict = f"review; {' '.join(finding.sentence for finding in attempt.findings)}"
        took = bill_of([attempt])
        print_result(f"\n--- answer {position}, attempt {attempt.number}: {verdict} ({took})")
        for message in attempt.messages if prompts else ():
            print_result(f"\n[{message.role}]\n{message.content}")
        if prompts:
            print_result("\n[answer]")
        print_result(attempt.answer.text)


@app.command("info")
def show_log_info(json: options.Json = False) -> None:
    """Show where the log is, how many runs it holds, and how large it is."""
    path = options.settings_from().log
    with _open_log() as log:
        count, size = log.count(), log.size()
    if json:
        print_json({"path": str(path), "runs": count, "bytes": size})
        return
    print_result(f"path:  {path}")
    print_result(f"runs:  {count} ({size / 1e6:.1f} MB)")


@app.command("shrink")
def shrink_log() -> None:
    """Give the space of removed runs back to the disk; 'log rm' alone only overwrites it."""
    with _open_log(only_read=False) as log:
        before, after = log.shrink()
    status(f"the log has {after / 1e6:.1f} MB; it had {before / 1e6:.1f} MB")


def _print_runs(log: "RunLog", ids: Sequence[str], as_json: bool, none: str) -> None:
    """Print a line for each run, or all as one object; `none` is the status where there is none."""
    lines, data = [], []
    for name in ids:
        try:
            run, attempts = log.find(name), log.attempts(name)
        except FileError as error:
            lines.append(f"{name}  unreadable: remove it with synopsis log rm {name}")
            data.append({"run": name, "outcome": "unreadable", "error": str(error)})
        else:
            lines.append(_line(run, attempts))
            data.append(_run_data(run, attempts))
    if as_json:
        print_json({"runs": data})
    elif lines:
        print_result("\n".join(lines))
    else:
        status(none)


@app.command("rm")
def remove_runs(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids, or parts of them.")
    ] = None,
    older_than: Annotated[
        int | None, option("--older-than", "All runs older than this.", "DAYS", min=0)
    ] = None,
    every: Annotated[bool, option("--all", "All runs.")] = False,
    yes: Annotated[bool, option("--yes", "Do not ask before --all.", short="-y")] = False,
) -> None:
    """Delete runs with their prompts and answers; saved files stay.

    --all asks first. It skips a run in progress, unless that started more than a day ago: then it was killed.
    """
    if sum((bool(runs), older_than is not None, every)) != 1:
        raise InputError("name what to delete: runs by their ids, or --older-than DAYS, or --all")
    now = datetime.now(UTC)
    with _open_log(only_read=False) as log:
        left = 0
        if older_than is not None:
            end = now - timedelta(days=min(older_than, _MOST_DAYS))
            gone = [run.id for run in log.summaries() if run.created is not None and run.created < end]
        elif every:
            listed = log.summaries()
            running = {run.id: run.created for run in listed if run.outcome == "running" and run.created}
            going_on = {name for name, created in running.items() if created > now - _IN_PROGRESS}
            gone = [run.id for run in listed if run.id not in going_on]
            left = len(listed) - len(gone)
            if gone and not yes:
                _confirm(f"delete {_count(len(gone))} with all prompts and answers?", "confirm with --yes")
        else:
            gone = list(dict.fromkeys(log.find_id(name) for name in runs or []))
        is_overwritten = log.remove(gone)
    rest = f"; left {_count(left)} in progress: give the id to remove it" if left else ""
    status(f"removed {_count(len(gone))}{rest}")
    if not is_overwritten:
        status(f"another program reads the log: {OVERWRITTEN_LATER}")


def _confirm(question: str, way_out: str) -> None:
    """Ask on the terminal, and raise InputError for anything but a yes, or where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(f"{question} nobody can be asked: {way_out}")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in {"y", "yes", "j", "ja"}:
        raise InputError("nothing deleted")


_TEXT = Annotated[Path, typer.Argument(metavar="FILE", help="A saved text.")]


@app.command("versions")
@options.grouped
def list_versions(*, file: _TEXT, json: options.Json = False) -> None:
    """List the versions of a text: what each was made from, who made it, and what was asked for."""
    with _open_log() as log:
        current = _known(log, _document(log, file))
        versions = log.versions(current.text)
    data = [
        {
            "version": version.number,
            "parent": version.parent,
            "created": version.created.isoformat(),
            "by": version.maker,
            "model": version.model,
            "request": dict(version.request),
            "words": len(version.document.text.split()) if version.content is not None else None,
            "path": version.path,
            "run": version.run,
            "is_current": version == current,
        }
        for version in versions
    ]
    if json:
        print_json({"text": current.text, "versions": data})
        return
    print_result("\n".join(_version_line(version, current) for version in versions))


def _version_line(version: "Version", current: "Version") -> str:
    asked = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in version.request.items()
    }
    what = "; ".join(value if name == "note" else f"{name}: {value}" for name, value in asked.items())
    if not what:
        what = "written" if version.maker == "model" else "as it came" if version.parent is None else "edited"
    path, folder = Path(version.path), Path.cwd()
    path = path.relative_to(folder) if path.is_relative_to(folder) else path
    here = "" if version.path == current.path else f"; {path}"
    words = f"{len(version.document.text.split())} words" if version.content is not None else "removed"
    origin = f" from {version.parent}" if version.parent else ""
    mark = "*" if version == current else " "
    by = version.model or version.maker
    return f"{mark} {version.number}{origin}  {version.created:%Y-%m-%d %H:%M}  {by}: {what} [{words}{here}]"


@app.command("diff")
def diff_versions(
    first: Annotated[str, typer.Argument(metavar="A", help="A file, or a version of it as FILE@2.")],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The same, or the number of another version of A's file.")
    ],
    html: Annotated[Path | None, option("--html", "Write a web page instead; - is stdout.", "FILE")] = None,
) -> None:
    """Compare two texts word by word: title, logline and text."""
    from synopsis_writer.log import word_diff
    from synopsis_writer.storage.files import write_file

    with _open_log() as log:
        old = _text_of(log, first)
        new = _text_of(log, f"{first.rpartition('@')[0] or first}@{second}" if second.isdecimal() else second)
    if html is not None:
        if html.is_file():
            raise FileError(f"{html}: is there: name another file")
        write_file(options.with_home(html), _diff_page(old, new, f"{first} – {second}"), output=True)
        return
    is_colored = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    deleted, inserted = (("\x1b[31;9m", "\x1b[0m"), ("\x1b[32;4m", "\x1b[0m")) if is_colored else _PLAIN_MARKS
    marks = {"=": ("", ""), "-": deleted, "+": inserted}
    parts = ((marks[kind], printable(words)) for kind, words in word_diff(old, new))
    sys.stdout.write("".join(f"{start}{words}{end}" for (start, end), words in parts) + "\n")


_PLAIN_MARKS = ("[-", "-]"), ("{+", "+}")


def _text_of(log: "RunLog", name: str) -> str:
    """Return title, logline and text of a file, or of a version of it."""
    file, _, number = name.rpartition("@")
    if file and number.isdecimal() and not Path(name).exists():
        document = _version(log, _document(log, Path(file)), int(number)).document
    else:
        document = _document(log, Path(name))
    head = [str(document.meta[field]) for field in ("title", "logline") if document.meta.get(field)]
    return "\n\n".join([*head, document.text])


def _diff_page(old: str, new: str, title: str) -> str:
    from html import escape

    from synopsis_writer.log import word_diff

    tags = {"=": "{}", "-": "<del>{}</del>", "+": "<ins>{}</ins>"}
    body = "".join(tags[kind].format(escape(words)) for kind, words in word_diff(old, new))
    return (
        '<!doctype html>\n<html lang="de">\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>body {{ max-width: 38em; margin: auto; "
        "padding: 2em 1em; font: 1.1em/1.5 serif; white-space: pre-wrap; color-scheme: light dark }\n"
        "del { color: light-dark(#a00, #f99) } ins { color: light-dark(#060, #9e9) }</style>\n"
        f"<body>{body}</body>\n</html>\n"
    )


@app.command("restore")
@options.grouped
def restore_version(
    *,
    file: _TEXT,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Its number in 'log versions'.")],
) -> None:
    """Put an earlier version of a text back into its file; what the file holds now is recorded first."""
    from synopsis_writer.revising import save_version

    with _open_log(only_read=False) as log:
        document = _document(log, file)
        current, wanted = _known(log, document), _version(log, document, version)
        log.touch(document, begin=True)
        path = save_version(wanted.document, file, in_place=True)
        restored = replace(wanted.document, path=path)
        log.add_version(
            restored, wanted.maker, parent=wanted, model=wanted.model, request={"restored": wanted.number}
        )
    status(f"restored version {version} as {path}; what was there is version {current.number}")


def _document(log: "RunLog", path: Path) -> "Document":
    """Read a text; of a file that is gone it is the last one that the log knows there."""
    from synopsis_writer.formats.reading import read_source

    path = options.with_home(path)
    version = log.last_at(path) if not path.exists() else None
    return version.document if version is not None else read_source(path).document


def _known(log: "RunLog", document: "Document") -> "Version":
    version = log.touch(document)
    if version is None:
        hint = "synopsis write and revise record them"
        raise FileError(f"{document.path}: the log holds no version of this text: {hint}")
    return version


def _version(log: "RunLog", document: "Document", number: int) -> "Version":
    versions = {version.number: version for version in log.versions(_known(log, document).text)}
    if number not in versions:
        raise FileError(f"{document.path}: has no version {number}: it has {', '.join(map(str, versions))}")
    return versions[number]


def _count(runs: int) -> str:
    return f"{runs} run{'s' if runs != 1 else ''}"


def _open_log(*, only_read: bool = True) -> "contextlib.closing[RunLog]":
    from synopsis_writer.log import RunLog
    from synopsis_writer.storage.sqlite import open_database, read_database

    path = options.settings_from().log
    return contextlib.closing(RunLog(path, read_database if only_read else open_database))


def _line(run: "Run", attempts: "list[Attempt]") -> str:
    from synopsis_writer.result import bill_of

    theme = run.brief.theme if len(run.brief.theme) <= _THEME else run.brief.theme[: _THEME - 1] + "…"
    about = f"{run.brief.show} ({run.brief.form}): {theme}"
    took = bill_of(attempts) + _lost(run)
    return f"{run.id}  {run.command} {run.stored_outcome}  {about}  [{run.model}; {took}]"


def _lost(run: "Run") -> str:
    from synopsis_writer.usage import format_cost

    if run.lost is None:
        return ""
    tokens = run.lost.usage.prompt_tokens + run.lost.usage.completion_tokens
    return f"; calls that failed: {tokens} tokens, {format_cost(run.lost.cost)}"


def _run_data(run: "Run", attempts: "list[Attempt]") -> dict[str, Any]:
    from synopsis_writer.usage import Usage, format_cost, sums_data, total_cost, usage_data

    answers = [attempt.answer for attempt in attempts]
    reviews = sum(attempt.is_review for attempt in attempts)
    usage = sum((answer.usage for answer in answers), run.lost.usage if run.lost else Usage())
    cost = total_cost([*(answer.cost for answer in answers), *([run.lost.cost] if run.lost else [])])
    lost = {**usage_data(run.lost.usage), "cost": format_cost(run.lost.cost)} if run.lost else None
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
        **sums_data(len(answers) - reviews, usage, cost, sum(answer.seconds for answer in answers)),
        **({"reviews": reviews} if reviews else {}),
        **({"failed_calls": lost} if lost else {}),
    }


def _attempt_data(attempt: "Attempt") -> dict[str, Any]:
    messages, data = [asdict(message) for message in attempt.messages], attempt.as_data()
    first = {name: data.pop(name) for name in ("number", "passed", "problems", "findings")}
    return {**first, "messages": messages, "answer": data.pop("answer"), **data}


cache_app = typer.Typer(help="Cached answers: 'write --cache read' reuses them.", no_args_is_help=True)


@cache_app.command("info")
def show_info(json: options.Json = False) -> None:
    """Show where answers are cached, how many there are, and how much space they may take."""
    from synopsis_writer.models.cache import ResponseCache
    from synopsis_writer.models.resolve import CACHE_FILE
    from synopsis_writer.storage.sqlite import read_database

    settings = options.settings_from()
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
    megabytes = f"{size.bytes / 1e6:.1f} of at most {settings.cache_megabytes:g} MB"
    print_result(f"path:     {data['path']}")
    print_result(f"answers:  {size.answers} ({megabytes})")
    print_result(f"oldest:   {data['oldest'] or 'none'} (kept for {settings.cache_days:g} days)")


@cache_app.command("clear")
def clear_cache() -> None:
    """Delete all cached answers, and what was learnt of servers; a file that cannot be used is deleted."""
    from synopsis_writer.models.hosted import CAPABILITIES_FILE
    from synopsis_writer.models.resolve import CACHE_FILE, open_cache
    from synopsis_writer.storage.sqlite import is_locked, remove_database

    settings = options.settings_from()
    capabilities = settings.cache / CAPABILITIES_FILE
    if capabilities.is_file():
        capabilities.unlink()
        status("forgot what servers accept")
    try:
        with contextlib.closing(open_cache(settings)) as cache:
            count = cache.size().answers
            is_overwritten = cache.clear()
    except FileError as error:
        if is_locked(error.__cause__):
            raise
        remove_database(settings.cache / CACHE_FILE)
        status(f"{settings.cache / CACHE_FILE} could not be used, and was deleted")
        return
    status(f"removed {count} answer{'s' if count != 1 else ''}")
    if not is_overwritten:
        status(f"another program reads the cache: {OVERWRITTEN_LATER}")
