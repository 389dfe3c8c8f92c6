"""The Ray engine: a cluster to connect to, or one of this machine, and workers on it."""

import contextlib
import math
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from synopsis_writer.batch.connection import LOCAL, connected
from synopsis_writer.batch.crew import Crew, Say
from synopsis_writer.batch.remote import Job, facts_here
from synopsis_writer.brief import Brief
from synopsis_writer.client import Cost
from synopsis_writer.client.address import DEFAULT_BASE_URL, host_of
from synopsis_writer.client.budget import Budget, Spent, worst_case
from synopsis_writer.client.chain import limits_of, pricer
from synopsis_writer.client.choice import Choice
from synopsis_writer.client.keys import KEY_VARIABLE, look_up_key
from synopsis_writer.client.pricing import PRICES_FILE
from synopsis_writer.desk import load_desk
from synopsis_writer.errors import SettingsError
from synopsis_writer.settings import PREFIX, Settings, config_file
from synopsis_writer.synopsis import Synopsis, wire_schema
from synopsis_writer.writer import longer

_ROWS = 8  # rows in flight that are worth a worker of 300 MB: at 2 s an answer they need a tenth of a CPU
_REQUESTS = 10  # a minute a worker: those that begin together pass a limit by one each, so by a tenth
_PLAIN = Brief(show="Serie", theme="ein Streit")  # as many examples as any, and no cast
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


def crew_size(terms: Terms, cpus: int, nodes: int, calls: int | None = None) -> int:
    """Return how many workers make rows: one for eight rows, and one a node, where there are CPUs.

    Args:
        terms: rows in flight and limits; one is divided among no more workers than a tenth of its requests.
        cpus: the cluster's.
        nodes: those with a CPU.
        calls: how many the budget is sure to suffice for, one a worker at least; None: there is none.
    """
    most = terms.workers or max(nodes, math.ceil(terms.concurrency / _ROWS))
    bounds = (terms.rpm // _REQUESTS if terms.rpm else most, most if calls is None else calls)
    return max(1, min(most, terms.concurrency, cpus, *bounds))


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
    with connected(ray, terms.address or environment.get("RAY_ADDRESS") or LOCAL) as reach:
        cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
        calls = calls_left(budget, choice, settings, environment)
        size = crew_size(terms, int(sum(cpus)), sum(count >= 1 for count in cpus), calls)
        job = Job(
            choice,
            _given(settings, environment),
            _passed_on(choice, environment),
            _part(budget, size),
            terms.rpm and terms.rpm / size,
            terms.tpm and terms.tpm / size,
            facts_here(settings, choice),
        )
        crew = Crew(ray, job, size, terms.concurrency, say, reach)
        say(f"cluster: nodes {len(cpus)}, CPUs {sum(cpus):.0f}, workers {size}")
        async with crew.working():
            yield crew


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


def calls_left(
    budget: Budget, choice: Choice, settings: Settings, environment: Mapping[str, str]
) -> int | None:
    """Return how many calls what is left of the budget is sure to suffice for; None: it has no bound.

    A part with room for a call of a plain brief that may answer at twice the length has it for mending, too.
    """
    if budget.amount is None and budget.tokens is None:
        return None
    desk = load_desk(settings)
    prompt = desk.synopsis_prompt(_PLAIN, desk.find_show(_PLAIN.show))
    limits = longer(limits_of(settings))
    worst = worst_case(pricer(choice, settings, environment), prompt.messages, wire_schema(Synopsis), limits)
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
