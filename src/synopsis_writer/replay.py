"""Replaying a run: the pipeline once more, with the answers of the log in place of a model."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from synopsis_writer.client import Answer, Limits, Message
from synopsis_writer.errors import ConnectionFailed, ReplayError
from synopsis_writer.runlog import Entry, Run, messages_hash
from synopsis_writer.writer import Attempt, Draft


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
            ConnectionFailed: the run holds no further answer to them; as then, none came.
        """
        wanted = messages_hash(messages)
        is_longer = limits.max_tokens > self._max_tokens
        for place, (asked, entry) in enumerate(self._left):
            if (asked, entry.repeat, entry.is_longer) == (wanted, limits.repeat, is_longer):
                del self._left[place]
                return entry.answer
        if wanted in self._known or not self._left:
            raise ConnectionFailed(f"run {self._run.id} holds no further answer: it ended there")
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
            raise ConnectionFailed(f"run {self._run.id} holds no further answer: it ended there")
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
