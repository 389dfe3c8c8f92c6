import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from synopsis_writer.examples import load_pool
from synopsis_writer.gate.copies import (
    Source,
    build_index,
    cached_index,
    index_key,
    name_forms,
    open_index,
    save_index,
)
from synopsis_writer.gate.text import analyse
from synopsis_writer.settings import folder
from synopsis_writer.storage.arrays import FEWEST_KEPT

EXAMPLES = load_pool([folder("examples")]).examples
SOURCES = [
    Source(example.id, example.synopsis.text, [person.name for person in example.synopsis.characters])
    for example in EXAMPLES
]
TEXTS = {source.id: source.text for source in SOURCES}
MANY = [*SOURCES, *(Source(f"filler/{n}", f"Wort{n} " * 8) for n in range(FEWEST_KEPT))]


def test_a_copied_run_is_found_with_its_source_and_both_spans() -> None:
    source = SOURCES[3]
    start = source.text.index(" ", 200) + 1
    stolen = source.text[start : source.text.index(" ", start + 90)]
    text = f"Am Morgen danach war alles anders als gedacht. {stolen} Dann kam der Abend."
    matches = build_index(SOURCES, TEXTS.__getitem__).matches(analyse(text), frozenset())
    assert [match.source for match in matches] == [source.id]
    spans = matches[0].span, matches[0].source_span
    assert text[slice(*spans[0])] == source.text[slice(*spans[1])] == stolen.rstrip(".,;: ")
    assert matches[0].words == len(analyse(stolen).words)


def test_a_renamed_copy_is_a_copy() -> None:
    source = next(source for source in SOURCES if source.id == "rote-rosen/reine-herztoene")
    renamed = (
        source.text.replace("Britta Berger", "Uta Kampe").replace("Britta", "Uta").replace("Tamm", "Voss")
    )
    index = build_index(SOURCES, TEXTS.__getitem__)
    found = index.matches(analyse(renamed), name_forms(["Uta Kampe", "Okko Voss"]))
    assert max(match.words for match in found) > 100
    assert {match.source for match in found} == {source.id}


def test_two_sources_with_one_run_are_both_named() -> None:
    run = "ein ganz bestimmter Satz mit genau acht Wörtern"
    texts = {"a": f"{run} und mehr", "b": f"davor {run}"}
    index = build_index([Source(name, text) for name, text in texts.items()], texts.__getitem__)
    assert {match.source for match in index.matches(analyse(run), frozenset())} == {"a", "b"}


@pytest.mark.parametrize("text", ["", "kurz", "fünf Wörter sind zu wenig", "?" * 500])
def test_short_texts_match_nothing(text: str) -> None:
    assert build_index(SOURCES, TEXTS.__getitem__).matches(analyse(text), frozenset()) == []
    assert build_index([], TEXTS.__getitem__).matches(analyse(SOURCES[0].text), frozenset()) == []


def test_a_large_index_is_kept_mapped_and_finds_the_same(tmp_path: Path) -> None:
    text = analyse(SOURCES[0].text)
    first = cached_index(MANY, tmp_path)
    assert isinstance(first.hashes, np.memmap)
    place = tmp_path / index_key(MANY)
    written = place.stat().st_mtime_ns
    second = cached_index(MANY, tmp_path)
    assert place.stat().st_mtime_ns == written
    built = build_index(MANY, {source.id: source.text for source in MANY}.__getitem__)
    assert (
        second.matches(text, frozenset())
        == first.matches(text, frozenset())
        == built.matches(text, frozenset())
    )


def test_a_changed_source_builds_anew_and_old_indexes_go(tmp_path: Path) -> None:
    for change in range(6):
        changed = [*MANY[:-1], Source("filler/last", f"anders {change}")]
        cached_index(changed, tmp_path)
        os.utime(tmp_path / index_key(changed), (time.time() + change, time.time() + change))
    kept = [path.name for path in tmp_path.iterdir()]
    assert len(kept) == 3
    assert index_key(changed) in kept


@pytest.mark.parametrize("part", ["hashes.npy", "words.json"])
def test_a_damaged_index_is_built_anew(tmp_path: Path, part: str) -> None:
    cached_index(MANY, tmp_path)
    path = tmp_path / index_key(MANY) / part
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises((ValueError, OSError)):
        open_index(path.parent, TEXTS.__getitem__)
    found = cached_index(MANY, tmp_path).matches(analyse(SOURCES[0].text), frozenset())
    assert found[0].source == SOURCES[0].id


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    index = cached_index(MANY, tmp_path / "file")
    assert index.matches(analyse(SOURCES[0].text), frozenset())[0].source == SOURCES[0].id


def test_saving_twice_leaves_one_whole_index(tmp_path: Path) -> None:
    index = build_index(SOURCES, TEXTS.__getitem__)
    save_index(index, tmp_path / "index")
    save_index(index, tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    words = json.loads((tmp_path / "index" / "words.json").read_text(encoding="utf-8"))
    assert words["ids"] == [source.id for source in SOURCES]
