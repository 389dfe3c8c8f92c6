"""A GGUF model in this process, through llama.cpp."""

import asyncio
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from synopsis_writer.errors import EngineError, FileError
from synopsis_writer.models.base import Answer, Limits, Message, Schema
from synopsis_writer.models.download import INSTALL, MAGIC
from synopsis_writer.models.responses import StreamedAnswer, read_usage
from synopsis_writer.storage.files import open_input
from synopsis_writer.usage import Usage

Chunk = dict[str, Any]

_MOST_BYTES = 10**12
_HEADER_BYTES = 64 * 1024 * 1024  # more than the largest vocabulary in use; the tensors that follow run to GB
_LONGEST_END = 10.0  # seconds that a call which is stopped goes on
_LONGEST_SOCKET = 100  # characters of a socket's name, which systems limit to 104 or 108
# `top_k` 0 would halve the speed with a vocabulary of 262,000 tokens.
_SAMPLING = {"top_k": 40, "top_p": 0.95, "min_p": 0.08, "repeat_penalty": 1.0}
# A small model that has lost the thread never closes a string or a list: the grammar closes it.
_MOST_CHARACTERS = {"title": 90, "logline": 320, "name": 80, "role": 160, "beats": 400}
_MOST_OTHER_CHARACTERS, _MOST_ITEMS = 1500, 14


@dataclass(frozen=True)
class Completion:
    """One continuation of a prompt, without the prompt."""

    text: str
    logprobs: tuple[float, ...] = ()  # natural, of each token but the end token; empty unless asked for
    usage: Usage = field(default_factory=Usage)  # of several of one prompt only the first counts the prompt


class Engine:
    """A GGUF model loaded into this process; raises EngineError if engine or file are missing or broken."""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "",  # as files and messages show it; empty: the file's name
        context: int = 14_336,  # tokens of prompt and answer together; each slot has an equal share of them
        slots: int = 1,  # completions decoded side by side, 1 to 16
        threads: int = 1,  # more are faster on an idle machine, and collapse on a busy one
        chat_template: str = "",  # Jinja, in place of the file's own
    ) -> None:
        self.name = name or path.name
        self.has_chat_template = bool(chat_template) or _holds_chat_template(path)
        self._slots = slots
        self._closed = threading.Event()
        self._server: Any = _load(path, context, slots, threads, chat_template)

    async def complete(
        self,
        prompt: str,
        *,
        grammar: str = "",
        n: int = 1,
        max_tokens: int = 64,
        temperature: float = 0.4,
        seed: int = 0,
        logprobs: bool = False,
        timeout: float = 180.0,  # noqa: ASYNC109 - of silence, not of the call
    ) -> list[Completion]:
        """Continue `prompt` `n` times, within the GBNF `grammar` if one is given; raises EngineError."""
        if not 1 <= n <= self._slots:
            raise EngineError(f"{n} completions asked of an engine with {self._slots} slots: open it with more")
        request: dict[str, Any] = {"prompt": prompt, "n": n, "max_tokens": max_tokens, "seed": seed}
        request |= {"temperature": temperature, "grammar": grammar, "n_probs": int(logprobs), **_SAMPLING}
        chunks = await self.run("handle_completions", request, timeout)
        return [completion(chunks, index) for index in range(n)]

    def close(self) -> None:
        """Stop what is being decoded, and free the memory; a second call does nothing."""
        self._closed.set()
        self._server = None

    async def run(
        self,
        method: str,  # of the library's server: it streams, and stops when the callback returns true
        request: dict[str, Any],
        timeout: float,  # noqa: ASYNC109 - of silence, not of the call
        on_chunk: Callable[[Chunk], None] | None = None,
    ) -> list[Chunk]:
        """Stream `request` in a worker thread, so that a cancelled task or Ctrl-C can stop it."""
        if self._server is None:
            raise EngineError(f"{self.name}: the engine is closed: open a new one")
        loop, stop = asyncio.get_running_loop(), threading.Event()
        chunks: list[Chunk] = []
        last_chunk_at = time.monotonic()

        def take(chunk: Chunk) -> bool:
            nonlocal last_chunk_at
            last_chunk_at = time.monotonic()
            chunks.append(chunk)
            if on_chunk is not None and "error" not in chunk and not stop.is_set():
                loop.call_soon_threadsafe(on_chunk, chunk)
            return stop.is_set() or self._closed.is_set()

        # Progress reports make the engine call back while it still reads the prompt.
        request |= {"stream": True, "return_progress": True}
        # No name here holds the server, so that no traceback keeps it.
        work = asyncio.ensure_future(asyncio.to_thread(getattr(self._server, method), request, take))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=max(0.1, last_chunk_at + timeout - time.monotonic()))
                if not work.done() and time.monotonic() - last_chunk_at > timeout:
                    raise EngineError(
                        f"{self.name}: no sign for {timeout:.0f} s: allow more time, or take a smaller model"
                    )
        finally:
            stop.set()
            await asyncio.wait({work}, timeout=_LONGEST_END)  # a server still at work when the process ends crashes it
        refused = next((chunk["error"].get("message", "") for chunk in chunks if "error" in chunk), None)
        reason = "" if chunks else "gave no answer: try again"
        if self._closed.is_set():
            reason = "was closed while it answered"
        elif (fault := work.exception()) is not None:
            reason = f"failed: {' '.join(str(fault).split())[:300]}"
        elif refused is not None:
            reason = f"refused the request: {' '.join(str(refused).split())[:300]}"
        if reason:
            raise EngineError(f"{self.name}: the engine {reason}") from work.exception()
        return chunks


class EmbeddedClient:
    """A `ModelClient` over an engine; raises EngineError unless its model was trained to answer messages."""

    def __init__(self, engine: Engine, on_text: Callable[[str], None] | None = None) -> None:
        if not engine.has_chat_template:
            raise EngineError(
                f"{engine.name}: the file holds no chat template, so this is a base model: "
                "take the instruct version of it, often named '-it' or '-instruct'"
            )
        self.name, self._engine, self._on_text = engine.name, engine, on_text
        self._turn = asyncio.Lock()  # a call that waits for its slot must not time out

    async def complete(self, messages: Sequence[Message], schema: Schema | None, limits: Limits) -> Answer:
        """Answer `messages`, with `schema` enforced by a grammar; EngineError if refused, or silent."""
        request: dict[str, Any] = {
            "messages": [asdict(message) for message in messages],
            "max_tokens": limits.max_tokens,
            "stream_options": {"include_usage": True},
            # Thinking aloud costs minutes here; templates that do not know the word ignore it.
            "chat_template_kwargs": {"enable_thinking": False},
            **({} if limits.temperature is None else {"temperature": limits.temperature}),
        }
        if schema is not None:
            request["response_format"] = {"type": "json_schema", "json_schema": {"schema": bounded(schema)}}
        answer = StreamedAnswer(self._on_text)
        async with self._turn:
            start = time.monotonic()
            await self._engine.run("handle_chat_completions", request, limits.timeout, answer.add)
        result = answer.result(time.monotonic() - start, self.name)
        finish = result.finish if answer.is_finished else "length"  # one that just stops was truncated
        return replace(result, finish=finish, model=self.name)

    async def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def bounded(node: Any, field: str = "") -> Any:
    """Return a copy of a JSON schema in which every string and every list has a maximum length."""
    if isinstance(node, list):
        return [bounded(item, field) for item in node]
    if not isinstance(node, Mapping):
        return node
    copy = {key: bounded(value, field if key == "items" else key) for key, value in node.items()}
    if node.get("type") == "string" and "enum" not in node:
        copy.setdefault("maxLength", _MOST_CHARACTERS.get(field, _MOST_OTHER_CHARACTERS))
    if node.get("type") == "array":
        copy.setdefault("maxItems", _MOST_ITEMS)
    return copy


def _holds_chat_template(path: Path) -> bool:
    """Return whether the header names a chat template; raise EngineError unless `path` is a GGUF file."""
    try:
        with open_input(path, _MOST_BYTES) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise EngineError(f"{path}: is not a GGUF file: name a model in the GGUF format")
            return b"tokenizer.chat_template" in file.read(_HEADER_BYTES)
    except FileError as error:
        fix = ": name a GGUF file you can read" if isinstance(error.__cause__, OSError) else ""
        raise EngineError(f"model {error}{fix}") from error


def _load(path: Path, context: int, slots: int, threads: int, chat_template: str) -> Any:
    # OpenMP reads them once from the environment; its spinning threads would starve a busy machine.
    openmp = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    for name, value in openmp.items():
        os.environ.setdefault(name, value)
    try:
        import xllamacpp
    except ImportError as error:
        raise EngineError(f"the embedded engine is not installed: {INSTALL}") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.verbosity, params.cache_ram_mib, params.warmup = -1, 0, False
    params.n_ctx, params.n_parallel, params.chat_template = context, slots, chat_template
    params.n_batch = params.n_ubatch = 128  # tokens read at once: so long a cancelled call may still work
    # A model with a sliding window can go back to a checkpoint alone: one a turn, so that the next prompt
    # re-reads only the turns that differ. Each takes as much memory as the window, 8 MB with Gemma 3 270M.
    params.checkpoint_min_step = 256  # tokens; an example takes about 1,100
    params.n_ctx_checkpoints = 8  # the last turns of a prompt and those of its repair
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # The library listens whatever we say: on a socket whose name is gone once it is open, or else on a
    # loopback port. A key that nobody knows shuts it, and no page of a browser gets an answer.
    params.api_keys = [secrets.token_hex(32)]
    params.cors_origins = f"https://{secrets.token_hex(16)}.invalid"
    params.ui = params.endpoint_slots = params.endpoint_props = False
    try:
        with tempfile.TemporaryDirectory(prefix="synopsis-") as folder:
            socket = f"{folder}/llama.sock"
            if os.name == "posix" and len(socket) < _LONGEST_SOCKET:
                params.hostnames = [socket]
            return xllamacpp.Server(params)
    except RuntimeError as error:
        raise EngineError(
            f"{path}: the engine cannot load it: it is cut off, or of a kind that xllamacpp does not know: "
            "download it again, or take another"
        ) from error


def completion(chunks: Sequence[Chunk], index: int) -> Completion:
    """Return one of the completions of a call, by its index."""
    found = [(one, choice) for one in chunks for choice in one.get("choices", ()) if choice["index"] == index]
    choices = [choice for _, choice in found]
    tokens = [token for choice in choices for token in (choice.get("logprobs") or {}).get("content", ())]
    logprobs = tuple(token["logprob"] for token in tokens if token["token"])
    counted = (chunk["usage"] for chunk, _ in reversed(found) if chunk.get("usage"))
    usage = read_usage(next(counted, None))  # the last is the whole
    usage = usage if index == 0 else Usage(completion_tokens=usage.completion_tokens)
    return Completion("".join(choice["text"] for choice in choices), logprobs, usage)
