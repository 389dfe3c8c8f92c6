"""Where the page's texts lie: saved files and their versions, and a journal of what is not saved."""

import asyncio
import contextlib
import hashlib
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from synopsis_writer.document import Document, format_document, parse_document
from synopsis_writer.errors import FileError, InputError
from synopsis_writer.formats.sheets import export
from synopsis_writer.gate.text import word_spans
from synopsis_writer.log import Version
from synopsis_writer.page.routing import Sent, route
from synopsis_writer.page.texts import Text, text_of
from synopsis_writer.releasing import SUFFIXES, release
from synopsis_writer.result import verdicts
from synopsis_writer.storage.files import find_files, read_input, save, slug, write_file
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

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


@dataclass
class Journal:
    """What was typed or written and is not saved, a file each, which only its owner may read."""

    folder: Path

    def path(self, draft: str) -> Path:
        """Return the file of a draft; raises InputError for what is no id."""
        if not re.fullmatch(r"d-[0-9a-f]{4,32}", draft):
            raise InputError(f"'{draft[:40]}' is no draft's id: write d- and 4 to 32 hex digits")
        return self.folder / f"{draft}.json"

    def write(self, text: Text, made: Text | None = None) -> datetime:
        """Write a draft; what a model made of it before stays known; raises FileError."""
        path, now = self.path(text.draft), datetime.now(UTC)
        if made is None:
            with contextlib.suppress(FileError):
                made = self.read(text.draft).made
        entry = Draft(draft=text.draft, at=now, text=text, made=made)
        write_file(path, entry.model_dump_json(), private=True)
        return now

    @route("PUT /journal/{draft}", at_once=True)
    def _write(self, text: Text) -> dict[str, Any]:
        return {"at": self.write(text)}

    @route("GET /journal/{draft}", at_once=True)
    def _read(self, draft: str) -> Text:
        return self.read(draft).text

    def read(self, draft: str) -> Draft:
        """Return a draft; raises NotFoundError, and FileError where it cannot be read."""
        path = self.path(draft)
        if not path.is_file():
            raise NotFoundError(f"no draft {draft}: it was saved or deleted")
        try:
            return Draft.model_validate_json(read_input(path, _LONGEST_DRAFT))
        except ValidationError as error:
            raise FileError(f"{path}: is damaged: look at it in an editor") from error

    @route("DELETE /journal/{draft}", at_once=True)
    def delete(self, draft: str) -> None:
        """Delete a draft, if it is there; raises FileError."""
        try:
            self.path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot delete draft {draft}: {error.strerror}") from error

    def entries(self) -> list[Draft]:
        """Return the drafts that can be read, the newest first; those that are too old are deleted."""
        found = []
        for path in self.folder.glob("d-*.json") if self.folder.is_dir() else ():
            with contextlib.suppress(InputError):
                draft = self.read(path.stem)
                if datetime.now(UTC) - draft.at > _DRAFTS_LAST:
                    self.delete(path.stem)
                else:
                    found.append(draft)
        return sorted(found, key=lambda draft: draft.at, reverse=True)


@contextlib.contextmanager
def logged_errors() -> Iterator[None]:
    """Log what goes wrong with a file beside the text itself, which must not be lost by it."""
    try:
        yield
    except FileError as error:
        _log.warning("%s", error)


@dataclass
class Library:
    """The saved texts of a folder, each a Markdown file, and their versions in the log."""

    writer: Writer
    journal: Journal
    _rows: dict[Path, tuple[int, dict[str, Any], str]] = field(default_factory=dict)  # time, row, words
    _lock: threading.Lock = field(default_factory=threading.Lock)  # from comparing a file to writing it

    def __post_init__(self) -> None:
        self.folder = self.writer.settings.out

    def path(self, name: str) -> Path:
        """Return the file of a text's id; raises InputError for one that leads out of the folder."""
        wrong = "\\" in name or len(name) > _LONGEST_ID or not name.isprintable()
        if wrong or any(not part or part.startswith(".") for part in name.split("/")):
            raise InputError(f"{name[:80]!a}: is no saved text: name a file below the folder of saved texts")
        path = self.folder / name
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{name[:80]}: is no saved text: those are Markdown files (.md)")
        if path.is_symlink() or not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(f"{name[:80]}: is a link out of the folder of saved texts: open it where it is")
        if not path.is_file():
            raise NotFoundError(f"{name[:80]}: no such text: it was moved or deleted")
        return path

    def read(self, name: str) -> tuple[Text, Document]:
        """Return a saved text, as page and file have it; raises InputError."""
        path = self.path(name)
        data = read_input(path)
        document = parse_document(data, path)
        place = str(path.absolute()).encode("utf-8", "surrogatepass")
        draft = f"d-{hashlib.sha256(place).hexdigest()[:20]}"
        return text_of(document, id=name, draft=draft, hash=hashlib.sha256(data).hexdigest()), document

    @route("GET /texts", at_once=True)
    def _list(self, query: str = "", state: str = "") -> dict[str, Any]:
        """Return the saved texts with all words of a query, and a state, the newest first; and all drafts."""
        files = find_files(self.folder, "**/*") if self.folder.is_dir() else []
        found = [self._row(path) for path in files if path.suffix.lower() in SUFFIXES]
        wanted = query.casefold().split()
        rows = [
            row for row, words in found
            if row and state in {"", row["state"]} and all(word in words for word in wanted)
        ]  # fmt: skip
        rows.sort(key=lambda row: str(row["changed"]), reverse=True)
        more = max(0, len(rows) - _MOST_LISTED)
        return {"texts": rows[:_MOST_LISTED], "more": more, **self._list_drafts()}

    def _row(self, path: Path) -> tuple[dict[str, Any], str]:
        try:
            time = path.stat().st_mtime_ns
            if self._rows.get(path, (0,))[0] != time:
                text, document = self.read(path.relative_to(self.folder).as_posix())
                show, people = str(text.brief["show"]), [person.name for person in text.characters]
                changed = datetime.fromtimestamp(time / 1e9, UTC).isoformat(timespec="seconds")
                row = {"show": show, "form": text.brief["form"], "changed": changed}
                row |= {"title": text.title or path.stem, "words": len(word_spans(document.text))}
                row |= text.model_dump(include={"id", "state", "story"})
                words = "\n".join((text.title, show, *people, text.logline, document.text)).casefold()
                self._rows[path] = time, row, words
        except (OSError, InputError):
            return {}, ""  # `synopsis check` says what is wrong with it
        return self._rows[path][1:]

    @route("GET /journal", at_once=True)
    def _list_drafts(self) -> dict[str, Any]:
        rows = [
            {"draft": each.draft, "at": each.at, "show": each.text.brief.get("show"),
             "id": each.text.id, "title": each.text.title}
            for each in self._drafts()
        ]  # fmt: skip
        return {"drafts": rows}

    def _drafts(self) -> list[Draft]:
        """Return the drafts of the journal, the newest first; those whose words are saved are deleted."""
        found = []
        for each in self.journal.entries():
            saved = None
            with contextlib.suppress(InputError):
                saved = each.text.id and self.read(each.text.id)[0]
            if saved and saved.model_dump(exclude=_PASSING) == each.text.model_dump(exclude=_PASSING):
                self.journal.delete(each.draft)
            else:
                found.append(each)
        return found

    @route("GET /texts/{id:path}/hash", at_once=True)
    def _hash(self, id: str) -> dict[str, Any]:
        return {"hash": self.read(id)[0].hash}

    @route("GET /texts/{id:path}/versions", at_once=True)
    def _versions(self, id: str) -> dict[str, Any]:
        versions = [
            {
                "id": f"{version.text}.{version.number}",
                "at": version.created,
                **{name: getattr(version, name) for name in ("maker", "model", "request")},
                "words": None if version.content is None else len(version.document.text.split()),
            }
            for version in self.writer.log.versions_of(self.read(id)[1])[::-1]
        ]
        return {"versions": versions}

    @route("GET /versions/{id}", at_once=True)
    def _version(self, id: str) -> Text:
        text, _, number = id.rpartition(".")
        for version in self.writer.log.versions(text):
            if str(version.number) == number:
                return text_of(version.document)
        raise NotFoundError(f"no version {id[:40]}: it was removed from the log")

    @route("GET /texts/{id:path}", at_once=True)
    def _open(self, id: str) -> dict[str, Any]:
        text = self.read(id)[0]
        typed = next((each for each in self._drafts() if each.text.id == id), None)
        return {**dict(text), "journal": typed and typed.model_dump(mode="json", exclude={"made"})}

    @route("GET /export")
    def _export(self, id: str, format: str) -> Response:
        document = self.read(id)[1]
        content = export([document], format, self.writer.workspace.house.orthography)
        name = f"{slug(document.path.stem)}.{format}"
        head = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, headers=head, media_type="application/octet-stream")

    @route("POST /release")
    def _release(self, id: str, hash: str, by: str, waivers: Mapping[str, str] = {}) -> Text:
        with self._lock:
            release(self._unchanged(id, hash).path, by, waivers=waivers, writer=self.writer)
            return self.read(id)[0]

    def _unchanged(self, name: str, seen: str) -> Document:
        """Return a saved text's document; raises ConflictError where it is not the one that was seen last."""
        text, document = self.read(name)
        if text.hash != seen:
            raise ConflictError(text)
        return document

    @route("POST /texts")
    async def _save_new(self, text: Text) -> Text:
        return await self._save(text.model_copy(update={"id": None}))

    @route("PUT /texts/{id:path}")
    async def _save(self, text: Text) -> Text:
        """Save a text, with the verdicts of a check; one that cannot be checked is saved all the same."""
        gate = {}
        with contextlib.suppress(InputError):
            gate = {"gate": verdicts((await text.check(self.writer)).findings)}
        return await asyncio.to_thread(self._write, text, gate)

    def _write(self, text: Text, gate: Mapping[str, Any]) -> Text:
        run, old, parent = text.origin.get("run"), None, None
        # What a model wrote in the same run: the draft of this text, or else the newest.
        entries = [each for each in self.journal.entries() if run and each.made]
        made = [each for each in entries if each.made and each.made.origin.get("run") == run]
        made.sort(key=lambda each: text.draft not in {each.draft, ""})
        with self._lock:
            if text.id is not None:
                old = self._unchanged(text.id, text.hash)
                with logged_errors():
                    parent = self.writer.log.touch(old, begin=True)
            more = text.origin if old is None or text.request is not None else {}
            rest = {**(old.meta if old else {}), **more, **gate}
            document = text.document(old.path if old else Path("text"), rest, self.writer)
            content, path = format_document(document.meta, document.text), document.path
            if old is None:
                path = self._save_file(content, document, text)
            else:
                write_file(path, content)
            saved, document = self.read(path.relative_to(self.folder).as_posix())
        with logged_errors():
            self._record(document, text, made[0].made if made else None, parent)
        for draft in {text.draft, saved.draft, *(each.draft for each in made)} - {""}:
            self.journal.delete(draft)
        return saved

    def _save_file(self, content: str, document: Document, text: Text) -> Path:
        title, folder = text.title, self.folder
        if text.beside:
            first = self.path(text.beside)
            form = slug(str(text.asked.get("form", "")), 30)
            title, folder = f"{slug(first.stem, 59 - len(form))}-{form}", first.parent
        elif "brief" in document.meta:
            folder /= self.writer.workspace.find_show(str(document.meta["brief"]["show"])).slug
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
