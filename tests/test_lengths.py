"""One story in every length: forms in bytes, and the receivers' house."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.document import read_document
from synopsis_writer.errors import SettingsError
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import CHECKS, Gate
from synopsis_writer.house import House, load_house
from synopsis_writer.prompts.templates import estimate_tokens, render_rules
from synopsis_writer.settings import folder as shipped
from synopsis_writer.show import Show
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.writer import Writer
from tests.support.forked import Forked
from tests.support.loopback import Fault, LoopbackServer, Reply, Request, Step
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, ORDER, PATH, Terminal

PACKAGED = shipped("examples")
RECEIVERS = Path(__file__).parents[1] / "docs" / "houses" / "receivers"
DVB = "dvb-short-event"


def house_of(folder: Path, form: str) -> House:
    path = folder / "house.yaml"
    path.write_text(f"name: haus\nforms:\n  kurz:\n    purpose: Ein Text.\n{form}", encoding="utf-8")
    return load_house(path)


def length_of(house: House, text: str, form: str = "kurz", **given: Any) -> Finding:
    finding = CHECKS["length"](Gate(house).subject(text, form, Show(name="Unter uns"), **given))
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("form", "text", "title", "value"),
    [
        ("bytes: [1, 99]", "Gesa fährt heim.", "", 17),
        ("bytes: [1, 99]\n    encoding: iso-8859-9", "Gesa fährt heim.", "", 16),
        ("bytes: [1, 99]\n    encoding: iso-8859-9", "Gesa fa\u0308hrt\n\nheim.", "", 16),
        ("bytes: [1, 99]\n    encoding: iso-8859-9\n    title_counts: yes", "Gesa fährt heim.", "Bö", 18),
        ("bytes: [1, 99]\n    encoding: utf-8\n    title_counts: yes", "Gesa fährt heim.", "Bö", 20),
        ("characters: [1, 99]\n    title_counts: yes", "Gesa fährt heim.", "Bö", 18),
        ("words: [5, 99]\n    title_counts: yes", "Gesa fährt heute heim.", "Der Hof", 6),
    ],
)
def test_a_length_counts_bytes_of_the_encoding_and_the_title_where_it_is_a_part(
    tmp_path: Path, form: str, text: str, title: str, value: int
) -> None:
    finding = length_of(house_of(tmp_path, f"    {form}\n"), text, title=title)
    assert finding.passed, finding.message
    assert finding.value == value


def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    house = house_of(tmp_path, "    bytes: [1, 16]\n")
    assert length_of(house, "Gesa fährt heim").passed
    finding = length_of(house, "Gesa fährt heim.")
    assert finding.sentence == "The text has 17 bytes, 1 to 16 bytes in utf-8 are wanted: cut."


def test_a_character_that_the_encoding_lacks_is_quoted(tmp_path: Path) -> None:
    house = house_of(tmp_path, "    bytes: [1, 99]\n    encoding: iso-8859-9\n    title_counts: yes\n")
    finding = length_of(house, "Gesa fährt – endlich.", title="„Heim“")
    assert not finding.passed
    assert finding.value == "–„“"
    assert "characters that iso-8859-9 does not: „–“" in finding.message


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("    bytes: [1, 99]\n    words: [5, 9]\n", "has no single length: give words, characters or bytes"),
        ("    bytes: [1, 99]\n    encoding: latin-x\n", "'latin-x' is no encoding that is known: name one as"),
        ("    bytes: [1, 99]\n    encoding: punycode\n", "'punycode' is no encoding that is known"),
        ("    bytes: [99, 1]\n", "the limits 99 to 1 are reversed"),
    ],
)
def test_a_wrong_length_in_bytes_is_a_line_with_the_place(tmp_path: Path, form: str, message: str) -> None:
    with pytest.raises(SettingsError, match=r"house\.yaml:\d+: ") as caught:
        house_of(tmp_path, form)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_length_in_bytes_takes_the_place_of_an_inherited_one_and_a_brief_of_it(tmp_path: Path) -> None:
    form = house_of(tmp_path, "    bytes: [40, 120]\n  episode:\n    bytes: [600, 3000]\n").form("episode")
    assert (form.length, form.aim.words) == (((600, 3000), "bytes"), None)
    assert form.with_length((50, 60), None).length == ((50, 60), "words")
    assert form.storylines == len("ABC")


@pytest.mark.parametrize(
    ("encoding", "foreign"), [("iso-8859-9", "„ “ ’ – … €"), ("utf-8", ""), ("ascii", "ä ö ü ß „ “ » « ’ – … €")]
)
def test_the_prompt_states_bytes_and_what_the_encoding_lacks(encoding: str, foreign: str) -> None:
    house = load_house(RECEIVERS)
    form = house.form(DVB).model_copy(update={"encoding": encoding})
    rules = render_rules(form, house).form
    assert rules[0] == f"80 bis 248 Bytes in {encoding}, Leerzeichen mitgezählt, der Titel auch."
    lacking = [line.partition(": ")[2] for line in rules if "gibt es dort nicht" in line]
    assert lacking == ([foreign] if foreign else [])


@pytest.mark.parametrize(
    ("receiver", "limits"),
    [
        ("bbc", [90, 180, 1800]),
        ("youview", [90, 210, 1200]),
        ("gracenote", [100, 200]),
        ("movielabs", [190, 400, 4000]),
    ],
)
def test_the_house_of_receivers_has_their_lengths(receiver: str, limits: list[int]) -> None:
    forms = [form for name, form in load_house(RECEIVERS).forms.items() if name.startswith(receiver)]
    assert [form.length[0][1] for form in forms] == limits
    assert {form.length[1] for form in forms} == {"characters"}


def test_a_dvb_short_event_fits_its_descriptor_to_the_last_byte() -> None:
    form = load_house(RECEIVERS).form(DVB)
    language, lengths, character_tables = 3, 2, 2
    assert (form.length[0][1], form.length[1]) == (255 - language - lengths - character_tables, "bytes")
    assert form.title_counts


KURZ = (
    "Der Herdenschutzhund von Schäferin Gesa Meinecke beißt einen Spaziergänger. Nun soll sie das Tier "
    "fortgeben, ehe in drei Wochen die ersten Lämmer kommen. Wird der Gebissene die Wahrheit sagen?"
)
EPG = "Schäferin Gesa soll ihren Hund fortgeben, weil er einen Unternehmer gebissen hat."
PEOPLE = [("Gesa Meinecke", "Schäferin")]
FORMS = """
  kurztext:
    purpose: Vorschau in wenigen Sätzen. Wie es ausgeht, bleibt offen.
    words: [20, 60]
    paragraphs: [1, 1]
    sentence_mean: [5, 21]
    checks: {theme: warning}
  epg:
    purpose: Ein Satz für den Programmführer.
    bytes: [40, 120]
    encoding: iso-8859-9
    paragraphs: [1, 1]
    sentence_mean: [5, 21]
    checks: {theme: warning}
"""
TO = ("--to", "kurztext,epg")


def told(text: str, people: Sequence[tuple[str, str]] = PEOPLE) -> dict[str, Any]:
    return {
        "title": "Ein Titel vom Modell",
        "logline": GOOD.synopsis.logline,
        "characters": [{"name": name, "role": role} for name, role in people],
        "paragraphs": [{"storyline": "A", "text": text}],
    }


def together(kurztext: str = KURZ, epg: str = EPG, **more: Any) -> Reply:
    return Reply(json.dumps({"kurztext": told(kurztext), "epg": told(epg)}, ensure_ascii=False), **more)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("haus") / "haus"
    shutil.copytree(PACKAGED, folder)
    with (folder / "house.yaml").open("a", encoding="utf-8") as file:
        file.write(FORMS)
    return str(folder)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """Return a saved synopsis, as `write` saves it."""
    path = tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md"
    path.parent.mkdir(parents=True)
    content = PATH.read_text(encoding="utf-8").replace("\ntitle:", "\nrun: 20261130T160000-abcdef\ntitle:", 1)
    path.write_text(content, encoding="utf-8")
    return path


def meta(path: Path) -> dict[str, Any]:
    return read_document(path).meta


def test_each_form_is_told_from_one_file_in_one_answer_and_saved_beside_it(
    terminal: Terminal, house: str, story: Path
) -> None:
    with LoopbackServer([together()], repeat_last=False) as server:
        run = terminal("lengths", str(story), *TO, "--house", house, server=server)
    assert run.code == 0, run.err
    assert run.out == f"--- kurztext ---\nDer weiße Hund\n\n{KURZ}\n--- epg ---\nDer weiße Hund\n\n{EPG}\n"
    files = {path.name: path for path in story.parent.iterdir()}
    assert sorted(files) == ["der-weisse-hund-epg.md", "der-weisse-hund-kurztext.md", "der-weisse-hund.md"]
    for form, text in (("kurztext", KURZ), ("epg", EPG)):
        saved = read_document(files[f"der-weisse-hund-{form}.md"])
        assert saved.text == text
        assert saved.meta["brief"]["form"] == form
        assert (saved.meta["title"], saved.meta["logline"]) == ("Der weiße Hund", GOOD.synopsis.logline)
        assert saved.meta["story"] == "20261130T160000-abcdef"
        assert saved.meta["gate"]["lengths"] == 0


def test_the_model_sees_the_long_text_each_forms_rules_and_not_to_give_the_end_away(
    terminal: Terminal, house: str, story: Path
) -> None:
    with LoopbackServer([together()]) as server:
        terminal("lengths", str(story), *TO, "--house", house, server=server)
    body = server.chats[0].body
    *_, answer, request = body["messages"]
    assert json.loads(answer["content"]) == json.loads(GOOD.synopsis.as_json())
    rules = ("# Die Form kurztext", "20 bis 60 Wörter", "40 bis 120 Bytes in iso-8859-9")
    for part in (*rules, "verrät den Ausgang nicht"):
        assert part in request["content"]
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == ["kurztext", "epg"]


def test_a_text_whose_paragraphs_a_person_divided_is_told_in_other_lengths(
    terminal: Terminal, house: str, story: Path
) -> None:
    story.write_text(story.read_text("utf-8").replace(" Touristen foto", "\n\nTouristen foto"), "utf-8")
    with LoopbackServer([together()]) as server:
        run = terminal("lengths", str(story), *TO, "--house", house, server=server)
    assert run.code == 0, run.err


def test_a_text_of_another_house_is_told_for_receivers(terminal: Terminal, story: Path) -> None:
    short = json.loads(ANSWER)
    short["paragraphs"] = [{"storyline": "A", "text": EPG}]
    arguments = ("lengths", str(story), "--to", "bbc-short", "--house", str(RECEIVERS))
    with LoopbackServer([Reply(json.dumps(short))]) as server:
        run = terminal(*arguments, server=server)
    assert run.code == 0, run.err
    saved = story.with_name("der-weisse-hund-bbc-short.md")
    assert (read_document(saved).text, read_document(saved).meta["brief"]["form"]) == (EPG, "bbc-short")


def test_texts_that_are_neither_saved_nor_printed_are_on_stderr(terminal: Terminal, house: str) -> None:
    (terminal.folder / "taken").write_text("x", "utf-8")
    write = ["write", *ORDER[:4], "--forms", "portrait,epg", "--out", "taken", "--house", house]
    for json_flag in ([], ["--json"]):
        with LoopbackServer([Reply(ANSWER), together()]) as server, Path("/dev/full").open("w") as full:
            environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-x"}
            process = Forked[str](
                [COMMAND, *write, *json_flag],
                cwd=terminal.folder,
                env=environment,
                stdout=full,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert EPG in err or not json_flag
        assert "Elf Ohrmarken hängen" in err


def test_a_saved_length_passes_check_again(terminal: Terminal, house: str, story: Path) -> None:
    with LoopbackServer([together()]) as server:
        terminal("lengths", str(story), *TO, "--house", house, server=server)
    files = [str(path) for path in story.parent.iterdir()]
    assert terminal("check", *files, "--house", house).code == 0


@pytest.mark.parametrize(
    ("bad", "people", "quotes"),
    [
        (EPG.replace("Gesa", "Gisela"), PEOPLE, "nennt „Gisela“"),
        (EPG, [("Gesa Meinecke", "Wirtin")], "„Gesa Meinecke: Wirtin“, seine Geschichte „Gesa Meinecke: Schäferin“"),
        (EPG.replace("Schäferin", "Wirtin"), PEOPLE, "„Wirtin Gesa“, seine Geschichte „Gesa Meinecke: Schäferin“"),
        (EPG.replace("fortgeben", "in vier Wochen fortgeben"), PEOPLE, "„vier Wochen“, seine Geschichte „drei Wochen“"),
    ],
)
def test_a_contradiction_is_repaired_in_its_own_form_alone(
    terminal: Terminal, house: str, story: Path, bad: str, people: list[tuple[str, str]], quotes: str
) -> None:
    first = {"kurztext": told(KURZ), "epg": told(bad, people)}
    steps = [Reply(json.dumps(first)), Reply(json.dumps(told(EPG)))]
    with LoopbackServer(steps, repeat_last=False) as server:
        run = terminal("lengths", str(story), *TO, "--house", house, server=server)
    assert run.code == 0, run.err
    *_, form, answer, repair = server.chats[1].body["messages"]
    assert "# Die Form epg" in form["content"]
    assert "kurztext" not in form["content"]
    assert json.loads(answer["content"]) == told(bad, people)
    assert quotes in repair["content"]
    assert meta(story.with_name("der-weisse-hund-epg.md"))["attempts"] == 2
    assert meta(story.with_name("der-weisse-hund-kurztext.md"))["attempts"] == 1


def test_a_length_that_stays_wrong_is_refused_and_the_others_are_saved(
    terminal: Terminal, house: str, story: Path, tmp_path: Path
) -> None:
    bad = told(EPG.replace("Gesa", "Gisela"))
    with LoopbackServer([together(epg="Gisela fehlt."), Reply(json.dumps(bad))]) as server:
        refused = ("--keep-rejected", str(tmp_path / "nein"))
        run = terminal("lengths", str(story), *TO, "--house", house, *refused, server=server)
    assert run.code == 1
    assert "refused by the gate: lengths: The text names „Gisela“" in run.err
    assert (story.parent / "der-weisse-hund-kurztext.md").exists()
    assert not (story.parent / "der-weisse-hund-epg.md").exists()
    assert len(list((tmp_path / "nein").iterdir())) == 1


@pytest.mark.parametrize(
    "first",
    [
        Reply('{"kurztext": {"title": "Der'),
        Reply(json.dumps(told(KURZ))),
        Fault(400, message="Invalid schema for response_format: too many properties"),
    ],
)
def test_without_a_common_answer_each_form_is_asked_for_alone(
    terminal: Terminal, house: str, story: Path, first: Reply | Fault
) -> None:
    class Script(LoopbackServer):
        """Gives the step first to the request for both, then each form its own text."""

        def answer(self, request: Request) -> Step:
            asked = request.body["messages"][-1]["content"]
            if "in mehreren Formen" in asked:
                return first
            return Reply(json.dumps(told(EPG if "# Die Form epg" in asked else KURZ)))

    with Script([]) as server:
        run = terminal("lengths", str(story), *TO, "--house", house, server=server)
    assert run.code == 0, run.err
    assert read_document(story.with_name("der-weisse-hund-epg.md")).text == EPG
    assert read_document(story.with_name("der-weisse-hund-kurztext.md")).text == KURZ


def test_write_tells_the_longest_form_first_and_the_others_from_it(
    terminal: Terminal, house: str, tmp_path: Path
) -> None:
    asked = [*ORDER[:4], "--forms", "epg,portrait,kurztext", "--house", house, "--json"]
    with LoopbackServer([Reply(ANSWER), together()], repeat_last=False) as server:
        run = terminal("write", *asked, server=server)
    assert run.code == 0, run.err
    texts = json.loads(run.out)["texts"]
    assert [text["brief"]["form"] for text in texts] == ["portrait", "kurztext", "epg"]
    assert [text["passed"] for text in texts] == [True] * len(texts)
    stories = {text["story"] for text in texts}
    assert len(stories) == 1
    home = tmp_path / "synopsen" / "rote-rosen"
    assert sorted(path.name for path in home.iterdir()) == [
        "der-weisse-hund-epg.md",
        "der-weisse-hund-kurztext.md",
        "der-weisse-hund.md",
    ]
    assert {meta(path)["story"] for path in home.iterdir()} == stories
    first, second = (chat.body["messages"] for chat in server.chats)
    assert second[: len(first)] == first


def test_a_first_text_that_is_refused_has_no_other_lengths(terminal: Terminal, house: str) -> None:
    with LoopbackServer([Reply(CLOSED)]) as server:
        run = terminal("write", *ORDER[:4], "--forms", "portrait,epg", "--house", house, server=server)
    assert run.code == 1
    assert len(server.chats) == 3


def test_a_first_text_is_not_lost_where_the_others_fail(terminal: Terminal, house: str, tmp_path: Path) -> None:
    steps: list[Step] = [Reply(ANSWER), Fault(401, message="Incorrect API key provided", code="invalid_api_key")]
    with LoopbackServer(steps) as server:
        run = terminal("write", *ORDER[:4], "--forms", "portrait,epg,kurztext", "--house", house, server=server)
    assert run.code == 3
    assert run.out.startswith("--- portrait ---\nDer weiße Hund\n")
    assert (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").exists()


def test_three_lengths_cost_at_most_1_6_times_one_on_a_server_that_caches(
    terminal: Terminal, house: str, tmp_path: Path
) -> None:
    """The server counts the tokens of what it gets and gives, and caches the prompt of the first call."""

    class Caching(LoopbackServer):
        seen = 0

        def answer(self, request: Request) -> Step:
            messages = request.body["messages"]
            prompt = sum(estimate_tokens(message["content"]) for message in messages)
            text = together().text if self.seen else ANSWER
            cached, self.seen = self.seen, prompt
            return Reply(text, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=estimate_tokens(text))

    prices = tmp_path / "prices.toml"
    prices.write_text('[models."gpt-5.4-mini"]\ninput = 0.75\ncached = 0.075\noutput = 4.5\n', encoding="utf-8")
    with Caching([]) as server:
        asked = ("--forms", "portrait,kurztext,epg", "--house", house, "--model", "gpt-5.4-mini")
        run = terminal("write", *ORDER[:4], *asked, server=server, SYNOPSIS_PRICES=str(prices))
    assert run.code == 0, run.err
    line = re.search(r"3 lengths: .*, (\d\.\d\d) × the first", run.err)
    assert line is not None, run.err
    assert 1 < float(line[1]) <= 1.6


def test_the_parts_of_a_common_answer_sum_up_to_what_it_took(terminal: Terminal, house: str, story: Path) -> None:
    answer = together(prompt_tokens=1001, completion_tokens=77, cached_tokens=900)
    with LoopbackServer([answer]) as server:
        run = terminal("lengths", str(story), *TO, "--house", house, "--json", server=server)
    usages = [text["usage"] for text in json.loads(run.out)["texts"]]
    total = {key: sum(usage[key] for usage in usages) for key in usages[0]}
    assert total == {"prompt_tokens": 1001, "cached_tokens": 900, "completion_tokens": 77}


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(
    terminal: Terminal, house: str, story: Path, force: bool
) -> None:
    there = story.with_name("der-weisse-hund-epg.md")
    there.write_text("Mein Text.\n", encoding="utf-8")
    with LoopbackServer([Reply(json.dumps(told(EPG)))]) as server:
        flags = ["--to", "epg", "--house", house, *(["--force"] if force else [])]
        assert terminal("lengths", str(story), *flags, server=server).code == 0
    assert (there.read_text(encoding="utf-8") == "Mein Text.\n") is not force
    assert story.with_name("der-weisse-hund-epg-2.md").exists() is not force


@pytest.mark.parametrize(
    ("content", "to", "code", "message"),
    [
        (None, "plakat", 2, "no form 'plakat': the forms of the house"),
        (None, "kurztxt", 2, "did you mean 'kurztext'?"),
        (None, "portrait", 2, "the text has the form 'portrait' already: name others"),
        (None, " , ", 2, "no form is named: name others, of episode"),
        ("Nur ein Text.\n", "epg", 2, "no 'brief' in the front matter"),
        ("", "epg", 2, "holds no text"),
        ("---\nbrief: 3\n---\nEin Text.\n", "epg", 2, "no 'brief' in the front matter"),
    ],
)
def test_bad_input_is_one_line_and_asks_nothing(
    terminal: Terminal, house: str, story: Path, content: str | None, to: str, code: int, message: str
) -> None:
    if content is not None:
        story.write_text(content, encoding="utf-8")
    with LoopbackServer([together()]) as server:
        run = terminal("lengths", str(story), "--to", to, "--house", house, server=server)
    assert (run.code, run.out, server.chats) == (code, "", [])
    (line,) = [line for line in run.err.splitlines() if not line.startswith("model:")]
    assert message in line
    assert [path.name for path in story.parent.iterdir()] == [story.name]


def test_forms_and_one_form_or_length_exclude_each_other(terminal: Terminal, house: str) -> None:
    run = terminal("write", *ORDER[:4], "--forms", "portrait,epg", "--words", "200-300", "--house", house)
    assert run.code == 2
    assert "leave out --words" in run.err


def test_the_packaged_model_says_what_is_missing(terminal: Terminal, house: str, story: Path) -> None:
    run = terminal("lengths", str(story), *TO, "--house", house, "--model", "packaged")
    assert run.code == 2
    assert "cannot tell a story in another length: name a server's model or a GGUF file" in run.err


async def test_the_api_returns_a_result_a_form(house: str) -> None:
    client = ScriptedClient([ANSWER, together().text])
    async with Writer(client=client, house=Path(house), log=False) as writer:
        first = await writer.write(GOOD.brief)
        results = await writer.lengths(first, ["epg", "kurztext"])
    assert [(result.brief.form, result.text) for result in results] == [("epg", EPG), ("kurztext", KURZ)]
    assert len({result.story for result in results}) == 1
    assert [call.messages[-1].role for call in client.calls] == ["user", "user"]
