"""Scoring a run: each row against its case, kept beside the results, and what a judge said of it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.judgement import Judgement, judge_metrics
from synopsis_writer.evaluation.metrics import METRICS, Metric, score
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.scored import Scored
from synopsis_writer.evaluation.yardstick import Yardstick
from synopsis_writer.store import write_file

SCORES_FILE, JUDGED_FILE = "scores.jsonl", "judged.jsonl"


def _unjudged(_row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Leave the row unscored: only a judge can say."""
    return None


JUDGE_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "judge_coherence": Metric(_unjudged, 1, "judge: coherence, 1 to 5"),
        "judge_theme": Metric(_unjudged, 1, "judge: theme, 1 to 5"),
        "judge_style": Metric(_unjudged, 1, "judge: style, 1 to 5"),
        "judge_language": Metric(_unjudged, 1, "judge: language, 1 to 5"),
        "judge_facts": Metric(_unjudged, 1, "judge: facts told, 0 to 1"),
        "judge_preference": Metric(_unjudged, 1, "judge: preferred to the reference, 0 to 1"),
    }
)
ALL_METRICS: Mapping[str, Metric] = MappingProxyType({**METRICS, **JUDGE_METRICS})


def score_run(
    folder: Path, rows: Sequence[Row], cases: Sequence[Case], yard: Callable[[], Yardstick]
) -> list[Scored]:
    """Score rows, and keep the scores; what was scored before, by the same metrics and cases, is not again.

    Args:
        folder: the run's folder.
        rows: its rows.
        cases: the suite.
        yard: makes the yardstick, where one is needed.

    Raises:
        FileError: the scores cannot be written.
    """
    known = {case.id: case for case in cases}
    digests = [_digest(row, known.get(row.case)) for row in rows]
    kept = _kept(folder / SCORES_FILE)
    made: Yardstick | None = None
    scores: list[Mapping[str, float | None]] = []
    for row, digest in zip(rows, digests, strict=True):
        if digest not in kept:
            made = made or yard()
            kept[digest] = dict(score(row, known.get(row.case), made).scores)
        scores.append(kept[digest])
    if made is not None:
        lines = [{"row": digest, "scores": found} for digest, found in zip(digests, scores, strict=True)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_file(folder / SCORES_FILE, text)
    judged = read_judged(folder)
    return [
        Scored(row, {**found, **(judge_metrics(judged[name]) if (name := row_digest(row)) in judged else {})})
        for row, found in zip(rows, scores, strict=True)
    ]


def forget_scores(folder: Path) -> None:
    """Forget the scores, so that the next scoring computes all of them anew."""
    (folder / SCORES_FILE).unlink(missing_ok=True)


def row_digest(row: Row) -> str:
    """Return 24 hex digits that stand for a row with all it holds."""
    return hashlib.sha256(row.as_line().encode("utf-8")).hexdigest()[:24]


def read_judged(folder: Path) -> dict[str, Judgement]:
    """Return the judgements of a run by the digests of their rows; a line that cannot be read is left out."""
    found: dict[str, Judgement] = {}
    for data in _lines(folder / JUDGED_FILE):
        try:
            found[data["row"]] = Judgement.model_validate(data["judgement"])
        except (KeyError, ValueError):
            continue
    return found


def add_judged(folder: Path, row: Row, judgement: Judgement) -> None:
    """Append a judgement.

    Raises:
        FileError: it cannot be written.
    """
    data = {"row": row_digest(row), "judgement": judgement.model_dump(mode="json")}
    path = folder / JUDGED_FILE
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("\n" + json.dumps(data, ensure_ascii=False) + "\n")  # a half line before it is closed
    except OSError as error:
        raise FileError(f"cannot write {os_reason(error, path)}: make room, and run again") from error


def _digest(row: Row, case: Case | None) -> str:
    told = "" if case is None else f"{case.brief!r}{case.reference!r}{case.facts!r}"
    text = f"{row_digest(row)} {sorted(METRICS)} {told}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:24]


def _kept(path: Path) -> dict[str, dict[str, float | None]]:
    return {data["row"]: data["scores"] for data in _lines(path) if {"row", "scores"} <= data.keys()}


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            data = json.loads(line) if line.strip() else None
        except ValueError:
            continue  # half written, as after a kill
        if isinstance(data, dict):
            found.append(data)
    return found
