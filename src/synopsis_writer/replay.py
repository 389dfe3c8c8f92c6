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
    """

    def __init__(self, run: Run, entries: Sequence[Entry]) -> None:
        self._run = run
        self._known = {messages_hash(entry.messages) for entry in entries}
        self._left = [(messages_hash(entry.messages), entry.answer) for entry in entries]

    @property
    def name(self) -> str:
        """The name of the model that answered."""
        return self._run.model

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any] | None,  # noqa: ARG002 - the log knows what was answered
        limits: Limits,  # noqa: ARG002
    ) -> Answer:
        """Give the next answer to these messages.

        Raises:
            ReplayError: they were never asked in this run: templates, examples or verdicts have changed.
            ConnectionFailed: the run holds no further answer to them; as then, none came.
        """
        wanted = messages_hash(messages)
        for place, (asked, answer) in enumerate(self._left):
            if asked == wanted:
                del self._left[place]
                return answer
        if wanted in self._known or not self._left:
            raise ConnectionFailed(f"run {self._run.id} holds no further answer: it ended there")
        raise ReplayError(
            f"run {self._run.id} asked otherwise: templates, examples or the gate have changed since; "
            "replay with the ones of then, or write anew"
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
    """Say, a sentence each, where the verdicts are no longer those of the log."""
    found = [
        f"Attempt {place}: {_verdict(entry.problems)} then, {_verdict(attempt.problems)} now."
        for place, (entry, attempt) in enumerate(zip(entries, attempts, strict=False), start=1)
        if entry.problems != attempt.problems
    ]
    if len(entries) != len(attempts):
        found.append(f"The log holds {len(entries)} attempts, the replay came to {len(attempts)}.")
    return found


def _verdict(problems: Sequence[str]) -> str:
    return f"refused ({' '.join(problems)})" if problems else "accepted"
