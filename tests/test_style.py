"""Each check alone: what it passes, what it refuses, what it measures, and where it points."""

from dataclasses import replace
from typing import Any

import pytest

from synopsis_writer.brief import Brief
from synopsis_writer.gate.finding import Finding
from synopsis_writer.gate.gate import CHECKS, Gate
from synopsis_writer.gate.sources import Source, index_sources
from synopsis_writer.gate.text import analyse
from synopsis_writer.house import built_in_house
from synopsis_writer.show import CastMember, Show

SHOW = Show(name="Unter uns", cast=(CastMember(name="Dr. Uwe Mueller", role="Arzt"),))
BRIEF = Brief(show="Unter uns", theme="Ein Treppenlift entzweit ein Mietshaus", characters=("Ida Krohn",))
PLAIN = "Ida Krohn wartet im Hof. Der Lift fährt ohne sie hinauf."
OLD = "Im Morgengrauen trug Paul Wiedmann den zerlegten Schrank allein zu seiner Tante hinauf"
COPY = OLD.replace("Paul Wiedmann", "Ida Krohn")
DULL = "Im Keller sucht er den alten Schlüssel im Haus, oben sucht er den alten Schlüssel im Dach."
ALIKE = "Dann kommt die alte Ida. Dann geht ihr Bruder Paul. Dann regnet es endlich."
MIXED = f"{PLAIN * 5} Er muss the truth endlich everything sagen."
ENGLISH = "The doctor closes the door and nobody says a word."
TWELVE = "Am Abend sitzt die alte Ida wieder allein vor ihrem stillen Haus."
SIX = "Das Tor am Hof steht offen."


def look(check: str, text: str, **given: Any) -> Finding | None:
    """Run one check; what is given replaces parts of the subject."""
    form = given.pop("form", "episode")
    subject = Gate(built_in_house()).subject(text, form, SHOW, given.get("brief", BRIEF))
    return CHECKS[check](replace(subject, **given))


def words(count: int) -> str:
    return " ".join(["Wort"] * count) + "."


PASSES = [
    ("length", words(200), {}),
    ("length", words(600), {}),
    ("length", words(80), {"brief": Brief(show="S", theme="T", words=(50, 100))}),
    ("paragraphs", "\n\n".join([PLAIN] * 5), {}),
    ("paragraphs", "\n".join([PLAIN] * 14), {}),
    ("rhythm", f"{SIX} {TWELVE} {words(20)}", {}),
    ("rhythm", f"{SIX} {TWELVE} {SIX} {words(42)}", {}),
    ("language", PLAIN, {}),
    ("language", PLAIN * 5 + " Im Radio läuft „The Long and Winding Road“, und Ida summt mit.", {}),
    ("language", PLAIN * 5 + " Dr. Ann Smith, Bob Miller, Joe Brown.", {}),
    ("ending", "Sie geht.", {}),
    ("ending", "„Er sagt: „Komm.““", {}),
    ("ending", "Er geht (endlich).", {}),
    ("ending", "Wer weiß …", {}),
    ("markup", "Ein Satz – mit Strich, 3.5 Prozent & Söhne; „Zitat“ (Klammer).", {}),
    ("markup", "Um 8 Uhr fährt der Bus.\n\nEr fährt ab.", {}),
    ("meta_talk", "Es gibt nur ein Thema: die Scheidung.", {}),
    ("meta_talk", "„Mein Text ist weg“, sagt die Schauspielerin.", {}),
    ("meta_talk", "Die Zuschauer in der Eishalle halten den Atem an.", {}),
    ("meta_talk", "Er geht.\n\nSie sagt nur:\n\n„Das Ende.“", {}),
    ("meta_talk", "System und Zufall streiten.", {}),
    ("exclamations", "Halt! Stehen bleiben! Die GmbH und die DLRG warten.", {}),
    ("person", "„Ich komme mit dir“, sagt sie. Bei „Unter uns“ und in Unter uns wird gefeiert.", {}),
    ("person", "Ihr fehlt die Kraft. Dann: Sie geht. Nur ihr Bruder weiß es.", {}),
    ("dialogue", PLAIN * 4 + "„Ich bleibe hier.“", {}),
    ("dialogue", "„Vierter Stock“ heißt das Stück.", {"title": "Vierter Stock", "form": "teaser"}),
    ("dialogue", "Der „Blaue Anton“ fährt wieder.", {"form": "teaser"}),
    ("umlauts", "Der neue Bauer misst die Masse. Ausweisstelle, Aussage, Preissenkung, diesseits, Fussel.", {}),
    ("umlauts", "Dr. Mueller und Muellers Tochter.", {}),
    ("copy", PLAIN, {}),
    ("copy", " ".join(OLD.split()[:9]) + ".", {"exclude_source": "alt/schrank"}),
    ("repetition", PLAIN, {}),
    ("repetition", "Es piept. Ida lauscht an der Tür. Es piept. Dann geht sie fort.", {}),
    ("theme", "Im Miethaus stockt der neue Treppenlift und entzweit alle Mieter.", {}),
    ("hook", f"{PLAIN} {PLAIN} Wer hat ihn gerufen? {PLAIN} {PLAIN}", {}),
    ("hook", f"{PLAIN} {PLAIN} {PLAIN} Bleibt sie?", {"form": "week"}),
    ("hook", f"{PLAIN} {PLAIN} {PLAIN} Bleibt sie? Noch schweigt sie.", {"form": "teaser"}),
    ("dates", "Im Mai, an ihrem 40. Geburtstag, im Ersten Weltkrieg, in der Folge, um 8 Uhr.", {}),
    ("dates", "Im Sommer 1975 fuhr sie.", {"brief": Brief(show="S", theme="T", notes="1975 schwanger")}),
    ("dates", "Am 3. Mai ist es so weit.", {"brief": Brief(show="S", theme="T", air_date="3. Mai 2026")}),
]

# check, text, what replaces parts of the subject, value, what the message names, what the spans point at
FAILS = [
    ("length", "", {}, 0, "tell more", []),
    ("length", words(199), {}, 199, "199 words", []),
    ("length", words(601), {}, 601, "cut", []),
    ("length", words(101), {"brief": Brief(show="S", theme="T", words=(50, 100))}, 101, "50 to 100", []),
    ("paragraphs", PLAIN, {}, 1, "5 to 14", []),
    ("paragraphs", "\n\n".join([PLAIN] * 15), {}, 15, "15 paragraphs", []),
    ("rhythm", f"{SIX} {words(43)}", {}, None, "43 words", [words(43)]),
    ("rhythm", f"{SIX} {SIX}", {}, None, "too short: 6.0", []),
    ("rhythm", f"{words(30)} {words(22)} {words(26)}", {}, None, "too long: 26.0", []),
    ("rhythm", f"{TWELVE} {words(13)} {TWELVE} {words(13)} {TWELVE}", {}, None, "of one length", []),
    ("language", ENGLISH, {}, None, "as 'en'", ["The doctor"]),
    ("language", f"{PLAIN} She never told anyone why. {PLAIN}", {}, None, "She never", ["She never told"]),
    ("language", MIXED, {}, None, "the truth", ["Er muss"]),
    ("ending", "Sie geht. Dann kommt der", {}, "geht. Dann kommt der", "not whole", ["Dann kommt der"]),
    ("ending", "Sie geht. Er bleibt.", {"truncated": True}, "cut", "length limit", ["Er bleibt."]),
    ("ending", "„Sie geht. Er bleibt.", {}, "1 to 0", "1 × „", []),
    ("ending", "Sie geht (heim. Er bleibt.", {}, "1 to 0", "1 × (", []),
    ("markup", "Da ist:\n- ein Hund\n- eine Katze.", {}, 2, "a list", ["- e", "- e"]),
    ("markup", "Heute:\n1. Ein Hund.", {}, 1, "a list", ["1. E"]),
    ("markup", "## Der Hund\nEr bellt.", {}, 1, "a heading", ["## D"]),
    ("markup", "Der alte Hund\n\nEr bellt.", {}, 1, "a heading", ["Der alte Hund"]),
    ("markup", "Der **Hund** bellt `laut`.", {}, 2, "bold or code", ["**Hund**", "`laut`"]),
    ("markup", "Der <b>Hund</b> bellt&nbsp;laut.", {}, 3, "HTML", ["<b>", "</b>", "&nbsp;"]),
    ("markup", "{", {}, 1, "JSON", ["{"]),
    ("markup", "DR. SEIDEL: Nein.", {}, 1, "a speaker label", ["DR. SEIDEL: N"]),
    ("markup", "(leise)", {}, 1, "a script direction", ["(leise)"]),
    ("markup", "Schön \u2764 und gut.", {}, 1, "an emoji", ["\u2764"]),
    ("markup", "Der Hund #bellt.", {}, 1, "a hashtag", ["#bellt"]),
    ("markup", "Mehr auf www.hund.de, sagt @hund.", {}, None, "a link", ["www.hund.de,", "@hund"]),
    ("markup", "Hun\u200bd und Kat\x07ze.", {}, 2, "invisible", ["\u200b", "\x07"]),
    ("markup", "“Nein”, sagt er.", {}, 1, "quotation marks", ["“Nein”"]),
    ("markup", "Erst.\n\n---\n\nDann.", {}, 1, "a rule", ["---"]),
    ("meta_talk", "In dieser Folge geht es rund.", {}, 1, "In dieser Folge", ["In dieser Folge"]),
    ("meta_talk", "Thema: Ein Lift.", {}, 1, "Thema:", ["Thema:"]),
    ("meta_talk", "Er geht. Gern schreibe ich eine andere Fassung.", {}, 1, "Gern", ["Gern schreibe"]),
    ("meta_talk", "Hier mein Entwurf:\nEr geht.", {}, None, "Hier mein Entwurf:", ["Hier mein", "Hier mein"]),
    ("meta_talk", "So ist es:\nEr geht im Präsens.", {}, 2, "„So ist es:“", ["So ist es:", "im Präsens"]),
    ("meta_talk", "Er geht.\n\nEnde.", {}, 1, "„Ende.“", ["Ende."]),
    ("meta_talk", "Er geht.<|im_end|>", {}, 1, "<|im_end|>", ["<|im_end|>"]),
    ("exclamations", "Halt! Nein! Doch!", {}, 3, "3 exclamation marks", ["!", "!", "!"]),
    ("exclamations", "Sie ruft NIEMALS.", {}, 1, "„NIEMALS“", ["NIEMALS"]),
    ("person", "Wir sehen „dich“, und mein Hund bellt.", {}, 2, "„Wir“, „mein“", ["Wir", "mein"]),
    ("person", "Dann fragen Sie sich, ob ihr könnt.", {}, 2, "„Sie“", ["Sie", "könnt"]),
    ("dialogue", "„Ich bleibe. Hier.“ Er geht.", {}, 0.679, "68%", ["„Ich bleibe. Hier.“"]),
    ("dialogue", "„Ja.“ „Ich bleibe.“ Er geht.", {"form": "teaser"}, None, "tell", ["„Ja.“", "„Ich"]),
    ("umlauts", "Die Muetter hoeren es.", {}, 2, "„Muetter“", ["Muetter", "hoeren"]),
    ("umlauts", "Auf der Strasse liess er alles stehen.", {}, 2, "„Strasse“", ["Strasse", "liess"]),
    ("umlauts", "Die MÃ¼tter.", {}, 1, "wrong encoding", ["Ã¼"]),
    ("umlauts", "Die M\ufffdtter.", {}, 1, "wrong encoding", ["\ufffd"]),
    ("copy", f"Er sah: {OLD}.", {}, 13, "alt/schrank, characters 0", [OLD]),
    ("copy", COPY, {}, 13, "13 words", [COPY]),
    ("repetition", f"{TWELVE} {PLAIN} {TWELVE}", {}, 1.0, "say the same", [TWELVE, TWELVE]),
    ("repetition", DULL, {}, None, "more than once", ["sucht er", "er den", "den alten"]),
    ("repetition", ALIKE, {}, None, "begin with „Dann“", ["Dann", "Dann", "Dann"]),
    ("repetition", "Haus und Haus, ein Haus im Haus am Haus.", {}, None, "vocabulary is poor", []),
    ("theme", f"{SIX} " * 8, {}, None, "„treppenlift“", []),
    ("hook", "Wer ruft? Wer? Wer geht? Wohin? Er bleibt.", {}, 0.8, "4 of 5", ["Wer", "Wer", "Wer", "Wo"]),
    ("hook", f"{PLAIN} {PLAIN} Bleibt sie?", {}, 0.2, "ends closed", ["Bleibt sie?"]),
    ("hook", f"{PLAIN} {PLAIN}", {"form": "portrait"}, 0.0, "ends open", ["Der Lift fährt"]),
    ("dates", "Zu sehen ist das am 3. Mai 2026, am 4.5.", {}, 2, "„3. Mai 2026“", ["3. Mai 2026", "4.5."]),
    ("dates", "Seit 2019 in der Mediathek abrufbar.", {}, 2, "„Seit 2019“", ["Seit", "Mediathek"]),
    ("dates", "In Folge 12 im Ersten, am elften Mai.", {}, 3, "„Folge 12“", ["Folge", "im", "elften"]),
]  # fmt: skip

SOURCES = index_sources([Source("alt/schrank", OLD, ("Paul Wiedmann",))])


@pytest.mark.parametrize(("check", "text", "given"), PASSES)
def test_passes(check: str, text: str, given: dict[str, Any]) -> None:
    finding = look(check, text, **{"sources": SOURCES, **given})
    assert finding is not None
    assert (finding.check, finding.passed, finding.spans) == (check, True, ()), finding.message


@pytest.mark.parametrize(("check", "text", "given", "value", "reported", "spots"), FAILS)
def test_fails(
    check: str, text: str, given: dict[str, Any], value: float | str | None, reported: str, spots: list[str]
) -> None:
    finding = look(check, text, **{"sources": SOURCES, **given})
    assert finding is not None
    assert (finding.check, finding.passed) == (check, False)
    assert finding.value == (finding.value if value is None else value)
    assert reported in finding.sentence
    pointed = [text[span.start : span.end] for span in finding.spans]
    assert len(pointed) == len(spots), pointed
    assert all(found.startswith(spot) for found, spot in zip(pointed, spots, strict=True)), pointed


@pytest.mark.parametrize("given", [{"brief": None}, {"sources": None}])
def test_skips_what_it_cannot_judge(given: dict[str, Any]) -> None:
    skipped = {check for check in ("theme", "dates", "copy") if look(check, PLAIN, **given) is None}
    assert skipped == ({"theme", "dates", "copy"} if "brief" in given else {"copy"})


@pytest.mark.parametrize(
    ("raw", "paragraphs", "sentences", "words", "quotes"),
    [
        ("", 0, 0, 0, 0),
        ("Dr. Krohn kommt z. B. am 3. Mai. Sie geht.", 1, 2, 9, 0),
        ("Das tut Jan. Und Ida. Nr. 5 lebt.", 1, 3, 7, 0),
        ("Erst das\neine. Dann das.\n\nUnd Schluss.", 2, 3, 7, 0),
        ("Erst.\nDann.", 2, 2, 2, 0),
        ("„Ja“, sagt er, „nein“.", 1, 1, 4, 2),
        ("1. 2. 3.", 1, 1, 0, 0),
    ],
)
def test_analyses(raw: str, paragraphs: int, sentences: int, words: int, quotes: int) -> None:
    text = analyse(raw)
    assert (len(text.paragraphs), len(text.sentences), len(text.words), len(text.quotes)) == (
        paragraphs,
        sentences,
        words,
        quotes,
    )
    assert all(word.quoted == text.is_quoted(word.span.start) for word in text.words)
