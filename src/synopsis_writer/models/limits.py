"""Clients that wrap another: they stop at a budget, wait for a rate limit, or return a cached answer again."""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from synopsis_writer.errors import BudgetSpentError, FileError, ModelError, SettingsError, message_of
from synopsis_writer.models.base import MOST_ANSWER, Answer, ClientWrapper, Limits, Message, ModelClient, Schema
from synopsis_writer.models.pricing import PRICES_FILE, HostedPricer
from synopsis_writer.models.retry import log_wait
from synopsis_writer.settings import CacheUse
from synopsis_writer.storage import sqlite
from synopsis_writer.usage import NO_COST, Cost, Spent, Usage, format_cost

_MIGRATIONS = Path(__file__).with_name("data").joinpath("cache.sql").read_text(encoding="utf-8").split("\n\n")


@dataclass(frozen=True)
class CacheSize:
    """How much is cached: answers, their bytes, and the seconds since 1970 of the oldest (0: none)."""

    answers: int
    bytes: int
    oldest: float


class ResponseCache:
    """Answers in one SQLite file, each valid for some days; raises FileError if it cannot be opened."""

    def __init__(
        self,
        path: Path,
        *,
        megabytes: float = 200,
        days: float = 90,
        clock: Callable[[], float] = time.time,  # seconds since 1970
        open_file: sqlite.OpenFile = sqlite.open_database,  # `read_database` to only look into the file
    ) -> None:
        self._path, self._most_bytes = path, megabytes * 1_000_000
        self._most_seconds, self._clock = days * 86_400, clock
        self._database = open_file(path, _MIGRATIONS)

    def get(self, key: str) -> Answer | None:
        """Return a cached answer: it costs nothing, and took no time."""
        query = "SELECT text, finish, model FROM answers WHERE key = ? AND kept > ?"
        with self._errors_explained():
            row = self._database.execute(query, (key, self._clock() - self._most_seconds)).fetchone()
        if row is None or not all(isinstance(value, str) for value in row):  # a damaged row
            return None
        text, finish, model = row
        return Answer(text, finish, Usage(), 0.0, model, None, NO_COST, is_cached=True)

    def put(self, key: str, answer: Answer) -> None:
        """Save an answer, and delete what is too old or too much."""
        size = len(answer.text.encode("utf-8", "replace"))
        if size > MOST_ANSWER:
            return
        now = self._clock()
        row = (key, now, size, answer.text, answer.finish, answer.model)
        outdated = "DELETE FROM answers WHERE key = ? OR kept <= ? RETURNING bytes"
        with self._errors_explained(), sqlite.transaction(self._database):
            gone = self._database.execute(outdated, (key, now - self._most_seconds)).fetchall()
            self._database.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            # Adding up ten thousand answers for each new one would take longer than everything else.
            total = self._database.execute("SELECT bytes FROM total").fetchone()[0]
            total += size - sum(freed for (freed,) in gone)
            oldest = self._database.execute("SELECT key, bytes FROM answers ORDER BY kept, rowid")
            while total > self._most_bytes and (found := oldest.fetchone()):
                self._database.execute("DELETE FROM answers WHERE key = ?", found[:1])
                total -= found[1]
            self._database.execute("UPDATE total SET bytes = ?", (total,))

    def size(self) -> CacheSize:
        """Return how much is cached."""
        query = "SELECT count(*), sum(bytes), min(kept) FROM answers"
        with self._errors_explained():
            count, total, oldest = self._database.execute(query).fetchone()
            return CacheSize(count, int(total or 0), min(max(float(oldest or 0), 0.0), self._clock()))

    def clear(self) -> bool:
        """Delete all answers; return whether their texts are overwritten, not later as another reads them."""
        with self._errors_explained(), sqlite.transaction(self._database):
            self._database.execute("DELETE FROM answers")
            self._database.execute("UPDATE total SET bytes = 0")
        return sqlite.overwrite(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite.SQLITE_ERRORS as error:
            reason = sqlite.describe(error, "empty it with synopsis cache clear")
            raise FileError(f"cache {self._path}: {reason}, or go on with --cache off") from error


_log = logging.getLogger(__name__)

# Our German prompts have 3.7 bytes a token (Gemma's vocabulary, on texts of tests/corpus/good), so a third
# of the bytes is a fifth more than they need. Bytes, for other scripts have fewer letters a token.
_BYTES_A_TOKEN = 3
_TOKENS_A_TURN = 8  # what a chat template puts around a message
_ANSWER_TOKENS = 900  # of an answer, about: a synopsis has 350 words
_MINUTE, _LONG_WAIT = 60.0, 1.0  # seconds: a shorter wait is not worth a line


class Budget:
    """A ledger that clients of one event loop may share; SettingsError if it cannot be enforced in money."""

    def __init__(
        self,
        amount: Decimal | None = None,  # money that may be spent, in the currency of the prices; None: any
        tokens: int | None = None,  # that may be spent, prompts and answers together
        *,
        spent: Spent | None = None,  # before, for work that is resumed
        reserved: Iterable[Spent] = (),  # what each of the calls that were made before may still cost
    ) -> None:
        self.amount, self.tokens = amount, tokens
        self.spent = spent or Spent()  # up to now, on answered calls alone
        self._reserved = Spent()  # the sum, for a file of requests reserves for thousands of calls
        for worst in reserved:
            self._reserve(worst, 1)
        if amount is not None and self.spent.cost is None:
            raise SettingsError(
                "what was spent before is unpriced, so a budget in money cannot be enforced: "
                "leave --budget out, or use --max-tokens-total"
            )

    @property
    def is_bounded(self) -> bool:
        """Whether there is any bound."""
        return self.amount is not None or self.tokens is not None

    def reserve(self, worst: Spent) -> None:
        """Reserve `worst` for a call about to be made; raises BudgetSpentError if it could pass a bound."""
        parts = (self.spent, self._reserved, worst)
        counts, costs = [part.tokens for part in parts], [part.cost or NO_COST for part in parts]
        after, sums, flag = sum(costs, NO_COST), list[str](), "--budget"
        if self.amount is not None and self.spent.cost is not None and after.amount > self.amount:
            amounts = (self.amount, *(cost.amount for cost in costs))
            sums = [format_cost(Cost(amount, after.currency)) for amount in amounts]
        elif self.tokens is not None and sum(counts) > self.tokens:
            sums, flag = [f"{count} tokens" for count in (self.tokens, *counts)], "--max-tokens-total"
        if sums:
            raise BudgetSpentError(
                f"the next call could pass the budget of {sums[0]}: {sums[1]} spent, {sums[2]} reserved for "
                f"calls under way, up to {sums[3]} for this one: raise {flag}, or lower max_tokens"
            )
        self._reserve(worst, 1)

    def settle(self, worst: Spent, real: Spent) -> None:
        """Replace what was reserved for a call by `real`, what it spent."""
        self._reserve(worst, -1)
        self.spent += real

    def _reserve(self, worst: Spent, sign: Literal[1, -1]) -> None:
        cost = worst.cost or NO_COST
        self._reserved += Spent(replace(cost, amount=sign * cost.amount), sign * worst.tokens)


class BudgetClient(ClientWrapper):
    """A `ModelClient` that asks another one as long as the budget lasts; raises as `check_prices`."""

    def __init__(self, client: ModelClient, pricer: HostedPricer, budget: Budget) -> None:
        super().__init__(client)
        self._pricer, self._budget = pricer, budget
        check_prices(budget, pricer, client.name)

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Answer `messages`, and add the cost; raises BudgetSpentError instead of a call that is too dear."""
        call, real = (self._pricer, messages, schema, limits), Spent()
        worst = worst_case(*call) if self._budget.is_bounded else Spent()
        self._budget.reserve(worst)
        try:
            answer = await self._client.complete(messages, schema, limits)
            usage, cost = answer.usage, self._pricer.cost(answer.usage, answer.model, answer.service_tier)
            # If the server does not say how many tokens it read, what was reserved counts as spent.
            tokens = usage.prompt_tokens + usage.completion_tokens
            real = Spent(cost, tokens) if usage.prompt_tokens else worst_case(*call)
        except ModelError as error:
            if error.usage is not None:
                error.cost = self._pricer.cost(error.usage)
                real = Spent(error.cost, error.usage.prompt_tokens + error.usage.completion_tokens)
            raise
        finally:
            self._budget.settle(worst, real)
        return replace(answer, cost=cost)


def check_prices(budget: Budget, pricer: HostedPricer, model: str) -> None:
    """Raise SettingsError if a budget is in money and the model is unpriced, or the currency has changed."""
    if budget.amount is not None and pricer.cost(Usage(1, 1)) is None:
        raise SettingsError(
            f"model '{model}' has no known price, so a budget in money cannot be enforced: "
            f"add it to {PRICES_FILE}, or use --max-tokens-total"
        )
    before = budget.spent.cost.currency if budget.spent.cost else ""
    if before and pricer.currency and before != pricer.currency:
        raise SettingsError(
            f"{before} was spent before, and the prices are in {pricer.currency} now: "
            f"give {PRICES_FILE} the currency it had"
        )


def worst_case(pricer: HostedPricer, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Spent:
    """Return the most that a call may cost."""
    prompt = estimate_tokens(messages, schema)
    most = Usage(prompt, limits.max_tokens, written_tokens=prompt)  # the dearest kind
    return Spent(pricer.cost(most), prompt + limits.max_tokens)


def estimate_tokens(messages: Sequence[Message], schema: Schema | None) -> int:
    """Return more tokens than a prompt is likely to have: a third of its bytes, the schema's among them."""
    shape = "" if schema is None else json.dumps(schema, ensure_ascii=False)
    size = sum(len(text.encode(errors="surrogatepass")) for text in (shape, *(each.content for each in messages)))
    return -(-size // _BYTES_A_TOKEN) + _TOKENS_A_TURN * len(messages)


class RateLimitedClient(ClientWrapper):
    """A client that asks another one at a limited rate: requests and tokens a minute, calls at once."""

    def __init__(self, client: ModelClient, rpm: float | None, tpm: float | None, *, calls: int | None = None) -> None:
        super().__init__(client)
        self._turn = asyncio.Lock()
        self._calls = asyncio.Semaphore(calls) if calls else contextlib.nullcontext()
        # By flag: seconds a unit, and the units that are not waited for: a limiter that held a whole minute
        # would let twice as much through in the first one.
        paces = {"--rpm": (_MINUTE / rpm, 1.0)} if rpm else {}
        self._paces = paces | ({"--tpm": (_MINUTE / tpm, tpm / _MINUTE)} if tpm else {})
        self._free_at = dict.fromkeys(self._paces, 0.0)

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Wait until the rate allows it, then ask; raises as the client does."""
        for flag, (pace, at_once) in self._paces.items():
            tokens = estimate_tokens(messages, schema) + min(_ANSWER_TOKENS, limits.max_tokens)
            units, now = 1 if flag == "--rpm" else tokens, asyncio.get_running_loop().time()
            start = max(now, self._free_at[flag])
            self._free_at[flag] = start + units * pace
            seconds = start - now + max(0.0, units - at_once) * pace
            if seconds >= _LONG_WAIT:
                log_wait(_log, f"{flag} is reached", "asking", seconds)
            await asyncio.sleep(seconds)
        async with self._turn:
            await asyncio.sleep(0)  # forty calls begun at once would hold the loop for a third of a second
        async with self._calls:
            return await self._client.complete(messages, schema, limits)


def request_key(server: str, model: str, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> str:
    """Return the hash of a request: of all that shapes the answer, and which sample is asked for."""
    shaping = {"reasoning_effort": limits.reasoning_effort, "verbosity": limits.verbosity}
    request: dict[str, Any] = {name: value for name, value in shaping.items() if value is not None}
    request |= {"server": server, "model": model, "schema": schema, "repeat": limits.sample}
    request |= {"max_tokens": limits.max_tokens, "temperature": limits.temperature}
    request["messages"] = [vars(message) for message in messages]
    text = json.dumps(request, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class CachingClient(ClientWrapper):
    """A `ModelClient` that caches the complete answers of another one; a cache that fails is logged once."""

    def __init__(self, client: ModelClient, cache: ResponseCache, server: str, use: CacheUse) -> None:
        super().__init__(client)  # `server`, an address or a file's path, tells models of the same name apart
        self._cache, self._server, self._use, self._last_warning = cache, server, use, ""

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Return the cached answer, or ask for one; raises as the client does."""
        key = request_key(self._server, self.name, messages, schema, limits)
        if self._use == "read":
            with self._faults_logged():
                if (cached := self._cache.get(key)) is not None:
                    return cached
        answer = await self._client.complete(messages, schema, limits)
        if answer.finish in {"stop", "length"} and not answer.is_truncated and answer.content.strip():
            with self._faults_logged():
                self._cache.put(key, answer)
        return answer

    @contextlib.contextmanager
    def _faults_logged(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a cache never costs an answer
            if (line := message_of(error)) != self._last_warning:
                self._last_warning = line
                _log.warning("%s", line)

    async def close(self) -> None:
        """Close the client and the cache."""
        self._cache.close()
        await super().close()
