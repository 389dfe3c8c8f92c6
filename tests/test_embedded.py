"""The main job on the packaged model, as a person without a key runs it."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from synopsis_writer.document import read_document
from synopsis_writer.examples import load_example
from synopsis_writer.models.download import packaged_weights
from tests.support.terminal import Run, Terminal

THEME = "Ein Chirurg verliert nach einem Schlaganfall das Gefühl in der Hand"
ORDER = ("write", "--show", "Sachsenklinik", "--theme", THEME, "--seed", "7")

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def cache(packaged_model: Path) -> str:
    return str(packaged_model.parent)


@pytest.fixture(autouse=True)
def _one_cache_for_all(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNOPSIS_CACHE", cache)


@dataclass(frozen=True)
class Draft:
    folder: Path
    run: Run


@pytest.fixture(scope="module")
def drafts() -> list[Draft]:
    return []


@pytest.fixture
def draft(drafts: list[Draft], tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """The draft that two tests look at: the model takes long over one."""
    if not drafts:
        folder = tmp_path_factory.mktemp("draft")
        drafts.append(Draft(folder, Terminal(folder)(*ORDER)))
    return drafts[0]


def test_a_person_without_a_key_gets_a_labelled_draft_that_passes_the_gate(terminal: Terminal, draft: Draft) -> None:
    done = draft.run
    assert done.code == 0, done.err
    path = next((draft.folder / "synopsen" / "in-aller-freundschaft").iterdir())
    example = load_example(path)
    assert done.out == f"{example.synopsis.title}\n\n{example.synopsis.text}\n"
    assert THEME in example.synopsis.text
    label = read_document(path).meta["draft"]
    assert label.startswith("demo draft: ")
    assert label in done.err
    assert "words by the model" in label
    check = terminal("check", str(path))
    assert check.code == 0, check.out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_text(terminal: Terminal, draft: Draft) -> None:
    again = json.loads(terminal(*ORDER, "--json").out)
    assert f"{again['title']}\n\n{again['text']}\n" == draft.run.out
    assert again["draft"].startswith("demo draft: ")
    assert again["usage"]["completion_tokens"] > 0


@pytest.mark.slow
def test_an_outline_of_the_packaged_model_can_be_passed_back(terminal: Terminal, tmp_path: Path) -> None:
    done = terminal("outline", "--show", "Rote Rosen", "--theme", "Ein Fest fällt aus", "--seed", "3")
    assert done.code == 0, done.err
    beat = "Am Nachmittag zieht ein Gewitter über die Stadt und reißt das Zelt aus der Verankerung."
    plan = done.out.replace(done.out.split("beats:\n- ")[1].split("\n")[0], beat, 1)
    (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
    done = terminal("write", "--outline", "plan.yaml", "--seed", "4")
    assert done.code == 0, done.err
    assert beat in done.out


# The command; it writes down what the model is answered after each piece, and whether it came to an end.
WATCHED = """
import sys
import xllamacpp
from synopsis_writer.cli import main

record = open(sys.argv.pop(1), "w", buffering=1)

class Watched(xllamacpp.Server):
    def handle_completions(self, request, on_chunk):
        def take(chunk):
            stopped = on_chunk(chunk)
            print("stopped" if stopped else "went on", file=record)
            return stopped
        super().handle_completions(request, take)
        print("returned", file=record)

xllamacpp.Server = Watched
main()
"""


def test_ctrl_c_stops_the_model(tmp_path: Path) -> None:
    record = tmp_path / "record"
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", WATCHED, str(record), "write", "--show", "AWZ", "--theme", THEME],
        cwd=tmp_path,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not record.exists() or "went on" not in record.read_text(encoding="utf-8"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert err.rstrip().endswith("synopsis: interrupted: run the same command again")
    answers = record.read_text(encoding="utf-8").split("\n")
    assert answers[-3:] == ["stopped", "returned", ""]
    assert answers.count("stopped") == 1


def write_with_template(source: Path, target: Path, template: bytes) -> None:
    """Copy a GGUF file that has no chat template, with one; the gguf package's own tool takes 10 seconds.

    What is put in is a multiple of the alignment, so that all tensors stay aligned.
    """
    key, alignment, text_type = b"tokenizer.chat_template", 32, 8
    template += b"{##}"
    length = 8 + len(key) + 4 + 8 + len(template)
    template = template[:-2] + b" " * (-length % alignment) + template[-2:]
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", text_type, len(template)) + template
    with source.open("rb") as given, target.open("wb") as file:
        magic, version, tensors, entries = struct.unpack("<4sIQQ", given.read(24))
        file.write(struct.pack("<4sIQQ", magic, version, tensors, entries + 1) + entry)
        shutil.copyfileobj(given, file, 1 << 20)


@pytest.mark.slow
def test_any_gguf_with_a_chat_template_runs_the_normal_strategy(terminal: Terminal, tmp_path: Path, cache: str) -> None:
    """A base model that is given a template answers in the schema, and nonsense: refused, nothing lost."""
    model = tmp_path / "chat.gguf"
    template = b"{% for message in messages %}{{ message.content }}{{ '\\n\\n' }}{% endfor %}"
    write_with_template(packaged_weights(Path(cache)), model, template)
    order = ("write", "--show", "AWZ", "--theme", "Ein Fest fällt aus", "--model", str(model), "--attempts", "1")
    done = terminal(*order, "--json", SYNOPSIS_MAX_TOKENS="200", SYNOPSIS_EXAMPLE_TOKENS="0")
    assert done.code == 1, done.err
    data = json.loads(done.out)
    assert data["model"] == "chat.gguf"
    assert data["history"][0]["answer"].startswith("{")
    first, *longer = data["history"]
    assert 0 < first["completion_tokens"] <= 200
    assert len(longer) == (first["finish"] == "length")  # a cut answer is asked for once more
    assert "draft" not in data


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is not a GGUF file"), (b"GGUF" + bytes(100), ""), (b"PK", "is not a GGUF file")]
)
def test_a_broken_gguf_is_reported(terminal: Terminal, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    done = terminal("write", "--show", "AWZ", "--theme", "Ein Fest", "--model", "model.gguf", "-q")
    assert done.code == 3
    assert done.err.startswith("synopsis: model.gguf: ")
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""
