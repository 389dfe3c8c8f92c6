"""The provider's batch interface: each row saved once, each shard paid once, whatever happens in between."""

import asyncio
import csv
import json
import logging
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from synopsis_writer.batch.run import Order, run_batch
from synopsis_writer.batch.store import Counts, archive
from synopsis_writer.errors import (
    BudgetSpentError,
    ConnectionFailedError,
    FileError,
    RequestRefusedError,
    SettingsError,
)
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.pricing import HostedPricer, PriceTable, Rate
from synopsis_writer.provider.api import read_result
from synopsis_writer.provider.fetch import Fetch, fetch_batch
from synopsis_writer.provider.submit import ProviderLimits, cancel_batch, submit_batch
from synopsis_writer.result import RowResult
from synopsis_writer.settings import Settings
from synopsis_writer.usage import Cost, Spent, Usage
from tests.support.loopback import Fault, Reply, Request
from tests.support.provider import BatchServer, Unasked
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, Terminal

QUICK = ProviderLimits(
    settle_seconds=0.0, first_look=0.001, longest_look=0.001, first_wait=0.001, answer_seconds=5.0
)
KEY: dict[str, Any] = {"OPENAI_API_KEY": "sk-secret"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@dataclass
class House:
    """A folder with briefs, and what is done with it."""

    folder: Path
    cache: Path
    said: list[str] = field(default_factory=list)
    made: list[RowResult[str]] = field(default_factory=list)
    variety: bool = False

    def briefs(self, rows: int) -> None:
        with (self.folder / "briefs.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "show", "theme", "form", "notes"])
            writer.writerows(
                [f"row: {n}", "Rote Rosen", GOOD.brief.theme, "portrait", f"Zeile {n}."] for n in range(rows)
            )

    def settings(self, server: BatchServer, **more: Any) -> Settings:
        given = {"model": "m", "base_url": server.base_url, "max_retries": 2, "cache": self.cache, **more}
        return Settings.model_validate(given, context={name for name in more if more[name] is not None})

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def order(self, **more: Any) -> Order:
        return Order(self.folder / "briefs.csv", self.out, **more)

    def submit(
        self, server: BatchServer, limits: ProviderLimits = QUICK, *, order: Any = None, **more: Any
    ) -> Counts:
        work = submit_batch(
            self.order(**(order or {})),
            self.settings(server, **more),
            KEY,
            limits=limits,
        )
        return asyncio.run(work)

    def fetch(
        self, server: BatchServer, *, settings: Any = None, limits: ProviderLimits = QUICK, **more: Any
    ) -> Counts:
        order = Fetch(self.out, **{"variety": self.variety, "live_below": 0, **more})
        work = fetch_batch(
            order,
            self.settings(server, **(settings or {})),
            KEY,
            made=lambda done, _: self.made.append(done),
            limits=limits,
        )
        return asyncio.run(work)

    def cancel(
        self, server: BatchServer, limits: ProviderLimits = QUICK, *, forget: Sequence[int] = ()
    ) -> None:
        settings = self.settings(server)
        asyncio.run(cancel_batch(self.out, settings, KEY, forget=forget, limits=limits))

    def ask(self, query: str) -> list[Any]:
        database = sqlite3.connect(self.out / "batch.sqlite3")
        found = database.execute(query).fetchall()
        database.close()
        return found

    @property
    def statuses(self) -> list[str]:
        return [row[0] for row in self.ask("SELECT status FROM rows ORDER BY place")]

    @property
    def answers(self) -> list[tuple[str, int]]:
        return self.ask("SELECT row, number FROM answers ORDER BY row, number")


@pytest.fixture
def house(tmp_path: Path, cache: Path) -> Iterator[House]:
    house = House(tmp_path, cache)
    loggers = [logging.getLogger(f"synopsis_writer.{room}") for room in ("batch", "provider", "models")]
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: house.said.append(record.getMessage())  # type: ignore[method-assign]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield house
    for logger in loggers:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def row_of(body: Any) -> int:
    """Return which row a request is for."""
    text = next(turn["content"] for turn in reversed(body["messages"]) if "Zeile " in turn["content"])
    return int(text.rpartition("Zeile ")[2].split(".")[0])


def is_repair(body: Any) -> bool:
    return "Zeile " not in body["messages"][-1]["content"]


def good(_: Any) -> Reply:
    return Reply(ANSWER)


def told(counts: Counts) -> tuple[int, int, int, int]:
    return counts.accepted, counts.refused, counts.failed, counts.pending


def lines(server: BatchServer, batch: int = 0) -> list[Any]:
    return [json.loads(line) for line in server.files[server.batches[batch].file].splitlines()]


def test_rows_go_out_and_come_back_in_no_order_each_saved_once_with_its_tokens(house: House) -> None:
    house.briefs(6)
    with BatchServer(lambda body: Reply(ANSWER, prompt_tokens=100 + row_of(body), cached_tokens=7)) as server:
        assert told(house.submit(server)) == (0, 0, 0, 6)
        assert told(house.fetch(server)) == (6, 0, 0, 0)
        assert [json.loads(line)["custom_id"] for line in server.batches[0].output] != [
            line["custom_id"] for line in lines(server)
        ]
    tokens = "SELECT prompt_tokens, cached_tokens, completion_tokens, attempts FROM rows ORDER BY place"
    assert house.ask(tokens) == [(100 + n, 7, 50, 1) for n in range(6)]
    assert house.answers == [(f"row: {n}", 1) for n in range(6)]
    assert len(server.batches) == 1
    assert list((house.out / "provider").iterdir()) == []
    origin = json.loads(house.ask("SELECT origin FROM rows")[0][0])
    assert (origin["model"], origin["attempts"], origin["prompt"]["name"]) == ("m-2026", 1, "synopsis")


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
        work = run_batch(
            live.order(variety=False),
            live.settings(server),
            KEY,
            begun=lambda _: None,
            made=lambda *_: None,
            unsaved=lambda _: None,
        )
        asyncio.run(work)
        assert asked["body"] == server.chats[0].body
    key = server.batches[0].metadata["synopsis_shard"]
    assert (asked["custom_id"], asked["method"], asked["url"]) == (
        f"{key}-1-1",
        "POST",
        "/v1/chat/completions",
    )
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


def test_two_thousand_rows_go_out_once_each(house: House) -> None:
    house.briefs(2000)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=600))
        assert [len(batch.requests) for batch in server.batches] == [600, 600, 600, 200]
        names = [ask["custom_id"].split("-")[1] for batch in server.batches for ask in batch.requests]
        assert sorted(map(int, names)) == list(range(1, 2001))
        house.submit(server)
        assert len(server.batches) == 4


def test_what_the_gate_refuses_goes_out_again_and_is_told_why(house: House) -> None:
    house.briefs(4)

    def answer(body: Any) -> Reply:
        return Reply(CLOSED if row_of(body) % 2 and not is_repair(body) else ANSWER)

    with BatchServer(answer) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 2)
        assert "2 rows go out again, to be repaired" in house.said
        asked = lines(server, 1)
        assert all(line["body"]["messages"][-2]["content"] == CLOSED for line in asked)
        assert all("hook" in line["body"]["messages"][-1]["content"] for line in asked)
        assert told(house.fetch(server)) == (4, 0, 0, 0)
    assert house.answers == [
        ("row: 0", 1),
        ("row: 1", 1),
        ("row: 1", 2),
        ("row: 2", 1),
        ("row: 3", 1),
        ("row: 3", 2),
    ]
    assert house.ask("SELECT sum(prompt_tokens), sum(completion_tokens) FROM rows") == [(600, 300)]


def test_a_row_that_is_refused_in_every_round_stays_refused(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Reply(CLOSED)) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 1, 0, 0)
        assert [line["custom_id"].rpartition("-")[2] for n in range(3) for line in lines(server, n)] == list(
            "123"
        )
        assert told(house.fetch(server)) == (0, 1, 0, 0)
        assert house.said[-1] == "no row is at a provider, and none waits to be repaired"
        house.submit(server, order={"retry": ("refused",)})
        assert lines(server, 3)[0]["custom_id"].endswith("-1")


def test_few_rows_are_repaired_by_live_calls_when_all_others_are_in(house: House) -> None:
    house.briefs(3)
    with BatchServer(
        lambda body: Reply(ANSWER if is_repair(body) or row_of(body) else CLOSED),
        ends=("completed", "in_progress"),
    ) as server:
        house.submit(server, replace(QUICK, requests=2))
        assert told(house.fetch(server, live_below=1)) == (1, 0, 0, 2)
        assert server.chats == []
        server.end(server.batches[1], "completed")
        assert told(house.fetch(server, live_below=1)) == (3, 0, 0, 0)
        assert len(server.chats) == 1
        assert server.chats[0].body["messages"][-2]["content"] == CLOSED
    assert house.answers.count(("row: 0", 2)) == 1


def test_a_cut_answer_may_be_longer_and_a_withheld_one_is_asked_for_anew(house: House) -> None:
    house.briefs(2)

    def answer(body: Any) -> Reply:
        if len(server.batches) > 1:
            return Reply(ANSWER)
        return Reply(ANSWER[:300], finish="length") if row_of(body) else Reply("", refusal="Nein.")

    with BatchServer(answer) as server:
        house.submit(server)
        first = {row_of(line["body"]): line["body"] for line in lines(server)}
        house.fetch(server)
        second = {row_of(line["body"]): line["body"] for line in lines(server, 1)}
        assert second[0] == first[0]
        assert second[1]["max_tokens"] == 2 * first[1]["max_tokens"]
        assert second[1]["messages"][-2]["content"] == ANSWER[:300]
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_texts_of_one_batch_that_are_alike_are_told_apart(house: House) -> None:
    house.briefs(2)
    house.variety = True
    with BatchServer(good) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 0, 1)
        asked = lines(server, 1)[0]["body"]["messages"][-1]["content"]
        first = house.ask("SELECT id FROM rows WHERE status = 'accepted'")[0][0]
        problems = json.loads(house.ask("SELECT problems FROM answers WHERE passed = 0")[0][0])
        assert problems
        assert all(first in problem and problem in asked for problem in problems)


@pytest.mark.parametrize(("status", "code"), [("expired", "batch_expired"), ("cancelled", "batch_cancelled")])
def test_what_was_done_before_a_batch_ended_is_kept_and_the_rest_goes_out_again(
    house: House, status: str, code: str
) -> None:
    house.briefs(5)

    def answer(body: Any) -> Reply | Unasked:
        return Unasked(code) if row_of(body) > 1 and len(server.batches) == 1 else Reply(ANSWER)

    with BatchServer(answer, ends=(status, "completed")) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 3)
        house.submit(server)
        assert sorted(row_of(line["body"]) for line in lines(server, 1)) == [2, 3, 4]
        assert told(house.fetch(server)) == (5, 0, 0, 0)
    assert house.answers == [(f"row: {n}", 1) for n in range(5)]


def test_rows_without_any_line_are_pending_again(house: House) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        server.end(server.batches[0], "expired")
        del server.batches[0].output[1:]
        server.files["batch_1_output"] = server.batches[0].output[0].encode()
        assert told(house.fetch(server)) == (1, 0, 0, 2)
        assert house.said[-1] == "shard 1: batch batch_1 is expired; 2 rows are pending again"


def test_a_batch_that_is_cancelled_gives_what_is_done(house: House) -> None:
    house.briefs(3)

    def answer(body: Any) -> Reply | Unasked:
        return Reply(ANSWER) if row_of(body) == 1 else Unasked("batch_cancelled")

    with BatchServer(answer, ends=("in_progress",)) as server:
        house.submit(server)
        work = cancel_batch(house.out, house.settings(server), KEY, limits=QUICK)
        asyncio.run(work)
        assert "asked to end" in house.said[-1]
        assert told(house.fetch(server)) == (1, 0, 0, 2)


@pytest.mark.parametrize(
    ("faults", "batches"),
    [
        ({"POST /files": [Fault(401)]}, 0),
        ({"POST /batches": [Fault(403)]}, 0),
        ({"POST /batches": ["hangup"] * 3}, 0),
        ({"POST /batches": ["lost"], "GET /batches": [Fault(400)]}, 1),
    ],
    ids=str,
)
def test_a_shard_that_was_never_made_a_batch_is_let_go_by_cancel(
    house: House, faults: Any, batches: int
) -> None:
    house.briefs(2)
    with BatchServer(good, faults=faults) as server:
        with pytest.raises((ConnectionFailedError, RequestRefusedError)):
            house.submit(server)
        work = cancel_batch(house.out, house.settings(server), KEY, limits=QUICK)
        asyncio.run(work)
        assert ("let go: 2 rows" in house.said[-1]) is (batches == 0)
        house.submit(server)
        assert len(server.batches) == 1
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_server_without_a_batch_interface_says_so(house: House) -> None:
    house.briefs(1)
    with (
        BatchServer(good, faults={"POST /files": [Fault(404)]}) as server,
        pytest.raises(RequestRefusedError, match="has no batch interface"),
    ):
        house.submit(server)


def test_a_rejected_request_fails_its_row_and_a_passing_fault_does_not(house: House) -> None:
    house.briefs(4)
    outcomes: list[Reply | Fault] = [Reply(ANSWER), Fault(400, message="too long"), Fault(429), Fault(500)]
    with BatchServer(lambda body: outcomes[row_of(body)]) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 1, 2)
    assert house.statuses == ["accepted", "failed", "pending", "pending"]
    assert house.ask("SELECT reason FROM rows WHERE status = 'failed'") == [
        ("the provider answered 400: too long",)
    ]


def test_a_repair_that_never_comes_back_fails_in_the_end(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda body: Fault(500) if is_repair(body) else Reply(CLOSED)) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 0, 1, 0)
        assert len(server.batches) == 1 + 3
    assert "came back without an answer 3 times" in house.ask("SELECT reason FROM rows")[0][0]


def test_a_body_that_is_no_answer_is_paid_all_the_same(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.end(server.batches[0], "completed")
        line = json.loads(server.batches[0].output[0])
        line["response"]["body"]["choices"] = []
        server.files["batch_1_output"] = json.dumps(line).encode()
        assert told(house.fetch(server)) == (0, 0, 0, 1)
    assert house.ask("SELECT prompt_tokens, completion_tokens FROM rows") == [(100, 50)]


def test_a_row_that_the_providers_check_names_has_failed_and_the_others_go_on(house: House) -> None:
    house.briefs(3)
    problems = [{"code": "invalid_request", "message": "Invalid model", "line": 2}]
    with BatchServer(good, ends=("failed", "completed"), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 1, 2)
        assert "batch batch_1 was refused: line 2: Invalid model: 1 rows failed" in house.said[-1]
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


def test_a_full_queue_is_no_fault_of_the_rows(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    with BatchServer(good, ends=("failed", "completed"), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 0, 2)
        assert "Enqueued token limit reached" in house.said[-1]
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    "faults",
    [
        {"POST /files": [Fault(500), "hangup", None]},
        {"POST /files": ["lost"]},
        {"POST /batches": ["lost"]},
        {"POST /batches": ["hangup"]},
        {"POST /batches": [Fault(500)]},
        {"POST /batches": ["cut"]},
        {"POST /batches": ["lost"], "GET /batches": ["hangup", Fault(503)]},
        {"GET /batches/ID": [Fault(500), "cut"]},
        {"GET /files/ID": ["cut"], "GET /files/ID/content": ["hangup"]},
        {"GET /files/ID/content": ["cut"]},
    ],
    ids=str,
)
def test_a_fault_between_two_steps_makes_no_second_batch(house: House, faults: Any) -> None:
    house.briefs(3)
    with BatchServer(good, faults=faults) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (3, 0, 0, 0)
        assert len(server.batches) == 1
    assert house.answers == [(f"row: {n}", 1) for n in range(3)]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_batch_whose_answer_was_lost_is_found_among_others_of_the_account(house: House, page: int) -> None:
    house.briefs(1)
    with BatchServer(good, faults={"POST /batches": [None, None, None, None, "lost"]}, page=page) as server:
        for place in range(4):
            other = replace(house, folder=house.folder / f"other-{place}")
            other.folder.mkdir()
            other.briefs(1)
            other.submit(server)
        house.submit(server)
        assert len(server.batches) == 5
        assert told(house.fetch(server)) == (1, 0, 0, 0)


def test_a_create_that_stays_unclear_is_taken_up_by_the_same_command(house: House) -> None:
    house.briefs(2)
    faults: Any = {"POST /batches": ["lost"], "GET /batches": [Fault(500)] * 3}
    with BatchServer(good, faults=faults) as server:
        with pytest.raises(ConnectionFailedError):
            house.submit(server)
        assert told(house.submit(server)) == (0, 0, 0, 2)
        assert len(server.batches) == 1
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_batch_that_is_clearly_refused_is_made_once_when_it_is_taken(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"POST /batches": [Fault(403, message="no batches for you")]}) as server:
        with pytest.raises(RequestRefusedError, match="answered 403"):
            house.submit(server)
        server.files.clear()
        assert told(house.fetch(server, wait=True)) == (2, 0, 0, 0)  # it goes on with what submit left
        assert len(server.batches) == 1
        assert not any(request.path.startswith("/v1/batches?") for request in server.requests)


def test_a_wrong_key_is_said_in_one_line_and_nothing_holds_it(house: House) -> None:
    house.briefs(1)
    with (
        BatchServer(good, faults={"POST /files": [Fault(401)]}) as server,
        pytest.raises(RequestRefusedError) as caught,
    ):
        house.submit(server)
    assert "set OPENAI_API_KEY" in str(caught.value)
    everything = b"".join(path.read_bytes() for path in house.out.rglob("*") if path.is_file())
    assert b"sk-secret" not in everything
    assert "sk-secret" not in "".join(house.said) + repr(caught.value.__context__)
    mode = (house.out / "provider").stat().st_mode & 0o777
    assert mode == 0o700


def test_lines_that_belong_to_no_row_are_said_and_ignored_and_the_first_result_stays(house: House) -> None:
    house.briefs(2)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        first = json.loads(batch.output[0])
        again = {**first, "response": {"status_code": 200, "body": Reply(CLOSED).as_data("m")}}
        strange = [
            {**first, "custom_id": name} for name in ("x", None, "0" * 16 + "-1-1", first["custom_id"] + "9")
        ]
        content = [*batch.output, json.dumps(again), *map(json.dumps, strange), '{"custom_id', "", "[]"]
        server.files["batch_1_output"] = "\n".join(line.strip() for line in content).encode()
        assert told(house.fetch(server)) == (2, 0, 0, 0)
    ignored = [line for line in house.said if "is ignored" in line]
    assert "the first one stays" in ignored[0]
    assert "unknown request id 'x'" in ignored[1]
    assert any("7 lines in all" in line for line in house.said)
    assert house.answers == [("row: 0", 1), ("row: 1", 1)]


def test_a_download_that_never_comes_whole_loses_nothing(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"GET /files/ID/content": ["cut"] * 3}) as server:
        house.submit(server)
        with pytest.raises(ConnectionFailedError):
            house.fetch(server)
        assert list((house.out / "provider").iterdir()) == []
        assert told(house.fetch(server)) == (2, 0, 0, 0)


SETTLING = replace(QUICK, settle_seconds=0.3, answer_seconds=0.3)


@pytest.mark.parametrize("fault", ["slow", "lost", Fault(408), Fault(409)], ids=str)
def test_a_batch_that_stands_in_the_list_late_is_not_made_twice(house: House, fault: Any) -> None:
    house.briefs(2)
    is_made = isinstance(fault, str)
    faults = {"POST /batches": [fault]}
    with BatchServer(good, faults=faults, unlisted=1 if is_made else 0) as server:
        house.submit(server, SETTLING)
        assert len(server.batches) == 1
        assert any("unclear whether the batch was made" in line for line in house.said)
        assert sum(request.path == "/v1/batches" for request in server.requests) == (1 if is_made else 2)
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_command_asks_for_a_batch_twice_at_most(house: House) -> None:
    house.briefs(1)

    def creates(server: BatchServer) -> int:
        return sum(request.path == "/v1/batches" for request in server.requests)

    with BatchServer(good, faults={"POST /batches": ["hangup"] * 4}) as server:
        with pytest.raises(ConnectionFailedError, match="run the same again"):
            house.submit(server, max_retries=5)
        assert creates(server) == 2
        with pytest.raises(ConnectionFailedError, match="run the same again"):
            house.submit(server, max_retries=5)
        assert creates(server) == 3
        assert server.batches == []


def test_cancel_waits_until_the_list_is_sure_before_a_shard_is_let_go(house: House) -> None:
    house.briefs(2)
    faults: Any = {"POST /batches": ["slow"], "GET /batches": [Fault(400)]}
    with BatchServer(good, faults=faults, unlisted=1, ends=("in_progress",)) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server, SETTLING)
        house.cancel(server, SETTLING)
        assert "its batch is asked to end" in house.said[-1]
        assert told(house.fetch(server)) == (2, 0, 0, 0)


@pytest.mark.parametrize("kept", [0, 1])
def test_answers_that_the_provider_counts_and_does_not_give_are_waited_for(house: House, kept: int) -> None:
    house.briefs(3)
    with BatchServer(good) as server:
        house.submit(server)
        batch = server.batches[0]
        server.end(batch, "completed")
        whole = server.files["batch_1_output"]
        if kept:
            server.files["batch_1_output"] = batch.output[0].encode()
        else:
            server.odd["output_file_id"] = None
        assert told(house.fetch(server)) == (kept, 0, 0, 3 - kept)
        assert f"the provider counts 3 answers and gave {kept}" in house.said[-1]
        assert list((house.out / "provider").iterdir()) == []
        house.submit(server)
        assert len(server.batches) == 1  # they are paid
        server.odd.clear()
        server.files["batch_1_output"] = whole
        house.said.clear()
        assert told(house.fetch(server)) == (3, 0, 0, 0)
    assert not any("ignored" in line for line in house.said)
    assert house.answers == [(f"row: {n}", 1) for n in range(3)]


def test_a_provider_that_counts_failed_requests_as_completed_keeps_nothing_open(house: House) -> None:
    house.briefs(2)
    with BatchServer(lambda body: Fault(400) if row_of(body) else Reply(ANSWER)) as server:
        house.submit(server)
        server.odd["request_counts"] = {"total": 2, "completed": 2, "failed": 1}
        assert told(house.fetch(server)) == (1, 0, 1, 0)


@pytest.mark.parametrize("wait", [False, True])
def test_a_batch_or_file_that_is_gone_keeps_no_other_from_being_read(house: House, wait: bool) -> None:
    house.briefs(6)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=2))
        for batch in server.batches:
            server.end(batch, "completed")
        del server.files["batch_2_output"]
        del server.batches[0]
        with pytest.raises(
            RequestRefusedError, match=r"does not know 'batch_1' of shard 1.*cancel --forget 1"
        ):
            house.fetch(server, wait=wait)
        assert house.statuses == ["pending"] * 4 + ["accepted"] * 2
        assert any("does not know 'batch_2_output' of shard 2" in line for line in house.said)
        with pytest.raises(SettingsError, match=r"shard 3 is not open: name one that is \(1, 2\)"):
            house.cancel(server, forget=(3,))
        house.cancel(server, forget=(1,))
        assert house.ask("SELECT number FROM shards WHERE is_open") == [(2,)]


def test_cancel_asks_all_batches_to_end_where_one_is_gone_or_ends_by_itself(house: House) -> None:
    house.briefs(3)
    with BatchServer(good, ends=("in_progress",), looks=1) as server:
        house.submit(server, replace(QUICK, requests=1))
        second = server.batches[1]

        def seen(request: Request) -> None:
            if request.path == "/v1/batches/batch_2/cancel":
                server.end(second, "completed")

        server._seen = seen
        del server.batches[0]
        with pytest.raises(RequestRefusedError, match="does not know 'batch_1'"):
            house.cancel(server)
        assert [batch.status for batch in server.batches] == ["completed", "cancelling"]
        house.cancel(server, forget=(1,))
        assert told(house.fetch(server)) == (1, 0, 0, 2)
        assert "batch batch_3 is cancelling" in house.said[-1]
        assert told(house.fetch(server)) == (2, 0, 0, 1)


def test_a_shard_that_cannot_be_sent_keeps_none_from_being_read(house: House) -> None:
    house.briefs(4)
    with BatchServer(good, faults={"POST /files": [None, Fault(403), Fault(403)]}) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server, replace(QUICK, requests=2))
        with pytest.raises(RequestRefusedError):
            house.fetch(server)
        assert house.statuses == ["accepted", "accepted", "pending", "pending"]
        assert told(house.fetch(server, wait=True)) == (4, 0, 0, 0)


def titled(place: int) -> str:
    return json.dumps({**json.loads(CLOSED), "title": f"Titel {place}"}, ensure_ascii=False)


@pytest.mark.parametrize("live_below", [0, 20])
def test_a_row_that_is_made_anew_is_repaired_from_its_newest_answer(house: House, live_below: int) -> None:
    house.briefs(1)
    made: list[Any] = []

    def answer(body: Any) -> Reply:
        made.append(body)
        return Reply(titled(len(made)))

    with BatchServer(answer) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 1, 0, 0)
        house.submit(server, order={"retry": ("refused",)})
        house.fetch(server, wait=True, live_below=live_below)
    repaired = [body["messages"][-2]["content"] for body in made if is_repair(body)]
    assert repaired == [titled(place) for place in (1, 2, 4, 5)]
    assert [number for _, number in house.ask("SELECT row, number FROM answers ORDER BY rowid")] == [
        1,
        2,
        3,
    ] * 2


def test_a_live_fault_for_good_loses_no_paid_answer(house: House) -> None:
    house.briefs(1)
    with BatchServer(
        lambda _: Reply(CLOSED), faults={"POST /chat/completions": [None, Fault(401)]}
    ) as server:
        house.submit(server)
        with pytest.raises(RequestRefusedError):
            house.fetch(server, live_below=20)
        assert house.answers == [("row: 0", 1), ("row: 0", 2)]
        assert house.ask("SELECT round FROM waiting") == [(3,)]
        assert told(house.fetch(server, live_below=20)) == (0, 1, 0, 0)
        assert len(server.chats) == 3
    assert house.answers == [("row: 0", n) for n in (1, 2, 3)]


def test_repairs_stay_whole_while_the_queue_is_full(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    ends = ("completed", *["failed"] * 4, "completed")
    with BatchServer(
        lambda body: Reply(ANSWER if is_repair(body) else CLOSED), ends=ends, problems=problems
    ) as server:
        house.submit(server)
        house.fetch(server)
        house.fetch(server)
        assert len(server.batches) == 2  # nothing is sent in the look that met a full queue
        assert house.ask("SELECT round, returns FROM waiting") == [(2, 0)] * 2
        assert told(house.fetch(server, wait=True)) == (2, 0, 0, 0)
        assert len(server.batches) == 6


def test_an_empty_account_fails_no_row(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "billing_hard_limit_reached", "message": "Billing hard limit", "line": None}]
    with BatchServer(good, ends=("failed",), problems=problems) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 0, 0, 2)
        assert "Billing hard limit: 0 rows failed, 2 are pending again" in house.said[-1]


def test_a_saved_text_tells_what_all_its_rounds_took(house: House) -> None:
    house.briefs(1)
    prices = house.folder / "prices.toml"
    prices.write_text("[models.m]\ninput = 2000\noutput = 4000\n", encoding="utf-8")
    with BatchServer(lambda body: Reply(ANSWER if is_repair(body) else CLOSED)) as server:
        house.submit(server, prices=prices)
        assert told(house.fetch(server, wait=True, settings={"prices": prices})) == (1, 0, 0, 0)
    origin = json.loads(house.ask("SELECT origin FROM rows")[0][0])
    assert origin["attempts"] == 2
    assert origin["usage"] == {"prompt_tokens": 200, "cached_tokens": 0, "completion_tokens": 100}
    assert origin["cost"] == "0.8000 USD"


def test_a_run_repairs_what_waits_and_says_where_the_others_lie(house: House) -> None:
    house.briefs(3)
    files = house.folder / "files"
    with BatchServer(
        lambda body: Reply(ANSWER if is_repair(body) or row_of(body) else CLOSED),
        ends=("completed", "in_progress"),
    ) as server:
        house.submit(server, order={"limit": 1})
        house.fetch(server)
        house.cancel(server, forget=(2,))
        assert house.ask("SELECT round FROM waiting") == [(2,)]
        house.cancel(server)
        assert "1 rows wait to be repaired" in house.said[-1]
        work = submit_batch(house.order(), house.settings(server), KEY, to_folder=files, limits=QUICK)
        asyncio.run(work)
        house.cancel(server)
        work = submit_batch(
            house.order(limit=2),
            house.settings(server),
            KEY,
            to_folder=files,
            limits=QUICK,
        )
        asyncio.run(work)
        with pytest.raises(FileError, match="is in files"):
            archive(house.out)
        house.said.clear()
        assert told(run(house, server)) == (1, 0, 0, 2)
        assert house.said[0].startswith("2 rows are in files of requests, and left to whoever runs them")
        house.cancel(server)
        assert told(run(house, server)) == (3, 0, 0, 0)
    assert house.answers == [("row: 0", 1), ("row: 0", 2), ("row: 1", 1), ("row: 2", 1)]


def test_fewer_attempts_at_a_fetch_are_said(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Reply(CLOSED), ends=("completed", "in_progress")) as server:
        house.submit(server)
        house.fetch(server)
        house.cancel(server, forget=(2,))
        assert told(house.fetch(server, settings={"attempts": 1})) == (0, 1, 0, 0)
    assert "1 rows that were to be repaired stay refused, for --attempts is 1 now" in house.said[-1]


def test_waiting_outlasts_an_outage(house: House) -> None:
    house.briefs(1)
    faults: Any = {"GET /batches/ID": [Fault(503)] * 7, "GET /files/ID/content": ["cut"] * 4}
    with BatchServer(good, faults=faults) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (1, 0, 0, 0)
    assert any("answered 503 every time" in line for line in house.said)


@pytest.mark.parametrize(
    "odd",
    [
        {"errors": ""},
        {"errors": "none"},
        {"errors": {"data": ["x", None, {"line": "first"}]}},
        {"request_counts": {"total": 1, "completed": None, "failed": None}},
        {"request_counts": "all"},
        {"expires_at": "2026-01-01T00:00:00Z"},
        {"expires_at": 1_900_000_000_000},
        {"metadata": ["x"]},
    ],
    ids=str,
)
def test_a_field_that_nobody_needs_loses_nothing(house: House, odd: dict[str, Any]) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.odd = odd
        assert told(house.fetch(server)) == (1, 0, 0, 0)


def test_a_strange_batch_of_the_account_hides_none(house: House) -> None:
    house.briefs(1)
    with BatchServer(good, faults={"POST /batches": [None, "lost"]}, page=1) as server:
        other = replace(house, folder=house.folder / "other")
        other.folder.mkdir()
        other.briefs(1)
        other.submit(server)
        page = server._list

        def listed(path: str) -> tuple[int, Any]:
            status, body = page(path)
            return status, {**body, "data": [{"id": 7}, *body["data"]]}

        server._list = listed  # type: ignore[method-assign]
        house.submit(server)
        assert len(server.batches) == 2


def test_a_time_that_no_calendar_has_is_said(house: House) -> None:
    house.briefs(1)
    with BatchServer(good, ends=("in_progress",)) as server:
        house.submit(server)
    database = sqlite3.connect(house.out / "batch.sqlite3")
    database.execute("UPDATE shards SET expires = 1900000000000")
    database.commit()
    database.close()
    assert "at a time that no calendar has" in Terminal(house.folder)("batch", "status", "out").out


def test_other_examples_than_the_first_draft_was_shown_are_refused(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        with pytest.raises(
            FileError, match="examples changed from the house's, 6000 tokens to the house's, 500"
        ):
            house.fetch(server, settings={"example_tokens": 500})


def test_the_model_is_that_of_the_batch_unless_a_flag_names_another(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        terminal = Terminal(house.folder)
        environment: dict[str, Any] = {"SYNOPSIS_CACHE": str(house.cache), "SYNOPSIS_MODEL": "x"}
        assert terminal("batch", *FETCH, server=server, **environment).code == 0
        assert "model changed" in terminal("batch", *FETCH, "--model", "x", server=server, **environment).err


def test_rows_that_nobody_is_at_after_waiting_are_an_error(house: House) -> None:
    house.briefs(2)
    with BatchServer(lambda body: Reply(ANSWER) if row_of(body) else Fault(429)) as server:
        house.submit(server)
        run = Terminal(house.folder)(
            "batch", *FETCH, "--wait", server=server, SYNOPSIS_CACHE=str(house.cache)
        )
    assert (
        run.code,
        run.err.splitlines()[-1].endswith("1 rows are pending, and nobody works on them: submit them again"),
    ) == (3, True)


def test_no_file_of_a_shard_that_is_done_with_stays(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"POST /files": [Fault(401)]}) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server)
        folder = house.out / "provider"
        (folder / ".synopsis-half").write_text("x", encoding="utf-8")
        (folder / "mine.txt").write_text("x", encoding="utf-8")
        assert len(list(folder.iterdir())) == 3
        house.cancel(server)
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_an_answer_behind_a_line_that_passes_is_taken(house: House) -> None:
    house.briefs(2)
    with BatchServer(good) as server:
        house.submit(server, replace(QUICK, requests=1))
        for place, batch in enumerate(server.batches):
            server.end(batch, "completed")
            undone = {"custom_id": batch.requests[0]["custom_id"], "error": {"code": "batch_expired"}}
            strange = '{"custom_id": "zz"}\n' * (6 if place == 0 else 1)
            content = json.dumps(undone) + "\n" + batch.output[0] + strange
            server.files[f"batch_{place + 1}_output"] = content.encode()
        assert told(house.fetch(server)) == (2, 0, 0, 0)
    assert [line.split(":")[1] for line in house.said if "lines in all" in line] == [
        " 6 lines in all belong to no row, or to one that was read"
    ]


class Killed(Exception):
    pass


def test_a_kill_while_results_are_saved_goes_on_with_the_file_that_is_there(house: House) -> None:
    house.briefs(4)

    class Dying(list[RowResult[str]]):
        def append(self, done: RowResult[str]) -> None:
            if len(self) == 2:
                raise Killed
            super().append(done)

    with BatchServer(good) as server:
        house.submit(server)
        dying = replace(house, made=Dying())
        with pytest.raises(Killed):
            dying.fetch(server)
        assert house.statuses.count("accepted") == 2
        house.said.clear()
        assert told(house.fetch(server)) == (4, 0, 0, 0)
        assert sum(request.path.endswith("/content") for request in server.requests) == 1
    assert not any("ignored" in line for line in house.said)
    assert house.answers == [(f"row: {n}", 1) for n in range(4)]
    assert house.ask("SELECT sum(prompt_tokens) FROM rows") == [(400,)]


SUBMIT = ("submit", "briefs.csv", "--out", "out", "--model", "m")
FETCH = ("fetch", "out", "--variety", "off", "--live-below", "0")


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (SUBMIT, "POST /v1/files"),
        (SUBMIT, "POST /v1/batches"),
        (FETCH, "GET /v1/batches/batch_1"),
        (FETCH, "GET /v1/files/batch_1_output/content"),
        (FETCH, "POST /v1/files"),
        (FETCH, "POST /v1/batches"),
    ],
)
def test_a_kill_at_any_call_saves_each_row_once_and_pays_each_shard_once(
    house: House, command: Sequence[str], call: str
) -> None:
    house.briefs(3)
    processes: list[subprocess.Popen[bytes]] = []

    def seen(request: Request) -> None:
        asks = "GET" if request.body == b"" else "POST"
        if processes and f"{asks} {request.path}" == call:
            processes.pop().send_signal(signal.SIGKILL)

    def answer(body: Any) -> Reply:
        return Reply(CLOSED if row_of(body) == 1 and not is_repair(body) else ANSWER)

    with BatchServer(answer, seen=seen) as server:
        environment: dict[str, str] = {
            "OPENAI_BASE_URL": server.base_url,
            **KEY,
            "SYNOPSIS_CACHE": str(house.cache),
        }
        if command is FETCH:
            house.submit(server)
        process = subprocess.Popen(
            [COMMAND, "batch", *command],
            cwd=house.folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        assert process.wait(60) == -signal.SIGKILL
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (3, 0, 0, 0)
        assert house.statuses == ["accepted"] * 3
        assert house.answers == [("row: 0", 1), ("row: 1", 1), ("row: 1", 2), ("row: 2", 1)]
        shards = [batch.metadata["synopsis_shard"] for batch in server.batches]
        assert len(shards) == len(set(shards)) == 2


def test_a_file_that_was_lost_before_it_was_sent_gives_its_rows_back(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, faults={"POST /files": [Fault(401)]}) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server)
        next((house.out / "provider").iterdir()).write_text("{}", encoding="utf-8")
        house.submit(server)
        assert any("2 rows are pending again" in line for line in house.said)
        assert [len(batch.requests) for batch in server.batches] == [2]
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_budget_lets_as_much_through_as_it_can_pay_in_the_worst_case(house: House) -> None:
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


def test_a_budget_in_money_wants_prices(house: House) -> None:
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
    (house.folder / "prices.toml").write_text(
        "batch = 0.5\n[models.m]\ninput = 2\noutput = 4\n", encoding="utf-8"
    )
    house.briefs(1)
    with BatchServer(lambda _: Reply(ANSWER, prompt_tokens=1_000_000, completion_tokens=100_000)) as server:
        prices: dict[str, Any] = {"prices": house.folder / "prices.toml"}
        house.submit(server, **prices)
        assert house.fetch(server, settings=prices).cost == Cost(Decimal("1.2"), "USD")


def run(house: House, server: BatchServer) -> Counts:
    work = run_batch(
        house.order(variety=False),
        house.settings(server),
        KEY,
        begun=lambda _: None,
        made=lambda *_: None,
        unsaved=lambda _: None,
    )
    return asyncio.run(work)


def test_a_live_run_leaves_what_lies_at_the_provider(house: House) -> None:
    house.briefs(4)
    with BatchServer(good) as server:
        house.submit(server, order={"limit": 2})
        assert told(run(house, server)) == (2, 0, 0, 2)
        assert house.said[-1] == f"2 rows are at a provider, and left to it: synopsis batch fetch {house.out}"
        assert len(server.chats) == 2
        assert told(run(house, server)) == (2, 0, 0, 2)
        assert told(house.fetch(server)) == (4, 0, 0, 0)
    assert house.answers == [(f"row: {n}", 1) for n in range(4)]


def test_a_live_run_and_a_submit_may_follow_each_other(house: House) -> None:
    house.briefs(4)
    with BatchServer(lambda body: Unasked() if row_of(body) else Reply(ANSWER)) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 0, 3)
    with BatchServer(good) as server:
        assert told(run(house, server)) == (4, 0, 0, 0)
        house.submit(server)
        assert server.batches == []


def test_a_batch_that_lies_at_a_provider_is_not_begun_anew(house: House) -> None:
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
        assert house.said[-1] == "shard 1: let go: 1 rows are pending again"
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


def test_a_batch_that_the_provider_does_not_know_says_what_to_do(house: House) -> None:
    house.briefs(1)
    with BatchServer(good) as server:
        house.submit(server)
        server.batches.clear()
        with pytest.raises(RequestRefusedError, match=r"does not know 'batch_1'.*--forget"):
            house.fetch(server)


def test_open_batches_are_waited_for(house: House) -> None:
    house.briefs(2)
    with BatchServer(good, looks=3) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (0, 0, 0, 2)
        assert house.said[-1] == "shard 1: batch batch_1 is in_progress: 0 of 2 done, 0 failed"
        assert told(house.fetch(server, wait=True)) == (2, 0, 0, 0)


def test_status_tells_the_shards(house: House) -> None:
    house.briefs(2)
    terminal = Terminal(house.folder)
    with BatchServer(good, ends=("in_progress",)) as server:
        sent = terminal("batch", *SUBMIT, server=server, SYNOPSIS_CACHE=str(house.cache))
        assert (sent.code, sent.err) == (
            0,
            f"shard 1: 2 requests in batch batch_1 at {server.base_url[7:-3]}\n",
        )
        told_ = terminal("batch", "status", "out").out
        assert f"shard 1: 2 requests in batch batch_1 at {server.base_url[7:-3]}: validating, 0 done" in told_
        assert "; ends 2023-11-15T22:13+00:00 at the latest" in told_
        shard = json.loads(terminal("batch", "status", "out", "--json").out)["shards"][0]
        assert (shard["batch"], shard["requests"], shard["status"]) == ("batch_1", 2, "validating")
        assert terminal("batch", "cancel", "out", server=server).code == 0
        assert (
            terminal("batch", "fetch", "out", "--quiet", server=server, SYNOPSIS_CACHE=str(house.cache)).err
            == ""
        )


def test_commands_exit_as_a_run_does(house: House) -> None:
    terminal = Terminal(house.folder)
    missing = terminal("batch", "fetch", "none", **KEY)
    assert (missing.code, len(missing.err.splitlines())) == (2, 1)
    assert not (house.folder / "none").exists()
    house.briefs(2)
    with BatchServer(lambda body: Fault(400) if row_of(body) else Reply(ANSWER)) as server:
        terminal("batch", *SUBMIT, server=server, SYNOPSIS_CACHE=str(house.cache))
        assert terminal("batch", *FETCH, server=server, SYNOPSIS_CACHE=str(house.cache)).code == 3
        down = terminal("batch", "submit", "briefs.csv", "--out", "out", "--model", "m", "--retry", "failed",
                        "--max-retries", "0", OPENAI_BASE_URL="http://127.0.0.1:9/v1", **KEY)  # fmt: skip
        assert (down.code, len(down.err.splitlines())) == (3, 1)


def vllm(path: Path, answer: Callable[[Any], Reply | Fault]) -> str:
    """Return what `vllm run-batch` writes for a file of requests."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        ask = json.loads(line)
        outcome = answer(ask["body"])
        response: dict[str, Any] = {"status_code": 200, "request_id": "vllm-batch-1", "body": None}
        error = None
        if isinstance(outcome, Reply):
            response["body"] = outcome.as_data("m")
        else:
            response["status_code"] = outcome.status
            error = {"error": {"message": "bad prompt", "type": "BadRequestError", "code": outcome.status}}
        lines.append({"id": "vllm-1", "custom_id": ask["custom_id"], "response": response, "error": error})
    return "\n".join(map(json.dumps, lines))


def test_the_same_files_run_elsewhere_and_are_read_back(house: House) -> None:
    house.briefs(4)
    terminal = Terminal(house.folder)
    cache: dict[str, Any] = {"SYNOPSIS_CACHE": str(house.cache)}
    outcomes: list[Reply | Fault] = [Reply(ANSWER), Reply(CLOSED), Fault(400), Reply(ANSWER)]
    written = terminal("batch", *SUBMIT, "--to-files", "files", **cache)
    assert written.code == 0, written.err
    (path,) = (house.folder / "files").iterdir()
    text = vllm(path, lambda body: outcomes[row_of(body)]).splitlines()
    (house.folder / "out.jsonl").write_text("\n".join(text[:3]), encoding="utf-8")
    fetch = ("batch", "fetch", "out", "--variety", "off", "--from-file")
    done = terminal(*fetch, "out.jsonl", **cache)
    assert done.code == 3, done.err
    assert house.statuses == ["accepted", "pending", "failed", "pending"]
    assert house.ask("SELECT reason FROM rows WHERE status = 'failed'") == [
        ("the provider answered 400: bad prompt",)
    ]
    path.unlink()
    again = terminal("batch", *SUBMIT, "--to-files", "files", **cache)
    assert "2 requests" in again.err
    (path,) = (house.folder / "files").iterdir()
    (house.folder / "out.jsonl").write_text(vllm(path, good), encoding="utf-8")
    terminal(*fetch, "out.jsonl", **cache)
    assert house.statuses == ["accepted", "accepted", "failed", "accepted"]
    assert house.ask("SELECT max(number) FROM answers WHERE row = 'row: 1'") == [(2,)]
    last = terminal("batch", *SUBMIT, "--to-files", "files", "--retry", "failed", **cache)
    assert "1 requests" in last.err
    assert "1 requests in a file: give its results to batch fetch --from-file" in last.out
    strange = terminal(*fetch, "briefs.csv", **cache)
    assert (strange.code, "holds no result of this batch" in strange.err) == (2, True)
    assert terminal("batch", "cancel", "out").err == "shard 3: let go: 1 rows are pending again\n"


@pytest.mark.parametrize(
    ("line", "reason", "passes"),
    [
        ({"error": "boom"}, "no answer: boom", False),
        ({"response": {"status_code": 400}, "error": "boom"}, "the provider answered 400: boom", False),
        ({"response": {"status_code": 503, "body": "x"}}, "the provider answered 503", True),
        ({"response": None, "error": {"code": "batch_expired"}}, "no answer: batch_expired", True),
        ({"response": {"status_code": "x", "body": {"error": {"message": "a\nb"}}}}, "no answer: a b", False),
        ({"response": 7, "error": [1]}, "no answer: [1]", False),
    ],
)
def test_a_line_without_an_answer_says_why(line: Any, reason: str, passes: bool) -> None:
    found = read_result(json.dumps({"custom_id": "0123456789abcdef-7-2", **line}).encode())
    assert not isinstance(found, str)
    assert (found.place, found.number, found.body) == (7, 2, None)
    assert (found.reason, found.is_transient) == (reason, passes)


def test_texts_checked_in_processes_of_their_own_come_to_the_same(house: House) -> None:
    house.briefs(3)
    with BatchServer(lambda body: Reply(CLOSED if row_of(body) == 1 else ANSWER)) as server:
        house.submit(server, attempts=1)
        assert told(house.fetch(server, settings={"attempts": 1}, workers=1)) == (2, 1, 0, 0)
    assert house.statuses == ["accepted", "refused", "accepted"]


class Watched(Spent):
    """What is set aside, and how often any of it was looked at."""

    looks: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> Any:
        if name in {"cost", "tokens"}:
            Watched.looks += 1
        return super().__getattribute__(name)


def test_a_thousand_requests_are_set_aside_without_adding_up_those_before() -> None:
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


def test_an_unpriced_call_is_set_aside_in_tokens_until_it_is_settled() -> None:
    budget = Budget(Decimal(1), 100)
    budget.reserve(Spent(None, 60))
    with pytest.raises(BudgetSpentError, match="60 tokens reserved"):
        budget.reserve(Spent(None, 41))
    budget.settle(Spent(None, 60), Spent(tokens=10))
    with pytest.raises(BudgetSpentError, match=r"budget of 1.00 USD"):
        budget.reserve(Spent(Cost(Decimal(2), "USD"), 1))
