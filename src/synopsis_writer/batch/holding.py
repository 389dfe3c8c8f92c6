"""Who is at a batch's folder: one process at a time."""

import contextlib
import os
from pathlib import Path

from filelock import FileLock, Timeout

from synopsis_writer.errors import FileError, os_reason

LOCK_FILE, HOLDER_FILE = "batch.lock", "batch.holder"


def held(folder: Path) -> FileLock:
    """Lock the folder, and leave a note of who holds it.

    Raises:
        FileError: another process is at it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout as error:
        holder = "another process"
        with contextlib.suppress(OSError):
            holder = (folder / HOLDER_FILE).read_text(encoding="utf-8").strip() or holder
        raise FileError(f"{folder}: {holder} is at this batch: wait for it, or name another --out") from error
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, folder)}: name another --out") from error
    with contextlib.suppress(OSError):
        (folder / HOLDER_FILE).write_text(f"process {os.getpid()}\n", encoding="utf-8")
    return lock


def let_go(folder: Path, lock: FileLock) -> None:
    """Let a folder go that was held; the note stays where the folder cannot be written any more."""
    with contextlib.suppress(OSError):
        (folder / HOLDER_FILE).unlink(missing_ok=True)
    lock.release()
