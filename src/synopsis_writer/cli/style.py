"""`synopsis style`: the house's bands."""

from pathlib import Path
from typing import Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import give, say

app = typer.Typer(help="The bands of your house.")


@app.command("calibrate")
def calibrate_style(
    examples: Annotated[Path, typer.Option("--examples", help="A folder of your own texts, .md or .txt.")],
    form: options.FormOption = None,
    name: Annotated[str, typer.Option("--name", help="The profile's name.")] = "own",
) -> None:
    """Learn the bands from your own texts, and print them as a profile: save it, and use it with --profile.

    A text's form stands in its front matter; --form is that of the texts without one. Forms without a text
    keep the house's bands.
    """
    from synopsis_writer.errors import FileError
    from synopsis_writer.style.calibrate import FEWEST_TEXTS, as_data, calibrate
    from synopsis_writer.style.profile import house_profile
    from synopsis_writer.yamlblock import format_yaml

    if not examples.is_dir():
        raise FileError(f"{examples}: no such folder: name one with --examples")
    learnt = calibrate(examples, house_profile(), name, form)
    for own, count in learnt.counts.items():
        few = (
            f": too few to know its spread, at least {FEWEST_TEXTS} are wanted"
            if count < FEWEST_TEXTS
            else ""
        )
        say(f"{own}: learnt from {count} text{'s' if count > 1 else ''}{few}")
    give(format_yaml(as_data(learnt.profile)))
