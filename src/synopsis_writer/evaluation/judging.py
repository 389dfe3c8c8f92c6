"""Judging a run: each text that no judge has read yet is given to one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from synopsis_writer.client.budget import Budget
from synopsis_writer.client.chain import limits_of, open_chain
from synopsis_writer.client.choice import Choice, choose
from synopsis_writer.errors import SettingsError
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.judge import Judge, load_judge_templates
from synopsis_writer.evaluation.judged import add_judged, judge_id, name_judge, read_judged, row_digest
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.suite import LoadedSuite
from synopsis_writer.prompts import Template
from synopsis_writer.resources import folder
from synopsis_writer.settings import Settings

Say = Callable[[str], None]


@asynccontextmanager
async def open_judge(
    model: str,
    settings: Settings,
    environment: Mapping[str, str],
    say: Say,
    budget: Budget | None = None,
) -> AsyncIterator[Judge]:
    """Open a judge: a model on a server or in a file.

    Args:
        model: its name.
        settings: all settings.
        environment: where the key stands.
        say: is told of waits.
        budget: the ledger, where writers share one with the judge; None is one of its own.

    Raises:
        SettingsError, TemplateError: as `choose_judge`, or the budget cannot be used.
        ModelError: the file cannot be loaded.
    """
    choice, templates = choose_judge(model, settings, environment)
    async with open_chain(choice, settings, environment, say, budget=budget) as client:
        yield Judge(client, templates, limits_of(settings))


def choose_judge(
    model: str, settings: Settings, environment: Mapping[str, str]
) -> tuple[Choice, Mapping[str, Template]]:
    """Return the judge's model, and its templates.

    Raises:
        SettingsError: there is no such model, or it is the packaged one, which cannot judge.
        TemplateError: a template of the judge breaks its format.
    """
    choice = choose(settings.model_copy(update={"model": model}), environment)
    if choice.kind == "packaged":
        raise SettingsError(
            "the packaged model cannot judge: name a hosted model, or a GGUF file, with --judge"
        )
    return choice, load_judge_templates(settings.prompts or folder("prompts"))


async def judge_rows(
    run: Path,
    rows: list[Row],
    suite: LoadedSuite,
    judge: Judge,
    *,
    concurrency: int,
    done: Callable[[int, int], None],
) -> None:
    """Have a judge read the texts that it has not read yet, and keep each judgement.

    Raises:
        ModelError: the judge failed for good; what was judged is kept.
        FileError: a judgement cannot be written.
    """
    judging = judge_id(judge)
    before = read_judged(run, lambda _: None)  # who opens the run is told of half lines
    judged = before.get(judging, {})
    cases = {case.id: case for case in suite.cases}
    todo = [(row, cases[row.case]) for row in rows if _is_due(row, cases, judged)]
    turn, finished = asyncio.Semaphore(concurrency), 0

    async def one(row: Row, case: Case) -> None:
        nonlocal finished
        if row.synopsis is None:
            return
        async with turn:
            judgement = await judge.judge(case, row.synopsis)
        add_judged(run, judging, row, judgement)
        finished += 1
        done(finished, len(todo))

    try:
        async with asyncio.TaskGroup() as group:
            for row, case in todo:
                group.create_task(one(row, case))
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    if not todo and judging != next(reversed(before), None):
        name_judge(run, judging)


def _is_due(row: Row, cases: Mapping[str, Case], judged: Mapping[str, object]) -> bool:
    return row.synopsis is not None and row.case in cases and row_digest(row) not in judged
