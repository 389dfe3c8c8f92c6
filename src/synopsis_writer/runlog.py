"""The run log: what was asked, answered and judged, what it took, and where it was saved."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Cost, Message, Usage
from synopsis_writer.database import open_database, transaction
from synopsis_writer.errors import FileError
from synopsis_writer.kinds import Outcome
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
)


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
    """

    number: int
    messages: tuple[Message, ...]
    answer: Answer
    passed: bool
    problems: tuple[str, ...]
    findings: tuple[dict[str, Any], ...] = ()


def messages_hash(messages: Sequence[Message]) -> str:
    """Return 24 hex digits that stand for messages."""
    return hashlib.sha256(_messages_json(messages).encode("utf-8", "surrogatepass")).hexdigest()[:24]


class RunLog:
    """The log in one SQLite file.

    Args:
        path: the file; None keeps the log in memory, for who wants none.

    Raises:
        FileError: it cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._database = open_database(path, _MIGRATIONS)

    def begin(self, run: Run) -> None:
        """Write a run down, before its first request."""
        fields = asdict(run) | {
            "created": run.created.isoformat(),
            "brief": _json(run.brief.as_data()),
            "outline": run.outline and run.outline.model_dump_json(),
            "examples": _json(run.examples),
        }
        columns = f"INSERT INTO runs ({', '.join(fields)}) VALUES ({_marks(fields)})"  # noqa: S608 - our own names
        self._do([(columns, tuple(fields.values()))])

    def add(self, run: str, entry: Entry) -> None:
        """Write an attempt down, as soon as it is judged."""
        answer, key = entry.answer, messages_hash(entry.messages) if entry.messages else None
        fields = {
            "number": entry.number,
            "messages": key,
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
            "is_kept": answer.is_kept,
            "words_by_model": answer.words_by_model,
        }
        place = "(SELECT count(*) FROM attempts WHERE run = ?)"
        columns = f"run, place, {', '.join(fields)}"
        statements = [
            (
                f"INSERT INTO attempts ({columns}) VALUES (?, {place}, {_marks(fields)})",  # noqa: S608 - our own names
                (run, run, *fields.values()),
            )
        ]
        if key is not None:
            asked = (key, _messages_json(entry.messages))
            statements.insert(0, ("INSERT OR IGNORE INTO prompts VALUES (?, ?)", asked))
        self._do(statements)

    def end(self, run: str, outcome: Outcome, error: str | None = None) -> None:
        """Write down what became of a run."""
        self._do([("UPDATE runs SET outcome = ?, error = ? WHERE id = ?", (outcome, error, run))])

    def saved(self, run: str, path: Path) -> None:
        """Write down where a run's text lies."""
        self._do([("UPDATE runs SET path = ? WHERE id = ?", (str(path.absolute()), run))])

    def runs(self, most: int = -1) -> list[Run]:
        """Return the newest runs, the newest first; -1 is all of them."""
        rows = self._rows("SELECT * FROM runs ORDER BY created DESC, rowid DESC LIMIT ?", (most,))
        return [_run(row) for row in rows]

    def find(self, name: str) -> Run:
        """Return the run of this id, or the only one whose id begins or ends so; `last` is the newest.

        Raises:
            FileError: there is none, or there are several.
        """
        if name == "last":
            found = self.runs(1)
        else:
            escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            query = "SELECT * FROM runs WHERE id LIKE ? ESCAPE '\\' OR id LIKE ? ESCAPE '\\'"
            found = [_run(row) for row in self._rows(query, (f"{escaped}%", f"%{escaped}"))] if name else []
        if len(found) == 1:
            return found[0]
        several = f"{len(found)} runs are called so: give more of the id" if found else "no such run"
        raise FileError(f"run '{name}': {several}: synopsis log list names them")

    def entries(self, run: str) -> list[Entry]:
        """Return the attempts of a run, in order."""
        query = """
            SELECT attempts.*, prompts.messages AS asked FROM attempts
            LEFT JOIN prompts ON prompts.hash = attempts.messages WHERE run = ? ORDER BY place
        """
        return [_entry(row) for row in self._rows(query, (run,))]

    def remove(self, runs: Iterable[str]) -> None:
        """Delete runs with all they hold; nothing of their texts stays in the file."""
        gone = "DELETE FROM prompts WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE messages = hash)"
        self._do([*(("DELETE FROM runs WHERE id = ?", (run,)) for run in runs), (gone, ())])
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _do(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        try:
            with transaction(self._database):
                for statement, values in statements:
                    self._database.execute(statement, values)
        except (sqlite3.Error, UnicodeError) as error:
            raise FileError(f"run log {self._path}: {error}: clear it up, or go on with --no-log") from error

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            cursor = self._database.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.Error as error:
            raise FileError(f"run log {self._path}: {error}: move it away, it is damaged") from error


def _run(row: dict[str, Any]) -> Run:
    return Run(
        **row
        | {
            "created": datetime.fromisoformat(row["created"]),
            "brief": Brief.model_validate_json(row["brief"]),
            "outline": row["outline"] and Outline.model_validate_json(row["outline"]),
            "examples": tuple(json.loads(row["examples"])),
            "outcome": Outcome(row["outcome"]),
        }
    )


def _entry(row: dict[str, Any]) -> Entry:
    usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
    answer = Answer(
        row["answer"],
        row["finish"],
        usage,
        row["seconds"],
        row["model"],
        row["words_by_model"],
        None if row["amount"] is None else Cost(Decimal(row["amount"]), row["currency"]),
        bool(row["is_kept"]),
    )
    messages = tuple(Message(**message) for message in json.loads(row["asked"] or "[]"))
    problems, findings = tuple(json.loads(row["problems"])), tuple(json.loads(row["findings"]))
    return Entry(row["number"], messages, answer, bool(row["passed"]), problems, findings)


def _messages_json(messages: Sequence[Message]) -> str:
    return _json([asdict(message) for message in messages])


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def _marks(fields: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join("?" for _ in fields)
