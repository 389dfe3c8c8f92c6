"""The embedded engine as a model client: any instruct model in a GGUF file, with its own chat template."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synopsis_writer.client import Answer, Limits, Message
from synopsis_writer.client.engine import Engine
from synopsis_writer.errors import EngineError

# A small model that has lost the thread never closes a string or a list: the grammar closes it.
_MOST_CHARACTERS = {"title": 90, "logline": 320, "name": 80, "role": 160, "beats": 400}
_MOST_CHARACTERS_ELSE = 1500
_MOST_ITEMS = 14


class EmbeddedClient:
    """A `ModelClient` over an engine.

    Args:
        engine: an engine whose model was trained to answer messages; `close` closes it.
        grown: is given the whole answer so far after each piece of it.

    Raises:
        EngineError: the model has no chat template, so it is no instruct model.
    """

    def __init__(self, engine: Engine, grown: Callable[[str], None] | None = None) -> None:
        if not engine.has_chat_template:
            raise EngineError(
                f"{engine.name}: the file holds no chat template, so this is a base model: "
                "take the instruct version of it, often named '-it' or '-instruct'"
            )
        self._engine = engine
        self._grown = grown
        self._turn = asyncio.Lock()  # a call that waits for its slot must not run out of patience

    @property
    def name(self) -> str:
        """The model's name, as files and messages show it."""
        return self._engine.name

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any] | None, limits: Limits
    ) -> Answer:
        """Answer `messages`, held to `schema` by a grammar.

        Raises:
            EngineError: the engine refused the request, or gave no sign for `limits.timeout` seconds.
        """
        async with self._turn:
            shape = None if schema is None else bounded(schema)
            return await self._engine.chat(messages, shape, limits, self._grown)

    async def close(self) -> None:
        """Stop what is being decoded, and give back the memory."""
        self._engine.close()


def bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON schema in which every string and every list has a greatest length."""
    bound: dict[str, Any] = _bounded(schema, "")
    return bound


def _bounded(node: Any, field: str) -> Any:
    if isinstance(node, list):
        return [_bounded(item, field) for item in node]
    if not isinstance(node, Mapping):
        return node
    copy = {key: _bounded(value, field if key == "items" else key) for key, value in node.items()}
    if node.get("type") == "string" and "enum" not in node:
        copy.setdefault("maxLength", _MOST_CHARACTERS.get(field, _MOST_CHARACTERS_ELSE))
    if node.get("type") == "array":
        copy.setdefault("maxItems", _MOST_ITEMS)
    return copy
