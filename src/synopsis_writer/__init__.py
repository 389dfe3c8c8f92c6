"""Writes synopses of German TV series in a house style, and refuses to save one that breaks it."""
# ruff: noqa: F403, F405 - the errors are all public

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synopsis_writer.brief import Brief, make_brief
    from synopsis_writer.document import Document, read_document
    from synopsis_writer.errors import *
    from synopsis_writer.examples import Example, Pool, load_example, load_pool
    from synopsis_writer.formats.sheets import export
    from synopsis_writer.gate.finding import Finding
    from synopsis_writer.gate.gate import Gate
    from synopsis_writer.house import Form, House, load_house
    from synopsis_writer.log import RunLog, Version
    from synopsis_writer.models.base import Answer, Limits, Message, ModelClient
    from synopsis_writer.models.hosted import HostedClient
    from synopsis_writer.models.limits import Budget
    from synopsis_writer.prompts.templates import Prompt
    from synopsis_writer.releasing import NotReleasedError, release
    from synopsis_writer.result import Attempt, Result, RowResult
    from synopsis_writer.revising import Revised
    from synopsis_writer.settings import Settings, load_settings
    from synopsis_writer.show import Show
    from synopsis_writer.synopsis import Outline, Synopsis
    from synopsis_writer.usage import Cost, Usage
    from synopsis_writer.workspace import Report
    from synopsis_writer.writer import Writer

__version__ = "0.1.0"

# Where the public names live, if not in `errors`; imported when first used: the command's --help needs none.
_HOMES = {
    "brief": "Brief make_brief",
    "document": "Document read_document",
    "examples": "Example Pool load_example load_pool",
    "formats.sheets": "export",
    "gate.finding": "Finding",
    "gate.gate": "Gate",
    "house": "Form House load_house",
    "log": "RunLog Version",
    "models.base": "Answer Limits Message ModelClient",
    "models.hosted": "HostedClient",
    "models.limits": "Budget",
    "prompts.templates": "Prompt",
    "releasing": "NotReleasedError release",
    "result": "Attempt Result RowResult",
    "revising": "Revised",
    "settings": "Settings load_settings",
    "show": "Show",
    "synopsis": "Outline Synopsis",
    "usage": "Cost Usage",
    "workspace": "Report",
    "writer": "Writer",
}

__all__ = [
    "Answer", "Attempt", "Brief", "BriefError", "Budget", "BudgetSpentError", "ConnectionFailedError",
    "Cost", "Document", "EngineError", "Example", "ExampleError", "FileError", "Finding", "Form",
    "Gate", "GateRefusedError", "HostedClient", "House", "InputError", "Limits", "Message",
    "ModelClient", "ModelError", "NotReleasedError", "Outline", "Pool", "Prompt", "ReplayError", "Report",
    "RequestRefusedError", "Result", "Revised", "RowResult", "RunLog", "Settings", "SettingsError", "Show",
    "Synopsis", "SynopsisError", "TemplateError", "UnavailableError", "Usage", "Version", "Writer",
    "export", "load_example", "load_house", "load_pool", "load_settings", "make_brief", "read_document",
    "release",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'synopsis_writer' has no attribute '{name}'")
    home = next((module for module, names in _HOMES.items() if name in names.split()), "errors")
    return getattr(importlib.import_module(f"synopsis_writer.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
