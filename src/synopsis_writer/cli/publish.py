"""The commands release and export: a text goes out."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_error, print_json, print_result, status, warn
from synopsis_writer.cli.options import option
from synopsis_writer.errors import FileError, GateRefusedError, InputError

if TYPE_CHECKING:
    from synopsis_writer.formats.sheets import Sheet, Slot

_STDOUT = Path("-")


@options.grouped
def release(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A saved synopsis (.md), a row as BATCH/ID, or with --verify a folder."
        ),
    ],
    by: Annotated[str | None, option("--by", "Who releases it.", "NAME")] = None,
    waive: Annotated[
        list[str] | None,
        option("--waive", "A check whose findings may pass, and why; repeatable.", "CHECK=REASON"),
    ] = None,
    verify: Annotated[bool, option("--verify", "Find texts that were changed after their release.")] = False,
    house: options.House = None,
    gate: options.GateFlags,
    json: options.Json = False,
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
    if json:
        print_json({"file": str(file), "release": record})
    else:
        print_result(f"{file}: released by {record['by']} at {record['at']}")
    return 0


def _verify(path: Path, *, as_json: bool) -> int:
    from synopsis_writer.document import read_document
    from synopsis_writer.releasing import SUFFIXES
    from synopsis_writer.storage.files import find_files

    code, rows = 0, []
    files = find_files(path, "**/*") if path.is_dir() else [path]
    for file in files:
        if file != path and file.suffix.lower() not in SUFFIXES:
            continue
        try:
            document = read_document(file)
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
            continue
        changed = document.has_changed
        record = document.meta["release"] if changed is not None else None
        rows.append({"file": str(file), "changed": changed, "release": record})
        if record and changed:
            line = f"{file}: changed after {record.get('by')} released it at {record.get('at')}"
            (status if as_json else print_result)(line)
            code = code or GateRefusedError.exit_code
        else:
            status(f"{file}: {'as it was released' if record else 'nobody released it'}")
    if as_json:
        print_json({"exit_code": code, "texts": rows})
    return code


@options.grouped
def export(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Saved synopses, folders, or a batch's folder."),
    ],
    file_format: Annotated[
        Literal["docx", "html", "xmltv", "jsonld", "csv", "json", "txt"],
        option("--format", "What the receiver wants."),
    ],
    output: Annotated[
        Path, option("--output", "The file to write; - is stdout.", "FILE", short="-o")
    ] = _STDOUT,
    channel: Annotated[str | None, option("--channel", "XMLTV: the channel's id.", "ID")] = None,
    start: Annotated[
        str | None, option("--start", "XMLTV: when it begins, as 2026-12-24T20:15+01:00.", "TIME")
    ] = None,
    stop: Annotated[str | None, option("--stop", "XMLTV: when it ends.", "TIME")] = None,
    into: Annotated[
        Path | None,
        option("--into", "XMLTV: fill the programmes of this guide, by series and title.", "GUIDE"),
    ] = None,
    force: Annotated[bool, option("--force", "Replace a file that is there.")] = False,
    house: options.House = None,
) -> int:
    """Export synopses: as a press sheet (docx, html), for guides (xmltv), for pages (jsonld), or as data."""
    from synopsis_writer.batch.store import is_of_batch
    from synopsis_writer.formats import sheets as formats
    from synopsis_writer.house.house import open_house
    from synopsis_writer.storage.files import replacing

    if file_format != "xmltv" and (channel or start or stop or into):
        raise InputError("--channel, --start, --stop and --into are for --format xmltv")
    if output != _STDOUT and output.exists() and not force:
        raise FileError(f"{output}: is there: name another file, or replace it with --force")
    if output != _STDOUT and any(is_of_batch(output, path) for path in (*files, output.parent)):
        raise FileError(f"{output}: is to be exported, or belongs to a batch: name another file")
    if output == _STDOUT and file_format == "docx":
        raise InputError("a Word file is no text for a terminal or a pipe: name a file with --output")
    language = open_house(options.settings_from(house=house)).orthography
    chosen, code = _sheets(files, language)
    if not chosen:
        return code
    if file_format == "xmltv":
        slot = _slot(channel, start, stop) if into is None else into
        content, unplaced = formats.xmltv_sheets(chosen, slot)
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
        status(f"written: {output} ({len(chosen)} synopses)" if len(chosen) > 1 else f"written: {output}")
    return code


def _slot(channel: str | None, start: str | None, stop: str | None) -> "Slot":
    from synopsis_writer.formats.sheets import Slot

    if not channel or not start:
        raise InputError("XMLTV needs to know when: give --channel and --start, or --into a guide")
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
    from synopsis_writer.batch.export import documents
    from synopsis_writer.batch.store import RECORD_FILE, read_batch
    from synopsis_writer.formats.reading import read_sources, text_files
    from synopsis_writer.formats.sheets import sheet_of

    sheets: list[Sheet] = []
    code = 0
    for path in paths:
        try:
            if (path / RECORD_FILE).exists():
                with read_batch(path) as batch:
                    sheets += [sheet_of(document, language) for document in documents(batch.accepted())]
                continue
            for file in text_files(path) if path.is_dir() else [path]:
                for source in read_sources(file):
                    if source.document.has_changed:
                        warn(f"{source.where}: was changed after its release: the record of that is left out")
                    sheets.append(sheet_of(source.document, language))
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
    if not sheets and not code:
        raise InputError("nothing to export: name saved synopses, a folder of them, or a batch's folder")
    return sheets, code
