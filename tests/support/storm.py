"""A storm: many writes at once against a server that fails two calls in five."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from synopsis_writer.drafting import ModelAuthor, write
from synopsis_writer.errors import ModelError
from synopsis_writer.log import Recording, Run, RunLog
from synopsis_writer.models.base import Limits
from synopsis_writer.models.cache import ResponseCache
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.limits import Budget, BudgetClient, CachingClient
from synopsis_writer.models.pricing import HostedPricer
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import load_settings
from synopsis_writer.storage.files import save
from synopsis_writer.writer import Writer
from tests.support.loopback import (
    Body,
    BrokenJson,
    CutBody,
    Drip,
    Fault,
    Hangup,
    LoopbackServer,
    Reply,
    Silence,
    Step,
)
from tests.support.terminal import ANSWER, GOOD

KEY = "sk-storm-0123456789abcdef"
SHARE = 0.4  # of the calls
PASSING: Sequence[Step] = (
    Fault(429, {"retry-after-ms": "5"}),
    Fault(500),
    Fault(503),
    Fault(408),
    BrokenJson(),
    CutBody(),
    Hangup(),
    Silence(30),
    Drip(30),
    Body({"choices": []}),
    Body({"error": {"message": "overloaded", "code": 503}}),
    Fault(500, body="<html><title>500</title></html>"),
)
REFUSALS: Sequence[Step] = (
    Fault(400, message="Bad Request"),
    Fault(404, body="Not Found"),
    Fault(422, body={"detail": [{"loc": ["body"], "msg": "extra fields not permitted"}]}),
    Fault(400, message=f"prompt is too long: {KEY}"),
    Fault(400, message="The prompt was filtered", code="content_filter"),
)
BAD_ANSWERS: Sequence[Step] = (
    Reply("", refusal="Das schreibe ich nicht."),
    Reply(ANSWER.replace("?", ".")),
    Fault(400, body={"error": {"code": "json_validate_failed", "failed_generation": '{"title": '}}),
)
_TIMEOUT = 2.0
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Tally:
    """What became of a storm.

    Attributes:
        saved: files a brief, by the brief's number.
        reported: reasons, by the number of a brief that was not saved.
        calls: requests the server got.
        faults: those of them that got no good answer.
        logged: outcomes in the run log.
        messages: all lines that were logged.
    """

    saved: Counter[int]
    reported: dict[int, str]
    calls: int
    faults: int
    logged: Counter[str]
    messages: list[str]


def script(calls: int, seed: int) -> list[Step]:
    """Return what each call gets: a fault or a bad answer in two of five, else the good one."""
    rng = random.Random(seed)
    bad = [*PASSING, *BAD_ANSWERS] * 3 + [*REFUSALS]  # a refusal ends the work on a brief
    return [rng.choice(bad) if rng.random() < SHARE else Reply(ANSWER) for _ in range(calls)]


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@contextlib.contextmanager
def _logged_to(lines: list[str]) -> Iterator[None]:
    """Take the package's log into `lines`."""
    logger = logging.getLogger("synopsis_writer")
    handler, level = _Lines(lines), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def storm(writes: int, folder: Path, seed: int = 1) -> Tally:
    """Write the same brief `writes` times into separate folders, 16 at once."""
    steps = script(writes * 4, seed)
    writer = Writer(load_settings({"cache": folder / "cache"}, {}))
    log = RunLog(folder / "runs.sqlite3")
    reported: dict[int, str] = {}
    messages: list[str] = []
    turn = asyncio.Semaphore(_SIDE_BY_SIDE)
    with LoopbackServer(steps, key=KEY) as server, _logged_to(messages):
        policy = RetryPolicy(5, 300, first_wait=0.01)
        hosted = HostedClient("storm-model", server.base_url, KEY, retry=policy)
        pricer = HostedPricer("storm-model", server.base_url)
        cache = ResponseCache(folder / "cache.sqlite3")
        client = CachingClient(BudgetClient(hosted, pricer, Budget()), cache, "storm", "write")

        async def one(number: int) -> None:
            async with turn:
                try:
                    reason = await _write(number, client, writer, log, folder)
                except ModelError as error:
                    reason = str(error)
            if reason:
                reported[number] = reason

        await asyncio.gather(*(one(number) for number in range(writes)))
        await client.close()
        calls = len(server.chats)
    logged = Counter(str(run.outcome) for run in log.runs())
    log.close()
    saved = Counter(int(path.parent.name) for path in (folder / "out").rglob("*.md"))
    faults = sum(step != Reply(ANSWER) for step in steps[:calls])
    return Tally(saved, reported, calls, faults, logged, messages)


async def _write(number: int, client: CachingClient, writer: Writer, log: RunLog, folder: Path) -> str:
    """Write one brief, and save it; return why it was not saved."""
    show = writer.find_show(GOOD.brief.show)
    prompt = writer.prompt(GOOD.brief)
    run = Run(f"{number:05}", "write", datetime.now(UTC), GOOD.brief, client.name)
    author = ModelAuthor(client, writer.workspace.prompts, prompt, Limits(timeout=_TIMEOUT, sample=number))
    with Recording(log, run) as recording:
        result = await write(GOOD.brief, show, author, writer.workspace.gate, recorder=recording)
        recording.end(result.outcome)
        accepted = result.accepted
        if accepted is None:
            return result.reason
        result = replace(result, run=run.id, prompt=prompt)
        path = save(result.render(), folder / "out" / str(number), accepted.title, "md")
        log.saved(run.id, path)
    return ""
