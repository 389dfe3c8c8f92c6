"""Prints the table of corruptions as Markdown, or writes it between the markers in a document.

python -m benchmarks.damage_table [DOCUMENT]
"""

import re
import sys
from pathlib import Path

from tests.corpus.damage.table import DAMAGES
from tests.corpus.measure import as_markdown, measure

BEGIN, END = "<!-- damages: begin -->", "<!-- damages: end -->"


def main(arguments: list[str]) -> None:
    """Measure all corruptions, and print or write the table."""
    table = "\n".join(as_markdown([measure(damage) for damage in DAMAGES]))
    if not arguments:
        print(table)
        return
    document = Path(arguments[0])
    text = document.read_text(encoding="utf-8")
    block = f"{BEGIN}\n{table}\n{END}"
    renewed, count = re.subn(f"{BEGIN}.*?{END}", lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{document}: put '{BEGIN}' and '{END}' where the table belongs, once")
    document.write_text(renewed, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
