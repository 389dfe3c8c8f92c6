"""The briefs of a batch: a row each, with an id of its own."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from synopsis_writer.batch.tables import TableRow, opened, read_table
from synopsis_writer.brief import Brief, clean_line
from synopsis_writer.errors import BriefError, explain
from synopsis_writer.house.house import House, built_in_house

_LONGEST_ID = 100

_COLUMNS = {"characters": "character", "beats": "beat"}  # where they are not the fields, with hyphens

_BETWEEN = re.compile(r"\s+\|\s+|[\r\n]+")  # between the parts of a list in one cell


@dataclass(frozen=True)
class BatchRow:
    """One brief of a batch.

    Attributes:
        id: 1 to 100 printable characters without a slash, unique in its batch.
        place: the row's number in its file, from 1; blank lines do not count.
        brief: what is asked for.
    """

    id: str
    place: int
    brief: Brief


class _Cells(Brief):
    """A brief by its columns: an error names the field as the person wrote it."""

    model_config = ConfigDict(alias_generator=lambda name: _COLUMNS.get(name, name.replace("_", "-")))


def read_briefs(path: Path, house: House | None = None) -> Iterator[BatchRow]:
    """Yield the briefs of a `.csv`, `.jsonl`, `.ndjson`, `.yaml`, `.yml` or `.parquet` file, one by one.

    A form is one of `house`, or of the built-in house; a row that names none has the first. A row without an
    id gets 16 hex digits of the SHA-256 of its brief. Of all rows only 64 bits of each id and its place stay
    in memory.

    Raises, while it is read:
        BriefError: a column is unknown, a row is no brief, two rows have one id, or there is no row.
        FileError: the file cannot be read, or is not of its format.
        SettingsError: it is Parquet, and pyarrow is not installed.
    """
    places: dict[bytes, int] = {}
    for place, row in enumerate(read_table(path), 1):
        brief, given = _brief(row, house or built_in_house()), _given_id(row)
        name = given or id_of(brief)
        first = places.setdefault(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), place)
        if first != place:
            raise BriefError(
                f"{row.where}: row {place} has the id '{given}' of row {first}: give each an id of its own"
                if given
                else f"{row.where}: row {place} asks for the same as row {first}: "
                "give both an id, in a column 'id'"
            )
        yield BatchRow(name, place, brief)
    if not places:
        raise BriefError(f"{path}: holds no brief: write one a row, with 'show' and 'theme' at least")


def _brief(row: TableRow, house: House) -> Brief:
    values = {column: _value(column, value) for column, value in row.cells.items() if column != "id"}
    try:
        cells = _Cells.model_validate(
            {column: value for column, value in values.items() if value not in (None, "", [])}
        )
    except ValidationError as error:
        raise BriefError(f"{row.where}: {explain(error)}") from error
    try:
        form = house.form(cells.named_form).name
    except BriefError as error:
        raise BriefError(f"{row.where}: form: {error}") from error
    return Brief.model_construct(cells.model_fields_set, **{**dict(cells), "form": form})


def _value(column: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if column in {"character", "beat"}:
        return [part for part in _BETWEEN.split(value) if part.strip()]
    return value.strip()


def _given_id(row: TableRow) -> str:
    """Return the row's own id, or nothing."""
    value = row.cells.get("id")
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BriefError(f"{row.where}: id: is no text: write it in quotes")
    try:
        name = clean_line(str(value))
    except ValueError as error:
        raise BriefError(f"{row.where}: id: {error}") from error
    if len(name) > _LONGEST_ID or "/" in name or not name.isprintable():
        raise BriefError(
            f"{row.where}: id: '{name[:40]}' is no id: write 1 to {_LONGEST_ID} printable characters, no '/'"
        )
    return name


def id_of(brief: Brief) -> str:
    """Return 16 hex digits of the SHA-256 of the brief as JSON: its given fields, sorted, without spaces."""
    text = json.dumps(brief.as_data(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, as hex digits."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
