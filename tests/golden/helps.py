"""What the help of each command promises: its commands, arguments, flags and defaults."""

import re
from typing import Any

from tests.golden.command import House

_SECTION = re.compile(r"(?m)^(Arguments|Options|Commands):\n((?:  .*\n)*)")
_ITEM = re.compile(r"(?m)^  (?=\S)")
_DEFAULT = re.compile(r"\[default: ([^;\]]*)[;\]]")


def pages(house: House) -> dict[str, str]:
    """Return the help of every command, by its name; the program's own is called `synopsis`."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        name = waiting.pop(0)
        text = house(*name, "--help", keep=False).out
        found[" ".join(("synopsis", *name))] = text
        waiting += [(*name, command) for command in promise(text)["commands"]]
    return found


def promise(page: str) -> dict[str, Any]:
    """Return what a page of help promises, its prose and the names of types left out."""
    sections = {name: _items(body) for name, body in _SECTION.findall(page + "\n")}
    return {
        "commands": sorted(item.split()[0] for item in sections.get("Commands", ())),
        "arguments": [
            {"name": re.sub(r" <.*", "", item.split("  ")[0]), "is_required": "[required]" in item, **_default(item)}
            for item in sections.get("Arguments", ())
        ],
        "options": {
            ", ".join(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", item.split("  ")[0])): {
                "is_required": "[required]" in item,
                **_default(item),
            }
            for item in sections.get("Options", ())
        },
    }


def _items(body: str) -> list[str]:
    """Return the entries of a section, each in one line; two blanks separate the names from the rest."""
    entries = [entry for entry in _ITEM.split(body) if entry.strip()]
    return ["  ".join(part.strip() for part in re.split(r"\s{2,}", entry.strip())) for entry in entries]


def _default(item: str) -> dict[str, str]:
    found = _DEFAULT.search(item.replace("  ", " "))
    return {"default": found[1].strip()} if found else {}
