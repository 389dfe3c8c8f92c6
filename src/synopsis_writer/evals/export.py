"""Eval runs as JSON lines, CSV, JUnit and Inspect logs."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from synopsis_writer.batch.tables import csv_record
from synopsis_writer.document import format_yaml
from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evals.metrics import Scored
from synopsis_writer.evals.record import Key, Row, RunInfo
from synopsis_writer.evals.statistics import estimate, group_rows
from synopsis_writer.evals.suite import Case
from synopsis_writer.storage.files import slug
from synopsis_writer.synopsis import Synopsis

_METRIC = "score_"  # before a metric's column: some are called as a field of the row is

_Field = Callable[[Row, Case | None], Any]

# What the flat exports tell of a row; show and form are None where the suite has its case no more.
_FIELDS: Mapping[str, _Field] = {
    "case": lambda row, _: row.case,
    "model": lambda row, _: row.model,
    "prompt": lambda row, _: row.prompt,
    "repeat": lambda row, _: row.repeat,
    "show": lambda _, case: case and case.brief.show,
    "form": lambda _, case: case and case.brief.form.value,
    "outcome": lambda row, _: row.outcome,
    "is_demo": lambda row, _: row.is_demo,
    "title": lambda row, _: row.synopsis and row.synopsis.title,
    "text": lambda row, _: row.synopsis and row.synopsis.text,
    "attempts": lambda row, _: len(row.attempts),
    "prompt_tokens": lambda row, _: row.prompt_tokens,
    "cached_tokens": lambda row, _: row.cached_tokens,
    "completion_tokens": lambda row, _: row.completion_tokens,
    "cost": lambda row, _: None if row.amount is None else f"{row.amount:f}",
    "currency": lambda row, _: row.currency,
    "seconds": lambda row, _: row.seconds,
    "answered": lambda row, _: row.answered,
    "created": lambda row, _: row.created,
    "error": lambda row, _: row.error,
}


@dataclass(frozen=True)
class Part:
    """What one model made with one version of the prompts.

    Attributes:
        model, prompt: the model, and the version of the prompts.
        scored: the rows that are there: those of a case side by side, its repeats in order.
        missing: the keys of rows that the run has not made yet.
    """

    model: str
    prompt: str
    scored: tuple[Scored, ...]
    missing: tuple[Key, ...]


def parts(info: RunInfo, scored: Sequence[Scored]) -> list[Part]:
    """Return the run's parts, in its own order; rows that it never planned come last."""
    rows = {each.row.key: each for each in scored}
    planned = [
        Key(case, model, prompt, repeat)
        for model in info.models
        for prompt in info.prompts
        for case in info.cases
        for repeat in range(info.repeats)
    ]
    grouped: dict[tuple[str, str], list[Key]] = {}
    for key in [*planned, *sorted(rows.keys() - set(planned))]:
        grouped.setdefault((key.model, key.prompt), []).append(key)
    return [
        Part(
            model,
            prompt,
            tuple(rows[key] for key in keys if key in rows),
            tuple(key for key in keys if key not in rows),
        )
        for (model, prompt), keys in grouped.items()
    ]


def metric_names(scored: Sequence[Scored]) -> list[str]:
    """Return the metrics that any row has, in the order they come."""
    return list(dict.fromkeys(name for each in scored for name in each.scores))


def as_jsonl(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield a line of JSON a row: key, outcome, text, what it took, and `scores`; null is unscored."""
    names = metric_names(scored)
    for each, fields in _told(info, scored, cases):
        scores = {name: each.scores.get(name) for name in names}
        yield json.dumps(fields | {"scores": scores}, ensure_ascii=False) + "\n"


def as_csv(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> Iterator[str]:
    """Yield the header, then a record a row, with a column `score_…` a metric; empty is unscored.

    No cell of it runs as a formula: see `csv_record`.
    """
    names = metric_names(scored)
    yield csv_record([*_FIELDS, *(_METRIC + name for name in names)])
    for each, fields in _told(info, scored, cases):
        yield csv_record([*fields.values(), *(each.scores.get(name) for name in names)])


def _told(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]
) -> Iterator[tuple[Scored, dict[str, Any]]]:
    known, demos = {case.id: case for case in cases}, demo_keys(scored)
    for part in parts(info, scored):
        for each in part.scored:
            fields = {name: field(each.row, known.get(each.row.case)) for name, field in _FIELDS.items()}
            yield each, fields | {"is_demo": each.row.key in demos}


def demo_keys(scored: Sequence[Scored]) -> frozenset[Key]:
    """Return the keys of the rows that are summed up as demo drafts."""
    return frozenset(
        each.row.key for group, rows in group_rows(scored).items() if group.is_demo for each in rows
    )


def problems_of(row: Row) -> list[str]:
    """Return what is wrong with the row's best answer, or its last one, and the fault that ended the work."""
    shown = row.attempts[-1 if row.best is None else row.best] if row.attempts else None
    return [*(shown.problems if shown else ()), *([row.error] if row.error else [])]


_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2: Char


def as_junit(info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case]) -> str:
    """Return the run as JUnit XML: a suite a model and prompt version, a test a row.

    A refused row is a failure with its problems, a failed one an error, one that is not there yet is skipped;
    metrics are properties, the text is the test's output. Characters that XML cannot hold become U+FFFD.
    """
    known, demos = {case.id: case for case in cases}, demo_keys(scored)
    root = Element("testsuites", name=_xml(info.name))
    for part in parts(info, scored):
        root.append(_suite(info, part, known, demos))
    _count(root, root.findall("testsuite/testcase"))
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _suite(info: RunInfo, part: Part, known: Mapping[str, Case], demos: Collection[Key]) -> Element:
    name = f"{part.model} · {part.prompt}"
    suite = Element("testsuite", name=_xml(name), timestamp=_xml(info.created))
    about = {"model": part.model, "prompt": part.prompt, "prompt_hash": info.prompts.get(part.prompt, "")}
    _properties(suite, about | {"version": info.version})
    for each in part.scored:
        row = each.row
        test = _test(suite, row.key, known, row.seconds)
        scores = {key: "unscored" if value is None else value for key, value in each.scores.items()}
        _properties(test, {"is_demo": str(row.key in demos).lower()} | scores)
        _verdict(test, row)
        if row.synopsis is not None:
            SubElement(test, "system-out").text = _xml(f"{row.synopsis.title}\n\n{row.synopsis.text}")
    for key in part.missing:
        test = _test(suite, key, known, 0.0)
        SubElement(test, "skipped", message="this row is not there yet: the run is incomplete")
    _count(suite, suite.findall("testcase"))
    return suite


def _test(suite: Element, key: Key, known: Mapping[str, Case], seconds: float) -> Element:
    # Some readers know a test by class and name alone, so the class holds the suite's name.
    form = f" · {known[key.case].brief.form}" if key.case in known else ""
    kind = f"{key.model} · {key.prompt}{form}"
    name = f"{key.case}[{key.repeat}]"
    return SubElement(suite, "testcase", classname=_xml(kind), name=_xml(name), time=f"{seconds:.3f}")


def _properties(element: Element, values: Mapping[str, Any]) -> None:
    properties = SubElement(element, "properties")
    for name, value in values.items():
        SubElement(properties, "property", name=_xml(name), value=_xml(str(value)))


def _verdict(test: Element, row: Row) -> None:
    if row.outcome == "failed":
        SubElement(test, "error", type="failed", message=_xml(row.error or "")).text = _xml(row.error or "")
    elif row.outcome == "refused":
        problems = problems_of(row)
        failure = SubElement(test, "failure", type="refused", message=_xml("; ".join(problems)))
        failure.text = _xml("\n".join(problems))


def _count(element: Element, tests: Sequence[Element]) -> None:
    element.set("tests", str(len(tests)))
    for counted, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(counted, str(sum(test.find(kind) is not None for test in tests)))
    element.set("time", f"{sum(float(test.attrib['time']) for test in tests):.3f}")


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)


MEAN, DEMO_MEAN = "mean", "mean of demo drafts"


def write_inspect_logs(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case], folder: Path
) -> list[Path]:
    """Write a log a model and prompt version into `folder` and return their paths; all of them, or none.

    A case is a sample, a repeat an epoch, a metric a score; NaN is unscored, as Inspect has it. Where rows
    are missing the log's status is `cancelled`. The same run is always written to the same names.

    Raises:
        SettingsError: inspect-ai is not installed.
        FileError: the folder cannot be made or written.
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
        with tempfile.TemporaryDirectory(prefix=".synopsis-", dir=folder) as work:
            written = []
            for part in parts(info, scored):
                path = Path(work).resolve() / _file_name(info, part)
                write_eval_log(_log(info, part, known), path, format="eval")
                written.append(path)
            return [path.replace(folder / path.name) for path in written]
    except OSError as error:
        raise FileError(f"cannot write into {os_reason(error, folder)}: name another folder") from error


def _file_name(info: RunInfo, part: Part) -> str:
    """Return a name as Inspect gives: its viewer reads time, task, model and id from it."""
    words = (slug(part.prompt), slug(part.model), _id(info, part.model, part.prompt))
    return "_".join([info.created.replace(":", "-"), *words]) + ".eval"


def _id(info: RunInfo, *words: object) -> str:
    """Return 22 characters that stand for a part of this run, whenever it is exported."""
    text = "\0".join(str(word) for word in (info.name, info.created, *words))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:22]


def _log(info: RunInfo, part: Part, known: Mapping[str, Case]) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, EvalStats
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
    return EvalLog(
        status="cancelled" if part.missing else "success",
        eval=spec,
        results=_results(part),
        stats=EvalStats(
            started_at=info.created,
            completed_at=max((each.row.created for each in part.scored), default=""),
            model_usage={part.model: sum((_usage(each.row) for each in part.scored), start=ModelUsage())},
        ),
        samples=[_sample(info, each, known.get(each.row.case)) for each in part.scored],
    )


def _results(part: Part) -> Any:
    from inspect_ai.log import EvalResults, EvalScore

    scores = []
    for name in metric_names(part.scored):
        unscored = sum(each.scores.get(name) is None for each in part.scored)
        scores.append(
            EvalScore(
                name=name,
                scorer=name,
                scored_samples=len(part.scored) - unscored,
                unscored_samples=unscored,
                metrics=_means(part, name),
            )
        )
    return EvalResults(
        total_samples=len(part.scored) + len(part.missing),
        completed_samples=sum(each.row.outcome != "failed" for each in part.scored),
        scores=scores,
    )


def _means(part: Part, metric: str) -> dict[str, Any]:
    """Return a metric's mean over cases with its 95 % interval beside it, that of demo drafts apart."""
    from inspect_ai.log import EvalMetric

    means = {}
    for group, rows in group_rows(part.scored).items():
        label = DEMO_MEAN if group.is_demo else MEAN
        interval = estimate(rows, metric)
        if interval is not None:
            bounds = {"low": interval.low, "high": interval.high, "cases": interval.cases}
            means[label] = EvalMetric(name=label, value=interval.mean, metadata=bounds)
    return means


def _sample(info: RunInfo, each: Scored, case: Case | None) -> Any:
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.scorer import Score

    row, output = each.row, _output(each.row)
    brief = format_yaml(case.brief.as_data()) if case else f"{row.case}: the suite has this case no more"
    scores = {
        name: Score.unscored() if value is None else Score(value=value) for name, value in each.scores.items()
    }
    failed = EvalError(message=row.error or "", traceback="", traceback_ansi="")
    return EvalSample(
        id=row.case,
        epoch=row.repeat + 1,
        uuid=_id(info, *row.key),
        input=brief,
        target=_whole(case.reference) if case else "",
        messages=[ChatMessageUser(content=brief), *(choice.message for choice in output.choices)],
        output=output,
        scores=scores,
        metadata=_history(row),
        model_usage={row.model: _usage(row)},
        completed_at=row.created or None,
        total_time=row.seconds,
        working_time=row.seconds,
        error=failed if row.outcome == "failed" else None,
    )


def _whole(synopsis: Synopsis) -> str:
    return f"{synopsis.title}\n\n{synopsis.text}"


def _output(row: Row) -> Any:
    """Return the best text; where no answer had the structure of one, the last answer as it came."""
    from inspect_ai.model import ModelOutput

    answered = row.answered or row.model
    if row.synopsis is not None:
        return ModelOutput.from_content(answered, _whole(row.synopsis))
    if row.attempts:
        return ModelOutput.from_content(answered, row.attempts[-1].answer)
    return ModelOutput(model=answered, error=row.error)


def _history(row: Row) -> dict[str, Any]:
    return {
        "outcome": row.outcome,
        "problems": problems_of(row),
        "is_demo": row.is_demo,
        "words_by_model": row.words_by_model,
        "cost": None if row.amount is None else f"{row.amount:f}",
        "currency": row.currency,
        "run": row.run,
        "attempts": [attempt.model_dump(mode="json", exclude={"synopsis"}) for attempt in row.attempts],
    }


def _usage(row: Row) -> Any:
    """Return the row's tokens as Inspect counts them: those out of the cache aside."""
    from inspect_ai.model import ModelUsage

    return ModelUsage(
        input_tokens=row.prompt_tokens - row.cached_tokens,
        input_tokens_cache_read=row.cached_tokens,
        output_tokens=row.completion_tokens,
        total_tokens=row.prompt_tokens + row.completion_tokens,
        total_cost=float(row.amount) if row.amount is not None and row.currency == "USD" else None,
    )
