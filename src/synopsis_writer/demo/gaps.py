"""Gaps of a scaffold, filled by the packaged model."""

from collections.abc import Collection
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field

from synopsis_writer.document import read_fields, read_text
from synopsis_writer.errors import TemplateError
from synopsis_writer.gate.text import word_parts
from synopsis_writer.models.embedded import Completion, Engine, Sampling
from synopsis_writer.usage import Usage

_SAMPLING = Sampling(temperature=0.6)
_CANDIDATES, _ATTEMPTS, _MAX_TOKENS = 4, 3, 36
_SAME_STEM = 4  # letters that two forms of a word share at least
_GOOD_ENOUGH = -1.2  # a candidate this good ends the search
_TOO_BAD = -2.4  # at or below it, the fixed phrase is better


class FewShot(BaseModel, frozen=True, extra="forbid"):
    """A theme and the sentence it led to."""

    theme: str
    sentence: str


class GapKind(BaseModel, frozen=True, extra="forbid"):
    """How the gaps of one kind are filled."""

    lead: str  # how each sentence begins; `{name}` stands for the person
    lines: Annotated[tuple[FewShot, ...], Field(min_length=4)]
    grammar: str  # what may follow the lead, as GBNF; the rule `person` is added
    fixed: Annotated[tuple[str, ...], Field(min_length=2)]  # phrases to fall back on


class People(BaseModel, frozen=True, extra="forbid"):
    """People in the genitive: those who `always` fit, and those who fit only `if_named` by the theme."""

    always: Annotated[tuple[str, ...], Field(min_length=2)]
    if_named: tuple[str, ...] = ()

    def rule(self, theme: str, unwanted: Collection[str]) -> str:
        """Return the grammar rule `person` for a theme, without people that begin like an unwanted word."""
        words, fitting = _lower(theme), []
        for person in (*self.always, *self.if_named):
            noun = person.rpartition(" ")[2].casefold()
            is_named = person in self.always or any(_is_named(noun, word) for word in words)
            if is_named and not noun.startswith(tuple(unwanted)):
                fitting.append(f'"{person}"')
        return "person ::= " + " | ".join(fitting)


class GapRules(BaseModel, frozen=True, extra="forbid"):
    """The rules for all gaps: the kinds of `scaffold.GAPS`, who may appear, and which prefixes may not."""

    people: People
    fear: GapKind
    worry: GapKind
    hope: GapKind
    blocked: tuple[str, ...] = ()


class FilledGap(NamedTuple):
    """The text of a gap, how many of its words the model wrote, and the usage."""

    text: str
    words_by_model: int
    usage: Usage


def load_gap_rules(folder: Path) -> GapRules:
    """Read `gaps.yaml` and `blocked.txt` in `folder`; raises TemplateError or FileError."""
    rules = read_fields(folder / "gaps.yaml", GapRules, TemplateError)
    return rules.model_copy(update={"blocked": tuple(read_words(folder / "blocked.txt"))})


def read_words(path: Path) -> list[str]:
    """Return the lines of a word list, without empty lines and comments."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]


async def fill_gap(
    engine: Engine, rules: GapRules, kind: str, *,
    theme: str, name: str, unwanted: Collection[str], taken: Collection[str], rng: Random,
) -> FilledGap:  # fmt: skip
    """Fill one gap of `kind`, one of `GAPS`, in a sentence about the person `name`.

    `unwanted` are words that would be wrong here: names of other shows, the role of that person; the texts
    of the gaps before, `taken`, are not repeated. `rng` gives the engine's seed, and the fixed phrase.
    """
    gap: GapKind = getattr(rules, kind)
    shots = "".join(f"Thema: {line.theme}\nSatz: {line.sentence}\n\n" for line in gap.lines)
    fallback = rng.choice([phrase for phrase in gap.fixed if phrase not in taken] or gap.fixed)
    usage, best_text, best = Usage(), "", _TOO_BAD
    for _ in range(_ATTEMPTS):
        candidates = await engine.complete(
            f"{shots}Thema: {theme}\nSatz: {gap.lead.format(name=name)}",
            grammar=f"{gap.grammar}\n{rules.people.rule(theme, unwanted)}",
            n=_CANDIDATES,
            max_tokens=_MAX_TOKENS,
            sampling=_SAMPLING,
            seed=rng.getrandbits(31),
            logprobs=True,
        )
        for candidate in candidates:
            usage += candidate.usage
            text = candidate.text.strip().removesuffix(".")
            value = score(candidate, gap, rules, theme=theme, unwanted=unwanted)
            if value > best and text not in taken:
                best_text, best = text, value
        if best >= _GOOD_ENOUGH:
            break
    return FilledGap(best_text or fallback, len(best_text.split()), usage)


def score(answer: Completion, gap: GapKind, rules: GapRules, theme: str, unwanted: Collection[str]) -> float:
    """Return how good an answer is: its mean log-probability minus the penalties; 0 would be perfect."""
    if not answer.logprobs:
        return float("-inf")
    from wordfreq import zipf_frequency

    text, lowered, themed = answer.text, _lower(answer.text), _lower(theme)
    shown_words = {word for line in gap.lines for word in word_parts(line.sentence)}
    shown_runs = {run for line in gap.lines for run in _runs(line.sentence)}
    # Rarer than one in a million; the list of rarer words would take 80 MB.
    rare = [word for word in lowered if word not in themed and not zipf_frequency(word, "de", "small")]
    penalties = (
        (2.0, rare),
        (0.8, any(word[0].isupper() for word in shown_words.intersection(word_parts(text)))),
        (3.0, shown_runs & _runs(text)),
        (4.0, any(word.startswith(tuple(map(str.casefold, unwanted))) for word in lowered)),
        (6.0, any(word.startswith(rules.blocked) for word in lowered)),
        (6.0, not text.rstrip().endswith(".")),  # truncated
    )
    return fmean(answer.logprobs) - sum(penalty for penalty, applies in penalties if applies)


def _lower(text: str) -> list[str]:
    return [word.casefold() for word in word_parts(text)]


def _is_named(noun: str, word: str) -> bool:
    """Whether a theme's word names a person: `Läuferin` in `Eiskunstläuferin`, `Kindes` by `Kind`."""
    same_gender = noun.endswith("in") == word.endswith("in")
    return same_gender and (noun in word or noun[:_SAME_STEM] == word[:_SAME_STEM])


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _lower(text)
    return {tuple(words[start : start + 4]) for start in range(len(words) - 3)}
