"""Putting the record of a batch aside, so that the next run begins anew."""

import contextlib
import sqlite3
from pathlib import Path

from synopsis_writer.batch.holding import held, let_go
from synopsis_writer.batch.provider.tables import Shard, open_shards
from synopsis_writer.batch.reading import MIGRATIONS, RECORD_FILE
from synopsis_writer.database import open_database
from synopsis_writer.errors import FileError, os_reason


def begin_anew(out: Path) -> Path | None:
    """Put the record of a batch aside, so that the next run begins anew; return where it lies now.

    Raises:
        FileError: another process is at it, a part of it lies at a provider, or the folder cannot be written.
    """
    record = out / RECORD_FILE
    if not record.exists():
        return None
    lock = held(out)
    try:
        if shards := _open_shards(record):
            is_paid = any(shard.server for shard in shards)
            where = "lies at a provider, and is paid" if is_paid else "is in files"
            raise FileError(
                f"{out}: a part of this batch {where}: bring it with synopsis batch fetch, or let it go with "
                "synopsis batch cancel"
            )
        number = 1
        while (aside := out / f"batch-{number}.sqlite3").exists():
            number += 1
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                record.with_name(record.name + end).rename(aside.with_name(aside.name + end))
    except OSError as error:
        raise FileError(f"cannot put aside {os_reason(error, record)}: name another --out") from error
    finally:
        let_go(out, lock)
    return aside


def _open_shards(record: Path) -> list[Shard]:
    """Return the open shards; a record that nobody can read any more tells of none."""
    try:
        database = open_database(record, MIGRATIONS)  # and folds the log of SQLite into the file
    except FileError:
        return []
    with contextlib.closing(database), contextlib.suppress(FileError, sqlite3.Error):
        return open_shards(database)
    return []
