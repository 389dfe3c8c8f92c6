"""`synopsis eval`: what a run came to: scores, comparisons, baselines, reports and exports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synopsis_writer.cli.console import complain, give, say
from synopsis_writer.cli.evaluation_judge import judge_check
from synopsis_writer.cli.evaluation_run import BELOW, loaded_suite, run_eval
from synopsis_writer.errors import SettingsError
from synopsis_writer.kinds import ExportFormat

if TYPE_CHECKING:
    from synopsis_writer.evaluation.opened import OpenedRun

app = typer.Typer(
    help="Eval runs against references: know whether a prompt or a model got better.", no_args_is_help=True
)
_RUN = Annotated[Path, typer.Argument(metavar="RUN", help="A folder that 'synopsis eval run' wrote.")]
_SUITE = Annotated[
    Path | None,
    typer.Option("--suite", help="The suite the run was made with.  [default: evals/suite.yaml]"),
]

app.command("run")(run_eval)


@app.command("score")
def score_run(run: _RUN, suite: _SUITE = None) -> int:
    """Compute all metrics of a run anew, without asking a model, and print the table."""
    from synopsis_writer.evaluation.record import read_info
    from synopsis_writer.evaluation.scoring import ALL_METRICS, forget_scores
    from synopsis_writer.evaluation.table import groups_table

    read_info(run)  # nothing is removed from a folder that holds no run
    forget_scores(run)
    found = _opened(run, suite)
    give(groups_table(found.groups, ALL_METRICS, found.judged.name))
    return _completeness(found)


@app.command("compare")
def compare_runs(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder: the one to hold against.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="A run's folder: the one that is judged.")],
    suite: _SUITE = None,
) -> int:
    """Hold run B against run A, case by case: differences, intervals, and a verdict where one is shown."""
    from synopsis_writer.evaluation.contests import between
    from synopsis_writer.evaluation.table import contests_table

    a, b = _opened(first, suite), _opened(second, suite)
    contests = between(a, b)
    if not any(contest.differences for contest in contests):
        raise SettingsError(
            f"{first} and {second} have no model, kind of text or case in common: name others"
        )
    give(contests_table(contests))
    return max(_completeness(a), _completeness(b))


@app.command("bless")
def bless_run(
    run: _RUN,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="The version that counts, where the run has several.")
    ] = None,
    suite: _SUITE = None,
) -> None:
    """Make a run the baseline of its models: later runs are compared with it."""
    from synopsis_writer.evaluation.opened import bless
    from synopsis_writer.evaluation.suite import OWN_SUITE

    if suite is None and not OWN_SUITE.is_file():
        raise SettingsError(
            "the suite is the program's, where no baseline can stay: name a suite of your own with --suite"
        )
    for folder in bless(_opened(run, suite), prompt):
        say(f"baseline: {folder}")


@app.command("report")
def write_report(
    run: _RUN,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="A run to compare with.")
    ] = None,
    suite: _SUITE = None,
) -> int:
    """Write the report of a run: one HTML file that needs nothing besides."""
    from synopsis_writer.evaluation.contests import between, within
    from synopsis_writer.evaluation.report import render_report
    from synopsis_writer.evaluation.scoring import ALL_METRICS
    from synopsis_writer.store import write_file

    found = _opened(run, suite)
    contests = within(found) + (between(_opened(against, suite), found) if against else [])
    page = render_report(found.info, found.groups, found.scored, found.suite.cases, ALL_METRICS, contests)
    write_file(output, page)
    say(f"written: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    return _completeness(found)


@app.command("export")
def export_run(
    run: _RUN,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; for inspect, the folder of its logs.")
    ],
    export_format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")],
    suite: _SUITE = None,
) -> int:
    """Write a run's rows and scores for other programs."""
    from synopsis_writer.evaluation.export import as_csv, as_jsonl
    from synopsis_writer.evaluation.inspect_log import write_inspect_logs
    from synopsis_writer.evaluation.junit import as_junit
    from synopsis_writer.store import write_file

    found = _opened(run, suite)
    told = (found.info, found.scored, found.suite.cases)
    match export_format:
        case ExportFormat.JSONL:
            write_file(output, "".join(as_jsonl(*told)))
        case ExportFormat.CSV:
            write_file(output, "".join(as_csv(*told)))
        case ExportFormat.JUNIT:
            write_file(output, as_junit(*told))
        case ExportFormat.INSPECT:
            write_inspect_logs(*told, output)
    say(f"written: {output}")
    return _completeness(found)


app.command("judge-check")(judge_check)


def _opened(run: Path, suite: Path | None) -> "OpenedRun":
    from synopsis_writer.evaluation.opened import open_run
    from synopsis_writer.settings import load_settings

    return open_run(run, loaded_suite(suite), load_settings({}), say)


def _completeness(run: "OpenedRun") -> int:
    """Say what is missing; an incomplete run exits 4, so that no script takes it for a whole one."""
    from synopsis_writer.evaluation.verdict import incompleteness

    problems = incompleteness(run)
    for problem in problems:
        complain(f"{run.folder}: {problem}")
    return BELOW if problems else 0
