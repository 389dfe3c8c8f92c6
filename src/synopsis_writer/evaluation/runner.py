"""The runner: the matrix of cases, models, prompt versions and repeats, each row made once and kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from synopsis_writer.authors import open_authors
from synopsis_writer.client.budget import Budget
from synopsis_writer.client.choice import choose
from synopsis_writer.desk import load_desk
from synopsis_writer.errors import FileError
from synopsis_writer.evaluation.case import Case, case_hash
from synopsis_writer.evaluation.judge import JUDGE_TEMPLATES
from synopsis_writer.evaluation.maker import Maker
from synopsis_writer.evaluation.record import RunFolder
from synopsis_writer.evaluation.row import Key, Row
from synopsis_writer.evaluation.scored import RunInfo
from synopsis_writer.runlog import RunLog
from synopsis_writer.settings import Settings
from synopsis_writer.workers import side_by_side

Say = Callable[[str], None]


@dataclass(frozen=True)
class Matrix:
    """What is to be made.

    Attributes:
        cases: the cases.
        models: as `--model` names them.
        prompts: the prompt versions: a name and the folder of its templates.
        repeats: answers a case, model and prompt version.
        concurrency: rows made side by side; a model in this process makes one after the other.
    """

    cases: Sequence[Case]
    models: Sequence[str]
    prompts: Mapping[str, Path]
    repeats: int
    concurrency: int = 4

    def info(self, name: str, created: str, version: str, attempts: int) -> RunInfo:
        """Return what the run over this matrix is."""
        return RunInfo(
            name,
            created,
            version,
            tuple(self.models),
            {prompt: folder_hash(folder) for prompt, folder in self.prompts.items()},
            {case.id: case_hash(case) for case in self.cases},
            self.repeats,
            attempts,
        )

    def keys(self, model: str, prompt: str) -> list[tuple[Key, Case]]:
        """Return the rows of one model and prompt version: all cases once, then all of them again."""
        return [
            (Key(case.id, model, prompt, repeat), case)
            for repeat in range(self.repeats)
            for case in self.cases
        ]


def folder_hash(folder: Path) -> str:
    """Return 12 hex digits that change when any template below a folder does, the judge's aside.

    Raises:
        FileError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileError(f"prompts: {folder}: no such folder: --prompt names one that holds the templates")
    digest = hashlib.sha256()
    judges = {folder / f"{name}.md" for name in JUDGE_TEMPLATES}
    kinds = {".md", ".yaml", ".txt"}  # an editor's own files are none of these
    for path in sorted(path for path in folder.rglob("*") if path.suffix in kinds and path not in judges):
        digest.update(str(path.relative_to(folder)).encode("utf-8", "surrogatepass") + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


async def run_matrix(
    matrix: Matrix,
    settings: Settings,
    environment: Mapping[str, str],
    folder: RunFolder,
    log: RunLog,
    *,
    say: Say,
    done: Callable[[Row], None],
    budget: Budget | None = None,
) -> None:
    """Make the rows that the folder does not hold yet, and those that failed; `done` is given each.

    `budget` is the ledger of all calls; None is one of the run's own.

    Raises:
        InputError: a model, a folder of templates, or the budget cannot be used, or the folder not written.
        ModelError: the work cannot go on: key, quota, budget or engine. What was made is kept.
    """
    if budget is None:
        budget = Budget(settings.budget, settings.max_tokens_total)
    for model in matrix.models:
        for prompt, templates in matrix.prompts.items():
            todo = [(key, case) for key, case in matrix.keys(model, prompt) if _is_due(folder.rows.get(key))]
            if not todo:
                continue
            chosen = settings.model_copy(update={"model": model, "prompts": templates})
            choice = choose(chosen, environment)
            desk = load_desk(chosen, say)
            async with open_authors(choice, chosen, environment, desk, budget, say) as authors:
                maker = Maker(desk, authors, settings.attempts, choice.server, log, say)
                count = matrix.concurrency if choice.kind == "hosted" else 1
                await side_by_side(iter(todo), partial(_add, maker, folder, done), count)


def _is_due(row: Row | None) -> bool:
    return row is None or row.outcome == "failed"


async def _add(maker: Maker, folder: RunFolder, done: Callable[[Row], None], todo: tuple[Key, Case]) -> None:
    row = await maker.make(*todo)
    folder.add(row)
    done(row)
