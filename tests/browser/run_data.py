"""A made-up run for the report: real references, corrupted and checked by the real gate; random scores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from itertools import product
from pathlib import Path
from random import Random

from synopsis_writer.evals.metrics import METRICS, Scored
from synopsis_writer.evals.record import AttemptLine, Row, RunInfo
from synopsis_writer.evals.results import EvalResults
from synopsis_writer.evals.suite import Case, LoadedSuite, Suite, load_cases
from synopsis_writer.examples import Example
from synopsis_writer.gate.gate import failures
from synopsis_writer.synopsis import Paragraph, Synopsis
from tests.corpus.damage.draft import draft_of
from tests.corpus.damage.table import DAMAGES
from tests.corpus.measure import gate, good_texts, subject_of

CASES = Path(__file__).parent.parent.parent / "evals" / "cases"
REAL = ("gpt-5.1-mini", "qwen3-32b-instruct")
DEMO = "gemma3-270m"
PROMPTS = {"stand": "5f2c9a77b1d04e3c", "knapp": "c01d88e2a96f4b15"}
KINDS = (
    "one English sentence",
    "exclamations",
    "wrong tense",
    "loop of sentences",
    "people of the brief missing",
    "crowd of strangers",
    "guest from another show",
    "umlauts written out",
)


@cache
def suite() -> tuple[Case, ...]:
    return load_cases(CASES)


@cache
def corpus() -> tuple[Case, ...]:
    """The test corpus as cases."""
    return tuple(Case(each.path.stem, each.brief, each.synopsis, (), each.path) for each in good_texts())


@cache
def refused(case: Case) -> tuple[AttemptLine, ...]:
    """The reference, corrupted in as many ways as apply and keep the structure, with the findings."""
    example = Example(f"x/{case.path.stem}", case.brief, case.reference, case.path)
    good, made = draft_of(example), []
    for damage in DAMAGES:
        bad = damage.change(good) if damage.name in KINDS else good
        if bad.text == good.text or bad.brief != good.brief:
            continue
        parts = tuple(Paragraph(storyline="A", text=text) for text in bad.text.split("\n\n"))
        synopsis = case.reference.model_copy(update={"paragraphs": parts})
        found = failures(gate().judge(subject_of(replace(bad, text=synopsis.text))))
        made.append(
            AttemptLine(
                number=1,
                passed=False,
                problems=tuple(f"{each.check}: {each.message}" for each in found),
                checks=tuple(each.check for each in found),
                spans=tuple((span.start, span.end) for each in found for span in each.spans),
                answer=synopsis.as_json(),
                synopsis=synopsis,
            )
        )
    return tuple(made)


def accepted(synopsis: Synopsis) -> AttemptLine:
    return AttemptLine(number=1, passed=True, problems=(), checks=(), answer=synopsis.as_json(), synopsis=synopsis)


def shapeless(case: Case) -> AttemptLine:
    answer = f"Gern, hier ist die Synopsis zu {case.brief.show}:\n\n" + case.reference.text[:900]
    problem = "structure: the answer holds no JSON object"
    return AttemptLine(number=1, passed=False, problems=(problem,), checks=("structure",), answer=answer, synopsis=None)


def attempts_of(case: Case, rng: Random, skill: float) -> tuple[AttemptLine, ...]:
    made: list[AttemptLine] = []
    while len(made) < 3:
        if rng.random() < skill:
            made.append(accepted(case.reference))
            break
        bad = refused(case)
        made.append(shapeless(case) if rng.random() < 0.15 or not bad else rng.choice(bad))
    return tuple(one.model_copy(update={"number": place}) for place, one in enumerate(made, start=1))


def row_of(case: Case, model: str, prompt: str, repeat: int, rng: Random) -> Row:
    skill = {REAL[0]: 0.65, REAL[1]: 0.45, DEMO: 0.85}[model] - (0.15 if prompt == "knapp" else 0)
    if rng.random() < 0.03:
        error = f"{model}: the server answered 503 for 5 minutes: try again later"
        return Row(
            case=case.id, model=model, prompt=prompt, repeat=repeat, outcome="failed", attempts=(), best=None,
            error=error,
        )  # fmt: skip
    attempts = attempts_of(case, rng, skill)
    with_text = [place for place, one in enumerate(attempts) if one.synopsis is not None]
    best = min(with_text, key=lambda place: (len(attempts[place].problems), -place), default=None)
    return Row(
        case=case.id, model=model, prompt=prompt, repeat=repeat,
        outcome="accepted" if attempts[-1].passed else "refused",
        attempts=attempts,
        best=best,
        prompt_tokens=rng.randrange(4200, 5200) * len(attempts),
        completion_tokens=rng.randrange(700, 1100) * len(attempts),
        amount=Decimal(rng.randrange(21, 60)) / 10000 if model == REAL[0] else None,
        currency="USD" if model == REAL[0] else "",
        seconds=rng.uniform(5, 14) * len(attempts),
        answered=f"{model}-2026-10" if model == REAL[0] else model,
        words_by_model=rng.randrange(20, 60) if model == DEMO else None,
        created="2026-11-21T08:15:00+00:00",
    )  # fmt: skip


def scores_of(row: Row, rng: Random) -> dict[str, float | None]:
    first = float(bool(row.attempts) and row.attempts[0].passed)
    scores: dict[str, float | None] = dict.fromkeys(METRICS)
    scores |= {"passed_first": first, "passed": float(row.outcome == "accepted")}
    if row.synopsis is None:
        return scores
    scores |= {
        "attempts": float(len(row.attempts)),
        "tokens": float(row.prompt_tokens + row.completion_tokens),
        "cost": None if row.amount is None else float(row.amount),
        "seconds": row.seconds,
        "chrf": rng.gauss(43, 4),
        "rouge_l": rng.gauss(0.27, 0.04),
        "characters": rng.choice((0.75, 1.0, 1.0)),
        "facts": rng.choice((0.6, 0.8, 0.8, 1.0)),
        "length_ratio": rng.gauss(1.02, 0.1),
        "ending": float(rng.random() < 0.8),
        "delta": rng.gauss(0.9, 0.12),
        "novelty": 1 - rng.randrange(3, 9) / 300,
    }
    return scores


def scored_rows(cases: Sequence[Case], models: Sequence[str], repeats: int, seed: int = 1) -> Iterator[Scored]:
    rng = Random(seed)
    for case, model, prompt, repeat in product(cases, models, PROMPTS, range(repeats)):
        if model == DEMO and prompt != "stand":
            continue
        row = row_of(case, model, prompt, repeat, rng)
        yield Scored(row, scores_of(row, rng))


def info_of(cases: Sequence[Case], models: Sequence[str], repeats: int) -> RunInfo:
    return RunInfo(
        name="herbst-vergleich",
        created="2026-11-21T08:15:00+00:00",
        version="0.9.0",
        models=tuple(models),
        prompts=PROMPTS,
        cases={case.id: f"{number:08x}" for number, case in enumerate(cases)},
        repeats=repeats,
        attempts=3,
    )


def results_of(
    info: RunInfo, scored: Sequence[Scored], cases: Sequence[Case], folder: Path = Path("run")
) -> EvalResults:
    """The rows in the order of the plan, as if read from a folder."""
    rows = {each.row.id: each for each in scored}
    planned = tuple(rows[key] for key in dict.fromkeys([*info.keys, *rows]) if key in rows)
    return EvalResults(folder, info, LoadedSuite(Suite(), tuple(cases), folder), planned)
