"""Which model is asked, and the client that asks it: cache, then budget, then transport."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.models import server
from synopsis_writer.models.base import Limits, ModelClient
from synopsis_writer.models.download import INSTALL, is_packaged_available, pulled_models
from synopsis_writer.models.limits import Budget, BudgetClient, CachingClient, ResponseCache
from synopsis_writer.models.pricing import FREE, HostedPricer, load_prices
from synopsis_writer.settings import Environment, Settings

_log = logging.getLogger(__name__)

ADDRESS = "OPENAI_BASE_URL"
PACKAGED, CACHE_FILE = "packaged", "responses.sqlite3"
_FILES, SERVERS = "file:", "server:"  # before a name that a file and a server's model may have
_NAMED = "named with --model or in the settings"
_FLEX_SECONDS = 900.0  # in the tier `flex` a call may wait so long for free machines, as its provider advises


@dataclass(frozen=True)
class ResolvedModel:
    """The model that will be asked: a server's, a GGUF file, or the packaged one in the guided strategy."""

    kind: Literal["hosted", "file", "packaged"]
    model: str  # its name; for a file its path
    why: str  # what decided, in a few words
    base_url: str | None = None  # None is OpenAI's

    @property
    def server(self) -> str | None:
        """The server's host, port and path, without a URL's user name and password."""
        return server.server_of(self.base_url or server.DEFAULT_BASE_URL) if self.kind == "hosted" else None


def resolve_model(settings: Settings, environment: Environment) -> ResolvedModel:
    """Return the model to ask; raises SettingsError if there is none, or its address cannot be used."""
    named = settings.model
    base_url = server_address(settings, environment)
    may_be_local = named and not named.startswith(SERVERS)
    if may_be_local and (local := _local_model(named or "", settings, base_url)) is not None:
        if settings.is_flag("base_url"):
            raise SettingsError(
                f"--base-url names a server, but the model '{named}' runs on this machine: "
                "name a model of the server with --model, or leave out --base-url"
            )
        return local
    named = named and named.removeprefix(SERVERS)
    if base_url is not None:
        server.check_address(base_url)
        why = "a base URL is set"
    elif environment.get(server.KEY_VARIABLE, "").strip():
        why = f"{server.KEY_VARIABLE} is set"
    elif server.look_up_key(server.host_of(server.DEFAULT_BASE_URL), environment).value:
        why = "a key is in the keyring"
    elif named is not None:
        raise SettingsError(
            f"model '{named}' needs a server: set {server.KEY_VARIABLE}, or name an address with --base-url"
        )
    elif (embedded := _embedded_model(settings)) is not None:
        return embedded
    else:
        raise SettingsError(
            f"no model: set {server.KEY_VARIABLE} for a hosted one, or name a server of yours with "
            f"--base-url and --model, or install the embedded one with: {INSTALL}"
        )
    return ResolvedModel("hosted", named or settings.hosted_model, _NAMED if named else why, base_url)


def server_address(settings: Settings, environment: Environment) -> str | None:
    """Return the address of the server that is set, if one is; raises SettingsError if that is empty."""
    base_url = environment.get(ADDRESS) if settings.base_url is None else settings.base_url
    if base_url is not None and not base_url.strip():
        raise SettingsError(f"{ADDRESS} is empty: unset it, or name a server")
    return base_url


def _local_model(name: str, settings: Settings, base_url: str | None) -> ResolvedModel | None:
    """Return a model on this machine by its name; None if the name is a server's."""
    if name == PACKAGED:
        if not is_packaged_available():
            raise SettingsError(f"the packaged model is not installed: {INSTALL}")
        return ResolvedModel("packaged", PACKAGED, _NAMED)
    if name == "embedded":
        if (embedded := _embedded_model(settings)) is None:
            raise SettingsError(f"no embedded model: {INSTALL}, or: synopsis models pull")
        return embedded
    is_gguf = name.startswith(_FILES) or name.lower().endswith(".gguf")
    path = os.path.expanduser(name.removeprefix(_FILES))  # noqa: PTH111 - it may be a name
    may_be_a_servers = base_url is not None and not name.startswith(_FILES)
    if is_gguf and Path(path).is_file():
        if may_be_a_servers:
            raise SettingsError(
                f"'{name}' is a file here, and the server that is set may have a model of this name: "
                f"write {_FILES}{name} or {SERVERS}{name}"
            )
        return ResolvedModel("file", path, _NAMED)
    # A server may name its model like a pulled one, or after the file it was loaded from.
    pulled = [] if settings.is_flag("base_url") else pulled_models(settings.cache)
    if (model := next((model for model in pulled if model.name == name), None)) is not None:
        return ResolvedModel("file", str(model.path), _NAMED)
    if is_gguf and not may_be_a_servers:
        raise SettingsError(f"{path}: no such file: check the path, or download one with: synopsis models pull NAME")
    return None


def _embedded_model(settings: Settings) -> ResolvedModel | None:
    if pulled := pulled_models(settings.cache):
        return ResolvedModel("file", str(pulled[0].path), "the model pulled last")
    return ResolvedModel("packaged", PACKAGED, "no key and no server is set") if is_packaged_available() else None


def open_transport(
    resolved: ResolvedModel, settings: Settings, environment: Environment, on_text: Callable[[str], None] | None = None
) -> ModelClient:
    """Open the client for a server or a GGUF file, without cache and budget; else as `open_client`."""
    if resolved.kind == "file":
        from synopsis_writer.models.embedded import EmbeddedClient, Engine

        return EmbeddedClient(Engine(Path(resolved.model), threads=settings.threads), on_text)
    from synopsis_writer.models.hosted import CapabilityStore, HostedClient
    from synopsis_writer.models.retry import RetryPolicy

    key = server.look_up_key(server.host_of(resolved.base_url or server.DEFAULT_BASE_URL), environment)
    retry = RetryPolicy(settings.max_retries, max(settings.retry_seconds, limits_of(settings).timeout))
    known = CapabilityStore(settings.cache / server.CAPABILITIES_FILE)
    more: Any = {"insecure": settings.insecure, "key_hint": key.hint, "on_text": on_text}
    return HostedClient(resolved.model, resolved.base_url, key.value, retry=retry, capabilities=known, **more)


@contextlib.asynccontextmanager
async def open_client(
    resolved: ResolvedModel,  # a server or a file, not the packaged model
    settings: Settings,
    environment: Environment = os.environ,  # where the key is looked up; then in the keyring
    on_text: Callable[[str], None] | None = None,  # given the answer while it grows; None asks for it at once
    budget: Budget | None = None,  # the ledger, if several clients share one
) -> AsyncIterator[ModelClient]:
    """Open the client that asks within the budget and caches answers; raises SettingsError, ModelError."""
    open_it = partial(open_transport, resolved, settings, environment, on_text)
    # Keyring, SDK and certificates would hold the loop for a third of a second.
    client = await asyncio.to_thread(open_it) if resolved.kind == "hosted" else open_it()
    try:
        pricer = open_pricer(resolved, settings, environment)
        if pricer.is_deprecated:
            _log.warning("%s: the provider is giving this model up: name another with --model", resolved.model)
        client = BudgetClient(client, pricer, budget or Budget(settings.budget, settings.max_tokens_total))
        if settings.responses != "off":
            try:
                cache = open_cache(settings)
            except FileError as error:
                _log.warning("%s", error)
            else:
                client = CachingClient(client, cache, resolved.server or resolved.model, settings.responses)
        yield client
    finally:
        with contextlib.suppress(Exception):  # an answer is not lost to a connection that does not close
            await client.close()


def open_pricer(resolved: ResolvedModel, settings: Settings, environment: Environment) -> HostedPricer:
    """Return the prices of a model; one on this machine costs nothing. Raises as `load_prices`."""
    if resolved.kind != "hosted":
        return FREE
    prices = load_prices(settings, environment)
    return HostedPricer(resolved.model, resolved.base_url, prices, tier=settings.service_tier)


def limits_of(settings: Settings) -> Limits:
    """Return the bounds of one call."""
    effort, verbosity, tier = settings.reasoning_effort, settings.verbosity, settings.service_tier
    timeout = max(settings.timeout, _FLEX_SECONDS) if tier == "flex" else settings.timeout
    return Limits(settings.max_tokens, timeout, settings.temperature, 0, effort, verbosity, tier)


def open_cache(settings: Settings) -> ResponseCache:
    """Open the file of cached answers; raises FileError."""
    return ResponseCache(settings.cache / CACHE_FILE, megabytes=settings.cache_megabytes, days=settings.cache_days)
