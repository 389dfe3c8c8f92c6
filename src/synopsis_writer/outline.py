"""The staged way: a plan first, to be edited by hand, then the text."""

from collections.abc import Callable, Sequence
from pathlib import Path

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.document import format_yaml, read_fields
from synopsis_writer.errors import ExampleError, GateRefused
from synopsis_writer.prompts import Prompt, Prompts
from synopsis_writer.runlog import Entry
from synopsis_writer.synopsis import Outline, Parsed, parse, wire_schema


class _OutlineFile(Outline):
    brief: Brief


async def plan(
    client: ModelClient,
    prompts: Prompts,
    prompt: Prompt,
    limits: Limits,
    *,
    attempts: int,
    watch: Callable[[str], None],
    record: Callable[[Entry], None] = lambda _: None,
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
        problems = () if parsed.value is not None else (f"structure: {parsed.problem}",)
        record(Entry(number, tuple(messages), answer, parsed.value is not None, problems))
        if parsed.value is not None:
            return parsed.value
        watch(f"attempt {number} of {attempts}: refused; " + " ".join(problems))
        messages = prompts.repair(prompt, answer.text, problems)
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
    planned = read_fields(path, _OutlineFile, ExampleError)
    return planned.brief, Outline.model_validate(planned.model_dump(exclude={"brief"}))
