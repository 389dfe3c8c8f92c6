from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synopsis_writer.document import format_document, parse_document, read_document
from synopsis_writer.errors import FileError, InputError

_plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=60)


_value = st.one_of(_plain, st.integers(), st.booleans(), st.lists(_plain, max_size=4))
_meta = st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), _value, min_size=1, max_size=5)


@given(meta=_meta, text=_plain.map(str.strip).filter(lambda text: not text.startswith("---")))
@settings(max_examples=200)
def test_front_matter_and_text_read_back(meta: dict[str, Any], text: str) -> None:
    document = parse_document(format_document(meta, text).encode("utf-8"), Path("x.md"))
    assert document.meta == meta
    assert document.text == text


def test_a_text_without_front_matter_is_all_text() -> None:
    document = parse_document("\ufeffErster Absatz.\r\n\r\nZweiter.\r\n".encode(), Path("x.txt"))
    assert document.meta == {}
    assert document.text == "Erster Absatz.\n\nZweiter."


def test_places_name_the_line_of_a_field() -> None:
    document = parse_document(b"---\nbrief:\n  show: A\n  form: B\ntags: [x, y]\n---\nText", Path("x.md"))
    assert document.location("brief", "form") == "x.md:4"
    assert document.location("tags", 1) == "x.md:5"
    assert document.location("brief", "theme") == "x.md:2"
    assert document.location("title") == "x.md:1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"---\ntitle: A: B\n---\nText", "x.md:2: not YAML"),
        (b"---\n\ttitle: A\n---\nText", "x.md:2: not YAML"),
        (b"---\na: " + b"[" * 900_000 + b"\n---\nText", "x.md:2: not YAML: nested too deeply"),
        (b"---\ntitle: A\nText", "x.md:1: the front matter is never closed"),
        (b"---\n- a\n- b\n---\nText", "x.md:2: no fields found"),
        (b"---\n\n---\nText", "x.md:2: no fields found"),
        (b"---\na: !!python/object/apply:os.system [ls]\n---\nText", "x.md:2: not YAML"),
    ],
)
def test_broken_front_matter_is_reported_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.md"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_document(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Gr\xfc\xdfe", "is not UTF-8 (byte 3)"),
        (b"a\x00b", "is a binary file"),
        (b"x" * 1_000_001, "is larger than 1 MB"),
        (None, "no such file"),
    ],
)
def test_files_that_are_not_text(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_document(path)
    with pytest.raises(FileError, match="is a folder"):
        read_document(tmp_path)
