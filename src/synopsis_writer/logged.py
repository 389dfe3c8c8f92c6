"""What the run log holds: runs and their attempts, and how each becomes a row and comes back."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Message
from synopsis_writer.errors import FileError
from synopsis_writer.kinds import Outcome
from synopsis_writer.synopsis import Outline

_Read = TypeVar("_Read")


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
        "is_kept": answer.is_kept,
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
    told = {name: row[name] for name in ("finish", "seconds", "model", "words_by_model", "is_kept")}
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
