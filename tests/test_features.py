"""How texts differ: the features of one, the figures of a pool, and the built-in pool held to its limits."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synopsis_writer.examples import load_pool
from synopsis_writer.gate.features import features_of, measure_variety
from synopsis_writer.prompts.selection import index_examples, select
from synopsis_writer.settings import folder
from synopsis_writer.synopsis import Character, Paragraph, Synopsis
from tests.support.terminal import Terminal
from tests.test_selection import brief

POOL = load_pool([folder("examples")]).examples


def synopsis(text: str, title: str = "Ohne Titel", *people: str) -> Synopsis:
    characters = tuple(Character(name=name, role="Gast") for name in people or ("Anna Berg",))
    parts = tuple(Paragraph(storyline="A", text=part) for part in text.split("\n\n"))
    return Synopsis(title=title, logline="Eine Zeile, die lang genug ist.", characters=characters, paragraphs=parts)


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("Elf tote Heidschnucken liegen am Deich.", "number"),
        ("Dreißig Jahre alt ist der Ofen.", "number"),
        ("Noch drei Tage, dann geht er.", "number"),
        ("23 Stufen führen hinauf.", "number"),
        ("Am Morgen fehlt der Hund.", "moment"),
        ("Dienstags kocht Otto.", "moment"),
        ("Als der Zug hält, steigt niemand aus.", "moment"),
        ("Anna Berg packt.", "person"),
        ("Mit Anna beginnt es.", "person"),
        ("Bergs Werkstatt brennt.", "person"),
        ("Im Rucksack stecken Reiswaffeln.", "place"),
        ("Der Koffer steht im Flur.", "thing"),
        ("Ihre Brille ist verlegt.", "thing"),
        ("Ein Koffer steht im Flur.", "new thing"),
        ("Wer fragt, bekommt keine Antwort.", "clause"),
        ("Sie schweigt.", "pronoun"),
        ("Leise klingt die Glocke.", "bare word"),
        ("„Geh“, sagt Anna.", "speech"),
        ("„Rote Rosen“ erzählt von einem Kamel.", "title"),
        ("Warum schweigt der Wirt?", "question, warum"),
        ("Und wessen Mantel hängt da?", "question, wessen"),
        ("Aus welchem Grund schweigt er?", "question, welchem"),
        ("Verzeiht Anna ihm, oder geht sie?", "question, verb first, oder"),
        ("Bleibt sie?", "question, verb first"),
        ("Oder bleibt sie?", "question, oder first"),
        ("Ob sie bleibt?", "question, ob"),
        ("Sie bleibt …", "ellipsis"),
    ],
)
def test_how_a_sentence_begins_and_ends(first: str, kind: str) -> None:
    assert features_of(synopsis(first)).opening_kind == kind
    assert features_of(synopsis(f"Es regnet seit Tagen hier.\n\n{first}")).ending_kind == kind


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Ein Brief kommt. Der Liebesbrief liegt da. Anna reißt. Was stand im Umschlag?", {"Schriftstück"}),
        ("Ein Brief kommt. Anna liest.", set[str]()),
        ("Am Regal steht ein Zinnsoldat. Der Zinnsoldat fehlt. Anna sucht den Zinnsoldaten.", {"Zinnsoldat"}),
        ("Ihr Vater geht. Der Vater ruft an. Anna vergisst den Vater, und der Vater schreibt.", set[str]()),
        ("Frau Berg lacht. Dann geht Frau Berg, und Anna Berg bleibt. Anna weint um Anna.", set[str]()),
    ],
    ids=["kind of thing", "only once", "any thing", "words of every story", "names"],
)  # fmt: skip
def test_motifs_are_what_comes_again_and_again(text: str, wanted: set[str]) -> None:
    assert features_of(synopsis(text)).motifs == wanted


def test_the_built_in_pool_keeps_its_limits() -> None:
    variety = measure_variety({example.id: example.synopsis for example in POOL})
    assert variety.faults == []
    assert variety.texts >= 40
    assert max(variety.counts["open ending"].values()) <= variety.counts["open ending"].total() / 4
    assert max(variety.counts["motif"].values()) <= variety.texts / 6


def test_a_pool_of_one_hand_is_refused_and_the_shared_patterns_are_named() -> None:
    texts = {
        str(number): synopsis(
            f"Elf Männer warten am Kanal {number}.\n\nDer Zinnsoldat fehlt. Ein Zinnsoldat aus Blei, "
            f"und noch ein Zinnsoldat.\n\nVerzeiht Anna, oder geht sie nach Haus {number}?"
        )
        for number in range(12)
    }
    variety = measure_variety(texts)
    assert [fault.partition(",")[0] for fault in variety.faults] == [
        "opening 'number': 12 of 12",
        "open ending 'question",
        "motif 'Zinnsoldat': 12 of 12",
    ]
    assert min(variety.profile) > 0.99
    assert variety.repetition > 0.5
    assert variety.compression > 5


def test_two_texts_alike_are_no_fault_and_an_empty_pool_has_figures() -> None:
    one = synopsis("Elf Männer warten. Bleiben sie?")
    assert measure_variety({"a": one, "b": one}).faults == []
    assert measure_variety({}).lines[0] == "0 texts, 0 words"


def test_the_command_prints_the_figures_in_words(terminal: Terminal, tmp_path: Path) -> None:
    run = terminal("examples", "check", "--variety")
    assert run.code == 0
    assert run.out.startswith(f"{len(POOL)} texts, ")
    assert "open endings (" in run.out
    one = "alles-was-zaehlt/die-naht-der-rivalin"
    shutil.copytree(folder("examples"), tmp_path / "pool", ignore=lambda *_: {"house.yaml"})
    for number in range(20):
        shutil.copy(tmp_path / "pool" / f"{one}.md", tmp_path / "pool" / f"{one}-{number}.md")
    run = terminal("examples", "check", "--variety", "--examples", str(tmp_path / "pool"))
    assert run.code == 1
    assert "open ending 'question, was': 26 of 44, at most 25% may share it" in run.err


def test_examples_that_differ_in_their_features_are_preferred() -> None:
    told = next(example for example in POOL if features_of(example.synopsis).opening_kind == "number")
    alike = [replace(told, id=f"a/{number}") for number in range(5)]
    other = replace(
        told, id="z/other", synopsis=told.synopsis.model_copy(update={"paragraphs": POOL[0].synopsis.paragraphs})
    )
    chosen = select(index_examples([told, *alike, other]), brief(form=told.brief.form), most=3)
    assert other.id in [one.example.id for one in chosen[:-1]]
