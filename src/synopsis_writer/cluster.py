"""The Ray engine: connects to a cluster, divides budget and limits among workers, and replaces dead ones."""

import asyncio
import io
import logging
import math
import os
import platform
import re
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib import import_module
from logging.handlers import QueueHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from synopsis_writer import __version__
from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.run import MakeRow, Order, made_with, make_row
from synopsis_writer.brief import Brief
from synopsis_writer.characters import count_of
from synopsis_writer.drafting import longer
from synopsis_writer.errors import BudgetSpentError, EngineError, SettingsError, SynopsisError
from synopsis_writer.models import limits, pricing, resolve, server
from synopsis_writer.prompts.templates import folder_hash
from synopsis_writer.result import Attempt, RowResult
from synopsis_writer.settings import PREFIX, Environment, Settings, config_file
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import NO_COST, Spent
from synopsis_writer.workspace import pool_folders
from synopsis_writer.writer import Writer

_log = logging.getLogger(__name__)

LOCAL = "local"  # Ray's word for a cluster that is started, and not looked for

_ROWS_A_WORKER = 8  # in flight, worth a worker of 300 MB: at 2 s an answer they need a tenth of a CPU
_REQUESTS_A_WORKER = 10  # a minute: workers that begin together exceed a limit by one each, so by a tenth
_SECONDS = 5.0  # to reach a cluster; Ray itself would try for minutes
_STORE_BYTES = 80_000_000  # Ray's least is 75 MB; rows and answers are a few kB each

# The HTTP/2 preface and an empty SETTINGS frame: a gRPC server, as Ray's are, answers with its own settings.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME, _KIND, _SETTINGS = 9, 3, 4  # a frame's length, where its kind is, and that kind


def ray_environment(address: str | None, environment: Environment) -> dict[str, str]:
    """Return the variables that Ray must find in this process before it is imported."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if (address or environment.get("RAY_ADDRESS") or LOCAL) == LOCAL:
        # Ray would leave a token in the home folder, and nodes that are started later would demand it.
        variables["RAY_AUTH_TOKEN"] = environment.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
        # A cluster of one machine, on any system: Ray listens on loopback alone.
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    else:
        # Tries of a second each; Ray's are 20, also with a wrong token.
        name = "RAY_gcs_server_port_wait_time_s"
        variables[name] = environment.get(name, "3")
    return variables


@dataclass(frozen=True)
class RayEngine:
    """Makes the rows of a batch by workers on a cluster, among which its budget and limits are divided."""

    address: str | None  # `auto`, host and port, or `ray://…`; None: `RAY_ADDRESS`, else one is started
    environment: Environment  # key, address, proxies and certificates

    def __call__(self, order: Order, writer: Writer) -> AbstractAsyncContextManager[MakeRow]:
        """Return the context in which workers make rows; raises SettingsError where there can be none."""
        if writer.model.kind != "hosted":
            raise SettingsError(
                f"model '{writer.model.model}' runs on this machine: a cluster's workers ask a server, "
                "name it with --base-url and --model, or leave out --engine ray"
            )
        try:
            return self._workers(import_module("ray"), order, writer)
        except ImportError as error:
            raise SettingsError("Ray is not installed: pip install 'synopsis-writer[ray]'") from error

    @asynccontextmanager
    async def _workers(self, ray: Any, order: Order, writer: Writer) -> AsyncIterator[MakeRow]:
        resolved, settings, budget = writer.model, writer.settings, writer.budget
        with _connected(ray, self.address or self.environment.get("RAY_ADDRESS") or LOCAL) as reach:
            cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
            calls = calls_left(budget, resolved, settings, self.environment)
            size = worker_count(order, int(sum(cpus)), sum(count >= 1 for count in cpus), calls)
            given = settings.model_dump(exclude_unset=True)
            prices = config_file(self.environment).with_name(pricing.PRICES_FILE)
            if settings.prices is None and prices.is_file():
                given["prices"] = prices
            own = {name: each.absolute() if isinstance(each, Path) else each for name, each in given.items()}
            rates = order.rpm and order.rpm / size, order.tpm and order.tpm / size
            passed_on, facts = _passed_on(resolved, self.environment), facts_here(settings, resolved)
            job = Job(resolved, own, passed_on, _part(budget, size), *rates, facts)
            pool = WorkerPool(ray, job, size, order.concurrency, reach)
            _log.info("cluster: nodes %d, CPUs %.0f, workers %d", len(cpus), sum(cpus), size)
            async with pool.running():
                yield pool.make


def worker_count(order: Order, cpus: int, nodes: int, calls: int | None = None) -> int:
    """Return how many workers make rows: one for eight rows, and one a node, where there are CPUs.

    Each gets at least ten requests of a rate limit, and one of the `calls` that the budget is sure to allow.
    """
    most = order.workers or max(nodes, math.ceil(order.concurrency / _ROWS_A_WORKER))
    by_rpm = order.rpm // _REQUESTS_A_WORKER if order.rpm else most
    return max(1, min(most, order.concurrency, cpus, by_rpm, most if calls is None else calls))


def _passed_on(resolved: resolve.ResolvedModel, environment: Environment) -> dict[str, str]:
    """Return the environment variables that workers need, and the key, also one from a keyring."""
    needed = re.compile(rf"OPENAI_.*|{PREFIX}.*|.*_(?i:PROXY)|SSL_CERT_(FILE|DIR)")
    passed = {name: value for name, value in environment.items() if needed.fullmatch(name)}
    key = server.look_up_key(server.host_of(resolved.base_url or server.DEFAULT_BASE_URL), environment).value
    return passed if key is None else {**passed, server.KEY_VARIABLE: key}


def calls_left(
    budget: limits.Budget, resolved: resolve.ResolvedModel, settings: Settings, environment: Environment
) -> int | None:
    """Return how many calls, at twice the length, what is left of the budget is sure to allow; None: no bound."""
    if not budget.is_bounded:
        return None
    # As many examples as any brief's, and no cast.
    prompt = Writer(settings, environment=environment).prompt(Brief(show="Serie", theme="ein Streit"))
    pricer = resolve.open_pricer(resolved, settings, environment)
    worst = limits.worst_case(pricer, prompt.messages, wire_schema(Synopsis), longer(resolve.limits_of(settings)))
    left = _part(budget, 1)
    calls = [] if left.tokens is None else [left.tokens // worst.tokens]
    if left.amount is not None and worst.cost is not None and worst.cost.amount:
        calls.append(int(left.amount / worst.cost.amount))
    return min(calls, default=None)


def _part(budget: limits.Budget, size: int) -> limits.Budget:
    """Return a ledger for one worker of `size`, with its part of what is left."""
    amount, tokens, spent = budget.amount, budget.tokens, budget.spent.cost or NO_COST
    return limits.Budget(
        amount and max(amount - spent.amount, Decimal(0)) / size,
        tokens and max(tokens - budget.spent.tokens, 0) // size,
        spent=Spent(replace(spent, amount=Decimal(0))),
    )


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[Callable[[], None]]:
    """Connect to a cluster for the block, which is given a check of the head; Ray prints nothing."""
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _captured_stderr() as captured:
        try:
            if address == LOCAL:
                with _signals_blocked():
                    ray.init(LOCAL, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
                head = _head(f"ray://{ray.get_runtime_context().gcs_address}")
            else:
                head = _head(address)
                _reach(head)
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
            captured.seek(0)
            # Ray's log says more than its error, which names settings that nobody made.
            causes = re.findall(r"RPC error: (?:.*: )?(.+)", captured.read().decode(errors="replace"))
            reason = causes[-1] if causes else _first_sentence(str(error))
            reason = reason[:1].lower() + reason[1:] or type(error).__name__
            if address == LOCAL:
                raise SettingsError(f"cannot start Ray here: {reason}: see RAY_TMPDIR") from error
            raise SettingsError(
                f"no Ray cluster at '{address}': {reason}: start it, or correct --address and the token (RAY_AUTH_MODE)"
            ) from error
        finally:
            # Put back what Ray's `init` has replaced: its own would end this process with a traceback.
            signal.signal(signal.SIGTERM, handler)
    with redirect_stdout(io.StringIO()):  # where Ray prints the deaths of nodes, log_to_driver or not
        try:
            yield lambda: _reach(head)
        finally:
            ray.shutdown()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes in the block with the signals blocked that end a group: they hold rows."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _captured_stderr() -> Iterator[BinaryIO]:
    """Capture what is written to stderr while the block runs, by a library in C++, too."""
    stderr, terminal = 2, None
    with tempfile.TemporaryFile() as file:
        with suppress(OSError):  # it is closed: nobody hears anything
            terminal = os.dup(stderr)
            os.dup2(file.fileno(), stderr)
        try:
            yield file
        finally:
            if terminal is not None:
                os.dup2(terminal, stderr)
                os.close(terminal)


def _head(address: str) -> tuple[str, int]:
    from ray._private.services import canonicalize_bootstrap_address  # `auto` has no public way

    if "://" not in address:
        address = f"//{canonicalize_bootstrap_address(address) or ''}"
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or 10001  # Ray's own


def _reach(head: tuple[str, int]) -> None:
    try:
        with socket.create_connection(head, timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") in {None, "", "0"}:
                connection.sendall(_PREFACE)
                frame = connection.recv(_FRAME, socket.MSG_WAITALL)
                if len(frame) < _FRAME or frame[_KIND] != _SETTINGS:
                    raise ConnectionError("what answers there is not a cluster")
    except TimeoutError as error:
        raise ConnectionError(f"no answer in {_SECONDS:.0f} s") from error
    except OSError as error:
        raise ConnectionError((error.strerror or str(error)).lower()) from error


_DEATHS = 3  # workers that may die over a row, or one after the other before they begin

_UNKNOWN_SPENDING = (
    "workers died, and what they had spent of their parts of the budget is not known: the same command again "
    "goes on with what the saved rows have left of it"
)
_NO_HEAD = "the cluster's head does not answer: start it again, and run the same command again"


@dataclass(frozen=True)
class Job:
    """What a worker needs; limits and budget are its share, and its repr holds no key."""

    resolved: resolve.ResolvedModel
    settings: Mapping[str, Any]  # those that were given, with absolute paths; else a node's own defaults hold
    environment: Environment = field(repr=False)  # key, address, proxies and certificates
    budget: limits.Budget
    rpm: float | None
    tpm: float | None
    facts: Mapping[str, str]  # what must be the same on all nodes


@dataclass(frozen=True)
class Timeouts:
    """How long a pool waits, in seconds."""

    cpu: float = 60.0  # without any worker, until the batch ends
    restart: float = 1.0  # before a dead worker is replaced
    look: float = 5.0  # between two checks of the cluster's head
    # Without an answer of the head, until the batch ends; twice that, and nothing in flight is waited for:
    # Ray would end this process after 60.
    head: float = 20.0


@dataclass(eq=False)
class _Worker:
    actor: Any
    node: str = ""  # where it is, once it can make rows
    rows: int = 0


@dataclass(eq=False)
class WorkerPool:
    """`size` workers that make `concurrency` rows at most while `running`; `reach` raises if the head is gone."""

    ray: Any
    job: Job
    size: int
    concurrency: int
    reach: Callable[[], None]
    timeouts: Timeouts = Timeouts()

    def __post_init__(self) -> None:
        self._slots = self.size
        self._leaving = asyncio.Event()
        self._workers: set[_Worker] = set()
        self._changed = asyncio.Event()  # a worker can make rows, or none ever will
        self._fault: SynopsisError | None = None
        self._relayed: set[str] = set()
        # The job, which holds the key, is passed by call: the head stores a constructor's arguments.
        options = self.ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
        # Three calls more than rows: start, record, and Ray's own.
        self._class = options(RowWorker).options(max_concurrency=self.concurrency + 3)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the workers during the block; an EngineError ends it if the head is gone for good."""
        try:
            async with asyncio.TaskGroup() as group:
                slots = [group.create_task(self._fill_slot()) for _ in range(self.size)]
                monitor = group.create_task(self._watch_head())
                try:
                    yield
                finally:
                    monitor.cancel()
                    self._leaving.set()
                    for worker in list(self._workers):
                        self._remove(worker)  # ends what is still awaited of it
                    for slot in (await asyncio.wait(slots, timeout=self.timeouts.restart))[1]:
                        slot.cancel()
        except ExceptionGroup as others:
            raise others.exceptions[0] from None

    async def _watch_head(self) -> None:
        now = asyncio.get_running_loop().time
        answered = now()
        while True:
            await asyncio.sleep(self.timeouts.look)
            if await self._head_answers():
                answered = now()
            elif now() - answered >= 2 * self.timeouts.head:
                raise EngineError(_NO_HEAD)
            elif now() - answered >= self.timeouts.head:
                self._end(EngineError(_NO_HEAD))

    async def _head_answers(self) -> bool:
        with suppress(ConnectionError):
            await asyncio.to_thread(self.reach)
            return True
        return False

    def _ready(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.node]

    async def make(self, row: BatchRow, previous: Attempt | None) -> RowResult:
        """Have the worker with the fewest rows make a row; lost with its worker three times it has failed."""
        for _ in range(_DEATHS):
            while self._fault is None and not self._ready():
                await self._changed.wait()
            if self._fault is not None:
                raise self._fault
            worker = min(self._ready(), key=lambda ready: ready.rows)
            worker.rows += 1
            try:
                outcome: RowResult | SynopsisError = await worker.actor.make.remote(row, previous)
            except self.ray.exceptions.RayTaskError:
                raise  # a mistake in the program
            except self.ray.exceptions.RayError:
                self._remove(worker, died=True)
                continue
            finally:
                worker.rows -= 1
            if isinstance(outcome, SynopsisError):
                raise outcome
            if isinstance(outcome.error, BudgetSpentError) and self.size > 1:
                reason = (
                    f"{outcome.error}; that is the part of one worker of {self.size}: the same command again "
                    "divides what is left, and with --workers 1 nothing is divided"
                )
                return replace(outcome, error=BudgetSpentError(reason))
            return outcome
        reason = f"{_DEATHS} workers died over this row: is there memory enough on the nodes?"
        return RowResult(row.id, "failed", reason)

    async def _fill_slot(self) -> None:
        failed = 0
        while self._fault is None and not self._leaving.is_set():
            if not await self._head_answers() or self._leaving.is_set():
                # Making an actor would block, and everything else with it.
                await asyncio.sleep(self.timeouts.restart)
                continue
            worker = _Worker(self._class.remote())
            self._workers.add(worker)
            try:
                await self._serve(worker)
            except self.ray.exceptions.RayTaskError as error:  # its class or its job cannot be read there
                self._end(_not_up(error))
            except self.ray.exceptions.RayError as error:
                if self._leaving.is_set():
                    return
                self._remove(worker, died=True)
                failed = 0 if worker.node else failed + 1
                is_spent = worker.node and self.job.budget.is_bounded
                if is_spent or failed == _DEATHS:
                    fault = BudgetSpentError(_UNKNOWN_SPENDING) if is_spent else _not_up(error)
                    self._slots -= 1
                    if self._slots:
                        _log.info("a worker less, %d left: %s", self._slots, fault)
                    else:
                        self._end(fault)
                    return
                await asyncio.sleep(self.timeouts.restart)
            finally:
                self._remove(worker)

    async def _serve(self, worker: _Worker) -> None:
        """Wait until a worker can make rows, and log what it logs until it dies."""
        up: asyncio.Future[Any] = asyncio.ensure_future(worker.actor.__ray_ready__.remote())
        try:
            while not (await asyncio.wait({up}, timeout=self.timeouts.cpu))[0]:
                if not self._ready():
                    reason = f"no node of the cluster had a CPU free in {self.timeouts.cpu:.0f} s"
                    way_out = "start nodes, or wait until others are done, and run the same command again"
                    self._end(EngineError(f"{reason}: {way_out}"))
            await up
        finally:
            up.cancel()
        node, error = await worker.actor.start.remote(self.job)
        if error is not None:
            self._end(SettingsError(f"node {node}: {error}"))
        worker.node = "" if error else node
        self._changed.set()
        while record := await worker.actor.record.remote():
            message = record.getMessage()
            # What several report, as an unknown show, comes once.
            if hasattr(record, "wait") or message not in self._relayed:
                self._relayed.add(message)
                logging.getLogger(record.name).handle(record)

    def _remove(self, worker: _Worker, *, died: bool = False) -> None:
        if worker in self._workers and worker.node and died:
            _log.info("a worker on %s died, handed to others: %s", worker.node, count_of(worker.rows, "row"))
        self._workers.discard(worker)
        if not self._ready() and self._fault is None:
            self._changed.clear()
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(worker.actor)

    def _end(self, fault: SynopsisError) -> None:
        """End the batch: what is in flight is made, and then this is raised."""
        self._fault = self._fault or fault
        self._changed.set()


def _not_up(error: Exception) -> EngineError:
    last = str(error).strip().rpartition("\n")[2]  # the line of Ray's message that names the cause
    cause = _first_sentence(last) or type(error).__name__
    return EngineError(f"no worker comes up on the cluster: {cause}: are token and versions the same on all nodes?")


def _first_sentence(text: str) -> str:
    return text.strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def facts_here(settings: Settings, resolved: resolve.ResolvedModel) -> dict[str, str]:
    """Return what the rows are made of on this machine."""
    examples = " ".join(folder_hash(path) for path in pool_folders(settings) if path.is_dir())
    return {"synopsis-writer": __version__, **made_with(settings, resolved), "examples": examples}


class RowWorker:
    """Makes rows in a process of its own; errors are returned as values, for the driver to raise."""

    def __init__(self) -> None:
        self._records: asyncio.Queue[logging.LogRecord] = asyncio.Queue()
        self._writer: Writer  # once it has started

    async def start(self, job: Job) -> tuple[str, SynopsisError | None]:
        """Load pool, templates and gate, and open the client; return the node, and why it cannot work."""
        node = platform.node()
        # This is the worker's own process: proxies and certificates are read from its environment. The key
        # is not, and stays out of it.
        os.environ.update({name: value for name, value in job.environment.items() if name != server.KEY_VARIABLE})
        logger = logging.getLogger("synopsis_writer")
        logger.setLevel(logging.INFO)
        loop, put = asyncio.get_running_loop(), self._records.put_nowait
        # From any thread into the loop: a thread that waited would hold up its end.
        queue = SimpleNamespace(put_nowait=lambda record: loop.call_soon_threadsafe(put, record))
        logger.addHandler(QueueHandler(queue))
        logging.getLogger("synopsis_writer.drafting").setLevel(logging.WARNING)  # the steps of each text
        try:
            settings = Settings.model_validate(job.settings)
            for name, here in facts_here(settings, job.resolved).items():
                if job.facts[name] != here:
                    reason = f"{name} differ from those where the batch was begun: copy them here"
                    if name == "synopsis-writer":
                        reason = f"{name} {here}, not {job.facts[name]}: install the same everywhere"
                    raise SettingsError(reason)
            pace: dict[str, Any] = {"rpm": job.rpm, "tpm": job.tpm}
            writer = Writer(settings, environment=job.environment, budget=job.budget, log=False, **pace)
            writer.model = job.resolved
            writer.is_varied = False  # a worker knows no text of the others
            writer.workspace.gate.warm_up()
            self._writer = await writer.__aenter__()  # open as long as this process runs
        except SynopsisError as error:
            return node, error
        return node, None

    async def make(self, row: BatchRow, previous: Attempt | None) -> RowResult | SynopsisError:
        """Write a row's brief, or repair its `previous` answer; return the error where work cannot go on."""
        try:
            result = await make_row(self._writer, row, previous)
        except SynopsisError as error:
            return error
        # Prompts are long, and the driver needs none.
        return replace(result, attempts=tuple(replace(attempt, messages=()) for attempt in result.attempts))

    async def record(self) -> logging.LogRecord:
        """Wait for the next record of the log."""
        return await self._records.get()
