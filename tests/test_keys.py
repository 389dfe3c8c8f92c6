import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.null
import keyring.errors
import pytest

from synopsis_writer.errors import ModelError, RequestRefusedError, SettingsError
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.hosted import CapabilityStore, HostedClient
from synopsis_writer.models.resolve import open_transport, resolve_model
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.models.server import SERVICE, ApiKey, look_up_key
from synopsis_writer.settings import load_settings
from synopsis_writer.synopsis import Synopsis, wire_schema
from tests.support.loopback import (
    Body,
    BrokenJson,
    CutBody,
    CutStream,
    Drip,
    Events,
    FailingStream,
    Fault,
    Hangup,
    Html,
    LoopbackServer,
    Redirect,
    Reply,
    Silence,
    Step,
)

KEY = "sk-secret-0123456789"
ASK = [Message("system", "Du schreibst."), Message("user", "Schreibe.")]
OPENAI = "api.openai.com"


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory; the answer that a test gives may also raise."""

    priority = 1.0

    def __init__(self, answer: Callable[[str, str], str | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def get_password(self, service: str, username: str) -> str | None:
        self.asked.append((service, username))
        return self.answer(service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError(f"the program writes no key: {service} {username} {len(password)}")


@pytest.fixture
def ring() -> Iterator[Callable[[Callable[[str, str], str | None]], Ring]]:
    def put(answer: Callable[[str, str], str | None]) -> Ring:
        made = Ring(answer)
        keyring.set_keyring(made)
        return made

    yield put
    keyring.set_keyring(keyring.backends.null.Keyring())  # type: ignore[no-untyped-call]


def test_the_environments_key_goes_before_the_keyrings_which_is_not_even_asked(ring: Any) -> None:
    asked = ring(lambda *_: "sk-ring").asked
    assert look_up_key(OPENAI, {"OPENAI_API_KEY": f" {KEY}\n"}).value == KEY
    assert asked == []
    assert look_up_key(OPENAI, {"OPENAI_API_KEY": " "}).value == look_up_key(OPENAI, {}).value == "sk-ring"
    assert asked == [(SERVICE, OPENAI)] * 2


@pytest.mark.parametrize("kept", [None, ""])
def test_a_keyring_without_the_key_gives_none(ring: Any, kept: str | None) -> None:
    ring(lambda *_: kept)
    assert look_up_key(OPENAI, {}) == ApiKey()


@pytest.mark.parametrize(
    "error", [keyring.errors.KeyringLocked(KEY), keyring.errors.NoKeyringError(KEY), OSError(KEY), KeyError(KEY)]
)
async def test_a_keyring_that_fails_gives_no_key_and_a_hint_when_the_server_wants_one(
    ring: Any, error: Exception
) -> None:
    def fail(*_: str) -> str | None:
        raise error

    ring(fail)
    with LoopbackServer([Reply("Ja.")], key=KEY) as server:
        settings = load_settings({"base_url": server.base_url, "model": "m"}, {})
        client = open_transport(resolve_model(settings, {}), settings, {})
        with pytest.raises(RequestRefusedError) as caught:
            await client.complete(ASK, None, Limits())
        await client.close()
    reported = "".join(traceback.format_exception(caught.value))
    assert f"set OPENAI_API_KEY (the keyring cannot be read: {type(error).__name__})" in reported
    assert KEY not in reported


def test_a_keyring_that_waits_for_a_person_does_not_block_an_unattended_program(
    ring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    ring(lambda *_: str(released.wait(60)))
    monkeypatch.setattr("synopsis_writer.models.server._UNATTENDED_SECONDS", 0.01)
    assert look_up_key(OPENAI, {}) == ApiKey(hint="the keyring did not answer: it may be locked")
    released.set()


async def test_the_key_of_a_server_is_the_one_stored_under_its_host_and_port(ring: Any) -> None:
    with LoopbackServer([Reply("Ja.")], key=KEY) as server:
        host = server.base_url.removeprefix("http://").removesuffix("/v1")
        asked = ring(lambda _, name: KEY if name == host else None).asked
        settings = load_settings({"base_url": server.base_url, "model": "m"}, {})
        client = open_transport(resolve_model(settings, {}), settings, {})
        assert (await client.complete(ASK, None, Limits())).text == "Ja."
        await client.close()
    assert asked == [(SERVICE, host)]


def test_a_key_in_the_keyring_makes_the_hosted_model_the_choice(ring: Any) -> None:
    ring(lambda _, name: KEY if name == OPENAI else None)
    choice = resolve_model(load_settings({}, {}), {})
    assert (choice.kind, choice.model, choice.base_url) == ("hosted", "gpt-5.4-mini", None)
    assert choice.why == "a key is in the keyring"
    assert resolve_model(load_settings({"model": "gpt-9"}, {}), {}).kind == "hosted"
    ring(lambda *_: None)
    with pytest.raises(SettingsError, match="needs a server: set OPENAI_API_KEY"):
        resolve_model(load_settings({"model": "gpt-9"}, {}), {})


def test_a_local_model_asks_no_keyring(ring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ring(lambda *_: KEY).asked
    monkeypatch.setattr("synopsis_writer.models.download.is_packaged_available", lambda: True)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    for model in ("packaged", "embedded", str(tmp_path / "a.gguf")):
        settings = load_settings({"model": model, "cache": tmp_path}, {})
        assert resolve_model(settings, {}).kind in {"packaged", "file"}
    assert asked == []


BACKEND = """
import keyring.backend
from pathlib import Path
class FileRing(keyring.backend.KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        path = Path(__file__).with_name("kept")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(service + " " + username + " "):
                return line.split()[2]
    def set_password(self, service, username, password):
        raise AssertionError
"""


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        (f"{SERVICE} HOST {KEY}\n", 0),
        (f"{SERVICE} elsewhere {KEY}\n", 3),
        pytest.param(None, 3, marks=pytest.mark.slow),
    ],
)
def test_the_command_takes_the_key_out_of_the_keyring_and_never_shows_it(
    tmp_path: Path, kept: str | None, code: int
) -> None:
    (tmp_path / "filering.py").write_text(BACKEND, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with LoopbackServer([Reply('{"title": "x"}')], key=KEY) as server:
        host = server.base_url.removeprefix("http://").removesuffix("/v1")
        if kept is not None:
            (tmp_path / "kept").write_text(kept.replace("HOST", host), encoding="utf-8")
        done = subprocess.run(
            [str(Path(sys.executable).with_name("synopsis")), "write", "--show", "AWZ", "--theme", "Ein Fest",
             "--model", "m", "--base-url", server.base_url, "--attempts", "1"],
            env={**os.environ, "PYTHONPATH": path, "PYTHON_KEYRING_BACKEND": "filering.FileRing"},
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
    assert done.returncode == (1 if code == 0 else code), done.stderr  # that answer is no synopsis
    assert KEY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert ("the keyring cannot be read: FileNotFoundError" in done.stderr) is (kept is None)
    for file in (file for file in tmp_path.rglob("*") if file.is_file() and file.name != "kept"):
        assert KEY.encode() not in file.read_bytes(), file


STORM: tuple[Step, ...] = (
    Reply("Ja."), Fault(400, message=KEY, param="temperature"), Fault(400, message=f"bad key {KEY}"),
    Fault(401, message=f"Incorrect API key provided: {KEY}"), Fault(402, message=KEY),
    Fault(403, message=KEY), Fault(404, message=KEY), Fault(413, message=KEY),
    Fault(422, message=KEY), Fault(500, message=KEY), Fault(429, {"retry-after": "0"}, message=KEY),
    Fault(429, message=KEY, code="insufficient_quota"), Fault(503, body=KEY), Html(KEY), Html(KEY, 502),
    BrokenJson(KEY), BrokenJson(f'{{"{KEY}'), CutBody(), CutStream(KEY * 3), FailingStream(KEY, KEY, KEY),
    Body({"choices": [{KEY: KEY}]}), Body([KEY]), Body({"error": KEY}), Hangup(), Silence(1.0), Drip(1.0),
    Events(f"data: {KEY}\n\n"), Events(f'data: {{"choices": "{KEY}"}}\n\n'), Events(KEY, is_cut=True),
    Redirect("http://127.0.0.1:9/v1"), Redirect("/"),
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", STORM, ids=lambda step: str(step)[:60])
async def test_after_a_storm_of_faults_the_key_appears_nowhere(
    step: Step, stream: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Locals of a traceback are left out on purpose: whoever prints those prints the client's arguments, too.
    for name in ("openai", "httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.DEBUG)

    async def sleep(_: float) -> None:
        pass

    store = CapabilityStore(tmp_path / "dialects.json")
    refuses = [] if step == Reply("Ja.") else ["prompt_cache_key"]
    reported = ""
    with LoopbackServer([step], refuses=refuses) as server:
        client = HostedClient(
            "m",
            server.base_url,
            KEY,
            retry=RetryPolicy(1, sleep=sleep),
            on_text=(lambda _: None) if stream else None,
            capabilities=store,
        )
        limits = Limits(timeout=0.3 if isinstance(step, Silence | Drip) else 10, temperature=0.1)
        for messages in (ASK, ASK[1:]):
            try:
                await client.complete(messages, wire_schema(Synopsis), limits)
            except ModelError as error:
                reported += "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)
        reported += repr(client) + repr([repr(part) for part in vars(client).values()])
        await client.close()
        assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
    reported += "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    reported += "".join(path.read_text(encoding="utf-8") for path in [store.path] if path and path.is_file())
    assert len(caplog.records) > 3
    assert (KEY in reported) is False


@pytest.mark.parametrize(
    "step",
    [Redirect(f"http://127.0.0.1:9/{KEY}"), Redirect(f"http://{KEY}@127.0.0.1:9/"), Redirect(f"/?key={KEY}")],
    ids=str,
)
async def test_a_key_that_a_server_quotes_in_a_header_is_in_no_message(step: Step) -> None:
    # The transport's own debug log shows the headers a server sends; it never shows those that are sent.
    with LoopbackServer([step]) as server:
        client = HostedClient("m", server.base_url, KEY)
        with pytest.raises(RequestRefusedError) as caught:
            await client.complete(ASK, None, Limits())
        await client.close()
    assert caught.value.__context__ is None
    assert KEY not in "".join(traceback.format_exception(caught.value))
