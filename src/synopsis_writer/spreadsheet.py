"""CSV records that a spreadsheet opens without running them."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

# What makes a spreadsheet take a cell for a formula, as OWASP's page on CSV injection lists it.
_SIGNS = "=+\\-@＝＋－＠"
# A cell begins at its text's begin; and within it where a spreadsheet parts cells by semicolon or tab, as a
# German one does, and so takes no notice of quotes. Apostrophes before it: those that were added, or its own.
_BEGINS = rf"\A(?='*[{_SIGNS}\t\r\n])|(?<=[;\t\r\n])(?='*[{_SIGNS}])"
_FORMULA = re.compile(_BEGINS)
_DISARMED = re.compile(_BEGINS.replace("(?='*", "'(?='*"))


def csv_record(values: Iterable[Any]) -> str:
    """Return one CSV record; None is empty, and a truth value is `true` or `false`.

    What a spreadsheet would run as a formula has an apostrophe before it; `plain_text` takes it off again.
    Records end in CR LF, as RFC 4180 has it, and a text keeps its line ends within quotes.
    """
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def plain_text(cell: str) -> str:
    """Return the text of a cell, without the apostrophes that `csv_record` put before formulas."""
    return _DISARMED.sub("", cell)
