"""`synopsis examples`: the example pool."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import complain, give, give_json, say
from synopsis_writer.errors import ExampleError, GateRefused
from synopsis_writer.kinds import Form

if TYPE_CHECKING:
    from synopsis_writer.examples import Example

app = typer.Typer(help="The example pool that prompts are built from.")


@app.command("list")
def list_examples(
    show: options.Show = None,
    form: options.FormOption = None,
    examples: options.Examples = None,
    json: options.Json = False,
) -> None:
    """List the examples: id, form, words and theme."""
    from synopsis_writer.desk import pool_folders
    from synopsis_writer.examples import load_pool
    from synopsis_writer.settings import load_settings
    from synopsis_writer.shows import find_show

    pool = load_pool(pool_folders(load_settings({"examples": examples})))
    wanted = find_show(pool.shows, show) if show else None
    if show and wanted is None:
        raise ExampleError(
            f"unknown show '{show}': the pool has {', '.join(known.name for known in pool.shows)}"
        )
    chosen = [
        example
        for example in pool.examples
        if (wanted is None or example.brief.show == wanted.name) and form in (None, example.brief.form)
    ]
    if json:
        give_json({"examples": [_row(example) for example in chosen]})
        return
    for example in chosen:
        row = _row(example)
        give(f"{row['id']}  {row['form']}, {row['words']} words: {row['theme']}")


def _row(example: "Example") -> dict[str, str | int]:
    return {
        "id": example.id,
        "show": example.brief.show,
        "form": example.brief.form.value,
        "words": len(example.synopsis.text.split()),
        "theme": example.brief.theme,
        "title": example.synopsis.title,
    }


@app.command("show")
def show_example(
    example_id: Annotated[str, typer.Argument(metavar="ID", help="As 'synopsis examples list' gives it.")],
    examples: options.Examples = None,
) -> None:
    """Print one example with its front matter."""
    from synopsis_writer.desk import pool_folders
    from synopsis_writer.document import read_text
    from synopsis_writer.examples import load_pool
    from synopsis_writer.settings import load_settings

    pool = load_pool(pool_folders(load_settings({"examples": examples})))
    found = next((example for example in pool.examples if example.id == example_id), None)
    if found is None:
        raise ExampleError(f"no example '{example_id}': synopsis examples list names them")
    give(read_text(found.path))


@app.command("check")
def check_examples(examples: options.Examples = None) -> int:
    """Validate every show.yaml and example, and hold each text against the gate."""
    from synopsis_writer.desk import pool_folders
    from synopsis_writer.settings import load_settings
    from synopsis_writer.style.profile import house_profile, load_profile
    from synopsis_writer.upkeep import faults

    settings = load_settings({"examples": examples})
    folders = pool_folders(settings)
    profile = load_profile(settings.profile) if settings.profile else house_profile()
    count, found = faults(folders, profile, settings.cache)
    for fault in found:
        complain(fault)
    if not found:
        give(f"{count} examples in {', '.join(str(folder) for folder in folders)}: all hold")
    return GateRefused.exit_code if found else 0


@app.command("add")
def add_example(
    file: Annotated[Path, typer.Argument(help="Your synopsis, as plain text or Markdown.")],
    show: Annotated[str, typer.Option("--show", help="The series, by name or alias.")],
    theme: Annotated[str, typer.Option("--theme", help="What the text is about, in one clause.")],
    form: Annotated[Form, typer.Option("--form", help="The kind of text.")],
    title: Annotated[str | None, typer.Option("--title", help="Its title.  [default: its heading]")] = None,
    logline: Annotated[
        str | None, typer.Option("--logline", help="Its story in a sentence.  [default: theme]")
    ] = None,
    character: Annotated[
        list[str] | None, typer.Option("--character", help="'Name: Rolle' of a person in it; repeatable.")
    ] = None,
    examples: options.Examples = None,
) -> None:
    """Add a synopsis of your own to the pool, as it is."""
    from synopsis_writer.desk import pool_folders
    from synopsis_writer.examples import load_pool
    from synopsis_writer.resources import folder as packaged
    from synopsis_writer.settings import load_settings
    from synopsis_writer.upkeep import add

    settings = load_settings({"examples": examples})
    folder = settings.examples or settings.own_examples
    known = [packaged("examples"), *(pool for pool in pool_folders(settings) if any(pool.glob("*/*.md")))]
    shows = load_pool(list(dict.fromkeys(known))).shows
    path = add(
        file,
        folder,
        shows,
        show=show,
        theme=theme,
        form=form,
        title=title,
        logline=logline,
        people=character or [],
    )
    say("added")
    give(str(path))
