"""The arc of a season: later rows are given what earlier ones establish, in order."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, CLOSED, GOOD, Run, Terminal

FACTS = """\
eins:
  - Ben Ahrens hat den weißen Hund ins Rosenhaus gebracht.
  - Amelie Scholz weiß nichts davon.
zwei: Der Hund heißt jetzt Schneeball.
"""
BEFORE = "Was bisher geschah (es gilt weiter und wird nicht noch einmal erzählt)"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    theme = GOOD.brief.theme
    lines = [
        f"{name};{show};{theme};portrait"
        for name, show in (
            ("eins", "Rote Rosen"),
            ("anders", "Sturm der Liebe"),
            ("zwei", "rote rosen"),
            ("drei", "Rote Rosen"),
        )
    ]
    (tmp_path / "briefs.csv").write_text("\n".join(["id;show;theme;form", *lines]), encoding="utf-8")
    (tmp_path / "arc.yaml").write_text(FACTS, encoding="utf-8")
    return Terminal(tmp_path)


def run(terminal: Terminal, answers: list[str], *flags: str) -> tuple[Run, list[dict[str, list[str]]]]:
    """Run the batch; return what the command printed, and the brief of each request."""
    always = ("--attempts", "1", "--variety", "off", "--disable", "cast", "--arc", "arc.yaml")
    with LoopbackServer([Reply(answer) for answer in answers], repeat_last=False) as server:
        done = terminal("batch", "run", "briefs.csv", "--out", "out", *always, *flags, server=server)
        asked = [request.body["messages"][-1]["content"] for request in server.chats]
    return done, [json.loads(text.split("<auftrag>")[1].split("</auftrag>")[0]) for text in asked]


def test_later_rows_of_a_show_get_facts_and_texts_in_order(terminal: Terminal) -> None:
    done, briefs = run(terminal, [ANSWER] * 4, "--concurrency", "8")
    assert (done.code, len(briefs)) == (0, 4)
    first, other, second, third = briefs
    assert first["Szenen"] == [
        "Ben Ahrens hat den weißen Hund ins Rosenhaus gebracht.",
        "Amelie Scholz weiß nichts davon.",
    ]
    assert BEFORE not in first
    assert BEFORE not in other
    assert "Szenen" not in other
    told = f"„{GOOD.synopsis.title}“: {GOOD.synopsis.logline}"
    assert second[BEFORE] == [told, *first["Szenen"]]
    assert second["Szenen"] == ["Der Hund heißt jetzt Schneeball."]
    assert third[BEFORE] == [told, *first["Szenen"], told, "Der Hund heißt jetzt Schneeball."]
    assert "Szenen" not in third


def test_a_refused_rows_facts_are_passed_on_and_its_text_is_not(terminal: Terminal) -> None:
    done, briefs = run(terminal, [CLOSED, ANSWER, ANSWER], "--limit", "3")
    assert done.code == 1
    assert briefs[2][BEFORE] == briefs[0]["Szenen"]


def test_a_batch_continues_with_what_was_established_before(terminal: Terminal, tmp_path: Path) -> None:
    run(terminal, [ANSWER] * 2, "--limit", "2")
    more = FACTS + "drei:\n  - Der Hund läuft fort.\n"
    (tmp_path / "arc.yaml").write_text(more, encoding="utf-8")  # a season's arc grows
    done, briefs = run(terminal, [ANSWER] * 2)
    assert done.code == 0
    assert briefs[1]["Szenen"] == ["Der Hund läuft fort."]
    assert len(briefs[1][BEFORE]) == 5
    database = sqlite3.connect(tmp_path / "out" / "batch.sqlite3")
    assert [row[0] for row in database.execute("SELECT status FROM rows")] == ["accepted"] * 4
    database.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vier: Der Hund ist da.", "arc.yaml: the batch has no row 'vier'"),
        ("- eins", "arc.yaml:1: no fields found"),
        ("eins: [1, 2]", "arc.yaml:1"),
        ("eins: ''", "is empty"),
        ("eins:\n" + "- Ein Satz zu viel.\n" * 21, "row 'eins' has 21 beats and facts"),
    ],
    ids=["unknown row", "a list", "no text", "empty", "too many in a row"],
)
def test_a_wrong_arc_is_reported_before_anything_is_asked_and_can_be_corrected(
    terminal: Terminal, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "arc.yaml").write_text(text, encoding="utf-8")
    done, briefs = run(terminal, [])
    assert (done.code, len(done.err.splitlines()), briefs) == (2, 1, [])
    assert message in done.err
    (tmp_path / "arc.yaml").write_text(FACTS, encoding="utf-8")
    assert run(terminal, [ANSWER] * 4)[0].code == 0


def test_briefs_may_be_corrected_before_anything_was_made(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "arc.yaml").write_text("nichts: Da ist ein Hund.", encoding="utf-8")
    assert run(terminal, [])[0].code == 2
    theme = GOOD.brief.theme
    (tmp_path / "briefs.csv").write_text(f"id;show;theme;form\nnichts;Rote Rosen;{theme};portrait\n", encoding="utf-8")
    done, briefs = run(terminal, [ANSWER])
    assert (done.code, len(briefs)) == (0, 1)
    assert done.out.startswith("1 row: 1 accepted")


def test_more_facts_of_a_show_than_a_brief_can_have_are_reported(terminal: Terminal, tmp_path: Path) -> None:
    names = [f"folge-{number}" for number in range(6)]
    rows = [f"{name};Rote Rosen;{GOOD.brief.theme};portrait" for name in names]
    (tmp_path / "briefs.csv").write_text("\n".join(["id;show;theme;form", *rows]), encoding="utf-8")
    facts = "".join(f"- Der Hund bellt zum {number}. Mal.\n" for number in range(1, 21))
    (tmp_path / "arc.yaml").write_text("".join(f"{name}:\n{facts}" for name in names), encoding="utf-8")
    done, _ = run(terminal, [])
    assert done.code == 2
    assert "more than 100 facts of 'Rote Rosen' up to row 'folge-5'" in done.err


def test_a_batch_that_was_started_with_an_arc_is_not_continued_without_it(terminal: Terminal) -> None:
    run(terminal, [ANSWER], "--limit", "1")
    for command in ("run", "submit"):
        done = terminal(
            "batch", command, "briefs.csv", "--out", "out", "--disable", "cast", "--model", "gpt-5.4-mini",
            OPENAI_API_KEY="sk-secret",
        )  # fmt: skip
        assert done.code == 2
        assert "arc changed from given to not given since this batch began" in done.err
