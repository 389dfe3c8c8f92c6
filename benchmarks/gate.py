"""Measure the style gate and the copy check, in one process on one core; prints one table.

    python -m benchmarks.gate

The texts are the 33 of the test corpus, whole and cut behind the sentence that is nearest to 350 words; each is
judged once, as a text that was never seen, in a process of which only the examples have warmed the gate up. The
copy guard is measured on 100,000 texts of 350 words drawn from the examples' words. Times are of the processor,
so that other work does not count, unless they say otherwise.
"""

import gc
import multiprocessing
import random
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from benchmarks.table import Row, print_table
from synopsis_writer.cli import THRESHOLD
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.gate.sources import Source, index_sources
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.show import find_show, generic_show
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import open_workspace

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
SOURCES = 100_000
WORDS = 350


def memory(kind: str) -> int:
    """Return a figure of this process in MB: `RssAnon` now, without mapped files; `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith(kind))


def cut(synopsis: Synopsis) -> Synopsis:
    """Return a synopsis without the sentences behind the one that is nearest to 350 words."""
    text = analyse(synopsis.text)
    counts = list(accumulate(sentence.length for sentence in text.sentences))
    last = min(range(len(counts)), key=lambda index: abs(counts[index] - WORDS))
    parts: dict[int, list[str]] = {}
    for sentence in text.sentences[: last + 1]:
        parts.setdefault(sentence.paragraph, []).append(sentence.text)
    paragraphs = [synopsis.paragraphs[n].model_copy(update={"text": " ".join(part)}) for n, part in parts.items()]
    return synopsis.model_copy(update={"paragraphs": tuple(paragraphs)})


def measure(*, whole: bool) -> list[Row]:
    """Measure new texts, whole or cut to about 350 words; with whole ones loading and memory, too."""
    gc.set_threshold(*THRESHOLD)  # as the command does
    started, clock = time.process_time(), time.perf_counter()
    workspace = open_workspace(load_settings({}))
    workspace.gate.warm_up()

    def judge(example: Example) -> float:
        show = find_show(workspace.pool.shows, example.brief.show) or generic_show(example.brief.show)
        begun = time.process_time()
        workspace.gate.examine(example.synopsis, example.brief, show)
        return time.process_time() - begun

    judge(workspace.pool.examples[0])
    loaded = f"{time.process_time() - started:.2f} s ({time.perf_counter() - clock:.2f} s by the clock)"
    for example in workspace.pool.examples:
        judge(example)
    corpus = load_pool([CORPUS]).examples
    texts = corpus if whole else [replace(example, synopsis=cut(example.synopsis)) for example in corpus]
    unseen, again = [judge(example) for example in texts], [judge(example) for example in texts]
    words = round(statistics.median(len(example.synopsis.text.split()) for example in texts))
    limit = "" if whole else "≤ 20 ms"
    rows = [
        Row(f"the gate on a new text of {words} words, median", f"{statistics.median(unseen) * 1000:.1f} ms", limit),
        Row(f"the slowest of {len(texts)}", f"{max(unseen) * 1000:.1f} ms"),
        Row("the same texts again, median", f"{statistics.median(again) * 1000:.1f} ms"),
    ]
    if whole:
        rows.insert(0, Row("load everything and judge the first text", loaded, "≤ 1 s"))
        rows.append(Row("resident memory with all word lists", f"{memory('VmHWM')} MB", "≤ 400 MB"))
    return rows


def gate_rows() -> list[Row]:
    """Measure both kinds of texts, each in a process that has not seen the other."""
    rows: list[Row] = []
    for whole in (False, True):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(measure, kwds={"whole": whole})
    return rows


def copy_rows() -> list[Row]:
    """Measure the copy check against 100,000 texts: building, size, heap, and a query."""
    examples = load_pool([folder("examples")]).examples
    vocabulary = sorted({word for example in examples for word in example.synopsis.text.split()})
    rng = random.Random(1)
    texts = {f"text/{number}": " ".join(rng.choices(vocabulary, k=WORDS)) for number in range(SOURCES)}
    sources = [Source(name, text) for name, text in texts.items()]
    with tempfile.TemporaryDirectory() as folder_name:
        cache = Path(folder_name)
        started = time.process_time()
        index_sources(sources, cache)
        built = time.process_time() - started
        size = sum(file.stat().st_size for file in cache.glob("*/*"))
        before = memory("RssAnon")
        opened = index_sources(sources, cache)
        copied = " ".join(texts["text/77"].split()[100:120])
        asked = [analyse(f"{example.synopsis.text} {copied}") for example in examples]
        seconds = []
        for text in asked:
            begun = time.process_time()
            found = opened.matches(text, frozenset())
            seconds.append(time.process_time() - begun)
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
