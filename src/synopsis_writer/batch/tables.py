"""Tables of briefs, a row at a time: CSV, JSON lines, YAML and Parquet, by the file's ending."""

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from synopsis_writer.batch.columns import TableRow, columns_of, row_of
from synopsis_writer.batch.parquet import Parquet
from synopsis_writer.batch.yamlrows import read_yaml_rows
from synopsis_writer.document import MOST_BYTES
from synopsis_writer.errors import BriefError, FileError, os_reason
from synopsis_writer.spreadsheet import plain_text

_DELIMITERS = ",;\t"


def read_table(path: Path) -> Iterator[TableRow]:
    """Yield the rows, without holding more of the file than a few at once.

    Raises, while it is read:
        BriefError: a column is unknown, or a row is not what its format wants; names the line and the mend.
        FileError: the file is missing, a folder, of an unknown kind, binary, damaged or not UTF-8.
        SettingsError: it is Parquet, and pyarrow is not installed.
    """
    if path.is_dir():
        raise FileError(f"{path}: is a folder: name a file in it")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise FileError(
            f"{path}: '{path.suffix}' is no kind of briefs: name a file in {', '.join(sorted(_READERS))}"
        )
    with opened(path) as file:
        yield from read(path, file)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file to read its bytes.

    Raises:
        FileError: it is missing, a folder, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise FileError(os_reason(error, path)) from error


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """Yield the lines with their ends, without a byte order mark."""
    for number in itertools.count(1):
        data = file.readline(MOST_BYTES + 1)
        if not data:
            return
        where = f"{path}:{number}"
        if len(data) > MOST_BYTES:
            raise FileError(f"{where}: the line is longer than 1 MB: that is no brief")
        if b"\0" in data:
            raise FileError(f"{where}: holds a NUL byte, as binary files do: save it as UTF-8 text")
        try:
            yield data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise FileError(
                f"{where}: is not UTF-8 (byte {error.start + 1} of the line): save it as UTF-8 text"
            ) from error


def _read_csv(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    lines = _lines(path, file)
    header = next(lines, "")
    delimiter = max(_DELIMITERS, key=header.count)
    columns: list[str] = []
    for line, record in _records(path, itertools.chain([header], lines), delimiter):
        where, cells = f"{path}:{line}", _without_empty_end(record)
        if not columns:
            columns = columns_of(cells, where)
        elif len(cells) > len(columns):
            raise BriefError(
                f"{where}: has {len(cells)} cells for {len(columns)} columns: "
                f"put a text that holds a {_spoken(delimiter)} in quotes"
            )
        elif cells:
            yield TableRow(where, dict(zip(columns, map(plain_text, cells), strict=False)))


def _records(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line on which it begins."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BriefError(f"{path}:{begins}: the row that begins here {_csv_fault(error)}") from error
        yield begins, record


def _csv_fault(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text or "larger than field limit" in text:
        return "has a quote that is never closed, or a cell that is far too long: close the quote"
    return f"is no CSV ({text}): put cells with quotes or line breaks in quotes, and double their quotes"


def _spoken(delimiter: str) -> str:
    return {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]


def _without_empty_end(cells: list[str]) -> list[str]:
    """Leave out the empty cells that spreadsheets like to add to a row."""
    count = len(cells)
    while count and not cells[count - 1].strip():
        count -= 1
    return cells[:count]


def _read_jsonl(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    for number, line in enumerate(_lines(path, file), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=tuple)  # a dict would hide a name that stands twice
        except (ValueError, RecursionError) as error:
            raise BriefError(f"{where}: not JSON: {error}: write one object a line") from error
        if not isinstance(pairs, tuple):
            raise BriefError(f"{where}: is no JSON object: write one a line, in braces")
        yield row_of(where, pairs)


def _read_parquet(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    table = Parquet(path, file)
    columns = columns_of(table.names, str(path))
    for number, row in enumerate(table.rows(), 1):
        yield TableRow(f"{path}: row {number}", dict(zip(columns, row.values(), strict=True)))


_READERS: Mapping[str, Callable[[Path, BinaryIO], Iterator[TableRow]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".yaml": read_yaml_rows,
    ".yml": read_yaml_rows,
}
