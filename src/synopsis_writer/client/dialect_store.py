"""The file that remembers dialects, so that a server is asked only once what it takes."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from synopsis_writer.client.dialect import Dialect, first_dialect, learned

DIALECTS_FILE = "dialects.json"
_KEEP_SECONDS = 30 * 24 * 3600.0  # servers get updated: what one refused last month it may take now


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    server: str
    model: str
    since: float
    dialect: Dialect


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dialects: list[_Entry] = []


@dataclass(frozen=True)
class DialectStore:
    """Dialects by server and model, in one JSON file; an entry is forgotten 30 days after it was learned.

    A file that cannot be read or written costs a request, and nothing else.

    Attributes:
        path: the file; None remembers nothing.
        clock: the time in seconds since 1970.
    """

    path: Path | None = None
    clock: Callable[[], float] = field(default=time.time)

    def find(self, server: str, model: str) -> Dialect:
        """Return what is known, or the dialect to begin with.

        Args:
            server: host, port and path, without what an address may hold of names and passwords.
            model: the model's name.
        """
        for entry in self._read():
            if (entry.server, entry.model) == (server, model):
                return entry.dialect
        return first_dialect(server)

    def learn(self, server: str, model: str, before: Dialect, after: Dialect) -> None:
        """Note what changed from `before` to `after`, beside what others noted meanwhile."""
        if self.path is None or before == after:
            return
        others = [entry for entry in self._read() if (entry.server, entry.model) != (server, model)]
        known = learned(before, after, self.find(server, model))
        entry = _Entry(server=server, model=model, since=self.clock(), dialect=known)
        with contextlib.suppress(OSError):
            _replace(self.path, _File(dialects=[*others, entry]).model_dump(mode="json"))

    def _read(self) -> list[_Entry]:
        if self.path is None:
            return []
        try:
            content = _File.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return []
        now = self.clock()
        return [entry for entry in content.dialects if 0 <= now - entry.since < _KEEP_SECONDS]


def _replace(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
