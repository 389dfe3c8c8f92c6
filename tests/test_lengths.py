"""One story in every length: forms in bytes, and the receivers' house."""

from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.errors import SettingsError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import CHECKS, Gate
from synopsis_writer.house.house import House, load_house
from synopsis_writer.prompts.rules import render_rules
from synopsis_writer.show import Show

RECEIVERS = Path(__file__).parents[1] / "docs" / "houses" / "receivers"
DVB = "dvb-short-event"


def house_of(folder: Path, form: str) -> House:
    path = folder / "house.yaml"
    path.write_text(f"name: haus\nforms:\n  kurz:\n    purpose: Ein Text.\n{form}", encoding="utf-8")
    return load_house(path)


def length_of(house: House, text: str, form: str = "kurz", **given: Any) -> Finding:
    finding = CHECKS["length"](Gate(house).subject(text, form, Show(name="Unter uns"), **given))
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("form", "text", "title", "value"),
    [
        ("bytes: [1, 99]", "Gesa fährt heim.", "", 17),
        ("bytes: [1, 99]\n    encoding: iso-8859-9", "Gesa fährt heim.", "", 16),
        ("bytes: [1, 99]\n    encoding: iso-8859-9", "Gesa fa\u0308hrt\n\nheim.", "", 16),
        ("bytes: [1, 99]\n    encoding: iso-8859-9\n    title_counts: yes", "Gesa fährt heim.", "Bö", 18),
        ("bytes: [1, 99]\n    encoding: utf-8\n    title_counts: yes", "Gesa fährt heim.", "Bö", 20),
        ("characters: [1, 99]\n    title_counts: yes", "Gesa fährt heim.", "Bö", 18),
        ("words: [5, 99]\n    title_counts: yes", "Gesa fährt heute heim.", "Der Hof", 6),
    ],
)
def test_a_length_counts_bytes_of_the_encoding_and_the_title_where_it_is_a_part(
    tmp_path: Path, form: str, text: str, title: str, value: int
) -> None:
    finding = length_of(house_of(tmp_path, f"    {form}\n"), text, title=title)
    assert finding.passed, finding.message
    assert finding.value == value


def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    house = house_of(tmp_path, "    bytes: [1, 16]\n")
    assert length_of(house, "Gesa fährt heim").passed
    finding = length_of(house, "Gesa fährt heim.")
    assert finding.message == "The text has 17 bytes, 1 to 16 bytes in utf-8 are wanted: cut."


def test_a_character_that_the_encoding_lacks_is_quoted(tmp_path: Path) -> None:
    house = house_of(tmp_path, "    bytes: [1, 99]\n    encoding: iso-8859-9\n    title_counts: yes\n")
    finding = length_of(house, "Gesa fährt – endlich.", title="„Heim“")
    assert not finding.passed
    assert finding.value == "–„“"
    assert "characters that iso-8859-9 does not: „–“" in finding.message


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("    bytes: [1, 99]\n    words: [5, 9]\n", "has no single length: give words, characters or bytes"),
        ("    bytes: [1, 99]\n    encoding: latin-x\n", "'latin-x' is no encoding of text: name one as"),
        ("    bytes: [1, 99]\n    encoding: hex\n", "'hex' is no encoding of text"),
        ("    bytes: [99, 1]\n", "the limits 99 to 1 are reversed"),
    ],
)
def test_a_wrong_length_in_bytes_is_a_line_with_the_place(tmp_path: Path, form: str, message: str) -> None:
    with pytest.raises(SettingsError, match=r"house\.yaml:\d+: ") as caught:
        house_of(tmp_path, form)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_length_in_bytes_takes_the_place_of_an_inherited_one_and_a_brief_of_it(tmp_path: Path) -> None:
    form = house_of(tmp_path, "    bytes: [40, 120]\n  episode:\n    bytes: [600, 3000]\n").form("episode")
    assert (form.length, form.aim.words) == (((600, 3000), "bytes"), None)
    assert form.with_length((50, 60), None).length == ((50, 60), "words")
    assert form.storylines == len("ABC")


@pytest.mark.parametrize(
    ("encoding", "foreign"),
    [("iso-8859-9", "„ “ ’ – … €"), ("utf-8", ""), ("ascii", "ä ö ü ß „ “ » « ’ – … €")],
)
def test_the_prompt_states_bytes_and_what_the_encoding_lacks(encoding: str, foreign: str) -> None:
    house = load_house(RECEIVERS)
    form = house.form(DVB).model_copy(update={"encoding": encoding})
    rules = render_rules(form, house).form
    assert rules[0] == f"80 bis 248 Bytes in {encoding}, Leerzeichen mitgezählt, der Titel auch."
    lacking = [line.partition(": ")[2] for line in rules if "gibt es dort nicht" in line]
    assert lacking == ([foreign] if foreign else [])


@pytest.mark.parametrize(
    ("receiver", "limits"),
    [
        ("bbc", [90, 180, 1800]),
        ("youview", [90, 210, 1200]),
        ("gracenote", [100, 200]),
        ("movielabs", [190, 400, 4000]),
    ],
)
def test_the_house_of_receivers_has_their_lengths(receiver: str, limits: list[int]) -> None:
    forms = [form for name, form in load_house(RECEIVERS).forms.items() if name.startswith(receiver)]
    assert [form.length[0][1] for form in forms] == limits
    assert {form.length[1] for form in forms} == {"characters"}


def test_a_dvb_short_event_fits_its_descriptor_to_the_last_byte() -> None:
    form = load_house(RECEIVERS).form(DVB)
    language, lengths, character_tables = 3, 2, 2
    assert (form.length[0][1], form.length[1]) == (255 - language - lengths - character_tables, "bytes")
    assert form.title_counts
