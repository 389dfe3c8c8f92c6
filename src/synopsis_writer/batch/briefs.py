"""The briefs of a batch, one per row and each with its own id, from CSV, JSON lines, YAML or Parquet."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import yaml
from pydantic import BeforeValidator, ConfigDict, ValidationError

from synopsis_writer.brief import Brief, clean_line
from synopsis_writer.document import compose_yaml, decode
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError, explain
from synopsis_writer.formats.reading import MOST_COLUMNS, csv_records, plain_text
from synopsis_writer.house import House, built_in_house
from synopsis_writer.storage.files import MOST_BYTES, open_input, read_input

COLUMNS = tuple("id show theme form character beat words character-count air-date notes".split())

_FIELD_COLUMNS = {"characters": "character", "beats": "beat"}  # where they are not the fields, with hyphens
_BETWEEN = re.compile(r"\s+\|\s+|[\r\n]+")  # between the parts of a list in one cell
_LONGEST_ID = 100
_MOST_PARTS = 1_000  # of a list that are read, in order to say what is wrong with it

_MOST_NAMED, _LONGEST_NAME = 5, 40  # unknown columns, and letters of a name, that a message shows
_MOST_TABLE_BYTES = 1_000_000_000  # of a file: 100,000 briefs take some 30 MB


@dataclass(frozen=True)
class BatchRow:
    """One brief of a batch."""

    id: str  # 1 to 100 printable characters without a slash, unique in its batch
    place: int  # in its file, from 1; blank lines do not count
    brief: Brief


def _check_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("is no text: write it in quotes")  # noqa: TRY004 - for pydantic
    name = clean_line(str(value))
    if len(name) > _LONGEST_ID or "/" in name or not name.isprintable():
        raise ValueError(f"'{name[:40]}' is no id: write 1 to {_LONGEST_ID} printable characters, no '/'")
    return name


class _Cells(Brief, frozen=True):
    """A brief by its columns: an error names the field as the person wrote it."""

    model_config = ConfigDict(alias_generator=lambda name: _FIELD_COLUMNS.get(name, name.replace("_", "-")))

    id: Annotated[str, BeforeValidator(_check_id)] = ""


def read_briefs(path: Path, house: House | None = None) -> Iterator[BatchRow]:
    """Yield the briefs of a `.csv`, `.jsonl`, `.ndjson`, `.yaml`, `.yml` or `.parquet` file, one by one.

    A form is one of `house`, or of the built-in house; a row without an id gets `id_of`. Raises InputError while
    it is read: BriefError for a wrong column, brief or id, FileError for the file, SettingsError where it is
    Parquet and pyarrow is not installed.
    """
    places: dict[bytes, int] = {}
    for place, (where, cells) in enumerate(read_table(path), 1):
        brief, given = _brief(where, cells, house or built_in_house())
        name = given or id_of(brief)
        first = places.setdefault(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), place)
        if first != place:
            raise BriefError(
                f"{where}: row {place} has the id '{given}' of row {first}: give each an id of its own"
                if given
                else f"{where}: row {place} asks for the same as row {first}: give both an id, in a column 'id'"
            )
        yield BatchRow(name, place, brief)
    if not places:
        raise BriefError(f"{path}: holds no brief: write one a row, with 'show' and 'theme' at least")


def _brief(where: str, cells: Mapping[str, Any], house: House) -> tuple[Brief, str]:
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        value = cell
        if isinstance(cell, str):
            parts = [part for part in _BETWEEN.split(cell) if part.strip()]
            value = parts if column in {"character", "beat"} else cell.strip()
        if isinstance(value, list | tuple):
            value = value[:_MOST_PARTS]
        if value not in (None, "", []):
            values[column] = value
    try:
        row = _Cells.model_validate(values)
        form = house.form(row.named_form).name
    except ValidationError as error:
        raise BriefError(f"{where}: {explain(error)}") from error
    except BriefError as error:
        raise BriefError(f"{where}: form: {error}") from error
    fields = {**dict(row), "form": form}
    name = fields.pop("id")
    return Brief.model_construct(row.model_fields_set - {"id"}, **fields), name


def id_of(brief: Brief) -> str:
    """Return 16 hex digits of the SHA-256 of the brief as JSON: its given fields, sorted, without spaces."""
    text = json.dumps(brief.as_data(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, as hex digits."""
    with open_input(path, _MOST_TABLE_BYTES, _SPLIT) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SPLIT = "split it into several batches"

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands, as `briefs.csv:7`, and its cells by their columns."""


def read_table(path: Path) -> Iterator[Row]:
    """Yield the rows, holding only a few at once in memory; raises as `read_briefs`."""
    read = _READERS.get(path.suffix.lower())
    if read is None and not path.is_dir():
        raise FileError(
            f"{path}: '{path.suffix}' is not a table of briefs: name a file in {', '.join(sorted(_READERS))}"
        )
    with open_input(path, _MOST_TABLE_BYTES, _SPLIT) as file:
        yield from read(path, file) if read is not None else ()


def _columns(names: Sequence[str], where: str) -> list[str]:
    """Return the columns that `names` stand for: case does not count, and `air_date` is `air-date`."""
    if len(names) > MOST_COLUMNS:
        raise BriefError(f"{where}: has {len(names)} columns: known are {', '.join(COLUMNS)}")
    columns = [name.strip().lower().replace("_", "-") for name in names]
    unknown = [name for name, column in zip(names, columns, strict=True) if column not in COLUMNS]
    if unknown:
        shown = [name[:_LONGEST_NAME] + "…" * (len(name) > _LONGEST_NAME) for name in dict.fromkeys(unknown)]
        what = f"unknown column{'s' * (len(unknown) > 1)} {', '.join(map(repr, shown[:_MOST_NAMED]))}"
        raise BriefError(f"{where}: {what}: known are {', '.join(COLUMNS)}")
    for column in COLUMNS:
        if columns.count(column) > 1:
            raise BriefError(f"{where}: the column '{column}' appears twice: keep one")
    return columns


def _row(where: str, pairs: Sequence[tuple[str, Any]]) -> Row:
    columns = _columns([name for name, _ in pairs], where)
    return where, dict(zip(columns, (value for _, value in pairs), strict=True))


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
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


_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


def _read_csv(path: Path, file: BinaryIO) -> Iterator[Row]:
    columns: list[str] = []
    for line, record, delimiter in csv_records(_lines(path, file), path):
        where = f"{path}:{line}"
        # Without the empty cells at its end that spreadsheets add.
        cells = [*itertools.dropwhile(lambda cell: not cell.strip(), reversed(record))][::-1]
        if not columns:
            columns = _columns(cells, where)
        elif len(cells) > len(columns):
            raise BriefError(
                f"{where}: has {len(cells)} cells for {len(columns)} columns: "
                f"put a text that holds a {_DELIMITERS.get(delimiter, delimiter)} in quotes"
            )
        elif cells:
            yield where, dict(zip(columns, map(plain_text, cells), strict=False))


def _read_jsonl(path: Path, file: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(_lines(path, file), 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=tuple)  # a dict would hide a name that occurs twice
        except (ValueError, RecursionError) as error:
            raise BriefError(f"{where}: not JSON: {error}: write one object a line") from error
        if not isinstance(pairs, tuple):
            raise BriefError(f"{where}: is not a JSON object: write one a line, in braces")
        yield _row(where, pairs)


def _read_yaml(path: Path, _: BinaryIO) -> Iterator[Row]:
    """Yield the mappings of a list. All values are text, as they are written: `007` and dates stay so."""
    text = decode(read_input(path, hint="write so many briefs as .csv or .jsonl"), str(path))
    try:
        documents = compose_yaml(text, path)
    except InputError as error:
        raise BriefError(str(error)) from error
    for document in documents:
        for row in document.value if isinstance(document, yaml.SequenceNode) else [document]:
            where = f"{path}:{row.start_mark.line + 1}"
            if row is document or not isinstance(row, yaml.MappingNode):
                raise BriefError(f"{where}: write a list of briefs, each beginning with '- show: …'")
            yield _row(where, [(str(_yaml_value(key)), _yaml_value(value)) for key, value in row.value])


def _yaml_value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag.endswith(":null") else node.value
    return [_yaml_value(part) for part in node.value] if isinstance(node, yaml.SequenceNode) else {}


_MOST_GROUP_BYTES, _MOST_VALUES = 200_000_000, 10_000_000  # of a row group, and of a column in it
_MOST_BATCH_BYTES = 8_000_000  # in memory
ROWS_AT_ONCE = 1_000  # in memory: some hundred kilobytes of briefs, about 5 MB of synopses


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


def _read_parquet(path: Path, file: BinaryIO) -> Iterator[Row]:
    """Yield the rows within bounds: a few kilobytes can stand for gigabytes."""
    arrow, numbers = pyarrow(), itertools.count(1)
    try:
        footer = arrow.parquet.read_metadata(file)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            values = max((group.column(index).num_values for index in range(group.num_columns)), default=0)
            if group.total_byte_size > _MOST_GROUP_BYTES or values > _MOST_VALUES:
                raise FileError(
                    f"{path}: a row group holds over {_MOST_GROUP_BYTES // 10**6} MB, or "
                    f"{_MOST_VALUES // 10**6} million values, of a column: write smaller groups"
                )
        leaves = map(footer.schema.column, range(footer.num_columns))
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]  # once, where repeated
        options = {"read_dictionary": texts, "pre_buffer": False, "buffer_size": _MOST_BATCH_BYTES}
        table = arrow.parquet.ParquetFile(file, metadata=footer, **options)
        columns = _columns(table.schema_arrow.names, str(path))
        for batch in table.iter_batches(batch_size=ROWS_AT_ONCE):
            named = zip(batch.schema.names, batch.columns, strict=True)
            size = sum(_most_bytes(f"{path}: the column '{name}'", cells, arrow) for name, cells in named)
            step = max(1, _MOST_BATCH_BYTES // (1 + size))
            for start in range(0, batch.num_rows, step):
                for row in batch.slice(start, step).to_pylist():
                    yield f"{path}: row {next(numbers)}", dict(zip(columns, row.values(), strict=True))
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise FileError(f"{path}: not Parquet, or damaged: {reason}: write the file again") from error


def _most_bytes(where: str, cells: Any, arrow: Any) -> int:
    """Return the most bytes that one cell takes; raises BriefError for over 1 MB, and for values that are not text."""
    longest, parts = arrow.compute.max, 1
    if arrow.types.is_list(cells.type) or arrow.types.is_large_list(cells.type):
        parts = longest(arrow.compute.list_value_length(cells)).as_py() or 0
        cells = cells.flatten()
    size = 8
    if arrow.types.is_dictionary(cells.type):
        size = longest(arrow.compute.binary_length(cells.dictionary)).as_py() or 0
    elif not arrow.types.is_primitive(cells.type) and not arrow.types.is_null(cells.type):
        raise BriefError(f"{where} holds {cells.type}: write text, or lists of it")
    if size * parts > MOST_BYTES:
        raise BriefError(f"{where} has a cell of over 1 MB: that is not a brief")
    return size * parts


_READERS: Mapping[str, Callable[[Path, BinaryIO], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
