"""Tables of briefs, a row at a time: CSV, JSON lines, YAML and Parquet, in and out."""

import csv
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from synopsis_writer.document import compose_yaml, decode
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError
from synopsis_writer.formats.sheets import plain_text
from synopsis_writer.storage.files import MOST_BYTES, open_input

COLUMNS = (
    "id",
    "show",
    "theme",
    "form",
    "character",
    "beat",
    "words",
    "character-count",
    "air-date",
    "notes",
)

_MOST_COLUMNS = 1_000
_MOST_NAMED, _LONGEST_NAME = 5, 40  # unknown columns, and letters of a name, that a message shows
_MOST_TABLE_BYTES = 1_000_000_000  # of a file: 100,000 briefs have some 30 MB


@dataclass(frozen=True)
class TableRow:
    """One row: `where` it stands, as `briefs.csv:7`, and its cells by their column of `COLUMNS`."""

    where: str
    cells: Mapping[str, Any]


def columns_of(names: Sequence[str], where: str) -> list[str]:
    """Return the columns that `names` mean: case does not count, and `air_date` is `air-date`."""
    if len(names) > _MOST_COLUMNS:
        raise BriefError(f"{where}: has {len(names)} columns: known are {', '.join(COLUMNS)}")
    columns = [name.strip().lower().replace("_", "-") for name in names]
    unknown = [name for name, column in zip(names, columns, strict=True) if column not in COLUMNS]
    if unknown:
        listed = ", ".join(
            repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…")
            for name in list(dict.fromkeys(unknown))[:_MOST_NAMED]
        )
        raise BriefError(
            f"{where}: unknown column{'s' * (len(unknown) > 1)} {listed}: known are {', '.join(COLUMNS)}"
        )
    for column in COLUMNS:
        if columns.count(column) > 1:
            raise BriefError(f"{where}: the column '{column}' appears twice: keep one")
    return columns


def row_of(where: str, pairs: Sequence[tuple[str, Any]]) -> TableRow:
    """Return the row of names and values that stand at `where`."""
    columns = columns_of([name for name, _ in pairs], where)
    return TableRow(where, dict(zip(columns, (value for _, value in pairs), strict=True)))


_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_SEP = re.compile(r'"?sep=([^"\w\s]|\t)"?[,;]*', re.IGNORECASE)  # the line before the header that Excel reads

_NULL = "tag:yaml.org,2002:null"

_YAML_HINT = "write a list of briefs, each beginning with '- show: …'"


def read_table(path: Path) -> Iterator[TableRow]:
    """Yield the rows, without holding more of the file than a few at once.

    Raises, while it is read:
        BriefError: a column is unknown, or a row is not what its format wants; names the line.
        FileError: the file is missing, a folder, of an unknown kind, binary, damaged or not UTF-8.
        SettingsError: it is Parquet, and pyarrow is not installed.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None and not path.is_dir():
        raise FileError(
            f"{path}: '{path.suffix}' is not a table of briefs: name a file in {', '.join(sorted(_READERS))}"
        )
    with opened(path) as file:
        yield from read(path, file) if read is not None else ()


def opened(path: Path) -> AbstractContextManager[BufferedReader]:
    """Open a table to read its bytes; raises FileError."""
    return open_input(path, _MOST_TABLE_BYTES, "split it into several batches")


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """Yield the lines with their ends, without a byte order mark."""
    for number in itertools.count(1):
        data = file.readline(MOST_BYTES + 1)
        if not data:
            return
        where = f"{path}:{number}"
        if len(data) > MOST_BYTES:
            raise FileError(f"{where}: the line is longer than 1 MB: that is not a brief")
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
    header, first = next(lines, ""), 1
    if named := _SEP.fullmatch(header.rstrip("\r\n ")):
        header, first = next(lines, ""), 2
    delimiter = named[1] if named else max(_DELIMITERS, key=header.count)
    columns: list[str] = []
    for line, cells in _records(path, itertools.chain([header], lines), delimiter, first):
        where = f"{path}:{line}"
        if not columns:
            columns = columns_of(cells, where)
        elif len(cells) > len(columns):
            raise BriefError(
                f"{where}: has {len(cells)} cells for {len(columns)} columns: "
                f"put a text that holds a {_DELIMITERS.get(delimiter, delimiter)} in quotes"
            )
        elif cells:
            yield TableRow(where, dict(zip(columns, map(plain_text, cells), strict=False)))


def _records(path: Path, lines: Iterable[str], delimiter: str, first: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each record, without empty cells at its end, with the line on which it begins."""
    size = 0

    def counted() -> Iterator[str]:
        nonlocal size
        for line in lines:  # a cell in quotes may have many lines
            size += len(line)
            if size > MOST_BYTES:
                raise BriefError(f"{path}:{begins}: the row that begins here is longer than 1 MB")
            yield line

    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    while True:
        begins, size = reader.line_num + first, 0
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            text = str(error)
            problem = (
                "has a quote that is never closed, or a cell that is far too long: close the quote"
                if "unexpected end" in text or "larger than field limit" in text
                else f"is not CSV ({text}): put cells with quotes or line breaks in quotes, "
                "and double their quotes"
            )
            raise BriefError(f"{path}:{begins}: the row that begins here {problem}") from error
        while record and not record[-1].strip():  # spreadsheets like to add empty cells
            record.pop()
        yield begins, record


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
            raise BriefError(f"{where}: is not a JSON object: write one a line, in braces")
        yield row_of(where, pairs)


def _read_parquet(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    arrow = pyarrow()
    try:
        table = _open_parquet(path, file, arrow)
        columns = columns_of(table.schema_arrow.names, str(path))
        for number, row in enumerate(_parquet_rows(path, table, arrow), 1):
            yield TableRow(f"{path}: row {number}", dict(zip(columns, row.values(), strict=True)))
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise FileError(f"{path}: not Parquet, or damaged: {reason}: write the file again") from error


def _open_parquet(path: Path, file: BinaryIO, arrow: Any) -> Any:
    """Open a Parquet file within bounds, by its footer: a few kilobytes can stand for gigabytes.

    A text that is repeated takes memory once.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))  # the length of the footer, and a mark
    if int.from_bytes(file.read(4), "little") > _MOST_FOOTER_BYTES < size:
        raise FileError(f"{path}: has a footer of over {_MOST_FOOTER_BYTES // 10**6} MB: write it again")
    file.seek(0)
    footer = arrow.parquet.read_metadata(file)
    if footer.num_columns > _MOST_COLUMNS:
        raise BriefError(f"{path}: has {footer.num_columns} columns: known are {', '.join(COLUMNS)}")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        chunks = [group.column(index) for index in range(group.num_columns)]
        count = max((chunk.num_values for chunk in chunks), default=0)
        if count > _MOST_VALUES or sum(chunk.total_uncompressed_size for chunk in chunks) > _MOST_GROUP_BYTES:
            raise FileError(
                f"{path}: row group {number + 1} holds over {_MOST_GROUP_BYTES // 10**6} MB, or "
                f"{_MOST_VALUES // 10**6} million values, of a column: write smaller groups"
            )
    leaves = [footer.schema.column(index) for index in range(footer.num_columns)]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    file.seek(0)
    return arrow.parquet.ParquetFile(
        file, metadata=footer, read_dictionary=texts, pre_buffer=False, buffer_size=_MOST_BATCH_BYTES
    )


def _parquet_rows(path: Path, table: Any, arrow: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows, no more than a few megabytes of them at a time."""
    compute = arrow.compute
    for batch in table.iter_batches(batch_size=_ROWS):
        widest = 1
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            cells, count = column, 1
            if arrow.types.is_list(column.type) or arrow.types.is_large_list(column.type):
                cells, count = column.flatten(), compute.max(compute.list_value_length(column)).as_py() or 1
            kind = cells.type
            width = getattr(kind, "byte_width", 8) if arrow.types.is_primitive(kind) else 8
            if arrow.types.is_dictionary(kind):
                width = compute.max(compute.binary_length(cells.dictionary)).as_py() or 1
            elif not arrow.types.is_primitive(kind) and not arrow.types.is_null(kind):
                raise BriefError(f"{path}: the column '{name}' holds {kind}: write text, or lists of it")
            if width * count > MOST_BYTES:
                raise BriefError(f"{path}: the column '{name}' has a cell of over 1 MB: that is not a brief")
            widest += width * count
        step = max(1, _MOST_BATCH_BYTES // widest)
        for start in range(0, batch.num_rows, step):
            yield from batch.slice(start, step).to_pylist()


def _read_yaml(path: Path, file: BinaryIO) -> Iterator[TableRow]:
    """Yield the mappings of a list. All values are text, as they are written: `007` and dates stay so."""

    def wrong(node: yaml.Node, problem: str) -> BriefError:
        return BriefError(f"{path}:{node.start_mark.line + 1}: {problem}")

    def text(node: yaml.Node, column: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            raise wrong(node, f"'{column}' is not a text: write a text, or a list of texts")
        return None if node.tag == _NULL else str(node.value)

    for document in _yaml_documents(path, file):
        if not isinstance(document, yaml.SequenceNode):
            raise wrong(document, f"is not a list: {_YAML_HINT}")
        for row in document.value:
            if not isinstance(row, yaml.MappingNode):
                raise wrong(row, f"is not a brief: {_YAML_HINT}")
            pairs: list[tuple[str, Any]] = []
            for key, node in row.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise wrong(key, "is not a column's name: write 'name: value'")
                is_list = isinstance(node, yaml.SequenceNode)
                cell = [text(part, key.value) for part in node.value] if is_list else text(node, key.value)
                pairs.append((key.value, cell))
            yield row_of(f"{path}:{row.start_mark.line + 1}", pairs)


def _yaml_documents(path: Path, file: BinaryIO) -> list[yaml.Node]:
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise FileError(f"{path}: is larger than 1 MB: write so many briefs as .csv or .jsonl")
    text = decode(data, str(path))
    try:
        return compose_yaml(text, path)
    except InputError as error:
        raise BriefError(str(error)) from error


_READERS: Mapping[str, Callable[[Path, BinaryIO], Iterator[TableRow]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}

_MOST_FOOTER_BYTES, _MOST_GROUP_BYTES, _MOST_BATCH_BYTES = 16_000_000, 200_000_000, 8_000_000

_MOST_VALUES = 10_000_000  # of a column in one row group

_ROWS = 1_000  # in memory at once: some hundred kilobytes of briefs, about 5 MB of synopses


def pyarrow() -> Any:
    """Return the module, with `parquet` loaded; raises SettingsError where it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise SettingsError(
            "Parquet files need pyarrow: pip install 'synopsis-writer[parquet]', or use .csv or .jsonl"
        ) from error
    return pa


def write_parquet(rows: Iterable[Mapping[str, Any]], file: BinaryIO, columns: Mapping[str, Any]) -> int:
    """Write the rows into `file`, and return their number; `columns` has each column's Arrow type."""
    arrow = pyarrow()
    schema = arrow.schema(list(columns.items()))
    rows, count = iter(rows), 0
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(itertools.islice(rows, _ROWS)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count
