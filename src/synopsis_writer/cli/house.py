"""The command groups house, examples, style and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import typer

from synopsis_writer.characters import count_of
from synopsis_writer.cli import lazily, options
from synopsis_writer.cli.console import Output, print_error, print_result, status, table, warn, written
from synopsis_writer.cli.options import argument, option, switch
from synopsis_writer.errors import ExampleError, FileError, GateRefusedError, InputError

with lazily():
    import asyncio

    from synopsis_writer import document, workspace
    from synopsis_writer import examples as pools
    from synopsis_writer import house as houses
    from synopsis_writer import settings as config
    from synopsis_writer import show as series
    from synopsis_writer.formats import reading
    from synopsis_writer.gate import features
    from synopsis_writer.learning import learn as learning
    from synopsis_writer.learning import texts as own_texts
    from synopsis_writer.prompts import templates
    from synopsis_writer.storage import files as storage

app = typer.Typer(help="Your house: its forms, and what it asks of them.", no_args_is_help=True)

_ENOUGH = 15  # texts of a form


@app.command("show")
def show_house(
    house: Path | None = options.HOUSE, profile: Path | None = options.PROFILE, form: str | None = options.FORM
) -> Output:
    """Print what the house asks: its spelling and marks, and for each form the rules that prompts state.

    With --form only that form; with --json all limits, also those that are inherited.
    """
    shown = houses.open_house(options.settings_from(house=house, profile=profile))
    forms = [shown.form(form)] if form else list(shown.forms.values())
    data = shown.model_dump(mode="json")
    data["forms"] = {each.name: data["forms"][each.name] for each in forms}
    words, marks = ", ".join(shown.known_words) or "none", " ".join(shown.quotation_marks)
    lines = [f"{shown.name}: {shown.orthography}, marks {marks}, known words: {words}"]
    for each in forms:
        rules = templates.render_rules(each, shown)
        levels = [f"{check}: {level}" for check, level in each.checks.items() if level != "error"]
        lines.append("\n- ".join([f"\n{each.name}: {rules.purpose}", *rules.form, *rules.style, *levels]))
    return Output(data, lines)


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
    _output: options.OutputFlags,
) -> Output:
    """Learn a house from a folder of your texts, write it, and prove it on them.

    Show, form and theme come from the flags, a CSV's columns, the front matter, or the folders' names. Texts
    without a form are grouped by length; a missing theme is the first sentence, or with --ask the model's.
    """
    settings = options.settings_from(model, limits)
    learning.check_target(out, force=force)
    given = {key: value for key, value in {"show": show, "form": form}.items() if value}
    texts = own_texts.with_forms(own_texts.read_texts(folder, given, skip=out))
    if any(not own.show for own in texts):
        shared = storage.real_path(folder).name if folder.is_dir() else folder.stem
        status(f"no text names its show: it is called '{shared}'; --show names it")
        texts = [replace(own, show=own.show or shared) for own in texts]
    texts = _with_themes(texts, settings if ask else None)
    learnt, proof = learning.learn_proven(name or storage.real_path(out).name, texts)
    learning.write_house(out, learnt, texts, proof, force=force)
    for each in learnt.house.forms.values():
        count = sum(own.form == each.name for own in texts)
        (least, most), unit = each.length
        status(f"{each.name}: {count_of(count, 'text')}, {least:g} to {most:g} {unit}")
        if count < _ENOUGH:
            warn(f"{each.name}: so few texts leave limits near the built-in ones: {_ENOUGH} are enough")
        for check, level in each.checks.items():
            status(f"{each.name}: {check} is a {level}: {proof.reason(each.name, check)}")
    status(f"{out}: a house of {count_of(len(texts), 'text')} in {count_of(len(learnt.shows), 'show')}")
    return _proven(proof, str(out))


def _with_themes(texts: "Sequence[own_texts.OwnText]", settings: "config.Settings | None") -> "list[own_texts.OwnText]":
    missing = [own for own in texts if not own.theme]
    themes: dict[str, str] = {}
    if missing and settings:
        themes, cost = asyncio.run(learning.ask_themes(missing, settings))
        status(f"{len(themes)} theme{'s are' if len(themes) != 1 else ' is'} the model's: {cost}")
    if left := len(missing) - len(themes):
        hint = "" if settings else "; --ask asks the model for them"
        status(f"{left} text{'s have' if left != 1 else ' has'} no theme: the first sentence is it{hint}")
    texts = [replace(own, theme=own.theme or themes.get(own.id, "")) for own in texts]
    first = reading.first_sentence
    return [own if own.theme else replace(own, theme=first(own.text.raw), has_theme=False) for own in texts]


@app.command("check")
def check(house: Path | None = options.HOUSE) -> Output:
    """Prove a house again, for instance after an edit: how its gate judges its own texts, and damaged ones.

    Exits 1 if a check at level error refuses more than one in twenty of its own texts.
    """
    settings = options.settings_from(house=house)
    opened, pool = houses.open_house(settings), pools.load_pool(workspace.pool_folders(settings))
    texts = [own_texts.own_text(example) for example in pool.examples]
    if not texts:
        raise FileError(f"{settings.house}: holds no text of its own: synopsis examples add")
    if (stray := next((own for own in texts if own.form not in opened.forms), None)) is not None:
        known = ", ".join(opened.forms)
        raise InputError(f"{stray.source.where}: no form '{stray.form}': the house has {known}")
    proof = learning.prove(texts, lambda _: (opened, pool.shows))
    strict = [line for line in proof.lines if line.level == "error" and line.is_too_strict]
    for line in strict:
        refused = f"{len(line.refused)} of {line.texts} texts"
        warn(f"{line.form}: {line.check} refuses {refused}: make it a warning, or widen its limits")
    return _proven(proof, str(settings.house or opened.name), GateRefusedError.exit_code if strict else 0)


def _proven(proof: "learning.Proof", house: str, code: int = 0) -> Output:
    lines = []
    for form in dict.fromkeys(line.form for line in proof.lines):
        lines.append(f"{form}: how each check judges your own texts")
        own = [
            (each.check, each.level, f"{len(each.refused)} of {each.texts}", len(each.named) or "", _limit(each))
            for each in proof.lines
            if each.form == form
        ]
        lines += [*table(("check", "level", "refuses", "warns", "limit"), own), ""]
        damaged = [
            (each.damage, each.check, f"{each.refused} of {each.copies}", each.named or "")
            for each in proof.damages
            if each.form == form
        ]
        lines += [*table(("damaged copies of them", "check", "refused", "warned of"), damaged), ""]
    caught = f"{proof.caught:.1%} of {sum(damage.copies for damage in proof.damages)} damaged copies"
    lines.append(f"{caught} are refused or warned of by the check that should")
    return Output({"house": house, **proof.as_data()}, lines, code=code)


def _limit(line: "learning.Line") -> str:
    ids = ", ".join((*line.refused, *line.named))
    return f"{line.limit} ({ids})" if ids else line.limit


@app.command("cast")
def cast(
    show: str = argument("The series, by name or alias.", "SHOW"),
    add: list[str] = option("'Name: Rolle' of a person; repeatable.", "NAME", default=[]),
    remove: list[str] = option("A name to take out; repeatable.", "NAME", default=[]),
    house: Path | None = options.HOUSE,
) -> None:
    """Print the people of a show, or add and remove some."""
    settings = options.settings_from(house=house)
    home = settings.house or settings.examples or config.folder("examples")
    if (add or remove) and home == config.folder("examples"):
        raise InputError("the built-in house stays as it is: name your own with --house")
    people = pools.change_cast(home, show, add, remove).cast
    print_result(*(f"{member.name}: {member.role}" for member in people))


examples_app = typer.Typer(help="The examples that prompts are built from.", no_args_is_help=True)


@dataclass(frozen=True)
class _PoolFlags:
    house: Path | None = options.HOUSE
    examples: Path | None = options.EXAMPLES

    @cached_property
    def settings(self) -> "config.Settings":
        return options.settings_from(self)

    @cached_property
    def pool(self) -> "pools.Pool":
        return pools.load_pool(workspace.pool_folders(self.settings))

    def example(self, example_id: str) -> "pools.Example":
        example = next((each for each in self.pool.examples if each.id == example_id), None)
        if example is None:
            raise ExampleError(f"no example '{example_id}': synopsis examples list names them")
        return example


@examples_app.command("list")
def list_examples(*, show: str | None = options.SHOW, form: str | None = options.FORM, flags: _PoolFlags) -> Output:
    """List the examples: id, form, words and theme."""
    pool = flags.pool
    wanted_form = houses.open_house(flags.settings).form(form).name if form else None
    wanted = series.find_show(pool.shows, show) if show else None
    if show and wanted is None:
        raise ExampleError(f"unknown show '{show}': the pool has {', '.join(each.name for each in pool.shows)}")
    rows, lines = [], []
    for example in pool.examples:
        brief, words = example.brief, len(example.synopsis.text.split())
        if (wanted is None or brief.show == wanted.name) and wanted_form in (None, brief.form):
            about = {"id": example.id, "show": brief.show, "form": brief.form, "words": words}
            rows.append({**about, "theme": brief.theme, "title": example.synopsis.title})
            lines.append(f"{example.id}  {brief.form}, {count_of(words, 'word')}: {brief.theme}")
    return Output({"examples": rows}, lines)


@examples_app.command("show")
def show_example(
    example_id: str = argument("As 'synopsis examples list' gives it.", "ID"), *, flags: _PoolFlags
) -> None:
    """Print one example with its front matter."""
    print_result(document.read_text(flags.example(example_id).path))


@examples_app.command("check")
def check_examples(
    *, variety: bool = switch("Measure how much the texts differ; exits 1 if too alike."), flags: _PoolFlags
) -> int:
    """Validate every show.yaml and example, and check each text with the gate."""
    if variety:
        measured = features.measure_variety({example.id: example.synopsis for example in flags.pool.examples})
        lines, problems = measured.lines, measured.faults
    else:
        settings = flags.settings
        count, problems = workspace.check_pool(settings)
        folders = ", ".join(map(str, workspace.pool_folders(settings)))
        lines = [] if problems else [f"{count_of(count, 'example')} in {folders}: all hold"]
    print_result(*lines)
    for problem in problems:
        print_error(problem)
    return GateRefusedError.exit_code if problems else 0


@examples_app.command("add")
def add_example(
    *,
    files: list[Path] = argument("Your synopses: .md, .txt, .docx, .html, .csv, folders.", "FILE..."),
    show: str | None = options.SHOW,
    theme: str | None = options.THEME,
    form: str | None = options.FORM,
    title: str | None = option("Its title.  [default: its heading]", "TEXT"),
    logline: str | None = option("Its story in a sentence.  [default: theme]", "TEXT"),
    character: list[str] | None = option("'Name: Rolle' of a person in it; repeatable.", "NAME"),
    flags: _PoolFlags,
) -> int:
    """Add synopses of your own to the examples, unchanged; a CSV may have show, theme, form and title.

    Without a theme, the first sentence is the theme.
    """
    settings = flags.settings
    folder = settings.examples or settings.house or settings.own_examples
    known = [
        config.folder("examples"),
        *(pool for pool in workspace.pool_folders(settings) if storage.find_files(pool, "*/*.md")),
    ]
    shows = pools.load_pool(list(dict.fromkeys(known))).shows
    fields = {"show": show, "theme": theme, "form": form, "title": title, "logline": logline}
    given = {name: value for name, value in fields.items() if value is not None}
    own, code, count = houses.open_house(settings), 0, 0
    for path in [path for file in files for path in reading.text_files(file)]:
        try:
            for source in reading.read_sources(path):
                own.form(form or source.fields.get("form"))
                asked = series.find_show(shows, {**source.fields, **given}.get("show", ""))
                has_cast = asked is not None and asked.cast
                people = character or ([] if has_cast else own_texts.people_of(source))
                print_result(str(pools.add(source, folder, shows, people=people, **given)))
                count += 1
        except InputError as error:
            print_error(str(error))
            code = error.exit_code
    if count:
        status(f"added {count_of(count, 'example')}")
    return code


@examples_app.command("rm")
def remove_example(
    *, ids: list[str] = argument("As 'synopsis examples list' gives them.", "ID..."), flags: _PoolFlags
) -> None:
    """Delete examples of your own; the built-in ones stay."""
    examples = [flags.example(example_id) for example_id in dict.fromkeys(ids)]
    pools.remove(*examples)
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
    if not examples.is_dir():
        raise FileError(f"{examples}: no such folder: name one with --examples")
    learnt, counts = learning.calibrate(examples, houses.built_in_house(), name, form)
    fewest = learning.FEWEST_TEXTS
    for own, count in counts.items():
        few = f": too few to know their spread, at least {fewest} are needed" * (count < fewest)
        status(f"{own}: learned from {count_of(count, 'text')}{few}")
    print_result(document.format_yaml(learning.as_data(learnt)))


prompts_app = typer.Typer(help="The templates that prompts are rendered from.", no_args_is_help=True)


@prompts_app.callback()
def prompts() -> None:
    """Keep `copy` a command of a group, though it is the only one."""


@prompts_app.command("copy")
def copy_prompts(folder: Path = argument("Where to write them.", "FOLDER")) -> Output:
    """Copy all templates into a folder of your own, with a README.md that says what each may use.

    Name it with --prompts, or put it into your house as prompts/. Of those you delete the program's are used.
    """
    return written(templates.copy_templates(folder))
