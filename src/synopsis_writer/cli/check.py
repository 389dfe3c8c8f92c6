"""The commands check, examples and style."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from synopsis_writer.characters import printable
from synopsis_writer.cli import options
from synopsis_writer.cli.console import failure_of, format_json, print_error, print_json, print_result, status
from synopsis_writer.cli.options import option
from synopsis_writer.errors import ExampleError, FileError, GateRefusedError, InputError, os_reason

if TYPE_CHECKING:
    from synopsis_writer.document import Document
    from synopsis_writer.examples import Example
    from synopsis_writer.workspace import Report, Workspace
    from synopsis_writer.writer import Writer

    Render = Callable[[Report], Iterator[str]]

_LEAST_WIDTH, _MOST_COLUMNS = 20, 100


@options.grouped
def check(
    *,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Texts: .md, .txt, .docx, .html, .csv, .json, folders; - is stdin."
        ),
    ],
    show: options.Show = None,
    theme: options.Theme = None,
    form: options.FormOption = None,
    words: options.Words = None,
    characters: options.Characters = None,
    air_date: options.AirDate = None,
    fix: Annotated[bool, option("--fix", "Put right in the file what code can.")] = False,
    diff: Annotated[bool, option("--diff", "Show what --fix would change, and write nothing.")] = False,
    accept_word: Annotated[
        list[str] | None, option("--accept-word", "A word to add to your house's; repeatable.", "WORD")
    ] = None,
    house: options.House = None,
    examples: options.Examples = None,
    gate: options.GateFlags,
    semantic: options.Semantic = None,
    reviewing: options.ReviewFlags,
    model: options.ModelFlags,
    costs: options.BudgetFlags,
    report: Annotated[
        Literal["text", "json", "github"],
        option("--format", "For a person, a program, or as annotations on GitHub."),
    ] = "text",
    json: Annotated[bool, option("--json", "The same as --format json.")] = False,
) -> int:
    """Check texts, also your own, with the gate: exits 1 when one is refused, 2 when one cannot be read.

    A file's front matter holds its brief; --show, --theme, --form, --words, --characters and --air-date
    override it. With --json each text is one line of JSON. With --review a model reads each text, too;
    where it cannot, a warning says so.
    """
    from synopsis_writer.formats.reading import text_files
    from synopsis_writer.house.house import accept_words
    from synopsis_writer.workspace import open_workspace

    if diff and (json or report != "text"):
        raise InputError("--diff prints a diff: leave out --json and --format")
    brief = _given(
        show=show, theme=theme, form=form, words=words, character_count=characters, air_date=air_date
    )
    render = {"text": _lines, "json": _json, "github": _annotations}["json" if json else report]
    review = bool(reviewing.review or reviewing.review_model)
    groups = (gate, reviewing, model, costs)
    settings = options.settings_from(*groups, house=house, examples=examples, semantic=semantic)
    if accept_word:
        path = accept_words(settings, accept_word)
        status(f"{path}: knows {', '.join(accept_word)}")
    code = 0
    workspace = open_workspace(settings)
    workspace.gate.warm_up()
    writer = _open_writer(workspace) if review and not diff else None
    for path in [Path(os.path.expanduser(name)) for name in files]:  # noqa: PTH111
        try:
            paths = text_files(path) if path.is_dir() else [path]
        except FileError as error:
            code = max(code, _failed(error, path, as_json=render is _json))
            continue
        for file in paths:
            try:
                code = max(code, _check(workspace, file, brief, render, fix=fix, diff=diff, writer=writer))
            except Exception as error:
                if isinstance(error, OSError) and error.filename is None:
                    raise  # stdout cannot be written
                code = max(code, _failed(error, file, as_json=render is _json))
    if writer is not None:
        writer.close()
    return code


def _failed(error: Exception, path: Path, *, as_json: bool) -> int:
    """Print why a file could not be checked; return the exit code."""
    problem, code = failure_of(error)
    if as_json:
        print_json({"file": str(path), "error": problem, "exit_code": code}, indent=None)
    print_error(problem)
    return code


def _check(
    workspace: "Workspace",
    path: Path,
    brief: dict[str, str],
    render: "Render",
    *,
    fix: bool,
    diff: bool,
    writer: "Writer | None",
) -> int:
    """Check the texts of a file, or of stdin, and print what is found; return the exit code."""
    from synopsis_writer.formats.reading import parse_source, read_sources, replace_text
    from synopsis_writer.gate.fixes import listed
    from synopsis_writer.models.base import bill

    code = 0
    for source in [parse_source(_stdin(), path)] if str(path) == "-" else read_sources(path):
        given = {**source.fields, **brief}
        if writer is not None:
            result = writer.check_sync(source.document, fix=fix, review=True, **given)
            status(bill(result.reviews, len(result.reviews)))
        else:
            result = (workspace.fix if fix or diff else workspace.check)(source.document, **given)
            _notice_edit(source.document, workspace.settings.log)
        if result.fixed:
            if diff:
                old, new = (part.splitlines() for part in replace_text(source.document, result.text))
                for line in unified_diff(old, new, str(path), str(path), lineterm=""):
                    print_result(printable(line))
            else:
                with _open_writer(workspace) as saving:
                    saving.save_fixed(source.document, result)
                status(f"{path}: fixed {listed(result.fixed)}")
        for line in () if diff else render(result):
            print_result(line)
        code = code if result.passed else GateRefusedError.exit_code
    return code


def _open_writer(workspace: "Workspace") -> "Writer":
    """Return a writer of the workspace; a check alone needs none, and loads quicker without."""
    from synopsis_writer.writer import Writer

    writer = Writer(workspace.settings)
    writer.workspace = workspace
    return writer


def _notice_edit(document: "Document", log: Path) -> None:
    """Record that a file was edited by hand, if there is a run log and it knows the file."""
    if document.path.suffix == ".csv" or not log.exists():  # of a table no line is a text by itself
        return
    from synopsis_writer.log import RunLog

    try:
        with contextlib.closing(RunLog(log)) as opened:
            opened.touch(document)
    except FileError as error:
        status(str(error))


def _stdin() -> bytes:
    from synopsis_writer.storage.files import MOST_BYTES

    try:
        if sys.stdin is None:
            raise FileError("-: stdin is closed: pipe a text into the command, or name a file")
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileError(os_reason(error, Path("-"))) from error


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _json(result: "Report") -> Iterator[str]:
    yield format_json(result.as_data())


def _lines(result: "Report") -> Iterator[str]:
    from synopsis_writer.gate.messages import say

    refused, warned, waived = result.refused, result.warnings, result.waived
    counts = {"n": len(refused), "count": len(result.findings), "form": result.form}
    parts = [say("refused" if refused else "all passed", **counts)]
    parts += [say("guessed")] * result.guessed
    parts += [say("1 warning" if len(warned) == 1 else "n warnings", n=len(warned))] * bool(warned)
    parts += [say("n waived", n=len(waived))] * bool(waived)
    yield say("verdict", source=result.source, parts=parts).text(result.lang)
    if refused or warned:
        spans = [span for finding in (*refused, *warned) for span in finding.spans]
        width = min(_MOST_COLUMNS, shutil.get_terminal_size().columns)
        yield from ("", *_underlined(result.text, spans, width), "")
    for finding in refused:
        yield f"{finding.check}: {finding.sentence}"
    for finding in warned:
        yield f"{say('warning').text(result.lang)}: {finding.check}: {finding.sentence}"
    for finding in waived:
        yield f"{say('waived').text(result.lang)}: {finding.check}: {finding.sentence} ({finding.waived})"


def _underlined(text: str, spans: Sequence[tuple[int, int]], width: int) -> Iterator[str]:
    """Yield the lines of `text`, wrapped at `width` cells, each followed by the marks of its spans."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    is_marked = bytearray(len(text))
    for start, end in spans:
        is_marked[start:end] = b"\1" * len(is_marked[start:end])
    shown = Text()
    for mark, chars in groupby(zip(is_marked, text, strict=True), key=itemgetter(0)):
        shown.append(printable("".join(char for _, char in chars)), style="marked" if mark else None)
    for line in shown.wrap(Console(width=width), max(_LEAST_WIDTH, width)):
        yield line.plain.rstrip()
        if line.spans:
            marks = [" " * cell_len(char) for char in line.plain]
            for start, end, _ in line.spans:
                marks[start:end] = [mark.replace(" ", "~") for mark in marks[start:end]]
            yield "".join(marks).rstrip()


def _annotations(result: "Report") -> Iterator[str]:
    """Yield GitHub's workflow commands: one a finding, at the line of its first spot."""
    for finding in (*result.refused, *result.warnings):
        line, column = result.position(finding)
        file = _escaped(result.source).replace(":", "%3A").replace(",", "%2C")
        place = f"file={file},line={line},col={column},title={finding.check}"
        yield f"::{finding.level} {place}::{_escaped(finding.sentence)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


examples_app = typer.Typer(help="The examples that prompts are built from.", no_args_is_help=True)


@examples_app.command("list")
def list_examples(
    show: options.Show = None,
    form: options.FormOption = None,
    house: options.House = None,
    examples: options.Examples = None,
    json: options.Json = False,
) -> None:
    """List the examples: id, form, words and theme."""
    from synopsis_writer.examples import load_pool
    from synopsis_writer.house.house import open_house
    from synopsis_writer.show import find_show
    from synopsis_writer.workspace import pool_folders

    settings = options.settings_from(house=house, examples=examples)
    pool = load_pool(pool_folders(settings))
    wanted_form = open_house(settings).form(form).name if form else None
    wanted = find_show(pool.shows, show) if show else None
    if show and wanted is None:
        raise ExampleError(
            f"unknown show '{show}': the pool has {', '.join(known.name for known in pool.shows)}"
        )
    rows = [
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
    if json:
        print_json({"examples": rows})
        return
    for row in rows:
        print_result(f"{row['id']}  {row['form']}, {row['words']} words: {row['theme']}")


@examples_app.command("show")
def show_example(
    example_id: Annotated[str, typer.Argument(metavar="ID", help="As 'synopsis examples list' gives it.")],
    house: options.House = None,
    examples: options.Examples = None,
) -> None:
    """Print one example with its front matter."""
    from synopsis_writer.document import read_text
    from synopsis_writer.examples import load_pool
    from synopsis_writer.workspace import pool_folders

    pool = load_pool(pool_folders(options.settings_from(house=house, examples=examples)))
    print_result(read_text(_find_example(pool.examples, example_id).path))


@examples_app.command("check")
def check_examples(
    *,
    variety: Annotated[
        bool,
        option("--variety", "Measure instead how much the texts differ; exits 1 where too many are alike."),
    ] = False,
    house: options.House = None,
    examples: options.Examples = None,
) -> int:
    """Validate every show.yaml and example, and check each text with the gate."""
    from synopsis_writer.workspace import check_pool, pool_folders

    settings = options.settings_from(house=house, examples=examples)
    if variety:
        from synopsis_writer.examples import load_pool
        from synopsis_writer.gate.features import measure_variety

        pool = load_pool(pool_folders(settings))
        measured = measure_variety({example.id: example.synopsis for example in pool.examples})
        for line in measured.lines:
            print_result(line)
        for fault in measured.faults:
            print_error(fault)
        return GateRefusedError.exit_code if measured.faults else 0
    count, problems = check_pool(settings)
    for problem in problems:
        print_error(problem)
    if not problems:
        print_result(f"{count} examples in {', '.join(map(str, pool_folders(settings)))}: all hold")
    return GateRefusedError.exit_code if problems else 0


@examples_app.command("add")
@options.grouped
def add_example(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Your synopses: .md, .txt, .docx, .html, .csv, folders."),
    ],
    show: options.Show = None,
    theme: options.Theme = None,
    form: Annotated[
        str | None, option("--form", "A form of the house.", "NAME", autocompletion=options.complete_form)
    ] = None,
    title: Annotated[str | None, option("--title", "Its title.  [default: its heading]", "TEXT")] = None,
    logline: Annotated[
        str | None, option("--logline", "Its story in a sentence.  [default: theme]", "TEXT")
    ] = None,
    character: Annotated[
        list[str] | None, option("--character", "'Name: Rolle' of a person in it; repeatable.", "NAME")
    ] = None,
    house: options.House = None,
    examples: options.Examples = None,
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

    settings = options.settings_from(house=house, examples=examples)
    folder = settings.examples or settings.house or settings.own_examples
    known = [packaged("examples"), *(pool for pool in pool_folders(settings) if find_files(pool, "*/*.md"))]
    shows = load_pool(list(dict.fromkeys(known))).shows
    given = _given(show=show, theme=theme, form=form, title=title, logline=logline)
    own, code, count = open_house(settings), 0, 0
    for path in [path for file in files for path in (text_files(file) if file.is_dir() else [file])]:
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
        status("added" if count == 1 else f"added {count} examples")
    return code


@examples_app.command("rm")
@options.grouped
def remove_example(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="As 'synopsis examples list' gives it.")],
    house: options.House = None,
    examples: options.Examples = None,
) -> None:
    """Delete examples of your own; the built-in ones stay."""
    from synopsis_writer.examples import load_pool, remove
    from synopsis_writer.settings import folder as packaged
    from synopsis_writer.workspace import pool_folders

    pool = load_pool(pool_folders(options.settings_from(house=house, examples=examples)))
    chosen = [_find_example(pool.examples, example_id) for example_id in dict.fromkeys(ids)]
    for example in chosen:
        if example.path.is_relative_to(packaged("examples")):
            raise ExampleError(f"'{example.id}' is built in: name a pool of your own with --examples")
    for example in chosen:
        remove(example)
        print_result(str(example.path))


def _find_example(examples: "Sequence[Example]", example_id: str) -> "Example":
    example = next((example for example in examples if example.id == example_id), None)
    if example is None:
        raise ExampleError(f"no example '{example_id}': synopsis examples list names them")
    return example


style_app = typer.Typer(help="The style limits of your house.", no_args_is_help=True)


@style_app.command("calibrate")
@options.grouped
def calibrate_style(
    examples: Annotated[Path, option("--examples", "A folder of your own texts, .md or .txt.", "FOLDER")],
    form: options.FormOption = None,
    name: Annotated[str, option("--name", "The profile's name.", "NAME")] = "own",
) -> None:
    """Learn the style limits from your own texts; 'synopsis house learn' learns a whole house.

    They are printed as a profile to save and use with --profile.

    A text's form is in its front matter; --form is the form of texts without one. Forms without a text keep
    the built-in limits.
    """
    from synopsis_writer.document import format_yaml
    from synopsis_writer.house.house import built_in_house
    from synopsis_writer.learning.limits import FEWEST_TEXTS, as_data, calibrate

    if not examples.is_dir():
        raise FileError(f"{examples}: no such folder: name one with --examples")
    learnt, counts = calibrate(examples, built_in_house(), name, form)
    for own, count in counts.items():
        few = f": too few to know their spread, at least {FEWEST_TEXTS} are needed" * (count < FEWEST_TEXTS)
        status(f"{own}: learned from {count} text{'s' if count > 1 else ''}{few}")
    print_result(format_yaml(as_data(learnt)))
