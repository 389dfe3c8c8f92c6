"""Flags that several commands share: fields of dataclasses, named after the settings that they set."""

import contextlib
import copy
import functools
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import typer
from typer.models import OptionInfo

from synopsis_writer.cli.console import STDERR, Output

if TYPE_CHECKING:
    from synopsis_writer.settings import Settings

_MOST = 1_000_000_000

# As in settings and result, whose import takes long; a test compares them.
CacheUse = Literal["read", "write", "off"]
FileFormat = Literal["md", "json", "txt"]
LogFormat = Literal["text", "json"]


def with_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Expand each dataclass of flags into one parameter a flag; an `Output` brings --json."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    signature = inspect.signature(command)
    for parameter in signature.parameters.values():
        flags = [parameter]
        if isinstance(group := parameter.annotation, type) and is_dataclass(group):
            flags = list(inspect.signature(group).parameters.values())
            groups[parameter.name] = group, [flag.name for flag in flags]
        parameters += map(_named, flags)

    prints = signature.return_annotation is Output
    if prints:
        json = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=JSON, annotation=bool)
        parameters.append(_named(json))

    @functools.wraps(command)
    def expanded(**given: Any) -> Any:
        as_json = prints and given.pop("json")
        made = {name: group(**{flag: given.pop(flag) for flag in flags}) for name, (group, flags) in groups.items()}
        result = command(**made, **given)
        return result.print(as_json=as_json) if isinstance(result, Output) else result

    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    expanded.__dict__["__signature__"] = inspect.Signature(parameters)
    return expanded


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a keyword-only parameter, whose flag is `--` and its name unless another long one is given."""
    shown = copy.copy(parameter.default)
    if Path in (parameter.annotation, *get_args(parameter.annotation)):
        shown.parser = _path
    if isinstance(shown, OptionInfo) and not any(name.startswith("--") for name in shown.param_decls or ()):
        shown.param_decls = (f"--{parameter.name.strip('_').replace('_', '-')}", *(shown.param_decls or ()))
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=shown)


def _path(value: str | Path) -> Path:
    """Return a path with `~` as home, which a shell leaves in --out=~/x; an empty one would be this folder."""
    if not str(value):
        raise typer.BadParameter("it is empty: name a file or folder")
    return Path(os.path.expanduser(value))  # noqa: PTH111 - it would raise for a user that there is not


def option(text: str, metavar: str | None = None, *names: str, default: Any = None, **more: Any) -> Any:
    """Return a flag with its help; `metavar` is shown for a type, `names` go before its own."""
    return typer.Option(default, *names, metavar=metavar, help=text, **more)


def switch(text: str, *names: str, default: bool | None = False, **more: Any) -> Any:
    """Return a flag that takes no value."""
    return typer.Option(default, *names, help=text, **more)


def number(text: str, *names: str, default: Any = None, metavar: str = "N", **more: Any) -> Any:
    """Return a flag that takes a whole number."""
    return typer.Option(default, *names, metavar=metavar, help=text, callback=_in_reach, **more)


def argument(text: str, metavar: str, default: Any = ..., **more: Any) -> Any:
    """Return an argument with its help; without a default it is required."""
    return typer.Argument(default, metavar=metavar, help=text, **more)


def _in_reach(value: int | list[int] | None) -> int | list[int] | None:
    """Refuse numbers too large for databases and calendars."""
    numbers = value if isinstance(value, list) else [value]
    if any(number is not None and number > _MOST for number in numbers):
        raise typer.BadParameter(f"give a number up to {_MOST:,}")
    return value


def _set_log_format(wanted: str | None) -> None:
    STDERR.log_format = wanted or STDERR.log_format


def settings_from(*groups: Any, **more: Any) -> "Settings":
    """Load the settings; flags, in groups or by the settings' names, override everything else."""
    from synopsis_writer.settings import Settings, load_settings

    flags = {name: value for group in groups for name, value in vars(group).items()}
    named = {name: value for name, value in flags.items() if name in Settings.model_fields}
    settings = load_settings({**named, **more, "log_format": STDERR.log_format})
    STDERR.log_format = settings.log_format
    for name, where in {"examples": "shows and examples", "profile": "limits, as house.yaml"}.items():
        if settings.is_flag(name):
            hint = f"--{name} still works; --house FOLDER takes its place: put the {where} into that folder"
            STDERR.hints += (hint,)
    return settings


def complete_form(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the forms of the house that begin with what was typed; none where it cannot be read."""
    from synopsis_writer.errors import SynopsisError
    from synopsis_writer.house import open_house
    from synopsis_writer.settings import load_settings

    with contextlib.suppress(SynopsisError):
        house = open_house(load_settings({name: ctx.params.get(name) for name in ("house", "profile")}))
        return [name for name in house.forms if name.startswith(incomplete)]
    return []


SHOW = option("The series, by name or alias.", "NAME")
THEME = option("What the story is about, in your words.", "TEXT")
_FORM_HELP = "A form of the house; 'synopsis house show' lists them."
FORM = option(_FORM_HELP, "NAME", autocompletion=complete_form)
HOUSE = option("Your house: a folder with house.yaml, shows and examples.", "FOLDER")
WORDS = option("Length in words, such as 250-400.", "MIN-MAX")
CHARACTERS = option("Length in characters with blanks, such as 120-180.", "MIN-MAX", "--characters")
AIR_DATE = option("The date or week the text may mention.", "DATE")
OUTLINE = option("A plan from 'synopsis outline'; it includes show and theme.", "FILE")
EXAMPLES = option("A folder of examples alone; see --house.", "FOLDER")
PROFILE = option("A file with limits alone; see --house.", "FILE")
SEMANTIC = switch("Add two checks by meaning; needs the extra 'semantic'.", default=None)
MAX_RETRIES = number("Transport retries per call, 0 to 20.  [default: 5]")
CACHE = option("Cached answers: reuse them, only store them, or neither.  [default: write]", None, "--cache")
KEEP_REJECTED = option("Save a refused text into this folder.", "FOLDER")
NO_LOG = switch("Do not record this run in the log.")
SEED = number("Seed of a demo draft: the same seed, the same text.", min=0)
FORMAT = option("What to write.", None, "--format", default=...)
JSON = switch("Print one JSON object instead of text.")
LOG_FORMAT = option("Lines for a person on stderr, or a JSON object a line.", callback=_set_log_format)


@dataclass(frozen=True)
class OutputFlags:
    """What is printed to stderr, and how."""

    _quiet: bool = switch(
        "Print no status to stderr.",
        "-q",
        callback=lambda wanted: STDERR.setLevel(logging.WARNING if wanted else STDERR.level),
    )
    _log_format: LogFormat | None = LOG_FORMAT


@dataclass(frozen=True)
class TextFlags:
    """What a text is about, and what is asked of it."""

    show: str | None = SHOW
    theme: str | None = THEME
    form: str | None = FORM
    words: str | None = WORDS
    character_count: str | None = CHARACTERS


@dataclass(frozen=True)
class BriefFlags(TextFlags):
    """What is asked for."""

    form: str | None = option(f"{_FORM_HELP}  [default: its first]", "NAME", autocompletion=complete_form)
    characters: list[str] | None = option("A name that must appear; repeatable.", "NAME", "--character")
    beats: list[str] | None = option("A plot event, in a sentence; repeatable, in order.", "TEXT", "--beat")
    air_date: str | None = AIR_DATE
    notes: str | None = option("Anything else the text should respect.", "TEXT")


@dataclass(frozen=True)
class SaveFlags:
    """How texts are saved."""

    file_format: FileFormat = option("The format of the saved file.", None, "--format", default="md")
    force: bool = switch("Replace a file of the same name; the log has what it held.")
    keep_rejected: Path | None = KEEP_REJECTED


@dataclass(frozen=True)
class ServerFlags:
    """The server that is asked."""

    base_url: str | None = option("The address of an OpenAI-compatible server.", "URL")
    insecure: bool | None = switch("Allow plain http to another machine: it can be read.", default=None)


@dataclass(frozen=True)
class ModelFlags(ServerFlags):
    """The model that is asked."""

    model: str | None = option("A server's model, a GGUF file, a pulled one, 'embedded' or 'packaged'.", "MODEL")


@dataclass(frozen=True)
class AnswerFlags:
    """How a model answers."""

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = option(
        "How long the model thinks.  [default: the server's]"
    )
    verbosity: Literal["low", "medium", "high"] | None = option("How much it says.  [default: the server's]")
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = option(
        "How calls are served; flex: cheaper, slower, with longer time-outs."
    )


@dataclass(frozen=True)
class PromptFlags:
    """What the prompt is built from."""

    house: Path | None = HOUSE
    examples: Path | None = EXAMPLES
    pinned: list[str] | None = option("An example to show first in every prompt; repeatable.", "ID", "--pin")
    prompts: Path | None = option("A folder of prompt templates.", "FOLDER")


@dataclass(frozen=True)
class GateFlags:
    """What a text must pass."""

    profile: Path | None = PROFILE
    disable: list[str] | None = option("A check to skip; repeatable.", "CHECK")


@dataclass(frozen=True)
class BudgetFlags:
    """What a run may cost."""

    budget: str | None = option("Maximum to spend, in the currency of the prices.", "AMOUNT")
    max_tokens_total: int | None = number("Maximum tokens to use, prompts and answers together.")


@dataclass(frozen=True)
class LimitFlags(BudgetFlags):
    """How often a model is asked, and at what cost."""

    attempts: int | None = number("Maximum attempts per text, 1 to 10.  [default: 3]")
    max_retries: int | None = MAX_RETRIES


@dataclass(frozen=True)
class RequestFlags(OutputFlags, LimitFlags, AnswerFlags, PromptFlags, ModelFlags):
    """How a model is asked."""


@dataclass(frozen=True)
class ReviewFlags:
    """Whether a model reviews texts."""

    review: bool | None = switch("Have a model review accepted texts.", "--review/--no-review", default=None)
    review_model: str | None = option("Who reviews; a cheap one may do.  [default: the writing one]", "MODEL")


@dataclass(frozen=True)
class RunFlags(ReviewFlags, GateFlags, RequestFlags):
    """How texts are written and checked."""

    responses: CacheUse | None = CACHE
    no_log: bool = NO_LOG
