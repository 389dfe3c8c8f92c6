"""Texts as the page has them, and where they lie: saved files, their versions, and drafts in a journal."""

import contextlib
import hashlib
import json
import logging
import re
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, check_values, format_document, parse_document
from synopsis_writer.errors import FileError, InputError, explain
from synopsis_writer.examples import read_brief
from synopsis_writer.formats.reading import paragraphs, title_and_text
from synopsis_writer.gate.finding import Finding, Waiver, waivers_of
from synopsis_writer.gate.form import count_characters
from synopsis_writer.gate.text import word_spans
from synopsis_writer.log import Version
from synopsis_writer.page.calls import plain_value
from synopsis_writer.releasing import SUFFIXES, release
from synopsis_writer.result import verdicts
from synopsis_writer.storage.files import find_files, read_input, save, slug, write_file
from synopsis_writer.synopsis import Storyline
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

State = Literal["draft", "refused", "accepted", "released", "changed"]
_LONGEST_ID, _MOST_LISTED = 500, 2_000
_LONGEST_DRAFT = 20_000_000  # bytes
_OWN = frozenset({"brief", "title", "logline", "characters", "storylines", "waived", "release"})
_NO_BRIEF: Mapping[str, Any] = {
    **dict.fromkeys(("show", "theme", "form"), ""),
    **dict.fromkeys(("characters", "beats"), ()),
    **dict.fromkeys(("words", "character_count", "air_date", "notes")),
}


class NotFoundError(FileError):
    """There is no such text, draft, version or job."""


class ConflictError(FileError):
    """Somebody else has written meanwhile; `current` is what is there now."""

    def __init__(self, message: str, current: "Text") -> None:
        super().__init__(message)
        self.current = current


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Person(_Data):
    """A person of the story."""

    name: str = ""
    role: str = ""


class Part(_Data):
    """A paragraph."""

    storyline: Storyline = "A"
    text: str = ""


class Text(_Data):
    """A text, saved or not, as page and server send it.

    Attributes:
        id: the file's path below the folder of saved texts; None: it is not saved.
        draft: its id in the journal.
        hash: SHA-256 of the file's bytes, as last seen.
        story: what all lengths of one story share.
        origin: the other fields of its front matter: model, prompt, run …
        request: what a model was asked, where these are its words; None where they are a person's.
        beside: the id of the text whose other length it is.
    """

    id: str | None = None
    draft: str = ""
    hash: str = ""
    title: str = ""
    logline: str = ""
    characters: tuple[Person, ...] = ()
    paragraphs: tuple[Part, ...] = ()
    brief: dict[str, Any] = Field(default_factory=dict)
    waived: tuple[Waiver, ...] = ()
    state: State = "draft"
    release: dict[str, Any] | None = None
    story: str | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    request: dict[str, Any] | None = None
    beside: str | None = None

    @property
    def body(self) -> str:
        """The paragraphs as the page counts them, a blank line between two."""
        return "\n\n".join(part.text for part in self.paragraphs)

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the brief that are filled in."""
        lists = {
            name: [each for each in value if str(each).strip()] if isinstance(value, list) else value
            for name, value in self.brief.items()
        }
        return {name: value for name, value in lists.items() if value not in ("", None, [])}

    def document(self, path: Path, rest: Mapping[str, Any], writer: Writer) -> Document:
        """Return the text as its file has it, with `rest` behind its own fields; raises BriefError."""
        brief = None
        if self.asked.keys() - {"form"}:
            brief = writer.resolve(make_brief(**self.asked))[0].as_data()
        # What was pasted may hold blank lines.
        parts = [(part.storyline, piece) for part in self.paragraphs for piece in _pieces(part.text.strip())]
        own: dict[str, Any] = {
            "brief": brief,
            "title": self.title.strip(),
            "logline": self.logline.strip(),
            "characters": [person.model_dump() for person in self.characters if person.name.strip()],
            "storylines": [letter for letter, _ in parts],
        }
        last = {"waived": [each.model_dump(mode="json") for each in self.waived]}
        rest = {name: value for name, value in rest.items() if name not in _OWN - {"release"}}
        meta = {name: value for name, value in {**own, **rest, **last}.items() if value}
        return Document(path, meta, "\n\n".join(text for _, text in parts))

    @property
    def given(self) -> dict[str, Any]:
        """Show and form for a check, where the brief is too short to be one."""
        asked = usable(self.asked)[0]
        is_brief = {"show", "theme"} <= asked.keys()
        return {} if is_brief else {name: asked.get(name) for name in ("show", "form")}

    def as_source(self) -> str:
        """Return the text and what is known of it as Markdown, without a brief that would not be read."""
        meta: dict[str, Any] = {
            "title": self.title,
            "characters": [person.model_dump() for person in self.characters],
            "waived": [each.model_dump(mode="json") for each in self.waived],
        }
        asked, _ = usable(self.asked)
        if {"show", "theme"} <= asked.keys():
            meta["brief"] = asked
        return format_document({name: value for name, value in meta.items() if value}, self.body)


def usable(asked: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the fields of a brief that can be used as they are, and what is wrong with the others."""
    fields, wrong = dict(asked), ""
    while True:
        try:
            Brief.model_validate({"show": "x", "theme": "x", **fields})
        except ValidationError as error:
            wrong = wrong or f"brief: {explain(error)}"
            names = {str(item["loc"][0]) for item in error.errors(include_url=False)}
            fields = {name: value for name, value in fields.items() if name not in names}
        else:
            return fields, wrong


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in re.split(r"\n[ \t]*\n", text) if piece.strip()]


def read_text(data: Any) -> Text:
    """Return the text that the page sent; raises InputError."""
    try:
        text = Text.model_validate(data)
        check_values(data)
    except ValidationError as error:
        raise InputError(f"text: {explain(error)}") from error
    except ValueError as error:
        raise InputError(f"text: {error}") from error
    origin = {name: value for name, value in text.origin.items() if name not in _OWN}
    return text.model_copy(update={"origin": origin})


def text_of(document: Document, **more: Any) -> Text:
    """Return a document as the page has it; `more` are further fields."""
    meta = document.meta
    title, body = meta.get("title") or "", document.text
    if not title:
        title, body = title_and_text(body)
    letters = [letter for letter in _list(meta, "storylines") if letter in get_args(Storyline)]
    parts = _pieces(body)
    parts = parts if letters or len(parts) > 1 else paragraphs(body)
    letters += [letters[-1] if letters else "A"] * len(parts)
    people = [person for person in _list(meta, "characters") if isinstance(person, Mapping)]
    try:
        brief = read_brief(document).as_data()
    except InputError:
        brief = {str(name): value for name, value in dict(_mapping(meta, "brief")).items()}
    try:
        waived = waivers_of(document)
    except InputError:
        waived = ()
    origin = {str(name): value for name, value in meta.items() if name not in _OWN}
    data = {
        "title": title,
        "logline": str(meta.get("logline") or ""),
        "characters": [
            {"name": str(one.get("name") or ""), "role": str(one.get("role") or "")} for one in people
        ],
        "paragraphs": [
            {"storyline": letter, "text": part} for letter, part in zip(letters, parts, strict=False)
        ],
        "brief": {**_NO_BRIEF, **brief},
        "waived": waived,
        "state": state_of(document),
        "release": _mapping(meta, "release") or None,
        "story": str(meta.get("story") or meta.get("run") or "") or None,
        "origin": origin,
    }
    return Text.model_validate({**json.loads(json.dumps(data, default=plain_value)), **more})


def _list(meta: Mapping[str, Any], name: str) -> list[Any]:
    value = meta.get(name)
    return list(value) if isinstance(value, list) else []


def _mapping(meta: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = meta.get(name)
    return value if isinstance(value, Mapping) else {}


def state_of(document: Document) -> State:
    """Return what became of a text, by its release and the verdicts that its file records."""
    changed = document.has_changed
    if changed is not None:
        return "changed" if changed else "released"
    gate = _mapping(document.meta, "gate")
    refused = any(str(verdict).startswith("refused: ") for verdict in gate.values())
    return "refused" if refused else "accepted" if gate else "draft"


def findings_data(findings: Sequence[Finding], body: str) -> list[dict[str, Any]]:
    """Return what did not pass, with spans in UTF-16 units of `body`, which need not be composed."""
    place = _places(body)
    return [
        {
            "check": each.check,
            "level": each.level,
            "message": each.message,
            "hint": each.hint,
            "spans": [[place(start), place(end)] for start, end in each.spans],
            "fix": next((fix.text for fix in each.fixes if fix.span in each.spans[:1]), None),
            "fixes": [
                {"start": place(fix.span.start), "end": place(fix.span.end), "text": fix.text}
                for fix in each.fixes
            ],
            "words": each.marked_words(unicodedata.normalize("NFC", body.strip())),
            "waived": each.waived or None,
        }
        for each in findings
        if not each.passed
    ]


def _places(body: str) -> Any:
    """Return a function from an index in the text as the gate has it to one in UTF-16 units of `body`."""
    first = len(body) - len(body.lstrip())
    inner = body.strip()
    is_composed = unicodedata.is_normalized("NFC", inner)
    is_plain = all(char <= "\uffff" for char in body)

    def place(index: int) -> int:
        if not is_composed:
            index = bisect_left(
                range(len(inner)), index, key=lambda end: len(unicodedata.normalize("NFC", inner[:end]))
            )
        index += first
        return index if is_plain else len(body[:index].encode("utf-16-le", "surrogatepass")) // 2

    return place


async def check(writer: Writer, text: Text) -> dict[str, Any]:
    """Return what the gate finds in a text, how long it is, and how long it may be; raises InputError."""
    asked, problem = usable(text.asked)
    counts = {"words": 0, "characters": 0, "bytes": 0}
    if not text.body.strip():
        return {"findings": [], "passed": False, "counts": counts, "limits": {}, "problem": problem}
    report = await writer.check(text.as_source(), **text.given)
    form = writer.workspace.house.form(report.form)
    if not text.given:
        form = form.with_length(*make_brief(**asked).length)
    limits, unit = form.length
    whole = [unicodedata.normalize("NFC", text.body), *([text.title] if form.title_counts else [])]
    line = " ".join(" ".join(part.split()) for part in whole)
    return {
        "findings": findings_data(report.findings, text.body),
        "passed": report.passed,
        "form": report.form,
        "counts": {
            "words": sum(len(word_spans(part)) for part in whole),
            "characters": sum(map(count_characters, whole)),
            "bytes": len(line.encode(form.encoding or "utf-8", "replace")),
        },
        "limits": {name: limits if name == unit else None for name in counts},
        "problem": problem,
    }


async def fix(writer: Writer, text: Text) -> dict[str, Any]:
    """Return a text with all that code can put right, and what that was."""
    whole = text.model_copy(
        update={
            "paragraphs": tuple(
                Part(storyline=part.storyline, text=piece)
                for part in text.paragraphs
                for piece in _pieces(part.text)
            )
        }
    )
    if not whole.paragraphs:
        return {"text": text, "fixed": []}
    report = await writer.check(whole.as_source(), fix=True, **text.given)
    parts = zip(whole.paragraphs, report.text.split("\n\n"), strict=True)
    fixed = tuple(Part(storyline=part.storyline, text=piece) for part, piece in parts)
    return {"text": whole.model_copy(update={"paragraphs": fixed}), "fixed": list(report.fixed)}


@dataclass(frozen=True)
class Draft:
    """What the journal holds of a text; `made` is the text as a model wrote it, if one did."""

    draft: str
    at: datetime
    text: Text
    made: Text | None = None


_DRAFT = TypeAdapter(Draft)


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
        entry = Draft(draft, now, text, made)
        write_file(path, _DRAFT.dump_json(entry).decode("utf-8"), private=True)
        return now

    def read(self, draft: str) -> Draft:
        """Return a draft; raises NotFoundError, and FileError where it cannot be read."""
        path = self.path(draft)
        if not path.is_file():
            raise NotFoundError(f"no draft {draft}: it was saved or deleted")
        try:
            return _DRAFT.validate_json(read_input(path, _LONGEST_DRAFT))
        except ValueError as error:
            raise FileError(f"{path}: is damaged: look at it in an editor") from error

    def delete(self, draft: str) -> None:
        """Delete a draft, if it is there; raises FileError."""
        try:
            self.path(draft).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot delete draft {draft}: {error.strerror}") from error

    def entries(self) -> Iterator[Draft]:
        """Yield the drafts that can be read, the newest first."""
        paths = self._folder.glob("d-*.json") if self._folder.is_dir() else ()
        found = []
        for path in paths:
            try:
                found.append(self.read(path.stem))
            except InputError:
                continue
        yield from sorted(found, key=lambda draft: draft.at, reverse=True)

    def made_in(self, run: object) -> list[Draft]:
        """Return the drafts that a model wrote in a run."""
        return [each for each in self.entries() if run and each.made and each.made.origin.get("run") == run]


@dataclass(frozen=True)
class _Row:
    """A saved text as the list shows it, and all its words for a search."""

    data: dict[str, Any]
    words: str


@dataclass
class Library:
    """The saved texts of a folder, each a Markdown file, and their versions in the log."""

    writer: Writer
    journal: Journal
    _rows: dict[Path, tuple[tuple[int, int], _Row]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # from comparing a file to writing it

    @property
    def folder(self) -> Path:
        """Where texts are saved."""
        return self.writer.settings.out

    def path(self, name: str) -> Path:
        """Return the file of a text's id; raises InputError for one that leads out of the folder."""
        parts = name.split("/")
        wrong = "\0" in name or "\\" in name or len(name) > _LONGEST_ID or not name.isprintable()
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

    def draft_of(self, path: Path) -> str:
        """Return the journal's id of a saved text."""
        return f"d-{hashlib.sha256(str(path.absolute()).encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"

    def read(self, name: str) -> Text:
        """Return a saved text; raises InputError."""
        return self._read(self.path(name))[0]

    def hash(self, name: str) -> str:
        """Return the SHA-256 of a saved text's file; raises InputError."""
        return _digest(read_input(self.path(name)))

    def _read(self, path: Path) -> tuple[Text, Document]:
        data = read_input(path)
        document = parse_document(data, path)
        name = path.relative_to(self.folder).as_posix()
        return text_of(document, id=name, draft=self.draft_of(path), hash=_digest(data)), document

    def listed(self, query: str, state: str) -> dict[str, Any]:
        """Return the saved texts that have all words of a query, and a state, the newest first."""
        wanted = query.casefold().split()
        rows = []
        for path in find_files(self.folder, "**/*") if self.folder.is_dir() else ():
            row = self._row(path) if path.suffix.lower() in SUFFIXES else None
            if row is None or (state and row.data["state"] != state):
                continue
            if all(word in row.words for word in wanted):
                rows.append(row.data)
        rows.sort(key=lambda row: str(row["changed"]), reverse=True)
        return {"texts": rows[:_MOST_LISTED], "more": max(0, len(rows) - _MOST_LISTED)}

    def _row(self, path: Path) -> _Row | None:
        try:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size
            known = self._rows.get(path)
            if known is not None and known[0] == stamp:
                return known[1]
            text, document = self._read(self.path(path.relative_to(self.folder).as_posix()))
        except (OSError, InputError):
            return None  # `synopsis check` says what is wrong with it
        show, people = str(text.brief["show"]), [person.name for person in text.characters]
        data = {
            "id": text.id,
            "title": text.title or path.stem,
            "show": show,
            "form": text.brief["form"],
            "state": text.state,
            "people": people,
            "words": len(word_spans(document.text)),
            "changed": datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds"),
            "story": text.story,
        }
        words = "\n".join((text.title, show, *people, text.logline, document.text)).casefold()
        row = _Row(data, words)
        self._rows[path] = stamp, row
        return row

    def opened(self, name: str) -> dict[str, Any]:
        """Return a saved text as the page opens it: with what was typed since, and not saved."""
        text = self.read(name)
        passing = {"draft", "hash", "request", "state"}
        typed = (
            {"draft": each.draft, "at": each.at, "text": each.text}
            for each in self.journal.entries()
            if each.text.id == name
            and each.text.model_dump(exclude=passing) != text.model_dump(exclude=passing)
        )
        return {**dict(text), "journal": next(typed, None)}

    def release(self, name: str, seen: str, by: str, waivers: Mapping[str, str]) -> Text:
        """Record in a text's file that a person releases it; raises as `release` and `save`."""
        path = self.path(name)
        with self._lock:
            now = self._read(path)[0]
            if now.hash != seen:
                raise ConflictError(f"{name}: has changed on the disk since it was opened", now)
            release(path, by, waivers=waivers, writer=self.writer)
            return self._read(path)[0]

    def versions(self, name: str) -> list[Version]:
        """Return the versions that led to a saved text, the newest first; raises InputError."""
        return self.writer.log.versions_of(self._read(self.path(name))[1])[::-1]

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
        drafts, parent = self.journal.made_in(text.origin.get("run")), None
        with self._lock:
            if text.id is None:
                path = self._save_new(text, gate)
            else:
                path = self.path(text.id)
                now, old = self._read(path)
                if now.hash != text.hash:
                    raise ConflictError(f"{text.id}: has changed on the disk since it was opened", now)
                parent = _logged(lambda: self.writer.log.touch(old, begin=True))
                rest = {**old.meta, **(text.origin if text.request is not None else {}), **gate}
                document = text.document(path, rest, self.writer)
                write_file(path, format_document(document.meta, document.text))
            saved, document = self._read(path)
        made = next((each.made for each in drafts if text.draft in {each.draft, ""}), None)
        made = made or next((each.made for each in drafts), None)
        _logged(lambda: self._record(document, text, made, parent))
        for draft in {text.draft, saved.draft, *(each.draft for each in drafts)} - {""}:
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
            show = self.writer.find_show(str(document.meta["brief"]["show"]))
            folder = self.folder / show.slug
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
