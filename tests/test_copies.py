import os
import time
from pathlib import Path

import numpy as np
import pytest

from synopsis_writer.examples import load_pool
from synopsis_writer.gate.sources import Source, index_sources, name_forms
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder
from synopsis_writer.storage.arrays import FEWEST_CACHED, open_arrays, save_arrays

EXAMPLES = load_pool([folder("examples")]).examples
SOURCES = [
    Source(example.id, example.synopsis.text, [person.name for person in example.synopsis.characters])
    for example in EXAMPLES
]
MANY = [*SOURCES, *(Source(f"filler/{n}", f"Wort{n} " * 8) for n in range(FEWEST_CACHED))]


def test_a_copied_run_is_found_with_its_source_and_both_spans() -> None:
    source = SOURCES[3]
    start = source.text.index(" ", 200) + 1
    stolen = source.text[start : source.text.index(" ", start + 90)]
    text = f"Am Morgen danach war alles anders als gedacht. {stolen} Dann kam der Abend."
    matches = index_sources(SOURCES).matches(analyse(text), frozenset())
    assert [match.source for match in matches] == [source.id]
    spans = matches[0].span, matches[0].source_span
    assert text[slice(*spans[0])] == source.text[slice(*spans[1])] == stolen.rstrip(".,;: ")
    assert matches[0].words == len(analyse(stolen).words)


def test_a_renamed_copy_is_a_copy() -> None:
    source = next(source for source in SOURCES if source.id == "rote-rosen/reine-herztoene")
    renamed = source.text.replace("Britta Berger", "Uta Kampe").replace("Britta", "Uta").replace("Tamm", "Voss")
    index = index_sources(SOURCES)
    found = index.matches(analyse(renamed), name_forms(["Uta Kampe", "Okko Voss"]))
    assert max(match.words for match in found) > 100
    assert {match.source for match in found} == {source.id}


def test_two_sources_with_one_run_are_both_named() -> None:
    run = "ein ganz bestimmter Satz mit genau acht Wörtern"
    texts = {"a": f"{run} und mehr", "b": f"davor {run}"}
    index = index_sources([Source(name, text) for name, text in texts.items()])
    assert {match.source for match in index.matches(analyse(run), frozenset())} == {"a", "b"}


@pytest.mark.parametrize("text", ["", "kurz", "fünf Wörter sind zu wenig", "?" * 500])
def test_short_texts_match_nothing(text: str) -> None:
    assert index_sources(SOURCES).matches(analyse(text), frozenset()) == []
    assert index_sources([]).matches(analyse(SOURCES[0].text), frozenset()) == []


def test_a_large_index_is_cached_mapped_and_finds_the_same(tmp_path: Path) -> None:
    text = analyse(SOURCES[0].text)
    first = index_sources(MANY, tmp_path)
    assert isinstance(first.hashes.base, np.memmap)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    second = index_sources(MANY, tmp_path)
    assert path.stat().st_mtime_ns == written
    built = index_sources(MANY)
    assert second.matches(text, frozenset()) == first.matches(text, frozenset()) == built.matches(text, frozenset())


def test_a_small_index_is_not_cached(tmp_path: Path) -> None:
    index_sources(SOURCES, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_changed_source_rebuilds_the_index_and_old_ones_are_deleted(tmp_path: Path) -> None:
    seen: set[Path] = set()
    for change in range(6):
        changed = [*MANY[:-1], Source("filler/last", f"anders {change}")]
        index_sources(changed, tmp_path)
        (newest,) = set(tmp_path.iterdir()) - seen
        seen.add(newest)
        os.utime(newest, (time.time() + change, time.time() + change))
    left = list(tmp_path.iterdir())
    assert len(left) == 3
    assert newest in left


@pytest.mark.parametrize("part", ["hashes", "positions", "starts"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other"])
def test_a_damaged_index_is_rebuilt(tmp_path: Path, part: str, damage: str) -> None:
    index_sources(MANY, tmp_path)
    (path,) = tmp_path.iterdir()
    file = path / f"{part}.npy"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "other":
        np.save(file, np.load(file)[:-1])
    else:
        file.write_bytes(whole[:-40] if damage == "cut" else b"")
    found = index_sources(MANY, tmp_path).matches(analyse(SOURCES[0].text), frozenset())
    assert found[0].source == SOURCES[0].id
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    index = index_sources(MANY, tmp_path / "file")
    assert index.matches(analyse(SOURCES[0].text), frozenset())[0].source == SOURCES[0].id


def test_saving_twice_leaves_one_whole_folder(tmp_path: Path) -> None:
    arrays = {"numbers": np.arange(5)}
    save_arrays(tmp_path / "arrays", arrays)
    save_arrays(tmp_path / "arrays", {"numbers": np.arange(9)})
    assert [path.name for path in tmp_path.iterdir()] == ["arrays"]
    opened = open_arrays(tmp_path / "arrays")
    assert opened["numbers"].tolist() == arrays["numbers"].tolist()
