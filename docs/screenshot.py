"""Draw the README's screenshot from what the command really prints: python docs/screenshot.py."""

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

IMAGE = Path(__file__).parent / "images" / "check.svg"
TEXT = """Elf Ohrmarken hängen in Gesas Schäferwagen. „Ich verkaufe nicht!“, sagte sie gestern.
Der Doktor untersucht die Wunde. Ich habe **keines** verloren, denkt die Schäferin.
"""
FONTS = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)  # they would be fetched from another machine


def main() -> None:
    """Run the command, and draw it with what it prints."""
    command = [sys.executable, "-m", "synopsis_writer", "check", "-", "--form", "portrait"]
    done = subprocess.run(  # noqa: S603 - a command of ours
        command, input=TEXT, capture_output=True, check=False, encoding="utf-8"
    )
    console = Console(record=True, width=104, file=io.StringIO())
    console.print("[bold green]$[/] synopsis check draft.txt --form portrait")
    console.print(done.stdout.replace("-: refused", "draft.txt: refused", 1), markup=False, highlight=False)
    svg = console.export_svg(title="synopsis", theme=MONOKAI)
    IMAGE.write_text(FONTS.sub("", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
