"""Files of editors that are hostile, and what goes out of them: in every format, to a file and to stdout."""

import contextlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from synopsis_writer.batch.store import RECORD_FILE, BatchStore
from synopsis_writer.errors import FileError, InputError
from synopsis_writer.formats.reading import MOST_UNPACKED, read_sources
from tests.support.terminal import GOOD, PATH, Terminal
from tests.test_hostile_text import HALF, assert_harmless

STEERING = "A\x1b]52;c;x\x07\x9b31m\u202e\x7f\u2028B"
QUOTED = json.dumps(STEERING)
FIELDS = {
    "title": STEERING,
    "logline": HALF,
    "model": STEERING,
    "characters": [{"name": STEERING, "role": HALF}],
    "brief": {"show": STEERING, "theme": HALF},
    "release": {"by": STEERING, "at": HALF, "text_sha256": STEERING},
    HALF: [HALF, {"a": HALF}],
}
FRONT = json.dumps({name: value for name, value in FIELDS.items() if name != HALF}).replace(r"\ud83d", "x")
FILES = {
    "a.md": f"---\n{FRONT}\n---\nEr {STEERING} geht.\n",
    "b.md": f"---\ntitle: {QUOTED}\ndate: 2020-01-01\nrelease: {{at: 2020-01-01}}\n---\nEr geht.\n",
    "c.json": json.dumps({**FIELDS, "text": f"Er {HALF}{STEERING} geht."}),
    "d.csv": f'serie;titel;text;form\n"{STEERING}";"{STEERING}";"Er {STEERING} geht.";"{STEERING}"\n',
    "e.html": "<title>&#27;]52;c;x&#7;</title><p>Er &#x1b;]52; &#x202e; &#xd83d; geht.",
    "f\x1b[31m\u202e.md": "Er geht.\n",
    "g.html": "<meta charset=utf-7><p>Er +2D0- geht.",
    "h.html": "<meta charset=unicode_escape><p>Er \\ud83d geht \\x1b]52;c;x\\x07.",
    "i.md": f"---\ntitle: {'lang ' * 400}\nmodel: {'m' * 400}\n---\nEr geht.\n",
    "j.md": '---\ntitle: "\\e"\nbrief: {show: "\\e"}\ncharacters: [{name: "\\e"}]\n---\nEr geht.\n',
}
FORMATS = ("docx", "html", "xmltv", "jsonld", "csv", "json", "txt")


@pytest.mark.parametrize("name", FILES)
def test_hostile_text_goes_out_harmless_in_every_format(terminal: Terminal, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    for kind in FORMATS:
        flags = ["--channel", STEERING, "--start", "2026-12-24T20:15"] if kind == "xmltv" else []
        run = terminal("export", name, "--format", kind, *flags, "-o", f"out.{kind}")
        assert run.code in {0, 2}, run.err
        assert_harmless(run)
        if kind != "docx":
            shown = terminal("export", name, "--format", kind, *flags)
            assert shown.code == run.code
            assert_harmless(shown)
            if kind in {"json", "jsonld"} and not shown.code:
                assert json.loads(shown.out) == json.loads((tmp_path / f"out.{kind}").read_bytes())
    for arguments in (["--json"], ["--format", "github"], []):
        run = terminal("check", name, *arguments)
        assert run.code in {0, 1, 2}, run.err
        assert_harmless(run)


def test_a_csv_on_stdout_has_the_lines_of_the_file(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal("export", str(PATH), "--format", "csv", "-o", "out.csv").code == 0
    written = (tmp_path / "out.csv").read_text(encoding="utf-8-sig")
    assert terminal("export", str(PATH), "--format", "csv").out == written


PEOPLE = [
    {"characters": 5},
    {"characters": {"a": 1}},
    {"characters": [None, 5, [[1]], {"name": 5}, {"name": STEERING}, {"name": "x" * 5_000}, {"name": ": : "}]},
    {"brief": 5},
    {"brief": {"characters": 5}},
    {"brief": {"characters": [5, None, STEERING, "", "A", ":", {"a": 1}]}},
]


@pytest.mark.parametrize("fields", PEOPLE, ids=lambda fields: json.dumps(fields)[:40])
def test_a_house_is_learnt_from_texts_whose_people_are_no_names(
    terminal: Terminal, tmp_path: Path, fields: dict[str, object]
) -> None:
    (tmp_path / "texts").mkdir()
    text = "---\n" + json.dumps(fields) + f"\n---\n{GOOD.synopsis.text}\n"
    (tmp_path / "texts" / "a.md").write_text(text, encoding="utf-8")
    run = terminal("house", "learn", "texts", "--out", "new", "--show", "x", "--form", "f")
    is_no_brief = isinstance(fields.get("brief"), dict)
    assert run.code == (2 if is_no_brief else 0), run.err
    assert_harmless(run)


@pytest.mark.parametrize(
    "part", ["e\u0301\u0301", "\N{WOMAN}\N{ZERO WIDTH JOINER}", "Er.\n\n", "Wort ", "\u200b", "<b>"]
)
def test_a_report_shows_no_endless_line_and_no_endless_text(terminal: Terminal, tmp_path: Path, part: str) -> None:
    (tmp_path / "a.txt").write_text(part * (900_000 // len(part.encode())), encoding="utf-8")
    run = terminal("check", "a.txt")
    assert run.code == 1, run.err
    assert max(map(len, run.out.splitlines())) < 2_000
    assert len(run.out) < 1_000_000  # of 50,000 characters, each escaped and marked


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BODY = '<w:document xmlns:w="%s"><w:body>%s</w:body></w:document>'


def word_file(body: str, *, method: int = zipfile.ZIP_DEFLATED, pretended: int | None = None) -> bytes:
    """Return a Word file with a body; `pretended` is the size that its archive states, with a fitting sum."""
    whole, out = io.BytesIO(), io.BytesIO()
    docx.Document().save(whole)
    text = BODY % (WORD, body)
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(out, "w", method) as copy:
        for item in archive.namelist():
            copy.writestr(item, text if item == "word/document.xml" else archive.read(item))
    data = bytearray(out.getvalue())
    if pretended is not None:
        sums = struct.pack("<I", zlib.crc32(text.encode()[:pretended])), struct.pack("<I", pretended)
        for name_at, sum_at, size_at in (
            (data.rfind(b"word/document.xml"), -30, -22),
            (data.find(b"word/document.xml"), -16, -8),
        ):
            data[name_at + sum_at : name_at + sum_at + 4] = sums[0]
            data[name_at + size_at : name_at + size_at + 4] = sums[1]
    return bytes(data)


PARAGRAPH = "<w:p><w:r><w:t>Er geht.</w:t></w:r></w:p>"


def long() -> str:
    return "<w:p><w:r><w:t>" + "A" * (20 * MOST_UNPACKED) + "</w:t></w:r></w:p>"


def encrypted() -> bytes:
    data = bytearray(word_file(PARAGRAPH))
    for head in (b"PK\x03\x04", b"PK\x01\x02"):
        at = data.find(head)
        while at >= 0:
            data[at + (6 if head == b"PK\x03\x04" else 8)] |= 1
            at = data.find(head, at + 4)
    return bytes(data)


def doubled() -> bytes:
    out = io.BytesIO(word_file(PARAGRAPH))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("word/document.xml", "<x/>")
    return out.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a.docx": lambda: word_file(long()),
    "b.docx": lambda: word_file(long(), pretended=5_000),
    "c.docx": lambda: word_file(long(), method=zipfile.ZIP_BZIP2, pretended=5_000),
    "d.docx": lambda: word_file(long(), method=zipfile.ZIP_LZMA, pretended=5_000),
    "e.docx": lambda: word_file("<w:p/>" * MOST_UNPACKED),
    "f.docx": lambda: word_file("<w:sdt>" * 5_000 + "</w:sdt>" * 5_000),
    "g.docx": encrypted,
    "h.docx": doubled,
    "i.docx": lambda: word_file(PARAGRAPH).replace(b"PK\x01\x02", b"PK\x01\x03"),
    "j.docx": lambda: word_file("").replace(b"document", b"documenu"),
    "k.csv": lambda: b"text\n" + b"a\n" * 2_000_000,
    "l.csv": lambda: b"text\n" + b"x" * 4_000_000,
    "m.html": lambda: b"<p>a" * 1_000_000,
    "n.html": lambda: b"<a b=>" * 800_000,
    "o.json": lambda: b'{"text": "Er geht.", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "p.json": lambda: b'{"text": "Er geht.", "x": NaN}',
    "q.json": lambda: b'{"text": "Er geht.", "title": {"a": 1}}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_unpacks_to_more_than_it_says_is_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name]())
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_sources(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 400
    assert peak < 60_000_000


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "rot13", "zlib", "utf-8-sig", "x" * 500])
def test_a_page_names_any_encoding_and_is_read(tmp_path: Path, charset: str) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(f"<meta charset={charset}><p>Er geht über die Straße.{'a-' * 100_000}".encode())
    assert "über die Straße" in read_sources(path)[0].document.text


@pytest.mark.parametrize("mark", ['"', "x", " ", "\u2028"])
def test_a_csv_names_any_separator(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"sep={mark}\ntext\nEr geht.\n", encoding="utf-8")
    with contextlib.suppress(FileError):  # the rest is read as a heading, which means nothing
        assert read_sources(path)[0].document.text == "Er geht."


@pytest.mark.parametrize("name", ["out/batch.sqlite3", "out/BATCH.LOCK", "out/provider/x", "text.md", "link"])
@pytest.mark.parametrize("given", ["out", "text.md"])
def test_an_export_replaces_no_record_and_no_text_that_it_reads(
    terminal: Terminal, tmp_path: Path, name: str, given: str
) -> None:
    with BatchStore(tmp_path / "out", {}):
        pass
    (tmp_path / "out" / "provider").mkdir()
    (tmp_path / "text.md").write_bytes(PATH.read_bytes())
    (tmp_path / "link").symlink_to(tmp_path / "out" / RECORD_FILE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run = terminal("export", given, "--format", "csv", "-o", name, "--force")
    if (name, given) not in {("text.md", "out"), ("link", "text.md"), ("out/provider/x", "text.md")}:
        assert run.code == 2
        assert "name another file" in run.err
    assert before.items() <= {path: path.read_bytes() for path in before}.items() or run.code == 0
    assert (tmp_path / "out" / RECORD_FILE).read_bytes() == before[tmp_path / "out" / RECORD_FILE]


@pytest.mark.parametrize("start", ["0001-01-01T00:00", "9999-12-31T23:59:59", "10000-01-01", "2025-02-30", "9" * 99])
def test_a_time_beyond_the_calendar_is_refused_or_written(terminal: Terminal, start: str) -> None:
    run = terminal("export", str(PATH), "--format", "xmltv", "--channel", "a", "--start", start)
    assert run.code in {0, 2}, run.err


GUIDES: dict[str, Callable[[], bytes]] = {
    "elements": lambda: b"<tv>" + b"<a/>" * 3_000_000 + b"</tv>",
    "attributes": lambda: b"<tv " + b" ".join(b'a%d=""' % number for number in range(2_100_000)) + b"/>",
    "encoding": lambda: b'<?xml version="1.0" encoding="x-unknown"?><tv/>',
    "entity": lambda: (
        b'<!DOCTYPE tv [<!ENTITY a SYSTEM "file:///etc/passwd">]><tv><programme><title>&a;</title></programme></tv>'
    ),
    "depth": lambda: b"<tv>" + b"<a>" * 1_000 + b"</a>" * 1_000 + b"</tv>",
    "no text": lambda: b"\xff\xfe",
    "zero": lambda: b"<tv>\0</tv>",
    "namespace": lambda: b"<x:tv/>",
}


@pytest.mark.parametrize("name", GUIDES)
def test_a_hostile_guide_ends_in_a_line_and_reads_no_other_file(terminal: Terminal, tmp_path: Path, name: str) -> None:
    (tmp_path / "guide.xml").write_bytes(GUIDES[name]())
    run = terminal("export", str(PATH), "--format", "xmltv", "--into", "guide.xml", "-o", "out.xml")
    assert run.code == 2, run.err
    assert_harmless(run)
    assert "root:" not in ((tmp_path / "out.xml").read_text("utf-8") if (tmp_path / "out.xml").exists() else "")
    assert GOOD.synopsis.title in run.err or "guide.xml" in run.err
