"""Revise a text: a person's wish becomes the next version of it."""

import json
from pathlib import Path

from synopsis_writer.document import Document, format_document
from synopsis_writer.storage.files import save, write_file

_REPLACED = frozenset({".md", ".markdown", ".json"})  # what this program writes; anything else stays as it is


def save_version(new: Document, old: Path, *, in_place: bool) -> Path:
    """Save a version in the file of the last one, or beside it as Markdown; return its path.

    `in_place` says that what the file holds is in the log. Raises FileError, and leaves all as it was then.
    """
    is_json = old.suffix.lower() == ".json"
    content = format_document(new.meta, new.text)
    if is_json:
        content = json.dumps({**new.meta, "text": new.text}, ensure_ascii=False, indent=2) + "\n"
    if in_place and old.suffix.lower() in _REPLACED:
        write_file(old, content)
        return old
    return save(content, old.parent, old.stem, "json" if is_json else "md")
