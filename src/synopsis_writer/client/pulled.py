"""The models that can be pulled by name, and the record of those that were."""

import glob
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer.errors import EngineError, SettingsError, os_reason


@dataclass(frozen=True)
class KnownModel:
    """An instruct model worth pulling.

    Attributes:
        repo: its repository on the hub.
        file: the file in it; all are Q4_K_M, whole in one file.
        parameters: in billions.
        gigabytes: size of the file, in 10⁹ bytes, as the hub shows it.
        licence: its name, as the repository gives it.
        tried: whether this project has written synopses with it.
    """

    repo: str
    file: str
    parameters: float
    gigabytes: float
    licence: str
    tried: bool = False


# Repositories, files and sizes are as public pages show them; this project has pulled none of them yet.
KNOWN: Mapping[str, KnownModel] = {
    "qwen3-8b": KnownModel("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf", 8.2, 5.03, "Apache-2.0"),
    "qwen2.5-7b": KnownModel(
        "bartowski/Qwen2.5-7B-Instruct-GGUF", "Qwen2.5-7B-Instruct-Q4_K_M.gguf", 7.6, 4.68, "Apache-2.0"
    ),
    "llama3.1-8b": KnownModel(
        "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF",
        "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
        8.0,
        4.92,
        "Llama 3.1 Community License",
    ),
    "mistral-7b": KnownModel(
        "lmstudio-community/Mistral-7B-Instruct-v0.3-GGUF",
        "Mistral-7B-Instruct-v0.3-Q4_K_M.gguf",
        7.2,
        4.37,
        "Apache-2.0",
    ),
    "gemma3-4b": KnownModel(
        "ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf", 3.9, 2.49, "Gemma Terms of Use"
    ),
    "llama3.2-3b": KnownModel(
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
        3.2,
        2.02,
        "Llama 3.2 Community License",
    ),
}

_RECORD = "pulled.json"
_FOLDER = "models"
_OPEN_NAME = re.compile(r"([\w.-]+/[\w.-]+):((?:[\w+.-]+/)*[\w+.-]+\.gguf)", re.ASCII | re.IGNORECASE)
_ONE_OF_MANY = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)


class Pulled(BaseModel):
    """A model in the cache: where it came from, and what was checked when it came.

    Attributes:
        name: the name to ask for it by: one of `KNOWN`, or `owner/repo:file`.
        revision: the commit, as the hub gave it.
        size: bytes.
        sha256: of the whole file, as the hub gave it and as it was found.
        path: the file; in the record relative to the cache.
        pulled_at: when it was whole.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    repo: str
    file: str
    revision: str
    size: int
    sha256: str
    path: Path
    pulled_at: datetime


class Target(NamedTuple):
    """A file of a repository, and the name it is asked for by."""

    name: str
    repo: str
    file: str

    def place(self, cache: Path) -> Path:
        """Return where the file lies in `cache`."""
        return cache / _FOLDER / self.repo.replace("/", "--") / self.file.replace("/", "--")


def read_name(name: str) -> Target:
    """Return the file a name stands for.

    Raises:
        SettingsError: it is neither known nor `owner/repo:file.gguf`, or names a part of a model.
    """
    if (known := KNOWN.get(name.lower())) is not None:
        return Target(name.lower(), known.repo, known.file)
    match = _OPEN_NAME.fullmatch(name)
    if match is None or ".." in name:
        raise SettingsError(
            f"'{name}' is no model's name: write owner/repo:file.gguf, or one of {', '.join(KNOWN)}"
        )
    repo, file = match.groups()
    if _ONE_OF_MANY.search(file):
        raise SettingsError(f"{name}: is one of several parts: name a file that holds the whole model")
    for known_name, known in KNOWN.items():
        if (known.repo, known.file) == (repo, file):
            return Target(known_name, repo, file)
    return Target(name, repo, file)


def pulled_models(cache: Path) -> list[Pulled]:
    """Return the models that were pulled into `cache`, newest first, leaving out those whose file is gone."""
    try:
        entries = json.loads((cache / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    models: list[Pulled] = []
    for entry in entries if isinstance(entries, list) else []:
        with suppress(ValidationError, OSError):
            model = Pulled.model_validate(entry)
            path = cache / model.path
            if path.resolve().is_relative_to(cache.resolve()) and path.stat().st_size == model.size:
                models.append(model.model_copy(update={"path": path}))
    return sorted(models, key=lambda model: model.pulled_at.timestamp(), reverse=True)


def forget(name: str, cache: Path) -> None:
    """Delete a pulled model, whole or half pulled, and its entry in the record.

    Raises:
        SettingsError: no such model was pulled into `cache`.
        EngineError: the file or the record cannot be changed.
    """
    models = pulled_models(cache)
    kept = next((model for model in models if model.name == name), None)
    target = Target(kept.name, kept.repo, kept.file) if kept else read_name(name)
    place = target.place(cache)
    doomed = [path for path in (place, *partials(place)) if path.is_file()]
    if not doomed:
        here = ", ".join(model.name for model in models) or "none"
        raise SettingsError(f"{target.name}: was not pulled: pulled models are: {here}")
    try:
        for path in doomed:
            path.unlink()
        with suppress(OSError):  # other files of the same repository may lie there
            place.parent.rmdir()
        _write([model for model in models if model.name != target.name], cache)
    except OSError as error:
        raise EngineError(f"cannot remove {target.name}: {os_reason(error, place)}") from error


def partials(place: Path) -> list[Path]:
    """Return what earlier pulls left of the file."""
    return list(place.parent.glob(f".{glob.escape(place.name)}.*.part"))


def remember(target: Target, revision: str, size: int, sha256: str, cache: Path) -> None:
    """Put a model that has come whole on record, in place of an older one of its name."""
    new = Pulled(
        **target._asdict(),
        revision=revision,
        size=size,
        sha256=sha256,
        path=target.place(cache),
        pulled_at=datetime.now(UTC),
    )
    _write([new, *(model for model in pulled_models(cache) if model.name != new.name)], cache)


def _write(models: list[Pulled], cache: Path) -> None:
    """Write the record whole or not at all."""
    entries = [
        model.model_copy(update={"path": model.path.relative_to(cache)}).model_dump(mode="json")
        for model in models
    ]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=cache, delete=False) as file:
        whole = Path(file.name)
        try:
            json.dump(entries, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
            whole.replace(cache / _RECORD)
        finally:
            whole.unlink(missing_ok=True)
