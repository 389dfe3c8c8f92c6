"""An eval suite: cases with references, groups and thresholds."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from synopsis_writer.brief import Brief
from synopsis_writer.document import read_fields, read_text
from synopsis_writer.errors import ExampleError, FileError, SettingsError
from synopsis_writer.examples import read_brief, read_example_document, read_synopsis
from synopsis_writer.settings import folder
from synopsis_writer.storage.files import find_files, read_input, real_path, write_file
from synopsis_writer.synopsis import Synopsis

SUITE_FILE = "suite.yaml"
OWN_SUITE = Path("evals") / SUITE_FILE

Split = Literal["tuning", "validation", "held-out"]
_OWN_FIELDS = ("facts", "same_story", "split", "house")  # of a case's front matter

_log = logging.getLogger(__name__)


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: write a text, or leave it out")
    return text


_Texts = tuple[Annotated[str, AfterValidator(_text)], ...]


class Threshold(BaseModel, frozen=True, extra="forbid"):
    """The least or the most that a metric's mean may be."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> "Threshold":
        if self.min is None and self.max is None:
            raise ValueError("says neither min nor max: give one of them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: swap them")
        return self

    def __str__(self) -> str:
        """Return `at least 0.5 and at most 2`."""
        bounds = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{name} {bound:g}" for name, bound in bounds if bound is not None)

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Suite(BaseModel, frozen=True, extra="forbid"):
    """The content of `suite.yaml`; a run is compared with its baseline by the metrics in `watched`."""

    cases: Path = Path("cases")
    groups: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    thresholds: Mapping[str, Threshold] = {}
    demo_thresholds: Mapping[str, Threshold] = {}
    watched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """Which side of a metric is better (0: neither), what it is, and its range in words."""

    direction: Literal[-1, 0, 1]
    name: str
    range: str = ""

    @property
    def note(self) -> str:
        """Its range and direction in words."""
        direction = {1: "higher is better", -1: "lower is better", 0: "for information only"}[self.direction]
        return f"{self.range}; {direction}" if self.range else direction


@pydantic_dataclass(frozen=True)
class Case:
    """A brief and how a person answered it."""

    id: str  # the file's name without `.md`, unique in a suite
    brief: Brief
    reference: Synopsis
    facts: _Texts  # what a text about this brief should say, a sentence each
    path: Path
    same_story: _Texts = ()  # ids of examples that tell it, and so must not be in its prompt
    split: Split | None = None  # what it may be used for
    house: Path | None = None  # the folder of the house that it is written for; None: the run's

    def fits(self, pattern: str) -> bool:
        """Whether a pattern names the case: its id, form or split; a held-out one only by id or split."""
        if pattern in (self.id, self.split):
            return True
        return self.split != "held-out" and (fnmatchcase(self.id, pattern) or self.brief.form == pattern)


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with its cases, and its folder."""

    suite: Suite
    cases: tuple[Case, ...]
    folder: Path

    def select(self, patterns: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of groups and patterns, or all that are not held out; raises ExampleError."""
        if not patterns:
            chosen = matching(self.cases, ["*"])
            if count := len(self.cases) - len(chosen):
                _log.info("%d held-out cases are left out: --cases held-out asks for them", count)
            return chosen
        names = [name for pattern in patterns for name in self.suite.groups.get(pattern, (pattern,))]
        return matching(self.cases, names)


def default_suite() -> Path:
    """Return `evals/suite.yaml` of the current folder, else the one that came with the program."""
    return OWN_SUITE if OWN_SUITE.is_file() else folder("evals") / SUITE_FILE


def make_suite(path: Path) -> list[Path]:
    """Write a suite with one case into a folder; return its files; raises FileError where one is there."""
    sources = {SUITE_FILE: "new-suite.yaml", "cases/bis-neun.md": "cases/bis-neun.md"}
    for name in sources:
        if (path / name).exists():
            raise FileError(f"{path / name}: is there already: name another folder")
    for name, source in sources.items():
        write_file(path / name, read_text(folder("evals") / source))
    return [path / name for name in sources]


def load_suite(path: Path, metrics: Mapping[str, Metric]) -> LoadedSuite:
    """Read a suite, or that in a folder; raises FileError, SettingsError, or ExampleError for a case."""
    if path.is_dir():
        path /= SUITE_FILE
    suite = read_fields(path, Suite, SettingsError)
    for name in (*suite.thresholds, *suite.demo_thresholds, *suite.watched):
        if name not in metrics:
            raise SettingsError(f"{path}: no metric '{name}': the metrics are {', '.join(metrics)}")
        if name in suite.watched and not metrics[name].direction:
            raise SettingsError(f"{path}: watched: neither side of '{name}' is better: leave it out")
    cases = load_cases(path.parent / suite.cases)
    for group, names in suite.groups.items():
        try:
            matching(cases, names)
        except ExampleError as error:
            raise SettingsError(f"{path}: group '{group}': {error}") from error
    return LoadedSuite(suite, cases, path.parent)


def load_cases(folder: Path) -> tuple[Case, ...]:
    """Read all cases below `folder`, by house and id; raises ExampleError or FileError."""
    if not folder.is_dir():
        raise FileError(f"cases: {folder}: no such folder: name one that holds cases")
    cases: dict[str, Case] = {}
    for case in map(load_case, find_files(folder, "**/*.md")):
        if other := cases.get(case.id):
            raise ExampleError(f"{case.path}: the id '{case.id}' is taken by {other.path}: rename one")
        cases[case.id] = case
    if not cases:
        raise ExampleError(f"cases: {folder}: holds no case: put Markdown files with a brief and a reference there")
    return tuple(sorted(cases.values(), key=lambda case: (str(case.house or ""), case.id)))


def load_case(path: Path) -> Case:
    """Read one case; raises ExampleError or FileError."""
    document = read_example_document(path)
    if not document.text.strip():
        raise ExampleError(f"{path}: the case has no reference: write the synopsis below the front matter")
    own = {name: document.meta[name] for name in _OWN_FIELDS if name in document.meta}
    try:
        fields = {"facts": (), "path": path, **own}
        case = Case(path.stem, read_brief(document), read_synopsis(document), **fields)
    except ValidationError as error:
        raise ExampleError(document.explain(error)) from error
    house = case.house and real_path(path.parent / case.house)
    if house and not house.is_dir():
        reason = f"no folder '{case.house}': give the path of a house from the case's folder"
        raise ExampleError(f"{document.location('house')}: {reason}")
    return replace(case, house=house)


def case_hash(case: Case) -> str:
    """Return 12 hex digits that change when the case's file does, its split aside."""
    data = re.sub(rb"(?m)^split:.*\r?\n", b"", read_input(case.path), count=1)
    return hashlib.sha256(data).hexdigest()[:12]


def matching(cases: Sequence[Case], patterns: Sequence[str]) -> tuple[Case, ...]:
    """Return the cases that fit one of the glob patterns; raises ExampleError for one that fits none."""
    for pattern in patterns:
        if not any(case.fits(pattern) for case in cases):
            known = ", ".join(case.id for case in cases)
            raise ExampleError(f"no case fits '{pattern}': the cases are {known}")
    return tuple(case for case in cases if any(map(case.fits, patterns)))
