"""The answer's shape: its plain schema, its strict models, and the tolerant parse between them."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, ValidationInfo, create_model

from synopsis_writer.answers import find_objects
from synopsis_writer.brief import clean_line
from synopsis_writer.errors import explain

Storyline = Literal["A", "B", "C"]
AS_SAVED = "as saved"  # the context in which texts are read as they are: they were validated when saved


def _text(least: int, most: int) -> AfterValidator:
    def check(text: str, info: ValidationInfo) -> str:
        if info.context == AS_SAVED:
            return text
        line = clean_line(info.context(text) if info.context else text)
        if not least <= len(line) <= most:
            raise ValueError(f"is {len(line)} characters long, {least} to {most} are allowed")
        return line

    return AfterValidator(check)


class _Strict(BaseModel):
    model_config = {"frozen": True, "extra": "forbid"}


class Character(_Strict):
    """A person of the story: name, and role in a few words."""

    name: Annotated[str, _text(2, 80)]
    role: Annotated[str, _text(2, 160)]


class Paragraph(_Strict):
    """A paragraph, and the storyline it tells: A is the main plot."""

    storyline: Storyline
    text: Annotated[str, _text(10, 4000)]


_Title = Annotated[str, _text(2, 90)]
_Logline = Annotated[str, _text(15, 320)]


class _Planned(_Strict):
    title: _Title
    logline: _Logline
    characters: Annotated[tuple[Character, ...], Field(min_length=1, max_length=14)]


class Synopsis(_Planned):
    """A synopsis within the limits of the structure check."""

    paragraphs: Annotated[tuple[Paragraph, ...], Field(min_length=1, max_length=40)]

    @property
    def text(self) -> str:
        """The paragraphs, a blank line between two of them."""
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs)

    def with_text(self, text: str) -> Self:
        """Return the synopsis with the same number of paragraphs in other words."""
        parts = zip(self.paragraphs, text.split("\n\n"), strict=True)
        paragraphs = tuple(paragraph.model_copy(update={"text": part}) for paragraph, part in parts)
        return self.model_copy(update={"paragraphs": paragraphs})

    def front_matter(self) -> dict[str, Any]:
        """Return the synopsis as the front matter of a saved file has it: all but its text."""
        storylines = [paragraph.storyline for paragraph in self.paragraphs]
        return {**self.model_dump(mode="json", exclude={"paragraphs"}), "storylines": storylines}

    def as_json(self) -> str:
        """Return the answer a model would give for this synopsis."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False)


class Outline(_Planned):
    """A plan: title, logline, characters, and the beats in order."""

    beats: Annotated[tuple[Annotated[str, _text(5, 400)], ...], Field(min_length=3, max_length=20)]


class Paragraphs(_Strict):
    """Some rewritten paragraphs of a synopsis."""

    paragraphs: tuple[Paragraph, ...]


class Title(_Strict):
    """A new title."""

    title: _Title


class Logline(_Strict):
    """A new logline."""

    logline: _Logline


class Variants(_Strict):
    """Several synopses for one brief, written together."""

    variants: tuple[Synopsis, ...]


def wire_schemas(names: Sequence[str]) -> dict[str, Any]:
    """Return the schema of an answer that holds several synopses, each in a field of its own."""
    shape: Any = dict.fromkeys(names, (Synopsis, ...))
    return wire_schema(create_model("Lengths", __base__=_Strict, **shape))


def parse_parts(answer: str, names: Sequence[str]) -> dict[str, str]:
    """Return the JSON of each of several synopses in an answer, by name; those that it lacks are left out."""
    known, parts = {name.lower(): name for name in names}, {}
    for each in find_objects(answer):
        outer = each.data or {}
        for data in (outer, *(value for value in outer.values() if isinstance(value, dict))):
            for key, value in data.items():
                if isinstance(value, dict) and (name := known.get(key.strip().lower())):
                    parts[name] = json.dumps(value, ensure_ascii=False)
    return parts


Shape = TypeVar("Shape", bound=BaseModel)


@dataclass(frozen=True)
class Parsed(Generic[Shape]):
    """The result of reading an answer: either `value`, or `problem` in one line."""

    value: Shape | None
    problem: str = ""


@cache
def wire_schema(shape: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema for `response_format`; servers accept only plain ones, without lengths."""

    def plain(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        counts = {"minItems", "maxItems", "minimum", "maximum"}
        return {key: plain(value) for key, value in schema.items() if key not in counts}

    return dict(plain(shape.model_json_schema()))


def parse(answer: str, shape: type[Shape], fix: Callable[[str], str] | None = None) -> Parsed[Shape]:
    """Read a model's answer, of several objects the last, unknown keys dropped; `fix` puts each text right."""
    if not answer.strip():
        return Parsed(None, "the answer is empty")
    # A broken object is about the shape if it has one of its keys; an example in the prose is not.
    keys = re.compile(rf"\b(?:{'|'.join(shape.model_fields)})[\"'”“]?\s*:", re.IGNORECASE)
    last = other = Parsed[Shape](None)
    for each in find_objects(answer):
        parsed = Parsed(None, each.problem) if each.data is None else _validate(each.data, shape, fix)
        if parsed.value is not None or (keys.search(each.source) and (each.data is None or not last.value)):
            last = parsed
        elif not other.problem:
            other = parsed
    if last.value is not None or last.problem:
        return last
    return Parsed(None, other.problem or "the answer holds no JSON object")


_DEEPEST = 3  # objects around the answer


def _validate(
    data: dict[str, Any], shape: type[Shape], fix: Callable[[str], str] | None, depth: int = 0
) -> Parsed[Shape]:
    data = _normalize(data)
    try:
        return Parsed(shape.model_validate(data, extra="ignore", context=fix))
    except ValidationError as error:
        parsed: Parsed[Shape] = Parsed(None, explain(error))
    if depth < _DEEPEST:
        for value in reversed(data.values()):
            inner = value[0] if isinstance(value, list) and len(value) == 1 else value
            if isinstance(inner, str) and inner.lstrip().startswith("{"):
                inner = next((each.data for each in find_objects(inner)), None)
            nested = _validate(inner, shape, fix, depth + 1) if isinstance(inner, dict) else Parsed(None)
            if nested.value is not None:
                return nested
            if len(data) == 1 and nested.problem:
                parsed = nested
    return parsed


# `a`, `Handlung A`, `storyline_b`, `C-Plot`, `A (Haupthandlung)`, `(A)`, `**A**`; not `A und B`
_STORYLINE = re.compile(
    r"[(*\[]*(?:[^\W\d_]{2,}[\s_:-]+)?([abc])(?:[\s_:.()*\]-](?!.*\b[abc]\b).*)?", re.IGNORECASE | re.DOTALL
)
# `Gesa Meinecke (Schäferin)`, `Gesa Meinecke: Schäferin`
_PERSON = re.compile(r"\s*(?:[-*•–]\s+|\d+\.\s+)?([^:(,]+?)\s*(?:\((.+)\)|(?:[:,]|\s[–—-]\s)(.+))?\s*", re.DOTALL)
_NO_ROLE = "ohne Angabe"


def _normalize(data: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with its keys in small letters, storylines as letters, and people as objects."""
    data = {key.strip().lower(): value for key, value in data.items()}
    if isinstance(letter := data.get("storyline"), str) and (match := _STORYLINE.fullmatch(letter.strip())):
        data["storyline"] = match[1].upper()
    people = data.get("characters")
    if isinstance(people, dict):
        people = [f"{name}: {role}" for name, role in people.items()]
    if isinstance(people, list):
        data["characters"] = [
            {"name": match[1], "role": match[2] or match[3] or _NO_ROLE}
            if isinstance(one, str) and (match := _PERSON.fullmatch(one))
            else one
            for one in people
        ]
    for key in ("characters", "paragraphs", "variants"):
        if isinstance(values := data.get(key), list):
            data[key] = [_normalize(one) if isinstance(one, dict) else one for one in values]
    return data
