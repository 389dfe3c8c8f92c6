"""Shows: their names, places and casts, read from `<show>/show.yaml`."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from rapidfuzz import fuzz, process

from synopsis_writer.brief import clean_line
from synopsis_writer.document import read_fields
from synopsis_writer.errors import BriefError, ExampleError, explain
from synopsis_writer.storage.files import slug

SHOW_FILE = "show.yaml"


class CastMember(BaseModel, frozen=True, extra="forbid"):
    """A person of the show's regular cast."""

    name: Annotated[str, Field(min_length=2, max_length=80), AfterValidator(clean_line)]
    role: Annotated[str, Field(min_length=2, max_length=160), AfterValidator(clean_line)]
    gender: Literal["f", "m"] | None = None


class Show(BaseModel, frozen=True, extra="forbid"):
    """A series."""

    name: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(clean_line)]
    aliases: tuple[Annotated[str, Field(max_length=120), AfterValidator(clean_line)], ...] = ()
    # Where it is set, as a German noun phrase with its article; empty if unknown.
    place: Annotated[str, Field(max_length=200), AfterValidator(clean_line)] = ""
    cast: tuple[CastMember, ...] = ()

    @property
    def slug(self) -> str:
        """The name of the show's folder."""
        return slug(self.name)


def load_show(path: Path) -> Show:
    """Read one show.yaml; raises ExampleError where a field is missing or wrong, and FileError."""
    return read_fields(path, Show, ExampleError)


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()


def find_show(shows: Sequence[Show], name: str) -> Show | None:
    """Return the show with this name or alias, whatever its case, dashes and spaces."""
    wanted = _key(name)
    return next((show for show in shows if wanted in map(_key, (show.name, *show.aliases))), None)


def nearest_shows(shows: Sequence[Show], name: str, most: int = 3) -> list[str]:
    """Return the canonical names that are similar to `name`, best first; none that are not similar."""
    owners = {_key(known): show.name for show in shows for known in (show.name, *show.aliases)}
    hits = process.extract(_key(name), owners.keys(), scorer=fuzz.WRatio, score_cutoff=70, limit=most * 2)
    return list(dict.fromkeys(owners[key] for key, _, _ in hits))[:most]


def foreign_cast(shows: Sequence[Show], show: Show) -> list[str]:
    """Return the names in all other casts; for an unknown show not in those of shows with a similar name."""
    names = {known.name for known in shows}
    near = {show.name} if show.name in names else set(nearest_shows(shows, show.name))
    cast = {member.name for member in show.cast}
    others = [member.name for other in shows if other.name not in near for member in other.cast]
    return [name for name in others if name not in cast]


def generic_show(name: str) -> Show:
    """Return a show of which only the name is known; raises BriefError for an impossible name."""
    try:
        return Show(name=clean_line(name))
    except ValueError as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise BriefError(f"show: {reason}: give the series' name alone") from error
