"""`synopsis eval run`: the matrix is made, scored, and held to its suite."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer import __version__
from synopsis_writer.cli import options
from synopsis_writer.cli.console import complain, give, say, say_nothing
from synopsis_writer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synopsis_writer.cli.progress import Progress
    from synopsis_writer.client.budget import Budget
    from synopsis_writer.evaluation.row import Row
    from synopsis_writer.evaluation.runner import Matrix
    from synopsis_writer.evaluation.suite import LoadedSuite
    from synopsis_writer.settings import Settings

BELOW = 4  # the exit code of an eval that is incomplete, misses a threshold, or is worse than its baseline
CASES = Annotated[
    list[str] | None,
    typer.Option("--cases", metavar="GLOB", help="Ids, forms, or a group of the suite; repeatable."),
]
CONCURRENCY = Annotated[
    int, typer.Option("--concurrency", min=1, max=256, help="Texts side by side, on a server.")
]


def run_eval(
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="A suite.yaml, or the folder that holds one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; the same command again goes on with it.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="A model to try; repeatable.")] = None,
    prompt: Annotated[
        list[Path] | None,
        typer.Option("--prompt", help="A folder of templates, a version of the prompts; repeatable."),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="Answers a case.")] = 1,
    cases: CASES = None,
    concurrency: CONCURRENCY = 4,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="MODEL", help="A model that judges the texts, too.")
    ] = None,
    base_url: options.BaseUrl = None,
    insecure: options.Insecure = None,
    examples: options.Examples = None,
    profile: options.Profile = None,
    attempts: options.Attempts = None,
    max_retries: options.MaxRetries = None,
    budget: options.Budget = None,
    max_tokens_total: options.MaxTokensTotal = None,
    cache: options.Cache = None,
    no_log: options.NoLog = False,
    quiet: options.Quiet = False,
) -> int:
    """Write every case with every model and prompt version, score the texts, and hold them to the suite.

    Exits 4 when rows failed, a threshold is missed, or a baseline is significantly better.
    """
    import asyncio

    from synopsis_writer.cli.logbook import opened_log
    from synopsis_writer.cli.progress import Progress
    from synopsis_writer.client.budget import Budget
    from synopsis_writer.evaluation.judging import choose_judge
    from synopsis_writer.evaluation.opened import open_run
    from synopsis_writer.evaluation.record import RunFolder
    from synopsis_writer.evaluation.runner import run_matrix
    from synopsis_writer.evaluation.scoring import ALL_METRICS
    from synopsis_writer.evaluation.spending import spent_on
    from synopsis_writer.evaluation.table import groups_table
    from synopsis_writer.evaluation.verdict import shortcomings
    from synopsis_writer.settings import load_settings

    if out is None:
        raise SettingsError("no folder for the run: name one with --out; the same command goes on with it")
    check_names({"--out": [out], "--model": model, "--prompt": prompt, "--judge": [judge]})
    settings = load_settings(
        {
            "base_url": base_url,
            "insecure": insecure,
            "examples": examples,
            "profile": profile,
            "attempts": attempts,
            "max_retries": max_retries,
            "budget": budget,
            "max_tokens_total": max_tokens_total,
            "responses": cache,
        }
    )
    if judge is not None:
        choose_judge(judge, settings, os.environ)  # said before a run of hours, not after it
    loaded = loaded_suite(suite)
    matrix = _matrix(loaded, settings, model, prompt, cases or [], repeats, concurrency)
    created = datetime.now(UTC).replace(microsecond=0).isoformat()
    info = matrix.info(out.resolve().name, created, __version__, settings.attempts)
    with RunFolder(out, info, say) as folder, opened_log(settings, kept=not no_log) as log:
        made = sum(row.outcome != "failed" for row in folder.rows.values())
        progress = Progress(info.planned, made, is_quiet=quiet)
        spent = spent_on(out, folder.rows.values())
        ledger = Budget(settings.budget, settings.max_tokens_total, spent=spent)
        work = run_matrix(
            matrix,
            settings,
            os.environ,
            folder,
            log,
            say=progress.say,
            done=lambda row: progress.add(row.outcome, row.usage, row.cost),
            budget=ledger,
        )
        try:
            asyncio.run(work)
        finally:
            progress.end()
        if judge is not None:
            rows = list(folder.rows.values())
            asyncio.run(_judge(judge, out, rows, loaded, settings, concurrency, progress, ledger))
    status = say_nothing if quiet else say
    found = open_run(out, loaded, settings, status)
    give(groups_table(found.groups, ALL_METRICS, found.judged.name))
    problems = shortcomings(found, settings, status)
    for problem in problems:
        complain(problem)
    return BELOW if problems else 0


async def _judge(
    model: str,
    out: Path,
    rows: "list[Row]",
    suite: "LoadedSuite",
    settings: "Settings",
    concurrency: int,
    progress: "Progress",
    budget: "Budget",
) -> None:
    from synopsis_writer.client.bill import bill
    from synopsis_writer.evaluation.judging import judge_rows, open_judge

    async with open_judge(model, settings, os.environ, progress.say, budget) as judge:
        try:
            await judge_rows(
                out,
                rows,
                suite,
                judge,
                concurrency=concurrency,
                done=lambda count, most: progress.say(f"judged {count} of {most}"),
            )
        finally:
            progress.say(f"judge: {bill(judge.answers)}")


def check_names(flags: "Mapping[str, Sequence[str | Path | None] | None]") -> None:
    """Refuse names that are empty, or that no file could hold.

    Raises:
        SettingsError: there is one; names its flag.
    """
    for flag, names in flags.items():
        for name in names or ():
            if name is not None and not str(name).strip():
                raise SettingsError(f"{flag} is empty: give it a name")
            try:
                str(name).encode("utf-8")
            except UnicodeEncodeError as error:
                raise SettingsError(f"{flag} {str(name)!a}: is not UTF-8: give it another name") from error


def loaded_suite(path: Path | None) -> "LoadedSuite":
    """Read a suite; without a path the one in `evals/`, else the one that came with the program."""
    from synopsis_writer.evaluation.scoring import ALL_METRICS
    from synopsis_writer.evaluation.suite import default_suite, load_suite

    return load_suite(path or default_suite(), ALL_METRICS)


def _matrix(
    suite: "LoadedSuite",
    settings: "Settings",
    models: list[str] | None,
    prompts: list[Path] | None,
    cases: list[str],
    repeats: int,
    concurrency: int,
) -> "Matrix":
    from synopsis_writer.client.choice import choose
    from synopsis_writer.evaluation.runner import Matrix
    from synopsis_writer.resources import folder

    chosen = models or [choose(settings, os.environ).model]
    folders = prompts or [settings.prompts or folder("prompts")]
    versions = {path.resolve().name: path for path in folders}
    for names, flag in ((chosen, "--model"), (folders, "--prompt")):
        if len(set(names)) < len(names) or (flag == "--prompt" and len(versions) < len(folders)):
            raise SettingsError(
                f"two of {flag} have one name: give each once, and folders names of their own"
            )
    return Matrix(suite.select(cases), chosen, versions, repeats, concurrency)
