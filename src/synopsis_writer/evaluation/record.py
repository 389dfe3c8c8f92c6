"""A run's folder: `run.json` says what the run is, `results.jsonl` holds a row a line, as they come."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from synopsis_writer.document import read_text
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.evaluation.row import Key, Row, read_row
from synopsis_writer.evaluation.scored import RunInfo
from synopsis_writer.store import write_file

FORMAT = 1
RUN_FILE, RESULTS_FILE, LOCK_FILE = "run.json", "results.jsonl", "run.lock"

Say = Callable[[str], None]


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
