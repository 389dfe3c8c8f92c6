"""Measure the editor's page as its user meets it; prints one table.

    python -m benchmarks.page

The start is of the real command, to the page's answer and to the first finding. Then a server in this process
answers windows that type in another one: each sends its draft and asks for a check, on a text of 400 words.
A stall is how much later than planned a task in the server's event loop runs, as in `benchmarks.stalls`. What
a browser shows when is measured in Debian's Chromium.
"""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.processes import SYNOPSIS
from benchmarks.stalls import EXAMPLES, idle, ticking
from benchmarks.table import Row, print_table
from synopsis_writer import Writer
from synopsis_writer.cli import THRESHOLD
from synopsis_writer.cli.write import SWITCH_INTERVAL
from synopsis_writer.page.server import Access, application, listen, serve
from synopsis_writer.settings import load_settings
from tests.support.browser import ARGUMENTS, Served, environment_of, opened
from tests.support.page import Browser

STARTS = 5
WINDOWS, KEYS, PAUSE = 20, 15, 0.3  # pauses at which a window asks for a check; seconds between two
WORDS = 400


def text() -> dict[str, Any]:
    """Return a text of 400 words, with its brief."""
    words = " ".join(example.synopsis.text for example in EXAMPLES[:3]).split()[:WORDS]
    parts = [" ".join(words[index : index + 80]) for index in range(0, WORDS, 80)]
    brief = EXAMPLES[0].brief.as_data()
    return {"title": "Ein Text", "brief": brief, "paragraphs": [{"text": part} for part in parts]}


def type_in(browser: Browser, number: int, seconds: list[float]) -> None:
    """Type in one window: a draft and a check at each pause."""
    typed = text()
    for key in range(KEYS):
        typed["paragraphs"][0]["text"] += f" Sie sieht das {key}. Bild."
        started = time.perf_counter()
        browser.put(f"/api/journal/d-{number:04x}", typed)
        browser.post("/api/check", typed)
        seconds.append(time.perf_counter() - started)
        time.sleep(PAUSE)


def windows(pipe: Connection, address: str) -> None:
    """Type in one window, then in twenty at once, and send back the seconds to each finding."""
    for count in (1, WINDOWS):
        seconds: list[float] = []
        pipe.recv()
        with contextlib.ExitStack() as stack:
            browsers = [stack.enter_context(Browser(address)) for _ in range(count)]
            threads = [
                threading.Thread(target=type_in, args=(browser, number, seconds))
                for number, browser in enumerate(browsers)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        pipe.send(seconds)


async def typed(folder: Path) -> list[tuple[list[float], list[float]]]:
    """Serve windows, and return the seconds to each finding, and the loop's stalls, one pair a round."""
    gc.set_threshold(*THRESHOLD)  # as the command has them
    sys.setswitchinterval(SWITCH_INTERVAL)
    with listen("127.0.0.1", 0) as listening:
        access = Access("127.0.0.1", listening.getsockname()[1])
        settings = load_settings({"out": folder / "texts", "log": folder / "runs.sqlite3"}, {})
        started = asyncio.Event()
        page = application(access, lambda: Writer(settings, environment={}), "de", started.set)
        serving = asyncio.create_task(serve(page, listening))
        await started.wait()
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        client = multiprocessing.get_context("spawn").Process(target=windows, args=(theirs, access.address))
        client.start()
        rounds = []
        await asyncio.to_thread(_warm, access.address)
        for _ in range(2):
            stalls: list[float] = []
            ticks = asyncio.create_task(ticking(stalls))
            ours.send("type")
            rounds.append((await asyncio.to_thread(ours.recv), stalls))
            ticks.cancel()
        await asyncio.to_thread(client.join)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    return rounds


def _warm(address: str) -> None:
    with Browser(address) as browser:
        browser.post("/api/check", text())


def typing_rows() -> list[Row]:
    """Measure findings and stalls while people type."""
    with tempfile.TemporaryDirectory() as folder:
        (alone, _), (many, stalls) = asyncio.run(typed(Path(folder)))
    return [
        Row("longest stall of a loop with nothing to do", f"{max(asyncio.run(idle())):.0f} ms"),
        Row("draft kept and findings there, one window", _times(alone), "≤ 150 ms"),
        Row(f"the same, {WINDOWS} windows at once", _times(many)),
        Row("longest stall of the event loop meanwhile", f"{max(stalls):.0f} ms", "≤ 100 ms"),
    ]


def _times(seconds: list[float]) -> str:
    most = sorted(seconds)[int(len(seconds) * 0.95)]
    return f"{statistics.median(seconds) * 1000:.0f} ms (95 %: {most * 1000:.0f} ms)"


def start_rows() -> list[Row]:
    """Measure the start of the command, and its memory with the house loaded."""
    pages, findings, seconds, megabytes, size = [], [], [], [], 0
    for _ in range(STARTS + 1):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            command = [SYNOPSIS, "page", "--no-open", "--port", "0"]
            with subprocess.Popen(
                command, cwd=folder, stderr=subprocess.PIPE, env={**os.environ, "XDG_DATA_HOME": folder}
            ) as process:
                assert process.stderr is not None
                found = re.search(r"http://\S+", process.stderr.readline().decode())
                assert found is not None
                with Browser(found[0]) as browser:
                    times = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
                    seconds.append((int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))
                    pages.append(time.perf_counter() - started)
                    browser.post("/api/check", text())
                    findings.append(time.perf_counter() - started)
                    html = browser.ask("GET", "/")
                    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', html.text)
                    size = sum(len(browser.ask("GET", path).content) for path in files) + len(html.content)
                process.send_signal(signal.SIGTERM)
                _, _, usage = os.wait4(process.pid, 0)
                process.returncode = 0
                megabytes.append(usage.ru_maxrss / 1024)
    return [
        Row("start of the command to the page", f"{statistics.median(pages[1:]):.2f} s", "≤ 1.5 s"),
        Row("seconds of the processor that it takes", f"{statistics.median(seconds[1:]):.2f} s"),
        Row("start of the command to the first finding", f"{statistics.median(findings[1:]):.2f} s"),
        Row("page and what it links to", f"{size / 1000:.0f} kB", "≤ 150 kB"),
        Row("memory at its peak, house and gate loaded", f"{max(megabytes):.0f} MB", "≤ 350 MB"),
    ]


_TIME = """() => {
  let pressed;
  const press = () => (pressed = performance.now());
  document.getElementById("body").addEventListener("input", press, { once: true });
  window.found = new Promise((resolve) => {
    const seen = () => pressed && resolve(performance.now() - pressed);
    new MutationObserver(seen).observe(document.getElementById("counts"), { childList: true });
  });
}"""


def paint_rows() -> list[Row]:
    """Measure what a browser shows when: Debian's Chromium, with the house loaded."""
    from playwright.sync_api import sync_playwright

    paints, findings = [], []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        home = Path(folder)
        served = Served(home, environment_of(home, None)).start()
        chromium = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        for _ in range(STARTS + 1):
            with opened(chromium, served.address) as page:
                paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                page.locator("#body").click()
                page.keyboard.insert_text(" ".join(part["text"] for part in text()["paragraphs"]) + " Ic")
                page.wait_for_timeout(1000)
                page.evaluate(_TIME)
                page.keyboard.press("h")
                findings.append(page.evaluate("window.found"))
        chromium.close()
        served.stop()
    return [
        Row("first paint in the browser", f"{statistics.median(paints[1:]):.0f} ms", "≤ 200 ms"),
        Row("a key to its finding in the browser", f"{statistics.median(findings[1:]):.0f} ms", "≤ 150 ms"),
    ]


if __name__ == "__main__":
    print_table((start_rows, typing_rows, paint_rows))
