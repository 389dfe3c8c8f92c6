"""Fixes: what code puts right in a text, in an answer and in a file, and that it does nothing else."""

import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synopsis_writer.gate.fixes import apply_fixes, counted, fix
from synopsis_writer.gate.gate import Gate
from synopsis_writer.gate.sources import index_sources
from synopsis_writer.house import built_in_house
from synopsis_writer.show import generic_show
from tests.corpus.measure import good_texts
from tests.houses.corpora import HOUSES, load
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, GOOD, ORDER, PATH, Terminal

MARKS = {"presse": "„“", "schweiz": "«»", "epg": "„“"}

CASES = [
    ("„“", 'Er ruft: "Komm!", und geht.', "Er ruft: „Komm!“, und geht."),
    ("„“", "Er ruft: »Komm!« Sie: «Nein.»", "Er ruft: „Komm!“ Sie: „Nein.“"),
    ("„“", "Er ruft: “Komm!” Sie: ”Nein.”", "Er ruft: „Komm!“ Sie: „Nein.“"),
    ("„“", 'Er ruft: „Komm!” Sie: „Nein."', "Er ruft: „Komm!“ Sie: „Nein.“"),
    ("„“", "Er ruft: ,,Komm!'' und geht.", "Er ruft: „Komm!“ und geht."),
    ("„“", "Er ruft: « Komm » und geht.", "Er ruft: „Komm“ und geht."),
    ("„“", "Das Boot 'Ida' liegt im Hafen.", "Das Boot „Ida“ liegt im Hafen."),
    ("„“", "Er ruft: \"Sie sagt 'nein' dazu.\"", "Er ruft: „Sie sagt ‚nein‘ dazu.“"),
    ("«»", "Er ruft: „Sie sagt ‚nein‘ dazu.“", "Er ruft: «Sie sagt ‹nein› dazu.»"),
    ("»«", 'Er ruft: "Komm!"', "Er ruft: »Komm!«"),
    ("“”", "Er ruft: „Komm!“", "Er ruft: “Komm!”"),
    ('""', "Er ruft: „Komm!“", 'Er ruft: "Komm!"'),
    ("„“", "Wie geht's? So geht`s, so geht´s.", "Wie geht’s? So geht’s, so geht’s."),
    ("„“", "Hans' Hund bellt, 's ist Nacht.", "Hans’ Hund bellt, ’s ist Nacht."),
    ("„“", "Die A\u0308rztin und der Cafe\u0301wirt.", "Die Ärztin und der Caféwirt."),
    ("„“", "Das Kranken\u00adhaus\u200b \ufeffbrennt.", "Das Krankenhaus brennt."),
    ("„“", "Um 8\u202fUhr \u2009 geht  sie.", "Um 8 Uhr geht sie."),
    ("„“", "Komm\u202f! Wohin\u202f?", "Komm! Wohin?"),
    ("„“", "  Sie geht. \nEr bleibt.\t", "Sie geht.\nEr bleibt."),
    ("„“", "Sie geht - langsam -- nach Hause.", "Sie geht – langsam – nach Hause."),
    ("„“", "Sie geht -, er bleibt.", "Sie geht –, er bleibt."),
    ("„“", "Sie wartet... und wartet. . .", "Sie wartet… und wartet…"),
    ("„“", "Sie geht durch den\x0blangen Flur.", "Sie geht durch den langen Flur."),
    ("„“", "Sie geht durch den\nlangen Flur.", "Sie geht durch den langen Flur."),
    ("„“", "Gut.\n\nAm Morgen geht sie durch den langen, kalten\nFlur.", None),
]
CLEAN = [
    ("„“", "Er ruft: „Komm!“ Die Kinder- und Jugendzeit, ein- oder zweimal, 20-Uhr-Zug."),
    ("„“", 'Er ruft: "Komm! Und geht.'),  # which of them is missing, a person must say
    ("„“", "Er ruft: „Komm! Und geht.“ Sie: „Nein."),
    ("„“", "Der weiße Hund\nGesa geht."),
    ("„“", "Es gibt:\n- eine Liste\n- zwei"),
    ("„“", "# Titel der Geschichte, die von einem Hund erzählt\nGesa geht."),
    ("„“", "Sie geht.\nEr bleibt."),
    ("„“", "Er kam am 3. 4. in die 5. Straße. Dann …"),
    ("„“", '<a href="x">y</a> {"a": "b"}'),
    ("„“", 'print("hallo")\nif x == "y": return \'z\''),
    ("„“", ""),
    ("«»", "Er ruft: «Sie sagt ‹nein› dazu.»"),
]


@pytest.mark.parametrize(("marks", "wrong", "right"), CASES)
def test_a_fault_is_put_right(marks: str, wrong: str, right: str | None) -> None:
    right = wrong.replace("n\nF", "n F") if right is None else right
    fixed, fixes = fix(wrong, marks)
    assert fixed == right
    assert apply_fixes(wrong, fixes) == right
    assert fix(fixed, marks) == (fixed, ())
    assert sum(counted(fixes).values()) == len(fixes) > 0


@pytest.mark.parametrize(("marks", "text"), CLEAN)
def test_what_needs_judgement_stays(marks: str, text: str) -> None:
    assert fix(text, marks) == (text, ())


def test_a_name_keeps_the_apostrophe_it_was_given_with() -> None:
    fixed, _ = fix("Sean O'Brien sagt, so geht's.", given=["Sean O'Brien"])
    assert fixed == "Sean O'Brien sagt, so geht’s."


@pytest.mark.parametrize("house", HOUSES)
def test_good_texts_of_the_houses_stay(house: str) -> None:
    texts = [*load(house).learn, *load(house).judge]
    assert [text.id for text in texts if fix(text.text, MARKS[house])[1]] == []


def test_good_texts_of_the_corpus_stay() -> None:
    assert [text.id for text in good_texts() if fix(text.synopsis.text)[1]] == []


PIECES = st.sampled_from(
    "Gesa|geht's|Hans'|der Hund| - | -- |...|. . .|\"|'|„|“|”|»|«|‚|‘|’|›|‹|,,|``|''|\n|\n\n| |  |\u202f"
    "|\u00a0|\u00ad|a\u0308|\u200b|. |, |!|?|-|#|(|)|[|1.|é|<|\t|ß|\ud800|´".split("|")
)


HOUSE_MARKS = st.sampled_from(["„“", "«»", "»«", "“”", '""'])


def words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFC", re.sub("[\u00ad\u200b\u2060\ufeff]", "", text))
    return re.findall(r"[^\W_]+", plain)


@given(st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join), HOUSE_MARKS)
@example("„\u00ad“", "„“")
def test_any_fixed_text_has_nothing_to_fix_and_its_words(text: str, marks: str) -> None:
    fixed, fixes = fix(text, marks)
    assert fix(fixed, marks) == (fixed, ())
    assert apply_fixes(text, fixes) == fixed
    assert words(fixed) == words(text)
    assert all(one.span.end <= other.span.start for one, other in pairwise(fixes))


def test_write_fixes_before_it_judges_and_reports_it(terminal: Terminal, tmp_path: Path) -> None:
    data = json.loads(ANSWER)
    data["paragraphs"][0]["text"] += ' Sie ruft: "Komm her!" - laut...'
    answer = json.dumps(data, ensure_ascii=False).replace("Schäferin", "Schäfe\u00adrin", 1)
    with LoopbackServer([Reply(answer)]) as server:
        run = terminal("write", *ORDER, "--json", server=server)
    printed = json.loads(run.out)
    assert run.code == 0
    assert len(server.requests) == 1
    assert printed["fixed"] == {"invisible characters": 1, "quotation marks": 2, "dashes": 1, "dots": 1}
    assert printed["history"][0]["fixed"] == printed["fixed"]
    assert printed["history"][0]["answer"] == answer  # as it came
    assert "attempt 1: fixed " in run.err
    assert "quotation marks (2)" in run.err
    assert "Sie ruft: „Komm her!“ – laut…" in printed["text"]
    saved = (tmp_path / printed["path"]).read_text(encoding="utf-8")
    assert "\nfixed:\n" in saved
    assert "Sie ruft: „Komm her!“ – laut…" in saved
    assert "- laut..." in terminal("log", "show", "--json").out


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_check_fixes_a_file_and_leaves_its_front_matter(terminal: Terminal, tmp_path: Path, line_end: str) -> None:
    head, fence, text = PATH.read_text(encoding="utf-8").rpartition("---\n")
    head = head.replace("title:", "title:   ", 1) + fence + "\n"
    text = text.strip().replace(", ", " -, ", 1).replace(" und ", "  und ", 2)
    bad = f"{head}{text}\n".replace("\n", line_end).encode()
    good = bad.replace(b" -, ", " –, ".encode()).replace(b"  und ", b" und ")
    file = tmp_path / "text.md"
    file.write_bytes(bad)
    run = terminal("check", "text.md", "--diff")
    assert (run.code, file.read_bytes()) == (0, bad)
    assert {line[:1] for line in run.out.splitlines()} >= {"-", "+", "@", " "}
    run = terminal("check", "text.md")
    assert run.code == 0  # what nothing refuses is a warning
    assert "warning: markup: " in run.out
    run = terminal("check", "text.md", "--fix")
    assert (run.code, file.read_bytes()) == (0, good)
    assert "text.md: fixed " in run.err
    assert terminal("check", "text.md", "--fix").err == ""


@pytest.mark.parametrize("file_format", ["md", "json", "txt"])
def test_check_reads_and_fixes_every_format_that_write_saves(
    terminal: Terminal, tmp_path: Path, file_format: str
) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        terminal("write", *ORDER, "--format", file_format, server=server)
    (path,) = tmp_path.rglob(f"*.{file_format}")
    content = path.read_text(encoding="utf-8")
    run = terminal("check", str(path), "--json", *(ORDER if file_format == "txt" else ()))
    assert run.code == 0, run.out
    first = GOOD.synopsis.text.partition(", ")[0]
    path.write_text(content.replace(f"{first}, ", f"{first} -, "), encoding="utf-8")
    assert terminal("check", str(path), "--fix", "--json").err == f"{path}: fixed dashes (1)\n"
    assert path.read_text(encoding="utf-8") == content.replace(f"{first}, ", f"{first} –, ")


def test_what_write_prints_is_checked_from_a_pipe(terminal: Terminal) -> None:
    for flags in ([], ["--json"]):
        with LoopbackServer([Reply(ANSWER)]) as server:
            out = terminal("write", *ORDER, *flags, server=server).out
        assert terminal("check", "-", *ORDER, stdin=out.encode()).code == 0


def test_the_label_of_a_demo_draft_is_no_part_of_its_text(terminal: Terminal, tmp_path: Path) -> None:
    label = "\n(demo draft: 9 of 300 words by the model, the rest from a scaffold)\n"
    (tmp_path / "demo.txt").write_text(f"Titel\n\n{GOOD.synopsis.text}\n{label}", encoding="utf-8")
    assert terminal("check", "demo.txt", *ORDER).code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-", "--fix"], "-: cannot be changed in place"),
        (["a.csv", "--fix"], "a.csv: cannot be changed in place"),
        (["latin.txt", "--fix"], "latin.txt: is not UTF-8"),
        (["a.csv", "--diff", "--json"], "--diff prints a diff"),
        (["empty"], "empty: holds no text"),
    ],
)
def test_what_cannot_be_fixed_is_refused_in_a_line(
    terminal: Terminal, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "a.csv").write_text("text\nSie geht - langsam.\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("Sie geht - über die Brücke.".encode("cp1252"))
    (tmp_path / "empty").mkdir()
    run = terminal("check", *arguments, stdin=b"Sie geht - langsam.")
    assert run.code == 2
    assert reason in run.err
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "text\nSie geht - langsam.\n"


def test_check_takes_folders_and_a_briefs_length_and_date(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "texte"
    folder.mkdir()
    (folder / "a.md").write_text("Gesa zählt die Schafe. Am 3. Mai läuft die Folge im ZDF.", encoding="utf-8")
    (folder / "b.txt").write_text("Titel\n\nGesa zählt die Schafe, und der Hund bellt.", encoding="utf-8")
    run = terminal("check", "texte", "--json", "--words", "5-20", "--air-date", "3. Mai im ZDF")
    reports = [json.loads(line) for line in run.out.splitlines()]
    assert [Path(report["file"]).name for report in reports] == ["a.md", "b.txt"]
    for report in reports:
        checks = {finding["check"]: finding["passed"] for finding in report["findings"]}
        assert checks["length"]
        assert checks["dates"]
        assert "theme" not in checks
    run = terminal("check", "texte", "--json", "--characters", "20-30")
    lengths = [finding for line in run.out.splitlines() for finding in json.loads(line)["findings"]]
    assert {each["limit"] for each in lengths if each["check"] == "length"} == {"20 to 30 characters"}
    assert terminal("check", "texte", "--words", "20").code == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_what_is_fixed_is_marked_in_the_composed_text_and_fixed_in_the_raw_one(form: Literal["NFC", "NFD"]) -> None:
    text = unicodedata.normalize(form, "Die Ärztin geht  so spät - nach Hause.")
    gate = Gate(built_in_house(), index_sources([]))
    subject = gate.subject(text, "teaser", generic_show("Die Wache"))
    markup = next(finding for finding in gate.judge(subject) if finding.check == "markup")
    marked = [subject.text.raw[slice(*span)] for span in markup.spans]
    assert marked == ([" ", "-"] if form == "NFC" else ["Ä", " ", "ä", "-"])
    assert apply_fixes(text, markup.fixes) == "Die Ärztin geht so spät – nach Hause."
