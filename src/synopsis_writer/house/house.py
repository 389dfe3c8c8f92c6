"""What a house asks of its texts: the limits of each form."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from synopsis_writer.document import read_fields
from synopsis_writer.errors import SettingsError
from synopsis_writer.kinds import Form

HOUSE_PROFILE = Path(__file__).with_name("house.yaml")


def _upright(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] > band[1]:
        raise ValueError(f"the band {band[0]:g} to {band[1]:g} is upside down: the smaller figure first")
    return band


Band = Annotated[tuple[float, float], AfterValidator(_upright)]


class Bands(BaseModel):
    """The bands of one form: least and most, both allowed.

    Attributes:
        words: words of the text.
        paragraphs: paragraphs of the text.
        sentence_mean: mean words a sentence.
        sentence_deviation: standard deviation of the words a sentence.
        sentence_longest: words of the longest sentence.
        questions: share of the sentences that ask, 0 to 1.
        speech: share of the characters inside quotation marks, 0 to 1.
        exclamations: exclamation marks.
        variety: MATTR-50, the mean share of distinct words in windows of 50, 0 to 1.
        preterite: share of the preterite among the narration's verbs in present or preterite, 0 to 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: Band
    paragraphs: Band
    sentence_mean: Band
    sentence_deviation: Band
    sentence_longest: Band
    questions: Band
    speech: Band
    exclamations: Band
    variety: Band
    preterite: Band


@dataclass(frozen=True)
class Profile:
    """A named set of bands, one a form."""

    name: str
    forms: Mapping[Form, Bands]


class _ProfileFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    forms: dict[Form, Bands]


@cache
def house_profile() -> Profile:
    """Return the profile that came with the program."""
    return load_profile(HOUSE_PROFILE)


def load_profile(path: Path) -> Profile:
    """Read a profile; all five forms must stand in it.

    Raises:
        SettingsError: an unknown key, a missing form, or a band upside down; names file and line.
        FileError: it cannot be read.
    """
    data = read_fields(path, _ProfileFile, SettingsError)
    if missing := [form for form in Form if form not in data.forms]:
        raise SettingsError(f"{path}:1: lacks the form '{missing[0]}': add it under 'forms'")
    return Profile(data.name, data.forms)


def within(value: float, band: tuple[float, float]) -> bool:
    """Whether `value` lies in the band, its ends included."""
    return band[0] <= value <= band[1]
