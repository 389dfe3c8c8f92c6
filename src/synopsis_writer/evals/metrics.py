"""Metrics of a row, and the means, intervals and comparisons of many."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from itertools import chain
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from rapidfuzz.distance import LCSseq, Prefix

from synopsis_writer.errors import SettingsError
from synopsis_writer.evals.record import Row, RunInfo
from synopsis_writer.evals.suite import Case, Metric
from synopsis_writer.gate.cast import named
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.lexicon import LONGEST_WORD, commonness, is_content, is_function_word, stem
from synopsis_writer.gate.sources import name_forms
from synopsis_writer.gate.text import Text, analyse, lower_words
from synopsis_writer.house import Form
from synopsis_writer.synopsis import Synopsis
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
        """The row's digest in files of judgements and ratings."""
        return self.row.digest


# Of 20 to 120 tried on 21 references: fewer tell the forms apart worse, of more the rarest occur in three.
_FUNCTION_WORDS = 80
_LEAST_WORDS = 50  # in fewer the shares of function words are chance
MIN_REFERENCES = 5  # with fewer references a standard deviation says nothing
_SCORING = 1  # raised when a metric yields other values: cached scores are then computed again


class FunctionWordProfile:
    """The mean z-scores of a form's references (forms and lower-case words) among all; fewer than five have none."""

    def __init__(self, texts: Sequence[tuple[str, Sequence[str]]]) -> None:
        import numpy as np

        counts = Counter(word for _, words in texts for word in words if is_function_word(word))
        self._words = sorted(counts, key=lambda word: (-counts[word], word))[:_FUNCTION_WORDS]
        self._profiles: dict[str, Numbers] = {}
        if len(texts) < MIN_REFERENCES:
            return
        shares = np.array([self._shares(words) for _, words in texts])
        deviations = shares.std(axis=0, ddof=1)
        varied = deviations > 1e-12  # noqa: PLR2004 - what rounding alone makes
        if varied.any():
            self._words = np.array(self._words)[varied].tolist()
            self._means, self._deviations = shares.mean(axis=0)[varied], deviations[varied]
            scores, forms = shares[:, varied] - self._means, np.array([form for form, _ in texts])
            scores /= self._deviations
            self._profiles = {form: scores[forms == form].mean(axis=0) for form in set(forms.tolist())}

    def _shares(self, words: Sequence[str]) -> "Numbers":
        import numpy as np

        counts = Counter(words)
        return np.array([counts[word] for word in self._words], dtype=np.float64) / max(1, len(words))

    def distance(self, words: Sequence[str], form: str) -> float | None:
        """Return Burrows's Delta (2002) to the form's profile, 0 and up; None without one, or below 50 words."""
        profile = self._profiles.get(form)
        if profile is None or len(words) < _LEAST_WORDS:
            return None
        return float(abs((self._shares(words) - self._means) / self._deviations - profile).mean())


@dataclass(frozen=True)
class References:
    """What texts are measured against beside their own case."""

    workspace: Workspace  # of the house that they are written for
    cases: Sequence[Case]  # all of that house in the suite, not only those of the run

    @cached_property
    def function_words(self) -> FunctionWordProfile:
        """How often the references use the commonest function words."""
        return FunctionWordProfile([(case.brief.form, lower_words(case.reference.text)) for case in self.cases])

    @cached_property
    def digest(self) -> str:
        """64 hex digits that change with everything that scores depend on."""
        texts = [(case.id, case.brief.form, case.reference) for case in self.cases]
        pool, house = self.workspace.pool, self.workspace.house
        examples = [(example.id, example.synopsis) for example in pool.examples]
        parts = (_SCORING, sorted(METRICS), house, pool.shows, texts, examples)
        return hashlib.sha256(repr(parts).encode("utf-8")).hexdigest()


METRICS: Mapping[str, Metric] = {
    "passed_first": Metric(1, "passed at the first attempt", "0 to 1"),
    "passed": Metric(1, "passed in the end", "0 to 1"),
    **{name: Metric(-1, name) for name in ("attempts", "tokens", "cost", "seconds")},
    "chrf": Metric(1, "chrF", "0 to 100"),
    "rouge_l": Metric(1, "ROUGE-L", "0 to 1"),
    "characters": Metric(1, "people of the reference", "0 to 1"),
    "facts": Metric(1, "facts told", "0 to 1"),
    "length_ratio": Metric(0, "length over the reference's"),
    "ending": Metric(1, "kind of ending", "0 or 1"),
    "delta": Metric(-1, "Burrows's Delta"),
    "novelty": Metric(1, "novelty against the examples", "0 to 1"),
}
JUDGE_METRICS: Mapping[str, Metric] = {
    **{f"judge_{each}": Metric(1, f"judge: {each}", "1 to 5") for each in ("coherence", "theme", "style", "language")},
    "judge_facts": Metric(1, "judge: facts told", "0 to 1"),
    "judge_preference": Metric(1, "judge: preferred to the reference", "0 to 1"),
}
ALL_METRICS: Mapping[str, Metric] = {**METRICS, **JUDGE_METRICS}


def score(row: Row, case: Case | None, references: References) -> Scored:
    """Compute all metrics of a row; `case` is None when the suite no longer has it."""
    scores: dict[str, float | None] = {
        **dict.fromkeys(METRICS),
        "passed_first": float(bool(row.attempts) and row.attempts[0].passed),
        "passed": float(row.outcome == "accepted"),
        "attempts": float(len(row.attempts)),
    }
    if row.outcome == "failed":
        return Scored(row, scores)
    if not row.kept:  # answers from the cache say nothing of what a text takes
        if row.prompt_tokens or not row.attempts:  # otherwise the server does not report tokens
            scores["tokens"] = float(row.prompt_tokens + row.completion_tokens)
        scores |= {"cost": None if row.amount is None else float(row.amount), "seconds": row.seconds}
    if row.synopsis is not None:
        text = analysed(row.synopsis.text)
        scores["novelty"] = novelty(text, row.synopsis, references.workspace)
        if case is not None:
            reference, words = analysed(case.reference.text), _words(text)
            form, workspace = case.brief.form, references.workspace
            scores |= {
                "chrf": character_overlap(text.raw, reference.raw),
                "rouge_l": word_overlap(words, _words(reference)),
                "characters": characters(text, case, workspace),
                "facts": fact_recall(case, text),
                "length_ratio": len(words) / max(1, len(reference.words)),
                "ending": ending(text, reference, workspace.house.forms.get(form)),
                "delta": references.function_words.distance(words, form),
            }
    return Scored(row, scores)


def novelty(text: Text, synopsis: Synopsis, workspace: Workspace) -> float | None:
    """Return 1 less the share of the text in its longest run of six words or more from an example, 0 to 1."""
    if workspace.gate.sources is None or not text.words:
        return None
    examples = {example.id for example in workspace.pool.examples}
    names = name_forms(person.name for person in synopsis.characters)
    matches = workspace.gate.sources.matches(text, names)
    longest = max((match.words for match in matches if match.source in examples), default=0)
    return 1.0 - longest / len(text.words)


def characters(text: Text, case: Case, workspace: Workspace) -> float:
    """Return the share of the reference's people whom the text names, as the check `cast` sees it, 0 to 1."""
    house, people = workspace.house, tuple(person.name for person in case.reference.characters)
    brief = case.brief.model_copy(update={"characters": people})
    form = house.forms.get(brief.form, house.form(None))  # names are looked for alike in all
    return named(Subject(text, form, workspace.find_show(brief.show), house, brief))[0]


def ending(text: Text, reference: Text, form: Form | None) -> float:
    """Return 1 if both end on a question (in an open form: ask in the last fifth), or both do not; else 0."""
    is_open = form is not None and form.ending == "question"

    def ends_asking(text: Text) -> bool:
        last = max(1, round(len(text.sentences) / 5)) if is_open else 1
        return any(sentence.is_question for sentence in text.sentences[-last:])

    return float(ends_asking(text) == ends_asking(reference))


# Rows come case by case or model by model: the references of a suite stay, and so does the row's own text.
analysed = lru_cache(maxsize=128)(analyse)


def _words(text: Text) -> list[str]:
    return [word.lower for word in text.words]


def character_overlap(text: str, reference: str) -> float:
    """Return chrF (Popović 2015), 0 to 100, by sacrebleu: `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`."""
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
    """Return ROUGE-L, F1 of the longest common subsequence of words, 0 to 1 (Lin 2004, 3.1, with beta 1)."""
    return 2 * LCSseq.similarity(words, reference) / max(1, len(words) + len(reference))


# Chosen together on the data of docs/metrics.md.
WINDOW = 3  # sentences in a row in which a fact's words must meet
RECALLED = 0.4  # share of a fact's weight from which on it is told
_NAME = 0.5  # what a name weighs of other words: another story about the same people tells no fact
_COMMON, _RARE = 7.0, 2.0  # Zipf frequencies: of a word that would weigh nothing, and of the heaviest
_SHORTEST_PREFIX, _PREFIX_SHARE = 4, 0.7  # letters that two stems of one family share, and of the shorter one
_LEAD = re.compile(r"^(?:Am Ende )?(?:Offen (?:bleibt|ist))\b[, ]*")  # words about the text, not part of its story

Fact = tuple[tuple[str, float], ...]  # stems with their weights


def fact_recall(case: Case, text: Text) -> float | None:
    """Return the share of the facts told in the reference's words that a text tells, 0 to 1; None without any."""
    facts = _countable(case)
    if not facts:
        return None
    sentences = _stems(text)
    return sum(_share(fact, sentences) >= RECALLED for fact in facts) / len(facts)


@lru_cache(maxsize=256)
def _countable(case: Case) -> tuple[Fact, ...]:
    people = (*case.brief.characters, *(person.name for person in case.reference.characters))
    names, reference = name_forms(people), _stems(analyse(case.reference.text))
    facts = []
    for line in case.facts:
        words = filter(_says_something, dict.fromkeys(lower_words(_LEAD.sub("", line))))
        weights = {word: _COMMON - max(_RARE, commonness(word)) for word in words}
        fact = tuple((stem(word), weights[word] * (_NAME if word in names else 1.0)) for word in weights)
        if fact and _share(fact, reference) >= RECALLED:
            facts.append(fact)
    return tuple(facts)


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
    beginning = wanted[:_SHORTEST_PREFIX]
    return any(wanted in other or (other.startswith(beginning) and _are_family(wanted, other)) for other in stems)


def _are_family(one: str, other: str) -> bool:
    return Prefix.similarity(one, other) >= max(_SHORTEST_PREFIX, _PREFIX_SHARE * min(len(one), len(other)))


# With fewer cases a verdict would be wrong too often: where there is no difference, all n cases fall on one
# side, and no draw reaches zero, with a probability of 2 ** (1 - n): 6 % for five cases, 3 % for six.
MIN_CASES = 6
# With 60 pairs a share of 60 % has an interval of ± 12 points. So many are needed where texts are preferred.
MIN_PAIRS = 60
_Z = 1.959964  # the normal distribution's 97.5th percentile: an interval of 95 %

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Interval:
    """A mean over so many cases with its 95 % interval; `unscored` rows had no value."""

    mean: float
    low: float
    high: float
    cases: int
    unscored: int = 0


@dataclass(frozen=True)
class Group:
    """The summary of one model with one prompt version."""

    model: str
    prompt: str
    is_demo: bool  # whether it made demo drafts: no model makes both these and others
    rows: int  # that there are; `planned` that there will be
    planned: int
    accepted: int
    refused: int
    failed: int
    metrics: Mapping[str, Interval | None]  # None where no row could be scored
    findings: Mapping[str, int]  # how often each check refused an answer, most often first

    @property
    def name(self) -> str:
        """Model and prompt version, and whether it is of demo drafts."""
        return f"{self.model} · {self.prompt}" + (" · demo" if self.is_demo else "")


@dataclass(frozen=True)
class MetricComparison:
    """Two groups of rows, compared by one metric over the cases that both have scored."""

    metric: str
    direction: Literal[-1, 0, 1]  # +1 more is better, -1 less is better, 0 neither
    difference: Interval | None  # the second's mean less the first's, case by case; None: they share no case
    wins: int  # cases in which the second is better; for a metric without direction higher
    ties: int
    losses: int
    only_a: tuple[str, ...]  # cases that only the first has scored
    only_b: tuple[str, ...]
    verdict: Verdict | None  # on the second group; None for a metric without direction


@dataclass(frozen=True)
class Comparison:
    """Two groups, compared case by case, by their names."""

    first: str
    second: str
    differences: tuple[MetricComparison, ...]
    winner: str = ""  # who is preferred, or what is missing to say it


def estimate(rows: Sequence[Scored], metric: str) -> Interval | None:
    """Return the mean of a metric over cases, each that of its repeats; None where no row has a value."""
    means = _case_means(rows, metric)
    unscored = sum(each.scores.get(metric) is None for each in rows)
    return replace(interval(list(means.values())), unscored=unscored) if means else None


def compare(a: Sequence[Scored], b: Sequence[Scored], metric: str) -> MetricComparison:
    """Compare `b` with the baseline `a`, case by case."""
    first, second = _case_means(a, metric), _case_means(b, metric)
    differences = [second[case] - first[case] for case in sorted(first.keys() & second.keys())]
    unscored = sum(each.scores.get(metric) is None for each in (*a, *b))
    return replace(
        preferred(metric, differences, ALL_METRICS[metric].direction, unscored),
        only_a=tuple(sorted(first.keys() - second.keys())),
        only_b=tuple(sorted(second.keys() - first.keys())),
    )


def preferred(
    metric: str, differences: Sequence[float], sign: Literal[-1, 0, 1] = 1, unscored: int = 0
) -> MetricComparison:
    """Return the comparison that differences make, one of each case: the second's value less the first's."""
    differences = [0.0 if abs(each) < 1e-9 else each for each in differences]  # noqa: PLR2004 - rounding
    wins, losses = (sum(each * (sign or 1) * side > 0 for each in differences) for side in (1, -1))
    found = replace(interval(differences), unscored=unscored) if differences else None
    fewest = MIN_PAIRS if metric.startswith(("judge_", "people_")) else MIN_CASES
    verdict: Verdict | None = "no difference shown" if sign else None
    if sign and found and found.cases >= fewest and not found.low <= 0 <= found.high:
        verdict = "better" if found.mean * sign > 0 else "worse"
    ties = len(differences) - wins - losses
    return MetricComparison(metric, sign, found, wins, ties, losses, (), (), verdict)


def _case_means(rows: Sequence[Scored], metric: str) -> Mapping[str, float]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for each in rows:
        if (value := each.scores.get(metric)) is not None:
            values[each.row.case].append(value)
    return {case: fmean(sorted(values[case])) for case in sorted(values)}


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of one or more values with its 95 % interval, a percentile bootstrap; their order matters."""
    import numpy as np

    if min(values) == max(values):
        return Interval(values[0], values[0], values[0], len(values))
    data = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(data[_draws(len(data))].mean(axis=1), (2.5, 97.5))
    return Interval(fmean(values), float(low), float(high), len(values))


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return a share with Wilson's 95 % score interval (Journal of the ASA 22, 1927, 209-212)."""
    share = successes / trials
    spread = _Z * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    middle, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return Interval(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale), trials)


@lru_cache(maxsize=4)
def _draws(count: int) -> "npt.NDArray[np.intp]":
    import numpy as np

    seed = 20_250_422  # any will do; a fixed one gives the same interval for the same data
    return np.random.default_rng(seed).integers(0, count, (2_000, count), dtype=np.intp)


def summarise(info: RunInfo, scored: Sequence[Scored]) -> list[Group]:
    """Return a group for each model with each prompt version, in the run's order; empty ones, too."""
    rows_of: dict[tuple[str, str], list[Scored]] = {(key.model, key.prompt): [] for key in info.keys}
    for each in scored:
        rows_of[each.row.model, each.row.prompt].append(each)
    planned, groups = info.planned // len(rows_of), []
    for (model, prompt), rows in rows_of.items():
        found = Counter(each.row.outcome for each in rows)
        names = dict.fromkeys((*METRICS, *(name for each in rows for name in each.scores)))
        intervals = {name: estimate(rows, name) for name in names}
        checks = (set(each.checks) for one in rows for each in one.row.attempts if not each.passed)
        findings = dict(Counter(sorted(chain.from_iterable(checks))).most_common())
        is_demo = any(each.row.is_demo for each in rows)
        counts = len(rows), planned, found["accepted"], found["refused"], found["failed"]
        groups.append(Group(model, prompt, is_demo, *counts, intervals, findings))
    return groups
