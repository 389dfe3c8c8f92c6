"""The example pool: synopses with their briefs, one Markdown file each, in `<pool>/<show>/`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synopsis_writer.brief import Brief, Form, make_brief
from synopsis_writer.document import Document, format_document, format_yaml, read_document
from synopsis_writer.errors import ExampleError, FileError, InputError, explain, os_reason
from synopsis_writer.show import SHOW_FILE, Show, find_show, generic_show, load_show
from synopsis_writer.storage.files import save, write_file
from synopsis_writer.synopsis import Character, Synopsis

# The other fields of a saved synopsis are not needed to use it as an example.
_SYNOPSIS_FIELDS = ("title", "logline", "characters")


@dataclass(frozen=True)
class Example:
    """A synopsis with the brief it answers.

    Attributes:
        id: `<show folder>/<file name without .md>`, unique in a pool.
        brief: what was asked for.
        synopsis: the answer.
        path: the file it was read from.
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
    """Return the brief in the front matter.

    Raises:
        ExampleError: there is none, or it breaks a rule.
    """
    fields = document.meta.get("brief")
    if not isinstance(fields, dict):
        raise ExampleError(
            f"{document.location('brief')}: no 'brief' in the front matter: add show, theme and form under it"
        )
    try:
        return Brief.model_validate(fields)
    except ValidationError as error:
        raise ExampleError(document.explain(error, "brief")) from error


def read_synopsis(document: Document) -> Synopsis:
    """Return the synopsis that front matter and text make up.

    Raises:
        ExampleError: a field is missing, or `storylines` does not count the paragraphs.
    """
    texts = [part.strip() for part in document.text.split("\n\n") if part.strip()]
    lines = document.meta.get("storylines")
    if not isinstance(lines, list) or len(lines) != len(texts):
        named = f"{len(lines)} letters" if isinstance(lines, list) else "no list"
        raise ExampleError(
            f"{document.location('storylines')}: 'storylines' has {named} for {len(texts)} paragraphs: "
            "give one of A, B, C for each paragraph, as in [A, A, B]"
        )
    fields: dict[str, Any] = {key: document.meta[key] for key in _SYNOPSIS_FIELDS if key in document.meta}
    fields["paragraphs"] = [
        {"storyline": line, "text": text} for line, text in zip(lines, texts, strict=True)
    ]
    try:
        return Synopsis.model_validate(fields)
    except ValidationError as error:
        raise ExampleError(document.explain(error)) from error


def load_pool(folders: Sequence[Path]) -> Pool:
    """Read all shows and examples below `folders`; of two shows with one name the first counts.

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
        for path in sorted(folder.glob(f"*/{SHOW_FILE}")):
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
    """Return the example files below `folder`, sorted.

    Raises:
        ExampleError: there is none.
        FileError: the folder is missing or cannot be read.
    """
    try:
        shows = sorted(path for path in folder.iterdir() if path.is_dir())
        files = [path for show in shows for path in sorted(show.iterdir()) if path.suffix == ".md"]
    except OSError as error:
        raise FileError(f"example folder {os_reason(error, folder)}: name another with --examples") from error
    if not files:
        raise ExampleError(
            f"example folder {folder}: holds no example: put Markdown files into {folder}/<show>/"
        )
    return files


_LONGEST_HEADING = 90


def add(
    file: Path,
    folder: Path,
    shows: Sequence[Show],
    *,
    show: str,
    theme: str,
    form: Form | str,
    title: str | None,
    logline: str | None,
    people: Sequence[str],
) -> Path:
    """Save a person's own synopsis, its text unchanged, as an example in `folder`; return its path.

    The title defaults to the first line if that is short, else to the file's name; the logline to the theme;
    `people`, given as `Name: Rolle`, to the show's cast members that the text names.

    Raises:
        InputError: the file cannot be read or holds no text, or a field breaks a rule.
    """
    document = read_document(file)
    known = find_show(shows, show) or generic_show(show)
    brief = make_brief(show=known.name, theme=theme, form=form)
    heading, text = _heading(document.text)
    if not text:
        raise FileError(f"{file}: holds no text: name a file with a synopsis")
    cast = [
        Character(name=member.name, role=member.role)
        for member in known.cast
        if member.name.rpartition(" ")[2] in text
    ]
    named = [(name.strip(), role.strip()) for name, _, role in (line.partition(":") for line in people)]
    try:
        synopsis = Synopsis.model_validate(
            {
                "title": title or heading or file.stem.replace("-", " "),
                "logline": logline or f"{theme.rstrip('.')}.",
                "characters": [{"name": name, "role": role or "Figur"} for name, role in named] or cast,
                "paragraphs": [
                    {"storyline": "A", "text": part} for part in text.split("\n\n") if part.strip()
                ],
            }
        )
    except ValidationError as error:
        raise ExampleError(
            f"{file}: {explain(error)}: give --title, --logline or --character 'Name: Rolle'"
        ) from error
    home = folder / known.slug
    content = format_document({"brief": brief.as_data(), **synopsis.front_matter()}, synopsis.text)
    path = save(content, home, synopsis.title, "md")
    if not (home / SHOW_FILE).exists():
        write_file(home / SHOW_FILE, format_yaml(known.model_dump(mode="json", exclude_none=True)))
    return path


def _heading(text: str) -> tuple[str, str]:
    """Split a short first line without a full stop from the text below it."""
    first, _, rest = text.partition("\n")
    heading = first.strip("#* ")
    if rest.strip() and len(heading) <= _LONGEST_HEADING and not heading.endswith((".", "!", "?", "“", "…")):
        return heading, rest.strip()
    return "", text.strip()
