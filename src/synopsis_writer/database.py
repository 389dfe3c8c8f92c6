"""SQLite files of ours: in WAL mode, with a versioned schema, readable by their owner alone."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from synopsis_writer.errors import FileError, os_reason

_WAIT = 10.0  # seconds for another process's transaction


def open_database(path: Path | None, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database, and bring its schema up to date.

    Args:
        path: the file, made when it is missing; None is a database in memory.
        migrations: scripts of SQL; `PRAGMA user_version` says how many of them the file has seen.

    Raises:
        FileError: the file cannot be opened or written, is no database, or a newer program wrote it.
    """
    try:
        if path is not None:
            _make(path)
        database = sqlite3.connect(path or ":memory:", timeout=_WAIT, isolation_level=None)
    except OSError as error:
        raise FileError(f"cannot open {os_reason(error, path or Path())}: name another place") from error
    except sqlite3.Error as error:
        raise FileError(f"cannot open {path}: {error}: name another place") from error
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("PRAGMA foreign_keys=ON")
        database.execute("PRAGMA secure_delete=ON")
        _migrate(database, migrations, path)
    except sqlite3.Error as error:
        database.close()
        raise FileError(f"cannot use {path}: {error}: move it away, or name another file") from error
    except FileError:
        database.close()
        raise
    return database


def _make(path: Path) -> None:
    """Make the file, so that what people write is not for everybody on the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _migrate(database: sqlite3.Connection, migrations: Sequence[str], path: Path | None) -> None:
    if _version(database) == len(migrations):
        return
    with transaction(database):
        seen = _version(database)  # another process may have been quicker
        if seen > len(migrations):
            raise FileError(f"{path} was written by a newer version of this program: update synopsis-writer")
        for script in migrations[seen:]:
            for statement in script.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version={len(migrations)}")


def _version(database: sqlite3.Connection) -> int:
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    return version


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Do all of a block, or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
