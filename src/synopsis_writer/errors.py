"""The errors of this package, one tree: a message says in a line what is wrong, where, and the way out."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError

    from synopsis_writer.usage import Cost, Usage


class SynopsisError(Exception):
    """Base of all errors that a caller may want to catch."""

    exit_code: ClassVar[int] = 2  # of the command line
    run: str = ""  # the id of the run in the log that it ended; empty if that is not logged


class InputError(SynopsisError):
    """The input cannot be used as it is."""


class BriefError(InputError):
    """A field of the brief is missing, too long, or contains forbidden characters."""


class FileError(InputError):
    """A file or folder cannot be read or written."""


class ExampleError(InputError):
    """An example, an outline or a show.yaml breaks its format."""


class TemplateError(InputError):
    """A prompt template or a demo scaffold breaks its format."""


class ReplayError(InputError):
    """A logged run cannot be replayed as it was."""


class SettingsError(InputError):
    """The configuration is wrong, or no model is configured."""


class ModelError(SynopsisError):
    """The model, or the connection to it, failed for good."""

    exit_code = 3
    is_transient: bool = False  # another request may succeed
    usage: "Usage | None" = None  # tokens that the server counted anyway
    cost: "Cost | None" = None  # of these; None if it counted none, or if no price is known


class ConnectionFailedError(ModelError):
    """There was no complete answer: refused, timed out, broken off, or not JSON."""

    is_transient = True


class RequestRefusedError(ModelError):
    """The server refused the request: key, quota, model or parameters."""

    def __init__(self, message: str, *, is_transient: bool = False) -> None:
        super().__init__(message)
        self.is_transient = is_transient


class UnavailableError(ModelError):
    """The server cannot be asked for now: it named a time too far off, or was out of reach several times."""


class EngineError(ModelError):
    """The embedded engine or its weights failed."""


class BudgetSpentError(ModelError):
    """The next call could exceed the budget, so it was not made."""


class GateRefusedError(SynopsisError):
    """No attempt passed the gate."""

    exit_code = 1


_MOST_REASONS = 5
# pydantic's words for what it finds are a programmer's; its own limits are in the context.
_WORDS = {
    "too_short": "has {actual_length} entries, {min_length} at least are needed",
    "too_long": "has {actual_length} entries, {max_length} at most are allowed",
    "string_type": "is not a text",
    "tuple_type": "is not a list",
    "list_type": "is not a list",
}


def explain(error: "ValidationError") -> str:
    """Return pydantic's complaints in one line: `field: reason; field: reason`, five at most."""
    reasons, found = [], error.errors(include_url=False)
    parents = {item["loc"][:depth] for item in found for depth in range(1, len(item["loc"]))}
    for item in found:
        if item["type"] == "too_short" and item["loc"] in parents:
            continue  # for its entries are wrong
        message = _WORDS.get(item["type"], item["msg"].replace("{", "{{").replace("}", "}}"))
        reason = message.format(**item.get("ctx", {})).removeprefix("Value error, ")
        field = ".".join(map(str, item["loc"]))
        reasons.append(f"{field}{': ' if field else ''}{reason[:1].lower()}{reason[1:]}")
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "; ".join(reasons[:_MOST_REASONS] + more)


def message_of(error: BaseException) -> str:
    """Return the message of one of our errors, or the kind of any other, which may hold a secret."""
    return str(error) if isinstance(error, SynopsisError) else type(error).__name__


def os_reason(error: OSError, path: Path | str) -> str:
    """Return in one line what the system reported for `path`."""
    return f"{path}: {(error.strerror or str(error)).lower()}"
