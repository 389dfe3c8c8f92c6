"""What a run came to, as text for a terminal of any width."""

from collections.abc import Mapping, Sequence

from synopsis_writer.evaluation.figures import decimals, figure
from synopsis_writer.evaluation.metrics import Metric
from synopsis_writer.evaluation.report import Contest, group_name
from synopsis_writer.evaluation.scored import Group, Interval

_NAME = 17  # letters of the longest metric's name, and a space


def groups_table(groups: Sequence[Group], metrics: Mapping[str, Metric], judge: str = "") -> str:
    """Return a block a group: its rows, its judge where one was, and each metric's mean with its interval."""
    return "\n\n".join("\n".join(_group(group, metrics, judge)) for group in groups)


def contests_table(contests: Sequence[Contest]) -> str:
    """Return a block a contest: each metric's difference, interval, cases won, tied and lost, and verdict."""
    return "\n\n".join("\n".join(_contest(contest)) for contest in contests)


def _group(group: Group, metrics: Mapping[str, Metric], judge: str) -> list[str]:
    rows = (
        f"{group.rows} rows"
        if group.rows == group.planned
        else f"{group.rows} of {group.planned} rows, INCOMPLETE"
    )
    lines = [
        group_name(group),
        f"  {rows}: {group.accepted} accepted, {group.refused} refused, {group.failed} failed",
    ]
    if judge and any(name.startswith("judge_") for name in group.metrics):
        lines.append(f"  judge: {judge}")
    lines += [
        f"  {name:{_NAME}}{_value(group.metrics[name], group.rows)}"
        for name in metrics
        if name in group.metrics
    ]
    if group.findings:
        found = ", ".join(f"{check} {count}" for check, count in group.findings.items())
        lines.append(f"  refused for: {found}")
    return lines


def _value(interval: Interval | None, rows: int) -> str:
    if interval is None:
        return f"unscored ({rows})" if rows else "unscored"
    unscored = f"  ({interval.unscored} unscored)" if interval.unscored else ""
    mean, low, high = _figures(interval)
    return f"{mean:>8}  [{low}, {high}]{unscored}"


def _figures(interval: Interval) -> tuple[str, str, str]:
    values = (interval.mean, interval.low, interval.high)
    places = decimals(values)
    return figure(values[0], places), figure(values[1], places), figure(values[2], places)


def _contest(contest: Contest) -> list[str]:
    lines = [contest.second, f"  against {contest.first}"]
    for found in contest.differences:
        difference = found.difference
        if difference is None:
            continue
        mean, low, high = _figures(difference)
        cases = f"{found.wins} won, {found.ties} tied, {found.losses} lost"
        lines.append(f"  {found.metric:{_NAME}}{mean:>8}  [{low}, {high}]  {cases}: {found.verdict}")
    return lines if contest.differences else [*lines, "  they share no case"]
