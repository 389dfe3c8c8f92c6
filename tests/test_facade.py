import asyncio
import gc
import logging
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from synopsis_writer.brief import make_brief
from synopsis_writer.document import read_document
from synopsis_writer.errors import (
    BriefError,
    BudgetSpentError,
    ConnectionFailedError,
    GateRefusedError,
    InputError,
    ReplayError,
    SettingsError,
)
from synopsis_writer.examples import load_example
from synopsis_writer.log import RunLog
from synopsis_writer.models.limits import Budget
from synopsis_writer.result import FileFormat
from synopsis_writer.settings import load_settings
from synopsis_writer.testing import ScriptedClient
from synopsis_writer.writer import BriefFields, Writer
from tests.conftest import Warned
from tests.support.loopback import Fault, LoopbackServer, Reply
from tests.support.terminal import ANSWER, GOOD

FIELDS: BriefFields = {"show": "rote rosen", "theme": GOOD.brief.theme, "form": "portrait"}
BAD = ANSWER.replace("?", ".")
PLAN = (
    '{"title": "Der Hund", "logline": "Ein Hund sieht etwas am Fluss.", "characters": [{"name": "Gesa Hold",'
    ' "role": "Ärztin"}], "beats": ["Gesa sieht den Hund.", "Er folgt ihr.", "Sie nimmt ihn mit."]}'
)


async def test_a_text_is_written_checked_repaired_and_saved(tmp_path: Path) -> None:
    client = ScriptedClient([BAD, ANSWER])
    async with Writer(client=client, log=RunLog(tmp_path / "runs.sqlite3")) as writer:
        result = await writer.write(**FIELDS)
        path = writer.save(result, tmp_path / "out")
        run = writer.log.find("last")
    assert (result.outcome, result.text) == ("accepted", GOOD.synopsis.text)
    assert [attempt.checks for attempt in result.attempts] == [("hook",), ()]
    assert result.brief.show == result.show.name == "Rote Rosen"
    assert path == tmp_path / "out" / "rote-rosen" / "der-weisse-hund.md"
    assert load_example(path).synopsis == GOOD.synopsis
    assert (run.id, run.outcome, run.path, run.model) == (result.run, "accepted", str(path), "scripted")
    assert read_document(path).meta["run"] == result.run
    assert not client.closed


def test_the_sync_methods_share_a_loop_and_connections() -> None:
    with (
        LoopbackServer([Reply(ANSWER)] * 3, key="sk-x") as server,
        Writer(model="m", base_url=server.base_url, key="sk-x", log=False) as writer,
    ):
        texts = [writer.write_sync(make_brief(**FIELDS)).text for _ in range(2)]
        assert texts == [GOOD.synopsis.text] * 2
        assert writer.check_sync(texts[0], form="portrait").passed
        writer.close()
        assert writer.write_sync(**FIELDS).text == GOOD.synopsis.text


def test_one_writer_works_in_two_event_loops() -> None:
    with LoopbackServer([Reply(ANSWER)] * 2) as server:
        writer = Writer(model="m", base_url=server.base_url, log=False)
        results = [asyncio.run(writer.write(**FIELDS)) for _ in range(2)]
        writer.close()
    assert [result.outcome for result in results] == ["accepted"] * 2
    assert [result.run for result in results] == ["", ""]


async def test_concurrent_calls_share_what_is_open() -> None:
    with LoopbackServer([Reply(ANSWER)] * 6) as server:
        async with Writer(model="m", base_url=server.base_url, log=False, calls=2) as writer:
            results = await asyncio.gather(*(writer.write(**FIELDS) for _ in range(6)))
    assert [result.outcome for result in results] == ["accepted"] * 6


async def test_the_budget_is_one_for_all_calls() -> None:
    with LoopbackServer([Reply(ANSWER)] * 4) as server:
        async with Writer(model="m", base_url=server.base_url, log=False, max_tokens_total=15_000) as writer:
            await writer.write(**FIELDS)
            assert writer.budget.spent.tokens > 0
            with pytest.raises(BudgetSpentError):
                await asyncio.gather(*(writer.write(**FIELDS) for _ in range(4)))


async def test_a_ledger_may_be_shared() -> None:
    ledger = Budget(tokens=10)
    settings = load_settings({"model": "m", "base_url": "http://127.0.0.1:9/v1"}, {})
    writer = Writer(settings, budget=ledger, log=False)
    with pytest.raises(BudgetSpentError):
        await writer.write(**FIELDS)
    writer.close()


async def test_the_growing_text_is_given() -> None:
    seen: list[str] = []
    with LoopbackServer([Reply(ANSWER)]) as server:
        writer = Writer(model="m", base_url=server.base_url, log=False)
        result = await writer.write(**FIELDS, on_text=seen.append)
        writer.close()
    assert result.accepted
    assert seen


async def test_a_refusal_is_a_result_and_a_failure_an_error() -> None:
    writer = Writer(client=ScriptedClient([BAD, ConnectionFailedError("weg")]), attempts=1, log=False)
    result = await writer.write(**FIELDS)
    assert (result.outcome, result.accepted) == ("refused", None)
    with pytest.raises(GateRefusedError, match="nothing to save: hook: "):
        writer.save(result)
    with pytest.raises(ConnectionFailedError, match="weg") as caught:
        await writer.write(**FIELDS)
    assert caught.value.run == ""  # there is no log
    writer.close()


async def test_a_failure_names_its_run_in_the_log(tmp_path: Path) -> None:
    client = ScriptedClient([ConnectionFailedError("weg")])
    async with Writer(load_settings({"log": tmp_path / "runs.sqlite3"}, {}), client=client) as writer:
        with pytest.raises(ConnectionFailedError, match="weg") as caught:
            await writer.write(**FIELDS)
        assert [run.id for run in writer.log.runs()] == [caught.value.run]


async def test_a_plan_is_followed() -> None:
    client = ScriptedClient([PLAN, ANSWER])
    async with Writer(client=client, log=False) as writer:
        outline = await writer.outline(**FIELDS)
        result = await writer.write(**FIELDS, outline=outline)
    assert outline.beats[0] == "Gesa sieht den Hund."
    assert result.accepted
    assert "Gesa sieht den Hund." in client.calls[1].messages[-1].content


async def test_a_run_is_replayed_without_a_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = RunLog(tmp_path / "runs.sqlite3")
    async with Writer(client=ScriptedClient([BAD, ANSWER]), log=log) as writer:
        first = await writer.write(**FIELDS)
    async with Writer(log=log, model="of-no-server", environment={}) as writer:
        again = await writer.replay()
        with pytest.raises(ReplayError, match="no answer to a write"):
            await writer.replay(await _planned(log))
    assert again == first
    assert "same prompt, same answers, same verdicts" in caplog.text
    log.close()


async def _planned(log: RunLog) -> str:
    async with Writer(client=ScriptedClient([PLAN]), log=log) as writer:
        await writer.outline(**FIELDS)
    return log.find("last").id if log.find("last").command == "outline" else log.runs()[1].id


async def test_any_text_is_checked_against_the_brief_it_is_given() -> None:
    async with Writer(log=False) as writer:
        good = await writer.check(GOOD.synopsis.text, show="rote rosen", theme=GOOD.brief.theme, form="portrait")
        guessed = await writer.check("Gesa zählt die Schafe. Eines fehlt.")
        with pytest.raises(BriefError, match="no form 'sonnet': the forms of the house 'house' are episode"):
            await writer.check("Text", form="sonnet")
    assert (good.passed, good.guessed, good.form) == (True, False, "portrait")
    assert (guessed.passed, guessed.guessed) == (False, True)
    assert guessed.source == "text"


def test_the_pool_is_checked(tmp_path: Path) -> None:
    count, faults = Writer().check_pool()
    assert (count > 20, faults) == (True, [])
    (tmp_path / "am-deich").mkdir()
    (tmp_path / "am-deich" / "eins.md").write_text("Kein Kopf.", encoding="utf-8")
    assert Writer(examples=tmp_path).check_pool()[0] == 0


def test_the_prompt_shows_what_is_selected(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    writer, brief = Writer(), make_brief(show="Am Deich", theme="Ein Hund")
    ids = [chosen.example.id for chosen in writer.select(brief)]
    assert list(writer.prompt(brief).example_ids) == ids
    assert ids[0] not in writer.prompt(brief, exclude=ids[:1]).example_ids
    assert caplog.text.count("unknown show 'Am Deich'") == 1


def test_a_wrong_setting_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match="colour"):
        Writer(colour="red")
    with pytest.raises(SettingsError, match="leave one of both out"):
        Writer(load_settings({}), model="m")
    with Writer(client=ScriptedClient([]), log=False) as writer, pytest.raises(BriefError, match="leave one out"):
        writer.write_sync(make_brief(**FIELDS), show="AWZ")


def test_a_log_that_cannot_be_opened_costs_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("x", encoding="utf-8")
    with Writer(client=ScriptedClient([ANSWER]), log=True) as writer:
        writer.settings = writer.settings.model_copy(update={"log": tmp_path / "taken" / "runs.sqlite3"})
        assert writer.write_sync(**FIELDS).accepted
    assert "this run is not logged" in caplog.text


async def test_a_server_that_fails_for_good_is_reported() -> None:
    with LoopbackServer([Fault(401)]) as server:
        writer = Writer(model="m", base_url=server.base_url, log=False)
        with pytest.raises(Exception, match="set OPENAI_API_KEY"):
            await writer.write(**FIELDS)
        writer.close()


def in_thread(work: Callable[[], object]) -> None:
    """Run `work` in a thread of its own, and raise what it raised."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.mark.parametrize("where", ["here", "in another thread", "in an event loop"])
def test_a_writer_that_is_not_closed_is_collected_in_silence(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)

    async def drop() -> None:
        held.clear()
        gc.collect()

    with LoopbackServer([Reply(ANSWER)]) as server:
        writer = Writer(model="m", base_url=server.base_url, cache=tmp_path, log=RunLog(tmp_path / "runs"))
        assert writer.write_sync(**FIELDS).accepted
        reference, held = weakref.ref(writer), [writer]
        del writer
        gc.disable()
        try:
            if where == "here":
                held.clear()
            elif where == "in another thread":
                in_thread(held.clear)
            else:
                asyncio.run(drop())
            assert reference() is None  # without the cycle collector, which runs in any thread
        finally:
            gc.enable()
        gc.collect()
    assert raised == []


def test_a_writer_works_in_several_threads(tmp_path: Path, warned: Warned) -> None:
    log = RunLog(tmp_path / "runs.sqlite3")
    with (
        LoopbackServer([Reply(ANSWER)] * 9) as server,
        Writer(model="m", base_url=server.base_url, cache=tmp_path, log=log, responses="read") as writer,
    ):
        assert writer.write_sync(**FIELDS).accepted
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(writer.write_sync, **FIELDS, best_of=number) for number in (1, 1, 2, 2)]
            results = [call.result() for call in calls]
        in_thread(writer.close)
        assert writer.write_sync(**FIELDS).attempts[0].answer.is_cached
    assert [result.outcome for result in results] == ["accepted"] * 4
    assert results[0].attempts[0].answer.is_cached
    assert [run.outcome for run in log.runs()] == ["accepted"] * 6
    log.close()
    assert warned.take() == []


async def test_a_sync_method_in_an_event_loop_names_the_one_to_await() -> None:
    with Writer(log=False) as writer, pytest.raises(RuntimeError, match=r"use 'await writer\.check\("):
        writer.check_sync("Ein Text.")


async def test_blocks_of_one_writer_may_be_nested() -> None:
    with LoopbackServer([Reply(ANSWER)] * 2) as server:
        writer = Writer(model="m", base_url=server.base_url, log=False)
        async with writer:
            async with writer:
                assert (await writer.write(**FIELDS)).accepted
            assert (await writer.write(**FIELDS)).accepted


@pytest.mark.parametrize("best_of", [0, -1, 17])
def test_drafts_are_1_to_16(best_of: int, tmp_path: Path) -> None:
    settings = load_settings({"log": tmp_path / "runs.sqlite3"}, {})
    message = f"best_of is {best_of}: give a number from 1 to 16"
    with Writer(settings, client=ScriptedClient([])) as writer, pytest.raises(InputError, match=message):
        writer.write_sync(**FIELDS, best_of=best_of)
    assert not list(tmp_path.iterdir())


async def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    async with Writer(client=ScriptedClient([ANSWER]), log=False) as writer:
        result = await writer.write(**FIELDS)
    for save in (result.save, result.save_refused):
        with pytest.raises(InputError, match="no format 'docx': the formats are md, json, txt"):
            save(tmp_path / "out", cast(FileFormat, "docx"))
    assert not (tmp_path / "out").exists()


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with Writer(log=False) as writer, pytest.raises(InputError, match=r"text: is not UTF-8 \(byte 1\)"):
        writer.check_sync("\udcff abc")
