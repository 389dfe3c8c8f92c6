"""Which language a text is in: py3langid's model, unpacked once and kept."""

import contextlib
import os
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

_LANGUAGES = ["de", "en", "fr", "es", "it", "nl", "tr", "pl"]
_ROWS, _COLUMNS = ("nb_ptc", "nb_pc", "tk_output"), ("tk_nextmove", "tk_row")
_CLASSES = "nb_classes"
_loading = threading.Lock()


@dataclass(frozen=True)
class Classifier:
    """Names the language of a text, of eight; loaded at the first use.

    Attributes:
        folder: where the unpacked model is kept: unpacking takes half a second at every start. None keeps it
            nowhere.
    """

    folder: Path | None = None

    def __call__(self, text: str) -> tuple[str, float]:
        """Return the language's code, and its probability, 0 to 1."""
        name, probability = self._identifier().classify(text)
        return name, float(probability)

    def load(self) -> None:
        """Load the model now."""
        self._identifier()

    def _identifier(self) -> Any:
        with _loading:  # whoever is first; the others wait for the same one
            return _load(self.folder)


UNKEPT = Classifier()


@cache
def _load(folder: Path | None) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    place = folder and folder / f"languages-{version('py3langid')}.npz"
    if place is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
            return _open(place)
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_LANGUAGES)
    if place is not None:
        with contextlib.suppress(OSError):  # a folder that cannot be written costs time, not the answer
            _keep(identifier, place)
    return identifier


def _open(place: Path) -> Any:
    from py3langid.langid import LanguageIdentifier

    with place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        table, priors, output = (kept[name] for name in _ROWS)
        moves, rows = (memoryview(kept[name]) for name in _COLUMNS)  # read number by number, and quick at it
        classes = kept[_CLASSES].tolist()
    return LanguageIdentifier(table, priors, classes, moves, output.tolist(), norm_probs=True, tk_row=rows)


def _keep(identifier: Any, place: Path) -> None:
    """Write the model's file, whole or not at all; another process may have been quicker."""
    place.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(identifier, name)) for name in (*_ROWS, *_COLUMNS, _CLASSES)
    }
    handle, work = tempfile.mkstemp(prefix=".languages-", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        Path(work).replace(place)
    finally:
        Path(work).unlink(missing_ok=True)
