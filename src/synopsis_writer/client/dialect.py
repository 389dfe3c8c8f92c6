"""Dialects: what a server takes of the protocol for one model, found out by asking."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from synopsis_writer.client.retry import is_quota

if TYPE_CHECKING:
    import openai

_REFUSED = frozenset({400, 422, 501})
# The field of a request, and what servers call it; the cheapest to do without first.
_NAMES = {
    "prompt_cache_key": re.compile(r"prompt.?cache.?key", re.IGNORECASE),
    "stream_options": re.compile(r"stream.?options|include.?usage", re.IGNORECASE),
    "temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
    "response_format": re.compile(
        r"response.?format|json.?schema|json.?object|structured.?output", re.IGNORECASE
    ),
    "max_completion_tokens": re.compile(r"max.?completion.?tokens", re.IGNORECASE),
    "max_tokens": re.compile(r"max.?tokens", re.IGNORECASE),
    "stream": re.compile(r"\bstream(ing)?\b", re.IGNORECASE),
}
# A limit that is too high is no unknown field: another name for it would not help.
_TOO_MUCH = re.compile(r"too (large|long|many|high)|maximum|at most|less than|context.?length", re.IGNORECASE)
# What is changed where a field is refused; `max_tokens` is, by a new model behind an old name.
_WITHOUT: Mapping[str, Mapping[str, Any]] = {
    "prompt_cache_key": {"cache_key": False},
    "stream_options": {"streaming": "bare"},
    "temperature": {"temperature": False},
    "max_completion_tokens": {"limit_field": "max_tokens"},
    "max_tokens": {"limit_field": "max_completion_tokens"},
    "stream": {"streaming": "none"},
}


@dataclass(frozen=True)
class Dialect:
    """What is sent to one model of one server.

    Attributes:
        answer_format: how the answer's shape is asked for; `plain` is not at all.
        limit_field: the name of the field that bounds the answer.
        cache_key: whether `prompt_cache_key` is sent.
        temperature: whether `temperature` is sent; reasoning models refuse it.
        streaming: a stream with the usage at its end, one without, or none.
    """

    answer_format: Literal["json_schema", "json_object", "plain"] = "json_schema"
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    cache_key: bool = True
    temperature: bool = True
    streaming: Literal["usage", "bare", "none"] = "usage"


# Their reasoning models refuse `max_tokens`; most others ignore `max_completion_tokens` without a word.
_NEW_NAME = re.compile(
    r"^([^/]*\.)?(api\.openai\.com|openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)"
    r"\.?(:\d+)?(/|$)",
    re.IGNORECASE,
)


def first_dialect(server: str) -> Dialect:
    """Return the dialect to begin with at a server, given by host, port and path."""
    return Dialect(limit_field="max_completion_tokens") if _NEW_NAME.search(server) else Dialect()


def next_dialect(
    dialect: Dialect, fault: "openai.APIStatusError", request: Mapping[str, Any]
) -> Dialect | None:
    """Return the dialect to try after `fault`, or None where the fault has nothing to do with it.

    Args:
        dialect: the one that was refused.
        fault: what the server said; it must name the field.
        request: what was sent: only a field in it can have been refused.
    """
    if fault.status_code not in _REFUSED or is_quota(fault):
        return None
    named = fault.param if isinstance(fault.param, str) and fault.param else None
    said = f"{fault.message} {fault.body}"
    for field, name in _NAMES.items():
        if field in request and name.search(named or said):
            return None if "tokens" in field and _TOO_MUCH.search(said) else _without(dialect, field)
    return None


def _without(dialect: Dialect, field: str) -> Dialect:
    if field == "response_format":
        return replace(
            dialect, answer_format="json_object" if dialect.answer_format == "json_schema" else "plain"
        )
    return replace(dialect, **_WITHOUT[field])


def learned(before: Dialect, after: Dialect, current: Dialect) -> Dialect:
    """Return `current` with what changed from `before` to `after`; others may have learned besides."""
    old, new = asdict(before), asdict(after)
    return replace(current, **{field: value for field, value in new.items() if value != old[field]})
