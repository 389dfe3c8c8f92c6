"""Interop with the HTTP server of llama.cpp, on the packaged model."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from synopsis_writer.errors import RequestRefusedError
from synopsis_writer.models.base import Limits, Message
from synopsis_writer.models.download import is_packaged_available, packaged_weights
from synopsis_writer.models.hosted import HostedClient
from tests.interop.servers import KEY, files, running, synopsis

NAME = "gemma-winzig"
ORDER = ["--show", "Rote Rosen", "--form", "teaser", "--theme", "Ein Hund beißt zu"]
ASKED = [Message("system", "Du schreibst kurz."), Message("user", "Ein Titel:")]

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(not is_packaged_available(), reason="the extra `local` is not installed"),
]


class Quick(BaseModel):
    """A shape that a small model fills in a few tokens."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(max_length=20)]
    storyline: Literal["A", "B", "C"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    gguf = packaged_weights(tmp_path_factory.mktemp("weights"))
    script = str(Path(__file__).with_name("llama_server.py"))
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    with running([sys.executable, script, str(gguf), NAME, KEY], r"serving at (http://\S+)", threads) as address:
        yield address
    gguf.unlink()  # pytest keeps the folders of the last three runs


@pytest.fixture
async def client(server: str) -> AsyncIterator[HostedClient]:
    client = HostedClient(NAME, server, KEY)
    yield client
    await client.close()


async def test_the_model_is_listed(client: HostedClient) -> None:
    assert list(await client.models()) == [NAME]


async def test_a_schema_is_enforced_and_the_usage_counted(client: HostedClient) -> None:
    answer = await client.complete(ASKED, Quick.model_json_schema(), Limits(max_tokens=80, temperature=0))
    assert Quick.model_validate_json(answer.text)
    assert (answer.finish, answer.model) == ("stop", NAME)
    assert answer.usage.prompt_tokens > 5
    assert 5 < answer.usage.completion_tokens < 80


async def test_a_truncated_answer_is_called_truncated(client: HostedClient) -> None:
    answer = await client.complete(ASKED, None, Limits(max_tokens=3, temperature=0))
    assert (answer.finish, answer.usage.completion_tokens) == ("length", 3)


async def test_a_repeated_prompt_counts_as_cached(client: HostedClient) -> None:
    again = [Message("user", "Ein langer Anfang, der sich nicht ändert. " * 5)]
    await client.complete(again, None, Limits(max_tokens=1, temperature=0))
    usage = (await client.complete(again, None, Limits(max_tokens=1, temperature=0))).usage
    assert usage.prompt_tokens / 2 < usage.cached_tokens <= usage.prompt_tokens


async def test_a_prompt_beyond_the_context_is_refused_at_once(client: HostedClient) -> None:
    with pytest.raises(RequestRefusedError, match=r"longer than its context.*exceeds the available context"):
        await client.complete([Message("user", "Es war einmal. " * 1000)], None, Limits(max_tokens=1))


def test_the_command_lists_what_the_server_offers(server: str, tmp_path: Path) -> None:
    run = synopsis(tmp_path, "models", "--base-url", server, "--json")
    assert (run.code, run.err) == (0, "")
    assert json.loads(run.out)["offered"] == [NAME]


@pytest.mark.slow
def test_a_model_too_small_is_refused_by_the_gate_and_its_tokens_counted(server: str, tmp_path: Path) -> None:
    # The 2,700 characters of a prompt without examples, and the shortest answer that settings allow.
    short = {"SYNOPSIS_EXAMPLE_TOKENS": "0", "SYNOPSIS_MAX_TOKENS": "200", "SYNOPSIS_TEMPERATURE": "0"}
    flags = ["--base-url", server, "--model", NAME, "--attempts", "1", "--json"]
    run = synopsis(tmp_path, "write", *ORDER, *flags, **short)
    assert (run.code, files(tmp_path)) == (1, [])
    data = json.loads(run.out)
    assert (data["passed"], data["path"]) == (False, None)
    assert data["history"][0]["prompt_tokens"] > 400
    assert data["history"][0]["completion_tokens"] > 0
    for tokens in ("prompt_tokens", "completion_tokens"):
        assert data["usage"][tokens] == sum(call[tokens] for call in data["history"])
    assert data["history"][0]["answer"].lstrip().startswith("{")  # the whole wire schema is understood
    assert "refused by the gate" in run.err


@pytest.mark.parametrize("arguments", [["models"], ["write", *ORDER, "--model", NAME, "--quiet"]], ids=lambda a: a[0])
def test_a_wrong_key_exits_3_and_says_so(server: str, tmp_path: Path, arguments: list[str]) -> None:
    run = synopsis(tmp_path, *arguments, "--base-url", server, key="sk-wrong")
    assert (run.code, files(tmp_path)) == (3, [])
    assert "the key is wrong or missing: set OPENAI_API_KEY" in run.err
    assert len(run.err.splitlines()) == 1
