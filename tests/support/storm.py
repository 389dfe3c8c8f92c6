"""A storm: many writes at once against a server that fails two calls in five, or is not there for a while."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from synopsis_writer.drafting import Judge, ModelAuthor, write
from synopsis_writer.errors import ModelError, UnavailableError
from synopsis_writer.log import Recording, Run, RunLog
from synopsis_writer.models.base import Limits
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.limits import Budget, BudgetClient, CachingClient, ResponseCache
from synopsis_writer.models.pricing import HostedPricer
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import load_settings
from synopsis_writer.storage.files import save
from synopsis_writer.writer import Writer
from tests.support.loopback import (
    Body,
    BrokenJson,
    CutBody,
    CutStream,
    Drip,
    FailingStream,
    Fault,
    Hangup,
    LoopbackServer,
    Outage,
    Reply,
    Silence,
    StalledStream,
    Step,
)
from tests.support.terminal import ANSWER, GOOD

KEY = "sk-storm-0123456789abcdef"
SHARE = 0.4  # of the calls
# What a call may get; a further kind is a line here.
FAULTS: Mapping[str, Step] = {
    "a limit, and a short wait": Fault(429, {"retry-after-ms": "5"}),
    "a limit of hours": Fault(429, {"retry-after": "7200"}),
    "500": Fault(500),
    "503": Fault(503),
    "408": Fault(408),
    "broken JSON": BrokenJson(),
    "a body that breaks off": CutBody(),
    "a stream that breaks off": CutStream(ANSWER),
    "an error in a stream": FailingStream(ANSWER),
    "a stream that stalls": StalledStream(ANSWER, 30),
    "a stream that is only kept open": StalledStream(ANSWER, 30, ": still here\n\n"),
    "a connection that is closed": Hangup(),
    "silence": Silence(30),
    "blanks": Drip(30),
    "no choice": Body({"choices": []}),
    "an error with status 200": Body({"error": {"message": "overloaded", "code": 503}}),
    "a page with status 500": Fault(500, body="<html><title>500</title></html>"),
}
REFUSALS: Mapping[str, Step] = {
    "a 400": Fault(400, message="Bad Request"),
    "a 404": Fault(404, body="Not Found"),
    "a 422": Fault(422, body={"detail": [{"loc": ["body"], "msg": "extra fields not permitted"}]}),
    "a prompt that is too long, and the key": Fault(400, message=f"prompt is too long: {KEY}"),
    "a filtered prompt": Fault(400, message="The prompt was filtered", code="content_filter"),
}
BAD_ANSWERS: Mapping[str, Step] = {
    "a refusal": Reply("", refusal="Das schreibe ich nicht."),
    "a text that the gate refuses": Reply(ANSWER.replace("?", ".")),
    "JSON that the server refuses": Fault(
        400, body={"error": {"code": "json_validate_failed", "failed_generation": '{"title": '}}
    ),
}
GOOD_ANSWERS: Mapping[str, Step] = {
    "a good answer": Reply(ANSWER),
    "a stream that flows longer than a call may be silent": Reply(ANSWER, pause=0.03),
}
OUTAGE = Outage(0.15)
_EVERY = 100  # calls, after which the server is not there for a while
_TIMEOUT = 3.0  # a busy machine needs a while for a good answer, too
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class Tally:
    """What became of a storm.

    Attributes:
        saved: files a brief, by the brief's number.
        reported: reasons, by the number of a brief that was not saved.
        postponed: how often a brief was put off, as its server could not be asked for now.
        calls: requests the server got.
        faults: those of them that got no good answer, or too late a one.
        logged: outcomes in the run log.
        messages: all lines that were logged.
    """

    saved: Counter[int]
    reported: dict[int, str]
    postponed: int
    calls: int
    faults: int
    logged: Counter[str]
    messages: list[str]


def script(calls: int, seed: int) -> list[Step]:
    """Return what each call gets: a fault or a bad answer in two of five, else a good one."""
    rng = random.Random(seed)
    good = [*GOOD_ANSWERS.values()]
    # A refusal ends the work on a brief.
    bad = [*FAULTS.values(), *BAD_ANSWERS.values()] * 3 + [*REFUSALS.values()]
    steps = [rng.choice(bad) if rng.random() < SHARE else rng.choices(good, (19, 1))[0] for _ in range(calls)]
    steps[_EVERY // 2 :: _EVERY] = [OUTAGE] * len(steps[_EVERY // 2 :: _EVERY])
    return steps


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
    """Write the same brief `writes` times into separate folders, 16 at once, every other one streamed.

    When the server cannot be asked for now, what is left is begun again with new clients, as by a person who
    runs the same command again.
    """
    steps = script(writes * 4, seed)
    writer = Writer(load_settings({"cache": folder / "cache"}, {}))
    log = RunLog(folder / "runs.sqlite3")
    reported: dict[int, str] = {}
    messages: list[str] = []
    postponed = begun = 0
    due = list(range(writes))
    with LoopbackServer(steps, key=KEY) as server, _logged_to(messages):
        while due:
            waiting = iter(due)
            later: list[int] = []
            clients = [_open(server, folder, is_streamed=is_streamed) for is_streamed in (False, True)]

            async def work(waiting: Iterator[int], later: list[int], clients: Sequence[CachingClient]) -> None:
                nonlocal begun
                while not later and (number := next(waiting, None)) is not None:
                    begun += 1
                    try:
                        reason = await _write(f"{begun:05}", number, clients[number % 2], writer, log, folder)
                    except UnavailableError:
                        later.append(number)
                    except ModelError as error:
                        reported[number] = str(error)
                    else:
                        if reason:
                            reported[number] = reason

            await asyncio.gather(*(work(waiting, later, clients) for _ in range(_SIDE_BY_SIDE)))
            postponed += len(later)
            due = [*later, *waiting]
            for client in clients:
                await client.close()
            await asyncio.sleep(OUTAGE.seconds)
        calls = len(server.chats)
    logged = Counter(str(run.outcome) for run in log.runs())
    log.close()
    saved = Counter(int(path.parent.name) for path in (folder / "out").rglob("*.md"))
    faults = sum(step not in GOOD_ANSWERS.values() for step in steps[:calls])
    silent = sum(isinstance(step, Silence | Drip | StalledStream) for step in steps[:calls])
    faults += max(0, sum(line.startswith("the server did not answer in time") for line in messages) - silent)
    return Tally(saved, reported, postponed, calls, faults, logged, messages)


def _open(server: LoopbackServer, folder: Path, *, is_streamed: bool) -> CachingClient:
    policy = RetryPolicy(5, 300, first_wait=0.01)
    on_text = (lambda _: None) if is_streamed else None
    hosted = HostedClient("storm-model", server.base_url, KEY, retry=policy, on_text=on_text)
    pricer = HostedPricer("storm-model", server.base_url)
    cache = ResponseCache(folder / "cache.sqlite3")
    return CachingClient(BudgetClient(hosted, pricer, Budget()), cache, "storm", "write")


async def _write(run_id: str, number: int, client: CachingClient, writer: Writer, log: RunLog, folder: Path) -> str:
    """Write one brief, and save it; return why it was not saved."""
    show = writer.workspace.find_show(GOOD.brief.show)
    prompt = writer.prompt(GOOD.brief)
    run = Run(run_id, "write", datetime.now(UTC), GOOD.brief, client.name)
    author = ModelAuthor(client, writer.workspace.prompts, prompt, Limits(timeout=_TIMEOUT, sample=number))
    with Recording(log, run) as recording:
        result = await write(author, Judge(GOOD.brief, show, writer.workspace.gate.examine), recording)
        recording.end(result.outcome)
        if isinstance(result.error, UnavailableError):
            raise result.error
        accepted = result.accepted
        if accepted is None:
            return result.reason
        result = replace(result, run=run.id, prompt=prompt)
        path = save(result.render(), folder / "out" / str(number), accepted.title, "md")
        log.saved(run.id, path)
    return ""
