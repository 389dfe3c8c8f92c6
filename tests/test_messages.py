"""Findings in the reader's language, and repairs in German, whatever the reader's language is."""

import json
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from synopsis_writer.gate.finding import Finding, Language, check_names, worded
from synopsis_writer.gate.gate import failures
from synopsis_writer.gate.lexicon import word_lists
from synopsis_writer.house import CHECK_NAMES
from synopsis_writer.models.base import Answer
from synopsis_writer.result import Attempt
from synopsis_writer.settings import load_settings
from synopsis_writer.synopsis import Synopsis
from tests.corpus.damage.table import DAMAGES, Damage
from tests.corpus.measure import damaged, gate, subject_of
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, CLOSED, FILE, ORDER, PATH, Terminal

ENGLISH = re.compile(r"\b(?:the|of|is|are|and|with|words|most|at|least|to|from)\b")
QUOTED = re.compile(r"„.*“|\w+(?:-\w+)*/[\w-]+|prompt \w+", re.DOTALL)


def findings(damage: Damage, language: Language) -> list[Finding]:
    return [
        finding
        for _, draft in islice(damaged(damage), 2)
        for finding in replace(gate(), lang=language).judge(subject_of(draft))
    ]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_every_finding_is_german_and_says_what_to_do(damage: Damage) -> None:
    german = findings(damage, "de")
    english = findings(damage, "en")
    assert [(one.check, one.passed, one.spans) for one in german] == [
        (one.check, one.passed, one.spans) for one in english
    ]
    for one, other in zip(german, english, strict=True):
        assert ENGLISH.findall(QUOTED.sub("", f"{one.limit} {one.message} {one.hint}")) == []
        if not one.passed:
            assert one.hint
            assert other.hint
            assert one.message != other.message
            assert one.repair == other.repair
            assert one.repair.startswith(one.message)
            assert one.repair.endswith(one.hint)


def test_a_repair_quotes_the_sentence_and_says_what_would_do() -> None:
    (damage,) = [each for each in DAMAGES if each.name == "reader addressed"]
    (repair,) = {one.repair for one in failures(findings(damage, "en")[:25]) if one.check == "person"}
    assert re.search(r"verlässt die dritte Person: „.+“\. Im Satz: „.+[.!?]“ Erzähle von Menschen", repair)


def test_a_recorded_repair_is_repeated() -> None:
    """A batch records what an attempt tells the model, and repairs with it later."""
    (damage,) = [each for each in DAMAGES if each.name == "reader addressed"]
    refused = Attempt(1, Answer(""), problem="", findings=tuple(findings(damage, "en")[:25]))
    recorded = Attempt.recorded(1, Answer(""), problems=refused.repairs)
    assert recorded.repairs == refused.repairs


def test_what_the_table_lacks_is_shown_as_the_check_says_it() -> None:
    own = Finding("own", False, 1, "few", "A check of your own: see there.")
    assert worded(own, None, "de").message == own.message


@pytest.mark.parametrize(("key", "lines"), word_lists("messages").items())
def test_german_takes_the_same_placeholders(key: str, lines: list[str]) -> None:
    if key.startswith("held") or len(lines) == 1:
        assert len(lines) == 1
        return
    english, german = (set(re.findall(r"\{(\w+)", line)) for line in lines)
    assert english == german
    assert (" | " in lines[0]) == (" | " in lines[1])


def test_what_the_log_says_takes_the_same_values_in_german() -> None:
    for english, (german,) in word_lists("status_de").items():
        assert re.findall("%.", english) == re.findall("%.", german)


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de_AT.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "de_CH"}, "de"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "SYNOPSIS_LANG": "en"}, "en"),
        ({"SYNOPSIS_LANG": "de"}, "de"),
        ({}, "en"),
    ],
)
def test_the_locale_is_the_default(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str) -> None:
    for name in ("LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings({}).lang == language


def test_check_speaks_the_readers_language(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "text.md").write_text(PATH.read_text(encoding="utf-8").replace("?", "."), encoding="utf-8")
    run = terminal("check", "text.md", SYNOPSIS_LANG="de")
    assert "hook: Die Form portrait endet offen. Stelle in den letzten Sätzen eine Frage." in run.out
    run = terminal("check", "text.md", SYNOPSIS_LANG="en")
    assert "hook: The form portrait ends open: put a question into the last sentences." in run.out
    (finding,) = [
        each for each in json.loads(terminal("check", "text.md", "--json").out)["findings"] if not each["passed"]
    ]
    assert finding["message"] == "The form portrait ends open"
    assert finding["hint"] == "put a question into the last sentences."


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_model_is_always_asked_in_german(terminal: Terminal, language: str) -> None:
    with LoopbackServer([Reply("Gern!"), Reply(CLOSED), Reply(ANSWER)]) as server:
        terminal("write", *ORDER, server=server, SYNOPSIS_LANG=language)
    bodies = [request.body["messages"][-1]["content"] for request in server.requests]
    assert "Gib genau ein JSON-Objekt in der verlangten Form" in bodies[1]
    assert "hook: Die Form portrait endet offen. Im Satz: „" in bodies[2]
    assert "Stelle in den letzten Sätzen eine Frage." in bodies[2]


@pytest.mark.parametrize(
    ("text", "flags", "verdict"),
    [
        (CLOSED, ("--form", "portrait"), "abgelehnt von 1 von {count} Prüfungen als portrait"),
        (ANSWER, ("--form", "portrait"), "besteht alle {count} Prüfungen als portrait"),
        (ANSWER, (), "besteht alle {count} Prüfungen als episode, die Form, die am besten passt"),
    ],
)
def test_the_verdict_is_in_the_readers_language(
    terminal: Terminal, tmp_path: Path, text: str, flags: tuple[str, ...], verdict: str
) -> None:
    (tmp_path / "text.txt").write_text(Synopsis.model_validate_json(text).text, encoding="utf-8")
    line, *_ = terminal("check", "text.txt", *flags, SYNOPSIS_LANG="de").out.splitlines()
    assert re.sub(r"\d+ (?=Prüfungen)", "{count} ", line) == f"text.txt: {verdict}"


def test_warnings_and_waivers_are_named_in_the_readers_language(terminal: Terminal, tmp_path: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    checks = "{hook: warning}"
    (house / "house.yaml").write_text(f"name: h\nforms:\n  portrait:\n    checks: {checks}\n", "utf-8")
    closed = Synopsis.model_validate_json(CLOSED).text
    (tmp_path / "text.md").write_text(closed, "utf-8")
    out = terminal("check", "text.md", "--form", "portrait", "--house", "house", SYNOPSIS_LANG="de").out
    assert ", 1 Warnung" in out
    assert "\nWarnung: hook: Die Form portrait endet offen." in out


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("de", "change: Was neu zu schreiben war, ist wie zuvor."),
        ("en", "change: What was to be rewritten is the same as before"),
    ],
)
def test_what_a_wish_asks_for_is_missed_in_the_readers_language(
    terminal: Terminal, language: str, sentence: str
) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        flags = ["--note", "kürzer", "--attempts", "1"]
        run = terminal("revise", FILE, *flags, server=server, SYNOPSIS_LANG=language)
    assert run.code == 1
    assert sentence in run.err


def test_every_check_has_a_name_in_both_languages() -> None:
    names = check_names()
    assert names.keys() == {*CHECK_NAMES, "structure"}
    assert all(german and english and english != name for name, (german, english) in names.items())
