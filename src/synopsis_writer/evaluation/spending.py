"""What a run has spent up to now, so that a budget holds for all of it, however often it is taken up."""

from collections.abc import Iterable
from pathlib import Path

from synopsis_writer.client import Cost, total_cost
from synopsis_writer.client.budget import Spent
from synopsis_writer.evaluation.judged import read_judged
from synopsis_writer.evaluation.judgement import Judgement
from synopsis_writer.evaluation.row import Row


def spent_on(folder: Path, rows: Iterable[Row]) -> Spent:
    """Return what rows and all judgements in a run's folder took.

    Raises:
        FileError: the judgements cannot be read.
    """
    judges = read_judged(folder, lambda _: None)  # who opens the run is told of half lines
    made: list[Row | Judgement] = [row for row in rows if row.attempts]
    made += [judgement for told in judges.values() for judgement in told.values()]
    costs = [None if one.amount is None else Cost(one.amount, one.currency) for one in made]
    return Spent(_total(costs), sum(one.prompt_tokens + one.completion_tokens for one in made))


def _total(costs: Iterable[Cost | None]) -> Cost | None:
    try:
        return total_cost(costs)
    except ValueError:  # two currencies have no sum: as if one had no price
        return None
