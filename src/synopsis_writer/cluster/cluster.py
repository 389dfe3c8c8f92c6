"""The Ray engine: connecting to a cluster, and dividing budget and limits among its workers."""

import io
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from synopsis_writer.batch.run import MakeRow, Order
from synopsis_writer.brief import Brief
from synopsis_writer.cluster.workers import Job, WorkerPool, facts_here, first_sentence
from synopsis_writer.drafting import longer
from synopsis_writer.errors import SettingsError
from synopsis_writer.models.limits import Budget, worst_case
from synopsis_writer.models.pricing import PRICES_FILE
from synopsis_writer.models.resolve import ResolvedModel, limits_of, open_pricer
from synopsis_writer.models.server import DEFAULT_BASE_URL, KEY_VARIABLE, host_of, look_up_key
from synopsis_writer.settings import PREFIX, Settings, config_file
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.usage import Cost, Spent
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


def ray_environment(address: str | None, environment: Mapping[str, str]) -> dict[str, str]:
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
    """Makes the rows of a batch by workers on a cluster, among which its budget and limits are divided.

    Attributes:
        address: the cluster's: `auto`, host and port, or `ray://…`; None: `RAY_ADDRESS`, else one is started.
        environment: key, address, proxies and certificates.
    """

    address: str | None
    environment: Mapping[str, str]

    def check(self, resolved: ResolvedModel) -> None:
        """Raise SettingsError where Ray is missing, or the model is not a server's."""
        if resolved.kind != "hosted":
            raise SettingsError(
                f"model '{resolved.model}' runs on this machine: a cluster's workers ask a server, "
                "name it with --base-url and --model, or leave out --engine ray"
            )
        try:
            import_module("ray")
        except ImportError as error:
            raise SettingsError("Ray is not installed: pip install 'synopsis-writer[ray]'") from error

    @asynccontextmanager
    async def open(
        self, order: Order, resolved: ResolvedModel, settings: Settings, budget: Budget
    ) -> AsyncIterator[MakeRow]:
        """Connect to a cluster, and have workers on it while the block runs.

        Raises:
            SettingsError: there is no cluster, or it does not accept this process.
        """
        ray: Any = import_module("ray")

        with _connected(ray, self.address or self.environment.get("RAY_ADDRESS") or LOCAL) as reach:
            cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
            calls = calls_left(budget, resolved, settings, self.environment)
            size = worker_count(order, int(sum(cpus)), sum(count >= 1 for count in cpus), calls)
            job = Job(
                resolved,
                _given(settings, self.environment),
                _passed_on(resolved, self.environment),
                _part(budget, size),
                order.rpm and order.rpm / size,
                order.tpm and order.tpm / size,
                facts_here(settings, resolved),
            )
            pool = WorkerPool(ray, job, size, order.concurrency, reach)
            _log.info("cluster: nodes %d, CPUs %.0f, workers %d", len(cpus), sum(cpus), size)
            async with pool.running():
                yield pool.make


def worker_count(order: Order, cpus: int, nodes: int, calls: int | None = None) -> int:
    """Return how many workers make rows: one for eight rows, and one a node, where there are CPUs.

    A limit is divided among no more workers than a tenth of its requests, and the budget among no more than
    the `calls` it is sure to suffice for.
    """
    most = order.workers or max(nodes, math.ceil(order.concurrency / _ROWS_A_WORKER))
    by_rpm = order.rpm // _REQUESTS_A_WORKER if order.rpm else most
    return max(1, min(most, order.concurrency, cpus, by_rpm, most if calls is None else calls))


def _given(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that were given, for other machines: absolute paths, that of the prices too."""
    given = settings.model_dump(exclude_unset=True)
    prices = config_file(environment).with_name(PRICES_FILE)
    if settings.prices is None and prices.is_file():
        given["prices"] = prices
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in given.items()}


def _passed_on(resolved: ResolvedModel, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what workers need of the environment, and the key, also where a keyring holds it."""
    certificates = {"SSL_CERT_FILE", "SSL_CERT_DIR"}
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith(("OPENAI_", PREFIX)) or name.upper().endswith("_PROXY") or name in certificates
    }
    key = look_up_key(host_of(resolved.base_url or DEFAULT_BASE_URL), environment).value
    return passed if key is None else {**passed, KEY_VARIABLE: key}


def calls_left(
    budget: Budget, resolved: ResolvedModel, settings: Settings, environment: Mapping[str, str]
) -> int | None:
    """Return how many calls what is left of the budget is sure to suffice for; None: it has no bound.

    A part with room for a call of a plain brief that may answer at twice the length has it for repairs, too.
    """
    if budget.amount is None and budget.tokens is None:
        return None
    # As many examples as any brief's, and no cast.
    prompt = Writer(settings, environment=environment).prompt(Brief(show="Serie", theme="ein Streit"))
    pricer = open_pricer(resolved, settings, environment)
    worst = worst_case(pricer, prompt.messages, wire_schema(Synopsis), longer(limits_of(settings)))
    amount, tokens = _left(budget)
    calls = [] if tokens is None else [tokens // worst.tokens]
    if amount is not None and worst.cost is not None and worst.cost.amount:
        calls.append(int(amount / worst.cost.amount))
    return min(calls, default=None)


def _left(budget: Budget) -> tuple[Decimal | None, int | None]:
    """Return money and tokens that are left; None: no bound."""
    spent = budget.spent
    amount = tokens = None
    if budget.amount is not None:
        before = spent.cost.amount if spent.cost else Decimal(0)
        amount = max(budget.amount - before, Decimal(0))
    if budget.tokens is not None:
        tokens = max(budget.tokens - spent.tokens, 0)
    return amount, tokens


def _part(budget: Budget, size: int) -> Budget:
    """Return a ledger for one worker of `size`, with its part of what is left."""
    amount, tokens = _left(budget)
    cost = budget.spent.cost
    nothing = replace(cost, amount=Decimal(0)) if cost else Cost(Decimal(0), "")
    return Budget(
        None if amount is None else amount / size,
        None if tokens is None else tokens // size,
        spent=Spent(nothing),
    )


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[Callable[[], None]]:
    """Be connected to a cluster while the block runs; Ray prints nothing on stdout and stderr.

    The block is given what checks that the cluster's head answers, and raises a ConnectionError where not.
    """
    handler = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _captured_stderr() as captured:
        try:
            if address == LOCAL:
                ray.init(LOCAL, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
                head = _host_and_port(ray.get_runtime_context().gcs_address)
            else:
                head = _head(address)
                _reach(head)
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
            reason = _reason(error, captured())
            if address == LOCAL:
                raise SettingsError(f"cannot start Ray here: {reason}: see RAY_TMPDIR") from error
            raise SettingsError(
                f"no Ray cluster at '{address}': {reason}: start it, "
                "or correct --address and the token (RAY_AUTH_MODE)"
            ) from error
        finally:
            # Put back what Ray's `init` has replaced: its own would end this process with a traceback.
            signal.signal(signal.SIGTERM, handler)
    with redirect_stdout(_OwnThread(sys.stdout)):
        try:
            yield lambda: _reach(head)
        finally:
            ray.shutdown()


def _reason(error: Exception, log: str) -> str:
    """Return why, in a few words: Ray's log knows more than its error, which names what nobody gave."""
    lines = [line for line in log.splitlines() if "RPC error: " in line]
    reason = lines[-1].rpartition(": ")[2] if lines else first_sentence(str(error))
    return reason[:1].lower() + reason[1:] or type(error).__name__


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Capture what is written to stderr while the block runs, by a library in C++, too; give it on demand."""
    stderr = 2
    with tempfile.TemporaryFile() as file:

        def captured() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            terminal = os.dup(stderr)
        except OSError:  # it is closed: nobody hears anything
            yield captured
            return
        os.dup2(file.fileno(), stderr)
        try:
            yield captured
        finally:
            os.dup2(terminal, stderr)
            os.close(terminal)


class _OwnThread(io.TextIOBase):
    """A stdout for this thread alone: on others Ray prints the deaths of nodes, log_to_driver or not."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return self._stdout.write(text) if threading.get_ident() == self._thread else len(text)

    def flush(self) -> None:
        if threading.get_ident() == self._thread:
            self._stdout.flush()


def _head(address: str) -> tuple[str, int]:
    """Return host and port of an address as Ray reads it; raises a ConnectionError or a ValueError."""
    from ray._private.services import canonicalize_bootstrap_address  # `auto` has no public way

    _, scheme, rest = address.rpartition("://")
    if scheme and ":" not in rest:
        return rest, 10001  # Ray's own
    return _host_and_port(rest if scheme else canonicalize_bootstrap_address(address) or "")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _reach(head: tuple[str, int]) -> None:
    """Raise a ConnectionError unless a server of Ray's answers within seconds."""
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
