"""The run log: runs and attempts in SQLite, recorded as they come, and replayed."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter

from synopsis_writer.attempt import Attempt, Draft
from synopsis_writer.brief import Brief
from synopsis_writer.errors import (
    ConnectionFailedError,
    FileError,
    GateRefusedError,
    ReplayError,
    SynopsisError,
)
from synopsis_writer.kinds import Outcome
from synopsis_writer.models.base import Answer, Limits, Message
from synopsis_writer.storage.sqlite import FAULTS, OpenFile, fault, open_database, overwrite, transaction
from synopsis_writer.synopsis import Outline

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
    outcome: Outcome = Outcome.RUNNING
    error: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Entry:
    """One attempt of a run, as the log holds it.

    Attributes:
        number: its round.
        messages: what was asked; empty in the guided strategy.
        answer: what the model said.
        passed: whether the answer was taken.
        problems: what was wrong with it, in sentences.
        findings: what the gate said, as data.
        repeat: which of several answers to the same messages it is.
        is_longer: whether it was asked for because the one before was cut.
    """

    number: int
    messages: tuple[Message, ...]
    answer: Answer
    passed: bool
    problems: tuple[str, ...]
    findings: tuple[dict[str, Any], ...] = ()
    repeat: int = 0
    is_longer: bool = False


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

    def begin(self, run: Run) -> None:
        """Write a run down, before its first request."""
        fields = run_row(run)
        columns = f"INSERT INTO runs ({', '.join(fields)}) VALUES ({_marks(fields)})"  # noqa: S608 - our own names
        self._do([(columns, tuple(fields.values()))])

    def add(self, run: str, entry: Entry) -> None:
        """Write an attempt down, as soon as it is judged."""
        fields = entry_row(entry)
        place = "(SELECT count(*) FROM attempts WHERE run = ?)"
        columns = f"run, place, {', '.join(fields)}"
        statements = [
            (
                f"INSERT INTO attempts ({columns}) VALUES (?, {place}, {_marks(fields)})",  # noqa: S608 - our own names
                (run, run, *fields.values()),
            )
        ]
        if entry.messages:
            asked = (fields["messages"], messages_json(entry.messages))
            statements.insert(0, ("INSERT OR IGNORE INTO prompts VALUES (?, ?)", asked))
        self._do(statements)

    def judged(self, run: str, place: int, entry: Entry) -> None:
        """Write down what the gate said of the attempt at a place, from 0."""
        row = entry_row(entry)
        values = (row["passed"], row["problems"], row["findings"], run, place)
        statement = "UPDATE attempts SET passed = ?, problems = ?, findings = ? WHERE run = ? AND place = ?"
        self._do([(statement, values)])

    def end(self, run: str, outcome: Outcome, error: str | None = None) -> None:
        """Write down what became of a run."""
        self._do([("UPDATE runs SET outcome = ?, error = ? WHERE id = ?", (outcome, error, run))])

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

    def entries(self, run: str) -> list[Entry]:
        """Return the attempts of a run, in order; raises FileError where one cannot be read."""
        query = """
            SELECT attempts.*, prompts.messages AS asked FROM attempts
            LEFT JOIN prompts ON prompts.hash = attempts.messages WHERE run = ? ORDER BY place
        """
        return [read_entry(row) for row in self._rows(query, (run,))]

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
    }


def entry_row(entry: Entry) -> dict[str, Any]:
    """Return an attempt as a row of `attempts`, without its run and place."""
    answer = entry.answer
    return {
        "number": entry.number,
        "messages": messages_hash(entry.messages) if entry.messages else None,
        "answer": answer.text,
        "finish": answer.finish,
        "model": answer.model,
        "passed": entry.passed,
        "problems": _json(entry.problems),
        "findings": _json(entry.findings),
        **asdict(answer.usage),
        "seconds": answer.seconds,
        "amount": answer.cost and str(answer.cost.amount),
        "currency": answer.cost and answer.cost.currency,
        "is_kept": answer.is_cached,
        "words_by_model": answer.words_by_model,
        "repeat": entry.repeat,
        "is_longer": entry.is_longer,
    }


def read_run(row: Mapping[str, Any]) -> Run:
    """Return the run of a row; raises FileError where it cannot be read."""
    return _read(row["id"], lambda: _run(row))


def read_entry(row: Mapping[str, Any]) -> Entry:
    """Return the attempt of a row, whose prompt is in `asked`; raises FileError where it cannot be read."""
    return _read(row["run"], lambda: _entry(row))


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
    return TypeAdapter(Run).validate_python({**row, **parsed})


def _entry(row: Mapping[str, Any]) -> Entry:
    usage = {name: row[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    told = {name: row[name] for name in ("finish", "seconds", "model", "words_by_model")}
    told["is_cached"] = row["is_kept"]
    cost = None if row["amount"] is None else {"amount": row["amount"], "currency": row["currency"]}
    return TypeAdapter(Entry).validate_python(
        {
            "number": row["number"],
            "messages": json.loads(row["asked"] or "[]"),
            "answer": {"text": row["answer"], "usage": usage, "cost": cost, **told},
            "passed": row["passed"],
            "problems": json.loads(row["problems"]),
            "findings": json.loads(row["findings"]),
            "repeat": row["repeat"],
            "is_longer": row["is_longer"],
        }
    )


def messages_hash(messages: Sequence[Message]) -> str:
    """Return 24 hex digits that stand for messages."""
    return hashlib.sha256(messages_json(messages).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def messages_json(messages: Sequence[Message]) -> str:
    """Return messages as the log keeps them."""
    return _json([asdict(message) for message in messages])


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


UNJUDGED = "not judged yet"


class Journal:
    """Notes a run, in a `with` block: its beginning, each attempt, and how it ended.

    Args:
        log: where it is noted.
        run: the run.
        say: is told, once, when the log fails.
    """

    def __init__(self, log: RunLog, run: Run, say: Callable[[str], None]) -> None:
        self._log, self._run, self._say = log, run, say
        self._open = True
        self._places: dict[int, int] = {}  # of answers that are not judged yet, by the draft they came in
        self.entries: list[Entry] = []

    def __enter__(self) -> Self:
        """Note that the run begins."""
        self._quietly(lambda: self._log.begin(self._run))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note the error that ended the run, where one did."""
        if error is None:
            return
        if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            self.end(Outcome.INTERRUPTED)
            if self.entries and self._open and self._log.is_kept:
                self._say(f"what was answered so far is kept: synopsis log show {self._run.id}")
        else:
            # Only our own errors are known to hold no secret.
            said = str(error) if isinstance(error, SynopsisError) else type(error).__name__
            self.end(Outcome.REFUSED if isinstance(error, GateRefusedError) else Outcome.FAILED, said)

    def answered(self, number: int, draft: Draft) -> None:
        """Note an answer that is not judged yet."""
        self._places[id(draft)] = len(self.entries)
        self.note(_entry_of(number, draft, passed=False, problems=(UNJUDGED,)))

    def attempt(self, attempt: Attempt) -> None:
        """Note what the gate said of an answer."""
        findings = tuple(finding.as_data() for finding in attempt.findings)
        entry = _entry_of(
            attempt.number,
            attempt.draft,
            passed=attempt.passed,
            problems=attempt.problems,
            findings=findings,
        )
        place = self._places.pop(id(attempt.draft))
        self.entries[place] = entry
        self._quietly(lambda: self._log.judged(self._run.id, place, entry))

    def note(self, entry: Entry) -> None:
        """Note an attempt."""
        self.entries.append(entry)
        self._quietly(lambda: self._log.add(self._run.id, entry))

    def end(self, outcome: Outcome, error: str | None = None) -> None:
        """Note what became of the run."""
        self._quietly(lambda: self._log.end(self._run.id, outcome, error))

    def _quietly(self, write: Callable[[], None]) -> None:
        if not self._open:
            return
        try:
            write()
        except FileError as error:
            self._open = False
            self._say(str(error))


def _entry_of(
    number: int,
    draft: Draft,
    *,
    passed: bool,
    problems: tuple[str, ...],
    findings: tuple[dict[str, Any], ...] = (),
) -> Entry:
    return Entry(
        number, draft.messages, draft.answer, passed, problems, findings, draft.repeat, draft.is_longer
    )


class ReplayClient:
    """A `ModelClient` that gives a run's answers again, each to the prompt it was given to.

    Args:
        run: the run.
        entries: its attempts, in order.
        max_tokens: the tokens an answer may have; who asks for more asks because one was cut.
    """

    def __init__(self, run: Run, entries: Sequence[Entry], max_tokens: int) -> None:
        self._run, self._max_tokens = run, max_tokens
        self._known = {messages_hash(entry.messages) for entry in entries}
        self._left = [(messages_hash(entry.messages), entry) for entry in entries]

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
        for place, (asked, entry) in enumerate(self._left):
            if (asked, entry.repeat, entry.is_longer) == (wanted, limits.sample, is_longer):
                del self._left[place]
                return entry.answer
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

    def __init__(self, run: Run, entries: Sequence[Entry]) -> None:
        self._run = run
        self._left = list(entries)

    @property
    def name(self) -> str:
        """The name of the model that answered."""
        return self._run.model

    async def drafts(self, seed: int, last: Attempt | None) -> AsyncIterator[Draft]:  # noqa: ARG002 - they are drafted
        """Give the next draft."""
        if not self._left:
            raise ConnectionFailedError(f"run {self._run.id} holds no further answer: it ended there")
        yield Draft(self._left.pop(0).answer)


def differences(entries: Sequence[Entry], attempts: Sequence[Attempt]) -> list[str]:
    """Say, a sentence each, where the verdicts are no longer those of the log.

    Drafts that were made side by side may have come in another order: each is held against its own.
    """
    now = {_draft_key(attempt.draft, place): attempt for place, attempt in enumerate(attempts)}
    pairs = [(place, entry, now.get(_draft_key(entry, place))) for place, entry in enumerate(entries)]
    found = [
        f"Attempt {place + 1}: {_verdict(entry.problems)} then, {_verdict(attempt.problems)} now."
        for place, entry, attempt in pairs
        if attempt is not None and entry.problems != attempt.problems
    ]
    if len(entries) != len(attempts):
        found.append(f"The log holds {len(entries)} attempts, the replay came to {len(attempts)}.")
    return found


def _draft_key(draft: Entry | Draft, place: int) -> tuple[str, int, bool] | int:
    """Return what tells a draft from the others; in the guided strategy that is its place."""
    return (messages_hash(draft.messages), draft.repeat, draft.is_longer) if draft.messages else place


def _verdict(problems: Sequence[str]) -> str:
    return f"refused ({' '.join(problems)})" if problems else "accepted"
