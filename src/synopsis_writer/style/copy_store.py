"""Copy indexes on disk: built once for a set of sources, memory-mapped, built anew when they change."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synopsis_writer.style.copies import RUN, CopyIndex, Source, build_index

FEWEST_KEPT = 500  # sources; an index of fewer is built quicker than it is found
_MOST_KEPT = 3  # indexes; older ones are of sources that have changed
_VERSION = 1
_WORDS = "words.json"
_ARRAYS = ("hashes", "places", "starts")


def index_key(sources: Sequence[Source]) -> str:
    """Return 24 hex digits that change when any source's id, text or names change."""
    digest = hashlib.sha256(f"{_VERSION} {RUN}".encode())
    for source in sources:
        for part in (source.id, source.text, *source.names):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def kept_index(sources: Sequence[Source], folder: Path) -> CopyIndex:
    """Return the index of `sources`: from `folder` when it is there, else built, and kept when it is large.

    A folder that cannot be written costs time, not the answer: the index is then used as it was built.
    """
    texts = {source.id: source.text for source in sources}
    if len(sources) < FEWEST_KEPT:
        return build_index(sources, texts.__getitem__)
    place = folder / index_key(sources)
    try:
        return open_index(place, texts.__getitem__)
    except ValueError:
        shutil.rmtree(place, ignore_errors=True)
    except OSError:
        pass  # not built yet
    index = build_index(sources, texts.__getitem__)
    with contextlib.suppress(OSError):
        save_index(index, place)
        _tidy(place)
        return open_index(place, texts.__getitem__)
    return index


def save_index(index: CopyIndex, place: Path) -> None:
    """Write the index's folder, whole or not at all; another process may have been quicker.

    Raises:
        OSError: it cannot be written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".index-", dir=place.parent))
    try:
        for name in _ARRAYS:
            np.save(work / f"{name}.npy", getattr(index, name))
        words = {"ids": list(index.ids), "names": sorted(index.names)}
        (work / _WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        if not place.exists():
            work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def open_index(place: Path, read: Callable[[str], str]) -> CopyIndex:
    """Open a saved index without loading it: its arrays stay in their files.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged.
    """
    words = json.loads((place / _WORDS).read_text(encoding="utf-8"))
    hashes, places, starts = (np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    if len(starts) != len(words["ids"]) + 1 or not starts[-1] == len(hashes) == len(places):
        raise ValueError(f"{place}: the index is damaged")
    return CopyIndex(words["ids"], read, frozenset(words["names"]), hashes, places, starts)


def _tidy(place: Path) -> None:
    """Keep this index and the newest others; who reads an older one has its files until he closes them."""
    others = [path for path in place.parent.iterdir() if path.is_dir() and path != place]
    for old in sorted(others, key=lambda path: -path.stat().st_mtime)[_MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
