"""The loopback servers that the golden files were made with: the one place that knows where they live."""

from collections.abc import Callable
from typing import Any

from tests.support.loopback import Fault, Hangup, LoopbackServer, Reply, Request
from tests.support.provider import Batch, BatchServer, Unasked

__all__ = [
    "Batch",
    "BatchServer",
    "Fault",
    "Hangup",
    "LoopbackServer",
    "Reply",
    "Request",
    "Unasked",
    "restored_server",
    "state_of",
]


def state_of(server: BatchServer) -> dict[str, Any]:
    """Return the files and batches that a provider has, as JSON."""
    return {
        "files": {name: content.decode() for name, content in server.files.items()},
        "batches": [
            {"id": batch.id, "file": batch.file, "metadata": batch.metadata, "requests": batch.requests}
            for batch in server.batches
        ],
    }


def restored_server(state: dict[str, Any], answer: Callable[[Any], Reply | Fault | Unasked]) -> BatchServer:
    """Return a provider with what `state_of` returned, its batches still in progress."""
    server = BatchServer(answer)
    server.files = {name: content.encode() for name, content in state["files"].items()}
    for one in state["batches"]:
        batch = Batch(one["id"], one["file"], one["metadata"], status="in_progress")
        batch.requests = one["requests"]
        server.batches.append(batch)
    return server
