"""Where prompts, examples and evals lie: inside the wheel, or in the source tree of an editable install."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SOURCE_TREE = _PACKAGE.parent.parent


def folder(name: str) -> Path:
    """Return the folder `prompts`, `examples` or `evals` that came with the program."""
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _SOURCE_TREE / name
