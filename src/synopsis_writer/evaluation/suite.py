"""The suite: which cases there are, which of them make a group, and what a run must reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from synopsis_writer.document import read_fields
from synopsis_writer.errors import ExampleError, SettingsError
from synopsis_writer.evaluation.case import Case, load_cases, matching
from synopsis_writer.evaluation.scored import Group
from synopsis_writer.resources import folder

SUITE_FILE = "suite.yaml"
OWN_SUITE = Path("evals") / SUITE_FILE


_Bound = Annotated[float, Field(allow_inf_nan=False)]


class Threshold(BaseModel):
    """The least or the most that a metric's mean may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: _Bound | None = None
    max: _Bound | None = None

    @model_validator(mode="after")
    def _check(self) -> "Threshold":
        if self.min is None and self.max is None:
            raise ValueError("says neither min nor max: give one of them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: turn them round")
        return self


class Suite(BaseModel):
    """What `suite.yaml` holds.

    Attributes:
        cases: the folder of the cases, beside the file.
        groups: names for lists of case ids.
        thresholds: bounds a metric, for texts that a model wrote itself.
        demo_thresholds: the same for demo drafts.
        watched: the metrics that a run is compared with its baseline by.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: Path = Path("cases")
    groups: Mapping[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    thresholds: Mapping[str, Threshold] = {}
    demo_thresholds: Mapping[str, Threshold] = {}
    watched: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with its cases, and the folder it lies in."""

    suite: Suite
    cases: tuple[Case, ...]
    folder: Path

    @property
    def baselines(self) -> Path:
        """The folder of the blessed runs."""
        return self.folder / "baselines"

    def select(self, patterns: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases of the groups and patterns; all of them without any.

        Raises:
            ExampleError: a name fits neither a group nor a case.
        """
        if not patterns:
            return self.cases
        names = [name for pattern in patterns for name in self.suite.groups.get(pattern, (pattern,))]
        return matching(self.cases, names)


def default_suite() -> Path:
    """Return `evals/suite.yaml` of the current folder, else the one that came with the program."""
    return OWN_SUITE if OWN_SUITE.is_file() else folder("evals") / SUITE_FILE


class Directed(Protocol):
    """A metric, by what a suite asks of it: the sign of its better side, 0 where it has none."""

    @property
    def direction(self) -> int:
        """+1 more is better, -1 less is better, 0 neither."""
        ...


def load_suite(path: Path, metrics: Mapping[str, Directed]) -> LoadedSuite:
    """Read a suite, or the one in the folder `path`, with its cases.

    Raises:
        SettingsError: the file breaks its format, names an unknown metric or case, or watches a metric
            without a better side.
        ExampleError: a case breaks its format.
        FileError: a file cannot be read.
    """
    if path.is_dir():
        path /= SUITE_FILE
    suite = read_fields(path, Suite, SettingsError)
    for name in (*suite.thresholds, *suite.demo_thresholds, *suite.watched):
        if name not in metrics:
            raise SettingsError(f"{path}: no metric '{name}': the metrics are {', '.join(metrics)}")
    for name in suite.watched:
        if not metrics[name].direction:
            raise SettingsError(f"{path}: watched: neither side of '{name}' is better: leave it out")
    cases = load_cases(path.parent / suite.cases)
    for group, names in suite.groups.items():
        try:
            matching(cases, names)
        except ExampleError as error:
            raise SettingsError(f"{path}: group '{group}': {error}") from error
    return LoadedSuite(suite, cases, path.parent)


def missed(suite: Suite, groups: Sequence[Group]) -> list[str]:
    """Say, a sentence each, which thresholds the groups miss; a metric that is unscored misses its own."""
    return [
        f"{group.model} with {group.prompt}: {name} is {_value(group, name)}, {_bound(bound)} is wanted"
        for group in groups
        for name, bound in (suite.demo_thresholds if group.is_demo else suite.thresholds).items()
        if not _holds(group, name, bound)
    ]


def _holds(group: Group, name: str, bound: Threshold) -> bool:
    interval = group.metrics.get(name)
    if interval is None:
        return False
    return (bound.min is None or interval.mean >= bound.min) and (
        bound.max is None or interval.mean <= bound.max
    )


def _value(group: Group, name: str) -> str:
    interval = group.metrics.get(name)
    return "unscored" if interval is None else f"{interval.mean:.3g}"


def _bound(bound: Threshold) -> str:
    parts = [f"at least {bound.min:g}"] if bound.min is not None else []
    parts += [f"at most {bound.max:g}"] if bound.max is not None else []
    return " and ".join(parts)
