"""Kills and lost answers between two steps: each row is saved once, each shard paid once."""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from synopsis_writer.errors import ConnectionFailedError, RequestRefusedError
from synopsis_writer.result import RowResult
from tests.support.forked import Forked
from tests.support.house import FETCH, KEY, QUICK, SUBMIT, House, good, is_repair, row_of, told
from tests.support.loopback import Fault, Reply, Request
from tests.support.provider import BatchServer
from tests.support.terminal import ANSWER, CLOSED, COMMAND


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
def test_an_error_between_two_steps_creates_no_second_batch(house: House, faults: Any) -> None:
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


def test_a_create_that_stays_unclear_is_resumed_by_the_same_command(house: House) -> None:
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


SETTLING = replace(QUICK, settle_seconds=2.0, answer_seconds=2.0)


@pytest.mark.parametrize("fault", ["slow", "lost", Fault(408), Fault(409)], ids=str)
def test_a_batch_that_is_listed_late_is_not_created_twice(house: House, fault: Any) -> None:
    house.briefs(2)
    is_made = isinstance(fault, str)
    faults = {"POST /batches": [fault]}
    with BatchServer(good, faults=faults, unlisted=1 if is_made else 0) as server:
        house.submit(server, SETTLING)
        assert len(server.batches) == 1
        assert any("unclear whether the batch was made" in line for line in house.messages)
        assert sum(request.path == "/v1/batches" for request in server.requests) == (1 if is_made else 2)
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_a_command_creates_a_batch_twice_at_most(house: House) -> None:
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


def test_a_shard_that_cannot_be_sent_does_not_keep_others_from_being_read(house: House) -> None:
    house.briefs(4)
    with BatchServer(good, faults={"POST /files": [None, Fault(403), Fault(403)]}) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server, replace(QUICK, requests=2))
        with pytest.raises(RequestRefusedError):
            house.fetch(server)
        assert house.statuses == ["accepted", "accepted", "pending", "pending"]
        assert told(house.fetch(server, wait=True)) == (4, 0, 0, 0)


class Killed(Exception):
    pass


def test_after_a_kill_while_results_are_saved_the_downloaded_file_is_used(house: House) -> None:
    house.briefs(4)

    class Dying(list[RowResult]):
        def append(self, done: RowResult) -> None:
            if len(self) == 2:
                raise Killed
            super().append(done)

    with BatchServer(good) as server:
        house.submit(server)
        dying = replace(house, made=Dying())
        with pytest.raises(Killed):
            dying.fetch(server)
        assert house.statuses.count("accepted") == 2
        house.messages.clear()
        assert told(house.fetch(server)) == (4, 0, 0, 0)
        assert sum(request.path.endswith("/content") for request in server.requests) == 1
    assert not any("ignored" in line for line in house.messages)
    assert house.answers == [(f"row: {n}", 1) for n in range(4)]
    assert house.ask("SELECT sum(prompt_tokens) FROM rows") == [(400,)]


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (SUBMIT, "POST /v1/batches"),
        (FETCH, "GET /v1/files/batch_1_output/content"),
        pytest.param(SUBMIT, "POST /v1/files", marks=pytest.mark.slow),
        pytest.param(FETCH, "GET /v1/batches/batch_1", marks=pytest.mark.slow),
        pytest.param(FETCH, "POST /v1/files", marks=pytest.mark.slow),
        pytest.param(FETCH, "POST /v1/batches", marks=pytest.mark.slow),
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
        environment: dict[str, str] = {"OPENAI_BASE_URL": server.base_url, **KEY, "SYNOPSIS_CACHE": str(house.cache)}
        if command is FETCH:
            house.submit(server)
        process = Forked[bytes](
            [COMMAND, "batch", *command],
            cwd=house.folder,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        assert process.wait(120) == -signal.SIGKILL
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
        assert any("2 rows are pending again" in line for line in house.messages)
        assert [len(batch.requests) for batch in server.batches] == [2]
        assert told(house.fetch(server)) == (2, 0, 0, 0)
