"""The record of a run: what it is, and its rows, saved as they come."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from synopsis_writer.document import read_text
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.models.base import Answer
from synopsis_writer.result import NO_STRUCTURE, Attempt, RowResult
from synopsis_writer.storage.files import FolderLock, input_lines, read_input, write_file
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Cost, Usage

FORMAT = 1
_MOST_BYTES, _LONGEST_LINE = 1_000_000_000, 50_000_000  # of a file; an answer has 8 MB at most
RUN_FILE, RESULTS_FILE, PROMPTS_FILE = "run.json", "results.jsonl", "prompts.json"

PromptTexts = Mapping[str, Mapping[str, str]]
"""The templates of each prompt version, by their paths in its folder."""

_log = logging.getLogger(__name__)


class Key(NamedTuple):
    """What a row is about, unique in a run; `prompt` is a folder's name, `repeat` counts from 0."""

    case: str
    model: str
    prompt: str
    repeat: int


Row = RowResult[Key]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class AttemptLine(_Line):
    """An attempt in `results.jsonl`, its fields as in `Attempt`; `answer` is the text alone."""

    number: int
    passed: bool
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    answer: Annotated[str, BeforeValidator(lambda value: value.text if isinstance(value, Answer) else value)]
    synopsis: Synopsis | None

    def to_attempt(self, answer: Answer) -> Attempt:
        """Return the attempt, its findings as far as the line has them."""
        if not self.passed and self.checks in {(), (NO_STRUCTURE,)}:
            problem = " ".join(self.problems) or NO_STRUCTURE
            return Attempt(self.number, answer, synopsis=self.synopsis, problem=problem)
        return Attempt.recorded(
            self.number,
            answer,
            passed=self.passed,
            problems=self.problems,
            spans=self.spans,
            synopsis=self.synopsis,
        )


class RowLine(_Line):
    """One line of `results.jsonl`, its first four fields those of the row's key."""

    case: str
    model: str
    prompt: str
    repeat: Annotated[int, Field(ge=0)]
    outcome: Literal["accepted", "refused", "failed"]
    attempts: tuple[AttemptLine, ...]
    best: int | None  # the index of the accepted attempt, or of the one with the fewest problems
    error: str | None = None  # that ended the work
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount: Decimal | None = None  # what all attempts cost; None where a price is not known
    currency: str = ""
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
    def of(cls, row: Row) -> Self:
        """Return what the file holds of a row."""
        best, origin = row.best, row.provenance or {}
        return cls.model_validate(
            {
                **row.id._asdict(),
                "outcome": row.outcome,
                "attempts": row.attempts,
                "best": next((i for i, each in enumerate(row.attempts) if each is best), None),
                "error": row.reason if row.outcome == "failed" else None,
                "prompt_tokens": row.usage.prompt_tokens,
                "cached_tokens": row.usage.cached_tokens,
                "completion_tokens": row.usage.completion_tokens,
                "amount": row.cost.amount if row.cost else None,
                "currency": row.cost.currency if row.cost else "",
                "seconds": row.seconds,
                "kept": sum(attempt.answer.is_cached for attempt in row.attempts),
                "answered": origin.get("model", ""),
                "words_by_model": best.answer.words_by_model if best else None,
                "created": origin.get("created", ""),
                "run": origin.get("run", ""),
            }
        )

    def to_row(self) -> Row:
        """Return the row; `provenance` has what the line has."""
        answer = Answer("", model=self.answered, words_by_model=self.words_by_model)
        attempts = tuple(
            line.to_attempt(replace(answer, text=line.answer, is_cached=index < self.kept))
            for index, line in enumerate(self.attempts)
        )
        best = None if self.best is None else attempts[self.best]
        return RowResult(
            Key(self.case, self.model, self.prompt, self.repeat),
            self.outcome,
            self.error or ("" if best is None else " ".join(best.problems)),
            None if best is None else best.synopsis,
            {"model": self.answered, "run": self.run, "created": self.created},
            attempts,
            Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens),
            None if self.amount is None else Cost(self.amount, self.currency),
            self.seconds,
        )


def row_line(row: Row) -> str:
    """Return a row as one line of JSON."""
    return RowLine.of(row).model_dump_json() + "\n"


def row_digest(row: Row) -> str:
    """Return 24 hex digits that stand for a row with all it contains.

    Fields with their default value are left out, so that a row keeps its digest when rows get a new field.
    """
    text = RowLine.of(row).model_dump_json(exclude_defaults=True)
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
        return len(self.models) * len(self.prompts) * len(self.cases) * self.repeats

    def as_json(self) -> str:
        """Return the text of `run.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=2) + "\n"


class RunFolder(FolderLock):
    """A run that rows are added to, in a `with` block; one process holds it at a time."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        super().__init__(path, "run")
        self._path, self._info = path, info
        try:
            self.history = self._begin()  # those that were there, and were made again since, too
        except BaseException:
            self.release()
            raise
        self.rows = _latest(self.history)  # those that are done, by their keys

    def _begin(self) -> list[Row]:
        info, results = self._path / RUN_FILE, self._path / RESULTS_FILE
        if results.exists():
            if not info.exists():
                raise FileError(f"{self._path}: has {RESULTS_FILE} but no {RUN_FILE}: name another --out")
            if change := _change(read_info(self._path), self._info):
                raise FileError(
                    f"{self._path}: {change} since this run began: name another --out for a new one"
                )
            return list(_all_rows(results))
        if info.exists():
            read_info(self._path)  # another run without rows may be replaced, a foreign file may not
        write_file(info, self._info.as_json(), private=True)
        return []

    def add(self, row: Row) -> None:
        """Append a row as `append_line` does; one of the same key is replaced."""
        append_line(self._path / RESULTS_FILE, row_line(row))
        self.rows[row.id] = row


def read_info(folder: Path) -> RunInfo:
    """Return what the run in `folder` is.

    Raises FileError if there is none, it is broken, or another version of the program wrote it.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileError(f"{folder}: holds no run: name a folder that 'synopsis eval run' wrote")
    try:
        data = json.loads(read_text(path))
        version = data.pop("format")
        if version != FORMAT:
            raise FileError(
                f"{path}: has the format {version}, not {FORMAT}: read it with version {data.get('version')}"
            )
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
        problem = str(error) if isinstance(error, FileError) else f"{path}: is broken"
        _log.warning("%s: the report is without prompts; run the same command again", problem)
        return {}


def read_rows(folder: Path) -> dict[Key, Row]:
    """Return the rows of a run; of two with one key the last counts; raises FileError."""
    return _latest(_all_rows(folder / RESULTS_FILE))


def _all_rows(path: Path) -> Iterator[Row]:
    for number, line in read_lines(path):
        try:
            yield RowLine.model_validate_json(line).to_row()
        except ValueError:
            problem = "the line is truncated, as after a kill: its row will be made again"
            _log.warning("%s:%d: %s", path, number, problem)


def _latest(history: Iterable[Row]) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in history:
        rows.pop(row.id, None)
        rows[row.id] = row
    return rows


def _change(before: RunInfo, now: RunInfo) -> str:
    """Return what has changed since the run began; nothing where all is the same."""
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


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is not empty, none of a missing file; raises FileError."""
    try:
        yield from input_lines(path, _MOST_BYTES, _LONGEST_LINE)
    except FileError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise FileError(f"cannot read {error}: make it readable, or move it away") from error


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def append_line(path: Path, line: str) -> None:
    """Append a line, whole and on the disk before this returns, a truncated one before it ended.

    Only its owner may read a new file; a link is refused, as FileError.
    """
    try:
        with open(path, "ab+", buffering=0, opener=_open_private) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            data = line.encode("utf-8")
            while data:  # an unbuffered file may take a part
                data = data[file.write(data) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path.parent)}: make room, and run again") from error
