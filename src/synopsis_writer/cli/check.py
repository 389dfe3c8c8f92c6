"""`synopsis check`: the gate on any text."""

import json as jsonlib
import shutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import complain, give, printable, say
from synopsis_writer.errors import GateRefused, InputError

if TYPE_CHECKING:
    from synopsis_writer.document import Document
    from synopsis_writer.review import Review

STDIN = "-"
_MOST_COLUMNS = 100


class Report(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Text or Markdown files; - is stdin.")
    ],
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    examples: options.Examples = None,
    profile: options.Profile = None,
    disable: options.Disable = None,
    semantic: options.Semantic = None,
    report: Annotated[
        Report, typer.Option("--format", help="For a person, a program, or an annotation.")
    ] = Report.TEXT,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> int:
    """Hold texts against the gate, your own, too: exits 1 when one is refused, 2 when one cannot be read.

    A file's front matter says what was asked for; --show, --theme and --form go before it. With --json each
    file is one line of JSON.
    """
    from synopsis_writer.desk import load_desk
    from synopsis_writer.review import review
    from synopsis_writer.settings import load_settings

    flags = {"examples": examples, "profile": profile, "disable": disable, "semantic": semantic}
    desk = load_desk(load_settings(flags), say)
    desk.gate.warm_up()
    printed = {Report.TEXT: _lines, Report.JSON: _json, Report.GITHUB: _annotations}[
        Report.JSON if json else report
    ]
    code = 0
    for name in files:
        try:
            found = review(_read(name), desk, show=show, theme=theme, form=form)
        except InputError as error:
            complain(str(error))
            code = error.exit_code
            continue
        for line in printed(found):
            give(line)
        if not found.passed:
            code = max(code, GateRefused.exit_code)
    return code


def _read(name: str) -> "Document":
    from synopsis_writer.document import parse_document, read_document

    if name == STDIN:
        return parse_document(sys.stdin.buffer.read(), Path(STDIN))
    return read_document(Path(name))


def _json(found: "Review") -> Iterator[str]:
    yield jsonlib.dumps(found.as_data(), ensure_ascii=False)


def _lines(found: "Review") -> Iterator[str]:
    from synopsis_writer.cli.marked import marked

    refused = found.refused
    guessed = ", the form that fits best" if found.guessed else ""
    count = len(found.findings)
    verdict = f"refused by {len(refused)} of {count}" if refused else f"passed all {count}"
    yield f"{printable(found.source)}: {verdict} checks as {found.form}{guessed}"
    if refused:
        spans = [span for finding in refused for span in finding.spans]
        width = min(_MOST_COLUMNS, shutil.get_terminal_size().columns)
        yield from ("", *marked(found.text, spans, width), "")
    for finding in refused:
        yield f"{finding.check}: {printable(finding.message)}"


def _annotations(found: "Review") -> Iterator[str]:
    """Yield GitHub's workflow commands: one a finding, at the line of its first spot."""
    for finding in found.refused:
        line, column = found.place(finding)
        properties = f"file={_property(found.source)},line={line},col={column},title={finding.check}"
        yield f"::error {properties}::{_escaped(finding.message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
