"""Text from a server, a model, a file or a path: it reaches no terminal as it is, and costs no text.

    python -m tests.test_hostile_text WRITES

makes so many writes against a server that mixes all of it, and prints what memory they took.
"""

import asyncio
import json
import re
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer import result as results
from synopsis_writer.characters import clean_name, printable
from synopsis_writer.errors import ModelError
from synopsis_writer.log import RunLog
from synopsis_writer.models.base import Answer
from synopsis_writer.models.limits import ResponseCache
from synopsis_writer.models.responses import StreamedAnswer, read_answer
from synopsis_writer.settings import load_settings
from synopsis_writer.usage import Usage
from synopsis_writer.writer import Writer
from tests.support.loopback import BrokenJson, CutBody, Events, Fault, Hangup, LoopbackServer, Reply, Step
from tests.support.terminal import ANSWER, GOOD, ORDER, PATH, Run, Terminal, saved

OSC = "\x1b]52;c;ZWNobyBib28=\x07"
STEERING = [OSC, "\x9b31m", "\u202e", "\u2066", "\x08", "\x7f", "\r", "\u2028", "\x1b[2J"]
HALF = "\ud83d"


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


def assert_harmless(run: Run) -> None:
    assert is_harmless(run.out), ascii(run.out)
    assert is_harmless(run.err), ascii(run.err)
    assert max(map(len, run.err.splitlines()), default=0) < 5_000


def completion(**changes: Any) -> str:
    """Return the body of a completion in which fields are replaced, half surrogates as JSON escapes."""
    return json.dumps(Reply(ANSWER).as_data("gpt-5.4-mini") | changes)


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_a_terminal_is_escaped_or_replaced(text: str) -> None:
    assert is_harmless(printable(f"a{text}b{HALF}"))
    assert is_harmless(clean_name(f"a{text}b{HALF}"))


def test_a_name_from_outside_is_one_short_line() -> None:
    assert clean_name(f" gpt\n 5{HALF} ") == "gpt 5\ufffd"
    assert len(clean_name("x" * 1_000_000)) == 200
    values: list[object] = [None, 5, [], {}]
    assert [clean_name(value) for value in values] == [""] * 4


LAST = GOOD.synopsis.paragraphs[-1].text
CHOICE = {"index": 0, "message": {"role": "assistant", "content": ANSWER}}


BODIES = [
    completion(model=HALF),
    completion(model=f"gpt{OSC}"),
    completion(model="m" * 100_000),
    completion(model=["gpt"]),
    completion(id=HALF, object=HALF, created=HALF, system_fingerprint=HALF),
    completion(choices=[CHOICE | {"finish_reason": HALF}]),
    completion(choices=[CHOICE | {"finish_reason": 5}]),
    completion(choices=[CHOICE | {"index": None}]),
    completion(usage={HALF: HALF, "prompt_tokens": HALF, "completion_tokens_details": {HALF: 3}}),
    completion(usage={"prompt_tokens": 0}).replace('tokens": 0', 'tokens": ' + "9" * 5_000),
    completion(usage={"prompt_tokens": 10**30, "completion_tokens": -(10**30)}),
    completion(usage="x" * 10_000),
    completion(choices=[CHOICE | {"message": {"content": ANSWER, HALF: HALF, "tool_calls": HALF}}]),
]


@pytest.mark.parametrize("body", BODIES)
def test_an_accepted_text_survives_what_else_the_server_says(terminal: Terminal, tmp_path: Path, body: str) -> None:
    as_json = len(body) % 2 == 0
    with LoopbackServer([BrokenJson(body)]) as server:
        run = terminal("write", *ORDER, *["--json"] * as_json, "--max-retries", "0", server=server)
    assert run.code == 0, run.err
    assert_harmless(run)
    text = json.loads(run.out)["text"] if as_json else run.out
    assert GOOD.synopsis.paragraphs[-1].text in text
    assert len(list(tmp_path.rglob("synopsen/*/*.md"))) == 1
    shown = terminal("log", "show", "last")
    assert (shown.code, GOOD.synopsis.title in shown.out) == (0, True)
    assert_harmless(shown)


# Beyond a limit, or no answer at all.
REFUSED: list[Step] = [
    BrokenJson('{"choices": [{"message": {"content": "' + "x" * 9_000_000),
    BrokenJson(ANSWER + " " * 9_000_000),
    BrokenJson("[" * 2_000_000),
    BrokenJson(completion(usage={"x": "y" * 9_000_000})),
    Fault(500, body="x" * 2_000_000),
    Fault(400, body="<title>" * 200_000),
    Events("data: " + "x" * 9_000_000),
    Events(": x\n" * 9_000_000),
    CutBody(),
    Hangup(),
]


async def write_many(folder: Path, count: int) -> None:
    """Write `count` texts; before each third, a call gets what is beyond a limit, and is refused."""
    good = [BrokenJson(BODIES[number % len(BODIES)]) for number in range(count)]
    steps: list[Step] = []
    for number, body in enumerate(good):
        steps += [REFUSED[number // 3 % len(REFUSED)], body] if number % 3 == 0 else [body]
    address = (server := LoopbackServer(steps)).base_url
    given = {"model": "m", "base_url": address, "max_retries": 0, "cache": folder / "cache"}
    out, log = folder / "out", RunLog(folder / "runs.sqlite3")
    async with Writer(load_settings(given, {}), log=log) as writer:
        with server:
            for number in range(count):
                if number % 3 == 0:
                    with pytest.raises(ModelError):
                        await writer.write(GOOD.brief)
                result = await writer.write(GOOD.brief)
                assert result.accepted is not None, number
                assert result.save(out).read_text(encoding="utf-8").rstrip().endswith(LAST)
    assert len(saved(out)) == count
    assert Counter(str(run.outcome) for run in log.runs())["accepted"] == count
    log.close()


async def test_nothing_accepted_is_lost_among_answers_beyond_the_limits(tmp_path: Path) -> None:
    await write_many(tmp_path, 3 * len(REFUSED))


@pytest.mark.slow
async def test_nothing_accepted_is_lost_in_a_thousand_writes(tmp_path: Path) -> None:
    await write_many(tmp_path, 1_000)


def fail(*_: object, **__: object) -> None:
    raise RuntimeError("sk-secret")


@pytest.mark.parametrize(
    ("place", "name", "code"),
    [
        (RunLog, "add", 0),
        (RunLog, "end", 0),
        (RunLog, "saved", 0),
        (ResponseCache, "put", 0),
        (results, "save", 70),
        (results, "format_document", 70),
    ],
)
def test_nothing_stands_between_an_accepted_text_and_its_reader(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, place: object, name: str, code: int
) -> None:
    monkeypatch.setattr(place, name, fail)
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, server=server)
    assert (run.code, GOOD.synopsis.text in run.out) == (code, True), run.err


def test_half_characters_and_bytes_that_are_none_break_no_stream() -> None:
    deltas = {"content": ANSWER[:50]}, {"content": ANSWER[50:]}
    pieces: list[dict[str, Any]] = [{"model": HALF, "choices": [{"delta": each, "index": None}]} for each in deltas]
    pieces.append({"choices": [{"delta": {}, "finish_reason": HALF}], "usage": {HALF: HALF}})
    streamed = StreamedAnswer()
    for piece in pieces:
        streamed.feed(b"data: " + json.dumps(piece).encode() + b"\n\n")
    assert streamed.answer("text/event-stream", 1.0, "m") == Answer(ANSWER, "stop", Usage(), 1.0, "\ufffd")
    body = completion(model="X").encode().replace(b'"X"', b'"gpt-\xff\xc3\xbc"')
    assert read_answer(body, "application/json", 1.0, "m").model == "gpt-\ufffdü"


def test_a_text_whose_json_fails_is_printed_as_it_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.Result, "as_data", fail)
    with LoopbackServer([Reply(ANSWER)]) as server:
        run = terminal("write", *ORDER, "--json", server=server)
    assert (run.code, GOOD.synopsis.text in run.out) == (70, True)
    assert run.err.count("mistake in the program (RuntimeError)") == 1


def test_a_refusal_reaches_no_terminal_as_it_is(terminal: Terminal) -> None:
    replies = [Reply("", refusal=f"{'x'.join(STEERING)} Nein. " * 200) for _ in range(3)]
    with LoopbackServer(replies) as server:
        run = terminal("write", *ORDER, "--keep-rejected", "/dev/null/x", "--max-retries", "0", server=server)
    assert run.code == 1
    assert "the model refused" in run.err
    assert_harmless(run)
    assert_harmless(terminal("log", "show", "--prompts"))


def test_no_command_prints_what_steers_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    text = "x".join(STEERING)
    name = f"a{text}b.md"
    (tmp_path / name).write_text(f"Ein Text{text} mit {'W' * 10_000}{text}.\n", encoding="utf-8")
    example = tmp_path / "pool" / "rote-rosen" / "hund.md"
    example.parent.mkdir(parents=True)
    source = PATH.read_text(encoding="utf-8").replace("\n---\n", f'\ndraft: "{"x" * 9_000}"\n---\n', 1)
    example.write_text(source + f"<!-- {text} -->", encoding="utf-8")
    commands: Sequence[Sequence[str]] = [
        ["check", name],
        ["check", "--format", "json", name],
        ["check", "--format", "github", name],
        ["check", f"no{text}thing"],
        ["examples", "list", "--examples", "pool"],
        ["examples", "show", "rote-rosen/hund", "--examples", "pool"],
        ["examples", "list", "--show", f"x{text}"],
        ["prompt", "--show", f"x{text}", "--theme", "Ein Hund"],
        ["prompt", "--show", "x", "--theme", "Ein Hund", "--examples", f"p{text}"],
        ["batch", "status", f"x{text}"],
        ["batch", "run", f"x{text}.csv", "--out", "o"],
        ["log", "show", f"x{text}"],
        ["eval", "score", f"x{text}"],
        ["models", "rm", f"x{text}"],
        ["models", "--model", f"x{text}"],
        ["write", f"--{text}"],
        [f"x{text}"],
    ]
    for command in commands:
        run = terminal(*command)
        assert run.code in {0, 1, 2, 3}, (command, run)
        assert_harmless(run)
        if "json" in command:
            assert json.loads(run.out)["file"] == name


def test_a_model_that_a_server_offers_steers_no_terminal(terminal: Terminal) -> None:
    with LoopbackServer([], models=[f"gpt{OSC}{HALF}", "x" * 100_000]) as server:
        for arguments in (["models"], ["models", "--json"]):
            run = terminal(*arguments, server=server)
            assert run.code == 0
            assert_harmless(run)
            assert len(run.out) < 5_000


def test_a_finding_quotes_no_endless_word(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"Er sagt {'Blabla' * 9_000}.", encoding="utf-8")
    run = terminal("check", "--format", "github", "a.md")
    assert run.code == 1
    assert max(map(len, run.out.splitlines())) < 2_000


@pytest.mark.parametrize(
    "bad",
    [b"---\na: &a 1\n---\nText", b"\xff\xfe", b"---\ntitle: [x]\n---\nText", b"---\n" + b"- " * 30_000, b"a\0b", b""],
)
def test_a_file_that_cannot_be_read_keeps_check_from_no_other(terminal: Terminal, tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "bad.md").write_bytes(bad)
    run = terminal("check", str(PATH), "bad.md", str(PATH))
    assert run.code == 2
    assert run.out.count("passed all") == 2
    assert len(re.findall("^synopsis: bad.md", run.err, re.MULTILINE)) == 1


def test_a_mistake_of_the_program_is_one_line_and_a_traceback_with_debug(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synopsis_writer.examples.load_pool", fail)
    run = terminal("examples", "list")
    assert (run.code, run.out) == (70, "")
    assert re.fullmatch(r"synopsis: this is a mistake in the program \(RuntimeError\): .*\n", run.err)
    detailed = terminal.process("--debug", "examples", "list", "--examples", "x")
    assert detailed.code == 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(write_many(Path(temporary), int(sys.argv[1])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
    sys.stdout.write(f"{sys.argv[1]} writes, none lost, {peak:.0f} MB at most\n")
