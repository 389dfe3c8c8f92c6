"""The command group eval."""

import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from synopsis_writer.cli import console, lazily, options
from synopsis_writer.cli import write as writing
from synopsis_writer.cli.console import Output, print_json, print_result, status, warn
from synopsis_writer.cli.options import argument, number, option, switch
from synopsis_writer.errors import FileError, InputError, ModelError, SettingsError

with lazily():
    import asyncio
    import getpass
    from urllib import parse

    from synopsis_writer import synopsis, workspace
    from synopsis_writer import writer as writers
    from synopsis_writer.evals import checks, metrics, record, report
    from synopsis_writer.evals import judge as judging
    from synopsis_writer.evals import results as scored
    from synopsis_writer.evals import run as running
    from synopsis_writer.evals import suite as suites
    from synopsis_writer.models import base
    from synopsis_writer.storage import files

app = typer.Typer(
    help="Eval runs against references: know whether a prompt or a model got better.", no_args_is_help=True
)

BELOW = 4  # the exit code of an eval that is incomplete, misses a threshold, or is worse than its baseline
_RUN = argument("A folder that 'synopsis eval run' wrote.", "RUN")


def _name(flag: typer.CallbackParam, value: Any) -> Any:
    """Refuse names that are empty, or that no file could hold."""
    for name in map(str, value if isinstance(value, list) else [value]):
        if not name.strip():
            raise SettingsError(f"{flag.opts[0]} is empty: give it a name")
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise SettingsError(f"{flag.opts[0]} {name!a}: is not UTF-8: give it another name") from error
    return value


_CASES = option("Ids, forms, splits, or groups of the suite; repeatable.", "GLOB", default=[])
_CONCURRENCY = number("Texts side by side, on a server.", default=4, min=1, max=256)


@dataclass(frozen=True)
class _SuiteFlags:
    suite: Path | None = option("The suite of cases.  [default: evals/suite.yaml]", "PATH")
    house: Path | None = options.HOUSE

    def workspace(self) -> "workspace.Workspace":
        return workspace.open_workspace(options.settings_from(house=self.house))

    def open(self, run: Path, *, again: bool = False) -> "scored.EvalResults":
        """Read a run and score it, what is scored already only if `again`."""
        results = scored.open_results(run, _load(self.suite), self.workspace(), again=again)
        if results.judgements.jury and results.trust.is_untrusted:
            warn(f"{run}: the judge {results.judge}")
        return results


@dataclass(frozen=True)
class _TextFlags(
    options.OutputFlags, options.ReviewFlags, options.LimitFlags, options.AnswerFlags, options.ServerFlags
):
    house: Path | None = options.HOUSE
    examples: Path | None = options.EXAMPLES
    profile: Path | None = options.PROFILE
    responses: options.CacheUse | None = options.CACHE


@dataclass(frozen=True)
class _RunFlags:
    """What a run consists of, named as the parameters of `EvalRun`."""

    models: list[str] = option("A model to try; repeatable.", "MODEL", "--model", default=[], callback=_name)
    prompts: list[Path] = option("A folder of templates; repeatable.", "FOLDER", "--prompt", default=[], callback=_name)
    repeats: int = number("Answers per case.", default=1, min=1, max=100)
    cases: list[str] = _CASES
    concurrency: int = _CONCURRENCY
    judges: list[str] = option(
        "A judge of the texts; repeatable: a jury.", "MODEL", "--judge", default=[], callback=_name
    )


@dataclass(frozen=True)
class _MeasureFlags(options.OutputFlags, options.BudgetFlags, options.ServerFlags):
    concurrency: int = _CONCURRENCY


@app.command("run")
def run_eval(
    *,
    suite: Path | None = argument("A suite.yaml, or the folder that holds one.", "[SUITE]", None),
    out: Path | None = option("The run's folder; run the same command again to continue it.", "FOLDER", callback=_name),
    work: _RunFlags,
    votes: int = number("How often each judge judges a text; the mean counts.", default=1, min=1, max=100),
    flags: _TextFlags,
    no_log: bool = options.NO_LOG,
) -> Output:
    """Write every case with every model and prompt version, score the texts, and check the thresholds.

    Exits 4 when rows failed, a threshold is missed, or a baseline is significantly better.
    """
    if out is None:
        raise SettingsError("no folder for the run: name one with --out; the same command continues it")
    review = bool(flags.review or flags.review_model)  # the settings do not count here
    settings = options.settings_from(flags, review=review)
    loaded = _load(suite)
    with writers.Writer(settings, log=not no_log) as writer:
        with running.EvalRun(writer, loaded, out, **vars(work)) as run:
            made = sum(row.outcome != "failed" for row in run.rows)
            with console.Progress(run.info.planned, made) as progress:
                asyncio.run(run.write(lambda row: progress.add(row.outcome, row.usage, row.cost)))
            asyncio.run(run.judge(votes))
            results = run.results()
        problems = scored.find_problems(results, writer.workspace)
    data = {**scored.results_data(results), "problems": problems}
    return Output(data, [report.groups_table(results)], problems, BELOW if problems else 0)


@app.command("init")
def init_suite(folder: Path = argument("Where to make it, such as evals.", "FOLDER")) -> Output:
    """Make a suite of your own: a commented suite.yaml, and one case as an example."""
    return console.written(suites.make_suite(folder))


@app.command("list")
def list_runs(folder: Path = argument("Where the runs are.", "[FOLDER]", Path("runs")), *, at: _SuiteFlags) -> Output:
    """List the runs in a folder, the newest first: date, model, prompt, accepted texts, verdict."""
    if not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder: name one that holds the folders of runs")
    loaded, workspace = _load(at.suite), at.workspace()
    listed: list[dict[str, Any]] = []
    for path in sorted(each.parent for each in (*folder.glob(f"*/{record.RUN_FILE}"), *folder.glob(record.RUN_FILE))):
        try:
            listed += scored.list_data(scored.open_results(path, loaded, workspace), workspace)
        except FileError as error:
            warn(str(error))
    listed.sort(key=lambda each: str(each["created"]), reverse=True)
    lines = (
        f"{report.format_time(each['created'])}  {each['run']}  {each['model']} · {each['prompt']}  "
        f"{each['accepted']} of {each['rows']} accepted  {each['verdict']}"
        for each in listed
    )
    if not listed:
        status(f"{folder} holds no run: synopsis eval run --out {folder}/first")
    return Output({"runs": listed}, lines)


@app.command("score")
def score_run(run: Path = _RUN, *, at: _SuiteFlags) -> Output:
    """Recompute all metrics of a run, without asking a model, and print the table."""
    results = at.open(run, again=True)
    data = {**scored.results_data(results), "problems": results.incomplete()}
    return _output(data, [report.groups_table(results)], results)


@app.command("compare")
def compare_results(
    first: Path = argument("A run's folder: the baseline.", "A"),
    second: Path | None = argument("The run to compare with it; without it A's parts.", "[B]", None),
    *,
    at: _SuiteFlags,
) -> Output:
    """Compare run B with run A, case by case: differences, intervals, and a verdict where significant.

    Of one run alone its models, prompt versions or samples are compared with the first one.
    """
    runs = [at.open(each) for each in (first, second) if each is not None]
    comparisons = scored.compare_runs(*runs)
    if not any(comparison.differences for comparison in comparisons):
        raise SettingsError(
            f"{first} and {second} have no model, kind of text or case in common: name others"
            if second
            else f"{first}: has one model, one version of the prompts and one sample: name a second run"
        )
    data = {"comparisons": [asdict(comparison) for comparison in comparisons]}
    return _output(data, [report.comparisons_table(comparisons)], *runs)


@app.command("rate")
def rate_run(
    run: Path = _RUN,
    other: Path | None = argument("A run to compare with; without it RUN's parts.", "[OTHER]", None),
    *,
    rater: str | None = option("Who rates.  [default: the name you are logged in with]", "NAME"),
    at: _SuiteFlags,
    page: bool = switch("Rate in the browser, on the editor's page."),
    json: bool = options.JSON,
) -> int:
    """Say which of two texts is better, pair by pair, without knowing where they come from.

    Each answer is saved in RUN at once; the same command goes on where it ended. With --json nothing is
    asked: what has been rated is printed.
    """
    is_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    if not (json or page or is_terminal):
        hint = "run it in one, or take --page, or --json for what has been rated"
        raise InputError(f"rating needs a terminal: {hint}")
    a, *_ = runs = [at.open(each) for each in (run, other) if each is not None]
    pairs = [(first.rows, second.rows) for first, second in scored.pair_parts(*runs)]
    try:
        name = getpass.getuser() if rater is None else rater
    except (OSError, KeyError, ImportError) as error:
        raise SettingsError("nobody is logged in: name the rater with --rater") from error
    named = judging.Rater(run, name, pairs, a.suite.cases)
    if not named.pairs:
        raise SettingsError(f"{run}: has no two texts of one case to compare: name another run, too")
    if json:
        print_json(scored.ratings_data(named, runs))
        return 0
    if page:
        asked = {"rate": run, "other": other or "", "rater": named.name, "suite": at.suite or ""}
        return writing.open_page(options.settings_from(house=at.house), fragment=f"#{parse.urlencode(asked)}")
    _rate(named)
    status(f"{named.done} of {len(named.pairs)} pairs rated by {named.name}; saved in {run}")
    if a.judgements.jury:
        status(f"the judge {at.open(run).judge}")
    return 0


def _rate(rater: "judging.Rater") -> None:
    while pair := rater.next():
        brief = pair.case.brief
        print_result(
            f"\n{rater.done + 1} of {len(rater.pairs)}\n{brief.show} · {brief.form} · {brief.theme}",
            _shown("── 1 ──", pair.first.synopsis),
            _shown("── 2 ──", pair.second.synopsis),
        )
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


def _shown(heading: str, text: "synopsis.Synopsis | None") -> str:
    width = max(20, min(100, shutil.get_terminal_size().columns - 1))
    lines = (text.title, text.logline, *text.text.split("\n\n")) if text else ()
    return "\n\n".join([f"\n{heading}", *(textwrap.fill(line, width) for line in lines)])


@app.command("bless")
def bless_run(
    run: Path = _RUN,
    *,
    prompt: str | None = option("The version that counts, where the run has several.", "NAME"),
    at: _SuiteFlags,
) -> Output:
    """Make a run the baseline of its models: later runs are compared with it."""
    if at.suite is None and not suites.OWN_SUITE.is_file():
        raise SettingsError(
            "the suite is the program's, where no baseline can stay: name a suite of your own with --suite"
        )
    folders = scored.bless(at.open(run), prompt)
    for folder in folders:
        status(f"baseline: {folder}")
    return Output({"baselines": [str(folder) for folder in folders]})


@app.command("report")
def write_report(
    run: Path = _RUN,
    *,
    output: Path = option("The HTML file to write.", "FILE", "-o", default=...),
    against: Path | None = option("A run to compare with.", "RUN"),
    at: _SuiteFlags,
) -> Output:
    """Write the report of a run: one self-contained HTML file."""
    shown = at.open(run)
    other = at.open(against) if against else None
    comparisons = [*scored.compare_runs(shown), *(scored.compare_runs(other, shown) if other else ())]
    page = report.render_report(shown, comparisons, scored.find_problems(shown, at.workspace()), other)
    files.write_file(output, page, output=True)
    status(f"written: {output} ({len(page.encode()) / 1e6:.1f} MB)")
    return _output({"written": str(output), "problems": shown.incomplete()}, (), shown)


@app.command("export")
def export_run(
    run: Path = _RUN,
    *,
    output: Path = option("The file to write; for inspect, the folder of its logs.", "PATH", "-o", default=...),
    export_format: Literal["jsonl", "csv", "junit", "inspect"] = options.FORMAT,
    at: _SuiteFlags,
) -> Output:
    """Write a run's rows and scores for other programs."""
    results = at.open(run)
    if export_format == "inspect":
        report.write_inspect_logs(results, output)
    else:
        files.write_file(output, "".join(getattr(report, f"as_{export_format}")(results)), output=True)
    status(f"written: {output}")
    return _output({"written": str(output), "problems": results.incomplete()}, (), results)


@app.command("judge-check")
def judge_check(
    *,
    judge: list[str] = option("The judge to try; repeatable.", "MODEL", default=..., callback=_name),
    cases: list[str] = _CASES,
    rated: list[Path] = option("A run that people have rated; the judge rates it, too.", "RUN", default=[]),
    seed: int = number("Seed of the corruptions.", default=0, min=0),
    at: _SuiteFlags,
    flags: _MeasureFlags,
    json: bool = options.JSON,
) -> None:
    """Measure a judge: how often it prefers a reference to the same text corrupted, in both orders.

    With --rated also how often it prefers what people preferred. Under 70 % it is marked as untrusted.
    Results so far and their cost are printed after an error, too.
    """
    settings = options.settings_from(flags, house=at.house)
    suite = _load(at.suite)
    chosen, runs = suite.select(cases), [at.open(each) for each in rated]
    rated_pairs = {key: better for run in runs for key, better in run.ratings.items()}
    pairs = judging.rated_texts(rated_pairs, [each.row for run in runs for each in run.scored], suite.cases)
    if rated and not pairs:
        raise SettingsError(f"{rated[0]}: nobody has preferred a text there: synopsis eval rate {rated[0]}")
    checked: list[dict[str, Any]] = []

    async def measure(model: str) -> None:
        outcomes: checks.Outcomes = Counter()
        async with judging.open_judge(model, settings, os.environ) as asked:
            measured = asked, chosen, checks.CORRUPTIONS, seed, outcomes
            try:
                await checks.check_judge(*measured, concurrency=flags.concurrency, rated=pairs)
            finally:
                if outcomes and not json:
                    print_result(*console.table(checks.TALLY_HEADS, [*checks.tally_rows(outcomes)]))
                    print_result(*(f"{model}: {trust}" for trust in checks.trusts(outcomes)))
                checked.append({**checks.check_data(model, outcomes), **base.bill_data(asked.answers)})
                status(f"{model}: {base.bill(asked.answers)}" if len(judge) > 1 else base.bill(asked.answers))

    try:
        for model in judge:
            asyncio.run(measure(model))
    finally:
        if json and checked:
            print_json({"judges": checked})


@app.command("review-check")
def review_check(
    *,
    half: Literal["tuning", "held-out", "both"] = option("Which half of the texts.", default="both"),
    review_model: str | None = option(
        "A model to measure; without one, only the code's own check.", "MODEL", callback=_name
    ),
    house: Path | None = options.HOUSE,
    flags: _MeasureFlags,
    responses: options.CacheUse | None = options.CACHE,
    json: bool = options.JSON,
) -> int:
    """Measure the copy desk on 40 texts, and on 96 copies with one planted slip each, of twelve kinds.

    Recall is the share of slips whose sentence is marked. Exits 3 when texts could not be reviewed. Results
    so far are printed after an error, too.
    """
    settings = options.settings_from(flags, house=house, responses=responses, review_model=review_model)
    halves = [each for each in checks.HALVES if half in {each, "both"}]
    readings: list[checks.Reading] = []

    asked = review_model is not None
    try:
        with writers.Writer(settings, log=False) as writer:
            writer.run(
                checks.check_review(writer, halves, review=asked, concurrency=flags.concurrency, results=readings)
            )
    finally:
        rows = checks.review_summary(readings, halves)
        answers = [answer for each in readings for answer in each.answers]
        if rows:
            data = {"results": rows, **({"review": base.bill_data(answers)} if answers else {})}
            heads, *lines = checks.review_rows(rows)
            Output(data, console.table(heads, lines)).print(as_json=json)
        if answers:
            status(base.bill(answers, len(answers)))
    return ModelError.exit_code if any(row["unread"] for row in rows) else 0


def _output(data: dict[str, Any], lines: Sequence[str], *runs: "scored.EvalResults") -> Output:
    """Return the output for runs; an incomplete one exits 4, so that no script takes it for complete."""
    problems = [f"{run.folder}: {problem}" for run in runs for problem in run.incomplete()]
    return Output(data, lines, problems, BELOW if problems else 0)


def _load(path: Path | None) -> "suites.LoadedSuite":
    return suites.load_suite(path or suites.default_suite(), metrics.ALL_METRICS)
