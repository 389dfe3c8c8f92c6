"""A model client that gives scripted answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synopsis_writer.client import Answer, Limits, Message


@dataclass(frozen=True)
class Call:
    """What a client was asked."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None
    limits: Limits


class ScriptUsedUp(AssertionError):
    """More was asked than the script holds."""


class ScriptedClient:
    """Answers from a script, in order.

    Args:
        script: answers, their bare texts, or exceptions to raise.
        name: the model's name.

    Attributes:
        calls: what was asked so far.
    """

    def __init__(self, script: Iterable[str | Answer | Exception], name: str = "scripted") -> None:
        self._script = list(script)
        self._name = name
        self.calls: list[Call] = []

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Give the next answer, or raise the next exception.

        Raises:
            ScriptUsedUp: there is none left.
        """
        self.calls.append(Call(tuple(messages), schema, limits))
        if len(self.calls) > len(self._script):
            raise ScriptUsedUp(f"call {len(self.calls)}, but the script holds {len(self._script)} answers")
        step = self._script[len(self.calls) - 1]
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Answer) else Answer(step, model=self._name)

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""
