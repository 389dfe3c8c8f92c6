"""The command groups log and cache."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer

from synopsis_writer.characters import count_of, printable
from synopsis_writer.cli import lazily, options
from synopsis_writer.cli.console import Output, status
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import FileError, InputError

with lazily():
    import html as markup

    from synopsis_writer import document as documents
    from synopsis_writer import log as runlog
    from synopsis_writer import result, revising, usage
    from synopsis_writer.formats import reading
    from synopsis_writer.models import limits as caches
    from synopsis_writer.models import resolve, server
    from synopsis_writer.storage import files, sqlite

app = typer.Typer(help="What was done: briefs, prompts, answers, verdicts, tokens and cost.", no_args_is_help=True)

_IN_PROGRESS = timedelta(days=1)  # no run takes longer; one still marked as running was killed
_MOST_DAYS = 700_000  # the calendar has no more
_THEME = 60  # characters of a theme in the list
_OVERWRITTEN_LATER = "what was removed is overwritten in the file when it is opened next"
_LIMIT = number("Maximum runs.", default=20, min=1)
_TEXT = argument("A saved text.", "FILE")
_PAGE = """<!doctype html>
<html lang="de">
<meta charset="utf-8">
<title>{}</title>
<style>body {{ max-width: 38em; margin: auto; padding: 2em 1em; font: 1.1em/1.5 serif; white-space: pre-wrap;
color-scheme: light dark }}
del {{ color: light-dark(#a00, #f99) }} ins {{ color: light-dark(#060, #9e9) }}</style>
<body>{}</body>
</html>
"""


@app.command("list")
def list_runs(limit: int = _LIMIT) -> Output:
    """List the newest runs, the newest first."""
    with _open_log() as log:
        return _runs(log, log.ids(limit), "the log is empty")


@app.command("search")
def search_runs(
    words: list[str] = argument("Words that a run must all contain.", "WORD..."), limit: int = _LIMIT
) -> Output:
    """List the newest runs whose brief, answers, problems, error, model or path hold all these words."""
    with _open_log() as log:
        return _runs(log, log.search(" ".join(words), limit), "no run holds that")


@app.command("show")
def show_run(
    run: str = argument("A run's id, a part of it, or 'last'.", "RUN", "last"),
    prompts: bool = switch("Print the messages of each attempt, too."),
) -> Output:
    """Show one run: its brief, each attempt with its answer, and what was wrong with it."""
    with _open_log() as log:
        logged = log.find(run)
        attempts = log.attempts(logged.id)
    data, history = _run_data(logged, attempts), []
    lines = [documents.format_yaml({key: value for key, value in data.items() if value not in (None, [])})]
    for position, attempt in enumerate(attempts, start=1):
        rest, messages = attempt.as_data(), [asdict(message) for message in attempt.messages]
        first = {name: rest.pop(name) for name in ("number", "passed", "problems", "findings")}
        history.append({**first, "messages": messages, "answer": rest.pop("answer"), **rest})
        verdict = "accepted" if attempt.passed else "refused; " + " ".join(attempt.problems)
        if attempt.is_review:
            verdict = f"review; {' '.join(finding.sentence for finding in attempt.findings)}"
        took = result.bill_of([attempt])
        lines.append(f"\n--- answer {position}, attempt {attempt.number}: {verdict} ({took})")
        if prompts:
            lines += [f"\n[{message.role}]\n{message.content}" for message in attempt.messages]
            lines.append("\n[answer]")
        lines.append(attempt.answer.text)
    return Output({**data, "history": history}, lines)


@app.command("info")
def show_log_info() -> Output:
    """Show where the log is, how many runs it holds, and how large it is."""
    path = options.settings_from().log
    with _open_log() as log:
        count, size = len(log.ids()), log.size()
    lines = (f"path:  {path}", f"runs:  {count} ({size / 1e6:.1f} MB)")
    return Output({"path": str(path), "runs": count, "bytes": size}, lines)


@app.command("shrink")
def shrink_log() -> None:
    """Give the space of removed runs back to the disk; 'log rm' alone only overwrites it."""
    with _open_log(only_read=False) as log:
        before, after = log.shrink()
    status(f"the log has {after / 1e6:.1f} MB; it had {before / 1e6:.1f} MB")


def _runs(log: "runlog.RunLog", ids: Sequence[str], none: str) -> Output:
    lines, data = [], []
    for name in ids:
        try:
            run, attempts = log.find(name), log.attempts(name)
        except FileError as error:
            lines.append(f"{name}  unreadable: remove it with synopsis log rm {name}")
            data.append({"run": name, "outcome": "unreadable", "error": str(error)})
        else:
            brief, took = run.brief, result.bill_of(attempts)
            theme = brief.theme if len(brief.theme) <= _THEME else brief.theme[: _THEME - 1] + "…"
            if run.lost is not None:
                tokens = run.lost.usage.prompt_tokens + run.lost.usage.completion_tokens
                cost = usage.format_cost(run.lost.cost)
                took += f"; calls that failed: {count_of(tokens, 'token')}, {cost}"
            about = f"{brief.show} ({brief.form}): {theme}  [{run.model}; {took}]"
            lines.append(f"{run.id}  {run.command} {runlog.stored(run.outcome)}  {about}")
            data.append(_run_data(run, attempts))
    if not lines:
        status(none)
    return Output({"runs": data}, lines)


@app.command("rm")
def remove_runs(
    runs: list[str] | None = argument("Ids, or parts of them.", "[RUN]...", None),
    older_than: int | None = number("All runs older than this.", metavar="DAYS", min=0),
    every: bool = switch("All runs.", "--all"),
    yes: bool = switch("Do not ask before --all.", "-y"),
) -> None:
    """Delete runs with their prompts and answers; saved files stay.

    --all asks first. It skips a run in progress, unless that started more than a day ago: then it was killed.
    """
    if sum((bool(runs), older_than is not None, every)) != 1:
        raise InputError("name what to delete: runs by their ids, or --older-than DAYS, or --all")
    now, left = datetime.now(UTC), 0
    with _open_log(only_read=False) as log:
        if runs:
            gone = list(dict.fromkeys(log.find_id(name) for name in runs))
        elif older_than is not None:
            gone = log.ids(before=now - timedelta(days=min(older_than, _MOST_DAYS)))
        else:
            going_on = set(log.ids(running_since=now - _IN_PROGRESS))
            gone = [run for run in log.ids() if run not in going_on]
            left = len(going_on)
            if gone and not yes:
                _confirm(f"delete {count_of(len(gone), 'run')} with all prompts and answers?")
        is_overwritten = log.remove(gone)
    rest = f"; left {count_of(left, 'run')} in progress: give the id to remove it" if left else ""
    status(f"removed {count_of(len(gone), 'run')}{rest}")
    if not is_overwritten:
        status(f"another program reads the log: {_OVERWRITTEN_LATER}")


def _confirm(question: str) -> None:
    """Ask on the terminal, and raise InputError for anything but a yes, or where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(f"{question} nobody can be asked: confirm with --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in {"y", "yes", "j", "ja"}:
        raise InputError("nothing deleted")


@app.command("versions")
def list_versions(file: Path = _TEXT) -> Output:
    """List the versions of a text: what each was made from, who made it, and what was asked for."""
    with _open_log() as log:
        current = _known(log, _document(log, file))
        versions = log.versions(current.text)
    data, lines = [], []
    for version in versions:
        count = len(version.document.text.split()) if version.content is not None else None
        about: dict[str, Any] = {"version": version.number, "parent": version.parent}
        about |= {"created": version.created.isoformat(), "by": version.maker, "model": version.model}
        about |= {"request": dict(version.request), "words": count, "path": version.path}
        about |= {"run": version.run, "is_current": version == current}
        data.append(about)
        wishes = []
        for name, value in version.request.items():
            asked = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            wishes.append(asked if name == "note" else f"{name}: {asked}")
        by_hand = "as it came" if version.parent is None else "edited"
        what = "; ".join(wishes) or ("written" if version.maker == "model" else by_hand)
        path, folder = Path(version.path), Path.cwd()
        path = path.relative_to(folder) if path.is_relative_to(folder) else path
        here = "" if version.path == current.path else f"; {path}"
        words = "removed" if count is None else count_of(count, "word")
        mark, origin = " *"[version == current], f" from {version.parent}" if version.parent else ""
        made = f"{version.created:%Y-%m-%d %H:%M}  {version.model or version.maker}: {what} [{words}{here}]"
        lines.append(f"{mark} {version.number}{origin}  {made}")
    return Output({"text": current.text, "versions": data}, lines)


@app.command("diff")
def diff_versions(
    first: str = argument("A file, or a version of it as FILE@2.", "A"),
    second: str = argument("The same, or the number of another version of A's file.", "B"),
    html: Path | None = option("Write a web page instead; - is stdout.", "FILE"),
) -> None:
    """Compare two texts word by word: title, logline and text."""
    with _open_log() as log:
        old = _text_of(log, first)
        new = _text_of(log, f"{first.rpartition('@')[0] or first}@{second}" if second.isdecimal() else second)
    diff = list(runlog.word_diff(old, new))
    if html is not None:
        if html.is_file():
            raise FileError(f"{html}: is there: name another file")
        tags = {"=": "{}", "-": "<del>{}</del>", "+": "<ins>{}</ins>"}
        body = "".join(tags[kind].format(markup.escape(words)) for kind, words in diff)
        files.write_file(html, _PAGE.format(markup.escape(f"{first} – {second}"), body), output=True)
        return
    marks = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        marks |= {"-": "\x1b[31;9m{}\x1b[0m", "+": "\x1b[32;4m{}\x1b[0m"}
    sys.stdout.write("".join(marks[kind].format(printable(words)) for kind, words in diff) + "\n")


def _text_of(log: "runlog.RunLog", name: str) -> str:
    """Return title, logline and text of a file, or of a version of it."""
    file, _, number = name.rpartition("@")
    if file and number.isdecimal() and not Path(name).exists():
        document = _version(log, _document(log, Path(file)), int(number)).document
    else:
        document = _document(log, Path(name))
    head = [str(document.meta[field]) for field in ("title", "logline") if document.meta.get(field)]
    return "\n\n".join([*head, document.text])


@app.command("restore")
def restore_version(file: Path = _TEXT, version: int = argument("Its number in 'log versions'.", "VERSION")) -> None:
    """Put an earlier version of a text back into its file; what the file holds now is recorded first."""
    with _open_log(only_read=False) as log:
        document = _document(log, file)
        current, wanted = _known(log, document), _version(log, document, version)
        log.touch(document, begin=True)
        path = revising.save_version(replace(wanted.document, path=file), in_place=True)
        restored = replace(wanted.document, path=path)
        log.add_version(restored, wanted.maker, parent=wanted, model=wanted.model, request={"restored": wanted.number})
    status(f"restored version {version} as {path}; what was there is version {current.number}")


def _document(log: "runlog.RunLog", path: Path) -> "documents.Document":
    """Read a text; of a file that is gone, or emptied, it is the last one that the log knows there."""
    version = log.last_at(path) if not path.exists() or not path.stat().st_size else None
    return version.document if version is not None else reading.read_source(path).document


def _known(log: "runlog.RunLog", document: "documents.Document") -> "runlog.Version":
    version = log.touch(document)
    if version is None:
        hint = "synopsis write and revise record them"
        raise FileError(f"{document.path}: the log holds no version of this text: {hint}")
    return version


def _version(log: "runlog.RunLog", document: "documents.Document", number: int) -> "runlog.Version":
    versions = {version.number: version for version in log.versions(_known(log, document).text)}
    if number not in versions:
        raise FileError(f"{document.path}: has no version {number}: it has {', '.join(map(str, versions))}")
    return versions[number]


def _open_log(*, only_read: bool = True) -> "contextlib.closing[runlog.RunLog]":
    path = options.settings_from().log
    return contextlib.closing(runlog.RunLog(path, sqlite.read_database if only_read else sqlite.open_database))


def _run_data(run: "runlog.Run", attempts: "list[result.Attempt]") -> dict[str, Any]:
    answers, lost = [attempt.answer for attempt in attempts], run.lost
    reviews = sum(attempt.is_review for attempt in attempts)
    tokens = sum((answer.usage for answer in answers), lost.usage if lost else usage.Usage())
    cost = usage.total_cost([*(answer.cost for answer in answers), *([lost.cost] if lost else [])])
    data: dict[str, Any] = {
        "run": run.id,
        "command": run.command,
        "created": run.created.isoformat(),
        "outcome": runlog.stored(run.outcome),
        "error": run.error,
        "path": run.path,
        "model": run.model,
        "server": run.server,
        "brief": run.brief.as_data(),
        "outline": run.outline.model_dump(mode="json") if run.outline else None,
        "prompt": run.prompt and {"name": run.prompt, "version": run.version, "hash": run.prompt_hash},
        "examples": list(run.examples),
    }
    if run.avoid:
        data["avoid"] = run.avoid.model_dump(mode="json")
    seconds = sum(answer.seconds for answer in answers)
    data |= usage.sums_data(len(answers) - reviews, tokens, cost, seconds)
    if reviews:
        data["reviews"] = reviews
    if lost:
        data["failed_calls"] = {**usage.usage_data(lost.usage), "cost": usage.format_cost(lost.cost)}
    return data


cache_app = typer.Typer(help="Cached answers: 'write --cache read' reuses them.", no_args_is_help=True)


@cache_app.command("info")
def show_info() -> Output:
    """Show where answers are cached, how many there are, and how much space they may take."""
    settings = options.settings_from()
    path = settings.cache / resolve.CACHE_FILE
    with contextlib.closing(caches.ResponseCache(path, open_file=sqlite.read_database)) as cache:
        size = cache.size()
    oldest = datetime.fromtimestamp(size.oldest, UTC).replace(microsecond=0).isoformat() if size.answers else None
    limits = {"cache_megabytes": settings.cache_megabytes, "cache_days": settings.cache_days}
    lines = (
        f"path:     {path}",
        f"answers:  {size.answers} ({size.bytes / 1e6:.1f} of at most {settings.cache_megabytes:g} MB)",
        f"oldest:   {oldest or 'none'} (kept for {settings.cache_days:g} days)",
    )
    data = {"path": str(path), "answers": size.answers, "bytes": size.bytes, "oldest": oldest, **limits}
    return Output(data, lines)


@cache_app.command("clear")
def clear_cache() -> None:
    """Delete all cached answers, and what was learnt about servers; a file that cannot be used is deleted."""
    settings = options.settings_from()
    path, capabilities = settings.cache / resolve.CACHE_FILE, settings.cache / server.CAPABILITIES_FILE
    if capabilities.is_file():
        capabilities.unlink()
        status("forgot what servers accept")
    try:
        with contextlib.closing(resolve.open_cache(settings)) as cache:
            count = cache.size().answers
            is_overwritten = cache.clear()
    except FileError as error:
        if sqlite.error_code(error.__cause__) in sqlite.LOCKED:
            raise
        sqlite.remove_database(path)
        status(f"{path} could not be used, and was deleted")
        return
    status(f"removed {count_of(count, 'answer')}")
    if not is_overwritten:
        status(f"another program reads the cache: {_OVERWRITTEN_LATER}")
