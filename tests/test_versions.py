"""Versions of a text in the log: noticed, listed, compared, restored."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from synopsis_writer.document import Document, read_document
from synopsis_writer.errors import FileError
from synopsis_writer.log import _MIGRATIONS, RunLog, word_diff
from synopsis_writer.storage.sqlite import open_database
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, CLOSED, FILE, GOOD, ORDER, Terminal
from tests.test_runlog import RUN


def listed(terminal: Terminal, file: str = FILE) -> list[dict[str, object]]:
    versions: list[dict[str, object]] = json.loads(terminal("log", "versions", file, "--json").out)["versions"]
    return versions


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize("suffix", ["md", "json", "txt"])
def test_a_written_text_is_the_first_version_in_every_format(terminal: Terminal, suffix: str) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, "--format", suffix, server=server).code == 0
    (version,) = listed(terminal, FILE.replace("md", suffix))
    assert (version["version"], version["by"], version["parent"]) == (1, "model", None)
    assert version["is_current"] is True


@pytest.mark.parametrize("command", [("check", FILE), ("log", "versions", FILE)], ids=["check", "versions"])
def test_an_edit_by_hand_is_a_persons_version_when_the_file_is_next_touched(
    terminal: Terminal, written: Path, command: tuple[str, ...]
) -> None:
    edit(written, "Gesa ist", "Sie ist")
    terminal(*command)
    edit(written, "Sie ist", "Sie war")  # what was between was recorded by the command
    versions = listed(terminal)
    assert [(v["by"], v["parent"]) for v in versions] == [("model", None), ("person", 1), ("person", 2)]
    assert "person: edited [413 words]" in terminal("log", "versions", FILE).out


def test_line_ends_and_a_byte_order_mark_are_no_edit(terminal: Terminal, written: Path) -> None:
    text = written.read_bytes()
    written.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert len(listed(terminal)) == 1


def test_a_moved_file_keeps_its_history(terminal: Terminal, written: Path, tmp_path: Path) -> None:
    written.rename(tmp_path / "anders.md")
    edit(tmp_path / "anders.md", "Gesa ist", "Sie ist")
    assert [version["by"] for version in listed(terminal, "anders.md")] == ["model", "person"]


def test_check_neither_makes_a_log_nor_records_a_text_it_does_not_know(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text(GOOD.synopsis.text, "utf-8")
    terminal("check", "text.md", SYNOPSIS_LOG="none.sqlite3")
    assert not (tmp_path / "none.sqlite3").exists()
    run = terminal("log", "versions", "text.md")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "text.md: the log holds no version of this text" in run.err


def test_versions_are_compared_word_by_word(terminal: Terminal, written: Path, tmp_path: Path) -> None:
    edit(written, "Gesa ist siebenundvierzig, hat", "Gesa ist <alt>, hat")
    out = terminal("log", "diff", f"{FILE}@1", FILE).out
    assert "Gesa ist [-siebenundvierzig-]{+<alt>+}, hat einmal" in out
    assert "Gesa ist [-<alt>-]{+siebenundvierzig+}, hat" in terminal("log", "diff", FILE, "1").out
    assert terminal("log", "diff", f"{FILE}@1", "2", "--html", "diff.html").code == 0
    page = (tmp_path / "diff.html").read_text("utf-8")
    assert "Gesa ist <del>siebenundvierzig</del><ins>&lt;alt&gt;</ins>, hat einmal" in page


def test_long_texts_of_few_words_are_compared_and_all_of_both_is_in_the_difference() -> None:
    old, new = "nie " * 20_000, "nie immer " * 10_000  # to difflib a matter of hours
    parts = list(word_diff(old, new))
    assert "".join(text for kind, text in parts if kind != "+") == old.rstrip()
    assert "".join(text for kind, text in parts if kind != "-") == new.rstrip()
    longer = list(word_diff(old * 2, new * 2))
    assert [kind for kind, _ in longer] == ["-", "+"]


def test_a_version_is_restored_to_the_byte_and_what_was_there_is_in_the_log(terminal: Terminal, written: Path) -> None:
    first = written.read_bytes()
    edit(written, "Gesa ist", "Sie ist")
    second = written.read_bytes()
    run = terminal("log", "restore", FILE, "1")
    assert (run.code, run.err) == (0, f"restored version 1 as {FILE}; what was there is version 2\n")
    assert written.read_bytes() == first
    assert terminal("log", "restore", FILE, "2").code == 0
    assert written.read_bytes() == second
    assert [version["parent"] for version in listed(terminal)] == [None, 1, 1, 2]


def test_a_deleted_file_has_its_versions_and_comes_back(terminal: Terminal, written: Path) -> None:
    content = written.read_bytes()
    edit(written, "Gesa ist", "Sie ist")
    assert len(listed(terminal)) == 2
    shutil.rmtree(written.parent)
    assert len(listed(terminal)) == 2
    assert "[-Gesa-]{+Sie+} ist" in terminal("log", "diff", f"{FILE}@1", FILE).out
    assert terminal("log", "restore", FILE, "1").code == 0
    assert written.read_bytes() == content


def test_a_comparison_replaces_no_file(terminal: Terminal, written: Path) -> None:
    content = written.read_bytes()
    run = terminal("log", "diff", FILE, FILE, "--html", FILE)
    assert (run.code, "is there: name another file" in run.err) == (2, True)
    assert written.read_bytes() == content


def test_a_file_that_is_no_markdown_is_not_replaced_by_a_restored_version(terminal: Terminal, tmp_path: Path) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        terminal("write", *ORDER, "--format", "txt", server=server)
    path = tmp_path / FILE.replace("md", "txt")
    edit(path, "Gesa ist", "Sie ist")
    edited = path.read_text("utf-8")
    assert terminal("log", "restore", str(path), "1").code == 0
    assert path.read_text("utf-8") == edited
    assert "Gesa ist" in (tmp_path / FILE).read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("restore", FILE, "9"), "has no version 9: it has 1"),
        (("restore", "none.md", "1"), "none.md: no such file"),
        (("diff", f"{FILE}@9", FILE), "has no version 9: it has 1"),
        (("diff", FILE, "none.md"), "none.md: no such file"),
        (("versions", "synopsen"), "synopsen: is a folder"),
    ],
)
def test_a_version_that_is_not_there_is_one_line(
    terminal: Terminal, written: Path, arguments: tuple[str, ...], reported: str
) -> None:
    before = written.read_bytes()
    run = terminal("log", *arguments)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert reported in run.err
    assert written.read_bytes() == before


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_is_gone_or_was_emptied_is_restored(terminal: Terminal, written: Path, *, is_there: bool) -> None:
    content = written.read_bytes()
    written.unlink()
    if is_there:
        written.touch()
    assert terminal("log", "restore", FILE, "1").code == 0
    assert written.read_bytes() == content


def test_versions_of_a_removed_run_are_gone_with_their_words(terminal: Terminal, written: Path) -> None:
    edit(written, "Gesa ist", "Sie ist")
    (_, edited) = listed(terminal)
    assert terminal("log", "rm", str(edited["run"])).code == 0
    assert [version["words"] for version in listed(terminal)] == [None, None]
    before = written.read_bytes()
    run = terminal("log", "restore", FILE, "1")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "was removed with its run" in run.err
    assert written.read_bytes() == before


def test_what_was_removed_from_the_log_is_there_again_before_it_is_replaced(terminal: Terminal, written: Path) -> None:
    first = written.read_bytes()
    (version,) = listed(terminal)
    terminal("log", "rm", str(version["run"]))
    with LoopbackServer([Reply(ANSWER.replace("Elf Ohrmarken", "Elf Marken"))]) as server:
        assert terminal("revise", FILE, "--note", "kürzer", server=server).code == 0
    assert written.read_bytes() != first
    assert terminal("log", "restore", FILE, "1").code == 0
    assert written.read_bytes() == first


def test_a_log_of_before_opens_and_keeps_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    open_database(path, _MIGRATIONS[:4]).close()
    with closing(RunLog(path)) as log:
        log.begin(RUN)
        assert [run.id for run in log.runs()] == [RUN.id]
        assert log.versions("none") == []


def test_the_versions_that_led_to_a_text_are_given_with_who_made_each(written: Path, tmp_path: Path) -> None:
    first = read_document(written)
    edited = Document(written, {**first.meta}, first.text + " Ende.")
    with closing(RunLog(tmp_path / "runs.sqlite3")) as log:
        written_version = log.add_version(first, "model", model="m")
        log.add_version(Document(written, first.meta, "Eine andere."), "model", parent=written_version)
        line = log.versions_of(edited)
        assert [(version.number, version.maker) for version in line] == [(1, "model"), (3, "person")]
        assert line[-1].document.text == edited.text
        assert log.versions_of(Document(tmp_path / "x.md", {}, "Unbekannt.")) == []


def test_a_version_that_cannot_be_read_names_its_run(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    with closing(RunLog(path)) as log:
        log.add_version(read_document(written), "model", run="20261130T120000-abcdef")
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE versions SET request = 'x'")
        database.commit()
    with closing(RunLog(path)) as log, pytest.raises(FileError, match="log rm 20261130T120000-abcdef"):
        log.touch(read_document(written))


def test_a_text_that_write_replaces_by_force_is_the_version_before_the_new_one(
    terminal: Terminal, written: Path
) -> None:
    edit(written, "Gesa ist", "Sie ist")
    edited = written.read_bytes()
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, "--force", server=server).code == 0
    assert written.read_bytes() != edited
    versions = listed(terminal)
    assert [(v["by"], v["parent"]) for v in versions] == [("model", None), ("person", 1), ("model", 2)]
    assert terminal("log", "restore", FILE, "2").code == 0
    assert written.read_bytes() == edited


@pytest.mark.parametrize("suffix", ["md", "json", "txt"])
def test_a_text_of_somebody_else_is_recorded_before_write_replaces_it(
    terminal: Terminal, tmp_path: Path, suffix: str
) -> None:
    file = FILE.replace("md", suffix)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text('{"text": "Mein Text."}' if suffix == "json" else "Mein Text.\n", "utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, "--force", "--format", suffix, server=server).code == 0
    assert [(v["by"], v["words"]) for v in listed(terminal, file)] == [("person", 2), ("model", 413)]
    assert terminal("log", "diff", f"{file}@1", file).out.startswith("[-Mein Text")


def test_a_refused_text_that_force_replaces_is_recorded_too(terminal: Terminal, tmp_path: Path) -> None:
    for answer in (CLOSED, CLOSED.replace("Gesa ist", "Sie ist")):
        with LoopbackServer([Reply(answer)]) as server:
            flags = ["--attempts", "1", "--keep-rejected", "no", "--force"]
            assert terminal("write", *ORDER, *flags, server=server).code == 1
    (path,) = (tmp_path / "no").iterdir()
    assert [version["parent"] for version in listed(terminal, str(path))] == [None, 1]


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_cannot_be_recorded_is_not_replaced(
    terminal: Terminal, written: Path, tmp_path: Path, is_folder: bool
) -> None:
    """The log is a folder; or it is sound, and the file that is there is no text."""
    (tmp_path / "folder").mkdir()
    log = "folder" if is_folder else "runs.sqlite3"
    if not is_folder:
        written.write_bytes(b"\0" * 2_000_000)
    before = written.read_bytes()
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--force", server=server, SYNOPSIS_LOG=log)
    assert run.code == 0
    assert written.read_bytes() == before
    assert "saved as synopsen/rote-rosen/der-weisse-hund-2.md" in run.err


def test_without_a_log_force_replaces_as_it_is_told(terminal: Terminal, written: Path) -> None:
    edit(written, "Gesa ist", "Sie ist")
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, "--force", "--no-log", server=server).code == 0
    assert "Gesa ist" in written.read_text("utf-8")
    assert [path.name for path in written.parent.iterdir()] == [written.name]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("name", [FILE, "eigener.md", "eigener.txt"])
def test_what_check_fixes_is_in_the_log_before_and_after(terminal: Terminal, tmp_path: Path, name: str) -> None:
    if name != FILE:
        (tmp_path / name).write_text(GOOD.synopsis.text, "utf-8")
    edit(tmp_path / name, "Gesa ist", "Gesa  ist")
    old = (tmp_path / name).read_bytes()
    terminal("check", "--fix", name)
    assert (tmp_path / name).read_bytes() != old
    *_, before, after = listed(terminal, name)
    assert (after["parent"], after["by"]) == (before["version"], "person")
    assert list(after["request"]) == ["fixed"]  # type: ignore[call-overload]
    if name.endswith(".md"):
        assert terminal("log", "restore", name, str(before["version"])).code == 0
        assert (tmp_path / name).read_bytes().rstrip() == old.rstrip()


def test_a_file_whose_text_cannot_be_recorded_is_not_fixed(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text("Gesa  zählt die Schafe.\n", "utf-8")
    (tmp_path / "folder").mkdir()
    run = terminal("check", "--fix", "text.md", SYNOPSIS_LOG="folder")
    assert run.code == 2
    assert (tmp_path / "text.md").read_text("utf-8") == "Gesa  zählt die Schafe.\n"
    assert "text.md: stays as it is, for it cannot be recorded" in run.err
