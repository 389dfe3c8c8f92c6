"""German as it is written: what is right passes every check, what is wrong is refused by its own."""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from synopsis_writer.gate.finding import exceeds
from synopsis_writer.gate.gate import CHECKS, failures
from synopsis_writer.gate.sources import Source, index_sources
from synopsis_writer.gate.story import same_openings
from synopsis_writer.gate.text import analyse
from tests.corpus.damage.draft import Draft, draft_of, joined, paragraphs, sentences
from tests.corpus.measure import gate, good_texts, subject_of

_CASES = Path(__file__).parent / "cases"
_WORDS = 70  # of a short text
_SHORT = {"length", "paragraphs", "rhythm", "hook"}  # checks that a short text fails anyway


def _cases() -> Iterator[tuple[str, str, str]]:
    """Yield each sentence with the place where it is put and the check that must refuse it, or `pass`."""
    for case in yaml.safe_load((_CASES / "german.yaml").read_text(encoding="utf-8")):
        yield case["sentence"], case["place"], case["right"]
    kinds = yaml.safe_load((_CASES / "german_kinds.yaml").read_text(encoding="utf-8"))
    for key, listed in kinds.items():
        right, place = key.split("/")
        for sentence in listed:
            yield sentence, place, right


@cache
def _drafts(place: str) -> tuple[Draft, ...]:
    """Return two good texts whose form suits the place, the first of half A."""
    drafts = [draft_of(example) for example in good_texts()]
    if place == "teaser":
        drafts = [draft for draft in drafts if draft.brief.form == "teaser"]
    elif place == "end":
        drafts = [draft for draft in drafts if draft.brief.form in {"episode", "special"}]
    return tuple(next(draft for draft in drafts if draft.half == half) for half in ("A", "B"))


def _with(draft: Draft, sentence: str, place: str) -> Draft:
    parts = paragraphs(draft.text)
    middle = len(parts) // 2
    if place == "para":
        parts.insert(middle, sentence)
    elif place in {"end", "teaser"}:
        parts[-1] += f" {sentence}"
    else:
        told = sentences(parts[middle])
        parts[middle] = " ".join([*told[:1], sentence, *told[1:]])
    text = joined(parts)
    return replace(draft, text=unicodedata.normalize("NFD", text) if place == "nfd" else text)


def _short(draft: Draft) -> Draft:
    """Return the draft's first sentences as one paragraph of about 70 words."""
    told = sentences(draft.text)
    count = next(n for n in range(1, len(told)) if len(" ".join(told[:n]).split()) >= _WORDS)
    return replace(draft, text=" ".join(told[:count]))


@cache
def _refused(draft: Draft) -> frozenset[str]:
    """Return the checks that refuse a draft which many tests ask for."""
    return frozenset(_refusals(draft))


def _refusals(draft: Draft) -> dict[str, str]:
    return {finding.check: finding.message for finding in failures(gate().judge(subject_of(draft)))}


@pytest.mark.parametrize(("sentence", "place", "right"), list(_cases()))
def test_judges_a_sentence_rightly(sentence: str, place: str, right: str) -> None:
    for good in _drafts(place):
        refusals = _refusals(_with(good, sentence, place))
        assert refusals == {} if right == "pass" else right in refusals
        brief_text = _short(good)
        more = _refusals(_with(brief_text, sentence, place)).keys() - _refused(brief_text) - _SHORT
        assert more == set() if right == "pass" else right in more


def test_judges_a_decomposed_text_like_the_composed_one() -> None:
    for good in _drafts("in"):
        decomposed = replace(good, text=unicodedata.normalize("NFD", good.text))
        assert _refusals(decomposed) == {}


@pytest.mark.parametrize(
    ("text", "orthography", "is_right"),
    [
        ("Auf der Strasse liess er alles stehen.", "de-CH", True),
        ("Auf der Straße ließ er alles stehen.", "de-CH", False),
        ("Auf der Straße ließ er alles stehen.", "de-AT", True),
        ("Auf der Strasse liess er alles stehen.", "de-AT", False),
        ("Herr Weiß grüsst freundlich.", "de-CH", True),
    ],
)
def test_judges_sharp_s_by_the_orthography(text: str, orthography: str, is_right: bool) -> None:
    subject = subject_of(_drafts("in")[0])
    house = subject.house.model_copy(update={"orthography": orthography})
    subject = replace(subject, text=analyse(text), house=house)
    finding = CHECKS["umlauts"](subject)
    assert finding is not None
    assert finding.passed == is_right, finding.message


@pytest.mark.parametrize(
    "text",
    [
        "Der Jänner bringt Schnee. Die Maturantin isst Palatschinken mit Ribiseln im Stiegenhaus.",
        "Der Primararzt urgiert die Delogierung. Der Rauchfangkehrer wartet bei der Trafikantin.",
        "Der Fleischhauer faschiert, der Obmann urgierte beim Magistrat und wurde delogiert.",
        "Das Velo ist parkiert. Die Maturandin isst Rüebli und Gipfeli zum Znüni, der Abwart grilliert.",
        "Die Einvernahme im Kantonsspital ist speditiv. Ein Traktandum bleibt pendent, sagt der Garagist.",
    ],
)
def test_knows_austrian_and_swiss_words(text: str) -> None:
    finding = CHECKS["spelling"](replace(subject_of(_drafts("in")[0]), text=analyse(text)))
    assert finding is not None
    assert finding.passed, finding.message


def test_names_alone_make_no_copied_run() -> None:
    text = "Dann kommen Anna Berger und Dr. Paul Winter und Ida Krohn und Prof. Jan Vogt zu Tisch."
    names = ("Anna Berger", "Paul Winter", "Ida Krohn", "Jan Vogt")
    index = index_sources([Source("alt", f"Gestern trafen {text[13:-10]} im Hof ein.", names)])
    words = frozenset(word.lower() for name in names for word in name.split())
    assert index.matches(analyse(text), words) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Die Tür klemmt. Die Ärztin wartet. Die Nacht beginnt.", 0),
        ("Im Flur ist es still. Im Keller tropft es. Im Hof bellt ein Hund.", 0),
        ("Die Ärztin kommt. Die Ärztin wartet. Die Ärztin geht.", 3),
        ("Dann kommt sie. Dann wartet sie. Dann geht sie.", 3),
    ],
)
def test_openings_count_words_of_weight(text: str, count: int) -> None:
    assert len(same_openings(analyse(text))) == count


@pytest.mark.parametrize(
    ("cases", "total", "share", "is_beyond"),
    [
        (1, 5, 0.0, False),
        (2, 8, 0.05, False),
        (3, 8, 0.3, False),
        (8, 8, 0.3, True),
        (12, 35, 0.3, False),
        (26, 35, 0.3, True),
        (3, 3, 1.0, False),
        (3, 100, 0.0, True),
    ],
)
def test_a_share_needs_enough_cases(cases: int, total: int, share: float, is_beyond: bool) -> None:
    assert exceeds(cases, total, share) == is_beyond


_NOW = "Ida Krohn wartet im Hof und zählt die Fenster. "
_THEN = "Der Vater ging fort. Die Mutter weinte und schwieg. Niemand fragte nach, keiner half. "


@pytest.mark.parametrize(
    ("told", "form", "switch"),
    [
        (f"{_NOW * 6}{_THEN}{_NOW}", "episode", "ging"),
        (f"{_NOW * 6}{_THEN}Damals war sie acht. {_NOW}", "episode", ""),
        (f"{_NOW * 6}{_THEN}Das war im Winter vor dem Brand. {_NOW}", "episode", ""),
        (f"{_NOW * 6}{_THEN}In der Nacht, als es brannte, schlief sie. {_NOW}", "episode", ""),
        (f"{_NOW * 6}{_THEN}Die Schwester hatte alles gesehen. {_NOW}", "episode", ""),
        (f"{_NOW * 6}{_THEN}Der Bruder war schon gegangen. {_NOW}", "episode", ""),
        (f"{_NOW * 6}\n\n{_THEN * 3}", "special", ""),
        (f"{_THEN * 2}{_NOW * 3}\n\n{_THEN * 3}", "special", "wartet"),
    ],
)
def test_names_the_verb_that_switches_the_tense(told: str, form: str, switch: str) -> None:
    subject = gate().as_form(replace(subject_of(_drafts("in")[0]), text=analyse(told)), form)
    finding = CHECKS["tense"](subject)
    assert finding is not None
    assert finding.passed == (not switch), finding.message
    assert f"with „{switch}“" in finding.message or not switch
