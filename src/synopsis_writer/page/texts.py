"""Texts as the page has them: read from requests and files, checked, and fixed."""

import contextlib
import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, format_document
from synopsis_writer.errors import InputError, explain
from synopsis_writer.examples import listed_people, read_brief
from synopsis_writer.formats.reading import paragraphs, title_and_text
from synopsis_writer.gate.finding import Finding, Waiver, waivers_of
from synopsis_writer.page.routing import Sent
from synopsis_writer.synopsis import Storyline
from synopsis_writer.workspace import Report
from synopsis_writer.writer import Writer

_OWN = frozenset({"brief", "title", "logline", "characters", "storylines", "waived", "release"})
_LISTS = ("characters", "beats", "before")  # of a brief; the page may send each as lines
_NO_BRIEF: Mapping[str, Any] = {
    **dict.fromkeys(("show", "theme", "form"), ""),
    **dict.fromkeys(_LISTS, ()),
    **dict.fromkeys(("words", "character_count", "air_date", "notes")),
}


class Person(Sent):
    """A person of the story."""

    name: str = ""
    role: str = ""


class Part(Sent):
    """A paragraph."""

    storyline: Storyline = "A"
    text: str = ""


class Text(Sent):
    """A text, saved or not, as page and server send it."""

    id: str | None = None  # the file's path below the folder of saved texts; None: it is not saved
    draft: str = ""  # its id in the journal
    hash: str = ""  # SHA-256 of the file's bytes, as last seen
    title: str = ""
    logline: str = ""
    characters: tuple[Person, ...] = ()
    paragraphs: tuple[Part, ...] = ()
    brief: dict[str, Any] = Field(default_factory=lambda: dict(_NO_BRIEF))
    waived: tuple[Waiver, ...] = ()
    state: Literal["draft", "refused", "accepted", "released", "changed"] = "draft"
    release: dict[str, Any] | None = None
    story: str | None = None  # what all lengths of one story share
    origin: dict[str, Any] = Field(default_factory=dict)  # other fields of the front matter: model, run …
    request: dict[str, Any] | None = None  # what a model was asked; None where the words are a person's
    beside: str | None = None  # the id of the text whose other length it is

    @field_validator("origin")
    @classmethod
    def _leave_out_own(cls, origin: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in origin.items() if name not in _OWN}

    @field_validator("brief")
    @classmethod
    def _read_lines(cls, brief: dict[str, Any]) -> dict[str, Any]:
        lines = {name: value.split("\n") for name in _LISTS if isinstance(value := brief.get(name), str)}
        return {**brief, **lines}

    @property
    def body(self) -> str:
        """The paragraphs as the page counts them, a blank line between two."""
        return "\n\n".join(part.text for part in self.paragraphs if part.text.strip())

    @property
    def parts(self) -> tuple[Part, ...]:
        """The paragraphs, without empty ones; what was pasted may hold blank lines."""
        pieces = ((part, piece) for part in self.paragraphs for piece in _pieces(part.text))
        return tuple(Part(storyline=part.storyline, text=piece) for part, piece in pieces)

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the brief that are filled in."""
        lists = {name: value for name, value in self.brief.items() if isinstance(value, list | tuple)}
        lines = {name: [each for each in value if str(each).strip()] for name, value in lists.items()}
        return {name: value for name, value in {**self.brief, **lines}.items() if value not in ("", None, [])}

    def document(self, path: Path, rest: Mapping[str, Any], writer: Writer) -> Document:
        """Return the text as its file has it, with `rest` behind its own fields; raises BriefError."""
        brief, parts = None, self.parts
        if self.asked.keys() - {"form"}:
            brief = writer.resolve(make_brief(**self.asked))[0].as_data()
        more = {name: value for name, value in rest.items() if name not in _OWN - {"release"}}
        meta = self._meta(brief, [part.storyline for part in parts], more)
        return Document(path, meta, "\n\n".join(part.text for part in parts))

    def _meta(self, brief: Any, letters: Sequence[str] = (), more: Mapping[str, Any] = {}) -> dict[str, Any]:
        meta = {
            "brief": brief,
            "title": self.title.strip(),
            "logline": self.logline.strip(),
            "characters": [person.model_dump() for person in self.characters if person.name.strip()],
            "storylines": letters,
            **more,
            "waived": [each.model_dump(mode="json") for each in self.waived],
        }
        return {name: value for name, value in meta.items() if value}

    async def check(self, writer: Writer, *, fix: bool = False) -> Report:
        """Check the text; of a brief that is too short to be one, only show and form count."""
        asked = usable(self.asked)[0]
        is_brief = {"show", "theme"} <= asked.keys()
        given: Any = {} if is_brief else {name: asked.get(name) for name in ("show", "form")}
        source = format_document(self._meta(asked if is_brief else None), self.body)
        return await writer.check(source, fix=fix, **given)


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


def text_of(document: Document, **more: Any) -> Text:
    """Return a document as the page has it, its state by release or recorded verdicts; `more` are fields."""
    meta, title, body = document.meta, document.meta.get("title") or "", document.text
    if not title:
        title, body = title_and_text(body)
    brief, gate, release = (meta.get(name) for name in ("brief", "gate", "release"))
    listed = meta.get("storylines")
    letters = [one for one in listed if one in get_args(Storyline)] if isinstance(listed, list) else []
    parts = _pieces(body)
    parts = parts if letters or len(parts) > 1 else paragraphs(body)
    letters += [letters[-1] if letters else "A"] * len(parts)
    waived = list[Waiver]()
    with contextlib.suppress(InputError):
        brief = read_brief(document).as_data()
    with contextlib.suppress(InputError):
        waived += waivers_of(document)
    verdicts = gate.values() if isinstance(gate, dict) else ()
    is_refused = any(str(verdict).startswith("refused: ") for verdict in verdicts)
    judged = "refused" if is_refused else "accepted" if verdicts else "draft"
    data = {
        "title": title,
        "logline": str(meta.get("logline") or ""),
        "characters": [{"name": one.name, "role": one.role} for one in listed_people(document)],
        "paragraphs": [{"storyline": one, "text": part} for one, part in zip(letters, parts, strict=False)],
        "brief": {**_NO_BRIEF, **(brief if isinstance(brief, dict) else {})},
        "waived": [each.model_dump() for each in waived],
        "state": {None: judged, True: "changed", False: "released"}[document.has_changed],
        "release": release if isinstance(release, dict) else None,
        "story": str(meta.get("story") or meta.get("run") or "") or None,
        "origin": meta,
    }
    return Text.model_validate({**json.loads(json.dumps(data, default=str)), **more})  # dates are text


def findings_data(findings: Sequence[Finding], text: Text) -> list[dict[str, Any]]:
    """Return what did not pass; places are UTF-16 units in the paragraphs, with one for a break between."""
    place = _places(text)
    return [
        {
            **{name: getattr(each, name) for name in ("check", "level", "message", "hint")},
            "spans": [[place(start), place(end)] for start, end in each.spans],
            "fixes": [{"span": [place(at, is_raw=True) for at in fix.span], "text": fix.text} for fix in each.fixes],
            "words": each.marked_words(unicodedata.normalize("NFC", text.body.strip())),
            "waived": each.waived or None,
        }
        for each in findings
        if not each.passed
    ]


def _places(text: Text) -> Callable[..., int]:
    """Return a function from an index in the text, composed or raw, to a place in its paragraphs."""
    places: list[int] = []  # of each index in the body
    start = 0
    for part in text.paragraphs:
        ends = list(accumulate((1 + (char > "\uffff") for char in part.text), initial=start))
        places += [*ends, ends[-1] + 1] if part.text.strip() else []
        start = ends[-1] + 1
    first, inner = len(text.body) - len(text.body.lstrip()), text.body.strip()
    is_composed = unicodedata.is_normalized("NFC", inner)

    def composed(end: int) -> int:
        return len(unicodedata.normalize("NFC", inner[:end]))

    def place(index: int, *, is_raw: bool = is_composed) -> int:
        return places[first + (index if is_raw else bisect_left(range(len(inner)), index, key=composed))]

    return place
