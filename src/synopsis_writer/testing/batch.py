"""A batch of a provider, as the loopback server holds it."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synopsis_writer.testing.steps import Fault, Reply

_MADE, _DAY = 1_700_000_000, 86_400
Ask = Mapping[str, Any]


@dataclass(frozen=True)
class Unasked:
    """What becomes of a request whose turn does not come: `batch_expired`, or `batch_cancelled`."""

    code: str = "batch_expired"


Outcome = Reply | Fault | Unasked


@dataclass
class Batch:
    """A batch as the server holds it.

    Attributes:
        id: its name.
        file: the name of its file of requests.
        metadata: what it was made with.
        status: as OpenAI calls it.
        requests: the lines of its file.
        output, errors: the lines that it gives, in no order.
        problems: what the check found, where it failed.
    """

    id: str
    file: str
    metadata: dict[str, str]
    status: str = "validating"
    requests: list[Ask] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def end(self, status: str, answer: Callable[[Ask], "Outcome"], rng: random.Random) -> None:
        """Come to an end: the results are there, in no order."""
        self.status = status
        for ask in self.requests:
            self._result(ask, answer(ask["body"]))
        rng.shuffle(self.output)
        rng.shuffle(self.errors)

    def contents(self) -> dict[str, bytes]:
        """Return the files of results by their names; one without lines is none."""
        kinds = {"output": self.output, "errors": self.errors}
        return {f"{self.id}_{kind}": "".join(lines).encode() for kind, lines in kinds.items() if lines}

    def _result(self, ask: Ask, outcome: "Outcome") -> None:
        line: dict[str, Any] = {"id": f"batch_req_{ask['custom_id']}", "custom_id": ask["custom_id"]}
        match outcome:
            case Reply():
                body = outcome.as_data(f"{ask['body']['model']}-2026")
                line |= {"response": {"status_code": 200, "request_id": "r", "body": body}, "error": None}
                self.output.append(json.dumps(line) + "\n")
                return
            case Fault():
                said = outcome.as_data()
                line |= {"response": {"status_code": outcome.status, "body": said}, "error": None}
            case Unasked():
                words = "This request could not be executed before the batch ended."
                line |= {"response": None, "error": {"code": outcome.code, "message": words}}
        self.errors.append(json.dumps(line) + "\n")

    def as_data(self) -> dict[str, Any]:
        """Return what the server tells of it."""
        files = self.contents() if self.status not in {"validating", "in_progress", "cancelling"} else {}
        names = {kind: name for kind in ("output", "errors") if (name := f"{self.id}_{kind}") in files}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": names.get("output"),
            "error_file_id": names.get("errors"),
            "errors": {"object": "list", "data": self.problems} if self.problems else None,
            "created_at": _MADE,
            "expires_at": _MADE + _DAY,
            "request_counts": {
                "total": len(self.requests),
                "completed": len(self.output),
                "failed": len(self.errors),
            },
            "metadata": self.metadata,
        }
