"""Keeping a pool: hold all of it against format and gate, and add a person's own texts to it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from synopsis_writer.brief import make_brief
from synopsis_writer.document import format_document, read_document
from synopsis_writer.errors import ExampleError, FileError, InputError, explain
from synopsis_writer.examples import Example, example_files, front_matter, load_example, with_free_id
from synopsis_writer.kinds import FileFormat, Form
from synopsis_writer.shows import SHOW_FILE, Show, find_show, generic_show, load_show
from synopsis_writer.store import save
from synopsis_writer.style.copy_store import kept_index
from synopsis_writer.style.gate import Gate, copy_sources, failures
from synopsis_writer.style.profile import Profile
from synopsis_writer.synopsis import Character, Synopsis
from synopsis_writer.yamlblock import format_yaml

_LONGEST_HEADING = 90


def faults(folders: Sequence[Path], profile: Profile, cache: Path) -> tuple[int, list[str]]:
    """Return how many examples there are, and every fault of format, show and style, in one line each.

    Raises:
        InputError: a folder is missing, unreadable or empty.
    """
    found: list[str] = []
    shows: dict[str, Show] = {}
    examples: list[Example] = []
    for folder in folders:
        for path in example_files(folder):
            try:
                examples.append(with_free_id(load_example(path), [example.id for example in examples]))
            except InputError as error:
                found.append(str(error))
        for path in sorted(folder.glob(f"*/{SHOW_FILE}")):
            try:
                shows[path.parent.name] = load_show(path)
            except InputError as error:
                found.append(str(error))
    sources = kept_index(copy_sources(examples), cache / "copies")
    gate = Gate(profile, sources, shows=tuple(shows.values()))
    for example in examples:
        found += _faults_of(example, shows.get(example.path.parent.name), gate)
    return len(examples), found


def _faults_of(example: Example, show: Show | None, gate: Gate) -> list[str]:
    if show is None:
        return [f"{example.path}: {example.path.parent} has no {SHOW_FILE}: write one with the show's name"]
    found = []
    if example.brief.show != show.name:
        found.append(f"{example.path}: the brief's show is not '{show.name}': use the name in {SHOW_FILE}")
    findings = gate.examine(example.synopsis, example.brief, show, own_source=example.id)
    return found + [f"{example.path}: {finding.check}: {finding.message}" for finding in failures(findings)]


def add(
    file: Path,
    folder: Path,
    shows: Sequence[Show],
    *,
    show: str,
    theme: str,
    form: Form,
    title: str | None,
    logline: str | None,
    people: Sequence[str],
) -> Path:
    """Save a person's own synopsis, its text as it is, as an example in `folder`; return its path.

    Without a title the first line serves when it is short, else the file's name; without a logline the
    theme; without people the show's cast members that the text names. `people` are given as `Name: Rolle`.

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
        Character(name=member.name, role=member.role) for member in known.cast if _named(member.name, text)
    ]
    try:
        synopsis = Synopsis.model_validate(
            {
                "title": title or heading or file.stem.replace("-", " "),
                "logline": logline or f"{theme.rstrip('.')}.",
                "characters": [_person(line) for line in people] or cast,
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
    content = format_document(front_matter(brief, synopsis), synopsis.text)
    path = save(content, home, synopsis.title, FileFormat.MARKDOWN)
    if not (home / SHOW_FILE).exists():
        (home / SHOW_FILE).write_text(
            format_yaml(known.model_dump(mode="json", exclude_none=True)), encoding="utf-8"
        )
    return path


def _heading(text: str) -> tuple[str, str]:
    """Part a short first line without a full stop from the text below it."""
    first, _, rest = text.partition("\n")
    heading = first.strip("#* ")
    if rest.strip() and len(heading) <= _LONGEST_HEADING and not heading.endswith((".", "!", "?", "“", "…")):
        return heading, rest.strip()
    return "", text.strip()


def _named(name: str, text: str) -> bool:
    return name.rpartition(" ")[2] in text


def _person(line: str) -> dict[str, str]:
    name, _, role = line.partition(":")
    return {"name": name.strip(), "role": role.strip() or "Figur"}
