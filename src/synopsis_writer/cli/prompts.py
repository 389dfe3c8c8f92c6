"""The command group prompts."""

from pathlib import Path
from typing import Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_json, status

app = typer.Typer(help="The templates that prompts are rendered from.", no_args_is_help=True)


@app.callback()
def prompts() -> None:
    """Keep `copy` a command of a group, though it is the only one."""


@app.command("copy")
@options.grouped
def copy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them.")],
    json: options.Json = False,
) -> None:
    """Copy all templates into a folder of your own, with a README.md that says what each may use.

    Name it with --prompts, or put it into your house as prompts/. Of those you delete the program's are used.
    """
    from synopsis_writer.prompts.templates import copy_templates

    written = copy_templates(folder)
    for path in written:
        status(f"written: {path}")
    if json:
        print_json({"written": [str(path) for path in written]})
