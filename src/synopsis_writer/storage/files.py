"""Files and folders written whole or not at all, and the lock of a folder."""

import contextlib
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from filelock import FileLock, Timeout

from synopsis_writer.errors import FileError, os_reason


class FolderLock:
    """Keeps other processes out of a folder until `release`, or to the end of a `with` block.

    `kind` is what the folder holds, in a word; it names the files of the lock, and of the note who has it.

    Raises:
        FileError: another process has it, or the folder cannot be written.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._note = folder / f"{kind}.holder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / f"{kind}.lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            holder = ""
            with contextlib.suppress(OSError):
                holder = self._note.read_text(encoding="utf-8").strip()
            reason = f"{holder or 'another process'} is using this {kind}"
            raise FileError(f"{folder}: {reason}: wait for it, or name another --out") from error
        except OSError as error:
            raise FileError(f"cannot write {os_reason(error, folder)}: name another --out") from error
        with contextlib.suppress(OSError):
            self._note.write_text(f"process {os.getpid()}\n", encoding="utf-8")

    def release(self) -> None:
        """Let others in; the note stays where the folder cannot be written any more."""
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder to fill, which becomes `path` when the block ends without an error.

    Raises OSError where it cannot be written, or `path` is there by then and not empty; nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=".synopsis-", dir=path.parent))
    try:
        yield hidden
        hidden.chmod(0o777 & ~umask())
        hidden.replace(path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


_LITTER = re.compile(
    r"[.~].*|.*~|#.*#|__MACOSX|@eaDir|#recycle|\$RECYCLE\.BIN|.*\.(bak|orig|tmp|swp)(\.\w+)?", re.IGNORECASE
)


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Return what fits a glob pattern below a folder, sorted, without hidden files and litter.

    Litter is what systems and editors leave: `._x.md`, `.#x.md`, `~$x.md`, `x.bak.md`, `__MACOSX/`.
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(_LITTER.fullmatch(name) for name in path.relative_to(folder).parts)
    )


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
    stem = slug(title)
    target = folder / f"{stem}.{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as (temporary, file):
            file.write(content.encode("utf-8"))
            _settle(temporary, file)
            if force:
                temporary.replace(target)
                return target
            for number in range(2, _MOST_NUMBERED + 1):
                with contextlib.suppress(FileExistsError):
                    _claim(temporary, target)
                    return target
                target = folder / f"{stem}-{number}.{suffix}"
    except OSError as error:
        raise FileError(f"cannot save into {os_reason(error, folder)}: name another folder") from error
    raise FileError(f"cannot save into {folder}: {_MOST_NUMBERED} files are called {stem}: clear it up")


def write_file(path: Path, content: str) -> None:
    """Write a file whole, replacing one that is there; raises as `replacing`."""
    with replacing(path) as file:
        file.write(content.encode("utf-8"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which replaces `path` when the block ends without an error.

    A device or a pipe is written directly: it must stay what it is.

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
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    handle, name = tempfile.mkstemp(prefix=".synopsis-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _settle(path: Path, file: BinaryIO) -> None:
    """Flush the file to the disk, and give it the permissions of a new file."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    path.chmod(0o666 & ~umask())


def umask() -> int:
    """Return the permissions that new files of this process do not get."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def _claim(temporary: Path, target: Path) -> None:
    """Give the file its name, which must be free: a link fails if another process was quicker."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: reserve the name, then replace the empty file.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.replace(target)
