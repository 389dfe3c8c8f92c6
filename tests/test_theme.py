"""A theme is told in its own words or in others, and a strange one is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.theme import retold
from synopsis_writer.gate import story
from synopsis_writer.gate.finding import Subject
from synopsis_writer.gate.story import least_share, root, theme, told_share
from synopsis_writer.gate.text import analyse
from tests.corpus.damage.draft import draft_of, half_of, pool
from tests.corpus.measure import good_texts, subject_of
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, PATH, Terminal

_FILLER = "Gesa zählt am Deich die Schafe, und der Wind dreht langsam auf Nordwest. " * 4
THEME = "Ein Chirurg zittert plötzlich und verschweigt es dem ganzen Team im Operationssaal"


def _subject(told: str, theme_line: str) -> Subject:
    subject = subject_of(draft_of(good_texts()[0]))
    assert subject.brief is not None
    brief = subject.brief.model_copy(update={"theme": theme_line})
    return replace(subject, text=analyse(f"{told} {_FILLER}"), brief=brief)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Sie verschweigt die Diagnose", "Er verschwieg seine Diagnosen."),
        ("Eine Operation", "Am Morgen operieren sie ihn."),
        ("Der Streit der Schwestern", "Die Zwillingsschwester streitet."),
        ("Ein Klavierkonzert", "Sie übt für ihr Konzert am Klavier."),
        ("Sie kehrt heim", "Die Heimkehr fällt ihr schwer."),
        ("Ein Krankenhaus", "In der Klinik brennt noch Licht."),
        ("Der Verlust des Augenlichts", "Er kann kaum noch sehen und verliert den Mut."),
        ("Ein verstorbener Vater", "Nach dem Tod des Vaters bleibt es still."),
    ],
)
def test_a_theme_is_told_in_its_words_or_in_others(line: str, told: str) -> None:
    subject = _subject(told, line)
    share, _ = told_share(subject)
    assert share >= least_share(len(subject.text.words)), share
    without, _ = told_share(_subject("", line))
    assert without < share


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("verschweigen", "verschweigt"),
        ("töten", "tötet"),
        ("senden", "sendet"),
        ("verdächtigen", "verdächtigt"),
        ("erinnern", "erinnert"),
        ("erpressen", "erpresst"),
        ("gewinnen", "gewinnt"),
        ("beweisen", "beweist"),
    ],
)
def test_a_verb_has_one_root(one: str, other: str) -> None:
    assert root(one) == root(other)


def test_function_words_tell_nothing_and_rare_words_most() -> None:
    line = "Während sie nachts wartet, entgleist die Straßenbahn"
    common, _ = told_share(_subject("Sie wartet während der Nacht.", line))
    rare, _ = told_share(_subject("Die Straßenbahn steht.", line))
    assert rare > 1.5 * common


def test_a_strange_theme_names_what_is_missing() -> None:
    finding = theme(_subject("", "Ein Treppenlift entzweit ein Kölner Mietshaus"))
    assert finding is not None
    assert not finding.passed
    assert "„treppenlift“" in finding.message


def test_a_very_short_text_is_not_refused_for_a_theme_in_other_words() -> None:
    subject = replace(_subject("", "Ein Arzt verheimlicht ein Leiden"), text=analyse("Dr. Roth sieht schlecht."))
    finding = theme(subject)
    assert finding is not None
    assert finding.passed


@pytest.mark.parametrize("is_ordered", [False, True])
def test_names_most_strange_themes_and_no_own(is_ordered: bool) -> None:
    held_out = [subject_of(draft_of(text)) for text in good_texts() if half_of(text.id) == "B"]
    held_out = [replace(subject, is_ordered=is_ordered) for subject in held_out]
    findings = [
        (one is other, theme(replace(one, brief=other.brief, show=other.show)))
        for one in held_out
        for other in held_out
    ]
    own = [finding.passed for is_own, finding in findings if is_own and finding]
    strange = [not finding.passed for is_own, finding in findings if not is_own and finding]
    assert all(own)
    assert sum(strange) >= 0.9 * len(strange)
    refused = [finding for _, finding in findings if finding and not finding.passed and finding.level == "error"]
    assert len(refused) >= (0.35 if is_ordered else 0.1) * len(strange)


def test_a_theme_in_quite_other_words_never_refuses_its_text() -> None:
    subjects = {text.id.split("/")[1]: subject_of(draft_of(text)) for text in (*pool().examples, *good_texts())}
    for half, name, line in retold():
        subject = subjects[name]
        assert subject.brief is not None
        finding = theme(replace(subject, brief=subject.brief.model_copy(update={"theme": line})))
        assert finding is not None
        assert finding.passed or finding.level == "warning", (half, name, finding)


def test_a_model_that_writes_another_story_is_refused_and_a_text_one_has_is_only_warned_of(terminal: Terminal) -> None:
    order = ["--show", "Rote Rosen", "--theme", THEME, "--form", "portrait"]
    with LoopbackServer([Reply(ANSWER)]) as server:
        written = terminal("write", *order, "--attempts", "1", server=server)
    assert (written.code, written.out) == (1, "")
    assert "The theme is hardly told" in written.err
    checked = terminal("check", str(PATH), *order)
    assert (checked.code, "The theme is hardly told" in checked.out) == (0, True)


@pytest.mark.parametrize(
    "line", ["Two sisters fight over their grandfather's farm", "Un chirurgien perd la sensation de sa main"]
)
def test_a_theme_in_another_language_is_not_judged(line: str) -> None:
    assert theme(replace(_subject(_FILLER * 4, line), is_ordered=True)) is None


@pytest.mark.parametrize(("length", "level"), [(1, "warning"), (3, "warning"), (4, "error")])
def test_a_theme_of_which_nothing_is_told_refuses_a_text_of_some_length(length: int, level: str) -> None:
    finding = theme(_subject(_FILLER * (length - 1), "Ein Treppenlift entzweit ein Kölner Mietshaus"))
    assert finding is not None
    assert not finding.passed
    assert finding.level == level


@pytest.fixture
def thesaurus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the stem of a small thesaurus in the format of MyThes, which takes the installed one's place."""
    entry = "mietshaus|1\n-|Mietshaus|Zinskaserne (österr.)|Gebäude (Oberbegriff)\n"
    path = tmp_path / "th_de_DE_v2"
    path.with_suffix(".dat").write_text(f"UTF-8\n{entry}", encoding="utf-8")
    path.with_suffix(".idx").write_text("UTF-8\n1\nmietshaus|6\n", encoding="utf-8")
    monkeypatch.setattr(story, "THESAURI", (path,))
    return path


@pytest.fixture(autouse=True)
def _no_thesaurus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "THESAURI", ())
    story._thesaurus.cache_clear()
    story._synonyms.cache_clear()


@pytest.mark.usefixtures("thesaurus")
def test_an_installed_thesaurus_is_read_where_it_is() -> None:
    assert told_share(_subject("In der Zinskaserne riecht es.", "Ein Mietshaus"))[0] > 0
    assert told_share(_subject("Das Gebäude steht.", "Ein Mietshaus"))[0] == 0


def test_a_broken_thesaurus_is_left_out(thesaurus: Path) -> None:
    thesaurus.with_suffix(".idx").write_text("no thesaurus|x", encoding="utf-8")
    assert told_share(_subject("In der Zinskaserne riecht es.", "Ein Mietshaus"))[0] == 0
    assert least_share(330) == story.TOLD_SHARE
