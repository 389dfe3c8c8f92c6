"""Write `docs/commands.md`: every command's help, as the program prints it."""

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("commands.md")
COMMANDS = (
    "",
    "write",
    "outline",
    "prompt",
    "check",
    "examples",
    "examples list",
    "examples show",
    "examples check",
    "examples add",
    "style",
    "style calibrate",
    "models",
    "models pull",
    "models known",
    "models rm",
    "eval",
    "eval run",
    "eval score",
    "eval compare",
    "eval bless",
    "eval report",
    "eval export",
    "eval judge-check",
    "batch",
    "batch run",
    "batch status",
    "batch export",
    "batch submit",
    "batch fetch",
    "batch cancel",
    "log",
    "log list",
    "log show",
    "log rm",
    "cache",
    "cache info",
    "cache clear",
)
HEAD = """# Commands

Every command's help, as the program prints it; `make docs` renews this page, and a test holds it true.

Exit codes: 0 done · 1 refused by the gate · 2 bad usage, brief, file or configuration · 3 model or network
failed for good · 4 an eval below its thresholds, worse than its baseline, or incomplete · 130 interrupted.
"""


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(section(name) for name in COMMANDS)


def section(name: str) -> str:
    """Return one command's heading and help."""
    command = " ".join(["synopsis", *name.split()])
    return f"\n## `{command}`\n\n```text\n{help_of(name)}```\n"


def help_of(name: str) -> str:
    """Return a command's help at 100 columns, without trailing blanks."""
    environment = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    command = [str(Path(sys.executable).with_name("synopsis")), *name.split(), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)  # noqa: S603
    return "".join(line.rstrip() + "\n" for line in done.stdout.rstrip("\n").split("\n"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
