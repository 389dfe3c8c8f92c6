"""Measures a judge and the copy desk on texts in which faults were planted."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from synopsis_writer.batch.run import run_concurrently
from synopsis_writer.document import Document, read_fields
from synopsis_writer.errors import InputError
from synopsis_writer.evals.judge import Judge, RatedText, Trust
from synopsis_writer.evals.metrics import Interval, wilson_interval
from synopsis_writer.evals.suite import Case
from synopsis_writer.gate.form import preterite_share
from synopsis_writer.gate.lexicon import TITLES, word_lists
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import REVIEW
from synopsis_writer.models.base import Answer
from synopsis_writer.settings import folder
from synopsis_writer.synopsis import Character, Paragraph, Synopsis
from synopsis_writer.workspace import Report
from synopsis_writer.writer import Writer

RATED = "rated by people"  # instead of a corruption: the better text of a pair is the good one
TALLY_HEADS = ("corruption", "gate", "wins", "ties", "losses", "unscored", "prefers the good text")
Half = Literal["tuning", "held-out"]
HALVES: tuple[Half, ...] = ("tuning", "held-out")
KINDS = "name first-name role gender relation number age time knowledge step reference language".split()
CODE = "consistency"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tally:
    """How a judge did on one kind of corruption, by pairs of a good text and a corrupted one."""

    corruption: str
    gate: str  # whether the style gate sees it, too: no, partly or yes; empty for a sum
    wins: int = 0  # it preferred the good text in both orders
    ties: int = 0  # the orders disagreed, or the answer was equal
    losses: int = 0  # it preferred the corrupted text in both orders
    unscored: int = 0  # an answer could not be read

    @property
    def agreement(self) -> Interval | None:
        """The share of wins in the pairs that were scored; None when there are none."""
        scored = self.wins + self.ties + self.losses
        return wilson_interval(self.wins, scored) if scored else None


Outcomes = Counter[tuple[str, float | None]]
"""How often a judge preferred the corrupted text, by the corruption's name: 0, 0.5, 1, or None: unscored."""


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt a text."""

    name: str  # what is wrong, in a few words
    # Whether the style gate refuses such texts, too: 90 % or more of them, less than 15 %, or in between.
    gate: Literal["no", "partly", "yes"]
    # Corrupts a case's reference, given the other cases; None where there is nothing to corrupt.
    change: Callable[[Case, Sequence[Case], Random], Synopsis | None]


async def check_judge(
    judge: Judge, cases: Sequence[Case], corruptions: Sequence[Corruption], seed: int, outcomes: Outcomes, *,
    concurrency: int = 4, rated: Sequence[RatedText] = (),
) -> None:  # fmt: skip
    """Have a judge compare references with corrupted copies, and `rated` pairs; `outcomes` are counted as they come."""
    pairs = [
        (corruption.name, case, case.reference, text)
        for corruption in corruptions
        for case in cases
        if (text := corrupt(corruption, case, cases, seed)) is not None
    ]
    pairs += [(RATED, *each) for each in rated]

    async def compare(pair: tuple[str, Case, Synopsis, Synopsis]) -> None:
        name, case, good, bad = pair
        outcomes[name, await judge.prefer(case, bad, good)] += 1
        if outcomes.total() % 10 == 0:
            _log.info("compared %d of %d pairs", outcomes.total(), len(pairs))

    await run_concurrently(iter(pairs), compare, concurrency)


def tallies(outcomes: Outcomes) -> list[Tally]:
    """Return a tally for each corruption, one of the pairs that people rated, if any, and the sum."""
    gates: dict[str, str] = {each.name: each.gate for each in CORRUPTIONS}
    rated = [RATED] if any(name == RATED for name, _ in outcomes) else []

    def tally(name: str, *counted: str) -> Tally:
        counts = (sum(outcomes[each, value] for each in counted) for value in (0.0, 0.5, 1.0, None))
        return Tally(name, gates.get(name, ""), *counts)

    return [*(tally(name, name) for name in (*gates, *rated)), tally("all", *gates)]


def tally_rows(outcomes: Outcomes) -> Iterator[Sequence[object]]:
    """Yield the tallies of a judge's pairs as rows to print below `TALLY_HEADS`."""
    for each in tallies(outcomes):
        share = each.agreement
        agreement = f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})" if share else "unscored"
        yield each.corruption, each.gate, each.wins, each.ties, each.losses, each.unscored, agreement


def check_data(judge: str, outcomes: Outcomes) -> dict[str, Any]:
    """Return how a judge did as JSON holds it."""
    judged = trusts(outcomes)
    return {
        "judge": judge,
        "untrusted": not judged or any(each.is_untrusted for each in judged),
        "agreement": {each.what: each.agreement and asdict(each.agreement) for each in judged},
        "tallies": [asdict(each) for each in tallies(outcomes)[:-1]],
    }


def trusts(outcomes: Outcomes) -> list[Trust]:
    """Return how far to trust a judge, on corrupted texts and, where there are any, on pairs that people rated."""
    *kinds, whole = tallies(outcomes)
    measured = [Trust(whole.agreement, "prefers the good text")]
    measured += [Trust(each.agreement, "agrees with people") for each in kinds if each.corruption == RATED]
    return [trust for trust in measured if trust.agreement]


def corrupt(corruption: Corruption, case: Case, cases: Sequence[Case], seed: int) -> Synopsis | None:
    """Return the reference, corrupted alike for the same seed; None where there is nothing to corrupt."""
    rng = Random(f"{seed}\n{corruption.name}\n{case.id}")  # noqa: S311 - a choice, no secret
    text = corruption.change(case, [other for other in cases if other.id != case.id], rng)
    return text if text and text.paragraphs not in ((), case.reference.paragraphs) else None


def _with_paragraphs(synopsis: Synopsis, paragraphs: Sequence[Paragraph]) -> Synopsis:
    return synopsis.model_copy(update={"paragraphs": tuple(paragraphs)})


def _sentences(synopsis: Synopsis) -> list[list[str]]:
    texts = (analyse(paragraph.text) for paragraph in synopsis.paragraphs)
    return [[sentence.text for sentence in text.sentences] for text in texts]


def _with_sentences(synopsis: Synopsis, sentences: Sequence[Sequence[str]]) -> Synopsis:
    parts = zip(synopsis.paragraphs, sentences, strict=True)
    changed = [old.model_copy(update={"text": " ".join(new)}) for old, new in parts if new]
    return _with_paragraphs(synopsis, changed)


def _shuffled(case: Case, _: Sequence[Case], rng: Random) -> Synopsis:
    """Shuffle the sentences across the whole text; the last one stays, so that the kind of ending does."""
    sentences = _sentences(case.reference)
    *mixed, last = [sentence for paragraph in sentences for sentence in paragraph]
    rng.shuffle(mixed)
    drawn = iter([*mixed, last])
    return _with_sentences(case.reference, [[next(drawn) for _ in paragraph] for paragraph in sentences])


def _names_swapped(case: Case, _: Sequence[Case], __: Random) -> Synopsis | None:
    texts = [paragraph.text for paragraph in case.reference.paragraphs]
    half, titles = len(texts) // 2, TITLES | {"herr", "frau", "von"}
    people = [
        [part for part in person.name.split() if part.rstrip(".").lower() not in titles]
        for person in case.reference.characters
    ]
    words = Counter(re.findall(r"\w+", " ".join(texts[half:])))

    def named(person: Sequence[str]) -> int:
        return max((words[part] + words[f"{part}s"] for part in person), default=0)

    pairs = [(a, b) for a, b in combinations(people, 2) if len(a) == len(b) and named(a) and named(b)]
    if not pairs:
        return None
    one, other = max(pairs, key=lambda pair: min(map(named, pair)))
    swaps = {**dict(zip(other, one, strict=True)), **dict(zip(one, other, strict=True))}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, swaps))})(?=s?\b)")
    texts[half:] = [pattern.sub(lambda match: swaps[match[1]], text) for text in texts[half:]]
    return case.reference.with_text("\n\n".join(texts))


def _foreign_paragraph(case: Case, others: Sequence[Case], rng: Random) -> Synopsis | None:
    is_past = _is_past(case.reference.text)
    alike = [other for other in others if _is_past(other.reference.text) == is_past]
    near = [other for other in alike if other.brief.show == case.brief.show] or alike
    if not near:
        return None
    paragraphs = case.reference.paragraphs
    half = (len(paragraphs) + 1) // 2
    stray = rng.choice(rng.choice(near).reference.paragraphs)
    return _with_paragraphs(case.reference, [*paragraphs[:half], stray, *paragraphs[half:]])


@cache  # each case asks for all others
def _is_past(text: str) -> bool:
    return preterite_share(analyse(text)) > 1 / 2


def _facts_left_out(case: Case, _: Sequence[Case], rng: Random) -> Synopsis | None:
    from rapidfuzz import fuzz

    sentences = _sentences(case.reference)
    *left, last = [sentence for paragraph in sentences for sentence in paragraph]
    for fact in rng.sample(case.facts, (len(case.facts) + 1) // 2):
        if left:
            left.remove(max(left, key=lambda sentence: fuzz.token_set_ratio(fact, sentence)))
    rest = [[each for each in paragraph if each in {*left, last}] for paragraph in sentences]
    return _with_sentences(case.reference, rest)


def _filler_sentences(case: Case, _: Sequence[Case], rng: Random) -> Synopsis:
    *sentences, last = _sentences(case.reference)
    sayings = word_lists("hollow")["sentences"]
    filler = rng.sample(sayings, len(sayings))
    padded = [[*paragraph, filler[row % len(filler)]] for row, paragraph in enumerate(sentences)]
    return _with_sentences(case.reference, [*padded, last])


def _words_swapped(case: Case, _: Sequence[Case], rng: Random) -> Synopsis:
    sentences = _sentences(case.reference)
    for paragraph in sentences:
        for number in range(0, len(paragraph), 2):
            words = paragraph[number].split(" ")
            is_plain = [re.fullmatch(r"[^\W\d_]+", word) for word in words]
            pairs = [index for index in range(1, len(words) - 1) if is_plain[index] and is_plain[index + 1]]
            if pairs:
                index = rng.choice(pairs)
                words[index : index + 2] = words[index + 1], words[index]
                paragraph[number] = " ".join(words)
    return _with_sentences(case.reference, sentences)


def _another_story(case: Case, others: Sequence[Case], rng: Random) -> Synopsis | None:
    alike = [other.reference for other in others if other.brief.form == case.brief.form]
    return rng.choice(alike) if alike else None


def _repeated(case: Case, _: Sequence[Case], rng: Random) -> Synopsis:
    paragraphs = case.reference.paragraphs
    index = rng.randrange(len(paragraphs))
    return _with_paragraphs(case.reference, [*paragraphs[: index + 1], *paragraphs[index:]])


CORRUPTIONS = (
    Corruption("sentences shuffled", "no", _shuffled),
    Corruption("words swapped", "no", _words_swapped),
    Corruption("hollow sentences", "no", _filler_sentences),
    Corruption("foreign paragraph", "partly", _foreign_paragraph),
    Corruption("names swapped", "no", _names_swapped),
    Corruption("facts left out", "partly", _facts_left_out),
    Corruption(
        "ending cut off", "partly", lambda case, *_: _with_paragraphs(case.reference, case.reference.paragraphs[:-1])
    ),
    Corruption("paragraph told twice", "yes", _repeated),
    Corruption("another story", "yes", _another_story),
)


class Slip(BaseModel, frozen=True, extra="forbid"):
    """A fault to plant: `new` instead of `old`, which occurs in the text once."""

    kind: str
    old: str
    new: str


class ReviewText(BaseModel, frozen=True, extra="forbid"):
    """A text without a fault, its brief and people, and slips, each for a copy of its own."""

    id: str
    show: str
    theme: str
    form: str
    title: str
    logline: str
    characters: tuple[Character, ...]
    text: str
    slips: tuple[Slip, ...]

    def document(self, slip: Slip | None) -> Document:
        """Return the text as a file, with a slip if one is given."""
        brief = {"show": self.show, "theme": self.theme, "form": self.form}
        meta = self.model_dump(mode="json", include={"title", "logline", "characters"})
        text = self.text.replace(slip.old, slip.new) if slip else self.text
        return Document(Path(self.id), {"brief": brief, **meta}, text.strip())


class _File(BaseModel, frozen=True, extra="forbid"):
    texts: Annotated[tuple[ReviewText, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Reading:
    """What one checker, `consistency` or `review`, found in one text."""

    by: str
    half: Half
    kind: str  # of its slip; empty without one
    hit: bool | None  # whether the slip's sentence is marked; None: the text was not read
    others: int  # other sentences that are marked
    answers: tuple[Answer, ...] = ()


def load_texts(half: Half) -> tuple[ReviewText, ...]:
    """Return the texts of a half; raises InputError."""
    return read_fields(folder("evals") / "review" / f"{half}.yaml", _File, InputError).texts


async def check_review(
    writer: Writer, halves: Sequence[Half], *, review: bool, concurrency: int, results: list[Reading]
) -> None:
    """Have each text read as it is, and with each of its slips, by code, and by a model if `review`."""
    texts = [(half, text) for half in halves for text in load_texts(half)]
    work = [(half, text, slip) for half, text in texts for slip in (None, *text.slips)]

    async def read(item: tuple[Half, ReviewText, Slip | None]) -> None:
        half, text, slip = item
        report, kind = await writer.check(text.document(slip), review=review), slip.kind if slip else ""
        results.append(Reading(CODE, half, kind, *_marked(report, CODE, slip)))
        if review:
            results.append(Reading(REVIEW, half, kind, *_marked(report, REVIEW, slip), report.reviews))

    await run_concurrently(iter(work), read, concurrency)


def _marked(report: Report, check: str, slip: Slip | None) -> tuple[bool | None, int]:
    """Return whether a check marked a sentence with the slip, and how many other sentences; unread: None."""
    findings = [each for each in report.findings if each.check == check and not each.passed]
    if any(isinstance(each.value, str) for each in findings):
        return None, 0
    start = report.text.find(slip.new) if slip else -1
    planted = range(start, start + len(slip.new)) if slip else range(0)
    spans = [span for each in findings for span in each.spans]
    marked = [
        planted.start < sentence.span.end and sentence.span.start < planted.stop
        for sentence in analyse(report.text).sentences
        if any(span.start < sentence.span.end and sentence.span.start < span.end for span in spans)
    ]
    return any(marked), marked.count(False)


def review_summary(readings: Sequence[Reading], halves: Sequence[Half]) -> list[dict[str, Any]]:
    """Return, by checker and half, recall by kind of slip, and false alarms in texts without one."""
    rows: list[dict[str, Any]] = []
    for by, half in product((CODE, REVIEW), halves):
        mine = [each for each in readings if (each.by, each.half) == (by, half)]
        if not mine:
            continue
        read = [each for each in mine if each.hit is not None]
        recall: dict[str, dict[str, Any] | None] = {}
        for kind in ("", *KINDS):
            hits = [bool(each.hit) for each in read if each.kind and kind in {"", each.kind}]
            share = wilson_interval(sum(hits), len(hits)) if hits else None
            ends = {"low": round(share.low, 3), "high": round(share.high, 3)} if share else {}
            recall[kind] = {"found": sum(hits), "of": len(hits), **ends} if hits else None
        clean = [bool(each.others) for each in read if not each.kind]
        rows.append({
            "by": by, "half": half, "recall": recall, "clean_texts": len(clean), "clean_texts_marked": sum(clean),
            "other_sentences_marked": sum(each.others for each in mine if each.kind), "unread": len(mine) - len(read),
        })  # fmt: skip
    return rows


def review_rows(summary: Sequence[dict[str, Any]]) -> Iterator[Sequence[str]]:
    """Yield a summary as rows to print, the heading first."""
    yield "kind of slip", *(f"{each['by']}, {each['half']}" for each in summary)
    for kind in (*KINDS, ""):
        shares = [each["recall"][kind] for each in summary]
        yield kind or "all slips", *(f"{share['found']} of {share['of']}" if share else "–" for share in shares)
    for key in ("clean_texts_marked", "other_sentences_marked", "unread"):
        yield key.replace("_", " "), *(str(each[key]) for each in summary)
