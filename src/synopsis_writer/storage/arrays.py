"""Numpy arrays cached on disk, in folders named by a digest of what they were built from."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synopsis_writer.storage.files import new_folder

Arrays = Mapping[str, npt.NDArray[Any]]
Check = Callable[[Arrays], bool]
FEWEST_CACHED = 500  # texts; an index of fewer is built more quickly than it is opened
_MOST_CACHED = 3  # folders side by side; older ones are of texts that have changed


def digest(parts: Iterable[str]) -> str:
    """Return 24 hex digits that change when any of the parts does."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()[:24]


def cached_arrays(path: Path, build: Callable[[], Arrays], is_sound: Check) -> Arrays:
    """Return the arrays saved in `path`, mapped, or build and save them; the newest three folders stay."""
    try:
        return open_arrays(path, is_sound)
    except (OSError, ValueError):  # not built yet, or damaged
        shutil.rmtree(path, ignore_errors=True)
    arrays = build()
    with contextlib.suppress(OSError, ValueError):
        save_arrays(path, arrays)
        others = [other for other in path.parent.iterdir() if other.is_dir() and other != path]
        for old in sorted(others, key=lambda other: -other.stat().st_mtime)[_MOST_CACHED - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return open_arrays(path, is_sound)
    return arrays


def open_arrays(path: Path, is_sound: Check) -> Arrays:
    """Map the arrays saved in a folder; raises OSError where there is none, ValueError for damaged ones."""
    files = [file for file in path.iterdir() if file.suffix == ".npy"]
    try:
        # The same pages as plain arrays: slices of a memmap are slow.
        arrays = {file.stem: np.asarray(np.load(file, mmap_mode="r")) for file in files}
        if is_sound(arrays):
            return arrays
    except (OSError, EOFError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: the arrays are damaged") from error
    raise ValueError(f"{path}: the arrays do not fit together")


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write a folder whole or not at all; another process may have been quicker; raises OSError."""
    try:
        with new_folder(path) as folder:
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
    except OSError:
        if not path.is_dir():
            raise
