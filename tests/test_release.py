"""Releases: the gate once more, a record in the file, and whether a text changed since."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from synopsis_writer import GateRefusedError, NotReleasedError, Writer, read_document, release
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import BatchStore
from synopsis_writer.document import Document
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.workspace import Report
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, GOOD, ORDER, PATH, Terminal

FILE = "synopsen/rote-rosen/der-weisse-hund.md"


def written(terminal: Terminal) -> Path:
    with LoopbackServer([Reply(ANSWER)]) as server:
        assert terminal("write", *ORDER, server=server).code == 0
    return terminal.folder / FILE


def test_a_release_records_who_when_and_whose_words(terminal: Terminal) -> None:
    file = written(terminal)
    before = read_document(file)
    run = terminal("release", FILE, "--by", "Eva  Muster")
    assert (run.code, run.out.startswith(f"{FILE}: released by Eva Muster at 20")) == (0, True)
    document = read_document(file)
    record = document.meta.pop("release")
    assert (document.text, document.meta) == (before.text, before.meta)
    assert record.pop("at").endswith("+00:00")
    assert record == {
        "by": "Eva Muster",
        "model": before.meta["model"],
        "prompt": before.meta["prompt"],
        "model_share": 1.0,
        "person_share": 0.0,
        "waived": [],
        "text_sha256": hashlib.sha256(before.text.encode()).hexdigest(),
    }
    assert terminal("release", "--verify", FILE).code == 0
    assert terminal("check", FILE).code == 0


def test_words_that_a_person_changed_are_the_persons(terminal: Terminal) -> None:
    file = written(terminal)
    text = file.read_text(encoding="utf-8")
    words = len(read_document(file).text.split())
    file.write_text(text.rstrip() + " Morgen, vielleicht morgen, kommt der Hund zurück?\n", encoding="utf-8")
    record = json.loads(terminal("release", FILE, "--by", "Eva", "--json").out)["release"]
    assert record["person_share"] == pytest.approx(7 / (words + 7), abs=0.003)
    assert record["model_share"] + record["person_share"] == pytest.approx(1)
    exported = json.loads(terminal("export", FILE, "--format", "json").out)
    assert exported["release"] == record
    assert exported["digital_source_type"] == "CompositeWithTrainedAlgorithmicMedia"


def test_the_share_of_a_text_that_the_log_does_not_know_is_unknown(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_bytes(PATH.read_bytes())
    run = terminal("release", "text.md", "--by", "Eva", "--json")
    assert json.loads(run.out)["release"]["model_share"] is None
    assert "whose words they are stays unknown" in run.err


def test_what_the_gate_refuses_is_released_only_with_a_waiver(terminal: Terminal, tmp_path: Path) -> None:
    content = PATH.read_text(encoding="utf-8")
    head, _, text = content.rpartition("---\n")
    bad = f"{head}---\n{text.replace(' und ', ' daß ', 1)}"
    (tmp_path / "text.md").write_text(bad, encoding="utf-8")
    run = terminal("release", "text.md", "--by", "Eva")
    assert run.code == 1
    assert "text.md: spelling: " in run.err
    assert (tmp_path / "text.md").read_text(encoding="utf-8") == bad
    run = terminal("release", "text.md", "--by", "Eva", "--waive", "spelling=Ein Zitat")
    assert run.code == 0
    waivers = [{"check": "spelling", "words": ["daß"], "reason": "Ein Zitat"}]
    document = read_document(tmp_path / "text.md")
    assert document.meta["waived"] == document.meta["release"]["waived"] == waivers
    assert ", 1 waived" in terminal("check", "text.md").out


def test_a_text_that_was_changed_after_its_release_is_found(terminal: Terminal, tmp_path: Path) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_bytes(PATH.read_bytes())
    for name in ("a.md", "b.md"):
        terminal("release", name, "--by", "Eva")
    assert terminal("release", "--verify", ".").code == 0
    text = (tmp_path / "b.md").read_text(encoding="utf-8")
    (tmp_path / "b.md").write_text(text.rstrip() + " Ende gut?\n", encoding="utf-8")
    run = terminal("release", "--verify", ".")
    assert run.code == 1
    assert run.out.startswith("b.md: changed after Eva released it at 20")
    assert "a.md: as it was released" in run.err
    assert "c.md: nobody released it" in run.err


def test_a_file_that_cannot_be_read_hides_no_changed_text(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: [\n---\nEin Text.\n", "utf-8")
    (tmp_path / "b.markdown").write_bytes(PATH.read_bytes())
    terminal("release", "b.markdown", "--by", "Eva")
    with (tmp_path / "b.markdown").open("a", encoding="utf-8") as file:
        file.write("Ende gut?\n")
    run = terminal("release", "--verify", ".", "--json")
    (row,) = json.loads(run.out)["texts"]
    assert (run.code, row["file"], row["changed"], row["release"]["by"]) == (2, "b.markdown", True, "Eva")
    assert "a.md:3: not YAML" in run.err
    assert "b.markdown: changed after Eva released it" in run.err


def test_a_refused_release_is_an_object_too(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_bytes(PATH.read_bytes().replace(b" und ", " daß ".encode()))
    run = terminal("release", "text.md", "--by", "Eva", "--json")
    data = json.loads(run.out)
    assert (run.code, data["exit_code"], data["file"]) == (1, 1, "text.md")
    assert "spelling: " in data["error"]


@pytest.mark.parametrize("mark", ["\u00a0", "\u00ad", "\u200f"])
def test_a_released_file_can_be_read_whatever_its_front_matter_has(
    terminal: Terminal, tmp_path: Path, mark: str
) -> None:
    content = PATH.read_text(encoding="utf-8").replace("logline: Nach einem", f"logline: Nach{mark} einem")
    head, _, text = content.partition("storylines:")
    waiver = "waived:\n- {check: spelling, words: [daß], reason: Ein Zitat}\nprompt: {name: synopsis}\n"
    (tmp_path / "text.md").write_text(f"{head}{waiver}storylines:{text}".replace(" und ", " daß ", 1), "utf-8")
    for _ in range(2):
        assert terminal("release", "text.md", "--by", "Eva").code in {0, 1}
    assert "as it was released" in terminal("release", "--verify", "text.md").err


def test_a_release_is_a_version_of_the_text(terminal: Terminal) -> None:
    written(terminal)
    terminal("release", FILE, "--by", "Eva")
    versions = json.loads(terminal("log", "versions", FILE, "--json").out)["versions"]
    assert [(each["by"], each["request"]) for each in versions] == [
        ("model", {}), ("person", {"released": "Eva"}),
    ]  # fmt: skip
    assert versions[-1]["is_current"]


def test_a_text_that_somebody_edits_meanwhile_is_not_released(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.md").write_bytes(PATH.read_bytes())
    check = Writer.check_sync

    def edit(writer: Writer, document: Document) -> Report:
        report = check(writer, document)
        (tmp_path / "text.md").write_text("Etwas anderes.\n", "utf-8")
        return report

    monkeypatch.setattr(Writer, "check_sync", edit)
    run = terminal("release", "text.md", "--by", "Eva")
    assert (run.code, "text.md: was changed meanwhile" in run.err) == (2, True)
    assert (tmp_path / "text.md").read_text("utf-8") == "Etwas anderes.\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["text.md"], "nobody releases it: give your name with --by"),
        (["text.txt", "--by", "Eva"], "text.txt: cannot hold a record: save the text as Markdown"),
        (["missing.md", "--by", "Eva"], "missing.md: no such file"),
        (["text.md", "--by", "Eva", "--waive", "hook=Egal"], "--waive hook: no such finding refuses"),
        (["text.md", "--by", "Eva", "--verify"], "--verify changes nothing"),
        (["text.md", "--by", "E" * 100_000], "give your name with --by, 200 characters at most"),
        (["empty", "--by", "Eva"], "empty: cannot hold a record: name a file in it, or a batch's row"),
        (["empty", "--verify"], "empty: has no text that could be released: name an .md file"),
        (["missing.md", "--verify"], "missing.md: no such file"),
    ],
)
def test_what_cannot_be_released_is_refused_in_a_line(
    terminal: Terminal, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "text.md").write_bytes(PATH.read_bytes())
    (tmp_path / "empty").mkdir()
    run = terminal("release", *arguments)
    assert (run.code, run.err.count("synopsis: ")) == (2, 1)
    assert reason in run.err
    assert (tmp_path / "text.md").read_bytes() == PATH.read_bytes()


@pytest.mark.parametrize("reason", ["", "=", "= ", f"={'x' * 100_000}"])
def test_a_waiver_needs_a_reason(terminal: Terminal, tmp_path: Path, reason: str) -> None:
    text = PATH.read_text(encoding="utf-8").replace(" und ", " daß ")
    (tmp_path / "text.md").write_text(text, encoding="utf-8")
    run = terminal("release", "text.md", "--by", "Eva", "--waive", f"spelling{reason}")
    assert run.code == 2
    assert "--waive spelling: gives no reason" in run.err


def test_a_name_and_a_reason_are_a_line_that_steers_no_terminal(terminal: Terminal, tmp_path: Path) -> None:
    text = PATH.read_text(encoding="utf-8").replace(" und ", " daß ")
    (tmp_path / "text.md").write_text(text, encoding="utf-8")
    odd = "Eva\n \x1b[31m\u202eMuster"
    assert terminal("release", "text.md", "--by", odd, "--waive", f"spelling={odd}").code == 0
    record = read_document(tmp_path / "text.md").meta["release"]
    assert record["by"] == record["waived"][0]["reason"] == "Eva \ufffd[31m\ufffdMuster"


def test_release_is_a_function_too(tmp_path: Path) -> None:
    file = tmp_path / "text.md"
    file.write_bytes(PATH.read_bytes())
    with Writer(log=False) as writer:
        assert release(file, "Eva", writer=writer)["by"] == "Eva"
        file.write_text("Gesa geht.", encoding="utf-8")
        with pytest.raises(NotReleasedError) as refused:
            release(file, "Eva", writer=writer)
    assert isinstance(refused.value, GateRefusedError)
    assert "length" in {finding.check for finding in refused.value.report.refused}


def test_a_row_of_a_batch_is_released_and_every_export_carries_the_record(terminal: Terminal) -> None:
    brief = {"id": "s01: 7", "show": GOOD.brief.show, "theme": GOOD.brief.theme, "form": GOOD.brief.form}
    (terminal.folder / "briefs.jsonl").write_text(json.dumps(brief), encoding="utf-8")
    with LoopbackServer([Reply(ANSWER)]) as server:
        made = terminal("batch", "run", "briefs.jsonl", "--out", "season", server=server)
        assert made.code == 0, made.err
    run = terminal("release", "season/s01: 7", "--by", "Eva Muster", "--json")
    record = json.loads(run.out)["release"]
    assert (record["by"], record["model_share"], record["person_share"]) == ("Eva Muster", 1.0, 0.0)
    assert record["text_sha256"] == hashlib.sha256(GOOD.synopsis.text.encode()).hexdigest()
    for file_format, output in (("jsonl", "x.jsonl"), ("csv", "x.csv"), ("md", "x")):
        run = terminal("batch", "export", "season", "--format", file_format, "--output", output)
        assert run.code == 0, run.err
    folder = terminal.folder
    assert json.loads((folder / "x.jsonl").read_text("utf-8"))["release"] == record
    [row] = csv.DictReader((folder / "x.csv").read_text("utf-8").splitlines(keepends=True))
    assert json.loads(row["meta"])["release"] == record
    assert json.loads(terminal("release", "--verify", "x", "--json").out)["texts"][0]["release"] == record
    assert json.loads(terminal("export", "season", "--format", "json").out)["release"] == record
    assert terminal("batch", "export", "season", "--format", "parquet", "--output", "x.parquet").code == 0
    [row] = parquet.read_table(folder / "x.parquet").to_pylist()
    assert json.loads(row["meta"])["release"] == record
    assert row["characters"] == [dict(person) for person in GOOD.synopsis.characters]


def test_a_row_that_was_changed_after_its_release_is_found(terminal: Terminal) -> None:
    text = GOOD.synopsis.text
    released = {"release": {"by": "Eva", "at": "2026", "text_sha256": hashlib.sha256(text.encode()).hexdigest()}}
    with BatchStore(terminal.folder / "all" / "season", {}) as store:
        store.fill([BatchRow(name, place, GOOD.brief) for place, name in enumerate("abc", 1)])
        for name in "abc":
            store.save(RowResult(name, "accepted", synopsis=GOOD.synopsis, provenance={} if name == "c" else released))
        store.execute("UPDATE rows SET synopsis = replace(synopsis, 'Elf', 'Zwölf') WHERE id = 'b'")
    (terminal.folder / "all" / "text.md").write_bytes(PATH.read_bytes())
    for where in ("all", "all/season"):
        run = terminal("release", "--verify", where)
        assert (run.code, run.out) == (1, "all/season/b: changed after Eva released it at 2026\n"), run.err
        assert "all/season/a: as it was released" in run.err
        assert "all/season/c: nobody released it" in run.err
        assert ("all/text.md: nobody released it" in run.err) == (where == "all")
    rows = json.loads(terminal("release", "--verify", "all/season/a", "--json").out)["texts"]
    assert rows == [{"file": "all/season/a", "changed": False, **released}]
    assert terminal("release", "--verify", "all/season/d").code == 2


@pytest.mark.parametrize(
    ("row", "by", "message"),
    [("b", "Eva", "has no accepted row 'b'"), ("a", " ", "nobody releases it"), ("a", "Eva", "not released")],
)
def test_a_row_that_cannot_be_released_stays_as_it_was(terminal: Terminal, row: str, by: str, message: str) -> None:
    short = GOOD.synopsis.model_copy(update={"paragraphs": GOOD.synopsis.paragraphs[:1]})
    with BatchStore(terminal.folder / "season", {}) as store:
        store.fill([BatchRow("a", 1, GOOD.brief)])
        store.save(RowResult("a", "accepted", synopsis=short, attempts=(Attempt(1, Answer("x")),)))
    run = terminal("release", f"season/{row}", "--by", by)
    assert (run.code in {1, 2}, message in run.err) == (True, True), run.err
    exported = terminal("batch", "export", "season", "--format", "jsonl", "--output", "-")
    assert "release" not in json.loads(exported.out)
