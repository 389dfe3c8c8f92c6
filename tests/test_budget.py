import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopsis_writer.drafting import Judge, ModelAuthor, write
from synopsis_writer.errors import BudgetSpentError, ConnectionFailedError, ModelError, SettingsError
from synopsis_writer.examples import load_example
from synopsis_writer.log import Recording
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.limits import Budget, BudgetClient, estimate_tokens
from synopsis_writer.models.pricing import FREE, HostedPricer, PriceTable, Rate
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import load_settings
from synopsis_writer.show import find_show
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import NO_COST, Cost, Spent, Usage
from synopsis_writer.writer import Writer
from tests.support.loopback import Body, LoopbackServer, Reply
from tests.test_runlog import RUN

# A prompt of 276 bytes is at most 100 tokens: 276 / 3 + 8. With 100 of the answer a call takes 200 at most.
ASK = [Message("user", "a" * 276)]
LIMITS = Limits(max_tokens=100)
# A token costs a cent either way, so that such a call costs 2 EUR at most; ScriptedClient's takes 1.50 EUR.
CENT = Rate(input=Decimal(10_000), output=Decimal(10_000))
PRICER = HostedPricer("m", "http://127.0.0.1:1/v1", PriceTable(currency="EUR", models={"m": CENT}))
UNKNOWN = HostedPricer("m", "http://127.0.0.1:1/v1")


def euros(amount: str, tokens: int) -> Spent:
    return Spent(Cost(Decimal(amount), "EUR"), tokens)


async def ask(client: BudgetClient) -> Answer:
    return await client.complete(ASK, None, LIMITS)


class Held:
    """Answers when it is released."""

    name = "m"

    def __init__(self) -> None:
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        self.asked = 0

    async def complete(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits) -> Answer:
        assert (messages, schema, limits) == (ASK, None, LIMITS)
        self.asked += 1
        self.begun.set()
        await self.go.wait()
        return Answer("ja", usage=Usage(60, 40), model="m")

    async def close(self) -> None:
        self.go.set()


async def test_the_call_that_could_break_the_budget_is_not_made() -> None:
    scripted, budget = ScriptedClient(["eins", "zwei"]), Budget(Decimal("3.49"))
    client = BudgetClient(scripted, PRICER, budget)
    assert (await ask(client)).text == "eins"
    with pytest.raises(BudgetSpentError) as caught:
        await ask(client)
    assert len(scripted.calls) == 1
    assert str(caught.value) == (
        "the next call could pass the budget of 3.49 EUR: 1.50 EUR spent, 0 EUR reserved for calls "
        "under way, up to 2.00 EUR for this one: raise --budget, or lower max_tokens"
    )
    assert caught.value.exit_code == 3
    assert budget.spent == euros("1.5", 150)


async def test_a_budget_may_be_spent_to_the_cent() -> None:
    client = BudgetClient(ScriptedClient(["eins", "zwei"]), PRICER, Budget(Decimal("3.50"), 350))
    await ask(client)
    assert (await ask(client)).text == "zwei"


async def test_tokens_are_bounded_for_an_unpriced_model_too() -> None:
    scripted, budget = ScriptedClient(["eins", "zwei"]), Budget(tokens=349)
    client = BudgetClient(scripted, UNKNOWN, budget)
    await ask(client)
    with pytest.raises(BudgetSpentError, match=r"budget of 349 tokens: 150 tokens spent.*raise --max-tokens-total"):
        await ask(client)
    assert len(scripted.calls) == 1
    assert budget.spent == Spent(None, 150)


async def test_calls_in_flight_count_with_their_worst_case() -> None:
    held, budget = Held(), Budget(Decimal(5))
    client = BudgetClient(held, PRICER, budget)
    calls = [asyncio.create_task(ask(client)) for _ in range(3)]
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert held.asked == 2
    assert [str(call.exception()).count("4.00 EUR reserved") for call in done] == [1]
    assert budget.spent == Spent()
    held.go.set()
    await asyncio.wait(calls)
    assert budget.spent == euros("2", 200)
    await ask(client)
    assert budget.spent == euros("3", 300)


async def test_a_failed_or_cancelled_call_releases_its_reservation() -> None:
    budget = Budget(Decimal(2))
    failing = BudgetClient(ScriptedClient([ConnectionFailedError("gone"), "da"]), PRICER, budget)
    with pytest.raises(ConnectionFailedError):
        await ask(failing)
    held = Held()
    call = asyncio.create_task(ask(BudgetClient(held, PRICER, budget)))
    await held.begun.wait()
    with pytest.raises(BudgetSpentError):
        await ask(failing)
    call.cancel()
    await asyncio.wait([call])
    assert budget.spent == Spent()
    assert (await ask(failing)).text == "da"


async def test_the_tokens_of_a_useless_answer_are_spent_anyway() -> None:
    counted = {"prompt_tokens": 60, "completion_tokens": 40}
    empty = Body({"choices": [], "usage": counted})
    budget = Budget(Decimal(100))
    with LoopbackServer([empty, Reply("Ja."), empty]) as server:
        hosted = HostedClient("m", server.base_url, retry=RetryPolicy(1, first_wait=0.001))
        client = BudgetClient(hosted, PRICER, budget)
        answer = await ask(client)
        assert (answer.usage, budget.spent) == (Usage(160, 90), euros("2.5", 250))
        with pytest.raises(ConnectionFailedError) as caught:
            await ask(client)
        await client.close()
    assert caught.value.usage == Usage(120, 80)
    assert budget.spent == euros("4.5", 450)


async def test_an_answer_without_usage_spends_its_reservation() -> None:
    budget = Budget(Decimal(3), 1000)
    answer = await ask(BudgetClient(ScriptedClient([Answer("ja")]), PRICER, budget))
    assert answer.cost is None
    assert budget.spent == euros("2", 200)


async def test_one_ledger_serves_several_clients_and_resumed_work() -> None:
    budget = Budget(Decimal(10), spent=euros("6", 600))
    hosted = BudgetClient(ScriptedClient(["eins", "zwei"]), PRICER, budget)
    own = BudgetClient(ScriptedClient(["drei", "vier"]), FREE, budget)
    await ask(own)
    await ask(hosted)
    assert budget.spent == euros("7.5", 900)
    await ask(hosted)
    with pytest.raises(BudgetSpentError, match=r"9\.00 EUR spent"):
        await ask(hosted)
    assert (await ask(own)).text == "vier"


async def test_a_budget_of_0_allows_only_free_calls() -> None:
    budget = Budget(Decimal(0))
    assert (await ask(BudgetClient(ScriptedClient(["frei"]), FREE, budget))).text == "frei"
    with pytest.raises(BudgetSpentError, match="budget of 0 EUR"):
        await ask(BudgetClient(ScriptedClient(["nie"]), PRICER, budget))
    assert budget.spent == Spent(NO_COST, 150)


def test_a_budget_in_money_needs_a_priced_model() -> None:
    with pytest.raises(SettingsError, match=r"'m' has no known price.*prices\.toml.*--max-tokens-total"):
        BudgetClient(ScriptedClient([], name="m"), UNKNOWN, Budget(Decimal(1), 1000))


def test_a_budget_in_money_needs_to_know_what_was_spent_before() -> None:
    with pytest.raises(SettingsError, match="spent before is unpriced"):
        Budget(Decimal(1), spent=Spent(None, 10))


@pytest.mark.parametrize("amount", [Decimal(1), None])
def test_the_currency_of_what_was_spent_before_stays(amount: Decimal | None) -> None:
    before = Spent(Cost(Decimal("0.1"), "USD"), 10)
    with pytest.raises(SettingsError, match="USD was spent before, and the prices are in EUR now"):
        BudgetClient(ScriptedClient([]), PRICER, Budget(amount, spent=before))


@pytest.mark.parametrize("text", ["Straße" * 100, "日本語" * 100, "\ud800" * 10])
def test_a_prompts_most_tokens_are_a_third_of_its_bytes_with_the_schema(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    alone = estimate_tokens([Message("user", text)], None)
    assert size / 3 <= alone - 8 < size / 3 + 1
    schema = {"type": "object"}  # 18 bytes
    assert estimate_tokens([Message("user", text)], schema) == alone + 6
    assert estimate_tokens([Message("system", ""), Message("user", text)], None) == alone + 8


@given(
    amount=st.integers(0, 900),
    tokens=st.integers(1, 900),
    calls=st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), max_size=12),
)
def test_calls_within_their_limits_never_exceed_a_budget(
    amount: int, tokens: int, calls: list[tuple[int, int]]
) -> None:
    async def run() -> Spent:
        budget = Budget(Decimal(amount) / 100, tokens)
        answers = [Answer("ja", usage=Usage(prompt, answer)) for prompt, answer in calls]
        client = BudgetClient(ScriptedClient(answers), PRICER, budget)
        await asyncio.gather(*(ask(client) for _ in calls[::2]), return_exceptions=True)
        for _ in calls[1::2]:
            await asyncio.gather(ask(client), return_exceptions=True)
        return budget.spent

    spent = asyncio.run(run())
    assert spent.cost is not None
    assert spent.cost.amount <= Decimal(amount) / 100
    assert spent.tokens <= tokens


async def test_a_real_servers_usage_is_what_is_spent() -> None:
    reply = Reply("Hallo", prompt_tokens=90, completion_tokens=30, cached_tokens=50)
    with LoopbackServer([reply]) as server:
        budget = Budget(Decimal(100))
        client = BudgetClient(HostedClient("m", server.base_url, "key"), PRICER, budget)
        assert client.name == "m"
        try:
            answer = await ask(client)
        finally:
            await client.close()
    assert answer.usage == Usage(90, 30, 50)
    assert answer.cost == Cost(Decimal("1.2"), "EUR")
    assert budget.spent == euros("1.2", 120)


async def test_a_paid_attempt_stays_when_the_budget_forbids_its_repair() -> None:
    good = load_example(Path(__file__).parent / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md")
    refused = good.synopsis.as_json().replace("?", ".")
    writer = Writer(load_settings({}, {}))
    workspace = writer.workspace
    show = find_show(workspace.pool.shows, good.brief.show)
    assert show is not None
    prompt = writer.prompt(good.brief)
    budget = Budget(tokens=estimate_tokens(prompt.messages, None) + 2000)
    scripted = ScriptedClient([refused, refused])
    author = ModelAuthor(BudgetClient(scripted, FREE, budget), workspace.prompts, prompt, Limits(max_tokens=1500))
    result = await write(author, Judge(good.brief, show, workspace.gate.examine), Recording(None, RUN))
    assert isinstance(result.error, BudgetSpentError)
    assert isinstance(result.error, ModelError)
    assert result.best is not None
    assert result.best.synopsis is not None
    assert len(scripted.calls) == 1


def test_the_bounds_are_settings_like_others(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("budget = 0.1\nmax_tokens_total = 5000\n", encoding="utf-8")
    environment = {"SYNOPSIS_CONFIG": str(config), "SYNOPSIS_BUDGET": "0.50"}
    bounds = load_settings({}, environment)
    assert (bounds.budget, bounds.max_tokens_total) == (Decimal("0.50"), 5000)
    assert load_settings({}, {"SYNOPSIS_CONFIG": str(config)}).budget == Decimal("0.1")
    for wrong in ({"budget": "-1"}, {"budget": "0,50"}, {"budget": "inf"}, {"max_tokens_total": 0}):
        with pytest.raises(SettingsError, match=f"^{next(iter(wrong))}: "):
            load_settings(wrong, {})
