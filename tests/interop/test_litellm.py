"""Interop with the LiteLLM proxy, in a separate environment; its backend gives fixed answers and errors."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from synopsis_writer.examples import load_example
from synopsis_writer.testing import synopsis_json
from tests.interop.servers import KEY, files, running, synopsis

ROOT = Path(__file__).parents[2]
PROXY = Path(os.environ.get("LITELLM_VENV", ROOT / ".venv-litellm")) / "bin" / "litellm"
GOOD = load_example(ROOT / "tests" / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md")
ORDER = ["--show", "Rote Rosen", "--theme", GOOD.brief.theme, "--form", "portrait"]
# LiteLLM raises the error that such an answer names.
BACKEND = {
    "haus": synopsis_json(GOOD),
    "voll": "litellm.RateLimitError",
    "defekt": "litellm.InternalServerError",
    "kurz": "litellm.ContextWindowExceededError",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROXY.exists(), reason=f"no LiteLLM at {PROXY}: make test-all installs it"),
]


def config() -> str:
    """The proxy's config: no retries and no pauses, so that each error is seen."""
    return yaml.safe_dump(
        {
            "model_list": [
                {
                    "model_name": name,
                    "litellm_params": {"model": f"openai/{name}", "api_key": "none", "mock_response": answer},
                }
                for name, answer in BACKEND.items()
            ],
            "litellm_settings": {"telemetry": False},
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
            "general_settings": {"master_key": KEY},
        }
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("litellm")
    path = home / "config.yaml"
    path.write_text(config(), encoding="utf-8")
    command = [str(PROXY), "--config", str(path), "--host", "127.0.0.1", "--port", "0", "--telemetry", "False"]
    # Without the variable it fetches a list of prices when it is imported.
    environment = {"HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with running(command, r"Uvicorn running on (http://127\.0\.0\.1:\d+)", environment) as address:
        yield address


def test_the_models_are_listed(server: str, tmp_path: Path) -> None:
    run = synopsis(tmp_path, "models", "--base-url", server, "--json")
    assert (run.code, run.err) == (0, "")
    assert json.loads(run.out)["offered"] == sorted(BACKEND)


def test_a_synopsis_is_written_and_saved(server: str, tmp_path: Path) -> None:
    run = synopsis(tmp_path, "write", *ORDER, "--base-url", server, "--model", "haus", "--json")
    data = json.loads(run.out)
    assert (run.code, data["passed"]) == (0, True)
    assert data["text"] == GOOD.synopsis.text
    assert data["usage"]["completion_tokens"] > 0
    assert files(tmp_path) == ["synopsen/rote-rosen/der-weisse-hund.md"]


@pytest.mark.parametrize(
    ("model", "message"),
    [("voll", "too many requests: try again later"), ("defekt", "answered 500 every time: try again later")],
)
def test_a_transient_error_is_logged_and_retried(server: str, tmp_path: Path, model: str, message: str) -> None:
    flags = ["--base-url", server, "--model", model, "--max-retries", "1"]
    run = synopsis(tmp_path, "write", *ORDER, *flags)
    assert (run.code, run.out, files(tmp_path)) == (3, "", [])
    assert run.err.count("trying again in") == 1
    assert message in run.err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("kurz", "prompt and answer are longer than its context"),
        ("nie-gehoert", "answered 400 for model 'nie-gehoert': "),
    ],
)
def test_a_permanent_error_is_reported_at_once(server: str, tmp_path: Path, model: str, message: str) -> None:
    run = synopsis(tmp_path, "write", *ORDER, "--base-url", server, "--model", model)
    assert (run.code, run.out, files(tmp_path)) == (3, "", [])
    assert message in run.err
    assert "trying again" not in run.err


@pytest.mark.parametrize("command", ["models", "write"])
def test_a_wrong_key_exits_3_with_one_line(server: str, tmp_path: Path, command: str) -> None:
    # Without a database LiteLLM cannot look other keys up, and says 400 rather than 401.
    order = [*ORDER, "--model", "haus", "--quiet"] if command == "write" else []
    run = synopsis(tmp_path, command, *order, "--base-url", server, key="sk-wrong")
    assert (run.code, files(tmp_path)) == (3, [])
    assert "answered 400 for model" in run.err
    assert len(run.err.splitlines()) == 1
