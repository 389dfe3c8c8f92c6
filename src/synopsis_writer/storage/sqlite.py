"""SQLite files: opened, migrated, read from where nothing can be written, and their errors explained."""

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from synopsis_writer.errors import FileError, os_reason

_WAIT = 10.0  # seconds for another process's transaction
_READERS = 1.0  # seconds for another process's reading, where what was removed is overwritten
_DISK = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SIDES = ("-wal", "-shm")
# What a statement may raise, and whatever reads what it returns from a damaged file: bytes in place of text,
# a text in place of a number, JSON that is none. Half a character and 65 bits never reach SQLite.
_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)
SQLITE_ERRORS = (sqlite3.Error, *_UNREADABLE)
OpenFile = Callable[[Path | None, Sequence[str]], sqlite3.Connection]


class _Database(sqlite3.Connection):
    """A connection that several threads may use; their transactions are made one after the other."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more | {"isolation_level": None, "check_same_thread": False})
        self.lock = threading.RLock()


def open_database(path: Path | None, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database, or one in memory, and run those `migrations` it has not seen; raises FileError."""
    try:
        if path is not None:
            _create(path)
        database = sqlite3.connect(path or ":memory:", timeout=_WAIT, factory=_Database)
    except (OSError, *SQLITE_ERRORS) as error:
        reason = os_reason(error, path or Path()) if isinstance(error, OSError) else f"{path}: {error}"
        raise FileError(f"cannot open {reason}: name another place") from error
    try:
        database.execute("PRAGMA journal_mode=WAL")
        if path is not None:
            with contextlib.suppress(OSError):  # another's file, which stays as its owner has it
                rights = path.stat().st_mode & 0o777  # the files beside it get them only when they are made
                for side in (path.with_name(path.name + end) for end in _SIDES):
                    if side.exists() and side.stat().st_mode & 0o777 != rights:
                        side.chmod(rights)
        for setting in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
            database.execute(f"PRAGMA {setting}")
        _migrate(database, migrations, path)
        overwrite(database, 0)  # what was deleted while another program read
    except (FileError, *SQLITE_ERRORS) as error:
        database.close()
        if isinstance(error, FileError):
            raise
        reason = describe(error, "move it away")
        raise FileError(f"cannot use {path}: {reason}, or name another file") from error
    return database


def _create(path: Path) -> None:
    """Make a file that only its owner may read, if there is none; raises OSError, FileError for a pipe or device."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for each in (path.with_name(path.name + end) for end in ("", *_SIDES)):
        with contextlib.suppress(FileNotFoundError):  # also a side file that another process deletes meanwhile
            mode = each.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # SQLite would wait for a pipe
                raise FileError(f"cannot open {each}: is a pipe or a device: name another place")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _migrate(database: sqlite3.Connection, migrations: Sequence[str], path: Path | None) -> None:
    if _version(database) == len(migrations):
        return
    with transaction(database):
        seen = _version(database)  # another process may have been quicker
        if seen < 0:
            raise sqlite3.DatabaseError("the file is damaged")
        if seen > len(migrations):
            raise FileError(f"{path} was written by a newer version of this program: update synopsis-writer")
        for script in migrations[seen:]:
            for statement in script.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version={len(migrations)}")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit all of a block, or none of it."""
    with database.lock if isinstance(database, _Database) else contextlib.nullcontext():
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # SQLite itself undoes it where the disk is full
                database.execute("ROLLBACK")
            raise


def read_database(path: Path | None, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open a database as `open_database`, or to be read alone where folder or disk take nothing more."""
    try:
        return open_database(path, migrations)
    except FileError as error:
        if path is None or error_code(error.__cause__) not in _DISK:
            raise
        # SQLite's log needs a writable folder unless it exists already; without one, nobody is writing.
        log = path.with_name(path.name + "-wal")
        is_logged = log.exists() and log.stat().st_size > 0  # an empty one is left by the opening that failed
        for mode in ("mode=ro",) if is_logged else ("mode=ro", "immutable=1"):
            with contextlib.suppress(*SQLITE_ERRORS):  # the next way, or none
                database = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, factory=_Database)
                with contextlib.suppress(*SQLITE_ERRORS):
                    if _version(database) == len(migrations):
                        return database
                database.close()
        raise


def remove_database(path: Path) -> None:
    """Delete a database, even a damaged one, with its write-ahead log; raises FileError."""
    try:
        for end in ("", *_SIDES):
            path.with_name(path.name + end).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot delete {os_reason(error, path)}: see to its folder") from error


def overwrite(database: sqlite3.Connection, seconds: float = _READERS) -> bool:
    """Overwrite what was deleted, and empty the write-ahead log; return False while others read the file."""
    try:
        database.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")
        return not database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except SQLITE_ERRORS:
        return False
    finally:
        with contextlib.suppress(*SQLITE_ERRORS):
            database.execute(f"PRAGMA busy_timeout={int(_WAIT * 1000)}")


def describe(error: Exception, way_out: str) -> str:
    """Return what went wrong and the way out; if the disk or another program is to blame, that instead."""
    code = error_code(error)
    if code in _DISK:
        return f"{error}: see whether the disk is full, or the file or its folder cannot be written"
    if code in LOCKED:
        return f"{error}: another program holds it: try again when it is done"
    if isinstance(error, sqlite3.ProgrammingError):  # such as use after `close`: the file is sound
        return f"{error}: this is a mistake in the program"
    if isinstance(error, ArithmeticError) and not isinstance(error, OverflowError):  # what was a number
        return f"the record is damaged: {way_out}"
    return f"{error}: {way_out}"


def error_code(error: BaseException | None) -> int:
    """Return SQLite's primary code, the low byte; 0 for an error that is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
