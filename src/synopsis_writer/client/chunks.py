"""The chunks that the embedded engine streams, and what they add up to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synopsis_writer.client import Finish, Usage
from synopsis_writer.errors import EngineError

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt.

    Attributes:
        text: what the model wrote, without the prompt.
        finish: `stop`, or `length` when the tokens or the context ran out.
        logprobs: natural log-probability of each token, the end token left out; empty unless asked for.
        usage: tokens; of several completions of one prompt only the first counts the prompt.
    """

    text: str
    finish: Finish = "stop"
    logprobs: tuple[float, ...] = ()
    usage: Usage = field(default_factory=Usage)


def check(fault: BaseException | None, chunks: Sequence[Chunk], name: str) -> None:
    """Raise EngineError when the call failed, was refused, or brought nothing."""
    if fault is not None:
        raise EngineError(f"{name}: the engine failed: {_one_line(str(fault))}") from fault
    for chunk in chunks:
        if "error" in chunk:
            message = chunk["error"].get("message", "no reason given")
            raise EngineError(f"{name}: the engine refused the request: {_one_line(str(message))}")
    if not chunks:
        raise EngineError(f"{name}: the engine gave no answer: try again")


def completion(chunks: Sequence[Chunk], index: int) -> Completion:
    """Return the completion number `index` of one call."""
    own = [chunk for chunk in chunks if any(c["index"] == index for c in chunk.get("choices", ()))]
    choices = [choice for chunk in own for choice in chunk["choices"]]
    tokens = [token for choice in choices for token in (choice.get("logprobs") or {}).get("content", ())]
    used = usage(own)
    return Completion(
        text="".join(choice["text"] for choice in choices),
        finish=finish(choices),
        logprobs=tuple(token["logprob"] for token in tokens if token["token"]),
        usage=used if index == 0 else Usage(completion_tokens=used.completion_tokens),
    )


def chat_text(chunks: Sequence[Chunk]) -> str:
    """Return the text that the chunks of a chat add up to."""
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ())
    )


def finish(choices: Sequence[Mapping[str, Any]]) -> Finish:
    """Say why a streamed answer ended; one that just stops was cut."""
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return "stop" if reasons and reasons[-1] == "stop" else "length"


def usage(chunks: Sequence[Chunk]) -> Usage:
    """Return the server's figures, which stand in the last chunk that has any."""
    figures: Mapping[str, Any] = next(
        (chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), {}
    )
    return Usage(
        figures.get("prompt_tokens", 0),
        figures.get("completion_tokens", 0),
        (figures.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
