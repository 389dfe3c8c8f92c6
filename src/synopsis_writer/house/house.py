"""A house: how one newsroom writes, as its `house.yaml` says."""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from synopsis_writer.document import Document, read_text, read_yaml
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError
from synopsis_writer.house.form import CHECK_NAMES, PRETERITE, Aim, Form, inherit
from synopsis_writer.settings import HOUSE_FILE, Settings, folder
from synopsis_writer.storage.files import real_path, write_file

Orthography = Literal["de-DE", "de-AT", "de-CH"]
QuotationMarks = Literal["„“", "»«", "«»", "“”", '""']
_BUILT_IN = (folder("examples") / HOUSE_FILE).resolve()


class House(BaseModel, frozen=True, extra="forbid"):
    """How one newsroom writes."""

    name: Annotated[str, Field(min_length=1)]
    language: Literal["de"] = "de"
    orthography: Orthography = "de-DE"
    quotation_marks: Annotated[
        QuotationMarks, BeforeValidator(lambda value: "".join(value.split()) if isinstance(value, str) else value)
    ] = "„“"
    known_words: tuple[str, ...] = ()  # that the spelling check takes as right, beside its lists
    forms: Annotated[Mapping[str, Form], Field(min_length=1)]  # the first is taken where none is named

    def form(self, name: str | None) -> Form:
        """Return a form, the first one for None; raises BriefError, which names the nearest one."""
        if name is None:
            return next(iter(self.forms.values()))
        if name not in self.forms:
            near = get_close_matches(name, self.forms, 1)
            meant = f"did you mean '{near[0]}'? " if near else ""
            known = f"the forms of the house '{self.name}' are {', '.join(self.forms)}"
            raise BriefError(f"no form '{name}': {meant}{known}")
        return self.forms[name]


@cache
def built_in_house() -> House:
    """Return the house that comes with the program."""
    return load_house(folder("examples"))


def open_house(settings: Settings) -> House:
    """Return the house that the settings name; raises InputError."""
    named = settings.profile or settings.house
    return load_house(named) if named else built_in_house()


def load_house(path: Path) -> House:
    """Read a folder, `house.yaml` or profile; raises FileError, and SettingsError with file and line."""
    if not path.exists():
        raise FileError(f"{path}: no such folder: name one that holds a {HOUSE_FILE}")
    if path.is_dir() and not (path / HOUSE_FILE).exists():
        raise FileError(f"{path}: holds no {HOUSE_FILE}: write one, or name a folder that has one")
    path = path / HOUSE_FILE if path.is_dir() else path
    try:
        return make_house(read_house(path))
    except SettingsError:
        raise
    except InputError as error:
        raise error if isinstance(error, FileError) else SettingsError(str(error)) from error


def accept_words(settings: Settings, words: Sequence[str]) -> Path:
    """Add words to the known ones in the file of the settings' house, and return its path."""
    named = settings.profile or settings.house
    if named is None or real_path(path := named / HOUSE_FILE if named.is_dir() else named) == _BUILT_IN:
        raise SettingsError(
            "the built-in house cannot be changed: make one of your own with synopsis house learn, or write "
            f"a {HOUSE_FILE}, and name its folder with --house"
        )
    known = load_house(path).known_words
    new = [word for word in dict.fromkeys(words) if word not in known]
    for word in new:
        if not re.fullmatch(r"[^\W\d_]+(?:[-’'.][^\W\d_]+)*", word):
            raise SettingsError(f"--accept-word: '{word[:40]}' is no word: name one, without blanks or marks")
    text = read_text(path)
    if new:
        text = _with_words(text, [json.dumps(word, ensure_ascii=False) for word in new])
    data, lines = read_yaml(text, path)
    if set(make_house(Document(path, data, "", lines)).known_words) != {*known, *new}:
        raise SettingsError(f"{path}: cannot be changed here: add {', '.join(new)} to known_words in an editor")
    write_file(path, text)
    return path


def _with_words(text: str, words: Sequence[str]) -> str:
    """Return the text of a house's file with quoted words among the known ones: its comments stay."""
    listed = ", ".join(words)
    if match := re.search(r"^known_words:[ \t]*\[\s*", text, re.MULTILINE):
        rest = text[match.end() :]
        return f"{text[: match.end()]}{listed}{'' if rest.startswith(']') else ', '}{rest}"
    block = r"^known_words:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*([ \t]*)(?=- )"
    if match := re.search(block, text, re.MULTILINE):
        items = "".join(f"- {word}\n{match[1]}" for word in words)
        return text[: match.end()] + items + text[match.end() :]
    text = re.sub(r"^known_words:[ \t]*(?:null|~)?[ \t]*$\n?", "", text, flags=re.MULTILINE)
    return f"{text.rstrip()}\nknown_words: [{listed}]\n"


def read_house(path: Path) -> Document:
    """Return a house's file with its keys checked; raises SettingsError, FileError and InputError."""
    data, lines = read_yaml(read_text(path), path)
    document = Document(path, data, "", lines)
    for *above, key in lines:
        match above:
            case []:
                known = {*House.model_fields, "defaults"}
            case ["defaults"] | ["forms", _]:
                known = {*Form.model_fields} - {"name"}
            case ["defaults", "aim"] | ["forms", _, "aim"]:
                known = {*Aim.model_fields}
            case ["defaults", "checks"] | ["forms", _, "checks"]:
                known = {*CHECK_NAMES}
            case _:
                continue
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(sorted(known))}"
            where = f" in {'.'.join(map(str, above))}" if above else ""
            raise SettingsError(f"{document.location(*above, key)}: unknown key '{key}'{where}: {hint}")
    return document


def make_house(document: Document) -> House:
    """Return the house of a file; what it leaves out is the built-in house's. Raises SettingsError."""
    # A form takes what it lacks from the file's `defaults`, then from the built-in form of its name, or else
    # from the built-in `defaults`; without forms a house has the built-in ones.
    own = {**document.meta}
    built_in = document.meta if real_path(document.path) == _BUILT_IN else _built_in_data()
    defaults = own.pop("defaults", None) or {}
    own.setdefault("name", real_path(document.path).parent.name)
    forms = own.setdefault("forms", built_in["forms"])
    if isinstance(forms, dict) and isinstance(defaults, dict):
        own["forms"] = {str(name): form for name, form in forms.items()}
        for name, form in own["forms"].items():
            if isinstance(form, dict) or form is None:
                base = inherit(built_in["forms"].get(name, {}), built_in["defaults"])
                data = {**inherit(form or {}, inherit(defaults, base)), "name": name}
                if data.get("preterite") is None:
                    data["preterite"] = PRETERITE.get(str(data.get("tense")), (0, 1))
                own["forms"][name] = data
    try:
        return House.model_validate(own)
    except ValidationError as error:
        raise SettingsError(document.explain(error)) from error


@cache
def _built_in_data() -> Mapping[str, Any]:
    return read_house(_BUILT_IN).meta
