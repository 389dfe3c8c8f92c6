import json
import logging
from pathlib import Path

import pytest

from synopsis_writer.drafting import Judge, ModelAuthor, write
from synopsis_writer.errors import ConnectionFailedError, EngineError, ModelError, RequestRefusedError
from synopsis_writer.examples import load_example
from synopsis_writer.gate.finding import Finding
from synopsis_writer.log import Recording
from synopsis_writer.models.base import Answer, Limits
from synopsis_writer.prompts.templates import Prompt
from synopsis_writer.result import Attempt, Result
from synopsis_writer.settings import load_settings
from synopsis_writer.show import Show, find_show
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import Usage
from synopsis_writer.workspace import Workspace, open_workspace
from synopsis_writer.writer import Writer
from tests.test_runlog import RUN

GOOD = load_example(Path(__file__).parent / "corpus" / "good" / "rote-rosen" / "der-weisse-hund.md")
ANSWER = GOOD.synopsis.as_json()
SHORT = json.dumps({**json.loads(ANSWER), "paragraphs": json.loads(ANSWER)["paragraphs"][:1]}, ensure_ascii=False)
NO_QUESTION = ANSWER.replace("?", ".")


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return open_workspace(load_settings({}, {}))


def show_of(workspace: Workspace) -> Show:
    show = find_show(workspace.pool.shows, GOOD.brief.show)
    assert show is not None
    return show


def prompt_of(workspace: Workspace) -> Prompt:
    writer = Writer(load_settings({}, {}))
    writer.workspace = workspace
    return writer.prompt(GOOD.brief)


async def run(workspace: Workspace, client: ScriptedClient, attempts: int = 3, best_of: int = 1) -> Result:
    show = show_of(workspace)
    author = ModelAuthor(client, workspace.prompts, prompt_of(workspace), Limits())
    return await write(
        author,
        Judge(GOOD.brief, show, workspace.gate.examine),
        Recording(None, RUN),
        attempts=attempts,
        best_of=best_of,
    )


async def test_a_good_answer_is_accepted_at_once(workspace: Workspace) -> None:
    client = ScriptedClient([ANSWER])
    result = await run(workspace, client)
    assert result.accepted == GOOD.synopsis
    assert len(result.attempts) == len(client.calls) == 1


async def test_a_repair_gets_the_findings_and_nothing_older(workspace: Workspace) -> None:
    client = ScriptedClient([SHORT, NO_QUESTION, ANSWER])
    result = await run(workspace, client)
    assert result.accepted == GOOD.synopsis
    assert [attempt.passed for attempt in result.attempts] == [False, False, True]
    base, first, second = (call.messages for call in client.calls)
    assert first[: len(base)] == second[: len(base)] == base
    assert len(first) == len(second) == len(base) + 2
    assert "length: Der Text hat" in first[-1].content
    assert "hook: Die Form portrait endet offen" in second[-1].content
    assert "length" not in second[-1].content


async def test_a_broken_answer_is_an_attempt_that_counts_its_tokens(workspace: Workspace) -> None:
    broken = Answer(ANSWER[:500], finish="length", usage=Usage(1000, 50, 200))
    client = ScriptedClient([broken, Answer(ANSWER, usage=Usage(1100, 700))])
    result = await run(workspace, client)
    assert result.attempts[0].problem == "structure: the JSON is cut off"
    assert result.usage == Usage(2100, 750, 200)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer("Das kann ich nicht schreiben.", finish="refusal"), "the model refused: Das kann ich nicht schreiben."),
        (Answer("", finish="filter"), "content filter"),
        (Answer(""), "the answer is empty"),
        (Answer("Once upon a time."), "holds no JSON object"),
        (Answer("Es war einmal. " * 20_000), "holds no JSON object"),
    ],
)
async def test_no_answer_ends_in_a_refusal_with_its_reason(workspace: Workspace, answer: Answer, problem: str) -> None:
    client = ScriptedClient([answer] * 3)
    result = await run(workspace, client)
    assert result.accepted is None
    assert result.best is not None
    assert problem in result.best.problem
    assert len(result.attempts) == 3
    if answer.finish in {"refusal", "filter"} or not answer.text:
        assert client.calls[1].messages == client.calls[0].messages
    assert sum(len(message.content) for message in client.calls[2].messages) < 60_000


async def test_an_english_answer_is_refused_as_such(workspace: Workspace) -> None:
    data = json.loads(ANSWER)
    for paragraph in data["paragraphs"]:
        paragraph["text"] = "She walks along the river every morning, and nobody knows what the old dog has seen there."
    result = await run(workspace, ScriptedClient([json.dumps(data)]), attempts=1)
    assert result.best is not None
    assert any(problem.startswith("language:") for problem in result.best.problems)


async def test_an_answer_that_copies_its_example_is_refused(workspace: Workspace) -> None:
    shown = prompt_of(workspace).example_ids[-1]
    example = next(example for example in workspace.pool.examples if example.id == shown)
    result = await run(workspace, ScriptedClient([example.synopsis.as_json()]), attempts=1)
    assert result.best is not None
    assert any(f"copied from {shown}" in problem for problem in result.best.problems)


async def test_the_best_of_several_drafts_is_continued(workspace: Workspace) -> None:
    client = ScriptedClient(["kein JSON", NO_QUESTION, SHORT, ANSWER])
    result = await run(workspace, client, attempts=2, best_of=3)
    assert result.accepted == GOOD.synopsis
    assert [attempt.number for attempt in result.attempts] == [1, 1, 1, 2]
    assert client.calls[3].messages[-2].content == NO_QUESTION


async def test_the_best_refused_attempt_is_returned(workspace: Workspace) -> None:
    result = await run(workspace, ScriptedClient([NO_QUESTION, "kein JSON", SHORT]))
    assert result.accepted is None
    assert result.best is result.attempts[0]


async def test_a_network_error_never_reaches_a_prompt(workspace: Workspace) -> None:
    client = ScriptedClient([NO_QUESTION, ConnectionFailedError("server: gone")])
    result = await run(workspace, client)
    assert isinstance(result.error, ConnectionFailedError)
    assert result.best is result.attempts[0]
    assert not any("gone" in message.content for call in client.calls for message in call.messages)


async def test_an_error_before_any_answer_is_raised(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="server: gone"):
        await run(workspace, ScriptedClient([ConnectionFailedError("server: gone")]))


async def test_a_truncated_answer_that_cannot_be_longer_is_repaired(workspace: Workspace) -> None:
    client = ScriptedClient(
        [Answer(ANSWER[:600], "length"), RequestRefusedError("at most 4096 tokens", is_transient=True), ANSWER]
    )
    result = await run(workspace, client)
    assert result.accepted == GOOD.synopsis
    assert [attempt.number for attempt in result.attempts] == [1, 2]
    assert client.calls[1].limits.max_tokens == 2 * client.calls[0].limits.max_tokens
    assert "cut off" in client.calls[2].messages[-1].content


async def test_an_answer_is_recorded_before_it_is_judged(workspace: Workspace) -> None:
    seen: list[str] = []

    class Taking(Recording):
        def answered(self, attempt: Attempt) -> None:
            seen.append(f"answered {attempt.number} {attempt.answer.text[:5]} {attempt.problem}")

        def judged(self, recorded: Attempt, attempt: Attempt) -> None:
            seen.append(f"judged {recorded.number} {attempt.number} {attempt.passed}")

        def failed(self, error: ModelError) -> None:
            seen.append(f"failed {error}")

    show = show_of(workspace)
    author = ModelAuthor(ScriptedClient(["Gern!", ANSWER]), workspace.prompts, prompt_of(workspace), Limits())
    await write(author, Judge(GOOD.brief, show, workspace.gate.examine), Taking(None, RUN))
    assert seen == [
        "answered 1 Gern! not judged yet",
        "judged 1 1 False",
        f"answered 2 {ANSWER[:5]} not judged yet",
        "judged 2 2 True",
    ]


async def test_drafts_that_failed_are_logged(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    show = show_of(workspace)
    client = ScriptedClient([ConnectionFailedError("weg"), ANSWER, ConnectionFailedError("weg")])
    author = ModelAuthor(client, workspace.prompts, prompt_of(workspace), Limits())
    await write(author, Judge(GOOD.brief, show, workspace.gate.examine), Recording(None, RUN), best_of=3)
    assert [line for line in caplog.messages if "failed" in line] == ["attempt 1 of 3: a draft failed: weg"]


async def test_earlier_work_is_continued_and_its_attempts_count(workspace: Workspace) -> None:
    previous = Attempt(2, Answer("Der letzte Text."), problem="variety_title: Row 7 has the title, too.")
    client = ScriptedClient([NO_QUESTION])
    show = show_of(workspace)
    author = ModelAuthor(client, workspace.prompts, prompt_of(workspace), Limits())
    result = await write(
        author, Judge(GOOD.brief, show, workspace.gate.examine), Recording(None, RUN), attempts=3, previous=previous
    )
    assert [(attempt.number, attempt.passed) for attempt in result.attempts] == [(3, False)]
    asked = client.calls[0].messages
    assert asked[-2].content == "Der letzte Text."
    assert "Row 7 has the title" in asked[-1].content


class KilledGate:
    def examine(self, *_: object, **__: object) -> tuple[Finding, ...]:
        raise EngineError("a process that checks texts was ended from outside")


async def test_an_answer_that_no_gate_could_check_is_saved_with_its_tokens(workspace: Workspace) -> None:
    show = show_of(workspace)
    author = ModelAuthor(ScriptedClient([ANSWER]), workspace.prompts, prompt_of(workspace), Limits())
    result = await write(author, Judge(GOOD.brief, show, KilledGate().examine), Recording(None, RUN))
    assert [attempt.answer.text for attempt in result.attempts] == [ANSWER]
    assert result.usage == Usage(100, 50)
    assert result.accepted is None
    assert isinstance(result.error, EngineError)
