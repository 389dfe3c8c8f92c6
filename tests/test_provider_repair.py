"""What a provider's answers lack is repaired: by a further shard, or by live calls."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from synopsis_writer.batch.store import archive
from synopsis_writer.errors import FileError, RequestRefusedError, UnavailableError
from synopsis_writer.provider.batch import submit_batch
from tests.support.house import KEY, QUICK, House, good, is_repair, lines, row_of, told
from tests.support.loopback import Fault, Reply
from tests.support.provider import BatchServer
from tests.support.terminal import ANSWER, CLOSED


def test_what_the_gate_refuses_is_sent_again_with_the_reasons(house: House) -> None:
    house.briefs(4)

    def answer(body: Any) -> Reply:
        return Reply(CLOSED if row_of(body) % 2 and not is_repair(body) else ANSWER)

    with BatchServer(answer) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (2, 0, 0, 2)
        assert "2 rows are to be repaired by a further batch" in house.messages
        asked = lines(server, 1)
        assert all(line["body"]["messages"][-2]["content"] == CLOSED for line in asked)
        assert all("hook" in line["body"]["messages"][-1]["content"] for line in asked)
        assert told(house.fetch(server)) == (4, 0, 0, 0)
    assert house.answers == [("row: 0", 1), ("row: 1", 1), ("row: 1", 2), ("row: 2", 1), ("row: 3", 1), ("row: 3", 2)]
    assert house.ask("SELECT sum(prompt_tokens), sum(completion_tokens) FROM rows") == [(600, 300)]


def test_a_row_that_is_refused_at_every_attempt_stays_refused(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Reply(CLOSED)) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 1, 0, 0)
        assert [line["custom_id"].rpartition("-")[2] for n in range(3) for line in lines(server, n)] == list("123")
        assert told(house.fetch(server)) == (0, 1, 0, 0)
        assert house.messages[-1] == "no row is at a provider, and none waits to be repaired"
        house.submit(server, order={"retry": ("refused",)})
        assert lines(server, 3)[0]["custom_id"].endswith("-1")


def test_few_rows_are_repaired_by_live_calls_when_all_others_are_in(house: House) -> None:
    house.briefs(3)
    with BatchServer(
        lambda body: Reply(ANSWER if is_repair(body) or row_of(body) else CLOSED), ends=("completed", "in_progress")
    ) as server:
        house.submit(server, replace(QUICK, requests=2))
        assert told(house.fetch(server, live_below=1)) == (1, 0, 0, 2)
        assert server.chats == []
        server.end(server.batches[1], "completed")
        assert told(house.fetch(server, live_below=1)) == (3, 0, 0, 0)
        assert len(server.chats) == 1
        assert server.chats[0].body["messages"][-2]["content"] == CLOSED
    assert house.answers.count(("row: 0", 2)) == 1


def test_after_a_truncated_answer_the_limit_grows_and_after_a_withheld_one_the_brief_is_sent_again(
    house: House,
) -> None:
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


def test_similar_texts_of_one_batch_are_distinguished(house: House) -> None:
    house.briefs(2)
    house.variety = True
    with BatchServer(good) as server:
        house.submit(server)
        assert told(house.fetch(server)) == (1, 0, 0, 1)
        asked = lines(server, 1)[0]["body"]["messages"][-1]["content"]
        first = house.ask("SELECT id FROM rows WHERE status = 'accepted'")[0][0]
        problems = json.loads(house.ask("SELECT problems FROM answers WHERE passed = 0")[0][0])
        assert problems
        assert all(first in problem for problem in problems)
        assert f"Zeile {first}" in asked


def test_a_repair_that_never_comes_back_fails_in_the_end(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda body: Fault(500) if is_repair(body) else Reply(CLOSED)) as server:
        house.submit(server)
        assert told(house.fetch(server, wait=True)) == (0, 0, 1, 0)
        assert len(server.batches) == 1 + 3
    assert "came back without an answer 3 times" in house.ask("SELECT reason FROM rows")[0][0]


def titled(place: int) -> str:
    return json.dumps({**json.loads(CLOSED), "title": f"Titel {place}"}, ensure_ascii=False)


@pytest.mark.parametrize("live_below", [0, 20])
def test_a_row_that_is_made_again_is_repaired_from_its_newest_answer(house: House, live_below: int) -> None:
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
    assert [number for _, number in house.ask("SELECT row, number FROM answers ORDER BY rowid")] == [1, 2, 3] * 2


def test_a_live_fault_for_good_loses_no_paid_answer(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Reply(CLOSED), faults={"POST /chat/completions": [None, Fault(401)]}) as server:
        house.submit(server)
        with pytest.raises(RequestRefusedError):
            house.fetch(server, live_below=20)
        assert house.answers == [("row: 0", 1), ("row: 0", 2)]
        assert house.ask("SELECT round FROM waiting") == [(3,)]
        assert told(house.fetch(server, live_below=20)) == (0, 1, 0, 0)
        assert len(server.chats) == 3
    assert house.answers == [("row: 0", n) for n in (1, 2, 3)]


def test_a_wait_of_hours_ends_live_repairs_and_they_stay_in_the_queue(house: House) -> None:
    house.briefs(3)
    faults = {"POST /chat/completions": [Fault(429, {"retry-after": "7200"})] * 3}
    with BatchServer(lambda body: Reply(ANSWER if is_repair(body) else CLOSED), faults=faults) as server:
        house.submit(server)
        with pytest.raises(UnavailableError, match=r"\(in 2\.0 h\): run the same command again then"):
            house.fetch(server, live_below=20, wait=True)
        assert 1 <= len(server.chats) <= 3
        assert house.ask("SELECT count(*) FROM waiting") == [(3,)]


def test_no_call_to_the_provider_goes_out_before_the_time_that_it_named(house: House) -> None:
    house.briefs(2)
    faults = {"GET /batches/ID": [Fault(429, {"retry-after": "7200"})] * 2}
    with BatchServer(good, faults=faults) as server:
        house.submit(server, replace(QUICK, requests=1))
        asked = len(server.requests)
        with pytest.raises(UnavailableError, match="takes no more requests until"):
            house.fetch(server)
        assert len(server.requests) == asked + 1


def test_repairs_stay_whole_while_the_queue_is_full(house: House) -> None:
    house.briefs(2)
    problems = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
    ends = ("completed", *["failed"] * 4, "completed")
    with BatchServer(lambda body: Reply(ANSWER if is_repair(body) else CLOSED), ends=ends, problems=problems) as server:
        house.submit(server)
        house.fetch(server)
        house.fetch(server)
        assert len(server.batches) == 2  # nothing is sent in the look that met a full queue
        assert house.ask("SELECT round, returns FROM waiting") == [(2, 0)] * 2
        assert told(house.fetch(server, wait=True)) == (2, 0, 0, 0)
        assert len(server.batches) == 6


def test_a_saved_text_records_what_all_its_attempts_took(house: House) -> None:
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


def test_a_run_repairs_what_waits_and_says_where_the_others_are(house: House) -> None:
    house.briefs(3)
    files = house.folder / "files"
    with BatchServer(
        lambda body: Reply(ANSWER if is_repair(body) or row_of(body) else CLOSED), ends=("completed", "in_progress")
    ) as server:
        house.submit(server, order={"limit": 1})
        house.fetch(server)
        house.cancel(server, forget=(2,))
        assert house.ask("SELECT round FROM waiting") == [(2,)]
        house.cancel(server)
        assert "1 row is to be repaired" in house.messages[-1]
        work = submit_batch(house.order(), house.settings(server), KEY, to_folder=files, limits=QUICK)
        asyncio.run(work)
        house.cancel(server)
        work = submit_batch(house.order(limit=2), house.settings(server), KEY, to_folder=files, limits=QUICK)
        asyncio.run(work)
        with pytest.raises(FileError, match="is in files"):
            archive(house.out)
        house.messages.clear()
        assert told(house.run(server)) == (1, 0, 0, 2)
        assert house.messages[0].startswith("2 rows are in files of requests, and left to whoever runs them")
        house.cancel(server)
        assert told(house.run(server)) == (3, 0, 0, 0)
    assert house.answers == [("row: 0", 1), ("row: 0", 2), ("row: 1", 1), ("row: 2", 1)]


def test_fewer_attempts_at_a_fetch_are_reported(house: House) -> None:
    house.briefs(1)
    with BatchServer(lambda _: Reply(CLOSED), ends=("completed", "in_progress")) as server:
        house.submit(server)
        house.fetch(server)
        house.cancel(server, forget=(2,))
        assert told(house.fetch(server, settings={"attempts": 1})) == (0, 1, 0, 0)
    assert "1 row is no longer repaired, for --attempts is 1 now" in house.messages[-1]
