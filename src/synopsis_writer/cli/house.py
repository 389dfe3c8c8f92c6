"""The command group house."""

from typing import TYPE_CHECKING

import typer

from synopsis_writer.characters import printable
from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_json, print_result

if TYPE_CHECKING:
    from synopsis_writer.house.form import Form
    from synopsis_writer.house.house import House

app = typer.Typer(help="Your house: its forms, and what it asks of them.", no_args_is_help=True)


@app.command("show")
def show_house(
    house: options.House = None,
    profile: options.Profile = None,
    form: options.FormOption = None,
    json: options.Json = False,
) -> None:
    """Print what the house asks: its spelling and marks, and for each form the rules that prompts state.

    With --form only that form; with --json all limits, also those that are inherited.
    """
    from synopsis_writer.house.house import open_house

    shown = open_house(options.settings_from(house=house, profile=profile))
    forms = [shown.form(form)] if form else list(shown.forms.values())
    if json:
        data = shown.model_dump(mode="json")
        print_json({**data, "forms": {each.name: data["forms"][each.name] for each in forms}})
        return
    words = ", ".join(shown.known_words) or "none"
    marks = " ".join(shown.quotation_marks)
    print_result(printable(f"{shown.name}: {shown.orthography}, marks {marks}, known words: {words}"))
    for each in forms:
        print_result(f"\n{_described(each, shown)}")


def _described(form: "Form", house: "House") -> str:
    from synopsis_writer.prompts.rules import render_rules

    rules = render_rules(form, house)
    levels = [f"{check}: {level}" for check, level in form.checks.items() if level != "error"]
    lines = [*rules.form, *rules.style, *levels]
    return printable(f"{form.name}: {rules.purpose}") + "".join(f"\n- {line}" for line in lines)
