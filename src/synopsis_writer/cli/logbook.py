"""The run log as commands use it: one that fails is said, and costs no text."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synopsis_writer.cli.console import complain
from synopsis_writer.errors import FileError

if TYPE_CHECKING:
    from synopsis_writer.runlog import RunLog
    from synopsis_writer.settings import Settings


@contextlib.contextmanager
def opened_log(settings: "Settings", *, kept: bool) -> Iterator["RunLog"]:
    """Open the run log; one in memory where none is to be kept, or where the file cannot be used."""
    from synopsis_writer.runlog import RunLog

    try:
        log = RunLog(settings.log if kept else None)
    except FileError as error:
        complain(f"{error}; this run is not logged")
        log = RunLog(None)
    try:
        yield log
    finally:
        log.close()


def note_path(log: "RunLog", run: str, path: Path) -> None:
    """Note where a run's text was saved."""
    try:
        log.saved(run, path)
    except FileError as error:
        complain(str(error))
