"""Prompt and gate state the same: every number of a prompt is the house's, and the other way round."""

import re
from pathlib import Path

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.house import Form, House, built_in_house, load_house
from synopsis_writer.prompts.templates import count, load_prompts, render_rules, share, span
from synopsis_writer.settings import folder
from synopsis_writer.show import generic_show

SWISS = """\
name: Zürich
orthography: de-CH
quotation_marks: « »
forms:
  kurztext:
    purpose: Vorschau für die Programmpresse.
    words: [55, 130]
    paragraphs: [1, 2]
    tense: either
    preterite: [0.1, 0.85]
    ending: ellipsis
    sentence_mean: [8, 19]
    sentence_deviation: [3, 11]
    sentence_longest: 33
    questions: [0, 0.2]
    speech: [0.02, 0.3]
    exclamations: 1
    variety: [0.75, 1]
    actors_in_brackets: yes
    headline: yes
    aim: {words: [70, 110], spoken_sentences: [1, 3], questions_asked: [1, 1]}
"""
LISTINGS = """\
name: Programmheft
orthography: de-AT
quotation_marks: » «
forms:
  epg:
    purpose: Inhalt für den Programmführer.
    characters: [90, 180]
    paragraphs: [1, 1]
    ending: any
    sentence_mean: [6, 22]
    sentence_longest: 25
    speech: 0
    questions: 0
    exclamations: 0
    actors_in_brackets: no
    aim: {characters: [120, 170]}
    checks: {repetition: off, tense: warning}
  langtext:
    purpose: Inhalt für die Mediathek.
    words: [300, 900]
    paragraphs: [3, 3]
    tense: preterite
    ending: closed
    exclamations: [0, 5]
"""


def houses(tmp_path: Path) -> list[House]:
    found = [built_in_house()]
    for name, text in {"zuerich": SWISS, "heft": LISTINGS}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "house.yaml").write_text(text, encoding="utf-8")
        found.append(load_house(tmp_path / name))
    return found


NUMBERS = "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
COUNTED = "bis|Absatz|Wort|Ausrufezeichen|gesprochen|Frage|Satz|deutsche"


def numbers_in(text: str) -> set[float]:
    """Return the numbers of a text, also those in words; an article is none, unless something is counted."""
    words = "|".join(NUMBERS[2:])
    found = {float(match.replace(",", ".")) for match in re.findall(r"\d+(?:,\d+)?", text)}
    found |= {float(NUMBERS.index(word.lower())) for word in re.findall(rf"(?i)\b(?:{words})\b", text)}
    return found | ({1.0} if re.search(rf"(?i)(?<!ist )\beine? (?:{COUNTED})|einziger Absatz", text) else set())


def numbers_of(form: Form) -> set[float]:
    """Return the numbers that the house gives a form, shares in per cent, but those that allow everything."""
    ranges = [form.length[0], form.paragraphs]
    off = {name for name, level in form.checks.items() if level == "off"}
    if "rhythm" not in off:
        ranges += [form.sentence_mean, form.sentence_longest]
        if form.most_words > 100:
            ranges.append(form.sentence_deviation)
    if "exclamations" not in off:
        ranges.append(form.exclamations)
    shares = [form.questions, form.speech, form.preterite, *([] if "repetition" in off else [form.variety])]
    ranges += [aim for _, aim in form.aim if aim is not None]
    counted = {float(end) for limits in ranges for end in limits}
    percents = {round(100 * end, 6) for limits in shares for end in limits if end not in {0, 1}}
    return (counted | percents) - {0.0}


@pytest.mark.parametrize("house", range(3))
def test_each_number_of_a_prompt_is_the_houses_and_the_other_way_round(tmp_path: Path, house: int) -> None:
    own = houses(tmp_path)[house]
    prompts = load_prompts(folder("prompts"), own)
    for name, form in own.forms.items():
        brief = make_brief(show="X", theme="Ein Fest", form=name)
        system, last = (
            prompts.synopsis(brief, generic_show("X"), [], None).messages[0].content,
            prompts.outline(brief, generic_show("X"), []).messages[-1].content,
        )
        rules = system.split("# Die Form\n")[1].split("# Auftrag und Antwort")[0]
        stated = rules.replace(" ".join(form.purpose.split()), "") + last.split("</auftrag>")[1]
        assert numbers_in(stated) == numbers_of(form), (name, rules)


def test_the_gate_and_the_prompt_change_together(tmp_path: Path) -> None:
    for text, old, new in (("words: [55, 130]", "130", "140"), ("speech: [0.02, 0.3]", "0.3", "0.4")):
        (tmp_path / "house.yaml").write_text(SWISS.replace(text, text.replace(old, new)), encoding="utf-8")
        own = load_house(tmp_path)
        rules = "\n".join(render_rules(own.form("kurztext"), own).form)
        shown = {"140": "55 bis 140 Wörter", "0.4": "2 bis 40 Prozent des Textes"}[new]
        assert shown in rules


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1, 1), "ein Absatz"),
        ((2, 2), "genau zwei Absätze"),
        ((1, 3), "ein bis drei Absätze"),
        ((2, 4), "zwei bis vier Absätze"),
        ((5, 14), "5 bis 14 Absätze"),
        ((0, 4), "höchstens vier Absätze"),
        ((0, 1), "höchstens ein Absatz"),
        ((200, 600), "200 bis 600 Absätze"),
        ((7.5, 12), "7,5 bis 12 Absätze"),
    ],
)
def test_numbers_read_as_an_editor_writes_them(limits: tuple[float, float], expected: str) -> None:
    assert count(limits, "Absatz", "Absätze") == expected


def test_a_single_question_is_feminine_and_several_are_not_inflected() -> None:
    assert count((1, 1), "Frage", "Fragen", one="eine") == "eine Frage"
    assert span((1, 2), one="eine") == "ein bis zwei"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 0.35), "höchstens 35 Prozent"),
        ((0.5, 1), "mindestens 50 Prozent"),
        ((0.02, 0.125), "2 bis 12,5 Prozent"),
        ((0, 1), ""),
        ((0.3, 0.3), "30 Prozent"),
    ],
)
def test_shares_read_as_per_cent(limits: tuple[float, float], expected: str) -> None:
    assert share(limits) == expected


@pytest.mark.parametrize(
    ("field", "value", "shown", "absent"),
    [
        ("words", "50-60", ["50 bis 60 Wörter.", "Ein einziger Erzählstrang A.", "immer A"], ["200", "B und C"]),
        ("character_count", "120-180", ["120 bis 180 Zeichen", "Ein bis zwei Absätze."], ["Wörter."]),
        ("words", "700-800", ["700 bis 800 Wörter.", "A, B oder C"], ["600"]),
    ],
)
def test_a_briefs_length_is_in_the_prompt_and_its_strands_follow(
    field: str, value: str, shown: list[str], absent: list[str]
) -> None:
    brief = make_brief(show="X", theme="Ein Fest", **{field: value})
    system = load_prompts(folder("prompts")).synopsis(brief, generic_show("X"), [], None).messages[0].content
    for part in shown:
        assert part in system
    for part in absent:
        assert part not in system.split("# Die Hausregeln")[0]


def test_a_check_that_is_off_states_no_rule(tmp_path: Path) -> None:
    off = "    checks: {person: off, dates: off, markup: off, hook: off, dialogue: off}\n"
    (tmp_path / "house.yaml").write_text(SWISS + off, encoding="utf-8")
    prompts = load_prompts(folder("prompts"), load_house(tmp_path))
    brief = make_brief(show="X", theme="Ein Fest", form="kurztext")
    system = prompts.synopsis(brief, generic_show("X"), [], None).messages[0].content
    for rule in ("Dritte Person", "Folgennummern", "keine Listen", "Ende ist offen", "Fragen", "gesprochen"):
        assert rule not in system
    assert "55 bis 130 Wörter" in system


def test_a_house_states_its_marks_and_spelling_and_nothing_of_another(tmp_path: Path) -> None:
    prompts = load_prompts(folder("prompts"), houses(tmp_path)[1])
    brief = make_brief(show="X", theme="Ein Fest", form="kurztext")
    system = prompts.synopsis(brief, generic_show("X"), [], None).messages[0].content
    assert "Schweizer Rechtschreibung" in system
    assert "«nicht nur …, sondern auch»" in system
    assert not {"„", "“"} & set(system)
