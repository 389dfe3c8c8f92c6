"""Waivers and accepted words: what a person lets pass, in a file or in the house."""

import json
from pathlib import Path

import pytest

from synopsis_writer.house import load_house
from tests.support.terminal import PATH, Terminal

HEAD, _, TEXT = PATH.read_text(encoding="utf-8").rpartition("---\n")
OLD = TEXT.replace(" und ", " daß ", 1)
WAIVER = 'waived: [{check: spelling, words: "daß", reason: So steht es im Brief}]\n'


def checked(terminal: Terminal, folder: Path, head: str, text: str) -> tuple[int, str]:
    (folder / "text.md").write_text(f"{head}---\n{text}", encoding="utf-8")
    run = terminal("check", "text.md")
    return run.code, run.out


def test_a_finding_is_waived_by_its_words_and_shown_so(terminal: Terminal, tmp_path: Path) -> None:
    assert checked(terminal, tmp_path, HEAD, OLD)[0] == 1
    code, out = checked(terminal, tmp_path, HEAD + WAIVER, OLD)
    assert code == 0
    assert ", 1 waived" in out
    assert "waived: spelling: " in out
    assert "(So steht es im Brief)" in out
    data = json.loads(terminal("check", "text.md", "--json").out)
    (waived,) = [finding for finding in data["findings"] if "waived" in finding]
    assert (waived["check"], waived["passed"], waived["waived"]) == ("spelling", False, "So steht es im Brief")


def test_a_waived_finding_comes_back_when_its_words_change(terminal: Terminal, tmp_path: Path) -> None:
    more = OLD.replace(" und ", " muß ", 1)
    assert checked(terminal, tmp_path, HEAD + WAIVER, more)[0] == 1
    assert checked(terminal, tmp_path, HEAD + WAIVER.replace('"daß"', "[daß, muß]"), more)[0] == 0


def test_a_finding_that_marks_no_words_is_waived_by_its_value(terminal: Terminal, tmp_path: Path) -> None:
    head = HEAD + "waived: [{check: length, words: 12, reason: Kurz}]\n"
    text = "Gesa zählt am Morgen die Schafe und findet dabei den fremden Hund?"
    assert "waived: length: " in checked(terminal, tmp_path, head, text)[1]
    text = text.replace("am Morgen ", "")
    assert "waived: length: " not in checked(terminal, tmp_path, head, text)[1]


@pytest.mark.parametrize(
    ("waiver", "reason"),
    [
        ("waived: [{check: spelling, words: daß}]\n", "reason: field required"),
        ('waived: [{check: spelling, words: daß, reason: ""}]\n', "at least 1 character"),
        ("waived: [{check: speling, words: daß, reason: Ja}]\n", "did you mean 'spelling'?"),
        ("waived: spelling\n", "give check, words and reason"),
        ("waived: [{check: spelling, word: daß, reason: x}]\n", "word"),
    ],
)
def test_a_waiver_that_cannot_be_read_is_refused_with_its_line(
    terminal: Terminal, tmp_path: Path, waiver: str, reason: str
) -> None:
    (tmp_path / "text.md").write_text(f"{HEAD}{waiver}---\n{OLD}", encoding="utf-8")
    run = terminal("check", "text.md")
    assert run.code == 2
    assert f"text.md:{HEAD.count(chr(10)) + 1}: " in run.err
    assert reason in run.err


NEW = tuple("zrwkte plfmxen knrzten wbdlfig qxvyter wlgrumpt brzlitzen kwolpfig".split())
WORDS = [
    "known_words: []          # words of the house\n",
    "known_words: [Moin]  # words of the house\n",
    "known_words:  # words of the house\n  # which are many\n  - Moin\n  - Deern  # a girl\n",
    "known_words:\n- Moin\n",
    "known_words: [\n  Moin,  # words of the house\n  Deern]\n",
    "# no words yet\n",
]


@pytest.mark.parametrize("words", [*WORDS[:3], *(pytest.param(words, marks=pytest.mark.slow) for words in WORDS[3:])])
def test_a_word_is_added_to_the_house_and_its_comments_stay(terminal: Terminal, tmp_path: Path, words: str) -> None:
    file = tmp_path / "house" / "house.yaml"
    file.parent.mkdir()
    before = f"# Our house\nname: haus\n{words}orthography: de-DE  # as ever\n"
    file.write_text(before, encoding="utf-8")
    known = load_house(file).known_words
    strange = TEXT.replace(" und ", f" {' und '.join(NEW)} und ", 1)
    (tmp_path / "text.md").write_text(f"{HEAD}---\n{strange}", encoding="utf-8")
    assert terminal("check", "text.md", "--profile", "house/house.yaml").code == 1
    accepted = [flag for word in NEW for flag in ("--accept-word", word)]
    run = terminal("check", "text.md", "--profile", "house/house.yaml", *accepted)
    assert (run.code, run.out[:15]) == (0, "text.md: passed")
    assert set(load_house(file).known_words) == {*known, *NEW}
    after = file.read_text(encoding="utf-8")
    assert [line for line in before.splitlines() if "#" in line and line.split("#")[1] not in after] == []
    assert terminal("check", "text.md", "--profile", "house/house.yaml", *accepted).code == 0
    assert file.read_text(encoding="utf-8") == after


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--accept-word", "Moin"], "the built-in house cannot be changed: make one of your own"),
        (["--accept-word", "zwei Worte", "--profile", "house.yaml"], "'zwei Worte' is no word"),
        (["--accept-word", "Moin", "--house", "fehlt"], "fehlt: no such folder"),
    ],
)
def test_a_word_that_cannot_be_added_is_refused(
    terminal: Terminal, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "house.yaml").write_text("name: haus\n", encoding="utf-8")
    run = terminal("check", str(PATH), *arguments)
    assert run.code == 2
    assert reason in run.err
    assert (tmp_path / "house.yaml").read_text(encoding="utf-8") == "name: haus\n"
