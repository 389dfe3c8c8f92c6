"""CSV records that a spreadsheet opens without running them."""

import csv
import io
from collections.abc import Iterable
from typing import Any

# What makes a spreadsheet take a cell for a formula, as OWASP's page on CSV injection lists it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_record(values: Iterable[Any]) -> str:
    """Return one CSV record; None is empty, and a truth value is `true` or `false`.

    A text that a spreadsheet would run as a formula has an apostrophe before it. Records end in CR LF, as
    RFC 4180 has it, and a text keeps its line ends within quotes.
    """
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
