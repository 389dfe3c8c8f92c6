"""Texts as the page has them: read from what it sends and from files, checked, and put right."""

import contextlib
import json
import logging
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.document import Document, check_values, format_document
from synopsis_writer.errors import InputError, SynopsisError, explain
from synopsis_writer.examples import read_brief
from synopsis_writer.formats.reading import paragraphs, title_and_text
from synopsis_writer.gate.finding import Finding, Waiver, waivers_of
from synopsis_writer.gate.form import count_characters
from synopsis_writer.gate.text import word_spans
from synopsis_writer.synopsis import Storyline
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

State = Literal["draft", "refused", "accepted", "released", "changed"]
_FAULT = 70  # the exit code of a mistake in the program
_OWN = frozenset({"brief", "title", "logline", "characters", "storylines", "waived", "release"})
_LISTS = ("characters", "beats", "before")  # of a brief; the page may send each as lines
_NO_BRIEF: Mapping[str, Any] = {
    **dict.fromkeys(("show", "theme", "form"), ""),
    **dict.fromkeys(_LISTS, ()),
    **dict.fromkeys(("words", "character_count", "air_date", "notes")),
}


def as_json(data: Any) -> bytes:
    """Return an answer's JSON: models as their fields, and times in ISO 8601."""
    return json.dumps(data, default=_plain).encode("ascii")


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def failure_of(error: Exception) -> dict[str, Any]:
    """Return message and exit code of an error; of one that is not ours, which may hold a key, its kind."""
    if isinstance(error, SynopsisError):
        return {"message": str(error), "code": error.exit_code}
    kind = type(error).__name__
    _log.error("this is a mistake in the program (%s)", kind)
    return {"message": f"this is a mistake in the program ({kind}): please report it", "code": _FAULT}


class Sent(BaseModel):
    """What the page sends; what it does not know is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, data: Any) -> Any:
        """Return what was sent; raises InputError."""
        if not isinstance(data, dict):
            raise InputError("the request holds no object: send one as JSON")
        try:
            return cls.model_validate(check_values(data))
        except ValidationError as error:
            raise InputError(f"the request: {explain(error)}") from error
        except ValueError as error:
            raise InputError(f"the request: {error}") from error


class Person(Sent):
    """A person of the story."""

    name: str = ""
    role: str = ""


class Part(Sent):
    """A paragraph."""

    storyline: Storyline = "A"
    text: str = ""


class Text(Sent):
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
    brief: dict[str, Any] = Field(default_factory=lambda: dict(_NO_BRIEF))
    waived: tuple[Waiver, ...] = ()
    state: State = "draft"
    release: dict[str, Any] | None = None
    story: str | None = None
    origin: dict[str, Any] = Field(default_factory=dict)
    request: dict[str, Any] | None = None
    beside: str | None = None

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
        return _joined(part.text for part in self.paragraphs)

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the brief that are filled in."""
        lists = {
            name: [each for each in value if str(each).strip()] if isinstance(value, list | tuple) else value
            for name, value in self.brief.items()
        }
        return {name: value for name, value in lists.items() if value not in ("", None, [])}

    def document(self, path: Path, rest: Mapping[str, Any], writer: Writer) -> Document:
        """Return the text as its file has it, with `rest` behind its own fields; raises BriefError."""
        brief = None
        if self.asked.keys() - {"form"}:
            brief = writer.resolve(make_brief(**self.asked))[0].as_data()
        # What was pasted may hold blank lines.
        parts = [(part.storyline, piece) for part in self.paragraphs for piece in _pieces(part.text)]
        own: dict[str, Any] = {
            "brief": brief,
            "title": self.title.strip(),
            "logline": self.logline.strip(),
            "characters": [person.model_dump() for person in self.characters if person.name.strip()],
            "storylines": [letter for letter, _ in parts],
            **{name: value for name, value in rest.items() if name not in _OWN - {"release"}},
            "waived": [each.model_dump(mode="json") for each in self.waived],
        }
        meta = {name: value for name, value in own.items() if value}
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
            "brief": None if self.given else usable(self.asked)[0],
        }
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
    brief, waived = dict(_mapping(meta, "brief")), list[Waiver]()
    with contextlib.suppress(InputError):
        brief = read_brief(document).as_data()
    with contextlib.suppress(InputError):
        waived += waivers_of(document)
    data = {
        "title": title,
        "logline": str(meta.get("logline") or ""),
        "characters": [{name: str(one.get(name) or "") for name in ("name", "role")} for one in people],
        "paragraphs": [{"storyline": one, "text": part} for one, part in zip(letters, parts, strict=False)],
        "brief": {**_NO_BRIEF, **brief},
        "waived": [each.model_dump() for each in waived],
        "state": state_of(document),
        "release": _mapping(meta, "release") or None,
        "story": str(meta.get("story") or meta.get("run") or "") or None,
        "origin": meta,
    }
    plain = json.loads(json.dumps(data, default=str))  # dates are text
    return Text.model_validate({**plain, **more})


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


def findings_data(findings: Sequence[Finding], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what did not pass, with places in the paragraphs `texts`, which need not be composed.

    A place is the paragraph's index, and UTF-16 units in it.
    """
    body, place = _joined(texts), _places(texts)
    return [
        {
            "check": each.check,
            "level": each.level,
            "message": each.message,
            "hint": each.hint,
            "spans": [[place(start), place(end)] for start, end in each.spans],
            "fixes": [
                {"span": [place(fix.span[0]), place(fix.span[1])], "text": fix.text} for fix in each.fixes
            ],
            "words": each.marked_words(unicodedata.normalize("NFC", body.strip())),
            "waived": each.waived or None,
        }
        for each in findings
        if not each.passed
    ]


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _places(texts: Sequence[str]) -> Callable[[int], dict[str, int]]:
    """Return a function from an index in the text as the gate has it to a place in its paragraphs."""
    filled = [(number, text) for number, text in enumerate(texts) if text.strip()] or [(0, "")]
    starts = list(accumulate((len(text) + 2 for _, text in filled[:-1]), initial=0))
    body = _joined(texts)
    first, inner = len(body) - len(body.lstrip()), body.strip()
    is_composed = unicodedata.is_normalized("NFC", inner)

    def composed(end: int) -> int:
        return len(unicodedata.normalize("NFC", inner[:end]))

    def place(index: int) -> dict[str, int]:
        index = first + (index if is_composed else bisect_left(range(len(inner)), index, key=composed))
        paragraph = bisect_right(starts, index) - 1
        units = body[starts[paragraph] : index].encode("utf-16-le", "surrogatepass")
        return {"index": filled[paragraph][0], "offset": len(units) // 2}

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
        "findings": findings_data(report.findings, [part.text for part in text.paragraphs]),
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
    parts = [
        Part(storyline=part.storyline, text=one) for part in text.paragraphs for one in _pieces(part.text)
    ]
    if not parts:
        return {"text": text, "fixed": []}
    whole = text.model_copy(update={"paragraphs": tuple(parts)})
    report = await writer.check(whole.as_source(), fix=True, **text.given)
    pairs = zip(parts, report.text.split("\n\n"), strict=True)
    fixed = tuple(Part(storyline=part.storyline, text=piece) for part, piece in pairs)
    return {"text": whole.model_copy(update={"paragraphs": fixed}), "fixed": list(report.fixed)}
