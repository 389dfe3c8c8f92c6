"""The command group house."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.characters import printable
from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_json, print_result, status, warn
from synopsis_writer.cli.options import option
from synopsis_writer.errors import FileError, GateRefusedError, InputError

if TYPE_CHECKING:
    from synopsis_writer.house.form import Form
    from synopsis_writer.house.house import House
    from synopsis_writer.learning.proof import Proof
    from synopsis_writer.learning.texts import OwnText
    from synopsis_writer.settings import Settings

app = typer.Typer(help="Your house: its forms, and what it asks of them.", no_args_is_help=True)

_ENOUGH = 15  # texts of a form


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


@app.command("learn")
@options.grouped
def learn(
    *,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Your texts: .txt, .md, .docx, .html, .csv, .json.")
    ],
    out: Annotated[Path, option("--out", "The folder of the new house.", "HOUSE")],
    show: Annotated[str | None, option("--show", "The series of all texts.", "NAME")] = None,
    form: Annotated[str | None, option("--form", "Make all texts one form of this name.", "NAME")] = None,
    name: Annotated[
        str | None, option("--name", "The house's name.  [default: the folder's]", "NAME")
    ] = None,
    ask: Annotated[bool, option("--ask", "Ask the model for themes that are missing; it costs.")] = False,
    force: Annotated[bool, option("--force", "Replace a house that is there.")] = False,
    model: options.ModelFlags,
    limits: options.BudgetFlags,
    json: options.Json = False,
    _output: options.OutputFlags,
) -> None:
    """Learn a house from a folder of your texts, write it, and prove it on them.

    Show, form and theme come from the flags, a CSV's columns, the front matter, or the folders' names. Texts
    without a form are parted by length; a missing theme is the first sentence, or with --ask the model's.
    """
    from dataclasses import replace

    from synopsis_writer.learning.learn import check_target, learn_proven, write_house
    from synopsis_writer.learning.texts import read_texts, with_forms

    settings = options.settings_from(model, limits)
    check_target(out, force=force)
    given = {key: value for key, value in {"show": show, "form": form}.items() if value}
    texts = with_forms(read_texts(folder, given, skip=out))
    if any(not own.show for own in texts):
        shared = folder.resolve().name if folder.is_dir() else folder.stem
        status(f"no text names its show: it is called '{shared}'; --show names it")
        texts = [replace(own, show=own.show or shared) for own in texts]
    texts = _with_themes(texts, settings if ask else None)
    learnt, proof = learn_proven(name or out.resolve().name, texts)
    write_house(out, learnt, texts, proof, force=force)
    for each in learnt.house.forms.values():
        count = sum(own.form == each.name for own in texts)
        (least, most), unit = each.length
        status(f"{each.name}: {count} text{'s' * (count != 1)}, {least:g} to {most:g} {unit}")
        if count < _ENOUGH:
            warn(f"{each.name}: so few texts leave limits near the built-in ones: {_ENOUGH} are enough")
        for check, level in each.checks.items():
            status(f"{each.name}: {check} is a {level}: {proof.reason(each.name, check)}")
    status(f"{out}: a house of {len(texts)} texts in {len(learnt.shows)} shows")
    _print(proof, json=json, house=str(out))


def _with_themes(texts: "Sequence[OwnText]", settings: "Settings | None") -> "list[OwnText]":
    """Return the texts, those without a theme with one of the model's, or with their first sentence."""
    from dataclasses import replace

    from synopsis_writer.formats.reading import first_sentence

    missing = [own for own in texts if not own.theme]
    themes: dict[str, str] = {}
    if missing and settings:
        import asyncio

        from synopsis_writer.learning.themes import ask_themes

        themes, cost = asyncio.run(ask_themes(missing, settings))
        status(f"{len(themes)} theme{'s are' if len(themes) != 1 else ' is'} the model's: {cost}")
    if left := len(missing) - len(themes):
        hint = "" if settings else "; --ask asks the model for them"
        status(f"{left} text{'s have' if left != 1 else ' has'} no theme: the first sentence is it{hint}")
    known = [replace(own, theme=own.theme or themes.get(own.id, "")) for own in texts]
    first = {own.id: first_sentence(own.text.raw) for own in known if not own.theme}
    return [replace(own, theme=first[own.id], has_theme=False) if own.id in first else own for own in known]


@app.command("check")
def check(house: options.House = None, json: options.Json = False) -> int:
    """Repeat a house's proof, after an edit say: how its gate judges its own texts, and damaged ones.

    Exits 1 if a check at level error refuses more than one in twenty of its own texts.
    """
    from synopsis_writer.examples import load_pool
    from synopsis_writer.house.house import open_house
    from synopsis_writer.learning.proof import prove
    from synopsis_writer.learning.texts import own_text
    from synopsis_writer.workspace import pool_folders

    settings = options.settings_from(house=house)
    opened, pool = open_house(settings), load_pool(pool_folders(settings))
    texts = [own_text(example) for example in pool.examples]
    for own in texts:
        if own.form not in opened.forms:
            raise InputError(
                f"{own.source.where}: no form '{own.form}': the house has {', '.join(opened.forms)}"
            )
    if not texts:
        raise FileError(f"{settings.house}: holds no text of its own: synopsis examples add")
    proof = prove(texts, lambda _: (opened, pool.shows))
    _print(proof, json=json, house=str(settings.house or opened.name))
    strict = [line for line in proof.lines if line.level == "error" and line.is_too_strict]
    for line in strict:
        refused = f"{len(line.refused)} of {line.texts} texts"
        warn(f"{line.form}: {line.check} refuses {refused}: make it a warning, or widen its limits")
    return GateRefusedError.exit_code if strict else 0


def _print(proof: "Proof", *, json: bool, house: str) -> None:
    if json:
        print_json({"house": house, **proof.as_data()})
        return
    for line in _table(proof):
        print_result(printable(line).rstrip())


def _table(proof: "Proof") -> Iterator[str]:
    for form in dict.fromkeys(line.form for line in proof.lines):
        lines = [line for line in proof.lines if line.form == form]
        yield f"{form}: how each check judges your own texts"
        yield f"{'check':12} {'level':8} {'refuses':9} {'warns':5} limit"
        for line in lines:
            counts = f"{len(line.refused):3} of {line.texts:<3} {len(line.named) or '':<5}"
            yield f"{line.check:12} {line.level:8} {counts} {line.limit}"
            if ids := (*line.refused, *line.named):
                yield f"{'':12} {', '.join(ids)}"
        yield f"\n{'damaged copies of them':30} {'check':12} {'refused':9} warned of"
        for damage in (each for each in proof.damages if each.form == form):
            counts = f"{damage.refused:3} of {damage.copies:<3} {damage.named or ''}"
            yield f"{damage.damage:30} {damage.check:12} {counts}"
        yield ""
    copies = sum(damage.copies for damage in proof.damages)
    yield f"{proof.caught:.1%} of {copies} damaged copies are refused or warned of by the check that should"


@app.command("cast")
def cast(
    show: Annotated[str, typer.Argument(metavar="SHOW", help="The series, by name or alias.")],
    add: Annotated[
        list[str] | None, option("--add", "'Name: Rolle' of a person; repeatable.", "NAME")
    ] = None,
    remove: Annotated[list[str] | None, option("--remove", "A name to take out; repeatable.", "NAME")] = None,
    house: options.House = None,
) -> None:
    """Print the people of a show, or add and remove some."""
    from synopsis_writer.examples import change_cast
    from synopsis_writer.settings import folder as packaged

    settings = options.settings_from(house=house)
    home = settings.house or settings.examples or packaged("examples")
    if (add or remove) and home == packaged("examples"):
        raise InputError("the built-in house stays as it is: name your own with --house")
    for member in change_cast(home, show, add or [], remove or []).cast:
        print_result(printable(f"{member.name}: {member.role}"))
