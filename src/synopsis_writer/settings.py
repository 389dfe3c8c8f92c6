"""Settings: flag before environment before config file before default; and where packaged data is."""

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from platformdirs import PlatformDirs
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from synopsis_writer.brief import clean_line
from synopsis_writer.document import read_toml
from synopsis_writer.errors import SettingsError, explain

APP = "synopsis-writer"
_DIRECTORIES = PlatformDirs(APP, appauthor=False)

Environment = Mapping[str, str]  # variables by their names
CacheUse = Literal["read", "write", "off"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
PREFIX = "SYNOPSIS_"
HOUSE_FILE = "house.yaml"  # in the folder of a house
_SECRET = re.compile(r"key|secret|(?:\A|_)token(?:_|\Z)", re.IGNORECASE)


def _locale_language() -> Literal["de", "en"]:
    names = (os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "de" if next(filter(None, names), "").lower().startswith("de") else "en"


class Settings(BaseModel):
    """All settings; None leaves a choice to the server, or sets no bound, unless said otherwise."""

    model_config = {"frozen": True, "extra": "forbid"}

    model: str | None = None  # a server's, a path to a GGUF file, `embedded`, `packaged`; None: what is there
    base_url: str | None = None  # the address of an OpenAI-compatible server
    insecure: bool = False  # let key and text go over plain http to a server on another machine
    hosted_model: str = "gpt-5.4-mini"  # the hosted model to ask when no model is named
    examples: Path | None = None  # a folder of them to use instead of the pool that came with the program
    own_examples: Path = Field(default_factory=lambda: _DIRECTORIES.user_data_path / "examples")  # read in addition
    prompts: Path | None = None  # a folder of your own templates
    house: Path | None = None  # the folder of your house: `house.yaml`, shows, examples, perhaps `prompts`
    profile: Path | None = None  # a file with the house's limits, instead of the house's own
    lang: Literal["de", "en"] = Field(default_factory=_locale_language)  # of findings
    disable: tuple[str, ...] = ()  # names of checks that the gate skips
    review: bool = False  # have a model read each accepted text as a copy editor
    review_model: str | None = None  # which one; None: the one that writes
    semantic: bool = False  # two more checks, by embeddings; they need the extra `semantic`
    out: Path = Path("synopsen")  # the folder to save into
    cache: Path = Field(default_factory=lambda: _DIRECTORIES.user_cache_path)  # also for weights
    attempts: int = Field(default=3, ge=1, le=10)  # per synopsis
    max_retries: int = Field(default=5, ge=0, le=20)  # of the transport, per call
    retry_seconds: float = Field(default=300, gt=0, le=86_400)  # within which retries of a call may begin
    timeout: float = Field(default=180, gt=0, le=3600)  # for one answer; for a streamed one, of silence
    max_tokens: int = Field(default=4000, ge=200, le=100_000)  # of an answer
    temperature: float | None = Field(default=None, ge=0, le=2)  # of sampling
    reasoning_effort: ReasoningEffort | None = None  # how long a model thinks
    verbosity: Verbosity | None = None  # how much a model says
    service_tier: ServiceTier | None = None  # `flex` is cheaper and slower, with longer time-outs here
    pinned: tuple[str, ...] = ()  # ids of examples that every prompt shows, first and in this order
    example_tokens: int = Field(default=7000, ge=0, le=200_000)  # in a prompt; one takes about 950
    threads: int = Field(default=1, ge=1, le=64)  # of the embedded engine, and of the embeddings
    prices: Path | None = None  # your own prices; None: `prices.toml` next to the config file, if any
    budget: Decimal | None = Field(default=None, ge=0, le=10**9)  # in the currency of the prices
    max_tokens_total: int | None = Field(default=None, gt=0, le=10**15)  # prompts and answers together
    responses: CacheUse = "write"  # whether cached answers are used (`read`), only written, or neither
    cache_megabytes: float = Field(default=200, gt=0, le=1_000_000)  # of cached answers; the oldest go first
    cache_days: float = Field(default=90, gt=0, le=36_500)  # how long an answer is cached
    log_format: Literal["text", "json"] = "text"  # of stderr: for a person, or a JSON object a line
    log: Path = Field(default_factory=lambda: _DIRECTORIES.user_data_path / "runs.sqlite3")  # the record of runs
    _flags: frozenset[str] = frozenset()

    @field_validator("*")
    @classmethod
    def _check_value(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name == "base_url" and value is not None and not value.strip():
            raise ValueError("is empty: name a server, or leave it out")
        # `Path.expanduser` would raise for a user that there is not.
        return Path(os.path.expanduser(value)) if isinstance(value, Path) else value  # noqa: PTH111

    @model_validator(mode="before")
    @classmethod
    def _check_characters(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Refuse what is no text; the name of a file may be any bytes but NUL."""
        for name, value in values.items():
            is_path = name in cls.model_fields and "Path" in str(cls.model_fields[name].annotation)
            for text in value if isinstance(value, list | tuple) else [value]:
                if isinstance(text, str | Path) and ("\0" in str(text) or not is_path):
                    try:
                        clean_line(str(text))
                    except ValueError as error:
                        raise ValueError(f"{name} {error}") from error
        return values

    def model_post_init(self, context: Any) -> None:
        """Remember which settings the command line gave: `load_settings` passes them as the context."""
        self._flags = frozenset(context or ())

    @property
    def own_prompts(self) -> Path | None:
        """The folder of templates that is named, or else the house's own, if it has one."""
        own = self.house / "prompts" if self.house else None
        return self.prompts or (own if own and own.is_dir() else None)

    def is_flag(self, name: str) -> bool:
        """Whether the setting `name` was given on the command line."""
        return name in self._flags


def config_file(environment: Environment = os.environ) -> Path:
    """Return the path of the config file: `SYNOPSIS_CONFIG`, or in the user's configuration folder."""
    if named := environment.get(PREFIX + "CONFIG"):
        return Path(os.path.expanduser(named))  # noqa: PTH111
    return _DIRECTORIES.user_config_path / "config.toml"


def load_settings(flags: Mapping[str, Any], environment: Environment = os.environ) -> Settings:
    """Merge flags (None: not given), `SYNOPSIS_*` variables, config file, defaults; SettingsError names the source."""
    path = config_file(environment)
    from_file = _read_config(path) if environment.get(PREFIX + "CONFIG") or path.is_file() else {}
    from_environment: dict[str, Any] = {
        name: value
        for name in Settings.model_fields
        if (value := environment.get(PREFIX + name.upper())) or (value == "" and name == "base_url")
    }
    for name in from_environment.keys() & {"disable", "pinned"}:
        from_environment[name] = [part.strip() for part in from_environment[name].split(",")]
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    if "review_model" in given:
        given.setdefault("review", True)
    merged: dict[str, Any] = {}
    for source, values in (("", given), ("environment", from_environment), (str(path), from_file)):
        try:
            Settings.model_validate(values)
        except ValidationError as error:
            raise SettingsError(f"{source + ': ' if source else ''}{explain(error)}") from error
        merged = {**values, **merged}
    return Settings.model_validate(merged, context=frozenset(given))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        data = read_toml(path)
    except ValueError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    before, _, query = str(data.get("base_url") or "").partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    is_secret = any(re.search("key|token|secret", name, re.IGNORECASE) for name in names)
    host = (before.partition("://")[2] or before).partition("/")[0]
    problems = ["'base_url' holds a password or a key"] * (is_secret or "@" in host)
    problems += [f"'{name}' looks like a key" for name in data if _SECRET.search(name)]
    if problems:
        hint = "keys never go into a file, set OPENAI_API_KEY in the environment"
        raise SettingsError(f"{path}: {problems[0]}: {hint}")
    return data


def of_house(house: Path | None) -> dict[str, Any]:
    """Return the changes of settings by which all is another house's; none for None."""
    return {"house": house, "profile": None, "examples": None, "pinned": ()} if house else {}


def folder(name: str) -> Path:
    """Return the folder `prompts`, `examples` or `evals` that came with the program, or its source tree."""
    package = Path(__file__).resolve().parent
    packaged = package / "_data" / name
    return packaged if packaged.is_dir() else package.parent.parent / name
