"""What a house asks of its texts: the limits of each form."""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from synopsis_writer.brief import Form
from synopsis_writer.document import read_fields
from synopsis_writer.errors import SettingsError

BUILT_IN_HOUSE = Path(__file__).with_name("house.yaml")


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"the limits {limits[0]:g} to {limits[1]:g} are reversed: put the smaller one first")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_in_order)]


class FormLimits(BaseModel):
    """The limits of one form: least and most, both allowed; a share is from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Range
    paragraphs: Range
    sentence_mean: Range  # words
    sentence_deviation: Range  # standard, in words
    sentence_longest: Range  # words
    questions: Range  # share of the sentences
    speech: Range  # share of the characters inside quotation marks
    exclamations: Range  # marks
    variety: Range  # MATTR-50, the mean share of distinct words in windows of 50
    preterite: Range  # share of the narration's verbs in present or preterite


class House(BaseModel):
    """A named set of limits, one a form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    forms: dict[Form, FormLimits]


@cache
def built_in_house() -> House:
    """Return the house that comes with the program."""
    return load_house(BUILT_IN_HOUSE)


def load_house(path: Path) -> House:
    """Read a house's file; all five forms must be in it.

    Raises:
        SettingsError: an unknown key, a missing form, or reversed limits; names file and line.
        FileError: it cannot be read.
    """
    house = read_fields(path, House, SettingsError)
    if missing := [form for form in Form if form not in house.forms]:
        raise SettingsError(f"{path}:1: lacks the form '{missing[0]}': add it under 'forms'")
    return house


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether `value` is between the limits, both included."""
    return limits[0] <= value <= limits[1]
