"""Eval runs as JSON lines, CSV, JUnit and Inspect logs."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from synopsis_writer.document import format_yaml
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.metrics import Scored
from synopsis_writer.evals.record import Key, Row, RowLine, RunInfo
from synopsis_writer.evals.statistics import estimate, group_rows
from synopsis_writer.evals.suite import Case
from synopsis_writer.formats.sheets import csv_record, xml_text
from synopsis_writer.storage.files import slug, temporary_folder
from synopsis_writer.synopsis import Synopsis


@dataclass(frozen=True)
class Part:
    """What one model made with one version of the prompts, case by case, and what is still missing."""

    model: str
    prompt: str
    scored: tuple[Scored, ...]
    missing: tuple[Key, ...]


def parts(info: RunInfo, scored: Sequence[Scored]) -> list[Part]:
    """Return the run's parts, in its own order; rows that it never planned come last."""
    rows = {each.row.id: each for each in scored}
    matrix = product(info.models, info.prompts, info.cases, range(info.repeats))
    planned = [Key(case, model, prompt, repeat) for model, prompt, case, repeat in matrix]
    grouped: dict[tuple[str, str], list[Key]] = {}
    for key in [*planned, *sorted(rows.keys() - set(planned))]:
        grouped.setdefault((key.model, key.prompt), []).append(key)
    return [
        Part(
            *names,
            tuple(rows[key] for key in keys if key in rows),
            tuple(key for key in keys if key not in rows),
        )
        for names, keys in grouped.items()
    ]


def metric_names(scored: Sequence[Scored]) -> list[str]:
    """Return the metrics that any row has."""
    return list(dict.fromkeys(name for each in scored for name in each.scores))


def demo_keys(scored: Sequence[Scored]) -> frozenset[Key]:
    """Return the keys of the rows that are summed up as demo drafts."""
    groups = group_rows(scored).items()
    return frozenset(each.row.id for group, rows in groups if group.is_demo for each in rows)


def as_jsonl(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield a line of JSON per row: key, outcome, text, usage, and `scores`; null is unscored."""
    names = metric_names(scored)
    for each, fields in _flat_rows(info, scored, cases):
        scores = {name: each.scores.get(name) for name in names}
        yield json.dumps(fields | {"scores": scores}, ensure_ascii=False) + "\n"


def as_csv(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield the header, then a record per row, with a column `score_…` per metric; empty is unscored.

    No cell of it runs as a formula: see `csv_record`.
    """
    names = metric_names(scored)
    # The prefix tells metrics from fields of the row that have the same name.
    yield csv_record([*_COLUMNS, *(f"score_{name}" for name in names)])
    for each, fields in _flat_rows(info, scored, cases):
        yield csv_record([*fields.values(), *(each.scores.get(name) for name in names)])


_COLUMNS = (
    *("case", "model", "prompt", "repeat", "show", "form", "outcome", "is_demo", "title", "text", "attempts"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "cost", "currency", "seconds"),
    *("answered", "created", "error"),
)


def _flat_rows(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]
) -> Iterator[tuple[Scored, dict[str, Any]]]:
    """Yield the rows with their columns; show and form are None where the suite no longer has the case."""
    known, demos = {case.id: case for case in cases}, demo_keys(scored)
    for each in (each for part in parts(info, scored) for each in part.scored):
        row, case = each.row, known.get(each.row.id.case)
        fields = {
            **RowLine.of(row).model_dump(),
            "show": case and case.brief.show,
            "form": case and case.brief.form,
            "is_demo": row.id in demos,
            "title": row.synopsis and row.synopsis.title,
            "text": row.synopsis and row.synopsis.text,
            "attempts": len(row.attempts),
            "cost": row.cost and f"{row.cost.amount:f}",
        }
        yield each, {name: fields[name] for name in _COLUMNS}


def problems_of(row: Row) -> list[str]:
    """Return what is wrong with the row's best answer, and the error that ended the work."""
    problems = list(row.best.problems) if row.best else []
    return [*problems, row.reason] if row.outcome == "failed" else problems


def as_junit(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> str:
    """Return the run as JUnit XML: a suite per model and prompt version, a test per row.

    A refused row is a failure with its problems, a failed one an error, one that is not there yet is skipped;
    metrics are properties, the text is the test's output. Characters that XML cannot hold become U+FFFD.
    """
    forms, demos = {case.id: case.brief.form for case in cases}, demo_keys(scored)
    root = Element("testsuites", name=info.name)
    for part in parts(info, scored):
        suite = SubElement(root, "testsuite", name=f"{part.model} · {part.prompt}", timestamp=info.created)
        hashes = {"prompt_hash": info.prompts.get(part.prompt, ""), "version": info.version}
        _add_properties(suite, {"model": part.model, "prompt": part.prompt, **hashes})
        for each in part.scored:
            test = _add_test(suite, each.row.id, forms, each.row.seconds)
            scores = {name: "unscored" if value is None else value for name, value in each.scores.items()}
            _add_properties(test, {"is_demo": str(each.row.id in demos).lower(), **scores})
            _add_outcome(test, each.row)
        for key in part.missing:
            message = "this row is not there yet: the run is incomplete"
            SubElement(_add_test(suite, key, forms, 0.0), "skipped", message=message)
        _count(suite, suite.findall("testcase"))
    _count(root, root.findall("testsuite/testcase"))
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


def _add_outcome(test: Element, row: Row) -> None:
    problems = problems_of(row)
    if row.outcome == "failed":
        SubElement(test, "error", type="failed", message=row.reason).text = row.reason
    elif row.outcome == "refused":
        SubElement(test, "failure", type="refused", message="; ".join(problems)).text = "\n".join(problems)
    if row.synopsis is not None:
        SubElement(test, "system-out").text = _with_title(row.synopsis)


def _count(element: Element, tests: Sequence[Element]) -> None:
    element.set("tests", str(len(tests)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(test.find(tag) is not None for test in tests)))
    element.set("time", f"{sum(float(test.attrib['time']) for test in tests):.3f}")


def write_inspect_logs(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case], folder: Path
) -> list[Path]:
    """Write a log per model and prompt version into `folder` and return their paths; all of them, or none.

    A case is a sample, a repeat an epoch, a metric a score; NaN is unscored, as in Inspect. Where rows are
    missing the log's status is `cancelled`. The same run is always written to the same names.

    Raises SettingsError where inspect-ai is not installed, FileError where the folder cannot be written.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise SettingsError(
            "the inspect export needs inspect-ai: pip install 'synopsis-writer[inspect]'"
        ) from error
    known = {case.id: case for case in cases}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as work:
            written = []
            for part in parts(info, scored):
                # A name as Inspect gives: its viewer reads time, task, model and id from it.
                words = (slug(part.prompt), slug(part.model), _id(info, part.model, part.prompt))
                path = work.resolve() / ("_".join([info.created.replace(":", "-"), *words]) + ".eval")
                write_eval_log(_log(info, part, known), path, format="eval")
                written.append(path)
            return [path.replace(folder / path.name) for path in written]
    except OSError as error:
        raise FileError(f"cannot write into {os_reason(error, folder)}: name another folder") from error


def _id(info: RunInfo, *words: object) -> str:
    """Return 22 characters that stand for a part of this run, whenever it is exported."""
    text = "\0".join(str(word) for word in (info.name, info.created, *words))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:22]


def _log(info: RunInfo, part: Part, known: Mapping[str, Case]) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec, EvalStats
    from inspect_ai.model import ModelUsage
    from inspect_ai.viewer import ViewerConfig

    spec = EvalSpec(
        eval_id=_id(info, part.model, part.prompt),
        run_id=_id(info),
        task_id=_id(info, part.model, part.prompt),  # the viewer hides all but the last log of an id
        created=info.created,
        task=part.prompt,
        task_display_name=f"{info.name} · {part.prompt}",
        task_args={"prompt": part.prompt, "attempts": info.attempts},
        tags=[f"prompt {part.prompt}", *(["demo drafts"] if demo_keys(part.scored) else [])],
        dataset=EvalDataset(name="cases", samples=len(info.cases), sample_ids=list(info.cases)),
        model=part.model,
        config=EvalConfig(epochs=info.repeats, epochs_reducer=["mean"]),
        packages={"synopsis_writer": info.version},
        metadata={
            "run": info.name,
            "prompt_hash": info.prompts.get(part.prompt),
            "missing_rows": len(part.missing),
        },
        viewer=ViewerConfig(trust_content=False),  # a model wrote it: it is shown as plain text
    )
    rows = [each.row for each in part.scored]
    return EvalLog(
        status="cancelled" if part.missing else "success",
        eval=spec,
        results=EvalResults(
            total_samples=len(rows) + len(part.missing),
            completed_samples=sum(row.outcome != "failed" for row in rows),
            scores=list(_metric_scores(part.scored)),
        ),
        stats=EvalStats(
            started_at=info.created,
            completed_at=max((RowLine.of(row).created for row in rows), default=""),
            model_usage={part.model: sum(map(_usage, rows), start=ModelUsage())},
        ),
        samples=[_sample(info, each, known.get(each.row.id.case)) for each in part.scored],
    )


def _metric_scores(scored: Sequence[Scored]) -> Iterable[Any]:
    """Yield each metric's mean over cases with its 95 % interval, that of demo drafts apart."""
    from inspect_ai.log import EvalMetric, EvalScore

    for name in metric_names(scored):
        means = {}
        for group, rows in group_rows(scored).items():
            if (interval := estimate(rows, name)) is not None:
                label = "mean of demo drafts" if group.is_demo else "mean"
                bounds = {"low": interval.low, "high": interval.high, "cases": interval.cases}
                means[label] = EvalMetric(name=label, value=interval.mean, metadata=bounds)
        unscored = sum(each.scores.get(name) is None for each in scored)
        counts = {"scored_samples": len(scored) - unscored, "unscored_samples": unscored}
        yield EvalScore(name=name, scorer=name, metrics=means, **counts)


def _sample(info: RunInfo, scored: Scored, case: Case | None) -> Any:
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    row, line = scored.row, RowLine.of(scored.row)
    model = line.answered or line.model
    if row.synopsis is not None:
        output = ModelOutput.from_content(model, _with_title(row.synopsis))
    elif row.attempts:
        output = ModelOutput.from_content(model, row.attempts[-1].answer.text)
    else:
        output = ModelOutput(model=model, error=line.error)
    brief = format_yaml(case.brief.as_data()) if case else f"{line.case}: the suite no longer has this case"
    data = line.model_dump(mode="json", exclude={"attempts": {"__all__": {"synopsis"}}})
    return EvalSample(
        id=line.case,
        epoch=line.repeat + 1,
        uuid=_id(info, *row.id),
        input=brief,
        target=_with_title(case.reference) if case else "",
        messages=[ChatMessageUser(content=brief), *(choice.message for choice in output.choices)],
        output=output,
        scores={
            name: Score.unscored() if value is None else Score(value=value)
            for name, value in scored.scores.items()
        },
        metadata={
            "outcome": row.outcome,
            "problems": problems_of(row),
            "is_demo": row.is_demo,
            "cost": row.cost and f"{row.cost.amount:f}",
            **{name: data[name] for name in ("words_by_model", "currency", "run", "attempts")},
        },
        model_usage={line.model: _usage(row)},
        completed_at=line.created or None,
        total_time=row.seconds,
        working_time=row.seconds,
        error=EvalError(message=line.error or "", traceback="", traceback_ansi="") if line.error else None,
    )


def _with_title(synopsis: Synopsis) -> str:
    return f"{synopsis.title}\n\n{synopsis.text}"


def _usage(row: Row) -> Any:
    """Return the row's tokens as Inspect counts them: those from the cache separately."""
    from inspect_ai.model import ModelUsage

    usage, cost = row.usage, row.cost
    return ModelUsage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        input_tokens_cache_read=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        total_cost=float(cost.amount) if cost is not None and cost.currency == "USD" else None,
    )
