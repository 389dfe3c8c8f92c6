"""A house: read, checked, and what a form takes from elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.document import format_yaml
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError
from synopsis_writer.gate.gate import ALL_CHECKS
from synopsis_writer.house import CHECK_NAMES, REVIEW, House, built_in_house, load_house
from synopsis_writer.settings import folder

SHORT = """\
name: Pressestelle
orthography: de-CH
quotation_marks: « »
known_words: [Velo]
defaults:
  exclamations: 0
forms:
  kurz:
    purpose: Vorschau für die Presse.
    words: 60-120
    paragraphs: [1, 1]
    ending: ellipsis
    speech: 10 %
    checks: {rhythm: warning, hook: off}
  epg:
    purpose: Text für die Programmzeitschrift.
    characters: 180
  episode:
    words: [100, 200]
"""
SHORT = SHORT.replace("characters: 180", "characters: [40, 180]")


def written(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "house.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def house(tmp_path: Path) -> House:
    return load_house(written(tmp_path / "presse", SHORT))


def test_a_house_is_read_as_an_editor_writes_it(house: House) -> None:
    assert (house.name, house.orthography, house.quotation_marks) == ("Pressestelle", "de-CH", "«»")
    assert house.known_words == ("Velo",)
    assert list(house.forms) == ["kurz", "epg", "episode"]
    assert house.form(None).name == "kurz"
    short = house.form("kurz")
    assert short.length == ((60.0, 120.0), "words")
    assert short.speech[1] == 0.1
    assert (short.level("rhythm"), short.level("hook"), short.level("length")) == ("warning", "off", "error")
    assert house.form("epg").length == ((40.0, 180.0), "characters")


def test_what_a_form_lacks_it_takes_from_the_built_in_one_of_its_name_or_from_the_defaults(house: House) -> None:
    built_in = built_in_house()
    assert house.form("episode").purpose == built_in.form("episode").purpose
    assert house.form("episode").speech == (0, 0.25)
    assert house.form("episode").aim.words is None
    assert house.form("kurz").sentence_longest == (0, 42)
    assert {form.exclamations for form in house.forms.values()} == {(0, 0)}


def test_a_form_of_another_tense_does_not_take_the_built_in_share_of_preterites(tmp_path: Path) -> None:
    told = load_house(written(tmp_path / "a", "forms:\n  special:\n    tense: present\n"))
    assert told.form("special").preterite == (0, 0.3)


def test_a_house_without_forms_has_the_built_in_ones(tmp_path: Path) -> None:
    own = load_house(written(tmp_path / "haus", "orthography: de-AT\n"))
    assert own.forms == built_in_house().forms
    assert own.name == "haus"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    words: 60-120", "    word: 60-120", ":10: unknown key 'word' in forms.kurz: did you mean 'words'?"),
        ("known_words", "known_word", ":4: unknown key 'known_word': did you mean 'known_words'?"),
        ("{rhythm: warning", "{rythm: warning", "unknown key 'rythm' in forms.kurz.checks: did you mean 'rhythm'?"),
        ("  exclamations: 0", "  zzz: 0", ":6: unknown key 'zzz' in defaults: use actors_in_brackets"),
        ("    words: 60-120", "    words: 120-60", ":10: forms.kurz.words: the limits 120 to 60 are reversed"),
        (
            "    words: 60-120",
            "    words: 60-120\n    tense: preterite\n    preterite: 0-20 %",
            "is told in the preterite, but allows 0% to 20% of its verbs in the preterite",
        ),
        (
            "    words: 60-120",
            "    words: 60-120\n    tense: present\n    preterite: 50-100 %",
            "is told in the present, but allows 50% to 100% of its verbs in the preterite",
        ),
        ("    words: 60-120", "    words: 2-60", ":10: forms.kurz.words: 2 is too few: 5 at least"),
        ("    words: 60-120", "    bytes: 255", ":10: forms.kurz.bytes: 0 is too few: 1 at least, as in 1-255"),
        ("    words: 60-120", "    words: viele", ":10: forms.kurz.words"),
        ("speech: 10 %", "speech: 10", "forms.kurz.speech: 10 is no share: write 0.25 or 25 %"),
        ("    purpose: Vorschau für die Presse.\n", "", ":8: forms.kurz: has no purpose"),
        ("Vorschau für die Presse.", "' '", ":8: forms.kurz: has no purpose"),
        ("rhythm: warning", "rhythm: loud", "forms.kurz.checks.rhythm: input should be 'error', 'warning' or 'off'"),
        ("    ending: ellipsis", "    tense: [now]", "forms.kurz.tense: input should be 'present'"),
        ("    ending: ellipsis", "    ending: offen", "forms.kurz.ending: input should be"),
        ("de-CH", "de-XX", ":2: orthography: input should be 'de-DE', 'de-AT' or 'de-CH'"),
        ("« »", "‹ ›", ":3: quotation_marks: input should be"),
        ("60-120", "sixty", ":10: forms.kurz.words: 'sixty' is no range: write it as 60-120"),
        ("60-120", "[1, 2, 3]", ":10: forms.kurz.words: '[1, 2, 3]' is no range"),
        ("    words: 60-120\n", "", ":8: forms.kurz: has no single length: give words, characters or bytes"),
        ("    words: 60-120", "    words: 60-120\n    characters: 9-99", "has no single length"),
        ("    words: 60-120", "    words: 60-120\n    aim: {words: 50-80}", "aims at 50 to 80 words, outside"),
        ("forms:", "forms: [", "not YAML"),
        ("  kurz:\n", "  kurz: lang\n  lang:\n", "forms.kurz"),
    ],
)
def test_a_wrong_house_is_reported_in_a_line_with_file_and_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SHORT
    own = written(tmp_path / "haus", SHORT.replace(old, new, 1))
    with pytest.raises(SettingsError) as caught:
        load_house(own)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{own}/house.yaml:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "Nur ein Satz.", "a: b: c", "forms: 3\n", "forms: {}\n"])
def test_a_file_that_is_no_house_is_reported(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"house\.yaml:1: "):
        load_house(written(tmp_path / "haus", text))


def test_a_missing_folder_or_file_is_reported_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such folder: name one that holds"):
        load_house(tmp_path / "nirgends")
    with pytest.raises(FileError, match=r"holds no house\.yaml: write one"):
        load_house(tmp_path)


def test_an_unknown_form_names_the_nearest_and_lists_them(house: House) -> None:
    with pytest.raises(BriefError) as caught:
        house.form("kurtz")
    assert str(caught.value) == (
        "no form 'kurtz': did you mean 'kurz'? the forms of the house 'Pressestelle' are kurz, epg, episode"
    )


def test_the_house_knows_the_checks_of_the_gate() -> None:
    assert [*ALL_CHECKS, "variety", REVIEW] == CHECK_NAMES


def test_a_profile_of_an_earlier_version_opens(tmp_path: Path) -> None:
    old = {"words": [40, 80], "paragraphs": [1, 1], "sentence_mean": [5, 18], "speech": [0, 0.05]}
    data: dict[str, Any] = {"name": "alt", "forms": {name: dict(old) for name in built_in_house().forms}}
    path = tmp_path / "profil.yaml"
    path.write_text(format_yaml(data), encoding="utf-8")
    assert load_house(path).form("teaser").words == (40, 80)
    assert load_house(path).form("teaser").ending == "question"


@pytest.mark.parametrize(
    ("length", "paragraphs", "storylines"),
    [
        ({}, (5, 14), 3),
        ({"words": "250-400"}, (5, 14), 3),
        ({"words": "40-60"}, (1, 3), 1),
        ({"words": "5-10"}, (1, 1), 1),
        ({"words": "100-150"}, (2, 6), 2),
        ({"words": "900-1200"}, (5, 28), 3),
        ({"character_count": "120-180"}, (1, 2), 1),
    ],
)
def test_a_briefs_length_replaces_the_forms_and_paragraphs_and_strands_follow(
    length: dict[str, str], paragraphs: tuple[int, int], storylines: int
) -> None:
    brief = make_brief(show="X", theme="Ein Fest", **length)
    form = built_in_house().form("episode").with_length(*brief.length)
    assert list(form.paragraphs) == list(paragraphs)
    assert form.storylines == storylines
    asked = brief.words or brief.character_count or (200.0, 600.0)
    assert str(form.length) == str((asked, "characters" if brief.character_count else "words"))
    assert form.sentence_mean[0] <= form.most_words


def test_the_built_in_house_lies_beside_its_shows() -> None:
    assert (folder("examples") / "house.yaml").is_file()
    assert list(built_in_house().forms) == ["episode", "teaser", "special", "week", "portrait"]
    with pytest.raises(InputError):
        built_in_house().form("sonett")
