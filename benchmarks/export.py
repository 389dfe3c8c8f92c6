"""Measure `synopsis export` for a guide and for press sheets; prints one table.

    python -m benchmarks.export

The texts are those of the test corpus under new titles. The guide is a whole process of the command; the
press sheets are made in this process, and each is written to a file.
"""

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.processes import SYNOPSIS, measure, median
from benchmarks.table import Row, print_table
from synopsis_writer.document import Document, format_document
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.formats.sheets import docx_sheets, sheet_of

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "corpus" / "good"
PROGRAMMES = 1_000
SHEETS = 100


def documents(count: int) -> list[Document]:
    """Return saved synopses, each with a title of its own."""
    examples = load_pool([CORPUS]).examples

    def saved(number: int, example: Example) -> Document:
        title = f"{example.synopsis.title} {number}"
        fields = {"brief": example.brief.as_data(), **example.synopsis.front_matter(), "title": title}
        return Document(Path(f"{number}.md"), fields, example.synopsis.text)

    return [saved(number, example) for number, example in enumerate(islice(cycle(examples), count))]


def guide_rows() -> list[Row]:
    """Measure the command that fills the programmes of a guide."""
    with tempfile.TemporaryDirectory() as name:
        return [_guide_row(Path(name))]


def _guide_row(folder: Path) -> Row:
    programmes = []
    for number, document in enumerate(documents(PROGRAMMES)):
        (folder / document.path).write_text(format_document(document.meta, document.text), encoding="utf-8")
        sheet = sheet_of(document)
        programmes.append(
            f'<programme start="20260101{number % 24:02}0000 +0100" channel="eins">'
            f"<title>{sheet.show}</title><sub-title>{sheet.title}</sub-title></programme>"
        )
    guide = folder / "guide.xml"
    guide.write_text(f"<tv>{''.join(programmes)}</tv>", encoding="utf-8")
    command = [SYNOPSIS, "export", str(folder), "--format", "xmltv", "--into", str(guide)]
    samples = measure([*command, "-o", str(folder / "filled.xml"), "--force"], 5)
    filled = (folder / "filled.xml").read_text(encoding="utf-8").count("<desc")
    if filled != PROGRAMMES:
        sys.exit(f"{filled} of {PROGRAMMES} programmes were filled")
    return Row(f"`synopsis export` fills a guide of {PROGRAMMES:,} programmes", median(samples), "≤ 5 s")


def docx_rows() -> list[Row]:
    """Measure press sheets as Word files, one a synopsis."""
    sheets = [sheet_of(document) for document in documents(SHEETS)]
    with tempfile.TemporaryDirectory() as name:
        started, busy = time.perf_counter(), time.process_time()
        for number, sheet in enumerate(sheets):
            (Path(name) / f"{number}.docx").write_bytes(docx_sheets([sheet]))
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    measured = f"{seconds:.2f} s, of which the processor {busy:.2f} s"
    return [Row(f"{SHEETS} press sheets as docx", measured, "≤ 10 s")]


if __name__ == "__main__":
    print_table([guide_rows, docx_rows])
