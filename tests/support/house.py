"""A folder with briefs and a provider's batch, for the tests of each stage."""

import asyncio
import contextlib
import csv
import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synopsis_writer.batch.run import Hooks, Order, run_batch
from synopsis_writer.batch.store import Counts
from synopsis_writer.provider.api import Limits
from synopsis_writer.provider.batch import Fetch, cancel_batch, fetch_batch, submit_batch
from synopsis_writer.result import RowResult
from synopsis_writer.settings import Settings
from tests.support.loopback import Reply
from tests.support.provider import BatchServer
from tests.support.terminal import ANSWER, GOOD

QUICK = Limits(settle_seconds=0.0, first_look=0.001, longest_look=0.001, first_wait=0.001, answer_seconds=60.0)


KEY: dict[str, Any] = {"OPENAI_API_KEY": "sk-secret"}
SUBMIT = ("submit", "briefs.csv", "--out", "out", "--model", "m")
FETCH = ("fetch", "out", "--variety", "off", "--live-below", "0")


@dataclass
class House:
    """A folder with briefs, and what is done with it."""

    folder: Path
    cache: Path
    messages: list[str] = field(default_factory=list)
    made: list[RowResult] = field(default_factory=list)
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

    def submit(self, server: BatchServer, limits: Limits = QUICK, *, order: Any = None, **more: Any) -> Counts:
        work = submit_batch(self.order(**(order or {})), self.settings(server, **more), KEY, limits=limits)
        return asyncio.run(work)

    def fetch(self, server: BatchServer, *, settings: Any = None, limits: Limits = QUICK, **more: Any) -> Counts:
        order = Fetch(self.out, **{"variety": self.variety, "live_below": 0, **more})
        hooks = Hooks(made=lambda done, _: self.made.append(done))
        return asyncio.run(fetch_batch(order, self.settings(server, **(settings or {})), KEY, hooks, limits))

    def cancel(self, server: BatchServer, limits: Limits = QUICK, *, forget: Sequence[int] = ()) -> None:
        settings = self.settings(server)
        asyncio.run(cancel_batch(self.out, settings, KEY, forget=forget, limits=limits))

    def run(self, server: BatchServer) -> Counts:
        return asyncio.run(run_batch(self.order(variety=False), self.settings(server), KEY, Hooks()))

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


@contextlib.contextmanager
def logged(lines: list[str]) -> Iterator[None]:
    """Add what batch, provider and model client log to `lines`."""
    loggers = [logging.getLogger(f"synopsis_writer.{room}") for room in ("batch", "provider", "models")]
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
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
