"""The workers of a cluster: some die, some do not come up, some never answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.cluster import Job, Timeouts, WorkerPool
from synopsis_writer.errors import BudgetSpentError, EngineError
from synopsis_writer.models.limits import Budget
from synopsis_writer.models.resolve import ResolvedModel
from synopsis_writer.result import RowResult
from tests.support.clock import Clock
from tests.support.terminal import GOOD

QUICK = Timeouts(cpu=0.05, restart=0.01, look=0.01, head=0.1)
PATIENT = Timeouts(cpu=600, restart=0.01, look=0.01, head=600)
DEATH = "The actor died. It was restarted nowhere. See the logs."


class Died(ray.exceptions.ActorDiedError):
    def __init__(self) -> None:
        ray.exceptions.RayError.__init__(self, f"creation failed\n{DEATH}")

    def __str__(self) -> str:
        return f"creation failed\n{DEATH}"


async def at_once() -> None:
    pass


async def never() -> None:
    await asyncio.Event().wait()


async def dies() -> None:
    raise Died


async def is_made() -> RowResult:
    return RowResult("row-1", "accepted")


@dataclass
class Cluster:
    """What a pool asks of Ray: a worker starts by each function in turn, and then by the last one."""

    starts: list[Callable[[], Awaitable[None]]]
    makes: Callable[[], Awaitable[Any]] = is_made
    made: int = 0
    has_head: bool = True
    looks: int = 0  # how often it was asked for its head
    messages: list[str] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    exceptions: Any = ray.exceptions

    def remote(self, **_options: object) -> Callable[[type], Any]:
        made = SimpleNamespace(remote=self.worker)
        return lambda _: SimpleNamespace(options=lambda **_: made)

    def worker(self) -> Any:
        ready = self.starts[min(self.made, len(self.starts) - 1)]
        self.made += 1
        killed = asyncio.Event()

        async def record() -> logging.LogRecord:
            await killed.wait()
            raise Died

        async def start(_job: Job) -> tuple[str, None]:
            return "node", None

        async def make(_row: BatchRow, _last: object) -> Any:
            return await self.makes()

        return SimpleNamespace(
            __ray_ready__=SimpleNamespace(remote=ready),
            start=SimpleNamespace(remote=start),
            record=SimpleNamespace(remote=record),
            make=SimpleNamespace(remote=make),
            kill=killed.set,
        )

    def kill(self, actor: Any) -> None:
        actor.kill()

    def hear(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.heard.set()

    def reach(self) -> None:
        self.looks += 1
        if not self.has_head:
            raise ConnectionError("connection refused")


def made_by(
    cluster: Cluster, size: int, budget: Budget | None = None, rows: int = 1, timeouts: Timeouts = QUICK
) -> list[RowResult]:
    async def work() -> list[RowResult]:
        choice = ResolvedModel("hosted", "m", "given", base_url="http://127.0.0.1:9/v1")
        job = Job(choice, {}, {}, budget or Budget(), None, None, {})
        pool = WorkerPool(cluster, job, size, 4, cluster.reach, timeouts)
        async with pool.running():
            return [await pool.make(BatchRow("row-1", 1, GOOD.brief), None) for _ in range(rows)]

    logger = logging.getLogger("synopsis_writer.cluster")
    handler = logging.Handler(logging.INFO)
    handler.emit = cluster.hear  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        return asyncio.run(work())
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_a_row_on_which_three_workers_died_failed() -> None:
    cluster = Cluster([at_once], dies)
    [done] = made_by(cluster, 1)
    assert (done.outcome, done.reason) == (
        "failed",
        "3 workers died over this row: is there memory enough on the nodes?",
    )
    assert cluster.messages == ["a worker on node died, handed to others: 1 row"] * 3


def test_a_slot_where_no_worker_starts_is_given_up_and_others_go_on() -> None:
    cluster = Cluster([at_once, dies])

    async def slowly() -> RowResult:
        await cluster.heard.wait()
        return await is_made()

    cluster.makes = slowly
    assert [done.outcome for done in made_by(cluster, 2, rows=3)] == ["accepted"] * 3
    assert len(cluster.messages) == 1
    assert cluster.messages[0].startswith("a worker less, 1 left: no worker comes up on the cluster")
    assert cluster.made == 4


def test_if_no_worker_starts_at_all_a_sentence_of_rays_says_why() -> None:
    with pytest.raises(EngineError) as caught:
        made_by(Cluster([dies]), 2)
    assert str(caught.value) == (
        "no worker comes up on the cluster: The actor died: are token and versions the same on all nodes?"
    )


def test_without_a_free_cpu_the_batch_ends() -> None:
    with pytest.raises(EngineError, match="no node of the cluster had a CPU free"):
        made_by(Cluster([never]), 2)


def test_without_a_head_the_batch_ends_though_a_call_never_comes_back() -> None:
    cluster = Cluster([at_once])

    async def loses_its_head() -> None:
        cluster.has_head = False
        await never()

    cluster.makes = loses_its_head
    with pytest.raises(EngineError, match="the cluster's head does not answer: start it again"):
        made_by(cluster, 1)


def test_a_head_that_is_briefly_unreachable_ends_nothing() -> None:
    cluster = Cluster([at_once])

    async def loses_its_head() -> RowResult:
        clock = Clock()
        for has_head in (False, True, False, True):
            cluster.has_head = has_head
            seen = cluster.looks + 2  # the first of them may have begun before
            while cluster.looks < seen:  # noqa: ASYNC110 - another thread counts
                await asyncio.sleep(QUICK.look)
            clock.forward(0 if has_head else 0.6 * PATIENT.head)
        return await is_made()

    cluster.makes = loses_its_head
    assert [done.outcome for done in made_by(cluster, 1, timeouts=PATIENT)] == ["accepted"]


@pytest.mark.parametrize("budget", [Budget(tokens=90_000), Budget(Decimal(1))])
def test_with_a_budget_a_dead_workers_place_stays_empty(budget: Budget) -> None:
    cluster = Cluster([at_once], dies)
    with pytest.raises(BudgetSpentError, match="what they had spent of their parts of the budget is not known"):
        made_by(cluster, 2, budget)
    assert cluster.made == 2
