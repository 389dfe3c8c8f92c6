"""The program does what it did before it was restructured: prompts, wire, output, files, exits.

The data was made by `tests/golden/make.py`, which says when a part of it may be renewed. Everything here goes
through the command line and through files, and knows no module of the program.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.golden import exits, helps, old, scenes
from tests.golden.command import House
from tests.golden.material import PROMPTS, load

ERRORS = ("err", "said")  # for reading only; messages may be reworded


@pytest.fixture
def house(tmp_path: Path, _languages: Path) -> House:
    folder = tmp_path / "house"
    folder.mkdir()
    return House(folder, _languages)


def without_errors(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records as JSON has them, without what is only there for reading."""
    kept = [{key: _parsed(record, key) for key in record if key not in ERRORS} for record in records]
    found: list[dict[str, Any]] = json.loads(json.dumps(kept, ensure_ascii=False))
    return found


def _parsed(record: dict[str, Any], key: str) -> Any:
    """Return a value of a record; JSON Lines as the values of lines that are not blank."""
    if key == "content" and record["file"].endswith(".jsonl"):
        # A placeholder may stand for the digits of a number.
        lines = [re.sub(r"\b(\d+\.KEY)\b", r'"\1"', line) for line in record[key]]
        return [json.loads(line) for line in lines if line.strip()]
    return record[key]


def assert_same(records: list[dict[str, Any]], golden: list[dict[str, Any]]) -> None:
    """Compare record by record, so that the first difference is shown."""
    for found, wanted in zip(without_errors(records), without_errors(golden), strict=False):
        assert found == wanted
        assert json.dumps(found) == json.dumps(wanted), "the order of fields changed"
    assert len(records) == len(golden)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_the_same_byte_for_byte(house: House, name: str) -> None:
    golden = load("prompts.json.gz")[name]
    made = house("prompt", *PROMPTS[name], "--json")
    assert made.code == golden["code"]
    if made.code == 0:
        for found, wanted in zip(made.data["messages"], golden["messages"], strict=True):
            assert found == wanted
        assert made.data == {key: value for key, value in golden.items() if key != "code"}


@pytest.mark.parametrize("name", scenes.SCENES)
def test_commands_print_ask_and_save_the_same(house: House, name: str) -> None:
    scenes.SCENES[name](house)
    assert_same(house.records, load(f"scenes/{name}.json.gz"))


@pytest.mark.parametrize("name", old.OLD_SCENES)
def test_what_the_old_version_left_opens_and_continues(house: House, name: str) -> None:
    old.OLD_SCENES[name](house)
    assert_same(house.records, load(f"opened/{name}.json.gz"))


def test_the_help_still_promises_every_command_flag_and_default(house: House) -> None:
    golden = {name: helps.promise("\n".join(lines)) for name, lines in load("helps.json").items()}
    pages = {name: helps.promise(page) for name, page in helps.pages(house).items()}
    for name, promised in golden.items():
        page = pages[name]
        assert set(promised["commands"]) <= set(page["commands"]), name
        assert len(promised["arguments"]) == len(page["arguments"]), name
        for flag, promise in promised["options"].items():
            assert page["options"][flag].get("default") == promise.get("default"), (name, flag)
            assert page["options"][flag]["is_required"] <= promise["is_required"], (name, flag)


def test_the_version_is_printed(house: House) -> None:
    made = house("--version")
    assert (made.code, house.placeheld(made.out)) == (0, "synopsis-writer VERSION\n")


@pytest.mark.parametrize("line", exits.LINES, ids=lambda line: line.name.replace("synopsis ", "", 1)[:100])
def test_exit_codes_are_the_same(house: House, line: exits.Line) -> None:
    golden = load("exits.json")[line.name]
    assert exits.outcome(line, house)["code"] == golden["code"]
