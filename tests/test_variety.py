import sqlite3
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
import pytest
from wordfreq import get_frequency_dict

from synopsis_writer.batch.store import MIGRATIONS
from synopsis_writer.batch.variety import CHECKS, SEASON, Variety, cast_names, features_of, folded_title, opening_key
from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.errors import FileError
from synopsis_writer.examples import Example, load_example
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.lexicon import FUNCTION_WORDS, is_content
from synopsis_writer.gate.sources import MOST_SHARING, FingerprintIndex, fingerprints, name_forms, run_hashes
from synopsis_writer.gate.text import lower_words
from synopsis_writer.settings import folder
from synopsis_writer.show import Show, find_show, generic_show
from synopsis_writer.storage.sqlite import open_database, transaction
from synopsis_writer.synopsis import Character, Paragraph, Synopsis
from tests.corpus.damage.draft import each_word, pool, renamed
from tests.corpus.measure import good_texts

REFERENCES = tuple(load_example(path) for path in sorted((folder("evals") / "cases").glob("*.md")))
TEXTS = (*pool().examples, *good_texts(), *REFERENCES)
SHOW = pool().shows[0]
LETTERS = str.maketrans("0123456789", "ghijklmnop")
BRIEF = make_brief(show=SHOW.name, theme="Ein alter Schlüssel taucht auf")


class Batch:
    """A batch's texts in a real database, with the variety that is stored in it."""

    def __init__(self, path: Path | None = None) -> None:
        self.texts: dict[str, str] = {}
        self.database = open_database(path, MIGRATIONS[1:2])
        self.variety = Variety(self.database, self.texts.__getitem__)

    def add(self, row: str, synopsis: Synopsis, show: Show = SHOW) -> None:
        self.texts[row] = synopsis.text
        self.variety.load([(row, synopsis, show)])

    def failed(self, synopsis: Synopsis, show: Show = SHOW, brief: Brief = BRIEF) -> dict[str, Finding]:
        findings = self.variety.find(synopsis, show, brief)
        assert tuple(finding.check for finding in findings) == CHECKS
        return {finding.check: finding for finding in findings if not finding.passed}


def show_of(example: Example) -> Show:
    return find_show(pool().shows, example.brief.show) or generic_show(example.brief.show)


def full(texts: Iterable[Example] = TEXTS) -> Batch:
    batch = Batch()
    for text in texts:
        batch.add(text.id, text.synopsis, show_of(text))
    return batch


def a_synopsis(title: str = "Kein Titel", people: Iterable[str] = (), first: str = "", text: str = "") -> Synopsis:
    """Return a synopsis with words that no other title has, except for what is given."""
    names = [*people] or ["Fladi"]
    words = " ".join(str(crc32(f"{title} {place}".encode())).translate(LETTERS) for place in range(200))
    return Synopsis(
        title=title,
        logline="Eine Zeile, die lang genug ist.",
        characters=tuple(Character(name=name, role="Gast") for name in names),
        paragraphs=(Paragraph(storyline="A", text=f"{first} {text or words.capitalize()}.".strip()),),
    )


def with_text(synopsis: Synopsis, text: str) -> Synopsis:
    parts = (Paragraph(storyline="A", text=part) for part in text.split("\n\n"))
    return synopsis.model_copy(update={"paragraphs": tuple(parts)})


@pytest.mark.parametrize("check", ["variety_copy", "variety_opening", "variety_title"])
def test_no_two_of_the_good_texts_are_alike(check: str) -> None:
    batch = Batch()
    for text in TEXTS:
        assert check not in batch.failed(text.synopsis, show_of(text), text.brief), text.id
        batch.add(text.id, text.synopsis, show_of(text))


def test_the_one_guest_who_turns_up_in_two_good_texts_is_found_where_she_stands() -> None:
    batch, found = Batch(), dict[str, Finding]()
    for text in TEXTS:
        if finding := batch.failed(text.synopsis, show_of(text), text.brief).get("variety_names"):
            found[text.id] = finding
        batch.add(text.id, text.synopsis, show_of(text))
    (finding,) = found.values()
    assert "Farida Nouri (row die-jungen-aerzte/zwei-einschlaege)" in finding.message
    raw = next(text for text in TEXTS if text.id in found).synopsis.text
    assert {raw[slice(*span)].removesuffix("s") for span in finding.spans} <= {"Farida Nouri", "Nouri"}


def test_a_text_with_a_fifth_of_the_words_changed_is_a_copy_of_its_row() -> None:
    batch, dice = full(), Random(6)
    words = [word for text in TEXTS for word in lower_words(text.synopsis.text)]
    for text in TEXTS:
        raw = each_word(text.synopsis.text, r"\w+", lambda word: dice.choice(words) if dice.random() < 0.2 else word)
        finding = batch.failed(with_text(text.synopsis, raw), show_of(text), text.brief)["variety_copy"]
        assert f"row {text.id}," in finding.message
        first, last = finding.spans[0]
        assert raw[first:last].lower() in text.synopsis.text.lower()


def test_a_renamed_copy_is_a_copy() -> None:
    text = next(text for text in TEXTS if text.id == "rote-rosen/auf-grund")
    new = ["Uta Kampe", "Okko Voss", "Ilse Brahms", "Jan Tietz", "Rosa Grimm", "Emil Zorn"]
    raw = renamed(text.synopsis.text, [person.name for person in text.synopsis.characters], new)
    people = tuple(Character(name=name, role="Gast") for name in new)
    copy = with_text(text.synopsis, raw).model_copy(update={"characters": people})
    finding = full().failed(copy, generic_show("Eine andere Serie"))["variety_copy"]
    assert isinstance(finding.value, int)
    assert finding.value > 100


def test_twenty_words_in_a_row_are_always_found() -> None:
    batch, dice = full(), Random(3)
    for text in TEXTS:
        source = dice.choice(TEXTS)
        people = [person.name for person in source.synopsis.characters]
        names = name_forms([*people, *cast_names(show_of(source))])
        words = lower_words(source.synopsis.text)
        places = [n for n in range(len(words) - 20) if names.isdisjoint(words[n : n + 20])]
        if not places:
            continue
        start = dice.choice(places)
        foreign = " ".join(f"{word}x" for word in lower_words(text.synopsis.text)[:150])
        raw = f"{foreign}. {' '.join(words[start : start + 20])}. {foreign}"
        finding = batch.failed(a_synopsis(text=raw))["variety_copy"]
        assert f"row {source.id}," in finding.message
        assert [raw[slice(*span)] for span in finding.spans] == [" ".join(words[start : start + 20])]


def test_two_texts_that_share_twenty_words_share_a_fingerprint() -> None:
    dice = Random(9)
    for _ in range(200):
        shared = [f"w{dice.random()}" for _ in range(20)]
        marks = [
            set(fingerprints(run_hashes([*rest(dice), *shared, *rest(dice)], frozenset())).tolist()) for _ in range(2)
        ]
        assert marks[0] & marks[1]


def rest(dice: Random) -> list[str]:
    return [f"r{dice.random()}" for _ in range(dice.randrange(100))]


@pytest.mark.parametrize("words", [0, 5, 6, 12, 20, 21])
def test_short_texts_have_fingerprints_from_six_words_on(words: int) -> None:
    assert bool(len(fingerprints(run_hashes(list(map(str, range(words))), frozenset())))) == (words >= 6)


def test_the_index_finds_each_of_many_texts_by_its_fingerprints_in_any_order() -> None:
    marks = [np.arange(n * 50, n * 50 + 50, dtype=np.uint32) for n in range(300)]
    singly, at_once = FingerprintIndex(), FingerprintIndex()
    for number, own in enumerate(marks):
        singly.add(own, number)
    at_once.add(np.concatenate(marks), np.repeat(range(300), 50))
    for number, own in enumerate(marks):
        assert singly.sharing(own) == at_once.sharing(own) == {number: 50}


def test_the_largest_fingerprint_and_number_match() -> None:
    index, most = FingerprintIndex(), 2**32 - 1
    index.add(np.array([most], dtype=np.uint32), most)
    assert index.sharing(np.array([0, most], dtype=np.uint32)) == {most: 1}


def test_a_fingerprint_of_very_many_texts_is_a_fixed_phrase() -> None:
    mark, index = np.array([7], dtype=np.uint32), FingerprintIndex()
    index.add(np.full(MOST_SHARING - 1, 7, dtype=np.uint32), np.arange(MOST_SHARING - 1))
    assert len(index.sharing(mark)) == MOST_SHARING - 1
    index.add(np.full(MOST_SHARING + 1, 7, dtype=np.uint32), np.arange(MOST_SHARING, 2 * MOST_SHARING + 1))
    assert not index.sharing(mark)


def test_function_words_are_those_that_carry_no_content_by_the_word_list() -> None:
    listed = get_frequency_dict("de", "best")
    common = {word for word in listed if len(word) >= 4 and word.isalpha() and not is_content(word)}
    assert common == FUNCTION_WORDS


@pytest.mark.parametrize(
    "other",
    [
        "Am Bahnhof wartet ein Koffer ohne Besitzer.",
        "Am Bahnhof wartet der Koffer, und sein Besitzer weint.",
        "Auf dem Bahnhof warten die Koffer der Besitzer.",
    ],
)
def test_the_same_first_picture_is_the_same_opening(other: str) -> None:
    batch = Batch()
    batch.add("r1", a_synopsis("Eins", first="Am Bahnhof wartet ein Koffer ohne Besitzer, und keiner fragt."))
    synopsis = a_synopsis("Zwei", first=other)
    finding = batch.failed(synopsis)["variety_opening"]
    assert "row r1" in finding.message
    assert [synopsis.text[slice(*span)] for span in finding.spans] == [other]


def test_an_opening_with_other_names_is_the_same_opening() -> None:
    batch = Batch()
    batch.add("r1", a_synopsis("Eins", ["Uta Kampe"], "Uta Kampe steht vor den Trümmern ihres Lebens."))
    other = a_synopsis("Zwei", ["Ilse Brahms"], "Ilse steht vor den Trümmern ihres Lebens.")
    assert set(batch.failed(other)) == {"variety_opening"}


def test_the_names_of_show_and_people_are_not_an_opening() -> None:
    show = next(show for show in pool().shows if show.name.endswith("Die jungen Ärzte"))
    people = [show.cast[0].name]
    batch = Batch()
    batch.add("r1", a_synopsis("Eins", people, f"Bei „{show.name}“ gerät {people[0]} ins Visier."), show)
    other = a_synopsis("Zwei", people, f"Bei „{show.name}“ gerät {people[0]} an einen Betrüger.")
    assert not batch.failed(other, show)


def test_a_first_sentence_of_two_words_is_not_an_opening() -> None:
    batch = Batch()
    batch.add("r1", a_synopsis("Eins", first="Es regnet."))
    assert not batch.failed(a_synopsis("Zwei", first="Es regnet."))
    assert opening_key(a_synopsis(first="Es regnet seit Tagen."), SHOW, ()) == "es regn seit tag"


@pytest.mark.parametrize("title", ["Das Spiel", "ein  Spiel!", "SPIEL", "„Spiel“"])
def test_the_same_title_is_found_whatever_its_case_punctuation_and_article(title: str) -> None:
    batch = Batch()
    batch.add("r1", a_synopsis("Das Spiel", first="Drei Uhr früh am Hafen, und niemand schläft."))
    finding = batch.failed(a_synopsis(title))["variety_title"]
    assert "Row r1 " in finding.message


def test_titles_differ_by_a_word_and_an_article_alone_is_a_title() -> None:
    batch = Batch()
    batch.add("r1", a_synopsis("Das Spiel"))
    batch.add("r2", a_synopsis("???"))
    assert "variety_title" not in batch.failed(a_synopsis("Das falsche Spiel"))
    assert "variety_title" not in batch.failed(a_synopsis("!!"))
    assert folded_title("Die") == "die"


def a_guest(*people: str) -> Synopsis:
    return a_synopsis(f"Titel {people}", people, text=f"Am Abend geht {people[0]} fort, und Kampes Hut bleibt.")


def test_a_guest_of_another_row_is_found_with_all_mentions() -> None:
    batch = Batch()
    batch.add("r1", a_guest("Dr. Uta Kampe"))
    finding = batch.failed(a_guest("Uta Kampe"))["variety_names"]
    assert "Uta Kampe (row r1)" in finding.message
    text = a_guest("Uta Kampe").text
    assert [text[slice(*span)] for span in finding.spans] == ["Uta Kampe", "Kampes"]


@pytest.mark.parametrize("people", [["Uta Brahms"], ["Uta"], ["Kampe Brahms"]])
def test_a_first_name_may_come_back(people: list[str]) -> None:
    batch = Batch()
    batch.add("r1", a_guest("Uta Kampe"))
    assert "variety_names" not in batch.failed(a_guest(*people))


@pytest.mark.parametrize(
    "asked",
    [{"characters": ("Uta Kampe",)}, {"theme": "Uta Kampes Hut"}, {"notes": "Frau Kampe kommt wieder."},
     {"beats": ("Kampe verliert den Hut.",)}],
)  # fmt: skip
def test_people_whom_the_brief_names_may_come_back(asked: dict[str, object]) -> None:
    batch = Batch()
    batch.add("r1", a_guest("Uta Kampe"))
    brief = make_brief(**{"show": SHOW.name, "theme": "Ein Hut", **asked})
    assert "variety_names" not in batch.failed(a_guest("Uta Kampe"), brief=brief)


def test_the_cast_and_its_families_may_come_back() -> None:
    member = SHOW.cast[0].name
    batch = Batch()
    batch.add("r1", a_guest(member, f"Rita {member.split()[-1]}"))
    assert "variety_names" not in batch.failed(a_guest(member, f"Rita {member.split()[-1]}"))


def test_people_of_a_show_whose_cast_is_not_known_may_come_back() -> None:
    show, batch = generic_show("Der Landdoktor"), Batch()
    batch.add("r1", a_guest("Uta Kampe"), show)
    assert "variety_names" not in batch.failed(a_guest("Uta Kampe"), show)
    assert "variety_names" in batch.failed(a_guest("Uta Kampe"))


def test_a_last_name_comes_back_in_another_show_and_after_a_season_a_full_name_never() -> None:
    batch = Batch()
    batch.add("r0", a_guest("Uta Kampe"))
    assert "variety_names" in batch.failed(a_guest("Jan Kampe"))
    assert "variety_names" not in batch.failed(a_guest("Jan Kampe"), pool().shows[1])
    for number in range(1, SEASON):
        batch.add(f"r{number}", a_synopsis())
    assert "variety_names" in batch.failed(a_guest("Jan Kampe"))
    batch.add("last", a_synopsis())
    assert "variety_names" not in batch.failed(a_guest("Jan Kampe"))
    assert "variety_names" in batch.failed(a_guest("Uta Kampe"))
    assert "variety_names" in batch.failed(a_guest("Uta Kampe"), pool().shows[1])


def test_what_a_batch_holds_is_found_when_it_is_opened_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path / "batch.sqlite3")
    for text in TEXTS[:40]:
        batch.add(text.id, text.synopsis, show_of(text))
    batch.database.close()
    again = Batch(tmp_path / "batch.sqlite3")
    again.texts.update(batch.texts)
    for text in TEXTS[:40]:
        found = again.failed(text.synopsis, show_of(text), text.brief)
        assert {"variety_copy", "variety_opening", "variety_title"} - set(found) <= (
            set() if features_of(text.synopsis, show_of(text)).opening else {"variety_opening"}
        )
        assert f"row {text.id}," in found["variety_copy"].message


def test_rows_made_without_variety_are_added_in_one_transaction_and_known_ones_stay() -> None:
    batch = full(TEXTS[:3])
    batch.texts.update({text.id: text.synopsis.text for text in TEXTS[:9]})
    batch.variety.load((text.id, text.synopsis, show_of(text)) for text in TEXTS[:9])
    count = batch.database.execute("SELECT count(*) FROM variety_texts").fetchone()
    assert count == (9,)
    assert all("variety_copy" in batch.failed(text.synopsis, show_of(text)) for text in TEXTS[:9])


def test_a_row_of_a_transaction_that_was_undone_is_not_found() -> None:
    batch = full(TEXTS[:3])
    lost, next_one = TEXTS[3:5]

    def save_and_die() -> None:
        with transaction(batch.database):
            batch.add(lost.id, lost.synopsis, show_of(lost))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_and_die()
    assert not batch.failed(lost.synopsis, show_of(lost), lost.brief)
    batch.add(next_one.id, next_one.synopsis, show_of(next_one))  # it takes the lost one's number
    assert not batch.failed(lost.synopsis, show_of(lost), lost.brief)


def test_the_most_texts_share_no_opening_by_their_first_two_words_of_content() -> None:
    keys = [
        features_of(text.synopsis, show_of(text)).opening.split()[:2]
        for text in TEXTS
        if features_of(text.synopsis, show_of(text)).opening
    ]
    assert len(keys) > 75
    assert sum(one == other for one, other in combinations(keys, 2)) <= 1


@pytest.mark.parametrize("work", ["find", "add"])
def test_a_damaged_database_is_reported_in_one_line(work: str) -> None:
    batch = full(TEXTS[:2])
    batch.database.execute("DROP TABLE variety_texts")
    text = TEXTS[2]
    works: dict[str, Callable[[], object]] = {
        "find": lambda: batch.variety.find(text.synopsis, SHOW, BRIEF),
        "add": lambda: batch.variety.load([("x", text.synopsis, SHOW)]),
    }
    with pytest.raises(FileError, match="the batch's record: no such table"):
        works[work]()
    with pytest.raises(FileError, match="no such table"):
        Variety(sqlite3.connect(":memory:"), str)
