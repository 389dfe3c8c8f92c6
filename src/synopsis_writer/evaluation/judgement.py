"""Judgements: the shapes of a judge's answers, how they are read, and what they come to."""

from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from synopsis_writer.client import Answer
from synopsis_writer.synopsis import parse


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WireFact(_Wire):
    """Whether the text says one fact, as it goes over the wire."""

    number: int
    said: bool


class WireScores(_Wire):
    """The answer to a request for scores, as it goes over the wire: reasons first."""

    reasons: str
    facts: list[WireFact]
    coherence: int
    theme: int
    style: int
    language: int


class WirePreference(_Wire):
    """The answer to a request for a preference, as it goes over the wire: reasons first."""

    reasons: str
    better: Literal["first", "second", "equal"]


def _given(text: str) -> str:
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())  # no lone surrogates in a file
    if not line:
        raise ValueError("is empty: reasons come before scores")
    return line


_Reasons = Annotated[str, AfterValidator(_given)]
_Score = Annotated[int, Field(strict=True, ge=1, le=5)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Fact(_Strict):
    number: Annotated[int, Field(strict=True)]
    said: Annotated[bool, Field(strict=True)]


class _Scales(_Strict):
    coherence: _Score
    theme: _Score
    style: _Score
    language: _Score


class ScoreAnswer(_Scales):
    """An answer to a request for scores, within its ranges."""

    reasons: _Reasons
    facts: tuple[_Fact, ...]


class PairAnswer(_Strict):
    """An answer to a request for a preference."""

    reasons: _Reasons
    better: Literal["first", "second", "equal"]


class Scores(_Scales):
    """What the judge says of one text.

    Attributes:
        coherence, theme, style, language: 1 to 5; more is better.
        facts: whether the text says each of the `checklist`, in its order.
        reasons: why, in German.
    """

    facts: tuple[bool, ...]
    reasons: str


class Judgement(_Strict):
    """What the judge says of one text, and what that took; `model_dump_json` makes a line of it.

    Attributes:
        scores: by the rubric; None where the answers could not be read.
        preference: 1 the text is better than the reference in both orders, 0 the reference is in both, 0.5
            otherwise; None where an answer could not be read.
        model: who judged, as its server names it.
        prompt: names, versions and hashes of the templates.
        calls: answers in all; `unread` of them could not be read.
        prompt_tokens, cached_tokens, completion_tokens: of all answers.
        amount, currency: what all answers cost; None where a price is not known.
    """

    scores: Scores | None
    preference: Annotated[float, Field(ge=0, le=1)] | None
    model: str
    prompt: str
    calls: int
    unread: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    amount: Decimal | None
    currency: str


def judge_metrics(judgement: Judgement) -> dict[str, float | None]:
    """Return the metrics of a judgement: more is better, None is unscored.

    `judge_coherence`, `judge_theme`, `judge_style` and `judge_language` go from 1 to 5; `judge_facts`, the
    share of the checklist that the text says, and `judge_preference` from 0 to 1. Source: the rubric in
    `prompts/judge.md`; a pair is asked in both orders as Zheng et al. (2023), arXiv 2306.05685, propose.
    """
    scores = judgement.scores
    facts = scores.facts if scores is not None else ()
    scales = {f"judge_{scale}": getattr(scores, scale, None) for scale in _Scales.model_fields}
    return {
        **{name: None if value is None else float(value) for name, value in scales.items()},
        "judge_facts": sum(facts) / len(facts) if facts else None,
        "judge_preference": judgement.preference,
    }


Told = TypeVar("Told", bound=BaseModel)


def read_verdict(answer: Answer, shape: type[Told]) -> Told | None:
    """Return the one verdict in an answer; of two, one may be quoted from the text under judgement."""
    if answer.finish != "stop" or answer.text.count('"reasons"') > 1:
        return None
    return parse(answer.text, shape).value
