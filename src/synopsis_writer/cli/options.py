"""The flags that several commands share."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from synopsis_writer.cli.console import STDERR
from synopsis_writer.kinds import CacheUse, Form

FileFormat = Literal["md", "json", "txt"]  # as in result.py, whose import takes long


def _silence(wanted: bool) -> None:
    if wanted:
        STDERR.setLevel(logging.WARNING)


Show = Annotated[str | None, typer.Option("--show", help="The series, by name or alias.")]
Theme = Annotated[str | None, typer.Option("--theme", help="What the story is about, in your words.")]
FormOption = Annotated[Form | None, typer.Option("--form", help="The kind of text.  [default: episode]")]
Characters = Annotated[
    list[str] | None, typer.Option("--character", help="A name that must turn up; repeatable.")
]
Beats = Annotated[
    list[str] | None,
    typer.Option("--beat", help="A sentence of plot that must turn up; repeatable, in order."),
]
Words = Annotated[str | None, typer.Option("--words", metavar="MIN-MAX", help="Length in words, as 250-400.")]
AirDate = Annotated[str | None, typer.Option("--air-date", help="The date or week the text may name.")]
Notes = Annotated[str | None, typer.Option("--notes", help="Anything else the text should respect.")]
OutlineFile = Annotated[
    Path | None, typer.Option("--outline", help="A plan from 'synopsis outline'; show and theme stand in it.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="A hosted model's name, a GGUF file, a pulled model, 'embedded' or 'packaged'."
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="The address of an OpenAI-compatible server.")
]
Insecure = Annotated[
    bool | None,
    typer.Option("--insecure", help="Allow plain http to another machine: key and text can be read."),
]
Examples = Annotated[
    Path | None, typer.Option("--examples", help="A folder of examples instead of the built-in pool.")
]
Pin = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="ID", help="An example every prompt shows, first; repeatable."),
]
Prompts = Annotated[Path | None, typer.Option("--prompts", help="A folder of prompt templates.")]
Profile = Annotated[Path | None, typer.Option("--profile", help="A file with your house's bands.")]
Disable = Annotated[
    list[str] | None, typer.Option("--disable", help="A check the gate leaves out; repeatable.")
]
Semantic = Annotated[
    bool | None,
    typer.Option("--semantic", help="Two more checks, by meaning; needs the extra 'semantic'."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The folder to save in.  [default: synopsen]")]
Format = Annotated[FileFormat, typer.Option("--format", help="The format of the saved file.")]
Attempts = Annotated[int | None, typer.Option("--attempts", help="Attempts at most, 1 to 10.  [default: 3]")]
BestOf = Annotated[int, typer.Option("--best-of", min=1, max=16, help="First drafts to choose from.")]
MaxRetries = Annotated[
    int | None, typer.Option("--max-retries", help="Transport retries a call, 0 to 20.  [default: 5]")
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="AMOUNT", help="Money that may be spent, in the currency of the prices."
    ),
]
MaxTokensTotal = Annotated[
    int | None,
    typer.Option("--max-tokens-total", help="Tokens that may be spent, prompts and answers together."),
]
Cache = Annotated[
    CacheUse | None,
    typer.Option(
        "--cache", help="Kept answers: give them again, only keep them, or neither.  [default: write]"
    ),
]
NoLog = Annotated[bool, typer.Option("--no-log", help="Do not note this run in the log.")]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of the guided strategy; the same gives the same.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_silence, help="Print no status to stderr.")]
