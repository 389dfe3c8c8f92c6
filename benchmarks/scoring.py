"""Measure scoring and statistics, in one process on one core; prints one table.

    python -m benchmarks.scoring

The 1,000 results are drawn from the texts of examples and test corpus, sentences of several texts mixed, so
that no two are alike and none is a reference; each is scored against a case of its own form. The bootstrap's
data are random.
"""

import random
import time
from pathlib import Path

from benchmarks.table import Row as Line
from benchmarks.table import print_table
from synopsis_writer.evals.judge import find_trust
from synopsis_writer.evals.metrics import JUDGE_METRICS, References, Scored, estimate, score
from synopsis_writer.evals.record import AttemptLine, Row
from synopsis_writer.evals.results import TEXT_METRICS, Part, compare_parts
from synopsis_writer.evals.suite import load_cases
from synopsis_writer.examples import load_pool
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.workspace import open_workspace

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [example.synopsis for example in load_pool([ROOT / "tests" / "corpus" / "good"]).examples]
RESULTS = 1_000
METRICS, CASES = 8, 100


def mixed(texts: list[Synopsis], rng: random.Random) -> Synopsis:
    """Return a synopsis with the people of one text and the paragraphs of all."""
    base = rng.choice(texts)
    paragraphs = tuple(
        rng.choice(base.paragraphs).model_copy(update={"text": rng.choice(rng.choice(texts).paragraphs).text})
        for _ in base.paragraphs
    )
    return base.model_copy(update={"paragraphs": paragraphs})


def row(case: str, repeat: int, synopsis: Synopsis) -> Row:
    """Return the row of an accepted text."""
    attempt = AttemptLine(number=1, passed=True, problems=(), checks=(), answer="", synopsis=synopsis)
    return Row(case=case, model="m", prompt="p", repeat=repeat, outcome="accepted", attempts=(attempt,), best=0)


def scoring_rows() -> list[Line]:
    """Measure the scoring of 1,000 results, with and without what is loaded once."""
    rng = random.Random(1)
    cases = load_cases(ROOT / "evals" / "cases")
    texts = [*TEXTS, *(example.synopsis for example in load_pool([folder("examples")]).examples)]
    drawn = [(cases[number % len(cases)], mixed(texts, rng)) for number in range(RESULTS)]
    rows = [(case, row(case.id, number, synopsis)) for number, (case, synopsis) in enumerate(drawn)]
    started = time.perf_counter()
    references = References(open_workspace(load_settings({})), cases)
    loaded = time.perf_counter() - started
    started = time.perf_counter()
    for case, each in rows:
        score(each, case, references)
    seconds = time.perf_counter() - started
    return [
        Line("load workspace and references", f"{loaded:.1f} s"),
        Line(f"score {RESULTS:,} results without a judge", f"{seconds:.0f} s", "≤ 60 s"),
        Line("a result", f"{seconds / RESULTS * 1000:.0f} ms"),
    ]


def bootstrap_rows() -> list[Line]:
    """Measure the intervals of 8 metrics over 100 cases with 2,000 draws each."""
    rng = random.Random(2)
    text = TEXTS[0]
    names = [f"metric_{number}" for number in range(METRICS)]
    scored = [Scored(row(f"case-{number}", 0, text), {name: rng.random() for name in names}) for number in range(CASES)]
    started = time.perf_counter()
    for name in names:
        estimate(scored, name)
    seconds = time.perf_counter() - started
    return [Line("bootstrap of 8 metrics × 100 cases × 2,000 draws", f"{seconds:.2f} s", "≤ 1 s")]


def comparison_rows() -> list[Line]:
    """Measure the comparison of two groups of 1,000 rows, each judged, and each pair rated by a person."""
    rng = random.Random(3)
    names = (*TEXT_METRICS, *JUDGE_METRICS)
    first, second = (
        [
            Scored(row(f"case-{number}", repeat, TEXTS[number % len(TEXTS)]), {name: rng.random() for name in names})
            for number in range(RESULTS)
        ]
        for repeat in range(2)
    )
    pairs = [(a.digest, b.digest) for a, b in zip(first, second, strict=True)]
    ratings = {("a", frozenset(pair)): rng.choice(("", *pair)) for pair in pairs}
    first, second = ([Scored(each.row, each.scores) for each in rows] for rows in (first, second))
    started = time.perf_counter()
    trust = find_trust(ratings, [*first, *second])
    compare_parts(Part("a", first), Part("b", second), names, ratings, trust)
    seconds = time.perf_counter() - started
    return [Line("compare 1,000 pairs by all metrics, 2,000 draws each", f"{seconds:.1f} s", "≤ 3 s")]


if __name__ == "__main__":
    print_table((scoring_rows, bootstrap_rows, comparison_rows))
