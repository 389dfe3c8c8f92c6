"""Batches at a provider are cancelled: what is done by then is fetched, and no shard is lost."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from synopsis_writer.errors import ConnectionFailedError, RequestRefusedError
from synopsis_writer.provider.batch import cancel_batch
from tests.support.house import KEY, QUICK, House, good, row_of, told
from tests.support.loopback import Fault, Reply, Request
from tests.support.provider import BatchServer, Unasked
from tests.support.terminal import ANSWER


def test_a_batch_that_is_cancelled_gives_what_is_done(house: House) -> None:
    house.briefs(3)

    def answer(body: Any) -> Reply | Unasked:
        return Reply(ANSWER) if row_of(body) == 1 else Unasked("batch_cancelled")

    with BatchServer(answer, ends=("in_progress",)) as server:
        house.submit(server)
        work = cancel_batch(house.out, house.settings(server), KEY, limits=QUICK)
        asyncio.run(work)
        assert "asked to end" in house.messages[-1]
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
def test_cancel_releases_a_shard_that_never_became_a_batch(house: House, faults: Any, batches: int) -> None:
    house.briefs(2)
    with BatchServer(good, faults=faults) as server:
        with pytest.raises((ConnectionFailedError, RequestRefusedError)):
            house.submit(server)
        work = cancel_batch(house.out, house.settings(server), KEY, limits=QUICK)
        asyncio.run(work)
        assert ("released: 2 rows" in house.messages[-1]) is (batches == 0)
        house.submit(server)
        assert len(server.batches) == 1
        assert told(house.fetch(server)) == (2, 0, 0, 0)


SETTLING = replace(QUICK, settle_seconds=3.0, answer_seconds=2.0)


def test_cancel_waits_until_the_list_is_certain_before_it_releases_a_shard(house: House) -> None:
    house.briefs(2)
    faults: Any = {"POST /batches": ["slow"], "GET /batches": [Fault(400)]}
    with BatchServer(good, faults=faults, unlisted=1, ends=("in_progress",)) as server:
        with pytest.raises(RequestRefusedError):
            house.submit(server, SETTLING)
        house.cancel(server, SETTLING)
        assert "its batch is asked to end" in house.messages[-1]
        assert told(house.fetch(server)) == (2, 0, 0, 0)


def test_cancel_asks_all_batches_to_end_though_one_is_gone_or_ends_by_itself(house: House) -> None:
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
        assert "batch batch_3 is cancelling" in house.messages[-1]
        assert told(house.fetch(server)) == (2, 0, 0, 1)
