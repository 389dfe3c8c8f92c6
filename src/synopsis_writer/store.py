"""Saving: whole or not at all, and never over another file."""

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from synopsis_writer.client.bill import bill_data
from synopsis_writer.document import format_document
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.examples import front_matter
from synopsis_writer.kinds import FileFormat
from synopsis_writer.prompts import Prompt
from synopsis_writer.shows import slug
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Attempt, Result

_MOST_NUMBERED = 10_000


@dataclass(frozen=True)
class Origin:
    """Where a synopsis came from: its run, and the prompt (None in the guided strategy)."""

    run: str
    created: datetime
    prompt: Prompt | None = None


def new_origin(prompt: Prompt | None = None) -> Origin:
    """Return the origin of a run that begins now."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Origin(f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", now, prompt)


def demo_label(attempt: Attempt, synopsis: Synopsis) -> str | None:
    """Return the honest label of a guided draft, or None for a text the model wrote itself."""
    by_model = attempt.answer.words_by_model
    if by_model is None:
        return None
    return (
        f"demo draft: {by_model} of {len(synopsis.text.split())} words by the model, the rest from a scaffold"
    )


def record(result: Result, attempt: Attempt, synopsis: Synopsis, origin: Origin) -> dict[str, Any]:
    """Return the front matter of a saved synopsis: its own fields, and how it came about."""
    label = demo_label(attempt, synopsis)
    return {
        **front_matter(result.brief, synopsis),
        **({"draft": label} if label else {}),
        **provenance(result, attempt, origin),
    }


def provenance(result: Result, attempt: Attempt, origin: Origin) -> dict[str, Any]:
    """Return how an attempt came about: model, prompt, tokens and cost of all attempts, verdicts, run."""
    prompt = origin.prompt
    fields: dict[str, Any] = {"model": attempt.answer.model}
    if prompt is not None:
        fields["prompt"] = {"name": prompt.name, "version": prompt.version, "hash": prompt.hash}
        fields["examples"] = list(prompt.example_ids)
    return fields | {
        **bill_data([made.answer for made in result.attempts]),
        "gate": {
            finding.check: finding.value if finding.passed else f"refused: {finding.message}"
            for finding in attempt.findings
        },
        "run": origin.run,
        "created": origin.created.isoformat(),
    }


def render(fields: dict[str, Any], synopsis: Synopsis, file_format: FileFormat) -> str:
    """Return the text of the file."""
    if file_format is FileFormat.JSON:
        return json.dumps({**fields, "text": synopsis.text}, ensure_ascii=False, indent=2) + "\n"
    if file_format is FileFormat.TEXT:
        label = f"\n({fields['draft']})\n" if "draft" in fields else ""
        return f"{synopsis.title}\n\n{synopsis.text}\n{label}"
    return format_document(fields, synopsis.text)


def save(content: str, folder: Path, title: str, file_format: FileFormat, *, force: bool = False) -> Path:
    """Write `<folder>/<title-slug>.<format>`, with a number where that is taken; return its path.

    Raises:
        FileError: the folder cannot be made or written, or the disk is full; nothing is left behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _written(content, folder) as temporary:
            if force:
                target = folder / f"{slug(title)}.{file_format}"
                temporary.replace(target)
                return target
            for target in _names(folder, slug(title), file_format):
                with contextlib.suppress(FileExistsError):
                    _claim(temporary, target)
                    return target
    except OSError as error:
        raise FileError(f"cannot save into {os_reason(error, folder)}: name another folder") from error
    raise FileError(
        f"cannot save into {folder}: {_MOST_NUMBERED} files are called {slug(title)}: clear it up"
    )


def write_file(path: Path, content: str) -> None:
    """Write a file whole, in the place of one that is there.

    Raises:
        FileError: it cannot be written, or the disk is full; what was there stays as it was.
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write into, which takes the place of `path` when the block ends without a fault.

    A device or a pipe is written as it comes: it must stay what it is.

    Raises:
        FileError: it cannot be written, or the disk is full; what was there stays as it was.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent) as (temporary, file):
            yield file
            _settle(temporary, file)
            temporary.replace(path)
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: name another file") from error


@contextlib.contextmanager
def _written(content: str, folder: Path) -> Iterator[Path]:
    """Write a temporary file to the disk, and take it away unless it was renamed."""
    with _temporary(folder) as (path, file):
        file.write(content.encode("utf-8"))
        _settle(path, file)
        yield path


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    handle, name = tempfile.mkstemp(prefix=".synopsis-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def _settle(path: Path, file: BinaryIO) -> None:
    """Bring the whole file to the disk, and give it the rights of any new file."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    path.chmod(0o666 & ~umask())


def umask() -> int:
    """Return the rights that new files of this process do not get."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def _names(folder: Path, stem: str, file_format: FileFormat) -> Iterator[Path]:
    yield folder / f"{stem}.{file_format}"
    for number in range(2, _MOST_NUMBERED):
        yield folder / f"{stem}-{number}.{file_format}"


def _claim(temporary: Path, target: Path) -> None:
    """Give the file its name, which must be free: a link fails where another process was quicker."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: reserve the name, then replace the empty file.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary.replace(target)
