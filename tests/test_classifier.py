from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wordfreq import zipf_frequency

from synopsis_writer.examples import load_pool
from synopsis_writer.gate import lexicon, text
from synopsis_writer.gate.lexicon import classify, commonness
from synopsis_writer.gate.text import analyse, tag
from synopsis_writer.storage import arrays
from synopsis_writer.storage.arrays import Arrays

ROOT = Path(__file__).resolve().parent.parent
CASES = [example.synopsis.text for example in load_pool([ROOT / "examples"]).examples[::3]]
OTHERS = ["The surgeon loses all feeling in her hand.", "Le chirurgien a perdu la main.", "", "1234", "ß" * 500]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return where what is unpacked is cached, and have it loaded anew in this test and after it."""
    monkeypatch.setattr(lexicon, "_folders", [tmp_path])
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    lexicon._identifier.cache_clear()
    lexicon._frequencies.cache_clear()
    commonness.cache_clear()
    text._model.cache_clear()
    text.readings.cache_clear()


def _answers() -> list[object]:
    sentences = [one.text for case in CASES for one in analyse(case).sentences]
    words = " ".join(CASES).split()
    return [*map(classify, (*CASES, *OTHERS, *sentences)), *map(commonness, words), tag(words)]


def test_what_is_cached_says_what_is_packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = _answers()
    _forget()
    assert _answers() == built
    monkeypatch.setattr(lexicon, "_folders", [])
    _forget()
    assert _answers() == built
    assert {path.name for path in folder.iterdir()} == {"py3langid", "wordfreq", "HanTa"}


@pytest.fixture(scope="module")
def built() -> dict[str, Arrays]:
    return {}


@pytest.fixture
def _built_once(built: dict[str, Arrays], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the data of a package, which take a second, read once for all tests that are not about it."""
    real = arrays.cached_arrays

    def cached(path: Path | None, build: Callable[[], Arrays], is_sound: Callable[[Arrays], bool] = bool) -> Arrays:
        def build_once() -> Arrays:
            package = path.parent.name if path else ""
            if package not in built:
                built[package] = build()
            return built[package]

        return real(path, build_once, is_sound)

    monkeypatch.setattr(lexicon, "cached_arrays", cached)
    monkeypatch.setattr(arrays, "cached_arrays", cached)


DAMAGES = (b"", b"\x93NUMPY half a file", None)  # None: it is cut


def _use(package: str) -> bool:
    """Whether what is unpacked from a package says what it should."""
    if package == "HanTa":
        return tag("Er geht nach Hause .".split())[1] == "VV(FIN)"
    return classify(OTHERS[0])[0] == "en" if package == "py3langid" else commonness("haus") > 4


# Each file is damaged in one of these ways, and in the others, too, by `make test-all`.
@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.slow) for turn in (1, 2))])
@pytest.mark.parametrize("package", ["py3langid", "wordfreq", "HanTa"])
@pytest.mark.usefixtures("_built_once")
def test_a_damaged_copy_is_written_again(folder: Path, package: str, turn: int) -> None:
    assert _use(package)
    (copy,) = folder.glob(f"{package}/*")
    for number, file in enumerate(sorted(copy.iterdir()), turn):
        damage = DAMAGES[number % len(DAMAGES)]
        content = file.read_bytes()
        file.unlink()  # the old content may be mapped
        file.write_bytes(content[:-1000] if damage is None else damage)
        _forget()
        assert _use(package)
        assert file.read_bytes() == content


@pytest.mark.parametrize("package", ["py3langid", "wordfreq", "HanTa"])
@pytest.mark.usefixtures("_built_once")
def test_two_versions_of_the_program_use_one_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for version in ("1", "2"):
        monkeypatch.setattr(lexicon, "__version__", version)
        for each in ("py3langid", "wordfreq", "HanTa"):
            _forget()
            assert _use(each)
    copies = {path.name.rpartition("-")[2] for path in folder.glob(f"{package}/*")}
    assert copies == {"1", "2"}


@pytest.mark.usefixtures("_built_once")
def test_a_folder_that_cannot_be_written_costs_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(lexicon, "_folders", [folder / "file" / "cache"])
    assert classify(OTHERS[1])[0] == "fr"
    assert commonness("haus") > 4


@pytest.mark.parametrize(
    "word", ["Haus", "Straße", "e-mail", "geht's", "geht’s", "don't", "Klara-Marie", "'", "xqz-zwölf", "Arzt-Sohn-Paar"]
)
def test_a_word_is_as_common_as_wordfreq_says(word: str) -> None:
    assert commonness(word) == pytest.approx(zipf_frequency(word, "de"), abs=0.011)
