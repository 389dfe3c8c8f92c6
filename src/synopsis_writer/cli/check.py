"""`synopsis check`: the gate on any text."""

import json as jsonlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import complain, give, printable
from synopsis_writer.errors import GateRefused, InputError

if TYPE_CHECKING:
    from synopsis_writer.document import Document
    from synopsis_writer.review import Review

STDIN = "-"
_MOST_COLUMNS = 100


def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Text or Markdown files; - is stdin.")
    ],
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    examples: options.Examples = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> int:
    """Hold texts against the gate, your own, too: exits 1 when one is refused, 2 when one cannot be read.

    A file's front matter says what was asked for; --show, --theme and --form go before it. With --json each
    file is one line of JSON.
    """
    from synopsis_writer.desk import load_desk
    from synopsis_writer.review import review
    from synopsis_writer.settings import load_settings

    desk = load_desk(load_settings({"examples": examples, "profile": profile}))
    code = 0
    for name in files:
        try:
            report = review(_read(name), desk, show=show, theme=theme, form=form)
        except InputError as error:
            complain(str(error))
            code = error.exit_code
            continue
        if json:
            give(jsonlib.dumps(report.as_data(), ensure_ascii=False))
        else:
            _print(report)
        if not report.passed:
            code = max(code, GateRefused.exit_code)
    return code


def _read(name: str) -> "Document":
    from synopsis_writer.document import parse_document, read_document

    if name == STDIN:
        return parse_document(sys.stdin.buffer.read(), Path(STDIN))
    return read_document(Path(name))


def _print(report: "Review") -> None:
    refused = [finding for finding in report.findings if not finding.passed]
    guessed = ", the form that fits best" if report.guessed else ""
    verdict = (
        f"refused by {len(refused)} of {len(report.findings)}"
        if refused
        else f"passed all {len(report.findings)}"
    )
    give(f"{printable(report.source)}: {verdict} checks as {report.form}{guessed}")
    from synopsis_writer.cli.marked import marked

    spans = [span for finding in refused for span in finding.spans]
    if refused:
        width = min(_MOST_COLUMNS, shutil.get_terminal_size().columns)
        give("")
        for line in marked(report.text, spans, width):
            give(line)
        give("")
    for finding in refused:
        give(f"{finding.check}: {printable(finding.message)}")
