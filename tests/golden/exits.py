"""Command lines and the code that each must exit with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.golden.command import ROOT, House
from tests.golden.material import CORPUS, GOOD, ORDER, good_answer
from tests.golden.scenes import HOSTED, NOBODY, PATIENT, Steps, asked, briefs
from tests.golden.servers import Fault, Hangup, Reply

WRITE = ("write", *ORDER, *HOSTED, *PATIENT)


@dataclass(frozen=True)
class Line:
    """A command line; `steps` is what a server gives to it, where it may ask one."""

    arguments: Sequence[str]
    steps: Steps | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        steps = [type(step).__name__ + str(getattr(step, "status", "")) for step in self.steps or ()]
        parts = [*settings, "synopsis", *self.arguments, *(f"<{step}>" for step in steps)]
        return " ".join(parts).replace(str(ROOT), "ROOT")


def line(*arguments: str, steps: Steps | None = None, **environment: str) -> Line:
    return Line(arguments, steps, environment)


def prepare(folder: Path) -> None:
    """Write the files that the command lines name."""
    good = GOOD.read_text(encoding="utf-8")
    (folder / "good.md").write_text(good, encoding="utf-8")
    (folder / "closed.md").write_text(good.replace("?", "."), encoding="utf-8")
    (folder / "open.md").write_text(good.replace("\n---\n", "\n", 1), encoding="utf-8")
    (folder / "bad-yaml.md").write_text(good.replace("title: ", "title: a: b: ", 1), encoding="utf-8")
    (folder / "bad-brief.md").write_text(good.replace("form: portrait", "form: novel", 1), encoding="utf-8")
    (folder / "empty.md").write_text("", encoding="utf-8")
    (folder / "binary.md").write_bytes(b"\x00\x01\x02")
    (folder / "latin.md").write_bytes(good.encode("latin-1", "replace"))
    (folder / "config.toml").write_text('modle = "m"\n', encoding="utf-8")
    (folder / "key.toml").write_text('api_key = "sk-1"\n', encoding="utf-8")
    (folder / "broken.toml").write_text("model = \n", encoding="utf-8")
    (folder / "prices.toml").write_text("currency = 3\n", encoding="utf-8")
    (folder / "plan.yaml").write_text("beats: []\n", encoding="utf-8")
    (folder / "profile.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    (folder / "bad.csv").write_text("show,theme,colour\nRR,Ein Hund,rot\n", encoding="utf-8")
    (folder / "none.csv").write_text("show,theme\n", encoding="utf-8")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "system.md").write_text(
        "---\nname: system\nversion: 1\n---\n{{ nobody }}\n", encoding="utf-8"
    )
    (folder / "empty").mkdir()
    briefs(folder, 1)


LINES = [
    line(),
    line("--help"),
    line("--version"),
    line("nonsense"),
    line("--nonsense"),
    line("write"),
    line("write", "--show", "RR"),
    line("write", "--show", "RR", "--theme", "Ein Hund", "--form", "novel"),
    line("write", "--show", "RR", "--theme", ""),
    line("write", "--show", "RR", "--theme", "Ein Hund", "--words", "many"),
    line("write", "--show", "RR", "--theme", "Ein Hund", "--words", "400-200"),
    line("write", "--show", "RR", "--theme", "x" * 5000),
    line("write", "--outline", "missing.yaml", *HOSTED),
    line("write", "--outline", "plan.yaml", *HOSTED),
    line("write", "--replay", "last"),
    line("write", "--replay", "last", "--theme", "Ein Hund"),
    line("write", *ORDER, "--attempts", "11"),
    line("write", *ORDER, "--best-of", "17"),
    line("write", *ORDER, "--seed", "-1"),
    line("write", *ORDER, "--model", "missing.gguf"),
    line("write", *ORDER, *HOSTED, "--base-url", "nonsense"),
    line("write", *ORDER, *HOSTED, "--base-url", "http://example.org/v1", OPENAI_API_KEY="sk-1"),
    line(*WRITE, "--base-url", NOBODY),
    line(*WRITE, steps=[Reply(good_answer())]),
    line(*WRITE, "--format", "docx", steps=[]),
    line(*WRITE, "--attempts", "1", steps=[Reply("Gern!")]),
    line(*WRITE, steps=[Fault(401)]),
    line(*WRITE, steps=[Fault(403)]),
    line(*WRITE, steps=[Fault(404)] * 2),
    line(*WRITE, steps=[Fault(429, code="insufficient_quota")]),
    line(*WRITE, steps=[Fault(500)] * 2),
    line(*WRITE, steps=[Hangup()]),
    line(*WRITE, "--budget", "0.01", steps=[]),
    line(*WRITE, "--budget", "much", steps=[]),
    line(*WRITE, "--max-tokens-total", "50", steps=[]),
    line(*WRITE, "--disable", "nonsense", steps=[]),
    line(*WRITE, "--pin", "nobody/nothing", steps=[]),
    line(*WRITE, "--examples", "missing", steps=[]),
    line(*WRITE, "--examples", "empty", steps=[]),
    line(*WRITE, "--prompts", "missing", steps=[]),
    line(*WRITE, "--prompts", "prompts", steps=[]),
    line(*WRITE, "--profile", "profile.yaml", steps=[]),
    line(*WRITE, "--out", "good.md", steps=[Reply(good_answer())]),
    line(*WRITE, SYNOPSIS_CONFIG="missing.toml", steps=[]),
    line(*WRITE, SYNOPSIS_CONFIG="config.toml", steps=[]),
    line(*WRITE, SYNOPSIS_CONFIG="key.toml", steps=[]),
    line(*WRITE, SYNOPSIS_CONFIG="broken.toml", steps=[]),
    line(*WRITE, SYNOPSIS_PRICES="prices.toml", steps=[]),
    line(*WRITE, SYNOPSIS_ATTEMPTS="99", steps=[]),
    line(*WRITE, SYNOPSIS_TEMPERATURE="hot", steps=[]),
    line("outline", "--show", "RR"),
    line("outline", *ORDER, *HOSTED, *PATIENT, "--attempts", "1", steps=[Reply("Gern!")]),
    line("prompt", *ORDER),
    line("prompt", "--show", "RR"),
    line("check"),
    line("check", "good.md"),
    line("check", "closed.md"),
    line("check", "missing.md"),
    line("check", "empty"),
    line("check", "empty.md"),
    line("check", "open.md"),
    line("check", "bad-yaml.md"),
    line("check", "bad-brief.md"),
    line("check", "binary.md"),
    line("check", "latin.md"),
    line("check", "closed.md", "missing.md"),
    line("check", "good.md", "--form", "novel"),
    line("check", "good.md", "--format", "xml"),
    line("check", "good.md", "--disable", "nonsense"),
    line("check", "good.md", "--profile", "missing.yaml"),
    line("examples"),
    line("examples", "list"),
    line("examples", "list", "--show", "Nirgendwo"),
    line("examples", "show", "nobody/nothing"),
    line("examples", "check", "--examples", str(CORPUS)),
    line("examples", "add", "missing.txt", "--show", "RR", "--theme", "Ein Hund", "--form", "portrait"),
    line("style"),
    line("style", "calibrate"),
    line("style", "calibrate", "--examples", "empty"),
    line("models"),
    line("models", "--model", "m", "--base-url", NOBODY),
    line("models", "pull", "nonsense"),
    line("models", "known"),
    line("models", "rm", "nothing"),
    line("eval"),
    line("eval", "run", *HOSTED),
    line("eval", "run", *HOSTED, "--out", "run", "--cases", "nothing*"),
    line("eval", "run", "missing", *HOSTED, "--out", "run"),
    line("eval", "score", "missing"),
    line("eval", "score", "empty"),
    line("eval", "compare", "missing", "missing"),
    line("eval", "report", "missing", "-o", "report.html"),
    line("eval", "export", "missing", "-o", "x.csv", "--format", "csv"),
    line("eval", "export", "missing", "-o", "x.csv", "--format", "xml"),
    line("eval", "bless", "missing"),
    line("eval", "judge-check"),
    line("batch"),
    line("batch", "run", "briefs.csv"),
    line("batch", "run", "missing.csv", "--out", "out", *HOSTED, *PATIENT, steps=[]),
    line("batch", "run", "bad.csv", "--out", "out", *HOSTED, *PATIENT, steps=[]),
    line("batch", "run", "none.csv", "--out", "out", *HOSTED, *PATIENT, steps=[]),
    line("batch", "run", "briefs.csv", "--out", "good.md", *HOSTED, *PATIENT, steps=[]),
    line("batch", "run", "briefs.csv", "--out", "o", *HOSTED, *PATIENT, "--attempts", "1", steps=[Reply("Gern!")]),
    line("batch", "run", "briefs.csv", "--out", "o", *HOSTED, *PATIENT, steps=[Hangup()]),
    line("batch", "run", "briefs.csv", "--out", "o", *HOSTED, "--concurrency", "0"),
    line("batch", "run", "briefs.csv", "--out", "o", *HOSTED, "--address", "auto"),
    line("batch", "status", "missing"),
    line("batch", "status", "empty"),
    line("batch", "export", "missing", "--format", "csv", "-o", "x.csv"),
    line("batch", "submit", "briefs.csv", "--out", "o", "--model", "packaged"),
    line("batch", "fetch", "missing"),
    line("batch", "cancel", "missing"),
    line("log"),
    line("log", "list"),
    line("log", "list", "--limit", "0"),
    line("log", "show"),
    line("log", "show", "nothing"),
    line("log", "rm"),
    line("log", "rm", "--all", "--older-than", "3"),
    line("log", "rm", "--all"),
    line("cache"),
    line("cache", "info"),
    line("cache", "clear"),
    line("cache", "info", SYNOPSIS_CACHE_DAYS="0"),
]


def outcome(one: Line, house: House) -> dict[str, object]:
    """Return the exit code of a command line, and the last line that it prints, for reading."""
    prepare(house.folder)
    if one.steps is None:
        house(*one.arguments, environment=one.environment)
    else:
        asked(house, one.steps, *one.arguments, environment=one.environment)
    (record,) = house.records
    return {"code": record["code"], "said": next((text for text in reversed(record["err"]) if text), "")}
