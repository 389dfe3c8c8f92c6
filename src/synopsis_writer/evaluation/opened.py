"""A run as commands read it: what it is, its scored rows, their summary, and the baselines beside it."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from synopsis_writer.desk import load_desk
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evaluation.case import case_hash
from synopsis_writer.evaluation.judged import JUDGED_FILE, Judged, judged_text, last_judged
from synopsis_writer.evaluation.record import RESULTS_FILE, RUN_FILE, read_info, read_rows, run_json
from synopsis_writer.evaluation.row import Key, Row
from synopsis_writer.evaluation.scored import Group, RunInfo, Scored
from synopsis_writer.evaluation.scoring import score_run, with_judged
from synopsis_writer.evaluation.suite import LoadedSuite
from synopsis_writer.evaluation.summary import GroupKey, grouped, summarise
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
        judged: what the judge said that was run last; its metrics are among the scores.
        groups: the summary, one a model and prompt version.
    """

    folder: Path
    info: RunInfo
    suite: LoadedSuite
    scored: tuple[Scored, ...]
    judged: Judged
    groups: tuple[Group, ...]

    @property
    def missing(self) -> int:
        """How many rows are still to be made."""
        info = self.info
        planned = {Key(*key) for key in product(info.cases, info.models, info.prompts, range(info.repeats))}
        return len(planned - {scored.row.key for scored in self.scored})

    @property
    def failed(self) -> int:
        """How many rows a model or network failed at."""
        return sum(scored.row.outcome == "failed" for scored in self.scored)

    def rows_of(self, group: Group) -> list[Scored]:
        """Return the scored rows of one group."""
        return grouped(self.scored).get(GroupKey(group.model, group.prompt, group.is_demo), [])


def open_run(folder: Path, suite: LoadedSuite, settings: Settings, say: Say) -> OpenedRun:
    """Read a run, score what is not scored yet, and sum it up.

    `say` is told of cases that are not as they were, of lines that cannot be read, and of scores not kept.

    Raises:
        FileError: the folder holds no run of this version.
        InputError: pool or profile cannot be loaded.
    """
    info = read_info(folder)
    rows = list(read_rows(folder, say).values())
    for line in _changes(info, suite):
        say(f"{folder}: {line}")
    judged = last_judged(folder, say)
    plain = score_run(folder, rows, suite.cases, load_desk(settings, say), say)
    scored = tuple(with_judged(one, judged) for one in plain)
    return OpenedRun(folder, info, suite, scored, judged, tuple(summarise(info, scored)))


def _changes(info: RunInfo, suite: LoadedSuite) -> list[str]:
    """Say how many cases of a run are no longer what they were."""
    now = {case.id: case for case in suite.cases}
    gone = info.cases.keys() - now.keys()
    changed = [name for name, was in info.cases.items() if name in now and case_hash(now[name]) != was]
    found = []
    if changed:
        found.append(
            f"{len(changed)} cases have changed since the run: their scores are by today's references"
        )
    if gone:
        found.append(f"{len(gone)} of its cases are not in this suite: name the suite with --suite")
    return found


def baseline_folder(suite: LoadedSuite, model: str) -> Path:
    """Return where the baseline of a model lies."""
    # The digits keep two names apart that are one file name, as a/x-1 and a/x.1 are.
    return suite.baselines / f"{slug(model)}-{hashlib.sha256(model.encode('utf-8')).hexdigest()[:6]}"


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
    _keep_judged(folder / JUDGED_FILE, judged_text(run.judged, _ordered(rows)))
    return folder


def _keep_judged(path: Path, text: str) -> None:
    if text:
        write_file(path, text)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {os_reason(error, path)}: make the folder writable") from error


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.key)


def read_baseline(suite: LoadedSuite, model: str, settings: Settings, say: Say) -> OpenedRun | None:
    """Return a model's baseline; None where no run was blessed.

    Raises:
        FileError: it is broken.
        InputError: pool or profile cannot be loaded.
    """
    folder = baseline_folder(suite, model)
    return open_run(folder, suite, settings, say) if folder.exists() else None
