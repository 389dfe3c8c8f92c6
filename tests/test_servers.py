"""Servers that take less than OpenAI's, in every command that asks one, with a terminal and without."""

import csv
import json
import os
import pty
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from synopsis_writer.evals.judge import Judge, checklist, load_judge_templates
from synopsis_writer.evals.suite import load_cases
from synopsis_writer.models.base import Limits
from synopsis_writer.models.hosted import HostedClient
from synopsis_writer.models.retry import RetryPolicy
from synopsis_writer.settings import folder
from tests.support.forked import Forked
from tests.support.loopback import Fault, LoopbackServer, Reply, Step
from tests.support.terminal import ANSWER, COMMAND, GOOD, ORDER, Terminal

FORMATS = ("json_schema", "json_object")
# What a server refuses, and in which words; None: in those that name it.
SERVERS: Mapping[str, tuple[tuple[str, ...], Fault | None]] = {
    "no schema, 400": (FORMATS, Fault(400, message="Bad Request")),
    "no schema, 404": (FORMATS, Fault(404, body="Not Found")),
    "no schema, 422": (FORMATS, Fault(422, body={"detail": "Unprocessable"})),
    "no schema, 500": (FORMATS, Fault(500, message="Internal Server Error")),
    "no schema, 501": (FORMATS, Fault(501, body="")),
    "no system role": (("system",), None),
    "only streams": (("whole",), None),
}
PLAN = {
    "title": "Der weiße Hund",
    "logline": GOOD.synopsis.logline,
    "characters": [{"name": "Gesa Meinecke", "role": "Schäferin"}],
    "beats": ["Der Hund beißt zu.", "Gesa sucht einen Zeugen.", "Ein Brief kommt."],
}
COMMANDS = {
    "write": (("write", *ORDER), ANSWER),
    "outline": (("outline", *ORDER), json.dumps(PLAN)),
    "batch run": (("batch", "run", "briefs.csv", "--out", "out", "--variety", "off", "--concurrency", "1"), ANSWER),
}
BAD_JSON = Fault(
    400,
    body={
        "error": {
            "message": "Failed to generate JSON. See 'failed_generation' for more details.",
            "code": "json_validate_failed",
            "failed_generation": '{"title": "Der weiße',
        }
    },
)


@pytest.fixture(autouse=True)
def _briefs(tmp_path: Path) -> None:
    with (tmp_path / "briefs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["show", "theme", "form"], ["rote rosen", GOOD.brief.theme, "portrait"]])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_takes_less_is_asked_once_more_and_then_in_its_way(
    name: str, command: str, terminal: Terminal
) -> None:
    refused, words = SERVERS[name]
    arguments, answer = COMMANDS[command]
    with LoopbackServer([Reply(answer)], refuses=refused, refusal=words) as server:
        run = terminal(*arguments, server=server)
        assert run.code == 0, run.err
        assert len(server.chats) == 2
        is_learnt = name not in {"only streams", "no schema, 500"}  # a 500 may have passed
        assert run.err.count("synopsis cache clear") == is_learnt
        if command != "batch run":  # which would find its row done
            again = terminal(*arguments, "--cache", "write", server=server) if command == "write" else None
            if again is not None:
                # The second 500 is asked for twice: what it teaches holds for a month.
                assert len(server.chats) == (5 if name == "no schema, 500" else 3)
                assert ("synopsis cache clear" in again.err) is (name == "no schema, 500")


@pytest.mark.parametrize("name", SERVERS)
def test_an_eval_asks_such_a_server_in_its_way(name: str, terminal: Terminal) -> None:
    refused, words = SERVERS[name]
    case = ("--cases", "abtrift", "--attempts", "1", "--no-log")
    with LoopbackServer([Reply(ANSWER)], refuses=refused, refusal=words) as server:
        run = terminal("eval", "run", "--out", "run", "--model", "m", *case, server=server)
    assert len(server.chats) == 2
    assert ", 0 failed" in run.out + run.err


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_json_of_a_model_is_an_attempt_that_is_repaired(command: str, terminal: Terminal) -> None:
    arguments, answer = COMMANDS[command]
    with LoopbackServer([BAD_JSON, Reply(answer)], repeat_last=False) as server:
        run = terminal(*arguments, server=server)
    assert run.code == 0, run.err
    assert len(server.chats) == 2
    assert '{"title": "Der weiße' in server.chats[1].body["messages"][-2]["content"]
    assert all("response_format" in chat.body for chat in server.chats)


@pytest.mark.parametrize(
    "name", [next(iter(SERVERS)), *(pytest.param(name, marks=pytest.mark.slow) for name in [*SERVERS][1:])]
)
def test_on_a_terminal_such_a_server_is_streamed_from(name: str, tmp_path: Path) -> None:
    refused, words = SERVERS[name]
    with LoopbackServer([Reply(ANSWER)], refuses=refused, refusal=words) as server:
        master, slave = pty.openpty()
        with Forked[bytes](
            [COMMAND, "write", *ORDER, "--no-log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave,
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": server.base_url, "TERM": "xterm"},
        ) as process:
            os.close(slave)
            out = _read(process, master)
    assert process.returncode == 0
    assert "Der weiße Hund" in out
    assert len(server.chats) == (1 if name == "only streams" else 2)
    assert all(chat.body["stream"] for chat in server.chats)


def _read(process: subprocess.Popen[bytes], master: int) -> str:
    """Read the terminal until it is closed, and return what came on stdout."""
    while True:
        try:
            if not os.read(master, 65536):
                break
        except OSError:
            break
    os.close(master)
    return process.communicate(timeout=120)[0].decode()


@pytest.mark.parametrize("name", [*SERVERS, "bad json"])
async def test_the_judge_asks_such_a_server_in_its_way_too(name: str) -> None:
    refused, words = SERVERS.get(name, ((), None))
    case = load_cases(folder("evals") / "cases")[0]
    facts = [{"number": number, "said": True} for number in range(1, len(checklist(case)) + 1)]
    grades = {"coherence": 5, "theme": 4, "style": 3, "language": 2}
    quotation = " ".join(case.reference.text.split()[:3])
    verdict = Reply(json.dumps({"reasons": f"„{quotation}“ stimmt.", "facts": facts, **grades}))
    steps: list[Step] = [BAD_JSON, verdict] if name == "bad json" else [verdict]
    with LoopbackServer(steps, refuses=refused, refusal=words) as server:
        client = HostedClient("richter", server.base_url, "sk-key", retry=RetryPolicy(0))
        judge = Judge(client, load_judge_templates(folder("prompts")), Limits(timeout=10))
        await judge.score(case, case.reference)
        await judge.score(case, case.reference)
        await client.close()
    # A verdict that cannot be read is asked for again; a single 500 may have passed.
    assert len(server.chats) == (4 if name == "no schema, 500" else 3)
    assert len(judge.unread) == (1 if name == "bad json" else 0)
