"""Numpy arrays cached on disk, in folders named by a digest of what they were built from."""

import contextlib
import hashlib
import json
import marshal
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synopsis_writer.storage.files import new_folder

Arrays = Mapping[str, npt.NDArray[Any]]
FEWEST_CACHED = 60  # texts; so many take 15 ms to index, and 1.5 ms to open
_SIZES = "sizes.json"  # of the arrays beside it: one that was cut or replaced does not fit
_MOST_CACHED = 3  # folders side by side; older ones are of texts that have changed


def digest(parts: Iterable[str]) -> str:
    """Return 24 hex digits that change when any of the parts does."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return hashed.hexdigest()[:24]


def cached_value(path: Path | None, build: Callable[[], Any]) -> Any:
    """Return the plain value saved in `path` with its checksum, or build it, and save it if there is a path."""

    def pack() -> Arrays:
        data = marshal.dumps(build(), 4)  # format 4: every Python reads it
        return {"data": np.frombuffer(data, np.uint8), "checksum": np.array([zlib.crc32(data)])}

    arrays = cached_arrays(path, pack, lambda arrays: zlib.crc32(arrays["data"].data) == arrays["checksum"][0])
    return marshal.loads(arrays["data"].data)  # noqa: S302 - of the user's own cache


def cached_arrays(path: Path | None, build: Callable[[], Arrays], is_sound: Callable[[Arrays], bool] = bool) -> Arrays:
    """Return the arrays saved in `path`, mapped, or build and save them; the newest three folders stay."""
    if path is None:
        return build()
    with contextlib.suppress(Exception):  # not built yet, or damaged in whatever way
        if is_sound(arrays := open_arrays(path)):
            return arrays
    shutil.rmtree(path, ignore_errors=True)
    arrays = build()
    with contextlib.suppress(OSError, ValueError):
        save_arrays(path, arrays)
        others = [other for other in path.parent.glob("[!.]*") if other.is_dir() and other != path]
        for old in sorted(others, key=lambda other: -other.stat().st_mtime)[_MOST_CACHED - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return open_arrays(path)
    return arrays


def open_arrays(path: Path) -> Arrays:
    """Map the arrays saved in a folder; raises OSError where one is missing, ValueError where one is damaged."""
    files = {file.stem: file for file in path.glob("*.npy")}
    if {name: file.stat().st_size for name, file in files.items()} != json.loads((path / _SIZES).read_text("utf-8")):
        raise ValueError(f"{path}: the arrays are damaged")
    # The same pages as plain arrays: slices of a memmap are slow.
    return {name: np.asarray(np.load(file, mmap_mode="r")) for name, file in files.items()}


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write a folder whole or not at all; another process may have been quicker; raises OSError."""
    try:
        with new_folder(path) as folder:
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
            sizes = {file.stem: file.stat().st_size for file in folder.iterdir()}
            (folder / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")
    except OSError:
        if not path.is_dir():
            raise
