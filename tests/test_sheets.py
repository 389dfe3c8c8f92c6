"""Synopses as receivers want them, read back by the parsers of their formats."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import docx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree, html

from synopsis_writer import InputError, export
from synopsis_writer.document import Document
from synopsis_writer.formats.reading import plain_text, read_source
from synopsis_writer.formats.sheets import SHEETS, Sheet, docx_sheets, linked_data, sheet_of
from tests.support.terminal import Terminal

XMLTV = Path("/usr/share/xmltv/xmltv.dtd")  # of Debian's package xmltv-util
EXAMPLE = Path("examples/rote-rosen/reine-herztoene.md").resolve()
META: dict[str, Any] = {
    "brief": {"show": "Wattwache", "theme": "Schafe", "form": "teaser"},
    "title": "Elf & eins <Schaf>",
    "logline": "Gesa zählt die Schafe zweimal.",
    "characters": [{"name": "Gesa Brodersen", "role": "Schäferin"}],
    "storylines": ["A", "B"],
    "model": "gpt-5.4-mini",
}
TEXT = "Gesa zählt die Schafe. „Elf“, sagt sie.\n\n=Am Abend </script> fehlt eins & Jürgen weiß, warum …"
HASH = Document(Path("a.md"), {}, TEXT).text_hash
RELEASE = {"by": "Anna Beispiel", "at": "2026-11-30T12:00:00Z", "person_share": 0.1, "text_sha256": HASH}


def sheet(**changes: Any) -> Sheet:
    return sheet_of(Document(Path("a.md"), {**META, **changes}, TEXT))


def test_a_python_program_exports_documents() -> None:
    document = Document(Path("a.md"), META, TEXT)
    assert json.loads(export([document], "json"))["title"] == META["title"]
    with pytest.raises(InputError, match="the formats are docx, html"):
        export([document], "pdf")
    with pytest.raises(InputError, match="nothing to export"):
        export([], "txt")


def test_a_word_file_has_all_that_an_editor_sends(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(docx_sheets([sheet(release=RELEASE)]))
    file = docx.Document(str(tmp_path / "a.docx"))
    lines = [paragraph.text for paragraph in file.paragraphs]
    assert lines == [
        "Wattwache", META["title"], META["logline"], *TEXT.split("\n\n"), "Personen",
        "Gesa Brodersen: Schäferin", "Entwurf: gpt-5.4-mini, freigegeben von Anna Beispiel am 2026-11-30",
    ]  # fmt: skip
    assert file.core_properties.language == "de-DE"
    assert "CompositeWithTrainedAlgorithmicMedia" in file.core_properties.comments


@given(st.lists(st.text("abcäöüßÄ„“–…,'&<>1 \x07\x0b", min_size=1, max_size=40), min_size=1, max_size=6))
def test_a_text_loses_no_word_on_its_way_through_word(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("word") / "a.docx"
    text = "\n\n".join(["Der Anfang.", *parts])
    path.write_bytes(docx_sheets([Sheet("Der Titel", text, "", "", "", (), {})]))
    words = re.sub(r"[\x07\x0b]", "", text).split()
    assert read_source(path).document.text.split() == words


@pytest.mark.parametrize("file_format", ["docx", "html", "csv", "json", "txt"])
def test_what_goes_out_comes_in_with_title_and_text_alone(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"a.{file_format}"
    path.write_bytes(SHEETS[file_format]([sheet(release=RELEASE)]))
    document = read_source(path).document
    assert (document.meta["title"], document.text) == (META["title"], TEXT)


def test_html_shows_the_text_as_text_and_has_linked_data_inside() -> None:
    page = html.document_fromstring(SHEETS["html"]([sheet()]).decode("utf-8"))
    assert page.findtext(".//h1") == META["title"]
    assert [p.text_content() for p in page.findall(".//article/p")][2:] == TEXT.split("\n\n")
    inside = page.find(".//script[@type='application/ld+json']").text
    assert json.loads(inside)["description"] == TEXT
    assert page.get("lang") == "de-DE"


def test_linked_data_is_an_episode_of_schema_org() -> None:
    data = linked_data(sheet(release=RELEASE))
    assert data["@type"] == "TVEpisode"
    assert data["partOfSeries"] == {"@type": "TVSeries", "name": "Wattwache"}
    assert data["character"][0]["name"] == "Gesa Brodersen"
    assert data["digitalSourceType"] == ("https://schema.org/CompositeWithTrainedAlgorithmicMediaDigitalSource")
    assert data["editor"]["name"] == "Anna Beispiel"
    assert data["identifier"]["value"] == HASH


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "TrainedAlgorithmicMedia"),
        ({"release": RELEASE}, "CompositeWithTrainedAlgorithmicMedia"),
        ({"release": {**RELEASE, "person_share": 0.0}}, "TrainedAlgorithmicMedia"),
    ],
)
def test_the_source_type_says_who_wrote(changes: dict[str, Any], kind: str) -> None:
    assert sheet(**changes).source_type == kind


def test_a_persons_own_text_has_no_source_type() -> None:
    assert sheet_of(Document(Path("my-text.txt"), {}, TEXT)).source_type == ""


def test_several_synopses_are_a_graph_a_list_and_rows() -> None:
    both = [sheet(), sheet(title="Zwei")]
    assert [episode["name"] for episode in json.loads(SHEETS["jsonld"](both))["@graph"]] == [
        META["title"], "Zwei",
    ]  # fmt: skip
    assert [each["title"] for each in json.loads(SHEETS["json"](both))] == [META["title"], "Zwei"]
    rows = list(csv.DictReader(io.StringIO(SHEETS["csv"](both).decode("utf-8-sig"))))
    assert [row["title"] for row in rows] == [META["title"], "Zwei"]
    assert plain_text(rows[0]["text"]) == TEXT
    assert SHEETS["txt"](both).decode().count("Gesa zählt") == 2


SLOT = ("--format", "xmltv", "--channel", "ndr.de", "--start", "2026-12-24T20:15+01:00")


def test_xmltv_has_a_programme_with_its_time(terminal: Terminal) -> None:
    run = terminal("export", str(EXAMPLE), *SLOT, "--stop", "2026-12-24T21:00+01:00")
    assert run.code == 0, run.err
    programme = etree.fromstring(run.out.encode()).find("programme")
    assert dict(programme.attrib) == {
        "start": "20261224201500 +0100", "stop": "20261224210000 +0100", "channel": "ndr.de",
    }  # fmt: skip
    assert [child.tag for child in programme] == ["title", "sub-title", "desc"]
    assert programme.findtext("title") == "Rote Rosen"
    assert len(run.err.splitlines()) == 2, "what XMLTV does not hold"


GUIDE = """<?xml version="1.0"?><!DOCTYPE tv SYSTEM "xmltv.dtd"><tv>
<channel id="a"><display-name>A</display-name></channel><programme start="20261224201500 +0100" channel="a">
<title lang="de">ROTE  ROSEN</title>
<sub-title lang="de">Reine Herztöne</sub-title><desc lang="en">English</desc><desc lang="de">alt</desc>
<credits><actor>X</actor></credits></programme>
<programme start="20261224211500 +0100" channel="a"><title>Andere</title></programme></tv>"""


def test_a_guide_is_filled_by_series_and_title(terminal: Terminal) -> None:
    (terminal.folder / "guide.xml").write_text(GUIDE, encoding="utf-8")
    run = terminal("export", str(EXAMPLE), "--format", "xmltv", "--into", "guide.xml", "-o", "new.xml")
    assert run.code == 0, run.err
    guide = etree.parse(str(terminal.folder / "new.xml"))
    first = guide.find("programme")
    assert [(one.get("lang"), (one.text or "")[:12]) for one in first.findall("desc")] == [
        ("de", read_source(EXAMPLE).document.text[:12]), ("en", "English"),
    ]  # fmt: skip
    assert [child.tag for child in first] == ["title", "sub-title", "desc", "desc", "credits"]
    assert (terminal.folder / "guide.xml").read_text(encoding="utf-8") == GUIDE


@pytest.mark.skipif(not XMLTV.exists(), reason="XMLTV's DTD is not installed: apt-get install xmltv-util")
def test_the_guides_are_valid_by_the_dtd_of_xmltv(terminal: Terminal) -> None:
    (terminal.folder / "guide.xml").write_text(GUIDE, encoding="utf-8")
    dtd = etree.DTD(str(XMLTV))
    for flags in (SLOT, ("--format", "xmltv", "--into", "guide.xml")):
        guide = etree.fromstring(terminal("export", str(EXAMPLE), *flags).out.encode())
        assert dtd.validate(guide), dtd.error_log


def test_nobody_answers_for_a_text_that_was_changed_after_its_release(terminal: Terminal) -> None:
    release = json.dumps({**RELEASE, "text_sha256": "ab12"})
    (terminal.folder / "a.md").write_text(f"---\nmodel: m\nrelease: {release}\n---\n{TEXT}\n", "utf-8")
    for kind in ("html", "jsonld", "csv", "json"):
        run = terminal("export", "a.md", "--format", kind)
        assert (run.code, "Anna Beispiel" in run.out) == (0, False)
        assert "a.md: was changed after its release" in run.err


def test_a_guide_keeps_its_entities_and_what_is_around_it(terminal: Terminal) -> None:
    subset = ' [<!ENTITY rr "Rote Rosen">]>\n<!-- ours -->\n<tv source-info-name="&rr;">'
    guide = GUIDE[GUIDE.index("<tv") :].partition(">")[2].replace("Rote Rosen", "&rr;<!-- eins -->")
    (terminal.folder / "guide.xml").write_text(f'<!DOCTYPE tv SYSTEM "xmltv.dtd"{subset}{guide}', "utf-8")
    run = terminal("export", str(EXAMPLE), "--format", "xmltv", "--into", "guide.xml")
    assert (run.code, "<!-- ours -->" in run.out) == (0, True), run.err
    root = etree.fromstring(run.out.encode())
    assert root.get("source-info-name") == "Rote Rosen"
    assert root.findtext("programme/desc")[:12] == read_source(EXAMPLE).document.text[:12]


def test_a_film_is_found_by_its_title(terminal: Terminal) -> None:
    (terminal.folder / "film.md").write_text("---\ntitle: Der Hund\n---\nEr bellt.\n", "utf-8")
    programme = '<tv><programme start="20261224" channel="a"><title>Der Hund</title>{}</programme></tv>'
    for episode, code in (("", 0), ("<sub-title>Der Wolf</sub-title>", 2)):
        (terminal.folder / "guide.xml").write_text(programme.format(episode), "utf-8")
        run = terminal("export", "film.md", "--format", "xmltv", "--into", "guide.xml")
        assert (run.code, "Er bellt." in run.out) == (code, not code)
        assert ("has no programme 'Der Hund'\n" in run.err) == bool(code)


def test_a_programme_that_is_not_there_is_reported(terminal: Terminal) -> None:
    (terminal.folder / "guide.xml").write_text("<tv/>", encoding="utf-8")
    run = terminal("export", str(EXAMPLE), "--format", "xmltv", "--into", "guide.xml")
    assert run.code == 2
    assert "has no programme 'Rote Rosen'" in run.err


BOMB = (
    '<!DOCTYPE tv [<!ENTITY a "aaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 20}">' for n in range(9))
    + "]><tv>&j;</tv>"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.md", "--format", "txt"), "missing.md"),
        ((str(EXAMPLE), "--format", "docx"), "name a file with --output"),
        ((str(EXAMPLE), "--format", "xmltv"), "give --channel and --start"),
        ((str(EXAMPLE), "--format", "xmltv", "--channel", "a", "--start", "morgen"), "is no time"),
        ((str(EXAMPLE), str(EXAMPLE), *SLOT), "2 synopses and one --start"),
        ((str(EXAMPLE), *SLOT, "--stop", "2026-12-24T20:15+01:00"), "is not after --start"),
        (
            (str(EXAMPLE), str(EXAMPLE), "--format", "xmltv", "--into", "guide.xml"),
            "two texts for 'Rote Rosen', 'Reine Herztöne'",
        ),
        ((str(EXAMPLE), "--format", "txt", "--channel", "a"), "are for --format xmltv"),
        ((str(EXAMPLE), "--format", "txt", "-o", "there.txt"), "replace it with --force"),
        ((str(EXAMPLE), "--format", "txt", "-o", "there.txt/a.txt"), "cannot write"),
        ((str(EXAMPLE), "--format", "xmltv", "--into", "there.txt"), "is not XML"),
        ((str(EXAMPLE), "--format", "xmltv", "--into", "rss.xml"), "is no XMLTV guide"),
        ((str(EXAMPLE), "--format", "xmltv", "--into", "bomb.xml"), "is not XML"),
        (("empty", "--format", "txt"), "holds no text"),
        (
            (str(EXAMPLE), "--format", "xmltv", "--into", "guide.xml", "--start", "2026-12-24"),
            "give --channel and --start, or --into a guide alone",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    terminal: Terminal, arguments: tuple[str, ...], message: str
) -> None:
    (terminal.folder / "there.txt").write_text("stays", encoding="utf-8")
    (terminal.folder / "rss.xml").write_text("<rss/>", encoding="utf-8")
    (terminal.folder / "guide.xml").write_text(GUIDE, encoding="utf-8")
    (terminal.folder / "bomb.xml").write_text(BOMB, encoding="utf-8")
    (terminal.folder / "empty").mkdir()
    run = terminal("export", *arguments)
    assert run.code == 2
    assert message in run.err
    assert run.err.count("synopsis: ") == 1
    assert (terminal.folder / "there.txt").read_text(encoding="utf-8") == "stays"


def test_one_file_that_cannot_be_read_does_not_keep_the_others(terminal: Terminal) -> None:
    run = terminal("export", "missing.md", str(EXAMPLE), "--format", "json")
    assert (run.code, json.loads(run.out)["title"]) == (2, "Reine Herztöne")
    (terminal.folder / "texte").mkdir()
    (terminal.folder / "texte" / "a.md").write_text("", encoding="utf-8")
    (terminal.folder / "texte" / "b.md").write_bytes(EXAMPLE.read_bytes())
    run = terminal("export", "texte", "--format", "json")
    assert (run.code, json.loads(run.out)["title"]) == (2, "Reine Herztöne")


def test_a_csv_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(SHEETS["csv"]([sheet()]))
    document = read_source(tmp_path / "a.csv").document
    assert (document.meta["title"], document.text) == (META["title"], TEXT)


def test_an_export_into_its_own_folder_is_not_read_again(terminal: Terminal) -> None:
    (terminal.folder / "a.md").write_bytes(EXAMPLE.read_bytes())
    order = ("export", ".", "--format", "json", "-o", "all.json", "--force")
    assert terminal(*order).code == 0
    first = (terminal.folder / "all.json").read_bytes()
    assert terminal(*order).code == 0
    assert (terminal.folder / "all.json").read_bytes() == first


def test_a_text_of_two_series_is_exported_for_both(terminal: Terminal) -> None:
    folder = terminal.folder / "texte"
    folder.mkdir()
    (folder / "a.csv").write_text("title;text\nEins;Ein Text.\nZwei;Ein Text.\n", encoding="utf-8")
    (folder / "b.txt").write_text("Drei\n\nEin Text.\n", encoding="utf-8")
    run = terminal("export", "texte", "--format", "csv")
    assert (run.code, run.err) == (0, "")
    assert [row["title"] for row in csv.DictReader(io.StringIO(run.out))] == ["Eins", "Zwei", "Drei"]


@pytest.mark.parametrize("file_format", ["docx", "html", "jsonld", "csv", "json", "txt"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_earlier_export_of_another_name_is_not_read_again(terminal: Terminal, file_format: str, count: int) -> None:
    folder = terminal.folder / "texte"
    folder.mkdir()
    for path in [EXAMPLE, EXAMPLE.with_name("petersilie.md")][:count]:
        (folder / path.name).write_bytes(path.read_bytes())
    assert terminal("export", "texte", "--format", file_format, "-o", f"texte/alle.{file_format}").code == 0
    run = terminal("export", "texte", "--format", "csv")
    assert run.code == 0
    assert len(list(csv.DictReader(io.StringIO(run.out)))) == count
