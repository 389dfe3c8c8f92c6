"""Input files within their limits; files and folders written whole or not at all; the lock of a folder."""

import contextlib
import io
import itertools
import os
import re
import shutil
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO, cast

from synopsis_writer.characters import printable
from synopsis_writer.errors import FileError, os_reason

MOST_BYTES = 1_000_000  # of a text, a brief, a template, a table of settings
MOST_FILES = 250_000  # and folders; a pool has 100,000 examples at most
STDOUT = Path("-")
Force = bool | Callable[[Path], bool]
"""Whether a file that is there is replaced, or what decides that."""
_MOST_NUMBERED = 10_000
_LITTER = re.compile(
    r"[.~].*|.*~|#.*#|__MACOSX|@eaDir|#recycle|\$RECYCLE\.BIN|.*\.(bak|orig|tmp|swp)(\.\w+)?", re.IGNORECASE
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})
_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # reserved by Windows, with any suffix
_TEMPORARY = re.compile(r"\.synopsis-[a-z0-9_]{8}\.tmp")  # characters that `tempfile` draws
_LOCK = ".lock"


@contextlib.contextmanager
def open_input(path: Path, most: int, hint: str = "name a smaller file") -> Iterator[BufferedReader]:
    """Open a plain file of at most `most` bytes, and no pipe; raises FileError with `hint` as the way out."""
    no_wait = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder: name a file in it")
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | no_wait)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path}: is a pipe or a device: name a file")
            if status.st_size > most:
                raise FileError(f"{path}: is larger than {most / 1e6:,.0f} MB: {hint}")
            yield file
    except ValueError as error:  # the name holds a NUL
        raise FileError(f"{str(path)!a}: is not the name of a file: name another") from error
    except OSError as error:
        raise FileError(os_reason(error, path)) from error


def read_input(path: Path, most: int = MOST_BYTES, hint: str = "name a smaller file") -> bytes:
    """Read a file whole, and no further than `most` bytes; raises as `open_input`."""
    with open_input(path, most, hint) as file:
        data = file.read(most + 1) or b""
        if len(data) > most:  # it grows, or does not know its size, like those in /proc
            raise FileError(f"{path}: is larger than {most / 1e6:,.0f} MB: {hint}")
        return data


def input_lines(path: Path, most: int, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is not blank, none if over `longest`; raises FileError."""
    with open_input(path, most) as file:
        for number in itertools.count(1):
            line = rest = file.readline(longest + 1)
            if not line:
                return
            while len(rest) > longest and not rest.endswith(b"\n"):
                rest = file.readline(longest + 1)  # of the rest nothing stays in memory
            if line.strip() or len(line) > longest:
                yield number, line if len(line) <= longest else b""


class FolderLock:
    """Keeps others out of a folder until `release` or the end of a `with` block; `kind` names its files."""

    def __init__(self, folder: Path, kind: str) -> None:
        from filelock import FileLock, Timeout

        self._note = folder / f"{kind}.holder"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / f"{kind}.lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            holder = "another process"
            with contextlib.suppress(FileError):
                holder = read_input(self._note).decode(errors="replace").strip() or holder
            hint = "wait for it, or name another --out"
            raise FileError(f"{folder}: {holder} is using this {kind}: {hint}") from error
        except OSError as error:
            raise FileError(f"cannot write {os_reason(error, folder)}: name another --out") from error
        with contextlib.suppress(FileError):
            write_file(self._note, f"process {os.getpid()}\n")

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
    """Give a hidden folder, which becomes `path` if the block ends without an error; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as hidden:
        folder = hidden / "folder"
        folder.mkdir()
        yield folder
        folder.replace(path)


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Return the paths below a folder that match a pattern, sorted, without litter; FileError for too many."""
    if "**" in pattern and real_path(folder) == real_path(folder).parent:
        raise FileError(f"{folder}: is a whole disk: name a folder in it")
    found = list(itertools.islice(folder.glob(pattern), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise FileError(f"{folder}: holds more than {MOST_FILES:,} files and folders: name a smaller one")
    return sorted(path for path in found if not any(map(_LITTER.fullmatch, path.relative_to(folder).parts)))


def real_path(path: Path) -> Path:
    """Return a path as `Path.resolve` does, which before Python 3.13 raises for links in a circle."""
    return Path(os.path.realpath(path))


def slug(text: str, most: int = 60) -> str:
    """Return a file name for `text`, on Windows too: a–z, 0–9 and hyphens, 1 to `most` characters."""
    plain = unicodedata.normalize("NFC", text).lower().translate(_UMLAUTS)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode("ascii")
    name = "-".join(re.findall(r"[a-z0-9]+", plain))[:most].strip("-") or "ohne-titel"
    return f"{name}-1" if _DEVICES.fullmatch(name) else name


def save(
    content: str, folder: Path, title: str, suffix: str, *, within: Path | None = None, force: Force = False
) -> Path:
    """Write `<folder>/<slug>.<suffix>`, numbered where that is taken, not in a link out of `within`."""
    stem = slug(title)
    target = folder / f"{stem}.{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if within is not None and not real_path(folder).is_relative_to(real_path(within)):
            raise FileError(f"{folder}: is a link out of {within}: name another folder")
        with temporary_folder(folder) as hidden:
            temporary = hidden / "file"
            with temporary.open("wb") as file:
                file.write(content.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            if force(target) if callable(force) else force:
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


def write_file(path: Path, content: str, *, private: bool = False, output: bool = False) -> None:
    """Write a file whole, replacing one that is there; arguments and errors are those of `replacing`."""
    with replacing(path, private=private, output=output) as file:
        file.write(content.encode("utf-8"))


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False, output: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write into, which replaces `path` when the block ends without an error.

    A link is replaced, never followed. A `private` file is its owner's. An `output` that a person named may
    be `STDOUT`, a device or a pipe, which stay what they are. On FileError all stays as it was.
    """
    if output and path == STDOUT:
        if not hasattr(sys.stdout, "buffer"):  # a text in memory stands for one that was closed
            raise FileError("stdout is closed: name a file with --output")
        yield _Terminal(sys.stdout) if sys.stdout.isatty() else sys.stdout.buffer
        return
    try:
        folder = real_path(path.parent)
        is_open_file = folder == Path("/dev") or folder.is_relative_to("/proc")  # as /dev/stdout is
        is_usual = path.is_symlink() or path.is_file() or path.is_dir()
        if output and path.exists() and (is_open_file or not is_usual):
            with path.open("w", encoding="utf-8") as special:
                yield _Terminal(special) if special.isatty() else cast("BinaryIO", special.buffer)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        rights = 0o600 if private else 0o666
        with temporary_folder(path.parent) as hidden:
            temporary = hidden / "file"
            with open(temporary, "w+b", opener=lambda name, flags: os.open(name, flags, rights)) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: name another file") from error


class _Terminal(io.BytesIO):
    """A terminal to write bytes to, some whole characters at once; what could steer it is escaped."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    def write(self, data: Any) -> int:
        text = bytes(data).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
        self._terminal.write(printable(text))
        return len(bytes(data))


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a hidden folder, for its owner alone, until the block ends; what a kill left is deleted, too."""
    from filelock import FileLock

    with contextlib.suppress(OSError):
        for left in list(parent.glob(".synopsis-*.tmp")):
            if _TEMPORARY.fullmatch(left.name) and not left.is_symlink() and (left / _LOCK).is_file():
                with contextlib.suppress(OSError), FileLock(left / _LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    path = lock = None
    while path is None or lock is None or not path.exists():  # another process deleted it as a leftover
        path = Path(tempfile.mkdtemp(".tmp", ".synopsis-", parent))
        lock = FileLock(path / _LOCK, timeout=0)
        with contextlib.suppress(OSError):  # without locks on this file system nobody clears anything
            lock.acquire()
    try:
        yield path
    finally:
        lock.release()
        shutil.rmtree(path, ignore_errors=True)


def _claim(temporary: Path, target: Path) -> None:
    """Give the file its name, which must be free: a link fails if another process was quicker."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        target.touch(exist_ok=False)  # without hard links on this file system the name is reserved
        temporary.replace(target)
