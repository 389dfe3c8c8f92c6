"""What runs on a cluster's nodes: a worker process that makes rows, and hands each back when it is done."""

import asyncio
import contextlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synopsis_writer import __version__
from synopsis_writer.authors import open_authors
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.done import Answered, Done
from synopsis_writer.batch.maker import RowMaker
from synopsis_writer.batch.session import made_with
from synopsis_writer.client.budget import Budget
from synopsis_writer.client.choice import Choice
from synopsis_writer.client.keys import KEY_VARIABLE
from synopsis_writer.desk import load_desk, pool_folders
from synopsis_writer.errors import SettingsError, SynopsisError
from synopsis_writer.evaluation.runner import folder_hash
from synopsis_writer.settings import Settings


@dataclass(frozen=True)
class Job:
    """What a worker is given to work with; its text form holds no key.

    Attributes:
        choice: the model; a hosted one.
        settings: the settings that were given; the node's own defaults, such as its cache, hold besides.
        environment: key, address, proxies and certificates.
        budget: this worker's part of what may be spent.
        rpm, tpm: its part of requests and tokens a minute; None: no bound.
        facts: what must be the same on all nodes.
    """

    choice: Choice
    settings: Mapping[str, Any]
    environment: Mapping[str, str] = field(repr=False)
    budget: Budget
    rpm: float | None
    tpm: float | None
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Begun:
    """How a worker began: on which node, and what kept it from it; None where nothing did."""

    node: str
    error: SynopsisError | None = None


def facts_here(settings: Settings, choice: Choice) -> dict[str, str]:
    """Return what the rows are made of on this machine.

    Raises:
        FileError: prompts, examples or the profile cannot be read.
    """
    examples = [folder_hash(path) for path in pool_folders(settings) if path.is_dir()]
    return {
        "synopsis-writer": __version__,
        **made_with(settings, choice),
        "examples": " ".join(examples),
    }


class RowWorker:
    """Makes rows in a process of its own; errors are handed back as values, for the driver to raise."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._open = contextlib.AsyncExitStack()
        self._maker: RowMaker | None = None

    async def begin(self, job: Job) -> Begun:
        """Load pool, templates and gate, and open the client."""
        node = platform.node()
        # Proxies and certificates are read from there; the key is not, and stays out of it.
        os.environ.update({name: value for name, value in job.environment.items() if name != KEY_VARIABLE})
        try:
            settings = Settings.model_validate(job.settings)
            _compare(job.facts, facts_here(settings, job.choice))
            desk = load_desk(settings, self._lines.put_nowait)
            desk.gate.warm_up()
            authors = await self._open.enter_async_context(
                open_authors(
                    job.choice,
                    settings,
                    job.environment,
                    desk,
                    job.budget,
                    self._lines.put_nowait,
                    rpm=job.rpm,
                    tpm=job.tpm,
                )
            )
        except SynopsisError as error:
            return Begun(node, error)
        self._maker = RowMaker(authors, desk, desk.gate, settings.attempts, self._lines.put_nowait)
        return Begun(node)

    async def make(self, row: BatchRow, last: Answered | None) -> Done | SynopsisError:
        """Write a row's brief, or mend its `last` answer; return the error where the work cannot go on."""
        if self._maker is None:
            raise RuntimeError("a worker that has not begun")
        try:
            return await self._maker.make(row, last)
        except SynopsisError as error:
            return error

    async def said(self) -> list[str]:
        """Wait for lines of status; return those that are there."""
        lines = [await self._lines.get()]
        while not self._lines.empty():
            lines.append(self._lines.get_nowait())
        return lines


def _compare(driver: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Check that rows come to the same here.

    Raises:
        SettingsError: a version, or what stands in a folder, is another one than at the driver.
    """
    for name, value in driver.items():
        if here[name] == value:
            continue
        if name == "synopsis-writer":
            raise SettingsError(f"synopsis-writer {here[name]}, not {value}: install the same everywhere")
        raise SettingsError(f"{name} differ from those where the batch was begun: copy them here")
