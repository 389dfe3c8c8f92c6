"""Public fakes: a client that answers from a script, and a loopback server that speaks OpenAI's protocol."""

from synopsis_writer.testing.batch import Batch, Unasked
from synopsis_writer.testing.batches import BatchServer
from synopsis_writer.testing.client import Call, ScriptedClient, synopsis_json
from synopsis_writer.testing.player import Request
from synopsis_writer.testing.server import LoopbackServer
from synopsis_writer.testing.steps import (
    Body,
    BrokenJson,
    CutBody,
    CutStream,
    Drip,
    Events,
    FailingStream,
    Fault,
    Hangup,
    Html,
    Redirect,
    Reply,
    Silence,
    Step,
    event,
)

__all__ = [
    "Batch",
    "BatchServer",
    "Body",
    "BrokenJson",
    "Call",
    "CutBody",
    "CutStream",
    "Drip",
    "Events",
    "FailingStream",
    "Fault",
    "Hangup",
    "Html",
    "LoopbackServer",
    "Redirect",
    "Reply",
    "Request",
    "ScriptedClient",
    "Silence",
    "Step",
    "Unasked",
    "event",
    "synopsis_json",
]
