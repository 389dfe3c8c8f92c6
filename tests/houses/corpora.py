"""Texts of invented houses, of each half to learn from and half to be judged by what was learnt."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from synopsis_writer.document import read_document, read_text

House = Literal["presse", "schweiz", "epg", "daily", "magazin", "austria", "swiss", "lines", "wiki"]
HOUSES: tuple[House, ...] = ("presse", "schweiz", "epg")
UNSEEN: tuple[House, ...] = ("daily", "magazin", "austria", "swiss", "lines", "wiki")  # each in one file of `unseen`
FORMS: dict[House, str] = {"presse": "vorschau", "schweiz": "folge", "epg": "kurz"}

_FOLDER = Path(__file__).parent
_CASES = _FOLDER.parents[1] / "evals" / "cases"  # two houses' texts to be judged are references there


@dataclass(frozen=True)
class HouseText:
    """One text of a house, and what was ordered.

    Attributes:
        id: `<half>/<file>` or `<half>/<file>:<row>`.
        people: the names that the brief asks for; most briefs ask for none.
    """

    house: House
    id: str
    show: str
    theme: str
    form: str
    title: str
    text: str
    people: tuple[str, ...] = ()


class Corpus(NamedTuple):
    """The texts of one house."""

    learn: tuple[HouseText, ...]
    judge: tuple[HouseText, ...]


class CastMember(NamedTuple):
    """A regular of a show."""

    show: str
    name: str
    role: str


class _Brief(BaseModel):
    model_config = ConfigDict(extra="forbid")

    show: str
    theme: str
    form: str
    characters: tuple[str, ...] = ()
    beats: tuple[str, ...] = ()


def learn_folder(house: House) -> Path:
    """Return the folder as an editor has it: `.txt` by show, `.md` with front matter, or a `.csv`."""
    return _FOLDER / house / "learn"


@cache
def load(house: House) -> Corpus:
    """Return the texts to learn from and the texts to judge, each in the order of their files."""
    if house in UNSEEN:
        rows = enumerate(_unseen(house)["texts"])
        texts = [HouseText(house, f"{house}:{number}", form="text", **fields) for number, fields in rows]
        return Corpus(tuple(texts[::2]), tuple(texts[1::2]))
    judge = _FOLDER / house / "judge" if house == "epg" else _CASES / house
    return Corpus(tuple(_read(house, "learn", learn_folder(house))), tuple(_read(house, "judge", judge)))


@cache
def cast(house: House) -> tuple[CastMember, ...]:
    """Return the regulars of all shows of a house, whether or not a text names them."""
    if house in UNSEEN:
        shows = _unseen(house)["cast"].items()
        return tuple(CastMember(show, name, role) for show, people in shows for name, role in people.items())
    return tuple(CastMember(*row) for row in _rows(_FOLDER / house / "cast.csv"))


@cache
def _unseen(house: House) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(read_text(_FOLDER / "unseen" / f"{house}.yaml"))
    return data


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(read_text(path).splitlines()))[1:]


@cache
def _themes(house: House) -> dict[str, str]:
    return dict(_rows(_FOLDER / house / "themes.csv"))


def _read(house: House, half: str, folder: Path) -> Iterator[HouseText]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = f"{half}/{path.relative_to(folder).as_posix()}"
        if path.suffix == ".csv":
            for number, (show, title, text, theme) in enumerate(_rows(path), 1):
                yield HouseText(house, f"{name}:{number}", show, theme, FORMS[house], title, text)
        elif path.suffix == ".txt":
            title, text = read_text(path).strip().split("\n\n", 1)
            theme = _themes(house)[path.relative_to(folder).as_posix()]
            yield HouseText(house, name, path.parent.name, theme, FORMS[house], title, text)
        else:
            document = read_document(path)
            brief = _Brief.model_validate(document.meta["brief"])
            title = document.meta["title"]
            people = brief.characters
            yield HouseText(house, name, brief.show, brief.theme, brief.form, title, document.text, people)
