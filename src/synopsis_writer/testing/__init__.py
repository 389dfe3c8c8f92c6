"""Public fakes: a scripted client for the writer, and a loopback server with faults for the real client."""

from synopsis_writer.testing.client import Call, ScriptedClient, ScriptUsedUp
from synopsis_writer.testing.server import (
    BrokenJson,
    CutBody,
    Fault,
    Hangup,
    Html,
    LoopbackServer,
    Reply,
    Request,
    Silence,
)

__all__ = [
    "BrokenJson",
    "Call",
    "CutBody",
    "Fault",
    "Hangup",
    "Html",
    "LoopbackServer",
    "Reply",
    "Request",
    "ScriptUsedUp",
    "ScriptedClient",
    "Silence",
]
