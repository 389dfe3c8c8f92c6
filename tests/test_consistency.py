"""What in a text contradicts itself for certain; and the texts on which code and models are measured."""

import json
from dataclasses import replace

import pytest

from synopsis_writer.evals.checks import HALVES, KINDS, load_texts
from synopsis_writer.gate.consistency import consistency
from synopsis_writer.gate.finding import Finding, worded
from synopsis_writer.gate.gate import Gate
from synopsis_writer.house import built_in_house
from synopsis_writer.show import CastMember, Show
from synopsis_writer.synopsis import Character
from tests.corpus.measure import good_texts
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import Terminal

PEOPLE = {
    "Gesa Meinecke": "Schäferin",
    "Hendrik Althaus": "Unternehmer",
    "Vivienne Kling": "Pflegerin",
    "Alfons Sonnbichler": "Chefportier",
    "Quirin": "Sohn von Gesa",
}


def found(text: str, people: dict[str, str] | None = None, cast: dict[str, str] | None = None) -> Finding:
    persons = tuple(Character(name=name, role=role) for name, role in (people or PEOPLE).items())
    show = Show(name="X", cast=tuple(CastMember(name=name, role=role) for name, role in (cast or {}).items()))
    names = tuple(person.name for person in persons)
    subject = Gate(built_in_house()).subject(text, "episode", show, None, "", names)
    return consistency(replace(subject, characters=persons))


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        # one letter off, dropped, doubled, swapped; in the genitive, too
        ("Gesa Meineke geht. Meinecke kommt.", "Meineke"),
        ("Dann sieht Altahus den Hund.", "Altahus"),
        ("Dann sieht Althauß den Hund.", "Althauß"),
        ("Der Hund von Meinekes Hof bellt.", "Meinekes"),
        ("Da kommt Sonnbichlers Frau, und Sonbichler lacht.", "Sonbichler"),
        # another first name
        ("Am Abend ruft Heiner Althaus an.", "Heiner Althaus"),
        ("Die Schäferin Gisela Meinecke pfeift. Gesa lacht.", "Gisela Meinecke"),
        ("Gisela Meinecke, Schäferin, pfeift. Gesa lacht.", "Gisela Meinecke"),
        ("Da lacht Hendrick Althaus. Hendrik geht.", "Hendrick Althaus"),
        # a calling that the role excludes
        ("Am Morgen operiert Chirurgin Vivienne Kling.", "Chirurgin"),
        ("Vivienne Kling, die junge Anwältin, wartet.", "Anwältin"),
        ("Vivienne ist Köchin und wartet.", "Köchin"),
        ("Am Morgen lacht Pfleger Vivienne Kling.", "Pfleger"),
        # a calling of the other gender, as a subject, where its person was named
        ("Gesa Meinecke pfeift. Der Schäfer lacht.", "Der Schäfer"),
        ("Hendrik Althaus kommt. Da lacht die Unternehmerin.", "die Unternehmerin"),
        ("Alfons, die leidlich spielt, blättert.", "Alfons, die"),
        # two ages
        ("Gesa Meinecke, vierzig, lacht. Gesa ist 47 und geht.", "Gesa ist 47"),
        ("Quirin, vier Jahre alt, lacht. Der siebenjährige Quirin schläft.", "siebenjährige Quirin"),
        ("Gesa lacht, vierzig Jahre alt. Gesa weiß das mit ihren fünfzig Jahren.", "mit ihren fünfzig"),
        ("Gesa Meinecke (47) lacht. Die 52-jährige Gesa geht.", "52-jährige Gesa"),
        ("Gesa Meinecke, 38, lacht. Die gut vierzigjährige Gesa geht.", "vierzigjährige Gesa"),
        ("Gesa ist 42, lacht. Gesa weiß das mit ihren knapp vierzig Jahren.", "mit ihren knapp vierzig"),
        # more of what was there
        ("Auf dem Tisch liegen drei Briefe. Gesa verbrennt die fünf Briefe.", "fünf Briefe"),
        ("Auf dem Tisch liegen gut vierzig Briefe. Gesa verbrennt die 60 Briefe.", "60 Briefe"),
        # no such day, hour or order
        ("Am 31. April kommt Gesa.", "31. April"),
        ("Am 29. Februar 2025 kommt Gesa.", "29. Februar 2025"),
        ("Am Freitag, dem 14. März 2026, kommt Gesa.", "Freitag, dem 14. März 2026"),
        ("Um 25 Uhr kommt Gesa.", "25 Uhr"),
        ("Um 9.75 Uhr kommt Gesa.", "9.75 Uhr"),
        ("Von 1998 bis 1991 war Gesa fort.", "Von 1998 bis 1991"),
        ("Am Montag kommt Gesa. Am nächsten Tag, einem Freitag, geht sie.", "nächsten Tag, einem Freitag"),
        ("Am Montag kommt Gesa. Zwei Tage später, am Freitag, geht sie.", "Zwei Tage später, am Freitag"),
        ("Am Montag kommt Gesa. Am Tag darauf, einem Freitag, geht sie.", "Tag darauf, einem Freitag"),
        # a duration that is none
        ("Zwei Stunden lang, von 14 bis 19 Uhr, wartet Gesa.", "Zwei Stunden lang"),
        ("Von 9.10 Uhr bis 9.50 Uhr, zwanzig Minuten lang, wartet Gesa.", "zwanzig Minuten lang"),
        ("Zwei Tage lang, von Montag bis Freitag, wartet Gesa.", "Zwei Tage lang"),
        ("Fast drei Stunden lang, von 9 bis 13 Uhr, wartet Gesa.", "drei Stunden lang"),
    ],
)  # fmt: skip
def test_a_contradiction_is_marked(text: str, marked: str) -> None:
    finding = found(text)
    assert not finding.passed
    assert any(marked in text[slice(*span)] for span in finding.spans)


@pytest.mark.parametrize(
    "text",
    [
        "Meineckes Hund bellt, und die Meineckes lachen.",
        "Gesa Meinecke und ihr Bruder Jost Meinecke lachen.",
        "Jost Meinecke kommt. Gesa kennt Jost seit Jahren.",
        "Gesa ruft an. Gisela Meinecke hebt ab.",
        "Gesa Meinecke, früher Anwältin, wartet.",
        "Die Liste der Schäfer ist lang, und Gesa steht darauf.",
        "Der Schäfer aus dem Nachbardorf kommt. Gesa Meinecke lacht.",
        "Eine Unternehmerin ruft Hendrik an.",
        "Alfons und Hendrik, die leidlich spielen, blättern.",
        "Die Frau von Alfons, die leidlich spielt, blättert.",
        "Mit neunzehn hat Gesa den Hof geerbt. Gesa ist 47 und geht.",
        "Gesa ist 47. Drei Jahre später ist Gesa 50.",
        "Gesa, vierzig Jahre alt, wartet auf ihren Sohn, vier Jahre alt.",
        "Drei Briefe liegen da. Die zwei Briefe aus Rom sind verbrannt.",
        "Drei Briefe liegen da. Die fünf Briefe aus Rom kommen später.",
        "Nach drei Runden kommt die zehnte Runde.",
        "Nach drei Stunden sind die acht Stunden noch lang.",
        "Am 29. Februar kommt Gesa. Am 31. Mai geht sie.",
        "Am Samstag, dem 14. März 2026, kommt Gesa. Am Sonnabend, dem 14. März 2026, geht sie.",
        "Um 24 Uhr kommt Gesa. Um 9.59 Uhr geht sie.",
        "Von 1991 bis 1998 war Gesa fort.",
        "Am Montag kommt Gesa. Am nächsten Tag, einem Dienstag, geht sie.",
        "Am Montag kommt Gesa. Drei Tage später, am Donnerstag, geht sie.",
        "Gesa war Anwältin. Als Anwältin Gesa noch jung war, lachte sie.",
        "Fünf Stunden lang, von 22 bis 3 Uhr, wartet Gesa.",
        "Gut zwei Stunden lang, von 9.10 bis 11.30 Uhr, wartet Gesa.",
        "Gesa Meinecke, 42, lacht. Die gut vierzigjährige Gesa geht.",
        "Auf dem Tisch liegen gut vierzig Briefe. Gesa verbrennt die 42 Briefe.",
        "Drei Stunden lang, von 11 bis 2 Uhr, wartet Gesa.",
        "Fünf Tage lang, von Montag bis Freitag, wartet Gesa. Vier Tage lang, von Montag bis Freitag, auch.",
    ],
)
def test_what_may_be_is_not_marked(text: str) -> None:
    assert found(text).message == "The text does not contradict itself."


def test_the_cast_counts_where_a_text_lists_nobody() -> None:
    cast = {"Britta Berger": "Ärztin"}
    assert not found("Anwältin Britta Berger kommt.", {"Gesa Meinecke": "Schäferin"}, cast).passed
    assert found("Da kommt Laura Berger.", {"Gesa Meinecke": "Schäferin"}, cast).passed


def test_the_finding_names_both_in_the_reader_s_language_and_warns() -> None:
    text = "Gesa Meineke geht. Am 31. April kommt sie."
    german = worded(found(text), None, "de")
    assert german.message == "Das geht nicht auf: „Meineke“ ≠ „Meinecke“, „31. April“."
    assert german.limit == "keine Widersprüche"
    assert built_in_house().form("episode").level("consistency") == "warning"


@pytest.mark.parametrize("half", HALVES)
def test_the_texts_have_all_kinds_of_slips_and_none_without_one_is_marked(half: str) -> None:
    texts = load_texts(half)  # type: ignore[arg-type]
    kinds = [slip.kind for text in texts for slip in text.slips]
    assert (len(texts), {kind: kinds.count(kind) for kind in KINDS}) == (20, dict.fromkeys(KINDS, 4))
    assert {*kinds} == {*KINDS}
    for text in texts:
        assert {text.text.count(slip.old) for slip in text.slips} <= {1}, text.id
        people = {person.name: person.role for person in text.characters}
        assert found(text.text, people).passed, text.id


def test_no_good_text_contradicts_itself() -> None:
    for example in good_texts():
        people = {person.name: person.role for person in example.synopsis.characters}
        assert found(example.synopsis.text, people).passed, example.id


def test_review_check_measures_code_without_a_model(terminal: Terminal) -> None:
    run = terminal("eval", "review-check", "--json")
    assert run.code == 0
    tuning, held_out = json.loads(run.out)["results"]
    for row, least in ((tuning, 14), (held_out, 10)):
        assert row["by"] == "consistency"
        assert row["recall"][""]["found"] >= least
        assert row["recall"][""]["of"] == 48
        assert (row["clean_texts"], row["clean_texts_marked"], row["unread"]) == (20, 0, 0)


def test_review_check_measures_a_model_and_counts_what_was_not_read(terminal: Terminal) -> None:
    text = load_texts("tuning")[0]
    parts = text.text.strip().split("\n\n")
    events = [{"number": number, "event": part[:80]} for number, part in enumerate(parts, start=1)]
    fault = {"quote": "liest Buttgereith das Papier", "kind": "Name", "wrong": "Anders.", "way_out": "Buttgereit"}
    answer = json.dumps({"events": events, "remarks": [fault]}, ensure_ascii=False)
    with LoopbackServer([Reply(answer)] * 68) as server:
        order = ["eval", "review-check", "--half", "tuning", "--review-model", "m", "--concurrency", "1"]
        run = terminal(*order, "--json", server=server)
    assert run.code == 3
    code, model = json.loads(run.out)["results"]
    assert (code["by"], model["by"]) == ("consistency", "review")
    assert model["recall"]["name"] == {"found": 1, "of": 1, "low": 0.207, "high": 1.0}
    assert model["unread"] == 64  # the other 19 texts, with their slips
    assert (model["clean_texts"], model["clean_texts_marked"]) == (1, 0)
    assert json.loads(run.out)["review"]["attempts"] == 68
