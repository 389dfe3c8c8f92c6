"""Measure the style gate and the copy check, in one process on one core; prints one table.

    python -m benchmarks.gate

The texts are the 33 of the test corpus; each is judged once, as a text that was never seen, after the
examples have warmed the gate up. The copy guard is measured on 100,000 texts of 350 words drawn from the
examples' words.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, print_table
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.gate.copies import Source, index_sources
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.show import find_show, generic_show
from synopsis_writer.workspace import open_workspace

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
SOURCES = 100_000
WORDS = 350


def memory(kind: str) -> int:
    """Return a figure of this process in MB: `RssAnon` now, without mapped files; `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(kind))


def gate_rows() -> list[Row]:
    """Measure loading, a new text, and memory."""
    started = time.perf_counter()
    workspace = open_workspace(load_settings({}))
    workspace.gate.warm_up()

    def judge(example: Example) -> float:
        show = find_show(workspace.pool.shows, example.brief.show) or generic_show(example.brief.show)
        begun = time.perf_counter()
        workspace.gate.examine(example.synopsis, example.brief, show)
        return time.perf_counter() - begun

    judge(workspace.pool.examples[0])
    loaded = time.perf_counter() - started
    for example in workspace.pool.examples:
        judge(example)
    unseen = [judge(example) for example in load_pool([CORPUS]).examples]
    again = [judge(example) for example in load_pool([CORPUS]).examples]
    return [
        Row("load everything and judge the first text", f"{loaded:.2f} s", "≤ 1 s"),
        Row("the gate on a text never seen, median", f"{statistics.median(unseen) * 1000:.1f} ms", "≤ 25 ms"),
        Row("the slowest of them", f"{max(unseen) * 1000:.1f} ms"),
        Row("the same texts again, median", f"{statistics.median(again) * 1000:.1f} ms"),
        Row("resident memory with all word lists", f"{memory('VmHWM')} MB", "≤ 400 MB"),
    ]


def copy_rows() -> list[Row]:
    """Measure the copy check against 100,000 texts: building, size, heap, and a query."""
    examples = load_pool([folder("examples")]).examples
    vocabulary = sorted({word for example in examples for word in example.synopsis.text.split()})
    rng = random.Random(1)
    texts = {f"text/{number}": " ".join(rng.choices(vocabulary, k=WORDS)) for number in range(SOURCES)}
    sources = [Source(name, text) for name, text in texts.items()]
    with tempfile.TemporaryDirectory() as folder_name:
        cache = Path(folder_name)
        started = time.perf_counter()
        index_sources(sources, cache)
        built = time.perf_counter() - started
        size = sum(file.stat().st_size for file in cache.glob("*/*"))
        before = memory("RssAnon")
        opened = index_sources(sources, cache)
        copied = " ".join(texts["text/77"].split()[100:120])
        asked = [analyse(f"{example.synopsis.text} {copied}") for example in examples]
        seconds = []
        for text in asked:
            begun = time.perf_counter()
            found = opened.matches(text, frozenset())
            seconds.append(time.perf_counter() - begun)
            if [match.source for match in found if match.words == len(copied.split())] != ["text/77"]:
                raise SystemExit("the copy guard missed a copied run")
        heap = memory("RssAnon") - before
    return [
        Row(f"copy guard: build and save the index of {SOURCES:,} texts", f"{built:.0f} s", "≤ 60 s"),
        Row("its size on disk", f"{size / 1e6:.0f} MB", "≤ 500 MB"),
        Row("what opening it and 28 queries add to the heap", f"{heap} MB"),
        Row("a query that finds 20 copied words, median", f"{statistics.median(seconds) * 1000:.1f} ms", "≤ 5 ms"),
    ]


if __name__ == "__main__":
    print_table((gate_rows, copy_rows))
