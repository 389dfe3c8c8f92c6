"""What a person asks for: show, theme, form, and what else the text must contain."""

import re
import unicodedata
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, ValidationError, ValidationInfo

from synopsis_writer.characters import clean_name
from synopsis_writer.errors import BriefError, explain

# Control, format (invisible, direction) characters, surrogates and private use: nobody types them.
_FORBIDDEN = {"Cc", "Cf", "Cs", "Co"}


def clean_line(text: str) -> str:
    """Return a person's or a model's `text` as one NFC line; raises ValueError for a forbidden character."""
    line = " ".join(text.split())
    for position, char in enumerate("" if line.isprintable() else line):  # quick, and usually so
        if unicodedata.category(char) in _FORBIDDEN:
            what = f"has the invisible or control character U+{ord(char):04X} at position {position + 1}"
            raise ValueError(f"{what}: type it again as plain text")
    return unicodedata.normalize("NFC", line)


def _line(most: int, what: str, least: int = 1) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > most:
            raise ValueError(f"is {len(text):,} characters long, at most {most:,} are allowed: {what}")
        line = clean_line(text)
        if not any(char.isalnum() for char in line):
            raise ValueError("is empty: describe it in a few words")
        if len(line) < least:
            raise ValueError(f"is too short, at least {least} characters are required: {what}")
        return line

    return AfterValidator(check)


_SLUG, _LONGEST_SLUG = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*"), 60


def _check_slug(name: str) -> str:
    if not _SLUG.fullmatch(name) or len(name) > _LONGEST_SLUG:
        raise ValueError(f"'{clean_name(name, _LONGEST_SLUG)}' is no form's name: write letters, digits and hyphens")
    return name


FormName = Annotated[str, AfterValidator(_check_slug)]
Name = Annotated[str, _line(80, "give the name alone", 2)]
Beat = Annotated[str, _line(400, "one sentence a beat", 5)]
Before = Annotated[str, _line(800, "one fact a line", 5)]
Note = Annotated[str, _line(2000, "keep to what the text needs")]
Words = Annotated[str, _line(200, "give the words alone")]

LEAST_WORDS, MOST_WORDS = 5, 2000
_LENGTHS = {"words": (LEAST_WORDS, MOST_WORDS), "character_count": (20, 20_000)}
MOST_CHARACTERS, MOST_BEATS, MOST_BEFORE = 12, 20, 100

_RANGE = re.compile(r"\s*(\d{1,5})\s*[-–]\s*(\d{1,5})\s*")


def _read_range(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not (match := _RANGE.fullmatch(value)):
        raise ValueError(f"'{clean_name(value, 40)}' is not a range: write it as 250-400")
    return int(match[1]), int(match[2])


def _check_range(value: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
    least, most = _LENGTHS[info.field_name or "words"]
    if not least <= value[0] <= value[1] <= most:
        shown = f"{value[0]}-{value[1]}"
        raise ValueError(f"{shown} is out of range: put the smaller number first, both from {least} to {most}")
    if info.field_name == "character_count" and info.data.get("words"):
        raise ValueError("the length is given in words, too: leave one of both out")
    return value


_Range = Annotated[
    tuple[int, int], BeforeValidator(_read_range), AfterValidator(_check_range), PlainSerializer("{0[0]}-{0[1]}".format)
]
# YAML reads 2025-04-22 as a date.
_Written = BeforeValidator(lambda value: str(value) if isinstance(value, date) else value)


class Brief(BaseModel, frozen=True, extra="forbid"):
    """One request for a synopsis."""

    # The series, by its canonical name where the show is known.
    show: Annotated[str, _line(120, "give the series' name alone")]
    # What the story is about, in the person's words.
    theme: Annotated[str, _line(500, "put details into --beat or --notes")]
    form: FormName = "episode"  # of the house; where none is given, the house's first one is meant
    characters: Annotated[tuple[Name, ...], Field(max_length=MOST_CHARACTERS)] = ()  # who must appear
    beats: Annotated[tuple[Beat, ...], Field(max_length=MOST_BEATS)] = ()  # what must happen, in order
    # What earlier episodes established: the text must agree, not repeat it.
    before: Annotated[tuple[Before, ...], Field(max_length=MOST_BEFORE)] = ()
    words: _Range | None = None  # the least and the most; None leaves it to the form
    character_count: _Range | None = None  # the same in characters; only one of the two is given
    # The date or week the text may mention; None: it mentions none.
    air_date: Annotated[str, _Written, _line(80, "a date or a week")] | None = None
    notes: Note | None = None  # anything else the writer should know

    @property
    def named_form(self) -> str | None:
        """The form, if the person named one."""
        return self.form if "form" in self.model_fields_set else None

    @property
    def length(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """The limits of words and of characters; at most one of them is given."""
        return self.words, self.character_count

    def as_data(self) -> dict[str, Any]:
        """Return the given fields as data for JSON and YAML."""
        data = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in data.items() if value != []}


def make_brief(**fields: Any) -> Brief:
    """Build a brief from a person's input; raises BriefError for a field that breaks a rule."""
    try:
        return Brief(**fields)
    except ValidationError as error:
        raise BriefError(f"brief: {explain(error)}") from error
