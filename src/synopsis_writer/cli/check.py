"""The commands check, release and export: a text that is there is judged, and goes out."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import unified_diff
from functools import cached_property, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synopsis_writer.characters import format_json, printable
from synopsis_writer.cli import options
from synopsis_writer.cli.console import (
    failure_of,
    print_error,
    print_json,
    print_output,
    print_result,
    status,
    warn,
)
from synopsis_writer.cli.options import argument, option, switch
from synopsis_writer.errors import FileError, GateRefusedError, InputError, os_reason

if TYPE_CHECKING:
    from synopsis_writer.document import Document
    from synopsis_writer.formats.sheets import Sheet, Slot
    from synopsis_writer.workspace import Report, Workspace
    from synopsis_writer.writer import Writer

_LEAST_WIDTH, _MOST_COLUMNS = 20, 100
_STDOUT = Path("-")


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
    from synopsis_writer.house.house import accept_words
    from synopsis_writer.workspace import open_workspace

    if diff and (json or report != "text"):
        raise InputError("--diff prints a diff: leave out --json and --format")
    settings = options.settings_from(flags)
    if accept_word:
        path = accept_words(settings, accept_word)
        status(f"{path}: knows {', '.join(accept_word)}")
    workspace = open_workspace(settings)
    workspace.gate.warm_up()
    given = {**vars(text), "air_date": air_date}
    brief = {name: value for name, value in given.items() if value is not None}
    review = bool(flags.review or flags.review_model) and not diff
    with contextlib.ExitStack() as stack:
        work = _Check(workspace, brief, "json" if json else report, fix, diff, review, stack)
        return work.check_all(files)


@dataclass
class _Check:
    """One run of `check`."""

    workspace: "Workspace"
    brief: dict[str, Any]
    report: str
    fix: bool
    diff: bool
    review: bool
    stack: contextlib.ExitStack

    @cached_property
    def writer(self) -> "Writer":
        """A writer of the workspace; a check alone needs none, and loads quicker without."""
        from synopsis_writer.writer import Writer

        writer = self.stack.enter_context(Writer(self.workspace.settings))
        writer.workspace = self.workspace
        return writer

    def check_all(self, paths: Sequence[Path]) -> int:
        """Check files, and those of folders; return the worst exit code."""
        from synopsis_writer.formats.reading import text_files

        code = 0
        for path in paths:
            try:
                one = self.check_all(text_files(path)) if path.is_dir() else self.check_file(path)
            except Exception as error:
                if isinstance(error, OSError) and error.filename is None:
                    raise  # stdout cannot be written
                problem, one = failure_of(error)
                if self.report == "json":
                    print_json({"file": str(path), "error": problem, "exit_code": one}, indent=None)
                print_error(problem)
            code = max(code, one)
        return code

    def check_file(self, path: Path) -> int:
        """Check the texts of a file, or of stdin, and print what is found; return the exit code."""
        from synopsis_writer.formats.reading import parse_source, read_sources, replace_text
        from synopsis_writer.gate.fixes import listed
        from synopsis_writer.models.base import bill

        code = 0
        for source in [parse_source(_stdin(), path)] if str(path) == "-" else read_sources(path):
            given = {**source.fields, **self.brief}
            if self.review:
                result = self.writer.check_sync(source.document, fix=self.fix, review=True, **given)
                status(bill(result.reviews, len(result.reviews)))
            else:
                check = self.workspace.fix if self.fix or self.diff else self.workspace.check
                result = check(source.document, **given)
                _notice_edit(source.document, self.workspace.settings.log)
            if result.fixed and self.diff:
                old, new = (part.splitlines() for part in replace_text(source.document, result.text))
                print_result(*unified_diff(old, new, str(path), str(path), lineterm=""))
            elif result.fixed:
                self.writer.save_fixed(source.document, result)
                status(f"{path}: fixed {listed(result.fixed)}")
            if not self.diff:
                print_result(*_RENDERERS[self.report](result))
            code = code if result.passed else GateRefusedError.exit_code
        return code


def _notice_edit(document: "Document", log: Path) -> None:
    """Record that a file was edited by hand, if there is a run log and it knows the file."""
    if document.path.suffix == ".csv" or not log.exists():  # of a table no line is a text by itself
        return
    from synopsis_writer.log import RunLog

    try:
        with contextlib.closing(RunLog(log)) as opened:
            opened.touch(document)
    except FileError as error:
        status(str(error))


def _stdin() -> bytes:
    from synopsis_writer.storage.files import MOST_BYTES

    try:
        if sys.stdin is None:
            raise FileError("-: stdin is closed: pipe a text into the command, or name a file")
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileError(os_reason(error, Path("-"))) from error


def _lines(result: "Report") -> Iterator[str]:
    from synopsis_writer.gate.messages import say

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
        yield from ("", *_underlined(result.text, spans, width), "")
    for finding in refused:
        yield f"{finding.check}: {finding.sentence}"
    for finding in warned:
        yield f"{say('warning').text(result.lang)}: {finding.check}: {finding.sentence}"
    for finding in waived:
        yield f"{say('waived').text(result.lang)}: {finding.check}: {finding.sentence} ({finding.waived})"


def _underlined(text: str, spans: Sequence[tuple[int, int]], width: int) -> Iterator[str]:
    """Yield the lines of `text`, wrapped at `width` cells, each followed by the marks of its spans."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    is_marked = bytearray(len(text))
    for start, end in spans:
        is_marked[start:end] = b"\1" * len(is_marked[start:end])
    shown = Text()
    for mark, chars in groupby(zip(is_marked, text, strict=True), key=itemgetter(0)):
        shown.append(printable("".join(char for _, char in chars)), style="marked" if mark else None)
    for line in shown.wrap(Console(width=width), max(_LEAST_WIDTH, width)):
        yield line.plain.rstrip()
        if line.spans:
            marks = [" " * cell_len(char) for char in line.plain]
            for start, end, _ in line.spans:
                marks[start:end] = [mark.replace(" ", "~") for mark in marks[start:end]]
            yield "".join(marks).rstrip()


def _annotations(result: "Report") -> Iterator[str]:
    """Yield GitHub's workflow commands: one a finding, at the line of its first spot."""
    for finding in (*result.refused, *result.warnings):
        line, column = result.position(finding)
        file = _escaped(result.source).replace(":", "%3A").replace(",", "%2C")
        place = f"file={file},line={line},col={column},title={finding.check}"
        yield f"::{finding.level} {place}::{_escaped(finding.sentence)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


_RENDERERS: dict[str, "Callable[[Report], Iterator[str]]"] = {
    "text": _lines,
    "json": lambda result: iter([format_json(result.as_data())]),
    "github": _annotations,
}


def release(
    *,
    file: Path = argument(
        "A saved synopsis (.md), or a batch's row as BATCH/ID; with --verify a folder.", "FILE"
    ),
    by: str | None = option("Who releases it.", "NAME"),
    waive: list[str] | None = option("A check whose findings may pass, and why; repeatable.", "CHECK=REASON"),
    verify: bool = switch("Find texts that were changed after their release."),
    house: Path | None = options.HOUSE,
    gate: options.GateFlags,
    json: bool = options.JSON,
) -> int:
    """Record in a file that a person releases its text: who, when, what was waived, whose words they are.

    The gate runs once more; exits 1 when it refuses the text, or when --verify finds a changed one.
    """
    from synopsis_writer.batch.export import release_row
    from synopsis_writer.batch.store import RECORD_FILE
    from synopsis_writer.releasing import NotReleasedError, release
    from synopsis_writer.writer import Writer

    if verify:
        if by or waive:
            raise InputError("--verify changes nothing: leave out --by and --waive")
        return _verify(file, as_json=json)
    waivers = {check.strip(): reason for check, _, reason in (each.partition("=") for each in waive or ())}
    try:
        with Writer(options.settings_from(gate, house=house)) as writer:
            if not file.exists() and (file.parent / RECORD_FILE).exists():
                record = release_row(file, by or "", writer, waivers)
            else:
                record = release(file, by or "", waivers=waivers, writer=writer)
    except NotReleasedError as error:
        for finding in error.report.refused:
            print_error(f"{file}: {finding.check}: {finding.sentence}")
        if json:
            print_json({"file": str(file), "error": str(error), "exit_code": error.exit_code})
        print_error(f'{file}: not released: put it right, or let it pass with --waive CHECK="reason"')
        return error.exit_code
    if record["model_share"] is None:
        status("the log does not know how the text came about: whose words they are stays unknown")
    lines = [f"{file}: released by {record['by']} at {record['at']}"]
    print_output({"file": str(file), "release": record}, lines, as_json=json)
    return 0


def _saved_texts(path: Path) -> Iterator[Callable[[], "Document"]]:
    """Yield what reads each text that can hold a release: a file, those of a folder, or a batch's rows."""
    from synopsis_writer.batch import export, store
    from synopsis_writer.document import read_document
    from synopsis_writer.releasing import SUFFIXES
    from synopsis_writer.storage.files import find_files

    record = path.parent / store.RECORD_FILE
    row = ("AND id = ?", path.name) if not path.exists() and record.exists() else ()
    for file in [record] if row else find_files(path, "**/*") if path.is_dir() else [path]:
        if file.name == store.RECORD_FILE:
            with store.read_batch(file.parent) as batch:
                for document in export.documents(batch.accepted(*row)):
                    yield partial(replace, document, path=file.parent / document.path)
        elif file.suffix.lower() in SUFFIXES or file == path:
            yield partial(read_document, file)


def _verify(path: Path, *, as_json: bool) -> int:
    code, rows = 0, []
    for read in _saved_texts(path):
        try:
            document = read()
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
            continue
        file, changed = document.path, document.has_changed
        record = document.meta["release"] if changed is not None else None
        rows.append({"file": str(file), "changed": changed, "release": record})
        if record and changed:
            line = f"{file}: changed after {record.get('by')} released it at {record.get('at')}"
            (status if as_json else print_result)(line)
            code = code or GateRefusedError.exit_code
        else:
            status(f"{file}: {'as it was released' if record else 'nobody released it'}")
    if not rows and not code:
        raise FileError(f"{path}: has no text that could be released: name an .md file, a folder, or a batch")
    print_output({"exit_code": code, "texts": rows}, (), as_json=as_json)
    return code


def export(
    *,
    files: list[Path] = argument("Saved synopses, folders, or a batch's folder.", "FILE"),
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
    from synopsis_writer.batch.store import is_of_batch
    from synopsis_writer.formats import sheets as formats
    from synopsis_writer.house.house import open_house
    from synopsis_writer.storage.files import replacing

    if file_format != "xmltv" and (channel or start or stop or into):
        raise InputError("--channel, --start, --stop and --into are for --format xmltv")
    if output == _STDOUT and file_format == "docx":
        raise InputError("a Word file is no text for a terminal or a pipe: name a file with --output")
    if output != _STDOUT and output.exists() and not force:
        raise FileError(f"{output}: is there: name another file, or replace it with --force")
    if output != _STDOUT and any(is_of_batch(output, path) for path in (*files, output.parent)):
        raise FileError(f"{output}: is to be exported, or belongs to a batch: name another file")
    chosen, code = _sheets(files, open_house(options.settings_from(house=house)).orthography)
    if not chosen:
        return code
    if file_format == "xmltv":
        content, unplaced = formats.xmltv_sheets(chosen, _place(into, channel, start, stop))
        for sheet in unplaced:
            names = [f"'{name}'" for name in (sheet.show, sheet.title) if name]
            print_error(f"{into}: has no programme {' with the sub-title '.join(names)}")
            code = InputError.exit_code
    else:
        content = formats.SHEETS[file_format](chosen)
    for lost in formats.left_out(chosen, file_format):
        warn(f"{file_format} does not hold {lost}")
    if output == _STDOUT:
        print_result(content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n"))
    else:
        with replacing(output, output=True) as file:
            file.write(content)
        count = f" ({len(chosen)} synopses)" if len(chosen) > 1 else ""
        status(f"written: {output}{count}")
    return code


def _place(into: Path | None, channel: str | None, start: str | None, stop: str | None) -> "Slot | Path":
    from synopsis_writer.formats.sheets import Slot

    if into and not (channel or start or stop):
        return into
    if into or not channel or not start:
        raise InputError("XMLTV needs to know when: give --channel and --start, or --into a guide alone")
    slot = Slot(channel, _time("--start", start), _time("--stop", stop) if stop else None)
    if slot.stop and slot.stop <= slot.start:
        raise InputError(f"--stop: {stop} is not after --start")
    return slot


def _time(flag: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{flag}: '{text[:40]}' is no time: write it as 2026-12-24T20:15+01:00") from error


def _sheets(paths: list[Path], language: str) -> tuple[list["Sheet"], int]:
    """Return the sheets of all that can be read, and the exit code; what cannot is printed."""
    from synopsis_writer.batch import export, store
    from synopsis_writer.formats.reading import read_sources, text_files
    from synopsis_writer.formats.sheets import sheet_of

    sheets: list[Sheet] = []
    code = 0
    for path in paths:
        try:
            if (path / store.RECORD_FILE).exists():
                with store.read_batch(path) as batch:
                    sheets += [sheet_of(each, language) for each in export.documents(batch.accepted())]
                continue
            for source in (source for file in text_files(path) for source in read_sources(file)):
                if source.document.has_changed:
                    warn(f"{source.where}: was changed after its release: the record of that is left out")
                sheets.append(sheet_of(source.document, language))
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
    if not sheets and not code:
        raise InputError("nothing to export: name saved synopses, a folder of them, or a batch's folder")
    return sheets, code
