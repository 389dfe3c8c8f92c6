"""Stock phrases: found in any inflection, each with a way out; good sentences have none."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from synopsis_writer.document import Document
from synopsis_writer.gate.finding import Finding, Language
from synopsis_writer.gate.language import floskel, stock_phrases
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import House, built_in_house, make_house
from synopsis_writer.learning.texts import measure
from synopsis_writer.prompts.templates import render_rules
from synopsis_writer.show import generic_show
from tests.corpus.damage.draft import draft_of, pool
from tests.corpus.measure import gate, good_texts, subject_of

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "floskeln.yaml").read_text(encoding="utf-8"))
WORN = "Der Besuch stellt alles auf den Kopf. Doch dann holt ihn die Vergangenheit ein."


def phrases(text: str) -> list[str]:
    return [text[slice(*phrase.span)] for phrase in stock_phrases(analyse(text))]


def finding(text: str, house: House | None = None, lang: Language = "en") -> Finding:
    asked = replace(gate(), house=house or built_in_house(), lang=lang)
    found = asked.judge(asked.subject(text, "episode", generic_show("X")))
    return next(each for each in found if each.check == "floskel")


@pytest.mark.parametrize("sentence", [each for half in "ABCD" for each in CASES[f"phrases/{half}"]])
def test_a_stock_phrase_is_found(sentence: str) -> None:
    assert phrases(sentence)


@pytest.mark.parametrize("sentence", [each for half in "ABCD" for each in CASES[f"good/{half}"]])
def test_a_good_sentence_holds_none(sentence: str) -> None:
    assert not phrases(sentence)


@pytest.mark.parametrize(
    ("sentence", "marked"),
    [
        ("Am Abend holt sie die Vergangenheit wieder ein.", "holt sie die Vergangenheit"),
        ("Er weiß, dass die Vergangenheit sie einholt.", "Vergangenheit sie einholt"),
        ("Niemand will von der Vergangenheit eingeholt werden.", "Vergangenheit eingeholt"),
        ("Die Vergangenheit droht sie einzuholen.", "Vergangenheit droht sie einzuholen"),
        ("Das hat ihr Leben auf den Kopf gestellt.", "auf den Kopf gestellt"),
        ("Alles wird auf den Kopf gestellt.", "auf den Kopf gestellt"),
        ("Sie stellte das Haus auf den Kopf.", "stellte das Haus auf den Kopf"),
        ("Die Lage spitzt sich zu.", "Lage spitzt"),
        ("Als sich die Lage zuspitzt, geht er.", "Lage zuspitzt"),
    ],
)  # fmt: skip
def test_a_verb_is_found_in_all_its_forms_and_places(sentence: str, marked: str) -> None:
    assert phrases(sentence) == [marked]


def test_a_second_either_or_question_counts_and_the_first_does_not() -> None:
    one = "Bleibt sie, oder geht sie?"
    assert phrases(one) == []
    assert phrases(f"{one} Ein Zug fährt. Verzeiht er, oder schweigt er?") == [", oder schweigt er?"]


def test_the_list_has_forty_patterns_of_eight_kinds_each_with_a_way_out_and_two_rates() -> None:
    kinds = {kind: lines for kind, lines in word_lists("floskeln").items() if " | " in lines[0]}
    lines = [line.split(" | ") for lines in kinds.values() for line in lines if line]
    assert len(kinds) >= 8
    assert len(lines) >= 40
    for pattern, way_out, people, models in lines:
        assert way_out.endswith("."), pattern
        assert all(rate == "-" or float(rate) > 0 for rate in (people, models))


def test_it_warns_names_each_with_a_way_out_and_fixes_nothing() -> None:
    found = finding(WORN)
    assert (found.level, found.passed, found.value, found.fixes) == ("warning", False, 3, ())
    assert "„stellt alles auf den Kopf“ (Zeige, was danach anders ist)" in found.repair
    assert "„holt ihn die Vergangenheit“ (Erzähle, wer kommt oder was sich findet)" in found.repair
    assert [WORN[slice(*span)] for span in found.spans][1] == "Doch dann"
    german = finding(WORN, lang="de")
    assert german.message.startswith("Floskeln, 3: „stellt")
    assert german.limit == "keine Floskeln"


@pytest.mark.parametrize(("limit", "is_passed"), [("[0, 2]", False), ("[0, 3]", True), ("3", True)])
def test_the_house_sets_the_limit(limit: str, is_passed: bool) -> None:
    data = {"name": "x", "defaults": {"phrases": yaml.safe_load(limit)}}
    assert finding(WORN, make_house(Document(Path("house.yaml"), data, ""))).passed is is_passed


@pytest.mark.parametrize(("level", "wanted"), [("error", "error"), ("warning", "warning"), (False, None)])
def test_the_house_sets_the_level_and_off_leaves_the_prompt_free(level: object, wanted: str | None) -> None:
    data = {"name": "x", "defaults": {"checks": {"floskel": level}}}
    house = make_house(Document(Path("house.yaml"), data, ""))
    asked = replace(gate(), house=house)
    found = asked.judge(asked.subject(WORN, "episode", generic_show("X")))
    assert next((each.level for each in found if each.check == "floskel"), None) == wanted
    assert ("floskel" in render_rules(house.form("episode"), house).checks) is (wanted is not None)


def test_a_house_that_loves_its_phrases_is_measured_with_them() -> None:
    assert measure(analyse(WORN))["phrases"] == 3


def test_few_of_the_good_texts_are_warned_of() -> None:
    """Five phrases in 83 texts by people who had no such check: docs/checks.md names them."""
    texts = [*pool().examples, *good_texts()]
    warned = [text.id for text in texts if not floskel(subject_of(draft_of(text))).passed]
    assert len(warned) <= 5
