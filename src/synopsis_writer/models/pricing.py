"""What a call costs: by the user's own table, else by the list prices of genai-prices, else unpriced."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from synopsis_writer.document import read_toml
from synopsis_writer.errors import SettingsError, explain
from synopsis_writer.models.server import DEFAULT_BASE_URL
from synopsis_writer.settings import Environment, Settings, config_file
from synopsis_writer.usage import NO_COST, Cost, Usage

PRICES_FILE = "prices.toml"
_DOLLAR = "USD"
_DEAR = frozenset({"priority", "fast"})  # service tiers

_Price = Annotated[Decimal, Field(ge=0)]


class Rate(BaseModel, frozen=True, extra="forbid"):
    """Prices of a million tokens of one model; without `cached` or `written` these are as `input`."""

    input: _Price
    cached: _Price | None = None
    written: _Price | None = None
    output: _Price

    @model_validator(mode="after")
    def _check_cached(self) -> Self:
        fresh, cached, written = self.input, self.cached, self.written
        if cached is not None and cached > fresh:
            raise ValueError(f"cached tokens for {cached} cost more than fresh ones for {fresh}")
        if written is not None and written < fresh:  # a budget reserves the price of these
            raise ValueError(f"written tokens for {written} cost less than fresh ones for {fresh}")
        return self

    def price(self, usage: Usage) -> Decimal:
        """Return the price of `usage`; cached and written tokens are parts of the prompt's."""
        cached, written = _prompt_parts(usage)
        fresh = usage.prompt_tokens - cached - written
        prompt = ((fresh, self.input), (cached, self.cached), (written, self.written))
        total = sum(count * (self.input if price is None else price) for count, price in prompt)
        return (total + usage.completion_tokens * self.output) / 1_000_000


def _prompt_parts(usage: Usage) -> tuple[int, int]:
    """Return the cached and the written tokens, together no more than the prompt has."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    return cached, min(usage.written_tokens, usage.prompt_tokens - cached)


class PriceTable(BaseModel, frozen=True, extra="forbid"):
    """The user's own prices."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = _DOLLAR  # of prices, costs and budget
    usd: Annotated[Decimal, Field(gt=0)] | None = None  # units of it for a dollar, to convert list prices
    batch: Annotated[Decimal, Field(ge=0, le=1)] = Decimal(1)  # part of a price that a call in a batch costs
    models: dict[str, Rate] = {}  # by a model's name, or by its beginning and a `*`

    @field_validator("models")
    @classmethod
    def _check_names(cls, models: dict[str, Rate]) -> dict[str, Rate]:
        for name in models:
            if "*" in name[:-1]:
                raise ValueError(f"the * in '{name}' must be its last letter")
        return models

    def rate(self, model: str) -> Rate | None:
        """Return the prices of `model`: by its whole name, else by the longest beginning."""
        starts = (name for name in self.models if name.endswith("*") and model.startswith(name[:-1]))
        return self.models.get(model) or self.models.get(max(starts, key=len, default=""))


def load_prices(settings: Settings, environment: Environment = os.environ) -> PriceTable:
    """Read the file that is set, or `prices.toml` beside the config file; raises SettingsError, FileError."""
    path = settings.prices or config_file(environment).with_name(PRICES_FILE)
    return read_prices(path) if settings.prices is not None or path.is_file() else PriceTable()


def read_prices(path: Path) -> PriceTable:
    """Read a table of prices; raises as `load_prices`."""
    try:
        table = PriceTable.model_validate(read_toml(path, Decimal))
    except ValidationError as error:
        raise SettingsError(
            f"{path}: {explain(error)}: a table has currency, usd and models, and a model has "
            "input, output and perhaps cached and written, the price of a million tokens"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{path}: not TOML: {error}: put a name with a dot or a * in quotes") from error
    if table.currency == _DOLLAR and table.usd not in {None, Decimal(1)}:
        raise SettingsError(f"{path}: usd: one US dollar is 1 USD: leave usd out, or name another currency")
    return table


@dataclass(frozen=True)
class HostedPricer:
    """Prices for one model of one server."""

    model: str  # that is asked
    base_url: str | None = None  # the server's address; None is OpenAI's
    table: PriceTable = field(default_factory=PriceTable)  # these take precedence over list prices
    is_batch: bool = False  # the calls go through the provider's batch interface
    tier: str | None = None  # asked for; a dear one sets the price until the server reports another
    is_free: bool = False

    @property
    def currency(self) -> str:
        """The currency of the costs; empty where nothing is ever charged."""
        return "" if self.is_free else self.table.currency

    @property
    def is_deprecated(self) -> bool:
        """Whether the list prices say that the provider is giving the model up."""
        found = None if self.is_free else _calculated(Usage(1, 1), self.model, self.base_url, {})
        return bool(found and found.model.deprecated)

    def cost(self, usage: Usage, answered: str = "", tier: str = "") -> Cost | None:
        """Return the cost of one call, by the model that answered, else by the one asked; None: unpriced."""
        if self.is_free or not usage.prompt_tokens:
            return NO_COST if self.is_free else None
        names = (answered, self.model)
        if rate := next(filter(None, map(self.table.rate, names)), None):
            return Cost(rate.price(usage) * (self.table.batch if self.is_batch else 1), self.currency)
        dollar = Decimal(1) if self.table.usd is None and self.currency == _DOLLAR else self.table.usd
        tier = tier or (self.tier if self.tier in _DEAR else None) or ""
        kind = {"processing": "batch"} if self.is_batch else {"service_tier": tier} if tier else {}
        calls = (_calculated(usage, name, self.base_url, kind) for name in dict.fromkeys(names) if name)
        found = next(filter(None, calls), None)
        if found is None or dollar is None:
            return None
        return Cost(Decimal(found.total_price) * dollar, self.currency)


FREE = HostedPricer("", is_free=True)  # the embedded engine, which runs on the user's own machine


def _calculated(usage: Usage, model: str, base_url: str | None, kind: Mapping[str, str]) -> Any:
    """Return what a call of a `kind` costs by the data inside genai-prices; None if they have no price."""
    import genai_prices

    prompt, answer, (cached, written) = usage.prompt_tokens, usage.completion_tokens, _prompt_parts(usage)
    tokens = genai_prices.Usage(
        input_tokens=prompt, output_tokens=answer, cache_read_tokens=cached, cache_write_tokens=written
    )
    # Whatever a server is called, or calls its model.
    with contextlib.suppress(LookupError, ValueError, ArithmeticError):
        parts = urlsplit(base_url or DEFAULT_BASE_URL)
        host = f"https://{(parts.hostname or '').rstrip('.')}"
        # The path's dots go: no provider has one there, and ".openai.azure.com" in a path is not a host.
        address = f"{host}{parts.path.replace('.', '')}"
        found = genai_prices.calc_price(tokens, model, provider_api_url=address, price_context=dict(kind) or None)
        # It matches the beginning of an address: api.openai.com.example.org would cost what OpenAI costs. A
        # pattern that ends with a dot leaves the last part open: `api.moonshot.` is in several countries.
        match = re.match(found.provider.api_pattern, address)
        rest = host[match.end() :] if match else host
        is_whole = not rest or (host.removesuffix(rest).endswith(".") and "." not in rest)
        # A model that is paid by the minute or by the image has no such prices; the sum would be 0. Modal
        # rents out machines: people pay for time there, whatever their model is called.
        price, is_rented = found.model_price, found.provider.id == "modal"
        is_priced = price.input_mtok is not None and price.output_mtok is not None and not is_rented
        return found if is_whole and is_priced and parts.port in {None, 443} else None  # a port of one's own
    return None
