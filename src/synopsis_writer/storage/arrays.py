"""Numpy arrays kept on disk, by the digest of what they were built from."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

FEWEST_KEPT = 500  # texts; an index of fewer is built quicker than it is found

MOST_KEPT = 3  # of a kind; older ones are of texts that have changed


def write_whole(place: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder, and name it `place` when it is done; another process may have been quicker.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".index-", dir=place.parent))
    try:
        write(work)
        if not place.exists():
            work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def tidy(place: Path) -> None:
    """Keep this folder and the newest beside it; who reads an older one has its files until they close."""
    others = [path for path in place.parent.iterdir() if path.is_dir() and path != place]
    for old in sorted(others, key=lambda path: -path.stat().st_mtime)[MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
