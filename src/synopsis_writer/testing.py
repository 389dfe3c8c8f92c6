"""For your own tests: a model client that answers from a script, and answers to put into the script."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from synopsis_writer.examples import Example
from synopsis_writer.models.base import Answer, Limits, Message, Schema
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.usage import Usage

__all__ = ["Call", "ScriptedClient", "synopsis_json"]

_USAGE = Usage(prompt_tokens=100, completion_tokens=50)


@dataclass(frozen=True)
class Call:
    """What a client was asked."""

    messages: tuple[Message, ...]
    schema: Schema | None
    limits: Limits


class ScriptedClient:
    """A `ModelClient` that gives answers in order: texts of 100 + 50 tokens, Answers, or errors to raise."""

    def __init__(self, answers: Iterable[str | Answer | BaseException], name: str = "scripted") -> None:
        self._answers = list(answers)
        self.name = name
        self.calls: list[Call] = []  # what it was asked, in order
        self.closed = False  # whether `close` was called

    @property
    def left(self) -> int:
        """How many answers have not been asked for yet."""
        return max(0, len(self._answers) - len(self.calls))

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Give the next answer, or raise it; raises AssertionError where the script is used up."""
        self.calls.append(Call(tuple(messages), schema, limits))
        if len(self.calls) > len(self._answers):
            asked = f"call {len(self.calls)} to '{self.name}', but its script has {len(self._answers)} answers"
            raise AssertionError(f"{asked}: add one, or find out what makes the extra call")
        answer = self._answers[len(self.calls) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return Answer(answer, usage=_USAGE, model=self.name) if isinstance(answer, str) else answer

    async def close(self) -> None:
        """Record that the client was closed."""
        self.closed = True


def synopsis_json(story: str | Synopsis | Example, **fields: Any) -> str:
    """Return the JSON of an answer that gives a story, of which parts between blank lines are paragraphs."""
    if isinstance(story, Example):
        story = story.synopsis
    if isinstance(story, Synopsis):
        data = story.model_dump(mode="json")
    else:
        data = {
            "title": "Der Schlüssel",
            "logline": "Eine Ärztin findet einen Schlüssel und verliert beinahe einen Freund.",
            "characters": [{"name": "Klara Winter", "role": "Ärztin"}],
            "paragraphs": [{"storyline": "A", "text": part} for part in story.split("\n\n") if part.strip()],
        }
    return Synopsis.model_validate({**data, **fields}).as_json()
