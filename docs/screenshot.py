"""Make the pictures of the docs from what the command really prints and shows.

    python -m docs.screenshot

The page needs Playwright, Chromium and the extra `page`.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

from tests.support.browser import ARGUMENTS, Model, Served, environment_of, opened
from tests.support.loopback import Reply
from tests.support.terminal import ANSWER, PATH

IMAGE = Path(__file__).parent / "images" / "check.svg"
PAGE = IMAGE.with_name("page.png")
TEXT = """Elf Ohrmarken hängen in Gesas Schäferwagen. „Ich verkaufe nicht!“, sagte sie gestern.
Der Doktor untersucht die Wunde. Ich habe **keines** verloren, denkt die Schäferin.
"""
FONTS = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)  # they would be fetched from another machine


def draw_page(chromium: Any, home: Path, path: Path) -> None:
    """Open a text on the page, type what the gate refuses, and take a picture; `home` is an empty folder."""
    with Model([Reply(ANSWER)]) as model:
        served = Served(home, environment_of(home, model, SYNOPSIS_LANG="de"))
        served.put(PATH, "rote-rosen/der-weisse-hund.md")
        served.start()
        with opened(chromium, served.address, viewport={"width": 1280, "height": 800}) as page:
            page.locator("#part-texts > summary").click()
            page.locator("#library button").click()
            page.locator("#part-brief > summary").click()
            page.locator("#body p").first.click()
            page.keyboard.press("Control+Home")
            page.keyboard.type('Wir verkaufen "niemals", daß weiß jeder. ')
            page.locator("#findings li").nth(1).wait_for()
            page.wait_for_timeout(1000)
            page.screenshot(path=path)
        served.stop()


def draw_check() -> None:
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
    from playwright.sync_api import sync_playwright

    draw_check()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        draw_page(browser, Path(folder), PAGE)
        browser.close()
