"""Files and folders written whole or not at all, and the lock on a folder."""

import contextlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


def slug(text: str, most: int = 60) -> str:
    """Return a file name for `text`: a–z, 0–9 and hyphens, 1 to `most` characters, never empty."""
    plain = unicodedata.normalize("NFC", text).lower().translate(_UMLAUTS)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode("ascii")
    words = re.findall(r"[a-z0-9]+", plain)
    return "-".join(words)[:most].strip("-") or "ohne-titel"


_MOST_NUMBERED = 10_000


def save(content: str, folder: Path, title: str, suffix: str, *, force: bool = False) -> Path:
    """Write `<folder>/<title-slug>.<suffix>`, with a number where that is taken; return its path.

    Raises:
        FileError: the folder cannot be made or written, or the disk is full; nothing is left behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _written(content, folder) as temporary:
            if force:
                target = folder / f"{slug(title)}.{suffix}"
                temporary.replace(target)
                return target
            for target in _names(folder, slug(title), suffix):
                with contextlib.suppress(FileExistsError):
                    _claim(temporary, target)
                    return target
    except OSError as error:
        raise FileError(f"cannot save into {os_reason(error, folder)}: name another folder") from error
    raise FileError(
        f"cannot save into {folder}: {_MOST_NUMBERED} files are called {slug(title)}: clear it up"
    )


def write_file(path: Path, content: str) -> None:
    """Write a file whole, in the place of one that is there.

    Raises:
        FileError: it cannot be written, or the disk is full; what was there stays as it was.
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which takes the place of `path` when the block ends without a fault.

    A device or a pipe is written as it comes: it must stay what it is.

    Raises:
        FileError: it cannot be written, or the disk is full; what was there stays as it was.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent) as (temporary, file):
            yield file
            _settle(temporary, file)
            temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: name another file") from error


@contextlib.contextmanager
def _written(content: str, folder: Path) -> Iterator[Path]:
    """Write a temporary file to the disk, and take it away unless it was renamed."""
    with _temporary(folder) as (path, file):
        file.write(content.encode("utf-8"))
        _settle(path, file)
        yield path


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    handle, name = tempfile.mkstemp(prefix=".synopsis-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _settle(path: Path, file: BinaryIO) -> None:
    """Bring the whole file to the disk, and give it the rights of any new file."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    path.chmod(0o666 & ~umask())


def umask() -> int:
    """Return the rights that new files of this process do not get."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def _names(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    yield folder / f"{stem}.{suffix}"
    for number in range(2, _MOST_NUMBERED):
        yield folder / f"{stem}-{number}.{suffix}"


def _claim(temporary: Path, target: Path) -> None:
    """Give the file its name, which must be free: a link fails where another process was quicker."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: reserve the name, then replace the empty file.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.replace(target)
