"""A house, how one newsroom writes, and its forms: their limits, and the level of each check."""

import codecs
import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from synopsis_writer.brief import LEAST_WORDS, FormName
from synopsis_writer.document import Document, read_text, read_yaml
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError
from synopsis_writer.settings import HOUSE_FILE, Settings, folder
from synopsis_writer.storage.files import real_path, write_file

Level = Literal["error", "warning", "off"]
Tense = Literal["present", "preterite", "either"]
Ending = Literal["question", "ellipsis", "closed", "any"]
_yes_or_no = BeforeValidator(lambda value: {True: "yes", False: "no"}.get(value, value))  # booleans in YAML
Wanted = Annotated[Literal["yes", "no", "either"], _yes_or_no]
CheckLevel = Annotated[Level, BeforeValidator(lambda value: value or "off")]  # `off` is False in YAML

# The checks that a house can set a level for; a test compares them with the gate's.
CHECK_NAMES = (
    "length paragraphs headline rhythm language ending markup meta_talk exclamations person dialogue actors "
    "tense umlauts spelling agreement copy repetition floskel theme cast consistency hook dates lengths "
    "paraphrase closeness variety review"
).split()
REVIEW = "review"  # a model's check, which runs only where it is asked for
_WARNINGS = {"floskel", "consistency", "variety", REVIEW}  # they refuse a text only where a house says so

_ENDS_OF_RANGE = 2
_RANGE = re.compile(r"(\d+(?:[.,]\d+)?)\s*%?(?:\s*[-–]\s*(\d+(?:[.,]\d+)?)\s*%?)?")

_OF_LENGTH = frozenset({"words", "characters", "paragraphs"})
_COUNTS = frozenset({"spoken_sentences", "questions_asked"})

# What is not taken from elsewhere where a form itself says the former: it would contradict.
_REPLACED = {
    "words": ("characters", "bytes"),
    "characters": ("words", "bytes"),
    "bytes": ("words", "characters"),
    "tense": ("preterite",),
}
_AIMS = {"speech": "spoken_sentences", "questions": "questions_asked"}


def _read_range(value: Any) -> Any:
    if isinstance(value, str) and (match := _RANGE.fullmatch(value.strip())):
        numbers = [float(part.replace(",", ".")) for part in match.groups() if part]
        numbers = [number / 100 for number in numbers] if "%" in value else numbers
        value = numbers if len(numbers) > 1 else numbers[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, value
    if not isinstance(value, list | tuple) or len(value) != _ENDS_OF_RANGE:
        raise ValueError(f"'{str(value)[:40]}' is no range: write it as 60-120, [60, 120] or 25 %")
    return value


def _limited(least: int = 0, most: float = math.inf) -> AfterValidator:

    def check(limits: tuple[float, float]) -> tuple[float, float]:
        low, high = limits
        if low > high:
            raise ValueError(f"the limits {low:g} to {high:g} are reversed: put the smaller one first")
        if low < least:
            raise ValueError(f"{low:g} is too few: {least} at least, as in {least}-{high:g}")
        if high > most:
            raise ValueError(f"{high:g} is no share: write 0.25 or 25 % for a quarter")
        return limits

    return AfterValidator(check)


def _encoding(name: str) -> str:
    with contextlib.suppress(LookupError):  # Python counts escapes and passwords as encodings, too
        if codecs.lookup(name).name.startswith(("utf-8", "utf-16", "iso8859", "cp", "mac-", "ascii")):
            return name
    raise ValueError(f"'{name[:40]}' is no encoding that is known: name one as iso-8859-9 or utf-8")


Range = Annotated[tuple[float, float], BeforeValidator(_read_range), _limited()]
Share = Annotated[Range, _limited(most=1)]

FEWEST_SENTENCES = 5  # that have a deviation
FEWEST_BEATS = 3  # of an outline
LETTERS_A_WORD = 6.3  # characters with blanks for each word, in the 28 examples
_WORDS_A_STRAND = 60  # a text needs them for each storyline that it tells
PRETERITE: Mapping[str, tuple[float, float]] = {"present": (0, 0.3), "preterite": (0.5, 1), "either": (0, 1)}


class Aim(BaseModel, frozen=True, extra="forbid"):
    """What the prompt asks for within the limits; counts where a limit is a share."""

    words: Range | None = None
    characters: Range | None = None
    paragraphs: Range | None = None
    sentence_mean: Range | None = None
    sentence_longest: Range | None = None
    spoken_sentences: Range | None = None
    questions_asked: Range | None = None
    beats: Annotated[Range, _limited(FEWEST_BEATS)] | None = None  # sentences of an outline


class Form(BaseModel, frozen=True, extra="forbid"):
    """A kind of text of a house.

    A range is least and most, both allowed; a share is from 0 to 1. Of `words`, `characters` and `bytes` one
    is given; characters are NFC code points with blanks, the title aside, a line end counting as one blank.
    """

    name: FormName
    purpose: str = ""  # what it is for, in German sentences for the prompt
    words: Annotated[Range, _limited(LEAST_WORDS)] | None = None
    characters: Annotated[Range, _limited(1)] | None = None
    bytes: Annotated[Range, _limited(1)] | None = None  # in the encoding, or else in UTF-8
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None  # what it must be writable in
    title_counts: bool = False  # as a part of the length
    paragraphs: Annotated[Range, _limited(1)]
    strands: Literal[1, 2, 3]  # storylines, at most
    tense: Tense
    ending: Ending
    sentence_mean: Range  # words, as deviation and longest
    sentence_deviation: Range
    sentence_longest: Range
    questions: Share  # of the sentences
    speech: Share  # of the characters
    exclamations: Range
    phrases: Range  # stock phrases
    variety: Share  # MATTR-50: of distinct words in windows of 50, on average
    preterite: Share  # of the narration's verbs in present or preterite; follows from `tense` if not given
    actors_in_brackets: Wanted
    headline: Wanted  # whether the text begins with a line that is its title
    aim: Aim = Aim()
    checks: Mapping[str, CheckLevel] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.purpose.strip():
            raise ValueError("has no purpose: say in a German sentence or two what such a text is for")
        if [self.words, self.characters, self.bytes].count(None) != len(_REPLACED["words"]):
            way_out = "give words, characters or bytes, as in 'words: 200-600'"
            raise ValueError(f"has no single length: {way_out}")
        (low, high), (least, most) = self.preterite, PRETERITE[self.tense]
        if high < least or low > most:
            shares = f"{low:.0%} to {high:.0%} of its verbs in the preterite"
            way_out = "leave out preterite, or change the tense"
            raise ValueError(f"is told in the {self.tense}, but allows {shares}: {way_out}")
        for name, aim in self.aim:
            limits = getattr(self, name, None) or self.words
            if aim is not None and name in Form.model_fields and limits is not None:
                if getattr(self, name) is None:
                    raise ValueError(f"aims at {name}, which it does not limit: leave out aim.{name}")
                if not (within(aim[0], limits) and within(aim[1], limits)):
                    what = f"aims at {aim[0]:g} to {aim[1]:g} {name}, outside its limits"
                    raise ValueError(f"{what} {limits[0]:g} to {limits[1]:g}: aim within them")
        return self

    def level(self, check: str) -> Level:
        """The level of a check."""
        return self.checks.get(check, "warning" if check in _WARNINGS else "error")

    @property
    def length(self) -> tuple[tuple[float, float], str]:
        """The limits of the length, and their unit."""
        units = {"words": self.words, "characters": self.characters, "bytes": self.bytes}
        return next((limits, unit) for unit, limits in units.items() if limits)

    @property
    def most_words(self) -> float:
        """The most words, about, where the length is in characters or bytes."""
        (_, most), unit = self.length
        return most if unit == "words" else most / LETTERS_A_WORD

    @property
    def storylines(self) -> int:
        """How many storylines there is room for: one in a single paragraph, and 60 words for each."""
        return int(max(1, min(self.strands, self.paragraphs[1], self.most_words // _WORDS_A_STRAND)))

    def with_length(self, words: tuple[int, int] | None, characters: tuple[int, int] | None) -> Self:
        """Return the form with a brief's length, if it has one; paragraphs and shortest mean follow it."""
        length = words or characters
        if length is None:
            return self
        low, high = (end if words else end / LETTERS_A_WORD for end in length)
        most = self.most_words
        least = self.length[0][0] * most / self.length[0][1]
        fewest = int(self.paragraphs[0] * min(1.0, low / max(1, least))) or 1
        share = min(1.0, 2 * high / (least + most)) * max(1.0, high / most)
        aim: dict[str, Any] = dict.fromkeys(_OF_LENGTH | (_COUNTS if high < least else set()))
        if high < self.sentence_longest[1]:
            aim |= {"sentence_mean": None, "sentence_longest": None}
        if self.aim.beats:
            aim["beats"] = tuple(max(FEWEST_BEATS, end * min(1, share) // 1) for end in self.aim.beats)
        update: dict[str, Any] = {"words": words, "characters": characters, "bytes": None}
        update |= {
            "title_counts": False,
            "paragraphs": (fewest, max(fewest, -int(-self.paragraphs[1] * share // 1))),
            "sentence_mean": tuple(map(min, self.sentence_mean, (low // 1, high // 1))),
            "sentence_longest": (0.0, min(self.sentence_longest[1], high // 1)),
            "aim": self.aim.model_copy(update=aim),
        }
        return self.model_copy(update=update)


def inherit(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return a form's data, with what it lacks from `base`; raises nothing, for neither is checked yet."""
    replaced = {other for key in own for other in _REPLACED.get(key, ())}
    data = {**{key: value for key, value in base.items() if key not in replaced}, **own}
    changed = replaced | {key for key, value in own.items() if value != base.get(key)}
    gone = changed | {_AIMS[key] for key in changed if key in _AIMS}
    nested = {
        "aim": {key: value for key, value in _fields(base.get("aim")).items() if key not in gone},
        "checks": _fields(base.get("checks")),
    }
    for key, inherited in nested.items():
        if isinstance(data.get(key, {}), dict):
            data[key] = {**inherited, **_fields(own.get(key))}
    return data


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def within(value: float, limits: tuple[float, float]) -> bool:
    """Whether `value` is between the limits, both included."""
    return limits[0] <= value <= limits[1]


def can_encode(text: str, encoding: str) -> bool:
    """Whether an encoding has all characters of a text."""
    try:
        text.encode(encoding)
    except ValueError:
        return False
    return True


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
