"""The rows of an eval run, kept as they come."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, NamedTuple, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, model_validator

from synopsis_writer.document import read_text
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.storage.files import write_file
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Cost, Usage

FORMAT = 1

RUN_FILE, RESULTS_FILE, LOCK_FILE = "run.json", "results.jsonl", "run.lock"

Say = Callable[[str], None]

Outcome = Literal["accepted", "refused", "failed"]


class Key(NamedTuple):
    """What a row is about; unique in a run.

    Attributes:
        case: the case's id.
        model: the model's name as it was asked for.
        prompt: the version of the prompts: the name of their folder.
        repeat: 0, 1, … of several answers to one question.
    """

    case: str
    model: str
    prompt: str
    repeat: int


class Attempt(BaseModel):
    """One answer: its round, its words, why it was refused, and what it took.

    Attributes:
        number: the round.
        passed: whether it held the gate.
        problems: what was wrong with it, in sentences.
        checks: names of the style checks that refused it; `structure` where it had none.
        spans: character spans in the text of `synopsis`, a pair a spot, that refused checks point at.
        answer: the answer as it came.
        synopsis: the answer within its structure; None when it has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    passed: bool
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()
    answer: str
    synopsis: Synopsis | None


class Row(BaseModel):
    """One line of `results.jsonl`.

    Attributes:
        case, model, prompt, repeat: the row's key.
        outcome: whether a text was accepted, all were refused, or model or network failed before any.
        attempts: all answers, in order.
        best: the place in `attempts` of the accepted one, or of the one with the fewest problems; None: none.
        error: the fault that ended the work; None otherwise.
        usage: tokens of all attempts.
        amount, currency: what all attempts cost; None where a price is not known.
        seconds: the model's time for all attempts.
        kept: how many of the answers came out of the cache, and so took nothing.
        answered: the model that answered, as its server names it.
        words_by_model: of a demo draft, how many words the model wrote; None for a text of its own.
        created: when it was made, in ISO 8601.
        run: its id in the run log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    model: str
    prompt: str
    repeat: Annotated[int, Field(ge=0)]
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    best: int | None
    error: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount: Decimal | None = None
    currency: str = ""
    seconds: float = 0.0
    kept: Annotated[int, Field(ge=0)] = 0
    answered: str = ""
    words_by_model: int | None = None
    created: str = ""
    run: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.best is not None and not 0 <= self.best < len(self.attempts):
            raise ValueError(f"best is {self.best}, and there are {len(self.attempts)} attempts")
        return self

    @property
    def key(self) -> Key:
        """What the row is about."""
        return Key(self.case, self.model, self.prompt, self.repeat)

    @property
    def synopsis(self) -> Synopsis | None:
        """The best text, accepted or not; None when no answer had the structure of one."""
        return None if self.best is None else self.attempts[self.best].synopsis

    @property
    def usage(self) -> Usage:
        """The tokens of all attempts."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    @property
    def cost(self) -> Cost | None:
        """What all attempts cost; None: unpriced."""
        return None if self.amount is None else Cost(self.amount, self.currency)

    @property
    def is_demo(self) -> bool:
        """Whether it is a demo draft of the guided strategy, which must not be averaged with others."""
        return self.words_by_model is not None

    def as_line(self) -> str:
        """Return the row as one line of JSON."""
        return self.model_dump_json() + "\n"


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


class RunFolder:
    """A run that rows are added to, in a `with` block; one process holds it at a time.

    Args:
        path: the folder; made when it is missing.
        info: what the run is; a folder that holds another run is refused.
        say: is told of a line that cannot be read.

    Attributes:
        rows: the rows that are done, by their keys.

    Raises:
        FileError: it cannot be written, it holds something else, or another process is at it.
    """

    def __init__(self, path: Path, info: RunInfo, say: Say) -> None:
        self._path, self._info = path, info
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / LOCK_FILE, timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise FileError(
                f"{path}: another process is at this run: wait for it, or name another --out"
            ) from error
        except OSError as error:
            raise FileError(f"cannot write {os_reason(error, path)}: name another --out") from error
        try:
            self.rows = self._begin(say)
        except OSError as error:
            self._lock.release()
            raise FileError(f"cannot write {os_reason(error, path)}: name another --out") from error
        except FileError:
            self._lock.release()
            raise

    def _begin(self, say: Say) -> dict[Key, Row]:
        if not (self._path / RUN_FILE).exists():
            if (self._path / RESULTS_FILE).exists():
                raise FileError(f"{self._path}: has {RESULTS_FILE} but no {RUN_FILE}: name another --out")
            write_file(self._path / RUN_FILE, run_json(self._info))
            return {}
        begun = read_info(self._path)
        if not (self._path / RESULTS_FILE).exists():  # nothing was made yet: another order may begin here
            write_file(self._path / RUN_FILE, run_json(self._info))
            return {}
        if change := _change(begun, self._info):
            raise FileError(f"{self._path}: {change} since this run began: name another --out for a new one")
        return read_rows(self._path, say)

    def __enter__(self) -> Self:
        """Hold the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the folder go."""
        self._lock.release()

    def add(self, row: Row) -> None:
        """Append a row, whole and on the disk before this returns; a row of the same key is replaced.

        Raises:
            FileError: it cannot be written.
        """
        path = self._path / RESULTS_FILE
        try:
            # After a kill or a full disk the half line stays what it is.
            line = row.as_line() if _ends_in_a_line(path) else "\n" + row.as_line()
            with path.open("ab", buffering=0) as file:
                _write_whole(file, line.encode("utf-8"))
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(
                f"cannot write {os_reason(error, self._path)}: make room, and run again"
            ) from error
        self.rows[row.key] = row


def run_json(info: RunInfo) -> str:
    """Return the text of `run.json`."""
    return json.dumps({"format": FORMAT, **asdict(info)}, ensure_ascii=False, indent=2) + "\n"


def read_info(folder: Path) -> RunInfo:
    """Return what the run in `folder` is.

    Raises:
        FileError: there is none, it is broken, or another version of the program wrote it.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileError(f"{folder}: holds no run: name a folder that 'synopsis eval run' wrote")
    try:
        data = json.loads(read_text(path))
        found = data.pop("format")
        if found != FORMAT:
            raise FileError(
                f"{path}: has the format {found}, not {FORMAT}: read it with version {data.get('version')}"
            )
        return RunInfo(**data | {"models": tuple(data["models"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path}: is broken: name another run, or make it again") from error


def read_rows(folder: Path, say: Say) -> dict[Key, Row]:
    """Return the rows of a run; of two with one key the last counts, a line that cannot be read is said.

    Raises:
        FileError: the file cannot be read.
    """
    path = folder / RESULTS_FILE
    rows: dict[Key, Row] = {}
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: name another run") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = read_row(line.decode("utf-8"))
        except ValueError:
            say(f"{path}:{number}: the line is half written, as after a kill: its row will be made again")
            continue
        rows.pop(row.key, None)
        rows[row.key] = row
    return rows


def _write_whole(file: FileIO, data: bytes) -> None:
    while data:  # an unbuffered file may take a part
        data = data[file.write(data) :]


def _ends_in_a_line(path: Path) -> bool:
    if not path.exists():
        return True
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _change(begun: RunInfo, now: RunInfo) -> str:
    """Say what is no longer as it was when the run began; nothing where all is."""
    for name in ("models", "repeats", "attempts"):
        before, after = getattr(begun, name), getattr(now, name)
        if before != after:
            return f"{name} changed from {_shown(before)} to {_shown(after)}"
    for name in ("prompts", "cases"):
        if changed := _changed(getattr(begun, name), getattr(now, name)):
            return f"{name} changed ({', '.join(changed[:3])})"
    return ""


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def read_row(line: str) -> Row:
    """Return the row of a line; raises ValueError for one that is half written or of another version."""
    return Row.model_validate_json(line)


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Give the number and the object of each line that is not empty; None for a line that holds none.

    A file that is not there has no lines.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise FileError(f"cannot read {os_reason(error, path)}: make it readable, or move it away") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(line)


def as_json_line(data: Mapping[str, Any]) -> str:
    """Return an object as one line."""
    return json.dumps(data, ensure_ascii=False) + "\n"


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Append an object as one line; a half line before it is closed.

    Raises:
        FileError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("\n" + as_json_line(data))
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: make room, and run again") from error


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
