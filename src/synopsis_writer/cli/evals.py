"""The command group eval."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_error, print_json, print_result, status, warn
from synopsis_writer.cli.options import option
from synopsis_writer.errors import InputError, ModelError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synopsis_writer.evals.ratings import Pair, Rater
    from synopsis_writer.evals.results import EvalResults
    from synopsis_writer.evals.suite import LoadedSuite
    from synopsis_writer.synopsis import Synopsis

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
    list[str] | None, option("--cases", "Ids, forms, splits, or groups of the suite; repeatable.", "GLOB")
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
    judge: Annotated[
        list[str] | None,
        option("--judge", "A model that judges the texts; repeatable: a jury.", "MODEL"),
    ] = None,
    votes: Annotated[
        int, option("--votes", "How often each judge judges a text; the mean counts.", "N", min=1, max=100)
    ] = 1,
    server: options.ServerFlags,
    house: options.House = None,
    examples: options.Examples = None,
    profile: options.Profile = None,
    answer: options.AnswerFlags,
    limits: options.LimitFlags,
    reviewing: options.ReviewFlags,
    responses: options.Responses = None,
    no_log: options.NoLog = False,
    json: options.Json = False,
    _output: options.OutputFlags,
) -> int:
    """Write every case with every model and prompt version, score the texts, and check the thresholds.

    Exits 4 when rows failed, a threshold is missed, or a baseline is significantly better.
    """
    import asyncio

    from synopsis_writer.cli.console import Progress
    from synopsis_writer.evals.results import find_problems
    from synopsis_writer.evals.run import EvalRun
    from synopsis_writer.writer import Writer

    if out is None:
        raise SettingsError("no folder for the run: name one with --out; the same command continues it")
    check_names({"--out": [out], "--model": model, "--prompt": prompt, "--judge": judge})
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
            judges=judge or (),
        )
        with run:
            made = sum(row.outcome != "failed" for row in run.rows)
            with Progress(run.info.planned, made) as progress:
                asyncio.run(run.write(lambda row: progress.add(row.outcome, row.usage, row.cost)))
            asyncio.run(run.judge(votes))
            results = run.results()
    problems = find_problems(results, writer.workspace)
    _print_groups(results, problems, json)
    for problem in problems:
        print_error(problem)
    return BELOW if problems else 0


@app.command("init")
@options.grouped
def init_suite(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to make it, such as evals.")],
    json: options.Json = False,
) -> None:
    """Make a suite of your own: a commented suite.yaml, and one case as an example."""
    from synopsis_writer.evals.suite import make_suite

    written = make_suite(folder)
    for path in written:
        status(f"written: {path}")
    if json:
        print_json({"written": [str(path) for path in written]})


@app.command("list")
@options.grouped
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the runs are.")] = Path("runs"),
    suite: _SUITE = None,
    house: options.House = None,
    json: options.Json = False,
) -> None:
    """List the runs in a folder, the newest first: date, model, prompt, accepted texts, verdict."""
    from synopsis_writer.errors import FileError
    from synopsis_writer.evals.record import RUN_FILE
    from synopsis_writer.evals.report import format_time
    from synopsis_writer.evals.results import list_data, open_results
    from synopsis_writer.workspace import open_workspace

    if not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder: name one that holds the folders of runs")
    loaded, workspace = loaded_suite(suite), open_workspace(options.settings_from(house=house))
    listed: list[dict[str, Any]] = []
    for path in sorted(each.parent for each in (*folder.glob(f"*/{RUN_FILE}"), *folder.glob(RUN_FILE))):
        try:
            listed += list_data(open_results(path, loaded, workspace), workspace)
        except FileError as error:
            warn(str(error))
    listed.sort(key=lambda each: str(each["created"]), reverse=True)
    if json:
        print_json({"runs": listed})
    for each in () if json else listed:
        name = f"{each['model']} · {each['prompt']}"
        score = f"{each['accepted']} of {each['rows']} accepted"
        print_result(f"{format_time(each['created'])}  {each['run']}  {name}  {score}  {each['verdict']}")
    if not listed:
        status(f"{folder} holds no run: synopsis eval run --out {folder}/first")


@app.command("score")
@options.grouped
def score_run(
    run: _RUN, suite: _SUITE = None, house: options.House = None, json: options.Json = False
) -> int:
    """Recompute all metrics of a run, without asking a model, and print the table."""
    from synopsis_writer.evals.record import read_info
    from synopsis_writer.evals.results import forget_scores

    read_info(run)  # nothing is removed from a folder that holds no run
    forget_scores(run)
    results = _opened(run, suite, house)
    _print_groups(results, results.incomplete(), json)
    return _completeness(results)


@app.command("compare")
@options.grouped
def compare_runs(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder: the baseline.")],
    second: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="The run to compare with it; without it A's parts.")
    ] = None,
    suite: _SUITE = None,
    house: options.House = None,
    json: options.Json = False,
) -> int:
    """Compare run B with run A, case by case: differences, intervals, and a verdict where significant.

    Of one run alone its models, prompt versions or samples are compared with the first one.
    """
    from synopsis_writer.evals.report import comparisons_table
    from synopsis_writer.evals.results import compare_groups, comparisons_data
    from synopsis_writer.evals.results import compare_runs as compare

    a, *others = runs = [_opened(each, suite, house) for each in (first, second) if each is not None]
    comparisons = compare(a, others[0]) if others else compare_groups(a)
    if not any(comparison.differences for comparison in comparisons):
        raise SettingsError(
            f"{first} and {second} have no model, kind of text or case in common: name others"
            if second
            else f"{first}: has one model, one version of the prompts and one sample: name a second run"
        )
    if json:
        print_json(comparisons_data(comparisons))
    else:
        print_result(comparisons_table(comparisons))
    return max(map(_completeness, runs))


@app.command("rate")
@options.grouped
def rate_run(
    run: _RUN,
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="A run to compare with; without it RUN's parts.")
    ] = None,
    rater: Annotated[
        str | None, option("--rater", "Who rates.  [default: the name you are logged in with]", "NAME")
    ] = None,
    suite: _SUITE = None,
    house: options.House = None,
    page: Annotated[bool, option("--page", "Rate in the browser, on the editor's page.")] = False,
    json: options.Json = False,
) -> int:
    """Say which of two texts is better, pair by pair, without knowing where they come from.

    Each answer is saved in RUN at once; the same command goes on where it ended. With --json nothing is
    asked: what has been rated is printed.
    """
    from synopsis_writer.evals.ratings import Rater
    from synopsis_writer.evals.results import parts_between, parts_within, ratings_data

    is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if not json and not page and not is_terminal:
        hint = "run it in one, or take --page, or --json for what has been rated"
        raise InputError(f"rating needs a terminal: {hint}")
    a, *others = runs = [_opened(each, suite, house) for each in (run, other) if each is not None]
    parts = parts_between(a, others[0]) if others else parts_within(a)
    pairs = [(first.rows, second.rows) for first, second in parts]
    named = Rater(run, _user() if rater is None else rater, pairs, a.suite.cases)
    if not named.pairs:
        raise SettingsError(f"{run}: has no two texts of one case to compare: name another run, too")
    if json:
        print_json(ratings_data(named, runs))
        return 0
    if page:
        from urllib.parse import urlencode

        from synopsis_writer.cli.page import open_page

        asked = {"rate": run, "other": other or "", "rater": named.name, "suite": suite or ""}
        return open_page(options.settings_from(house=house), fragment=f"#{urlencode(asked)}")
    _rate(named)
    status(f"{named.done} of {len(named.pairs)} pairs rated by {named.name}; saved in {run}")
    if a.judgements.jury:
        status(f"the judge {_opened(run, suite, house).judge}")
    return 0


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise SettingsError("nobody is logged in: name the rater with --rater") from error


def _rate(rater: "Rater") -> None:
    """Show each pair that is not rated yet, until all are or the person stops."""
    while pair := rater.next():
        print_result(f"\n{rater.done + 1} of {len(rater.pairs)}\n{_pair_text(pair)}")
        key = ""
        while key not in {"0", "1", "2", "q"}:
            print_result("1 the first · 2 the second · 0 neither · r the reference · q stop")
            try:
                key = typer.getchar()
            except EOFError:
                key = "q"
            if key == "r":
                print_result(_shown("Reference", pair.case.reference))
        if key == "q":
            return
        rater.rate(pair.id, 1 if key == "1" else 2 if key == "2" else 0)


def _pair_text(pair: "Pair") -> str:
    brief = pair.case.brief
    texts = [
        _shown(f"── {number} ──", row.synopsis) for number, row in enumerate((pair.first, pair.second), 1)
    ]
    return "\n".join((f"{brief.show} · {brief.form} · {brief.theme}", *texts))


def _shown(heading: str, synopsis: "Synopsis | None") -> str:
    import shutil
    import textwrap

    width = min(100, shutil.get_terminal_size().columns - 1)
    lines = (synopsis.title, synopsis.logline, *synopsis.text.split("\n\n")) if synopsis else ()
    return "\n\n".join([f"\n{heading}", *(textwrap.fill(line, max(20, width)) for line in lines)])


@app.command("bless")
@options.grouped
def bless_run(
    run: _RUN,
    prompt: Annotated[
        str | None, option("--prompt", "The version that counts, where the run has several.", "NAME")
    ] = None,
    suite: _SUITE = None,
    house: options.House = None,
    json: options.Json = False,
) -> None:
    """Make a run the baseline of its models: later runs are compared with it."""
    from synopsis_writer.evals.results import bless
    from synopsis_writer.evals.suite import OWN_SUITE

    if suite is None and not OWN_SUITE.is_file():
        raise SettingsError(
            "the suite is the program's, where no baseline can stay: name a suite of your own with --suite"
        )
    folders = bless(_opened(run, suite, house), prompt)
    for folder in folders:
        status(f"baseline: {folder}")
    if json:
        print_json({"baselines": [str(folder) for folder in folders]})


@app.command("report")
@options.grouped
def write_report(
    run: _RUN,
    output: Annotated[Path, option("--output", "The HTML file to write.", "FILE", short="-o")],
    against: Annotated[Path | None, option("--against", "A run to compare with.", "RUN")] = None,
    suite: _SUITE = None,
    house: options.House = None,
    json: options.Json = False,
) -> int:
    """Write the report of a run: one self-contained HTML file."""
    from synopsis_writer.evals.report import render_report
    from synopsis_writer.evals.results import compare_groups, compare_runs, find_problems
    from synopsis_writer.storage.files import write_file
    from synopsis_writer.workspace import open_workspace

    results = _opened(run, suite, house)
    other = _opened(against, suite, house) if against else None
    comparisons = [*compare_groups(results), *(compare_runs(other, results) if other else ())]
    problems = find_problems(results, open_workspace(options.settings_from(house=house)))
    page = render_report(results, comparisons, problems, other)
    write_file(output, page, output=True)
    status(f"written: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    if json:
        print_json({"written": str(output), "problems": results.incomplete()})
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
    json: options.Json = False,
) -> int:
    """Write a run's rows and scores for other programs."""
    from synopsis_writer.evals.export import as_csv, as_jsonl, as_junit, write_inspect_logs
    from synopsis_writer.storage.files import write_file

    results = _opened(run, suite, house)
    match export_format:
        case "jsonl":
            write_file(output, "".join(as_jsonl(results)), output=True)
        case "csv":
            write_file(output, "".join(as_csv(results)), output=True)
        case "junit":
            write_file(output, as_junit(results), output=True)
        case "inspect":
            write_inspect_logs(results, output)
    status(f"written: {output}")
    if json:
        print_json({"written": str(output), "problems": results.incomplete()})
    return _completeness(results)


@app.command("judge-check")
@options.grouped
def judge_check(
    *,
    judge: Annotated[list[str], option("--judge", "The judge to try; repeatable.", "MODEL")],
    suite: Annotated[
        Path | None, option("--suite", "Whose references are corrupted.  [default: evals/suite.yaml]", "PATH")
    ] = None,
    cases: _Cases = None,
    concurrency: _Concurrency = 4,
    rated: Annotated[
        list[Path] | None,
        option("--rated", "A run whose pairs people have rated: the judge compares them, too.", "RUN"),
    ] = None,
    seed: Annotated[int, option("--seed", "Seed of the corruptions.", "N", min=0)] = 0,
    house: options.House = None,
    server: options.ServerFlags,
    costs: options.BudgetFlags,
    json: options.Json = False,
    _output: options.OutputFlags,
) -> None:
    """Measure a judge: how often it prefers a reference to the same text corrupted, in both orders.

    With --rated also how often it prefers what people preferred. Under 70 % it is marked as untrusted.
    Results so far and their cost are printed after an error, too.
    """
    import asyncio
    from collections import Counter

    from synopsis_writer.evals.judge import open_judge
    from synopsis_writer.evals.judge_check import CORRUPTIONS, Outcomes, check_data, check_judge, check_table
    from synopsis_writer.evals.ratings import rated_texts
    from synopsis_writer.models.base import bill, bill_data

    check_names({"--judge": judge})
    settings = options.settings_from(server, costs, house=house)
    chosen = loaded_suite(suite).select(cases or [])
    runs = [_opened(each, suite, house) for each in rated or ()]
    ratings = {key: better for run in runs for key, better in run.ratings.items()}
    pairs = rated_texts(ratings, [each.row for run in runs for each in run.scored], loaded_suite(suite).cases)
    if rated and not pairs:
        raise SettingsError(f"{rated[0]}: nobody has preferred a text there: synopsis eval rate {rated[0]}")
    checked: list[dict[str, Any]] = []

    async def measure() -> None:
        for model in judge:
            outcomes: Outcomes = Counter()
            async with open_judge(model, settings, os.environ) as asked:
                try:
                    await check_judge(
                        asked, chosen, CORRUPTIONS, seed, outcomes, concurrency=concurrency, rated=pairs
                    )
                finally:
                    if outcomes and not json:
                        print_result(check_table(model, outcomes))
                    checked.append({**check_data(model, outcomes), **bill_data(asked.answers)})
                    status(f"{model}: {bill(asked.answers)}" if len(judge) > 1 else bill(asked.answers))

    try:
        asyncio.run(measure())
    finally:
        if json and checked:
            print_json({"judges": checked})


def _print_groups(results: "EvalResults", problems: "Sequence[str]", as_json: bool) -> None:
    from synopsis_writer.evals.report import groups_table
    from synopsis_writer.evals.results import results_data

    if as_json:
        print_json({**results_data(results), "problems": list(problems)})
    else:
        print_result(groups_table(results))


@app.command("review-check")
@options.grouped
def review_check(
    *,
    half: Annotated[
        Literal["tuning", "held-out", "both"], option("--half", "The texts: limits were tuned on one half.")
    ] = "both",
    review_model: Annotated[
        str | None,
        option("--review-model", "A model to measure, too; without one only the check of code is.", "MODEL"),
    ] = None,
    concurrency: _Concurrency = 4,
    house: options.House = None,
    server: options.ServerFlags,
    costs: options.BudgetFlags,
    responses: options.Responses = None,
    json: options.Json = False,
    _output: options.OutputFlags,
) -> int:
    """Measure the copy desk on 40 texts, and on 96 copies with one planted slip each, of twelve kinds.

    Recall is the share of slips whose sentence is marked. Exits 3 when texts could not be reviewed. Results
    so far are printed after an error, too.
    """
    import asyncio

    from synopsis_writer.evals.review_check import HALVES, Reading, check_review, summary, table
    from synopsis_writer.models.base import bill, bill_data
    from synopsis_writer.writer import Writer

    check_names({"--review-model": [review_model]})
    named = {"house": house, "responses": responses, "review_model": review_model}
    settings = options.settings_from(server, costs, **named)
    halves = [each for each in HALVES if half in {each, "both"}]
    readings: list[Reading] = []
    writer = Writer(settings, log=False)

    async def measure() -> None:
        async with writer:
            asked = review_model is not None
            await check_review(writer, halves, review=asked, concurrency=concurrency, results=readings)

    try:
        asyncio.run(measure())
    finally:
        rows, answers = summary(readings, halves), [answer for each in readings for answer in each.answers]
        if rows and json:
            print_json({"results": rows, **({"review": bill_data(answers)} if answers else {})})
        elif rows:
            print_result(table(rows))
        if answers:
            status(bill(answers, len(answers)))
    return ModelError.exit_code if any(row["unread"] for row in rows) else 0


def _opened(run: Path, suite: Path | None, house: Path | None) -> "EvalResults":
    from synopsis_writer.evals.results import open_results
    from synopsis_writer.workspace import open_workspace

    results = open_results(run, loaded_suite(suite), open_workspace(options.settings_from(house=house)))
    if results.judgements.jury and results.trust.is_untrusted:
        warn(f"{run}: the judge {results.judge}")
    return results


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
