"""Parquet files, a batch of rows at a time; pyarrow comes with the extra `parquet`."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from synopsis_writer.errors import FileError, SettingsError

_ROWS = 1_000  # rows in memory at once when reading: some hundred kilobytes of briefs
_GROUP = 1_000  # rows of a row group when writing: about 5 MB of synopses


def pyarrow() -> Any:
    """Return the module, with `parquet` loaded.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise SettingsError(
            "Parquet files need pyarrow: pip install 'synopsis-writer[parquet]', or use .csv or .jsonl"
        ) from error
    return pa


class Parquet:
    """A Parquet file that is read from front to back.

    Attributes:
        names: its columns.

    Raises:
        FileError: it is no Parquet file, or damaged.
        SettingsError: pyarrow is not installed.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._arrow, self._path = pyarrow(), path
        try:
            self._file = self._arrow.parquet.ParquetFile(file)
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error
        self.names: tuple[str, ...] = tuple(self._file.schema_arrow.names)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield the rows as Python values."""
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS):
                yield from batch.to_pylist()
        except (self._arrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FileError:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        return FileError(f"{self._path}: not Parquet, or damaged: {reason}: write the file again")


def write_parquet(rows: Iterable[Mapping[str, Any]], file: BinaryIO, columns: Mapping[str, Any]) -> int:
    """Write the rows into `file`, and return their number; `columns` has each column's Arrow type."""
    arrow = pyarrow()
    schema = arrow.schema(list(columns.items()))
    rows, count = iter(rows), 0
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(itertools.islice(rows, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count
