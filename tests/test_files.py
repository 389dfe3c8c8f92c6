"""Input files within their limits, and files that are written without touching what others have."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synopsis_writer.cli.app import run
from synopsis_writer.errors import FileError
from synopsis_writer.evals.record import append_line
from synopsis_writer.models.embedded import Engine
from synopsis_writer.models.hosted import CapabilityStore, initial_capabilities
from synopsis_writer.storage import files
from synopsis_writer.storage.files import (
    FolderLock,
    find_files,
    input_lines,
    new_folder,
    read_input,
    replacing,
    save,
    slug,
    temporary_folder,
    write_file,
)

BRIEF = ["--show", "AWZ", "--theme", "Eis", "--model", "packaged"]
# Each reads the file `x`, which a test makes.
READERS = {
    "check": ["check", "x"],
    "two files": ["check", "x", "x"],
    "outline": ["write", *BRIEF, "--outline", "x"],
    "profile": ["check", "good.md", "--profile", "x"],
    "add": ["examples", "add", "x", "--show", "AWZ", "--theme", "Eis", "--form", "teaser"],
    "csv": ["batch", "run", "x.csv", "--out", "out", "--model", "packaged"],
    "jsonl": ["batch", "run", "x.jsonl", "--out", "out", "--model", "packaged"],
    "yaml": ["batch", "run", "x.yaml", "--out", "out", "--model", "packaged"],
    "parquet": ["batch", "run", "x.parquet", "--out", "out", "--model", "packaged"],
    "arc": ["batch", "run", "briefs.csv", "--out", "out", "--model", "packaged", "--arc", "x"],
    "suite": ["eval", "judge-check", "--judge", "m", "--suite", "x"],
    "model": ["write", "--show", "AWZ", "--theme", "Eis", "--model", "x.gguf"],
    "template": ["prompt", "--show", "AWZ", "--theme", "Eis", "--prompts", "prompts"],
    "example": ["examples", "check", "--examples", "pool"],
    "show": ["examples", "list", "--examples", "shows"],
    "calibrate": ["style", "calibrate", "--examples", "texts"],
}
PLACES = {
    "csv": "x.csv",
    "jsonl": "x.jsonl",
    "yaml": "x.yaml",
    "parquet": "x.parquet",
    "model": "x.gguf",
    "template": "prompts/system.md",
    "example": "pool/awz/x.md",
    "show": "shows/awz/show.yaml",
    "calibrate": "texts/x.md",
}
GOOD = Path(__file__).parent / "corpus/good/rote-rosen/der-weisse-hund.md"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link_to_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**42)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNOPSIS_OWN_EXAMPLES", str(tmp_path / "own"))
    (tmp_path / "good.md").write_bytes(GOOD.read_bytes())
    (tmp_path / "briefs.csv").write_text("show,theme\nAWZ,Eis\n", encoding="utf-8")
    for folder in ("prompts", "pool/awz", "shows/awz", "texts"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "shows/awz/x.md").write_bytes(GOOD.read_bytes())
    return tmp_path


@pytest.mark.parametrize("make", [fifo, link_to_endless, sparse])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_or_has_no_end_is_refused_in_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str], reader: str, make: Callable[[Path], None]
) -> None:
    path = workplace / PLACES.get(reader, "x")
    make(path)
    if reader == "calibrate" and make is not sparse:
        path.with_name("y.md").write_bytes(GOOD.read_bytes())
    code = run(READERS[reader])
    captured = capsys.readouterr()
    assert code in {1, 2, 3}, captured.err
    assert path.name in captured.err
    reason = "larger than" if make is sparse else "pipe or a device"
    if reader == "model":
        reason = "larger than" if make is sparse else "no such file"
    assert reason in captured.err


def test_a_config_or_prices_that_are_a_pipe_are_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo(workplace / "x")
    for variable in ("SYNOPSIS_CONFIG", "SYNOPSIS_PRICES"):
        with monkeypatch.context() as context:
            context.setenv(variable, str(workplace / "x"))
            assert run(["write", *BRIEF[:4], "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]) == 2
        assert "x: is a pipe or a device: name a file" in capsys.readouterr().err


def test_stdin_is_read_up_to_the_limit_and_no_further(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "synopsis_writer", "check", "-"]
    reading, writing = os.pipe()
    error = tmp_path / "error"
    with error.open("wb") as file:
        process = subprocess.Popen(command, stdin=reading, stderr=file, cwd=tmp_path)
    os.close(reading)
    written = 0
    with contextlib.suppress(BrokenPipeError):
        while written < 20_000_000:
            written += os.write(writing, b"x" * 65_536)
    os.close(writing)
    assert process.wait() == 2
    assert error.read_bytes() == b"synopsis: -: is larger than 1 MB: that is no synopsis\n"
    assert written < 2_000_000


def test_a_file_that_does_not_know_its_size_is_read_up_to_the_limit(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="larger than"):
        read_input(Path("/proc/self/maps"), 100)
    (tmp_path / "x").write_bytes(b"12345")
    assert read_input(tmp_path / "x", 5) == b"12345"


@pytest.mark.parametrize("name", ["a\0b", "none", "."])
def test_a_name_of_no_file_is_refused(name: str) -> None:
    with pytest.raises(FileError):
        read_input(Path(name))


def test_a_line_that_is_too_long_comes_empty_and_the_others_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\n\n" + b"b" * 25 + b"\n" + b"c" * 10 + b"\nd")
    assert list(input_lines(tmp_path / "x", 100, 11)) == [(1, b"a\n"), (3, b""), (4, b"c" * 10 + b"\n"), (5, b"d")]


def test_a_folder_whose_note_is_a_pipe_or_a_link_is_locked_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "others").write_text("theirs", encoding="utf-8")
    (tmp_path / "batch.holder").symlink_to("others")
    with FolderLock(tmp_path, "batch"):
        pass
    assert (tmp_path / "others").read_text(encoding="utf-8") == "theirs"
    fifo(tmp_path / "batch.holder")
    with FolderLock(tmp_path, "batch"), pytest.raises(FileError, match="using this batch"):
        FolderLock(tmp_path, "batch")


def test_capabilities_in_a_pipe_are_as_none(tmp_path: Path) -> None:
    fifo(tmp_path / "x")
    assert CapabilityStore(tmp_path / "x").find("host", "m") == initial_capabilities("host")


WRITERS: dict[str, Callable[[Path], object]] = {
    "whole": lambda path: write_file(path, "new"),
    "private": lambda path: write_file(path, "new", private=True),
    "forced": lambda path: save("new", path.parent, path.stem, path.suffix[1:], force=True),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path, writer: str) -> None:
    others = tmp_path / "others" / "file.md"
    others.parent.mkdir()
    others.write_text("theirs", encoding="utf-8")
    (tmp_path / "file.md").symlink_to(others)
    WRITERS[writer](tmp_path / "file.md")
    assert (tmp_path / "file.md").read_text(encoding="utf-8") == "new"
    assert not (tmp_path / "file.md").is_symlink()
    assert others.read_text(encoding="utf-8") == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.md", "others"]


def test_a_line_is_not_appended_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "others").write_text("theirs", encoding="utf-8")
    (tmp_path / "file").symlink_to("others")
    with pytest.raises(FileError):
        append_line(tmp_path / "file", "new\n")
    assert (tmp_path / "others").read_text(encoding="utf-8") == "theirs"


def test_a_show_s_folder_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "awz").symlink_to(tmp_path / "others")
    with pytest.raises(FileError, match="is a link out of"):
        save("text", tmp_path / "out" / "awz", "Eis", "md", within=tmp_path / "out")
    assert list((tmp_path / "others").iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "out")  # the folder that a person names may be one
    assert save("text", tmp_path / "link" / "b", "Eis", "md", within=tmp_path / "link").exists()


def test_a_temporary_file_is_its_owners_and_the_whole_one_is_as_the_umask_has_it(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with replacing(tmp_path / "x") as file:
            [path] = [path for path in tmp_path.iterdir() if path.name != "x"]
            names.add(path.name)
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            file.write(b"text")
    assert len(names) == 3
    with replacing(tmp_path / "private", private=True) as file:
        file.write(b"text")
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_a_pipe_and_the_names_of_stdout_are_written_into_and_not_replaced(tmp_path: Path) -> None:
    fifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", "text", output=True)
    reader.join()
    assert received == [b"text"]
    script = "from synopsis_writer.storage.files import write_file as w; from pathlib import Path as P\n"
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"):
        with (tmp_path / "out").open("wb") as out:
            code = f"{script}w(P({name!r}), 'text', output=True)"
            subprocess.run([sys.executable, "-c", code], stdout=out, cwd=tmp_path, check=True)
        assert (tmp_path / "out").read_bytes() == b"text"
        assert Path("/dev/stdout").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pipe"]


KILLED = """
import os, sys
from pathlib import Path
from synopsis_writer.storage.files import new_folder, replacing
with {opened} as made:
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["new_folder(Path('target'))", "replacing(Path('target'))"])
def writing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", KILLED.format(opened=request.param)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_what_a_kill_leaves_the_next_write_clears(writing: subprocess.Popen[bytes], tmp_path: Path) -> None:
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    assert len(list(tmp_path.iterdir())) == 1
    write_file(tmp_path / "other", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_another_process_is_writing_stays(writing: subprocess.Popen[bytes], tmp_path: Path) -> None:
    write_file(tmp_path / "other", "text")
    assert len(list(tmp_path.iterdir())) == 2
    assert writing.stdin
    writing.stdin.close()
    assert writing.wait() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "target"]


def test_a_persons_own_hidden_files_stay(tmp_path: Path) -> None:
    (tmp_path / ".synopsis-notes").mkdir()
    (tmp_path / ".synopsis-x.tmp").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "file").touch()
    (tmp_path / ".synopsis-abcdefgh.tmp").symlink_to("others")
    before = sorted(tmp_path.iterdir())
    with new_folder(tmp_path / "new"):
        pass
    with temporary_folder(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "new"])
    assert (tmp_path / "others" / "file").exists()


def test_a_whole_disk_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 4)
    for number in range(5):
        (tmp_path / f"{number}.md").touch()
        if number == 3:
            assert len(find_files(tmp_path, "**/*.md")) == 4
    with pytest.raises(FileError, match="holds more than 4 files and folders: name a smaller one"):
        find_files(tmp_path, "**/*.md")


@pytest.mark.parametrize("command", [["style", "calibrate", "--examples"], ["check"]])
def test_the_root_is_refused_in_a_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "/"]) == 2
    assert "/: is a whole disk: name a folder in it" in capsys.readouterr().err


RESERVED = ["CON", "con", "Nul", "aux", "PRN", "com1", "LPT9", "COM¹", "Con.", " nul ", "con…", "<aux>", "c:\\con?"]


@pytest.mark.parametrize("name", [*RESERVED, "a:b", "was?", "ende.", "ende ", "x|y*", "..", ".", "", "/", "C:"])
def test_no_file_has_a_name_that_windows_cannot_have(name: str) -> None:
    made = slug(name)
    assert made
    assert not set(made) - set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not made.endswith("-")
    devices = {"con", "prn", "aux", "nul", *(f"{kind}{digit}" for kind in ("com", "lpt") for digit in range(10))}
    assert made not in devices


def test_an_engine_opens_no_pipe(tmp_path: Path) -> None:
    fifo(tmp_path / "x.gguf")
    with pytest.raises(Exception, match="is a pipe or a device"):
        Engine(tmp_path / "x.gguf")
