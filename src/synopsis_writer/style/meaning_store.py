"""Sources' vectors on disk: a text is embedded once, and the array of a set of sources is memory-mapped."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from synopsis_writer.style.copies import Source
from synopsis_writer.style.copy_store import index_key
from synopsis_writer.style.meanings import Embedder, Meanings, Vectors, build_meanings, lines_of
from synopsis_writer.style.text import analyse

_MOST_KEPT = 3  # sets of sources; older ones are of sources that have changed
_TEXTS = "texts.json"
_SECONDS = 0.7  # a text, measured on one thread
_WORTH_SAYING = 4  # texts
_UNUSABLE = (OSError, ValueError, EOFError)  # not there, damaged, cut off


def kept_meanings(
    sources: Sequence[Source], embedder: Embedder, folder: Path, say: Callable[[str], None] = lambda _: None
) -> Meanings:
    """Return the sources' meanings: from `folder` as far as they are there, else embedded, and kept.

    A folder that cannot be written costs time, not the answer.
    """
    place = folder / f"{embedder.name}-{index_key(sources)}"
    ids = [source.id for source in sources]
    texts = [_digest(source.text) for source in sources]
    with contextlib.suppress(*_UNUSABLE):
        return Meanings(embedder, ids, *_open(place, texts))
    known = _known(folder, embedder.name)
    missing = {text: source.text for text, source in zip(texts, sources, strict=True) if text not in known}
    if len(missing) >= _WORTH_SAYING:
        say(f"embedding {len(missing)} examples, about {len(missing) * _SECONDS:.0f} s, this once")
    fresh = {text: embedder.embed(lines_of(analyse(raw))) for text, raw in missing.items()}
    made = build_meanings(ids, [known[text] if text in known else fresh[text] for text in texts], embedder)
    with contextlib.suppress(OSError):
        _save(place, texts, made)
        _tidy(place)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _open(place: Path, texts: Sequence[str] | None) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Open a saved set without loading it; raises one of `_UNUSABLE`."""
    held = _held(place)
    vectors, starts = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("vectors", "starts"))
    if (texts is not None and held != texts) or len(starts) != len(held) + 1 or starts[-1] != len(vectors):
        raise ValueError(f"{place}: the vectors are damaged")
    return vectors, starts


def _held(place: Path) -> list[str]:
    held: list[str] = json.loads((place / _TEXTS).read_text(encoding="utf-8"))
    return held


def _known(folder: Path, name: str) -> dict[str, Vectors]:
    """Return the rows of all texts that any saved set of the same embedder holds, by digest."""
    known: dict[str, Vectors] = {}
    for place in sorted(folder.glob(f"{name}-*")):
        with contextlib.suppress(*_UNUSABLE):
            vectors, starts = _open(place, None)
            spans = pairwise(starts.tolist())
            known |= {
                text: vectors[first:last] for text, (first, last) in zip(_held(place), spans, strict=True)
            }
    return known


def _save(place: Path, texts: Sequence[str], made: Meanings) -> None:
    """Write a set's folder, whole or not at all; a damaged one gives way, a quicker process does not."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".set-", dir=place.parent))
    try:
        np.save(work / "vectors.npy", made.vectors)
        np.save(work / "starts.npy", made.starts)
        (work / _TEXTS).write_text(json.dumps(texts), encoding="utf-8")
        with contextlib.suppress(*_UNUSABLE):
            _open(place, texts)
            return
        shutil.rmtree(place, ignore_errors=True)
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _tidy(place: Path) -> None:
    """Keep this set and the newest others."""
    others = [path for path in place.parent.iterdir() if path.is_dir() and path != place]
    for old in sorted(others, key=lambda path: -path.stat().st_mtime)[_MOST_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
