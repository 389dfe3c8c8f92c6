"""The run log: runs and attempts in SQLite, recorded as they come, and replayed."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, TypeAdapter

from synopsis_writer.brief import Brief
from synopsis_writer.errors import (
    ConnectionFailedError,
    FileError,
    GateRefusedError,
    ModelError,
    ReplayError,
    SynopsisError,
)
from synopsis_writer.gate.finding import Finding
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.result import Attempt, Outcome
from synopsis_writer.storage.sqlite import FAULTS, OpenFile, fault, open_database, overwrite, transaction
from synopsis_writer.synopsis import Outline

_log = logging.getLogger(__name__)

_MIGRATIONS = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, command TEXT NOT NULL, created TEXT NOT NULL, outcome TEXT NOT NULL,
        error TEXT, path TEXT, brief TEXT NOT NULL, outline TEXT, model TEXT NOT NULL, server TEXT,
        rounds INTEGER NOT NULL, best_of INTEGER NOT NULL,
        prompt TEXT, version TEXT, prompt_hash TEXT, examples TEXT NOT NULL
    );
    CREATE TABLE prompts (hash TEXT PRIMARY KEY, messages TEXT NOT NULL);
    CREATE TABLE attempts (
        run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, place INTEGER NOT NULL,
        number INTEGER NOT NULL, messages TEXT REFERENCES prompts, answer TEXT NOT NULL,
        finish TEXT NOT NULL, model TEXT NOT NULL, passed INTEGER NOT NULL, problems TEXT NOT NULL,
        findings TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, amount TEXT, currency TEXT,
        is_kept INTEGER NOT NULL, words_by_model INTEGER,
        PRIMARY KEY (run, place)
    );
    CREATE INDEX attempts_by_messages ON attempts (messages)
    """,
    """
    ALTER TABLE attempts ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN is_longer INTEGER NOT NULL DEFAULT 0
    """,
)


@dataclass(frozen=True)
class Listed:
    """What can be said of a run without reading it.

    Attributes:
        id: its name.
        created: when it began; None where that cannot be read.
        outcome: what became of it, as it is written.
    """

    id: str
    created: datetime | None
    outcome: str


@dataclass(frozen=True)
class Run:
    """One command's worth of work.

    Attributes:
        id: its name, which begins with its time.
        command: `write` or `outline`.
        created: when it began.
        brief: what was asked for.
        model: the model that was asked.
        server: host, port and path of its server; None for an embedded model.
        outline: the plan that was given.
        rounds: attempts at most.
        best_of: drafts of the first round.
        prompt: name of the template.
        version: versions of the templates.
        prompt_hash: hash of the templates.
        examples: ids of the examples shown.
        outcome: what became of it.
        error: the fault that ended it.
        path: where the text was saved.
    """

    id: str
    command: str
    created: datetime
    brief: Brief
    model: str
    server: str | None = None
    outline: Outline | None = None
    rounds: int = 1
    best_of: int = 1
    prompt: str | None = None
    version: str | None = None
    prompt_hash: str | None = None
    examples: tuple[str, ...] = ()
    outcome: Outcome = "running"
    error: str | None = None
    path: str | None = None

    @property
    def stored_outcome(self) -> str:
        """The outcome as files and `--json` have always called it: `done` for `accepted`."""
        return _STORED.get(self.outcome, self.outcome)


_STORED: Mapping[Outcome, str] = {"accepted": "done"}


class RunLog:
    """The log in one SQLite file.

    Args:
        path: the file; None keeps the log in memory, for who wants none.
        open_file: opens it; `read_database` where it is only looked into.

    Raises:
        FileError: it cannot be opened.
    """

    def __init__(self, path: Path | None, open_file: OpenFile = open_database) -> None:
        self._path = path
        self._database = open_file(path, _MIGRATIONS)

    @property
    def is_kept(self) -> bool:
        """Whether it is still there when the program has ended."""
        return self._path is not None

    def recording(self, run: Run) -> "Recording":
        """Return what records a run while it goes on."""
        return Recording(self, run)

    def begin(self, run: Run) -> None:
        """Record a run, before its first request."""
        fields = run_row(run)
        columns = f"INSERT INTO runs ({', '.join(fields)}) VALUES ({_marks(fields)})"  # noqa: S608 - our own names
        self._do([(columns, tuple(fields.values()))])

    def add(self, run: str, attempt: Attempt) -> None:
        """Record an attempt, as soon as it is answered."""
        fields = attempt_row(attempt)
        place = "(SELECT count(*) FROM attempts WHERE run = ?)"
        columns = f"run, place, {', '.join(fields)}"
        statements = [
            (
                f"INSERT INTO attempts ({columns}) VALUES (?, {place}, {_marks(fields)})",  # noqa: S608 - our own names
                (run, run, *fields.values()),
            )
        ]
        if attempt.messages:
            asked = (fields["messages"], messages_json(attempt.messages))
            statements.insert(0, ("INSERT OR IGNORE INTO prompts VALUES (?, ?)", asked))
        self._do(statements)

    def judged(self, run: str, index: int, attempt: Attempt) -> None:
        """Record what the gate said of the attempt at an index, from 0."""
        row = attempt_row(attempt)
        values = (row["passed"], row["problems"], row["findings"], run, index)
        statement = "UPDATE attempts SET passed = ?, problems = ?, findings = ? WHERE run = ? AND place = ?"
        self._do([(statement, values)])

    def end(self, run: str, outcome: Outcome, error: str | None = None) -> None:
        """Record what became of a run."""
        values = (_STORED.get(outcome, outcome), error, run)
        self._do([("UPDATE runs SET outcome = ?, error = ? WHERE id = ?", values)])

    def saved(self, run: str, path: Path) -> None:
        """Write down where a run's text lies."""
        self._do([("UPDATE runs SET path = ? WHERE id = ?", (str(path.absolute()), run))])

    def runs(self, most: int = -1) -> list[Run]:
        """Return the newest runs, the newest first; -1 is all of them.

        Raises:
            FileError: one of them cannot be read.
        """
        return [read_run(row) for row in self._newest("*", most)]

    def listed(self, most: int = -1) -> list[Listed]:
        """Return what can be said of the newest runs without reading them, the newest first."""
        return [read_listed(row) for row in self._newest("id, created, outcome", most)]

    def find(self, name: str) -> Run:
        """Return the run that `find_id` names.

        Raises:
            FileError: there is none, or there are several, or it cannot be read.
        """
        (row,) = self._rows("SELECT * FROM runs WHERE id = ?", (self.find_id(name),))
        return read_run(row)

    def find_id(self, name: str) -> str:
        """Return the only id that `name` is a part of; `last` is the newest run's.

        Raises:
            FileError: there is none, or there are several.
        """
        if name == "last":
            found = [run.id for run in self.listed(1)]
        else:
            escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            query = "SELECT id FROM runs WHERE id LIKE ? ESCAPE '\\'"
            found = [row["id"] for row in self._rows(query, (f"%{escaped}%",))] if name else []
        if len(found) == 1 or name in found:
            return name if name in found else found[0]
        several = f"{len(found)} runs are called so: give more of the id" if found else "no such run"
        raise FileError(f"run '{name}': {several}: synopsis log list names them")

    def attempts(self, run: str) -> list[Attempt]:
        """Return the attempts of a run, in order; raises FileError where one cannot be read."""
        query = """
            SELECT attempts.*, prompts.messages AS asked FROM attempts
            LEFT JOIN prompts ON prompts.hash = attempts.messages WHERE run = ? ORDER BY place
        """
        return [read_attempt(row) for row in self._rows(query, (run,))]

    def remove(self, runs: Iterable[str]) -> bool:
        """Delete runs with all they hold.

        Return whether nothing of their texts is left in the file; False where another program reads it:
        then they are overwritten when the log is opened next.
        """
        gone = "DELETE FROM prompts WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE messages = hash)"
        self._do([*(("DELETE FROM runs WHERE id = ?", (run,)) for run in runs), (gone, ())])
        return overwrite(self._database)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _do(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        try:
            with transaction(self._database):
                for statement, values in statements:
                    self._database.execute(statement, values)
        except FAULTS as error:
            said = fault(error, "clear it up")
            raise FileError(f"run log {self._path}: {said}, or go on with --no-log") from error

    def _newest(self, columns: str, most: int) -> list[dict[str, Any]]:
        query = f"SELECT {columns} FROM runs ORDER BY created DESC, rowid DESC LIMIT ?"  # noqa: S608 - our own
        return self._rows(query, (most,))

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            cursor = self._database.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except FAULTS as error:
            raise FileError(f"run log {self._path}: {fault(error, 'move it away, it is damaged')}") from error


def _marks(fields: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join("?" for _ in fields)


_Read = TypeVar("_Read")


def run_row(run: Run) -> dict[str, Any]:
    """Return a run as a row of `runs`."""
    return asdict(run) | {
        "created": run.created.isoformat(),
        "brief": _json(run.brief.as_data()),
        "outline": run.outline and run.outline.model_dump_json(),
        "examples": _json(run.examples),
        "outcome": run.stored_outcome,
    }


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt as a row of `attempts`, without its run and place."""
    answer = attempt.answer
    return {
        "number": attempt.number,
        "messages": messages_hash(attempt.messages) if attempt.messages else None,
        "answer": answer.text,
        "finish": answer.finish,
        "model": answer.model,
        "passed": attempt.passed,
        "problems": _json(attempt.problems),
        "findings": _json([finding.as_data() for finding in attempt.findings]),
        **asdict(answer.usage),
        "seconds": answer.seconds,
        "amount": answer.cost and str(answer.cost.amount),
        "currency": answer.cost and answer.cost.currency,
        "is_kept": answer.is_cached,
        "words_by_model": answer.words_by_model,
        "repeat": attempt.sample,
        "is_longer": attempt.is_longer,
    }


def read_run(row: Mapping[str, Any]) -> Run:
    """Return the run of a row; raises FileError where it cannot be read."""
    return _read(row["id"], lambda: _run(row))


def read_attempt(row: Mapping[str, Any]) -> Attempt:
    """Return the attempt of a row, whose prompt is in `asked`; raises FileError where it cannot be read."""
    return _read(row["run"], lambda: _attempt(row))


def read_listed(row: Mapping[str, Any]) -> Listed:
    """Return what a row says of a run, whatever else is in it."""
    try:
        created = datetime.fromisoformat(row["created"])
    except (ValueError, TypeError):
        return Listed(str(row["id"]), None, str(row["outcome"]))
    in_zone = created if created.tzinfo else created.replace(tzinfo=UTC)
    return Listed(str(row["id"]), in_zone, str(row["outcome"]))


def _read(run: str, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except (ValueError, TypeError, RecursionError) as error:  # all that JSON and pydantic say of bad data
        raise FileError(f"run log: run {run} cannot be read: remove it with synopsis log rm {run}") from error


def _run(row: Mapping[str, Any]) -> Run:
    parsed = {
        "brief": Brief.model_validate_json(row["brief"]),
        "outline": row["outline"] and Outline.model_validate_json(row["outline"]),
        "examples": json.loads(row["examples"]),
    }
    outcome = {stored: outcome for outcome, stored in _STORED.items()}.get(row["outcome"], row["outcome"])
    return TypeAdapter(Run).validate_python({**row, **parsed, "outcome": outcome})


class _Recorded(BaseModel):
    """An attempt as a row holds it."""

    number: int
    answer: Answer
    messages: tuple[Message, ...]
    passed: bool
    problems: tuple[str, ...]
    findings: tuple[dict[str, Any], ...]
    sample: int
    is_longer: bool


def _attempt(row: Mapping[str, Any]) -> Attempt:
    usage = {name: row[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    answer = {name: row[name] for name in ("finish", "seconds", "model", "words_by_model")}
    answer["is_cached"] = row["is_kept"]
    cost = None if row["amount"] is None else {"amount": row["amount"], "currency": row["currency"]}
    recorded = _Recorded.model_validate(
        {
            "number": row["number"],
            "messages": json.loads(row["asked"] or "[]"),
            "answer": {"text": row["answer"], "usage": usage, "cost": cost, **answer},
            "passed": row["passed"],
            "problems": json.loads(row["problems"]),
            "findings": json.loads(row["findings"]),
            "sample": row["repeat"],
            "is_longer": row["is_longer"],
        }
    )
    fields = {name: getattr(recorded, name) for name in _Recorded.model_fields}
    return Attempt.recorded(**fields | {"findings": [Finding.from_data(data) for data in recorded.findings]})


def messages_hash(messages: Sequence[Message]) -> str:
    """Return 24 hex digits that stand for messages."""
    return hashlib.sha256(messages_json(messages).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def messages_json(messages: Sequence[Message]) -> str:
    """Return messages as the log keeps them."""
    return _json([asdict(message) for message in messages])


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


class Recording:
    """One run while it goes on, in a `with` block: its beginning, each attempt, and how it ended.

    A log that fails is reported once, and ends no work.

    Args:
        log: where it is recorded; None: nowhere.
        run: the run.

    Attributes:
        attempts: those up to now.
    """

    def __init__(self, log: RunLog | None, run: Run) -> None:
        self._log, self._run = log, run
        self.attempts: list[Attempt] = []

    def __enter__(self) -> Self:
        """Record that the run begins."""
        self._try(lambda log: log.begin(self._run))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the error that ended the run, where one did."""
        if error is None:
            return
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self.end("interrupted")
            if self.attempts and self._log is not None and self._log.is_kept:
                _log.info("what was answered so far is kept: synopsis log show %s", self._run.id)
        else:
            # Only our own errors are known to hold no secret.
            message = str(error) if isinstance(error, SynopsisError) else type(error).__name__
            self.end("refused" if isinstance(error, GateRefusedError) else "failed", message)
        if isinstance(error, ModelError) and self._log is not None:
            error.run = self._run.id

    def answered(self, attempt: Attempt) -> int:
        """Record an attempt; return its index."""
        self.attempts.append(attempt)
        self._try(lambda log: log.add(self._run.id, attempt))
        return len(self.attempts) - 1

    def judged(self, index: int, attempt: Attempt) -> None:
        """Record what the gate said of an attempt."""
        self.attempts[index] = attempt
        self._try(lambda log: log.judged(self._run.id, index, attempt))

    def end(self, outcome: Outcome, error: str | None = None) -> None:
        """Record what became of the run."""
        self._try(lambda log: log.end(self._run.id, outcome, error))

    def _try(self, write: Callable[[RunLog], None]) -> None:
        if self._log is None:
            return
        try:
            write(self._log)
        except FileError as error:
            self._log = None
            _log.warning("%s", error)


class ReplayClient:
    """A `ModelClient` that gives a run's answers again, each to the prompt it was given to.

    Args:
        run: the run.
        attempts: its attempts, in order.
        max_tokens: the tokens an answer may have; who asks for more asks because one was cut.
    """

    def __init__(self, run: Run, attempts: Sequence[Attempt], max_tokens: int) -> None:
        self._run, self._max_tokens = run, max_tokens
        self._known = {messages_hash(attempt.messages) for attempt in attempts}
        self._left = [(messages_hash(attempt.messages), attempt) for attempt in attempts]

    @property
    def name(self) -> str:
        """The name of the model that answered."""
        return self._run.model

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,  # noqa: ARG002 - the log knows what was answered
        limits: Limits,
    ) -> Answer:
        """Give the next answer to these messages.

        Raises:
            ReplayError: they were never asked in this run: templates, examples or verdicts have changed.
            ConnectionFailedError: the run holds no further answer to them; as then, none came.
        """
        wanted = messages_hash(messages)
        is_longer = limits.max_tokens > self._max_tokens
        for place, (asked, attempt) in enumerate(self._left):
            if (asked, attempt.sample, attempt.is_longer) == (wanted, limits.sample, is_longer):
                del self._left[place]
                return attempt.answer
        if wanted in self._known or not self._left:
            raise ConnectionFailedError(f"run {self._run.id} holds no further answer: it ended there")
        raise ReplayError(
            f"run {self._run.id} asked otherwise: templates, examples, pins or gate are not as then; "
            "give --prompts, --examples, --pin, --profile and --disable as then, or write anew"
        )

    async def close(self) -> None:
        """Hold nothing, so give back nothing."""


class ReplayAuthor:
    """Gives the drafts of a run of the guided strategy again, in order."""

    def __init__(self, run: Run, attempts: Sequence[Attempt]) -> None:
        self._run = run
        self._left = list(attempts)

    @property
    def name(self) -> str:
        """The name of the model that answered."""
        return self._run.model

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:  # noqa: ARG002 - they are drafted
        """Give the next draft."""
        if not self._left:
            raise ConnectionFailedError(f"run {self._run.id} holds no further answer: it ended there")
        yield Attempt(number, self._left.pop(0).answer)


def differences(then: Sequence[Attempt], now: Sequence[Attempt]) -> list[str]:
    """Say, a sentence each, where the verdicts are no longer those of the log.

    Drafts that were made side by side may have come in another order: each is compared with its own.
    """
    new = {_draft_key(attempt, index): attempt for index, attempt in enumerate(now)}
    pairs = [(index, old, new.get(_draft_key(old, index))) for index, old in enumerate(then)]
    changes = [
        f"Attempt {index + 1}: {_verdict(old.problems)} then, {_verdict(attempt.problems)} now."
        for index, old, attempt in pairs
        if attempt is not None and old.problems != attempt.problems
    ]
    if len(then) != len(now):
        changes.append(f"The log holds {len(then)} attempts, the replay came to {len(now)}.")
    return changes


def _draft_key(draft: Attempt, index: int) -> tuple[str, int, bool] | int:
    """Return what tells a draft from the others; for a demo draft that is its index."""
    return (messages_hash(draft.messages), draft.sample, draft.is_longer) if draft.messages else index


def _verdict(problems: Sequence[str]) -> str:
    return f"refused ({' '.join(problems)})" if problems else "accepted"
