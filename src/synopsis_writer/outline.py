"""The staged way: a plan first, to be edited by hand, then the text."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.document import Document, format_yaml, read_text, read_yaml
from synopsis_writer.errors import ExampleError, GateRefused, InputError
from synopsis_writer.examples import read_brief
from synopsis_writer.prompts import Prompt, Prompts
from synopsis_writer.synopsis import Outline, Parsed, parse, wire_schema


async def plan(
    client: ModelClient,
    prompts: Prompts,
    prompt: Prompt,
    limits: Limits,
    *,
    attempts: int,
    watch: Callable[[str], None],
) -> Outline:
    """Ask for an outline, and again with what was wrong, `attempts` times at most.

    Raises:
        GateRefused: no answer had the structure of an outline.
        ModelError: the model failed for good.
    """
    messages: Sequence[Message] = prompt.messages
    parsed: Parsed[Outline] = Parsed(None)
    for number in range(1, attempts + 1):
        watch(f"attempt {number} of {attempts}: asking {client.name} for an outline")
        answer: Answer = await client.complete(messages, wire_schema(Outline), limits)
        parsed = parse(answer.text, Outline)
        if parsed.value is not None:
            return parsed.value
        watch(f"attempt {number} of {attempts}: refused; structure: {parsed.problem}")
        messages = prompts.repair(prompt, answer.text, [f"structure: {parsed.problem}"])
    raise GateRefused(f"no answer had the structure of an outline: {parsed.problem}")


def format_outline(brief: Brief, outline: Outline) -> str:
    """Return the YAML a person edits: the brief, and the plan below it."""
    return format_yaml({"brief": brief.as_data(), **outline.model_dump(mode="json")})


def load_outline(path: Path) -> tuple[Brief, Outline]:
    """Read an outline file.

    Raises:
        ExampleError: a field is missing or wrong; names file and line.
        FileError: it cannot be read.
    """
    try:
        meta, lines = read_yaml(read_text(path), path)
    except InputError as error:
        raise ExampleError(str(error)) from error
    document = Document(path, meta, "", lines)
    brief = read_brief(document)
    try:
        return brief, Outline.model_validate({key: value for key, value in meta.items() if key != "brief"})
    except ValidationError as error:
        raise ExampleError(document.explain(error)) from error
