"""Writes synopses of German TV series in a house style, and refuses to save one that does not hold it.

The names below are the public ones; `synopsis_writer.testing` holds a fake model client for tests.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief, make_brief
    from synopsis_writer.client import Answer, Limits, Message, ModelClient, Usage
    from synopsis_writer.client.hosted import HostedClient
    from synopsis_writer.desk import Desk, load_desk
    from synopsis_writer.errors import SynopsisError
    from synopsis_writer.examples import Example, Pool, load_example, load_pool
    from synopsis_writer.kinds import FileFormat, Form
    from synopsis_writer.prompts import Prompt, Prompts, load_prompts
    from synopsis_writer.settings import Settings, load_settings
    from synopsis_writer.shows import Show
    from synopsis_writer.store import save
    from synopsis_writer.style.finding import Finding
    from synopsis_writer.style.gate import Gate
    from synopsis_writer.style.profile import Profile, load_profile
    from synopsis_writer.synopsis import Outline, Synopsis, parse
    from synopsis_writer.writer import Attempt, ModelAuthor, Result, write

__version__ = "0.1.0"

# Where each public name lives. They are imported when they are first used: the command's --help needs none.
_HOMES = {
    "Answer": "client",
    "Attempt": "writer",
    "Brief": "brief",
    "Desk": "desk",
    "Example": "examples",
    "FileFormat": "kinds",
    "Finding": "style.finding",
    "Form": "kinds",
    "Gate": "style.gate",
    "HostedClient": "client.hosted",
    "Limits": "client",
    "Message": "client",
    "ModelAuthor": "writer",
    "ModelClient": "client",
    "Outline": "synopsis",
    "Pool": "examples",
    "Profile": "style.profile",
    "Prompt": "prompts",
    "Prompts": "prompts",
    "Result": "writer",
    "Settings": "settings",
    "Show": "shows",
    "Synopsis": "synopsis",
    "SynopsisError": "errors",
    "Usage": "client",
    "load_desk": "desk",
    "load_example": "examples",
    "load_pool": "examples",
    "load_profile": "style.profile",
    "load_prompts": "prompts",
    "load_settings": "settings",
    "make_brief": "brief",
    "parse": "synopsis",
    "save": "store",
    "write": "writer",
}

__all__ = [
    "Answer",
    "Attempt",
    "Brief",
    "Desk",
    "Example",
    "FileFormat",
    "Finding",
    "Form",
    "Gate",
    "HostedClient",
    "Limits",
    "Message",
    "ModelAuthor",
    "ModelClient",
    "Outline",
    "Pool",
    "Profile",
    "Prompt",
    "Prompts",
    "Result",
    "Settings",
    "Show",
    "Synopsis",
    "SynopsisError",
    "Usage",
    "load_desk",
    "load_example",
    "load_pool",
    "load_profile",
    "load_prompts",
    "load_settings",
    "make_brief",
    "parse",
    "save",
    "write",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'synopsis_writer' has no attribute '{name}'")
    return getattr(importlib.import_module(f"synopsis_writer.{_HOMES[name]}"), name)
