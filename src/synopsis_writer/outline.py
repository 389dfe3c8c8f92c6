"""The staged way: a plan first, to be edited by hand, then the text."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from synopsis_writer.brief import Brief
from synopsis_writer.client import Answer, Limits, Message, ModelClient
from synopsis_writer.document import read_fields
from synopsis_writer.errors import ExampleError, GateRefused
from synopsis_writer.prompts import Prompt, Prompts
from synopsis_writer.runlog import Entry
from synopsis_writer.synopsis import Outline, parse, wire_schema
from synopsis_writer.writer import longer, withheld_because
from synopsis_writer.yamlblock import format_yaml


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
    problem = ""
    for number in range(1, attempts + 1):
        watch(f"attempt {number} of {attempts}: asking {client.name} for an outline")
        asked = replace(limits, repeat=number - 1)
        answer = await client.complete(messages, wire_schema(Outline), asked)
        planned, problem = _read(answer)
        record(_entry(number, messages, answer, problem))
        if planned is None and answer.finish == "length":
            answer = await client.complete(messages, wire_schema(Outline), longer(asked))
            planned, problem = _read(answer)
            record(_entry(number, messages, answer, problem))
        if planned is not None:
            return planned
        watch(f"attempt {number} of {attempts}: refused; {problem}")
        has_words = answer.text and not withheld_because(answer)
        messages = prompts.repair(prompt, answer.text, [problem]) if has_words else prompt.messages
    raise GateRefused(f"no answer had the structure of an outline: {problem}")


def _read(answer: Answer) -> tuple[Outline | None, str]:
    """Return the outline in an answer, or None and why it holds none."""
    if withheld := withheld_because(answer):
        return None, withheld
    parsed = parse(answer.text, Outline)
    return parsed.value, "" if parsed.value is not None else f"structure: {parsed.problem}"


def _entry(number: int, messages: Sequence[Message], answer: Answer, problem: str) -> Entry:
    return Entry(number, tuple(messages), answer, not problem, (problem,) if problem else ())


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
