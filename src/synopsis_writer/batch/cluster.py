"""The Ray engine: a cluster to connect to, or one of this machine, and workers on it."""

import contextlib
import logging
import math
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from synopsis_writer.batch.crew import Crew, Say
from synopsis_writer.batch.remote import Job, facts_here
from synopsis_writer.client import Cost
from synopsis_writer.client.address import DEFAULT_BASE_URL, host_of
from synopsis_writer.client.budget import Budget, Spent
from synopsis_writer.client.choice import Choice
from synopsis_writer.client.keys import KEY_VARIABLE, look_up_key
from synopsis_writer.client.pricing import PRICES_FILE
from synopsis_writer.errors import SettingsError
from synopsis_writer.settings import PREFIX, Settings, config_file

_ROWS = 8  # rows in flight that are worth a worker of 300 MB: at 2 s an answer they need a tenth of a CPU
_REQUESTS = 10  # a minute a worker: those that begin together pass a limit by one each, so by a tenth
LOCAL = "local"  # Ray's word for a cluster that is started, and not looked for
_CLIENT_PORT = 10001
_SECONDS = 5.0  # to reach a cluster; Ray itself would try for minutes
_STORE_BYTES = 80_000_000  # Ray's least is 75 MB; rows and answers are a few kB each
# The HTTP/2 greeting and a frame of no settings: a gRPC server, as Ray's are, answers with its own settings.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_FRAME, _KIND, _SETTINGS = 9, 3, 4
_PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # besides OPENAI_*, SYNOPSIS_* and *_PROXY


def ray_package(choice: Choice) -> Any:
    """Return the package, for rows that a server is asked for.

    Raises:
        SettingsError: it is not installed, or the model runs on this machine.
    """
    if choice.kind != "hosted":
        raise SettingsError(
            f"model '{choice.model}' runs on this machine: a cluster's workers ask a server, "
            "name it with --base-url and --model, or leave out --engine ray"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise SettingsError("Ray is not installed: pip install 'synopsis-writer[ray]'") from error
    return ray


@dataclass(frozen=True)
class Terms:
    """What a crew is opened with.

    Attributes:
        address: the cluster's: `auto`, host and port, or `ray://…`; None: `RAY_ADDRESS`, else one is started.
        concurrency: rows in flight at most, of all workers together.
        workers: how many; 0: as many as fit.
        rpm, tpm: requests and tokens a minute at most, of all together; None: no bound.
    """

    address: str | None
    concurrency: int
    workers: int = 0
    rpm: int | None = None
    tpm: int | None = None


def crew_size(terms: Terms, cpus: int, nodes: int) -> int:
    """Return how many workers make rows: one for eight rows, and one a node, where there are CPUs.

    Args:
        terms: rows in flight and limits; one is divided among no more workers than a tenth of its requests.
        cpus: the cluster's.
        nodes: those with a CPU.
    """
    most = terms.workers or max(nodes, math.ceil(terms.concurrency / _ROWS))
    return max(1, min(most, terms.concurrency, cpus, terms.rpm // _REQUESTS if terms.rpm else most))


@contextlib.asynccontextmanager
async def open_crew(
    choice: Choice,
    settings: Settings,
    environment: Mapping[str, str],
    budget: Budget,
    terms: Terms,
    say: Say,
) -> AsyncIterator[Crew]:
    """Connect to a cluster, and have workers on it while the block runs.

    Args:
        choice: the model; a hosted one.
        settings: all settings.
        environment: key, address, proxies and certificates.
        budget: the ledger; what is left of it is divided among the workers, and so are the limits.
        terms: the cluster, and the limits.
        say: is told of waits and of workers that die.

    Raises:
        SettingsError: Ray is missing, the model is no server's, or no cluster is there.
    """
    ray = ray_package(choice)
    with _connected(ray, terms.address or environment.get("RAY_ADDRESS") or LOCAL):
        cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        size = crew_size(terms, int(sum(cpus)), sum(count >= 1 for count in cpus))
        job = Job(
            choice,
            _given(settings, environment),
            _passed_on(choice, environment),
            _part(budget, size),
            terms.rpm and terms.rpm / size,
            terms.tpm and terms.tpm / size,
            facts_here(settings),
        )
        crew = Crew(ray, job, size, terms.concurrency, say)
        say(f"cluster: nodes {len(cpus)}, CPUs {sum(cpus):.0f}, workers {size}")
        async with crew.working():
            yield crew


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Be connected to a cluster while the block runs; Ray says nothing on stdout and stderr.

    Raises:
        SettingsError: there is none, or it does not take this process.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        # A token of its own: Ray would leave one in the home folder, and nodes that are started later would
        # then demand it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address != LOCAL:
            _reach(_place(address))
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
        raise SettingsError(
            f"no Ray cluster at '{address}': {reason}: start it, or mend --address and the token "
            "(RAY_AUTH_MODE)"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process with a traceback
    # Ray prints the deaths of nodes on stdout, log_to_driver or not; the crew says what comes of them.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield
        finally:
            ray.shutdown()


def _place(address: str) -> tuple[str, int]:
    """Return host and port of an address, as Ray finds them.

    Raises:
        ConnectionError: `auto` finds none.
        ValueError: it is no address.
    """
    from ray._private.services import canonicalize_bootstrap_address  # `auto` has no public way

    _, scheme, rest = address.rpartition("://")
    found = f"{rest}" if scheme else canonicalize_bootstrap_address(address) or ""
    host, colon, port = found.rpartition(":")
    if not colon and scheme:
        return found, _CLIENT_PORT
    return host.strip("[]"), int(port)


def _reach(place: tuple[str, int]) -> None:
    """Check within seconds that a server of Ray's is there.

    Raises:
        ConnectionError: it is not.
    """
    try:
        with socket.create_connection(place, timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS") in {None, "", "0"}:
                connection.sendall(_GREETING)
                _check_greeting(connection.recv(_FRAME, socket.MSG_WAITALL))
    except TimeoutError as error:
        raise ConnectionError(f"no answer in {_SECONDS:.0f} s") from error
    except OSError as error:
        raise ConnectionError((error.strerror or str(error)).lower()) from error


def _check_greeting(frame: bytes) -> None:
    if len(frame) < _FRAME or frame[_KIND] != _SETTINGS:
        raise ConnectionError("what answers there is no cluster")


def _given(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that were given, for other machines: whole paths, and the prices by their name."""
    given = settings.model_dump(exclude_unset=True)
    prices = config_file(environment).with_name(PRICES_FILE)
    if settings.prices is None and prices.is_file():
        given["prices"] = prices
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in given.items()}


def _passed_on(choice: Choice, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what workers need of the environment, and the key, also where a keyring holds it."""
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith(("OPENAI_", PREFIX)) or name.upper().endswith("_PROXY") or name in _PASSED_ON
    }
    key = look_up_key(host_of(choice.base_url or DEFAULT_BASE_URL), environment).value
    return passed if key is None else {**passed, KEY_VARIABLE: key}


def _part(budget: Budget, size: int) -> Budget:
    """Return a ledger for one worker of `size`, with its part of what is left."""
    spent = budget.spent
    amount = tokens = None
    if budget.amount is not None:
        before = spent.cost.amount if spent.cost else Decimal(0)
        amount = max(budget.amount - before, Decimal(0)) / size
    if budget.tokens is not None:
        tokens = max(budget.tokens - spent.tokens, 0) // size
    nothing = replace(spent.cost, amount=Decimal(0)) if spent.cost else Cost(Decimal(0), "")
    return Budget(amount, tokens, spent=Spent(nothing))
