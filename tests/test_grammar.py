"""Tense, spelling, agreement and cast, each alone: verdict, message, and the place it points at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.brief import Brief
from synopsis_writer.examples import example_files, load_example
from synopsis_writer.gate import cast, form, language, lexicon, text
from synopsis_writer.gate.cast import Name, parse_name
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import CHECKS, Gate
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import built_in_house
from synopsis_writer.show import CastMember, Show, foreign_cast

GRAMMAR = ("tense", "spelling", "agreement", "cast")
GOOD = Path(__file__).parent / "corpus" / "good"
DATA = Path(lexicon.__file__).parent / "data"
SHOW = Show(
    name="In aller Freundschaft",
    place="die Sachsenklinik in Leipzig",
    cast=(
        CastMember(name="Dr. Roland Heilmann", role="Chirurg"),
        CastMember(name="Dr. Martin Stein", role="Arzt und Seelsorger"),
        CastMember(name="Otto Stein", role="Wirt"),
    ),
)
OTHER = Show(
    name="Die jungen Ärzte",
    cast=(
        CastMember(name="Dr. Matteo Moreau", role="Chirurg"),
        CastMember(name="Dr. Martin Stein", role="Arzt und Seelsorger"),
        CastMember(name="Ben Ahlbeck", role="Assistenzarzt"),
        CastMember(name="Raya", role="Tochter"),
    ),
)
BRIEF = Brief(show=SHOW.name, theme="Ein Reifendreher verliert den Daumen", characters=("Charlotte Wagner",))
HER = "Charlotte Wagner wartet im Flur."

PRESENT = (
    "Charlotte schließt die Tür und lauscht. Draußen fährt ein Wagen vor, zwei Männer steigen aus. "
    "Sie kennt den einen, der andere hinkt. Niemand klingelt. Dann geht im Hof das Licht an."
)
PRETERITE = (
    "Charlotte schloss die Tür und lauschte. Draußen fuhr ein Wagen vor, zwei Männer stiegen aus. "
    "Sie kannte den einen, der andere hinkte. Niemand klingelte. Dann ging im Hof das Licht an."
)
LOOKING_BACK = "Vor drei Jahren " + PRETERITE.replace("Charlotte schloss", "schloss Charlotte")
SUBJUNCTIVE = (
    "Er sagt, sie habe gelogen. Wäre sie klug, käme sie heim. Er könnte sie holen, sie müsste nur rufen. "
    "Er fragt, ob sie bleibe; er hofft, sie gehe nicht. Er wartet, raucht, gähnt und schläft ein. "
    "Er erwacht, steht auf und schweigt."
)


def look(check: str, text: str, **given: Any) -> Finding | None:
    """Run one check; what is given replaces parts of the subject."""
    gate = Gate(built_in_house(), shows=(SHOW, OTHER))
    subject = gate.subject(text, given.pop("form", "episode"), SHOW, BRIEF)
    return CHECKS[check](replace(subject, **given))


def people(*names: str) -> dict[str, Brief]:
    return {"brief": Brief(show=SHOW.name, theme="Eine Operation", characters=names)}


PASSES = [
    ("tense", PRESENT * 2, {}),
    ("tense", PRETERITE * 2, {"form": "special"}),
    ("tense", SUBJUNCTIVE, {}),
    ("tense", f"{PRESENT} „{PRETERITE}“", {}),
    ("tense", f"{PRESENT * 3} {LOOKING_BACK}", {"form": "portrait"}),
    ("tense", f"{PRETERITE} {PRESENT * 3}", {"form": "portrait"}),
    ("tense", f"{PRESENT * 2} Gestern rief er an. Sie legte auf.", {}),
    ("spelling", "Der Reifendreher sägt Kirschbaumholz für das Kettenkarussell und die Spielquittung.", {}),
    ("spelling", "Die sechsundachtzigjährige Wirtin hat zweiunddreißig Leberknödelsuppen gekocht.", {}),
    ("spelling", "Xaverl Brzęk aus Zwettlhof kommt. Xaverls Tür klemmt.", people("Xaverl Brzęk", "Zwettlhof")),
    ("spelling", "Die E-Mail an das Johannes-Krankenhaus bleibt ungelesen.", {}),
    ("agreement", "Der Arzt gibt der Frau das Kind, und die Fahrer des Wagens danken den Mädchen.", {}),
    ("agreement", "Die Ärztin, der Mann und Kind vertrauen, gab ihr Kraft. Um ein Uhr schlägt das eine Herz.", {}),
    ("agreement", "Das Arzt ruft die Chef.", {}),
    ("cast", f"{HER} Ihre Hand zittert.", {}),
    (
        "cast",
        "Charlottes Hand zittert. Das Auto des Arztes Roland steht im Hof.",
        people("Charlotte", "Roland Heilmann"),
    ),
    ("cast", "Wagners Wagen steht im Hof.", {}),
    ("cast", f"{HER} Ben lacht, Raya auch. Dr. Stein kommt mit Moreau.", {}),
    ("cast", f"{HER} Dr. Matteo Moreau hilft ihr.", people("Charlotte Wagner", "Dr. Matteo Moreau")),
    ("cast", f"{HER} Dr. Moreau hilft ihr.", {"people": ("Dr. Ina Moreau",)}),
    ("cast", f"{HER} Klaus Petersen ruft aus Bad Homburg an.", {}),
    ("cast", f"{HER} Abends trifft sie Jutta Wagner und Jutta Krämer.", {"people": ("Jutta Wagner", "Jutta Krämer")}),
    ("cast", f"{HER} Später sieht Roland Otto, und Stein Charlotte.", {}),
    ("cast", "Die frühere Ärztin Charlotte Wagner geht. Die Schauspielerin Charlotte Wagner kommt.", {}),
    ("cast", f"{HER} Arzt Martin Stein fragt den Seelsorger Martin Stein in sich.", {}),
    ("cast", "Niemand ist da.", {"brief": None}),
]

FAILS = [
    (
        "tense",
        PRETERITE,
        {},
        "8 of 8 verbs are not in the present, the tense of the form 'episode': „schloss“",
        "schloss",
    ),
    ("tense", f"{PRESENT * 4} {PRETERITE}", {}, "switches to the preterite with „schloss“", "schloss"),
    ("tense", f"{PRETERITE * 4} {PRESENT}", {"form": "special"}, "switches to the present with „schließt“", "schließt"),
    ("spelling", "Der Dcotor opperiert den Patienten nocheimal.", {}, "unknown: „Dcotor“, „opperiert“", "Dcotor"),
    ("spelling", "Et Marie es hück morje nit op de Arbeid jejange, ävver et well.", {}, "„morje“", "morje"),
    ("spelling", "Die Frumelkatz birtelt im Gronkelsaal.", {}, "„Frumelkatz“", "Frumelkatz"),
    ("agreement", "Das Arzt ruft die Chef. Der Kind weint.", {}, "3 articles do not fit their noun", "Das Arzt"),
    (
        "agreement",
        "Sie geht im Klinik auf und ab, für einem Freund, mit die alte Schwester.",
        {},
        "„im … Klinik“, „einem … Freund“, „die … Schwester“",
        "im Klinik",
    ),
    (
        "agreement",
        "Eine neue Krankenwagen, zum Nacht, des Arzt.",
        {},
        "„Eine … Krankenwagen“",
        "Eine neue Krankenwagen",
    ),
    ("cast", "Niemand ist da.", {}, "do not turn up: „Charlotte Wagner“", ""),
    ("cast", "Otto kommt.", people("Otto Stein", "Dr. Martin Stein"), "„Dr. Martin Stein“", ""),
    ("cast", "Stein kommt.", people("Otto Stein", "Dr. Martin Stein"), "„Otto Stein“, „Dr. Martin Stein“", ""),
    ("cast", f"{HER} Matteo Moreau kommt.", {}, "of another show: „Matteo Moreau“", "Matteo Moreau"),
    ("cast", f"{HER} Sie hört Ben Ahlbecks Stimme.", {}, "„Ben Ahlbecks“", "Ben Ahlbecks"),
    ("cast", f"{HER} Dr. Moreau kommt.", {}, "of another show: „Dr. Moreau“", "Dr. Moreau"),
    (
        "cast",
        f"{HER} Doktor Moreau kommt.",
        {"people": ("Dr. Matteo Moreau",)},
        "show: „Doktor Moreau“",
        "Doktor Moreau",
    ),
    ("cast", f"{HER} Charlotte Becker geht.", {}, "changes the last name", "Charlotte Becker"),
    (
        "cast",
        f"{HER} Die Chirurgin Charlotte operiert. Danach sucht die Anwältin Charlotte den Richter.",
        {},
        "changes the calling: „Chirurgin“, „Anwältin“",
        "Chirurgin",
    ),
    (
        "cast",
        f"{HER} Der Chirurg Charlotte Wagner operiert die Chirurgin Charlotte Wagner.",
        {},
        "changes the calling: „Chirurg“, „Chirurgin“",
        "Chirurg",
    ),
    (
        "cast",
        f"{HER} Im Flur warten Klaus Petersen, Sabine Krämer, Jürgen Hollmann und Petra Wiesner.",
        {},
        "4 people whom nobody declared: „Klaus Petersen“",
        "Klaus Petersen",
    ),
]


@pytest.mark.parametrize(("check", "text", "given"), PASSES)
def test_passes(check: str, text: str, given: dict[str, Any]) -> None:
    finding = look(check, text, **given)
    assert finding is not None
    assert (finding.passed, finding.spans) == (True, ()), finding.message


@pytest.mark.parametrize(("check", "text", "given", "message", "place"), FAILS)
def test_fails(check: str, text: str, given: dict[str, Any], message: str, place: str) -> None:
    finding = look(check, text, **given)
    assert finding is not None
    assert not finding.passed
    assert message in finding.message
    start, end = finding.spans[0] if finding.spans else (0, 0)
    assert text[start:end] == place


def test_tense_of_few_verbs_is_not_judged() -> None:
    assert look("tense", "Sie ging. Er kam.") is None


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("geht", "present"),
        ("stehen", "present"),
        ("ging", "preterite"),
        ("wegklickte", "preterite"),
        ("zurückkam", "preterite"),
        ("hinaufträgt", "present"),
        ("wäre", None),
        ("habe", None),
        ("wollte", None),
        ("Zebra", None),
    ],
)
def test_tense_of(verb: str, expected: str | None) -> None:
    assert form.tense_of(verb) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("arzt", "m"),
        ("ärztin", "f"),
        ("notfallarzt", "m"),
        ("untersuchung", "f"),
        ("sprung", "m"),
        ("krankenhaus", "n"),
        ("gesundheitsamt", "n"),
        ("durchmesser", "m"),
        ("frauen", None),
        ("reisende", None),
        ("teil", None),
        ("quorx", None),
        ("x" * 70, None),
    ],
)
def test_gender(noun: str, expected: str | None) -> None:
    assert lexicon.gender(noun) == expected


def test_no_noun_has_two_genders() -> None:
    lists = [set(" ".join(lines).split()) for lines in lexicon.word_lists("nouns").values()]
    assert len(lists) == 3
    assert sum(map(len, lists)) == len(set.union(*lists))


@pytest.mark.parametrize(
    ("determiner", "noun", "expected"),
    [
        ("der", "arzt", True),
        ("die", "arzt", False),
        ("die", "fahrer", True),
        ("eine", "fahrer", False),
        ("den", "wagen", True),
        ("des", "arzt", False),
        ("des", "kreuz", True),
        ("zur", "mann", False),
        ("keines", "kind", False),
        ("alle", "kind", True),
        ("ihr", "hand", True),
    ],
)
def test_agrees(determiner: str, noun: str, expected: bool) -> None:
    assert language.agrees(determiner, noun) is expected


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ("Prof. Dr. Karin Patzelt", Name("karin", "patzelt")),
        ("Dr. Bar", Name("", "bar")),
        ("Fladi", Name("fladi", "")),
        ("Maximilian von Altenburg", Name("maximilian", "altenburg")),
        ("Hans-Peter Brenner", Name("hans-peter", "brenner")),
        ("Schwester", Name("schwester", "")),
        ("4711", Name("", "")),
    ],
)
def test_parse_name(full: str, expected: Name) -> None:
    assert parse_name(full) == expected


@pytest.mark.parametrize("name", sorted(path.stem for path in DATA.glob("*.txt")))
def test_comments_in_lists_of_words_are_no_words(name: str) -> None:
    lines = [line for lines in lexicon.word_lists(name).values() for line in lines]
    assert lines
    assert not any(line.startswith("#") for line in lines)


def test_occupations_know_women_and_compounds() -> None:
    surgeon, woman = cast.occupation("unfallchirurg"), cast.occupation("unfallchirurgin")
    assert surgeon is not None
    assert woman == surgeon._replace(is_woman=True)
    assert cast.occupation("oberärztin") == woman
    assert cast.occupation("gynäkologin") == woman
    assert cast.occupation("tisch") is None


def test_other_casts_are_foreign_except_for_shared_people() -> None:
    assert foreign_cast((SHOW, OTHER), SHOW) == ["Dr. Matteo Moreau", "Ben Ahlbeck", "Raya"]


def test_a_misspelt_show_is_not_foreign() -> None:
    assert foreign_cast((SHOW, OTHER), Show(name="Die jungn Ärtze")) == [member.name for member in SHOW.cast]
    assert len(foreign_cast((SHOW, OTHER), Show(name="Der Bergdoktor"))) == 7


def test_tags_follow_context() -> None:
    text = analyse("Der verletzte Mann schweigt. Er verletzte den Mann. Er hat den Mann verletzt.")
    tags = {(word.sentence, word.lower): tag for word, tag in zip(text.words, text.tags, strict=True)}
    assert tags[0, "verletzte"] == "ADJ(A)"
    assert tags[1, "verletzte"] == "VV(FIN)"
    assert tags[2, "verletzt"] == "VV(PP)"


def test_long_sentences_and_texts_have_one_tag_per_word() -> None:
    for analysed in (analyse("und der Mann geht " * 500), analyse("Er geht fort. " * 3_000), analyse("")):
        assert len(analysed.tags) == len(analysed.words)


def test_memos_change_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(built_in_house(), shows=(SHOW, OTHER))
    examples = [load_example(path) for path in example_files(GOOD)[:6]]
    broken = [("tense", PRETERITE), ("spelling", "Der Dcotor opperiert."), ("cast", HER)]

    def verdicts() -> list[Finding | None]:
        found = [
            finding
            for example in examples
            for finding in gate.examine(example.synopsis, example.brief, SHOW)
            if finding.check in GRAMMAR
        ]
        return found + [look(check, text) for check, text in broken]

    warm = [verdicts(), verdicts()]
    for module, memo in ((text, "readings"), (text, "is_noun"), (lexicon, "is_known"), (lexicon, "gender")):
        monkeypatch.setattr(module, memo, getattr(module, memo).__wrapped__)
    assert [verdicts(), *warm] == [warm[0]] * 3


@pytest.mark.parametrize("path", example_files(GOOD), ids=lambda path: path.stem)
def test_good_texts_are_far_from_the_limits(path: Path) -> None:
    example = load_example(path)
    text = analyse(example.synopsis.text)
    past = form.preterite_share(text)
    assert past <= 0.3 or past >= 0.9
    assert len(list(language.mismatches(text))) <= 1
