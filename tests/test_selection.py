import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.errors import SettingsError
from synopsis_writer.examples import Example, load_pool
from synopsis_writer.gate.features import features_of
from synopsis_writer.house import built_in_house
from synopsis_writer.models.base import Message
from synopsis_writer.prompts import selection
from synopsis_writer.prompts.selection import Chosen, ExampleIndex, index_examples, select, stems
from synopsis_writer.prompts.templates import estimate_tokens
from synopsis_writer.settings import Settings, folder, load_settings
from synopsis_writer.storage.arrays import FEWEST_CACHED
from synopsis_writer.workspace import open_workspace
from synopsis_writer.writer import Writer

FORMS = tuple(built_in_house().forms)

POOL = load_pool([folder("examples")]).examples
INDEX = index_examples(POOL)
PARAPHRASES = Path(__file__).parent / "corpus" / "paraphrases"
THEMES = (
    "Eine gehörlose Frau wird an der Hand operiert",
    "Zwei Köche wetten um ein Rezept",
    "Ein Marathonläufer gerät in Gefahr",
    "xyz",
)
IAF = "In aller Freundschaft"


def brief(theme: str = THEMES[0], show: str = IAF, form: str = "episode") -> Brief:
    return make_brief(show=show, theme=theme, form=form)


def ids(chosen: list[Chosen]) -> list[str]:
    return [one.example.id for one in chosen]


def likeness(theme: str, example: Example) -> Example:
    return replace(
        example,
        id=f"{example.id}-{theme[:12]}",
        brief=example.brief.model_copy(update={"theme": theme}),
        synopsis=example.synopsis.model_copy(update={"logline": theme}),
    )


def many(count: int = FEWEST_CACHED) -> list[Example]:
    return [replace(POOL[number % len(POOL)], id=f"many/{number}") for number in range(count)]


FEW = 2 * len(POOL)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """Return examples that are enough to be cached, as in a test only."""
    monkeypatch.setattr(selection, "FEWEST_CACHED", FEW)
    return many(FEW)


# What is chosen


def test_all_of_the_same_show_and_form_are_shown_before_any_other() -> None:
    same = {example.id for example in POOL if (example.brief.show, example.brief.form) == (IAF, "portrait")}
    for theme in THEMES:
        chosen = select(INDEX, brief(theme, form="portrait"))
        assert same < set(ids(chosen))
        assert [one.example.brief.form for one in chosen].count("portrait") >= 5


def test_the_last_is_the_one_closest_in_theme_and_says_which_words_it_shares() -> None:
    last = select(INDEX, brief("Eine Wirtin verliebt sich in den Gerichtsvollzieher"))[-1]
    assert last.example.id == "rote-rosen/unpfaendbar"
    assert last.why.startswith("another show and form, close in theme: ")


def test_within_a_large_tier_the_theme_finds_its_example() -> None:
    wanted = likeness("Ein Orgelbauer stimmt die Pfeifen einer Kathedrale", POOL[0])
    others = [likeness(f"Person {number} verliert den Prozess {number}", POOL[0]) for number in range(40)]
    chosen = select(
        index_examples([*POOL, *others, wanted]),
        brief("Die Pfeifen einer Orgel schweigen", POOL[0].brief.show, POOL[0].brief.form),
    )
    assert chosen[-1].example == wanted
    assert chosen[-1].why == "same show and form, close in theme: Pfeifen"


def test_another_story_goes_before_a_second_telling_of_a_story() -> None:
    told = next(example for example in POOL if example.id == "die-jungen-aerzte/eine-niere-auf-eis")
    again = replace(told, id="die-jungen-aerzte/noch-eine-niere")
    other = likeness("Ein Arzt und die Niere seiner Frau", told)
    chosen = select(index_examples([told, again, other]), told.brief, most=2)
    assert other.id in ids(chosen)


def test_every_example_has_a_reason() -> None:
    chosen = select(INDEX, brief("Ein Koch wettet"), pinned=["rote-rosen/reine-herztoene"])
    assert [one.why for one in chosen[:1] + chosen[2:4]] == [
        "pinned",
        "same show and form",
        "same show and form, for variety",
    ]
    assert all(one.why for one in chosen)


def test_without_any_example_of_the_form_the_shows_own_come_first() -> None:
    few = [example for example in POOL if example.brief.form != "week"]
    chosen = select(index_examples(few), brief(form="week"))
    assert [one.why.partition(",")[0] for one in chosen[:-1]] == ["same show"] * (len(chosen) - 1)


# What stays the same


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("show", [IAF, "Rote Rosen", "Eine unbekannte Serie"])
def test_for_one_show_and_form_only_the_last_example_depends_on_the_theme(show: str, form: str) -> None:
    beginnings = {tuple(ids(select(INDEX, brief(theme, show, form))[:-1])) for theme in THEMES}
    assert len(beginnings) == 1
    assert len(beginnings.pop()) in {5, 6}


@pytest.mark.parametrize("form", FORMS)
def test_a_second_brief_reads_at_most_15_percent_of_the_prompt_again(form: str) -> None:
    writer = Writer(Settings(), environment={})

    def tokens(messages: Sequence[Message]) -> int:
        return sum(estimate_tokens(message.content) + 6 for message in messages)

    for show in [*(show.name for show in writer.workspace.pool.shows), "Eine unbekannte Serie"]:
        first, *others = [writer.prompt(brief(theme, show, form)) for theme in THEMES]
        for prompt in others:
            assert prompt.messages[: prompt.stable] == first.messages[: first.stable]
            assert tokens(prompt.messages[prompt.stable :]) <= 0.15 * tokens(prompt.messages), show


def test_the_last_example_does_depend_on_the_theme() -> None:
    assert len({ids(select(INDEX, brief(theme)))[-1] for theme in THEMES}) > 1


def test_the_order_of_the_pool_changes_nothing() -> None:
    turned = index_examples(POOL[::-1])
    for theme in THEMES:
        assert ids(select(turned, brief(theme))) == ids(select(INDEX, brief(theme)))


# Limits


@pytest.mark.parametrize("budget", [0, 500, 1100, 1500, 2500, 4000, 9000])
def test_the_budget_holds(budget: int) -> None:
    chosen = select(INDEX, brief(), token_budget=budget)
    assert sum(one.tokens for one in chosen) <= budget
    assert min(6, budget // INDEX.usual_cost) <= len(chosen) <= 7


def test_a_budget_for_one_is_spent_on_the_closest_of_the_same_show_and_form() -> None:
    chosen = select(INDEX, brief("Ein Bruder will eine Niere spenden"), token_budget=1100)
    assert ids(chosen) == ["in-aller-freundschaft/ohne-gegenleistung"]


def test_what_must_not_be_shown_is_never_shown_even_when_it_is_pinned() -> None:
    for _ in range(len(POOL)):
        hidden = {one.example.id for one in select(INDEX, brief())}
        assert not hidden & set(ids(select(INDEX, brief(), exclude=hidden, pinned=sorted(hidden))))
    assert select(INDEX, brief(), exclude=INDEX.rows) == []
    assert select(INDEX, brief(), exclude={"no/such"}) == select(INDEX, brief())


def test_pinned_examples_come_first_count_and_are_never_cut() -> None:
    pinned = ["rote-rosen/reine-herztoene", "sturm-der-liebe/elf-torten"]
    chosen = select(INDEX, brief(), pinned=pinned)
    assert ids(chosen)[:2] == pinned
    assert len(chosen) in {6, 7}
    poor = select(INDEX, brief(), pinned=[*pinned, pinned[0]], token_budget=900)
    assert [(one.example.id, one.why) for one in poor] == [
        (pinned[0], "pinned"),
        (pinned[1], "pinned, beyond the token budget"),
    ]
    assert ids(select(INDEX, brief(), pinned=pinned, most=1)) == pinned


def test_the_last_is_short_unless_all_are_long() -> None:
    costs = INDEX.costs.copy()
    for row in range(0, len(costs), 2):
        costs[row] *= 3
    index = replace(INDEX, costs=costs)
    for theme in THEMES:
        for form in FORMS:
            chosen = [one.tokens for one in select(index, brief(theme, form=form), token_budget=20_000)]
            assert chosen[-1] + 70 <= 0.15 * (600 + 70 + sum(chosen))
    long = replace(INDEX, costs=INDEX.costs * 3)
    assert len(select(long, brief(), token_budget=20_000)) >= 6


def test_themes_without_words_can_be_indexed_and_queried() -> None:
    bare = [likeness("Ei", example) for example in POOL[:3]]
    assert len(select(index_examples(bare), brief("Ob es so ist"))) == 3


def test_function_words_do_not_count_for_a_theme() -> None:
    assert stems("Während zwei von ihnen nicht können, operiert die Chirurgin") == {"operie", "chirur"}


# Cached indexes


ASKED = [brief(theme, show, form) for theme in THEMES for show in (IAF, "X") for form in FORMS]


def answers(index: ExampleIndex) -> list[list[Chosen]]:
    return [select(index, each) for each in ASKED]


def same(one: ExampleIndex, other: ExampleIndex) -> bool:
    return answers(one) == answers(other)


@pytest.fixture(scope="module")
def uncached() -> list[list[Chosen]]:
    """What the index of `few` answers when it is built without a cache."""
    return answers(index_examples(many(FEW)))


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the cached index of `few`, to be copied."""
    path = tmp_path_factory.mktemp("cached")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "FEWEST_CACHED", FEW)
        index_examples(many(FEW), path)
    return path


def test_a_large_index_is_cached_mapped_and_chooses_the_same(tmp_path: Path) -> None:
    pool = many()
    first = index_examples(pool, tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    second = index_examples(pool, tmp_path)
    assert path.stat().st_mtime_ns == written
    assert isinstance(second.costs.base, np.memmap)
    assert same(second, first)
    assert same(second, index_examples(pool))


def test_a_small_index_is_not_cached(tmp_path: Path) -> None:
    assert same(index_examples(POOL, tmp_path), INDEX)
    assert not list(tmp_path.iterdir())


def test_a_changed_example_rebuilds_the_index_and_old_ones_are_deleted(tmp_path: Path, few: list[Example]) -> None:
    pool, seen = few, set[Path]()
    for change in range(5):
        pool[7] = likeness(f"Ein anderes Thema {change}", pool[7])
        index_examples(pool, tmp_path)
        (newest,) = set(tmp_path.iterdir()) - seen
        seen.add(newest)
        os.utime(newest, (time.time() + change, time.time() + change))
    left = list(tmp_path.iterdir())
    assert len(left) == 3
    assert newest in left


PARTS = ("shows", "forms", "costs", "order", "vocabulary", "starts", "entries", "weights")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other"])
def test_a_damaged_index_is_rebuilt(
    tmp_path: Path, few: list[Example], cached: Path, uncached: list[list[Chosen]], part: str, damage: str
) -> None:
    shutil.copytree(cached, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    file = path / f"{part}.npy"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "other":
        np.save(file, np.load(file)[:-1])
    else:
        file.write_bytes(whole[:-40] if damage == "cut" else b"")
    assert answers(index_examples(few, tmp_path / "cache")) == uncached
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_time(
    tmp_path: Path, few: list[Example], uncached: list[list[Chosen]]
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert answers(index_examples(few, tmp_path / "file")) == uncached


@pytest.mark.parametrize("damage", [None, b"", b"\x93NUMPY of another kind"])
def test_the_features_of_texts_are_cached_and_found_again_when_the_cache_is_damaged(
    tmp_path: Path, damage: bytes | None
) -> None:
    folder = tmp_path / "selection"
    assert same(index_examples(POOL, folder), INDEX)
    (path,) = (tmp_path / "features").iterdir()
    file, whole = path / "data.npy", (path / "data.npy").read_bytes()
    if damage is not None:
        file.write_bytes(damage)
    index = index_examples(POOL, folder)
    assert same(index, INDEX)
    assert [index.features(row) for row in range(len(POOL))] == [features_of(each.synopsis) for each in POOL]
    assert file.read_bytes() == whole


# The writer


@pytest.fixture
def writer() -> Writer:
    return Writer(load_settings({"pinned": ["rote-rosen/reine-herztoene"]}, {}))


def test_a_writer_pins_hides_and_indexes_once(writer: Writer) -> None:
    prompt = writer.prompt(brief())
    assert prompt.example_ids[0] == "rote-rosen/reine-herztoene"
    last = prompt.example_ids[-1]
    assert last not in writer.prompt(brief(), exclude={last}).example_ids
    assert last not in writer.outline_prompt(brief(), exclude={last}).example_ids
    assert writer.workspace.index is writer.workspace.index


def test_two_prompts_for_one_show_and_form_are_the_same_up_to_the_last_example(writer: Writer) -> None:
    one, two = (writer.prompt(brief(theme)) for theme in THEMES[:2])
    assert one.messages[:-3] == two.messages[:-3]
    assert one.messages[-3:] != two.messages[-3:]
    changing = sum(len(message.content) for message in one.messages[-3:])
    assert changing < 0.2 * sum(len(message.content) for message in one.messages)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("rote-rosen/reine-herztone", "did you mean rote-rosen/reine-herztoene"),
        ("reine-herztoene", "did you mean rote-rosen/reine-herztoene"),
        ("0000", "synopsis examples list names them"),
    ],
)
def test_an_unknown_pinned_id_is_reported_with_similar_ones(name: str, reported: str) -> None:
    with pytest.raises(SettingsError, match=f"^no example '{name}' to pin: {reported}"):
        open_workspace(load_settings({"pinned": [name]}, {}))


def test_pinned_ids_come_from_the_environment_with_commas() -> None:
    assert load_settings({}, {"SYNOPSIS_PINNED": "a/b, c/d"}).pinned == ("a/b", "c/d")
