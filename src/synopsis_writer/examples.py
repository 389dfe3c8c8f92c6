"""The example pool: synopses with their briefs, one Markdown file each, in `<pool>/<show>/`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, format_document, format_yaml, read_document
from synopsis_writer.errors import ExampleError, FileError, InputError, explain, os_reason
from synopsis_writer.show import SHOW_FILE, Show, find_show, generic_show, load_show
from synopsis_writer.storage.files import find_files, save, write_file
from synopsis_writer.synopsis import Character, Synopsis


@dataclass(frozen=True)
class Example:
    """A synopsis with the brief it answers.

    Attributes:
        id: `<show folder>/<file name without .md>`, unique in a pool.
    """

    id: str
    brief: Brief
    synopsis: Synopsis
    path: Path


@dataclass(frozen=True)
class Pool:
    """All shows and examples of one or more folders."""

    shows: tuple[Show, ...]
    examples: tuple[Example, ...]


def load_example(path: Path) -> Example:
    """Read one example, reference or saved synopsis.

    Raises:
        ExampleError: a field is missing or wrong; names file, line and the fix.
        FileError: the file cannot be read.
    """
    try:
        document = read_document(path)
    except FileError:
        raise
    except InputError as error:
        raise ExampleError(str(error)) from error
    return Example(f"{path.parent.name}/{path.stem}", read_brief(document), read_synopsis(document), path)


def read_brief(document: Document) -> Brief:
    """Return the brief in the front matter; raises ExampleError where there is none, or it breaks a rule."""
    fields = document.meta.get("brief")
    if not isinstance(fields, dict):
        reason = "no 'brief' in the front matter: add show, theme and form under it"
        raise ExampleError(f"{document.location('brief')}: {reason}")
    try:
        return Brief.model_validate(fields)
    except ValidationError as error:
        raise ExampleError(document.explain(error, "brief")) from error


def read_synopsis(document: Document) -> Synopsis:
    """Return the synopsis in the front matter and text; raises ExampleError."""
    texts = [part.strip() for part in document.text.split("\n\n") if part.strip()]
    lines = document.meta.get("storylines")
    if not isinstance(lines, list) or len(lines) != len(texts):
        named = f"{len(lines)} letters" if isinstance(lines, list) else "no list"
        raise ExampleError(
            f"{document.location('storylines')}: 'storylines' has {named} for {len(texts)} paragraphs: "
            "give one of A, B, C for each paragraph, as in [A, A, B]"
        )
    paragraphs = [{"storyline": line, "text": text} for line, text in zip(lines, texts, strict=True)]
    # The other fields of a saved synopsis are not needed to use it as an example.
    wanted = {"title", "logline", "characters"}
    fields = {key: value for key, value in document.meta.items() if key in wanted}
    try:
        return Synopsis.model_validate({**fields, "paragraphs": paragraphs})
    except ValidationError as error:
        raise ExampleError(document.explain(error)) from error


def load_pool(folders: Sequence[Path]) -> Pool:
    """Read all shows and examples below `folders`; of two shows with the same name the first counts.

    Raises:
        ExampleError: a file breaks its format, or a folder holds no example.
        FileError: a folder or file cannot be read.
    """
    shows: dict[str, Show] = {}
    examples: dict[str, Example] = {}
    for folder in folders:
        for path in example_files(folder):
            example = with_free_id(load_example(path), examples)
            examples[example.id] = example
        for path in find_files(folder, f"*/{SHOW_FILE}"):
            show = load_show(path)
            shows.setdefault(show.name, show)
    return Pool(tuple(shows.values()), tuple(examples.values()))


def with_free_id(example: Example, taken: Collection[str]) -> Example:
    """Return the example, with a numbered id if another folder has one of the same name."""
    number, name = 2, example.id
    while example.id in taken:
        example = replace(example, id=f"{name}-{number}")
        number += 1
    return example


def example_files(folder: Path) -> list[Path]:
    """Return the example files below `folder`, sorted; raises ExampleError for none, and FileError."""
    try:
        for path in (folder, *find_files(folder, "*")):
            if path == folder or path.is_dir():
                next(path.iterdir(), None)  # where nothing may be read `find_files` finds nothing
        files = find_files(folder, "*/*.md")
    except OSError as error:
        raise FileError(f"example folder {os_reason(error, folder)}: name another with --examples") from error
    if not files:
        reason = f"holds no example: put Markdown files into {folder}/<show>/"
        raise ExampleError(f"example folder {folder}: {reason}")
    return files


_LONGEST_HEADING = 90


def add(
    file: Path,
    folder: Path,
    shows: Sequence[Show],
    *,
    show: str,
    theme: str,
    form: str,
    title: str | None,
    logline: str | None,
    people: Sequence[str],
) -> Path:
    """Save a person's own synopsis, its text unchanged, as an example in `folder`; return its path.

    The title defaults to the first line if that is short, else to the file's name; the logline to the theme;
    `people`, given as `Name: Rolle`, to the show's cast members that the text names. Raises InputError.
    """
    document = read_document(file)
    known = find_show(shows, show) or generic_show(show)
    brief = make_brief(show=known.name, theme=theme, form=form)
    heading, text = split_heading(document.text)
    if not text:
        raise FileError(f"{file}: holds no text: name a file with a synopsis")
    cast = [
        Character(name=member.name, role=member.role)
        for member in known.cast
        if member.name.rpartition(" ")[2] in text
    ]
    parts = [line.partition(":") for line in people]
    named = [{"name": name.strip(), "role": role.strip() or "Figur"} for name, _, role in parts]
    paragraphs = [{"storyline": "A", "text": part} for part in text.split("\n\n") if part.strip()]
    try:
        synopsis = Synopsis.model_validate(
            {
                "title": title or heading or file.stem.replace("-", " "),
                "logline": logline or f"{theme.rstrip('.')}.",
                "characters": named or cast,
                "paragraphs": paragraphs,
            }
        )
    except ValidationError as error:
        hint = "give --title, --logline or --character 'Name: Rolle'"
        raise ExampleError(f"{file}: {explain(error)}: {hint}") from error
    home = folder / known.slug
    content = format_document({"brief": brief.as_data(), **synopsis.front_matter()}, synopsis.text)
    path = save(content, home, synopsis.title, "md")
    if not (home / SHOW_FILE).exists():
        write_file(home / SHOW_FILE, format_yaml(known.model_dump(mode="json", exclude_none=True)))
    return path


def split_heading(text: str) -> tuple[str, str]:
    """Split a short first line without a full stop from the text below it."""
    first, _, rest = text.partition("\n")
    heading = first.strip("#* ")
    if (
        rest.strip()
        and len(heading) <= _LONGEST_HEADING
        and not heading.endswith((".", "!", "?", "“", "…", ":"))
    ):
        return heading, rest.strip()
    return "", text.strip()
