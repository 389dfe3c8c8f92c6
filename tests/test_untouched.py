"""Nothing of others is touched: a batch's own files, a folder that goes away, a pool on a full disk."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import RECORD_FILE, BatchStore, is_of_batch
from synopsis_writer.brief import Brief
from synopsis_writer.cli.app import run
from synopsis_writer.errors import FileError
from synopsis_writer.log import RunLog
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import folder
from synopsis_writer.synopsis import Synopsis
from tests.support.terminal import ANSWER
from tests.test_runlog import RUN

BRIEF = Brief(show="AWZ", theme="Eis")
SYNOPSIS = Synopsis.model_validate(json.loads(ANSWER))


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with BatchStore(tmp_path / "out", {}) as store:
        store.fill([BatchRow("one", 1, BRIEF)])
        store.save(RowResult("one", "accepted", synopsis=SYNOPSIS, attempts=(Attempt(1, Answer("x")),)))
    (tmp_path / "out" / "batch-1.sqlite3").write_bytes(b"archived")
    (tmp_path / "out" / "provider").mkdir()
    return tmp_path / "out"


def link(path: Path, target: Path) -> str:
    path.symlink_to(target)
    return path.name


OWN: dict[str, Callable[[Path], str]] = {
    "record": lambda _: "out/batch.sqlite3",
    "absolute": lambda out: str(out / "batch.sqlite3"),
    "round about": lambda _: "./out/../out/./batch.sqlite3",
    "journal": lambda _: "out/batch.sqlite3-wal",
    "lock": lambda _: "out/batch.lock",
    "other letters": lambda _: "out/BATCH.SQLITE3",
    "archive": lambda _: "out/batch-1.sqlite3",
    "a file on its way": lambda _: "out/provider/x.jsonl",
    "the folder": lambda _: "out",
    "the folder above": lambda _: ".",
    "link to the record": lambda out: link(out.parent / "x", out / "batch.sqlite3"),
    "link to a link": lambda out: link(out.parent / "y", Path(link(out.parent / "x", out / "batch.lock"))),
    "through a linked folder": lambda out: link(out.parent / "z", out) + "/batch.sqlite3",
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("file_format", ["csv", "jsonl", "md", "parquet"])
def test_an_export_onto_the_batchs_own_files_is_refused(
    batch: Path, capsys: pytest.CaptureFixture[str], kind: str, file_format: str
) -> None:
    name = OWN[kind](batch)
    before = {path: path.read_bytes() for path in batch.rglob("*") if path.is_file()}
    assert run(["batch", "export", "out", "--format", file_format, "-o", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "belongs to the batch itself" in captured.err
    assert {path: path.read_bytes() for path in batch.rglob("*") if path.is_file()} == before


def test_a_hard_link_to_the_record_belongs_to_it_and_a_file_beside_does_not(batch: Path) -> None:
    os.link(batch / RECORD_FILE, batch.parent / "hard")
    assert is_of_batch(Path("hard"), batch)
    assert not is_of_batch(batch / "texts.csv", batch)
    assert not is_of_batch(batch.parent / "texts", batch)


@pytest.mark.parametrize(
    "file_format", ["jsonl", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("csv", "parquet"))]
)
def test_a_hyphen_is_stdout(batch: Path, file_format: str) -> None:
    command = [sys.executable, "-m", "synopsis_writer", "batch", "export", "out", "--format", file_format]
    for output, name in (("-", "piped"), ("named", "named")):
        with (batch.parent / "piped").open("wb") as file:
            subprocess.run([*command, "-o", output], stdout=file, cwd=batch.parent, check=True)
        if output == "-":
            piped = (batch.parent / name).read_bytes()
    assert piped == (batch.parent / "named").read_bytes()
    assert not (batch.parent / "-").exists()


def test_a_folder_of_files_does_not_go_to_stdout(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "export", batch.name, "--format", "md", "-o", "-"]) == 2
    assert "name a folder with --output" in capsys.readouterr().err


def away(out: Path) -> None:
    shutil.rmtree(out)


def moved(out: Path) -> None:
    out.rename(out.with_name("elsewhere"))


def replaced(out: Path) -> None:
    moved(out)
    with BatchStore(out, {}) as store:
        store.fill([BatchRow("one", 1, BRIEF)])


@pytest.mark.parametrize("vanish", [away, moved, replaced])
def test_a_folder_that_disappears_ends_the_batch_with_an_error(tmp_path: Path, vanish: Callable[[Path], None]) -> None:
    with BatchStore(tmp_path / "out", {}) as store:
        store.fill([BatchRow("one", 1, BRIEF)])
        vanish(tmp_path / "out")
        with pytest.raises(FileError, match="moved or deleted while the batch was running"):
            store.save(RowResult("one", "accepted", synopsis=SYNOPSIS))
        with pytest.raises(FileError, match="moved or deleted while the batch was running"):
            store.counts()


def test_a_record_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs.sqlite3").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD_FILE).symlink_to(tmp_path / "theirs.sqlite3")
    with pytest.raises(FileError, match="is a link"):
        BatchStore(tmp_path / "out", {})
    assert (tmp_path / "theirs.sqlite3").stat().st_size == 0


ADD = [
    "examples",
    "add",
    "text.md",
    "--show",
    "Neue Serie",
    "--theme",
    "Gesa zählt die Schafe",
    "--form",
    "teaser",
    "--character",
    "Gesa: Schäferin",
]


@pytest.mark.parametrize("size", [0, 40, 300])
@pytest.mark.parametrize("is_begun", [False, True])
def test_an_example_on_a_full_disk_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, is_begun: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNOPSIS_OWN_EXAMPLES", str(tmp_path / "own" / "pool"))
    if is_begun:
        (tmp_path / "text.md").write_text("Titel\n\n" + "Gesa sucht ein Schaf. " * 20, "utf-8")
        assert run([*ADD, "--title", "Der Anfang"]) == 0
    (tmp_path / "text.md").write_text("Titel\n\n" + "Gesa zählt die Schafe auf der Weide. " * 20, "utf-8")
    before = sorted((tmp_path / "own").rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        assert run([*ADD, "--title", "Der Rest"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted((tmp_path / "own").rglob("*")) == before
    assert (tmp_path / "own").exists() == is_begun
    assert run(["examples", "list"]) == 0
    assert run([*ADD, "--title", "Der Rest"]) == 0


def test_a_show_without_an_example_stops_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the two files of `examples add` leaves this."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNOPSIS_OWN_EXAMPLES", str(tmp_path / "own"))
    (tmp_path / "own" / "neue-serie").mkdir(parents=True)
    (tmp_path / "own" / "neue-serie" / "show.yaml").write_text("name: Neue Serie\n", encoding="utf-8")
    (tmp_path / "text.md").write_text("Titel\n\n" + "Gesa zählt die Schafe auf der Weide. " * 20, "utf-8")
    assert run(["examples", "list"]) == 0
    assert run(ADD) == 0


@pytest.mark.parametrize("kind", ["folder", "file", "built in"])
def test_an_example_is_not_removed_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / "theirs"
    shutil.copytree(folder("examples") / "rote-rosen", theirs)
    shutil.copytree(theirs, tmp_path / "pool" / "own")
    if kind == "folder":
        (tmp_path / "pool" / "show").symlink_to(theirs)
    elif kind == "file":
        (tmp_path / "pool" / "show").mkdir()
        for path in theirs.iterdir():
            (tmp_path / "pool" / "show" / path.name).symlink_to(path)
    else:
        (tmp_path / "link").symlink_to(folder("examples"))
    pool = "link" if kind == "built in" else "pool"
    before = sorted(theirs.rglob("*")), sorted(folder("examples").rglob("*"))
    monkeypatch.setattr(Path, "unlink", fail_to_delete) if kind == "built in" else None
    assert run(["examples", "list", "--examples", pool]) == 0
    show = "rote-rosen/" if kind == "built in" else "show/"
    ids = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith(show)]
    assert ids
    assert run(["examples", "rm", *ids, "--examples", pool]) == 2
    assert (sorted(theirs.rglob("*")), sorted(folder("examples").rglob("*"))) == before


def fail_to_delete(*_: object, **__: object) -> None:
    raise AssertionError("nothing may be deleted")


def test_the_log_is_shrunk_and_says_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.sqlite3"
    monkeypatch.setenv("SYNOPSIS_LOG", str(path))
    log = RunLog(path)
    log.begin(RUN)
    log.add(RUN.id, Attempt(1, Answer("x" * 3_000_000)))
    log.close()
    assert run(["log", "info", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert before == {"path": str(path), "runs": 1, "bytes": path.stat().st_size}
    assert before["bytes"] > 3_000_000
    assert run(["log", "rm", RUN.id]) == 0
    assert run(["log", "shrink"]) == 0
    assert "it had 3." in capsys.readouterr().err
    assert run(["log", "info"]) == 0
    assert "runs:  0 (0." in capsys.readouterr().out
    assert path.stat().st_size < 200_000
