"""A run as commands read it: what it is, its scored rows, their summary, and the baselines beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synopsis_writer.desk import load_desk
from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.evaluation.record import RESULTS_FILE, RUN_FILE, read_info, read_rows, run_json
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.scored import Group, RunInfo, Scored
from synopsis_writer.evaluation.scoring import score_run
from synopsis_writer.evaluation.suite import LoadedSuite
from synopsis_writer.evaluation.summary import GroupKey, grouped, summarise
from synopsis_writer.evaluation.yardstick import make_yardstick
from synopsis_writer.settings import Settings
from synopsis_writer.shows import slug
from synopsis_writer.store import write_file

Say = Callable[[str], None]


@dataclass(frozen=True)
class OpenedRun:
    """A run that was read.

    Attributes:
        folder: where it lies.
        info: what it is.
        suite: the suite it is held against.
        scored: its rows with their scores.
        groups: the summary, one a model and prompt version.
    """

    folder: Path
    info: RunInfo
    suite: LoadedSuite
    scored: tuple[Scored, ...]
    groups: tuple[Group, ...]

    @property
    def missing(self) -> int:
        """How many rows are still to be made."""
        return self.info.planned - len(self.scored)

    @property
    def failed(self) -> int:
        """How many rows a model or network failed at."""
        return sum(scored.row.outcome == "failed" for scored in self.scored)

    def rows_of(self, group: Group) -> list[Scored]:
        """Return the scored rows of one group."""
        return grouped(self.scored).get(GroupKey(group.model, group.prompt, group.is_demo), [])


def open_run(folder: Path, suite: LoadedSuite, settings: Settings, say: Say) -> OpenedRun:
    """Read a run, score what is not scored yet, and sum it up.

    Raises:
        FileError: the folder holds no run of this version.
        InputError: pool or profile cannot be loaded.
    """
    info = read_info(folder)
    rows = list(read_rows(folder, say).values())
    scored = score_run(
        folder, rows, suite.cases, lambda: make_yardstick(load_desk(settings, say), suite.cases)
    )
    return OpenedRun(folder, info, suite, tuple(scored), tuple(summarise(info, scored)))


def baseline_folder(suite: LoadedSuite, model: str) -> Path:
    """Return where the baseline of a model lies."""
    return suite.baselines / slug(Path(model).name)


def bless(run: OpenedRun, prompt: str | None) -> list[Path]:
    """Make a run the baseline of each of its models; return the folders.

    Args:
        run: the run.
        prompt: the version of the prompts that counts; None where there is only one.

    Raises:
        SettingsError: there are several versions and none is named, or the named one is not there; or the
            run is incomplete.
        FileError: the baselines cannot be written.
    """
    names = ", ".join(run.info.prompts)
    if prompt is None and len(run.info.prompts) > 1:
        raise SettingsError(f"{run.folder}: holds {names}: say which one with --prompt")
    chosen = prompt or names
    if chosen not in run.info.prompts:
        raise SettingsError(f"{run.folder}: holds no prompt version '{chosen}': it holds {names}")
    if run.missing or run.failed:
        raise SettingsError(
            f"{run.folder}: {run.missing} rows are missing and {run.failed} failed: "
            "run the same command again first"
        )
    return [_keep(run, model, chosen) for model in run.info.models]


def _keep(run: OpenedRun, model: str, prompt: str) -> Path:
    folder = baseline_folder(run.suite, model)
    info = replace(run.info, models=(model,), prompts={prompt: run.info.prompts[prompt]})
    rows = [one.row for one in run.scored if (one.row.model, one.row.prompt) == (model, prompt)]
    write_file(folder / RUN_FILE, run_json(info))
    write_file(folder / RESULTS_FILE, "".join(row.as_line() for row in _ordered(rows)))
    return folder


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.key)


def read_baseline(suite: LoadedSuite, model: str, settings: Settings, say: Say) -> OpenedRun | None:
    """Return a model's baseline; None where no run was blessed."""
    folder = baseline_folder(suite, model)
    if not (folder / RUN_FILE).is_file():
        return None
    try:
        return open_run(folder, suite, settings, say)
    except FileError as error:
        say(str(error))
        return None
