"""The command group eval."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_error, print_result, status
from synopsis_writer.cli.options import option
from synopsis_writer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synopsis_writer.evals.results import EvalResults
    from synopsis_writer.evals.suite import LoadedSuite

app = typer.Typer(
    help="Eval runs against references: know whether a prompt or a model got better.", no_args_is_help=True
)

BELOW = 4  # the exit code of an eval that is incomplete, misses a threshold, or is worse than its baseline
_RUN = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that 'synopsis eval run' wrote.")]

_SUITE = Annotated[
    Path | None, option("--suite", "The suite the run was made with.  [default: evals/suite.yaml]", "PATH")
]

_Concurrency = Annotated[
    int, option("--concurrency", "Texts side by side, on a server.", "N", min=1, max=256)
]

_Cases = Annotated[
    list[str] | None, option("--cases", "Ids, forms, or a group of the suite; repeatable.", "GLOB")
]


@app.command("run")
@options.grouped
def run_eval(
    *,
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE]", help="A suite.yaml, or the folder that holds one.")
    ] = None,
    out: Annotated[
        Path | None, option("--out", "The run's folder; run the same command again to continue it.", "FOLDER")
    ] = None,
    model: Annotated[list[str] | None, option("--model", "A model to try; repeatable.", "MODEL")] = None,
    prompt: Annotated[
        list[Path] | None,
        option("--prompt", "A folder of templates: a version of the prompts; repeatable.", "FOLDER"),
    ] = None,
    repeats: Annotated[int, option("--repeats", "Answers per case.", "N", min=1, max=100)] = 1,
    cases: _Cases = None,
    concurrency: _Concurrency = 4,
    judge: Annotated[str | None, option("--judge", "A model that judges the texts, too.", "MODEL")] = None,
    server: options.ServerFlags,
    house: options.House = None,
    examples: options.Examples = None,
    profile: options.Profile = None,
    answer: options.AnswerFlags,
    limits: options.LimitFlags,
    reviewing: options.ReviewFlags,
    responses: options.Responses = None,
    no_log: options.NoLog = False,
    _output: options.OutputFlags,
) -> int:
    """Write every case with every model and prompt version, score the texts, and check the thresholds.

    Exits 4 when rows failed, a threshold is missed, or a baseline is significantly better.
    """
    import asyncio

    from synopsis_writer.cli.console import Progress
    from synopsis_writer.evals.report import groups_table
    from synopsis_writer.evals.results import ALL_METRICS, find_problems
    from synopsis_writer.evals.run import EvalRun
    from synopsis_writer.writer import Writer

    if out is None:
        raise SettingsError("no folder for the run: name one with --out; the same command continues it")
    check_names({"--out": [out], "--model": model, "--prompt": prompt, "--judge": [judge]})
    review = bool(reviewing.review or reviewing.review_model)  # what the settings say does not count here
    more = {"house": house, "examples": examples, "profile": profile, "responses": responses}
    named = {"review": review, "review_model": reviewing.review_model}
    settings = options.settings_from(server, answer, limits, **named, **more)
    loaded = loaded_suite(suite)
    with Writer(settings, log=not no_log) as writer:
        run = EvalRun(
            writer,
            loaded,
            out,
            models=model or (),
            prompts=prompt or (),
            cases=cases or (),
            repeats=repeats,
            concurrency=concurrency,
            judge=judge,
        )
        with run:
            made = sum(row.outcome != "failed" for row in run.rows)
            with Progress(run.info.planned, made) as progress:
                asyncio.run(run.write(lambda row: progress.add(row.outcome, row.usage, row.cost)))
            asyncio.run(run.judge())
            results = run.results()
    print_result(groups_table(results.groups, ALL_METRICS, results.judgements.name))
    problems = find_problems(results, writer.workspace)
    for problem in problems:
        print_error(problem)
    return BELOW if problems else 0


@app.command("score")
@options.grouped
def score_run(run: _RUN, suite: _SUITE = None, house: options.House = None) -> int:
    """Recompute all metrics of a run, without asking a model, and print the table."""
    from synopsis_writer.evals.record import read_info
    from synopsis_writer.evals.report import groups_table
    from synopsis_writer.evals.results import ALL_METRICS, forget_scores

    read_info(run)  # nothing is removed from a folder that holds no run
    forget_scores(run)
    results = _opened(run, suite, house)
    print_result(groups_table(results.groups, ALL_METRICS, results.judgements.name))
    return _completeness(results)


@app.command("compare")
@options.grouped
def compare_runs(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder: the baseline.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="A run's folder: the one to compare with it.")],
    suite: _SUITE = None,
    house: options.House = None,
) -> int:
    """Compare run B with run A, case by case: differences, intervals, and a verdict where significant."""
    from synopsis_writer.evals.report import comparisons_table
    from synopsis_writer.evals.results import compare_runs as compare

    a, b = _opened(first, suite, house), _opened(second, suite, house)
    comparisons = compare(a, b)
    if not any(comparison.differences for comparison in comparisons):
        raise SettingsError(
            f"{first} and {second} have no model, kind of text or case in common: name others"
        )
    print_result(comparisons_table(comparisons))
    return max(_completeness(a), _completeness(b))


@app.command("bless")
@options.grouped
def bless_run(
    run: _RUN,
    prompt: Annotated[
        str | None, option("--prompt", "The version that counts, where the run has several.", "NAME")
    ] = None,
    suite: _SUITE = None,
    house: options.House = None,
) -> None:
    """Make a run the baseline of its models: later runs are compared with it."""
    from synopsis_writer.evals.results import bless
    from synopsis_writer.evals.suite import OWN_SUITE

    if suite is None and not OWN_SUITE.is_file():
        raise SettingsError(
            "the suite is the program's, where no baseline can stay: name a suite of your own with --suite"
        )
    for folder in bless(_opened(run, suite, house), prompt):
        status(f"baseline: {folder}")


@app.command("report")
@options.grouped
def write_report(
    run: _RUN,
    output: Annotated[Path, option("--output", "The HTML file to write.", "FILE", short="-o")],
    against: Annotated[Path | None, option("--against", "A run to compare with.", "RUN")] = None,
    suite: _SUITE = None,
    house: options.House = None,
) -> int:
    """Write the report of a run: one self-contained HTML file."""
    from synopsis_writer.evals.report import render_report
    from synopsis_writer.evals.results import ALL_METRICS, compare_groups, compare_runs
    from synopsis_writer.storage.files import write_file

    results = _opened(run, suite, house)
    comparisons = compare_groups(results)
    if against:
        comparisons += compare_runs(_opened(against, suite, house), results)
    page = render_report(
        results.info, results.groups, results.scored, results.suite.cases, ALL_METRICS, comparisons
    )
    write_file(output, page, output=True)
    status(f"written: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    return _completeness(results)


@app.command("export")
@options.grouped
def export_run(
    run: _RUN,
    output: Annotated[
        Path,
        option("--output", "The file to write; for inspect, the folder of its logs.", "PATH", short="-o"),
    ],
    export_format: Annotated[
        Literal["jsonl", "csv", "junit", "inspect"], option("--format", "What to write.")
    ],
    suite: _SUITE = None,
    house: options.House = None,
) -> int:
    """Write a run's rows and scores for other programs."""
    from synopsis_writer.evals.export import as_csv, as_jsonl, as_junit, write_inspect_logs
    from synopsis_writer.storage.files import write_file

    results = _opened(run, suite, house)
    exported = (results.info, results.scored, results.suite.cases)
    match export_format:
        case "jsonl":
            write_file(output, "".join(as_jsonl(*exported)), output=True)
        case "csv":
            write_file(output, "".join(as_csv(*exported)), output=True)
        case "junit":
            write_file(output, as_junit(*exported), output=True)
        case "inspect":
            write_inspect_logs(*exported, output)
    status(f"written: {output}")
    return _completeness(results)


@app.command("judge-check")
@options.grouped
def judge_check(
    *,
    judge: Annotated[str, option("--judge", "The judge to try.", "MODEL")],
    suite: Annotated[
        Path | None, option("--suite", "Whose references are corrupted.  [default: evals/suite.yaml]", "PATH")
    ] = None,
    cases: _Cases = None,
    concurrency: _Concurrency = 4,
    seed: Annotated[int, option("--seed", "Seed of the corruptions.", "N", min=0)] = 0,
    house: options.House = None,
    server: options.ServerFlags,
    costs: options.BudgetFlags,
    _output: options.OutputFlags,
) -> None:
    """Measure a judge: how often it prefers a reference to the same text corrupted, in both orders.

    Results so far and their cost are printed after an error, too.
    """
    import asyncio

    from synopsis_writer.evals.judge import open_judge
    from synopsis_writer.evals.judge_check import CORRUPTIONS, Tally, check_judge, table, totals
    from synopsis_writer.models.base import bill

    check_names({"--judge": [judge]})
    settings = options.settings_from(server, costs, house=house)
    chosen = loaded_suite(suite).select(cases or [])

    tallies: list[Tally] = []

    async def measure() -> None:
        async with open_judge(judge, settings, os.environ) as asked:
            try:
                await check_judge(asked, chosen, CORRUPTIONS, seed, concurrency=concurrency, results=tallies)
            finally:
                if tallies:
                    print_result(table(totals(CORRUPTIONS, tallies)))
                status(bill(asked.answers))

    asyncio.run(measure())


def _opened(run: Path, suite: Path | None, house: Path | None) -> "EvalResults":
    from synopsis_writer.evals.results import open_results
    from synopsis_writer.workspace import open_workspace

    return open_results(run, loaded_suite(suite), open_workspace(options.settings_from(house=house)))


def _completeness(run: "EvalResults") -> int:
    """Report what is missing; an incomplete run exits 4, so that no script takes it for a complete one."""
    problems = run.incomplete()
    for problem in problems:
        print_error(f"{run.folder}: {problem}")
    return BELOW if problems else 0


def check_names(flags: "Mapping[str, Sequence[str | Path | None] | None]") -> None:
    """Refuse names that are empty, or that no file could hold."""
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
    from synopsis_writer.evals.results import ALL_METRICS
    from synopsis_writer.evals.suite import default_suite, load_suite

    return load_suite(path or default_suite(), ALL_METRICS)
