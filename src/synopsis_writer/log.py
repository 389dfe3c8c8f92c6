"""The run log: runs, attempts and versions of texts in SQLite, recorded as they come; runs are replayed."""

import contextlib
import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Json, PlainSerializer, TypeAdapter
from rapidfuzz import fuzz

from synopsis_writer import errors
from synopsis_writer.brief import Brief
from synopsis_writer.characters import clean_name
from synopsis_writer.document import Document, format_document, parse_document
from synopsis_writer.gate.features import LAST_TEXTS, Avoid
from synopsis_writer.gate.finding import Finding
from synopsis_writer.models.base import MOST_ANSWER, Answer, Limits, Message, Schema
from synopsis_writer.result import Attempt, Outcome, new_run
from synopsis_writer.storage import sqlite
from synopsis_writer.synopsis import Outline, Synopsis, parse
from synopsis_writer.usage import Cost, Usage, total_cost

_log = logging.getLogger(__name__)
RUN: ContextVar[str | None] = ContextVar("run", default=None)  # the id of the run that is being made
OnAttempt = Callable[[Attempt, Brief], object] | None
Maker = Literal["model", "person"]
BATCH = "batch"  # the command of a run that is a batch's row
_LONGEST_PATH = 5_000
_LONG_DIFF = 400_000_000  # pairs of words, a bit of memory each; longer texts are compared whole
# A paragraph for each version of the file, in order; one that was released never changes.
_MIGRATIONS = files("synopsis_writer").joinpath("log.sql").read_text(encoding="utf-8").split("\n\n")


@dataclass(frozen=True)
class Lost:
    """What calls took that led to no answer, as far as the server counted it; a cost of None: unpriced."""

    usage: Usage
    cost: Cost | None


def stored(outcome: Outcome) -> str:
    """Return an outcome as logs and `--json` have always called it."""
    return "done" if outcome == "accepted" else outcome


@dataclass(frozen=True)
class Run:
    """One command's worth of work."""

    id: str  # begins with its time
    command: str  # `write`, `outline`, `eval`, or `batch` for each of its rows
    created: datetime
    brief: Json[Brief]  # JSON in the file, as the others of this type
    model: str
    server: str | None = None  # host, port and path; None for an embedded model
    outline: Json[Outline] | None = None
    attempts: int = 1  # attempts at most
    best_of: int = 1  # drafts of the first attempt
    prompt: str | None = None  # the name of the templates; then their version and hash
    version: str | None = None
    prompt_hash: str | None = None
    examples: Json[tuple[str, ...]] = ()  # ids of the examples shown
    outcome: Annotated[
        Outcome, BeforeValidator(lambda name: "accepted" if name == "done" else name), PlainSerializer(stored)
    ] = "running"
    error: str | None = None
    path: str | None = None  # where the text was saved
    lost: Json[Lost] | None = None  # what failed calls took; None: nothing that was counted
    house: str | None = None  # its name
    avoid: Json[Avoid] | None = None  # what of the last texts the prompt said not to repeat


@dataclass(frozen=True)
class Version:
    """One version of a text."""

    text: str  # the id that all versions of one text share
    number: int  # from 1, in the order in which they were recorded
    parent: int | None  # the number of the version that it was made from; None for a first one
    created: datetime
    maker: Maker  # who wrote what is new in it
    model: str | None  # None for a person's
    run: str | None  # the one in the file's front matter, by which a file that was moved finds its versions
    request: Json[Mapping[str, Any]]  # what was asked of the model, by name; empty for an edit by hand
    path: str  # where it was saved
    hash: str
    content: str | None  # front matter and text, as Markdown; None: it was removed with its run

    @property
    def document(self) -> Document:
        """Front matter and text; raises FileError where they were removed."""
        if self.content is None:
            gone = f"version {self.number} of {self.path} was removed with its run"
            raise errors.FileError(f"{gone}: synopsis log versions names those that are left")
        return parse_document(self.content.encode("utf-8"), Path(self.path))


_RUN = TypeAdapter(Run)
_VERSION = TypeAdapter(Version)
_LOST = TypeAdapter(Lost)
_ANSWER = TypeAdapter(Answer)
_MESSAGES = TypeAdapter(tuple[Message, ...])
_PROBLEMS = TypeAdapter(tuple[str, ...])
_FINDINGS = TypeAdapter(tuple[dict[str, Any], ...])


class RunLog:
    """The log in one SQLite file, or in memory; `read_database` opens one that is only read."""

    def __init__(self, path: Path | None, open_file: sqlite.OpenFile = sqlite.open_database) -> None:
        self._path, self.is_in_file = path, path is not None
        self._database = open_file(path, _MIGRATIONS)

    def begin(self, run: Run) -> None:
        """Record a run, before its first request."""
        row = _RUN.dump_python(run, mode="json", round_trip=True)
        row["rounds"] = row.pop("attempts")
        self._write(_insert("runs", row))

    def add(self, run: str, attempt: Attempt, *, with_prompt: bool = True) -> None:
        """Record an attempt, as soon as it is answered."""
        answer = _ANSWER.dump_python(attempt.answer, mode="json", exclude={"service_tier"})
        usage, cost = answer.pop("usage"), answer.pop("cost") or {}
        asked = attempt.messages if with_prompt else ()
        text = _json([vars(message) for message in asked])
        row = {"run": run, "number": attempt.number, "messages": _digest(text)[:24] if asked else None}
        row |= {"answer": _bounded(answer.pop("text"), ""), "is_kept": answer.pop("is_cached")}
        row |= {**answer, **usage, **cost, **_verdict(attempt)}
        row |= {"repeat": attempt.sample, "is_longer": attempt.is_longer, "is_review": attempt.is_review}
        insert = _insert("attempts", row, place="(SELECT count(*) FROM attempts WHERE run = :run)")
        prompt = (row["messages"], _bounded(text, "[]"))
        self._write(*([("INSERT OR IGNORE INTO prompts VALUES (?, ?)", prompt)] if asked else []), insert)

    def judged(self, run: str, index: int, attempt: Attempt) -> None:
        """Record the findings of the attempt at an index, from 0."""
        statement = "UPDATE attempts SET passed = ?, problems = ?, findings = ? WHERE run = ? AND place = ?"
        self._write((statement, (*_verdict(attempt).values(), run, index)))

    def lost(self, run: str, lost: Lost) -> None:
        """Record what all of a run's failed calls took together."""
        self._write(("UPDATE runs SET lost = ? WHERE id = ?", (_LOST.dump_json(lost).decode(), run)))

    def end(self, run: str, outcome: Outcome, error: str | None = None) -> None:
        """Record what became of a run."""
        self._write(("UPDATE runs SET outcome = ?, error = ? WHERE id = ?", (stored(outcome), error, run)))

    def saved(self, run: str, path: Path) -> None:
        """Record where a run's text was saved."""
        self._write(("UPDATE runs SET path = ? WHERE id = ?", (_path(path), run)))

    def runs(self, most: int = -1) -> list[Run]:
        """Return the newest runs, the newest first; -1 is all of them; raises FileError."""
        query = "SELECT * FROM runs ORDER BY created DESC, rowid DESC LIMIT ?"
        return [_run(row) for row in self._rows(query, (most,))]

    def last_texts(self, house: str) -> list[tuple[Brief, Synopsis]]:
        """Return briefs and readable accepted texts of a house, no demo drafts, the newest first."""
        query = """
            SELECT brief, (SELECT answer FROM attempts WHERE run = runs.id AND passed
                           AND words_by_model IS NULL ORDER BY place DESC LIMIT 1) AS answer
            FROM runs WHERE house = ? AND outcome = 'done' AND command IN ('write', 'batch')
            ORDER BY created DESC, rowid DESC LIMIT ?
        """
        texts = []
        for row in self._rows(query, (house, LAST_TEXTS)):
            with contextlib.suppress(ValueError):
                if synopsis := parse(Answer(row["answer"] or "").content, Synopsis).value:
                    texts.append((Brief.model_validate_json(row["brief"]), synopsis))
        return texts

    def ids(
        self, most: int = -1, *, before: datetime | None = None, running_since: datetime | None = None
    ) -> list[str]:
        """Return the ids of the newest runs, the newest first, also of those that cannot be read."""
        query = """
            SELECT id FROM runs WHERE (:before IS NULL OR julianday(created) < julianday(:before))
            AND (:since IS NULL OR outcome = 'running' AND julianday(created) > julianday(:since))
            ORDER BY created DESC, rowid DESC LIMIT :most
        """
        times = {"before": before and before.isoformat(), "since": running_since and running_since.isoformat()}
        return [str(row["id"]) for row in self._rows(query, {**times, "most": most})]

    def search(self, text: str, most: int = -1) -> list[str]:
        """Return the ids of the newest runs whose briefs, answers and errors contain all words of `text`."""
        wanted = _folded(text).split()
        query = """
            SELECT id, command, brief, outline, model, error, path,
                (SELECT group_concat(answer || ' ' || problems) FROM attempts WHERE run = runs.id)
            FROM runs ORDER BY created DESC, rowid DESC
        """
        texts = ((row["id"], _folded(" ".join(filter(None, row.values())))) for row in self._rows(query, ()))
        found = (name for name, searched in texts if all(word in searched for word in wanted))
        return list(islice(found, most if most >= 0 else None))

    def find(self, name: str) -> Run:
        """Return the run that `find_id` names; raises FileError, also where it cannot be read."""
        (row,) = self._rows("SELECT * FROM runs WHERE id = ?", (self.find_id(name),))
        return _run(row)

    def find_id(self, name: str) -> str:
        """Return the only id that `name` is a part of, the newest run's for `last`; raises FileError."""
        ids, part = self.ids(1 if name == "last" else -1), name.lower()
        ids = ids if name == "last" else [each for each in ids if part and part in each.lower()]
        if len(ids) == 1 or name in ids:
            return name if name in ids else ids[0]
        problem = f"{len(ids)} runs match: give more of the id" if ids else "no such run"
        raise errors.FileError(f"run '{name}': {problem}: synopsis log list names them")

    def attempts(self, run: str) -> list[Attempt]:
        """Return the attempts of a run, in order; raises FileError if one cannot be read."""
        query = """
            SELECT attempts.*, prompts.messages AS asked FROM attempts
            LEFT JOIN prompts ON prompts.hash = attempts.messages WHERE run = ? ORDER BY place
        """
        return [_attempt(row) for row in self._rows(query, (run,))]

    def versions(self, text: str) -> list[Version]:
        """Return all versions of a text, in order; raises FileError."""
        return self._versions("WHERE text = ? ORDER BY number", text)

    def last_at(self, path: Path) -> Version | None:
        """Return the newest version that was saved at a path; None for none; raises FileError."""
        return next(iter(self._versions("WHERE path = ? ORDER BY rowid DESC LIMIT 1", _path(path))), None)

    def _versions(self, which: str, value: str) -> list[Version]:
        versions = []
        for row in self._rows(f"SELECT * FROM versions {which}", (value,)):  # noqa: S608 - our own text
            with _reading(f"version {row['number']} of {row['path']}", str(row["run"])):
                versions.append(_VERSION.validate_python(row))
        return versions

    def versions_of(self, document: Document) -> list[Version]:
        """Return the versions that led to a document, its own last; none where the log does not know it."""
        if (version := self.touch(document)) is None:
            return []
        known = {each.number: each for each in self.versions(version.text)}
        line = [version]
        while (parent := known.get(line[0].parent or 0)) is not None:
            line.insert(0, parent)
        return line

    def touch(self, document: Document, *, begin: bool = False) -> Version | None:
        """Return the version that a document is, an edit by hand recorded, and if `begin` an unknown text."""
        content, run = format_document(document.meta, document.text), document.meta.get("run")
        digest, path = _digest(content), _path(document.path)
        query = """
            SELECT text FROM versions WHERE run = :run OR hash = :hash OR path = :path
            ORDER BY CASE WHEN run = :run THEN 0 WHEN hash = :hash THEN 1 ELSE 2 END, rowid DESC LIMIT 1
        """
        named = {"run": run if isinstance(run, str) else None, "hash": digest, "path": path}
        if not (rows := self._rows(query, named)):
            model = str(document.meta.get("model") or "") or None
            return self.add_version(document, "model" if model else "person", model=model) if begin else None
        versions = self.versions(rows[0]["text"])
        if same := [version for version in versions if version.hash == digest]:
            if begin and same[-1].content is None:  # it was removed, and is needed again
                again = "UPDATE versions SET content = ? WHERE text = ? AND number = ?"
                self._write((again, (content, same[-1].text, same[-1].number)))
            return same[-1]
        candidates = [version for version in versions if version.run == run] or versions
        parent = max(candidates, key=lambda version: fuzz.ratio(version.content or "", content))
        return self.add_version(document, "person", parent=parent)

    def add_version(
        self, document: Document, maker: Maker, *,
        parent: Version | None = None, model: str | None = None, run: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Version:  # fmt: skip
        """Record a version, of `parent` or the first one; `run` is its front matter's; raises FileError."""
        content, named = format_document(document.meta, document.text), document.meta.get("run")
        if run is None:
            run = named if isinstance(named, str) else parent.run if parent else None
        name, created = new_run()
        row = {"text": parent.text if parent else name, "parent": parent and parent.number, "run": run}
        row |= {"created": created.isoformat(), "maker": maker, "model": model, "path": _path(document.path)}
        row |= {"request": _json(request or {}), "hash": _digest(content), "content": content}
        number = "(SELECT coalesce(max(number), 0) + 1 FROM versions WHERE text = :text)"
        # A text that came without a run goes with the first one that revised it.
        adopted = "UPDATE versions SET run = ? WHERE text = ? AND run IS NULL"
        self._write((adopted, (run, row["text"])), _insert("versions", row, number=number))
        return self.versions(str(row["text"]))[-1]

    def remove(self, runs: Iterable[str]) -> bool:
        """Delete runs, except the numbers of their versions; False: the next opening overwrites them."""
        orphans = "DELETE FROM prompts WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE messages = hash)"
        emptied = "UPDATE versions SET content = NULL, request = '{}' WHERE run = ?"
        statements = ("DELETE FROM runs WHERE id = ?", emptied)
        self._write(*((each, (run,)) for run in runs for each in statements), (orphans, ()))
        return sqlite.overwrite(self._database)

    def shrink(self) -> tuple[int, int]:
        """Return the space of removed runs to the disk; return the bytes before and after."""
        before = self.size()
        with self._reported("clear it up", "; it stays as it was"):
            self._database.execute("VACUUM")
        sqlite.overwrite(self._database)
        return before, self.size()

    def size(self) -> int:
        """Return the bytes of the file and what SQLite has beside it."""
        paths = [self._path.with_name(self._path.name + end) for end in ("", "-wal")] if self._path else []
        return sum(path.stat().st_size for path in paths if path.exists())

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextlib.contextmanager
    def _reported(self, way_out: str, besides: str = "") -> Iterator[None]:
        try:
            yield
        except sqlite.SQLITE_ERRORS as error:
            reason = sqlite.describe(error, way_out) + besides
            raise errors.FileError(f"run log {self._path}: {reason}") from error

    def _write(self, *statements: tuple[str, Sequence[Any] | Mapping[str, Any]]) -> None:
        with self._reported("clear it up", ", or go on with --no-log"), sqlite.transaction(self._database):
            for statement, values in statements:
                self._database.execute(statement, values)

    def _rows(self, query: str, values: Sequence[Any] | Mapping[str, Any]) -> list[dict[str, Any]]:
        with self._reported("move it away, it is damaged"):
            cursor = self._database.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]


def _insert(table: str, row: Mapping[str, Any], **computed: str) -> tuple[str, Mapping[str, Any]]:
    """Return the statement that adds a row, and its values; `computed` are expressions of more columns."""
    columns, values = ", ".join((*row, *computed)), ", ".join((*map(":{}".format, row), *computed.values()))
    return f"INSERT INTO {table} ({columns}) VALUES ({values})", row  # noqa: S608 - our own names


def _bounded(text: str, instead: str) -> str:
    return instead if len(text.encode("utf-8", "replace")) > MOST_ANSWER else text


def _verdict(attempt: Attempt) -> dict[str, Any]:
    findings = [finding.as_data() for finding in attempt.findings]
    return {"passed": attempt.passed, "problems": _json(attempt.problems), "findings": _json(findings)}


@contextlib.contextmanager
def _reading(what: str, run: str) -> Iterator[None]:
    try:
        yield
    except sqlite.SQLITE_ERRORS as error:
        way_out = f"remove {'it' if run in what else 'its run'} with synopsis log rm {run}"
        raise errors.FileError(f"run log: {what} cannot be read: {way_out}") from error


def _run(row: Mapping[str, Any]) -> Run:
    with _reading(f"run {row['id']}", row["id"]):
        return _RUN.validate_python({**row, "attempts": row["rounds"]})


def _path(path: Path) -> str:
    return clean_name(str(path.absolute()), _LONGEST_PATH)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _attempt(row: Mapping[str, Any]) -> Attempt:
    with _reading(f"run {row['run']}", row["run"]):
        cost = None if row["amount"] is None else row
        answer = {**row, "text": row["answer"], "is_cached": row["is_kept"], "usage": row, "cost": cost}
        found = [Finding.from_data(data) for data in _FINDINGS.validate_json(row["findings"])]
        more: Any = {name: bool(row[name]) for name in ("is_longer", "is_review")}
        more |= {"messages": _MESSAGES.validate_json(row["asked"] or "[]"), "sample": int(row["repeat"])}
        problems = _PROBLEMS.validate_json(row["problems"])
        return Attempt.recorded(int(row["number"]), _ANSWER.validate_python(answer), problems, found, **more)


def messages_hash(messages: Sequence[Message]) -> str:
    """Return 24 hex digits that identify messages."""
    return _digest(_json([vars(message) for message in messages]))[:24]


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def _folded(text: str) -> str:
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return unicodedata.normalize("NFC", plain.replace('\\"', '"')).casefold()


class Recording:
    """Records a run in a `with` block; a log that fails is reported once, and does not end the work."""

    def __init__(self, log: RunLog | None, run: Run, on_attempt: OnAttempt = None) -> None:
        self._log, self.run, self._on_attempt = log, run, on_attempt  # called with each judged attempt
        self.id = run.id if log is not None else ""  # the run's id in results
        self.attempts: list[Attempt] = []
        self._failed: list[errors.ModelError] = []

    def __enter__(self) -> Self:
        self._outer = RUN.set(self.run.id)
        self._try(lambda log: log.begin(self.run))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Record the error that ended the run, if one did."""
        from asyncio import CancelledError

        with contextlib.suppress(ValueError):  # dropped by another task before it ended
            RUN.reset(self._outer)
        if isinstance(error, KeyboardInterrupt | CancelledError):
            self.end("interrupted")
            if self.attempts and self._log is not None and self._log.is_in_file and self.run.command != BATCH:
                _log.info("what was answered so far is kept: synopsis log show %s", self.run.id)
        elif error is not None:
            is_refused = isinstance(error, errors.GateRefusedError)
            self.end("refused" if is_refused else "failed", errors.message_of(error))
        if isinstance(error, errors.ModelError):
            self.failed(error)
        if isinstance(error, errors.SynopsisError) and self._log is not None:
            error.run = self.run.id

    def answered(self, attempt: Attempt) -> None:
        """Record an attempt that is not judged yet."""
        self.attempts.append(attempt)
        is_alone = self.run.command != BATCH  # which has thousands of prompts of 25 kB each
        self._try(lambda log: log.add(self.run.id, attempt, with_prompt=is_alone))

    def judged(self, recorded: Attempt, attempt: Attempt) -> None:
        """Record what is found in an attempt that is `recorded` already."""
        index = next(index for index, each in enumerate(self.attempts) if each is recorded)
        self.attempts[index] = attempt
        self._try(lambda log: log.judged(self.run.id, index, attempt))
        if self._on_attempt is not None and not attempt.is_review:
            self._on_attempt(attempt, self.run.brief)

    def failed(self, error: errors.ModelError) -> None:
        """Record the tokens of a call that failed, if the server counted any."""
        if error.usage is not None and error not in self._failed:
            self._failed.append(error)
            usages = (each.usage for each in self._failed if each.usage)
            self.lost(Lost(sum(usages, Usage()), total_cost(each.cost for each in self._failed)))

    def lost(self, lost: Lost) -> None:
        """Record what all failed calls took."""
        self._try(lambda log: log.lost(self.run.id, lost))

    def end(self, outcome: Outcome, error: str | None = None) -> None:
        """Record what became of the run."""
        self._try(lambda log: log.end(self.run.id, outcome, error))

    def _try(self, write: Callable[[RunLog], None]) -> None:
        try:
            if self._log is not None:
                write(self._log)
        except Exception as error:  # noqa: BLE001 - a log never costs a text
            self._log = None
            _log.warning("%s", errors.message_of(error))


class Replay:
    """Gives a run's answers again: a `ModelClient` to the prompts of then, an `Author` of demo drafts."""

    def __init__(self, run: Run, attempts: Sequence[Attempt]) -> None:
        self.name, self._id = run.model, run.id
        self.is_reviewed = any(attempt.is_review for attempt in attempts)
        self._left: dict[tuple[str, int], list[Answer]] = {}  # by what was asked, and which sample
        for each in attempts:
            self._left.setdefault((messages_hash(each.messages), each.sample), []).append(each.answer)

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:  # noqa: ARG002 - the log knows what was answered
        """Give the next answer to these messages; raises ReplayError where they were never asked then."""
        wanted = messages_hash(messages)
        if answers := self._left.get((wanted, limits.sample)):
            return answers.pop(0)
        if wanted in {asked for asked, _ in self._left} or not any(self._left.values()):
            raise errors.ConnectionFailedError(f"run {self._id} holds no further answer: it ended there")
        changed = "templates, examples, pins or gate have changed since"
        way_out = "give --prompts, --examples, --pin, --profile and --disable as then, or write it again"
        raise errors.ReplayError(f"run {self._id} used a different prompt: {changed}; {way_out}")

    async def drafts(self, number: int, seed: int, previous: Attempt | None) -> AsyncIterator[Attempt]:  # noqa: ARG002 - they are drafted
        """Give the next demo draft, which no messages asked for."""
        yield Attempt(number, await self.complete((), None, Limits()))

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def differences(then: Sequence[Attempt], now: Sequence[Attempt]) -> list[str]:
    """Return where the verdicts differ from the log's; drafts may have come in another order."""

    def key(draft: Attempt, index: int) -> object:  # a demo draft has only its index
        return (draft.messages, draft.sample, draft.is_longer) if draft.messages else index

    drafts = {key(draft, index): draft for index, draft in enumerate(now)}
    changes = []
    for index, old in enumerate(then):
        problems = old.problems, drafts.get(key(old, index), old).problems
        if problems[0] != problems[1]:
            verdicts = [f"refused ({' '.join(each)})" if each else "accepted" for each in problems]
            changes.append(f"Attempt {index + 1}: {verdicts[0]} then, {verdicts[1]} now.")
    if len(then) != len(now):
        changes.append(f"The log holds {len(then)} attempts, the replay came to {len(now)}.")
    return changes


def word_diff(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield runs of words that are in both (`=`), only in the old text (`-`) or only in the new one (`+`)."""
    from rapidfuzz.distance import Indel  # difflib takes cubic time where words recur

    before, after = (re.findall(r"\s*(?:\w+|[^\w\s])", text) for text in (old, new))
    if len(before) * len(after) > _LONG_DIFF:
        before, after = [old], [new]
    start = new_start = 0
    for match in Indel.opcodes(before, after).as_matching_blocks():
        deleted, inserted = "".join(before[start : match.a]), "".join(after[new_start : match.b])
        blank = deleted[: len(deleted) - len(deleted.lstrip())]
        blank = blank if inserted.startswith(blank) else ""
        start, new_start = match.a + match.size, match.b + match.size
        changed = ("-", deleted.removeprefix(blank)), ("+", inserted.removeprefix(blank))
        runs = (("=", blank), *changed, ("=", "".join(before[match.a : start])))
        yield from (run for run in runs if run[1])
