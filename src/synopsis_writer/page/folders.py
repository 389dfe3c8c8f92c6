"""Folders to work through: a batch's rows, and an eval run's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synopsis_writer.batch.store import RECORD_FILE, read_batch
from synopsis_writer.batch.store import read_brief as batch_brief
from synopsis_writer.batch.store import read_synopsis as batch_synopsis
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, InputError
from synopsis_writer.evals.record import RUN_FILE, read_info, read_rows
from synopsis_writer.page.texts import Text, text_of

_MOST_ROWS = 200  # at a time
_DEPTH = 3  # folders below the working directory in which batches and runs are looked for


def rows(path: str, offset: str) -> dict[str, Any]:
    """Return the rows of a folder from one on, or for an empty path the folders that have some."""
    here = Path.cwd().resolve()
    if not path:
        return {"kind": "none", "folders": sorted(_found(here)), "rows": []}
    folder = here / path
    if "\0" in path or not folder.resolve().is_relative_to(here):
        raise InputError(f"{path[:80]!a}: is no folder below {here}: start the page where it is")
    first = int(offset) if offset.isascii() and offset.isdigit() else 0
    if (folder / RECORD_FILE).is_file():
        found = list(_batch_rows(folder, first))
        return {"kind": "batch", "rows": found[:_MOST_ROWS], "more": len(found) > _MOST_ROWS}
    if (folder / RUN_FILE).is_file():
        read_info(folder)
        runs = list(read_rows(folder).values())[first : first + _MOST_ROWS + 1]
        found = [
            _row(
                "/".join(map(str, row.id)),
                row.outcome,
                row.reason,
                None
                if row.synopsis is None
                else Document(Path("text"), row.synopsis.front_matter(), row.synopsis.text),
            )
            for row in runs
        ]
        return {"kind": "eval", "rows": found[:_MOST_ROWS], "more": len(found) > _MOST_ROWS}
    raise FileError(f"{path[:80]}: holds neither a batch nor an eval run: name another folder")


def _found(here: Path) -> Iterator[str]:
    for depth in range(1, _DEPTH + 1):
        for name in (RECORD_FILE, RUN_FILE):
            for path in here.glob("/".join(["*"] * depth + [name])):
                yield path.parent.relative_to(here).as_posix()


def _batch_rows(folder: Path, first: int) -> Iterator[dict[str, Any]]:
    sql = "SELECT id, brief, status, reason, synopsis FROM rows ORDER BY place LIMIT ? OFFSET ?"
    with read_batch(folder) as batch:
        for name, asked, status, reason, synopsis in batch.query(sql, _MOST_ROWS + 1, first):
            meta: dict[str, Any] = {"brief": batch_brief(name, asked).as_data()}
            text = batch_synopsis(name, synopsis) if synopsis else None
            meta |= text.front_matter() if text else {}
            yield _row(str(name), status, reason, Document(Path("text"), meta, text.text if text else ""))


def _row(key: str, state: str, reason: str | None, document: Document | None) -> dict[str, Any]:
    text: Text | None = None if document is None else text_of(document)
    title = text.title if text else ""
    return {"key": key, "title": title, "state": state, "reason": reason or "", "text": text}
