"""What the last texts of a house had goes to the next prompt as not to be repeated, and is held to."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise, permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from synopsis_writer.brief import Brief
from synopsis_writer.examples import Example, load_example
from synopsis_writer.gate.features import Avoid, avoid_of, features_of, kind_wording, repeated
from synopsis_writer.gate.finding import worded
from synopsis_writer.log import RunLog
from synopsis_writer.prompts.templates import avoid_block
from synopsis_writer.settings import Settings, folder, load_settings
from synopsis_writer.show import CastMember, Show
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.writer import Writer
from tests.corpus.measure import good_texts
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import GOOD, Terminal

REFERENCES = tuple(load_example(path) for path in sorted((folder("evals") / "cases").glob("*.md")))
TEXTS = (*good_texts(), *REFERENCES)
FORMS = ("episode", "teaser", "special", "week", "portrait")


def of_form(form: str) -> list[Example]:
    return [text for text in TEXTS if text.brief.form == form]


@asynccontextmanager
async def writing(
    texts: Sequence[Example], log: RunLog | bool = False, **more: Any
) -> AsyncIterator[tuple[Writer, ScriptedClient]]:
    client = ScriptedClient([text.synopsis.as_json() for text in texts])
    async with Writer(more.pop("settings", Settings()), client=client, log=log, **more) as writer:
        yield writer, client


def block(messages: Sequence[Any]) -> dict[str, list[str]]:
    """Return what the last turn says not to repeat."""
    content = messages[-1]["content"] if isinstance(messages[-1], dict) else messages[-1].content
    found = re.search(r"<zuletzt>\n(.*)\n</zuletzt>", content, re.DOTALL)
    return json.loads(found[1]) if found else {}


def kinds(listed: Sequence[str]) -> set[str]:
    return {line.partition(":")[0] for line in listed}


@pytest.mark.parametrize("form", FORMS)
async def test_two_texts_one_after_the_other_share_no_opening_ending_or_motif_in_their_prompts(form: str) -> None:
    texts = of_form(form)[:4]
    async with writing(texts) as (writer, client):
        for text in texts:
            assert (await writer.write(text.brief)).accepted, text.id
    assert block(client.calls[0].messages) == {}
    for (before, text), call in zip(pairwise(texts), client.calls[1:], strict=True):
        told, last = block(call.messages), features_of(before.synopsis)
        assert kind_wording(last.opening_kind).text("de") in kinds(told["Einstieg"])
        assert kind_wording(last.ending_kind).text("de") in kinds(told["Schluss"])
        words = " ".join((text.brief.theme, *text.brief.beats, *text.brief.characters)).lower()
        assert all(motif in told["Motive"] for motif in last.motifs if motif.lower() not in words)
        # Whoever writes what the prompt says, shares none of the three: what shares one is named.
        avoid = avoid_of([(before.brief, before.synopsis)], text.brief, ())
        assert avoid is not None
        shared = repeated(before.synopsis, avoid)
        assert "the opening" in shared.message
        assert "the ending" in shared.message
        assert all(f"the motif „{motif}“" in shared.message for motif in avoid.motifs)
        assert repeated(text.synopsis, avoid).passed is (
            features_of(text.synopsis).opening_kind != last.opening_kind
            and features_of(text.synopsis).ending_kind != last.ending_kind
            and features_of(text.synopsis).motifs.isdisjoint(avoid.motifs)
            and not set(avoid.names) & set(features_of(text.synopsis).people)
        )


async def test_only_the_last_turn_changes() -> None:
    texts = of_form("portrait")[:2]
    async with writing(texts) as (writer, client):
        for text in texts:
            await writer.write(text.brief)
        plain = writer.prompt(texts[1].brief)
    assert client.calls[1].messages[:-1] == plain.messages[:-1]
    assert client.calls[1].messages[-1] != plain.messages[-1]


async def test_the_log_remembers_the_last_texts_of_its_house_and_each_run_what_it_was_told(tmp_path: Path) -> None:
    one, two, three = of_form("teaser")[:3]
    log = RunLog(tmp_path / "log.sqlite3")
    async with writing([one], log) as (writer, _):
        await writer.write(one.brief)
    async with writing([two], log) as (writer, client):
        await writer.write(two.brief)
    told = block(client.calls[0].messages)
    assert kind_wording(features_of(one.synopsis).opening_kind).text("de") in kinds(told["Einstieg"])
    run = log.find("last")
    assert run.avoid is not None
    assert json.loads(avoid_block(run.avoid)) == told
    (tmp_path / "house.yaml").write_text("name: other\n", "utf-8")
    elsewhere = load_settings({"house": tmp_path}, {})
    async with writing([three], log, settings=elsewhere) as (writer, client):
        await writer.write(three.brief)
    assert block(client.calls[0].messages) == {}
    log.close()


async def test_a_replay_asks_as_then_whatever_was_written_since(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.sqlite3")
    texts = of_form("week")[:3]
    async with writing(texts, log) as (writer, _):
        runs = [(await writer.write(text.brief)).run for text in texts]
        for run, text in zip(runs, texts, strict=True):
            assert (await writer.replay(run)).text == text.synopsis.text
    log.close()


async def test_the_same_brief_again_is_asked_as_before() -> None:
    text = of_form("special")[0]
    async with writing([text, text]) as (writer, client):
        await writer.write(text.brief)
        await writer.write(text.brief)
    assert client.calls[0].messages == client.calls[1].messages


@pytest.mark.parametrize(
    "off",
    [{"settings": Settings(disable=("variety",))}, {"settings": Settings(responses="read")}, {"command": "eval"}],
    ids=["disabled", "cache read", "eval"],
)
async def test_it_is_off_where_answers_must_not_depend_on_the_log(off: dict[str, Any]) -> None:
    texts = of_form("portrait")[:2]
    async with writing(texts, **off) as (writer, client):
        for text in texts:
            await writer.write(text.brief)
    assert all(block(call.messages) == {} for call in client.calls)


def twin(text: Example) -> str:
    """Return the text under another title."""
    return text.synopsis.model_copy(update={"title": "Noch einmal"}).as_json()


def test_a_text_that_repeats_the_last_ones_is_saved_with_a_warning(terminal: Terminal) -> None:
    order = ["--show", "rote rosen", "--form", "portrait", "--theme"]
    theme = f"{GOOD.brief.theme}, und niemand glaubt ihr"
    with LoopbackServer([Reply(GOOD.synopsis.as_json()), Reply(twin(GOOD))]) as server:
        assert terminal("write", *order, GOOD.brief.theme, server=server).code == 0
        dry = terminal("prompt", *order, theme, "--json", server=server)
        run = terminal("write", *order, theme, server=server, SYNOPSIS_LANG="de")
        bodies = [request.body for request in server.requests if request.body]
    assert run.code == 0
    assert "Das hatten schon die letzten Texte: der Einstieg (" in run.err
    logged = json.loads(terminal("log", "show", "last", "--json").out)
    assert list(logged["avoid"]["openings"]) == [features_of(GOOD.synopsis).opening_kind]
    asked = bodies[-1]["messages"]
    assert json.loads(dry.out)["messages"][-1]["content"] == asked[-1]["content"]
    assert kinds(block(asked)["Einstieg"]) == {kind_wording(features_of(GOOD.synopsis).opening_kind).text("de")}


def test_what_a_brief_names_and_the_cast_may_come_back() -> None:
    text = next(each for each in TEXTS if features_of(each.synopsis).motifs)
    motif = min(features_of(text.synopsis).motifs)
    guest = next(person.name for person in text.synopsis.characters if " " in person.name)
    asked = Brief(show=text.brief.show, theme="Etwas ganz anderes", form=text.brief.form)

    def avoid(theme: str = asked.theme, cast: str = "Uta Niemand") -> Avoid:
        brief = asked.model_copy(update={"theme": theme})
        show = Show(name=text.brief.show, cast=(CastMember(name=cast, role="Wirtin"),))
        found = avoid_of([(text.brief, text.synopsis)], brief, [show])
        assert found is not None
        return found

    assert guest in avoid().names
    assert motif in avoid().motifs
    assert guest not in avoid(cast=guest).names
    assert guest not in avoid(f"{guest} kehrt zurück").names
    assert motif not in avoid(f"Das Rätsel: {motif}").motifs


def test_openings_of_three_texts_of_the_form_and_motifs_of_six_of_any() -> None:
    texts = [(text.brief, text.synopsis) for form in ("teaser", "episode") for text in of_form(form)[:5]]
    asked = Brief(show="X", theme="Ein Hut", form="episode")
    avoid = avoid_of(texts, asked, ())
    assert avoid is not None
    assert set(avoid.openings) == {features_of(text.synopsis).opening_kind for text in of_form("episode")[:3]}
    motifs = set().union(*(features_of(synopsis).motifs for _, synopsis in texts[:6]))
    assert set(avoid.motifs) <= motifs
    assert len(avoid.motifs) == min(12, len(motifs))


def rows(tmp_path: Path, repeated_things: int) -> tuple[Path, list[Example]]:
    """Return briefs of two texts, the second of which repeats so many things, the opening among them."""

    def shares(pair: tuple[Example, Example]) -> bool:
        one, two = pair
        avoid = avoid_of([(one.brief, one.synopsis)], two.brief, ())
        found = repeated(two.synopsis, avoid or Avoid())
        return found.value == repeated_things and "the opening" in found.message

    one, two = next(filter(shares, permutations(of_form("portrait"), 2)))
    path = tmp_path / "briefs.jsonl"
    fields = ("show", "theme", "form", "notes")
    asked = [text.brief.as_data() for text in (one, two)]
    briefs = [{name: each[name] for name in fields if name in each} for each in asked]
    path.write_text("".join(json.dumps(brief) + "\n" for brief in briefs), "utf-8")
    return path, [one, two]


@pytest.mark.parametrize("variety", ["on", "off"])
def test_in_a_batch_a_text_that_repeats_two_things_is_repaired(
    terminal: Terminal, tmp_path: Path, variety: str
) -> None:
    path, (one, two) = rows(tmp_path, 2)
    answers = [Reply(text.synopsis.as_json()) for text in (one, two, two, two)]
    with LoopbackServer(answers) as server:
        order = ["--out", str(tmp_path / "batch"), "--concurrency", "1", "--variety", variety]
        run = terminal("batch", "run", str(path), *order, server=server)
        bodies = [request.body for request in server.requests if request.body]
    if variety == "off":
        assert run.code == 0
        assert all("<zuletzt>" not in body["messages"][-1]["content"] for body in bodies)
        return
    assert run.code == 1
    assert block(bodies[1]["messages"])["Einstieg"]
    assert "Das hatten schon die letzten Texte: der Einstieg" in bodies[2]["messages"][-1]["content"]


def test_in_a_batch_one_repeated_thing_alone_refuses_nothing(terminal: Terminal, tmp_path: Path) -> None:
    path, texts = rows(tmp_path, 1)
    with LoopbackServer([Reply(text.synopsis.as_json()) for text in texts]) as server:
        order = ["--out", str(tmp_path / "batch"), "--concurrency", "1"]
        run = terminal("batch", "run", str(path), *order, server=server)
        assert block(server.chats[1].body["messages"])["Einstieg"]
    assert run.code == 0, run.err
    assert len(server.chats) == 2


def test_of_texts_that_differ_by_themselves_many_repeat_one_thing_and_few_two() -> None:
    asked, levels = [(text.brief, text.synopsis) for text in TEXTS], []
    for seed in range(5):
        Random(seed).shuffle(asked)
        for index in range(6, len(asked)):
            finding = repeated(asked[index][1], avoid_of(asked[index - 1 :: -1], asked[index][0], ()) or Avoid())
            levels.append("passed" if finding.passed else finding.level)
    assert levels.count("error") < len(levels) / 4 < levels.count("warning")


def test_texts_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.sqlite3")
    assert log.last_texts("house") == []
    log.close()
    with sqlite3.connect(tmp_path / "log.sqlite3") as database:
        insert = (
            "INSERT INTO runs "
            "(id, command, created, outcome, brief, model, rounds, best_of, examples, house) "
            "VALUES (?, 'write', '2026', 'done', ?, 'm', 1, 1, '[]', 'house')"
        )
        database.executemany(insert, [("a", "{broken"), ("b", json.dumps(GOOD.brief.as_data()))])
    log = RunLog(tmp_path / "log.sqlite3")
    assert log.last_texts("house") == []
    log.close()


@pytest.mark.parametrize("lang", ["de", "en"])
def test_the_finding_is_in_the_readers_language(lang: Any) -> None:
    text = of_form("teaser")[0]
    features = features_of(text.synopsis)
    avoid = Avoid(endings={features.ending_kind: "x"}, names=(features.people[0],))
    found = worded(repeated(text.synopsis, avoid), None, lang)
    assert ("der Schluss (" in found.message) is (lang == "de")
    assert ("the ending (" in found.message) is (lang == "en")
    assert f"„{features.people[0]}“" in found.message
    assert text.synopsis.text[slice(*found.spans[0])] == features.ending
