"""The columns of a table of briefs, named like the flags of `synopsis write`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synopsis_writer.errors import BriefError

COLUMNS = ("id", "show", "theme", "form", "character", "beat", "words", "air-date", "notes")
_LONGEST_NAME = 40  # letters of an unknown column's name that a message shows


@dataclass(frozen=True)
class TableRow:
    """One row: `where` it stands, as `briefs.csv:7`, and its cells by their column of `COLUMNS`."""

    where: str
    cells: Mapping[str, Any]


def columns_of(names: Sequence[str], where: str) -> list[str]:
    """Return the columns that `names` mean: case does not count, and `air_date` is `air-date`.

    Raises:
        BriefError: one is unknown, or stands twice; names all unknown ones.
    """
    columns = [name.strip().lower().replace("_", "-") for name in names]
    unknown = [name for name, column in zip(names, columns, strict=True) if column not in COLUMNS]
    if unknown:
        listed = ", ".join(_shown(name) for name in dict.fromkeys(unknown))
        raise BriefError(
            f"{where}: unknown column{'s' * (len(unknown) > 1)} {listed}: known are {', '.join(COLUMNS)}"
        )
    for column in COLUMNS:
        if columns.count(column) > 1:
            raise BriefError(f"{where}: the column '{column}' stands twice: keep one")
    return columns


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…")


def row_of(where: str, pairs: Iterable[tuple[str, Any]]) -> TableRow:
    """Return the row of names and values that stand at `where`.

    Raises:
        BriefError: as `columns_of`.
    """
    pairs = list(pairs)
    columns = columns_of([name for name, _ in pairs], where)
    return TableRow(where, dict(zip(columns, (value for _, value in pairs), strict=True)))
