"""What is installed has a licence that is allowed, and what cannot be checked is not called sound."""

import stat
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from tools.audit import UNREACHABLE, licence_problems, vulnerabilities
from tools.lock import is_of_the_index


@pytest.mark.parametrize(
    ("line", "is_allowed"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: Apache-2.0 OR GPL-2.0", True),
        ("License: LGPL-3.0", True),
        ("License-Expression: GPL-3.0-or-later", False),
        ("License: GNU General Public License v3", False),
        ("License-Expression: AGPL-3.0-only", False),
        ("Classifier: License :: OSI Approved :: BSD License", True),
        ("Classifier: License :: Other/Proprietary License", False),
        ("Summary: nothing", False),
    ],
)
def test_a_licence_is_on_the_list_or_reported(tmp_path: Path, line: str, is_allowed: bool) -> None:
    folder = tmp_path / "x-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: x\nVersion: 1\n{line}\n", encoding="utf-8")
    assert (not list(licence_problems([Distribution.at(folder)]))) == is_allowed


def test_all_that_is_installed_has_a_licence_on_the_list() -> None:
    assert list(licence_problems(distributions())) == []


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("no network", UNREACHABLE, "NOT CHECKED"),
        ('{"dependencies": []}', 0, "0 found"),
        ('{"dependencies": [{"name": "x", "version": "1", "vulns": [{"id": "CVE-1"}]}]}', 1, "x 1: CVE-1"),
    ],
)
def test_what_cannot_be_reached_is_not_called_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, code: int, words: str
) -> None:
    command = tmp_path / "pip-audit"
    command.write_text(f"#!/bin/sh\necho '{output}'\n", encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    assert vulnerabilities(str(command)) == code
    assert words in capsys.readouterr().out
    assert vulnerabilities(str(tmp_path / "none")) == UNREACHABLE


def test_a_file_from_elsewhere_is_not_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"x")
    address = "https://files.pythonhosted.org/packages/aa/bb/" + "c" * 60 + "/x.whl"
    assert not is_of_the_index(address, "0" * 64, tmp_path)
    assert not is_of_the_index("file:///opt/x.whl", "0" * 64, tmp_path)
