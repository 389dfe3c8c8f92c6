"""The whole way to a model: transport, price and budget, and the cache before them."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping

from synopsis_writer.client import Limits, ModelClient
from synopsis_writer.client.budget import Budget, BudgetClient
from synopsis_writer.client.cache import CachingClient, ResponseCache
from synopsis_writer.client.choice import Choice, open_client
from synopsis_writer.client.pricing import FREE, HostedPricer, Pricer, load_prices
from synopsis_writer.errors import FileError
from synopsis_writer.kinds import CacheUse
from synopsis_writer.settings import Settings

CACHE_FILE = "responses.sqlite3"


@contextlib.asynccontextmanager
async def open_chain(
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str] = os.environ,
    announce: Callable[[str], None] = lambda _: None,
    grown: Callable[[str], None] | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[ModelClient]:
    """Open the client that asks the chosen model, within the budget, and keeps its answers.

    Args:
        choice: a server or a file.
        settings: all settings.
        environment: where the key stands.
        announce: is told of waits, and of a cache that fails.
        grown: is given the answer so far while it grows; None asks for it whole.
        budget: the ledger, where several clients share one; None is one of its own.

    Raises:
        SettingsError: the address, the prices or the budget cannot be used.
        ModelError: the file cannot be loaded.
    """
    client = open_client(choice, settings, environment, announce, grown)
    try:
        if budget is None:
            budget = Budget(settings.budget, settings.max_tokens_total)
        client = BudgetClient(client, pricer(choice, settings, environment), budget)
        if settings.responses is not CacheUse.OFF:
            client = _cached(client, choice, settings, announce)
        yield client
    finally:
        await client.close()


def pricer(choice: Choice, settings: Settings, environment: Mapping[str, str]) -> Pricer:
    """Return what knows the chosen model's prices; a model on this machine costs nothing.

    Raises:
        SettingsError: the table of prices is broken.
    """
    if choice.kind != "hosted":
        return FREE
    return HostedPricer(choice.model, choice.base_url, load_prices(settings, environment))


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
    client: ModelClient, choice: Choice, settings: Settings, announce: Callable[[str], None]
) -> ModelClient:
    try:
        cache = open_cache(settings)
    except FileError as error:
        announce(str(error))
        return client
    return CachingClient(client, cache, choice.server or choice.model, settings.responses, announce)
