"""Write `docs/commands.md`: every command's help, as the program prints it."""

import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from typer.main import get_command

from synopsis_writer.cli.app import make_app, run

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

The help of every command, as the program prints it. `make docs` updates this page; a test compares them.

Exit codes: 0 done · 1 refused by the gate · 2 bad usage, brief, file or configuration · 3 model or network
failed for good · 4 an eval below its thresholds, worse than its baseline, or incomplete · 129, 130 or 143
ended by a signal (SIGHUP, Ctrl-C, SIGTERM).
"""


def commands() -> list[str]:
    """Return the names of all commands, those of a group after it; the program itself is the empty name."""

    def walk(command: Any, name: str) -> list[str]:
        parts = getattr(command, "commands", {}).items()
        return [name, *(found for part, child in parts for found in walk(child, f"{name} {part}".strip()))]

    return walk(get_command(make_app()), "")


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(section(name) for name in commands())


def section(name: str) -> str:
    """Return one command's heading and help."""
    command = " ".join(["synopsis", *name.split()])
    return f"\n## `{command}`\n\n```text\n{help_of(name)}```\n"


def help_of(name: str) -> str:
    """Return a command's help at 80 columns, without trailing blanks."""
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "NO_COLOR": "1"}), redirect_stdout(out):
        run([*name.split(), "--help"])
    return "".join(line.rstrip() + "\n" for line in out.getvalue().rstrip("\n").split("\n"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
