import contextlib
import csv
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synopsis_writer.batch.briefs import COLUMNS, BatchRow, read_briefs
from synopsis_writer.batch.export import export_csv, export_jsonl, export_md, export_parquet
from synopsis_writer.batch.store import SavedRow
from synopsis_writer.brief import Brief
from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.examples import load_example, load_pool
from synopsis_writer.synopsis import Character, Synopsis

GOOD = load_example(Path(__file__).parent / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md")
BRIEF = GOOD.brief.model_copy(
    update={
        "characters": ("Britta Berger", "Hannes Ott"),
        "beats": ("Sie geht fort.", "Er bleibt."),
        "words": (250, 400),
        "air_date": "2025-04-22",
        "notes": "Kurz; und ohne „Nein“, bitte",
    }
)
META: dict[str, Any] = {
    "model": "test-model",
    "attempts": 2,
    "usage": {"prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 20},
    "cost": "0.0123 USD",
    "seconds": 3.5,
    "gate": {"length": 300},
    "created": "2025-04-01T12:00:00+00:00",
}
PLAIN = Brief(show="Unter uns", theme="Ein Hund läuft zu")
ROWS = [SavedRow("S01 E01", 1, BRIEF, GOOD.synopsis, META), SavedRow("2", 2, PLAIN, GOOD.synopsis, {})]
EXPORTS: dict[str, Callable[[Iterator[SavedRow], Path], int]] = {
    "texts": export_md,
    "x.jsonl": export_jsonl,
    "x.csv": export_csv,
    "x.parquet": export_parquet,
}


def test_markdown_files_load_as_a_pool_of_examples(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "texts"
    assert export_md(iter(ROWS), folder) == 2
    assert [example.id for example in load_pool([folder]).examples] == ["rote-rosen/s01-e01", "unter-uns/2"]
    path = folder / "rote-rosen" / "s01-e01.md"
    example = load_example(path)
    assert (example.brief, example.synopsis) == (BRIEF, GOOD.synopsis)
    text = path.read_text(encoding="utf-8")
    assert "\nid: S01 E01\nplace: 1\nmodel: test-model\nattempts: 2\n" in text
    assert os.listdir(tmp_path / "new") == ["texts"]  # noqa: PTH208 - the hidden ones, too


@pytest.mark.parametrize("mode", [0o022, 0o077])
def test_folder_and_files_have_the_rights_of_any_new_ones(tmp_path: Path, mode: int) -> None:
    before = os.umask(mode)
    try:
        export_md(iter(ROWS), tmp_path / "texts")
        export_jsonl(iter(ROWS), tmp_path / "x.jsonl")
    finally:
        os.umask(before)
    assert (tmp_path / "texts").stat().st_mode & 0o777 == 0o777 & ~mode
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o666 & ~mode


HOSTILE = ["..", ".", "...", "\\..\\x", "~", "C:x", "-rf", "病院", "x" * 100, "x" * 99, "A b", "a-b", ".md", "*"]


def test_each_id_gives_a_separate_file_in_the_folder(tmp_path: Path) -> None:
    rows = [SavedRow(name, place, PLAIN, GOOD.synopsis, {}) for place, name in enumerate(HOSTILE, 1)]
    assert export_md(iter(rows), tmp_path / "in" / "texts") == len(HOSTILE)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in written} == {tmp_path / "in" / "texts" / "unter-uns"}
    assert len(written) == len(HOSTILE)
    assert all(re.fullmatch(r"[a-z0-9-]+\.md", path.name) for path in written)
    again = tmp_path / "again"
    export_md(iter(rows), again)
    assert {path.name for path in (again / "unter-uns").iterdir()} == {path.name for path in written}


def test_a_folder_with_anything_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    export_md(iter(ROWS), tmp_path / "texts")  # an empty one is taken
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match="texts: already exists; choose a new or empty folder"):
        export_md(iter(ROWS), tmp_path / "texts")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FileError, match="file: already exists"):
        export_md(iter(ROWS), tmp_path / "file")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def test_json_lines_hold_the_fields_of_a_saved_file(tmp_path: Path) -> None:
    assert export_jsonl(iter(ROWS), tmp_path / "x.jsonl") == 2
    first, second = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text("utf-8").splitlines()]
    assert first["brief"] == BRIEF.as_data()
    assert (first["id"], first["place"], first["usage"]) == ("S01 E01", 1, META["usage"])
    assert (first["title"], first["text"]) == (GOOD.synopsis.title, GOOD.synopsis.text)
    assert list(second) == ["brief", "title", "logline", "characters", "storylines", "id", "place", "text"]


def test_provenance_never_replaces_the_text(tmp_path: Path) -> None:
    lying = SavedRow("1", 1, BRIEF, GOOD.synopsis, {"title": "x", "brief": {}, "storylines": []})
    export_md(iter([lying]), tmp_path / "texts")
    example = load_example(tmp_path / "texts" / "rote-rosen" / "1.md")
    assert (example.brief, example.synopsis) == (BRIEF, GOOD.synopsis)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_csv_holds_a_row_a_text_with_lists_in_one_cell(tmp_path: Path) -> None:
    assert export_csv(iter(ROWS), tmp_path / "x.csv") == 2
    first, second = read_csv(tmp_path / "x.csv")
    person = GOOD.synopsis.characters[0]
    assert first["characters"].split(" | ")[0] == f"{person.name} ({person.role})"
    assert first["storylines"] == " | ".join(part.storyline for part in GOOD.synopsis.paragraphs)
    assert first["text"] == GOOD.synopsis.text
    assert (first["character"], first["words"]) == ("Britta Berger | Hannes Ott", "250-400")
    assert (first["model"], first["attempts"], first["cost"]) == ("test-model", "2", "0.0123 USD")
    assert json.loads(first["meta"]) == {"usage": META["usage"], "gate": META["gate"]}
    assert (second["words"], second["draft"], second["meta"]) == ("", "", "{}")


def test_no_cell_of_a_csv_runs_as_a_formula(tmp_path: Path) -> None:
    formula = "=HYPERLINK(0) and more of it"
    brief = Brief(
        show="+Rote Rosen", theme="@SUM(A1)", characters=("=Britta", "Hannes"), beats=("-1+1 =x",), notes="=1"
    )
    synopsis = Synopsis(
        title=formula,
        logline=formula,
        characters=(Character(name="@Anna", role="Ärztin"),),
        paragraphs=(GOOD.synopsis.paragraphs[0].model_copy(update={"text": formula}),),
    )
    told = dict.fromkeys(["model", "draft", "cost", "created"], formula)
    export_csv(iter([SavedRow("=1+1", 1, brief, synopsis, told)]), tmp_path / "x.csv")
    (row,) = read_csv(tmp_path / "x.csv")
    started = [name for name, cell in row.items() if cell.startswith("'")]
    assert started == ["id", "show", "theme", "character", "beat", "notes", "title", "logline", "characters",
                       "text", "model", "draft", "cost", "created"]  # fmt: skip
    assert not [cell for cell in row.values() if cell[:1] and cell[0] in "=+-@\t\r\n"]


def test_a_parquet_file_has_lists_and_numbers(tmp_path: Path) -> None:
    assert export_parquet(iter(ROWS), tmp_path / "x.parquet") == 2
    first, second = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert first["characters"] == [person.model_dump() for person in GOOD.synopsis.characters]
    assert first["character"] == ["Britta Berger", "Hannes Ott"]
    assert (first["place"], first["attempts"], first["seconds"]) == (1, 2, 3.5)
    assert (second["words"], second["beat"], second["seconds"]) == (None, [], None)
    assert list(first) == list(read_csv_header(tmp_path))


def read_csv_header(tmp_path: Path) -> dict[str, str]:
    export_csv(iter(ROWS), tmp_path / "x.csv")
    return read_csv(tmp_path / "x.csv")[0]


def test_what_was_asked_for_reads_back_as_briefs(tmp_path: Path) -> None:
    expected = [BatchRow(row.id, row.place, row.brief) for row in ROWS]
    export_parquet(iter(ROWS), tmp_path / "x.parquet")
    pq.write_table(pq.read_table(tmp_path / "x.parquet", columns=list(COLUMNS)), tmp_path / "back.parquet")
    assert list(read_briefs(tmp_path / "back.parquet")) == expected
    export_csv(iter(ROWS), tmp_path / "x.csv")
    with (tmp_path / "back.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(read_csv(tmp_path / "x.csv"))
    assert list(read_briefs(tmp_path / "back.csv")) == expected


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_that_breaks_off_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    def rows() -> Iterator[SavedRow]:
        yield from ROWS
        raise KeyboardInterrupt

    if name != "texts":
        (tmp_path / name).write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        EXPORTS[name](rows(), tmp_path / name)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["old"] * (name != "texts")


@pytest.mark.parametrize("name", EXPORTS)
def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(FileError, match=r"cannot .*: name another (file|folder)"):
        EXPORTS[name](iter(ROWS), tmp_path / "file" / "deeper" / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", EXPORTS)
def test_no_rows_give_an_empty_export(tmp_path: Path, name: str) -> None:
    assert EXPORTS[name](iter([]), tmp_path / name) == 0
    assert (tmp_path / name).exists()


def test_parquet_without_pyarrow_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'synopsis-writer[parquet]'")):
        export_parquet(iter(ROWS), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


HOSTILE_ROW = SavedRow(
    "1", 1, PLAIN, GOOD.synopsis, {**META, "model": "m\x1b]52;c;QUJD\x07\x9b2J\u202e", "draft": "\r!"}
)


def on_a_terminal(write: Callable[[Path], object], name: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what a terminal gets from `write`, which is given its name."""
    master, slave = os.openpty()
    pieces: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody writes any more
            while piece := os.read(master, 1024):
                pieces.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with open(slave, "w", encoding="utf-8") as terminal:  # noqa: PTH123 - a number
        monkeypatch.setattr(sys, "stdout", terminal)
        write(Path(name or os.ttyname(slave)))
    reader.join()
    os.close(master)
    return b"".join(pieces)


@pytest.mark.parametrize("name", ["-", ""], ids=["stdout", "device"])
@pytest.mark.parametrize("export", [export_csv, export_jsonl, export_parquet])
def test_a_terminal_gets_escaped_text(
    export: Callable[[Iterator[SavedRow], Path], int], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = on_a_terminal(lambda path: export(iter([HOSTILE_ROW]), path), name, monkeypatch)
    text = got.decode("utf-8")
    assert "]52;c;QUJD" in text
    assert not [char for char in text if not char.isprintable() and char not in "\r\n\t\u00a0\u2009\u202f"]
    assert b"\r" not in got.replace(b"\r\n", b"")


@pytest.mark.parametrize("export", [export_csv, export_jsonl, export_parquet])
def test_a_pipe_gets_the_bytes_of_the_file(
    tmp_path: Path, export: Callable[[Iterator[SavedRow], Path], int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    export(iter([HOSTILE_ROW]), tmp_path / "x")
    with open(1, "w", encoding="utf-8", closefd=False) as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        export(iter([HOSTILE_ROW]), Path("-"))
    assert capfdbinary.readouterr().out == (tmp_path / "x").read_bytes()


def test_a_stdout_that_is_closed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # as the command has it where its caller closed it
    with pytest.raises(FileError, match="stdout is closed: name a file"):
        export_csv(iter(ROWS), Path("-"))
