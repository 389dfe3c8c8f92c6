"""Measure on all cases what docs/judge.md and docs/metrics.md say, without a model; prints Markdown.

    python -m benchmarks.eval_tables

Each figure stands for the tuning and validation cases, and apart from them for the held-out ones.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

from synopsis_writer.evals.checks import CORRUPTIONS, corrupt
from synopsis_writer.evals.metrics import References, analysed, fact_recall, score
from synopsis_writer.evals.record import AttemptLine, Row
from synopsis_writer.evals.suite import Case, load_cases
from synopsis_writer.gate.gate import failures
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import Workspace, open_workspace
from tests.corpus.damage.draft import renamed
from tests.test_metrics import EXAMPLES, SAME_STORY

SHOWN = ("chrf", "rouge_l", "characters", "facts", "ending", "delta")
SIDES = ("tuning and validation", "held-out")


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases of the program."""
    return load_cases(folder("evals") / "cases")


@cache
def workspace(house: Path | None) -> Workspace:
    """Return what the cases of a house are measured with."""
    return open_workspace(load_settings({}, {})).of_house(house)


@cache
def references(house: Path | None) -> References:
    """Return what texts of a house are measured against."""
    return References(workspace(house), [case for case in cases() if case.house == house])


def side(case: Case) -> str:
    """Return on which side a case is."""
    return SIDES[case.split == "held-out"]


def corruption_lines() -> Iterator[str]:
    """Yield how many corrupted references each house's own gate refuses."""
    yield f"| corruption | {' | '.join(SIDES)} |"
    yield "|---|---|---|"
    for kind in CORRUPTIONS:
        refused: defaultdict[str, list[bool]] = defaultdict(list)
        for case in cases():
            own = [other for other in cases() if other.house == case.house]
            if text := corrupt(kind, case, own, seed=0):
                space = workspace(case.house)
                found = space.gate.examine(text, case.brief, space.find_show(case.brief.show))
                refused[side(case)].append(bool(failures(found)))
        counts = (f"{sum(refused[each])} of {len(refused[each])}" for each in SIDES)
        yield f"| {kind.name} | {' | '.join(counts)} |"


def scores(case: Case, synopsis: Synopsis) -> list[float | None]:
    """Return the metrics of a text for a case."""
    made = AttemptLine(number=1, passed=True, problems=(), checks=(), answer="", synopsis=synopsis)
    row = Row(case=case.id, model="m", prompt="p", repeat=0, outcome="accepted", attempts=(made,), best=0)
    found = score(row, case, references(case.house)).scores
    return [found[name] for name in SHOWN]


def kind_of(case: Case, other: Case) -> str:
    """Return how near another case's text is to a case."""
    if other.brief.form != case.brief.form:
        return "another story and form"
    near = "same show and form" if other.brief.show == case.brief.show else "another show, same form"
    return f"another story, {near}"


def metric_lines() -> Iterator[str]:
    """Yield the means of the metrics over texts of known kinds."""
    found: defaultdict[tuple[str, str], list[list[float | None]]] = defaultdict(list)
    for case in cases():
        found["the reference itself", side(case)].append(scores(case, case.reference))
        if example := SAME_STORY.get(case.id):
            found["the same story in other words", side(case)].append(scores(case, EXAMPLES[example]))
        for other in cases():
            if other.id != case.id:
                found[kind_of(case, other), side(case)].append(scores(case, other.reference))
    yield f"| text | cases | texts | {' | '.join(f'`{name}`' for name in SHOWN)} |"
    yield "|---|---|---" + "|---" * len(SHOWN) + "|"
    for kind in dict.fromkeys(kind for kind, _ in found):
        for each in SIDES:
            if rows := found.get((kind, each)):
                columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
                means = (f"{fmean(column):.3g}" if column else "–" for column in columns)
                yield f"| {kind} | {each} | {len(rows):,} | {' | '.join(means)} |"


def recall(pairs: Sequence[tuple[Case, str]]) -> str:
    """Return the mean share of facts that texts tell."""
    values = [value for case, text in pairs if (value := fact_recall(case, analysed(text))) is not None]
    return f"{fmean(values):.0%}" if values else "–"


def fact_lines() -> Iterator[str]:
    """Yield how many facts parts of references, and other texts, tell."""
    yield f"| text | {' | '.join(SIDES)} |"
    yield "|---|---|---|"
    for name in ("first half", "second half", "first paragraph", "other texts of the form", "renamed"):
        shares = []
        for each in SIDES:
            pairs: list[tuple[Case, str]] = []
            for case in (one for one in cases() if side(one) == each):
                parts = [paragraph.text for paragraph in case.reference.paragraphs]
                half = len(parts) // 2
                if name == "first paragraph":
                    pairs.append((case, parts[0]))
                elif name.endswith("half") and half:
                    some = parts[: round(len(parts) / 2)] if name == "first half" else parts[half:]
                    pairs.append((case, "\n\n".join(some)))
                elif name.startswith(("other", "renamed")):
                    people = [person.name for person in case.reference.characters]
                    for other in cases():
                        if other.id != case.id and other.brief.form == case.brief.form:
                            text = other.reference.text
                            own = [person.name for person in other.reference.characters]
                            pairs.append((case, renamed(text, own, people) if name == "renamed" else text))
            shares.append(recall(pairs))
        yield f"| {name} | {' | '.join(shares)} |"


def main() -> None:
    """Print all tables."""
    for lines in (corruption_lines, fact_lines, metric_lines):
        print("\n".join(lines()), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
