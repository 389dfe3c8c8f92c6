"""Writes synopses of German TV series in a house style, and refuses to save one that does not hold it.

The names below are the public ones; `synopsis_writer.testing` holds a fake model client for tests.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief, make_brief
    from synopsis_writer.drafting import ModelAuthor, write
    from synopsis_writer.errors import SynopsisError
    from synopsis_writer.examples import Example, Pool, load_example, load_pool
    from synopsis_writer.gate.finding import Finding
    from synopsis_writer.gate.gate import Gate
    from synopsis_writer.house.house import House, load_house
    from synopsis_writer.kinds import Form
    from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
    from synopsis_writer.models.hosted import HostedClient
    from synopsis_writer.prompts.templates import Prompt, Prompts, load_prompts
    from synopsis_writer.result import Attempt, Result
    from synopsis_writer.settings import Settings, load_settings
    from synopsis_writer.show import Show
    from synopsis_writer.synopsis import Outline, Synopsis, parse
    from synopsis_writer.usage import Usage
    from synopsis_writer.writer import Desk, load_desk

__version__ = "0.1.0"

# Where each public name lives. They are imported when they are first used: the command's --help needs none.
_HOMES = {
    "Answer": "models.base",
    "Attempt": "result",
    "Brief": "brief",
    "Desk": "writer",
    "Example": "examples",
    "Finding": "gate.finding",
    "Form": "kinds",
    "Gate": "gate.gate",
    "HostedClient": "models.hosted",
    "Limits": "models.base",
    "Message": "models.base",
    "ModelAuthor": "drafting",
    "ModelClient": "models.base",
    "Outline": "synopsis",
    "Pool": "examples",
    "House": "house.house",
    "Prompt": "prompts.templates",
    "Prompts": "prompts.templates",
    "Result": "result",
    "Settings": "settings",
    "Show": "show",
    "Synopsis": "synopsis",
    "SynopsisError": "errors",
    "Usage": "usage",
    "load_desk": "writer",
    "load_example": "examples",
    "load_pool": "examples",
    "load_house": "house.house",
    "load_prompts": "prompts.templates",
    "load_settings": "settings",
    "make_brief": "brief",
    "parse": "synopsis",
    "write": "drafting",
}

__all__ = [
    "Answer",
    "Attempt",
    "Brief",
    "Desk",
    "Example",
    "Finding",
    "Form",
    "Gate",
    "HostedClient",
    "House",
    "Limits",
    "Message",
    "ModelAuthor",
    "ModelClient",
    "Outline",
    "Pool",
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
    "load_house",
    "load_pool",
    "load_prompts",
    "load_settings",
    "make_brief",
    "parse",
    "write",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'synopsis_writer' has no attribute '{name}'")
    return getattr(importlib.import_module(f"synopsis_writer.{_HOMES[name]}"), name)
