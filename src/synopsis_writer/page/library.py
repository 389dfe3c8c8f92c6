"""Where the page's texts lie: saved files and their versions, and a journal of what is not saved."""

import contextlib
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from synopsis_writer.document import Document, format_document, parse_document
from synopsis_writer.errors import FileError, InputError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.text import word_spans
from synopsis_writer.log import Version
from synopsis_writer.page.texts import Sent, Text, text_of
from synopsis_writer.releasing import SUFFIXES, release
from synopsis_writer.result import verdicts
from synopsis_writer.storage.files import find_files, read_input, save, slug, write_file
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_LONGEST_ID, _MOST_LISTED = 500, 2_000
_LONGEST_DRAFT = 20_000_000  # bytes
_DRAFTS_LAST = timedelta(days=30)
_PASSING = {"draft", "hash", "request", "state"}  # what of a text is not its content


class NotFoundError(FileError):
    """There is no such text, draft, version or job."""

    status = 404


class ConflictError(FileError):
    """Somebody else has written a file meanwhile; `more` holds what is there now."""

    status = 409

    def __init__(self, current: Text) -> None:
        super().__init__(f"{current.id}: has changed on the disk since it was opened")
        self.more = {"current": current}


class Draft(Sent):
    """What the journal holds of a text; `made` is the text as a model wrote it, if one did."""

    draft: str
    at: datetime
    text: Text
    made: Text | None = None


class Journal:
    """What was typed or written and is not saved, a file each, which only its owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, draft: str) -> Path:
        """Return the file of a draft; raises InputError for what is no id."""
        if not re.fullmatch(r"d-[0-9a-f]{4,32}", draft):
            raise InputError(f"'{draft[:40]}' is no draft's id: write d- and 4 to 32 hex digits")
        return self._folder / f"{draft}.json"

    def write(self, draft: str, text: Text, made: Text | None = None) -> datetime:
        """Write a draft; what a model made of it before stays known; raises FileError."""
        path, now = self.path(draft), datetime.now(UTC)
        if made is None:
            with contextlib.suppress(FileError):
                made = self.read(draft).made
        entry = Draft(draft=draft, at=now, text=text, made=made)
        write_file(path, entry.model_dump_json(), private=True)
        return now

    def read(self, draft: str) -> Draft:
        """Return a draft; raises NotFoundError, and FileError where it cannot be read."""
        path = self.path(draft)
        if not path.is_file():
            raise NotFoundError(f"no draft {draft}: it was saved or deleted")
        try:
            return Draft.model_validate_json(read_input(path, _LONGEST_DRAFT))
        except ValidationError as error:
            raise FileError(f"{path}: is damaged: look at it in an editor") from error

    def delete(self, draft: str) -> None:
        """Delete a draft, if it is there; raises FileError."""
        try:
            self.path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot delete draft {draft}: {error.strerror}") from error

    def entries(self) -> list[Draft]:
        """Return the drafts that can be read, the newest first; those that are too old are deleted."""
        found = []
        for path in self._folder.glob("d-*.json") if self._folder.is_dir() else ():
            with contextlib.suppress(InputError):
                draft = self.read(path.stem)
                if datetime.now(UTC) - draft.at > _DRAFTS_LAST:
                    self.delete(path.stem)
                else:
                    found.append(draft)
        return sorted(found, key=lambda draft: draft.at, reverse=True)


@dataclass
class Library:
    """The saved texts of a folder, each a Markdown file, and their versions in the log."""

    writer: Writer
    journal: Journal
    _rows: dict[Path, tuple[int, dict[str, Any], str]] = field(default_factory=dict)  # time, row, words
    _lock: threading.Lock = field(default_factory=threading.Lock)  # from comparing a file to writing it

    @property
    def folder(self) -> Path:
        """Where texts are saved."""
        return self.writer.settings.out

    def path(self, name: str) -> Path:
        """Return the file of a text's id; raises InputError for one that leads out of the folder."""
        parts = name.split("/")
        wrong = "\\" in name or len(name) > _LONGEST_ID or not name.isprintable()
        if wrong or any(not part or part.startswith(".") for part in parts):
            raise InputError(f"{name[:80]!a}: is no saved text: name a file below the folder of saved texts")
        path = self.folder.joinpath(*parts)
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{name[:80]}: is no saved text: those are Markdown files (.md)")
        if path.is_symlink() or not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"{name[:80]}: is a link out of the folder of saved texts: open it where it is")
        if not path.is_file():
            raise NotFoundError(f"{name[:80]}: no such text: it was moved or deleted")
        return path

    def read(self, path: Path) -> tuple[Text, Document]:
        """Return a saved text, as page and file have it; raises InputError."""
        data = read_input(path)
        document = parse_document(data, path)
        draft = _digest(str(path.absolute()).encode("utf-8", "surrogatepass"))[:20]
        name = path.relative_to(self.folder).as_posix()
        return text_of(document, id=name, draft=f"d-{draft}", hash=_digest(data)), document

    def listed(self, query: str, state: str) -> dict[str, Any]:
        """Return the saved texts that have all words of a query, and a state, the newest first."""
        rows = []
        for path in find_files(self.folder, "**/*") if self.folder.is_dir() else ():
            if path.suffix.lower() in SUFFIXES and (found := self._row(path)) is not None:
                row, words = found
                if state in {"", row["state"]} and all(word in words for word in query.casefold().split()):
                    rows.append(row)
        rows.sort(key=lambda row: str(row["changed"]), reverse=True)
        return {"texts": rows[:_MOST_LISTED], "more": max(0, len(rows) - _MOST_LISTED)}

    def _row(self, path: Path) -> tuple[dict[str, Any], str] | None:
        """Return a saved text as the list shows it, and all its words."""
        try:
            time = path.stat().st_mtime_ns
            if self._rows.get(path, (0,))[0] != time:
                text, document = self.read(self.path(path.relative_to(self.folder).as_posix()))
                show, people = str(text.brief["show"]), [person.name for person in text.characters]
                row = {
                    **text.model_dump(include={"id", "state", "story"}),
                    "title": text.title or path.stem,
                    "show": show,
                    "form": text.brief["form"],
                    "words": len(word_spans(document.text)),
                    "changed": datetime.fromtimestamp(time / 1e9, UTC).isoformat(timespec="seconds"),
                }
                words = "\n".join((text.title, show, *people, text.logline, document.text)).casefold()
                self._rows[path] = time, row, words
        except (OSError, InputError):
            return None  # `synopsis check` says what is wrong with it
        return self._rows[path][1:]

    def opened(self, name: str) -> dict[str, Any]:
        """Return a saved text as the page opens it: with what was typed since, and not saved."""
        text = self.read(self.path(name))[0]
        typed = next((each for each in self.drafts() if each.text.id == name), None)
        return {**dict(text), "journal": typed and typed.model_dump(mode="json", exclude={"made"})}

    def drafts(self) -> list[Draft]:
        """Return the drafts of the journal, the newest first; those whose words are saved are deleted."""
        found = []
        for each in self.journal.entries():
            saved = None
            with contextlib.suppress(InputError):
                saved = self.read(self.path(each.text.id))[0] if each.text.id else None
            if saved and saved.model_dump(exclude=_PASSING) == each.text.model_dump(exclude=_PASSING):
                self.journal.delete(each.draft)
            else:
                found.append(each)
        return found

    def release(self, name: str, seen: str, by: str, waivers: Mapping[str, str]) -> Text:
        """Record in a text's file that a person releases it; raises as `release` and `save`."""
        path = self.path(name)
        with self._lock:
            self._compare(path, seen)
            release(path, by, waivers=waivers, writer=self.writer)
            return self.read(path)[0]

    def _compare(self, path: Path, seen: str) -> Document:
        """Return a file's document; raises ConflictError where it is not the one that was seen last."""
        text, document = self.read(path)
        if text.hash != seen:
            raise ConflictError(text)
        return document

    def versions(self, name: str) -> list[Version]:
        """Return the versions that led to a saved text, the newest first; raises InputError."""
        return self.writer.log.versions_of(self.read(self.path(name))[1])[::-1]

    def version(self, name: str) -> Text:
        """Return a version by its id, as the page has it; raises InputError."""
        text, _, number = name.rpartition(".")
        for version in self.writer.log.versions(text):
            if str(version.number) == number:
                return text_of(version.document)
        raise NotFoundError(f"no version {name[:40]}: it was removed from the log")

    def save(self, text: Text, findings: Sequence[Finding] | None) -> Text:
        """Save a text in its file, or in a new one, and its version; return it as it is now.

        `findings` are of its check; None where it could not be checked.

        Raises:
            ConflictError: the file is another than the one that was last seen.
            InputError: the brief is no brief, or the file cannot be written.
        """
        gate = {} if findings is None else {"gate": verdicts(findings)}
        run, parent = text.origin.get("run"), None
        # What a model wrote in the same run: the draft of this text, or else the newest.
        entries = [each for each in self.journal.entries() if each.made]
        made = [each for each in entries if run and each.made and each.made.origin.get("run") == run]
        made.sort(key=lambda each: text.draft not in {each.draft, ""})
        with self._lock:
            if text.id is None:
                path = self._save_new(text, gate)
            else:
                path = self.path(text.id)
                old = self._compare(path, text.hash)
                parent = _logged(lambda: self.writer.log.touch(old, begin=True))
                rest = {**old.meta, **(text.origin if text.request is not None else {}), **gate}
                document = text.document(path, rest, self.writer)
                write_file(path, format_document(document.meta, document.text))
            saved, document = self.read(path)
        _logged(lambda: self._record(document, text, made[0].made if made else None, parent))
        for draft in {text.draft, saved.draft, *(each.draft for each in made)} - {""}:
            self.journal.delete(draft)
        return saved

    def _save_new(self, text: Text, gate: Mapping[str, Any]) -> Path:
        document = text.document(Path("text"), {**text.origin, **gate}, self.writer)
        content = format_document(document.meta, document.text)
        title, folder = text.title, self.folder
        if text.beside:
            first = self.path(text.beside)
            form = slug(str(text.asked.get("form", "")), 30)
            title, folder = f"{slug(first.stem, 59 - len(form))}-{form}", first.parent
        elif "brief" in document.meta:
            folder /= self.writer.find_show(str(document.meta["brief"]["show"])).slug
        return save(content, folder, title, "md", within=self.folder)

    def _record(self, document: Document, text: Text, made: Text | None, parent: Version | None) -> None:
        """Record who wrote what: the model's words first, then what a person made of them."""
        log, model, run = self.writer.log, text.origin.get("model"), text.origin.get("run")
        is_model = text.request is not None or (parent is None and model is not None)
        more: dict[str, Any] = {"model": model and str(model), "request": text.request}
        if is_model and made is not None and made.body != text.body:
            words = replace(document, text=made.body)
            parent, is_model = log.add_version(words, "model", parent=parent, **more), False
        if is_model:
            log.add_version(document, "model", parent=parent, **more)
        elif parent is None or parent.content != format_document(document.meta, document.text):
            log.add_version(document, "person", parent=parent)
        if text.id is None and isinstance(run, str):
            log.saved(run, document.path)


def _logged(work: Callable[[], _T]) -> _T | None:
    """Do what the log may fail at: that never costs a text."""
    try:
        return work()
    except FileError as error:
        _log.warning("%s", error)
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
