"""The commands check, release and export, for texts that exist already."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import unified_diff
from functools import cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from synopsis_writer.characters import format_json, printable
from synopsis_writer.cli import console, lazily, options
from synopsis_writer.cli.console import Output, print_error, print_json, print_result, status, warn
from synopsis_writer.cli.options import argument, option, switch
from synopsis_writer.errors import FileError, GateRefusedError, InputError, os_reason

with lazily():
    from rich import cells, text
    from rich import console as screens

    from synopsis_writer import document as documents
    from synopsis_writer import house as houses
    from synopsis_writer import log as runlog
    from synopsis_writer import releasing, workspace
    from synopsis_writer import writer as writers
    from synopsis_writer.batch import export as rows
    from synopsis_writer.batch import store
    from synopsis_writer.formats import reading, sheets
    from synopsis_writer.gate import finding as wording
    from synopsis_writer.gate import fixes
    from synopsis_writer.models import base
    from synopsis_writer.storage import files as storage

_LEAST_WIDTH, _MOST_COLUMNS = 20, 100
_MOST_SHOWN, _LONGEST_LINE = 50_000, 1_000  # characters of a text, and of a line, in which most may have no width
_ESCAPES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})  # of GitHub's workflow commands
_STDOUT = Path("-")
_NOTHING = "nothing to export: name saved synopses, a folder of them, or a batch's folder"


@dataclass(frozen=True)
class _GateFlags(options.BudgetFlags, options.ModelFlags, options.ReviewFlags, options.GateFlags):
    house: Path | None = options.HOUSE
    examples: Path | None = options.EXAMPLES
    semantic: bool | None = options.SEMANTIC


def check(
    *,
    files: list[Path] = argument("Texts (.md .txt .docx .html .csv .json), folders; - is stdin.", "FILE..."),
    text: options.TextFlags,
    air_date: str | None = options.AIR_DATE,
    fix: bool = switch("Put right in the file what code can."),
    diff: bool = switch("Show what --fix would change, and write nothing."),
    accept_word: list[str] | None = option("A word to add to your house's; repeatable.", "WORD"),
    flags: _GateFlags,
    report: Literal["text", "json", "github"] = option(
        "For a person, a program, or as annotations on GitHub.", None, "--format", default="text"
    ),
    json: bool = switch("The same as --format json."),
) -> int:
    """Check texts, also your own, with the gate: exits 1 when one is refused, 2 when one cannot be read.

    A file's front matter holds its brief; --show, --theme, --form, --words, --characters and --air-date
    override it. With --json each text is one line of JSON. With --review a model reads each text, too;
    where it cannot, a warning says so.
    """
    if diff and (json or report != "text"):
        raise InputError("--diff prints a diff: leave out --json and --format")
    settings = options.settings_from(flags)
    if accept_word:
        path = houses.accept_words(settings, accept_word)
        status(f"{path}: knows {', '.join(accept_word)}")
    opened = workspace.open_workspace(settings)
    given = {**vars(text), "air_date": air_date}
    brief = {name: value for name, value in given.items() if value is not None}
    render = _RENDERERS["json" if json else report]
    with contextlib.ExitStack() as stack:

        @cache
        def writer() -> "writers.Writer":  # a check alone needs none, and loads faster without
            made = stack.enter_context(writers.Writer(settings))
            made.workspace = opened
            return made

        def check_file(path: Path) -> int:
            code = 0
            is_stdin = str(path) == "-"
            for source in [reading.parse_source(_stdin(), path)] if is_stdin else reading.read_sources(path):
                document, fields = source.document, {**source.fields, **brief}
                if (flags.review or flags.review_model) and not diff:
                    result = writer().check_sync(document, fix=fix, review=True, **fields)
                    status(base.bill(result.reviews, len(result.reviews)))
                else:
                    result = (opened.fix if fix or diff else opened.check)(document, **fields)
                    _notice_edit(document, settings.log)
                if result.fixed and diff:
                    old, new = (part.splitlines() for part in reading.replace_text(document, result.text))
                    print_result(*unified_diff(old, new, str(path), str(path), lineterm=""))
                elif result.fixed:
                    writer().save_fixed(document, result)
                    status(f"{path}: fixed {fixes.listed(result.fixed)}")
                if not diff:
                    print_result(*render(result))
                code = code if result.passed else GateRefusedError.exit_code
            return code

        return _check_all(files, check_file, as_json=json or report == "json")


def _check_all(paths: Sequence[Path], check_file: Callable[[Path], int], *, as_json: bool) -> int:
    """Check files, and those of folders, and print why one cannot be; return the worst exit code."""
    code = 0
    for path in paths:
        try:
            if path.is_dir():
                one = _check_all(reading.text_files(path), check_file, as_json=as_json)
            else:
                one = check_file(path)
        except Exception as error:
            if isinstance(error, OSError) and error.filename is None:
                raise  # stdout cannot be written
            problem, one = console.failure_of(error)
            if as_json:
                print_json({"file": str(path), "error": problem, "exit_code": one}, indent=None)
            print_error(problem)
        code = max(code, one)
    return code


def _notice_edit(document: "documents.Document", log: Path) -> None:
    if document.path.suffix == ".csv" or not log.exists():  # a row of a table is not a file of its own
        return
    try:
        with contextlib.closing(runlog.RunLog(log)) as opened:
            opened.touch(document)
    except FileError as error:
        status(str(error))


def _stdin() -> bytes:
    if sys.stdin is None:
        raise FileError("-: stdin is closed: pipe a text into the command, or name a file")
    try:
        return sys.stdin.buffer.read(storage.MOST_BYTES + 1)
    except OSError as error:
        raise FileError(os_reason(error, Path("-"))) from error


def _lines(result: "workspace.Report") -> Iterator[str]:
    say = wording.say
    refused, warned, waived = result.refused, result.warnings, result.waived
    counts = {"n": len(refused), "count": len(result.findings), "form": result.form}
    parts = [say("refused" if refused else "all passed", **counts)]
    parts += [say("guessed")] * result.guessed
    parts += [say("1 warning" if len(warned) == 1 else "n warnings", n=len(warned))] * bool(warned)
    parts += [say("n waived", n=len(waived))] * bool(waived)
    yield say("verdict", source=result.source, parts=parts).text(result.lang)
    if refused or warned:
        spans = [span for finding in (*refused, *warned) for span in finding.spans]
        width = min(_MOST_COLUMNS, shutil.get_terminal_size().columns)
        yield from ("", *_underlined(result.text[:_MOST_SHOWN], spans, width), "")
    for finding in refused:
        yield f"{finding.check}: {finding.sentence}"
    for finding in warned:
        yield f"{say('warning').text(result.lang)}: {finding.check}: {finding.sentence}"
    for finding in waived:
        yield f"{say('waived').text(result.lang)}: {finding.check}: {finding.sentence} ({finding.waived})"


def _underlined(content: str, spans: Sequence[tuple[int, int]], width: int) -> Iterator[str]:
    """Yield the lines of `content`, wrapped at `width` cells, each followed by the marks of its spans."""
    is_marked = bytearray(len(content))
    for start, end in spans:
        is_marked[start:end] = b"\1" * len(is_marked[start:end])
    shown = text.Text()
    for mark, chars in groupby(zip(is_marked, content, strict=True), key=itemgetter(0)):
        shown.append(printable("".join(char for _, char in chars)), style="marked" if mark else None)
    for whole in shown.wrap(screens.Console(width=width), max(_LEAST_WIDTH, width)):
        line = whole[:_LONGEST_LINE]
        yield line.plain.rstrip()
        if line.spans:
            marks = [" " * cells.cell_len(char) for char in line.plain]
            for start, end, _ in line.spans:
                marks[start:end] = [mark.replace(" ", "~") for mark in marks[start:end]]
            yield "".join(marks).rstrip()


def _annotations(result: "workspace.Report") -> Iterator[str]:
    """Yield GitHub's workflow commands: one per finding, at the line of its first span."""
    for finding in (*result.refused, *result.warnings):
        line, column = result.position(finding)
        file = result.source.translate(_ESCAPES | {ord(":"): "%3A", ord(","): "%2C"})
        place = f"file={file},line={line},col={column},title={finding.check}"
        yield f"::{finding.level} {place}::{finding.sentence.translate(_ESCAPES)}"


_RENDERERS: dict[str, "Callable[[workspace.Report], Iterator[str]]"] = {
    "text": _lines,
    "json": lambda result: iter([format_json(result.as_data())]),
    "github": _annotations,
}


def release(
    *,
    file: Path = argument("A saved synopsis (.md), or a batch's row as BATCH/ID; with --verify a folder.", "FILE"),
    by: str | None = option("Who releases it.", "NAME"),
    waive: list[str] | None = option("A check whose findings may pass, and why; repeatable.", "CHECK=REASON"),
    verify: bool = switch("Find texts that were changed after their release."),
    house: Path | None = options.HOUSE,
    gate: options.GateFlags,
) -> Output:
    """Record in a file that a person releases its text: who, when, what was waived, whose words they are.

    The gate runs once more; exits 1 when it refuses the text, or when --verify finds a changed one.
    """
    if verify:
        if by or waive:
            raise InputError("--verify changes nothing: leave out --by and --waive")
        return _verify(file)
    waivers = {check.strip(): reason for check, _, reason in (each.partition("=") for each in waive or ())}
    try:
        with writers.Writer(options.settings_from(gate, house=house)) as writer:
            if not file.exists() and (file.parent / store.RECORD_FILE).exists():
                record = rows.release_row(file, by or "", writer, waivers)
            else:
                record = releasing.release(file, by or "", waivers=waivers, writer=writer)
    except releasing.NotReleasedError as error:
        findings = [f"{file}: {finding.check}: {finding.sentence}" for finding in error.report.refused]
        way = f'{file}: not released: put it right, or let it pass with --waive CHECK="reason"'
        data = {"file": str(file), "error": str(error), "exit_code": error.exit_code}
        return Output(data, problems=[*findings, way], code=error.exit_code)
    if record["model_share"] is None:
        status("the log does not know how the text came about: whose words they are stays unknown")
    line = f"{file}: released by {record['by']} at {record['at']}"
    return Output({"file": str(file), "release": record}, [line])


def _saved_texts(path: Path) -> Iterator[Callable[[], "documents.Document"]]:
    record = path.parent / store.RECORD_FILE
    row = ("AND id = ?", path.name) if not path.exists() and record.exists() else ()
    for file in [record] if row else storage.find_files(path, "**/*") if path.is_dir() else [path]:
        if file.name == store.RECORD_FILE:
            with store.read_batch(file.parent) as batch:
                for document in rows.documents(batch.accepted(*row)):
                    yield partial(replace, document, path=file.parent / document.path)
        elif file.suffix.lower() in releasing.SUFFIXES or file == path:
            yield partial(documents.read_document, file)


def _verify(path: Path) -> Output:
    texts: list[dict[str, Any]] = []
    code = 0
    for read in _saved_texts(path):
        try:
            document = read()
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
            continue
        file, changed = document.path, document.has_changed
        record = document.meta["release"] if changed is not None else None
        texts.append({"file": str(file), "changed": changed, "release": record})
        if record and changed:
            line = f"{file}: changed after {record.get('by')} released it at {record.get('at')}"
            (status if console.STDERR.expects_json else print_result)(line)
            code = code or GateRefusedError.exit_code
        else:
            status(f"{file}: {'as it was released' if record else 'nobody released it'}")
    if not texts and not code:
        raise FileError(f"{path}: has no text that could be released: name an .md file, a folder, or a batch")
    return Output({"exit_code": code, "texts": texts}, code=code)


def export(
    *,
    files: list[Path] = argument("Saved synopses, folders, or a batch's folder.", "FILE..."),
    file_format: Literal["docx", "html", "xmltv", "jsonld", "csv", "json", "txt"] = options.FORMAT,
    output: Path = option("The file to write; - is stdout.", "FILE", "-o", default=_STDOUT),
    channel: str | None = option("XMLTV: the channel's id.", "ID"),
    start: str | None = option("XMLTV: when it begins, as 2026-12-24T20:15+01:00.", "TIME"),
    stop: str | None = option("XMLTV: when it ends.", "TIME"),
    into: Path | None = option("XMLTV: fill the programmes of this guide, by series and title.", "GUIDE"),
    force: bool = switch("Replace a file that is there."),
    house: Path | None = options.HOUSE,
) -> int:
    """Export synopses: as a press sheet (docx, html), for guides (xmltv), for pages (jsonld), or as data."""
    if file_format != "xmltv" and (channel or start or stop or into):
        raise InputError("--channel, --start, --stop and --into are for --format xmltv")
    if output == _STDOUT and file_format == "docx":
        raise InputError("a Word file is no text for a terminal or a pipe: name a file with --output")
    if output != _STDOUT and output.exists() and not force:
        raise FileError(f"{output}: is there: name another file, or replace it with --force")
    if output != _STDOUT and any(store.is_of_batch(output, path) for path in (*files, output.parent)):
        raise FileError(f"{output}: is to be exported, or belongs to a batch: name another file")
    language, chosen = houses.open_house(options.settings_from(house=house)).orthography, list[sheets.Sheet]()
    code = max(_add_sheets(path, output, language, chosen) for path in files)
    if not chosen:
        return code or console.fail(_NOTHING, InputError.exit_code)
    if file_format == "xmltv":
        content, unplaced = sheets.xmltv_sheets(chosen, _place(into, channel, start, stop))
        for sheet in unplaced:
            names = [f"'{name}'" for name in (sheet.show, sheet.title) if name]
            print_error(f"{into}: has no programme {' with the sub-title '.join(names)}")
            code = InputError.exit_code
    else:
        content = sheets.SHEETS[file_format](chosen)
    for lost in sheets.left_out(chosen, file_format):
        warn(f"{file_format} does not hold {lost}")
    if output == _STDOUT:
        print_result(content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n"))
    else:
        with storage.replacing(output, output=True) as file:
            file.write(content)
        count = f" ({len(chosen)} synopses)" if len(chosen) > 1 else ""
        status(f"written: {output}{count}")
    return code


def _place(into: Path | None, channel: str | None, start: str | None, stop: str | None) -> "sheets.Slot | Path":
    if into and not (channel or start or stop):
        return into
    if into or not channel or not start:
        raise InputError("XMLTV needs to know when: give --channel and --start, or --into a guide alone")
    slot = sheets.Slot(channel, _time("--start", start), _time("--stop", stop) if stop else None)
    if slot.stop and slot.stop <= slot.start:
        raise InputError(f"--stop: {stop} is not after --start")
    return slot


def _time(flag: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{flag}: '{text[:40]}' is no time: write it as 2026-12-24T20:15+01:00") from error


def _add_sheets(path: Path, out: Path, language: str, chosen: "list[sheets.Sheet]", known: Sequence[str] = ()) -> int:
    """Add what a path holds to `chosen`, unless it is all `known`; print what cannot be read; return the exit code."""
    try:
        if (path / store.RECORD_FILE).exists():
            with store.read_batch(path) as batch:
                chosen += [sheets.sheet_of(each, language) for each in rows.documents(batch.accepted())]
        elif path.is_dir():
            files = sorted(reading.text_files(path), key=lambda file: file.suffix.lower() not in releasing.SUFFIXES)
            saved = sum(file.suffix.lower() in releasing.SUFFIXES for file in files)
            codes = [_add_sheets(file, out, language, chosen) for file in files[:saved]]
            parts = {" ".join(part.split()) for each in chosen for part in (each.text, each.title)}
            known = sorted(parts, key=len, reverse=True)  # the longest first: a title may occur in a text
            return max(codes + [_add_sheets(file, out, language, chosen, known) for file in files[saved:]])
        elif storage.real_path(path) != storage.real_path(out):
            for source in reading.read_sources(path):
                sheet = sheets.sheet_of(source.document, language)
                rest = " ".join(sheet.text.split())
                for part in known:
                    rest = rest.replace(part, "")
                if not rest.strip():
                    status(f"{source.where}: left out, as an earlier export of the same texts")
                    continue
                if source.document.has_changed:
                    warn(f"{source.where}: was changed after its release: the record of that is left out")
                chosen.append(sheet)
    except InputError as error:
        print_error(str(error))
        return error.exit_code
    return 0
