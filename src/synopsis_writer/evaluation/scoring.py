"""Scoring a run: each row against its case; the scores are kept beside the results."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from synopsis_writer.desk import Desk
from synopsis_writer.errors import FileError, os_reason
from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.judged import Judged, row_digest
from synopsis_writer.evaluation.judgement import judge_metrics
from synopsis_writer.evaluation.lines import as_json_line, read_lines
from synopsis_writer.evaluation.metrics import METRICS, Metric, score
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.scored import Scored
from synopsis_writer.evaluation.yardstick import Yardstick, make_yardstick
from synopsis_writer.store import write_file

SCORES_FILE = "scores.jsonl"
SCORING = 1  # another number when a metric comes to other values: what was kept is then scored anew

Say = Callable[[str], None]
_Scores = Mapping[str, float | None]


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


def score_run(folder: Path, rows: Sequence[Row], cases: Sequence[Case], desk: Desk, say: Say) -> list[Scored]:
    """Score rows, and keep the scores; what was scored before, by the same yardstick, is not again.

    Args:
        folder: the run's folder.
        rows: its rows.
        cases: the suite.
        desk: pool and profile, which the yardstick is made of.
        say: is told when the scores cannot be kept.
    """
    known = {case.id: case for case in cases}
    measure = _measure(cases, desk)
    digests = [_digest(row, known.get(row.case), measure) for row in rows]
    kept = _kept(folder / SCORES_FILE)
    made: Yardstick | None = None
    scores: list[_Scores] = []
    for row, digest in zip(rows, digests, strict=True):
        if digest not in kept:
            made = made or make_yardstick(desk, cases)
            kept[digest] = score(row, known.get(row.case), made).scores
        scores.append(kept[digest])
    if made is not None:
        _keep(folder / SCORES_FILE, digests, scores, say)
    return [Scored(row, found) for row, found in zip(rows, scores, strict=True)]


def with_judged(scored: Scored, judged: Judged) -> Scored:
    """Return the row with what a judge said of it, where one did."""
    judgement = judged.judgements.get(row_digest(scored.row))
    return scored if judgement is None else Scored(scored.row, {**scored.scores, **judge_metrics(judgement)})


def forget_scores(folder: Path) -> None:
    """Forget the scores, so that the next scoring computes all of them anew.

    Raises:
        FileError: they cannot be removed.
    """
    path = folder / SCORES_FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot remove {os_reason(error, path)}: make the folder writable") from error


def _measure(cases: Sequence[Case], desk: Desk) -> str:
    """Return digits that change when what all rows are measured against does."""
    digest = hashlib.sha256(f"{SCORING} {sorted(METRICS)} {desk.gate.profile!r} {desk.pool.shows!r}".encode())
    for case in cases:
        digest.update(f"{case.id} {case.brief.form} {case.reference!r}\0".encode("utf-8", "surrogatepass"))
    for example in desk.pool.examples:
        digest.update(f"{example.id} {example.synopsis!r}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _digest(row: Row, case: Case | None, measure: str) -> str:
    told = "" if case is None else f"{case.brief!r}{case.reference!r}{case.facts!r}"
    text = f"{row_digest(row)} {measure} {told}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _kept(path: Path) -> dict[str, _Scores]:
    """Return the scores by their digests; what cannot be read is left out, and so scored anew."""
    try:
        lines = [data for _, data in read_lines(path) if data is not None]
    except FileError:
        return {}
    return {
        str(data["row"]): data["scores"] for data in lines if "row" in data and _is_scores(data.get("scores"))
    }


def _is_scores(found: object) -> bool:
    """Whether `found` holds all metrics, each a number or unscored."""
    return (
        isinstance(found, dict)
        and found.keys() == METRICS.keys()
        and all(value is None or type(value) in {int, float} for value in found.values())
    )


def _keep(path: Path, digests: Sequence[str], scores: Sequence[_Scores], say: Say) -> None:
    lines = [
        as_json_line({"row": digest, "scores": found}) for digest, found in zip(digests, scores, strict=True)
    ]
    try:
        write_file(path, "".join(lines))
    except FileError as error:
        say(f"the scores are not kept: {error}")
