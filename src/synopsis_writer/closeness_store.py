"""Example indexes on disk: built once for a pool, memory-mapped, built anew when the pool changes."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synopsis_writer.closeness import K1, STEM, B, ExampleIndex, build_index, open_bm25
from synopsis_writer.examples import Example
from synopsis_writer.kept import FEWEST_KEPT, tidy, write_whole

_VERSION = 1
_NAMES = "names.json"
_ARRAYS = ("shows", "forms", "costs", "order")
# Not there, cut off, or with other content: what numpy, json and bm25s say of that.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError)


def index_key(examples: Sequence[Example]) -> str:
    """Return 24 hex digits that change when any example changes, or how an index is built."""
    digest = hashlib.sha256(f"{_VERSION} {STEM} {K1} {B}".encode())
    for example in examples:
        for part in (example.id, example.brief.model_dump_json(), example.synopsis.model_dump_json()):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:24]


def kept_examples(examples: Sequence[Example], folder: Path) -> ExampleIndex:
    """Return the index of `examples`: from `folder` when it is there, else built, and kept when it is large.

    A folder that cannot be written costs time, not the answer: the index is then used as it was built.
    """
    if len(examples) < FEWEST_KEPT:
        return build_index(examples)
    place = folder / index_key(examples)
    try:
        return open_index(place, examples)
    except _UNUSABLE:
        shutil.rmtree(place, ignore_errors=True)
    index = build_index(examples)
    with contextlib.suppress(OSError):
        save_index(index, place)
        tidy(place)
    return index


def save_index(index: ExampleIndex, place: Path) -> None:
    """Write the index's folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(place, lambda work: _write(index, work))


def _write(index: ExampleIndex, work: Path) -> None:
    index.bm25.save(work, show_progress=False)
    for name in _ARRAYS:
        np.save(work / f"{name}.npy", getattr(index, name))
    names = {"shows": index.show_numbers, "forms": index.form_numbers}
    (work / _NAMES).write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")


def open_index(place: Path, examples: Sequence[Example]) -> ExampleIndex:
    """Open the saved index of `examples` without loading it: its arrays stay in their files.

    Raises:
        OSError: it is not there.
        ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError: it is damaged.
    """
    names = json.loads((place / _NAMES).read_text(encoding="utf-8"))
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    bm25 = open_bm25(place)
    kept = bm25.scores
    if (
        {len(array) for array in arrays.values()} | {kept["num_docs"]} != {len(examples)}
        or not kept["indptr"][-1] == len(kept["data"]) == len(kept["indices"])
        or len(kept["indptr"]) != len(bm25.vocab_dict) + 1
    ):
        raise ValueError(f"{place}: the index is damaged")
    return ExampleIndex(examples, bm25, **arrays, show_numbers=names["shows"], form_numbers=names["forms"])
