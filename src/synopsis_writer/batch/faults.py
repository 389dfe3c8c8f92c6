"""What goes wrong with the record of a batch, in words."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from synopsis_writer.database import error_code, fault
from synopsis_writer.errors import FileError

DAMAGE_MEND = "put a copy of it in its place, or begin anew with --fresh"
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


@contextlib.contextmanager
def reported(record: Path | str = "the batch's record") -> Iterator[None]:
    """Say a fault of the record, and the mend.

    Raises:
        FileError: SQLite failed within the block.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise FileError(_told(record, error)) from error


def _told(record: Path | str, error: sqlite3.Error) -> str:
    code = error_code(error)
    if code in _NO_ROOM:
        return f"{record}: {error}: what is saved stays; make room, and run the same again"
    if code == sqlite3.SQLITE_READONLY:
        return f"{record}: {error}: what is saved stays; let the folder be written, and run the same again"
    return f"{record}: {fault(error, DAMAGE_MEND)}"
