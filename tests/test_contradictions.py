"""A text that tells a story in another length contradicts it in no name, role or number."""

from pathlib import Path

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.examples import load_pool
from synopsis_writer.gate.consistency import lengths
from synopsis_writer.gate.finding import Finding, Subject
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import built_in_house
from synopsis_writer.show import generic_show
from synopsis_writer.synopsis import Character, Synopsis

ROOT = Path(__file__).parents[1]
STORY = Synopsis.model_validate(
    {
        "title": "Die letzte Schur",
        "logline": "Eine Schäferin soll in drei Wochen achttausend Euro zahlen und zählt ihre Tiere.",
        "characters": [
            {"name": "Gesa Meinecke", "role": "Schäferin in der dritten Generation"},
            {"name": "Tobias Meinecke", "role": "ihr Bruder, Bankkaufmann"},
            {"name": "Dr. Karin Patzelt", "role": "Tierärztin"},
            {"name": "Leevke", "role": "Tochter von Tobias, siebzehn Jahre"},
        ],
        "paragraphs": [
            {
                "storyline": "A",
                "text": "Gesa Meinecke zählt ihre Schafe, und es sind nur noch 42. Die Bank verlangt in drei "
                "Wochen 8.000 Euro. Ihr Bruder Tobias hat den Vertrag vor zwei Jahren selbst geprüft.",
            },
            {
                "storyline": "A",
                "text": "Die Tierärztin Karin Patzelt findet am dritten Tag das kranke Lamm. Leevke, gerade "
                "siebzehn geworden, will bei ihrer Tante bleiben. Um 20.15 Uhr brennt im Stall noch Licht.",
            },
        ],
    }
)


def story_of(text: str) -> Synopsis:
    people = (Character(name="Gesa Meinecke", role="Schäferin"), Character(name="Frau Behn", role="Wirtin"))
    paragraph = STORY.paragraphs[0].model_copy(update={"text": text})
    return STORY.model_copy(update={"characters": people, "paragraphs": (paragraph,), "logline": "Eine Suche."})


def told(text: str, *people: tuple[str, str], story: Synopsis = STORY) -> Finding:
    show = generic_show("Nordhof")
    brief = make_brief(show="Nordhof", theme="Eine Schäferin soll ihre Schulden zahlen")
    characters = tuple(Character(name=name, role=role) for name, role in people)
    form = built_in_house().form(None)
    finding = lengths(Subject(analyse(text), form, show, built_in_house(), brief, characters=characters, story=story))
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    "text",
    [
        "Schäferin Gesa Meinecke fehlen 8.000 Euro. Ausgerechnet ihr Bruder kennt den Vertrag.",
        "Gesa braucht achttausend Euro, und das in drei Wochen.",
        "In 3 Wochen soll Gesa zahlen. Von 42 Schafen wird keines verkauft.",
        "Zweiundvierzig Schafe und ein Brief der Bank: Gesa rechnet.",
        "Die siebzehnjährige Leevke zieht zu ihrer Tante Gesa.",
        "Tierärztin Dr. Patzelt sucht nach dem kranken Lamm. Kann Gesa die Herde retten?",
        "Die Ärztin Karin Patzelt fährt noch einmal zum Hof der Meineckes.",
        "Zwei Geschwister und ein Vertrag: Tobias muss seiner Schwester Gesa etwas gestehen.",
        "Die Wirtin hilft Gesa, und ein Koch passt. Tobias schweigt.",
        "Leevkes Vater Tobias hat den Vertrag geprüft.",
        "Am 3. Tag wird das Lamm gefunden, abends um 20:15 Uhr.",
        "In 21 Tagen soll Gesa 8 000 Euro zahlen.",
        "Gesas Herde ist in Gefahr, und Meineckes Hof gehört bald der Bank.",
    ],
)
def test_what_agrees_with_the_story_passes(text: str) -> None:
    finding = told(text)
    assert finding.passed, finding.message


@pytest.mark.parametrize(
    ("text", "here", "there"),
    [
        ("Gesa Merkens fehlt das Geld.", "Gesa Merkens", "Gesa Meinecke"),
        ("Gisela Meinecke fehlt das Geld.", "Gisela Meinecke", "Gesa Meinecke"),
        ("Gesa fehlt das Geld, und nur Torben weiß es.", "Torben", "Gesa Meinecke"),
        ("Gesa streitet mit Frau Merkens.", "Merkens", "Gesa Meinecke"),
        ("Leevke Patzelt will bleiben.", "Leevke Patzelt", "Leevke"),
        ("Die Wirtin Gesa Meinecke rechnet nach.", "Wirtin Gesa", "Schäferin"),
        ("Gesa, eine junge Wirtin, rechnet nach.", "Gesa, eine junge Wirtin", "Schäferin"),
        ("Gesa Meinecke, eine Wirtin, rechnet nach.", "Gesa Meinecke, eine Wirtin", "Schäferin"),
        ("Nun rechnet Gesa Meinecke (Wirtin) nach.", "Gesa Meinecke (Wirtin", "Schäferin"),
        ("Gesa arbeitet als Köchin und rechnet nach.", "Gesa arbeitet als Köchin", "Schäferin"),
        ("Die Tierärztin Gesa rechnet nach.", "Tierärztin Gesa", "Schäferin"),
        ("Gesas Cousin Tobias hat den Vertrag geprüft.", "Cousin Tobias", "Bruder"),
        ("Ihr Ehemann Tobias hat den Vertrag geprüft.", "Ehemann Tobias", "Bruder"),
        ("Gesa soll 9.000 Euro zahlen.", "9.000 Euro", "8.000 Euro"),
        ("Gesa soll neuntausend Euro zahlen.", "neuntausend Euro", "8.000 Euro"),
        ("Gesa soll 8 Millionen Euro zahlen.", "8 Millionen Euro", "8.000 Euro"),
        ("Gesa hat vier Wochen Zeit.", "vier Wochen", "drei Wochen"),
        ("Gesa hat nur noch vierundzwanzig Schafe.", "vierundzwanzig Schafe", "nothing"),
        ("Gesa hat drei Monate Zeit.", "drei Monate", "drei Wochen"),
        ("Gesa hat 20 Tage Zeit.", "20 Tage", "dritten Tag"),
        ("Gesa soll 9 000 Euro zahlen.", "9 000 Euro", "8.000 Euro"),
        ("Am vierten Tag wird das Lamm gefunden.", "vierten Tag", "dritten Tag"),
        ("Um 21.15 Uhr brennt noch Licht bei Gesa.", "21.15 Uhr", "20.15 Uhr"),
        ("Gesa verliert 30 % der Herde.", "30 %", "nothing"),
    ],
)
def test_a_contradiction_is_refused_with_both_sides_quoted(text: str, here: str, there: str) -> None:
    finding = told(text)
    assert not finding.passed
    assert f"„{here}“" in finding.message
    assert there in finding.message.replace(here, "", 1)
    assert finding.spans


@pytest.mark.parametrize(
    ("person", "message"),
    [
        (
            ("Gesa Meinecke", "Wirtin"),
            "„Gesa Meinecke: Wirtin“, its story „Gesa Meinecke: Schäferin in der dritten Generation“",
        ),
        (("Leevke", "Schwester von Tobias"), "„Leevke: Schwester von Tobias“, its story „Leevke: Tochter"),
        (("Gesa Merkens", "Schäferin"), "names „Gesa Merkens“, its story „Gesa Meinecke“"),
    ],
)
def test_the_list_of_characters_is_that_of_the_story(person: tuple[str, str], message: str) -> None:
    finding = told("Der Hof gehört bald der Bank. Wer hilft?", person)
    assert not finding.passed
    assert message in finding.message


def test_the_storys_own_list_or_a_part_of_it_passes() -> None:
    people = [(person.name, person.role) for person in STORY.characters]
    assert told("Der Hof gehört bald der Bank. Wer hilft?", *people).passed
    assert told("Der Hof gehört bald der Bank. Wer hilft?", ("Gesa", "Schäferin")).passed


@pytest.mark.parametrize(
    "text",
    [
        "Gesa Meinecke zählt ihre Schafe, und es sind nur noch 42.",
        "Gesa Meinecke zählt ihre Schafe …",
        "Gesa Meinecke zählt ihre Schafe. Die Bank verlangt in drei Wochen 8.000 Euro.",
    ],
)
def test_a_text_that_is_cut_out_of_the_story_is_refused(text: str) -> None:
    assert "All its sentences are those of the story" in told(text).message


@pytest.mark.parametrize(
    ("there", "here", "agrees"),
    [
        ("42 Schafe", "gut vierzig Schafe", True),
        ("38 Schafe", "gut vierzig Schafe", False),
        ("gut vierzig Schafe", "42 Schafe", True),
        ("gut vierzig Schafe", "38 Schafe", False),
        ("38 Schafe", "knapp vierzig Schafe", True),
        ("42 Schafe", "fast vierzig Schafe", False),
        ("beinahe vierzig Schafe", "39 Schafe", True),
        ("beinahe vierzig Schafe", "41 Schafe", False),
        ("42 Schafe", "rund 40 Schafe", True),
        ("60 Schafe", "etwa vierzig Schafe", False),
        ("etwa vierzig Schafe", "60 Schafe", False),
        ("42 Schafe", "über vierzig Schafe", True),
        ("32 Schafe", "über vierzig Schafe", False),
        ("zwölf Schafe", "ein Dutzend Schafe", True),
        ("ein Dutzend Schafe", "zwölf Schafe", True),
        ("zwanzig Schafe", "ein Dutzend Schafe", False),
        ("ein Dutzend Schafe", "zwanzig Schafe", False),
        ("fünfundzwanzig Schafe", "zwei Dutzend Schafe", True),
        ("sechs Schafe", "ein halbes Dutzend Schafe", True),
        ("sechs Monate", "ein halbes Jahr", True),
        ("ein halbes Jahr", "sechs Monate", True),
        ("zwei Monate", "ein halbes Jahr", False),
        ("ein halbes Jahr", "acht Monate", False),
        ("fünf Monate", "fast ein halbes Jahr", True),
        ("dreißig Minuten", "eine halbe Stunde", True),
        ("neunzig Minuten", "anderthalb Stunden", True),
        ("20.20 Uhr", "gegen 20 Uhr", True),
        ("21.30 Uhr", "gegen 20 Uhr", False),
    ],
)
def test_about_a_number_is_judged_in_both_directions(there: str, here: str, agrees: bool) -> None:
    story = story_of(f"Gesa spricht von {there}. Die Bank will Geld.")
    finding = told(f"Gesa rechnet mit {here} und schweigt.", story=story)
    assert finding.passed == agrees, finding.message


@pytest.mark.parametrize(
    ("there", "here", "agrees"),
    [
        ("Frau Behn sucht ihre Tochter Anna.", "Frau Behn sucht ihre Mutter Anna.", False),
        ("Frau Behn sucht ihre Mutter Anna.", "Frau Behn sucht ihre Tochter Anna.", False),
        ("Frau Behn sucht ihren Vater Anton.", "Frau Behn sucht ihren Sohn Anton.", False),
        ("Frau Behn sucht ihre Enkelin Anna.", "Frau Behn sucht ihre Großmutter Anna.", False),
        ("Frau Behn sucht ihren Neffen Anton.", "Frau Behn sucht ihren Onkel Anton.", False),
        ("Frau Behn sucht ihre Tochter Anna.", "Tochter Anna ist fort.", True),
        ("Frau Behn und ihre Tochter Anna suchen Annas Sohn Max.", "Max sucht seine Mutter Anna.", True),
        ("Mutter Anna und Oma Berta suchen Annas Tochter.", "Berta sucht ihre Tochter Anna.", True),
        ("Frau Behn sucht ihre Schwester Anna.", "Max sucht seine Schwester Anna.", True),
    ],
)
def test_who_is_whose_child_is_not_turned_round(there: str, here: str, agrees: bool) -> None:
    finding = told(here, story=story_of(f"{there} Die Mutter von Max weint nicht." if agrees else there))
    assert finding.passed == agrees, finding.message


@pytest.mark.parametrize("folder", ["tests/corpus/good", "examples"])
def test_no_good_text_contradicts_itself(folder: str) -> None:
    """A logline is the shortest text of its story; a half is a middle one."""
    contradictions = []
    for example in load_pool([ROOT / folder]).examples:
        story = example.synopsis
        half = "\n\n".join(paragraph.text for paragraph in story.paragraphs[::2])
        for text in (story.logline, half):
            show = generic_show(example.brief.show)
            house = built_in_house()
            subject = Subject(analyse(text), house.form(None), show, house, example.brief, story=story)
            finding = lengths(subject)
            assert finding is not None
            message = finding.message.replace("All its sentences are those of the story", "")
            contradictions += [] if finding.passed or message[0] == ":" else [(example.id, message)]
    assert contradictions == []
