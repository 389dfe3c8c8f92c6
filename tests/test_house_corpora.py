"""The corpora of the three houses hold what they promise, and their corruptions apply."""

import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache

import pytest

from synopsis_writer.gate.gate import CHECKS
from synopsis_writer.gate.text import lower_words, word_spans
from tests.houses.corpora import HOUSES, House, HouseText, cast, learn_folder, load
from tests.houses.damage import DAMAGES, damaged

FEWEST_TEXTS = 14  # of each half
FEWEST_SHOWS = 6
FEWEST_DAMAGED = 3  # texts to be judged that a damage applies to, in each of its houses
RUN = 5  # words that no two texts share

TEXTS = [text for house in HOUSES for half in load(house) for text in half]
each_house = pytest.mark.parametrize("house", HOUSES)


def texts(house: House) -> list[HouseText]:
    return [text for text in TEXTS if text.house == house]


def lengths(house: House) -> list[int]:
    return [len(word_spans(text.text)) for text in texts(house)]


def paragraph_counts(house: House) -> set[int]:
    return {text.text.count("\n\n") + 1 for text in texts(house)}


@each_house
def test_half_is_to_learn_and_half_to_judge(house: House) -> None:
    learn, judge = load(house)
    assert min(len(learn), len(judge)) >= FEWEST_TEXTS
    assert {text.show for text in judge} <= {text.show for text in learn}
    assert len({text.show for text in learn}) >= FEWEST_SHOWS


def test_texts_to_learn_have_the_formats_of_an_editor() -> None:
    suffixes = {house: {path.suffix for path in learn_folder(house).rglob("*.*") if path.is_file()} for house in HOUSES}
    assert suffixes == {"presse": {".txt"}, "schweiz": {".md"}, "epg": {".csv"}}


def test_press_texts_have_60_to_120_words_in_one_paragraph() -> None:
    assert 60 <= min(lengths("presse")) < 75
    assert 110 < max(lengths("presse")) <= 120
    assert paragraph_counts("presse") == {1}


def test_press_texts_often_end_on_an_ellipsis_and_name_actors_in_half() -> None:
    endings = Counter(text.text[-1] for text in texts("presse"))
    actors = sum(bool(re.search(r"\(\w+ [\w-]+\)", text.text)) for text in texts("presse"))
    assert endings["…"] > endings["."] > endings["?"] > 0
    assert 0.4 <= actors / len(texts("presse")) <= 0.6


def test_swiss_texts_have_80_to_200_words_in_one_to_three_paragraphs() -> None:
    assert 80 <= min(lengths("schweiz")) < 95
    assert 160 < max(lengths("schweiz")) <= 200
    assert paragraph_counts("schweiz") == {1, 2, 3}


def test_swiss_texts_have_no_sharp_s_and_their_own_quotation_marks() -> None:
    written = " ".join(f"{text.title} {text.theme} {text.text}" for text in texts("schweiz"))
    assert not set(written) & set('ß„“”"')
    assert {"«", "»"} <= set(written)


def test_epg_texts_have_at_most_180_characters_in_one_paragraph() -> None:
    sizes = [len(text.text) for text in texts("epg")]
    assert 70 <= min(sizes) < 100
    assert 170 < max(sizes) <= 180
    assert paragraph_counts("epg") == {1}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{text.house}/{text.id}")
def test_text_is_clean(text: HouseText) -> None:
    written = f"{text.title}\n{text.theme}\n{text.text}"
    assert unicodedata.is_normalized("NFC", written)
    assert not re.search(r"  | \n|\n{3}|[\t\u00ad\u200b\"]|\.\.\.|'| - ", written)
    assert [written.count(mark) for mark in "„«("] == [written.count(mark) for mark in "“»)"]
    assert text.text[-1] in ".…?"
    if text.house != "schweiz":
        assert not set(written) & set("«»")


def test_no_two_texts_begin_with_the_same_two_words() -> None:
    openings = Counter(tuple(lower_words(text.text)[:2]) for text in TEXTS)
    assert [opening for opening, count in openings.items() if count > 1] == []


def test_no_two_texts_share_a_run_of_five_words() -> None:
    owners: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for text in TEXTS:
        for name, part in (("text", text.text), ("theme", text.theme)):
            words = lower_words(part)
            for start in range(len(words) - RUN + 1):
                owners[tuple(words[start : start + RUN])].add(f"{text.id} {name}")
    assert [run for run, names in owners.items() if len(names) > 1] == []


@each_house
def test_regulars_belong_to_shows_and_are_named_in_texts(house: House) -> None:
    shows = {text.show for text in texts(house)}
    for member in cast(house):
        assert member.show in shows
        last = member.name.split()[-1]
        assert any(last in text.text or member.name.split()[0] in text.text for text in texts(house)), member


def test_damages_are_named_once_and_name_a_check_of_the_gate() -> None:
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES)
    assert {damage.check for damage in DAMAGES} == set(CHECKS) - {
        "actors",
        "headline",
        "consistency",
        "floskel",
    }  # have tests of their own


@cache
def damaged_texts(house: House) -> list[tuple[str, HouseText]]:
    return [(damage.name, bad) for text in load(house).judge for damage, bad in damaged(text)]


@each_house
def test_damages_apply_to_the_texts_of_their_houses(house: House) -> None:
    counts = Counter(name for name, _ in damaged_texts(house))
    wanted = {damage.name for damage in DAMAGES if house in damage.houses}
    assert {name for name in wanted if counts[name] < FEWEST_DAMAGED} == set()
    assert set(counts) == wanted


def test_damages_keep_the_swiss_orthography_unless_it_is_what_they_damage() -> None:
    german = {name for name, bad in damaged_texts("schweiz") if "ß" in bad.text}
    assert german == {"German ß in a Swiss house"}
