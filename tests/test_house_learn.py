"""A house learnt from a folder of texts: what is read, learnt, proven and written."""

import csv
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import docx
import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.cli.app import run
from synopsis_writer.examples import load_pool
from synopsis_writer.formats.reading import first_sentence, paragraphs
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import ALL_CHECKS, Gate
from synopsis_writer.house import Form, built_in_house, load_house
from synopsis_writer.learning.learn import Learnt, Line, learn_house, learn_proven, prove, shrunk_limits
from synopsis_writer.learning.texts import own_text, read_texts, with_forms
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.show import CastMember, Show, find_show, generic_show
from synopsis_writer.workspace import open_workspace
from tests.houses.corpora import FORMS, HOUSES, UNSEEN, HouseText, learn_folder, load
from tests.houses.corpora import House as Corpus
from tests.houses.damage import damaged
from tests.support.loopback import Fault, LoopbackServer, Reply
from tests.support.terminal import Terminal

EPG = [text.text for text in load("epg").learn]
PRESS = [text.text for text in load("presse").learn]


def written(folder: Path, texts: Sequence[str], name: str = "text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{name}-{number:02}.txt").write_text(f"{text}\n", encoding="utf-8")
    return folder


def learnt(folder: Path, form: str = "") -> Learnt:
    texts = with_forms(read_texts(folder, {"form": form} if form else {}))
    themed = [replace(own, show=own.show or "Serie", theme=own.theme or own.title) for own in texts]
    return learn_house("Haus", themed)


def form_of(folder: Path) -> Form:
    return learnt(folder, "kurz").house.form("kurz")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Corpus], Path]:
    """Learn the house of a corpus with the command, once."""
    folder, done = tmp_path_factory.mktemp("houses"), dict[Corpus, Path]()

    def house(corpus: Corpus) -> Path:
        if corpus not in done:
            out = folder / corpus
            assert run(["house", "learn", str(learn_folder(corpus)), "--out", str(out)]) == 0
            done[corpus] = out
        return done[corpus]

    return house


@pytest.fixture(params=HOUSES)
def learnt_folder(request: pytest.FixtureRequest, houses: Callable[[Corpus], Path]) -> tuple[Corpus, Path]:
    return request.param, houses(request.param)


# What is written


def test_the_folder_is_a_house_with_each_text_as_an_example(learnt_folder: tuple[Corpus, Path]) -> None:
    corpus, folder = learnt_folder
    house, pool = load_house(folder), load_pool([folder])
    assert list(house.forms) == [FORMS[corpus]]
    known = {" ".join(example.synopsis.text.split()) for example in pool.examples}
    assert known == {" ".join(text.text.split()) for text in load(corpus).learn}
    assert {show.name for show in pool.shows} == {text.show for text in load(corpus).learn}
    by_text = {" ".join(text.text.split()): text for text in load(corpus).learn}
    for example in pool.examples:
        text = by_text[" ".join(example.synopsis.text.split())]
        assert len(example.synopsis.paragraphs) == len(paragraphs(text.text))
        assert example.synopsis.title == text.title
        assert (example.brief.show, example.brief.form) == (text.show, FORMS[corpus])
        theme = first_sentence(text.text) if corpus == "presse" else text.theme
        assert example.brief.theme == theme
        assert example.brief.characters == text.people


def test_house_yaml_has_a_comment_for_what_the_own_texts_have(houses: Callable[[Corpus], Path]) -> None:
    lines = (houses("presse") / "house.yaml").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if "    words:" in line).endswith("# yours: 63 to 116")
    assert any("    ending: any  # " in line and "10 ellipsis, 3 closed, 1 question" in line for line in lines)


@pytest.mark.parametrize(
    ("corpus", "orthography", "marks", "unit"),
    [("presse", "de-DE", "„“", "words"), ("schweiz", "de-CH", "«»", "words"), ("epg", "de-DE", "„“", "characters")],
)
def test_orthography_marks_and_unit_are_those_of_the_texts(
    houses: Callable[[Corpus], Path], corpus: Corpus, orthography: str, marks: str, unit: str
) -> None:
    house = load_house(houses(corpus))
    form = house.form(None)
    assert (house.orthography, house.quotation_marks, form.length[1]) == (orthography, marks, unit)
    counts = [len(text.text.split()) if unit == "words" else len(text.text) for text in load(corpus).learn]
    assert form.length[0][0] <= min(counts)
    assert form.length[0][1] >= max(counts)
    assert form.length[0][1] <= 1.25 * max(counts)


def test_names_of_the_texts_are_known_as_words_or_people(houses: Callable[[Corpus], Path]) -> None:
    def known(corpus: Corpus) -> str:
        pool = load_pool([houses(corpus)])
        return " ".join([*load_house(houses(corpus)).known_words, *(m.name for s in pool.shows for m in s.cast)])

    assert {name for name in ("Otieno", "Okonkwo") if name in known("presse")} == {"Otieno", "Okonkwo"}
    assert "Caflisch" in known("schweiz")


def test_the_cast_are_those_whom_a_text_declares_or_two_name(houses: Callable[[Corpus], Path]) -> None:
    shows = load_pool([houses("presse")]).shows
    people = {m.name: m.role for m in cast_of(shows, "Station 9")}
    assert people["Malaika Otieno"] == "Assistenzärztin"
    assert people["Thuy"] == "Auszubildende"
    assert [m.gender for m in cast_of(shows, "Amtsgericht Nord") if m.name == "Dr. Konstanze Huber"] == ["f"]
    epg = load_pool([houses("epg")]).shows
    assert "Dariusz" in {m.name for m in cast_of(epg, "Hafenwache Nord")}


def cast_of(shows: Sequence[Show], name: str) -> tuple[CastMember, ...]:
    show = find_show(shows, name)
    assert show is not None
    return show.cast


NAMED = """\
Portier Emil Sandor (Tamás Ferkay) sieht, wie Stubenmädchen Jasna (Mira Kolar) geht. Der Kapitän (Wolf
Bachner) lacht, und die Witwe (Gerda Drassl) weint. Das beruhigt Leiterin Hermi Wessel und Techniker Paul.

Während Jasna (Mira Kolar) schläft, sucht Emil Sandor (Tamás Ferkay) den Schlüssel. Hermi Wessel lässt ihn
fahren. Geologin Mei hört, wie Nele Quandts Hund bellt, und streitet mit Paul.

Nele Quandt wartet im Hof. Dann kommt Mei, und Emil Sandor (Tamás Ferkay) holt Jasna (Mira Kolar).
""".split("\n\n")


def test_the_cast_has_roles_but_no_actors_callings_or_genitives_as_names(tmp_path: Path) -> None:
    show = cast_of(learnt(written(tmp_path / "a", NAMED), "kurz").shows, "Serie")
    assert {member.name: member.role for member in show} == {
        "Emil Sandor": "Portier",
        "Jasna": "Stubenmädchen",
        "Paul": "Techniker",
        "Hermi Wessel": "Leiterin",
        "Mei": "Geologin",
        "Nele Quandt": "Figur",
    }


AUSTRIAN = "Heuer liegt der Bub im Spitalsbett, und zwei Maturantinnen warten vor den Trafiken auf die {}."


def test_austrian_words_make_an_austrian_house_also_inflected_and_in_compounds(tmp_path: Path) -> None:
    texts = [AUSTRIAN.format(word) for word in ("Mutter", "Nacht", "Post")]
    assert learnt(written(tmp_path / "a", texts), "kurz").house.orthography == "de-AT"


# What is read


@pytest.mark.parametrize("order", [("show", "form"), ("form", "show")])
def test_show_and_form_are_in_the_names_of_folders(tmp_path: Path, order: tuple[str, str]) -> None:
    pairs = [(show, form) for show in ("Hafenwache", "Weingut", "Klinik") for form in ("vorschau", "kurz")]
    for number, (show, form) in enumerate(pairs):
        names = {"show": show, "form": form}
        written(tmp_path / names[order[0]] / names[order[1]], [EPG[number]])
    assert sorted((own.show, own.form) for own in read_texts(tmp_path, {})) == sorted(pairs)


def test_a_single_level_of_folders_with_names_of_forms_is_forms(tmp_path: Path) -> None:
    written(tmp_path / "teaser", PRESS[:1])
    written(tmp_path / "week", PRESS[1:2])
    assert [(own.show, own.form) for own in read_texts(tmp_path, {})] == [("", "teaser"), ("", "week")]


FRONT = "---\nserie: Die Wache\nform: kurz\nthema: Ein Kran brennt.\n---\n\n"
BRIEF = "---\nbrief:\n  show: Die Wache\n  form: kurz\n  theme: Ein Kran brennt.\n---\n\n"


@pytest.mark.parametrize("front", [FRONT, BRIEF])
@pytest.mark.parametrize("given", [{}, {"show": "Andere", "form": "anders"}])
def test_front_matter_comes_before_folders_and_flags_before_all(
    tmp_path: Path, front: str, given: dict[str, str]
) -> None:
    path = written(tmp_path / "Falsch", []) / "a.md"
    path.write_text(front + EPG[0], encoding="utf-8")
    own = read_texts(tmp_path, given)[0]
    show, form = given.get("show", "Die Wache"), given.get("form", "kurz")
    assert (own.show, own.form, own.theme) == (show, form, "Ein Kran brennt.")


def test_a_form_of_several_words_gets_hyphens(tmp_path: Path) -> None:
    written(tmp_path / "Wache" / "Kurze Texte", EPG[:2])
    assert {own.form for own in read_texts(tmp_path, {})} == {"Kurze-Texte"}
    assert list(learnt(tmp_path, "a / b_c").house.forms) == ["a-b_c"]


def test_a_csv_has_columns_for_show_form_and_theme(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="cp1252", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Serie", "Sorte", "Titel", "Inhalt", "Thema"])
        rows.writerow(["Die Wache", "kurz", "Glut", EPG[0], "Ein Kran brennt."])
    own = read_texts(tmp_path, {})[0]
    assert (own.id, own.show, own.form, own.title, own.theme) == (
        "a.csv:2",
        "Die Wache",
        "kurz",
        "Glut",
        "Ein Kran brennt.",
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_single_line_break_parts_paragraphs_as_pasted_from_word(tmp_path: Path, encoding: str) -> None:
    parts = [PRESS[0], PRESS[1].replace("leben", "le\u00adben")]
    if encoding == "cp1252":
        parts = [part.replace("\u00ad", "") for part in parts]
    path = tmp_path / "a.txt"
    path.write_bytes("\r\n".join(parts).encode(encoding, "replace"))
    own = read_texts(tmp_path, {})[0]
    assert len(own.text.paragraphs) == 2
    assert "\u00ad" not in own.text.raw


def test_word_html_and_json_are_read_too(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Glut", 0)
    document.add_paragraph(PRESS[0])
    document.save(str(tmp_path / "a.docx"))
    (tmp_path / "b.html").write_text(f"<h1>Asche</h1><p>{PRESS[1]}</p>", encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps({"title": "Rauch", "text": PRESS[2]}), encoding="utf-8")
    found = {own.title: own.text.raw for own in read_texts(tmp_path, {})}
    assert found == {"Glut": PRESS[0], "Asche": PRESS[1], "Rauch": PRESS[2]}


def test_a_text_that_is_there_twice_or_has_four_words_is_left_out_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "in", [EPG[0], EPG[1], EPG[0], "Das ist zu kurz."])
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert "text-02.txt: is the same text as text-00.txt: left out" in err
    assert "text-03.txt: has fewer than 5 words: left out" in err
    assert len(load_pool([tmp_path / "out"]).examples) == 2


# Forms


LONG = [f"{PRESS[i]} {PRESS[i + 1]} {PRESS[i + 2]}" for i in range(6)]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (EPG, {"kurz"}),
        (PRESS, {"vorschau"}),
        (LONG, {"inhalt"}),
        ([*EPG, *PRESS], {"kurz", "vorschau"}),
        ([*EPG[:5], *PRESS[:5], *LONG], {"kurz", "vorschau", "inhalt"}),
        ([*EPG[:5], *PRESS[:5], *LONG, *[f"{a} {b} {a}" for a, b in itertools.pairwise(LONG)]],
         {"kurz", "vorschau", "inhalt", "lang"}),
        ([" ".join(PRESS[0].split()[:n]) for n in range(20, 32)], {"kurz"}),
    ],
)  # fmt: skip
def test_texts_without_a_form_are_parted_by_length(tmp_path: Path, texts: list[str], names: set[str]) -> None:
    assert {own.form for own in with_forms(read_texts(written(tmp_path, texts), {}))} == names


def test_a_flag_puts_all_texts_into_one_form(tmp_path: Path) -> None:
    written(tmp_path, [*EPG, *PRESS])
    assert set(learnt(tmp_path, "alles").house.forms) == {"alles"}


def test_forms_that_are_named_are_not_parted(tmp_path: Path) -> None:
    written(tmp_path / "Wache" / "mittel", [*EPG[:4], *PRESS[:4]])
    written(tmp_path / "Wache" / "Kurztext", EPG[4:6])
    assert set(learnt(tmp_path).house.forms) == {"mittel", "Kurztext"}


# Values


def ending_in(texts: Sequence[str], mark: str) -> list[str]:
    return [text.rstrip(" .?!…“»") + mark for text in texts]


@pytest.mark.parametrize(
    ("texts", "ending"),
    [
        (ending_in(PRESS, " …"), "ellipsis"),
        (ending_in(PRESS, "?"), "question"),
        (ending_in([text for text in PRESS if "?" not in text], "."), "closed"),
        ([*ending_in(PRESS[:7], " …"), *ending_in(PRESS[7:], ".")], "any"),
        (ending_in(PRESS[:3], " …"), "any"),
    ],
)
def test_an_ending_is_a_rule_where_nearly_all_texts_have_it(tmp_path: Path, texts: list[str], ending: str) -> None:
    assert form_of(written(tmp_path, texts)).ending == ending


PAST = (
    "Greta Holm kam nach Hause und fand den Brief auf dem Tisch. Sie las ihn zweimal, ging in den {}, "
    "schwieg. Ihr Bruder stand am Fenster, sah sie an und wusste nicht, was er sagen sollte. Am Abend "
    "nahm sie den Mantel und fuhr zum Hafen, wo niemand auf sie wartete."
)
PLACES = "Garten Keller Stall Hof Wald Laden Saal Turm Park Schuppen Speicher Flur".split()


@pytest.mark.parametrize(
    ("texts", "tense"),
    [
        (PRESS, "present"),
        ([PAST.format(place) for place in PLACES], "preterite"),
        ([*PRESS[:6], *[PAST.format(place) for place in PLACES[:6]]], "either"),
        ([PAST.format("Garten")], "either"),
    ],
)
def test_the_tense_is_that_of_nearly_all_texts(tmp_path: Path, texts: list[str], tense: str) -> None:
    assert form_of(written(tmp_path, texts)).tense == tense


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda text: text.replace("Er ", "Er (Jan Petersen) ", 1), "either"),
        (lambda text: f"Anna (Eva Brandt) weiß davon. {text}", "yes"),
        (lambda text: text, "no"),
    ],
)
def test_actors_in_brackets_are_learnt(tmp_path: Path, change: Callable[[str], str], wanted: str) -> None:
    texts = [text for text in PRESS if "(" not in text]
    plain = [f"{text} {EPG[number]}" for number, text in enumerate([*texts, *texts])]
    changed = [change(text) for text in plain]
    if wanted == "either":
        changed = [*plain[:6], *(f"Anna (Eva Brandt) weiß davon. {text}" for text in plain[6:])]
    assert form_of(written(tmp_path, changed)).actors_in_brackets == wanted


@pytest.mark.parametrize(("titles", "headline"), [(14, "yes"), (7, "either"), (0, "no")])
def test_a_title_line_is_learnt_where_nearly_all_texts_have_one(tmp_path: Path, titles: int, headline: str) -> None:
    texts = [f"Titel {number}\n\n{text}" if number < titles else text for number, text in enumerate(PRESS)]
    assert form_of(written(tmp_path, texts)).headline == headline


@pytest.mark.parametrize(
    ("change", "orthography", "marks"),
    [
        (lambda text: text.replace("ß", "ss").replace("„", "«").replace("“", "»"), "de-CH", "«»"),
        (lambda text: f"Im Jänner steht der Primar auf der Ordination. {text}", "de-AT", "„“"),
        (lambda text: text.replace("„", "»").replace("“", "«") + " »Ja«, sagt er.", "de-DE", "»«"),
        (lambda text: text.replace("„", '"').replace("“", '"') + ' "Ja", sagt er.', "de-DE", '""'),
        (lambda text: text.replace("“", "”").replace("„", "“") + " “Ja”, sagt er.", "de-DE", "“”"),
        (lambda text: text, "de-DE", "„“"),
    ],
)
def test_orthography_and_marks_are_learnt(
    tmp_path: Path, change: Callable[[str], str], orthography: str, marks: str
) -> None:
    house = learnt(written(tmp_path, [change(text) for text in PRESS]), "kurz").house
    assert (house.orthography, house.quotation_marks) == (orthography, marks)


def test_words_of_two_texts_and_names_are_known_and_a_typing_error_is_not(tmp_path: Path) -> None:
    texts = [
        f"{PRESS[0]} Der Flurkwast quietscht.",
        f"{PRESS[1]} Der Flurkwast quietscht.",
        f"{PRESS[2]} Er gähtn laut.",
    ]
    known = learnt(written(tmp_path, texts), "kurz").house.known_words
    assert "Flurkwast" in known
    assert "gähtn" not in known


def test_a_built_in_form_keeps_its_purpose_and_another_gets_one(tmp_path: Path) -> None:
    written(tmp_path, PRESS[:3])
    assert learnt(tmp_path, "teaser").house.form("teaser").purpose.startswith("Vorschau auf eine Folge: was geschieht")
    assert learnt(tmp_path, "meldung").house.form("meldung").purpose


# Small samples


def test_limits_of_few_texts_stay_nearer_to_the_built_in_ones() -> None:
    spread = [12.0, 13.0, 14.0]
    widths = [high - low for low, high in (shrunk_limits("sentence_mean", spread * n, (5, 30)) for n in (1, 5, 40))]
    assert widths[0] > widths[1] > widths[2]
    low, high = shrunk_limits("sentence_mean", [25.0], (10, 21))
    assert low < 13
    assert high >= 25


@pytest.mark.parametrize("name", ["words", "characters", "paragraphs", "sentence_mean", "questions", "variety"])
def test_limits_contain_all_values_but_outliers(name: str) -> None:
    values = [0.5, 0.52, 0.61, 0.58, 0.55, 0.54, 0.53, 0.57, 0.6]
    values = values if name in {"questions", "variety"} else [100 * value for value in values]
    low, high = shrunk_limits(name, values, (values[0], values[0]))
    assert low <= min(values)
    assert high >= max(values)


def test_one_odd_text_moves_no_length() -> None:
    usual = [60.0 + n for n in range(30)]
    assert shrunk_limits("words", [*usual, 900.0], (40, 120)) == shrunk_limits("words", usual, (40, 120))


@pytest.mark.parametrize(("count", "warns"), [(1, True), (5, True), (15, False)])
def test_one_text_is_enough_and_few_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, warns: bool
) -> None:
    written(tmp_path / "in", EPG[:count])
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    err = capsys.readouterr().err
    assert ("so few texts leave limits near the built-in ones: 15 are enough" in err) == warns
    assert len(load_pool([tmp_path / "out"]).examples) == count


# The proof, and what it does


def test_a_check_that_would_refuse_more_than_one_in_twenty_is_a_warning_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    english = "Meanwhile nobody in the kitchen knows where the old keys are."
    texts = [f"{text} {english}" if number < 2 else text for number, text in enumerate(PRESS)]
    written(tmp_path / "in", texts)
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("language "))
    assert line.split()[:5] == ["language", "warning", "2", "of", "14"]
    assert "text-00.txt, text-01.txt" in out
    assert load_house(tmp_path / "out").form(None).level("language") == "warning"
    assert "language: warning  # it would refuse 2 of your 14 texts" in (tmp_path / "out/house.yaml").read_text("utf-8")
    assert run(["check", "--house", str(tmp_path / "out"), str(tmp_path / "in/text-00.txt")]) == 0
    assert "warning: language" in capsys.readouterr().out


def test_one_in_twenty_leaves_a_check_an_error() -> None:
    line = Line("kurz", "hook", "error", "", 20, ("a",), ())
    assert not line.is_too_strict
    assert line._replace(texts=19).is_too_strict


DAMAGES = {
    *("too short", "too long", "a paragraph for each sentence", "cut in mid-sentence", "an English sentence"),
    *("a list", "other quotation marks", "talk to the customer", "exclamations", "first person", "air date"),
    *("umlauts written out", "typing errors", "a sentence of another text", "a sentence three times"),
    *("theme of another show", "strangers"),  # and another tense, where a text has verbs enough
}


def test_the_proof_is_printed_as_a_table_with_the_share_of_damaged_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--out", str(tmp_path / "out")]
    assert run(["house", "learn", str(learn_folder("epg")), *flags]) == 0
    out = capsys.readouterr().out
    lines = [line.split("  ") for line in out.splitlines()]
    assert any([cell.strip() for cell in line if cell][:3] == ["length", "error", "0 of 16"] for line in lines)
    assert {line[0] for line in lines} >= DAMAGES
    assert "damaged copies are refused or warned of by the check that should" in out


def test_the_proof_is_an_object_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "in", EPG[:6])
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {line["check"] for line in data["checks"]} >= {"length", "theme", "cast"}
    assert {line["damage"] for line in data["damages"]} >= {"too short", "a list"}


def test_the_proof_takes_from_the_brief_what_a_text_may_name() -> None:
    naming = [each for each in load_pool([folder("examples")]).examples if each.brief.air_date]
    proof = prove([own_text(each) for each in naming], lambda _: (built_in_house(), ()))
    dates = [line for line in proof.lines if line.check == "dates"]
    assert dates
    assert not any(line.refused for line in dates)


@pytest.mark.slow
def test_house_check_repeats_the_proof_after_an_edit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], houses: Callable[[Corpus], Path]
) -> None:
    folder = shutil.copytree(houses("epg"), tmp_path / "haus")
    run(["house", "check", "--house", str(folder)])
    capsys.readouterr()
    path = folder / "house.yaml"
    text = path.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "    characters:" in line)
    path.write_text(text.replace(line, "    characters: [90, 120]").replace("aim: {characters", "#"), encoding="utf-8")
    assert run(["house", "check", "--house", str(folder)]) == 1
    shown = capsys.readouterr()
    assert "90 to 120 characters" in shown.out
    assert "length refuses " in shown.err
    path.write_text(path.read_text("utf-8").replace("checks:", "checks:\n      length: warning", 1), encoding="utf-8")


@pytest.mark.slow
def test_no_text_is_judged_by_limits_that_it_set_itself(tmp_path: Path) -> None:
    texts = [" ".join(PRESS[0].split()[:20]) + f" {name}." for name in ("Anna", "Berta", "Cilly", "Dora", "Emma")]
    odd = [*texts, " ".join(PRESS)]
    _, proof = learn_proven(
        "Haus",
        [replace(own, form="kurz", show="Serie", theme=own.title) for own in read_texts(written(tmp_path, odd), {})],
    )
    refused = {line.check: line.refused for line in proof.lines}
    assert refused["length"] == ("text-05.txt",)


# Themes


def test_a_missing_theme_is_the_first_sentence_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "in", EPG[:2])
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert "2 texts have no theme: the first sentence is it; --ask asks the model" in capsys.readouterr().err
    themes = {example.brief.theme for example in load_pool([tmp_path / "out"]).examples}
    assert themes == {first_sentence(text) for text in EPG[:2]}


def test_a_missing_theme_is_asked_of_the_model_if_wanted_and_the_cost_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    written(tmp_path / "in", EPG[:2])
    with LoopbackServer([Reply("Ein Kran brennt im Hafen."), Fault(400)]) as server:
        flags = ["--ask", "--model", "m", "--base-url", server.base_url, "--out", str(tmp_path / "out")]
        assert run(["house", "learn", str(tmp_path / "in"), *flags]) == 0
    assert EPG[0] in server.requests[0].body["messages"][-1]["content"]
    err = capsys.readouterr().err
    assert "1 theme is the model's: 1 attempt, " in err
    assert "the rest of the themes are not asked for" in err
    assert "1 text has no theme: the first sentence is it" in err
    themes = {example.brief.theme for example in load_pool([tmp_path / "out"]).examples}
    assert themes == {"Ein Kran brennt im Hafen.", first_sentence(EPG[1])}


def test_no_model_is_asked_for_themes_that_are_there(tmp_path: Path) -> None:
    (table,) = learn_folder("epg").iterdir()
    (tmp_path / "in").mkdir()
    few = table.read_text(encoding="utf-8").splitlines(keepends=True)[:4]
    (tmp_path / "in" / "a.csv").write_text("".join(few), encoding="utf-8")
    flags = ["--ask", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--out", str(tmp_path / "out")]
    assert run(["house", "learn", str(tmp_path / "in"), *flags]) == 0


def test_a_theme_check_that_no_text_proves_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], houses: Callable[[Corpus], Path]
) -> None:
    written(tmp_path / "in", EPG[:2])
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert "kurz: theme is a warning: your texts have no themes to prove it on" in capsys.readouterr().err
    assert load_house(tmp_path / "out").form(None).level("theme") == "warning"
    assert load_house(houses("epg")).form(None).level("theme") == "error"


def test_texts_without_a_show_are_of_the_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "Hafenwache", EPG[:2])
    assert run(["house", "learn", str(tmp_path / "Hafenwache"), "--out", str(tmp_path / "out")]) == 0
    assert "no text names its show: it is called 'Hafenwache'; --show names it" in capsys.readouterr().err
    assert [show.name for show in load_pool([tmp_path / "out"]).shows] == ["Hafenwache"]


# Bad input: one line each, and nothing written


def not_docx(folder: Path) -> None:
    (folder / "a.docx").write_bytes(b"PK nothing")


def csv_without_texts(folder: Path) -> None:
    (folder / "a.csv").write_text("show,titel\nWache,Glut\n", encoding="utf-8")


def english(folder: Path) -> None:
    text = "The old woman lost her keys in the garden. Nobody knows who has found them. Her son is worried."
    (folder / "a.txt").write_text(text, encoding="utf-8")


def broken_front_matter(folder: Path) -> None:
    (folder / "a.md").write_text(f"---\nshow: [\n---\n\n{EPG[0]}", encoding="utf-8")


def people_without_a_list(folder: Path) -> None:
    (folder / "a.md").write_text(f"---\nbrief: {{show: Wache, characters: {{Eva: Ärztin}}}}\n---\n\n{EPG[0]}", "utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (people_without_a_list, "a.md: brief: characters: is not a list"),
        (not_docx, "a.docx: is no Word file, or damaged: save it again as .docx"),
        (csv_without_texts, "a.csv:1: has no column of texts: call it one of text, inhalt"),
        (english, "a.txt: is not German but en: take it out, for a house has one language"),
        (broken_front_matter, "a.md:3: not YAML"),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], said: str
) -> None:
    spoil(written(tmp_path / "in", EPG[:3]))
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("synopsis: ")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_texts_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool) -> None:
    if there:
        (tmp_path / "in").mkdir()
    assert run(["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert ("holds no text: put .csv, .docx" if there else "no such folder") in capsys.readouterr().err


def test_a_house_is_replaced_only_with_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "in", EPG[:2])
    out = tmp_path / "out"
    learn = ["house", "learn", str(tmp_path / "in"), "--out", str(out)]
    assert run(learn) == 0
    before = (out / "house.yaml").read_text("utf-8") + "# mine\n"
    (out / "house.yaml").write_text(before, encoding="utf-8")
    assert run(learn) == 2
    assert "out: is a house: name another folder with --out, or replace it with --force" in capsys.readouterr().err
    assert (out / "house.yaml").read_text("utf-8") == before
    assert run([*learn, "--force"]) == 0
    assert "# mine" not in (out / "house.yaml").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_folder_that_is_no_house_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "in", EPG[:2])
    (written(tmp_path / "home", []) / "letter.txt").write_text("Mein Brief", encoding="utf-8")
    learn = ["house", "learn", str(tmp_path / "in"), "--out", str(tmp_path / "home"), "--force"]
    assert run(learn) == 2
    assert "is there, and no house" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_a_house_in_a_folder_that_is_not_there_is_refused_before_a_theme_is_paid_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = ["house", "learn", str(written(tmp_path / "in", EPG[:2])), "--out", str(tmp_path / "a" / "b"), "--ask"]
    assert run(learn) == 2
    assert f"{tmp_path / 'a'}: no such folder: make it, or name another with --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_house_below_the_texts_is_not_learnt_from_again(tmp_path: Path) -> None:
    written(tmp_path, EPG[:3])
    for _ in range(2):
        assert run(["house", "learn", str(tmp_path), "--out", str(tmp_path / "haus"), "--force"]) == 0
        assert len(load_pool([tmp_path / "haus"]).examples) == 3


# The people of a show


def test_a_name_that_texts_have_in_the_genitive_alone_is_learnt_without_it(tmp_path: Path) -> None:
    texts = ["Am Morgen ist Nepomuks Sehne gerissen, und Tobias schweigt.", "Tobias bereut Nepomuks Verletzung sehr."]
    (show,) = learnt(written(tmp_path / "texte", texts)).shows
    assert {member.name for member in show.cast} == {"Nepomuk", "Tobias"}


def test_a_first_name_that_is_hardly_a_word_is_learnt_with_its_last_name(tmp_path: Path) -> None:
    texts = [
        "Am Hafen wartet Inselpolizist Remmer Harms auf die Fähre.",
        "Um vier Uhr muss Remmer ins Wasser springen.",
    ]
    (show,) = learnt(written(tmp_path / "texte", texts)).shows
    assert [(member.name, member.role) for member in show.cast] == [("Remmer Harms", "Inselpolizist")]


def test_what_stands_before_an_actor_is_a_name_without_its_calling(tmp_path: Path) -> None:
    texts = [
        "Der Bauunternehmer Axel von Treskow (Rufus Behnke) droht dem Klassenclown Matti (Anton Reuß).",
        "Nachbar Ferdinand Wögerbauer (Hans Stadl) hilft der Frau von Sepp Unterrainer (Toni Krenn).",
    ]
    (show,) = learnt(written(tmp_path / "texte", texts)).shows
    assert {member.name for member in show.cast} == {
        "Axel von Treskow",
        "Matti",
        "Ferdinand Wögerbauer",
        "Sepp Unterrainer",
    }


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 1), (3, 3), (8, 3)])
def test_what_more_than_one_in_twenty_texts_have_is_no_outlier(count: int, most: int) -> None:
    assert shrunk_limits("paragraphs", [1.0] * (40 - count) + [3.0] * count, (1, 1)) == (1, most)


def test_people_of_a_show_are_added_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], houses: Callable[[Corpus], Path]
) -> None:
    folder = shutil.copytree(houses("presse"), tmp_path / "haus")
    at = ["--house", str(folder)]
    assert run(["house", "cast", "station 9", "--add", "Jost Behnke: Pförtner", "--remove", "Thuy", *at]) == 0
    out = capsys.readouterr().out
    assert "Jost Behnke: Pförtner" in out
    people = {m.name: m.role for m in cast_of(load_pool([folder]).shows, "Station 9")}
    assert people["Jost Behnke"] == "Pförtner"
    assert "Thuy" not in people


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Station", "--add", "A B: C"], "has no show 'Station': it has Station 9"),
        (["Station 9", "--remove", "Niemand"], "Station 9: has no 'Niemand': its people are "),
        (["Station 9", "--add", "Jost Behnke"], "'Jost Behnke': role: "),
    ],
)
def test_wrong_people_are_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], houses: Callable[[Corpus], Path], arguments: list[str], said: str
) -> None:
    path = next(houses("presse").glob("station-9/show.yaml"))
    before = path.read_text("utf-8")
    assert run(["house", "cast", *arguments, "--house", str(houses("presse"))]) == 2
    assert said in capsys.readouterr().err
    assert path.read_text("utf-8") == before


def test_the_built_in_house_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["house", "cast", "Rote Rosen", "--add", "A B: Gast"]) == 2
    assert "the built-in house stays as it is" in capsys.readouterr().err
    assert run(["house", "cast", "Rote Rosen"]) == 0


# Held out: the half of each corpus that nothing was learnt from


class Verdicts(NamedTuple):
    """How a learnt house judges texts that it has not seen, and their damaged copies."""

    passed: int
    texts: int
    refusing: Counter[str]
    caught: int
    copies: int
    missed: Counter[str]

    def __str__(self) -> str:
        shares = f"{self.passed / self.texts:.1%} pass, {self.caught / self.copies:.1%} of {self.copies} caught"
        return f"{shares}; refusing: {dict(self.refusing)}; missed: {dict(self.missed)}"


def judged(folder: Path, corpus: Corpus, every: int) -> Verdicts:
    gate = open_workspace(load_settings({"house": folder})).gate

    def findings(text: HouseText, gate: Gate = gate) -> Sequence[Finding]:
        show = find_show(gate.shows, text.show) or generic_show(text.show)
        brief = make_brief(show=show.name, theme=text.theme, form=text.form, characters=text.people)
        return [f for f in gate.judge(gate.subject(text.text, text.form, show, brief, text.title)) if not f.passed]

    texts = load(corpus).judge
    refused = [[f.check for f in findings(text) if f.level == "error"] for text in texts]
    missed: Counter[str] = Counter()
    copies = [(damage, bad) for text in texts for damage, bad in damaged(text)][::every]  # has all kinds
    for damage, bad in copies:
        if not findings(bad, replace(gate, disabled=frozenset(ALL_CHECKS) - {damage.check})):
            missed[damage.name] += 1
    return Verdicts(
        sum(not checks for checks in refused),
        len(texts),
        Counter(check for checks in refused for check in checks),
        len(copies) - missed.total(),
        len(copies),
        missed,
    )


WANTED_TO_PASS, WANTED_CAUGHT = 0.95, 0.9


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.slow)])
def verdicts(request: pytest.FixtureRequest, houses: Callable[[Corpus], Path]) -> Mapping[Corpus, Verdicts]:
    found = {corpus: judged(houses(corpus), corpus, request.param) for corpus in HOUSES}
    for corpus, each in found.items():
        print(f"{corpus}: {each}")  # noqa: T201 - the docs give it
    return found


def test_unseen_texts_pass_the_house_that_was_learnt_from_others(verdicts: Mapping[Corpus, Verdicts]) -> None:
    passed = sum(each.passed for each in verdicts.values())
    texts = sum(each.texts for each in verdicts.values())
    assert passed >= WANTED_TO_PASS * texts, verdicts
    assert all(each.passed >= each.texts - 1 for each in verdicts.values()), verdicts


@pytest.mark.parametrize("corpus", HOUSES)
def test_damaged_copies_of_unseen_texts_are_caught_by_the_right_check(
    verdicts: Mapping[Corpus, Verdicts], corpus: Corpus
) -> None:
    assert verdicts[corpus].caught >= WANTED_CAUGHT * verdicts[corpus].copies, verdicts[corpus]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Corpus, Verdicts]:
    """Learn each house of `tests/houses/unseen` from six texts, and judge the other six."""
    found: dict[Corpus, Verdicts] = {}
    for corpus in UNSEEN:
        folder = tmp_path_factory.mktemp(corpus)
        rows = [(text.show, text.title, text.text, text.theme) for text in load(corpus).learn]
        with (folder / "texte.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("show", "title", "text", "theme"), *rows])
        assert run(["house", "learn", str(folder), "--out", str(folder / "haus"), "--form", "text"]) == 0
        found[corpus] = judged(folder / "haus", corpus, 5)
    return found


@pytest.mark.parametrize("corpus", UNSEEN)
def test_a_house_learnt_from_six_texts_is_right_about_the_other_six(
    unseen: Mapping[Corpus, Verdicts], corpus: Corpus
) -> None:
    found = unseen[corpus]
    if corpus == "magazin":  # none of the six has quotation marks, so the house knows the usual ones only
        assert found.refusing.pop("markup") == 4
    assert found.refusing.total() <= 1, found
    assert found.caught >= WANTED_CAUGHT * found.copies, found


# A newcomer


def test_a_newcomer_learns_a_house_of_15_short_texts_and_writes_in_it(terminal: Terminal, tmp_path: Path) -> None:
    written(tmp_path / "texte", EPG[:15])
    run = terminal("house", "learn", "texte", "--out", "haus", "--show", "Weingut Steinfeld")
    assert run.code == 0, run.err
    least, most = load_house(tmp_path / "haus").form("kurz").length[0]
    text = "Magdalena soll den ältesten Rebstock des Dorfes roden. Leopold legt sich davor und schläft ein. "
    text += "Am Morgen trägt der Stock die ersten Blätter."
    answer = {
        "title": "Der Rebstock",
        "logline": "Magdalena soll den ältesten Rebstock des Dorfes roden.",
        "characters": [{"name": "Magdalena", "role": "Winzerin"}],
        "paragraphs": [{"storyline": "A", "text": text}],
    }
    good = json.dumps(answer)
    bad = json.dumps({**answer, "paragraphs": [{"storyline": "A", "text": f"**Achtung** {text}"}]})
    order = ["--house", "haus", "--show", "Weingut Steinfeld", "--theme", "Ein alter Rebstock"]
    with LoopbackServer([Reply(bad), Reply(good)]) as server:
        run = terminal("write", *order, "--json", server=server)
    data = json.loads(run.out)
    prompt = server.requests[0].body["messages"][0]["content"]
    assert f"{least:g} bis {most:g} Zeichen" in prompt
    assert "260 bis 420" not in prompt
    assert [attempt["passed"] for attempt in data["history"]] == [False, True], run.err
    assert data["text"] == text
