"""The saved file: its front matter, its formats, and how it came about."""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from synopsis_writer.attempt import Attempt, Result
from synopsis_writer.document import format_document
from synopsis_writer.examples import front_matter
from synopsis_writer.kinds import FileFormat
from synopsis_writer.models.base import bill_data
from synopsis_writer.prompts.templates import Prompt
from synopsis_writer.synopsis import Synopsis


@dataclass(frozen=True)
class Origin:
    """Where a synopsis came from: its run, and the prompt (None in the guided strategy)."""

    run: str
    created: datetime
    prompt: Prompt | None = None


def new_origin(prompt: Prompt | None = None) -> Origin:
    """Return the origin of a run that begins now."""
    now = datetime.now(UTC).replace(microsecond=0)
    return Origin(f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", now, prompt)


def demo_label(attempt: Attempt, synopsis: Synopsis) -> str | None:
    """Return the honest label of a guided draft, or None for a text the model wrote itself."""
    by_model = attempt.answer.words_by_model
    if by_model is None:
        return None
    return (
        f"demo draft: {by_model} of {len(synopsis.text.split())} words by the model, the rest from a scaffold"
    )


def record(result: Result, attempt: Attempt, synopsis: Synopsis, origin: Origin) -> dict[str, Any]:
    """Return the front matter of a saved synopsis: its own fields, and how it came about."""
    label = demo_label(attempt, synopsis)
    return {
        **front_matter(result.brief, synopsis),
        **({"draft": label} if label else {}),
        **provenance(result, attempt, origin),
    }


def provenance(result: Result, attempt: Attempt, origin: Origin) -> dict[str, Any]:
    """Return how an attempt came about: model, prompt, tokens and cost of all attempts, verdicts, run."""
    prompt = origin.prompt
    fields: dict[str, Any] = {"model": attempt.answer.model}
    if prompt is not None:
        fields["prompt"] = {"name": prompt.name, "version": prompt.version, "hash": prompt.hash}
        fields["examples"] = list(prompt.example_ids)
    return fields | {
        **bill_data([made.answer for made in result.attempts]),
        "gate": {
            finding.check: finding.value if finding.passed else f"refused: {finding.message}"
            for finding in attempt.findings
        },
        "run": origin.run,
        "created": origin.created.isoformat(),
    }


def render(fields: dict[str, Any], synopsis: Synopsis, file_format: FileFormat) -> str:
    """Return the text of the file."""
    if file_format is FileFormat.JSON:
        return json.dumps({**fields, "text": synopsis.text}, ensure_ascii=False, indent=2) + "\n"
    if file_format is FileFormat.TEXT:
        label = f"\n({fields['draft']})\n" if "draft" in fields else ""
        return f"{synopsis.title}\n\n{synopsis.text}\n{label}"
    return format_document(fields, synopsis.text)
