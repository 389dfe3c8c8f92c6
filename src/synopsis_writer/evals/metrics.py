"""What is measured of a row, and against what."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from synopsis_writer.errors import SettingsError
from synopsis_writer.evals.record import Row
from synopsis_writer.evals.suite import Case
from synopsis_writer.gate.cast import named
from synopsis_writer.gate.copies import CopyIndex, name_forms
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.lexicon import LONGEST_WORD, commonness, is_content, is_function_word, stem
from synopsis_writer.gate.text import Text, analyse, lower_words
from synopsis_writer.house.house import House
from synopsis_writer.show import Show, find_show, generic_show
from synopsis_writer.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """A row with the value of each metric; None is unscored."""

    row: Row
    scores: Mapping[str, float | None]

    @cached_property
    def digest(self) -> str:
        """What stands for the row in files of judgements and ratings."""
        return self.row.digest


@dataclass(frozen=True)
class FunctionWordProfile:
    """How often the references use the commonest function words.

    Means and deviations are those of the words' shares in all references, whatever their form; a form's
    profile is the mean z-score of each word in its references.
    """

    words: tuple[str, ...]  # commonest first
    means: "Numbers"
    deviations: "Numbers"
    profiles: Mapping[str, "Numbers"]

    def distance(self, words: Sequence[str], form: str) -> float | None:
        """Return Delta: the mean absolute difference of z-scores to the form's profile, 0 and up.

        None for a form without a profile, and for a text of fewer than 50 words, which are lower-case.
        Source: Burrows, "'Delta': a Measure of Stylistic Difference", 2002.
        """
        profile = self.profiles.get(form)
        if profile is None or len(words) < _LEAST_WORDS:
            return None
        return float(abs((_shares(words, self.words) - self.means) / self.deviations - profile).mean())


@dataclass(frozen=True)
class References:
    """What texts are measured against beside their own case; `examples` are ids of those among `sources`."""

    shows: tuple[Show, ...]
    house: House
    sources: CopyIndex | None
    examples: frozenset[str]
    function_words: FunctionWordProfile


def load_references(workspace: Workspace, cases: Sequence[Case]) -> References:
    """Return what texts are measured against, from all cases of a suite, not only those of the run."""
    texts = [(case.brief.form, lower_words(case.reference.text)) for case in cases]
    examples = frozenset(example.id for example in workspace.pool.examples)
    return References(
        workspace.pool.shows,
        workspace.gate.house,
        workspace.gate.sources,
        examples,
        learn_function_words(texts),
    )


Measure = Callable[[Row, Case | None, References], float | None]


@dataclass(frozen=True)
class Metric:
    """How a metric is computed, which side is better (0: neither), and a label: what it is, its range."""

    function: Measure
    direction: Literal[-1, 0, 1]
    label: str

    @property
    def name(self) -> str:
        """Without its range."""
        return self.label.partition(", ")[0]

    @property
    def note(self) -> str:
        """Its range and direction in words."""
        direction = {1: "higher is better", -1: "lower is better", 0: "for information only"}[self.direction]
        return "; ".join(filter(None, (self.label.partition(", ")[2], direction)))


def _metered(measure: Callable[[Row], float | None]) -> Measure:
    """Make a measure of what a row took: of one that failed, or has cached answers, that says nothing."""

    def measure_row(row: Row, _case: Case | None, _references: References) -> float | None:
        return None if row.outcome == "failed" or row.kept else measure(row)

    return measure_row


def _tokens(row: Row) -> float | None:
    """Return the tokens of all prompts and answers; None where the server does not report them."""
    is_reported = row.prompt_tokens or not row.attempts
    return float(row.prompt_tokens + row.completion_tokens) if is_reported else None


def novelty(row: Row, _case: Case | None, references: References) -> float | None:
    """Return 1 less the share of the text that its longest run of words from an example makes up, 0 to 1.

    More is better. Runs of fewer than six words do not count; any name stands for any other.
    """
    text, synopsis = _text(row), row.synopsis
    if text is None or synopsis is None or references.sources is None or not text.words:
        return None
    names = name_forms(person.name for person in synopsis.characters)
    matches = references.sources.matches(text, names)
    runs = [match.words for match in matches if match.source in references.examples]
    return 1.0 - max(runs, default=0) / len(text.words)


def _of_text(measure: Callable[[Text, Case, References], float | None]) -> Measure:
    """Make a measure of a row out of one of a text; a row without a text or a case is unscored."""

    def measure_row(row: Row, case: Case | None, references: References) -> float | None:
        text = _text(row)
        return None if text is None or case is None else measure(text, case, references)

    return measure_row


@_of_text
def characters(text: Text, case: Case, references: References) -> float | None:
    """Return the share of the reference's people whom the text names, 0 to 1; more is better.

    Names are matched as in the gate's check `cast`: inflected, by last or by first name alone.
    """
    house, people = references.house, tuple(person.name for person in case.reference.characters)
    show = find_show(references.shows, case.brief.show) or generic_show(case.brief.show)
    brief = case.brief.model_copy(update={"characters": people})
    form = house.forms.get(brief.form, house.form(None))  # names are looked for alike in all
    return named(Subject(text, form, show, house, brief))[0]


@_of_text
def ending(text: Text, case: Case, references: References) -> float | None:
    """Whether text and reference both end on a question, or both do not: 1 or 0, more is better.

    It is seen as by the gate's check `hook`: in an open form a question in the last fifth of the sentences
    counts, in a closed one the last sentence must ask.
    """
    form = references.house.forms.get(case.brief.form)
    is_open = form is not None and form.ending == "question"

    def ends_asking(text: Text) -> bool:
        last = max(1, round(len(text.sentences) / 5)) if is_open else 1
        return any(sentence.is_question for sentence in text.sentences[-last:])

    return float(ends_asking(text) == ends_asking(_reference(case)))


def _compared(measure: Callable[[Text, Text], float]) -> Measure:
    return _of_text(lambda text, case, _: measure(text, _reference(case)))


_METRICS: dict[str, tuple[Measure, Literal[-1, 0, 1], str]] = {
    "passed_first": (
        lambda row, *_: float(bool(row.attempts) and row.attempts[0].passed),
        1,
        "passed at the first attempt, 0 to 1",
    ),
    "passed": (lambda row, *_: float(row.outcome == "accepted"), 1, "passed in the end, 0 to 1"),
    "attempts": (lambda row, *_: float(len(row.attempts)), -1, "attempts"),
    "tokens": (_metered(_tokens), -1, "tokens"),
    "cost": (_metered(lambda row: None if row.amount is None else float(row.amount)), -1, "cost"),
    "seconds": (_metered(lambda row: row.seconds), -1, "seconds"),
    "chrf": (_compared(lambda text, other: character_overlap(text.raw, other.raw)), 1, "chrF, 0 to 100"),
    "rouge_l": (_compared(lambda text, one: word_overlap(_words(text), _words(one))), 1, "ROUGE-L, 0 to 1"),
    "characters": (characters, 1, "people of the reference, 0 to 1"),
    "facts": (_of_text(lambda text, case, _: fact_recall(case, text)), 1, "facts told, 0 to 1"),
    "length_ratio": (
        _compared(lambda text, other: len(text.words) / max(1, len(other.words))),
        0,
        "length over the reference's",
    ),
    "ending": (ending, 1, "kind of ending, 0 or 1"),
    "delta": (
        _of_text(lambda text, case, known: known.function_words.distance(_words(text), case.brief.form)),
        -1,
        "Burrows's Delta",
    ),
    "novelty": (novelty, 1, "novelty against the examples, 0 to 1"),
}
METRICS: Mapping[str, Metric] = MappingProxyType({name: Metric(*each) for name, each in _METRICS.items()})


def score(row: Row, case: Case | None, references: References) -> Scored:
    """Compute all metrics of a row; `case` is None when the suite no longer has it."""
    return Scored(row, {name: metric.function(row, case, references) for name, metric in METRICS.items()})


def _reference(case: Case) -> Text:
    return analysed(case.reference.text)


def _text(row: Row) -> Text | None:
    return None if row.outcome == "failed" or row.synopsis is None else analysed(row.synopsis.text)


# Rows come case by case or model by model: the references of a suite stay, and so does the row's own text.
@lru_cache(maxsize=128)
def analysed(raw: str) -> Text:
    """Return the analysed text; the latest ones are cached."""
    return analyse(raw)


def _words(text: Text) -> list[str]:
    return [word.lower for word in text.words]


def character_overlap(text: str, reference: str) -> float:
    """Return chrF, the F2 score of shared runs of one to six characters, 0 to 100; 100 is equality.

    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", 2015, by sacrebleu 2.6
    (`nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`).
    """
    return float(chrf_scorer().sentence_score(text, [reference]).score)


@cache
def chrf_scorer() -> Any:
    """Return sacrebleu's chrF; raises SettingsError where it is not installed."""
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise SettingsError("evals need sacrebleu: pip install 'synopsis-writer[evals]'") from error
    return CHRF()


def word_overlap(words: Sequence[str], reference: Sequence[str]) -> float:
    """Return ROUGE-L, the F1 score of the longest common subsequence of words, 0 to 1; 1 is equality.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.1, with beta 1.
    """
    from rapidfuzz.distance import LCSseq

    if not words or not reference:
        return 0.0
    return 2 * LCSseq.similarity(words, reference) / (len(words) + len(reference))


# Of 20 to 120 tried on 21 references: fewer tell the forms apart worse, of more the rarest occur in three.
_FUNCTION_WORDS = 80
_LEAST_WORDS = 50  # in fewer the shares of function words are chance
MIN_REFERENCES = 5  # with fewer references a standard deviation says nothing


def learn_function_words(texts: Sequence[tuple[str, Sequence[str]]]) -> FunctionWordProfile:
    """Learn from references, each its form and its lower-case words; an empty profile from fewer than five.

    A form has few references, so the standard deviations are those of all forms' references together.
    """
    import numpy as np

    counts = Counter(word for _, words in texts for word in words if is_function_word(word))
    common = sorted(counts, key=lambda word: (-counts[word], word))[:_FUNCTION_WORDS]
    if len(texts) < MIN_REFERENCES or not common:
        return FunctionWordProfile((), np.empty(0), np.empty(0), {})
    shares = np.array([_shares(words, common) for _, words in texts])
    deviations = shares.std(axis=0, ddof=1)
    varied = deviations > 1e-12  # noqa: PLR2004 - what rounding alone makes
    means, deviations = shares.mean(axis=0)[varied], deviations[varied]
    scores, forms = (shares[:, varied] - means) / deviations, np.array([form for form, _ in texts])
    profiles = {form: scores[forms == form].mean(axis=0) for form in set(forms.tolist()) if varied.any()}
    return FunctionWordProfile(tuple(np.array(common)[varied].tolist()), means, deviations, profiles)


def _shares(words: Sequence[str], wanted: Sequence[str]) -> "Numbers":
    import numpy as np

    counts = Counter(words)
    return np.array([counts[word] for word in wanted], dtype=np.float64) / max(1, len(words))


# Chosen together on the data of docs/metrics.md.
WINDOW = 3  # sentences in a row in which a fact's words must meet
RECALLED = 0.4  # share of a fact's weight from which on it is told
_NAME = 0.5  # what a name weighs of other words: another story about the same people tells no fact
_COMMON, _RARE = 7.0, 2.0  # Zipf frequencies: of a word that would weigh nothing, and of the heaviest
_SHORTEST_PREFIX, _PREFIX_SHARE = 4, 0.7  # letters that two stems of one family share, and of the shorter one
_LEAD = re.compile(r"^(?:Am Ende )?(?:Offen (?:bleibt|ist))\b[, ]*")  # words about the text, not in it

Fact = tuple[tuple[str, float], ...]  # stems with their weights


def fact_recall(case: Case, text: Text) -> float | None:
    """Return the share of the case's facts that a text tells, 0 to 1.

    A fact is told when words of two fifths of its weight meet within three sentences. Only those facts count
    that the reference itself tells by this rule: the others it paraphrases, and no count of words can find
    them. None when no fact counts.
    """
    facts = _countable(case)
    if not facts:
        return None
    sentences = _stems(text)
    return sum(_share(fact, sentences) >= RECALLED for fact in facts) / len(facts)


@lru_cache(maxsize=256)
def _countable(case: Case) -> tuple[Fact, ...]:
    people = (*case.brief.characters, *(person.name for person in case.reference.characters))
    names = name_forms(people)
    reference = _stems(analyse(case.reference.text))
    facts = (_fact(line, names) for line in case.facts)
    return tuple(fact for fact in facts if fact and _share(fact, reference) >= RECALLED)


def _fact(line: str, names: Collection[str]) -> Fact:
    return tuple(
        (stem(word), (_COMMON - max(_RARE, commonness(word))) * (_NAME if word in names else 1.0))
        for word in dict.fromkeys(lower_words(_LEAD.sub("", line)))
        if _says_something(word)
    )


def _stems(text: Text) -> list[frozenset[str]]:
    words = ([word.lower for word in text.words_of(sentence)] for sentence in text.sentences)
    return [frozenset(stem(word) for word in sentence if _says_something(word)) for sentence in words]


def _says_something(word: str) -> bool:
    return is_content(word) and len(word) <= LONGEST_WORD


def _share(fact: Fact, sentences: Sequence[frozenset[str]]) -> float:
    """Return the largest share of a fact's weight that turns up within the window, 0 to 1."""
    matches = [{wanted for wanted, _ in fact if _turns_up(wanted, stems)} for stems in sentences]
    windows = (set().union(*matches[start : start + WINDOW]) for start in range(len(matches)))
    weights = (sum(weight for wanted, weight in fact if wanted in window) for window in windows)
    return max(weights, default=0.0) / sum(weight for _, weight in fact)


def _turns_up(wanted: str, stems: Collection[str]) -> bool:
    """Whether a stem, or one of its family, is among others: a compound and its part, a verb and its noun."""
    from rapidfuzz.distance import Prefix

    return any(
        wanted in other
        or Prefix.similarity(wanted, other)
        >= max(_SHORTEST_PREFIX, _PREFIX_SHARE * min(len(wanted), len(other)))
        for other in stems
    )
