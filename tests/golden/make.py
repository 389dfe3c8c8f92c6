"""Writes the golden files: `python -m tests.golden.make PART…`.

The golden files were made by version 0.1.0 as of commit 6ea2334, before the rebuild of `src/`. They say what
that version did, so that a later one can be held to it: the rebuild must not renew them. Where a later change
is meant to change what the program does, only the part that changes is renewed, and the commit that does it
says why:

    prompts    the messages of 33 briefs
    scenes     what commands print, ask of a server and save
    helps      the help of every command
    exits      command lines and their exit codes
    old        the files that the old version left, which no other version can make, and what is made of them
    opened     only the latter: what is made of the files in `old/`
"""

import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.golden import exits, helps, old, scenes
from tests.golden.command import House
from tests.golden.material import DATA, PROMPTS


def house(name: str = "house") -> House:
    """Return an empty house."""
    folder = Path(tempfile.mkdtemp()) / name
    folder.mkdir()
    shared = Path(tempfile.gettempdir()) / "golden-languages"
    shared.mkdir(exist_ok=True)
    return House(folder, shared)


def save(name: str, data: Any) -> None:
    """Write a golden file."""
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    path = DATA / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0) if path.suffix == ".gz" else text.encode())


def make_prompts() -> None:
    found = {}
    for name, arguments in PROMPTS.items():
        made = house()("prompt", *arguments, "--json")
        found[name] = {"code": made.code, **(made.data if made.code == 0 else {"said": made.err})}
    save("prompts.json.gz", found)


def make_scenes() -> None:
    for name, scene in scenes.SCENES.items():
        one = house()
        scene(one)
        save(f"scenes/{name}.json.gz", one.records)


def make_helps() -> None:
    pages = helps.pages(house())
    save("helps.json", {name: page.split("\n") for name, page in pages.items()})


def make_exits() -> None:
    save("exits.json", {one.name: exits.outcome(one, house()) for one in exits.LINES})


def make_old() -> None:
    if old.OLD.exists():
        raise SystemExit(f"{old.OLD} is there: only the version before the rebuild could make it")
    folder = Path(tempfile.gettempdir()) / "golden-old"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    old.make_old(House(folder, house().shared))
    make_opened()


def make_opened() -> None:
    for name, scene in old.OLD_SCENES.items():
        one = house()
        scene(one)
        save(f"opened/{name}.json.gz", one.records)


PARTS: dict[str, Callable[[], None]] = {
    "prompts": make_prompts,
    "scenes": make_scenes,
    "helps": make_helps,
    "exits": make_exits,
    "old": make_old,
    "opened": make_opened,
}

if __name__ == "__main__":
    for part in sys.argv[1:]:
        PARTS[part]()
