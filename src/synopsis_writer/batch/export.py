"""A batch's texts for people and other programs: Markdown files, JSON lines, CSV or Parquet."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synopsis_writer.batch.store import SavedRow
from synopsis_writer.batch.tables import pyarrow, write_parquet
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.formats.sheets import csv_record
from synopsis_writer.result import render
from synopsis_writer.storage.files import new_folder, replacing, slug

# Of the provenance, what has a column of its own; the rest is in the column `meta`.
_PROVENANCE = ("model", "draft", "attempts", "cost", "seconds", "created")


def _value(name: str) -> Callable[[SavedRow], Any]:
    return lambda row: row.provenance.get(name)


_COLUMNS: Mapping[str, Callable[[SavedRow], Any]] = {
    "id": lambda row: row.id,
    "place": lambda row: row.place,
    "show": lambda row: row.brief.show,
    "theme": lambda row: row.brief.theme,
    "form": lambda row: row.brief.form,
    "character": lambda row: list(row.brief.characters),
    "beat": lambda row: list(row.brief.beats),
    "words": lambda row: row.brief.as_data().get("words"),
    "character-count": lambda row: row.brief.as_data().get("character_count"),
    "air-date": lambda row: row.brief.air_date,
    "notes": lambda row: row.brief.notes,
    "title": lambda row: row.synopsis.title,
    "logline": lambda row: row.synopsis.logline,
    "characters": lambda row: [dict(person) for person in row.synopsis.characters],
    "storylines": lambda row: [paragraph.storyline for paragraph in row.synopsis.paragraphs],
    "text": lambda row: row.synopsis.text,
    **{name: _value(name) for name in _PROVENANCE},
    "meta": lambda row: _rest(row.provenance),
}


def documents(rows: Iterable[SavedRow]) -> Iterator[Document]:
    """Yield each row as the saved file that it would be, with its id as the path."""
    for row in rows:
        yield Document(Path(row.id), _fields(row), row.synopsis.text)


def export_md(rows: Iterable[SavedRow], folder: Path) -> int:
    """Write `<folder>/<show-slug>/<id-slug>.md` a row, and return their number.

    `load_example` reads each file back, and the folder serves as a pool of examples. Where two ids have one
    slug, the later file has 16 hex digits of its id's SHA-256 behind it. The folder appears when it is whole.

    Raises:
        FileError: it cannot be written, or is there and holds anything; nothing is left behind.
    """
    count = 0
    with _appearing(folder) as hidden:
        for row in rows:
            count += 1
            home = hidden / slug(row.brief.show)
            home.mkdir(exist_ok=True)
            path = home / f"{slug(row.id)}.md"
            if path.exists():
                digest = hashlib.sha256(row.id.encode("utf-8")).hexdigest()[:16]
                path = home / f"{slug(row.id)}-{digest}.md"
            path.write_bytes(render(_fields(row), row.synopsis, "md").encode("utf-8"))
    return count


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a hidden folder, which becomes `folder` when the block ends without a fault."""
    try:
        target = folder.resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileError(f"{folder}: already exists; choose a new or empty folder")
        with new_folder(target) as hidden:
            yield hidden
    except OSError as error:
        raise FileError(f"cannot export into {os_reason(error, folder)}: name another folder") from error


def export_jsonl(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a line of JSON a row, with the fields of a saved file and `text`; return the number of rows.

    Raises:
        FileError: the file cannot be written; what was there stays as it was.
    """
    count = 0
    with replacing(path, output=True) as file:
        for row in rows:
            count += 1
            fields = {**_fields(row), "text": row.synopsis.text}
            file.write(json.dumps(fields, ensure_ascii=False).encode("utf-8") + b"\n")
    return count


def export_csv(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a table with a header; no cell of it runs as a formula; return the number of rows.

    A list stands in one cell with ` | ` between its parts, a person as `name (role)`, and `meta` is JSON.

    Raises:
        FileError: the file cannot be written; what was there stays as it was.
    """
    count = 0
    with replacing(path, output=True) as file:
        file.write(csv_record(_COLUMNS).encode("utf-8"))
        for row in rows:
            count += 1
            file.write(csv_record(_flat(value) for value in _cells(row).values()).encode("utf-8"))
    return count


def export_parquet(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a Parquet file with the columns of `export_csv`, lists as lists; return the number of rows.

    Raises:
        FileError: the file cannot be written; what was there stays as it was.
        SettingsError: pyarrow is not installed.
    """
    types = _types()
    with replacing(path, output=True) as file:
        return write_parquet((_cells(row) for row in rows), file, types)


def _fields(row: SavedRow) -> dict[str, Any]:
    fields = {"brief": row.brief.as_data(), **row.synopsis.front_matter()}
    place = {"id": row.id, "place": row.place}
    return fields | place | dict(row.provenance) | fields  # the text's own fields hold, and come first


def _cells(row: SavedRow) -> dict[str, Any]:
    return {column: value(row) for column, value in _COLUMNS.items()}


def _rest(provenance: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in provenance.items() if name not in _PROVENANCE}
    return json.dumps(rest, ensure_ascii=False)


def _flat(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    # As `read_briefs` takes them apart.
    return " | ".join(part if isinstance(part, str) else f"{part['name']} ({part['role']})" for part in value)


def _types() -> dict[str, Any]:
    """Return each column's Arrow type."""
    arrow = pyarrow()
    text = arrow.string()
    special = {
        "place": arrow.int64(),
        "character": arrow.list_(text),
        "beat": arrow.list_(text),
        "characters": arrow.list_(arrow.struct([("name", text), ("role", text)])),
        "storylines": arrow.list_(text),
        "attempts": arrow.int64(),
        "seconds": arrow.float64(),
    }
    return {column: special.get(column, text) for column in _COLUMNS}
