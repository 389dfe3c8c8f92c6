from pathlib import Path

import pytest

from synopsis_writer.errors import SettingsError
from synopsis_writer.models import resolve
from synopsis_writer.models.download import parse_name, record
from synopsis_writer.models.resolve import ResolvedModel, resolve_model
from synopsis_writer.settings import load_settings


def test_flag_before_environment_before_file_before_default(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('attempts = 5\nmodel = "from-file"\ntimeout = 20\n', encoding="utf-8")
    environment = {"SYNOPSIS_CONFIG": str(config), "SYNOPSIS_MODEL": "from-environment", "SYNOPSIS_TIMEOUT": "30"}
    settings = load_settings({"model": "from-flag", "out": None}, environment)
    assert (settings.model, settings.timeout, settings.attempts) == ("from-flag", 30, 5)
    assert settings.out == Path("synopsen")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle = 'x'", "modle: extra inputs are not permitted"),
        ("attempts = 0", "attempts: input should be greater than or equal to 1"),
        ("attempts =", "not TOML"),
        ("openai_api_key = 'sk-123'", "'openai_api_key' looks like a key"),
        ("api_token = 'x'", "looks like a key"),
        ("base_url = 'https://me:sk-123@host.example/v1'", "'base_url' holds a password or a key"),
        ("base_url = 'https://sk-123@host.example'", "'base_url' holds a password or a key"),
        ("base_url = 'https://host.example/v1?api-key=sk-123'", "'base_url' holds a password or a key"),
        ("base_url = 'https://host.example/v1?v=1&Access_Token=sk-123'", "set OPENAI_API_KEY"),
    ],
)
def test_a_wrong_config_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"SYNOPSIS_CONFIG": str(config)})
    assert str(caught.value).startswith(f"{config}: ")
    assert message in str(caught.value)
    assert "sk-123" not in str(caught.value)


def test_an_address_without_a_key_may_be_in_a_config_file(tmp_path: Path) -> None:
    address = "https://host.example/v1/@team?api-version=2026-10-21"
    config = tmp_path / "config.toml"
    config.write_text(f"base_url = '{address}'\n", encoding="utf-8")
    assert load_settings({}, {"SYNOPSIS_CONFIG": str(config)}).base_url == address


def test_a_wrong_variable_or_flag_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"environment: attempts"):
        load_settings({}, {"SYNOPSIS_ATTEMPTS": "many"})
    with pytest.raises(SettingsError, match=r"^attempts: "):
        load_settings({"attempts": 99}, {})


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "is_packaged_available", lambda: True)


@pytest.mark.usefixtures("packaged")
@pytest.mark.parametrize(
    ("flags", "environment", "kind", "model", "base_url"),
    [
        ({"model": "m"}, {"OPENAI_API_KEY": "k"}, "hosted", "m", None),
        ({"model": "m", "base_url": "http://127.0.0.1:1/v1"}, {}, "hosted", "m", "http://127.0.0.1:1/v1"),
        ({}, {"OPENAI_API_KEY": "k"}, "hosted", "gpt-5.4-mini", None),
        ({}, {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "hosted", "gpt-5.4-mini", "http://127.0.0.1:1/v1"),
        ({}, {}, "packaged", "packaged", None),
        ({"model": "packaged"}, {"OPENAI_API_KEY": "k"}, "packaged", "packaged", None),
        ({"model": "embedded"}, {"OPENAI_API_KEY": "k"}, "packaged", "packaged", None),
    ],
)
def test_the_order_of_choice(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], kind: str, model: str, base_url: str | None
) -> None:
    chosen = resolve_model(load_settings({"cache": tmp_path, **flags}, {}), environment)
    assert (chosen.kind, chosen.model, chosen.base_url) == (kind, model, base_url)


def test_a_gguf_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with pytest.raises(SettingsError, match="no such file"):
        resolve_model(load_settings({"model": str(path)}, {}), {})
    path.write_bytes(b"GGUF")
    assert resolve_model(load_settings({"model": str(path)}, {}), {}) == ResolvedModel(
        "file", str(path), "named with --model or in the settings"
    )


@pytest.mark.usefixtures("packaged")
@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ({"base_url": "http://127.0.0.1:1/v1"}, {"SYNOPSIS_MODEL": "packaged"}),
        ({"base_url": "http://127.0.0.1:1/v1"}, {"SYNOPSIS_MODEL": "embedded"}),
        ({"base_url": "http://127.0.0.1:1/v1", "model": "packaged"}, {}),
    ],
)
def test_a_base_url_on_the_command_line_is_never_overridden(
    tmp_path: Path, flags: dict[str, str], variables: dict[str, str]
) -> None:
    with pytest.raises(SettingsError, match=r"runs on this machine: name a model of the server"):
        resolve_model(load_settings({"cache": tmp_path, **flags}, variables), {})


@pytest.mark.usefixtures("packaged")
def test_a_local_model_overrides_a_base_url_of_the_settings() -> None:
    settings = load_settings({"model": "packaged"}, {"SYNOPSIS_BASE_URL": "http://127.0.0.1:1/v1"})
    assert resolve_model(settings, {}).kind == "packaged"


def test_a_server_may_call_its_model_as_a_file_or_a_pulled_one(tmp_path: Path) -> None:
    target = parse_name("qwen3-8b")
    target.path_in(tmp_path).parent.mkdir(parents=True)
    target.path_in(tmp_path).write_bytes(b"GGUF")
    record(target, "revision", 4, "sum", tmp_path)
    address = {"base_url": "http://127.0.0.1:1/v1"}
    assert resolve_model(load_settings({"cache": tmp_path, "model": "qwen3-8b"}, {}), {}).kind == "file"
    for name in ("qwen3-8b", "other.gguf"):
        chosen = resolve_model(load_settings({"cache": tmp_path, "model": name, **address}, {}), {})
        assert (chosen.kind, chosen.model) == ("hosted", name)


def test_no_model_names_three_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "is_packaged_available", lambda: False)
    with pytest.raises(SettingsError) as caught:
        resolve_model(load_settings({"cache": tmp_path}, {}), {})
    for way in ("OPENAI_API_KEY", "--base-url", "synopsis-writer[local]"):
        assert way in str(caught.value)
    with pytest.raises(SettingsError, match="needs a server"):
        resolve_model(load_settings({"model": "gpt-9", "cache": tmp_path}, {}), {})
