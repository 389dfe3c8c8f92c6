"""What the environment gives to the connection: headers, proxies, addresses, names, a closed stdin."""

import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from synopsis_writer.errors import ModelError, RequestRefusedError, SettingsError
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.resolve import resolve_model
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import load_settings
from tests.support.loopback import Fault, LoopbackServer, Reply
from tests.support.terminal import ANSWER, COMMAND, ORDER, Terminal

KEY = "sk-house-0123456789"
ASK = [Message("user", "Schreibe.")]
OPENAI, HOUSE = "https://api.openai.com/v1", "https://llm.example.org/v1"
UNSENDABLE = ["sk-ü", "sk a", "a\nb", "a\tb", "a\x07b", "a\u200bb", '"sk-a"', "'sk-a'", "„sk-a“", "`sk-a`", '"sk-a']


async def headers_sent_to(address: str) -> httpx2.Headers:
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json=Reply("Ja.").as_data("m"))

    client = HostedClient("m", address, KEY, transport=httpx2.MockTransport(answer))
    await client.complete(ASK, None, Limits())
    await client.close()
    return sent[0].headers


@pytest.mark.parametrize("value", UNSENDABLE)
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
def test_what_cannot_be_a_header_is_refused_with_the_way_out_and_not_shown(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable} (has quotes in it: set|holds a character)") as caught:
        HostedClient("m", OPENAI, value if variable == "OPENAI_API_KEY" else KEY)
    assert "sk" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_organization_and_project_go_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", " org-1 ")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    headers = await headers_sent_to(OPENAI)
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert "openai-organization" in await headers_sent_to("https://eu.api.openai.com/v1")
    for address in (HOUSE, "https://api.openai.com.example.org/v1", "https://notapi.openai.com/v1"):
        assert not any(name.startswith("openai-") for name in await headers_sent_to(address))
    monkeypatch.setenv("OPENAI_ORG_ID", "ü")  # nobody sends it there
    await headers_sent_to(HOUSE)
    monkeypatch.setenv("OPENAI_ORG_ID", " ")
    assert "openai-organization" not in await headers_sent_to(OPENAI)


@pytest.mark.parametrize("value", ["X-Test: ü", "Ü: a", "X Y: a", "X: a\x07b", "X(y): a", ": a"])
def test_custom_headers_that_cannot_be_sent_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", value)
    with pytest.raises(SettingsError, match="OPENAI_CUSTOM_HEADERS holds a character that cannot be sent"):
        HostedClient("m", HOUSE, KEY)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_query_in_the_address_is_sent_as_one(stream: bool) -> None:
    with LoopbackServer([Reply("Ja.")]) as server:
        address = f"{server.base_url}/deployments/m?api-version=2024-10-21&empty=&umlaut=%C3%BC#fragment"
        client = HostedClient("m", address, KEY, on_text=print if stream else None)
        with pytest.raises(ModelError, match="Unknown request URL"):  # the loopback server has no deployments
            await client.complete(ASK, None, Limits())
        await client.close()
    assert server.requests[0].path == ("/v1/deployments/m/chat/completions?api-version=2024-10-21&empty=&umlaut=%C3%BC")


def test_a_field_that_an_address_has_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="has a field twice behind the"):
        HostedClient("m", f"{HOUSE}?a=1&a=2", KEY)


@pytest.mark.parametrize("quoted", ["ab%2Bcd%3D%3Dzz9988", "ab+cd==zz9988"])
async def test_a_key_in_the_query_is_cut_out_of_what_the_server_says(quoted: str) -> None:
    with LoopbackServer([Fault(403, message=f"bad sig {quoted}")]) as server:
        client = HostedClient("m", f"{server.base_url}?sig=ab%2Bcd%3D%3Dzz9988", KEY)
        with pytest.raises(ModelError) as caught:
            await client.complete(ASK, None, Limits())
        await client.close()
    assert "zz9988" not in str(caught.value)


@contextmanager
def proxy(status: int) -> Iterator[str]:
    """Serve a proxy that answers each request with `status`; gives its host and port."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(status)

        def do_POST(self) -> None:
            self.send_error(status)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


async def failure(address: str, *, stream: bool = False) -> ModelError:
    client = HostedClient(
        "m", address, KEY, insecure=True, retry=RetryPolicy(1, first_wait=0.001), on_text=print if stream else None
    )
    with pytest.raises(ModelError) as caught:
        await client.complete(ASK, None, Limits(timeout=20))
    await client.close()
    return caught.value


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "fix", "transient"),
    [
        (407, "it wants user and password: put them into the proxy's address", False),
        (403, "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or name the server in NO_PROXY", False),
        (502, "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or name the server in NO_PROXY", True),
    ],
)
async def test_a_proxy_that_refuses_is_named_with_its_status(
    status: int, fix: str, transient: bool, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(status) as address:
        monkeypatch.setenv("https_proxy", f"http://me:hunter2@{address}")
        error = await failure(HOUSE, stream=stream)
    reason = http.HTTPStatus(status).phrase
    assert str(error) == f"llm.example.org: the proxy {address} answered {status} {reason}: {fix}"
    assert error.is_transient is transient


@pytest.mark.parametrize("status", [407, 403, 503])
async def test_a_proxy_is_named_where_it_may_have_answered_plain_http(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(status) as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        error = await failure("http://llm.example.org/v1")
    assert f"llm.example.org through the proxy {address}: answered {status}" in str(error)
    assert isinstance(error, RequestRefusedError) is (status < 500)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxy_that_is_down_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://me:hunter2@127.0.0.1:9")
    error = await failure(HOUSE)
    assert "llm.example.org: no connection through the proxy 127.0.0.1:9: check HTTPS_PROXY" in str(error)
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setattr("socket.getaddrinfo", _no_name)
    assert "no connection: check --base-url" in str(await failure(HOUSE))


def _no_name(*_: Any, **__: Any) -> Any:
    raise OSError("no name")


UNUSABLE = ["foo:bar", "://", "http://", "http://[::1", "socks9://x", "gopher://x", " ", "http://a:99999", "http://a b"]


@pytest.mark.parametrize("value", UNUSABLE)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_an_unusable_proxy_address_is_one_line(
    variable: str, value: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    run = terminal("models", "--base-url", HOUSE)
    assert run.code == 2
    assert len(run.err.splitlines()) == 1
    assert variable in run.err


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize("source", ["flag", "OPENAI_BASE_URL", "SYNOPSIS_BASE_URL", "config"])
@pytest.mark.parametrize("command", ["write", "outline", "models"])
def test_an_empty_address_is_an_error_and_never_openai(
    command: str, source: str, value: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [command, *(() if command == "models" else ORDER)]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if source == "flag":
        arguments += ["--base-url", value]
    elif source == "config":
        (tmp_path / "config.toml").write_text(f'base_url = "{value}"\n', encoding="utf-8")
        monkeypatch.setenv("SYNOPSIS_CONFIG", str(tmp_path / "config.toml"))
    else:
        monkeypatch.setenv(source, value)
    run = terminal(*arguments)
    assert "is empty" in run.err
    assert run.code == 2


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "SYNOPSIS_BASE_URL"])
def test_models_refuses_an_address_that_is_none_wherever_it_is_set(
    variable: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "localhost:8000")
    run = terminal("models")
    assert (run.code, run.out) == (2, "")
    assert "is not an http(s) URL" in run.err


def test_an_empty_address_is_an_error_in_python_too() -> None:
    for address in ("", " "):
        with pytest.raises(SettingsError):
            HostedClient("m", address, KEY)


SERVER = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("flags", "variables", "more"),
    [({"base_url": SERVER}, {}, {}), ({}, {"SYNOPSIS_BASE_URL": SERVER}, {}), ({}, {}, {"OPENAI_BASE_URL": SERVER})],
    ids=["flag", "setting", "variable"],
)
def test_a_gguf_name_is_the_servers_unless_a_file_has_it_and_then_the_user_is_asked(
    flags: dict[str, str],
    variables: dict[str, str],
    more: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    def resolved(model: str) -> tuple[str, str]:
        found = resolve_model(load_settings({"model": model, "cache": tmp_path / "c", **flags}, variables), more)
        return found.kind, found.model

    assert resolved("m.gguf") == ("hosted", "m.gguf")
    Path("m.gguf").write_bytes(b"GGUF")
    for name in ("m.gguf", "./m.gguf", str(tmp_path / "m.gguf")):
        with pytest.raises(SettingsError, match=rf"is a file here.*: write file:{name} or server:{name}$"):
            resolved(name)
        assert resolved(f"server:{name}") == ("hosted", name)
        if not flags:
            assert resolved(f"file:{name}") == ("file", name)
    for name in ("no.gguf", "no.bin"):
        with pytest.raises(SettingsError, match=f"^{re.escape(name)}: no such file"):
            resolved(f"file:{name}")


def test_a_servers_gguf_model_is_asked_by_the_command(terminal: Terminal) -> None:
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--model", "qwen3.gguf", server=server)
    assert run.code == 0
    assert server.chats[0].body["model"] == "qwen3.gguf"


def test_a_closed_stdin_is_one_line() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{COMMAND} check - <&-"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "synopsis: -: stdin is closed: pipe a text into the command, or name a file\n"


def test_a_fault_behind_no_proxy_does_not_mention_one(terminal: Terminal) -> None:
    with LoopbackServer([Fault(403)]) as server:
        run = terminal("write", *ORDER, "-q", server=server, HTTP_PROXY="http://127.0.0.1:9")
    assert "proxy" not in run.err
