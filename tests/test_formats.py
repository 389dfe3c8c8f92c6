"""Texts as editors have them: encodings, Word, HTML, CSV, JSON, plain text, and what is refused."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml import parse_xml
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.errors import FileError, InputError
from synopsis_writer.formats.reading import (
    MOST_UNPACKED,
    first_sentence,
    paragraphs,
    parse_source,
    read_source,
    read_sources,
    text_files,
)
from tests.support.terminal import Terminal

TITLE = "Der Fährmann von Föhr"
FIRST = "Gesa Brodersen zählt die Schafe. „Elf“, sagt sie – und geht über die Brücke."
SECOND = "Am Abend fehlt wieder eins; Jürgen weiß, warum …"
TEXT = f"{FIRST}\n\n{SECOND}"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def word(path: Path, *texts: str, title: str = "") -> Path:
    file = docx.Document()
    if title:
        file.add_heading(title, 0)
    for text in texts:
        file.add_paragraph(text)
    file.save(str(path))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "mac_roman"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_plain_text_is_read_in_the_encodings_that_editors_have(folder: Path, encoding: str, line_end: str) -> None:
    path = folder / "text.txt"
    path.write_bytes(f"{TITLE}\n\n{TEXT}\n".replace("\n", line_end).encode(encoding))
    document = read_source(path).document
    assert (document.meta, document.text, document.first_line) == ({"title": TITLE}, TEXT, 3)


@pytest.mark.parametrize("text", ["Müller fährt.", "Größe", "Jürgen übt Öl.", FIRST, "Überall Äpfel für Zoë?"])
def test_a_short_text_in_a_code_page_of_windows_is_read(folder: Path, text: str) -> None:
    (folder / "a.txt").write_bytes(text.encode("cp1252"))
    assert read_source(folder / "a.txt").document.text == text


def test_a_word_file_keeps_title_paragraphs_and_words_and_loses_its_formatting(folder: Path) -> None:
    path = word(folder / "a.docx", FIRST, title=TITLE)
    file = docx.Document(str(path))
    paragraph = file.add_paragraph("Am Abend ")
    paragraph.add_run("fehlt").bold = True
    paragraph.add_run(" wieder eins; Jürgen weiß, warum …")
    file.save(str(path))
    source = read_source(path)
    assert (source.document.meta["title"], source.document.text) == (TITLE, TEXT)
    assert source.dropped == ("formatting is left out",)


def test_tracked_changes_of_a_word_file_are_accepted_and_reported(folder: Path) -> None:
    path = word(folder / "a.docx", "Gesa zählt ")
    file = docx.Document(str(path))
    paragraph = file.paragraphs[0]._p
    paragraph.append(parse_xml(f'<w:del {W} w:id="1"><w:r><w:delText>zehn</w:delText></w:r></w:del>'))
    paragraph.append(parse_xml(f'<w:ins {W} w:id="2"><w:r><w:t>elf</w:t></w:r></w:ins>'))
    paragraph.append(parse_xml(f"<w:r {W}><w:t> Schafe.</w:t></w:r>"))
    file.save(str(path))
    source = read_source(path)
    assert source.document.text == "Gesa zählt elf Schafe."
    assert len(source.dropped) == 2


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr>{A}</w:p><w:p>{B}</w:p>", "A. B."),
        ("<w:p>{A}</w:p><w:p><w:pPr><w:rPr><w:ins/></w:rPr></w:pPr>{B}</w:p>", "A.\n\nB."),
        ("<w:tbl><w:tr><w:trPr><w:del/></w:trPr><w:tc><w:p>{B}</w:p></w:tc></w:tr></w:tbl><w:p>{A}</w:p>", "A."),
        ("<w:p>{A}<w:fldSimple>{B}</w:fldSimple></w:p>", "A. B."),
        ("<w:p>{A}<w:customXml>{B}</w:customXml></w:p>", "A. B."),
        ("<w:p>{A}<w:bdo>{B}</w:bdo></w:p>", "A. B."),
        ('<w:p>{A}<w:r><w:br w:type="page"/><w:t>B.</w:t></w:r></w:p>', "A.\n\nB."),
        ("<w:p>{A}<w:r><w:rPr><w:vanish/></w:rPr><w:t>B.</w:t></w:r></w:p>", "A."),
        ('<w:p>{A}<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>B.</w:t></w:r></w:p>', "A. B."),
    ],
)
def test_a_word_file_has_the_words_that_word_shows(folder: Path, body: str, text: str) -> None:
    path, file = folder / "a.docx", docx.Document()
    runs = {name: f'<w:r><w:t xml:space="preserve">{name}. </w:t></w:r>' for name in "AB"}
    for element in parse_xml(f"<w:body {W}>{body.format(**runs)}</w:body>"):
        file.element.body.insert(len(file.element.body) - 1, element)
    file.save(str(path))
    assert read_source(path).document.text == text


def test_hidden_text_is_reported(folder: Path) -> None:
    path, file = folder / "a.docx", docx.Document()
    file.add_paragraph(FIRST).add_run(" Geheim.").font.hidden = True
    file.save(str(path))
    source = read_source(path)
    assert (source.document.text, source.dropped) == (FIRST, ("hidden text is left out",))


def test_page_headers_and_formulas_are_reported(folder: Path) -> None:
    path, file = folder / "a.docx", docx.Document()
    file.sections[0].header.paragraphs[0].text = "Vertraulich"
    file.add_paragraph(FIRST)._p.append(parse_xml(f'<w:r {W}><w:sym w:font="Symbol" w:char="F0B7"/></w:r>'))
    file.save(str(path))
    dropped = ("formulas and symbols are left out", "page headers and footers are left out")
    assert read_source(path).dropped == dropped


def test_pictures_are_reported(folder: Path) -> None:
    path = word(folder / "a.docx", FIRST)
    file = docx.Document(str(path))
    picture = io.BytesIO(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
            "1f15c4890000000d49444154789c6360606060000000050001a5f64540"
            "0000000049454e44ae426082"
        )
    )
    file.add_picture(picture)
    file.save(str(path))
    assert read_source(path).dropped == ("pictures are left out",)


def test_the_text_of_a_table_is_read_in_order(folder: Path) -> None:
    path = word(folder / "a.docx", FIRST)
    file = docx.Document(str(path))
    file.add_table(1, 1).cell(0, 0).text = SECOND
    file.save(str(path))
    assert read_source(path).document.text == TEXT


@given(st.lists(st.lists(st.text("abcäöüßÄ„“–…,'1 ", min_size=1, max_size=12), min_size=1, max_size=8), max_size=5))
def test_a_word_file_loses_no_word(tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]) -> None:
    lines = [" ".join(words) for words in texts]
    path = word(tmp_path_factory.mktemp("word") / "a.docx", FIRST, *lines)
    read = read_source(path).document.text
    assert read.split() == " ".join([FIRST, *lines]).split()


def test_html_keeps_heading_paragraphs_and_entities(folder: Path) -> None:
    (folder / "a.html").write_text(
        f"<html><head><title>Seite</title><style>p {{}}</style></head><body><nav>Menü</nav><h1>{TITLE}</h1>"
        "<p>Gesa Brodersen z&auml;hlt die <b>Schafe</b>.\n &bdquo;Elf&ldquo;, sagt sie &ndash; und geht"
        f" über die Br&uuml;cke.<div>{SECOND}<img src=x></div><script>x()</script></body></html>",
        encoding="utf-8",
    )
    source = read_source(folder / "a.html")
    assert (source.document.meta["title"], source.document.text) == (TITLE, TEXT)
    assert source.dropped == ("pictures are left out", "formatting is left out")


def test_html_in_a_declared_encoding_is_read(folder: Path) -> None:
    page = f'<meta charset="iso-8859-1"><h1>{TITLE}</h1><p>Jürgen weiß es.</p>'
    (folder / "a.htm").write_bytes(page.encode("iso-8859-1"))
    assert read_source(folder / "a.htm").document.text == "Jürgen weiß es."


@pytest.mark.parametrize("head", ["Serie;Titel;Inhalt\n", "sep=;\nshow;title;text\n"])
def test_a_csv_has_a_text_a_row_with_its_line(folder: Path, head: str) -> None:
    rows = f'Rote Rosen;Ä;"{FIRST}\n{SECOND}"\nWattwache;;Nur eins.\n\n'
    (folder / "a.csv").write_bytes((head + rows).encode("cp1252"))
    first, second = read_sources(folder / "a.csv")
    assert (first.document.text, first.document.meta, dict(first.fields)) == (
        TEXT, {"title": "Ä"}, {"show": "Rote Rosen"},
    )  # fmt: skip
    assert second.where == f"{folder / 'a.csv'}:{head.count(chr(10)) + 3}"


def test_what_write_saves_as_json_is_read_as_json(folder: Path) -> None:
    content = json.dumps({"title": TITLE, "text": TEXT, "storylines": ["A", "B"]})
    (folder / "a.json").write_text(content, encoding="utf-8")
    document = read_source(folder / "a.json").document
    assert (document.meta["title"], document.text) == (TITLE, TEXT)
    assert parse_source(content.encode(), Path("-")).document == document.__class__(Path("-"), document.meta, TEXT)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Eins.\nZwei.", ["Eins.", "Zwei."]),
        ("Eine Zeile, die\nweitergeht. Ende.", ["Eine Zeile, die weitergeht. Ende."]),
        ("Eins.\n\nZwei  mit\tTab.", ["Eins.", "Zwei mit Tab."]),
        ("Eins …\nZwei?“\nDrei", ["Eins …", "Zwei?“", "Drei"]),
        ("", []),
    ],
)
def test_paragraphs_are_parted_by_blank_lines_or_by_lines_that_end_a_sentence(text: str, parts: list[str]) -> None:
    assert paragraphs(text) == parts


@pytest.mark.parametrize(
    ("text", "sentence"), [(TEXT, "Gesa Brodersen zählt die Schafe."), ("Kurz", "Kurz"), ("x" * 400, "x" * 300)]
)
def test_the_first_sentence_of_a_text(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("word/document.xml"), content, zipfile.ZIP_DEFLATED)  # without the time
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", b"PK\x03\x04 half", "is no Word file, or damaged"),
        ("a.docx", b"plain", "is no Word file, or damaged"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "under a password"),
        ("a.docx", packed(b"<x/>"), "is no Word file, or damaged"),
        ("a.docx", packed(b" " * (MOST_UNPACKED + 1)), "unpacks to more than 5 MB"),
        ("a.html", b"", "is no HTML, or empty"),
        ("a.html", b"<p></p>", "holds no text"),
        ("a.csv", b"show;title\nA;B\n", "has no column of texts"),
        ("a.csv", b"Kurztext;Langtext\nA;B\n", "several columns of texts, kurztext, langtext: call the one"),
        ("a.csv", b'text\n"open', "not CSV"),
        ("a.csv", b",".join([b"c"] * 1001), "1001 columns"),
        ("a.csv", b"text\n\n", "holds no text"),
        ("a.json", b"[]", "has no 'text'"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b'{"text": 1}', "has no 'text'"),
        ("a.txt", b"\x00\x01\x02\x03", "binary"),
        ("a.txt", b"", "holds no text"),
        ("a.md", b"x" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    folder: Path, name: str, content: bytes, message: str
) -> None:
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_source(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [Path.mkdir, Path.exists])
def test_a_folder_and_a_missing_file_are_refused(folder: Path, make: Callable[[Path], Any]) -> None:
    path = folder / "a.docx"
    make(path)
    with pytest.raises(FileError):
        read_source(path)


def test_a_folder_gives_its_texts_without_hidden_files(folder: Path) -> None:
    for name in ("b/z.txt", "a.docx", "._a.txt", "~$a.docx", "__MACOSX/c.txt", "notes.pdf", ".git/x.md"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert text_files(folder) == [folder / "a.docx", folder / "b/z.txt"]
    with pytest.raises(FileError, match="holds no text"):
        text_files(make_empty(folder))


def make_empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_check_reads_word_and_csv_and_reports_what_a_text_cannot_hold(terminal: Terminal) -> None:
    word(terminal.folder / "a.docx", FIRST, title=TITLE)
    (terminal.folder / "b.csv").write_text(f"show,theme,text\nRote Rosen,Schafe,{FIRST}\n", encoding="utf-8")
    run = terminal("check", "a.docx", "b.csv", "missing.html", "--json")
    assert run.code == 2
    reports = [json.loads(line) for line in run.out.splitlines()]
    assert [report["file"] for report in reports] == ["a.docx", "b.csv", "missing.html"]
    assert len(run.err.splitlines()) == 1


def test_examples_are_added_from_a_folder_and_removed(terminal: Terminal) -> None:
    own = terminal.folder / "own"
    own.mkdir()
    word(own / "eins.docx", *[FIRST] * 3, title=TITLE)
    (own / "zwei.txt").write_text(f"{SECOND}\n{FIRST}", encoding="utf-8")
    arguments = ("--show", "Wattwache", "--form", "portrait", "--character", "Gesa Brodersen: Schäferin")
    run = terminal("examples", "add", "own", *arguments, "--examples", "pool")
    assert (run.code, len(run.out.splitlines())) == (0, 2), run.err
    listed = terminal("examples", "list", "--examples", "pool").out.splitlines()
    assert [line.split()[0] for line in listed] == ["wattwache/der-faehrmann-von-foehr", "wattwache/zwei"]
    assert "Gesa Brodersen" in (terminal.folder / "pool/wattwache/show.yaml").read_text(encoding="utf-8")
    again = terminal("examples", "add", "own", *arguments, "--theme", "Ein anderes Thema", "--examples", "pool")
    assert (again.code, again.out, again.err.count("is in the pool already: see ")) == (2, "", 2)
    removed = terminal("examples", "rm", "wattwache/zwei", "--examples", "pool")
    assert (removed.code, len(terminal("examples", "list", "--examples", "pool").out.splitlines())) == (0, 1)


def test_no_example_is_removed_where_another_must_stay(terminal: Terminal) -> None:
    (terminal.folder / "eins.txt").write_text(f"{TITLE}\n\n{FIRST}\n\n{FIRST}", encoding="utf-8")
    arguments = ("--show", "Wattwache", "--form", "portrait", "--character", "Gesa Brodersen: Schäferin")
    added = Path(terminal("examples", "add", "eins.txt", *arguments).out.strip())
    own = f"wattwache/{added.stem}"
    for other, reason in (("rote-rosen/reine-herztoene", "is built in"), ("no/example", "no example")):
        run = terminal("examples", "rm", own, other)
        assert (run.code, run.out, len(run.err.splitlines())) == (2, "", 1)
        assert reason in run.err
        assert added.exists()
    assert terminal("examples", "rm", own, own).out == f"{added}\n"
    assert not added.exists()


@pytest.mark.parametrize("heading", ["Pressetext", "Presse_Kurztext (180)", "EPG-Inhalt 2"])
def test_the_column_of_texts_is_found_by_how_its_heading_ends(tmp_path: Path, heading: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"Nr.;Kontextnummer;{heading};Reihe\n1;2;Die Tür klemmt.;Wache\n", encoding="utf-8")
    (source,) = read_sources(path)
    assert (source.document.text, source.fields) == ("Die Tür klemmt.", {"show": "Wache"})
