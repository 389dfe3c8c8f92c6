"""An eval run for people and other programs: HTML report, tables, JSON lines, CSV, JUnit and Inspect logs."""

import base64
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from synopsis_writer.characters import count_of
from synopsis_writer.document import format_yaml
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.metrics import ALL_METRICS, JUDGE_METRICS, MIN_CASES, Comparison, Group, Interval, Scored
from synopsis_writer.evals.record import Key, Row, RunInfo, read_prompts
from synopsis_writer.evals.results import EvalResults
from synopsis_writer.evals.suite import Case, Metric
from synopsis_writer.formats.sheets import csv_record, xml_text
from synopsis_writer.log import word_diff
from synopsis_writer.storage.files import real_path, slug, temporary_folder
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Usage, format_cost, total_cost

_HERE = Path(__file__).parent
_NAME_WIDTH = 17  # letters of the longest metric's name, and a space
_MAX_ANSWER = 6000  # characters shown of an answer that has no structure; results.jsonl has the rest
_MAX_TEMPLATE = 20_000  # characters shown and compared of a template; prompts.json has the rest

_Texts = Mapping[str, str]  # of templates, by their paths
Passage = tuple[str, tuple[tuple[str, bool], ...]]  # storyline, and pieces that are highlighted or not


def render_report(
    run: EvalResults,
    comparisons: Sequence[Comparison] = (),
    problems: Sequence[str] | None = None,  # what the run misses, in sentences; None: it was not checked
    against: EvalResults | None = None,  # its groups are in the charts, and its prompts beside the run's
) -> str:
    """Return the report of a run as one HTML page; without its brief and reference where a case is gone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    times_and_sums = format_cost, format_duration, format_time, format_total
    formatters = (*times_and_sums, count_of, format_number, format_outcomes, highlight)
    environment.globals |= {function.__name__: function for function in formatters}
    info, groups, scored, cases = run.info, run.groups, run.scored, run.suite.cases
    used = {name for each in groups for name in each.metrics}
    shown = {name: metric for name, metric in ALL_METRICS.items() if name in used}
    charted = [(group.name, group) for group in groups]
    charted += [(f"{against.info.name}: {group.name}", group) for group in against.groups] if against else []
    sections = sorted(_sections(run), key=lambda section: section["trouble"], reverse=True)
    shares = [number / group.rows for group in groups if group.rows for number in group.findings.values()]
    style, script = ((_HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") for text in (style, script)
    )
    return environment.get_template("report.html.j2").render(
        # Both are files of this package: nothing of a row is ever in them, and the policy lets no other run.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'",
        info=info, groups=groups, metrics=shown, charted=charted, verdict=problems, sections=sections,
        comparisons=comparisons, judge=run.judge, max_answer=_MAX_ANSWER, fewest=MIN_CASES,
        people=Metric(1, "people: preferred to the other", "−1 to 1"),  # known only for pairs
        decimals={name: decimals(each.mean for group in groups if (each := group.metrics.get(name))) for name in shown},
        row_decimals={name: _row_decimals([each.scores.get(name) for each in scored]) for name in shown},
        bounds=_axes([group for _, group in charted], shown), prompts=list(_prompts(run, against)),
        major=("facts",),  # the column for which a phone has room
        most_findings=max(shares, default=1), rows=[each.row for each in scored],
        results=[result for section in sections for result in section["results"]],
        idle=sorted(set(info.cases) - {each.row.case for each in scored}),
        held_out=sum(case.id in info.cases and case.split == "held-out" for case in cases),
        demo=sum(group.rows for group in groups if group.is_demo), briefs={case.id: case.brief for case in cases},
    )  # fmt: skip


def _sections(run: EvalResults) -> Iterator[dict[str, Any]]:
    """Yield a section per case that has results, in the suite's order, then those the suite does not know."""
    known = {case.id: case for case in run.suite.cases}
    by_case: dict[str, list[dict[str, Any]]] = {name: [] for name in known}
    rows = ((each, group) for group in run.groups for each in run.rows_of(group))
    for number, (each, group) in enumerate(rows, 1):
        by_case.setdefault(each.row.case, []).append({"id": f"r{number}", "scored": each, "group": group})
    for number, (name, results) in enumerate(by_case.items(), 1):
        if results:
            outcomes = [each["scored"].row.outcome for each in results]
            trouble = [outcomes.count(outcome) / len(outcomes) for outcome in ("failed", "refused")]
            section = {"id": f"c{number}", "name": name, "case": known.get(name)}
            yield section | {"results": results, "trouble": trouble}


def _prompts(run: EvalResults, against: EvalResults | None) -> Iterator[dict[str, Any]]:
    """Yield each version: beside that of its name before, or each before; else beside the run's first one."""
    texts = saved = read_prompts(run.folder)
    label = ""
    if against is not None:
        saved, label = read_prompts(against.folder), f"{against.info.name}: "
    first = next(iter(run.info.prompts), "")
    for name in run.info.prompts:
        bases = [first] if name != first else [""]
        if against is not None:
            bases = [name] if name in against.info.prompts else [*against.info.prompts]
        for base in bases:
            shown = label + base if base else ""
            unsaved = [name] * (name not in texts) + [shown] * bool(base and base not in saved)
            files = list(_compared(texts[name], saved.get(base))) if name in texts else []
            yield {"name": name, "base": shown, "unsaved": " and ".join(unsaved), "files": files}


def _compared(new: _Texts, old: _Texts | None) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for name in {**new, **(old or {})}:
        after, earlier = (each.get(name, "").rstrip() for each in (new, new if old is None else old))
        status = "" if old is None else "unchanged" if after == earlier else "changed"
        if old is not None and (name in old) != (name in new):
            status = "removed" if name in old else "added"
        if max(len(after), len(earlier)) > _MAX_TEMPLATE:
            status = f"{status} (its first {_MAX_TEMPLATE:,} characters; prompts.json has all)".strip()
        after, earlier = after[:_MAX_TEMPLATE], earlier[:_MAX_TEMPLATE]
        yield name, status, [("=", after)] if after == earlier else list(word_diff(earlier, after))


def _row_decimals(values: Sequence[float | None]) -> int:
    """Return the decimals of a metric in single results: none where all are whole numbers."""
    return 0 if all(value is None or value.is_integer() for value in values) else decimals(values)


def _axes(groups: Sequence[Group], shown: Iterable[str]) -> dict[str, tuple[float, float] | None]:
    """Return the ends of each metric's chart, common to those of one range; None where no group has any."""
    kinds = {name: ALL_METRICS[name].range.replace("or", "to") or name for name in shown}
    scored = {name: [each for group in groups if (each := group.metrics.get(name))] for name in shown}
    values: defaultdict[str, list[float]] = defaultdict(list)
    for name, intervals in scored.items():
        values[kinds[name]] += chain.from_iterable((each.low, each.high) for each in intervals)
    ends: dict[str, tuple[float, float] | None] = dict.fromkeys(shown)
    for name in filter(scored.get, shown):
        low, high = min(values[kinds[name]]), max(values[kinds[name]])
        if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12):  # extended to zero, so that the size can be seen
            low, high = min(low, 0.0), max(high, 0.0)
        ends[name] = (low, high) if high - low > 1e-12 else (0.0, 1.0)  # noqa: PLR2004 - rounding
    return ends


def decimals(values: Iterable[float | None]) -> int:
    """Return how many decimals show three digits of the largest value, or two of one below 1; 0 to 5."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    digits = 3 if largest >= 1 else 2
    return min(5, max(0, digits - 1 - math.floor(math.log10(largest))))


def format_number(value: float | None, places: int) -> str:
    """Return a number with thousands separators, a true minus sign and `places` decimals; None: unscored."""
    return "unscored" if value is None else f"{value:z,.{places}f}".replace("-", "−")


def format_duration(seconds: float) -> str:
    """Return a time: `3.4 s`, `5 min 20 s`, `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def format_time(created: str) -> str:
    """Return `2026-11-21 08:15 UTC` for an ISO 8601 time, and anything else as it is."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{when:%Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def format_total(rows: Sequence[Row]) -> str:
    """Return what rows cost together, a sum per currency, and how many of them are unpriced."""
    costs = [row.cost for row in rows if row.cost is not None]
    currencies = dict.fromkeys(cost.currency for cost in costs if cost.currency)
    sums = (total_cost(cost for cost in costs if cost.currency == currency) for currency in currencies)
    known, unpriced = " and ".join(map(format_cost, sums)), len(rows) - len(costs)
    if not unpriced:
        return known or "no cost"
    return f"{known}, and {unpriced:,} of {len(rows):,} results unpriced" if known else "unpriced"


def format_outcomes(rows: Iterable[Row]) -> str:
    """Return how many rows had which outcome, as in `3 accepted, 1 refused`."""
    counts = Counter(row.outcome for row in rows)
    shown = [f"{counts[name]:,} {name}" for name in ("accepted", "refused", "failed") if counts[name]]
    return ", ".join(shown) or "no results"


def highlight(synopsis: Synopsis, spans: Sequence[tuple[int, int]]) -> tuple[Passage, ...]:
    """Cut the paragraphs where spans in `synopsis.text` begin and end; overlapping ones become one."""
    covered, start = bytearray(len(synopsis.text)), 0
    for low, high in spans:
        part = slice(max(0, low), max(0, low, high))
        covered[part] = b"\1" * len(covered[part])
    passages: list[Passage] = []
    for paragraph in synopsis.paragraphs:
        text = paragraph.text
        runs = re.finditer(rb"\x00+|\x01+", covered[start : start + len(text)])
        pieces = tuple((text[run.start() : run.end()], run[0].startswith(b"\x01")) for run in runs)
        passages.append((paragraph.storyline, pieces))
        start += len(text) + len("\n\n")
    return tuple(passages)


def groups_table(run: EvalResults) -> str:
    """Return a block per group: rows, judge if any, each metric's mean with its interval, and style."""
    lines: list[str] = []
    for group in run.groups:
        rows = count_of(group.planned, "row")
        rows = rows if group.rows == group.planned else f"{group.rows} of {rows}, INCOMPLETE"
        counts = f"{group.accepted} accepted, {group.refused} refused, {group.failed} failed"
        lines += [*[""] * bool(lines), group.name, f"  {rows}: {counts}"]
        if run.judge and any(name in JUDGE_METRICS for name in group.metrics):
            lines.append(f"  judge: {run.judge}")
        for name in filter(group.metrics.__contains__, ALL_METRICS):
            shown = f"unscored ({group.rows})" if group.rows else "unscored"
            if (value := group.metrics[name]) is not None:
                shown = _columns(value) + (f"  ({value.unscored} unscored)" if value.unscored else "")
            lines.append(f"  {name:{_NAME_WIDTH}}{shown}")
        if group.findings:
            findings = (f"{check} {number}" for check, number in group.findings.items())
            lines.append(f"  refused for: {', '.join(findings)}")
        if figures := run.style(group):
            beside = (f"{name} {format_number(value, decimals([value]))}" for name, value in figures.items())
            lines.append(f"  beside the score: {', '.join(beside)}")
    return "\n".join(lines)


def comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """Return a block per comparison: each metric's difference, interval, cases won, and verdict."""
    lines: list[str] = []
    for comparison in comparisons:
        lines += [*[""] * bool(lines), comparison.second, f"  against {comparison.first}"]
        for each in comparison.differences:
            if each.difference is not None:
                cases = f"{each.wins} won, {each.ties} tied, {each.losses} lost: {each.verdict}"
                lines.append(f"  {each.metric:{_NAME_WIDTH}}{_columns(each.difference)}  {cases}")
        lines += ["  they share no case"] * (not comparison.differences)
        lines.append(f"  winner: {comparison.winner}")
    return "\n".join(lines)


def _columns(interval: Interval) -> str:
    values = (interval.mean, interval.low, interval.high)
    mean, low, high = (format_number(value, decimals(values)) for value in values)
    return f"{mean:>8}  [{low}, {high}]"


_COLUMNS = (
    "case model prompt repeat show form outcome is_demo title text attempts prompt_tokens cached_tokens "
    "completion_tokens cost currency seconds answered created error"
).split()


def _missing(run: EvalResults, group: Group) -> list[Key]:
    made = {each.row.id for each in run.scored}
    names = group.model, group.prompt
    return [key for key in run.info.keys if (key.model, key.prompt) == names and key not in made]


def _metric_names(scored: Sequence[Scored]) -> list[str]:
    return list(dict.fromkeys(name for each in scored for name in each.scores))


def as_jsonl(run: EvalResults) -> Iterator[str]:
    """Yield a line of JSON per row: key, outcome, text, usage, judge, and `scores`; null is unscored."""
    for fields in _flat_rows(run):
        yield json.dumps(fields, ensure_ascii=False) + "\n"


def as_csv(run: EvalResults) -> Iterator[str]:
    """Yield the header, then a record per row, with a column `score_…` per metric; empty is unscored."""
    # The prefix tells metrics from fields of the row that have the same name.
    scores = (f"score_{name}" for name in _metric_names(run.scored))
    yield csv_record([*_COLUMNS, *["judge"] * bool(run.judge), *scores])
    for fields in _flat_rows(run):
        values = fields.pop("scores").values()
        yield csv_record([*fields.values(), *values])


def _flat_rows(run: EvalResults) -> Iterator[dict[str, Any]]:
    known, names = {case.id: case for case in run.suite.cases}, _metric_names(run.scored)
    judge = {"judge": run.judge} if run.judge else {}
    for group in run.groups:
        for each in run.rows_of(group):
            row, case = each.row, known.get(each.row.case)
            fields = {
                **row.model_dump(), "attempts": len(row.attempts), "cost": row.cost and f"{row.cost.amount:f}",
                "show": case and case.brief.show, "form": case and case.brief.form, "is_demo": group.is_demo,
                "title": row.synopsis and row.synopsis.title, "text": row.synopsis and row.synopsis.text,
            }  # fmt: skip
            scores = {name: each.scores.get(name) for name in names}
            yield {name: fields[name] for name in _COLUMNS} | judge | {"scores": scores}


def as_junit(run: EvalResults) -> str:
    """Return the run as JUnit XML: a suite per group, a test per row; what XML cannot hold becomes U+FFFD."""
    info, forms = run.info, {case.id: case.brief.form for case in run.suite.cases}
    judge = {"judge": run.judge} if run.judge else {}
    root = Element("testsuites", name=info.name)
    for group in run.groups:
        suite = SubElement(root, "testsuite", name=f"{group.model} · {group.prompt}", timestamp=info.created)
        hashes = {"prompt_hash": info.prompts[group.prompt], "version": info.version}
        _add_properties(suite, {"model": group.model, "prompt": group.prompt, **hashes, **judge})
        for each in run.rows_of(group):
            row = each.row
            test = _add_test(suite, row.id, forms, row.seconds)
            scores = {name: "unscored" if value is None else value for name, value in each.scores.items()}
            _add_properties(test, {"is_demo": str(group.is_demo).lower(), **scores})
            if row.outcome == "failed":
                SubElement(test, "error", type="failed", message=row.reason).text = row.reason
            elif row.outcome == "refused":
                message = "; ".join(row.problems)
                SubElement(test, "failure", type="refused", message=message).text = "\n".join(row.problems)
            if row.synopsis is not None:
                SubElement(test, "system-out").text = _with_title(row.synopsis)
        for key in _missing(run, group):
            message = "this row is not there yet: the run is incomplete"
            SubElement(_add_test(suite, key, forms, 0.0), "skipped", message=message)
    for element in (root, *root):
        tests = list(element.iter("testcase"))
        element.set("tests", str(len(tests)))
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(attribute, str(sum(test.find(tag) is not None for test in tests)))
        element.set("time", f"{sum(float(test.attrib['time']) for test in tests):.3f}")
    for element in root.iter():
        element.text = element.text and xml_text(element.text, "\ufffd")
        element.attrib.update({name: xml_text(value, "\ufffd") for name, value in element.attrib.items()})
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _add_test(suite: Element, key: Key, forms: Mapping[str, str], seconds: float) -> Element:
    # Some readers know a test by class and name alone, so the class contains the suite's name.
    classname = " · ".join(filter(None, (key.model, key.prompt, forms.get(key.case))))
    name = f"{key.case}[{key.repeat}]"
    return SubElement(suite, "testcase", classname=classname, name=name, time=f"{seconds:.3f}")


def _add_properties(element: Element, values: Mapping[str, object]) -> None:
    properties = SubElement(element, "properties")
    for name, value in values.items():
        SubElement(properties, "property", name=name, value=str(value))


def write_inspect_logs(run: EvalResults, folder: Path) -> list[Path]:
    """Write a log per group into `folder`, all or none, and return their paths; raises SettingsError, FileError."""
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError as error:
        raise SettingsError("inspect logs need inspect-ai: pip install 'synopsis-writer[inspect]'") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as work:
            written = []
            for group in run.groups:
                # A name as Inspect gives: its viewer reads time, task, model and id from it.
                words = (slug(group.prompt), slug(group.model), _id(run.info, group.model, group.prompt))
                path = real_path(work) / ("_".join([run.info.created.replace(":", "-"), *words]) + ".eval")
                write_eval_log(EvalLog.model_validate(_log(run, group)), path, format="eval")
                written.append(path)
            return [path.replace(folder / path.name) for path in written]
    except OSError as error:
        raise FileError(f"cannot write into {os_reason(error, folder)}: name another folder") from error


def _id(info: RunInfo, *words: object) -> str:
    text = "\0".join(str(word) for word in (info.name, info.created, *words))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:22]


def _log(run: EvalResults, group: Group) -> dict[str, Any]:
    info, scored, missing = run.info, run.rows_of(group), _missing(run, group)
    known, rows = {case.id: case for case in run.suite.cases}, [each.row for each in scored]
    id_ = _id(info, group.model, group.prompt)
    return {
        "status": "cancelled" if missing else "success",
        "eval": {
            "eval_id": id_, "task_id": id_,  # the viewer hides all but the last log of an id
            "run_id": _id(info), "created": info.created, "model": group.model, "task": group.prompt,
            "task_display_name": f"{info.name} · {group.prompt}",
            "task_args": {"prompt": group.prompt, "attempts": info.attempts},
            "tags": [f"prompt {group.prompt}", *["demo drafts"] * group.is_demo],
            "dataset": {"name": "cases", "samples": len(info.cases), "sample_ids": list(info.cases)},
            "config": {"epochs": info.repeats, "epochs_reducer": ["mean"]},
            "packages": {"synopsis_writer": info.version},
            "metadata": {"run": info.name, "prompt_hash": info.prompts[group.prompt],
                         "missing_rows": len(missing), "judge": run.judge or None},
            "viewer": {"trust_content": False},  # a model wrote it: it is shown as plain text
        },
        "results": {
            "total_samples": len(rows) + len(missing),
            "completed_samples": sum(row.outcome != "failed" for row in rows),
            "scores": [_metric_score(group, scored, name) for name in _metric_names(scored)],
        },
        "stats": {
            "started_at": info.created, "completed_at": max((row.created for row in rows), default=""),
            "model_usage": {group.model: _usage(rows)},
        },
        "samples": [_sample(info, each, known.get(each.row.case)) for each in scored],
    }  # fmt: skip


def _metric_score(group: Group, scored: Sequence[Scored], name: str) -> dict[str, Any]:
    label, means = "mean of demo drafts" if group.is_demo else "mean", {}
    if (interval := group.metrics[name]) is not None:
        bounds = {"low": interval.low, "high": interval.high, "cases": interval.cases}
        means[label] = {"name": label, "value": interval.mean, "metadata": bounds}
    unscored = sum(each.scores.get(name) is None for each in scored)
    counts = {"scored_samples": len(scored) - unscored, "unscored_samples": unscored}
    return {"name": name, "scorer": name, "metrics": means, **counts}


def _sample(info: RunInfo, scored: Scored, case: Case | None) -> dict[str, Any]:
    row, values, model = scored.row, scored.scores, scored.row.answered or scored.row.model
    brief = format_yaml(case.brief.as_data()) if case else f"{row.case}: the suite no longer has this case"
    messages = [{"role": "user", "content": brief}]
    output: dict[str, Any] = {"model": model, "error": row.error}
    if row.attempts:
        answer = _with_title(row.synopsis) if row.synopsis else row.attempts[-1].answer
        message = {"role": "assistant", "content": answer, "model": model, "source": "generate"}
        messages.append(message)
        output = {"model": model, "choices": [{"message": message, "stop_reason": "stop"}]}
    data = row.model_dump(mode="json", exclude={"attempts": {"__all__": {"synopsis"}}})
    return {
        "id": row.case, "epoch": row.repeat + 1, "uuid": _id(info, *row.id), "input": brief,
        "target": _with_title(case.reference) if case else "", "messages": messages, "output": output,
        "scores": {name: {"value": math.nan if value is None else value} for name, value in values.items()},
        "metadata": {
            "outcome": row.outcome, "problems": list(row.problems), "is_demo": row.is_demo,
            "cost": row.cost and f"{row.cost.amount:f}",
            **{name: data[name] for name in ("words_by_model", "currency", "run", "attempts")},
        },
        "model_usage": {row.model: _usage([row])}, "completed_at": row.created or None,
        "total_time": row.seconds, "working_time": row.seconds,
        "error": {"message": row.error, "traceback": "", "traceback_ansi": ""} if row.error else None,
    }  # fmt: skip


def _with_title(synopsis: Synopsis) -> str:
    return f"{synopsis.title}\n\n{synopsis.text}"


def _usage(rows: Sequence[Row]) -> dict[str, Any]:
    usage = sum((row.usage for row in rows), Usage())
    costs = [row.cost.amount for row in rows if row.cost is not None and row.cost.currency == "USD"]
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens, "input_tokens_cache_read": usage.cached_tokens,
        "output_tokens": usage.completion_tokens, "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "total_cost": float(sum(costs)) if costs else None,
    }  # fmt: skip
