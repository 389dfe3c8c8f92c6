"""Cases: briefs with a reference synopsis each, which no prompt may ever hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from synopsis_writer.brief import Brief
from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import ExampleError, FileError, InputError, os_reason
from synopsis_writer.examples import read_brief, read_synopsis
from synopsis_writer.synopsis import Synopsis


@dataclass(frozen=True)
class Case:
    """A brief and how a person answered it.

    Attributes:
        id: the file's name without `.md`, unique in a suite.
        brief: what is asked for.
        reference: the person's synopsis.
        facts: what a text about this brief should say, a sentence each.
        path: the file it was read from.
        same_story: ids of examples that tell the same story, and so must not stand in its prompt.
    """

    id: str
    brief: Brief
    reference: Synopsis
    facts: tuple[str, ...]
    path: Path
    same_story: tuple[str, ...] = ()


def load_cases(folder: Path) -> tuple[Case, ...]:
    """Read all cases below `folder`, sorted by id.

    Raises:
        ExampleError: a case breaks its format, has no reference, or two have one id; or there is none.
        FileError: the folder or a file cannot be read.
    """
    try:
        paths = sorted(folder.rglob("*.md"))
        if not folder.is_dir():
            raise FileError(f"cases: {folder}: no such folder: name one that holds cases")
    except OSError as error:
        raise FileError(f"cases: {os_reason(error, folder)}: name a folder that holds cases") from error
    cases: dict[str, Case] = {}
    for path in paths:
        case = load_case(path)
        if case.id in cases:
            raise ExampleError(f"{path}: the id '{case.id}' is {cases[case.id].path}'s: rename one of them")
        cases[case.id] = case
    if not cases:
        raise ExampleError(
            f"cases: {folder}: holds no case: put Markdown files with a brief and a reference there"
        )
    return tuple(cases[name] for name in sorted(cases))


def load_case(path: Path) -> Case:
    """Read one case.

    Raises:
        ExampleError: a field is missing or wrong, or there is no reference; names file, line and the mend.
        FileError: the file cannot be read.
    """
    try:
        document = read_document(path)
    except FileError:
        raise
    except InputError as error:
        raise ExampleError(str(error)) from error
    if not document.text.strip():
        raise ExampleError(f"{path}: the case has no reference: write the synopsis below the front matter")
    return Case(
        path.stem,
        read_brief(document),
        read_synopsis(document),
        _texts(document, "facts", "sentences"),
        path,
        _texts(document, "same_story", "ids of examples"),
    )


def case_hash(case: Case) -> str:
    """Return 12 hex digits that change when the case's file does; raises OSError."""
    return hashlib.sha256(case.path.read_bytes()).hexdigest()[:12]


def _texts(document: Document, name: str, what: str) -> tuple[str, ...]:
    texts = document.meta.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ExampleError(f"{document.place(name)}: '{name}' must be a list of {what}")
    return tuple(texts)


def matching(cases: Sequence[Case], patterns: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases whose id, or whose form's name, fits one of the glob patterns.

    Raises:
        ExampleError: a pattern fits none.
    """
    for pattern in patterns:
        if not any(_fits(case, pattern) for case in cases):
            raise ExampleError(
                f"no case fits '{pattern}': the cases are {', '.join(case.id for case in cases)}"
            )
    return tuple(case for case in cases if any(_fits(case, pattern) for pattern in patterns))


def _fits(case: Case, pattern: str) -> bool:
    return fnmatchcase(case.id, pattern) or case.brief.form == pattern
