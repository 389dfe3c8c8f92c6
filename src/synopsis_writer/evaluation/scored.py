"""What scoring a run comes to: scored rows, intervals, and one summary a model and prompt version."""

from collections.abc import Mapping
from dataclasses import dataclass

from synopsis_writer.evaluation.row import Row


@dataclass(frozen=True)
class RunInfo:
    """What a run is.

    Attributes:
        name: the run folder's name.
        created: when it began, in ISO 8601.
        version: of the program that made it.
        models: as they were asked for.
        prompts: each version's name with the hash of its templates.
        cases: each case's id with the hash of its file.
        repeats: answers a case, model and prompt version.
        attempts: attempts at most a row.
    """

    name: str
    created: str
    version: str
    models: tuple[str, ...]
    prompts: Mapping[str, str]
    cases: Mapping[str, str]
    repeats: int
    attempts: int

    @property
    def planned(self) -> int:
        """How many rows the whole run has."""
        return len(self.models) * len(self.prompts) * len(self.cases) * self.repeats


@dataclass(frozen=True)
class Scored:
    """A row with the value of each metric; None is unscored."""

    row: Row
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its 95 % interval.

    Attributes:
        mean: the mean of the cases' means.
        low, high: the bounds; both the mean itself where there is one case.
        cases: how many cases were scored.
        unscored: how many rows had no value.
    """

    mean: float
    low: float
    high: float
    cases: int
    unscored: int = 0


@dataclass(frozen=True)
class Group:
    """The summary of one model with one prompt version; demo drafts are a group of their own.

    Attributes:
        model, prompt: what was asked, and with which version of the prompts.
        is_demo: whether these are demo drafts.
        rows: how many rows there are; `planned` is how many there will be.
        accepted, refused, failed: the rows' outcomes.
        metrics: an interval a metric; None where no row could be scored.
        findings: how often each check refused an answer.
    """

    model: str
    prompt: str
    is_demo: bool
    rows: int
    planned: int
    accepted: int
    refused: int
    failed: int
    metrics: Mapping[str, Interval | None]
    findings: Mapping[str, int]
