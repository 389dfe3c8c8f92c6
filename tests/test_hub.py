import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest

from synopsis_writer.errors import ConnectionFailedError, EngineError, RequestRefusedError, SettingsError, SynopsisError
from synopsis_writer.models import download
from synopsis_writer.models.download import KNOWN, pull, pulled_models, remove
from tests.support.hub_server import COMMIT, Hub, serve_hub
from tests.support.terminal import Terminal

NAME = "haus/klein-GGUF:klein-Q4.gguf"
TOKEN = "hf_geheim"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "klein.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_chat_template("{{ messages[0].content }}")
    numbers = np.random.default_rng(7).standard_normal(16_000, dtype=np.float32)
    writer.add_tensor("token_embd.weight", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


class Place(NamedTuple):
    hub: Hub
    cache: Path
    log: pytest.LogCaptureFixture

    def pull(self, name: str = NAME) -> Path:
        return pull(name, self.cache)

    def logged(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.log.messages)

    def files(self) -> list[str]:
        kept = (path for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".lock")
        return sorted(path.name for path in kept)


@pytest.fixture
def place(
    weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Place]:
    resolve = socket.getaddrinfo

    def only_loopback(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in LOOPBACK, f"{host} is not on this machine"
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    caplog.set_level("INFO", logger="synopsis_writer")
    monkeypatch.setattr(download, "_RESUME_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_hub() as hub:
        hub.files[NAME] = weights
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield Place(hub, tmp_path / "cache", caplog)


def test_a_model_is_pulled_and_recorded(place: Place, weights: bytes) -> None:
    path = place.pull()

    assert path.read_bytes() == weights
    assert path.is_relative_to(place.cache)
    assert place.files() == ["klein-Q4.gguf", "pulled.json"]
    (entry,) = json.loads((place.cache / "pulled.json").read_text())
    assert entry.pop("pulled_at").endswith("Z")
    assert entry == {
        "name": NAME,
        "repo": "haus/klein-GGUF",
        "file": "klein-Q4.gguf",
        "revision": COMMIT,
        "size": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "path": "models/haus--klein-GGUF/klein-Q4.gguf",
    }
    (model,) = pulled_models(place.cache)
    assert model.path == path
    assert place.logged("pulling 0.00 GB from haus/klein-GGUF")


def test_the_token_goes_to_the_hub_only_and_nobody_else_is_asked(place: Place) -> None:
    place.pull()

    assert [(one.method, one.path.split("/")[1]) for one in place.hub.seen] == [
        ("HEAD", "haus"),
        ("GET", "haus"),
        ("GET", "cdn"),
    ]
    assert [one.authorization for one in place.hub.seen] == [f"Bearer {TOKEN}"] * 2 + [None]
    assert COMMIT in place.hub.seen[1].path


def test_without_a_token_none_is_sent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")

    place.pull()

    assert {one.authorization for one in place.hub.seen} == {None}


def test_a_known_name_stands_for_its_repository_and_file(place: Place, weights: bytes) -> None:
    known = KNOWN["qwen3-8b"]
    place.hub.files[f"{known.repo}:{known.file}"] = weights

    path = place.pull("Qwen3-8B")

    assert path == place.pull(f"{known.repo}:{known.file}")
    assert [model.name for model in pulled_models(place.cache)] == ["qwen3-8b"]


def test_a_model_that_is_here_is_checked_without_the_network(place: Place) -> None:
    path = place.pull()
    place.hub.seen.clear()

    assert place.pull() == path
    assert place.hub.seen == []
    assert place.logged("already here")


def test_a_model_that_was_damaged_since_is_pulled_again(place: Place, weights: bytes) -> None:
    path = place.pull()
    path.write_bytes(b"GGUF" + bytes(len(weights) - 4))

    assert place.pull().read_bytes() == weights
    assert place.logged("is damaged")


def test_a_complete_file_without_an_entry_is_recorded_and_not_downloaded_again(place: Place) -> None:
    path = place.pull()
    (place.cache / "pulled.json").write_text("{half a rec")
    assert pulled_models(place.cache) == []
    place.hub.seen.clear()

    assert place.pull() == path
    assert place.hub.loads() == []
    assert [model.path for model in pulled_models(place.cache)] == [path]


def test_a_download_resumes_after_a_dropped_connection(place: Place, weights: bytes) -> None:
    place.hub.drops = [20_480]

    assert place.pull().read_bytes() == weights
    assert [one.range for one in place.hub.loads()] == [None, "bytes=20480-"]
    assert place.logged("broke", "resuming")


def test_a_failed_pull_leaves_nothing_and_the_next_one_starts_from_the_beginning(place: Place, weights: bytes) -> None:
    place.hub.drops = [20_480] + [0] * 5

    with pytest.raises(ConnectionFailedError, match="and pull again") as caught:
        place.pull()
    assert "\n" not in str(caught.value)
    assert pulled_models(place.cache) == []
    assert place.files() == []
    place.hub.seen.clear()

    assert place.pull().read_bytes() == weights
    assert [one.range for one in place.hub.loads()] == [None]
    assert place.files() == ["klein-Q4.gguf", "pulled.json"]


def test_a_server_without_ranges_sends_the_whole_file(place: Place, weights: bytes) -> None:
    place.hub.drops = [20_480]
    place.hub.knows_ranges = False

    assert place.pull().read_bytes() == weights


def test_a_newer_file_without_an_entry_takes_the_place_of_an_older_one(place: Place, weights: bytes) -> None:
    path = place.pull()
    (place.cache / "pulled.json").unlink()
    place.hub.files[NAME] = newer = weights[:-8] + bytes(8)
    place.hub.seen.clear()

    assert place.pull() == path
    assert path.read_bytes() == newer
    assert [one.range for one in place.hub.loads()] == [None]
    assert place.files() == ["klein-Q4.gguf", "pulled.json"]


@pytest.mark.parametrize("content", [b"<html>", b"GGUF" + bytes(200_000)])
def test_what_a_pull_that_was_killed_left_is_deleted(place: Place, weights: bytes, content: bytes) -> None:
    path = place.cache / "models" / "haus--klein-GGUF" / ".synopsis-abcdefgh.tmp/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.with_name(".lock").touch()

    assert place.pull().read_bytes() == weights
    assert place.files() == ["klein-Q4.gguf", "pulled.json"]


def test_wrong_bytes_are_refused_and_cleared_away(place: Place, weights: bytes) -> None:
    place.hub.wrong[NAME] = weights[:-8] + bytes(8)

    with pytest.raises(EngineError, match=r"damaged \(wrong sha256\).*deleted"):
        place.pull()
    assert place.files() == []
    assert pulled_models(place.cache) == []


def test_a_file_of_another_length_is_not_kept(place: Place, weights: bytes) -> None:
    place.hub.wrong[NAME] = weights + b"more"

    with pytest.raises(ConnectionFailedError, match="another length"):
        place.pull()
    del place.hub.wrong[NAME]

    assert place.pull().read_bytes() == weights


@pytest.mark.parametrize("end", [20_000, 0])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_is_too_short_is_not_asked_for_forever(
    place: Place, weights: bytes, end: int, ranges: bool
) -> None:
    place.hub.wrong[NAME] = weights[:end]
    place.hub.knows_ranges = ranges

    with pytest.raises(ConnectionFailedError, match="and pull again"):
        place.pull()
    assert 6 <= len(place.hub.loads()) <= 7
    assert place.files() == []


def test_a_file_that_is_not_gguf_is_refused_and_deleted(place: Place) -> None:
    place.hub.files[NAME] = b"PK\3\4" + bytes(4000)

    with pytest.raises(EngineError, match=r"not a GGUF file.*deleted"):
        place.pull()
    assert place.files() == []


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "words"),
    [
        (403, "GatedRepo", "Access is restricted", RequestRefusedError, "403.*accept the licence.*HF_TOKEN"),
        (401, "GatedRepo", "Please log in", RequestRefusedError, "401.*accept the licence.*HF_TOKEN"),
        (403, "", "Forbidden", RequestRefusedError, "403.*accept the licence.*HF_TOKEN"),
        (401, "", "Invalid credentials in Authorization header", RequestRefusedError, "401.*valid token"),
        (404, "RepoNotFound", "", RequestRefusedError, "no public repository haus/klein-GGUF.*check"),
        (400, "", "no", RequestRefusedError, "answered 400"),
        (429, "", "", ConnectionFailedError, "answered 429: pull again later"),
        (503, "", "", ConnectionFailedError, "answered 503: pull again later"),
    ],
)
def test_a_refusal_says_what_to_do(
    place: Place, status: int, code: str, message: str, error: type[SynopsisError], words: str
) -> None:
    place.hub.status, place.hub.error_code, place.hub.error_message = status, code, message

    with pytest.raises(error, match=words) as caught:
        place.pull()
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("haus/klein-GGUF:gross.gguf", "no such file on the hub: look at .*/haus/klein-GGUF/tree/main"),
        ("haus/nichts:klein.gguf", "no public repository haus/nichts"),
    ],
)
def test_a_name_the_hub_does_not_know(place: Place, name: str, words: str) -> None:
    with pytest.raises(RequestRefusedError, match=words):
        place.pull(name)


@pytest.mark.parametrize("header", ["X-Repo-Commit", "X-Linked-ETag", "X-Linked-Size"])
def test_a_file_that_cannot_be_checked_is_not_pulled(place: Place, header: str) -> None:
    place.hub.omit = frozenset({header})

    with pytest.raises(RequestRefusedError, match="could not be verified"):
        place.pull()
    assert place.hub.loads() == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "no-address", "http://127.0.0.1:port"])
def test_no_hub_at_the_address(place: Place, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)

    with pytest.raises(ConnectionFailedError, match=f"no complete answer from {address}: check network"):
        place.pull()


@pytest.mark.parametrize("address", ["", "  ", "/"])
def test_an_empty_address_of_the_hub_is_not_the_public_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(SettingsError, match="HF_ENDPOINT is empty: unset it"):
        place.pull()


@pytest.mark.parametrize("address", ["http://hub.example", "HTTP://hub.example:8080/hf", "http://10.0.0.1"])
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed(
    place: Place, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(SettingsError, match=r"HF_ENDPOINT: plain http to .* allow it with --insecure"):
        place.pull()
    with pytest.raises(Exception, match="is not on this machine"):  # it is asked
        pull(NAME, place.cache, insecure=True)


@pytest.mark.parametrize("token", ["hf_\u00fc", '"hf_a"', "hf_a\nb"])
def test_a_token_that_cannot_be_sent_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SettingsError, match=r"^HF_TOKEN h") as caught:
        place.pull()
    assert "hf_" not in str(caught.value)


def test_a_lack_of_space_is_reported_before_anything_is_loaded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(place.cache.parent)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    with pytest.raises(EngineError, match=f"{place.cache}: the disk is full"):
        place.pull()
    assert place.hub.loads() == []


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "cannot save")])
def test_a_disk_that_fails_on_the_way(place: Place, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(download, "_load", fail)

    with pytest.raises(EngineError, match=words):
        place.pull()


def test_a_cache_that_is_a_file(place: Place) -> None:
    place.cache.write_text("")

    with pytest.raises(EngineError, match=r"cannot save .*choose a folder you can write to"):
        place.pull()


def test_one_pull_at_a_time(place: Place) -> None:
    from filelock import FileLock

    place.cache.mkdir()
    with FileLock(place.cache / "pulled.lock"), pytest.raises(EngineError, match="another pull is running"):
        place.pull()


def test_progress_is_logged_in_lines(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_LINE_SECONDS", 0.0)
    place.hub.pause = 0.001

    place.pull()

    lines = [line for line in place.log.messages if re.search(r": 0\.0\d of 0\.\d\d GB$", line)]
    assert len(lines) > 10


def test_a_repository_that_was_renamed_is_found(place: Place, weights: bytes) -> None:
    place.hub.renamed["alt/name"] = "haus/klein-GGUF"

    assert place.pull("alt/name:klein-Q4.gguf").read_bytes() == weights


PROGRAM = """
import sys
from synopsis_writer.cli import app, main, models
from synopsis_writer.models import download
assert "httpx2" not in sys.modules
sys.argv[1:1] = ["models", "pull"]
main()
"""


def run_program(place: Place, home: Path) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SYNOPSIS_CACHE": str(place.cache),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HF_ENDPOINT": place.hub.url,
        "NO_PROXY": "*",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", PROGRAM, NAME]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_a_signal_leaves_nothing_behind(
    place: Place, weights: bytes, tmp_path: Path, kind: signal.Signals, code: int, word: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    place.hub.held_at = 32_768
    with run_program(place, home) as process:
        folder = place.cache / "models" / "haus--klein-GGUF"
        while not any(path.stat().st_size > 8192 for path in folder.rglob("*.tmp/file")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(kind)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"synopsis: {word}: run the same command again"
    assert list(home.iterdir()) == []
    assert place.files() == []
    place.hub.held_at = 0

    assert place.pull().read_bytes() == weights


def test_nothing_is_written_outside_the_cache(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with run_program(place, home) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, Path(out.strip()).name) == (0, "klein-Q4.gguf"), err
    assert list(home.iterdir()) == []
    assert [one.path for one in place.hub.seen if "resolve" not in one.path] == [f"/cdn/{NAME}"]


def test_models_come_newest_first_and_broken_entries_are_skipped(place: Place, weights: bytes) -> None:
    other = "haus/andere:andere.gguf"
    place.hub.files[other] = weights
    place.pull()
    place.pull(other)
    assert [model.name for model in pulled_models(place.cache)] == [other, NAME]

    record = place.cache / "pulled.json"
    entries = json.loads(record.read_text())
    outside = place.cache.parent / "outside.gguf"
    outside.write_bytes(weights)
    entries += [
        {"name": "half"},
        7,
        entries[0] | {"path": "models/gone.gguf"},
        entries[0] | {"path": str(outside)},
        entries[0] | {"size": 5},
    ]
    record.write_text(json.dumps(entries))
    assert [model.name for model in pulled_models(place.cache)] == [other, NAME]

    record.write_text('{"name": "no list"}')
    assert pulled_models(place.cache) == []
    assert pulled_models(place.cache / "nowhere") == []


def test_removing_deletes_the_file_and_the_entry(place: Place, weights: bytes) -> None:
    other = "haus/klein-GGUF:zwei/andere.gguf"
    place.hub.files[other] = weights
    path, kept = place.pull(), place.pull(other)

    remove(NAME, place.cache)

    assert not path.exists()
    assert kept.relative_to(place.cache / "models") == Path("haus--klein-GGUF/zwei/andere.gguf")
    assert [model.path for model in pulled_models(place.cache)] == [kept]
    with pytest.raises(SettingsError, match=f"has not been pulled; pulled models: {other}"):
        remove(NAME, place.cache)
    remove(other, place.cache)
    assert list((place.cache / "models").iterdir()) == []
    with pytest.raises(SettingsError, match="pulled models: none"):
        remove(other, place.cache)


def test_removing_deletes_what_a_pull_that_was_killed_left(place: Place) -> None:
    path = place.cache / "models" / "haus--klein-GGUF" / ".synopsis-abcdefgh.tmp/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")

    remove(NAME, place.cache)

    assert place.files() == ["pulled.json"]


def test_a_model_pulled_by_the_version_before_is_found_and_removed(place: Place, weights: bytes) -> None:
    name = "haus/klein-GGUF:zwei/andere.gguf"
    path = place.cache / "models" / "haus--klein-GGUF" / "zwei--andere.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(weights)
    entry = {
        "name": name,
        "repo": "haus/klein-GGUF",
        "file": "zwei/andere.gguf",
        "revision": COMMIT,
        "size": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "path": "models/haus--klein-GGUF/zwei--andere.gguf",
        "pulled_at": "2026-03-01T12:00:00Z",
    }
    (place.cache / "pulled.json").write_text(json.dumps([entry]), encoding="utf-8")

    assert [model.path for model in pulled_models(place.cache)] == [path]
    assert place.pull(name) == path
    assert place.hub.seen == []
    remove(name, place.cache)
    assert pulled_models(place.cache) == []
    assert place.files() == ["pulled.json"]


def test_a_file_that_cannot_be_deleted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.pull()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(EngineError, match=r"cannot remove .*: permission denied"):
        remove(NAME, place.cache)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "write owner/repo:file.gguf, or one of gemma4-26b-a4b, "),
        ("qwen9", "'qwen9' is not a model's name"),
        ("haus/klein", "write owner/repo:file.gguf"),
        ("haus/klein:model.safetensors", "write owner/repo:file.gguf"),
        ("haus/klein:../klein.gguf", "write owner/repo:file.gguf"),
        ("../klein:klein.gguf", "write owner/repo:file.gguf"),
        ("haus/klein:a b.gguf", "write owner/repo:file.gguf"),
        ("haus/klein:k-00001-of-00002.gguf", "one of several parts"),
        ("haus/kl--ein:k.gguf", "'haus/kl--ein:k.gguf' is not a model's name"),
        ("-haus/klein:k.gguf", "'-haus/klein:k.gguf' is not a model's name"),
    ],
)
def test_names_that_cannot_be(place: Place, name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        place.pull(name)
    assert place.hub.seen == []


def test_known_models_are_of_a_useful_size() -> None:
    for name, model in KNOWN.items():
        assert name == name.lower()
        assert 3 <= model.parameters <= 26
        # A model with embeddings of its own a layer, as Gemma 4 E4B, has more than its name counts.
        assert 0.5 < model.gigabytes / model.parameters < (1.3 if name == "gemma4-e4b" else 0.75)
        assert model.file.endswith("Q4_K_M.gguf")
        assert model.licence


def test_models_of_this_year_are_listed_with_size_and_licence_and_as_untried(terminal: Terminal) -> None:
    lines = terminal("models", "known").out.splitlines()
    this_year = ["gemma4-26b-a4b", "ministral3-8b", "qwen3.5-9b", "gemma4-e4b", "granite4-micro"]
    assert [line.split()[0] for line in lines[:5]] == this_year
    assert all(" GB, Apache-2.0, not tried here: " in line for line in lines[:5])
