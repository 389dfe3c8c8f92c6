"""The summary of a run: a group for each model with each prompt version, demo drafts apart."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from synopsis_writer.evaluation.metrics import METRICS
from synopsis_writer.evaluation.row import Outcome
from synopsis_writer.evaluation.scored import Group, RunInfo, Scored
from synopsis_writer.evaluation.statistics import estimate


class GroupKey(NamedTuple):
    """What the rows of a group have in common."""

    model: str
    prompt: str
    is_demo: bool


def grouped(scored: Sequence[Scored]) -> Mapping[GroupKey, list[Scored]]:
    """Return the rows of each group; a row without a text goes with the texts of its model and prompt.

    It goes with the demo drafts only where that model and prompt made nothing else.
    """
    kinds: defaultdict[tuple[str, str], set[bool]] = defaultdict(set)
    for each in scored:
        if each.row.synopsis is not None:
            kinds[each.row.model, each.row.prompt].add(each.row.is_demo)
    groups: defaultdict[GroupKey, list[Scored]] = defaultdict(list)
    for each in scored:
        row = each.row
        is_demo = row.is_demo if row.synopsis is not None else kinds[row.model, row.prompt] == {True}
        groups[GroupKey(row.model, row.prompt, is_demo)].append(each)
    return groups


def summarise(info: RunInfo, scored: Sequence[Scored]) -> list[Group]:
    """Return a group for each model with each prompt version, in the run's order; empty ones, too."""
    groups = dict(grouped(scored))
    asked = [(model, prompt) for model in info.models for prompt in info.prompts]
    made = {(key.model, key.prompt) for key in groups}
    groups |= {GroupKey(*pair, is_demo=False): [] for pair in asked if pair not in made}
    places = {pair: place for place, pair in enumerate(asked)}

    def order(key: GroupKey) -> tuple[int, GroupKey]:
        return places.get((key.model, key.prompt), len(places)), key

    each = len(info.cases) * info.repeats
    demos = {(key.model, key.prompt): len(rows) for key, rows in groups.items() if key.is_demo}
    return [_group(key, groups[key], _planned(key, groups, demos, each)) for key in sorted(groups, key=order)]


def _planned(
    key: GroupKey,
    groups: Mapping[GroupKey, Sequence[Scored]],
    demos: Mapping[tuple[str, str], int],
    each: int,
) -> int:
    """Return how many rows a group will have: where there are demo drafts and others, the rest is others'."""
    if key._replace(is_demo=not key.is_demo) not in groups:
        return each
    own = demos[key.model, key.prompt]
    return own if key.is_demo else each - own


def _group(key: GroupKey, rows: Sequence[Scored], planned: int) -> Group:
    outcomes: Counter[Outcome] = Counter(each.row.outcome for each in rows)
    names = dict.fromkeys((*METRICS, *(name for each in rows for name in each.scores)))
    refused = (attempt for each in rows for attempt in each.row.attempts if not attempt.passed)
    return Group(
        *key,
        rows=len(rows),
        planned=planned,
        accepted=outcomes["accepted"],
        refused=outcomes["refused"],
        failed=outcomes["failed"],
        metrics={name: estimate(rows, name) for name in names},
        findings=dict(Counter(check for attempt in refused for check in set(attempt.checks)).most_common()),
    )
