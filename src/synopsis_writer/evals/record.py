"""The record of a run: its plan, and its rows, saved as they come."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from synopsis_writer.document import read_text
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Result
from synopsis_writer.storage.files import FolderLock, input_lines, read_input, write_file
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Cost, Usage

FORMAT = 1
_MOST_BYTES, _LONGEST_LINE = 1_000_000_000, 50_000_000  # of a file; an answer has 8 MB at most
RUN_FILE, RESULTS_FILE, PROMPTS_FILE = "run.json", "results.jsonl", "prompts.json"

PromptTexts = Mapping[str, Mapping[str, str]]
"""The templates of each prompt version, by their paths in its folder."""
LineT = TypeVar("LineT", bound=BaseModel)

_log = logging.getLogger(__name__)


class Key(NamedTuple):
    """What a row is about, unique in a run; `prompt` is a folder's name, `repeat` counts from 0."""

    case: str
    model: str
    prompt: str
    repeat: int


class Line(BaseModel):
    """What a line of a run's files holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    def __str__(self) -> str:
        return self.model_dump_json() + "\n"


class Spending(Line):
    """What calls took; an amount of None: a price is not known."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount: Decimal | None = None
    currency: str = ""

    @staticmethod
    def fields(usage: Usage, cost: Cost | None) -> dict[str, object]:
        """Return the values of these fields."""
        spent = {name: getattr(usage, name) for name in Spending.model_fields if name.endswith("_tokens")}
        return {**spent, **({"amount": cost.amount, "currency": cost.currency} if cost else {})}

    @property
    def usage(self) -> Usage:
        """The tokens."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def cost(self) -> Cost | None:
        """The cost; None where a price is not known."""
        return None if self.amount is None else Cost(self.amount, self.currency)


class AttemptLine(Line):
    """What a row holds of an `Attempt`; `answer` is the text alone."""

    number: int
    passed: bool
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    answer: Annotated[str, BeforeValidator(lambda value: value.text if isinstance(value, Answer) else value)]
    synopsis: Synopsis | None


class _Made(Line):
    case: str
    model: str
    prompt: str
    repeat: Annotated[int, Field(ge=0)]
    outcome: Literal["accepted", "refused", "failed"]
    attempts: tuple[AttemptLine, ...]
    best: int | None  # the index of the accepted attempt, or of the one with the fewest problems
    error: str | None = None  # that ended the work


class Row(Spending, _Made):  # whose fields come first: digests hang on the order
    """What became of a case with a model and a prompt version: a line of `results.jsonl`."""

    seconds: float = 0.0
    kept: Annotated[int, Field(ge=0)] = 0  # answers that came from the cache, and so took nothing
    answered: str = ""  # the model that answered, as its server names it
    words_by_model: int | None = None  # of a demo draft, how many the model wrote; None for its own text
    created: str = ""  # in ISO 8601
    run: str = ""  # its id in the run log

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.best is not None and not 0 <= self.best < len(self.attempts):
            raise ValueError(f"best is {self.best}, and there are {len(self.attempts)} attempts")
        return self

    @classmethod
    def of(cls, key: Key, result: Result) -> Self:
        """Return the row of a result."""
        best = result.best
        return cls.model_validate({
            **key._asdict(), **Spending.fields(result.usage, result.cost),
            "outcome": result.outcome, "attempts": result.attempts,
            "best": next((i for i, each in enumerate(result.attempts) if each is best), None),
            "error": result.reason if result.outcome == "failed" else None,
            "seconds": result.seconds, "created": result.created.isoformat(), "run": result.run,
            "kept": sum(attempt.answer.is_cached for attempt in result.attempts),
            "answered": best.answer.model if best else "",
            "words_by_model": best.answer.words_by_model if best else None,
        })  # fmt: skip

    @property
    def id(self) -> Key:
        """What it is about."""
        return Key(self.case, self.model, self.prompt, self.repeat)

    @property
    def best_attempt(self) -> AttemptLine | None:
        """The accepted attempt, or the one with the fewest problems; the last one where none has a text."""
        return self.attempts[-1 if self.best is None else self.best] if self.attempts else None

    @property
    def synopsis(self) -> Synopsis | None:
        """The best text; None where no answer was one."""
        return self.best_attempt.synopsis if self.best_attempt else None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the best answer, and the error that ended the work."""
        found = self.best_attempt.problems if self.best_attempt else ()
        return found if self.error is None else (*found, self.error)

    @property
    def reason(self) -> str:
        """Why it was not accepted; empty when it was."""
        return self.error or " ".join(self.problems)

    @property
    def is_demo(self) -> bool:
        """Whether it is a demo draft, which is never averaged with other texts."""
        return self.words_by_model is not None

    @property
    def digest(self) -> str:
        """24 hex digits that identify the row with all its content."""
        text = self.model_dump_json(exclude_defaults=True)  # so that new fields do not change it
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class RunInfo:
    """What a run is: the content of `run.json`."""

    name: str  # the run folder's
    created: str  # when it began, in ISO 8601
    version: str  # of the program that made it
    models: tuple[str, ...]  # as they were asked for
    prompts: Mapping[str, str]  # each with the hash of its files, as the cases
    cases: Mapping[str, str]
    repeats: int  # answers per case, model and prompt version
    attempts: int  # at most per row

    @property
    def planned(self) -> int:
        """How many rows the whole run has."""
        return len(self.keys)

    @property
    def keys(self) -> list[Key]:
        """What these rows are about, in their order."""
        order = product(self.models, self.prompts, self.cases, range(self.repeats))
        return [Key(case, model, prompt, repeat) for model, prompt, case, repeat in order]

    def as_json(self) -> str:
        """Return the text of `run.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=2) + "\n"


class RunFolder(FolderLock):
    """A run that rows are added to, in a `with` block; one process holds it at a time."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        super().__init__(path, "run")
        self._results = path / RESULTS_FILE
        with contextlib.ExitStack() as stack:
            stack.callback(self.release)
            is_run = (path / RUN_FILE).exists()
            if self._results.exists() and not is_run:
                raise FileError(f"{path}: has {RESULTS_FILE} but no {RUN_FILE}: name another --out")
            before = read_info(path) if is_run else info  # a foreign file is not replaced
            if not self._results.exists():
                write_file(path / RUN_FILE, info.as_json(), private=True)
            elif change := _change(before, info):
                raise FileError(f"{path}: {change} since this run began: name another --out for a new one")
            self.history = list(_all_rows(path))  # those that were made again since, too
            stack.pop_all()
        self.rows = {row.id: row for row in self.history}  # those that are done, by their keys

    def add(self, row: Row) -> None:
        """Append a row as `append_line` does; one of the same key is replaced."""
        append_line(self._results, str(row))
        self.rows[row.id] = row


def read_info(folder: Path) -> RunInfo:
    """Return what the run in `folder` is; raises FileError if none of this version is there."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileError(f"{folder}: holds no run: name a folder that 'synopsis eval run' wrote")
    try:
        data = json.loads(read_text(path))
        version = data.pop("format")
        if version != FORMAT:
            made_by = data.get("version")
            raise FileError(f"{path}: has the format {version}, not {FORMAT}: read it with version {made_by}")
        return RunInfo(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path}: is broken: name another run, or make it again") from error


def write_prompts(folder: Path, texts: PromptTexts) -> None:
    """Save the templates beside a run; raises FileError."""
    write_file(folder / PROMPTS_FILE, json.dumps(texts, ensure_ascii=False, indent=2) + "\n", private=True)


def read_prompts(folder: Path) -> PromptTexts:
    """Return the templates of a run; none where they were not saved, or, as is logged, are broken."""
    path = folder / PROMPTS_FILE
    if not path.exists():
        return {}
    try:
        return TypeAdapter(dict[str, dict[str, str]]).validate_json(read_input(path, _MOST_BYTES))
    except (ValueError, FileError) as error:
        problem = error if isinstance(error, FileError) else f"{path}: is broken"
        _log.warning("%s: the report is without prompts; run the same command again", problem)
        return {}


def read_rows(folder: Path) -> dict[Key, Row]:
    """Return the rows of a run; of two with one key the last counts; raises FileError."""
    return {row.id: row for row in _all_rows(folder)}


def _all_rows(folder: Path) -> Iterator[Row]:
    return read_lines(folder / RESULTS_FILE, Row, "its row will be made again")


def _change(before: RunInfo, now: RunInfo) -> str:
    for name in ("models", "repeats", "attempts"):
        values = (getattr(before, name), getattr(now, name))
        old, new = (", ".join(value) if isinstance(value, tuple) else value for value in values)
        if old != new:
            return f"{name} changed from {old} to {new}"
    for name in ("prompts", "cases"):
        olds, news = getattr(before, name), getattr(now, name)
        if changed := sorted(key for key in {*olds, *news} if olds.get(key) != news.get(key)):
            return f"{name} changed ({', '.join(changed[:3])})"
    return ""


def read_lines(path: Path, shape: type[LineT], effect: str, level: int = logging.WARNING) -> Iterator[LineT]:
    """Yield the lines of a file, none of a missing one; a broken one is logged; raises FileError."""
    try:
        for number, data in input_lines(path, _MOST_BYTES, _LONGEST_LINE):
            try:
                line = shape.model_validate_json(data)
            except ValueError:
                _log.log(level, "%s:%d: truncated, left out: %s", path, number, effect)
            else:
                yield line
    except FileError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise FileError(f"cannot read {error}: make it readable, or move it away") from error


def append_line(path: Path, line: str) -> None:
    """Append a line, on disk before this returns, after one cut short; raises FileError, also for a link."""
    data, no_link = line.encode(), getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(path, "ab+", 0, opener=lambda name, flags: os.open(name, flags | no_link, 0o600)) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else b"\n" + data
            while data:  # an unbuffered file may take a part
                data = data[file.write(data) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path.parent)}: make room, and run again") from error
