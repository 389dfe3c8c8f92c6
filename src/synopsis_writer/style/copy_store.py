"""Copy indexes on disk: built once for a set of sources, memory-mapped, built anew when they change."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synopsis_writer.kept import FEWEST_KEPT, tidy, write_whole
from synopsis_writer.style.copies import RUN, CopyIndex, Source, build_index

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
        tidy(place)
        return open_index(place, texts.__getitem__)
    return index


def save_index(index: CopyIndex, place: Path) -> None:
    """Write the index's folder, whole or not at all; another process may have been quicker.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(place, lambda work: _write(index, work))


def _write(index: CopyIndex, work: Path) -> None:
    for name in _ARRAYS:
        np.save(work / f"{name}.npy", getattr(index, name))
    words = {"ids": list(index.ids), "names": sorted(index.names)}
    (work / _WORDS).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")


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
