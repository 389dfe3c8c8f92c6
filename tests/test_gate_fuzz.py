"""The gate survives any text: it never raises, points inside the text, and does not hang."""

import time
import unicodedata
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synopsis_writer.brief import Brief
from synopsis_writer.gate.gate import CHECKS, Gate
from synopsis_writer.gate.sources import Source, index_sources
from synopsis_writer.gate.text import MOST_CHARACTERS, analyse
from synopsis_writer.house import built_in_house
from synopsis_writer.show import CastMember, Show

FORMS = tuple(built_in_house().forms)

MOST_SECONDS = 2.0
SOURCE = "Der alte Mann sitzt am Fenster und wartet auf den Bus, der heute nicht mehr kommt."
GATE = Gate(built_in_house(), index_sources([Source("alt/mann", SOURCE)]))
SHOW = Show(name="Unter uns", cast=(CastMember(name="Dr. Uwe Müller", role="Arzt"),))
BRIEF = Brief(show="Unter uns", theme="Ein Treppenlift entzweit ein Mietshaus", characters=("Ida Krohn",))

MARKS = '„ “ ” " » « ( ) ! ? . … Dr. 3. ** # - 1. | { [ ]( <b > &# @ http:// Titel: KW'.split(" ")
LETTERS = "ss ae Straße Strasse Ich Sie IST the é e\u0301 病院 больница مستشفى ที่ İ ǅ ﬁ Krohn Müllers".split(" ")
ODD = ["\n", "\n\n", " ", "\t", "\x00", "\u2028", "\u200b", "\ud800", "\U0001f469"]
SNIPPETS = st.sampled_from([*SOURCE.split(), SOURCE, *MARKS, *LETTERS, *ODD])
ANY_CHARACTER = st.characters(codec=None)
TEXTS = st.one_of(
    st.text(ANY_CHARACTER, max_size=400),
    st.lists(SNIPPETS, max_size=300).map("".join),
    st.lists(SNIPPETS, max_size=300).map(" ".join),
    st.builds(lambda snippet, count: snippet * count, SNIPPETS, st.integers(1, 3_000)),
    st.text(st.characters(categories=["P", "S", "Z"]), max_size=400),
)
LONG = {
    "one long word": "a" * 100_000,
    "one long word with umlauts": "äss" * 30_000,
    "capitals": "Ä" * MOST_CHARACTERS,
    "hyphens": "ab-" * 20_000,
    "single letters": "a " * MOST_CHARACTERS,
    "names": "Ida Krohn " * 5_000,
    "short sentences": "Er geht so fort. " * 4_000,
    "foreign sentences": "Xan qir vol zet. " * 4_000,
    "English sentences": "The man is old. " * 4_000,
    "one endless sentence": "und der Mann geht " * 3_000,
    "ordinals": "1. " * 20_000,
    "a copy again and again": f"{SOURCE} " * 700,
    "quotations": "„ja“ " * 12_000,
    "opened quotations": "„" * MOST_CHARACTERS,
    "straight quotes": '"a ' * 20_000,
    "paragraphs": "a\n\n" * 20_000,
    "line ends": "\n" * MOST_CHARACTERS,
    "ellipses": "." * MOST_CHARACTERS,
    "question marks": "a? " * 20_000,
    "exclamation marks": "!" * MOST_CHARACTERS,
    "spaces": " " * MOST_CHARACTERS + "a",
    "brackets": "[" * MOST_CHARACTERS,
    "angles": "<a" * 25_000,
    "ends behind the last word": "a" + "<!--" * 10_000 + "[" * 9_000,
    "asterisks": "*a " * 20_000,
    "pipes": "|\n" * 25_000,
    "ampersands": "&#1" * 20_000,
    "at signs": "@" * MOST_CHARACTERS,
    "first person": "ich " * 12_000,
    "writers in quotations": "„Sie“ Text ich, " * 3_000,
    "surrogates": "\ud800" * MOST_CHARACTERS,
    "combining marks": "u\u0308" * 25_000,
}


def examine(raw: str, form: str, *, with_brief: bool) -> None:
    brief = BRIEF if with_brief else None
    load_models()
    start = time.process_time()
    findings = GATE.judge(GATE.subject(raw, form, SHOW, brief, people=("Paul Wiedmann",)))
    took = time.process_time() - start
    assert len(findings) >= len(CHECKS) - 6
    length = len(unicodedata.normalize("NFC", raw))  # which for a few characters is longer than `raw`
    for finding in findings:
        assert finding.message
        assert all(0 <= span.start < span.end <= length for span in finding.spans), finding
    assert took < MOST_SECONDS


@cache
def load_models() -> None:
    GATE.judge(GATE.subject(SOURCE, "episode", SHOW, BRIEF))


@example(raw="\U0001d15e", form="episode", with_brief=False)
@given(raw=TEXTS, form=st.sampled_from(FORMS), with_brief=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_text(raw: str, form: str, with_brief: bool) -> None:
    examine(raw, form, with_brief=with_brief)


@pytest.mark.parametrize("raw", LONG.values(), ids=LONG.keys())
def test_long_text(raw: str) -> None:
    examine(raw, "teaser", with_brief=True)


@given(raw=TEXTS)
@settings(max_examples=100)
def test_analysis_is_consistent(raw: str) -> None:
    text = analyse(raw)
    assert len(text.raw) == min(len(unicodedata.normalize("NFC", raw)), MOST_CHARACTERS)
    assert [word.form for word in text.words] == [text.raw[slice(*word.span)] for word in text.words]
    assert [own.text for own in text.sentences] == [text.raw[slice(*own.span)] for own in text.sentences]
    assert sum(sentence.length for sentence in text.sentences) == len(text.words)
    spans = [sentence.span for sentence in text.sentences]
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(word.quoted == text.is_quoted(word.span.start) for word in text.words)
