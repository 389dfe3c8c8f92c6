"""The main job on the packaged model, as a person without a key runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synopsis_writer.document import read_document
from synopsis_writer.examples import load_example

COMMAND = str(Path(sys.executable).with_name("synopsis"))
THEME = "Ein Chirurg verliert nach einem Schlaganfall das Gefühl in der Hand"

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def run(folder: Path, cache: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYNOPSIS_CACHE": cache}
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_person_without_a_key_gets_a_labelled_draft_that_holds_the_gate(tmp_path: Path, cache: str) -> None:
    done = run(tmp_path, cache, "write", "--show", "Sachsenklinik", "--theme", THEME, "--seed", "7")
    assert done.returncode == 0, done.stderr
    path = next((tmp_path / "synopsen" / "in-aller-freundschaft").iterdir())
    example = load_example(path)
    assert done.stdout == f"{example.synopsis.title}\n\n{example.synopsis.text}\n"
    assert THEME in example.synopsis.text
    label = read_document(path).meta["draft"]
    assert label.startswith("demo draft: ")
    assert label in done.stderr
    assert "words by the model" in label
    check = run(tmp_path, cache, "check", str(path))
    assert check.returncode == 0, check.stdout


def test_the_same_seed_gives_the_same_text(tmp_path: Path, cache: str) -> None:
    arguments = (
        "write",
        "--show",
        "AWZ",
        "--theme",
        "Ein Fest fällt aus",
        "--form",
        "teaser",
        "--seed",
        "3",
        "--json",
    )
    first, second = (json.loads(run(tmp_path, cache, *arguments).stdout) for _ in range(2))
    assert first["text"] == second["text"]
    assert first["draft"].startswith("demo draft: ")
    assert first["usage"]["completion_tokens"] > 0


def test_an_outline_of_the_packaged_model_can_be_given_back(tmp_path: Path, cache: str) -> None:
    done = run(
        tmp_path, cache, "outline", "--show", "Rote Rosen", "--theme", "Ein Fest fällt aus", "--seed", "3"
    )
    assert done.returncode == 0, done.stderr
    beat = "Am Nachmittag zieht ein Gewitter über die Stadt und reißt das Zelt aus der Verankerung."
    plan = done.stdout.replace(done.stdout.split("beats:\n- ")[1].split("\n")[0], beat, 1)
    (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
    done = run(tmp_path, cache, "write", "--outline", "plan.yaml", "--seed", "4")
    assert done.returncode == 0, done.stderr
    assert beat in done.stdout


def test_ctrl_c_stops_the_model(tmp_path: Path, cache: str) -> None:
    process = subprocess.Popen(
        [COMMAND, "write", "--show", "AWZ", "--theme", THEME],
        cwd=tmp_path,
        env={**os.environ, "SYNOPSIS_CACHE": cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - started < 5
    assert out == ""
    assert err.rstrip().endswith("synopsis: interrupted")
