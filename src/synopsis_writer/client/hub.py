"""Larger models from the Hugging Face hub: pulled once into the cache, checked, and kept on record.

The hub's own download throws a broken file away; here the file is fetched over plain HTTP under a name of our
own, so that the next pull goes on where the last one ended.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from synopsis_writer import __version__
from synopsis_writer.client.hub_faults import hub_address, hub_failure
from synopsis_writer.client.pulled import Target, partials, pulled_models, read_name, remember
from synopsis_writer.client.weights import INSTALL
from synopsis_writer.errors import EngineError, RequestRefused, SettingsError

Announce = Callable[[str], None]


_MAGIC = b"GGUF"
_SHA256 = re.compile(r"[0-9a-f]{64}")
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
        ConnectionFailed: the hub cannot be reached, or broke off; what came is kept for the next pull.
        RequestRefused: the hub does not know the name, or wants a token or a licence accepted.
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
    if not found.commit_hash or found.size is None or not _SHA256.fullmatch(found.etag or ""):
        raise RequestRefused(
            f"{endpoint}: names no commit, size and sha256 for {target.name}, so it could not be checked: "
            "look at HF_ENDPOINT and your proxy"
        )
    if found.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise RequestRefused(f"{target.name}: is larger than 50 GB: take a smaller model")
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
