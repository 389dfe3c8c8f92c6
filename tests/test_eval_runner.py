import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from synopsis_writer.errors import BudgetSpentError, RequestRefusedError
from synopsis_writer.evals.metrics import ALL_METRICS
from synopsis_writer.evals.record import Row, read_prompts, read_rows
from synopsis_writer.evals.run import EvalRun, plan, same_story
from synopsis_writer.evals.suite import load_suite
from synopsis_writer.log import RunLog
from synopsis_writer.settings import folder, load_settings
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.usage import Usage
from synopsis_writer.workspace import open_workspace
from synopsis_writer.writer import Writer
from tests.support.judging import JudgeServer, reply
from tests.support.loopback import Body, Fault, Hangup, LoopbackServer, Reply, Step

EVALS = Path(__file__).resolve().parent.parent / "evals"
SUITE = load_suite(EVALS, ALL_METRICS)
CASES = {case.id: case for case in SUITE.cases}
TWO = ("bis-neun", "elf-meter")
REFUSED = "einer-mehr"  # the one reference that the limits learnt for its house refuse


def answer(name: str) -> Reply:
    return Reply(CASES[name].reference.as_json())


def go(
    path: Path,
    steps: Iterable[Step],
    *,
    cases: Sequence[str] = TWO,
    models: Sequence[str] = ("m",),
    repeats: int = 1,
    done: Callable[[Row], None] = lambda _: None,
    log: RunLog | None = None,
    **flags: object,
) -> LoopbackServer:
    """Write a run into `path` against a server that plays `steps` and no more."""
    with LoopbackServer(steps, repeat_last=False) as server:
        settings = load_settings({"base_url": server.base_url, "max_retries": 0, "attempts": 2, **flags}, {})
        writer = Writer(settings, log=log or RunLog(None), environment={})
        run = EvalRun(writer, SUITE, path, models=models, cases=cases, repeats=repeats, concurrency=1)
        with run:
            asyncio.run(run.write(done))
    return server


def rows(path: Path) -> list[Row]:
    return list(read_rows(path).values())


def test_each_row_of_the_matrix_is_made_once(tmp_path: Path) -> None:
    made: list[Row] = []
    log = RunLog(None)
    steps = [answer(case) for case in TWO] * 4
    go(tmp_path, steps, models=("m", "n"), repeats=2, done=made.append, log=log)
    assert [tuple(row.id) for row in rows(tmp_path)] == [
        (case, model, "prompts", repeat) for model in ("m", "n") for repeat in (0, 1) for case in TWO
    ]
    assert [str(row) for row in rows(tmp_path)] == [str(row) for row in made]
    assert {row.outcome for row in made} == {"accepted"}
    assert made[0].synopsis == CASES[TWO[0]].reference
    assert (made[0].usage.prompt_tokens, made[0].answered) == (100, "m-2026")
    assert {run.id for run in log.runs()} == {row.run for row in made}
    assert {run.command for run in log.runs()} == {"eval"}


def test_the_same_command_again_makes_what_is_missing_and_what_failed(tmp_path: Path) -> None:
    bad = Reply("Gern!")
    go(tmp_path, [Hangup(), bad, bad])
    assert [(row.outcome, len(row.attempts)) for row in rows(tmp_path)] == [("failed", 0), ("refused", 2)]
    assert rows(tmp_path)[1].attempts[0].checks == ("structure",)
    go(tmp_path, [answer(TWO[0])])
    assert {row.id.case: row.outcome for row in rows(tmp_path)} == {"bis-neun": "accepted", "elf-meter": "refused"}
    go(tmp_path, [])


def test_a_refused_request_ends_the_run_and_keeps_what_was_made(tmp_path: Path) -> None:
    with pytest.raises(RequestRefusedError):
        go(tmp_path, [answer(TWO[0]), Fault(401)])
    assert [row.outcome for row in rows(tmp_path)] == ["accepted"]
    go(tmp_path, [answer(TWO[1])])
    assert [row.outcome for row in rows(tmp_path)] == ["accepted", "accepted"]


def test_a_budget_covers_all_models_of_a_run(tmp_path: Path) -> None:
    long = Reply(CASES[TWO[0]].reference.as_json(), prompt_tokens=15_000)
    with pytest.raises(BudgetSpentError):
        go(tmp_path, [long], cases=TWO[:1], models=("m", "n"), max_tokens_total=20_000)
    assert [row.id.model for row in rows(tmp_path)] == ["m"]


def test_what_failed_calls_took_counts_against_the_budget_of_every_later_session(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 15_000, "completion_tokens": 50, "total_tokens": 15_050}
    no_choice = Body({"object": "chat.completion", "choices": [], "usage": usage})
    with pytest.raises(RequestRefusedError):
        go(tmp_path, [no_choice, Fault(401)])
    assert [(row.outcome, row.usage) for row in rows(tmp_path)] == [("failed", Usage(15_000, 50))]
    with pytest.raises(BudgetSpentError):
        go(tmp_path, [], max_tokens_total=16_000)
    with pytest.raises(RequestRefusedError):
        go(tmp_path, [answer(TWO[0]), Fault(401)])
    assert [row.outcome for row in rows(tmp_path)] == ["accepted"]
    with pytest.raises(BudgetSpentError):
        go(tmp_path, [], max_tokens_total=16_000)


def test_a_row_that_failed_before_any_answer_names_its_run_in_the_log(tmp_path: Path) -> None:
    log = RunLog(None)
    go(tmp_path, [Hangup(), answer(TWO[1])], log=log)
    made = {row.run: row.outcome for row in rows(tmp_path)}
    assert {run.id: run.outcome for run in log.runs()} == made
    assert sorted(made.values()) == ["accepted", "failed"]


def test_repeats_never_come_out_of_the_cache(tmp_path: Path) -> None:
    server = go(
        tmp_path / "run", [answer(TWO[0])] * 3, cases=TWO[:1], repeats=3,
        responses="read", cache=tmp_path / "cache",
    )  # fmt: skip
    assert len(server.chats) == 3
    bodies = [chat.body["messages"] for chat in server.chats]
    assert bodies[0] == bodies[1] == bodies[2]


def test_no_prompt_contains_its_reference_or_an_example_of_its_story(tmp_path: Path) -> None:
    log = RunLog(None)
    steps = [answer(case) for case in CASES for _ in range(2 if case == REFUSED else 1)]
    go(tmp_path, steps, cases=tuple(CASES), log=log)
    workspace = open_workspace(load_settings({}, {}))
    runs = {run.brief.theme: run for run in log.runs()}
    assert len(runs) == len(CASES)
    for case in CASES.values():
        run = runs[case.brief.theme]
        asked = " ".join(message.content for message in log.attempts(run.id)[0].messages)
        for paragraph in case.reference.paragraphs:
            assert paragraph.text[:60] not in asked
        assert run.examples
        assert not set(run.examples) & same_story(case, workspace.of_house(case.house))
        assert set(run.examples) <= {example.id for example in workspace.of_house(case.house).pool.examples}


def test_a_case_that_no_demo_draft_can_answer_fails_alone(tmp_path: Path) -> None:
    writer = Writer(load_settings({"model": "packaged"}, {}), log=RunLog(None), environment={})
    with EvalRun(writer, SUITE, tmp_path, cases=["linie-23", "gaense"]) as run:
        asyncio.run(run.write())
    assert {row.outcome for row in rows(tmp_path)} == {"failed"}
    assert all("a demo draft's length is its own" in row.reason for row in rows(tmp_path))


def test_the_five_model_stories_are_in_the_pool_and_left_out_of_their_prompts() -> None:
    workspace = open_workspace(load_settings({}, {}))
    told = {case.id: same_story(case, workspace) for case in CASES.values()}
    assert {case: sorted(ids) for case, ids in told.items() if ids} == {
        "das-fehlende-nicken": ["in-aller-freundschaft/acht-takte-zu-viel"],
        "das-rechte-pedal": ["in-aller-freundschaft/vierhaendig"],
        "der-rote-stift": ["alles-was-zaehlt/die-naht-der-rivalin"],
        "die-botin": ["in-aller-freundschaft/das-stichwort"],
        "zwei-unterschriften": ["die-jungen-aerzte/nur-auf-besuch"],
    }


def test_a_reference_that_was_put_into_the_pool_stays_out_of_its_own_prompt(tmp_path: Path) -> None:
    show = tmp_path / "in-aller-freundschaft"
    show.mkdir()
    text = CASES["bis-neun"].path.read_text(encoding="utf-8").replace("theme: ", "theme: Anders, ", 1)
    (show / "anders.md").write_text(text.replace("title: ", "title: Anders ", 1), encoding="utf-8")
    workspace = open_workspace(load_settings({"examples": tmp_path}, {}))
    assert same_story(CASES["bis-neun"], workspace) == {"in-aller-freundschaft/anders"}


def test_a_change_of_a_template_makes_another_run(tmp_path: Path) -> None:
    own = tmp_path / "prompts"
    own.mkdir()
    (own / "a.md").write_text("eins", encoding="utf-8")
    first = plan(Path("r"), [CASES[case] for case in TWO], ["m"], {"prompts": own}, 1, 3)
    (own / "a.md").write_text("zwei", encoding="utf-8")
    second = plan(Path("r"), [CASES[case] for case in TWO], ["m"], {"prompts": own}, 1, 3)
    assert first.prompts != second.prompts
    assert first.cases == second.cases
    assert first.planned == 2


async def test_a_run_is_a_call_with_a_writer_and_a_suite(tmp_path: Path) -> None:
    texts = [CASES[case].reference.as_json() for case in TWO]
    with JudgeServer([reply("equal")]) as server:
        writer = Writer(client=ScriptedClient(texts, "scripted"), base_url=server.base_url, log=False, environment={})
        results = await EvalRun(writer, SUITE, tmp_path / "run", cases=TWO, judges=["judge-model"], concurrency=1).run()
    (group,) = results.groups
    assert (group.model, group.accepted, results.missing, results.failed) == ("scripted", 2, 0, 0)
    assert {each.scores["rouge_l"] for each in results.scored} == {1.0}
    assert {each.scores["judge_preference"] for each in results.scored} == {0.5}
    assert results.judgements.name == "judge-model"
    again = await EvalRun(writer, SUITE, tmp_path / "run", cases=TWO, concurrency=1).run()
    assert again.groups == results.groups


@pytest.mark.parametrize("review", [False, True])
async def test_the_templates_of_judge_and_review_are_saved_with_the_writers(tmp_path: Path, review: bool) -> None:
    own = tmp_path / "own"
    own.mkdir()
    text = (folder("prompts") / "judge.md").read_text(encoding="utf-8").replace("version: 2", "version: haus")
    (own / "judge.md").write_text(text, encoding="utf-8")
    texts = [CASES[case].reference.as_json() for case in TWO]
    with JudgeServer([reply("equal")]) as server:
        writer = Writer(
            client=ScriptedClient(texts, "scripted"), base_url=server.base_url, log=False, environment={},
            prompts=own, review=review,
        )  # fmt: skip
        for judges in (["judge-model"], []):  # who is not asked again is not forgotten
            with EvalRun(writer, SUITE, tmp_path / "run", cases=TWO, judges=judges):
                saved = read_prompts(tmp_path / "run")["own"]
    assert "version: haus" in saved["judge.md"]
    names = {"synopsis.md", "judge.md", "judge_pair.md", *["review.md"] * review}
    assert names <= saved.keys()
    assert ("review.md" in saved, "revise.md" in saved) == (review, False)
