from collections.abc import Iterator
from pathlib import Path

import pytest
from wordfreq import zipf_frequency

from synopsis_writer.examples import load_pool
from synopsis_writer.gate.lexicon import LanguageClassifier, _identifier, commonness
from synopsis_writer.gate.text import analyse

ROOT = Path(__file__).resolve().parent.parent
CASES = [example.synopsis.text for example in load_pool([ROOT / "examples"]).examples]
OTHERS = [
    "The surgeon loses all feeling in her hand.",
    "Le chirurgien a perdu la main.",
    "",
    "1234",
    "ß" * 500,
]


@pytest.fixture(autouse=True)
def _one_model_of_languages() -> Iterator[None]:
    """Have a model for each folder, as the program has, and restore them after a test."""
    yield
    _identifier.cache_clear()


def test_the_cached_model_says_what_the_packed_one_says(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    packed = LanguageClassifier()
    LanguageClassifier(tmp_path / "first").load()
    (copy,) = (tmp_path / "first").iterdir()
    cached = LanguageClassifier(copy.rename(tmp_path / copy.name).parent)
    for text in [*CASES, *OTHERS, *(one.text for case in CASES for one in analyse(case).sentences)]:
        assert cached(text) == packed(text)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY half a file", None], ids=["empty", "half", "cut"])
def test_a_damaged_copy_is_written_again(tmp_path: Path, damage: bytes | None) -> None:
    (tmp_path / "whole").mkdir()
    LanguageClassifier(tmp_path / "whole").load()
    (whole,) = (tmp_path / "whole").iterdir()
    copy = whole.rename(tmp_path / whole.name)
    for file in copy.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[:-1000] if damage is None else damage)
        assert LanguageClassifier(tmp_path)(OTHERS[0])[0] == "en"
        assert file.read_bytes() == content
        _identifier.cache_clear()


def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert LanguageClassifier(tmp_path / "file" / "cache")(OTHERS[1])[0] == "fr"


@pytest.mark.parametrize(
    "word",
    ["24-jährige", "e-mail", "geht's", "1.500", "10:30", "don't", "Klara-Marie", "'", "½", "xq-zwölf", "7"],
)
def test_a_word_with_punctuation_is_as_common_as_wordfreq_says(word: str) -> None:
    assert commonness(word) == pytest.approx(zipf_frequency(word, "de"), abs=0.011)
