"""The metrics of a row: plain functions of the row, its case and the yardstick.

Each returns None where it cannot be computed: unscored, which is counted and never 0. A failed row counts in
`passed_first`, `passed` and `attempts` alone; a refused one is scored on its best text, as an accepted one.
A case that is no longer there is None; what needs it is then unscored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from synopsis_writer.evaluation.case import Case
from synopsis_writer.evaluation.overlap import chrf as character_overlap
from synopsis_writer.evaluation.overlap import rouge_l as word_overlap
from synopsis_writer.evaluation.row import Row
from synopsis_writer.evaluation.scored import Scored
from synopsis_writer.evaluation.told import told_facts
from synopsis_writer.evaluation.yardstick import Yardstick, read
from synopsis_writer.kinds import Form
from synopsis_writer.shows import find_show, generic_show
from synopsis_writer.style.cast import named
from synopsis_writer.style.copies import name_words
from synopsis_writer.style.finding import Subject
from synopsis_writer.style.text import Text
from synopsis_writer.synopsis import Synopsis

Measure = Callable[[Row, Case | None, Yardstick], float | None]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        function: computes it for a row; None is unscored.
        direction: +1 more is better, -1 less is better, 0 for information alone.
        label: what it is, in a few words, with its unit or range.
    """

    function: Measure
    direction: Literal[-1, 0, 1]
    label: str


def passed_first(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Whether the first answer held the gate: 1 or 0, more is better."""
    return float(bool(row.attempts) and row.attempts[0].passed)


def passed(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Whether a text was accepted in the end: 1 or 0, more is better."""
    return float(row.outcome == "accepted")


def attempts(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Return how many answers were asked for and came, 0 and up; fewer are better."""
    return float(len(row.attempts))


def tokens(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Return the tokens of all prompts and answers, 0 and up; fewer are better.

    None for a failed row, for answers from the cache, and where the server does not say what it counted.
    """
    if row.outcome == "failed" or row.kept or (row.attempts and not row.prompt_tokens):
        return None
    return float(row.prompt_tokens + row.completion_tokens)


def cost(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Return what all attempts cost, in the run's currency, 0 and up; less is better.

    None for a failed row, for answers from the cache, and for an unpriced model.
    """
    return None if row.outcome == "failed" or row.kept or row.amount is None else float(row.amount)


def seconds(row: Row, _case: Case | None, _yard: Yardstick) -> float | None:
    """Return the model's time for all attempts in seconds, 0 and up; less is better.

    None for a failed row, and for answers from the cache.
    """
    return None if row.outcome == "failed" or row.kept else row.seconds


def chrf(row: Row, case: Case | None, _yard: Yardstick) -> float | None:
    """Return the overlap of character runs with the reference, 0 to 100; more is better.

    Source: Popović 2015, see `overlap.chrf`.
    """
    text = _text(row)
    return (
        None if text is None or case is None else character_overlap(text.raw, read(case.reference.text).raw)
    )


def rouge_l(row: Row, case: Case | None, _yard: Yardstick) -> float | None:
    """Return the F1 score of the longest common subsequence of words, 0 to 1; more is better.

    Words are German ones in lower case with their umlauts. Source: Lin 2004, see `overlap.rouge_l`.
    """
    text = _text(row)
    return (
        None
        if text is None or case is None
        else word_overlap(_words(text), _words(read(case.reference.text)))
    )


def characters(row: Row, case: Case | None, yard: Yardstick) -> float | None:
    """Return the share of the reference's people whom the text names, 0 to 1; more is better.

    Names are found as the gate's check `cast` finds them: inflected, by last or by first name alone.
    """
    text = _text(row)
    if text is None or case is None:
        return None
    form, people = case.brief.form, tuple(person.name for person in case.reference.characters)
    show = find_show(yard.shows, case.brief.show) or generic_show(case.brief.show)
    asked = case.brief.model_copy(update={"characters": people})
    return named(Subject(text, form, yard.profile.forms[form], show, asked))[0]


def facts(row: Row, case: Case | None, _yard: Yardstick) -> float | None:
    """Return the share of the case's facts that the text tells, 0 to 1; more is better.

    None for a case without a fact that words can find. The rule is ours: see `told.told_facts`.
    """
    text = _text(row)
    return None if text is None or case is None else told_facts(case, text)


def length_ratio(row: Row, case: Case | None, _yard: Yardstick) -> float | None:
    """Return the text's words over the reference's, 0 and up; 1 is as long, and no side is better."""
    text = _text(row)
    if text is None or case is None:
        return None
    return len(text.words) / max(1, len(read(case.reference.text).words))


def ending(row: Row, case: Case | None, _yard: Yardstick) -> float | None:
    """Whether text and reference both end on a question, or both do not: 1 or 0, more is better."""
    text = _text(row)
    if text is None or case is None:
        return None
    form = case.brief.form
    return float(_ends_asking(text, form) == _ends_asking(read(case.reference.text), form))


def delta(row: Row, case: Case | None, yard: Yardstick) -> float | None:
    """Return the distance of the function words to those of the form's references, 0 and up; less is closer.

    Source: Burrows 2002, see `delta.Manner.distance`.
    """
    text = _text(row)
    return None if text is None or case is None else yard.manner.distance(_words(text), case.brief.form)


def novelty(row: Row, _case: Case | None, yard: Yardstick) -> float | None:
    """Return 1 less the share of the text that its longest run of words from an example makes up, 0 to 1.

    More is better. Runs of fewer than six words do not count; any name stands for any other.
    """
    text, synopsis = _text(row), _best(row)
    if text is None or synopsis is None or yard.sources is None or not text.words:
        return None
    names = name_words(person.name for person in synopsis.characters)
    runs = [m.words for m in yard.sources.matches(text, names) if m.source in yard.examples]
    return 1.0 - max(runs, default=0) / len(text.words)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "passed_first": Metric(passed_first, 1, "passed at the first attempt, 0 to 1"),
        "passed": Metric(passed, 1, "passed in the end, 0 to 1"),
        "attempts": Metric(attempts, -1, "attempts"),
        "tokens": Metric(tokens, -1, "tokens"),
        "cost": Metric(cost, -1, "cost"),
        "seconds": Metric(seconds, -1, "seconds"),
        "chrf": Metric(chrf, 1, "chrF, 0 to 100"),
        "rouge_l": Metric(rouge_l, 1, "ROUGE-L, 0 to 1"),
        "characters": Metric(characters, 1, "people of the reference, 0 to 1"),
        "facts": Metric(facts, 1, "facts told, 0 to 1"),
        "length_ratio": Metric(length_ratio, 0, "length over the reference's"),
        "ending": Metric(ending, 1, "kind of ending, 0 or 1"),
        "delta": Metric(delta, -1, "Burrows's Delta"),
        "novelty": Metric(novelty, 1, "novelty against the examples, 0 to 1"),
    }
)


def score(row: Row, case: Case | None, yard: Yardstick) -> Scored:
    """Compute all metrics of a row; `case` is None when there is no longer such a case."""
    return Scored(row, {name: metric.function(row, case, yard) for name, metric in METRICS.items()})


def _best(row: Row) -> Synopsis | None:
    return None if row.outcome == "failed" else row.synopsis


def _text(row: Row) -> Text | None:
    synopsis = _best(row)
    return None if synopsis is None else read(synopsis.text)


def _words(text: Text) -> list[str]:
    return [word.lower for word in text.words]


def _ends_asking(text: Text, form: Form) -> bool:
    """Whether a text ends on a question, as the gate's check `hook` sees it in texts of the form.

    In an open form a question in the last fifth of the sentences will do, in a closed one the last must ask.
    """
    last = max(1, round(len(text.sentences) / 5)) if form.is_open else 1
    return any(sentence.is_question for sentence in text.sentences[-last:])
