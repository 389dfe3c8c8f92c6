"""A batch's texts for people and other programs; where a FileError is raised, existing files stay as they were."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from synopsis_writer.batch.briefs import COLUMNS, ROWS_AT_ONCE, pyarrow
from synopsis_writer.batch.store import BatchStore, SavedRow
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, InputError, os_reason
from synopsis_writer.formats.sheets import csv_record
from synopsis_writer.releasing import release_document
from synopsis_writer.result import render
from synopsis_writer.storage.files import new_folder, real_path, replacing, slug
from synopsis_writer.writer import Writer

# Of the provenance, what has a column of its own; the rest is in the column `meta`.
_PROVENANCE = ("model", "draft", "attempts", "cost", "seconds", "created")
_TEXT = ("title", "logline", "characters", "storylines", "text")
_COLUMNS = ("id", "place", *COLUMNS[1:], *_TEXT, *_PROVENANCE, "meta")


def documents(rows: Iterable[SavedRow]) -> Iterator[Document]:
    """Yield each row as the file that it would be saved as, with its id as the path."""
    for row in rows:
        yield Document(Path(row.id), _fields(row), row.synopsis.text)


def release_row(path: Path, by: str, writer: Writer, waivers: Mapping[str, str]) -> dict[str, Any]:
    """Release an accepted row, whose path is the batch's folder and its id; raises as `release` of a file."""
    folder, name = path.parent, path.name
    with BatchStore(folder, {}) as store:
        row = next(store.accepted("AND id = ?", name), None)
        if row is None:
            raise InputError(f"{folder}: has no accepted row '{name}': name one that synopsis batch export has")
        document = Document(path, _fields(row), row.synopsis.text)

        def save(released: Document) -> None:
            record = {key: released.meta[key] for key in ("waived", "release") if key in released.meta}
            store.update("rows", "id", name, {"origin": json.dumps({**row.provenance, **record})})

        with contextlib.suppress(FileError):  # a log that fails leaves unknown whose words they are
            writer.log.touch(document, begin=True)  # a row is a version only from here on
        return release_document(document, by, save, waivers=waivers, writer=writer)


def export_md(rows: Iterable[SavedRow], folder: Path) -> int:
    """Write each row to `<folder>/<show-slug>/<id-slug>.md` in a new or empty folder; return their number.

    The folder appears when it is whole. Raises FileError if it cannot be written, or holds anything.
    """
    count = 0
    try:
        target = real_path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileError(f"{folder}: already exists; choose a new or empty folder")
        with new_folder(target) as hidden:
            for row in rows:
                count += 1
                home = hidden / slug(row.brief.show)
                home.mkdir(exist_ok=True)
                path = home / f"{slug(row.id)}.md"
                if path.exists():
                    digest = hashlib.sha256(row.id.encode("utf-8")).hexdigest()[:16]
                    path = home / f"{slug(row.id)}-{digest}.md"
                path.write_bytes(render(_fields(row), row.synopsis.text, "md").encode("utf-8"))
    except OSError as error:
        raise FileError(f"cannot export into {os_reason(error, folder)}: name another folder") from error
    return count


def export_jsonl(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a line of JSON a row, with the fields of a saved file and `text`; return the number of rows."""
    fields = ({**_fields(row), "text": row.synopsis.text} for row in rows)
    return _write_lines(path, (json.dumps(each, ensure_ascii=False) + "\n" for each in fields))


def export_csv(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a table, no cell of which runs as a formula; return the number of rows. Lists are joined by ` | `."""
    return _write_lines(path, (csv_record(map(_flat, _cells(row).values())) for row in rows), csv_record(_COLUMNS))


def _write_lines(path: Path, lines: Iterable[str], header: str = "") -> int:
    count = 0
    with replacing(path, output=True) as file:
        file.write(header.encode("utf-8"))
        for line in lines:
            file.write(line.encode("utf-8"))
            count += 1
    return count


def export_parquet(rows: Iterable[SavedRow], path: Path) -> int:
    """Write a Parquet file with the columns of `export_csv`, lists as lists; return the number of rows."""
    arrow = pyarrow()
    text = arrow.string()
    texts = arrow.list_(text)
    types = {
        **dict.fromkeys(_COLUMNS, text),
        **dict.fromkeys(("place", "attempts"), arrow.int64()),
        **dict.fromkeys(("character", "beat", "storylines"), texts),
        "characters": arrow.list_(arrow.struct([("name", text), ("role", text)])),
        "seconds": arrow.float64(),
    }
    schema = arrow.schema(list(types.items()))
    cells, count = map(_cells, rows), 0
    with replacing(path, output=True) as file, arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(cells, ROWS_AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _fields(row: SavedRow) -> dict[str, Any]:
    fields = {"brief": row.brief.as_data(), **row.synopsis.front_matter()}
    place = {"id": row.id, "place": row.place}
    return fields | place | dict(row.provenance) | fields  # the text's own fields hold, and come first


def _cells(row: SavedRow) -> dict[str, Any]:
    brief, synopsis, provenance = row.brief, row.synopsis, row.provenance
    asked = brief.as_data()
    rest = {name: value for name, value in provenance.items() if name not in _PROVENANCE}
    values = (
        *(row.id, row.place, brief.show, brief.theme, brief.form, list(brief.characters), list(brief.beats)),
        *(asked.get("words"), asked.get("character_count"), brief.air_date, brief.notes),
        *(synopsis.title, synopsis.logline, [dict(person) for person in synopsis.characters]),
        *([paragraph.storyline for paragraph in synopsis.paragraphs], synopsis.text),
        *(provenance.get(name) for name in _PROVENANCE),
        json.dumps(rest, ensure_ascii=False),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _flat(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    # As `read_briefs` splits them.
    return " | ".join(part if isinstance(part, str) else f"{part['name']} ({part['role']})" for part in value)
