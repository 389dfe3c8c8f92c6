import json
import multiprocessing
import os
from pathlib import Path

import pytest

from synopsis_writer.errors import FileError
from synopsis_writer.examples import load_example
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, Result, new_run
from synopsis_writer.show import generic_show
from synopsis_writer.storage.files import save, write_file
from synopsis_writer.usage import Usage

GOOD = load_example(Path(__file__).parent / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md")


def made(words_by_model: int | None = None) -> Result:
    answer = Answer(GOOD.synopsis.as_json(), usage=Usage(10, 20), model="test-model", words_by_model=words_by_model)
    attempt = Attempt(1, answer, synopsis=GOOD.synopsis, problem="")
    run, created = new_run()
    show = generic_show(GOOD.brief.show)
    return Result(GOOD.brief, show, (attempt,), attempt, run=run, created=created)


def test_a_saved_synopsis_loads_as_an_example(tmp_path: Path) -> None:
    path = made().save(tmp_path)
    assert path == tmp_path / "rote-rosen" / "der-weisse-hund.md"
    example = load_example(path)
    assert (example.brief, example.synopsis) == (GOOD.brief, GOOD.synopsis)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_json_and_text_have_the_whole_text() -> None:
    result = made(words_by_model=17)
    data = json.loads(result.render("json"))
    assert data["text"] == GOOD.synopsis.text
    assert data["usage"] == {"prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 20}
    assert data["cost"] == "unpriced"
    assert data["draft"].startswith("demo draft: 17 of ")
    text = result.render("txt")
    assert text == f"{GOOD.synopsis.title}\n\n{GOOD.synopsis.text}\n\n({data['draft']})\n"
    assert made().render("txt") == f"{GOOD.synopsis.title}\n\n{GOOD.synopsis.text}\n"


def test_only_guided_drafts_are_labelled() -> None:
    assert made().attempts[0].demo_label is None
    assert made(words_by_model=0).attempts[0].demo_label is not None


def test_a_taken_name_gets_a_number_and_force_replaces(tmp_path: Path) -> None:
    names = [save(text, tmp_path, "Der Hund", "txt").name for text in ("eins", "zwei", "drei")]
    assert names == ["der-hund.txt", "der-hund-2.txt", "der-hund-3.txt"]
    assert (tmp_path / "der-hund.txt").read_text("utf-8") == "eins"
    save("neu", tmp_path, "Der Hund", "txt", force=True)
    assert (tmp_path / "der-hund.txt").read_text("utf-8") == "neu"
    assert len(list(tmp_path.iterdir())) == 3


def _save_many(folder: str, mark: str) -> None:
    for number in range(25):
        save(f"{mark}{number}", Path(folder), "Gleicher Titel", "txt")


def test_two_processes_with_one_title_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_save_many, args=(str(tmp_path), mark)) for mark in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    texts = sorted(path.read_text("utf-8") for path in tmp_path.iterdir())
    assert texts == sorted(f"{mark}{number}" for mark in "ab" for number in range(25))


def test_without_hard_links_names_are_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    names = [save(text, tmp_path, "Der Hund", "txt").name for text in ("eins", "zwei")]
    assert names == ["der-hund.txt", "der-hund-2.txt"]
    assert (tmp_path / "der-hund-2.txt").read_text("utf-8") == "zwei"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["file in the way", "no folder possible"])
def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, kind: str) -> None:
    (tmp_path / "taken").write_text("x", "utf-8")
    folder = tmp_path / "taken" / "deeper" if kind == "no folder possible" else tmp_path / "taken"
    with pytest.raises(FileError, match=r"cannot save into .*: name another folder"):
        save("text", folder, "Titel", "txt")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space left on device"):
        save("text", tmp_path, "Titel", "txt")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = multiprocessing.get_context("spawn").Process(
        target=write_file, args=(pipe, "Ja."), kwargs={"output": True}
    )
    process.start()
    assert pipe.read_text(encoding="utf-8") == "Ja."
    process.join()
    assert process.exitcode == 0
    assert pipe.is_fifo()


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_file(path, "eins")
    write_file(path, "zwei")
    assert path.read_text(encoding="utf-8") == "zwei"
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\ud83d")
    assert path.read_text(encoding="utf-8") == "zwei"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
