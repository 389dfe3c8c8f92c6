import csv
import hashlib
import io
import json
import re
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.batch.briefs import BatchRow, digest_of, id_of, read_briefs
from synopsis_writer.brief import Brief
from synopsis_writer.errors import BriefError, FileError, InputError, SettingsError

LONG = {
    "id": "s01e01",
    "show": "Rote Rosen",
    "theme": "Eine Ärztin; sie verliert ihr Gehör, und schweigt",
    "form": "portrait",
    "character": ["Britta Berger", "Hannes Ott"],
    "beat": ["Sie überhört einen Herzfehler.", "Sie sagt „Nein“."],
    "words": "250-400",
    "air-date": "2025-04-22",
    "notes": "Kurz halten.",
}
SHORT = {"id": "s01e02", "show": "Rote Rosen", "theme": "Ein Hund läuft zu"}
BRIEFS = [
    BatchRow(
        "s01e01",
        1,
        Brief(
            show="Rote Rosen",
            theme="Eine Ärztin; sie verliert ihr Gehör, und schweigt",
            form="portrait",
            characters=("Britta Berger", "Hannes Ott"),
            beats=("Sie überhört einen Herzfehler.", "Sie sagt „Nein“."),
            words=(250, 400),
            air_date="2025-04-22",
            notes="Kurz halten.",
        ),
    ),
    BatchRow("s01e02", 2, Brief(show="Rote Rosen", theme="Ein Hund läuft zu")),
]


def flat(row: dict[str, Any], between: str) -> dict[str, str]:
    return {name: between.join(value) if isinstance(value, list) else value for name, value in row.items()}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",", between: str = " | ") -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(flat(row, between) for row in rows)
    return file.getvalue().encode("utf-8")


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n\n" for row in rows).encode("utf-8")


def as_yaml(rows: list[dict[str, Any]]) -> bytes:
    return yaml.safe_dump(rows, allow_unicode=True).encode("utf-8")


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".csv": as_csv,
    ".jsonl": as_jsonl,
    ".yaml": as_yaml,
    ".parquet": as_parquet,
}


def placed(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", as_csv([LONG, SHORT])),
        ("bom.CSV", b"\xef\xbb\xbf" + as_csv([LONG, SHORT], ";")),
        ("tab.csv", as_csv([LONG, SHORT], "\t", "\n")),
        ("spreadsheet.csv", as_csv([LONG, SHORT], ";").replace(b"\r\n", b";;;\r\n") + b";;;;\r\n\r\n"),
        ("a.jsonl", as_jsonl([LONG, SHORT])),
        ("a.ndjson", as_jsonl([flat(LONG, " | "), SHORT])),
        ("a.yaml", as_yaml([LONG, SHORT])),
        ("a.yml", as_yaml([flat(LONG, "\n"), SHORT])),
        ("lists.parquet", as_parquet([LONG, SHORT])),
        ("texts.parquet", as_parquet([flat(LONG, " | "), SHORT])),
        ("date.parquet", as_parquet([{**LONG, "air-date": date(2025, 4, 22)}, SHORT])),
    ],
)
def test_every_format_gives_the_same_briefs(tmp_path: Path, name: str, content: bytes) -> None:
    assert list(read_briefs(placed(tmp_path, name, content))) == BRIEFS


def test_columns_may_be_written_as_a_person_writes_them(tmp_path: Path) -> None:
    content = "Show , THEME,air_date,words\nRote Rosen,Ein Hund läuft zu,  ,\n".encode()
    row = next(read_briefs(placed(tmp_path, "a.csv", content)))
    assert row.brief == BRIEFS[1].brief


def test_a_row_without_an_id_is_named_after_its_brief(tmp_path: Path) -> None:
    theme = {"theme": "Ein Hund läuft zu", "show": "Rote Rosen"}
    path = placed(tmp_path, "a.jsonl", as_jsonl([theme, {**theme, "id": None, "form": "teaser"}]))
    canonical = '{"form":"episode","show":"Rote Rosen","theme":"Ein Hund läuft zu"}'
    first, second = read_briefs(path)
    assert first.id == hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]
    assert second.id == id_of(second.brief) != first.id


def test_numbers_are_ids_and_yaml_keeps_texts_as_they_stand(tmp_path: Path) -> None:
    content = "- {id: 007, show: 1984, theme: Der Rest, character: [Ja, Nein], notes: ~}\n"
    content += "- {id: '~', show: 1984, theme: Der Anfang, character: [Ja, Nein]}\n"
    first, second = read_briefs(placed(tmp_path, "a.yaml", content.encode("utf-8")))
    assert (first.id, second.id) == ("007", "~")
    assert first.brief == Brief(show="1984", theme="Der Rest", characters=("Ja", "Nein"))
    assert second.brief == Brief(show="1984", theme="Der Anfang", characters=("Ja", "Nein"))
    assert next(read_briefs(placed(tmp_path, "a.jsonl", as_jsonl([{**SHORT, "id": 7}])))).id == "7"


HEAD = b"id,show,theme\n"
GOOD = b"a,Rote Rosen,Ein Hund\n"


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("x.csv", b"", BriefError, "x.csv: holds no brief: write one a row"),
        ("x.csv", HEAD, BriefError, "holds no brief"),
        ("x.yaml", b"", BriefError, "holds no brief"),
        ("x.yaml", b"[]", BriefError, "holds no brief"),
        ("x.jsonl", b"\n \n", BriefError, "holds no brief"),
        ("x.csv", b"id,shw,theme,lenght\n", BriefError, "x.csv:1: unknown columns 'shw', 'lenght': known"),
        ("x.jsonl", b'{"show": "a", "\\ud800": 1}', BriefError, r"x.jsonl:1: unknown column '\ud800': known"),
        ("x.parquet", as_parquet([{"a": 1}]), BriefError, "x.parquet: unknown column 'a': known are id"),
        ("x.csv", b"show," + b"x" * 50 + b"\n", BriefError, f"unknown column '{'x' * 40}…': known"),
        ("x.csv", b"air-date,air_date\n", BriefError, "x.csv:1: the column 'air-date' appears twice: keep"),
        ("x.jsonl", b'{"show": "a", "show": "b"}', BriefError, "x.jsonl:1: the column 'show' appears twice"),
        ("x.csv", HEAD + GOOD + b"b,Rote Rosen,\n", BriefError, "x.csv:3: theme: field required"),
        ("x.csv", b"show,theme,character\na,b,x\n", BriefError, "x.csv:2: character.0: is too short, at"),
        ("x.csv", b"show,theme,air_date\na,b,--\n", BriefError, "x.csv:2: air-date: is empty: describe"),
        ("x.csv", b"show,theme,words\na,b,many\n", BriefError, "x.csv:2: words: 'many' is not a range"),
        ("x.yaml", b"- show: a\n- theme: b\n", BriefError, "x.yaml:1: theme: field required"),
        ("x.parquet", as_parquet([SHORT, {"show": "a"}]), BriefError, "x.parquet: row 2: theme: field"),
        ("x.csv", HEAD + b"a,b,c,d\n", BriefError, "x.csv:2: has 4 cells for 3 columns: put a text"),
        ("x.csv", HEAD + GOOD + b'b,"c\n\n' + GOOD, FileError, "x.csv:3: the row that begins here is not"),
        ("x.csv", HEAD + b'a,"' + b"x\n" * 90_000, FileError, "x.csv:2: the row that begins here is not"),
        ("x.csv", HEAD + b'a,"b" c,d\n', FileError, "x.csv:2: the row that begins here is not"),
        ("x.csv", HEAD + b"a," + b"x" * 10_000_000, FileError, "x.csv:2: the line is longer than 1 MB"),
        ("x.csv", HEAD + b"a,\0,b\n", FileError, "x.csv:2: holds a NUL byte"),
        ("x.csv", HEAD + GOOD + b"b,M\xfcll,c\n", FileError, "x.csv:3: is not UTF-8 (byte 4 of the line)"),
        ("x.csv", "show,theme\na,b\n".encode("utf-16"), FileError, "x.csv:1: holds a NUL byte"),
        ("x.csv", as_parquet([SHORT]), FileError, "x.csv:1: holds a NUL byte"),
        ("x.jsonl", b"[1]\n", BriefError, "x.jsonl:1: is not a JSON object: write one a line, in braces"),
        ("x.jsonl", b'{"show": "a",\n', BriefError, "x.jsonl:1: not JSON: "),
        ("x.jsonl", b"[" * 100_000, BriefError, "x.jsonl:1: not JSON: "),
        ("x.jsonl", b'{"show": "a", "theme": "b", "beat": [%s1]}' % (b"1," * 400_000), BriefError, "and 995 more"),
        ("x.jsonl", b'{"show": {"a": 1}, "theme": "b"}', BriefError, "x.jsonl:1: show: is not a text"),
        ("x.yaml", b"show: a\n", BriefError, "x.yaml:1: write a list of briefs, each beginning"),
        ("x.yaml", b"- a\n", BriefError, "x.yaml:1: write a list of briefs, each beginning"),
        ("x.yaml", b"- show: a\n  theme: b\n  beat:\n    - b: c\n", BriefError, "x.yaml:1: beat.0: is not"),
        ("x.yaml", b"- show: *a\n", BriefError, "x.yaml:1: is an anchor or an alias"),
        ("x.yaml", b"- [a]: b\n", BriefError, "x.yaml:1: unknown column \"['a']\": known"),
        ("x.yaml", b"- show: a: b\n", BriefError, "x.yaml:1: not YAML: mapping values are not allowed"),
        ("x.yaml", b"- show: M\xfcll\n", FileError, "x.yaml: is not UTF-8 (byte 10): save it"),
        ("x.yaml", b"- show: a\0\n", FileError, "x.yaml: is a binary file: name a text file"),
        ("x.yaml", b"[" * 500_000, BriefError, "x.yaml:1: is nested more than 20 levels deep"),
        ("x.yaml", b"# " + b"x" * 1_000_000, FileError, "x.yaml: is larger than 1 MB: write so many"),
        ("x.yaml", b"- show: a\x01\n", BriefError, "x.yaml:1: not YAML: unacceptable character"),
        ("x.parquet", b"PAR1 and junk", FileError, "x.parquet: not Parquet, or damaged: "),
        ("x.parquet", b"", FileError, "x.parquet: not Parquet, or damaged: "),
        ("x.txt", b"a", FileError, "x.txt: '.txt' is not a table of briefs: name a file in .csv, .jsonl"),
        ("x.csv", HEAD + b"a/b,c,d\n", BriefError, "x.csv:2: id: 'a/b' is no id: write 1 to 100 printable"),
        ("x.csv", HEAD + b"x" * 101 + b",c,d\n", BriefError, "x.csv:2: id: 'xxx"),
        ("x.csv", HEAD + b"a\x07,c,d\n", BriefError, "x.csv:2: id: has the invisible or control"),
        ("x.jsonl", b'{"id": true, "show": "a", "theme": "b"}', BriefError, "x.jsonl:1: id: is no text"),
        ("x.csv", HEAD + GOOD + b"\n" + GOOD, BriefError, "x.csv:4: row 2 has the id 'a' of row 1: give"),
        (
            "x.csv",
            b"show,theme,form\na,b,\na,c,\na,b,episode\n",
            BriefError,
            "x.csv:4: row 3 asks for the same as row 1: give both an id, in a column 'id'",
        ),
    ],
)  # fmt: skip
def test_an_invalid_brief_is_reported_in_one_line(
    tmp_path: Path, name: str, content: bytes, error: type[InputError], words: str
) -> None:
    path = placed(tmp_path, name, content)
    with pytest.raises(error) as caught:
        list(read_briefs(path))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 300


def test_a_damaged_parquet_page_is_reported(tmp_path: Path) -> None:
    content = bytearray(as_parquet([LONG, SHORT]))
    content[4:60] = b"\xff" * 56
    with pytest.raises(FileError, match="not Parquet, or damaged"):
        list(read_briefs(placed(tmp_path, "x.parquet", bytes(content))))


@pytest.mark.parametrize("read", [lambda path: list(read_briefs(path)), digest_of])
def test_a_missing_file_and_a_folder_are_reported(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(FileError, match=r"briefs\.csv: no such file"):
        read(tmp_path / "briefs.csv")
    (tmp_path / "briefs.csv").mkdir()
    with pytest.raises(FileError, match=r"briefs\.csv: is a (folder|directory)"):
        read(tmp_path / "briefs.csv")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = placed(tmp_path, "x.parquet", as_parquet([SHORT]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=r"pip install 'synopsis-writer\[parquet\]'"):
        list(read_briefs(path))


@pytest.mark.parametrize("ending", sorted(set(WRITERS) - {".yaml"}))  # YAML is read whole, within 1 MB
def test_rows_come_one_by_one_and_do_not_stay_in_memory(tmp_path: Path, ending: str) -> None:
    rows = [{**SHORT, "id": str(number), "notes": f"{number} " + "x" * 1900} for number in range(5000)]
    content = WRITERS[ending](rows)
    path = placed(tmp_path, f"x{ending}", content)
    del rows, content
    places = 0
    next(read_briefs(path))  # what is loaded once does not count
    tracemalloc.start()
    for row in read_briefs(path):
        places += row.place
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places == 5000 * 5001 // 2
    assert peak < 5_000_000  # half of the texts; Parquet has a thousand rows in memory at once


@given(ending=st.sampled_from(sorted(WRITERS)), content=st.binary(max_size=300))
def test_no_file_causes_more_than_a_clear_error(ending: str, content: bytes) -> None:
    read_anything(ending, content)


SNIPPETS = 'id show theme beat words , ; " - [ ] { } : &a *a !!int ? ~ | é # 1 --- "show":"a" "theme":"b"'.split()


@given(
    ending=st.sampled_from([".csv", ".jsonl", ".yaml"]),
    content=st.lists(st.sampled_from([*SNIPPETS, " ", "\n", "\r", "- ", ": "]), max_size=40),
)
def test_no_text_causes_more_than_a_clear_error(ending: str, content: list[str]) -> None:
    read_anything(ending, "".join(content).encode("utf-8"))


def read_anything(ending: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = placed(Path(folder), f"x{ending}", content)
        reported, ids = "", []
        try:
            ids = [row.id for row in read_briefs(path)]
        except InputError as error:
            reported = str(error)
        assert len(reported.splitlines()) + (len(ids) > 0) == 1, "either rows or one line"
        assert len(set(ids)) == len(ids)


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    assert digest_of(placed(tmp_path, "x.csv", b"abc")) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;", "sep=;;;"])
def test_the_line_that_names_a_tables_separator_is_understood(tmp_path: Path, first: str) -> None:
    path = placed(tmp_path, "b.csv", f"{first}\r\nshow;theme\r\nAWZ;Eis, und Schnee\r\n".encode())
    assert [row.brief.theme for row in read_briefs(path)] == ["Eis, und Schnee"]


@pytest.mark.parametrize(("sep", "named"), [("\t", "tab"), ("|", "|"), (",", "comma")])
def test_a_named_separator_parts_the_cells_and_lines_are_still_counted(tmp_path: Path, sep: str, named: str) -> None:
    path = placed(tmp_path, "b.csv", f"sep={sep}\nshow{sep}theme\nAWZ{sep}Eis\nAWZ{sep}Eis{sep}x\n".encode())
    with pytest.raises(BriefError, match=rf"b\.csv:4: has 3 cells.*a text that holds a {re.escape(named)} in"):
        list(read_briefs(path))
