"""What the program needs can be installed on every system it is for, by `platforms.tsv`."""

import csv
import re
import tomllib
from pathlib import Path

import pytest
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

from tools.platforms import PLATFORMS, TABLE, pythons

ROOT = Path(__file__).parent.parent
PROMISED = ("manylinux x86_64", "manylinux aarch64", "macOS x86_64", "macOS arm64", "Windows amd64")
with TABLE.open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file, delimiter="\t"))
CORE = [row for row in ROWS if row["needed by"] == "core"]


@pytest.mark.parametrize("row", CORE, ids=lambda row: row["name"])
def test_a_core_dependency_needs_no_compiler_on_the_promised_systems(row: dict[str, str]) -> None:
    assert [row[platform] for platform in PROMISED] == ["all"] * len(PROMISED)


def test_the_table_has_what_is_declared_at_the_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    declared = {canonicalize_name(re.split(r"[<>=]", text)[0]) for text in [*project["dependencies"], *extras]}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    versions = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}
    listed = {row["name"]: row["version"] for row in ROWS}
    assert {name: listed.get(name) for name in declared} == {name: versions[name] for name in declared}, (
        "make platforms renews the table"
    )


def test_the_table_names_no_address() -> None:
    assert re.search(r"://|\.org|\.io|\.com|/", TABLE.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("tag", "platform", "expected"),
    [
        ("py3-none-any", "Windows amd64", "all"),
        ("cp312-cp312-manylinux_2_17_x86_64", "manylinux x86_64", "3.12"),
        ("cp312-cp312-manylinux_2_17_x86_64", "manylinux aarch64", "no"),
        ("cp312-cp312-manylinux2014_aarch64", "manylinux aarch64", "3.12"),
        ("cp312-cp312-manylinux_2_39_x86_64", "manylinux x86_64", "no"),
        ("cp312-cp312-musllinux_1_2_x86_64", "manylinux x86_64", "no"),
        ("cp38-abi3-win_amd64", "Windows amd64", "all"),
        ("cp313-abi3-win_amd64", "Windows amd64", "3.13 3.14"),
        ("cp314-cp314t-win_amd64", "Windows amd64", "no"),
        ("py3-none-macosx_11_0_arm64", "macOS arm64", "all"),
        ("cp311-cp311-macosx_10_9_universal2", "macOS x86_64", "3.11"),
        ("cp311-cp311-macosx_15_0_arm64", "macOS arm64", "no"),
    ],
)
def test_a_wheel_serves_the_pythons_of_its_tag(tag: str, platform: str, expected: str) -> None:
    assert platform in PLATFORMS
    assert pythons(parse_tag(tag), platform) == expected
