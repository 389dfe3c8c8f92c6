"""The example pool: synopses with their briefs, one Markdown file each, in `<pool>/<show>/`."""

import contextlib
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from pydantic import ValidationError

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, format_document, format_yaml, read_document
from synopsis_writer.errors import BriefError, ExampleError, FileError, InputError, explain, os_reason
from synopsis_writer.formats.reading import Source, first_sentence, paragraphs, title_and_text
from synopsis_writer.settings import HOUSE_FILE
from synopsis_writer.settings import folder as packaged
from synopsis_writer.show import SHOW_FILE, Show, find_show, generic_show, load_show, nearest_shows
from synopsis_writer.storage.files import find_files, read_input, real_path, save, write_file
from synopsis_writer.synopsis import Character, Synopsis

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """A synopsis with the brief it answers."""

    id: str  # `<show folder>/<file name without .md>`, unique in a pool
    brief: Brief
    synopsis: Synopsis
    path: Path


@dataclass(frozen=True)
class Pool:
    """All shows and examples of one or more folders."""

    shows: tuple[Show, ...]
    examples: tuple[Example, ...]


def load_example(path: Path) -> Example:
    """Read one example, reference or saved synopsis; raises ExampleError, with its line, and FileError."""
    document = read_example_document(path)
    return Example(f"{path.parent.name}/{path.stem}", read_brief(document), read_synopsis(document), path)


def read_example_document(path: Path) -> Document:
    """Read a Markdown file; raises ExampleError for wrong front matter, and FileError."""
    try:
        return read_document(path)
    except FileError:
        raise
    except InputError as error:
        raise ExampleError(str(error)) from error


def read_brief(document: Document) -> Brief:
    """Return the brief in the front matter; raises ExampleError where there is none, or it breaks a rule."""
    fields = document.meta.get("brief")
    if not isinstance(fields, dict):
        where = document.location("brief")
        raise ExampleError(f"{where}: no 'brief' in the front matter: add show, theme and form under it")
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
        hint = "give one of A, B, C for each paragraph, as in [A, A, B]"
        raise ExampleError(
            f"{document.location('storylines')}: 'storylines' has {named} for {len(texts)} paragraphs: {hint}"
        )
    paragraphs = [{"storyline": line, "text": text} for line, text in zip(lines, texts, strict=True)]
    # The other fields of a saved synopsis are not needed to use it as an example.
    fields = {key: document.meta[key] for key in document.meta.keys() & {"title", "logline", "characters"}}
    try:
        return Synopsis.model_validate({**fields, "paragraphs": paragraphs})
    except ValidationError as error:
        raise ExampleError(document.explain(error)) from error


def load_pool(folders: Sequence[Path]) -> Pool:
    """Read all shows and examples below `folders`; of two shows with the same name the first counts."""
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
    ids = chain([example.id], (f"{example.id}-{number}" for number in count(2)))
    return replace(example, id=next(name for name in ids if name not in taken))


def example_files(folder: Path) -> list[Path]:
    """Return the example files below `folder`, sorted; ExampleError where there is none, and no house."""
    try:
        for path in (folder, *find_files(folder, "*")):
            if path == folder or path.is_dir():
                next(path.iterdir(), None)  # where nothing may be read `find_files` finds nothing
        files = find_files(folder, "*/*.md")
    except OSError as error:
        raise FileError(f"example folder {os_reason(error, folder)}: name another with --examples") from error
    if not files and not (folder / HOUSE_FILE).is_file():  # a house may begin without any
        raise ExampleError(f"example folder {folder}: holds no example: put Markdown files into {folder}/<show>/")
    return files


def add(source: Source, folder: Path, shows: Sequence[Show], *, people: Sequence[str] = (), **given: str) -> Path:
    """Save a person's own synopsis as an example in `folder`, its words unchanged; return its path.

    `given` (show, theme, form, title, logline) comes before a CSV's columns, these before the front matter.
    The title defaults to the file's name, the theme to the first sentence, the logline to the theme, `people`
    (`Name: Rolle`) to the cast whom the text names. An unknown show is made, with them. Raises InputError.
    """
    document = source.document
    asked = front if isinstance(front := document.meta.get("brief"), dict) else {}
    fields = {**asked, **source.fields, **given}
    for name in ("show", "form"):
        if name not in fields:
            raise ExampleError(f"{source.where}: says no {name}: name it with --{name}")
    if not (theme := fields.get("theme", "")):
        theme = first_sentence(document.text)
        _log.info("%s: its first sentence is its theme: give --theme for another", source.where)
    known = find_show(shows, fields["show"]) or generic_show(fields["show"])
    try:
        brief = make_brief(**{**asked, "show": known.name, "theme": theme, "form": fields["form"]})
    except BriefError as error:
        raise ExampleError(f"{source.where}: {error}") from error
    title, text = document.meta.get("title"), document.text
    if title is None:
        title, text = title_and_text(text)
    named = read_people(people)
    try:
        synopsis = Synopsis.model_validate(
            {
                "title": given.get("title") or title or document.path.stem.replace("-", " "),
                "logline": given.get("logline") or f"{theme.rstrip('.')}.",
                "characters": named or named_members(known, text),
                "paragraphs": [{"storyline": "A", "text": part} for part in paragraphs(text)],
            }
        )
        if not known.cast:
            known = Show.model_validate({**known.model_dump(), "cast": named})
    except ValidationError as error:
        hint = "give --title, --logline or --character 'Name: Rolle'"
        raise ExampleError(f"{source.where}: {explain(error)}: {hint}") from error
    content = format_document({"brief": brief.as_data(), **synopsis.front_matter()}, synopsis.text)
    body = content[content.index("\n---\n") :].encode()
    for path in (folder / known.slug).glob("*.md"):
        if read_input(path).endswith(body):
            raise ExampleError(f"{source.where}: is in the pool already: see {path}, or remove that first")
    return _save(content, synopsis.title, folder, known)


def _save(content: str, title: str, folder: Path, show: Show) -> Path:
    home = folder / show.slug
    made = [place for place in (home, folder, *folder.parents) if not place.exists()]
    show_file = home / SHOW_FILE
    is_new = not show_file.exists()
    try:
        if is_new:
            write_file(show_file, format_yaml(show.model_dump(mode="json", exclude_none=True)))
        return save(content, home, title, "md", within=folder)
    except FileError:
        with contextlib.suppress(OSError):
            if is_new:
                show_file.unlink(missing_ok=True)
            for place in made:
                place.rmdir()
        raise


def read_people(lines: Sequence[str]) -> list[dict[str, str]]:
    """Return name and role of each `Name: Rolle`."""
    parts = [line.partition(":") for line in lines]
    return [{"name": who.strip(), "role": role.strip() or "Figur"} for who, _, role in parts]


def listed_people(document: Document) -> tuple[Character, ...]:
    """Return the people in a file's front matter, unchecked: a role may be missing."""
    listed = document.meta.get("characters")
    return tuple(
        Character.model_construct(name=person["name"], role=str(person.get("role") or ""))
        for person in (listed if isinstance(listed, list) else [])
        if isinstance(person, dict) and isinstance(person.get("name"), str)
    )


def named_members(show: Show, text: str) -> list[Character]:
    """Return the cast whom a text names: in full, or by a surname that is nobody else's."""
    surnames = [member.name.rpartition(" ")[2] for member in show.cast]

    def is_named(name: str, surname: str) -> bool:
        before = re.findall(rf"(?:(\w+\.?)\s+)?(?<![\w-]){re.escape(surname)}s?(?![\w-])", text)
        alone = (not word or word[0].islower() or word.lower().strip(".") in _TITLES for word in before)
        is_alone = surnames.count(surname) == 1 and any(alone)
        return is_alone or name in text or name.partition(" ")[0] in before

    pairs = zip(show.cast, surnames, strict=True)
    return [Character(name=one.name, role=one.role) for one, surname in pairs if is_named(one.name, surname)]


_TITLES = frozenset("dr prof professor professorin doktor frau herr schwester pfleger".split())


def remove(*examples: Example) -> None:
    """Delete examples, and folders of shows without any left; nothing where one must stay: InputError."""
    for path, name in ((example.path, example.id) for example in examples):
        if real_path(path.parent) != real_path(path.parent.parent) / path.parent.name or path.is_symlink():
            raise ExampleError(f"{path}: leads out of its folder: delete it where it is")
        if real_path(path).is_relative_to(real_path(packaged("examples"))):
            raise ExampleError(f"'{name}' is built in: name a pool of your own with --examples")
    for path, folder in ((example.path, example.path.parent) for example in examples):
        try:
            path.unlink()
            if not any(folder.glob("*.md")) and {left.name for left in folder.iterdir()} <= {SHOW_FILE}:
                (folder / SHOW_FILE).unlink(missing_ok=True)
                folder.rmdir()
        except OSError as error:
            raise FileError(f"cannot remove {os_reason(error, path)}") from error


def change_cast(folder: Path, name: str, added: Sequence[str], removed: Sequence[str]) -> Show:
    """Add people, as `Name: Rolle`, to a show of `folder`, and remove others by name; raises InputError."""
    paths = {load_show(path): path for path in find_files(folder, f"*/{SHOW_FILE}")}
    show = find_show(list(paths), name)
    if show is None:
        near = nearest_shows(list(paths), name) or [known.name for known in paths] or ["none"]
        raise ExampleError(f"{folder}: has no show '{name}': it has {', '.join(near)}")
    cast = {member.name: member.model_dump() for member in show.cast}
    for gone in removed:
        if cast.pop(gone, None) is None:
            raise ExampleError(f"{show.name}: has no '{gone}': its people are {', '.join(cast) or 'none'}")
    for line in added:
        who, _, role = (part.strip() for part in line.partition(":"))
        cast[who] = {**cast.get(who, {}), "name": who, "role": role}
        try:
            Show.model_validate({"name": show.name, "cast": [cast[who]]})
        except ValidationError as error:
            reason = explain(error).replace("cast.0.", "")
            raise ExampleError(f"'{line}': {reason}: write it as 'Name: Rolle'") from error
    changed = Show.model_validate({**show.model_dump(), "cast": list(cast.values())})
    if changed != show:
        write_file(paths[show], format_yaml(changed.model_dump(mode="json", exclude_none=True)))
    return changed
