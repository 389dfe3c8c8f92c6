"""Public fakes: a client that answers from a script, and a loopback server that speaks OpenAI's protocol."""

from synopsis_writer.testing.client import Call, ScriptedClient, synopsis_json
from synopsis_writer.testing.server import LoopbackServer, Request
from synopsis_writer.testing.steps import (
    Body,
    BrokenJson,
    CutBody,
    Drip,
    Fault,
    Hangup,
    Html,
    Reply,
    Silence,
    Step,
)

__all__ = [
    "Body",
    "BrokenJson",
    "Call",
    "CutBody",
    "Drip",
    "Fault",
    "Hangup",
    "Html",
    "LoopbackServer",
    "Reply",
    "Request",
    "ScriptedClient",
    "Silence",
    "Step",
    "synopsis_json",
]
