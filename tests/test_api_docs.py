"""The examples of `docs/api.md` are right: they type-check, and they run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
PLAN = (
    '{"title": "Der Hund", "logline": "Ein Hund sieht etwas am Fluss.", "characters": [{"name": "Gesa Hold",'
    ' "role": "Ärztin"}], "beats": ["Gesa sieht den Hund.", "Er folgt ihr.", "Sie nimmt ihn mit."]}'
)
PRICES = '[models."gpt-5.4-mini"]\ninput = 0.75\noutput = 4.5\n'
# `make types` checks the package itself; of `openai`, whose types no example sees, mypy would read 2,000 files.
CHECKED_ELSEWHERE = """
[[tool.mypy.overrides]]
module = "synopsis_writer.*"
ignore_errors = true

[[tool.mypy.overrides]]
module = "openai.*"
follow_imports = "skip"
"""


def test_the_examples_type_check(tmp_path: Path) -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # says what is known of untyped packages
    (tmp_path / "pyproject.toml").write_text(settings + CHECKED_ELSEWHERE, encoding="utf-8")
    for number, block in enumerate(BLOCKS):
        (tmp_path / f"example_{number}.py").write_text(block, encoding="utf-8")
    flags = ["--strict", "--config-file", f"{tmp_path}/pyproject.toml", "--cache-dir", os.devnull]
    command = [sys.executable, "-m", "mypy", *flags, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"in {len(BLOCKS)} source files" in done.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=[str(number) for number in range(len(BLOCKS))])
def test_an_example_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text(PRICES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNOPSIS_PRICES", "prices.toml")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    steps = [Reply(PLAN)] if "outline_sync(" in block else []
    with LoopbackServer([*steps, *[Reply(ANSWER, prompt_tokens=3000)] * 40]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        exec(compile(block, "docs/api.md", "exec"), {"__name__": "example"})
    if "writer.save(" in block:
        assert (tmp_path / "synopsen" / "rote-rosen" / "der-weisse-hund.md").is_file()
