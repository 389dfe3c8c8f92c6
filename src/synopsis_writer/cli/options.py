"""The flags that several commands share.

Flags that belong together are the fields of a dataclass, named as what they set in the settings or the brief;
`grouped` gives them to a command.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from synopsis_writer.cli.console import STDERR

if TYPE_CHECKING:
    from synopsis_writer.settings import Settings

T = TypeVar("T")

# As in brief, settings and result, whose import takes long; a test compares them.
FormName = Literal["episode", "teaser", "special", "week", "portrait"]
CacheUse = Literal["read", "write", "off"]
FileFormat = Literal["md", "json", "txt"]


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """Expand each parameter of a command that is a dataclass of flags into one parameter a flag."""
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
        made = {
            name: group(**{flag: given.pop(flag) for flag in flags})
            for name, (group, flags) in groups.items()
        }
        return command(**made, **given)

    expanded.__dict__["__signature__"] = inspect.Signature(parameters)
    return expanded


def settings_from(*groups: Any, **more: Any) -> "Settings":
    """Load the settings; flags, in groups or by the settings' names, go before everything else.

    Raises:
        SettingsError: an unknown or wrong setting.
        FileError: `SYNOPSIS_CONFIG` names a file that cannot be read.
    """
    from synopsis_writer.settings import load_settings

    return load_settings(
        {name: value for flags in (*map(vars, groups), more) for name, value in flags.items()}
    )


def _silence(wanted: bool) -> None:
    if wanted:
        STDERR.setLevel(logging.WARNING)


Show = Annotated[str | None, typer.Option("--show", metavar="NAME", help="The series, by name or alias.")]
Theme = Annotated[
    str | None, typer.Option("--theme", metavar="TEXT", help="What the story is about, in your words.")
]
FormOption = Annotated[FormName | None, typer.Option("--form", help="The kind of text.  [default: episode]")]
OutlineFile = Annotated[
    Path | None,
    typer.Option(
        "--outline", metavar="FILE", help="A plan from 'synopsis outline'; it includes show and theme."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A hosted model's name, a GGUF file, a pulled model, 'embedded' or 'packaged'.",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        "--examples", metavar="FOLDER", help="A folder of examples to use instead of the built-in ones."
    ),
]
Profile = Annotated[
    Path | None, typer.Option("--profile", metavar="FILE", help="A file with your house's style limits.")
]
Semantic = Annotated[
    bool | None,
    typer.Option("--semantic", help="Add two checks by meaning; needs the extra 'semantic'."),
]
MaxRetries = Annotated[
    int | None,
    typer.Option("--max-retries", metavar="N", help="Transport retries per call, 0 to 20.  [default: 5]"),
]
Responses = Annotated[
    CacheUse | None,
    typer.Option(
        "--cache", help="Cached answers: reuse them, only store them, or neither.  [default: write]"
    ),
]
NoLog = Annotated[bool, typer.Option("--no-log", help="Do not record this run in the log.")]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, metavar="N", help="Seed of the guided strategy; the same seed, the same text."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_silence, help="Print no status to stderr.")]


@dataclass(frozen=True)
class BriefFlags:
    """What is asked for."""

    show: Show = None
    theme: Theme = None
    form: FormOption = None
    characters: Annotated[
        list[str] | None,
        typer.Option("--character", metavar="NAME", help="A name that must appear; repeatable."),
    ] = None
    beats: Annotated[
        list[str] | None,
        typer.Option(
            "--beat",
            metavar="TEXT",
            help="A plot event that must appear, in a sentence; repeatable, in order.",
        ),
    ] = None
    words: Annotated[
        str | None, typer.Option("--words", metavar="MIN-MAX", help="Length in words, such as 250-400.")
    ] = None
    air_date: Annotated[
        str | None, typer.Option("--air-date", metavar="DATE", help="The date or week the text may mention.")
    ] = None
    notes: Annotated[
        str | None, typer.Option("--notes", metavar="TEXT", help="Anything else the text should respect.")
    ] = None


@dataclass(frozen=True)
class ServerFlags:
    """The server that is asked."""

    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="The address of an OpenAI-compatible server."),
    ] = None
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Allow plain http to another machine: key and text can be read."),
    ] = None


@dataclass(frozen=True)
class PromptFlags:
    """What the prompt is built from."""

    examples: Examples = None
    pinned: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="ID", help="An example to show first in every prompt; repeatable."),
    ] = None
    prompts: Annotated[
        Path | None, typer.Option("--prompts", metavar="FOLDER", help="A folder of prompt templates.")
    ] = None


@dataclass(frozen=True)
class GateFlags:
    """What a text must pass."""

    profile: Profile = None
    disable: Annotated[
        list[str] | None, typer.Option("--disable", metavar="CHECK", help="A check to skip; repeatable.")
    ] = None


@dataclass(frozen=True)
class BudgetFlags:
    """What a run may cost."""

    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="AMOUNT", help="Maximum to spend, in the currency of the prices."),
    ] = None
    max_tokens_total: Annotated[
        int | None,
        typer.Option(
            "--max-tokens-total", metavar="N", help="Maximum tokens to use, prompts and answers together."
        ),
    ] = None


@dataclass(frozen=True)
class LimitFlags(BudgetFlags):
    """How often a model is asked, and at what cost."""

    attempts: Annotated[
        int | None,
        typer.Option("--attempts", metavar="N", help="Maximum attempts per text, 1 to 10.  [default: 3]"),
    ] = None
    max_retries: MaxRetries = None
