"""The command groups house, examples, style and prompts: what texts are written and judged by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from synopsis_writer.characters import count_of
from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_error, print_output, print_result, print_written, status, warn
from synopsis_writer.cli.options import argument, option, switch
from synopsis_writer.errors import ExampleError, FileError, GateRefusedError, InputError

if TYPE_CHECKING:
    from synopsis_writer.examples import Example, Pool
    from synopsis_writer.house.form import Form
    from synopsis_writer.house.house import House
    from synopsis_writer.learning.proof import Proof
    from synopsis_writer.learning.texts import OwnText
    from synopsis_writer.settings import Settings

app = typer.Typer(help="Your house: its forms, and what it asks of them.", no_args_is_help=True)

_ENOUGH = 15  # texts of a form


@app.command("show")
def show_house(
    house: Path | None = options.HOUSE,
    profile: Path | None = options.PROFILE,
    form: str | None = options.FORM,
    json: bool = options.JSON,
) -> None:
    """Print what the house asks: its spelling and marks, and for each form the rules that prompts state.

    With --form only that form; with --json all limits, also those that are inherited.
    """
    from synopsis_writer.house.house import open_house

    shown = open_house(options.settings_from(house=house, profile=profile))
    forms = [shown.form(form)] if form else list(shown.forms.values())
    data = shown.model_dump(mode="json")
    data["forms"] = {each.name: data["forms"][each.name] for each in forms}
    words = ", ".join(shown.known_words) or "none"
    marks = " ".join(shown.quotation_marks)
    head = f"{shown.name}: {shown.orthography}, marks {marks}, known words: {words}"
    print_output(data, [head, *(_described(each, shown) for each in forms)], as_json=json)


def _described(form: "Form", house: "House") -> str:
    from synopsis_writer.prompts.rules import render_rules

    rules = render_rules(form, house)
    levels = [f"{check}: {level}" for check, level in form.checks.items() if level != "error"]
    return "\n- ".join([f"\n{form.name}: {rules.purpose}", *rules.form, *rules.style, *levels])


@app.command("learn")
def learn(
    *,
    folder: Path = argument("Your texts: .txt, .md, .docx, .html, .csv, .json.", "FOLDER"),
    out: Path = option("The folder of the new house.", "HOUSE", default=...),
    show: str | None = option("The series of all texts.", "NAME"),
    form: str | None = option("Make all texts one form of this name.", "NAME"),
    name: str | None = option("The house's name.  [default: the folder's]", "NAME"),
    ask: bool = switch("Ask the model for themes that are missing; it costs."),
    force: bool = switch("Replace a house that is there."),
    model: options.ModelFlags,
    limits: options.BudgetFlags,
    json: bool = options.JSON,
    _output: options.OutputFlags,
) -> None:
    """Learn a house from a folder of your texts, write it, and prove it on them.

    Show, form and theme come from the flags, a CSV's columns, the front matter, or the folders' names. Texts
    without a form are parted by length; a missing theme is the first sentence, or with --ask the model's.
    """
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
        status(f"{each.name}: {count_of(count, 'text')}, {least:g} to {most:g} {unit}")
        if count < _ENOUGH:
            warn(f"{each.name}: so few texts leave limits near the built-in ones: {_ENOUGH} are enough")
        for check, level in each.checks.items():
            status(f"{each.name}: {check} is a {level}: {proof.reason(each.name, check)}")
    status(f"{out}: a house of {count_of(len(texts), 'text')} in {count_of(len(learnt.shows), 'show')}")
    _print(proof, str(out), as_json=json)


def _with_themes(texts: "Sequence[OwnText]", settings: "Settings | None") -> "list[OwnText]":
    """Return the texts, those without a theme with one of the model's, or with their first sentence."""
    from synopsis_writer.formats.reading import first_sentence

    missing = [own for own in texts if not own.theme]
    themes: dict[str, str] = {}
    if missing and settings:
        import asyncio

        from synopsis_writer.learning.learn import ask_themes

        themes, cost = asyncio.run(ask_themes(missing, settings))
        status(f"{len(themes)} theme{'s are' if len(themes) != 1 else ' is'} the model's: {cost}")
    if left := len(missing) - len(themes):
        hint = "" if settings else "; --ask asks the model for them"
        status(f"{left} text{'s have' if left != 1 else ' has'} no theme: the first sentence is it{hint}")
    known = [replace(own, theme=own.theme or themes.get(own.id, "")) for own in texts]
    first = {own.id: first_sentence(own.text.raw) for own in known if not own.theme}
    return [replace(own, theme=first[own.id], has_theme=False) if own.id in first else own for own in known]


@app.command("check")
def check(house: Path | None = options.HOUSE, json: bool = options.JSON) -> int:
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
    if not texts:
        raise FileError(f"{settings.house}: holds no text of its own: synopsis examples add")
    if (stray := next((own for own in texts if own.form not in opened.forms), None)) is not None:
        known = ", ".join(opened.forms)
        raise InputError(f"{stray.source.where}: no form '{stray.form}': the house has {known}")
    proof = prove(texts, lambda _: (opened, pool.shows))
    _print(proof, str(settings.house or opened.name), as_json=json)
    strict = [line for line in proof.lines if line.level == "error" and line.is_too_strict]
    for line in strict:
        refused = f"{len(line.refused)} of {line.texts} texts"
        warn(f"{line.form}: {line.check} refuses {refused}: make it a warning, or widen its limits")
    return GateRefusedError.exit_code if strict else 0


def _print(proof: "Proof", house: str, *, as_json: bool) -> None:
    lines = (line.rstrip() for line in _table(proof))
    print_output({"house": house, **proof.as_data()}, lines, as_json=as_json)


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
    show: str = argument("The series, by name or alias.", "SHOW"),
    add: list[str] = option("'Name: Rolle' of a person; repeatable.", "NAME", default=[]),
    remove: list[str] = option("A name to take out; repeatable.", "NAME", default=[]),
    house: Path | None = options.HOUSE,
) -> None:
    """Print the people of a show, or add and remove some."""
    from synopsis_writer.examples import change_cast
    from synopsis_writer.settings import folder as packaged

    settings = options.settings_from(house=house)
    home = settings.house or settings.examples or packaged("examples")
    if (add or remove) and home == packaged("examples"):
        raise InputError("the built-in house stays as it is: name your own with --house")
    people = change_cast(home, show, add, remove).cast
    print_result(*(f"{member.name}: {member.role}" for member in people))


examples_app = typer.Typer(help="The examples that prompts are built from.", no_args_is_help=True)


@dataclass(frozen=True)
class _PoolFlags:
    house: Path | None = options.HOUSE
    examples: Path | None = options.EXAMPLES

    @cached_property
    def settings(self) -> "Settings":
        return options.settings_from(self)

    @cached_property
    def pool(self) -> "Pool":
        from synopsis_writer.examples import load_pool
        from synopsis_writer.workspace import pool_folders

        return load_pool(pool_folders(self.settings))

    def example(self, example_id: str) -> "Example":
        example = next((each for each in self.pool.examples if each.id == example_id), None)
        if example is None:
            raise ExampleError(f"no example '{example_id}': synopsis examples list names them")
        return example


@examples_app.command("list")
def list_examples(
    *,
    show: str | None = options.SHOW,
    form: str | None = options.FORM,
    flags: _PoolFlags,
    json: bool = options.JSON,
) -> None:
    """List the examples: id, form, words and theme."""
    from synopsis_writer.house.house import open_house
    from synopsis_writer.show import find_show

    pool = flags.pool
    wanted_form = open_house(flags.settings).form(form).name if form else None
    wanted = find_show(pool.shows, show) if show else None
    if show and wanted is None:
        known = ", ".join(each.name for each in pool.shows)
        raise ExampleError(f"unknown show '{show}': the pool has {known}")
    rows: list[dict[str, Any]] = [
        {
            "id": example.id,
            "show": example.brief.show,
            "form": example.brief.form,
            "words": len(example.synopsis.text.split()),
            "theme": example.brief.theme,
            "title": example.synopsis.title,
        }
        for example in pool.examples
        if (wanted is None or example.brief.show == wanted.name) and wanted_form in (None, example.brief.form)
    ]
    lines = (f"{row['id']}  {row['form']}, {count_of(row['words'], 'word')}: {row['theme']}" for row in rows)
    print_output({"examples": rows}, lines, as_json=json)


@examples_app.command("show")
def show_example(
    example_id: str = argument("As 'synopsis examples list' gives it.", "ID"), *, flags: _PoolFlags
) -> None:
    """Print one example with its front matter."""
    from synopsis_writer.document import read_text

    print_result(read_text(flags.example(example_id).path))


@examples_app.command("check")
def check_examples(
    *,
    variety: bool = switch("Measure how much the texts differ; exits 1 if too alike."),
    flags: _PoolFlags,
) -> int:
    """Validate every show.yaml and example, and check each text with the gate."""
    from synopsis_writer.workspace import check_pool, pool_folders

    if variety:
        from synopsis_writer.gate.features import measure_variety

        measured = measure_variety({example.id: example.synopsis for example in flags.pool.examples})
        lines, problems = measured.lines, measured.faults
    else:
        settings = flags.settings
        count, problems = check_pool(settings)
        folders = ", ".join(map(str, pool_folders(settings)))
        lines = [] if problems else [f"{count_of(count, 'example')} in {folders}: all hold"]
    print_result(*lines)
    for problem in problems:
        print_error(problem)
    return GateRefusedError.exit_code if problems else 0


@examples_app.command("add")
def add_example(
    *,
    files: list[Path] = argument("Your synopses: .md, .txt, .docx, .html, .csv, folders.", "FILE"),
    show: str | None = options.SHOW,
    theme: str | None = options.THEME,
    form: str | None = option("A form of the house.", "NAME", autocompletion=options.complete_form),
    title: str | None = option("Its title.  [default: its heading]", "TEXT"),
    logline: str | None = option("Its story in a sentence.  [default: theme]", "TEXT"),
    character: list[str] | None = option("'Name: Rolle' of a person in it; repeatable.", "NAME"),
    flags: _PoolFlags,
) -> int:
    """Add synopses of your own to the examples, unchanged; a CSV may have show, theme, form and title.

    Without a theme, the first sentence is the theme.
    """
    from synopsis_writer.examples import add, load_pool
    from synopsis_writer.formats.reading import read_sources, text_files
    from synopsis_writer.house.house import open_house
    from synopsis_writer.learning.texts import people_of
    from synopsis_writer.settings import folder as packaged
    from synopsis_writer.show import find_show
    from synopsis_writer.storage.files import find_files
    from synopsis_writer.workspace import pool_folders

    settings = flags.settings
    folder = settings.examples or settings.house or settings.own_examples
    known = [packaged("examples"), *(pool for pool in pool_folders(settings) if find_files(pool, "*/*.md"))]
    shows = load_pool(list(dict.fromkeys(known))).shows
    fields = {"show": show, "theme": theme, "form": form, "title": title, "logline": logline}
    given = {name: value for name, value in fields.items() if value is not None}
    own, code, count = open_house(settings), 0, 0
    for path in [path for file in files for path in text_files(file)]:
        try:
            for source in read_sources(path):
                own.form(form or source.fields.get("form"))
                asked = find_show(shows, {**source.fields, **given}.get("show", ""))
                has_cast = asked is not None and asked.cast
                people = character or ([] if has_cast else people_of(source))
                print_result(str(add(source, folder, shows, people=people, **given)))
                count += 1
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
    if count:
        status(f"added {count_of(count, 'example')}")
    return code


@examples_app.command("rm")
def remove_example(
    *, ids: list[str] = argument("As 'synopsis examples list' gives it.", "ID"), flags: _PoolFlags
) -> None:
    """Delete examples of your own; the built-in ones stay."""
    from synopsis_writer.examples import remove

    examples = [flags.example(example_id) for example_id in dict.fromkeys(ids)]
    remove(*examples)
    print_result(*(str(example.path) for example in examples))


style_app = typer.Typer(help="The style limits of your house.", no_args_is_help=True)


@style_app.command("calibrate")
def calibrate_style(
    *,
    examples: Path = option("A folder of your own texts, .md or .txt.", "FOLDER", default=...),
    form: str | None = options.FORM,
    name: str = option("The profile's name.", "NAME", default="own"),
) -> None:
    """Learn the style limits from your own texts; 'synopsis house learn' learns a whole house.

    They are printed as a profile to save and use with --profile.

    A text's form is in its front matter; --form is the form of texts without one. Forms without a text keep
    the built-in limits.
    """
    from synopsis_writer.document import format_yaml
    from synopsis_writer.house.house import built_in_house
    from synopsis_writer.learning.learn import FEWEST_TEXTS, as_data, calibrate

    if not examples.is_dir():
        raise FileError(f"{examples}: no such folder: name one with --examples")
    learnt, counts = calibrate(examples, built_in_house(), name, form)
    for own, count in counts.items():
        few = f": too few to know their spread, at least {FEWEST_TEXTS} are needed" * (count < FEWEST_TEXTS)
        status(f"{own}: learned from {count_of(count, 'text')}{few}")
    print_result(format_yaml(as_data(learnt)))


prompts_app = typer.Typer(help="The templates that prompts are rendered from.", no_args_is_help=True)


@prompts_app.callback()
def prompts() -> None:
    """Keep `copy` a command of a group, though it is the only one."""


@prompts_app.command("copy")
def copy_prompts(
    folder: Path = argument("Where to write them.", "FOLDER"), json: bool = options.JSON
) -> None:
    """Copy all templates into a folder of your own, with a README.md that says what each may use.

    Name it with --prompts, or put it into your house as prompts/. Of those you delete the program's are used.
    """
    from synopsis_writer.prompts.templates import copy_templates

    print_written(copy_templates(folder), as_json=json)
