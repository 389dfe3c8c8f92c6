import re
import subprocess
import sys
from pathlib import Path

import synopsis_writer

HEAVY = ("openai", "httpx2", "numpy", "wordfreq", "py3langid", "rapidfuzz", "jinja2", "yaml", "HanTa",
         "xllamacpp", "sentencex", "snowballstemmer", "tenacity", "asyncio",
         "genai_prices", "sacrebleu", "inspect_ai", "pyarrow", "ray")  # fmt: skip
# pydantic is not among them: Typer itself imports it to read a command's parameters.
ROOT = Path(__file__).parent.parent


NAMES = """
    Answer Attempt Brief BriefError Budget BudgetSpentError ConnectionFailedError Cost Document EngineError
    Example ExampleError FileError Finding Form Gate GateRefusedError HostedClient House InputError Limits
    Message ModelClient ModelError NotReleasedError Outline Pool Prompt ReplayError Report
    RequestRefusedError Result
    Revised RowResult
    RunLog Settings SettingsError Show Synopsis SynopsisError TemplateError UnavailableError Usage
    Version Writer export load_example load_house load_pool load_settings make_brief read_document release
"""


def test_the_exported_names_are_these_and_exist() -> None:
    assert synopsis_writer.__all__ == NAMES.split()
    for name in synopsis_writer.__all__:
        assert getattr(synopsis_writer, name).__module__.startswith("synopsis_writer.")
    assert {*NAMES.split(), "__version__"} <= set(dir(synopsis_writer))


def test_every_error_is_exported() -> None:
    from synopsis_writer import errors

    raised = [
        name
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.SynopsisError)
    ]
    assert set(raised) <= set(synopsis_writer.__all__)


def test_the_choices_of_flags_are_those_of_the_values() -> None:
    from synopsis_writer import result, settings
    from synopsis_writer.cli import options

    assert options.CacheUse == settings.CacheUse
    assert options.FileFormat == result.FileFormat


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from synopsis_writer.cli.app import run; run(['--help']); run(['write', '--help']); "
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip().endswith("LOADED []")


def test_the_docs_have_the_help_of_every_command() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = generate.PAGE.read_text(encoding="utf-8")
    assert page == generate.page(), "make docs updates the page"
    assert re.findall(r"<(?:list|int|str|path|float)\b.*", page) == [], "words, not Python types"
    named = {
        f"{group} {command}".strip()
        for group in ("", "examples", "house", "style", "models", "eval", "batch", "log", "cache", "prompts")
        for command in re.findall(r"^  ([a-z-]+) ", generate.help_of(group).partition("Commands:")[2], re.MULTILINE)
    }
    assert named == set(generate.commands()) - {""}
