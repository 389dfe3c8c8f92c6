"""What the gate asks of the texts of a house: length, ending, marks, spelling, headline, actors, levels."""

import json
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.brief import Brief, make_brief
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.form import count_characters
from synopsis_writer.gate.gate import CHECKS, Gate, failures, warnings
from synopsis_writer.house import House, load_house
from synopsis_writer.show import Show
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import Terminal

SHOW = Show(name="Unter uns")
FORM = """\
    purpose: Ein Text.
    words: [5, 400]
    paragraphs: [1, 9]
"""


def house_of(folder: Path, form: str = "", house: str = "") -> House:
    path = folder / "house.yaml"
    path.write_text(f"name: haus\n{house}forms:\n  kurz:\n{FORM}{form}", encoding="utf-8")
    return load_house(path)


def look(own: House, check: str, text: str, **given: Any) -> Finding | None:
    return CHECKS[check](Gate(own).subject(text, "kurz", SHOW, **given))


@pytest.mark.parametrize(
    ("ending", "text", "holds"),
    [
        ("question", "Sie wartet. Kommt er?", True),
        ("question", "Sie wartet. Er kommt …", False),
        ("ellipsis", "Sie wartet. Doch dann …", True),
        ("ellipsis", "Sie wartet. Doch dann...", True),
        ("ellipsis", "Er sagt: „Doch dann …“", True),
        ("ellipsis", "Sie wartet. Kommt er?", False),
        ("ellipsis", "Erst wartet sie … Er kommt.", False),
        ("closed", "Kommt er? Sie wartet.", True),
        ("closed", "Sie wartet. Kommt er?", False),
        ("closed", "Sie wartet. Doch dann …", False),
        ("any", "Sie wartet. Kommt er?", True),
        ("any", "Sie wartet. Doch dann …", True),
        ("any", "Sie wartet.", True),
    ],
)
def test_a_text_ends_as_its_form_says(tmp_path: Path, ending: str, text: str, holds: bool) -> None:
    finding = look(house_of(tmp_path, f"    ending: {ending}\n"), "hook", text)
    assert finding is not None
    assert finding.passed is holds, finding.message


def test_a_single_question_is_never_too_many_unless_none_is_wanted(tmp_path: Path) -> None:
    finding = look(house_of(tmp_path), "hook", "Sie wartet. Kommt er?")
    assert finding is not None
    assert finding.passed
    finding = look(house_of(tmp_path, "    questions: 0\n"), "hook", "Sie wartet. Kommt er?")
    assert finding is not None
    assert not finding.passed


@pytest.mark.parametrize(
    ("raw", "count"),
    [("Grüße.", 6), ("Gru\u0308ße.", 6), ("Sie geht.", 9), ("  Sie\n\ngeht. ", 9), ("Sie  geht.", 9), ("", 0)],
)
def test_characters_are_composed_code_points_with_blanks(raw: str, count: int) -> None:
    assert count_characters(raw) == count


def test_a_length_in_characters_is_held_and_leaves_the_title_out(tmp_path: Path) -> None:
    own = house_of(tmp_path, "    headline: yes\n")
    path = tmp_path / "house.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("words: [5, 400]", "characters: [9, 20]"))
    own = load_house(path)
    assert own.form("kurz").length[1] == "characters"
    for text, holds in (("Sie geht.", True), ("Der Hund\n\nSie geht.", True), ("Sie geht jetzt ganz weg.", False)):
        finding = look(own, "length", text)
        assert finding is not None
        assert finding.passed is holds
    finding = look(own, "length", "Sie geht.")
    assert finding is not None
    assert finding.limit == "9 to 20 characters"


def test_a_brief_goes_before_the_forms_length(tmp_path: Path) -> None:
    own = house_of(tmp_path)
    for brief, holds in (
        (Brief(show="S", theme="T", form="kurz", words=(5, 6)), True),
        (Brief(show="S", theme="T", form="kurz", words=(50, 60)), False),
        (make_brief(show="S", theme="T", form="kurz", character_count="20-40"), True),
        (make_brief(show="S", theme="T", form="kurz", character_count="100-140"), False),
    ):
        finding = look(own, "length", "Sie geht nun nach Hause.", brief=brief)
        assert finding is not None
        assert finding.passed is holds


@pytest.mark.parametrize(
    ("marks", "right", "wrong"),
    [
        ("„ “", "Er sagt: „Komm.“", ["Er sagt: «Komm.»", "Er sagt: »Komm.«", 'Er sagt: "Komm."']),
        ("» «", "Er sagt: »Komm.«", ["Er sagt: «Komm.»", "Er sagt: „Komm.“", 'Er sagt: "Komm."']),
        ("« »", "Er sagt: «Komm.»", ["Er sagt: »Komm.«", "Er sagt: „Komm.“", 'Er sagt: "Komm."']),
        ("“ ”", "Er sagt: “Komm.”", ["Er sagt: «Komm.»", "Er sagt: „Komm.“", 'Er sagt: "Komm."']),
        ('" "', 'Er sagt: "Komm."', ["Er sagt: «Komm.»", "Er sagt: „Komm.“", "Er sagt: “Komm.”"]),
    ],
)
def test_only_the_houses_quotation_marks_are_prose(tmp_path: Path, marks: str, right: str, wrong: list[str]) -> None:
    own = house_of(tmp_path, house=f"quotation_marks: '{marks}'\n")
    finding = look(own, "markup", right)
    assert finding is not None
    assert finding.passed, finding.message
    subject = Gate(own).subject(right, "kurz", SHOW)
    assert [right[start:end] for start, end in subject.text.quotes] == [right[9:]]
    for text in wrong:
        finding = look(own, "markup", text)
        assert finding is not None
        assert f"quotation marks other than {marks}: write plain prose." in finding.sentence


def test_a_swiss_house_writes_ss_and_the_finding_brings_its_fix(tmp_path: Path) -> None:
    text = "Auf der Straße gießt Frau Weiß die Geranien."
    swiss = house_of(tmp_path, house="orthography: de-CH\n")
    finding = look(swiss, "umlauts", text, people=("Anna Weiß",))
    assert finding is not None
    assert not finding.passed
    assert [(text[slice(*fix.span)], fix.text) for fix in finding.fixes] == [("Straße", "Strasse"), ("gießt", "giesst")]
    assert Finding.from_data(json.loads(json.dumps(finding.as_data()))) == finding
    fixed = text.replace("Straße", "Strasse").replace("gießt", "giesst")
    held = look(swiss, "umlauts", fixed, people=("Anna Weiß",))
    assert held is not None
    assert held.passed
    german = look(house_of(tmp_path), "umlauts", fixed, people=("Anna Weiß",))
    assert german is not None
    assert not german.passed


_MORE = "Der Arzt sucht seit Jahren jemanden, der die Praxis im Tal übernimmt. Die Jungen loben die Aussicht. " * 2


@pytest.mark.parametrize(
    ("check", "text", "holds"),
    [
        # A sentence that its speaker interrupts is one.
        ("dialogue", f"{_MORE}„Ich mache keinem einen Vorwurf“, sagt er, „aber krank wird man am Sonntag.“", True),
        ("dialogue", f"{_MORE}„Ich mache keinem einen Vorwurf“, sagt er. „Krank wird man auch am Sonntag.“", False),
        # Actors are no part of a sentence.
        ("rhythm", f"{_MORE}Es sucht Ida (Rosa Blum) {'den Hund ' * 17}mit Max (Jan van der Laan).", True),
        ("rhythm", f"{_MORE}Es sucht Ida und Rosa Blum {'den Hund ' * 17}mit Max und Jan van der Laan.", False),
        # A single sentence shows no mean.
        ("rhythm", f"Es sucht Ida {'den Hund ' * 17}mit Max.", True),
        ("rhythm", f"Es sucht Ida {'den Hund ' * 17}mit Max. " * 2, False),
        ("rhythm", "Ida sucht Max. Max geht.", False),
        # Two unknown words with capitals may be names.
        ("spelling", f"{_MORE}Im Tal von Schlorzau lebt der Glunggepuur.", True),
        ("spelling", f"{_MORE}Im Tal von Schlorzau glunggert der Arzt.", False),
        ("spelling", f"{_MORE}Im Tal von Schlorzau lebt der Glunggepuur mit dem Gwunderfitz.", False),
        ("spelling", f"{_MORE}Kapitän Glunggo ruft Aline Rochattiz, und Hebamme Schlorza ruft Reto Cwamichelt.", True),
    ],
)
def test_counts_what_stands_for_itself(tmp_path: Path, check: str, text: str, holds: bool) -> None:
    finding = look(house_of(tmp_path), check, text)
    assert finding is not None
    assert finding.passed is holds, finding.message


def test_a_known_word_of_the_house_is_no_typing_error(tmp_path: Path) -> None:
    text = "Der Glunggepuur sucht den Schlorzifladen und den Gwunderfitz am See."
    unknown = look(house_of(tmp_path), "spelling", text)
    known = look(
        house_of(tmp_path, house="known_words: [Glunggepuur, Schlorzifladen, Gwunderfitz]\n"), "spelling", text
    )
    assert unknown is not None
    assert known is not None
    assert (unknown.passed, known.passed) == (False, True)


def test_a_headline_is_wanted_allowed_or_a_finding(tmp_path: Path) -> None:
    text = "Der alte Hund\n\nSie geht mit ihm an den Fluss."
    with_headline = house_of(tmp_path, "    headline: yes\n")
    subject = Gate(with_headline).subject(text, "kurz", SHOW)
    assert subject.title == "Der alte Hund"
    assert len(subject.text.words) == 7
    assert text[subject.text.words[0].span.start :].startswith("Sie geht")
    for form, raw, check, holds in (
        ("yes", text, "headline", True),
        ("yes", text, "markup", True),
        ("yes", "Sie geht an den Fluss.", "headline", False),
        ("either", text, "markup", True),
        ("no", text, "markup", False),
    ):
        finding = look(house_of(tmp_path, f"    headline: {form}\n"), check, raw)
        assert finding is not None
        assert finding.passed is holds
    assert look(house_of(tmp_path, "    headline: either\n"), "headline", text) is None


def test_actors_stand_in_brackets_where_the_house_has_them(tmp_path: Path) -> None:
    text = "Gesa Meinecke (Anna von Brandt) wartet am Ufer auf den alten Kahn."
    never = look(house_of(tmp_path, "    actors_in_brackets: no\n"), "actors", text)
    assert never is not None
    assert "Anna von Brandt" in never.message
    wanted = house_of(tmp_path, "    actors_in_brackets: yes\n")
    brief = make_brief(show="S", theme="T", form="kurz", notes="Es spielen: Gesa Meinecke (Anna von Brandt).")
    held = look(wanted, "actors", text, brief=brief)
    assert held is not None
    assert held.passed
    missing = look(wanted, "actors", "Gesa Meinecke wartet am Ufer.", brief=brief)
    assert missing is not None
    assert "put „Anna von Brandt“ in brackets" in missing.sentence
    assert look(wanted, "actors", text) is None  # nobody can know them
    assert look(house_of(tmp_path), "actors", text) is None
    assert "Anna von Brandt" in Gate(wanted).subject(text, "kurz", SHOW).known_names


LONG = "Sie geht. " * 3


def test_levels_refuse_warn_or_are_silent(tmp_path: Path) -> None:
    own = house_of(tmp_path, "    checks: {person: warning, repetition: off}\n")
    findings = Gate(own).judge(Gate(own).subject(f"Ich gehe fort. {LONG}", "kurz", SHOW))
    assert "person" not in {finding.check for finding in failures(findings)}
    assert [(finding.check, finding.level) for finding in warnings(findings)] == [("person", "warning")]
    assert "repetition" not in {finding.check for finding in findings}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "haus"
    (folder / "unter-uns").mkdir(parents=True)
    house_of(folder, "    checks: {person: warning, rhythm: off, repetition: off}\n    ending: any\n")
    return folder


def test_check_reports_a_warning_and_passes(terminal: Terminal, own: Path) -> None:
    file = own / "text.txt"
    file.write_text("Gesa wartet am Ufer. Ich sehe ihr dabei zu.", encoding="utf-8")
    run = terminal("check", str(file), "--house", str(own))
    assert run.code == 0
    assert "checks as kurz, the form that fits best, 1 warning" in run.out
    assert "warning: person: The text leaves the third person: „Ich“." in run.out
    assert "::warning file=" in terminal("check", str(file), "--house", str(own), "--format", "github").out
    found = json.loads(terminal("check", str(file), "--house", str(own), "--json").out)
    assert found["passed"] is True
    assert [f["level"] for f in found["findings"] if not f["passed"]] == ["warning"]


def answer(text: str) -> str:
    people = [{"name": "Gesa Meinecke", "role": "Schäferin"}]
    paragraphs = [{"storyline": "A", "text": text}]
    fields = {"title": "Am Ufer", "logline": "Gesa wartet am Ufer auf ihn.", "characters": people}
    return json.dumps({**fields, "paragraphs": paragraphs}, ensure_ascii=False)


def test_a_warning_reaches_the_person_and_the_repair_and_never_refuses(terminal: Terminal, own: Path) -> None:
    warned = "Gesa Meinecke wartet am Ufer. Ich sehe ihr dabei zu."
    refused = f"{warned} Das ist **wichtig**."
    order = ("--show", "Unter uns", "--theme", "Gesa wartet am Ufer", "--model", "m", "--house", str(own))
    with LoopbackServer([Reply(answer(refused)), Reply(answer(warned))]) as server:
        run = terminal("write", *order, server=server)
    assert run.code == 0, run.err
    repair = server.chats[-1].body["messages"][-1]["content"]
    assert "markup:" in repair
    assert "- person: Der Text" in repair
    assert "accepted, with warnings; person:" in run.err
    saved = next((terminal.folder / "synopsen").rglob("*.md")).read_text(encoding="utf-8")
    assert "person: 'warning: The text leaves the third person" in saved


def test_a_house_begins_without_examples(terminal: Terminal, own: Path) -> None:
    run = terminal("prompt", "--show", "Unter uns", "--theme", "Ein Fest", "--house", str(own))
    assert run.code == 0, run.err
    assert "with 0 examples" in run.err
    assert "Ein Text." in run.out
    assert "5 bis 400 Wörter." in run.out
    assert '"Form": "kurz"' in run.out


ORDER = ("--show", "X", "--theme", "Y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("write", "--show", "X", "--theme", "Y", "--form", "kurtz"), "no form 'kurtz': did you mean 'kurz'?"),
        (("prompt", "--show", "X", "--theme", "Y", "--form", "teaser"), "the forms of the house 'haus' are kurz"),
        (("examples", "list", "--form", "week"), "no form 'week'"),
        (("house", "show", "--form", "week"), "no form 'week'"),
        (("batch", "run", "briefs.csv", "--out", "b", "--model", "m"), "briefs.csv:2: form: no form 'lang'"),
    ],
)
def test_a_form_that_the_house_does_not_have_is_refused_in_a_line(
    terminal: Terminal, own: Path, arguments: tuple[str, ...], message: str
) -> None:
    (terminal.folder / "briefs.csv").write_text("show,theme,form\nX,Y,lang\n", encoding="utf-8")
    run = terminal(*arguments, "--house", str(own), OPENAI_API_KEY="k")
    assert run.code == 2
    assert message in run.err
    assert "Traceback" not in run.err


def test_the_older_flags_go_on_working_and_say_what_to_use_now(terminal: Terminal, own: Path) -> None:
    order = ("prompt", "--show", "Unter uns", "--theme", "Ein Fest")
    run = terminal(*order, "--examples", str(Path("examples").resolve()))
    assert run.code == 0, run.err
    assert "--examples still works; --house FOLDER takes its place" in run.err
    text = own / "t.txt"
    text.write_text("Gesa wartet.", encoding="utf-8")
    run = terminal("check", str(text), "--profile", str(own / "house.yaml"))
    assert run.code == 1
    assert "--profile still works; --house FOLDER takes its place" in run.err


def test_house_show_prints_rules_or_all_limits(terminal: Terminal, own: Path) -> None:
    run = terminal("house", "show", "--house", str(own))
    assert "haus: de-DE, marks „ “, known words: none" in run.out
    assert "kurz: Ein Text.\n- 5 bis 400 Wörter." in run.out
    assert "- person: warning" in run.out
    data = json.loads(terminal("house", "show", "--house", str(own), "--json").out)
    assert data["forms"]["kurz"]["words"] == [5, 400]
    assert data["forms"]["kurz"]["checks"]["rhythm"] == "off"


def complete(words: str, terminal: Terminal) -> list[str]:
    run = terminal.process(
        _SYNOPSIS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
    )
    return run.out.split()


def test_completion_knows_the_forms_of_the_house(terminal: Terminal, own: Path) -> None:
    assert complete("synopsis write --form t", terminal) == ["teaser"]
    assert complete(f"synopsis write --house {own} --form k", terminal) == ["kurz"]
    assert complete("synopsis write --house nirgends --form k", terminal) == []


def test_every_command_that_needs_a_house_takes_it(terminal: Terminal) -> None:
    commands = """write, outline, prompt, check, house show, batch run, batch submit, batch fetch, eval run,
        eval score, eval compare, eval bless, eval report, eval export, eval judge-check, examples list,
        examples show, examples check, examples add""".split(",")
    lacking = [each for each in commands if "--house" not in terminal(*each.split(), "--help").out]
    assert lacking == []


DOCS = (Path(__file__).parents[1] / "docs" / "house.md").read_text(encoding="utf-8")


def test_the_house_of_the_docs_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text(DOCS.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    own = load_house(tmp_path)
    assert list(own.forms) == ["kurz", "epg"]
    assert own.form("kurz").actors_in_brackets == "yes"


def test_the_output_in_the_docs_is_true(terminal: Terminal) -> None:
    command, shown = DOCS.split("```console\n$ synopsis ")[1].split("```")[0].split("\n", 1)
    assert terminal(*command.split()).out == shown


def test_the_hint_of_an_older_flag_is_printed_once(terminal: Terminal) -> None:
    run = terminal("examples", "list", "--form", "episode", "--examples", str(Path("examples").resolve()))
    assert (run.code, run.err.count("still works")) == (0, 1)
