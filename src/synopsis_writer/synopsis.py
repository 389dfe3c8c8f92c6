"""The answer's shape: the plain wire models, the strict models, and the tolerant parse between them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from synopsis_writer.brief import clean_line
from synopsis_writer.errors import explain

Storyline = Literal["A", "B", "C"]


class _Wire(BaseModel):
    """Servers accept only plain schemas: every field required, none more, no lengths, no patterns."""

    model_config = ConfigDict(extra="forbid")


class WireCharacter(_Wire):
    """A person of the story, as it goes over the wire."""

    name: str
    role: str


class WireParagraph(_Wire):
    """A paragraph of the story, as it goes over the wire."""

    storyline: Storyline
    text: str


class WireSynopsis(_Wire):
    """The answer to a synopsis request, as it goes over the wire."""

    title: str
    logline: str
    characters: list[WireCharacter]
    paragraphs: list[WireParagraph]


class WireOutline(_Wire):
    """The answer to an outline request, as it goes over the wire."""

    title: str
    logline: str
    characters: list[WireCharacter]
    beats: list[str]


def _text(least: int, most: int) -> AfterValidator:
    def check(text: str) -> str:
        line = clean_line(text)
        if not least <= len(line) <= most:
            raise ValueError(f"is {len(line)} characters long, {least} to {most} are allowed")
        return line

    return AfterValidator(check)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Character(_Strict):
    """A person of the story: name, and role in a few words."""

    name: Annotated[str, _text(2, 80)]
    role: Annotated[str, _text(2, 160)]


class Paragraph(_Strict):
    """A paragraph, and the storyline it tells: A is the main plot."""

    storyline: Storyline
    text: Annotated[str, _text(10, 4000)]


class _Planned(_Strict):
    title: Annotated[str, _text(2, 90)]
    logline: Annotated[str, _text(15, 320)]
    characters: Annotated[tuple[Character, ...], Field(min_length=1, max_length=14)]


class Synopsis(_Planned):
    """A synopsis within the limits of the structure check."""

    paragraphs: Annotated[tuple[Paragraph, ...], Field(min_length=1, max_length=40)]

    @property
    def text(self) -> str:
        """The paragraphs, a blank line between two of them."""
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs)

    def front_matter(self) -> dict[str, Any]:
        """Return the synopsis as the front matter of a saved file has it: all but its text."""
        fields = self.model_dump(mode="json", exclude={"paragraphs"})
        return {**fields, "storylines": [paragraph.storyline for paragraph in self.paragraphs]}

    def as_json(self) -> str:
        """Return the answer a model would give for this synopsis."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False)


class Outline(_Planned):
    """A plan: title, logline, characters, and the beats in order."""

    beats: Annotated[tuple[Annotated[str, _text(5, 400)], ...], Field(min_length=3, max_length=20)]


Shape = TypeVar("Shape", bound=BaseModel)


@dataclass(frozen=True)
class Parsed(Generic[Shape]):
    """The result of reading an answer: either `value`, or `problem` in one line."""

    value: Shape | None
    problem: str = ""


@cache
def wire_schema(shape: type[Synopsis] | type[Outline]) -> dict[str, Any]:
    """Return the JSON schema that goes into `response_format` for `shape`."""
    return (WireSynopsis if shape is Synopsis else WireOutline).model_json_schema()


def parse(answer: str, shape: type[Shape]) -> Parsed[Shape]:
    """Read a model's answer: bare JSON, JSON in prose or a code fence, or JSON encoded twice."""
    if not answer.strip():
        return Parsed(None, "the answer is empty")
    problem = ""
    for data in _objects(answer):
        try:
            return Parsed(shape.model_validate(data))
        except ValidationError as error:
            problem = problem or explain(error)
    if answer.count("{") > answer.count("}"):
        problem = "the JSON is cut off"
    return Parsed(None, problem or "the answer holds no JSON object")


_MOST_STARTS = 50  # an answer full of braces must not cost quadratic time


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(strict=False)
    stripped = answer.strip()
    if stripped.startswith('"'):
        try:
            inner, _ = decoder.raw_decode(stripped)
        except ValueError:
            inner = None
        if isinstance(inner, str):
            stripped = inner
    start = stripped.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return
        end = start + 1
        try:
            data, end = decoder.raw_decode(stripped, start)
        except (ValueError, RecursionError):
            pass
        else:
            yield data
        start = stripped.find("{", end)
