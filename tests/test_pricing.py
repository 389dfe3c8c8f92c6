import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest

from synopsis_writer.errors import FileError, SettingsError
from synopsis_writer.models.pricing import FREE, HostedPricer, PriceTable, Rate, load_prices, read_prices
from synopsis_writer.settings import load_settings
from synopsis_writer.usage import NO_COST, Cost, Usage, format_cost, total_cost

MINI = "gpt-5.4-mini"
USAGE = Usage(prompt_tokens=6000, completion_tokens=900, cached_tokens=4000)
EUROS = """
currency = "EUR"
usd = 0.92
[models."haus-*"]
input = 1
output = 4
[models."haus-gross-*"]
input = 0.25
cached = 0.025
output = 2.0
[models."haus-gross-2"]
input = 10
output = 20
"""


def table(folder: Path, content: str) -> PriceTable:
    path = folder / "prices.toml"
    path.write_text(content, encoding="utf-8")
    return read_prices(path)


def listed(model: str, usage: Usage, provider: str = "openai") -> Cost:
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, cache_read_tokens=usage.cached_tokens
    )
    return Cost(genai_prices.calc_price(tokens, model, provider_id=provider).total_price, "USD")


def test_a_hosted_model_costs_its_list_price_with_cached_tokens_apart() -> None:
    pricer = HostedPricer(MINI)
    cost = pricer.cost(USAGE)
    fresh = pricer.cost(Usage(USAGE.prompt_tokens, USAGE.completion_tokens))
    assert cost == listed(MINI, USAGE)
    assert cost is not None
    assert fresh is not None
    assert 0 < cost.amount < fresh.amount


def test_the_model_that_answered_is_priced_before_the_one_that_was_asked() -> None:
    asked = HostedPricer("gpt-5.4")
    assert asked.cost(USAGE, f"{MINI}-2026-03-17") == listed(MINI, USAGE)
    assert asked.cost(USAGE, "a-name-of-the-house") == listed("gpt-5.4", USAGE)


def test_a_long_prompt_costs_the_price_of_its_tier() -> None:
    pricer = HostedPricer("gpt-5.4")
    short, long = pricer.cost(Usage(200_000)), pricer.cost(Usage(400_000))
    assert short is not None
    assert long is not None
    assert long.amount > 2 * short.amount


@pytest.mark.parametrize(
    ("base_url", "model", "provider"),
    [
        ("https://api.openai.com/v1", MINI, "openai"),
        ("https://API.OpenAI.com:443/v1/", MINI, "openai"),
        ("https://api.openai.com./v1", MINI, "openai"),
        ("https://redaktion.openai.azure.com/openai/v1/", "gpt-4o", "azure"),
        ("https://api.mistral.ai/v1", "mistral-large-latest", "mistral"),
        ("https://api.moonshot.ai/v1", "kimi-k2", "moonshotai"),
        ("https://api.moonshot.cn/v1", "kimi-k2", "moonshotai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "gemini-2.5-flash", "google"),
    ],
)
def test_a_providers_own_host_has_list_prices(base_url: str, model: str, provider: str) -> None:
    usage = Usage(1000, 100)
    assert HostedPricer(model, base_url).cost(usage) == listed(model, usage, provider)


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("http://localhost:8000/v1", MINI),
        ("http://127.0.0.1:11434/v1", MINI),
        ("http://[::1]:8080/v1", MINI),
        ("https://llm.redaktion.de/v1", MINI),
        ("https://api.openai.com.redaktion.de/v1", MINI),
        ("https://api.openai.community/v1", MINI),
        ("https://api.openai.com:8443/v1", MINI),
        ("https://redaktion.openai.azure.com.redaktion.de/openai/v1", "gpt-4o"),
        ("https://api.moonshot.redaktion.de/v1", "kimi-k2"),
        ("http://localhost/.openai.azure.com/v1", "gpt-4o"),
        ("https://llm.redaktion.de/x.googleapis.com/v1", "gemini-2.5-flash"),
        ("https://api.openai.com@llm.redaktion.de/v1", MINI),
        ("https://redaktion--llm.modal.run/v1", "zai-org/GLM-5.3"),
        ("http://[broken/v1", MINI),
        ("http://localhost:many/v1", MINI),
    ],
)
def test_a_users_own_server_is_unpriced_whatever_its_model_is_called(base_url: str, model: str) -> None:
    assert HostedPricer(model, base_url).cost(USAGE) is None


@pytest.mark.parametrize("model", ["gpt-99", "whisper-1", "text-embedding-3-small", ""])
def test_a_model_without_a_price_of_both_ways_is_unpriced_and_never_0(model: str) -> None:
    assert HostedPricer(model).cost(USAGE) is None


def test_a_server_that_does_not_say_its_tokens_is_unpriced() -> None:
    assert HostedPricer(MINI).cost(Usage()) is None


def test_more_cached_tokens_than_tokens_are_taken_for_all_of_them(tmp_path: Path) -> None:
    assert HostedPricer(MINI).cost(Usage(100, 10, 200)) == listed(MINI, Usage(100, 10, 100))
    own = HostedPricer("haus-gross-1", None, table(tmp_path, EUROS))
    assert own.cost(Usage(1_000_000, 0, 2_000_000)) == Cost(Decimal("0.025"), "EUR")


@pytest.mark.parametrize(
    ("model", "amount"),
    [
        ("haus-klein", "10"),  # 6 * 1 + 1 * 4; cached tokens cost as others
        ("haus-gross-1", "2.6"),  # 2 * 0.25 + 4 * 0.025 + 1 * 2
        ("haus-gross-2", "80"),
    ],
)
def test_the_longest_name_in_the_table_wins(tmp_path: Path, model: str, amount: str) -> None:
    pricer = HostedPricer(model, "http://127.0.0.1:8000/v1", table(tmp_path, EUROS))
    assert pricer.cost(Usage(6_000_000, 1_000_000, 4_000_000)) == Cost(Decimal(amount), "EUR")
    assert pricer.currency == "EUR"


def test_the_table_overrides_list_prices_under_either_name(tmp_path: Path) -> None:
    own = table(tmp_path, f'[models."{MINI}"]\ninput = 1\noutput = 1\n')
    assert HostedPricer(MINI, None, own).cost(Usage(500_000, 500_000), f"{MINI}-2026-03-17") == Cost(Decimal(1), "USD")


def test_list_prices_are_converted_or_unpriced_without_a_rate(tmp_path: Path) -> None:
    dollars = listed(MINI, USAGE)
    converted = HostedPricer(MINI, None, table(tmp_path, EUROS))
    assert converted.cost(USAGE) == Cost(dollars.amount * Decimal("0.92"), "EUR")
    assert HostedPricer(MINI, None, table(tmp_path, 'currency = "EUR"')).cost(USAGE) is None


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("usd =", "not TOML"),
        ("[models.m]\ninput = 1\noutput = 2\n[models.m]\ninput = 1\n", "not TOML"),
        ("modles = {}", "modles: extra inputs are not permitted"),
        ("[models.m]\ninput = 1\noutput = 2\nouput = 3", "models.m.ouput: extra inputs"),
        ("[models.m]\ninput = 1", "models.m.output: field required"),
        ("[models.m]\ninput = -1\noutput = 1", "models.m.input: input should be greater than or equal to 0"),
        ("[models.m]\ninput = nan\noutput = 1", "a number is too long, or not finite"),
        ("[models.m]\ninput = true\noutput = 1", "models.m.input: "),
        ("[models.m]\ninput = 1\ncached = 2\noutput = 1", "cached tokens for 2 cost more than fresh ones for 1"),
        ('[models."a*b"]\ninput = 1\noutput = 1', "the * in 'a*b' must be its last letter"),
        ('currency = "Euro"', "currency: "),
        ('currency = "EUR"\nusd = 0', "usd: input should be greater than 0"),
        ("usd = 0.92", "usd: one US dollar is 1 USD"),
        ("models = 3", "models: "),
    ],
)
def test_a_wrong_table_is_reported_in_one_line_by_name(tmp_path: Path, content: str, reported: str) -> None:
    with pytest.raises(SettingsError) as caught:
        table(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'prices.toml'}: ")
    assert reported in message
    assert "\n" not in message


def test_the_table_is_next_to_the_config_file_or_where_the_setting_says(tmp_path: Path) -> None:
    environment = {"SYNOPSIS_CONFIG": str(tmp_path / "config.toml")}
    (tmp_path / "config.toml").write_text("attempts = 2\n", encoding="utf-8")
    assert load_prices(load_settings({}, environment), environment) == PriceTable()
    (tmp_path / "prices.toml").write_text(EUROS, encoding="utf-8")
    assert load_prices(load_settings({}, environment), environment).currency == "EUR"
    other = tmp_path / "other.toml"
    settings = load_settings({"prices": other}, environment)
    with pytest.raises(FileError, match=r"other\.toml: no such file"):
        load_prices(settings, environment)
    other.write_text('currency = "CHF"\n', encoding="utf-8")
    assert load_prices(settings, environment).currency == "CHF"


def test_the_table_in_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "costs.md").read_text(encoding="utf-8")
    own = table(tmp_path, page.partition("```toml\n")[2].partition("```")[0])
    prices = {"input": "0.69", "cached": "0.069", "written": "0.86", "output": "4.14"}
    assert own.rate(MINI) == Rate.model_validate(prices)
    assert own.rate("haus-klein") == Rate(input=Decimal("0.10"), output=Decimal("0.30"))


def test_prices_are_read_from_the_installed_package_when_first_needed() -> None:
    code = (
        "import sys, threading; from synopsis_writer.models import resolve; "
        "from synopsis_writer.usage import Usage; "
        "from synopsis_writer.models.pricing import HostedPricer; "
        "print('genai_prices' in sys.modules); HostedPricer('gpt-5.4-mini').cost(Usage(1)); "
        "print('genai_prices' in sys.modules, threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "True", "1"]  # an updater of prices would be a second thread


def test_the_embedded_engine_costs_nothing() -> None:
    assert FREE.cost(USAGE) == FREE.cost(Usage()) == NO_COST
    assert FREE.currency == ""


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (None, "unpriced"),
        (NO_COST, "no cost"),
        (Cost(Decimal(0), "USD"), "0 USD"),
        (Cost(Decimal("0.012345"), "USD"), "0.0123 USD"),
        (Cost(Decimal("0.0000999"), "USD"), "less than 0.0001 USD"),
        (Cost(Decimal("1.5"), "EUR"), "1.50 EUR"),
        (Cost(Decimal(12345), "EUR"), "12345.00 EUR"),
    ],
)
def test_a_cost_is_shown_for_people(cost: Cost | None, shown: str) -> None:
    assert format_cost(cost) == shown


def test_a_sum_with_an_unpriced_part_is_unpriced() -> None:
    cent = Cost(Decimal("0.01"), "EUR")
    assert total_cost([cent, NO_COST, cent]) == Cost(Decimal("0.02"), "EUR")
    assert total_cost([cent, None, cent]) is None
    assert total_cost([]) == NO_COST


def test_two_currencies_are_never_added() -> None:
    with pytest.raises(ValueError, match="EUR and USD"):
        total_cost([Cost(Decimal(1), "EUR"), Cost(Decimal(1), "USD")])


OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize("model", ["gpt-5.6-luna", "gpt-6-luna", "gpt-6.1-terra"])
def test_cache_writes_cost_a_quarter_more_from_gpt_5_6_on(model: str) -> None:
    pricer = HostedPricer(model, OPENAI)
    fresh, written = pricer.cost(Usage(10_000, 0)), pricer.cost(Usage(10_000, 0, written_tokens=10_000))
    assert fresh is not None
    assert written is not None
    assert written.amount == fresh.amount * Decimal("1.25")


def test_cache_writes_cost_nothing_more_before() -> None:
    pricer = HostedPricer("gpt-5.4-mini", OPENAI)
    assert pricer.cost(Usage(10_000, 0)) == pricer.cost(Usage(10_000, 0, written_tokens=10_000))


def test_a_cheap_tier_is_priced_where_the_server_reports_it_and_a_dear_one_where_it_is_asked_for() -> None:
    usage = Usage(10_000, 1000)
    usual = HostedPricer("gpt-5.4-mini", OPENAI).cost(usage)
    assert usual is not None
    flex = HostedPricer("gpt-5.4-mini", OPENAI, tier="flex")
    granted = flex.cost(usage, "gpt-5.4-mini", "flex")
    assert granted is not None
    assert granted.amount == usual.amount / 2
    assert flex.cost(usage) == flex.cost(usage, "gpt-5.4-mini", "default") == usual
    dear = HostedPricer("gpt-5.4-mini", OPENAI, tier="priority").cost(usage)
    assert dear is not None
    assert dear.amount == usual.amount * 2


def test_a_model_that_the_list_prices_call_deprecated_is_known() -> None:
    assert HostedPricer("Meta-Llama-3.1-8B-Instruct", "https://api.avian.io/v1").is_deprecated
    assert not HostedPricer("gpt-5.4-mini", OPENAI).is_deprecated
    assert not HostedPricer("m", "http://127.0.0.1:1/v1").is_deprecated
