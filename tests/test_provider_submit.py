"""Rows go out to a provider: once each, within its limits and the budget."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from synopsis_writer.batch.store import archive
from synopsis_writer.errors import BudgetSpentError, FileError, ModelError, RequestRefusedError, SettingsError
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.pricing import HostedPricer, PriceTable, Rate
from synopsis_writer.provider.batch import cancel_batch, submit_batch
from synopsis_writer.usage import Cost, Spent, Usage
from tests.support.house import KEY, QUICK, SUBMIT, House, good, lines, row_of, told
from tests.support.loopback import Fault, Reply
from tests.support.provider import Batch, BatchServer, Unasked
from tests.support.terminal import ANSWER, Terminal


def test_a_request_is_what_a_live_call_sends(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server, order={"limit": 1})
        asked = lines(server)[0]
        house.fetch(server)
        house.briefs(2)
        live = replace(house, folder=house.folder / "live")
        live.folder.mkdir()
        live.briefs(1)
        live.run(server)
        assert asked["body"] == server.chats[0].body
    key = server.batches[0].metadata["synopsis_shard"]
    assert (asked["custom_id"], asked["method"], asked["url"]) == (f"{key}-1-1", "POST", "/v1/chat/completions")
    create = next(request for request in server.requests if request.path == "/v1/batches")
    assert create.body["completion_window"] == "24h"


def test_a_file_holds_no_more_requests_and_bytes_than_the_provider_takes(house: House) -> None:
    house.briefs(5)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=2))
        assert [len(batch.requests) for batch in server.batches] == [2, 2, 1]
        size = max(len(line) for content in server.files.values() for line in content.splitlines()) + 1
        other = replace(house, folder=house.folder / "other")
        other.folder.mkdir()
        other.briefs(5)
        other.submit(server, replace(QUICK, file_bytes=3 * size + size // 2))
        assert [len(batch.requests) for batch in server.batches[3:]] == [3, 2]
        assert all(len(server.files[batch.file]) <= 3.5 * size for batch in server.batches[3:])
        assert told(house.fetch(server)) == (5, 0, 0, 0)


def test_many_rows_are_each_sent_once(house: House) -> None:
    house.briefs(500)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=150))
        assert [len(batch.requests) for batch in server.batches] == [150, 150, 150, 50]
        names = [ask["custom_id"].split("-")[1] for batch in server.batches for ask in batch.requests]
        assert sorted(map(int, names)) == list(range(1, 501))
        house.submit(server)
        assert len(server.batches) == 4


def test_a_server_without_a_batch_interface_says_so(house: House) -> None:
    house.briefs(1)
    with (
        BatchServer(good, faults={"POST /files": [Fault(404)]}) as server,
        pytest.raises(RequestRefusedError, match="has no batch interface"),
    ):
        house.submit(server)


def test_a_row_that_the_providers_check_names_failed_and_the_others_go_on(house: House) -> None:
    house.briefs(3)
    problems = [{"code": "invalid_request", "message": "Invalid model", "line": 2}]
    with BatchServer(good, ends=("failed", "completed"), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 1, 2)
        assert "batch batch_1 was refused: line 2: Invalid model: 1 row failed" in house.messages[-1]
        house.submit(server)
        assert sorted(row_of(line["body"]) for line in lines(server, 1)) == [0, 2]
        assert told(house.fetch(server)) == (2, 0, 1, 0)
    assert house.statuses == ["accepted", "failed", "accepted"]


def test_a_batch_that_is_refused_whole_is_not_sent_again_by_itself(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "model_not_found", "message": "no such model", "line": None}]
    with BatchServer(good, ends=("failed", "completed"), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 0, 2, 0)
        house.submit(server)
        assert len(server.batches) == 1
        house.submit(server, order={"retry": ("failed",)})
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_full_queue_does_not_fail_the_rows(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    with BatchServer(good, ends=("failed", "completed"), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 0, 2)
        assert "Enqueued token limit reached" in house.messages[-1]
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_wrong_key_is_reported_in_one_line_and_appears_nowhere(house: House) -> None:
    house.briefs(1)
    with (
        BatchServer(good, faults={"POST /files": [Fault(401)]}) as server,
        pytest.raises(RequestRefusedError) as caught,
    ):
        house.submit(server)
    assert "set OPENAI_API_KEY" in str(caught.value)
    everything = b"".join(path.read_bytes() for path in house.out.rglob("*") if path.is_file())
    assert b"sk-secret" not in everything
    assert "sk-secret" not in "".join(house.messages) + repr(caught.value.__context__)
    mode = (house.out / "provider").stat().st_mode & 0o777
    assert mode == 0o700


def test_an_empty_account_fails_no_row(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "billing_hard_limit_reached", "message": "Billing hard limit", "line": None}]
    with BatchServer(good, ends=("failed",), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 0, 0, 2)
        assert "Billing hard limit: 0 rows failed, 2 rows are pending again" in house.messages[-1]


def test_other_examples_than_the_first_draft_was_shown_are_refused(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        with pytest.raises(FileError, match="examples changed from the house's, 7000 tokens to the house's, 500"):
            house.fetch(server, settings={"example_tokens": 500})


def test_a_budget_allows_what_it_can_pay_in_the_worst_case(house: House) -> None:
    house.briefs(5)
    with BatchServer(good) as server:
        with pytest.raises(BudgetSpentError, match=r"raise --max-tokens-total"):
            house.submit(server, max_tokens_total=30_000)
        sent = len(server.batches[0].requests)
        assert 1 <= sent < 5
        with pytest.raises(BudgetSpentError, match=r"could pass the budget of 30000 tokens: 0 tokens spent"):
            house.submit(server, max_tokens_total=30_000)  # what is out counts
        assert len(server.batches) == 1
        house.fetch(server)
        house.submit(server)
        assert told(house.fetch(server)) == (5, 0, 0, 0)


def test_a_budget_in_money_needs_prices(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server, pytest.raises(SettingsError, match="no known price"):
        house.submit(server, budget=Decimal(1))
    assert server.requests == []


def test_a_batch_costs_what_the_providers_list_says_and_half_of_the_users_table_where_that_says_so(
    house: House,
) -> None:
    usage = Usage(1_000_000, 100_000, 200_000)
    live, batch = (HostedPricer("gpt-5.4-mini", is_batch=one).cost(usage) for one in (False, True))
    assert live is not None
    assert batch == Cost(live.amount / 2, "USD")
    own = PriceTable(models={"m": Rate(input=Decimal(2), output=Decimal(4))})
    assert HostedPricer("m", "http://x/v1", own, is_batch=True).cost(usage) == Cost(Decimal("2.4"), "USD")
    (house.folder / "prices.toml").write_text("batch = 0.5\n[models.m]\ninput = 2\noutput = 4\n", encoding="utf-8")
    house.briefs(1)
    with BatchServer(lambda _: Reply(ANSWER, prompt_tokens=1_000_000, completion_tokens=100_000)) as server:
        prices: dict[str, Any] = {"prices": house.folder / "prices.toml"}
        house.submit(server, **prices)
        assert house.fetch(server, settings=prices).cost == Cost(Decimal("1.2"), "USD")


def test_a_live_run_leaves_what_is_at_the_provider(house: House) -> None:
    house.briefs(4)
    with BatchServer(good) as server:
        house.submit(server, order={"limit": 2})
        assert told(house.run(server)) == (2, 0, 0, 2)
        assert house.messages[-1] == f"2 rows are at a provider, and left to it: synopsis batch fetch {house.out}"
        assert len(server.chats) == 2
        assert told(house.run(server)) == (2, 0, 0, 2)
        assert told(house.fetch(server)) == (4, 0, 0, 0)
    assert house.answers == [(f"row: {n}", 1) for n in range(4)]


def test_a_live_run_and_a_submit_may_follow_each_other(house: House) -> None:
    house.briefs(4)
    with BatchServer(lambda body: Unasked() if row_of(body) else Reply(ANSWER)) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 0, 3)
    with BatchServer(good) as server:
        assert told(house.run(server)) == (4, 0, 0, 0)
        house.submit(server)
        assert server.batches == []


def test_a_batch_that_is_at_a_provider_is_not_started_over(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        with pytest.raises(FileError, match="synopsis batch cancel"):
            archive(house.out)
        house.briefs(2)
        with pytest.raises(FileError, match="briefs changed"):
            house.submit(server)
        work = cancel_batch(house.out, house.settings(server), {}, forget=(1,))
        asyncio.run(work)
        assert house.messages[-1] == "shard 1: released: 1 row is pending again"
        assert archive(house.out) is not None


def test_another_server_and_other_settings_are_noticed(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server, BatchServer(good) as other:
        house.submit(server)
        with pytest.raises(SettingsError, match="name its server with --base-url"):
            house.fetch(other)
        with pytest.raises(FileError, match="disabled checks changed"):
            house.fetch(server, settings={"disable": ("hook",)})
        with pytest.raises(FileError, match="model changed from m to x"):
            house.fetch(server, settings={"model": "x"})
        with pytest.raises(SettingsError, match="has no batch interface"):
            house.fetch(server, settings={"model": "packaged", "base_url": None})


def test_status_lists_the_shards(house: House) -> None:
    house.briefs(2)
    terminal = Terminal(house.folder)
    with BatchServer(good, ends=("in_progress",)) as server:
        sent = terminal("batch", *SUBMIT, server=server, SYNOPSIS_CACHE=str(house.cache))
        assert (sent.code, sent.err) == (0, f"shard 1: 2 requests in batch batch_1 at {server.base_url[7:-3]}\n")
        told_ = terminal("batch", "status", "out").out
        assert f"shard 1: 2 requests in batch batch_1 at {server.base_url[7:-3]}: validating, 0 done" in told_
        assert "; ends 2023-11-15T22:13+00:00 at the latest" in told_
        shard = json.loads(terminal("batch", "status", "out", "--json").out)["shards"][0]
        assert (shard["batch"], shard["requests"], shard["status"]) == ("batch_1", 2, "validating")
        assert terminal("batch", "cancel", "out", server=server).code == 0
        assert terminal("batch", "fetch", "out", "--quiet", server=server, SYNOPSIS_CACHE=str(house.cache)).err == ""


class Watched(Spent):
    """What is reserved, and how often any of it was read."""

    looks: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> Any:
        if name in {"cost", "tokens"}:
            Watched.looks += 1
        return super().__getattribute__(name)


def test_a_thousand_requests_are_reserved_without_adding_up_those_before() -> None:
    budget, few = Budget(Decimal(1000), 100_000), 20
    worst = Watched(Cost(Decimal("0.5"), "USD"), 50)
    for _ in range(1000):
        budget.reserve(worst)
    assert Watched.looks <= few * 1000
    with pytest.raises(BudgetSpentError, match=r"0 tokens spent, 50000 tokens reserved"):
        budget.reserve(Spent(Cost(Decimal(1), "USD"), 50_001))
    for _ in range(1000):
        budget.settle(worst, Spent(Cost(Decimal("0.25"), "USD"), 25))
    with pytest.raises(BudgetSpentError, match=r"250.00 USD spent, 0 USD reserved"):
        budget.reserve(Spent(Cost(Decimal(751), "USD"), 1))


def test_an_unpriced_call_is_reserved_in_tokens_until_it_is_settled() -> None:
    budget = Budget(Decimal(1), 100)
    budget.reserve(Spent(None, 60))
    with pytest.raises(BudgetSpentError, match="60 tokens reserved"):
        budget.reserve(Spent(None, 41))
    budget.settle(Spent(None, 60), Spent(tokens=10))
    with pytest.raises(BudgetSpentError, match=r"budget of 1.00 USD"):
        budget.reserve(Spent(Cost(Decimal(2), "USD"), 1))


MADE: dict[str, dict[str, Any]] = {
    "counts": {"request_counts": {"total": 10**30, "completed": 10**30, "failed": -1}},
    "long counts": {"request_counts": {"total": 10**4_000}},
    "unknown status": {"status": "dreaming\x1b[31m" + "z" * 100_000},
    "no status": {"status": None},
    "a number for a status": {"status": 7},
    "nothing else": {name: None for name in Batch("x", "y", {}).as_data() if name != "id"},
    "long id": {"id": "x" * 100_000},
    "escapes": {"id": "a\x1b]52;c;x\x07\r\n\u202e"},
    "half a character": {"id": "a\ud800"},
    "a path": {"id": "../../files"},
    "a query": {"id": "x?y=1#z"},
    "a number": {"id": 7},
}


@pytest.mark.parametrize("kind", MADE)
def test_a_batch_that_was_made_is_recorded_whatever_its_answer_looks_like(
    house: House, terminal: Terminal, kind: str
) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        server.odd = MADE[kind]
        house.submit(server)
        house.submit(server)
        assert len(server.batches) == 1
        expected = str(MADE[kind].get("id", "batch_1")).encode("utf-8", "replace").decode()
        [(batch, status)] = house.ask("SELECT batch, status FROM shards")
        assert batch.replace("\ufffd", "?") == expected
        assert status.isprintable()
        for arguments in ([], ["--json"]):
            shown = terminal("batch", "status", str(house.out), *arguments).out
            assert "\x1b" not in shown
            assert max(map(len, shown.splitlines())) < 500
        server.odd = {}
        if "id" in MADE[kind]:  # it is not known by this name: that is one line, with a way out
            with pytest.raises(ModelError, match="--forget 1") as error:
                house.fetch(server)
            assert len(str(error.value)) < 400
        else:
            assert told(house.fetch(server)) == (1, 0, 0, 0)


@pytest.mark.parametrize("body", [{"id": None}, {"id": ""}, {"id": ["x"]}])
def test_a_batch_whose_answer_names_none_is_looked_for_and_not_made_twice(house: House, body: dict[str, Any]) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        server.odd = body
        with pytest.raises(ModelError, match="without an id"):
            house.submit(server)
        server.odd = {}
        house.submit(server)
        assert len(server.batches) == 1
        assert house.ask("SELECT batch FROM shards") == [("batch_1",)]


def test_request_files_are_their_owners_and_not_written_through_a_link(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        asyncio.run(submit_batch(house.order(), house.settings(server), KEY, to_folder=house.folder / "files"))
        [path] = (house.folder / "files").iterdir()
        assert path.stat().st_mode & 0o777 == 0o600
        other = replace(house, folder=house.folder / "other")
        other.folder.mkdir()
        other.briefs(1)
        (other.folder / "theirs").mkdir()
        (other.folder / "theirs" / ("0" * 16 + ".jsonl")).touch()
        other.out.mkdir()
        (other.out / "provider").symlink_to(other.folder / "theirs")
        with pytest.raises(FileError, match="is a link"):
            other.submit(server)
        assert len(list((other.folder / "theirs").iterdir())) == 1
