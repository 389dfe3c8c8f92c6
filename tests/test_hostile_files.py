"""Files and numbers that are hostile: damaged databases, templates that multiply, numbers without end."""

import json
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from synopsis_writer.batch.briefs import BatchRow
from synopsis_writer.batch.store import RECORD_FILE, BatchStore
from synopsis_writer.errors import TemplateError
from synopsis_writer.log import RunLog
from synopsis_writer.models.base import Answer
from synopsis_writer.models.limits import ResponseCache
from synopsis_writer.prompts.templates import load_template
from synopsis_writer.result import RowResult
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, GOOD, ORDER, PATH, Terminal

Damage = Callable[[bytes], bytes]


def flipped(at: int) -> Damage:
    return lambda data: data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def in_schema(word: bytes, by: bytes) -> Damage:
    return lambda data: data.replace(word, by)


DAMAGES: list[Damage] = [
    flipped(0),
    flipped(18),  # the file's format
    flipped(60),  # the version
    flipped(63),
    flipped(100),  # the page of the schema
    flipped(105),
    in_schema(b"CREATE TABLE", b"CREATE T\xffBLE"),
    in_schema(b"CREATE TABLE", b"CREATE VIEW "),
    in_schema(b"TEXT", b"T\xc3\x28T"),
    in_schema(b"answers", b"answ\xffrs"),
    in_schema(b"runs", b"r\x00ns"),
    lambda data: data[: len(data) // 2],
    lambda data: b"\xff" * len(data),
    lambda _: b"",
]


def whole(path: Path) -> None:
    """Move the write-ahead log into the file, so that all of it can be damaged."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.execute("PRAGMA journal_mode=DELETE")
    database.close()


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A log and a cache with an answer each."""
    folder = tmp_path_factory.mktemp("sound")
    RunLog(folder / "log").close()
    cache = ResponseCache(folder / "cache")
    cache.put("key", Answer("Text"))
    cache.close()
    for name in ("log", "cache"):
        whole(folder / name)
    return {name: (folder / name).read_bytes() for name in ("log", "cache")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_or_cache_costs_no_text(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: dict[str, bytes], damage: Damage
) -> None:
    log, cache = tmp_path / "runs.sqlite3", tmp_path / "cache" / "responses.sqlite3"
    cache.parent.mkdir()
    log.write_bytes(damage(databases["log"]))
    cache.write_bytes(damage(databases["cache"]))
    monkeypatch.setenv("SYNOPSIS_LOG", str(log))
    monkeypatch.setenv("SYNOPSIS_CACHE", str(cache.parent))
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--cache", "read", server=server)
    assert (run.code, GOOD.synopsis.text in run.out) == (0, True), run.err
    for arguments in (["log", "list"], ["log", "show"], ["log", "rm", "--all"], ["cache", "info"]):
        assert terminal(*arguments).code in {0, 2}, arguments
    assert terminal("cache", "clear").code == 0
    assert terminal("cache", "info").code == 0


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, partial(os.symlink, "/dev/zero"), partial(os.symlink, "x/x")])
def test_a_log_or_cache_that_is_no_file_costs_no_text_and_no_time(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, make: Callable[[str], None]
) -> None:
    (tmp_path / "cache").mkdir()
    for name in ("runs.sqlite3", "cache/responses.sqlite3"):
        make(str(tmp_path / (name + end)))
    monkeypatch.setenv("SYNOPSIS_LOG", str(tmp_path / "runs.sqlite3"))
    monkeypatch.setenv("SYNOPSIS_CACHE", str(tmp_path / "cache"))
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--cache", "read", server=server)
    assert (run.code, GOOD.synopsis.text in run.out) == (0, True), run.err
    for arguments in (["log", "list"], ["log", "rm", "--all", "--yes"], ["cache", "info"], ["cache", "clear"]):
        assert terminal(*arguments).code in {0, 2}, arguments


CIRCLES = [
    ["export", str(PATH), "--format", "csv", "-o"],
    ["export", "--format", "csv", "-o", "x.csv"],
    ["house", "learn", str(PATH.parent), "--show", "x", "--form", "f", "--out"],
    ["house", "show", "--house"],
    ["batch", "submit", "b.csv", "--out", "b", "--to-files"],
    ["batch", "status"],
    ["eval", "run", "--out"],
    ["eval", "run", "--out", "e", "--prompt"],
    ["eval", "init"],
    ["prompts", "copy"],
    ["check"],
    ["release", "--verify"],
]


@pytest.mark.parametrize("name", ["circle", "circle/x", "other"])
@pytest.mark.parametrize("command", CIRCLES, ids=lambda command: " ".join(command[:2]))
def test_links_in_a_circle_end_in_one_line(terminal: Terminal, tmp_path: Path, command: list[str], name: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "other").symlink_to("other/x")
    (tmp_path / "b.csv").write_text("show,theme\nUnter uns,Ein Hund\n", encoding="utf-8")
    run = terminal(*command, name, OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="sk-x")
    is_replaced = "-o" in command[-1:] and name != "circle/x"  # the link itself, which leads nowhere
    assert run.code == (0 if is_replaced else 2), run.err
    assert sum(line.startswith("synopsis: ") for line in run.err.splitlines()) == (not is_replaced), run.err


def a_batch(folder: Path, rows: int = 9) -> Path:
    names = [f"row-{number}" for number in range(1, rows + 1)]
    with BatchStore(folder, {"model": "m"}) as store:
        store.fill(BatchRow(name, place, GOOD.brief) for place, name in enumerate(names, 1))
        for name in names:
            store.save(RowResult(name, "accepted", synopsis=GOOD.synopsis, provenance={"model": "m"}))
    whole(folder / RECORD_FILE)
    return folder / RECORD_FILE


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_reported_and_can_be_begun_anew(terminal: Terminal, tmp_path: Path, damage: Damage) -> None:
    record = a_batch(tmp_path / "b")
    record.write_bytes(damage(record.read_bytes()))
    briefs = tmp_path / "b.csv"
    briefs.write_text("show,theme\nUnter uns,Ein Hund\n", encoding="utf-8")
    assert terminal("batch", "status", "b").code in {0, 2}
    assert terminal("batch", "status", "b", "--json").code in {0, 2}
    for export in ("md", "jsonl", "csv"):
        assert terminal("batch", "export", "b", "--format", export, "-o", f"x.{export}").code in {0, 2}
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("batch", "run", str(briefs), "--out", "b", "--fresh", "--attempts", "1", server=server)
    assert run.code in {0, 1}, run.err


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "[" * 50_000,
        '{"title": 5}',
        '{"title": "\\ud83d", "logline": "", "characters": [], "paragraphs": []}',
        "\0",
        b"\xff\xfe",
        5,
        2.5,
        None,
        "1" * 5_000,
    ],
)
@pytest.mark.parametrize("column", ["synopsis", "origin", "brief"])
def test_what_can_still_be_read_of_a_damaged_record_is_exported(
    terminal: Terminal, tmp_path: Path, column: str, value: object
) -> None:
    database = sqlite3.connect(a_batch(tmp_path / "b"))
    if value is None and column == "brief":
        pytest.skip("the column takes no NULL")
    database.execute(f"UPDATE rows SET {column} = ? WHERE place IN (3, 7)", (value,))
    database.commit()
    database.close()
    run = terminal("batch", "export", "b", "--format", "jsonl", "-o", "x.jsonl")
    texts = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    if run.code:
        assert (run.code, len(texts)) == (2, 7), run.err
        assert "2 rows cannot be read and had to be left out: 3, 7" in run.err
    assert {text["text"] for text in texts} == {GOOD.synopsis.text}
    assert terminal("batch", "status", "b").code in {0, 2}


@pytest.mark.parametrize(
    "body",
    [
        "{{ brief * 3 }}",
        "{{ 9**9**9 }}{{ brief }}",
        "{{ '%999999999d' % 1 }}{{ brief }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ brief }}",
        "{{ brief|center(1000000000) }}",
        "{{ brief.ljust(1000000000) }}",
        "{{ brief|replace('a', brief)|replace('b', brief) }}",
        "{% set x = brief ~ brief %}{{ x }}",
        "{% for a in range(100000) %}{{ brief }}{% endfor %}",
        "{% for a in [brief] recursive %}{{ loop([a]) }}{% endfor %}",
        "{% for a in brief %}{% for b in brief %}{% for c in brief %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in brief %}{{ brief }}{% endfor %}",
        "{% include 'synopsis.md' %}{{ brief }}",
        "{{ " + "(" * 5_000 + "brief" + ")" * 5_000 + " }}",
        "{{ " + "1" * 5_000 + " }}{{ brief }}",
        "{% if brief %}" * 3_000 + "{{ brief }}" + "{% endif %}" * 3_000,
        "{{ " + "~".join(["brief"] * 100_000) + " }}",
    ],
)
def test_templates_that_recurse_or_multiply_are_refused(tmp_path: Path, body: str) -> None:
    path = tmp_path / "synopsis.md"
    path.write_text(f"---\nname: synopsis\nversion: 1\n---\n{body}\n", encoding="utf-8")
    with pytest.raises(TemplateError):
        load_template(path, frozenset({"brief"})).render(brief="Ein Hund. " * 500)


NINES = "9" * 30


@pytest.mark.parametrize(
    "arguments",
    [
        ["log", "list", "--limit", NINES],
        ["log", "rm", "--older-than", NINES],
        ["log", "rm", "--older-than", "999999999"],
        ["log", "list", "--limit", "9" * 5_000],
        ["write", *ORDER, "--seed", NINES],
        ["write", *ORDER, "--budget", "1e999999"],
        ["write", *ORDER, "--budget", "NaN"],
        ["write", *ORDER, "--max-tokens-total", NINES],
        ["write", *ORDER, "--words", f"{NINES}-{NINES}"],
        ["batch", "run", "b.csv", "--out", "o", "--limit", NINES],
        ["batch", "run", "b.csv", "--out", "o", "--rpm", "9" * 400],
        ["batch", "fetch", "o", "--live-below", NINES],
        ["eval", "judge-check", "--judge", "m", "--seed", NINES],
        ["write", "--show", "\udcff", "--theme", "\udcff"],
        ["write", *ORDER, "--model", "\udcff"],
        ["write", *ORDER, "--base-url", "http://\udcff/v1"],
        ["write", *ORDER, "--base-url", "http://127.0.0.1:9/\udcff"],
        ["write", *ORDER, "--pin", "\udcff"],
        ["prompt", *ORDER, "--pin", ""],
        ["write", "--show", "Awz", "--theme", "x", "--form", "\udcff"],
        ["write", *ORDER, "--words", "\udcff"],
        ["export", "\udcff", "--format", "txt", "-o", "\udcff"],
        ["examples", "add", "\udcff", "--show", "\udcff", "--form", "\udcff"],
        ["examples", "rm", "\udcff"],
        ["check", "\udcff"],
        ["check", "x" * 5_000],
        ["examples", "show", "\udcff"],
        ["log", "show", "\udcff"],
        ["log", "rm", "\udcff"],
        ["batch", "status", "\udcff"],
        ["batch", "status", "x" * 5_000],
        ["eval", "score", "\udcff"],
        ["models", "rm", "\udcff"],
        ["models", "pull", "\udcff"],
        ["\udcff"],
    ],
)
def test_numbers_without_end_and_bytes_that_are_no_text_end_in_one_line(
    terminal: Terminal, arguments: list[str]
) -> None:
    run = terminal(*arguments, SYNOPSIS_MAX_RETRIES="0", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert run.code in {0, 2, 3}, run.err
    assert run.code == 0 or sum(line.startswith("synopsis: ") for line in run.err.splitlines()) == 1, run.err


@pytest.mark.parametrize(
    "line",
    [
        'out = "a\\u0000b"',
        "attempts = " + NINES,
        'model = "\\u001b]52;c;x\\u0007"',
        "timeout = inf",
        "a = " + "[" * 9_000,
    ],
)
def test_a_hostile_configuration_ends_in_one_line(terminal: Terminal, tmp_path: Path, line: str) -> None:
    (tmp_path / "config.toml").write_text(line + "\n", encoding="utf-8")
    run = terminal("write", *ORDER, SYNOPSIS_CONFIG="config.toml")
    assert run.code == 2, run.err
    assert all(char.isprintable() or char == "\n" for char in run.err)
