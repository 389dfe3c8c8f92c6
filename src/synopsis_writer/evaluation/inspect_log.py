"""Inspect logs: a run as logs that `inspect view` shows and Inspect's own tools read."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synopsis_writer.errors import FileError, SettingsError, os_reason
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.export import Part, demo_keys, metric_names, parts, problems_of
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.scored import RunInfo, Scored
from synopsis_writer.evaluation.statistics import estimate
from synopsis_writer.evaluation.summary import grouped
from synopsis_writer.shows import slug
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.yamlblock import format_yaml

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
    for group, rows in grouped(part.scored).items():
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
