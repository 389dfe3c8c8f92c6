"""The flags that several commands share.

Flags that belong together are the fields of a dataclass, named as what they set in the settings or the brief;
`grouped` gives them to a command.
"""

import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from synopsis_writer.cli.console import STDERR

if TYPE_CHECKING:
    from synopsis_writer.settings import Settings

T = TypeVar("T")
_MOST = 1_000_000_000

# As in settings and result, whose import takes long; a test compares them.
CacheUse = Literal["read", "write", "off"]
FileFormat = Literal["md", "json", "txt"]


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """Expand each parameter of a command that is a dataclass of flags into one a flag, and `~` in paths."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in inspect.signature(command).parameters.values():
        flags = [parameter]
        if isinstance(group := parameter.annotation, type) and is_dataclass(group):
            flags = list(inspect.signature(group).parameters.values())
            groups[parameter.name] = group, [flag.name for flag in flags]
        parameters += [flag.replace(kind=inspect.Parameter.KEYWORD_ONLY) for flag in flags]

    @functools.wraps(command)
    def expanded(**given: Any) -> T:
        given |= {name: with_home(value) for name, value in given.items() if isinstance(value, Path | list)}
        made = {
            name: group(**{flag: given.pop(flag) for flag in flags})
            for name, (group, flags) in groups.items()
        }
        return command(**made, **given)

    expanded.__dict__["__signature__"] = inspect.Signature(parameters)
    return expanded


def with_home(value: Path | list[Any]) -> Any:
    """Return a path with `~` as home, which a shell leaves in --out=~/x, or the paths of a list."""
    if isinstance(value, list):
        return [with_home(each) if isinstance(each, Path) else each for each in value]
    return Path(os.path.expanduser(value))  # noqa: PTH111 - it would raise for a user that there is not


def option(flag: str, text: str, metavar: str | None = None, short: str = "", **more: Any) -> Any:
    """Return a flag with its help; `metavar` is shown in place of a Python type."""
    if "min" in more:
        more.setdefault("callback", _in_reach)
    return typer.Option(*filter(None, (flag, short)), metavar=metavar, help=text, **more)


def _in_reach(value: int | list[int] | None) -> int | list[int] | None:
    """Refuse what no database and no calendar reaches."""
    numbers = value if isinstance(value, list) else [value]
    if any(number is not None and number > _MOST for number in numbers):
        raise typer.BadParameter(f"give a number up to {_MOST:,}")
    return value


def settings_from(*groups: Any, **more: Any) -> "Settings":
    """Load the settings; flags, in groups or by the settings' names, go before everything else."""
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
    from synopsis_writer.house.house import open_house
    from synopsis_writer.settings import load_settings

    with contextlib.suppress(SynopsisError):
        house = open_house(load_settings({name: ctx.params.get(name) for name in ("house", "profile")}))
        return [name for name in house.forms if name.startswith(incomplete)]
    return []


def _silence(wanted: bool) -> None:
    if wanted:
        STDERR.setLevel(logging.WARNING)


def _set_log_format(wanted: str | None) -> None:
    STDERR.log_format = wanted or STDERR.log_format


Show = Annotated[str | None, option("--show", "The series, by name or alias.", "NAME")]
Theme = Annotated[str | None, option("--theme", "What the story is about, in your words.", "TEXT")]
FormOption = Annotated[
    str | None,
    option(
        "--form",
        "A form of the house; 'synopsis house show' lists them.  [default: its first]",
        "NAME",
        autocompletion=complete_form,
    ),
]
House = Annotated[
    Path | None,
    option("--house", "Your house: a folder with house.yaml, shows and examples.", "FOLDER"),
]
Words = Annotated[str | None, option("--words", "Length in words, such as 250-400.", "MIN-MAX")]
Characters = Annotated[
    str | None, option("--characters", "Length in characters with blanks, such as 120-180.", "MIN-MAX")
]
AirDate = Annotated[str | None, option("--air-date", "The date or week the text may mention.", "DATE")]
OutlineFile = Annotated[
    Path | None, option("--outline", "A plan from 'synopsis outline'; it includes show and theme.", "FILE")
]
Examples = Annotated[Path | None, option("--examples", "A folder of examples alone; see --house.", "FOLDER")]
Profile = Annotated[Path | None, option("--profile", "A file with limits alone; see --house.", "FILE")]
Semantic = Annotated[
    bool | None, option("--semantic", "Add two checks by meaning; needs the extra 'semantic'.")
]
MaxRetries = Annotated[
    int | None, option("--max-retries", "Transport retries per call, 0 to 20.  [default: 5]", "N")
]
Responses = Annotated[
    CacheUse | None,
    option("--cache", "Cached answers: reuse them, only store them, or neither.  [default: write]"),
]
KeepRejected = Annotated[
    Path | None, option("--keep-rejected", "Save a refused text into this folder.", "FOLDER")
]
NoLog = Annotated[bool, option("--no-log", "Do not record this run in the log.")]
Seed = Annotated[
    int | None, option("--seed", "Seed of the guided strategy; the same seed, the same text.", "N", min=0)
]
Json = Annotated[bool, option("--json", "Print one JSON object instead of text.")]
LogFormat = Annotated[
    Literal["text", "json"] | None,
    option(
        "--log-format",
        "How stderr is written: lines for a person, or a JSON object a line.",
        callback=_set_log_format,
    ),
]


@dataclass(frozen=True)
class OutputFlags:
    """What is printed to stderr, and how."""

    _quiet: Annotated[
        bool, option("--quiet", "Print no status to stderr.", short="-q", callback=_silence)
    ] = False
    _log_format: LogFormat = None


@dataclass(frozen=True)
class BriefFlags:
    """What is asked for."""

    show: Show = None
    theme: Theme = None
    form: FormOption = None
    characters: Annotated[
        list[str] | None, option("--character", "A name that must appear; repeatable.", "NAME")
    ] = None
    beats: Annotated[
        list[str] | None,
        option("--beat", "A plot event that must appear, in a sentence; repeatable, in order.", "TEXT"),
    ] = None
    words: Words = None
    character_count: Characters = None
    air_date: AirDate = None
    notes: Annotated[str | None, option("--notes", "Anything else the text should respect.", "TEXT")] = None


@dataclass(frozen=True)
class SaveFlags:
    """How texts are saved."""

    file_format: Annotated[FileFormat, option("--format", "The format of the saved file.")] = "md"
    force: Annotated[
        bool, option("--force", "Replace a file of the same name; the log has what it held.")
    ] = False
    keep_rejected: KeepRejected = None


@dataclass(frozen=True)
class ServerFlags:
    """The server that is asked."""

    base_url: Annotated[
        str | None, option("--base-url", "The address of an OpenAI-compatible server.", "URL")
    ] = None
    insecure: Annotated[
        bool | None, option("--insecure", "Allow plain http to another machine: key and text can be read.")
    ] = None


@dataclass(frozen=True)
class ModelFlags(ServerFlags):
    """The model that is asked."""

    model: Annotated[
        str | None,
        option(
            "--model",
            "A hosted model's name, a GGUF file, a pulled model, 'embedded' or 'packaged'.",
            "MODEL",
        ),
    ] = None


@dataclass(frozen=True)
class AnswerFlags:
    """How a model answers."""

    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
        option("--reasoning-effort", "How long the model thinks.  [default: the server's]"),
    ] = None
    verbosity: Annotated[
        Literal["low", "medium", "high"] | None,
        option("--verbosity", "How much the model says.  [default: the server's]"),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast"] | None,
        option("--service-tier", "How calls are served; flex: cheaper, slower, with longer time-outs."),
    ] = None


@dataclass(frozen=True)
class PromptFlags:
    """What the prompt is built from."""

    house: House = None
    examples: Examples = None
    pinned: Annotated[
        list[str] | None, option("--pin", "An example to show first in every prompt; repeatable.", "ID")
    ] = None
    prompts: Annotated[Path | None, option("--prompts", "A folder of prompt templates.", "FOLDER")] = None


@dataclass(frozen=True)
class GateFlags:
    """What a text must pass."""

    profile: Profile = None
    disable: Annotated[list[str] | None, option("--disable", "A check to skip; repeatable.", "CHECK")] = None


@dataclass(frozen=True)
class BudgetFlags:
    """What a run may cost."""

    budget: Annotated[
        str | None, option("--budget", "Maximum to spend, in the currency of the prices.", "AMOUNT")
    ] = None
    max_tokens_total: Annotated[
        int | None, option("--max-tokens-total", "Maximum tokens to use, prompts and answers together.", "N")
    ] = None


@dataclass(frozen=True)
class LimitFlags(BudgetFlags):
    """How often a model is asked, and at what cost."""

    attempts: Annotated[
        int | None, option("--attempts", "Maximum attempts per text, 1 to 10.  [default: 3]", "N")
    ] = None
    max_retries: MaxRetries = None


@dataclass(frozen=True)
class RequestFlags(OutputFlags, LimitFlags, AnswerFlags, PromptFlags, ModelFlags):
    """How a model is asked."""


@dataclass(frozen=True)
class ReviewFlags:
    """Whether a model reviews texts."""

    review: Annotated[
        bool | None,
        option("--review/--no-review", "Have a model review accepted texts as a copy editor; one repair."),
    ] = None
    review_model: Annotated[
        str | None,
        option("--review-model", "Who reviews; a cheap one may do.  [default: the writing one]", "MODEL"),
    ] = None


@dataclass(frozen=True)
class RunFlags(ReviewFlags, GateFlags, RequestFlags):
    """How texts are written and checked."""

    responses: Responses = None
    no_log: NoLog = False
