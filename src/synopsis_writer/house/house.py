"""What a house asks of its texts: the limits of each form."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """The limits of one form: least and most, both allowed.

    Attributes:
        words: words in the text.
        paragraphs: paragraphs in the text.
        sentence_mean: mean words in a sentence.
        sentence_deviation: standard deviation of the words in a sentence.
        sentence_longest: words in the longest sentence.
        questions: share of the sentences that ask, 0 to 1.
        speech: share of the characters inside quotation marks, 0 to 1.
        exclamations: exclamation marks.
        variety: MATTR-50, the mean share of distinct words in windows of 50, 0 to 1.
        preterite: share of the preterite among the narration's verbs in present or preterite, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Range
    paragraphs: Range
    sentence_mean: Range
    sentence_deviation: Range
    sentence_longest: Range
    questions: Range
    speech: Range
    exclamations: Range
    variety: Range
    preterite: Range


@dataclass(frozen=True)
class House:
    """A named set of limits, one a form."""

    name: str
    forms: Mapping[Form, FormLimits]


class _HouseFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

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
    data = read_fields(path, _HouseFile, SettingsError)
    if missing := [form for form in Form if form not in data.forms]:
        raise SettingsError(f"{path}:1: lacks the form '{missing[0]}': add it under 'forms'")
    return House(data.name, data.forms)


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether `value` is between the limits, both included."""
    return limits[0] <= value <= limits[1]
