"""Eval runs as JSON lines, CSV, JUnit and Inspect logs."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from synopsis_writer.document import format_yaml
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.metrics import Group, Scored
from synopsis_writer.evals.record import Key, Row, RunInfo
from synopsis_writer.evals.results import EvalResults
from synopsis_writer.evals.suite import Case
from synopsis_writer.formats.sheets import csv_record, xml_text
from synopsis_writer.storage.files import real_path, slug, temporary_folder
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Usage

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
