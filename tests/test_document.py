from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synopsis_writer.document import format_document, parse_document, read_document, read_toml, read_yaml
from synopsis_writer.errors import FileError, InputError

_plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=60)


_value = st.one_of(_plain, st.integers(-(10**90), 10**90), st.booleans(), st.lists(_plain, max_size=4))
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
        (b"---\na: " + b"[" * 900_000 + b"\n---\nText", "x.md:2: is nested more than 20 levels deep"),
        (b"---\ntitle: A\nText", "x.md:1: the front matter is never closed"),
        (b"---\n- a\n- b\n---\nText", "x.md:2: no fields found"),
        (b"---\n\n---\nText", "x.md:2: no fields found"),
        (b"---\na: !!python/object/apply:os.system [ls]\n---\nText", "x.md:2: has a tag"),
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [x, x]\nb: [*a, *a]", "x:1: is an anchor or an alias"),
        ("a: 1\nb: &a 1", "x:2: is an anchor or an alias"),
        ("<<: {a: 1}", "x:1: '<<' is no name"),
        ("a:\n  <<: {a: 1}", "x:2: '<<' is no name"),
        ('a: !!int ""', "x:1: has a tag"),
        ("a: !!timestamp foo", "x:1: has a tag"),
        ("a: !!python/name:os.system", "x:1: has a tag"),
        ("a: !x 1", "x:1: has a tag"),
        ("a: ! 1", "x:1: has a tag"),
        ("a: !!set {x}", "x:1: has a tag"),
        ("!!map {a: 1}", "x:1: has a tag"),
        ("a: " + "[" * 30_000, "nested more than 20 levels"),
        ("a: " + "{a: " * 30_000, "nested more than 20 levels"),
        ("\n".join(" " * level + "a:" for level in range(30)), "x:21: is nested more than 20 levels"),
        ("a:\n  " + "- " * 30_000 + "1", "nested more than 20 levels"),
        ("? " * 30_000, "nested more than 20 levels"),
        ("a: " + "1" * 5_000, "cannot be used as a number"),
        ("a: -0x" + "f" * 5_000, "cannot be used as a number"),
        ("a: 0b_", "cannot be used as a number"),
        ("a: .nan", "cannot be used as a number"),
        ("a: -.inf", "cannot be used as a number"),
        ("a: 1.0e+999", "cannot be used as a number"),
        ("a: 2025-02-30", "cannot be used as a number or date"),
        ("a: 0000-00-00", "cannot be used as a number or date"),
        ("a: 1\nb: 2\na: 3", "x:3: 'a' appears twice"),
        ("a: {b: 1, b: 2}", "x:1: 'b' appears twice"),
        ("1: a", "x:1: a name is not a text"),
        ("yes: a", "x:1: a name is not a text"),
        ("2025-04-22: a", "x:1: a name is not a text"),
        ("[a]: b", "x:1: a name is not a text"),
        ("a: 1\n--- \nb: 2", "no fields found"),
        ("a: [" + "1," * 400_000 + "]", "too many values"),
    ],
)
def test_yaml_that_our_files_do_not_need_is_refused_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        read_yaml(text, Path("x"))
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2025-04-22", date(2025, 4, 22)),
        ("2025-04-22T20:15:00", "2025-04-22T20:15:00"),
        ("2025-99-99 10:00:00", "2025-99-99 10:00:00"),
        ("20:15", "20:15"),
        ("1:30.5", "1:30.5"),
        (":".join(["59"] * 2_000), ":".join(["59"] * 2_000)),
        ("yes", True),
        ("~", None),
        ("1_000", 1000),
        ("0x1f", 31),
        (".5", 0.5),
        ("=", "="),
        ("<<", "<<"),
        ("'&a'", "&a"),
        ("Halt! Wer da?", "Halt! Wer da?"),
    ],
)
def test_yaml_values_are_of_few_kinds(text: str, value: object) -> None:
    data, _ = read_yaml(f"a: {text}", Path("x"))
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_a_title_is_a_text() -> None:
    with pytest.raises(InputError, match=r"x.md:3: 'title' is not a text"):
        parse_document(b"---\na: 1\ntitle: [x]\n---\nText", Path("x.md"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = " + "[" * 30_000, "nested too deeply"),
        ("a = " + "[" * 21 + "]" * 21, "more than 20 levels"),
        (".".join(["a"] * 400_000) + " = 1", "more than 20 parts"),
        ("[" + '"a".' * 100_000 + "b]", "more than 20 parts"),
        ("a = " + "1" * 5_000, "a number is too long"),
        ("a = 0x" + "f" * 5_000, "a number is too long"),
        ("a = 1e999", "a number is too long"),
        ("a = nan", "a number is too long"),
        ("a = 2025-02-30", "Invalid date"),
        ("a = 1\na = 2", "overwrite"),
    ],
)
def test_toml_that_no_configuration_needs_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=problem):
        read_toml(path)


@pytest.mark.parametrize("text", ["Gesa\u00a0Meinecke", "Zähl\u00adschafe", "a\u200f", "\x07", "x" * 5000])
def test_what_stands_in_two_fields_is_written_twice_and_can_be_read(text: str) -> None:
    shared = {"name": "synopsis", "parts": [text]}
    meta = {"prompt": shared, "release": {"prompt": shared, "waived": [shared]}, "waived": [shared]}
    content = format_document(meta, "Ein Text.")
    assert parse_document(content.encode("utf-8"), Path("x.md")).meta == meta
