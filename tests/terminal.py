"""The real command in a folder of its own, and a good answer for it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from synopsis_writer.examples import load_example
from synopsis_writer.testing import BatchServer, LoopbackServer

COMMAND = str(Path(sys.executable).with_name("synopsis"))
CORPUS = Path(__file__).parent / "corpus" / "good"
PATH = CORPUS / "rote-rosen" / "der-weisse-hund.md"
GOOD = load_example(PATH)
ANSWER = GOOD.synopsis.as_json()
ORDER = ["--show", "rote rosen", "--theme", GOOD.brief.theme, "--form", "portrait"]
CLOSED = ANSWER.replace("?", ".")


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """Runs the command in a folder of its own."""

    folder: Path

    def __call__(
        self,
        *arguments: str,
        server: LoopbackServer | BatchServer | None = None,
        stdin: bytes = b"",
        **environment: str,
    ) -> Run:
        address = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-secret"} if server else {}
        done = subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env={**os.environ, **address, **environment},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        run = Run(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in run.err
        assert "sk-secret" not in run.out + run.err
        return run


def saved(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
