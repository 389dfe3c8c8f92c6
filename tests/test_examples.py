import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.cli.app import run
from synopsis_writer.document import format_document
from synopsis_writer.errors import ExampleError, FileError
from synopsis_writer.evals.suite import load_cases
from synopsis_writer.examples import add, load_example, load_pool
from synopsis_writer.formats.reading import read_source
from synopsis_writer.house import built_in_house
from synopsis_writer.learning.learn import calibrate
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.settings import Settings, folder
from synopsis_writer.show import find_show, load_show, nearest_shows
from synopsis_writer.storage.files import slug
from synopsis_writer.workspace import check_pool

FORMS = tuple(built_in_house().forms)

POOL = load_pool([folder("examples")])
GOOD = (folder("examples") / "rote-rosen" / "reine-herztoene.md").read_text(encoding="utf-8")


def test_the_pool_has_the_promised_examples() -> None:
    forms = Counter(example.brief.form for example in POOL.examples)
    assert len(POOL.examples) >= 24
    assert all(forms[form] >= 4 for form in FORMS)
    assert len(POOL.shows) >= 5
    assert all(show.cast and show.place for show in POOL.shows)


def test_the_pool_keeps_to_format_and_gate(tmp_path: Path) -> None:
    count, problems = check_pool(Settings(examples=folder("examples"), cache=tmp_path))
    assert problems == []
    assert count == len(POOL.examples)


@pytest.mark.parametrize("example", POOL.examples, ids=lambda example: example.id)
def test_examples_read_back_what_is_written(example: object, tmp_path: Path) -> None:
    from synopsis_writer.examples import Example

    assert isinstance(example, Example)
    path = tmp_path / "copy.md"
    path.write_text(
        format_document({"brief": example.brief.as_data(), **example.synopsis.front_matter()}, example.synopsis.text),
        "utf-8",
    )
    copy = load_example(path)
    assert (copy.brief, copy.synopsis) == (example.brief, example.synopsis)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("form: portrait", "form: ein porträt", ":5: form: 'ein porträt' is no form's name"),
        ("  theme: Eine Ärztin verliert", "  thema: Eine Ärztin verliert", "theme: field required"),
        ("title: Reine Herztöne\n", "", "title: field required"),
        ("storylines: [A, A, C, A, B, A]", "storylines: [A, A, C, A, B]", ":15: 'storylines' has 5 letters for 6"),
        ("storylines: [A, A, C, A, B, A]", "storylines: [A, A, C, A, B, X]", "paragraphs.5.storyline"),
        ("brief:", "auftrag:", "no 'brief' in the front matter"),
        ("role: Ärztin}", "rolle: Ärztin}", ":10: characters.0.role: field required"),
        ("show: Rote Rosen", "show: [Rote", "not YAML"),
    ],
)
def test_a_broken_example_is_reported_with_file_line_and_fix(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "rote-rosen" / "broken.md"
    path.parent.mkdir()
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ExampleError) as caught:
        load_pool([tmp_path])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_pools_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file or directory: name another with --examples"):
        load_pool([tmp_path / "none"])
    with pytest.raises(ExampleError, match="holds no example"):
        load_pool([tmp_path])


def test_a_broken_show_file_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "show.yaml"
    path.write_text("name: X\ncast:\n  - {name: Ada, role: Wirtin, gender: x}\n", encoding="utf-8")
    with pytest.raises(ExampleError, match=r"show.yaml:3: cast.0.gender: "):
        load_show(path)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("in aller freundschaft", "In aller Freundschaft"),
        ("AWZ", "Alles was zählt"),
        ("In aller Freundschaft - Die jungen Ärzte", "In aller Freundschaft – Die jungen Ärzte"),
        ("Gute Zeiten schlechte Zeiten", "Gute Zeiten, schlechte Zeiten"),
    ],
)
def test_shows_are_found_as_people_type_them(typed: str, name: str) -> None:
    found = find_show(POOL.shows, typed)
    assert found is not None
    assert found.name == name


def test_unknown_shows_get_near_names() -> None:
    assert find_show(POOL.shows, "../../etc") is None
    assert nearest_shows(POOL.shows, "Rote Rose")[0] == "Rote Rosen"
    assert nearest_shows(POOL.shows, "qqqq zzzz") == []


@given(st.text(max_size=200))
def test_a_slug_is_a_safe_file_name(text: str) -> None:
    name = slug(text)
    assert 1 <= len(name) <= 60
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0] != "-" != name[-1]
    assert slug(name) == name


def test_a_persons_own_text_becomes_an_example(tmp_path: Path) -> None:
    body = load_example(folder("examples") / "rote-rosen" / "reine-herztoene.md").synopsis.text
    file = tmp_path / "mein-text.txt"
    file.write_text(f"Der Befund\n\n{body}\n", encoding="utf-8")
    path = add(
        read_source(file), tmp_path / "pool", POOL.shows, show="rote rosen",
        theme="Eine Ärztin verliert ihr Gehör", form="portrait",
    )  # fmt: skip
    example = load_pool([tmp_path / "pool"]).examples[0]
    assert example.path == path
    assert example.synopsis.title == "Der Befund"
    assert example.synopsis.text == body
    assert "Britta Berger" in [person.name for person in example.synopsis.characters]
    assert load_pool([tmp_path / "pool"]).shows[0].name == "Rote Rosen"


LITTER = ("._x.md", ".#x.md", "~$x.md", ".~lock.x.md", "x.bak.md", ".hidden.md", "#x.md#", "x.md~", ".DS_Store")
FOLDERS = ("__MACOSX/rote-rosen", ".git/rote-rosen", "@eaDir/rote-rosen", "rote-rosen/__MACOSX")


def littered(folder: Path) -> None:
    (folder / "rote-rosen").mkdir(parents=True, exist_ok=True)
    for name in LITTER:
        (folder / "rote-rosen" / name).write_bytes(b"\0\x05\x16\x07")
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "x.md").write_bytes(b"\0\x05\x16\x07")
        (folder / name / "show.yaml").write_bytes(b"\0\x05\x16\x07")
    (folder / "rote-rosen" / ".#broken.md").symlink_to("nobody@host.1234")


def test_hidden_files_and_litter_are_no_examples(tmp_path: Path) -> None:
    copied = shutil.copytree(folder("examples"), tmp_path / ".hidden" / "pool")
    littered(copied)
    pool = load_pool([copied])
    assert [example.id for example in pool.examples] == [
        example.id for example in load_pool([folder("examples")]).examples
    ]
    assert check_pool(Settings(examples=copied, cache=tmp_path / "cache"))[1] == []


def test_hidden_files_and_litter_are_no_references(tmp_path: Path) -> None:
    copied = shutil.copytree(folder("evals"), tmp_path / "evals") / "cases"
    littered(copied)
    assert len(load_cases(copied)) == len(load_cases(folder("evals") / "cases"))


def test_hidden_files_and_litter_are_no_texts_of_a_house(tmp_path: Path) -> None:
    copied = shutil.copytree(folder("examples"), tmp_path / "pool")
    littered(copied)
    assert calibrate(copied, built_in_house(), "own") == calibrate(folder("examples"), built_in_house(), "own")


def test_hidden_files_and_litter_are_no_templates(tmp_path: Path) -> None:
    copied = shutil.copytree(folder("prompts"), tmp_path / "prompts")
    before = folder_hash(copied)
    littered(copied)
    assert folder_hash(copied) == before


def test_an_unknown_show_is_made_with_the_people_whom_a_text_names(tmp_path: Path) -> None:
    text = "Die Wirtin Katharina Vogt zählt die Fässer. Ihr Neffe Jonas Brandt hat eines verkauft."
    (tmp_path / "schenke.txt").write_text(text, encoding="utf-8")
    pool = tmp_path / "pool"
    order = ["--show", "Die Schenke", "--form", "teaser", "--examples", str(pool)]
    assert run(["examples", "add", str(tmp_path / "schenke.txt"), *order]) == 0
    show = load_show(pool / "die-schenke" / "show.yaml")
    assert {(member.name, member.role) for member in show.cast} == {
        ("Katharina Vogt", "Wirtin"),
        ("Jonas Brandt", "Neffe"),
    }
